"""Checkers of chapter 3: a turn in the plane, the block-diagonal matrix, a score from the distance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import EXPONENTS, half_order, matrix, rotated, theta
from rope_lab.exercises.stamps import check_half_step, check_next_scores, check_witness

__all__ = [
    "check_half_step",
    "check_next_scores",
    "check_rotation_matrix",
    "check_score",
    "check_turn",
    "check_witness",
]


def _turn(x: Tensor, m: float, theta: float) -> Tensor:
    return rotated(x, torch.full((len(x), 1), float(m * theta), dtype=torch.float64))


def _turn_draws(d: Draw) -> Iterator[Inputs]:
    yield d.tensor(1, 2), 1.0, d.real(0.2, 0.8)
    yield d.tensor(1, 2), d.real(2.1, 3.9), d.real(0.2, 0.8)
    yield d.tensor(2, 2), -d.real(1.1, 2.9), d.real(1.1, 1.9)
    yield d.tensor(d.whole(3, 5), 2), 0.0, d.real(0.2, 0.8)
    for _ in range(2):
        yield d.tensor(d.whole(3, 5), 2), d.real(3.1, 9.9), d.real(0.2, 0.8)


def _in_rows(x: Tensor, m: float, theta: float, first: int, second: int, *, reused: bool = False) -> Tensor:
    (a, b), cos, sin = x.unbind(-1), math.cos(m * theta), math.sin(m * theta)
    top = a * cos + first * b * sin
    return torch.stack((top, b * cos + second * (top if reused else a) * sin), dim=-1)


def _rows_as_positions(x: Tensor, m: float, theta: float) -> Tensor:
    return rotated(x, torch.arange(len(x), dtype=torch.float64)[:, None] * theta)


check_turn = Exercise(
    "3.1",
    "turn",
    _turn,
    _turn_draws,
    {
        "this turns clockwise; look at the signs of the two sines": lambda x, m, theta: _turn(x, -m, theta),
        "the minus of −sin mθ is missing": lambda x, m, theta: _in_rows(x, m, theta, 1, 1),
        "both sines have a minus; only the first row's has": lambda x, m, theta: _in_rows(
            x, m, theta, -1, -1
        ),
        "the second row is a·sin mθ + b·cos mθ; yours subtracts": lambda x, m, theta: (
            _turn(x, m, theta) - 2 * x[:, 1:] * math.cos(m * theta) * torch.tensor([0.0, 1.0])
        ),
        "the two coordinates are the last axis: stack them with dim=-1": lambda x, m, theta: (
            _turn(x, m, theta).T
        ),
        "you turn by theta; the angle is m·theta": lambda x, m, theta: _turn(x, 1, theta),
        "you turn by m; the angle is m·theta": lambda x, m, theta: _turn(x, m, 1),
        "you turn by m + theta; the angle is m·theta": lambda x, m, theta: _turn(x, 1, m + theta),
        "theta is in radians, not in degrees": lambda x, m, theta: _turn(x, m, math.radians(theta)),
        "the step is multiplied m times: the angle is m·theta, not theta^m": lambda x, m, theta: _turn(
            x, 1, theta**m
        ),
        "the second row uses the first result; both rows take the old coordinates": lambda x, m, theta: (
            _in_rows(x, m, theta, -1, 1, reused=True)
        ),
        "row n turns by n·theta; all vectors move on by m": _rows_as_positions,
        "row n turns by (m + n)·theta; all vectors move on by m": lambda x, m, theta: rotated(
            x, (m + torch.arange(len(x), dtype=torch.float64))[:, None] * theta
        ),
        "m is cut to a whole number; positions can be real": lambda x, m, theta: _turn(x, int(m), theta),
        "the two coordinates have changed places": lambda x, m, theta: _turn(x, m, theta).flip(-1),
        "nothing is turned": lambda x, m, theta: x,
        "theta is an angle per position in radians; 2π·theta takes it for turns": (
            lambda x, m, theta: _turn(x, m, 2 * math.pi * theta)
        ),
        "row n turns by n·m·theta; all vectors move on by m": (
            lambda x, m, theta: rotated(x, torch.arange(len(x), dtype=torch.float64)[:, None] * m * theta)
        ),
        "both columns are the real part; the second is the imaginary part": (
            lambda x, m, theta: _turn(x, m, theta)[:, :1].expand(-1, 2)
        ),
    },
    right="one complex multiplication.",
    properties={
        "a turn keeps the length of every vector, and this does not": lambda y, x, m, theta: torch.allclose(
            y.norm(dim=-1), x.norm(dim=-1), atol=1e-4
        )
    },
)
"""Exercise 3.1: `turn(x, m, theta)` moves stamped vectors x (N, 2) on by m: counter-clockwise by m·theta radians."""


def _rotation_matrix(m: float, dim: int, base: float) -> Tensor:
    return matrix(m * theta(dim, base))


def _matrix_draws(d: Draw) -> Iterator[Inputs]:
    yield d.real(1.1, 2.9), 2, d.one_of(20.0, 50.0)
    yield 1.0, 4, d.one_of(20.0, 50.0)
    yield d.real(2.1, 3.9), 4, d.one_of(30.0, 70.0, 500.0)
    yield 0.0, 6, 50.0
    yield -d.real(2.1, 5.9), 6, d.one_of(30.0, 70.0, 500.0)
    yield d.real(4.1, 9.9), 8, 10_000.0


def _half(m: float, dim: int, base: float) -> Tensor:
    order = half_order(dim)
    return _rotation_matrix(m, dim, base)[order][:, order]


def _blocks(m: float, dim: int, base: float) -> Tensor:
    R = _rotation_matrix(m, dim, base)
    return torch.stack([R[i : i + 2, i : i + 2] for i in range(0, dim, 2)])


check_rotation_matrix = Exercise(
    "3.2",
    "rotation_matrix",
    _rotation_matrix,
    _matrix_draws,
    {
        "this is the transpose, which turns clockwise: M for a key m before the query": lambda m, dim, base: (
            _rotation_matrix(-m, dim, base)
        ),
        "m is missing: the angles are m·θ_i": lambda m, dim, base: _rotation_matrix(1, dim, base),
        "m is cut to a whole number; positions can be real": lambda m, dim, base: _rotation_matrix(
            int(m), dim, base
        ),
        "only the cosines are there; the sines are beside the diagonal": lambda m, dim, base: (
            _rotation_matrix(m, dim, base).diag().diag()
        ),
        "this pairs i with i + dim/2; here neighbours turn together": _half,
        "this pairs i with i + dim/2, and turns clockwise": lambda m, dim, base: _half(-m, dim, base),
        "-2i // dim is a whole number; divide with /": (
            lambda m, dim, base: matrix(
                m * base ** torch.tensor([float(-2 * i // dim) for i in range(dim // 2)], dtype=torch.float64)
            )
        ),
        "the angle is m times θ_i, not θ_i to the power of m": (
            lambda m, dim, base: matrix(
                (
                    (base ** (-torch.arange(0, dim, 2) / dim)) ** m
                ).double()  # in single precision, as large angles show
            )
        ),
        "these are the blocks, one after the other; put them on the diagonal of one matrix": _blocks,
    }
    | {why: lambda m, dim, base, f=f: matrix(m * f(dim, base)) for why, f in EXPONENTS.items()},
    right="between query and key there is one rotation, by their distance.",
    properties={
        "a rotation is orthogonal, RᵀR = 1, and this matrix is not": lambda y, m, dim, base: torch.allclose(
            y.mT @ y, torch.eye(dim, dtype=torch.float64), atol=1e-4
        )
    },
)
"""Exercise 3.2: `rotation_matrix(m, dim, base)` is M with ⟨R_n q, R_{n+m} k⟩ = qᵀ M k: R_m, (dim, dim)."""


def _pairs(x: Tensor) -> Tensor:
    return torch.complex(x[::2], x[1::2])


def _terms(q: Tensor, k: Tensor, distance: float, freqs: Tensor) -> Tensor:
    return _pairs(q) * _pairs(k).conj() * torch.polar(torch.ones_like(freqs), distance * freqs)


def _score(q: Tensor, k: Tensor, distance: float, base: float) -> Tensor:
    return _terms(q, k, distance, theta(len(q), base)).sum().real


def _score_draws(d: Draw) -> Iterator[Inputs]:
    for dim, base in ((2, 50.0), (4, d.one_of(20.0, 70.0)), (6, d.one_of(30.0, 500.0)), (8, 10_000.0)):
        yield d.tensor(dim), d.tensor(dim), d.real(1.1, 8.9), base
    yield d.tensor(4), d.tensor(4), 0.0, 50.0
    yield d.tensor(6), d.tensor(6), -d.real(2.1, 8.9), 70.0


def _of_terms(result: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda q, k, s, base: result(_terms(q, k, s, theta(len(q), base)))


def _unconjugated(q: Tensor, k: Tensor, s: float, base: float) -> Tensor:
    turn = torch.polar(torch.ones(len(q) // 2, dtype=torch.float64), s * theta(len(q), base))
    return (_pairs(q) * _pairs(k) * turn).sum().real


check_score = Exercise(
    "3.3",
    "score",
    _score,
    _score_draws,
    {
        "the sign of the distance is turned round, or q is conjugated instead of k, which is the same: "
        "a query that moves on makes m − n larger, and k has the conjugate": lambda q, k, s, base: _score(
            q, k, -s, base
        ),
        "the conjugate of k is missing": _unconjugated,
        "the distance does not enter: this is the score before the query moves": lambda q, k, s, base: q @ k,
        "this is the length of the sum; the score is its real part": _of_terms(
            lambda terms: terms.sum().abs()
        ),
        "this is the imaginary part; the score is the real part": _of_terms(lambda terms: terms.sum().imag),
        "this is the mean over pairs; the score is the sum": _of_terms(lambda terms: terms.mean().real),
        "sum over the pairs": _of_terms(lambda terms: terms.real),
        "only the cosines are there: the imaginary part of q·k* meets the sines": lambda q, k, s, base: (
            _terms(q, k, 0, theta(len(q), base)).real * (s * theta(len(q), base)).cos()
        ).sum(),
        "this is the sum of |q||k| cos(sθ); each pair of q and k has an angle of its own": lambda q, k, s, base: (
            (_terms(q, k, 0, theta(len(q), base)).abs() * (s * theta(len(q), base)).cos()).sum()
        ),
        "pairs are neighbours here, (0, 1), (2, 3), …": lambda q, k, s, base: _score(
            q[half_order(len(q)).argsort()], k[half_order(len(q)).argsort()], s, base
        ),
        "the score is not divided by √D here": lambda q, k, s, base: _score(q, k, s, base) / len(q) ** 0.5,
        "the distance is cut to a whole number; it can be real": lambda q, k, s, base: _score(
            q, k, int(s), base
        ),
    }
    | {
        why: lambda q, k, s, base, f=f: _terms(q, k, s, f(len(q), base)).sum().real
        for why, f in EXPONENTS.items()
    },
    right="no vector was turned to know the score after a turn.",
)
"""Exercise 3.3: `score(q, k, distance, base)` of stamped q and k (D,) when the query moves on by `distance`."""
