"""Listings of the package: what a chapter shows is what runs, and it fits the page."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from rope_lab.figures import source as module
from rope_lab.figures.source import WIDTH, source

CHAPTERS = sorted((Path(__file__).parents[2] / "notebooks").glob("[0-9]*.py"))


def shown(chapter: Path) -> list[str]:
    """The listings of a chapter: its calls of `source`, with the package's names that it imports."""
    tree = ast.parse(re.sub(r"(?m)^%.*$", "", chapter.read_text("utf-8")))
    scope: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("rope_lab"):
            exec(ast.unparse(node), scope)
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "source"]
    return [eval(ast.unparse(call), scope).data for call in calls]


def refused_when_odd(
    count: int, *, named: str = "a rather long default value", other: str = "another one of these"
) -> int:
    """A docstring."""
    if count % 2:
        half = count // 2
        raise ValueError(f"count must be even, got {count}, which is not twice {half}")
    if count < 0:
        count = -count
    values = {"a": count, "b": count + 1,
              "c": len(named) + len(other)}  # fmt: skip
    return sum(values.values()) + len(other) + len(f"{count:>20,d}")  # one sum, and a reason for it


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_listings_fit_the_page(chapter):
    pytest.importorskip("ruff")
    for listing in shown(chapter):
        assert max(map(len, listing.splitlines())) <= WIDTH
        assert "fmt:" not in listing
        ast.parse(re.sub(r"^```.*$", "", listing, flags=re.M))


def test_what_is_shown_is_what_runs():
    pytest.importorskip("ruff")
    listing = source(refused_when_odd).data.removeprefix("```python\n").removesuffix("\n```")
    assert max(map(len, listing.splitlines())) <= WIDTH
    assert "ValueError" not in listing
    assert "docstring" not in listing
    assert "    # one sum, and a reason for it\n    return" in listing
    scope: dict[str, object] = {}
    exec(listing, scope)
    for count in (-4, 0, 10_000):
        assert scope["refused_when_odd"](count) == refused_when_odd(count)  # type: ignore[operator]


def test_without_a_formatter_lines_are_as_written(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "ruff" else found(name))
    listing = source(refused_when_odd).data
    assert '              "c": len(named) + len(other)}\n' in listing
    assert "fmt: skip" not in listing
