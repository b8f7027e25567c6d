"""Figures of chapter 8: those that are drawn, and what the moving one says."""

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from rope_lab.encodings import frequencies
from rope_lab.figures.precision import angle_errors, losses_by_position, shifts
from rope_lab.figures.rounding import PAIRS, POSITIONS, START, TYPES, off, rounded, rounding, said

line = np.ones(3)


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (angle_errors([1, 100, 10_000], {"a": [0, 1, np.nan]}, {"a": [1, 10, np.nan]}), 1),
        (losses_by_position([1, 100, 10_000], {"a": line, "b": [1, 2, np.nan]}, {"level": 2.0}), 1),
        (shifts([1, 4, 64], {"a": line, "b": line}, {"b": line}, [0.1, 0.5, 0.2]), 2),
    ],
)
def test_each_is_a_figure_that_can_be_drawn(figure: Figure, axes: int) -> None:
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes
    figure.canvas.draw()


def test_a_pair_has_the_colour_of_its_shifts() -> None:
    left, right = shifts([1, 4, 64], {"a": line, "b": 2 * line}, {"b": line}, line).axes
    assert right.lines[1].get_color() == left.lines[1].get_color() != left.lines[0].get_color()


def test_no_label_is_on_a_dot_or_on_the_line_at_half_a_turn() -> None:
    """As in the chapter: bfloat16, float16 up to 65,504, float32."""
    at = (torch.logspace(0, 7, 180).long() | 1).unique()
    exact = np.multiply.outer(at.numpy().astype(np.longdouble), frequencies(128).numpy())
    errors, bounds = {}, {}
    for name, digits in TYPES.items():
        dtype = getattr(torch, name)
        formed = (at.to(dtype)[:, None] * frequencies(128).to(dtype)).double().numpy()
        largest = np.abs(formed - exact).max(-1).astype(float)
        errors[name] = np.where(np.isfinite(largest), largest, np.nan)
        bounds[name] = np.where(np.isfinite(largest), 3 * 2.0**-digits * at.numpy(), np.nan)
    figure = angle_errors(at, errors, bounds)
    figure.canvas.draw()
    (axes,) = figure.axes
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert {*TYPES} < {*boxes}
    for name, box in boxes.items():
        for line in axes.lines:
            x, y = np.broadcast_arrays(line.get_xdata(), line.get_ydata())
            if line.get_linestyle() == "None":
                assert not any(
                    box.contains(*dot) for dot in axes.transData.transform(np.stack((x, y), -1))
                ), name
        half_a_turn = axes.transData.transform((1, np.pi))[1]
        assert not box.y0 < half_a_turn < box.y1, name


def test_an_error_of_zero_is_left_out_of_a_logarithmic_axis() -> None:
    dots = angle_errors([1, 10, 100], {"a": [0.0, 1.0, 2.0]}, {"a": line}).axes[0].lines[2]
    assert np.isnan(dots.get_ydata()[0])
    assert np.isfinite(dots.get_ydata()[1:]).all()


@pytest.mark.parametrize(("name", "digits"), TYPES.items())
def test_the_clock_rounds_as_torch_does(name: str, digits: int) -> None:
    dtype = getattr(torch, name)
    for position in POSITIONS:
        for pair in (0, 1, 17, PAIRS - 1):
            theta = torch.tensor(10_000.0 ** (-pair / PAIRS), dtype=torch.float64)
            angle = float(torch.tensor(position).to(dtype) * theta.to(dtype))
            error = off(position, pair, digits)
            assert math.isinf(angle) == math.isnan(error)
            if math.isfinite(angle):
                turned = math.degrees(math.remainder(angle - position * float(theta), math.tau))
                assert error == pytest.approx(turned, abs=1e-6)
    assert [rounded(x, 3) for x in (9.0, 11.0, 13.0, 0.0)] == [
        8.0,
        12.0,
        12.0,
        0.0,
    ]  # ties go to the even one


def test_without_javascript_it_shows_where_it_starts() -> None:
    page = rounding().data
    for sentence in said(POSITIONS[START], 0, "bfloat16"):
        assert sentence in page
    assert "position<b aria-hidden" in page
    assert ": 1,001</b>" in page
    assert said(100_001, 0, "float16")[0].startswith("Position 100,001: float16 cannot hold it.")
    assert "float16 overflows" in said(100_001, 0, "float32")[1]
    assert said(11, 0, "bfloat16")[0].startswith("Position 11: bfloat16 has it exactly.")
