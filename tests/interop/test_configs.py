"""The same config as transformers 4 wrote it, as transformers 5 reads it, as a namespace and as a mapping."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from rope_lab import RotaryEmbedding, frequencies
from rope_lab.interop import huggingface

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
DEEPSEEK = {
    "type": "yarn",
    "factor": 40,
    "original_max_position_embeddings": 4096,
    "beta_fast": 32,
    "beta_slow": 1,
}
DEEPSEEK |= {"mscale": 1.0, "mscale_all_dim": 1.0}
SIZES = {"hidden_size": 4096, "num_attention_heads": 32, "max_position_embeddings": 131072}
FACTORS = {"short_factor": [1.0 + i / 48 for i in range(48)], "long_factor": [1.0 + i for i in range(48)]}
MSCALE = {"short_mscale": 1.243163121016122, "long_mscale": 1.25}
PHI3 = {"hidden_size": 3072, "num_attention_heads": 32, "max_position_embeddings": 131072, "rope_theta": 1e4}
PHI3 |= {"original_max_position_embeddings": 4096}

# config.json as transformers 4 writes it, how many pairs turn, and the attention factor
OLD: dict[str, tuple[dict[str, Any], int, float]] = {
    "Llama 3.1": ({"model_type": "llama", **SIZES, "rope_theta": 5e5, "rope_scaling": LLAMA3}, 64, 1.0),
    "Llama 1, older than the field": (
        {"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32},
        64,
        1.0,
    ),
    "Qwen 2, YaRN": (
        {
            "model_type": "qwen2",
            "hidden_size": 3584,
            "num_attention_heads": 28,
            "rope_theta": 1e6,
            "rope_scaling": YARN,
        }
        | {"max_position_embeddings": 131072},
        64,
        1.1386294361119891,
    ),
    "GLM, half a head": (
        {"model_type": "glm", "head_dim": 128, "rope_theta": 1e4, "partial_rotary_factor": 0.5, **SIZES},
        32,
        1.0,
    ),
    "GPT-NeoX": (
        {"model_type": "gpt_neox", "hidden_size": 768, "num_attention_heads": 12}
        | {"rotary_pct": 0.25, "rotary_emb_base": 5000},
        8,
        1.0,
    ),
    "Phi 3": (
        {"model_type": "phi3", **PHI3, "rope_scaling": {"type": "longrope", **FACTORS}},
        48,
        1.190238071,
    ),
    "Phi 3, first files": (
        {"model_type": "phi3", **PHI3, "rope_scaling": {"type": "su", **FACTORS}},
        48,
        1.190238071,
    ),
    "Phi 3.5 MoE": (
        {"model_type": "phimoe", **PHI3}
        | {
            "rope_scaling": {
                "type": "longrope",
                **FACTORS,
                "short_mscale": 1.243163121016122,
                "long_mscale": 1.25,
            }
        },
        48,
        1.243163121016122,
    ),
    "DeepSeek V3": (
        {"model_type": "deepseek_v3", "qk_rope_head_dim": 64, "rope_theta": 1e4, "rope_scaling": DEEPSEEK}
        | {"hidden_size": 7168, "num_attention_heads": 128, "max_position_embeddings": 163840},
        32,
        1.0,
    ),
    "GPT-J": ({"model_type": "gptj", "n_embd": 4096, "n_head": 16, "rotary_dim": 64}, 32, 1.0),
    "dynamic": (
        {
            "model_type": "llama",
            **SIZES,
            "rope_theta": 1e4,
            "rope_scaling": {"type": "dynamic", "factor": 2.0},
        },
        64,
        1.0,
    ),
    "HunYuan": (
        {"model_type": "hunyuan_v1_dense", "head_dim": 128, **SIZES, "rope_theta": 1e4}
        | {"rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0, "mscale": 1.0}},
        64,
        1.0,
    ),
}


def renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """The first files of Phi-3 call longrope "su", which transformers 5 does not know."""
    if (fields.get("rope_scaling") or {}).get("type") == "su":
        fields["rope_scaling"]["type"] = "longrope"
    return fields


@pytest.mark.parametrize(
    "form", [dict, lambda fields: SimpleNamespace(**fields)], ids=["mapping", "namespace"]
)
@pytest.mark.parametrize("name", OLD)
def test_a_config_of_version_4_gives_what_version_5_makes_of_it(name: str, form: Any):
    fields, pairs, factor = deepcopy(OLD[name])  # transformers writes into what it is given
    ours, our_factor = huggingface.frequencies(form(fields))
    assert ours.shape == (pairs,)
    assert our_factor == pytest.approx(factor, rel=1e-9)
    new = transformers.CONFIG_MAPPING[fields["model_type"]](**renamed(deepcopy(fields)))
    theirs, their_factor = huggingface.frequencies(new)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    assert our_factor == their_factor
    rope = huggingface.rotary_embedding(form(fields))
    assert rope.layout == huggingface.model_layout(new)
    table, _ = rope.table(torch.tensor([1]), 1, dtype=torch.float64)
    torch.testing.assert_close(table[0], ours, rtol=1e-9, atol=0)


def test_the_slowest_pair_of_llama_3_1_is_eight_times_slower_and_that_of_hunyuan_has_its_base_raised():
    old = OLD["Llama 3.1"][0]
    ratio = frequencies(128, 5e5)[-1] / huggingface.frequencies(old)[0][-1]
    assert ratio.item() == pytest.approx(8.0)
    raised = frequencies(128, 1e4 * 1000 ** (128 / 126))
    torch.testing.assert_close(huggingface.frequencies(OLD["HunYuan"][0])[0], raised, rtol=1e-12, atol=0)


def test_phi_moe_has_factors_of_its_own_at_both_lengths():
    from transformers.models.phimoe.modeling_phimoe import PhimoeRotaryEmbedding

    fields = deepcopy(OLD["Phi 3.5 MoE"][0])
    for length, wanted in ((4096, 1.243163121016122), (4097, 1.25)):
        assert huggingface.frequencies(fields, length=length)[1] == pytest.approx(wanted)
    config = transformers.PhimoeConfig(
        **deepcopy(fields)
    )  # which makes 131,072 of the original length of 4,096
    original = config.rope_parameters["original_max_position_embeddings"]
    for length in (original, original + 1):
        cos, sin = PhimoeRotaryEmbedding(config)(torch.zeros(1), torch.tensor([[length - 1]]))
        theirs = float((cos**2 + sin**2).sqrt().mean())
        assert huggingface.frequencies(config, length=length)[1] == pytest.approx(theirs, rel=1e-5)
    del fields["rope_scaling"]["short_mscale"]
    with pytest.raises(ValueError, match=r"^short_mscale must be given for rope_type 'longrope', got None$"):
        huggingface.frequencies(fields)


@pytest.mark.parametrize(
    ("fields", "local", "base"),
    [
        ({"model_type": "gemma3_text", "rope_local_base_freq": 1e4, "rope_theta": 1e6}, 1e4, 1e6),
        (
            {"model_type": "modernbert", "local_rope_theta": 1e4, "global_rope_theta": 160_000.0},
            1e4,
            160_000.0,
        ),
    ],
    ids=["Gemma 3", "ModernBERT"],
)
def test_two_bases_of_version_4_are_two_layer_types(fields: dict[str, Any], local: float, base: float):
    fields = fields | {"head_dim": 64}
    sliding, _ = huggingface.frequencies(fields, layer_type="sliding_attention")
    full, _ = huggingface.frequencies(fields, layer_type="full_attention")
    assert (sliding[1].item(), full[1].item()) == pytest.approx((local ** (-1 / 32), base ** (-1 / 32)))
    with pytest.raises(
        ValueError, match=r"^layer_type must be one of \['full_att.*', 'sliding_att.*'\], got None$"
    ):
        huggingface.frequencies(fields)
    with pytest.raises(ValueError, match=r"^layer_type must be None where all layers rotate alike"):
        huggingface.frequencies(OLD["GPT-J"][0], layer_type="full_attention")


def test_olmo_3_scales_only_its_layers_of_full_attention():
    fields = {"model_type": "olmo3", **SIZES, "rope_theta": 5e5, "rope_scaling": YARN}
    _, full = huggingface.frequencies(fields, layer_type="full_attention")
    _, sliding = huggingface.frequencies(fields, layer_type="sliding_attention")
    assert (full, sliding) == (pytest.approx(1.13862943), 1.0)


BASE = {"model_type": "llama", **SIZES, "rope_theta": 1e4}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": (
        {**BASE, "rope_scaling": {**YARN, "betta_fast": 32}},
        r"^betta_fast must be absent for rope_type",
    ),
    "a key of another type": (
        {**BASE, "rope_scaling": {"type": "linear", "factor": 2.0, "mscale": 1.0}},
        r"^mscale",
    ),
    "a factor for nothing": (
        {**BASE, "rope_scaling": {"type": "default", "factor": 4.0}},
        r"^factor must be absent",
    ),
    "factors of another type": (
        {**BASE, "rope_scaling": {**YARN, **FACTORS}},
        r"^short_factor must be absent",
    ),
    "two types": (
        {**BASE, "rope_scaling": {**YARN, "rope_type": "linear"}},
        r"^rope_type must be the same as type",
    ),
    "two bases": (
        {**BASE, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        r"^rope_theta must",
    ),
    "two versions": (
        {**BASE, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}
        | {"rope_scaling": {"type": "linear", "factor": 4.0}},
        r"^factor must be the same as in rope_parameters, 2\.0, got 4\.0 beside it$",
    ),
    "a base in two places": (
        {**BASE, "rope_scaling": {"rope_theta": 5e5}},
        r"^rope_theta must be the same",
    ),
    "no base": (
        {"model_type": "mistral", **SIZES},
        r"^rope_theta must be given, got none in dict of .*'mistral'",
    ),
    "no base in version 5": (
        {**SIZES, "rope_parameters": {"rope_type": "default"}},
        r"^rope_theta must be given in",
    ),
    "no part": (
        {"model_type": "glm", **SIZES, "rope_theta": 1e4},
        r"^partial_rotary_factor must be given for .*'glm'",
    ),
    "a part that its code ignores": (
        {**BASE, "partial_rotary_factor": 0.5},
        r"^partial_rotary_factor must be 1 for",
    ),
    "a list": ({**BASE, "rope_scaling": [1, 2]}, r"^rope_scaling must be a mapping, got list$"),
    "a list of version 5": (
        {**BASE, "rope_parameters": [1]},
        r"^rope_parameters must be a mapping, got list$",
    ),
    "no sizes": (
        {"model_type": "llama", "rope_theta": 1e4},
        r"^config must give head_dim or hidden_size, got neither",
    ),
    "no heads": (
        {"rope_theta": 1e4, "hidden_size": 64},
        r"^config must give num_attention_heads or .* None$",
    ),
    "no length": (
        {"rope_theta": 1e4, "head_dim": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        r"^config must give max_position_embeddings",
    ),
    "parts of heads": (
        {"rope_theta": 1e4, "hidden_size": 4096, "num_attention_heads": 96},
        r"^hidden_size must be",
    ),
    "two widths": (
        {"rope_theta": 1e4, "hidden_size": 64, "embed_dim": 32, "num_heads": 2},
        r"^config must give",
    ),
    "two numbers of coordinates": (
        {**BASE, "model_type": "phi", "partial_rotary_factor": 0.5, "rotary_dim": 32},
        r"^rotary_dim must be 64, 0\.5 of a head of 128, got 32$",
    ),
    "no rotation": (
        {**BASE, "position_embedding_type": "absolute"},
        r"^position_embedding_type must be 'rope'",
    ),
    "a bias": ({**BASE, "model_type": "falcon", "alibi": True}, r"^alibi must be False"),
    "some layers": (
        {**BASE, "rope_scaling": YARN, "rope_scaling_layers": [0]},
        r"^rope_scaling_layers must be absent",
    ),
    "alpha of another model": (
        {**BASE, "rope_scaling": {"type": "dynamic", "factor": 2.0, "alpha": 1000.0}},
        r"^alpha must be absent for rope_type 'dynamic' in dict of model type 'llama', got 1000\.0$",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_missing_unused_or_contradictory_is_named(name: str):
    fields, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        huggingface.frequencies(fields)


@pytest.mark.parametrize(
    "kind", ["PaliGemma", "Ovis2", "Sam2Video", "EdgeTamVideo", "Qwen2VL", "Llava", "Blt"]
)
def test_models_of_several_parts_are_refused_by_every_function(kind: str):
    config = getattr(transformers, f"{kind}Config")()
    for function in (huggingface.frequencies, huggingface.rotary_embedding, huggingface.scaling):
        with pytest.raises(
            ValueError, match=r"^(config must be of one transformer|layer_type must|config must give)"
        ):
            function(config)


def test_a_vision_tower_has_its_own_width_and_two_axes():
    from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig

    config = Qwen2VLVisionConfig()  # embed_dim 1280, 16 heads; hidden_size is that of the text
    freqs, _ = huggingface.frequencies(config)
    torch.testing.assert_close(freqs, frequencies(40))
    with pytest.raises(ValueError, match=r"^rope_type must be one for positions of one coordinate"):
        huggingface.rotary_embedding(config)


@pytest.mark.parametrize("kind", ["DINOv3ViT", "EomtDinov3"])
def test_grids_whose_config_says_default_are_grids(kind: str):
    config = getattr(transformers, f"{kind}Config")(hidden_size=384, num_attention_heads=6)
    assert huggingface.frequencies(config)[0].shape == (16,)
    with pytest.raises(
        ValueError, match=r"turns by axial coordinates: use rope_lab\.encodings\.RotaryEmbeddingND$"
    ):
        huggingface.rotary_embedding(config)


def test_sections_are_refused_even_where_the_config_leaves_them_to_the_code():
    config = transformers.Qwen2VLConfig(
        text_config={"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    )
    with pytest.raises(ValueError, match=r"^mrope_section must be absent .*interleaved_mrope_frequencies"):
        huggingface.rotary_embedding(config.text_config)
    old = {"model_type": "qwen2_vl_text", "head_dim": 128, "rope_theta": 1e6}
    old |= {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}
    assert huggingface.frequencies(old)[0].equal(frequencies(128, 1e6))
    with pytest.raises(ValueError, match=r"^mrope_section must be absent .*\[16, 24, 24\]"):
        huggingface.rotary_embedding(old)


def test_nanochat_turns_backwards():
    from transformers.models.nanochat import modeling_nanochat as module

    config = transformers.NanoChatConfig(hidden_size=64, num_attention_heads=4)
    q, k = torch.randn(2, 1, 4, 9, 16)
    cos, sin = module.NanoChatRotaryEmbedding(config)(q, torch.arange(9)[None])
    rope = huggingface.rotary_embedding(config)
    for ours, theirs in zip(rope(q, k), module.apply_rotary_pos_emb(q, k, cos, sin), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    forwards = RotaryEmbedding(16, base=config.rope_parameters["rope_theta"], layout="half")
    assert (forwards(q, k)[0] - rope(q, k)[0]).abs().max() > 0.1


def test_the_switch_of_deepseek_is_read():
    kinds = {True: "interleaved", False: "half", None: "interleaved"}
    for value, layout in kinds.items():
        assert huggingface.model_layout({"model_type": "deepseek_v3", "rope_interleave": value}) == layout


@pytest.mark.parametrize("kind", ["Gemma4", "DiffusionGemma"])
def test_layers_of_different_sizes_are_read_one_by_one(kind: str):
    text = getattr(transformers, f"{kind}Config")().get_text_config()
    full, _ = huggingface.frequencies(text, layer_type="full_attention")
    sliding, _ = huggingface.frequencies(text, layer_type="sliding_attention")
    assert full.shape != sliding.shape
    rope = huggingface.rotary_embedding(text, layer_type="full_attention")
    assert rope.dim == 2 * len(full)


@pytest.mark.parametrize("kind", ["yarn", "longrope"])
def test_a_factor_that_is_left_out_is_the_ratio_of_the_lengths(kind: str):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(hidden_size=64, num_attention_heads=4, max_position_embeddings=2048)
    config.rope_parameters = {"rope_type": kind, "rope_theta": 1e4, "original_max_position_embeddings": 256}
    config.rope_parameters["factor"] = None
    if kind == "longrope":
        config.rope_parameters |= {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    theirs, their_factor = ROPE_INIT_FUNCTIONS[kind](config)
    ours, factor = huggingface.frequencies(config)
    torch.testing.assert_close(ours.float(), theirs, rtol=3e-6, atol=0)
    assert factor == pytest.approx(their_factor) != 1.0
