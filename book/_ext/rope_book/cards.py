"""The picture of a link to a page where it is shared: its title beside a clock, whose hand q has turned by the chapter.

A picture must have a full address there, so pictures are drawn only where the address of the book is known.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from sphinx.application import Sphinx

from rope_book.chapters import number

SIZE = (1200, 630)
GROUND, INK, FAINT, Q, K, WEDGE = "#fcfcfa", "#22262b", "#6a717b", "#0072b2", "#b35900", "#cfe6df"
STEP = 20  # degrees per chapter
FINE = 2  # drawn larger and reduced, since lines of PIL have stairs
FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")
ROOM = 690  # px for the title


def path(docname: str) -> str:
    """Where the picture of a page is, as seen from the root of the site."""
    return f"_static/cards/{docname.replace('/', '_')}.png"


def _font(size: int, *, bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONTS / f"DejaVuSans{'-Bold' * bold}.ttf"), size * FINE)


def lines(title: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """The words of a title in lines that fit."""
    found = [""]
    for word in title.split():
        longer = f"{found[-1]} {word}".strip()
        if font.getlength(longer) <= ROOM * FINE:
            found[-1] = longer
        else:
            found.append(word)
    return [line for line in found if line]


def card(title: str, above: str, below: str, turned: int) -> Image.Image:
    """The picture of one page.

    Args:
        title: as large as four lines allow.
        above: a few words over it.
        below: the name of the book.
        turned: how many steps hand q has made.
    """
    image = Image.new("RGB", (SIZE[0] * FINE, SIZE[1] * FINE), GROUND)
    draw = ImageDraw.Draw(image)
    for size in (68, 60, 52, 44, 36):
        font = _font(size, bold=True)
        text = lines(title, font)
        fits = all(font.getlength(line) <= ROOM * FINE for line in text)
        if fits and len(text) * size * 1.25 <= 330:
            break
    top = 130
    draw.text((70 * FINE, 70 * FINE), above, font=_font(30, bold=False), fill=Q)
    for line in text:
        draw.text((70 * FINE, top * FINE), line, font=font, fill=INK)
        top += round(size * 1.25)
    draw.text((70 * FINE, 530 * FINE), below, font=_font(30, bold=False), fill=FAINT)
    _clock(draw, (975, 315), 165, 0.7, 0.7 + math.radians(STEP * turned))
    return image.resize(SIZE, Image.Resampling.LANCZOS)


def _clock(draw: ImageDraw.ImageDraw, centre: tuple[int, int], radius: int, k: float, q: float) -> None:
    x, y = (side * FINE for side in centre)
    r = radius * FINE
    box = (x - r, y - r, x + r, y + r)
    inner = (x - r // 2, y - r // 2, x + r // 2, y + r // 2)
    draw.pieslice(inner, -math.degrees(q), -math.degrees(k), fill=WEDGE)
    draw.ellipse(box, outline="#b9bcc0", width=3 * FINE)
    for degrees in range(0, 360, STEP):
        edge = [
            (x + s * math.cos(math.radians(degrees)), y + s * math.sin(math.radians(degrees)))
            for s in (r, 0.94 * r)
        ]
        draw.line(edge, fill="#b9bcc0", width=2 * FINE)
    for angle, length, colour in ((k, 0.72 * r, K), (q, 0.9 * r, Q)):
        along, across = (math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))
        draw.line(
            [(x, y), (x + 0.9 * length * along[0], y + 0.9 * length * along[1])], fill=colour, width=9 * FINE
        )
        tip, foot, half = length, length - 30 * FINE, 15 * FINE
        arrow = [
            (x + a * along[0] + b * across[0], y + a * along[1] + b * across[1])
            for a, b in ((tip, 0), (foot, half), (foot, -half))
        ]
        draw.polygon(arrow, fill=colour)


def write(image: Image.Image, file: Path) -> None:
    """As a PNG of few colours, which is a third as large."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(48).save(file, optimize=True)


def of_page(docname: str, title: str, book: str) -> Image.Image:
    chapter = number(docname)
    words = re.sub(r"^\d+\s*(·\s*)?", "", title)
    above = f"Chapter {chapter}" if chapter is not None else "RoPE"
    return card(words, above, "" if words == book else book, 3 if chapter is None else chapter)


def _draw(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.name == "html" and app.config.html_baseurl:
        for name in app.env.found_docs:
            image = of_page(name, app.env.titles[name].astext(), app.config.html_title)
            write(image, Path(app.outdir, path(name)))


def setup(app: Sphinx) -> None:
    app.connect("build-finished", _draw)
