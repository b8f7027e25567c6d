"""A pasted `config.json`: its spectrum beside its context, and what twice the context would take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rope_lab.atlas.kinds import checked
from rope_lab.atlas.lookup import FAMILIES
from rope_lab.atlas.spectrum import Spectrum
from rope_lab.encodings import Layout
from rope_lab.interop import huggingface
from rope_lab.interop.huggingface.configs import layer_types
from rope_lab.interop.huggingface.fields import field

PARTS = ("text_config", "llm_config", "thinker_config")
CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len")


@dataclass(frozen=True, eq=False)
class Reading:
    """What a config says about its rotation.

    Args:
        model_type: of the config, or of the part of it that reads text.
        part: the name of that part, if the config holds several.
        context: tokens that the config is for; None if it does not say.
        spectra: by layer type; under "" where all layers turn alike.
        layout: of the weights; None if unknown.
        missing: what could not be read, one sentence each.
        cache_bytes: of keys and values per token in bfloat16, if all layers keep them; None if a field is missing.
        cached: the numbers that `cache_bytes` is computed from, in words.
        like: names of the atlas's families with the same frequencies.
    """

    model_type: str | None
    part: str | None
    context: int | None
    spectra: Mapping[str, Spectrum]
    layout: Layout | None
    missing: tuple[str, ...]
    cache_bytes: int | None
    cached: str
    like: tuple[str, ...]

    def report(self) -> str:
        """The reading as text of a few lines."""
        part = f" (its {self.part})" if self.part else ""
        context = f"{self.context:,} tokens" if self.context else "unknown"
        lines = [f"model type {self.model_type}{part}, layout {self.layout or 'unknown'}, context {context}"]
        if self.like:
            lines.append(f"frequencies as in {', '.join(self.like)}")
        for name, spectrum in self.spectra.items():
            lines += ["", *describe(spectrum, name)]
        if self.cache_bytes and self.context:
            total = self.cache_bytes * self.context / 2**30
            lines += [
                "",
                f"keys and values: {self.cached}, {self.cache_bytes:,} bytes per token in bfloat16; if every layer "
                f"keeps every token, {total:.2f} GiB for the context and {2 * total:.2f} GiB for twice the context, "
                "where full attention takes four times the products",
            ]
        return "\n".join([*lines, *(f"missing: {reason}" for reason in self.missing)])

    def as_dict(self) -> dict[str, Any]:
        """The reading as plain data, for JSON."""
        return {
            "model_type": self.model_type,
            "part": self.part,
            "context": self.context,
            "layout": self.layout,
            "cache_bytes": self.cache_bytes,
            "like": list(self.like),
            "missing": list(self.missing),
            "spectra": {name: plain(spectrum) for name, spectrum in self.spectra.items()},
        }


def read_config(config: Mapping[str, Any] | str | Path) -> Reading:
    """Read a config of transformers 4 or 5.

    Args:
        config: the content of a `config.json`, or the path of one.

    Raises:
        ValueError: if it is not a config, or its rotation cannot be read; the message says what is missing. A layout
            that is unknown, because the model type is, is no error: the reading says so.
    """
    if isinstance(config, str | Path):
        try:
            config = json.loads(Path(config).read_text(encoding="utf-8-sig"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"config must be a file of JSON, got {config!r}: {error}") from error
    if not isinstance(config, Mapping):
        raise ValueError(f"config must be a mapping, got {type(config).__name__}")
    part, config = _text(config)
    context = field(config, *CONTEXT)
    kind, missing, layout = field(config, "model_type"), [], None
    try:
        layout = huggingface.model_layout(config)
    except ValueError as error:
        missing.append(str(error))
    if context is None:
        missing.append(f"{' or '.join(CONTEXT)} must be given to compare wavelengths with a context")
    spectra: dict[str, Spectrum] = {}
    kinds: list[str | None] = [*layer_types(config)] or [None]
    for layer_type in kinds:
        freqs, factor = huggingface.frequencies(config, layer_type=layer_type, length=context)
        spectra[layer_type or ""] = Spectrum(freqs, context, factor)
    return Reading(kind, part, context, spectra, layout, tuple(missing), *_cache(config), _like(spectra))


def _text(config: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The part of a config that reads text, checked, and where it is."""
    path: list[str] = []
    while (
        inner := next((name for name in PARTS if isinstance(config.get(name), Mapping)), None)
    ) is not None:
        path.append(inner)
        config = config[inner]
    return ".".join(path) or None, checked(config)


def describe(spectrum: Spectrum, name: str = "", sees: int | None = None) -> list[str]:
    """Lines of text on one spectrum; `sees` as in `Spectrum.warnings`."""
    pairs = spectrum.wavelengths.numel()
    head = f"{name}: " if name else ""
    still = f", {spectrum.still} more do not" if spectrum.still else ""
    factor = f", cosine and sine times {spectrum.factor:.4g}" if spectrum.factor != 1 else ""
    lines = [
        f"{head}{pairs} pairs turn{still}; wavelengths {spectrum.fastest:,.1f} to {spectrum.slowest:,.0f} "
        f"tokens{factor}",
        *(f"  {warning}" for warning in spectrum.warnings(sees=sees)),
    ]
    if spectrum.context is None or sees is not None or not pairs:
        return lines
    cost = spectrum.doubling()
    lines.append(f"  twice the context, {cost.length:,} tokens:")
    lines.append(
        f"    as it is: {cost.new_angles} of {pairs} pairs reach angles that no distance in the context has"
    )
    lines.append(
        f"    position interpolation: no new angle, but neighbouring tokens are {cost.fastest_step:.3g} radians "
        f"apart in the fastest pair instead of {2 * cost.fastest_step:.3g}"
    )
    if cost.base_factor is None:
        return [
            *lines,
            "    NTK-aware and YaRN: they start from the powers of one base, which these frequencies are not",
        ]
    lines.append(
        f"    NTK-aware: the base times {cost.base_factor:.4g}; the fastest pair stays the same, the slowest is halved"
    )
    lines.append(
        f"    YaRN: {cost.kept} pairs of more than 32 turns stay the same, {cost.divided} of less than one are "
        f"halved, {cost.blended} are blended; cosine and sine times {cost.attention_factor:.4g}"
    )
    return lines


def plain(spectrum: Spectrum) -> dict[str, Any]:
    """One spectrum as plain data."""
    cost = None if spectrum.context is None else vars(spectrum.doubling())
    return {
        "pairs": spectrum.wavelengths.numel(),
        "still": spectrum.still,
        "fastest": spectrum.fastest,
        "slowest": spectrum.slowest,
        "unfinished": spectrum.unfinished,
        "attention_factor": spectrum.factor,
        "first_error": {
            str(dtype).removeprefix("torch."): spectrum.first_error(dtype)
            for dtype in (torch.bfloat16, torch.float16, torch.float32)
        },
        "warnings": list(spectrum.warnings()),
        "doubling": cost,
    }


def _like(spectra: Mapping[str, Spectrum]) -> tuple[str, ...]:
    mine = next((spectra[name] for name in ("", "full_attention") if name in spectra), None)
    if mine is None:
        return ()
    found = []
    for family in FAMILIES:
        theirs = family.spectrum
        same = theirs.freqs.shape == mine.freqs.shape and theirs.context == mine.context
        if same and torch.allclose(theirs.freqs, mine.freqs, rtol=1e-9, atol=0):
            found.append(family.name)
    return tuple(found)


def _cache(config: Any) -> tuple[int | None, str]:
    """Bytes per token, and what they are computed from."""
    layers = field(config, "num_hidden_layers", "n_layer", "n_layers")
    latent, turned = field(config, "kv_lora_rank"), field(config, "qk_rope_head_dim")
    if layers and latent and turned:
        return 2 * layers * (latent + turned), f"{layers} layers of {latent} + {turned} shared coordinates"
    queries = field(config, "num_attention_heads", "n_head", "n_heads")
    heads = field(config, "num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads") or queries
    if field(config, "multi_query") is True and field(config, "new_decoder_architecture") is not True:
        heads = 1  # Falcon 7B
    width = field(config, "hidden_size", "n_embd")
    size = field(config, "head_dim") or (width // queries if width and queries else None)
    if not (layers and heads and size):
        return None, ""
    return 4 * layers * heads * size, f"{layers} layers, {heads} heads of {size}"
