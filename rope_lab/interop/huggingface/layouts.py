"""Which coordinates form a pair in the weights of each model type, read from the code of transformers 5.23."""

from __future__ import annotations

from typing import Any

from rope_lab.encodings import Layout
from rope_lab.interop.huggingface.families import HALF, INTERLEAVED, NEITHER, REORDERED, SWITCHED
from rope_lab.interop.huggingface.fields import field

RECORD = "rope_lab_layout"  # the field of a config, and the attribute of an attention, that says what they were made


def model_layout(config: Any) -> Layout:
    """The layout of the weights of models of this config's type.

    Some models of the interleaved layout return rotated heads in the order of the other one (DeepSeek-V3 and its
    relatives). Their scores are the same, so their layout is called interleaved.

    Args:
        config: a config of transformers 4 or 5, or the content of a `config.json` as a mapping or a namespace.

    Raises:
        ValueError: if the model type is not among those whose code was read, or its rotation has neither layout.
    """
    recorded: Layout | None = field(config, RECORD)
    if recorded is not None:
        return recorded
    kind = field(config, "model_type")
    if kind in NEITHER:
        raise ValueError(f"layout of model type {kind!r} is neither interleaved nor half: {NEITHER[kind]}")
    if kind not in HALF | INTERLEAVED | REORDERED:
        count = len(HALF | INTERLEAVED | REORDERED)
        raise ValueError(
            f"layout must be given for model type {kind!r}: it is not among the {count} whose code was read"
        )
    if kind in HALF or (kind in SWITCHED and field(config, "rope_interleave") is False):
        return "half"
    return "interleaved"
