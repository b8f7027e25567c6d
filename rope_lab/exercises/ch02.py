"""Checkers of chapter 2: the table by halves, a step further, a matrix that looks back, a position read off."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import EXPONENTS, half_order, matrix, theta


def _halves(length: int, freqs: Tensor, first: int = 0) -> Tensor:
    angle = torch.arange(first, first + length, dtype=torch.float64)[:, None] * freqs
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def _position_table(length: int, dim: int, base: float) -> Tensor:
    return _halves(length, theta(dim, base))


def _table_draws(d: Draw) -> Iterator[Inputs]:
    yield 1, 2, 50.0
    yield 2, 4, d.one_of(20.0, 50.0)
    yield 3, 4, d.one_of(30.0, 70.0)
    yield d.whole(4, 6), 6, d.one_of(30.0, 70.0, 500.0)
    yield d.whole(7, 9), 8, 10_000.0


def _by_column(length: int, dim: int, base: float) -> Tensor:
    column = torch.arange(dim, dtype=torch.float64)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * base ** (-2 * column / dim)
    return torch.where(column < dim // 2, angle.sin(), angle.cos())


check_position_table = Exercise(
    "2.1",
    "position_table",
    _position_table,
    _table_draws,
    {
        "this is the interleaved order; here all sines come first": lambda length, dim, base: _position_table(
            length, dim, base
        )[:, half_order(dim).argsort()],
        "the sines come first, then the cosines": lambda length, dim, base: _position_table(
            length, dim, base
        ).roll(dim // 2, -1),
        "positions are counted from 0": lambda length, dim, base: _halves(length, theta(dim, base), first=1),
        "each column has its own frequency; sine and cosine of a pair share one": _by_column,
        "rows are positions and columns are coordinates; this is the transpose": lambda *a: (
            _position_table(*a).T
        ),
        "there are only sines": lambda length, dim, base: _position_table(length, dim, base)[:, : dim // 2],
    }
    | {why: lambda length, dim, base, f=f: _halves(length, f(dim, base)) for why, f in EXPONENTS.items()},
    right="a vector for every position, and nothing stored.",
    properties={
        "position 0 has sines of 0 and cosines of 1": lambda y, length, dim, base: torch.allclose(
            y[0], torch.tensor([0.0, 1.0], dtype=torch.float64).repeat_interleave(dim // 2), atol=1e-5
        )
    },
)
"""Exercise 2.1: `position_table(length, dim, base)`, all sines first, shape (length, dim)."""


def _at(positions: Tensor, freqs: Tensor) -> Tensor:
    """The vectors of positions: sine and cosine of each pair are neighbours."""
    angle = positions.to(torch.float64)[:, None] * freqs
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


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
        yield _at(m, theta(dim, base)), d.one_of(5.0, 7.0, d.real(2, 9)), base
    yield _at(torch.tensor([3.0, 2000.5]), theta(6, 50.0)), -d.real(2, 9), 50.0
    yield _at(torch.tensor([12.5]), theta(4, 70.0)), 0.0, 70.0


def _by_slowest(p: Tensor, t: float, base: float) -> Tensor:
    freqs = theta(p.shape[-1], base)
    position = torch.atan2(p[:, -2], p[:, -1]) % (2 * math.pi) / freqs[-1]
    return _at(position + t, freqs)


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
            _at(torch.arange(len(p)) + t, theta(p.shape[-1], base))
        ),
        "you read the position off the slowest hand, which fails once that hand has completed a turn; move each pair "
        "by its own angle": _by_slowest,
        "the two vectors are added; angles add, vectors do not": lambda p, t, base: (
            p + _at(torch.full((len(p),), float(t)), theta(p.shape[-1], base))
        ),
        "the second row uses the first result; both take the old sine and cosine": lambda p, t, base: _moved(
            p, t * theta(p.shape[-1], base), reused=True
        ),
        "the minus of the second row is missing": lambda p, t, base: _moved(
            p, t * theta(p.shape[-1], base), 1
        ),
        "these are pairs (i, i + C/2); here sine and cosine are neighbours": _step_of_halves,
        "t is cut to a whole number; it can be real": lambda p, t, base: _move_on(p, int(t), base),
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
    return matrix(-r * theta(dim, base))


def _look_draws(d: Draw) -> Iterator[Inputs]:
    yield 1.0, 2, 50.0
    yield d.real(2.1, 3.9), 2, 50.0
    yield 0.0, 4, 70.0
    yield 3.0, 4, d.one_of(30.0, 70.0)
    yield d.real(2.1, 7.9), 6, d.one_of(30.0, 70.0, 500.0)
    yield d.real(2.1, 7.9), 6, 10_000.0


def _outer(r: float, dim: int, base: float) -> Tensor:
    then, now = _at(torch.tensor([0.0, r]), theta(dim, base))
    return torch.outer(now, then)


check_look_back = Exercise(
    "2.3",
    "look_back",
    _look_back,
    _look_draws,
    {
        "this is R_r; it looks r tokens ahead": lambda r, dim, base: _look_back(-r, dim, base),
        "this is the identity: it peaks at the query itself": lambda r, dim, base: _look_back(0, dim, base),
        "this looks one token back, whatever r": lambda r, dim, base: _look_back(1, dim, base),
        "this looks one token ahead, whatever r": lambda r, dim, base: _look_back(-1, dim, base),
        "this looks twice as far": lambda r, dim, base: _look_back(2 * r, dim, base),
        "each score is the negative of the correct one": lambda r, dim, base: -_look_back(r, dim, base),
        "this is correct for tables with all sines first; here pairs are neighbours": lambda r, dim, base: (
            _look_back(r, dim, base)[half_order(dim)][:, half_order(dim)]
        ),
        "a product of two position vectors fits only one position; A has to serve every m": _outer,
        "only the cosines are used: without the sines it looks both ways": lambda r, dim, base: (
            _look_back(r, dim, base).diag().diag()
        ),
        "r is cut to a whole number; it can be real": lambda r, dim, base: _look_back(int(r), dim, base),
    }
    | {why: lambda r, dim, base, f=f: matrix(-r * f(dim, base)) for why, f in EXPONENTS.items()},
    right="a head that looks back, in C numbers.",
    properties={
        "A is orthogonal, AᵀA = 1, and this matrix is not": lambda y, r, dim, base: torch.allclose(
            y.mT @ y, torch.eye(dim, dtype=torch.float64), atol=1e-4
        )
    },
)
"""Exercise 2.3: `look_back(r, dim, base)` is the A with p_m^T A p_n = Σ cos((m − n − r)·θ_i), (dim, dim)."""

LIMIT = 1000


def _best(p: Tensor, base: float, freqs: Tensor | None = None) -> Tensor:
    table = _at(torch.arange(LIMIT), theta(p.shape[-1], base) if freqs is None else freqs)
    return p.double() @ table.T


def _position_of(p: Tensor, base: float) -> Tensor:
    return _best(p, base).argmax(dim=-1)


def _position_draws(d: Draw) -> Iterator[Inputs]:
    for dim, base in ((16, 10_000.0), (12, 2_000.0), (14, 5_000.0)):
        for chosen in (
            [d.whole(20, 400)],
            [0, 1, d.whole(2, 9), d.whole(30, 500), d.whole(501, 997), 998, 999],
        ):
            yield (100 * _at(torch.tensor(chosen), theta(dim, base))).round() / 100, base


def _by_hand(p: Tensor, base: float, pair: int) -> Tensor:
    hand = torch.atan2(p[:, 2 * pair], p[:, 2 * pair + 1]) % (2 * math.pi)
    return (hand / theta(p.shape[-1], base)[pair]).round().long()


check_position_of = Exercise(
    "2.4",
    "position_of",
    _position_of,
    _position_draws,
    {
        "this reads only the fastest hand, which is back after six positions": lambda p, base: _by_hand(
            p, base, 0
        ),
        "this reads only the slowest hand; the rounding hides its steps": lambda p, base: _by_hand(
            p, base, p.shape[-1] // 2 - 1
        ),
        "positions are counted from 0: yours are one too high": lambda p, base: _position_of(p, base) + 1,
        "positions are counted from 0: yours are one too low, as if the table began at 1": lambda p, base: (
            _position_of(p, base) - 1
        ),
        "the pairs are in the wrong order: the fastest comes first": lambda p, base: _best(
            p, base, theta(p.shape[-1], base).flip(0)
        ).argmax(dim=-1),
        "this is the farthest position: take the largest inner product": lambda p, base: _best(
            p, base
        ).argmin(dim=-1),
        "the argument base is not used: this is the table for 10,000": lambda p, base: _position_of(
            p, 10_000.0
        ),
        "asin gives the same angle on both sides of a quarter turn; atan2 of sine and cosine tells them apart": (
            lambda p, base: (p[:, -2].clamp(-1, 1).asin() / theta(p.shape[-1], base)[-1]).round().long()
        ),
    },
    right="every hand was read, and the clock told the position.",
)
"""Exercise 2.4: `position_of(p, base)` reads integer positions below 1,000 off rounded vectors (N, C)."""
