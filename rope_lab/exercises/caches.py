"""Checkers of chapter 12 on what a cache holds: a ring of keys, chunks of a text, a plan of layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs


def behind(new: int, N: int, first: int | None = None) -> Tensor:
    """m − n for the queries m of the last `new` of N tokens, or from `first` on."""
    m = torch.arange(new) + (N - new if first is None else first)
    return m[:, None] - torch.arange(N)


def window_mask(new: int, N: int, W: int) -> Tensor:
    return (behind(new, N) >= 0) & (behind(new, N) < W)


def _newest(t: int, W: int) -> Tensor:
    """Of the numbers below t that belong to a slot, the largest, even if it is negative."""
    return t - 1 - (t - 1 - torch.arange(W)) % W


def _ring(t: int, W: int) -> Tensor:
    return _newest(t, W).clamp_min(-1)


def _ring_draws(d: Draw) -> Iterator[Inputs]:
    for W in (1, 3, d.whole(4, 6)):
        for t in (0, 1, W - 1, W, W + 1, 2 * W, d.whole(2, 5) * W + W // 2):
            yield t, W


def _in_order(t: int, W: int) -> Tensor:
    return torch.arange(W) + t - W if t >= W else _ring(t, W)


def _slots(t: int, W: int) -> Tensor:
    return torch.where(torch.arange(W) < t, torch.arange(W), -1)


check_ring = Exercise(
    "12.4",
    "ring",
    _ring,
    _ring_draws,
    {
        "slots in which no token has been written yet must hold −1": _newest,
        "these are the last W tokens in their order; slot i holds a token with n mod W = i": _in_order,
        "token t itself is not written yet: the last one is t − 1": lambda t, W: _ring(t + 1, W),
        "these are the slots of the tokens, n mod W, and not the tokens": _slots,
        "these are the newest tokens first": lambda t, W: (t - 1 - torch.arange(W)).clamp_min(-1),
        "empty slots hold −1, not 0": lambda t, W: _newest(t, W).clamp_min(0),
        "these are the last W tokens at the end, empty slots first; slot i holds a token with n mod W = i": (
            lambda t, W: (torch.arange(W) + t - W).clamp_min(-1)
        ),
        "the last W tokens are rotated the wrong way: token n is in slot n mod W": (
            lambda t, W: torch.arange(t - W, t).roll(-(t % W)).clamp_min(-1)
        ),
        "fmod keeps the sign of its first number; the remainder % does not": (
            lambda t, W: (t - 1 - torch.fmod(t - 1 - torch.arange(W), W)).clamp_min(-1)
        ),
        "this is one turn behind: the token that was in each slot before its last writing": (
            lambda t, W: (_newest(t + 1, W) - W).clamp_min(-1)
        ),
        "these are the slots of the last W tokens; give the token of each slot": (
            lambda t, W: torch.where(torch.arange(t - W, t) >= 0, torch.arange(t - W, t) % W, -1)
        ),
    },
    right="slot i always holds the newest token of its kind.",
)
"""Exercise 12.4: `ring(t, W)` tells which token is in each of W slots once t tokens were written."""


def _dense(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    scores = q @ k.T / q.shape[-1] ** 0.5
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v


def _chunked_attention(q: Tensor, k: Tensor, v: Tensor, W: int, chunk: int) -> Tensor:
    return _dense(q, k, v, window_mask(len(q), len(q), W))


def _kept(keep: Callable[[int, int], int], windowed: bool = True) -> Callable[..., Tensor]:
    """Attention that keeps so many (W, chunk) of the tokens read, the newest chunk among them."""

    def attend(q: Tensor, k: Tensor, v: Tensor, W: int, chunk: int) -> Tensor:
        m = torch.arange(len(q))
        end = (m // chunk * chunk + chunk).clamp_max(len(q))  # of the query's chunk
        oldest = (end - keep(W, chunk))[:, None]
        return _dense(q, k, v, window_mask(len(q), len(q), W if windowed else len(q)) & (m >= oldest))

    return attend


def _number(q: Tensor, chunk: int) -> Tensor:
    return torch.arange(len(q)) // chunk


def _chunk_draws(d: Draw) -> Iterator[Inputs]:
    for n, dim, W, chunk in (
        (2, 2, 1, 1),
        (4, 2, 3, 2),
        (d.whole(7, 8), 2, 2, 3),
        (d.whole(9, 11), 4, 4, 3),
        (d.whole(9, 11), 2, 5, 4),
        (6, 4, 3, 1),
    ):
        yield d.tensor(n, dim), d.tensor(n, dim), d.tensor(n, dim), W, chunk


def _from_zero(q: Tensor, k: Tensor, v: Tensor, W: int, chunk: int) -> Tensor:
    """The keys that were kept are counted from 0 in every chunk; a query that sees none of them gives 0."""
    out = []
    for start in range(0, len(q), chunk):
        end, first = min(start + chunk, len(q)), max(0, start - W + 1)
        back = torch.arange(start, end)[:, None] - torch.arange(end - first)
        seen = (back >= 0) & (back < W)
        out.append(_dense(q[start:end], k[first:end], v[first:end], seen).nan_to_num())
    return torch.cat(out)


def _no_window(q: Tensor, k: Tensor, v: Tensor, W: int, chunk: int) -> Tensor:
    m = torch.arange(len(q))
    return _dense(q, k, v, (behind(len(q), len(q)) >= 0) & (m >= (m // chunk * chunk - W + 1)[:, None]))


def _alone(q: Tensor, k: Tensor, v: Tensor, W: int, chunk: int) -> Tensor:
    same = _number(q, chunk)[:, None] == _number(q, chunk)
    return _dense(q, k, v, window_mask(len(q), len(q), W) & same)


check_chunked_attention = Exercise(
    "12.5",
    "chunked_attention",
    _chunked_attention,
    _chunk_draws,
    {
        "this is what the function of the page gives; count the keys that the first query of a later chunk finds": (
            _kept(lambda W, chunk: W)
        ),
        "the cache is one key too short: the first query of a chunk needs W − 1 keys before the chunk": _kept(
            lambda W, chunk: max(W + chunk - 2, 1)
        ),
        "the cache is cut to W − 1 keys together with the new ones; cut what came before them": _kept(
            lambda W, chunk: max(W - 1, 1)
        ),
        "nothing is kept from before the chunk": _kept(lambda W, chunk: chunk),
        "a chunk sees all keys that were kept: the window is still needed as a mask": _kept(
            lambda W, chunk: W + chunk - 1, windowed=False
        ),
        "queries see later keys of their chunk": lambda q, k, v, W, chunk: _dense(
            q, k, v, (behind(len(q), len(q)) < W) & (_number(q, chunk)[:, None] >= _number(q, chunk))
        ),
        "here m − n may be as large as W, which is one key too many": lambda q, k, v, W, chunk: (
            _chunked_attention(q, k, v, W + 1, chunk)
        ),
        "the whole past is seen: neither is the cache cut nor is there a window": (
            lambda q, k, v, W, chunk: _chunked_attention(q, k, v, len(q), chunk)
        ),
        "kept keys are at positions start − W + 1, …; yours are counted from 0 in each chunk": _from_zero,
        "a chunk sees all keys that were kept, and W − 1 were: the window is still needed as a mask": _no_window,
        "a chunk sees only itself": _alone,
        "the cache is cut to W together with the chunk; W − 1 keys before the chunk are needed": (
            _kept(lambda W, chunk: max(W, chunk))
        ),
    },
    right="every chunk gives what the whole text gives, because W − 1 keys before it are kept.",
    properties={
        "every query sees itself, so no output is undefined, and one of yours is": lambda y, *inputs: bool(
            y.isfinite().all()
        ),
        "the first chunk needs no cache, and yours is already wrong there": lambda y, q, k, v, W, chunk: (
            torch.allclose(
                y[:chunk], _chunked_attention(q[:chunk], k[:chunk], v[:chunk], W, chunk), atol=1e-4
            )
        ),
    },
    tolerance=1e-4,
)
"""Exercise 12.5: `chunked_attention(q, k, v, W, chunk)`, an exact window read in chunks (N, D), mended."""


def _smallest_plan(s: int, most: int) -> tuple[int, int]:
    """The (L, W) that reach s with the fewest keys in all, W at most `most`."""
    plans = [(L, math.ceil(s / L) + 1) for L in range(1, s + 1)]
    return min((p for p in plans if p[1] <= most), key=lambda p: p[0] * p[1])


def _affordable(found: tuple[int, int], keys: int) -> tuple[int, int] | None:
    return found if found[0] * found[1] <= keys else None


def _plan(s: int, most: int, keys: int) -> tuple[int, int] | None:
    return _affordable(_smallest_plan(s, most), keys)


def _fewest_layers(s: int, most: int) -> tuple[int, int]:
    return math.ceil(s / (most - 1)), most


def _levelled(s: int, most: int) -> tuple[int, int]:
    L = _fewest_layers(s, most)[0]
    return L, math.ceil(s / L) + 1


def _plan_draws(d: Draw) -> Iterator[Inputs]:
    for i, kind in enumerate(("wide", "tight", "too tight", "more layers", "one", "too tight", "tight")):
        while True:
            s, most = d.whole(10 + 6 * i, 30 + 6 * i), d.whole(4, 12)
            best, full, level = (f(s, most) for f in (_smallest_plan, _fewest_layers, _levelled))
            if kind == "one":
                most = s + d.whole(1, 5)
                best = _smallest_plan(s, most)
            need, widest, levelled = (L * W for L, W in (best, full, level))
            more = level[0] > 1 and need < levelled
            if kind in ("wide", "one") or (need < widest and full[0] > 1 and more == (kind == "more layers")):
                break
        yield s, most, {"wide": widest + d.whole(20, 40), "too tight": need - 1}.get(kind, need)


def _unplanned(y: Tensor, s: int, most: int, keys: int) -> str:
    if y.shape != (2,) or (y != y.round()).any():
        return f"return two integers, the layers and the window, got {y.tolist()}."
    L, W = map(int, y.tolist())
    if L < 1 or W < 2:
        return f"there must be a layer at least, and a window of 2 at least, got L = {L} and W = {W}."
    if most < W:
        return f"a window may have {most} keys at most, and yours has {W}."
    if s > L * (W - 1):
        return f"{L} layers with windows of {W} reach {L * (W - 1)} tokens back, not {s}."
    if keys < L * W:
        return f"the caches of {L} layers with windows of {W} hold {L * W} keys, more than {keys}."
    return ""


def _first_plan(s: int, most: int, keys: int) -> tuple[int, int] | None:
    plans = [(L, math.ceil(s / L) + 1) for L in range(1, s + 1)]
    return next((p for p in plans if p[1] <= most and p[0] * p[1] <= keys), None)


check_plan = Exercise(
    "12.6",
    "plan",
    _plan,
    _plan_draws,
    {
        "a layer adds W − 1 tokens, not W": lambda s, most, keys: (math.ceil(s / most), most),
        "the widest windows need not be the cheapest plan: fewer keys may be enough": lambda s, most, keys: (
            _affordable(_fewest_layers(s, most), keys)
        ),
        "the fewest layers need not be the cheapest plan: try more of them": lambda s, most, keys: (
            _affordable(_levelled(s, most), keys)
        ),
        "this is the cheapest plan even where it is too expensive; the answer is then None": lambda s, most, keys: (
            _smallest_plan(s, most)
        ),
        "one layer has the reach, but its window may be too wide": lambda s, most, keys: (1, s + 1),
        "the budget is spent, but on a reach of L·W; a layer adds W − 1": lambda s, most, keys: (
            keys // most,
            most,
        ),
        "only a single layer is tried": (
            lambda s, most, keys: (1, s + 1) if s + 1 <= min(most, keys) else None
        ),
        "the layers come first, then the window": (
            lambda s, most, keys: found[::-1] if (found := _first_plan(s, most, keys)) else None
        ),
    },
    right="L layers that reach s need s + L keys at least, so depth costs one key per layer, and rounding.",
    fault=_unplanned,
)
"""Exercise 12.6: `plan(s, most, keys)`, layers and window (L, W) that reach s with `keys` keys in all, or None."""
