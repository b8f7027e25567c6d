"""What a few seeds can say: means with a 95% confidence interval, differences taken seed by seed, and a verdict.

One meaning of ± in the whole book: the half-width of the 95% confidence interval of the mean, by Student's t. A
standard deviation is called one (SD).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from rope_lab.experiments.store import Results


class Verdict(NamedTuple):
    """A difference as a table shows it: three cells of text, or one line as `str`.

    Args:
        difference: its mean ± the half-width of the 95% confidence interval.
        word: "lower" or "higher" where the interval does not contain zero, "undecided" where it does.
        seeds: how many of the seeds have the sign of the majority, such as "3 of 3".
    """

    difference: str
    word: str
    seeds: str

    def __str__(self) -> str:
        return f"{self.difference}, {self.word}" + (f", {self.seeds} seeds" if self.seeds else "")


def t_quantile(count: int, confidence: float = 0.95) -> float:
    """How many standard errors on either side of the mean of `count` Gaussian numbers cover the true mean.

    It is the two-sided quantile of Student's t distribution with count − 1 degrees of freedom. It is infinite for one
    number, which says nothing about its error.

    Args:
        count: how many numbers the mean is of.
        confidence: the fraction of all cases in which the true mean is to be covered.

    Raises:
        ValueError: if `count` is not positive or `confidence` not between 0 and 1.

    Source: Student 1908, The probable error of a mean.
    """
    if count < 1 or not 0 < confidence < 1:
        raise ValueError(f"count must be positive and confidence in (0, 1), got {count} and {confidence}")
    if count == 1:
        return math.inf
    angle = np.linspace(0, math.pi / 2, 100_001)  # t = √ν·tan(angle), whose density is cos^(ν − 1)
    density = np.cos(angle) ** (count - 2)
    covered = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
    return float(math.sqrt(count - 1) * math.tan(np.interp(confidence, covered / covered[-1], angle)))


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Mean of a few numbers and the half-width of its confidence interval, infinite for one number.

    Raises:
        ValueError: if `values` is empty.
    """
    if not values:
        raise ValueError("values must hold at least one number, got none")
    if len(values) == 1:
        return float(values[0]), math.inf
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)), t_quantile(len(values), confidence) * error


def shown(values: Sequence[float], digits: int = 3) -> str:
    """Mean ± half-width of its 95% confidence interval, for a table; the number alone where there is one seed."""
    mean, half = interval(values)
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if math.isfinite(half) else "")


def differences(results: Results, variant: str, against: str, *path: str | int) -> list[float]:
    """A number of one variant minus that of another, one for each seed that both have, in the order of the seeds.

    Args:
        results: the records.
        variant, against: names of variants.
        path: where the number is in a record, as for `Results.values`.
    """
    ours, theirs = (
        dict(zip(results.values(name, "seed"), results.values(name, *path), strict=True))
        for name in (variant, against)
    )
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def verdict(values: Sequence[float], digits: int = 3) -> Verdict:
    """By how much, lower, higher or undecided, and how many seeds agree, for paired differences.

    Args:
        values: one difference per seed.
        digits: after the point.
    """
    if not values:
        return Verdict("–", "not recorded", "")
    mean, half = interval(values)
    lower = sum(value < 0 for value in values)
    agreed = f"{max(lower, len(values) - lower)} of {len(values)}"
    if math.isinf(half):
        return Verdict(f"{mean:+.{digits}f}", "one seed: undecided", "")
    word = "undecided" if abs(mean) <= half else ("lower" if mean < 0 else "higher")
    return Verdict(f"{mean:+.{digits}f} ± {half:.{digits}f}", word, agreed)
