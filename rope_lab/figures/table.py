"""Results as a table: HTML in a notebook and on the page, aligned text in a terminal.

    table([["RoPE", 1.742, -0.351], ["ALiBi", 1.803, None]], {"encoding": "", "loss": ".3f", "change": "+.1%"})

A table that is the last expression of a cell is shown automatically; elsewhere in a cell, `display(table(...))` shows
it.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NUMBER = re.compile(r"[-+−×±]?\s?\d[\d,.]*")  # what a cell of a column of numbers begins with
EMPTY = ("", "–", "—")
TERMINAL = 88  # characters in which a caption is wrapped


class Table:
    """Rows under headings; `str` gives text, a notebook shows HTML.

    Attributes:
        heads: the headings.
        rows: the cells as text, row by row.
        caption: one sentence above the table, "" for none.
        provenance: where the numbers come from, a line of its own below the table, "" for none.
        numeric: for each column, whether it holds numbers and is set flush right.
    """

    def __init__(self, heads: list[str], rows: list[list[str]], caption: str, provenance: str) -> None:
        self.heads, self.rows, self.caption, self.provenance = heads, rows, caption, provenance
        self.numeric = [_numeric([row[column] for row in rows]) for column in range(len(heads))]

    def __str__(self) -> str:
        lines = [[_bare(cell) for cell in row] for row in [self.heads, *self.rows]]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["─" * width for width in widths])
        text = [
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, self.numeric, strict=True)
            ).rstrip()
            for line in lines
        ]
        above = [*textwrap.wrap(_bare(self.caption), TERMINAL), ""] if self.caption else []
        below = ["", *textwrap.wrap(_bare(self.provenance), TERMINAL)] if self.provenance else []
        return "\n".join([*above, *text, *below])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """A table that a screen reader can navigate: headings have a scope; digits have equal width."""
        head = "".join(self._cell(column, text, "col") for column, text in enumerate(self.heads))
        body = ""
        for row in self.rows:
            cells = (
                self._cell(column, text, "row" if column == 0 and not self.numeric[0] else "")
                for column, text in enumerate(row)
            )
            body += f"<tr>{''.join(cells)}</tr>\n"
        caption = f"<caption>{_markup(self.caption)}</caption>\n" if self.caption else ""
        name = html.escape(_bare(self.caption) or "Table: " + ", ".join(filter(None, self.heads)), quote=True)
        below = f'<p class="rope-provenance">{_markup(self.provenance)}</p>\n' if self.provenance else ""
        return (
            f'<div class="rope-table" role="region" tabindex="0" aria-label="{name}">\n'
            f"<table>\n{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n{below}"
        )

    def _cell(self, column: int, text: str, scope: str) -> str:
        numeric = self.numeric[column]
        style = "text-align: right; font-variant-numeric: tabular-nums" if numeric else "text-align: left"
        inner = _markup(_typeset(text) if numeric and scope != "col" else text)
        if scope and text:
            return f'<th scope="{scope}" style="{style}">{inner}</th>'
        return f'<td style="{style}">{inner}</td>'


def table(
    rows: Iterable[Sequence[Any]],
    columns: Mapping[str, str] | Sequence[str],
    *,
    caption: str = "",
    provenance: str = "",
) -> Table:
    """Results as a table.

    Args:
        rows: cells row by row: texts, numbers, or None for an empty cell. `code` in backticks is set as code.
        columns: the headings, or a mapping from each heading to the format of its numbers, such as
            {"encoding": "", "loss": ".3f", "seconds": ",.0f"}. Texts are taken as they are.
        caption: one sentence above the table.
        provenance: where the numbers come from, in a line of its own below; `Results.provenance()` gives it.

    Raises:
        ValueError: if there are no columns or no rows, or the number of cells of a row is not the number of columns.
    """
    formats = dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, "")
    if not formats or len(formats) != len(columns):
        raise ValueError(f"columns must be one or more different headings, got {list(columns)}")
    cells: list[list[str]] = []
    for row in rows:
        if isinstance(row, str) or len(row) != len(formats):
            raise ValueError(f"a row must have {len(formats)} cells, got {row!r}")
        cells.append([_text(value, form) for value, form in zip(row, formats.values(), strict=True)])
    if not cells:
        raise ValueError("rows must hold one row or more, got none")
    return Table(list(formats), cells, caption.strip(), provenance.strip())


def _text(value: Any, form: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if hasattr(value, "item"):  # a number of torch or numpy
        value = value.item()
    return format(value, form)


def _numeric(cells: list[str]) -> bool:
    filled = [cell for cell in cells if cell not in EMPTY]
    return bool(filled) and all(NUMBER.match(cell) for cell in filled)


def _typeset(text: str) -> str:
    """A number as it is printed: with a true minus sign, and powers of ten."""
    if re.fullmatch(r"[-−]?0(\.0+)?e[+-]?0+", text):
        return "0"
    text = re.sub(
        r"(\d)e([+-]?)0*(\d+)",
        lambda found: f"{found[1]} × 10^{'−' if found[2] == '-' else ''}{found[3]}^",
        text,
    )
    return re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)


def _markup(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"× 10\^(−?\d+)\^", r"×&nbsp;10<sup>\1</sup>", text)


def _bare(text: str) -> str:
    return text.replace("`", "")
