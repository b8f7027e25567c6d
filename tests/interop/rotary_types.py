"""Every attention of transformers that rotates, found by reading its modules, in a size that costs nothing."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from rope_lab import rotate
from rope_lab.encodings import convert_layout

TOKENS = 7  # no other size of the tensors here, so that it names the axis of tokens
SMALL = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 32,
    "vocab_size": 61,
    "attention_dropout": 0.0,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "qk_head_dim": 24,
    "v_head_dim": 16,
    "kv_lora_rank": 40,
    "q_lora_rank": 24,
    "embed_dim": 64,
    "num_kv_heads": 2,
    "n_embd": 64,
    "n_head": 4,
    "d_model": 64,
    "n_heads": 4,
    "kv_channels": 16,
    "attention_head_dim": 16,
}
LARGEST = 2_000_000  # parameters; what has more is not one attention in a small size
FOUR = {"num_key_value_heads": 4}
QSA = {"indexer_head_dim": 16, "indexer_n_heads": 4, "indexer_kv_heads": 2, "indexer_budget": 4}
QSA |= {"indexer_compress_ratio": 2}
EXTRA: dict[str, dict[str, Any]] = {  # what a model type needs beside the sizes above
    **dict.fromkeys(
        (
            "esmc",
            "dots3_note_audio_encoder",
            "nemotron3_5_transcribe_asr_audio",
            "nemotron3_diarization_audio",
        ),
        FOUR,
    ),
    "unlimited_ocr_text": FOUR,
    "sapiens2": {"num_key_value_heads_per_layer": [4] * 99},
    **{name: {"encoder_num_key_value_heads": 4, **FOUR} for name in ("moonshine", "moonshine_streaming")},
    "zamba2": {"use_mem_rope": True},
    "esm": {"position_embedding_type": "rotary"},
    **{
        name: {"position_embeddings_type": "rotary"}
        for name in ("wav2vec2-bert", "wav2vec2-conformer", "seamless_m4t")
    },
    "neucodec": FOUR,
    "xcodec2": FOUR,
    "qwen4_exp_text": QSA,
    "qwen2_5_omni_dit": {"_attn_implementation": "sdpa"},
    **{
        name: {"head_dim": 16, "num_key_value_heads": 2}
        for name in (
            "hunyuan_v1_dense",
            "hunyuan_v1_moe",
            "hunyuan_vl_text",
            "ministral",
            "nemotron",
        )
    },
}
HEADS = ("q", "k", "xq", "xk", "x", "tensor", "query", "key")
ROTATES = re.compile(r"^_?(vision_)?(apply_rot|rotate_every|rotate_queries)")


@cache
def modules() -> list[ModuleType]:
    """The modeling modules whose text mentions a rotation."""
    found = []
    for file in sorted(Path(transformers.__file__).parent.glob("models/*/modeling_*.py")):
        if re.search(r"apply_rot|rotate_half|Rotary|rotate_every|rotate_queries|inv_freq", file.read_text()):
            found.append(importlib.import_module(f"transformers.models.{file.parent.name}.{file.stem}"))
    return found


def classes(module: ModuleType) -> Iterator[type[nn.Module]]:
    for value in vars(module).values():
        if inspect.isclass(value) and value.__module__ == module.__name__ and issubclass(value, nn.Module):
            yield value


def used(module: ModuleType, cls: type[nn.Module]) -> list[str]:
    """Rotating functions that the methods of a class call."""
    names: set[str] = set()
    for base in cls.__mro__:
        if base.__module__ == module.__name__:
            for value in vars(base).values():
                function = inspect.unwrap(value) if callable(value) else value
                if inspect.isfunction(function):
                    names |= set(function.__code__.co_names)
    return sorted(name for name in names if ROTATES.match(name))


def configs(module: ModuleType, cls: type[nn.Module]) -> tuple[list[Any], list[Any]]:
    """Default configs that a class may be made of: those its signature names, and the others of its model."""
    named: list[Any] = []
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        for name, parameter in inspect.signature(base.__init__).parameters.items():
            if "config" in name:
                kind = parameter.annotation
                kind = getattr(module, kind.split(".")[-1], None) if isinstance(kind, str) else kind
                if inspect.isclass(kind) and kind is not inspect.Parameter.empty:
                    named.append(kind)
        break
    other = importlib.import_module(module.__name__.replace("modeling_", "configuration_"))
    mine = [v for v in vars(other).values() if inspect.isclass(v) and v.__module__ == other.__name__]
    return instances(named), instances([v for v in mine if getattr(v, "model_type", "")])


def instances(kinds: list[Any]) -> list[Any]:
    """One config of each kind, and those inside it."""
    found: dict[str, Any] = {}
    for kind in kinds:
        try:
            config = kind()
        except Exception:  # some only hold others and want them
            continue
        for one in [config, *(v for v in vars(config).values() if not isinstance(v, type))]:
            if getattr(one, "model_type", None) is not None:
                found.setdefault(one.model_type, one)
    return list(found.values())


def shrink(config: Any) -> Any:
    """The same config in a small size, as far as its fields go."""
    given, config._attn_implementation = config.to_dict(), "eager"
    for name, value in SMALL.items():
        if given.get(name) is not None:
            with suppress(Exception):  # a field that is computed from others
                setattr(config, name, value)
    for name, value in EXTRA.get(given.get("model_type", ""), {}).items():
        setattr(config, name, value)
    p = given.get("rope_parameters") or {}
    nested = [value for value in p.values() if isinstance(value, dict)]
    if given.get("qk_rope_head_dim") is not None:
        config.num_key_value_heads = 4
        if any("partial_rotary_factor" in one for one in [p, *nested]):
            for one in [config.rope_parameters, *config.rope_parameters.values()]:
                if isinstance(one, dict) and "partial_rotary_factor" in one:
                    one["partial_rotary_factor"] = 8 / 16
        else:
            config.head_dim = 8
    if given.get("rotary_dim") is not None:
        config.rotary_dim = int(16 * (p.get("partial_rotary_factor") or 1.0)) if p else 8
    if p.get("mrope_section"):
        config.rope_parameters["mrope_section"] = [2, 3, 3]
    if config.model_type == "mimo_v2_flash":
        for one in config.rope_parameters.values():
            one["partial_rotary_factor"] = 0.5
    if config.model_type == "cohere_compass_text":
        config.rope_parameters = {
            t: {"rope_type": "default", "rope_theta": 1e4} for t in set(config.layer_types)
        }
    if config.model_type == "dbrx":
        config.attn_config.rope_theta, config.attn_config.clip_qkv = 1e4, 8.0
    return config


def tables(f: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """The forms in which transformers hands on angles (1, N, R/2)."""
    both, each = torch.cat((f, f), -1), f.repeat_interleave(2, -1)
    return {
        "halves": (both.cos(), both.sin()),
        "each twice": (each.cos(), each.sin()),
        "once": (f.cos(), f.sin()),
        "complex": (torch.polar(torch.ones_like(f), f),),
    }


def arguments(function: Callable[..., Any], x: Tensor, table: tuple[Tensor, ...]) -> dict[str, Any]:
    """Arguments of a rotating function by their names."""
    given: dict[str, Any] = {}
    names = dict(zip(("cos", "sin") if len(table) == 2 else ("freqs_cis",), table, strict=True))
    for name, parameter in inspect.signature(function).parameters.items():
        if name in names:
            given[name] = names[name]
        elif name in ("freqs_ci",) and len(table) == 1:
            given[name] = table[0]
        elif name in HEADS:
            given[name] = x
        elif parameter.default is inspect.Parameter.empty and parameter.kind not in (
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        ):
            raise TypeError(f"unknown argument {name}")
    return given


@dataclass(frozen=True)
class Probe:
    """What a rotating function was seen to do: the form of its table and the pairs it turns."""

    form: str
    layout: str  # "half", "interleaved", "reordered" or "half, backwards"


def probe(function: Callable[..., Any]) -> Probe | None:
    """Which pairs a function turns, by comparing it with `rotate` on random heads; None if nothing fits."""
    f = torch.rand(1, TOKENS, 8, generator=torch.Generator().manual_seed(3)) * 3
    for shape in ((1, 4, TOKENS, 16), (1, TOKENS, 4, 16), (TOKENS, 4, 16)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(4))
        axis = shape.index(TOKENS)
        wanted = {kind: rotate(x, f[0], kind, axis=axis) for kind in ("half", "interleaved")}
        wanted["reordered"] = convert_layout(wanted["interleaved"], "interleaved", "half")
        wanted["half, backwards"] = rotate(x, -f[0], "half", axis=axis)
        for form, table in tables(f).items():
            for squeezed in (table, tuple(t[0] for t in table), tuple(t[:, None] for t in table)):
                try:
                    out = function(**arguments(function, x, squeezed))
                except Exception:  # another form, then
                    continue
                out = out[0] if isinstance(out, tuple) else out
                for layout, expected in wanted.items():
                    if out is not None and out.shape == x.shape and torch.allclose(out, expected, atol=1e-5):
                        return Probe(form, layout)
    return None


class Holder(nn.Module):
    """A model of one attention."""

    def __init__(self, attention: nn.Module, config: Any) -> None:
        super().__init__()
        self.attention, self.config = attention, config


def holders(module: ModuleType, cls: type[nn.Module], layer: int = 0) -> list[Holder]:
    """The attention in a small model, for each config it can be made of, with weights that all matter."""
    named, others = configs(module, cls)
    found = [holder for config in named if (holder := hold(cls, config, layer))]
    return found or [holder for config in others if (holder := hold(cls, config, layer))]


def hold(cls: type[nn.Module], config: Any, layer: int) -> Holder | None:
    """The attention of one small config, or None if it is not the config of this class."""
    needed, fields = inspect.signature(cls.__init__).parameters, shrink(config).to_dict()
    types = fields.get("layer_types") or ["full_attention"]
    options: dict[str, Any] = {"config": config, "atom_config": config, "layer_idx": layer, "kv_in_dim": 64}
    options |= {"layer_type": types[layer % len(types)], "num_heads": 4, "num_attention_heads": 4}
    options |= {
        "num_key_value_heads": fields.get("num_key_value_heads") or 4,
        "hidden_size": 64,
        "is_causal": True,
    }
    options = {name: value for name, value in options.items() if name in needed}
    torch.manual_seed(0)
    try:
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in cls(**options).parameters())
        if size > LARGEST:
            return None
        attention = cls(**options).eval()
    except Exception:  # this class is made of another config
        return None
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(
                torch.randn(parameter.shape) * parameter.shape[-1] ** -0.5 + (parameter.ndim == 1)
            )
    return Holder(attention, config)


def run(attention: nn.Module, table: tuple[Tensor, ...]) -> Tensor:
    """What an attention makes of random hidden states, with the angles of `table`."""
    names = inspect.signature(attention.forward).parameters
    flat = "cu_seqlens" in names
    width = next(m.in_features for m in attention.modules() if isinstance(m, nn.Linear))
    shape = (TOKENS, width) if flat else (1, TOKENS, width)
    if "Sam3ViT" in type(attention).__name__:  # (B, height, width, C)
        shape = (1, *shape)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    vision = any("vision" in name for name in type(attention).forward.__code__.co_names)
    table = tuple(t[0] for t in table) if flat or vision else table
    given: dict[str, Any] = {
        "hidden_states": x,
        "x": x,
        "position_embeddings": table if len(table) == 2 else table[0],
    }
    given |= {"attention_mask": torch.zeros(1, 1, TOKENS, TOKENS), "cu_seqlens": torch.tensor([0, TOKENS])}
    given |= {"position_ids": torch.arange(TOKENS)[None], "max_seqlen": TOKENS, "freqs_ci": table[0]}
    wanted = {
        name: given.get(name)
        for name, p in names.items()
        if name in given or (p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD)
    }
    with torch.no_grad():
        out = attention(**wanted)
    return out[0] if isinstance(out, tuple) else out


def replacement(function: Callable[..., Any], f: Tensor, layout: Any) -> Callable[..., Any]:
    """A function in place of a rotating one: the same heads turned by the angles (N, R/2), in pairs of `layout`."""

    def turn(*args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
        heads = [x for name, x in bound.items() if name in HEADS]
        out = tuple(rotate(x, f, layout, axis=tuple(x.shape).index(len(f))) for x in heads)
        return out if len(out) > 1 else out[0]

    return turn
