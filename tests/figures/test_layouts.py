"""Figures of chapter 5."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from rope_lab.figures.layouts import conversion, mismatch, pairings, same_training, speed, walks

ORDER = [0, 2, 1, 3, 4, 6, 5, 7]  # two heads of four coordinates, from interleaved to half


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (pairings({"a": [(0, 1), (2, 3)], "b": [(0, 2), (1, 3)]}), 2),
        (conversion({"right": ORDER, "wrong": range(8)}, heads=2), 2),
        (mismatch([0, 1, 2], {"a": [0, 1, 1], "b": [1, 1, 1]}), 1),
        (same_training({"a": np.ones(4), "b": np.ones(4)}), 1),
        (walks([64, 1024], {"a": [2, 1], "b": [1, 1]}), 1),
        (speed({"a": 1.0, "b": 2.0}, emphasised=["a"]), 1),
    ],
)
def test_each_is_a_figure_that_can_be_drawn(figure: Figure, axes: int) -> None:
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes
    figure.canvas.draw()


def test_a_row_keeps_its_number_and_colour_when_it_moves() -> None:
    panel = conversion({"right": ORDER}, heads=2).axes[0]
    numbers = [text.get_text() for text in panel.texts if text.get_text().isdigit()]
    assert numbers[0::2] == [str(row) for row in ORDER]  # before, named in the order of where they go
    assert numbers[1::2] == numbers[0::2]  # after
    boxes = panel.patches
    before = {row: to_hex(boxes[2 * place].get_facecolor()) for place, row in enumerate(ORDER)}
    after = {row: to_hex(boxes[2 * place + 1].get_facecolor()) for place, row in enumerate(ORDER)}
    assert before == after
    assert before[0] == before[1] != before[2] == before[3]  # the two of an interleaved pair
    tops = [boxes[2 * place + 1].get_y() for place in range(8)]
    assert tops == sorted(tops, reverse=True)  # from top to bottom in the new order
