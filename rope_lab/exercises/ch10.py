"""Checkers of chapter 10: half-lives, the reach of a number type, and keys moved to another centre."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs


def _zeta(dim: int, step: float = 2.0) -> Tensor:
    return (step * torch.arange(dim // 2, dtype=torch.float64) / dim + 0.4) / 1.4


def check_half_life(half_life: Callable[[int, int], object]) -> Feedback:
    """Exercise 10.1: `half_life(dim, base)` is the distance at which each pair has half its size, shape (D/2,)."""
    dim, base = 16, 100
    zeta = _zeta(dim)
    rate = -zeta.log() / base
    right = math.log(2) / rate
    half = (torch.arange(dim // 2, dtype=torch.float64) / dim + 0.4) / 1.4
    mistakes = {
        "this is the distance at which 1/e is left; a half takes ln 2 of that": 1 / rate,
        "the sign is wrong: ln ζ is negative, a half-life is not": -right,
        "this is in units of the scale base; multiply by it": right / base,
        "you divided by the scale base; multiply by it: the factor "
        "is ζ^(s/B), so a larger B fades less": right / base**2,
        "ζ_i runs too slowly: i counts pairs, so ζ_i = (2i/D + 0.4)/1.4": -base * math.log(2) / half.log(),
        "this is one number per coordinate; give one per pair": right.repeat_interleave(2),
        "the slow pairs are first; pair 0 is the fast one, which fades first": right.flip(0),
    }
    done = "pair i has half its size there, whatever the content."
    return compare("10.1", half_life(dim, base), right, mistakes, right=done, tolerance=0.05)


def check_reach(reach: Callable[[torch.dtype, int], object]) -> Feedback:
    """Exercise 10.2: `reach(dtype, base)` is the largest distance with a key's factor in the range of `dtype`."""
    dtype, base = torch.float16, 96
    largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).tiny


check_half_life = Exercise(
    "10.1",
    "half_life",
    _half_life,
    _life_draws,
    {
        "this is the distance at which 1/e is left; a half takes ln 2 of that": lambda dim, base: (
            -base / _zeta(dim).log()
        ),
        "the sign: ln ζ is negative, a half-life is not": lambda dim, base: -_half_life(dim, base),
        "this is in units of the scale base; multiply by it": lambda dim, base: _half_life(dim, 1),
        "you divided by the scale base; multiply by it: the factor is ζ^(s/B), so a larger B fades less": (
            lambda dim, base: _half_life(dim, 1) / base
        ),
    }
    given = None if answer is None else torch.as_tensor(answer)
    as_tensors = {why: torch.tensor(wrong) for why, wrong in mistakes.items()}
    done = "one token further the factor is above the largest number."
    verdict = compare("10.2", given, torch.tensor(right), as_tensors, right=done)
    if verdict and reach(torch.bfloat16, 2 * base) != math.floor(
        2 * base * math.log(torch.finfo(torch.bfloat16).max) / -math.log(fast)
    ):
        return Feedback(
            "10.2", False, "this is correct only for float16 and this base; compute it from the arguments."
        )
    return verdict


def _exact(dtype: torch.dtype, base: int, zeta: float = 0.4 / 1.4) -> float:
    return base * math.log(torch.finfo(dtype).max) / -math.log(zeta)


    keys = rotated * factor(old - positions)
    right = rotated * factor(new - positions)
    mistakes = {
        "these keys went the other way: a later centre makes past keys smaller": keys * factor(old - new),
        "these keys are not moved at all": keys,
        "these keys are scaled again, on top of the old scale: apply only the difference of the centres": keys
        * factor(new - positions),
        "these keys have no scale left; bring them to the new centre": rotated,
        "the factors are in the order of the half layout; these keys are interleaved": keys
        * factor(new - old, "half"),
        "the base is missing: the factor is ζ^((new − old)/B)": keys * factor((new - old) * base),
    }
    done = "no stale key is left, and no key was rotated again."
    return compare("10.3", recentre(keys.clone(), old, new, base), right, mistakes, right=done)
