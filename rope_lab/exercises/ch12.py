"""Checkers of chapter 12: the mask of a window, the reach of layers, blocks with their neighbours, a ring of keys."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rope_lab.exercises.feedback import Feedback, compare


def check_window_mask(window_mask: Callable[[int, int], object]) -> Feedback:
    """Exercise 12.1: `window_mask(N, W)` is True where a causal query (row) sees a key (column), shape (N, N)."""
    N, W = 9, 4
    given = window_mask(N, W)
    if isinstance(given, Tensor) and given.dtype != torch.bool:
        why = f"return a boolean mask, True where a query sees a key, got {given.dtype}."
        return Feedback("12.1", False, why)
    back = torch.arange(N)[:, None] - torch.arange(N)
    mistakes = {
        "here i − j may be W, which makes W + 1 keys; the query counts itself": (back >= 0) & (back <= W),
        "the query does not see itself; i − j starts at 0": (back > 0) & (back < W),
        "here i − j ends at W − 2, which makes W − 1 keys": (back >= 0) & (back < W - 1),
        "this one sees later keys too; causal means i − j ≥ 0": back.abs() < W,
        "rows are queries and columns keys; this is the other way round": (back <= 0) & (back > -W),
        "True stands where a key is hidden; turn it round": ~((back >= 0) & (back < W)),
        "this is causal, without a window": back >= 0,
        "this is a window without a causal mask": back < W,
        "this is a block window: it should move on with every query": (back >= 0)
        & (torch.arange(N)[:, None] // W - torch.arange(N) // W <= 1),
    }
    as_numbers = {why: mask.double() for why, mask in mistakes.items()}
    expected = ((back >= 0) & (back < W)).double()
    actual = given.double() if isinstance(given, Tensor) else given
    return compare("12.1", actual, expected, as_numbers, right="every query sees W keys, itself among them.")


def check_layers_needed(layers_needed: Callable[[int, int], object]) -> Feedback:
    """Exercise 12.2: `layers_needed(W, s)` is the smallest number of layers that reach s tokens back."""
    cases = [(4, 3), (4, 4), (4, 12), (4, 13), (2, 7), (16, 15), (16, 16), (16, 100), (128, 127), (128, 1000)]
    answers = [layers_needed(W, s) for W, s in cases]
    if any(answer is None for answer in answers):
        return compare("12.2", None, torch.empty(0), {}, right="")
    for answer in answers:
        whole = isinstance(answer, (int, float)) and answer == int(answer)
        if isinstance(answer, bool) or not whole:
            return Feedback("12.2", False, f"return an integer, got {answer!r}.")
    W, s = torch.tensor(cases, dtype=torch.float64).T
    mistakes = {
        "a layer adds W − 1 tokens, not W: the query is one of the W": (s / W).ceil(),
        "round up: a layer more where W − 1 does not divide s": (s / (W - 1)).floor(),
        "one too many where W − 1 divides s": (s / (W - 1)).floor() + 1,
        "this is one layer too many": (s / (W - 1)).ceil() + 1,
        "this is the distance that s layers reach": s * (W - 1),
    }
    given = torch.tensor([float(answer) for answer in answers], dtype=torch.float64)  # type: ignore[arg-type]
    done = "that many layers reach it, and one fewer does not."
    return compare("12.2", given, (s / (W - 1)).ceil(), mistakes, right=done)


def check_with_previous(with_previous: Callable[[Tensor, int], object]) -> Feedback:
    """Exercise 12.3: `with_previous(k, W)` puts each block of W keys behind the block before it."""
    W = 3
    k = torch.randn(2, 2, 12, 5, generator=torch.Generator().manual_seed(12), dtype=torch.float64)
    own = k.unflatten(-2, (-1, W))  # (B, H, N/W, W, D)
    nothing = torch.zeros_like(own[:, :, :1])
    before = torch.cat((nothing, own[:, :, :-1]), dim=2)
    after = torch.cat((own[:, :, 1:], nothing), dim=2)
    rolled, rolled_on = own.roll(1, dims=2), own.roll(-1, dims=2)
    mistakes = {
        "the first block sees the end of the text: torch.roll goes round, so set its block to zeros": torch.cat(
            (rolled, own), dim=3
        ),
        "the earlier block comes first": torch.cat((own, before), dim=3),
        "this is the block after, which a causal query must not see": torch.cat((own, after), dim=3),
        "this is the block after, put before": torch.cat((after, own), dim=3),
        "this is the block after, and the last one goes round": torch.cat((own, rolled_on), dim=3),
        "both halves are the block itself": torch.cat((own, own), dim=3),
        "the first block is missing; zeros stand before it": torch.cat((before, own), dim=3)[:, :, 1:],
        "these are the blocks alone, each without the one before": own,
    }
    done = "a query of a block finds its whole window there."
    return compare("12.3", with_previous(k, W), torch.cat((before, own), dim=3), mistakes, right=done)


def check_ring(ring: Callable[[int, int], object]) -> Feedback:
    """Exercise 12.4: `ring(t, W)` tells which token stands in each of W slots once t tokens were written."""
    W, times = 4, (0, 1, 3, 4, 6, 8, 11)
    answers = [ring(t, W) for t in times]
    for answer in answers:
        if not isinstance(answer, Tensor) or answer.shape != (W,):
            return compare("12.4", answer, torch.zeros(W), {}, right="")

    def slots(rule: Callable[[int], list[int]]) -> Tensor:
        return torch.tensor([rule(t) for t in times], dtype=torch.float64)

    def newest(
        t: int, slot: int
    ) -> int:  # of the tokens before t that belong to the slot, without regard to 0
        return t - 1 - (t - 1 - slot) % W

    mistakes = {
        "the first W slots are right only while none is empty: −1 where no token was written": slots(
            lambda t: [newest(t, slot) for slot in range(W)]
        ),
        "these are the last W tokens in their order; slot i holds a token with n mod W = i": slots(
            lambda t: [max(t - W + slot, -1) if t >= W else (slot if slot < t else -1) for slot in range(W)]
        ),
        "token t itself is not written yet: the last one is t − 1": slots(
            lambda t: [max(newest(t + 1, slot), -1) for slot in range(W)]
        ),
        "these are the slots of the tokens, n mod W, and not the tokens": slots(
            lambda t: [slot if slot < t else -1 for slot in range(W)]
        ),
        "these are the newest tokens first": slots(lambda t: [max(t - 1 - slot, -1) for slot in range(W)]),
    }
    expected = slots(lambda t: [max(newest(t, slot), -1) for slot in range(W)])
    given = torch.stack([answer for answer in answers if isinstance(answer, Tensor)]).double()
    return compare(
        "12.4", given, expected, mistakes, right="slot i always holds the newest token of its kind."
    )
