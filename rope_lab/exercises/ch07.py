"""Checkers of chapter 7: what fits into memory, values turned and back, an absorbed key and when there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import matrix, rotated

__all__ = [
    "check_absorbed_scores",
    "check_carrier",
    "check_relative_values",
    "check_tokens_that_fit",
]

Widths: TypeAlias = "Sequence[int]"
Windows: TypeAlias = "Sequence[int | None]"


def _held(tokens: int, widths: Widths, windows: Windows) -> int:
    return sum(
        width * (tokens if window is None else min(tokens, window))
        for width, window in zip(widths, windows, strict=True)
    )


def _fit(memory: int, widths: Widths, windows: Windows) -> int:
    tokens = 0
    while _held(tokens + 1, widths, windows) <= memory:
        tokens += 1
    return tokens


def _plain(widths: Widths) -> Windows:
    return [None] * len(widths)


def _always_full(memory: int, widths: Widths, windows: Windows) -> int:
    pairs = list(zip(widths, windows, strict=True))
    rest = memory - sum(width * window for width, window in pairs if window is not None)
    return rest // sum(width for width, window in pairs if window is None)


def _without(memory: int, widths: Widths, windows: Windows) -> int:
    return memory // sum(width for width, window in zip(widths, windows, strict=True) if window is None)


def _fit_draws(d: Draw) -> Iterator[Inputs]:
    yield d.whole(60, 90), [d.whole(4, 7)], [None]
    yield d.whole(200, 260), [4, 6], [None, d.whole(7, 9)]
    yield d.whole(60, 80), [4, 6], [None, d.whole(20, 30)]  # the text ends before the window is full
    yield d.whole(900, 1200), [8, 8, 16, 8], [5, 11, None, d.whole(14, 18)]
    yield d.whole(500, 700), [10, 4, 6], [None, d.whole(9, 12), None]
    yield d.whole(3, 5), [6, 2], [None, 4]  # not even one
    yield 120, [4, 4], [None, 10]  # exactly full


check_tokens_that_fit = Exercise(
    "7.1",
    "tokens_that_fit",
    _fit,
    _fit_draws,
    {
        "the windows are ignored: a layer with a window keeps at most that many tokens": lambda m, w, win: (
            _fit(m, w, _plain(w))
        ),
        "layers with a window need memory too": _without,
        "a text shorter than the window fills only a part of it": _always_full,
        "this is one token too many": lambda m, w, win: _fit(m, w, win) + 1,
        "this is one token too few": lambda m, w, win: _fit(m, w, win) - 1,
        "this is for the first layer alone": lambda m, w, win: _fit(m, w[:1], _plain(w[:1])),
        "widths hold keys and values together; nothing has to be doubled": lambda m, w, win: _fit(
            m, tuple(2 * width for width in w), win
        ),
    },
    right="beyond the windows only the layers without one grow.",
    properties={"a number of tokens is not negative": lambda y, *_: bool(y >= 0)},
)
"""Exercise 7.1: `tokens_that_fit(memory, widths, windows)`, the longest text whose cache fits, one number."""


def _relative(w: Tensor, v: Tensor, freqs: Tensor, sign: int = 1, layout: str = "interleaved") -> Tensor:
    at = torch.arange(len(v), dtype=v.dtype)
    angle = sign * (at - at[:, None])[..., None] * freqs  # n − m
    turned = rotated(v.expand(len(v), -1, -1), angle, layout)
    return (w[..., None] * turned).sum(1)


def _roper(w: Tensor, v: Tensor, freqs: Tensor) -> Tensor:
    return _relative(w, v, freqs)


def _turned(v: Tensor, freqs: Tensor, sign: int = 1) -> Tensor:
    return rotated(v, sign * torch.arange(len(v), dtype=v.dtype)[:, None] * freqs)


def _near_and_far(w: Tensor, v: Tensor, freqs: Tensor) -> Tensor:
    at = torch.arange(len(v), dtype=v.dtype)
    turned = rotated(v.expand(len(v), -1, -1), (at - at[:, None]).abs()[..., None] * freqs)
    return (w[..., None] * turned).sum(1)


def _values_draws(d: Draw) -> Iterator[Inputs]:
    for n, dim in ((2, 2), (3, 4), (d.whole(3, 5), 4), (d.whole(4, 6), 6)):
        freqs = torch.tensor([d.real(0.2, 0.9) for _ in range(dim // 2)], dtype=torch.float64)
        yield d.tensor(n, n, low=0, high=1), d.tensor(n, dim), freqs


check_relative_values = Exercise(
    "7.2",
    "relative_values",
    _roper,
    _values_draws,
    {
        "the output is not turned back: it depends on where the text starts": lambda w, v, f: (
            w @ _turned(v, f)
        ),
        "the values are not turned; only the output is": lambda w, v, f: _turned(w @ v, f, -1),
        "nothing is turned: this is the output of RoPE": lambda w, v, f: w @ v,
        "the difference has the wrong sign: the value at n is turned by (n − m)·θ_i": lambda w, v, f: (
            _relative(w, v, f, -1)
        ),
        "the output is turned on by its own position; it has to be turned back": lambda w, v, f: _turned(
            w @ _turned(v, f), f
        ),
        "keys ahead of the query have a negative distance; do not take |n − m|": _near_and_far,
        "row m of w has the weights of the query at m; yours are summed over the queries": lambda w, v, f: (
            _relative(w.mT, v, f)
        ),
        "these are interleaved pairs; yours are those of the half layout": lambda w, v, f: _relative(
            w, v, f, layout="half"
        ),
        "the output is turned back twice": lambda w, v, f: _turned(_relative(w, v, f), f, -1),
        "the values are turned twice": lambda w, v, f: _turned(w @ _turned(_turned(v, f), f), f, -1),
        "the values are turned back and the output on; it is the other way round": lambda w, v, f: (
            _turned(w @ _turned(v, f, -1), f) * -1
        ),
    },
    right="that is RoPER: what arrives depends on how far away it was.",
    properties={
        "the first query is at position 0, so its output is that of values turned by their own positions": (
            lambda y, w, v, f: bool(torch.allclose(y[0].double(), w[0] @ _turned(v, f), atol=1e-4))
        )
    },
)
"""Exercise 7.2: `relative_values(w, v, freqs)`: Σ_n w_mn R_(n−m) v_n, shape (N, D)."""


def _parts(q: Tensor, q_r: Tensor, c: Tensor, k_r: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    return (q @ W) @ c.mT, q_r @ k_r.mT


def _scores(q: Tensor, q_r: Tensor, c: Tensor, k_r: Tensor, W: Tensor) -> Tensor:
    content, shared = _parts(q, q_r, c, k_r, W)
    return (content + shared) / math.sqrt(q.shape[-1] + q_r.shape[-1])


def _divided(by: Callable[[int, int, int], float]) -> Callable[..., Tensor]:
    """Another divisor, from D, R and L."""

    def scores(q: Tensor, q_r: Tensor, c: Tensor, k_r: Tensor, W: Tensor) -> Tensor:
        content, shared = _parts(q, q_r, c, k_r, W)
        return (content + shared) / by(q.shape[-1], q_r.shape[-1], c.shape[-1])

    return scores


def _scores_draws(d: Draw) -> Iterator[Inputs]:
    for heads, n, dim, shared, latent in (
        (1, 2, 2, 4, 3),
        (2, 2, 3, 2, 5),
        (2, 3, 4, 2, 7),
        (3, d.whole(3, 4), 5, 4, 8),
    ):
        yield (
            d.tensor(heads, n, dim),
            d.tensor(heads, n, shared),
            d.tensor(n, latent),
            d.tensor(n, shared),
            d.tensor(heads, dim, latent),
        )


check_absorbed_scores = Exercise(
    "7.3",
    "absorbed_scores",
    _scores,
    _scores_draws,
    {
        "unmended: after absorption a query has L + R coordinates, but the scores are those of D + R": _divided(
            lambda D, R, L: math.sqrt(L + R)
        ),
        "the divisor counts the content alone; a head has D + R coordinates": _divided(
            lambda D, R, L: math.sqrt(D)
        ),
        "the divisor counts the latent alone; a head has D + R coordinates": _divided(
            lambda D, R, L: math.sqrt(L)
        ),
        "the divisor counts everything; the latent is no part of a head": _divided(
            lambda D, R, L: math.sqrt(D + R + L)
        ),
        "the scores are not divided": _divided(lambda D, R, L: 1.0),
        "the root is missing: divide by √(D + R)": _divided(lambda D, R, L: D + R),
        "the rotated part is missing": lambda q, q_r, c, k_r, W: (
            _parts(q, q_r, c, k_r, W)[0] / math.sqrt(q.shape[-1] + q_r.shape[-1])
        ),
        "the content is missing": lambda q, q_r, c, k_r, W: (
            _parts(q, q_r, c, k_r, W)[1] / math.sqrt(q.shape[-1] + q_r.shape[-1])
        ),
        "each part has a divisor of its own; the sum has one": lambda q, q_r, c, k_r, W: (
            _parts(q, q_r, c, k_r, W)[0] / math.sqrt(q.shape[-1])
            + _parts(q, q_r, c, k_r, W)[1] / math.sqrt(q_r.shape[-1])
        ),
        "rows are queries and columns keys; yours are exchanged": lambda *given: _scores(*given).mT,
    },
    right="the factor belongs to the head, not to the form in which it is computed.",
)
"""Exercise 7.3: `absorbed_scores(q, q_r, c, k_r, W)`, scaled scores without forming a key, shape (H, N, N)."""


def _at_match(block: Tensor, freqs: Tensor, latent_freqs: Tensor, *, nearest: bool = False) -> Tensor | None:
    """Zero except for one block, where a frequency of the key and of the latent are equal."""
    gaps = (freqs[:, None] - latent_freqs).abs()
    i, j = divmod(int(gaps.argmin()), len(latent_freqs))
    if gaps[i, j] > 1e-9 and not nearest:
        return None
    W = torch.zeros(2 * len(freqs), 2 * len(latent_freqs), dtype=torch.float64)
    W[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = block
    return W


IDENTITY = torch.eye(2, dtype=torch.float64)


def _carrier(freqs: Tensor, latent_freqs: Tensor) -> Tensor | None:
    return _at_match(IDENTITY, freqs, latent_freqs)


def _carrier_draws(d: Draw) -> Iterator[Inputs]:
    def row(*tenths: float) -> Tensor:
        return torch.tensor(tenths, dtype=torch.float64) / 10

    a, b, c, e = d.real(8, 9.9), d.real(5, 7.5), d.real(2.5, 4.5), d.real(1, 2)
    yield row(a), row(b)
    yield row(c), row(c)
    yield row(a, b), row(b, c)
    yield row(a, b), row(c, e, c)
    yield row(b, c), row(e, a, c)
    yield row(a, b, c), row(e, b)
    yield row(a, b, c, e), row(a, b, c, e)


def _does_not_carry(W: Tensor, freqs: Tensor, latent_freqs: Tensor) -> str:
    shape = (2 * len(freqs), 2 * len(latent_freqs))
    if tuple(W.shape) != shape:
        return f"W has shape (D, L) = {shape}, got {tuple(W.shape)}."
    if W.is_complex():
        return "W is real; a complex number is a block [[a, −b], [b, a]]."
    W = W.double()
    if not W.abs().max():
        return "W must not be 0."
    for n in (1, 2, 5):
        gap = (matrix(n * freqs) @ W - W @ matrix(n * latent_freqs)).abs().max()
        if gap > 1e-6 * W.abs().max():
            return f"at position {n}, R_n W and W R'_n differ by {float(gap):.3g}."
    return ""


check_carrier = Exercise(
    "7.4",
    "carrier",
    _carrier,
    _carrier_draws,
    {
        "where no frequency is equal, there is no such matrix; the nearest one will not do": lambda f, g: (
            _at_match(IDENTITY, f, g, nearest=True)
        ),
        "a block of ones does not commute with a rotation": lambda f, g: _at_match(
            torch.ones(2, 2, dtype=torch.float64), f, g
        ),
        "a mirror turns the other way: diag(1, −1) does not commute with a rotation": lambda f, g: _at_match(
            torch.tensor([[1.0, 0], [0, -1]], dtype=torch.float64), f, g
        ),
        "one coordinate alone is no pair": lambda f, g: _at_match(
            torch.tensor([[1.0, 0], [0, 0]], dtype=torch.float64), f, g
        ),
        "the two coordinates are exchanged, which is a mirror": lambda f, g: _at_match(
            IDENTITY.flip(0), f, g
        ),
        "pair i need not go to pair i: compare the frequencies": lambda f, g: (
            None if _carrier(f, g) is None else torch.eye(2 * len(f), 2 * len(g), dtype=torch.float64)
        ),
        "every block is filled; the frequencies of most are not equal": lambda f, g: (
            None if _carrier(f, g) is None else IDENTITY.repeat(len(f), len(g))
        ),
    },
    right="only pairs of one frequency can be joined, and there by any complex number.",
    fault=_does_not_carry,
)
"""Exercise 7.4: `carrier(freqs, latent_freqs)`: a W (D, L) other than 0 with R_n W = W R'_n for all n, or None."""
