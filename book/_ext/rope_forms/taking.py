"""The pages of the built site as a browser shows them, each as one piece that can stand in another document.

Formulas are set and moving figures drawn; what only a reader at a screen can use is gone. Every name in a page
carries the name of its page in front, so that pages can share a document, and links say page and place.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import yaml
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
STILL = (Path(__file__).parent / "still.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Entry:
    """A page in the table of contents."""

    name: str  # notebooks/03_deriving_rope
    part: str  # caption of its part of the book, "" for the first page

    @property
    def slug(self) -> str:
        return self.name.rsplit("/", 1)[-1].replace("_", "-")


@dataclass(frozen=True)
class Piece:
    """A page without its frame."""

    entry: Entry
    title: str
    body: str  # HTML of the article
    solutions: str  # HTML of its solutions, "" where it has none
    sections: list[dict[str, str]] = field(default_factory=list)  # place, words, and HTML as shown
    links: list[dict[str, str]] = field(default_factory=list)  # style sheets of the site: href, media
    styles: list[str] = field(default_factory=list)  # rules from the middle of the page, of XML alone


def contents(root: Path) -> list[Entry]:
    """All pages, in the order of the table of contents."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    parts = [Entry(page["file"], part["caption"]) for part in toc["parts"] for page in part["chapters"]]
    return [Entry(toc["root"], ""), *parts]


@contextmanager
def chromium() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        raise SystemExit(f"none of {', '.join(CHROMIUM)} is installed; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def wait(page: Page) -> None:
    """Until fonts and pictures are there."""
    page.evaluate("() => document.fonts.ready.then(() => null)")
    page.wait_for_function("() => [...document.images].every((image) => image.complete)", timeout=60_000)


def take(browser: Browser, site: Path, entries: list[Entry], *, xml: bool = False) -> list[Piece]:
    """The pages, in order, each with its links to the others as #page--place; as XML with MathML in it for an EPUB."""
    slugs = {(site / f"{entry.name}.html").resolve().as_uri(): entry.slug for entry in entries}
    context = browser.new_context(viewport={"width": 900, "height": 1200}, color_scheme="light")
    page = context.new_page()
    pieces = []
    for entry in entries:
        page.goto((site / f"{entry.name}.html").resolve().as_uri(), wait_until="load")
        page.evaluate(
            "() => document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })"
        )
        wait(page)
        pieces.append(Piece(entry, **page.evaluate(STILL, {"slugs": slugs, "slug": entry.slug, "xml": xml})))
    context.close()
    return pieces


def with_solutions(pieces: list[Piece]) -> list[Piece]:
    """The pages, and after the chapters one with all their solutions."""
    chapters = [piece for piece in pieces if piece.entry.name.startswith("notebooks/")]
    entry = Entry("solutions", pieces[pieces.index(chapters[-1]) + 1].entry.part)
    sections = [
        {"place": f"solutions--{piece.entry.slug}", "words": piece.title, "shown": escape(piece.title)}
        for piece in chapters
    ]
    bodies = [
        f'<section id="{section["place"]}"><h2>{section["shown"]}</h2>{piece.solutions}</section>'
        for section, piece in zip(sections, chapters, strict=True)
    ]
    added = Piece(entry, "Solutions", f"<h1>Solutions</h1>{''.join(bodies)}", "", sections)
    after = pieces.index(chapters[-1]) + 1
    return [*pieces[:after], added, *pieces[after:]]


def facts(root: Path, site: Path) -> dict[str, str]:
    """What the first page of a copy says about the book."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    checks = len(json.loads((site / "claims.json").read_text(encoding="utf-8")))
    return {"title": config["title"], "author": config["author"], "checks": f"{checks:,}"}
