"""What all moving figures share: a drawing beside its sliders, in the colours of the page, without library or network.

Each figure brings a drawing that is complete without JavaScript and a script that redraws it when a control moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import HTML

# --ground, --ink and --faint for everything; --q and --k for the two things that are told apart
_COLOURS = "--ground:#fcfcfa;--ink:#222;--faint:#8a8a8a;--q:#0072b2;--k:#b35900;"
_DARK = "--ground:#1d232a;--ink:#e8e8e8;--faint:#8f979f;--q:#56b4e9;--k:#f0a830;"


def slider(role: str, text: str, value: int, last: int, first: int = 0) -> str:
    """A slider for whole numbers, with its value beside its name; a script finds it by `data-role`."""
    attributes = f'type="range" min="{first}" max="{last}" value="{value}" data-role="{escape(role)}"'
    said = (
        f'<span>{escape(text)}<b aria-hidden="true">: {value}</b></span>'  # the slider itself says its value
    )
    return f"<label>{said}<input {attributes}></label>"


def choice(role: str, text: str, options: Sequence[str]) -> str:
    """A menu whose first option is chosen; a script finds it by `data-role`."""
    menu = "".join(f"<option>{escape(option)}</option>" for option in options)
    return f'<label><span>{escape(text)}</span><select data-role="{escape(role)}">{menu}</select></label>'


def moving(
    name: str,
    drawing: str,
    controls: Sequence[str],
    said: Sequence[str],
    script: str,
    *,
    box: str,
    label: str,
    style: str = "",
    dark: str = "",
) -> HTML:
    """A drawing with controls beside it and, below them, sentences that say what it shows.

    Args:
        name: class of the whole, which `style` may use.
        drawing: what the picture holds, SVG.
        controls: sliders and menus.
        said: the sentences that are there before a control moves; the script replaces them. The first one is read
            aloud at each change.
        script: the body of a function of `root`, the whole figure, and `input(role)`, which gives a control. It
            defines `draw()`, which is called at once and after each change.
        box: viewBox of the drawing.
        label: of the drawing before the script has run.
        style: rules besides the common ones.
        dark: what colours of the figure's own are on a dark page, as CSS variables.
    """
    from IPython.display import HTML

    read_aloud = ' aria-live="polite"'
    live = "".join(f"<p{read_aloud if i == 0 else ''}>{escape(text)}</p>" for i, text in enumerate(said))
    rules = _STYLE.replace("__DARK__", f"{_DARK}{dark}") + style
    return HTML(f"""<div class="rope-moving {name}" data-fresh><style>{rules}</style>
<svg viewBox="{box}" role="img" aria-label="{escape(label, quote=True)}">{drawing}</svg>
<div class="side">
{chr(10).join(controls)}
{live}
</div></div><script>
document.querySelectorAll(".{name}[data-fresh]").forEach(function (root) {{
  root.removeAttribute("data-fresh");
  function input(role) {{ return root.querySelector("[data-role=" + role + "]"); }}
{script}
  root.addEventListener("input", draw);
  draw();
}});
</script>""")


_STYLE = (
    """
.rope-moving{"""
    + _COLOURS
    + """
 display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;align-items:center;justify-content:center;margin:.5rem 0;padding:1rem;
 border-radius:6px;background:var(--ground);color:var(--ink);font-size:1rem;line-height:1.5}
html[data-theme=dark] .rope-moving,html[theme=dark] .rope-moving,body[data-jp-theme-light=false] .rope-moving{
 __DARK__}
.text_html:has(.rope-moving){background:none!important;padding:0!important;border:0!important}
.rope-moving svg{flex:0 1 17rem;min-width:13rem;width:100%;max-width:19rem;height:auto}
.rope-moving .side{flex:1 1 15rem;min-width:0}
.rope-moving text{font:bold 16px sans-serif;text-anchor:middle;dominant-baseline:central}
.rope-moving label{display:block;margin:0 0 .3rem}
.rope-moving label span{display:block}
.rope-moving input{width:100%;min-height:1.8rem;accent-color:var(--q)}
.rope-moving select{width:100%;min-height:1.8rem;font:inherit;color:inherit;background:var(--ground)}
.rope-moving p{margin:.4rem 0 0;min-height:3em;font-variant-numeric:tabular-nums}
"""
)
