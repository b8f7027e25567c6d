"""Checkers of chapter 5: the order of the half layout, the pairs of a black box, the weights of a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from rope_lab.encodings import Layout, angles, convert_projection, frequencies, rotate
from rope_lab.exercises.feedback import Feedback, compare

Turn = Callable[[Tensor, float], Tensor]
LAYOUTS: tuple[Layout, Layout] = ("interleaved", "half")


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
    right = "evens, then odds, then what does not turn."
    return compare("5.1", half_order(d, r), order, mistakes, right=right)


def check_find_pairs(find_pairs: Callable[[Turn, int], Tensor]) -> Feedback:
    """Exercise 5.2: `find_pairs(turn, d)` gives the pairs of an unknown rotation, fastest first, (d/2, 2)."""
    d = 16
    pairs = torch.randperm(d, generator=torch.Generator().manual_seed(3)).view(-1, 2)
    freqs = frequencies(d, 100.0)
    order = pairs.flatten()

    def turn(x: Tensor, m: float) -> Tensor:
        table = angles(torch.full((x.shape[-2],), float(m), dtype=torch.float64), freqs, dtype=torch.float64)
        return rotate(x.double()[..., order], table)[..., order.argsort()].to(x.dtype)

    count = torch.arange(d)
    mistakes = {
        "these are the pairs of the interleaved layout; look at what `turn` does": count.view(-1, 2),
        "these are the pairs of the half layout; look at what `turn` does": count.view(2, -1).T,
        "every pair is the wrong way round: the sine is positive on b where a is turned": pairs.flip(1),
        "the slowest pair comes first; sort by descending frequency": pairs.flip(0),
        "right pairs, sorted by coordinate; sort them by frequency": pairs[pairs[:, 0].argsort()],
        "each pair sorted by coordinate; the sign of the sine tells a from b": pairs.sort(1).values,
    }
    right = "you can ask any library for its layout now."
    return compare("5.2", find_pairs(turn, d), pairs, mistakes, right=right)


def check_to_half(to_half: Callable[[dict[str, Tensor], int, int, int], object]) -> Feedback:
    """Exercise 5.3: `to_half(weights, heads, key_heads, r)` converts one layer from interleaved to half."""
    heads, key_heads, head_dim, r, width = 4, 2, 8, 6, 5
    generator = torch.Generator().manual_seed(4)
    rows = {"query": heads * head_dim, "key": key_heads * head_dim, "value": key_heads * head_dim}
    weights = {}
    for name, count in rows.items():
        weights[f"{name}.weight"] = torch.randn(count, width, generator=generator)
        weights[f"{name}.bias"] = torch.randn(count, generator=generator)
    given = {name: tensor.clone() for name, tensor in weights.items()}
    answer = to_half(weights, heads, key_heads, r)

    def wrong(message: str) -> Feedback:
        return Feedback("5.3", False, message)

    if answer is None:
        return wrong("your function returns nothing yet.")
    if not isinstance(answer, Mapping):
        return wrong(f"return a dict of tensors, got {type(answer).__name__}.")
    if odd := sorted(given.keys() ^ answer.keys()):
        return wrong(f"return the six names of weights; look at {odd[0]!r}.")
    for name, before in given.items():
        if not torch.equal(weights[name], before):
            return wrong(f"{name} was changed in place; leave the given weights as they are.")

    def convert(name: str, count: int, rotary_dim: int | None = r, back: bool = False) -> Tensor:
        source, target = LAYOUTS[::-1] if back else LAYOUTS
        return convert_projection(given[name], count, source, target, rotary_dim=rotary_dim)

    for name, before in given.items():
        kind, part = name.split(".")
        count = key_heads if kind != "query" else heads
        mistakes = {
            "you reorder whole heads; only the first r rows of each turn": convert(name, count, None),
            "this goes from half to interleaved": convert(name, count, back=True),
        }
        if kind == "value":
            expected = before
            mistakes = {"values do not turn, so they are not reordered": convert(name, count)} | mistakes
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
