"""Figures of chapters 1 and 3, and the source that chapters show."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.encodings import rotary
from rope_lab.figures.deriving import clocks, found
from rope_lab.figures.source import source
from rope_lab.figures.turning import turning
from rope_lab.figures.why import score_maps, shifted, three_doors, two_orders

vectors = np.arange(6.0).reshape(2, 3)
circle = np.stack((np.cos(np.arange(4)), np.sin(np.arange(4))), axis=-1)


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (
            two_orders(["a", "b"], ("a b", "b a"), {"none": (vectors, vectors), "some": (vectors, -vectors)}),
            6,
        ),
        (three_doors(), 1),
        (score_maps({"flat": np.ones((4, 4)), "even": np.eye(4)}), 2),
        (shifted([0, 1, 2], {"a": [1, 1, 0]}, trained=1, beside={"a": 0.1}), 1),
        (found(vectors[:, :2], circle, np.arange(8.0).reshape(2, 4)), 3),
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
