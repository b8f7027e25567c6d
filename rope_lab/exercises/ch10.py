"""Checkers of chapter 10: half-lives, the reach of a number type, and keys moved to another centre."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs


def _zeta(dim: int, step: float = 2.0) -> Tensor:
    return (step * torch.arange(dim // 2, dtype=torch.float64) / dim + 0.4) / 1.4


def _half_life(dim: int, base: int) -> Tensor:
    return -base * math.log(2) / _zeta(dim).log()


def _life_draws(d: Draw) -> Iterator[Inputs]:
    yield 2, 100
    for dim in (4, 6, 8, 16):
        yield dim, d.one_of(64, 100, 200, 512, d.whole(20, 60))


check_half_life = Exercise(
    "10.1",
    "half_life",
    _half_life,
    _life_draws,
    {
        "this is the distance at which 1/e is left; a half takes ln 2 of that": lambda dim, base: (
            -base / _zeta(dim).log()
        ),
        "the sign is wrong: ln ζ is negative, a half-life is not": lambda dim, base: -_half_life(dim, base),
        "this is in units of the scale base; multiply by it": lambda dim, base: _half_life(dim, 1),
        "you divided by the scale base; multiply by it: the factor is ζ^(s/B), so a larger B fades less": (
            lambda dim, base: _half_life(dim, 1) / base
        ),
        "ζ_i runs too slowly: i counts pairs, so ζ_i = (2i/D + 0.4)/1.4": lambda dim, base: (
            -base * math.log(2) / _zeta(dim, 1).log()
        ),
        "this is one number per coordinate; give one per pair": lambda dim, base: _half_life(
            dim, base
        ).repeat_interleave(2),
        "the slow pairs are first; pair 0 is the fast one, which fades first": lambda dim, base: _half_life(
            dim, base
        ).flip(0),
        "the logarithms of 2 and of ζ need the same base; yours of ζ has the base 2": lambda dim, base: (
            _half_life(dim, base) * math.log(2)
        ),
        "there the square of the factor is a half, not the factor": lambda dim, base: (
            _half_life(dim, base) / 2
        ),
        "there a quarter is left, which is a half in query and key each": lambda dim, base: (
            2 * _half_life(dim, base)
        ),
        "the argument base is not used: this is for 512": lambda dim, base: _half_life(dim, 512),
        "this is the factor after one token, not a distance": lambda dim, base: _zeta(dim) ** (1 / base),
    },
    right="pair i has half its size there, whatever the content.",
    properties={"a half-life is positive": lambda y, dim, base: bool((y > 0).all())},
    tolerance=1e-4,
)
"""Exercise 10.1: `half_life(dim, base)` is the distance at which each pair has half its size, shape (D/2,)."""

SLOW = float(_zeta(64)[-1])


def _exact(dtype: torch.dtype, base: int, zeta: float = 0.4 / 1.4) -> float:
    return base * math.log(torch.finfo(dtype).max) / -math.log(zeta)


def _reach(dtype: torch.dtype, base: int) -> int:
    return math.floor(_exact(dtype, base))


def _reach_draws(d: Draw) -> Iterator[Inputs]:
    for dtype, low, high in (
        (torch.float16, 0.55, 0.95),
        (torch.bfloat16, 0.05, 0.45),
        (torch.float32, 0.55, 0.95),
        (torch.float16, 0.05, 0.45),
    ):
        while (
            True
        ):  # neither rounding nor a rounded logarithm must decide, and up and down must differ from nearest
            base = d.whole(30, 600)
            if low < _exact(dtype, base) % 1 < high:
                break
        yield dtype, base


check_reach = Exercise(
    "10.2",
    "reach",
    _reach,
    _reach_draws,
    {
        "this is one too far: there the factor is already infinite": lambda dtype, base: (
            _reach(dtype, base) + 1
        ),
        "this is one too few": lambda dtype, base: _reach(dtype, base) - 1,
        "round down: the factor must be at most the largest number": lambda dtype, base: round(
            _exact(dtype, base)
        ),
        "this is the reach of the slowest pair; the fastest pair overflows first": lambda dtype, base: (
            math.floor(_exact(dtype, base, SLOW))
        ),
        "this is where the query's factor leaves the normal numbers; the key's grows": lambda dtype, base: (
            math.floor(base * math.log(torch.finfo(dtype).tiny) / math.log(0.4 / 1.4))
        ),
        "this counts both sides of the centre; give the distance from it": lambda dtype, base: (
            2 * _reach(dtype, base)
        ),
        "the base is missing: the factor is ζ^(−s/B)": lambda dtype, base: _reach(dtype, 1),
        "the argument base is not used: this is for 512": lambda dtype, base: _reach(dtype, 512),
        "the argument dtype is not used: this is the reach of float32": lambda dtype, base: _reach(
            torch.float32, base
        ),
        "the argument dtype is not used: this is the reach of float16": lambda dtype, base: _reach(
            torch.float16, base
        ),
        "this is not a distance but the largest number of the type": lambda dtype, base: (
            torch.finfo(dtype).max
        ),
        "ζ = 0.4/1.4 for the fastest pair; you use 0.4": lambda dtype, base: math.floor(
            _exact(dtype, base, 0.4)
        ),
    },
    right="one token further the factor is above the largest number.",
)
"""Exercise 10.2: `reach(dtype, base)` is the largest distance with a key's factor in the range of `dtype`."""


def _scaled(keys: Tensor, power: Tensor | float, layout: str = "interleaved", step: float = 2) -> Tensor:
    dim = keys.shape[-1]
    scale = _zeta(dim, step) ** torch.as_tensor(power, dtype=torch.float64)[..., None]
    return keys * (
        scale.repeat_interleave(2, -1) if layout == "interleaved" else torch.cat((scale, scale), -1)
    )


def _recentre(keys: Tensor, old: int, new: int, base: int) -> Tensor:
    return _scaled(keys, (new - old) / base)


def _keys_draws(d: Draw) -> Iterator[Inputs]:
    for n, dim in ((1, 4), (2, 6), (d.whole(3, 5), 8), (d.whole(3, 5), 6)):
        for sign in (1, -1):
            old = d.whole(20, 30)
            yield d.tensor(n, dim), old, old + sign * d.whole(2, 19), d.one_of(10, 20, 64)
    yield d.tensor(2, 4), 7, 7, 20


def _rows(keys: Tensor) -> Tensor:
    return torch.arange(len(keys), dtype=torch.float64)


check_recentre = Exercise(
    "10.3",
    "recentre",
    _recentre,
    _keys_draws,
    {
        "these keys went the other way: a later centre makes past keys smaller": lambda k, old, new, b: (
            _recentre(k, new, old, b)
        ),
        "these keys are not moved at all": lambda k, old, new, b: k,
        "(new − old) // B is a whole number; divide with /": lambda k, old, new, b: _scaled(
            k, float((new - old) // b)
        ),
        "these keys are scaled again, on top of the old scale: apply only the difference of the centres": (
            lambda k, old, new, b: _scaled(k, (new - _rows(k)) / b)
        ),
        "these keys have no scale left; bring them to the new centre": lambda k, old, new, b: _scaled(
            k, (_rows(k) - old) / b
        ),
        "the factors are in the order of the half layout; these keys are interleaved": lambda k, old, new, b: (
            _scaled(k, (new - old) / b, "half")
        ),
        "the base is missing: the factor is ζ^((new − old)/B)": lambda k, old, new, b: _scaled(
            k, float(new - old)
        ),
        "you multiply by the base; the factor is ζ^((new − old)/B)": lambda k, old, new, b: _scaled(
            k, (new - old) * b / 1.0
        ),
        "the sign of new − old is lost: the centre can also move back": lambda k, old, new, b: _recentre(
            k, 0, abs(new - old), b
        ),
        "a centre that moves back has a factor too": lambda k, old, new, b: _recentre(
            k, 0, max(new - old, 0), b
        ),
        "ζ_i runs too slowly: i counts pairs, so ζ_i = (2i/D + 0.4)/1.4": lambda k, old, new, b: _scaled(
            k, (new - old) / b, step=1
        ),
        "this moves keys from a centre at 0; only the difference to the old centre is due": lambda k, old, new, b: (
            _scaled(k, new / b)
        ),
        "the argument base is not used: this is for 512": lambda k, old, new, b: _recentre(k, old, new, 512),
    },
    right="no stale key is left, and no key was rotated again.",
    tolerance=1e-4,
)
"""Exercise 10.3: `recentre(keys, old, new, base)` moves keys scaled about `old` to `new`, shape (N, D)."""
