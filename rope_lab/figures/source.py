"""The package's own code beside the mathematics: what a chapter shows is what runs."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import Markdown


def source(*functions: Callable[..., Any]) -> Markdown:
    """The source of functions or methods as one block, without docstrings and without refusals of bad input."""
    from IPython.display import Markdown

    return Markdown("```python\n" + "\n\n".join(map(_body, functions)) + "\n```")


def _body(function: Callable[..., Any]) -> str:
    lines = textwrap.dedent(inspect.getsource(function)).rstrip().splitlines()
    definition = ast.parse("\n".join(lines)).body[0]
    assert isinstance(definition, ast.FunctionDef)
    hidden: set[int] = set()
    for statement in definition.body:
        if _is_docstring(statement) or _is_refusal(statement):
            hidden.update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    return "\n".join(line for number, line in enumerate(lines, start=1) if number not in hidden)


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_refusal(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and all(isinstance(inner, ast.Raise) for inner in statement.body)
