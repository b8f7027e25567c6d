"""All model types of the installed transformers that rotate: nothing about them is silently wrong.

Each attention is made in a small size and run with random angles before and after its weights were converted; after
that, its own rotating function is replaced by one of the other layout. What `convert_layout` does not understand must
be an error. The same goes for `model_layout` and each rotating function, `frequencies` and each rotary module.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from rotary_types import (
    TOKENS,
    Holder,
    Probe,
    classes,
    configs,
    holders,
    modules,
    probe,
    replacement,
    run,
    shrink,
    tables,
    used,
)
from torch import Tensor, nn

from rope_lab.interop import huggingface

OTHER: dict[str, Any] = {"half": "interleaved", "interleaved": "half"}
LAYOUT = {"half": "half", "half, backwards": "half", "interleaved": "interleaved", "reordered": "interleaved"}

# rotating functions that fit no form of table: to be refused, but for RoFormer, tried as a whole elsewhere
UNLIKE_OTHERS = {
    *("ClvpSelfAttention", "EdgeTamVideoRoPECrossAttention", "SeamlessM4TConformerSelfAttention"),
    *("VJEPA2RopeAttention", "Wav2Vec2BertSelfAttention", "Wav2Vec2ConformerSelfAttention"),
}
ROFORMER = "RoFormerSelfAttention"
TWINS = {  # another class of the same model type stands for them
    "DiTAttention": "reorders heads itself before it calls the function: tried below",
    "MuseGlimmerAssistantAttention": "needs the states of another model",
    "T5Gemma2MergedAttention": "needs the states of an encoder",
}
BY_HEAD = {
    "NeuCodecAttention",
    "Xcodec2Attention",
}  # turn each head by its own number, not by the token's position
# what is not converted, and a part of the message that says so
REFUSED = {
    **dict.fromkeys(
        ("AXK2Attention", "DeepseekV4Attention", "JetMoeAttention"), "a query and a key projection"
    ),
    **dict.fromkeys(
        ("DeepseekV4HCACompressor", "DeepseekV4Indexer", "DeepseekV4CSACompressor"), "a query and a key"
    ),
    **dict.fromkeys(
        ("AXK2Indexer", "DeepseekV32Indexer", "GlmMoeDsaIndexer", "HYV4Indexer"), "a query and a key"
    ),
    **dict.fromkeys(
        ("DeepseekV32Attention", "GlmMoeDsaAttention", "HYV4Attention"), "indexer, .*: not understood"
    ),
    "MistralLarge4TextIndexer": "a query and a key",
    "Qwen4ExpTextQSAIndexer": "found none",
    "MistralLarge4TextAttention": "indexer, .*: not understood",
    **dict.fromkeys(
        ("DiffusionGemmaEncoderTextAttention", "DiffusionGemmaDecoderTextAttention"), "in every layer"
    ),
    **dict.fromkeys(
        ("EmbeddingGemma2Attention", "Gemma4TextAttention", "Gemma4UnifiedTextAttention"), "in every layer"
    ),
    **dict.fromkeys(("Dots3NoteTextIndexer", "Dots3NoteTextAttention"), "for all its layers"),
    **dict.fromkeys(("EdgeTamVideoRoPESelfAttention", "Sam2VideoRoPEAttention"), "of one transformer"),
    "Sam3TrackerVideoRoPEAttention": "of one transformer",
    "LagunaAttention": "in every layer",
    **dict.fromkeys(("EvollaSaProtSelfAttention", "Qwen3OmniMoeCode2WavAttention"), "layout must be given"),
    "EfficientLoFTRAttention": "turns all heads as one",
    "LightGlueAttention": "rope_theta must be given",
    **dict.fromkeys(("KyutaiSpeechToTextAttention", "MoshiAttention"), "a plain linear layer"),
    "MiniMaxM3VLIndexer": "rows in",
    "MiniMaxM3VLVisionAttention": "three axes and a rest",
    "NeoMMEAttention": "not homogeneous",
    "Qwen4ExpTextAttention": "rows in",
    "ZayaAttention": "an arrangement of .* that is known",
}


def attentions() -> list[tuple[ModuleType, type[nn.Module]]]:
    """The classes that rotate, but for whole models and for flash attention, which needs a GPU."""
    found = [(module, cls) for module in modules() for cls in classes(module) if used(module, cls)]
    whole = transformers.PreTrainedModel
    return [(m, cls) for m, cls in found if not issubclass(cls, whole) and "Flash" not in cls.__name__]


def probes(module: ModuleType, cls: type[nn.Module]) -> dict[str, Probe | None]:
    return {
        name: probe(function) if (function := getattr(module, name, None)) else None
        for name in used(module, cls)
    }


def seen(holder: Holder, module: ModuleType, cls: type[nn.Module]) -> Probe:
    """The probe of the function that this attention calls: of two, the one its config switches on."""
    found = [p for p in probes(module, cls).values() if p is not None]
    if getattr(holder.config, "rope_interleave", True):
        return next((p for p in found if p.layout != "half"), found[0])
    return next(p for p in found if p.layout == "half")


def angles(holder: Holder, pairs: int) -> Tensor:
    """Random ones, (1, N, R/2); where an attention makes its own table, those of its positions."""
    names = dict(holder.attention.named_children()).keys() | dict(holder.attention.named_buffers()).keys()
    if {"embed_positions", "rotary_emb"} & names:
        return (torch.arange(TOKENS)[:, None] * huggingface.frequencies(holder.config)[0]).float()[None]
    heads = 4 if type(holder.attention).__name__ in BY_HEAD else TOKENS
    return 3 * torch.rand(1, heads, pairs, generator=torch.Generator().manual_seed(6))


def convert_and_compare(
    holder: Holder, module: ModuleType, cls: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> tuple[float, float]:
    """Largest differences from the outputs before, with the weights converted and, as a control, unconverted."""
    from rope_lab.interop.huggingface.configs import rotated_dims

    p, source = seen(holder, module, cls), huggingface.model_layout(holder.config)
    converted = Holder(copy.deepcopy(holder.attention), holder.config)
    huggingface.convert_layout(converted, OTHER[source])
    f = angles(holder, rotated_dims(holder.config)[0] // 2)
    before = run(holder.attention, tables(f)[p.form])
    with monkeypatch.context() as patch:
        turned = -f[0] if "backwards" in p.layout else f[0]
        for name in used(module, cls):
            patch.setattr(module, name, replacement(getattr(module, name), turned, OTHER[source]))
        after, control = (run(h.attention, tables(f)[p.form]) for h in (converted, holder))
    return float((after - before).abs().max()), float((control - before).abs().max())


def test_the_layout_of_every_model_type_is_that_of_the_function_it_calls():
    """And a model type that is not known is refused, not guessed."""
    unlike, unknown, count = set(), set(), 0
    for module, cls in attentions():
        if None in probes(module, cls).values():
            unlike.add(cls.__name__)
            continue
        for holder in holders(module, cls):
            try:
                layout = huggingface.model_layout(holder.config)
            except ValueError:
                unknown.add(holder.config.model_type)
                continue
            if cls.__name__ != "DiTAttention" and "Indexer" not in cls.__name__:
                assert layout == LAYOUT[seen(holder, module, cls).layout], cls
                count += 1
    assert unlike == UNLIKE_OTHERS | {ROFORMER}
    assert unknown == {
        "",
        "inkling2_text",
    }  # parts without a model type of their own; text that does not rotate
    assert count > 200


def test_every_attention_is_converted_exactly_or_refused_by_name(monkeypatch: pytest.MonkeyPatch):
    converted, refused = set(), {}
    for module, cls in attentions():
        if (name := cls.__name__) in TWINS or name == ROFORMER:
            continue
        messages: list[str] = []
        for layer in range(4):  # some layers of some models do not rotate
            for holder in holders(module, cls, layer):
                try:
                    if name in UNLIKE_OTHERS:
                        huggingface.convert_layout(holder, "half", source="interleaved")
                    difference, control = convert_and_compare(holder, module, cls, monkeypatch)
                except ValueError as error:
                    messages.append(str(error))
                    continue
                assert difference < 1e-5, (name, difference)
                assert (
                    name not in BY_HEAD or control < 1e-5
                )  # queries and keys turn alike, which changes no score
                if control > 1e-3:
                    converted.add(name)
            if messages or name in converted | BY_HEAD:
                break
        if name not in converted | BY_HEAD:
            refused[name] = " ".join(messages)
    assert refused.keys() == REFUSED.keys() | UNLIKE_OTHERS, refused
    for name, message in refused.items():
        assert re.search(REFUSED.get(name, "."), message), (name, message)
    assert len(converted) > 180


def test_an_attention_that_reorders_its_heads_itself_is_converted(monkeypatch: pytest.MonkeyPatch):
    """Qwen2.5-Omni's DiT: interleaved weights, reordered in each call for a function of the half layout."""
    from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as module

    (holder,) = holders(module, module.DiTAttention)
    table = tables(angles(holder, 8))["halves"]
    before = run(holder.attention, table)
    huggingface.convert_layout(holder, "half")
    monkeypatch.setattr(module, "deinterleave_head_dim", lambda x: x)
    torch.testing.assert_close(run(holder.attention, table), before, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="only the first head turns"):
        huggingface.rotary_embedding(holder.config)


def rotary_modules() -> Iterator[tuple[str, nn.Module, Any]]:
    """Every rotary module of transformers that is made of a config, in its default size, and that config."""
    for module in modules():
        for cls in classes(module):
            if not re.search("Rotary|RopePosition", cls.__name__) or "Attention" in cls.__name__:
                continue
            named, others = configs(module, cls)
            made = []
            for config in [*named, *others]:
                if config.model_type == "cohere_compass_text":
                    shrink(config)
                with suppress(Exception):  # a config of another part of the model
                    made.append((cls(config), config))
                if made and config in named:
                    break
            yield from ((cls.__name__, *one) for one in made)


def test_the_frequencies_of_every_rotary_module_are_found_or_refused_by_name():
    equal, refused = set(), {}
    for name, module, config in rotary_modules():
        for buffer, theirs in module.named_buffers():
            layer_type = buffer.removesuffix("inv_freq").rstrip("_") or None
            if not buffer.endswith("inv_freq") or "original" in buffer:
                continue
            try:
                ours, factor = huggingface.frequencies(config, layer_type=layer_type)
            except ValueError as error:
                refused[name] = str(error)
                continue
            scaled = getattr(
                module, f"{layer_type}_attention_scaling", getattr(module, "attention_scaling", 1.0)
            )
            torch.testing.assert_close(
                ours.float(), theirs, rtol=3e-6, atol=0, msg=f"{name} {config.model_type}"
            )
            assert factor == pytest.approx(scaled, rel=1e-9)
            equal.add(name)
    assert len(equal) > 190
    assert (
        refused.keys() - equal
        == {  # made of parts, of other positions, or of default sizes that do not fit
            *(
                "ClvpRotaryPositionalEmbedding",
                "EdgeTamVideoVisionRotaryEmbedding",
                "Ernie4_5_VLMoeTextRotaryEmbedding",
            ),
            *(
                "EsmRotaryEmbedding",
                "Glm4MoeRotaryEmbedding",
                "Glm4vMoeTextRotaryEmbedding",
                "MiniMaxM3VLRotaryEmbedding",
            ),
            *(
                "MiniMaxM3VLVisionRotaryEmbedding",
                "MistralLarge4TextRotaryEmbedding",
                "MusicFlamingoRotaryEmbedding",
            ),
            *(
                "PixtralVisionRotaryEmbedding",
                "Qwen3OmniMoeThinkerTextRotaryEmbedding",
                "Qwen3OmniMoeRotaryEmbedding",
            ),
            *("Qwen3OmniMoeTalkerRotaryEmbedding", "Sam2VideoVisionRotaryEmbedding"),
            *("Sam3TrackerVideoVisionRotaryEmbedding", "SeamlessM4TConformerRotaryPositionalEmbedding"),
            *("Wav2Vec2BertRotaryPositionalEmbedding", "Wav2Vec2ConformerRotaryPositionalEmbedding"),
            "Zamba2RotaryEmbedding",
        }
    )
