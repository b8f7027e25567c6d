"""Figures of chapter 6: how the score of a query and a key depends on their distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, direct_label, new_figure, thinned

_DISTANCE = "distance of query and key (tokens)"


def frequency_map(distances: ArrayLike, cosines: ArrayLike) -> Figure:
    """Above, what each frequency adds to the score at each distance; below, the sum.

    Args:
        distances: shape (S,), positive and increasing.
        cosines: cos(s·θ_i), shape (S, D/2).
    """
    x, parts = np.asarray(distances, dtype=float), np.asarray(cosines)
    figure, (top, bottom) = new_figure(2, 1, size=(7.5, 5.4), sharex=True, height_ratios=[2, 1])
    mesh = top.pcolormesh(
        x, np.arange(parts.shape[1]), parts.T, cmap="RdBu_r", vmin=-1, vmax=1, rasterized=True
    )
    figure.colorbar(mesh, ax=top, ticks=[-1, 0, 1]).set_label(r"$\cos(s\,\theta_i)$", fontsize=12)
    top.set(ylabel="pair i (fast above,\nslow below)", xscale="log")
    top.invert_yaxis()
    bottom.axhline(0, color=GREY, linewidth=1)
    bottom.plot(x, parts.mean(-1), color=COLORS["blue"], linewidth=1.5)
    bottom.set(xlabel=f"{_DISTANCE}, s", ylabel="mean over\nthe pairs")
    return figure


def head_to_tail(distances: Sequence[float], sums: ArrayLike) -> Figure:
    """The unit arrows of a head laid head to tail, fast pairs first, one panel per distance, all on one scale.

    Args:
        distances: titles of the panels, four of them.
        sums: S_0, …, S_{D/2} of each distance, complex, shape (4, D/2 + 1).
    """
    paths = np.asarray(sums)
    figure, grid = new_figure(2, 2, size=(7.5, 3.2), sharex=True, sharey=True)
    for axes, distance, path in zip(grid.flat, distances, paths, strict=True):
        axes.axhline(0, color=GREY, linewidth=0.5)
        axes.plot(path.real, path.imag, "-o", color=COLORS["blue"], linewidth=1, markersize=2)
        end = (path[-1].real, path[-1].imag)
        axes.annotate(
            "", end, (0, 0), arrowprops={"arrowstyle": "-|>", "color": COLORS["vermilion"], "linewidth": 1.5}
        )
        axes.set_title(f"s = {distance:,.0f}", loc="left", fontsize=12)
        axes.set_aspect("equal")
    figure.supxlabel("real part", fontsize=12)
    figure.supylabel("imaginary part", fontsize=12)
    return figure


def bound(near: tuple[ArrayLike, ArrayLike], far: tuple[ArrayLike, ArrayLike], floor: float) -> Figure:
    """Mean |S_j| against distance: the paper's range on the left, all distances on the right with their floor.

    For content that is the same in all pairs the curve is the bound of the paper in units of Σ|h_i|, so that the line
    at 1 is what holds without any rotation.
    """
    figure, (left, right) = new_figure(1, 2, sharey=True)
    left.plot(*(np.asarray(a) for a in near), color=COLORS["blue"])
    left.set(xlabel=_DISTANCE, ylabel="mean of $|S_j|$")
    right.plot(*(np.asarray(a) for a in far), color=COLORS["blue"], linewidth=1)
    right.axhline(floor, color=COLORS["vermilion"], linestyle="--")
    right.text(1e8, 14, "level of a\nrandom walk", color=COLORS["vermilion"], ha="right", fontsize=12)
    for axes in (left, right):
        axes.axhline(1, color=COLORS["black"], linewidth=1.5)
    left.text(3, 1.5, "1: what holds without RoPE", color=COLORS["black"], fontsize=12)
    right.set(xscale="log", xlabel="the same (log scale)")
    left.set_title("as in the paper", loc="left", fontsize=12)
    right.set_title("all distances", loc="left", fontsize=12)
    left.set_ylim(bottom=0)
    return figure


def peaks(distances: ArrayLike, scores: Mapping[int, ArrayLike]) -> Figure:
    """Scores of one query with keys made to fit it best at a chosen distance, one line per key."""
    figure, axes = new_figure()
    x = np.asarray(distances)
    for (peak, score), color in zip(scores.items(), COLORS.values(), strict=False):
        axes.plot(*thinned(x, score), color=color, linewidth=0.7)
        axes.plot(peak, 1, "o", color=color)
        side = "left" if peak == x[0] else "center"
        axes.text(peak, 1.06, f"built for {peak:,}", ha=side, va="bottom", color=color, fontsize=12)
    axes.axhline(0, color=GREY, linewidth=1)
    axes.set(xlabel=_DISTANCE, ylabel="score / largest score", ylim=(-0.45, 1.25))
    return figure


def random_scores(distances: ArrayLike, equal: ArrayLike, random: ArrayLike) -> Figure:
    """The score of two equal all-ones vectors compared with those of Gaussian ones, with their mean and SD.

    Args:
        distances: shape (S,).
        equal: score / D of q = k = (1, …, 1), shape (S,).
        random: scores / √D of Gaussian q and k, shape (draws, S).
    """
    x, draws = np.asarray(distances), np.asarray(random)
    figure, (left, right) = new_figure(1, 2)
    left.plot(x, np.asarray(equal), color=COLORS["blue"], linewidth=1.5)
    left.axhline(0, color=GREY, linewidth=1)
    left.set(xlabel=_DISTANCE, ylabel="score / D")
    left.set_title("q = k = (1, …, 1)", loc="left", fontsize=12)
    for axes in (left, right):
        axes.set_xscale("log")
    right.plot(x, draws[:12].T, color=COLORS["sky"], linewidth=0.6)
    mean, deviation = draws.mean(0), draws.std(0)
    right.plot(x, mean, color=COLORS["black"])
    for sign in (-1, 1):
        right.plot(x, mean + sign * deviation, color=COLORS["vermilion"], linestyle="--")
    right.text(x[0], 3.4, "— mean", color=COLORS["black"], fontsize=12)
    right.set_ylim(-3.3, 3.9)
    right.text(x[-1], 3.4, "- - ± one SD", ha="right", color=COLORS["vermilion"], fontsize=12)
    right.set(xlabel=_DISTANCE, ylabel="score / √D")
    right.set_title("Gaussian q and k", loc="left", fontsize=12)
    return figure


def worst_cases(distances: ArrayLike, worst: Mapping[float, ArrayLike]) -> Figure:
    """The largest score that any content reaches at each distance, one line per roughness allowed."""
    figure, axes = new_figure(size=(7.5, 4.0))
    x = np.asarray(distances)
    for (roughness, value), color in zip(worst.items(), COLORS.values(), strict=False):
        y = np.asarray(value)
        axes.plot(x, y, color=color)
        direct_label(axes, float(x[-1]), float(y[-1]), f"δ = {roughness:g}", color, annotation_clip=False)
    axes.set(xscale="log", xlabel=_DISTANCE, ylabel="largest score / largest of all", ylim=(0, 1.05))
    return figure


def bases(
    distances: ArrayLike,
    sums: Mapping[float, ArrayLike],
    means: Mapping[float, ArrayLike],
    limits: Mapping[float, ArrayLike],
) -> Figure:
    """For several bases: the mean |S_j|, and the mean cosine with its limit for wide heads."""
    figure, (left, right) = new_figure(1, 2, size=(7.5, 3.8))
    x = np.asarray(distances)
    right.axhline(0, color=GREY, linewidth=1)
    for base, color in zip(sums, COLORS.values(), strict=False):
        left.plot(x, np.asarray(sums[base]), color=color, linewidth=1.2, label=f"b = {base:,.0f}")
        right.plot(x, np.asarray(limits[base]), color=color, linewidth=5, alpha=0.35)
        right.plot(x, np.asarray(means[base]), color=color, linewidth=1.2)
    left.set(xscale="log", xlabel=_DISTANCE, ylabel="mean of $|S_j|$")
    left.set_title("bound", loc="left", fontsize=12)
    right.set(xscale="log", xlabel=_DISTANCE, ylabel="c(s)")
    right.set_title("advantage of a match", loc="left", fontsize=12)
    left.set_ylim(bottom=0)
    left.legend(loc="upper right", fontsize=12, frameon=False)
    return figure


def retrieval(
    distances: ArrayLike,
    wins: Mapping[str, ArrayLike],
    dense: ArrayLike,
    predicted: Mapping[str, ArrayLike],
) -> Figure:
    """How often the matching key outscores a random one, measured (dots) and predicted (lines).

    Args:
        distances, dense: where it was drawn, shape (S,), and where it is predicted, shape (P,).
        wins: label → fraction of draws that the match wins, shape (S,); a label that starts with "slow" gets
            open dots.
        predicted: the same labels → the predicted fraction, shape (P,).
    """
    figure, axes = new_figure(size=(7.5, 4.2))
    x = np.asarray(distances)
    axes.axhline(50, color=GREY, linestyle="--", linewidth=1)
    axes.text(x[0], 48.5, "chance", color=GREY, va="top", fontsize=12)
    for (label, share), color in zip(wins.items(), COLORS.values(), strict=False):
        axes.plot(
            np.asarray(dense), 100 * np.asarray(predicted[label]), color=color, linewidth=0.6, alpha=0.4
        )
        face = axes.get_facecolor() if label.startswith("slow") else color
        axes.plot(
            x, 100 * np.asarray(share), "o", color=color, markersize=5, label=label, markerfacecolor=face
        )
    axes.set(xscale="log", xlabel=_DISTANCE, ylabel="match beats a stranger (%)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=12, frameon=False)
    return figure
