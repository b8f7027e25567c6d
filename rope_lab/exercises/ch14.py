"""Checkers of chapter 14: rules of measuring a loss, a paired difference, and what the seeds leave undecided."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.windows import TAU, check_agreeing, check_sliding_loss, standard_error

__all__ = [
    "check_agreeing",
    "check_cut_and_slide",
    "check_difference",
    "check_sliding_loss",
    "check_undecided",
]


def _two(one: Tensor, other: Tensor) -> Tensor:
    return torch.stack((one, other))


def _cut(x: Tensor, stride: int) -> Tensor:
    return x[:: x.shape[1] // stride].mean()


def _slide(x: Tensor, stride: int) -> Tensor:
    return x[:, -stride:].mean()


def _cut_and_slide(losses: Tensor, stride: int) -> Tensor:
    return _two(_cut(losses, stride), _slide(losses, stride))


def _loss_draws(d: Draw) -> Iterator[Inputs]:
    for stride, apart, windows in (
        (1, 2, 3),
        (2, 1, 2),
        (3, 4, 9),
        (2, 3, d.whole(7, 10)),
        (4, 2, d.whole(5, 7)),
    ):
        losses = d.tensor(windows, stride * apart, low=0.5, high=2)
        losses[:, :stride] += 2  # starts cost more
        yield losses, stride


check_cut_and_slide = Exercise(
    "14.1",
    "cut_and_slide",
    _cut_and_slide,
    _loss_draws,
    {
        "the two are swapped: the cut comes first": lambda x, u: _cut_and_slide(x, u).flip(0),
        "the cut averages all windows; take those that do not overlap": lambda x, u: _two(
            x.mean(), _slide(x, u)
        ),
        "the cut takes every `stride`-th window; windows that do not overlap are L // stride apart": lambda x, u: (
            _two(x[::u].mean(), _slide(x, u))
        ),
        "the window slides over places that have been counted before; only its last `stride` places count": (
            lambda x, u: _two(_cut(x, u), x.mean())
        ),
        "these are the first places of a window; the last ones have the context": lambda x, u: _two(
            _cut(x, u), x[:, :u].mean()
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
            _cut(x, u), x[:, u:].mean()
        ),
        "the early places of the first window are in the slide; only the last `stride` of each window count": (
            lambda x, u: _two(_cut(x, u), torch.cat((x[0], x[1:, -u:].flatten())).mean())
        ),
        "the cut begins with window 0, not with the one before the next that does not overlap": (
            lambda x, u: _two(x[x.shape[1] // u - 1 :: x.shape[1] // u].mean(), _slide(x, u))
        ),
        "the argument stride is not used: this is for half a window": (
            lambda x, u: _cut_and_slide(x, x.shape[1] // 2)
        ),
    },
    right="the same losses, two questions.",
)
"""Exercise 14.1: `cut_and_slide(losses, stride)`, losses (windows, L), both averages as (2,)."""


def _matched(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    i, j = (a[:, None, 0] == b[None, :, 0]).nonzero(as_tuple=True)
    return a[i, 1], b[j, 1]


def _from_pairs(error: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def result(a: Tensor, b: Tensor) -> Tensor:
        ours, theirs = _matched(a, b)
        return _two((ours - theirs).mean(), error(ours - theirs))

    return result


def _difference(a: Tensor, b: Tensor) -> Tensor:
    return _from_pairs(lambda d: d.std() / len(d) ** 0.5)(a, b)


def _run_draws(d: Draw) -> Iterator[Inputs]:
    for both, only_a, only_b in ((2, 1, 1), (3, 1, 1), (3, 2, 2), (4, 1, 1), (5, 1, 1)):
        seeds = d.order(both + only_a + only_b)
        tables = []
        for chosen in (seeds[: both + only_a], torch.cat((seeds[:both], seeds[both + only_a :]))):
            rows = chosen[d.order(len(chosen))].double()
            tables.append(torch.stack((rows, d.tensor(len(rows), low=1, high=5)), dim=-1))
        yield tuple(tables)


def _in_order(a: Tensor, b: Tensor) -> Tensor:
    n = min(len(a), len(b))
    d = a[:n, 1] - b[:n, 1]
    return _two(d.mean(), d.std() / n**0.5)


def _unpaired(a: Tensor, b: Tensor) -> Tensor:
    ours, theirs = _matched(a, b)
    return _two((ours - theirs).mean(), ((ours.var() + theirs.var()) / len(ours)).sqrt())


def _all_runs(a: Tensor, b: Tensor) -> Tensor:
    error = (a[:, 1].var() / len(a) + b[:, 1].var() / len(b)).sqrt()
    return _two(a[:, 1].mean() - b[:, 1].mean(), error)


def _sorted_rows(a: Tensor, b: Tensor) -> Tensor:
    return _in_order(a[a[:, 0].argsort()], b[b[:, 0].argsort()])


def _with_missing(a: Tensor, b: Tensor) -> Tensor:
    ours, theirs = dict(a.tolist()), dict(b.tolist())
    seeds = sorted(ours.keys() | theirs.keys())
    d = torch.tensor([ours.get(seed, 0.0) - theirs.get(seed, 0.0) for seed in seeds], dtype=torch.float64)
    return _two(d.mean(), d.std() / len(d) ** 0.5)


def _from_sizes(a: Tensor, b: Tensor) -> Tensor:
    ours, theirs = _matched(a, b)
    d = (ours - theirs).abs()
    return _two(d.mean(), d.std() / len(d) ** 0.5)


check_difference = Exercise(
    "14.2",
    "difference",
    _difference,
    _run_draws,
    {
        "the sign is wrong: subtract b from a": lambda a, b: _difference(b, a),
        "rows are subtracted in the order they come in; match them by seed": _in_order,
        "the rows are sorted by seed, but not every seed is in both; match them": _sorted_rows,
        "this is the standard deviation of the differences; divide it by √K": _from_pairs(lambda d: d.std()),
        "divide by K − 1 in the variance, which is what .std() does (correction 1)": _from_pairs(
            lambda d: d.std(correction=0) / len(d) ** 0.5
        ),
        "this is the standard error of unpaired runs; take the standard deviation of the differences": _unpaired,
        "all runs are used as if unpaired; only seeds in both count": _all_runs,
        "this divides by K; the standard error divides by √K": _from_pairs(lambda d: d.std() / len(d)),
        "this divides by √(K − 1); the standard error divides by √K": _from_pairs(
            lambda d: d.std() / (len(d) - 1) ** 0.5
        ),
        "the variance is divided by √K; take its root first": _from_pairs(lambda d: d.var() / len(d) ** 0.5),
        "this is the half-width of the interval, τ times the standard error; return the error itself": _from_pairs(
            lambda d: TAU[len(d)] * d.std() / len(d) ** 0.5
        ),
        "the first number is the median; take the mean of the differences": lambda a, b: _two(
            torch.sub(*_matched(a, b)).median(), _difference(a, b)[1]
        ),
        "the mean is over all runs; only seeds in both count, as in your error": (
            lambda a, b: _two(a[:, 1].mean() - b[:, 1].mean(), _difference(a, b)[1])
        ),
        "a run that is missing counts as a loss of 0; leave its seed out": _with_missing,
        "the differences lose their signs; take no absolute value": _from_sizes,
    },
    right="that is the middle of the bar; with three runs it reaches 4.3 standard errors to either side.",
)
"""Exercise 14.2: `difference(a, b)`, rows (seed, loss) in any order, mean and standard error as (2,)."""


def _undecided(differences: Tensor, tau: float) -> Tensor:
    return differences.mean(-1).abs() <= tau * standard_error(differences)


def _row(d: Draw, K: int, errors: float) -> Tensor:
    """K differences whose mean is so many standard errors."""
    row = d.tensor(K)
    return row - row.mean() + errors * standard_error(row)


def _row_draws(d: Draw) -> Iterator[Inputs]:
    yield torch.tensor([[0.3, 0.31, 0.29]], dtype=torch.float64), TAU[3]
    for K in (3, 4, 5, 3):
        tau = TAU[K] * d.one_of(1.0, 0.9, 1.1)
        ends = (0.1, 0.4, 0.6, 0.75, 0.85, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 3, 5)
        rows = [_row(d, K, sign * share * tau) for share in ends for sign in (1, -1)]
        rows += [_row(d, K, sign * share) for share in (0.5, 0.9, 1.1, 1.5, 1.9, 2.1) for sign in (1, -1)]
        kept = [row for row in rows if abs(row.mean().abs() - tau * standard_error(row)) > 1e-4]
        yield torch.stack(kept), round(tau, 6)


check_undecided = Exercise(
    "14.3",
    "undecided",
    _undecided,
    _row_draws,
    {
        "this is the other way round: these are the decided ones": lambda d, tau: ~_undecided(d, tau),
        "you use the sign of the mean: an interval below zero does not contain zero either": lambda d, tau: (
            d.mean(-1) <= tau * standard_error(d)
        ),
        "this is the interval of single runs; the mean has the standard error, the standard deviation divided by √K": (
            lambda d, tau: d.mean(-1).abs() <= tau * d.std(-1)
        ),
        "this is one standard error on either side; take tau of them": lambda d, tau: (
            d.mean(-1).abs() <= standard_error(d)
        ),
        "the argument tau is not used: this is 1.96, for many runs": lambda d, tau: _undecided(d, 1.96),
        "the argument tau is not used: this is 4.302653, for three runs": lambda d, tau: _undecided(
            d, TAU[3]
        ),
        "equal signs are not enough: runs that agree can still have an interval with zero": lambda d, tau: (
            (d > 0).any(-1) & (d < 0).any(-1)
        ),
        "divide by K − 1 in the variance, which is what .std() does (correction 1)": lambda d, tau: (
            d.mean(-1).abs() <= tau * standard_error(d, 0)
        ),
        "the standard error divides by √K, not by √(K − 1)": lambda d, tau: (
            d.mean(-1).abs() <= tau * d.std(-1) / (d.shape[-1] - 1) ** 0.5
        ),
        "the standard error divides by √K, not by K": lambda d, tau: (
            d.mean(-1).abs() <= tau * d.std(-1) / d.shape[-1]
        ),
        "that is the variance; the standard error has the standard deviation": lambda d, tau: (
            d.mean(-1).abs() <= tau * d.var(-1) / d.shape[-1] ** 0.5
        ),
        "the middle of the interval is the mean, not the median": lambda d, tau: (
            d.median(-1).values.abs() <= tau * standard_error(d)
        ),
        "the standard error divides by √K, K the number of columns, not of rows": (
            lambda d, tau: d.mean(-1).abs() <= tau * d.std(-1) / len(d) ** 0.5
        ),
        "there is one answer per row; yours has one per column: the axis of the seeds is the last": (
            lambda d, tau: d.mean(0).abs() <= tau * d.std(0, correction=min(1, len(d) - 1)) / len(d) ** 0.5
        ),
        "this is one answer for the whole table; each row has its own": (
            lambda d, tau: d.mean().abs() <= tau * d.std() / d.numel() ** 0.5
        ),
    },
    right="for these rows, more seeds are the only answer.",
)
"""Exercise 14.3: `undecided(differences, tau)`, differences (rows, K), True where the interval contains 0, (rows,)."""
