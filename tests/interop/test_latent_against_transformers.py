"""Latent attention against transformers' DeepSeek-V2 and V3 with the same weights, whole and from a cache."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from rope_lab import LatentAttention, RotaryEmbedding
from rope_lab.interop import huggingface

N, C = 9, 32
NAMES = {"kv_a_proj_with_mqa": "down", "kv_a_layernorm": "norm", "kv_b_proj": "up", "o_proj": "out"}
SIZES = {"kv_lora_rank": 12, "qk_nope_head_dim": 6, "qk_rope_head_dim": 8, "v_head_dim": 10}
YARN = {
    "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 16,
    "mscale": 1.0, "mscale_all_dim": 1.0,
}  # fmt: skip


def theirs(version: int, **fields: Any) -> tuple[Any, Any]:
    """One attention layer with random weights, and the module that makes its angles."""
    name = f"DeepseekV{version}"
    module = importlib.import_module(f"transformers.models.deepseek_v{version}.modeling_deepseek_v{version}")
    config = getattr(module, f"{name}Config")(
        hidden_size=C,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        **SIZES,
        **fields,
    )
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    attention = getattr(module, f"{name}Attention")(config, layer_idx=0).eval()
    with torch.no_grad():
        for weight in attention.parameters():
            weight.uniform_(0.5, 1.5) if weight.ndim == 1 else weight.normal_(
                std=1.5 * weight.shape[1] ** -0.5
            )
    return attention, getattr(module, f"{name}RotaryEmbedding")(config)


def ours(attention: Any) -> LatentAttention:
    config = attention.config
    query = {"q_proj": "query"} if config.q_lora_rank is None else {
        "q_a_proj": "query.0", "q_a_layernorm": "query.1", "q_b_proj": "query.2"
    }  # fmt: skip
    net = LatentAttention(
        C, 4, latent_dim=12, head_dim=6, value_dim=10, query_dim=config.q_lora_rank, scale=attention.scaling,
        position=huggingface.rotary_embedding(config),
    )  # fmt: skip
    names = NAMES | query
    weights = {
        n.replace(n[: -len(".weight")], names[n[: -len(".weight")]]): t
        for n, t in attention.state_dict().items()
    }
    net.load_state_dict(weights)
    return net


def whole(attention: Any, rotary: Any, x: Tensor, first: int = 0, cache: Any = None) -> Tensor:
    count = x.shape[1]
    future = torch.full((count, first + count), torch.finfo(x.dtype).min).triu(first + 1)
    at = torch.arange(first, first + count)[None]
    table = rotary(x, at)
    return attention(
        x, position_embeddings=table, attention_mask=future[None, None], past_key_values=cache
    )[0]  # fmt: skip


@pytest.mark.parametrize("scaling", ["default", "yarn"])
@pytest.mark.parametrize("query_dim", [None, 20])
@pytest.mark.parametrize("version", [2, 3])
def test_with_their_weights_it_is_their_layer(version: int, query_dim: int | None, scaling: str) -> None:
    parameters = {"rope_parameters": YARN} if scaling == "yarn" else {}
    attention, rotary = theirs(version, q_lora_rank=query_dim, **parameters)
    net, x = ours(attention), torch.randn(2, N, C)
    with torch.no_grad():
        expected = whole(attention, rotary, x)
        assert expected.std() > 0.3
        for absorb in (False, True):
            torch.testing.assert_close(net(x, absorb=absorb), expected, rtol=0, atol=1e-5)
        their_cache, our_cache = DynamicCache(), net.new_cache(N)
        for start, end in ((0, 5), (5, 6), (6, 9)):
            step = whole(attention, rotary, x[:, start:end], start, their_cache)
            torch.testing.assert_close(step, expected[:, start:end], rtol=0, atol=1e-5)
            torch.testing.assert_close(net(x[:, start:end], cache=our_cache), step, rtol=0, atol=1e-5)


def test_the_comparison_sees_a_wrong_layout() -> None:
    attention, rotary = theirs(3, q_lora_rank=None)
    net, x = ours(attention), torch.randn(2, N, C)
    with torch.no_grad():
        expected = whole(attention, rotary, x)
        net.position = RotaryEmbedding(8, layout="half")
        assert (net(x) - expected).abs().max() > 1e-2
