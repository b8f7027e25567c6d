"""What `rope-lab atlas` prints."""

from __future__ import annotations

import json
import math
from typing import Any

from rope_lab.atlas.family import Family, Rotation
from rope_lab.atlas.lookup import FAMILIES, find, rows, table
from rope_lab.atlas.reading import describe, read_config
from rope_lab.encodings import LongRoPE

_FIELDS = (*("base", "head_dim", "rotated", "scaling", "local", "window", "chunk", "axes", "context"),)


def answer(name: str | None = None, config: str | None = None, *, as_json: bool = False) -> str:
    """All families as a table, one family, or one config.

    Args:
        name: of a family.
        config: path of a `config.json`.
        as_json: the same as JSON; without a name or a config, a list of all families.

    Raises:
        ValueError: if both are given, the name is unknown, or the config cannot be read.
        OSError: if the file cannot be opened.
    """
    if name is not None and config is not None:
        raise ValueError(f"config cannot be combined with a name, got {config!r} and {name!r}")
    if config is not None:
        reading = read_config(config)
        return _json(reading.as_dict()) if as_json else reading.report()
    if name is not None:
        family = find(name)
        return _json(rows([family])[0]) if as_json else report(family)
    return _json(rows()) if as_json else f"{table()}\n\n{len(FAMILIES)} families; lengths in tokens"


def report(family: Family) -> str:
    """One family as text: its settings with their sources, its spectrum, and the cost of twice the context."""
    kind = f"model type {family.model_type}" if family.model_type else "not in transformers"
    traits = [kind, f"{family.layout} layout"]
    traits += ["decoupled coordinates (latent attention)"] if family.decoupled else []
    traits += ["turns backwards"] if family.backwards else []
    traits += [f"layers without RoPE: {family.without_rope}"] if family.without_rope else []
    lines = [f"{family.name} ({family.year}): {', '.join(traits)}"]
    sources: dict[str, list[str]] = {}
    for field in _FIELDS:
        value: Any = getattr(family, field)
        if value is None or (field == "axes" and value == 1):
            continue
        sources.setdefault(str(family.source_of(field)), []).append(field)
        lines.append(f"  {field:9} {_shown(family, field, value)}")
    lines += [f"  note      {family.note}"] if family.note else []
    lines += ["", *describe(family.spectrum, "full attention" if family.local else "", family.sees)]
    if family.local_spectrum is not None:
        local = family.local_spectrum
        lines.append(
            f"local layers: {local.wavelengths.numel()} pairs turn; wavelengths {local.fastest:,.1f} to "
            f"{local.slowest:,.0f} tokens beside a window of {family.window:,}"
        )
    return "\n".join([*lines, "", *(f"{', '.join(names)}: {source}" for source, names in sources.items())])


def _shown(family: Family, field: str, value: Any) -> str:
    if isinstance(value, Rotation):
        return f"base {value.base:,}, {value.dim} of {value.head_dim} coordinates"
    if field == "scaling":
        return family.scaling_name if isinstance(value, LongRoPE) else str(value)
    return f"{value:,}"


def _json(value: Any) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, indent=1)


def _finite(value: Any) -> Any:
    """Plain data without infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
