"""Multi-head attention that takes any position encoding, and the cache that lets it decode token by token.

Source: Vaswani et al. 2017 (arXiv:1706.03762); grouped queries: Ainslie et al. 2023 (arXiv:2305.13245).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rope_lab.checks import check_integers
from rope_lab.encodings import NoPE, PositionEncoding, RotaryEmbedding, RotaryEmbeddingND


class KVCache:
    """Keys, values and positions of the tokens a layer has seen, in memory taken at the first call.

    It is written in place, for decoding: a gradient through two calls with it raises torch's error.

    Args:
        capacity: the most tokens it can hold, positive.

    Attributes:
        length: tokens held so far.
    """

    def __init__(self, capacity: int) -> None:
        check_integers(capacity=capacity)
        self.capacity = capacity
        self.length = 0
        self._held: dict[str, Tensor] = {}
        self._segmented = False

    def append(
        self, k: Tensor, v: Tensor, positions: Tensor, segments: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Add the new tokens and return all that is held.

        Args:
            k, v: keys and values (B, H_k, N, D).
            positions: (N,) or (B, N), the same form at every call.
            segments: (B, N), or None where every token belongs to segment 0.

        Returns:
            k, v, positions and segments of all tokens so far; segments are None if none was ever given.

        Raises:
            ValueError: if the tokens exceed the capacity or differ from those held in shape or dtype; the
                cache is then as it was.
        """
        end = self.length + k.shape[-2]
        if end > self.capacity:
            raise ValueError(
                f"capacity is {self.capacity} tokens, got {end}: make a cache with a larger capacity"
            )
        given = segments is not None
        segments = positions.new_zeros(k.shape[0], k.shape[-2]) if segments is None else segments
        # the token axis first, so that one slice serves all four
        new = {"k": k.movedim(-2, 0), "v": v.movedim(-2, 0), "positions": positions.movedim(-1, 0)}
        new["segments"] = segments.movedim(-1, 0).long()
        for name, tensor in new.items():  # before anything is written
            held = self._held.get(name, tensor)
            wanted = (end - self.length, *held.shape[1:])
            if tensor.shape != wanted or tensor.dtype != held.dtype:
                got = f"{tuple(tensor.shape)} {tensor.dtype}"
                raise ValueError(f"{name}, tokens first, must be {wanted} {held.dtype} as held, got {got}")
        for name, tensor in new.items():
            if name not in self._held:
                self._held[name] = tensor.new_zeros(self.capacity, *tensor.shape[1:])
            self._held[name][self.length : end] = tensor
        self._segmented = self._segmented or given
        self.length = end
        k, v = (self._held[name][:end].movedim(0, -2) for name in ("k", "v"))
        positions, segments = (self._held[name][:end].movedim(0, -1) for name in ("positions", "segments"))
        return k, v, positions, segments if self._segmented else None


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
        window: keys a query sees on the way back, itself included (if not causal, on the way forward too).
        segments: integers (B, k_count); a query sees only its own segment, and −1 marks padding.
        device: of the result.

    Returns:
        Boolean (1 or B, 1, q_count, k_count), True where attention is allowed; None where all is.

    Raises:
        ValueError: if there are more queries than keys, or `window` is no positive integer.
    """
    if q_count > k_count:
        raise ValueError(f"q_count must be at most k_count={k_count}, got {q_count}")
    check_integers(optional=True, window=window)
    allowed: Tensor | None = None
    if (causal and q_count > 1) or (window is not None and window < k_count):
        q_index = torch.arange(k_count - q_count, k_count, device=device)
        back = q_index[:, None] - torch.arange(k_count, device=device)  # tokens from key back to query
        allowed = back >= 0 if causal else torch.ones_like(back, dtype=torch.bool)
        if window is not None:
            allowed = allowed & (back.abs() < window)
        allowed = allowed[None, None]
    if segments is not None:
        mine = segments[:, None, k_count - q_count :, None]
        same = (mine == segments[:, None, None, :]) & (mine >= 0)
        allowed = same if allowed is None else allowed & same
    return allowed


def own_positions(
    q_positions: Tensor, k_positions: Tensor, q_segments: Tensor, k_segments: Tensor
) -> tuple[Tensor, Tensor]:
    """Positions counted from the first of the queries that is of the same segment; 0 where there is none.

    For encodings whose queries share a centre: each of several packed texts gets its own, and tokens that no query
    sees lie near.

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
        ValueError: if `allowed` is not as above.
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
        blind = ~allowed.any(
            -1, keepdim=True
        )  # let them see all and zero them below: no kernel divides 0 by 0
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
        position: the encoding; by default none (NoPE).
        causal: a token sees only itself and earlier ones.
        window: sliding window, the number of keys a query sees, itself included; None is unlimited.
        qk_norm: normalise queries and keys to unit root mean square before rotation (arXiv:2010.04245).
        bias: give the projections a bias.
        dropout: of the attention weights.

    Raises:
        ValueError: if a size is no positive integer, `heads` does not divide `dim`, `kv_heads` does not divide
            `heads`, `dropout` is no probability below 1, or `position` turns coordinates that no head has.
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
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_integers(dim=dim, heads=heads)
        check_integers(optional=True, kv_heads=kv_heads, head_dim=head_dim, window=window)
        kv_heads = heads if kv_heads is None else kv_heads
        if head_dim is None and dim % heads:
            raise ValueError(f"heads must divide dim={dim}, got {heads}")
        if heads % kv_heads:
            raise ValueError(f"kv_heads must divide heads={heads}, got {kv_heads}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        head_dim = dim // heads if head_dim is None else head_dim
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.position = NoPE() if position is None else position
        if self.position.query_block and not causal:
            raise ValueError(f"causal must be True for {type(self.position).__name__}, got False")
        reach = self.position.reach if isinstance(self.position, RotaryEmbedding) else 0
        if isinstance(self.position, RotaryEmbeddingND):
            reach = 2 * self.position.freqs.shape[-1]
        if reach > head_dim:
            raise ValueError(f"position must turn within the {head_dim} coordinates of a head, got {reach}")
        self.causal, self.window, self.qk_norm, self.dropout = causal, window, qk_norm, dropout
        self.query = nn.Linear(dim, heads * head_dim, bias=bias)
        self.key = nn.Linear(dim, kv_heads * head_dim, bias=bias)
        self.value = nn.Linear(dim, kv_heads * head_dim, bias=bias)
        self.out = nn.Linear(heads * head_dim, dim, bias=bias)

    def forward(
        self,
        x: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Attend from every token of `x` to the tokens it may see, those in the cache included.

        Args:
            x: (B, N, C).
            positions: of the new tokens, (N,) or (B, N); by default they go on from the cache.
            segments: integers (B, N). Tokens see only their own segment, so that packed documents stay apart;
                −1 marks padding. `segments=mask.long() - 1` turns a padding mask (True: real) into segments.
            cache: keys and values of earlier tokens; the new ones are added to it.

        Returns:
            (B, N, C).

        Raises:
            ValueError: if a shape does not fit, `segments` are no integers, the cache is full, or there is a cache
                but no causal mask.
        """
        q, k, v, positions = self._project(x, positions, segments, cache)
        k_positions, count = positions, x.shape[1]
        past = 0 if cache is None else cache.length
        if cache is not None:
            k, v, k_positions, segments = cache.append(k, v, positions, segments)

        out = self._attend_all(q, k, v, k_positions, segments, past + count - k.shape[-2])
        out = self.position.unrotate(out, positions)
        return self.out(out.transpose(1, 2).flatten(-2))

    def weights(
        self, x: Tensor, *, positions: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """The attention weights themselves: what `forward` reads where the value of token n is the n-th unit vector.

        It takes the same way through the same code, so a window, a bias or a dropout in training mode is in them.

        Args:
            x, positions, segments: as `forward`.

        Returns:
            (B, H, N, N), a row a query. Each sums to 1, or is 0 where a query may attend to nothing.
        """
        q, k, _, positions = self._project(x, positions, segments, None)
        unit = torch.eye(x.shape[1], dtype=q.dtype, device=q.device).expand(*k.shape[:2], -1, -1)
        return self._attend_all(q, k, unit, positions, segments, 0)

    def _project(
        self, x: Tensor, positions: Tensor | None, segments: Tensor | None, cache: KVCache | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rotated queries, keys and values (B, H, N, D) of the new tokens, and their positions."""
        if x.ndim != 3 or x.shape[-1] != self.query.in_features:
            raise ValueError(f"x must have shape (B, N, {self.query.in_features}), got {tuple(x.shape)}")
        if cache is not None and not self.causal:
            raise ValueError("cache must be None where causal=False: cached tokens cannot look ahead")
        batch, count, _ = x.shape
        past = 0 if cache is None else cache.length
        if positions is None:
            positions = torch.arange(past, past + count, device=x.device)
        if positions.shape not in ((count,), (batch, count)):
            expected = f"({count},) or ({batch}, {count})"
            raise ValueError(f"positions must have shape {expected}, got {tuple(positions.shape)}")
        if segments is not None and segments.shape != (batch, count):
            raise ValueError(f"segments must have shape ({batch}, {count}), got {tuple(segments.shape)}")
        if segments is not None and (segments.dtype == torch.bool or segments.is_floating_point()):
            raise ValueError(f"segments must be integers (mask.long() - 1 for a mask), got {segments.dtype}")

        q, k, v = (  # (B, N, H·D) -> (B, H, N, D)
            projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        if self.qk_norm:
            q, k = F.rms_norm(q, (self.head_dim,)), F.rms_norm(k, (self.head_dim,))
        q, k, v = self.position.rotate(q, k, v, positions, count if cache is None else cache.capacity)
        return q, k, v, positions

    def _attend_all(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, segments: Tensor | None, first: int
    ) -> Tensor:
        """Attention of the new tokens, as many at once as the encoding takes.

        k, v, positions and segments are of all tokens at hand; `first` is the index of their first in the sequence.
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
