"""Figures of chapter 18."""

import pytest
import torch
from matplotlib.figure import Figure

from rope_lab.doctor import exhibits
from rope_lab.figures.bugs import costs, seen_by
from rope_lab.figures.fingerprints import BUGS, COUNT, DIM, fingerprint, said, score

LOSSES = {"none": 0.1, "tables": 5.0, "base": 3.0}
SEEN = {"tables": [True, False], "base": [False, True], "none": [False, False]}


@pytest.mark.parametrize(
    "figure", [costs(LOSSES, {"tables": (0.1, 0.2)}, 2.8), seen_by(SEEN, ["shift", "config"])]
)
def test_each_is_a_figure_that_can_be_drawn(figure: Figure) -> None:
    assert isinstance(figure, Figure)
    figure.canvas.draw()


def test_a_bug_without_its_own_training_has_one_mark() -> None:
    (axes,) = costs(LOSSES, {"tables": (0.1, 0.2)}, 2.8).axes
    marks = [line for line in axes.lines if line.get_marker() != "None" and len(line.get_xdata())]
    assert len(marks) == len(LOSSES) + 2


def test_a_cell_is_filled_where_a_test_fails() -> None:
    (axes,) = seen_by(SEEN, ["shift", "config"]).axes
    filled = [patch.get_facecolor()[3] > 0 for patch in axes.patches]
    assert filled == [True, False, False, True, False, False]


@pytest.mark.parametrize("bug", BUGS)
def test_scores_of_the_moving_figure_are_those_of_rotated_vectors(bug: str) -> None:
    """Computed again with tensors, and with the museum's own code where it has the bug."""
    for first in (0, 7, 300, 999):
        m = torch.arange(COUNT) + first
        freqs = (100.0 if bug == BUGS[4] else 10_000.0) ** (-torch.arange(0, DIM, 2).double() / DIM)
        place = m.bfloat16().double() if bug == BUGS[3] else m.double()
        ones, angle = torch.ones(COUNT, DIM, dtype=torch.float64), place[:, None] * freqs
        if bug == BUGS[1]:
            table = torch.cat((angle, angle), dim=-1)
            partner = torch.stack((-ones[:, 1::2], ones[:, 0::2]), dim=-1).flatten(-2)
            q = k = ones * table.cos() + partner * table.sin()
        else:
            q = exhibits.neighbours(ones, -angle if bug == BUGS[2] else angle)
            k = exhibits.neighbours(ones, angle)
        expected = (q @ k.mT / DIM).tolist()
        for row in range(COUNT):
            assert [score(bug, first + row, first + n) for n in range(COUNT)] == pytest.approx(expected[row])


def test_it_says_what_a_shift_shows() -> None:
    assert "up to 0.00. The shift has changed them by up to 0.00" in said(BUGS[0], 500)[0]
    assert said(BUGS[3], 200) == said(BUGS[0], 200)  # bfloat16 is exact up to 256
    assert said(BUGS[3], 300) != said(BUGS[0], 300)
    assert said(BUGS[4], 500)[0] == said(BUGS[0], 500)[0]  # another base is a correct RoPE, but
    assert said(BUGS[4], 500)[1] != said(BUGS[0], 500)[1]


def test_without_a_script_it_shows_a_bug() -> None:
    page = fingerprint().data
    assert page.count("<rect") == COUNT**2
    assert all(sentence in page for sentence in said(BUGS[1], 0))
    assert said(BUGS[1], 0) != said(BUGS[0], 0)
