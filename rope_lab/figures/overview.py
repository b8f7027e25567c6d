"""RoPE at a glance: the picture on the welcome page."""

from __future__ import annotations

import math

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge

from rope_lab.encodings import angles, frequencies
from rope_lab.figures.style import COLORS, GREY, new_figure

INK = COLORS["black"]
POSITIONS = 8
FIRST, SECOND = (1, 3), (5, 7)  # two pairs of tokens, both two apart


def rope_at_a_glance() -> Figure:
    """The two pairs of coordinates of a head with D = 4 as hands of a clock, at positions 0 to 7.

    Base 16 instead of 10,000, so that the slow hand (θ_1 = 1/4) can be seen to turn. Hands start at three
    o'clock and turn counter-clockwise. The last row draws hands on top of each other: every angle between them is (m
    − n)·θ_i.
    """
    table = angles(torch.arange(POSITIONS), frequencies(4, base=16.0)).tolist()
    figure, axes = new_figure(size=(7.5, 5.6))
    axes.set(xlim=(-0.75, POSITIONS - 0.25), ylim=(-4.98, 0.8), aspect="equal")
    axes.axis("off")
    colors = dict.fromkeys(FIRST, COLORS["blue"]) | dict.fromkeys(SECOND, COLORS["vermilion"])
    for row, (pair, title) in enumerate((("fast pair", "θ₀ = 1"), ("slow pair", "θ₁ = ¼"))):
        y = -1.75 * row
        _text(axes, -0.45, y + 0.66, f"{pair}, {title} radian per token", ha="left")
        for position in range(POSITIONS):
            _clock(axes, position, y, 0.42)
            color = colors.get(position, GREY)
            _hand(axes, position, y, 0.42, table[position][row], color)
            _text(axes, position, y - 0.62, str(position), color=color)

    y = -4.05
    title = "drawn on top of each other: the angle between two hands depends only on m − n"
    _text(axes, -0.45, y + 0.94, title, ha="left")
    for column, (row, (n, m)) in enumerate((row, pair) for row in (0, 1) for pair in (FIRST, SECOND)):
        x, color = 0.5 + 2 * column, colors[m]
        _clock(axes, x, y, 0.6)
        start, end = (math.degrees(table[position][row]) for position in (n, m))
        axes.add_patch(Wedge((x, y), 0.45, start, end, facecolor=color, alpha=0.25, linewidth=0))
        for position in (n, m):
            _hand(axes, x, y, 0.6, table[position][row], color)
        _text(axes, x, y - 0.79, f"{n} and {m}: 2{'θ₀' if row == 0 else 'θ₁'}", color=color)
    return figure


def _clock(axes: Axes, x: float, y: float, radius: float) -> None:
    axes.add_patch(Circle((x, y), radius, facecolor="white", edgecolor="#BBBBBB", linewidth=1.0))


def _hand(axes: Axes, x: float, y: float, radius: float, angle: float, color: str) -> None:
    tip = (x + 0.92 * radius * math.cos(angle), y + 0.92 * radius * math.sin(angle))
    arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 2.0, "mutation_scale": 10}
    axes.annotate("", xy=tip, xytext=(x, y), arrowprops=arrow | {"shrinkA": 0, "shrinkB": 0})


def _text(axes: Axes, x: float, y: float, text: str, *, color: str = INK, ha: str = "center") -> None:
    axes.text(x, y, text, color=color, ha=ha, va="center", fontsize=12)
