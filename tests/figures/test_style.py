"""What every figure shares: words that can be read by everyone, on every machine, in a file that stays small."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from rope_lab.figures.style import (
    COLORS,
    GREY,
    GROUND,
    contrast,
    direct_label,
    ink,
    new_figure,
    thinned,
    to_svg,
)

ROOT = Path(__file__).parents[2]


def drawn():
    figure, axes = new_figure(size=(4, 3))
    for height, color in enumerate([*COLORS.values(), GREY]):
        axes.plot([0, 1], [height, height + 0.123456789], color=color, label="a line")
        direct_label(axes, 1, height, r"$\theta_i$ and words", color)
    axes.set(xscale="log", title="A title")
    axes.legend()
    return figure, axes


def test_the_contrast_is_the_one_of_wcag():
    assert contrast("#FFFFFF", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.005)
    assert contrast(GROUND) == 1


def test_words_can_be_read_and_lines_keep_their_colour():
    """Also on the page in dark mode, where the style sheet dims figure and words alike."""
    sheet = (ROOT / "book" / "_static" / "rope.css").read_text("utf-8")
    (dimmed,) = re.findall(r"filter: brightness\(([\d.]+)\)", sheet)

    def dim(color: str) -> str:
        return to_hex(np.array(to_rgb(color)) * float(dimmed))

    figure, axes = drawn()
    to_svg(figure)
    words = {to_hex(text.get_color()) for text in figure.findobj(Text) if text.get_text()}
    assert len(words) > len(COLORS)
    for color in words:
        assert contrast(color) >= 4.5
        assert contrast(dim(color), dim(GROUND)) >= 4.5
    assert [line.get_color() for line in axes.lines] == [*COLORS.values(), GREY]


@pytest.mark.parametrize("color", [*COLORS.values(), GREY])
def test_a_shade_keeps_its_hue_and_is_not_darker_than_needed(color):
    shade = np.array(to_rgb(ink(color)))
    assert np.allclose(shade / shade.max(), np.array(to_rgb(color)) / max(to_rgb(color)), atol=0.02)
    assert contrast(ink(color)) < 5.2 or ink(color) == color.lower()


def test_words_are_outlines_so_no_font_of_the_reader_counts():
    svg = to_svg(drawn()[0])
    assert "<text" not in svg
    assert "font-family" not in svg
    assert svg.count("<use") > 50


def test_equal_figures_are_equal_files_without_long_decimals():
    svg = to_svg(drawn()[0])
    assert svg == to_svg(drawn()[0]) == drawn()[0]._repr_svg_()
    assert not re.search(r' d="[^"]*\.\d{3}', svg)


def test_a_dense_curve_keeps_its_peaks_and_loses_its_weight():
    x = np.arange(50_000)
    y = np.sin(x * 0.7) * np.exp(-x / 20_000)
    y[[0, 31_234, 49_999]] = 2, 3, -4
    few_x, few_y = thinned(x, y, stretches=500)
    assert len(few_x) <= 1_002
    assert np.all(np.diff(few_x) > 0)
    assert np.array_equal(y[few_x], few_y)
    assert {0, 31_234, 49_999} <= set(few_x.tolist())
    for part in np.array_split(x, 500):  # each stretch still reaches as high and as low
        inside = few_y[(few_x >= part[0]) & (few_x <= part[-1])]
        assert (inside.min(), inside.max()) == (y[part].min(), y[part].max())
    assert thinned([1, 2], [3, 4])[1].tolist() == [3, 4]


def test_no_label_needs_a_letter_that_fonts_lack():
    """Subscripts are set by mathtext: U+1D62 and its like are missing from many fonts."""
    for path in (ROOT / "rope_lab" / "figures").glob("*.py"):
        assert not re.search("[\u1d62-\u1d6a\u2090-\u209c]", path.read_text("utf-8")), path.name


def test_no_strip_is_left_above_or_below_and_the_width_stays():
    def size(figure) -> list[float]:
        return [
            float(number) for number in re.findall(r'<svg [^>]*viewBox="0 0 (\S+) (\S+)"', to_svg(figure))[0]
        ]

    figure, axes = new_figure(1, 3, size=(7.5, 5))
    for panel in axes:
        panel.imshow(np.eye(8))
    width, height = size(figure)
    assert width == 7.5 * 72
    assert 150 < height < 250  # of 360
    axes[0].set_aspect("auto")
    assert size(figure) == pytest.approx([540, 360], abs=0.1)
