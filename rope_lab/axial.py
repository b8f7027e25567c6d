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
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rope_lab.encoding import PositionEncoding
from rope_lab.rotary import Layout, frequencies, keep_float32, reduce_turns, rotate, table_device

Grid = Literal["index", "pixel"]


def grid_coordinates(
    *sizes: int,
    kind: Grid = "index",
    offsets: Sequence[float] | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Coordinates of every cell of a grid, the last axis running fastest (row-major, as `flatten` reads an image).

    Args:
        sizes: cells along each axis, all positive.
        kind: "index" counts 0, 1, 2, … along an axis; "pixel" spans [−1, 1] whatever the size.
        offsets: added along each axis.

    Returns:
        Float64, shape (N, A) with N the product of the A sizes.

    Raises:
        ValueError: if a size is not positive, `kind` is unknown, or `offsets` has another length.
    """
    if not sizes or any(size <= 0 for size in sizes):
        raise ValueError(f"sizes must be positive, got {sizes}")
    if kind not in get_args(Grid):
        raise ValueError(f"kind must be one of {get_args(Grid)}, got {kind!r}")
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
        coordinates: p, shape (N, A) or (B, N, A).
        freqs: f, shape (A, D/2), or (A, H, D/2) where each head has its own.
        dtype: of the result, float32 or float64.

    Returns:
        Shape (N, D/2) or (B, 1, N, D/2); with frequencies of each head (1 or B, H, N, D/2).

    Raises:
        ValueError: if the shapes differ from these.
    """
    if coordinates.ndim not in (2, 3) or coordinates.shape[-1] != freqs.shape[0]:
        expected = f"(N, {freqs.shape[0]}) or (B, N, {freqs.shape[0]})"
        raise ValueError(f"coordinates must have shape {expected}, got {tuple(coordinates.shape)}")
    if freqs.ndim not in (2, 3):
        raise ValueError(f"freqs must have shape (A, D/2) or (A, H, D/2), got {tuple(freqs.shape)}")
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
    if axes <= 0 or dim % (2 * axes):
        raise ValueError(f"dim must be a multiple of 2·axes = {2 * axes}, got {dim}")
    return torch.block_diag(*[frequencies(dim // axes, base, device="cpu")[None]] * axes)


def pixel_frequencies(dim: int, axes: int, max_freq: float = 10.0) -> Tensor:
    """Each axis owns D/(2A) pairs with frequencies from π to π·max_freq/2, for coordinates in [−1, 1]."""
    if axes <= 0 or dim % (2 * axes):
        raise ValueError(f"dim must be a multiple of 2·axes = {2 * axes}, got {dim}")
    one = torch.linspace(1, max_freq / 2, dim // (2 * axes), dtype=torch.float64) * math.pi
    return torch.block_diag(*[one[None]] * axes)


def mrope_frequencies(sections: Sequence[int], base: float = 10_000.0) -> Tensor:
    """One spectrum over all pairs; the first sections[0] pairs belong to axis 0, the next to axis 1, …; (A, D/2)."""
    spectrum = frequencies(2 * sum(sections), base, device="cpu")
    return torch.block_diag(*[part[None] for part in spectrum.split(list(sections))])


def mixed_frequencies(
    dim: int, heads: int, base: float = 10.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """Where RoPE-Mixed starts: the two axes of axial RoPE, turned by a random angle in each head; (2, H, D/2)."""
    if dim % 4:
        raise ValueError(f"dim must be a multiple of 4, got {dim}")
    size = frequencies(dim // 2, base, device="cpu")  # base^(−4i/D)
    turn = 2 * math.pi * torch.rand(heads, 1, generator=generator, dtype=torch.float64)
    x = torch.cat((size * turn.cos(), size * (turn + math.pi / 2).cos()), dim=-1)
    y = torch.cat((size * turn.sin(), size * (turn + math.pi / 2).sin()), dim=-1)
    return torch.stack((x, y))


class RotaryEmbeddingND(PositionEncoding):
    """RoPE for tokens with coordinates; the frequencies are one of the matrices above.

    Args:
        freqs: (A, D/2), or (A, H, D/2) for each head its own.
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
        if prefix < 0:
            raise ValueError(f"prefix must not be negative, got {prefix}")
        if freqs.ndim not in (2, 3):
            raise ValueError(f"freqs must have shape (A, D/2) or (A, H, D/2), got {tuple(freqs.shape)}")
        if sizes is not None and len(sizes) != freqs.shape[0]:
            raise ValueError(f"sizes must have {freqs.shape[0]} numbers, one an axis, got {len(sizes)}")
        self.sizes, self.kind, self.prefix, self.layout = sizes, kind, prefix, layout
        fixed = None if learned else freqs.detach().to(table_device(freqs.device)).double().clone()
        self.fixed_freqs = fixed  # no buffer: never cast
        self.learned_freqs = nn.Parameter(freqs.detach().float().clone()) if learned else None

    @property
    def freqs(self) -> Tensor:
        """Radians per unit of each coordinate, (A, D/2) or (A, H, D/2)."""
        freqs = self.fixed_freqs if self.learned_freqs is None else self.learned_freqs
        assert freqs is not None
        return freqs

    def forward(self, q: Tensor, k: Tensor, *, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate queries and keys.

        Args:
            q, k: (B, H, prefix + N, D).
            coordinates: of the tokens after the prefix, (N, A) or (B, N, A).

        Returns:
            Rotated q and k.

        Raises:
            ValueError: if the shapes differ from these.
        """
        dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        table = angles_nd(coordinates, self.freqs, dtype=dtype)
        table = nn.functional.pad(table, (0, 0, self.prefix, 0))  # angle 0 for the prefix
        return rotate(q, table, self.layout), rotate(k, table, self.layout)

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes, positions = self.freqs.shape[0], positions.to(table_device(positions.device))
        if self.sizes is None:
            cells = (positions - self.prefix).clamp(min=0)
            coordinates = cells[..., None].expand(*cells.shape, axes).double()
        else:
            grid = grid_coordinates(*self.sizes, kind=self.kind, device=positions.device)
            coordinates = nn.functional.pad(grid, (0, 0, self.prefix, 0))[positions]
        still = positions < self.prefix
        dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        table = angles_nd(coordinates.masked_fill(still[..., None], 0.0), self.freqs, dtype=dtype).to(
            q.device
        )
        return rotate(q, table, self.layout), rotate(k, table, self.layout), v

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RotaryEmbeddingND:
        super()._apply(keep_float32(fn), recurse)
        return self
