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
        "this is one too few": right - 1,
        "this is one too many": right + 1,
    }
    done = "all angles of the others occur in training."
    return compare("15.1", torch.tensor(answers), right, mistakes, right=done)


def check_ntk_frequencies(ntk_frequencies: Callable[[int, float, float], object]) -> Feedback:
    """Exercise 15.2: `ntk_frequencies(dim, base, factor)` are those of the raised base, shape (D/2,)."""
    dim, base, factor = 16, 10_000.0, 4.0
    theta, power = _theta(dim, base), dim / (dim - 2)
    right = _theta(dim, base * factor**power)
    mistakes = {
        "you multiplied the base by the factor itself, so the last frequency is divided "
        "by too little; multiply by the factor to the power D/(D − 2)": _theta(dim, base * factor),
        "the power is inverted: it is D/(D − 2)": _theta(dim, base * factor ** (1 / power)),
        "every frequency is divided by the same number; raise the "
        "base, and the first one stays the same": theta / factor**power,
        "this is position interpolation: the first frequency must stay the same": theta / factor,
        "the base is divided; a longer text needs slower pairs, so a larger base": _theta(
            dim, base / factor**power
        ),
        "these are the frequencies of the old base": theta,
        "θ_i falls too slowly: i counts pairs, so θ_i = base^(−2i/D)": (base * factor**power)
        ** (-torch.arange(dim // 2).double() / dim),
        "this is one frequency per coordinate; give one per pair": right.repeat_interleave(2),
    }
    done = "the first stays the same, the last is divided by the factor."
    return compare("15.2", ntk_frequencies(dim, base, factor), right, mistakes, right=done, tolerance=1e-7)


def check_yarn_frequencies(yarn_frequencies: Callable[[int, float, float, int], object]) -> Feedback:
    """Exercise 15.3: `yarn_frequencies(dim, base, factor, length)`, with 32 turns and 1 turn as ends of the ramp."""
    dim, base, factor, length = 64, 10_000.0, 8.0, 2048
    theta, pair = _theta(dim, base), torch.arange(dim // 2, dtype=torch.float64)

    def index(turns: float, turn: float = 2 * math.pi) -> float:
        return dim * math.log(length / (turn * turns)) / (2 * math.log(base))

    def blend(ramp: Tensor) -> Tensor:
        return theta * (1 - ramp) + theta / factor * ramp

    def between(low: float, high: float) -> Tensor:
        return ((pair - low) / (high - low)).clamp(0, 1)

    low, high = math.floor(index(32)), math.ceil(index(1))
    ramp = between(low, high)
    turns = length * theta / (2 * math.pi)
    short = (math.floor(index(32, 1)), math.ceil(index(1, 1)))
    right = blend(ramp)
    mistakes = {
        "the ramp runs the wrong way: fast pairs stay the same, slow pairs are divided": blend(1 - ramp),
        "the ramp is not held at 0 and 1, so pairs outside it are sped up or slowed down too much": blend(
            (pair - low) / (high - low)
        ),
        "the ends of the ramp are not rounded outward to whole pairs": blend(between(index(32), index(1))),
        "the ramp runs over the turns, as in the paper and in "
        "Llama 3; here it runs over the pair index": blend(1 - ((turns - 1) / 31).clamp(0, 1)),
        "2π is missing: a pair turns length·θ/2π times": blend(between(*short)),
        "wavelengths are blended; blend the frequencies": 1 / ((1 - ramp) / theta + ramp * factor / theta),
        "every pair is divided: this is position interpolation": theta / factor,
        "these frequencies are unchanged": theta,
    }
    done = "pairs that turn often stay the same; pairs that never completed a turn are interpolated."
    answer = yarn_frequencies(dim, base, factor, length)
    verdict = compare("15.3", answer, right, mistakes, right=done, tolerance=1e-7)
    if not verdict:
        return verdict
    dim, length = 40, 128  # here no pair turns 32 times
    theta, pair, ends = _theta(dim, base), torch.arange(dim // 2, dtype=torch.float64), (index(32), index(1))
    right = blend(between(0, math.ceil(ends[1])))
    below = {
        "the ramp begins below pair 0; hold its start at 0": blend(
            between(math.floor(ends[0]), math.ceil(ends[1]))
        )
    }
    return compare(
        "15.3", yarn_frequencies(dim, base, factor, length), right, below, right=done, tolerance=1e-7
    )


def check_restamp(restamp: Callable[[Tensor, Tensor, Tensor], object]) -> Feedback:
    """Exercise 15.4: `restamp(keys, old, new)` gives cached keys (N, D) at 0, 1, … the angles of new frequencies."""
    dim, count = 8, 6
    old, new = _theta(dim, 100), _theta(dim, 700)
    keys = torch.randn(count, dim, generator=torch.Generator().manual_seed(15), dtype=torch.float64)
    positions = torch.arange(count, dtype=torch.float64)

    def turned(x: Tensor, freqs: Tensor, at: Tensor = positions, layout: str = "interleaved") -> Tensor:
        arrows = torch.polar(torch.ones(count, dim // 2, dtype=torch.float64), at[:, None] * freqs)
        if layout == "half":
            product = torch.complex(*x.chunk(2, dim=-1)) * arrows
            return torch.cat((product.real, product.imag), dim=-1)
        product = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * arrows
        return torch.view_as_real(product).flatten(-2)

    cached, right = turned(keys, old), turned(keys, new)
    mistakes = {
        "these keys are turned on top of their old angle; apply only the difference of the two": turned(
            cached, new
        ),
        "these keys turn the other way: their angle must become m·new, so they turn by m·(new − old)": turned(
            cached, old - new
        ),
        "these keys have lost their position; they were to be given the new angle": keys,
        "these keys are not turned at all": cached,
        "all keys turn by the same angle; the angle grows with the position": turned(
            cached, new - old, torch.ones(count, dtype=torch.float64)
        ),
        "your positions begin at 1; the first key is at 0": turned(cached, new - old, positions + 1),
        "the pairs are those of the half layout; these keys are interleaved": turned(
            cached, new - old, layout="half"
        ),
    }
    done = "rotations add up, so nothing was lost in the cache."
    return compare("15.4", restamp(cached.clone(), old, new), right, mistakes, right=done, tolerance=1e-6)
