"""The map of the chapters on the welcome page: its arrows are references, and it grows with the chapters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rope_book.chapter_map import drawing, looks_back, rows, thinned
from rope_lab.exercises.pages import Chapter, chapters, parts, read

ROOT = Path(__file__).parents[1]
WELCOME = (ROOT / "book" / "index.md").read_text("utf-8")
TEACHING = (ROOT / "book" / "teaching.md").read_text("utf-8")


def chapter(name: str, *lines: str) -> Chapter:
    return Chapter(
        name, tuple(parts(read("# %% [markdown]\n" + "\n".join(f"# {line}" for line in lines) + "\n")))
    )


def test_an_arrow_is_a_reference_to_an_earlier_chapter() -> None:
    first = chapter("01_a", "# 01 A", "$$ x = y $$ (same)", "(there)=", "See chapter 3.")
    found = {
        "chapters 1 and 2 show it": {(1, 3)},  # the second does not exist
        "by {eq}`same`": {(1, 3)},
        "by {ref}`that <there>`": {(1, 3)},
        "in {doc}`/notebooks/01_a`": {(1, 3)},
        "in {ref}`ex-01-2`": {(1, 3)},
        "chapter 4 and {eq}`other`": set(),
    }
    for text, arrows in found.items():
        assert looks_back([first, chapter("03_c", "# 03 C", text)]) == arrows
    exercise = ["````{exercise}", ":label: ex-03-1", "", "See chapter 1.", "````"]
    assert looks_back([first, chapter("03_c", "# 03 C", *exercise)]) == set()
    assert looks_back([first, chapter("03_c", "# 03 C", "", "## References", "chapter 1")]) == set()


def test_an_arrow_that_others_imply_is_left_out() -> None:
    chain = {(1, 2), (2, 3), (3, 4)}
    assert thinned(chain | {(1, 3), (1, 4), (2, 4)}) == chain
    assert thinned({(1, 3), (2, 3)}) == {(1, 3), (2, 3)}
    assert thinned(set()) == set()


def test_a_chapter_that_is_there_is_linked_and_a_planned_one_is_not() -> None:
    table = list(
        rows(["| Part I | All |", "|---|---|", "| 01 | {doc}`One </notebooks/01_a>` |", "| 03 | P & Q |"])
    )
    svg = drawing(table, {1: "a.html"}, set())
    assert re.findall(r'<a href="(.*?)" aria-label="(.*?)">', svg) == [("a.html", "Chapter 1, One.")]
    assert '<g class="chapter planned">' in svg
    both = drawing(table, {1: "a.html", 3: "c.html"}, {(1, 3)})
    assert "planned" not in both
    assert 'aria-label="Chapter 3, P &amp; Q. Refers back to chapter 1."' in both


def test_every_chapter_is_on_the_map_of_the_book() -> None:
    table = list(rows(WELCOME.split("```{chapter-map}\n")[1].split("\n```")[0].splitlines()))
    listed = [row.number for row in table if row.number]
    assert listed == list(range(1, 21))
    assert sum(not row.number for row in table) == 4
    links = {found.number: f"{found.name}.html" for found in chapters()}
    svg = drawing(table, links, thinned(looks_back(chapters())))
    assert re.findall(r'<a href="(.*?)"', svg) == list(links.values())
    assert svg.count("<title>") == len(links)
    assert svg.count('class="chapter planned"') == 20 - len(links)


def test_a_title_fits_its_box() -> None:
    """In the wide DejaVu Sans, one of 32 letters leaves 21 of the box's 264 units."""
    table = WELCOME.split("```{chapter-map}\n")[1].split("\n```")[0]
    assert max(len(row.title) for row in rows(table.splitlines())) <= 34


PATHS = dict(re.findall(r"^\*\*(An? [\w' ]+)\.\*\* (.*?)\n\n", WELCOME, re.M | re.S))


@pytest.mark.parametrize(
    "path", ["A newcomer's hour", "An engineer's afternoon", "A researcher", "A teacher"]
)
def test_the_minutes_of_a_reading_path_are_those_of_the_teaching_page(path: str) -> None:
    text = " ".join(PATHS[path].split())
    minutes = {
        int(name): int(said) for name, said in re.findall(r"`/notebooks/(\d\d)_\w+` \((\d+) min\)", TEACHING)
    }
    steps = [(int(name), int(said)) for name, said in re.findall(r"[Cc]hapter (\d+) \((\d+) min\)", text)]
    assert len(steps) >= 2
    assert [said for _, said in steps] == [minutes[name] for name, _ in steps]
    total = re.search(r"together (?:at most )?(\d+) minutes", text)
    assert total is not None
    assert int(total[1]) == sum(said for _, said in steps)


def test_the_path_of_a_teacher_is_the_plan_of_three_sessions() -> None:
    plan = TEACHING.split("## Three sessions")[1].split("## Eight sessions")[0]
    optional = {2}  # for students who do not know sinusoidal encodings
    planned = {int(name) for name in re.findall(r"`/notebooks/(\d\d)_", plan)} - optional
    assert {int(name) for name in re.findall(r"[Cc]hapter (\d+) \(", PATHS["A teacher"])} == planned
