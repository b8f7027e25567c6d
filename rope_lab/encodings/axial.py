"""RoPE in several dimensions: images, video, and text that holds both.

A token at coordinates p = (p_1, …, p_A) turns pair i by Σ_a p_a·f_ai. The schemes differ only in the matrix f of
frequencies, A axes by D/2 pairs:

    axial    each axis owns an equal share of the pairs (blocks of f are zero)
    M-RoPE   one spectrum over all pairs, each pair owned by one axis
    mixed    every entry is learned, separately for each head

Sources: Heo et al. 2024, RoPE-ViT (arXiv:2403.13298); Wang et al. 2024, Qwen2-VL (arXiv:2409.12191).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rope_lab.checks import can_read, check_integers, check_positive, is_integer
from rope_lab.encodings.base import PositionEncoding, Positions, as_positions, table_device
from rope_lab.encodings.rotary import Layout, frequencies, keep_float32, reduce_turns, rotate

Grid = Literal["index", "pixel", "centre"]


def grid_coordinates(
    *sizes: int,
    kind: Grid = "index",
    offsets: Sequence[float] | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Coordinates of every cell of a grid, with the last axis varying fastest (row-major order, in which `flatten`
    reads an image).

    Args:
        sizes: cells along each axis, positive integers.
        kind: "index" counts 0, 1, 2, … along an axis; "pixel" goes from −1 at the first cell to 1 at the last,
            whatever the size; "centre" gives the centres of equal cells that together cover [−1, 1], as DINOv3 does
            (arXiv:2508.10104).
        offsets: added along each axis.

    Returns:
        Float64, shape (N, A) with N the product of the A sizes.

    Raises:
        ValueError: if a size is not a positive integer, `kind` is unknown, or `offsets` has another length.
    """
    _check_grid(sizes, kind)
    sizes = tuple(int(size) for size in sizes)
    offsets = (0.0,) * len(sizes) if offsets is None else tuple(offsets)
    if len(offsets) != len(sizes):
        raise ValueError(f"offsets must have {len(sizes)} numbers, one per axis, got {len(offsets)}")

    def along(size: int) -> Tensor:
        if kind == "pixel":
            return torch.linspace(-1, 1, size, dtype=torch.float64, device=device)
        index = torch.arange(size, dtype=torch.float64, device=device)
        return index if kind == "index" else (2 * index + 1) / size - 1

    axes = [offset + along(size) for size, offset in zip(sizes, offsets, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def angles_nd(coordinates: Positions, freqs: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rotation angles Σ_a p_a·f_ai, in radians, computed in float64 and reduced to [−π, π].

    Args:
        coordinates: p, integer or real, shape (N, A) or (B, N, A).
        freqs: f, real, shape (A, D/2), or (A, H, D/2) where each head has its own.
        dtype: of the result, float32 or float64.

    Returns:
        Shape (N, D/2) or (B, 1, N, D/2); with frequencies for each head (1 or B, H, N, D/2).

    Raises:
        ValueError: if a shape differs from these, `coordinates` are boolean or complex, or `freqs` are not real.
    """
    _check_freqs(freqs)
    coordinates = as_positions(coordinates, name="coordinates")
    if coordinates.ndim not in (2, 3) or coordinates.shape[-1] != freqs.shape[0]:
        expected = f"(N, {freqs.shape[0]}) or (B, N, {freqs.shape[0]})"
        raise ValueError(f"coordinates must have shape {expected}, got {tuple(coordinates.shape)}")
    device = table_device(coordinates.device)
    p, f = coordinates.to(device).double(), freqs.to(device).double()
    if freqs.ndim == 2:
        table = p @ f  # (N, F) or (B, N, F)
        table = table if p.ndim == 2 else table[:, None]
    else:
        table = torch.einsum("bna,ahf->bhnf", p if p.ndim == 3 else p[None], f)
    return reduce_turns(table).to(dtype).to(coordinates.device)


def axial_frequencies(dim: int, axes: int, base: float = 100.0) -> Tensor:
    """Each axis owns D/(2A) adjacent pairs, with the frequencies of RoPE of dimension D/A; shape (A, D/2), float64.

    The first pairs belong to axis 0, which in an image is y (rows). Models that give the first pairs to x, such as
    RoPE-ViT, SAM 2 and the vision tower of Llama 4, need `axial_frequencies(dim, 2).flip(0)`.
    """
    pairs = _pairs_of_an_axis(dim, axes)
    return torch.block_diag(*[frequencies(2 * pairs, base, device="cpu")[None]] * axes)


def pixel_frequencies(dim: int, axes: int, max_freq: float = 10.0) -> Tensor:
    """Each axis owns D/(2A) pairs with frequencies from π to π·max_freq/2, for coordinates in [−1, 1]."""
    pairs = _pairs_of_an_axis(dim, axes)
    check_positive(max_freq=max_freq)
    one = torch.linspace(1, max_freq / 2, pairs, dtype=torch.float64, device="cpu") * math.pi
    return torch.block_diag(*[one[None]] * axes)


def mrope_frequencies(
    sections: Sequence[int], base: float = 10_000.0, *, spectrum: Tensor | None = None
) -> Tensor:
    """One spectrum over all pairs; the first sections[0] pairs belong to axis 0, the next to axis 1, …; (A, D/2).

    Args:
        sections: number of pairs that each axis owns.
        base: of the spectrum.
        spectrum: as for `interleaved_mrope_frequencies`.

    Raises:
        ValueError: if the sections are not integers from 0 with a positive sum, or the spectrum has another shape.
    """
    if any(not is_integer(pairs) or pairs < 0 for pairs in sections) or not sum(sections):
        raise ValueError(f"sections must be integers from 0 with a positive sum, got {sections}")
    sections = [int(pairs) for pairs in sections]
    freqs = _spectrum(sum(sections), base, spectrum)
    return torch.block_diag(*[part[None] for part in freqs.split(sections)])


def interleaved_mrope_frequencies(
    sections: Sequence[int], base: float = 10_000.0, *, spectrum: Tensor | None = None
) -> Tensor:
    """M-RoPE whose axes take turns, so that each has fast and slow pairs (Qwen3-VL, Qwen3.5); (A, D/2), float64.

    Of A axes, axis a > 0 owns pairs a, a + A, a + 2A, …, as many as its section says; axis 0 owns all others.

    Args:
        sections: number of pairs that each axis owns.
        base: of the spectrum.
        spectrum: θ_i in place of those of `base`, shape (D/2,), such as the first result of a scaling (YaRN). The
            second, the attention factor, is for `factor` of `RotaryEmbeddingND`.

    Raises:
        ValueError: if the sections are not integers from 0, do not fit the turns, or the spectrum has another shape.
    """
    if any(not is_integer(count) or count < 0 for count in sections) or not sum(sections):
        raise ValueError(f"sections must be integers from 0 with a positive sum, got {sections}")
    sections = [int(count) for count in sections]
    pairs, axes = sum(sections), len(sections)
    if any(count and axis + axes * (count - 1) >= pairs for axis, count in enumerate(sections) if axis):
        raise ValueError(
            f"sections must leave room for the turns of {axes} axes in {pairs} pairs, got {sections}"
        )
    freqs = _spectrum(pairs, base, spectrum)
    owner = torch.zeros(pairs, dtype=torch.long)
    for axis, count in enumerate(sections):
        if axis:
            owner[axis : axes * count : axes] = axis
    return torch.where(owner == torch.arange(axes)[:, None], freqs, 0.0)


def _spectrum(pairs: int, base: float, spectrum: Tensor | None) -> Tensor:
    freqs = frequencies(2 * pairs, base, device="cpu") if spectrum is None else spectrum.double()
    if freqs.shape != (pairs,):
        raise ValueError(f"spectrum must have {pairs} numbers, one per pair, got shape {tuple(freqs.shape)}")
    return freqs


def mixed_frequencies(
    dim: int, heads: int, base: float = 10.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """How RoPE-Mixed starts: the two axes of axial RoPE, rotated by a random angle per head; (2, H, D/2)."""
    size = frequencies(2 * _pairs_of_an_axis(dim, 2), base, device="cpu")  # base^(−4i/D)
    (heads,) = check_integers(heads=heads)
    turn = 2 * math.pi * torch.rand(heads, 1, generator=generator, dtype=torch.float64, device="cpu")
    x = torch.cat((size * turn.cos(), size * (turn + math.pi / 2).cos()), dim=-1)
    y = torch.cat((size * turn.sin(), size * (turn + math.pi / 2).sin()), dim=-1)
    return torch.stack((x, y))


class RotaryEmbeddingND(PositionEncoding):
    """RoPE for tokens with coordinates; the frequencies are one of the matrices above.

    A position outside the grid raises a ValueError on the CPU. Elsewhere, where reading it back would make the device
    wait, its token becomes NaN.

    Args:
        freqs: real, (A, D/2), or (A, H, D/2) if each head has its own. With A = 1 and no grid this is RoPE on a line,
            and (1, H, D/2) gives each head frequencies of its own there.
        sizes: the grid of a model's tokens: token `prefix + j` is cell j of it. Without a grid, token m has the
            coordinates (m, …, m), which makes M-RoPE on plain text the RoPE of one dimension.
        kind: coordinates of that grid, as `grid_coordinates`.
        prefix: number of tokens before the grid that do not turn (a CLS token, registers).
        layout: "interleaved" or "half".
        learned: train the frequencies, as RoPE-Mixed does; they stay in float32 whatever the module is cast to.
        factor: multiplies cosine and sine (the attention factor of a scaling).

    Raises:
        ValueError: if an argument is not as above.

    Sources: Heo et al. 2024 (arXiv:2403.13298); Wang et al. 2024 (arXiv:2409.12191).
    """

    def __init__(
        self,
        freqs: Tensor,
        *,
        sizes: Sequence[int] | None = None,
        kind: Grid = "index",
        prefix: int = 0,
        layout: Layout = "interleaved",
        learned: bool = False,
        factor: float = 1.0,
    ) -> None:
        super().__init__()
        check_positive(factor=factor)
        if layout not in get_args(Layout):
            raise ValueError(f"layout must be one of {get_args(Layout)}, got {layout!r}")
        (prefix,) = check_integers(0, prefix=prefix)
        _check_freqs(freqs)
        if sizes is not None and len(sizes) != freqs.shape[0]:
            raise ValueError(f"sizes must have {freqs.shape[0]} numbers, one per axis, got {len(sizes)}")
        _check_grid(sizes, kind)
        self.sizes = None if sizes is None else tuple(int(size) for size in sizes)
        self.kind, self.prefix, self.layout, self.factor = kind, prefix, layout, float(factor)
        # No buffer, so that nothing casts it.
        self.fixed_freqs = freqs.detach().to(table_device(freqs.device)).double().clone()
        self.learned_freqs: nn.Parameter | None = None
        if learned:
            default = torch.get_default_device()
            device = default if default.type == "meta" else freqs.device
            self.learned_freqs = nn.Parameter(torch.empty_like(freqs, dtype=torch.float32, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start learned frequencies from those given, as after `to_empty` on a module built on meta."""
        if self.learned_freqs is not None:
            with torch.no_grad():
                self.learned_freqs.copy_(self.fixed_freqs.float())

    @property
    def freqs(self) -> Tensor:
        """Radians per unit of each coordinate, (A, D/2) or (A, H, D/2)."""
        return self.fixed_freqs if self.learned_freqs is None else self.learned_freqs

    @property
    def reach(self) -> int:
        return 2 * self.freqs.shape[-1]

    @property
    def max_positions(self) -> int | None:
        return None if self.sizes is None else self.prefix + math.prod(self.sizes)

    __call__: Callable[..., tuple[Tensor, Tensor]]

    def forward(self, q: Tensor, k: Tensor, *, coordinates: Positions) -> tuple[Tensor, Tensor]:
        """Rotate queries and keys.

        Args:
            q, k: (B, H, prefix + N, D).
            coordinates: of the tokens after the prefix, (N, A) or (B, N, A).

        Returns:
            Rotated q and k.

        Raises:
            ValueError: if the shapes differ from these, or `freqs` have another number of heads than q and k.
        """
        self._check_heads(q, k)
        dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        table = angles_nd(coordinates, self.freqs, dtype=dtype)
        table = nn.functional.pad(table, (0, 0, self.prefix, 0))  # angle 0 for the prefix
        return self._turn(q, table), self._turn(k, table)

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotate q and k by the coordinates of their positions, (N,) or (B, N), and leave v.

        Raises:
            ValueError: if `positions` are not integers in 0 .. prefix + cells − 1 of the grid (without one: finite
                numbers from 0), or the shapes do not fit.
        """
        self._check_heads(q, k)
        axes, positions = self.freqs.shape[0], positions.to(table_device(positions.device))
        self._check_positions(positions)
        outside = positions < 0
        if self.sizes is None:
            cells = (positions - self.prefix).clamp(min=0)
            coordinates = cells[..., None].expand(*cells.shape, axes).double()
        else:
            grid = grid_coordinates(*self.sizes, kind=self.kind, device=positions.device)
            index, last = positions.long(), self.prefix + len(grid) - 1
            outside = outside | (index > last)
            coordinates = nn.functional.pad(grid, (0, 0, self.prefix, 0))[index.clamp(0, last)]
        coordinates = coordinates.masked_fill((positions < self.prefix)[..., None], 0.0)
        dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        table = angles_nd(coordinates.masked_fill(outside[..., None], math.nan), self.freqs, dtype=dtype)
        table = table.to(q.device)
        return self._turn(q, table), self._turn(k, table), v

    def _turn(self, x: Tensor, table: Tensor) -> Tensor:
        return rotate(x, table, self.layout, factor=self.factor)

    def _check_positions(self, positions: Tensor) -> None:
        allowed, last = "finite numbers from 0", math.inf
        if self.sizes is not None:
            last = self.prefix + math.prod(self.sizes) - 1
            allowed = f"integers in 0..{last} (prefix + cells − 1)"
        if positions.ndim not in (1, 2):
            raise ValueError(f"positions must have shape (N,) or (B, N), got {tuple(positions.shape)}")
        refused = positions.is_floating_point() and self.sizes is not None
        if refused or positions.dtype == torch.bool or positions.is_complex():
            raise ValueError(f"positions must be {allowed}, got {positions.dtype}")
        if positions.numel() and can_read(positions):
            low, high = (bound.item() for bound in positions.aminmax())
            if not (low >= 0 and high <= last and high < math.inf):  # so that NaN raises it too
                raise ValueError(f"positions must be {allowed}, got {low}..{high}")

    def _check_heads(self, q: Tensor, k: Tensor) -> None:
        for name, x in (("q", q), ("k", k)):
            if self.freqs.ndim == 3 and (x.ndim != 4 or x.shape[1] != self.freqs.shape[1]):
                given = f"{tuple(self.freqs.shape)} for {name} of {tuple(x.shape)}"
                raise ValueError(
                    f"freqs (A, H, D/2) must have the heads of q and k (B, H, N, D), got {given}"
                )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RotaryEmbeddingND:
        super()._apply(keep_float32(fn), recurse)
        return self


def _check_freqs(freqs: Tensor) -> None:
    if freqs.ndim not in (2, 3) or 0 in freqs.shape or not freqs.is_floating_point():
        given = f"{freqs.dtype} {tuple(freqs.shape)}"
        raise ValueError(f"freqs must be real, of shape (A, D/2) or (A, H, D/2), got {given}")


def _check_grid(sizes: Sequence[int] | None, kind: str) -> None:
    if kind not in get_args(Grid):
        raise ValueError(f"kind must be one of {get_args(Grid)}, got {kind!r}")
    if sizes is not None and (len(sizes) == 0 or any(not is_integer(size) or size <= 0 for size in sizes)):
        raise ValueError(f"sizes must be positive integers, got {sizes}")


def _pairs_of_an_axis(dim: int, axes: int) -> int:
    (axes,) = check_integers(axes=axes)
    if not is_integer(dim) or dim <= 0 or dim % (2 * axes):
        raise ValueError(f"dim must be a positive multiple of 2·axes = {2 * axes}, got {dim!r}")
    return int(dim) // (2 * axes)
