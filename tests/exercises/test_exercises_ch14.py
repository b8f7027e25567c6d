"""The checkers of chapter 14 pass right answers and name each known mistake."""

import math

import pytest
import torch
from torch import Tensor

from rope_lab.exercises.ch14 import (
    check_agreeing,
    check_cut_and_slide,
    check_difference,
    check_sliding_loss,
    check_undecided,
)


def two(one: Tensor, other: Tensor) -> Tensor:
    return torch.stack((one, other))


def cut(x: Tensor, u: int) -> Tensor:
    return torch.cat([row for i, row in enumerate(x) if i * u % x.shape[1] == 0]).mean()


def slide(x: Tensor, u: int) -> Tensor:
    return x[:, x.shape[1] - u :].mean()


def test_cut_and_slide_right() -> None:
    assert check_cut_and_slide(lambda x, u: two(cut(x, u), slide(x, u)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda x, u: two(slide(x, u), cut(x, u)), "are swapped"),
        (lambda x, u: two(x.mean(), slide(x, u)), "do not overlap"),
        (lambda x, u: two(x[::u].mean(), slide(x, u)), "L // stride"),
        (lambda x, u: two(cut(x, u), x.mean()), "counted before"),
        (lambda x, u: two(cut(x, u), x[:, :u].mean()), "first places"),
        (lambda x, u: two(cut(x, u), x[:, -1].mean()), "last `stride`"),
        (lambda x, u: two(cut(x, u), x[:: x.shape[1] // u, -u:].mean()), "every window scores"),
        (lambda x, u: two(x[:: x.shape[1] // u].sum(), x[:, -u:].sum()), "sums"),
        (lambda x, u: x.mean(0)[:1], "expected shape (2,), got (1,)"),
        (lambda x, u: None, "nothing yet"),
    ],
)
def test_cut_and_slide_mistakes(answer, diagnosis: str) -> None:
    verdict = check_cut_and_slide(answer)
    assert not verdict
    assert diagnosis in verdict.message


TAU = (12.706205, 4.302653, 3.182446, 2.776445)


def matched(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    same = a[:, None, 0] == b[None, :, 0]
    i, j = same.nonzero(as_tuple=True)
    return a[i, 1], b[j, 1]


def paired(a: Tensor, b: Tensor) -> Tensor:
    one, other = matched(a, b)
    return one - other


def unpaired(a: Tensor, b: Tensor) -> Tensor:
    one, other = matched(a, b)
    return two((one - other).mean(), ((one.var() + other.var()) / len(one)).sqrt())


def by_row(d: Tensor) -> Tensor:
    return two(d.mean(), d.std() / len(d) ** 0.5)


def test_difference_right() -> None:
    assert check_difference(lambda a, b: by_row(paired(a, b)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda a, b: by_row(paired(b, a)), "the sign"),
        (
            lambda a, b: by_row(a[: min(len(a), len(b)), 1] - b[: min(len(a), len(b)), 1]),
            "match them by seed",
        ),
        (lambda a, b: two(paired(a, b).mean(), paired(a, b).std()), "divide it by √K"),
        (
            lambda a, b: two(paired(a, b).mean(), paired(a, b).std(correction=0) / len(paired(a, b)) ** 0.5),
            "K − 1",
        ),
        (unpaired, "unpaired runs"),
        (
            lambda a, b: two(
                a[:, 1].mean() - b[:, 1].mean(), (a[:, 1].var() / len(a) + b[:, 1].var() / len(b)).sqrt()
            ),
            "only seeds in both",
        ),
        (lambda a, b: two(paired(a, b).mean(), paired(a, b).std() / len(paired(a, b))), "divides by √K"),
        (
            lambda a, b: two(paired(a, b).mean(), paired(a, b).var() / len(paired(a, b)) ** 0.5),
            "its root first",
        ),
        (lambda a, b: paired(a, b)[:1], "expected shape (2,), got (1,)"),
        (lambda a, b: by_row(paired(a, b)) * torch.tensor([1, 4.302653]), "first difference at [1]"),
        (lambda a, b: by_row(paired(a, b)) * torch.tensor([1, TAU[len(paired(a, b)) - 2]]), "half-width"),
        (lambda a, b: None, "nothing yet"),
    ],
)
def test_difference_mistakes(answer, diagnosis: str) -> None:
    verdict = check_difference(answer)
    assert not verdict
    assert diagnosis in verdict.message


def holds_zero(d: Tensor, width: Tensor) -> Tensor:
    low, high = d.mean(-1) - width, d.mean(-1) + width
    return (low <= 0) & (high >= 0)


def error(d: Tensor, correction: int = 1) -> Tensor:
    return d.std(-1, correction=correction) / d.shape[-1] ** 0.5


def test_undecided_right() -> None:
    assert check_undecided(lambda d, t: holds_zero(d, t * error(d)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda d, t: ~holds_zero(d, t * error(d)), "other way round"),
        (lambda d, t: d.mean(-1) <= t * error(d), "sign of the mean"),
        (lambda d, t: holds_zero(d, t * d.std(-1)), "single runs"),
        (lambda d, t: holds_zero(d, error(d)), "take tau of them"),
        (lambda d, t: ~((d > 0).all(-1) | (d < 0).all(-1)), "equal signs"),
        (lambda d, t: holds_zero(d, t * error(d, 0)), "K − 1"),
        (lambda d, t: holds_zero(d, t * error(d)).double(), "truth values"),
        (lambda d, t: holds_zero(d, t * error(d))[:2], "expected shape (48,), got (2,)"),
        (lambda d, t: d.median(-1).values.abs() <= t * error(d), "not the median"),
        (lambda d, t: holds_zero(d, t * d.std(-1) / (d.shape[-1] - 1) ** 0.5), "not by √(K − 1)"),
        (lambda d, t: holds_zero(d, t * d.std(-1) / d.shape[-1]), "not by K"),
        (lambda d, t: holds_zero(d, t * d.var(-1) / d.shape[-1] ** 0.5), "that is the variance"),
        (lambda d, t: holds_zero(d, 1.96 * error(d)), "1.96"),
        (lambda d, t: holds_zero(d, 4.302653 * error(d)), "4.302653"),
        (lambda d, t: holds_zero(d, 2.776 * error(d)), "inputs are right"),
        (lambda d, t: holds_zero(d, t * error(d[:, :3])), "inputs are right"),
        (lambda d, t: None, "nothing yet"),
    ],
)
def test_undecided_mistakes(answer, diagnosis: str) -> None:
    verdict = check_undecided(answer)
    assert not verdict
    assert diagnosis in verdict.message


def first_seen(x: Tensor, u: int, T: int) -> list[float]:
    """Each target in the first window that has it."""
    L = x.shape[1]
    found = []
    for target in range(T):
        i = max(0, math.ceil((target - L + 1) / u))
        found.append(float(x[i, target - i * u]))
    return found


def each_window(new):
    """The function of the page, with another rule for the number of new targets."""

    def answer(x: Tensor, u: int, T: int) -> float:
        total, count = 0.0, 0
        for i, row in enumerate(x):
            begin, end = i * u, min(i * u + x.shape[1], T)
            fresh = new(i, u, x.shape[1], end - begin)
            total, count = total + float(row[end - begin - fresh : end - begin].sum()), count + fresh
        return total / count

    return answer


def test_sliding_loss_right() -> None:
    assert check_sliding_loss(lambda x, u, T: sum(first_seen(x, u, T)) / T)
    assert check_sliding_loss(
        each_window(lambda i, u, L, inside: u - (L - inside) if i else inside)
    )  # the last window is shorter by what it brings less


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (each_window(lambda i, u, L, inside: u if i else L), "the function of the page"),
        (each_window(lambda i, u, L, inside: inside), "most targets count more than once"),
        (
            each_window(lambda i, u, L, inside: u - (L - inside) if i else u),
            "its earlier targets are in no other",
        ),
        (lambda x, u, T: each_window(lambda i, u, L, inside: u if i else L)(x[:-1], u, T), "is left out"),
        (lambda x, u, T: torch.cat([x[0], x[1:, -u:].flatten()]).mean(), "as losses of 0"),
        (lambda x, u, T: sum(first_seen(x, u, T)), "this is the sum"),
        (lambda x, u, T: sum(first_seen(x, u, T)) / x.numel(), "number of all losses"),
        (lambda x, u, T: x.mean(), "expected"),
        (lambda x, u, T: first_seen(x, u, T), "return one number"),
        (lambda x, u, T: None, "nothing yet"),
    ],
)
def test_sliding_loss_mistakes(answer, diagnosis: str) -> None:
    verdict = check_sliding_loss(answer)
    assert not verdict
    assert diagnosis in verdict.message


def shrunk(K: int, tau: float) -> list[float] | None:
    """Halve all differences but one until the interval contains zero, if it ever does; all below zero."""
    d = torch.ones(K, dtype=torch.float64)
    for _ in range(60):
        if d.mean() < tau * d.std() / K**0.5:
            return (-7 * d).tolist()
        d[:-1] /= 2
    return None


def test_agreeing_right() -> None:
    assert check_agreeing(shrunk)
    assert check_agreeing(lambda K, tau: None if shrunk(K, tau) is None else torch.tensor(shrunk(K, tau)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda K, tau: torch.ones(K), "no scatter"),
        (lambda K, tau: torch.arange(K) + 1.0, "by equal steps"),
        (lambda K, tau: [1.0] + [0.0] * (K - 1), "has no sign"),
        (lambda K, tau: [1.0] + [0.25] * (K - 1), "the small ones must be smaller"),
        (lambda K, tau: [1.0] + [-0.5] * (K - 1), "not all differences have one sign"),
        (lambda K, tau: [1.0] + [1e-3] * (K - 1), "so it does not contain zero"),
        (lambda K, tau: [1.0, 2.0], "shape"),
        (lambda K, tau: [math.inf] * K, "return finite numbers"),
        (lambda K, tau: None if tau < 2 else shrunk(K, tau), "but there is an answer"),
        (lambda K, tau: None, "nothing yet"),
    ],
)
def test_agreeing_mistakes(answer, diagnosis: str) -> None:
    verdict = check_agreeing(answer)
    assert not verdict
    assert diagnosis in verdict.message


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (check_cut_and_slide, lambda x, u: two(slide(x, u), x.mean())),
        (check_difference, lambda a, b: two(paired(b, a).mean(), paired(a, b).std())),
        (check_undecided, lambda d, t: ~holds_zero(d, error(d))),
        (check_sliding_loss, lambda x, u, T: each_window(lambda i, u, L, inside: u if i else L)(x, u, T) * T),
        (check_agreeing, lambda K, tau: [-0.001] + [2.0] * (K - 1)),
    ],
)
def test_two_mistakes_at_once_are_not_taken_for_one(check, answer) -> None:
    verdict = check(answer)
    assert not verdict
    assert "Likely" not in verdict.message
