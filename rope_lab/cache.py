"""The key/value cache (KV cache) that lets attention decode token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from rope_lab.checks import can_read, check_integers, is_integer


class KVCache:
    """Keys, values and positions of the tokens a layer has seen, in memory taken at the first call.

    The cache is meant for decoding and is updated in place; backpropagating through two calls that share it therefore
    raises an error in torch.

    Args:
        capacity: the most tokens it can hold, positive.

    Attributes:
        length: number of tokens so far.
    """

    holds_all: ClassVar[bool] = True  # whether layers that see every token can use it

    def __init__(self, capacity: int) -> None:
        (self.capacity,) = check_integers(capacity=capacity)
        self.reset()

    def reset(self) -> None:
        """Forget all tokens and free their memory; the next call may have another batch size."""
        self.length = 0
        self._held: dict[str, Tensor] = {}  # the token axis first, so that one slice serves all four
        self._numbered = False  # whether calls come with segments
        self._padded = False  # whether a call came with a mask

    def append(
        self,
        k: Tensor,
        v: Tensor,
        positions: Tensor,
        segments: Tensor | None = None,
        *,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Add the new tokens and return all that is held.

        Args:
            k, v: keys and values (B, H_k, N, D).
            positions: (N,) or (B, N), the same form at every call.
            segments: document ids (B, N), at every call or at none.
            mask: True for real tokens, False for padding, (B, N). It is remembered; a call without it brings only
                real tokens.

        Returns:
            k, v, positions and segments of all tokens held. Without `segments`, real tokens are of segment 0 and
            padding is of −1; the segments are None if neither they nor a mask were ever given.

        Raises:
            ValueError: if the tokens exceed the capacity, differ from those held in shape or dtype, or come with
                segments where earlier ones had none, or the other way round; the cache is then as it was.
        """
        end, numbered = self.length + k.shape[-2], segments is not None
        if end > self.capacity:
            raise ValueError(
                f"capacity is {self.capacity} tokens, got {end}: make a cache with a larger capacity"
            )
        new = {"k": k.permute(2, 0, 1, 3), "v": v.permute(2, 0, 1, 3), "positions": positions.movedim(-1, 0)}
        if segments is None and (mask is not None or self._padded or not self.holds_all):
            plain = positions.new_zeros(k.shape[0], k.shape[-2], dtype=torch.long)
            segments = plain if mask is None else mask.long() - 1
        if segments is not None:
            new["segments"] = segments.movedim(-1, 0).long()
        for name, tensor in new.items():  # before anything is written
            held = self._held.get(name, tensor)
            wanted = (end - self.length, *held.shape[1:])
            if tensor.shape != wanted or tensor.dtype != held.dtype:
                got = f"{tuple(tensor.shape)} {tensor.dtype}"
                raise ValueError(f"{name}, tokens first, must be {wanted} {held.dtype} as held, got {got}")
        if self.length and numbered != self._numbered:
            given = "None, as in earlier calls with this cache (for padding there is mask)"
            if self._numbered:
                given = "given in every call with this cache, because earlier tokens came with segments"
            raise ValueError(f"segments must be {given}, got {'a tensor' if numbered else 'None'}")
        full = self._hold(new, end, padded=numbered or mask is not None)
        self.length, self._numbered = end, numbered
        self._padded = self._padded or mask is not None
        k, v = (full[name].permute(1, 2, 0, 3) for name in ("k", "v"))
        segments = full["segments"].movedim(0, -1) if self._numbered or self._padded else None
        return k, v, full["positions"].movedim(0, -1), segments

    def _hold(self, new: dict[str, Tensor], end: int, *, padded: bool) -> dict[str, Tensor]:
        """Keep what later queries may see, and return what these may; there may be padding among the new tokens."""
        for name, tensor in new.items():
            if name not in self._held:  # segments may come late: the tokens before are of segment 0
                self._held[name] = tensor.new_zeros(self.capacity, *tensor.shape[1:])
            self._held[name][self.length : end] = tensor
        return {name: held[:end] for name, held in self._held.items()}

    def select(self, rows: Tensor | Sequence[int]) -> None:
        """Go on with these rows of the batch, in this order, some perhaps twice: what a beam search keeps.

        Args:
            rows: row numbers (B',), each from 0 to B − 1.

        Raises:
            ValueError: if they are not integers in that range. Another device than the CPU leaves the range to torch.
        """
        if not self._held:
            return
        batch, device = self._held["k"].shape[1], self._held["k"].device
        index = torch.as_tensor(rows, device=device)
        if index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
            raise ValueError(f"rows must be integers (B,), got {index.dtype} {tuple(index.shape)}")
        if can_read(index) and index.numel() and not bool(((index >= 0) & (index < batch)).all()):
            raise ValueError(f"rows must lie in 0..{batch - 1}, got {index.tolist()}")
        for name, held in self._held.items():
            if held.ndim > 1:  # positions may be shared by all rows
                self._held[name] = held.index_select(1, index)

    def crop(self, length: int) -> None:
        """Go back to the first `length` tokens, as after a draft that was rejected.

        Raises:
            ValueError: if there are fewer tokens, or some that the next query sees are gone.
        """
        if not is_integer(length) or not 0 <= length <= self.length:
            raise ValueError(f"length must be an integer in 0..{self.length}, got {length!r}")
        if length := int(length):
            self._drop(self.length - length)
            self.length = length
        else:
            self.reset()

    def _drop(self, count: int) -> None:
        """Let go of the newest tokens, before the length says so."""


def check_caches(cache: Any, depth: int) -> None:
    """Raise a ValueError if a cache for several layers is not a list of caches, one per layer, that agree."""
    if not isinstance(cache, list | tuple) or not all(isinstance(layer, KVCache) for layer in cache):
        raise ValueError(f"cache must be a list of caches, as new_cache makes it, got {type(cache).__name__}")
    if len(cache) != depth:
        raise ValueError(f"cache must hold one cache per block, {depth}, got {len(cache)}")
    if torch.compiler.is_compiling():
        return  # the rest would make a graph for every length
    if len({id(layer) for layer in cache}) != depth:
        raise ValueError("cache must hold a cache of its own for every block, got one of them twice")
    lengths = sorted({layer.length for layer in cache})
    if len(lengths) > 1:
        raise ValueError(f"cache must hold as many tokens in every block, got {lengths}")
