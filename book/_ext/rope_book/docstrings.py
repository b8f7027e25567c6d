"""Docstrings are written to be read in an editor; the API page reads them as reStructuredText."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx


def _to_rst(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """An indented block in a module's text is code; |x| is a modulus, *dims are arguments, neither is markup."""
    text: list[str] = []
    for line in lines:
        opens = what == "module" and line.startswith(" ") and text and not text[-1]
        if opens and not any(earlier.startswith(" ") for earlier in text[-2:]):
            text += ["::", ""]
        code = what == "module" and line.startswith(" ")
        text.append(
            line if code else re.sub(r"\||(?<!\w)\*+(?=\w)", lambda sign: "\\" + "\\".join(sign[0]), line)
        )
    lines[:] = text


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _to_rst, priority=400)  # before napoleon adds markup of its own
