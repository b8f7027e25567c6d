"""Each chapter's executed notebook beside its page, for the download and the Colab button."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx

from rope_book.chapters import executed, number
from rope_book.numbering import number_of
from rope_book.portable import portable

SETUP_CELL = """\
# Colab and other fresh kernels: install the package of this book once. An installed torch is left as it is.
import importlib.util

if importlib.util.find_spec("rope_lab") is None:
    %pip install --quiet "rope-lab[book,offline] @ git+https://github.com/{repository}"
"""


def _repository(app: Sphinx) -> str:
    """owner/name on GitHub, from the workflow or the configuration; "" where the book has no address yet."""
    return os.environ.get("GITHUB_REPOSITORY") or app.config.rope_book_repository


def _write(app: Sphinx, docname: str) -> None:
    notebook = executed(app, docname)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = portable(cell.source, lambda label: number_of(app.env, label))
    if _repository(app):
        source = SETUP_CELL.format(repository=_repository(app))
        notebook.cells.insert(0, nbformat.v4.new_code_cell(source, id="setup"))
    target = Path(app.outdir) / f"{docname}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)


def _button(label: str, text: str, url: str, icon: str, tooltip: str) -> dict[str, str]:
    return {"type": "link", "label": label, "text": text, "url": url, "icon": icon, "tooltip": tooltip}


def _publish(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if number(pagename) is None or doctree is None:
        return
    _write(app, pagename)
    name = f"{pagename.rsplit('/', 1)[-1]}.ipynb"
    tooltip = "Download the executed notebook"
    download = _button("download-notebook-button", ".ipynb", name, "fas fa-code", tooltip)
    for group in context["header_buttons"]:
        if group.get("label") == "download-buttons":
            group["buttons"].insert(0, download)
    if repository := _repository(app):
        url = f"https://colab.research.google.com/github/{repository}/blob/gh-pages/{pagename}.ipynb"
        tooltip = "Open this chapter in Colab"
        context["header_buttons"].insert(0, _button("colab-button", "Colab", url, "fas fa-rocket", tooltip))


def setup(app: Sphinx) -> None:
    app.add_config_value("rope_book_repository", "", "html", str)
    app.connect("html-page-context", _publish, priority=900)  # after the theme has laid out its buttons
