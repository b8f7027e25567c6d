"""Exercises as assignments of otter-grader and nbgrader: public tests on the pages' inputs, hidden ones on others.

Each chapter becomes one notebook that runs in seconds: the definitions of the chapter that its exercises use, and the
exercises. In both tools a test runs in the same process as the student's code, which `rope-lab grade` avoids.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rope_lab.exercises import pages
from rope_lab.exercises.notebooks import chosen, installed_from, new, save, setup_cell, text_of
from rope_lab.exercises.pages import Chapter
from rope_lab.exercises.plain import Book, portable
from rope_lab.exercises.submission import definitions, seed_of

CHECKED = re.compile(r"^check_\w+\((?P<function>\w+)\)$", re.MULTILINE)
COURSE = """\
# The course of rope_lab's exercises. Each answer cell keeps its stub, so what replaces a solution is one comment.
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "rope_lab"
c.ClearSolutions.code_stub = {"python": "# Write your answer above, in the place of the stub."}
"""


@dataclass(frozen=True)
class Question:
    """One exercise. Without code it is an open question, which is marked by hand.

    Attributes:
        label: such as "ex-03-1".
        text: the exercise in plain Markdown.
        stub: what the student starts from.
        answer: the solution, code or text.
        function: the name of the function to write; "" for an open question.
    """

    label: str
    text: str
    stub: str
    answer: str
    function: str

    def test(self, seed: int | None = None) -> list[str]:
        """Lines that fail with the words of the checker; for the inputs of the pages, or for those of a seed."""
        drawn = "" if seed is None else f", seed={seed}"
        return [
            f"from rope_lab.exercises.ch{self.label[3:5]} import check_{self.function}",
            f"verdict = check_{self.function}({self.function}{drawn})",
            "assert verdict, verdict",
        ]


def questions(chapter: Chapter, book: Book, labels: Sequence[str]) -> list[Question]:
    """The exercises of a chapter with these labels, less those that need the whole chapter and have no solution."""

    def first(kind: str, of: str) -> str:
        return next((cell.source for cell in chapter.cells if (cell.kind, cell.of) == (kind, of)), "")

    found = []
    for label in labels:
        solution, stub = label.replace("ex-", "sol-"), first("code", label)
        texts = [cell.source for cell in chapter.cells if (cell.kind, cell.of) == ("markdown", label)]
        text = portable("\n\n".join(texts), book).strip()
        checked = CHECKED.search(stub)
        answer = first("code", solution) if checked else portable(first("markdown", solution), book)
        if answer:
            found.append(Question(label, text, stub, answer.strip(), checked["function"] if checked else ""))
    return found


def helpers(chapter: Chapter, code: str) -> str:
    """The definitions of a chapter that this code uses, and those that they use, as the chapter has them."""
    first = next(index for index, cell in enumerate(chapter.cells) if cell.of)
    before = "\n".join(cell.source for cell in chapter.cells[:first] if cell.kind == "code")
    lines, wanted, kept = before.split("\n"), _names(ast.parse(code)), []
    for node in reversed(definitions(ast.parse(before).body)):
        if _bound(node) & wanted:
            wanted |= _names(node)
            begin = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            gap = "\n\n" if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else ""
            kept.append(gap + "\n".join(lines[begin - 1 : node.end_lineno]) + gap)
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(reversed(kept))).strip()


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    return {
        part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }


def _otter(question: Question, seed: int) -> Iterator[dict[str, Any]]:
    """A question of `otter assign`: all tests must pass for its point."""
    name, manual = question.label.replace("-", "_"), not question.function
    how = "manual: true" if manual else "all_or_nothing: true"
    yield new("raw", f"# BEGIN QUESTION\nname: {name}\npoints: 1\n{how}")
    yield new("markdown", question.text)
    yield new("raw", "# BEGIN SOLUTION")
    if manual:
        yield new("markdown", question.answer)
    else:
        hidden = f"# BEGIN SOLUTION NO PROMPT\n{question.answer}\n# END SOLUTION"
        yield new("code", f"{question.stub}\n\n\n{hidden}")
    yield new("raw", "# END SOLUTION")
    if not manual:
        yield new("raw", "# BEGIN TESTS")
        for kind, lines in (("public", question.test()), ("hidden", question.test(seed))):
            config = (
                f'""" # BEGIN TEST CONFIG\nhidden: {str(kind == "hidden").lower()}\n""" # END TEST CONFIG\n'
            )
            body = "".join(f"\n    {line}" for line in lines)
            yield new("code", f"{config}def test_{kind}({question.function}):{body}")
        yield new("raw", "# END TESTS")
    yield new("raw", "# END QUESTION")


def _nbgrader(question: Question, seed: int) -> Iterator[dict[str, Any]]:
    """The cells of nbgrader: the exercise, the answer, and a locked cell of tests worth a point."""

    def marked(kind: str, source: str, name: str, **flags: Any) -> dict[str, Any]:
        plain = {"grade": False, "solution": False, "locked": False, "task": False}
        return new(kind, source, {"nbgrader": {**plain, "grade_id": name, "schema_version": 3, **flags}})

    yield new("markdown", question.text)
    answer = f"### BEGIN SOLUTION\n{question.answer}\n### END SOLUTION"
    if not question.function:
        yield marked("markdown", answer, question.label, solution=True, grade=True, points=1)
        return
    yield marked("code", f"{question.stub}\n\n\n{answer}", question.label, solution=True)
    hidden = ["### BEGIN HIDDEN TESTS", *question.test(seed)[1:], "### END HIDDEN TESTS"]
    tests = "\n".join([*question.test(), *hidden])
    yield marked("code", tests, f"test-{question.label}", grade=True, locked=True, points=1)


def write(
    out: str, tool: str, *, seed: str, exercises: str | None = None, package: str | None = None
) -> list[Path]:
    """Write the assignments of a tool, "otter" or "nbgrader", into a new or empty folder: one for each chapter."""
    found = pages.chapters()
    labels, book, number = chosen(exercises, found), pages.book(found), seed_of(seed)
    package = package or installed_from()
    texts = {"nbgrader_config.py": COURSE} if tool == "nbgrader" else {}
    if tool == "otter" and package:
        texts["requirements.txt"] = package + "\n"
    for chapter in found:
        asked = questions(chapter, book, [label for label in chapter.labels() if label in labels])
        if not asked:
            continue
        cells = [new("code", setup_cell(package))]
        cells.append(new("markdown", f"# {chapter.title}: exercises"))
        if code := helpers(chapter, "\n".join(q.stub + "\n" + q.answer for q in asked if q.function)):
            cells.append(new("code", f"# From the chapter, for use in the exercises.\n{code}"))
        if tool == "otter":
            needs = "requirements: ../requirements.txt\n" if package else ""
            config = f"name: {chapter.name}\n{needs}tests:\n  ok_format: false\nexport_cell:\n  pdf: false\n"
            cells.insert(0, new("raw", f"# ASSIGNMENT CONFIG\n{config}generate:\n  pdf: false"))
        for question in asked:
            cells += (_otter if tool == "otter" else _nbgrader)(question, number)
        made = [{**cell, "id": f"cell-{index}"} for index, cell in enumerate(cells)]
        folder = f"source/{chapter.name}" if tool == "nbgrader" else chapter.name
        texts[f"{folder}/{chapter.name}.ipynb"] = text_of(made)
    return save(out, texts)
