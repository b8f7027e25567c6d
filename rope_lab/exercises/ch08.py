"""Checkers of chapter 8: positions that are left, digits that are needed, scores that move, far tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import theta

__all__ = ["check_digits_needed", "check_distinct", "check_far_tables", "check_moves"]


def _nearest(m: int, p: int) -> int:
    """A whole number with p significant binary digits, ties to even."""
    unit = 1 << max(0, m.bit_length() - p)
    whole, rest = divmod(m, unit)
    return unit * (whole + (2 * rest > unit or (2 * rest == unit and whole % 2 == 1)))


def _distinct(N: int, p: int) -> int:
    return len({_nearest(m, p) for m in range(N)})


def _distinct_draws(d: Draw) -> Iterator[Inputs]:
    yield d.whole(11, 15), 2
    yield d.whole(33, 63), 3
    yield d.whole(70, 120), 8  # every one of them is exact
    yield 1024, d.one_of(5, 6, 7)
    yield d.whole(520, 900), 8
    yield d.whole(2100, 4000), d.one_of(8, 11)


def _formula(round_up: bool) -> Callable[[int, int], int]:
    """Equation 8.2 for a neighbouring power of two."""

    def count(N: int, p: int) -> int:
        k = (N - 1).bit_length() if round_up else N.bit_length() - 1
        return 2**p + 1 + (k - p) * 2 ** (p - 1) if k >= p else min(N, 2**k)

    return count


check_distinct = Exercise(
    "8.1",
    "distinct",
    _distinct,
    _distinct_draws,
    {
        "this is equation 8.2 for the next power of two; N may lie between two of them": _formula(True),
        "this is equation 8.2 for the last power of two; N may lie beyond it": _formula(False),
        "this counts the positions that the type has exactly; the last ones may be rounded up to N or above": (
            lambda N, p: sum(_nearest(m, p) == m for m in range(N))
        ),
        "this is the number of positions that are lost": lambda N, p: N - _distinct(N, p),
        "this is the number of positions that change; a changed position may still be different from all others": (
            lambda N, p: sum(_nearest(m, p) != m for m in range(N))
        ),
        "p counts all significant digits; you have one more": lambda N, p: _distinct(N, p + 1),
        "p counts all significant digits; you have one less": lambda N, p: _distinct(N, p - 1),
        "position 0 is missing": lambda N, p: _distinct(N, p) - 1,
        "above 2^p some positions are still left": lambda N, p: min(N, 2**p + 1),
        "this many would be left of twice as many positions": lambda N, p: _distinct(2 * N, p),
        "p is a number of digits, not the number of values": lambda N, p: min(N, p),
    },
    right="these are all the places that a model can tell apart.",
    properties={
        "no cast makes more positions than there are": lambda y, N, p: bool(y <= N),
        "all positions up to 2^p are exact, so that many are left at least": lambda y, N, p: bool(
            y >= min(N, 2**p)
        ),
    },
)
"""Exercise 8.1: `distinct(N, p)` is how many of the positions 0, …, N − 1 differ when p binary digits are kept."""


def _digits(ratio: float, roundings: int = 3) -> int:
    p = 1
    while (1 + 2.0**-p) ** roundings - 1 > ratio:
        p += 1
    return p


def _digits_needed(N: int, error: float) -> int:
    return _digits(error / N)


def _digits_draws(d: Draw) -> Iterator[Inputs]:
    for part in (
        1.15,
        1.6,
        1.25,
        1.8,
    ):  # of a power of two, so that three roundings need one digit or two more than one
        error = d.one_of(0.1, 0.2, 0.3)
        yield round(error * part * 2 ** d.whole(12, 20)), error
    yield d.whole(9, 10) * 1_000_000, 0.01


check_digits_needed = Exercise(
    "8.2",
    "digits_needed",
    _digits_needed,
    _digits_draws,
    {
        "there are three roundings, of position, frequency and product; this is for one of them": lambda N, error: (
            _digits(error / N, 1)
        ),
        "there are three roundings, of position, frequency and product; this is for two of them": lambda N, error: (
            _digits(error / N, 2)
        ),
        "this is one digit more than are needed": lambda N, error: _digits(error / N) + 1,
        "this is one digit too few": lambda N, error: _digits(error / N) - 1,
        "these are decimal digits; p counts binary ones": lambda N, error: math.ceil(
            math.log10(3 * N / error)
        ),
        "this is an error relative to the angle; the error is in radians": lambda N, error: _digits(error),
        "the argument error is not used: this is for one radian": lambda N, error: _digits(1 / N),
        "the error is in radians, not in degrees": lambda N, error: _digits(math.radians(error) / N),
        "the error is in radians, not in turns": lambda N, error: _digits(math.tau * error / N),
        "the argument N is not used: this is for ten million": lambda N, error: _digits(error / 10_000_000),
    },
    right="with one digit less, the bound would allow a larger error.",
    properties={
        "with so many digits the bound is still above the error": lambda y, N, error: bool(
            (1 + 2.0 ** -float(y)) ** 3 - 1 <= error / N
        ),
    },
)
"""Exercise 8.2: `digits_needed(N, error)` is the smallest p for which equation 8.3 keeps angles to `error` radians."""


def _keep(x: Tensor, p: int) -> Tensor:
    """x with p significant binary digits, ties to even."""
    fraction, exponent = torch.frexp(x)
    return torch.ldexp((fraction * 2**p).round(), exponent - p)


def _score(of: str, p: int, freqs: Tensor, m: float, n: float) -> float:
    """The score of all-ones at positions m and n where the positions, frequencies or angles keep p digits."""
    at = torch.tensor([[m], [n]], dtype=torch.float64)
    if of == "position":
        at = _keep(at, p)
    angle = at * (_keep(freqs, p) if of == "frequency" else freqs)
    angle = _keep(angle, p) if of == "angle" else angle
    return float((angle[0] - angle[1]).cos().sum())


def _moves(of: str, p: int, freqs: Tensor) -> tuple[int, int, int] | None:
    return None if of == "frequency" else (1, 0, 2 ** (p + 2))


def _moves_draws(d: Draw) -> Iterator[Inputs]:
    yield "position", d.whole(3, 6), theta(2, 50.0)
    for of in ("frequency", "position", "angle"):
        yield of, d.whole(3, 8), theta(4, d.real(20, 90))
    for of in ("angle", "frequency", "position"):
        yield of, d.whole(4, 10), theta(d.one_of(6, 8), d.real(20, 90))


def _unmoved(y: Tensor, of: str, p: int, freqs: Tensor) -> str:
    if y.shape != (3,) or bool((y != y.round()).any()):
        return "return three whole numbers m, n, t."
    m, n, t = (int(x) for x in y)
    if min(m, n, m + t, n + t) < 0 or max(m, n, m + t, n + t) > 100_000:
        return "all four positions must lie between 0 and 100,000."
    before, after = _score(of, p, freqs, m, n), _score(of, p, freqs, m + t, n + t)
    if abs(before - after) > 1e-3:
        return ""
    return f"the score is {before:.4f} at m, n and {after:.4f} at m + t, n + t."


def _if(*kinds: str) -> Callable[[Callable[[int], tuple[int, int, int]]], Callable[..., object]]:
    """The answer for these kinds of rounding, None for the others."""
    return lambda answer: lambda of, p, freqs: answer(p) if of in kinds else None


check_moves = Exercise(
    "8.3",
    "moves",
    _moves,
    _moves_draws,
    {
        "a rounded frequency is another frequency, and with any frequencies the score depends on the distance "
        "alone": _if("position", "angle", "frequency")(lambda p: (1, 0, 2 ** (p + 2))),
        "all positions up to 2^p are exact; move beyond them": _if("position", "angle")(lambda p: (1, 0, 1)),
        "without a shift nothing moves": _if("position", "angle")(lambda p: (1, 0, 0)),
        "a token is at distance 0 from itself, wherever it is": _if("position", "angle")(
            lambda p: (0, 0, 2 ** (p + 2))
        ),
        "rounded angles are not multiples of the position any more": _if("position")(
            lambda p: (1, 0, 2 ** (p + 2))
        ),
        "rounded positions that are neighbours may become the same": _if("angle")(
            lambda p: (1, 0, 2 ** (p + 2))
        ),
    },
    right="only a rounding that keeps angles in proportion to the position keeps scores relative.",
    fault=_unmoved,
)
"""Exercise 8.3: `moves(of, p, freqs)` is (m, n, t) where rounding `of` to p digits makes a score move, or None."""


def _waves(angle: Tensor) -> Tensor:
    return torch.stack((angle.cos(), angle.sin()))


def _far_tables(m: Tensor, freqs: Tensor) -> Tensor:
    return _waves(m.double()[:, None] * freqs)


def _turned_back(angle: Tensor, turn: float = math.tau) -> Tensor:
    return angle - turn * torch.round(angle / turn)


def _table_draws(d: Draw) -> Iterator[Inputs]:
    yield d.wholes(2, low=0, high=9), theta(4, 50.0)
    yield d.wholes(1, low=1_000_000, high=9_000_000), theta(6, d.real(20, 90))
    yield 2 * d.wholes(2, low=10_000_000, high=90_000_000) + 1, theta(4, d.real(20, 90))  # odd, beyond 2^24
    yield d.wholes(3, low=5_000_000, high=10_000_000), theta(8, 10_000.0)


check_far_tables = Exercise(
    "8.4",
    "far_tables",
    _far_tables,
    _table_draws,
    {
        "this is the function of the page, unmended": lambda m, f: _waves(
            _turned_back(m.float()[:, None] * f.float())
        ),
        "the frequencies are still rounded to float32 before the product": lambda m, f: _waves(
            m.double()[:, None] * f.float().double()
        ),
        "positions beyond 2^24 do not fit into float32": lambda m, f: _waves(m.float().double()[:, None] * f),
        "the product is exact, but it is rounded to float32 before whole turns are taken out": lambda m, f: (
            _waves((m.double()[:, None] * f).float())
        ),
        "the product was rounded to float32; a conversion to float64 afterwards cannot restore it": lambda m, f: (
            _waves((m.float()[:, None] * f.float()).double())
        ),
        "whole turns have 2π radians; you take out half turns": lambda m, f: _waves(
            _turned_back(m.double()[:, None] * f, math.pi)
        ),
        "the cosine comes first": lambda m, f: _far_tables(m, f).flip(0),
        "the sines have the wrong sign": lambda m, f: _far_tables(-m, f),
        "these are the angles; return their cosines and sines": lambda m, f: torch.stack(
            (_turned_back(m.double()[:, None] * f),) * 2
        ),
    },
    right="the positions are far away, and every digit of a float32 is right.",
    properties={
        "the squares of cosine and sine do not add up to 1": lambda y, m, f: torch.allclose(
            y.square().sum(0), torch.ones(len(m), len(f), dtype=torch.float64), atol=1e-4
        )
    },
)
"""Exercise 8.4: `far_tables(m, freqs)` has the cosines and sines of m·θ_i for far positions, (2, N, D/2)."""
