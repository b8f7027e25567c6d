"""Figures of chapter 2."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.figures.sinusoidal import counter, moved, products, split_maps


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (counter(np.eye(4)[:, :2], np.ones((4, 6))), 2),
        (products([-1, 0, 1], {"a": ([0, 1, 0], 0), "b": ([1, 0, 0], -1)}), 1),
        (split_maps({"a": (np.eye(4), np.zeros((4, 4))), "b": (np.eye(4), np.eye(4))}), 6),
        (moved([0, 1, 100_000], {"a": [1, 1, 0]}, {"a": 32}), 1),
    ],
)
def test_each_is_a_figure(figure: Figure, axes: int) -> None:
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes


def test_the_parts_of_a_split_map_add_up_to_the_whole_on_one_scale() -> None:
    scores, relative = np.arange(16.0).reshape(4, 4), np.eye(4)
    whole, stripes, rest = (panel.images[0] for panel in split_maps({"a": (scores, relative)}).axes)
    np.testing.assert_allclose(stripes.get_array() + rest.get_array(), whole.get_array())
    assert whole.get_clim() == stripes.get_clim() == rest.get_clim()
