"""Checkers of chapter 2: the table by halves, a step further, a matrix that looks back, a position read off."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import EXPONENTS, half_order, matrix, sinusoids, theta
from rope_lab.exercises.reading import check_also_relative, check_position_of, check_text_positions

__all__ = [
    "check_also_relative",
    "check_look_back",
    "check_move_on",
    "check_position_of",
    "check_position_table",
    "check_text_positions",
]


def _halves(length: int, freqs: Tensor, first: float = 0) -> Tensor:
    angle = (first + torch.arange(length, dtype=torch.float64))[:, None] * freqs
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def _base(dim: int, period: float) -> float:
    """The base with which the slowest hand is back after `period` positions."""
    return (period / (2 * math.pi)) ** (dim / (dim - 2))


def _position_table(length: int, dim: int, period: float) -> Tensor:
    return _halves(length, theta(dim, _base(dim, period)))


def _table_draws(d: Draw) -> Iterator[Inputs]:
    yield 1, 4, 50.0
    yield 2, 4, d.one_of(20.0, 50.0)
    yield 3, 6, d.one_of(30.0, 70.0)
    yield d.whole(4, 6), 6, d.one_of(30.0, 70.0, 500.0)
    yield d.whole(7, 9), 8, 10_000.0


def _by_column(length: int, dim: int, period: float) -> Tensor:
    column = torch.arange(dim, dtype=torch.float64)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * _base(dim, period) ** (-2 * column / dim)
    return torch.where(column < dim // 2, angle.sin(), angle.cos())


def _of_base(base: Callable[[int, float], float]) -> Callable[..., Tensor]:
    return lambda length, dim, period: _halves(length, theta(dim, base(dim, period)))


check_position_table = Exercise(
    "2.1",
    "position_table",
    _position_table,
    _table_draws,
    {
        "the period is taken for the base": _of_base(lambda dim, period: period),
        "the slowest frequency is b^(2/C)/b, not 1/b: that changes the base you need": _of_base(
            lambda dim, period: period / (2 * math.pi)
        ),
        "a hand is back after 2π/θ positions, not after 1/θ": _of_base(
            lambda dim, period: period ** (dim / (dim - 2))
        ),
        "this is the interleaved order; here all sines come first": lambda *a: _position_table(*a)[
            :, half_order(a[1]).argsort()
        ],
        "the sines come first, then the cosines": lambda *a: _position_table(*a).roll(a[1] // 2, -1),
        "positions are counted from 0": lambda length, dim, period: _halves(
            length, theta(dim, _base(dim, period)), first=1
        ),
        "each column has its own frequency; sine and cosine of a pair share one": _by_column,
        "rows are positions and columns are coordinates; this is the transpose": lambda *a: (
            _position_table(*a).T
        ),
        "there are only sines": lambda *a: _position_table(*a)[:, : a[1] // 2],
        "the slowest hand turns half in the period; it has to be back": _of_base(
            lambda dim, period: (period / math.pi) ** (dim / (dim - 2))
        ),
        "the exponent is C/(C − 2), not (C − 2)/C": _of_base(
            lambda dim, period: (period / (2 * math.pi)) ** ((dim - 2) / dim)
        ),
        "the frequencies are multiples of the slowest; they are powers of one base": lambda length, dim, period: (
            _halves(length, 2 * math.pi / period * torch.arange(dim // 2, 0, -1, dtype=torch.float64))
        ),
    }
    | {
        why.replace("argument base", "argument period"): lambda length, dim, period, f=f: _halves(
            length, f(dim, _base(dim, period))
        )
        for why, f in EXPONENTS.items()
    },
    right="a vector for every position, and nothing stored.",
    properties={
        "position 0 has sines of 0 and cosines of 1": lambda y, length, dim, period: torch.allclose(
            y[0], torch.tensor([0.0, 1.0], dtype=torch.float64).repeat_interleave(dim // 2), atol=1e-5
        )
    },
)
"""Exercise 2.1: `position_table(length, dim, period)`, slowest hand back after `period`, sines first, (length, dim)."""


def _moved(p: Tensor, angle: Tensor, below: int = -1, *, reused: bool = False) -> Tensor:
    sin, cos = p[:, ::2], p[:, 1::2]
    first = sin * angle.cos() + cos * angle.sin()
    second = cos * angle.cos() + below * (first if reused else sin) * angle.sin()
    return torch.stack((first, second), dim=-1).flatten(-2)


def _move_on(p: Tensor, t: float, base: float) -> Tensor:
    return _moved(p, t * theta(p.shape[-1], base))


def _move_draws(d: Draw) -> Iterator[Inputs]:
    for dim, base in ((2, 50.0), (4, d.one_of(20.0, 70.0)), (6, d.one_of(30.0, 50.0)), (6, 10_000.0)):
        m = torch.tensor([d.real(1, 9), float(d.whole(40, 90)), 1000 + d.real(0, 99)], dtype=torch.float64)
        yield sinusoids(m, theta(dim, base)), d.one_of(5.0, 7.0, d.real(2, 9)), base
    yield sinusoids(torch.tensor([3.0, 2000.5]), theta(6, 50.0)), -d.real(2, 9), 50.0
    yield sinusoids(torch.tensor([12.5]), theta(4, 70.0)), 0.0, 70.0


def _by_slowest(p: Tensor, t: float, base: float) -> Tensor:
    freqs = theta(p.shape[-1], base)
    position = torch.atan2(p[:, -2], p[:, -1]) % (2 * math.pi) / freqs[-1]
    return sinusoids(position + t, freqs)


def _step_of_halves(p: Tensor, t: float, base: float) -> Tensor:
    order = half_order(p.shape[-1])
    return _move_on(p[:, order.argsort()], t, base)[:, order]


check_move_on = Exercise(
    "2.2",
    "move_on",
    _move_on,
    _move_draws,
    {
        "this moves back by t: with the sine first, moving on means turning clockwise": lambda p, t, base: (
            _move_on(p, -t, base)
        ),
        "you move on by one; the angles are t·θ_i": lambda p, t, base: _move_on(p, 1, base),
        "nothing moved": lambda p, t, base: p,
        "you assume that the rows are positions 0, 1, …; you are not told their positions": lambda p, t, base: (
            sinusoids(torch.arange(len(p)) + t, theta(p.shape[-1], base))
        ),
        "you read the position off the slowest hand, which fails once that hand has completed a turn; move each pair "
        "by its own angle": _by_slowest,
        "the two vectors are added; angles add, vectors do not": lambda p, t, base: (
            p + sinusoids(torch.full((len(p),), float(t)), theta(p.shape[-1], base))
        ),
        "the second row uses the first result; both take the old sine and cosine": lambda p, t, base: _moved(
            p, t * theta(p.shape[-1], base), reused=True
        ),
        "the minus of the second row is missing": lambda p, t, base: _moved(
            p, t * theta(p.shape[-1], base), 1
        ),
        "these are pairs (i, i + C/2); here sine and cosine are neighbours": _step_of_halves,
        "t is cut to a whole number; it can be real": lambda p, t, base: _move_on(p, int(t), base),
        "the values are correct, but not their order: sine and cosine are neighbours, as in p": (
            lambda p, t, base: _move_on(p, t, base)[:, half_order(p.shape[-1])]
        ),
        "the position is read off the fastest hand, which is back after six; move each pair itself": (
            lambda p, t, base: sinusoids(torch.atan2(p[:, 0], p[:, 1]) + t, theta(p.shape[-1], base))
        ),
    }
    | {why: lambda p, t, base, f=f: _moved(p, t * f(p.shape[-1], base)) for why, f in EXPONENTS.items()},
    right="one rule for all positions, including those that you do not know.",
    properties={
        "sin² + cos² of every pair stays 1, and here it does not": lambda y, p, t, base: torch.allclose(
            y.unflatten(-1, (-1, 2)).norm(dim=-1), torch.ones(1, dtype=torch.float64), atol=1e-4
        )
    },
    tolerance=1e-4,
)
"""Exercise 2.2: `move_on(p, t, base)` takes vectors (N, C) of unknown positions t positions further."""


def _look_back(r: float, dim: int, base: float) -> Tensor:
    return _in_halves(matrix(-r * theta(dim, base)))


def _in_halves(A: Tensor) -> Tensor:
    """A matrix between interleaved vectors, for vectors with all sines first."""
    order = half_order(len(A))
    return A[order][:, order]


def _look_draws(d: Draw) -> Iterator[Inputs]:
    yield 1.0, 2, 50.0
    yield d.real(2.1, 3.9), 2, 50.0
    yield 0.0, 4, 70.0
    yield 3.0, 4, d.one_of(30.0, 70.0)
    yield d.real(2.1, 7.9), 6, d.one_of(30.0, 70.0, 500.0)
    yield d.real(2.1, 7.9), 6, 10_000.0


check_look_back = Exercise(
    "2.3",
    "look_back",
    _look_back,
    _look_draws,
    {
        "this looks r tokens ahead": lambda r, dim, base: _look_back(-r, dim, base),
        "this is the identity: it peaks at the query itself": lambda r, dim, base: _look_back(0, dim, base),
        "this looks one token back, whatever r": lambda r, dim, base: _look_back(1, dim, base),
        "this looks one token ahead, whatever r": lambda r, dim, base: _look_back(-1, dim, base),
        "this looks twice as far": lambda r, dim, base: _look_back(2 * r, dim, base),
        "each score is the negative of the correct one": lambda r, dim, base: -_look_back(r, dim, base),
        "this is correct where sine and cosine are neighbours; here all sines come first": lambda r, dim, base: (
            matrix(-r * theta(dim, base))
        ),
        "this is correct where sine and cosine are neighbours, and looks ahead": lambda r, dim, base: matrix(
            r * theta(dim, base)
        ),
        "a product of two position vectors fits only one position; A has to serve every m": lambda r, dim, base: (
            torch.outer(_halves(1, theta(dim, base), r)[0], _halves(1, theta(dim, base))[0])
        ),
        "only the cosines are used: without the sines it looks both ways": lambda r, dim, base: (
            _look_back(r, dim, base).diag().diag()
        ),
        "r is cut to a whole number; it can be real": lambda r, dim, base: _look_back(int(r), dim, base),
        "the rows are reordered and the columns are not; both are coordinates of such vectors": (
            lambda r, dim, base: matrix(-r * theta(dim, base))[half_order(dim)]
        ),
        "the columns are reordered and the rows are not; both are coordinates of such vectors": (
            lambda r, dim, base: matrix(-r * theta(dim, base))[:, half_order(dim)]
        ),
        "this is reordered the wrong way, from halves to neighbours": lambda r, dim, base: matrix(
            -r * theta(dim, base)
        )[half_order(dim).argsort()][:, half_order(dim).argsort()],
        "this is the mean over the pairs; a score is their sum": lambda r, dim, base: (
            _look_back(r, dim, base) / (dim // 2)
        ),
    }
    | {why: lambda r, dim, base, f=f: _in_halves(matrix(-r * f(dim, base))) for why, f in EXPONENTS.items()},
    right="a head that looks back, in C numbers.",
    properties={
        "A is orthogonal, AᵀA = 1, and this matrix is not": lambda y, r, dim, base: torch.allclose(
            y.mT @ y, torch.eye(dim, dtype=torch.float64), atol=1e-4
        )
    },
)
"""Exercise 2.3: `look_back(r, dim, base)`: the A that looks r back between vectors with all sines first, (dim, dim)."""
