"""Checkers of chapter 15 on three choices of frequencies: a raised base, a ramp over the turns, a part of the head."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import theta


def turns(dim: int, base: float, length: float, slope: float = -2.0) -> Tensor:
    """How often each pair turns within the length, (D/2,)."""
    return length * theta(dim, base, slope) / (2 * math.pi)


def _power(dim: int, pair: int) -> float:
    return dim / (2 * pair)


def _ntk_frequencies(dim: int, base: float, factor: float, pair: int) -> Tensor:
    return theta(dim, base * factor ** _power(dim, pair))


def _ntk_draws(d: Draw) -> Iterator[Inputs]:
    for dim in (6, 8, 10, d.one_of(12, 16)):
        yield (
            dim,
            d.one_of(100.0, 500.0, 10_000.0),
            d.one_of(1.5, 2.0, 3.0, 4.0, 8.0),
            d.whole(1, dim // 2 - 2),
        )
    yield 4, 200.0, d.one_of(2.0, 4.0), 1
    yield 8, 50.0, 1.0, 2


check_ntk_frequencies = Exercise(
    "15.2",
    "ntk_frequencies",
    _ntk_frequencies,
    _ntk_draws,
    {
        "this is equation 15.7, which divides the last pair by the factor; here it is the pair of the argument": (
            lambda dim, base, s, pair: _ntk_frequencies(dim, base, s, dim // 2 - 1)
        ),
        "you multiplied the base by the factor itself; the power of the factor depends on the pair": (
            lambda dim, base, s, pair: theta(dim, base * s)
        ),
        "the power is inverted: it is D/(2·pair)": lambda dim, base, s, pair: theta(
            dim, base * s ** (1 / _power(dim, pair))
        ),
        "the power is D/(2·pair): a pair has two coordinates": lambda dim, base, s, pair: theta(
            dim, base * s ** (2 * _power(dim, pair))
        ),
        "pairs are counted from 0, and this is right for the one before": lambda dim, base, s, pair: theta(
            dim, base * s ** _power(dim, pair + 1)
        ),
        "all frequencies are divided by the same number; the first one stays the same": (
            lambda dim, base, s, pair: theta(dim, base) / s ** _power(dim, pair)
        ),
        "this is position interpolation: the first frequency must stay the same": lambda dim, base, s, pair: (
            theta(dim, base) / s
        ),
        "only the pairs from this one on are divided; choose another base": lambda dim, base, s, pair: (
            torch.where(torch.arange(dim // 2) >= pair, theta(dim, base) / s, theta(dim, base))
        ),
        "the base is divided; a longer text needs slower pairs, so a larger base": lambda dim, base, s, pair: (
            theta(dim, base / s ** _power(dim, pair))
        ),
        "these are the frequencies of the old base": lambda dim, base, s, pair: theta(dim, base),
        "θ_i falls too slowly: i counts pairs, so θ_i = base^(−2i/D)": lambda dim, base, s, pair: theta(
            dim, base * s ** _power(dim, pair), -1
        ),
        "this is one frequency per coordinate; give one per pair": lambda *inputs: _ntk_frequencies(
            *inputs
        ).repeat_interleave(2),
        "this is the base alone; return the frequencies": lambda dim, base, s, pair: (
            base * s ** _power(dim, pair)
        ),
        "these are wavelengths; return frequencies": lambda *inputs: 2 * math.pi / _ntk_frequencies(*inputs),
        "the argument base is not used: this is for 10,000": lambda dim, base, s, pair: _ntk_frequencies(
            dim, 10_000.0, s, pair
        ),
        "D // (2·pair) is a whole number; divide with /": (
            lambda dim, base, s, pair: theta(dim, base * s ** (dim // (2 * pair)))
        ),
        "slower pairs are divided by more than the factor; yours stop at it": (
            lambda dim, base, s, pair: torch.maximum(
                _ntk_frequencies(dim, base, s, pair), theta(dim, base) / s
            )
        ),
        "only this one pair is divided; choose another base, which changes all but the first": (
            lambda dim, base, s, pair: torch.where(
                torch.arange(dim // 2) == pair, theta(dim, base) / s, theta(dim, base)
            )
        ),
    },
    right="the first stays the same, the one you name is divided by the factor, and slower ones by more.",
    properties={
        "the first frequency stays 1, and yours does not": lambda y, dim, base, s, pair: bool(
            abs(y[0] - 1) < 1e-5
        ),
        "the frequency of the pair is divided by the factor, and yours is not": lambda y, dim, base, s, pair: (
            bool(abs(y[pair] - theta(dim, base)[pair] / s) < 1e-6)
        ),
    },
    tolerance=1e-6,
)
"""Exercise 15.2: `ntk_frequencies(dim, base, factor, pair)`, a base that divides `pair` by the factor, (D/2,)."""


def _index(times: float, dim: int, base: float, length: float) -> float:
    """The pair, as a real number, that turns so often within the length."""
    return dim * math.log(length / (2 * math.pi * times)) / (2 * math.log(base))


def _blend(dim: int, base: float, factor: float, share: Tensor) -> Tensor:
    """`share` is the part of the divided frequency."""
    return theta(dim, base) * (1 - share) + theta(dim, base) / factor * share


def _share(
    dim: int, base: float, length: float, unit: float = 1.0, fast: float = 32, slow: float = 1
) -> Tensor:
    return (fast - turns(dim, base, length) * unit) / (fast - slow)


def _yarn_frequencies(dim: int, base: float, factor: float, length: float) -> Tensor:
    return _blend(dim, base, factor, _share(dim, base, length).clamp(0, 1))


def _yarn_draws(d: Draw) -> Iterator[Inputs]:
    yield 64, 10_000.0, 8.0, 2048
    yield 40, 10_000.0, 4.0, 128  # here no pair turns 32 times
    yield 48, d.one_of(10_000.0, 20_000.0), d.one_of(2.0, 4.0, 16.0), d.one_of(500, 1000, 1500)
    yield 32, 10_000.0, d.one_of(2.0, 8.0), d.one_of(700, 900)
    yield 64, 100_000.0, d.one_of(2.0, 4.0), d.one_of(3000, 6000)


def _over_pairs(dim: int, base: float, factor: float, length: int) -> Tensor:
    low, high = max(0, math.floor(_index(32, dim, base, length))), math.ceil(_index(1, dim, base, length))
    return _blend(dim, base, factor, ((torch.arange(dim // 2) - low) / (high - low)).clamp(0, 1))


def _over_logarithms(dim: int, base: float, factor: float, length: int) -> Tensor:
    return _blend(dim, base, factor, (1 - turns(dim, base, length).log() / math.log(32)).clamp(0, 1))


def _over_wavelengths(dim: int, base: float, factor: float, length: int) -> Tensor:
    return _blend(dim, base, factor, ((1 / turns(dim, base, length) - 1 / 32) / (1 - 1 / 32)).clamp(0, 1))


check_yarn_frequencies = Exercise(
    "15.3",
    "yarn_frequencies",
    _yarn_frequencies,
    _yarn_draws,
    {
        "the ramp runs over the pair index, as in the code of the authors; here it runs over the turns": _over_pairs,
        "the ramp runs over the logarithm of the turns, which is over the pair index": _over_logarithms,
        "the ramp runs over the wavelengths; here it runs over the turns": _over_wavelengths,
        "the ramp runs the wrong way: fast pairs stay the same, slow pairs are divided": lambda d, b, s, n: (
            _blend(d, b, s, 1 - _share(d, b, n).clamp(0, 1))
        ),
        "the ramp is not held at 0 and 1, so pairs outside it are sped up or slowed down too much": (
            lambda d, b, s, n: _blend(d, b, s, _share(d, b, n))
        ),
        "2π is missing: a pair turns length·θ/2π times": lambda d, b, s, n: _blend(
            d, b, s, _share(d, b, n, 2 * math.pi).clamp(0, 1)
        ),
        "the ramp ends at 0 turns; a pair that turns less than once is divided by the factor in full": (
            lambda d, b, s, n: _blend(d, b, s, _share(d, b, n, slow=0).clamp(0, 1))
        ),
        "these are the ends of Llama 3, 4 turns and 1; here they are 32 and 1": lambda d, b, s, n: _blend(
            d, b, s, _share(d, b, n, fast=4).clamp(0, 1)
        ),
        "there is no ramp: pairs between 32 turns and 1 are neither left nor divided in full": lambda d, b, s, n: (
            _blend(d, b, s, (turns(d, b, n) < 1).double())
        ),
        "wavelengths are blended; blend the frequencies": lambda d, b, s, n: (
            theta(d, b) / (1 + (s - 1) * _share(d, b, n).clamp(0, 1))
        ),
        "every pair is divided: this is position interpolation": lambda d, b, s, n: theta(d, b) / s,
        "these frequencies are unchanged": lambda d, b, s, n: theta(d, b),
        "the attention factor is multiplied in; it belongs to the scores, not to the frequencies": (
            lambda d, b, s, n: _yarn_frequencies(d, b, s, n) * (0.1 * math.log(s) + 1)
        ),
        "the ramp is that of the extended length; length is the one the model was trained on": lambda d, b, s, n: (
            _blend(d, b, s, _share(d, b, s * n).clamp(0, 1))
        ),
        "the divided frequencies are multiplied by the factor; divide by it": lambda d, b, s, n: _blend(
            d, b, 1 / s, _share(d, b, n).clamp(0, 1)
        ),
        "the argument base is not used: this is for 10,000": lambda d, b, s, n: _yarn_frequencies(
            d, 10_000.0, s, n
        ),
    },
    right="pairs that turn often stay the same, pairs that never completed a turn are interpolated.",
    properties={
        "a pair that turns less than once is divided by the factor, and yours is not": lambda y, d, b, s, n: (
            bool(abs(y[-1] - theta(d, b)[-1] / s) < 1e-6)
        ),
    },
    tolerance=1e-6,
)
"""Exercise 15.3: `yarn_frequencies(dim, base, factor, length)`, the ramp over the turns, from 32 to 1, (D/2,)."""


def _partial_ntk(
    dim: int, rotary: int, base: float, factor: float, power: int | None = None, slope: int | None = None
) -> Tensor:
    power, slope = power or rotary, slope or rotary
    pairs = torch.arange(rotary // 2, dtype=torch.float64)
    freqs = (base * factor ** (power / (power - 2))) ** (-2 * pairs / slope)
    return torch.nn.functional.pad(freqs, (0, dim // 2 - rotary // 2))


def _partial(dim: int, rotary: int, base: float, factor: float) -> Tensor:
    return _partial_ntk(dim, rotary, base, factor)


def _partial_draws(d: Draw) -> Iterator[Inputs]:
    yield 4, 4, 100.0, 2.0
    for dim, rotary in ((8, 4), (12, 6), (16, d.one_of(4, 8, 12)), (24, d.one_of(6, 8, 12, 18))):
        yield dim, rotary, d.one_of(100.0, 500.0, 10_000.0), d.one_of(1.5, 2.0, 4.0, 8.0)


check_partial_ntk = Exercise(
    "15.6",
    "partial_ntk",
    _partial,
    _partial_draws,
    {
        "this is what the function of the page gives; look at the last pair that turns": (
            lambda dim, rotary, base, s: _partial_ntk(dim, rotary, base, s, power=dim)
        ),
        "the frequencies are now those of the first pairs of the whole head; the pairs that turn have all the range": (
            lambda dim, rotary, base, s: _partial_ntk(dim, rotary, base, s, slope=dim)
        ),
        "both exponents are those of the whole head now": lambda dim, rotary, base, s: _partial_ntk(
            dim, rotary, base, s, dim, dim
        ),
        "the base is no longer raised": lambda dim, rotary, base, s: _partial_ntk(dim, rotary, base, 1.0),
        "every pair is divided by the factor: this is position interpolation": lambda dim, rotary, base, s: (
            _partial_ntk(dim, rotary, base, 1.0) / s
        ),
        "the power counts pairs where it should count coordinates": lambda dim, rotary, base, s: _partial_ntk(
            dim, rotary, base, s, power=rotary // 2 if rotary > 4 else 10**9
        ),
        "all pairs turn now; those after the first `rotary` coordinates must not": lambda dim, rotary, base, s: (
            _partial_ntk(dim, dim, base, s)
        ),
        "the pairs that do not turn are missing; their frequency is 0": lambda dim, rotary, base, s: (
            _partial_ntk(rotary, rotary, base, s)
        ),
        "the zeros come last: the first pairs are those that turn": (
            lambda dim, rotary, base, s: _partial_ntk(dim, rotary, base, s).roll(dim // 2 - rotary // 2)
        ),
    },
    right="the first pair stays the same and the last that turns is divided by the factor.",
    properties={
        "the last pair that turns is divided by the factor, and yours is not": lambda y, dim, rotary, base, s: (
            bool(abs(y[rotary // 2 - 1] - theta(rotary, base)[-1] / s) < 1e-6)
        ),
    },
    tolerance=1e-6,
)
"""Exercise 15.6: `partial_ntk(dim, rotary, base, factor)`: `rotary` of `dim` coordinates turn, (D/2,), mended."""
