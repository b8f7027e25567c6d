"""A correct rotation, written without the package, and for each property one that is broken in this property."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rope_lab.conformance import Subject


def thetas(dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return 10_000.0 ** (-torch.arange(0, dim, 2).to(dtype) / dim)


def product(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half layout, x (…, N, D), tables (…, N, D/2)."""
    first, second = x.to(product(x)).chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def tables(x: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    return angle.cos().to(product(x)), angle.sin().to(product(x))


def plain(x: Tensor, positions: Tensor) -> Tensor:
    angle = positions[..., None].double() * thetas(x.shape[-1])
    return turned(x, *tables(x, angle if angle.ndim == 2 else angle[:, None]))


def by(angle: Callable[[Tensor, Tensor], Tensor]) -> Subject:
    """A rotation by angle(positions, θ)."""

    def turn(x: Tensor, positions: Tensor) -> Tensor:
        found = angle(positions[..., None].double(), thetas(x.shape[-1]))
        return turned(x, *tables(x, found if found.ndim == 2 else found[:, None]))

    return Subject("broken", lambda dim: turn)


def of(turn: Callable[..., Any]) -> Subject:
    return Subject("broken", lambda dim: turn)


def keys_faster(q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    return plain(q, positions), plain(k, positions * 1.01)


def rounded_tables(x: Tensor, positions: Tensor) -> Tensor:
    cos, sin = tables(x, positions[:, None] * thetas(x.shape[-1]))
    return turned(x, cos.bfloat16().float(), sin.bfloat16().float())


def single_angles(x: Tensor, positions: Tensor) -> Tensor:
    return turned(x, *tables(x, positions[:, None].float() * thetas(x.shape[-1]).float()))


def positions_in(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    def turn(x: Tensor) -> Tensor:
        m = torch.arange(x.shape[-2])
        return plain(x, m.to(dtype) if x.dtype == dtype else m)

    return turn


def promotes(x: Tensor, positions: Tensor) -> Tensor:
    return plain(x.float(), positions)


class Buffered(nn.Module):
    """Its frequencies are a buffer, which is cast with the module, and saved if it is persistent."""

    def __init__(self, dim: int, persistent: bool = False) -> None:
        super().__init__()
        self.register_buffer("inv_freq", thetas(dim, torch.float32), persistent=persistent)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        return turned(x, *tables(x, positions[:, None] * self.inv_freq.float()))


class Poisoned(nn.Module):
    """Keeps its table, in the dtype of the tensor that made it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.table = torch.zeros(0, dim // 2)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.table) < x.shape[-2] or x.dtype == torch.bfloat16:
            m = torch.arange(x.shape[-2]).to(x.dtype)
            self.table = m[:, None].float() * thetas(x.shape[-1]).float()
        return turned(x, *tables(x, self.table[: x.shape[-2]]))


def dynamic(m: Tensor, theta: Tensor) -> Tensor:
    return m * theta / (2 if m.max() > 2_000 else 1)


def restarting(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return positions_in(torch.bool)(q), positions_in(torch.bool)(k)


def in_place(x: Tensor, positions: Tensor) -> Tensor:
    return x.copy_(plain(x, positions)) if not x.requires_grad else plain(x, positions)


def with_offset(x: Tensor, offset: int = 0) -> Tensor:
    return plain(x, torch.arange(x.shape[-2]) + (offset + 1 if offset else 0))


def first_row(x: Tensor, positions: Tensor) -> Tensor:
    return plain(x, positions if positions.ndim == 1 else positions[0])


def mixed_rest(part: int, dim: int) -> Callable[..., Tensor]:
    def turn(x: Tensor, positions: Tensor) -> Tensor:
        return torch.cat((plain(x[..., :part], positions), 1.001 * x[..., part:]), dim=-1)

    return turn


def some(part: int, dim: int) -> Callable[..., Tensor]:
    def turn(x: Tensor, positions: Tensor) -> Tensor:
        return torch.cat((plain(x[..., :part], positions), x[..., part:]), dim=-1)

    return turn


def heads_last(x: Tensor, positions: Tensor) -> Tensor:
    return plain(x.transpose(1, 2), positions).transpose(1, 2)


def other_base(x: Tensor, positions: Tensor) -> Tensor:
    angle = positions[:, None, None] * thetas(x.shape[-1]) ** 1.1
    return turned(x, *tables(x, angle))


def all_but_one(x: Tensor, positions: Tensor) -> Tensor:
    even = x.shape[-1] // 2 * 2
    return torch.cat((plain(x[..., :even], positions), x[..., even:]), dim=-1)


def detached(x: Tensor, positions: Tensor) -> Tensor:
    cos, sin = tables(x, positions[:, None] * thetas(x.shape[-1]))
    return turned(x, cos, 0 * sin) + turned(x.detach(), 0 * cos, sin)


def looking(x: Tensor, positions: Tensor) -> Tensor:
    return plain(x, positions) if x.sum().item() < 1e30 else x


class Correct(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        if x.shape[-1] % 2:
            raise ValueError(f"dim must be even, got {x.shape[-1]}")
        return plain(x, positions)


CORRECT = Subject("correct", Correct, partial=some, heads_last=lambda dim: heads_last)
BROKEN: dict[str, Subject] = {
    "distance only": of(keys_faster),
    "norm kept": of(rounded_tables),
    "first token unchanged": by(lambda m, theta: (m + 1) * theta),
    "angles add": by(lambda m, theta: m**1.01 * theta),
    "exact at 1,000,000": of(single_angles),
    "exact at 10,000,000": by(lambda m, theta: m.clamp(max=5_000_000) * theta),
    "real positions": by(lambda m, theta: m.long() * theta),
    "bfloat16": of(positions_in(torch.bfloat16)),
    "float16": of(positions_in(torch.float16)),
    "dtype kept": of(promotes),
    "float64": of(single_angles),
    "cast module": Subject("broken", Buffered),
    "stateless": Subject("broken", Poisoned),
    "length independent": by(dynamic),
    "cached = full": of(restarting),
    "input unchanged": of(in_place),
    "any first position": of(with_offset),
    "positions per row": of(first_row),
    "partial rotation": Subject("broken", Correct, partial=mixed_rest),
    "both shapes": Subject("broken", Correct, heads_last=lambda dim: other_base),
    "odd width refused": of(all_but_one),
    "gradient": of(detached),
    "compiles": of(looking),
    "nothing saved": Subject("broken", lambda dim: Buffered(dim, persistent=True)),
}
