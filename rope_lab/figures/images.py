"""Figures of chapter 9: owners of pairs, one digit at several resolutions, and how digits are read at each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from rope_lab.experiments import images
from rope_lab.experiments.store import Results
from rope_lab.figures.comparing import _nothing
from rope_lab.figures.style import COLORS, GREY, new_figure

AXES = {"time": COLORS["vermilion"], "rows": COLORS["blue"], "columns": COLORS["green"]}
_LINES = {
    "no position": GREY,
    "learned": COLORS["orange"],
    "sinusoidal": COLORS["purple"],
    "axial": COLORS["blue"],
    "axial, base 10": COLORS["sky"],
    "mixed": COLORS["green"],
    "golden ratio": COLORS["vermilion"],
}
_MARKS = dict(zip(_LINES, "xsDoPv^", strict=True))


def owners(wavelengths: ArrayLike, kinds: Mapping[str, ArrayLike]) -> Figure:
    """Which axis owns the pair of each wavelength, one line of dots per arrangement.

    Args:
        wavelengths: of the pairs, shape (D/2,).
        kinds: name → index of the axis of each pair, 0 for time, 1 for rows, 2 for columns.
    """
    figure, axes = new_figure(size=(7.5, 0.62 * len(kinds) + 1.5))
    names = list(AXES)
    for line, owner in enumerate(kinds.values()):
        for axis, name in enumerate(names):
            own = np.asarray(wavelengths)[np.asarray(owner) == axis]
            height = len(kinds) - 1 - line + 0.22 * (1 - axis)
            axes.plot(own, np.full(len(own), height), "so^"[axis], color=AXES[name], markersize=6)
    axes.set_yticks(range(len(kinds)), list(reversed(list(kinds))))
    axes.set(xscale="log", xlabel="wavelength (frames, rows or columns)", ylim=(-0.5, len(kinds) - 0.5))
    axes.minorticks_off()
    marks = [
        Line2D([], [], marker=mark, color=color, linestyle="", label=name)
        for mark, (name, color) in zip("so^", AXES.items(), strict=True)
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=3, fontsize=12, frameon=False)
    return figure


def same_digit(pictures: Sequence[ArrayLike], patch: int) -> Figure:
    """One image at several resolutions, drawn at one size, with the borders of its patches.

    Args:
        pictures: square images with values from 0 to 1.
        patch: side of a patch in pixels.
    """
    figure, grid = new_figure(1, len(pictures), size=(7.5, 2.6), squeeze=False)
    for axes, picture in zip(grid[0], pictures, strict=True):
        shown = np.asarray(picture)
        axes.imshow(shown, cmap="Greys", vmin=0, vmax=1)
        for border in np.arange(0, len(shown) + 1, patch) - 0.5:
            axes.axhline(border, color=COLORS["orange"], linewidth=1.2)
            axes.axvline(border, color=COLORS["orange"], linewidth=1.2)
        axes.set_title(f"{len(shown)}×{len(shown)} pixels", loc="left", fontsize=12)
        axes.set_axis_off()
    return figure


def resolutions(results: Results) -> Figure:
    """Fraction of digits read correctly against the resolution: patches counted on the left, scaled on the right.

    A line is the mean of three seeds, with the rates that were chosen for the encoding.
    """
    if not results.variants():
        return _nothing(results)
    figure, grid = new_figure(1, 2, size=(7.5, 4.2), sharey=True)
    for axes, scaled, title in zip(
        grid, (False, True), ("patches counted", "scaled to the trained range"), strict=True
    ):
        for encoding in images.ENCODINGS:
            mean = [
                float(np.mean(images.accuracies(results, encoding, size, scaled=scaled)))
                for size in images.SIZES
            ]
            axes.plot(
                images.SIZES,
                mean,
                marker=_MARKS[encoding],
                color=_LINES[encoding],
                linewidth=1.6,
                markersize=6,
                label=encoding,
            )
        axes.axvline(images.SIDE, color=GREY, linestyle=":", linewidth=1.2)
        axes.set_xticks(images.SIZES)
        axes.set_title(title, loc="left", fontsize=12)
        axes.set(xlabel="side of the image (pixels)", ylim=(0, 1))
    grid[0].set_ylabel("read correctly")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, fontsize=12, frameon=False)
    return figure
