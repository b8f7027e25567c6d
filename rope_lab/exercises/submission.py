"""What a student hands in: a file of Python or a notebook, read without running any of it."""

from __future__ import annotations

import ast
import builtins
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LARGEST = 1_000_000  # bytes
SUFFIXES = (".py", ".ipynb")
LEFT_OUT = "keras"  # its import takes seconds and needs a backend, and no exercise asks for it


@dataclass(frozen=True)
class Submission:
    """Code to run and what is known about it before it is run.

    Attributes:
        name: of the file.
        code: Python.
        names: for each name that the code defines on its outermost level, the lines that do so.
        problem: a sentence if the code cannot be run at all.
    """

    name: str
    code: str
    names: dict[str, list[int]]
    problem: str = ""

    def lacks(self, function: str) -> str:
        """A sentence if this function cannot be taken from the code."""
        if self.problem:
            return self.problem
        lines = self.names.get(function, [])
        if not lines:
            return f"{self.name} does not define {function}."
        if len(lines) > 1:
            return f"{self.name} defines {function} more than once, in lines {', '.join(map(str, lines))}; keep one."
        return ""


def seed_of(text: str) -> int:
    """The seed that a text stands for, which is never that of the pages."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) + 1


def read(path: Path) -> Submission:
    """Read a file of Python, or the definitions of a notebook.

    Of a notebook only `definitions` are kept, so that a chapter can be handed in without running its experiments.

    Raises:
        ValueError: if the file is not a file of Python or a notebook in UTF-8 of at most a megabyte.
        OSError: if it cannot be read.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"an answer is a .py or .ipynb file, got {path.name!r}")
    if path.exists() and not path.is_file():
        raise ValueError(f"an answer is a .py or .ipynb file, got {path.name!r}, which is not a regular file")
    if path.stat().st_size > LARGEST:
        raise ValueError(
            f"an answer has at most {LARGEST:,} bytes, got {path.name!r} of {path.stat().st_size:,}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"an answer is a text in UTF-8, got {path.name!r}, which is not") from None
    code = _of_notebook(path.name, text) if path.suffix == ".ipynb" else text
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        return Submission(path.name, "", {}, f"{path.name} is not valid Python: {reason}{where}.")
    return Submission(path.name, code, _names(tree))


def _names(tree: ast.Module) -> dict[str, list[int]]:
    names: dict[str, list[int]] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.setdefault(node.name, []).append(node.lineno)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                names.setdefault((alias.asname or alias.name).split(".")[0], []).append(node.lineno)
        else:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                for part in ast.walk(target) if target is not None else ():
                    if isinstance(part, ast.Name):
                        names.setdefault(part.id, []).append(node.lineno)
    return names


def _of_notebook(name: str, text: str) -> str:
    try:
        cells = json.loads(text)["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{name} must be a notebook of Jupyter, format 4, and is not") from None
    body: list[ast.stmt] = []
    for source in sources:
        lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n")]
        try:
            tree = ast.parse("" if source.startswith("%%") else "\n".join(lines))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # a cell that is not Python defines nothing
        body += tree.body
    return "\n".join(map(ast.unparse, definitions(body))) + "\n"


def definitions(body: list[ast.stmt]) -> list[ast.stmt]:
    """Imports, functions, classes and assignments that call nothing, if they use only names that are kept too.

    Imports of Keras, and of this package's layers for it, are left out.
    """
    kept: list[ast.stmt] = []
    known = set(dir(builtins))
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            if LEFT_OUT in ".".join(_modules(node)).split("."):
                continue
            known |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = node.args
            parts: list[ast.AST | None] = [
                *node.decorator_list,
                *arguments.defaults,
                *arguments.kw_defaults,
                node.returns,
            ]
            every = [
                *arguments.posonlyargs,
                *arguments.args,
                *arguments.kwonlyargs,
                arguments.vararg,
                arguments.kwarg,
            ]
            parts += [argument.annotation for argument in every if argument is not None]
            if not _read(parts) <= known:
                continue
            known.add(node.name)
        elif isinstance(node, ast.ClassDef):
            if not _read([*node.decorator_list, *node.bases]) <= known:
                continue
            known.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            is_lambda = isinstance(node.value, ast.Lambda)
            calls = any(isinstance(part, ast.Call) for part in ast.walk(node.value))
            if not is_lambda and (calls or not _read([node.value]) <= known):
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if not all(isinstance(target, ast.Name) for target in targets):
                continue
            known |= {target.id for target in targets if isinstance(target, ast.Name)}
        else:
            continue
        kept.append(node)
    return kept


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]


def _read(parts: Sequence[ast.AST | None]) -> set[str]:
    """The names that these expressions use."""
    nodes = (node for part in parts if part is not None for node in ast.walk(part))
    return {node.id for node in nodes if isinstance(node, ast.Name)}
