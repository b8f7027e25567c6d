"""The loss on a whole text: every character is predicted once, in nats per character."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.model import RoFormer


@torch.inference_mode()
def evaluate(model: RoFormer, ids: Tensor, *, batch: int = 32) -> float:
    """Mean negative log-likelihood of each character given those before it in its segment.

    The text is cut into segments of the model's context, one after the other; the last may be shorter. So
    every character but the first is a target exactly once, and sees at most `context` characters before it.

    Args:
        model: put back into training mode afterwards if it was in it.
        ids: the text as character ids, shape (N,), at least two.
        batch: segments computed at once; it does not change what is measured.

    Returns:
        Nats per character.

    Raises:
        ValueError: if `ids` has another shape or `batch` is not positive.
    """
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"ids must have shape (N,) with N at least 2, got {tuple(ids.shape)}")
    if batch < 1:
        raise ValueError(f"batch must be positive, got {batch}")
    ids = ids.to(model.embedding.weight.device)
    context, count = model.config.context, len(ids) - 1
    whole = count // context * context
    pieces = list(ids[:whole].view(-1, context).split(batch)) if whole else []
    targets = list(ids[1 : whole + 1].view(-1, context).split(batch)) if whole else []
    if whole < count:  # the short last segment
        pieces.append(ids[None, whole:count])
        targets.append(ids[None, whole + 1 :])
    training = model.training
    model.eval()
    total = 0.0  # a Python float: 64 bits on every device
    for piece, target in zip(pieces, targets, strict=True):
        total += F.cross_entropy(model(piece).float().flatten(0, 1), target.flatten(), reduction="sum").item()
    model.train(training)
    return total / count
