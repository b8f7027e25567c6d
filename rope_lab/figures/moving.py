"""What all moving figures share: a drawing beside its sliders, in the colours of the page, without library or network.

Each figure brings a drawing that is complete without JavaScript and a script that redraws it when a control moves.
The script becomes an ES module with the interface of anywidget, `render({model, el})`. The page runs it on the drawing
that is already there, with a model of a dozen lines; in a notebook the same text can be the `_esm` of a widget:

    import anywidget, traitlets

    figure = turning()
    traits = {name: traitlets.Any(value).tag(sync=True) for name, value in figure.state.items()}
    Clock = type("Clock", (anywidget.AnyWidget,), {"_esm": figure.module, **traits})
    clock = Clock()  # shows the figure; clock.m = 3 turns a hand, and a slider that moves changes clock.m
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

# --ground, --ink and --faint for everything; --q and --k for the two things that are told apart
_COLOURS = "--ground:#fcfcfa;--ink:#222;--faint:#8a8a8a;--q:#0072b2;--k:#b35900;"
_DARK = "--ground:#1d232a;--ink:#e8e8e8;--faint:#8f979f;--q:#56b4e9;--k:#f0a830;"


class Control(NamedTuple):
    """A slider or a menu: its name in the model, its value at first, and its HTML."""

    role: str
    value: int | str
    html: str


@dataclass(frozen=True, repr=False)
class Moving:
    """A moving figure; a notebook shows it by itself.

    Attributes:
        name: its class in a page.
        still: HTML of the drawing, its controls and its sentences, which needs no JavaScript.
        module: an ES module. It exports `numbers(values)`, what the figure shows, unrounded, and by default `render`.
        state: what `module` reads of its model: the values of the controls at first, and `still`.
    """

    name: str
    still: str
    module: str
    state: Mapping[str, int | str]

    @property
    def data(self) -> str:
        """All that a page needs: the drawing, and below it the module and the model of the page."""
        page = _PAGE.replace("__NAME__", self.name)
        return f'{self.still}<script type="module">\n{self.module}\n{page}</script>'

    def __repr__(self) -> str:
        return f"<moving figure {self.name}>"

    def _repr_html_(self) -> str:
        return self.data


def slider(role: str, text: str, value: int, last: int, first: int = 0, *, shown: str = "") -> Control:
    """A slider for whole numbers, with its value, or what it stands for, beside its name."""
    attributes = f'type="range" min="{first}" max="{last}" value="{value}"'
    attributes += f' aria-valuetext="{escape(shown)}"' if shown else ""
    said = f'{escape(text)}<b aria-hidden="true">: {shown or value}</b>'  # the slider itself says its value
    return Control(
        role, value, f'<label><span>{said}</span><input {attributes} data-role="{escape(role)}"></label>'
    )


def choice(role: str, text: str, options: Sequence[str], start: int = 0) -> Control:
    """A menu, of which option `start` is chosen at first."""
    menu = "".join(
        f"<option{' selected' if i == start else ''}>{escape(option)}</option>"
        for i, option in enumerate(options)
    )
    html = f'<label><span>{escape(text)}</span><select data-role="{escape(role)}">{menu}</select></label>'
    return Control(role, options[start], html)


def moving(
    name: str,
    drawing: str,
    controls: Sequence[Control],
    said: Sequence[str],
    script: str,
    *,
    box: str,
    label: str,
    style: str = "",
    dark: str = "",
) -> Moving:
    """A drawing with controls beside it and, below them, sentences that say what it shows.

    Args:
        name: class of the whole, which `style` may use.
        drawing: what the picture holds, SVG.
        controls: sliders and menus.
        said: the sentences that are there before a control moves; the script replaces them. The first one is read
            aloud at each change.
        script: JavaScript with two functions: `export function numbers(values)`, what the figure shows for the values
            of its controls, and `figure(root, input)`, which returns the function that draws such values. `root` is
            the whole figure, and `input(role)` gives a control.
        box: viewBox of the drawing.
        label: of the drawing before the script has run.
        style: rules besides the common ones.
        dark: what colours of the figure's own are on a dark page, as CSS variables.
    """
    read_aloud = ' aria-live="polite"'
    live = "".join(f"<p{read_aloud if i == 0 else ''}>{escape(text)}</p>" for i, text in enumerate(said))
    rules = _STYLE.replace("__DARK__", f"{_DARK}{dark}") + style
    still = f"""<div class="rope-moving {name}" data-fresh><style>{rules}</style>
<svg viewBox="{box}" role="img" aria-label="{escape(label, quote=True)}">{drawing}</svg>
<div class="side">
{chr(10).join(control.html for control in controls)}
{live}
</div></div>"""
    state = {control.role: control.value for control in controls}
    return Moving(name, still, f"{script.rstrip()}\n{_RENDER}", {**state, "still": still})


_RENDER = """function read(control) { return control.type === "range" ? +control.value : control.value; }
function render({model, el}) {
  if (!el.matches(".rope-moving")) el.innerHTML = model.get("still");
  const root = el.matches(".rope-moving") ? el : el.querySelector(".rope-moving");
  const controls = Array.from(root.querySelectorAll("[data-role]"));
  const redraw = figure(root, (role) => root.querySelector("[data-role=" + role + "]"));
  root.removeAttribute("data-fresh");
  function draw() {
    const values = {};
    for (const control of controls) {
      const value = values[control.dataset.role] = model.get(control.dataset.role);
      if (control.value !== String(value)) control.value = value;
      const shown = control.parentNode.querySelector("b");
      if (shown) shown.textContent = ": " + value;
    }
    redraw(values);
  }
  for (const control of controls) {
    control.addEventListener("input", () => {
      model.set(control.dataset.role, read(control));
      model.save_changes();
    });
    model.on("change:" + control.dataset.role, draw);
  }
  draw();
}
export default {render};"""

# the model of the page: the values of the controls, and who wants to know when one changes
_PAGE = """for (const el of document.querySelectorAll(".__NAME__[data-fresh]")) {
  const state = {}, told = {};
  for (const control of el.querySelectorAll("[data-role]")) state[control.dataset.role] = read(control);
  render({el, model: {
    get(name) { return state[name]; },
    set(name, value) { state[name] = value; told["change:" + name].forEach((draw) => draw()); },
    save_changes() {},
    on(event, draw) { (told[event] = told[event] || []).push(draw); },
  }});
}"""

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
@media print{.rope-moving label{display:none}}
"""
)
