"""The checkers of chapter 6 pass right answers and name each known mistake."""

import cmath

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab import angles, convert_layout, frequencies, rotate
from rope_lab.exercises.ch06 import (
    check_by_distance,
    check_key_for,
    check_looseness,
    check_reach,
    check_telling,
)


def sums(s: Tensor, freqs: Tensor) -> Tensor:
    angle = s[:, None] * freqs
    return torch.polar(torch.ones_like(angle), angle).cumsum(-1)


def step(h: Tensor) -> float:
    return max(abs(a - b) for a, b in zip(h.tolist(), [*h.tolist()[1:], 0], strict=True))


def ratio(h: Tensor, S: Tensor) -> Tensor:
    """Of partial sums (S, D/2)."""
    return step(h) * S.abs().sum(-1) / h.abs().sum()


def by_loops(h: Tensor, s: Tensor, freqs: Tensor) -> list[float]:
    out = []
    for distance in s.tolist():
        S, total = 0j, 0.0
        for theta in freqs.tolist():
            S += cmath.exp(1j * distance * theta)
            total += abs(S)
        out.append(step(h) * total / sum(map(abs, h.tolist())))
    return out


def test_looseness_right() -> None:
    assert check_looseness(lambda h, s, f: ratio(h, sums(s, f)))
    assert check_looseness(by_loops)
    curve = check_looseness.reference(torch.ones(64), torch.tensor([0.0]), frequencies(128))
    assert curve.item() == pytest.approx(32.5)  # the start of the paper's curve


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda h, s, f: step(h) * sums(s, f)[:, -1].abs() / h.abs().sum(), "only |S_{D/2}|"),
        (lambda h, s, f: ratio(h, sums(s, f)) / len(f), "the bound has their sum"),
        (lambda h, s, f: step(h) * sums(s, f).sum(-1).abs() / h.abs().sum(), "before the sum"),
        (lambda h, s, f: ratio(h, sums(s, f).real), "only the real parts"),
        (lambda h, s, f: ratio(h, sums(s, f)[..., None]), "one number per sum"),
        (lambda h, s, f: step(h) * sums(s, f).abs().sum(-1) / h.sum().abs(), "not |sum of h_i|"),
        (lambda h, s, f: step(h) * sums(s, f).abs().sum(-1), "divide it by the other one"),
        (lambda h, s, f: 1 / ratio(h, sums(s, f)), "exchanged"),
        (lambda h, s, f: ratio(h, sums(s, f)) / step(h) * h.diff().abs().max(), "the last step"),
        (lambda h, s, f: ratio(h, sums(s, f)) / step(h) * step(h.abs()), "not |h_{i+1}| − |h_i|"),
        (lambda h, s, f: ratio(h, sums(s, f.flip(0))), "slowest pair"),
        (lambda h, s, f: step(h) * sums(s, f).sum(-1) / h.abs().sum(), "return a real tensor"),
        (lambda h, s, f: ratio(h, sums(s, f)) + s + 1, "first difference at [0]"),
        (lambda h, s, f: ratio(h, sums(s, f)) / 9, "cannot be below the score itself"),
        (lambda h, s, f: None, "nothing yet"),
    ],
)
def test_looseness_mistakes(answer, diagnosis: str) -> None:
    verdict = check_looseness(answer)
    assert not verdict
    assert diagnosis in verdict.message


def summed(q: Tensor, r: Tensor, freqs: Tensor, layout="interleaved") -> Tensor:
    return rotate(q.expand(len(r), -1), angles(r, freqs, dtype=q.dtype), layout).sum(0)


def key(q: Tensor, r: Tensor, freqs: Tensor, layout="interleaved") -> Tensor:
    return torch.nn.functional.normalize(summed(q, r, freqs, layout), dim=0) * q.norm()


def by_ascent(q: Tensor, r: Tensor, freqs: Tensor) -> Tensor:
    """The score is linear in the key, so its gradient is the direction."""
    k = torch.zeros_like(q, requires_grad=True)
    sum(rotate(k[None], angles(-s[None], freqs, dtype=q.dtype))[0] @ q for s in r).backward()
    return k.grad * (q.norm() / k.grad.norm())


def test_key_for_right() -> None:
    assert check_key_for(key)
    assert check_key_for(by_ascent)
    assert check_key_for(lambda q, r, f: (summed(q, r, f) * (q.norm() / summed(q, r, f).norm())).tolist())


def test_no_other_key_scores_higher() -> None:
    torch.manual_seed(0)
    for q, r, f in (case.inputs for case in check_key_for.cases()):
        keys = torch.cat((check_key_for.reference(q, r, f)[None], torch.randn(500, len(q), dtype=q.dtype)))
        keys *= q.norm() / keys.norm(dim=-1, keepdim=True)
        scores = keys @ summed(q, r, f)
        assert scores.argmax() == 0


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda q, r, f: key(q, -r, f), "s = −r"),
        (summed, "the sum of the turned queries is not as long as q"),
        (lambda q, r, f: summed(q, r, f) / len(r), "the mean of the turned queries"),
        (lambda q, r, f: key(q, r[:1], f), "first distance alone"),
        (lambda q, r, f: key(q, r.double().mean()[None], f), "mean of the distances"),
        (lambda q, r, f: q, "peaks at distance 0"),
        (lambda q, r, f: -q, "lowest score"),
        (lambda q, r, f: key(q, r, f, "half"), "interleaved angles on a half layout"),
        (lambda q, r, f: convert_layout(key(q, r, f), "interleaved", "half"), "order of the half layout"),
        (lambda q, r, f: key(q, 2 * r, f), "twice as far"),
        (lambda q, r, f: key(q, r, f) / q.norm(), "length 1"),
        (lambda q, r, f: key(q, r, f)[None], "expected shape (2,), got (1, 2)"),
        (lambda q, r, f: -key(q, r, f), "lowest mean score"),
        (lambda q, r, f: key(q, r, f) * 1.5, "the key is as long as q"),
        (lambda q, r, f: None, "nothing yet"),
    ],
)
def test_key_for_mistakes(answer, diagnosis: str) -> None:
    verdict = check_key_for(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def first(freqs: Tensor, below: float = 0.0, curve=torch.cos) -> int:
    s = 0
    while curve(s * freqs).sum() >= below:
        s += 1
    return s


def grid(freqs: Tensor) -> int:
    """The distances of a figure, which leave most distances out."""
    s = torch.logspace(0, 4, 300, dtype=torch.float64).round()
    return int(s[(s[:, None] * freqs).cos().sum(-1) < 0][0])


def bisected(dim: int, base: float) -> int:
    low, high = 1, 4 * int(base)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if (middle * frequencies(dim, base)).cos().sum() < 0 else (middle, high)
    return high


def test_reach_right() -> None:
    assert check_reach(lambda dim, base: first(frequencies(dim, base)))
    assert check_reach(lambda dim, base: np.int64(first(frequencies(dim, base))))
    assert check_reach(lambda dim, base: float(first(frequencies(dim, base))))
    assert check_reach(lambda dim, base: torch.tensor(first(frequencies(dim, base))))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda dim, base: first(frequencies(dim, base)) - 1, "last distance before"),
        (lambda dim, base: first(frequencies(dim, base)) + 1, "one too far"),
        (lambda dim, base: first(frequencies(dim, base) ** 0.5), "base^(−i/D)"),
        (lambda dim, base: first(frequencies(dim, base), curve=torch.sin), "sines"),
        (lambda dim, base: round(0.6165 * base), "wide heads"),
        (lambda dim, base: first(frequencies(dim, base), below=1.0), "below 0"),
        (lambda dim, base: grid(frequencies(dim, base)), "a grid and a bisection miss the first"),
        (bisected, "a grid and a bisection miss the first"),
        (lambda dim, base: 2, "of all pairs"),
        (lambda dim, base: 3, "at your distance the sum is not below 0"),
        (lambda dim, base: 1.5, "return an integer"),
        (lambda dim, base: True, "return an integer"),
        (lambda dim, base: None, "nothing yet"),
    ],
)
def test_reach_mistakes(answer, diagnosis: str) -> None:
    verdict = check_reach(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def diagonals(x: Tensor) -> list[float]:
    rows = x.tolist()
    return [sum(rows[n + s][n] for n in range(len(rows) - s)) / (len(rows) - s) for s in range(len(rows))]


def masked(x: Tensor, *, count=None, distance=None) -> Tensor:
    """As on the page, with the number of pairs."""
    N = len(x)
    m = torch.arange(N)
    apart = m[:, None] - m if distance is None else distance(m[:, None], m)
    sums = torch.stack([x[apart == s].sum() for s in range(N)])
    return sums / (torch.stack([(apart == s).sum() for s in range(N)]) if count is None else count(N))


@pytest.mark.parametrize("answer", [diagonals, masked, lambda x: masked(x).float().numpy()])
def test_by_distance_right(answer) -> None:
    assert check_by_distance(answer)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda x: masked(x, count=lambda N: N), "unmended"),
        (lambda x: masked(x, count=lambda N: 1), "these are sums"),
        (lambda x: masked(x, count=lambda N: N * N), "number of all pairs"),
        (lambda x: masked(x, count=lambda N: 1 + N - torch.arange(N)), "not N − s + 1"),
        (lambda x: masked(x, distance=lambda m, n: n - m), "keys ahead of the query: rows"),
        (lambda x: masked(x, distance=lambda m, n: (m - n).abs()), "not |m − n|"),
        (lambda x: masked(x).flip(0), "largest distance comes first"),
        (lambda x: x[-1].flip(0), "the last query only"),
        (lambda x: masked(x, count=lambda N: 0.1), "no mean is larger than the largest"),
        (lambda x: masked(x, count=lambda N: N - torch.arange(N) - 1), "got -inf"),
        (lambda x: x.mean(0)[:1], "expected shape"),
        (lambda x: None, "nothing yet"),
    ],
)
def test_by_distance_mistakes(answer, diagnosis: str) -> None:
    verdict = check_by_distance(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def straight(s: float, freqs: Tensor) -> Tensor | None:
    return 1 - torch.arange(len(freqs)) / len(freqs) if s != 0 else None


@pytest.mark.parametrize(
    "answer",
    [
        straight,
        lambda s, f: straight(s, f) * (3 - 4j) if s else None,
        lambda s, f: list(range(-len(f), 0)) if s else None,
        lambda s, f: straight(s, f) + 1e-4 * torch.eye(len(f))[1] if s else None,
    ],
)
def test_telling_right(answer) -> None:
    for seed in (0, 61, 62):
        assert check_telling(answer, seed=seed)


def test_no_content_tells_anything_at_distance_0_and_none_tells_more_than_the_straight_taper() -> None:
    torch.manual_seed(0)
    for s, freqs in (case.inputs for case in check_telling.cases()):
        at, n = torch.tensor([s]), len(freqs)
        best = check_looseness.reference(straight(1.0, freqs), at, freqs)
        assert best < 1 if s else best == pytest.approx(1)
        for h in torch.randn(1000, n, dtype=torch.complex64) * torch.rand(1000, 1) + straight(1.0, freqs):
            assert check_looseness.reference(h, at, freqs) >= best - 1e-5


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda s, f: straight(1.0, f) * len(f), "at distance 0 nothing has turned"),
        (lambda s, f: torch.ones(len(f)) if s else None, "the last step is as large as h"),
        (lambda s, f: torch.arange(1, len(f) + 1) if s else None, "the largest"),
        (lambda s, f: torch.arange(len(f) - 1, -1, -1) if s else None, "0 already at the last pair"),
        (lambda s, f: torch.arange(len(f), 0, -1) ** 2 if s else None, "too steep"),
        (
            lambda s, f: torch.arange(len(f), 0, -1) ** 0.5 if s else None,
            "times as large as what holds without RoPE",
        ),
        (lambda s, f: straight(s, f) if s > 1 else None, "but there is an answer"),
        (lambda s, f: torch.zeros(len(f)) if s else None, "h must not be 0"),
        (lambda s, f: torch.ones(3), "h has one number per pair, 2 of them, got shape (3,)"),
        (lambda s, f: None, "nothing yet"),
    ],
)
def test_telling_mistakes(answer, diagnosis: str) -> None:
    verdict = check_telling(answer)
    assert not verdict
    assert diagnosis in verdict.message


def test_two_mistakes_at_once_have_no_name() -> None:
    for verdict in (
        check_looseness(lambda h, s, f: step(h) * sums(s, f.flip(0)).abs().mean(-1) / h.sum().abs()),
        check_by_distance(lambda x: masked(x, count=lambda N: N, distance=lambda m, n: n - m)),
        check_telling(lambda s, f: torch.arange(1, len(f) + 1) ** 2 if s else None),
    ):
        assert not verdict
        assert "Likely" not in verdict.message
