"""The checkers of chapter 17 pass right answers and name each known mistake."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab.exercises.ch17 import check_rotate_keras, check_telltale, check_to_kernel, check_turned_by


def by_rule(batch: int, tokens: int) -> list[list[int]]:
    rows = max(batch, tokens) if 1 in (batch, tokens) and tokens > 1 else batch
    return [[0 if tokens == 1 else row] * tokens for row in range(rows)]


def by_numpy(batch: int, tokens: int) -> np.ndarray:
    return np.broadcast_arrays(np.arange(tokens)[:, None], np.empty((batch, tokens)))[0]


def test_turned_by_right() -> None:
    assert check_turned_by(by_rule)
    assert check_turned_by(by_numpy)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda b, n: torch.arange(n).repeat(b, 1), "corrected index"),
        (lambda b, n: by_numpy(b, n)[:b], "the batch grows"),
        (lambda b, n: [[row] * n for row in range(max(b, n))], "the table has one row"),
        (lambda b, n: by_numpy(b, n) + 1, "first position is 0"),
        (lambda b, n: by_numpy(b, n).tolist()[0], "shape"),
        (lambda b, n: None, "nothing yet"),
    ],
)
def test_turned_by_mistakes(answer, diagnosis: str) -> None:
    verdict = check_turned_by(answer)
    assert not verdict
    assert diagnosis in verdict.message


def by_complex(x: Tensor, positions: Tensor, base: float) -> Tensor:
    a, b = x.chunk(2, -1)
    dim = x.shape[-1]
    speed = torch.tensor([math.exp(-2 * i / dim * math.log(base)) for i in range(dim // 2)])
    z = torch.complex(a, b) * torch.exp(1j * positions[..., None, None] * speed.double())
    return torch.cat((z.real, z.imag), -1)


def by_loops(x: Tensor, positions: Tensor, base: float) -> np.ndarray:
    out = x.numpy().copy()
    half = x.shape[-1] // 2
    for b, n, h, i in np.ndindex(*x.shape[:3], half):
        angle = float(positions[b, n]) * base ** (-i / half)
        u, v = (float(part) for part in (x[b, n, h, i], x[b, n, h, i + half]))
        out[b, n, h, i] = u * math.cos(angle) - v * math.sin(angle)
        out[b, n, h, i + half] = u * math.sin(angle) + v * math.cos(angle)
    return out


def test_rotate_keras_right() -> None:
    assert check_rotate_keras(by_complex)
    assert check_rotate_keras(by_loops)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda x, m, base: by_complex(x, -m, base), "clockwise"),
        (lambda x, m, base: by_complex(x, m[:1].expand(len(x), -1), base), "positions of the first row"),
        (lambda x, m, base: by_complex(x, torch.arange(x.shape[1]).expand(len(x), -1), base), "not used"),
        (
            lambda x, m, base: by_complex(x, torch.arange(len(x))[:, None].expand(-1, x.shape[1]), base),
            "by the batch index",
        ),
        (
            lambda x, m, base: by_complex(
                x.transpose(1, 2), torch.arange(x.shape[2]).expand(len(x), -1), base
            ).transpose(1, 2),
            "number of the head",
        ),
        (lambda x, m, base: by_complex(x, m, 1e4), "not always 10,000"),
        (lambda x, m, base: by_complex(x, m, base**0.5), "−i/D"),
        (lambda x, m, base: x, "x itself"),
        (lambda x, m, base: 2 * by_complex(x, m, base), "length of every head"),
        (lambda x, m, base: None, "nothing yet"),
    ],
)
def test_rotate_keras_mistakes(answer, diagnosis: str) -> None:
    verdict = check_rotate_keras(answer)
    assert not verdict
    assert diagnosis in verdict.message


def by_entries(weight: Tensor, heads: int) -> np.ndarray:
    rows, width = weight.shape
    dim = rows // heads
    return np.array(
        [[[float(weight[h * dim + d, c]) for d in range(dim)] for h in range(heads)] for c in range(width)]
    )


def test_to_kernel_right() -> None:
    assert check_to_kernel(by_entries)
    assert check_to_kernel(lambda w, heads: w.unflatten(0, (heads, -1)).permute(2, 0, 1))


def test_the_kernel_is_the_one_that_keras_multiplies_with() -> None:
    weight, x = torch.randn(12, 5), torch.randn(2, 7, 5)
    theirs = torch.einsum("btc,chd->bthd", x, torch.tensor(by_entries(weight, 3)).float())
    torch.testing.assert_close(theirs, (x @ weight.T).unflatten(-1, (3, 4)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda w, heads: w.reshape(w.shape[1], heads, -1), "transpose before you reshape"),
        (lambda w, heads: w.T.unflatten(1, (-1, heads)).mT, "block of consecutive rows"),
        (lambda w, heads: w.unflatten(0, (heads, -1)), "(H, D, C)"),
        (lambda w, heads: w.T, "Dense"),
        (lambda w, heads: -w.T.unflatten(1, (heads, -1)), "sign"),
        (lambda w, heads: None, "nothing yet"),
    ],
)
def test_to_kernel_mistakes(answer, diagnosis: str) -> None:
    verdict = check_to_kernel(answer)
    assert not verdict
    assert diagnosis in verdict.message


def rotation(row: int, freqs: Tensor) -> Tensor:
    c, s = (row * freqs).cos().diag(), (row * freqs).sin().diag()
    return torch.cat((torch.cat((c, -s), 1), torch.cat((s, c), 1)))


def by_trying(row: int, freqs: Tensor) -> Tensor | None:
    R = rotation(row, freqs)
    for seed in range(3):
        A = torch.randn(R.shape, generator=torch.Generator().manual_seed(seed)).double()
        if not torch.allclose(R.T @ A @ R, A, atol=1e-6):
            return A
    return None


def test_telltale_right() -> None:
    assert check_telltale(by_trying)
    assert check_telltale(
        lambda row, freqs: None if (found := by_trying(row, freqs)) is None else 1e-3 * found
    )


def unless_none(answer):
    return lambda row, freqs: None if by_trying(row, freqs) is None else answer(row, freqs)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (unless_none(lambda row, freqs: torch.eye(2 * len(freqs))), "identity commutes"),
        (unless_none(lambda row, freqs: rotation(1, freqs)), "equals A there"),
        (lambda row, freqs: torch.randn(2 * len(freqs), 2 * len(freqs)), "equals A there"),
        (unless_none(lambda row, freqs: torch.zeros(2 * len(freqs), 2 * len(freqs))), "zeros"),
        (unless_none(lambda row, freqs: torch.ones(3, 2)), "shape"),
        (lambda row, freqs: None, "there is another for"),
    ],
)
def test_telltale_mistakes(answer, diagnosis: str) -> None:
    verdict = check_telltale(answer)
    assert not verdict
    assert diagnosis in verdict.message
