"""Figures of chapter 20: the roofline's point is where the counts put it, and speed by size can be drawn."""

from __future__ import annotations

import math
import re

from matplotlib.figure import Figure

from rope_lab.bench.examples import STEPS, UNITS, examples
from rope_lab.figures.roofline import DEPTH, HEIGHT, HIGH, LOW, WIDTH, by_size, roofline, said

BETA, GAMMA = 20e9, 100e9
POINTS = examples()


def spoken(name: str, step: int) -> list[str]:
    return said(BETA, GAMMA, POINTS[name][step], step, UNITS[name])


def intensity(name: str, step: int) -> float:
    moved, computed = POINTS[name][step]
    return computed / moved


def test_what_is_said_is_what_was_counted() -> None:
    assert spoken("full attention", 3) == [
        "8 tokens: 1.125 operations per byte; the edge is at 5.000.",
        "Bytes take 3.277 µs, operations 737 ns: bound by memory.",
    ]
    assert spoken("decoding, 16 tokens in the cache", 0)[0].startswith("1 text: 0.500 operations")
    assert spoken("full attention", STEPS - 1)[1].endswith("bound by arithmetic.")
    every = {spoken("a rotation", step)[0].split(": ")[1] for step in range(STEPS)}
    assert every == {"0.353 operations per byte; the edge is at 5.000."}


def test_a_window_stops_climbing() -> None:
    window, full = (
        [intensity(name, step) for step in range(STEPS)] for name in ("a window of 256", "full attention")
    )
    assert window[:8] == full[:8]  # a text within the window
    assert window[-1] < 64 < full[-1] == (2 ** (STEPS - 1) + 1) / 8


def test_every_point_is_inside_the_drawing() -> None:
    for name in POINTS:
        for step in range(STEPS):
            assert LOW <= math.log2(intensity(name, step)) <= HIGH
            roof = min(GAMMA, intensity(name, step) * BETA)
            assert 0 <= math.log2(GAMMA / roof) <= DEPTH


def test_without_javascript_the_point_is_on_the_roof() -> None:
    drawing = roofline(BETA, GAMMA, POINTS, UNITS).data.split("<script")[0]
    x, y = (float(number) for number in re.findall(r'c[xy]="([\d.]+)"', drawing))
    drawn = 2 ** (x / WIDTH * (HIGH - LOW) + LOW)
    first = next(iter(POINTS))
    assert math.isclose(drawn, intensity(first, 3), rel_tol=0.01)
    assert math.isclose(2 ** (y / HEIGHT * DEPTH), GAMMA / BETA / drawn, rel_tol=0.01)
    assert spoken(first, 3)[0] in drawing


def test_speed_by_size_is_a_share_of_the_highest() -> None:
    figure = by_size([64, 1024], {"copy": [2e10, 1e10], "clone": [2e10, 5e9], "product": [8e10, 9e10]})
    assert isinstance(figure, Figure)
    lines = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert lines == [[1, 0.5], [1, 0.25], [8 / 9, 1]]
    figure.canvas.draw()


def test_a_model_of_seven_billion_reads_its_weights_once() -> None:
    one, two = POINTS["decoding, 16 tokens in the cache"][:2]
    assert two[0] < 1.001 * one[0]
    assert two[1] == 2 * one[1]
