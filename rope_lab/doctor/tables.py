"""Rotations that take cosine and sine instead of positions: wrappers that make them functions of the positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rope_lab.doctor.box import parameters
from rope_lab.encodings import angles, frequencies

Table = Callable[[Tensor, Tensor], Any]
FORMS = ("halves", "each twice", "once")


def with_tables(apply: Callable[..., Any], table: Table) -> Callable[..., Any]:
    """A function of (q, k, positions), from one of (q, k, cos, sin) and the one that makes the tables.

        diagnose(with_tables(apply_rotary_pos_emb, LlamaRotaryEmbedding(config)), 64)

    Args:
        apply: takes q and k, or one tensor, and then the tables: `cos` and `sin`, by name if it has such names.
        table: maps (x, positions) to (cos, sin) or one complex tensor; positions have shape (B, N), and x is there for
            its dtype and device. A rotary module of transformers is such a function.
    """
    names = parameters(apply)
    named = {"cos", "sin"} <= set(names)
    single = named and min(names.index("cos"), names.index("sin")) == 1

    def turned(*heads: Tensor, positions: Tensor) -> Any:
        found = table(heads[0], positions if positions.ndim == 2 else positions[None])
        made: Sequence[Tensor] = (found,) if isinstance(found, Tensor) else found
        return apply(*heads, cos=made[0], sin=made[1]) if named else apply(*heads, *made)

    def one(x: Tensor, positions: Tensor) -> Any:
        return turned(x, positions=positions)

    def both(q: Tensor, k: Tensor, positions: Tensor) -> Any:
        return turned(q, k, positions=positions)

    return one if single else both


def own_table(dim: int, form: str, base: float = 10_000.0) -> Table:
    """The doctor's own tables, exact, in one of `FORMS`, for functions that come without."""

    def table(x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        angle = angles(positions, frequencies(dim, base), dtype=torch.float64)[:, 0]
        if form == "halves":
            angle = torch.cat((angle, angle), dim=-1)
        elif form == "each twice":
            angle = angle.repeat_interleave(2, dim=-1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)

    return table


def wants_tables(turn: Callable[..., Any]) -> bool:
    """Whether a function takes cosine and sine in place of positions."""
    return {"cos", "sin"} <= set(parameters(turn))
