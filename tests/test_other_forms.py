"""The PDF, the EPUB and the zip of the book: what they hold, and that their own checks find faults. No browser here."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pikepdf
import pytest

from rope_forms import epub, pdf, stick
from rope_forms.__main__ import main
from rope_forms.taking import Entry, Piece, contents, with_solutions

ROOT = Path(__file__).resolve().parents[1]


def piece(name: str, part: str, *places: str, solutions: str = "") -> Piece:
    slug = Entry(name, part).slug
    sections = [{"place": f"{slug}--{p}", "words": p, "shown": p} for p in places]
    return Piece(Entry(name, part), f"Title of {slug}", f"<h1>{slug}</h1>", solutions, sections)


PIECES = with_solutions(
    [
        piece("book/index", ""),
        piece("notebooks/01_a", "I", "one", "two", solutions="<details>s1</details>"),
        piece("notebooks/02_b", "II", "three", solutions="<details>s2</details>"),
        piece("book/ledger", "Back"),
    ]
)


def test_the_book_has_all_pages_of_the_contents_in_their_order():
    names = [entry.name for entry in contents(ROOT)]
    assert names[0] == "book/index"
    assert len(set(names)) == len(names)
    chapters = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py"))
    assert [name.removeprefix("notebooks/") for name in names if name.startswith("notebooks/")] == chapters


def test_solutions_follow_the_last_chapter():
    assert [p.entry.slug for p in PIECES] == ["index", "01-a", "02-b", "solutions", "ledger"]
    body = PIECES[3].body
    assert body.index("s1") < body.index("s2")
    assert PIECES[3].entry.part == "Back"


def test_the_document_lists_and_holds_every_page():
    text = pdf.document(PIECES, {"title": "A & B", "author": "x", "checks": "7"})
    for each in PIECES:
        assert f'<article class="bd-article" id="{each.entry.slug}">' in text
        for place in (each.entry.slug, *(section["place"] for section in each.sections)):
            assert f'href="#{place}"' in text
    assert "A &amp; B" in text
    assert "7 checks ran" in text


def small(path: Path, starts: dict[str, int]) -> Path:
    """A PDF of ten empty pages in which the places are where `starts` says."""
    with pikepdf.new() as made:
        for _ in range(10):
            made.add_blank_page()
        place = {
            f"/{name}": pikepdf.Array([made.pages[at - 1].obj, pikepdf.Name.Fit])
            for name, at in starts.items()
        }
        made.Root.Dests = pikepdf.Dictionary(place)
        pdf.bookmark(made, PIECES, starts)
        made.save(path)
    return path


STARTS = {"index": 3, "01-a": 4, "01-a--one": 4, "01-a--two": 5, "02-b": 6, "02-b--three": 7}
STARTS |= {"solutions": 8, "solutions--01-a": 8, "solutions--02-b": 9, "ledger": 10}


def test_a_book_with_all_of_it_is_let_pass_and_has_bookmarks_by_part(tmp_path):
    path = small(tmp_path / "book.pdf", STARTS)
    assert pdf.check(path, PIECES, STARTS) == []
    with pikepdf.open(path) as book, book.open_outline() as outline:
        assert [item.title for item in outline.root] == ["Title of index", "I", "II", "Back"]
        assert [item.title for item in outline.root[1].children[0].children] == ["one", "two"]


def test_a_wrong_number_a_lost_link_and_a_missing_font_are_found(tmp_path):
    path = small(tmp_path / "book.pdf", STARTS)
    assert "on page 7, the contents say 2" in pdf.check(path, PIECES, STARTS | {"02-b--three": 2})[0]
    swapped = STARTS | {"ledger": 3}
    assert "start at" in pdf.check(small(tmp_path / "b.pdf", swapped), PIECES, swapped)[0]
    with pikepdf.open(path, allow_overwriting_input=True) as book:
        link = {"Type": pikepdf.Name.Annot, "Subtype": pikepdf.Name.Link, "Rect": [0, 0, 1, 1]}
        away = pikepdf.Dictionary(A=pikepdf.Dictionary(URI="file:///x.html"), **link)
        nowhere = pikepdf.Dictionary(Dest=pikepdf.Name("/nowhere"), **link)
        book.pages[3].obj.Annots = book.make_indirect(pikepdf.Array([away, nowhere]))
        font = pikepdf.Dictionary(
            Type=pikepdf.Name.Font, Subtype=pikepdf.Name.TrueType, BaseFont=pikepdf.Name("/Ari")
        )
        book.pages[3].obj.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F=book.make_indirect(font)))
        book.save(path)
    found = "; ".join(pdf.check(path, PIECES, STARTS))
    assert all(part in found for part in ("file:///x.html", "/nowhere", "/Ari is not embedded"))


def site(folder: Path, link: str) -> Path:
    (folder / "book").mkdir(parents=True)
    (folder / "book" / "index.html").write_text(f'<a href="{link}">x</a><img src="../p.png?v=1">', "utf-8")
    for name in ("p.png", "rope-book.pdf", ".buildinfo", "robots.txt"):
        (folder / name).write_text("x", "utf-8")
    return folder


def test_the_stick_opens_at_its_top_and_holds_the_site_alone(tmp_path):
    made = stick.build(ROOT, site(tmp_path, "https://example.org"))
    with zipfile.ZipFile(made) as opened:
        assert opened.namelist() == ["index.html", "rope-book/book/index.html", "rope-book/p.png"]
        assert "url=rope-book/book/index.html" in opened.read("index.html").decode()
    before = made.read_bytes()
    assert stick.build(ROOT, tmp_path).read_bytes() == before  # and not itself


def test_a_page_that_asks_for_what_is_not_on_the_stick_stops_it(tmp_path):
    with pytest.raises(SystemExit, match=r"book/index\.html asks for no\.html"):
        stick.build(ROOT, site(tmp_path, "no.html"))
    assert not (tmp_path / "rope-book.zip").exists()


def test_the_command_says_what_it_can_make(capsys):
    assert main(["docx"]) == 2
    assert "pdf | epub | stick" in capsys.readouterr().err


def test_an_epub_has_a_file_for_each_page_and_links_between_them(tmp_path):
    picture = tmp_path / "a b.png"
    picture.write_bytes(b"x")
    body = f'<p><a href="#02-b--three">to</a><a href="#02-b">2</a><img alt="A." src="{picture.as_uri()}"/><math/></p>'
    pieces = [Piece(PIECES[1].entry, "A & B", body, "", PIECES[1].sections, styles=["a > b {}"]), *PIECES[2:]]
    epub.write(
        tmp_path / "b.epub",
        pieces,
        {"title": "T & t", "author": "x", "checks": "7"},
        "",
        "2026-01-01T00:00:00Z",
    )
    with zipfile.ZipFile(tmp_path / "b.epub") as book:
        assert book.namelist()[0] == "mimetype"
        assert book.getinfo("mimetype").compress_type == zipfile.ZIP_STORED
        assert book.read("book/pictures/a b.png") == b"x"
        text = {
            name: book.read(name).decode()
            for name in book.namelist()
            if name.endswith(("xhtml", "opf", "xml"))
        }
    for name in text:
        ElementTree.fromstring(text[name])  # well-formed
    assert 'href="02-b.xhtml#02-b--three"' in text["book/01-a.xhtml"]
    assert 'src="pictures/a b.png"' in text["book/01-a.xhtml"]
    assert 'href="01-a.xhtml" media-type="application/xhtml+xml" properties="mathml"' in text["book/book.opf"]
    assert text["book/book.opf"].count("<itemref") == 2 + len(pieces)
    assert '<a href="01-a.xhtml#01-a--two">two</a>' in text["book/nav.xhtml"]


def test_a_link_to_what_was_folded_away_leads_to_its_page():
    body = '<a href="#03-a--b">b</a><a href="#03-a--gone">c</a>'
    assert epub.linked(body, {"03-a"}, {"03-a--b"}) == (
        '<a href="03-a.xhtml#03-a--b">b</a><a href="03-a.xhtml">c</a>'
    )
