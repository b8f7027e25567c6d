"""The checkers of chapter 15 pass right answers and name each known mistake."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab import angles, frequencies, rotate
from rope_lab.encodings import NTKAware, YaRN
from rope_lab.exercises.ch15 import (
    check_ntk_frequencies,
    check_partial_ntk,
    check_restamp,
    check_sharpened,
    check_shortest_length,
    check_yarn_frequencies,
)


def unseen(dim: int, base: float, length: float, turn: float = 2 * math.pi) -> int:
    return int((turn / frequencies(dim, base) > length).sum())


def by_search(dim: int, base: float, count: int, turn: float = 2 * math.pi) -> int:
    """The shortest length by halving an interval, with pairs that are counted."""
    low, high = 0, 10**7
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if unseen(dim, base, middle, turn) <= count else (middle, high)
    return high


def wave(dim: int, base: float, pair: int) -> float:
    return float(2 * math.pi / frequencies(dim, base)[pair])


def test_shortest_length_right() -> None:
    assert check_shortest_length(by_search)
    assert check_shortest_length(lambda *case: np.int64(by_search(*case)))
    assert check_shortest_length(lambda *case: float(by_search(*case)))
    assert check_shortest_length(lambda d, b, n: math.ceil(wave(d, b, -1 - n)))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda d, b, n: by_search(d, b, n) - 1, "one token too short"),
        (lambda d, b, n: round(wave(d, b, -1 - n)), "may be too short"),
        (lambda d, b, n: by_search(d, b, n) + 1, "one token less"),
        (lambda d, b, n: by_search(d, b, n, 1), "2π is missing"),
        (
            lambda d, b, n: math.ceil(wave(d, b, d // 2 - n) if n else wave(d, b, -1) * b ** (2 / d)),
            "too many",
        ),
        (lambda d, b, n: by_search(d, b, n + 1), "too few"),
        (lambda d, b, n: by_search(d, b, 0), "unseen is not used"),
        (lambda d, b, n: math.ceil(wave(d, b, n)), "from the slow end"),
        (lambda d, b, n: by_search(d, b, n, math.pi), "half a turn"),
        (lambda d, b, n: by_search(d, math.sqrt(b), n), "i counts pairs"),
        (lambda d, b, n: by_search(d, 10_000.0, n), "base is not used"),
        (lambda d, b, n: wave(d, b, -1 - n), "return an integer"),
        (lambda d, b, n: True, "return an integer"),
        (lambda d, b, n: None, "nothing yet"),
    ],
)
def test_shortest_length_mistakes(answer, diagnosis: str) -> None:
    verdict = check_shortest_length(answer)
    assert not verdict
    assert diagnosis in verdict.message


def raised(d: int, b: float, s: float, pair: int) -> Tensor:
    return frequencies(d, b * s ** (d / (2 * pair)))


def test_ntk_right() -> None:
    assert check_ntk_frequencies(raised)
    assert check_ntk_frequencies(
        lambda d, b, s, pair: frequencies(d, b) * s ** (-torch.arange(d // 2) / pair)
    )
    assert check_ntk_frequencies(
        lambda d, b, s, pair: (b * s ** (d / (2 * pair))) ** (-np.arange(0, d, 2) / d)
    )
    assert check_ntk_frequencies(
        lambda d, b, s, pair: NTKAware(s ** ((d / 2 - 1) / pair))(frequencies(d, b), 0)[0].float()
    )


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda d, b, s, pair: NTKAware(s)(frequencies(d, b), 0)[0], "this is equation 15.7"),
        (lambda d, b, s, pair: frequencies(d, b * s), "multiplied the base by the factor itself"),
        (lambda d, b, s, pair: frequencies(d, b * s ** (2 * pair / d)), "is inverted"),
        (lambda d, b, s, pair: frequencies(d, b * s ** (d / pair)), "a pair has two coordinates"),
        (lambda d, b, s, pair: raised(d, b, s, pair + 1), "for the one before"),
        (lambda d, b, s, pair: frequencies(d, b) / s ** (d / (2 * pair)), "divided by the same number"),
        (lambda d, b, s, pair: frequencies(d, b) / s, "position interpolation"),
        (lambda d, b, s, pair: frequencies(d, b / s ** (d / (2 * pair))), "a larger base"),
        (lambda d, b, s, pair: frequencies(d, b), "the old base"),
        (lambda d, b, s, pair: raised(d, b, s, pair) ** 0.5, "i counts pairs"),
        (lambda d, b, s, pair: raised(d, b, s, pair).repeat_interleave(2), "one per pair"),
        (lambda d, b, s, pair: raised(d, b, 2 * s, pair), "and yours is not"),
        (lambda d, b, s, pair: None, "nothing yet"),
    ],
)
def test_ntk_mistakes(answer, diagnosis: str) -> None:
    verdict = check_ntk_frequencies(answer)
    assert not verdict
    assert diagnosis in verdict.message


def turns_in(d: int, b: float, n: float) -> Tensor:
    return n * frequencies(d, b) / (2 * math.pi)


def by_turns(d: int, b: float, s: float, n: float, fast: float = 32, slow: float = 1) -> Tensor:
    """Pair by pair, with a branch for each part of the ramp."""
    found = []
    for theta, times in zip(frequencies(d, b).tolist(), turns_in(d, b, n).tolist(), strict=True):
        if times >= fast:
            found.append(theta)
        elif times <= slow:
            found.append(theta / s)
        else:
            kept = (times - slow) / (fast - slow)
            found.append(kept * theta + (1 - kept) * theta / s)
    return torch.tensor(found, dtype=torch.float64)


def blend(d: int, b: float, s: float, share: Tensor) -> Tensor:
    return frequencies(d, b) * (1 - share + share / s)


def test_yarn_right() -> None:
    assert check_yarn_frequencies(by_turns)
    assert check_yarn_frequencies(lambda *case: by_turns(*case).tolist())
    assert check_yarn_frequencies(
        lambda d, b, s, n: blend(d, b, s, (1 - (turns_in(d, b, n) - 1) / 31).clamp(0, 1)).float()
    )


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda d, b, s, n: YaRN(s, n)(frequencies(d, b), 0)[0], "runs over the pair index"),
        (
            lambda d, b, s, n: blend(d, b, s, (1 - turns_in(d, b, n).log() / math.log(32)).clamp(0, 1)),
            "logarithm",
        ),
        (lambda d, b, s, n: blend(d, b, s, ((turns_in(d, b, n) - 1) / 31).clamp(0, 1)), "the wrong way"),
        (lambda d, b, s, n: blend(d, b, s, 1 - (turns_in(d, b, n) - 1) / 31), "not held at 0 and 1"),
        (lambda d, b, s, n: by_turns(d, b, s, n * 2 * math.pi), "2π is missing"),
        (lambda d, b, s, n: by_turns(d, b, s, n, slow=0), "ends at 0 turns"),
        (lambda d, b, s, n: by_turns(d, b, s, n, fast=4), "Llama 3"),
        (lambda d, b, s, n: by_turns(d, b, s, n, fast=1.0001), "expected"),
        (lambda d, b, s, n: frequencies(d, b) / s, "position interpolation"),
        (lambda d, b, s, n: frequencies(d, b), "are unchanged"),
        (lambda d, b, s, n: by_turns(d, b, s, n) * (0.1 * math.log(s) + 1), "attention factor"),
        (lambda d, b, s, n: by_turns(d, b, s, s * n), "extended length"),
        (lambda d, b, s, n: None, "nothing yet"),
    ],
)
def test_yarn_mistakes(answer, diagnosis: str) -> None:
    verdict = check_yarn_frequencies(answer)
    assert not verdict
    assert diagnosis in verdict.message


def turned(keys: Tensor, freqs: Tensor, *, start: int = 0, layout: str = "interleaved") -> Tensor:
    at = torch.arange(start, start + len(keys))
    return rotate(keys, angles(at, freqs, dtype=torch.float64), layout)


def test_restamp_right() -> None:
    assert check_restamp(lambda keys, old, new: turned(keys, new - old))
    assert check_restamp(lambda keys, old, new: turned(turned(keys, -old), new))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda keys, old, new: turned(keys, new), "on top of their old angle"),
        (lambda keys, old, new: turned(keys, old - new), "the other way"),
        (lambda keys, old, new: turned(keys, -old), "lost their position"),
        (lambda keys, old, new: keys, "not turned at all"),
        (
            lambda keys, old, new: rotate(keys, (new - old).expand(len(keys), -1)),
            "grows with the position",
        ),
        (lambda keys, old, new: turned(keys, new - old, start=1), "positions begin at 1"),
        (lambda keys, old, new: turned(keys, new - old, layout="half"), "half layout"),
        (lambda keys, old, new: keys[:1], "expected shape (2, 2), got (1, 2)"),
        (lambda keys, old, new: None, "nothing yet"),
    ],
)
def test_restamp_mistakes(answer, diagnosis: str) -> None:
    verdict = check_restamp(answer)
    assert not verdict
    assert diagnosis in verdict.message


def partial(dim: int, rotary: int, base: float, s: float) -> Tensor:
    turning, _ = NTKAware(s)(frequencies(rotary, base), 0)
    return torch.cat((turning, torch.zeros((dim - rotary) // 2, dtype=torch.float64)))


def padded(freqs: Tensor, dim: int) -> Tensor:
    return torch.cat((freqs, torch.zeros(dim // 2 - len(freqs), dtype=torch.float64)))


def test_partial_ntk_right() -> None:
    assert check_partial_ntk(partial)
    assert check_partial_ntk(lambda *case: partial(*case).numpy())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (
            lambda dim, r, b, s: padded(frequencies(r, b * s ** (dim / (dim - 2))), dim),
            "the function of the page",
        ),
        (
            lambda dim, r, b, s: padded(frequencies(dim, b * s ** (r / (r - 2)))[: r // 2], dim),
            "first pairs of the whole head",
        ),
        (
            lambda dim, r, b, s: padded(frequencies(dim, b * s ** (dim / (dim - 2)))[: r // 2], dim),
            "both exponents",
        ),
        (lambda dim, r, b, s: padded(frequencies(r, b), dim), "no longer raised"),
        (lambda dim, r, b, s: padded(frequencies(r, b) / s, dim), "position interpolation"),
        (lambda dim, r, b, s: NTKAware(s)(frequencies(dim, b), 0)[0], "all pairs turn now"),
        (lambda dim, r, b, s: partial(r, r, b, s), "are missing"),
        (lambda dim, r, b, s: padded(frequencies(r, b * s), dim), "and yours is not"),
        (lambda dim, r, b, s: None, "nothing yet"),
    ],
)
def test_partial_ntk_mistakes(answer, diagnosis: str) -> None:
    verdict = check_partial_ntk(answer)
    assert not verdict
    assert diagnosis in verdict.message


def weight(dim: int, keys: int, a: float) -> float:
    return 1 / (1 + (keys - 1) * math.exp(a**4 / 2 - a**2 * dim**0.5))


def by_grid(dim: int, n: int, m: int, digits: int = 3) -> float | None:
    """The best of many factors, if it is good enough."""
    best = max((i / 10**digits for i in range(1, 4 * 10**digits)), key=lambda a: weight(dim, m, a))
    return best if weight(dim, m, best) >= weight(dim, n, 1) else None


def test_sharpened_right() -> None:
    assert check_sharpened(by_grid)
    assert check_sharpened(lambda *case: by_grid(*case) and torch.tensor(by_grid(*case), dtype=torch.float32))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda dim, n, m: 0.1 * math.log(m / n) + 1, "the factor of YaRN"),
        (lambda dim, n, m: 1.0, "nothing is sharpened"),
        (lambda dim, n, m: (1 + math.log((m - 1) / (n - 1)) / dim**0.5) ** 0.5, "a⁴/2 is left out"),
        (lambda dim, n, m: dim**0.25, "where it is not enough, the answer is None"),
        (lambda dim, n, m: 3.0, "the perfect key gets a weight of"),
        (lambda dim, n, m: -1.0, "above 0"),
        (lambda dim, n, m: [1.0, 2.0], "one"),
        (lambda dim, n, m: by_grid(dim, n, m) if dim < 20 else None, "but there is an answer"),
        (lambda dim, n, m: None, "nothing yet"),
    ],
)
def test_sharpened_mistakes(answer, diagnosis: str) -> None:
    verdict = check_sharpened(answer)
    assert not verdict
    assert diagnosis in verdict.message


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (check_shortest_length, lambda d, b, n: 1 + by_search(d, b, n, 1)),
        (check_ntk_frequencies, lambda d, b, s, pair: NTKAware(s)(frequencies(d, b), 0)[0] / s),
        (check_yarn_frequencies, lambda d, b, s, n: YaRN(s, s * n)(frequencies(d, b), 0)[0]),
        (check_restamp, lambda keys, old, new: turned(keys, new, layout="half")),
        (check_partial_ntk, lambda dim, r, b, s: padded(frequencies(r, b * s ** (dim / (dim - 2))), dim) / s),
        (check_sharpened, lambda dim, n, m: (0.1 * math.log(m / n) + 1) ** 2),
    ],
)
def test_two_mistakes_at_once_are_not_taken_for_one(check, answer) -> None:
    verdict = check(answer)
    assert not verdict
    assert "Likely" not in verdict.message
