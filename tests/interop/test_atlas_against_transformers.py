"""Every row of the atlas against transformers' own rotary module, on random heads, and its config's defaults."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rope_lab import atlas
from rope_lab.atlas import Family
from rope_lab.encodings import LongRoPE, convert_layout
from rope_lab.interop import huggingface
from rope_lab.interop.huggingface.configs import head_dim
from rope_lab.interop.huggingface.fields import whole_number

HEADS, TOKENS = 4, 7
APPLY = ("apply_rotary_emb", "apply_rotary_pos_emb_interleave", "apply_rotary_pos_emb")
ROWS = {row.name: row for row in atlas.FAMILIES}


def classes(row: Family) -> tuple[type, Any]:
    """The config class of a row's model type, and the module of its code."""
    config = None
    try:
        config = CONFIG_MAPPING[row.model_type]
    except KeyError:  # a part of a model has no entry of its own
        name = row.model_type.removesuffix("_text")
        module = importlib.import_module(f"transformers.models.{name}.configuration_{name}")
        config = next(c for c in vars(module).values() if getattr(c, "model_type", None) == row.model_type)
    return config, importlib.import_module(config.__module__.replace("configuration_", "modeling_"))


def config_of(row: Family) -> Any:
    """A small config with the numbers of a row."""
    cls, _ = classes(row)
    full = row.rotation().rope_parameters()
    given: dict[str, Any] = {
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "num_hidden_layers": 12,
    }
    given |= {"hidden_size": HEADS * row.head_dim, "max_position_embeddings": row.context or 2048}
    if row.model_type in ("gptj", "codegen"):
        return cls(n_embd=HEADS * row.head_dim, n_head=HEADS, n_positions=row.context, rotary_dim=row.rotated)
    if row.model_type == "roformer":
        return cls(**given, embedding_size=HEADS * row.head_dim)
    if row.decoupled:
        given |= {"qk_rope_head_dim": row.rotated, "qk_nope_head_dim": row.head_dim - row.rotated}
        if row.model_type == "mistral4":
            given["head_dim"] = row.head_dim
        else:
            full.pop("partial_rotary_factor")
            given["head_dim"] = row.rotated
    elif row.model_type != "falcon":
        given["head_dim"] = row.head_dim
    if row.model_type == "minimax_m3_vl_text":
        given["rotary_dim"] = row.rotated
    kinds = layer_types(row)
    if row.local is not None:
        local = row.local.rope_parameters()
        given["rope_parameters"] = {kinds[0]: full, kinds[1]: local}
        if row.model_type == "laguna":
            given["layer_types"] = [*kinds] * 6
        if row.local.head_dim != row.head_dim:
            given |= {"head_dim": row.local.head_dim, "global_head_dim": row.head_dim}
    elif row.model_type == "beam":
        given["rope_parameters"] = {"sliding_attention": full, "full_attention": None}
    else:
        given["rope_parameters"] = full
    if isinstance(row.scaling, LongRoPE):
        given["original_max_position_embeddings"] = row.scaling.original_length
    return cls(**given)


def layer_types(row: Family) -> list[str | None]:
    """Names of the layers of full attention and of the local ones."""
    if row.model_type == "beam":
        return ["sliding_attention"]
    return ["full_attention", "sliding_attention"] if row.local is not None else [None]


def table(row: Family, config: Any, positions: Tensor, layer_type: str | None) -> tuple[Tensor, ...]:
    """What transformers' rotary module makes of positions: cosine and sine, or one complex tensor."""
    _, module = classes(row)
    kinds = [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value) and "RotaryEmbedding" in name and value.__module__ == module.__name__
        and not re.search("Vision|Audio|Decoder.*Vision", name)
    ]  # fmt: skip
    (cls,) = kinds
    made = cls(config)
    x = torch.zeros(1, HEADS, TOKENS, 8)
    ids = positions[None].expand(3, 1, -1) if row.axes == 3 else positions[None]
    kwargs = {} if layer_type is None else {"layer_type": layer_type}
    found = made(x, ids, **kwargs)
    return found if isinstance(found, tuple) else (found,)


def turned(row: Family, x: Tensor, positions: Tensor, layer_type: str | None) -> Tensor:
    """Heads (1, H, N, D) turned by transformers' own code."""
    config, (_, module) = config_of(row), classes(row)
    last = int(positions.max()) + 1
    if row.model_type in ("gptj", "codegen"):
        sin, cos = module.create_sinusoidal_positions(last, row.rotated)[positions].chunk(2, -1)
        part = module.apply_rotary_pos_emb(x[..., : row.rotated].transpose(1, 2), sin[None], cos[None])
        return torch.cat((part.transpose(1, 2), x[..., row.rotated :]), -1)
    if row.model_type == "roformer":
        made = module.RoFormerSinusoidalPositionalEmbedding(last, row.head_dim)
        made.weight.data.copy_(made.create_weight())
        return module.RoFormerSelfAttention.apply_rotary_position_embeddings(
            made.weight[positions][None, None], x, x
        )[0]
    width = row.rotation(local=layer_type == "sliding_attention" and row.local is not None).dim
    start = x.shape[-1] - width if row.decoupled else 0
    head = x[..., start : start + width]
    found = table(row, config, positions, layer_type)
    name = next(name for name in APPLY if hasattr(module, name))
    function = getattr(module, name)
    if len(found) == 1:  # complex; Llama 4 wants (B, N, H, D)
        swapped = head.transpose(1, 2) if row.model_type == "llama4_text" else head
        out = function(swapped, swapped, found[0])[0]
        out = out.transpose(1, 2) if row.model_type == "llama4_text" else out
    elif len(inspect.signature(function).parameters) > 4:
        out = function(head, head, *found)[0]
    else:
        out = function(head, *found)
    if name.endswith("interleave"):  # it returns the heads in the order of the other layout
        out = convert_layout(out, "half", "interleaved")
    return x.slice_scatter(out, dim=-1, start=start, end=start + width)


@pytest.mark.parametrize("name", list(ROWS))
def test_a_row_turns_heads_as_transformers_does(name: str) -> None:
    row = ROWS[name]
    generator = torch.Generator().manual_seed(7)
    for kind, layer_type in enumerate(layer_types(row)):
        ours = row.rotary_embedding(local=bool(kind))
        width = row.rotation(local=bool(kind)).head_dim
        x = torch.randn(1, HEADS, TOKENS, width, generator=generator)
        starts = [(0, 1e-5), (900, 1e-3)]  # transformers forms angles in float32
        if isinstance(row.scaling, LongRoPE):
            starts.append((5000, 5e-3))  # beyond the length at which the long factors begin
        for start, tolerance in starts:
            positions = torch.arange(start, start + TOKENS)
            got, _ = ours(x, x, positions=positions, length=start + TOKENS)
            with torch.no_grad():
                theirs = turned(row, x, positions, layer_type)
            torch.testing.assert_close(got, theirs, rtol=0, atol=tolerance)
            assert (got - x).abs().max() > 0.1


@pytest.mark.parametrize("name", list(ROWS))
def test_a_config_with_the_numbers_of_a_row_is_read_as_that_row(name: str) -> None:
    row = ROWS[name]
    config = config_of(row)
    assert huggingface.model_layout(config) == row.layout
    for kind, layer_type in enumerate(layer_types(row)):
        ours, factor = row.rotation(local=bool(kind)).frequencies(row.context or 1)
        read, theirs = huggingface.frequencies(config, layer_type=layer_type, length=row.context)
        torch.testing.assert_close(read, ours, rtol=1e-12, atol=0)
        assert theirs == pytest.approx(factor, rel=1e-12)


DEFAULTS = [row.name for row in atlas.FAMILIES if row.source.kind == "class"]


@pytest.mark.parametrize("name", DEFAULTS)
def test_numbers_that_are_said_to_be_defaults_of_a_class_are(name: str) -> None:
    row = ROWS[name]
    cls, _ = classes(row)
    assert cls.__name__ == row.source.where
    config, elsewhere = cls(), dict(row.elsewhere)
    if row.model_type == "minimax_m3_vl_text":  # it keeps the turned coordinates in a field of its own
        assert config.rotary_dim == row.rotated
        config.rope_parameters["partial_rotary_factor"] = config.rotary_dim / config.head_dim
    for kind, layer_type in enumerate(layer_types(row)):
        rotation = row.rotation(local=bool(kind))
        if "scaling" in elsewhere:
            rotation = dataclasses.replace(rotation, scaling=None)
        ours, factor = rotation.frequencies(row.context or 1)
        read, theirs = huggingface.frequencies(config, layer_type=layer_type, length=row.context)
        torch.testing.assert_close(read, ours, rtol=1e-12, atol=0)  # base, share, scaling at once
        assert theirs == pytest.approx(factor, rel=1e-12)
        if not row.decoupled:
            one = (
                config.per_layer_config[layer_type] if getattr(config, "is_heterogeneous", False) else config
            )
            assert head_dim(one) == rotation.head_dim
    if row.decoupled:
        assert config.qk_nope_head_dim + config.qk_rope_head_dim == row.head_dim
    if row.context is not None and "context" not in elsewhere:
        assert whole_number(config, "max_position_embeddings", "n_positions") == row.context
    if row.window is not None:
        assert (getattr(config, "local_attention", None) or config.sliding_window) == row.window
    if row.chunk is not None:
        assert config.attention_chunk_size == row.chunk


def test_defaults_that_other_rows_take_from_a_class_are_defaults() -> None:
    names = ("max_position_embeddings",)
    for row in atlas.FAMILIES:
        for field, source in row.elsewhere:
            if source.kind == "class" and field == "context":
                module = {"DeepseekV32Config": "deepseek_v32", "Glm4MoeConfig": "glm4_moe"}[source.where]
                cls = getattr(importlib.import_module(f"transformers.models.{module}"), source.where)
                assert whole_number(cls(), *names) == row.context
            elif source.kind == "class":
                cls, _ = classes(row)
                assert (cls.__name__, field) == (source.where, "head_dim")
                assert head_dim(cls()) == row.head_dim


@pytest.mark.parametrize("name", [row.name for row in atlas.FAMILIES if row.without_rope])
def test_layers_without_positions_are_those_of_the_config(name: str) -> None:
    row = ROWS[name]
    config = classes(row)[0]()
    if row.without_rope == "every 4th":
        assert config.no_rope_layers[:8] == [1, 1, 1, 0, 1, 1, 1, 0]
    else:
        assert row.without_rope == "of full attention"
        assert config.rope_parameters["full_attention"] is None


@pytest.mark.parametrize(
    "name", [row.name for row in atlas.FAMILIES if (row.window or row.chunk) and row.local is None]
)
def test_a_family_is_limited_where_all_layers_that_turn_are(name: str) -> None:
    row = ROWS[name]
    config = classes(row)[0]()
    kinds = set(getattr(config, "layer_types", None) or [])
    if row.model_type == "llama4_text":
        kinds = {kind for kind, turns in zip(config.layer_types, config.no_rope_layers, strict=True) if turns}
    elif row.without_rope == "of full attention":
        kinds -= {"full_attention"}
    assert row.limited == ("full_attention" not in kinds)


def test_a_share_that_the_code_does_not_read_is_noted() -> None:
    """The doctor finds that MiniMax-M3 turns whole heads by default, whereas its class says 64 of 128."""
    row = ROWS["MiniMax-M3"]
    cos, _ = table(row, classes(row)[0](), torch.arange(2), None)
    assert (cos.shape[-1], row.rotated) == (row.head_dim, 64)
    assert "rotary_dim" in row.note
