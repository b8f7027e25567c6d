"""The figure of the atlas: a point per family, names that cover nothing."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.atlas import FAMILIES, find
from rope_lab.figures.atlas import slowest


@pytest.fixture(scope="module")
def figure() -> Figure:
    return slowest()


def points(figure: Figure) -> np.ndarray:
    return np.concatenate(
        [line.get_xydata() for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    )


def test_every_family_with_a_context_is_a_point_at_its_numbers(figure: Figure) -> None:
    drawn = points(figure)
    expected = [(row.context, row.spectrum.slowest) for row in FAMILIES if row.context is not None]
    np.testing.assert_allclose(sorted(map(tuple, drawn)), sorted(expected))


def test_no_name_covers_another_or_a_point(figure: Figure) -> None:
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert len(boxes) > 15
    for (one, a), (two, b) in combinations(boxes.items(), 2):
        assert not a.overlaps(b), (one, two)
    for x, y in axes.transData.transform(points(figure)):
        assert not any(box.contains(x, y) for box in boxes.values())
    frame = axes.get_window_extent()
    for name, box in boxes.items():
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1, name


def test_the_diagonal_is_one_turn_in_the_context(figure: Figure) -> None:
    (diagonal,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())


def test_some_families_alone_can_be_drawn() -> None:
    figure = slowest([find("llama-3.1"), find("recurrentgemma")])
    assert len(points(figure)) == 1
    assert "Llama 3.1" in [text.get_text() for text in figure.axes[0].texts]
