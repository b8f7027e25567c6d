"""Checkers of chapter 13: a loss in nats, a baseline that counts, positions for a cache, a sum of parts, one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.padded import check_next_positions

__all__ = [
    "check_accumulated_loss",
    "check_nats",
    "check_next_positions",
    "check_ngram_loss",
    "check_one_before",
]


def _picked(scores: Tensor, targets: Tensor) -> Tensor:
    return scores.gather(-1, targets[..., None])[..., 0]


def _at(logits: Tensor, targets: Tensor) -> Tensor:
    return -_picked(logits.log_softmax(-1), targets).mean()


def _nats(logits: Tensor, ids: Tensor) -> Tensor:
    return _at(logits[:, :-1], ids[:, 1:])


def _nats_draws(d: Draw) -> Iterator[Inputs]:
    for B, N, V in ((1, 2, 2), (1, 4, 2), (2, 3, 4), (2, d.whole(4, 6), d.whole(5, 8)), (3, 4, 5)):
        yield 2 * d.tensor(B, N, V), d.wholes(B, N, low=0, high=V - 1)


def _shifted(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, ids: loss(logits[:, :-1], ids[:, 1:])


check_nats = Exercise(
    "13.1",
    "nats",
    _nats,
    _nats_draws,
    {
        "place t is compared with its own character; its logits are for the next one": _at,
        "these are shifted the wrong way: the logits at place t are for the character at t + 1": lambda x, ids: (
            _at(x[:, 1:], ids[:, :-1])
        ),
        "the last place is compared with the first character; what comes after it is not in the text": (
            lambda x, ids: _at(x, ids.roll(-1, 1))
        ),
        "there is one prediction fewer than there are places; you divide by the number of places": lambda x, ids: (
            _nats(x, ids) * (ids.shape[1] - 1) / ids.shape[1]
        ),
        "the sign is wrong: log p is negative, the loss is −log p": lambda x, ids: -_nats(x, ids),
        "this is the sum; a loss per character divides by their number": lambda x, ids: (
            _nats(x, ids) * ids[:, 1:].numel()
        ),
        "you divide only by the number of texts; divide by that of all predictions": lambda x, ids: (
            _nats(x, ids) * (ids.shape[1] - 1)
        ),
        "these are bits (log base 2); nats use the natural logarithm": lambda x, ids: (
            _nats(x, ids) / torch.log(torch.tensor(2.0))
        ),
        "the logits are not normalised; take log_softmax": _shifted(lambda x, t: -_picked(x, t).mean()),
        "your softmax runs over the characters of a sequence; it has to run over the last axis": _shifted(
            lambda x, t: -_picked(x.log_softmax(1), t).mean()
        ),
        "you average probabilities; average their logarithms": _shifted(
            lambda x, t: -_picked(x.softmax(-1), t).mean().log()
        ),
        "log is missing: this is a mean probability": _shifted(lambda x, t: _picked(x.softmax(-1), t).mean()),
        "this is the perplexity; its logarithm is the loss": lambda x, ids: _nats(x, ids).exp(),
        "this is one loss per character; take their mean": _shifted(
            lambda x, t: -_picked(x.log_softmax(-1), t)
        ),
        "this is one loss per text; take the mean over all characters": _shifted(
            lambda x, t: -_picked(x.log_softmax(-1), t).mean(-1)
        ),
        "the softmax is taken twice": lambda x, ids: _nats(x.softmax(-1), ids),
        "the texts run into each other: shift each of them, before they are flattened": (
            lambda x, ids: _at(x.flatten(0, 1)[:-1], ids.flatten()[1:])
        ),
        "this is shifted by two; the logits at place t are for the character at t + 1": (
            lambda x, ids: _at(x[:, :-2], ids[:, 2:])
        ),
    },
    right="that is the number on every curve of this chapter.",
    properties={"a loss is positive, because no probability exceeds 1": lambda y, x, ids: bool(y >= 0)},
)
"""Exercise 13.1: `nats(logits, ids)`, logits (B, N, V) after each character of ids (B, N), one number."""


def _runs(text: Tensor, V: int, n: int) -> tuple[Tensor, Tensor]:
    """Number of the n characters before, and the character after them, of every place that has n before it."""
    windows = text.unfold(0, n + 1, 1)
    return (windows[:, :-1] * V ** torch.arange(n - 1, -1, -1)).sum(-1), windows[:, -1]


def _counts(text: Tensor, V: int, n: int) -> Tensor:
    before, after = _runs(text, V, n)
    return torch.bincount(before * V + after, minlength=V ** (n + 1)).double().view(V**n, V)


def _score(p: Tensor, text: Tensor, n: int) -> Tensor:
    return -p.log()[_runs(text, p.shape[-1], n)].mean()


def _rows(counts: Tensor) -> Tensor:
    return counts / counts.sum(-1, keepdim=True)


def _ngram_loss(train: Tensor, val: Tensor, V: int, n: int) -> Tensor:
    return _score(_rows(_counts(train, V, n) + 1), val, n)


def _ngram_draws(d: Draw) -> Iterator[Inputs]:
    yield torch.tensor([0, 1, 0, 0, 1]), torch.tensor([1, 0, 0]), 2, 1
    yield d.wholes(9, low=0, high=2), d.wholes(5, low=0, high=2), 3, 0
    for V, size, n in ((3, 12, 1), (2, 20, 3), (4, 30, 2), (d.whole(5, 7), 40, 2)):
        yield (
            d.wholes(size, low=0, high=d.one_of(V - 1, V - 2)),
            d.wholes(size // 2, low=0, high=max(V - 2, 1)),
            V,
            n,
        )
    yield d.wholes(20, low=0, high=2), d.wholes(9, low=0, high=2), 5, 1  # two ids never occur


def _apart(text: Tensor, V: int, n: int) -> Tensor:
    """Counts of runs that do not overlap."""
    before, after = (part[:: n + 1] for part in _runs(text, V, n))
    return torch.bincount(before * V + after, minlength=V ** (n + 1)).double().view(V**n, V)


check_ngram_loss = Exercise(
    "13.2",
    "ngram_loss",
    _ngram_loss,
    _ngram_draws,
    {
        "the loss is measured on the training text; measure it on val": lambda t, v, V, n: _ngram_loss(
            t, t, V, n
        ),
        "the runs of val are counted; count those of train": lambda t, v, V, n: _ngram_loss(v, v, V, n),
        "the argument n is not used: this is for the one character before": lambda t, v, V, n: _ngram_loss(
            t, v, V, 1
        ),
        "this counts single characters, whatever comes before them": lambda t, v, V, n: _score(
            _rows(_counts(t, V, 0) + 1).expand(V**n, V), v, n
        ),
        "the run has one character too many: n of them come before": lambda t, v, V, n: _ngram_loss(
            t, v, V, n + 1
        ),
        "the text is read backwards: the n characters are those before, not those after": lambda t, v, V, n: (
            _ngram_loss(t.flip(0), v.flip(0), V, n)
        ),
        "the n characters are taken in one order in train and in the other in val": lambda t, v, V, n: _score(
            _rows(_counts(t, V, n) + 1).reshape(*[V] * n, V).permute(*reversed(range(n)), n).reshape(V**n, V),
            v,
            n,
        ),
        "one count is missing: add 1 to every count": lambda t, v, V, n: _score(
            _rows(_counts(t, V, n)), v, n
        ),
        "each run counts only once: index_put_ without accumulate, or counts[a, b] += 1": lambda t, v, V, n: (
            _score(_rows((_counts(t, V, n) > 0) + 1.0), v, n)
        ),
        "divide each row by its own sum, not all by the sum of all": lambda t, v, V, n: _score(
            (_counts(t, V, n) + 1) / (_counts(t, V, n) + 1).sum(), v, n
        ),
        "the columns are normalised; the probabilities of what comes next are a row": lambda t, v, V, n: (
            _score((_counts(t, V, n) + 1) / (_counts(t, V, n) + 1).sum(0), v, n)
        ),
        "V is not used: ids that do not occur in the texts have a probability too": lambda t, v, V, n: (
            _ngram_loss(t, v, int(max(t.max(), v.max())) + 1, n)
        ),
        "the sign is wrong: log p is negative, the loss is −log p": lambda t, v, V, n: (
            -_ngram_loss(t, v, V, n)
        ),
        "this is the sum over the characters of val; take their mean": lambda t, v, V, n: (
            _ngram_loss(t, v, V, n) * (len(v) - n)
        ),
        "the first n characters of val have no run before them; you divide by the number of all": (
            lambda t, v, V, n: _ngram_loss(t, v, V, n) * (len(v) - n) / len(v)
        ),
        "one count is missing: add 1 to every count; a run that never occurs has a row of 0 now": (
            lambda t, v, V, n: _score(
                _counts(t, V, n) / _counts(t, V, n).sum(-1, keepdim=True).clamp_min(1), v, n
            )
        ),
        "n characters come before the one that is counted; yours are n with it": (
            lambda t, v, V, n: _ngram_loss(t, v, V, max(n - 1, 0))
        ),
        "runs overlap: each place of the text begins one": (
            lambda t, v, V, n: _score(_rows(_apart(t, V, n) + 1), v, n)
        ),
    },
    right="with n = 1 this is the line that a model of the chapter has to pass.",
)
"""Exercise 13.2: `ngram_loss(train, val, V, n)`: counts after n characters plus one, then the loss on `val`."""


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Loss of each character (B, N), 0 where there is none."""
    return -_picked(logits.log_softmax(-1), targets.clamp_min(0)) * (targets >= 0)


def _accumulated_loss(logits: Tensor, targets: Tensor, rows: int) -> Tensor:
    return _losses(logits, targets).sum() / (targets >= 0).sum()


def _of_parts(weight: Callable[[Tensor], float], skip: bool = False) -> Callable[..., Tensor]:
    """The mean loss of each part, weighted by something about its targets."""

    def loss(logits: Tensor, targets: Tensor, rows: int) -> Tensor:
        parts = [
            (x, t)
            for x, t in zip(logits.split(rows), targets.split(rows), strict=True)
            if not skip or (t >= 0).any()
        ]
        means = torch.stack([_losses(x, t).sum() / (t >= 0).sum() for x, t in parts])
        weights = torch.tensor([float(weight(t)) for _, t in parts], dtype=means.dtype)
        return (means * weights).sum() / weights.sum()

    return loss


def _padded_draws(d: Draw) -> Iterator[Inputs]:
    for B, N, V, rows in (
        (1, 2, 2, 1),
        (2, 3, 2, 1),
        (3, 4, 3, 2),
        (4, d.whole(5, 6), 4, 2),
        (5, d.whole(5, 7), 3, 3),
    ):
        targets = d.wholes(B, N, low=0, high=V - 1)
        for row in targets[1:]:
            row[d.whole(1, N - 1) :] = -1
        yield 2 * d.tensor(B, N, V), targets, rows
    targets = d.wholes(4, 3, low=0, high=2)
    targets[2:] = -1  # a part of nothing but padding
    targets[1, d.whole(1, 2) :] = -1
    yield 2 * d.tensor(4, 3, 3), targets, 2


def _by_rows(logits: Tensor, targets: Tensor, rows: int) -> Tensor:
    parts = zip(logits.split(rows), targets.split(rows), strict=True)
    means = [(_losses(x, t).sum() / (t >= 0).sum()).nan_to_num() * len(x) for x, t in parts]
    return torch.stack(means).sum() / len(logits)


check_accumulated_loss = Exercise(
    "13.4",
    "accumulated_loss",
    _accumulated_loss,
    _padded_draws,
    {
        "this is what the function of the page gives; ask how much one character counts in each part": (
            _of_parts(lambda t: 1)
        ),
        "the parts are weighted by their rows or places; they may differ in their number of characters, too": _of_parts(
            len
        ),
        "this is the mean over the rows of what each row has on average; count characters": lambda x, t, rows: (
            (_losses(x, t).sum(-1) / (t >= 0).sum(-1)).mean()
        ),
        "this divides by all places, padding included": lambda x, t, rows: _losses(x, t).mean(),
        "padding is counted as the character 0": lambda x, t, rows: _at(x, t.clamp_min(0)),
        "padding is counted as the last character of the vocabulary": lambda x, t, rows: _at(
            x, t % x.shape[-1]
        ),
        "this is the sum; divide by the number of characters": lambda x, t, rows: _losses(x, t).sum(),
        "this divides by the number of parts, not by that of characters": lambda x, t, rows: (
            _losses(x, t).sum() / -(-len(t) // rows)
        ),
        "a part without characters is left out, but the others still count alike": _of_parts(
            lambda t: 1, skip=True
        ),
        "this is the first part only": lambda x, t, rows: _accumulated_loss(x[:rows], t[:rows], rows),
        "each part has the weight of its rows, also one without any character; count characters": (
            lambda x, t, rows: _by_rows(x, t, rows)
        ),
        "the last part is left out, because it is shorter": (
            lambda x, t, rows: _accumulated_loss(x[: len(x) // rows * rows], t[: len(x) // rows * rows], rows)
        ),
        "each text weighs the same, and one without characters is left out; count characters": (
            lambda x, t, rows: _of_parts(lambda part: 1, skip=True)(x, t, 1)
        ),
    },
    right="however the batch is cut into parts, every character counts the same.",
    properties={
        "a part without any character must not leave the loss undefined": lambda y, x, t, rows: bool(
            y.isfinite()
        ),
    },
)
"""Exercise 13.4: `accumulated_loss(logits, targets, rows)`, one number from parts of so many rows, mended."""


def _one_before(train: Tensor, val: Tensor, V: int) -> Tensor | None:
    counted = _counts(val, V, 1)
    p = _rows(torch.where(counted.sum(-1, keepdim=True) > 0, counted, 1.0))
    return p if _score(p, val, 1) < _ngram_loss(train, val, V, 1) - 1e-6 else None


def _zigzag(zeros: int, ones: int, climbs: int) -> Tensor:
    """A text of 0 and 1 with so many pairs 00, 11 and 01, and one pair 10 fewer."""
    return torch.tensor([0] * zeros + [0, 1] * climbs + [1] * ones)


def _table_draws(d: Draw) -> Iterator[Inputs]:
    for _ in range(2):
        zeros, ones, climbs = d.whole(0, 4), d.whole(5, 9), d.whole(1, 3)
        yield _zigzag(zeros, ones, climbs), _zigzag(zeros + 1, ones + 1, climbs + 1), 2
    for V, size in ((2, 8), (3, 20), (4, 30), (3, 25)):
        yield d.wholes(size, low=0, high=V - 1), d.wholes(size // 2 + 3, low=0, high=V - 1), V


def _not_below(y: Tensor, train: Tensor, val: Tensor, V: int) -> str:
    if y.shape != (V, V):
        return f"return a table of shape {(V, V)}, got shape {tuple(y.shape)}."
    if (y < 0).any() or (y.sum(-1) - 1).abs().max() > 1e-4:
        return "a row holds the probabilities of the next character: none is negative, and their sum is 1."
    loss, counting = float(_score(_rows(y), val, 1)), float(_ngram_loss(train, val, V, 1))
    if loss == float("inf"):
        return "your table gives a pair that occurs in val the probability 0, so its loss is infinite."
    if loss < counting - 1e-6:
        return ""
    return (
        f"the loss of your table on val is {loss:.4f}, not below the {counting:.4f} of the counts of train."
    )


check_one_before = Exercise(
    "13.5",
    "one_before",
    _one_before,
    _table_draws,
    {
        "these are the counts of train plus 1, whose loss is the one to beat": lambda train, val, V: _rows(
            _counts(train, V, 1) + 1
        ),
        "the counts of train without the 1 know no more about val": lambda train, val, V: _rows(
            _counts(train, V, 1) + 1e-9
        ),
        "these are the frequencies of val's characters; use the character before as well": lambda train, val, V: (
            _rows(_counts(val, V, 0) + 0.0).expand(V, V)
        ),
        "row and column are swapped: a row belongs to the character before": lambda train, val, V: _rows(
            _counts(val, V, 1).T + 1e-9
        ),
        "all characters get the same probability": lambda train, val, V: torch.full((V, V), 1 / V),
        "no table is better than val's own counts; where train's plus 1 have the same rows, the answer is None": (
            lambda train, val, V: _rows(_counts(val, V, 1) + 1e-12)
        ),
        "one is added to the counts of val, which makes the table flatter than that of train can be": (
            lambda t, v, V: _rows(_counts(v, V, 1) + 1)
        ),
    },
    right="a loss below that of the counts does not prove a longer memory; only counts of val itself are a bound.",
    fault=_not_below,
)
"""Exercise 13.5: `one_before(train, val, V)`: one character before, and a loss below that of the counts, or None."""
