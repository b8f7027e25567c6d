"""Multi-head latent attention: the cache holds one short vector per token, and a small rotated key beside it.

All keys and values of a token are linear functions of one latent vector. So a query can take over the matrix that makes
the keys, and no key is ever formed (`absorb`). A rotation between the two matrices would forbid that; therefore only a
few coordinates rotate, and these are not made from the latent vector (decoupled RoPE).

Source: DeepSeek-V2 (arXiv:2405.04434), section 2.1 and appendix C; DeepSeek-V3 (arXiv:2412.19437), section 2.1.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rope_lab.attention import attend, attention_mask, check_rows
from rope_lab.cache import KVCache
from rope_lab.checks import check_integers, check_positive
from rope_lab.encodings import PositionEncoding, Positions, attention_encoding, token_positions


class LatentAttention(nn.Module):
    """Causal self-attention whose keys and values are read from one latent vector per token.

    Per token and head, a query and a key have D + R coordinates: D of content, and R that the encoding rotates. The R
    key coordinates are shared by all heads and are projected from the token itself, not from its latent vector.

    Args:
        dim: model width C.
        heads: number of heads H.
        latent_dim: length L of the latent vector, which is normalised before it is cached.
        head_dim: coordinates D of content per head; by default C/H.
        value_dim: coordinates of a value per head; by default D.
        query_dim: length of a latent vector for the queries, which saves parameters; by default none.
        position: the encoding of the shared coordinates, one that fills the hook `rotate` for queries and keys and no
            other, such as `RotaryEmbedding(R)`; by default none (NoPE).
        shared_dim: number R of shared coordinates; by default those that `position` turns.
        scale: factor of the scores; by default 1/√(D + R). Models with YaRN multiply it by a factor.
        eps: added under the root of the norms.

    Raises:
        ValueError: if a size is not a positive integer (`shared_dim` may be 0), `heads` does not divide `dim` where no
            `head_dim` is given, `scale` or `eps` is not positive and finite, `position` is not an encoding, acts on
            anything but queries and keys, or turns more coordinates than are shared.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        latent_dim: int,
        head_dim: int | None = None,
        value_dim: int | None = None,
        query_dim: int | None = None,
        position: PositionEncoding | None = None,
        shared_dim: int | None = None,
        scale: float | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        dim, heads, latent_dim = check_integers(dim=dim, heads=heads, latent_dim=latent_dim)
        head_dim, value_dim, query_dim = check_integers(
            optional=True, head_dim=head_dim, value_dim=value_dim, query_dim=query_dim
        )
        (shared_dim,) = check_integers(0, optional=True, shared_dim=shared_dim)
        check_positive(optional=True, scale=scale)
        check_positive(eps=eps)
        if head_dim is None and dim % heads:
            raise ValueError(f"heads must divide dim={dim}, got {heads}")
        self.position = attention_encoding(position)
        kind = type(self.position)
        for hook in ("relate", "unrotate", "bias"):
            if getattr(kind, hook) is not getattr(PositionEncoding, hook):
                raise ValueError(
                    f"position must act on queries and keys before they are cached, got {kind.__name__}, which fills "
                    f"`{hook}`"
                )
        shared_dim = self.position.reach if shared_dim is None else shared_dim
        if self.position.reach > shared_dim:
            raise ValueError(
                f"position must turn within the {shared_dim} shared coordinates, got {self.position.reach}"
            )
        self.heads, self.latent_dim, self.shared_dim = heads, latent_dim, shared_dim
        self.head_dim = dim // heads if head_dim is None else head_dim
        self.value_dim = self.head_dim if value_dim is None else value_dim
        width = self.head_dim + shared_dim
        self.scale = width**-0.5 if scale is None else scale
        self.query: nn.Module = nn.Linear(dim if query_dim is None else query_dim, heads * width, bias=False)
        if query_dim is not None:
            first = nn.Linear(dim, query_dim, bias=False)
            self.query = nn.Sequential(first, nn.RMSNorm(query_dim, eps=eps), self.query)
        self.down = nn.Linear(dim, latent_dim + shared_dim, bias=False)
        self.norm = nn.RMSNorm(latent_dim, eps=eps)
        self.up = nn.Linear(latent_dim, heads * (self.head_dim + self.value_dim), bias=False)
        self.out = nn.Linear(heads * self.value_dim, dim, bias=False)

    def new_cache(self, capacity: int) -> KVCache:
        """An empty cache for `capacity` tokens: in place of keys, latent vectors (B, 1, N, L); in place of values, the
        rotated shared coordinates (B, 1, N, R)."""
        return KVCache(capacity)

    __call__: Callable[..., Tensor]

    def forward(
        self,
        x: Tensor,
        *,
        positions: Positions | None = None,
        segments: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        absorb: bool | None = None,
    ) -> Tensor:
        """Attend from every token of `x` to itself and earlier ones, including those in the cache.

        Args:
            x: (B, N, C).
            positions: of the new tokens, (N,) or (B, N); by default they continue from the cache, and padding counts.
            segments: document ids (B, N), as for `MultiHeadAttention`; −1 marks padding.
            mask: for padding, in place of segments: True for real tokens, (1 or B, N). The cache remembers it.
            cache: latent vectors and shared coordinates of earlier tokens; the new ones are added to it.
            absorb: True scores the latent vectors themselves, False forms keys and values first. Both give the same
                result up to rounding; None takes the form with fewer multiplications.

        Returns:
            (B, N, C).

        Raises:
            ValueError: if a shape, or the dtype of `segments` or `mask`, does not fit, both are given, or the cache is
                not a `KVCache`, is full, was filled by another layer or in another dtype. (Where `x` and the weights
                differ in dtype, torch raises a RuntimeError.)
        """
        if x.ndim != 3 or x.shape[-1] != self.down.in_features:
            raise ValueError(f"x must have shape (B, N, {self.down.in_features}), got {tuple(x.shape)}")
        if cache is not None and not (isinstance(cache, KVCache) and cache.holds_all):
            kind = type(cache).__name__
            raise ValueError(f"cache must be a KVCache, as new_cache makes it, got {kind}")
        batch, count, _ = x.shape
        past, length = (0, count) if cache is None else (cache.length, cache.capacity)
        positions = token_positions(positions, batch, count, first=past, device=x.device)
        mask = check_rows(batch, count, mask=mask, segments=segments)
        if mask is not None and segments is not None:
            raise ValueError("mask must be None where segments are given: mark padding with segment -1")

        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, N, D + R)
        content, q_shared = q.split([self.head_dim, self.shared_dim], dim=-1)
        latent, k_shared = self.down(x)[:, None].split([self.latent_dim, self.shared_dim], dim=-1)
        latent = self.norm(latent)  # (B, 1, N, L)
        q_shared, k_shared, _ = self.position.rotate(q_shared, k_shared, k_shared, positions, length)
        if cache is not None:
            latent, k_shared, _, segments = cache.append(latent, k_shared, positions, segments, mask=mask)
        elif mask is not None:
            segments = mask.long() - 1

        allowed = attention_mask(count, latent.shape[-2], segments=segments, device=x.device)
        if absorb is None:
            absorb = self._saves(count, latent.shape[-2])
        form = self._absorbed if absorb else self._expanded
        return self.out(form(content, q_shared, latent, k_shared, allowed).transpose(1, 2).flatten(-2))

    def _expanded(
        self, content: Tensor, q_shared: Tensor, latent: Tensor, k_shared: Tensor, allowed: Tensor | None
    ) -> Tensor:
        """Values (B, H, N, D_v) with every key and value formed."""
        k, v = (
            self.up(latent[:, 0])
            .unflatten(-1, (self.heads, -1))
            .transpose(1, 2)
            .tensor_split([self.head_dim], -1)
        )
        k = torch.cat((k, k_shared.expand(-1, self.heads, -1, -1)), dim=-1)
        return attend(self._scaled(torch.cat((content, q_shared), dim=-1)), k, v, allowed)

    def _absorbed(
        self, content: Tensor, q_shared: Tensor, latent: Tensor, k_shared: Tensor, allowed: Tensor | None
    ) -> Tensor:
        """The same from queries in the space of the latent vectors, which are one key and one value for all heads."""
        up = self.up.weight.unflatten(0, (self.heads, -1))  # (H, D + D_v, L)
        for_keys, for_values = up.tensor_split([self.head_dim], dim=1)
        q = torch.cat((content @ for_keys, q_shared), dim=-1)  # (B, H, N, L + R)
        k = torch.cat((latent, k_shared), dim=-1)
        return attend(self._scaled(q), k, latent, allowed) @ for_values.mT

    def _scaled(self, q: Tensor) -> Tensor:
        """Queries whose scores get the factor `scale` from `attend`, which divides by the root of their width."""
        return q * (self.scale * q.shape[-1] ** 0.5)

    def _saves(self, queries: int, keys: int) -> bool:
        """Whether the absorbed form takes fewer multiplications per head."""
        heads, latent, shared = self.head_dim + self.value_dim, self.latent_dim, self.shared_dim
        absorbed = queries * latent * heads + queries * keys * (2 * latent + shared)
        return absorbed < keys * latent * heads + queries * keys * (heads + shared)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, latent_dim={self.latent_dim}, shared_dim={self.shared_dim}"
