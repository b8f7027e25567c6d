"""The check that almost every constructor begins with."""

from __future__ import annotations

from typing import Any


def check_integers(least: int = 1, *, optional: bool = False, **values: Any) -> None:
    """Raise a ValueError naming the first value that is no `int` of at least `least`; bool is none.

    `optional` lets None pass, which stands for a setting left out.
    """
    allowed = "a positive integer" if least == 1 else f"an integer of at least {least}"
    for name, value in values.items():
        if not (optional and value is None) and (type(value) is not int or value < least):
            raise ValueError(f"{name} must be {allowed}, got {value!r}")
