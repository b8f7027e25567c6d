"""Three moving figures in a browser: they say what Python says, and draw again what their stills draw."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page

from rope_lab.figures import hearing, sections, summing
from rope_lab.figures.moving import Moving

MOVE = """([name, value]) => {
  const control = document.querySelector(`[data-role=${name}]`);
  control.value = value;
  control.dispatchEvent(new Event('input', {bubbles: true}));
}"""


def shown(browser: Browser, figure: Moving) -> Page:
    page = browser.new_page()
    page.set_content(f"<article>{figure.data}</article>")
    return page


def test_it_sums_arrows(browser: Browser) -> None:
    page = shown(browser, summing.summing())
    sentences = page.locator(".rope-sum p")
    assert sentences.all_inner_texts() == summing.said(*summing.START)
    for content in summing.CONTENT:
        for base, dim, place in ((0, 0, 0), (2, 4, 1), (4, 3, 12), (6, 5, len(summing.DISTANCES) - 1)):
            for name, value in (("content", content), ("b", base), ("d", dim), ("s", place)):
                page.evaluate(MOVE, [name, value])
            assert sentences.all_inner_texts() == summing.said(base, dim, content, place)
            distance = page.get_by_role("slider", name="distance", exact=True)
            assert distance.get_attribute("aria-valuetext") == f"{summing.DISTANCES[place]:,}"
            height = summing.numbers(base, dim, content, place)["score"] * -summing.RADIUS
            assert float(page.get_attribute(".rope-sum .now", "cy") or "") == pytest.approx(height, abs=0.06)
    page.close()


def test_it_shows_who_can_be_heard(browser: Browser) -> None:
    page = shown(browser, hearing.hearing())
    sentences = page.locator(".rope-hear p")
    assert sentences.all_inner_texts() == hearing.said(*hearing.START)
    for rule in hearing.RULES:
        for size, layers, token in ((1, 1, 0), (4, 3, 14), (3, 6, 31), (8, 6, 5)):
            for name, value in (("rule", rule), ("w", size), ("depth", layers), ("m", token)):
                page.evaluate(MOVE, [name, value])
            assert sentences.all_inner_texts() == hearing.said(rule, size, layers, token)
            squares = page.get_attribute(".rope-hear .heard", "d") or ""
            assert squares.count("M") == sum(map(len, hearing.heard(rule, size, layers, token)))
    page.close()


def test_it_turns_pairs_by_their_axis(browser: Browser) -> None:
    page = shown(browser, sections.sections())
    sentences = page.locator(".rope-sections p")
    assert sentences.all_inner_texts() == sections.said(*sections.START)
    for kind in sections.KINDS:
        for at in ((0, 0, 0), (1, 0, 31), (7, 7, 7), (31, 20, 3)):
            for name, value in (("kind", kind), *zip("thw", at, strict=True)):
                page.evaluate(MOVE, [name, value])
            assert sentences.all_inner_texts() == sections.said(kind, *at)
            faces = page.locator(".rope-sections .face").evaluate_all(
                "all => all.map(x => x.className.baseVal)"
            )
            owner = (sections.matrix(kind) != 0).long().argmax(0).tolist()
            assert faces[:64] == [f"face a{axis}" for axis in owner]
    page.close()


@pytest.mark.parametrize("figure", [summing.summing(), hearing.hearing(), sections.sections()])
def test_the_script_draws_the_still(browser: Browser, figure: Moving) -> None:
    """Every number of every element of the drawing, before and after the script has run."""
    page = browser.new_page()
    read = "() => Array.from(document.querySelector('svg').querySelectorAll('*'), (x) => x.outerHTML)"
    drawings = []
    for html in (figure.still, figure.data):
        page.set_content(f"<article>{html}</article>")
        drawings.append(page.evaluate(read))
    page.close()
    for still, drawn in zip(*drawings, strict=True):
        assert re.sub(r"-?\d+\.?\d*", "", still) == re.sub(r"-?\d+\.?\d*", "", drawn)
        numbers = [[float(x) for x in re.findall(r"-?\d+\.?\d*", text)] for text in (still, drawn)]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.11)
