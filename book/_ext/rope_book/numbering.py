"""Numbers by chapter: the fourth labelled equation of chapter 3 is (3.4), its second figure is Figure 3.2.

Sphinx numbers the whole book in one row where the table of contents carries no numbers of its own. Its
numbers are replaced after the environment is stored: the stored ones still tell Sphinx what changed.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from rope_book.chapters import number

Numbers = dict[str, tuple[int, ...]]  # node id → number


def equations(env: BuildEnvironment, docname: str) -> dict[str, str]:
    """The equations of a page by number: {"3.4": node id}."""
    found: Numbers = env.toc_fignumbers.get(docname, {}).get("displaymath", {})
    return {".".join(map(str, value)): node_id for node_id, value in found.items()}


def number_of(env: BuildEnvironment, label: str) -> str:
    """3.4 for the label of an equation, a figure or a table; "" where the label has no number."""
    docname, node_id = (
        env.domaindata["math"]["objects"].get(label, ("", 0))[0],
        nodes.make_id(f"equation-{label}"),
    )
    if not docname:
        docname, node_id = env.domaindata["std"]["anonlabels"].get(label, ("", ""))
    for found in env.toc_fignumbers.get(docname, {}).values():
        if node_id in found:
            return ".".join(map(str, found[node_id]))
    return ""


def _renumber(app: Sphinx, env: BuildEnvironment) -> None:
    for docname, kinds in env.toc_fignumbers.items():
        chapter = number(docname)
        for kind, found in kinds.items():
            in_order = sorted(found, key=lambda node_id: found[node_id])
            kinds[kind] = {
                node_id: (position,) if chapter is None else (chapter, position)
                for position, node_id in enumerate(in_order, start=1)
            }


def setup(app: Sphinx) -> None:
    app.connect("env-check-consistency", _renumber, priority=400)  # the ledger looks equations up by number
