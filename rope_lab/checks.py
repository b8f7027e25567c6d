"""The check that almost every constructor begins with."""

from __future__ import annotations

from typing import Any


def check_integers(least: int = 1, *, optional: bool = False, kind: type = int, **values: Any) -> None:
    """Raise a ValueError naming the first value that is no integer of at least `least`.

    Args:
        least: the smallest allowed.
        optional: let None pass, which stands for a setting left out.
        kind: of integer; `typing.SupportsIndex` takes those of numpy too. bool is none.
    """
    allowed = "a positive integer" if least == 1 else f"an integer of at least {least}"
    for name, value in values.items():
        whole = isinstance(value, kind) and type(value) is not bool
        if not (whole and value >= least) and not (optional and value is None):
            raise ValueError(f"{name} must be {allowed}, got {value!r}")
