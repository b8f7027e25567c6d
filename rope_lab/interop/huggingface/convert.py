"""The weights of a whole model carried from one layout to the other: first read and checked, then written."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, get_args

import torch
from torch import nn

from rope_lab import encodings
from rope_lab.encodings import Layout
from rope_lab.interop.huggingface.attentions import Reader, Rows, is_attention
from rope_lab.interop.huggingface.configs import rotated_dims
from rope_lab.interop.huggingface.fields import check_single, field
from rope_lab.interop.huggingface.layouts import RECORD, model_layout


def convert_layout(model: nn.Module, target: Layout, *, source: Layout | None = None) -> nn.Module:
    """Reorder, in place and once, the weights that feed the rotation, so that they fit a rotation of layout `target`.

    The rows of all query and key projections move, with their biases, their LoRA adapters and the norms over a head;
    values do not. Nothing is written before all attentions of the model have been read and understood. Afterwards the
    model's config (a copy of the one it had) and each attention keep a record of the new layout, which
    `model_layout` and the next conversion read, and which `save_pretrained` writes. The model's own rotation still has
    the old layout: replace it by `rotary_embedding`.

    Not everything that a model computes can be seen in its parameters. Model types that `model_layout` knows were tried
    one by one; for another type, given with `source`, the rotated coordinates must be the first ones of each head.

    Args:
        model: a model of transformers with a `config`, of one transformer: of a model for text and images, the part
            for text.
        target: layout to convert to.
        source: layout that the weights have; by default the recorded one, or else `model_layout(model.config)`.

    Returns:
        `model`.

    Raises:
        ValueError: naming the module, if an attention holds anything that is not understood, or its heads are not
            those of the config; if there is no attention; if layers turn different numbers of coordinates; if `source`
            contradicts the record. The model is unchanged then.
    """
    if target not in get_args(Layout):
        raise ValueError(f"target must be one of {get_args(Layout)}, got {target!r}")
    config: Any = getattr(model, "config", None)
    if config is None:
        raise ValueError(f"model must have a config, got {type(model).__name__} without one")
    check_single(config)
    attentions = list(_attentions(model, config))
    source = _source(config, attentions, source)
    widths = rotated_dims(config)
    if len(widths) > 1:
        raise ValueError(f"model must turn as many coordinates in every layer, got {widths}")
    reader = Reader(config, widths[0])
    found = [rows for name, module in attentions for rows in reader.read(name, module)]
    _check_once(model, found)
    if source != target:
        for rows in found:
            _move(rows, source, target)
    _record(model, config, [module for _, module in attentions], target)
    return model


def _attentions(model: nn.Module, config: Any) -> Iterator[tuple[str, nn.Module]]:
    """Every module with projections of queries or keys; none may belong to a part with a config of its own."""
    kind = field(config, "model_type")
    strangers = []
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "prompt_encoder":
            raise ValueError(f"model must not have {name}: it may hold keys that no projection makes")
        own = getattr(module, "config", None)
        if own is not None and own is not config and field(own, "model_type") not in (None, kind):
            strangers.append(f"{name}.")
        if not is_attention(module):
            continue
        if any(name.startswith(part) or name + "." == part for part in strangers):
            raise ValueError(f"model must have one config for all its attentions; {name} has another")
        yield name, module


def _source(config: Any, attentions: list[tuple[str, nn.Module]], source: Layout | None) -> Layout:
    if source is not None and source not in get_args(Layout):
        raise ValueError(f"source must be one of {get_args(Layout)}, got {source!r}")
    if not attentions:
        raise ValueError(
            "model must have projections of queries and keys, such as q_proj and k_proj; found none"
        )
    records = {getattr(module, RECORD, None) for _, module in attentions}
    if len(records) > 1:
        raise ValueError(
            f"model must be of one layout, but its attentions were converted to {sorted(map(str, records))}"
        )
    record: Any = records.pop() or field(config, RECORD)
    if record is not None and source not in (None, record):
        raise ValueError(f"source must be {record!r}, the layout this model was converted to, got {source!r}")
    return record or source or model_layout(config)


def _check_once(model: nn.Module, found: list[Rows]) -> None:
    """Every tensor moves as part of one module, and is not part of another."""
    owners: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), set()).add(name)
    storages: dict[int, str] = {}
    for rows in found:
        names = owners.get(id(rows.parameter), set())
        modules = {id(model.get_submodule(name.rpartition(".")[0])) for name in names}
        if len(modules) > 1 or len({name.rpartition(".")[2] for name in names}) > 1:
            raise ValueError(f"model must use {rows.name} once, but it is also {sorted(names - {rows.name})}")
        first = storages.setdefault(rows.parameter.data_ptr(), rows.name)
        if first != rows.name:
            raise ValueError(f"model must not share memory between {first} and {rows.name}")


@torch.no_grad()
def _move(rows: Rows, source: Layout, target: Layout) -> None:
    """Reorder the turned coordinates of each head, (…, heads·size, …) along the axis of the rows."""
    part = rows.parameter.data.narrow(rows.axis, rows.offset, rows.heads * rows.size)
    heads = part.unflatten(rows.axis, (rows.heads, rows.size)).narrow(rows.axis + 1, rows.start, rows.width)
    heads.copy_(encodings.convert_layout(heads, source, target, axis=rows.axis + 1))


def _record(model: nn.Module, config: Any, attentions: list[nn.Module], layout: Layout) -> None:
    """Say what was made, where a later conversion looks; another model that shares the config stays as it was."""
    mine = copy.deepcopy(config)
    if isinstance(mine, dict):
        mine[RECORD] = layout
    else:
        setattr(mine, RECORD, layout)
    for module in model.modules():
        if getattr(module, "config", None) is config:
            module.config = mine
    for module in attentions:
        setattr(module, RECORD, layout)
