"""Checkers of chapter 5: the order of the half layout, the pairs of a black box, the weights of a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import half_order, rotated, theta

Turn = Callable[[Tensor, float], Tensor]
Weights = dict[str, Tensor]


def check_half_order(half_order: Callable[[int, int], Tensor]) -> Feedback:
    """Exercise 5.1: `half_order(dim, rotary_dim)` gives p with half = interleaved[..., p]."""
    d, r = 12, 8
    pairs, rest = torch.arange(r).view(-1, 2), torch.arange(r, d)
    order = torch.cat((pairs.T.flatten(), rest))
    whole = torch.arange(d).view(-1, 2).T.flatten()
    mistakes = {
        "this is the way back: p such that interleaved = half[..., p]": order.argsort(),
        "you reorder the whole head; the coordinates from r on stay in place": whole,
        "the coordinates from r on are missing": pairs.T.flatten(),
        "this leaves every coordinate in place": torch.arange(d),
        "odd coordinates come after the even ones, not before": torch.cat((pairs.flip(1).T.flatten(), rest)),
    }
    right = "the even coordinates, then the odd ones, then those that do not turn."
    return compare("5.1", half_order(d, r), order, mistakes, right=right)


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
    },
    right="evens, then odds, then what does not turn.",
)
"""Exercise 5.1: `half_order(dim, rotary_dim)` gives p with half = interleaved[..., p]."""


def _unknown(pairs: Tensor, freqs: Tensor) -> Turn:
    """A rotation of these pairs, which accepts vectors with any number of axes and of any real type."""
    order = pairs.flatten()

    def turn(x: Tensor, m: float) -> Tensor:
        angle = torch.as_tensor(m, dtype=torch.float64).unsqueeze(-1) * freqs
        turned = rotated(x.double()[..., order], angle)[..., order.argsort()]
        return turned.to(x.dtype) if x.is_floating_point() else turned

    count = torch.arange(d)
    mistakes = {
        "these are the pairs of the interleaved layout; look at what `turn` does": count.view(-1, 2),
        "these are the pairs of the half layout; look at what `turn` does": count.view(2, -1).T,
        "every pair is reversed: when the unit vector of a is rotated, the sine at b is positive": pairs.flip(
            1
        ),
        "the slowest pair comes first; sort by descending frequency": pairs.flip(0),
        "these are the correct pairs, sorted by coordinate; sort them by frequency": pairs[
            pairs[:, 0].argsort()
        ],
        "you sorted each pair by coordinate; the sign of the sine tells a from b": pairs.sort(1).values,
    }
    right = "you can ask any library for its layout now."
    return compare("5.2", find_pairs(turn, d), pairs, mistakes, right=right)


def _find_pairs(turn: Turn, dim: int) -> Tensor:
    turned = turn(torch.eye(dim, dtype=torch.float64), 1)
    sines = turned - turned.diag().diag()
    first = (sines > 0).any(-1).nonzero().flatten()
    sine, second = sines[first].max(-1)
    return torch.stack((first, second), dim=-1)[sine.argsort(descending=True)]


def _pair_draws(d: Draw) -> Iterator[Inputs]:
    yield _unknown(torch.tensor([[1, 0]]), theta(2, 50.0)), 2
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
        count = key_heads if kind != "query" else heads
        mistakes = {
            "you reorder whole heads; only the first r rows of each head turn": convert(name, count, None),
            "this goes from half to interleaved": convert(name, count, back=True),
        }
        if kind == "value":
            expected = before
            mistakes = {"values are not rotated, so they are not reordered": convert(name, count)} | mistakes
        else:
            expected = convert(name, count)
            forgotten = "the bias" if part == "bias" else f"the {kind} projection"
            mistakes = {f"{forgotten} is not converted": before} | mistakes
            if kind == "key":
                wrong_heads = convert(name, heads, min(r, count * head_dim // heads))
                mistakes["the keys have key_heads heads, not heads"] = wrong_heads
        verdict = compare("5.3", answer[name], expected, mistakes, right="")
        if not verdict:
            return wrong(f"{name}: {verdict.message}")
    return Feedback("5.3", True, "queries and keys are reordered, each by its own heads, and nothing else.")
