"""Code of a chapter leads to the API page, and an entry of the API page back to the chapters that use it.

A name is linked where the chapter imports it from the package and gives it no other meaning; once in a cell, and in the
text once in a section. What is linked stays the same text, so that copying gives the code.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform

from rope_book.chapters import number
from rope_book.mentions import written

API = "book/api"
CELL = re.compile(
    r'(<div class="highlight-ipython3[^"]*"><div class="highlight"><pre>)(.*?)(</pre>)', re.DOTALL
)
NAME = re.compile(
    r'(?<!<span class="o">\.</span>)<span class="(?:n|nc|nf)">(\w+)</span>(?!<span class="o">=</span>)'
)
ENTRY = re.compile(r'(<dt class="sig sig-object py" id="(rope_lab\.[\w.]+)">.*?</dt>\s*<dd>)', re.DOTALL)


@cache
def imported(source: str) -> dict[str, str]:
    """Names that code imports from the package and binds in no other way, each with what it is on the API page."""
    tree = ast.parse(source)
    found, bound = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rope_lab":
            for alias in node.names:
                thing = getattr(import_module(str(node.module)), alias.name, None)
                where = getattr(thing, "__module__", None) or node.module
                name, full = (
                    alias.asname or alias.name,
                    f"{where}.{getattr(thing, '__qualname__', alias.name)}",
                )
                if found.setdefault(name, full) != full:
                    bound.add(name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
    return {name: full for name, full in found.items() if name not in bound}


def names(env: BuildEnvironment, docname: str) -> dict[str, str]:
    """Of a chapter, the imported names that the API page has."""
    source = Path(env.doc2path(docname)).read_text(encoding="utf-8")
    documented = env.domains["py"].objects  # type: ignore[attr-defined]
    things = {full for full, entry in documented.items() if entry.objtype != "module"}
    return {name: full for name, full in imported(source).items() if full in things}


def linked(body: str, known: dict[str, str], api: str) -> str:
    """The body of a chapter with names in its code linked; the first use of each has a name to be linked to."""
    used: set[str] = set()

    def cell(found: re.Match[str]) -> str:
        here: set[str] = set()

        def link(name: re.Match[str]) -> str:
            if name[1] not in known or name[1] in here:
                return name[0]
            here.add(name[1])
            place = "" if name[1] in used else f' id="code-{name[1]}"'
            used.add(name[1])
            return f'<a class="rope-code"{place} href="{api}#{known[name[1]]}">{name[0]}</a>'

        return f"{found[1]}{NAME.sub(link, found[2])}{found[3]}"

    return CELL.sub(cell, body)


def uses(env: BuildEnvironment) -> dict[str, list[tuple[int, str, str]]]:
    """Of each entry of the API page, the chapters that import it: number, page, name there."""
    found: dict[str, list[tuple[int, str, str]]] = {}
    for chapter, docname in sorted(written(env).items()):
        for name, full in names(env, docname).items():
            found.setdefault(full, []).append((chapter, docname, name))
    return found


def returned(body: str, found: dict[str, list[tuple[int, str, str]]], address: Any) -> str:
    """The API page with a line under each entry that chapters use."""

    def entry(match: re.Match[str]) -> str:
        chapters = found.get(match[2], [])
        if not chapters:
            return match[0]
        links = ", ".join(f'<a href="{address(page)}#code-{name}">{of}</a>' for of, page, name in chapters)
        return f'{match[1]}<p class="rope-used">Used in chapter{"s" * (len(chapters) > 1)} {links}.</p>'

    return ENTRY.sub(entry, body)


def _finish(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if app.builder.name != "html" or doctree is None:
        return
    if pagename == API:
        context["body"] = returned(context["body"], uses(app.env), context["pathto"])
    elif number(pagename) is not None and API in app.env.found_docs:
        context["body"] = linked(context["body"], names(app.env, pagename), context["pathto"](API))


class LinkNames(SphinxPostTransform):
    """`rotate` in the text of a chapter that imports it leads to the API page, once in a section."""

    default_priority = 5  # before the resolver of links

    def run(self, **kwargs: object) -> None:
        if number(self.env.docname) is None or API not in self.env.found_docs:
            return
        known, seen = names(self.env, self.env.docname), set()
        for literal in list(self.document.findall(nodes.literal)):
            name = literal.astext().removesuffix("()")
            section = _above(literal, nodes.section)
            if name not in known or (section, name) in seen or _above(literal, *HELD):
                continue
            seen.add((section, name))
            target = {"refdomain": "py", "reftype": "obj", "reftarget": known[name], "refexplicit": True}
            link = addnodes.pending_xref("", refdoc=self.env.docname, refwarn=True, **target)
            literal.replace_self(link)
            link += literal


HELD = (nodes.reference, addnodes.pending_xref, nodes.title, nodes.caption, nodes.raw)


def _above(node: nodes.Node, *kinds: type[nodes.Node]) -> nodes.Node | None:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return node
    return None


def setup(app: Sphinx) -> None:
    app.add_post_transform(LinkNames)
    app.connect("html-page-context", _finish, priority=940)  # before `pages` and what reads the body
