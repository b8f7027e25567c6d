"""Checkers of chapter 10 on what fading does and does not: attention of faded keys, copies that get louder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import theta


def zeta(dim: int, step: float = 2.0) -> Tensor:
    return (step * torch.arange(dim // 2, dtype=torch.float64) / dim + 0.4) / 1.4


def scaled(keys: Tensor, power: Tensor | float, layout: str = "interleaved", step: float = 2) -> Tensor:
    dim = keys.shape[-1]
    scale = zeta(dim, step) ** torch.as_tensor(power, dtype=torch.float64)[..., None]
    return keys * (
        scale.repeat_interleave(2, -1) if layout == "interleaved" else torch.cat((scale, scale), -1)
    )


def _weights(q: Tensor, k: Tensor, base: int) -> Tensor:
    """Scores of xPos for rotated q and k (N, D), over √D and without a mask, (N, N)."""
    at = torch.arange(len(q), dtype=torch.float64) / base
    return scaled(q, at) @ scaled(k, -at).T / q.shape[-1] ** 0.5


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


def _keys_too(q: Tensor, k: Tensor, v: Tensor, base: int) -> Tensor:
    at = torch.arange(len(q), dtype=torch.float64) / base
    scores = scaled(q, at) @ scaled(k, at).T / q.shape[-1] ** 0.5
    return _attended(scores, _ahead(scores), v)


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
        "every query must see itself, not only the first": _over(
            lambda x, v: torch.cat((v[:1], _attended(x, _ahead(x, 0), v)[1:]))
        ),
        "the softmax runs over the queries; it has to run over the keys, dim=-1": _over(
            lambda x, v: x.masked_fill(_ahead(x), -torch.inf).softmax(0) @ v
        ),
        "keys are multiplied by ζ^(n/B); divide by it, or the scores fade with m + n": _keys_too,
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
    },
    tolerance=1e-4,
)
"""Exercise 10.4: `fading_attention(q, k, v, base)`, causal attention of rotated q, k and v (N, D), mended."""


def _copies(dim: int, base: float, s: int) -> Tensor:
    """What a query's pair of length 1 adds to its score with a copy of itself s tokens back, by pair."""
    return zeta(dim) ** (s / base) * (s * theta(dim, 10_000.0)).cos()


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
                "other": gain[0] < 0 < gain.max()
                and plain.argmax() not in (0, gain.argmax(), gain.argmax() // 2)
                and gain[-1] < 0
                and gain[gain.argmax() // 2] < 0,
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


def _at_pair_index(dim: int, base: float, near: int, far: int) -> Tensor | None:
    gain = _gain(dim, base, near, far)
    return torch.eye(dim, dtype=torch.float64)[int(gain.argmax())] if gain.max() > 0 else None


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
        "the content is at the index of the pair; the coordinates of pair i are 2i and 2i + 1": _at_pair_index,
        "only pair 0 is tried; another may grow": (
            lambda *inputs: _alone(inputs[0], 0) if _gain(*inputs)[0] > 0 else None
        ),
    },
    right="the score is a mean over the pairs with weights |q_i|², so one pair that grows is enough, and needed.",
    fault=_not_louder,
)
"""Exercise 10.5: `louder(dim, base, near, far)`, a query (D,) whose copy scores more at `far`, or None."""
