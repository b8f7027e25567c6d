"""One field of a config, whatever holds it: an object of transformers 4 or 5, a namespace, or a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def field(config: Any, *names: str) -> Any:
    """The first of these fields that is there and is not None; otherwise None.

    Raises:
        ValueError: if the field differs between the layers of the config.
    """
    for name in names:
        if isinstance(config, Mapping):
            value = config.get(name)
        else:
            try:
                value = getattr(config, name, None)
            except Exception as error:  # transformers raises its own kind where layers differ in the field
                raise ValueError(
                    f"config must have one {name} for all its layers: give layer_type, or the config of one layer, "
                    "config.per_layer_config[...]"
                ) from error
        if value is not None:
            return value
    return None


def whole_number(config: Any, *names: str) -> int:
    """The first of these fields that is there.

    Raises:
        ValueError: naming them, if none is there or the first is not a positive integer.
    """
    value = field(config, *names)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"config must give {' or '.join(names)} as a positive integer, got {value!r}")
    return value


def check_single(config: Any) -> None:
    """Refuse a config that only holds others, such as one for text and one for images."""
    inside = config if isinstance(config, Mapping) else getattr(config, "__dict__", {})
    parts = sorted(name for name, value in inside.items() if name.endswith("_config") and _is_config(value))
    texts = [name for name in parts if name in ("text_config", "llm_config", "thinker_config")]
    if texts or (parts and field(config, "hidden_size", "n_embd", "d_model") is None):
        one = (texts or parts)[0]
        raise ValueError(f"config must be of one transformer, such as its {one}, got {describe(config)}")


def _is_config(value: Any) -> bool:
    kind = value.get("model_type") if isinstance(value, Mapping) else getattr(value, "model_type", None)
    return not isinstance(value, type) and isinstance(kind, str)


def describe(config: Any) -> str:
    """What an error message calls a config."""
    kind = field(config, "model_type")
    return type(config).__name__ if kind is None else f"{type(config).__name__} of model type {kind!r}"
