"""Checkers of chapter 2: the table by halves, a step further, a matrix that looks back, a position read off."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rope_lab.encodings import angles, convert_layout, frequencies, rotate, sinusoidal
from rope_lab.exercises.feedback import Feedback, compare


def check_position_table(position_table: Callable[[int, int, float], Tensor]) -> Feedback:
    """Exercise 2.1: `position_table(length, dim, base)`, all sines first, shape (length, dim)."""
    length, dim, base = 7, 6, 100.0
    i = torch.arange(dim // 2, dtype=torch.float64)
    column = torch.arange(dim)

    def halves(theta: Tensor, first: int = 0) -> Tensor:
        angle = torch.arange(first, first + length, dtype=torch.float64)[:, None] * theta
        return torch.cat((angle.sin(), angle.cos()), dim=-1)

    expected = halves(base ** (-2 * i / dim))
    by_column = torch.arange(length, dtype=torch.float64)[:, None] * base ** (-2 * column.double() / dim)
    mistakes = {
        "this is the interleaved order; here all sines come first": convert_layout(
            expected, "half", "interleaved"
        ),
        "the sines come first, then the cosines": expected.roll(dim // 2, -1),
        "the minus in the exponent is missing: the speeds fall from 1": halves(base ** (2 * i / dim)),
        "the exponent is −2i/dim, not −i/dim": halves(base ** (-i / dim)),
        "the exponent divides by dim, not by the number of pairs": halves(base ** (-4 * i / dim)),
        "the exponent divides by dim/2 − 1, as the paper's code does; the formula divides by dim/2": halves(
            base ** (-i / (dim // 2 - 1))
        ),
        "positions are counted from 0": halves(base ** (-2 * i / dim), first=1),
        "pairs are counted from 0, so that the first speed is 1": halves(base ** (-2 * (i + 1) / dim)),
        "each column has its own speed; sine and cosine of a pair share one": torch.where(
            column < dim // 2, by_column.sin(), by_column.cos()
        ),
    }
    right = "a vector for every position, and nothing stored."
    return compare("2.1", position_table(length, dim, base), expected, mistakes, right=right)


def check_move_on(move_on: Callable[[Tensor, float, float], Tensor]) -> Feedback:
    """Exercise 2.2: `move_on(p, t, base)` takes vectors (N, C) of unknown positions t positions further."""
    dim, base, k = 6, 100.0, 5.0
    m = torch.tensor([3.0, 40.0, 12.0, 7.5], dtype=torch.float64)
    theta = frequencies(dim, base, device="cpu")

    def at(positions: Tensor) -> Tensor:
        return sinusoidal(positions, dim, base, dtype=torch.float64)

    def turned(freqs: Tensor, by: float) -> Tensor:
        return rotate(at(m), (by * freqs).expand(len(m), -1))

    sin, cos = at(m)[:, ::2], at(m)[:, 1::2]
    turn_sin, turn_cos = (k * theta).sin(), (k * theta).cos()
    reused = sin * turn_cos + cos * turn_sin
    mistakes = {
        "this moves back by t: with the sine first, to move on is to turn clockwise": at(m - k),
        "you move on by one; the angles are t·θ_i": at(m + 1),
        "nothing moved": at(m),
        "you take the rows for positions 0, 1, …; their positions are not told": at(
            torch.arange(len(m), dtype=torch.float64) + k
        ),
        "the two vectors are added; angles add, vectors do not": at(m) + at(torch.full_like(m, k)),
        "all pairs turn at one speed": turned(torch.ones_like(theta), -k),
        "the second row uses the first result; both take the old sine and cosine": torch.stack(
            (reused, cos * turn_cos - reused * turn_sin), dim=-1
        ).flatten(-2),
        "the minus of the second row is missing": torch.stack(
            (reused, cos * turn_cos + sin * turn_sin), dim=-1
        ).flatten(-2),
        "these are pairs (i, i + C/2); here sine and cosine are neighbours": rotate(
            at(m), (-k * theta).expand(len(m), -1), "half"
        ),
    }
    right = "one rule for all positions, the unknown ones too."
    return compare("2.2", move_on(at(m), k, base), at(m + k), mistakes, right=right)


def check_look_back(look_back: Callable[[float, int, float], Tensor]) -> Feedback:
    """Exercise 2.3: `look_back(r, dim, base)` is the A with p_m^T A p_n = Σ cos((m − n − r)·θ_i), (dim, dim)."""
    r, dim, base = 3.0, 6, 100.0
    theta = frequencies(dim, base, device="cpu")

    def turn(by: float, freqs: Tensor = theta) -> Tensor:
        """R of a position as a matrix: the turned unit vectors are its columns."""
        return rotate(torch.eye(dim, dtype=torch.float64), (by * freqs).expand(dim, -1)).mT

    order = torch.arange(dim).view(-1, 2).T.flatten()
    vectors = sinusoidal(torch.tensor([0, 3]), dim, base, dtype=torch.float64)
    mistakes = {
        "this is R_r; it looks r tokens ahead": turn(r),
        "this is the identity: it peaks at the query itself": turn(0),
        "this looks one token back, whatever r": turn(-1),
        "this looks twice as far": turn(-2 * r),
        "each score is the negative of the right one": -turn(-r),
        "this is right for tables with all sines first; here pairs are neighbours": turn(-r)[order][:, order],
        "all pairs turn at one speed": turn(-r, torch.ones_like(theta)),
        "a product of two position vectors fits one place alone; A has to serve every m": torch.outer(
            vectors[1], vectors[0]
        ),
        "only the cosines are there: without the sines it looks both ways": turn(-r).diag().diag(),
    }
    right = "a head that looks back, in C numbers."
    return compare("2.3", look_back(r, dim, base), turn(-r), mistakes, right=right)


def check_position_of(position_of: Callable[[Tensor, float], Tensor]) -> Feedback:
    """Exercise 2.4: `position_of(p, base)` reads whole positions below 1,000 off rounded vectors (N, C)."""
    dim, base, limit = 16, 10_000.0, 1000
    m = torch.tensor([0, 1, 7, 44, 517, 998, 999])
    table = sinusoidal(torch.arange(limit), dim, base, dtype=torch.float64)
    given = (100 * table[m]).round() / 100
    theta, turn = frequencies(dim, base, device="cpu"), 2 * torch.pi
    hand = torch.atan2(given[:, ::2], given[:, 1::2]) % turn  # (N, pairs)

    def read(pair: int) -> Tensor:
        return (hand[:, pair] / theta[pair]).round().long()

    other = angles(torch.arange(limit), theta.flip(0), dtype=torch.float64)
    wrong_table = torch.stack((other.sin(), other.cos()), dim=-1).flatten(-2)
    mistakes = {
        "this reads the fastest hand alone, which is back after six positions": read(0),
        "this reads the slowest hand alone; the rounding hides its steps": read(dim // 2 - 1),
        "positions are counted from 0": m + 1,
        "the pairs are in the wrong order: the fastest comes first": (given @ wrong_table.T).argmax(dim=-1),
        "this is the farthest position: take the largest inner product": (given @ table.T).argmin(dim=-1),
    }
    answer: object = position_of(given.clone(), base)
    if isinstance(answer, Tensor) and (answer.is_floating_point() or answer.is_complex()):
        return Feedback("2.4", False, f"return whole numbers, got {answer.dtype}.")
    right = "every hand was read, and the clock told the position."
    return compare("2.4", answer, m, mistakes, right=right)
