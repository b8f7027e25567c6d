"""Figures of chapter 2: a counter and waves, the table, inner products of positions, what of a score is relative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, direct_label, new_figure


def counter(bits: ArrayLike, waves: ArrayLike) -> Figure:
    """The bits of every position above, its sines and cosines below; one column per position.

    Args:
        bits: 0 or 1, shape (N, bits), the last digit first.
        waves: pairs of sine and cosine, shape (N, 2 · pairs).
    """
    digits, pairs = np.asarray(bits), np.asarray(waves)
    figure, (top, bottom) = new_figure(
        2, 1, size=(7.5, 4.9), sharex=True, height_ratios=[digits.shape[1], pairs.shape[1]]
    )
    top.imshow(digits.T, cmap="PuOr_r", vmin=-0.6, vmax=1.6, aspect="auto", interpolation="nearest")
    bottom.imshow(pairs.T, cmap="PuOr_r", vmin=-1.3, vmax=1.3, aspect="auto", interpolation="nearest")
    top.set_yticks(range(digits.shape[1]), [f"bit {j}" for j in range(digits.shape[1])])
    rows = pairs.shape[1] // 2
    bottom.set_yticks(2 * np.arange(rows) + 0.5, [f"pair {i}" for i in range(rows)])
    bottom.hlines(2 * np.arange(1, rows) - 0.5, -0.5, len(pairs) - 0.5, color="white", linewidth=1.5)
    top.hlines(np.arange(1, digits.shape[1]) - 0.5, -0.5, len(digits) - 0.5, color="white", linewidth=1.5)
    top.set_title("a counter: 0 (purple) or 1 (orange)", loc="left")
    bottom.set_title("sine over cosine, from −1 (purple) to 1 (orange)", loc="left")
    bottom.set_xlabel("position $m$")
    for axes in (top, bottom):
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def table_map(table: ArrayLike, pairs: Sequence[int]) -> Figure:
    """The sinusoidal table as a map of coordinate against position, and the sines of a few pairs as curves.

    Args:
        table: sine and cosine of every pair side by side, shape (N, C).
        pairs: whose sines are drawn below.
    """
    values = np.asarray(table)
    figure, (top, bottom) = new_figure(2, 1, size=(7.5, 5.6), sharex=True, height_ratios=[1.6, 1])
    top.imshow(values.T, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    top.set_title("the table, from −1 (purple) to 1 (orange)", loc="left")
    top.set_ylabel("coordinate")
    for i, color, dash in zip(pairs, COLORS.values(), ("-", "--", "-.", ":"), strict=False):
        bottom.plot(values[:, 2 * i], dash, color=color, label=f"pair {i}")
    bottom.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(pairs),
        fontsize=12,
        handlelength=2.2,
        frameon=False,
    )
    bottom.set(xlabel="position $m$", ylabel=r"$\sin m\theta_i$", ylim=(-1.1, 1.1), yticks=[-1, 0, 1])
    return figure


def products(offsets: ArrayLike, curves: Mapping[str, tuple[ArrayLike, float]]) -> Figure:
    """Inner product of two position vectors against the key's position, one line per matrix between them.

    Args:
        offsets: n − m, shape (S,).
        curves: label → the products, shape (S,), and the offset at which the line peaks.
    """
    figure, axes = new_figure(size=(7.5, 3.6))
    x = np.asarray(offsets)
    for (label, (values, peak)), color, dash in zip(
        curves.items(), COLORS.values(), ("-", "--", "-."), strict=False
    ):
        y = np.asarray(values)
        axes.plot(x, y, dash, color=color)
        side = 1 if peak == max(peak for _, peak in curves.values()) else -1
        axes.annotate(
            label,
            (peak, y.max()),
            xytext=(10 * side, 0),
            textcoords="offset points",
            ha="left" if side == 1 else "right",
            va="center",
            color=color,
            fontsize=12,
        )
    axes.axvline(0, color=GREY, linewidth=1, linestyle=":")
    axes.set(xlabel="position of the key relative to the query: $n - m$ (tokens)", ylabel="inner product")
    axes.margins(x=0)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def split_maps(maps: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Scores of positions with positions as the sum of two maps: what depends on the distance, and the rest.

    All panels share one colour scale, so rows of different size should be brought to one size first.

    Args:
        maps: name → the scores and their relative part, both of shape (N, N); one row of panels per entry.
    """
    figure, axes = new_figure(
        len(maps), 3, size=(7.5, 2.55 * len(maps)), sharex=True, sharey=True, squeeze=False
    )
    size = max(float(np.quantile(np.abs(np.asarray(scores)), 0.99)) for scores, _ in maps.values())
    for row, (name, (scores, relative)) in zip(axes, maps.items(), strict=True):
        whole, stripes = np.asarray(scores), np.asarray(relative)
        for panel, values in zip(row, (whole, stripes, whole - stripes), strict=True):
            image = panel.imshow(values, cmap="PuOr_r", vmin=-size, vmax=size, interpolation="nearest")
            last = len(whole) - 1
            panel.set_xticks([0, last], ["0", str(last)])
            panel.set_yticks([0, last], ["0", str(last)])
            panel.spines[:].set_visible(True)
        row[0].set_ylabel(f"{name}\n\nquery at $m$")
    for panel, title in zip(axes[0], ("all of it  =", "relative part  +", "the rest"), strict=True):
        panel.set_title(title, loc="center")
    for panel in axes[-1]:
        panel.set_xlabel("key at $n$")
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.5, aspect=40, pad=0.02)
    bar.set_label("score / size of the whole term")
    return figure


def moved(shifts: ArrayLike, accuracies: Mapping[str, ArrayLike], trained: Mapping[str, int]) -> Figure:
    """Accuracy against the shift of all positions, one line per way of training.

    Args:
        shifts: added to every position when the model is tested, shape (S,), increasing from 0.
        accuracies: fraction of correct predictions, 0 to 1, one per shift.
        trained: name → one more than the largest position seen in training.
    """
    figure, axes = new_figure(size=(7.5, 3.6))
    x = np.asarray(shifts, dtype=float)
    for (name, values), color, dash in zip(
        accuracies.items(), COLORS.values(), ("-", "--", "-."), strict=False
    ):
        y = np.asarray(values)
        axes.plot(x, y, dash, color=color, marker="o", markersize=4)
        axes.axvline(trained[name], color=color, linewidth=1, linestyle=":")
        direct_label(axes, float(x[-1]), float(y[-1]), name, color, annotation_clip=False)
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xlim(left=-0.3)
    ticks = [0, *(10**power for power in range(int(np.log10(x[-1])) + 1))]
    axes.set_xticks(ticks, [f"{tick:,}" if tick < 10_000 else f"$10^{len(str(tick)) - 1}$" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="every position shifted by (tokens)", ylabel="tokens copied correctly", ylim=(0, 1.08))
    axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    return figure
