"""Figures of chapter 16, drawn from small made-up records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.experiments.needle import VARIANTS
from rope_lab.experiments.store import Results
from rope_lab.figures.documents import by_base, needles, trained_scores, tried

random = np.random.default_rng(16)
DISTANCES = [0, 1, 2, 4, 8, 32, 96]
KERNEL = np.cos(np.arange(7)).tolist()


def decay(*variants: str) -> Results:
    def record(variant: str, seed: int) -> dict[str, Any]:
        numbers = {key: random.random((4, 2, 7)).tolist() for key in ("mean", "deviation")}
        return {"variant": variant, "seed": seed, "distances": DISTANCES} | numbers

    return Results("decay", "cpu", [record(variant, seed) for seed in (0, 1) for variant in variants])


def found(*variants: str) -> Results:
    numbers: dict[str, Any] = {"window": 8, "lengths": [64, 256], "distances": [[1, 32], [32, 128]]}

    def record(variant: str, seed: int) -> dict[str, Any]:
        return {"variant": variant, "seed": seed, "right": [[1.0, 0.5 + seed / 10], [0.25, 0.0]]} | numbers

    return Results("needle", "cpu", [record(variant, seed) for seed in (0, 1) for variant in variants])


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (needles(found(*VARIANTS)), 2),
        (needles(found(VARIANTS[-1])), 2),
        (needles(found()), 1),
        (trained_scores(decay("untrained", "trained"), KERNEL), 1),
        (trained_scores(decay("untrained", "trained", "trained, no QK-norm"), KERNEL), 2),
        (trained_scores(decay(), KERNEL), 1),
        (by_base({2: {3: [0.5], 10: [0.6]}, 96: {3: [0.7, 0.8], 10: [2.0, 1.0]}}, 0.5), 1),
        (tried([("a − b", [0.1, 0.2], "seen here"), ("c", [-1.0], "not seen here (opposite)")]), 1),
        (tried([]), 1),
    ],
)
def test_each_is_a_figure_that_can_be_drawn(figure: Figure, axes: int) -> None:
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes
    figure.canvas.draw()


def test_the_kernel_is_fitted_to_the_mean_of_the_trained_heads() -> None:
    results = decay("untrained", "trained")
    for record in results.records:
        record["mean"] = (3 * np.broadcast_to(KERNEL, (4, 2, 7)) - 5).tolist()
    lines = {line.get_label(): line.get_ydata() for line in trained_scores(results, KERNEL).axes[0].lines}
    assert np.allclose(lines["kernel"], lines["trained"])
    assert np.allclose(lines["trained"], 3 * np.array(KERNEL) - 5)


def test_a_claim_that_is_seen_is_filled_and_the_first_is_on_top() -> None:
    axes = tried([("a", [0.1, 0.2], "seen here"), ("b", [0.1, 0.3], "not seen here (undecided)")]).axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    filled = {int(line.get_ydata()[0]): line.get_markerfacecolor() != "none" for line in dots}
    assert filled == {1: True, 0: False}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]


def test_needles_are_shown_by_distance_and_by_length() -> None:
    left, right = needles(found(*VARIANTS)).axes
    lines = [line for line in left.lines if line.get_label() in VARIANTS]
    assert [line.get_label() for line in lines] == list(VARIANTS)
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-", "-", "--"]
    assert len({line.get_color() for line in lines}) == 3
    assert np.allclose(lines[0].get_ydata(), [1.0, 0.55])
    shared = next(line for line in right.lines if line.get_label() == VARIANTS[0])
    assert np.allclose(shared.get_ydata(), [0.55, 0.25])  # at 32 characters, in both texts
