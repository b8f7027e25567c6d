"""Names in code lead to the API page and back, and copying gives the code as it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

from pages import SITE, TEXTS, Visit

API = (SITE / "book/api.html").read_text("utf-8")
CHAPTERS = [name for name in TEXTS if name.startswith("notebooks/")]


def test_every_name_in_code_leads_to_an_entry_and_every_entry_back() -> None:
    entries = set(re.findall(r'<dt class="sig sig-object py" id="([^"]+)"', API))
    there = {}
    for name in CHAPTERS:
        html = (SITE / name).read_text("utf-8")
        links = re.findall(r'<a class="rope-code"[^>]*href="\.\./book/api\.html#([^"]+)">', html)
        assert links, name
        assert set(links) <= entries, name
        there[Path(name).name] = set(re.findall(r'<a class="rope-code" id="([^"]+)"', html))
    back = re.findall(r'<a href="\.\./notebooks/([^"#]+)#(code-[^"]+)">\d+</a>', API)
    assert len(back) > 100
    assert [(page, place) for page, place in back if place not in there[page]] == []


def test_names_in_the_text_lead_there_too() -> None:
    html = (SITE / "notebooks/03_deriving_rope.html").read_text("utf-8")
    assert re.search(r'<a class="reference internal" href="\.\./book/api\.html#[^"]*\.\w+"[^>]*><code', html)


def test_copied_code_is_the_code(visit: Callable[[str, str], Visit]) -> None:
    opened = visit("notebooks/03_deriving_rope.html", "desktop")
    cell = opened.page.locator(".cell_input:has(a.rope-code):visible").first
    source = Path(__file__).parents[2].joinpath("notebooks/03_deriving_rope.py").read_text("utf-8")
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    cell.hover()
    cell.locator("button.copybtn").click()
    opened.page.wait_for_function("document.querySelector('button.copybtn.success')")
    copied = opened.page.evaluate("() => navigator.clipboard.readText()")
    assert "import" in copied
    assert unescape(copied).strip() in source
    link = cell.locator("a.rope-code").first
    inside, outside = (
        link.evaluate(f"(e) => getComputedStyle({what}).color") for what in ("e", "e.firstChild")
    )
    around = cell.locator("span.n:not(a *)").first.evaluate("(e) => getComputedStyle(e).color")
    assert outside == around, (inside, around)
