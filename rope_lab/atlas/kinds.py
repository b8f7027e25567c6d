"""The kind of value that each field of a pasted config must have, checked before anything is computed from it.

A JSON file may have "128" for 128, a list for a number or a length without end. The form of chapter 19 checks the same
tables in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_BASES = (
    *("rope_theta", "rotary_emb_base", "global_rope_theta", "rotary_embedding_base"),
    *("rope_local_base_freq", "local_rope_theta"),
)
_SHARES = ("partial_rotary_factor", "rotary_pct")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
OUTSIDE = {  # kind → names of fields of the config
    "name": ("model_type", "position_embedding_type", "position_embeddings_type", "rope_lab_layout"),
    "size": (
        *(
            "head_dim",
            "kv_channels",
            "attention_head_dim",
            "qk_rope_head_dim",
            "rotary_dim",
            "global_head_dim",
        ),
    ),
    "count": (
        *("max_position_embeddings", "n_positions", "max_seq_len", "original_max_position_embeddings"),
        *(
            "hidden_size",
            "n_embd",
            "d_model",
            "embed_dim",
            *_HEADS,
            "num_hidden_layers",
            "n_layer",
            "n_layers",
        ),
        *("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "kv_lora_rank"),
    ),
    "positive": _BASES,
    "share": _SHARES,
    "flag": ("alibi", "use_mem_rope", "rope_interleave", "multi_query", "new_decoder_architecture"),
    "mapping": ("rope_parameters", "rope_scaling", "per_layer_config"),
}
INSIDE = {  # the same of the parameters of a rotation
    "name": ("rope_type", "type"),
    "count": ("original_max_position_embeddings",),
    "positive": (
        *("rope_theta", "factor", "alpha", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor"),
        *("attention_factor", "short_mscale", "long_mscale"),
    ),
    "not negative": ("mscale", "mscale_all_dim"),
    "share": ("partial_rotary_factor",),
    "flag": ("truncate",),
    "list": ("short_factor", "long_factor"),
}
MOST = {"size": 65_536, "count": 10**8}
WANTED = {
    "name": "a string",
    "size": f"a positive integer of at most {MOST['size']}",
    "count": f"a positive integer of at most {MOST['count']}",
    "positive": "a positive number",
    "not negative": "a number that is not negative",
    "share": "a number above 0 and at most 8",  # EfficientLoFTR has 4, because a head has two axes there
    "flag": "true or false",
    "mapping": "a mapping",
    "list": "a list of positive numbers",
}


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config whose fields have the right kinds; a whole number may be written as 128.0.

    Raises:
        ValueError: naming the first field that has another kind.
    """
    found = _fields(config, OUTSIDE)
    for name in ("rope_parameters", "rope_scaling"):
        if found.get(name) is not None:
            inner = _fields(found[name], INSIDE)
            found[name] = {
                key: _fields(value, INSIDE) if isinstance(value, Mapping) else value
                for key, value in inner.items()
            }
    types = found.get("layer_types")
    if types is not None and not (isinstance(types, list | tuple) and all(isinstance(t, str) for t in types)):
        raise ValueError("layer_types must be a list of strings")
    apart = found.get("per_layer_config")
    if apart is not None:
        found["per_layer_config"] = {index: _layer(index, value, types) for index, value in apart.items()}
    return found


def _layer(index: Any, value: Any, types: Any) -> dict[str, Any]:
    if not (str(index).isascii() and str(index).isdigit()) or (types and int(index) >= len(types)):
        raise ValueError(f"per_layer_config must have numbers of layers as names, got {index!r}")
    if not isinstance(value, Mapping):
        raise ValueError(f"per_layer_config must hold mappings, got {value!r}")
    return _fields(value, OUTSIDE)


def _fields(config: Mapping[str, Any], table: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    found = dict(config)
    for kind, names in table.items():
        for name in names:
            value = found.get(name)
            if kind in MOST and isinstance(value, float) and value.is_integer() and abs(value) <= MOST[kind]:
                value = found[name] = int(value)
            if value is not None and not _is(kind, value):
                raise ValueError(f"{name} must be {WANTED[kind]}, got {value!r}")
    return found


def _is(kind: str, value: Any) -> bool:
    if kind in ("name", "flag", "mapping"):
        return isinstance(value, {"name": str, "flag": bool, "mapping": Mapping}[kind])
    if kind == "list":
        return isinstance(value, list | tuple) and all(_is("positive", one) for one in value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < math.inf:
        return False
    if kind in MOST:
        return isinstance(value, int) and 1 <= value <= MOST[kind]
    return value >= 0 if kind == "not negative" else 0 < value <= (8 if kind == "share" else math.inf)
