"""The table of all libraries: as text in a terminal, as HTML in a notebook and on a page, as plain values."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rope_lab.conformance.inquiry import said
from rope_lab.conformance.libraries import installed
from rope_lab.conformance.questions import QUESTIONS, answers
from rope_lab.conformance.subject import Subject, as_subject
from rope_lab.doctor.battery import Property
from rope_lab.figures.table import Table
from rope_lab.figures.table import table as make_table

MET, FAILED, NOT_ASKED = "✓", "✗", "–"
WIDTH = 86  # fits a page of the book


@dataclass(frozen=True)
class Conformance:
    """What each library answers.

    Attributes:
        subjects: the libraries, in the order of the columns.
        found: for each, its answer to each of `QUESTIONS`.
        missing: the libraries that could not be asked: the name, and the error.
    """

    subjects: tuple[Subject, ...]
    found: tuple[tuple[Property, ...], ...]
    missing: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> dict[str, Property]:
        """The answers of a library, by the names of the properties."""
        index = [subject.name for subject in self.subjects].index(name)
        return {one.name: one for one in self.found[index]}

    def table(self) -> Table:
        """One row per property, one column per library."""
        rows = [
            [question.name, *(cell(column[index]) for column in self.found)]
            for index, question in enumerate(QUESTIONS)
        ]
        return make_table(rows, ["property", *(subject.head for subject in self.subjects)])

    def notes(self, subject: Subject) -> list[str]:
        """Why this library fails or is not asked, where its cell does not say it; one note per reason."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for one in self[subject.name].values():
            if not one.holds and one.says and one.says != "radians":
                reasons.setdefault((NOT_ASKED if one.holds is None else FAILED, one.says), []).append(
                    one.name
                )
        return [f"{mark} {', '.join(names)}: {says}" for (mark, says), names in reasons.items()]

    def __str__(self) -> str:
        lines = [str(self.table()), "", f"{MET} met, {FAILED} not met, {NOT_ASKED} cannot be asked"]
        for subject in self.subjects:
            lines += ["", f"{subject.head} is {subject.name} {subject.version}".rstrip()]
            for note in self.notes(subject):
                lines += textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="    ")
        if self.missing:
            lines += ["", *textwrap.wrap(f"not asked: {', '.join(self.missing)}", WIDTH)]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def as_dict(self) -> dict[str, Any]:
        """Numbers, texts, lists and dicts, for JSON."""
        return {
            "libraries": {
                subject.name: {
                    "version": subject.version,
                    "properties": [vars(one) for one in column],
                }
                for subject, column in zip(self.subjects, self.found, strict=True)
            },
            "missing": list(self.missing),
        }


def cell(one: Property) -> str:
    """A mark, and for a failure its number, if it has one."""
    if one.holds is None:
        return NOT_ASKED
    if one.holds:
        return MET
    return FAILED if one.error is None else f"{FAILED} {number(one.error)}"


def number(value: float) -> str:
    """Two digits at most, so that a column stays narrow."""
    if value >= 1e-3:
        return f"{value:.2g}"
    return f"{value:.0e}".replace("e-0", "e−")  # a hyphen would let the line break there


def table(*turns: Subject | Callable[..., Any], dim: int = 64, base: float = 10_000.0) -> Conformance:
    """Ask rotations for the properties of `QUESTIONS`.

        print(conformance.table())           # the libraries that are installed, and this package
        print(conformance.table(my_rope))    # a function or module of your own

    The random numbers are the same at every call. A function of your own may take (x, positions), (x, offset) or
    (q, k) with tensors (B, H, N, D), (B, N, H, D) or (N, B, H, D), as for `rope_lab.doctor.diagnose`; a `Subject`
    says in which other ways it can be called, and gets a fresh rotation for each property.

    Args:
        turns: rotations; by default all installed libraries.
        dim: coordinates of a head, a multiple of 4.
        base: of the frequencies of a function or module; a `Subject` has its own. Where the frequencies are others,
            the angles far away are not asked.

    Raises:
        ValueError: if `dim` is not a positive multiple of 4.
        TypeError: if one of `turns` is not callable.
        rope_lab.doctor.box.Refused: if one of them cannot be called at all, needs a batch, or returns NaN or another
            shape.
    """
    if dim < 4 or dim % 4:
        raise ValueError(f"dim must be a positive multiple of 4, got {dim}")
    if turns:
        given = tuple(as_subject(turn, base=base) for turn in turns)
        return Conformance(given, tuple(answers(subject, dim) for subject in given))
    subjects, missing = installed()
    columns: list[tuple[Subject, tuple[Property, ...]]] = []
    for subject in subjects:
        try:
            columns.append((subject, answers(subject, dim)))
        except Exception as error:  # another version may be called in another way
            missing.append(f"{subject.name} {subject.version} ({said(error)})")
    return Conformance(tuple(s for s, _ in columns), tuple(found for _, found in columns), tuple(missing))
