"""The moving figures in a browser: what they say at every kind of position."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser

from rope_lab.bench.examples import STEPS as ROOF_STEPS
from rope_lab.bench.examples import UNITS, examples
from rope_lab.figures.broadcast import INDICES, broadcast, turns
from rope_lab.figures.broadcast import START as FIVE
from rope_lab.figures.broadcast import said as said_of_broadcast
from rope_lab.figures.counting import digits_to_hands
from rope_lab.figures.counting import said as said_of_counting
from rope_lab.figures.crossing import crossing
from rope_lab.figures.crossing import said as said_of_crossing
from rope_lab.figures.fingerprints import BUGS, fingerprint
from rope_lab.figures.fingerprints import said as fingerprint_said
from rope_lab.figures.pieces import COUNT, RULES, distance, pieces, said
from rope_lab.figures.plane import DISTANCE, PAIRS, plane
from rope_lab.figures.plane import NAMES as PLANE_NAMES
from rope_lab.figures.plane import said as said_of_plane
from rope_lab.figures.roofline import roofline
from rope_lab.figures.roofline import said as said_of_roof
from rope_lab.figures.roots import FADE, SHEAR, TURN, roots
from rope_lab.figures.roots import START as ROOT_START
from rope_lab.figures.roots import said as said_of_roots
from rope_lab.figures.rounding import POSITIONS, START, TYPES, rounding
from rope_lab.figures.rounding import said as said_of_rounding
from rope_lab.figures.shape import SHIFTS, score_shape
from rope_lab.figures.shape import said as said_of_shape
from rope_lab.figures.turning import KEY, QUERY, STEP, turning
from rope_lab.figures.wavelengths import NAMES, STEPS, wavelengths
from rope_lab.figures.wavelengths import START as EIGHT_TIMES
from rope_lab.figures.wavelengths import said as said_of_wavelengths

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


def test_the_hands_without_javascript_are_those_that_the_script_draws(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{turning().data}</article>")
    still = turning().still
    for what, name in (
        (".hand.q", "transform"),
        (".hand.k", "transform"),
        ("text.q", "x"),
        (".between", "d"),
    ):
        drawn = page.locator(f".rope-turn {what}").get_attribute(name) or ""
        found = re.search(rf'class="{what.split(".", 1)[1].replace(".", " ")}"[^>]*? {name}="([^"]*)"', still)
        assert found is not None, what
        both = [[float(x) for x in re.findall(r"-?\d+\.?\d*", text)] for text in (drawn, found[1])]
        assert [x % 360 for x in both[0]] == pytest.approx([x % 360 for x in both[1]], abs=0.11), what
    page.close()


@pytest.mark.parametrize("cached", [0, 1, 4, 8, 11])
@pytest.mark.parametrize("rule", RULES)
def test_a_text_in_two_pieces(browser: Browser, cached: int, rule: str) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{pieces().data}</article>")
    shown = ".rope-pieces p"
    assert page.locator(shown).all_inner_texts() == said(8, again=True)  # as it is without JavaScript
    page.evaluate(MOVE, ["cached", cached])
    page.get_by_label("positions of the new tokens").select_option(rule)
    again = rule == RULES[1]
    assert page.locator(shown).all_inner_texts() == said(cached, again=again)
    marked = page.locator(".rope-pieces .wrong").evaluate_all("all => all.map(cell => cell.dataset.at)")
    assert sorted(marked) == sorted(
        f"{m} {n}"
        for m in range(cached, COUNT)
        for n in range(m + 1)
        if distance(m, n, cached, again=again) != m - n
    )
    page.close()


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize(
    ("place", "pair"), [(0, 0), (START, 0), (START, 1), (22, 7), (37, 0), (48, 63), (49, 1)]
)
def test_a_rounded_hand(browser: Browser, name: str, place: int, pair: int) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{rounding().data}</article>")
    shown = ".rope-round p"
    assert page.locator(shown).all_inner_texts() == said_of_rounding(POSITIONS[START], 0, "bfloat16")
    page.get_by_label("number type").select_option(name)
    page.evaluate(MOVE, ["m", place])
    page.evaluate(MOVE, ["i", pair])
    assert page.locator(shown).all_inner_texts() == said_of_rounding(POSITIONS[place], pair, name)
    assert page.get_by_role("slider", name="position", exact=True).get_attribute("aria-valuetext") == (
        f"{POSITIONS[place]:,}"
    )
    overflows = name == "float16" and POSITIONS[place] > 65_504
    assert page.locator(".rope-round .hand").is_visible() != overflows
    page.close()


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("first", [0, 255, 300, 1000])
def test_the_fingerprint_of_a_bug(browser: Browser, bug: str, first: int) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{fingerprint().data}</article>")
    shown = ".rope-fingerprint p"
    assert page.locator(shown).all_inner_texts() == fingerprint_said(BUGS[1], 0)
    page.get_by_label("bug").select_option(bug)
    page.evaluate(MOVE, ["first", first])
    assert page.locator(shown).all_inner_texts() == fingerprint_said(bug, first)
    page.close()


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize(("batch", "tokens"), [(4, 4), (1, 6), (6, 1), (3, 5), (6, 6), (1, 1), (2, 1)])
def test_a_table_that_meets_a_batch(browser: Browser, batch: int, tokens: int, index: str) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{broadcast().data}</article>")
    shown = ".rope-broadcast p"
    assert page.locator(shown).all_inner_texts() == said_of_broadcast(FIVE, FIVE, INDICES[0])
    page.get_by_label("index into the table").select_option(index)
    page.evaluate(MOVE, ["batch", batch])
    page.evaluate(MOVE, ["tokens", tokens])
    assert page.locator(shown).all_inner_texts() == said_of_broadcast(batch, tokens, index)
    found = turns(batch, tokens, index)
    marked = page.locator(".rope-broadcast .wrong").evaluate_all("all => all.map(cell => cell.dataset.at)")
    assert sorted(marked) == sorted(
        f"{r} {n}" for r, row in enumerate(found or []) for n, turn in enumerate(row) if turn != n
    )
    hands = page.locator(".rope-broadcast .hand")
    visible = hands.evaluate_all(
        "all => all.filter(h => getComputedStyle(h).visibility === 'visible').length"
    )
    assert visible == sum(map(len, found or []))
    page.close()


@pytest.mark.parametrize(("shift", "pairs"), [(1, 4), (0, 4), (SHIFTS, 3), (2, 1)])
def test_a_curve_beside_trained_scores(browser: Browser, shift: int, pairs: int) -> None:
    given = [0, 1, 2, 4, 8, 16, 32], [5.0, 7.5, 6.0, 2.0, 1.0, -3.0, 0.5], [1.0, 0.3, 0.1, 0.03]
    page = browser.new_page()
    page.set_content(f"<article>{score_shape(*given).data}</article>")
    shown, line = ".rope-shape p", page.locator(".rope-shape .curve")
    assert page.locator(shown).all_inner_texts() == said_of_shape(*given, 1, 4)
    drawn = line.get_attribute("d")
    page.evaluate(MOVE, ["d", shift])
    page.evaluate(MOVE, ["p", pairs])
    assert page.locator(shown).all_inner_texts() == said_of_shape(*given, shift, pairs)
    assert (line.get_attribute("d") == drawn) == ((shift, pairs) == (1, 4))
    page.close()


def test_the_curve_without_javascript_is_the_one_that_the_script_draws(browser: Browser) -> None:
    given = [0, 1, 2, 4, 8, 16, 32], [5.0, 7.5, 6.0, 2.0, 1.0, -3.0, 0.5], [1.0, 0.3, 0.1, 0.03]
    page = browser.new_page()
    page.set_content(f"<article>{score_shape(*given).data}</article>")
    drawn = page.locator(".rope-shape .curve").get_attribute("d") or ""
    numbers = [
        [float(x) for x in re.findall(r"-?\d+\.\d+|-?\d+", path)]
        for path in (drawn, score_shape(*given).data.split('d="M')[2])
    ]
    assert numbers[0] == pytest.approx(numbers[1][: len(numbers[0])], abs=0.11)
    page.close()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", [0, 3, STEPS])
def test_wavelengths_under_a_scaling(browser: Browser, name: str, step: int) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{wavelengths().data}</article>")
    shown = ".rope-waves p"
    assert page.locator(shown).all_inner_texts() == said_of_wavelengths(NAMES[0], EIGHT_TIMES)
    page.get_by_label("scaling").select_option(name)
    page.evaluate(MOVE, ["n", step])
    sentences = said_of_wavelengths(name, step)
    assert page.locator(shown).all_inner_texts() == sentences
    assert page.locator(".rope-waves .out").count() == int(sentences[0].split(": ")[1].split()[0])
    page.close()


@pytest.mark.parametrize("fade", [0, 1, FADE])
@pytest.mark.parametrize("turn", [0, 3, TURN])
@pytest.mark.parametrize("shear", [0, SHEAR])
def test_a_root_on_the_map(browser: Browser, fade: int, turn: int, shear: int) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{roots().data}</article>")
    shown = ".rope-roots p"
    assert page.locator(shown).all_inner_texts() == said_of_roots(*ROOT_START)
    for name, value in (("fade", fade), ("turn", turn), ("shear", shear)):
        page.evaluate(MOVE, [name, value])
    assert page.locator(shown).all_inner_texts() == said_of_roots(fade, turn, shear)
    assert page.locator(".rope-roots .ring").first.is_visible() == (shear > 0)
    drawn = page.locator(".rope-roots .root").evaluate_all("all => all.map(g => g.getAttribute('transform'))")
    assert len(set(drawn)) == (2 if turn else 1)  # a real root is one point
    page.close()


def test_the_root_without_javascript_is_the_one_that_the_script_draws(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{roots().data}</article>")
    before = roots().data.split("<script")[0]
    for what, name in ((".curve", "d"), (".root", "transform")):
        drawn = page.locator(f".rope-roots {what}").first.get_attribute(name) or ""
        still = re.search(rf'class="{what[1:]}" {name}="([^"]*)"', before)
        assert still is not None
        both = [[float(x) for x in re.findall(r"-?\d+\.?\d*", text)] for text in (drawn, still[1])]
        assert both[0] == pytest.approx(both[1], abs=0.11)
    page.close()


ROOF = 23.4e9, 87.6e9  # bytes and operations per second


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("step", [0, 3, 6, 9, ROOF_STEPS - 1])
def test_a_point_under_the_roof(browser: Browser, kind: str, step: int) -> None:
    points = examples()
    page = browser.new_page()
    page.set_content(f"<article>{roofline(*ROOF, points, UNITS).data}</article>")
    shown, first = page.locator(".rope-roof p"), next(iter(points))
    assert shown.all_inner_texts() == said_of_roof(*ROOF, points[first][3], 3, UNITS[first])
    page.get_by_label("what is computed").select_option(kind)
    page.evaluate(MOVE, ["n", step])
    assert shown.all_inner_texts() == said_of_roof(*ROOF, points[kind][step], step, UNITS[kind])
    page.close()


def test_the_roof_without_javascript_is_the_one_that_the_script_draws(browser: Browser) -> None:
    page = browser.new_page()
    figure = roofline(*ROOF, examples(), UNITS).data
    page.set_content(f"<article>{figure}</article>")
    for what, names in ((".point", ("cx", "cy")), (".drop", ("x1", "x2", "y1"))):
        for name in names:
            drawn = page.locator(f".rope-roof {what}").get_attribute(name) or ""
            found = re.search(rf'class="{what[1:]}"[^>]*? {name}="([^"]*)"', figure.split("<script")[0])
            assert found is not None
            assert float(drawn) == pytest.approx(float(found[1]), abs=0.11)
    page.close()


@pytest.mark.parametrize("name", PLANE_NAMES)
@pytest.mark.parametrize(("half", "distance"), [(2, 1), (8, 10), (32, 4)])
def test_a_map_of_offsets(browser: Browser, name: str, half: int, distance: int) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{plane().data}</article>")
    shown = ".rope-plane p"
    assert page.locator(shown).all_inner_texts() == said_of_plane(PLANE_NAMES[0], PAIRS, DISTANCE)
    page.get_by_label("frequencies").select_option(name)
    page.evaluate(MOVE, ["p", half])
    page.evaluate(MOVE, ["d", distance])
    assert page.locator(shown).all_inner_texts() == said_of_plane(name, half, distance)
    assert page.locator(".rope-plane .ring").get_attribute("r") == str(10 * distance)
    page.close()


def test_the_map_without_javascript_is_the_one_that_the_script_draws(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{plane().data}</article>")
    still = re.findall(r'class="shade" fill="[^"]*" d="([^"]*)"', plane().data.split("<script")[0])
    drawn = page.locator(".rope-plane .shade").evaluate_all("all => all.map(path => path.getAttribute('d'))")
    assert drawn == still
    page.close()


@pytest.mark.parametrize("stage", range(3))
@pytest.mark.parametrize("m", [0, 22, 31, 62])
def test_a_counter_that_becomes_hands(browser: Browser, m: int, stage: int) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{digits_to_hands().data}</article>")
    shown = page.locator(".rope-counting p")
    assert shown.all_inner_texts() == said_of_counting(22, 2)
    page.evaluate(MOVE, ["m", m])
    page.evaluate(MOVE, ["stage", stage])
    assert shown.all_inner_texts() == said_of_counting(m, stage)
    assert page.locator(".rope-counting .wave").first.is_visible() == (stage > 0)
    assert page.locator(".rope-counting .clock").first.is_visible() == (stage > 1)
    page.close()


@pytest.mark.parametrize(("moved", "d"), [(0, 3), (4, 1), (10, 0), (10, 20)])
def test_a_layout_that_becomes_the_other(browser: Browser, moved: int, d: int) -> None:
    page = browser.new_page()
    page.set_content(f"<article>{crossing().data}</article>")
    shown = page.locator(".rope-crossing p")
    assert shown.all_inner_texts() == said_of_crossing(10, 3)
    page.evaluate(MOVE, ["moved", moved])
    page.evaluate(MOVE, ["d", d])
    assert shown.all_inner_texts() == said_of_crossing(moved, d)
    page.close()


@pytest.mark.parametrize("make", [digits_to_hands, crossing])
def test_what_is_drawn_without_javascript_is_what_the_script_draws(browser: Browser, make: Any) -> None:
    page = browser.new_page()
    drawing = """() => Array.from(document.querySelectorAll("svg *"), e => [e.tagName, ...Array.from(
        e.attributes, a => [a.name, a.name === "class" ? a.value :
          (a.value.match(/-?[0-9.]+/g) || []).map(Number)])])"""
    page.set_content(make().still)
    still = page.evaluate(drawing)
    page.set_content(make().data)
    drawn = page.evaluate(drawing)
    for before, after in zip(still, drawn, strict=True):
        for (name, values), (_, moved) in zip(
            before[1:], [a for a in after[1:] if a[0] != "style"], strict=True
        ):
            assert moved == (pytest.approx(values, abs=0.02) if isinstance(values, list) else values), (
                before[0],
                name,
            )
    page.close()
