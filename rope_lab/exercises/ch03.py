"""Checkers of chapter 3: a turn in the plane, the block-diagonal matrix, a score from the distance."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rope_lab.encodings import frequencies, rotate
from rope_lab.exercises.feedback import Feedback, compare


def check_turn(turn: Callable[[Tensor, float, float], Tensor]) -> Feedback:
    """Exercise 3.1: `turn(x, m, theta)` turns the vectors x (N, 2) counter-clockwise by m·theta radians."""
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    m, theta = 3.0, 0.4

    def by(angle: float) -> Tensor:
        return rotate(x, torch.full((len(x), 1), angle, dtype=torch.float64))

    cos, sin = math.cos(m * theta), math.sin(m * theta)
    a, b = x.unbind(-1)
    mistakes = {
        "this turns clockwise; look at the signs of the two sines": by(-m * theta),
        "the minus of −sin mθ is missing": torch.stack((a * cos + b * sin, b * cos + a * sin), dim=-1),
        "you turn by theta; the angle is m·theta": by(theta),
        "theta is in radians, not in degrees": by(math.radians(m * theta)),
        "the step is multiplied m times: the angle is m·theta, not theta^m": by(theta**m),
        "the second row uses the first result; both rows take the old coordinates": torch.stack(
            (a * cos - b * sin, b * cos + (a * cos - b * sin) * sin), dim=-1
        ),
    }
    return compare(
        "3.1", turn(x.clone(), m, theta), by(m * theta), mistakes, right="one complex multiplication."
    )


def check_rotation_matrix(rotation_matrix: Callable[[float, int, float], Tensor]) -> Feedback:
    """Exercise 3.2: `rotation_matrix(m, dim, base)` is the block-diagonal R_m, (dim, dim)."""
    m, dim, base = 2.0, 6, 100.0
    pairs = torch.arange(dim // 2, dtype=torch.float64)

    def matrix(theta: Tensor, angle: float = m, order: Tensor | None = None) -> Tensor:
        turned = rotate(torch.eye(dim, dtype=torch.float64), (angle * theta).expand(dim, -1)).mT
        return turned if order is None else turned[order][:, order]

    theta = frequencies(dim, base, device="cpu")
    half = torch.arange(dim).view(-1, 2).T.flatten()
    mistakes = {
        "this turns clockwise: it is the transpose": matrix(theta, -m),
        "the minus in the exponent is missing: the speeds fall from 1": matrix(base ** (2 * pairs / dim)),
        "the exponent is −2i/dim, not −i/dim": matrix(base ** (-pairs / dim)),
        "pairs are counted from 0, so that the first speed is 1": matrix(base ** (-2 * (pairs + 1) / dim)),
        "the exponent divides by dim, not by the number of pairs": matrix(base ** (-4 * pairs / dim)),
        "the position is missing: the angles are m·θ_i": matrix(theta, 1.0),
        "this pairs i with i + dim/2; here neighbours turn together": matrix(theta, order=half),
        "all pairs turn at one speed": matrix(torch.ones_like(theta)),
    }
    right = "one block a pair, and each slower than the last."
    return compare("3.2", rotation_matrix(m, dim, base), matrix(theta), mistakes, right=right)


def check_score(score: Callable[[Tensor, Tensor, float, float], Tensor]) -> Feedback:
    """Exercise 3.3: `score(q, k, distance, base)` of unrotated q and k of shape (D,)."""
    dim, base, distance = 6, 100.0, 5.0
    q, k = torch.randn(2, dim, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    theta = frequencies(dim, base, device="cpu")

    def pairs(x: Tensor) -> Tensor:
        return torch.view_as_complex(x.view(-1, 2))

    turn = torch.exp(1j * distance * theta)
    product = pairs(q) * pairs(k).conj()
    mistakes = {
        "the sign of the distance is turned round: it is m − n, query minus key": (product * turn.conj())
        .sum()
        .real,
        "the conjugate of k is missing": (pairs(q) * pairs(k) * turn).sum().real,
        "the distance does not enter: this is the score at distance 0": product.sum().real,
        "this is the length of the sum; the score is its real part": (product * turn).sum().abs(),
        "this is the imaginary part; the score is the real part": (product * turn).sum().imag,
        "this is the mean over pairs; the score is the sum": (product * turn).mean().real,
        "sum over the pairs": (product * turn).real,
        "pairs are neighbours here, (0, 1), (2, 3), …": (
            torch.complex(*q.chunk(2)) * torch.complex(*k.chunk(2)).conj() * turn
        )
        .sum()
        .real,
    }
    right = "no rotation was needed to know the score of two rotated vectors."
    actual = score(q.clone(), k.clone(), distance, base)
    return compare("3.3", actual, (product * turn).sum().real, mistakes, right=right)
