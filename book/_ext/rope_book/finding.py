"""What the search finds besides words: (3.14), Figure 3.2, θ, and names that other libraries use.

Sphinx's search splits a query at everything that is no letter, and looks for words. A title it compares as a whole, so
each of these is entered as a title of a place in a page, and its result says "Notation > θ" and leads there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

from rope_book.previews import article

START, END = "Search.setIndex(", ")"
EQUATION = re.compile(r'id="(?P<id>equation-[^"]+)">\s*<span class="eqno">(?P<name>\([\w.]+\))')
FIGURE = re.compile(
    r'<figure[^>]*id="(?P<id>[^"]+)"(?:(?!</figure>).)*?caption-number">(?P<name>Figure [\w.]+) <', re.DOTALL
)
# Names of other libraries for what the book calls otherwise, and the place that explains them.
ELSEWHERE = {
    "rotate_half": ("book/glossary", "term-half-layout"),
    "rotate_every_two": ("book/glossary", "term-interleaved-layout"),
    "past_key_values": ("notebooks/07_attention", ""),
    "rope_theta": ("book/glossary", "term-base"),
}


def numbered(html: str) -> Iterator[tuple[str, str]]:
    """Equations and figures of a page: number and place."""
    for pattern in (EQUATION, FIGURE):
        for found in pattern.finditer(html):
            yield found["name"], found["id"]


def symbols(html: str) -> Iterator[tuple[str, str]]:
    """Greek letters and names in code of the tables of symbols, each with its section."""
    for part in re.split(r'<section\b[^>]*\bid="', html)[2:]:  # the first is the page
        place = part.partition('"')[0]
        for row in re.findall(r"<tr\b.*?</tr>", part, re.DOTALL):
            first = row.partition("</td>")[0]
            yield from (
                (letter, place) for letter in dict.fromkeys(re.findall(r"<mi>([α-ωΑ-Ω])</mi>", first))
            )
            for code in re.findall(r"<code\b.*?</code>", row, re.DOTALL):
                name = re.sub(r"<[^>]*>", "", code).partition("(")[0]
                if re.fullmatch(r"[a-z]\w{3,}", name):
                    yield name, place


def entered(index: dict[str, object], pages: dict[str, str]) -> dict[str, object]:
    """The search index with the names of places entered as titles; once, however often it is asked."""
    files: list[str] = index["docnames"]  # type: ignore[assignment]
    titles: dict[str, list[list[object]]] = index["alltitles"]  # type: ignore[assignment]
    titles.pop("", None)  # exercises without a title, which nothing finds
    found = [(name, page, place) for page, html in pages.items() for name, place in numbered(html)]
    found += [(name, "book/notation", place) for name, place in symbols(pages.get("book/notation", ""))]
    found += [(name, *where) for name, where in ELSEWHERE.items()]
    for name, page, place in found:
        if page in files:
            entry = [files.index(page), place or None]
            if entry not in titles.setdefault(name, []):
                titles[name].append(entry)
    return index


def _write(app: Sphinx, exception: Exception | None) -> None:
    path = Path(app.outdir) / "searchindex.js"
    if exception is not None or app.builder.name != "html" or not path.exists():
        return
    pages = {}
    for name in app.env.found_docs:
        page = Path(app.outdir) / f"{name}.html"
        if page.exists():
            pages[name] = article(page.read_text(encoding="utf-8"))
    text = path.read_text(encoding="utf-8")
    index = json.loads(text.removeprefix(START).removesuffix(END))
    said = json.dumps(entered(index, pages), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    path.write_text(f"{START}{said}{END}", encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.connect("build-finished", _write)
