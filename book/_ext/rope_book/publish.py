"""Each chapter's executed notebook beside its page, for the download and the buttons that open it in Colab or Binder.

A notebook must stand alone: captions, numbers and alt texts of its figures, its citations and its links are
text in it; what the page folds is folded; its first cell finds or installs the package.
"""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from sphinx.application import Sphinx

from rope_book.address import repository
from rope_book.chapters import executed, number
from rope_book.citing import Citations
from rope_book.mentions import written
from rope_book.numbering import number_of
from rope_lab.exercises.notebooks import LOCAL_CELL, extras, new, setup_cell, standalone
from rope_lab.exercises.pages import open_after
from rope_lab.exercises.plain import Book

# What Binder installs: the CPU build of the torch that ran the book, so that the image stays small, and the package.
BINDER = """\
--extra-index-url https://download.pytorch.org/whl/cpu
torch=={torch}+cpu
{package}
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


def _package(owner_name: str, needs: str) -> str:
    """What pip installs: the package with these extras, at the commit that the book was built from."""
    commit = os.environ.get("GITHUB_SHA", "")
    return f"rope-lab[{needs}] @ git+https://github.com/{owner_name}{commit and f'@{commit}'}"


def _setup_cell(app: Sphinx, needs: str) -> str:
    owner_name = repository(app.config)
    return setup_cell(_package(owner_name, needs)) if owner_name else LOCAL_CELL


def _notebook(app: Sphinx, docname: str) -> nbformat.NotebookNode:
    notebook = executed(app, docname)
    citations = Citations(dict(app.env.get_domain("cite").bibdata.data.entries))
    of = ""
    for cell in notebook.cells:
        of = open_after(cell.source, of) if cell.cell_type == "markdown" else of
        cell.metadata["of"] = of
    needs = extras("\n".join(cell.source for cell in notebook.cells))
    cells = standalone(notebook.cells, _book(app, docname, citations), _setup_cell(app, needs))
    if listed := citations.references():
        cells.append({**new("markdown", f"## Works cited\n\n{listed}"), "id": "works-cited"})
    notebook.cells = [nbformat.from_dict(cell) for cell in cells]
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
        context["header_buttons"].insert(0, _live(owner_name, f"{pagename}.ipynb"))


def _live(owner_name: str, notebook: str) -> dict[str, Any]:
    """A button whose menu opens the published notebook on a machine of Colab's or of Binder's."""
    colab = f"https://colab.research.google.com/github/{owner_name}/blob/gh-pages/{notebook}"
    binder = (
        f"https://mybinder.org/v2/gh/{owner_name}/gh-pages?urlpath={quote(f'lab/tree/{notebook}', safe='')}"
    )
    icon, tooltip = "fas fa-rocket", "Open this chapter in"
    buttons = [
        _button("colab-button", "Colab", colab, icon, f"{tooltip} Colab"),
        _button("binder-button", "Binder", binder, icon, f"{tooltip} Binder"),
    ]
    said = {"icon": icon, "tooltip": "Run this chapter", "label": "launch-buttons"}
    return {"type": "group", "buttons": buttons, **said}


def _write_environment(app: Sphinx, exception: Exception | None) -> None:
    """The folder in which Binder, which reads the branch of the published book, finds what to install."""
    owner_name = repository(app.config)
    if exception is not None or app.builder.name != "html" or not owner_name:
        return
    folder = Path(app.outdir) / "binder"
    folder.mkdir(exist_ok=True)
    torch = metadata.version("torch").partition("+")[0]
    needs = BINDER.format(torch=torch, package=_package(owner_name, "book,keras"))
    (folder / "requirements.txt").write_text(needs, encoding="utf-8")
    (folder / "runtime.txt").write_text("python-3.11\n", encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _publish, priority=900)  # after the theme has laid out its buttons
    app.connect("build-finished", _write_environment)
