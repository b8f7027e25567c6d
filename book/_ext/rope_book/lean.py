"""Style sheets and icons without what no page of the book uses: the theme brings those of every site there might be.

A rule goes where it needs a class that stands in no page and in no script. The fonts of icons keep the icons left. What
is left is one file, since a page is not seen before each of its style sheets has come.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from fontTools import subset
from sphinx.application import Sphinx

SHEETS = ("styles/pydata-sphinx-theme.css", "styles/sphinx-book-theme.css", "mystnb.*.css")
# Every page asks for these, in this order.
JOINED = ("styles/theme.css", SHEETS[0], "pygments.css", *SHEETS[1:])
TOGETHER = "styles/together.css"
ICONS = "vendor/fontawesome/webfonts"
# Names that a script puts together while the page is read: bs-tooltip-auto.
MADE = ("bs-",)
NESTED = ("@media", "@supports")
SCRIPT = re.compile(r"<script\b[^>]*>(.*?)</script>", re.DOTALL)
LINK = re.compile(r'<link\b[^>]*\bhref="[^"]*_static/(?P<name>[\w./-]+\.css)[^>]*>\s*')
OPTIONS = re.compile(r'<script src="[^"]*_static/documentation_options\.js[^"]*"></script>')
CLASSES = re.compile(r'\bclass="([^"]*)"')
WORD = re.compile(r"[\w-]+")


def words(pages: Iterable[str], scripts: Iterable[str]) -> set[str]:
    """What may be the name of a class: the classes of the pages, and every word of a script."""
    found: set[str] = set()
    for page in pages:
        for classes in CLASSES.findall(page):
            found.update(classes.split())
        for script in SCRIPT.findall(page):
            found.update(WORD.findall(script))
    for script in scripts:
        found.update(WORD.findall(script))
    return found


def blocks(css: str) -> Iterator[tuple[str, str | None]]:
    """The rules of a style sheet, what stands before the brace and what stands in it; None: no brace, as @charset."""
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    start, opened, depth = 0, 0, 0
    for mark in re.finditer(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|url\([^)"\']*\)|[{};]', css):
        if mark[0] == ";" and depth == 0:
            yield css[start : mark.end()].strip(), None
            start = mark.end()
        elif mark[0] == "{":
            depth += 1
            opened = mark.end() if depth == 1 else opened
        elif mark[0] == "}":
            depth -= 1
            if depth == 0:
                yield css[start : opened - 1].strip(), css[opened : mark.start()].strip()
                start = mark.end()


def _needed(selector: str, used: set[str]) -> bool:
    flat = re.sub(r"\[[^]]*\]", "", selector)
    while flat != (flat := re.sub(r"\([^()]*\)", "", flat)):  # :not(.a) needs no a, and :is(.a, .b) not both
        pass
    if "\\" in flat:
        return True
    return all(name in used or name.startswith(MADE) for name in re.findall(r"\.([A-Za-z_-][\w-]*)", flat))


def pruned(css: str, used: set[str]) -> str:
    """The style sheet without the selectors that need a class nobody uses.

    Args:
        css: the text of the style sheet.
        used: names of classes that pages have or get.
    """
    kept = []
    for before, inside in blocks(css):
        if inside is None:
            kept.append(before)
        elif before.startswith(NESTED):
            if within := pruned(inside, used):
                kept.append(f"{before}{{{within}}}")
        elif before.startswith("@"):
            kept.append(f"{before}{{{inside}}}")
        else:
            selectors = [one for one in re.split(r",(?![^()]*\))", before) if _needed(one, used)]
            if selectors:
                kept.append(f"{','.join(selectors)}{{{inside}}}")
    return "".join(kept)


def icons(css: str) -> set[int]:
    """The characters of private use that the rules of a style sheet write."""
    written = {int(code, 16) for code in re.findall(r'"\\([ef][0-9a-f]{3})"', css)}
    return written | {ord(letter) for letter in re.findall("[\ue000-\uf8ff]", css)}


def joined(page: str, names: Collection[str], options: str) -> str:
    """The page with one link to the style sheets of these names, and with the options of its scripts in itself."""
    links = [link for link in LINK.finditer(page) if link["name"] in names]
    for link in reversed(links[1:]):
        page = page[: link.start()] + page[link.end() :]
    if links:
        one = re.sub(r"_static/[^\"]*", f"_static/{TOGETHER}", links[0][0])
        page = page.replace(links[0][0], one, 1)
    return OPTIONS.sub(lambda _: f"<script>{options.strip()}</script>", page)


def _lighten(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.name != "html":
        return
    static = Path(app.outdir) / "_static"
    pages = (path.read_text("utf-8") for path in Path(app.outdir).rglob("*.html"))
    scripts = (path.read_text("utf-8") for path in static.rglob("*.js") if "weights" not in path.name)
    used = words(pages, scripts)
    for path in (path for name in SHEETS for path in static.glob(name)):
        css = pruned(path.read_text("utf-8"), used)
        css = re.sub(rf',url\([^)]*/{ICONS}/[\w-]+\.ttf\) format\("truetype"\)', "", css)
        css = re.sub(rf'({ICONS}/[\w-]+\.woff)2\) format\("woff2"\)', r'\1) format("woff")', css)
        path.write_text(css, "utf-8")
    drawn = set().union(*(icons(path.read_text("utf-8")) for path in static.rglob("*.css")))
    for path in (static / ICONS).glob("*.ttf"):
        _cut(path, drawn)
    sheets = {path.relative_to(static).as_posix(): path for name in JOINED for path in static.glob(name)}
    together = "\n".join(
        path.read_text("utf-8").removeprefix('@charset "UTF-8";') for path in sheets.values()
    )
    (static / TOGETHER).write_text(f'@charset "UTF-8";{together}', "utf-8")
    options = (static / "documentation_options.js").read_text("utf-8")
    for path in Path(app.outdir).rglob("*.html"):
        path.write_text(joined(path.read_text("utf-8"), sheets, options), "utf-8")


def _cut(path: Path, characters: set[int]) -> None:
    """The font with those characters alone, packed for the web."""
    font = subset.load_font(str(path), options := subset.Options(flavor="woff", layout_features=[]))
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=characters)
    cutter.subset(font)
    subset.save_font(font, str(path.with_suffix(".woff")), options)
    path.unlink()
    path.with_suffix(".woff2").unlink(missing_ok=True)


def _as_they_came(app: Sphinx) -> None:
    """Sphinx warns where it would write over a style sheet that is not the theme's."""
    if app.builder.name == "html":
        for name in SHEETS:
            for path in Path(app.outdir, "_static").glob(name):
                path.unlink()


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", _as_they_came, priority=100)  # before others bring theirs
    app.connect("build-finished", _lighten, priority=900)  # when every page and script is written
