"""What a first look at a page sends, compressed: without formulas' style and fonts, and without weights of models."""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages import SITE, TEXTS

MOST = 350_000  # bytes
PICTURES = 3  # the first of a page: no first screen of 1280 × 900 showed more


@cache
def sent(path: Path) -> int:
    data = path.read_bytes()
    return len(data) if path.suffix in {".png", ".jpg", ".webp"} else len(gzip.compress(data))


def asked(page: str) -> list[str]:
    """The style sheets and scripts that a page asks for by itself, and its first pictures."""
    tags = re.findall(r"<(?:script|link)\b[^>]*>", page)
    tags = [tag for tag in tags if tag.startswith("<script") or 'rel="stylesheet"' in tag]
    tags = [tag for tag in tags if 'media="print"' not in tag and "/katex/" not in tag]
    pictures = re.findall(r'<img\b[^>]*\bsrc="(?!data:)[^>]*>', page)[:PICTURES]
    found = [re.search(r'(?<![\w-])(?:src|href)="([^"]+)"', tag) for tag in (*tags, *pictures)]
    return [address[1] for address in found if address]


def weights(name: str) -> dict[Path, int]:
    page = SITE / name
    found = [page.parent / urlsplit(one).path for one in asked(page.read_text("utf-8"))]
    return {path: sent(path) for path in (page, *(one.resolve() for one in found))}


@pytest.mark.parametrize("name", TEXTS)
def test_a_first_look_is_light(name: str) -> None:
    found = {path.name: weight for path, weight in weights(name).items()}
    assert len(found) > 5
    assert sum(found.values()) <= MOST, sorted(found.items(), key=lambda item: -item[1])[:8]


def test_no_page_loads_the_index_of_the_search() -> None:
    for name in TEXTS:
        assert not any("searchindex" in one for one in asked((SITE / name).read_text("utf-8"))), name


def test_the_icons_are_those_of_the_book() -> None:
    """A few kB, where the theme brings 300."""
    fonts = list((SITE / "_static" / "vendor" / "fontawesome" / "webfonts").iterdir())
    assert fonts
    assert sum(font.stat().st_size for font in fonts) < 20_000
