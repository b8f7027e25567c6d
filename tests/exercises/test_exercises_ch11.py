"""Exercises of chapter 11: other correct ways pass, and each wrong answer is told what is wrong with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab import frequencies
from rope_lab.encodings import DynamicNTK, NTKAware
from rope_lab.exercises.ch11 import check_dynamic_base, check_leaving, check_ntk_factor, check_unequal

SEEDS = (0, 111, 112, 113)


def by_bisection(dim: int, pair: int, factor: float) -> float:
    """With the scaling itself, which the reference does not use."""
    freqs = frequencies(dim)
    low, high = 1.0, 1e9
    for _ in range(200):
        middle = math.sqrt(low * high)
        enough = freqs[pair] / NTKAware(middle)(freqs, 0)[0][pair] >= factor
        low, high = (low, middle) if enough else (middle, high)
    return high


@pytest.mark.parametrize(
    "answer",
    [
        by_bisection,
        lambda dim, pair, factor: np.exp(np.log(factor) * (dim - 2) / (2 * pair)),
        lambda dim, pair, factor: torch.tensor(factor, dtype=torch.float64) ** ((dim - 2) / 2 / pair),
    ],
)
def test_ntk_factor_right(answer) -> None:
    for seed in SEEDS:
        assert check_ntk_factor(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda D, i, s: s, "only the last pair"),
        (lambda D, i, s: s ** (2 * i / (D - 2)), "inverted"),
        (lambda D, i, s: s ** (D / 2 / i), "multiplies the base"),
        (lambda D, i, s: s ** ((D - 1) / i), "D/2 pairs, not D"),
        (lambda D, i, s: s**2 - s + 1, "dynamic NTK"),
        (lambda D, i, s: 1.0, "no pair is divided by enough"),
        (lambda D, i, s: None, "nothing yet"),
    ],
)
def test_ntk_factor_mistakes(answer, diagnosis: str) -> None:
    verdict = check_ntk_factor(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def by_degrees(freqs: Tensor, scaled: Tensor, length: int, longer: int) -> int:
    """The largest angles, held at a full turn."""
    seen, asked = (
        np.minimum(np.degrees(np.asarray(n * f)), 360) for n, f in ((length, freqs), (longer, scaled))
    )
    return np.count_nonzero((seen < 360) & (asked > seen * (1 + 1e-9)))


@pytest.mark.parametrize(
    "answer",
    [
        by_degrees,
        lambda f, g, L, M: sum(
            2 * math.pi / a > L and b / a > L / M + 1e-9 for a, b in zip(f.tolist(), g.tolist(), strict=True)
        ),
    ],
)
def test_leaving_right(answer) -> None:
    for seed in SEEDS:
        assert check_leaving(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda f, g, L, M: int((M * g > L * f * (1 + 1e-9)).sum()), "has seen every angle"),
        (lambda f, g, L, M: int((2 * math.pi / f > L).sum()), "some of them may stay"),
        (lambda f, g, L, M: len(f) - by_degrees(f, g, L, M), "without the ones that leave"),
        (lambda f, g, L, M: int(((1 / f > L) & (M * g > L * f * (1 + 1e-9))).sum()), "yours is one radian"),
        (lambda f, g, L, M: by_degrees(f, g, L - 1, M - 1), "ends at n·θ here"),
        (lambda f, g, L, M: len(f), "no more pairs can leave"),
        (lambda f, g, L, M: None, "nothing yet"),
    ],
)
def test_leaving_mistakes(answer, diagnosis: str) -> None:
    verdict = check_leaving(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def by_all_triples(places: Tensor) -> list[int] | None:
    """The last triple of all, with shifts in both directions."""
    found, N = None, len(places)
    for m in range(N):
        for n in range(N):
            for t in range(-min(m, n), N - max(m, n)):
                if abs(places[m + t] - places[n + t] - places[m] + places[n]) > 1e-6:
                    found = [m, n, t]
    return found


@pytest.mark.parametrize(
    "answer",
    [
        by_all_triples,
        lambda places: (lambda found: None if found is None else np.array(found))(by_all_triples(places)),
    ],
)
def test_unequal_right(answer) -> None:
    for seed in SEEDS:
        assert check_unequal(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda places: (1, 0, 0) if by_all_triples(places) else None, "shift by 0"),
        (lambda places: (0, 0, 1) if by_all_triples(places) else None, "distance of a token from itself"),
        (lambda places: (1, 0, 1), "the difference of the places is"),
        (lambda places: (1, 0, len(places)), "must be tokens 0 to"),
        (lambda places: (1, 0, 0.5) if by_all_triples(places) else None, "return integers"),
        (lambda places: None, "nothing yet"),
    ],
)
def test_unequal_mistakes(answer, diagnosis: str) -> None:
    verdict = check_unequal(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def by_frequencies(dim: int, base: float, factor: float, length: int, trained: int) -> float:
    """The base that gives the last frequency of the package's own scaling."""
    last = DynamicNTK(factor, trained)(frequencies(dim, base), length)[0][-1]
    return float(last) ** (-dim / (dim - 2))


@pytest.mark.parametrize(
    "answer",
    [
        by_frequencies,
        lambda D, b, s, N, L: np.float64(b) * (1 + s * max(0, N - L) / L) ** (1 + 2 / (D - 2)),
    ],
)
def test_dynamic_base_right(answer) -> None:
    for seed in SEEDS:
        assert check_dynamic_base(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda D, b, s, N, L: b * (s * N / L - (s - 1)) ** (D / (D - 2)), "the function of the page"),
        (lambda D, b, s, N, L: b * abs(s * N / L - (s - 1)) ** (D / (D - 2)), "still get another base"),
        (lambda D, b, s, N, L: b * (s * s - s + 1) ** (D / (D - 2)), "length of the text is not used"),
        (lambda D, b, s, N, L: b * max(1, s * N / L - s + 1), "d/(d − 2) is missing"),
        (lambda D, b, s, N, L: b, "formula of the page was correct"),
        (lambda D, b, s, N, L: b / 2, "never below the trained one"),
        (lambda D, b, s, N, L: None, "nothing yet"),
    ],
)
def test_dynamic_base_mistakes(answer, diagnosis: str) -> None:
    verdict = check_dynamic_base(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()
