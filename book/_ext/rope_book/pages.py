"""The head of a page says what it is about and loads what it uses; its images keep their place while they load."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx

from rope_book import cards
from rope_book.chapters import number
from rope_book.colophon import plain, today

# What Jupyter Book puts on every page, and the sign of a page that uses it; None: no page does.
LOADED = {
    "sphinx-thebe": None,
    "THEBE_JS_URL": None,
    "exercise.css": None,  # rope.css has the looks of an exercise
    "toggle(button|Hint|Open)": r'class="[^"]*\btoggle\b|class="admonition[^"]*\bdropdown\b',
    "sphinx-design": r'class="sd-',
    "design-tabs": r'class="sd-tab-',
    "clipboard|copybutton": r'class="highlight',
}
PX_PER_PT = 96 / 72
# Pages that show what is written elsewhere are as new as that.
SHOWS = {"book/api": "rope_lab", "book/ledger": "notebooks"}


def _used(asset: Any, body: str) -> bool:
    text = f"{asset.filename or ''} {asset.attributes.get('body') or ''}"
    for pattern, sign in LOADED.items():
        if re.search(pattern, text):
            return sign is not None and re.search(sign, body) is not None
    return True


def _load_less(context: dict[str, Any], pagename: str) -> None:
    body = context.get("body") or ""
    for kind in ("script_files", "css_files"):
        context[kind] = [asset for asset in context[kind] if _used(asset, body)]
    at_once = r"documentation_options" if pagename != "search" else r"(?<!rope\.js)$"
    context["script_files"] = [_late(script, at_once) for script in context["script_files"]]


def _late(script: Any, at_once: str) -> Any:
    """The script, run when the page has been read, except where lines of script in the page count on it before."""
    if script.filename is None or re.search(at_once, str(script.filename)):
        return script
    attributes = {name: value for name, value in script.attributes.items() if name != "async"}
    return type(script)(script.filename, priority=script.priority, **{**attributes, "defer": "defer"})


def describe(doctree: nodes.document) -> str:
    """The first paragraph of a page, one without formulas where there is one, in at most 160 letters."""
    found = [node for node in doctree.findall(nodes.paragraph) if isinstance(node.parent, nodes.section)]
    plain = [node for node in found[:3] if not any(node.findall(nodes.math))]
    text = " ".join((plain or found)[0].astext().split()) if found else ""
    return text if len(text) <= 160 else text[:159].rsplit(" ", 1)[0].rstrip(",;:") + "…"


def _meta(app: Sphinx, pagename: str, context: dict[str, Any], doctree: nodes.document) -> str:
    text, title = describe(doctree), plain(context["title"])
    book, chapter = app.config.html_title, number(pagename)
    named = {
        "description": text,
        "citation_title": title,
        "citation_author": app.config.author,
        "citation_publication_date": f"{today():%Y/%m/%d}",
        "citation_language": "en",
    }
    shared = {
        "og:type": "article",
        "og:site_name": book,
        "og:title": title,
        "og:description": text,
    }
    if title != book:
        named["citation_inbook_title"] = book
    if chapter is not None:
        named["citation_section"] = str(chapter)
    if context.get("pageurl"):
        named |= {"citation_public_url": context["pageurl"], "twitter:card": "summary_large_image"}
        shared |= {
            "og:url": context["pageurl"],
            "og:image": f"{app.config.html_baseurl}{cards.path(pagename)}",
            "og:image:width": str(cards.SIZE[0]),
            "og:image:height": str(cards.SIZE[1]),
            "og:image:alt": f"{title}, beside a clock with two hands",
        }
    lines = [f'<meta name="{name}" content="{escape(value)}" />' for name, value in named.items()]
    lines += [f'<meta property="{name}" content="{escape(value)}" />' for name, value in shared.items()]
    return "\n    ".join(["", *lines])


@cache
def size(path: Path) -> tuple[int, int] | None:
    """Width and height in CSS pixels, None for a drawing that does not say."""
    if path.suffix != ".svg":
        with Image.open(path) as image:
            return image.size
    head = path.read_text(encoding="utf-8")[:2000]
    sides = [re.search(rf'<svg[^>]*\b{side}="([\d.]+)(pt|px)?"', head) for side in ("width", "height")]
    if not all(sides):
        return None
    width, height = (round(float(side[1]) * (PX_PER_PT if side[2] == "pt" else 1)) for side in sides if side)
    return width, height


def _images(app: Sphinx, body: str) -> str:
    """Room for every image before it comes, and none is fetched before it is near."""
    source = {name: Path(app.srcdir, path) for path, name in app.builder.images.items()}

    def widen(found: re.Match[str]) -> str:
        path = source.get(found["name"])
        sides = size(path) if path and path.exists() else None
        room = f' width="{sides[0]}" height="{sides[1]}"' if sides and "width" not in found[0] else ""
        return f'<img loading="lazy" decoding="async"{room} {found["rest"]}'

    return re.sub(r'<img (?P<rest>[^>]*src="[^"]*_images/(?P<name>[^"/]+)"[^>]*>)', widen, body)


THEBE = re.compile(
    r'<script type="text/x-thebe-config">.*?</script>\s*<script>kernelName.*?</script>', re.DOTALL
)


def _roles(body: str) -> str:
    """References are paragraphs; a list without items is none, and the role of an entry is deprecated."""
    return body.replace('<div role="list" class="citation-list">', '<div class="citation-list">').replace(
        ' role="doc-biblioentry"', ""
    )


def untitled(body: str) -> str:
    """Links within the book without their tooltips: a card shows what they lead to, and the API page has 1,700."""
    return re.sub(r'(<a class="reference internal" href="[^"]*") title="[^"]*"', r"\1", body)


def nested(body: str) -> str:
    """A list of modules in which a list of parts stands in the entry of its whole, as HTML wants it.

    Sphinx writes it after that entry, where a reader of the page aloud is told of no list.
    """
    opened = re.sub(r"</li>\s*<ul>", "\n<ul>", body)
    *inner, last = opened.split("</ul>")
    return "</ul></li>".join(inner) + "</ul>" + last if inner else opened


def changed(app: Sphinx, docname: str) -> str | None:
    """The day of the last commit to a page's source; None outside of git and where git cannot tell."""
    source = SHOWS.get(docname) or str(app.env.doc2path(docname, base=False))
    command = ["git", "-C", app.srcdir, "log", "-1", "--format=%cs", "--", source]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _finish(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if "script_files" not in context or app.builder.name != "html":
        return
    _load_less(context, pagename)
    context["metatags"] = ""  # docutils' own viewport: the theme has one
    if pagename == "_modules/index":
        context["body"] = nested(context["body"])
    if doctree is not None:
        context["metatags"] = _meta(app, pagename, context, doctree)
        context["body"] = untitled(_roles(_images(app, THEBE.sub("", context["body"]))))
        context["last_updated"] = changed(app, pagename)


def _with_source(app: Sphinx) -> list[Any]:
    """viewcode's list of modules has a link for each that it met, also for one that it shows no source of."""
    known = app.env.__dict__.get("_viewcode_modules", {})
    for name in [name for name, source in known.items() if not source]:
        del known[name]
    return []


def setup(app: Sphinx) -> None:
    app.connect("html-collect-pages", _with_source, priority=400)  # before viewcode
    app.connect("html-page-context", _finish, priority=950)  # when the theme and others have added theirs
