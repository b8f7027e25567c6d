"""The checkers of chapter 2 pass right answers and name each known mistake."""

import pytest
import torch
from torch import Tensor

from rope_lab import convert_layout, sinusoidal
from rope_lab.exercises.ch02 import (
    check_look_back,
    check_move_on,
    check_position_of,
    check_position_table,
)


def speeds(dim: int, base: float, exponent=lambda i, dim: -2 * i / dim) -> Tensor:
    return base ** exponent(torch.arange(dim // 2, dtype=torch.float64), dim)


def halves(length: int, theta: Tensor, first: int = 0) -> Tensor:
    angle = torch.arange(first, first + length, dtype=torch.float64)[:, None] * theta
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def with_exponent(exponent):
    return lambda length, dim, base: halves(length, speeds(dim, base, exponent))


def by_column(length: int, dim: int, base: float) -> Tensor:
    column = torch.arange(dim, dtype=torch.float64)
    angle = torch.arange(length)[:, None] * base ** (-2 * column / dim)
    return torch.cat((angle[:, : dim // 2].sin(), angle[:, dim // 2 :].cos()), dim=-1)


def test_position_table_right() -> None:
    assert check_position_table(lambda length, dim, base: halves(length, speeds(dim, base)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (
            lambda length, dim, base: sinusoidal(torch.arange(length), dim, base, dtype=torch.float64),
            "interleaved order",
        ),
        (
            lambda length, dim, base: torch.cat(
                halves(length, speeds(dim, base)).chunk(2, dim=-1)[::-1], dim=-1
            ),
            "sines come first, then",
        ),
        (with_exponent(lambda i, dim: 2 * i / dim), "minus in the exponent"),
        (with_exponent(lambda i, dim: -i / dim), "not −i/dim"),
        (with_exponent(lambda i, dim: -2 * i / (dim / 2)), "i counts coordinates"),
        (with_exponent(lambda i, dim: -i / (dim / 2 - 1)), "dim/2 − 1"),
        (with_exponent(lambda i, dim: -2 * (i + 1) / dim), "pairs are counted from 0"),
        (
            lambda length, dim, base: halves(length, speeds(dim, base), first=1),
            "positions are counted from 0",
        ),
        (lambda length, dim, base: halves(length, speeds(dim, 10_000.0)), "base is not used"),
        (with_exponent(lambda i, dim: -2 * (2 * i) / dim), "i counts coordinates"),
        (by_column, "its own frequency"),
        (lambda length, dim, base: halves(length, speeds(dim, base)).T, "expected shape (1, 2), got (2, 1)"),
        (lambda length, dim, base: halves(length, speeds(dim, base)) + 1, "first difference at [0, 0]"),
        (lambda length, dim, base: None, "nothing yet"),
    ],
)
def test_position_table_mistakes(answer, diagnosis: str) -> None:
    verdict = check_position_table(answer)
    assert not verdict
    assert diagnosis in verdict.message


def turn(p: Tensor, angle: Tensor, lower: float = -1) -> Tensor:
    sin, cos = p[..., ::2], p[..., 1::2]
    new_sin, new_cos = sin * angle.cos() + cos * angle.sin(), cos * angle.cos() + lower * sin * angle.sin()
    return torch.stack((new_sin, new_cos), dim=-1).flatten(-2)


def overwritten(p: Tensor, k: float, base: float) -> Tensor:
    angle = k * speeds(p.shape[-1], base)
    p[:, ::2] = p[:, ::2] * angle.cos() + p[:, 1::2] * angle.sin()
    p[:, 1::2] = p[:, 1::2] * angle.cos() - p[:, ::2] * angle.sin()
    return p


def in_halves(p: Tensor, k: float, base: float) -> Tensor:
    turned = turn(convert_layout(p, "half", "interleaved"), k * speeds(p.shape[-1], base))
    return convert_layout(turned, "interleaved", "half")


def at(positions: Tensor, p: Tensor, base: float) -> Tensor:
    return sinusoidal(positions, p.shape[-1], base, dtype=torch.float64)


def slowest_hand(p: Tensor, k: float, base: float) -> Tensor:
    m = torch.atan2(p[:, -2], p[:, -1]) % (2 * torch.pi) / speeds(p.shape[-1], base)[-1]
    return at(m + k, p, base)


def test_move_on_right() -> None:
    assert check_move_on(lambda p, k, base: turn(p, k * speeds(p.shape[-1], base)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda p, k, base: turn(p, -k * speeds(p.shape[-1], base)), "moves back"),
        (lambda p, k, base: turn(p, speeds(p.shape[-1], base)), "move on by one"),
        (lambda p, k, base: p, "nothing moved"),
        (lambda p, k, base: at(torch.arange(len(p)) + k, p, base), "not told their positions"),
        (lambda p, k, base: p + at(torch.full((len(p),), k), p, base), "vectors do not"),
        (lambda p, k, base: turn(p, k * torch.ones(p.shape[-1] // 2)), "at one frequency"),
        (overwritten, "uses the first result"),
        (lambda p, k, base: turn(p, k * speeds(p.shape[-1], base), lower=1), "minus of the second row"),
        (slowest_hand, "slowest hand"),
        (lambda p, k, base: turn(p, k * speeds(p.shape[-1], 10_000.0)), "base is not used"),
        (in_halves, "sine and cosine are neighbours"),
        (lambda p, k, base: p[0], "expected shape (1, 4), got (4,)"),
        (lambda p, k, base: p + 1, "first difference at [0, 0]"),
        (lambda p, k, base: None, "nothing yet"),
    ],
)
def test_move_on_mistakes(answer, diagnosis: str) -> None:
    verdict = check_move_on(answer)
    assert not verdict
    assert diagnosis in verdict.message


def matrix(by: float, dim: int, base: float, *, one_speed: bool = False) -> Tensor:
    """R of the position `by`."""
    A = torch.zeros(dim, dim, dtype=torch.float64)
    for i, theta in enumerate(speeds(dim, base) ** (0 if one_speed else 1)):
        cos, sin = (by * theta).cos(), (by * theta).sin()
        A[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = torch.stack((cos, -sin, sin, cos)).view(2, 2)
    return A


def outer(r: float, dim: int, base: float) -> Tensor:
    now, then = sinusoidal(torch.tensor([r, 0]), dim, base, dtype=torch.float64)
    return torch.outer(now, then)


def test_look_back_right() -> None:
    assert check_look_back(lambda r, dim, base: matrix(r, dim, base).T)
    A = matrix(3, 6, 100.0).T
    p = sinusoidal(torch.arange(20), 6, 100.0, dtype=torch.float64)
    distance = torch.arange(20)[:, None] - torch.arange(20) - 3
    torch.testing.assert_close(p @ A @ p.T, (distance[..., None] * speeds(6, 100.0)).cos().sum(-1))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (matrix, "tokens ahead"),
        (lambda r, dim, base: torch.eye(dim, dtype=torch.float64), "identity"),
        (lambda r, dim, base: matrix(1, dim, base).T, "one token back"),
        (lambda r, dim, base: matrix(2 * r, dim, base).T, "twice as far"),
        (lambda r, dim, base: -matrix(r, dim, base).T, "negative"),
        (
            lambda r, dim, base: convert_layout(
                convert_layout(matrix(r, dim, base).T, "interleaved", "half"), "interleaved", "half", axis=0
            ),
            "all sines first",
        ),
        (lambda r, dim, base: matrix(r, dim, base, one_speed=True).T, "at one frequency"),
        (outer, "only one position"),
        (lambda r, dim, base: matrix(r, dim, base).diag().diag(), "only the cosines"),
        (lambda r, dim, base: matrix(r, dim, base)[0], "expected shape (2, 2), got (2,)"),
        (lambda r, dim, base: matrix(r, dim, base) + 1, "first difference at [0, 0]"),
        (lambda r, dim, base: None, "nothing yet"),
    ],
)
def test_look_back_mistakes(answer, diagnosis: str) -> None:
    verdict = check_look_back(answer)
    assert not verdict
    assert diagnosis in verdict.message


def products(p: Tensor, base: float) -> Tensor:
    return p @ at(torch.arange(1000), p, base).T


def hand(p: Tensor, base: float, pair: int) -> Tensor:
    angle = torch.atan2(p[:, 2 * pair], p[:, 2 * pair + 1]) % (2 * torch.pi)
    return (angle / speeds(p.shape[-1], base)[pair]).round().long()


def backwards(p: Tensor, base: float) -> Tensor:
    pairs = at(torch.arange(1000), p, base).view(1000, -1, 2).flip(1).flatten(1)
    return (p @ pairs.T).argmax(-1)


def test_position_of_right() -> None:
    assert check_position_of(lambda p, base: products(p, base).argmax(-1))
    assert check_position_of(lambda p, base: products(p, base).argmax(-1).tolist())
    assert check_position_of(
        lambda p, base: torch.cdist(p, at(torch.arange(1000), p, base)).argmin(-1).to(torch.int32)
    )


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda p, base: hand(p, base, 0), "only the fastest hand"),
        (lambda p, base: hand(p, base, p.shape[-1] // 2 - 1), "only the slowest hand"),
        (lambda p, base: products(p, base).argmax(-1) + 1, "counted from 0"),
        (backwards, "fastest comes first"),
        (lambda p, base: products(p, base).argmin(-1), "largest inner product"),
        (lambda p, base: products(p, base).argmax(-1).double(), "return integers"),
        (lambda p, base: products(p, base).argmax(-1) - 1, "one too low"),
        (lambda p, base: products(p, 10_000.0).argmax(-1), "base is not used"),
        (lambda p, base: products(p, base).argmax(0), "expected shape (1,), got (1000,)"),
        (lambda p, base: None, "nothing yet"),
    ],
)
def test_position_of_mistakes(answer, diagnosis: str) -> None:
    verdict = check_position_of(answer)
    assert not verdict
    assert diagnosis in verdict.message
