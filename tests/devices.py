"""What is asked of a device that is not the CPU, in the tests with a stand-in for one and in those on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rope_lab import RoFormer
from rope_lab.experiments.looking import attention_by_distance
from rope_lab.interop import local_attention as la
from rope_lab.interop import rotary_embedding_torch as ret
from rope_lab.local import LocalConfig, LocalTransformer, local_attention
from rope_lab.training import evaluate, sample, token_losses

POSITIONS = ("none", "learned", "sinusoidal", "t5", "alibi", "rope", "xpos", "roper")
IDS = torch.randint(12, (2, 40), generator=torch.Generator().manual_seed(0))

# Of a model, whose tensors `to` brings where they are asked for.
QUESTIONS: dict[str, Callable[[RoFormer, Callable[[Tensor], Tensor]], Any]] = {
    "losses": lambda model, to: token_losses(model, IDS.flatten(), 8, stride=4),
    "evaluation": lambda model, to: evaluate(model, IDS.flatten()),
    "sample": lambda model, to: list(sample(model, [1, 2, 3], count=20, temperature=0.8, top_p=0.9, seed=1)),
    "heads": lambda model, to: attention_by_distance(model, to(IDS[:, :16])),
}

# Of layers and adapters.
X = torch.randn(2, 3, 12, 8, generator=torch.Generator().manual_seed(1))
OTHERS: dict[str, Callable[[Callable[[Any], Any]], Tensor]] = {
    "local attention": lambda to: local_attention(*3 * [to(X)], window=4),
    "block windows": lambda to: local_attention(*3 * [to(X)], window=4, exact=False, causal=False),
    "padded local attention": lambda to: local_attention(*3 * [to(X)], window=4, mask=to(X[:, 0, :, 0] > 0)),
    "LocalTransformer": lambda to: to(
        LocalTransformer(LocalConfig(12, context=16, dim=16, depth=2, heads=2, window=4))
    ).generate(to(IDS[:, :6]), 12),
    "their LocalTransformer": lambda to: to(
        la.LocalTransformer(
            num_tokens=12,
            max_seq_len=32,
            dim=16,
            depth=1,
            dim_head=8,
            heads=2,
            local_attn_window_size=4,
            num_residual_streams=1,
        )
    ).generate(to(IDS[:, :6]), 12, temperature=0.0),
    "LocalAttention": lambda to: to(la.LocalAttention(4, dim=8, causal=True, autopad=True))(*3 * [to(X)]),
    "LocalMHA": lambda to: to(la.LocalMHA(dim=8, window_size=4, dim_head=8, heads=2, causal=True))(
        to(X[:, 0])
    ),
    "DynamicPositionBias": lambda to: to(la.DynamicPositionBias(8, 2))(3, 6),
    "rotate_queries_or_keys": lambda to: to(ret.RotaryEmbedding(8)).rotate_queries_or_keys(to(X), offset=7),
    "cached keys": lambda to: to(ret.RotaryEmbedding(8)).rotate_queries_with_cached_keys(
        to(X[..., :3, :]), to(X)
    )[0],
    "xPos": lambda to: to(ret.RotaryEmbedding(8, use_xpos=True)).rotate_queries_and_keys(*2 * [to(X)])[1],
    "learned": lambda to: to(ret.RotaryEmbedding(8, learned_freq=True)).rotate_queries_or_keys(to(X)),
    "axial": lambda to: to(ret.RotaryEmbedding(4, freqs_for="pixel")).get_axial_freqs(3, 5),
}
