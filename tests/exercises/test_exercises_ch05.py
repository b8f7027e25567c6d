"""The checkers of chapter 5 pass right answers and name each known mistake."""

import pytest
import torch
from torch import Tensor

from rope_lab import angles, convert_projection, frequencies, rotate
from rope_lab.exercises.ch05 import (
    check_blind_key,
    check_find_pairs,
    check_half_order,
    check_packed_to_half,
    check_to_half,
)


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


def packed(weight: Tensor, heads: int, *, kinds: str = "qk", back: bool = False) -> Tensor:
    """Head by head, with the package."""
    ends = ("half", "interleaved") if back else ("interleaved", "half")
    rows = []
    for head in weight.chunk(heads):
        for kind, part in zip("qkv", head.chunk(3), strict=True):
            rows.append(convert_projection(part, 1, *ends) if kind in kinds else part)
    return torch.cat(rows)


def in_three(weight: Tensor, heads: int) -> Tensor:
    q, k, v = weight.chunk(3)
    return torch.cat([*(convert_projection(x, heads, "interleaved", "half") for x in (q, k)), v])


def by_index(weight: Tensor, heads: int) -> list:
    size = len(weight) // heads // 3
    rows = []
    for first in range(0, len(weight), 3 * size):
        for part in (first, first + size):
            rows += [*range(part, part + size, 2), *range(part + 1, part + size, 2)]
        rows += range(first + 2 * size, first + 3 * size)
    return weight[rows].tolist()


@pytest.mark.parametrize("answer", [packed, by_index])
def test_packed_to_half_right(answer) -> None:
    assert check_packed_to_half(answer)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (in_three, "unmended"),
        (lambda w, heads: packed(w, heads, kinds="qkv"), "values are not rotated"),
        (lambda w, heads: packed(w, heads, kinds="q"), "keys are not converted"),
        (lambda w, heads: packed(w, heads, back=True), "from half to interleaved"),
        (lambda w, heads: w, "nothing is converted"),
        (lambda w, heads: convert_projection(w, heads, "interleaved", "half"), "as one vector"),
        (lambda w, heads: convert_projection(w, 1, "interleaved", "half"), "each head has its own pairs"),
        (
            lambda w, heads: torch.cat(
                [packed(w, heads).unflatten(0, (heads, 3, -1))[:, i].flatten(0, 1) for i in (0, 1, 2)]
            ),
            "no longer packed head by head",
        ),
        (lambda w, heads: packed(w, heads)[: len(w) // 3 * 2], "expected shape"),
        (
            lambda w, heads: packed(w, heads) * (1 + torch.arange(len(w)))[:, None],
            "the rows are the same ones",
        ),
        (lambda w, heads: w.copy_(packed(w, heads)), "in place"),
        (lambda w, heads: None, "nothing yet"),
    ],
)
def test_packed_to_half_mistakes(answer, diagnosis: str) -> None:
    verdict = check_packed_to_half(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def gaps(q: Tensor, base: float, distances: int) -> Tensor:
    turned = angles(torch.arange(distances), frequencies(len(q), base), dtype=q.dtype)
    rows = q.expand(distances, -1)
    return rotate(rows, turned) - rotate(rows, turned, "half")


def by_null_space(q: Tensor, base: float) -> Tensor:
    return torch.linalg.svd(gaps(q, base, 64))[2][-1]


def by_pairs(q: Tensor, base: float) -> Tensor:
    """Solve q_i k̄_i = q'_i k̄'_i for the pairs of the two layouts, with k_0 = 1 and without distances."""
    dim, half = len(q), len(q) // 2
    rows = torch.zeros(dim, dim, dtype=q.dtype)
    for i in range(half):
        (a, b), (c, d) = (2 * i, 2 * i + 1), (i, i + half)
        for j, (x, y) in enumerate(((q[a], q[b]), (q[b], -q[a]))):
            rows[i + j * half, [a, b]] += torch.stack((x, y))
        for j, (x, y) in enumerate(((q[c], q[d]), (q[d], -q[c]))):
            rows[i + j * half, [c, d]] -= torch.stack((x, y))
    rest = torch.linalg.lstsq(rows[:, 1:], -rows[:, 0], driver="gelsd").solution
    return torch.cat((torch.ones(1, dtype=q.dtype), rest))


@pytest.mark.parametrize(
    "answer",
    [
        by_null_space,
        by_pairs,
        lambda q, base: -7 * by_null_space(q, base),
        lambda q, base: by_null_space(q.float(), base).tolist(),
    ],
)
def test_blind_key_right(answer) -> None:
    for seed in range(51, 56):
        assert check_blind_key(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda q, base: q, "agree on q with itself at distance 0"),
        (lambda q, base: torch.ones(len(q)), "blind only to a query of ones"),
        (lambda q, base: q[[*range(0, len(q), 2), *range(1, len(q), 2)]], "you reorder the query"),
        (lambda q, base: torch.eye(len(q))[0], "these pairs have other partners"),
        (lambda q, base: torch.linalg.svd(gaps(q, base, 2))[2][-1], "differ by"),
        (lambda q, base: q.flip(0), "at distance "),
        (lambda q, base: torch.zeros(len(q)), "the key must not be 0"),
        (lambda q, base: by_null_space(q, base)[None], "expected shape"),
        (lambda q, base: by_null_space(q, base) / 0, "return finite numbers"),
        (lambda q, base: None, "nothing yet"),
    ],
)
def test_blind_key_mistakes(answer, diagnosis: str) -> None:
    verdict = check_blind_key(answer)
    assert not verdict
    assert diagnosis in verdict.message


def test_two_mistakes_at_once_have_no_name() -> None:
    for verdict in (
        check_packed_to_half(lambda w, heads: in_three(w, heads).flip(0)),
        check_packed_to_half(lambda w, heads: packed(w, heads, kinds="qkv", back=True)),
        check_blind_key(lambda q, base: q + torch.ones_like(q)),
    ):
        assert not verdict
        assert "Likely" not in verdict.message
