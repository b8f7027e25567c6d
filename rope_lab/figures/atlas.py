"""Figure of chapter 19: how slow the slowest pair of each released family is, beside the context it is used at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from rope_lab.atlas import FAMILIES, Family
from rope_lab.figures.style import COLORS, GREY, new_figure

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
    groups: dict[tuple[int, float], list[Family]] = {}
    for row in shown:
        groups.setdefault((row.context or 0, float(f"{row.spectrum.slowest:.2g}")), []).append(row)
    for kind, (color, marker) in _KINDS.items():
        points = [(row.context, row.spectrum.slowest) for row in shown if _kind(row) == kind]
        if points:
            axes.plot(
                *zip(*points, strict=True), marker, color=COLORS[color], markersize=6, alpha=0.8, label=kind
            )
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
    _label(axes, groups)
    return figure


def _kind(row: Family) -> str:
    if row.spectrum.still:
        return "only the fastest pairs turn"
    return "not scaled" if row.scaling is None else "scaled"


def _label(axes: Axes, groups: dict[tuple[int, float], list[Family]]) -> None:
    """Write the names that fit: each beside its point, over no other name, point, line or edge."""
    points = [(row.context or 0, row.spectrum.slowest) for rows in groups.values() for row in rows]
    dots = [Bbox.from_bounds(px - 5, py - 5, 10, 10) for px, py in axes.transData.transform(points)]
    taken = [text.get_window_extent() for text in axes.texts]
    frame = axes.get_window_extent()
    order = sorted(groups.values(), key=lambda rows: (-len(rows), -rows[0].spectrum.slowest))
    for rows in order:
        name = rows[0].name + (f" +{len(rows) - 1}" if len(rows) > 1 else "")
        here = (rows[0].context, rows[0].spectrum.slowest)
        for dx, dy, ha, va in _PLACES:
            text = axes.annotate(
                name, here, xytext=(dx, dy), textcoords="offset points", ha=ha, va=va, fontsize=12,
                color=COLORS["black"],
            )  # fmt: skip
            box = text.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not box.count_overlaps([*taken, *dots]) and not _crosses(axes, box):
                taken.append(box)
                break
            text.remove()


def _crosses(axes: Axes, box: Bbox) -> bool:
    """Whether the diagonal runs through a box."""
    (left, bottom), (right, top) = axes.transData.inverted().transform([(box.x0, box.y0), (box.x1, box.y1)])
    return bool(bottom <= right and left <= top)
