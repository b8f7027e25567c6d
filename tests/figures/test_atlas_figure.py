"""The figures of the atlas: a point per family, names that cover nothing, shares, a misread field, and the form."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.atlas import FAMILIES, find, read_config
from rope_lab.figures.atlas import misread, slowest, unfinished
from rope_lab.figures.paste import LLAMA_31, config_of, paste


@pytest.fixture(scope="module")
def figure() -> Figure:
    return slowest()


def points(figure: Figure) -> np.ndarray:
    return np.concatenate(
        [line.get_xydata() for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    )


def test_every_family_with_a_context_is_a_point_at_its_numbers(figure: Figure) -> None:
    drawn = points(figure)
    expected = [(row.context, row.spectrum.slowest) for row in FAMILIES if row.context is not None]
    np.testing.assert_allclose(sorted(map(tuple, drawn)), sorted(expected))


def test_no_name_covers_another_or_a_point(figure: Figure) -> None:
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert len(boxes) > 15
    for (one, a), (two, b) in combinations(boxes.items(), 2):
        assert not a.overlaps(b), (one, two)
    for x, y in axes.transData.transform(points(figure)):
        assert not any(box.contains(x, y) for box in boxes.values())
    frame = axes.get_window_extent()
    for name, box in boxes.items():
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1, name


def test_the_diagonal_is_one_turn_in_the_context(figure: Figure) -> None:
    (diagonal,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())


def test_some_families_alone_can_be_drawn() -> None:
    figure = slowest([find("llama-3.1"), find("recurrentgemma")])
    assert len(points(figure)) == 1
    assert "Llama 3.1" in [text.get_text() for text in figure.axes[0].texts]


def test_shares_are_drawn_with_a_line_for_each_base() -> None:
    families = [find(name) for name in ("llama-2", "llama-3.1", "gemma-4")]
    axes = unfinished((1e4, 1e6), families).axes[0]
    drawn = sorted(
        tuple(point) for line in axes.lines if line.get_linestyle() == "None" for point in line.get_xydata()
    )
    np.testing.assert_allclose(drawn, sorted([(4096, 18 / 64), (131_072, 25 / 64), (131_072, 0)]))
    lines = [line.get_xydata() for line in axes.lines if line.get_linestyle() != "None"]
    assert len(lines) == 2
    for base, line in zip((1e4, 1e6), lines, strict=True):
        length, height = line[20]
        assert height == pytest.approx(1 - np.log(length / (2 * np.pi)) / np.log(base))


def test_a_misread_field_is_a_line_and_none_is_left_out() -> None:
    axes = misread([1, 10, 100], {"wrong": [0.0, 0.1, 1.0], "right": [0, 0, 0]}, {"edge": 10}).axes[0]
    assert [text.get_text() for text in axes.texts] == ["wrong", "edge"]
    (line, edge) = axes.lines
    np.testing.assert_array_equal(line.get_ydata(), [np.nan, 0.1, 1.0])
    np.testing.assert_array_equal(edge.get_xdata(), [10, 10])


def test_the_form_needs_no_network_and_is_labelled() -> None:
    page = paste().data
    assert "http" not in page
    assert "src=" not in page
    assert page.count("<label>") == 2
    assert 'role="img"' in page
    assert 'aria-live="polite"' in page
    assert "__DATA__" not in page
    assert page.count("</script>") == 1
    for line in read_config(LLAMA_31).report().splitlines():
        assert line.strip() in page  # there without JavaScript


def test_a_family_becomes_a_config_that_is_read_as_it() -> None:
    for row in FAMILIES:
        if row.local is None or row.local.head_dim == row.head_dim:
            assert row.name in read_config(config_of(row)).like
    with pytest.raises(ValueError, match="heads of one size"):
        config_of(find("gemma-4"))
