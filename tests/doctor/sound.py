"""Rotations that are right, of this package and of others, and what the doctor must read from each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import labml_nn.transformers.rope as labml
import local_attention.rotary as local
import rotary_embedding_torch as ret
import torch
import transformers
from torch import Tensor

from rope_lab import RotaryEmbedding, angles, encodings, frequencies, rotate
from rope_lab.doctor import with_tables
from rope_lab.doctor.exhibits import first_part, half, neighbours
from rope_lab.doctor.target import _function, _table
from rope_lab.encodings import DynamicNTK, Llama3, LongRoPE, NTKAware, PositionInterpolation, PRoPE, YaRN
from rope_lab.interop import labml_nn as our_labml
from rope_lab.interop import rotary_embedding_torch as our_ret

D = 32
EXACT: frozenset[str] = frozenset()
SINGLE = frozenset({"float32 angles", "double"})  # what tables in float32 cost, and no more


@dataclass
class Sound:
    """A correct rotation; what the doctor must say of it."""

    name: str
    turn: Callable[..., Any]
    layout: str = "half"
    direction: str = "counter-clockwise"
    begin: int = 0
    end: int = D
    kind: str = "geometric"
    base: float | None = 10_000.0
    factor: float | None = None
    attention: float = 1.0
    reordered: str = ""
    limits: frozenset[str] = EXACT
    dim: int = D
    options: dict[str, Any] = field(default_factory=dict)


def with_offset(x: Tensor, offset: int = 0) -> Tensor:
    return rotate(x, angles(torch.arange(x.shape[-2]) + offset, frequencies(D), dtype=_dtype(x)), "half")


def heads_last(x: Tensor, positions: Tensor) -> Tensor:  # (B, N, H, D)
    table = angles(positions, frequencies(D), dtype=_dtype(x))
    return rotate(x, table, axis=1)


def flat(x: Tensor, positions: Tensor) -> Tensor:  # (N, D)
    return neighbours(x, positions[:, None].double() * frequencies(x.shape[-1]))


def reordered(q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    table = angles(positions, frequencies(D), dtype=_dtype(q))
    return tuple(encodings.convert_layout(rotate(x, table), "interleaved", "half") for x in (q, k))  # type: ignore[return-value]


def tables_given(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    def one(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return x * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]

    return one(q), one(k)


def labml_turn(kind: Callable[..., Any]) -> Callable[..., Any]:
    module = kind(D)
    return lambda x: module(x)


def transformer(kind: str, **changes: Any) -> Callable[..., Any]:
    """The rotation of a model type in a small size."""
    config = transformers.AutoConfig.for_model(kind, **changes)
    modeling = __import__(
        type(config).__module__.replace("configuration_", "modeling_"), fromlist=["modeling"]
    )
    apply = _function(modeling, "apply_rotary_pos_emb", "apply_rotary_emb")
    if kind == "deepseek_v3":
        apply = modeling.apply_rotary_pos_emb_interleave
    table = _table(modeling, config)
    assert apply is not None
    assert table is not None
    return with_tables(apply, table)


def _dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


SMALL = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": D}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def scaled(scaling: Any, base: float = 10_000.0, dim: int = D) -> RotaryEmbedding:
    return RotaryEmbedding(dim, base=base, scaling=scaling)


ATTENTION = 0.1 * torch.tensor(8.0).log().item() + 1
SOUND = [
    Sound("rope_lab, interleaved", RotaryEmbedding(D), "interleaved"),
    Sound("rope_lab, half", RotaryEmbedding(D, layout="half")),
    Sound("rope_lab, base 500,000", RotaryEmbedding(D, base=5e5), "interleaved", base=5e5),
    Sound(
        "rope_lab, clockwise",
        RotaryEmbedding(D, freqs=-frequencies(D), layout="half"),
        direction="clockwise",
    ),
    Sound("rope_lab, a part", RotaryEmbedding(16, layout="half"), end=16),
    Sound("rope_lab, the tail", RotaryEmbedding(16, layout="half", start=16), begin=16),
    Sound("rope_lab, p-RoPE", RotaryEmbedding(D, layout="half", scaling=PRoPE(0.5))),
    Sound("rope_lab, learned", RotaryEmbedding(D, learned=True), "interleaved"),
    Sound(
        "rope_lab, PI", scaled(PositionInterpolation(4)), "interleaved", kind="linear", base=1e4, factor=4.0
    ),
    Sound("rope_lab, NTK", scaled(NTKAware(8)), "interleaved", kind="ntk", base=1e4, factor=8.0),
    Sound("rope_lab, dynamic", scaled(DynamicNTK(2.0, 8192)), "interleaved"),
    Sound(
        "rope_lab, YaRN",
        scaled(YaRN(8, 4096), dim=64),
        "interleaved",
        end=64,
        dim=64,
        kind="yarn",
        factor=8.0,
        attention=ATTENTION,
    ),
    Sound(
        "rope_lab, Llama 3",
        scaled(Llama3(8.0), 5e5, 64),
        "interleaved",
        end=64,
        dim=64,
        kind="llama3",
        base=5e5,
        factor=8.0,
    ),
    Sound(
        "rope_lab, LongRoPE",
        scaled(
            LongRoPE([1 + i**1.3 / 16 for i in range(16)], [1 + i**1.3 / 16 for i in range(16)], 4096, 8.0)
        ),
        "interleaved",
        kind="list",
        base=None,
        attention=(1 + torch.tensor(8.0).log().item() / torch.tensor(4096.0).log().item()) ** 0.5,
    ),
    Sound("an offset", with_offset),
    Sound("(B, N, H, D)", heads_last, "interleaved"),
    Sound("(N, D)", flat, "interleaved"),
    Sound("a part by hand", first_part, end=16),
    Sound("x alone", lambda x: half(x, torch.arange(x.shape[-2])[:, None].double() * frequencies(D))),
    Sound("reordered", reordered, "interleaved", reordered="half"),
    Sound("cos and sin", tables_given, options={}),
    Sound("interop.labml_nn", labml_turn(our_labml.RotaryPositionalEmbeddings)),
    Sound(
        "interop.rotary_embedding_torch",
        (lambda module: lambda x, offset=0: module.rotate_queries_or_keys(x, offset=offset))(
            our_ret.RotaryEmbedding(D)
        ),
        "interleaved",
    ),
    Sound("labml_nn", labml_turn(labml.RotaryPositionalEmbeddings), limits=frozenset({"dtype", "double"})),
    Sound(
        "local_attention",
        (lambda module: lambda q, k: local.apply_rotary_pos_emb(q, k, *module(k)))(
            local.SinusoidalEmbeddings(D)
        ),
        limits=frozenset({"dtype", "double"}),
    ),
    Sound("transformers, llama", transformer("llama", **SMALL), limits=SINGLE),
    Sound("transformers, mistral", transformer("mistral", **SMALL), limits=SINGLE),
    Sound("transformers, gemma", transformer("gemma", **SMALL), limits=SINGLE),
    Sound("transformers, qwen2", transformer("qwen2", hidden_size=64, num_attention_heads=2), limits=SINGLE),
    Sound("transformers, olmo2", transformer("olmo2", hidden_size=64, num_attention_heads=2), limits=SINGLE),
    Sound("transformers, cohere", transformer("cohere", **SMALL), "interleaved", base=5e5, limits=SINGLE),
    Sound("transformers, helium", transformer("helium", **SMALL), "interleaved", base=1e5, limits=SINGLE),
    Sound("transformers, glm", transformer("glm", **SMALL), "interleaved", end=16, limits=SINGLE),
    Sound(
        "transformers, gpt_neox",
        transformer("gpt_neox", hidden_size=64, num_attention_heads=2),
        end=8,
        limits=SINGLE,
    ),
    Sound(
        "transformers, gptj",
        transformer("gptj", n_embd=64, n_head=2, rotary_dim=D),
        "interleaved",
        limits=frozenset({"double"}),
    ),
    Sound(
        "transformers, phi",
        transformer("phi", hidden_size=128, num_attention_heads=2),
        limits=SINGLE,
    ),
    Sound("transformers, nanochat", transformer("nanochat", **SMALL), direction="clockwise", limits=SINGLE),
    Sound(
        "transformers, deepseek_v3",
        transformer("deepseek_v3", qk_rope_head_dim=D),
        "interleaved",
        reordered="half",
        limits=SINGLE,
    ),
    Sound(
        "transformers, deepseek_v2",
        transformer("deepseek_v2", qk_rope_head_dim=D),
        "interleaved",
        limits=SINGLE,
    ),
    Sound(
        "transformers, llama4", transformer("llama4_text", **SMALL), "interleaved", base=5e5, limits=SINGLE
    ),
    Sound(
        "transformers, gpt_oss",
        transformer("gpt_oss", **(SMALL | {"head_dim": 64})),
        end=64,
        dim=64,
        kind="yarn",
        base=150_000.0,
        factor=32.0,
        attention=0.1 * torch.tensor(32.0).log().item() + 1,
        limits=SINGLE,
    ),
    Sound(
        "transformers, llama 3.1",
        transformer("llama", **(SMALL | {"head_dim": 64, "rope_parameters": LLAMA3})),
        end=64,
        dim=64,
        kind="llama3",
        base=5e5,
        factor=8.0,
        limits=SINGLE,
    ),
]
RET = ret.RotaryEmbedding(D)
