"""Figures of chapter 3: what an optimiser finds, the planes a rotation turns, and hands at their frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, new_figure


def found(start: ArrayLike, end: ArrayLike, turns: ArrayLike) -> Figure:
    """One vector under the matrices of a search, before and after, and the angles of every search that succeeded.

    Args:
        start, end: the vector stamped with positions 0, 1, …, (N, 2) each.
        turns: angle of each stamp in radians, without jumps of 2π, (searches, N).
    """
    figure, (before, after, lines) = new_figure(1, 3, size=(7.5, 3.0), width_ratios=(1, 1, 1.25))
    for axes, points, title in ((before, start, "before"), (after, end, "after")):
        _stamps(axes, np.asarray(points))
        axes.set_title(title)
    for turn in np.asarray(turns):
        lines.plot(
            range(len(turn)), turn / np.pi, color=COLORS["blue"], marker="o", markersize=3, linewidth=1
        )
    lines.set(xlabel="position $m$", ylabel="angle turned (units of π)", title="every rotation found")
    return figure


def _stamps(axes: Axes, points: np.ndarray) -> None:
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=GREY, linewidth=1))
    reach = max(1.5, 1.2 * float(np.abs(points).max()))
    for m, (x, y) in enumerate(points):
        color = COLORS["vermilion"] if m == 0 else COLORS["blue"]
        axes.plot([0, x], [0, y], color=color, linewidth=1, alpha=0.5)
        axes.plot(x, y, "o", color=color, markersize=4)
        away = 1 + 0.14 * reach / max(float(np.hypot(x, y)), 0.3 * reach)
        axes.text(x * away, y * away, str(m), color=color, ha="center", va="center")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.axis("off")


def planes(coordinates: ArrayLike, in_planes: ArrayLike, angles: Sequence[float]) -> Figure:
    """One vector under the powers of a rotation: two of its coordinates, then its part in each plane that turns.

    Args:
        coordinates: two coordinates of the vector at positions 0, 1, …, (N, 2).
        in_planes: its coordinates in each of the planes, (planes, N, 2).
        angles: radians by which each plane turns per position.
    """
    parts = [np.asarray(coordinates), *np.asarray(in_planes)]
    titles = ["as given", *(f"$\\theta_{i} = {angle:.2f}$" for i, angle in enumerate(angles))]
    reach = 1.15 * max(float(np.hypot(*part.T).max()) for part in parts)
    figure, row = new_figure(1, len(parts), size=(7.5, 7.5 / len(parts) + 0.5), squeeze=False)
    for panel, points, title in zip(row[0], parts, titles, strict=True):
        circle = panel is not row[0, 0]
        if circle:
            radius = float(np.hypot(*points[0]))
            panel.add_patch(Circle((0, 0), radius, fill=False, edgecolor=GREY, linewidth=1))
        else:
            panel.plot(*points.T, color=GREY, linewidth=1)
        panel.plot(*points.T, "o", color=COLORS["blue"], markersize=3)
        panel.plot(*points[0], "o", color=COLORS["vermilion"], markersize=6)
        panel.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
        panel.set_title(title, loc="center")
        panel.set_xlabel("2 of the axes" if not circle else "its plane")
    return figure


def clocks(frequencies: Sequence[float], positions: Sequence[int]) -> Figure:
    """A clock for every pair (row) and position (column), its hand at the angle m·θ_i."""
    rows, columns = len(frequencies), len(positions)
    figure, axes = new_figure(rows, columns, size=(7.5, 7.5 * rows / columns), squeeze=False)
    for i, theta in enumerate(frequencies):
        for column, m in enumerate(positions):
            panel = axes[i, column]
            panel.add_patch(Circle((0, 0), 1, fill=False, edgecolor=GREY, linewidth=1))
            tip = np.cos(m * theta), np.sin(m * theta)
            panel.plot([0, tip[0]], [0, tip[1]], color=COLORS["blue"], linewidth=2.5, solid_capstyle="round")
            panel.plot(*tip, "o", color=COLORS["blue"], markersize=5)
            panel.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
            if i == 0:
                panel.set_title(f"$m = {m:,}$".replace(",", "{,}"), loc="center")
        axes[i, 0].set_ylabel(f"pair {i}\n$\\theta_{i} = {theta:.4g}$")
    return figure
