"""Figures of chapter 1: what attention sees of order, who sees whom, where positions enter, and what a shift does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, direct_label, new_figure


def two_orders(
    words: Sequence[str], orders: tuple[str, str], outputs: Mapping[str, tuple[ArrayLike, ArrayLike]]
) -> Figure:
    """Each word's output vector in two sentences, and the difference of the two; one row of panels per entry.

    Args:
        words: the rows of every panel.
        orders: the two sentences.
        outputs: the vectors of `words` in the first and in the second sentence, (words, coordinates) each.
    """
    figure, axes = new_figure(len(outputs), 3, size=(7.5, 1.9 * len(outputs)), sharey=True, squeeze=False)
    for row, (name, (first, second)) in zip(axes, outputs.items(), strict=True):
        one, two = np.asarray(first), np.asarray(second)
        size = float(np.quantile(np.abs((one, two)), 0.95))  # one large number must not pale the others
        for panel, values in zip(row, (one, two, two - one), strict=True):
            panel.imshow(values, cmap="PuOr", vmin=-size, vmax=size, aspect="auto")
            panel.set_xticks([])
            panel.set_yticks(range(len(words)), words)
            panel.tick_params(length=0)
            panel.spines[:].set_visible(True)
        row[0].set_title(name, fontweight="bold")
    for panel, label in zip(axes[-1], (f"in “{orders[0]}”", f"in “{orders[1]}”", "difference"), strict=True):
        panel.set_xlabel(label)
    return figure


def attention_squares(words: Sequence[str], weights: Mapping[str, ArrayLike]) -> Figure:
    """Attention weights as squares: a row for each query word, a column for each key word; a weight of 0 is left empty.

    Args:
        words: of the sequence, in order.
        weights: what a layer gives, 0 to 1, (words, words), for each panel.
    """
    figure, axes = new_figure(1, len(weights), size=(7.5, 7.5 / len(weights) + 0.4), squeeze=False)
    for panel, (name, values) in zip(axes[0], weights.items(), strict=True):
        shares = np.asarray(values)
        panel.imshow(np.where(shares > 0, shares, np.nan), cmap="Blues", vmin=0, vmax=1)
        for m, row in enumerate(shares):
            for n, share in enumerate(row):
                if share > 0:
                    color = "white" if share > 0.55 else COLORS["black"]
                    panel.text(n, m, f"{100 * share:.0f}", ha="center", va="center", color=color)
        panel.set_title(name)
        panel.set_xticks(range(len(words)), words)
        panel.set_yticks(range(len(words)), words)
        panel.set_xlabel("key")
        panel.tick_params(length=0)
        panel.set_xticks(np.arange(len(words) + 1) - 0.5, minor=True)
        panel.set_yticks(np.arange(len(words) + 1) - 0.5, minor=True)
        panel.grid(which="minor", color=GREY, linewidth=0.5)
        panel.tick_params(which="minor", length=0)
    axes[0, 0].set_ylabel("query")
    return figure


def three_doors() -> Figure:
    """The path from token embeddings to the output of attention, and the three hooks at which positions enter."""
    figure, axes = new_figure(size=(7.5, 2.5))
    axes.set(xlim=(0, 14.9), ylim=(0.3, 4.6))
    axes.axis("off")
    stations = {
        "embeddings\n$x$": 1.6,
        "queries, keys\n$q,\\ k$": 5.5,
        "scores": 9.4,
        "weights,\noutput": 13.3,
    }
    doors = {
        1.6: ("embed", "learned,\nsinusoidal", "blue"),
        5.5: ("rotate", "RoPE", "vermilion"),
        9.4: ("bias", "T5, ALiBi", "green"),
    }
    for text, x in stations.items():
        axes.add_patch(
            FancyBboxPatch(
                (x - 1.35, 0.5), 2.7, 1.5, boxstyle="round,pad=0.05", facecolor="white", edgecolor=GREY
            )
        )
        axes.text(x, 1.25, text, ha="center", va="center", fontsize=12)
    for x, (hook, names, color) in doors.items():
        axes.annotate(
            "",
            (x, 2.1),
            (x, 3.1),
            arrowprops={"arrowstyle": "-|>", "color": COLORS[color], "lw": 2.5, "mutation_scale": 18},
        )
        axes.text(x, 3.3, names, ha="center", va="bottom", fontsize=12)
        axes.text(
            x + 0.25,
            2.62,
            hook,
            ha="left",
            va="center",
            color=COLORS[color],
            family="monospace",
            weight="bold",
            fontsize=12,
        )
    for x in (1.6, 5.5, 9.4):
        axes.annotate(
            "",
            (x + 2.45, 1.25),
            (x + 1.45, 1.25),
            arrowprops={"arrowstyle": "-|>", "color": GREY, "lw": 1.5, "mutation_scale": 14},
        )
    return figure


def score_maps(maps: Mapping[str, ArrayLike]) -> Figure:
    """A map of scores for each entry: rows are positions of the query, columns positions of the key."""
    figure, axes = new_figure(1, len(maps), size=(7.5, 7.5 / len(maps) + 0.6), sharey=True, squeeze=False)
    for panel, (name, scores) in zip(axes[0], maps.items(), strict=True):
        values = np.asarray(scores)
        size = float(np.abs(values - values.mean()).max())
        size = size if size > 1e-6 * np.abs(values).max() else 1.0  # flat but for rounding
        panel.imshow(values, cmap="PuOr", vmin=values.mean() - size, vmax=values.mean() + size)
        panel.set_title(name)
        panel.set_xlabel("key at $n$")
        panel.spines[:].set_visible(True)
        last = len(values) - 1
        panel.set_xticks([0, last], ["0", str(last)])
        panel.set_yticks([0, last], ["0", str(last)])
    axes[0, 0].set_ylabel("query at $m$")
    return figure


def shifted(
    shifts: Sequence[int],
    accuracies: Mapping[str, Sequence[float]],
    *,
    trained: int,
    beside: Mapping[str, float],
) -> Figure:
    """Accuracy against the shift of all positions, one line per encoding.

    Args:
        shifts: added to every position when the model is tested.
        accuracies: fraction of correct predictions, 0 to 1, one value per shift.
        trained: number of positions the models were trained on.
        beside: the height of each line's label.
    """
    figure, axes = new_figure(size=(7.5, 3.8))
    palette = dict(zip(accuracies, COLORS.values(), strict=False))
    for (name, values), style in zip(accuracies.items(), ("-", "--", "-", "--", ":"), strict=False):
        axes.plot(shifts, values, style, color=palette[name], marker="o", markersize=4)
        direct_label(axes, shifts[-1], beside[name], name, palette[name], annotation_clip=False)
    axes.axvline(trained, color=GREY, linewidth=1, linestyle=":")
    axes.text(trained, 0.04, " no position seen in training →", color=GREY, va="bottom", fontsize=12)
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    axes.set_xlim(left=-0.3)
    axes.set_xticks(list(shifts), [str(shift) for shift in shifts])
    axes.minorticks_off()
    axes.set(xlabel="shift of every position (tokens)", ylabel="tokens copied correctly", ylim=(0, 1.05))
    axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    return figure
