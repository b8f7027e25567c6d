"""The checker of chapter 13 on the positions of tokens that come after padded prompts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs


def _lengths(mask: Tensor) -> Tensor:
    return mask.sum(-1, keepdim=True)


def _next_positions(mask: Tensor, new: int) -> Tensor:
    return _lengths(mask) + torch.arange(new)


def _mask_draws(d: Draw) -> Iterator[Inputs]:
    for B, N, new in ((1, 3, 1), (2, 3, 2), (3, d.whole(5, 6), 4), (2, d.whole(7, 9), 5)):
        lengths = torch.tensor([d.whole(1, N - 1) for _ in range(B - 1)] + [N - 1 if B == 1 else N])
        yield torch.arange(N) >= N - lengths[:, None], new
    yield (
        torch.arange(300) >= torch.tensor([[d.whole(5, 20)], [d.whole(130, 160)]]),
        6,
    )  # more than 8 bits count


check_next_positions = Exercise(
    "13.3",
    "next_positions",
    _next_positions,
    _mask_draws,
    {
        "every row starts at the width of the batch; a padded row has fewer real tokens": lambda m, new: (
            m.shape[1] + torch.arange(new)
        ).expand(len(m), new),
        "the positions start at 0 again: the cache holds tokens before them": lambda m, new: torch.arange(
            new
        ).expand(len(m), new),
        "these are one too large: after L tokens at 0 … L − 1 comes position L": lambda m, new: (
            _next_positions(m, new) + 1
        ),
        "these are one too small: the last prompt token is at L − 1, the next at L": lambda m, new: (
            _next_positions(m, new) - 1
        ),
        "you count the padding, not the real tokens": lambda m, new: _next_positions(~m, new),
        "all new tokens of a row have one position; they continue by one": lambda m, new: _lengths(m).expand(
            -1, new
        ),
        "every row has the length of the first; each has its own": lambda m, new: _next_positions(
            m[:1].expand_as(m), new
        ),
        "every row continues from the longest; each has its own length": lambda m, new: (
            _lengths(m).max() + torch.arange(new)
        ).expand(len(m), new),
        "these are the positions of the prompt and the new tokens; return only the new ones": lambda m, new: (
            torch.cat(((m.cumsum(-1) - 1).clamp_min(0), _next_positions(m, new)), dim=-1)
        ),
        "the mask is summed over the texts; sum over the tokens of each, dim=-1": (
            lambda m, new: m.sum(0)[:, None] + torch.arange(new)
        ),
        "the new tokens belong on the last axis: .sum(-1, keepdim=True), one row per text": (
            lambda m, new: m.sum(-1) + torch.arange(new)[:, None]
        ),
        "the sum is computed in 8 bits, and wraps around beyond 127 tokens": (
            lambda m, new: (_lengths(m) + 128) % 256 - 128 + torch.arange(new)
        ),
        "the sum is computed in 8 bits, and wraps around beyond 255 tokens": (
            lambda m, new: _lengths(m) % 256 + torch.arange(new)
        ),
    },
    right="the cache cannot know the positions; the code that pads has to.",
)
"""Exercise 13.3: `next_positions(mask, new)`, positions (B, new) after left-padded prompts (B, N)."""
