"""The checkers of chapter 1 pass right answers and name each known mistake."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab.exercises.ch01 import check_causal_mean, check_distance_bias, check_is_order_blind


def keeps(layer, x: Tensor, order: Tensor, axis: int = 1, equal=torch.allclose) -> bool:
    return equal(layer(x.index_select(axis, order)), layer(x).index_select(axis, order))


def blind(layer, x: Tensor, axis: int = 1, equal=torch.allclose) -> bool:
    places = torch.arange(x.shape[axis])
    swap = torch.cat((places[:2].flip(0), places[2:]))
    return keeps(layer, x, swap, axis, equal) and keeps(layer, x, places.roll(1), axis, equal)


def blind_to_one_crooked_order(layer, x: Tensor) -> bool:
    places = torch.arange(x.shape[1])
    return keeps(layer, x, torch.cat((places[3:], places[:3].flip(0))))


def same_set(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.sort(1).values, b.sort(1).values)


@pytest.mark.parametrize(
    "answer",
    [
        blind,
        blind_to_one_crooked_order,
        lambda layer, x: np.bool_(blind(layer, x)),
        lambda layer, x: torch.tensor(blind(layer, x)),
    ],
)
def test_is_order_blind_right(answer) -> None:
    assert check_is_order_blind(answer)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda layer, x: torch.allclose(layer(x.roll(1, 1)), layer(x)), "the shuffled output"),
        (lambda layer, x: torch.allclose(layer(x), layer(x)), "the identity"),
        (lambda layer, x: not blind(layer, x), "is the comparison reversed"),
        (lambda layer, x: blind(layer, x, axis=0), "the sequences of the batch"),
        (lambda layer, x: blind(layer, x, axis=2), "the coordinates"),
        (lambda layer, x: False, "return False for every layer"),
        (
            lambda layer, x: torch.allclose(layer(x.roll(1, 1)).mean(1), layer(x).mean(1)),
            "the mean over the tokens",
        ),
        (lambda layer, x: same_set(layer(x.roll(1, 1)), layer(x)), "as a set"),
        (lambda layer, x: blind(layer, x, equal=torch.equal), "rounded differently"),
        (
            lambda layer, x: torch.allclose(layer(x.roll(2, 1)), layer(x).roll(2, 1)),
            "a circular shift is not enough",
        ),
        (lambda layer, x: layer(x) == x, "one truth value"),
        (lambda layer, x: (layer(x.roll(1, 1)) - layer(x).roll(1, 1)).abs().max().item(), "one truth value"),
        (lambda layer, x: None, "nothing yet"),
    ],
)
def test_is_order_blind_mistakes(answer, diagnosis: str) -> None:
    verdict = check_is_order_blind(answer)
    assert not verdict
    assert diagnosis in verdict.message


def counts(v: Tensor) -> Tensor:
    return torch.arange(1, len(v) + 1)[:, None]


def mean(v: Tensor) -> Tensor:
    return v.cumsum(0) / counts(v)


def test_causal_mean_right() -> None:
    assert check_causal_mean(mean)
    assert check_causal_mean(lambda v: torch.stack([v[: m + 1].mean(0) for m in range(len(v))]))
    assert check_causal_mean(lambda v: mean(v).tolist())
    assert check_causal_mean(lambda v: np.cumsum(v.numpy(), 0) / np.arange(1, len(v) + 1)[:, None])


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda v: v.cumsum(0) / len(v), "divides by N"),
        (lambda v: v.cumsum(0), "not divided"),
        (lambda v: v.mean(0).expand_as(v), "over all tokens"),
        (lambda v: v.cumsum(0) / (counts(v) - 1), "itself included, not m"),
        (lambda v: torch.cat((torch.zeros_like(v[:1]), mean(v)[:-1])), "also sees itself"),
        (lambda v: v.cumsum(1) / torch.arange(1, v.shape[1] + 1), "tokens are on axis 0"),
        (lambda v: mean(v.flip(0)).flip(0), "runs from the end"),
        (lambda v: v.mean(0), "expected shape (1, 2), got (2,)"),
        (
            lambda v: torch.ones(len(v), len(v), dtype=v.dtype).tril().softmax(-1) @ v,
            "mask of zeros and ones",
        ),
        (lambda v: mean(v).half(), "few digits of torch.float16"),
        (lambda v: None, "nothing yet"),
    ],
)
def test_causal_mean_mistakes(answer, diagnosis: str) -> None:
    verdict = check_causal_mean(answer)
    assert not verdict
    assert diagnosis in verdict.message


def back(q: Tensor, k: Tensor) -> Tensor:
    return q[:, None] - k


def clipped(table: Tensor, distance: Tensor) -> Tensor:
    return table[:, distance.clamp(0, table.shape[1] - 1)]


def test_distance_bias_right() -> None:
    assert check_distance_bias(lambda table, q, k: clipped(table, back(q, k)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda table, q, k: clipped(table, -back(q, k)), "query minus key"),
        (lambda table, q, k: clipped(table, back(q, k).abs()), "not |m − n|"),
        (lambda table, q, k: table[:, back(q, k) % table.shape[1]], "wrap around"),
        (
            lambda table, q, k: clipped(table, back(torch.arange(len(q)), torch.arange(len(k)))),
            "use the positions",
        ),
        (lambda table, q, k: clipped(table, back(q, k)).mT, "are swapped"),
        (lambda table, q, k: clipped(table, back(q, k)).permute(1, 2, 0), "heads come first"),
        (lambda table, q, k: clipped(table[:1], back(q, k)).expand(2, -1, -1), "one head"),
        (lambda table, q, k: table[:, back(q, k).clamp(max=table.shape[1] - 1)], "counts from the end"),
        (lambda table, q, k: clipped(table, back(q, k)) * (back(q, k) >= 0), "not the number 0"),
        (lambda table, q, k: clipped(table, back(q, k)) + 1, "first difference at [0, 0, 0]"),
        (lambda table, q, k: None, "nothing yet"),
    ],
)
def test_distance_bias_mistakes(answer, diagnosis: str) -> None:
    verdict = check_distance_bias(answer)
    assert not verdict
    assert diagnosis in verdict.message
