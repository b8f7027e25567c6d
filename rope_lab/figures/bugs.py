"""Figures of chapter 18: what a bug costs, and which test sees which bug."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rope_lab.figures.style import COLORS, GREY, new_figure


def costs(swapped: Mapping[str, float], trained: Mapping[str, tuple[float, float]], guess: float) -> Figure:
    """One row per bug: the loss if it enters after training, and where it was there from the start, near and far.

    Args:
        swapped: nats per token if a model that was trained correctly is read with the bug.
        trained: for some of them, nats per token of a model trained with it, read where it was trained and far away.
        guess: the loss of a uniform guess.
    """
    figure, axes = new_figure(size=(7.5, 0.42 * len(swapped) + 1.5))
    axes.axvline(guess, color=GREY, linestyle="--", linewidth=1)
    axes.text(guess, -0.9, "a guess", color=GREY, ha="center", va="bottom", fontsize=12)
    for row, (name, loss) in enumerate(swapped.items()):
        axes.plot(loss, row, "s", color=COLORS["vermilion"], markersize=8)
        if name in trained:
            near, far = trained[name]
            axes.plot([near, far], [row, row], color=COLORS["blue"], linewidth=1.5)
            axes.plot(near, row, "o", color=COLORS["blue"], markersize=8)
            axes.plot(far, row, "o", color=COLORS["blue"], markersize=8, markerfacecolor="white")
    axes.plot([], [], "s", color=COLORS["vermilion"], label="bug after training")
    axes.plot([], [], "o", color=COLORS["blue"], label="bug from the start")
    axes.plot(
        [], [], "o", color=COLORS["blue"], markerfacecolor="white", label="the same, read from position 3,000"
    )
    axes.set_yticks(range(len(swapped)), list(swapped))
    axes.set(xlabel="loss (nats per token)", ylim=(len(swapped) - 0.4, -1.1))
    axes.set_xlim(left=-0.2)
    figure.legend(loc="outside lower center", ncols=1, fontsize=12, frameon=False)
    return figure


def seen_by(bugs: Mapping[str, Sequence[bool]], tests: Sequence[str]) -> Figure:
    """A grid: one row per bug, one column per test, filled where the test fails.

    Args:
        bugs: for each bug, whether each test sees it.
        tests: names of the columns.
    """
    figure, axes = new_figure(size=(7.5, 0.3 * len(bugs) + 1.7))
    for row, found in enumerate(bugs.values()):
        for column, seen in enumerate(found):
            color = COLORS["vermilion"] if seen else "none"
            axes.add_patch(
                Rectangle((column - 0.4, row - 0.35), 0.8, 0.7, facecolor=color, edgecolor=GREY, lw=0.7)
            )
    axes.set_yticks(range(len(bugs)), list(bugs))
    axes.set_xticks(range(len(tests)), tests, rotation=35, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set(xlim=(-0.6, len(tests) - 0.4), ylim=(len(bugs) - 0.4, -0.6))
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure
