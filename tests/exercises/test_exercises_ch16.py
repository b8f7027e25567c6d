"""Exercises of chapter 16: other correct ways pass, and each wrong answer is told what is wrong with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab import rotate
from rope_lab.attention import attention_mask
from rope_lab.exercises.ch16 import (
    check_is_level,
    check_packed_mask,
    check_positions_read,
    check_rises,
    check_without_band,
)


@pytest.mark.parametrize(
    "answer",
    [
        lambda N, t, cached: N + t - 1 if cached else sum(range(N, N + t)),
        lambda N, t, cached: torch.tensor(N + t - 1 if cached else t * (2 * N + t - 1) // 2),
        lambda N, t, cached: float(N + t - 1) if cached else (N + (t - 1) / 2) * t,
    ],
)
def test_positions_read_right(answer) -> None:
    for seed in (0, 81, 82, 83):
        assert check_positions_read(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda N, t, cached: N + t if cached else sum(range(N, N + t)), "draws the first character too"),
        (lambda N, t, cached: sum(range(N, N + t)) if cached else N + t - 1, "swapped"),
        (lambda N, t, cached: N + t - 1, "this is with a cache"),
        (lambda N, t, cached: sum(range(N, N + t)), "this is without a cache"),
        (lambda N, t, cached: t if cached else sum(range(N, N + t)), "still read, once"),
        (lambda N, t, cached: N + t - 1 if cached else N * t, "are read again as well"),
        (lambda N, t, cached: N + t - 1 if cached else sum(range(N, N + t)) + 1, "expected"),
        (lambda N, t, cached: None, "nothing yet"),
    ],
)
def test_positions_read_mistakes(answer, diagnosis: str) -> None:
    verdict = check_positions_read(answer)
    assert not verdict
    assert diagnosis in verdict.message


def ends(d: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    half = tau * d.std(1) / math.sqrt(d.shape[1])
    return d.mean(1) - half, d.mean(1) + half


def by_loops(d: Tensor, tau: float, margin: float) -> list[bool]:
    level = []
    for row in d.tolist():
        half = tau * np.std(row, ddof=1) / len(row) ** 0.5
        level.append(-margin < np.mean(row) - half and np.mean(row) + half < margin)
    return level


@pytest.mark.parametrize(
    "answer",
    [
        lambda d, tau, margin: (ends(d, tau)[0] > -margin) & (ends(d, tau)[1] < margin),
        by_loops,
        lambda d, tau, margin: torch.stack(ends(d, tau)).abs().amax(0) < margin,
    ],
)
def test_is_level_right(answer) -> None:
    for seed in (0, 81, 82, 83):
        assert check_is_level(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda d, tau, margin: (ends(d, tau)[0] < 0) & (ends(d, tau)[1] > 0), "undecided is not level"),
        (lambda d, tau, margin: d.mean(1).abs() < margin, "is not enough; the whole interval"),
        (lambda d, tau, margin: ends(d, tau)[1] < margin, "far below zero"),
        (lambda d, tau, margin: (ends(d, tau)[1] - ends(d, tau)[0]) / 2 < margin, "narrow"),
        (lambda d, tau, margin: torch.stack(ends(d, 1)).abs().amax(0) < margin, "tau of them"),
        (lambda d, tau, margin: torch.stack(ends(d, tau)).abs().amax(0) < 0.05, "margin is not used"),
        (lambda d, tau, margin: torch.ones(len(d), dtype=torch.bool), "expected"),
        (lambda d, tau, margin: None, "nothing yet"),
    ],
)
def test_is_level_mistakes(answer, diagnosis: str) -> None:
    verdict = check_is_level(answer)
    assert not verdict
    assert diagnosis in verdict.message


def by_parts(x: Tensor, angles: Tensor, first: int, last: int) -> Tensor:
    turned = rotate(x, angles)
    turned[:, 2 * first : 2 * last] = x[:, 2 * first : 2 * last]
    return turned


def by_complex(x: Tensor, angles: Tensor, first: int, last: int) -> Tensor:
    pairs = torch.view_as_complex(x.unflatten(1, (-1, 2)).contiguous())
    turn = torch.polar(torch.ones_like(angles), angles)
    turn[:, first:last] = 1
    return torch.view_as_real(pairs * turn).flatten(1)


@pytest.mark.parametrize("answer", [by_parts, by_complex, lambda *given: by_parts(*given).numpy()])
def test_without_band_right(answer) -> None:
    for seed in (0, 81, 82, 83):
        assert check_without_band(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda x, a, f, e: rotate(x, a), "every pair is rotated"),
        (lambda x, a, f, e: x.clone(), "whole input"),
        (lambda x, a, f, e: by_parts(x, a, f, e + 1), "`last` is not in"),
        (lambda x, a, f, e: by_parts(x, -a, f, e), "backwards"),
        (lambda x, a, f, e: by_parts(x, a, f, e) / 2, "length of every row"),
        (lambda x, a, f, e: None, "nothing yet"),
    ],
)
def test_without_band_mistakes(answer, diagnosis: str) -> None:
    verdict = check_without_band(answer)
    assert not verdict
    assert diagnosis in verdict.message


def last_rise(freqs: Tensor, reach: int) -> int | None:
    sums = [sum(math.cos(s * f) for f in freqs.tolist()) for s in range(reach + 1)]
    up = [s for s in range(reach) if sums[s + 1] > sums[s] + 1e-9]
    return up[-1] if up else None


@pytest.mark.parametrize("answer", [last_rise, lambda f, r: check_rises.reference(f, r)])
def test_rises_right(answer) -> None:
    for seed in (0, 81, 82, 83):
        assert check_rises(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda f, r: check_rises.reference(f, r) or 0, "with slow pairs it does not"),
        (lambda f, r: 0, "falls"),
        (lambda f, r: r, "between 0 and"),
        (lambda f, r: 0.5, "whole number"),
        (lambda f, r: None, "there is another"),
    ],
)
def test_rises_mistakes(answer, diagnosis: str) -> None:
    verdict = check_rises(answer)
    assert not verdict
    assert diagnosis in verdict.message


def test_a_sum_of_slow_pairs_falls_at_every_step() -> None:
    for freqs, reach in (case.inputs for case in check_rises.cases()):
        slow = bool((freqs * reach <= math.pi).all())
        assert (check_rises.reference(freqs, reach) is None) == slow


def by_the_package(lengths: list[int]) -> Tensor:
    segments = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]
    return attention_mask(segments.shape[1], segments.shape[1], segments=segments)[0, 0]


def by_blocks(lengths: list[int]) -> Tensor:
    return torch.block_diag(*(torch.ones(n, n).tril() for n in lengths)).bool()


def by_numbers(lengths: list[int]) -> list[list[bool]]:
    text = [number for number, n in enumerate(lengths) for _ in range(n)]
    return [[a == b and n <= m for n, b in enumerate(text)] for m, a in enumerate(text)]


@pytest.mark.parametrize("answer", [by_the_package, by_blocks, by_numbers])
def test_packed_mask_right(answer) -> None:
    for seed in (0, 81, 82, 83):
        assert check_packed_mask(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda lengths: by_blocks(lengths) | by_blocks(lengths).T, "later ones of its text"),
        (lambda lengths: by_blocks(lengths).T, "transposed"),
        (lambda lengths: ~by_blocks(lengths), "other way round"),
        (lambda lengths: torch.ones(sum(lengths), sum(lengths)).tril().bool(), "sees the texts before it"),
        (lambda lengths: by_blocks(lengths) ^ torch.eye(sum(lengths)).bool(), "does not see itself"),
        (lambda lengths: by_blocks([n + 1 for n in lengths]), "shape"),
        (lambda lengths: None, "nothing yet"),
    ],
)
def test_packed_mask_mistakes(answer, diagnosis: str) -> None:
    verdict = check_packed_mask(answer)
    assert not verdict
    assert diagnosis in verdict.message
