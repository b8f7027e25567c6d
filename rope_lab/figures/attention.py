"""Figures of chapter 7: where a rotation is put, which pairs turn, and what a cache holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, apart, direct_label, new_figure


def shifted(shifts: Sequence[int], losses: Mapping[str, ArrayLike], chance: float) -> Figure:
    """Loss after all positions are shifted, one thin line per training and one colour per place of the rotation.

    Args:
        shifts: of all positions, the first one 0.
        losses: for each place, (trainings, shifts).
        chance: the loss of a guess.
    """
    figure, axes = new_figure(size=(7.5, 3.6))
    at, ends = np.arange(len(shifts)), {}
    for (name, runs), color in zip(losses.items(), COLORS.values(), strict=False):
        for run in np.asarray(runs):
            axes.plot(at, run, "-o", color=color, linewidth=1.2, markersize=4)
        ends[name] = (float(np.asarray(runs)[:, -1].mean()), color)
    axes.plot(at[[0, -1]], [chance, chance], color=GREY, linewidth=1, linestyle="--")
    heights = apart([*(end for end, _ in ends.values()), chance], 0.55)
    words = [*((name, color) for name, (_, color) in ends.items()), ("a guess", GREY)]
    for height, (name, color) in zip(heights, words, strict=True):
        direct_label(axes, at[-1] + 0.1, height, name, color)
    axes.set_xticks(at, [f"{shift:,}" for shift in shifts])
    axes.set(
        xlabel="tokens by which all positions are shifted", ylabel="loss (nats per token)", ylim=(-0.3, None)
    )
    axes.set_xlim(-0.2, len(shifts) + 1.6)
    return figure


def kept_pairs(wavelengths: Mapping[str, tuple[ArrayLike, ArrayLike]], context: int) -> Figure:
    """Which pairs of a head turn, one row per scheme, on one axis of wavelengths.

    Args:
        wavelengths: for each scheme, those of the pairs that turn and, for those that do not, those they would have
            with all pairs turning.
        context: tokens of a text, drawn as a line.
    """
    figure, axes = new_figure(size=(7.5, 2.6))
    for row, ((name, (turning, still)), color) in enumerate(
        zip(wavelengths.items(), COLORS.values(), strict=False)
    ):
        axes.plot(np.asarray(still), np.full(len(np.asarray(still)), -row), "o", color=GREY, fillstyle="none")
        axes.plot(np.asarray(turning), np.full(len(np.asarray(turning)), -row), "o", color=color)
        axes.text(4.2, -row, name, ha="right", va="center", color=color, fontsize=12)
    axes.axvline(context, color=GREY, linewidth=1, linestyle="--")
    axes.text(context * 1.1, 0.55, f"{context:,} tokens", color=GREY, va="center", fontsize=12)
    axes.set(
        xscale="log",
        xlabel="wavelength (tokens per turn)",
        xlim=(5, None),
        ylim=(-len(wavelengths) + 0.4, 0.9),
    )
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return figure


def caches(lengths: ArrayLike, sizes: Mapping[str, ArrayLike]) -> Figure:
    """Bytes of one layer's cache against the length of the text, one line per kind of attention."""
    figure, axes = new_figure(size=(7.5, 3.6))
    x, ends = np.asarray(lengths, dtype=float), {}
    for (name, size), color in zip(sizes.items(), COLORS.values(), strict=False):
        y = np.asarray(size) / 2**20
        axes.plot(x, y, color=color)
        ends[name] = (float(y[-1]), color)
    heights = apart([float(np.log10(end)) for end, _ in ends.values()], 0.32)
    for height, (name, (_, color)) in zip(heights, ends.items(), strict=True):
        direct_label(axes, x[-1], 10**height, name, color)
    axes.set(xscale="log", yscale="log", xlabel="tokens of the text", ylabel="one layer's cache (MiB)")
    axes.set_xlim(x[0], x[-1] * 14)
    return figure
