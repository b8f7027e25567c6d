"""Checkers of chapter 12: the mask of a window, reach, blocks, a ring of keys, chunks of a text, a plan of layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.caches import behind, check_chunked_attention, check_plan, check_ring, window_mask
from rope_lab.exercises.checker import Draw, Exercise, Inputs

__all__ = [
    "check_chunked_attention",
    "check_layers_needed",
    "check_plan",
    "check_ring",
    "check_window_mask",
    "check_with_previous",
]


def _mask_draws(d: Draw) -> Iterator[Inputs]:
    yield 1, 1, 1
    yield 3, 3, 2
    yield 2, 3, 2
    yield 2, d.whole(4, 5), 1
    yield 1, d.whole(5, 6), 3
    yield d.whole(4, 5), d.whole(6, 7), 3
    yield d.whole(3, 8), d.whole(8, 9), 4
    yield 4, 4, d.whole(5, 7)


def _block_mask(new: int, N: int, W: int) -> Tensor:
    m = torch.arange(N - new, N)[:, None]
    return (behind(new, N) >= 0) & (m // W - torch.arange(N) // W <= 1)


check_window_mask = Exercise(
    "12.1",
    "window_mask",
    window_mask,
    _mask_draws,
    {
        "here m − n may be as large as W, which gives W + 1 keys; the W keys include the query itself": (
            lambda new, N, W: (behind(new, N) >= 0) & (behind(new, N) <= W)
        ),
        "the query does not see itself; m − n starts at 0": lambda new, N, W: (
            (behind(new, N) > 0) & (behind(new, N) < W)
        ),
        "here m − n ends at W − 2, which makes W − 1 keys": lambda new, N, W: (
            (behind(new, N) >= 0) & (behind(new, N) < W - 1)
        ),
        "the queries are the last `new` tokens, so the first of them is at N − new and not at 0": lambda new, N, W: (
            (behind(new, N, 0) >= 0) & (behind(new, N, 0) < W)
        ),
        "there is one row for each new query; these are rows for all tokens": lambda new, N, W: window_mask(
            N, N, W
        ),
        "there is one column for each of the N keys; these are only the new ones": lambda new, N, W: (
            window_mask(new, new, W)
        ),
        "this one sees later keys too; causal means m − n ≥ 0": lambda new, N, W: behind(new, N).abs() < W,
        "rows are queries and columns keys; this is the other way round": lambda new, N, W: (
            window_mask(new, N, W).T
        ),
        "True is where a key is hidden; invert it": lambda new, N, W: ~window_mask(new, N, W),
        "this is causal, without a window": lambda new, N, W: behind(new, N) >= 0,
        "this is a window without a causal mask": lambda new, N, W: behind(new, N) < W,
        "this is a block window: the window should move with every query": _block_mask,
        "the mask has two axes, (new, N)": lambda new, N, W: window_mask(new, N, W)[None, None],
        "the first query is at N − new; yours are one too far": (
            lambda new, N, W: (behind(new, N, N - new + 1) >= 0) & (behind(new, N, N - new + 1) < W)
        ),
        "these are the last columns of the whole mask; the last rows are the new queries": (
            lambda new, N, W: window_mask(N, N, W)[:, -new:].T
        ),
    },
    right="every query sees W keys, itself among them, whether the text is read at once or in pieces.",
    properties={
        "no query sees more than W keys, and one of yours does": lambda y, new, N, W: bool(
            (y.sum(-1) <= W).all()
        ),
        "every query sees itself, and one of yours does not": lambda y, new, N, W: bool(
            y.diagonal(N - new).all()
        ),
    },
)
"""Exercise 12.1: `window_mask(new, N, W)`: which of N keys the last `new` tokens see, shape (new, N)."""


def _layers_needed(W: int, s: int) -> int:
    return math.ceil(s / (W - 1))


def _layer_draws(d: Draw) -> Iterator[Inputs]:
    yield 2, d.whole(3, 9)
    for W in (4, d.whole(5, 12), d.whole(13, 40)):
        hops = d.whole(2, 6)
        for s in (W - 1, hops * (W - 1), hops * (W - 1) + 1, hops * (W - 1) - 1, hops * W):
            yield W, s
    yield d.whole(100, 200), d.whole(1, 50)


check_layers_needed = Exercise(
    "12.2",
    "layers_needed",
    _layers_needed,
    _layer_draws,
    {
        "a layer adds W − 1 tokens, not W: the query is one of the W": lambda W, s: math.ceil(s / W),
        "round up: one layer more if W − 1 does not divide s": lambda W, s: s // (W - 1),
        "this is one too many if W − 1 divides s": lambda W, s: s // (W - 1) + 1,
        "this is one layer too many": lambda W, s: _layers_needed(W, s) + 1,
        "this is the distance that s layers reach": lambda W, s: s * (W - 1),
        "rounding to the nearest number may leave the last tokens out; round up": lambda W, s: max(
            1, round(s / (W - 1))
        ),
        "the window grows by W − 1 per layer; it does not double": lambda W, s: max(
            1, math.ceil(math.log2(max(s / (W - 1), 1))) + 1
        ),
        "the reach of L layers is L·(W − 1); it does not double with each of them": (
            lambda W, s: math.ceil(math.log2(s / (W - 1) + 1))
        ),
        "this is one layer too few: the first one counts, too": lambda W, s: _layers_needed(W, s) - 1,
        "a causal window looks back with all its W keys, not with half of them": (
            lambda W, s: math.ceil(s / max(1, W // 2))
        ),
    },
    right="that many layers reach it, and one layer fewer does not.",
    properties={
        "that many layers do not reach s tokens back: each adds W − 1": lambda y, W, s: bool(
            y * (W - 1) >= s
        ),
        "fewer layers reach s tokens back: each adds W − 1": lambda y, W, s: bool((y - 1) * (W - 1) < s),
    },
)
"""Exercise 12.2: `layers_needed(W, s)` is the smallest number of layers that reach s tokens back."""


def _own(k: Tensor, W: int) -> Tensor:
    return k.unflatten(-2, (-1, W))  # (B, H, N/W, W, D)


def _moved(k: Tensor, W: int, by: int) -> Tensor:
    """The block `by` blocks before each, or after it where `by` is negative; zeros where there is none."""
    padded = torch.nn.functional.pad(_own(k, W), (0, 0, 0, 0, max(by, 0), max(-by, 0)))
    return padded[:, :, : k.shape[-2] // W] if by >= 0 else padded[:, :, -by:]


def _joined(k: Tensor, W: int, moves: Iterable[int], dim: int = 3) -> Tensor:
    return torch.cat([_moved(k, W, by) for by in moves], dim)


def _with_previous(k: Tensor, W: int, back: int) -> Tensor:
    return _joined(k, W, range(back, -1, -1))


def _block_draws(d: Draw) -> Iterator[Inputs]:
    yield d.tensor(1, 1, 2, 1), 2, 1
    yield d.tensor(1, 1, 4, 2), 2, 1
    yield d.tensor(1, 2, 3, 2), 1, 2
    yield d.tensor(2, 2, 3 * d.whole(4, 5), 3), 3, 2
    yield d.tensor(2, 1, 2 * d.whole(5, 6), 2), 2, 3


def _rolled(k: Tensor, W: int, back: int) -> Tensor:
    return torch.cat([_own(k, W).roll(by, 2) for by in range(back, -1, -1)], dim=3)


def _token_earlier(k: Tensor, W: int, back: int) -> Tensor:
    later = [
        torch.cat((torch.zeros_like(k[:, :, :by]), k[:, :, : k.shape[2] - by]), 2) for by in range(back + 1)
    ]
    return torch.cat([_own(x, W) for x in reversed(later)], dim=3)


check_with_previous = Exercise(
    "12.3",
    "with_previous",
    _with_previous,
    _block_draws,
    {
        "the first blocks see the end of the text: torch.roll wraps around, so set what it brings there to zeros": (
            _rolled
        ),
        "earlier blocks come first": lambda k, W, b: _joined(k, W, range(b + 1)),
        "the farthest of the blocks before comes first": lambda k, W, b: _joined(k, W, (*range(1, b + 1), 0)),
        "the argument back is not used: this is one block before": lambda k, W, b: _with_previous(k, W, 1),
        "this is only the block that is `back` before, without those between": lambda k, W, b: _joined(
            k, W, (b, 0)
        ),
        "these are the blocks after, which a causal query must not see": lambda k, W, b: _joined(
            k, W, range(0, -b - 1, -1)
        ),
        "all parts are the block itself": lambda k, W, b: _joined(k, W, [0] * (b + 1)),
        "the first blocks are missing; zeros are before them": lambda k, W, b: _with_previous(k, W, b)[
            :, :, b:
        ],
        "these are only the blocks, each without those before": lambda k, W, b: _own(k, W),
        "the blocks are joined along the axis of blocks; join them along the axis of keys, dim=3": (
            lambda k, W, b: _joined(k, W, range(b, -1, -1), 2)
        ),
        "the blocks are joined along the coordinates; join them along the axis of keys, dim=3": (
            lambda k, W, b: _joined(k, W, range(b, -1, -1), 4)
        ),
        "each part is one token earlier than the next; it is W tokens earlier": _token_earlier,
        "the part before is empty for every block": lambda k, W, b: torch.cat(
            (torch.zeros_like(_joined(k, W, range(b))), _own(k, W)), dim=3
        ),
        "`back` counts blocks; you take that many tokens": (
            lambda k, W, b: torch.nn.functional.pad(k, (0, 0, b, 0)).unfold(-2, b + W, W).mT
        ),
        "the block itself is missing; it comes last": lambda k, W, b: _joined(k, W, range(b, 0, -1)),
    },
    right="a query of a block finds its whole window there, however far back it goes.",
)
"""Exercise 12.3: `with_previous(k, W, back)` puts each block of W keys behind the `back` blocks before it."""
