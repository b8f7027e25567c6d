"""The three places where a position can enter a transformer, as one class of empty hooks.

Every position encoding of this package is a small subclass that fills one hook. The class itself fills none,
which is an encoding too: no positions at all (NoPE), where only the causal mask tells order.
"""

from __future__ import annotations

from torch import Tensor, nn


class PositionEncoding(nn.Module):
    """Base of all encodings: hooks, each of which leaves its input as it is.

    Shapes: B batch, H heads, N tokens, D head dimension, C model width. `positions` is (N,) or (B, N).

    Attributes:
        query_block: the most queries `relate` takes at once; None is all. Needs causal attention.
        distances_only: `relate` looks at differences of positions alone, so that packed texts, which see nothing of one
            another, may be counted from an origin each.
    """

    query_block: int | None = None
    distances_only: bool = False

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token embeddings (B, N, C) -> the same shape. Filled by learned and sinusoidal encodings."""
        return x

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, N, D) -> the same shapes, before they are cached. Filled by RoPE.

        `length` is the number of tokens the sequence may have in all: the cache's capacity, else the tokens at
        hand. Only scalings that depend on it look.
        """
        return q, k, v

    def relate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        """What is done to queries and to all keys, the cached ones too, at every step. Filled by xPos."""
        return q, k

    def unrotate(self, out: Tensor, positions: Tensor) -> Tensor:
        """Attention output (B, H, N, D) -> the same shape. Filled where values were rotated."""
        return out

    def bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor | None:
        """Term added to the scaled scores, (1 or B, H, N_q, N_k), or None. Filled by T5, ALiBi and kin."""
        return None


class NoPE(PositionEncoding):
    """No position encoding: every hook stays empty (Kazemnejad et al. 2023, arXiv:2305.19466)."""
