"""What the book's Sphinx extension reads and writes of text: chapters that are named, descriptions, blocks of code."""

from __future__ import annotations

import types
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from docutils.core import publish_doctree
from sphinx.ext.viewcode import collect_pages

from rope_book.address import base_url
from rope_book.docstrings import _to_rst
from rope_book.pages import describe, nested, size, untitled
from rope_lab.exercises.plain import pieces

CHAPTERS = {3: "three", 5: "five", 10: "ten", 13: "thirteen", 15: "fifteen"}


def shown(text: str) -> str:
    return "".join(f"[{piece}]" if page else piece for piece, page in pieces(text, CHAPTERS))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("As chapter 5 says.", "As [chapter 5] says."),
        ("Chapter\n5 says", "[Chapter\n5] says"),
        ("Chapters 5 and 10 say", "[Chapters 5] and [10] say"),
        ("Chapters 13 to 15", "[Chapters 13] to [15]"),
        ("chapters 3, 5, and 20.", "[chapters 3], [5], and 20 (planned)."),
        ("Chapter 8 treats it.", "Chapter 8 (planned) treats it."),
        ("in float64 (chapter 8), then", "in float64 (chapter 8, planned), then"),
        (", as in chapter 8)", ", as in chapter 8, planned)"),
        ("(once) in chapter 8 (twice)", "(once) in chapter 8 (planned) (twice)"),
        ("chapter 20 is planned to measure that", "chapter 20 is planned to measure that"),
        ("chapter 20 (planned)", "chapter 20 (planned)"),
        ("In chapter 10, 5 draws", "In [chapter 10], 5 draws"),
        ("section 5 of the chapter", "section 5 of the chapter"),
    ],
)
def test_chapters_that_are_named_are_links_or_planned(written, read):
    assert shown(written) == read


def test_a_page_is_described_by_its_first_words_without_formulas():
    page = publish_doctree(
        "Title\n=====\n\nOf :math:`x`.\n\n" + "Many words " * 20 + "\n\nLast.\n",
        settings_overrides={"doctitle_xform": False},
    )
    assert describe(page).startswith("Many words Many")
    assert describe(page).endswith("words Many…")
    assert len(describe(page)) <= 160


def test_the_size_of_a_drawing_is_in_pixels(tmp_path: Path):
    (tmp_path / "a.svg").write_text('<?xml?><svg height="36pt" width="72pt" viewBox="0 0 72 36"></svg>')
    (tmp_path / "b.svg").write_text('<svg width="100%" viewBox="0 0 72 36"></svg>')
    assert size(tmp_path / "a.svg") == (96, 48)
    assert size(tmp_path / "b.svg") is None


@pytest.mark.parametrize(
    ("modules", "inside"),
    [
        (["a", "b"], []),
        (["a", "a.b", "a.c", "d"], [["a.b", "a.c"]]),
        (["a", "a.b", "a.b.c", "a.d", "e", "e.f"], [["a.b", "a.d"], ["a.b.c"], ["e.f"]]),
    ],
)
def test_a_list_of_modules_has_only_entries(modules: list[str], inside: list[list[str]]):
    builder = types.SimpleNamespace(
        name="html", format="html", highlighter=None, get_relative_uri=lambda here, there: there
    )
    env = types.SimpleNamespace(_viewcode_modules=dict.fromkeys(modules, False))
    builder.env = env
    app = types.SimpleNamespace(builder=builder, verbosity=0, config=types.SimpleNamespace())
    *_, (_, context, _) = collect_pages(app)
    page = ET.fromstring(f"<div>{nested(context['body'])}</div>")
    assert {child.tag for found in page.iter("ul") for child in found} == {"li"}
    assert [a.text for a in page.iter("a")] == modules
    assert [[li.find("a").text for li in found] for found in page.iterfind(".//li/ul")] == inside


@pytest.mark.parametrize(
    ("repository", "base"),
    [
        ("Owner/rope-book", "https://owner.github.io/rope-book/"),
        ("owner/owner.github.io", "https://owner.github.io/"),
        ("", ""),
    ],
)
def test_the_address_follows_from_the_repository(monkeypatch, repository, base):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert base_url(types.SimpleNamespace(rope_book_repository=repository)) == base


def test_blocks_of_a_docstring_are_code_or_text():
    lines = ["One.", "", "    f(x)    # a call", "", "    g(x)", "", "|x| is:", "", "    θ = b^(−2i/d)", ""]
    _to_rst(None, "module", "m", None, None, lines)
    assert "\n".join(lines) == (
        "One.\n\n.. code-block:: python\n\n    f(x)    # a call\n\n    g(x)\n\n"
        "\\|x\\| is:\n\n.. code-block:: text\n\n    θ = b^(−2i/d)\n"
    )


def test_a_link_within_the_book_has_no_tooltip_beside_its_card():
    link = '<a class="reference internal" href="a.html#b" title="b">b</a>'
    away = '<a class="reference external" href="https://example.org" title="c">c</a>'
    assert untitled(link + away) == '<a class="reference internal" href="a.html#b">b</a>' + away
