"""Checkers of chapter 14: two rules of measuring a loss, a paired difference, and what the seeds leave undecided."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs


def _two(one: Tensor, other: Tensor) -> Tensor:
    return torch.stack((one, other))


    mistakes = {
        "the two are swapped: the cut comes first": both(slide, cut),
        "the cut averages all windows; take those that do not overlap": both(losses.mean(), slide),
        "the cut takes every `stride`-th window; windows that do not overlap are L // stride apart": both(
            losses[::stride].mean(), slide
        ),
        "the window slides over places that have been counted before; "
        "only its last `stride` places count": both(cut, losses.mean()),
        "these are the first places of a window; the last ones have the context": both(
            cut, losses[:, :stride].mean()
        ),
        "only the last place counts here; take the last `stride`": both(cut, losses[:, -1].mean()),
        "the slide uses only the windows that do not overlap; every window counts its last places": both(
            cut, losses[:: length // stride, -stride:].mean()
        ),
        "only the last place counts here; take the last `stride`": lambda x, u: _two(
            _cut(x, u), x[:, -1].mean()
        ),
        "the slide uses only the windows that do not overlap; every window scores its last places": lambda x, u: (
            _two(_cut(x, u), _slide(x[:: x.shape[1] // u], u))
        ),
        "these are sums; divide by the number of losses": lambda x, u: _two(
            x[:: x.shape[1] // u].sum(), x[:, -u:].sum()
        ),
        "the cut uses only the first window; the next one that does not overlap is L // stride further": (
            lambda x, u: _two(x[0].mean(), _slide(x, u))
        ),
        "the cut uses windows that are L apart; each window moves by stride, so they are L // stride apart": (
            lambda x, u: _two(x[:: x.shape[1]].mean(), _slide(x, u))
        ),
        "the first `stride` places are left out; take only the last `stride`": lambda x, u: _two(
            _cut(x, u), x[:, u:].mean() if x.shape[1] > u else _slide(x, u)
        ),
    },
    right="the same losses, two questions.",
)
"""Exercise 14.1: `cut_and_slide(losses, stride)`, losses (windows, L), both averages as (2,)."""


def check_difference(difference: Callable[[Tensor, Tensor], Tensor]) -> Feedback:
    """Exercise 14.2: `difference(a, b)`, rows (seed, loss) in any order, mean and standard error as (2,)."""
    a = torch.tensor([[4.0, 1.71], [0.0, 1.80], [2.0, 1.75], [1.0, 1.91]], dtype=torch.float64)
    b = torch.tensor([[1.0, 2.02], [3.0, 5.00], [4.0, 1.79], [0.0, 1.94]], dtype=torch.float64)
    ours, theirs = a[[1, 3, 0], 1], b[[3, 0, 2], 1]  # seeds 0, 1, 4
    d = ours - theirs
    root = len(d) ** 0.5

    def both(values: Tensor, error: Tensor) -> Tensor:
        return torch.stack((values.mean(), error))

    in_order = a[:3, 1] - b[:3, 1]
    unpaired = (ours.var() / 3 + theirs.var() / 3).sqrt()
    every = (a[:, 1].var() / 4 + b[:, 1].var() / 4).sqrt()
    rows = a[:, 1] - b[:, 1]
    mistakes = {
        "the sign is wrong: subtract b from a": both(-d, d.std() / root),
        "rows are subtracted in the order they come in; match them by seed": both(rows, rows.std() / 2),
        "the first rows are subtracted in the order they come in; match them by seed": both(
            in_order, in_order.std() / root
        ),
        "this is the standard deviation of the differences; divide it by √K": both(d, d.std()),
        "divide by K − 1 in the variance, which is what .std() does (correction 1)": both(
            d, d.std(correction=0) / root
        ),
        "this is the standard error of unpaired runs; take the standard deviation of the differences": both(
            d, unpaired
        ),
        "all runs are used as if unpaired; only seeds in both count": torch.stack(
            (a[:, 1].mean() - b[:, 1].mean(), every)
        ),
        "this divides by K; the standard error divides by √K": both(d, d.std() / 3),
        "the variance is divided by √K; take its root first": both(d, d.var() / root),
    }
    return compare(
        "14.2",
        difference(a.clone(), b.clone()),
        both(d, d.std() / root),
        mistakes,
        right="that is the middle of the bar; with three runs it reaches 4.3 standard errors to either side.",
    )


def check_undecided(undecided: Callable[[Tensor, float], Tensor]) -> Feedback:
    """Exercise 14.3: `undecided(differences, tau)`, differences (rows, K): True if the interval contains 0, (rows,)."""
    rows = torch.tensor(
        [
            [0.30, 0.31, 0.29],  # higher for sure
            [-0.30, -0.31, -0.29],  # lower for sure
            [0.03, 0.045, 0.075],  # all of one sign and yet undecided
            [0.01, 0.05, 0.09],
            [-0.01, 0.05, 0.08],
            [-0.10, 0.12, 0.01],
            [-0.05, -0.045, -0.03],  # lower, but not by as much as a deviation times tau
        ],
        dtype=torch.float64,
    )
    tau = 4.302653
    mean, deviation = rows.mean(-1), rows.std(-1)
    error = deviation / 3**0.5
    right = mean.abs() <= tau * error
    mistakes = {
        "this is the other way round: these are the decided ones": ~right,
        "you use the sign of the mean: an interval below zero does not contain zero either": mean
        <= tau * error,
        "this is the interval of single runs; the mean has the standard "
        "error, the standard deviation divided by √K": mean.abs() <= tau * deviation,
        "this is one standard error on either side; take tau of them": mean.abs() <= error,
        "equal signs are not enough: three runs that agree in sign "
        "can still have an interval that contains zero": ((rows > 0).any(-1) & (rows < 0).any(-1)),
        "divide by K − 1 in the variance, which is what .std() does (correction 1)": mean.abs()
        <= tau * rows.std(-1, correction=0) / 3**0.5,
    }
    answer: object = undecided(rows.clone(), tau)
    if isinstance(answer, Tensor) and answer.dtype != torch.bool:
        return Feedback("14.3", False, f"return truth values, got {answer.dtype}.")
    return compare(
        "14.3",
        answer.double() if isinstance(answer, Tensor) else answer,
        right.double(),
        {why: wrong.double() for why, wrong in mistakes.items()},
        right="for these rows, more seeds are the only answer.",
    )
