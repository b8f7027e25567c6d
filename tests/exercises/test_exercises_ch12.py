"""The checkers of chapter 12 pass right answers and name each known mistake."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.exercises.ch12 import (
    check_chunked_attention,
    check_layers_needed,
    check_plan,
    check_ring,
    check_window_mask,
    check_with_previous,
)


def back(new: int, N: int) -> Tensor:
    return torch.arange(N)[N - new :, None] - torch.arange(N)


def mask(new: int, N: int, W: int) -> Tensor:
    return (back(new, N) >= 0) & (back(new, N) < W)


def test_window_mask_right() -> None:
    assert check_window_mask(mask)
    assert check_window_mask(lambda new, N, W: torch.ones(N, N).tril().triu(1 - W).bool()[-new:])
    assert check_window_mask(
        lambda new, N, W: [[0 <= m - n < W for n in range(N)] for m in range(N - new, N)]
    )


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda new, N, W: (back(new, N) >= 0) & (back(new, N) <= W), "W + 1 keys"),
        (lambda new, N, W: (back(new, N) > 0) & (back(new, N) < W), "does not see itself"),
        (lambda new, N, W: (back(new, N) >= 0) & (back(new, N) < W - 1), "W − 1 keys"),
        (lambda new, N, W: mask(N, N, W)[:new], "so the first of them is at N − new"),
        (lambda new, N, W: mask(N, N, W), "one row for each new query"),
        (lambda new, N, W: mask(new, new, W), "one column for each of the N keys"),
        (lambda new, N, W: back(new, N).abs() < W, "later keys too"),
        (lambda new, N, W: mask(new, N, W).T, "other way round"),
        (lambda new, N, W: ~mask(new, N, W), "invert it"),
        (lambda new, N, W: back(new, N) >= 0, "without a window"),
        (lambda new, N, W: back(new, N) < W, "without a causal mask"),
        (
            lambda new, N, W: (
                (back(new, N) >= 0) & (torch.arange(N)[N - new :, None] // W - torch.arange(N) // W <= 1)
            ),
            "block window",
        ),
        (lambda new, N, W: mask(new, N, W).float(), "truth values"),
        (lambda new, N, W: torch.ones(new, N).bool(), "No query sees more than W keys"),
        (lambda new, N, W: torch.ones(new, W).bool(), "expected shape (2, 3), got (2, 2)"),
        (lambda new, N, W: [[True]], "expected shape (2, 3), got (1, 1)"),
        (lambda new, N, W: torch.where(mask(new, N, W), 0.0, -math.inf), "truth values"),
        (lambda new, N, W: mask(new, N, W)[None, None], "two axes"),
        (lambda new, N, W: None, "nothing yet"),
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


def shifted(k: Tensor, W: int, by: int) -> Tensor:
    """The block so many before each, or after it if negative, zeros where there is none."""
    count = k.shape[-2] // W
    rows = [
        blocks(k, W)[:, :, g - by] if 0 <= g - by < count else torch.zeros_like(blocks(k, W)[:, :, 0])
        for g in range(count)
    ]
    return torch.stack(rows, dim=2)


def joined(k: Tensor, W: int, moves, dim: int = 3) -> Tensor:
    return torch.cat([shifted(k, W, by) for by in moves], dim)


def test_with_previous_right() -> None:
    assert check_with_previous(lambda k, W, b: joined(k, W, range(b, -1, -1)))
    assert check_with_previous(lambda k, W, b: F.pad(k, (0, 0, b * W, 0)).unfold(-2, (b + 1) * W, W).mT)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (
            lambda k, W, b: torch.cat([blocks(k, W).roll(i, 2) for i in range(b, -1, -1)], 3),
            "wraps around, so set",
        ),
        (lambda k, W, b: joined(k, W, range(b + 1)), "earlier blocks come first"),
        (lambda k, W, b: joined(k, W, [*range(1, b + 1), 0]), "the farthest of the blocks before"),
        (lambda k, W, b: joined(k, W, (1, 0)), "back is not used"),
        (lambda k, W, b: joined(k, W, (b, 0)), "without those between"),
        (lambda k, W, b: joined(k, W, range(0, -b - 1, -1)), "must not see"),
        (lambda k, W, b: joined(k, W, [0] * (b + 1)), "all parts are the block itself"),
        (lambda k, W, b: joined(k, W, range(b, -1, -1))[:, :, b:], "first blocks are missing"),
        (lambda k, W, b: blocks(k, W), "each without those before"),
        (lambda k, W, b: joined(k, W, range(b, -1, -1)) + 1, "first difference at [0, 0, 0, 0, 0]"),
        (lambda k, W, b: joined(k, W, range(b, -1, -1), 2), "axis of blocks"),
        (
            lambda k, W, b: torch.cat(
                [blocks(F.pad(k, (0, 0, i, 0))[:, :, : k.shape[2]], W) for i in range(b, -1, -1)], 3
            ),
            "one token earlier",
        ),
        (lambda k, W, b: None, "nothing yet"),
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


def one_by_one(q: Tensor, k: Tensor, v: Tensor, W: int, chunk: int) -> Tensor:
    """The window of each query by itself."""
    rows = []
    for m in range(len(q)):
        near = slice(max(0, m - W + 1), m + 1)
        rows.append((q[m] @ k[near].T / q.shape[-1] ** 0.5).softmax(0) @ v[near])
    return torch.stack(rows)


def rolling(keep, after: bool = False, window: int = 0):
    """The function of the page, with a cache of keep(W, chunk) keys, cut with the new ones or after them."""

    def answer(q: Tensor, k: Tensor, v: Tensor, W: int, chunk: int) -> Tensor:
        keys, values, outputs = k[:0], v[:0], []
        for start in range(0, len(q), chunk):
            end = min(start + chunk, len(q))
            left = keep(W, chunk)
            keys, values = torch.cat((keys, k[start:end])), torch.cat((values, v[start:end]))
            if not after:
                keys, values = keys[-left:], values[-left:]
            m, n = torch.arange(start, end)[:, None], torch.arange(end - len(keys), end)
            scores = q[start:end] @ keys.T / q.shape[-1] ** 0.5
            scores = scores.masked_fill((n > m) | (m - n >= (window or W)), -torch.inf)
            outputs.append(scores.softmax(-1) @ values)
            if after:
                keys, values = keys[-left:], values[-left:]
        return torch.cat(outputs)

    return answer


def test_chunked_attention_right() -> None:
    assert check_chunked_attention(one_by_one)
    assert check_chunked_attention(rolling(lambda W, chunk: W, after=True))
    assert check_chunked_attention(rolling(lambda W, chunk: W + chunk))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (rolling(lambda W, chunk: W), "the function of the page"),
        (rolling(lambda W, chunk: max(W + chunk - 2, 1)), "one key too short"),
        (rolling(lambda W, chunk: max(W - 1, 1)), "cut what came before them"),
        (rolling(lambda W, chunk: chunk), "nothing is kept"),
        (rolling(lambda W, chunk: W + chunk - 1, window=99), "still needed as a mask"),
        (lambda q, k, v, W, chunk: one_by_one(q, k, v, W + 1, chunk), "one key too many"),
        (rolling(lambda W, chunk: max(W, chunk)), "cut to W together with the chunk"),
        (lambda q, k, v, W, chunk: one_by_one(q, k, v, W, chunk)[:1], "expected shape"),
        (lambda q, k, v, W, chunk: q @ k.T @ v, "already wrong there"),
        (lambda q, k, v, W, chunk: None, "nothing yet"),
    ],
)
def test_chunked_attention_mistakes(answer, diagnosis: str) -> None:
    verdict = check_chunked_attention(answer)
    assert not verdict
    assert diagnosis in verdict.message


def any_plan(s: int, most: int, keys: int) -> list[int] | None:
    """The last of all plans that meet the conditions, found without a formula."""
    plans = [
        [L, W] for L in range(1, s + 1) for W in range(2, most + 1) if s <= L * (W - 1) and keys >= L * W
    ]
    return plans[-1] if plans else None


def full(s: int, most: int) -> tuple[int, int]:
    return -(-s // (most - 1)), most


def test_plan_right() -> None:
    assert check_plan(any_plan)
    assert check_plan(lambda *case: None if any_plan(*case) is None else torch.tensor(any_plan(*case)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda s, most, keys: (-(-s // most), most), "W − 1 tokens, not W"),
        (
            lambda s, most, keys: full(s, most) if math.prod(full(s, most)) <= keys else None,
            "the widest windows need not be",
        ),
        (lambda s, most, keys: (1, s + 1), "one layer has the reach"),
        (lambda s, most, keys: full(s, most), "hold"),
        (lambda s, most, keys: (0, 2), "there must be a layer"),
        (lambda s, most, keys: (s, 1), "a window of 2 at least"),
        (lambda s, most, keys: (1, 2), "tokens back, not"),
        (lambda s, most, keys: (1.5, 2.0), "return two integers"),
        (lambda s, most, keys: (1, 2, 3), "return two integers"),
        (lambda s, most, keys: any_plan(s, most, keys) if keys % 2 else None, "but there is an answer"),
        (lambda s, most, keys: None, "nothing yet"),
    ],
)
def test_plan_mistakes(answer, diagnosis: str) -> None:
    verdict = check_plan(answer)
    assert not verdict
    assert diagnosis in verdict.message


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (check_window_mask, lambda new, N, W: ~mask(new, N, W + 1)),
        (check_with_previous, lambda k, W, b: joined(k, W, range(-b, 1))),
        (check_chunked_attention, lambda q, *rest: rolling(lambda W, chunk: W)(2 * q, *rest)),
        (check_plan, lambda s, most, keys: (s // most, most + 1)),
    ],
)
def test_two_mistakes_at_once_are_not_taken_for_one(check, answer) -> None:
    verdict = check(answer)
    assert not verdict
    assert "Likely" not in verdict.message
