"""Figures of chapter 10."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.figures.xpos import beyond, fading, fading_map, frontier

parts = np.ones((5, 4))
line = np.ones(3)
losses = {
    "RoPE": ([2.0, 2.1, 2.3], 0.1 * line, "RoPE"),
    "RoPE, window": ([2.0, 2.0, 2.0], 0.1 * line, "RoPE"),
    "xPos": ([2.0, 2.1, 2.2], 0.1 * line, "xPos"),
}


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (fading_map([1, 10, 100, 1000, 10_000], parts, parts, [200, 400, 800, 30_000]), 3),
        (fading([1, 10, 100], [1, 100], {"a": (line, [1, 1])}, [8, 16, 32], [8, 32], {"a": (line, [1, 1])}), 2),
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
