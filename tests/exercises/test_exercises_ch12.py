"""The checkers of chapter 12 pass right answers and name each known mistake."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.exercises.ch12 import (
    check_layers_needed,
    check_ring,
    check_window_mask,
    check_with_previous,
)


def back(N: int) -> Tensor:
    return torch.arange(N)[:, None] - torch.arange(N)


def test_window_mask_right() -> None:
    assert check_window_mask(lambda N, W: (back(N) >= 0) & (back(N) < W))
    assert check_window_mask(lambda N, W: torch.ones(N, N).tril().triu(1 - W).bool())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda N, W: (back(N) >= 0) & (back(N) <= W), "W + 1 keys"),
        (lambda N, W: (back(N) > 0) & (back(N) < W), "does not see itself"),
        (lambda N, W: (back(N) >= 0) & (back(N) < W - 1), "W − 1 keys"),
        (lambda N, W: back(N).abs() < W, "later keys too"),
        (lambda N, W: ((back(N) >= 0) & (back(N) < W)).T, "other way round"),
        (lambda N, W: ~((back(N) >= 0) & (back(N) < W)), "invert it"),
        (lambda N, W: back(N) >= 0, "without a window"),
        (lambda N, W: back(N) < W, "without a causal mask"),
        (
            lambda N, W: (back(N) >= 0) & (torch.arange(N)[:, None] // W - torch.arange(N) // W <= 1),
            "block window",
        ),
        (lambda N, W: ((back(N) >= 0) & (back(N) < W)).float(), "truth values"),
        (lambda N, W: torch.ones(N, N).bool(), "first difference at [0, 1]"),
        (lambda N, W: torch.ones(N, W).bool(), "expected shape (3, 3), got (3, 2)"),
        (lambda N, W: [[True]], "expected shape (3, 3), got (1, 1)"),
        (lambda N, W: torch.where((back(N) >= 0) & (back(N) < W), 0.0, -math.inf), "truth values"),
        (lambda N, W: ((back(N) >= 0) & (back(N) < W))[None, None], "two axes"),
        (lambda N, W: None, "nothing yet"),
    ],
)
def test_window_mask_mistakes(answer, diagnosis: str) -> None:
    verdict = check_window_mask(answer)
    assert not verdict
    assert diagnosis in verdict.message


def test_layers_needed_right() -> None:
    assert check_layers_needed(lambda W, s: -(-s // (W - 1)))
    assert check_layers_needed(lambda W, s: np.ceil(np.int64(s) / (W - 1)))
    assert check_layers_needed(lambda W, s: np.int64(-(-s // (W - 1))))
    assert check_layers_needed(lambda W, s: torch.tensor(-(-s // (W - 1))))
    assert check_layers_needed(lambda W, s: math.ceil(s / (W - 1)))
    assert check_layers_needed(lambda W, s: next(n for n in range(s + 1) if n * (W - 1) >= s))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda W, s: math.ceil(s / W), "W − 1 tokens, not W"),
        (lambda W, s: s // (W - 1), "round up"),
        (lambda W, s: s // (W - 1) + 1, "one too many"),
        (lambda W, s: math.ceil(s / (W - 1)) + 1, "one layer too many"),
        (lambda W, s: s * (W - 1), "that s layers reach"),
        (lambda W, s: 1, "expected 9, got 1"),
        (lambda W, s: s / (W - 1), "return an integer"),
        (lambda W, s: True, "return an integer"),
        (lambda W, s: "one", "got str"),
        (lambda W, s: math.inf, "return an integer, got inf"),
        (lambda W, s: math.nan, "return an integer, got nan"),
        (lambda W, s: None, "nothing yet"),
    ],
)
def test_layers_needed_mistakes(answer, diagnosis: str) -> None:
    verdict = check_layers_needed(answer)
    assert not verdict
    assert diagnosis in verdict.message


def blocks(k: Tensor, W: int) -> Tensor:
    return k.unflatten(-2, (-1, W))


def pair(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat((first, second), dim=3)


def shifted(k: Tensor, W: int, by: int) -> Tensor:
    """The block before (by 1) or after (by −1) each, zeros where there is none."""
    own = blocks(k, W)
    nothing = torch.zeros_like(own[:, :, :1])
    return torch.cat((nothing, own[:, :, :-1]) if by > 0 else (own[:, :, 1:], nothing), dim=2)


def test_with_previous_right() -> None:
    assert check_with_previous(lambda k, W: pair(shifted(k, W, 1), blocks(k, W)))
    assert check_with_previous(lambda k, W: F.pad(k, (0, 0, W, 0)).unfold(-2, 2 * W, W).mT)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda k, W: pair(blocks(k, W).roll(1, 2), blocks(k, W)), "wraps around, so set"),
        (lambda k, W: pair(blocks(k, W), shifted(k, W, 1)), "earlier block comes first"),
        (lambda k, W: pair(blocks(k, W), shifted(k, W, -1)), "must not see"),
        (lambda k, W: pair(shifted(k, W, -1), blocks(k, W)), "in first place"),
        (lambda k, W: pair(blocks(k, W), blocks(k, W).roll(-1, 2)), "last one wraps around"),
        (lambda k, W: pair(blocks(k, W), blocks(k, W)), "both halves"),
        (lambda k, W: pair(shifted(k, W, 1), blocks(k, W))[:, :, 1:], "first block is missing"),
        (blocks, "without the one before"),
        (lambda k, W: pair(shifted(k, W, 1), blocks(k, W)) + 1, "first difference at [0, 0, 0, 0, 0]"),
        (lambda k, W: torch.cat((shifted(k, W, 1), blocks(k, W)), dim=2), "axis of blocks"),
        (lambda k, W: pair(blocks(F.pad(k, (0, 0, 1, 0))[:, :, :-1], W), blocks(k, W)), "one token earlier"),
        (lambda k, W: None, "nothing yet"),
    ],
)
def test_with_previous_mistakes(answer, diagnosis: str) -> None:
    verdict = check_with_previous(answer)
    assert not verdict
    assert diagnosis in verdict.message


def written(t: int, W: int) -> Tensor:
    """The ring, by writing into it."""
    slots = torch.full((W,), -1)
    for n in range(t):
        slots[n % W] = n
    return slots


def newest(t: int, W: int) -> Tensor:
    return t - 1 - (t - 1 - torch.arange(W)) % W


def test_ring_right() -> None:
    assert check_ring(written)
    assert check_ring(lambda t, W: written(t, W).tolist())
    assert check_ring(lambda t, W: written(t, W).numpy())
    assert check_ring(lambda t, W: newest(t, W).clamp_min(-1))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (newest, "no token has been written yet"),
        (lambda t, W: written(t, W).sort().values if t >= W else written(t, W), "in their order"),
        (lambda t, W: written(t + 1, W), "the last one is t − 1"),
        (lambda t, W: torch.where(torch.arange(W) < t, torch.arange(W), -1), "and not the tokens"),
        (lambda t, W: (t - 1 - torch.arange(W)).clamp_min(-1), "newest tokens first"),
        (lambda t, W: torch.zeros(W), "return integers, got torch.float32"),
        (lambda t, W: torch.arange(t), "expected shape (1,), got (0,)"),
        (lambda t, W: list(range(W)), "for t = 0, W = 1: first difference at [0]: expected -1, got 0"),
        (lambda t, W: None, "nothing yet"),
    ],
)
def test_ring_mistakes(answer, diagnosis: str) -> None:
    verdict = check_ring(answer)
    assert not verdict
    assert diagnosis in verdict.message
