"""The first page offers what is there: a button for a file is shown when the file is beside the site."""

from __future__ import annotations

import re
from pathlib import Path

from rope_book.welcome import FILES, offer

ROOT = Path(__file__).parents[1]


def page(site: Path) -> list[str]:
    html = (site / "book" / "index.html").read_text("utf-8")
    return re.findall(r'href="\.\./([\w.-]+)">', html)


def test_a_button_is_shown_while_its_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    links = (
        f'<a class="rope-file" data-file="{file}" href="../{file}" hidden>{text}</a>'
        for file, text in FILES.items()
    )
    (tmp_path / "book" / "index.html").write_text(
        f'<p><a href="x.html">Read</a>{"".join(links)}</p>', "utf-8"
    )
    offer(tmp_path)
    assert page(tmp_path) == []
    for file in FILES:
        (tmp_path / file).write_text("x", "utf-8")
        offer(tmp_path)
        assert page(tmp_path) == [file]
        (tmp_path / file).unlink()
        offer(tmp_path)
        assert page(tmp_path) == []


def test_the_files_are_those_that_make_writes() -> None:
    made = "".join(path.read_text("utf-8") for path in (ROOT / "book/_ext/rope_forms").glob("*.py"))
    assert all(f'site / "{file}"' in made for file in FILES)
