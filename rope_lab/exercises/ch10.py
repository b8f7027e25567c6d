"""Checkers of chapter 10: a scale base, the reach of a number type, moved keys, and what fading does not do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import theta


def _zeta(dim: int, step: float = 2.0) -> Tensor:
    return (step * torch.arange(dim // 2, dtype=torch.float64) / dim + 0.4) / 1.4


def _scale_base(dim: int, pair: int, distance: int, share: float) -> float:
    return distance * math.log(float(_zeta(dim)[pair])) / math.log(share)


def _base_draws(d: Draw) -> Iterator[Inputs]:
    for dim in (4, 6, 8, 16, 64):
        pair = d.whole(0, dim // 2 - 1)
        yield dim, pair, d.whole(20, 900), d.one_of(0.1, 0.2, 0.3, 0.7, 0.8)
    yield 10, 1, d.whole(20, 900), 0.5
    yield 12, 4, d.whole(20, 900), 0.9


check_scale_base = Exercise(
    "10.1",
    "scale_base",
    _scale_base,
    _base_draws,
    {
        "the two logarithms are the wrong way round: a pair that fades more needs a larger base": lambda D, i, s, p: (
            s * math.log(p) / math.log(float(_zeta(D)[i]))
        ),
        "the sign is wrong: both logarithms are negative, a base is not": lambda D, i, s, p: (
            -_scale_base(D, i, s, p)
        ),
        "the argument share is not used: this base leaves a half": lambda D, i, s, p: _scale_base(
            D, i, s, 0.5
        ),
        "share is the part that is left, not the part that is lost": lambda D, i, s, p: _scale_base(
            D, i, s, 1 - p
        ),
        "there each side keeps the share; in a score the factor ζ^(s/B) occurs once": lambda D, i, s, p: (
            2 * _scale_base(D, i, s, p)
        ),
        "the logarithms of ζ and of share need the same base": lambda D, i, s, p: (
            _scale_base(D, i, s, p) / math.log(2)
        ),
        "ζ_i grows too slowly: i counts pairs, so ζ_i = (2i/D + 0.4)/1.4": lambda D, i, s, p: (
            s * math.log(float(_zeta(D, 1)[i])) / math.log(p)
        ),
        "the pairs are counted from the slow end; pair 0 is the one that fades most": lambda D, i, s, p: (
            _scale_base(D, D // 2 - 1 - i, s, p)
        ),
        "the argument pair is not used: this is for pair 0": lambda D, i, s, p: _scale_base(D, 0, s, p),
        "the fading is not a straight line: the factor is a power, ζ^(s/B)": lambda D, i, s, p: (
            s * (1 - float(_zeta(D)[i])) / (1 - p)
        ),
        "the argument distance is not used: this is the share after one token": lambda D, i, s, p: (
            _scale_base(D, i, 1, p)
        ),
        "this is what is left of the pair after one token, not a base": lambda D, i, s, p: p ** (1 / s),
    },
    right="with this base the pair keeps exactly that share, whatever the content.",
    properties={"a scale base is positive": lambda y, D, i, s, p: bool(y > 0)},
    tolerance=1e-4,
)
"""Exercise 10.1: `scale_base(dim, pair, distance, share)` leaves `share` of a pair at `distance`, one number."""

SLOW = float(_zeta(64)[-1])


def _exact(dtype: torch.dtype, base: int, size: float, zeta: float = 0.4 / 1.4) -> float:
    return base * math.log(torch.finfo(dtype).max / size) / -math.log(zeta)


def _farthest_key(dtype: torch.dtype, base: int, size: float) -> int:
    return math.floor(_exact(dtype, base, size))


def _farthest_draws(d: Draw) -> Iterator[Inputs]:
    for dtype, low, high, size in (
        (torch.float16, 0.55, 0.95, 1.0),
        (torch.bfloat16, 0.05, 0.45, d.real(2, 30)),
        (torch.float32, 0.55, 0.95, d.real(40, 90)),
        (torch.float16, 0.05, 0.45, d.real(0.1, 0.9)),
        (torch.float16, 0.05, 0.95, d.real(2, 20)),
    ):
        while (
            True
        ):  # neither rounding nor a rounded logarithm must decide, and up and down must differ from nearest
            base = d.whole(30, 600)
            if low < _exact(dtype, base, size) % 1 < high:
                break
        yield dtype, base, size


check_farthest_key = Exercise(
    "10.2",
    "farthest_key",
    _farthest_key,
    _farthest_draws,
    {
        "this is one too far: there the coordinate is already infinite": lambda dtype, base, size: (
            _farthest_key(dtype, base, size) + 1
        ),
        "this is one too few": lambda dtype, base, size: _farthest_key(dtype, base, size) - 1,
        "the argument size is not used: this is for coordinates of size 1": lambda dtype, base, size: (
            _farthest_key(dtype, base, 1)
        ),
        "a larger coordinate reaches less far: divide the largest number by size": lambda dtype, base, size: (
            _farthest_key(dtype, base, 1 / size)
        ),
        "round down: the coordinate must be at most the largest number": lambda dtype, base, size: round(
            _exact(dtype, base, size)
        ),
        "this is the reach of the slowest pair; the fastest pair overflows first": lambda dtype, base, size: (
            math.floor(_exact(dtype, base, size, SLOW))
        ),
        "this is where a query's coordinate leaves the normal numbers; a key's grows": lambda dtype, base, size: (
            math.floor(base * math.log(torch.finfo(dtype).tiny / size) / math.log(0.4 / 1.4))
        ),
        "this counts both sides of the centre; give the distance from it": lambda dtype, base, size: (
            2 * _farthest_key(dtype, base, size)
        ),
        "the base is missing: the factor is ζ^(−s/B)": lambda dtype, base, size: _farthest_key(
            dtype, 1, size
        ),
        "the argument base is not used: this is for 512": lambda dtype, base, size: _farthest_key(
            dtype, 512, size
        ),
        "the argument dtype is not used: this is the reach of float32": lambda dtype, base, size: (
            _farthest_key(torch.float32, base, size)
        ),
        "the argument dtype is not used: this is the reach of float16": lambda dtype, base, size: (
            _farthest_key(torch.float16, base, size)
        ),
        "this is not a distance but the largest number of the type": lambda dtype, base, size: (
            torch.finfo(dtype).max
        ),
        "ζ = 0.4/1.4 for the fastest pair; you use 0.4": lambda dtype, base, size: math.floor(
            _exact(dtype, base, size, 0.4)
        ),
    },
    right="one token further the coordinate is above the largest number.",
)
"""Exercise 10.2: `farthest_key(dtype, base, size)` is the largest distance of a scaled key in the range."""


def _scaled(keys: Tensor, power: Tensor | float, layout: str = "interleaved", step: float = 2) -> Tensor:
    dim = keys.shape[-1]
    scale = _zeta(dim, step) ** torch.as_tensor(power, dtype=torch.float64)[..., None]
    return keys * (
        scale.repeat_interleave(2, -1) if layout == "interleaved" else torch.cat((scale, scale), -1)
    )


def _recentre(keys: Tensor, old: int, new: int, base: int) -> Tensor:
    return _scaled(keys, (new - old) / base)


def _keys_draws(d: Draw) -> Iterator[Inputs]:
    for n, dim in ((1, 4), (2, 6), (d.whole(3, 5), 8), (d.whole(3, 5), 6)):
        for sign in (1, -1):
            old = d.whole(20, 30)
            yield d.tensor(n, dim), old, old + sign * d.whole(2, 19), d.one_of(10, 20, 64)
    yield d.tensor(2, 4), 7, 7, 20


def _rows(keys: Tensor) -> Tensor:
    return torch.arange(len(keys), dtype=torch.float64)


check_recentre = Exercise(
    "10.3",
    "recentre",
    _recentre,
    _keys_draws,
    {
        "these keys went the other way: a later centre makes past keys smaller": lambda k, old, new, b: (
            _recentre(k, new, old, b)
        ),
        "these keys are not moved at all": lambda k, old, new, b: k,
        "(new − old) // B is a whole number; divide with /": lambda k, old, new, b: _scaled(
            k, float((new - old) // b)
        ),
        "these keys are scaled again, on top of the old scale: apply only the difference of the centres": (
            lambda k, old, new, b: _scaled(k, (new - _rows(k)) / b)
        ),
        "these keys have no scale left; bring them to the new centre": lambda k, old, new, b: _scaled(
            k, (_rows(k) - old) / b
        ),
        "the factors are in the order of the half layout; these keys are interleaved": lambda k, old, new, b: (
            _scaled(k, (new - old) / b, "half")
        ),
        "the base is missing: the factor is ζ^((new − old)/B)": lambda k, old, new, b: _scaled(
            k, float(new - old)
        ),
        "you multiply by the base; the factor is ζ^((new − old)/B)": lambda k, old, new, b: _scaled(
            k, (new - old) * b / 1.0
        ),
        "the sign of new − old is lost: the centre can also move back": lambda k, old, new, b: _recentre(
            k, 0, abs(new - old), b
        ),
        "a centre that moves back has a factor too": lambda k, old, new, b: _recentre(
            k, 0, max(new - old, 0), b
        ),
        "ζ_i runs too slowly: i counts pairs, so ζ_i = (2i/D + 0.4)/1.4": lambda k, old, new, b: _scaled(
            k, (new - old) / b, step=1
        ),
        "this moves keys from a centre at 0; only the difference to the old centre is due": lambda k, old, new, b: (
            _scaled(k, new / b)
        ),
        "the argument base is not used: this is for 512": lambda k, old, new, b: _recentre(k, old, new, 512),
    },
    right="no stale key is left, and no key was rotated again.",
    tolerance=1e-4,
)
"""Exercise 10.3: `recentre(keys, old, new, base)` moves keys scaled about `old` to `new`, shape (N, D)."""


def _weights(q: Tensor, k: Tensor, base: int) -> Tensor:
    """Scores of xPos for rotated q and k (N, D), over √D and without a mask, (N, N)."""
    at = torch.arange(len(q), dtype=torch.float64) / base
    return _scaled(q, at) @ _scaled(k, -at).T / q.shape[-1] ** 0.5


def _ahead(scores: Tensor, own: int = 1) -> Tensor:
    return torch.ones_like(scores, dtype=torch.bool).triu(own)


def _attended(scores: Tensor, hidden: Tensor, v: Tensor) -> Tensor:
    return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v


def _fading_attention(q: Tensor, k: Tensor, v: Tensor, base: int) -> Tensor:
    scores = _weights(q, k, base)
    return _attended(scores, _ahead(scores), v)


def _over(masked: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda q, k, v, base: masked(_weights(q, k, base), v)


def _attention_draws(d: Draw) -> Iterator[Inputs]:
    yield d.tensor(1, 2), d.tensor(1, 2), d.tensor(1, 2), 4
    for n, dim in ((2, 2), (3, 4), (d.whole(4, 6), 6), (d.whole(5, 7), 4)):
        k = d.tensor(n, dim)
        if n > 3:
            k[1] = 0  # a score that is 0 and must be seen
        yield d.tensor(n, dim), k, d.tensor(n, dim), d.one_of(2, 4, 8)


check_fading_attention = Exercise(
    "10.4",
    "fading_attention",
    _fading_attention,
    _attention_draws,
    {
        "this is what the function of the page gives; compare its first output with v[0]": _over(
            lambda x, v: x.tril().softmax(-1) @ v
        ),
        "the rows of weights no longer sum to 1: hide the scores before the softmax": _over(
            lambda x, v: x.softmax(-1).tril() @ v
        ),
        "a score that happens to be 0 is hidden as well": _over(lambda x, v: _attended(x, x.tril() == 0, v)),
        "no key is hidden": _over(lambda x, v: x.softmax(-1) @ v),
        "the past is hidden and what comes later is seen": _over(lambda x, v: _attended(x, ~_ahead(x, 0), v)),
        "a query must see itself, too": _over(lambda x, v: _attended(x, _ahead(x, 0), v)),
        "the scores no longer fade": lambda q, k, v, base: _attended(
            q @ k.T / q.shape[-1] ** 0.5, _ahead(q @ k.T), v
        ),
        "the fading runs backwards: a query is multiplied by ζ^(m/B) and a key by ζ^(−n/B)": lambda q, k, v, base: (
            _fading_attention(q, k, v, -base)
        ),
        "the scores are no longer divided by √D": lambda q, k, v, base: _fading_attention(
            q * q.shape[-1] ** 0.5, k, v, base
        ),
    },
    right="a key ahead of the query has the weight 0, and a faded one does not.",
    properties={
        "the first query sees one key only, so its output is v[0], and yours is not": lambda y, q, k, v, base: (
            torch.allclose(y[0], v[0], atol=1e-4)
        ),
        "an output may not depend on tokens after its own, and one of yours does": lambda y, q, k, v, base: (
            torch.allclose(y[:2], _fading_attention(q[:2], k[:2], v[:2], base), atol=1e-4)
        ),
    },
    tolerance=1e-4,
)
"""Exercise 10.4: `fading_attention(q, k, v, base)`, causal attention of rotated q, k and v (N, D), mended."""


def _copies(dim: int, base: float, s: int) -> Tensor:
    """What a query's pair of length 1 adds to its score with a copy of itself s tokens back, by pair."""
    return _zeta(dim) ** (s / base) * (s * theta(dim, 10_000.0)).cos()


def _gain(dim: int, base: float, near: int, far: int) -> Tensor:
    return _copies(dim, base, far) - _copies(dim, base, near)


def _alone(dim: int, pair: int) -> Tensor:
    return torch.eye(dim, dtype=torch.float64)[2 * pair]


def _louder(dim: int, base: float, near: int, far: int) -> Tensor | None:
    gain = _gain(dim, base, near, far)
    return _alone(dim, int(gain.argmax())) if gain.max() > 0 else None


def _louder_draws(d: Draw) -> Iterator[Inputs]:
    yield d.one_of(4, 8), d.one_of(16, 64), 0, d.whole(5, 90)
    for kind in ("first", "other", "faded", "first", "other", "faded"):
        while True:
            dim, base = d.one_of(4, 6, 8, 12), d.one_of(16, 64, 128)
            near = d.whole(1, 60)
            far = near + d.whole(1, 60)
            gain, plain = _gain(dim, base, near, far), _gain(dim, math.inf, near, far)
            decided = gain.abs().min() > 1e-3 and plain.max() > 0.05
            found = {
                "first": gain[0] == gain.max() > 0 > gain.sum(),
                "other": gain[0] < 0 < gain.max() and plain.argmax() != gain.argmax() and gain[-1] < 0,
                "faded": gain.max() < 0,
            }
            if decided and found[kind]:
                break
        yield dim, base, near, far


def _not_louder(y: Tensor, dim: int, base: float, near: int, far: int) -> str:
    if y.shape != (dim,):
        return f"return one query of shape ({dim},), got shape {tuple(y.shape)}."
    weights = y.unflatten(0, (-1, 2)).square().sum(-1)
    if weights.sum() == 0:
        return "a query of zeros has the score 0 at every distance."
    low, high = (float(weights @ _copies(dim, base, s) / weights.sum()) for s in (near, far))
    if high > low + 1e-6:
        return ""
    return f"over |q|², the score is {high:.4g} at {far} and {low:.4g} at {near}, so it does not grow."


def _by_pair(pick: Callable[..., int]) -> Callable[..., Tensor | None]:
    return lambda dim, base, near, far: _alone(dim, pick(dim, base, near, far))


check_louder = Exercise(
    "10.5",
    "louder",
    _louder,
    _louder_draws,
    {
        "all content is in pair 0, which is not the one that grows everywhere": _by_pair(lambda *inputs: 0),
        "all content is in the slowest pair, which turns too little within these distances": _by_pair(
            lambda dim, base, near, far: dim // 2 - 1
        ),
        "the same content in all pairs; choose the pair that grows": lambda dim, base, near, far: torch.ones(
            dim
        ),
        "this pair is the one that loses most": _by_pair(lambda *inputs: int(_gain(*inputs).argmin())),
        "the fading is left out: for RoPE this would be an answer": lambda dim, base, near, far: _louder(
            dim, math.inf, near, far
        ),
        "the pair that grows most is right where one grows; where none does, the answer is None": _by_pair(
            lambda *inputs: int(_gain(*inputs).argmax())
        ),
    },
    right="the score is a mean over the pairs with weights |q_i|², so one pair that grows is enough, and needed.",
    fault=_not_louder,
)
"""Exercise 10.5: `louder(dim, base, near, far)`, a query (D,) whose copy scores more at `far`, or None."""
