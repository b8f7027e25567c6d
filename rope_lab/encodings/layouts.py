"""From one layout to the other: reorder the coordinates of tensors, or those of weights once and for all."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from rope_lab.checks import is_integer
from rope_lab.encodings.rotary import Layout


def convert_layout(
    x: Tensor, source: Layout, target: Layout, *, rotary_dim: int | None = None, axis: int = -1
) -> Tensor:
    """Reorder the coordinates of a head from one layout to the other; the unrotated tail stays in place.

    With p = (0, 2, 4, …, 1, 3, 5, …), half = interleaved[p]: rotating then converting equals converting then
    rotating in the other layout.

    Args:
        x: any tensor whose `axis` holds the D coordinates of a head.
        source: layout of `x`.
        target: layout of the result.
        rotary_dim: number of rotated coordinates R; by default all.
        axis: the axis of the coordinates.

    Returns:
        A tensor of the shape of `x`.

    Raises:
        ValueError: if a layout is unknown, `axis` is not an axis of `x`, or `rotary_dim` does not fit it.
    """
    for name, layout in (("source", source), ("target", target)):
        if layout not in get_args(Layout):
            raise ValueError(f"{name} must be one of {get_args(Layout)}, got {layout!r}")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis must be one of the {x.ndim} of x, got {axis}")
    size = x.shape[axis]
    rotary_dim = size if rotary_dim is None else rotary_dim
    if not is_integer(rotary_dim) or rotary_dim % 2 or not 0 <= rotary_dim <= size:
        raise ValueError(f"rotary_dim must be an even integer from 0 to {size}, got {rotary_dim}")
    rotary_dim = int(rotary_dim)
    if source == target:
        return x
    pairs = torch.arange(rotary_dim, device=x.device)
    pairs = pairs.view(-1, 2).T if target == "half" else pairs.view(2, -1).T
    order = torch.cat((pairs.flatten(), torch.arange(rotary_dim, size, device=x.device)))
    return x.index_select(axis, order)


def convert_projection(
    weight: Tensor, heads: int, source: Layout, target: Layout, *, rotary_dim: int | None = None
) -> Tensor:
    """Reorder the rows of a query or key projection, so that it feeds a rotation of the other layout.

    Scores stay the same if and only if the query and the key projection are both converted.

    Args:
        weight: weight (heads·D, C) or bias (heads·D,) of the projection.
        heads: number of heads in it (for keys with grouped queries, the number of key heads).
        source: layout the projection was trained for.
        target: layout it shall feed.
        rotary_dim: rotated coordinates of each head; by default all of them.

    Raises:
        ValueError: if the rows are not a multiple of `heads`, or as in `convert_layout`.
    """
    if weight.ndim not in (1, 2):
        raise ValueError(f"weight must have shape (heads·D, C) or (heads·D,), got {tuple(weight.shape)}")
    if not is_integer(heads) or heads <= 0 or weight.shape[0] % heads:
        raise ValueError(f"heads must divide the {weight.shape[0]} rows of weight, got {heads}")
    rows = weight.unflatten(0, (int(heads), -1))
    return convert_layout(rows, source, target, rotary_dim=rotary_dim, axis=1).flatten(0, 1)
