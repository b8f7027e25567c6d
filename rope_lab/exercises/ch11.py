"""Checkers of chapter 11: a factor for NTK, pairs that leave their arc, mapped positions, a dynamic base."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import theta

__all__ = ["check_dynamic_base", "check_leaving", "check_ntk_factor", "check_unequal"]


def _ntk_factor(dim: int, pair: int, factor: float) -> float:
    return float(factor ** ((dim / 2 - 1) / pair))


def _factor_draws(d: Draw) -> Iterator[Inputs]:
    for dim in (8, 12, d.one_of(20, 24), d.one_of(64, 128)):
        yield dim, d.whole(2, dim // 2 - 2), d.one_of(1.5, 2.0, 4.0, 8.0)
    yield 6, 2, d.one_of(2.0, 4.0)  # the last pair, which the factor itself divides
    yield 10, 1, d.one_of(2.0, 3.0)


check_ntk_factor = Exercise(
    "11.1",
    "ntk_factor",
    _ntk_factor,
    _factor_draws,
    {
        "with the factor itself only the last pair is divided by it": lambda D, i, s: s,
        "the exponent is inverted: a pair before the last needs a larger factor": lambda D, i, s: (
            s ** (i / (D / 2 - 1))
        ),
        "this multiplies the base; NTKAware takes a factor, and divides pair D/2 − 1 by it": lambda D, i, s: (
            s ** (D / (2 * i))
        ),
        "pairs are counted from 0, and yours are counted from 1": lambda D, i, s: (
            s ** ((D / 2 - 1) / (i + 1))
        ),
        "there are D/2 pairs, not D": lambda D, i, s: s ** ((D - 1) / i),
        "the ratio of the indices belongs in the exponent": lambda D, i, s: s * (D / 2 - 1) / i,
        "this is the factor that dynamic NTK reaches at the full length; it does not depend on the pair": (
            lambda D, i, s: s * s - s + 1
        ),
        "divide with /: // rounds the exponent down": lambda D, i, s: s ** ((D // 2 - 1) // i),
        "this is the logarithm of the factor": lambda D, i, s: (D / 2 - 1) / i * math.log(s),
    },
    right="slower pairs are divided by more, so from this pair on every pair is divided by at least the factor.",
    properties={
        "with a smaller factor than the one asked for, no pair is divided by enough": lambda y, D, i, s: bool(
            y >= s
        ),
    },
    tolerance=1e-6,
)
"""Exercise 11.1: `ntk_factor(dim, pair, factor)`, with which NTK-aware scaling divides this pair by `factor`."""


def _turn(length: float, freqs: Tensor) -> Tensor:
    return length * freqs >= 2 * math.pi


def _leaving(freqs: Tensor, scaled: Tensor, length: int, longer: int) -> int:
    return int((~_turn(length, freqs) & (longer * scaled > length * freqs * (1 + 1e-9))).sum())


def _arc_draws(d: Draw) -> Iterator[Inputs]:
    for pairs, base in ((4, 200.0), (6, 500.0), (8, 1000.0), (12, 10_000.0), (16, 10_000.0)):
        length, rho = d.whole(30, 60), d.one_of(2, 4)
        freqs = theta(2 * pairs, base)
        i = torch.arange(pairs)
        kind = d.one_of("ntk", "turned", "mixed")
        if kind == "ntk":
            scaled = freqs * float(rho) ** -(i / (pairs - 1))
        elif kind == "turned":  # more for the fast pairs than for the slow ones
            scaled = freqs * float(rho) ** -(1.2 * (1 - i / pairs))
        else:
            scaled = freqs / d.real(1.1, rho - 0.1)
        yield freqs, scaled, length, rho * length
    freqs = theta(10, 300.0)
    yield freqs, freqs / 2, d.whole(30, 60), 500
    yield freqs, freqs / 8, 40, 320
    slower = theta(16, 10_000.0)
    yield slower, torch.where(torch.arange(8) < 6, slower, slower / 40), d.whole(30, 60), 900


check_leaving = Exercise(
    "11.2",
    "leaving",
    _leaving,
    _arc_draws,
    {
        "a pair that completed a turn has seen every angle; it cannot leave": lambda f, g, L, M: int(
            (M * g > L * f * (1 + 1e-9)).sum()
        ),
        "whether a pair completed a turn is decided by its old frequency and the trained length": (
            lambda f, g, L, M: int((~_turn(L, g) & (M * g > L * f * (1 + 1e-9))).sum())
        ),
        "these are the pairs that completed no turn in training; some of them may stay in their arc": (
            lambda f, g, L, M: int((~_turn(L, f)).sum())
        ),
        "these are the pairs that stay in their arc": lambda f, g, L, M: int(
            (~_turn(L, f)).sum() - _leaving(f, g, L, M)
        ),
        "these are all pairs without the ones that leave": lambda f, g, L, M: len(f) - _leaving(f, g, L, M),
        "the new frequencies belong to the longer text, the old ones to the trained length": (
            lambda f, g, L, M: int((~_turn(L, f) & (L * g > L * f * (1 + 1e-9))).sum())
        ),
        "a turn has 2π radians; yours is one radian": lambda f, g, L, M: int(
            ((L * f < 1) & (M * g > L * f * (1 + 1e-9))).sum()
        ),
        "a turn has 2π radians; yours has π": lambda f, g, L, M: int(
            ((L * f < math.pi) & (M * g > L * f * (1 + 1e-9))).sum()
        ),
        "the arc of n tokens ends at n·θ here; yours ends at (n − 1)·θ": lambda f, g, L, M: int(
            (~_turn(L - 1, f) & ((M - 1) * g > (L - 1) * f * (1 + 1e-9))).sum()
        ),
        "a pair leaves its arc even if it does not complete a turn in the longer text": lambda f, g, L, M: (
            int((~_turn(L, f) & _turn(M, g)).sum())
        ),
    },
    right="every other pair meets only angles that it met in training.",
    properties={
        "no more pairs can leave than completed no turn in training": lambda y, f, g, L, M: bool(
            y <= (~_turn(L, f)).sum()
        ),
    },
)
"""Exercise 11.2: `leaving(freqs, scaled, length, longer)`, how many pairs meet angles that are new to them."""


def _unequal(places: Tensor) -> tuple[int, int, int] | None:
    steps = places.diff()
    for i in range(len(steps) - 1):
        if abs(float(steps[i + 1] - steps[i])) > 1e-9:
            return i + 1, i, 1
    return None


def _place_draws(d: Draw) -> Iterator[Inputs]:
    n = torch.arange(6, dtype=torch.float64)
    yield (n / d.one_of(2, 4) + d.real(0.1, 3),)
    yield (torch.tensor([0.0, 1.0, 2.0 + d.real(0.1, 0.9)], dtype=torch.float64),)
    count = d.whole(8, 12)
    m = torch.arange(count, dtype=torch.float64)
    kept = d.whole(2, 4)
    yield (torch.where(m < kept, m, kept - 1 + (m - kept + 1) / 4),)  # the first tokens unscaled
    yield (m.clamp(max=d.whole(3, 5)),)
    yield ((1 + m).log(),)
    yield (-m * d.real(0.1, 2),)
    yield (torch.cat((m, m + count + 2)),)


def _no_shift(y: Tensor, places: Tensor) -> str:
    if y.shape != (3,) or bool((y != y.round()).any()):
        return "return three whole numbers m, n, t."
    m, n, t = (int(x) for x in y)
    if min(m, n, m + t, n + t) < 0 or max(m, n, m + t, n + t) >= len(places):
        return f"m, n, m + t and n + t must be tokens 0 to {len(places) - 1}."
    before, after = (float(places[a] - places[b]) for a, b in ((m, n), (m + t, n + t)))
    if abs(before - after) > 1e-9:
        return ""
    return f"the difference of the places is {before:.4f} before the shift and after it."


def _where(answer: Callable[[Tensor], object]) -> Callable[[Tensor], object]:
    """An answer for places that have one."""
    return lambda places: answer(places) if _unequal(places) else None


check_unequal = Exercise(
    "11.3",
    "unequal",
    _unequal,
    _place_draws,
    {
        "a shift by 0 changes nothing": _where(lambda places: (1, 0, 0)),
        "the distance of a token from itself is 0 wherever it is": _where(lambda places: (0, 0, 1)),
        "the first tokens need not be where the map bends": _where(lambda places: (1, 0, 1)),
        "the last tokens need not be where the map bends": _where(
            lambda places: (len(places) - 2, len(places) - 3, 1)
        ),
        "there is no token after the last one": _where(lambda places: (len(places) - 1, 0, 1)),
    },
    right="a shift changes no difference of places exactly if all steps of the map are equal.",
    fault=_no_shift,
)
"""Exercise 11.3: `unequal(places)` is (m, n, t) where mapped places make a score change with a shift, or None."""


def _stretch(factor: float, length: int, trained: int) -> float:
    return factor * max(length, trained) / trained - (factor - 1)


def _dynamic_base(dim: int, base: float, factor: float, length: int, trained: int) -> float:
    return float(base * _stretch(factor, length, trained) ** (dim / (dim - 2)))


def _base_draws(d: Draw) -> Iterator[Inputs]:
    dim, base = d.one_of(8, 16, 64), d.one_of(100.0, 1000.0, 10_000.0)
    trained = d.whole(20, 60)
    yield dim, base, 2.0, trained // 4, trained  # its stretch would be negative
    yield dim, base, d.one_of(2.0, 4.0), trained - 2, trained  # and here between 0 and 1
    yield dim, base, 4.0, trained, trained
    yield 4, base, d.one_of(2.0, 4.0), 2 * trained + 1, trained
    yield dim, base, d.one_of(1.5, 3.0), d.whole(3, 5) * trained, trained
    yield d.one_of(32, 128), base, 1.0, 3 * trained + 2, trained


def _by(stretch: Callable[[float, int, int], float]) -> Callable[..., float]:
    return lambda D, b, s, N, L: b * stretch(s, N, L) ** (D / (D - 2))


check_dynamic_base = Exercise(
    "11.4",
    "dynamic_base",
    _dynamic_base,
    _base_draws,
    {
        "this is the function of the page: up to the trained length the base stays as it is": _by(
            lambda s, N, L: s * N / L - (s - 1)
        ),
        "the negative number is gone, but texts shorter than the trained length still get another base": _by(
            lambda s, N, L: abs(s * N / L - (s - 1))
        ),
        "this is the base for the full length: the length of the text is not used": _by(
            lambda s, N, L: s * s - s + 1
        ),
        "the stretch is held at 1 by the factor, not by the length": _by(
            lambda s, N, L: max(s, s * N / L - (s - 1))
        ),
        "a stretch below 1 is 1, not 0": _by(lambda s, N, L: max(0.0, s * N / L - (s - 1))),
        "the exponent D/(D − 2) is missing": lambda D, b, s, N, L: b * _stretch(s, N, L),
        "the exponent is D/(D − 2), not its inverse": lambda D, b, s, N, L: (
            b * _stretch(s, N, L) ** ((D - 2) / D)
        ),
        "this is the stretch; return the base": lambda D, b, s, N, L: _stretch(s, N, L),
        "this is plain NTK-aware scaling by the ratio of the lengths": _by(lambda s, N, L: max(1.0, N / L)),
        "beyond the trained length the formula of the page was correct": lambda D, b, s, N, L: b,
    },
    right="a short text is read with the base of training, a longer one with a larger base.",
    properties={
        "a base is never below the trained one": lambda y, D, b, s, N, L: bool(y >= b * (1 - 1e-9)),
    },
)
"""Exercise 11.4: `dynamic_base(dim, base, factor, length, trained)`, the base of dynamic NTK at this length."""
