"""Checkers of chapter 5: the order of the half layout, the pairs of a black box, the weights of a layer, packed or not,
and a key on which both layouts agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import half_order, rotated, theta

Turn = Callable[[Tensor, float], Tensor]
Weights = dict[str, Tensor]


def _half_order(dim: int, rotary_dim: int) -> Tensor:
    return torch.cat((half_order(rotary_dim), torch.arange(rotary_dim, dim)))


def _order_draws(d: Draw) -> Iterator[Inputs]:
    yield 2, 2
    yield 6, 6
    yield 8, 6
    yield d.one_of(10, 12, 14), 8
    yield 16, d.one_of(6, 10, 12)


check_half_order = Exercise(
    "5.1",
    "half_order",
    _half_order,
    _order_draws,
    {
        "this is the way back: p such that interleaved = half[..., p]": lambda d, r: _half_order(
            d, r
        ).argsort(),
        "you reorder the whole head; the coordinates from rotary_dim on stay in place": lambda d, r: (
            half_order(d)
        ),
        "the coordinates from rotary_dim on are missing": lambda d, r: half_order(r),
        "this leaves every coordinate in place": lambda d, r: torch.arange(d),
        "odd coordinates come after the even ones, not before": lambda d, r: torch.cat(
            (half_order(r).roll(r // 2), torch.arange(r, d))
        ),
        "these are the pairs, one per row; put the first of every pair, then the second, in one row": (
            lambda d, r: torch.arange(r).view(-1, 2)
        ),
        "these are two rows, evens and odds; flatten them": lambda d, r: torch.arange(r).view(-1, 2).T,
        "the coordinates from rotary_dim on come last, not first": lambda d, r: torch.cat(
            (torch.arange(r, d), half_order(r))
        ),
        "one coordinate is missing: those that do not turn begin at rotary_dim": (
            lambda d, r: torch.tensor([*half_order(r), *range(r + 1, d)])
        ),
        "the odd coordinates come after those that do not turn; they come before them": (
            lambda d, r: torch.cat((torch.arange(0, r, 2), torch.arange(r, d), torch.arange(1, r, 2)))
        ),
        "the last rotary_dim coordinates are reordered; the first ones turn": (
            lambda d, r: torch.cat((torch.arange(d - r), d - r + half_order(r)))
        ),
    },
    right="the even coordinates, then the odd ones, then those that do not turn.",
)
"""Exercise 5.1: `half_order(dim, rotary_dim)` gives p with half = interleaved[..., p]."""


def _unknown(pairs: Tensor, freqs: Tensor) -> Turn:
    """A rotation of these pairs, which accepts vectors with any number of axes and of any real type."""
    order = pairs.flatten()

    def turn(x: Tensor, m: float) -> Tensor:
        angle = torch.as_tensor(m, dtype=torch.float64).unsqueeze(-1) * freqs
        turned = rotated(x.double()[..., order], angle)[..., order.argsort()]
        return turned.to(x.dtype) if x.is_floating_point() else turned

    turn.pairs = pairs  # type: ignore[attr-defined]
    turn.__name__ = "an unknown rotation"
    return turn


def _find_pairs(turn: Turn, dim: int) -> Tensor:
    return _found(turn, dim)


def _two_layouts(turn: Turn, dim: int) -> Tensor:
    interleaved = bool(turn(torch.eye(dim, dtype=torch.float64)[:1], 1)[0, 1].abs() > 1e-9)
    return torch.arange(dim).view(-1, 2) if interleaved else torch.arange(dim).view(2, -1).T


def _alike_changed(turn: Turn, dim: int) -> Tensor:
    change = turn(torch.ones(1, dim, dtype=torch.float64), 1)[0] - 1
    return change.abs().argsort(descending=True).view(-1, 2)


def _found(turn: Turn, dim: int, m: int = 1, least: float = 0.0) -> Tensor:
    turned = turn(torch.eye(dim, dtype=torch.float64), m)
    sines = turned - turned.diag().diag()
    first = (sines > least).any(-1).nonzero().flatten()
    sine, second = sines[first].max(-1)
    return torch.stack((first, second), dim=-1)[sine.argsort(descending=True)]


def _pair_draws(d: Draw) -> Iterator[Inputs]:
    yield _unknown(torch.tensor([[1, 0]]), theta(2, 50.0)), 2
    yield _unknown(d.order(16).view(-1, 2), theta(16, 10_000.0)), 16
    neighbours = torch.cat((torch.tensor([1, 0]), 2 + d.order(4))).view(-1, 2)
    yield _unknown(neighbours, theta(6, 50.0)), 6
    for dim in (4, 6, 8, d.one_of(12, 16)):
        yield _unknown(d.order(dim).view(-1, 2), theta(dim, d.one_of(30.0, 50.0, 100.0))), dim


def _sorted_pairs(turn: Turn, dim: int) -> Tensor:
    found = _find_pairs(turn, dim)
    return found[found[:, 0].argsort()]


check_find_pairs = Exercise(
    "5.2",
    "find_pairs",
    _find_pairs,
    _pair_draws,
    {
        "these are the pairs of the interleaved layout; look at what `turn` does": lambda turn, dim: (
            torch.arange(dim).view(-1, 2)
        ),
        "these are the pairs of the half layout; look at what `turn` does": lambda turn, dim: (
            torch.arange(dim).view(2, -1).T
        ),
        "every pair is reversed: when the unit vector of a is rotated, the sine at b is positive": (
            lambda turn, dim: _find_pairs(turn, dim).flip(1)
        ),
        "the slowest pair comes first; sort by descending frequency": lambda turn, dim: _find_pairs(
            turn, dim
        ).flip(0),
        "the pairs are correct, but sorted by coordinate; sort them by frequency": _sorted_pairs,
        "each pair is sorted by coordinate; the sign of the sine tells a from b": lambda turn, dim: (
            _find_pairs(turn, dim).sort(1).values
        ),
        "one row per pair: this is the transpose": lambda turn, dim: _find_pairs(turn, dim).T,
        "interleaved and half are not the only layouts: find the partner of each coordinate": _two_layouts,
        "at position 10 fast pairs have passed half a turn, and a sine tells nothing; take position 1": (
            lambda turn, dim: _found(turn, dim, 10)
        ),
        "your threshold loses the pairs that turn slowly": lambda turn, dim: _found(turn, dim, 1, 1e-3),
        "coordinates of a vector of ones can change alike without being a pair; turn unit vectors": (
            _alike_changed
        ),
    },
    right="you can ask any library for its layout now.",
)
"""Exercise 5.2: `find_pairs(turn, dim)` gives the pairs of an unknown rotation, fastest first, (dim/2, 2)."""


def _reordered(rows: Tensor, heads: int, r: int | None, *, back: bool = False) -> Tensor:
    """The rows of each head, from interleaved to half or back."""
    head_dim = len(rows) // heads
    if r is not None and r > head_dim:
        raise ValueError(f"r = {r} is more than the {head_dim} rows of a head")
    order = _half_order(head_dim, head_dim if r is None else r)
    return rows.unflatten(0, (heads, head_dim))[:, order.argsort() if back else order].flatten(0, 1)


def _converted(
    weights: Weights,
    heads: int,
    key_heads: int,
    rotary_dim: int | None,
    *,
    kinds: tuple[str, ...] = ("query", "key"),
    parts: tuple[str, ...] = ("weight", "bias"),
    back: bool = False,
) -> Weights:
    counts = {"query": heads, "key": key_heads, "value": key_heads}
    result = dict(weights)
    for name, rows in weights.items():
        kind, part = name.split(".")
        if kind in kinds and part in parts:
            result[name] = _reordered(rows, counts[kind], rotary_dim, back=back)
    return result


def _to_half(weights: Weights, heads: int, key_heads: int, rotary_dim: int) -> Weights:
    return _converted(weights, heads, key_heads, rotary_dim)


def _weight_draws(d: Draw) -> Iterator[Inputs]:
    for heads, key_heads, head_dim, r in ((2, 1, 12, 6), (4, 2, 16, 8), (2, 2, 8, 6), (2, 2, 6, 6)):
        weights = {}
        for name, count in {"query": heads, "key": key_heads, "value": key_heads}.items():
            weights[f"{name}.weight"] = d.tensor(count * head_dim, 48)
            weights[f"{name}.bias"] = d.tensor(count * head_dim)
        yield weights, heads, key_heads, r


def _in_columns(weights: Weights, heads: int, key_heads: int, rotary_dim: int) -> Weights:
    result = _converted(weights, heads, key_heads, rotary_dim)
    for kind, count in {"query": heads, "key": key_heads}.items():
        columns = weights[f"{kind}.weight"].T
        result[f"{kind}.weight"] = _reordered(columns, count, rotary_dim).T
    return result


check_to_half = Exercise(
    "5.3",
    "to_half",
    _to_half,
    _weight_draws,
    {
        "the key projection is not converted": lambda *a: _converted(*a, kinds=("query",)),
        "the query projection is not converted": lambda *a: _converted(*a, kinds=("key",)),
        "the bias is not converted": lambda *a: _converted(*a, parts=("weight",)),
        "the weights are not converted, only the biases": lambda *a: _converted(*a, parts=("bias",)),
        "values are not rotated, so they are not reordered": lambda *a: _converted(
            *a, kinds=("query", "key", "value")
        ),
        "the keys have key_heads heads, not heads": lambda w, heads, key_heads, r: _converted(
            w, heads, heads, r
        ),
        "you reorder whole heads; only the first rotary_dim rows of each turn": lambda w, heads, key_heads, r: (
            _converted(w, heads, key_heads, None)
        ),
        "this goes from half to interleaved": lambda *a: _converted(*a, back=True),
        "nothing is converted": lambda w, heads, key_heads, r: w,
        "the heads are reordered as one; each head has its own pairs": lambda w, heads, key_heads, r: (
            _converted(w, 1, 1, None)
        ),
        "only the first rotary_dim rows of all are reordered; each head has its own": lambda w, heads, key_heads, r: (
            _converted(w, 1, 1, r)
        ),
        "the columns of the weights are reordered; the rows are what turns": _in_columns,
    },
    right="queries and keys are reordered, each by its own heads, and nothing else.",
)
"""Exercise 5.3: `to_half(weights, heads, key_heads, rotary_dim)` converts one layer from interleaved to half."""


def _packed_to_half(weight: Tensor, heads: int) -> Tensor:
    return _packed(weight, heads)


def _packed(weight: Tensor, heads: int, *, kinds: int = 2, back: bool = False) -> Tensor:
    """The first `kinds` of query, key and value reordered, in every head."""
    parts = weight.unflatten(0, (heads, 3, -1)).clone()
    order = half_order(parts.shape[2])
    parts[:, :kinds] = parts[:, :kinds, order.argsort() if back else order]
    return parts.flatten(0, 2)


def _in_three(weight: Tensor, heads: int) -> Tensor:
    """As if all queries came first, then all keys, then all values."""
    q, k, v = weight.chunk(3)
    return torch.cat((_reordered(q, heads, None), _reordered(k, heads, None), v))


def _sorted_by_kind(weight: Tensor, heads: int) -> Tensor:
    return _packed(weight, heads).unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)


def _packed_draws(d: Draw) -> Iterator[Inputs]:
    for heads, head_dim in ((1, 4), (2, 4), (2, d.one_of(6, 8)), (d.whole(3, 4), 6)):
        yield d.tensor(3 * heads * head_dim, d.whole(1, 2)), heads


check_packed_to_half = Exercise(
    "5.4",
    "packed_to_half",
    _packed_to_half,
    _packed_draws,
    {
        "this is the function of the page, unmended": _in_three,
        "values are not rotated, so they are not reordered": lambda w, heads: _packed(w, heads, kinds=3),
        "the keys are not converted": lambda w, heads: _packed(w, heads, kinds=1),
        "nothing is converted": lambda w, heads: w,
        "this goes from half to interleaved": lambda w, heads: _packed(w, heads, back=True),
        "the conversion is correct, but the rows are no longer packed head by head": _sorted_by_kind,
        "query, key and value of a head are reordered as one vector": lambda w, heads: _reordered(
            w, heads, None
        ),
        "all rows are reordered as one vector; each head has its own pairs": lambda w, heads: _reordered(
            w, 1, None
        ),
    },
    right="the queries and keys of every head, where they are.",
    properties={
        "the rows are the same ones in another order, and yours are not": lambda y, w, heads: y.sort(
            0
        ).values.allclose(w.sort(0).values)
    },
)
"""Exercise 5.4: `packed_to_half(weight, heads)` converts rows that are packed (heads, query key value, head_dim)."""


def _gaps(q: Tensor, base: float, distances: int) -> Tensor:
    """What a key is multiplied with to give the interleaved minus the half score, (distances, D)."""
    angle = torch.arange(distances, dtype=torch.float64)[:, None] * theta(len(q), base)
    return rotated(q, angle) - rotated(q, angle, "half")


def _blind_key(q: Tensor, base: float) -> Tensor:
    return torch.linalg.svd(_gaps(q, base, 4 * len(q)))[2][-1]


def _blind_key_draws(d: Draw) -> Iterator[Inputs]:
    for dim in (2, 4, 4, 6, 8):
        yield d.tensor(dim), d.one_of(20.0, 30.0, 50.0)


def _not_blind(k: Tensor, q: Tensor, base: float) -> str:
    if not k.norm():
        return "the key must not be 0."
    gaps = _gaps(q, base, 100)
    apart = (gaps @ k / (q.norm() * k.norm())).abs()
    s = int(apart.argmax())
    if apart[s] <= 1e-3:
        return ""
    first = int((apart > 1e-3).int().argmax())
    far = f"at distance {s} the scores of the two layouts differ by {apart[s]:.1%} of |q||k|."
    if _steepest(gaps, k):
        return f"{far} This is the key for which they differ most; look for the one for which they do not."
    return far + (
        f" They agree only up to distance {first - 1}, and have to agree at every distance." if first else ""
    )


def _steepest(gaps: Tensor, k: Tensor) -> bool:
    """Whether k is the direction in which the gaps of the first distances are largest."""
    top = torch.linalg.svd(gaps[: 4 * len(k)])[2][0]
    return bool((top @ k / k.norm()).abs() > 0.99)


def _blind_at_one(q: Tensor, base: float) -> Tensor:
    """Any key at right angles to the gap of distance 1, made from (1, −2, 3, …)."""
    k = torch.arange(1.0, len(q) + 1, dtype=q.dtype) * torch.tensor([1.0, -1.0]).repeat(len(q) // 2)
    gap = _gaps(q, base, 2)[1]
    return k - gap * (k @ gap) / (gap @ gap) if gap.norm() > 0 else k


check_blind_key = Exercise(
    "5.5",
    "blind_key",
    _blind_key,
    _blind_key_draws,
    {
        "the two layouts agree on q with itself at distance 0, and not beyond": lambda q, base: q,
        "a key of ones is blind only to a query of ones": lambda q, base: torch.ones_like(q),
        "you reorder the query; the two rotations act on the same q and k": lambda q, base: q[
            half_order(len(q))
        ],
        "one coordinate is in one pair of either layout, and these pairs have other partners": lambda q, base: (
            torch.eye(len(q), dtype=q.dtype)[0]
        ),
        "this key is blind at distance 1, and has to be so at every distance": _blind_at_one,
    },
    right="whoever tests with this key never sees that the layouts differ.",
    fault=_not_blind,
)
"""Exercise 5.5: `blind_key(q, base)` is a key (D,) with the same scores in both layouts, at every distance."""
