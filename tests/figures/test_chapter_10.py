"""Figures of chapter 10."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.figures.xpos import beyond, fading, fading_map, first_query, frontier

parts = np.ones((5, 4))
line = np.ones(3)
positive = np.logspace(-1, 1, 9)
shares = {("a", 1): (line / 2, line / 9, [0.5, 0.5]), ("a", 4): (line / 5, line / 9, None)}
losses = {
    "RoPE": ([2.0, 2.1, 2.3], 0.1 * line, "RoPE"),
    "RoPE, window": ([2.0, 2.0, 2.0], 0.1 * line, "RoPE"),
    "xPos": ([2.0, 2.1, 2.2], 0.1 * line, "xPos"),
}


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (fading_map([1, 10, 100, 1000, 10_000], parts, parts, [200, 400, 800, 30_000]), 3),
        (fading([1, 10, 100], [1, 100], {"a": (line, [1, 1])}, [8, 16, 32], [8, 32], shares), 2),
        (first_query(np.arange(9), (6, 9), {"keys": positive, "queries": line}, (positive, line)), 1),
        (frontier([16, 64, 256], {"a": 10 * line}, {"a": 9 * line}), 1),
        (beyond([8, 32, 128], losses, 64), 1),
    ],
)  # fmt: skip
def test_each_is_a_figure_that_can_be_drawn(figure: Figure, axes: int) -> None:
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes
    figure.canvas.draw()


def test_a_window_has_its_models_colour_and_no_name_of_its_own() -> None:
    panel = beyond([8, 32, 128], losses, 64).axes[0]
    full, windowed, other = (container[0] for container in panel.containers)
    assert full.get_color() == windowed.get_color() != other.get_color()
    assert windowed.get_linestyle() == "--"
    legend = [text.get_text() for text in panel.get_legend().get_texts()]
    assert legend == ["RoPE", "xPos", "the same, with a window"]


def test_a_size_without_a_prediction_has_open_dots() -> None:
    panel = fading([1, 10, 100], [1, 100], {"a": (line, [1, 1])}, [8, 16, 32], [8, 32], shares).axes[1]
    predicted, drawn = (container[0] for container in panel.containers)
    assert predicted.get_color() == drawn.get_color() == predicted.get_markerfacecolor()
    assert drawn.get_markerfacecolor() != drawn.get_color()
    assert [container.get_label() for container in panel.containers] == ["a, σ = 1", "a, σ = 4"]


def test_all_factors_of_a_block_are_drawn_about_both_centres() -> None:
    panel = first_query(np.arange(9), (6, 9), {"keys": positive, "queries": line}, (positive, line)).axes[0]
    assert [curve.get_linestyle() for curve in panel.lines[:4]] == ["-", "-", "--", "--"]
    assert panel.get_yscale() == "log"
