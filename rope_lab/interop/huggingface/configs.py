"""Frequencies, attention factor and rotation of a config, read alike from every form in which configs come.

transformers 5 keeps everything in `rope_parameters`; transformers 4, and with it most files `config.json`, keep
`rope_theta`, `rope_scaling` and `partial_rotary_factor` side by side. Either may be an object, a namespace or a
mapping. If a field is missing that the code of the model type needs, or a key is there that the rope type does not use,
an error names it; nothing is replaced by a default or ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rope_lab import encodings
from rope_lab.encodings import (
    DynamicNTK,
    Layout,
    Llama3,
    LongRoPE,
    NTKAware,
    PositionInterpolation,
    PRoPE,
    RotaryEmbedding,
    Scaling,
    YaRN,
)
from rope_lab.interop.huggingface import families
from rope_lab.interop.huggingface.fields import check_single, describe, field, whole_number
from rope_lab.interop.huggingface.layouts import model_layout

ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional", "axial")


def rotary_embedding(
    config: Any, *, layout: Layout | None = None, layer_type: str | None = None, length: int | None = None
) -> RotaryEmbedding:
    """The rotation that a model of this config applies to its queries and keys.

    Args:
        config: a config of transformers 4 or 5, or the content of a `config.json` as a mapping or a namespace; of one
            transformer, such as the `text_config` of a model for text and images.
        layout: by default the layout of the model's weights, `model_layout(config)`.
        layer_type: which entry, if the config has one rotation per layer type.
        length: number of tokens that the sequence may have in all (for dynamic and longrope).

    Raises:
        ValueError: if the rope type is unknown, a parameter is missing, contradicts another or is one that the rope
            type does not use, positions have several coordinates (axial and M-RoPE, see `rope_lab.encodings.axial`),
            not all heads turn, or the layer type is missing.
    """
    p = _parameters(config, layer_type)
    kind = field(config, "model_type")
    if p.get("mrope_section") or kind in families.MROPE:
        raise ValueError(
            f"mrope_section must be absent where positions have one coordinate, got {p.get('mrope_section')} for "
            f"{describe(config)}: use rope_lab.encodings.RotaryEmbeddingND with mrope_frequencies, or with "
            "interleaved_mrope_frequencies where sections interleave"
        )
    if p["rope_type"] == "axial" or kind in families.GRIDS:
        raise ValueError(
            f"rope_type must be one for positions of one coordinate, but {describe(config)} turns by axial "
            "coordinates: use rope_lab.encodings.RotaryEmbeddingND"
        )
    if kind in families.OTHERWISE:
        raise ValueError(f"model type {kind!r} has no such rotation: {families.OTHERWISE[kind]}")
    dim, base = _rotary_dim(_layer(config, layer_type), p), p["rope_theta"]
    layout = model_layout(config) if layout is None else layout
    freqs = -encodings.frequencies(dim, base) if kind in families.BACKWARDS else None
    scale = scaling(config, layer_type)
    return RotaryEmbedding(dim, base=base, layout=layout, scaling=scale, freqs=freqs, length=length)


def frequencies(
    config: Any, *, length: int | None = None, layer_type: str | None = None
) -> tuple[Tensor, float]:
    """θ_i and attention factor of a config, equal to those of transformers' rotary module of that model type.

    The signs are theirs too: all θ_i are positive, although nanochat rotates by −θ_i (`rotary_embedding` does so).
    DINOv3 and Sapiens2 multiply by 2π and coordinates in [−1, 1].

    Args:
        config, layer_type: as `rotary_embedding`.
        length: number of tokens in the sequence; by default no more than the model was trained on.

    Returns:
        Float64 (dim/2,), for grids of patches (dim/4,) for each of the two axes; and the factor of cos and sin.

    Raises:
        ValueError: as `rotary_embedding`, or if the code of the model type changes the frequencies further.
    """
    p = _parameters(config, layer_type)
    if (kind := field(config, "model_type")) in families.CHANGED:
        raise ValueError(
            f"frequencies of model type {kind!r} are not those of its config: {families.CHANGED[kind]}"
        )
    dim = _rotary_dim(_layer(config, layer_type), p)
    freqs = encodings.frequencies(dim // 2 if _is_grid(config, p) else dim, p["rope_theta"])
    scale = scaling(config, layer_type)
    return (freqs, 1.0) if scale is None else scale(freqs, length or 1)


def scaling(config: Any, layer_type: str | None = None) -> Scaling | None:
    """The scaling of a config's rope type, one of `rope_lab.encodings`; None for "default" and "axial".

    Raises:
        ValueError: if the rope type is unknown, or naming the parameter that is missing.
    """
    p = _parameters(config, layer_type)
    kind: str = p["rope_type"]
    if kind in ("default", "axial"):
        return None
    if kind == "linear":
        return PositionInterpolation(p["factor"])
    if kind == "dynamic" and p.get("alpha"):
        return NTKAware(p["alpha"])
    if kind == "dynamic":
        return DynamicNTK(p["factor"], _longest(config))
    if kind == "proportional":
        part, interpolation = (
            PRoPE(p.get("partial_rotary_factor") or 1.0),
            PositionInterpolation(p.get("factor") or 1.0),
        )
        return lambda freqs, length: interpolation(part(freqs, length)[0], length)
    original: Any = p.get("original_max_position_embeddings") or _longest(config)
    if kind == "llama3":
        return Llama3(p["factor"], p["low_freq_factor"], p["high_freq_factor"], original)
    factor: Any = p.get("factor") or _longest(config) / original
    if kind == "yarn":
        fast, slow = p.get("beta_fast") or 32, p.get("beta_slow") or 1
        return YaRN(
            factor,
            original,
            beta_fast=fast,
            beta_slow=math.nextafter(slow, 0) if slow == fast else slow,  # a step instead of a ramp (Kimi K2)
            mscale=p.get("mscale"),
            mscale_all_dim=p.get("mscale_all_dim"),
            attention_factor=p.get("attention_factor"),
            truncate=p.get("truncate", True),
        )
    factors = p["short_factor"], p["long_factor"], original, max(factor, 1.0)
    if p.get("short_mscale") is None:
        return LongRoPE(*factors, p.get("attention_factor"))
    short, long = LongRoPE(*factors, p["short_mscale"]), LongRoPE(*factors, p["long_mscale"])
    return lambda freqs, length: (long if length > original else short)(freqs, length)


def rotated_dims(config: Any) -> list[int]:
    """How many coordinates of a head the layers turn, as far as the layout of their weights is concerned."""
    types: list[Any] = layer_types(config) or [None]
    widths = set()
    for name in types:
        p = _parameters(config, name)
        layer = _layer(config, name)
        widths.add(head_dim(layer) if p["rope_type"] == "proportional" else _rotary_dim(layer, p))
    return sorted(widths)


def layer_types(config: Any) -> list[str]:
    """The layer types that have rope parameters of their own; none where all layers share them."""
    new = field(config, "rope_parameters")
    if isinstance(new, Mapping) and new:
        return sorted(name for name, value in new.items() if isinstance(value, Mapping))
    apart = field(config, *_LOCAL_BASE) is not None
    if apart or (field(config, "model_type") in families.SLIDING_UNSCALED and field(config, "rope_scaling")):
        return ["full_attention", "sliding_attention"]
    return []


def head_dim(config: Any) -> int:
    """Coordinates of a head."""
    given = field(config, "head_dim", "kv_channels", "attention_head_dim", "qk_rope_head_dim")
    if given is not None:
        return given
    width = field(config, "hidden_size", "n_embd", "d_model")
    embed = field(config, "embed_dim")
    if embed is not None and embed != width:
        if not str(field(config, "model_type")).startswith("qwen2_vl"):
            raise ValueError(f"config must give hidden_size or embed_dim, got {width} and {embed}")
        width = embed  # there, hidden_size is the width of the text model
    if width is None:
        raise ValueError(f"config must give head_dim or hidden_size, got neither in {describe(config)}")
    heads = whole_number(config, "num_attention_heads", "n_head", "n_heads", "num_heads")
    if width % heads:
        raise ValueError(f"hidden_size must be a multiple of the {heads} heads without head_dim, got {width}")
    return width // heads


def _parameters(config: Any, layer_type: str | None) -> dict[str, Any]:
    """The rope parameters of one layer type, under the names of transformers 5, checked."""
    check_single(config)
    _check_rotates(config)
    types = layer_types(config)
    if types and layer_type not in types:
        raise ValueError(f"layer_type must be one of {types}, got {layer_type!r}")
    if not types and layer_type is not None:
        raise ValueError(f"layer_type must be None where all layers rotate alike, got {layer_type!r}")
    new = field(config, "rope_parameters")
    p = _of_version_5(config, new, layer_type) if new else _of_version_4(config, layer_type)
    kinds = {
        RENAMED.get(kind, kind) for key in ("rope_type", "type") if (kind := p.pop(key, None)) is not None
    }
    if len(kinds) > 1:
        raise ValueError(f"rope_type must be the same as type, got {sorted(kinds)}")
    p["rope_type"] = kinds.pop() if kinds else "default"
    if p["rope_type"] not in ROPE_TYPES:
        raise ValueError(f"rope_type must be one of {ROPE_TYPES}, got {p['rope_type']!r}")
    _check_keys(config, p)
    return p


def _of_version_5(config: Any, new: Any, layer_type: str | None) -> dict[str, Any]:
    if not isinstance(new, Mapping):
        raise ValueError(f"rope_parameters must be a mapping, got {type(new).__name__}")
    p = dict(new if layer_type is None else new[layer_type])
    old = field(config, "rope_scaling") or {}
    beside = {name: field(config, name) for name in ("rope_theta", "partial_rotary_factor")}
    beside |= old if isinstance(old, Mapping) and layer_type is None else {}
    for name, value in beside.items():
        if layer_type is None and value is not None and p.setdefault(name, value) != value:
            raise ValueError(
                f"{name} must be the same as in rope_parameters, {p[name]!r}, got {value!r} beside it"
            )
    if p.get("rope_theta") is None:
        raise ValueError(f"rope_theta must be given in rope_parameters, got {p}")
    return p


def _of_version_4(config: Any, layer_type: str | None) -> dict[str, Any]:
    old = field(config, "rope_scaling") or {}
    if not isinstance(old, Mapping):
        raise ValueError(f"rope_scaling must be a mapping, got {type(old).__name__}")
    kind, sliding = field(config, "model_type"), layer_type == "sliding_attention"
    p = {} if sliding else dict(old)
    base = field(config, *(_LOCAL_BASE if sliding else ()), *BASE)
    if base is None:
        base = p.get("rope_theta") or (10_000.0 if kind in families.BASE_IN_CODE else None)
    if base is None:
        raise ValueError(f"rope_theta must be given, got none in {describe(config)}")
    if p.setdefault("rope_theta", base) != base:
        raise ValueError(f"rope_theta must be the same as in rope_scaling, {p['rope_theta']!r}, got {base!r}")
    part = field(config, "partial_rotary_factor", "rotary_pct")
    if (
        part is None
        and kind in families.PARTIAL
        and field(config, "rotary_dim") is None
        and kind not in families.WHOLE_BY_DEFAULT
    ):
        raise ValueError(f"partial_rotary_factor must be given for model type {kind!r}, got None")
    if part is not None:
        p["partial_rotary_factor"] = part
    original = field(config, "original_max_position_embeddings")
    if original is not None and p.get("rope_type", p.get("type")) in ("longrope", "su", "yarn", "llama3"):
        p["original_max_position_embeddings"] = original
        if p.get("rope_type", p.get("type")) in ("longrope", "su"):
            p["factor"] = _longest(config) / original
    return p


def _check_keys(config: Any, p: Mapping[str, Any]) -> None:
    """Refuse keys that the rope type does not use, and name those it needs."""
    rope_type, kind = p["rope_type"], field(config, "model_type")
    allowed = EVERYWHERE | OPTIONAL.get(rope_type, set()) | set(NEEDED.get(rope_type, ()))
    needed = NEEDED.get(rope_type, ())
    if rope_type == "dynamic" and str(kind).startswith("hunyuan"):
        allowed, needed = allowed | HUNYUAN, needed if not p.get("alpha") else ("alpha",)
    if rope_type == "longrope" and kind == "phimoe":
        allowed, needed = allowed | PHIMOE, (*needed, *sorted(PHIMOE))
    for name, value in p.items():
        if value is not None and name not in allowed and not (name == "factor" and value == 1):
            raise ValueError(
                f"{name} must be absent for rope_type {rope_type!r} in {describe(config)}, got {value!r}"
            )
    for name in needed:
        if p.get(name) is None:
            raise ValueError(f"{name} must be given for rope_type {rope_type!r}, got None")
    part = p.get("partial_rotary_factor") or 1.0
    known = families.HALF | families.INTERLEAVED | families.REORDERED
    if rope_type in ("default", "axial") and part != 1 and kind in known - families.PARTIAL:
        raise ValueError(
            f"partial_rotary_factor must be 1 for model type {kind!r}, whose code turns whole heads, got {part}"
        )
    if field(config, "rope_scaling_layers") is not None and rope_type != "default":
        raise ValueError("rope_scaling_layers must be absent: only some of the layers would be scaled")


def _check_rotates(config: Any) -> None:
    for name in ("position_embedding_type", "position_embeddings_type"):
        if (value := field(config, name)) not in (None, "rope", "rotary"):
            raise ValueError(f"{name} must be 'rope' or 'rotary', got {value!r}")
    for name, wanted in (("alibi", False), ("use_mem_rope", True)):
        if field(config, name) is (not wanted):
            raise ValueError(f"{name} must be {wanted} in a config with a rotation, got {not wanted}")


def _rotary_dim(config: Any, p: Mapping[str, Any]) -> int:
    size, part = head_dim(config), p.get("partial_rotary_factor")
    if p["rope_type"] in ("proportional", "axial"):
        return size
    turned = int(size * (part or 1.0))
    new = bool(field(config, "rope_parameters"))
    for name in ("rotary_dim", "qk_rope_head_dim"):
        given = field(config, name)
        if given and given != turned and (new or part is not None):
            raise ValueError(f"{name} must be {turned}, {part or 1.0} of a head of {size}, got {given}")
        turned = given or turned
    return turned


def _is_grid(config: Any, p: Mapping[str, Any]) -> bool:
    return p["rope_type"] == "axial" or field(config, "model_type") in families.TWO_HALVES


def _layer(config: Any, layer_type: str | None) -> Any:
    """The config of one layer, where layers differ in more than their rope parameters (Gemma 4)."""
    if layer_type is None:
        return config
    if not isinstance(config, Mapping):
        return config.per_layer_config[layer_type] if getattr(config, "is_heterogeneous", False) else config
    if layer_type == "full_attention" and config.get("global_head_dim") is not None:
        return {**config, "head_dim": config["global_head_dim"]}
    apart, types = config.get("per_layer_config") or {}, config.get("layer_types") or []
    if apart and not types:
        raise ValueError(f"layer_types must be given where per_layer_config is, got {types!r}")
    own = [apart[index] for index in sorted(apart, key=int) if types[int(index)] == layer_type]
    return {**config, **own[0]} if own else config


def _longest(config: Any) -> int:
    return whole_number(config, "max_position_embeddings", "n_positions", "max_seq_len")


NEEDED = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
_YARN = {
    "factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "finetuned",
}
OPTIONAL = {"yarn": _YARN, "longrope": {"factor", "attention_factor"}, "proportional": {"factor"}}
EVERYWHERE = {  # the last two scale queries or bound positions, not the angles
    *("rope_type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"),
    *("mrope_section", "mrope_interleaved", "interleaved", "llama_4_scaling_beta", "max_position_embeddings"),
}
HUNYUAN = {"alpha", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"}
PHIMOE = {"short_mscale", "long_mscale"}
RENAMED = {"mrope": "default", "su": "longrope"}
BASE = ("rope_theta", "rotary_emb_base", "global_rope_theta", "rotary_embedding_base")
_LOCAL_BASE = ("rope_local_base_freq", "local_rope_theta")
