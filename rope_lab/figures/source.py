"""The package's own code beside the mathematics: what a chapter shows is what runs."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import Markdown


def source(*objects: Callable[..., Any]) -> Markdown:
    """The source of functions or methods, without their docstrings, as one block of code."""
    from IPython.display import Markdown

    return Markdown("```python\n" + "\n\n".join(map(_without_docstring, objects)) + "\n```")


def _without_docstring(function: Callable[..., Any]) -> str:
    text = textwrap.dedent(inspect.getsource(function)).rstrip()
    definition = ast.parse(text).body[0]
    assert isinstance(definition, ast.FunctionDef)
    if ast.get_docstring(definition) is None:
        return text
    docstring = definition.body[0]
    lines = text.splitlines()
    return "\n".join(lines[: docstring.lineno - 1] + lines[docstring.end_lineno :])
