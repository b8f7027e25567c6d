"""The moving figure of chapter 3 in a browser: what it says at every kind of position."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser

from rope_lab.figures.turning import KEY, QUERY, STEP, turning

MOVE = """([name, value]) => {
  const slider = document.querySelector(`[data-role=${name}]`);
  slider.value = value;
  slider.dispatchEvent(new Event('input', {bubbles: true}));
}"""


@pytest.mark.parametrize(("m", "n", "t"), [(0, 0, 0), (3, 1, 0), (0, 12, 5), (12, 0, 12), (7, 7, 3)])
def test_it_says_where_the_hands_are(browser: Browser, m: int, n: int, t: int) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{turning().data}</article>")
    for name, value in (("m", m), ("n", n), ("t", t)):
        page.evaluate(MOVE, [name, value])
    text = page.inner_text(".rope-turn p >> nth=0")
    turned = QUERY * (KEY * 1j ** ((n - m) * STEP / 90)).conjugate()
    found = re.fullmatch(
        r"q at (\d+), k at (\d+), distance (−?\d+)\. Angle .*: (−?\d+)°\. Score: (−?\d\.\d\d)\.", text
    )
    assert found, text  # a minus is no hyphen anywhere
    numbers = [float(number.replace("−", "-")) for number in found.groups()]
    assert numbers[:3] == [m + t, n + t, m - n]
    assert numbers[4] == pytest.approx(turned.real / 1e4, abs=0.006)
    labels = page.locator(".rope-turn label span").all_inner_texts()
    assert labels[0] == (f"position of q: {m}" + (f" + {t} = {m + t}" if t else ""))
    assert (
        page.get_by_role("slider", name="position of q", exact=True).count() == 1
    )  # its value is not in its name
    page.close()
