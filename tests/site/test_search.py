"""Symbols, numbers and names lead to their place, among the first three results, from a server and from a disk."""

from __future__ import annotations

import pytest
from pages import SITE
from playwright.sync_api import Browser

WANTED = {
    "θ": "book/notation.html#positions-and-frequencies",
    "rotate_half": "book/glossary.html#term-half-layout",
    "(3.14)": "notebooks/03_deriving_rope.html#equation-eq-3-14",
    "KVCache": "book/api.html#rope_lab.cache.KVCache",
    "YaRN": "book/glossary.html#term-YaRN",
    "base": "book/glossary.html#term-base",
    "Figure 3.2": "notebooks/03_deriving_rope.html#fig-",
}


@pytest.mark.parametrize("where", ["server", "disk"])
def test_what_is_typed_is_found(browser: Browser, address: str, where: str) -> None:
    page = browser.new_page()
    start = address if where == "server" else f"{SITE.resolve().as_uri()}/"
    for query, wanted in WANTED.items():
        page.goto(f"{start}search.html?q={query}", wait_until="domcontentloaded")
        page.wait_for_selector("#search-results ul.search > li > a")
        found = page.evaluate(
            "[...document.querySelectorAll('#search-results ul.search > li > a')].slice(0, 3).map((a) => a.href)"
        )
        assert any(f"/{wanted}" in one for one in found), f"{query} finds {found}"
    page.close()
