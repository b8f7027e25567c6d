"""The checkers of chapter 18 pass right answers and name each known mistake."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab import angles, convert_projection, frequencies, rotate
from rope_lab.doctor import exhibits
from rope_lab.exercises.ch18 import (
    check_alias_of,
    check_answer_positions,
    check_quantised_to_half,
    check_unevenness,
)


def by_loops(scores: Tensor) -> float:
    low: dict[int, float] = {}
    high: dict[int, float] = {}
    for m, row in enumerate(scores.tolist()):
        for n, entry in enumerate(row):
            low[m - n] = min(entry, low.get(m - n, entry))
            high[m - n] = max(entry, high.get(m - n, entry))
    return max(high[s] - low[s] for s in low)


def with_numpy(scores: Tensor) -> float:
    grid = scores.numpy()
    rows, columns = grid.shape
    return max(np.ptp(np.diagonal(grid, s)) for s in range(1 - rows, columns))


def test_unevenness_right() -> None:
    assert check_unevenness(by_loops)
    assert check_unevenness(with_numpy)
    q, k, m = torch.randn(32).expand(40, -1), torch.randn(32).expand(40, -1), torch.arange(40)
    even, uneven = (turn(q, m) @ turn(k, m).mT for turn in (exhibits.whole, exhibits.half_tables))
    assert check_unevenness.reference(even.double()) < 1e-4 < 1 < check_unevenness.reference(uneven.double())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda x: by_loops(x.flip(0)), "upper right to the lower left"),
        (lambda x: x.diagonal().max() - x.diagonal().min(), "main diagonal alone"),
        (lambda x: max(np.ptp(np.diagonal(x.numpy(), -s)) for s in range(len(x))), "lower triangle"),
        (lambda x: (x[1:, 1:] - x[:-1, :-1]).abs().max(), "largest step"),
        (lambda x: x.max() - x.min(), "the whole map"),
        (lambda x: (x.amax(1) - x.amin(1)).max(), "entries of a row"),
        (lambda x: (x.amax(0) - x.amin(0)).max(), "entries of a column"),
        (lambda x: -by_loops(x), "a range is not negative"),
        (lambda x: x.diff(dim=0), "return one number"),
        (lambda x: None, "nothing yet"),
    ],
)
def test_unevenness_mistakes(answer, diagnosis: str) -> None:
    verdict = check_unevenness(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


Answer = dict[str, Tensor]


def with_package(codes: Tensor, scales: Tensor, heads: int) -> Answer:
    codes, scales = (convert_projection(x, heads, "interleaved", "half") for x in (codes, scales))
    return {"codes": codes, "scales": scales}


def by_views(codes: Tensor, scales: Tensor, heads: int) -> Answer:
    both = torch.cat((codes.double(), scales[:, None]), dim=1)
    moved = both.view(heads, -1, 2, both.shape[1]).transpose(1, 2).reshape(both.shape)
    return {"codes": moved[:, :-1].long(), "scales": moved[:, -1]}


def test_quantised_to_half_right() -> None:
    assert check_quantised_to_half(with_package)
    assert check_quantised_to_half(by_views)


def test_what_the_rows_stand_for_is_reordered_and_not_changed() -> None:
    for codes, scales, heads in (case.inputs for case in check_quantised_to_half.cases()):
        found = check_quantised_to_half.reference(codes, scales, heads)
        rows = convert_projection(codes * scales[:, None], heads, "interleaved", "half")
        assert torch.equal(found["codes"] * found["scales"][:, None], rows)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda c, s, h: with_package(c, s, h) | {"scales": s}, "stay with the places"),
        (lambda c, s, h: with_package(c, s, h) | {"codes": c}, "the rows are not"),
        (lambda c, s, h: with_package(c, s, 1), "as one"),
        (lambda c, s, h: with_package(c, s, h)["codes"], "return a dict"),
        (lambda c, s, h: {"codes": with_package(c, s, h)["codes"]}, "return a dict with the names"),
        (lambda c, s, h: None, "nothing yet"),
    ],
)
def test_quantised_to_half_mistakes(answer, diagnosis: str) -> None:
    verdict = check_quantised_to_half(answer)
    assert not verdict
    assert diagnosis in verdict.message


def from_cumsum(mask: Tensor, new: int) -> Tensor:
    return mask.long().cumsum(-1)[:, -1:] + torch.arange(new)


def test_answer_positions_right() -> None:
    assert check_answer_positions(from_cumsum)
    assert check_answer_positions(
        lambda mask, new: [[sum(row) + i for i in range(new)] for row in mask.tolist()]
    )


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda mask, new: (mask.shape[1] + torch.arange(new)).repeat(len(mask), 1), "padding is counted"),
        (lambda mask, new: from_cumsum(mask, new) + 1, "one too late"),
        (lambda mask, new: from_cumsum(mask, new) - 1, "one too early"),
        (lambda mask, new: from_cumsum(mask, new)[:1].repeat(len(mask), 1), "positions of the first"),
        (lambda mask, new: from_cumsum(mask, new)[:, :1].repeat(1, new), "share a position"),
        (lambda mask, new: torch.arange(new).repeat(len(mask), 1), "restart at 0"),
        (lambda mask, new: from_cumsum(~mask, new), "counts the padding instead"),
        (lambda mask, new: from_cumsum(mask, new).T, "expected shape"),
        (lambda mask, new: from_cumsum(mask, new)[0], "expected shape"),
        (lambda mask, new: None, "nothing yet"),
    ],
)
def test_answer_positions_mistakes(answer, diagnosis: str) -> None:
    verdict = check_answer_positions(answer)
    assert not verdict
    assert diagnosis in verdict.message


def backwards(freqs: Tensor, step: float) -> Tensor | None:
    """Another right answer: whole turns are taken away, a different number for each pair."""
    if not step:
        return None
    return freqs - 2 * math.pi / step * torch.arange(1, len(freqs) + 1)


def test_alias_of_right() -> None:
    assert check_alias_of(backwards)
    assert check_alias_of(lambda f, step: None if step == 0 else (f + 4 * math.pi / step).tolist())


def test_no_score_tells_an_alias_from_the_frequencies() -> None:
    freqs = frequencies(8)
    x = torch.randn(50, 8, dtype=torch.float64)
    whole = torch.arange(50)
    same, other = (
        rotate(x, angles(whole, f, dtype=torch.float64))
        for f in (freqs, check_alias_of.reference(freqs, 1.0))
    )
    assert torch.allclose(same, other, atol=1e-9)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda f, step: f + 2 * math.pi if step else None, "multiples of the step"),
        (lambda f, step: f + 2 * math.pi * step if step else None, "divide 2π by the step"),
        (lambda f, step: f + math.pi / step if step else None, "half a turn"),
        (lambda f, step: -f if step else None, "clockwise"),
        (lambda f, step: f if step else None, "old frequency"),
        (lambda f, step: f + 2 * math.pi / (step or 1), "any real numbers"),
        (lambda f, step: backwards(f, step)[:1] if step else None, "expected shape (2,), got (1,)"),
        (lambda f, step: None, "nothing yet"),
    ],
)
def test_alias_of_mistakes(answer, diagnosis: str) -> None:
    verdict = check_alias_of(answer)
    assert not verdict
    assert diagnosis in verdict.message
