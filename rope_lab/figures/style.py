"""The plot style of the book: colour-blind-safe, legible in greyscale, opaque on light and dark pages.

Words in the colour of a line are darkened until they can be read: see `ink`. In an SVG they are outlines, so that a
figure looks the same whatever fonts the reader has.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike, NDArray

# Okabe & Ito's palette, ordered so that neighbours also differ in lightness (and so in greyscale)
COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "black": "#222222",
}
GREY = "#767676"
GROUND = "#FCFCFA"
READABLE = 5.0  # contrast of words; accessibility asks for 4.5, and the page dims figures in its dark mode

_RC: Any = {
    "figure.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "savefig.facecolor": GROUND,
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.07,  # inches: no title touches the edge
    "svg.fonttype": "path",
    "svg.hashsalt": "rope_lab",
    "font.family": "sans-serif",
    "font.size": 12,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=list(COLORS.values())),
    "axes.grid": False,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
}


class Drawing(Figure):
    """A figure that a notebook shows automatically, which one made without pyplot otherwise does not."""

    def draw(self, renderer: Any) -> None:
        for text in self.findobj(Text):
            if (color := to_hex(text.get_color())) in _INKS:
                text.set_color(_INKS[color])
        super().draw(renderer)

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        with mpl.rc_context(_RC):
            super().savefig(*args, **kwargs)

    def _repr_svg_(self) -> str:
        return to_svg(self)


def to_svg(figure: Figure) -> str:
    """The figure as SVG text that names neither date nor version, so that equal figures give equal text.

    Decimals end at a hundredth of a point, which halves the size of a figure with long lines. Empty strips above and
    below, as panels of equal scales leave them, are cut off; the width stays the same, and with it the size of words
    on a page.
    """
    buffer = io.StringIO()
    with mpl.rc_context(_RC):
        for _ in range(3):  # words that overhang a panel let a layout settle only after a few rounds
            figure.draw_without_rendering()
        figure.set_layout_engine(
            "none"
        )  # laid out again while it is saved, it would move under the frame below
        (width, height), drawn = figure.get_size_inches(), figure.get_tightbbox()
        pad = _RC["figure.constrained_layout.h_pad"]
        kept = Bbox.from_extents(0, max(0, drawn.y0 - pad), width, min(height, drawn.y1 + pad))
        figure.savefig(buffer, format="svg", bbox_inches=kept, metadata={"Date": None, "Creator": None})
    text = re.sub(r'(?<= d=")[^"]*', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), buffer.getvalue())
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def contrast(color: str, ground: str = GROUND) -> float:
    """The contrast of a colour with the ground, from 1 (none) to 21.

    Source: W3C, Web Content Accessibility Guidelines 2.1, contrast ratio.
    """
    low, high = sorted((_luminance(color), _luminance(ground)))
    return (high + 0.05) / (low + 0.05)


def ink(color: str) -> str:
    """The colour itself or its least darkened shade in which words can be read on the ground of a figure."""
    rgb = np.array(to_rgb(color))
    shades = (to_hex(rgb * part) for part in np.linspace(1, 0, 201))
    return next(shade for shade in shades if contrast(shade) >= READABLE)


def _luminance(color: str) -> float:
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


_INKS = {to_hex(color): ink(color) for color in [*COLORS.values(), GREY]}


def new_figure(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (7.5, 3.6), **subplots: Any
) -> tuple[Figure, Any]:
    """A styled figure and its axes, as `plt.subplots` gives them, without the global pyplot state.

    Args:
        rows, columns: of the grid of axes.
        size: width and height in inches; 7.5 fills the text column.
        subplots: passed on to `Figure.subplots` (sharex, width_ratios, …).
    """
    with mpl.rc_context(_RC):
        figure = Drawing(figsize=size, layout="constrained", facecolor=_RC["figure.facecolor"])
        axes = figure.subplots(rows, columns, **subplots)
    return figure, axes


def direct_label(axes: Axes, x: float, y: float, text: str, color: str, **kwargs: Any) -> None:
    """Write `text` next to a line in the line's own colour, instead of a legend."""
    axes.annotate(
        text,
        (x, y),
        xytext=(4, 0),
        textcoords="offset points",
        color=color,
        va="center",
        fontsize=12,
        **kwargs,
    )


def apart(heights: Sequence[float], least: float) -> list[float]:
    """Heights moved up just enough that no two labels touch, in the order given."""
    placed = list(heights)
    order = sorted(range(len(placed)), key=lambda i: placed[i])
    for below, above in pairwise(order):
        placed[above] = max(placed[above], placed[below] + least)
    return placed


def thinned(x: ArrayLike, y: ArrayLike, stretches: int = 1000) -> tuple[NDArray[Any], NDArray[Any]]:
    """A dense curve reduced to the lowest and highest point of each of many equal stretches, which looks the same.

    Args:
        x, y: shape (N,), x evenly spaced.
        stretches: their number; two per pixel of the width are enough.
    """
    x, y = np.asarray(x), np.asarray(y)
    if len(x) <= 2 * stretches:
        return x, y
    kept = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), stretches):
        kept |= {int(part[y[part].argmin()]), int(part[y[part].argmax()])}
    order = sorted(kept)
    return x[order], y[order]
