"""What a link leads to, for the card that previews.js shows beside it: data made of the pages as they were written.

The cards of a page are in a script of their own, `_static/previews/PAGE.js`, loaded when a reader first points at a
link to that page. It is a script rather than JSON because a page opened from a disk cannot fetch anything.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import defaultdict
from pathlib import Path

from sphinx.application import Sphinx

FOLDER = "_static/previews"
LINK = re.compile(r'<a class="reference internal" href="(?P<page>[^"#:]*)(?:#(?P<id>[^"]*))?"')
HEADING = r"<h[1-6]\b.*?</h[1-6]>"
PARAGRAPH = r"<p(?! class=\"rope-used)(?: [^>]*)?>(?!Bases: ).*?</p>"
# What a card does without: names of places, links (it is read, not used), controls and scripts.
DROPPED = re.compile(
    r'<a class="headerlink[^>]*>.*?</a>|<script\b.*?</script>|<style\b.*?</style>|</?a\b[^>]*>'
    r'|<span class="viewcode-link">.*?</span>|(?<=<)(?P<tag>\w+)(?P<rest>[^<>]*?) id="[^"]*"',
    re.DOTALL,
)


def article(html: str) -> str:
    """The text of a page without what the theme puts around it."""
    start = html.find('<article class="bd-article"')
    return html[start : html.find("</article>", start)] if start >= 0 else ""


def element(html: str, start: int) -> str:
    """The element whose start tag is at `start`, to its end tag."""
    opened = re.match(r"<(\w+)", html[start:])
    if not opened:
        return ""
    depth = 0
    for tag in re.compile(rf"<(/?){opened[1]}\b[^>]*>").finditer(html, start):
        depth += -1 if tag[1] else 1
        if not depth:
            return html[start : tag.end()]
    return html[start:]


def _first(pattern: str, html: str) -> str:
    found = re.search(pattern, html, re.DOTALL)
    return found[0] if found else ""


def _opening(html: str) -> str:
    """The heading of a page or section, and the first paragraph after it."""
    return f"{_first(HEADING, html)}{_first(PARAGRAPH, re.sub(HEADING, '', html, count=1, flags=re.DOTALL))}"


def card(html: str, anchor: str) -> str:
    """What stands at `anchor` of a page, "" for its beginning, as HTML for a card; "" where nothing does."""
    if not anchor:
        return clean(_opening(html))
    found = re.search(rf'<(?P<tag>\w+)\b[^>]*\bid="{re.escape(anchor)}"[^>]*>', html)
    if not found:
        return ""
    if found["tag"] == "span":  # a name given to what comes next; a section's heading comes next in it
        return clean(_opening(html[found.end() : found.end() + 20_000]))
    whole = element(html, found.start())
    if found["tag"] == "section":
        return clean(_opening(whole))
    if found["tag"] == "dt":  # a term or a name of the package, and the first paragraph about it
        after = html.find("<dd", found.end())
        return clean(f"<p><strong>{whole[found.end() - found.start() : -5]}</strong></p>") + clean(
            _first(PARAGRAPH, element(html, after))
        )
    return clean(whole)


def clean(html: str) -> str:
    """The HTML without what a card does without; headings are bold, for they would be headings of the reader's page."""
    html = re.sub(r"<h[1-6]\b[^>]*>(.*?)</h[1-6]>", r"<p><strong>\1</strong></p>", html, flags=re.DOTALL)
    return DROPPED.sub(lambda found: f"{found['tag']}{found['rest']}" if found["tag"] else "", html).strip()


def wanted(pages: dict[str, str]) -> dict[str, set[str]]:
    """The places that links of the pages lead to: {"book/glossary": {"term-base"}}."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, html in pages.items():
        for link in LINK.finditer(html):
            page = (
                posixpath.normpath(posixpath.join(posixpath.dirname(name), link["page"]))
                if link["page"]
                else f"{name}.html"
            )
            if page.endswith(".html"):
                found[page[:-5]].add(link["id"] or "")
    return {name: ids for name, ids in found.items() if name in pages}


def cards(pages: dict[str, str]) -> dict[str, dict[str, str]]:
    """The cards of each page that a link leads to; paths in them begin at the root of the site."""
    made = {}
    for name, ids in wanted(pages).items():
        found = {anchor: card(pages[name], anchor) for anchor in sorted(ids)}
        made[name] = {anchor: _rooted(name, html) for anchor, html in found.items() if html}
    return made


def _rooted(name: str, html: str) -> str:
    folder = posixpath.dirname(name)
    return re.sub(
        r'\bsrc="(?!data:)([^"]*)"',
        lambda found: f'data-src="{posixpath.normpath(posixpath.join(folder, found[1]))}"',
        html,
    )


def _write(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.name != "html":
        return
    out = Path(app.outdir)
    pages: dict[str, str] = {}
    for name in app.env.found_docs:
        path = out / f"{name}.html"
        if path.exists():
            pages[name] = article(path.read_text(encoding="utf-8"))
    for name, found in cards(pages).items():
        target = out / FOLDER / f"{name}.js"
        target.parent.mkdir(parents=True, exist_ok=True)
        said = json.dumps(found, ensure_ascii=False)
        target.write_text(f"ropePreviews({json.dumps(name)}, {said});\n", encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.add_js_file("previews.js", loading_method="defer")
    app.add_css_file("previews.css")
    app.connect("build-finished", _write)
