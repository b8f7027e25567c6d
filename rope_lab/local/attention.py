"""Local attention: each query sees only the keys of a window around it, in time and memory linear in the length.

Which keys n query m sees, for a window of W tokens, look_backward b and look_forward f:

                causal                        not causal                           keys seen (causal, b = 1)
    exact       0 ≤ m − n < W·b               −W·f < m − n < W·b                   W
    inclusive   0 ≤ m − n ≤ W·b               −W·f ≤ m − n ≤ W·b                   W + 1
    block       n ≤ m, ⌊n/W⌋ ≥ ⌊m/W⌋ − b      ⌊m/W⌋ − b ≤ ⌊n/W⌋ ≤ ⌊m/W⌋ + f        W + 1 to 2·W

At the ends of the sequence a query sees fewer. A query always sees itself, and with b = 0 or f = 0 nothing else of an
exact window on that side. Exact windows (the default) count as `MultiHeadAttention(window=W)` does; `inclusive=True`
counts as the local-attention library does for `exact_windowsize=True` and flash-attention for `window_size=(W, 0)`;
`exact=False` gives block windows, which that library has by default.

`torch.compile` makes a graph for each length, because the number of blocks is part of it; for the same reason
`torch.export` takes no dynamic length.

Source: Beltagy et al. 2020, Longformer (arXiv:2004.05150), section 3.1.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache as once
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rope_lab.attention import check_rows
from rope_lab.checks import check_integers, check_probability, is_real
from rope_lab.encodings import NoPE, PositionEncoding, Positions, attention_encoding, token_positions
from rope_lab.local.bands import attend_in_band, takes
from rope_lab.local.blocks import Window, attend_in_blocks
from rope_lab.local.cache import LocalCache, check_capacity

Backend = Literal["sdpa", "flex"]


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int,
    causal: bool = True,
    look_backward: int = 1,
    look_forward: int | None = None,
    exact: bool = True,
    inclusive: bool = False,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
    bias: Tensor | None = None,
    exclude_self: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
    position: PositionEncoding | None = None,
    positions: Positions | None = None,
    first: int = 0,
    backend: Backend = "sdpa",
) -> Tensor:
    """softmax(scale·q·kᵀ + bias)·v over the keys in each query's window; a query that sees no key returns zeros.

    Equal to dense attention under the mask of the table above, in O(N·W) time and O(N) memory. Dropout, a learned bias,
    a `position` with a bias, and a mask that differs between the rows of a batch take O(N·W) memory.

    Args:
        q: queries (B, H, N_q, D), any length. They are the last N_q of the N_k tokens.
        k, v: keys and values (B, H_k, N_k, D); H_k divides H.
        window: W, tokens.
        causal: a query sees no later key.
        look_backward: b, number of windows seen on the way back.
        look_forward: f, number of windows seen ahead; by default 0 if causal, else 1.
        exact: the window moves on with every query; False for block windows.
        inclusive: an exact window reaches one key further on each side.
        mask: True for keys that may be seen, False for padding; (N_k,), (1, N_k) or (B, N_k). Windows are counted by
            index, so padding takes room in them.
        segments: document ids (B, N_k); a query sees only its own segment, and −1 marks padding.
        bias: added to the scores, (1 or H, W, (b + 1 + f)·W): row m mod W, column n − (⌊m/W⌋ − b)·W, the same for
            every window.
        exclude_self: a query sees itself only if it sees no other key.
        dropout: probability of dropping an attention weight.
        scale: of the scores, by default 1/√D.
        position: an encoding whose hooks `relate` and `bias` are applied; rotate q and k beforehand.
        positions: of the keys, (N_k,) or (B, N_k), for `position`; by default first, first + 1, …
        first: index of the first key in its sequence, from which block windows and the rows of `bias` are counted.
        backend: "sdpa", or "flex" for `torch.nn.attention.flex_attention` (compiled on CUDA, elsewhere its slow
            reference form), which gives the same results but takes no bias, exclude_self, dropout or position. It was
            tested only on a CPU, so it is never chosen automatically. `make gpu` measures it, and
            `rope_lab.bench.attention_backend` chooses from what was recorded.

    Returns:
        (B, H, N_q, D).

    Raises:
        ValueError: naming the argument whose shape, dtype or value does not fit.
    """
    band = Window(window, causal, look_backward, look_forward, exact, inclusive)
    (first,) = check_integers(0, first=first)
    position = attention_encoding(position)
    _check_tensors(q, k, v)
    mask = _rows(mask)
    check_rows(k.shape[0], k.shape[-2], mask=mask, segments=segments)
    positions = token_positions(positions, k.shape[0], k.shape[-2], first=first, device=k.device)
    check_numbers(dropout, scale)
    check_position(position, band)
    rows_and_columns = (window, window * band.blocks)
    if bias is not None and bias.shape not in (
        (1, *rows_and_columns),
        (q.shape[1], *rows_and_columns),
    ):
        wanted = f"(1 or {q.shape[1]}, {rows_and_columns[0]}, {rows_and_columns[1]})"
        raise ValueError(f"bias must have shape {wanted}, got {tuple(bias.shape)}")
    _check_backend(backend)
    if not q.numel():
        return q.new_zeros(*q.shape[:-1], v.shape[-1])
    if scale is not None:
        q = q * (scale * q.shape[-1] ** 0.5)
    if backend == "flex":
        if bias is not None or exclude_self or dropout or type(position) is not NoPE:
            raise ValueError("backend 'flex' takes no bias, exclude_self, dropout or position: use 'sdpa'")
        return _flex(q, k, v, band, mask, segments, first)
    hooks = type(position)
    plain = hooks.relate is PositionEncoding.relate and hooks.bias is PositionEncoding.bias
    if plain and mask is segments is bias is None and not (exclude_self or dropout) and takes(q, k, v):
        return attend_in_band(q, k, v, band, first)
    return attend_in_blocks(
        q, k, v, band, mask=mask, segments=segments, bias=bias, exclude_self=exclude_self, dropout=dropout,
        position=position, positions=positions, first=first,
    )  # fmt: skip


def _flex(
    q: Tensor, k: Tensor, v: Tensor, window: Window, mask: Tensor | None, segments: Tensor | None, first: int
) -> Tensor:
    """The same by FlexAttention (arXiv:2412.05496), which skips the tiles that `sees` leaves empty."""
    past = k.shape[-2] - q.shape[-2]

    def seen(b: Tensor, h: Tensor, m: Tensor, n: Tensor) -> Tensor:
        allowed = window.sees(first + past + m, first + n)
        if mask is not None:
            allowed = allowed & mask[b % mask.shape[0], n]
        if segments is not None:
            allowed = allowed & (segments[b, past + m] == segments[b, n]) & (segments[b, n] >= 0)
        return allowed

    from torch.nn.attention.flex_attention import create_block_mask

    rows = None if mask is None and segments is None else q.shape[0]
    blocks = create_block_mask(seen, rows, None, q.shape[-2], k.shape[-2], device=q.device)
    return _flex_attention(q.is_cuda)(q, k, v, block_mask=blocks, enable_gqa=q.shape[1] != k.shape[1])


@once
def _flex_attention(compiled: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    kernel: Any = flex_attention
    return torch.compile(kernel) if compiled else kernel


class LocalAttention(nn.Module):
    """Local attention of given queries, keys and values, with a position encoding and a cache.

    Any length will do: the last block is padded internally, and its padding is never seen.

    Args:
        window: W, tokens.
        causal: a query sees no later key.
        look_backward: b, number of windows seen on the way back.
        look_forward: f, number of windows seen ahead; by default 0 if causal, else 1.
        exact, inclusive: exact, inclusive or block windows; the table is at the top of this module.
        position: the encoding, by default none (NoPE). Positions are those of the whole sequence, so with a rotation
            only the distance matters, whether causal or not.
        shared_qk: queries and keys live in one space (Reformer, arXiv:2001.04451): keys are normalised to length 1,
            and a query sees itself only if it sees no other key.
        dropout: of the attention weights, in training.
        scale: of the scores, by default 1/√D.
        backend: as `local_attention`.

    Raises:
        ValueError: naming the argument that is out of range; also if the encoding needs causal attention and `causal`
            is False.
    """

    def __init__(
        self,
        window: int,
        *,
        causal: bool = True,
        look_backward: int = 1,
        look_forward: int | None = None,
        exact: bool = True,
        inclusive: bool = False,
        position: PositionEncoding | None = None,
        shared_qk: bool = False,
        dropout: float = 0.0,
        scale: float | None = None,
        backend: Backend = "sdpa",
    ) -> None:
        super().__init__()
        self.window = Window(window, causal, look_backward, look_forward, exact, inclusive)
        self.position = attention_encoding(position)
        check_position(self.position, self.window)
        check_numbers(dropout, scale)
        _check_backend(backend)
        self.shared_qk, self.dropout, self.scale, self.backend = shared_qk, dropout, scale, backend

    def new_cache(self, capacity: int | None = None, *, spare: int = 0) -> LocalCache:
        """An empty cache for this window, in which padding counts; `capacity` and `spare` as `LocalCache`."""
        cache = LocalCache(self.window, capacity, spare=spare, count_padding=True)
        check_capacity(self.position, cache)
        return cache

    __call__: Callable[..., Tensor]

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        bias: Tensor | None = None,
        positions: Positions | None = None,
        cache: LocalCache | None = None,
    ) -> Tensor:
        """Attend from every token to those in its window.

        Args:
            q: queries (B, H, N, D), or (B, N, D) for one head.
            k, v: keys and values (B, H_k, N, D), H_k a divisor of H, or (B, N, D).
            mask: True for real tokens, False for padding; (N,), (1, N) or (B, N). A cache remembers it.
            segments: document ids (B, N); tokens see only their own segment, and −1 marks padding. With a cache, give
                them at every call or at none.
            bias: as `local_attention`.
            positions: (N,) or (B, N); by default they continue from the cache. Windows are counted by index, not by
                position, and padding counts.
            cache: keys and values of earlier tokens; the new ones are added to it. Causal attention only.

        Returns:
            A tensor of the shape of q.

        Raises:
            ValueError: if a shape or dtype does not fit, both `mask` and `segments` are given, the cache is full, or
                unlimited although `position` depends on the length, or it was made for another window.
        """
        if q.ndim == k.ndim == v.ndim == 3:
            rest = {"mask": mask, "segments": segments, "bias": bias, "positions": positions, "cache": cache}
            return self(q[:, None], k[:, None], v[:, None], **rest)[:, 0]
        _check_tensors(q, k, v)
        batch, count = k.shape[0], k.shape[-2]
        if q.shape[-2] != count:
            raise ValueError(f"q must be as long as k, {count} tokens, got {q.shape[-2]}")
        if cache is not None and not isinstance(cache, LocalCache):
            raise ValueError(f"cache must be a LocalCache, as new_cache makes it, got {type(cache).__name__}")
        if cache is not None and cache.window != self.window:
            raise ValueError(f"cache must be made for {self.window}, got {cache.window}")
        check_capacity(self.position, cache)
        past = 0 if cache is None else cache.length
        positions = token_positions(positions, batch, count, first=past, device=k.device)
        mask = _rows(mask)
        rows = check_rows(batch, count, mask=mask, segments=segments)
        if mask is not None and segments is not None:
            raise ValueError("mask must be None where segments are given: mark padding with segment -1")
        if cache is not None and not cache.count_padding and not (mask is segments is None):
            raise ValueError("cache must count padding, as here windows do: make it by new_cache")
        if self.shared_qk:
            k = F.normalize(k, dim=-1)
        length = past + count if cache is None or cache.capacity == sys.maxsize else cache.capacity
        q, k, v = self.position.rotate(q, k, v, positions, length)
        k_positions = positions
        if cache is not None:
            k, v, k_positions, held = cache.append(k, v, positions, segments, mask=rows)
            if segments is None:  # a mask hides keys; unlike segments it leaves the queries of padding alone
                mask = None if held is None else held >= 0
            else:
                segments = held
        w = self.window
        out = local_attention(
            q, k, v, window=w.size, causal=w.causal, look_backward=w.look_backward, look_forward=w.look_forward,
            exact=w.exact, inclusive=w.inclusive, mask=mask, segments=segments, bias=bias, exclude_self=self.shared_qk,
            dropout=self.dropout if self.training else 0.0, scale=self.scale, position=self.position,
            positions=k_positions, first=past + count - k.shape[-2], backend=self.backend,
        )  # fmt: skip
        return self.position.unrotate(out, positions)

    def extra_repr(self) -> str:
        return f"{self.window}, shared_qk={self.shared_qk}, dropout={self.dropout}, scale={self.scale}"


def check_position(position: PositionEncoding, window: Window) -> None:
    """Raise a ValueError if the encoding needs causal attention and the window is not, or must see all keys at once."""
    if position.query_block is not None and not window.causal:
        name = type(position).__name__
        raise ValueError(f"causal must be True for {name}, which takes queries in blocks, got False")
    if position.needs_all_keys:
        counts = type(getattr(position, "scaling", position)).__name__
        why = f"in a window, which never holds all the keys that {counts} counts"
        raise ValueError(f"length must be given to a {type(position).__name__} {why}, got None")


def _check_tensors(q: Tensor, k: Tensor, v: Tensor) -> None:
    shapes = f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
    if not q.ndim == k.ndim == v.ndim == 4:
        raise ValueError(f"q, k and v must have shape (B, H, N, D), got {shapes}")
    if k.shape[:-1] != v.shape[:-1] or q.shape[0] != k.shape[0] or q.shape[-1] != k.shape[-1]:
        raise ValueError(f"k and v must have one shape (B, H_k, N_k, D), with the B and D of q, got {shapes}")
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        raise ValueError(f"k and v must have a number of heads that divides that of q, got {shapes}")
    if q.shape[-2] > k.shape[-2]:
        raise ValueError(f"q must not be longer than k, got {q.shape[-2]} queries and {k.shape[-2]} keys")
    if not q.is_floating_point() or not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"q, k and v must be real, of one dtype, got {q.dtype}, {k.dtype} and {v.dtype}")


def _rows(mask: Tensor | None) -> Tensor | None:
    """A mask (N,) as one row."""
    return mask[None] if isinstance(mask, Tensor) and mask.ndim == 1 else mask


def check_numbers(dropout: float, scale: float | None) -> None:
    """Raise a ValueError if the dropout is not in [0, 1), or the scale is not finite."""
    check_probability(dropout=dropout)
    if scale is not None and not (is_real(scale) and math.isfinite(scale)):
        raise ValueError(f"scale must be finite, got {scale!r}")


def _check_backend(backend: str) -> None:
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {get_args(Backend)}, got {backend!r}")
