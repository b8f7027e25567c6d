"""The checkers of chapter 1 pass right answers and name each known mistake."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab.exercises.ch01 import (
    check_attend_last,
    check_causal_mean,
    check_distance_bias,
    check_is_order_blind,
    check_twin,
)


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


def exchanged(tokens: Tensor) -> Tensor | None:
    for i in range(len(tokens) - 1):
        for j in range(i):
            if tokens[i] != tokens[j]:
                order = torch.arange(len(tokens))
                order[i], order[j] = j, i
                return tokens[order]
    return None


def turned_round(tokens: Tensor) -> list[int] | None:
    """Another right answer: the tokens before the last in falling order, or else in rising order."""
    *before, last = tokens.tolist()
    orders = (sorted(before, reverse=True), sorted(before))
    return next(([*order, last] for order in orders if order != before), None)


@pytest.mark.parametrize(
    "answer", [exchanged, turned_round, lambda x: y.numpy() if (y := exchanged(x)) is not None else y]
)
def test_twin_right(answer) -> None:
    for seed in (0, 21, 22):
        assert check_twin(answer, seed=seed)


def test_a_twin_has_the_same_last_output_and_nothing_else_has() -> None:
    torch.manual_seed(0)
    table, (w_q, w_k, w_v) = (
        torch.randn(10, 8, dtype=torch.float64),
        torch.randn(3, 8, 8, dtype=torch.float64),
    )

    def last(tokens: Tensor) -> Tensor:
        x = table[tokens]
        return ((x[-1] @ w_q) @ (x @ w_k).T / 50).softmax(-1) @ (x @ w_v)

    for (tokens,) in (case.inputs for case in check_twin.cases(5)):
        for order in torch.stack([torch.randperm(len(tokens)) for _ in range(50)]):
            for other in (tokens[order], (tokens[order] + order // 3) % 10):
                same = torch.allclose(last(other), last(tokens), rtol=1e-9) and not other.equal(tokens)
                assert same == (check_twin.fault(other.double(), tokens) == "")


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda x: x.flip(0), "turned round; the last token has to stay"),
        (lambda x: x.roll(1), "move in a circle, and with them the last"),
        (lambda x: torch.cat((x[:-1].sort().values, x[-1:])), "leaves a sorted text as it is"),
        (lambda x: torch.cat((x[:2].flip(0), x[2:])), "they may be the same"),
        (lambda x: x, "this is the same text"),
        (lambda x: torch.cat((x[:-1], x[-1:] + 1)), "the last token asks the question; it is"),
        (lambda x: torch.cat((x[-1:], x[1:])), "in which proportion"),
        (lambda x: None if len(x) == 2 else torch.cat((x[:1] + 1, x[1:])), "in which proportion"),
        (
            lambda x: None if len(x) < 9 and len(set(x[:-1].tolist())) < 2 else [*x.tolist(), 1],
            "expected shape",
        ),
        (lambda x: [*x.tolist(), 1], "a text of the same length has 2 tokens, got shape (3,)"),
        (lambda x: None if len(x) < 4 else exchanged(x), "but there is an answer"),
        (lambda x: exchanged(x) if exchanged(x) is not None else x, "this is the same text"),
        (lambda x: exchanged(x).float(), "raises AttributeError"),
        (lambda x: None, "nothing yet"),
    ],
)
def test_twin_mistakes(answer, diagnosis: str) -> None:
    verdict = check_twin(answer)
    assert not verdict
    assert diagnosis in verdict.message


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, first: int | None = None, hidden: float = -torch.inf
) -> Tensor:
    """Attention of queries whose positions begin at `first`, written with positions and not with a triangle."""
    m = torch.arange(len(q))[:, None] + (len(k) - len(q) if first is None else first)
    scores = q @ k.T / q.shape[-1] ** 0.5
    return torch.where(torch.arange(len(k)) <= m, scores, hidden).softmax(-1) @ v


def by_sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = torch.ones(len(q), len(k), dtype=torch.bool).tril(len(k) - len(q))
    return torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask)[0]


def one_by_one(q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
    ends = range(len(k) - len(q) + 1, len(k) + 1)
    return [(a @ k[:end].T / len(a) ** 0.5).softmax(-1) @ v[:end] for a, end in zip(q, ends, strict=True)]


@pytest.mark.parametrize("answer", [attend, by_sdpa, one_by_one])
def test_attend_last_right(answer) -> None:
    assert check_attend_last(answer)


def torch_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda q, k, v: attend(q, k, v, first=0), "unmended"),
        (torch_causal, "unmended"),
        (lambda q, k, v: attend(q, k, v, first=len(k)), "nothing is hidden"),
        (lambda q, k, v: attend(q, k, v, first=len(k) - len(q) + 1), "one key too many"),
        (lambda q, k, v: attend(q, k, v, first=len(k) - len(q) - 1), "its own"),
        (lambda q, k, v: attend(q, k, v, hidden=0.0), "still have a weight"),
        (lambda q, k, v: attend(q * q.shape[-1] ** 0.5, k, v), "divided by √D"),
        (lambda q, k, v: attend(q, k, v, first=len(k) - len(q) - 2), "got nan"),
        (lambda q, k, v: attend(q, k[-len(q) :], v[-len(q) :]), "see only each other"),
        (lambda q, k, v: attend(q, k, v)[-1:], "expected shape"),
        (lambda q, k, v: None, "nothing yet"),
    ],
)
def test_attend_last_mistakes(answer, diagnosis: str) -> None:
    verdict = check_attend_last(answer)
    assert not verdict
    assert diagnosis in verdict.message


def test_the_new_exercises_do_not_take_two_mistakes_for_one() -> None:
    both = check_attend_last(lambda q, k, v: attend(q * q.shape[-1] ** 0.5, k, v, first=0))
    assert not both
    assert "Likely" not in both.message
    replaced = check_twin(lambda x: torch.cat((x[:1] + 1, x[1:-1].flip(0), x[-1:] - 1)))
    assert not replaced
    assert "Likely" not in replaced.message
