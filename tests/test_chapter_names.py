"""A name in a chapter means one thing, so that its cells can be run again in any order that keeps their needs."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

CHAPTERS = Path(__file__).parents[1] / "notebooks"
HELD = [
    "01_why_position",
    "02_sinusoidal",
    "03_deriving_rope",
    "04_many_dimensions",
    "05_layouts",
    "07_attention",
    "08_precision",
    "09_images",
    "11_longer_contexts",
    "16_long_documents",
    "17_keras",
    "18_bugs",
    "19_real_models",
    "20_speed",
]  # chapters that keep the rule; add yours
SCRATCH = {"rows", "columns", "name", "_"}  # of the table just below, and what a loop calls its case


def bound_by(statement: ast.stmt) -> set[str]:
    """Names that a statement of a cell binds in the notebook: not those inside functions, classes or comprehensions."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    names: set[str] = set()
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        inner = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
        waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, inner)]
    return names


def loop_names(statement: ast.stmt) -> set[str]:
    loops = [node for node in ast.walk(statement) if isinstance(node, ast.For)]
    return {name.id for loop in loops for name in ast.walk(loop.target) if isinstance(name, ast.Name)}


def bound_twice(source: str) -> dict[str, list[int]]:
    """Names that more than one cell binds, with the cells; a loop's own variables may come back in another loop."""
    text = source.split("# ## Exercises")[0]  # there a stub and its solution share a name
    cells = re.split(r"^# %%.*\n", text, flags=re.M)
    where: dict[str, set[int]] = defaultdict(set)
    loops: dict[str, set[int]] = defaultdict(set)
    for number, cell in enumerate(cells):
        for statement in ast.parse(cell).body:
            for name in bound_by(statement) - SCRATCH:
                (loops if name in loop_names(statement) else where)[name].add(number)
    clash = {name: cells | loops.get(name, set()) for name, cells in where.items()}
    return {name: sorted(numbers) for name, numbers in clash.items() if len(numbers) > 1}


def test_a_second_meaning_is_found() -> None:
    cells = "# %%\nq, k = 1, 2\n\n# %%\nfor i in (1, 2):\n    x = i\n\n# %%\nfor i in (3,):\n    {}\n"
    assert bound_twice(cells.format("pass")) == {}
    assert bound_twice(cells.format("q = i")) == {"q": [1, 3]}
    assert bound_twice(cells.format("pass") + "\n# %%\ni = 3\n") == {"i": [2, 3, 4]}
    assert bound_twice(cells.format("k = lambda x: [q for q in x]")) == {"k": [1, 3]}


@pytest.mark.parametrize("chapter", HELD)
def test_a_name_means_one_thing(chapter: str) -> None:
    assert bound_twice((CHAPTERS / f"{chapter}.py").read_text("utf-8")) == {}
