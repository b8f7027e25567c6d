"""Against the installed transformers: frequencies of every rope type, and weights carried to the other layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from rope_lab import angles, rotate
from rope_lab.interop import huggingface

TYPES: dict[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 8.0, "original_max_position_embeddings": 512},
    "yarn, mscale": {
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "mscale": 0.7,
        "mscale_all_dim": 1.2,
    },
    "yarn, ends between pairs": {"factor": 4.0, "original_max_position_embeddings": 2048, "truncate": False},
    "yarn, own factor": {"factor": 4.0, "attention_factor": 1.25, "beta_fast": 16, "beta_slow": 2},
    "longrope": {"factor": 4.0, "original_max_position_embeddings": 512},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512,
    },
    "proportional": {"partial_rotary_factor": 0.25},
    "proportional, interpolated": {"partial_rotary_factor": 0.5, "factor": 8.0},
}


def llama(kind: str, head_dim: int = 64, **fields: Any) -> Any:
    parameters = {"rope_type": kind.split(",")[0], "rope_theta": 10_000.0, **TYPES[kind]}
    if parameters["rope_type"] == "longrope":
        grow = torch.linspace(1, 3, head_dim // 2)
        parameters |= {"short_factor": grow.tolist(), "long_factor": (2 * grow).tolist()}
    return transformers.LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        max_position_embeddings=2048,
        rope_parameters=parameters,
        **fields,
    )


def test_every_rope_type_of_transformers_is_tested():
    assert {kind.split(",")[0] for kind in TYPES} == set(ROPE_INIT_FUNCTIONS)
    assert set(huggingface.ROPE_TYPES) == {*ROPE_INIT_FUNCTIONS, "default", "axial"}


@pytest.mark.parametrize("head_dim", [32, 64, 128])
@pytest.mark.parametrize("length", [None, 300, 2048, 6000])
@pytest.mark.parametrize("kind", TYPES)
def test_frequencies_equal_those_of_transformers(kind: str, length: int | None, head_dim: int):
    config = llama(kind, head_dim)
    theirs, factor = ROPE_INIT_FUNCTIONS[config.rope_parameters["rope_type"]](config, seq_len=length)
    ours, our_factor = huggingface.frequencies(config, length=length)
    torch.testing.assert_close(ours.float(), theirs, rtol=3e-6, atol=0)
    assert our_factor == pytest.approx(factor, rel=1e-12)


def test_default_and_partial_frequencies_equal_those_of_transformers():
    from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding

    config = transformers.GPTNeoXConfig(hidden_size=256, num_attention_heads=4, rotary_pct=0.25)
    theirs, _ = GPTNeoXRotaryEmbedding.compute_default_rope_parameters(config)
    ours, factor = huggingface.frequencies(config)
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-6, atol=0)
    assert factor == 1.0


def test_axial_frequencies_equal_those_of_transformers():
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionRotaryEmbedding

    config = Qwen3VLVisionConfig()
    config.num_attention_heads = config.num_heads
    theirs = Qwen3VLVisionRotaryEmbedding(config).inv_freq
    torch.testing.assert_close(huggingface.frequencies(config)[0].float(), theirs, rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match=r"axial.*rope_lab\.encodings\.RotaryEmbeddingND"):
        huggingface.rotary_embedding(config, layout="half")


def models() -> dict[str, Any]:
    small = {"vocab_size": 61, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    llama = {"num_key_value_heads": 2, "intermediate_size": 96, "attention_bias": True}
    yarn = {
        "rope_type": "yarn",
        "rope_theta": 10_000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    return {
        "Llama, grouped heads and biases": transformers.LlamaConfig(**small, **llama),
        "Llama, YaRN": transformers.LlamaConfig(**small, **llama, rope_parameters=yarn),
        "GPT-NeoX, fused and partial": transformers.GPTNeoXConfig(
            **small, intermediate_size=96, rotary_pct=0.5
        ),
        "GPT-J, interleaved and partial": transformers.GPTJConfig(
            vocab_size=61, n_embd=64, n_layer=2, n_head=4, rotary_dim=8, n_positions=64
        ),
        "Qwen 3, norms over a head": transformers.Qwen3Config(
            **small, num_key_value_heads=2, intermediate_size=96, head_dim=16
        ),
    }


@pytest.mark.parametrize("name", models())
def test_weights_converted_once_and_our_rotation_give_the_same_logits(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(0)
    config = models()[name]
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # biases and norms start at 0 and 1: make them tell
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ids = torch.randint(61, (2, 23))
    before = model(ids).logits
    target = "half" if huggingface.model_layout(config) == "interleaved" else "interleaved"
    huggingface.convert_layout(model, target)
    assert (model(ids).logits - before).abs().max() > 1e-3  # its own rotation no longer fits

    rope = huggingface.rotary_embedding(config, layout=target)
    module = __import__(type(model).__module__, fromlist=["apply_rotary_pos_emb"])
    if config.model_type == "gptj":  # (B, N, H, R), one tensor at a time

        def one(tensor: torch.Tensor, sin: torch.Tensor, cos: torch.Tensor) -> torch.Tensor:
            table, _ = rope.table(torch.arange(tensor.shape[1]), tensor.shape[1])
            return rotate(tensor, table, target, axis=1)

        monkeypatch.setattr(module, "apply_rotary_pos_emb", one)
    else:
        monkeypatch.setattr(module, "apply_rotary_pos_emb", lambda q, k, cos, sin, **_: rope(q, k))
    torch.testing.assert_close(model(ids).logits, before, rtol=0, atol=1e-5)


def test_converting_back_restores_every_bit():
    model = transformers.AutoModelForCausalLM.from_config(models()["GPT-NeoX, fused and partial"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    huggingface.convert_layout(model, "interleaved")
    assert any(not tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    huggingface.convert_layout(model, "half", source="interleaved")
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_the_rotation_equals_that_of_llama():
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = llama("yarn")
    q, k = torch.randn(2, 2, 4, 50, 64)
    cos, sin = LlamaRotaryEmbedding(config)(q, torch.arange(50)[None])
    theirs = apply_rotary_pos_emb(q, k, cos, sin)
    for ours, wanted in zip(huggingface.rotary_embedding(config)(q, k), theirs, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)


def test_a_layer_type_has_its_own_frequencies():
    config = transformers.LlamaConfig(hidden_size=64, num_attention_heads=4)
    config.rope_parameters = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
    }
    full, _ = huggingface.frequencies(config, layer_type="full_attention")
    sliding, _ = huggingface.frequencies(config, layer_type="sliding_attention")
    assert full[1].item() == pytest.approx(1e6 ** (-2 / 16))
    assert sliding[1].item() == pytest.approx(1e4 ** (-2 / 16) / 2)
    for function in (huggingface.frequencies, huggingface.rotary_embedding, huggingface.scaling):
        with pytest.raises(ValueError, match=r"layer_type must be one of.*full_attention.*got None$"):
            function(config)
    with pytest.raises(ValueError, match=r"layer_type must be one of.*full_attention"):
        huggingface.frequencies(config, layer_type="chunked")


def test_what_is_unknown_is_named():
    config = llama("linear")
    config.rope_parameters["rope_type"] = "spiral"
    with pytest.raises(ValueError, match="rope_type must be one of"):
        huggingface.frequencies(config)
    config.rope_parameters["rope_type"] = "linear"
    config.model_type = "unheard-of"
    with pytest.raises(ValueError, match="layout must be given"):
        huggingface.rotary_embedding(config)
    empty = torch.nn.Module()
    empty.config = llama("linear")
    with pytest.raises(ValueError, match="q_proj and k_proj"):
        huggingface.convert_layout(empty, "interleaved")


@pytest.mark.parametrize("kind", ["linear", "dynamic", "llama3"])
def test_a_missing_factor_is_named(kind: str):
    config = llama(kind)
    del config.rope_parameters["factor"]
    with pytest.raises(ValueError, match=f"^factor must be given for rope_type '{kind}', got None$"):
        huggingface.frequencies(config)


def test_positions_of_several_coordinates_are_refused():
    sections = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    config = transformers.Qwen2VLConfig(text_config={"rope_parameters": sections})
    with pytest.raises(
        ValueError,
        match=r"^mrope_section must .*\[16, 24, 24\].*interleaved_mrope_frequencies where sections interleave$",
    ):
        huggingface.rotary_embedding(config.text_config, layout="half")
    with pytest.raises(
        ValueError, match=r"^config must .*text_config, got Qwen2VLConfig of model type 'qwen2_vl'$"
    ):
        huggingface.rotary_embedding(config, layout="half")


def test_no_position_is_lost_where_theirs_rounds():
    """Float32 angles of transformers drift with the position; ours do not."""
    config = llama("linear")
    rope = huggingface.rotary_embedding(config)
    position = torch.tensor([5_000_001])
    exact, _ = rope.table(position, 1, dtype=torch.float64)
    table, _ = rope.table(position, 1)
    assert (table.cos() - exact.cos()).abs().max() < 1e-6
    theirs = position[:, None].float() * rope.table(torch.tensor([1]), 1)[0]
    assert (theirs.cos() - exact.cos()).abs().max() > 1e-3
    assert angles(position, huggingface.frequencies(config)[0]).shape == (1, 32)
