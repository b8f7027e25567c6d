"""Turns of phrase that the book does not use, in its pages, its docstrings and the help of its command line."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rope_lab.arguments import parser

ROOT = Path(__file__).parents[1]
# What each pattern stands for in plain English is beside it.
UNUSED = {
    r"\bis no (?:multiple|monotone|batch|positive|product|query|part of)\b": "is not a",
    r"\b(?:number|dot|line|panel|row|column|block|curve|GPU) an? (?:head|layer|seed|pair|query|GPU|method)\b": "per",
    r"\b(?:one|two) an? (?:head|layer|seed|pair|coordinate|GPU)\b": "one per head",
    r"\bnats a (?:character|token)\b": "nats per character",
    r"\b(?:radians?|turns?) a token\b": "radians per token",
    r"\b(?:tokens|characters) a second\b": "tokens per second",
    r"\brefused by name\b": "raises an error that names the argument",
    r"\b(?:code|tensor|tokens) at hand\b": "the current code",
    r"\b(?:again )?to the (?:same )?bits?\b": "bit for bit, bit-identical",
    r"\banew\b": "again",
    r"\bstays\.(?:\s|$)": "stays the same",
    r"\bprocessor (?:time|seconds)\b|(?<![Ww]all-)\bclock time\b": "CPU time, wall-clock time",
    r"\bbeside (?:the|its) (?:neighbours|peers)\b": "compared with other libraries",
    r"\b(?:formed|computed) for nothing\b": "but not used",
    r"\bcomes? round\b": "completes a turn",
    r"\bin turns\b": "alternating",
    r"\bthe first there is\b": "the first that is available",
    r"\bhanded? (?:back|up)\b": "returned, passed on",
    r"\bholds? against\b": "compare with",
    r"\btells at once\b": "catches it immediately",
    r"\b([A-Z]\w+)(?: et al\.| and \w+)? \{cite(?::p)?\}`(?i:\1)\d": "{cite:t}, which prints the names itself",
}


def prose_of_chapter(path: Path) -> str:
    """The text of a chapter: its Markdown cells, captions and descriptions, without the code."""
    text = path.read_text("utf-8")
    cells = re.split(r"^# %%", text, flags=re.M)
    said = [re.sub(r"^# ?", "", cell, flags=re.M) for cell in cells if cell.startswith(" [markdown]")]
    said += re.findall(r'"(?:alt|caption)": "((?:[^"\\]|\\.)*)"', text)
    return "\n".join(said)


def docstrings(path: Path) -> str:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return "\n".join(ast.get_docstring(node) or "" for node in nodes if isinstance(node, documented))


def helps(command: argparse.ArgumentParser) -> Iterator[str]:
    yield command.description or ""
    for action in command._actions:
        yield action.help or ""
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield f"{name}: {' '.join(str(choice.help) for choice in action._choices_actions)}"
                yield from helps(sub)


def read(path: Path | str) -> str:
    if path == "help":
        return "\n".join(helps(parser()))
    assert isinstance(path, Path)
    if path.suffix == ".md":
        return re.sub(
            r"^```(?:python|console|text|powershell).*?^```", "", path.read_text("utf-8"), flags=re.M | re.S
        )
    return prose_of_chapter(path) if path.parent.name == "notebooks" else docstrings(path)


TEXTS: list[Path | str] = [
    "help",
    ROOT / "README.md",
    *sorted((ROOT / "book").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("[0-9]*.py")),
    *sorted((ROOT / "rope_lab").rglob("*.py")),
]


def faults(text: str) -> list[str]:
    """Each phrase that is not used, in its context, with what to write."""
    text = " ".join(text.split())
    return [
        f"…{text[max(0, found.start() - 40) : found.end() + 30]}… → {better}"
        for pattern, better in UNUSED.items()
        for found in re.finditer(pattern, text)
    ]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path).removeprefix(f"{ROOT}/"))
def test_the_book_is_in_plain_english(path: Path | str) -> None:
    assert faults(read(path)) == []


@pytest.mark.parametrize(
    "fault",
    [
        "One number a head and distance.",
        "The score is no multiple of the distance.",
        "Loss in nats a character.",
        "It is turned by one radian a token.",
        "The code at hand gives it again.",
        "Today's code gave it again to the bit.",
        "Each query is read anew.",
        "Shuffle them, and its output stays.",
        "processor seconds",
        "Press et al.\n{cite:p}`press2022` call this",
        "Student {cite}`student1908` found",
    ],
)
def test_what_is_not_used_is_found(fault: str) -> None:
    assert faults(fault)


def test_the_help_and_the_prose_of_a_chapter_are_read() -> None:
    assert "number of seeds per variant" in read("help")
    chapter = read(ROOT / "notebooks" / "13_tiny_shakespeare.py")
    assert "Tiny Shakespeare is" in chapter
    assert "import torch" not in chapter
