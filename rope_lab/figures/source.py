"""The package's own code next to the mathematics: what a chapter shows is what runs.

A page is narrower than the lines of the package. If ruff is installed, as it is where the book is built, code is laid
out again for the page; otherwise its lines are shown as they are written.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import Markdown

WIDTH = 88  # characters that fit the column


def source(*functions: Callable[..., Any]) -> Markdown:
    """The source of functions or methods as one block, without docstrings and without input checks."""
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
    return _laid_out("\n".join(line for number, line in enumerate(lines, start=1) if number not in hidden))


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_refusal(statement: ast.stmt) -> bool:
    """Whether this is an `if` that can only end in an error; it may compute what the message needs."""
    return (
        isinstance(statement, ast.If) and isinstance(statement.body[-1], ast.Raise) and not statement.orelse
    )


def _laid_out(code: str) -> str:
    """The code laid out for the width of a page; comments meant for a formatter are left out."""
    code = re.sub(r" *# fmt: skip\b", "", code)
    if find_spec("ruff") is None:
        return code
    for _ in range(2):  # a comment that has moved makes room for its line
        code = _formatted("\n".join(_comment_above(line) for line in code.splitlines()))
    return code


def _formatted(code: str) -> str:
    options = ["--isolated", f"--line-length={WIDTH}", "--config=format.skip-magic-trailing-comma=true", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", *options],
        input=code,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.rstrip()


def _comment_above(line: str) -> str:
    """Move a comment that makes its line too long above that line."""
    code, mark, comment = line.rpartition("  # ")
    if len(line) <= WIDTH or not mark or not code.strip():
        return line
    indent = " " * (len(code) - len(code.lstrip()))
    above = textwrap.wrap(comment, WIDTH - len(indent) - 2)
    return "\n".join([*(f"{indent}# {part}" for part in above), code.rstrip()])
