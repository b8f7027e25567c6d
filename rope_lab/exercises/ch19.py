"""Checkers of chapter 19: pairs that never finish a turn, a base for a number of them, two factors, a misread field."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import theta

__all__ = [
    "check_base_leaving",
    "check_misread_error",
    "check_score_factors",
    "check_unfinished_pairs",
]


def _waves(base: float, rotated: int) -> list[float]:
    return [2 * math.pi * base ** (2 * i / rotated) for i in range(rotated // 2)]


def _unfinished(base: float, rotated: int, context: int) -> int:
    return sum(wave > context for wave in _waves(base, rotated))


def _count_draws(d: Draw) -> Iterator[Inputs]:
    yield d.one_of(50.0, 70.0), 2, d.whole(7, 90)
    yield d.one_of(50.0, 70.0), d.one_of(4, 6), d.whole(2, 5)
    yield d.one_of(2.0, 3.0), d.one_of(8, 10), d.whole(30, 90)
    for rotated in (8, 12, 64, 96):
        yield d.one_of(1_000.0, 10_000.0, 500_000.0), rotated, d.whole(40, 900)
    yield d.one_of(10_000.0, 500_000.0), 128, d.whole(2_000, 9_000)


def _counted(wavelength: Callable[[float, int, int], float], least: int = 0) -> Callable[..., int]:
    return lambda b, R, L: sum(wavelength(b, R, i) > L for i in range(least, R // 2 + least))


check_unfinished_pairs = Exercise(
    "19.1",
    "unfinished_pairs",
    _unfinished,
    _count_draws,
    {
        "these are the pairs that do finish a turn": lambda b, R, L: R // 2 - _unfinished(b, R, L),
        "a full turn is 2π radians; yours is one radian": _counted(lambda b, R, i: b ** (2 * i / R)),
        "a full turn is 2π radians; yours is π": _counted(lambda b, R, i: math.pi * b ** (2 * i / R)),
        "the exponent is 2i/R; yours is i/R": _counted(lambda b, R, i: 2 * math.pi * b ** (i / R)),
        "the exponent is 2i/R; yours is 4i/R, as if R were the number of pairs": _counted(
            lambda b, R, i: 2 * math.pi * b ** (4 * i / R)
        ),
        "these are coordinates; a pair has two of them": lambda b, R, L: 2 * _unfinished(b, R, L),
        "there are R/2 pairs; yours are R, with exponents up to 2": lambda b, R, L: sum(
            2 * math.pi * b ** (2 * i / R) > L for i in range(R)
        ),
        "one too many: the pairs are numbered from 0": lambda b, R, L: _unfinished(b, R, L) + 1,
        "the first pair has θ = 1; yours begin one step later": _counted(
            lambda b, R, i: 2 * math.pi * b ** (2 * i / R), 1
        ),
        "a wavelength grows with i; yours falls": _counted(lambda b, R, i: 2 * math.pi * b ** (-2 * i / R)),
        "this ignores the base": lambda b, R, L: _unfinished(10_000.0, R, L),
        "this is a share; count the pairs": lambda b, R, L: _unfinished(b, R, L) / (R // 2),
    },
    right="that is what the atlas computes for a row without scaling.",
)
"""Exercise 19.1: `unfinished_pairs(base, rotated, context)`, a number of pairs."""


def _base_leaving(count: int, rotated: int, context: float) -> float | None:
    pairs, turns = rotated // 2, context / (2 * math.pi)
    if turns >= 1:  # the first pair finishes, whatever the base
        return None if count == pairs else turns ** (pairs / (pairs - count - 0.5))
    return None if count == 0 else turns ** (pairs / (count - 0.5))  # a base below 1: later pairs are faster


def _base_draws(d: Draw) -> Iterator[Inputs]:
    yield 1, 2, d.whole(8, 90)
    yield 0, 4, d.whole(2, 5)
    yield 2, 4, d.whole(2, 5)
    yield d.one_of(1, 2), 6, d.whole(2, 5)
    yield 0, 6, d.whole(20, 90)
    yield 3, 6, d.whole(20, 90)
    yield d.whole(1, 3), 8, d.whole(200, 900)
    yield d.whole(2, 6), 16, d.whole(1_000, 9_000)


def _leaves(base: Tensor, count: int, rotated: int, context: float) -> str:
    value = float(base)
    if not 0 < value < math.inf:
        return f"a base is positive and finite, got {value:g}."
    found = _unfinished(value, rotated, int(context))
    return "" if found == count else f"base {value:.6g} leaves {found} of {rotated // 2} pairs unfinished."


def _guarded(base: Callable[[int, int, float], float | None]) -> Callable[..., float | None]:
    return lambda count, R, L: base(count, R, L) if _base_leaving(count, R, L) else None


def _for_count(change: int) -> Callable[..., float | None]:
    def base(count: int, rotated: int, context: float) -> float | None:
        return _base_leaving(min(max(count + change, 0), rotated // 2), rotated, context)

    return base


check_base_leaving = Exercise(
    "19.2",
    "base_leaving",
    _base_leaving,
    _base_draws,
    {
        "count is the number of pairs that do not finish; this is a base for the others": lambda c, R, L: (
            _base_leaving(R // 2 - c, R, L)
        ),
        "this base leaves one pair more": _for_count(1),
        "this base leaves one pair fewer": _for_count(-1),
        "a full turn is 2π radians; yours is one radian": _guarded(
            lambda c, R, L: L ** ((R // 2) / (R // 2 - c - 0.5))
        ),
        "this is the base at which only the last pair is close to one turn": _guarded(
            lambda c, R, L: (L / (2 * math.pi)) ** (R / (R - 1))
        ),
        "a base below 1 makes later pairs faster, so there is an answer in a short context, too": lambda c, R, L: (
            None if 2 * math.pi > L else _base_leaving(c, R, L)
        ),
        "this is 10,000 whatever is asked for": _guarded(lambda c, R, L: 10_000.0),
        "in a context of more than six tokens the first pair always finishes": lambda c, R, L: (
            _base_leaving(c, R, L) or (L * 1e9 if 2 * math.pi < L else None)
        ),
    },
    right="the first pair has the wavelength 2π for every base, which decides where there is none.",
    fault=_leaves,
)
"""Exercise 19.2: `base_leaving(count, rotated, context)`, a base that leaves so many pairs unfinished, or None."""


def _times(factor: float, mscale: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1


def _score_factors(factor: float, mscale: float, mscale_all_dim: float) -> Tensor:
    a, b = _times(factor, mscale), _times(factor, mscale_all_dim)
    return torch.tensor([(a / b) ** 2 * b**2, b**2], dtype=torch.float64)


def _factor_draws(d: Draw) -> Iterator[Inputs]:
    yield d.real(2, 9), 0.5, d.real(1, 2)
    yield d.real(30, 60), d.real(1, 2), 0.5
    yield d.real(100, 200), d.real(1, 2), d.real(0.1, 0.9)


def _pair(f: Callable[[float, float], tuple[float, float]]) -> Callable[..., Tensor]:
    return lambda s, m, n: torch.tensor(f(_times(s, m), _times(s, n)), dtype=torch.float64)


check_score_factors = Exercise(
    "19.3",
    "score_factors",
    _score_factors,
    _factor_draws,
    {
        "the attention multiplies scores itself, and a score holds cosine and sine twice": _pair(
            lambda a, b: (a / b, 1)
        ),
        "the attention also multiplies all scores itself": _pair(lambda a, b: ((a / b) ** 2, 1)),
        "a score is a product of a query and a key, and each of them was multiplied": _pair(
            lambda a, b: (a / b * b**2, b**2)
        ),
        "what the attention multiplies scores by is a square": _pair(lambda a, b: ((a / b) ** 2 * b, b)),
        "coordinates that do not turn are not multiplied by cosine and sine": _pair(
            lambda a, b: (a**2, a**2)
        ),
        "coordinates that turn are multiplied by cosine and sine as well": _pair(lambda a, b: (b**2, b**2)),
        "the two numbers are in the other order": _pair(lambda a, b: (b**2, a**2)),
        "the quotient is upside down": _pair(lambda a, b: ((b / a) ** 2 * b**2, b**2)),
        "the logarithm is the natural one": lambda s, m, n: _score_factors(s ** (1 / math.log(10)), m, n),
        "the 1 is outside of the product with mscale": lambda s, m, n: torch.tensor(
            [(m * _times(s, 1)) ** 2, (n * _times(s, 1)) ** 2], dtype=torch.float64
        ),
    },
    right="of the coordinates that turn, only mscale is left.",
)
"""Exercise 19.3: `score_factors(factor, mscale, mscale_all_dim)`, for coordinates that turn and others, shape (2,)."""


def _misread_error(right: Tensor, wrong: Tensor, s: Tensor) -> Tensor:
    return (2 - 2 * (s[:, None] * (wrong - right)).cos()).mean(-1).sqrt()


def _misread_draws(d: Draw) -> Iterator[Inputs]:
    yield (
        theta(4, 50.0),
        theta(4, d.one_of(30.0, 70.0)),
        torch.tensor([0.0, d.whole(1, 5)], dtype=torch.float64),
    )
    for rotated in (4, 8, 12):
        s = d.wholes(d.whole(2, 4), low=1, high=40).double().cumsum(0)
        yield theta(rotated, d.one_of(30.0, 70.0)), theta(rotated, d.one_of(50.0, 10_000.0)), s
    yield theta(6, 50.0), theta(6, 50.0) / d.real(2, 5), torch.tensor([1.0, 9.0, 60.0], dtype=torch.float64)


def _of_gap(f: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The same of s·(θ'_i − θ_i), shape (S, R/2)."""
    return lambda right, wrong, s: f(s[:, None] * (wrong - right))


check_misread_error = Exercise(
    "19.4",
    "misread_error",
    _misread_error,
    _misread_draws,
    {
        "this is the square of the error; take the root": _of_gap(lambda x: (2 - 2 * x.cos()).mean(-1)),
        "a factor of two is missing under the root": _of_gap(lambda x: (1 - x.cos()).mean(-1).sqrt()),
        "squares are averaged before the root, not after it": _of_gap(
            lambda x: (2 - 2 * x.cos()).sqrt().mean(-1)
        ),
        "this is a sum over the pairs; the size of the scores grows with their number, too": _of_gap(
            lambda x: (2 - 2 * x.cos()).sum(-1).sqrt()
        ),
        "only for small angles: 2 − 2 cos x is not x²": _of_gap(lambda x: x.square().mean(-1).sqrt()),
        "these angles add; the error comes from their difference": lambda right, wrong, s: (
            (2 - 2 * (s[:, None] * (wrong + right)).cos()).mean(-1).sqrt()
        ),
        "scores hold a sine as well as a cosine, unless the content is real": lambda right, wrong, s: (
            ((s[:, None] * wrong).cos() - (s[:, None] * right).cos()).square().mean(-1).sqrt()
        ),
        "this is the error of the pair that errs most": _of_gap(lambda x: (2 - 2 * x.cos()).amax(-1).sqrt()),
        "the mean belongs inside: average over pairs, not over distances": _of_gap(
            lambda x: (2 - 2 * x.cos()).mean().sqrt().expand(len(x))
        ),
    },
    right="so a misread field shows first in the pairs whose frequency it changes most.",
    tolerance=1e-4,
)
"""Exercise 19.4: `misread_error(right, wrong, s)`, the error of the scores in units of the scores, shape (S,)."""
