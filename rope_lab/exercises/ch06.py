"""Checkers of chapter 6: how loose a bound is and where it says something, a key that peaks where you say, reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.distances import check_by_distance, check_reach
from rope_lab.exercises.formulas import half_order, rotated, theta

__all__ = [
    "check_by_distance",
    "check_key_for",
    "check_looseness",
    "check_reach",
    "check_telling",
]


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
    yield torch.arange(1.0, 4).to(torch.complex128), torch.tensor([2.5], dtype=torch.float64), theta(6, 50.0)
    for dim in (4, 6, d.one_of(8, 10), 16):
        steps = d.wholes(d.whole(2, 4), low=1, high=15).double()
        yield _content(d, dim // 2), steps.cumsum(0), theta(dim, d.one_of(30.0, 70.0, 10_000.0))


def _with_sums(total: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The same with something else in place of the sum of |S_j|."""
    return lambda h, s, f: _steps(h).max() * total(_sums(s, f)) / h.abs().sum()


def _other_end(h: Tensor, s: Tensor, freqs: Tensor) -> Tensor:
    return _looseness(h, s, freqs) * _steps(h.flip(0)).max() / _steps(h).max()


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
        "the step to 0 comes after the last pair; yours is before the first": _other_end,
        "the paper takes the largest step, not their sum": (
            lambda h, s, f: _looseness(h, s, f) * _steps(h).sum() / _steps(h).max()
        ),
        "the other bound is the sum of |h_i|, not the score |sum of h_i e^(isθ_i)|": (
            lambda h, s, f: _looseness(h, s, f) * h.abs().sum() / (h * _arrows(s, f)).sum(-1).abs()
        ),
        "S_j is a partial sum; a single arrow has the length 1": (
            _with_sums(lambda S: torch.full((len(S),), float(S.shape[1]), dtype=torch.float64))
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
    yield d.tensor(4), torch.tensor([1, 4, 5]), theta(4, 70.0)


def _mirrored(q: Tensor) -> Tensor:
    return q * torch.tensor([1.0, -1.0], dtype=q.dtype).repeat(len(q) // 2)


def _pair_lengths(x: Tensor) -> Tensor:
    return x.unflatten(-1, (-1, 2)).norm(dim=-1).repeat_interleave(2, -1)


def _pairwise_as_long(q: Tensor, r: Tensor, freqs: Tensor) -> Tensor:
    k = _sum_of(q, r, freqs)
    return k / _pair_lengths(k) * _pair_lengths(q)


def _best_of_single(q: Tensor, r: Tensor, freqs: Tensor) -> Tensor:
    keys = rotated(q, r[:, None] * freqs)
    return keys[(keys @ keys.T).mean(1).argmax()]


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
        "each pair is as long as in q; the pairs on which the distances agree have to get more": (
            _pairwise_as_long
        ),
        "this is the best of the keys for one distance each; a key between them scores higher": _best_of_single,
    },
    right="no other key of that length scores higher at these distances.",
    properties={
        "the key is as long as q, and yours is not": lambda y, q, r, f: torch.allclose(
            y.norm(), q.norm(), rtol=1e-4
        )
    },
)
"""Exercise 6.2: `key_for(q, r, freqs)` is the key that fits q best in the mean of the distances r, shape (D,)."""


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
        "the content halves from pair to pair, so its first step is half of it; take equal steps": (
            _unless_zero(lambda n: 0.5 ** torch.arange(n))
        ),
        "content that turns against the arrows makes their sum large, and its steps too": (
            lambda s, freqs: torch.polar(torch.ones_like(freqs), -s * freqs) if s else None
        ),
        "content that turns with the arrows has long steps": (
            lambda s, freqs: torch.polar(torch.ones_like(freqs), s * freqs) if s else None
        ),
        "a distance of less than one token is enough; only at 0 there is no such content": (
            lambda s, freqs: _taper(len(freqs)) if s >= 1 else None
        ),
    },
    right="the content is smooth to its very end, and only there does the bound say something.",
    fault=_tells_nothing,
)
"""Exercise 6.5: `telling(s, freqs)` is an h (D/2,) for which the paper's bound is below the triangle's, or None."""
