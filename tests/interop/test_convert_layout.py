"""Whole models carried to the other layout: what moves, what is refused, and that a refusal writes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from rope_lab.interop import huggingface

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "num_key_value_heads": 2,
}


def made(config: Any) -> nn.Module:
    """A model whose biases, norms and weights all matter."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0 if "embed_positions" in name else 0.1 * torch.randn_like(parameter))
    return model


def llama(**fields: Any) -> nn.Module:
    return made(transformers.LlamaConfig(**(SMALL | fields)))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(torch.randint(61, (2, 23), generator=torch.Generator().manual_seed(1))).logits


def turn_by_ours(model: nn.Module, target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our rotation of layout `target` in place of the model's own."""
    rope = huggingface.rotary_embedding(model.config, layout=target)
    name = type(model.get_submodule("model") if hasattr(model, "model") else model).__module__
    monkeypatch.setattr(f"{name}.apply_rotary_pos_emb", lambda q, k, cos, sin, **_: rope(q, k))


class LoRA(nn.Module):
    """What the package peft makes of a linear layer: W x + B A x, for each adapter."""

    def __init__(self, base: nn.Linear, adapters: tuple[str, ...] = ("default",)) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({name: nn.Linear(base.in_features, 4, bias=False) for name in adapters})
        self.lora_B = nn.ModuleDict({name: nn.Linear(4, base.out_features, bias=False) for name in adapters})
        self.lora_dropout = nn.ModuleDict({name: nn.Identity() for name in adapters})
        self.lora_embedding_A = nn.ParameterDict()

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + sum(self.lora_B[name](self.lora_A[name](x)) for name in self.lora_A)


@pytest.mark.parametrize("adapted", [("q_proj", "k_proj", "v_proj"), ("q_proj",), ("k_proj",)])
def test_lora_adapters_move_with_the_rows_they_are_added_to(
    adapted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    model = llama(attention_bias=True)
    for layer in model.model.layers:
        for name in adapted:
            setattr(layer.self_attn, name, LoRA(getattr(layer.self_attn, name), ("default", "other")))
    before = logits(model)
    huggingface.convert_layout(model, "interleaved")
    assert (logits(model) - before).abs().max() > 1e-3
    turn_by_ours(model, "interleaved", monkeypatch)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)


FUSED: dict[str, Any] = {
    "Phi, norms over a head": transformers.PhiConfig(**SMALL, qk_layernorm=True),
    "Cohere, a norm for each head": transformers.CohereConfig(**SMALL, use_qk_norm=True),
    "OLMo 2, norms over all heads": transformers.Olmo2Config(**SMALL),
    "StableLM, a norm module for each head": transformers.StableLmConfig(**SMALL, qk_layernorm=True),
    "Phi-3, blocks": transformers.Phi3Config(**SMALL, pad_token_id=0),
    "Falcon, groups": transformers.FalconConfig(
        **SMALL, new_decoder_architecture=True, num_kv_heads=2, alibi=False, num_ln_in_parallel_attn=1
    ),
    # (H + 2G) is a multiple of 3: rows that could pass for GPT-NeoX's
    "Falcon, groups that look like heads": transformers.FalconConfig(
        **(SMALL | {"num_attention_heads": 8, "hidden_size": 128}),
        new_decoder_architecture=True,
        num_kv_heads=2,
        alibi=False,
    ),
    "Falcon, one key": transformers.FalconConfig(
        **SMALL, new_decoder_architecture=False, multi_query=True, alibi=False
    ),
    "Falcon, heads": transformers.FalconConfig(
        **SMALL, new_decoder_architecture=False, multi_query=False, alibi=False
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_norms_and_fused_projections_of_every_arrangement_move(name: str, monkeypatch: pytest.MonkeyPatch):
    model = made(FUSED[name])
    target = "half" if huggingface.model_layout(model.config) == "interleaved" else "interleaved"
    before = logits(model)
    huggingface.convert_layout(model, target)
    assert (logits(model) - before).abs().max() > 1e-3
    turn_by_ours(model, target, monkeypatch)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)


def test_a_roformer_moves_unless_its_values_turn():
    small = SMALL | {"num_key_value_heads": 4}
    config = transformers.RoFormerConfig(**small, is_decoder=True, max_position_embeddings=32)
    model = made(config)
    before = logits(model)
    attention = type(model.roformer.encoder.layer[0].attention.self)
    huggingface.convert_layout(model, "half")
    rope = huggingface.rotary_embedding(model.config)
    assert rope.layout == "half"  # which the model's own config says now
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            attention, "apply_rotary_position_embeddings", staticmethod(lambda table, q, k: rope(q, k))
        )
        torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)
    config.rotary_value = True
    with pytest.raises(ValueError, match=r"^rotary_value must be False"):
        huggingface.convert_layout(made(config), "half")


def quantised(model: nn.Module) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def each(change: Callable[[nn.Module], None]) -> Callable[[nn.Module], nn.Module]:
    """A change of the last attention: all before it would be written if reading came after writing."""

    def changed(model: nn.Module) -> nn.Module:
        change(model.model.layers[-1].self_attn)
        return model

    return changed


def lora_with(name: str) -> Callable[[nn.Module], None]:
    def change(attention: nn.Module) -> None:
        adapter = LoRA(attention.q_proj)
        adapter.register_module(name, nn.ParameterDict({"default": nn.Parameter(torch.ones(64))}))
        attention.q_proj = adapter

    return change


def tie(attention: nn.Module) -> None:
    attention.v_proj.weight = attention.k_proj.weight


def share_memory(attention: nn.Module) -> None:
    attention.k_proj.bias = nn.Parameter(attention.q_proj.bias.data[:32])


ODD: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "int8": (quantised, r"a plain linear layer as model\.layers\.0\.self_attn\.q_proj, got .*Linear"),
    "weight norm": (
        each(lambda a: weight_norm(a.k_proj) and None),
        r"plain linear layer as .*\.1\.self_attn\.k_proj",
    ),
    "old weight norm": (
        each(lambda a: nn.utils.weight_norm(a.k_proj) and None),
        r"plain linear layer as .*k_proj",
    ),
    "DoRA": (each(lora_with("lora_magnitude_vector")), r"q_proj\.lora_magnitude_vector"),
    "a LoRA embedding": (each(lora_with("lora_embedding_B")), r"q_proj\.lora_embedding_B"),
    "IA3": (
        each(lambda a: a.k_proj.register_parameter("ia3_l", nn.Parameter(torch.ones(32)))),
        r"plain linear layer",
    ),
    "a convolution": (
        each(lambda a: a.add_module("q_conv", nn.Conv1d(4, 4, 3))),
        r"q_conv, Conv1d: not understood",
    ),
    "a norm of another width": (
        each(lambda a: a.add_module("q_norm", nn.LayerNorm(8))),
        r"q_norm\.weight, got shape",
    ),
    "a group norm": (each(lambda a: a.add_module("k_norm", nn.GroupNorm(4, 16))), r"k_norm, got GroupNorm"),
    "scales": (
        each(lambda a: a.register_parameter("q_scale", nn.Parameter(torch.ones(16)))),
        r"q_scale: not under",
    ),
    "no query": (
        each(lambda a: delattr(a, "q_proj")),
        r"a query and a key projection in .*, got \['k_proj'\]",
    ),
    "a hook": (
        each(lambda a: a.q_proj.register_forward_hook(lambda *_: None) and None),
        r"hooks on .*q_proj",
    ),
    "other heads": (
        each(lambda a: setattr(a, "k_proj", nn.Linear(64, 64))),
        r"32 rows in .*k_proj\.weight, got 64",
    ),
    "integers": (
        each(
            lambda a: setattr(a.k_proj, "weight", nn.Parameter(torch.ones(32, 64).int(), requires_grad=False))
        ),
        r"real numbers as .*k_proj\.weight, got Parameter of torch\.int32",
    ),
    "a tied weight": (each(tie), r"use .*k_proj\.weight once, but it is also .*v_proj\.weight"),
    "shared memory": (each(share_memory), r"not share memory between .*q_proj\.bias and .*k_proj\.bias"),
    "meta": (each(lambda a: a.q_proj.to("meta") and None), r"loaded; .*q_proj\.weight is on meta"),
    "learned keys": (
        lambda m: m.add_module("prompt_encoder", nn.Embedding(3, 4)) or m,
        r"prompt_encoder: it may hold",
    ),
    "another config": (
        each(lambda a: setattr(a, "config", transformers.Qwen2Config(**SMALL))),
        r"one config for all its attentions; model\.layers\.1\.self_attn has another",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_understood_is_named_and_nothing_is_written(name: str):
    change, message = ODD[name]
    model = change(llama(attention_bias=True))
    before = [(p, p.detach().clone()) for p in model.parameters() if not p.is_meta]
    with pytest.raises(ValueError, match=message):
        huggingface.convert_layout(model, "interleaved")
    assert all(parameter.equal(copied) for parameter, copied in before)
    assert huggingface.model_layout(model.config) == "half"


def test_a_fused_projection_of_a_type_that_is_not_known_is_refused_even_with_a_source():
    config = transformers.GPTNeoXConfig(**(SMALL | {"num_key_value_heads": 4}))
    model = made(config)
    model.config.model_type = "unheard-of"
    with pytest.raises(
        ValueError, match=r"an arrangement of .*query_key_value that is known, got .*'unheard-of'"
    ):
        huggingface.convert_layout(model, "interleaved", source="half")


def test_converting_twice_is_converting_once():
    model, twin = llama(), llama()
    first = state(model)
    huggingface.convert_layout(model, "interleaved")
    once = state(model)
    assert any(not once[name].equal(first[name]) for name in first)
    huggingface.convert_layout(model, "interleaved")
    huggingface.convert_layout(model.model, "interleaved")  # the same attentions, from inside
    assert all(tensor.equal(once[name]) for name, tensor in state(model).items())
    with pytest.raises(
        ValueError, match=r"^source must be 'interleaved', the layout this model was converted to"
    ):
        huggingface.convert_layout(model, "interleaved", source="half")
    assert (
        huggingface.model_layout(model.config)
        == huggingface.rotary_embedding(model.config).layout
        == "interleaved"
    )
    huggingface.convert_layout(model, "half")
    assert all(tensor.equal(first[name]) for name, tensor in state(model).items())
    huggingface.convert_layout(twin.model, "interleaved")
    huggingface.convert_layout(twin, "interleaved")  # the whole, after its inside
    assert all(tensor.equal(once[name]) for name, tensor in state(twin).items())


def test_another_model_of_the_same_config_object_is_not_taken_for_converted():
    config = transformers.LlamaConfig(**SMALL)
    one, other = transformers.LlamaForCausalLM(config), transformers.LlamaForCausalLM(config)
    before = state(other)
    huggingface.convert_layout(one, "interleaved")
    assert huggingface.model_layout(config) == "half"
    huggingface.convert_layout(other, "interleaved")
    assert any(not tensor.equal(before[name]) for name, tensor in state(other).items())


def test_a_saved_model_says_what_was_made_of_it(tmp_path):
    model = huggingface.convert_layout(llama(), "interleaved")
    model.save_pretrained(tmp_path)
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    assert huggingface.model_layout(loaded.config) == "interleaved"
    before = state(loaded)
    huggingface.convert_layout(loaded, "interleaved")
    assert all(tensor.equal(before[name]) for name, tensor in state(loaded).items())
    half = copy.deepcopy(loaded)
    huggingface.convert_layout(half, "half")
    torch.testing.assert_close(logits(half), logits(llama()))


def test_attentions_of_different_records_are_refused():
    model = llama()
    huggingface.convert_layout(model, "interleaved")
    del model.model.layers[0].self_attn.rope_lab_layout
    with pytest.raises(ValueError, match=r"^model must be of one layout, .*\['None', 'interleaved'\]"):
        huggingface.convert_layout(model, "half")


@pytest.mark.parametrize(("argument", "value"), [("target", "halves"), ("source", "neox")])
def test_an_unknown_layout_is_named(argument: str, value: str):
    with pytest.raises(ValueError, match=f"^{argument} must be one of"):
        huggingface.convert_layout(llama(), **({"target": "half"} | {argument: value}))


def test_a_model_of_several_parts_is_converted_part_by_part():
    text = {**SMALL, "num_hidden_layers": 1}
    vision = {"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 64, "patch_size": 4}
    config = transformers.Qwen2VLConfig(text_config=text, vision_config=vision)
    with torch.device("cpu"):
        model = transformers.Qwen2VLForConditionalGeneration(config)
    with pytest.raises(ValueError, match=r"^config must be of one transformer, such as its text_config"):
        huggingface.convert_layout(model, "interleaved")
    part = model.model.language_model
    before = state(model)
    huggingface.convert_layout(part, "interleaved")
    moved = {name for name, tensor in state(model).items() if not tensor.equal(before[name])}
    assert moved
    assert all(name.split(".")[-2] in ("q_proj", "k_proj") and "language_model" in name for name in moved)
