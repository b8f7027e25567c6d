"""xPos: RoPE whose pairs also decay with the distance, the fast ones first (we say: they fade).

    score(m, n) = Re Σ_i q_i · k_i* · e^{i(m−n)θ_i} · ζ_i^((m−n)/B),   ζ_i = (2i/D + 0.4)/1.4

The factor ζ^((m−n)/B) is at most 1 for a key in the past, but its two halves, ζ^(m/B) on the query and ζ^(−n/B) on the
key, vanish and overflow far from zero. Here they are counted from a centre c that a block of queries shares, its first
position: ζ^((m−c)/B) and ζ^((c−n)/B). Keys are cached rotated but unscaled, so that every step has its own centre.

Source: Sun et al. 2022, A Length-Extrapolatable Transformer (arXiv:2212.10554), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rope_lab.checks import can_read, check_integers
from rope_lab.encodings.base import Positions, table_device, token_positions
from rope_lab.encodings.rotary import Offset, RotaryEmbedding


class XPos(RotaryEmbedding):
    """RoPE with exponential decay, for causal attention.

    Attention takes its queries `scale_base` at a time, so `torch.compile` makes a graph for each number of blocks.

    A key too far ahead of the query would grow beyond the range of the dtype. On the CPU that raises a ValueError;
    elsewhere, where looking at the positions would make the device wait, the result is inf or NaN.

    Args:
        dim: number of rotated coordinates, positive and even.
        scale_base: B, the distance at which pair i fades by ζ_i, in tokens; a positive integer. A larger one fades
            less.
        rotary: arguments of `RotaryEmbedding`; all heads turn, from the first coordinate on.

    Source: Sun et al. 2022 (arXiv:2212.10554), section 3.
    """

    distances_only = True

    def __init__(self, dim: int, *, scale_base: int = 512, **rotary: Any) -> None:
        (scale_base,) = check_integers(scale_base=scale_base)
        if rotary.keys() & {"heads", "start"}:
            raise ValueError(
                "xPos turns and fades all heads from the first coordinate: leave out heads and start"
            )
        super().__init__(dim, **rotary)
        self.scale_base = self.query_block = scale_base

    __call__: Callable[..., tuple[Tensor, Tensor]]

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        *,
        positions: Positions | None = None,
        offset: Offset = 0,
        length: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Rotate and scale q and k (B, H, N, D) about their first query; arguments as `RotaryEmbedding.forward`.

        Meant for sequences of a few `scale_base`; attention layers call `rotate` and `relate` block by block instead.

        Raises:
            ValueError: if a scale leaves the range of the dtype, at scale_base · ln(max)/ln 3.5 tokens.
        """
        q_rotated, k_rotated = super().forward(q, k, positions=positions, offset=offset, length=length)
        # an offset moves queries and keys alike, so it changes no distance
        positions = token_positions(positions, k.shape[0], k.shape[-2], device=k.device)
        scaled = self.relate(q_rotated, k_rotated, positions[..., k.shape[-2] - q.shape[-2] :], positions)
        if can_read(k) and k.isfinite().all() and not scaled[1].isfinite().all():
            raise ValueError(f"k must be scaled over fewer tokens: a product leaves the range of {k.dtype}")
        return scaled

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k = super().forward(q, k, positions=positions, length=length)
        return q, k, v

    def relate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        if not q_positions.shape[-1]:
            return q, k  # no query, no centre
        q_positions, k_positions = (
            p.to(table_device(p.device)).double()
            for p in (q_positions, k_positions)  # a uint8 would wrap
        )
        centre = q_positions[..., :1]
        return self._scale(q, q_positions - centre), self._scale(k, centre - k_positions)

    def _scale(self, x: Tensor, distance: Tensor) -> Tensor:
        """x_i · ζ_i^(distance/B) for distances (N,) or (B, N); raises an error if that would leave the dtype."""
        reach = self.scale_base * math.log(torch.finfo(x.dtype).max) / math.log(3.5)
        if can_read(distance) and distance.numel() and -distance.amin() > reach:
            limit = f"{int(reach)} tokens at scale_base={self.scale_base} in {x.dtype}"
            raise ValueError(
                f"positions must lie within {limit} of the first query, got {-distance.amin():g}"
            )
        distance = distance.to(table_device(distance.device)).double()
        pairs = torch.arange(0, self.dim, 2, dtype=torch.float64, device=distance.device)
        log_zeta = ((pairs / self.dim + 0.4) / 1.4).log()
        scale = (distance[..., None] / self.scale_base * log_zeta).exp()
        scale = scale.to(torch.float64 if x.dtype == torch.float64 else torch.float32).to(x.device)
        scale = (
            scale.repeat_interleave(2, dim=-1)
            if self.layout == "interleaved"
            else scale.repeat(*[1] * distance.ndim, 2)
        )
        scale = scale if distance.ndim == 1 else scale[:, None]
        scaled = (x[..., : self.dim] * scale).to(x.dtype)
        return scaled if self.dim == x.shape[-1] else x.slice_scatter(scaled, dim=-1, end=self.dim)
