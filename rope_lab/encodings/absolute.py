"""Absolute position encodings: a vector for each position, added to the token embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rope_lab.checks import can_read, check_integers
from rope_lab.encodings.base import PositionEncoding, Positions, as_positions
from rope_lab.encodings.rotary import angles, frequencies


def sinusoidal(
    positions: Positions, dim: int, base: float = 10_000.0, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Sinusoidal table: coordinate 2i is sin(m·θ_i), coordinate 2i + 1 is cos(m·θ_i), θ_i = base^(−2i/dim).

    Args:
        positions: token positions m, integer or real, shape (N,) or (B, N).
        dim: width C of the table, positive and even.
        base: of the frequencies.
        dtype: of the result, float32 or float64.

    Returns:
        Shape (N, C) or (B, N, C).

    Raises:
        ValueError: as `frequencies` and `angles`.

    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.5.
    """
    positions = as_positions(positions)
    table = angles(positions, frequencies(dim, base, device=positions.device), dtype=dtype)
    table = table if positions.ndim == 1 else table[:, 0]
    return torch.stack((table.sin(), table.cos()), dim=-1).flatten(-2)


class SinusoidalEmbedding(PositionEncoding):
    """Adds the sinusoidal table to the token embeddings. It has no parameters and no buffers.

    Args:
        dim: width C of the embeddings, positive and even.
        base: of the frequencies.

    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.5.
    """

    def __init__(self, dim: int, *, base: float = 10_000.0) -> None:
        super().__init__()
        frequencies(dim, base, device="cpu")  # a bad dim or base raises here, not at the first call
        self.dim, self.base = dim, float(base)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        return _add(x, sinusoidal(positions, self.dim, self.base, dtype=dtype))

    def extra_repr(self) -> str:
        return f"{self.dim}, base={self.base:g}"


class LearnedEmbedding(PositionEncoding):
    """Adds a trained vector for each position; beyond `max_positions` there is none.

    A position outside the table raises a ValueError on the CPU. Elsewhere, where reading it back would make the device
    wait, torch's own check stops the program.

    Args:
        max_positions: number of rows of the table.
        dim: width C of the embeddings.

    Raises:
        ValueError: if `max_positions` or `dim` is not positive.

    Source: Gehring et al. 2017 (arXiv:1705.03122), section 3.1.
    """

    def __init__(self, max_positions: int, dim: int) -> None:
        super().__init__()
        check_integers(max_positions=max_positions, dim=dim)
        self.table = nn.Embedding(max_positions, dim)
        nn.init.normal_(self.table.weight, std=0.02)

    @property
    def max_positions(self) -> int:
        return self.table.num_embeddings

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        if positions.is_floating_point() or positions.is_complex() or positions.dtype == torch.bool:
            raise ValueError(f"positions must be integers for a learned table, got {positions.dtype}")
        rows, positions = self.table.num_embeddings, positions.long()
        if positions.numel() and can_read(positions):
            low, high = (int(bound) for bound in positions.aminmax())
            if low < 0 or high >= rows:
                raise ValueError(f"positions must lie in 0..{rows - 1}, the learned table, got {low}..{high}")
        return _add(x, self.table(positions))


def _add(x: Tensor, table: Tensor) -> Tensor:
    if table.ndim not in (2, 3) or table.shape not in (x.shape, x.shape[-2:]):
        given = f"positions {tuple(table.shape[:-1])} and dim {table.shape[-1]}"
        raise ValueError(f"positions (N,) or (B, N) and dim C must fit x of {tuple(x.shape)}, got {given}")
    return (x + table).to(x.dtype)
