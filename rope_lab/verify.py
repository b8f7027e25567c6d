"""Checks below an equation: both sides of what the text claims, computed and compared.

    check("eq. 3.4", left, right)            # two sides that are equal
    check_at_most("eq. 6.2", left, bound)    # an inequality
    check_exact("eq. 3.1", left - right)     # a SymPy expression that is zero

Each prints one line, or in a notebook displays it with its numbers attached, from which the book fills its
ledger; each raises `CheckFailed` if the claim does not hold. Nothing broadcasts: both sides must have the same shape.
Nothing passes by default: a NaN, an infinity or an empty comparison fails. In a notebook, three or more lines of one
cell whose labels agree up to the first comma become one line that unfolds.
"""

from __future__ import annotations

import html
import math
import sys
import uuid
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

STORED = "rope_lab_check"  # the key of the numbers in the metadata of a notebook's output
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
Reason = Literal["rounding", "sampling", "search", "approximation"]  # why two sides may differ
FEW = 2  # up to this many checks of one equation are shown line by line


class CheckFailed(AssertionError):
    """A claim does not hold. The message names the check, the difference, its index and both values there."""


def check(
    label: str,
    left: Any,
    right: Any,
    *,
    tolerance: float | None = None,
    reason: Reason = "rounding",
    draws: int | None = None,
) -> None:
    """Check that two sides are equal, element by element, up to rounding or up to a tolerance with a reason.

    They count as equal if max |left - right| ≤ tolerance · max(1, max |right|). The difference is computed in float64
    or complex128; integers and truth values must be equal exactly.

    Args:
        label: names the check once in the book, such as "eq. 3.4" or "eq. 3.4, half layout".
        left, right: tensors, arrays, nested lists or numbers of one shape.
        tolerance: default by the coarser of the two number types: 1e-12 for float64 and complex128, 1e-5 for
            float32 and complex64. For any coarser type it has to be given.
        reason: what the tolerance leaves room for: "rounding"; "sampling", the error of a mean over draws;
            "search", the error of a solver or an optimiser; "approximation", where the two sides are close by
            the claim itself.
        draws: how many random draws are behind the comparison. Without it, the line counts the numbers compared.

    Raises:
        CheckFailed: if the sides differ, have different shapes, are empty, or contain a NaN or an infinity.
        TypeError, ValueError: if a side is not an array of numbers, the tolerance is missing or negative, the
            reason is none of these, or the draws are not a positive integer.
    """
    if reason not in get_args(Reason):
        raise ValueError(f"reason must be one of {', '.join(get_args(Reason))}, got {reason!r}")
    first, second, dtype = _sides(label, "left", left, "right", right)
    allowed = _tolerance(dtype, tolerance) * max(1.0, float(second.abs().max()))
    difference = (first - second).abs()
    error = float(difference.max())
    if error > allowed:
        where = f"{_place(difference, first, second, 'left', 'right')} ({_name(dtype)})"
        raise CheckFailed(f"{label}: max |difference| {error:.1e} exceeds {allowed:.1e} {where}")
    result = f"max |difference| {_short(error)}"
    if reason != "rounding":
        result += f" ({allowed:.0e} allowed for {reason})"
    _report(label, "equal", result, error, allowed, reason, first.numel(), draws, _name(dtype))


def check_at_most(label: str, left: Any, bound: Any, *, draws: int | None = None) -> None:
    """Check that left ≤ bound, element by element, and report the largest ratio of the two.

    A ratio may exceed 1 only by rounding: by the tolerance that `check` allows for the number type.

    Args:
        label: as for `check`.
        left: real tensor, array, nested list or number.
        bound: above zero, of the shape of `left` or one Python number for all of it.
        draws: as for `check`.

    Raises:
        CheckFailed: if the bound is exceeded, or as for `check`.
        TypeError, ValueError: if a side is not an array of real numbers, or the bound is not above zero.
    """
    if isinstance(bound, (int, float)):
        bound = torch.full(_tensor("left", left).shape, float(bound), dtype=torch.float64)
    first, second, dtype = _sides(label, "left", left, "bound", bound)
    if first.is_complex():
        raise TypeError("left and bound must be real, one of them is complex")
    if not bool((second > 0).all()):
        raise ValueError(f"bound must be above zero, its least value is {float(second.min()):.6g}")
    ratio = first.double() / second.double()
    largest = float(ratio.max())
    if largest > 1 + _tolerance(dtype, None):
        where = f"{_place(ratio, first, second, 'left', 'bound')} ({_name(dtype)})"
        raise CheckFailed(f"{label}: left is {largest:.6g} of its bound {where}")
    result = f"at most {largest:.3g} of the bound"
    _report(label, "at most", result, largest, 1.0, "rounding", first.numel(), draws, _name(dtype))


def check_exact(label: str, expression: Any) -> None:
    """Check that a SymPy expression, or every entry of a SymPy matrix, simplifies to zero.

    Args:
        label: as for `check`.
        expression: left side minus right side; an equation `sympy.Eq(left, right)` is read as that.

    Raises:
        CheckFailed: if anything but zero remains, or a matrix is empty.
        TypeError: if the expression is not SymPy's.
    """
    import sympy

    if isinstance(expression, sympy.Eq):
        expression = expression.lhs - expression.rhs
    if not isinstance(expression, (sympy.Expr, sympy.MatrixBase)):
        raise TypeError(
            f"expression must be a SymPy expression, matrix or equation, not {type(expression).__name__}"
        )
    entries = list(expression) if isinstance(expression, sympy.MatrixBase) else [expression]
    if not entries:
        raise CheckFailed(f"{label}: nothing to compare, the matrix is empty")
    for index, entry in enumerate(entries):
        rest = sympy.simplify(entry)
        if rest != 0:
            where = f" at entry {index}" if len(entries) > 1 else ""
            raise CheckFailed(f"{label}: the difference simplifies to {rest}, not to 0{where}")
    _report(
        label, "exact", "difference simplifies to 0", 0.0, 0.0, "rounding", len(entries), None, "symbolic"
    )


def _tensor(name: str, value: Any) -> Tensor:
    """The value as a tensor in its own number type: Python floats are float64, as they are in Python."""
    try:
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be a tensor, an array or numbers, not {type(value).__name__}: {error}"
        ) from None
    return tensor.detach().cpu()


def _sides(label: str, one: str, left: Any, other: str, right: Any) -> tuple[Tensor, Tensor, torch.dtype]:
    """Both sides in the widest type, and the coarser of their own types; raises if they cannot be compared."""
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"label must be a text that names the check, not {label!r}")
    first, second = _tensor(one, left), _tensor(other, right)
    if first.shape != second.shape:
        raise CheckFailed(
            f"{label}: {one} has shape {tuple(first.shape)}, {other} has shape {tuple(second.shape)}"
        )
    if first.numel() == 0:
        raise CheckFailed(f"{label}: nothing to compare, both sides have shape {tuple(first.shape)}")
    dtype = _coarser(first.dtype, second.dtype)
    wide = torch.int64
    if first.is_complex() or second.is_complex():
        wide = torch.complex128
    elif dtype.is_floating_point:
        wide = torch.float64
    first, second = first.to(wide), second.to(wide)
    for name, side in ((one, first), (other, second)):
        finite = torch.isfinite(side)
        if not bool(finite.all()):
            index = tuple(torch.nonzero(~finite)[0].tolist())
            raise CheckFailed(f"{label}: {name} is {side[index].item()} at {index}")
    return first, second, dtype


def _real(dtype: torch.dtype) -> torch.dtype:
    return dtype.to_real() if dtype.is_complex else dtype


def _coarser(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    """The type that limits a comparison: the one with larger rounding errors; integers have none."""
    inexact = [dtype for dtype in (one, other) if dtype.is_floating_point or dtype.is_complex]
    if not inexact:
        return one
    return max(inexact, key=lambda dtype: (torch.finfo(dtype).eps, dtype.is_complex))


def _tolerance(dtype: torch.dtype, given: float | None) -> float:
    if given is not None:
        if not (isinstance(given, (int, float)) and 0 <= given < math.inf):
            raise ValueError(f"tolerance must be a finite number, zero or above, not {given!r}")
        return float(given)
    if not (dtype.is_floating_point or dtype.is_complex):
        return 0.0
    if _real(dtype) not in TOLERANCE:
        raise ValueError(f"tolerance must be given for {_name(dtype)}; float32 and float64 have a default")
    return TOLERANCE[_real(dtype)]


def _place(size: Tensor, first: Tensor, second: Tensor, one: str, other: str) -> str:
    """The index of the largest entry of `size`, and both values there."""
    index = tuple(int(axis) for axis in np.unravel_index(int(size.argmax()), tuple(size.shape)))
    return f"at {index}: {one} {first[index].item():.6g}, {other} {second[index].item():.6g}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _short(error: float) -> str:
    return f"{error:.1e}" if error else "0"


def _over(values: int, draws: int | None) -> str:
    count, noun = (values, "value") if draws is None else (draws, "draw")
    return f"over {count:,} {noun}{'s' * (count != 1)}"


def _report(
    label: str,
    kind: str,
    result: str,
    error: float,
    tolerance: float,
    reason: str,
    values: int,
    draws: int | None,
    dtype: str,
) -> None:
    """Print the line of a passed check; a notebook stores its numbers with it."""
    if draws is not None and not (isinstance(draws, int) and not isinstance(draws, bool) and draws > 0):
        raise ValueError(f"draws must be a positive integer, got {draws!r}")
    over = "" if kind == "exact" else f" {_over(values, draws)}, {dtype}"
    line = f"✓ {label}: {result}{over}"
    numbers = {"error": error, "tolerance": tolerance, "reason": reason, "values": values, "draws": draws}
    ipython = sys.modules.get("IPython")
    shell: Any = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is not None:
        _show(shell.execution_count, line, {"label": label, "kind": kind, **numbers, "dtype": dtype})
    else:
        print(line)


_shown: dict[str, Any] = {"cell": None, "head": None, "lines": [], "entries": [], "id": ""}


def _show(cell: int, line: str, entry: dict[str, Any]) -> None:
    """Display a line in a notebook, in one output with those above it that check the same equation."""
    from IPython.display import display, update_display

    head = entry["label"].split(", ")[0].strip()
    together = (_shown["cell"], _shown["head"]) == (cell, head)
    if not together:
        _shown.update(cell=cell, head=head, lines=[], entries=[], id=uuid.uuid4().hex)
    _shown["lines"].append(line)
    _shown["entries"].append(entry)
    (update_display if together else display)(
        _picture(head, _shown["lines"], _shown["entries"]),
        metadata={STORED: list(_shown["entries"])},
        raw=True,
        display_id=_shown["id"],
    )


def _picture(head: str, lines: list[str], entries: list[dict[str, Any]]) -> dict[str, str]:
    if len(lines) <= FEW:
        return {"text/plain": "\n".join(lines)}
    largest = max(entry["error"] for entry in entries)
    said = {
        ("equal",): f", max |difference| {_short(largest)}",
        ("at most",): f", at most {largest:.3g} of the bound",
        ("exact",): ", each difference simplifies to 0",
    }.get(tuple({entry["kind"] for entry in entries}), "")
    summary = f"✓ {head}: {len(lines)} checks{said}"
    rest = html.escape("\n".join(lines))
    return {
        "text/plain": "\n  ".join([summary, *lines]),
        "text/html": f'<details class="rope-checks"><summary>{html.escape(summary)}</summary>'
        f"<pre>{rest}</pre></details>",
    }
