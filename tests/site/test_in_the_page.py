"""The model in the page: opened as a file, in Chromium, every switch gives what rope_lab gives."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faults
import pytest
import torch
from pages import SITE
from playwright.sync_api import Browser, Page

from rope_book.weights import taken_out
from rope_lab import RoFormer, RoFormerConfig
from rope_lab.figures.in_the_page import SWITCHES, in_the_page, loaded
from rope_lab.figures.switches import Switches, logits_of

CHAPTER = SITE / "notebooks" / "13_tiny_shakespeare.html"
WEIGHTS = SITE / "_static" / "roformer_weights.js"
VOCAB = "\n !'abcdehlo"
CONFIG = RoFormerConfig(len(VOCAB), context=24, dim=16, depth=2, heads=2, qk_gain=True)
MOVES: dict[str, dict[str, Any]] = {
    "as trained": {},
    "rotation off": {"off": True},
    "keys in the other layout": {"other_keys": True},
    "offset forgotten in the cache": {"forgotten": True},
    "values turned too": {"values": True},
    "base 100": {"base": "100"},
    "base 1,000,000": {"base": "1000000"},
    "linear interpolation, factor 4": {"scaling": "linear"},
    "NTK-aware, factor 4": {"scaling": "ntk"},
    "YaRN, factor 4": {"scaling": "yarn"},
    "its frequencies only": {"scaling": "yarn frequencies"},
    "its attention factor only": {"scaling": "yarn factor"},
    "window of 8": {"window": "8"},
}
LOGITS = """({ids, prompt}) => {
  const root = document.querySelector('.rope-broken'), cache = ropeLab.newCache(root.model, prompt);
  const start = performance.now();
  const logits = ids.map(id => Array.from(ropeLab.step(root.model, cache, id, root.switches()).logits));
  return {logits, each: (performance.now() - start) / ids.length};
}"""


def random_model() -> RoFormer:
    torch.manual_seed(0)
    made = RoFormer(CONFIG)
    made.load_parameters({name: p + 0.3 * torch.randn_like(p) for name, p in made.named_parameters()})
    return made


def opened(browser: Browser, file: Path, **context: Any) -> tuple[Page, list[str]]:
    """A page that was opened as a file, and what it asked for or complained of."""
    page, wrong = browser.new_context(**context).new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request",
        lambda sent: wrong.append(sent.url) if not sent.url.startswith(("file:", "data:")) else None,
    )
    page.goto(file.as_uri())
    return page, wrong


def load(page: Page) -> None:
    page.locator(".rope-broken .load").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.rope-broken').model")


def move(page: Page, controls: dict[str, Any]) -> None:
    """Set all switches as the reader would, those not named to where they are at first."""
    page.locator(".rope-broken [data-role=off]").set_checked(
        False
    )  # with it, the other switches are disabled
    for box in page.locator(".rope-broken [type=checkbox]").all():
        box.set_checked(bool(controls.get(box.get_attribute("data-role") or "")))
    first = {"base": "10000", "scaling": "none", "factor": "4", "window": ""}
    for role, value in first.items():
        if not controls.get("off"):
            page.locator(f".rope-broken [data-role={role}]").select_option(controls.get(role, value))


def differences(page: Page, model: RoFormer, ids: list[int]) -> Iterator[tuple[str, float, float]]:
    """For each switch: the largest difference of the logits from those of rope_lab, and milliseconds per token."""
    for name, controls in MOVES.items():
        move(page, controls)
        found = page.evaluate(LOGITS, {"ids": ids, "prompt": len(ids) // 2})
        expected = logits_of(model, SWITCHES[name], torch.tensor(ids), len(ids) // 2)
        yield name, float((torch.tensor(found["logits"]) - expected).abs().max()), found["each"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page like the book's, with a random model."""
    folder = tmp_path_factory.mktemp("page")
    body = taken_out(
        in_the_page(random_model(), VOCAB, "hello, a bad code!\n".replace(",", "") * 3).data, folder, "."
    )
    file = folder / "page.html"
    file.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>x</title><main>{body}</main>", "utf-8"
    )
    return file


def weights(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8").removeprefix("ropeLabWeights(").removesuffix(");\n"))


def test_every_switch_gives_the_logits_of_rope_lab(browser: Browser, small: Path) -> None:
    assert list(MOVES) == list(SWITCHES)
    page, wrong = opened(browser, small)
    load(page)
    model = loaded(weights(small.parent / "roformer_weights.js"))
    ids = torch.randint(len(VOCAB), (40,)).tolist()
    off = {name: error for name, error, _ in differences(page, model, ids) if not error < 1e-4}
    assert off == {}
    assert wrong == []
    page.context.close()


def test_the_reader_types_and_switches_by_keyboard(browser: Browser, small: Path) -> None:
    page, wrong = opened(browser, small)
    load(page)
    assert page.evaluate("() => document.activeElement.tagName") == "TEXTAREA"
    done = "() => document.querySelector('.rope-broken').dataset.state === 'done'"
    page.wait_for_function(done)
    said = page.inner_text(".said")
    numbers = re.findall(r"(\d\.\d{3}) \((\d\.\d{3})\)", said)
    assert len(numbers) == 3  # in all, the first 24 characters, those after them
    assert all(now == trained for now, trained in numbers)
    verse = page.inner_text(".read")
    assert verse.replace("⏎", "") == page.input_value("textarea")
    before = page.inner_text(".heads"), page.inner_text(".rope-broken .text")
    assert page.locator(".heads tbody tr").count() == CONFIG.depth * CONFIG.heads
    for row in page.locator(".heads tbody tr").all():  # percents of the attention
        assert abs(sum(map(float, row.locator("td").all_inner_texts()[2:])) - 100) <= 4
    page.locator("[data-role=off]").focus()
    page.keyboard.press("Space")
    page.wait_for_function(
        f"said => document.querySelector('.said').textContent !== said && ({done})()", arg=said
    )
    assert page.locator("[data-role=base]").is_disabled()
    assert page.inner_text(".heads") != before[0]
    assert page.inner_text(".rope-broken .text") != before[1]
    page.fill(".rope-broken textarea", "a żbad “code”")
    page.wait_for_function("() => document.querySelector('.said').textContent.includes('does not know')")
    assert page.inner_text(".said").rstrip().endswith("does not know them: ż")
    page.fill(".rope-broken textarea", "a")
    page.get_by_text("Type at least two characters").wait_for()
    assert wrong == []
    page.context.close()


def test_the_page_says_how_far_it_is_from_rope_lab(browser: Browser, small: Path) -> None:
    page, wrong = opened(browser, small)
    load(page)
    page.get_by_text("Compute the table below").click()
    page.wait_for_function("() => document.querySelector('.rope-broken').dataset.worst")
    assert float(page.locator(".rope-broken").get_attribute("data-worst") or "inf") < 1e-5
    assert "13 losses of the whole verse" in page.inner_text(".equal")
    assert wrong == []
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_is_inaccessible_or_wider_than_the_page(
    browser: Browser, small: Path, scheme: str, width: int
) -> None:
    page, wrong = opened(browser, small, viewport={"width": width, "height": 740})
    page.evaluate("scheme => document.documentElement.dataset.theme = scheme", scheme)
    load(page)
    page.wait_for_function("() => document.querySelector('.rope-broken').dataset.state === 'done'")
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    assert faults.inaccessible(page) == []
    assert wrong == []
    page.context.close()


def test_without_javascript_there_is_the_table_alone(browser: Browser, small: Path) -> None:
    page, wrong = opened(browser, small, java_script_enabled=False)
    assert page.locator(".rope-broken tbody tr").count() == len(SWITCHES)
    assert page.locator(".without").is_visible()
    assert page.locator(".rope-broken button:visible, .rope-broken textarea:visible").count() == 0
    assert wrong == []
    page.context.close()


def test_the_trained_model_of_the_book(browser: Browser) -> None:
    """Small, only loaded when asked for, equal to rope_lab for every switch, and fast."""
    assert len(gzip.compress(WEIGHTS.read_bytes(), 6)) <= 700_000
    assert len(CHAPTER.read_bytes()) < 700_000
    page, wrong = opened(browser, CHAPTER)
    asked = page.locator(f"script[src$='{WEIGHTS.name}']")
    assert asked.count() == 0
    load(page)
    assert asked.count() == 1
    file = weights(WEIGHTS)
    ids = [file["vocab"].index(character) for character in file["verse"]]
    found = list(differences(page, loaded(file), ids))
    assert {name: error for name, error, _ in found if not error < 1e-4} == {}
    assert sorted(each for _, _, each in found)[len(found) // 2] <= 20
    trained = file["rows"][0]["losses"]
    assert len(file["rows"]) == len(SWITCHES)
    assert Switches() == SWITCHES["as trained"]
    assert trained[0] == min(
        row["losses"][0] for row in file["rows"] if row["name"].startswith(("as", "rot", "keys"))
    )
    assert wrong == []
    page.context.close()
