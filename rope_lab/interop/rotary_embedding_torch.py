"""The interface of the package `rotary-embedding-torch` (0.8.9 to 0.9.1).

    from rope_lab.interop.rotary_embedding_torch import RotaryEmbedding, apply_rotary_emb

It differs from the original on purpose in these points:

- Positions are exact whatever the dtype of the tensor. In the original, a bfloat16 tensor of 1,024 tokens has 513
  distinct positions.
- Nothing is cached between calls, so no call depends on earlier ones. In the original, axial offsets are ignored after
  a call without them, and a bfloat16 call makes later float32 calls imprecise.
- xPos with cached keys scales queries and keys about the same centre. In the original each has its own, and the scores
  of a last query with 2,048 random keys are off by 40 to 50 %. A scale beyond the range of the dtype raises an error.
- Frequencies stay float32 under `.bfloat16()`, a float64 tensor is rotated in float64, and dim=2 works.

`reproduce=True` brings back the two differences that a trained model may have adapted to: positions in the dtype of the
tensor, and the two centres of xPos. It does not bring back their float32 angles (up to about 1e-4 at 2,048 tokens of
standard deviation 1), nor what their cache does to later calls.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from rope_lab.encodings import angles, frequencies, keep_float32, rotate, table_device


def broadcat(tensors: Sequence[Tensor], dim: int = -1) -> Tensor:
    """Broadcast the tensors against each other, then concatenate them along `dim`."""
    return torch.cat(torch.broadcast_tensors(*tensors), dim=dim)


def apply_rotary_emb(
    freqs: Tensor,
    t: Tensor,
    start_index: int = 0,
    scale: float | Tensor = 1.0,
    seq_dim: int = -2,
    freqs_seq_dim: int | None = None,
) -> Tensor:
    """Rotate the interleaved pairs of `t` from `start_index` on by the angles `freqs`.

    Args:
        freqs: angles in radians, each given twice, (..., R). Of a table with a token axis, the last rows are used.
        t: (..., D), broadcasting with `freqs`.
        start_index: the first coordinate that turns.
        scale: multiplies the turned coordinates.
        seq_dim: token axis of `t`.
        freqs_seq_dim: token axis of `freqs`; axis 0 where `freqs` has two axes or `t` three.

    Returns:
        Shape and dtype of `t` (broadcast with `freqs`); the product is taken in at least float32.

    Raises:
        ValueError: if `freqs` turn more coordinates than `t` has, an odd number of them, or from below 0 on.
    """
    if start_index < 0:
        raise ValueError(f"start_index must be at least 0, got {start_index}")
    if freqs.shape[-1] % 2:
        raise ValueError(f"freqs must turn an even number of coordinates, got {freqs.shape[-1]}")
    if freqs_seq_dim is None and (freqs.ndim == 2 or t.ndim == 3):
        freqs_seq_dim = 0
    if freqs_seq_dim is not None:
        rows = min(t.shape[seq_dim], freqs.shape[freqs_seq_dim])
        freqs = freqs.narrow(freqs_seq_dim, freqs.shape[freqs_seq_dim] - rows, rows)
    end = start_index + freqs.shape[-1]
    if end > t.shape[-1]:
        raise ValueError(
            f"freqs turn {freqs.shape[-1]} coordinates from {start_index}, but t has {t.shape[-1]}"
        )
    compute = torch.promote_types(torch.float32, t.dtype)
    angle = freqs.to(torch.promote_types(freqs.dtype, compute))
    x = t[..., start_index:end].to(compute)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = (x * angle.cos() + torch.stack((-b, a), dim=-1).flatten(-2) * angle.sin()) * scale
    left, right = (part.expand(*turned.shape[:-1], -1) for part in (t[..., :start_index], t[..., end:]))
    return torch.cat((left, turned.to(t.dtype), right), dim=-1)


def apply_learned_rotations(
    rotations: Tensor, t: Tensor, start_index: int = 0, freq_ranges: Tensor | None = None
) -> Tensor:
    """Rotate by learned angles, one per pair, (..., R/2); `freq_ranges` (F,) multiplies each into F angles."""
    if freq_ranges is not None:
        rotations = (rotations[..., None] * freq_ranges).flatten(-2)
    return apply_rotary_emb(rotations.repeat_interleave(2, dim=-1), t, start_index=start_index)


class RotaryEmbedding(nn.Module):
    """`rotary_embedding_torch.RotaryEmbedding`; its checkpoints load here strictly, and these there.

    Args:
        dim: rotated coordinates.
        custom_freqs: θ_i, (dim/2,), in place of those that `freqs_for` names.
        freqs_for: "lang" θ^(−2i/dim), "pixel" π·linspace(1, max_freq/2, dim/2), "constant" num_freqs ones.
        theta: base of "lang", raised by theta_rescale_factor^(dim/(dim−2)).
        learned_freq: train the frequencies.
        use_xpos, xpos_scale_base: scale pairs by distance, as xPos does.
        interpolate_factor: divides the positions, at least 1.
        seq_before_head_dim: tensors are (..., N, H, D) instead of (..., H, N, D).
        cache_if_possible, cache_max_seq_len: accepted but without effect, because nothing is cached.
        reproduce: positions in the dtype of the tensor and two centres of xPos, as in the original; see above.

    Raises:
        ValueError: naming the argument that is unknown or out of range.
    """

    def __init__(
        self,
        dim: int,
        custom_freqs: Tensor | None = None,
        freqs_for: Literal["lang", "pixel", "constant"] = "lang",
        theta: float = 10000,
        max_freq: float = 10,
        num_freqs: int = 1,
        learned_freq: bool = False,
        use_xpos: bool = False,
        xpos_scale_base: int = 512,
        interpolate_factor: float = 1.0,
        theta_rescale_factor: float = 1.0,
        seq_before_head_dim: bool = False,
        cache_if_possible: bool = True,
        cache_max_seq_len: int = 8192,
        *,
        reproduce: bool = False,
    ) -> None:
        super().__init__()
        try:
            dim = operator.index(dim)
        except TypeError:
            raise TypeError(f"dim must be an integer, got {dim!r}") from None
        if not 1 <= interpolate_factor < math.inf:
            raise ValueError(f"interpolate_factor must be finite and at least 1, got {interpolate_factor}")
        for name, value in (
            ("theta_rescale_factor", theta_rescale_factor),
            ("xpos_scale_base", xpos_scale_base),
        ):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if theta_rescale_factor != 1:
            if dim < 4:
                raise ValueError(f"dim must be at least 4 where theta_rescale_factor is not 1, got {dim}")
            theta *= theta_rescale_factor ** (dim / (dim - 2))
        self._exact: Tensor | None = None  # float64, as long as the frequencies follow a formula
        if custom_freqs is not None:
            freqs = custom_freqs
        elif freqs_for == "lang":
            freqs = self._exact = frequencies(dim, theta, device="cpu")
        elif freqs_for == "pixel":
            if dim <= 0 or dim % 2:
                raise ValueError(f"dim must be a positive even integer, got {dim}")
            freqs = torch.linspace(1, max_freq / 2, dim // 2) * math.pi
        elif freqs_for == "constant":
            freqs = torch.ones(num_freqs)
        else:
            raise ValueError(f"freqs_for must be 'lang', 'pixel' or 'constant', got {freqs_for!r}")
        self.freqs = nn.Parameter(freqs.float(), requires_grad=learned_freq)
        self.dim, self.freqs_for, self.learned_freq = dim, freqs_for, learned_freq
        self.use_xpos, self.scale_base, self.interpolate_factor = (
            use_xpos,
            xpos_scale_base,
            interpolate_factor,
        )
        self.seq_before_head_dim, self.default_seq_dim = (
            seq_before_head_dim,
            -3 if seq_before_head_dim else -2,
        )
        self.reproduce = reproduce

    @property
    def device(self) -> torch.device:
        return self.freqs.device

    apply_rotary_emb = staticmethod(apply_rotary_emb)

    def get_seq_pos(
        self,
        seq_len: int,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        offset: float | Tensor = 0,
    ) -> Tensor:
        """Positions (offset, offset + 1, …)/interpolate_factor of `seq_len` tokens."""
        device, dtype = device or self.device, dtype or self.freqs.dtype
        return (torch.arange(seq_len, device=device, dtype=dtype) + offset) / self.interpolate_factor

    def forward(self, t: Tensor, seq_len: int | None = None, offset: float = 0) -> Tensor:
        """Angles of the positions `t`, (..., dim), each given twice, in the dtype of the frequencies."""
        freqs = self._frequencies()
        product = t[..., None].to(freqs.device).double() * freqs
        return product.to(self.freqs.dtype).to(t.device).repeat_interleave(2, dim=-1)

    def rotate_queries_or_keys(
        self,
        t: Tensor,
        seq_dim: int | None = None,
        offset: float | Tensor = 0,
        scale: float | Tensor | None = None,
    ) -> Tensor:
        """Rotate `t` by its positions along `seq_dim`, and scale the turned coordinates."""
        if self.use_xpos and scale is None:
            raise ValueError("scale must be given with use_xpos; rotate_queries_and_keys takes both tensors")
        axis = self.default_seq_dim if seq_dim is None else seq_dim
        return self._rotate(t, axis, offset, 1.0 if scale is None else scale)

    def rotate_queries_and_keys(
        self, q: Tensor, k: Tensor, seq_dim: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """xPos: queries scaled by their distance from the middle of the sequence, keys by its inverse."""
        if not self.use_xpos:
            raise ValueError("use_xpos must be True to rotate queries and keys together")
        axis = self.default_seq_dim if seq_dim is None else seq_dim
        if q.shape[axis] != k.shape[axis]:
            raise ValueError(f"k must be as long as q, {q.shape[axis]} tokens, got {k.shape[axis]}")
        scale = self.get_scale(self._positions(q.shape[axis], q, 0))
        self._check_range(scale, q.dtype)
        return self._rotate(q, axis, 0, scale), self._rotate(k, axis, 0, scale**-1)

    def rotate_queries_with_cached_keys(
        self, q: Tensor, k: Tensor, seq_dim: int | None = None, offset: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Rotate the newest queries at k_len − q_len + offset, …, and all keys at 0, 1, …"""
        axis = self.default_seq_dim if seq_dim is None else seq_dim
        q_len, k_len = q.shape[axis], k.shape[axis]
        if q_len > k_len:
            raise ValueError(f"q must not be longer than k, got {q_len} queries and {k_len} keys")
        q_offset = k_len - q_len + offset
        if not self.use_xpos:
            return self._rotate(q, axis, q_offset, 1.0), self._rotate(k, axis, 0, 1.0)
        if self.reproduce:
            positions = self._positions(k_len, q, 0)
            q_scale, k_scale = self.get_scale(positions[-q_len:]), self.get_scale(positions)
        else:
            centre = k_len // 2
            k_scale = self._scale(self._positions(k_len, k, 0) - centre)
            q_scale = self._scale(self._positions(q_len, q, q_offset) - centre)
        self._check_range(torch.cat((q_scale, k_scale)), q.dtype)
        return self._rotate(q, axis, q_offset, q_scale), self._rotate(k, axis, 0, k_scale**-1)

    def get_scale(self, t: Tensor, seq_len: int | None = None, offset: float = 0) -> Tensor:
        """xPos scale of positions `t` (N,) about the middle one, (N, dim)."""
        if not self.use_xpos:
            raise ValueError("use_xpos must be True for a scale")
        return self._scale(t - len(t) // 2)

    def get_axial_freqs(self, *dims: int, offsets: Sequence[float] | Tensor | None = None) -> Tensor:
        """Angles of every cell of a grid, (*dims, len(dims)·dim), the axes one after the other."""
        if offsets is not None and len(offsets) != len(dims):
            raise ValueError(f"offsets must have {len(dims)} numbers, one per axis, got {len(offsets)}")
        tables = []
        for axis, size in enumerate(dims):
            pixel = self.freqs_for == "pixel"
            cells = (
                torch.linspace(-1, 1, size, device=self.device)
                if pixel
                else torch.arange(size, device=self.device)
            )
            table = self(cells + (0 if offsets is None else offsets[axis]))
            tables.append(table.view(*(-1 if a == axis else 1 for a in range(len(dims))), table.shape[-1]))
        return broadcat(tables)

    def _frequencies(self) -> Tensor:
        """θ_i in float64: from the formula where it still holds, else from the parameter."""
        freqs = self.freqs.to(table_device(self.freqs.device))
        if self._exact is not None and not self.learned_freq:
            exact = self._exact.to(freqs.device)
            return torch.where(freqs == exact.float(), exact, freqs.double())
        return freqs.double()

    def _positions(self, count: int, t: Tensor, offset: float | Tensor) -> Tensor:
        dtype, device = (t.dtype, t.device) if self.reproduce else (torch.float64, table_device(t.device))
        offset = offset.to(device) if isinstance(offset, Tensor) else offset
        return self.get_seq_pos(count, device=device, dtype=dtype, offset=offset)

    def _rotate(self, t: Tensor, axis: int, offset: float | Tensor, scale: float | Tensor) -> Tensor:
        dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
        positions = self._positions(t.shape[axis], t, offset)
        table = angles(positions, self._frequencies(), dtype=dtype).to(t.device)
        if isinstance(scale, Tensor):
            scale = (scale if table_device(t.device) == t.device else scale.to(dtype)).to(t.device)
            scale = scale.unsqueeze(-2) if axis == -3 else scale
            return apply_rotary_emb(
                (table.unsqueeze(-2) if axis == -3 else table).repeat_interleave(2, dim=-1),
                t,
                0,
                scale,
                axis,
                -3 if axis == -3 else -2,
            )
        return rotate(t, table, factor=scale, axis=axis)

    def _scale(self, distance: Tensor) -> Tensor:
        dtype = torch.float64 if distance.dtype == torch.float64 else torch.float32
        far = distance.to(table_device(distance.device)).double()
        pairs = torch.arange(0, self.dim, 2, device=far.device).double()
        scale = (far[:, None] / self.scale_base * ((pairs / self.dim + 0.4) / 1.4).log()).exp()
        return scale.to(dtype).to(distance.device).repeat_interleave(2, dim=-1)

    def _check_range(self, scale: Tensor, dtype: torch.dtype) -> None:
        largest = float(torch.maximum(scale.amax(), (scale**-1).amax()))
        if not largest < torch.finfo(dtype).max:
            limit = self.scale_base * math.log(torch.finfo(dtype).max) / math.log(3.5)
            raise ValueError(
                f"tokens must lie within {limit:.0f} of the middle, the reach of xPos in {dtype}"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RotaryEmbedding:
        super()._apply(keep_float32(fn), recurse)
        return self
