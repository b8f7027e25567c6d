"""Checkers of chapter 13: the loss in nats, a baseline that counts, positions beside a cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rope_lab.exercises.feedback import Feedback, compare


def check_nats(nats: Callable[[Tensor, Tensor], Tensor]) -> Feedback:
    """Exercise 13.1: `nats(logits, targets)`, logits (B, N, V) and targets (B, N), one number."""
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(7, (2, 5), generator=generator)
    right = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    mistakes = {
        "the sign: log p is negative, the loss is −log p": right.mean(),
        "this is the sum; a loss a character divides by their number": -right.sum(),
        "these are bits (log base 2); nats use the natural logarithm": -right.mean()
        / torch.log(torch.tensor(2.0)),
        "the logits are not normalised; take log_softmax": -logits.gather(-1, targets[..., None]).mean(),
        "the softmax runs over the characters of a text; it runs over the last axis": -logits.log_softmax(1)
        .gather(-1, targets[..., None])
        .mean(),
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


def check_bigram_loss(bigram_loss: Callable[[Tensor, Tensor, int], Tensor]) -> Feedback:
    """Exercise 13.2: `bigram_loss(train, val, V)`: counts of pairs plus one, then the loss on `val`."""
    generator = torch.Generator().manual_seed(2)
    train, val = (torch.randint(4, (n,), generator=generator) for n in (60, 25))
    train[::3], val[::3] = 0, 0

    def loss(counts: Tensor, pairs: Tensor) -> Tensor:
        p = counts / counts.sum(-1, keepdim=True)
        return -p.log()[pairs[:-1], pairs[1:]].mean()

    counts = torch.zeros(4, 4, dtype=torch.float64)
    counts.index_put_((train[:-1], train[1:]), torch.ones(59, dtype=torch.float64), accumulate=True)
    once = (counts > 0).double()
    single = torch.bincount(train, minlength=4).double() + 1
    mistakes = {
        "the loss is measured on the training text; measure it on val": loss(counts + 1, train),
        "this counts the characters alone; count pairs": -(single / single.sum()).log()[val[1:]].mean(),
        "rows and columns have changed places: the row is the character before": loss(counts.T + 1, val),
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
        right="this is the line that the model has to go below before it has learned anything.",
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
        "one too many: after L tokens at 0 … L − 1 comes position L": lengths + ahead + 1,
        "one too few: the last prompt token is at L − 1, the next at L": lengths + ahead - 1,
        "you count the padding, not the real tokens": (~mask).sum(-1, keepdim=True) + ahead,
        "all new tokens of a row have one position; they go on by one": lengths.expand(3, 4),
    }
    answer: object = next_positions(mask.clone(), 4)
    if isinstance(answer, Tensor) and answer.dtype == torch.bool:
        return Feedback("13.3", False, "return integers, got torch.bool.")
    return compare(
        "13.3",
        answer.double() if isinstance(answer, Tensor) else answer,
        (lengths + ahead).double(),
        {why: wrong.double() for why, wrong in mistakes.items()},
        right="the cache cannot know positions; whoever pads has to.",
    )
