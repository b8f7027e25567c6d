"""Checkers of chapter 9: patches in the units of training, owners of pairs, two places at once, a grid of patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import theta

__all__ = ["check_patch_grid", "check_scaled_places", "check_two_places", "check_whose_pair"]


def _count(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64)


def _scaled_places(n: int, trained: int) -> Tensor:
    return (_count(n) + 0.5) * trained / n - 0.5


def _place_draws(d: Draw) -> Iterator[Inputs]:
    yield 3, 2
    yield d.one_of(2, 3), d.whole(4, 6)
    yield 6, 4
    yield d.whole(7, 12), d.whole(3, 6)
    yield d.whole(14, 20), d.whole(24, 28)


check_scaled_places = Exercise(
    "9.1",
    "scaled_places",
    _scaled_places,
    _place_draws,
    {
        "these patches are counted; their unit is a patch of the grid that is read": lambda n, trained: (
            _count(n)
        ),
        "the left edges are in the right place, but a coordinate belongs to a centre": lambda n, trained: (
            _count(n) * trained / n
        ),
        "the first and the last patch of both grids are laid on each other; their centres are not in one place": (
            lambda n, trained: _count(n) * (trained - 1) / (n - 1)
        ),
        "the first trained patch has the coordinate 0, not ½": lambda n, trained: (
            (_count(n) + 0.5) * trained / n
        ),
        "these are places from −1 to 1": lambda n, trained: (2 * _count(n) + 1) / n - 1,
        "the ratio is upside down": lambda n, trained: (_count(n) + 0.5) * n / trained - 0.5,
        "these are fractions of the picture": lambda n, trained: (_count(n) + 0.5) / n,
        "half a patch has to be added before you scale": lambda n, trained: _count(n) * trained / n - 0.5,
        "half a patch has to be subtracted in the end, not added": lambda n, trained: (
            (_count(n) - 0.5) * trained / n + 0.5
        ),
    },
    right="one place in the picture has one coordinate, whatever the resolution.",
    properties={
        "the middle of the picture is at (trained − 1)/2, and yours is not": lambda y, n, trained: (
            abs(float(y.mean()) - (trained - 1) / 2) < 1e-4
        )
    },
)
"""Exercise 9.1: `scaled_places(n, trained)` has the centres of n patches in units of the trained ones, (n,)."""


def _whose_pair(sections: list[int]) -> Tensor:
    owner = torch.zeros(sum(sections), dtype=torch.int64)
    for axis in (1, 2):
        owner[axis : 3 * sections[axis] : 3] = axis
    return owner


def _section_draws(d: Draw) -> Iterator[Inputs]:
    yield ([2, 1, 1],)
    yield ([d.whole(4, 6), 2, d.one_of(1, 3)],)
    yield ([6, 5, 5],)
    more = d.whole(5, 8)
    yield ([2 * more, more, more - d.whole(2, 4)],)
    yield ([d.one_of(24, 25), 20, 20],)
    yield ([d.whole(9, 12), 0, 3],)


def _dealt(sections: list[int]) -> Tensor:
    """In turns, where an axis that has all its pairs is left out."""
    left, owner = list(sections), []
    while any(left):
        for axis in range(3):
            if left[axis]:
                left[axis] -= 1
                owner.append(axis)
    return torch.tensor(owner)


def _contiguous(sections: list[int]) -> Tensor:
    return torch.arange(3).repeat_interleave(torch.tensor(sections))


check_whose_pair = Exercise(
    "9.2",
    "whose_pair",
    _whose_pair,
    _section_draws,
    {
        "these sections are contiguous": _contiguous,
        "the axes take turns to the end; a section says how many pairs an axis owns": lambda sections: (
            torch.arange(sum(sections)) % 3
        ),
        "when an axis has all its pairs, its turns go to time, not to the next axis": _dealt,
        "rows and columns are exchanged": lambda sections: torch.tensor([0, 2, 1])[
            _whose_pair([sections[0], sections[2], sections[1]])
        ],
        "the slowest pairs are dealt first; begin with pair 0": lambda sections: _whose_pair(sections).flip(
            0
        ),
        "time comes first in every turn, then rows, then columns": lambda sections: torch.tensor([1, 2, 0])[
            _whose_pair(sections)
        ],
        "a section counts pairs, not coordinates: there are too many": lambda sections: _whose_pair(
            sections
        ).repeat_interleave(2),
        "each axis owns pairs to the end of its section, not as many as the section says": lambda sections: (
            torch.tensor([i % 3 if i < sections[i % 3] else 0 for i in range(sum(sections))])
        ),
    },
    right="each axis has fast and slow pairs, and time the rest.",
    properties={
        "an axis does not own as many pairs as its section says": lambda y, sections: (
            torch.bincount(y.long().flatten(), minlength=3).tolist() == list(sections)
        )
    },
)
"""Exercise 9.2: `whose_pair(sections)` is the axis of each pair in interleaved M-RoPE, (D/2,)."""


def _rows(freqs: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """What multiplies (Re h, Im h) in the scores at the two places and at the two crossed ones, (4, D)."""
    crossed = (torch.stack((first[0], second[1])), torch.stack((second[0], first[1])))
    angle = torch.stack((first, second, *crossed)).to(freqs) @ freqs
    return torch.cat((angle.cos(), -angle.sin()), dim=-1)


def _scores(h: Tensor, freqs: Tensor, first: Tensor, second: Tensor) -> Tensor:
    h = h.to(torch.complex128)
    return _rows(freqs, first, second) @ torch.cat((h.real, h.imag))


def _wanted(freqs: Tensor, first: Tensor, second: Tensor, goal: tuple[float, ...]) -> Tensor | None:
    """Content with these scores at the four places, or None."""
    rows = _rows(freqs, first, second)
    target = torch.tensor(goal, dtype=torch.float64)
    found = torch.linalg.pinv(rows, rtol=1e-9) @ target
    if (rows @ found - target).abs().max() > 1e-6:
        return None
    return torch.complex(*found.chunk(2))


def _two_places(freqs: Tensor, first: Tensor, second: Tensor) -> Tensor | None:
    return _wanted(freqs, first, second, (1.0, 1.0, 0.0, 0.0))


def _two_draws(d: Draw) -> Iterator[Inputs]:
    def axial(half: int) -> Tensor:
        own = theta(2 * half, 30.0)
        return torch.block_diag(own[None], own[None])

    def apart() -> tuple[Tensor, Tensor]:
        a, b = d.wholes(2, low=-4, high=-1), d.wholes(2, low=1, high=4)
        return a, b

    def mixed(count: int) -> Tensor:
        return d.tensor(2, count, low=0.2, high=1.4)

    yield axial(1), *apart()
    yield mixed(2), *apart()
    yield axial(d.whole(2, 3)), *apart()
    yield mixed(3), *apart()
    row = d.whole(-3, 3)
    yield mixed(3), torch.tensor([row, -d.whole(1, 3)]), torch.tensor([row, d.whole(1, 3)])
    yield mixed(d.whole(4, 5)), *apart()


def _not_preferred(h: Tensor, freqs: Tensor, first: Tensor, second: Tensor) -> str:
    if h.shape != freqs.shape[1:]:
        return f"h has one number per pair, {freqs.shape[1]} of them, got shape {tuple(h.shape)}."
    scores = _scores(h, freqs, first, second)
    if scores[:2].min() > scores[2:].max() + 1e-6 * float(h.abs().sum()):
        return ""
    places = ", ".join(f"{x:.3f}" for x in scores[:2].tolist())
    crossed = ", ".join(f"{x:.3f}" for x in scores[2:].tolist())
    return f"the scores are {places} at the two places and {crossed} at the crossed ones."


def _at(freqs: Tensor, *places: Tensor) -> Tensor:
    """The sum of the arrows that fit these places."""
    angle = torch.stack(places).to(freqs) @ freqs
    return torch.polar(torch.ones_like(angle), -angle).sum(0)


def _is_axial(freqs: Tensor) -> bool:
    return bool((freqs == 0).any(0).all())


def _one_line(first: Tensor, second: Tensor) -> bool:
    return bool((first == second).any())


check_two_places = Exercise(
    "9.3",
    "two_places",
    _two_places,
    _two_draws,
    {
        "of two places in one row, each crossed place is one of them; nothing is preferred to itself": (
            lambda freqs, first, second: (
                _two_places(freqs, first, second)
                if not _one_line(first, second)
                else _at(freqs, first, second)
            )
        ),
        "if every pair looks at one axis, the two sums of equation 9.2 are equal": (
            lambda freqs, first, second: (
                None
                if _one_line(first, second)
                else _at(freqs, first, second)
                if _is_axial(freqs)
                else _two_places(freqs, first, second)
            )
        ),
        "the arrows have to turn against the offset; yours fit −δ": lambda freqs, first, second: (
            None
            if _one_line(first, second) or _is_axial(freqs)
            else _wanted(freqs, -first, -second, (1.0, 1.0, 0.0, 0.0))
        ),
        "this content prefers the crossed places": lambda freqs, first, second: _wanted(
            freqs, first, second, (0.0, 0.0, 1.0, 1.0)
        ),
        "this content prefers the first place alone": lambda freqs, first, second: _wanted(
            freqs, first, second, (1.0, 0.0, 0.0, 0.0)
        ),
        "this content prefers the second place alone": lambda freqs, first, second: _wanted(
            freqs, first, second, (0.0, 1.0, 0.0, 0.0)
        ),
    },
    right="pairs that look along both axes at once can do what a sum over axes cannot.",
    fault=_not_preferred,
)
"""Exercise 9.3: `two_places(freqs, first, second)` is an h (D/2,) that prefers both to the crossed places, or None."""


def _patch_grid(height: int, width: int) -> Tensor:
    rows, columns = torch.meshgrid(_count(height), _count(width), indexing="ij")
    return torch.stack((rows, columns), dim=-1).flatten(0, 1)


def _other_order(height: int, width: int) -> Tensor:
    columns, rows = torch.meshgrid(_count(width), _count(height), indexing="ij")
    return torch.stack((rows, columns), dim=-1).flatten(0, 1)


def _divided(by: Callable[[int, int], int]) -> Callable[[int, int], Tensor]:
    def grid(height: int, width: int) -> Tensor:
        index, line = torch.arange(height * width), by(height, width)
        return torch.stack((index // line, index % line), dim=-1)

    return grid


def _grid_draws(d: Draw) -> Iterator[Inputs]:
    yield 2, 3
    yield 2, 2
    yield d.whole(3, 4), 1
    yield 1, d.whole(2, 4)
    yield d.whole(4, 6), d.whole(2, 3)
    yield 3, d.whole(5, 8)


check_patch_grid = Exercise(
    "9.4",
    "patch_grid",
    _patch_grid,
    _grid_draws,
    {
        "this is the function of the page: its tokens go down the columns, and those of an image go along the rows": (
            _other_order
        ),
        "rows come first in a coordinate": lambda height, width: _patch_grid(height, width).flip(-1),
        "a row of the image has `width` patches; you divide by the height": _divided(lambda h, w: h),
        "count from 0": lambda height, width: _patch_grid(height, width) + 1,
        "this is right for square images only": _divided(lambda h, w: math.isqrt(h * w)),
        "the rows are counted from below": lambda height, width: (
            _patch_grid(height, width) * torch.tensor([-1, 1]) + torch.tensor([height - 1, 0])
        ),
    },
    right="neighbours in the image are neighbours in the coordinates, whatever its shape.",
    properties={
        "the first coordinate ends at height − 1, the second at width − 1": lambda y, height, width: (
            y.shape == (height * width, 2) and y.amax(0).tolist() == [height - 1, width - 1]
        )
    },
)
"""Exercise 9.4: `patch_grid(height, width)` has (row, column) of every patch, in the order of an image, (N, 2)."""
