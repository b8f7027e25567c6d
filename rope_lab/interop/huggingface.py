"""Between this package and `transformers` (5.x): frequencies from a config, weights from layout to layout, a Llama.

    from rope_lab.interop.huggingface import rotary_embedding, convert_layout, export_llama

Nothing here imports transformers; a config or a model is taken as it is. Where this differs on purpose: frequencies
are float64, so that cos and sin stay exact at any position, and length-dependent scalings take the length as an
argument instead of keeping the longest one seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rope_lab.encodings import (
    DynamicNTK,
    Layout,
    Llama3,
    LongRoPE,
    PositionInterpolation,
    PRoPE,
    RotaryEmbedding,
    Scaling,
    YaRN,
    layouts,
    rotary,
)
from rope_lab.model import RoFormer
from rope_lab.training import checkpoint

ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional", "axial")
_NEEDED = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}


def rotary_embedding(
    config: Any, *, layout: Layout | None = None, layer_type: str | None = None, length: int | None = None
) -> RotaryEmbedding:
    """The rotation that a model of this config applies to its queries and keys.

    Args:
        config: a config of transformers; where its layers differ in more than their rope parameters (Gemma 4), that of
            one layer, `config.per_layer_config[name]`.
        layout: by default that of the model's weights, `model_layout(config)`.
        layer_type: which entry, where `config.rope_parameters` has one a layer type.
        length: tokens the sequence may have in all (dynamic and longrope).

    Raises:
        ValueError: if the rope type is unknown or its parameters are not all there, if positions have several
            coordinates (axial and M-RoPE, see `rope_lab.encodings.axial`), or the layer type is missing.
    """
    parameters = _parameters(config, layer_type)
    if parameters.get("mrope_section"):
        sections = parameters["mrope_section"]
        raise ValueError(
            f"mrope_section must be absent where positions have one coordinate, got {sections}: use "
            "rope_lab.encodings.RotaryEmbeddingND, with mrope_frequencies where sections do not interleave"
        )
    if parameters["rope_type"] == "axial":
        raise ValueError(
            "rope_type 'axial' turns by two coordinates: use rope_lab.encodings.axial with frequencies(config)"
        )
    dim, base = _rotary_dim(config, parameters), parameters["rope_theta"]
    layout = model_layout(config) if layout is None else layout
    return RotaryEmbedding(dim, base=base, layout=layout, scaling=scaling(config, layer_type), length=length)


def frequencies(
    config: Any, *, length: int | None = None, layer_type: str | None = None
) -> tuple[Tensor, float]:
    """θ_i and attention factor of a config, as transformers' own functions of each rope type give them.

    Args:
        config, layer_type: as `rotary_embedding`.
        length: tokens of the sequence; by default no more than the model was trained on.

    Returns:
        Float64 (dim/2,), for "axial" (dim/4,) of one of the two axes; and the factor of cos and sin.
    """
    parameters = _parameters(config, layer_type)
    dim = _rotary_dim(config, parameters)
    freqs = rotary.frequencies(
        dim // (2 if parameters["rope_type"] == "axial" else 1), parameters["rope_theta"]
    )
    scale = scaling(config, layer_type)
    return (freqs, 1.0) if scale is None else scale(freqs, length or 1)


def scaling(config: Any, layer_type: str | None = None) -> Scaling | None:
    """The scaling of a config's rope type, one of `rope_lab.encodings.scaling`; None for "default" and "axial".

    Raises:
        ValueError: if the rope type is unknown, or naming the parameter of it that is missing.
    """
    p = _parameters(config, layer_type)
    for name in _NEEDED.get(p["rope_type"], ()):
        if p.get(name) is None:
            raise ValueError(f"{name} must be given for rope_type {p['rope_type']!r}, got None")
    kind: str = p["rope_type"]
    longest: Any = getattr(config, "max_position_embeddings", None)
    original: Any = p.get("original_max_position_embeddings") or longest
    if kind in ("default", "axial"):
        return None
    if kind == "linear":
        return PositionInterpolation(p["factor"])
    if kind == "dynamic":
        return DynamicNTK(p["factor"], longest)
    factor = p.get("factor") or (longest / original if kind in ("yarn", "longrope") else 1.0)
    if kind == "yarn":
        return YaRN(
            factor,
            original,
            beta_fast=p.get("beta_fast") or 32,
            beta_slow=p.get("beta_slow") or 1,
            mscale=p.get("mscale"),
            mscale_all_dim=p.get("mscale_all_dim"),
            attention_factor=p.get("attention_factor"),
            truncate=p.get("truncate", True),
        )
    if kind == "longrope":
        return LongRoPE(
            p["short_factor"], p["long_factor"], original, max(factor, 1.0), p.get("attention_factor")
        )
    if kind == "llama3":
        return Llama3(factor, p["low_freq_factor"], p["high_freq_factor"], original)
    part, interpolation = PRoPE(p.get("partial_rotary_factor", 1.0)), PositionInterpolation(factor)
    return lambda freqs, length: interpolation(part(freqs, length)[0], length)


def model_layout(config: Any) -> Layout:
    """Layout of the weights that models of this config's type come with.

    Raises:
        ValueError: if the model type is not one whose code was read.
    """
    if config.model_type not in _HALF | _INTERLEAVED:
        known = f"interleaved {sorted(_INTERLEAVED)} and half {sorted(_HALF)}"
        raise ValueError(f"layout must be given for model type {config.model_type!r}; known are {known}")
    return "interleaved" if config.model_type in _INTERLEAVED else "half"


def convert_layout(model: nn.Module, target: Layout, *, source: Layout | None = None) -> nn.Module:
    """Reorder, in place and once, what feeds the rotation, so that the model fits a rotation of layout `target`.

    The rows of every query and key projection move, with their biases and with norms over a head; values stay. It
    knows `q_proj` and `k_proj` (Llama, Mistral, Qwen, GPT-J, …, grouped heads too) and the fused `query_key_value`
    of GPT-NeoX. The model's own rotation is still of the old layout: replace it by `rotary_embedding`.

    Args:
        model: a transformers model with a `config`.
        target: layout to convert to.
        source: layout it has; by default `model_layout(config)`.

    Returns:
        `model`.

    Raises:
        ValueError: if no projection is found, one has no whole number of heads, or the layers do not turn as many
            coordinates.
    """
    config: Any = model.config
    source = model_layout(config) if source is None else source
    types: list[Any] = _layer_types(config) or [None]
    head_dim, kinds = _head_dim(config), [_parameters(config, name) for name in types]
    widths = {
        head_dim if kind["rope_type"] == "proportional" else _rotary_dim(config, kind) for kind in kinds
    }
    if len(widths) > 1:
        raise ValueError(f"model must turn as many coordinates in every layer, got {sorted(widths)}")
    rotary_dim, found = widths.pop(), False
    for module in model.modules():
        for name, child in list(module.named_children()):
            if name in ("q_proj", "k_proj", "q_norm", "k_norm", "query_key_value"):
                found = True
                parts = 3 if name == "query_key_value" else 1
                for parameter in child.parameters(recurse=False):
                    _convert(parameter, parts, head_dim, source, target, rotary_dim)
    if not found:
        raise ValueError("model must have q_proj and k_proj, or query_key_value, somewhere; found neither")
    return model


@torch.no_grad()
def _convert(
    parameter: Tensor, parts: int, head_dim: int, source: Layout, target: Layout, rotary_dim: int
) -> None:
    """Rows (heads · parts · D, ...): of each head, the query and the key part, never the value, are reordered."""
    heads, uneven = divmod(parameter.shape[0], parts * head_dim)
    if uneven:
        rows = parameter.shape[0]
        raise ValueError(
            f"model must have whole heads of {parts}·{head_dim} rows in its projections, got {rows}"
        )
    split = parameter.view(heads, parts, head_dim, *parameter.shape[1:])
    turned = split[:, : max(parts - 1, 1)]
    turned.copy_(layouts.convert_layout(turned, source, target, rotary_dim=rotary_dim, axis=2))


def export_llama(model: RoFormer, folder: str | Path, *, vocab: Sequence[str] | None = None) -> list[Path]:
    """Write a model as a checkpoint that `transformers.LlamaForCausalLM.from_pretrained(folder)` loads.

    The weights keep their dtype. Those of an interleaved layout are reordered to the half layout of Llama. The logits
    there are those of here but for rounding, most of which comes from angles that transformers forms in float32.
    There is no tokenizer: `characters.json` lists the characters, that of token 0 first.

    Args:
        model: with the fields of `RoFormerConfig.llama`; sizes, base, layout, kv_heads, norm_eps and tied are free.
        folder: a new or empty one.
        vocab: the character of every token.

    Returns:
        The files.

    Raises:
        ValueError: naming the field in which the model is no Llama, or if the folder is not empty or `vocab` does
            not fit.
        ModuleNotFoundError: if safetensors is not installed.
        OSError: if a file cannot be written; none of them is left then.
    """
    save_file = checkpoint.require().torch.save_file
    c, position, folder = model.config, _llama_rotation(model), Path(folder)
    if vocab is not None and len(vocab) != c.vocab_size:
        raise ValueError(f"vocab must hold {c.vocab_size} characters, got {len(vocab)}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"folder must be new or empty, got {str(folder)!r}")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": str(model.embedding.weight.dtype).removeprefix("torch."),
        "vocab_size": c.vocab_size,
        "hidden_size": c.dim,
        "intermediate_size": c.ff_width,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads or c.heads,
        "head_dim": position.dim,
        "hidden_act": "silu",
        "max_position_embeddings": c.context,
        "rms_norm_eps": model.norm.eps,
        "rope_theta": position.base,  # where transformers 4 looks
        "rope_parameters": {"rope_type": "default", "rope_theta": position.base},
        "tie_word_embeddings": c.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,  # by default 1 and 2, which are characters here
        "eos_token_id": None,
    }
    texts = {"config.json": config} | ({} if vocab is None else {"characters.json": list(vocab)})
    files = [folder / "model.safetensors", *(folder / name for name in texts)]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save_file(_llama_tensors(model, position.layout), files[0], metadata={"format": "pt"})
        for name, content in texts.items():
            text = json.dumps(content, indent=1, ensure_ascii=False)
            (folder / name).write_text(text + "\n", encoding="utf-8")
    except BaseException:
        for file in files:
            file.unlink(missing_ok=True)
        raise
    return files


def _llama_rotation(model: RoFormer) -> RotaryEmbedding:
    """The rotation of a model that is a Llama; any other is refused."""
    config, position = model.config, model.position
    if type(position) is not RotaryEmbedding:
        raise ValueError(f"position must be 'rope' in a Llama, got a model with {type(position).__name__}")
    for name, wanted in _LLAMA.items():
        if (got := getattr(config, name)) != wanted:
            raise ValueError(f"{name} must be {wanted!r} in a Llama, got {got!r}")
    if position.dim != (head_dim := config.dim // config.heads):
        raise ValueError(
            f"rotary_dim must be {head_dim}, that is a whole head, in a Llama, got {position.dim}"
        )
    for name in ("scaling", "custom_freqs", "learned_freqs", "heads"):  # of an encoding given to the model
        if getattr(position, name) is not None:
            raise ValueError(f"position must turn as RotaryEmbedding({head_dim}) does, got one with {name}")
    return position


def _llama_tensors(model: RoFormer, layout: Layout) -> dict[str, Tensor]:
    names = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
    for layer in range(model.config.depth):
        names |= {
            f"blocks.{layer}.{ours}": f"model.layers.{layer}.{its}" for ours, its in _LLAMA_NAMES.items()
        }
    tensors = {}
    for name, parameter in model.named_parameters():
        ours, weight = name.removesuffix(".weight"), parameter.detach()
        if ours.endswith(("query", "key")):
            heads = len(weight) * model.config.heads // model.config.dim
            weight = layouts.convert_projection(weight, heads, layout, "half")
        tensors[f"{names[ours]}.weight"] = weight.contiguous()
    return tensors


_LLAMA = {
    "proportion": 1.0,
    "window": None,
    "causal": True,
    "qk_norm": False,
    "norm": "rms",
    "post_norm": False,
}
_LLAMA |= {"activation": "swiglu", "bias": False}
_LLAMA_NAMES = {
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "attention_norm": "input_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "feed_forward_norm": "post_attention_layernorm",
}

# layouts read in the model's own code; another model's must be said
_HALF = {
    "gemma",
    "gemma2",
    "gpt_neox",
    "llama",
    "mistral",
    "mixtral",
    "olmo2",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
}
_INTERLEAVED = {"codegen", "cohere", "cohere2", "glm", "glm4", "gptj", "helium", "roformer"}


def _layer_types(config: Any) -> list[str]:
    """The layer types that have rope parameters of their own; none where all layers share them."""
    parameters = getattr(config, "rope_parameters", None) or {}
    return sorted(name for name, value in parameters.items() if isinstance(value, Mapping))


def _parameters(config: Any, layer_type: str | None) -> Mapping[str, Any]:
    if layer_type is None and (types := _layer_types(config)):
        raise ValueError(f"layer_type must be one of {types}, got None")
    if layer_type is not None or getattr(config, "rope_parameters", None):
        parameters = dict(config.rope_parameters)
        if layer_type is not None:
            if layer_type not in parameters:
                raise ValueError(f"layer_type must be one of {sorted(parameters)}, got {layer_type!r}")
            parameters = dict(parameters[layer_type])
    else:  # older kinds of model keep the base, if any, beside the other fields
        parameters = {}
    parameters.setdefault("rope_type", parameters.get("type", "default"))
    if parameters.get("rope_theta") is None:
        parameters["rope_theta"] = getattr(config, "rope_theta", None) or 10_000.0
    if parameters["rope_type"] not in ROPE_TYPES:
        raise ValueError(f"rope_type must be one of {ROPE_TYPES}, got {parameters['rope_type']!r}")
    return parameters


def _head_dim(config: Any) -> int:
    if getattr(config, "text_config", None) is not None and not hasattr(config, "hidden_size"):
        raise ValueError(
            f"config must be of one transformer, such as its text_config, got {type(config).__name__}"
        )
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _rotary_dim(config: Any, parameters: Mapping[str, Any]) -> int:
    if getattr(config, "rotary_dim", None):
        return config.rotary_dim
    full = parameters["rope_type"] in ("proportional", "axial")
    return int(_head_dim(config) * (1.0 if full else parameters.get("partial_rotary_factor") or 1.0))
