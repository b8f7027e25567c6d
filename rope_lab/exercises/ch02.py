"""Checkers of chapter 2: the table by halves, a step further, a matrix that looks back, a position read off."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import EXPONENTS, drift, half_order, matrix, relative_part, sinusoids, theta


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

LIMIT = 1000


def _best(p: Tensor, base: float, freqs: Tensor | None = None) -> Tensor:
    table = sinusoids(torch.arange(LIMIT), theta(p.shape[-1], base) if freqs is None else freqs)
    return p.double() @ table.T


def _position_of(p: Tensor, base: float) -> Tensor:
    return _best(p, base).argmax(dim=-1)


def _position_draws(d: Draw) -> Iterator[Inputs]:
    for dim, base in ((16, 10_000.0), (12, 2_000.0), (14, 5_000.0)):
        for chosen in (
            [d.whole(20, 400)],
            [0, 1, d.whole(2, 9), d.whole(30, 500), d.whole(501, 997), 998, 999],
        ):
            yield (100 * sinusoids(torch.tensor(chosen), theta(dim, base))).round() / 100, base


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


def _block(freqs: Tensor, i: int, j: int, block: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    """A matrix that couples hand i with hand j, and no others, (C, C)."""
    A = torch.zeros(2 * len(freqs), 2 * len(freqs), dtype=torch.float64)
    A[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = torch.tensor(block, dtype=torch.float64)
    return A


ROTATION, MIRROR, ONES = ((1.0, 0.0), (0.0, 1.0)), ((1.0, 0.0), (0.0, -1.0)), ((1.0, 1.0), (1.0, 1.0))


def _alike(freqs: Tensor) -> tuple[int, int] | None:
    """Two hands that turn at one speed."""
    couples = ((i, j) for i in range(len(freqs)) for j in range(i))
    return next(((i, j) for i, j in couples if freqs[i] == freqs[j]), None)


def _also_relative(freqs: Tensor) -> Tensor | None:
    couple = _alike(freqs)
    return _block(freqs, *couple, ROTATION) if couple else None


def _relative_draws(d: Draw) -> Iterator[Inputs]:
    a, b, c = ((4 + 3 * int(x) + d.whole(0, 1)) / 10 for x in d.order(8)[:3])  # apart by 0.2 or more, below π
    for freqs in ([a, b], [a, a], [a, b, a], [a, a / 2**0.5, b, c], [a, b, c, b]):
        yield (torch.tensor(freqs, dtype=torch.float64),)


def _not_relative(A: Tensor, freqs: Tensor) -> str:
    size = 2 * len(freqs)
    if A.shape != (size, size):
        return f"A couples {size} coordinates with {size}, got shape {tuple(A.shape)}."
    if not A.norm():
        return "A must not be 0."
    A = A / A.norm()
    share = float(relative_part(A).norm()) ** 2
    if share > 1e-8:
        return f"the relative part of A has to be 0, and it has {share:.0%} of the sum of squares."
    if found := drift(A, freqs):
        m, n, t, here, there = found
        at = f"{here:.3f} at ({m}, {n}), and {there:.3f} at ({m + t}, {n + t})"
        return f"with a sum of squares of 1, your A gives the term {at}."
    return ""


def _where_alike(block: tuple[tuple[float, float], tuple[float, float]]) -> Callable[[Tensor], Tensor | None]:
    return lambda freqs: _block(freqs, *couple, block) if (couple := _alike(freqs)) else None


check_also_relative = Exercise(
    "2.5",
    "also_relative",
    _also_relative,
    _relative_draws,
    {
        "the identity is its own relative part": lambda f: torch.eye(2 * len(f), dtype=torch.float64),
        "a mirror on the diagonal gives a function of m + n": lambda f: _block(f, 0, 0, MIRROR),
        "hands 0 and 1 are coupled, whatever their frequencies": lambda f: _block(f, 1, 0, ROTATION),
        "the hands are the right ones, but a mirror between them gives a function of m + n": _where_alike(
            MIRROR
        ),
        "the hands are the right ones, but a block of ones is a rotation and a mirror": _where_alike(ONES),
        "all hands are coupled with all": lambda f: torch.ones(2 * len(f), 2 * len(f), dtype=torch.float64),
    },
    right="two hands of one speed never drift apart.",
    fault=_not_relative,
)
"""Exercise 2.5: `also_relative(freqs)` is an A (C, C) with a relative term and no relative part, or None."""


def _text_positions(mask: Tensor) -> Tensor:
    return mask.cumsum(-1) - 1


def _mask_draws(d: Draw) -> Iterator[Inputs]:
    yield (torch.tensor([[1, 1]]),)
    yield (torch.tensor([[0, 1, 1]]),)
    yield (torch.tensor([[1, 1, 0, 0]]),)
    for width in (6, 8):
        rows = []
        for left, right in ((d.whole(1, 2), d.whole(1, 2)), (0, d.whole(2, 3)), (d.whole(3, 4), 0), (0, 0)):
            rows.append([0] * left + [1] * (width - left - right) + [0] * right)
        yield (torch.tensor(rows),)


def _miscounted(y: Tensor, mask: Tensor) -> str:
    for row, (own, is_text) in enumerate(zip(y, mask.bool(), strict=True)):
        counted, first = own[is_text], int(is_text.int().argmax())
        steps = counted.diff()
        where = f"the text in row {row} begins in column {first}: "
        if (steps != 1).any():
            t = int((steps != 1).int().argmax())
            return (
                f"{where}its tokens {t} and {t + 1} have the positions {counted[t]:g} and {counted[t + 1]:g}."
            )
        if counted[0] != 0:
            return f"{where}its first token has the position {counted[0]:g}."
    return ""


def _columns(mask: Tensor) -> Tensor:
    return torch.arange(mask.shape[1]).expand(mask.shape)


check_text_positions = Exercise(
    "2.6",
    "text_positions",
    _text_positions,
    _mask_draws,
    {
        "this is the function of the page, unmended": lambda mask: (
            _columns(mask) - (mask == 0).sum(-1, keepdim=True)
        ),
        "these are the columns; the padding before a text is counted": _columns,
        "positions are counted from 1": lambda mask: mask.cumsum(-1),
        "all texts are moved by the padding of the one that has most": lambda mask: (
            _columns(mask) - mask.argmax(-1).max()
        ),
        "the texts are counted on from row to row": lambda mask: (
            mask.flatten().cumsum(0).view(mask.shape) - 1
        ),
        "the count runs from the end of the text": lambda mask: mask.flip(-1).cumsum(-1).flip(-1) - 1,
    },
    right="every text begins at 0 now, wherever its padding is.",
    fault=_miscounted,
)
"""Exercise 2.6: `text_positions(mask)` counts the tokens of each padded text from 0, (B, N)."""
