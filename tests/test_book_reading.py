"""How the book's extension reads a chapter: the key of its cache, and the plain Markdown of a download."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jupyter_cache import get_cache
from pybtex.database import Entry, Person
from test_book import CHAPTER

from rope_book.chapters import execute, package_key, read
from rope_book.citing import Citations
from rope_lab.exercises.plain import Book, portable

ROOT = Path(__file__).resolve().parents[1]


def test_the_cache_is_keyed_on_the_package_and_the_budget(tmp_path, monkeypatch):
    monkeypatch.delenv("ROPE_LAB_PRESET", raising=False)
    (tmp_path / "rope_lab").mkdir()
    (tmp_path / "requirements.txt").write_text("torch==2.13.0\n")
    module = tmp_path / "rope_lab" / "rotary.py"
    module.write_text("base = 10_000\n")
    before = package_key(tmp_path)
    assert package_key(tmp_path) == before
    module.write_text("base = 500_000\n")
    changed = package_key(tmp_path)
    module.rename(module.with_name("turn.py"))
    renamed = package_key(tmp_path)
    monkeypatch.setenv("ROPE_LAB_PRESET", "smoke")
    assert len({before, changed, renamed, package_key(tmp_path)}) == 4


def test_reading_a_chapter_twice_gives_the_same_notebook():
    assert read(CHAPTER) == read(CHAPTER)
    assert read(CHAPTER).metadata.kernelspec.name == "python3"


WAITS = """# %%
import pathlib, time
place = pathlib.Path({place!r})
(place / {mine!r}).touch()
while not (place / {other!r}).exists():
    time.sleep(0.05)
print("met")
"""


def test_chapters_run_side_by_side_and_only_once(tmp_path: Path):
    """Two of them wait for each other, the third fails: it is not kept, and says why."""
    paths = [tmp_path / f"{name}.py" for name in ("01_a", "02_b", "03_c")]
    for path, other in zip(paths, ("02_b", "01_a"), strict=False):
        path.write_text(WAITS.format(place=str(tmp_path), mine=path.stem, other=other))
    paths[2].write_text("# %%\n1 / 0\n")
    folder = str(tmp_path / "cache")
    said = execute(paths, folder, timeout=120, at_a_time=2)
    assert [said[path] == "" for path in paths] == [True, True, False]
    assert "ZeroDivisionError" in said[paths[2]]
    _, merged = get_cache(folder).merge_match_into_notebook(read(paths[0].read_text()))
    assert merged.cells[0].outputs[0].text == "met\n"
    assert execute(paths[:2], folder, timeout=1, at_a_time=2) == {}


WORKS = {
    "su2021": Entry(
        "misc", {"year": "2021", "url": "u"}, {"author": [Person("Su, J"), Person("Lu, Y"), Person("Pan, S")]}
    ),
    "de2019": Entry("misc", {"year": "2019"}, {"author": [Person("de Jong, M"), Person("Lee, J")]}),
    "one": Entry("misc", {"year": "1908", "eprint": "1"}, {"author": [Person("Student")]}),
}


def here() -> Book:
    """A book of two chapters, the first of which has an address."""
    return Book(
        number=lambda label: {"a": "3.1", "f": "3.2"}[label],
        cite=Citations(WORKS),
        page=lambda target: ("The list", "at/list") if target == "/book/list" else ("", ""),
        chapters={1: "at/1", 2: ""},
    )


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("See {eq}`a`.", "See (3.1)."),
        ("$$\nx\n$$ (a)", "$$\nx\n\\tag{3.1} $$"),
        ("$$ x $$", "$$ x $$"),
        ("{numref}`f` shows", "Figure 3.2 shows"),
        ("{cite:p}`su2021,de2019`", "([Su et al. 2021](u); de Jong and Lee 2019)"),
        ("{cite:t}`one`", "[Student (1908)](https://arxiv.org/abs/1)"),
        ("{cite:t}`su2021, nobody`", "[Su et al. (2021)](u) and nobody"),
        ("the {doc}`references </book/references>`", "the references"),
        ("the {doc}`/book/other_page`", "the other page"),
        ("the {doc}`/book/list`", "the [The list](at/list)"),
        ("the {doc}`works </book/list>`", "the [works](at/list)"),
        ("a {term}`hand` and {term}`hands <hand>`", "a hand and hands"),
        ("Chapter 1, chapter 2, `chapter 1`", "[Chapter 1](at/1), chapter 2, `chapter 1`"),
        ("Chapters 1 and 3.", "[Chapters 1](at/1) and 3 (planned)."),
        ("# From chapter 1\nsee\nchapter 1", "# From chapter 1\nsee\n[chapter 1](at/1)"),
        ("[chapter 1](x) and $$ chapter 1 $$", "[chapter 1](x) and $$ chapter 1 $$"),
        ("{func}`~rope_lab.rotate`", "`rope_lab.rotate`"),
        ("(here)=\n# Title", "# Title"),
        ("```{tip}\nA.\n\nB.\n```", "> **Tip**\n>\n> A.\n>\n> B."),
        ("```{admonition} Mind\n:class: note\nA.\n```", "> **Mind**\n>\n> A."),
        (
            "````{dropdown} Solution\n```python\nx\n```\n````",
            "<details><summary>Solution</summary>\n\n```python\nx\n```\n\n</details>",
        ),
        ("```python\nx\n```", "```python\nx\n```"),
    ],
)
def test_published_markdown_is_plain(written, plain):
    assert portable(written, here()) == plain


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_no_markup_of_sphinx_is_left_in_a_download(path):
    book = Book(lambda label: "1.1", lambda role, keys: "", lambda target: ("", ""), {})
    for cell in read(path.read_text(encoding="utf-8")).cells:
        caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
        left = portable(cell.source if cell.cell_type == "markdown" else caption, book)
        assert not re.search(
            r"\{[a-z:]+\}`|^ *:{3,}|`{3}\{|^\([\w.-]+\)=|\]\((?!http)", left, re.MULTILINE
        ), left
