"""What can be wrong with a page that a browser shows: each function returns what it found, nothing if all is well."""

from __future__ import annotations

import io

from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageChops
from playwright.sync_api import Page

# A scrollbar takes its height from the box it is in.
BARS = """() => [...document.querySelectorAll('.bd-article :is(span.math, span.math *)')]
  .filter(box => ['auto', 'scroll'].includes(getComputedStyle(box).overflowX))
  .filter(box => box.offsetHeight - box.clientHeight > 4)
  .map(box => box.parentElement.textContent.slice(0, 60))"""
SIDEWAYS = """() => {
  const page = document.documentElement, room = page.clientWidth;
  if (page.scrollWidth <= room) return [];
  const inside = box => box.closest('pre, table, .math, .bd-sidebar, .output');
  return [...document.querySelectorAll('main *')]
    .filter(box => box.getBoundingClientRect().right > room + 1 && !inside(box.parentElement))
    .slice(0, 3).map(box => `${box.tagName} ${box.className}: ${box.textContent.slice(0, 60)}`)
    .concat(`${page.scrollWidth} px wide`);
}"""
# The boxes of equations that fit their column.
EQUATIONS = """() => [...document.querySelectorAll('.bd-article .katex-display')]
  .filter(box => box.scrollWidth <= box.clientWidth && box.checkVisibility())
  .map(box => { box.dataset.fits = ''; return box.getBoundingClientRect(); })
  .map(box => [box.left, box.top + scrollY, box.right, box.bottom + scrollY])"""
# A picture that comes while the page is looked at would move what is below it.
LOADED = """() => Promise.all([...document.images].map(
  image => { image.loading = 'eager'; return image.decode().catch(() => null); })).then(() => null)"""
# Of those alone: one that scrolls would lose its bar, and with it move what is below.
SHOWN = ".bd-article .katex-display[data-fits] { overflow: visible !important; }"
# A chapter named in prose: a link, or said to be planned. A page does not link to itself.
BARE = r"""() => {
  const here = Number(location.pathname.match(/notebooks\/(\d+)_/)?.[1]);
  const walk = document.createTreeWalker(document.querySelector('.bd-article'), NodeFilter.SHOW_TEXT);
  const found = [];
  while (walk.nextNode()) {
    const text = walk.currentNode, parent = text.parentElement;
    if (parent.closest('a, pre, code, script, style, h1, h2, h3, h4, h5, h6, summary, svg, .math, output')) continue;
    for (const mention of text.data.matchAll(/\bchapters?\s+(\d+)(?!\d|\s*(?:\(|,\s+)planned| (?:is|are) planned)/gi))
      if (Number(mention[1]) !== here) found.push(text.data.slice(Math.max(0, mention.index - 30), mention.index + 30));
  }
  return found;
}"""
# Labels of drawings that are written in the page: their boxes are apart.
LABELS = """() => [...document.querySelectorAll('.bd-article :is(svg, .text_html)')].flatMap(drawing => {
  const plain = box => [...box.children].every(child => ['SUP', 'SUB', 'tspan'].includes(child.tagName));
  const shown = [...drawing.querySelectorAll('text, span, em, b')]
    .filter(box => !box.closest('table, pre, .katex') && plain(box) && box.textContent.trim())
    .filter(box => box.tagName === 'text' || getComputedStyle(box).position === 'absolute')
    .filter(box => box.checkVisibility({opacityProperty: true, visibilityProperty: true}))
    .map(box => [box.textContent.trim(), box.getBoundingClientRect()]);
  return shown.flatMap(([said, one], i) => shown.slice(0, i)
    .filter(([, other]) => Math.min(one.right, other.right) - Math.max(one.left, other.left) > -2
      && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 2)
    .map(([other]) => `${other} | ${said}`));
})"""
UNNAMED_FOLDS = """() => [...document.querySelectorAll('.bd-article summary')]
  .filter(fold => fold.ariaLabel || !fold.innerText.trim()).map(fold => fold.outerHTML.slice(0, 90))"""

BROKEN_WORDS = """() => [...document.querySelectorAll('.bd-article :is(td, th) p')].flatMap(cell => {
  const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), found = [];
  for (let text; (text = texts.nextNode()); ) {
    if (text.parentElement.closest('code, .katex')) continue;
    for (const word of text.data.matchAll(/[A-Za-z]{2,}/g)) {
      const range = document.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1) found.push(word[0]);
    }
  }
  return found;
})"""

# Each control takes the focus when Tab comes to it, and something of it changes then or it has an outline.
OUT_OF_REACH = """() => {
  for (const fold of document.querySelectorAll('details')) fold.open = true;
  const still = document.head.appendChild(document.createElement('style'));
  still.textContent = '*, *::before, *::after { transition: none !important; }';
  const looks = box => {
    const style = getComputedStyle(box);
    return [style.boxShadow, style.backgroundColor, style.borderColor, style.opacity, style.color].join();
  };
  const found = [];
  const controls = 'button, input, select, textarea, summary, [role=slider], [role=button]';
  for (const box of document.querySelectorAll(controls)) {
    if (box.disabled || box.type === 'hidden' || !box.checkVisibility({visibilityProperty: true})) continue;
    const before = looks(box), said = box.outerHTML.slice(0, 100);
    if (box.tabIndex < 0) { found.push(`no Tab reaches ${said}`); continue; }
    box.focus({preventScroll: true});
    const unseen = getComputedStyle(box).outlineStyle === 'none' && looks(box) === before;
    if (document.activeElement !== box) found.push(`takes no focus: ${said}`);
    else if (unseen) found.push(`focus is not seen: ${said}`);
    box.blur();
  }
  still.remove();
  return found;
}"""


def bars(page: Page) -> list[str]:
    return [f"a scrollbar in the line: {text}" for text in page.evaluate(BARS)]


def sideways(page: Page) -> list[str]:
    return [f"the page scrolls sideways: {what}" for what in page.evaluate(SIDEWAYS)]


def bare(page: Page) -> list[str]:
    return [f"a chapter that is no link: {text}" for text in page.evaluate(BARE)]


def unnamed_folds(page: Page) -> list[str]:
    return [f"a fold without a name of its own: {fold}" for fold in page.evaluate(UNNAMED_FOLDS)]


def out_of_reach(page: Page) -> list[str]:
    """Controls that the keyboard does not reach, or that do not show it."""
    page.keyboard.press(
        "Tab"
    )  # from now on, the browser shows the focus as for a reader who uses the keyboard
    return [*dict.fromkeys(page.evaluate(OUT_OF_REACH))][:8]


def broken_words(page: Page) -> list[str]:
    return [f"a word of a table is broken inside: {word}" for word in page.evaluate(BROKEN_WORDS)]


def labels(page: Page) -> list[str]:
    return [f"two labels touch: {both}" for both in page.evaluate(LABELS)]


def inaccessible(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    options = {
        "resultTypes": ["violations"],
        "preload": False,
    }  # it would ask for style sheets at wrong addresses
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{rule['impact']}, {rule['id']}: {node['html'][:120]}"
        for rule in found
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"][:3]
    ]


def cut_equations(page: Page) -> list[str]:
    """Equations of which a pixel changes when what lies outside their boxes is shown as well."""
    page.evaluate(LOADED)
    boxes, cut = sorted(page.evaluate(EQUATIONS), key=lambda box: box[1]), []
    size = page.viewport_size or {}
    page.set_viewport_size({**size, "height": 2400})
    while boxes:
        top = boxes[0][1] - 100
        page.evaluate("top => scrollTo({top, behavior: 'instant'})", top)
        at = page.evaluate("() => scrollY")
        here = [box for box in boxes if box[3] + 20 < at + 2400] or boxes[:1]
        boxes = boxes[len(here) :]
        before = _look(page)
        style = page.add_style_tag(content=SHOWN)
        shown = _look(page)
        style.evaluate("style => style.remove()")
        changed = _changed(before, shown)
        if changed.getbbox():  # by the rule alone: what moved by itself differs from only one of the two
            changed = ImageChops.darker(changed, _changed(_look(page), shown))
        scale = before.width / size["width"]
        for left, upper, right, lower in here:
            area = (left, upper - at - 12, right, lower - at + 12)
            if changed.crop(tuple(int(side * scale) for side in area)).getbbox():
                cut.append(f"an equation is cut, {upper:.0f} px down the page")
    page.set_viewport_size(size)
    return cut


def _changed(one: Image.Image, other: Image.Image) -> Image.Image:
    """Ink that was cut is dark on light or light on dark; smoothing alone moves a pixel by 1 of 255."""
    return ImageChops.difference(one, other).point(lambda level: 255 * (level > 32))


def _look(page: Page) -> Image.Image:
    shot = page.screenshot(animations="disabled", caret="hide")
    return Image.open(io.BytesIO(shot)).convert("RGB")
