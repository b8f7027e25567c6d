"""Figures of chapter 12."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from rope_lab.figures.hearing import RULES, TOKENS, formula, heard, hearing, numbers, said, window
from rope_lab.figures.local import costs, decoding_errors, formed, light_cones, losses_by_window, masks, ring
from rope_lab.figures.style import COLORS, READABLE, contrast
from rope_lab.local import local_attention

band = np.tril(np.ones((6, 6), dtype=bool)) & ~np.tril(np.ones((6, 6), dtype=bool), -3)
lower = np.tril(np.ones((6, 6), dtype=bool))
cone = np.stack((np.array([4, 2, 1, 1, 0, 0]) / 8, [0.75, 0.25, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]))


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (masks({"band": band, "lower": lower}, query=4), 3),  # one panel of the row stays empty
        (formed({"a": (band, lower), "b": (band, band)}, {"a": 3, "b": 1}), 2),
        (costs([2, 4], {"a": [1.0, 4.0], "b": [1.0, np.nan]}, {"a": [1.0, 4.0], "b": [1.0, np.nan]}), 2),
        (light_cones({"one": cone, "two": cone}, 2, {"one": 2, "two": 2}), 3),
        (losses_by_window([4, 8], {10: [2.0, 2.1], 20: [1.9, 1.95]}), 1),
        (ring([[0, -1], [0, 1], [2, 1]]), 1),
        (decoding_errors([1, 2], {"a": [0.0, 0.0], "b": [0.0, 0.5]}), 1),
    ],
)
def test_each_is_a_figure_that_can_be_drawn(figure: Figure, axes: int) -> None:
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes
    figure.canvas.draw()


def test_a_mask_counts_the_keys_of_the_marked_query() -> None:
    panel = masks({"band": band}, query=4).axes[0]
    assert panel.get_title(loc="left") == "band\n3 keys"
    tiles = panel.images[0].get_array()
    assert (tiles == 3).sum() == 3
    assert (tiles == 2).sum() == band.sum() - 3


def test_a_panel_says_what_is_formed_for_nothing() -> None:
    panel = formed({"lower": (band, lower)}, {"lower": 6}).axes[0]
    assert panel.get_title(loc="left") == f"lower\n{1 - band.sum() / lower.sum():.0%} not used"


def test_the_edge_of_a_light_cone_widens_by_the_window_less_one() -> None:
    (edge,) = light_cones({"one": cone}, 4, {"one": 2}).axes[0].patches
    assert edge.get_data().values.tolist() == [6.5, 3.5, 0.5]


def test_a_ring_marks_what_was_written_and_leaves_empty_slots_blank() -> None:
    (axes,) = ring([[0, -1], [0, 1], [2, 1]]).axes
    assert [text.get_text() for text in axes.texts] == ["0", "0", "1", "2", "1"]
    colors = [to_hex(patch.get_facecolor()).upper() for patch in axes.patches]
    marked, kept, empty = COLORS["orange"], COLORS["blue"], "#FFFFFF"
    assert colors == [marked, empty, kept, marked, marked, kept]
    grounds = [color for color in colors if color != empty]
    words = [to_hex(text.get_color()) for text in axes.texts]
    assert min(contrast(*pair) for pair in zip(words, grounds, strict=True)) >= READABLE


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("size", "layers", "token"), [(1, 2, 5), (4, 4, 27), (3, 6, 20), (8, 2, 31), (2, 1, 0)]
)
def test_the_cone_of_the_moving_figure_is_that_of_stacked_attention(
    rule: str, size: int, layers: int, token: int
) -> None:
    shape, x = window(rule, size), torch.eye(TOKENS, dtype=torch.float64)
    nothing = torch.zeros(1, 1, TOKENS, 1, dtype=torch.float64)
    for row in heard(rule, size, layers, token)[1:]:
        x = local_attention(
            nothing, nothing, x[None, None], window=size, exact=shape.exact, inclusive=shape.inclusive
        )[0, 0]
        assert x[token].nonzero().flatten().tolist() == row
    limit = formula(rule, size, layers, token)[1]
    assert numbers(rule, size, layers, token)[f"back {layers}"] == min(limit, token)


def test_the_moving_figure_counts_as_the_chapter_does() -> None:
    assert said("exact", 4, 4, 27) == [
        "After 4 layers the state of token 27 can depend on tokens 15 to 27.",
        "In one layer token 27 sees 4 keys. The reach of 4 layers is 4·(4 − 1) = 12 tokens.",
    ]
    assert said("block", 4, 2, 6)[1].endswith("2·4 + 2 = 10 tokens, of which the text has 6.")
    assert said("exact", 1, 1, 3) == [
        "After 1 layer the state of token 3 can depend on token 3 only.",
        "In one layer token 3 sees 1 key. The reach of 1 layer is 1·(1 − 1) = 0 tokens.",
    ]
    assert all(sentence in hearing().still for sentence in said("exact", 4, 4, 27))
