"""Multi-head attention that takes any position encoding, and the masks that go with it.

Source: Vaswani et al. 2017 (arXiv:1706.03762); grouped queries: Ainslie et al. 2023 (arXiv:2305.13245).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rope_lab.cache import KVCache
from rope_lab.checks import check_integers, check_probability
from rope_lab.encodings import PositionEncoding, Positions, attention_encoding, token_positions
from rope_lab.pointwise import rms_norm


def attention_mask(
    q_count: int,
    k_count: int,
    *,
    causal: bool = True,
    window: int | None = None,
    segments: Tensor | None = None,
    device: torch.device | str | None = None,
) -> Tensor | None:
    """Which keys each query may attend to. The queries are the last `q_count` of the `k_count` tokens.

    Args:
        q_count, k_count: numbers of queries and keys.
        causal: a query sees no later key.
        window: number of keys that a query sees on the way back, itself included (if not causal, on the way forward
            too). Padding does not count.
        segments: document ids (B, k_count); a query sees only its own segment, and −1 marks padding.
        device: of the result.

    Returns:
        Boolean (1 or B, 1, q_count, k_count), True where attention is allowed; None if it is allowed everywhere.

    Raises:
        ValueError: if there are more queries than keys, or `window` is not a positive integer.
    """
    if q_count > k_count:
        raise ValueError(f"q_count must be at most k_count={k_count}, got {q_count}")
    check_integers(optional=True, window=window)
    allowed: Tensor | None = None
    if (causal and q_count > 1) or (window is not None and window < k_count):
        index = torch.arange(k_count, device=device)
        back = index[k_count - q_count :, None] - index  # tokens from key back to query
        allowed = (back >= 0 if causal else torch.ones_like(back, dtype=torch.bool))[None, None]
        if window is not None:
            if segments is not None:  # padding shares the place of the token before it
                place = (segments >= 0).cumsum(-1)
                back = place[:, None, k_count - q_count :, None] - place[:, None, None, :]
            allowed = allowed & (back.abs() < window)
    if segments is not None:
        mine = segments[:, None, k_count - q_count :, None]
        same = (mine == segments[:, None, None, :]) & (mine >= 0)
        allowed = same if allowed is None else allowed & same
    return allowed


def own_positions(
    q_positions: Tensor, k_positions: Tensor, q_segments: Tensor, k_segments: Tensor
) -> tuple[Tensor, Tensor]:
    """Positions counted from the first query of the same segment; 0 if no query is of that segment.

    For encodings whose queries share a centre: each of several packed texts gets its own, and tokens that no query
    sees are near it.

    Args:
        q_positions, k_positions: (N_q,) or (B, N_q), and (N_k,) or (B, N_k).
        q_segments, k_segments: (B, N_q) and (B, N_k), N_q at least 1.

    Returns:
        The new positions of queries and keys, (B, N_q) and (B, N_k).
    """
    q_positions, k_positions = (p if p.is_floating_point() else p.long() for p in (q_positions, k_positions))
    ordered, order = q_segments.contiguous().sort(stable=True)
    origins = q_positions.expand(q_segments.shape).gather(1, order)

    def since(positions: Tensor, segments: Tensor) -> Tensor:
        place = torch.searchsorted(ordered, segments.contiguous()).clamp(max=ordered.shape[-1] - 1)
        return (positions - origins.gather(1, place)).masked_fill(ordered.gather(1, place) != segments, 0)

    return since(q_positions, q_segments), since(k_positions, k_segments)


def check_rows(batch: int, count: int, *, mask: Tensor | None, segments: Tensor | None) -> Tensor | None:
    """The mask for every row, (B, N).

    Raises:
        ValueError: if `mask` is not boolean (1 or B, N), or `segments` are not integers (B, N).
    """
    if segments is not None and (
        not isinstance(segments, Tensor)
        or segments.is_floating_point()
        or segments.dtype in (torch.bool, torch.complex64, torch.complex128)
    ):
        got = getattr(segments, "dtype", segments)
        raise ValueError(f"segments must be integers (document ids; padding goes into mask), got {got}")
    if segments is not None and segments.shape != (batch, count):
        raise ValueError(f"segments must have shape ({batch}, {count}), got {tuple(segments.shape)}")
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = getattr(mask, "dtype", mask)
        raise ValueError(f"mask must be boolean, True for real tokens (mask.bool() of a 0/1 mask), got {got}")
    if mask.shape not in ((1, count), (batch, count)):
        wanted = f"(1, {count}) or ({batch}, {count}), one entry per new token"
        raise ValueError(f"mask must have shape {wanted}, got {tuple(mask.shape)}")
    return mask.expand(batch, count)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q·kᵀ/√D + bias)·v over the allowed keys; a query with no allowed key returns zeros.

    Args:
        q: queries (B, H, N_q, D).
        k, v: keys and values (B, H_k, N_k, D); H_k divides H.
        allowed: boolean mask that broadcasts to (B, H, N_q, N_k), or None.
        bias: added to the scaled scores, broadcasts likewise, or None.
        dropout: probability of dropping an attention weight.

    Returns:
        (B, H, N_q, D).

    Raises:
        ValueError: if `allowed` has another shape or dtype.
    """
    if allowed is not None:
        shape = (*q.shape[:3], k.shape[2])
        pairs = zip(reversed(allowed.shape), reversed(shape), strict=False)
        if allowed.dtype != torch.bool or allowed.ndim > 4 or any(a not in (n, 1) for a, n in pairs):
            got = f"{allowed.dtype} {tuple(allowed.shape)}"
            raise ValueError(f"allowed must be boolean and broadcast to {shape}, got {got}")
        if allowed.ndim < 2:  # no kernel takes a mask of fewer axes
            allowed = allowed.expand(shape[2:])
    mask = None if bias is None else bias.to(q.dtype)
    if allowed is not None:
        # let these see everything and zero them below, so that no kernel divides 0 by 0
        blind = ~allowed.any(-1, keepdim=True)
        visible = allowed | blind
        mask = visible if mask is None else mask.masked_fill(~visible, -torch.inf)
    grouped = q.shape[1] != k.shape[1]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, enable_gqa=grouped)
    return out if allowed is None else out.masked_fill(blind, 0.0)


class MultiHeadAttention(nn.Module):
    """Self-attention with a position encoding on its queries, keys, values or scores.

    Args:
        dim: model width C.
        heads: number of query heads H.
        kv_heads: number of key and value heads, a divisor of H; by default H.
        head_dim: width D of a head; by default C/H.
        position: the encoding; by default none (NoPE). An encoding that is added to the embeddings (sinusoidal,
            learned) does nothing here: call its `embed` first and give `position.in_attention()`.
        causal: a token sees only itself and earlier ones.
        window: sliding window, the number of keys that a query sees, itself included; None is unlimited. It is a mask
            over all N × N scores, so it takes more time and memory than none. `rope_lab.local.LocalSelfAttention`
            computes the same in time and memory linear in N.
        qk_norm: normalise queries and keys to unit root mean square before rotation, so that a score is √D times the
            cosine of their angle (Henry et al. 2020, arXiv:2010.04245).
        qk_gain: with `qk_norm`, multiply the scores of each head by a number that is learned and starts at 1, as the
            paper does. Without it no score can exceed √D.
        bias: give the projections a bias.
        dropout: of the attention weights.

    Raises:
        ValueError: if a size is not a positive integer, `heads` does not divide `dim`, `kv_heads` does not divide
            `heads`, `dropout` is not in [0, 1), or `position` is not an encoding, acts only on embeddings, or turns
            coordinates that no head has.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        position: PositionEncoding | None = None,
        causal: bool = True,
        window: int | None = None,
        qk_norm: bool = False,
        qk_gain: bool = False,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        dim, heads = check_integers(dim=dim, heads=heads)
        kv_heads, head_dim, window = check_integers(
            optional=True, kv_heads=kv_heads, head_dim=head_dim, window=window
        )
        kv_heads = heads if kv_heads is None else kv_heads
        if head_dim is None and dim % heads:
            raise ValueError(f"heads must divide dim={dim}, got {heads}")
        if heads % kv_heads:
            raise ValueError(f"kv_heads must divide heads={heads}, got {kv_heads}")
        check_probability(dropout=dropout)
        if qk_gain and not qk_norm:
            raise ValueError(
                "qk_gain must be False without qk_norm: projections have a gain already, got True"
            )
        head_dim = dim // heads if head_dim is None else head_dim
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.position = attention_encoding(position)
        if self.position.query_block and not causal:
            raise ValueError(f"causal must be True for {type(self.position).__name__}, got False")
        if (reach := self.position.reach) > head_dim:
            raise ValueError(f"position must turn within the {head_dim} coordinates of a head, got {reach}")
        self.causal, self.window, self.qk_norm, self.dropout = causal, window, qk_norm, dropout
        self.gain = nn.Parameter(torch.ones(heads)) if qk_gain else None
        self.query = nn.Linear(dim, heads * head_dim, bias=bias)
        self.key = nn.Linear(dim, kv_heads * head_dim, bias=bias)
        self.value = nn.Linear(dim, kv_heads * head_dim, bias=bias)
        self.out = nn.Linear(heads * head_dim, dim, bias=bias)

    def new_cache(self, capacity: int) -> KVCache:
        """An empty key/value cache for `capacity` tokens."""
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
    ) -> Tensor:
        """Attend from every token of `x` to the tokens it may see, including those in the cache.

        Args:
            x: (B, N, C).
            positions: of the new tokens, (N,) or (B, N); by default they continue from the cache, and padding counts.
            segments: document ids (B, N). Tokens see only their own segment, so that packed documents stay apart;
                −1 marks padding. With a cache, give them at every call or at none.
            mask: for padding, in place of segments: True for real tokens, (1 or B, N). The cache remembers it, and
                later calls may leave it out.
            cache: keys and values of earlier tokens; the new ones are added to it.

        Returns:
            (B, N, C).

        Raises:
            ValueError: if a shape, or the dtype of `segments` or `mask`, does not fit, both are given, segments are
                given at some calls of a cache but not at all, the cache is full or drops tokens that this layer sees,
                or there is a cache but `causal` is False. (Where `x` and the weights differ in dtype, torch raises a
                RuntimeError.)
        """
        q, k, v, positions, mask = self._project(x, positions, segments, mask, cache)
        k_positions, count = positions, x.shape[1]
        past = 0 if cache is None else cache.length
        if cache is not None:
            k, v, k_positions, segments = cache.append(k, v, positions, segments, mask=mask)
        elif mask is not None:
            segments = mask.long() - 1

        out = self._attend_all(q, k, v, k_positions, segments, past + count - k.shape[-2])
        out = self.position.unrotate(out, positions)
        return self.out(out.transpose(1, 2).flatten(-2))

    def weights(
        self,
        x: Tensor,
        *,
        positions: Positions | None = None,
        segments: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The attention weights themselves: what `forward` reads if the value of token n is the n-th unit vector.

        They come from the same code as `forward`, so they include a window, a bias and, in training mode, dropout.

        Args:
            x, positions, segments, mask: as `forward`.

        Returns:
            (B, H, N, N), one row per query. Each sums to 1, or is 0 if a query may attend to nothing.
        """
        q, k, _, positions, mask = self._project(x, positions, segments, mask, None)
        segments = segments if mask is None else mask.long() - 1
        unit = torch.eye(x.shape[1], dtype=q.dtype, device=q.device).expand(*k.shape[:2], -1, -1)
        return self._attend_all(q, k, unit, positions, segments, 0)

    def check_cache(self, cache: KVCache) -> None:
        """Raise a ValueError if this layer cannot use the cache."""
        if not isinstance(cache, KVCache):
            raise ValueError(f"cache must be a KVCache, as new_cache makes it, got {type(cache).__name__}")
        if not self.causal:
            raise ValueError("cache must be None where causal=False: cached tokens cannot look ahead")
        if not cache.holds_all:
            raise ValueError(f"cache must hold every token for this layer, got a {type(cache).__name__}")

    def _project(
        self,
        x: Tensor,
        positions: Positions | None,
        segments: Tensor | None,
        mask: Tensor | None,
        cache: KVCache | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """Rotated queries, keys and values (B, H, N, D) of the new tokens, their positions and their mask (B, N)."""
        if x.ndim != 3 or x.shape[-1] != self.query.in_features:
            raise ValueError(f"x must have shape (B, N, {self.query.in_features}), got {tuple(x.shape)}")
        if cache is not None:
            self.check_cache(cache)
        batch, count, _ = x.shape
        past = 0 if cache is None else cache.length
        positions = token_positions(positions, batch, count, first=past, device=x.device)
        mask = check_rows(batch, count, mask=mask, segments=segments)
        if mask is not None and segments is not None:
            raise ValueError("mask must be None where segments are given: mark padding with segment -1")

        q, k, v = (  # (B, N, H·D) -> (B, N, H, D)
            projection(x).view(batch, count, heads, self.head_dim)
            for projection, heads in (
                (self.query, self.heads), (self.key, self.kv_heads), (self.value, self.kv_heads)
            )
        )  # fmt: skip
        if self.qk_norm:
            q, k = rms_norm(q, gain=None if self.gain is None else self.gain[:, None]), rms_norm(k)
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))  # (B, H, N, D)
        q, k, v = self.position.rotate(q, k, v, positions, count if cache is None else cache.capacity)
        return q, k, v, positions, mask

    def _attend_all(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, segments: Tensor | None, first: int
    ) -> Tensor:
        """Attention of the new tokens, as many at once as the encoding takes.

        k, v, positions and segments are of all tokens held; `first` is the index of the first one in the sequence.
        """
        count, past, step = q.shape[-2], k.shape[-2] - q.shape[-2], self.position.query_block
        if step is None or count <= step:
            return self._attend(q, k, v, positions[..., past:], positions, segments)
        ends = [*range(step, count, step), count]
        return torch.cat(
            [
                self._attend(
                    q[..., start:end, :],
                    k[..., : past + end, :],
                    v[..., : past + end, :],
                    positions[..., past + start : past + end],
                    positions[..., : past + end],
                    None if segments is None else segments[:, : past + end],
                )
                for start, end in zip([0, *ends], ends, strict=False)
            ],
            dim=-2,
        )

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_positions: Tensor,
        k_positions: Tensor,
        segments: Tensor | None,
    ) -> Tensor:
        """Attention of the last tokens (B, H, N_q, D) of a sequence to all of it (B, H_k, N_k, D)."""
        near = q_positions, k_positions
        if segments is not None and self.position.distances_only and q.shape[-2]:
            near = own_positions(*near, segments[:, -q.shape[-2] :], segments)
        q, k = self.position.relate(q, k, *near)
        bias = self.position.bias(q, k, q_positions, k_positions)
        dropout = self.dropout if self.training else 0.0
        n_q, n_k = q.shape[-2], k.shape[-2]
        if self.causal and n_q == n_k and bias is None and segments is None and self.window is None:
            grouped = self.heads != self.kv_heads  # the fused kernel needs no mask
            return F.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=grouped
            )
        allowed = attention_mask(
            n_q, n_k, causal=self.causal, window=self.window, segments=segments, device=q.device
        )
        return attend(q, k, v, allowed, bias, dropout=dropout)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, kv_heads={self.kv_heads}, causal={self.causal}, window={self.window}"
