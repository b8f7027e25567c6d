"""Figures of chapter 11: the words of the moving one by other means, and two drawn from small numbers."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import mpmath
import pytest
import torch
from matplotlib.figure import Figure

from rope_lab.encodings import DynamicNTK
from rope_lab.figures.longer import cache_errors, seen
from rope_lab.figures.wavelengths import (
    HIGH,
    NAMES,
    PAIRS,
    START,
    STEPS,
    TRAINED,
    leaving,
    said,
    scaled,
    wavelengths,
)

THETA = [float(mpmath.mpf(10_000) ** (mpmath.mpf(-i) / PAIRS)) for i in range(PAIRS)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", [0, 1, START, STEPS])
def test_the_sentences_say_what_the_frequencies_are(name: str, step: int) -> None:
    factor = 2 ** (step / 4)
    freqs = scaled(name, factor).tolist()
    unfinished = [TRAINED * t < math.tau for t in THETA]
    out = sum(u and factor * new > t * (1 + 1e-9) for u, new, t in zip(unfinished, freqs, THETA, strict=True))
    kept = sum(abs(new / t - 1) < 1e-9 for new, t in zip(freqs, THETA, strict=True))
    first, second = said(name, step)
    assert re.fullmatch(rf"[\d,]+ tokens, {re.escape(name)}: {out} of {sum(unfinished)} .*", first)
    assert f"{round(TRAINED * factor):,} tokens" in first
    assert second.startswith(f"{kept} of {PAIRS} pairs")
    near = [sum(math.sin(t / 2) ** 2 for t in row) for row in (freqs, THETA)]
    assert f"{100 * math.sqrt(near[0] / near[1]):.0f}%" in second


def test_at_the_trained_length_nothing_changes_but_for_pairs_that_are_cut() -> None:
    for name in NAMES[:-1]:
        assert said(name, 0)[1].startswith(f"{PAIRS} of {PAIRS} pairs")
        assert not leaving(scaled(name, 1.0), 1.0).any()
    assert said(NAMES[-1], 0)[1].startswith("16 of 64")


def test_dynamic_ntk_of_the_figure_is_that_of_the_package() -> None:
    for factor in (1, 2, 8):
        there, _ = DynamicNTK(factor, TRAINED)(scaled("nothing scaled", 1.0), factor * TRAINED)
        torch.testing.assert_close(scaled("dynamic NTK", factor), there, rtol=1e-12, atol=0)


def test_without_a_script_the_drawing_is_that_of_its_words() -> None:
    page = wavelengths().data
    still = page.split("<script")[0]
    assert still.count('class="before"') == PAIRS
    out = int(leaving(scaled(NAMES[0], 8.0), 8.0).sum())
    assert still.count('class="after out"') == out == 18
    assert still.count('class="after"') == PAIRS - out
    for sentence in said(NAMES[0], START):
        assert sentence in still
    assert not re.findall(r"__[A-Z]+__", page)
    assert "NaN" not in still


def test_a_wavelength_is_drawn_at_its_height() -> None:
    """Ten times as long is the same step up everywhere."""
    page = wavelengths().data
    marks = [float(y) for y in re.findall(r'class="mark" x="-17" y="([\d.]+)"', page)]
    steps = [a - b for a, b in pairwise(marks)]
    assert len(marks) == 7
    assert max(steps) - min(steps) < 0.21
    lines = dict(re.findall(r'class="(trained|now)" x2="300" y1="([\d.]+)"', page))
    assert float(lines["trained"]) - float(lines["now"]) == pytest.approx(steps[0] * math.log10(8), abs=0.2)


@pytest.mark.parametrize("name", NAMES)
def test_only_pairs_that_do_not_turn_are_at_the_upper_edge(name: str) -> None:
    for step in range(STEPS + 1):
        freqs = scaled(name, 2 ** (step / 4))
        assert float(freqs[freqs > 0].min()) > math.tau / 10**HIGH


@pytest.mark.parametrize(
    "figure",
    [
        seen([40.0, 8.0, 4.0, 2.0, 0.5], [1.0, 0.9, 0.8, 0.5, 0.0], 4),
        cache_errors([10, 11, 20, 40], {"a": [0, 0.1, 0.2, 0.3], "b": [0.0] * 4}, 10),
    ],
)
def test_each_is_a_figure_that_can_be_drawn(figure: Figure) -> None:
    assert isinstance(figure, Figure)
    figure.canvas.draw()
