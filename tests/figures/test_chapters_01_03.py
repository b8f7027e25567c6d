"""Figures of chapters 1 and 3, and the source that chapters show."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.encodings import rotary
from rope_lab.figures.deriving import clocks, found, planes
from rope_lab.figures.source import source
from rope_lab.figures.turning import turning
from rope_lab.figures.why import attention_squares, score_maps, shifted, three_doors, two_orders

vectors = np.arange(6.0).reshape(2, 3)
circle = np.stack((np.cos(np.arange(4)), np.sin(np.arange(4))), axis=-1)


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (
            two_orders(["a", "b"], ("a b", "b a"), {"none": (vectors, vectors), "some": (vectors, -vectors)}),
            6,
        ),
        (attention_squares(["a", "b"], {"all": np.full((2, 2), 0.5), "causal": np.tril(np.eye(2))}), 2),
        (three_doors(), 1),
        (score_maps({"flat": np.ones((4, 4)), "even": np.eye(4)}), 2),
        (shifted([0, 1, 2], {"a": [1, 1, 0]}, trained=1, beside={"a": 0.1}), 1),
        (found(vectors[:, :2], circle, np.arange(8.0).reshape(2, 4)), 3),
        (planes(circle, np.stack((circle, circle)), [0.5, 1.0]), 3),
        (clocks([1.0, 0.1], [0, 10, 1000]), 6),
    ],
)
def test_each_is_a_figure(figure: Figure, axes: int) -> None:
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes


def test_a_map_that_is_flat_but_for_rounding_shows_no_pattern() -> None:
    image = score_maps({"flat": 3 + 1e-15 * np.eye(4)}).axes[0].images[0]
    low, high = image.get_clim()
    assert high - low > 1


def test_a_square_that_the_mask_hides_is_empty_and_a_weight_is_written_in_percent() -> None:
    panel = attention_squares(["a", "b"], {"causal": [[1, 0], [0.25, 0.75]]}).axes[0]
    assert [text.get_text() for text in panel.texts] == ["100", "25", "75"]
    assert np.isnan(panel.images[0].get_array().filled(np.nan)[0, 1])


def test_the_part_in_a_plane_is_drawn_on_its_circle() -> None:
    panel = planes(circle, 2 * circle[None], [1.0]).axes[1]
    assert panel.patches[0].radius == pytest.approx(2)
    assert np.hypot(*panel.lines[0].get_data()) == pytest.approx(2)


def test_a_hand_stands_at_the_angle_of_its_pair() -> None:
    hand = clocks([0.5], [3]).axes[0].lines[0]
    assert (hand.get_xdata()[1], hand.get_ydata()[1]) == pytest.approx((np.cos(1.5), np.sin(1.5)))


def test_the_moving_figure_needs_no_network_and_labels_every_slider() -> None:
    page = turning().data
    assert "http" not in page
    assert "src=" not in page
    assert page.count("<label>") == page.count('type="range"') == 3
    assert 'role="img"' in page
    assert 'aria-live="polite"' in page
    assert "__" not in page  # every placeholder was filled


def test_source_shows_what_runs_without_docstrings_and_refusals() -> None:
    text = source(rotary.frequencies, rotary.reduce_turns).data
    assert "torch.pow" in text
    assert "def reduce_turns" in text
    assert '"""' not in text
    assert "raise" not in text
