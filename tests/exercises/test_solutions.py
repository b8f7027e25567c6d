"""The solutions on the pages pass their checkers, also for inputs that the page does not draw."""

import ast
from pathlib import Path
from typing import Any

import pytest

from rope_lab.exercises import chapters, exercises
from rope_lab.exercises.submission import definitions

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.parametrize("chapter", chapters())
def test_the_solutions_of_a_chapter_pass(chapter: int) -> None:
    (page,) = NOTEBOOKS.glob(f"{chapter:02d}_*.py")
    tree = ast.parse(page.read_text("utf-8"))
    kept = ast.Module(definitions(tree.body), [])
    names: dict[str, Any] = {"__name__": "page"}
    exec(
        compile(kept, page.name, "exec"), names
    )  # the solution is below the stub, so it is the one that counts
    for task in exercises(chapter):
        assert f"check_{task.name}" in names
        for seed in (0, 11, 12, 13):
            assert task(names[task.name], seed=seed)
