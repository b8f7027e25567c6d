"""The figure of chapter 4 on rows of frequencies: how alike two distances look, by how far they are apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, new_figure


def alike(distances: ArrayLike, curves: Mapping[str, ArrayLike]) -> Figure:
    """One panel per row of frequencies, all on one scale: c(s) against s on a logarithmic axis.

    Args:
        distances: shape (S,), positive and increasing.
        curves: c(s) of each row of frequencies, shape (S,).
    """
    x = np.asarray(distances, dtype=float)
    columns = 2
    lines = -(-len(curves) // columns)
    figure, grid = new_figure(
        lines, columns, size=(7.5, 1.9 * lines + 0.4), sharex=True, sharey=True, squeeze=False
    )
    for axes, (name, values) in zip(grid.flat, curves.items(), strict=False):
        axes.axhline(0, color=GREY, linewidth=1)
        axes.plot(x, np.asarray(values), color=COLORS["blue"], linewidth=1.2)
        axes.set(xscale="log", ylim=(-0.8, 1.1))
        axes.set_title(name, loc="left", fontsize=12)
    for axes in list(grid.flat)[len(curves) :]:
        axes.set_visible(False)
    figure.supxlabel("distance s (tokens)", fontsize=12)
    figure.supylabel("c(s)", fontsize=12)
    return figure
