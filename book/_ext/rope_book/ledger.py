"""The ledger: every check of the build, read from the outputs of the executed notebooks.

A cached chapter does not run again, so its checks come from its stored outputs, not from a side effect of
running. The build fails where a chapter checks nothing, where two checks share a label, and where a label
names an equation that its page does not number.

    ```{ledger}
    ```

    ```{checked} eq. 3.4
    ```

The second one quotes the line of one check as this build printed it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from rope_book.chapters import executed, number
from rope_book.numbering import equations
from rope_lab.verify import STORED

LOG = logging.getLogger(__name__)
COLUMNS = (("Check", 34), ("Largest error", 18), ("Allowed", 18), ("Compared", 18), ("Number type", 18))


class Placeholder(nodes.General, nodes.Element):
    """Stands in the page until every chapter has been read."""


class Ledger(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [Placeholder()]


class Checked(SphinxDirective):
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        return [Placeholder(label=self.arguments[0])]


def chapters(env: BuildEnvironment) -> list[str]:
    return sorted(name for name in env.found_docs if number(name) is not None)


def checks(app: Sphinx, docname: str) -> Iterator[dict[str, Any]]:
    """What `rope_lab.verify` reported on one page, in the order of the page, each with its line and its cell's code."""
    for cell in executed(app, docname).cells:
        for output in cell.get("outputs", []):
            found = output.get("metadata", {}).get(STORED, [])
            lines = [line.strip() for line in output["data"]["text/plain"].splitlines()] if found else []
            for entry, line in zip(found, lines[len(lines) - len(found) :], strict=True):
                yield {**entry, "line": line, "code": cell.source}


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
    if entry["kind"] == "exact":
        return "0, by algebra", "0", "all values", "symbolic"
    count, noun = (entry["values"], "value") if entry["draws"] is None else (entry["draws"], "draw")
    compared = f"{count:,} {noun}{'s' * (count != 1)}"
    if entry["kind"] == "at most":
        return f"{entry['error']:.3g} of the bound", "1 of the bound", compared, entry["dtype"]
    error = f"{entry['error']:.1e}" if entry["error"] else "0"
    allowed = f"{entry['tolerance']:.0e}" if entry["tolerance"] else "0"
    return error, f"{allowed}, {entry['reason']}", compared, entry["dtype"]


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


def _line(app: Sphinx, label: str, here: str) -> nodes.literal_block:
    """The line of one check, as its page shows it."""
    for docname in chapters(app.env):
        for entry in checks(app, docname):
            if entry["label"] == label:
                return nodes.literal_block(entry["line"], entry["line"], language="text")
    LOG.warning("no chapter has a check with the label %r", label, location=here)
    return nodes.literal_block(label, label)


def _fill(app: Sphinx, doctree: nodes.document, here: str) -> None:
    for placeholder in list(doctree.findall(Placeholder)):
        if "label" in placeholder:
            placeholder.replace_self(_line(app, placeholder["label"], here))
            continue
        found = {name: len(list(checks(app, name))) for name in chapters(app.env)}
        total = sum(found.values())
        said = f"{total:,} check{'s' * (total != 1)} passed in {len(found)} chapter{'s' * (len(found) != 1)}."
        filled: list[nodes.Node] = [nodes.paragraph("", "", nodes.strong("", said))]
        for docname in found:
            link = nodes.reference(
                "",
                _title(app.env, docname),
                refuri=app.builder.get_relative_uri(here, docname),
                internal=True,
            )
            section = nodes.section("", nodes.title("", "", link), ids=[_anchor(docname)])
            section += _table(app, docname, here)
            filled.append(section)
        placeholder.replace_self(filled)


def _title(env: BuildEnvironment, docname: str) -> str:
    return str(env.titles[docname].astext())


def _anchor(docname: str) -> str:
    return f"chapter-{number(docname)}"


def _outline(app: Sphinx, env: BuildEnvironment) -> None:
    """The page's contents list the chapters, which are known when all of them have been read."""
    for here in _rewrite(app, env):
        item = next(iter(env.tocs[here].findall(nodes.list_item)), None)
        if item is None or not env.metadata[here]["ledger_sections"]:
            continue
        for old in [node for node in item.children if isinstance(node, nodes.bullet_list)]:
            item.remove(old)
        item += nodes.bullet_list("", *(_entry(env, here, docname) for docname in chapters(env)))


def _entry(env: BuildEnvironment, here: str, docname: str) -> nodes.list_item:
    target = {"refuri": here, "anchorname": f"#{_anchor(docname)}", "internal": True}
    link = nodes.reference("", _title(env, docname), **target)
    return nodes.list_item("", addnodes.compact_paragraph("", "", link))


def _mark(app: Sphinx, doctree: nodes.document) -> None:
    found = list(doctree.findall(Placeholder))
    app.env.metadata[app.env.docname]["ledger"] = bool(found)
    app.env.metadata[app.env.docname]["ledger_sections"] = any("label" not in one for one in found)


def setup(app: Sphinx) -> None:
    app.add_node(Placeholder)
    app.add_directive("ledger", Ledger)
    app.add_directive("checked", Checked)
    app.connect("doctree-read", _mark)
    app.connect("env-updated", _rewrite)
    app.connect("env-check-consistency", _audit)
    app.connect("env-check-consistency", _outline)
    app.connect("doctree-resolved", _fill)
