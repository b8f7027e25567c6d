"""Chapters: py:percent files, run once per state of the package."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path

import jupytext
import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.cache.main import JupyterCacheBase
from sphinx.application import Sphinx
from sphinx.config import Config

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def read(text: str) -> nbformat.NotebookNode:
    """The notebook in a py:percent file, with the book's kernel and cell ids that stay the same."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata.setdefault("kernelspec", nbformat.from_dict(KERNEL))
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"
    return notebook


def number(docname: str) -> int | None:
    """3 for notebooks/03_deriving_rope; None for a page that is no chapter."""
    match = re.fullmatch(r"notebooks/(\d+)_\w+", docname)
    return int(match[1]) if match else None


def executed(app: Sphinx, docname: str) -> nbformat.NotebookNode:
    """The notebook of a chapter with its outputs, cached or just run."""
    return nbformat.read(_stored(app, docname), as_version=4)


def _stored(app: Sphinx, docname: str) -> Path:
    return Path(app.outdir).parent / "jupyter_execute" / f"{docname}.ipynb"


def _remember(app: Sphinx, docname: str, source: list[str]) -> None:
    app.env.temp_data["rope_book_source"] = source[0]


def _store(app: Sphinx, doctree: nodes.document) -> None:
    """MyST-NB stores a notebook whose outputs came from the cache without them: store it anew, from the cache."""
    if number(app.env.docname) is not None:
        notebook = read(app.env.temp_data["rope_book_source"])
        _, merged = get_cache(app.config.nb_execution_cache_path).merge_match_into_notebook(notebook)
        nbformat.write(merged, _stored(app, app.env.docname))


def package_key(root: Path) -> str:
    """A hash of what a chapter's outputs depend on besides itself: package, pins, interpreter."""
    budget = os.environ.get("ROPE_LAB_PRESET", "")  # a page trained at the smoke budget is another page
    digest = hashlib.sha256(f"{platform.python_version()} {metadata.version('torch')} {budget}".encode())
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


def _hash_code_alone() -> None:
    """A caption is prose: of a cell's metadata only the tags decide whether a chapter runs again."""
    hashed = JupyterCacheBase.create_hashed_notebook
    JupyterCacheBase.create_hashed_notebook = functools.partialmethod(hashed, cell_metadata=("tags",))


def setup(app: Sphinx) -> None:
    _hash_code_alone()
    app.connect("config-inited", _key_the_cache)
    app.connect("source-read", _remember)
    app.connect("doctree-read", _store)
