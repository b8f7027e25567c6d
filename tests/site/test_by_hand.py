"""What a reader does with a page: from control to control by Tab, copy, search; and what a failed weekly run shows."""

from __future__ import annotations

import json
import re

from pages import SITE

CHAPTER = "notebooks/03_deriving_rope.html"
CONTROLS = ".bd-article :is(button, input, select, textarea, summary)"


def test_tab_comes_to_every_control_of_a_chapter(visit) -> None:
    page = visit(CHAPTER).page
    page.evaluate(
        "() => document.querySelectorAll('.bd-article details').forEach(fold => (fold.open = true))"
    )
    wanted = page.evaluate(
        """controls => [...document.querySelectorAll(controls)]
          .filter(box => !box.disabled && box.checkVisibility({visibilityProperty: true}))
          .map((box, i) => { box.dataset.tab = i; return box.outerHTML.slice(0, 80); })""",
        CONTROLS,
    )
    assert len(wanted) > 20
    page.evaluate(
        "() => { const main = document.querySelector('.bd-article'); main.tabIndex = -1; main.focus(); }"
    )
    reached = set()
    for _ in range(900):
        page.keyboard.press("Tab")
        here = page.evaluate(
            "() => { const box = document.activeElement; return [box.dataset.tab, !!box.closest('.bd-article')]; }"
        )
        if here[0] is not None:
            reached.add(int(here[0]))
        elif not here[1]:
            break
    assert [said for index, said in enumerate(wanted) if index not in reached] == []


def test_copy_gives_the_code_and_no_prompt(browser, address) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    for name, block in ((CHAPTER, ".cell_input"), ("book/how_to_use.html", ".highlight-console")):
        page.goto(address + name, wait_until="load")
        box = page.locator(block).filter(visible=True).first
        code = box.locator("pre").inner_text().strip()
        box.locator("button.copybtn").focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(100)
        copied = page.evaluate("() => navigator.clipboard.readText()").strip()
        assert copied == re.sub(r"^\$ ", "", code, flags=re.M)
    assert "$ " in code
    context.close()


def test_a_failed_weekly_run_is_said_above_the_page_and_nothing_else_is(browser, address) -> None:
    page = browser.new_page()
    page.goto(address + CHAPTER, wait_until="load")
    assert page.locator(".rope-status").count() == 0
    filled = json.dumps({"said": "It failed in: <colab>.", "link": "https://example.org/1"})
    shipped = (SITE / "_static" / "status.js").read_text("utf-8")
    text = re.sub(r"(?m)^const ropeStatus = .*$", lambda _: f"const ropeStatus = {filled};", shipped)
    page.route("**/status.js*", lambda route: route.fulfill(body=text, content_type="text/javascript"))
    page.goto(address + CHAPTER, wait_until="load")
    assert page.locator(".rope-status").inner_text().endswith("It failed in: <colab>. The report.")
    assert page.locator(".rope-status a").get_attribute("href") == "https://example.org/1"
    page.close()
