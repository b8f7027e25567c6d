"""Figures of chapter 17: the angles of the moving one by NumPy's broadcasting, and two drawn from small numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.figures.batches import outcomes, two_questions
from rope_lab.figures.broadcast import INDICES, MOST, START, broadcast, said, turns

SIZES = range(1, MOST + 1)


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("tokens", SIZES)
@pytest.mark.parametrize("batch", SIZES)
def test_the_angles_are_those_of_a_broadcast(batch: int, tokens: int, index: str) -> None:
    table, x = np.arange(tokens), np.zeros((batch, tokens), int)
    first, second = said(batch, tokens, index)
    try:
        found = eval(index, {"table": table}) + x
    except ValueError:
        assert turns(batch, tokens, index) is None
        assert first.endswith("an error.")
        assert 1 not in (batch, tokens)
        assert batch != tokens
        return
    assert np.array_equal(turns(batch, tokens, index), found)
    assert f"({len(found)}, {tokens}) comes out" in first
    wrong = int((found != table).sum())
    assert second.startswith(f"{wrong} of {found.size} tokens")
    assert index == INDICES[0] or wrong == 0


def test_the_drawing_is_complete_without_its_script() -> None:
    drawn = broadcast().data.split("<script")[0]
    cells = re.findall(r'<g class="cell( wrong)?" data-at="(\d) (\d)" transform="[^"]*"( visibility)?', drawn)
    assert len(cells) == MOST**2
    shown = [(int(row), int(place), bool(wrong)) for wrong, row, place, hidden in cells if not hidden]
    assert shown == [(row, place, row != place) for row in range(START) for place in range(START)]


def test_each_square_says_what_came_out() -> None:
    figure = outcomes({(1, 1): 0.0, (1, 2): 2, (2, 1): None, (2, 2): 0.5}, range(1, 3))
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(1, 1): "0", (2, 1): "2 rows", (1, 2): "×", (2, 2): "0.50"}
    assert len({patch.get_facecolor() for patch in axes.patches}) == 4


def test_both_questions_have_a_mark_per_model() -> None:
    figure = two_questions({"a": (1.0, 0.5), "b": (0.9, 0.8)})
    (axes,) = figure.axes
    marks = [
        tuple(float(v) for v in line.get_xdata()) for line in axes.lines if line.get_marker() in ("s", "o")
    ]
    assert [mark for mark in marks if mark] == [(1.0,), (0.5,), (0.9,), (0.8,)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
