"""RoPE in several dimensions: images, video, and text that holds both.

A token at coordinates p = (p_1, …, p_A) turns pair i by Σ_a p_a·f_ai. The whole difference between the schemes is
the matrix f of frequencies, A axes by D/2 pairs:

    axial    each axis owns an equal share of the pairs (blocks of f are zero)
    M-RoPE   one spectrum over all pairs, each pair owned by one axis
    mixed    every entry is learned, for each head its own

Sources: Heo et al. 2024, RoPE-ViT (arXiv:2403.13298); Wang et al. 2024, Qwen2-VL (arXiv:2409.12191).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, SupportsIndex, get_args

import torch
from torch import Tensor, nn

from rope_lab.checks import check_integers
from rope_lab.encodings.base import PositionEncoding
from rope_lab.encodings.rotary import Layout, frequencies, keep_float32, reduce_turns, rotate, table_device

Grid = Literal["index", "pixel"]


def grid_coordinates(
    *sizes: int,
    kind: Grid = "index",
    offsets: Sequence[float] | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Coordinates of every cell of a grid, the last axis running fastest (row-major, as `flatten` reads an image).

    Args:
        sizes: cells along each axis, positive integers.
        kind: "index" counts 0, 1, 2, … along an axis; "pixel" spans [−1, 1] whatever the size.
        offsets: added along each axis.

    Returns:
        Float64, shape (N, A) with N the product of the A sizes.

    Raises:
        ValueError: if a size is no positive integer, `kind` is unknown, or `offsets` has another length.
    """
    _check_grid(sizes, kind)
    offsets = (0.0,) * len(sizes) if offsets is None else tuple(offsets)
    if len(offsets) != len(sizes):
        raise ValueError(f"offsets must have {len(sizes)} numbers, one an axis, got {len(offsets)}")
    axes = [
        offset
        + (
            torch.linspace(-1, 1, size, dtype=torch.float64, device=device)
            if kind == "pixel"
            else torch.arange(size, dtype=torch.float64, device=device)
        )
        for size, offset in zip(sizes, offsets, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def angles_nd(coordinates: Tensor, freqs: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rotation angles Σ_a p_a·f_ai, in radians, formed in float64 and reduced to [−π, π].

    Args:
        coordinates: p, integer or real, shape (N, A) or (B, N, A).
        freqs: f, real, shape (A, D/2), or (A, H, D/2) where each head has its own.
        dtype: of the result, float32 or float64.

    Returns:
        Shape (N, D/2) or (B, 1, N, D/2); with frequencies of each head (1 or B, H, N, D/2).

    Raises:
        ValueError: if a shape differs from these, `coordinates` are boolean or complex, or `freqs` not real.
    """
    _check_freqs(freqs)
    if coordinates.dtype == torch.bool or coordinates.is_complex():
        raise ValueError(f"coordinates must be integers or real numbers, got {coordinates.dtype}")
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
    """Each axis owns D/(2A) pairs in turn, with the frequencies of RoPE of dimension D/A; shape (A, D/2), float64."""
    pairs = _pairs_of_an_axis(dim, axes)
    return torch.block_diag(*[frequencies(2 * pairs, base, device="cpu")[None]] * axes)


def pixel_frequencies(dim: int, axes: int, max_freq: float = 10.0) -> Tensor:
    """Each axis owns D/(2A) pairs with frequencies from π to π·max_freq/2, for coordinates in [−1, 1]."""
    pairs = _pairs_of_an_axis(dim, axes)
    if not 0 < max_freq < math.inf:
        raise ValueError(f"max_freq must be positive and finite, got {max_freq!r}")
    one = torch.linspace(1, max_freq / 2, pairs, dtype=torch.float64, device="cpu") * math.pi
    return torch.block_diag(*[one[None]] * axes)


def mrope_frequencies(sections: Sequence[int], base: float = 10_000.0) -> Tensor:
    """One spectrum over all pairs; the first sections[0] pairs belong to axis 0, the next to axis 1, …; (A, D/2)."""
    if any(not isinstance(pairs, int) or pairs < 0 for pairs in sections) or not sum(sections):
        raise ValueError(f"sections must be integers from 0 with a positive sum, got {sections}")
    spectrum = frequencies(2 * sum(sections), base, device="cpu")
    return torch.block_diag(*[part[None] for part in spectrum.split(list(sections))])


def mixed_frequencies(
    dim: int, heads: int, base: float = 10.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """Where RoPE-Mixed starts: the two axes of axial RoPE, turned by a random angle in each head; (2, H, D/2)."""
    size = frequencies(2 * _pairs_of_an_axis(dim, 2), base, device="cpu")  # base^(−4i/D)
    check_integers(heads=heads)
    turn = 2 * math.pi * torch.rand(heads, 1, generator=generator, dtype=torch.float64, device="cpu")
    x = torch.cat((size * turn.cos(), size * (turn + math.pi / 2).cos()), dim=-1)
    y = torch.cat((size * turn.sin(), size * (turn + math.pi / 2).sin()), dim=-1)
    return torch.stack((x, y))


class RotaryEmbeddingND(PositionEncoding):
    """RoPE for tokens with coordinates; the frequencies are one of the matrices above.

    Args:
        freqs: real, (A, D/2), or (A, H, D/2) for each head its own.
        sizes: the grid of a model's tokens: token `prefix + j` is cell j of it. Without a grid, token m has the
            coordinates (m, …, m), which makes M-RoPE on plain text the RoPE of one dimension.
        kind: "index" or "pixel" coordinates of that grid.
        prefix: tokens before the grid that do not turn (a CLS token, registers).
        layout: "interleaved" or "half".
        learned: train the frequencies, as RoPE-Mixed does; they are float32 and stay so whatever the cast.

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
    ) -> None:
        super().__init__()
        if layout not in get_args(Layout):
            raise ValueError(f"layout must be one of {get_args(Layout)}, got {layout!r}")
        check_integers(0, prefix=prefix)
        _check_freqs(freqs)
        if sizes is not None and len(sizes) != freqs.shape[0]:
            raise ValueError(f"sizes must have {freqs.shape[0]} numbers, one an axis, got {len(sizes)}")
        _check_grid(sizes, kind)
        self.sizes, self.kind, self.prefix, self.layout = sizes, kind, prefix, layout
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

    def forward(self, q: Tensor, k: Tensor, *, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate queries and keys.

        Args:
            q, k: (B, H, prefix + N, D).
            coordinates: of the tokens after the prefix, (N, A) or (B, N, A).

        Returns:
            Rotated q and k.

        Raises:
            ValueError: if the shapes differ from these, or `freqs` are of other heads than q and k.
        """
        self._check_heads(q, k)
        dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        table = angles_nd(coordinates, self.freqs, dtype=dtype)
        table = nn.functional.pad(table, (0, 0, self.prefix, 0))  # angle 0 for the prefix
        return rotate(q, table, self.layout), rotate(k, table, self.layout)

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
        if self.sizes is None:
            cells = (positions - self.prefix).clamp(min=0)
            coordinates = cells[..., None].expand(*cells.shape, axes).double()
        else:
            grid = grid_coordinates(*self.sizes, kind=self.kind, device=positions.device)
            coordinates = nn.functional.pad(grid, (0, 0, self.prefix, 0))[positions.long()]
        still = positions < self.prefix
        dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        table = angles_nd(coordinates.masked_fill(still[..., None], 0.0), self.freqs, dtype=dtype).to(
            q.device
        )
        return rotate(q, table, self.layout), rotate(k, table, self.layout), v

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
        if not torch.compiler.is_compiling() and positions.numel() and positions.device.type != "meta":
            low, high = (bound.item() for bound in positions.aminmax())
            if not (low >= 0 and high <= last and high < math.inf):  # so that nan is refused
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
    if sizes is not None and (
        len(sizes) == 0 or any(not isinstance(size, SupportsIndex) or size <= 0 for size in sizes)
    ):
        raise ValueError(f"sizes must be positive integers, got {sizes}")


def _pairs_of_an_axis(dim: int, axes: int) -> int:
    check_integers(axes=axes)
    if not isinstance(dim, int) or dim <= 0 or dim % (2 * axes):
        raise ValueError(f"dim must be a positive multiple of 2·axes = {2 * axes}, got {dim!r}")
    return dim // (2 * axes)
