"""Local attention on a processor: the fused kernel on pieces of the band, forwards and backwards.

Most queries of a long text see their keys in one pattern, which repeats. The queries are cut into such pieces, the few
at the ends of the text into pieces of their own. Queries and keys of a piece are views, and a few of its repeats go
through the kernel at a time, so that little more than the result is ever in memory. The kernel also returns the
logarithm of the sum that the softmax divides by; its gradient takes that and the output, so no weights are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from rope_lab.local.blocks import Window

_KERNEL: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_GRADIENT: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_CHUNK_BYTES = (
    2**17,
    2**20,
)  # of queries, and of gradients of keys, at once for each thread: they stay in its cache
_CALL = 2**13  # scores that take as long as a call of the kernel does for nothing
_LEAST, _LEAST_BACK = 32, 64  # queries in a block: few waste little, many need fewer sums of gradients
_MOST = 256
_EVEN = 16  # an even number of keys is a multiple of it: as many as fill a register


@dataclass(frozen=True)
class _Piece:
    """Queries and the keys they see, once or in a pattern; in tokens from the first query and the first key.

    Attributes:
        query, queries: where the queries start, and how many.
        key, keys: the same of the keys.
        count, period: the piece repeats so many times, every so many tokens.
        causal: query i sees exactly keys 0 to i.
    """

    query: int
    queries: int
    key: int
    keys: int
    count: int = 1
    period: int = 1
    causal: bool = False

    @property
    def scores(self) -> int:
        """How many are formed: half of them if the kernel can leave out those above the diagonal."""
        return self.count * self.queries * self.keys // (2 if self.causal else 1)

    def chunks(self, rows: int, most: int) -> Iterator[tuple[slice, int, int]]:
        """Rows, first repeat and number of repeats, at most so many in all; repeats of a row share keys."""
        repeats = max(1, min(self.count, most))
        step = max(1, most // repeats)
        for row in range(0, rows, step):
            for low in range(0, self.count, repeats):
                yield slice(row, row + step), low, min(repeats, self.count - low)


@dataclass(frozen=True)
class _Band:
    """How the last `n_q` of `n_k` tokens look at all of them; `first` is the index of the first token."""

    window: Window
    n_q: int
    n_k: int
    first: int

    @property
    def past(self) -> int:
        return self.n_k - self.n_q

    def pieces(self, rows: int, least: int) -> list[_Piece]:
        """All queries in pieces, or in a single one if that is less work for so many rows, by scores and calls."""
        inner = list(self.pattern(least))
        low, high = self.n_q, self.n_q
        if inner:
            low, high = inner[0].query, inner[0].query + inner[0].count * inner[0].period
        cut = [*self.ends(0, low), *inner, *self.ends(high, self.n_q)]
        whole = self.end(0, self.n_q)
        saved = whole.scores - sum(piece.scores for piece in cut)
        return cut if rows * saved > _CALL * (len(cut) - 1) else [whole]

    def keys(self, query: int, queries: int) -> tuple[int, int]:
        """The first key that these queries see and the one after the last, perhaps beyond the text."""
        w, begin = self.window, self.first + self.past + query
        end = begin + queries
        if not w.causal:
            end = end + w.ahead if w.exact else (-(-end // w.size) + (w.look_forward or 0)) * w.size
        return w.first_seen(begin) - self.first, end - self.first

    def pattern(self, least: int) -> Iterator[_Piece]:
        """The blocks of a period, which repeats from the first query on whose keys are all there."""
        w = self.window
        block = max(least, min(w.size // 8, _MOST))
        if w.exact:
            period, back = block, -(-(w.back + block + w.ahead) // _EVEN) * _EVEN - block - w.ahead
        else:
            block *= 4  # a short period makes the kernel read the keys again and again
            period, back = -(-block // w.size) * w.size, w.look_backward * w.size
        low = max(back - self.past, 0)
        if not w.exact:
            low += -(self.first + self.past + low) % w.size
        count = (self.n_k - self.keys(low, period)[1]) // period + 1
        if low < self.n_q and count > 0:
            for query in range(low, low + period, block):
                queries = min(block, low + period - query)
                key, end = self.keys(query, queries)
                key = self.past + query - back if w.exact else key
                yield _Piece(query, queries, key, end - key, count, period)

    def ends(self, low: int, high: int) -> Iterator[_Piece]:
        """Queries outside the pattern."""
        step = high - low if low < high and self.end(low, high).causal else _MOST
        for query in range(low, high, step):
            yield self.end(query, min(query + step, high))

    def end(self, low: int, high: int) -> _Piece:
        key, end = self.keys(low, high - low)
        key, end = max(key, 0), min(end, self.n_k)
        # the last query sees the first key, and no query a later one
        causal = self.window.causal and key == self.past + low and self.keys(high - 1, 1)[0] <= key
        return _Piece(low, high - low, key, end - key, causal=causal)

    def sight(self, piece: _Piece, like: Tensor) -> dict[str, Any]:
        """The kernel's argument for what the queries of a piece see."""
        if piece.causal:
            return {"is_causal": True}
        m = self.first + self.past + piece.query + torch.arange(piece.queries)[:, None]
        n = self.first + piece.key + torch.arange(piece.keys)
        allowed = self.window.sees(m, n)
        if allowed.all():
            return {}
        return {"attn_mask": like.new_zeros(allowed.shape).masked_fill_(~allowed, -torch.inf)}


def _view(x: Tensor, rows: slice, first: int, size: int, count: int = 1, period: int = 1) -> Tensor:
    """Ranges of tokens, (rows, N, D) -> (count, rows, size, D): `size` of them, every `period` tokens."""
    part = x[rows, first : first + (count - 1) * period + size]
    return part.unfold(1, size, period).permute(1, 0, 3, 2)


class _Attention(torch.autograd.Function):
    """Queries (rows, groups, N_q, D), keys and values (rows, N_k, D): each row's keys serve all groups."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, band: _Band) -> Tensor:
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        sums = q.new_empty(*q.shape[:-1], 1, dtype=torch.promote_types(q.dtype, torch.float32))
        for piece in band.pieces(q.shape[0] * q.shape[1], _LEAST):
            sight = band.sight(piece, q)
            for group in range(q.shape[1]):
                for rows, low, count in piece.chunks(len(q), _fits(piece.queries, q, _CHUNK_BYTES[0])):
                    at, many = low * piece.period, (count, piece.period)
                    q_c, out_c, sums_c = (
                        _view(x[:, group], rows, piece.query + at, piece.queries, *many)
                        for x in (q, out, sums)
                    )
                    k_c, v_c = (_view(x, rows, piece.key + at, piece.keys, *many) for x in (k, v))
                    result, log_sum = _KERNEL(q_c, k_c, v_c, **sight)
                    out_c.copy_(result)
                    sums_c.copy_(log_sum[..., None])
        ctx.save_for_backward(q, k, v, out, sums)
        ctx.band = band
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, sums = ctx.saved_tensors
        band: _Band = ctx.band
        grad_q = torch.empty_like(q)
        exact = torch.promote_types(q.dtype, torch.float32)  # sums of many terms
        grad_k, grad_v = (torch.zeros_like(x, dtype=exact) for x in (k, v))
        for piece in band.pieces(q.shape[0] * q.shape[1], _LEAST_BACK):
            sight = {"is_causal": False} | band.sight(piece, q)
            for group in range(q.shape[1]):
                for rows, low, count in piece.chunks(len(q), _fits(piece.keys, q, _CHUNK_BYTES[1])):
                    at, many = low * piece.period, (count, piece.period)
                    grad_c, q_c, out_c, sums_c, to_q = (
                        _view(x[:, group], rows, piece.query + at, piece.queries, *many)
                        for x in (grad, q, out, sums, grad_q)
                    )
                    k_c, v_c = (_view(x, rows, piece.key + at, piece.keys, *many) for x in (k, v))
                    parts = _GRADIENT(grad_c, q_c, k_c, v_c, out_c, sums_c[..., 0], 0.0, **sight)
                    to_q.copy_(parts[0])
                    step = piece.period if count > 1 else piece.keys  # ranges of adjacent repeats overlap
                    for begin in range(0, piece.keys, step):
                        size = min(step, piece.keys - begin)
                        for total, part in zip((grad_k, grad_v), parts[1:], strict=True):
                            to = _view(total, rows, piece.key + at + begin, size, *many)
                            to += part[:, :, begin : begin + size]
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None


def _fits(tokens: int, x: Tensor, chunk: int) -> int:
    """How many ranges of so many tokens fit in a chunk of so many bytes a thread."""
    return chunk * torch.get_num_threads() // (tokens * x.shape[-1] * x.element_size())


def attend_in_band(q: Tensor, k: Tensor, v: Tensor, window: Window, first: int) -> Tensor:
    """`attend_in_blocks` on a processor where a query sees a window and nothing else matters."""
    batch, groups = q.shape[0], q.shape[1] // k.shape[1]
    band = _Band(window, q.shape[-2], k.shape[-2], first)
    pieces = band.pieces(q.shape[0] * q.shape[1], _LEAST)
    if len(pieces) == 1 and pieces[0].count == 1:  # torch's own gradient does as well
        k, v = (x.narrow(-2, pieces[0].key, pieces[0].keys) for x in (k, v))
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=groups > 1, **band.sight(pieces[0], q))
    q, k, v = (x.flatten(0, 1) for x in (q.unflatten(1, (-1, groups)), k, v))
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    out: Tensor = _Attention.apply(q, k, v, band)
    return out.unflatten(0, (batch, -1)).flatten(1, 2)


def takes(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel does: not under a compiler, which makes one graph of all pieces, nor under autocast."""
    return (
        q.device.type == "cpu"
        and q.shape[-1] == v.shape[-1]
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )
