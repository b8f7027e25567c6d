"""Chapters as notebooks that stand alone: plain Markdown, numbers and captions as text, and a first cell that installs.

The published notebooks of the book are made here, and those of `rope-lab exercises`: for students without solutions and
with cells for answers, for teachers with both.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rope_lab.exercises import pages
from rope_lab.exercises.pages import Cell, Chapter
from rope_lab.exercises.plain import Book, portable, titled

SETUP_CELL = """\
# Colab and other fresh kernels: install the package of this book, once. An installed torch is left as it is.
import importlib.metadata
import importlib.util
import pathlib
import subprocess
import sys
import tempfile

if importlib.util.find_spec("rope_lab") is None:
    held = importlib.util.find_spec("torch") and f"torch=={{importlib.metadata.version('torch')}}"
    kept = pathlib.Path(tempfile.mkdtemp()) / "kept.txt"
    kept.write_text(f"{{held or ''}}\\n")
    package = {package!r}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(kept), package]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        beside = f" and keep {{held}}" if held else ""
        raise RuntimeError(f"pip could not install {{package}}{{beside}}:\\n{{done.stdout}}{{done.stderr}}")
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
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
FOLDED = " The solutions are folded below."  # said of the page; in a student's notebook there are none


def extras(text: str) -> str:
    """The extras of this package that a chapter with this code needs."""
    return "book,keras" if "rope_lab.interop.keras" in text else "book"


def setup_cell(package: str | None = None, needs: str = "book") -> str:
    """The first cell: it installs what pip is told here, or says what is missing.

    Args:
        package: what pip should install; by default the repository that this package was installed from, if any.
        needs: the extras to install with that repository.
    """
    package = package or installed_from(needs)
    return SETUP_CELL.format(package=package) if package else LOCAL_CELL


def installed_from(needs: str = "book") -> str:
    """What pip installs the same package with these extras from, if it came from a repository; "" otherwise."""
    try:
        said = importlib.metadata.distribution("rope-lab").read_text("direct_url.json")
        found = json.loads(said or "{}")
        return f"rope-lab[{needs}] @ git+{found['url']}@{found['vcs_info']['commit_id']}"
    except (importlib.metadata.PackageNotFoundError, ValueError, KeyError):
        return ""


def standalone(cells: Sequence[dict[str, Any]], book: Book, setup: str) -> list[dict[str, Any]]:
    """The cells of a notebook, the text plain, with captions below figures and a first cell that installs.

    Args:
        cells: as nbformat has them. The metadata `of` of a cell is the label of the exercise that it is part of.
        book: where numbers and titles come from.
        setup: the first cell.
    """
    made = [{**new("code", setup), "id": "setup"}]
    for cell in cells:
        cell = {**cell, "metadata": {**cell["metadata"]}}
        of = cell["metadata"].pop("of", "")
        made.append(cell)
        if cell["cell_type"] == "markdown":
            cell["source"] = portable(cell["source"], book).strip()
        else:
            _fold(cell, titled(of) if of.startswith("sol-") else "")
            if text := _caption(cell, book):
                made.append({**new("markdown", text), "id": f"{cell['id']}-figure"})
    return [cell for cell in made if cell["source"]]  # the end of an exercise leaves nothing


def new(kind: str, source: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """A cell without an id."""
    cell: dict[str, Any] = {"cell_type": kind, "metadata": metadata or {}, "source": source}
    return {**cell, "outputs": [], "execution_count": None} if kind == "code" else cell


def _fold(cell: dict[str, Any], solution: str) -> None:
    """What the page folds, JupyterLab and Colab fold too."""
    tags = set(cell["metadata"].get("tags", ()))
    folded = {}
    if solution or tags & {"hide-input", "hide-cell"}:
        folded["source_hidden"] = True
        cell["metadata"]["cellView"] = "form"
        cell["source"] = f"# @title {solution or 'Code (double-click to see it)'}\n{cell['source']}"
    if solution or tags & {"hide-output", "hide-cell"}:
        folded["outputs_hidden"] = True
    if folded:
        cell["metadata"]["jupyter"] = {**cell["metadata"].get("jupyter", {}), **folded}


def _caption(cell: dict[str, Any], book: Book) -> str:
    """The number, the caption and the description of the figure that a cell draws."""
    said = cell["metadata"].get("mystnb", {})
    figure, alt = said.get("figure", {}), said.get("image", {}).get("alt", "")
    found = []
    if "caption" in figure:
        of = book.number(figure.get("name", ""))
        head = f"**Figure {of}.** " if of else ""
        found.append(head + portable(figure["caption"], book))
    if alt:
        found.append(f"<details><summary>The figure in words</summary>\n\n{alt}\n\n</details>")
    return "\n\n".join(found)


def chosen(text: str | None, found: Sequence[Chapter]) -> set[str]:
    """The labels of a list such as "03,05.2": whole chapters and single exercises; all for None.

    Raises:
        ValueError: if a part of the list is neither.
    """
    known = {
        label: titled(label).removeprefix("Exercise ") for chapter in found for label in chapter.labels()
    }
    if text is None:
        return set(known)
    labels: set[str] = set()
    for part in text.split(","):
        number = part.strip().removeprefix("0")
        these = {label for label, name in known.items() if number in (name, name.partition(".")[0])}
        if not these:
            numbers = ", ".join(f"{chapter.number:02d}" for chapter in found if chapter.labels())
            raise ValueError(
                f"an exercise is named as in 05 or 05.2, of chapters {numbers}; got {part.strip()!r}"
            )
        labels |= these
    return labels


def notebook(
    chapter: Chapter, book: Book, labels: Collection[str], *, solutions: bool, package: str | None = None
) -> str:
    """A chapter with these exercises as the text of a notebook, with solutions or with cells for answers."""
    cells: list[Cell] = []
    for cell in chapter.cells:
        if cell.of and (
            cell.of.replace("sol-", "ex-") not in labels or (cell.of.startswith("sol-") and not solutions)
        ):
            continue
        cells.append(replace(cell, source=cell.source if solutions else cell.source.replace(FOLDED, "")))
    if not solutions:
        cells = _with_answers(cells)
    plain = [
        {**new(cell.kind, cell.source, {**cell.metadata, "of": cell.of}), "id": f"cell-{index}"}
        for index, cell in enumerate(cells)
    ]
    needs = extras("\n".join(cell.source for cell in cells))
    return text_of(standalone(plain, book, setup_cell(package, needs)))


def _with_answers(cells: list[Cell]) -> list[Cell]:
    """An exercise without code gets a cell for its answer."""
    coded = {cell.of for cell in cells if cell.kind == "code"}
    last = {cell.of: index for index, cell in enumerate(cells) if cell.of}
    made = []
    for index, cell in enumerate(cells):
        made.append(cell)
        if cell.of and cell.of not in coded and last[cell.of] == index:
            made.append(Cell("markdown", f"*Your answer to {titled(cell.of).lower()}:*", of=cell.of))
    return made


def text_of(cells: Sequence[dict[str, Any]]) -> str:
    """The text of a notebook, format 4.5."""
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    whole = {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def write(
    out: str, *, solutions: bool, exercises: str | None = None, package: str | None = None
) -> list[Path]:
    """Write the notebook of each chapter that has one of the exercises into a new or empty folder."""
    found = pages.chapters()
    labels, book = chosen(exercises, found), pages.book(found)
    texts = {
        f"{chapter.name}.ipynb": notebook(chapter, book, labels, solutions=solutions, package=package)
        for chapter in found
        if labels & set(chapter.labels())
    }
    return save(out, texts)


def save(out: str, texts: dict[str, str]) -> list[Path]:
    """Write files into a new or empty folder.

    Raises:
        ValueError: if it is something else.
        OSError: if it cannot be written to.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"the folder for the notebooks must be new or empty, got {out!r}")
    written = []
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
