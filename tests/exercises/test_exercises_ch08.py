"""Exercises of chapter 8: other correct ways pass, and each wrong answer is told what is wrong with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab import angles
from rope_lab.exercises.ch08 import check_digits_needed, check_distinct, check_far_tables, check_moves


def by_frexp(N: int, p: int) -> int:
    fraction, exponent = np.frexp(np.arange(N, dtype=np.float64))
    return len(np.unique(np.ldexp(np.round(np.ldexp(fraction, p)), exponent - p)))


def by_octave(N: int, p: int) -> int:
    """Values up to the rounded last position, octave by octave."""
    if 2**p >= N - 1:
        return N
    step = 2 ** ((N - 1).bit_length() - p)
    last = round((N - 1) / step) * step
    count, low = 2**p + 1, 2**p
    while 2 * low <= last:
        count, low = count + 2 ** (p - 1), 2 * low
    return count + (last - low) * 2 ** (p - 1) // low


@pytest.mark.parametrize("answer", [by_frexp, by_octave, lambda N, p: torch.tensor(by_frexp(N, p))])
def test_distinct_right(answer) -> None:
    for seed in (0, 81, 82, 83):
        assert check_distinct(answer, seed=seed)


def test_distinct_agrees_with_the_casts_of_torch() -> None:
    for p, dtype in ((8, torch.bfloat16), (11, torch.float16), (24, torch.float32)):
        for N in (1, 2, 100, 257, 300, 1024, 5000, 65_000):
            assert check_distinct.reference(N, p) == torch.arange(N).to(dtype).unique().numel()
    assert check_distinct.reference(1024, 8) == 513


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (
            lambda N, p: len(
                {m >> max(0, m.bit_length() - p) << max(0, m.bit_length() - p) for m in range(N)}
            ),
            "rounded up to N or above",
        ),
        (lambda N, p: N - by_frexp(N, p), "lost"),
        (lambda N, p: by_frexp(N, p + 1), "one more"),
        (lambda N, p: by_frexp(N, p - 1), "one less"),
        (lambda N, p: by_frexp(N, p) - 1, "position 0"),
        (lambda N, p: min(N, 2**p + 1), "some positions are still left"),
        (lambda N, p: N, "(1 of 6 inputs are right.)"),
        (lambda N, p: 2, "all positions up to 2^p are exact"),
        (lambda N, p: N + 3, "no cast makes more"),
        (lambda N, p: by_frexp(N, p) / 1.5, "return an integer"),
        (lambda N, p: None, "nothing yet"),
    ],
)
def test_distinct_mistakes(answer, diagnosis: str) -> None:
    verdict = check_distinct(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def by_logarithm(N: int, error: float, roundings: float = 3) -> int:
    """First order: (1 + u)^3 − 1 is about 3u."""
    return math.ceil(math.log2(roundings * N / error))


@pytest.mark.parametrize(
    "answer",
    [
        lambda N, error: next(p for p in range(1, 99) if N * (3 * 2**-p + 3 * 4**-p + 8**-p) <= error),
        lambda N, error: np.int64(check_digits_needed.reference(N, error)),
        lambda N, error: float(check_digits_needed.reference(N, error)),
        by_logarithm,
    ],
)
def test_digits_needed_right(answer) -> None:
    for seed in (0, 81, 82, 83):
        assert check_digits_needed(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda N, error: by_logarithm(N, error, 1), "for one of them"),
        (lambda N, error: by_logarithm(N, error, 2), "for two of them"),
        (lambda N, error: by_logarithm(N, error) - 1, "one digit too few"),
        (lambda N, error: by_logarithm(N, error) + 1, "one digit more"),
        (lambda N, error: math.ceil(math.log10(3 * N / error)), "decimal"),
        (lambda N, error: by_logarithm(N, 1.0), "error is not used"),
        (lambda N, error: by_logarithm(N, error * math.pi / 180), "not in degrees"),
        (lambda N, error: 7, "with so many digits"),
        (lambda N, error: by_logarithm(N, error) + 0.5, "return an integer"),
        (lambda N, error: None, "nothing yet"),
    ],
)
def test_digits_needed_mistakes(answer, diagnosis: str) -> None:
    verdict = check_digits_needed(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def searched(of: str, p: int, freqs: Tensor) -> list[int] | None:
    """The first shift of two neighbours that changes their score."""
    for t in range(5000):
        at = torch.tensor([0.0, 1.0], dtype=torch.float64) + t
        fraction, exponent = torch.frexp(at)
        kept = torch.ldexp((fraction * 2**p).round(), exponent - p)
        if of == "position" and abs(kept[1] - kept[0] - 1) > 0:
            return [1, 0, t]
        fraction, exponent = torch.frexp(at[:, None] * freqs)
        angle = torch.ldexp((fraction * 2**p).round(), exponent - p)
        if of == "angle" and ((angle[1] - angle[0]).cos() - freqs.cos()).sum().abs() > 0.05:
            return [1, 0, t]
    return None


@pytest.mark.parametrize(
    "answer",
    [
        searched,
        lambda of, p, freqs: (
            None if of[0] == "f" else np.array([2 ** (p + 2) + 1, 2 ** (p + 2), -(2 ** (p + 2))])
        ),
    ],
)
def test_moves_right(answer) -> None:
    for seed in (0, 81, 82):
        assert check_moves(answer, seed=seed)


def test_no_shift_moves_a_score_of_rounded_frequencies() -> None:
    torch.manual_seed(0)
    for of, p, freqs in (case.inputs for case in check_moves.cases()):
        if of == "frequency":
            for m, n, t in torch.randint(0, 50_000, (200, 3)).tolist():
                assert check_moves.fault(torch.tensor([m, n, t]), of, p, freqs)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda of, p, freqs: (1, 0, 2 ** (p + 2)), "a rounded frequency is another frequency"),
        (lambda of, p, freqs: None if of == "frequency" else (1, 0, 1), "up to 2^p are exact"),
        (lambda of, p, freqs: None if of == "frequency" else (1, 0, 0), "without a shift"),
        (lambda of, p, freqs: None if of == "frequency" else (0, 0, 2 ** (p + 2)), "from itself"),
        (lambda of, p, freqs: (1, 0, 2 ** (p + 2)) if of == "position" else None, "there is an answer"),
        (lambda of, p, freqs: None if of == "frequency" else (1, 0, 10**6), "between 0 and 100,000"),
        (lambda of, p, freqs: None if of == "frequency" else (1, 0, 0.5), "return integers"),
        (lambda of, p, freqs: None if of == "frequency" else (1, 0), "expected shape (3,), got (2,)"),
        (lambda of, p, freqs: None, "nothing yet"),
    ],
)
def test_moves_mistakes(answer, diagnosis: str) -> None:
    verdict = check_moves(answer)
    assert not verdict
    assert diagnosis in verdict.message


def reduced(angle: Tensor) -> Tensor:
    return angle - 2 * math.pi * torch.round(angle / (2 * math.pi))


def waves(angle: Tensor) -> Tensor:
    return torch.stack((angle.cos(), angle.sin()))


@pytest.mark.parametrize(
    "answer",
    [
        lambda m, freqs: waves(m.double()[:, None] * freqs),
        lambda m, freqs: waves(reduced(m[:, None] * freqs).float()),
        lambda m, freqs: waves(angles(m, freqs)),
        lambda m, freqs: np.stack([f(np.outer(m.numpy(), freqs.numpy())) for f in (np.cos, np.sin)]),
        lambda m, freqs: [
            [[f(a * b) for b in freqs.tolist()] for a in m.tolist()] for f in (math.cos, math.sin)
        ],
    ],
)
def test_far_tables_right(answer) -> None:
    for seed in (0, 81, 82):
        assert check_far_tables(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda m, freqs: waves(reduced(m.float()[:, None] * freqs.float())), "unmended"),
        (lambda m, freqs: waves(m.double()[:, None] * freqs.float()), "frequencies are still rounded"),
        (lambda m, freqs: waves(m.float()[:, None] * freqs), "beyond 2^24"),
        (lambda m, freqs: waves((m[:, None] * freqs).float()), "before whole turns"),
        (lambda m, freqs: waves(reduced((m.float()[:, None] * freqs.float()).double())), "cannot restore"),
        (lambda m, freqs: waves(m[:, None] * freqs).flip(0), "cosine comes first"),
        (lambda m, freqs: waves(-m[:, None] * freqs), "wrong sign"),
        (lambda m, freqs: waves(m[:, None] * freqs).half(), "few digits of torch.float16"),
        (lambda m, freqs: waves(m[:, None] * freqs).movedim(0, -1), "axes are in another order"),
        (lambda m, freqs: waves(m[:, None] * freqs) / 2, "do not add up to 1"),
        (lambda m, freqs: None, "nothing yet"),
    ],
)
def test_far_tables_mistakes(answer, diagnosis: str) -> None:
    verdict = check_far_tables(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def test_two_mistakes_at_once_have_no_name() -> None:
    for verdict in (
        check_distinct(lambda N, p: by_frexp(N, p + 1) - 1),
        check_digits_needed(lambda N, error: by_logarithm(N, math.radians(error), 1)),
        check_far_tables(lambda m, freqs: waves(-m.double()[:, None] * freqs.float())),
    ):
        assert not verdict
        assert "Likely" not in verdict.message
