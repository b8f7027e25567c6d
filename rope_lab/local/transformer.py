"""LocalTransformer: a RoFormer whose lower layers look only around themselves.

After l local layers a token has been reached by those up to l·(W − 1) before it (look_backward 1), so depth widens
what the model sees; a few global layers on top let it see everything. Training takes time and memory linear in the
length, and decoding a cache bounded by the window, in each local layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.attention import KVCache, MultiHeadAttention
from rope_lab.encodings import LearnedEmbedding, PositionEncoding
from rope_lab.local.attention import LocalCache, check_capacity, local_attention
from rope_lab.local.blocks import Window
from rope_lab.model import RoFormer, RoFormerConfig, choose


@dataclass(frozen=True)
class LocalConfig(RoFormerConfig):
    """Everything that fixes the shape of a LocalTransformer: the fields of `RoFormerConfig`, and these.

    Args:
        window: W, tokens.
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
        if type(self.global_layers) is not int or not 0 <= self.global_layers <= self.depth:
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
            "dropout": self.attention_dropout,
        }  # fmt: skip
        if layer >= self.depth - self.global_layers:
            return MultiHeadAttention(self.dim, self.heads, causal=self.causal, **options)
        return LocalSelfAttention(self.dim, self.heads, window=self.band(), **options)


class LocalSelfAttention(MultiHeadAttention):
    """`MultiHeadAttention` in a window, in time and memory linear in the length.

    Args:
        window: which keys a query sees.
        options: the other arguments of `MultiHeadAttention`; its default window is this one with exact=True.
    """

    def __init__(self, dim: int, heads: int, *, window: Window, **options: Any) -> None:
        super().__init__(dim, heads, window=window.size, causal=window.causal, **options)
        self.band = window

    def _project(
        self, x: Tensor, positions: Tensor | None, segments: Tensor | None, cache: KVCache | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        check_capacity(self.position, cache)
        return super()._project(x, positions, segments, cache)

    def _attend_all(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, segments: Tensor | None, first: int
    ) -> Tensor:
        w = self.band
        return local_attention(
            q, k, v, window=w.size, causal=w.causal, look_backward=w.look_backward, look_forward=w.look_forward,
            exact=w.exact, inclusive=w.inclusive, segments=segments, dropout=self.dropout if self.training else 0.0,
            position=self.position, positions=positions, first=first,
        )  # fmt: skip


class LocalTransformer(RoFormer):
    """Token ids (B, N) in, logits (B, N, V) out; the lower layers see a window, `global_layers` on top everything.

    With causal attention a language model of any length: `LocalTransformer(LocalConfig(vocab_size=65, window=128))`.

    Args:
        config: its shape.
        position: an encoding to use instead of the one `config.position` names.
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
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: list[KVCache] | None = None,
    ) -> Tensor:
        """Logits, or the loss of predicting each token from those before it.

        Args:
            ids: token ids (B, N).
            return_loss: return the mean cross-entropy in nats of tokens 1 to N − 1 instead. Padding is neither
                predicted nor predicted from, nor is a token from one of another segment.
            mask: True for real tokens, False for padding, (B, N).
            positions, segments, cache: as `RoFormer.forward`.

        Returns:
            (B, N, V), or one number.

        Raises:
            ValueError: if a shape or dtype does not fit, `mask` and `segments` are both given, or there is nothing to
                predict.
        """
        if mask is not None:
            if mask.dtype != torch.bool:
                raise ValueError(f"mask must be boolean, True for real tokens, got {mask.dtype}")
            if mask.shape != ids.shape:
                raise ValueError(
                    f"mask must have the shape of ids, {tuple(ids.shape)}, got {tuple(mask.shape)}"
                )
            if segments is not None:
                raise ValueError("mask must be None where segments are given: mark padding with segment -1")
            segments = mask.long() - 1
        if not return_loss:
            return super().forward(ids, positions=positions, segments=segments, cache=cache)
        if not self.config.causal or cache is not None:
            raise ValueError("return_loss needs causal=True and no cache")
        if ids.ndim != 2 or ids.shape[1] < 2:
            raise ValueError(f"ids must have shape (B, N) with N ≥ 2 for a loss, got {tuple(ids.shape)}")
        logits = super().forward(ids, positions=positions, segments=segments)[:, :-1]
        targets = ids[:, 1:].long()
        if segments is not None:
            counted = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] >= 0)
            logits, targets = logits[counted], targets[counted]
            if not len(targets):
                raise ValueError("mask or segments must leave a token to predict, got none")
        return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())

    def new_cache(self, capacity: int) -> list[KVCache]:
        """An empty cache for `capacity` tokens: memory for a window in local layers, for all of them in global ones."""
        local = self.config.depth - self.config.global_layers
        return [
            LocalCache(self.config.band(), capacity) if layer < local else KVCache(capacity)
            for layer in range(self.config.depth)
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
            prime: token ids (B, N), at least one a row.
            length: tokens to draw.
            temperature: the logits are divided by it; 0 takes the likeliest token.
            top_k: draw among the k likeliest tokens only.
            top_p: draw among the likeliest tokens that hold this much probability together (arXiv:1904.09751).
            seed: fixes the draw.
            cached: keep keys and values; the text is the same without, only slower.

        Returns:
            The drawn tokens, (B, length).

        Raises:
            ValueError: naming the first argument that is out of range.
        """
        last = self.config.vocab_size - 1
        room = None
        if isinstance(self.position, LearnedEmbedding):
            room = self.position.table.num_embeddings - prime.shape[-1]
        shape = tuple(prime.shape)
        for fits, message in (
            (self.config.causal, "generate needs causal=True"),
            (prime.ndim == 2 and shape[-1] > 0, f"prime must have shape (B, N), N ≥ 1, got {shape}"),
            (((prime >= 0) & (prime <= last)).all(), f"prime must hold ids from 0 to {last}, got others"),
            (
                room is None or length <= room,
                f"length must be at most {room} for learned positions, got {length}",
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
