"""Where the heads of a model look: attention weights by distance, and over how many keys they are spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rope_lab.attention import MultiHeadAttention, attention_mask
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
