"""A key/value cache whose memory is bounded by the window."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from rope_lab.cache import KVCache
from rope_lab.checks import check_integers
from rope_lab.encodings import PositionEncoding
from rope_lab.local.blocks import Window


class LocalCache(KVCache):
    """Keys, values and positions of earlier tokens, but only of those that a later query can still see.

    At most W·b − 1 tokens are held (exact), W·b (inclusive) or W·(b + 1) − 1 (block), however many have passed.

    Args:
        window: which keys a query sees, causal.
        capacity: tokens that the sequence may have in all, by default unlimited; it takes no memory, but scalings that
            depend on the length need it.
        spare: further tokens to hold, so that `crop` can go back by as many.
        count_padding: whether padding takes room in the window, as it always does in block windows.

    Attributes:
        length: number of tokens that have passed.
    """

    holds_all = False

    def __init__(
        self, window: Window, capacity: int | None = None, *, spare: int = 0, count_padding: bool = False
    ) -> None:
        if not window.causal:
            raise ValueError("causal must be True for a cache: cached tokens cannot look ahead, got False")
        (self.spare,) = check_integers(0, spare=spare)
        super().__init__(sys.maxsize if capacity is None else capacity)
        self.window = window
        self.count_padding = count_padding or not window.exact

    def _hold(self, new: dict[str, Tensor], end: int, *, padded: bool) -> dict[str, Tensor]:
        if not self.count_padding:
            index = torch.arange(self.length, end, device=new["k"].device)[:, None]
            new["index"] = index.expand_as(new["segments"])
        full = {name: torch.cat((self._held[name], x)) if self._held else x for name, x in new.items()}
        count = len(full["k"])
        kept = min(end - self.window.first_seen(end) + self.spare, count)
        held = _padding_first(full) if padded and not self.count_padding else full
        # cloned, so that the memory of the others is freed
        self._held = {name: x.narrow(0, count - kept, kept).clone() for name, x in held.items()}
        return full

    def _drop(self, count: int) -> None:
        length, held = self.length - count, len(self._held["k"])
        if held < self.length and self.window.first_seen(length) < self.length - held:
            allowed = f"a later one, since only {self.spare} spare tokens are held"
            raise ValueError(f"length must be {allowed}, got {length} of {self.length}")
        if self.count_padding:
            self._held = {name: x[: held - count] for name, x in self._held.items()}
            return
        gone = self._held["index"] >= length
        self._held["segments"] = self._held["segments"].masked_fill(gone, -1)
        self._held = {name: x[count:] for name, x in _padding_first(self._held).items()}


def _padding_first(tokens: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each row's tokens in order, its padding before them; the token axis is the first."""
    order = (tokens["segments"] >= 0).long().argsort(dim=0, stable=True)  # (N, B)

    def ordered(x: Tensor) -> Tensor:
        index = order.view(*order.shape, *[1] * (x.ndim - 2)).expand(*order.shape, *x.shape[2:])
        return x.gather(0, index)

    return {name: ordered(x) for name, x in tokens.items()}


def check_capacity(position: PositionEncoding, cache: KVCache | None) -> None:
    """Raise a ValueError if frequencies depend on the length and neither the encoding nor the cache fixes it."""
    if cache is not None and cache.capacity == sys.maxsize and position.depends_on_length:
        name = type(getattr(position, "scaling", position)).__name__
        why = f"for {name}, which depends on the length (or the encoding a length)"
        raise ValueError(f"capacity must be given {why}, got None")
