"""Figures of chapter 19: released families beside the contexts they are used at, and what a misread field costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from rope_lab.atlas import FAMILIES, Family
from rope_lab.figures.style import COLORS, GREY, apart, direct_label, new_figure

_KINDS = {  # how a point is drawn, by what was done to the frequencies
    "not scaled": ("blue", "o"),
    "scaled": ("vermilion", "s"),
    "only the fastest pairs turn": ("green", "^"),
}
_PLACES = (
    (6, 0, "left", "center"),
    (-6, 0, "right", "center"),
    (0, 7, "center", "bottom"),
    (0, -7, "center", "top"),
)


def slowest(families: Sequence[Family] = FAMILIES) -> Figure:
    """The wavelength of the slowest turning pair against the context, both logarithmic; one point per family.

    Above the diagonal, the slowest pair that turns never finishes a turn in the context. A family without a context is
    left out. Families at one point share a name, with the number of the others; a name that would cover another one,
    or a point, is left out.
    """
    shown = [row for row in families if row.context is not None and row.spectrum.wavelengths.numel()]
    figure, axes = new_figure(size=(7.5, 7.5))
    _points(axes, shown, lambda row: row.spectrum.slowest)
    x = np.array([row.context for row in shown], float)
    y = np.array([row.spectrum.slowest for row in shown])
    axes.set(xscale="log", yscale="log", xlabel="context (tokens)")
    axes.set_ylabel("wavelength of the slowest pair (tokens)")
    axes.set(xlim=(x.min() / 2, x.max() * 3), ylim=(y.min() / 2, y.max() * 3))
    ends = np.array([min(x.min(), y.min()) / 2, max(x.max(), y.max()) * 3])
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1.5)
    axes.annotate(
        "below the line, every turning pair\nfinishes a turn in the context", (0.02, 0.02), xycoords="axes fraction",
        color=GREY, ha="left", va="bottom", fontsize=12,
    )  # fmt: skip
    figure.legend(loc="outside upper center", ncols=3, fontsize=12, frameon=False)
    for _ in range(3):  # until the layout has settled; positions of labels depend on it
        figure.draw_without_rendering()
    _label(axes, shown, lambda row: row.spectrum.slowest, lambda box: _crosses(axes, box))
    return figure


def unfinished(bases: Sequence[float], families: Sequence[Family] = FAMILIES) -> Figure:
    """The share of turning pairs that never finish a turn in the context, against the context; a point per family.

    Args:
        bases: of unscaled frequencies; a line for each shows the share 1 − ln(L/2π)/ln b of many pairs.
        families: as `slowest`.
    """
    shown = [row for row in families if row.context is not None and row.spectrum.wavelengths.numel()]
    figure, axes = new_figure(size=(7.5, 5.5))
    _points(axes, shown, share)
    lengths = np.geomspace(1000, 2e6, 200)
    axes.set(
        xscale="log", xlabel="context (tokens)", ylabel="pairs that never finish a turn", ylim=(-0.03, 0.7)
    )
    axes.set_xlim(lengths[0], lengths[-1] * 4)
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    for base in bases:
        line = np.maximum(1 - np.log(lengths / (2 * np.pi)) / np.log(base), 0)
        axes.plot(lengths, line, color=GREY, linewidth=1.2, zorder=0)
        direct_label(axes, lengths[-1], float(line[-1]), f"b = {base:,.0f}", GREY)
    figure.legend(loc="outside upper center", ncols=3, fontsize=12, frameon=False)
    for _ in range(3):
        figure.draw_without_rendering()
    _label(axes, shown, share, lambda box: False)
    return figure


def share(row: Family) -> float:
    """The share of turning pairs that never finish a turn in the context."""
    return (row.spectrum.unfinished or 0) / row.spectrum.wavelengths.numel()


def misread(
    distances: Sequence[float], errors: Mapping[str, Sequence[float]], edges: Mapping[str, float]
) -> Figure:
    """The error of the scores at each distance, a line per mistake, both axes logarithmic.

    Args:
        distances: in tokens, rising.
        errors: mistake → error in units of the scores, one per distance; those that are 0 everywhere are left out.
        edges: name → distance of a vertical line.
    """
    figure, axes = new_figure(size=(7.5, 4.5))
    x = np.asarray(distances, float)
    drawn = {name: np.asarray(line, float) for name, line in errors.items() if np.any(np.asarray(line) > 0)}
    colors = [color for name, color in COLORS.items() if name != "sky"]
    heights = apart([float(np.log10(line[-1])) for line in drawn.values()], 0.17)
    for (name, line), color, height in zip(drawn.items(), colors, heights, strict=False):
        axes.plot(x, np.where(line > 0, line, np.nan), color=color)
        direct_label(axes, x[-1], 10**height, name, color)
    for name, at in edges.items():
        axes.axvline(at, color=GREY, linestyle="--", linewidth=1.2, zorder=0)
        axes.annotate(name, (at, 1.3e-4), xytext=(4, 0), textcoords="offset points", color=GREY, rotation=90)
    axes.set(xscale="log", yscale="log", xlabel="distance (tokens)", ylabel="error in units of the scores")
    axes.set(xlim=(x[0], x[-1]), ylim=(1e-4, 3))
    return figure


def _points(axes: Axes, families: Sequence[Family], height: Callable[[Family], float]) -> None:
    for kind, (color, marker) in _KINDS.items():
        points = [(row.context, height(row)) for row in families if _kind(row) == kind]
        if points:
            axes.plot(
                *zip(*points, strict=True), marker, color=COLORS[color], markersize=6, alpha=0.8, label=kind
            )


def _kind(row: Family) -> str:
    if row.spectrum.still:
        return "only the fastest pairs turn"
    return "not scaled" if row.scaling is None else "scaled"


def _label(
    axes: Axes,
    families: Sequence[Family],
    height: Callable[[Family], float],
    crosses: Callable[[Bbox], bool],
) -> None:
    """Write the names that fit: each beside its point, over no other name, point, line or edge."""
    groups: dict[tuple[int, float], list[Family]] = {}
    for row in families:
        groups.setdefault((row.context or 0, float(f"{height(row):.2g}")), []).append(row)
    points = [(row.context or 0, height(row)) for row in families]
    dots = [Bbox.from_bounds(px - 5, py - 5, 10, 10) for px, py in axes.transData.transform(points)]
    taken = [text.get_window_extent() for text in axes.texts]
    frame = axes.get_window_extent()
    order = sorted(groups.values(), key=lambda rows: (-len(rows), -height(rows[0])))
    for rows in order:
        name = rows[0].name + (f" +{len(rows) - 1}" if len(rows) > 1 else "")
        here = (rows[0].context, height(rows[0]))
        for dx, dy, ha, va in _PLACES:
            text = axes.annotate(
                name, here, xytext=(dx, dy), textcoords="offset points", ha=ha, va=va, fontsize=12,
                color=COLORS["black"],
            )  # fmt: skip
            box = text.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not box.count_overlaps([*taken, *dots]) and not crosses(box):
                taken.append(box)
                break
            text.remove()


def _crosses(axes: Axes, box: Bbox) -> bool:
    """Whether the diagonal runs through a box."""
    (left, bottom), (right, top) = axes.transData.inverted().transform([(box.x0, box.y0), (box.x1, box.y1)])
    return bool(bottom <= right and left <= top)
