"""Checks that constructors and calls begin with. Each raises a ValueError that names the argument."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor


def check_integers(least: int = 1, *, optional: bool = False, **values: Any) -> list[Any]:
    """Raise a ValueError naming the first value that is not an integer of at least `least`.

    The integers of numpy are integers too; a bool is not.

    Args:
        least: the smallest allowed.
        optional: let None pass, which stands for a setting left out.

    Returns:
        The values in order, as integers of Python: a uint8 of numpy would overflow in arithmetic.
    """
    allowed = "a positive integer" if least == 1 else f"an integer of at least {least}"
    for name, value in values.items():
        if not (is_integer(value) and value >= least) and not (optional and value is None):
            raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return [None if value is None else int(value) for value in values.values()]


def is_integer(value: object) -> bool:
    """Whether it is an integer, of Python or of numpy, and not a bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether it is a real number, of Python or of numpy."""
    return isinstance(value, Real)


def check_positive(*, optional: bool = False, **values: Any) -> None:
    """Raise a ValueError naming the first value that is not a positive and finite number; `optional` lets None pass."""
    for name, value in values.items():
        fits = is_real(value) and 0 < value < math.inf
        if not fits and not (optional and value is None):
            raise ValueError(f"{name} must be positive and finite, got {value!r}")


def check_probability(*, closed: bool = False, **values: Any) -> None:
    """Raise a ValueError naming the first value that is not a number in [0, 1), or in [0, 1] if `closed`."""
    for name, value in values.items():
        if not (is_real(value) and (0 <= value < 1 or (closed and value == 1))):
            raise ValueError(f"{name} must lie in [0, 1{']' if closed else ')'}, got {value!r}")


def can_read(x: Tensor) -> bool:
    """Whether the values of `x` can be looked at for nothing: on the CPU, and not while a graph is traced.

    To read them back from another device would make it wait.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not _is_fake(x)


def _is_fake(x: Tensor) -> bool:
    return isinstance(x, torch._subclasses.FakeTensor)
