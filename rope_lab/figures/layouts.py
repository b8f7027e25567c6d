"""Figures of chapter 5: which coordinates turn together, how rows move, what a mix-up costs, how fast a form runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Rectangle
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, ink, new_figure

Pairs = Sequence[tuple[int, int]]
_PALETTE = (COLORS["blue"], COLORS["vermilion"], COLORS["green"], COLORS["purple"])  # of the pairs


def pairings(named: Mapping[str, Pairs]) -> Figure:
    """One row per pairing: the coordinates of a head as boxes, an arc between the two of each pair.

    Args:
        named: pairs (a, b) in the order of their frequencies, under the name of the pairing.
    """
    figure, rows = new_figure(len(named), 1, size=(7.5, 1.5 * len(named)), squeeze=False)
    for axes, (name, pairs) in zip(rows[:, 0], named.items(), strict=True):
        _pairing(axes, pairs)
        axes.text(-0.42, 2.35, name, va="top", fontsize=12)
    return figure


def _pairing(axes: Axes, pairs: Pairs) -> None:
    for i, (a, b) in enumerate(pairs):
        color, middle, width = ink(_PALETTE[i % len(_PALETTE)]), (a + b) / 2, abs(b - a)
        height = 0.35 + 0.12 * width
        for j in (a, b):
            axes.add_patch(Rectangle((j - 0.42, 0), 0.84, 0.84, facecolor=color, edgecolor="none"))
            axes.text(j, 0.42, rf"$x_{j}$", ha="center", va="center", color="white", fontsize=14)
        axes.add_patch(Arc((middle, 0.9), width, 2 * height, theta1=0, theta2=180, color=color, lw=2))
        label = rf"$\theta_{i}$"
        axes.text(middle, 0.93 + height, label, ha="center", va="bottom", color=color, fontsize=14)
    axes.set(xlim=(-0.6, 2 * len(pairs) - 0.4), ylim=(-0.05, 2.5))
    axes.axis("off")


def conversion(orders: Mapping[str, ArrayLike], heads: int) -> Figure:
    """The rows of a projection before and after a reordering, coloured by the interleaved pair they belong to.

    Args:
        orders: for each panel its title and, row by row, which of the original rows is there now, shape (rows,).
        heads: the true number of heads; a gap separates them.
    """
    figure, panels = new_figure(1, len(orders), size=(7.5, 5.2), squeeze=False)
    for axes, (title, order) in zip(panels[0], orders.items(), strict=True):
        moved = np.asarray(order)
        head_dim = len(moved) // heads
        height = [-(row + 0.7 * (row // head_dim)) for row in range(len(moved))]
        for place, row in enumerate(moved):
            color = ink(_PALETTE[row % head_dim // 2 % len(_PALETTE)])
            axes.plot([0.84, 2.16], [height[row], height[place]], color=color, linewidth=1.5)
            for left, level in ((0, height[row]), (2.16, height[place])):
                axes.add_patch(Rectangle((left, level - 0.42), 0.84, 0.84, facecolor=color, edgecolor="none"))
                axes.text(left + 0.42, level, str(row), ha="center", va="center", color="white", fontsize=12)
        for head in range(heads):
            level = (height[head * head_dim] + height[(head + 1) * head_dim - 1]) / 2
            axes.text(-0.15, level, f"head {head}", ha="right", va="center", rotation=90, fontsize=12)
        axes.set(xlim=(-0.6, 3.2), ylim=(height[-1] - 0.6, 0.6))
        axes.set_title(title, loc="center")
        axes.axis("off")
    return figure


def mismatch(distances: ArrayLike, errors: Mapping[str, ArrayLike]) -> Figure:
    """Error of the scores against the distance of query and key, one line for each way to mix up layouts."""
    figure, axes = new_figure(size=(7.5, 3.8))
    x = np.asarray(distances)
    styles = ("-", "--", "-.", ":")
    for (name, error), color, style in zip(errors.items(), COLORS.values(), styles, strict=False):
        y = np.asarray(error)
        axes.plot(x, y, color=color, linestyle=style, label=name)
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set(xlabel="distance of query and key (tokens)", ylabel="error / size of the correct score")
    axes.set_ylim(-0.05, 1.6)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=12, frameon=False, handlelength=2.5)
    return figure


def same_training(losses: Mapping[str, ArrayLike]) -> Figure:
    """Training loss against the update, one line per layout, each narrower than the last."""
    figure, axes = new_figure()
    colors = list(COLORS.values())
    for i, (name, loss) in enumerate(losses.items()):
        axes.plot(np.asarray(loss), color=colors[i], linewidth=(8, 4.5, 1.2)[i], label=name)
    axes.set(xlabel="update", ylabel="loss (nats per token)")
    axes.legend(loc="upper right", fontsize=12, frameon=False)
    return figure


def walks(kilobytes: ArrayLike, ratios: Mapping[str, ArrayLike]) -> Figure:
    """Time of each walk through a tensor in units of the walk over two separate blocks, against its size."""
    figure, axes = new_figure(size=(7.5, 3.8))
    x = np.asarray(kilobytes, dtype=float)
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    axes.text(x[0], 0.93, "two separate blocks", color=GREY, va="top", fontsize=12)
    for (name, ratio), color, marker in zip(ratios.items(), COLORS.values(), "os", strict=False):
        axes.plot(x, np.asarray(ratio), f"{marker}-", color=color, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [f"{int(k)} KB" if k < 1024 else f"{int(k) // 1024} MB" for k in x])
    axes.set(xlabel="size of the tensor", ylabel="time / time over blocks")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", fontsize=12, frameon=False)
    return figure


def speed(ratios: Mapping[str, float], emphasised: Sequence[str] = ()) -> Figure:
    """One bar per form: its time in units of one copy of the tensor."""
    figure, axes = new_figure(size=(7.5, 0.45 * len(ratios) + 1.0))
    for row, (name, value) in enumerate(ratios.items()):
        color = COLORS["blue"] if name in emphasised else GREY
        axes.barh(row, value, height=0.6, color=color)
        axes.text(value, row, f" {value:.1f}", va="center", color=color, fontsize=12)
    axes.axvline(1, color=COLORS["black"], linestyle="--", linewidth=1)
    axes.set_yticks(range(len(ratios)), list(ratios))
    axes.invert_yaxis()
    axes.set(xlabel="time / time of x.clone()", xlim=(0, 1.1 * max(ratios.values())))
    return figure
