"""What a few seeds can say: Student's t, the interval of a mean, differences within a seed, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from rope_lab.experiments import seeds
from rope_lab.experiments.store import Results


def test_differences_are_taken_within_a_seed() -> None:
    records = [
        {"variant": "a", "seed": 2, "loss": [0.0, 2.5]},
        {"variant": "a", "seed": 0, "loss": [0.0, 1.5]},
        {"variant": "b", "seed": 0, "loss": [0.0, 1.0]},
        {"variant": "b", "seed": 1, "loss": [0.0, 9.0]},
        {"variant": "b", "seed": 2, "loss": [0.0, 3.0]},
    ]
    results = Results("toy", "cpu", records)
    assert seeds.differences(results, "a", "b", "loss", 1) == [0.5, -0.5]
    assert seeds.differences(results, "a", "c", "loss", 1) == []


@pytest.mark.parametrize(
    ("count", "expected"), [(2, 12.706205), (3, 4.302653), (4, 3.182446), (11, 2.228139), (10_001, 1.960201)]
)
def test_the_quantile_is_students_t(count: int, expected: float) -> None:
    assert seeds.t_quantile(count) == pytest.approx(expected, rel=2e-4)


def test_an_interval_of_three() -> None:
    mean, half = seeds.interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-4)
    assert seeds.interval([5.0]) == (5.0, math.inf)


def test_plus_minus_is_the_interval_and_not_the_standard_deviation() -> None:
    assert seeds.shown([1.0, 2.0, 3.0]) == "2.000 ± 2.484"  # the standard deviation is 1
    assert seeds.shown([1.0, 2.0, 3.0], 1) == "2.0 ± 2.5"
    assert seeds.shown([2.0]) == "2.000"  # one seed says nothing of its error
    drawn = np.random.default_rng(0).normal(3, 1, (2_000, 3))
    means_and_halves = np.array([seeds.interval(row) for row in drawn.tolist()])
    covered = np.abs(means_and_halves[:, 0] - 3) <= means_and_halves[:, 1]
    assert covered.mean() == pytest.approx(0.95, abs=0.02)


def test_tables_and_verdicts_mean_the_same_by_plus_minus() -> None:
    values = [0.1, 0.4, 0.2]
    assert f"+{seeds.shown(values)}" == seeds.verdict(values).difference


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([-0.30, -0.31, -0.29], ("-0.300 ± 0.025", "lower", "3 of 3")),
        ([0.30, 0.31, 0.29], ("+0.300 ± 0.025", "higher", "3 of 3")),
        ([0.30, -0.31, 0.29], ("+0.093 ± 0.868", "undecided", "2 of 3")),
        ([0.3], ("+0.300", "one seed: undecided", "")),
        ([], ("–", "not recorded", "")),
    ],
)
def test_a_verdict_says_what_the_seeds_can_say(values: list[float], said: tuple[str, str, str]) -> None:
    found = seeds.verdict(values)
    assert found == said
    assert said[1] in str(found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seeds.t_quantile(0), r"count must be positive and confidence in \(0, 1\), got 0 and 0.95"),
        (
            lambda: seeds.t_quantile(3, 1.0),
            r"count must be positive and confidence in \(0, 1\), got 3 and 1.0",
        ),
        (lambda: seeds.interval([]), "values must hold at least one number, got none"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
