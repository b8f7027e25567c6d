"""Chapters: py:percent files, run once per state of the package, published as notebooks on their pages."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from sphinx.application import Sphinx
from sphinx.config import Config

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
SETUP_CELL = """\
# Colab and other fresh kernels: install the package of this book once. An installed torch is left as it is.
import importlib.util

if importlib.util.find_spec("rope_lab") is None:
    %pip install --quiet "rope-lab[book,offline] @ {source}"
"""


def read(text: str) -> nbformat.NotebookNode:
    """The notebook in a py:percent file, with the book's kernel and cell ids that stay the same."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata.setdefault("kernelspec", dict(KERNEL))
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"
    return notebook


def number(docname: str) -> int | None:
    """3 for notebooks/03_deriving_rope; None for a page that is no chapter."""
    match = re.fullmatch(r"notebooks/(\d+)_\w+", docname)
    return int(match[1]) if match else None


def executed(app: Sphinx, docname: str) -> Path:
    """Where MyST-NB leaves the notebook of a page with its outputs, cached or just run."""
    return Path(app.outdir).parent / "jupyter_execute" / f"{docname}.ipynb"


def package_key(root: Path) -> str:
    """A hash of what a chapter's outputs depend on besides itself: package, pins, interpreter."""
    digest = hashlib.sha256(f"{platform.python_version()} {metadata.version('torch')}".encode())
    for path in [root / "requirements.txt", *sorted((root / "rope_lab").rglob("*.py"))]:
        digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _key_the_cache(app: Sphinx, config: Config) -> None:
    """A changed package means a new cache folder; as that is an `env` setting, every chapter is read anew."""
    caches = Path(app.outdir).parent / ".jupyter_cache"
    current = caches / package_key(Path(app.srcdir))
    for stale in caches.glob("*"):
        if stale != current:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    config.nb_execution_cache_path = str(current)


def _publish(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the executed notebook beside its page, and point the download and the Colab button at it."""
    if number(pagename) is None or doctree is None:
        return
    repository = os.environ.get("GITHUB_REPOSITORY") or app.config.rope_book_repository
    notebook = nbformat.read(executed(app, pagename), as_version=4)
    if repository:
        source = SETUP_CELL.format(source=f"git+https://github.com/{repository}")
        notebook.cells.insert(0, nbformat.v4.new_code_cell(source, id="setup"))
    target = Path(app.outdir) / f"{pagename}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)

    download = {
        "type": "link",
        "url": f"{pagename.rsplit('/', 1)[-1]}.ipynb",
        "text": ".ipynb",
        "icon": "fas fa-code",
        "tooltip": "Download the executed notebook",
        "label": "download-notebook-button",
    }
    for button in context["header_buttons"]:
        if button.get("label") == "download-buttons":
            button["buttons"].insert(0, download)
    if repository:
        colab = f"https://colab.research.google.com/github/{repository}/blob/gh-pages/{pagename}.ipynb"
        context["header_buttons"].insert(
            0,
            {
                "type": "link",
                "url": colab,
                "text": "",
                "icon": "fas fa-rocket",
                "tooltip": "Open this chapter in Colab",
                "label": "colab-button",
            },
        )


def setup(app: Sphinx) -> None:
    app.add_config_value("rope_book_repository", "", "html", str)
    app.connect("config-inited", _key_the_cache)
    app.connect("html-page-context", _publish, priority=900)  # after the theme has laid out its buttons
