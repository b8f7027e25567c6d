"""Checkers of chapter 13: the loss in nats, a baseline that counts, positions for a cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs


def _picked(scores: Tensor, targets: Tensor) -> Tensor:
    return scores.gather(-1, targets[..., None])[..., 0]


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    return -_picked(logits.log_softmax(-1), targets).mean()


def _nats_draws(d: Draw) -> Iterator[Inputs]:
    for B, N, V in ((1, 1, 2), (1, 3, 2), (2, 2, 4), (2, d.whole(4, 6), d.whole(5, 8)), (3, 4, 5)):
        yield 2 * d.tensor(B, N, V), d.wholes(B, N, low=0, high=V - 1)


check_nats = Exercise(
    "13.1",
    "nats",
    _nats,
    _nats_draws,
    {
        "the sign is wrong: log p is negative, the loss is −log p": lambda x, t: -_nats(x, t),
        "this is the sum; a loss per character divides by their number": lambda x, t: _nats(x, t) * t.numel(),
        "you divide only by the number of texts; divide by that of all characters": lambda x, t: (
            _nats(x, t) * t.shape[1]
        ),
        "these are bits (log base 2); nats use the natural logarithm": lambda x, t: (
            _nats(x, t) / torch.log(torch.tensor(2.0))
        ),
        "the logits are not normalised; take log_softmax": lambda x, t: -_picked(x, t).mean(),
        "your softmax runs over the characters of a sequence; it has to run over the last axis": lambda x, t: (
            -_picked(x.log_softmax(1), t).mean()
        ),
        "you average probabilities; average their logarithms": lambda x, t: (
            -_picked(x.softmax(-1), t).mean().log()
        ),
        "log is missing: this is a mean probability": lambda x, t: _picked(x.softmax(-1), t).mean(),
        "this is the perplexity; its logarithm is the loss": lambda x, t: _nats(x, t).exp(),
        "the targets are shifted once more; they are already the next characters": lambda x, t: _nats(
            x[:, :-1], t[:, 1:]
        ),
        "this is one loss per character; take their mean": lambda x, t: -_picked(x.log_softmax(-1), t),
        "this is one loss per text; take the mean over all characters": lambda x, t: (
            -_picked(x.log_softmax(-1), t).mean(-1)
        ),
        "the softmax is taken twice": lambda x, t: _nats(x.softmax(-1), t),
    },
    right="that is the number on every curve of this chapter.",
    properties={"a loss is positive, because no probability exceeds 1": lambda y, x, t: bool(y >= 0)},
)
"""Exercise 13.1: `nats(logits, targets)`, logits (B, N, V) and targets (B, N), one number."""


def _counts(text: Tensor, V: int) -> Tensor:
    return torch.bincount(text[:-1] * V + text[1:], minlength=V * V).double().view(V, V)


def _score(p: Tensor, text: Tensor) -> Tensor:
    return -p.log()[text[:-1], text[1:]].mean()


def _rows(counts: Tensor) -> Tensor:
    return counts / counts.sum(-1, keepdim=True)


def _bigram_loss(train: Tensor, val: Tensor, V: int) -> Tensor:
    return _score(_rows(_counts(train, V) + 1), val)


def _bigram_draws(d: Draw) -> Iterator[Inputs]:
    yield torch.tensor([0, 1, 0, 0, 1]), torch.tensor([1, 0, 0]), 2
    for V, n in ((3, 12), (4, 30), (d.whole(5, 7), 40)):
        yield d.wholes(n, low=0, high=d.one_of(V - 1, V - 2)), d.wholes(n // 2, low=0, high=V - 2), V
    yield d.wholes(20, low=0, high=2), d.wholes(9, low=0, high=2), 5  # two ids never occur


def _single(train: Tensor, val: Tensor, V: int) -> Tensor:
    counts = torch.bincount(train, minlength=V).double() + 1
    return -(counts / counts.sum()).log()[val[1:]].mean()


check_bigram_loss = Exercise(
    "13.2",
    "bigram_loss",
    _bigram_loss,
    _bigram_draws,
    {
        "the loss is measured on the training text; measure it on val": lambda t, v, V: _bigram_loss(t, t, V),
        "the pairs of val are counted; count those of train": lambda t, v, V: _bigram_loss(v, v, V),
        "this counts only single characters; count pairs": _single,
        "rows and columns are swapped: the row is the character before": lambda t, v, V: _score(
            _rows(_counts(t, V).T + 1), v
        ),
        "one count is missing: add 1 to every pair": lambda t, v, V: _score(_rows(_counts(t, V)), v),
        "each pair counts only once: index_put_ without accumulate, or counts[a, b] += 1": lambda t, v, V: (
            _score(_rows((_counts(t, V) > 0) + 1.0), v)
        ),
        "divide each row by its own sum, not all by the sum of all": lambda t, v, V: _score(
            (_counts(t, V) + 1) / (_counts(t, V) + 1).sum(), v
        ),
        "the columns are normalised; the probabilities of what comes next are a row": lambda t, v, V: _score(
            (_counts(t, V) + 1) / (_counts(t, V) + 1).sum(0), v
        ),
        "V is not used: ids that do not occur in the texts have a probability too": lambda t, v, V: (
            _bigram_loss(t, v, int(max(t.max(), v.max())) + 1)
        ),
        "the sign is wrong: log p is negative, the loss is −log p": lambda t, v, V: -_bigram_loss(t, v, V),
        "this is the sum over the pairs of val; take their mean": lambda t, v, V: (
            _bigram_loss(t, v, V) * (len(v) - 1)
        ),
        "there is one pair fewer than there are characters; you divide by the number of characters": (
            lambda t, v, V: _bigram_loss(t, v, V) * (len(v) - 1) / len(v)
        ),
    },
    right="a model has learned something from longer context only once its loss is below this.",
)
"""Exercise 13.2: `bigram_loss(train, val, V)`: counts of pairs plus one, then the loss on `val`."""


def _lengths(mask: Tensor) -> Tensor:
    return mask.sum(-1, keepdim=True)


def _next_positions(mask: Tensor, new: int) -> Tensor:
    return _lengths(mask) + torch.arange(new)


def _mask_draws(d: Draw) -> Iterator[Inputs]:
    for B, N, new in ((1, 3, 1), (2, 3, 2), (3, d.whole(5, 6), 4), (2, d.whole(7, 9), 5)):
        lengths = torch.tensor([d.whole(1, N - 1) for _ in range(B - 1)] + [N - 1 if B == 1 else N])
        yield torch.arange(N) >= N - lengths[:, None], new


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
    },
    right="the cache cannot know the positions; the code that pads has to.",
)
"""Exercise 13.3: `next_positions(mask, new)`, positions (B, new) after left-padded prompts (B, N)."""
