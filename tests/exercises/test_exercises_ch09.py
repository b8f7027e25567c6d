"""Exercises of chapter 9: other correct ways pass, and each wrong answer is told what is wrong with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab.encodings import grid_coordinates, interleaved_mrope_frequencies
from rope_lab.exercises.ch09 import (
    check_patch_grid,
    check_scaled_places,
    check_two_places,
    check_whose_pair,
)

SEEDS = (0, 91, 92, 93)


def by_centres(n: int, trained: int) -> Tensor:
    """From −1 to 1 first, as DINOv3 counts, then in units of training."""
    return (grid_coordinates(n, kind="centre")[:, 0] + 1) / 2 * trained - 0.5


@pytest.mark.parametrize(
    "answer",
    [
        by_centres,
        lambda n, trained: [(2 * i + 1) * trained / (2 * n) - 0.5 for i in range(n)],
        lambda n, trained: np.linspace(0.5 * trained / n - 0.5, trained - 0.5 * trained / n - 0.5, n),
    ],
)
def test_scaled_places_right(answer) -> None:
    for seed in SEEDS:
        assert check_scaled_places(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda n, trained: torch.arange(n), "these patches are counted"),
        (lambda n, trained: np.linspace(0, trained - 1, n), "laid on each other"),
        (lambda n, trained: torch.arange(n) * trained / n, "left edges"),
        (lambda n, trained: by_centres(n, trained) + 0.5, "not ½"),
        (lambda n, trained: by_centres(trained, n)[:n], ""),
        (lambda n, trained: by_centres(n, trained) * 2, "middle of the picture"),
        (lambda n, trained: by_centres(n, trained) + 1, "middle of the picture"),
        (lambda n, trained: grid_coordinates(n, kind="centre")[:, 0], "from −1 to 1"),
        (lambda n, trained: 0.0, ""),
        (lambda n, trained: None, "nothing yet"),
    ],
)
def test_scaled_places_mistakes(answer, diagnosis: str) -> None:
    verdict = check_scaled_places(answer)
    assert not verdict
    assert diagnosis in verdict.message


def by_matrix(sections: list[int]) -> Tensor:
    return (interleaved_mrope_frequencies(sections) != 0).long().argmax(0)


def by_slices(sections: list[int]) -> list[int]:
    owner = [0] * sum(sections)
    for axis, count in ((1, sections[1]), (2, sections[2])):
        for place in range(count):
            owner[axis + 3 * place] = axis
    return owner


@pytest.mark.parametrize("answer", [by_matrix, by_slices, lambda sections: np.array(by_slices(sections))])
def test_whose_pair_right(answer) -> None:
    for seed in SEEDS:
        assert check_whose_pair(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda s: [0] * s[0] + [1] * s[1] + [2] * s[2], "contiguous"),
        (lambda s: [i % 3 for i in range(sum(s))], "take turns to the end"),
        (lambda s: by_slices(s)[::-1], "begin with pair 0"),
        (lambda s: [(a + 1) % 3 for a in by_slices(s)], "time comes first"),
        (lambda s: [a for a in by_slices(s) for _ in range(2)], "not coordinates"),
        (lambda s: [0] * sum(s), "does not own as many pairs"),
        (lambda s: by_slices(s)[:-1], ""),
        (lambda s: None, "nothing yet"),
    ],
)
def test_whose_pair_mistakes(answer, diagnosis: str) -> None:
    verdict = check_whose_pair(answer)
    assert not verdict
    assert diagnosis in verdict.message


def by_rank(freqs: Tensor, first: Tensor, second: Tensor) -> Tensor | None:
    """Away from the crossed places until both places win; no answer where the sums of equation 9.2 are equal."""
    places = torch.stack(
        (first, second, torch.stack((first[0], second[1])), torch.stack((second[0], first[1])))
    )
    rows = torch.polar(torch.ones(4, freqs.shape[1], dtype=torch.float64), -places.double() @ freqs)
    if (rows[0] + rows[1] - rows[2] - rows[3]).abs().max() < 1e-9:
        return None
    real = torch.cat((rows.real, rows.imag), dim=-1)
    solved = torch.linalg.lstsq(real, torch.tensor([2.0, 2.0, -1.0, -1.0], dtype=torch.float64)[:, None])
    return torch.complex(*solved.solution[:, 0].chunk(2)) * 3


@pytest.mark.parametrize("answer", [by_rank, lambda *given: check_two_places.reference(*given)])
def test_two_places_right(answer) -> None:
    for seed in SEEDS:
        assert check_two_places(answer, seed=seed)


def fits_both(freqs: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return sum(torch.exp(-1j * (place.double() @ freqs)) for place in (first, second))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (fits_both, "the scores are"),
        (lambda freqs, first, second: torch.ones(freqs.shape[1]), "the scores are"),
        (lambda freqs, first, second: torch.ones(1), "one number per pair"),
        (lambda freqs, first, second: None, "nothing yet"),
        (
            lambda *given: None if (h := check_two_places.reference(*given)) is None else -h,
            "the scores are -1.000, -1.000 at the two places",
        ),
    ],
)
def test_two_places_mistakes(answer, diagnosis: str) -> None:
    verdict = check_two_places(answer)
    assert not verdict
    assert diagnosis in verdict.message


@pytest.mark.parametrize(
    "answer",
    [
        lambda height, width: grid_coordinates(height, width),
        lambda height, width: [(j // width, j % width) for j in range(height * width)],
        lambda height, width: np.argwhere(np.ones((height, width))),
    ],
)
def test_patch_grid_right(answer) -> None:
    for seed in SEEDS:
        assert check_patch_grid(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda h, w: grid_coordinates(w, h).flip(-1), "this is the function of the page"),
        (lambda h, w: grid_coordinates(w, h), "you divide by the height"),
        (lambda h, w: grid_coordinates(h, w).flip(-1), "rows come first"),
        (lambda h, w: grid_coordinates(h, w) + 1, "count from 0"),
        (lambda h, w: grid_coordinates(h, w).unflatten(0, (h, w)), ""),
        (lambda h, w: grid_coordinates(h, h)[: h * w], ""),
        (lambda h, w: None, "nothing yet"),
    ],
)
def test_patch_grid_mistakes(answer, diagnosis: str) -> None:
    verdict = check_patch_grid(answer)
    assert not verdict
    assert diagnosis in verdict.message
