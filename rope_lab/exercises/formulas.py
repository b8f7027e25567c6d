"""The few formulas that the references share, written out once more so that they depend on nothing that is checked."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def theta(dim: int, base: float, slope: float = -2.0) -> Tensor:
    """The frequencies base^(slope·i/dim) of the pairs i, float64, shape (dim/2,)."""
    return base ** (slope * torch.arange(dim // 2, dtype=torch.float64) / dim)


def rotated(x: Tensor, angle: Tensor, layout: str = "interleaved") -> Tensor:
    """The pairs of x (..., D), turned counter-clockwise by `angle` (..., D/2)."""
    a, b = (x[..., ::2], x[..., 1::2]) if layout == "interleaved" else x.chunk(2, dim=-1)
    first, second = a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()
    return (
        torch.stack((first, second), dim=-1).flatten(-2)
        if layout == "interleaved"
        else torch.cat((first, second), -1)
    )


def matrix(angle: Tensor) -> Tensor:
    """The block-diagonal matrix that turns pair i by angle i: its columns are the turned unit vectors."""
    return rotated(torch.eye(2 * len(angle), dtype=torch.float64), angle).mT


def half_order(dim: int) -> Tensor:
    """The order of coordinates with half = interleaved[..., order]: evens, then odds."""
    return torch.cat((torch.arange(0, dim, 2), torch.arange(1, dim, 2)))


def sinusoids(positions: Tensor, freqs: Tensor) -> Tensor:
    """The vectors of positions: sine and cosine of each pair are neighbours."""
    angle = positions.to(torch.float64)[:, None] * freqs
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


def relative_part(A: Tensor) -> Tensor:
    """The part of A (C, C) that commutes with all rotations of the pairs."""
    kept = torch.zeros_like(A)
    for i in range(0, len(A), 2):
        u, v = (A[i, i] + A[i + 1, i + 1]) / 2, (A[i + 1, i] - A[i, i + 1]) / 2
        kept[i : i + 2, i : i + 2] = torch.stack((u, -v, v, u)).view(2, 2)
    return kept


def drift(A: Tensor, freqs: Tensor) -> tuple[int, int, int, float, float] | None:
    """Where p_m^T A p_n is not a function of m − n: positions m and n, a shift t, and the term before and after it."""
    p = sinusoids(torch.arange(400), freqs)
    terms = p @ A @ p.T
    for s in sorted(range(-10, 11), key=abs):
        along = terms.diagonal(s)
        t = int((along - along[0]).abs().argmax())
        if (along[t] - along[0]).abs() > 1e-4:
            return max(0, -s), max(0, s), t, float(along[0]), float(along[t])
    return None


EXPONENTS: dict[str, Callable[[int, float], Tensor]] = {
    "the minus in the exponent is missing: the frequencies fall from 1": lambda dim, base: theta(
        dim, base, 2
    ),
    "the exponent is −2i/dim, not −i/dim": lambda dim, base: theta(dim, base, -1),
    "the exponent is −2i/dim with i = 0, 1, 2, … for the pairs: yours is twice that, so i counts coordinates "
    "(0, 2, 4, …) or you divide by the number of pairs": lambda dim, base: theta(dim, base, -4),
    "the argument base is not used: these are the frequencies for 10,000": lambda dim, base: theta(
        dim, 10_000.0
    ),
    "pairs are counted from 0, so that the first frequency is 1": lambda dim, base: (
        theta(dim, base) * base ** (-2 / dim)
    ),
    "the exponent divides by dim/2 − 1, as the paper's code does; the formula divides by dim/2": lambda dim, base: (
        base ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim // 2 - 1))
    ),
    "all pairs turn at one frequency": lambda dim, base: theta(dim, 1.0),
    "the order of the pairs is reversed: the fastest comes first": lambda dim, base: theta(dim, base).flip(0),
}
"""What can be wrong with the frequencies: diagnosis → the frequencies that the mistake gives."""
