"""The map of the chapters: each is a link, and an arrow leads from a chapter to a later one that refers back to it.

    ```{chapter-map}
    | Part I | The idea |
    |---|---|
    | 01 | {doc}`Why position </notebooks/01_why_position>` |
    | 04 | A chapter that is planned |
    ```

The table gives the order, the parts and the short titles. Which chapters exist, and which of them point back to which,
is read from their texts when the book is built, so the map grows by itself. HTML shows the drawing in place of the
table, other formats show the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from rope_book.mentions import written
from rope_lab.exercises.pages import Chapter, parts, read
from rope_lab.exercises.plain import EXERCISE, MENTION, ONE, TAGGED

LOG = logging.getLogger(__name__)
WIDTH, ROW, HEAD, LEFT = 340, 32, 30, 74  # the drawing and its rows; boxes begin LEFT of the arrows' room
REFERENCE = re.compile(r"\{(?:eq|numref|ref|doc)\}`(?:[^`<]*<)?([^`>]+)>?`")
TARGET = re.compile(r"^\(([\w:.-]+)\)=$", re.MULTILINE)
Arrows = set[tuple[int, int]]


@dataclass(frozen=True)
class Row:
    """A row of the table: a part has number 0."""

    number: int
    title: str


def rows(lines: Iterable[str]) -> Iterator[Row]:
    """The parts and chapters of the table."""
    for line in lines:
        cells = [cell.strip(" *") for cell in line.strip().strip("|").split("|")]
        if len(cells) != 2 or set(cells[0]) <= {"-", ":"}:
            continue
        title = re.sub(r"\{doc\}`(.*?) *<.*?>`", r"\1", cells[1])
        yield Row(int(cells[0]), title) if cells[0].isdigit() else Row(0, f"{cells[0]}: {title}")


def _prose(chapter: Chapter) -> str:
    """Its text without exercises, from its heading to its references, each paragraph on one line."""
    text = "\n".join(cell.source for cell in chapter.cells if cell.kind == "markdown" and not cell.of)
    return text.partition("\n## References")[0]


def _labels(chapter: Chapter) -> Iterator[str]:
    for cell in chapter.cells:
        yield from (found["label"] for found in TAGGED.finditer(cell.source))
        yield from TARGET.findall(cell.source)
        yield cell.metadata.get("mystnb", {}).get("figure", {}).get("name", "")
    yield f"/notebooks/{chapter.name}"


def looks_back(chapters: Iterable[Chapter]) -> Arrows:
    """(1, 3) where the text of chapter 3 names chapter 1, or an equation, a figure or an exercise of it."""
    found = list(chapters)
    home = {label: chapter.number for chapter in found for label in _labels(chapter) if label}
    arrows = set()
    for chapter in found:
        text = _prose(chapter)
        named = {int(one["number"]) for said in MENTION.findall(text) for one in ONE.finditer(said)}
        for label in REFERENCE.findall(text):
            exercise = EXERCISE.fullmatch(label)
            named.add(int(exercise["chapter"]) if exercise else home.get(label, 0))
        arrows |= {(number, chapter.number) for number in named if 0 < number < chapter.number}
    there = {chapter.number for chapter in found}
    return {arrow for arrow in arrows if arrow[0] in there}


def thinned(arrows: Arrows) -> Arrows:
    """Those arrows whose two ends no detour over other arrows connects."""
    after = {start: {end for begin, end in arrows if begin == start} for start, _ in arrows}

    def reached(start: int) -> set[int]:
        return set().union(*({end} | reached(end) for end in after.get(start, ())))

    return {
        (start, end)
        for start, end in arrows
        if not any(end in reached(middle) for middle in after[start] - {end})
    }


def drawing(table: Iterable[Row], links: Mapping[int, str], arrows: Arrows) -> str:
    """The map as SVG for a page: one column of chapters, with the arrows to the left of it.

    Args:
        table: parts and chapters from top to bottom.
        links: the address of each chapter that exists; the others are grey.
        arrows: from a chapter to one below it.
    """
    places, parts_, y = {}, [], 4
    for row in table:
        if row.number:
            places[row.number] = (y + ROW // 2, row.title)
            y += ROW
        else:
            parts_.append(f'<text class="part" x="{LEFT}" y="{y + 20}">{escape(row.title)}</text>')
            y += HEAD
    body = [_chapter(number, *place, links, places, arrows) for number, place in places.items()]
    return (
        f'<svg class="rope-map" viewBox="0 0 {WIDTH} {y + 4}" role="group" aria-labelledby="rope-map-title" '
        'xmlns="http://www.w3.org/2000/svg">'
        '<title id="rope-map-title">Map of the chapters</title>'
        '<defs><marker id="rope-map-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto" markerUnits="userSpaceOnUse"><path class="tip" d="M0,0.5 L8,4 L0,7.5 z"/></marker></defs>'
        f"{''.join(parts_)}{''.join(body)}</svg>"
    )


def _chapter(
    number: int,
    y: int,
    title: str,
    links: Mapping[int, str],
    places: Mapping[int, tuple[int, str]],
    arrows: Arrows,
) -> str:
    """A chapter and the arrows that lead to it, so that pointing at it can make them stand out."""
    before = sorted(start for start, end in arrows if end == number)
    paths = "".join(f'<path class="arrow" d="{_bow(places[start][0], y)}"/>' for start in before)
    box = f'<rect x="{LEFT}" y="{y - 14}" width="{WIDTH - LEFT - 2}" height="28" rx="5"/>'
    words = f'<text x="{LEFT + 9}" y="{y + 4.5}"><tspan class="number">{number:02d}</tspan> {escape(title)}</text>'
    if number not in links:
        return f'<g class="chapter planned">{box}{words}</g>'
    said = f"Chapter {number}, {title}." + (f" Refers back to {_listed(before)}." if before else "")
    return (
        f'<g class="chapter">{paths}<a href="{escape(links[number])}" aria-label="{escape(said)}">'
        f"<title>{escape(said)}</title>{box}{words}</a></g>"
    )


def _listed(numbers: list[int]) -> str:
    words = [str(number) for number in numbers]
    both = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return f"chapter{'s' * (len(words) > 1)} {both}"


def _bow(start: int, end: int) -> str:
    """A bow to the left, the wider the longer, that leaves a box below its middle and meets one above its middle."""
    start, end = start + 5, end - 5
    reach = min(LEFT - 8, 14 + (end - start) * 0.29)
    x = LEFT - 1
    control = x - reach * 4 / 3  # a cubic goes three quarters of the way to its control points
    return f"M{x},{start} C{control:.1f},{start} {control:.1f},{end} {x - 1},{end}"


class Mapped(nodes.General, nodes.Element):
    """Holds the table until every chapter has been read."""


class ChapterMap(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        holder = Mapped(rows=list(rows(self.content)))
        self.state.nested_parse(self.content, self.content_offset, holder)
        return [holder]


def _chapters(env: BuildEnvironment) -> list[Chapter]:
    files = sorted(Path(env.doc2path(name)) for name in written(env).values())
    return [Chapter(file.stem, tuple(parts(read(file.read_text("utf-8"))))) for file in files]


def _draw(app: Sphinx, doctree: nodes.document, here: str) -> None:
    for holder in list(doctree.findall(Mapped)):
        found = written(app.env)
        if missing := sorted(set(found) - {row.number for row in holder["rows"]}):
            LOG.warning("the map has no row for the chapters %s", missing, location=here)
        if app.builder.format != "html":
            holder.replace_self(holder.children)
            continue
        links = {number: app.builder.get_relative_uri(here, name) for number, name in found.items()}
        svg = drawing(holder["rows"], links, thinned(looks_back(_chapters(app.env))))
        holder.replace_self(nodes.raw("", svg, format="html"))


def _mark(app: Sphinx, doctree: nodes.document) -> None:
    app.env.metadata[app.env.docname]["chapter_map"] = any(doctree.findall(Mapped))


def _rewrite(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """The page of the map is written in every build: it depends on all chapters."""
    return [name for name in env.found_docs if env.metadata.get(name, {}).get("chapter_map")]


def setup(app: Sphinx) -> None:
    app.add_node(Mapped)
    app.add_directive("chapter-map", ChapterMap)
    app.connect("doctree-read", _mark)
    app.connect("env-updated", _rewrite)
    app.connect("doctree-resolved", _draw)
