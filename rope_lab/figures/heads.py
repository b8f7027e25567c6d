"""The attention viewer: how far back every head of a model looks."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from rope_lab.experiments.looking import attention_by_distance, even_by_distance
from rope_lab.figures.style import COLORS, GREY, new_figure
from rope_lab.model import RoFormer


def heads_by_distance(model: RoFormer, ids: Tensor, *, first: int | None = None) -> Figure:
    """How much attention every head pays to each distance; one row of panels per layer, one column per head.

    Both axes are logarithmic. The dashed line is attention that is uniform over all keys that a query may
    see; the vertical line marks the mean distance, which is written above it.

    Args:
        model, ids, first: as `attention_by_distance`.
    """
    weights = attention_by_distance(model, ids, first=first).cpu().numpy()
    even = even_by_distance(model, ids, first=first).numpy()
    layers, heads, count = weights.shape
    size = (max(7.5, 1.3 * heads + 0.9), 1.3 * layers + 0.9)
    figure, axes = new_figure(layers, heads, size=size, sharex=True, sharey=True, squeeze=False)
    back, lowest = np.arange(count), even[even > 0].min() / 30  # what weighs less is out of the picture
    panel: Axes
    for (layer, head), panel in np.ndenumerate(axes):
        weight, mean = weights[layer, head], float(weights[layer, head] @ back)
        panel.plot(back + 1, _seen(even[layer]), "--", color=GREY, linewidth=1.5)
        panel.plot(back + 1, _seen(weight), color=COLORS["blue"])
        panel.axvline(mean + 1, ymax=0.8, color=COLORS["vermilion"], linewidth=1.5)
        panel.set_title(f"mean {mean:.1f}", loc="right", y=0.8, color=COLORS["vermilion"])
        panel.set(xscale="log", yscale="log", xlim=(0.8, 1.2 * count), ylim=(lowest, 8))
        ticks = [1, *(10**i + 1 for i in range(1, 6) if 10**i < count)]
        panel.set_xticks(ticks, [str(tick - 1) for tick in ticks])
        panel.minorticks_off()
        if head == 0:
            panel.set_ylabel(f"layer {layer + 1}")
        if layer == 0:
            panel.set_title(f"head {head + 1}")
    axes[0, 0].annotate(
        "uniform", (1, even[0, 0]), xytext=(2, -2), textcoords="offset points", color=GREY, va="top"
    )
    figure.supxlabel("distance (tokens)", fontsize=12)
    figure.supylabel("mean attention weight", fontsize=12)
    return figure


def _seen(weights: NDArray[Any]) -> NDArray[Any]:
    """Remove the zeros, which have no logarithm: distances that no query sees."""
    return np.where(weights > 0, weights, np.nan)
