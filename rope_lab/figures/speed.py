"""The figure of the benchmark: times in units of one `clone()`."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from rope_lab.figures.style import COLORS, GREY, new_figure


def speed(results: dict[str, Any]) -> Figure:
    """Time to rotate a tensor, `clone()` = 1, for every candidate of `rope_lab.bench`."""
    part = results["rotation"][0]
    names = [name for name in part["forward_in_clones"] if name != "clone"]
    figure, axes = new_figure(size=(7.5, 0.4 * len(names) + 1.2))
    for row, name in enumerate(reversed(names)):
        ours = name.startswith("rope_lab")
        value = part["forward_in_clones"][name]
        axes.barh(row, value, color=COLORS["blue"] if ours else COLORS["orange"], height=0.7)
        axes.text(value + 0.05, row, f"{value:.2f}", va="center", fontsize=12)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.axvline(1, color=GREY, linestyle="--", linewidth=1.5)
    axes.annotate("one clone", (1, len(names) - 0.4), color=GREY, ha="center", va="bottom")
    axes.set_xlabel("time to rotate a tensor, in clones of it")
    axes.margins(x=0.1)
    return figure
