"""The ledger: every check of the build, read from the outputs of the executed notebooks.

A cached chapter does not run again, so its checks come from its stored outputs, not from a side effect of
running. The build fails where a chapter checks nothing, where two checks share a label, and where a label
names an equation that its page does not number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from rope_book.chapters import executed, number
from rope_book.numbering import equations
from rope_lab.verify import STORED

LOG = logging.getLogger(__name__)
COLUMNS = (("Check", 34), ("Largest error", 18), ("Allowed", 18), ("Draws", 12), ("Number type", 18))


class Placeholder(nodes.General, nodes.Element):
    """Stands in the page until every chapter has been read."""


class Ledger(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [Placeholder()]


def chapters(env: BuildEnvironment) -> list[str]:
    return sorted(name for name in env.found_docs if number(name) is not None)


def checks(app: Sphinx, docname: str) -> Iterator[dict[str, Any]]:
    """What `rope_lab.verify` reported on one page, in the order of the page."""
    for cell in executed(app, docname).cells:
        for output in cell.get("outputs", []):
            if STORED in output.get("metadata", {}):
                yield output["metadata"][STORED]


def equation_of(label: str) -> str | None:
    """3.4 for a label such as "eq. 3.4, half layout"."""
    match = re.match(r"eq\. (\d+\.\d+)", label)
    return match[1] if match else None


def _audit(app: Sphinx, env: BuildEnvironment) -> None:
    owner: dict[str, str] = {}
    for docname in chapters(env):
        found = list(checks(app, docname))
        if not found:
            LOG.warning("the chapter checks nothing; rope_lab.verify has the checks", location=docname)
        for entry in found:
            label = entry["label"]
            if label in owner:
                LOG.warning("the label %r already names a check of %s", label, owner[label], location=docname)
            owner[label] = docname
            named = equation_of(label)
            if named is not None and named not in equations(env, docname):
                LOG.warning(
                    "the check %r names an equation that this page does not have", label, location=docname
                )


def _rewrite(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """The page of the ledger is written in every build: it depends on all chapters."""
    return [name for name in env.found_docs if env.metadata.get(name, {}).get("ledger")]


def _cells(entry: dict[str, Any]) -> tuple[str, str, str, str]:
    draws = f"{entry['draws']:,}"
    if entry["kind"] == "exact":
        return "0, by algebra", "0", "any", "symbolic"
    if entry["kind"] == "at most":
        return f"{entry['error']:.3g} of the bound", "1 of the bound", draws, entry["dtype"]
    return f"{entry['error']:.1e}", f"{entry['tolerance']:.0e}", draws, entry["dtype"]


def _row(cells: list[nodes.Node]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def _table(app: Sphinx, docname: str, here: str) -> nodes.table:
    page = app.builder.get_relative_uri(here, docname)
    anchors = equations(app.env, docname)
    body = nodes.tbody()
    for entry in checks(app, docname):
        anchor = anchors.get(equation_of(entry["label"]) or "")
        link = nodes.reference(
            "", entry["label"], refuri=f"{page}#{anchor}" if anchor else page, internal=True
        )
        body += _row([link, *map(nodes.Text, _cells(entry))])
    group = nodes.tgroup("", cols=len(COLUMNS))
    group += [nodes.colspec(colwidth=width) for _, width in COLUMNS]
    group += nodes.thead("", _row([nodes.Text(name) for name, _ in COLUMNS]))
    group += body
    return nodes.table("", group, classes=["rope-ledger"])


def _fill(app: Sphinx, doctree: nodes.document, here: str) -> None:
    for placeholder in list(doctree.findall(Placeholder)):
        found = {name: len(list(checks(app, name))) for name in chapters(app.env)}
        where = ", ".join(str(number(name)) for name in found)
        total = f"{sum(found.values()):,} checks passed, in chapters {where}."
        filled: list[nodes.Node] = [nodes.paragraph("", "", nodes.strong("", total))]
        for docname in found:
            title = app.env.titles[docname].astext()
            link = nodes.reference(
                "", title, refuri=app.builder.get_relative_uri(here, docname), internal=True
            )
            filled += [nodes.rubric("", "", link), _table(app, docname, here)]
        placeholder.replace_self(filled)


def _mark(app: Sphinx, doctree: nodes.document) -> None:
    app.env.metadata[app.env.docname]["ledger"] = any(doctree.findall(Placeholder))


def setup(app: Sphinx) -> None:
    app.add_node(Placeholder)
    app.add_directive("ledger", Ledger)
    app.connect("doctree-read", _mark)
    app.connect("env-updated", _rewrite)
    app.connect("env-check-consistency", _audit)
    app.connect("doctree-resolved", _fill)
