"""Checkers of chapter 15: pairs without a full turn, the NTK-aware and the YaRN frequencies, keys of an older base."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import rotated, theta


def _turns(dim: int, base: float, length: float, slope: float = -2.0) -> Tensor:
    return length * theta(dim, base, slope) / (2 * math.pi)


def _unseen_pairs(dim: int, base: float, length: float) -> int:
    return int((_turns(dim, base, length) < 1).sum())


def _length_draws(d: Draw) -> Iterator[Inputs]:
    for dim, base in ((40, 10_000.0), (64, d.one_of(1e4, 5e4)), (128, 500_000.0), (32, 10_000.0)):
        while True:  # between two whole lengths, so that one token more or less is seen
            wave = float(2 * math.pi / theta(dim, base)[d.whole(dim // 8, dim // 4)])
            if 0.05 < wave % 1 < 0.95:
                break
        yield dim, base, math.ceil(wave)
        yield dim, base, math.floor(wave)


check_unseen_pairs = Exercise(
    "15.1",
    "unseen_pairs",
    _unseen_pairs,
    _length_draws,
    {
        "these are the pairs that do complete a turn": lambda d, b, n: d // 2 - _unseen_pairs(d, b, n),
        "2π is missing: a turn is 2π radians, so the wavelength is 2π/θ": lambda d, b, n: _unseen_pairs(
            d, b, n * 2 * math.pi
        ),
        "these are coordinates; a pair has two": lambda d, b, n: 2 * _unseen_pairs(d, b, n),
        "these are the pairs without half a turn; ask for a whole one": lambda d, b, n: _unseen_pairs(
            d, b, 2 * n
        ),
        "θ_i falls too slowly: i counts pairs, so θ_i = base^(−2i/D)": lambda d, b, n: int(
            (_turns(d, b, n, -1) < 1).sum()
        ),
        "θ_i falls too fast: θ_i = base^(−2i/D) with i = 0, 1, 2, … for the pairs": lambda d, b, n: int(
            (_turns(d, b, n, -4) < 1).sum()
        ),
        "one token is missing: a pair completes a turn if its wavelength is at most length": lambda d, b, n: (
            _unseen_pairs(d, b, n - 1)
        ),
        "one token is too many: a pair completes a turn if its wavelength is at most length": lambda d, b, n: (
            _unseen_pairs(d, b, n + 1)
        ),
        "the argument base is not used: this is for 10,000": lambda d, b, n: _unseen_pairs(d, 10_000.0, n),
        "this is one too few": lambda d, b, n: _unseen_pairs(d, b, n) - 1,
        "this is one too many": lambda d, b, n: _unseen_pairs(d, b, n) + 1,
    },
    right="all angles of the others occur in training.",
)
"""Exercise 15.1: `unseen_pairs(dim, base, length)` counts the pairs whose wavelength exceeds `length`."""


def _power(dim: int) -> float:
    return dim / (dim - 2)


def _ntk_frequencies(dim: int, base: float, factor: float) -> Tensor:
    return theta(dim, base * factor ** _power(dim))


def _ntk_draws(d: Draw) -> Iterator[Inputs]:
    for dim in (4, 6, 8, d.one_of(10, 12, 16)):
        yield dim, d.one_of(100.0, 500.0, 10_000.0), d.one_of(1.5, 2.0, 3.0, 4.0, 8.0)
    yield 8, 50.0, 1.0


check_ntk_frequencies = Exercise(
    "15.2",
    "ntk_frequencies",
    _ntk_frequencies,
    _ntk_draws,
    {
        "you multiplied the base by the factor itself, so the last frequency is divided by too little; multiply by "
        "the factor to the power D/(D − 2)": lambda dim, base, s: theta(dim, base * s),
        "the power is inverted: it is D/(D − 2)": lambda dim, base, s: theta(
            dim, base * s ** (1 / _power(dim))
        ),
        "every frequency is divided by the same number; raise the base, and the first one stays the same": (
            lambda dim, base, s: theta(dim, base) / s ** _power(dim)
        ),
        "this is position interpolation: the first frequency must stay the same": lambda dim, base, s: (
            theta(dim, base) / s
        ),
        "the base is divided; a longer text needs slower pairs, so a larger base": lambda dim, base, s: theta(
            dim, base / s ** _power(dim)
        ),
        "these are the frequencies of the old base": lambda dim, base, s: theta(dim, base),
        "θ_i falls too slowly: i counts pairs, so θ_i = base^(−2i/D)": lambda dim, base, s: theta(
            dim, base * s ** _power(dim), -1
        ),
        "this is one frequency per coordinate; give one per pair": lambda dim, base, s: _ntk_frequencies(
            dim, base, s
        ).repeat_interleave(2),
        "this is the base alone; return the frequencies": lambda dim, base, s: base * s ** _power(dim),
        "D is the number of coordinates, not of pairs": lambda dim, base, s: theta(
            dim, base * s ** _power(dim // 2) if dim > 4 else math.inf
        ),
        "these are wavelengths; return frequencies": lambda dim, base, s: (
            2 * math.pi / _ntk_frequencies(dim, base, s)
        ),
        "the argument base is not used: this is for 10,000": lambda dim, base, s: _ntk_frequencies(
            dim, 10_000.0, s
        ),
    },
    right="the first stays the same, the last is divided by the factor.",
    properties={
        "the first frequency stays 1, and yours does not": lambda y, dim, base, s: bool(abs(y[0] - 1) < 1e-5),
        "the last frequency is divided by the factor, and yours is not": lambda y, dim, base, s: bool(
            abs(y[-1] - theta(dim, base)[-1] / s) < 1e-6
        ),
    },
    tolerance=1e-6,
)
"""Exercise 15.2: `ntk_frequencies(dim, base, factor)` are those of the raised base, shape (D/2,)."""


def _index(turns: float, dim: int, base: float, length: float, turn: float = 2 * math.pi) -> float:
    """The pair, as a real number, that turns so often within the length."""
    return dim * math.log(length / (turn * turns)) / (2 * math.log(base))


def _ends(dim: int, base: float, length: float, turn: float = 2 * math.pi) -> tuple[float, float]:
    low, high = _index(32, dim, base, length, turn), _index(1, dim, base, length, turn)
    return max(0, math.floor(low)), math.ceil(high)


def _ramp(dim: int, low: float, high: float) -> Tensor:
    return (torch.arange(dim // 2, dtype=torch.float64) - low) / (high - low)


def _blend(dim: int, base: float, factor: float, share: Tensor) -> Tensor:
    return theta(dim, base) * (1 - share) + theta(dim, base) / factor * share


def _between(dim: int, base: float, factor: float, low: float, high: float) -> Tensor:
    return _blend(dim, base, factor, _ramp(dim, low, high).clamp(0, 1))


def _yarn_frequencies(dim: int, base: float, factor: float, length: int) -> Tensor:
    return _between(dim, base, factor, *_ends(dim, base, length))


def _yarn_draws(d: Draw) -> Iterator[Inputs]:
    yield 64, 10_000.0, 8.0, 2048
    yield 40, 10_000.0, 4.0, 128  # here no pair turns 32 times
    yield 48, d.one_of(10_000.0, 20_000.0), d.one_of(2.0, 4.0, 16.0), d.one_of(500, 1000, 1500)
    yield 32, 10_000.0, d.one_of(2.0, 8.0), d.one_of(700, 900)
    yield 64, 100_000.0, d.one_of(2.0, 4.0), d.one_of(3000, 6000)


def _below_zero(dim: int, base: float, factor: float, length: int) -> Tensor:
    return _between(dim, base, factor, math.floor(_index(32, dim, base, length)), _ends(dim, base, length)[1])


def _exact_ends(dim: int, base: float, factor: float, length: int) -> Tensor:
    low, high = _index(32, dim, base, length), _index(1, dim, base, length)
    return _between(dim, base, factor, max(0, low), high)


def _nearest_ends(dim: int, base: float, factor: float, length: int) -> Tensor:
    low, high = _index(32, dim, base, length), _index(1, dim, base, length)
    return _between(dim, base, factor, max(0, round(low)), round(high))


def _over_turns(dim: int, base: float, factor: float, length: int) -> Tensor:
    return _blend(dim, base, factor, 1 - ((_turns(dim, base, length) - 1) / 31).clamp(0, 1))


def _of_wavelengths(dim: int, base: float, factor: float, length: int) -> Tensor:
    return theta(dim, base) / (1 + (factor - 1) * _ramp(dim, *_ends(dim, base, length)).clamp(0, 1))


check_yarn_frequencies = Exercise(
    "15.3",
    "yarn_frequencies",
    _yarn_frequencies,
    _yarn_draws,
    {
        "the ramp runs the wrong way: fast pairs stay the same, slow pairs are divided": lambda d, b, s, n: (
            _blend(d, b, s, 1 - _ramp(d, *_ends(d, b, n)).clamp(0, 1))
        ),
        "the ramp is not held at 0 and 1, so pairs outside it are sped up or slowed down too much": (
            lambda d, b, s, n: _blend(d, b, s, _ramp(d, *_ends(d, b, n)))
        ),
        "the ends of the ramp are not rounded outward to whole pairs": _exact_ends,
        "the ends of the ramp are rounded to the nearest pair; round the first down and the last up": _nearest_ends,
        "the ramp runs over the turns, as in the paper and in Llama 3; here it runs over the pair index": _over_turns,
        "2π is missing: a pair turns length·θ/2π times": lambda d, b, s, n: _between(
            d, b, s, *_ends(d, b, n, turn=1)
        ),
        "wavelengths are blended; blend the frequencies": _of_wavelengths,
        "every pair is divided: this is position interpolation": lambda d, b, s, n: theta(d, b) / s,
        "these frequencies are unchanged": lambda d, b, s, n: theta(d, b),
        "the ramp begins below pair 0; hold its start at 0": _below_zero,
        "the attention factor is multiplied in; it belongs to the scores, not to the frequencies": (
            lambda d, b, s, n: _yarn_frequencies(d, b, s, n) * (0.1 * math.log(s) + 1)
        ),
        "the ramp is that of the extended length; length is the one the model was trained on": lambda d, b, s, n: (
            _between(d, b, s, *_ends(d, b, s * n))
        ),
        "the divided frequencies are multiplied by the factor; divide by it": lambda d, b, s, n: _between(
            d, b, 1 / s, *_ends(d, b, n)
        ),
        "the argument base is not used: this is for 10,000": lambda d, b, s, n: _yarn_frequencies(
            d, 10_000.0, s, n
        ),
    },
    right="pairs that turn often stay the same, pairs that never completed a turn are interpolated.",
    properties={
        "the first frequency stays 1, and yours does not": lambda y, d, b, s, n: bool(abs(y[0] - 1) < 1e-5),
    },
    tolerance=1e-6,
)
"""Exercise 15.3: `yarn_frequencies(dim, base, factor, length)`, with 32 turns and 1 turn as ends of the ramp."""


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
    },
    right="rotations add up, so nothing was lost in the cache.",
    properties={
        "a rotation keeps the length of every key, and this does not": lambda y, keys, old, new: (
            torch.allclose(y.norm(dim=-1), keys.norm(dim=-1), atol=1e-4)
        )
    },
)
"""Exercise 15.4: `restamp(keys, old, new)` gives cached keys (N, D) at 0, 1, … the angles of new frequencies."""
