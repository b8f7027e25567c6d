"""A diagnosis as one screen of text, and as plain values for JSON."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from rope_lab.doctor.battery import Property
from rope_lab.doctor.museum import Bug
from rope_lab.doctor.probe import Reading

if TYPE_CHECKING:
    from rope_lab.doctor.diagnosis import Diagnosis

WIDTH = 86  # fits a page of the book
MARKS = {True: "✓", False: "✗", None: "?"}


def text(diagnosis: Diagnosis) -> str:
    """One screen: what it does, its properties, its bugs with their fixes, the verdict."""
    d, lines = diagnosis, []
    if d.takes:
        lines.append(_row("takes", d.takes))
    if d.q is not None:
        lines.append(_row("turns" if d.k is None else "queries", _side(d.q, d.dim)))
        if d.k is not None:
            other = _side(d.k, d.dim)
            lines.append(_row("keys", "the same" if other == _side(d.q, d.dim) else other))
        shown = ", ".join(f"{t:.4g}" for t in d.q.frequencies[:4].tolist())
        more = ", …" if len(d.q.frequencies) > 4 else ""
        lines.append(_row("frequencies", f"{len(d.q.frequencies)}: {shown}{more}"))
    if d.spectrum is not None:
        lines.append(_row("scaling", d.spectrum.says))
    if d.q is not None:
        lines.append(_row("factor", f"{d.q.factor:.5g} on cosine and sine"))
    lines += [_row("cannot tell", note) for note in d.notes]
    if d.properties:
        lines.append("")
        lines += [_property(one) for one in d.properties]
    for bug in d.bugs:
        lines += ["", *_bug(bug)]
    lines += ["", _verdict(d)]
    return "\n".join(lines)


def plain(diagnosis: Diagnosis) -> dict[str, Any]:
    """Numbers, texts, lists and dicts."""
    d = diagnosis
    return {
        "dim": d.dim,
        "sound": d.sound,
        "refused": d.refused or None,
        "takes": d.takes or None,
        "q": None if d.q is None else _plain_side(d.q),
        "k": None if d.k is None else _plain_side(d.k),
        "spectrum": None if d.spectrum is None else vars(d.spectrum),
        "properties": [vars(one) for one in d.properties],
        "faults": list(d.faults),
        "limits": list(d.limits),
        "bugs": [vars(bug) | {"threads": list(bug.threads)} for bug in d.bugs],
        "notes": list(d.notes),
    }


def _row(name: str, value: str) -> str:
    return textwrap.fill(f"{name:13s}{value}", WIDTH, subsequent_indent=" " * 13)


def _side(side: Reading, dim: int) -> str:
    turning, pairs = 2 * len(side.pairs), f"{side.layout}, {side.direction}"
    share = f"coordinates {side.begin} to {side.end - 1} of {dim}"
    slow = f", of which {turning} turn" if turning < side.width else ""
    order = f", returned in the order of {side.reordered}" if side.reordered else ""
    return f"{pairs}, {share}{slow}{order}"


def _property(one: Property) -> str:
    error = "" if one.error is None else f"{one.error:.1e}"
    name = textwrap.shorten(f"{MARKS[one.holds]} {one.name}", 24).ljust(24)
    return textwrap.fill(f"{name}{error:9s}{one.says}".rstrip(), WIDTH, subsequent_indent=" " * 33)


def _bug(bug: Bug) -> list[str]:
    lines = [f"{bug.level.upper()}: {bug.name}"]
    threads = f" ({', '.join(bug.threads)})" if bug.threads else ""
    for line in (bug.says + threads, f"Fix: {bug.fix}"):
        lines.append(textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="  "))
    return lines


def _verdict(d: Diagnosis) -> str:
    if d.refused:
        return textwrap.fill(f"Not a rotation that can be described: {d.refused}.", WIDTH)
    if d.faults:
        known = {bug.name for bug in d.bugs}
        unknown = [name for name in d.faults if name not in known]
        tail = f"; no known bug explains: {', '.join(unknown)}" if unknown else ""
        count = len(d.faults)
        return f"{count} fault{'s' * (count > 1)}: {', '.join(d.faults)}{tail}"
    return f"No fault found{'; limits: ' + ', '.join(d.limits) if d.limits else ''}."


def _plain_side(side: Reading) -> dict[str, Any]:
    return {
        "layout": side.layout,
        "direction": side.direction,
        "begin": side.begin,
        "width": side.width,
        "pairs": side.pairs.tolist(),
        "frequencies": side.frequencies.tolist(),
        "factor": side.factor,
        "start": side.start,
        "reordered": side.reordered or None,
    }
