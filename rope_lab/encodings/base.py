"""The places where a position can enter a transformer, as one class of empty hooks.

Every position encoding of this package is a small subclass that fills one or two of the hooks. The class itself fills
none, which is an encoding too: no positions at all (NoPE), where only the causal mask reveals the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Positions: TypeAlias = "Tensor | Sequence[Any] | np.ndarray[Any, Any]"

Made = TypeVar("Made")

_formed: ContextVar[dict[Any, Any] | None] = ContextVar("formed", default=None)

# Device types on which angles cannot be computed exactly; the CPU does it for them.
_WITHOUT_FLOAT64 = {"mps"}


class PositionEncoding(nn.Module):
    """Base of all encodings: hooks, each of which leaves its input as it is.

    Shapes: B batch, H heads, N tokens, D head dimension, C model width. `positions` is (N,) or (B, N).

    Attributes:
        query_block: the most queries that `relate` takes at once; None for any number. Needs causal attention.
        distances_only: `relate` looks only at differences of positions, so packed texts, which see nothing of one
            another, may each be counted from an origin of their own.
        reach: coordinates that a head must have at least.
        max_positions: how many positions there are, or None for any number.
    """

    query_block: int | None = None
    distances_only: bool = False

    @property
    def reach(self) -> int:
        return 0

    @property
    def max_positions(self) -> int | None:
        return None

    @property
    def depends_on_length(self) -> bool:
        """Whether `rotate` or `relate` gives something else when the whole sequence will be longer."""
        return False

    @property
    def needs_all_keys(self) -> bool:
        """Whether `relate` has to be given the keys of all tokens so far, so that no window will do."""
        return False

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token embeddings (B, N, C) -> the same shape. Filled by learned and sinusoidal encodings."""
        return x

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, N, D) -> the same shapes, before they are cached. Filled by RoPE.

        `length` is the number of tokens the sequence may have in all: the capacity of the cache, or else the number
        of tokens in this call. Only scalings that depend on it look at it.
        """
        return q, k, v

    def relate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        """What is done to queries and to all keys, including the cached ones, at every step. Filled by xPos."""
        return q, k

    def unrotate(self, out: Tensor, positions: Tensor) -> Tensor:
        """Attention output (B, H, N, D) -> the same shape. Filled where values were rotated."""
        return out

    def bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor | None:
        """Term added to the scaled scores, (1 or B, H, N_q, N_k), or None. Filled by T5, ALiBi and others."""
        return None

    def in_attention(self) -> PositionEncoding:
        """The encoding to give to attention layers: this one, or NoPE if all it does is `embed`."""
        hooks = ("rotate", "relate", "unrotate", "bias")
        empty = all(getattr(type(self), hook) is getattr(PositionEncoding, hook) for hook in hooks)
        embeds = type(self).embed is not PositionEncoding.embed
        return NoPE() if empty and embeds else self


class NoPE(PositionEncoding):
    """No position encoding: every hook stays empty (Kazemnejad et al. 2023, arXiv:2305.19466)."""


@contextmanager
def one_pass() -> Iterator[None]:
    """A pass of a model through its layers: what they form `once` is shared, and forgotten at the end."""
    before = _formed.set({})
    try:
        yield
    finally:
        _formed.reset(before)


def once(make: Callable[..., Made], *inputs: Any, **settings: Any) -> Made:
    """`make(*inputs, **settings)`, computed once in a pass for the same inputs: identical tensors, equal numbers.

    Nothing that a gradient flows through is shared: whoever computes one layer again must find its operations.
    """
    formed = None if torch.compiler.is_compiling() else _formed.get()
    if formed is None:
        return make(*inputs, **settings)
    key = make, *(id(x) if isinstance(x, Tensor) else x for x in inputs), *settings.values()
    if key in formed:
        known: Made = formed[key][0]
        return known
    made = make(*inputs, **settings)
    if not any(
        isinstance(x, Tensor) and x.requires_grad for x in (made if isinstance(made, tuple) else (made,))
    ):
        formed[key] = made, inputs  # the inputs too: while they live, no other tensor has their id
    return made


def as_encoding(position: object) -> PositionEncoding:
    """The encoding itself, or NoPE for None.

    Raises:
        ValueError: if it is something else.
    """
    if isinstance(position, PositionEncoding):
        return position
    if position is not None:
        got = f"the class {position.__name__}" if isinstance(position, type) else repr(position)
        raise ValueError(f"position must be an encoding, such as RotaryEmbedding(head_dim), got {got}")
    return NoPE()


def attention_encoding(position: PositionEncoding | None) -> PositionEncoding:
    """As `as_encoding`, for a layer that never calls `embed`.

    Raises:
        ValueError: if it is not an encoding, or one that only `embed` applies.
    """
    encoding = as_encoding(position)
    if encoding.in_attention() is not encoding:
        name = type(encoding).__name__
        raise ValueError(
            "position must act on queries, keys, values or scores, but a layer of attention never adds it to the "
            f"embeddings: call its embed(x, positions) first and give its in_attention() here, got {name}"
        )
    return encoding


def as_positions(
    positions: Positions, device: torch.device | str | None = None, *, name: str = "positions"
) -> Tensor:
    """Positions as a tensor of integers or real numbers: a tensor, an array, a range or a list of numbers.

    Raises:
        ValueError: if they are none of these; `name` is what the message calls them.
    """
    if not isinstance(positions, Tensor):
        try:
            positions = torch.from_numpy(np.array(positions))  # 64 bits, unlike torch.tensor
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be a tensor or a list of numbers, got {positions!r}") from error
        if device is not None and torch.device(device).type in _WITHOUT_FLOAT64:
            positions = positions.float() if positions.is_floating_point() else positions
    if positions.dtype == torch.bool or positions.is_complex():
        raise ValueError(f"{name} must be integers or real numbers, got {positions.dtype}")
    return positions if device is None else positions.to(device)


def token_positions(
    positions: Positions | None, batch: int, count: int, *, first: int = 0, device: torch.device | str | None
) -> Tensor:
    """The positions of `count` tokens on `device`, (N,) or (B, N); by default first, first + 1, …

    Raises:
        ValueError: if they have another shape or dtype.
    """
    if positions is None:
        return torch.arange(first, first + count, device=device)
    positions = as_positions(positions, device)
    if positions.shape not in ((count,), (batch, count)):
        expected = f"({count},) or ({batch}, {count})"
        raise ValueError(f"positions must have shape {expected}, got {tuple(positions.shape)}")
    return positions


def table_device(device: torch.device | str | None) -> torch.device:
    """Where float64 tables for `device` are computed: there, or on the CPU if it has no float64."""
    chosen = torch.get_default_device() if device is None else torch.device(device)
    return torch.device("cpu") if chosen.type in _WITHOUT_FLOAT64 else chosen
