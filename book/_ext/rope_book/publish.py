"""Each chapter's executed notebook beside its page, for the download and the Colab button.

A notebook must stand alone: captions, numbers and alt texts of its figures, its citations and its links are
text in it; what the page folds is folded; its first cell finds or installs the package.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx

from rope_book.address import repository
from rope_book.chapters import executed, number
from rope_book.citing import Citations
from rope_book.mentions import written
from rope_book.numbering import number_of
from rope_book.portable import Book, portable, solution_at_end

SETUP_CELL = """\
# Colab and other fresh kernels: install the package of this book, once. An installed torch is left as it is.
import importlib.metadata
import importlib.util
import pathlib
import subprocess
import sys
import tempfile

if importlib.util.find_spec("rope_lab") is None:
    kept = pathlib.Path(tempfile.mkdtemp()) / "kept.txt"
    kept.write_text("")
    if importlib.util.find_spec("torch") is not None:
        kept.write_text(f"torch=={{importlib.metadata.version('torch')}}\\n")
    package = "rope-lab[book] @ git+https://github.com/{repository}{commit}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(kept), package]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip could not install {{package}}:\\n{{done.stdout}}{{done.stderr}}")
    importlib.invalidate_caches()
"""
LOCAL_CELL = """\
# This notebook needs `rope_lab`, the package of the book that it comes from.
import importlib.util

if importlib.util.find_spec("rope_lab") is None:
    raise ModuleNotFoundError(
        "rope_lab is not installed in this kernel. In the folder of the book's source code, "
        "python -m pip install '.[book]' installs it, and make lab opens the chapters with it."
    )
"""


def _book(app: Sphinx, docname: str, citations: Citations) -> Book:
    """The book as the notebook of one chapter sees it."""
    site, env = app.config.html_baseurl, app.env

    def address(name: str, anchor: str = "") -> str:
        return f"{site}{app.builder.get_target_uri(name)}{anchor and f'#{anchor}'}" if site else ""

    def page(target: str) -> tuple[str, str]:
        if target in env.domaindata["std"]["labels"]:
            name, anchor, title = env.domaindata["std"]["labels"][target]
            return str(title), address(name, anchor)
        name = (
            target.removeprefix("/") if target.startswith("/") else f"{docname.rpartition('/')[0]}/{target}"
        )
        if name not in env.titles:
            return "", ""
        return env.titles[name].astext(), address(name)

    chapters = {n: address(name) if name != docname else "" for n, name in written(env).items()}
    return Book(lambda label: number_of(env, label), citations, page, chapters)


def _fold(cell: Any, *, solution: str = "") -> None:
    """What the page folds, JupyterLab and Colab fold too."""
    tags = set(cell.metadata.get("tags", ()))
    folded = {}
    if solution or tags & {"hide-input", "hide-cell"}:
        folded["source_hidden"] = True
        cell.metadata["cellView"] = "form"
        cell.source = f"# @title {solution or 'Code (double-click to see it)'}\n{cell.source}"
    if solution or tags & {"hide-output", "hide-cell"}:
        folded["outputs_hidden"] = True
    if folded:
        cell.metadata["jupyter"] = {**cell.metadata.get("jupyter", {}), **folded}


def _caption(cell: Any, book: Book) -> Any:
    """A cell with the number, the caption and the description of the figure above it; None where there are none."""
    said = cell.metadata.get("mystnb", {})
    figure, alt = said.get("figure", {}), said.get("image", {}).get("alt", "")
    parts = []
    if "caption" in figure:
        of = book.number(figure.get("name", ""))
        head = f"**Figure {of}.** " if of else ""
        parts.append(head + portable(figure["caption"], book))
    if alt:
        parts.append(f"<details><summary>The figure in words</summary>\n\n{alt}\n\n</details>")
    return nbformat.v4.new_markdown_cell("\n\n".join(parts), id=f"{cell.id}-figure") if parts else None


def _setup_cell(app: Sphinx) -> str:
    if not (owner_name := repository(app.config)):
        return LOCAL_CELL
    commit = os.environ.get("GITHUB_SHA", "")
    return SETUP_CELL.format(repository=owner_name, commit=commit and f"@{commit}")


def _notebook(app: Sphinx, docname: str) -> nbformat.NotebookNode:
    notebook = executed(app, docname)
    citations = Citations(dict(app.env.get_domain("cite").bibdata.data.entries))
    book = _book(app, docname, citations)
    cells = [nbformat.v4.new_code_cell(_setup_cell(app), id="setup")]
    solution = ""
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            solution = solution_at_end(cell.source, solution)
            cell.source = portable(cell.source, book).strip()
        else:
            _fold(cell, solution=solution)
            if (caption := _caption(cell, book)) is not None:
                cells.append(caption)
    if listed := citations.references():
        cells.append(nbformat.v4.new_markdown_cell(f"## Works cited\n\n{listed}", id="works-cited"))
    notebook.cells = [cell for cell in cells if cell.source]  # the end of an exercise may leave nothing
    notebook.metadata.pop("jupytext", None)  # it pairs the notebook with a file that a download does not have
    return notebook


def _write(app: Sphinx, docname: str) -> None:
    target = Path(app.outdir) / f"{docname}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(_notebook(app, docname), target)


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
    if owner_name := repository(app.config):
        url = f"https://colab.research.google.com/github/{owner_name}/blob/gh-pages/{pagename}.ipynb"
        tooltip = "Open this chapter in Colab"
        context["header_buttons"].insert(0, _button("colab-button", "Colab", url, "fas fa-rocket", tooltip))


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _publish, priority=900)  # after the theme has laid out its buttons
