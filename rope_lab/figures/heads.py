"""The attention viewer: how far back every head of a model looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from rope_lab.attention import MultiHeadAttention, attention_mask
from rope_lab.figures.style import COLORS, GREY, new_figure
from rope_lab.model import RoFormer


def attention_by_distance(model: RoFormer, ids: Tensor, *, first: int | None = None) -> Tensor:
    """Mean attention weight of every head by distance, whatever encoding, window and mask the model has.

    Args:
        model: any RoFormer; it is evaluated without dropout.
        ids: token ids (B, N).
        first: queries before this one are left out, since they have no far keys; by default N // 2.

    Returns:
        float64, (layers, H, N): the mean, over queries `first` to N − 1 and over the batch, of the weight that a
            query gives to the keys at distance 0, 1, …, N − 1, earlier or later. Each row sums to 1.

    Raises:
        ValueError: if `ids` does not have shape (B, N) or `first` is not a query.
    """
    start = _first(ids, first)
    return _of_weights(model, ids, lambda weights: _gather(weights.cpu().double().mean(0), start))


def keys_attended(model: RoFormer, ids: Tensor, *, first: int | None = None) -> Tensor:
    """Over how many keys a query spreads its attention: e to the entropy of its weights, their perplexity.

    It is n for a query that gives n keys the same weight and all others zero.

    Args:
        model, ids, first: as `attention_by_distance`.

    Returns:
        float64, (layers, H): the mean over queries `first` to N − 1 and over the batch.
    """
    start = _first(ids, first)
    return _of_weights(
        model,
        ids,
        lambda weights: torch.special.entr(weights[:, :, start:].double()).sum(-1).exp().mean((0, 2)).cpu(),
    )


@torch.no_grad()
def _of_weights(model: RoFormer, ids: Tensor, say: Callable[[Tensor], Tensor]) -> Tensor:
    """What `say` makes of the attention weights (B, H, N, N) of every layer, stacked."""
    found: list[Tensor] = []

    def look(layer: MultiHeadAttention, inputs: tuple[Tensor], options: dict[str, Any]) -> None:
        kept = {name: options.get(name) for name in ("positions", "segments")}
        found.append(say(layer.weights(inputs[0], **kept)))

    hooks = [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in _layers(model)]
    training = model.training
    model.eval()
    try:
        model.hidden(ids)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return torch.stack(found)


def even_by_distance(model: RoFormer, ids: Tensor, *, first: int | None = None) -> Tensor:
    """What `attention_by_distance` gives if every query attends uniformly to all keys that it may see: (layers, N)."""
    first, count = _first(ids, first), ids.shape[-1]
    rows = []
    for layer in _layers(model):
        allowed = attention_mask(count, count, causal=layer.causal, window=layer.window)
        seen = torch.ones(count, count) if allowed is None else allowed[0, 0]
        rows.append(_gather((seen / seen.sum(-1, keepdim=True).double())[None], first)[0])
    return torch.stack(rows)


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


def _layers(model: RoFormer) -> list[MultiHeadAttention]:
    return [module for module in model.modules() if isinstance(module, MultiHeadAttention)]


def _first(ids: Tensor, first: int | None) -> int:
    if ids.ndim != 2 or not ids.numel():
        raise ValueError(f"ids must have shape (B, N), neither of them 0, got {tuple(ids.shape)}")
    count = ids.shape[1]
    first = count // 2 if first is None else first
    if not 0 <= first < count:
        raise ValueError(f"first must lie between 0 and {count - 1}, the last query, got {first}")
    return first


def _gather(weights: Tensor, first: int) -> Tensor:
    """(H, N, N), one row per query -> (H, N), by distance, the mean over queries from `first` on."""
    count = weights.shape[-1]
    index = torch.arange(count, device=weights.device)
    distance = (index[first:, None] - index).abs().flatten()
    sums = weights.new_zeros(len(weights), count).index_add(1, distance, weights[:, first:].flatten(1))
    return sums / (count - first)


def _seen(weights: NDArray[Any]) -> NDArray[Any]:
    """Remove the zeros, which have no logarithm: distances that no query sees."""
    return np.where(weights > 0, weights, np.nan)
