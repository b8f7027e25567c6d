"""The checkers of chapter 2 pass right answers and name each known mistake."""

import math

import pytest
import torch
from torch import Tensor

from rope_lab import convert_layout, sinusoidal
from rope_lab.exercises.ch02 import (
    check_also_relative,
    check_look_back,
    check_move_on,
    check_position_of,
    check_position_table,
    check_text_positions,
)


def speeds(dim: int, base: float, exponent=lambda i, dim: -2 * i / dim) -> Tensor:
    return base ** exponent(torch.arange(dim // 2, dtype=torch.float64), dim)


def halves(length: int, theta: Tensor, first: int = 0) -> Tensor:
    angle = torch.arange(first, first + length, dtype=torch.float64)[:, None] * theta
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def base_of(dim: int, period: float) -> float:
    """From θ = b^(−(C−2)/C) = 2π/period, by logarithms."""
    return math.exp(math.log(period / (2 * math.pi)) * dim / (dim - 2))


def right_table(length: int, dim: int, period: float) -> Tensor:
    return halves(length, speeds(dim, base_of(dim, period)))


def with_exponent(exponent):
    return lambda length, dim, period: halves(length, speeds(dim, base_of(dim, period), exponent))


def with_base(base):
    return lambda length, dim, period: halves(length, speeds(dim, base(dim, period)))


def by_column(length: int, dim: int, period: float) -> Tensor:
    column = torch.arange(dim, dtype=torch.float64)
    angle = torch.arange(length)[:, None] * base_of(dim, period) ** (-2 * column / dim)
    return torch.cat((angle[:, : dim // 2].sin(), angle[:, dim // 2 :].cos()), dim=-1)


@pytest.mark.parametrize(
    "answer",
    [
        right_table,
        lambda length, dim, period: halves(
            length, torch.logspace(0, math.log10(2 * math.pi / period), dim // 2, dtype=torch.float64)
        ),
        lambda length, dim, period: halves(
            length, speeds(dim, period / (2 * math.pi), lambda i, dim: -i / (dim / 2 - 1))
        ),
        lambda *a: right_table(*a).tolist(),
    ],
)
def test_position_table_right(answer) -> None:
    assert check_position_table(answer)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (
            lambda length, dim, period: sinusoidal(
                torch.arange(length), dim, base_of(dim, period), dtype=torch.float64
            ),
            "interleaved order",
        ),
        (lambda *a: torch.cat(right_table(*a).chunk(2, dim=-1)[::-1], dim=-1), "sines come first, then"),
        (with_exponent(lambda i, dim: 2 * i / dim), "minus in the exponent"),
        (with_exponent(lambda i, dim: -i / dim), "not −i/dim"),
        (with_exponent(lambda i, dim: -2 * i / (dim / 2)), "i counts coordinates"),
        (with_exponent(lambda i, dim: -i / (dim / 2 - 1)), "dim/2 − 1"),
        (with_exponent(lambda i, dim: -2 * (i + 1) / dim), "pairs are counted from 0"),
        (with_exponent(lambda i, dim: -2 * (2 * i) / dim), "i counts coordinates"),
        (with_base(lambda dim, period: 10_000.0), "period is not used"),
        (with_base(lambda dim, period: period), "taken for the base"),
        (with_base(lambda dim, period: period / 2 / math.pi), "not 1/b"),
        (with_base(lambda dim, period: period ** (dim / (dim - 2))), "not after 1/θ"),
        (
            lambda length, dim, period: halves(length, speeds(dim, base_of(dim, period)), first=1),
            "positions are counted from 0",
        ),
        (by_column, "its own frequency"),
        (lambda *a: right_table(*a).T, "expected shape (1, 4), got (4, 1)"),
        (lambda *a: right_table(*a) + 1, "first difference at [0, 0]"),
        (lambda *a: None, "nothing yet"),
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


def for_halves(A: Tensor) -> Tensor:
    """Rows and columns in the order of all sines first."""
    return convert_layout(convert_layout(A, "interleaved", "half"), "interleaved", "half", axis=0)


def back(r: float, dim: int, base: float) -> Tensor:
    return for_halves(matrix(r, dim, base).T)


def four_blocks(r: float, dim: int, base: float) -> Tensor:
    """Written without a change of order: diagonals of cosines and sines."""
    angle = r * speeds(dim, base)
    cos, sin = angle.cos().diag(), angle.sin().diag()
    return torch.cat((torch.cat((cos, sin), 1), torch.cat((-sin, cos), 1)))


def outer(r: float, dim: int, base: float) -> Tensor:
    now, then = convert_layout(
        sinusoidal(torch.tensor([r, 0]), dim, base, dtype=torch.float64), "interleaved", "half"
    )
    return torch.outer(now, then)


def test_look_back_right() -> None:
    assert check_look_back(back)
    assert check_look_back(four_blocks)
    A, p = check_look_back.reference(3, 6, 100.0), halves(20, speeds(6, 100.0))
    distance = torch.arange(20)[:, None] - torch.arange(20) - 3
    torch.testing.assert_close(p @ A @ p.T, (distance[..., None] * speeds(6, 100.0)).cos().sum(-1))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda r, dim, base: back(r, dim, base).T, "r tokens ahead"),
        (lambda r, dim, base: torch.eye(dim, dtype=torch.float64), "identity"),
        (lambda r, dim, base: back(1, dim, base), "one token back"),
        (lambda r, dim, base: back(2 * r, dim, base), "twice as far"),
        (lambda r, dim, base: -back(r, dim, base), "negative"),
        (lambda r, dim, base: matrix(r, dim, base).T, "here all sines come first"),
        (matrix, "neighbours, and looks ahead"),
        (lambda r, dim, base: for_halves(matrix(r, dim, base, one_speed=True).T), "at one frequency"),
        (outer, "only one position"),
        (lambda r, dim, base: back(r, dim, base).diag().diag(), "only the cosines"),
        (lambda r, dim, base: back(int(r), dim, base), "cut to a whole number"),
        (lambda r, dim, base: back(r, dim, base)[0], "expected shape (2, 2), got (2,)"),
        (lambda r, dim, base: back(r, dim, base) + 1, "first difference at [0, 0]"),
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


def coupled(freqs: Tensor, block: Tensor, *, always: bool = False) -> Tensor | None:
    """A block between each two hands of one frequency, or between all hands."""
    n = len(freqs)
    same = freqs[:, None].isclose(freqs) & ~torch.eye(n, dtype=torch.bool)
    if always:
        same = ~torch.eye(n, dtype=torch.bool)
    return torch.kron(same.double(), block) if same.any() else None


def by_averages(freqs: Tensor) -> Tensor | None:
    """Average a random matrix over shifts, as in equation 2.15, and take the relative part away."""
    A = torch.randn(2 * len(freqs), 2 * len(freqs), dtype=torch.float64)
    mean = torch.zeros_like(A)
    for t in range(3_000):
        angle = t * freqs
        R = torch.block_diag(
            *torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), -1).view(-1, 2, 2)
        )
        mean += R @ A @ R.T / 3_000
    for i in range(len(freqs)):
        mean[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = 0
    return torch.where(mean.abs() < 0.01, 0, mean) if mean.abs().max() > 0.05 else None


quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)


def test_also_relative_right() -> None:
    for seed in (0, 31, 32):
        for block in (torch.eye(2, dtype=torch.float64), quarter, 0.3 * quarter - 1e-3 * torch.eye(2)):
            assert check_also_relative(lambda f, block=block: coupled(f, block), seed=seed)
    assert check_also_relative(
        lambda f: (
            torch.eye(2 * len(f)).roll(2, 0).tolist() if len(set(f.tolist())) == 1 else coupled(f, quarter)
        )
    )


def test_whoever_averages_over_shifts_finds_the_same() -> None:
    torch.manual_seed(0)
    (freqs,) = next(case.inputs for case in check_also_relative.cases() if len(case.inputs[0]) == 3)
    found = by_averages(freqs)
    blocks = found.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).norm(dim=(1, 3)) > 0
    assert blocks.equal(freqs[:, None].eq(freqs) & ~torch.eye(3, dtype=torch.bool))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda f: torch.eye(2 * len(f)), "has 100% of the sum of squares"),
        (lambda f: torch.eye(2 * len(f)), "its own relative part"),
        (lambda f: coupled(f, quarter, always=True), "at (1, 0), and"),
        (lambda f: coupled(f, torch.tensor([[0, 1.0], [1, 0]])), "your A gives the term"),
        (
            lambda f: coupled(f, torch.ones(2, 2)) if coupled(f, quarter) is not None else None,
            "your A gives the term",
        ),
        (lambda f: None if len(f) == 2 else coupled(f, quarter), "but there is an answer"),
        (lambda f: torch.ones(2 * len(f), 2 * len(f)), "relative part of A has to be 0"),
        (lambda f: torch.zeros(2 * len(f), 2 * len(f)), "must not be 0"),
        (lambda f: torch.ones(len(f), len(f)), "A couples 4 coordinates with 4, got shape (2, 2)"),
        (lambda f: None, "nothing yet"),
    ],
)
def test_also_relative_mistakes(answer, diagnosis: str) -> None:
    verdict = check_also_relative(answer)
    assert not verdict
    assert diagnosis in verdict.message


def counted(mask: Tensor, *, of=lambda row: 0) -> list[list[int]]:
    """Row by row, with −7 for padding; `of` is the position of the first token."""
    out = []
    for row in mask.tolist():
        m, line = of(row), []
        for is_text in row:
            line.append(m if is_text else -7)
            m += is_text
        out.append(line)
    return out


@pytest.mark.parametrize(
    "answer",
    [
        counted,
        lambda mask: mask.cumsum(-1) - 1,
        lambda mask: (mask.cumsum(-1) - 1).clamp(min=0) * mask,
        lambda mask: torch.arange(mask.shape[1]) - mask.argmax(-1, keepdim=True),
    ],
)
def test_text_positions_right(answer) -> None:
    assert check_text_positions(answer)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda m: torch.arange(m.shape[1]) - (1 - m).sum(-1, keepdim=True), "unmended"),
        (lambda m: torch.arange(m.shape[1]).expand(m.shape), "these are the columns"),
        (lambda m: torch.arange(m.shape[1]) * m, "begins in column 1: its first token has the position 1"),
        (lambda m: counted(m, of=lambda row: 1), "its first token has the position 1"),
        (lambda m: m.cumsum(-1), "counted from 1"),
        (
            lambda m: (torch.arange(m.shape[1]) - (1 - m).sum(-1, keepdim=True)).abs(),
            "tokens 0 and 1 have the",
        ),
        (
            lambda m: (torch.arange(m.shape[1]) - (1 - m).sum(-1, keepdim=True)).clamp(min=0),
            "positions 0 and 0",
        ),
        (lambda m: m.cumsum(0) - 1, "its tokens 0 and 1 have the positions 0 and 0"),
        (lambda m: m.cumsum(-1).double() - 1, "return integers, got torch.float64"),
        (lambda m: m.cumsum(-1)[0] - 1, "expected shape (1, 2), got (2,)"),
        (lambda m: None, "nothing yet"),
    ],
)
def test_text_positions_mistakes(answer, diagnosis: str) -> None:
    verdict = check_text_positions(answer)
    assert not verdict
    assert diagnosis in verdict.message


def test_two_mistakes_at_once_have_no_name() -> None:
    for verdict in (
        check_position_table(
            lambda n, dim, period: halves(n, speeds(dim, period, lambda i, dim: -i / dim), 1)
        ),
        check_also_relative(lambda f: torch.eye(2 * len(f)).roll(2, 0) + torch.eye(2 * len(f))),
        check_text_positions(lambda m: m.flip(-1).cumsum(-1).flip(-1)),
    ):
        assert not verdict
        assert "Likely" not in verdict.message
