"""The checkers of chapter 5 pass right answers and name each known mistake."""

import pytest
import torch
from torch import Tensor

from rope_lab import convert_projection
from rope_lab.exercises.ch05 import check_find_pairs, check_half_order, check_to_half


def evens_then_odds(r: int) -> Tensor:
    return torch.cat((torch.arange(0, r, 2), torch.arange(1, r, 2)))


def half_order(d: int, r: int) -> Tensor:
    return torch.cat((evens_then_odds(r), torch.arange(r, d)))


def test_half_order_right() -> None:
    assert check_half_order(half_order)
    assert check_half_order(lambda d, r: [*range(0, r, 2), *range(1, r, 2), *range(r, d)])


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda d, r: half_order(d, r).argsort(), "way back"),
        (lambda d, r: evens_then_odds(d), "whole head"),
        (lambda d, r: evens_then_odds(r), "missing"),
        (lambda d, r: torch.arange(d), "in place"),
        (
            lambda d, r: torch.cat((torch.arange(1, r, 2), torch.arange(0, r, 2), torch.arange(r, d))),
            "not before",
        ),
        (lambda d, r: half_order(d, r).roll(1), "first difference at [0]"),
        (lambda d, r: half_order(d, r).float(), "return integers, got torch.float32"),
        (lambda d, r: torch.arange(r).view(-1, 2).T, "flatten them"),
        (lambda d, r: None, "nothing yet"),
    ],
)
def test_half_order_mistakes(answer, diagnosis: str) -> None:
    verdict = check_half_order(answer)
    assert not verdict
    assert diagnosis in verdict.message


def find_pairs(turn, d: int) -> Tensor:
    turned = turn(torch.eye(d, dtype=torch.float64), 1)
    partner = turned - torch.diag(turned.diagonal())
    first = (partner > 0).any(-1).nonzero().flatten()
    second = partner[first].argmax(-1)
    return torch.stack((first, second), dim=-1)[partner[first, second].argsort(descending=True)]


def by_vectors(turn, d: int) -> list[tuple[int, int]]:
    """One unit vector at a time, of whole numbers and without further axes."""
    found = []
    for j in range(d):
        turned = turn(torch.eye(d, dtype=torch.int64)[j], 1)
        turned[j] = 0
        if turned.max() > 1e-12:
            found.append((-float(turned.max()), j, int(turned.argmax())))
    return [(j, k) for _, j, k in sorted(found)]


def test_find_pairs_right() -> None:
    assert check_find_pairs(find_pairs)
    assert check_find_pairs(by_vectors)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda turn, d: torch.arange(d).view(-1, 2), "interleaved layout"),
        (lambda turn, d: torch.arange(d).view(2, -1).T, "half layout"),
        (lambda turn, d: find_pairs(turn, d).flip(1), "pair is reversed"),
        (lambda turn, d: find_pairs(turn, d).flip(0), "slowest pair"),
        (lambda turn, d: find_pairs(turn, d).sort(1).values, "tells a from b"),
        (lambda turn, d: (found := find_pairs(turn, d))[found[:, 0].argsort()], "sort them by frequency"),
        (lambda turn, d: find_pairs(turn, d).T, "expected shape (1, 2), got (2, 1)"),
        (lambda turn, d: None, "nothing yet"),
    ],
)
def test_find_pairs_mistakes(answer, diagnosis: str) -> None:
    verdict = check_find_pairs(answer)
    assert not verdict
    assert diagnosis in verdict.message


def to_half(weights, heads, key_heads, r, *, kinds=("query", "key"), parts=("weight", "bias"), back=False):
    counts = {"query": heads, "key": key_heads, "value": key_heads}
    ends = ("half", "interleaved") if back else ("interleaved", "half")
    out = {}
    for name, w in weights.items():
        kind, part = name.split(".")
        chosen = kind in kinds and part in parts
        out[name] = convert_projection(w, counts[kind], *ends, rotary_dim=r) if chosen else w
    return out


def test_to_half_right() -> None:
    assert check_to_half(to_half)


def in_place(weights, heads, key_heads, r):
    out = to_half(weights, heads, key_heads, r)
    for name in weights:
        weights[name].copy_(out[name])
    return weights


def keys_as_queries(weights, heads, key_heads, r):
    out = to_half(weights, heads, key_heads, r)
    for name in ("key.weight", "key.bias"):
        out[name] = convert_projection(weights[name], heads, "interleaved", "half", rotary_dim=r)
    return out


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda w, h, k, r: to_half(w, h, k, r, kinds=("query",)), "key.weight: first difference"),
        (lambda w, h, k, r: to_half(w, h, k, r, kinds=("query",)), "key projection is not converted"),
        (lambda w, h, k, r: to_half(w, h, k, r, kinds=("key",)), "query projection is not converted"),
        (lambda w, h, k, r: to_half(w, h, k, r, parts=("weight",)), "the bias is not converted"),
        (lambda w, h, k, r: to_half(w, h, k, r, kinds=("query", "key", "value")), "values are not rotated"),
        (keys_as_queries, "key_heads heads, not heads"),
        (lambda w, h, k, r: to_half(w, h, k, None), "whole heads"),
        (lambda w, h, k, r: to_half(w, h, k, r, back=True), "from half to interleaved"),
        (
            lambda w, h, k, r: {n: t for n, t in to_half(w, h, k, r).items() if n != "value.bias"},
            "value.bias",
        ),
        (in_place, "in place"),
        (lambda w, h, k, r: [1], "got list"),
        (lambda w, h, k, r: None, "nothing yet"),
    ],
)
def test_to_half_mistakes(answer, diagnosis: str) -> None:
    verdict = check_to_half(answer)
    assert not verdict
    assert diagnosis in verdict.message
