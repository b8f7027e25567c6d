"""The chapters as the package finds them: their cells, the exercise that each is part of, and the numbers they print.

Reading needs neither the book's tools nor torch, so a teacher who installed the package alone can write notebooks.
"""

from __future__ import annotations

import json
import re
import site
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import rope_lab
from rope_lab.exercises.plain import GATED, LABEL, TAGGED, Book, titled

HEAD = re.compile(r"^# %%(?P<text> \[markdown\])?(?P<rest>.*)\n", re.MULTILINE)
NAME = re.compile(r"(?P<number>\d\d)_\w+")


@dataclass(frozen=True)
class Cell:
    """A cell, or the part of one that is text of one exercise.

    Attributes:
        kind: "code" or "markdown".
        source: its text.
        metadata: as the chapter has it.
        of: the label of the exercise or solution that it is part of, such as "ex-03-1"; "" for none.
    """

    kind: str
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)
    of: str = ""


@dataclass(frozen=True)
class Chapter:
    """A chapter: its file is `name`.py, and its cells are those of its notebook."""

    name: str
    cells: tuple[Cell, ...]

    @property
    def number(self) -> int:
        """3 for 03_deriving_rope."""
        return int(self.name[:2])

    @property
    def title(self) -> str:
        """The first heading."""
        found = re.search(r"^# (.*)$", self.cells[0].source, re.MULTILINE)
        return found[1] if found else self.name

    def labels(self) -> list[str]:
        """The labels of the exercises, in order."""
        return list(dict.fromkeys(cell.of for cell in self.cells if cell.of.startswith("ex-")))


def source() -> Path:
    """The folder that has the chapters in `notebooks` and the references in `book`: a clone, or what a wheel installed.

    Raises:
        ValueError: if there is none.
    """
    package = Path(rope_lab.__file__).resolve().parents[1]
    shared = Path("share", "rope_lab")
    places = [package, package / shared, Path(sysconfig.get_path("data")) / shared]
    places.append(Path(site.getuserbase()) / shared)
    for place in places:
        if (place / "book" / "references.bib").is_file() and any(
            (place / "notebooks").glob("[0-9][0-9]_*.py")
        ):
            return place
    raise ValueError(
        "the chapters are not installed: install rope_lab from its wheel, or work in a clone of the book"
    )


def chapters() -> list[Chapter]:
    """All chapters, in order."""
    files = sorted((source() / "notebooks").glob("[0-9][0-9]_*.py"))
    return [Chapter(file.stem, tuple(parts(read(file.read_text("utf-8"))))) for file in files]


def read(text: str) -> list[Cell]:
    """The cells of a py:percent file."""
    cells, heads = [], list(HEAD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    for head, end in zip(heads, ends, strict=True):
        lines = text[head.end() : end].rstrip("\n").split("\n")
        if head["text"]:
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        cells.append(Cell("markdown" if head["text"] else "code", "\n".join(lines), _metadata(head["rest"])))
    return cells


def _metadata(text: str) -> dict[str, Any]:
    found = {}
    while text := text.strip():
        name, _, text = text.partition("=")
        found[name], end = json.JSONDecoder().raw_decode(text)
        text = text[end:]
    return found


def parts(cells: list[Cell]) -> Iterator[Cell]:
    """The cells, those of text cut where an exercise or a solution begins or ends."""
    of = ""
    for cell in cells:
        if cell.kind == "code":
            yield replace(cell, of=of)
            continue
        end = 0
        for edge in GATED.finditer(cell.source):
            yield replace(cell, source=cell.source[end : edge.start()].strip("\n"), of=of)
            found = LABEL.search(edge["body"])
            of = found["label"] if found else ""
            end = edge.start() if edge["gate"] == "-start" else edge.end()
            if not edge["gate"]:
                yield replace(cell, source=edge[0], of=of)
                of = ""
        yield replace(cell, source=cell.source[end:].strip("\n"), of=of)


def open_after(text: str, before: str = "") -> str:
    """The label of the exercise or solution that a cell below this text is part of; "" for none."""
    for edge in GATED.finditer(text):
        found = LABEL.search(edge["body"])
        before = found["label"] if found and edge["gate"] == "-start" else ""
    return before


def book(found: list[Chapter]) -> Book:
    """The numbers that the book prints, computed as it does: by order in the chapter."""
    numbers = {label: number for chapter in found for label, number in _numbers(chapter)}
    titles = {f"/notebooks/{chapter.name}": chapter.title for chapter in found}
    works = _works((source() / "book" / "references.bib").read_text("utf-8"))
    return Book(
        number=lambda label: numbers.get(label, ""),
        cite=lambda role, keys: cite(works, role, keys),
        page=lambda target: (titles.get(target, titled(target)), ""),
        chapters={chapter.number: "" for chapter in found},
    )


def _numbers(chapter: Chapter) -> Iterator[tuple[str, str]]:
    equations = figures = 0
    for cell in chapter.cells:
        if cell.kind == "markdown":
            for found in TAGGED.finditer(cell.source):
                equations += 1
                yield found["label"], f"{chapter.number}.{equations}"
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure:
            figures += 1
            yield figure.get("name", ""), f"{chapter.number}.{figures}"


def _works(text: str) -> dict[str, dict[str, str]]:
    """The fields of each entry of BibTeX, which has one field a line."""
    entries = re.findall(r"^@\w+\{(.*),\n((?:  .*\n)*)\}", text, re.MULTILINE)
    return {key: dict(re.findall(r"^  (\w+) = \{(.*)\},?$", body, re.MULTILINE)) for key, body in entries}


def cite(works: dict[str, dict[str, str]], role: str, keys: str) -> str:
    """What `{cite:t}` and `{cite:p}` stand for: names and year, with a link."""

    def one(key: str, form: str) -> str:
        if key not in works:
            return key
        work = works[key]
        last = [name.partition(",")[0].strip("{}") for name in work["author"].split(" and ")]
        names = f"{last[0]} et al." if len(last) > 2 or last[-1] == "others" else " and ".join(last)
        address = work.get("url") or ("doi" in work and f"https://doi.org/{work['doi']}")
        address = address or ("eprint" in work and f"https://arxiv.org/abs/{work['eprint']}")
        text = form.format(names, work.get("year", "no year"))
        return f"[{text}]({address})" if address else text

    found = [key.strip() for key in keys.split(",")]
    if role == "cite:t":
        return " and ".join(one(key, "{} ({})") for key in found)
    return f"({'; '.join(one(key, '{} {}') for key in found)})"
