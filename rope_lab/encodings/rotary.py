"""Rotary position embedding (RoPE) as three pure functions, and the module that chains them.

    frequencies(dim, base)          θ_i = base^(−2i/dim)
    angles(positions, freqs)        m·θ_i
    rotate(x, angles, layout)       e^{i·m·θ_i} · x_i, one complex number per pair of coordinates

Source: Su et al. 2021, RoFormer (arXiv:2104.09864), section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from rope_lab.checks import check_integers, check_positive, is_integer
from rope_lab.encodings.base import (
    PositionEncoding,
    Positions,
    as_positions,
    once,
    table_device,
    token_positions,
)
from rope_lab.encodings.scaling import Scaling
from rope_lab.encodings.turning import turn

Layout = Literal["interleaved", "half"]
LAYOUTS = get_args(Layout)
Offset: TypeAlias = "int | Tensor | Sequence[int] | np.ndarray[Any, Any]"


def frequencies(dim: int, base: float = 10_000.0, *, device: torch.device | str | None = None) -> Tensor:
    """Rotation frequencies θ_i = base^(−2i/dim) for i = 0, …, dim/2 − 1.

    Args:
        dim: number of rotated coordinates D, positive and even.
        base: θ_0 = 1 and θ_i falls towards 1/base; positive.
        device: of the result. A device without float64 gets the table on the CPU.

    Returns:
        Radians per position, float64, shape (D/2,).

    Raises:
        ValueError: if `dim` is not a positive even integer or `base` is not positive and finite.

    Source: Su et al. 2021 (arXiv:2104.09864), section 3.2.2.
    """
    if not is_integer(dim) or dim <= 0 or dim % 2:
        raise ValueError(f"dim must be a positive even integer, got {dim!r}")
    check_positive(base=base)
    exponents = torch.arange(0, int(dim), 2, dtype=torch.float64, device=table_device(device)) / dim
    return torch.pow(float(base), -exponents)


def angles(
    positions: Positions, freqs: Tensor, *, offset: float = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Rotation angles (m + offset)·θ_i of every position m, in radians.

    The product is taken in float64 and reduced to [−π, π] before it is rounded to `dtype`, so position
    10,000,000 is as exact as position 10 (chapter 8).

    Args:
        positions: token positions m, integer or real, shape (N,) or (B, N).
        freqs: θ_i in radians per position, shape (D/2,).
        offset: one number, added to every position in float64 (a uint8 would wrap, a bfloat16 round).
        dtype: of the result, float32 or float64.

    Returns:
        Angles on the device of `positions`, shape (N, D/2) or (B, 1, N, D/2).

    Raises:
        ValueError: if `positions` are boolean or complex, `freqs` is not floating-point, `offset` is not one number,
            a shape does not fit, or `dtype` is another one.

    Source: Su et al. 2021 (arXiv:2104.09864), eq. 15.
    """
    positions = as_positions(positions)
    given: object = offset  # torch.compile may make a symbol of it, which has no ndim
    if not isinstance(given, int | float) and getattr(given, "ndim", False):
        raise ValueError(f"offset must be one number, got {offset!r}")
    if not freqs.is_floating_point():
        raise ValueError(f"freqs must be a real floating-point tensor, got {freqs.dtype}")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    if positions.ndim not in (1, 2):
        raise ValueError(f"positions must have shape (N,) or (B, N), got {tuple(positions.shape)}")
    if freqs.ndim != 1:
        raise ValueError(f"freqs must have shape (D/2,), got {tuple(freqs.shape)}")
    device = table_device(positions.device)
    m = positions.to(device).to(torch.float64) + offset
    product = m[..., None] * freqs.to(device)
    table = reduce_turns(product).to(dtype).to(positions.device)
    return table if positions.ndim == 1 else table[:, None]


def reduce_turns(angle: Tensor) -> Tensor:
    """The same angle without its whole turns, in [−π, π]; small angles keep every bit."""
    return angle - 2 * math.pi * torch.round(angle / (2 * math.pi))


def rotate(
    x: Tensor,
    angles: Tensor,
    layout: Layout = "interleaved",
    *,
    factor: float = 1.0,
    start: int = 0,
    axis: int = -2,
) -> Tensor:
    """Turn each pair of coordinates of `x` by its angle: x_i ↦ factor · e^{i·angle_i} · x_i.

    R = 2·angles.shape[-1] coordinates turn, from `start` on; the others pass through (partial rotation).
    "interleaved" pairs coordinates (0, 1), (2, 3), …; "half" pairs (0, R/2), (1, R/2 + 1), …

    Args:
        x: real tensor, shape (..., N, D); (B, H, N, D) where `angles` has four axes.
        angles: radians, float32 or float64, shape (N, R/2), (B, 1, N, R/2) or (1 or B, H, N, R/2).
        layout: "interleaved" or "half".
        factor: multiplies cosine and sine (the attention factor of a frequency scaling).
        start: the first coordinate that turns.
        axis: the token axis of `x`, for tensors such as (B, N, H, D), axis 1, or (N, B, H, D), axis 0; `angles`
            fit the tensor with that axis moved to the last but one.

    Returns:
        The rotated tensor, shape and dtype of `x`. The product is taken in float32, or in float64 for a
        float64 `x`.

    Raises:
        ValueError: if `x` is not a real floating-point tensor, `angles` are coarser than the product, `layout` is
            unknown, or the shapes do not fit as above (nothing else is broadcast).

    Source: Su et al. 2021 (arXiv:2104.09864), eq. 34; the half layout is that of GPT-NeoX (arXiv:2204.06745).
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {LAYOUTS}, got {layout!r}")
    if not x.is_floating_point():
        raise ValueError(f"x must be a real floating-point tensor, got {x.dtype}")
    compute = torch.float64 if x.dtype == torch.float64 else torch.float32
    if angles.dtype not in (torch.float32, torch.float64) or compute == torch.float64 != angles.dtype:
        raise ValueError(f"angles must be {compute} for x of {x.dtype}, got {angles.dtype}")
    if x.ndim < 2:
        raise ValueError(f"x must have a token axis and a last axis, got shape {tuple(x.shape)}")
    if not -x.ndim <= axis < x.ndim or axis in (-1, x.ndim - 1):
        raise ValueError(f"axis must be an axis of x {tuple(x.shape)} other than the last, got {axis}")
    last = axis in (-2, x.ndim - 2)
    x = x if last else x.movedim(axis, -2)
    _check_fit(x, angles, start)
    stop, interleaved = start + 2 * angles.shape[-1], layout == "interleaved"
    if stop - start == x.shape[-1]:
        turned = turn(x, angles.to(compute), factor, interleaved=interleaved)
    else:  # not by cat, which autocast would take in another dtype, or refuse
        turned = turn(x[..., start:stop], angles.to(compute), factor, interleaved=interleaved)
        turned = x.slice_scatter(turned, dim=-1, start=start, end=stop)
    return turned if last else turned.movedim(-2, axis)


class RotaryEmbedding(PositionEncoding):
    """RoPE for queries and keys.

    Fixed frequencies are computed again from `dim` and `base` at every call: there is no buffer that a cast to
    bfloat16 could round, and nothing in the state dict. Learned frequencies are a float32 parameter and
    stay in float32 whatever the module is cast to.

    Args:
        dim: number of rotated coordinates, positive and even; if it is below the head dimension, the rest pass
            through.
        base: of the frequencies θ_i = base^(−2i/dim).
        layout: "interleaved" or "half"; the weights of a trained model fit one of them.
        scaling: one of `rope_lab.encodings.scaling`, applied to the frequencies.
        learned: train the frequencies, starting from the fixed ones.
        freqs: custom θ_i in place of those of `base`, shape (dim/2,). For frequencies of each head's own, give
            (1, H, dim/2) to `RotaryEmbeddingND`.
        start: the first coordinate of a head that turns.
        heads: turn only this many query heads, and as many key heads as belong to them; by default all.
        length: tokens the sequence may have in all, for scalings that depend on it; by default the capacity of
            the cache, or else the number of tokens in the call.

    Raises:
        ValueError: if an argument is not as above.

    Source: Su et al. 2021 (arXiv:2104.09864).
    """

    def __init__(
        self,
        dim: int,
        *,
        base: float = 10_000.0,
        layout: Layout = "interleaved",
        scaling: Scaling | None = None,
        learned: bool = False,
        freqs: Tensor | None = None,
        start: int = 0,
        heads: int | None = None,
        length: int | None = None,
    ) -> None:
        super().__init__()
        if layout not in get_args(Layout):
            raise ValueError(f"layout must be one of {get_args(Layout)}, got {layout!r}")
        frequencies(dim, base, device="cpu")  # a bad dim or base raises here, not at the first call
        if scaling is not None and (isinstance(scaling, type) or not callable(scaling)):
            raise ValueError(f"scaling must be one such as YaRN(factor, original_length), got {scaling!r}")
        dim = int(dim)
        if freqs is not None and (freqs.shape != (dim // 2,) or not freqs.is_floating_point()):
            raise ValueError(
                f"freqs must be real, of shape ({dim // 2},), got {freqs.dtype} {tuple(freqs.shape)}"
            )
        (start,) = check_integers(0, start=start)
        heads, length = check_integers(optional=True, heads=heads, length=length)
        self.dim, self.base, self.layout, self.scaling = dim, float(base), layout, scaling
        self.start, self.heads, self.length = start, heads, length
        # No buffer, so that nothing casts it.
        self.custom_freqs = (
            None if freqs is None else freqs.detach().to(table_device(freqs.device)).double().clone()
        )
        self.learned_freqs = nn.Parameter(torch.empty(dim // 2, dtype=torch.float32)) if learned else None
        self.reset_parameters()

    @property
    def reach(self) -> int:
        """Coordinates that a head must have at least: those before `start` and the `dim` that turn."""
        return self.start + self.dim

    @property
    def depends_on_length(self) -> bool:
        """Whether the frequencies follow the length, which `length` has not fixed."""
        return self.length is None and getattr(self.scaling, "depends_on_length", False)

    def reset_parameters(self) -> None:
        """Start learned frequencies from the fixed ones, as after `to_empty` on a module built on meta."""
        if self.learned_freqs is not None:
            with torch.no_grad():
                self.learned_freqs.copy_(self._fixed("cpu").float())

    def frequencies(self, device: torch.device | str | None = None) -> Tensor:
        """θ_i in radians per position, shape (dim/2,): float64 where fixed, float32 where learned."""
        if self.learned_freqs is not None:
            return self.learned_freqs
        return self._fixed(device)

    def _fixed(self, device: torch.device | str | None) -> Tensor:
        if self.custom_freqs is not None:
            return self.custom_freqs.to(table_device(device))
        return frequencies(self.dim, self.base, device=device)

    def table(
        self, positions: Tensor, length: int, *, offset: float = 0, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, float]:
        """Angles of the positions in a sequence of `length` tokens, and the attention factor of the scaling."""
        freqs, factor = self.frequencies(positions.device), 1.0
        if self.scaling is not None:
            freqs = freqs.to(table_device(freqs.device)).double()
            freqs, factor = self.scaling(freqs, self.length or length)
        return angles(positions, freqs, offset=offset, dtype=dtype), factor

    __call__: Callable[..., tuple[Tensor, Tensor]]

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        *,
        positions: Positions | None = None,
        offset: Offset = 0,
        length: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Rotate queries and keys by their positions.

        Args:
            q: queries, shape (B, H, N_q, D).
            k: keys, shape (B, H_k, N_k, D). If N_q < N_k, the queries are the last N_q of its tokens.
            positions: of the keys, integer or real, shape (N_k,) or (B, N_k); by default 0, 1, …, N_k − 1.
            offset: an integer, or integers (B,), one per row; added to every position.
            length: tokens the sequence may have in all, by default N_k plus the largest offset; see the class.

        Returns:
            Rotated q and k, with their shapes and dtypes.

        Raises:
            ValueError: if shapes do not fit, `start + dim` exceeds D, there are more queries than keys, `offset` is
                not made of integers, or `length` is negative.
        """
        if q.ndim != 4 or k.ndim != 4:
            shapes = f"{tuple(q.shape)} and {tuple(k.shape)}"
            raise ValueError(f"q and k must have shape (B, H, N, D), got {shapes}")
        n_q, n_k = q.shape[-2], k.shape[-2]
        if n_q > n_k:
            raise ValueError(f"q must not be longer than k, got {n_q} queries and {n_k} keys")
        if self.start + self.dim > min(q.shape[-1], k.shape[-1]):
            heads = f"{q.shape[-1]} of q and {k.shape[-1]} of k, less start={self.start}"
            raise ValueError(f"dim must be at most the head dimension, {heads}, got {self.dim}")
        if length is not None and length < 0:
            raise ValueError(f"length must not be negative, got {length}")
        positions = token_positions(positions, k.shape[0], n_k, device=k.device)
        if not isinstance(offset, int):
            positions, offset, furthest = _shift(positions, offset, k.shape[0])
            if self.depends_on_length and length is None and furthest is not None:
                length = n_k + int(furthest)
        dtype = torch.float64 if torch.float64 in (q.dtype, k.dtype) else torch.float32
        table, factor = once(self.table, positions, length or n_k + offset, offset=offset, dtype=dtype)
        return self._turn_heads(q, k, table if n_q == n_k else table[..., n_k - n_q :, :], table, factor)

    def _turn_heads(
        self, q: Tensor, k: Tensor, q_table: Tensor, k_table: Tensor, factor: float
    ) -> tuple[Tensor, Tensor]:
        """Rotate the heads that are to turn, queries by the angles of `q_table`, keys by those of `k_table`."""
        q_heads, k_heads = q.shape[1], k.shape[1]
        if self.heads is not None:  # and as many key heads as these query heads share
            q_heads = self.heads
            k_heads, uneven = divmod(q_heads * k.shape[1], q.shape[1])
            if uneven or q_heads > q.shape[1]:
                allowed = (
                    f"at most {q.shape[1]} and a whole number of groups of {q.shape[1]}:{k.shape[1]} heads"
                )
                raise ValueError(f"heads must be {allowed}, got {self.heads}")

        single = q.shape[2] == 1 and self.dim > 2  # a lone pair would be rounded by its place among the heads
        if single and self.heads is None and q_table is k_table and _alike(q, k):
            # decoding spends its time in calls, not in memory: one call for both
            turned = rotate(torch.cat((q, k), dim=1), k_table, self.layout, factor=factor, start=self.start)
            return turned[:, :q_heads], turned[:, q_heads:]

        def some(x: Tensor, angles: Tensor, heads: int) -> Tensor:
            turned = rotate(x[:, :heads], angles, self.layout, factor=factor, start=self.start)
            return turned if heads == x.shape[1] else x.slice_scatter(turned, dim=1, end=heads)

        return some(q, q_table, q_heads), some(k, k_table, k_heads)

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k = self(q, k, positions=positions, length=length)
        return q, k, v

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RotaryEmbedding:
        super()._apply(keep_float32(fn), recurse)
        return self

    def extra_repr(self) -> str:
        learned = self.learned_freqs is not None
        return f"{self.dim}, base={self.base:g}, layout={self.layout!r}, learned={learned}"


def keep_float32(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`fn` of a module's cast or move, without the cast: for frequencies that are parameters."""

    def move(t: Tensor) -> Tensor:
        moved = fn(t)
        return moved if moved.dtype == torch.float32 else t.to(moved.device)

    return move


def _shift(positions: Tensor, offset: Offset, batch: int) -> tuple[Tensor, int, Tensor | None]:
    """Positions moved by an offset for each row, the offset that is left to add, and the largest of those added."""
    if isinstance(offset, np.integer):
        return positions, int(offset), None
    try:
        rows = torch.as_tensor(offset, device=positions.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"offset must be an integer or integers ({batch},), got {offset!r}") from error
    if rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
        raise ValueError(f"offset must be an integer or integers ({batch},), got {rows.dtype}")
    if rows.shape not in ((), (batch,)):
        raise ValueError(f"offset must be an integer or integers ({batch},), got shape {tuple(rows.shape)}")
    exact = table_device(positions.device) == positions.device
    wide = (torch.float64 if exact else torch.float32) if positions.is_floating_point() else torch.long
    moved = positions.to(wide) + (rows[:, None] if rows.ndim else rows)
    return moved, 0, rows.max() if rows.numel() else None


def _alike(q: Tensor, k: Tensor) -> bool:
    return q.dtype == k.dtype and (q.shape[0], q.shape[3]) == (k.shape[0], k.shape[3])


def _check_fit(x: Tensor, angles: Tensor, start: int) -> None:
    shape, table = tuple(x.shape), tuple(angles.shape)
    fits = table[:-1] == shape[-2:-1]
    if x.ndim == angles.ndim == 4:
        batch, heads, length, _ = shape
        fits = table[:3] in ((batch, 1, length), (batch, heads, length), (1, heads, length))
    if not fits:
        allowed = "(N, R/2), (B, 1, N, R/2) or (1 or B, H, N, R/2)"
        raise ValueError(f"angles must have shape {allowed} for x of shape {shape}, got {table}")
    if start < 0 or start + 2 * table[-1] > shape[-1]:
        turned = f"{2 * table[-1]} coordinates from start={start}"
        raise ValueError(f"angles turn {turned}, but x has only {shape[-1]}")
