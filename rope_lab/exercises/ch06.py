"""Checkers of chapter 6: the curve of the bound, a key that peaks where you say, the reach of a base."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import half_order, rotated, theta


def _arrows(s: Tensor, freqs: Tensor) -> Tensor:
    angle = s[:, None] * freqs
    return torch.polar(torch.ones_like(angle), angle)


def _sums(s: Tensor, freqs: Tensor) -> Tensor:
    return _arrows(s, freqs).cumsum(-1)


def _paper_curve(s: Tensor, freqs: Tensor) -> Tensor:
    return _sums(s, freqs).abs().mean(-1)


def _curve_draws(d: Draw) -> Iterator[Inputs]:
    yield torch.tensor([0.0], dtype=torch.float64), theta(4, 50.0)
    for dim in (4, 6, d.one_of(8, 10), 16):
        steps = d.wholes(d.whole(2, 4), low=1, high=15).double()
        yield steps.cumsum(0), theta(dim, d.one_of(30.0, 70.0, 10_000.0))


check_paper_curve = Exercise(
    "6.1",
    "paper_curve",
    _paper_curve,
    _curve_draws,
    {
        "this is only |S_{D/2}|; take the mean over all D/2 partial sums": lambda s, f: _sums(s, f)[
            :, -1
        ].abs(),
        "this is |S_{D/2}|/(D/2); take the mean over all D/2 partial sums": lambda s, f: (
            _arrows(s, f).mean(-1).abs()
        ),
        "these are the sums over j; the mean divides by D/2": lambda s, f: _sums(s, f).abs().sum(-1),
        "the absolute value comes before the mean: mean of |S_j|, not |mean of S_j|": lambda s, f: (
            _sums(s, f).mean(-1).abs()
        ),
        "you kept only the real parts; |S_j| is the length of a complex number": lambda s, f: (
            _sums(s, f).real.abs().mean(-1)
        ),
        "S_0 = 0 is not among the D/2 sums": lambda s, f: _sums(s, f).abs().sum(-1) / (len(f) + 1),
        "this is one curve per sum, |S_j|; take their mean": lambda s, f: _sums(s, f).abs(),
        "these are only the cosines; an arrow has a sine too": lambda s, f: _arrows(s, f).real.mean(-1),
        "the partial sums run over the distances; they run over the pairs": lambda s, f: (
            _arrows(s, f).cumsum(0).abs().mean(-1)
        ),
        "the sums begin with the slowest pair; S_1 is the fastest": lambda s, f: _paper_curve(s, f.flip(0)),
        "there are D/2 sums; you divide by D": lambda s, f: _paper_curve(s, f) / 2,
    },
    right="that is the curve of the paper.",
    properties={
        "no mean of D/2 sums is larger than (D/2 + 1)/2, and yours is": lambda y, s, f: bool(
            (y <= (len(f) + 1) / 2 + 1e-5).all()
        )
    },
    tolerance=1e-4,
)
"""Exercise 6.1: `paper_curve(s, freqs)` is the mean of |S_1|, …, |S_{D/2}| at each distance, shape (S,)."""


def _key_for(q: Tensor, r: int, freqs: Tensor) -> Tensor:
    return rotated(q, r * freqs)


def _key_draws(d: Draw) -> Iterator[Inputs]:
    for dim in (2, 4, 6, d.one_of(8, 12)):
        yield d.tensor(dim), d.whole(1, 9), theta(dim, d.one_of(30.0, 70.0, 10_000.0))
    yield d.tensor(6), 0, theta(6, 70.0)


def _mirrored(q: Tensor) -> Tensor:
    return q * torch.tensor([1.0, -1.0], dtype=q.dtype).repeat(len(q) // 2)


check_key_for = Exercise(
    "6.2",
    "key_for",
    _key_for,
    _key_draws,
    {
        "this key peaks r tokens ahead of the query, at s = −r; turn the other way": lambda q, r, f: _key_for(
            q, -r, f
        ),
        "this is q, which peaks at distance 0": lambda q, r, f: q,
        "this is q with its sign changed, which has its lowest score at distance 0": lambda q, r, f: -q,
        "the sign is changed: this key has its lowest score at distance r": lambda q, r, f: (
            -_key_for(q, r, f)
        ),
        "this is the conjugate of the key: the second coordinate of every pair has the wrong sign": (
            lambda q, r, f: _mirrored(_key_for(q, r, f))
        ),
        "q is conjugated before it is turned; q and key have the same phase at distance r": (
            lambda q, r, f: _key_for(_mirrored(q), r, f)
        ),
        "these are interleaved angles on a half layout": lambda q, r, f: rotated(q, r * f, "half"),
        "the values are correct, but in the order of the half layout": lambda q, r, f: _key_for(q, r, f)[
            half_order(len(q))
        ],
        "turned twice as far: the query is already turned by its own position": lambda q, r, f: _key_for(
            q, 2 * r, f
        ),
        "the key has length 1; give it the length of q": lambda q, r, f: _key_for(q, r, f) / q.norm(),
        "all pairs turn by the angle r; pair i turns by r·θ_i": lambda q, r, f: _key_for(
            q, r, torch.ones_like(f)
        ),
    },
    right="at distance r no other key of that length scores higher.",
    properties={
        "the key is as long as q, and yours is not": lambda y, q, r, f: torch.allclose(
            y.norm(), q.norm(), rtol=1e-4
        )
    },
)
"""Exercise 6.2: `key_for(q, r, freqs)` is the key that fits q best r tokens behind it, shape (D,)."""


def _first(curve: Callable[[Tensor], Tensor]) -> int:
    low = curve(torch.arange(6000, dtype=torch.float64)[:, None]) < 0
    return int(low.int().argmax())


def _cosines(freqs: Tensor, s: Tensor) -> Tensor:
    return (s * freqs).cos().sum(-1)


def _reach(dim: int, base: float) -> int:
    return _first(lambda s: _cosines(theta(dim, base), s))


def _reach_draws(d: Draw) -> Iterator[Inputs]:
    for dim, low, high in ((32, 20, 40), (64, 30, 60), (64, 80, 120), (128, 200, 600)):
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
    },
    right="there the rotation turns a match against itself.",
)
"""Exercise 6.3: `reach(dim, base)` is the first distance with a negative sum of cosines."""
