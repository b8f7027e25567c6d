"""Figures of chapter 9: those that are drawn, and what the moving one says."""

from __future__ import annotations

import math
import re

import pytest
import torch
from matplotlib.figure import Figure

from rope_lab.encodings import angles_nd, golden_frequencies, mixed_frequencies
from rope_lab.experiments import images
from rope_lab.experiments.store import Results
from rope_lab.figures.images import owners, resolutions, same_digit
from rope_lab.figures.plane import BASE, MOST, NAMES, matrix, mean_cosine, plane, said
from rope_lab.figures.sections import AXES, KINDS, SECTIONS, START, numbers, sections
from rope_lab.figures.sections import matrix as owned
from rope_lab.figures.sections import said as said_of_sections


def record(variant: str, seed: int) -> dict[str, object]:
    accuracy = [0.1 + 0.1 * seed, 0.9, 0.8, 0.7, 0.6]
    return {"variant": variant, "seed": seed, "val_loss": 0.1, "counted": accuracy, "scaled": accuracy}


def results() -> Results:
    found = Results("images", "cpu")
    names = [f"{encoding} ×{factor:g}" for encoding in images.ENCODINGS for factor in images.GRID]
    found.records = [record(name, seed) for name in names for seed in range(3)]
    return found


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (owners([1.0, 10.0, 100.0], {"a": [0, 1, 2], "b": [2, 1, 0]}), 1),
        (same_digit([torch.zeros(4, 4), torch.ones(6, 6)], 2), 2),
        (resolutions(results()), 2),
    ],
)
def test_each_is_a_figure_that_can_be_drawn(figure: Figure, axes: int) -> None:
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes
    figure.canvas.draw()


def test_a_line_is_the_mean_of_the_seeds() -> None:
    left, right = resolutions(results()).axes
    for panel in (left, right):
        lines = {line.get_label(): line for line in panel.lines if line.get_label() in images.ENCODINGS}
        assert set(lines) == set(images.ENCODINGS)
        assert lines["axial"].get_ydata() == pytest.approx([0.2, 0.9, 0.8, 0.7, 0.6])
        assert list(lines["axial"].get_xdata()) == list(images.SIZES)


def test_without_records_the_figure_says_so() -> None:
    (axes,) = resolutions(Results("images", "cpu")).axes
    assert axes.texts[0].get_text().startswith("no records")


def test_the_map_of_the_page_is_that_of_the_package() -> None:
    offsets = torch.tensor([[3.0, -2.0], [0.0, 7.0], [5.0, 5.0]], dtype=torch.float64)
    for half in (2, 8, MOST):
        golden = golden_frequencies(4 * half, base=BASE)
        wanted = (offsets @ golden).cos().mean(-1)
        assert mean_cosine(offsets.numpy(), matrix(NAMES[2], half)) == pytest.approx(wanted.numpy())
        mixed = torch.from_numpy(matrix(NAMES[1], half))
        generator = torch.Generator().manual_seed(1)
        drawn = mixed_frequencies(4 * half, 1, BASE, generator=generator)[:, 0]
        turn = torch.atan2(drawn[1, 0], drawn[0, 0]) - torch.atan2(mixed[1, 0], mixed[0, 0])
        back = torch.tensor([[turn.cos(), turn.sin()], [-turn.sin(), turn.cos()]])
        torch.testing.assert_close(back @ drawn, mixed, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_says(name: str) -> None:
    first, second = said(name, 4, 3)
    freqs = matrix(name, 4)
    row, diagonal = (float(mean_cosine([(0, 3), (3 / math.sqrt(2),) * 2][i], freqs)) for i in (0, 1))
    numbers = [
        float(x.replace("−", "-"))
        for x in re.findall(r"is (−?\d\.\d+)|and (−?\d\.\d+)", first)
        for x in x
        if x
    ]
    assert numbers == pytest.approx([row, diagonal], abs=6e-4)
    assert re.search(r"distance: 0\.\d{3}\.$", second)


def test_it_is_small_and_complete_without_javascript() -> None:
    page = plane().data
    assert len(page) < 30_000
    assert page.count('class="shade"') == 13
    before = page.split("<script")[0]
    assert before.count("h10v10h-10z") == 25 * 25


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [(0, 0, 0), (4, 12, 20), (31, 1, 7), (9, 9, 9)])
def test_the_hands_of_the_sections_turn_as_the_package_turns_them(
    kind: str, at: tuple[int, int, int]
) -> None:
    there = angles_nd(torch.tensor([at]), owned(kind), dtype=torch.float64)[0]
    found = numbers(kind, *at)
    here = torch.tensor([found[f"angle {i}"] for i in range(sum(SECTIONS))], dtype=torch.float64)
    torch.testing.assert_close(torch.exp(1j * here), torch.exp(1j * there), rtol=0, atol=1e-9)
    assert (owned(kind) > 0).sum(-1).tolist() == list(SECTIONS)
    equal = len(set(at)) == 1
    assert (" as in a text " in said_of_sections(kind, *at)[0]) == equal
    if equal:  # then it is RoPE of a line, whoever owns what
        other = numbers(KINDS[kind == KINDS[0]], *at)
        assert all(found[f"angle {i}"] == pytest.approx(other[f"angle {i}"]) for i in range(sum(SECTIONS)))


def test_without_a_script_the_columns_of_contiguous_sections_do_not_seem_to_move() -> None:
    still, at = sections().still, numbers(*START)
    assert [at[f"past 1°, {axis}"] for axis in AXES] == [23, 4, 0]
    turned = [float(x) for x in re.findall(r'class="hand" d="M0 0h12" transform="rotate\(([^)]*)\)"', still)]
    assert len(turned) == sum(SECTIONS)
    assert max(abs(x) for x in turned[-SECTIONS[2] :]) < 0.1
    assert all(sentence in still for sentence in said_of_sections(*START))
