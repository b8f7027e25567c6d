"""Checkers of chapter 17: a broadcast, a rotation with the axes of Keras, kernels of weights, a row that turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import half_order, matrix, rotated, theta

__all__ = ["check_rotate_keras", "check_telltale", "check_to_kernel", "check_turned_by"]


def _turned_by(batch: int, tokens: int) -> Tensor:
    return torch.arange(tokens).reshape(-1, 1).expand(max(batch, tokens) if tokens > 1 else batch, tokens)


def _corrected(batch: int, tokens: int) -> Tensor:
    return torch.arange(tokens).expand(batch, tokens)


def _sizes_draws(d: Draw) -> Iterator[Inputs]:
    yield 1, d.whole(2, 3)
    yield 2, 2
    yield 3, 3
    yield d.whole(3, 5), 1
    yield 1, d.whole(5, 6)
    yield 1, 1
    same = d.whole(4, 7)
    yield same, same


check_turned_by = Exercise(
    "17.1",
    "turned_by",
    _turned_by,
    _sizes_draws,
    {
        "this is what the corrected index gives: the place of the token": _corrected,
        "the batch grows to one row per position where it has one row": lambda batch, tokens: _turned_by(
            batch, tokens
        )[:batch],
        "rows and tokens are exchanged: the position is that of the row": lambda batch, tokens: (
            _turned_by(batch, tokens).T if tokens > 1 else _turned_by(batch, tokens)
        ),
        "nothing tells the rows apart here; row r is turned by r": lambda batch, tokens: torch.zeros_like(
            _turned_by(batch, tokens)
        ),
        "the first position is 0": lambda batch, tokens: _turned_by(batch, tokens) + 1,
        "with one token per row the table has one row, of position 0": lambda batch, tokens: (
            torch.arange(max(batch, tokens)).reshape(-1, 1).expand(-1, tokens)
        ),
        "row and place are added; only the row counts": lambda batch, tokens: (
            _turned_by(batch, tokens) + torch.arange(tokens)
        ),
        "the entries are numbered one after the other; all tokens of a row are turned alike": (
            lambda batch, tokens: torch.arange(_turned_by(batch, tokens).numel()).reshape(-1, tokens)
        ),
    },
    right="so does NumPy's rule, on every backend of Keras.",
)
"""Exercise 17.1: `turned_by(batch, tokens)` is the position by which the copied layer turns each token, (rows, N)."""


def _turn(x: Tensor, positions: Tensor, base: float, layout: str = "half", way: int = 1) -> Tensor:
    """Rows of x (B, N, H, D) by positions (B, N)."""
    return rotated(x, way * positions[:, :, None, None] * theta(x.shape[-1], base), layout)


def _rotate_keras(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return _turn(x, positions, base)


def _tokens_draws(d: Draw) -> Iterator[Inputs]:
    for batch, tokens, heads, dim in (
        (1, 2, 1, 2),
        (1, 3, 1, 4),
        (2, 2, 2, 4),
        (2, 3, d.one_of(2, 4), 6),
        (3, 3, 3, d.one_of(4, 8)),
    ):
        places = d.wholes(batch, tokens, low=1, high=9)
        if batch == 1:
            places = places.cumsum(-1)
        yield d.tensor(batch, tokens, heads, dim), places, d.one_of(30.0, 70.0, 10_000.0)


def _on_axis(axis: int) -> Callable[..., Tensor]:
    """The place on an axis of x in place of the given positions."""

    def turned(x: Tensor, positions: Tensor, base: float) -> Tensor:
        place = torch.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(3)])
        return rotated(x, place[..., None] * theta(x.shape[-1], base))

    def as_half(x: Tensor, positions: Tensor, base: float) -> Tensor:
        order = half_order(x.shape[-1])
        return turned(x[..., order.argsort()], positions, base)[..., order]

    return as_half


check_rotate_keras = Exercise(
    "17.2",
    "rotate_keras",
    _rotate_keras,
    _tokens_draws,
    {
        "this turns clockwise": lambda x, m, base: _turn(x, m, base, way=-1),
        "this is the interleaved layout, which pairs (0, 1), (2, 3), …": lambda x, m, base: _turn(
            x, m, base, "interleaved"
        ),
        "all tokens of a row are turned alike, by the batch index": _on_axis(0),
        "the positions that are given are not used: token n is turned by n": _on_axis(1),
        "the number of the head is taken for the position: in Keras the axes are (B, N, H, D)": _on_axis(2),
        "all rows get the positions of the first row": lambda x, m, base: _turn(
            x, m[:1].expand(len(m), -1), base
        ),
        "the base is the one of the inputs, not always 10,000": lambda x, m, base: _turn(x, m, 10_000.0),
        "the exponent of pair i is −2i/D; yours is −i/D": lambda x, m, base: _turn(x, m, base**0.5),
        "the exponent of pair i is −2i/D; yours is −4i/D, as if D were the number of pairs": (
            lambda x, m, base: _turn(x, m, base**2)
        ),
        "this is x itself": lambda x, m, base: x,
        "the cosine goes with both terms; the partner comes with the sine": lambda x, m, base: (
            x * (angle := (m[:, :, None, None] * theta(x.shape[-1], base)).repeat(1, 1, 1, 2)).cos()
            + torch.cat((-x.chunk(2, -1)[1], x.chunk(2, -1)[0]), -1) * angle.cos()
        ),
        "the partner needs a minus in the first half: −b there, a in the second": lambda x, m, base: (
            x * (angle := (m[:, :, None, None] * theta(x.shape[-1], base)).repeat(1, 1, 1, 2)).cos()
            + torch.cat((x.chunk(2, -1)[1], x.chunk(2, -1)[0]), -1) * angle.sin()
        ),
    },
    right="every head of a token turns by the position of that token.",
    properties={
        "a rotation keeps the length of every head, and yours does not": lambda y, x, positions, base: (
            y.shape == x.shape and torch.allclose(y.norm(dim=-1).double(), x.norm(dim=-1), rtol=1e-4)
        )
    },
)
"""Exercise 17.2: `rotate_keras(x, positions, base)` is RoPE in the half layout for (B, N, H, D) and (B, N)."""


def _to_kernel(weight: Tensor, heads: int) -> Tensor:
    return weight.T.reshape(weight.shape[1], heads, -1)


def _weight_draws(d: Draw) -> Iterator[Inputs]:
    for heads, dim, width in (
        (1, 2, 2),
        (2, 2, 4),
        (2, 2, 3),
        (2, 4, 8),
        (4, 2, d.one_of(4, 6, 8)),
        (3, 4, 5),
    ):
        yield d.tensor(heads * dim, width), heads


check_to_kernel = Exercise(
    "17.3",
    "to_kernel",
    _to_kernel,
    _weight_draws,
    {
        "the shape is correct and the numbers are dealt out in another order; transpose before you reshape": (
            lambda weight, heads: weight.reshape(weight.shape[1], heads, -1)
        ),
        "the heads are taken one row at a time; a head is a block of consecutive rows": lambda weight, heads: (
            weight.T.reshape(weight.shape[1], -1, heads).mT
        ),
        "the axes are (C, D, H); Keras has the heads before their coordinates": lambda weight, heads: (
            weight.T.reshape(weight.shape[1], heads, -1).mT
        ),
        "the axes are (H, D, C); the input comes first in Keras": lambda weight, heads: weight.reshape(
            heads, -1, weight.shape[1]
        ),
        "this is the kernel of a Dense, (C, H·D); split its columns into heads": lambda weight, heads: (
            weight.T
        ),
        "the axes are (H, C, D); the input comes first in Keras": lambda weight, heads: _to_kernel(
            weight, heads
        ).transpose(0, 1),
        "the coordinates of each head are in the order of the half layout": lambda weight, heads: _to_kernel(
            weight, heads
        )[..., half_order(len(weight) // heads)],
        "the order of the heads is reversed": lambda weight, heads: _to_kernel(weight, heads).flip(1),
        "the sign is changed": lambda weight, heads: -_to_kernel(weight, heads),
    },
    right="entry (c, h, d) is the weight of input c in coordinate d of head h.",
)
"""Exercise 17.3: `to_kernel(weight, heads)` is the kernel (C, H, D) of Keras for a weight (H·D, C) of torch."""


def _rotation(row: int, freqs: Tensor) -> Tensor:
    """R_r in the half layout."""
    order = half_order(2 * len(freqs))
    return matrix(row * freqs)[order][:, order]


def _change(A: Tensor, row: int, freqs: Tensor) -> float:
    R = _rotation(row, freqs)
    return float((R.mT @ A @ R - A).abs().max())


def _unit(j: int, k: int, dim: int) -> Tensor:
    A = torch.zeros(dim, dim, dtype=torch.float64)
    A[j, k] = 1.0
    return A


def _telltale(row: int, freqs: Tensor) -> Tensor | None:
    dim = 2 * len(freqs)
    units = [_unit(j, k, dim) for j in range(dim) for k in range(dim)]
    best = max(units, key=lambda A: round(_change(A, row, freqs), 9))
    return best if _change(best, row, freqs) > 1e-6 else None


def _telltale_draws(d: Draw) -> Iterator[Inputs]:
    yield 0, theta(4, 50.0)
    yield d.whole(1, 2), theta(2, 50.0)
    yield 1, torch.tensor([math.pi], dtype=torch.float64)
    yield 1, math.pi * torch.tensor([1.0, 1.0], dtype=torch.float64)
    yield 1, math.pi * torch.tensor([1.0, 2.0], dtype=torch.float64)
    yield 2, math.pi * torch.tensor([0.5, 1.0, d.one_of(2.0, 3.0)], dtype=torch.float64)
    yield d.whole(1, 5), theta(d.one_of(6, 8), d.one_of(50.0, 70.0))


def _tells_nothing(A: Tensor, row: int, freqs: Tensor) -> str:
    dim = 2 * len(freqs)
    if A.shape != (dim, dim):
        return f"the matrix has {dim} rows and columns, got shape {tuple(A.shape)}."
    A = A.double()
    if not A.abs().max() > 0:
        return "all scores are 0 with it, in every row."
    if _change(A / A.abs().max(), row, freqs) > 1e-4:
        return ""
    return "R_rᵀ A R_r equals A there, so no score of that row changes."


def _unless_none(answer: Callable[[int], Tensor]) -> Callable[..., Tensor | None]:
    return lambda row, freqs: None if _telltale(row, freqs) is None else answer(2 * len(freqs))


def _quarter(dim: int) -> Tensor:
    """A quarter turn of every pair, half layout."""
    eye, none = torch.eye(dim // 2, dtype=torch.float64), torch.zeros(dim // 2, dim // 2, dtype=torch.float64)
    return torch.cat((torch.cat((none, -eye), 1), torch.cat((eye, none), 1)))


check_telltale = Exercise(
    "17.4",
    "telltale",
    _telltale,
    _telltale_draws,
    {
        "the identity commutes with every rotation": _unless_none(
            lambda n: torch.eye(n, dtype=torch.float64)
        ),
        "a matrix that turns and scales whole pairs commutes with R_r": _unless_none(_quarter),
        "where R_r is −1 it commutes with every matrix, and the two signs cancel": lambda row, freqs: (
            (_telltale(row, freqs) if _telltale(row, freqs) is not None else _unit(0, 0, 2 * len(freqs)))
            if row
            else None
        ),
        "in row 0 nothing is turned": lambda row, freqs: (
            _unit(0, 0, 2 * len(freqs)) if row == 0 else _telltale(row, freqs)
        ),
        "inside one pair nothing changes if that pair turns by a multiple of π; let the matrix couple two pairs": (
            _unless_none(lambda n: _unit(0, 0, n))
        ),
        "a matrix of zeros makes all scores 0": _unless_none(
            lambda n: torch.zeros(n, n, dtype=torch.float64)
        ),
        "the matrix has one row per coordinate, of which a pair has two": _unless_none(
            lambda n: _unit(0, 0, n // 2)
        ),
        "a diagonal matrix with two equal entries per pair commutes with R_r": _unless_none(
            lambda n: torch.arange(1.0, n // 2 + 1, dtype=torch.float64).repeat(2).diag()
        ),
    },
    right="the scores of a row do depend on its index, although they know no order.",
    fault=_tells_nothing,
)
"""Exercise 17.4: `telltale(row, freqs)` is an A = W_qᵀ W_k (D, D) that gives `row` other scores than row 0, or None."""
