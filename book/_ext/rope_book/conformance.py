"""The conformance table: asked of the installed libraries while the page is read, never typed.

    ```{conformance}
    ```

A page is read again whenever the package or its pins have changed, because the execution cache is named after them.
"""

from __future__ import annotations

from itertools import groupby

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from rope_lab.conformance import QUESTIONS, Conformance, Question, Subject, table
from rope_lab.conformance.questions import RELATIVE

ANGLE = ("m·θ_i", r"$m\theta_i$")


class ConformanceTable(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        found = table()
        place = nodes.container()
        self.state.nested_parse(
            StringList(text(found).splitlines(), "conformance"), self.content_offset, place
        )
        shown = f'<div class="rope-conformance">{found._repr_html_()}</div>'
        return [nodes.raw("", shown, format="html"), *place.children]


def text(found: Conformance) -> str:
    """What is below the table, in Markdown: the columns with their reasons, and what each property means."""
    parts = [
        "✓ met; ✗ not met, with the number that failed: unless its property says otherwise, it is the "
        f"{RELATIVE}; – cannot be asked."
    ]
    parts += ["", *(line for subject in found.subjects for line in of_library(found, subject))]
    if found.missing:
        parts += ["", f"Not asked when this page was built: {', '.join(found.missing)}."]
    for group, questions in groupby(QUESTIONS, key=lambda one: one.group):
        parts += ["", f"**{group}**", "", *(line for one in questions for line in of_property(one))]
    return "\n".join(parts)


def of_library(found: Conformance, subject: Subject) -> list[str]:
    """How it was called, and what its marks do not say."""
    head = f"- **{subject.head}**: {subject.name} {subject.version}, called as {subject.how}."
    return [head, *(f"  - {note}" for note in found.notes(subject))]


def of_property(question: Question) -> list[str]:
    says = question.says.replace(*ANGLE)
    number = f" Number: {question.number}." if question.number not in ("", RELATIVE) else ""
    return [question.name, f": {says}{number}", ""]


def setup(app: Sphinx) -> None:
    app.add_directive("conformance", ConformanceTable)
