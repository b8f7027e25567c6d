"""What a student's function returns, as plain Python numbers that nothing can change afterwards.

The comparison works on lists of Python numbers. It therefore treats a tensor, an array of numpy, a list and a number in
the same way, and a function that replaces parts of torch cannot influence it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, SupportsFloat

import numpy as np
import torch
from torch import Tensor

KINDS = ("truth", "whole", "real", "complex")
TOLIST = Tensor.tolist  # as it is before a student's code runs
LARGEST = 1_000_000  # numbers: more of them than any exercise asks for are not read
NOTHING = "your function returns nothing yet."


@dataclass(frozen=True)
class Value:
    """Numbers with a shape.

    Attributes:
        kind: truth, whole, real or complex.
        shape: as of a tensor; a number has shape ().
        flat: the numbers in the order of the last axis; empty where there are more than a million.
        form: what the student returned, such as "torch.float16", "list" or "float".
    """

    kind: str
    shape: tuple[int, ...]
    flat: tuple[Any, ...]
    form: str

    def tensor(self) -> Tensor:
        """The same numbers as a tensor in double precision, for a property that is computed."""
        dtype = torch.complex128 if self.kind == "complex" else torch.float64
        return torch.tensor(self.flat, dtype=dtype).reshape(self.shape)

    def index(self, place: int) -> tuple[int, ...]:
        """The index of a place in `flat`."""
        return next(index for i, index in enumerate(product(*map(range, self.shape))) if i == place)


class Unreadable(ValueError):
    """What was returned is not made of numbers; the message is a sentence that says so."""


Values = dict[str, Value]  # by name; a result that is not a dict has the name ""


def read(answer: object) -> Values:
    """Read what a function returned.

    Raises:
        Unreadable: with a sentence about what was returned, if it is not made of numbers.
    """
    if answer is None:
        raise Unreadable(NOTHING)
    if isinstance(answer, Mapping):
        return {str(name): _value(entry) for name, entry in answer.items()}
    return {"": _value(answer)}


def _value(answer: object) -> Value:
    if isinstance(answer, Tensor):
        return _of_tensor(answer)
    if isinstance(answer, (np.ndarray, np.generic)):
        if answer.dtype.kind not in "biufc":
            raise Unreadable(f"return numbers, got an array of {answer.dtype}.")
        kind = {"b": "truth", "c": "complex", "f": "real"}.get(answer.dtype.kind, "whole")
        flat = tuple(answer.ravel().tolist()) if answer.size <= LARGEST else ()
        return Value(kind, answer.shape, flat, f"numpy.{answer.dtype}")
    if isinstance(answer, (bool, int, float, complex)):
        kinds = {bool: "truth", int: "whole", float: "real", complex: "complex"}
        kind, base = next((kinds[base], base) for base in kinds if isinstance(answer, base))
        return Value(kind, (), (base(answer),), type(answer).__name__)
    if isinstance(answer, (list, tuple, range)):
        return _of_sequence(answer)
    if isinstance(answer, SupportsFloat):  # fractions, mpmath, …
        return Value("real", (), (float(answer),), type(answer).__name__)
    name = type(answer).__name__
    hint = (
        "; call list() on it"
        if isinstance(answer, (Iterator, Iterable)) and not isinstance(answer, str)
        else ""
    )
    raise Unreadable(f"return a tensor or numbers, got {name}{hint}.")


def _of_tensor(answer: Tensor) -> Value:
    if answer.is_meta:
        raise Unreadable("return a tensor with values, got one on the meta device.")
    dtype = answer.dtype
    kind = "truth" if dtype == torch.bool else "complex" if dtype.is_complex else "real"
    kind = "whole" if kind == "real" and not dtype.is_floating_point else kind
    flat: tuple[Any, ...] = ()
    if answer.numel() <= LARGEST:
        plain = answer.detach().to_dense() if answer.layout != torch.strided else answer.detach()
        flat = tuple(TOLIST(plain.cpu().reshape(-1)))
    return Value(kind, tuple(answer.shape), flat, str(dtype))


def _of_sequence(answer: Sequence[object]) -> Value:
    if len(answer) > LARGEST:
        raise Unreadable(f"return the numbers that are asked for, got {len(answer):,} of them.")
    form = type(answer).__name__
    parts = [_value(part) for part in answer]
    if not parts:
        return Value("whole", (0,), (), form)
    if any(part.shape != parts[0].shape for part in parts):
        raise Unreadable(f"the entries of your {form} have different shapes; a tensor cannot hold them.")
    kind = KINDS[max(KINDS.index(part.kind) for part in parts)]
    return Value(kind, (len(parts), *parts[0].shape), tuple(x for part in parts for x in part.flat), form)


def finite(value: Value) -> bool:
    """Whether no number is infinite or not a number."""
    return all(abs(x) < math.inf for x in value.flat)


def close(actual: Any, expected: Any, tolerance: float) -> bool:
    """Whether two numbers agree, up to `tolerance` in parts of the larger of 1 and |expected|."""
    if actual == expected:
        return True
    if actual != actual or expected != expected:
        return bool(actual != actual and expected != expected)
    size = abs(expected)
    return not math.isinf(size) and abs(actual - expected) <= tolerance * max(1.0, size)


def same(actual: Values, expected: Values, tolerance: float) -> bool:
    """Whether two results agree in their names, shapes and numbers."""
    return actual.keys() == expected.keys() and all(
        actual[name].shape == value.shape
        and len(actual[name].flat) == len(value.flat)
        and all(close(a, e, tolerance) for a, e in zip(actual[name].flat, value.flat, strict=True))
        for name, value in expected.items()
    )


def fit(actual: Value, expected: Value, tolerance: float) -> tuple[Value, str | None]:
    """The value in the form that the exercise asks for, or a sentence about why it has another form."""
    kind = expected.kind
    if kind in ("truth", "whole") and expected.shape == () and math.prod(actual.shape) == 1:
        actual = Value(actual.kind, (), actual.flat, actual.form)  # one number in brackets is one number
    if actual.kind == kind or (kind, actual.kind) in (
        ("real", "whole"),
        ("complex", "real"),
        ("complex", "whole"),
    ):
        return actual, None
    if kind == "truth":
        one = "one truth value" if expected.shape == () else "truth values (True and False)"
        return actual, f"return {one}, got {_form(actual)}."
    if kind == "whole":
        if expected.shape == () and actual.kind == "real" and all(float(x).is_integer() for x in actual.flat):
            return actual, None  # 197.0 is the number 197
        return actual, f"return {'an integer' if expected.shape == () else 'integers'}, got {_form(actual)}."
    if actual.kind == "complex":
        return actual, f"return a real tensor, got {actual.form}; torch.view_as_real or .real brings it back."
    return actual, f"return numbers, got {_form(actual)}."


def _form(value: Value) -> str:
    if value.shape == () and value.flat:
        return f"{value.flat[0]!r} ({value.form})"
    return f"{value.form} of shape {value.shape}"


def apart(expected: Any, actual: Any) -> tuple[str, str]:
    """Two numbers in words, with as many digits as it takes to tell them apart, four at least."""
    texts = expected, actual
    for digits in range(4, 18):
        texts = number(expected, digits), number(actual, digits)
        if texts[0] != texts[1]:
            break
    return texts[0], texts[1]


def number(x: Any, digits: int = 4) -> str:
    """One number in words."""
    return str(x) if isinstance(x, (bool, int)) else f"{x:.{digits}g}"


def first_difference(actual: Value, expected: Value, tolerance: float) -> str:
    """Where two values of one shape differ first, and by what."""
    pairs = enumerate(zip(actual.flat, expected.flat, strict=True))
    place = next(i for i, (a, e) in pairs if not close(a, e, tolerance))
    want, got = apart(expected.flat[place], actual.flat[place])
    where = f"first difference at {list(expected.index(place))}: " if expected.shape else ""
    return f"{where}expected {want}, got {got}."
