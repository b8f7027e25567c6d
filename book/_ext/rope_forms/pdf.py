"""rope-book.pdf: the whole book as one document, printed by Chromium, so that links and page numbers are its own.

A print says on which page each section is, and the contents of the next one say it. Now and then Chromium breaks a page
elsewhere than the time before: then it is printed again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import pikepdf
from playwright.sync_api import Page

from rope_forms.taking import Piece, chromium, contents, facts, take, wait, with_solutions

OWN = (Path(__file__).parent / "pdf.css").read_text(encoding="utf-8")
PRINTS = 5  # at most
WIDTH = 627  # of the text on A4 in CSS pixels: 210 mm less the margins in pdf.css
FILL = """(pages) => document.querySelectorAll(".rope-contents a").forEach((line) => {
  line.querySelector(".page").textContent = pages[line.hash.slice(1)];
})"""
WIDE = """(width) => document.documentElement.scrollWidth <= width ? [] :
  [...document.querySelectorAll("body *")].filter((box) =>
    box.getBoundingClientRect().right > width + 1 && !box.closest(".katex-mathml")
  ).map((box) => `${box.closest("[id]")?.id}: ${box.textContent.slice(0, 60)}`)"""

# The signs that KaTeX draws: a root, a bar, a brace. A rule for figures once made them flat.
FLAT = """() => [...document.querySelectorAll(".katex svg")].filter((sign) =>
  sign.getBoundingClientRect().height < 2
).map((sign) => sign.closest(".katex").querySelector("annotation").textContent)"""


def _lines(pieces: list[Piece]) -> Iterator[str]:
    part = ""
    for piece in pieces:
        if piece.entry.part != part:
            part = piece.entry.part
            yield f'<p class="part">{escape(part)}</p>'
        yield _line("chapter", piece.entry.slug, escape(piece.title))
        yield from (_line("section", section["place"], section["shown"]) for section in piece.sections)


def _line(kind: str, place: str, shown: str) -> str:
    return f'<a class="{kind}" href="#{place}"><span>{shown}</span><i></i><span class="page">000</span></a>'


def document(pieces: list[Piece], said: dict[str, str]) -> str:
    """The book as one page of HTML: its front page, its contents, its pages."""
    sheets = {link["href"]: link["media"] for piece in pieces for link in piece.links}
    links = "\n".join(
        f'<link rel="stylesheet" href="{href}" media="{media}">' for href, media in sheets.items()
    )
    running = "\n".join(
        f"@page of-{piece.entry.slug} {{ @top-right {{ content: {json.dumps(piece.title, ensure_ascii=False)} }} }}\n"
        f'[id="{piece.entry.slug}"] {{ page: of-{piece.entry.slug} }}'
        for piece in pieces
    )
    articles = "\n".join(
        f'<article class="bd-article" id="{piece.entry.slug}">{piece.body}</article>' for piece in pieces
    )
    return f"""<!doctype html>
<html lang="en" data-theme="light" data-mode="light">
<head><meta charset="utf-8"><title>{escape(said["title"])}</title>{links}
<style>:root {{ --book: {json.dumps(said["title"])} }}
{OWN}{running}</style></head>
<body><header class="rope-title"><p class="title">{escape(said["title"])}</p>
<p class="author">{escape(said["author"])}</p>
<p>{said["checks"]} checks ran when this book was built, and all of them passed.</p>
<p>In this copy, moving figures stand still, and code that a page of the site folds away is left out. Solutions follow
the last chapter.</p></header>
<nav class="rope-contents bd-article"><h1>Contents</h1>{"".join(_lines(pieces))}</nav>
{articles}</body></html>"""


def places(pdf: pikepdf.Pdf) -> dict[str, int]:
    """The page, from 1, of each place that a link inside the document leads to."""
    number = {page.objgen: at for at, page in enumerate(pdf.pages, start=1)}
    named = pdf.Root.get("/Dests", {})
    return {name.lstrip("/"): number[_where(place).objgen] for name, place in named.items()}


def _where(place: Any) -> Any:
    return (place if isinstance(place, pikepdf.Array) else place["/D"])[0]


def bookmark(pdf: pikepdf.Pdf, pieces: list[Piece], pages: dict[str, int]) -> None:
    """Bookmarks for the parts, their pages, and the sections of those."""
    with pdf.open_outline() as outline:
        outline.root.clear()
        part, level = "", outline.root
        for piece in pieces:
            if piece.entry.part != part:
                part = piece.entry.part
                over = _bookmark(part, piece.entry.slug, pages)
                over.is_closed = False
                outline.root.append(over)
                level = over.children
            item = _bookmark(piece.title, piece.entry.slug, pages)
            item.is_closed = True
            item.children.extend(_bookmark(s["words"], s["place"], pages) for s in piece.sections)
            level.append(item)


def _bookmark(words: str, place: str, pages: dict[str, int]) -> pikepdf.OutlineItem:
    item = pikepdf.OutlineItem(words, destination=pikepdf.Name(f"/{place}"))
    if place not in pages:
        raise SystemExit(f"rope-book.pdf: {place} has no page")
    return item


def print_book(page: Page) -> bytes:
    return page.pdf(prefer_css_page_size=True, print_background=True, tagged=True)


def build(root: Path, site: Path) -> Path:
    """Writes rope-book.pdf into the site, and checks it."""
    target = site / "rope-book.pdf"
    source = site.parent / "rope-book.html"
    with chromium() as browser:
        pieces = with_solutions(take(browser, site, contents(root)))
        said = facts(root, site)
        source.write_text(document(pieces, said), encoding="utf-8")
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000}, color_scheme="light")
        page.emulate_media(media="print")
        page.goto(source.resolve().as_uri())
        wait(page)
        if wide := page.evaluate(WIDE, WIDTH):  # Chromium would print the whole book smaller
            raise SystemExit("rope-book.pdf: wider than the paper\n" + "\n".join(wide[:20]))
        if flat := page.evaluate(FLAT):
            raise SystemExit("rope-book.pdf: a sign is missing in\n" + "\n".join(flat[:20]))
        page.set_default_timeout(600_000)
        printed, pages = print_book(page), dict[str, int]()
        for _ in range(PRINTS - 1):
            with pikepdf.open(io.BytesIO(printed)) as last:
                if (found := places(last)) == pages:
                    break
            pages = found
            page.reload()  # a page that was printed once may break elsewhere
            wait(page)
            page.evaluate(FILL, pages)
            printed = print_book(page)
    with pikepdf.open(io.BytesIO(printed)) as pdf:
        bookmark(pdf, pieces, pages)
        pdf.docinfo["/Title"], pdf.docinfo["/Author"] = said["title"], said["author"]
        pdf.save(target, object_stream_mode=pikepdf.ObjectStreamMode.generate, compress_streams=True)
    source.unlink()
    if faults := check(target, pieces, pages):
        target.unlink()
        raise SystemExit("rope-book.pdf: " + "; ".join(faults))
    return target


def check(target: Path, pieces: list[Piece], pages: dict[str, int]) -> list[str]:
    """What is wrong with the printed book: missing pages of it, numbers, bookmarks, links or fonts."""
    with pikepdf.open(target) as pdf:
        faults = [
            f"{place} is on page {at}, the contents say {pages.get(place)}"
            for place, at in places(pdf).items()
            if at != pages.get(place)
        ]
        starts = [pages.get(piece.entry.slug, 0) for piece in pieces]
        if sorted(set(starts)) != starts or starts[0] < 3:
            faults.append(f"the pages of the book start at {starts}")
        with pdf.open_outline() as outline:
            marked = [item.title for item in walk(outline.root)]
        said = [words for p in pieces for words in (p.title, *(section["words"] for section in p.sections))]
        faults += [f"no bookmark {words!r}" for words in said if words not in marked]
        faults += [f"the font {name} is not embedded" for name in unembedded(pdf)]
        faults += [f"a link leads to {where}" for where in lost(pdf)]
    return faults


def walk(items: list[pikepdf.OutlineItem]) -> Iterator[pikepdf.OutlineItem]:
    for item in items:
        yield item
        yield from walk(item.children)


def unembedded(pdf: pikepdf.Pdf) -> set[str]:
    """Fonts that a reader's machine would have to have. One of type 3 holds its letters as drawings."""
    fonts = [
        thing
        for thing in pdf.objects
        if isinstance(thing, pikepdf.Dictionary) and thing.get("/Type") == "/Font"
    ]
    own = [font for font in fonts if font.get("/Subtype") not in ("/Type0", "/Type3")]
    files = ("/FontFile", "/FontFile2", "/FontFile3")
    return {
        str(font.get("/BaseFont", "?"))
        for font in own
        if not any(file in font.get("/FontDescriptor", {}) for file in files)
    }


def lost(pdf: pikepdf.Pdf) -> set[str]:
    """Links to files of this machine, and links to places that are not in the document."""
    there, found = set(pdf.Root.get("/Dests", {}).keys()), set()
    for page in pdf.pages:
        for note in page.get("/Annots", []):
            address = str(note.get("/A", {}).get("/URI", ""))
            place = note.get("/Dest")
            if address.startswith("file:"):
                found.add(address)
            if isinstance(place, pikepdf.Name) and str(place) not in there:
                found.add(str(place))
    return found
