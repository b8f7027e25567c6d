"""The site as its other forms see it: pages that can stand still, and links that need no network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import SITE
from playwright.sync_api import Browser

from rope_forms import stick
from rope_forms.taking import Piece, contents, take

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pieces(browser: Browser) -> list[Piece]:
    entries = contents(ROOT)
    shown = ("notebooks/03_deriving_rope", "notebooks/13_tiny_shakespeare", "book/index")
    return take(browser, SITE, [entry for entry in entries if entry.name in shown])


def test_all_that_the_site_links_is_in_the_site(tmp_path):
    made = stick.pack(ROOT, SITE, tmp_path / "stick.zip")
    assert stick.check(made) == []


def test_a_page_taken_from_the_site_stands_still(pieces):
    for piece in pieces:
        text = piece.body + piece.solutions
        assert not re.search(r"<(script|input|select|textarea|button)\b", text), piece.title
        assert not re.search(r'href="file:|class="headerlink', text), piece.title
        assert len(set(names := re.findall(r'\bid="([^"]+)"', text))) == len(names), piece.title
        assert all(name.startswith(f"{piece.entry.slug}--") for name in names), piece.title


def test_a_still_keeps_formulas_figures_and_solutions(pieces):
    chapter = pieces[1]
    assert chapter.title == "03 · Deriving RoPE from complex numbers"
    assert chapter.body.count("<math") > 100
    assert (
        "Angle from k to q: 129°" in chapter.body
    )  # what the moving figure says as it stands, 69° + 3 · 20°
    assert "Code of Figure 3.1" not in chapter.body
    assert chapter.solutions.count("<details") == 7
    assert "Solution 3.1" not in chapter.body
    assert {
        "place": "03-deriving-rope--what-is-asked",
        "words": "What is asked",
        "shown": "What is asked",
    } in [*chapter.sections]
    assert "#03-deriving-rope" in pieces[0].body  # links between pages are links within the book
