"""The checkers of chapter 15 pass right answers and name each known mistake."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab import angles, frequencies, rotate
from rope_lab.encodings import NTKAware, YaRN
from rope_lab.exercises.ch15 import (
    check_ntk_frequencies,
    check_restamp,
    check_unseen_pairs,
    check_yarn_frequencies,
)


def unseen(dim: int, base: float, length: int, turn: float = 2 * math.pi) -> int:
    return int((turn / frequencies(dim, base) > length).sum())


def test_unseen_pairs_right() -> None:
    assert check_unseen_pairs(unseen)
    assert check_unseen_pairs(lambda *case: np.int64(unseen(*case)))
    assert check_unseen_pairs(lambda *case: float(unseen(*case)))
    assert check_unseen_pairs(lambda *case: torch.tensor(unseen(*case)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda d, b, n: d // 2 - unseen(d, b, n), "do complete a turn"),
        (lambda d, b, n: unseen(d, b, n, 1), "2π is missing"),
        (lambda d, b, n: 2 * unseen(d, b, n), "a pair has two"),
        (lambda d, b, n: unseen(d, b, n, math.pi), "without half a turn"),
        (lambda d, b, n: unseen(d, math.sqrt(b), n), "i counts pairs"),
        (lambda d, b, n: unseen(d, b, n) - 1, "one too few"),
        (lambda d, b, n: unseen(d, b, n) + 1, "one too many"),
        (lambda d, b, n: unseen(d, b, n - 1), "one token is missing"),
        (lambda d, b, n: unseen(d, 10_000.0, n), "base is not used"),
        (lambda d, b, n: 12.5, "return an integer"),
        (lambda d, b, n: True, "return an integer"),
        (lambda d, b, n: None, "nothing yet"),
    ],
)
def test_unseen_pairs_mistakes(answer, diagnosis: str) -> None:
    verdict = check_unseen_pairs(answer)
    assert not verdict
    assert diagnosis in verdict.message


def test_ntk_right() -> None:
    assert check_ntk_frequencies(lambda d, b, s: frequencies(d, b * s ** (d / (d - 2))))
    assert check_ntk_frequencies(lambda d, b, s: (b * s ** (d / (d - 2))) ** (-np.arange(0, d, 2) / d))
    assert check_ntk_frequencies(lambda d, b, s: NTKAware(s)(frequencies(d, b), 0)[0].float())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda d, b, s: frequencies(d, b * s), "to the power D/(D − 2)"),
        (lambda d, b, s: frequencies(d, b * s ** ((d - 2) / d)), "is inverted"),
        (lambda d, b, s: frequencies(d, b) / s ** (d / (d - 2)), "divided by the same number"),
        (lambda d, b, s: frequencies(d, b) / s, "position interpolation"),
        (lambda d, b, s: frequencies(d, b / s ** (d / (d - 2))), "a larger base"),
        (lambda d, b, s: frequencies(d, b), "the old base"),
        (lambda d, b, s: frequencies(d, math.sqrt(b * s ** (d / (d - 2)))), "i counts pairs"),
        (lambda d, b, s: NTKAware(s)(frequencies(d, b), 0)[0].repeat_interleave(2), "one per pair"),
        (lambda d, b, s: None, "nothing yet"),
    ],
)
def test_ntk_mistakes(answer, diagnosis: str) -> None:
    verdict = check_ntk_frequencies(answer)
    assert not verdict
    assert diagnosis in verdict.message


def ramp(
    dim: int, base: float, length: int, turn: float = 2 * math.pi, whole: bool = True, held: bool = True
) -> Tensor:
    low, high = (dim * math.log(length / (turn * turns)) / (2 * math.log(base)) for turns in (32, 1))
    if whole:
        low, high = math.floor(low), math.ceil(high)
    low = max(low, 0) if held else low
    return (torch.arange(dim // 2) - low) / (high - low)


def blend(dim: int, base: float, factor: float, share: Tensor) -> Tensor:
    theta = frequencies(dim, base)
    return theta * (1 - share) + theta / factor * share


def test_yarn_right() -> None:
    assert check_yarn_frequencies(lambda d, b, s, n: blend(d, b, s, ramp(d, b, n).clamp(0, 1)))
    assert check_yarn_frequencies(lambda d, b, s, n: YaRN(s, n)(frequencies(d, b), 0)[0].float())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda d, b, s, n: blend(d, b, s, 1 - ramp(d, b, n).clamp(0, 1)), "the wrong way"),
        (lambda d, b, s, n: blend(d, b, s, ramp(d, b, n)), "not held at 0 and 1"),
        (lambda d, b, s, n: blend(d, b, s, ramp(d, b, n, whole=False).clamp(0, 1)), "not rounded outward"),
        (
            lambda d, b, s, n: blend(
                d, b, s, 1 - ((n * frequencies(d, b) / (2 * math.pi) - 1) / 31).clamp(0, 1)
            ),
            "runs over the turns",
        ),
        (lambda d, b, s, n: blend(d, b, s, ramp(d, b, n, turn=1).clamp(0, 1)), "2π is missing"),
        (
            lambda d, b, s, n: frequencies(d, b) / (1 + (s - 1) * ramp(d, b, n).clamp(0, 1)),
            "wavelengths are blended",
        ),
        (lambda d, b, s, n: blend(d, b, s, ramp(d, b, n, held=False).clamp(0, 1)), "begins below pair 0"),
        (lambda d, b, s, n: frequencies(d, b) / s, "position interpolation"),
        (lambda d, b, s, n: frequencies(d, b), "are unchanged"),
        (
            lambda d, b, s, n: blend(d, b, s, ramp(d, b, n).clamp(0, 1)) * (0.1 * math.log(s) + 1),
            "attention factor",
        ),
        (lambda d, b, s, n: blend(d, b, s, ramp(d, b, int(s * n)).clamp(0, 1)), "extended length"),
        (lambda d, b, s, n: None, "nothing yet"),
    ],
)
def test_yarn_mistakes(answer, diagnosis: str) -> None:
    verdict = check_yarn_frequencies(answer)
    assert not verdict
    assert diagnosis in verdict.message


def turned(keys: Tensor, freqs: Tensor, *, start: int = 0, layout: str = "interleaved") -> Tensor:
    at = torch.arange(start, start + len(keys))
    return rotate(keys, angles(at, freqs, dtype=torch.float64), layout)


def test_restamp_right() -> None:
    assert check_restamp(lambda keys, old, new: turned(keys, new - old))
    assert check_restamp(lambda keys, old, new: turned(turned(keys, -old), new))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda keys, old, new: turned(keys, new), "on top of their old angle"),
        (lambda keys, old, new: turned(keys, old - new), "the other way"),
        (lambda keys, old, new: turned(keys, -old), "lost their position"),
        (lambda keys, old, new: keys, "not turned at all"),
        (
            lambda keys, old, new: rotate(keys, (new - old).expand(len(keys), -1)),
            "grows with the position",
        ),
        (lambda keys, old, new: turned(keys, new - old, start=1), "positions begin at 1"),
        (lambda keys, old, new: turned(keys, new - old, layout="half"), "half layout"),
        (lambda keys, old, new: keys[:1], "expected shape (2, 2), got (1, 2)"),
        (lambda keys, old, new: None, "nothing yet"),
    ],
)
def test_restamp_mistakes(answer, diagnosis: str) -> None:
    verdict = check_restamp(answer)
    assert not verdict
    assert diagnosis in verdict.message
