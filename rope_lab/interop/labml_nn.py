"""The interface of `labml_nn.transformers.rope` and `.rope.value_pe` (0.5.1); tensors are (N, B, ...), tokens first.

    from rope_lab.interop.labml_nn import RotaryPositionalEmbeddings, RotaryPEMultiHeadAttention

Parameters have the original names, so checkpoints of labml_nn load. It differs on purpose in these points:

- Angles are exact and are formed on the device and in the dtype of the input. In the original, tables are cached as
  plain attributes that follow neither, and a bfloat16 input comes back as float32.
- An odd number of rotated coordinates raises an error that names the argument; in the original it is a shape error
  inside.
- A query that may see no key gets zeros; in the original it gets NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rope_lab.encodings import angles, frequencies, rotate


class RotaryPositionalEmbeddings(nn.Module):
    """Half-layout RoPE of the first `d` coordinates of x (N, B, H, D), tokens at positions 0, 1, …"""

    direction = 1

    def __init__(self, d: int, base: int = 10_000) -> None:
        super().__init__()
        frequencies(d, base, device="cpu")  # refuses an odd d here
        self.d, self.base = d, base

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        positions = torch.arange(x.shape[0], device=x.device)
        table = angles(positions, frequencies(self.d, self.base, device=x.device), dtype=dtype)
        return rotate(x, self.direction * table, "half", axis=0)


class ReverseRotaryPositionalEmbeddings(RotaryPositionalEmbeddings):
    """The same rotation in the opposite direction."""

    direction = -1


class _Heads(nn.Module):
    """A linear layer whose output is split into heads, (N, B, C) -> (N, B, H, D)."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear = nn.Linear(d_model, d_model // heads * heads)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(-1, (self.heads, -1))


class RotaryPEMultiHeadAttention(nn.Module):
    """Multi-head attention with RoPE on a share of each head.

    Args:
        heads: number of heads, a divisor of `d_model`.
        d_model: model width C.
        rope_percentage: share of a head's coordinates that turn; int(D·share) must be even and positive.
        dropout_prob: of the attention weights.

    Raises:
        ValueError: naming the argument that does not fit.
    """

    def __init__(
        self, heads: int, d_model: int, rope_percentage: float = 0.5, dropout_prob: float = 0.0
    ) -> None:
        super().__init__()
        if heads <= 0 or d_model % heads:
            raise ValueError(f"heads must be positive and divide d_model={d_model}, got {heads}")
        _check_share("rope_percentage", rope_percentage)
        self.heads, self.d_k = heads, d_model // heads
        self.query, self.key, self.value = (_Heads(d_model, heads) for _ in range(3))
        self.output = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout_prob)
        self.query_rotary_pe = RotaryPositionalEmbeddings(int(self.d_k * rope_percentage))
        self.key_rotary_pe = RotaryPositionalEmbeddings(int(self.d_k * rope_percentage))
        self.attn: Tensor | None = None

    def forward(self, *, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            query, key, value: (N_q, B, C), (N_k, B, C) and (N_k, B, C).
            mask: (1 or N_q, N_k, 1 or B), zero or False where attention is not allowed.

        Returns:
            (N_q, B, C). The weights (N_q, N_k, B, H) are kept, detached, as `attn`.

        Raises:
            ValueError: if `mask` has another shape.
        """
        n_q, batch, n_k = query.shape[0], query.shape[1], key.shape[0]
        q, k, v = (
            self.query_rotary_pe(self.query(query)),
            self.key_rotary_pe(self.key(key)),
            self.value(value),
        )
        scores = torch.einsum("ibhd,jbhd->ijbh", q, k) * self.d_k**-0.5
        if mask is not None:
            if (
                mask.ndim != 3
                or any(
                    size not in (1, full) for size, full in zip(mask.shape, (n_q, n_k, batch), strict=True)
                )
                or mask.shape[1] != n_k
            ):
                expected = f"(1 or {n_q}, {n_k}, 1 or {batch})"
                raise ValueError(f"mask must have shape {expected}, got {tuple(mask.shape)}")
            hidden = (mask == 0)[..., None]
            blind = hidden.all(1, keepdim=True)
            scores = scores.masked_fill(hidden & ~blind, -torch.inf)
            weights = scores.softmax(1).masked_fill(blind, 0.0)
        else:
            weights = scores.softmax(1)
        self.attn = weights.detach()
        out = self._turn_back(torch.einsum("ijbh,jbhd->ibhd", self.dropout(weights), self._turn(v)))
        return self.output(out.flatten(-2))

    def _turn(self, value: Tensor) -> Tensor:
        return value

    def _turn_back(self, out: Tensor) -> Tensor:
        return out


class RotaryValuePEMultiHeadAttention(RotaryPEMultiHeadAttention):
    """RoPER: values are rotated too, and the output back, so that it reads Σ_n a_mn · R_{n−m} · v_n.

    Args:
        rope_value_percentage: share of a head's value coordinates that turn.

    Raises:
        ValueError: naming the argument that does not fit.
    """

    def __init__(
        self,
        heads: int,
        d_model: int,
        rope_percentage: float = 0.5,
        rope_value_percentage: float = 0.5,
        dropout_prob: float = 0.0,
    ) -> None:
        super().__init__(heads, d_model, rope_percentage, dropout_prob)
        _check_share("rope_value_percentage", rope_value_percentage)
        self.value_rotary_pe = RotaryPositionalEmbeddings(int(self.d_k * rope_value_percentage))
        self.value_reverse_rotary_pe = ReverseRotaryPositionalEmbeddings(
            int(self.d_k * rope_value_percentage)
        )

    def _turn(self, value: Tensor) -> Tensor:
        return self.value_rotary_pe(value)

    def _turn_back(self, out: Tensor) -> Tensor:
        return self.value_reverse_rotary_pe(out)


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} must lie in (0, 1], got {value}")
