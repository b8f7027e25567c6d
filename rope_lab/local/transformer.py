"""LocalTransformer: a RoFormer whose lower layers see only a window.

After l local layers a token has been reached by those up to l·(W − 1) before it (look_backward 1), so depth widens
what the model sees; a few global layers on top let it see everything. In each local layer, training takes time and
memory linear in the length, and decoding takes a cache bounded by the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.attention import MultiHeadAttention
from rope_lab.cache import KVCache
from rope_lab.checks import can_read, is_integer
from rope_lab.config import RoFormerConfig
from rope_lab.encodings import PositionEncoding, Positions
from rope_lab.local.attention import check_position, local_attention
from rope_lab.local.blocks import Window
from rope_lab.local.cache import LocalCache, check_capacity
from rope_lab.model import Block, RoFormer, choose


@dataclass(frozen=True)
class LocalConfig(RoFormerConfig):
    """Everything that fixes the shape of a LocalTransformer: the fields of `RoFormerConfig`, and these.

    Args:
        window: W, tokens. Here, unlike in a RoFormer, it costs time and memory linear in the length.
        global_layers: how many of the `depth` blocks, the last ones, see everything.
        look_backward, look_forward, exact: as `local_attention`, where a table says which keys a
            query sees.

    Raises:
        ValueError: naming the first field that is out of range.
    """

    window: int | None = 256
    global_layers: int = 0
    look_backward: int = 1
    look_forward: int | None = None
    exact: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.band()
        if not is_integer(self.global_layers) or not 0 <= self.global_layers <= self.depth:
            raise ValueError(
                f"global_layers must lie between 0 and depth={self.depth}, got {self.global_layers!r}"
            )

    def band(self) -> Window:
        """The window of the local layers."""
        if self.window is None:
            raise ValueError("window must be a positive integer, got None")
        return Window(self.window, self.causal, self.look_backward, self.look_forward, self.exact)

    def build_attention(self, layer: int, position: PositionEncoding) -> MultiHeadAttention:
        options: dict[str, Any] = {
            "kv_heads": self.kv_heads, "position": position, "qk_norm": self.qk_norm, "bias": self.bias,
            "qk_gain": self.qk_norm and self.qk_gain, "dropout": self.attention_dropout,
        }  # fmt: skip
        if layer >= self.depth - self.global_layers:
            return MultiHeadAttention(self.dim, self.heads, causal=self.causal, **options)
        return LocalSelfAttention(self.dim, self.heads, window=self.band(), **options)


class LocalSelfAttention(MultiHeadAttention):
    """`MultiHeadAttention` in a window, in time and memory linear in the length.

    Padding takes no room in an exact window, wherever it is. Block windows are counted from the first token, including
    padding.

    Args:
        window: which keys a query sees.
        options: the other arguments of `MultiHeadAttention`; its own window is this one with exact=True.
    """

    def __init__(self, dim: int, heads: int, *, window: Window, **options: Any) -> None:
        super().__init__(dim, heads, window=window.size, causal=window.causal, **options)
        check_position(self.position, window)
        self.band = window

    def new_cache(self, capacity: int | None = None, *, spare: int = 0) -> LocalCache:
        """An empty cache for this window; `capacity` and `spare` as `LocalCache`."""
        cache = LocalCache(self.band, capacity, spare=spare)
        check_capacity(self.position, cache)
        return cache

    def check_cache(self, cache: KVCache) -> None:
        if not isinstance(cache, LocalCache):
            raise ValueError(f"cache must be a LocalCache, as new_cache makes it, got {type(cache).__name__}")
        if cache.window != self.band or cache.count_padding == self.band.exact:
            raise ValueError(f"cache must be made by new_cache, for {self.band}, got one for {cache.window}")
        check_capacity(self.position, cache)

    def _project(
        self,
        x: Tensor,
        positions: Positions | None,
        segments: Tensor | None,
        mask: Tensor | None,
        cache: KVCache | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        q, k, v, where, mask = super()._project(x, positions, segments, mask, cache)
        # the cache orders the tokens of each row, so each row has positions of its own
        return q, k, v, where if cache is None else where.expand(x.shape[0], -1), mask

    def _attend_all(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, segments: Tensor | None, first: int
    ) -> Tensor:
        w, new = self.band, None
        if segments is not None and w.exact and q.shape[-2] > 1:
            real = segments[:, -q.shape[-2] :] >= 0
            if not (can_read(real) and bool(real.all())):
                # the new tokens without the padding between them, next to those held, which have theirs in front
                new = (~real).long().argsort(dim=-1, stable=True)
                past = torch.arange(k.shape[-2] - new.shape[-1], device=k.device).expand(len(new), -1)
                order = torch.cat((past, new + past.shape[-1]), dim=-1)
                q, k, v = _take(q, new), _take(k, order), _take(v, order)
                positions = positions.expand(len(new), -1).gather(-1, order)
                segments = segments.gather(-1, order)
        out = local_attention(
            q, k, v, window=w.size, causal=w.causal, look_backward=w.look_backward, look_forward=w.look_forward,
            exact=w.exact, inclusive=w.inclusive, segments=segments, dropout=self.dropout if self.training else 0.0,
            position=self.position, positions=positions, first=first,
        )  # fmt: skip
        return out if new is None else _take(out, new.argsort(-1))


def _take(x: Tensor, order: Tensor) -> Tensor:
    """Tokens of (B, H, N, D) in the order (B, N) of each row."""
    return x.gather(-2, order[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[-1]))


class LocalTransformer(RoFormer):
    """Token ids (B, N) in, logits (B, N, V) out; the lower layers see a window, the `global_layers` on top everything.

    With causal attention it is a language model for any length:
    `LocalTransformer(LocalConfig(vocab_size=65, window=128))`.

    Args:
        config: its shape.
        position: an encoding to use instead of the one that `config.position` names.
    """

    config: LocalConfig
    config_class: ClassVar[type[RoFormerConfig]] = LocalConfig

    def __init__(self, config: LocalConfig, position: PositionEncoding | None = None) -> None:
        super().__init__(config, position)

    def forward(
        self,
        ids: Tensor,
        *,
        return_loss: bool = False,
        positions: Positions | None = None,
        segments: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """Logits, or the loss of predicting each token from those before it.

        Args:
            ids: token ids (B, N).
            return_loss: return the mean cross-entropy in nats of tokens 1 to N − 1 instead. Padding is neither
                predicted nor predicted from, and no token is predicted from one of another segment.
            positions, segments, mask, cache: as `RoFormer.forward`.

        Returns:
            (B, N, V), or one number.

        Raises:
            ValueError: as `RoFormer.forward`, or if there is nothing to predict.
        """
        if not return_loss:
            return super().forward(ids, positions=positions, segments=segments, mask=mask, cache=cache)
        if not self.config.causal or cache is not None:
            raise ValueError("return_loss needs causal=True and no cache")
        if ids.ndim != 2 or ids.shape[1] < 2:
            raise ValueError(f"ids must have shape (B, N) with N ≥ 2 for a loss, got {tuple(ids.shape)}")
        logits = super().forward(ids, positions=positions, segments=segments, mask=mask)[:, :-1]
        targets = ids[:, 1:].long()
        if mask is not None:
            segments = (mask.long() - 1).expand_as(ids)
        if segments is not None:
            counted = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] >= 0)
            logits, targets = logits[counted], targets[counted]
            if not len(targets):
                raise ValueError("mask or segments must leave a token to predict, got none")
        return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())

    def new_cache(self, capacity: int, *, spare: int = 0) -> list[KVCache]:
        """An empty cache for `capacity` tokens: memory for a window in local layers, for all tokens in global ones.

        Args:
            capacity: tokens that the sequence may have in all.
            spare: further tokens to hold in local layers, so that `crop` can go back by as many.
        """
        layers = [cast(Block, block).attention for block in self.blocks]
        return [
            layer.new_cache(capacity, spare=spare)
            if isinstance(layer, LocalSelfAttention)
            else layer.new_cache(capacity)
            for layer in layers
        ]

    @torch.no_grad()
    def generate(
        self,
        prime: Tensor,
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        cached: bool = True,
    ) -> Tensor:
        """Draw `length` tokens after each row of `prime`, looking back as far as the layers see.

        Args:
            prime: token ids (B, N), at least one per row.
            length: number of tokens to draw.
            temperature: the logits are divided by it; 0 takes the most likely token.
            top_k: draw only among the k most likely tokens.
            top_p: draw among the most likely tokens that together have this much probability (arXiv:1904.09751).
            seed: fixes the draw.
            cached: keep keys and values. Without them the tokens drawn are the same, but it takes longer.

        Returns:
            The drawn tokens, (B, length).

        Raises:
            ValueError: naming the first argument that is out of range.
        """
        last = self.config.vocab_size - 1
        rows, shape = self.position.max_positions, tuple(prime.shape)
        room = None if rows is None else rows - prime.shape[-1]
        for fits, message in (
            (self.config.causal, "generate needs causal=True"),
            (prime.ndim == 2 and shape[-1] > 0, f"prime must have shape (B, N), N ≥ 1, got {shape}"),
            (((prime >= 0) & (prime <= last)).all(), f"prime must hold ids from 0 to {last}, got others"),
            (
                room is None or length <= room,
                f"length must be at most {room}, as there are {rows} positions, got {length}",
            ),
            (seed >= 0, f"seed must not be negative, got {seed}"),
            (length >= 0, f"length must not be negative, got {length}"),
            (0 <= temperature < math.inf, f"temperature must be finite and not negative, got {temperature}"),
            (top_k is None or top_k >= 1, f"top_k must be at least 1, got {top_k}"),
            (top_p is None or 0 < top_p <= 1, f"top_p must lie in (0, 1], got {top_p}"),
        ):
            if not fits:
                raise ValueError(message)
        generator = torch.Generator().manual_seed(seed)
        training = self.training
        self.eval()
        try:
            ids = prime
            cache = self.new_cache(prime.shape[1] + length) if cached else None
            for _ in range(length):
                fresh = ids if cache is None else ids[:, cache[0].length :]
                logits = self(fresh, cache=cache)[:, -1].float().cpu()
                drawn = [choose(row, temperature, top_k, top_p, generator) for row in logits]
                ids = torch.cat((ids, torch.tensor(drawn).to(ids)[:, None]), dim=1)
        finally:
            self.train(training)
        return ids[:, prime.shape[1] :]
