"""The module of each moving figure in an empty element, with a model as a notebook has it, and on paper."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser

from rope_lab.figures.moving import Moving
from rope_lab.figures.pieces import RULES, pieces, said
from rope_lab.figures.turning import said as said_of_turning
from rope_lab.figures.turning import turning

# anywidget's model: set changes a value and tells those who asked, save_changes hands the values on
WIDGET = """async ([module, state]) => {
  const told = {}, el = document.body.appendChild(document.createElement("div"));
  const url = URL.createObjectURL(new Blob([module], {type: "text/javascript"}));
  window.saved = [];
  window.model = {
    get: (name) => state[name],
    set(name, value) { state[name] = value; (told["change:" + name] || []).forEach((f) => f()); },
    save_changes() { window.saved.push({...state, still: ""}); },
    on(event, f) { (told[event] = told[event] || []).push(f); },
  };
  (await import(url)).default.render({model: window.model, el});
}"""


def shown(browser: Browser, figure: Moving) -> Any:
    page = browser.new_page()
    page.goto("about:blank")
    page.evaluate(WIDGET, [figure.module, dict(figure.state)])
    return page


def test_a_widget_draws_itself_in_an_empty_element(browser: Browser) -> None:
    page = shown(browser, pieces())
    words = page.locator("p")
    assert words.all_inner_texts() == said(8, again=True)
    page.get_by_label("positions of the new tokens").select_option(RULES[0])
    assert words.all_inner_texts() == said(8, again=False)
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    assert words.all_inner_texts() == said(7, again=False)
    assert page.evaluate("saved") == [
        {"cached": 8, "rule": RULES[0], "still": ""},
        {"cached": 7, "rule": RULES[0], "still": ""},
    ]
    page.close()


def test_a_value_that_python_sets_moves_the_slider_and_the_drawing(browser: Browser) -> None:
    page = shown(browser, turning())
    page.evaluate("model.set('m', 9)")
    assert page.get_by_label("position of q", exact=False).first.input_value() == "9"
    assert page.locator("p").first.inner_text() == said_of_turning(9, 1, 0)[0]
    page.close()


@pytest.mark.parametrize("make", [turning, pieces])
def test_on_paper_there_are_no_controls(browser: Browser, make: Any) -> None:
    page = browser.new_page()
    page.set_content(make().data)
    page.emulate_media(media="print")
    assert not any(label.is_visible() for label in page.locator("label").all())
    assert page.locator("svg").is_visible()
    assert page.locator("p").first.is_visible()
    page.close()


def test_two_figures_of_a_kind_do_not_disturb_each_other(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(turning().data + turning().data)
    page.locator("input[data-role=m]").first.fill("9")
    assert page.locator(".rope-turn").first.locator("p").first.inner_text() == said_of_turning(9, 1, 0)[0]
    assert page.locator(".rope-turn").last.locator("p").first.inner_text() == said_of_turning(4, 1, 0)[0]
    page.close()
