"""Figures of chapter 2."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.figures.sinusoidal import counter, moved, products, split_maps, table_map


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (counter(np.eye(4)[:, :2], np.ones((4, 6))), 2),
        (table_map(np.ones((5, 8)), pairs=(0, 3)), 2),
        (products([-1, 0, 1], {"a": ([0, 1, 0], 0), "b": ([1, 0, 0], -1)}), 1),
        (
            split_maps({"a": (np.eye(4), np.zeros((4, 4))), "b": (np.eye(4), np.eye(4))}),
            7,
        ),  # with its colour bar
        (moved([0, 1, 100_000], {"a": [1, 1, 0]}, {"a": 32}), 1),
    ],
)
def test_each_is_a_figure(figure: Figure, axes: int) -> None:
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes


def test_the_parts_of_a_split_map_add_up_to_the_whole_on_one_scale() -> None:
    scores, relative = np.arange(16.0).reshape(4, 4), np.eye(4)
    panels = split_maps({"a": (scores, relative), "b": (3 * scores, relative)}).axes[:6]
    images = [panel.images[0] for panel in panels]
    for whole, stripes, rest in (images[:3], images[3:]):
        np.testing.assert_allclose(stripes.get_array() + rest.get_array(), whole.get_array())
    assert len({image.get_clim() for image in images}) == 1  # rows are compared, so they share it too


def test_the_curves_of_the_table_are_the_sines_of_the_pairs_named() -> None:
    table = np.arange(24.0).reshape(3, 8)
    curves = table_map(table, pairs=(1, 3)).axes[1].lines
    for curve, column in zip(curves, (2, 6), strict=True):
        np.testing.assert_array_equal(curve.get_ydata(), table[:, column])
