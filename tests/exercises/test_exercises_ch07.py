"""The checkers of chapter 7 pass right answers and name each known mistake."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab import angles, rotate
from rope_lab.exercises.ch07 import (
    check_absorbed_scores,
    check_carrier,
    check_relative_values,
    check_tokens_that_fit,
)


def held(n: int, widths, windows) -> int:
    return sum(w * (n if most is None else min(n, most)) for w, most in zip(widths, windows, strict=True))


def counted(memory, widths, windows) -> int:
    n = 0
    while held(n + 1, widths, windows) <= memory:
        n += 1
    return n


def bisected(memory, widths, windows) -> int:
    low, high = 0, memory + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if held(middle, widths, windows) <= memory else (low, middle)
    return low


def layer_by_layer(memory, widths, windows) -> np.int64:
    """Whatever windows fill first pay their share and leave."""
    open_, spent = list(zip(widths, windows, strict=True)), 0
    for most in sorted({most for most in windows if most is not None}):
        if spent + most * sum(w for w, _ in open_) > memory:
            break
        spent += most * sum(w for w, m in open_ if m == most)
        open_ = [(w, m) for w, m in open_ if m != most]
    return np.int64((memory - spent) // sum(w for w, _ in open_))


@pytest.mark.parametrize(
    "answer",
    [
        counted,
        bisected,
        layer_by_layer,
        lambda *given: float(counted(*given)),
        lambda *g: torch.tensor(counted(*g)),
    ],
)
def test_tokens_that_fit_right(answer) -> None:
    for seed in (0, 71, 72):
        assert check_tokens_that_fit(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda m, w, win: m // sum(w), "the windows are ignored"),
        (lambda m, w, win: m // sum(a for a, b in zip(w, win, strict=True) if b is None), "need memory too"),
        (
            lambda m, w, win: (
                (m - sum(a * b for a, b in zip(w, win, strict=True) if b is not None))
                // sum(a for a, b in zip(w, win, strict=True) if b is None)
            ),
            "only a part of it",
        ),
        (lambda *g: counted(*g) + 1, "one token too many"),
        (lambda *g: counted(*g) - 1, "one token too few"),
        (lambda m, w, win: m // w[0], "first layer alone"),
        (lambda m, w, win: counted(m, [2 * a for a in w], win), "nothing has to be doubled"),
        (lambda m, w, win: counted(m, w, win) + 0.5, "return an integer"),
        (lambda m, w, win: -5, "not negative"),
        (lambda m, w, win: 12, "expected"),
        (lambda m, w, win: None, "nothing yet"),
    ],
)
def test_tokens_that_fit_mistakes(answer, diagnosis: str) -> None:
    verdict = check_tokens_that_fit(answer)
    assert not verdict
    assert diagnosis in verdict.message


def at(v: Tensor, freqs: Tensor, sign: int = 1) -> Tensor:
    return rotate(v, angles(sign * torch.arange(len(v)), freqs, dtype=v.dtype))


def there_and_back(w: Tensor, v: Tensor, f: Tensor) -> Tensor:
    return at(w @ at(v, f), f, -1)


def by_complex_numbers(w: Tensor, v: Tensor, f: Tensor) -> list[list[float]]:
    z = torch.view_as_complex(v.unflatten(-1, (-1, 2)))
    out = torch.zeros_like(z)
    for m in range(len(v)):
        for n in range(len(v)):
            out[m] += w[m, n] * z[n] * torch.exp(1j * (n - m) * f)
    return torch.view_as_real(out).flatten(-2).tolist()


@pytest.mark.parametrize(
    "answer", [there_and_back, by_complex_numbers, lambda *g: there_and_back(*g).float().numpy()]
)
def test_relative_values_right(answer) -> None:
    assert check_relative_values(answer)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda w, v, f: w @ at(v, f), "not turned back"),
        (lambda w, v, f: at(w @ v, f, -1), "only the output is"),
        (lambda w, v, f: w @ v, "the output of RoPE"),
        (lambda w, v, f: at(w @ at(v, f, -1), f), "wrong sign"),
        (lambda w, v, f: at(w @ at(v, f), f), "turned on by its own position"),
        (lambda w, v, f: there_and_back(w.mT, v, f), "summed over the queries"),
        (lambda w, v, f: at(there_and_back(w, v, f), f, -1), "turned back twice"),
        (lambda w, v, f: there_and_back(w, v, f)[None], "expected shape"),
        (lambda w, v, f: there_and_back(w, v, f) + 1, "the first query is at position 0"),
        (lambda w, v, f: None, "nothing yet"),
    ],
)
def test_relative_values_mistakes(answer, diagnosis: str) -> None:
    verdict = check_relative_values(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def formed(q: Tensor, q_r: Tensor, c: Tensor, k_r: Tensor, W: Tensor) -> Tensor:
    """With every key formed."""
    k = torch.cat(((W @ c.mT).mT, k_r.expand(len(q), -1, -1)), -1)
    query = torch.cat((q, q_r), -1)
    return query @ k.mT / query.shape[-1] ** 0.5


def head_by_head(q: Tensor, q_r: Tensor, c: Tensor, k_r: Tensor, W: Tensor) -> np.ndarray:
    heads = [(a @ M @ c.T + b @ k_r.T) for a, b, M in zip(q, q_r, W, strict=True)]
    return torch.stack(heads).numpy() / np.sqrt(q.shape[-1] + q_r.shape[-1])


@pytest.mark.parametrize("answer", [formed, head_by_head])
def test_absorbed_scores_right(answer) -> None:
    assert check_absorbed_scores(answer)


def sums(q: Tensor, q_r: Tensor, c: Tensor, k_r: Tensor, W: Tensor) -> Tensor:
    return (q @ W) @ c.mT + q_r @ k_r.mT


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda q, r, c, k, W: sums(q, r, c, k, W) / math.sqrt(c.shape[-1] + r.shape[-1]), "unmended"),
        (lambda q, r, c, k, W: sums(q, r, c, k, W) / math.sqrt(q.shape[-1]), "the content alone"),
        (lambda q, r, c, k, W: sums(q, r, c, k, W) / math.sqrt(c.shape[-1]), "the latent alone"),
        (sums, "not divided"),
        (lambda q, r, c, k, W: sums(q, r, c, k, W) / (q.shape[-1] + r.shape[-1]), "root is missing"),
        (lambda q, r, c, k, W: formed(q, r, c, 0 * k, W), "rotated part is missing"),
        (lambda q, r, c, k, W: formed(0 * q, r, c, k, W), "content is missing"),
        (lambda *g: formed(*g).mT, "exchanged"),
        (lambda *g: formed(*g).softmax(-1), "first difference"),
        (lambda *g: formed(*g)[0], "expected shape"),
        (lambda *g: None, "nothing yet"),
    ],
)
def test_absorbed_scores_mistakes(answer, diagnosis: str) -> None:
    verdict = check_absorbed_scores(answer)
    assert not verdict
    assert diagnosis in verdict.message


def matches(f: Tensor, g: Tensor) -> Tensor | None:
    """Complex numbers of any size at every place where the frequencies are equal."""
    same = (f[:, None] - g).abs() < 1e-9
    z = same * torch.polar(torch.ones(same.shape), torch.arange(same.numel()).view(same.shape) / 3.0) * 7
    W = torch.stack((z.real, -z.imag, z.imag, z.real), -1).view(len(f), len(g), 2, 2).transpose(1, 2)
    return W.reshape(2 * len(f), 2 * len(g)) if same.any() else None


def by_averaging(f: Tensor, g: Tensor) -> Tensor | None:
    """The mean of R_n^T M R'_n over many n keeps what commutes."""
    torch.manual_seed(0)
    M, n = torch.randn(2 * len(f), 2 * len(g), dtype=f.dtype), torch.arange(20_000)
    left = rotate(
        torch.eye(len(M), dtype=f.dtype).repeat(len(n), 1),
        angles(n, f, dtype=f.dtype).repeat_interleave(len(M), 0),
    )
    right = rotate(
        torch.eye(M.shape[1], dtype=f.dtype).repeat(len(n), 1),
        angles(n, g, dtype=f.dtype).repeat_interleave(M.shape[1], 0),
    )
    left, right = left.view(len(n), len(M), -1), right.view(len(n), M.shape[1], -1)
    mean = (left @ M @ right.mT).mean(0)  # rows of `left` are columns of R_n
    blocks = mean.view(len(f), 2, len(g), 2).norm(dim=(1, 3)) > 0.05
    return mean * blocks.repeat_interleave(2, 0).repeat_interleave(2, 1) if blocks.any() else None


def test_carrier_right() -> None:
    for seed in (0, 71, 72):
        assert check_carrier(matches, seed=seed)
        assert check_carrier(
            lambda f, g: None if matches(f, g) is None else matches(f, g).tolist(), seed=seed
        )


def test_there_is_no_other_where_the_reference_finds_none() -> None:
    """Averaging any matrix over positions leaves what commutes: nothing, unless a frequency is in both."""
    for f, g in (case.inputs for case in check_carrier.cases()):
        assert (by_averaging(f, g) is None) == (check_carrier.reference(f, g) is None)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda f, g: torch.eye(2 * len(f), 2 * len(g)), "R_n W and W R'_n differ by"),
        (
            lambda f, g: None if matches(f, g) is None else torch.eye(2 * len(f), 2 * len(g)),
            "compare the frequencies",
        ),
        (lambda f, g: None if matches(f, g) is None else torch.ones(2 * len(f), 2 * len(g)), "differ by"),
        (lambda f, g: torch.zeros(2 * len(f), 2 * len(g)), "W must not be 0"),
        (lambda f, g: None if matches(f, g) is None else torch.eye(2), "expected shape (4, 4)"),
        (lambda f, g: None if matches(f, g) is None else matches(f, g).abs(), "differ by"),
        (lambda f, g: matches(f, g) if len(f) < 3 else None, "but there is an answer"),
        (lambda f, g: None, "nothing yet"),
    ],
)
def test_carrier_mistakes(answer, diagnosis: str) -> None:
    verdict = check_carrier(answer)
    assert not verdict
    assert diagnosis in verdict.message


def test_two_mistakes_at_once_have_no_name() -> None:
    for verdict in (
        check_tokens_that_fit(lambda m, w, win: m // sum(w) + 1),
        check_relative_values(lambda w, v, f: w.mT @ at(v, f)),
        check_absorbed_scores(lambda *g: (sums(*g) / 7).mT),
    ):
        assert not verdict
        assert "Likely" not in verdict.message
