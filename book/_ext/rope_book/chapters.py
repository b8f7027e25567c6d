"""Chapters: py:percent files, run once per state of the package."""

from __future__ import annotations

import copy
import functools
import hashlib
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path

import jupytext
import nbformat
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
    """The notebook of a chapter with its outputs, cached or just run (MyST-NB itself leaves the cached ones out)."""
    text = Path(app.env.doc2path(docname)).read_text(encoding="utf-8")
    return copy.deepcopy(_executed(app.config.nb_execution_cache_path, text))


@functools.lru_cache(maxsize=64)
def _executed(cache: str, text: str) -> nbformat.NotebookNode:
    return get_cache(cache).merge_match_into_notebook(read(text))[1]


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


def _hash_code_alone() -> None:
    """A caption is prose: of a cell's metadata only the tags decide whether a chapter runs again."""
    hashed = JupyterCacheBase.create_hashed_notebook
    JupyterCacheBase.create_hashed_notebook = functools.partialmethod(hashed, cell_metadata=("tags",))


def setup(app: Sphinx) -> None:
    _hash_code_alone()
    app.connect("config-inited", _key_the_cache)
