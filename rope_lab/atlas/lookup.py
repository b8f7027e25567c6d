"""Find a family by name, and all of them in a table."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, Literal

import torch

from rope_lab.atlas import early, middle, recent
from rope_lab.atlas.family import Family

FAMILIES: tuple[Family, ...] = tuple(
    sorted((*early.ROWS, *middle.ROWS, *recent.ROWS), key=lambda row: row.year)
)
_HEADS = {
    "name": "family",
    "year": "year",
    "base": "base",
    "turned": "turned",
    "scaling": "scaling",
    "window": "window",
    "context": "context",
    "slowest": "slowest",
    "unfinished": "unfinished",
    "float32": "float32 to",
}


def find(name: str) -> Family:
    """The family of a name or alias; case, spaces, dots and dashes do not matter.

    Raises:
        ValueError: if there is none; the message lists near names.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"name must be one of a family, such as 'llama-3.1', got {name!r}")
    known = {_plain(one): row for row in FAMILIES for one in (*row.aliases, row.name)}
    if (row := known.get(_plain(name))) is not None:
        return row
    raise ValueError(f"name must be one of a family, got {name!r}; near names: {', '.join(near(name))}")


def near(name: str, count: int = 6) -> list[str]:
    """Names of families that are spelled most like `name`, the nearest first."""
    plain = _plain(name)
    spelled = {_plain(one): row.name for row in FAMILIES for one in (*row.aliases, row.name)}

    def distance(one: str) -> tuple[bool, float]:
        inside = bool(plain) and (plain in one or one in plain)
        return not inside, -difflib.SequenceMatcher(None, plain, one).ratio()

    return list(dict.fromkeys(spelled[one] for one in sorted(spelled, key=distance)))[:count]


def rows(families: Sequence[Family] = FAMILIES) -> list[dict[str, Any]]:
    """One mapping per family: its settings, the computed columns, the warnings, and the source of each setting."""
    return [_row(family) for family in families]


def table(form: Literal["text", "markdown"] = "text", families: Sequence[Family] = FAMILIES) -> str:
    """All families, one line each; wavelengths, context and window in tokens.

    Columns: coordinates of a head that turn, of how many (with a plus, apart from the others); the slowest wavelength;
    the number of pairs that never finish a turn in the context, of how many turn; and the first position whose angle
    errs by more than 0.01 radians if it is formed in float32.

    Raises:
        ValueError: if `form` is another one.
    """
    if form not in ("text", "markdown"):
        raise ValueError(f"form must be 'text' or 'markdown', got {form!r}")
    lines = [list(_HEADS.values())] + [[_cell(row, name) for name in _HEADS] for row in rows(families)]
    if form == "markdown":
        marked = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([marked[0], "|---|" + "---:|" * (len(_HEADS) - 1), *marked[1:]])
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _row(family: Family) -> dict[str, Any]:
    full, local = family.spectrum, family.local
    settings = {
        name: getattr(family, name)
        for name in (
            *("name", "year", "aliases", "model_type", "base", "head_dim", "rotated", "decoupled", "layout"),
            *("axes", "backwards", "window", "chunk", "limited", "without_rope", "context", "note"),
        )
    }
    return settings | {
        "scaling": family.scaling_name,
        "rope_parameters": family.rotation().rope_parameters(),
        "local_rope_parameters": None if local is None else local.rope_parameters(),
        "pairs": full.wavelengths.numel(),
        "still": full.still,
        "fastest": full.fastest,
        "slowest": full.slowest,
        "unfinished": full.unfinished,
        "first_error": {
            str(dtype).removeprefix("torch."): full.first_error(dtype)
            for dtype in (torch.bfloat16, torch.float16, torch.float32)
        },
        "warnings": family.warnings,
        "sources": {
            name: str(family.source_of(name))
            for name in (
                "base",
                "head_dim",
                "rotated",
                "scaling",
                "window",
                "chunk",
                "local",
                "context",
                "axes",
            )
            if getattr(family, name) is not None
        },
    }


def _cell(row: dict[str, Any], name: str) -> str:
    if name == "turned":
        dim, head = row["rotated"] or row["head_dim"], row["head_dim"]
        return f"{head - dim}+{dim}" if row["decoupled"] else f"{dim}" if dim == head else f"{dim} of {head}"
    if name == "base":
        local = row["local_rope_parameters"]
        return f"{row['base']:,.0f}" + (f" / {local['rope_theta']:,.0f}" if local else "")
    if name == "window":
        return f"{row['chunk']:,} (chunk)" if row["chunk"] else _number(row["window"])
    if name == "unfinished":
        return "" if row["unfinished"] is None else f"{row['unfinished']} of {row['pairs']}"
    if name == "float32":
        return _number(row["first_error"]["float32"])
    if name in ("context", "slowest"):
        return _number(row[name])
    return str(row[name])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
