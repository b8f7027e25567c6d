"""Docstrings are written to be read in an editor; the API page reads them as reStructuredText."""

from __future__ import annotations

import ast
import re
from itertools import groupby
from textwrap import dedent
from typing import Any

from sphinx.application import Sphinx


def _language(block: list[str]) -> str:
    """A formula or a table of words is not Python, and is not coloured like it."""
    try:
        ast.parse(dedent("\n".join(block)))
    except SyntaxError:
        return "text"
    return "python"


def _to_rst(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """An indented block in a module's text is code; |x| is a modulus, *dims are arguments, neither is markup."""
    text: list[str] = []
    paragraphs = [list(group) for _, group in groupby(lines, key=bool)]
    for index, paragraph in enumerate(paragraphs):
        code = what == "module" and paragraph[0].startswith(" ")
        goes_on = index > 1 and paragraphs[index - 2][0].startswith(" ")  # a blank line inside a block
        if code and not goes_on:
            text += [f".. code-block:: {_language(paragraph)}", ""]
        text += [
            line if code else re.sub(r"\||(?<!\w)\*+(?=\w)", lambda sign: "\\" + "\\".join(sign[0]), line)
            for line in paragraph
        ]
    lines[:] = text
    _SAID[name] = text


# As it was before napoleon, which takes "Words: more words" below a value for its type and its text.
_SAID: dict[str, list[str]] = {}


def _undo(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what in {"attribute", "data", "property"}:
        lines[:] = _SAID.pop(name)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _to_rst, priority=400)  # before napoleon adds markup of its own
    app.connect("autodoc-process-docstring", _undo, priority=600)  # and after it
