"""The checkers of chapter 3 pass right answers and name each known mistake."""

import math

import pytest
import torch
from torch import Tensor

from rope_lab.exercises.ch03 import check_rotation_matrix, check_score, check_turn


def turn(x: Tensor, m: float, theta: float, *, power: int = 1) -> Tensor:
    return torch.view_as_real(
        torch.view_as_complex(x) * complex(math.cos(m * theta), power * math.sin(m * theta))
    )


def rows(x: Tensor, m: float, theta: float, first: float, second: float) -> Tensor:
    (a, b), cos, sin = x.unbind(-1), math.cos(m * theta), math.sin(m * theta)
    return torch.stack((a * cos + first * b * sin, b * cos + second * a * sin), dim=-1)


def overwritten(x: Tensor, m: float, theta: float) -> Tensor:
    cos, sin = math.cos(m * theta), math.sin(m * theta)
    x[:, 0] = x[:, 0] * cos - x[:, 1] * sin
    x[:, 1] = x[:, 1] * cos + x[:, 0] * sin
    return x


def test_turn_right() -> None:
    assert check_turn(turn)
    assert check_turn(
        lambda x, m, theta: x @ torch.tensor(blocks([m * theta]).tolist()).T
    )  # only in single precision
    assert check_turn(lambda x, m, theta: rows(x, m, theta, -1, 1))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda x, m, theta: turn(x, m, theta, power=-1), "turns clockwise"),
        (lambda x, m, theta: rows(x, m, theta, 1, -1), "turns clockwise"),
        (lambda x, m, theta: rows(x, m, theta, 1, 1), "minus of −sin mθ is missing"),
        (lambda x, m, theta: turn(x, 1, theta), "the angle is m·theta"),
        (lambda x, m, theta: turn(x, m, math.radians(theta)), "not in degrees"),
        (lambda x, m, theta: turn(x, 1, theta**m), "not theta^m"),
        (
            lambda x, m, theta: torch.cat([turn(row[None], n, theta) for n, row in enumerate(x)]),
            "row n turns",
        ),
        (overwritten, "both rows take the old coordinates"),
        (lambda x, m, theta: torch.view_as_complex(turn(x, m, theta)), "return a real tensor"),
        (lambda x, m, theta: turn(x, m, theta).T, "expected shape (1, 2), got (2, 1)"),
        (lambda x, m, theta: x, "first difference at [0, 0]"),
        (lambda x, m, theta: None, "nothing yet"),
    ],
)
def test_turn_mistakes(answer, diagnosis: str) -> None:
    verdict = check_turn(answer)
    assert not verdict
    assert diagnosis in verdict.message


def blocks(angles: list[float], partner: int | None = None) -> Tensor:
    dim = 2 * len(angles)
    matrix = torch.zeros(dim, dim, dtype=torch.float64)
    for i, angle in enumerate(angles):
        a, b = (2 * i, 2 * i + 1) if partner is None else (i, i + partner)
        matrix[a, a] = matrix[b, b] = math.cos(angle)
        matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return matrix


def speeds(dim: int, base: float, exponent) -> list[float]:
    return [base ** exponent(i, dim) for i in range(dim // 2)]


def right(m: float, dim: int, base: float) -> Tensor:
    return blocks([m * theta for theta in speeds(dim, base, lambda i, d: -2 * i / d)])


def with_exponent(exponent):
    return lambda m, dim, base: blocks([m * theta for theta in speeds(dim, base, exponent)])


def test_rotation_matrix_right() -> None:
    assert check_rotation_matrix(right)
    assert check_rotation_matrix(lambda m, dim, base: right(m, dim, base).tolist())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda m, dim, base: right(m, dim, base).T, "turns clockwise"),
        (with_exponent(lambda i, d: 2 * i / d), "minus in the exponent is missing"),
        (with_exponent(lambda i, d: -i / d), "not −i/dim"),
        (with_exponent(lambda i, d: -2 * (i + 1) / d), "counted from 0"),
        (with_exponent(lambda i, d: -2 * i / (d / 2)), "divide by the number of pairs"),
        (with_exponent(lambda i, d: 0), "one frequency"),
        (with_exponent(lambda i, d: -2 * (2 * i) / d), "i counts coordinates"),
        (lambda m, dim, base: right(m, dim, 10_000.0), "base is not used"),
        (lambda m, dim, base: torch.matrix_power(right(1, dim, base), int(m)), "cut to a whole number"),
        (lambda m, dim, base: right(1, dim, base), "the position is missing"),
        (
            lambda m, dim, base: blocks(
                [m * t for t in speeds(dim, base, lambda i, d: -2 * i / d)], dim // 2
            ),
            "i + dim/2",
        ),
        (lambda m, dim, base: right(m, dim - 2, base), "expected shape (2, 2), got (0, 0)"),
        (lambda m, dim, base: None, "nothing yet"),
    ],
)
def test_rotation_matrix_mistakes(answer, diagnosis: str) -> None:
    verdict = check_rotation_matrix(answer)
    assert not verdict
    assert diagnosis in verdict.message


def pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.view(-1, 2))


def terms(q: Tensor, k: Tensor, distance: float, base: float) -> Tensor:
    theta = base ** (-torch.arange(0, len(q), 2, dtype=torch.float64) / len(q))
    return pairs(q) * pairs(k).conj() * torch.exp(1j * distance * theta)


def conj(x: Tensor) -> Tensor:
    return torch.view_as_real(pairs(x).conj().resolve_conj()).flatten()


def halves(x: Tensor) -> Tensor:
    return x.view(2, -1).T.flatten()


def test_score_right() -> None:
    assert check_score(lambda q, k, distance, base: terms(q, k, distance, base).sum().real)
    assert check_score(lambda q, k, distance, base: terms(q, k, distance, base).sum().real.item())
    assert check_score(
        lambda q, k, distance, base: q.float() @ right(-distance, len(q), base).float() @ k.float()
    )
    assert check_score(lambda q, k, distance, base: q @ right(-distance, len(q), base) @ k)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda q, k, distance, base: terms(q, k, -distance, base).sum().real, "turned round"),
        (
            lambda q, k, distance, base: terms(q, conj(k), distance, base).sum().real,
            "conjugate of k is missing",
        ),
        (
            lambda q, k, distance, base: terms(conj(q), conj(k), distance, base).sum().real,
            "conjugated instead of k",
        ),
        (lambda q, k, distance, base: terms(q, k, distance, 10_000.0).sum().real, "base is not used"),
        (lambda q, k, distance, base: terms(q, k, distance, base**2).sum().real, "i counts coordinates"),
        (lambda q, k, distance, base: q @ k, "at distance 0"),
        (lambda q, k, distance, base: terms(q, k, distance, base).sum().abs(), "length of the sum"),
        (lambda q, k, distance, base: terms(q, k, distance, base).sum().imag, "imaginary part"),
        (lambda q, k, distance, base: terms(q, k, distance, base).mean().real, "mean over pairs"),
        (lambda q, k, distance, base: terms(q, k, distance, base).real, "sum over the pairs"),
        (
            lambda q, k, distance, base: terms(halves(q), halves(k), distance, base).sum().real,
            "neighbours here",
        ),
        (lambda q, k, distance, base: terms(q, k, distance, base).sum(), "return a real tensor"),
        (lambda q, k, distance, base: 1.0, "got 1."),
        (lambda q, k, distance, base: None, "nothing yet"),
    ],
)
def test_score_mistakes(answer, diagnosis: str) -> None:
    verdict = check_score(answer)
    assert not verdict
    assert diagnosis in verdict.message
