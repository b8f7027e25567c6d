"""Figures of chapter 10: how xPos fades, what range its two factors need, and what it does beyond the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, direct_label, new_figure

_DISTANCE = "distance of query and key (tokens)"


def fading_map(distances: ArrayLike, parts: ArrayLike, plain: ArrayLike, half_lives: ArrayLike) -> Figure:
    """Above, what each pair adds to the score at each distance and where half of it is gone; below, the means.

    Args:
        distances: shape (S,), positive and increasing.
        parts: cos(s·θ_i)·ζ_i^(s/B), shape (S, D/2).
        plain: cos(s·θ_i), shape (S, D/2).
        half_lives: distance at which pair i has faded to a half, in tokens, shape (D/2,).
    """
    x, faded, lives = np.asarray(distances, dtype=float), np.asarray(parts), np.asarray(half_lives)
    pairs = np.arange(faded.shape[1])
    figure, (top, bottom) = new_figure(2, 1, size=(7.5, 5.4), sharex=True, height_ratios=[2, 1])
    mesh = top.pcolormesh(x, pairs, faded.T, cmap="RdBu_r", vmin=-1, vmax=1, rasterized=True)
    figure.colorbar(mesh, ax=top, ticks=[-1, 0, 1]).set_label(r"$\cos(s\,\theta_i)$, faded", fontsize=12)
    seen = lives <= x[-1]
    top.plot(lives[seen], pairs[seen], color=COLORS["black"])
    last = int(np.flatnonzero(seen)[-1])
    where = (lives[last // 2], pairs[last // 2])
    top.annotate("half faded", where, xytext=(8, 8), textcoords="offset points", fontsize=12)
    top.set(ylabel="pair i (fast above,\nslow below)", xscale="log")
    top.invert_yaxis()
    bottom.axhline(0, color=GREY, linewidth=1)
    bottom.plot(x, np.asarray(plain).mean(-1), color=COLORS["vermilion"], linewidth=1)
    bottom.plot(x, faded.mean(-1), color=COLORS["blue"], linewidth=1.5)
    end = {"transform": bottom.transAxes, "ha": "right"}
    bottom.text(0.99, 0.85, "RoPE", color=COLORS["vermilion"], fontsize=12, **end)
    bottom.text(0.99, 0.64, "xPos", color=COLORS["blue"], fontsize=12, **end)
    bottom.set(xlabel=f"{_DISTANCE}, s", ylabel="mean over\nthe pairs")
    return figure


def fading(
    distances: ArrayLike,
    dense: ArrayLike,
    sizes: Mapping[str, tuple[ArrayLike, ArrayLike]],
    lengths: ArrayLike,
    all_lengths: ArrayLike,
    shares: Mapping[tuple[str, int], tuple[ArrayLike, ArrayLike, ArrayLike | None]],
) -> Figure:
    """Random content: size of a score against distance, and the weight that falls on far keys against length.

    Args:
        distances, dense: where scores were drawn, shape (S,), and where their size is predicted, shape (P,).
        sizes: name → standard deviation of score/√D over that at distance 0, drawn (S,) and predicted (P,).
        lengths, all_lengths: lengths of the text in tokens, drawn and predicted, shapes (L,) and (A,).
        shares: (name, standard deviation at distance 0) → fraction on the far keys, drawn (L,), half-widths of its
            95% confidence interval (L,), and predicted (A,) or None.
    """
    figure, (left, right) = new_figure(1, 2, size=(7.5, 4.2))
    colors = dict(zip(sizes, (COLORS["vermilion"], COLORS["blue"]), strict=False))
    for name, (drawn, predicted) in sizes.items():
        left.plot(np.asarray(dense), np.asarray(predicted), color=colors[name], linewidth=1.5)
        left.plot(np.asarray(distances), np.asarray(drawn), "o", color=colors[name], markersize=5)
    for (name, size), (fraction, half_widths, line) in shares.items():
        filled = line is not None
        right.errorbar(
            np.asarray(lengths),
            100 * np.asarray(fraction),
            100 * np.asarray(half_widths),
            color=colors[name],
            fmt="o" if filled else "o:",
            markersize=5,
            markerfacecolor=colors[name] if filled else right.get_facecolor(),
            linewidth=1.5,
            capsize=2,
            label=f"{name}, σ = {size}",
        )
        if line is not None:
            right.plot(np.asarray(all_lengths), 100 * np.asarray(line), color=colors[name], linewidth=1.5)
    for axes in (left, right):
        axes.set_xscale("log")
    left.set(xlabel=_DISTANCE, ylabel="SD of score/√D, in units of σ", ylim=(0, 1.1))
    right.set(xlabel="keys that the query sees", ylabel="weight on far keys (%)", ylim=(0, 102))
    ticks = [int(length) for length in np.asarray(lengths)]
    right.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    right.minorticks_off()
    left.set_title("the score fades", loc="left", fontsize=12)
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=12)
    return figure


def first_query(
    positions: ArrayLike,
    block: tuple[int, int],
    lines: Mapping[str, ArrayLike],
    centre_zero: tuple[ArrayLike, ArrayLike],
) -> Figure:
    """The factors of the fastest pair along a text: of the keys and of one block of queries, two choices of the centre.

    Args:
        positions: of the keys, shape (N,).
        block: first query of the block and one past its last.
        lines: "keys" (N,) and "queries" (those of the block) → factors about the first query.
        centre_zero: the same two about position 0.
    """
    figure, axes = new_figure(size=(7.5, 4.0))
    x, inside = np.asarray(positions), np.arange(*block)
    for where, values, color in (
        (x, lines["keys"], COLORS["blue"]),
        (inside, lines["queries"], COLORS["vermilion"]),
    ):
        axes.plot(where, np.asarray(values), color=color)
    for where, values, color in zip(
        (x, inside), centre_zero, (COLORS["blue"], COLORS["vermilion"]), strict=True
    ):
        axes.plot(where, np.asarray(values), "--", color=color, linewidth=1.5)
    axes.axhline(1, color=GREY, linewidth=1)
    axes.axvspan(*block, color=GREY, alpha=0.2, linewidth=0)
    style = {"textcoords": "offset points", "fontsize": 12}
    middle = len(x) // 3
    keys, zero = np.asarray(lines["keys"]), np.asarray(centre_zero[0])
    axes.annotate("keys", (x[middle], keys[middle]), xytext=(6, -14), color=COLORS["blue"], **style)
    axes.annotate(
        "keys, centre 0", (x[middle], zero[middle]), xytext=(-6, 8), ha="right", color=COLORS["blue"], **style
    )
    axes.annotate(
        "queries", (block[1], np.asarray(lines["queries"])[-1]), xytext=(6, 0), va="center",
        color=COLORS["vermilion"], **style,
    )  # fmt: skip
    axes.annotate(
        "queries, centre 0", (block[1], np.asarray(centre_zero[1])[-1]), xytext=(6, 0), va="center",
        color=COLORS["vermilion"], **style,
    )  # fmt: skip
    axes.text(
        block[0], 1.02, "block of queries", color=GREY, fontsize=12, transform=axes.get_xaxis_transform()
    )
    axes.set(yscale="log", xlabel="position (tokens)", ylabel="factor of the fastest pair")
    axes.set_xlim(x[0], x[-1] + 0.45 * (x[-1] - x[0]))
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= x[-1]])
    return figure


def frontier(bases: ArrayLike, reach: Mapping[str, ArrayLike], measured: Mapping[str, ArrayLike]) -> Figure:
    """The longest text that fits a number type, against the scale base, for several choices of the centre.

    Args:
        bases: in tokens, shape (K,).
        reach: label of a line → longest text by the formula, shape (K,).
        measured: the same labels → longest text found by trying, shape (K,).
    """
    figure, axes = new_figure(size=(7.5, 4.2))
    x = np.asarray(bases, dtype=float)
    for (name, line), color, dash in zip(
        reach.items(), COLORS.values(), ("-", "--", "-", "--"), strict=False
    ):
        axes.plot(x, np.asarray(line), dash, color=color, linewidth=1.5)
        axes.plot(x, np.asarray(measured[name]), "o", color=color, markersize=5)
        direct_label(axes, float(x[-1]), float(np.asarray(line)[-1]), name, color, annotation_clip=False)
    top = 3e6
    axes.axhline(top, color=COLORS["black"], linewidth=1.5)
    axes.annotate(
        "first query of the block: every number type, no limit",
        (float(x[0]), top),
        xytext=(0, -5),
        textcoords="offset points",
        va="top",
        fontsize=12,
    )
    axes.set(xscale="log", yscale="log", xlabel="scale base B (tokens)", ylabel="longest text (tokens)")
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.minorticks_off()
    axes.set_ylim(top=1.3 * top)
    return figure


def beyond(
    places: Sequence[float], lines: Mapping[str, tuple[ArrayLike, ArrayLike, str]], context: int
) -> Figure:
    """Loss by place in the text: full lines see all that came before, dashed ones a window.

    Args:
        places: the middle of each group of places, shape (P,).
        lines: label → losses (P,), half-widths of their 95% confidence intervals (P,) and the name of the model;
            a line whose label is not that name has a window.
        context: tokens in a training segment.
    """
    figure, axes = new_figure(size=(7.5, 4.4))
    names = list(dict.fromkeys(name for _, _, name in lines.values()))
    colors = dict(zip(names, (COLORS["vermilion"], COLORS["blue"], COLORS["green"]), strict=False))
    for label, (losses, errors, name) in lines.items():
        style = {"linestyle": "-", "label": name} if label == name else {"linestyle": "--"}
        axes.errorbar(
            places, np.asarray(losses), np.asarray(errors), color=colors[name], capsize=2, marker="o",
            markersize=4, linewidth=1.5, **style,
        )  # fmt: skip
    axes.axvline(context, color=GREY, linestyle=":", linewidth=1.5)
    axes.annotate(
        "end of the trained context",
        (context, 1),
        xycoords=("data", "axes fraction"),
        xytext=(5, -2),
        textcoords="offset points",
        color=GREY,
        va="top",
        fontsize=12,
    )
    axes.plot([], [], "--", color=GREY, label="the same, with a window")
    axes.set(xscale="log", xlabel="place in the text (characters)", ylabel="loss (nats per character)")
    ticks = [context // 4, context // 2, context, 2 * context, 4 * context, 8 * context]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    handles, labels = axes.get_legend_handles_labels()
    last = labels.index("the same, with a window")
    order = [*(i for i in range(len(labels)) if i != last), last]
    axes.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="upper left",
        bbox_to_anchor=(0, 0.9),
        fontsize=12,
        frameon=False,
    )
    return figure
