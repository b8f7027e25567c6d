"""Figures of chapter 7 show the numbers that they are given, and the moving one says what its script will say."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rope_lab.figures.attention import caches, kept_pairs, shifted
from rope_lab.figures.pieces import COUNT, RULES, distance, pieces, said


def test_each_training_is_a_line_and_each_place_a_colour() -> None:
    losses = {"one": np.array([[1.0, 2.0, 3.0], [1.5, 2.5, 3.5]]), "two": np.array([[0.1, 0.1, 0.1]])}
    (axes,) = shifted((0, 10, 1000), losses, 2.77).axes
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in drawn] == [[1, 2, 3], [1.5, 2.5, 3.5], [0.1, 0.1, 0.1]]
    assert drawn[0].get_color() == drawn[1].get_color() != drawn[2].get_color()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "10", "1,000"]
    words = [text.get_text() for text in axes.texts]
    assert words == ["one", "two", "a guess"]
    heights = sorted(text.xy[1] for text in axes.texts)
    assert min(np.diff(heights)) >= 0.5


def test_pairs_that_turn_are_filled() -> None:
    (axes,) = kept_pairs({"all": ([6, 60], []), "some": ([6], [60])}, 100).axes
    dots = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [(list(d.get_xdata()), d.get_fillstyle()) for d in dots] == [
        ([6, 60], "full"), ([60], "none"), ([6], "full"),
    ]  # fmt: skip


def test_caches_are_in_mebibytes() -> None:
    (axes,) = caches([1024, 2048], {"a": [2**20, 2**21], "b": [2**18, 2**18]}).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[1, 2], [0.25, 0.25]]
    assert [text.get_text() for text in axes.texts] == ["a", "b"]


@pytest.mark.parametrize("cached", range(COUNT))
def test_a_forgotten_offset_is_wrong_for_each_cached_key(cached: int) -> None:
    for m in range(COUNT):
        for n in range(m + 1):
            assert distance(m, n, cached, again=False) == m - n
            seen = (m - cached if m >= cached else m) - (
                n - cached if n >= cached else n
            )  # counted in each call
            assert distance(m, n, cached, again=True) == seen
    wrong, of = map(int, re.findall(r"\d+", said(cached, again=True)[1]))
    assert wrong == cached * (COUNT - cached)
    assert of == sum(m + 1 for m in range(cached, COUNT))
    assert said(cached, again=False)[1].startswith("Wrong distances in the new rows: 0 of")


def test_without_javascript_the_figure_is_complete() -> None:
    html = pieces().data.split("<script")[0]
    assert html.count("<rect") == COUNT * (COUNT + 1) // 2
    assert all(sentence in html for sentence in said(8, again=True))
    assert all(rule in html for rule in RULES)
