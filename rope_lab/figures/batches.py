"""Figures of chapter 17: what a table on the wrong axis does to each batch, and what a model learns in spite of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rope_lab.figures.style import COLORS, GREY, new_figure

_FILLS = {
    "error": "#FFFFFF",
    "grows": COLORS["sky"],
    "silent": COLORS["orange"],
    "correct": COLORS["green"],
}


def outcomes(found: Mapping[tuple[int, int], int | float | None], batches: Sequence[int]) -> Figure:
    """A square per batch size and length: an exception, a batch that grows, or the error of what comes out.

    Args:
        found: for (batch, tokens): None for an exception, an integer for the rows that come out where there are more
            than went in, and otherwise a float, the size of the error divided by the size of the output.
        batches: the sizes and lengths along the two axes.
    """
    figure, axes = new_figure(size=(6.2, 5.6))
    for (batch, tokens), value in found.items():
        kind = (
            "error"
            if value is None
            else "grows"
            if isinstance(value, int)
            else "silent"
            if value
            else "correct"
        )
        axes.add_patch(
            Rectangle(
                (tokens - 0.46, batch - 0.46), 0.92, 0.92, facecolor=_FILLS[kind], edgecolor=GREY, lw=0.7
            )
        )
        words = {"error": "×", "grows": f"{value} rows", "silent": "", "correct": "0"}[kind]
        if isinstance(value, float) and value:
            words = f"{value:.2f}"
        axes.text(tokens, batch, words, ha="center", va="center", color=COLORS["black"], fontsize=12)
    ends = (min(batches) - 0.6, max(batches) + 0.6)
    axes.set(xlim=ends, ylim=ends[::-1], xlabel="tokens per row", ylabel="rows in the batch", aspect="equal")
    axes.set_xticks(batches)
    axes.set_yticks(batches)
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure


def two_questions(solved: Mapping[str, tuple[float, float]], guess: float = 0.5) -> Figure:
    """One row per model: the fraction of test sequences for which it answers each of two questions correctly.

    Args:
        solved: model → fractions for the question of words and for that of order.
        guess: what guessing gives.
    """
    figure, axes = new_figure(size=(7.5, 0.55 * len(solved) + 1.5))
    axes.axvline(guess, color=GREY, linestyle="--", linewidth=1)
    axes.text(guess, -0.62, "guessing", color=GREY, ha="center", va="bottom", fontsize=12)
    for row, (words, order) in enumerate(solved.values()):
        axes.plot([words, order], [row, row], color=GREY, linewidth=1)
        axes.plot(words, row, "s", color=COLORS["blue"], markersize=9)
        axes.plot(order, row, "o", color=COLORS["vermilion"], markersize=9)
    axes.plot([], [], "s", color=COLORS["blue"], label="which word is there")
    axes.plot([], [], "o", color=COLORS["vermilion"], label="which of two words comes first")
    axes.set_yticks(range(len(solved)), list(solved))
    axes.set(xlabel="fraction of test sequences answered correctly", xlim=(0.38, 1.03))
    axes.set_ylim(len(solved) - 0.4, -0.8)
    figure.legend(loc="outside lower center", ncols=2, fontsize=12, frameon=False)
    return figure
