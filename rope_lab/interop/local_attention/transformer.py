"""`LocalMHA` and `LocalTransformer` with their neighbour's arguments and parameter names."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rope_lab.checks import check_integers
from rope_lab.interop.local_attention.attention import LocalAttention
from rope_lab.model import choose


class LocalMHA(nn.Module):
    """Multi-head local attention of (B, N, dim); always takes any length.

    Args:
        dim, dim_head, heads: model width, head dimension and number of heads.
        window_size, causal, use_xpos, xpos_scale_base, kwargs: as `LocalAttention`.
        dropout: of the attention weights.
        prenorm: a LayerNorm first.
        qk_rmsnorm, qk_scale: unit queries and keys with a learned gain, scores times `qk_scale`.
        exact_windowsize: here by default True.
        gate_values_per_head: a learned gate on each head's output.

    Raises:
        ValueError: naming the argument that does not fit.
    """

    def __init__(
        self,
        *,
        dim: int,
        window_size: int,
        dim_head: int = 64,
        heads: int = 8,
        dropout: float = 0.0,
        causal: bool = False,
        prenorm: bool = False,
        qk_rmsnorm: bool = False,
        qk_scale: float = 8,
        use_xpos: bool = False,
        xpos_scale_base: int | None = None,
        exact_windowsize: bool | None = None,
        gate_values_per_head: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        check_integers(dim=dim, dim_head=dim_head, heads=heads)
        self.norm = nn.LayerNorm(dim) if prenorm else None
        self.heads, self.causal, self.qk_rmsnorm = heads, causal, qk_rmsnorm
        self.to_qkv = nn.Linear(dim, 3 * dim_head * heads, bias=False)
        if qk_rmsnorm:
            self.q_scale, self.k_scale = (nn.Parameter(torch.ones(dim_head)) for _ in range(2))
        self.attn_fn = LocalAttention(
            window_size, causal, dropout=dropout, dim=dim_head, autopad=True,
            exact_windowsize=exact_windowsize is not False, scale=qk_scale if qk_rmsnorm else None,
            use_xpos=use_xpos, xpos_scale_base=xpos_scale_base, **kwargs,
        )  # fmt: skip
        self.to_v_gate = nn.Sequential(nn.Linear(dim, heads)) if gate_values_per_head else None
        self.to_out = nn.Linear(dim_head * heads, dim, bias=False)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        attn_bias: Tensor | None = None,
        cache: Tensor | None = None,
        return_cache: bool = False,
    ) -> Any:
        """(B, N, dim) -> the same, and with `return_cache` the unrotated keys and values (2, B, H, N so far, D).

        With a `cache` the tokens of `x` follow those in it; any number of them, causal only, without a mask.

        Raises:
            ValueError: naming the argument that does not fit.
        """
        width, head_dim = self.to_qkv.in_features, self.to_out.in_features // self.heads
        if x.ndim != 3 or x.shape[-1] != width:
            raise ValueError(f"x must have shape (B, N, {width}), got {tuple(x.shape)}")
        for held in () if cache is None else cache:
            if held.ndim != 4 or held.shape[:2] + held.shape[3:] != (len(x), self.heads, head_dim):
                shape = f"({len(x)}, {self.heads}, N, {head_dim})"
                raise ValueError(f"cache must hold keys and values of shape {shape}, got {tuple(held.shape)}")
        x = x if self.norm is None else self.norm(x)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.to_qkv(x).chunk(3, dim=-1))
        if self.qk_rmsnorm:
            q, k = F.normalize(q, dim=-1) * self.q_scale, F.normalize(k, dim=-1) * self.k_scale
        if cache is not None:
            if not self.causal or mask is not None:
                raise ValueError("cache needs causal=True and no mask")
            k, v = torch.cat((cache[0], k), dim=-2), torch.cat((cache[1], v), dim=-2)
            out = self.attn_fn.attend(q, k, v, self.attn_fn.window_size, None, attn_bias)
        else:
            out = self.attn_fn(q, k, v, mask=mask, attn_bias=attn_bias)
        if self.to_v_gate is not None:
            out = out * self.to_v_gate(x).sigmoid().mT[..., None]
        out = self.to_out(out.transpose(1, 2).flatten(-2))
        return (out, torch.stack((k, v))) if return_cache else out


class DynamicPositionBias(nn.Module):
    """A bias for each head and distance from a small network, (H, i, j) for the last i of j tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(1, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, heads)
        )

    def forward(self, i: int, j: int) -> Tensor:
        if i > j:
            raise ValueError(f"i must be at most j={j}, got {i}")
        at = torch.arange(j, device=(weight := next(self.parameters())).device)
        table = self.mlp(at[:, None].to(weight.dtype))  # (distances, H)
        return table[(at[j - i :, None] - at).abs()].movedim(-1, 0)


class Residual(nn.Module):
    """x + branch(x), under the name it has in their checkpoints."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor, **kwargs: Any) -> Any:
        out = self.branch(x, **kwargs)
        return (x + out[0], *out[1:]) if isinstance(out, tuple) else x + out


class GEGLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x, gate = x.chunk(2, dim=-1)
        return x * F.gelu(gate)


def FeedForward(dim: int, mult: float = 4, dropout: float = 0.0) -> nn.Sequential:
    """LayerNorm, GEGLU of width dim·mult·2/3, dropout, linear."""
    inner = int(dim * mult * 2 / 3)
    up, down = nn.Linear(dim, 2 * inner, bias=False), nn.Linear(inner, dim, bias=False)
    return nn.Sequential(nn.LayerNorm(dim), up, GEGLU(), nn.Dropout(dropout), down)


class Cache(NamedTuple):
    """Keys and values of every layer; hand it back with the whole text so far, of which the last token is new."""

    cache_kv: list[Tensor]
    maybe_cached_attn_bias: Tensor | None


class LocalTransformer(nn.Module):
    """Their language model: local attention with learned and rotary positions, GEGLU, and optional global layers.

    Args:
        num_tokens: vocabulary; None leaves out embedding and logits.
        max_seq_len: rows of the learned position table.
        num_residual_streams: 1 alone. More streams are hyper-connections, which have nothing to do with positions
            and are not rebuilt here; the real package has 4 by default.
        others: as `LocalMHA` and `LocalAttention`.

    Raises:
        ValueError: naming the argument that does not fit.
    """

    def __init__(
        self,
        *,
        num_tokens: int | None,
        max_seq_len: int,
        dim: int,
        depth: int,
        causal: bool = True,
        local_attn_window_size: int = 512,
        dim_head: int = 64,
        heads: int = 8,
        ff_mult: float = 4,
        attn_dropout: float = 0.0,
        ff_dropout: float = 0.0,
        ignore_index: int = -1,
        use_xpos: bool = False,
        xpos_scale_base: int | None = None,
        use_dynamic_pos_bias: bool = False,
        global_attn_layer: nn.Module | None = None,
        layers_insert_global_attn: tuple[int, ...] | None = None,
        num_residual_streams: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if num_residual_streams != 1:
            why = "hyper-connections are no matter of positions and are not rebuilt here"
            raise ValueError(f"num_residual_streams must be 1, got {num_residual_streams}: {why}")
        check_integers(0, depth=depth)
        check_integers(optional=True, num_tokens=num_tokens)
        check_integers(
            max_seq_len=max_seq_len, dim=dim, dim_head=dim_head, heads=heads,
            local_attn_window_size=local_attn_window_size,
        )  # fmt: skip
        if use_dynamic_pos_bias and not causal:
            raise ValueError("use_dynamic_pos_bias needs causal=True: its table covers no window ahead")
        inserts = set(range(1, depth + 1) if layers_insert_global_attn is None else layers_insert_global_attn)
        if not inserts <= set(range(1, depth + 1)):
            raise ValueError(f"layers_insert_global_attn must lie in 1..{depth}, got {sorted(inserts)}")
        self.max_seq_len, self.ignore_index, self.window_size = (
            max_seq_len,
            ignore_index,
            local_attn_window_size,
        )
        self.has_embed_unembed = num_tokens is not None
        if num_tokens is not None:
            self.token_emb, self.pos_emb = nn.Embedding(num_tokens, dim), nn.Embedding(max_seq_len, dim)
            self.to_logits = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_tokens, bias=False))
        self.dynamic_pos_bias = DynamicPositionBias(dim // 2, heads) if use_dynamic_pos_bias else None
        self.global_layers, self.layers = nn.ModuleList(), nn.ModuleList()
        for layer in range(1, depth + 1):
            inserted = global_attn_layer is not None and layer in inserts
            # where nothing is inserted the list holds None, which has no name in a checkpoint
            self.global_layers.append(
                cast(nn.Module, Residual(deepcopy(cast(nn.Module, global_attn_layer))) if inserted else None)
            )
            attention = LocalMHA(
                dim=dim, dim_head=dim_head, heads=heads, dropout=attn_dropout, causal=causal, prenorm=True,
                window_size=local_attn_window_size, use_xpos=use_xpos, xpos_scale_base=xpos_scale_base,
                use_rotary_pos_emb=not use_dynamic_pos_bias, **kwargs,
            )  # fmt: skip
            self.layers.append(
                nn.ModuleList([Residual(attention), Residual(FeedForward(dim, ff_mult, ff_dropout))])
            )

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        return_loss: bool = False,
        return_cache: bool = False,
    ) -> Any:
        """Logits (B, N, V), or the loss of predicting each token from those before it.

        Args:
            x: ids (B, N), or embeddings (B, N, dim) without a vocabulary.
            mask: True for real tokens, (B, N).
            cache: from the call before; `x` is the whole text so far, of which the last token alone is computed.
            return_loss: mean cross-entropy, targets of `ignore_index` left out.
            return_cache: return the cache too.
        """
        labels = x[:, 1:] if return_loss else None
        x = x[:, :-1] if return_loss else x
        if mask is not None and return_loss:
            mask = mask[:, :-1]
        if self.has_embed_unembed:
            if x.shape[1] > self.max_seq_len:
                raise ValueError(
                    f"x must have at most max_seq_len={self.max_seq_len} tokens, got {x.shape[1]}"
                )
            x = self.token_emb(x) + self.pos_emb(torch.arange(x.shape[1], device=x.device))
        x = x if cache is None else x[:, -1:]
        bias = None
        if self.dynamic_pos_bias is not None:
            bias = self.dynamic_pos_bias(self.window_size, 2 * self.window_size)
        held = []
        for index, (layers, insert) in enumerate(zip(self.layers, self.global_layers, strict=True)):
            attention, feed_forward = cast(nn.ModuleList, layers)
            x = x if insert is None else insert(x)
            past = None if cache is None else cache.cache_kv[index]
            x, kv = attention(x, mask=mask, attn_bias=bias, cache=past, return_cache=True)
            held.append(kv)
            x = feed_forward(x)
        if not self.has_embed_unembed:
            return x
        logits = self.to_logits(x)
        if labels is not None:
            return F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=self.ignore_index)
        return (logits, Cache(held, bias)) if return_cache else logits

    @torch.no_grad()
    def generate(
        self,
        prime: Tensor,
        seq_len: int,
        temperature: float = 1.0,
        filter_thres: float = 0.9,
        use_kv_cache: bool = True,
        **kwargs: Any,
    ) -> Tensor:
        """Draw `seq_len` tokens after `prime` (B, N) among the likeliest share 1 − filter_thres; (B, seq_len).

        Raises:
            ValueError: naming the argument that does not fit.
        """
        if not self.has_embed_unembed:
            raise ValueError("num_tokens must be given to generate")
        check_integers(0, seq_len=seq_len)
        if prime.ndim != 2 or not prime.shape[1]:
            raise ValueError(f"prime must have shape (B, N), N ≥ 1, got {tuple(prime.shape)}")
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature must be finite and not negative, got {temperature}")
        if not 0 <= filter_thres <= 1:
            raise ValueError(f"filter_thres must lie in [0, 1], got {filter_thres}")
        training, self_cache, text = self.training, None, prime
        self.eval()
        for _ in range(seq_len):
            fits = use_kv_cache and text.shape[1] <= self.max_seq_len
            window = text[:, -self.max_seq_len :]
            logits, self_cache = self(window, cache=self_cache if fits else None, return_cache=True, **kwargs)
            kept = max(1, int((1 - filter_thres) * logits.shape[-1]))
            drawn = [_draw(row, temperature, kept) for row in logits[:, -1].float().cpu()]
            text = torch.cat((text, torch.tensor(drawn).to(text.device)[:, None]), dim=1)
        self.train(training)
        return text[:, prime.shape[1] :]


def _draw(logits: Tensor, temperature: float, kept: int) -> int:
    return choose(logits, temperature, kept, None, torch.default_generator)
