"""Queries that grow with their position, so that attention stays as sharp among many keys as among few.

A softmax over n keys whose scores stay in a fixed range spreads out as n grows. The remedy multiplies the scores of the
query at position m, which sees m + 1 keys, by a factor that depends on m alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rope_lab.checks import check_integers, check_positive
from rope_lab.encodings.base import PositionEncoding, as_encoding, table_device

Temperature = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LogN:
    """Factor ln(m + 1)/ln(length), at least 1 (so at negative positions): scores grow as the logarithm of the keys.

    Args:
        length: tokens of the training context, up to which nothing changes; at least 2.

    Raises:
        ValueError: if `length` is not an integer of at least 2.

    Source: Su 2021 (kexue.fm/archives/8823); `use_logn_attn` of Qwen (arXiv:2309.16609, section 2.3).
    """

    length: int

    def __post_init__(self) -> None:
        check_integers(2, length=self.length)

    def __call__(self, positions: Tensor) -> Tensor:
        return (torch.log1p(_exact(positions).clamp(min=0)) / math.log(self.length)).clamp(min=1.0)


@dataclass(frozen=True)
class StepTemperature:
    """Factor 1 + scale · ln(1 + ⌊(m + 1)/floor⌋): 1 up to position `floor` − 2, negative ones too, then in steps.

    Args:
        floor: tokens of a step.
        scale: of the logarithm.

    Raises:
        ValueError: if `floor` is not a positive integer or `scale` not positive and finite.

    Source: Llama 4 (Meta 2025), `floor_scale` and `attn_scale` of its layers without positions.
    """

    floor: int = 8192
    scale: float = 0.1

    def __post_init__(self) -> None:
        check_integers(floor=self.floor)
        check_positive(scale=self.scale)

    def __call__(self, positions: Tensor) -> Tensor:
        steps = torch.floor((_exact(positions) + 1) / self.floor).clamp(min=0)
        return 1 + self.scale * torch.log1p(steps)


def _exact(positions: Tensor) -> Tensor:
    return positions.to(table_device(positions.device)).double()


class QueryTemperature(PositionEncoding):
    """Another encoding whose queries are multiplied by a factor of their position; keys and values stay the same.

    Only queries change, so nothing that is cached does, and decoding equals the full pass. Scores are no longer a
    function of the distance alone.

    Args:
        position: the encoding inside; by default none (NoPE).
        temperature: positions (N,) or (B, N) → factors of the same shape, such as `LogN(4096)`.

    Raises:
        ValueError: if `position` is not an encoding or `temperature` not a function.
    """

    def __init__(self, position: PositionEncoding | None = None, *, temperature: Temperature) -> None:
        super().__init__()
        if not callable(temperature):
            raise ValueError(
                f"temperature must be a function of positions, such as LogN(4096), got {temperature!r}"
            )
        self.inner, self.temperature = as_encoding(position), temperature
        self.query_block = self.inner.query_block
        self.distances_only = self.inner.distances_only

    @property
    def reach(self) -> int:
        return self.inner.reach

    @property
    def max_positions(self) -> int | None:
        return self.inner.max_positions

    @property
    def depends_on_length(self) -> bool:
        return self.inner.depends_on_length

    @property
    def needs_all_keys(self) -> bool:
        return self.inner.needs_all_keys

    def in_attention(self) -> PositionEncoding:
        inner = self.inner.in_attention()
        return self if inner is self.inner else QueryTemperature(inner, temperature=self.temperature)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return self.inner.embed(x, positions)

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.inner.rotate(q, k, v, positions, length)
        factor = self.temperature(positions).to(q.device, q.dtype)[..., None]  # (N, 1) or (B, N, 1)
        return q * (factor if factor.ndim == 2 else factor[:, None]), k, v

    def relate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner.relate(q, k, q_positions, k_positions)

    def unrotate(self, out: Tensor, positions: Tensor) -> Tensor:
        return self.inner.unrotate(out, positions)

    def bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor | None:
        return self.inner.bias(q, k, q_positions, k_positions)
