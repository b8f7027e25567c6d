"""Exercises of chapter 20: other correct ways pass, and each wrong answer is told what is wrong with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rope_lab.bench import Machine, Work, counts
from rope_lab.exercises.ch20 import (
    check_enough_texts,
    check_least_time,
    check_passes_saved,
    check_window_gain,
)
from rope_lab.local import Window

SEEDS = (0, 21, 22, 23)


def by_the_package(n: int, e: int, beta: float, gamma: float) -> float:
    return Machine(beta, beta, beta, gamma, 0.0).seconds(Work(2 * e * n, 3 * n))


@pytest.mark.parametrize(
    "answer",
    [
        by_the_package,
        lambda n, e, beta, gamma: np.maximum(2 * e * n / beta, 3 * n / gamma),
        lambda n, e, beta, gamma: n * (2 * e / beta if 3 / (2 * e) < gamma / beta else 3 / gamma),
    ],
)
def test_least_time_right(answer) -> None:
    assert all(check_least_time(answer, seed=seed) for seed in SEEDS)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda n, e, beta, gamma: 2 * e * n / beta + 3 * n / gamma, "take the longer, not the sum"),
        (lambda n, e, beta, gamma: max(e * n / beta, 3 * n / gamma), "read and written"),
        (lambda n, e, beta, gamma: max(2 * e * n / beta, 6 * n / gamma), "for two numbers"),
        (lambda n, e, beta, gamma: 2 * e * n / beta, "memory only"),
        (lambda n, e, beta, gamma: 3 * n / gamma, "arithmetic only"),
        (lambda n, e, beta, gamma: max(2 * e * n / beta, 3 * n / gamma) + 1, "expected"),
        (lambda n, e, beta, gamma: None, "nothing yet"),
    ],
)
def test_least_time_mistakes(answer, diagnosis: str) -> None:
    verdict = check_least_time(answer)
    assert not verdict
    assert diagnosis in verdict.message


def by_loops(steps: list[list[str]], sizes: dict[str, int]) -> float:
    moved, known, fused = 0, set(), 0
    for result, *given in steps:
        for name in given:
            moved += sizes[name]
            if name not in known:
                fused += sizes[name]
                known.add(name)
        known.add(result)
        moved += sizes[result]
    return torch.tensor(moved / (fused + sizes[result]))


def test_passes_saved_right() -> None:
    assert all(check_passes_saved(by_loops, seed=seed) for seed in SEEDS)
    rotation = [["n", "b"], ["t", "n", "a"], ["p", "x", "c"], ["s", "t", "c"], ["y", "p", "s"]]
    sizes = {"a": 1, "b": 1, "n": 1, "x": 2, "c": 0, "t": 2, "p": 2, "s": 2, "y": 2}
    assert check_passes_saved.reference(rotation, sizes) == 20 / 6  # a, b and x are one tensor: 20 / 4


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda steps, sizes: len(steps), "they move different numbers of bytes"),
        (lambda steps, sizes: 1 / by_loops(steps, sizes), "inverse"),
        (
            lambda steps, sizes: sum(sizes[n] for step in steps for n in step),
            "divide it by those of the fused",
        ),
        (lambda steps, sizes: by_loops(steps, dict.fromkeys(sizes, 1)), "weigh each by its bytes"),
        (lambda steps, sizes: by_loops(steps, sizes) + 1, "expected"),
        (lambda steps, sizes: None, "nothing yet"),
    ],
)
def test_passes_saved_mistakes(answer, diagnosis: str) -> None:
    verdict = check_passes_saved(answer)
    assert not verdict
    assert diagnosis in verdict.message


def one_by_one(N: int, W: int) -> float:
    m, n = torch.arange(N)[:, None], torch.arange(N)
    return float((n <= m).sum() / Window(W).sees(m, n).sum())


@pytest.mark.parametrize(
    "answer",
    [
        one_by_one,
        lambda N, W: counts.scores(N) / counts.scores(N, W),
        lambda N, W: np.float64(one_by_one(N, W)),
    ],
)
def test_window_gain_right(answer) -> None:
    assert all(check_window_gain(answer, seed=seed) for seed in SEEDS)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda N, W: N * N / (N * W), "uncorrected"),
        (lambda N, W: N / (2 * W), "the limit for long texts"),
        (lambda N, W: (N + 1) / 2 / min(W, N), "the first queries see fewer"),
        (lambda N, W: one_by_one(N, W + 1), "W keys, not W + 1"),
        (lambda N, W: 1 / one_by_one(N, W), "inverse"),
        (lambda N, W: N * (N + 1) / (2 * N * W - W * (W - 1)), "longer than the text"),
        (lambda N, W: one_by_one(N, W) + 1, "expected"),
        (lambda N, W: None, "nothing yet"),
    ],
)
def test_window_gain_mistakes(answer, diagnosis: str) -> None:
    verdict = check_window_gain(answer)
    assert not verdict
    assert diagnosis in verdict.message


def intensity(P: int, K: int, e: int, B: int) -> float:
    return 2 * B * (P + K) / (e * (P + B * K))


def by_search(P: int, K: int, e: int, ridge: float) -> int | None:
    return next((B for B in range(1, 20_000) if intensity(P, K, e, B) >= ridge * (1 - 1e-12)), None)


@pytest.mark.parametrize(
    "answer", [by_search, lambda *given: None if (B := by_search(*given)) is None else float(B)]
)
def test_enough_texts_right(answer) -> None:
    assert all(check_enough_texts(answer, seed=seed) for seed in SEEDS)


def without_a_look_at_the_sign(P: int, K: int, e: int, ridge: float) -> int:
    return max(1, math.ceil(ridge * e * P / (2 * (P + K) - ridge * e * K)))


def test_where_no_number_is_enough_the_reference_says_so() -> None:
    for seed in SEEDS:
        for P, K, e, ridge in (case.inputs for case in check_enough_texts.cases(seed)):
            if check_enough_texts.reference(P, K, e, ridge) is None:
                assert intensity(P, K, e, 10**9) < ridge
    assert check_enough_texts.reference(100, 0, 4, 3.1) == math.ceil(6.2)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda P, K, e, ridge: math.ceil(ridge * e / 2), "every text has to read its own"),
        (without_a_look_at_the_sign, "no such number"),
        (
            lambda P, K, e, ridge: None if (B := by_search(P, K, e, ridge)) is None else B + 1,
            "one more than it has to be",
        ),
        (lambda P, K, e, ridge: 0.5, "is a positive integer"),
        (lambda P, K, e, ridge: by_search(P, K, e, ridge) and 10**6, "fewer than 1e+06 texts are enough"),
        (lambda P, K, e, ridge: None, "nothing yet"),
    ],
)
def test_enough_texts_mistakes(answer, diagnosis: str) -> None:
    verdict = check_enough_texts(answer)
    assert not verdict
    assert diagnosis in verdict.message
