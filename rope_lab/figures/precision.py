"""Figures of chapter 8: what rounding costs in angles, in a model's loss and in a cache that is shifted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, direct_label, new_figure

_POSITION = "position m"


def _ten(axes: Axes, last: float) -> None:
    """A logarithmic axis of positions with a tick at every second power of ten."""
    powers = [10**power for power in range(0, 9, 2) if 10**power <= last]
    names = {1: "1", 100: "100", 10_000: "10,000", 1_000_000: "a million"}
    axes.set_xscale("log")
    axes.set_xticks(powers, [names.get(power, f"{power:,}") for power in powers])
    axes.set_xticks([10**power for power in range(1, 9, 2) if 10**power <= last], minor=True, labels="")


def angle_errors(
    positions: ArrayLike, errors: Mapping[str, ArrayLike], bounds: Mapping[str, ArrayLike]
) -> Figure:
    """The largest error of an angle at every position, by number type, below its bound (dashed).

    Args:
        positions: shape (N,), positive and increasing.
        errors: number type → the largest error over the pairs in radians, shape (N,); nan where it overflows.
        bounds: the same number types → the bound in radians, shape (N,).
    """
    x = np.asarray(positions, dtype=float)
    figure, axes = new_figure(size=(7.5, 3.9))
    axes.axhline(np.pi, color=GREY, linewidth=1)
    axes.text(1.2, np.pi * 1.3, "half a turn", color=GREY, fontsize=12, va="bottom")
    for (name, error), color in zip(errors.items(), COLORS.values(), strict=False):
        y, bound = np.asarray(error, dtype=float), np.asarray(bounds[name], dtype=float)
        axes.plot(x, bound, "--", color=color, linewidth=1.2)
        axes.plot(x, np.where(y > 0, y, np.nan), ".", color=color, markersize=4)
        dots = np.flatnonzero(np.isfinite(y) & (y > 0))[-5:]  # to the right of them, the height is free
        direct_label(axes, float(x[dots[-1]]), float(np.median(y[dots])), name, color)
    _ten(axes, float(x[-1]))
    axes.set(xlabel=_POSITION, ylabel="largest error of an\nangle (radians)", yscale="log")
    axes.set_xlim(1, float(x[-1]) * 8)
    axes.set_ylim(bottom=1e-8)
    return figure


def losses_by_position(
    positions: ArrayLike, losses: Mapping[str, ArrayLike], levels: Mapping[str, float]
) -> Figure:
    """The loss of one trained model against the position at which its text begins, by what is rounded.

    Args:
        positions: shape (N,), positive and increasing.
        losses: label → nats per character, shape (N,); nan where angles overflow.
        levels: label → a loss that no position changes, drawn as a grey line with its label above it.
    """
    x = np.asarray(positions, dtype=float)
    figure, axes = new_figure(size=(7.5, 4.2))
    for name, level in levels.items():
        axes.axhline(level, color=GREY, linewidth=1, linestyle="--")
        axes.text(x[0], level, name, color=GREY, fontsize=12, va="bottom")
    styles: Sequence[dict[str, Any]] = ({"marker": "o"}, {"marker": "s"}, {"marker": "^"}, {"marker": "D"})
    for index, ((name, loss), color) in enumerate(zip(losses.items(), COLORS.values(), strict=False)):
        style = styles[index % len(styles)] | {"markersize": 5 + 2 * (len(losses) - index)}
        axes.plot(x, np.asarray(loss, dtype=float), color=color, linewidth=1.5, label=name, **style)
    _ten(axes, float(x[-1]))
    axes.set(xlabel="position of the first character", ylabel="nats per character")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=12, frameon=False)
    return figure


def shifts(
    counts: ArrayLike,
    errors: Mapping[str, ArrayLike],
    pairs: Mapping[str, ArrayLike],
    stuck: ArrayLike,
) -> Figure:
    """A stored key that is moved again and again: its error by the number of shifts, and at the end pair by pair.

    Args:
        counts: numbers of shifts, shape (N,).
        errors: label → the relative error of the key after so many shifts, shape (N,).
        pairs: some of these labels → the relative error of each pair after the last shift, shape (D/2,).
        stuck: the error of a pair that never moved, shape (D/2,), dashed.
    """
    x = np.asarray(counts, dtype=float)
    figure, (left, right) = new_figure(1, 2, size=(7.5, 3.9), sharey=True)
    colors = dict(zip(errors, COLORS.values(), strict=False))
    for name, error in errors.items():
        left.plot(x, np.asarray(error, dtype=float), "-", color=colors[name], label=name)
    left.set(xscale="log", yscale="log", xlabel="number of shifts", ylabel="relative error of the key")
    left.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
    left.minorticks_off()
    last = np.asarray(stuck, dtype=float)
    right.plot(np.where(last < 0.4, last, np.nan), "--", color=GREY, linewidth=1.2)
    for name, error in pairs.items():
        right.plot(np.asarray(error, dtype=float), ".", color=colors[name], markersize=6)
    right.set(xlabel="pair i (fast left, slow right)")
    right.set_title("each pair, after the last", loc="left", fontsize=12)
    left.set_title("the whole key", loc="left", fontsize=12)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=12, frameon=False
    )
    return figure
