"""Relative positions as a term added to the attention scores.

Each class fills `bias(q, k, q_positions, k_positions)`; what it returns is added to q·kᵀ/√D. Positions are those of
the queries and of the keys, (N,) or (B, N); a relative position is always key minus query, n − m.

T5 and ALiBi are exact and complete. Shaw, TransformerXL and DeBERTa are short teaching versions of terms that were
published inside larger models.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rope_lab.checks import check_integers
from rope_lab.encodings.absolute import sinusoidal
from rope_lab.encodings.base import PositionEncoding, table_device


def relative_positions(q_positions: Tensor, k_positions: Tensor) -> Tensor:
    """n − m for every query position m and key position n: (N_q, N_k), or (B, N_q, N_k) if either has a batch."""
    return k_positions[..., None, :] - q_positions[..., :, None]


def t5_buckets(
    relative: Tensor, *, buckets: int = 32, max_distance: int = 128, causal: bool = False
) -> Tensor:
    """Bucket of every relative position n − m: each near one has its own, far ones share logarithmic ranges.

    Args:
        relative: integers n − m, any shape.
        buckets: number of buckets; without `causal`, half of them are for keys ahead of the query.
        max_distance: all distances from this one on share the last bucket.
        causal: keys ahead of the query (which the mask hides) fall into bucket 0.

    Returns:
        Integers in 0..buckets − 1, shape of `relative`.

    Raises:
        ValueError: if either is not a positive integer, `buckets` is too small or cannot be halved, or `max_distance`
            does not exceed the exact range.

    Source: Raffel et al. 2019 (arXiv:1910.10683), section 2.1.
    """
    buckets, max_distance = check_integers(buckets=buckets, max_distance=max_distance)
    side = buckets if causal else buckets // 2
    exact = side // 2
    if exact < 1 or buckets != (side if causal else 2 * side):
        allowed = "at least 2" if causal else "even and at least 4"
        raise ValueError(f"buckets must be {allowed}, got {buckets}")
    if max_distance <= exact:
        raise ValueError(f"max_distance must exceed the {exact} exact distances, got {max_distance}")
    device, relative = relative.device, relative.to(table_device(relative.device))
    ahead = torch.zeros_like(relative) if causal else (relative > 0) * side
    distance = (-relative).clamp(min=0) if causal else relative.abs()
    # bucket b ≥ exact begins at distance exact · (max_distance/exact)^((b − exact)/(side − exact))
    starts = exact * (max_distance / exact) ** (
        torch.arange(1, side - exact, dtype=torch.float64, device=relative.device) / (side - exact)
    )
    starts = torch.cat((torch.arange(1, exact + 1, device=relative.device), (starts - 1e-9).ceil()))
    bucket = torch.bucketize(distance.double().contiguous(), starts, right=True)
    return (ahead + bucket).to(device)


class T5Bias(PositionEncoding):
    """A learned number for each head and bucket of distance, added to the scores.

    T5 itself does not divide q·kᵀ by √D; here, as everywhere in this package, the scores are divided first.

    Args:
        heads: number of query heads H.
        buckets, max_distance, causal: as `t5_buckets`.

    Raises:
        ValueError: as `t5_buckets`, or if `heads` is not a positive integer; by `bias`, if the queries have another
            number of heads.

    Source: Raffel et al. 2019 (arXiv:1910.10683), section 2.1.
    """

    def __init__(
        self, heads: int, *, buckets: int = 32, max_distance: int = 128, causal: bool = True
    ) -> None:
        super().__init__()
        check_integers(heads=heads)
        empty = torch.empty(0, dtype=torch.long)
        t5_buckets(empty, buckets=buckets, max_distance=max_distance, causal=causal)  # bad ones raise here
        self.max_distance, self.causal = int(max_distance), causal
        self.table = nn.Embedding(buckets, heads)
        nn.init.normal_(self.table.weight, std=0.02)

    def bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        _check_hook(q, k, q_positions, k_positions, heads=self.table.embedding_dim)
        relative = relative_positions(q_positions, k_positions)
        bucket = t5_buckets(
            relative, buckets=self.table.num_embeddings, max_distance=self.max_distance, causal=self.causal
        )
        return _heads_first(self.table(bucket))


def alibi_slopes(heads: int) -> Tensor:
    """Slope of every head, float64, shape (H,).

    For a power of two, 2^(−8h/H) for h = 1, …, H. Otherwise those of the next lower power P, then every other one
    of those of 2P.

    Raises:
        ValueError: if `heads` is not a positive integer.

    Source: Press et al. 2021 (arXiv:2108.12409), section 3; its released code for other head counts.
    """
    (heads,) = check_integers(heads=heads)
    power = 2 ** int(math.log2(heads))
    slopes = torch.pow(2.0, -8 * torch.arange(1, power + 1, dtype=torch.float64) / power)
    between = torch.pow(2.0, -8 * torch.arange(1, 2 * power + 1, 2, dtype=torch.float64) / (2 * power))
    return torch.cat((slopes, between[: heads - power]))


class ALiBi(PositionEncoding):
    """Scores fall in proportion to the distance, with a different slope in each head: −slope·|m − n|.

    Args:
        heads: number of query heads H.

    Raises:
        ValueError: if `heads` is not a positive integer; by `bias`, if the queries have another number of heads.

    Source: Press et al. 2021 (arXiv:2108.12409), section 3.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        (self.heads,) = check_integers(heads=heads)

    def bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        _check_hook(q, k, q_positions, k_positions, heads=self.heads, real=True)
        distance = (
            relative_positions(q_positions, k_positions)
            .abs()
            .to(q.dtype if q.dtype.itemsize > 2 else torch.float32)
        )
        slopes = alibi_slopes(self.heads).to(distance)
        return -slopes[:, None, None] * (distance[None, None] if distance.ndim == 2 else distance[:, None])


class Shaw(PositionEncoding):
    """A learned vector a for each clipped distance, added to the key: (q·a_clip(n − m))/√D.

    The published form has a second such table for the values; this one keeps to the scores.

    Args:
        head_dim: D.
        max_distance: distances beyond it share a vector.

    Raises:
        ValueError: if an argument is not a positive integer; by `bias`, if the heads have another width.

    Source: Shaw et al. 2018 (arXiv:1803.02155), section 3.2.
    """

    def __init__(self, head_dim: int, *, max_distance: int = 16) -> None:
        super().__init__()
        head_dim, max_distance = check_integers(head_dim=head_dim, max_distance=max_distance)
        self.max_distance = max_distance
        self.table = nn.Embedding(2 * max_distance + 1, head_dim)
        nn.init.normal_(self.table.weight, std=0.02)

    def bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        _check_hook(q, k, q_positions, k_positions, head_dim=self.table.embedding_dim)
        limit = self.max_distance
        index = relative_positions(q_positions, k_positions).clamp(-limit, limit) + limit
        scores = q @ self.table.weight.to(q.dtype).T  # (B, H, N_q, 2·limit + 1): one score per distance
        return scores.gather(-1, _fit(index, scores)) / q.shape[-1] ** 0.5


class TransformerXL(PositionEncoding):
    """Relative terms of Transformer-XL: (q·W r + u·k + v·W r)/√D with r the sinusoidal vector of m − n.

    Args:
        heads: number of heads H.
        head_dim: D, even.

    Raises:
        ValueError: if an argument is not a positive integer or `head_dim` is odd; by `bias`, if the queries have
            another number of heads or another width.

    Source: Dai et al. 2019 (arXiv:1901.02860), section 3.3.
    """

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        heads, head_dim = check_integers(heads=heads, head_dim=head_dim)
        if head_dim % 2:
            raise ValueError(f"head_dim must be a positive even integer, got {head_dim}")
        self.project = nn.Parameter(0.02 * torch.randn(heads, head_dim, head_dim))
        self.u = nn.Parameter(torch.zeros(heads, 1, head_dim))
        self.v = nn.Parameter(torch.zeros(heads, 1, head_dim))

    def bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        heads, head_dim, _ = self.project.shape
        _check_hook(q, k, q_positions, k_positions, heads=heads, head_dim=head_dim, real=True)
        dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        distances, index = relative_positions(q_positions, k_positions).unique(return_inverse=True)
        r = sinusoidal(-distances, head_dim, dtype=dtype).to(q.dtype) @ self.project.mT  # (H, distances, D)
        positional = (q + self.v) @ r.mT  # (B, H, N_q, distances)
        content = self.u @ _share(k, q).mT  # (B, H, 1, N_k)
        return (positional.gather(-1, _fit(index, positional)) + content) / q.shape[-1] ** 0.5


class DeBERTa(PositionEncoding):
    """Disentangled attention: content to position and position to content, in addition to content to content.

    With δ the distance clipped to [−K, K), the score is (q·k + q·key(δ(m, n)) + k·query(δ(n, m)))/√(3D). The queries
    are divided by √3 first, so that the content term has the same scale as the other two. The released code reads the
    queries' table at δ(m, n), which only reverses the order of its rows.

    Args:
        heads: number of heads H.
        head_dim: D.
        max_distance: K.

    Raises:
        ValueError: if an argument is not a positive integer; by `bias`, if the queries have another number of heads or
            another width.

    Source: He et al. 2020 (arXiv:2006.03654), section 3.1.
    """

    def __init__(self, heads: int, head_dim: int, *, max_distance: int = 16) -> None:
        super().__init__()
        heads, head_dim, max_distance = check_integers(
            heads=heads, head_dim=head_dim, max_distance=max_distance
        )
        self.max_distance = max_distance
        self.key = nn.Parameter(0.02 * torch.randn(heads, 2 * max_distance, head_dim))
        self.query = nn.Parameter(0.02 * torch.randn(heads, 2 * max_distance, head_dim))

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        return q / 3**0.5, k, v

    def bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        heads, _, head_dim = self.key.shape
        _check_hook(q, k, q_positions, k_positions, heads=heads, head_dim=head_dim)
        limit = self.max_distance
        index = (-relative_positions(q_positions, k_positions)).clamp(-limit, limit - 1) + limit  # δ(m, n)
        to_position = q @ self.key.mT  # (B, H, N_q, 2K)
        back = relative_positions(q_positions, k_positions).clamp(-limit, limit - 1) + limit  # δ(n, m)
        from_position = _share(k, q) @ self.query.mT / 3**0.5  # (B, H, N_k, 2K)
        c2p = to_position.gather(-1, _fit(index, to_position))
        p2c = from_position.gather(-1, _fit(back.mT, from_position)).mT
        return (c2p + p2c) / q.shape[-1] ** 0.5


def _check_hook(
    q: Tensor,
    k: Tensor,
    q_positions: Tensor,
    k_positions: Tensor,
    *,
    heads: int | None = None,
    head_dim: int | None = None,
    real: bool = False,
) -> None:
    """Check for queries (B, heads, N, head_dim), keys whose heads divide theirs, positions that can be subtracted."""
    shape, shared = tuple(q.shape), tuple(k.shape)
    if len(shape) != 4 or heads not in (None, shape[1]) or head_dim not in (None, shape[3]):
        raise ValueError(f"q must have shape (B, {heads or 'H'}, N, {head_dim or 'D'}), got {shape}")
    if len(shared) != 4 or shared[3] != shape[3] or not shared[1] or shape[1] % shared[1]:
        allowed = f"(B, H_k, N, {shape[3]}), H_k a divisor of {shape[1]}"
        raise ValueError(f"k must have shape {allowed}, got {shared}")
    for name, positions in (("q_positions", q_positions), ("k_positions", k_positions)):
        if positions.dtype not in (torch.int32, torch.int64) and not (real and positions.is_floating_point()):
            kinds = "int32, int64 or real" if real else "int32 or int64"
            raise ValueError(f"{name} must be {kinds}, got {positions.dtype}")


def _heads_first(table: Tensor) -> Tensor:
    """(N_q, N_k, H) or (B, N_q, N_k, H) -> (1 or B, H, N_q, N_k)."""
    return (table if table.ndim == 4 else table[None]).movedim(-1, 1)


def _fit(index: Tensor, scores: Tensor) -> Tensor:
    """An index (N_q, N_k) or (B, N_q, N_k) for `gather` along the last axis of scores (B, H, N_q, ·)."""
    index = index[:, None] if index.ndim == 3 else index
    return index.expand(*scores.shape[:2], *index.shape[-2:])


def _share(k: Tensor, q: Tensor) -> Tensor:
    """Keys of grouped-query attention, repeated to the heads of the queries."""
    return k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
