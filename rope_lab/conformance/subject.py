"""What is asked: a rotation, with the ways in which it can be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Make = Callable[[int], Callable[..., Any]]


@dataclass(frozen=True)
class Subject:
    """A rotation, as functions that make it: each property is asked of one that has just been made.

    What is made takes (x, positions), (x, offset), (q, k), … as `rope_lab.doctor.diagnose` does, on tensors
    (B, H, N, D), or in another order of the axes, which is found. A property for which the way is missing is not asked.

    Attributes:
        name: of the library.
        make: maps the number of coordinates of a head to the rotation as its documentation calls it.
        positions: the same, called with positions.
        offset: the same, called with the position of the first token.
        cached: the same, called with queries and keys, where fewer queries than keys are the last ones.
        partial: maps (R, D) to a rotation of the first R of D coordinates.
        heads_last: for tensors (B, N, H, D), if `make` is for (B, H, N, D).
        odd: the same as `make`, given an odd number; by default `make`.
        base: of the frequencies θ_i = base^(−2i/D).
        short: the name in a narrow column, by default `name`.
        version: of the library.
        how: how it is called here, as one line of code or prose.
        why: for a property that is not asked, the reason, by the name of the property.
    """

    name: str
    make: Make
    positions: Make | None = None
    offset: Make | None = None
    cached: Make | None = None
    partial: Callable[[int, int], Callable[..., Any]] | None = None
    heads_last: Make | None = None
    odd: Make | None = None
    base: float = 10_000.0
    short: str = ""
    version: str = ""
    how: str = ""
    why: Mapping[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """The name over a narrow column."""
        return self.short or self.name


def as_subject(turn: Subject | Callable[..., Any], name: str = "", base: float = 10_000.0) -> Subject:
    """A function or module as a subject, which is called as it is for every width.

    Args:
        turn: the function or module; a subject comes back as it is.
        name: over its column, by default that of the function or class.
        base: of its frequencies.

    Raises:
        TypeError: if it cannot be called.
    """
    if isinstance(turn, Subject):
        return turn
    if not callable(turn):
        raise TypeError(f"turn must be callable or a Subject, got {type(turn).__name__}")
    return Subject(name or getattr(turn, "__name__", type(turn).__name__), lambda dim: turn, base=base)
