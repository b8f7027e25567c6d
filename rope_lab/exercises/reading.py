"""Checkers of chapter 2 on what vectors tell: a position read off, a relative term, positions of padded texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import drift, half_order, relative_part, sinusoids, theta

LIMIT = 1000


def _best(p: Tensor, base: float, freqs: Tensor | None = None) -> Tensor:
    table = sinusoids(torch.arange(LIMIT), theta(p.shape[-1], base) if freqs is None else freqs)
    return p.double() @ table.T


def _position_of(p: Tensor, base: float) -> Tensor:
    return _best(p, base).argmax(dim=-1)


def _position_draws(d: Draw) -> Iterator[Inputs]:
    for dim, base in ((16, 10_000.0), (12, 2_000.0), (14, 5_000.0)):
        for chosen in (
            [d.whole(20, 400)],
            [0, 1, d.whole(2, 9), d.whole(30, 500), d.whole(501, 997), 998, 999],
        ):
            yield (100 * sinusoids(torch.tensor(chosen), theta(dim, base))).round() / 100, base


def _by_hand(p: Tensor, base: float, pair: int) -> Tensor:
    hand = torch.atan2(p[:, 2 * pair], p[:, 2 * pair + 1]) % (2 * math.pi)
    return (hand / theta(p.shape[-1], base)[pair]).round().long()


def _slow_hands(p: Tensor, base: float) -> Tensor:
    freqs = theta(p.shape[-1], base)
    slow = freqs * LIMIT < math.pi
    return (torch.atan2(p[:, ::2], p[:, 1::2])[:, slow] / freqs[slow]).mean(-1).long()


check_position_of = Exercise(
    "2.4",
    "position_of",
    _position_of,
    _position_draws,
    {
        "this reads only the fastest hand, which is back after six positions": lambda p, base: _by_hand(
            p, base, 0
        ),
        "this reads only the slowest hand; the rounding hides its steps": lambda p, base: _by_hand(
            p, base, p.shape[-1] // 2 - 1
        ),
        "positions are counted from 0: yours are one too high": lambda p, base: _position_of(p, base) + 1,
        "positions are counted from 0: yours are one too low, as if the table began at 1": lambda p, base: (
            _best(p, base)[:, 1:].argmax(dim=-1)
        ),
        "the pairs are in the wrong order: the fastest comes first": lambda p, base: _best(
            p, base, theta(p.shape[-1], base).flip(0)
        ).argmax(dim=-1),
        "this is the farthest position: take the largest inner product": lambda p, base: _best(
            p, base
        ).argmin(dim=-1),
        "the argument base is not used: this is the table for 10,000": lambda p, base: _position_of(
            p, 10_000.0
        ),
        "asin gives the same angle on both sides of a quarter turn; atan2 of sine and cosine tells them apart": (
            lambda p, base: (p[:, -2].clamp(-1, 1).asin() / theta(p.shape[-1], base)[-1]).round().long()
        ),
        "the table ends before position 999": lambda p, base: _best(p, base)[:, :500].argmax(dim=-1),
        "the table has all sines first; in p sine and cosine of a pair are neighbours": lambda p, base: _best(
            p[:, half_order(p.shape[-1]).argsort()], base
        ).argmax(dim=-1),
        "the largest is taken over the vectors; take it over the positions, for each vector": (
            lambda p, base: _best(p, base).argmax(dim=0)
        ),
        "these are the largest inner products; their places are the positions (argmax)": lambda p, base: (
            _best(p, base).max(dim=-1).values
        ),
        "only the sines are compared, and a sine is the same on both sides of a quarter turn": (
            lambda p, base: _best(p * torch.tensor([1.0, 0.0]).repeat(p.shape[-1] // 2), base).argmax(dim=-1)
        ),
        "only the cosines are compared, and a cosine is the same forwards and backwards": lambda p, base: (
            _best(p * torch.tensor([0.0, 1.0]).repeat(p.shape[-1] // 2), base).argmax(dim=-1)
        ),
        "the slow hands are averaged, whose rounding hides positions; compare all hands with a table": (
            _slow_hands
        ),
        "positions are counted from 0: yours are one too low": lambda p, base: _position_of(p, base) - 1,
    },
    right="every hand was read, and the clock told the position.",
)
"""Exercise 2.4: `position_of(p, base)` reads integer positions below 1,000 off rounded vectors (N, C)."""


def _block(freqs: Tensor, i: int, j: int, block: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    """A matrix that couples hand i with hand j, and no others, (C, C)."""
    A = torch.zeros(2 * len(freqs), 2 * len(freqs), dtype=torch.float64)
    A[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = torch.tensor(block, dtype=torch.float64)
    return A


ROTATION, MIRROR, ONES = ((1.0, 0.0), (0.0, 1.0)), ((1.0, 0.0), (0.0, -1.0)), ((1.0, 1.0), (1.0, 1.0))


def _alike(freqs: Tensor) -> tuple[int, int] | None:
    """Two hands that turn at one speed."""
    couples = ((i, j) for i in range(len(freqs)) for j in range(i))
    return next(((i, j) for i, j in couples if freqs[i] == freqs[j]), None)


def _also_relative(freqs: Tensor) -> Tensor | None:
    couple = _alike(freqs)
    return _block(freqs, *couple, ROTATION) if couple else None


def _relative_draws(d: Draw) -> Iterator[Inputs]:
    a, b, c = ((4 + 3 * int(x) + d.whole(0, 1)) / 10 for x in d.order(8)[:3])  # apart by 0.2 or more, below π
    for freqs in ([a, b], [a, a], [a, b, a], [a, a / 2**0.5, b, c], [a, b, c, b]):
        yield (torch.tensor(freqs, dtype=torch.float64),)


def _not_relative(A: Tensor, freqs: Tensor) -> str:
    size = 2 * len(freqs)
    if A.shape != (size, size):
        return f"A couples {size} coordinates with {size}, got shape {tuple(A.shape)}."
    if not A.norm():
        return "A must not be 0."
    A = A / A.norm()
    order = half_order(size).argsort()
    inner = A[order][:, order]
    if _couples(A, freqs) and not _couples(inner, freqs):
        return "in the order with all sines first this A would be right; here sine and cosine of a hand are neighbours."
    share = float(relative_part(A).norm()) ** 2
    if share > 1e-8:
        return f"the relative part of A has to be 0, and it has {share:.0%} of the sum of squares."
    if found := drift(A, freqs):
        m, n, t, here, there = found
        at = f"{here:.3f} at ({m}, {n}), and {there:.3f} at ({m + t}, {n + t})"
        return f"with a sum of squares of 1, your A gives the term {at}. {_couples(A, freqs)}".rstrip()
    return ""


def _couples(A: Tensor, freqs: Tensor) -> str:
    """A sentence about two hands that A couples and must not, or not in this way."""
    for i in range(len(freqs)):
        for j in range(len(freqs)):
            (a, b), (c, d) = A[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].tolist()
            if i == j and max(map(abs, (a, b, c, d))) > 1e-6:
                return f"The block of hand {i} with itself is not 0."
            if freqs[i] != freqs[j] and max(map(abs, (a, b, c, d))) > 1e-6:
                return f"Hands {i} and {j} are coupled, and have different frequencies, {freqs[i]:g} and {freqs[j]:g}."
            if max(abs(a - d), abs(b + c)) > 1e-6:
                return (
                    f"Hands {i} and {j} are a right couple, but the block ({a:.3g}, {b:.3g}; {c:.3g}, {d:.3g}) "
                    "has a mirror in it, which gives a function of m + n: take (u, −v; v, u)."
                )
    return ""


def _where_alike(block: tuple[tuple[float, float], tuple[float, float]]) -> Callable[[Tensor], Tensor | None]:
    return lambda freqs: _block(freqs, *couple, block) if (couple := _alike(freqs)) else None


check_also_relative = Exercise(
    "2.5",
    "also_relative",
    _also_relative,
    _relative_draws,
    {
        "the identity is its own relative part": lambda f: torch.eye(2 * len(f), dtype=torch.float64),
        "a mirror on the diagonal gives a function of m + n": lambda f: _block(f, 0, 0, MIRROR),
        "hands 0 and 1 are coupled, whatever their frequencies": lambda f: _block(f, 1, 0, ROTATION),
        "the hands are the right ones, but a mirror between them gives a function of m + n": _where_alike(
            MIRROR
        ),
        "the hands are the right ones, but a block of ones is a rotation and a mirror": _where_alike(ONES),
        "all hands are coupled with all": lambda f: torch.ones(2 * len(f), 2 * len(f), dtype=torch.float64),
        "only neighbouring frequencies are compared": lambda f: next(
            (_block(f, i + 1, i, ROTATION) for i in range(len(f) - 1) if f[i] == f[i + 1]), None
        ),
    },
    right="two hands of one speed never drift apart.",
    fault=_not_relative,
)
"""Exercise 2.5: `also_relative(freqs)` is an A (C, C) with a relative term and no relative part, or None."""


def _text_positions(mask: Tensor) -> Tensor:
    return mask.cumsum(-1) - 1


def _mask_draws(d: Draw) -> Iterator[Inputs]:
    yield (torch.tensor([[1, 1]]),)
    yield (torch.tensor([[0, 1, 1]]),)
    yield (torch.tensor([[1, 1, 0, 0]]),)
    for width in (6, 8):
        rows = []
        for left, right in ((d.whole(1, 2), d.whole(1, 2)), (0, d.whole(2, 3)), (d.whole(3, 4), 0), (0, 0)):
            rows.append([0] * left + [1] * (width - left - right) + [0] * right)
        yield (torch.tensor(rows),)


def _miscounted(y: Tensor, mask: Tensor) -> str:
    for row, (own, is_text) in enumerate(zip(y, mask.bool(), strict=True)):
        counted, first = own[is_text], int(is_text.int().argmax())
        steps = counted.diff()
        where = f"the text in row {row} begins in column {first}: "
        if (steps != 1).any():
            t = int((steps != 1).int().argmax())
            return (
                f"{where}its tokens {t} and {t + 1} have the positions {counted[t]:g} and {counted[t + 1]:g}."
            )
        if counted[0] != 0:
            return f"{where}its first token has the position {counted[0]:g}."
    return ""


def _columns(mask: Tensor) -> Tensor:
    return torch.arange(mask.shape[1]).expand(mask.shape)


check_text_positions = Exercise(
    "2.6",
    "text_positions",
    _text_positions,
    _mask_draws,
    {
        "this is the function of the page, unmended": lambda mask: (
            _columns(mask) - (mask == 0).sum(-1, keepdim=True)
        ),
        "these are the columns; the padding before a text is counted": _columns,
        "positions are counted from 1": lambda mask: mask.cumsum(-1),
        "all texts are moved by the padding of the one that has most": lambda mask: (
            _columns(mask) - mask.argmax(-1).max()
        ),
        "the texts are counted on from row to row": lambda mask: (
            mask.flatten().cumsum(0).view(mask.shape) - 1
        ),
        "the count runs from the end of the text": lambda mask: mask.flip(-1).cumsum(-1).flip(-1) - 1,
        "the padding on both sides is subtracted, and what is below 0 is set to 0": lambda mask: (
            _columns(mask) - (mask == 0).sum(-1, keepdim=True)
        ).clamp_min(0),
        "the side of the padding is that of the first text; each text has its own": lambda mask: (
            _columns(mask)[0] - ((mask == 0).sum(-1, keepdim=True) if mask[0, 0] == 0 else 0)
        ),
        "the running sum is over the texts; it has to be over the columns, dim=-1": lambda mask: (
            mask.cumsum(0) - 1
        ),
        "padding is set to 0, but it is still counted": lambda mask: _columns(mask) * mask,
    },
    right="every text begins at 0 now, wherever its padding is.",
    fault=_miscounted,
)
"""Exercise 2.6: `text_positions(mask)` counts the tokens of each padded text from 0, (B, N)."""
