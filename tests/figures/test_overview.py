"""The welcome page shows what the package draws: the committed SVG is the figure, redrawn."""

import re
from pathlib import Path

import pytest
from matplotlib.patches import Wedge

from rope_lab.figures.overview import rope_at_a_glance
from rope_lab.figures.style import to_svg

COMMITTED = Path(__file__).parents[2] / "book" / "_static" / "rope_at_a_glance.svg"
NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")


def split(svg: str) -> tuple[str, list[float]]:
    """What is drawn, and with which numbers: ids are hashes of the numbers, so they are left out."""
    svg = re.sub(r'(?:id="|#)[^")]*', "", svg)
    return NUMBER.sub("·", svg), [float(number) for number in NUMBER.findall(svg)]


def test_committed_picture_is_the_figure() -> None:
    shape, numbers = split(COMMITTED.read_text(encoding="utf-8"))
    drawn_shape, drawn_numbers = split(to_svg(rope_at_a_glance()))
    assert drawn_shape == shape
    steps = [round(100 * number) for number in numbers]  # a point has a hundred, and none is written finer
    assert [round(100 * number) for number in drawn_numbers] == pytest.approx(
        steps, abs=1
    )  # whatever the libm


def test_nothing_is_cut_off() -> None:
    """The frame is that of the picture as it was saved, words that overhang its panel included."""
    figure = rope_at_a_glance()
    height = float(re.search(r'viewBox="0 0 540 ([\d.]+)"', to_svg(figure))[1])
    drawn = figure.get_tightbbox()
    assert height == pytest.approx(
        72 * (drawn.height + 2 * 0.07), abs=0.5
    )  # points; with the room above and below
    assert drawn.x1 <= 7.5


def test_openings_depend_on_the_distance_alone() -> None:
    wedges = [patch for patch in rope_at_a_glance().axes[0].patches if isinstance(patch, Wedge)]
    fast, fast_later, slow, slow_later = [(wedge.theta2 - wedge.theta1) % 360 for wedge in wedges]
    assert fast == pytest.approx(fast_later, abs=1e-4) == pytest.approx(114.5916, abs=1e-3)  # 2 radians
    assert slow == pytest.approx(slow_later, abs=1e-4) == pytest.approx(28.6479, abs=1e-3)  # 1/2 radian
