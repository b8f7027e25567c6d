"""Checkers of chapter 15: pairs without a full turn, the NTK-aware and the YaRN frequencies, keys of an older base."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rope_lab.exercises.feedback import Feedback, compare


def _theta(dim: int, base: float) -> Tensor:
    return base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)


def check_unseen_pairs(unseen_pairs: Callable[[int, float, int], object]) -> Feedback:
    """Exercise 15.1: `unseen_pairs(dim, base, length)` counts the pairs whose wavelength exceeds `length`."""
    cases = ((40, 10_000, 128), (128, 10_000, 4096), (128, 500_000, 8192))
    answers = []
    for case in cases:
        answer = unseen_pairs(*case)
        if answer is None:
            return compare("15.1", None, torch.zeros(()), {}, right="")
        if isinstance(answer, Tensor) and answer.numel() == 1:
            answer = answer.item()
        if isinstance(answer, float) and answer.is_integer():
            answer = int(answer)
        if isinstance(answer, bool) or not isinstance(answer, int):
            return Feedback("15.1", False, f"return an integer, got {type(answer).__name__}.")
        answers.append(answer)

    def count(turns: Callable[[int, float, int], Tensor]) -> Tensor:
        return torch.stack([(turns(*case) < 1).sum() for case in cases])

    def turns(dim: int, base: float, length: int) -> Tensor:
        return length * _theta(dim, base) / (2 * math.pi)

    right, pairs = count(turns), torch.tensor([dim // 2 for dim, _, _ in cases])
    mistakes = {
        "these are the pairs that do complete a turn": pairs - right,
        "2π is missing: a turn is 2π radians, so the wavelength is 2π/θ": count(
            lambda d, b, n: n * _theta(d, b)
        ),
        "these are coordinates; a pair has two": 2 * right,
        "these are the pairs without half a turn; ask for a whole one": count(lambda *case: 2 * turns(*case)),
        "θ_i falls too slowly: i counts pairs, so θ_i = base^(−2i/D)": count(
            lambda d, b, n: n * b ** (-torch.arange(d // 2).double() / d) / (2 * math.pi)
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
        "the base is multiplied by the factor itself, so the last frequency is divided by less than the factor; "
        "the power is D/(D − 2)": _theta(dim, base * factor),
        "the power is upside down: it is D/(D − 2)": _theta(dim, base * factor ** (1 / power)),
        "every frequency is divided by the same number; raise the base, and the first one stays": theta
        / factor**power,
        "this is position interpolation: the first frequency must stay": theta / factor,
        "the base is divided; a longer text needs slower pairs, so a larger base": _theta(
            dim, base / factor**power
        ),
        "these are the frequencies of the old base": theta,
        "θ_i falls too slowly: i counts pairs, so θ_i = base^(−2i/D)": (base * factor**power)
        ** (-torch.arange(dim // 2).double() / dim),
        "this is one frequency a coordinate; give one a pair": right.repeat_interleave(2),
    }
    done = "the first stays, the last is divided by the factor."
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
        "the ramp runs the wrong way: fast pairs stay, slow pairs are divided": blend(1 - ramp),
        "the ramp is not held at 0 and 1, so pairs outside it are sped up or slowed down too much": blend(
            (pair - low) / (high - low)
        ),
        "the ends of the ramp are not rounded outward to whole pairs": blend(between(index(32), index(1))),
        "the ramp runs over the turns, as in the paper and in Llama 3; here it runs over the pair index": blend(
            1 - ((turns - 1) / 31).clamp(0, 1)
        ),
        "2π is missing: a pair turns length·θ/2π times": blend(between(*short)),
        "wavelengths are blended; blend the frequencies": 1 / ((1 - ramp) / theta + ramp * factor / theta),
        "every pair is divided: this is position interpolation": theta / factor,
        "these frequencies are as they were": theta,
    }
    done = "pairs that turn often stay, pairs that never came round are interpolated."
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
        "these keys are turned on top of their old angle; only the difference of the two is due": turned(
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
        "positions begin at 1; the first key stands at 0": turned(cached, new - old, positions + 1),
        "the pairs are those of the half layout; these keys are interleaved": turned(
            cached, new - old, layout="half"
        ),
    }
    done = "rotations add up, so nothing was lost in the cache."
    return compare("15.4", restamp(cached.clone(), old, new), right, mistakes, right=done, tolerance=1e-6)
