"""A trained model in the page: `roformer.js` runs it in the browser, and the reader breaks its rotation.

Without JavaScript, and before the model is loaded, the page shows what rope_lab computed with each switch.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rope_lab.config import RoFormerConfig
from rope_lab.figures.switches import Switches, continued, losses_of
from rope_lab.figures.table import table
from rope_lab.model import RoFormer

if TYPE_CHECKING:
    from IPython.display import HTML, Markdown

SWITCHES = {
    "as trained": Switches(),
    "rotation off": Switches(off=True),
    "keys in the other layout": Switches(other_keys=True),
    "offset forgotten in the cache": Switches(forgotten=True),
    "values turned too": Switches(values=True),
    "base 100": Switches(base=100.0),
    "base 1,000,000": Switches(base=1e6),
    "linear interpolation, factor 4": Switches(scaling="linear"),
    "NTK-aware, factor 4": Switches(scaling="ntk"),
    "YaRN, factor 4": Switches(scaling="yarn"),
    "its frequencies only": Switches(scaling="yarn frequencies"),
    "its attention factor only": Switches(scaling="yarn factor"),
    "window of 8": Switches(window=8),
}
"""What the table shows, one switch at a time."""

FILE = "roformer_weights.js"  # where the book's Sphinx extension puts the weights
LONGEST = 512  # characters that a reader may type
WRITTEN = 40  # characters of each text in the table
_FIXED = {
    "position": "rope", "norm": "rms", "activation": "relu2", "qk_norm": True, "qk_gain": True, "bias": False,
    "tied": False, "causal": True, "post_norm": False, "rotary_dim": None, "window": None, "nope_every": None,
    "norm_eps": None, "proportion": 1.0, "base": 10_000.0,
}  # fmt: skip


def export(model: RoFormer, vocab: str) -> dict[str, Any]:
    """The model as `roformer.js` reads it: config, vocabulary, names and shapes, and float16 weights in base64.

    Raises:
        ValueError: if it is not a model like the one of chapter 13, or `vocab` has another size.
    """
    config = model.config
    kv_heads = config.kv_heads in (None, config.heads)
    if odd := [name for name, value in _FIXED.items() if getattr(config, name) != value]:
        raise ValueError(f"model must have {odd[0]}={_FIXED[odd[0]]!r}, got {getattr(config, odd[0])!r}")
    if not kv_heads:
        raise ValueError(f"model must have as many key heads as heads, {config.heads}, got {config.kv_heads}")
    if len(vocab) != config.vocab_size:
        raise ValueError(f"vocab must hold {config.vocab_size} characters, got {len(vocab)}")
    tensors = {name: p.detach().cpu() for name, p in model.named_parameters()}
    packed = b"".join(p.to(torch.float16).numpy().astype("<f2").tobytes() for p in tensors.values())
    return {
        "config": asdict(config),
        "vocab": vocab,
        "tensors": [[name, *p.shape] for name, p in tensors.items()],
        "weights": base64.b64encode(packed).decode(),
    }


def loaded(file: Mapping[str, Any]) -> RoFormer:
    """The model in what `export` wrote, its rounded weights in float32."""
    model = RoFormer(RoFormerConfig(**file["config"]))
    numbers = torch.frombuffer(bytearray(base64.b64decode(file["weights"])), dtype=torch.float16)
    sizes = [torch.Size(shape).numel() for _, *shape in file["tensors"]]
    parts = zip(file["tensors"], numbers.split(sizes), strict=True)
    model.load_parameters({name: part.view(shape).float() for (name, *shape), part in parts})
    return model.eval()


def twin() -> Markdown:
    """The JavaScript that runs the model in the page."""
    from IPython.display import Markdown

    return Markdown(f"```javascript\n{_script('roformer')}```")


def in_the_page(model: RoFormer, vocab: str, verse: str) -> HTML:
    """The model with its switches, and a table of what each of them does to the losses and the text.

    Args:
        model: like the one of chapter 13. Its weights are rounded to float16, for the table as well.
        vocab: its characters.
        verse: the text that is read at first, longer than the context of the model.

    Raises:
        ValueError: as in `export`, or if `verse` does not fit.
    """
    from IPython.display import HTML

    file = export(model, vocab)
    if not model.config.context + 1 < len(verse) <= LONGEST or set(verse) - set(vocab):
        raise ValueError(
            f"verse must have {model.config.context + 2} to {LONGEST} characters of vocab, got {verse!r}"
        )
    rows = reference(loaded(file), vocab, verse)
    file |= {"verse": verse, "rows": rows}
    return HTML(_page(file))


def reference(model: RoFormer, vocab: str, verse: str) -> list[dict[str, Any]]:
    """For each of `SWITCHES`: the switches, the mean losses within the context and after it, and how the text goes on.

    The first half of the verse counts as read at once, the rest as decoded one by one.
    """
    ids = torch.tensor([vocab.index(character) for character in verse])
    prompt, within = len(verse) // 2, model.config.context - 1
    rows = []
    for name, switches in SWITCHES.items():
        losses = losses_of(model, switches, ids, prompt)
        text = "".join(vocab[i] for i in continued(model, switches, ids, prompt, WRITTEN))
        rows.append(
            {
                "name": name,
                "switches": asdict(switches),
                "losses": [_mean(losses), _mean(losses[:within]), _mean(losses[within:])],
                "text": text,
            }
        )
    return rows


def _mean(losses: Tensor) -> float:
    return float(losses.mean())


def _script(name: str) -> str:
    return files("rope_lab.figures").joinpath(f"{name}.js").read_text("utf-8")


def _json(data: object) -> str:
    """JSON that no script element ends in."""
    return json.dumps(data, ensure_ascii=True).replace("</", r"<\/")


def _page(file: Mapping[str, Any]) -> str:
    context = file["config"]["context"]
    shown = table(
        [[row["name"], *row["losses"][1:], f"`{row['text']}`".replace("\n", "⏎")] for row in file["rows"]],
        {
            "switch": "", f"loss, first {context} characters": ".3f", "after them": ".3f",
            "how the text continues": "",
        },
        caption=f"One model, one verse of {len(file['verse'])} characters, and what each switch does to it. "
        "Each text is the likeliest one.",
    )  # fmt: skip
    return f"""<div class="rope-broken" data-fresh><style>{_STYLE}</style>
<p class="without">Without JavaScript the switches cannot be moved; the table shows what each of them does.</p>
<p><button type="button" class="load" hidden>Load the model and break it (0.6 MB)</button></p>
<div class="live" hidden>
<label>A verse, up to {LONGEST} characters:
<textarea rows="6" maxlength="{LONGEST}" spellcheck="false" autocomplete="off">{html.escape(file["verse"])}</textarea>
</label>
<fieldset><legend>The rotation</legend>{_controls()}</fieldset>
<p class="said" aria-live="polite"></p>
<p class="caption">The verse as the model reads it: the darker a character, the larger its loss.</p>
<div class="read" tabindex="0" role="region" aria-label="The verse, shaded by loss"></div>
<p class="dear"></p>
<div class="heads" tabindex="0" role="region" aria-label="Attention by head and distance"></div>
<p class="caption">How it continues, at temperature 0.8: <button type="button" class="again">another draw</button></p>
<div class="text" tabindex="0" role="region" aria-label="How the text continues"></div>
<p><button type="button" class="compare">Compute the table below in this browser</button></p>
<p class="equal" aria-live="polite"></p>
</div>
{shown._repr_html_()}</div>
<script type="application/json" class="rope-weights" data-file="{FILE}">{_json(dict(file))}</script>
<script>
{_script("roformer")}{_script("in_the_page")}</script>"""


def _controls() -> str:
    def menu(role: str, text: str, options: Mapping[str, str], chosen: str) -> str:
        items = "".join(
            f'<option value="{value}"{" selected" if value == chosen else ""}>{said}</option>'
            for value, said in options.items()
        )
        return f'<label>{text} <select data-role="{role}">{items}</select></label>'

    def box(role: str, text: str) -> str:
        return f'<label><input type="checkbox" data-role="{role}"> {text}</label>'

    bases = {f"{10**power}": f"{10**power:,}" for power in range(1, 8)}
    bases["10000"] += " (trained)"
    scalings = {
        "none": "none", "linear": "linear interpolation", "ntk": "NTK-aware", "yarn": "YaRN",
        "yarn frequencies": "YaRN, its frequencies only", "yarn factor": "YaRN, its attention factor only",
    }  # fmt: skip
    windows = {"": "none"} | {str(2**power): str(2**power) for power in range(8)}
    return "".join(
        [
            menu("base", "base", bases, "10000"),
            menu("scaling", "scaling", scalings, "none"),
            menu("factor", "factor of the scaling", {"2": "2", "4": "4", "8": "8"}, "4"),
            menu("window", "window", windows, ""),
            box("other_keys", "keys in the other layout"),
            box("forgotten", "offset forgotten in the cache"),
            box("values", "values turned too"),
            box("off", "rotation off"),
        ]
    )


_STYLE = """
.rope-broken{--ground:#fcfcfa;--ink:#222;--faint:#767676;--heat:213,94,0;--share:0,114,178;
 margin:.5rem 0;padding:1rem;border-radius:6px;background:var(--ground);color:var(--ink);font-size:1rem;line-height:1.5}
html[data-theme=dark] .rope-broken,html[theme=dark] .rope-broken,body[data-jp-theme-light=false] .rope-broken{
 --ground:#1d232a;--ink:#e8e8e8;--faint:#8f979f}
.text_html:has(.rope-broken){background:none!important;padding:0!important;border:0!important}
.rope-broken [hidden]{display:none}
.rope-broken label{display:block;margin:0 0 .4rem}
.rope-broken fieldset{border:1px solid var(--faint);border-radius:4px;padding:.5rem .75rem;margin:.5rem 0;min-width:0;
 display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));gap:0 1rem}
.rope-broken legend{float:none;width:auto;padding:0 .3rem;margin:0;font-size:1rem}
.rope-broken select,.rope-broken button{min-height:1.9rem;max-width:100%;font:inherit;color:inherit;
 background:var(--ground);border:1px solid var(--faint);border-radius:4px}
.rope-broken button{padding:.2rem .8rem;cursor:pointer}
.rope-broken input{width:1.2rem;height:1.2rem;vertical-align:-.2rem}
.rope-broken textarea,.rope-broken .read,.rope-broken .text{display:block;box-sizing:border-box;width:100%;
 font:.85rem/1.5 monospace;color:inherit;background:var(--ground);border:1px solid var(--faint);border-radius:4px;
 padding:.5rem;white-space:pre-wrap;overflow-wrap:anywhere;overflow-y:auto}
.rope-broken .text{height:9rem}
.rope-broken p{margin:.5rem 0}
.rope-broken .said{font-variant-numeric:tabular-nums;min-height:3em}
.rope-broken :is(.heads,.rope-table){overflow-x:auto}
.rope-broken .heads table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;margin:0}
.rope-broken .heads caption{caption-side:top;color:inherit;text-align:left;padding:0 0 .3rem;font-size:1rem}
.rope-broken .heads :is(th,td){padding:.1rem .4rem;text-align:right;border:0;font-weight:normal;color:inherit;
 white-space:nowrap}
"""
