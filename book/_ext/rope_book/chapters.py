"""Chapters: py:percent files, run once per state of the package, as many at a time as there are processors."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import jupytext
import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.cache.main import JupyterCacheBase
from jupyter_cache.executors.utils import single_nb_execution
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

AT_A_TIME = 4  # a chapter may need more than a gigabyte
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
    code = [path for kind in ("*.py", "*.js") for path in sorted((root / "rope_lab").rglob(kind))]
    for path in [root / "requirements.txt", *code]:
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


def execute(paths: Sequence[Path], folder: str, *, timeout: int, at_a_time: int) -> dict[Path, str]:
    """Run those chapters that are not in the cache, and put them there.

    Args:
        paths: of their sources.
        folder: of the cache.
        timeout: of a cell, in seconds.
        at_a_time: how many run side by side.

    Returns:
        For each that ran, "" or why it is not in the cache now.
    """
    cache, one_writes = get_cache(folder), threading.Lock()

    def run(path: Path) -> str:
        notebook = read(path.read_text("utf-8"))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            result = single_nb_execution(
                notebook, cwd=place, allow_errors=False, timeout=timeout, meta_override=True
            )
        if result.err is not None:
            return str(result.exc_string)
        bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": result.time})
        with one_writes:
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        return ""

    known = {record.hashkey for record in cache.list_cache_records()}
    missing = [path for path in paths if _hashed(cache, path) not in known]
    with ThreadPoolExecutor(at_a_time) as pool:
        return dict(zip(missing, pool.map(run, missing), strict=True))


def _hashed(cache: JupyterCacheBase, path: Path) -> str:
    return str(cache.create_hashed_notebook(read(path.read_text("utf-8")))[1])


def _execute_all(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Before MyST-NB runs what is missing, one by one. A chapter that fails it runs again, and reports."""
    chapters = [
        Path(env.doc2path(name)) for name in sorted(docnames, reverse=True) if number(name) is not None
    ]
    at_a_time = min(len(chapters), os.cpu_count() or 1, AT_A_TIME)
    if app.config.nb_execution_mode == "cache" and at_a_time > 1:
        said = execute(
            chapters,
            app.config.nb_execution_cache_path,
            timeout=app.config.nb_execution_timeout,
            at_a_time=at_a_time,
        )
        failed = [path.stem for path, why in said.items() if why]
        logger = logging.getLogger(__name__)
        logger.info(
            f"{len(said)} chapters run, {at_a_time} at a time" + (f"; failed: {failed}" if failed else "")
        )


def _hash_code_alone() -> None:
    """A caption is prose: of a cell's metadata only the tags decide whether a chapter runs again."""
    hashed = JupyterCacheBase.create_hashed_notebook
    JupyterCacheBase.create_hashed_notebook = functools.partialmethod(hashed, cell_metadata=("tags",))


def setup(app: Sphinx) -> None:
    _hash_code_alone()
    app.connect("config-inited", _key_the_cache)
    app.connect("env-before-read-docs", _execute_all)
    app.connect("source-read", _remember)
    app.connect("doctree-read", _store)
