"""Checkers of chapter 10: a scale base, the reach of a number type, moved keys, and what fading does not do."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.fading import check_fading_attention, check_louder, scaled, zeta
from rope_lab.exercises.formulas import rotated, theta

__all__ = [
    "check_fading_attention",
    "check_farthest_key",
    "check_louder",
    "check_recentre",
    "check_scale_base",
]


def _scale_base(dim: int, pair: int, distance: int, share: float) -> float:
    return distance * math.log(float(zeta(dim)[pair])) / math.log(share)


def _base_draws(d: Draw) -> Iterator[Inputs]:
    for dim in (4, 6, 8, 16, 64):
        pair = d.whole(0, dim // 2 - 1)
        yield dim, pair, d.whole(20, 900), d.one_of(0.1, 0.2, 0.3, 0.7, 0.8)
    yield 10, 1, d.whole(20, 900), 0.5
    yield 12, 4, d.whole(20, 900), 0.9


check_scale_base = Exercise(
    "10.1",
    "scale_base",
    _scale_base,
    _base_draws,
    {
        "the two logarithms are the wrong way round: a pair that fades more needs a larger base": lambda D, i, s, p: (
            s * math.log(p) / math.log(float(zeta(D)[i]))
        ),
        "the sign is wrong: both logarithms are negative, a base is not": lambda D, i, s, p: (
            -_scale_base(D, i, s, p)
        ),
        "the argument share is not used: this base leaves a half": lambda D, i, s, p: _scale_base(
            D, i, s, 0.5
        ),
        "share is the part that is left, not the part that is lost": lambda D, i, s, p: _scale_base(
            D, i, s, 1 - p
        ),
        "there each side keeps the share; in a score the factor ζ^(s/B) occurs once": lambda D, i, s, p: (
            2 * _scale_base(D, i, s, p)
        ),
        "the logarithms of ζ and of share need the same base": lambda D, i, s, p: (
            _scale_base(D, i, s, p) / math.log(2)
        ),
        "ζ_i grows too slowly: i counts pairs, so ζ_i = (2i/D + 0.4)/1.4": lambda D, i, s, p: (
            s * math.log(float(zeta(D, 1)[i])) / math.log(p)
        ),
        "the pairs are counted from the slow end; pair 0 is the one that fades most": lambda D, i, s, p: (
            _scale_base(D, D // 2 - 1 - i, s, p)
        ),
        "the argument pair is not used: this is for pair 0": lambda D, i, s, p: _scale_base(D, 0, s, p),
        "the fading is not a straight line: the factor is a power, ζ^(s/B)": lambda D, i, s, p: (
            s * (1 - float(zeta(D)[i])) / (1 - p)
        ),
        "the argument distance is not used: this is the share after one token": lambda D, i, s, p: (
            _scale_base(D, i, 1, p)
        ),
        "this is what is left of the pair after one token, not a base": lambda D, i, s, p: p ** (1 / s),
        "ζ_i = (2i/D + 0.4)/1.4: the sum is divided, and yours divides only 0.4": (
            lambda D, i, s, p: s * math.log(2 * i / D + 0.4 / 1.4) / math.log(p)
        ),
        "the base is rounded; it is any positive number": (lambda D, i, s, p: round(_scale_base(D, i, s, p))),
        "pairs are counted from 0: this is for the pair before": (
            lambda D, i, s, p: s * math.log((2 * (i - 1) / D + 0.4) / 1.4) / math.log(p)
        ),
    },
    right="with this base the pair keeps exactly that share, whatever the content.",
    properties={"a scale base is positive": lambda y, D, i, s, p: bool(y > 0)},
    tolerance=1e-4,
)
"""Exercise 10.1: `scale_base(dim, pair, distance, share)` leaves `share` of a pair at `distance`, one number."""

SLOW = float(zeta(64)[-1])


def _exact(dtype: torch.dtype, base: int, size: float, ratio: float = 0.4 / 1.4) -> float:
    return base * math.log(torch.finfo(dtype).max / size) / -math.log(ratio)


def _farthest_key(dtype: torch.dtype, base: int, size: float) -> int:
    return math.floor(_exact(dtype, base, size))


def _farthest_draws(d: Draw) -> Iterator[Inputs]:
    for dtype, low, high, size in (
        (torch.float16, 0.55, 0.95, 1.0),
        (torch.bfloat16, 0.05, 0.45, d.real(2, 30)),
        (torch.float32, 0.55, 0.95, d.real(40, 90)),
        (torch.float16, 0.05, 0.45, d.real(0.1, 0.9)),
        (torch.float16, 0.05, 0.95, d.real(2, 20)),
    ):
        while (
            True
        ):  # neither rounding nor a rounded logarithm must decide, and up and down must differ from nearest
            base = d.whole(30, 600)
            if low < _exact(dtype, base, size) % 1 < high:
                break
        yield dtype, base, size


check_farthest_key = Exercise(
    "10.2",
    "farthest_key",
    _farthest_key,
    _farthest_draws,
    {
        "this is one too far: there the coordinate is already infinite": lambda dtype, base, size: (
            _farthest_key(dtype, base, size) + 1
        ),
        "this is one too few": lambda dtype, base, size: _farthest_key(dtype, base, size) - 1,
        "the argument size is not used: this is for coordinates of size 1": lambda dtype, base, size: (
            _farthest_key(dtype, base, 1)
        ),
        "a larger coordinate reaches less far: divide the largest number by size": lambda dtype, base, size: (
            _farthest_key(dtype, base, 1 / size)
        ),
        "round down: the coordinate must be at most the largest number": lambda dtype, base, size: round(
            _exact(dtype, base, size)
        ),
        "this is the reach of the slowest pair; the fastest pair overflows first": lambda dtype, base, size: (
            math.floor(_exact(dtype, base, size, SLOW))
        ),
        "this is where a query's coordinate leaves the normal numbers; a key's grows": lambda dtype, base, size: (
            math.floor(base * math.log(torch.finfo(dtype).tiny / size) / math.log(0.4 / 1.4))
        ),
        "this counts both sides of the centre; give the distance from it": lambda dtype, base, size: (
            2 * _farthest_key(dtype, base, size)
        ),
        "the base is missing: the factor is ζ^(−s/B)": lambda dtype, base, size: _farthest_key(
            dtype, 1, size
        ),
        "the argument base is not used: this is for 512": lambda dtype, base, size: _farthest_key(
            dtype, 512, size
        ),
        "the argument dtype is not used: this is the reach of float32": lambda dtype, base, size: (
            _farthest_key(torch.float32, base, size)
        ),
        "the argument dtype is not used: this is the reach of float16": lambda dtype, base, size: (
            _farthest_key(torch.float16, base, size)
        ),
        "this is not a distance but the largest number of the type": lambda dtype, base, size: (
            torch.finfo(dtype).max
        ),
        "ζ = 0.4/1.4 for the fastest pair; you use 0.4": lambda dtype, base, size: math.floor(
            _exact(dtype, base, size, 0.4)
        ),
        "the size belongs into the logarithm: it is ζ^(−s/B)·size that must stay in range": (
            lambda dtype, base, size: math.floor(_exact(dtype, base, 1) / size)
        ),
        "the two logarithms need the same base": (
            lambda dtype, base, size: math.floor(_exact(dtype, base, size) / math.log(10))
        ),
        "size is that of one coordinate; take no root": (
            lambda dtype, base, size: _farthest_key(dtype, base, size**0.5)
        ),
    },
    right="one token further the coordinate is above the largest number.",
)
"""Exercise 10.2: `farthest_key(dtype, base, size)` is the largest distance of a scaled key in the range."""


def _recentre(keys: Tensor, old: int, new: int, base: int) -> Tensor:
    return scaled(keys, (new - old) / base)


def _keys_draws(d: Draw) -> Iterator[Inputs]:
    for n, dim in ((1, 4), (2, 6), (d.whole(3, 5), 8), (d.whole(3, 5), 6)):
        for sign in (1, -1):
            old = d.whole(20, 30)
            yield d.tensor(n, dim), old, old + sign * d.whole(2, 19), d.one_of(10, 20, 64)
    yield d.tensor(2, 4), 7, 7, 20


def _rows(keys: Tensor) -> Tensor:
    return torch.arange(len(keys), dtype=torch.float64)


def _also_turned(keys: Tensor, old: int, new: int, base: int) -> Tensor:
    return rotated(_recentre(keys, old, new, base), (new - old) * theta(keys.shape[-1], 10_000.0))


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
        "(new − old) // B is a whole number; divide with /": lambda k, old, new, b: scaled(
            k, float((new - old) // b)
        ),
        "these keys are scaled again, on top of the old scale: apply only the difference of the centres": (
            lambda k, old, new, b: scaled(k, (new - _rows(k)) / b)
        ),
        "these keys have no scale left; bring them to the new centre": lambda k, old, new, b: scaled(
            k, (_rows(k) - old) / b
        ),
        "the factors are in the order of the half layout; these keys are interleaved": lambda k, old, new, b: (
            scaled(k, (new - old) / b, "half")
        ),
        "the base is missing: the factor is ζ^((new − old)/B)": lambda k, old, new, b: scaled(
            k, float(new - old)
        ),
        "you multiply by the base; the factor is ζ^((new − old)/B)": lambda k, old, new, b: scaled(
            k, (new - old) * b / 1.0
        ),
        "the sign of new − old is lost: the centre can also move back": lambda k, old, new, b: _recentre(
            k, 0, abs(new - old), b
        ),
        "a centre that moves back has a factor too": lambda k, old, new, b: _recentre(
            k, 0, max(new - old, 0), b
        ),
        "ζ_i runs too slowly: i counts pairs, so ζ_i = (2i/D + 0.4)/1.4": lambda k, old, new, b: scaled(
            k, (new - old) / b, step=1
        ),
        "this moves keys from a centre at 0; only the difference to the old centre is due": lambda k, old, new, b: (
            scaled(k, new / b)
        ),
        "the argument base is not used: this is for 512": lambda k, old, new, b: _recentre(k, old, new, 512),
        "the keys are turned as well; a rotation does not depend on the centre": _also_turned,
        "the old scale is taken away, but the new one is missing": (
            lambda k, old, new, b: scaled(k, -old / b)
        ),
        "all pairs have the factor of the fastest; pair i has ζ_i": (
            lambda k, old, new, b: k * (0.4 / 1.4) ** ((new - old) / b)
        ),
        "there is one ζ for both coordinates of a pair; yours grows from coordinate to coordinate": (
            lambda k, old, new, b: (
                k * ((torch.arange(k.shape[-1]) / k.shape[-1] + 0.4) / 1.4) ** ((new - old) / b)
            )
        ),
        "this is the square root of the factor; query and key have a whole one each": (
            lambda k, old, new, b: scaled(k, (new - old) / (2 * b))
        ),
    },
    right="no stale key is left, and no key was rotated again.",
    tolerance=1e-4,
)
"""Exercise 10.3: `recentre(keys, old, new, base)` moves keys scaled about `old` to `new`, shape (N, D)."""
