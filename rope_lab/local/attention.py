"""Local attention: each query sees only the keys of a window around it, in time and memory linear in the length.

Which keys j query i sees, for a window of W tokens, look_backward b and look_forward f:

                causal                        not causal                           keys seen (causal, b = 1)
    exact       0 ≤ i − j < W·b               −W·f < i − j < W·b                   W
    inclusive   0 ≤ i − j ≤ W·b               −W·f ≤ i − j ≤ W·b                   W + 1
    block       j ≤ i, ⌊j/W⌋ ≥ ⌊i/W⌋ − b      ⌊i/W⌋ − b ≤ ⌊j/W⌋ ≤ ⌊i/W⌋ + f        W + 1 to 2·W

Fewer at the ends of the sequence. A query always sees itself, and at b = 0 or f = 0 nothing else of an exact window
on that side. Exact windows (the default) count as `MultiHeadAttention(window=W)` does; `inclusive=True` as the
local-attention library does for `exact_windowsize=True` and flash-attn for `window_size=(W, 0)`; `exact=False` gives
block windows, as that library has by default.

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

from rope_lab.attention import KVCache
from rope_lab.encodings import DynamicNTK, GrowingRotaryEmbedding, LongRoPE, NoPE, PositionEncoding
from rope_lab.local.blocks import Window, attend_in_blocks

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
    positions: Tensor | None = None,
    first: int = 0,
    backend: Backend = "sdpa",
) -> Tensor:
    """softmax(scale·q·kᵀ + bias)·v over the keys in each query's window; a query that sees no key returns zeros.

    Equal to dense attention under the mask of the table above, in O(N·W) time and O(N) memory; O(N·W) memory where
    there is dropout, a learned bias, a `position` with a bias, or a mask that differs between the rows of a batch.

    Args:
        q: queries (B, H, N_q, D), any length. They are the last N_q of the N_k tokens.
        k, v: keys and values (B, H_k, N_k, D); H_k divides H.
        window: W, tokens.
        causal: a query sees no later key.
        look_backward: b, windows seen on the way back.
        look_forward: f, windows seen ahead; by default 0 if causal, else 1.
        exact: the window moves on with every query; False for block windows.
        inclusive: an exact window reaches one key further on each side.
        mask: True for keys that may be seen, False for padding; (N_k,), (1, N_k) or (B, N_k).
        segments: integers (B, N_k); a query sees only its own segment, and −1 marks padding.
        bias: added to the scores, (1 or H, W, (b + 1 + f)·W): row i mod W, column j − (⌊i/W⌋ − b)·W, the same for
            every window.
        exclude_self: a query sees itself only where it sees no other key.
        dropout: probability of dropping an attention weight.
        scale: of the scores, by default 1/√D.
        position: an encoding whose hooks `relate` and `bias` are applied; rotate q and k before.
        positions: of the keys, (N_k,) or (B, N_k), for `position`; by default first, first + 1, …
        first: index of the first key in its sequence, from which block windows and the rows of `bias` are counted.
        backend: "sdpa", or "flex" for `torch.nn.attention.flex_attention` (compiled on CUDA, elsewhere its slow
            reference form), with the same results but no bias, exclude_self, dropout or position. It was tested on
            a CPU only, so it is never chosen for you: measure it on your GPU.

    Returns:
        (B, H, N_q, D).

    Raises:
        ValueError: naming the argument whose shape, dtype or value does not fit.
    """
    band = Window(window, causal, look_backward, look_forward, exact, inclusive)
    position = NoPE() if position is None else position
    mask = mask[None] if mask is not None and mask.ndim == 1 else mask
    _check_tensors(q, k, v)
    _check_rows(k, mask, segments, positions)
    check_numbers(dropout, scale)
    check_position(position, band)
    rows_and_columns = (window, window * band.blocks)
    if bias is not None and bias.shape not in (
        (1, *rows_and_columns),
        (q.shape[1], *rows_and_columns),
    ):
        wanted = f"(1 or {q.shape[1]}, {rows_and_columns[0]}, {rows_and_columns[1]})"
        raise ValueError(f"bias must have shape {wanted}, got {tuple(bias.shape)}")
    if first < 0:
        raise ValueError(f"first must be an index of at least 0, got {first}")
    _check_backend(backend)
    if not q.numel():
        return q.new_zeros(*q.shape[:-1], v.shape[-1])
    if scale is not None:
        q = q * (scale * q.shape[-1] ** 0.5)
    if backend == "flex":
        if bias is not None or exclude_self or dropout or type(position) is not NoPE:
            raise ValueError("backend 'flex' takes no bias, exclude_self, dropout or position: use 'sdpa'")
        return _flex(q, k, v, band, mask, segments, first)
    if positions is None:
        positions = torch.arange(first, first + k.shape[-2], device=k.device)
    return attend_in_blocks(
        q, k, v, band, mask=mask, segments=segments, bias=bias, exclude_self=exclude_self, dropout=dropout,
        position=position, positions=positions, first=first,
    )  # fmt: skip


def _flex(
    q: Tensor, k: Tensor, v: Tensor, window: Window, mask: Tensor | None, segments: Tensor | None, first: int
) -> Tensor:
    """The same by FlexAttention (arXiv:2412.05496), which skips the tiles that `sees` leaves empty."""
    past = k.shape[-2] - q.shape[-2]

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        allowed = window.sees(first + past + i, first + j)
        if mask is not None:
            allowed = allowed & mask[b % mask.shape[0], j]
        if segments is not None:
            allowed = allowed & (segments[b, past + i] == segments[b, j]) & (segments[b, j] >= 0)
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


class LocalCache(KVCache):
    """Keys, values and positions of earlier tokens, only those that a later query can still see.

    At most W·b − 1 tokens stay (exact), W·b (inclusive) or W·(b + 1) − 1 (block), however many have passed.

    Args:
        window: which keys a query sees, causal.
        capacity: tokens the sequence may have in all, by default unlimited; it costs nothing, but scalings that
            depend on the length need it.

    Attributes:
        length: tokens that have passed.
    """

    def __init__(self, window: Window, capacity: int | None = None) -> None:
        if not window.causal:
            raise ValueError("causal must be True for a cache: cached tokens cannot look ahead, got False")
        super().__init__(sys.maxsize if capacity is None else capacity)
        self.window = window

    def append(
        self, k: Tensor, v: Tensor, positions: Tensor, segments: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Add new tokens; return those the first of them may see, and them.

        Arguments, results and errors as `KVCache.append`; the first key returned has the index
        `length − k.shape[-2]`.
        """
        count = k.shape[-2]
        end = self.length + count
        if end > self.capacity:
            raise ValueError(f"capacity is {self.capacity} tokens, got {end}: make a cache with a larger one")
        given = segments is not None
        segments = positions.new_zeros(k.shape[0], count) if segments is None else segments
        new = {"k": k, "v": v, "positions": positions, "segments": segments.long()}
        axes = {"k": -2, "v": -2, "positions": -1, "segments": -1}
        for name, tensor in new.items():  # before anything is held
            held = self._held.get(name, tensor)
            wanted = list(held.shape)
            wanted[axes[name]] = count
            if list(tensor.shape) != wanted or tensor.dtype != held.dtype:
                got = f"{tuple(tensor.shape)} {tensor.dtype}"
                raise ValueError(f"{name} must be {tuple(wanted)} {held.dtype} as held, got {got}")
        full = {
            name: torch.cat((self._held[name], x), axes[name]) if self._held else x for name, x in new.items()
        }
        kept = min(end - self.window.first_seen(end), full["k"].shape[-2])
        self._held = {  # cloned, so that what is left behind is freed
            name: x.narrow(axes[name], x.shape[axes[name]] - kept, kept).clone() for name, x in full.items()
        }
        self.length, self._segmented = end, self._segmented or given
        return full["k"], full["v"], full["positions"], full["segments"] if self._segmented else None


class LocalAttention(nn.Module):
    """Local attention of given queries, keys and values, with a position encoding and a cache.

    Any length will do: the last block is padded inside and its padding never seen.

    Args:
        window: W, tokens.
        causal: a query sees no later key.
        look_backward: b, windows seen on the way back.
        look_forward: f, windows seen ahead; by default 0 if causal, else 1.
        exact, inclusive: exact, inclusive or block windows; the table is at the top of this module.
        position: the encoding, by default none (NoPE). Positions are those of the whole sequence, so a rotation
            depends on the distance alone, causal or not.
        shared_qk: queries and keys live in one space (Reformer, arXiv:2001.04451): keys are normalised to length 1,
            and a query sees itself only where it sees no other key.
        dropout: of the attention weights, in training.
        scale: of the scores, by default 1/√D.
        backend: as `local_attention`.

    Raises:
        ValueError: naming the argument that is out of range; for an encoding that needs it, if not causal.
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
        self.position = NoPE() if position is None else position
        check_position(self.position, self.window)
        check_numbers(dropout, scale)
        _check_backend(backend)
        self.shared_qk, self.dropout, self.scale, self.backend = shared_qk, dropout, scale, backend

    def new_cache(self, capacity: int | None = None) -> LocalCache:
        """An empty cache for this window; `capacity` as `LocalCache`."""
        cache = LocalCache(self.window, capacity)
        check_capacity(self.position, cache)
        return cache

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        positions: Tensor | None = None,
        cache: LocalCache | None = None,
    ) -> Tensor:
        """Attend from every token to those in its window.

        Args:
            q: queries (B, H, N, D), or (B, N, D) for one head.
            k, v: keys and values (B, H_k, N, D), H_k a divisor of H, or (B, N, D).
            mask: True for real tokens, False for padding; (N,), (1, N) or (B, N).
            bias: as `local_attention`.
            positions: (N,) or (B, N); by default they go on from the cache. Windows go by index, not by position.
            cache: keys and values of earlier tokens; the new ones are added to it. Causal attention only.

        Returns:
            The shape of q.

        Raises:
            ValueError: if a shape or dtype does not fit, the cache is full or unlimited where `position` depends on
                the length, or it was made for another window.
        """
        if q.ndim == k.ndim == v.ndim == 3:
            q, k, v = (x[:, None] for x in (q, k, v))
            return self(q, k, v, mask=mask, bias=bias, positions=positions, cache=cache)[:, 0]
        _check_tensors(q, k, v)
        batch, count = k.shape[0], k.shape[-2]
        if q.shape[-2] != count:
            raise ValueError(f"q must be as long as k, {count} tokens, got {q.shape[-2]}")
        if cache is not None and cache.window != self.window:
            raise ValueError(f"cache must be made for {self.window}, got {cache.window}")
        check_capacity(self.position, cache)
        past = 0 if cache is None else cache.length
        if positions is None:
            positions = torch.arange(past, past + count, device=k.device)
        mask = mask[None] if mask is not None and mask.ndim == 1 else mask
        _check_rows(k, mask, None, positions)
        if self.shared_qk:
            k = F.normalize(k, dim=-1)
        length = past + count if cache is None or cache.capacity == sys.maxsize else cache.capacity
        q, k, v = self.position.rotate(q, k, v, positions, length)
        k_positions = positions
        if cache is not None:
            padding = None if mask is None else mask.expand(batch, count).long() - 1
            k, v, k_positions, padding = cache.append(k, v, positions, padding)
            mask = None if padding is None else padding >= 0
        w = self.window
        out = local_attention(
            q, k, v, window=w.size, causal=w.causal, look_backward=w.look_backward, look_forward=w.look_forward,
            exact=w.exact, inclusive=w.inclusive, mask=mask, bias=bias, exclude_self=self.shared_qk,
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
    growing = isinstance(position, GrowingRotaryEmbedding) and position.length is None
    if growing and isinstance(position.scaling, DynamicNTK | LongRoPE):
        why = f"in a window, which never holds all the keys that {type(position.scaling).__name__} counts"
        raise ValueError(f"length must be given to a GrowingRotaryEmbedding {why}, got None")


def check_capacity(position: PositionEncoding, cache: KVCache | None) -> None:
    """Raise a ValueError if frequencies depend on the length and neither the encoding nor the cache fixes it."""
    scaling = getattr(position, "scaling", None)
    open_ended = (
        cache is not None and cache.capacity == sys.maxsize and getattr(position, "length", 0) is None
    )
    if open_ended and isinstance(scaling, DynamicNTK | LongRoPE):
        why = f"for {type(scaling).__name__}, which depends on the length (or the encoding a length)"
        raise ValueError(f"capacity must be given {why}, got None")


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


def _check_rows(k: Tensor, mask: Tensor | None, segments: Tensor | None, positions: Tensor | None) -> None:
    batch, count = k.shape[0], k.shape[-2]
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"mask must be boolean, True for real tokens, got {mask.dtype}")
    if mask is not None and mask.shape not in ((1, count), (batch, count)):
        wanted = f"({count},), (1, {count}) or ({batch}, {count})"
        raise ValueError(f"mask must have shape {wanted}, got {tuple(mask.shape)}")
    if segments is not None and (segments.dtype == torch.bool or segments.is_floating_point()):
        raise ValueError(f"segments must be integers (mask.long() - 1 for a mask), got {segments.dtype}")
    if segments is not None and segments.shape != (batch, count):
        raise ValueError(f"segments must have shape ({batch}, {count}), got {tuple(segments.shape)}")
    if positions is not None and positions.shape not in ((count,), (batch, count)):
        wanted = f"({count},) or ({batch}, {count})"
        raise ValueError(f"positions must have shape {wanted}, got {tuple(positions.shape)}")


def check_numbers(dropout: float, scale: float | None) -> None:
    """Raise a ValueError if the dropout is no probability below 1, or the scale not finite."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale must be finite, got {scale}")


def _check_backend(backend: str) -> None:
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {get_args(Backend)}, got {backend!r}")
