"""What a checker returns: a verdict in one line, and a picture where a shape is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Feedback:
    """The verdict on one answer. True in an `if` if the answer is correct; prints as one line.

    Attributes:
        exercise: its number.
        passed: whether the answer is correct.
        message: what is wrong, or what is right.
        picture: HTML that a notebook shows under the line; empty unless a shape is wrong.
    """

    exercise: str
    passed: bool
    message: str
    picture: str = field(default="", repr=False, compare=False)

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} exercise {self.exercise}: {self.message}"

    def _repr_html_(self) -> str | None:
        """For a notebook, which shows the plain line where this is None."""
        return f"<div>{escape(repr(self))}</div>{self.picture}" if self.picture else None
