"""Checkers of chapter 15: how long to train, keys of an older base, a sharper score; `choices` has the others."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.choices import check_ntk_frequencies, check_partial_ntk, check_yarn_frequencies, turns
from rope_lab.exercises.formulas import rotated, theta

__all__ = [
    "check_ntk_frequencies",
    "check_partial_ntk",
    "check_restamp",
    "check_sharpened",
    "check_shortest_length",
    "check_yarn_frequencies",
]


def _wave(dim: int, base: float, unseen: int, slope: float = -2.0) -> float:
    """The longest wavelength among the pairs that are to complete a turn."""
    return float(1 / turns(dim, base, 1, slope)[dim // 2 - 1 - unseen])


def _shortest_length(dim: int, base: float, unseen: int) -> int:
    return math.ceil(_wave(dim, base, unseen))


def _length_draws(d: Draw) -> Iterator[Inputs]:
    for dim, unseen, low, high in (
        (40, 9, 0.55, 0.95),
        (64, d.whole(5, 14), 0.05, 0.45),
        (128, d.whole(3, 30), 0.05, 0.95),
        (32, d.whole(4, 7), 0.05, 0.45),
        (16, 0, 0.05, 0.95),
    ):
        while True:  # between two whole lengths, so that one token more or less is seen
            base = 1000.0 * d.whole(5, 60)
            if low < _wave(dim, base, unseen) % 1 < high:
                break
        yield dim, base, unseen


check_shortest_length = Exercise(
    "15.1",
    "shortest_length",
    _shortest_length,
    _length_draws,
    {
        "this is one token too short: the slowest of these pairs does not quite complete its turn": lambda d, b, n: (
            math.floor(_wave(d, b, n))
        ),
        "round up: a length that is rounded to the nearest may be too short": lambda d, b, n: round(
            _wave(d, b, n)
        ),
        "one token less is enough": lambda d, b, n: _shortest_length(d, b, n) + 1,
        "2π is missing: a turn is 2π radians, so the wavelength is 2π/θ": lambda d, b, n: math.ceil(
            _wave(d, b, n) / (2 * math.pi)
        ),
        "in this length one pair too many completes its turn: `unseen` pairs may stay without": lambda d, b, n: (
            math.ceil(_wave(d, b, n) * b ** (2 / d))
        ),
        "in this length one pair too few completes its turn": lambda d, b, n: math.ceil(
            _wave(d, b, n) / b ** (2 / d)
        ),
        "`unseen` counts pairs from the slow end": lambda d, b, n: math.ceil(_wave(d, b, d // 2 - 1 - n)),
        "the argument unseen is not used: here all pairs complete a turn": lambda d, b, n: _shortest_length(
            d, b, 0
        ),
        "half a turn is not enough": lambda d, b, n: math.ceil(_wave(d, b, n) / 2),
        "θ_i falls too slowly: i counts pairs, so θ_i = base^(−2i/D)": lambda d, b, n: math.ceil(
            _wave(d, b, n, -1)
        ),
        "θ_i falls too fast: θ_i = base^(−2i/D) with i = 0, 1, 2, … for the pairs": lambda d, b, n: math.ceil(
            _wave(d, b, n, -4)
        ),
        "the argument base is not used: this is for 10,000": lambda d, b, n: _shortest_length(d, 10_000.0, n),
        "`unseen` counts pairs, not coordinates": (
            lambda d, b, n: math.ceil(2 * math.pi * b ** ((d - 2 - n) / d))
        ),
    },
    right="with one token less, one more pair would meet angles that it has not seen.",
)
"""Exercise 15.1: `shortest_length(dim, base, unseen)`: with it at most `unseen` pairs never complete a turn."""


def _positions(keys: Tensor) -> Tensor:
    return torch.arange(len(keys), dtype=torch.float64)[:, None]


def _restamp(keys: Tensor, old: Tensor, new: Tensor) -> Tensor:
    return rotated(keys, _positions(keys) * (new - old))


def _cache_draws(d: Draw) -> Iterator[Inputs]:
    for n, dim in ((2, 2), (3, 4), (d.whole(4, 6), 6), (d.whole(6, 8), 8)):
        old, new = theta(dim, d.one_of(50.0, 100.0)), theta(dim, d.one_of(700.0, 2000.0))
        if dim == 2:
            new = new / 2  # one pair has frequency 1 for every base
        positions = torch.arange(n, dtype=torch.float64)[:, None]
        yield rotated(d.tensor(n, dim), positions * old), old, new


check_restamp = Exercise(
    "15.4",
    "restamp",
    _restamp,
    _cache_draws,
    {
        "these keys are turned on top of their old angle; apply only the difference of the two": (
            lambda keys, old, new: rotated(keys, _positions(keys) * new)
        ),
        "these keys turn the other way: their angle must become m·new, so they turn by m·(new − old)": (
            lambda keys, old, new: _restamp(keys, new, old)
        ),
        "these keys have lost their position; give them the new angle as well": lambda keys, old, new: (
            rotated(keys, -_positions(keys) * old)
        ),
        "these keys are not turned at all": lambda keys, old, new: keys,
        "all keys turn by the same angle; the angle grows with the position": lambda keys, old, new: rotated(
            keys, (new - old).expand(len(keys), -1)
        ),
        "positions begin at 1; the first key is at 0": lambda keys, old, new: rotated(
            keys, (_positions(keys) + 1) * (new - old)
        ),
        "the pairs are those of the half layout; these keys are interleaved": lambda keys, old, new: rotated(
            keys, _positions(keys) * (new - old), "half"
        ),
        "the angle is m times the difference of the frequencies, not their ratio": lambda keys, old, new: (
            rotated(keys, _positions(keys) * (new / old))
        ),
        "the two angles are added; the old one has to be taken away": lambda keys, old, new: rotated(
            keys, _positions(keys) * (new + old)
        ),
        "the keys are multiplied by the ratio of the frequencies; they have to be turned": (
            lambda keys, old, new: keys * (new / old).repeat_interleave(2)
        ),
        "positions are divided and rounded; each pair needs its own angle, m·(new − old)": (
            lambda keys, old, new: rotated(
                keys, ((_positions(keys) * (new / old)[-1]).round() - _positions(keys)) * old
            )
        ),
    },
    right="rotations add up, so nothing was lost in the cache.",
    properties={
        "a rotation keeps the length of every key, and this does not": lambda y, keys, old, new: (
            torch.allclose(y.norm(dim=-1), keys.norm(dim=-1), atol=1e-4)
        )
    },
)
"""Exercise 15.4: `restamp(keys, old, new)` gives cached keys (N, D) at 0, 1, … the angles of new frequencies."""


def _rest(dim: int, keys: int, a: float) -> float:
    """The logarithm of what the other keys weigh beside a perfect one, by equation 15.17."""
    return math.log(keys - 1) + a**4 / 2 - a**2 * math.sqrt(dim)


def _square(dim: int, ratio: float) -> float:
    """The smaller x = a² with x²/2 − x√D + ln ratio = 1/2 − √D; complex where there is none."""
    return math.sqrt(dim) - math.sqrt((math.sqrt(dim) - 1) ** 2 - 2 * math.log(ratio))


def _sharpened(dim: int, length: int, longer: int) -> float | None:
    ratio = (longer - 1) / (length - 1)
    return None if 2 * math.log(ratio) > (math.sqrt(dim) - 1) ** 2 else math.sqrt(_square(dim, ratio)) + 1e-4


def _sharp_draws(d: Draw) -> Iterator[Inputs]:
    for dim, low, high in ((12, 0.3, 0.8), (16, 0.3, 0.8), (24, 0.3, 0.8), (4, 1.2, 3), (8, 1.2, 3)):
        while True:
            length, rho = d.whole(8, 60), d.one_of(2, 4, 8, 16, 32)
            longer = rho * length
            needed = 2 * math.log((longer - 1) / (length - 1)) / (math.sqrt(dim) - 1) ** 2
            if low < needed < high:
                break
        yield dim, length, longer


def _too_blunt(y: Tensor, dim: int, length: int, longer: int) -> str:
    if y.shape != () or y <= 0:
        return "return one number above 0."
    before, now = (
        1 / (1 + math.exp(min(_rest(dim, n, a), 500))) for n, a in ((length, 1.0), (longer, float(y)))
    )
    if _rest(dim, longer, float(y)) <= _rest(dim, length, 1.0) + 1e-5:
        return ""
    return f"the perfect key gets a weight of {now:.4f} among {longer} keys, less than the {before:.4f} among {length}."


check_sharpened = Exercise(
    "15.7",
    "sharpened",
    _sharpened,
    _sharp_draws,
    {
        "this is the factor of YaRN, which does not know D": lambda dim, n, m: 0.1 * math.log(m / n) + 1,
        "nothing is sharpened": lambda dim, n, m: 1.0,
        "a⁴/2 is left out: the other keys' scores grow as well": lambda dim, n, m: math.sqrt(
            1 + math.log((m - 1) / (n - 1)) / math.sqrt(dim)
        ),
        "this is a², which multiplies the scores; return a": lambda dim, n, m: _square(
            dim, (m - 1) / (n - 1)
        ),
        "there are N − 1 other keys, not N": lambda dim, n, m: math.sqrt(_square(dim, m / n)),
        "this is the sharpest that a factor can do, a² = √D; where it is not enough, the answer is None": (
            lambda dim, n, m: dim**0.25
        ),
        "this is the larger root, beyond which the other keys win again; where there is no root, the answer is None": (
            lambda dim, n, m: math.sqrt(
                math.sqrt(dim)
                + math.sqrt(max(0, (math.sqrt(dim) - 1) ** 2 - 2 * math.log((m - 1) / (n - 1))))
            )
        ),
        "this is the exponent √D of the best sharpening, a²; return its root, and no more than is needed": (
            lambda dim, n, m: dim**0.5
        ),
        "the logarithm of the keys is the natural one": (
            lambda dim, n, m: (
                math.sqrt(math.sqrt(dim) - math.sqrt(inside))
                if (inside := (math.sqrt(dim) - 1) ** 2 - 2 * math.log10((m - 1) / (n - 1))) >= 0
                else None
            )
        ),
    },
    right="a² is between two roots, and they exist while 2 ln((N' − 1)/(N − 1)) is at most (√D − 1)².",
    fault=_too_blunt,
)
"""Exercise 15.7: `sharpened(dim, length, longer)`, an attention factor that keeps a perfect key's weight, or None."""
