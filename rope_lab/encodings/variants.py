"""Two variants of RoPE: one also rotates the values, the other adapts its frequencies as the sequence grows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rope_lab.encodings.rotary import RotaryEmbedding, rotate


class RotaryValueEmbedding(RotaryEmbedding):
    """RoPER: values are rotated by their own position, and the output is rotated back by the query's.

    The output becomes Σ_n a_mn · R_{n−m} · v_n: what is read from a token depends on its position relative to the
    reader, whereas with RoPE only the attention weight a_mn does.

    Args:
        dim: rotated coordinates of queries and keys.
        value_dim: rotated coordinates of the values, positive and even; by default `dim`.
        rotary: arguments of `RotaryEmbedding`; all heads turn.

    Source: RoPER, by Georges Harik, published with labml_nn in 2022.
    """

    def __init__(self, dim: int, *, value_dim: int | None = None, **rotary: Any) -> None:
        if rotary.get("heads") is not None:
            raise ValueError(f"heads must be None where values turn: all heads do, got {rotary['heads']!r}")
        super().__init__(dim, **rotary)
        kwargs = {name: value for name, value in rotary.items() if name in ("base", "layout")}
        self.values = RotaryEmbedding(dim if value_dim is None else value_dim, **kwargs)

    @property
    def reach(self) -> int:
        return max(super().reach, self.values.reach)

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k = self(q, k, positions=positions, length=length)
        return q, k, self._turn(v, positions, 1)

    def unrotate(self, out: Tensor, positions: Tensor) -> Tensor:
        return self._turn(out, positions, -1)

    def _turn(self, x: Tensor, positions: Tensor, sign: int) -> Tensor:
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        angles, _ = self.values.table(positions, x.shape[-2], dtype=dtype)
        return rotate(x, sign * angles, self.values.layout)


class GrowingRotaryEmbedding(RotaryEmbedding):
    """RoPE whose scaling follows the tokens seen so far instead of a length fixed beforehand.

    Keys are cached unrotated, and all of them are rotated again at each step, so the newest token gets from one
    attention layer exactly what a full pass would give it. A stack of layers does not give it that: when the
    frequencies change, a full pass also changes the output of layer 1 for the old tokens, and so their keys and values
    in layer 2, but those are cached. Use `RotaryEmbedding(..., length=...)` if decoding must equal the full pass.
    Local attention never holds all keys, so it raises an error if the scaling depends on the length.
    """

    @property
    def needs_all_keys(self) -> bool:
        return self.depends_on_length

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, v

    def relate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        dtype = torch.float64 if torch.float64 in (q.dtype, k.dtype) else torch.float32
        (q_table, factor), (k_table, _) = (
            self.table(positions, k.shape[-2], dtype=dtype) for positions in (q_positions, k_positions)
        )
        return self._turn_heads(q, k, q_table, k_table, factor)
