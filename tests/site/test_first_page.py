"""The first page: what the book is, a figure to move and buttons that lead somewhere, on one screen."""

from __future__ import annotations

import re

import pytest
from pages import SITE


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_screen_and_moves_by_keyboard(browser, address, width, height, scheme) -> None:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(f"{address}book/index.html", wait_until="load")
    for selector in (
        "h1",
        ".rope-buttons",
        ".rope-first svg",
        ".rope-first [data-role=t]",
        ".rope-first p:first-of-type",
    ):
        box = page.locator(f".bd-article {selector}").first.bounding_box()
        assert box, selector
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= height, selector
    hand = page.locator(".rope-first .hand.q")
    said = page.locator(".rope-first p").first
    before, score = hand.get_attribute("transform"), re.findall(r"Score: [−\d.]+\d", said.inner_text())
    page.locator(".rope-first [data-role=t]").focus()
    page.keyboard.press("ArrowRight")
    assert hand.get_attribute("transform") != before
    assert re.findall(r"Score: [−\d.]+\d", said.inner_text()) == score != []
    page.locator(".rope-first [data-role=m]").focus()
    page.keyboard.press("ArrowRight")
    assert re.findall(r"Score: [−\d.]+\d", said.inner_text()) != score
    page.close()


def test_the_buttons_lead_somewhere(browser, address) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{address}book/index.html", wait_until="load")
    shown = {}
    for button in page.locator(".rope-buttons a").all():
        if button.is_visible():
            shown[button.inner_text()] = button.get_attribute("href") or ""
    page.close()
    assert next(iter(shown)) == "Read"
    assert "Package" in shown
    assert ("Colab" in shown) == ('rel="canonical"' in (SITE / "book/index.html").read_text("utf-8"))
    for text, file in {
        "PDF": "rope-book.pdf",
        "EPUB": "rope-book.epub",
        "Offline copy": "rope-book.zip",
    }.items():
        assert (text in shown) == (SITE / file).exists()
    for text, target in shown.items():
        if text == "Colab":
            notebook = re.fullmatch(
                r"https://colab\.research\.google\.com/github/[\w.-]+/[\w.-]+/blob/gh-pages/(.*)", target
            )
            assert notebook
            assert (SITE / notebook[1]).is_file()
        else:
            assert (SITE / "book" / target).is_file(), text
