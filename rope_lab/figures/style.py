"""The one plot style: colour-blind-safe, legible in greyscale, opaque on light and dark pages."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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

_RC: Any = {
    "figure.facecolor": "#FCFCFA",
    "axes.facecolor": "#FCFCFA",
    "savefig.facecolor": "#FCFCFA",
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.07,  # inches: no title touches the edge
    "svg.fonttype": "none",
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
    """A figure that a notebook shows by itself: one made without pyplot has no picture of its own."""

    def _repr_svg_(self) -> str:
        buffer = io.StringIO()
        with mpl.rc_context(_RC):
            self.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return buffer.getvalue()


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
    """Write `text` beside a line in the line's own colour, instead of a legend."""
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
