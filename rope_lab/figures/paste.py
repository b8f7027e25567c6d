"""The form of chapter 19: a `config.json` is pasted, and its spectrum and the cost of twice its context appear.

The page reads it by itself, without a network. Without JavaScript it shows one config that Python has read.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rope_lab.atlas import BOUND, FAMILIES, Family, Spectrum, find, kinds, read_config
from rope_lab.atlas.family import scaling_parameters
from rope_lab.atlas.reading import CONTEXT, PARTS
from rope_lab.figures.pasted import REPORT
from rope_lab.figures.pasted_config import READ
from rope_lab.interop.huggingface import ROPE_TYPES, configs, families, model_layout

if TYPE_CHECKING:
    from IPython.display import HTML

LLAMA_31: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
"""The rotary fields of Llama 3.1 8B, as transformers 4 writes them."""


def config_of(family: Family) -> dict[str, Any]:
    """The rotary settings of a family as transformers 5 writes them into a config.

    Raises:
        ValueError: if its local layers have heads of another size, for which a config has no one field.
    """
    rotation, local = family.rotation(), family.local
    if local is not None and local.head_dim != rotation.head_dim:
        raise ValueError(f"family must have heads of one size, got {family.name}")
    parameters = rotation.rope_parameters()
    if local is not None:
        parameters = {"full_attention": parameters, "sliding_attention": local.rope_parameters()}
    if family.decoupled:
        parameters.pop("partial_rotary_factor")
    size = {"qk_rope_head_dim": rotation.dim} if family.decoupled else {"head_dim": rotation.head_dim}
    context = {} if family.context is None else {"max_position_embeddings": family.context}
    return {"model_type": family.model_type, **size, **context, "rope_parameters": parameters}


def examples() -> dict[str, str]:
    """What the form offers, as the text of a config: one per kind of scaling, and two that lack something."""
    named = ("llama-2", "gpt-neox", "gpt-oss", "deepseek-v3", "gemma-3", "lfm3")
    found = {"Llama 3.1 8B": LLAMA_31} | {find(name).name: config_of(find(name)) for name in named}
    found["a model type that is not known"] = LLAMA_31 | {"model_type": "llama_of_tomorrow"}
    scaling = {name: value for name, value in LLAMA_31["rope_scaling"].items() if name != "low_freq_factor"}
    found["a scaling that lacks a number"] = LLAMA_31 | {"rope_scaling": scaling}
    return {name: json.dumps(config, indent=1) for name, config in found.items()}


def paste(config: Mapping[str, Any] = LLAMA_31) -> HTML:
    """A text area with a config, and below it its wavelengths and the lines of `rope_lab.atlas.Reading.report`.

    Args:
        config: what it shows at first, and without JavaScript.

    Raises:
        ValueError: if `config` cannot be read.
    """
    from IPython.display import HTML

    return HTML(_page(config))


def _page(config: Mapping[str, Any]) -> str:
    reading = read_config(config)
    drawn = "".join(_strip(name, spectrum) for name, spectrum in reading.spectra.items())
    said = "".join(
        f'<p class="by{(len(line) - len(line.lstrip())) // 2}">{html.escape(line.lstrip(), quote=False)}</p>'
        for line in reading.report().splitlines()
        if line
    )
    options = "".join(f"<option>{html.escape(name)}</option>" for name in examples())
    names = ("1 token", "1,000", "1,000,000", "10<sup>9</sup>")
    scale = "".join(f'<span style="left:{100 * i / 3:.1f}%">{text}</span>' for i, text in enumerate(names))
    scale += "<em>One mark per pair, at its wavelength. Tall marks do not finish a turn in the context (solid line); "
    scale += "the dashed line is twice the context.</em>"
    shown = html.escape(json.dumps(config, indent=1))
    script = (READ + REPORT).replace("__DATA__", json.dumps(_data(), ensure_ascii=True).replace("</", r"<\/"))
    return f"""<div class="rope-paste" data-fresh>{_STYLE}
<label>An example: <select disabled>{options}</select></label>
<label>A <code>config.json</code>:
<textarea rows="12" spellcheck="false" autocomplete="off" readonly>{shown}</textarea></label>
<p class="without">Without JavaScript this is one example.
<code>rope-lab atlas --config config.json</code> reads yours.</p>
<div class="drawn">{drawn}</div>
<div class="scale">{scale}</div>
<div class="said" aria-live="polite">{said}</div>
</div>{script}"""


def _strip(name: str, spectrum: Spectrum) -> str:
    """The wavelengths on a logarithmic axis from 1 to 10⁹ tokens, with the context and twice the context."""

    def at(tokens: float) -> str:
        return f"left:{min(max(100 * math.log10(tokens) / 9, 0), 100):.2f}%"

    waves, context = spectrum.wavelengths.tolist(), spectrum.context
    late = [' class="late"' if context and wave > context else "" for wave in waves]
    marks = "".join(f'<i style="{at(wave)}"{kind}></i>' for wave, kind in zip(waves, late, strict=True))
    edges = "".join(f'<b style="{at(length)}"></b>' for length in (context, 2 * context)) if context else ""
    said = f"{len(waves)} wavelengths{f' of {name}' if name else ''}"
    said += f", {spectrum.unfinished} of them beyond the context" if context else ""
    return f'<div class="strip" role="img" aria-label="{html.escape(said)}">{marks}{edges}</div>'


def _data() -> dict[str, Any]:
    """The tables that the script reads with."""
    known = families.HALF | families.INTERLEAVED | families.REORDERED
    lists = {
        "switched": families.SWITCHED,
        "partial": families.PARTIAL,
        "wholeByDefault": families.WHOLE_BY_DEFAULT,
        "baseInCode": families.BASE_IN_CODE,
        "slidingUnscaled": families.SLIDING_UNSCALED,
        "twoHalves": families.TWO_HALVES,
        "everywhere": configs.EVERYWHERE,
        "hunyuan": configs.HUNYUAN,
        "phimoe": configs.PHIMOE,
    }
    return {name: sorted(values) for name, values in lists.items()} | {
        "bound": BOUND,
        "outside": kinds.OUTSIDE,
        "inside": kinds.INSIDE,
        "wanted": kinds.WANTED,
        "most": kinds.MOST,
        "parts": PARTS,
        "base": configs.BASE,
        "layouts": {kind: model_layout({"model_type": kind}) for kind in sorted(known)},
        "neither": families.NEITHER,
        "changed": families.CHANGED,
        "ropeTypes": ROPE_TYPES,
        "renamed": configs.RENAMED,
        "needed": configs.NEEDED,
        "optional": {kind: sorted(names) for kind, names in configs.OPTIONAL.items()},
        "families": [
            {
                "name": row.name,
                "context": row.context,
                "base": row.base,
                "dim": row.rotation().dim,
                "parameters": scaling_parameters(row.scaling),
            }
            for row in FAMILIES
        ],
        "examples": examples(),
        "context": CONTEXT,
    }


_STYLE = """<style>
.rope-paste{--ground:#fcfcfa;--ink:#222;--faint:#767676;--turned:#0072b2;--late:#d55e00;
 margin:.5rem 0;padding:1rem;border-radius:6px;background:var(--ground);color:var(--ink);font-size:1rem;line-height:1.5}
html[data-theme=dark] .rope-paste,html[theme=dark] .rope-paste,body[data-jp-theme-light=false] .rope-paste{
 --ground:#1d232a;--ink:#e8e8e8;--faint:#8f979f;--turned:#56b4e9;--late:#f0a830}
.text_html:has(.rope-paste){background:none!important;padding:0!important;border:0!important}
.rope-paste label{display:block;margin:0 0 .5rem}
.rope-paste select{max-width:100%;font:inherit;color:inherit;background:var(--ground);border:1px solid var(--faint)}
.rope-paste textarea{display:block;box-sizing:border-box;width:100%;font:.85rem/1.4 monospace;color:inherit;
 background:var(--ground);border:1px solid var(--faint);border-radius:4px;padding:.5rem}
.rope-paste .strip{position:relative;height:3rem;margin:.75rem .5rem 0;border-bottom:1px solid var(--faint)}
.rope-paste .strip i{position:absolute;bottom:0;width:1.5px;height:1.4rem;margin-left:-1px;background:var(--turned)}
.rope-paste .strip i.late{height:2.2rem;background:var(--late)}
.rope-paste .strip b{position:absolute;top:0;bottom:0;border-left:2px solid var(--ink)}
.rope-paste .strip b+b{border-left-style:dashed}
.rope-paste .scale{position:relative;margin:0 .5rem .75rem;padding-top:1.6rem;font-size:.85rem}
.rope-paste .scale[hidden]{display:none}
.rope-paste .scale span{position:absolute;top:0;transform:translateX(-50%)}
.rope-paste .scale span:first-child{transform:none}
.rope-paste .scale span:nth-child(4){transform:translateX(-100%);white-space:nowrap}
.rope-paste .scale em{font-style:normal}
.rope-paste p{margin:.25rem 0 0;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.rope-paste .without[hidden]{display:none}
.rope-paste .by1{margin-left:1rem}
.rope-paste .by2{margin-left:2rem}
</style>"""
