"""A card beside a link shows what the link leads to, by pointer, keyboard and touch, from a server and from a disk."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from pages import SITE, TEXTS, Visit
from playwright.sync_api import Browser, Page, expect

PAGE = "notebooks/11_longer_contexts.html"
# One of each kind: the beginning of its address, what its card shows, and words in that.
KINDS = {
    "equation here": ("#equation-eq-11-6", ".katex-display", "(11.6)"),
    "equation elsewhere": ("15_extending.html#equation-eq-15-6", ".katex-display", "(15.6)"),
    "work": ("../book/references.html#id", ".citation", "20"),
    "term": ("../book/glossary.html#term-unfinished-pair", "strong", "no distance in the context"),
    "figure": ("15_extending.html#fig-arcs", "figure img", "Figure 15."),
    "name of the package": ("../book/api.html#rope_lab.encodings.scaling.LongRoPE", ".sig-name", "LongRoPE"),
    "chapter": ("15_extending.html", "strong", "15 · "),
}


def link(page: Page, kind: str) -> str:
    """A selector of the one link of this kind."""
    start = KINDS[kind][0]
    found = f'.bd-article a.reference.internal[href^="{start}"]'
    assert page.locator(found).count(), f"chapter 11 links to no {kind} any more: choose another"
    return f"{found} >> nth=0"


def check_card(page: Page, kind: str) -> None:
    _, inside, words = KINDS[kind]
    card = page.get_by_role("tooltip")
    expect(card).to_contain_text(words)
    expect(card.locator(inside).first).to_be_visible()
    at, box = page.locator(link(page, kind)).bounding_box(), card.bounding_box()
    assert at
    assert box
    assert box["y"] >= at["y"] + at["height"] or box["y"] + box["height"] <= at["y"], (
        "the card covers the link"
    )
    width = page.evaluate("document.documentElement.clientWidth")
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.querySelectorAll('.rope-preview img')].filter((i) => !i.complete || !i.naturalWidth).length"
    page.wait_for_function(f"{broken} === 0")
    twice = "[...document.querySelectorAll('.rope-preview [id]')].map((one) => one.id)"
    assert page.evaluate(twice) == [], "a name in a card stands in the page a second time"


def test_every_link_within_the_book_has_a_card() -> None:
    """Read from the files, with the browser's own idea of where a link leads."""
    cards = {}
    for script in (SITE / "_static/previews").rglob("*.js"):
        page, found = re.fullmatch(
            r"ropePreviews\((.*?), (\{.*\})\);\n", script.read_text("utf-8"), re.DOTALL
        ).groups()  # type: ignore[union-attr]
        cards[f"{json.loads(page)}.html"] = json.loads(found)
    checked = 0
    for name in TEXTS:
        _, _, article = (SITE / name).read_text("utf-8").partition('<article class="bd-article"')
        for href in re.findall(
            r'<a class="reference internal" href="([^":]*)"', article.partition("</article>")[0]
        ):
            path, _, place = href.partition("#")
            target = (SITE / name).parent.joinpath(path).resolve() if path else SITE.resolve() / name
            page = target.relative_to(SITE.resolve()).as_posix()
            if page in TEXTS:
                assert cards[page].get(place), f"{name} links to {href}, of which there is no card"
                checked += 1
    assert checked > 500


@pytest.mark.parametrize("screen", ["desktop", "phone"])
def test_each_kind_is_shown_to_a_pointer_and_to_the_keyboard(
    visit: Callable[[str, str], Visit], screen: str
) -> None:
    opened = visit(PAGE, screen)
    page = opened.page
    assert page.locator("script[src*='_static/previews/']").count() == 0, (
        "cards are loaded before they are wanted"
    )
    for number, kind in enumerate(KINDS if screen == "desktop" else ("equation elsewhere", "figure")):
        at = page.locator(link(page, kind))
        at.scroll_into_view_if_needed()
        if number % 2:
            at.hover()
        else:
            page.keyboard.press("Shift")  # so that focus shows as that of the keyboard
            at.focus()
        check_card(page, kind)
        assert at.get_attribute("aria-describedby") == page.get_by_role("tooltip").get_attribute("id")
        page.keyboard.press("Escape")
        expect(page.get_by_role("tooltip")).to_have_count(0)
        assert at.get_attribute("aria-describedby") is None
        page.mouse.move(0, 0)
    assert opened.errors == []


def test_the_pointer_may_move_into_a_card_and_leave_it(visit: Callable[[str, str], Visit]) -> None:
    page = visit(PAGE, "desktop").page
    page.locator(link(page, "term")).hover()
    card = page.get_by_role("tooltip")
    card.hover()
    page.wait_for_timeout(400)
    expect(card).to_be_visible()
    page.mouse.move(0, 0)
    expect(card).to_have_count(0)


def test_a_first_tap_shows_and_leads_on_from_there(address: str, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto(address + PAGE)
    page.locator(link(page, "term")).tap()
    check_card(page, "term")
    assert page.url.endswith(PAGE)
    page.locator(".bd-article h1").tap()
    expect(page.get_by_role("tooltip")).to_have_count(0)
    page.locator(link(page, "term")).tap()
    page.get_by_role("tooltip").get_by_role("link").tap()
    page.wait_for_url("**/glossary.html#term-unfinished-pair")
    context.close()


def test_cards_come_from_a_disk_too_and_formulas_with_their_style(browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto((SITE / PAGE).as_uri())
    page.locator(link(page, "equation elsewhere")).hover()
    check_card(page, "equation elsewhere")
    assert page.locator(".rope-preview .katex-mathml").first.bounding_box()["width"] <= 1  # type: ignore[index]
    context.close()
