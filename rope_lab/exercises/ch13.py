"""Checkers of chapter 13: the loss in nats, a baseline that counts, positions for a cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs


def check_nats(nats: Callable[[Tensor, Tensor], Tensor]) -> Feedback:
    """Exercise 13.1: `nats(logits, targets)`, logits (B, N, V) and targets (B, N), one number."""
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(7, (2, 5), generator=generator)
    right = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    mistakes = {
        "the sign is wrong: log p is negative, the loss is −log p": right.mean(),
        "this is the sum; for a loss per character, divide it by their number": -right.sum(),
        "these are bits (log base 2); nats use the natural logarithm": -right.mean()
        / torch.log(torch.tensor(2.0)),
        "the logits are not normalised; take log_softmax": -logits.gather(-1, targets[..., None]).mean(),
        "your softmax runs over the characters of a sequence; "
        "it has to run over the last axis": -logits.log_softmax(1).gather(-1, targets[..., None]).mean(),
        "you average probabilities; average their logarithms": -right.exp().mean().log(),
        "log is missing: this is a mean probability": right.exp().mean(),
    }
    return compare(
        "13.1",
        nats(logits.clone(), targets.clone()),
        -right.mean(),
        mistakes,
        right="that is the number on every curve of this chapter.",
    )


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    return -_picked(logits.log_softmax(-1), targets).mean()


    counts = torch.zeros(4, 4, dtype=torch.float64)
    counts.index_put_((train[:-1], train[1:]), torch.ones(59, dtype=torch.float64), accumulate=True)
    once = (counts > 0).double()
    single = torch.bincount(train, minlength=4).double() + 1
    mistakes = {
        "the loss is measured on the training text; measure it on val": loss(counts + 1, train),
        "this counts only single characters; count pairs": -(single / single.sum()).log()[val[1:]].mean(),
        "rows and columns are swapped: the row is the character before": loss(counts.T + 1, val),
        "one count is missing: add 1 to every pair": loss(counts, val),
        "each pair counts only once: index_put_ without accumulate, or counts[a, b] += 1": loss(
            once + 1, val
        ),
        "divide each row by its own sum, not all by the sum of all": -((counts + 1) / (counts + 1).sum())
        .log()[val[:-1], val[1:]]
        .mean(),
        "the columns are normalised; the probabilities of what comes next are a row": -(
            (counts + 1) / (counts + 1).sum(0)
        )
        .log()[val[:-1], val[1:]]
        .mean(),
    }
    return compare(
        "13.2",
        bigram_loss(train.clone(), val.clone(), 4),
        loss(counts + 1, val),
        mistakes,
        right="a model has learned something from longer context only once its loss is below this.",
    )


def check_next_positions(next_positions: Callable[[Tensor, int], Tensor]) -> Feedback:
    """Exercise 13.3: `next_positions(mask, new)`, positions (B, new) after left-padded prompts (B, N)."""
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]], dtype=torch.bool)
    lengths = mask.sum(-1, keepdim=True)
    ahead = torch.arange(4)
    mistakes = {
        "every row starts at the width of the batch; a padded row has fewer real tokens": (
            mask.shape[1] + ahead
        ).expand(3, 4),
        "the positions start at 0 again: the cache holds tokens before them": ahead.expand(3, 4),
        "these are one too large: after L tokens at 0 … L − 1 comes position L": lengths + ahead + 1,
        "these are one too small: the last prompt token is at L − 1, the next at L": lengths + ahead - 1,
        "you count the padding, not the real tokens": (~mask).sum(-1, keepdim=True) + ahead,
        "all new tokens of a row have the same position; each is one further than the last": lengths.expand(
            3, 4
        ),
    }
    answer: object = next_positions(mask.clone(), 4)
    if isinstance(answer, Tensor) and answer.dtype == torch.bool:
        return Feedback("13.3", False, "return integers, got torch.bool.")
    return compare(
        "13.3",
        answer.double() if isinstance(answer, Tensor) else answer,
        (lengths + ahead).double(),
        {why: wrong.double() for why, wrong in mistakes.items()},
        right="the cache cannot know the positions; the code that pads has to.",
    )
