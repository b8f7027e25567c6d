"""Work by counting: the bytes and the floating-point operations that a computation needs at least.

A multiplication and an addition count as one operation each. Bytes are those that have to go between memory and the
processor even if everything is fused: inputs are read once, results are written once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rope_lab.config import RoFormerConfig


@dataclass(frozen=True)
class Work:
    """What has to be done at least.

    Args:
        bytes: to and from memory.
        flops: floating-point operations.
    """

    bytes: int
    flops: int

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.bytes

    def __add__(self, other: Work) -> Work:
        return Work(self.bytes + other.bytes, self.flops + other.flops)


def rotation(shape: Sequence[int], itemsize: int) -> Work:
    """Rotating a tensor, or its gradient: it is read and written once; a pair takes four products and two sums.

    Args:
        shape: (..., N, D).
        itemsize: bytes of a number.
    """
    numbers, table = math.prod(shape), math.prod(shape[-2:])  # cos and sin of each pair: D/2 numbers each
    return Work(2 * numbers * itemsize + table * 4, 3 * numbers)


def scores(length: int, window: int | None = None, *, exact: bool = True, inclusive: bool = False) -> int:
    """Pairs of a query and a key that it sees, in one causal head.

    Args:
        length: N tokens.
        window: W, or None for full causal attention.
        exact, inclusive: the kind of the window, as for `local_attention`.
    """
    if window is None:
        return length * (length + 1) // 2
    if exact:  # query m sees min(m + 1, W) keys, or one more
        most = min(window + inclusive, length)
        return length * most - most * (most - 1) // 2
    blocks, rest = divmod(length, window)  # query r of its block sees r + 1 keys there, and the block before
    inside = blocks * window * (window + 1) // 2 + rest * (rest + 1) // 2
    return inside + max(0, length - window) * window


def attention(heads: int, length: int, dim: int, seen: int, itemsize: int, *, backward: bool = False) -> Work:
    """Attention of one sequence that never writes its scores to memory.

    Forward, a score takes D products and sums for q·k and as many for its share of the output. Backward, a fused kernel
    has q·k computed again and takes four more such products, one for each of dv, dw, dq and dk.

    Args:
        heads, length, dim: H, N and D of queries, keys and values.
        seen: pairs of a query and a key in one head, from `scores`.
        itemsize: bytes of a number.
        backward: the forward and the backward pass.
    """
    tensor = heads * length * dim * itemsize
    forward = Work(4 * tensor, 4 * dim * seen * heads)  # q, k, v in, the output out
    if not backward:
        return forward
    return forward + Work(
        8 * tensor, 10 * dim * seen * heads
    )  # those and its gradient in, three gradients out


def matrices(config: RoFormerConfig) -> int:
    """Numbers in the matrices that each token of a model is multiplied by: all parameters but norms and biases.

    The table of embeddings counts once, as the matrix of the logits: of its other use a token reads one row.
    """
    c = config
    kept = (c.kv_heads or c.heads) * (c.dim // c.heads)
    attention = 2 * c.dim * c.dim + 2 * c.dim * kept
    feed_forward = (3 if c.activation == "swiglu" else 2) * c.dim * c.ff_width
    return c.depth * (attention + feed_forward) + c.vocab_size * c.dim


def decoding(config: RoFormerConfig, past: int, batch: int = 1, itemsize: int = 4) -> Work:
    """One more token for each of `batch` sequences that have `past` tokens in the cache.

    Every matrix is read once for all sequences together, every sequence's cache once for itself.
    """
    c, weights = config, matrices(config)
    kept = (c.kv_heads or c.heads) * (c.dim // c.heads)
    cache = batch * c.depth * 2 * kept * (past + 1)
    flops = batch * (2 * weights + c.depth * 4 * c.dim * (past + 1))
    return Work(itemsize * (weights + cache), flops)


def training_step(config: RoFormerConfig, batch: int, length: int, itemsize: int = 4) -> Work:
    """Forward and backward pass of a causal model and an update of Adam.

    Each matrix takes part in three products: its output, and the gradients of its input and of itself. Of the bytes,
    only those of the parameters count. The products read a matrix twice and write its gradient; the update reads it,
    the gradient and two averages, and writes all but the gradient. How many activations go to memory depends on the
    cache, so they are left out.
    """
    c, weights = config, matrices(config)
    attended = attention(c.heads, length, c.dim // c.heads, scores(length), itemsize, backward=True).flops
    flops = 6 * weights * batch * length + c.depth * batch * attended
    return Work(itemsize * weights * 10, flops)
