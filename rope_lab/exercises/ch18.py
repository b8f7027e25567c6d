"""Checkers of chapter 18: a test of scores, quantised rows, left padding, aliases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import half_order, theta

__all__ = ["check_alias_of", "check_answer_positions", "check_quantised_to_half", "check_unevenness"]


def _diagonals(scores: Tensor) -> list[Tensor]:
    rows, columns = scores.shape
    return [scores.diagonal(offset) for offset in range(1 - rows, columns)]


def _range(entries: Tensor) -> Tensor:
    return entries.max() - entries.min()


def _unevenness(scores: Tensor) -> Tensor:
    return torch.stack([_range(entries) for entries in _diagonals(scores)]).max()


def _over(parts: Callable[[Tensor], list[Tensor]], size: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The largest size of a part that has two entries or more."""
    return lambda scores: torch.stack([size(part) for part in parts(scores) if len(part) > 1]).max()


def _scores_draws(d: Draw) -> Iterator[Inputs]:
    yield (d.tensor(2, 2),)
    yield (d.tensor(3, 3),)
    yield (d.tensor(2, 4),)
    yield (d.tensor(5, 3),)
    yield (d.tensor(d.whole(4, 5), d.whole(4, 5)),)
    for rows, columns, place in ((4, 4, (3, 1)), (4, 5, (1, 4)), (3, 3, (2, 2))):
        key, query = torch.arange(columns), torch.arange(rows)[:, None]
        band = d.tensor(rows + columns)[query - key + columns - 1]  # the same on each diagonal
        band[place] += d.real(1, 3)
        yield (band,)
    yield (torch.diag(torch.tensor([0.0, 1.5, -1.2, 0.3], dtype=torch.float64)),)


check_unevenness = Exercise(
    "18.1",
    "unevenness",
    _unevenness,
    _scores_draws,
    {
        "these are the diagonals from the upper right to the lower left, on which m + n is the same": (
            lambda scores: _unevenness(scores.flip(-1))
        ),
        "this is the main diagonal alone, where the distance is 0": lambda scores: _range(scores.diagonal()),
        "keys after the query count too: this is the lower triangle": lambda scores: torch.stack(
            [_range(scores.diagonal(-s)) for s in range(len(scores))]
        ).max(),
        "keys before the query count too: this is the upper triangle": lambda scores: torch.stack(
            [_range(scores.diagonal(s)) for s in range(scores.shape[1])]
        ).max(),
        "this is the largest step from one entry to the next; steps of one direction add up": _over(
            _diagonals, lambda entries: entries.diff().abs().max()
        ),
        "this is the largest distance from the first entry of a diagonal": _over(
            _diagonals, lambda entries: (entries - entries[0]).abs().max()
        ),
        "this is the largest distance from the mean of a diagonal": _over(
            _diagonals, lambda entries: (entries - entries.mean()).abs().max()
        ),
        "this is the largest standard deviation of a diagonal, not its range": _over(
            _diagonals, lambda entries: entries.std()
        ),
        "this is the largest standard deviation of a diagonal, with N and not N − 1; take the range": _over(
            _diagonals, lambda entries: entries.std(correction=0)
        ),
        "this compares the entries of a row, which belong to different distances": _over(
            lambda scores: list(scores), _range
        ),
        "this compares the entries of a column, which belong to different distances": _over(
            lambda scores: list(scores.T), _range
        ),
        "this is the range of the whole map": _range,
        "the largest range is asked for, not the mean of the ranges": lambda scores: torch.stack(
            [_range(entries) for entries in _diagonals(scores)]
        ).mean(),
        "the largest range is asked for, not their sum": lambda scores: torch.stack(
            [_range(entries) for entries in _diagonals(scores)]
        ).sum(),
    },
    right="a rotation that follows the law gives 0, up to rounding.",
    properties={"a range is not negative, and yours is": lambda y, scores: bool(y >= 0)},
)
"""Exercise 18.1: `unevenness(scores)` is the largest range of the entries of a diagonal."""


Rows = dict[str, Tensor]


def _order(rows: int, heads: int, *, back: bool = False) -> Tensor:
    """The rows of the half layout among interleaved ones, head by head."""
    order = half_order(rows // heads)
    order = order.argsort() if back else order
    return torch.cat([order + head * len(order) for head in range(heads)])


def _to_half(codes: Tensor, scales: Tensor, heads: int) -> Rows:
    order = _order(len(codes), heads)
    return {"codes": codes[order], "scales": scales[order]}


def _rows_draws(d: Draw) -> Iterator[Inputs]:
    for heads, dim, width in ((1, 6, 2), (1, 4, 4), (2, 6, 3), (3, d.one_of(4, 6), 2), (2, 8, 16)):
        yield d.wholes(heads * dim, width, low=-127, high=127), d.tensor(heads * dim, low=0.1), heads


def _with(**orders: Callable[[int, int], Tensor] | None) -> Callable[..., Rows]:
    """Codes and scales, each in an order of its own or left alone."""

    def reordered(codes: Tensor, scales: Tensor, heads: int) -> Rows:
        given = {"codes": codes, "scales": scales}
        return {
            name: rows if (order := orders[name]) is None else rows[order(len(rows), heads)]
            for name, rows in given.items()
        }

    return reordered


def _one_head(rows: int, heads: int) -> Tensor:
    return _order(rows, 1)


def _back(rows: int, heads: int) -> Tensor:
    return _order(rows, heads, back=True)


check_quantised_to_half = Exercise(
    "18.2",
    "quantised_to_half",
    _to_half,
    _rows_draws,
    {
        "the scales stay with the places, not with the rows that they belong to": _with(
            codes=_order, scales=None
        ),
        "the scales are moved, the rows are not": _with(codes=None, scales=_order),
        "all heads are reordered as one": _with(codes=_one_head, scales=_one_head),
        "the rows are reordered head by head, the scales all as one head": _with(
            codes=_order, scales=_one_head
        ),
        "the rows are reordered all as one head, the scales head by head": _with(
            codes=_one_head, scales=_order
        ),
        "this is the way back, from the half layout to the interleaved one": _with(codes=_back, scales=_back),
        "the scales take the way back, from half to interleaved": _with(codes=_order, scales=_back),
        "the rows take the way back, from half to interleaved": _with(codes=_back, scales=_order),
        "the scales are already multiplied into the codes, and come back as ones": lambda codes, scales, heads: {
            "codes": (codes * scales[:, None])[_order(len(codes), heads)],
            "scales": torch.ones_like(scales),
        },
        "the columns of the codes are reordered; a head is a block of rows": lambda codes, scales, heads: {
            "codes": codes[:, half_order(codes.shape[1] // 2 * 2)] if codes.shape[1] % 2 == 0 else codes,
            "scales": scales[_order(len(scales), heads)],
        },
    },
    right="rows and scales have moved together.",
)
"""Exercise 18.2: `quantised_to_half(codes, scales, heads)` are rows of int8 and their scales, in the half layout."""


def _answer_positions(mask: Tensor, new: int) -> Tensor:
    return mask.sum(-1, keepdim=True) + torch.arange(new)


def _mask_draws(d: Draw) -> Iterator[Inputs]:
    for rows, columns, new in ((2, 3, 1), (2, 5, 2), (3, 6, d.whole(2, 3)), (4, d.whole(7, 9), 3)):
        lengths = [columns - d.whole(1, columns - 1) for _ in range(rows)]
        if rows > 2:
            lengths[0], lengths[1] = 2, 4
        if rows == 4:
            lengths[3] = columns
        place = torch.arange(columns)
        yield torch.stack([place >= columns - length for length in lengths]), new
    yield torch.tensor([[False, True, True, True], [True, False, True, False]]), 2
    yield torch.tensor([[True, True, True, False], [True, False, False, False]]), 2


check_answer_positions = Exercise(
    "18.3",
    "answer_positions",
    _answer_positions,
    _mask_draws,
    {
        "padding is counted as well, which the prompt did not do": lambda mask, new: (
            mask.shape[1] + torch.arange(new)
        ).expand(len(mask), -1),
        "the positions start one too late: the first new token follows the last real one": lambda mask, new: (
            _answer_positions(mask, new) + 1
        ),
        "the positions start one too early: that one is taken by the last real token": lambda mask, new: (
            _answer_positions(mask, new) - 1
        ),
        "all rows get the positions of the first": lambda mask, new: _answer_positions(mask, new)[:1].expand(
            len(mask), -1
        ),
        "all rows get the positions of the longest": lambda mask, new: (
            mask.sum(-1).max() + torch.arange(new)
        ).expand(len(mask), -1),
        "the new tokens of a row share a position": lambda mask, new: mask.sum(-1, keepdim=True).expand(
            -1, new
        ),
        "the positions restart at 0": lambda mask, new: torch.arange(new).expand(len(mask), -1),
        "this counts the padding instead of the tokens": lambda mask, new: (
            (~mask).sum(-1, keepdim=True) + torch.arange(new)
        ),
        "the real tokens of all rows are added up": lambda mask, new: (mask.sum() + torch.arange(new)).expand(
            len(mask), -1
        ),
        "this is where the last real token stands in its row, plus one, and not how many there are": (
            lambda mask, new: (
                (mask * torch.arange(1, mask.shape[1] + 1)).amax(-1, keepdim=True) + torch.arange(new)
            )
        ),
    },
    right="prompt and answer now count alike.",
)
"""Exercise 18.3: `answer_positions(mask, new)` are the positions of the tokens after a padded prompt, (B, new)."""


def _alias(freqs: Tensor, step: float) -> Tensor | None:
    return freqs + 2 * math.pi / step if step else None


def _alias_draws(d: Draw) -> Iterator[Inputs]:
    for dim, step in ((2, 1.0), (4, 0.5), (6, d.one_of(0.25, 0.2)), (4, 3.0), (8, d.one_of(1.5, 2.5))):
        yield theta(dim, d.one_of(30.0, 70.0, 10_000.0)), step
    yield theta(4, 50.0), 0.0


def _no_alias(found: Tensor, freqs: Tensor, step: float) -> str:
    if found.shape != freqs.shape:
        return f"there is one frequency per pair, {len(freqs)} of them, got shape {tuple(found.shape)}."
    found = found.double()
    for position in [step * k for k in range(1, 8)] if step else [0.3, 1.0, math.e, 100.1]:
        apart = (
            torch.polar(torch.ones_like(freqs), found * position) - torch.exp(1j * freqs * position)
        ).abs()
        if apart.max() > 1e-4:
            return f"at position {position:.4g} pair {int(apart.argmax())} has turned to another place."
    if (same := (found - freqs).abs() < 1e-3).any():
        return f"pair {int(same.nonzero()[0])} has its old frequency."
    return ""


def _per(step: float) -> float:
    return 2 * math.pi / step if step else 0.0


def _unless_any(change: Callable[[Tensor, float], Tensor]) -> Callable[..., Tensor | None]:
    return lambda freqs, step: change(freqs, step) if step else None


check_alias_of = Exercise(
    "18.4",
    "alias_of",
    _alias,
    _alias_draws,
    {
        "a whole turn per token is a twin where positions are whole; here they are multiples of the step": (
            _unless_any(lambda freqs, step: freqs + 2 * math.pi)
        ),
        "a whole turn has to be added per step, so divide 2π by the step": _unless_any(
            lambda freqs, step: freqs + 2 * math.pi * step
        ),
        "this is half a turn per step: it agrees at every second position": _unless_any(
            lambda freqs, step: freqs + math.pi / step
        ),
        "clockwise gives other scores, unless keys or queries are changed too": _unless_any(
            lambda freqs, step: -freqs
        ),
        "the same frequencies in another order turn other pairs": _unless_any(
            lambda freqs, step: freqs.roll(1) + _per(step)
        ),
        "only the first pair has another frequency; change all": _unless_any(
            lambda freqs, step: freqs + _per(step) * (torch.arange(len(freqs)) == 0)
        ),
        "where positions may be any real numbers, no other frequencies will do": lambda freqs, step: (
            freqs + 2 * math.pi / (step or 1.0)
        ),
        "twice the frequency is another rotation": _unless_any(lambda freqs, step: 2 * freqs),
        "the frequency is multiplied; add a whole turn to it": _unless_any(
            lambda freqs, step: freqs * (1 + 2 * math.pi / step)
        ),
    },
    right="no test at these positions can tell the two apart.",
    fault=_no_alias,
)
"""Exercise 18.4: `alias_of(freqs, step)` are other frequencies with the same rotation at all multiples of the step."""
