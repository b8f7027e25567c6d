"""Text from a trained model, one token at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from rope_lab.encodings import LearnedEmbedding
from rope_lab.model import RoFormer, choose
from rope_lab.training.evaluate import require_model


def sample(
    model: RoFormer,
    prompt: Sequence[int],
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    context: int | None = None,
    cached: bool = True,
) -> Iterator[int]:
    """Draw `count` tokens after `prompt`, each as soon as it is known.

    The model looks back at most `context` tokens. When they are full, it continues from their second half, encoded
    again from position 0. So with the default `context`, no encoding sees a position or distance beyond those of
    training.

    Args:
        model: a causal RoFormer.
        prompt: token ids, at least one; the last `context` of them are read.
        count: tokens to draw.
        temperature: the logits are divided by it; with 0 the likeliest token is taken.
        top_k: draw among the k likeliest tokens only.
        top_p: draw among the likeliest tokens that together have this probability (nucleus sampling, arXiv:1904.09751).
        seed: fixes the draw.
        context: tokens looked back at; by default those the model was trained on.
        cached: keep keys and values. Without them the computation is the same up to rounding, but slower.

    Returns:
        An iterator over token ids.

    Raises:
        TypeError: if `model` is not a RoFormer.
        ValueError: naming the first argument that is out of range.
    """
    require_model(model)
    context = model.config.context if context is None else context
    last = model.config.vocab_size - 1
    rows = model.position.table.num_embeddings if isinstance(model.position, LearnedEmbedding) else context
    strange = next((token for token in prompt if not 0 <= token <= last), None)
    for fits, message in (
        (model.config.causal, "model must be causal: an encoder sees the tokens it would have to draw"),
        (len(prompt) > 0, "prompt must hold at least one token, got none"),
        (strange is None, f"prompt must hold ids from 0 to {last}, got {strange}"),
        (count >= 0, f"count must not be negative, got {count}"),
        (0 <= temperature < math.inf, f"temperature must be finite and not negative, got {temperature}"),
        (top_k is None or top_k >= 1, f"top_k must be at least 1, got {top_k}"),
        (top_p is None or 0 < top_p <= 1, f"top_p must lie in (0, 1], got {top_p}"),
        (0 <= seed < 2**63, f"seed must lie in [0, 2**63), got {seed}"),
        (context >= 1, f"context must be at least 1, got {context}"),
        (context <= rows, f"context must be at most {rows} for learned positions, got {context}"),
    ):
        if not fits:
            raise ValueError(message)
    return _draw(model, list(prompt)[-context:], count, temperature, top_k, top_p, seed, context, cached)


def _draw(
    model: RoFormer,
    window: list[int],
    count: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    context: int,
    cached: bool,
) -> Iterator[int]:
    device = model.embedding.weight.device
    generator = torch.Generator().manual_seed(seed)
    cache = model.new_cache(context)
    training = model.training
    model.eval()
    try:
        for _ in range(count):
            if len(window) > context:
                window = window[-max(1, context // 2) :]
                cache = model.new_cache(context)
            fresh = window[cache[0].length :] if cached else window
            with torch.inference_mode():
                logits = model(torch.tensor([fresh]).to(device), cache=cache if cached else None)
                token = choose(logits[0, -1].float().cpu(), temperature, top_k, top_p, generator)
            window.append(token)
            yield token
    finally:
        model.train(training)
