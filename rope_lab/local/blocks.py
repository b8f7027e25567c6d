"""The engine of local attention: which keys a window shows, and attention block by block.

The queries are cut into blocks. All queries of a block see keys of one contiguous range, so a block is a small dense
attention. The ranges of adjacent blocks overlap and are views of the keys, not copies. Blocks go through the fused
kernel a chunk at a time, so that the gradients of the overlapping ranges are never in memory all at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.attention import attend, own_positions
from rope_lab.checks import check_integers
from rope_lab.encodings import PositionEncoding

_CHUNK_BYTES = 2**25  # of the keys in a chunk: as much as a processor's cache holds, in few calls


@dataclass(frozen=True)
class Window:
    """Which keys a query sees, by their indices; the table is at the top of `rope_lab.local.attention`.

    Args:
        size: W, tokens.
        causal: a query sees no later key.
        look_backward: b, number of windows (or blocks) seen on the way back.
        look_forward: f, the same ahead; by default 0 if causal, else 1.
        exact: the window moves on with every query; otherwise with every W queries ("block").
        inclusive: an exact window reaches one key further on each side.

    Raises:
        ValueError: if a field is out of range, or two contradict each other.
    """

    size: int
    causal: bool = True
    look_backward: int = 1
    look_forward: int | None = None
    exact: bool = True
    inclusive: bool = False

    def __post_init__(self) -> None:
        if self.look_forward is None:
            object.__setattr__(self, "look_forward", 0 if self.causal else 1)
        (size,) = check_integers(window=self.size)
        back, ahead = check_integers(0, look_backward=self.look_backward, look_forward=self.look_forward)
        for name, value in (("size", size), ("look_backward", back), ("look_forward", ahead)):
            object.__setattr__(self, name, value)
        if self.causal and self.look_forward:
            raise ValueError(f"look_forward must be 0 where causal=True, got {self.look_forward}")
        if self.inclusive and not self.exact:
            raise ValueError("inclusive must be False where exact=False, got True")

    @property
    def blocks(self) -> int:
        """Windows that a query of a block window sees all or part of, b + 1 + f."""
        return self.look_backward + 1 + (self.look_forward or 0)

    @property
    def back(self) -> int:
        """The furthest key behind any query, in tokens."""
        return self._reach(self.look_backward)

    @property
    def ahead(self) -> int:
        """The furthest key ahead of any query, in tokens."""
        return 0 if self.causal else self._reach(self.look_forward or 0)

    def _reach(self, windows: int) -> int:
        tokens = windows * self.size
        if not self.exact:
            return tokens + self.size - 1
        return tokens if self.inclusive else max(tokens - 1, 0)

    def first_seen(self, index: int) -> int:
        """The lowest index that the query at `index` sees, and so any later one; negative near the start."""
        block_start = (index // self.size - self.look_backward) * self.size
        return index - self.back if self.exact else block_start

    def sees(self, m: Tensor, n: Tensor) -> Tensor:
        """Whether query m sees key n, for tensors of indices that broadcast."""
        if self.exact:
            return (m - n <= self.back) & (n - m <= self.ahead)
        blocks_back = m // self.size - n // self.size
        near = (blocks_back <= self.look_backward) & (-blocks_back <= (self.look_forward or 0))
        return near & (n <= m) if self.causal else near


@dataclass(frozen=True)
class _Grid:
    """How queries are cut into blocks, and the keys that go with each; all in tokens.

    Attributes:
        block: number of queries in a block.
        back, ahead: numbers of keys before and after those of the block's own tokens, multiples of `block`.
        chunk: number of queries that go through the kernel at once, a multiple of `block`.
        uniform: every block sees the same pattern of its keys, except at the ends of the sequence.
    """

    block: int
    back: int
    ahead: int
    chunk: int
    uniform: bool

    @property
    def keys(self) -> int:
        return self.back + self.block + self.ahead

    def up(self, tokens: int) -> int:
        return -(-tokens // self.block) * self.block

    def chunks(self, past: int, queries: int, *, split: bool) -> list[tuple[int, int]]:
        """Spans of queries; with `split`, blocks whose keys reach beyond the sequence get spans of their own."""
        ends = [0, queries]
        inner = self.up(max(self.back - past, 0)), (queries - self.ahead) // self.block * self.block
        if split and self.uniform and inner[0] < inner[1]:
            ends[1:1] = inner
        sections = itertools.pairwise(ends)
        return [
            (low, min(low + self.chunk, high)) for a, high in sections for low in range(a, high, self.chunk)
        ]

    @classmethod
    def plan(cls, window: Window, queries: int, index: int, biased: bool, hop: int | None, row: int) -> _Grid:
        """For `queries` of which the first has this `index`; `hop` limits the chunk, `row` is a token's bytes in k."""
        size = window.size
        periodic = biased or not window.exact  # the pattern moves on W tokens at a time, not one
        # small blocks waste the least on keys that only some of their queries see, large ones need the least memory
        block = size * -(-64 // size) if periodic else max(64, min(512, size // 4))
        block = min(block, queries, hop or queries)
        uniform = not periodic or (index % size == 0 and block % size == 0)
        # a block that starts where a window starts has no query with more of its window behind it
        spare = size - 1 if uniform and not window.exact else 0
        back, ahead = (-(-max(reach - spare, 0) // block) * block for reach in (window.back, window.ahead))
        fits = _CHUNK_BYTES // (row * (back + block + ahead)) * block
        chunk = max(block, min(max(fits, back + ahead), hop or queries) // block * block)
        return cls(block, back, ahead, chunk, uniform)


class _Ranges(torch.autograd.Function):
    """Overlapping ranges of tokens as a view: (B, H, L, D) -> (B, H, blocks, keys, D), one every `block` tokens.

    As `x.unfold(-2, keys, block).mT`, whose own gradient takes five times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, keys: int, block: int) -> Tensor:
        ctx.shape, ctx.block = x.shape, block
        x = x if x.shape[0] == 1 else x.contiguous()  # so that (B, H) can be one axis
        return x.unfold(-2, keys, block).mT

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        grad = grads[0].unflatten(-2, (-1, ctx.block))
        blocks, steps = grad.shape[2:4]
        out = grad.new_zeros(*ctx.shape[:2], blocks + steps - 1, *grad.shape[-2:])
        for step in range(steps):
            out[:, :, step : step + blocks] += grad[:, :, :, step]
        return out.flatten(2, 3), None, None


def attend_in_blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: Window,
    *,
    mask: Tensor | None,
    segments: Tensor | None,
    bias: Tensor | None,
    exclude_self: bool,
    dropout: float,
    position: PositionEncoding,
    positions: Tensor,
    first: int,
) -> Tensor:
    """`local_attention` for arguments that were checked; at least one query."""
    n_q, n_k, groups = q.shape[-2], k.shape[-2], q.shape[1] // k.shape[1]
    past = n_k - n_q
    row = k.shape[0] * k.shape[1] * k.shape[3] * k.element_size()  # nbytes needs a size known when compiled
    grid = _Grid.plan(window, n_q, first + past, bias is not None, position.query_block, row)
    chunks = grid.chunks(past, n_q, split=mask is None and segments is None)
    # the keys of each chunk, which may reach beyond either end, and the part of them that exists
    ranges = [(past + low - grid.back, past + low + grid.up(high - low) + grid.ahead) for low, high in chunks]
    real = [(max(start, 0), min(stop, n_k)) for start, stop in ranges]
    outputs = []
    for (low, high), (start, stop), (a, b), q_c, k_c, v_c in zip(
        chunks, ranges, real, _slices(q, chunks), _slices(k, real), _slices(v, real), strict=True
    ):
        near = positions[..., past + low : past + high], positions[..., a:b]
        if segments is not None and position.distances_only:
            near = own_positions(*near, segments[:, past + low : past + high], segments[:, a:b])
        q_c, k_c = position.relate(q_c, k_c, *near)
        q_c = F.pad(q_c, (0, 0, 0, grid.up(high - low) - (high - low)))
        q_b = q_c.unflatten(-2, (-1, grid.block))  # (B, H, blocks, block, D)
        k_b, v_b = (  # (B, H_k, blocks, keys, D)
            _Ranges.apply(F.pad(x, (0, 0, a - start, stop - b)), grid.keys, grid.block) for x in (k_c, v_c)
        )
        starts = start + grid.block * torch.arange(q_b.shape[2], device=q.device)[:, None]
        m = starts + grid.back + torch.arange(grid.block, device=q.device)  # (blocks, block), in tokens of k
        n = starts + torch.arange(grid.keys, device=q.device)  # (blocks, keys)

        added = _encoding_bias(position, q_b, k_b, positions, m, n)  # (B, H, blocks, block, keys)
        inner = grid.uniform and (start, stop) == (a, b) and mask is None and segments is None
        if inner:
            m, n = m[:1], n[:1]
        if bias is not None:
            table = _window_bias(bias, window, first + m, first + n)
            added = table if added is None else added + table
        allowed = _allowed(window, m, n, n_k, first, mask, segments, exclude_self)
        if inner:  # every query sees a key here, so the mask can be a term of the sum
            wall = torch.zeros_like(allowed, dtype=q.dtype).masked_fill(~allowed, -torch.inf)
            added = wall if added is None else added + wall

        def fold(x: Tensor) -> Tensor:
            return _fold(x, q.shape[0], q.shape[1], groups)

        out = attend(
            fold(q_b),
            k_b.flatten(0, 1),
            v_b.flatten(0, 1),
            None if inner else fold(allowed),
            None if added is None else fold(added),
            dropout=dropout,
        )
        out = out.unflatten(0, (q.shape[0], -1)).unflatten(3, (groups, grid.block)).transpose(2, 3)
        outputs.append(out.flatten(1, 2).flatten(2, 3)[..., : high - low, :])
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-2)


def _slices(x: Tensor, spans: list[tuple[int, int]]) -> Iterator[Tensor]:
    """x[..., a:b, :] for each span (a, b), one at a time.

    If a gradient is wanted, x is cut once and the slices are put together from the pieces, because the gradient of a
    plain slice is as long as x, and there is one per slice.
    """
    if len(spans) == 1 or not (x.requires_grad and torch.is_grad_enabled()):
        yield from (x[..., a:b, :] for a, b in spans)
        return
    cuts = sorted({0, x.shape[-2], *(cut for span in spans for cut in span)})
    pieces = x.split([b - a for a, b in itertools.pairwise(cuts)], dim=-2)
    number = {cut: piece for piece, cut in enumerate(cuts)}
    for a, b in spans:
        own = pieces[number[a] : number[b]]
        yield own[0] if len(own) == 1 else torch.cat(own, dim=-2)


def _allowed(
    window: Window,
    m: Tensor,
    n: Tensor,
    count: int,
    first: int,
    mask: Tensor | None,
    segments: Tensor | None,
    exclude_self: bool,
) -> Tensor:
    """Which of its keys each query of a block may see, (1 or B, 1, blocks, block, keys)."""
    query, key = m[..., None], n[:, None]
    allowed = (window.sees(first + query, first + key) & (key >= 0) & (key < count))[None]
    if mask is not None:
        allowed = allowed & mask[:, n.clamp(0, count - 1)][:, :, None]
    if segments is not None:
        mine, theirs = (segments[:, x.clamp(0, count - 1)] for x in (m, n))
        allowed = allowed & (mine[..., None] == theirs[:, :, None]) & (mine >= 0)[..., None]
    if exclude_self:
        others = allowed & (query != key)
        allowed = others | (allowed & ~others.any(-1, keepdim=True))
    return allowed[:, None]


def _window_bias(bias: Tensor, window: Window, m: Tensor, n: Tensor) -> Tensor:
    """The bias (1 or H, W, (b + 1 + f)·W) of queries m and keys n, (1, 1 or H, blocks, block, keys)."""
    begin = m // window.size * window.size - window.look_backward * window.size
    column = (n[:, None] - begin[..., None]).clamp(0, bias.shape[-1] - 1)  # beyond it no key is seen
    return bias[:, (m % window.size)[..., None], column][None]


def _encoding_bias(
    position: PositionEncoding, q: Tensor, k: Tensor, positions: Tensor, m: Tensor, n: Tensor
) -> Tensor | None:
    """What the hook `bias` adds in each block, (B, H, blocks, block, keys): every block is a row of its batch."""
    if type(position).bias is PositionEncoding.bias:
        return None
    batch, heads, blocks, block, _ = q.shape
    at = (positions[..., x.clamp(0, positions.shape[-1] - 1)].expand(batch, *x.shape) for x in (m, n))
    rows = (x.transpose(1, 2).flatten(0, 1) for x in (q, k))
    bias = position.bias(*rows, *(x.flatten(0, 1) for x in at))
    if bias is None:
        return None
    return bias.expand(batch * blocks, heads, block, -1).unflatten(0, (batch, blocks)).transpose(1, 2)


def _fold(x: Tensor, batch: int, heads: int, groups: int) -> Tensor:
    """(1 or B, 1 or H, blocks, block, ·) -> (1 or B·H_k, blocks, H/H_k·block, ·): more queries, not more heads."""
    size = (1, groups) if x.shape[:2] == (1, 1) else (batch, heads)
    x = x.expand(*size, -1, -1, -1).unflatten(1, (-1, groups))
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 1)
