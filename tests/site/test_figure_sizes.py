"""No figure of a page is heavier than 200 kB, whether it is a file, drawn in the page, or data in an attribute."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import SITE, TEXTS

MOST = 200_000  # bytes
PICTURES = {".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp"}


def heavy(html: str, folder: Path) -> Iterator[str]:
    """The figures of a page that are too heavy."""
    for address in re.findall(r'<(?:img|source|object)\b[^>]*?\b(?:src|data|srcset)="([^"?# ]+)', html):
        file = folder / address
        if address.startswith("data:"):
            if len(address) > MOST:
                yield f"data in an attribute: {len(address):,} bytes"
        elif file.suffix in PICTURES and file.exists() and file.stat().st_size > MOST:
            yield f"{file.name}: {file.stat().st_size:,} bytes"
    for drawing in re.findall(r"<svg\b.*?</svg>", html, re.DOTALL):
        if (size := len(drawing.encode())) > MOST:
            yield f"a drawing in the page: {size:,} bytes"


@pytest.mark.parametrize("name", TEXTS)
def test_no_figure_is_heavy(name: str) -> None:
    file = SITE / name
    assert list(heavy(file.read_text("utf-8"), file.parent)) == []


def test_a_heavy_figure_is_found(tmp_path: Path) -> None:
    (tmp_path / "small.svg").write_text("x" * MOST)
    (tmp_path / "large.svg").write_text("x" * (MOST + 1))
    page = '<p><img alt="a" src="small.svg"><img src="large.svg"><svg>x</svg><svg class="a">{}</svg><img src="data:{}">'
    found = list(heavy(page.format("y" * MOST, "z" * MOST), tmp_path))
    assert [line.split(":")[0] for line in found] == [
        "large.svg",
        "data in an attribute",
        "a drawing in the page",
    ]


def test_the_figures_of_the_chapters_are_read() -> None:
    pages = [name for name in TEXTS if name.startswith("notebooks/")]
    assert all(re.search(r"<img\b[^>]*\.svg|<svg\b", (SITE / name).read_text("utf-8")) for name in pages)
