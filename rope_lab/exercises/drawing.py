"""A wrong tensor beside the right one, as a table of HTML that a notebook shows under the words of a checker."""

from __future__ import annotations

import math
from html import escape

from rope_lab.exercises.values import Value, number

MOST = 6  # rows and columns that are drawn
_CELL = "border:1px solid currentColor;padding:0 0.4em;text-align:right;font-variant-numeric:tabular-nums"
_BESIDE = "display:inline-block;vertical-align:top;margin:0.4em 2em 0.4em 0"


def side_by_side(actual: Value, expected: Value) -> str:
    """Both tensors as grids with their shapes. The colours are those of the page, light or dark."""
    return f"<div>{_grid('yours', actual)}{_grid('expected', expected)}</div>"


def _grid(title: str, value: Value) -> str:
    """The last two axes of a tensor; of further axes the first entry."""
    rows, columns = (1, 1, *value.shape)[-2:]
    first = " · the first of them" if math.prod(value.shape[:-2]) > 1 else ""
    across = range(min(columns, MOST))
    body = "".join(
        f"<tr>{''.join(_cell(value, row * columns + i) for i in across)}{_more(columns)}</tr>"
        for row in range(min(rows, MOST))
    )
    below = f"<div>… {rows} rows</div>" if rows > MOST else ""
    table = f'<table style="border-collapse:collapse;background:none;margin:0">{body}</table>'
    return f'<div style="{_BESIDE}"><div>{title}: shape {escape(str(value.shape))}{first}</div>{table}{below}</div>'


def _cell(value: Value, place: int) -> str:
    shown = escape(number(value.flat[place])) if place < len(value.flat) else ""
    return f'<td style="{_CELL}">{shown}</td>'


def _more(columns: int) -> str:
    return f"<td>… {columns} columns</td>" if columns > MOST else ""
