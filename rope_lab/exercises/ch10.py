"""Checkers of chapter 10: half-lives, the reach of a number type, and keys moved to another centre."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rope_lab.exercises.feedback import Feedback, compare


def _zeta(dim: int) -> Tensor:
    return (torch.arange(0, dim, 2, dtype=torch.float64) / dim + 0.4) / 1.4


def check_half_life(half_life: Callable[[int, int], object]) -> Feedback:
    """Exercise 10.1: `half_life(dim, base)` is the distance at which each pair has half its size, shape (D/2,)."""
    dim, base = 16, 100
    zeta = _zeta(dim)
    rate = -zeta.log() / base
    right = math.log(2) / rate
    half = (torch.arange(dim // 2, dtype=torch.float64) / dim + 0.4) / 1.4
    mistakes = {
        "this is the distance at which 1/e is left; a half takes ln 2 of that": 1 / rate,
        "the sign: ln ζ is negative, a half-life is not": -right,
        "this is in units of the scale base; multiply by it": right / base,
        "divided by the scale base where it multiplies: the factor is ζ^(s/B), a larger B fades less": right
        / base**2,
        "ζ_i runs too slowly: i counts pairs, so ζ_i = (2i/D + 0.4)/1.4": -base * math.log(2) / half.log(),
        "this is one number a coordinate; give one a pair": right.repeat_interleave(2),
        "the slow pairs stand first; pair 0 is the fast one, which fades first": right.flip(0),
    }
    done = "pair i has half its size there, whatever the content."
    return compare("10.1", half_life(dim, base), right, mistakes, right=done, tolerance=0.05)


def check_reach(reach: Callable[[torch.dtype, int], object]) -> Feedback:
    """Exercise 10.2: `reach(dtype, base)` is how far a key's factor is within the range of `dtype`."""
    dtype, base = torch.float16, 96
    largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).tiny

    def tokens(value: float, zeta: float) -> int:
        return math.floor(base * math.log(value) / -math.log(zeta))

    fast, slow = float(_zeta(64)[0]), float(_zeta(64)[-1])
    right = tokens(largest, fast)
    answer = reach(dtype, base)
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    if isinstance(answer, bool) or not isinstance(answer, (int, Tensor, type(None))):
        return Feedback("10.2", False, f"return an integer, got {type(answer).__name__}.")
    mistakes = {
        "this is one too far: there the factor is already infinite": right + 1,
        "this is one too few": right - 1,
        "this is the reach of the slowest pair; the fastest pair overflows first": tokens(largest, slow),
        "this is where the query's factor leaves the normal numbers; the key's grows": tokens(
            1 / smallest, fast
        ),
        "this counts both sides of the centre; give the distance from it": 2 * right,
        "the base is missing: the factor is ζ^(−s/B)": tokens(largest, fast) // base,
        "this is the reach of float32": math.floor(
            base * math.log(torch.finfo(torch.float32).max) / -math.log(fast)
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
            "10.2", False, "right for float16 and this base alone; compute it from the arguments."
        )
    return verdict


def check_recentre(recentre: Callable[[Tensor, int, int, int], object]) -> Feedback:
    """Exercise 10.3: `recentre(keys, old, new, base)` moves keys scaled about `old` to `new`, shape (N, D)."""
    dim, base, old, new = 8, 10, 4, 9
    positions = torch.arange(6, dtype=torch.float64)
    rotated = torch.randn(6, dim, generator=torch.Generator().manual_seed(10), dtype=torch.float64)

    def factor(distance: Tensor | int, layout: str = "interleaved") -> Tensor:
        power = torch.as_tensor(distance, dtype=torch.float64)[..., None] / base
        scale = _zeta(dim) ** power
        repeated = (
            scale.repeat_interleave(2, -1) if layout == "interleaved" else torch.cat((scale, scale), -1)
        )
        return repeated.expand(6, dim)

    keys = rotated * factor(old - positions)
    right = rotated * factor(new - positions)
    mistakes = {
        "these keys went the other way: a later centre makes past keys smaller": keys * factor(old - new),
        "these keys are not moved at all": keys,
        "these keys are scaled anew, on top of the old scale: only the difference of the centres is due": keys
        * factor(new - positions),
        "these keys have no scale left; bring them to the new centre": rotated,
        "the factors stand in the order of the half layout; these keys are interleaved": keys
        * factor(new - old, "half"),
        "the base is missing: the factor is ζ^((new − old)/B)": keys * factor((new - old) * base),
    }
    done = "no stale key is left, and none was rotated again."
    return compare("10.3", recentre(keys.clone(), old, new, base), right, mistakes, right=done)
