"""Checkers of chapter 16: a cache, level differences, a band left out, a sum that rises, texts packed in a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import rotated, theta
from rope_lab.exercises.windows import TAU, standard_error

__all__ = ["check_is_level", "check_packed_mask", "check_positions_read", "check_rises", "check_without_band"]


def _positions_read(N: int, t: int, cached: bool) -> int:
    return N + t - 1 if cached else t * N + t * (t - 1) // 2


def _reading_draws(d: Draw) -> Iterator[Inputs]:
    yield 3, 3, False
    yield 3, 3, True
    for cached in (True, False, True, False):
        yield d.whole(4, 40), d.whole(4, 20), cached


def _other(without: Callable[[int, int], int], with_cache: Callable[[int, int], int]) -> Callable[..., int]:
    return lambda N, t, cached: with_cache(N, t) if cached else without(N, t)


def _all(N: int, t: int) -> int:
    return _positions_read(N, t, False)


def _new(N: int, t: int) -> int:
    return _positions_read(N, t, True)


check_positions_read = Exercise(
    "16.1",
    "positions_read",
    _positions_read,
    _reading_draws,
    {
        "the last character is drawn but not read: nothing follows it": lambda N, t, cached: (
            _positions_read(N, t + 1, cached) - (0 if cached else N)
        ),
        "with a cache the prompt is still read, once": _other(_all, lambda N, t: t),
        "with a cache, the step that reads the prompt draws the first character too": _other(
            _all, lambda N, t: N + t
        ),
        "without a cache the characters drawn before are read again as well": _other(
            lambda N, t: t * N, _new
        ),
        "the two are swapped: a cache reads less": lambda N, t, cached: _positions_read(N, t, not cached),
        "the argument cached is not used: this is without a cache": lambda N, t, cached: _all(N, t),
        "the argument cached is not used: this is with a cache": lambda N, t, cached: _new(N, t),
        "the sum of 0, 1, …, t − 1 is t(t − 1)/2": _other(lambda N, t: t * N + t * t, _new),
        "these are scores, the squares of the lengths; count positions": _other(
            lambda N, t: sum((N + i) ** 2 for i in range(t)), _new
        ),
        "this is the last step only; add up all of them": _other(lambda N, t: N + t - 1, lambda N, t: 1),
    },
    right="without a cache the count grows with the product of prompt and text, with one only with their sum.",
)
"""Exercise 16.1: `positions_read(N, t, cached)`: how many positions a model reads to draw t tokens after a prompt."""


def _is_level(differences: Tensor, tau: float, margin: float) -> Tensor:
    return differences.mean(-1).abs() + tau * standard_error(differences) < margin


def _level_draws(d: Draw) -> Iterator[Inputs]:
    for K in (3, 4, 5, 3):
        tau, margin = TAU[K], d.one_of(0.1, 0.2, 0.3)
        rows = []
        for mean in (0, 0.1, 0.25, 0.5, 0.8, 1.3, 3):
            for half in (0.05, 0.3, 0.55, 0.92, 1.2, 2.5):
                if abs(mean + half - 1) < 0.02:
                    continue
                row = d.tensor(K)
                row = (row - row.mean()) / standard_error(row) * half / tau
                rows += [margin * (row + mean), margin * (row - mean)]
        yield torch.stack(rows)[d.order(len(rows))], round(tau, 6), margin


check_is_level = Exercise(
    "16.2",
    "is_level",
    _is_level,
    _level_draws,
    {
        "this is the other way round: these are the rows that are not level": lambda d, tau, margin: (
            ~_is_level(d, tau, margin)
        ),
        "an interval that contains zero may be wide: undecided is not level": lambda d, tau, margin: (
            d.mean(-1).abs() <= tau * standard_error(d)
        ),
        "that the mean is within the margin is not enough; the whole interval must be": lambda d, tau, margin: (
            d.mean(-1).abs() < margin
        ),
        "one end of the interval within the margin is not enough; both must be": lambda d, tau, margin: (
            d.mean(-1).abs() - tau * standard_error(d) < margin
        ),
        "an interval far below zero is not level either: take the size of the mean": lambda d, tau, margin: (
            d.mean(-1) + tau * standard_error(d) < margin
        ),
        "an interval that is narrow may be far from zero": lambda d, tau, margin: (
            tau * standard_error(d) < margin
        ),
        "this is the interval of single runs; divide the standard deviation by √K": lambda d, tau, margin: (
            d.mean(-1).abs() + tau * d.std(-1) < margin
        ),
        "this is one standard error on either side; take tau of them": lambda d, tau, margin: _is_level(
            d, 1.0, margin
        ),
        "the argument margin is not used: this is 0.05": lambda d, tau, margin: _is_level(d, tau, 0.05),
        "divide by K − 1 in the variance, which is what .std() does (correction 1)": lambda d, tau, margin: (
            d.mean(-1).abs() + tau * standard_error(d, 0) < margin
        ),
        "that every seed is within the margin is not enough: their mean is uncertain": lambda d, tau, margin: (
            (d.abs() < margin).all(-1)
        ),
    },
    right="to show that nothing changed takes a margin, and seeds that agree closely.",
)
"""Exercise 16.2: `is_level(differences, tau, margin)`, differences (rows, K), True where the interval is within."""


def _restored(x: Tensor, turned: Tensor, first: int, last: int) -> Tensor:
    return torch.cat((turned[:, :first], x[:, first:last], turned[:, last:]), dim=1)


def _without_band(x: Tensor, angles: Tensor, first: int, last: int) -> Tensor:
    return _restored(x, rotated(x, angles), 2 * first, 2 * last)


def _band_draws(d: Draw) -> Iterator[Inputs]:
    for dim, first, last in ((4, 0, 1), (8, 1, 3), (8, 1, 2), (12, 2, 4)):
        freqs = theta(dim, d.real(5, 30))
        at = torch.arange(1, d.whole(3, 5), dtype=torch.float64)[:, None]
        yield d.tensor(len(at), dim), at * freqs, first, last


def _by_halves(x: Tensor, angles: Tensor, first: int, last: int) -> Tensor:
    kept = angles.clone()
    kept[:, first:last] = 0
    return rotated(x, kept, "half")


check_without_band = Exercise(
    "16.3",
    "without_band",
    _without_band,
    _band_draws,
    {
        "this is the function of the page: it also takes away the content of the band": lambda x, a, first, last: (
            _restored(torch.zeros_like(x), rotated(x, a), 2 * first, 2 * last)
        ),
        "only the band is rotated here; it is the one to leave as it is": lambda x, a, first, last: _restored(
            rotated(x, a), x, 2 * first, 2 * last
        ),
        "pair i has the coordinates 2i and 2i + 1; you leave the coordinates first to last − 1": (
            lambda x, a, first, last: _restored(x, rotated(x, a), first, last)
        ),
        "the pair `last` is not in the band": lambda x, a, first, last: _without_band(x, a, first, last + 1),
        "the pair `first` is in the band": lambda x, a, first, last: _without_band(x, a, first + 1, last),
        "the whole input is left as it is; the other pairs still turn": lambda x, a, first, last: x.clone(),
        "every pair is rotated here, the band too": lambda x, a, first, last: rotated(x, a),
        "the pairs are neighbours, (0, 1), (2, 3), …, not coordinates half a head apart": _by_halves,
        "the rotation runs backwards": lambda x, a, first, last: _without_band(x, -a, first, last),
        "the band is turned back from where it was, not left: its angle is 0": lambda x, a, first, last: (
            _restored(rotated(x, -a), rotated(x, a), 2 * first, 2 * last)
        ),
    },
    right="the band compares contents as before, at any distance alike.",
    properties={
        "a rotation keeps the length of every row, and so does none": lambda y, x, a, first, last: bool(
            torch.allclose(y.double().norm(dim=1), x.double().norm(dim=1), atol=1e-4)
        ),
    },
)
"""Exercise 16.3: `without_band(x, angles, first, last)` rotates all pairs but first, …, last − 1; x (N, D), mended."""


def _curve(freqs: Tensor, s: float) -> float:
    return float((s * freqs.double()).cos().sum())


def _climbs(freqs: Tensor, s: int) -> bool:
    return _curve(freqs, s + 1) > _curve(freqs, s) + 1e-9


def _rises(freqs: Tensor, reach: int) -> int | None:
    return next((s for s in range(reach) if _climbs(freqs, s)), None)


def _rise_draws(d: Draw) -> Iterator[Inputs]:
    yield torch.tensor([2.0], dtype=torch.float64), d.whole(5, 9)
    for dim in (4, 6, 8):
        yield theta(dim, d.real(20, 90)), d.whole(40, 60)
    for pairs in (1, 2, 4):  # less than half a turn within the reach
        reach = d.whole(8, 20)
        slow = torch.tensor([math.pi / reach * 0.98 ** (i + 1) for i in range(pairs)], dtype=torch.float64)
        yield slow, reach


def _no_rise(y: Tensor, freqs: Tensor, reach: int) -> str:
    if y.shape != () or bool(y != y.round()):
        return "return one whole number, a distance."
    s = int(y)
    if not 0 <= s < reach:
        return f"the distance must be between 0 and {reach - 1}, got {s}."
    here, there = _curve(freqs, s), _curve(freqs, s + 1)
    if there > here + 1e-9:
        return ""
    return f"from distance {s} to {s + 1} the sum falls, from {here:.4g} to {there:.4g}."


def _first_step(freqs: Tensor, reach: int, step: Callable[[Tensor, int], bool]) -> int | None:
    return next((s for s in range(reach) if step(freqs, s)), None)


check_rises = Exercise(
    "16.4",
    "rises",
    _rises,
    _rise_draws,
    {
        "this is right wherever the sum rises; with slow pairs it does not": lambda freqs, reach: (
            _rises(freqs, reach) or 0
        ),
        "with pairs this slow the sum rises too, but beyond the reach": lambda freqs, reach: _rises(
            freqs, 100 * reach
        ),
        "this is a distance from which the sum falls": lambda freqs, reach: (
            0 if _rises(freqs, reach) is not None else None
        ),
        "a sum that is negative may still fall": lambda freqs, reach: (
            None
            if _rises(freqs, reach) is None
            else _first_step(freqs, reach, lambda f, s: _curve(f, s) < 0 and not _climbs(f, s)) or 0
        ),
        "the last step before the sum rises is still a fall": lambda freqs, reach: (
            None if (s := _rises(freqs, reach)) is None else s - 1
        ),
    },
    right="each pair falls for half a turn, and then it rises again.",
    fault=_no_rise,
)
"""Exercise 16.4: `rises(freqs, reach)`, a distance below `reach` from which Σ cos(s·θ_i) rises, or None."""


def _texts(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """The number of each character's text, and the character's place in it, (N,) each."""
    text = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    return text, torch.cat([torch.arange(n) for n in lengths])


def _packed(lengths: list[int], same: Callable[[Tensor, Tensor], Tensor], back: int = 0) -> Tensor:
    """True where the texts of query and key compare as `same`, and the key is at least `back` characters earlier."""
    text, _ = _texts(lengths)
    at = torch.arange(len(text))
    return same(text[:, None], text) & (at[:, None] - at >= back)


def _packed_mask(lengths: list[int]) -> Tensor:
    return _packed(lengths, torch.eq)


def _one_late(lengths: list[int]) -> Tensor:
    """The function of the page, which finds the end of a text one character too late."""
    at = torch.arange(sum(lengths))
    text = torch.searchsorted(torch.tensor(lengths).cumsum(0), at)
    return (text[:, None] == text) & (at[:, None] >= at)


def _packed_draws(d: Draw) -> Iterator[Inputs]:
    yield ([3, 5, 4],)
    for count in (2, 3, 5):
        yield ([d.whole(2, 6), *(d.whole(1, 6) for _ in range(count - 2)), d.whole(2, 6)],)


check_packed_mask = Exercise(
    "16.5",
    "packed_mask",
    _packed_mask,
    _packed_draws,
    {
        "this is the function of the page: the first character of a text counts as the last of the one before": (
            _one_late
        ),
        "this is the whole triangle: a text sees the texts before it": lambda lengths: _packed(
            lengths, torch.ge
        ),
        "a character sees later ones of its text": lambda lengths: _packed(lengths, torch.eq, -sum(lengths)),
        "a character does not see itself": lambda lengths: _packed(lengths, torch.eq, 1),
        "rows are queries and columns keys; yours is transposed": lambda lengths: _packed_mask(lengths).T,
        "True is where a key may be seen; yours is the other way round": lambda lengths: (
            ~_packed_mask(lengths)
        ),
        "positions that start again in each text do not tell the texts apart": lambda lengths: (
            _texts(lengths)[1][:, None] >= _texts(lengths)[1]
        ),
        "these are the characters before the query in all texts but its own": lambda lengths: _packed(
            lengths, torch.ne
        ),
    },
    right="the mask has as many ones as equation 16.1 says.",
)
"""Exercise 16.5: `packed_mask(lengths)`, the mask (N, N) of causal attention for texts packed into one row, mended."""
