"""The checkers of chapter 19 pass right answers and name each known mistake."""

import cmath
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab import atlas, frequencies
from rope_lab.exercises.ch19 import (
    check_base_leaving,
    check_misread_error,
    check_score_factors,
    check_unfinished_pairs,
)


def count(base: float, rotated: int, context: float, turn: float = 2 * math.pi) -> int:
    """Pairs that turn by less than a full turn on the way through the context."""
    return sum(context * base ** (-2 * i / rotated) < turn for i in range(rotated // 2))


def by_numpy(base: float, rotated: int, context: int) -> np.int64:
    return (2 * np.pi * base ** (np.arange(0, rotated, 2) / rotated) > context).sum()


def by_bisection(base: float, rotated: int, context: int) -> int:
    low, high = 0, rotated // 2
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if 2 * math.pi * base ** (2 * middle / rotated) > context else (middle + 1, high)
        )
    return rotated // 2 - low


def test_unfinished_pairs_right() -> None:
    assert check_unfinished_pairs(count)
    assert check_unfinished_pairs(by_numpy)
    assert check_unfinished_pairs(by_bisection)
    row = atlas.find("llama-2")
    assert count(row.base, 128, row.context) == row.spectrum.unfinished


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda b, R, L: R // 2 - count(b, R, L), "pairs that do finish"),
        (lambda b, R, L: count(b, R, L, 1), "yours is one radian"),
        (lambda b, R, L: count(b, R, L, math.pi), "yours is π"),
        (lambda b, R, L: count(b**0.5, R, L), "yours is i/R"),
        (lambda b, R, L: count(b * b, R, L), "as if R were the number of pairs"),
        (lambda b, R, L: 2 * count(b, R, L), "a pair has two of them"),
        (lambda b, R, L: count(b, R, L) + 1, "one too many"),
        (lambda b, R, L: count(1 / b, R, L), "yours falls"),
        (lambda b, R, L: count(10_000.0, R, L), "ignores the base"),
        (lambda b, R, L: count(b, R, L) / (R // 2), "count the pairs"),
        (
            lambda b, R, L: R // 2 - 1 - int(R / 2 * math.log(L / 2 / math.pi) / math.log(b)),
            "inputs are right",
        ),
        (lambda b, R, L: None, "nothing yet"),
    ],
)
def test_unfinished_pairs_mistakes(answer, diagnosis: str) -> None:
    verdict = check_unfinished_pairs(answer)
    assert not verdict
    assert diagnosis in verdict.message


def searched(n: int, rotated: int, context: float) -> float | None:
    """A base by trying many."""
    tried = np.concatenate((np.logspace(-30, 40, 7001), 1 + np.logspace(-6, -2, 50)))
    return next((float(base) for base in tried if count(base, rotated, context) == n), None)


def between(n: int, rotated: int, context: float) -> float | None:
    """A base whose first unfinished pair has a wavelength just above the context."""
    half, turns = rotated // 2, context / (2 * math.pi)
    if turns > 1:
        return None if n == half else turns ** (half / (half - n)) * (1 + 1e-6)
    return None if n == 0 else turns ** (half / n) * (1 - 1e-6)


def test_base_leaving_right() -> None:
    assert check_base_leaving(searched)
    assert check_base_leaving(between)


def reference(n: int, rotated: int, context: float) -> float | None:
    return check_base_leaving.reference(n, rotated, context)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda n, R, L: reference(R // 2 - n, R, L), "a base for the others"),
        (lambda n, R, L: reference(min(n + 1, R // 2), R, L), "one pair more"),
        (lambda n, R, L: 10_000.0 if reference(n, R, L) else None, "10,000 whatever"),
        (lambda n, R, L: reference(n, R, L) if L > 7 else None, "base below 1"),
        (
            lambda n, R, L: reference(n, R, L) or (L * 1e9 if L > 7 else None),
            "the first pair always finishes",
        ),
        (lambda n, R, L: -3.0, "positive and finite"),
        (lambda n, R, L: 123.0, "pairs unfinished"),
        (lambda n, R, L: None, "there is another for"),
    ],
)
def test_base_leaving_mistakes(answer, diagnosis: str) -> None:
    verdict = check_base_leaving(answer)
    assert not verdict
    assert diagnosis in verdict.message


def as_attention(factor: float, mscale: float, mscale_all_dim: float) -> list[float]:
    """Multiply a query and a key as a rotation does, and scores as the attention does."""
    a, b = (0.1 * x * math.log(factor) + 1 for x in (mscale, mscale_all_dim))
    q, k = torch.ones(2, 2)
    q[0] *= a / b
    k[0] *= a / b
    return (q * k * b**2).tolist()


def test_score_factors_right() -> None:
    assert check_score_factors(as_attention)
    a = 0.1 * math.log(40) + 1
    assert as_attention(40, 1, 1) == pytest.approx([a * a, a * a])  # DeepSeek-V3: all scores alike


def with_factors(f):
    def answer(factor, mscale, mscale_all_dim):
        return torch.tensor(f(*(0.1 * x * math.log(factor) + 1 for x in (mscale, mscale_all_dim))))

    return answer


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (with_factors(lambda a, b: (a / b, 1)), "twice"),
        (with_factors(lambda a, b: (a * a / b / b, 1)), "also multiplies all scores"),
        (with_factors(lambda a, b: (a * b, b * b)), "a query and a key"),
        (with_factors(lambda a, b: (a * a / b, b)), "is a square"),
        (with_factors(lambda a, b: (a * a, a * a)), "do not turn"),
        (with_factors(lambda a, b: (b * b, b * b)), "that turn are multiplied"),
        (with_factors(lambda a, b: (b * b, a * a)), "other order"),
        (lambda s, m, n: [(0.1 * x * math.log10(s) + 1) ** 2 for x in (m, n)], "natural"),
        (lambda s, m, n: None, "nothing yet"),
    ],
)
def test_score_factors_mistakes(answer, diagnosis: str) -> None:
    verdict = check_score_factors(answer)
    assert not verdict
    assert diagnosis in verdict.message


def by_loops(right: Tensor, wrong: Tensor, s: Tensor) -> list[float]:
    out = []
    for distance in s.tolist():
        gaps = [
            abs(cmath.exp(1j * distance * a) - cmath.exp(1j * distance * b)) ** 2
            for a, b in zip(wrong.tolist(), right.tolist(), strict=True)
        ]
        out.append(math.sqrt(sum(gaps) / len(gaps)))
    return out


def test_misread_error_right() -> None:
    assert check_misread_error(by_loops)
    assert check_misread_error(
        lambda r, w, s: ((s[:, None] * (w - r) / 2).sin().square().mean(-1) * 4).sqrt()
    )


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda r, w, s: torch.tensor(by_loops(r, w, s)) ** 2, "take the root"),
        (lambda r, w, s: torch.tensor(by_loops(r, w, s)) / 2**0.5, "factor of two"),
        (lambda r, w, s: 2 * (s[:, None] * (w - r) / 2).sin().abs().mean(-1), "before the root"),
        (lambda r, w, s: torch.tensor(by_loops(r, w, s)) * len(r) ** 0.5, "sum over the pairs"),
        (lambda r, w, s: (s[:, None] * (w - r)).square().mean(-1).sqrt(), "not x²"),
        (lambda r, w, s: torch.tensor(by_loops(r, -w, s)), "difference"),
        (lambda r, w, s: torch.tensor(by_loops(r, w, s))[:, None], "shape"),
        (lambda r, w, s: torch.tensor(by_loops(frequencies(2 * len(r)), w, s)), "first difference"),
        (lambda r, w, s: None, "nothing yet"),
    ],
)
def test_misread_error_mistakes(answer, diagnosis: str) -> None:
    verdict = check_misread_error(answer)
    assert not verdict
    assert diagnosis in verdict.message
