"""Figures of chapter 6."""

import re

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from rope_lab import angles, frequencies, rotate
from rope_lab.figures.decay import (
    bases,
    bound,
    frequency_map,
    head_to_tail,
    peaks,
    random_scores,
    retrieval,
    worst_cases,
)
from rope_lab.figures.summing import (
    BASES,
    CONTENT,
    DIMS,
    DISTANCES,
    DRAWN,
    RADIUS,
    START,
    numbers,
    said,
    summing,
)

near, far = np.arange(1, 6.0), np.logspace(0, 4, 9)
path = np.concatenate(([0], np.exp(1j * np.linspace(0, 3, 8)).cumsum()))
by_base = {100.0: near, 1e4: near}
shares = {"b = 100": np.full(5, 0.9), "slowest 2 pairs": np.full(5, 0.8)}
lines = {label: np.full(9, 0.85) for label in shares}


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (frequency_map(near, np.ones((5, 4))), 3),
        (head_to_tail([0, 10, 100, 1000], np.stack([path] * 4)), 4),
        (bound((near, 2 * near), (far, 3 + 0 * far), 4.0), 2),
        (peaks(near, {1: near / 5, 3: near / 5}), 1),
        (random_scores(near, near, np.ones((20, 5))), 2),
        (worst_cases(near, {0.0: near / 5, 1.0: near / 5}), 1),
        (retrieval(near, shares, far, lines), 1),
        (bases(near, by_base, by_base, by_base), 2),
    ],
)
def test_each_is_a_figure_that_can_be_drawn(figure: Figure, axes: int) -> None:
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes
    figure.canvas.draw()


def test_the_arrows_of_all_distances_are_drawn_on_one_scale() -> None:
    panels = head_to_tail([0, 10, 100, 1000], np.stack([path, 2 * path, path, path])).axes
    assert len({(panel.get_xlim(), panel.get_ylim()) for panel in panels}) == 1
    assert all(panel.get_aspect() == 1 for panel in panels)


def test_the_bound_is_drawn_next_to_what_holds_without_rope() -> None:
    for panel in bound((near, 2 * near), (far, 3 + 0 * far), 4.0).axes:
        assert any(set(np.asarray(line.get_ydata())) == {1} for line in panel.lines)


def test_heads_of_slow_pairs_have_open_dots() -> None:
    panel = retrieval(near, shares, far, lines).axes[0]
    dots = {line.get_label(): line for line in panel.lines if line.get_marker() == "o"}
    assert to_rgba(dots["b = 100"].get_markerfacecolor()) == to_rgba(dots["b = 100"].get_color())
    slow = dots["slowest 2 pairs"]
    assert to_rgba(slow.get_markerfacecolor()) == panel.get_facecolor() != to_rgba(slow.get_color())


@pytest.mark.parametrize("content", CONTENT)
@pytest.mark.parametrize(
    ("base", "dim", "place"), [(0, 0, 3), (2, 4, 16), (6, 5, len(DISTANCES) - 1), (3, 2, 0)]
)
def test_the_score_of_the_moving_figure_is_that_of_rotated_vectors(
    content: str, base: int, dim: int, place: int
) -> None:
    x = torch.zeros(DIMS[dim], dtype=torch.float64)
    first, second = x.chunk(2)
    first += float(content != CONTENT[2])
    second += float(content != CONTENT[1])
    positions = torch.tensor([DISTANCES[place] + 5, 5])
    table = angles(positions, frequencies(DIMS[dim], BASES[base]), dtype=torch.float64)
    q, k = rotate(x.expand(2, -1), table)
    assert numbers(base, dim, content, place)["score"] == pytest.approx(float(q @ k / (x @ x)), abs=1e-9)


def test_without_a_script_the_arrows_end_at_the_height_of_the_curve() -> None:
    still, x = summing().still, DISTANCES[START[-1]]
    curve = re.search(r'class="curve" d="M([^"]*)"', still)
    way = re.search(r'class="arrows" d="M([^"]*)"', still)
    assert curve is not None
    assert way is not None
    height = curve[1].split("L")[DRAWN.index(x)].split()[1]
    assert way[1].split("L")[-1].split()[1] == height == f"{-RADIUS * numbers(*START)['score']:.1f}"
    assert way[1].count("L") == DIMS[START[1]] // 2
    assert all(sentence in still for sentence in said(*START))
