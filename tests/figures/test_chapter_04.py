"""Figures of chapter 4: the map of roots says what the mathematics says, and each row of frequencies has its panel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rope_lab.figures.roots import CORNERS, FADE, LAST, SHEAR, START, TURN, _in_order, roots, said, score
from rope_lab.figures.rows import alike


@pytest.mark.parametrize(("fade", "turn", "shear"), [(0, 0, 0), (3, 8, 0), (FADE, TURN, SHEAR), (0, 0, 2)])
@pytest.mark.parametrize("s", [0, 1, 10, LAST])
def test_the_score_is_that_of_a_jordan_block(fade: int, turn: int, shear: int, s: int) -> None:
    root = complex(-fade / 100, turn / 20)
    block = torch.tensor([[root, shear / 100], [0, root]], dtype=torch.complex128)
    q, k = torch.tensor([1, -1], dtype=torch.complex128), torch.tensor([1, 0], dtype=torch.complex128)
    stamped = torch.linalg.matrix_exp(s * block) @ q
    assert score(s, fade, turn, shear) == pytest.approx(float((stamped * k).sum().real))


@pytest.mark.parametrize(
    ("sliders", "root", "corner"),
    [
        ((0, 0, 0), "Root 0, single", "NoPE"),
        ((0, 8, 0), "Root ±0.40i, single", "RoPE"),
        ((5, 2, 0), "Root −0.05 ± 0.10i, single", "xPos"),
        ((0, 0, 3), "Root 0, double", "ALiBi"),
        ((10, 0, 0), "Root −0.10, single", "fades"),
    ],
)
def test_each_corner_has_its_name(sliders: tuple[int, int, int], root: str, corner: str) -> None:
    first, second = said(*sliders)
    assert first.startswith(f"{root}: ")
    assert corner in first
    assert "-" not in first + second  # a minus is no hyphen


def test_the_script_numbers_the_corners_as_they_are_named() -> None:
    names = _in_order()
    assert sorted(names) == sorted(CORNERS.values())
    assert names[1] == CORNERS[True, False, False]
    assert names[6] == CORNERS[False, True, True]


def test_without_javascript_the_figure_is_complete() -> None:
    html = roots().data.split("<script")[0]
    assert all(sentence in html for sentence in said(*START))
    assert html.count('class="root"') == 2
    assert html.count('type="range"') == 3
    assert "__" not in roots().data


def test_each_row_of_frequencies_has_a_panel() -> None:
    curves = {"one": [1.0, 0.5, 0.0], "two": [1.0, 0.0, 1.0], "three": [1.0, 1.0, 1.0]}
    figure = alike([1, 10, 100], curves)
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in visible] == list(curves)
    for axes, values in zip(visible, curves.values(), strict=True):
        assert np.allclose(axes.lines[1].get_ydata(), values)
    figure.canvas.draw()
