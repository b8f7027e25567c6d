"""The checkers of chapter 10 pass right answers and name each known mistake."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab.exercises.ch10 import check_half_life, check_reach, check_recentre


def zeta(dim: int) -> Tensor:
    return (torch.arange(0, dim, 2).double() / dim + 0.4) / 1.4


def half_life(dim: int, base: int) -> Tensor:
    return -base * math.log(2) / zeta(dim).log()


def test_half_life_right() -> None:
    assert check_half_life(half_life)
    assert check_half_life(lambda dim, base: half_life(dim, base).float())
    assert check_half_life(lambda d, b: -b * math.log(2) / ((torch.arange(0, d, 2) / d + 0.4) / 1.4).log())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda d, b: -b / zeta(d).log(), "1/e is left"),
        (lambda d, b: -half_life(d, b), "the sign"),
        (lambda d, b: half_life(d, 1), "units of the scale base"),
        (lambda d, b: half_life(d, 1) / b, "a larger B fades less"),
        (
            lambda d, b: -b * math.log(2) / ((torch.arange(d // 2).double() / d + 0.4) / 1.4).log(),
            "i counts pairs",
        ),
        (lambda d, b: half_life(d, b).repeat_interleave(2), "one per pair"),
        (lambda d, b: half_life(d, b).flip(0), "slow pairs are first"),
        (lambda d, b: half_life(d, b) + 1, "first difference at [0]"),
        (lambda d, b: half_life(d, b) / 2, "the square"),
        (lambda d, b: None, "nothing yet"),
    ],
)
def test_half_life_mistakes(answer, diagnosis: str) -> None:
    verdict = check_half_life(answer)
    assert not verdict
    assert diagnosis in verdict.message


def reach(dtype: torch.dtype, base: int) -> int:
    return int(base * math.log(torch.finfo(dtype).max) / math.log(3.5))


def test_reach_right() -> None:
    assert check_reach(reach)
    assert check_reach(lambda dtype, base: np.int64(reach(dtype, base)))
    assert check_reach(lambda dtype, base: float(reach(dtype, base)))
    assert check_reach(lambda dtype, base: torch.tensor(reach(dtype, base)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda dtype, base: reach(dtype, base) + 1, "one too far"),
        (lambda dtype, base: reach(dtype, base) - 1, "one too few"),
        (
            lambda dtype, base: int(-base * math.log(torch.finfo(dtype).max) / float(zeta(64)[-1].log())),
            "fastest pair overflows first",
        ),
        (
            lambda dtype, base: int(-base * math.log(torch.finfo(dtype).tiny) / math.log(3.5)),
            "the key's grows",
        ),
        (lambda dtype, base: 2 * reach(dtype, base), "both sides"),
        (lambda dtype, base: reach(dtype, 1), "the base is missing"),
        (lambda dtype, base: reach(torch.float32, base), "reach of float32"),
        (lambda dtype, base: reach(torch.float16, base), "dtype is not used"),
        (lambda dtype, base: reach(dtype, 512), "base is not used"),
        (lambda dtype, base: 849.4, "return an integer"),
        (lambda dtype, base: True, "return an integer"),
        (lambda dtype, base: None, "nothing yet"),
    ],
)
def test_reach_mistakes(answer, diagnosis: str) -> None:
    verdict = check_reach(answer)
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
