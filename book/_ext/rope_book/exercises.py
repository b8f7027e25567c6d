"""Exercises and solutions by sphinx-exercise, numbered as their checkers number them, and folded without a script.

sphinx-exercise gives each solution a title with a link, and folds it with JavaScript. Here a solution is a `details`
whose one line says "Solution 3.1". The number of an exercise is its place in the chapter. Every build checks that it is
also the number in the label, `ex-03-1`, by which the checker and the text name the exercise.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx_exercise.nodes import is_exercise_node, solution_node

from rope_book.chapters import number
from rope_book.numbering import number_of
from rope_lab.exercises.plain import titled

LOG = logging.getLogger(__name__)


class fold_title(nodes.title):
    """The one line of a folded solution."""


class Fold(SphinxTransform):
    """After sphinx-exercise has joined starts and ends (10)."""

    default_priority = 15

    def apply(self, **kwargs: Any) -> None:
        for node in self.document.findall(lambda x: is_exercise_node(x) or isinstance(x, solution_node)):
            if isinstance(node, solution_node):
                node["title"] = titled(node["label"]) or "Solution"
                node.children[0] = fold_title("", node["title"])
                node.children[0].parent = node
            for section in [child for child in node.children if isinstance(child, nodes.section)]:
                node.replace(section, section.children)  # all of a page have the same id


def _check_labels(app: Sphinx, env: BuildEnvironment) -> None:
    """A label that names another number than the page prints would make a checker name another exercise."""
    for label, found in getattr(env, "sphinx_exercise_registry", {}).items():
        if number(found["docname"]) is None:
            continue
        if found["type"].startswith("exercise"):
            if titled(label) != f"Exercise {(printed := number_of(env, label))}":
                LOG.warning("exercise %s has the label %s", printed, label, location=found["docname"])
        elif label != (right := found["node"]["target_label"].replace("ex-", "sol-", 1)):
            LOG.warning("a solution must have the label %s, got %s", right, label, location=found["docname"])


def _open(self: Any, node: nodes.Element) -> None:
    self.body.append(self.starttag(node, "details", CLASS="admonition"))


def _close(self: Any, node: nodes.Element) -> None:
    self.body.append("</details>\n")


def _open_title(self: Any, node: nodes.Element) -> None:
    self.body.append('<summary><span class="admonition-title">')


def _close_title(self: Any, node: nodes.Element) -> None:
    self.body.append("</span></summary>\n")


def _replace(app: Sphinx, config: Config) -> None:
    app.add_node(solution_node, override=True, html=(_open, _close))
    app.add_node(fold_title, html=(_open_title, _close_title))


def setup(app: Sphinx) -> None:
    app.setup_extension("sphinx_exercise")
    app.add_transform(Fold)
    app.connect("config-inited", _replace)
    app.connect("env-check-consistency", _check_labels, priority=410)  # when numbers are by chapter
