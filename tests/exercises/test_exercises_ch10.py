"""The checkers of chapter 10 pass right answers and name each known mistake."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab.exercises.ch10 import (
    check_fading_attention,
    check_farthest_key,
    check_louder,
    check_recentre,
    check_scale_base,
)


def zeta(dim: int) -> Tensor:
    return (torch.arange(0, dim, 2).double() / dim + 0.4) / 1.4


def scale_base(dim: int, pair: int, distance: int, share: float) -> float:
    return distance * float(zeta(dim)[pair].log()) / math.log(share)


def by_bisection(dim: int, pair: int, distance: int, share: float) -> float:
    low, high = 1e-3, 1e9
    while high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if zeta(dim)[pair] ** (distance / middle) < share else (low, middle)
    return low


def test_scale_base_right() -> None:
    assert check_scale_base(scale_base)
    assert check_scale_base(lambda *case: np.float64(scale_base(*case)))
    assert check_scale_base(by_bisection)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda D, i, s, p: s * math.log(p) / float(zeta(D)[i].log()), "the wrong way round"),
        (lambda D, i, s, p: -scale_base(D, i, s, p), "the sign"),
        (lambda D, i, s, p: scale_base(D, i, s, 0.5), "share is not used"),
        (lambda D, i, s, p: scale_base(D, i, s, 1 - p), "not the part that is lost"),
        (lambda D, i, s, p: scale_base(D, i, s, p**0.5), "occurs once"),
        (lambda D, i, s, p: s * math.log2(zeta(D)[i]) / math.log(p), "need the same base"),
        (lambda D, i, s, p: s * math.log((i / D + 0.4) / 1.4) / math.log(p), "i counts pairs"),
        (lambda D, i, s, p: scale_base(D, -1 - i, s, p), "from the slow end"),
        (lambda D, i, s, p: scale_base(D, 0, s, p), "pair is not used"),
        (lambda D, i, s, p: s * (1 - float(zeta(D)[i])) / (1 - p), "a straight line"),
        (lambda D, i, s, p: 512, "expected"),
        (lambda D, i, s, p: scale_base(D, i, s, p) + 1, "expected"),
        (lambda D, i, s, p: None, "nothing yet"),
    ],
)
def test_scale_base_mistakes(answer, diagnosis: str) -> None:
    verdict = check_scale_base(answer)
    assert not verdict
    assert diagnosis in verdict.message


def farthest_key(dtype: torch.dtype, base: int, size: float) -> int:
    return int(base * math.log(torch.finfo(dtype).max / size) / math.log(3.5))


def by_trying(dtype: torch.dtype, base: int, size: float) -> int:
    n = 0
    while size * 3.5 ** ((n + 1) / base) <= torch.finfo(dtype).max:
        n += 1
    return n


def test_farthest_key_right() -> None:
    assert check_farthest_key(farthest_key)
    assert check_farthest_key(lambda *case: np.int64(farthest_key(*case)))
    assert check_farthest_key(lambda *case: float(farthest_key(*case)))
    assert check_farthest_key(lambda *case: torch.tensor(farthest_key(*case)))
    assert check_farthest_key(by_trying)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda dtype, base, size: farthest_key(dtype, base, size) + 1, "one too far"),
        (lambda dtype, base, size: farthest_key(dtype, base, size) - 1, "one too few"),
        (lambda dtype, base, size: farthest_key(dtype, base, 1), "coordinates of size 1"),
        (lambda dtype, base, size: farthest_key(dtype, base, 1 / size), "divide the largest number by size"),
        (
            lambda dtype, base, size: int(
                -base * math.log(torch.finfo(dtype).max / size) / float(zeta(64)[-1].log())
            ),
            "fastest pair overflows first",
        ),
        (
            lambda dtype, base, size: int(-base * math.log(torch.finfo(dtype).tiny / size) / math.log(3.5)),
            "a key's grows",
        ),
        (lambda dtype, base, size: 2 * farthest_key(dtype, base, size), "both sides"),
        (lambda dtype, base, size: farthest_key(dtype, 1, size), "the base is missing"),
        (lambda dtype, base, size: farthest_key(torch.float32, base, size), "reach of float32"),
        (lambda dtype, base, size: farthest_key(torch.float16, base, size), "dtype is not used"),
        (lambda dtype, base, size: farthest_key(dtype, 512, size), "base is not used"),
        (lambda dtype, base, size: 849.4, "return an integer"),
        (lambda dtype, base, size: True, "return an integer"),
        (lambda dtype, base, size: None, "nothing yet"),
    ],
)
def test_farthest_key_mistakes(answer, diagnosis: str) -> None:
    verdict = check_farthest_key(answer)
    assert not verdict
    assert diagnosis in verdict.message


def factor(power: float | Tensor, dim: int) -> Tensor:
    return (zeta(dim) ** torch.as_tensor(power).double()[..., None]).repeat_interleave(2, -1)


def test_recentre_right() -> None:
    assert check_recentre(lambda k, old, new, base: k * factor((new - old) / base, k.shape[-1]))


def anew(k: Tensor, centre: int, base: int) -> Tensor:
    return k * factor((centre - torch.arange(len(k))) / base, k.shape[-1])


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda k, old, new, b: k * factor((old - new) / b, k.shape[-1]), "other way"),
        (lambda k, old, new, b: k, "not moved"),
        (lambda k, old, new, b: anew(k, new, b), "on top of the old scale"),
        (
            lambda k, old, new, b: k * factor((torch.arange(len(k)) - old) / b, k.shape[-1]),
            "no scale left",
        ),
        (
            lambda k, old, new, b: k * (zeta(k.shape[-1]) ** ((new - old) / b)).repeat(2),
            "order of the half layout",
        ),
        (lambda k, old, new, b: k * factor(float(new - old), k.shape[-1]), "the base is missing"),
        (lambda k, old, new, b: k[:, :2], "expected shape (1, 4), got (1, 2)"),
        (lambda k, old, new, b: k * factor(abs(new - old) / b, k.shape[-1]), "can also move back"),
        (lambda k, old, new, b: k * factor(max(new - old, 0) / b, k.shape[-1]), "has a factor too"),
        (lambda k, old, new, b: k * factor((new - old) // b, k.shape[-1]), "divide with /"),
        (lambda k, old, new, b: k * factor(0.5, k.shape[-1]), "first difference"),
        (
            lambda k, old, new, b: (k * factor((new - old) / b, k.shape[-1])).half(),
            "few digits of torch.float16",
        ),
        (lambda k, old, new, b: None, "nothing yet"),
    ],
)
def test_recentre_mistakes(answer, diagnosis: str) -> None:
    verdict = check_recentre(answer)
    assert not verdict
    assert diagnosis in verdict.message


def scores(q: Tensor, k: Tensor, base: float) -> Tensor:
    """Each score by itself, from the distance: no factor for the query and none for the key."""
    D, at = q.shape[-1], torch.arange(len(q))
    fade = (zeta(D) ** ((at[:, None] - at)[..., None] / base)).repeat_interleave(2, -1)
    return torch.einsum("mi,ni,mni->mn", q, k, fade) / D**0.5


def attended(x: Tensor, v: Tensor, own: bool = True) -> Tensor:
    """One row at a time, only what it may see."""
    return torch.stack([x[m, : m + own].softmax(0) @ v[: m + own] for m in range(len(v))])


def hidden_by(value: float):
    def answer(q: Tensor, k: Tensor, v: Tensor, base: int) -> Tensor:
        x = scores(q, k, base)
        return x.masked_fill(x.triu(1) != 0, value).softmax(-1) @ v

    return answer


def test_fading_attention_right() -> None:
    assert check_fading_attention(lambda q, k, v, b: attended(scores(q, k, b), v))
    assert check_fading_attention(lambda q, k, v, b: attended(scores(q, k, b).float(), v.float()))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda q, k, v, b: scores(q, k, b).tril().softmax(-1) @ v, "the function of the page"),
        (hidden_by(0.0), "the function of the page"),
        (lambda q, k, v, b: scores(q, k, b).softmax(-1).tril() @ v, "no longer sum to 1"),
        (lambda q, k, v, b: scores(q, k, b).softmax(-1) @ v, "no key is hidden"),
        (lambda q, k, v, b: attended(q @ k.T / q.shape[-1] ** 0.5, v), "no longer fade"),
        (lambda q, k, v, b: attended(scores(q, k, -b), v), "runs backwards"),
        (lambda q, k, v, b: attended(scores(q, k, b) * q.shape[-1] ** 0.5, v), "divided by √D"),
        (hidden_by(-1.0), "so its output is v[0]"),
        (lambda q, k, v, b: attended(scores(q, k, 2 * b), v), "first difference"),
        (lambda q, k, v, b: v[:1], "expected shape"),
        (lambda q, k, v, b: None, "nothing yet"),
    ],
)
def test_fading_attention_mistakes(answer, diagnosis: str) -> None:
    verdict = check_fading_attention(answer)
    assert not verdict
    assert diagnosis in verdict.message


def copies(dim: int, base: float, s: int) -> Tensor:
    theta = 10_000.0 ** (-torch.arange(0, dim, 2).double() / dim)
    return zeta(dim) ** (s / base) * (s * theta).cos()


def all_that_grow(dim: int, base: float, near: int, far: int) -> Tensor | None:
    """Content in every pair that grows, by its sine, and none in the others."""
    grows = copies(dim, base, far) > copies(dim, base, near)
    return torch.stack((torch.zeros(dim // 2), 3.0 * grows), -1).flatten() if grows.any() else None


def pair_of(pick) -> object:
    def answer(dim: int, base: float, near: int, far: int) -> Tensor:
        q = torch.zeros(dim)
        q[2 * int(pick(copies(dim, base, far) - copies(dim, base, near)))] = 1
        return q

    return answer


def test_louder_right() -> None:
    assert check_louder(all_that_grow)
    assert check_louder(lambda *case: None if all_that_grow(*case) is None else all_that_grow(*case).numpy())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (pair_of(lambda gain: 0), "all content is in pair 0"),
        (pair_of(lambda gain: len(gain) - 1), "the slowest pair"),
        (pair_of(lambda gain: gain.argmin()), "loses most"),
        (pair_of(lambda gain: gain.argmax()), "where none does, the answer is None"),
        (lambda dim, base, near, far: torch.ones(dim), "the same content in all pairs"),
        (lambda dim, base, near, far: all_that_grow(dim, 1e15, near, far), "it does not grow"),
        (lambda dim, base, near, far: torch.zeros(dim), "the score 0 at every distance"),
        (lambda dim, base, near, far: torch.ones(2), "shape"),
        (lambda dim, base, near, far: [math.nan] * dim, "return finite numbers"),
        (
            lambda dim, base, near, far: None if dim < 8 else all_that_grow(dim, base, near, far),
            "but there is an answer",
        ),
        (lambda dim, base, near, far: None, "nothing yet"),
    ],
)
def test_louder_mistakes(answer, diagnosis: str) -> None:
    verdict = check_louder(answer)
    assert not verdict
    assert diagnosis in verdict.message


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (check_scale_base, lambda D, i, s, p: -scale_base(D, -1 - i, s, p)),
        (check_scale_base, lambda D, i, s, p: scale_base(D, i, s, (1 - p) ** 0.5)),
        (check_farthest_key, lambda dtype, base, size: 2 * farthest_key(dtype, base, 1)),
        (check_fading_attention, lambda q, k, v, b: (q @ k.T / q.shape[-1] ** 0.5).tril().softmax(-1) @ v),
        (check_louder, lambda dim, base, near, far: -torch.ones(dim) if near else torch.zeros(dim)),
    ],
)
def test_two_mistakes_at_once_are_not_taken_for_one(check, answer) -> None:
    verdict = check(answer)
    assert not verdict
    assert "Likely" not in verdict.message
