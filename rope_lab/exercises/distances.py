"""Checkers of chapter 6 on distances: where a sum of cosines turns negative, a mean at each distance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import theta


def _first(curve: Callable[[Tensor], Tensor]) -> int:
    low = curve(torch.arange(9000, dtype=torch.float64)[:, None]) < 0
    return int(low.int().argmax())


def _cosines(freqs: Tensor, s: Tensor) -> Tensor:
    return (s * freqs).cos().sum(-1)


def _reach(dim: int, base: float) -> int:
    return _first(lambda s: _cosines(theta(dim, base), s))


def _reach_draws(d: Draw) -> Iterator[Inputs]:
    for dim, low, high in ((32, 20, 40), (64, 30, 60), (64, 80, 120), (128, 200, 600), (128, 700, 900)):
        while True:  # rounding must not decide
            base = 10.0 * d.whole(low, high)
            sums = _cosines(
                theta(dim, base), torch.arange(_reach(dim, base) + 1.0, dtype=torch.float64)[:, None]
            )
            if sums.abs().min() > 1e-3:
                break
        yield dim, base


check_reach = Exercise(
    "6.3",
    "reach",
    _reach,
    _reach_draws,
    {
        "this is the last distance before the sum becomes negative": lambda dim, base: _reach(dim, base) - 1,
        "this is one too far; distances count from 0": lambda dim, base: _reach(dim, base) + 1,
        "the exponent falls too slowly: θ_i = base^(−2i/D), not base^(−i/D)": lambda dim, base: _first(
            lambda s: _cosines(theta(dim, base, -1), s)
        ),
        "these are sines; the arrows start at cos 0 = 1": lambda dim, base: _first(
            lambda s: (s * theta(dim, base)).sin().sum(-1)
        ),
        "this is the limit of wide heads; the head has dim/2 pairs": lambda dim, base: round(0.6165 * base),
        "this is where the sum first falls below 1; look for where it first falls below 0": lambda dim, base: (
            _first(lambda s: _cosines(theta(dim, base), s) - 1)
        ),
        "the argument base is not used: this is the distance for 10,000": lambda dim, base: _reach(
            dim, 10_000.0
        ),
        "this is the distance of the lowest sum; look for the first negative one": lambda dim, base: int(
            _cosines(theta(dim, base), torch.arange(6000, dtype=torch.float64)[:, None]).argmin()
        ),
        "this is where |sum of e^(isθ_i)| falls below 1; look for where the sum of cosines falls below 0": (
            lambda dim, base: _first(
                lambda s: (
                    torch.polar(torch.ones(1, dtype=torch.float64), s * theta(dim, base)).sum(-1).abs() - 1
                )
            )
        ),
        "you look no further than 1,000 tokens": lambda dim, base: min(_reach(dim, base), 1000),
        "this is a quarter turn of the slowest pair; the sum is negative long before": (
            lambda dim, base: math.ceil(math.pi / 2 / float(theta(dim, base)[-1]))
        ),
        "this is where the first pair is negative, always 2; the sum is of all pairs": lambda dim, base: 2,
    },
    right="there the rotation turns a match against itself.",
    properties={
        "at your distance the sum is not below 0": lambda y, dim, base: bool(
            _cosines(theta(dim, base), y) < 0
        ),
        "the sum is below 0 there, but not for the first time: it wobbles, so a grid and a bisection miss the first": (
            lambda y, dim, base: bool(y <= _reach(dim, base))
        ),
    },
)
"""Exercise 6.3: `reach(dim, base)` is the first distance with a negative sum of cosines."""


def _by_distance(scores: Tensor) -> Tensor:
    return torch.stack([scores.diagonal(-s).mean() for s in range(len(scores))])


def _matrix_draws(d: Draw) -> Iterator[Inputs]:
    yield (torch.ones(2, 2, dtype=torch.float64),)
    for n in (1, 2, 3, d.whole(4, 5), d.whole(6, 8)):
        yield (d.tensor(n, n),)


def _counts(scores: Tensor) -> Tensor:
    return torch.arange(len(scores), 0, -1, dtype=scores.dtype)


check_by_distance = Exercise(
    "6.4",
    "by_distance",
    _by_distance,
    _matrix_draws,
    {
        "this is the function of the page, unmended": lambda x: _by_distance(x) * _counts(x) / len(x),
        "these are sums; a mean divides by the number of pairs at that distance": lambda x: (
            _by_distance(x) * _counts(x)
        ),
        "this divides by the number of all pairs, whatever their distance": lambda x: (
            _by_distance(x) * _counts(x) / len(x) ** 2
        ),
        "there are N − s pairs at distance s, not N − s + 1": lambda x: (
            _by_distance(x) * _counts(x) / (_counts(x) + 1)
        ),
        "these are the keys ahead of the query: rows are queries, and s = m − n": lambda x: _by_distance(x.T),
        "keys ahead of the query are among them; s = m − n, not |m − n|": lambda x: (
            (_by_distance(x) + _by_distance(x.T)) / 2
        ),
        "this is the last query only; take the mean over all": lambda x: x[-1].flip(0),
        "the largest distance comes first": lambda x: _by_distance(x).flip(0),
        "these are means of absolute values": lambda x: _by_distance(x.abs()),
        "a mean over all distances up to s mixes them": lambda x: (
            (_by_distance(x) * _counts(x)).cumsum(0) / _counts(x).cumsum(0)
        ),
        "there are N − s pairs at distance s, not N − s − 1": (
            lambda x: _by_distance(x) * _counts(x) / (_counts(x) - 1).clamp_min(1)
        ),
        "there are N − s pairs at distance s, not s + 1": (
            lambda x: _by_distance(x) * _counts(x) / _counts(x).flip(0)
        ),
        "distance 0 is missing": lambda x: torch.stack([x.diagonal(-s).mean() for s in range(1, len(x))]),
        "these are means of the weights; take the scores, before the softmax": (
            lambda x: _by_distance(x.masked_fill(torch.ones_like(x).triu(1).bool(), -torch.inf).softmax(-1))
        ),
        "distances ahead are averaged in: take the diagonals below, diagonal(-s)": (
            lambda x: torch.stack([x.diagonal(s).mean() for s in range(1 - len(x), len(x))])
        ),
    },
    right="scores that are all the same show no decay now.",
    properties={
        "no mean is larger than the largest score or smaller than the smallest": lambda y, x: bool(
            (y <= x.max() + 1e-5).all() and (y >= x.min() - 1e-5).all()
        )
    },
)
"""Exercise 6.4: `by_distance(scores)` is the mean score at each distance of a causal layer, (N,)."""
