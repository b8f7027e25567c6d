"""Checkers of chapter 6: how loose a bound is and where it says something, a key that peaks where you say, reach."""

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


def _steps(h: Tensor) -> Tensor:
    """|h_{i+1} − h_i|, with h = 0 after the last pair."""
    return torch.cat((h, torch.zeros_like(h[:1]))).diff().abs()


def _looseness(h: Tensor, s: Tensor, freqs: Tensor) -> Tensor:
    return _steps(h).max() * _sums(s, freqs).abs().sum(-1) / h.abs().sum()


def _content(d: Draw, pairs: int) -> Tensor:
    return torch.complex(d.tensor(pairs), d.tensor(pairs))


def _curve_draws(d: Draw) -> Iterator[Inputs]:
    yield torch.full((2,), d.real(1, 3) * 1j), torch.tensor([0.0], dtype=torch.float64), theta(4, 50.0)
    yield torch.ones(3, dtype=torch.complex128), torch.tensor([2.5], dtype=torch.float64), theta(6, 50.0)
    for dim in (4, 6, d.one_of(8, 10), 16):
        steps = d.wholes(d.whole(2, 4), low=1, high=15).double()
        yield _content(d, dim // 2), steps.cumsum(0), theta(dim, d.one_of(30.0, 70.0, 10_000.0))


def _with_sums(total: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The same with something else in place of the sum of |S_j|."""
    return lambda h, s, f: _steps(h).max() * total(_sums(s, f)) / h.abs().sum()


check_looseness = Exercise(
    "6.1",
    "looseness",
    _looseness,
    _curve_draws,
    {
        "the last step, from h to 0, is missing": lambda h, s, f: (
            h.diff().abs().max() * _sums(s, f).abs().sum(-1) / h.abs().sum()
        ),
        "this is the paper's bound itself; divide it by the other one": lambda h, s, f: (
            _looseness(h, s, f) * h.abs().sum()
        ),
        "the two bounds are exchanged": lambda h, s, f: 1 / _looseness(h, s, f),
        "without RoPE the bound is the sum of |h_i|, not |sum of h_i|": lambda h, s, f: (
            _looseness(h, s, f) * h.abs().sum() / h.sum().abs()
        ),
        "a step of h is |h_{i+1} − h_i|, not |h_{i+1}| − |h_i|": lambda h, s, f: (
            _looseness(h, s, f) * _steps(h.abs()).max() / _steps(h).max()
        ),
        "the paper takes the largest step, not the mean": lambda h, s, f: (
            _looseness(h, s, f) * _steps(h).mean() / _steps(h).max()
        ),
        "this is only |S_{D/2}|; add all D/2 partial sums": _with_sums(lambda S: S[:, -1].abs()),
        "this is the mean of the |S_j|; the bound has their sum": _with_sums(lambda S: S.abs().mean(-1)),
        "the absolute value comes before the sum: sum of |S_j|, not |sum of S_j|": _with_sums(
            lambda S: S.sum(-1).abs()
        ),
        "you kept only the real parts; |S_j| is the length of a complex number": _with_sums(
            lambda S: S.real.abs().sum(-1)
        ),
        "this is one number per sum, |S_j|; add them": lambda h, s, f: (
            _steps(h).max() * _sums(s, f).abs() / h.abs().sum()
        ),
        "the partial sums run over the distances; they run over the pairs": lambda h, s, f: (
            _steps(h).max() * _arrows(s, f).cumsum(0).abs().sum(-1) / h.abs().sum()
        ),
        "the sums begin with the slowest pair; S_1 is the fastest": lambda h, s, f: _looseness(
            h, s, f.flip(0)
        ),
        "S_j is a sum of unit arrows; yours have the lengths of h": lambda h, s, f: (
            _steps(h).max() * (h * _arrows(s, f)).cumsum(-1).abs().sum(-1) / h.abs().sum()
        ),
    },
    right="that is how far the paper's bound is from what holds without RoPE.",
    properties={
        "a bound cannot be below the score itself, and yours is": lambda y, h, s, f: bool(
            (y >= (h * _arrows(s, f)).sum(-1).abs() / h.abs().sum() - 1e-5).all()
        )
    },
    tolerance=1e-4,
)
"""Exercise 6.1: `looseness(h, s, freqs)` is the paper's bound over the triangle inequality's, shape (S,)."""


def _sum_of(q: Tensor, r: Tensor, freqs: Tensor, layout: str = "interleaved") -> Tensor:
    return rotated(q, r[:, None] * freqs, layout).sum(0)


def _as_long(k: Tensor, q: Tensor) -> Tensor:
    return k * q.norm() / k.norm()


def _key_for(q: Tensor, r: Tensor, freqs: Tensor) -> Tensor:
    return _as_long(_sum_of(q, r, freqs), q)


def _key_draws(d: Draw) -> Iterator[Inputs]:
    for dim, count in ((2, 1), (4, 1), (4, 2), (6, 2), (d.one_of(8, 12), 3)):
        yield (
            d.tensor(dim),
            d.wholes(count, low=1, high=4).cumsum(0),
            theta(dim, d.one_of(30.0, 70.0, 10_000.0)),
        )
    yield d.tensor(6), torch.tensor([0, d.whole(2, 5)]), theta(6, 70.0)


def _mirrored(q: Tensor) -> Tensor:
    return q * torch.tensor([1.0, -1.0], dtype=q.dtype).repeat(len(q) // 2)


check_key_for = Exercise(
    "6.2",
    "key_for",
    _key_for,
    _key_draws,
    {
        "this key peaks ahead of the query, at s = −r; turn the other way": lambda q, r, f: _key_for(
            q, -r, f
        ),
        "the sum of the turned queries is not as long as q": _sum_of,
        "the mean of the turned queries is not as long as q": lambda q, r, f: _sum_of(q, r, f) / len(r),
        "this is the key for the first distance alone": lambda q, r, f: _key_for(q, r[:1], f),
        "this is the key for the mean of the distances": lambda q, r, f: _key_for(
            q, r.double().mean()[None], f
        ),
        "this is q, which peaks at distance 0": lambda q, r, f: q,
        "this is q with its sign changed, which has its lowest score at distance 0": lambda q, r, f: -q,
        "the sign is changed: this key has the lowest mean score": lambda q, r, f: -_key_for(q, r, f),
        "this is the conjugate of the key: the second coordinate of every pair has the wrong sign": (
            lambda q, r, f: _mirrored(_key_for(q, r, f))
        ),
        "q is conjugated before it is turned; q and key have the same phase at distance r": (
            lambda q, r, f: _key_for(_mirrored(q), r, f)
        ),
        "these are interleaved angles on a half layout": lambda q, r, f: _as_long(
            _sum_of(q, r, f, "half"), q
        ),
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
    right="no other key of that length scores higher at these distances.",
    properties={
        "the key is as long as q, and yours is not": lambda y, q, r, f: torch.allclose(
            y.norm(), q.norm(), rtol=1e-4
        )
    },
)
"""Exercise 6.2: `key_for(q, r, freqs)` is the key that fits q best in the mean of the distances r, shape (D,)."""


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
    },
    right="scores that are all the same show no decay now.",
    properties={
        "no mean is larger than the largest score or smaller than the smallest": lambda y, x: bool(
            (y <= x.max() + 1e-5).all() and (y >= x.min() - 1e-5).all()
        )
    },
)
"""Exercise 6.4: `by_distance(scores)` is the mean score at each distance of a causal layer, (N,)."""


def _taper(pairs: int) -> Tensor:
    return torch.arange(pairs, 0, -1, dtype=torch.float64).to(torch.complex128)


def _telling(s: float, freqs: Tensor) -> Tensor | None:
    return _taper(len(freqs)) if s else None


def _telling_draws(d: Draw) -> Iterator[Inputs]:
    yield 0.0, theta(4, 50.0)
    yield d.one_of(0.5, 0.6), theta(4, d.one_of(50.0, 70.0))
    yield d.one_of(0.5, 0.6, 0.7), theta(8, d.one_of(50.0, 70.0))
    yield float(d.whole(2, 5)), theta(6, 50.0)
    yield float(d.whole(20, 90)), theta(d.one_of(12, 16), 10_000.0)


def _tells_nothing(h: Tensor, s: float, freqs: Tensor) -> str:
    if h.shape != freqs.shape:
        return f"h has one number per pair, {len(freqs)} of them, got shape {tuple(h.shape)}."
    if not h.abs().sum():
        return "h must not be 0."
    ratio = float(_looseness(h, torch.tensor([s], dtype=torch.float64), freqs))
    if ratio < 1 - 1e-6:
        return ""
    return f"there the paper's bound is {ratio:.4g} times as large as what holds without RoPE."


def _unless_zero(content: Callable[[int], Tensor]) -> Callable[..., Tensor | None]:
    return lambda s, freqs: content(len(freqs)) if s else None


check_telling = Exercise(
    "6.5",
    "telling",
    _telling,
    _telling_draws,
    {
        "at distance 0 nothing has turned, and no bound is below the score": lambda s, freqs: _taper(
            len(freqs)
        ),
        "for content that is the same in all pairs the last step is as large as h": _unless_zero(torch.ones),
        "the content grows from pair to pair, so the last step, to 0, is the largest": _unless_zero(
            lambda n: _taper(n).flip(0)
        ),
        "the taper is 0 already at the last pair; that makes the steps larger than they have to be": _unless_zero(
            lambda n: _taper(n) - 1
        ),
        "the taper is too steep at its beginning; all steps count as much as the largest": _unless_zero(
            lambda n: _taper(n) ** 2
        ),
        "in one pair alone, all of h is one step": _unless_zero(lambda n: torch.eye(n)[0]),
    },
    right="the content is smooth to its very end, and only there does the bound say something.",
    fault=_tells_nothing,
)
"""Exercise 6.5: `telling(s, freqs)` is an h (D/2,) for which the paper's bound is below the triangle's, or None."""
