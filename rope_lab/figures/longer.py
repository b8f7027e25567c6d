"""Figures of chapter 11: what scalings make of wavelengths, which angles training shows, errors of a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, direct_label, new_figure

_LINES = [
    (COLORS["blue"], "-"),
    (COLORS["vermilion"], "--"),
    (COLORS["green"], "-."),
    (COLORS["purple"], ":"),
    (COLORS["black"], "-"),
]


def seen(turns: ArrayLike, rarest: ArrayLike, critical: int) -> Figure:
    """How often the rarest twelfth of the circle occurs in training, by pair, in parts of an equal share.

    Args:
        turns: how often each pair turns in the trained length, shape (P,).
        rarest: the share of the rarest twelfth, 1 where all are seen equally often, shape (P,).
        critical: the first pair that does not complete a turn.
    """
    figure, axes = new_figure(size=(7.5, 3.4))
    pairs = np.arange(len(np.asarray(rarest)))
    axes.plot(pairs, np.asarray(rarest), "o-", color=COLORS["blue"], markersize=4, linewidth=1.5)
    axes.axvline(critical - 0.5, color=GREY, linestyle=":", linewidth=1.5)
    axes.annotate(
        "no full turn",
        (critical - 0.5, 0.9),
        xytext=(6, 0),
        textcoords="offset points",
        color=GREY,
        fontsize=12,
    )
    for count in (32, 8, 4, 2):
        pair = int(np.argmin(np.abs(np.log(np.asarray(turns, dtype=float) / count))))
        axes.annotate(
            f"{count} turns", (pair, float(np.asarray(rarest)[pair])), xytext=(-8, -16), ha="right",
            textcoords="offset points", color=COLORS["blue"], fontsize=12,
        )  # fmt: skip
    axes.set(xlabel="pair i (fast to slow)", ylabel="rarest twelfth, equal = 1", ylim=(-0.05, 1.08))
    return figure


def cache_errors(lengths: Sequence[int], lines: Mapping[str, ArrayLike], trained: int) -> Figure:
    """Relative error of the newest query's scores by the number of tokens, one line per scaling, named at its end.

    Args:
        lengths: numbers of tokens, shape (N,).
        lines: scaling → relative errors, shape (N,).
        trained: the length from which scalings begin to change.
    """
    figure, axes = new_figure(size=(7.5, 3.6))
    for (name, errors), (color, dash) in zip(lines.items(), _LINES, strict=False):
        y = np.asarray(errors, dtype=float)
        axes.plot(lengths, y, dash, color=color)
        direct_label(axes, lengths[-1], float(y[-1]), name, color, annotation_clip=False)
    axes.axvline(trained, color=GREY, linestyle=":", linewidth=1.5)
    ticks = [trained * k for k in range(1, round(lengths[-1] / trained) + 1)]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set(xlabel="tokens read so far", ylabel="error / size of the scores", ylim=(-0.03, None))
    return figure
