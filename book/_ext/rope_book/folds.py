"""A fold of code says what is in it, such as "Code of Figure 3.1", to the eye and to a screen reader."""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.transforms.post_transforms import SphinxPostTransform


class NameFolds(SphinxPostTransform):
    """Before MyST-NB folds the cells (199). A prompt that a chapter wrote itself is kept."""

    default_priority = 190
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for cell in self.document.findall(nodes.container):
            if cell.get("hide_mode") and "code cell" in cell.get("prompt_show", ""):
                cell["prompt_show"] = cell["prompt_hide"] = self._name(cell)

    def _name(self, cell: nodes.container) -> str:
        if cell["hide_mode"] == "output":
            return "Output"
        numbers = self.env.toc_fignumbers.get(self.env.docname, {}).get("figure", {})
        for figure in cell.findall(nodes.figure):
            for name in figure["ids"]:
                if name in numbers:
                    return f"Code of Figure {'.'.join(map(str, numbers[name]))}"
        return "Code of the figure" if any(cell.findall(nodes.image)) else "Code"


def _open(self: Any, node: HideCodeCellNode) -> None:
    """As MyST-NB opens it, less its aria-label, which gave every fold of a page the same name."""
    self.body.append(f'<details class="admonition hide {" ".join(node["classes"])}">\n')
    self.body.append(
        f'<summary><span class="admonition-title">{escape(node["prompt_show"])}</span></summary>\n'
    )


def _close(self: Any, node: HideCodeCellNode) -> None:
    self.body.append("</details>\n")


def _replace(app: Sphinx, config: Config) -> None:
    app.add_node(HideCodeCellNode, override=True, html=(_open, _close))


def setup(app: Sphinx) -> None:
    app.add_post_transform(NameFolds)
    app.connect("config-inited", _replace)  # when MyST-NB has added its own
