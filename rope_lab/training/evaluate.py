"""The loss on a whole text, in nats per character: every character is predicted once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.encodings import LearnedEmbedding
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
        TypeError: if `model` is not a RoFormer.
        ValueError: if `ids` has another shape or `batch` is not positive.
    """
    _check(model, ids, batch)
    context, count = model.config.context, len(ids) - 1
    whole = count // context * context
    losses = []
    if whole:
        losses.append(token_losses(model, ids[: whole + 1], context, batch=batch))
    if whole < count:  # the short last segment
        losses.append(token_losses(model, ids[whole:], count - whole))
    return torch.cat([part.flatten() for part in losses]).sum().item() / count


@torch.inference_mode()
def token_losses(
    model: RoFormer, ids: Tensor, length: int, *, stride: int | None = None, batch: int = 32
) -> Tensor:
    """The loss of every prediction in segments of any length, even longer than those the model was trained on.

    Averaged over the segments, its columns show the loss by position. Its last `stride` columns on their own are
    sliding-window evaluation: each target counts once, and each has at least length − stride characters before it.

    Args:
        model: put back into training mode afterwards if it was in it.
        ids: the text as character ids, shape (N,).
        length: characters of a segment.
        stride: from one segment's start to the next, by default `length`: no overlap.
        batch: segments computed at once.

    Returns:
        Nats, float64 on the CPU, shape (segments, length): all whole segments of the text.

    Raises:
        ValueError: if an argument is out of range, the text has no whole segment, or the positions are learned and
            `length` is beyond their table.
    """
    _check(model, ids, batch)
    stride = length if stride is None else stride
    check_length(model, ids, length)
    if not 1 <= stride <= length:
        raise ValueError(f"stride must lie between 1 and length={length}, got {stride}")
    segments = ids.to(model.embedding.weight.device).unfold(0, length + 1, stride)  # (S, length + 1)
    training = model.training
    model.eval()
    losses = []
    for piece in segments.split(batch):
        logits = model(piece[:, :-1]).float()  # (B, N, V)
        losses.append(F.cross_entropy(logits.mT, piece[:, 1:], reduction="none").cpu().double())
    model.train(training)
    return torch.cat(losses)


def require_model(model: object, name: str = "model") -> RoFormer:
    """The model itself; a TypeError that names the argument, unless it is a RoFormer."""
    if not isinstance(model, RoFormer):
        raise TypeError(f"{name} must be a RoFormer, got {type(model).__name__}")
    return model


def check_length(model: RoFormer, ids: Tensor, length: int) -> None:
    """Raise a ValueError unless the text has a segment of this length and the model has positions for it."""
    if not 1 <= length < len(ids):
        raise ValueError(
            f"length must lie between 1 and the {len(ids) - 1} targets of the text, got {length}"
        )
    if isinstance(model.position, LearnedEmbedding) and length > model.position.table.num_embeddings:
        rows = model.position.table.num_embeddings
        raise ValueError(f"length must be at most {rows}, the number of learned positions, got {length}")


def _check(model: RoFormer, ids: Tensor, batch: int) -> None:
    require_model(model)
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"ids must have shape (N,) with N at least 2, got {tuple(ids.shape)}")
    if batch < 1:
        raise ValueError(f"batch must be positive, got {batch}")
