"""What is below a page and beside its headings, and the picture of a link to it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from rope_book import cards, colophon

ROOT = Path(__file__).parents[1]
HOME = "https://github.com/owner/name"
BODY = (
    '<section id="a"><h1>One &amp; <em>two</em><a class="headerlink" href="#a" title="Link">#</a></h1>'
    '<p>Text<a class="headerlink" href="#equation-x" title="Link">#</a></p>'
    '<h3>θ &lt; 1<a class="headerlink" href="#b" title="Link">#</a></h3><h2>No link</h2></section>'
)


def test_each_heading_asks_whether_it_is_wrong_and_names_its_place() -> None:
    body = colophon.questioned(BODY, HOME, "notebooks/03_x", "abc")
    found = re.findall(
        r'#</a><a class="headerlink rope-wrong" href="([^"]*)">Is this wrong\?</a></h(\d)>', body
    )
    assert [level for _, level in found] == ["1", "3"]
    for (address, _), title, label in zip(found, ("One & two", "θ < 1"), ("a", "b"), strict=True):
        parts = urlsplit(address.replace("&amp;", "&"))
        asked = parse_qs(parts.query)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{HOME}/issues/new"
        assert asked["title"] == [f"notebooks/03_x#{label}: {title}"]
        assert f"Page: notebooks/03_x\nSection: {label}\nBuild: abc\n" in asked["body"][0]
    assert re.sub(r'<a class="headerlink rope-wrong".*?</a>', "", body) == BODY


def test_a_page_is_cited_as_a_part_of_the_book() -> None:
    entry = colophon.bibtex(
        "03 · Deriving", "notebooks/03_x", "We", "Book", "https://a/b.html", "0123456789abcdef", 2026
    )
    assert entry.startswith(
        "@misc{rope_lab_03_x,\n  author = {{We}},\n  title = {Deriving, in: Book},\n  year = {2026},"
    )
    assert "url = {https://a/b.html}" in entry
    assert "note = {Commit 0123456789ab}" in entry
    alone = colophon.bibtex("Book", "book/index", "We", "Book", "", "", 2026)
    assert "title = {Book}" in alone
    assert "url" not in alone
    assert "note" not in alone


def test_the_day_of_a_build_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert f"{colophon.today():%Y-%m-%d}" == "1970-01-02"


def titles() -> list[tuple[str, str]]:
    found = []
    for path in [*(ROOT / "notebooks").glob("[0-9]*.py"), *(ROOT / "book").glob("*.md")]:
        title = re.search(r"^(?:# )?# (.+)$", path.read_text("utf-8"), re.M)
        found.append((path.relative_to(ROOT).with_suffix("").as_posix(), title[1] if title else ""))
    return found


def test_the_picture_of_a_page_is_small_and_its_title_fits(tmp_path: Path) -> None:
    longest = sorted(titles(), key=lambda pair: len(pair[1]))[-3:]
    for name, title in [*longest, ("book/index", "Rotary position embeddings")]:
        image = cards.of_page(name, title, "Rotary position embeddings")
        cards.write(image, tmp_path / "card.png")
        assert image.size == (1200, 630)
        assert 5_000 < (tmp_path / "card.png").stat().st_size < 40_000
        # a column of pixels between the title and the clock, and the one at the left edge, show the ground alone
        for x in (30, 785):
            assert len({image.getpixel((x, y)) for y in range(0, 630, 3)}) == 1, title
        assert len({image.getpixel((x, 500)) for x in range(70, 760, 2)}) == 1, title  # below the last line


def test_a_card_turns_with_its_chapter() -> None:
    one, other = (
        cards.of_page(f"notebooks/{number:02d}_x", "Same", "Book").crop((800, 0, 1200, 630))
        for number in (2, 5)
    )
    assert one.tobytes() != other.tobytes()
