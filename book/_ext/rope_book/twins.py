"""The book for programs: page.md beside each page, llms.txt that lists them, claims.json with every check.

page.md      the text of a page as Markdown: formulas as TeX with their numbers, outputs as text, figures as words
llms.txt     all pages, each with its first sentence, in the order of the book
claims.json  what was checked: label, equation, TeX, code, error, draws, number type, address
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, NavigableString
from docutils import nodes
from markdownify import MarkdownConverter
from sphinx.application import Sphinx

from rope_book.ledger import chapters, checks, equation_of
from rope_book.numbering import equations
from rope_book.pages import describe

# What a page needs and its text does not.
FURNITURE = "script, style, .headerlink, .side label, .side button, colgroup, button, .rope-links"


class _Writer(MarkdownConverter):
    """Formulas stay as they are; whatever else has a sign of Markdown in it is escaped."""

    def convert_tex(self, el: Any, text: str, parent_tags: Any) -> str:
        return str(el.string)

    def convert_svg(self, el: Any, text: str, parent_tags: Any) -> str:
        said = el.get("aria-label")
        return f"\n\n*Figure: {said}*\n\n" if said else ""

    def convert_summary(self, el: Any, text: str, parent_tags: Any) -> str:
        return f"\n\n**{text.strip()}**\n\n"

    def convert_figcaption(self, el: Any, text: str, parent_tags: Any) -> str:
        return f"\n\n{text.strip()}\n\n"


def _formulas(soup: BeautifulSoup) -> None:
    for box in soup.select("span.math, div.math"):
        number = box.select_one(".eqno")
        said = number.get_text().strip("()# ") if number else ""
        if number:
            number.extract()
        tex = box.select_one("annotation").get_text().strip()
        tag = rf" \tag{{{said}}}" if said else ""
        shown = f"${tex}$" if box.name == "span" else f"\n\n$$\n{tex}{tag}\n$$\n\n"
        new = soup.new_tag("tex")
        new.append(NavigableString(shown))
        box.replace_with(new)


def markdown(body: str) -> str:
    """The body of a page as Markdown."""
    soup = BeautifulSoup(body, "html.parser")
    for piece in soup.select(FURNITURE):
        piece.decompose()
    for link in soup.select("a.rope-enlarge"):
        link.unwrap()
    for image in soup.select("img"):
        image.replace_with(soup.new_string(f"[Picture: {image.get('alt', '')}]"))
    for link in soup.select("a[href]"):
        link.attrs.pop("title", None)  # the whole entry of a work
        link["href"] = re.sub(
            r"^(?!\w+:|.*\b(?:_modules/|genindex|py-modindex))([^#]+)\.html(?=#|$)", r"\1.md", link["href"]
        )
    _formulas(soup)
    code = {"code_language_callback": _language, "heading_style": "atx", "bullets": "-", "escape_misc": False}
    text = _Writer(**code).convert_soup(soup)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)).strip() + "\n"


def _language(block: Any) -> str:
    of = " ".join(" ".join(box.get("class", [])) for box in block.parents)
    found = re.search(r"highlight-(\w+)", of)
    return {"ipython3": "python", "default": "", "myst": "text"}.get(found[1], found[1]) if found else ""


def _twin(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if app.builder.name != "html" or doctree is None:
        return
    target = Path(app.outdir) / f"{pagename}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(markdown(context["body"]), encoding="utf-8")
    name = pagename.rsplit("/", 1)[-1]
    context["metatags"] += f'\n    <link rel="alternate" type="text/markdown" href="{name}.md" />'


def claims(app: Sphinx) -> list[dict[str, Any]]:
    """Every check of the build, in the order of the book."""
    found = []
    for docname in chapters(app.env):
        tex = {
            node["ids"][0]: node.astext()
            for node in app.env.get_doctree(docname).findall(nodes.math_block)
            if node["ids"]
        }
        anchors, page = equations(app.env, docname), app.builder.get_target_uri(docname)
        for entry in checks(app, docname):
            number = equation_of(entry["label"])
            anchor = anchors.get(number or "", "")
            where = {"equation": number, "latex": tex.get(anchor), "page": f"{page}{anchor and f'#{anchor}'}"}
            found.append({**{key: value for key, value in entry.items() if key != "line"}, **where})
    return found


def _index(app: Sphinx) -> str:
    """llms.txt: a title, a summary, and the pages in the order of the table of contents."""
    pages = [app.config.root_doc, *_in_order(app, app.config.root_doc)]
    lines = [f"# {app.config.html_title}", ""]
    for name in pages:
        tree = app.env.get_doctree(name)
        said = describe(tree)
        if name == app.config.root_doc:
            checked = "Every check of the book, with its TeX and its code: [claims.json](claims.json)"
            lines += [f"> {said}", "", checked, "", "## Pages", ""]
        lines.append(f"- [{app.env.titles[name].astext()}]({name}.md){said and f': {said}'}")
    return "\n".join(lines) + "\n"


def _in_order(app: Sphinx, name: str) -> list[str]:
    return [
        page for child in app.env.toctree_includes.get(name, []) for page in (child, *_in_order(app, child))
    ]


def _write(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.name == "html":
        out = Path(app.outdir)
        said = json.dumps(claims(app), indent=1, ensure_ascii=False)
        (out / "claims.json").write_text(f"{said}\n", encoding="utf-8")
        (out / "llms.txt").write_text(_index(app), encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _twin, priority=960)  # of the page as it is, after `pages`
    app.connect("build-finished", _write)
