"""Checkers of chapter 12: the mask of a window, reach, blocks, a ring of keys, chunks of a text, a plan of layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs


def _back(new: int, N: int, first: int | None = None) -> Tensor:
    """m − n for the queries m of the last `new` of N tokens, or from `first` on."""
    m = torch.arange(new) + (N - new if first is None else first)
    return m[:, None] - torch.arange(N)


def _window_mask(new: int, N: int, W: int) -> Tensor:
    return (_back(new, N) >= 0) & (_back(new, N) < W)


def _mask_draws(d: Draw) -> Iterator[Inputs]:
    yield 1, 1, 1
    yield 3, 3, 2
    yield 2, 3, 2
    yield 2, d.whole(4, 5), 1
    yield 1, d.whole(5, 6), 3
    yield d.whole(4, 5), d.whole(6, 7), 3
    yield d.whole(3, 8), d.whole(8, 9), 4
    yield 4, 4, d.whole(5, 7)


def _block_mask(new: int, N: int, W: int) -> Tensor:
    m = torch.arange(N - new, N)[:, None]
    return (_back(new, N) >= 0) & (m // W - torch.arange(N) // W <= 1)


check_window_mask = Exercise(
    "12.1",
    "window_mask",
    _window_mask,
    _mask_draws,
    {
        "here m − n may be as large as W, which gives W + 1 keys; the W keys include the query itself": (
            lambda new, N, W: (_back(new, N) >= 0) & (_back(new, N) <= W)
        ),
        "the query does not see itself; m − n starts at 0": lambda new, N, W: (
            (_back(new, N) > 0) & (_back(new, N) < W)
        ),
        "here m − n ends at W − 2, which makes W − 1 keys": lambda new, N, W: (
            (_back(new, N) >= 0) & (_back(new, N) < W - 1)
        ),
        "the queries are the last `new` tokens, so the first of them is at N − new and not at 0": lambda new, N, W: (
            (_back(new, N, 0) >= 0) & (_back(new, N, 0) < W)
        ),
        "there is one row for each new query; these are rows for all tokens": lambda new, N, W: _window_mask(
            N, N, W
        ),
        "there is one column for each of the N keys; these are only the new ones": lambda new, N, W: (
            _window_mask(new, new, W)
        ),
        "this one sees later keys too; causal means m − n ≥ 0": lambda new, N, W: _back(new, N).abs() < W,
        "rows are queries and columns keys; this is the other way round": lambda new, N, W: (
            _window_mask(new, N, W).T
        ),
        "True is where a key is hidden; invert it": lambda new, N, W: ~_window_mask(new, N, W),
        "this is causal, without a window": lambda new, N, W: _back(new, N) >= 0,
        "this is a window without a causal mask": lambda new, N, W: _back(new, N) < W,
        "this is a block window: the window should move with every query": _block_mask,
        "the mask has two axes, (new, N)": lambda new, N, W: _window_mask(new, N, W)[None, None],
    },
    right="every query sees W keys, itself among them, whether the text is read at once or in pieces.",
    properties={
        "no query sees more than W keys, and one of yours does": lambda y, new, N, W: bool(
            (y.sum(-1) <= W).all()
        ),
        "every query sees itself, and one of yours does not": lambda y, new, N, W: bool(
            y.diagonal(N - new).all()
        ),
    },
)
"""Exercise 12.1: `window_mask(new, N, W)`: which of N keys the last `new` tokens see, shape (new, N)."""


def _layers_needed(W: int, s: int) -> int:
    return math.ceil(s / (W - 1))


def _layer_draws(d: Draw) -> Iterator[Inputs]:
    yield 2, d.whole(3, 9)
    for W in (4, d.whole(5, 12), d.whole(13, 40)):
        hops = d.whole(2, 6)
        for s in (W - 1, hops * (W - 1), hops * (W - 1) + 1, hops * (W - 1) - 1, hops * W):
            yield W, s
    yield d.whole(100, 200), d.whole(1, 50)


check_layers_needed = Exercise(
    "12.2",
    "layers_needed",
    _layers_needed,
    _layer_draws,
    {
        "a layer adds W − 1 tokens, not W: the query is one of the W": lambda W, s: math.ceil(s / W),
        "round up: one layer more if W − 1 does not divide s": lambda W, s: s // (W - 1),
        "this is one too many if W − 1 divides s": lambda W, s: s // (W - 1) + 1,
        "this is one layer too many": lambda W, s: _layers_needed(W, s) + 1,
        "this is the distance that s layers reach": lambda W, s: s * (W - 1),
        "rounding to the nearest number may leave the last tokens out; round up": lambda W, s: max(
            1, round(s / (W - 1))
        ),
        "the window grows by W − 1 per layer; it does not double": lambda W, s: max(
            1, math.ceil(math.log2(max(s / (W - 1), 1))) + 1
        ),
    },
    right="that many layers reach it, and one layer fewer does not.",
)
"""Exercise 12.2: `layers_needed(W, s)` is the smallest number of layers that reach s tokens back."""


def _own(k: Tensor, W: int) -> Tensor:
    return k.unflatten(-2, (-1, W))  # (B, H, N/W, W, D)


def _moved(k: Tensor, W: int, by: int) -> Tensor:
    """The block `by` blocks before each, or after it where `by` is negative; zeros where there is none."""
    padded = torch.nn.functional.pad(_own(k, W), (0, 0, 0, 0, max(by, 0), max(-by, 0)))
    return padded[:, :, : k.shape[-2] // W] if by >= 0 else padded[:, :, -by:]


def _joined(k: Tensor, W: int, moves: Iterable[int], dim: int = 3) -> Tensor:
    return torch.cat([_moved(k, W, by) for by in moves], dim)


def _with_previous(k: Tensor, W: int, back: int) -> Tensor:
    return _joined(k, W, range(back, -1, -1))


def _block_draws(d: Draw) -> Iterator[Inputs]:
    yield d.tensor(1, 1, 2, 1), 2, 1
    yield d.tensor(1, 1, 4, 2), 2, 1
    yield d.tensor(1, 2, 3, 2), 1, 2
    yield d.tensor(2, 2, 3 * d.whole(4, 5), 3), 3, 2
    yield d.tensor(2, 1, 2 * d.whole(5, 6), 2), 2, 3


def _rolled(k: Tensor, W: int, back: int) -> Tensor:
    return torch.cat([_own(k, W).roll(by, 2) for by in range(back, -1, -1)], dim=3)


def _token_earlier(k: Tensor, W: int, back: int) -> Tensor:
    later = [
        torch.cat((torch.zeros_like(k[:, :, :by]), k[:, :, : k.shape[2] - by]), 2) for by in range(back + 1)
    ]
    return torch.cat([_own(x, W) for x in reversed(later)], dim=3)


check_with_previous = Exercise(
    "12.3",
    "with_previous",
    _with_previous,
    _block_draws,
    {
        "the first blocks see the end of the text: torch.roll wraps around, so set what it brings there to zeros": (
            _rolled
        ),
        "earlier blocks come first": lambda k, W, b: _joined(k, W, range(b + 1)),
        "the farthest of the blocks before comes first": lambda k, W, b: _joined(k, W, (*range(1, b + 1), 0)),
        "the argument back is not used: this is one block before": lambda k, W, b: _with_previous(k, W, 1),
        "this is only the block that is `back` before, without those between": lambda k, W, b: _joined(
            k, W, (b, 0)
        ),
        "these are the blocks after, which a causal query must not see": lambda k, W, b: _joined(
            k, W, range(0, -b - 1, -1)
        ),
        "all parts are the block itself": lambda k, W, b: _joined(k, W, [0] * (b + 1)),
        "the first blocks are missing; zeros are before them": lambda k, W, b: _with_previous(k, W, b)[
            :, :, b:
        ],
        "these are only the blocks, each without those before": lambda k, W, b: _own(k, W),
        "the blocks are joined along the axis of blocks; join them along the axis of keys, dim=3": (
            lambda k, W, b: _joined(k, W, range(b, -1, -1), 2)
        ),
        "the blocks are joined along the coordinates; join them along the axis of keys, dim=3": (
            lambda k, W, b: _joined(k, W, range(b, -1, -1), 4)
        ),
        "each part is one token earlier than the next; it is W tokens earlier": _token_earlier,
        "the part before is empty for every block": lambda k, W, b: torch.cat(
            (torch.zeros_like(_joined(k, W, range(b))), _own(k, W)), dim=3
        ),
    },
    right="a query of a block finds its whole window there, however far back it goes.",
)
"""Exercise 12.3: `with_previous(k, W, back)` puts each block of W keys behind the `back` blocks before it."""


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
    },
    right="slot i always holds the newest token of its kind.",
)
"""Exercise 12.4: `ring(t, W)` tells which token is in each of W slots once t tokens were written."""


def _dense(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    scores = q @ k.T / q.shape[-1] ** 0.5
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v


def _chunked_attention(q: Tensor, k: Tensor, v: Tensor, W: int, chunk: int) -> Tensor:
    return _dense(q, k, v, _window_mask(len(q), len(q), W))


def _kept(keep: Callable[[int, int], int], windowed: bool = True) -> Callable[..., Tensor]:
    """Attention that keeps so many (W, chunk) of the tokens read, the newest chunk among them."""

    def attend(q: Tensor, k: Tensor, v: Tensor, W: int, chunk: int) -> Tensor:
        m = torch.arange(len(q))
        end = (m // chunk * chunk + chunk).clamp_max(len(q))  # of the query's chunk
        oldest = (end - keep(W, chunk))[:, None]
        return _dense(q, k, v, _window_mask(len(q), len(q), W if windowed else len(q)) & (m >= oldest))

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
            q, k, v, (_back(len(q), len(q)) < W) & (_number(q, chunk)[:, None] >= _number(q, chunk))
        ),
        "here m − n may be as large as W, which is one key too many": lambda q, k, v, W, chunk: (
            _chunked_attention(q, k, v, W + 1, chunk)
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
    },
    right="L layers that reach s need s + L keys at least, so depth costs one key per layer, and rounding.",
    fault=_unplanned,
)
"""Exercise 12.6: `plan(s, most, keys)`, layers and window (L, W) that reach s with `keys` keys in all, or None."""
