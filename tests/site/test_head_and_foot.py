"""What is in the head of every page and below it, and what is beside the pages: 404, sitemap, robots."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages import SITE, TEXTS

HOME = re.search(
    r'rel="canonical" href="([^"]*)book/index\.html"', (SITE / "book/index.html").read_text("utf-8")
)


def meta(html: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for tag in re.findall(r"<meta [^>]*>", html):
        name, content = (re.search(rf'\b{part}="([^"]*)"', tag) for part in ("(?:name|property)", "content"))
        if name and content:
            found.setdefault(name[1], []).append(unescape(content[1]))
    return found


def file_of(address: str) -> Path:
    """The file that a full address of the site leads to."""
    assert HOME
    assert address.startswith(HOME[1])
    return SITE / (address.removeprefix(HOME[1]) or "index.html")


@pytest.mark.parametrize("name", TEXTS)
def test_a_page_says_what_it_is(name: str) -> None:
    html = (SITE / name).read_text("utf-8")
    said = meta(html)
    for tag in ("description", "citation_title", "citation_author", "og:title", "og:description", "viewport"):
        assert len(said.get(tag, [])) == 1, tag
        assert said[tag][0].strip()
    assert len(said["description"][0]) <= 160
    assert len(said["theme-color"]) == 2  # light and dark
    assert re.fullmatch(r"\d{4}/\d\d/\d\d", said["citation_publication_date"][0])
    icon = re.search(r'<link rel="icon" href="([^"]*)"', html)
    assert icon
    assert (SITE / name).parent.joinpath(icon[1]).resolve().is_file()
    if HOME:
        assert f'<link rel="canonical" href="{HOME[1]}{name}" />' in html
        picture = file_of(said["og:image"][0])
        assert picture.stat().st_size <= 40_000
        assert said["og:url"] == [HOME[1] + name]


def test_no_two_pages_say_the_same_of_themselves() -> None:
    said = [meta((SITE / name).read_text("utf-8")) for name in TEXTS]
    for tag in ("description", "citation_title", "og:title"):
        assert len({one[tag][0] for one in said}) == len(said), tag


@pytest.mark.parametrize("name", TEXTS)
def test_below_a_page_is_what_built_it(name: str) -> None:
    html = (SITE / name).read_text("utf-8")
    foot = html[html.index('class="bd-footer-content"') :]
    counted = re.search(r"<strong>([\d,]+) checks passed in", (SITE / "book/ledger.html").read_text("utf-8"))
    assert counted
    assert re.search(
        rf"Built on \d+ \w+ 20\d\d with torch [\d.]+; <a [^>]*>{counted[1]} checks passed</a>", foot
    )
    assert "@misc{rope_lab_" in foot
    asked = re.findall(r'class="headerlink rope-wrong" href="([^"]*)"', html)
    assert bool(asked) == bool(HOME)
    for address in asked:
        place = re.search(r"title=([^&]*)", address)
        assert place
        assert place[1].startswith(name.removesuffix(".html").replace("/", "%2F") + "%23")


def test_no_address_is_missing_beside_the_pages() -> None:
    robots, lost = ((SITE / name).read_text("utf-8") for name in ("robots.txt", "404.html"))
    assert "Disallow" not in robots
    addresses = re.findall(r'href="([^"]*)"', lost)
    assert len(addresses) > 1
    for address in addresses:
        assert (file_of(address) if urlsplit(address).scheme else SITE / address).is_file(), address
    if HOME:
        assert f"Sitemap: {HOME[1]}sitemap.xml" in robots
        listed = re.findall(r"<loc>(.*?)</loc>", (SITE / "sitemap.xml").read_text("utf-8"))
        assert sorted(file_of(one).relative_to(SITE).as_posix() for one in listed) == sorted(TEXTS)
        assert all(file_of(one).is_file() for one in listed)


def test_the_type_needs_no_font_of_its_own() -> None:
    """Three families of the reader's system: nothing is fetched for words, so no line moves."""
    for name in ("type.css", "rope.css", "print.css"):
        assert "@font-face" not in (SITE / "_static" / name).read_text("utf-8")


def test_paper_is_light_and_shows_all_code(browser, address) -> None:
    page = browser.new_page(color_scheme="dark", viewport={"width": 700, "height": 900})
    page.goto(f"{address}notebooks/03_deriving_rope.html", wait_until="load")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    seen = page.evaluate("""() => {
      const code = [...document.querySelectorAll('.bd-article pre')];
      return {
        ground: getComputedStyle(document.body).backgroundColor,
        ink: getComputedStyle(document.querySelector('.bd-article p')).color,
        cut: code.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.textContent.slice(0, 50)),
        bound: code.filter(box => box.closest('div[class*="highlight-"]'))
          .filter(box => getComputedStyle(box.closest('div[class*="highlight-"]')).breakInside !== 'auto').length,
        dead: [...document.querySelectorAll('.bd-article :is(input, button)')]
          .filter(box => box.checkVisibility()).length,
      };
    }""")
    assert seen == {"ground": "rgb(255, 255, 255)", "ink": "rgb(0, 0, 0)", "cut": [], "bound": 0, "dead": 0}
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.close()
