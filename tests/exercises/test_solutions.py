"""The solutions on the pages pass their checkers, also for inputs that the page does not draw; each is in its place."""

import ast
import re
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


@pytest.mark.parametrize("chapter", chapters())
def test_a_chapter_asks_in_order_and_answers_each(chapter: int) -> None:
    """Exercises are 1, 2, 3, …; each with a checker has its solution after it, and its checker in both."""
    (page,) = NOTEBOOKS.glob(f"{chapter:02d}_*.py")
    text = page.read_text("utf-8")
    asked = re.findall(r"^# :label: ex-(\S+)$", text, re.M)
    assert asked == [f"{chapter:02d}-{place}" for place in range(1, len(asked) + 1)]
    for task in exercises(chapter):
        label = f"{chapter:02d}-{task.number.split('.')[1]}"
        start = text.index(f":label: ex-{label}\n")
        answer = text.index("{solution-start} ex-" + label + "\n# :label: sol-" + label + "\n")
        assert start < text.index("{exercise-end}", start) < answer < text.index("{solution-end}", answer)
        for begin, end in ((start, answer), (answer, text.index("{solution-end}", answer))):
            assert f"\ncheck_{task.name}({task.name})\n" in text[begin:end]
