"""The checkers of chapter 6 pass right answers and name each known mistake."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab import angles, convert_layout, frequencies, rotate
from rope_lab.exercises.ch06 import check_key_for, check_paper_curve, check_reach


def sums(s: Tensor, freqs: Tensor) -> Tensor:
    angle = s[:, None] * freqs
    return torch.polar(torch.ones_like(angle), angle).cumsum(-1)


def test_paper_curve_right() -> None:
    assert check_paper_curve(lambda s, f: sums(s, f).abs().mean(-1))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda s, f: sums(s, f)[:, -1].abs(), "only |S_{D/2}|"),
        (lambda s, f: sums(s, f).abs().sum(-1), "divides by D/2"),
        (lambda s, f: sums(s, f).mean(-1).abs(), "before the mean"),
        (lambda s, f: sums(s, f).real.abs().mean(-1), "only the real parts"),
        (lambda s, f: torch.nn.functional.pad(sums(s, f).abs(), (1, 0)).mean(-1), "S_0 = 0"),
        (lambda s, f: sums(s, f).abs(), "one curve per sum"),
        (lambda s, f: (s[:, None] * f).cos().mean(-1), "only the cosines"),
        (lambda s, f: sums(s, f).mean(-1), "return a real tensor"),
        (lambda s, f: sums(s, f).abs().mean(-1) + s, "first difference at [0]"),
        (lambda s, f: sums(s, f.flip(0)).abs().mean(-1), "slowest pair"),
        (lambda s, f: None, "nothing yet"),
    ],
)
def test_paper_curve_mistakes(answer, diagnosis: str) -> None:
    verdict = check_paper_curve(answer)
    assert not verdict
    assert diagnosis in verdict.message


def turned(q: Tensor, by: float, freqs: Tensor, layout="interleaved") -> Tensor:
    return rotate(q[None], angles(torch.tensor([by]), freqs, dtype=q.dtype), layout)[0]


def test_key_for_right() -> None:
    assert check_key_for(turned)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda q, r, f: turned(q, -r, f), "s = −r"),
        (lambda q, r, f: q, "peaks at distance 0"),
        (lambda q, r, f: -q, "lowest score"),
        (lambda q, r, f: turned(q, r, f, "half"), "interleaved angles on a half layout"),
        (lambda q, r, f: convert_layout(turned(q, r, f), "interleaved", "half"), "order of the half layout"),
        (lambda q, r, f: turned(q, 2 * r, f), "twice as far"),
        (lambda q, r, f: turned(q, r, f) / q.norm(), "length 1"),
        (lambda q, r, f: turned(q, r, f)[None], "expected shape (2,), got (1, 2)"),
        (lambda q, r, f: -turned(q, r, f), "lowest score at distance r"),
        (lambda q, r, f: None, "nothing yet"),
    ],
)
def test_key_for_mistakes(answer, diagnosis: str) -> None:
    verdict = check_key_for(answer)
    assert not verdict
    assert diagnosis in verdict.message


def first(freqs: Tensor, below: float = 0.0, curve=torch.cos) -> int:
    s = 0
    while curve(s * freqs).sum() >= below:
        s += 1
    return s


def grid(freqs: Tensor) -> int:
    """The distances of a figure, which leave most distances out."""
    s = torch.logspace(0, 4, 300, dtype=torch.float64).round()
    return int(s[(s[:, None] * freqs).cos().sum(-1) < 0][0])


def test_reach_right() -> None:
    assert check_reach(lambda dim, base: first(frequencies(dim, base)))
    assert check_reach(lambda dim, base: np.int64(first(frequencies(dim, base))))
    assert check_reach(lambda dim, base: float(first(frequencies(dim, base))))
    assert check_reach(lambda dim, base: torch.tensor(first(frequencies(dim, base))))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda dim, base: first(frequencies(dim, base)) - 1, "last distance before"),
        (lambda dim, base: first(frequencies(dim, base)) + 1, "one too far"),
        (lambda dim, base: first(frequencies(dim, base) ** 0.5), "base^(−i/D)"),
        (lambda dim, base: first(frequencies(dim, base), curve=torch.sin), "sines"),
        (lambda dim, base: round(0.6165 * base), "wide heads"),
        (lambda dim, base: first(frequencies(dim, base), below=1.0), "below 0"),
        (lambda dim, base: grid(frequencies(dim, base)), "expected"),
        (lambda dim, base: 1.5, "return an integer"),
        (lambda dim, base: True, "return an integer"),
        (lambda dim, base: None, "nothing yet"),
    ],
)
def test_reach_mistakes(answer, diagnosis: str) -> None:
    verdict = check_reach(answer)
    assert not verdict
    assert diagnosis in verdict.message
