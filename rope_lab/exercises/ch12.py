"""Checkers of chapter 12: the mask of a window, the reach of layers, blocks with their neighbours, a ring of keys."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs


def _back(N: int) -> Tensor:
    return torch.arange(N)[:, None] - torch.arange(N)  # m − n


def _window_mask(N: int, W: int) -> Tensor:
    return (_back(N) >= 0) & (_back(N) < W)


def _mask_draws(d: Draw) -> Iterator[Inputs]:
    yield 1, 1
    yield 3, 2
    yield d.whole(4, 5), 1
    yield d.whole(6, 7), 3
    yield d.whole(8, 9), 4
    yield 4, d.whole(5, 7)


def _blocks_before(N: int, W: int) -> Tensor:
    block = torch.arange(N) // W
    return (_back(N) >= 0) & (block[:, None] - block <= 1)


check_window_mask = Exercise(
    "12.1",
    "window_mask",
    _window_mask,
    _mask_draws,
    {
        "here m − n may be as large as W, which gives W + 1 keys; the W keys include the query itself": lambda N, W: (
            (_back(N) >= 0) & (_back(N) <= W)
        ),
        "the query does not see itself; m − n starts at 0": lambda N, W: (_back(N) > 0) & (_back(N) < W),
        "m − n starts at 1 and may be as large as W; it starts at 0, because the query sees itself": lambda N, W: (
            (_back(N) > 0) & (_back(N) <= W)
        ),
        "here m − n ends at W − 2, which makes W − 1 keys": lambda N, W: (_back(N) >= 0) & (_back(N) < W - 1),
        "this one sees later keys too; causal means m − n ≥ 0": lambda N, W: _back(N).abs() < W,
        "rows are queries and columns keys; this is the other way round": lambda N, W: _window_mask(N, W).T,
        "True is where a key is hidden; invert it": lambda N, W: ~_window_mask(N, W),
        "this is causal, without a window": lambda N, W: _back(N) >= 0,
        "this is a window without a causal mask": lambda N, W: _back(N) < W,
        "this is a block window: the window should move with every query": _blocks_before,
        "the mask has two axes, (N, N)": lambda N, W: _window_mask(N, W)[None, None],
    },
    right="every query sees W keys, itself among them.",
    properties={
        "no query sees more than W keys, and one of yours does": lambda y, N, W: bool((y.sum(-1) <= W).all()),
        "every query sees itself, and one of yours does not": lambda y, N, W: bool(y.diag().all()),
    },
)
"""Exercise 12.1: `window_mask(N, W)` is True where a causal query (row) sees a key (column), shape (N, N)."""


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
    },
    right="that many layers reach it, and one layer fewer does not.",
)
"""Exercise 12.2: `layers_needed(W, s)` is the smallest number of layers that reach s tokens back."""


def _own(k: Tensor, W: int) -> Tensor:
    return k.unflatten(-2, (-1, W))  # (B, H, N/W, W, D)


def _moved(k: Tensor, W: int, by: int) -> Tensor:
    """The block before (by 1) or after (by -1) each, zeros where there is none."""
    own = _own(k, W)
    nothing = torch.zeros_like(own[:, :, :1])
    return torch.cat((nothing, own[:, :, :-1]) if by > 0 else (own[:, :, 1:], nothing), dim=2)


def _with_previous(k: Tensor, W: int) -> Tensor:
    return torch.cat((_moved(k, W, 1), _own(k, W)), dim=3)


def _block_draws(d: Draw) -> Iterator[Inputs]:
    yield d.tensor(1, 1, 2, 1), 2
    yield d.tensor(1, 1, 4, 2), 2
    yield d.tensor(1, 2, 3, 2), 1
    yield d.tensor(2, 2, 3 * d.whole(3, 4), 3), 3
    yield d.tensor(2, 1, 2 * d.whole(4, 5), 2), 2


def _one_token_before(k: Tensor, W: int) -> Tensor:
    return _own(torch.cat((torch.zeros_like(k[:, :, :1]), k[:, :, :-1]), dim=2), W)


check_with_previous = Exercise(
    "12.3",
    "with_previous",
    _with_previous,
    _block_draws,
    {
        "the first block sees the end of the text: torch.roll wraps around, so set its block to zeros": (
            lambda k, W: torch.cat((_own(k, W).roll(1, 2), _own(k, W)), dim=3)
        ),
        "the earlier block comes first": lambda k, W: torch.cat((_own(k, W), _moved(k, W, 1)), dim=3),
        "this is the block after, which a causal query must not see": lambda k, W: torch.cat(
            (_own(k, W), _moved(k, W, -1)), dim=3
        ),
        "this is the block after, in first place": lambda k, W: torch.cat(
            (_moved(k, W, -1), _own(k, W)), dim=3
        ),
        "this is the block after, and the last one wraps around": lambda k, W: torch.cat(
            (_own(k, W), _own(k, W).roll(-1, 2)), dim=3
        ),
        "both halves are the block itself": lambda k, W: torch.cat((_own(k, W), _own(k, W)), dim=3),
        "the first block is missing; zeros are before it": lambda k, W: _with_previous(k, W)[:, :, 1:],
        "these are only the blocks, each without the one before": _own,
        "the two blocks are joined along the axis of blocks; join them along the axis of keys, dim=3": (
            lambda k, W: torch.cat((_moved(k, W, 1), _own(k, W)), dim=2)
        ),
        "the two blocks are joined along the coordinates; join them along the axis of keys, dim=3": (
            lambda k, W: torch.cat((_moved(k, W, 1), _own(k, W)), dim=4)
        ),
        "the first half is the block one token earlier; it is W tokens earlier": lambda k, W: torch.cat(
            (_one_token_before(k, W), _own(k, W)), dim=3
        ),
        "the first half is empty for every block": lambda k, W: torch.cat(
            (torch.zeros_like(_own(k, W)), _own(k, W)), dim=3
        ),
    },
    right="a query of a block finds its whole window there.",
)
"""Exercise 12.3: `with_previous(k, W)` puts each block of W keys behind the block before it."""


def _newest(t: int, W: int) -> Tensor:
    """Of the numbers below t that belong to a slot, the largest, even if it is negative."""
    return t - 1 - (t - 1 - torch.arange(W)) % W


def _ring(t: int, W: int) -> Tensor:
    return _newest(t, W).clamp_min(-1)


def _ring_draws(d: Draw) -> Iterator[Inputs]:
    for W in (1, 3, d.whole(4, 6)):
        for t in (0, 1, W - 1, W, W + 1, 2 * W, d.whole(2, 5) * W + W // 2):
            yield t, W


def _in_order(t: int, W: int) -> Tensor:
    return torch.arange(W) + t - W if t >= W else _ring(t, W)


def _slots(t: int, W: int) -> Tensor:
    return torch.where(torch.arange(W) < t, torch.arange(W), -1)


check_ring = Exercise(
    "12.4",
    "ring",
    _ring,
    _ring_draws,
    {
        "slots in which no token has been written yet must hold −1": _newest,
        "these are the last W tokens in their order; slot i holds a token with n mod W = i": _in_order,
        "token t itself is not written yet: the last one is t − 1": lambda t, W: _ring(t + 1, W),
        "these are the slots of the tokens, n mod W, and not the tokens": _slots,
        "these are the newest tokens first": lambda t, W: (t - 1 - torch.arange(W)).clamp_min(-1),
        "empty slots hold −1, not 0": lambda t, W: _newest(t, W).clamp_min(0),
        "these are the last W tokens at the end, empty slots first; slot i holds a token with n mod W = i": (
            lambda t, W: (torch.arange(W) + t - W).clamp_min(-1)
        ),
    },
    right="slot i always holds the newest token of its kind.",
)
"""Exercise 12.4: `ring(t, W)` tells which token is in each of W slots once t tokens were written."""
