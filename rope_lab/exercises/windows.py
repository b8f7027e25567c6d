"""Checkers of chapter 14 on a loss over sliding windows and on seeds that agree and decide nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs

TAU = {2: 12.706205, 3: 4.302653, 4: 3.182446, 5: 2.776445}  # of a 95 % interval from K differences


def standard_error(d: Tensor, correction: int = 1) -> Tensor:
    return d.std(-1, correction=correction) / d.shape[-1] ** 0.5


def _window_ends(losses: Tensor, stride: int, targets: int) -> list[tuple[int, int]]:
    """First and last target plus one of every window."""
    return [(i * stride, min(i * stride + losses.shape[1], targets)) for i in range(len(losses))]


def _counted(losses: Tensor, stride: int, targets: int) -> list[Tensor]:
    """Of every window, the losses of the targets that no window before it has."""
    parts, done = [], 0
    for row, (begin, end) in zip(losses, _window_ends(losses, stride, targets), strict=True):
        parts.append(row[done - begin : end - begin])
        done = end
    return parts


def _sliding_loss(losses: Tensor, stride: int, targets: int) -> Tensor:
    return torch.cat(_counted(losses, stride, targets)).mean()


def _each_window(count: Callable[[Tensor, int, int], Tensor]) -> Callable[..., Tensor]:
    """The mean over what `count` takes of (the losses of a window that are in the text, its number, stride)."""

    def loss(losses: Tensor, stride: int, targets: int) -> Tensor:
        ends = _window_ends(losses, stride, targets)
        rows = [row[: end - begin] for row, (begin, end) in zip(losses, ends, strict=True)]
        return torch.cat([count(row, i, stride) for i, row in enumerate(rows)]).mean()

    return loss


def _of_stride(row: Tensor, i: int, stride: int) -> Tensor:
    return row[-stride:] if i else row


def _window_draws(d: Draw) -> Iterator[Inputs]:
    for length, stride, windows, short in (
        (2, 1, 2, 0),
        (4, 2, 3, 1),
        (4, 3, d.whole(3, 4), 1),
        (6, 4, d.whole(3, 5), d.whole(1, 2)),
        (6, 3, d.whole(3, 5), d.whole(1, 2)),
    ):
        targets = length + (windows - 1) * stride - short
        losses = d.tensor(windows, length, low=0.5, high=2) + torch.arange(length, 0, -1)
        losses[-1, length - short :] = 0
        yield losses, stride, targets


def _last_windows(losses: Tensor, stride: int, targets: int) -> Tensor:
    taken = torch.zeros(targets, dtype=losses.dtype)
    for row, (begin, end) in zip(losses, _window_ends(losses, stride, targets), strict=True):
        taken[begin:end] = row[: end - begin]
    return taken.mean()


check_sliding_loss = Exercise(
    "14.4",
    "sliding_loss",
    _sliding_loss,
    _window_draws,
    {
        "this is what the function of the page gives; write down which targets the last window counts": (
            _each_window(_of_stride)
        ),
        "the last window is left out, and with it the targets that no other window has": lambda x, u, T: (
            torch.cat(_counted(x, u, T)[:-1]).mean()
        ),
        "of the first window, too, only the last `stride` places count here; its earlier targets are in no other": (
            lambda x, u, T: torch.cat([part[-u:] for part in _counted(x, u, T)]).mean()
        ),
        "the places after the end of the text are counted as losses of 0": lambda x, u, T: torch.cat(
            [x[0], *(row[-u:] for row in x[1:])]
        ).mean(),
        "every place of every window counts here, so most targets count more than once": _each_window(
            lambda row, i, u: row
        ),
        "the windows are averaged alike, although they count different numbers of targets": lambda x, u, T: (
            torch.stack([part.mean() for part in _counted(x, u, T)]).mean()
        ),
        "the first `stride` places of a window are counted; the last ones have the context": _each_window(
            lambda row, i, u: row[:u]
        ),
        "the sum is correct, but it is divided by the number of all losses in the windows": lambda x, u, T: (
            torch.cat(_counted(x, u, T)).sum() / x.numel()
        ),
        "this is the sum; divide by the number of targets": lambda x, u, T: torch.cat(
            _counted(x, u, T)
        ).sum(),
        "the first window counts all its places; yours begins at its last `stride`": (
            lambda x, u, T: (torch.cat(_counted(x, u, T)).sum() - x[0, : max(0, x.shape[1] - u)].sum()) / T
        ),
        "each target is taken from the last window that has it, with the least context; take the first": (
            _last_windows
        ),
        "a last window that is not full is left out": (
            lambda x, u, T: torch.cat(_counted(x, u, T)[: 1 + (T - x.shape[1]) // u]).mean()
        ),
    },
    right="every target is counted once, with the most context that a window gives it.",
)
"""Exercise 14.4: `sliding_loss(losses, stride, targets)`, losses (windows, L) of a text, one number, mended."""


def _agreeing(K: int, tau: float) -> Tensor | None:
    """One difference of 1 and the others small: mean over standard error falls to 1, from above."""
    if tau <= 1:
        return None
    d = torch.full((K,), 0.25 * (tau - 1) / K, dtype=torch.float64).clamp_max(0.5 / K)
    d[0] = 1
    return d


def _agreement_draws(d: Draw) -> Iterator[Inputs]:
    for K in (2, 3, 5, d.whole(6, 12)):
        yield K, d.one_of(1.05, 1.1, 1.2)
    yield 3, TAU[3]
    yield d.whole(20, 30), 1.96
    for K in (3, d.whole(4, 8)):
        yield K, d.one_of(0.5, 0.8, 0.95, 0.98)


def _not_agreeing(y: Tensor, K: int, tau: float) -> str:
    if y.shape != (K,):
        return f"return {K} differences of shape ({K},), got shape {tuple(y.shape)}."
    if not ((y > 0).all() or (y < 0).all()):
        low, high = y.min(), y.max()
        return f"not all differences have one sign: the smallest is {low:.4g} and the largest {high:.4g}."
    mean, half = float(y.mean().abs()), float(tau * standard_error(y))
    if mean <= half * (1 + 1e-9):
        return ""
    return (
        f"the mean is {mean:.4g} and the half-width of the interval {half:.4g}, so it does not contain zero."
    )


def _first_large(others: float) -> Callable[[int, float], Tensor]:
    return lambda K, tau: torch.tensor([1.0] + [others] * (K - 1), dtype=torch.float64)


check_agreeing = Exercise(
    "14.5",
    "agreeing",
    _agreeing,
    _agreement_draws,
    {
        "equal differences have no scatter: their interval is a point": _first_large(1.0),
        "one large difference among small ones is the idea, but the small ones must be smaller": _first_large(
            0.25
        ),
        "numbers that rise by equal steps scatter too little": lambda K, tau: torch.arange(1.0, K + 1),
        "a difference of 0 has no sign; the others may be as close to it as you like": _first_large(0.0),
        "one difference has the other sign": _first_large(-0.001),
        "this is right wherever there is an answer; for a tau of 1 or less there is none": (
            lambda K, tau: _agreeing(K, max(tau, 1.05))
        ),
        "an interval that is wider than one standard error is enough: tau may be close to 1": (
            lambda K, tau: None if tau < 2 else _first_large(1e-6)(K, tau)
        ),
        "the small differences are 0.1 whatever tau is; for a tau near 1 they must be smaller": (
            lambda K, tau: _first_large(0.1)(K, tau) if tau > 1 else None
        ),
    },
    right="the mean of K numbers of one sign is more than one standard error, and can be as little more as you like.",
    fault=_not_agreeing,
)
"""Exercise 14.5: `agreeing(K, tau)`, K differences of one sign (K,) whose interval contains zero, or None."""
