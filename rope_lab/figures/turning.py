"""The moving figure of chapter 3: two hands on a clock, three sliders, no library and no network."""

from __future__ import annotations

import cmath
from math import degrees
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import HTML

STEP, LAST = 20, 12  # degrees per position; the largest position on a slider
QUERY, KEY = cmath.rect(88, 1.9), cmath.rect(70, 0.7)  # the hands at position 0, in units of the drawing


def turning() -> HTML:
    """Hands q and k that the reader turns by their positions. Without JavaScript the drawing does not move."""
    from IPython.display import HTML

    return HTML(_page())


def _page() -> str:
    def hand(name: str, z: complex) -> str:
        tip, label = z.conjugate(), z.conjugate() * (1 + 16 / abs(z))  # y points down on a screen
        still = f'<line class="ghost" x2="{tip.real:.1f}" y2="{tip.imag:.1f}"/>'
        angle = -degrees(cmath.phase(z))
        moving = f'<g class="hand {name}" transform="rotate({angle:.2f})"><line x2="{abs(z) - 9:.1f}"/>'
        moving += f'<path d="M{abs(z):.1f} 0l-13 -6v12z"/></g>'
        return f'{still}{moving}<text class="{name}" x="{label.real:.1f}" y="{label.imag:.1f}">{name}</text>'

    def slider(name: str, text: str, value: int) -> str:
        attributes = f'type="range" min="0" max="{LAST}" value="{value}" data-role="{name}"'
        said = f'<span>{text}<b aria-hidden="true">: {value}</b></span>'  # the slider itself says its value
        return f"<label>{said}<input {attributes}></label>"

    numbers = {
        "__STEP__": STEP,
        "__Q__": f"[{abs(QUERY):.4f},{cmath.phase(QUERY):.6f}]",
        "__K__": f"[{abs(KEY):.4f},{cmath.phase(KEY):.6f}]",
    }
    script = _SCRIPT
    for name, number in numbers.items():
        script = script.replace(name, str(number))
    ticks = "".join(
        f'<line class="tick" y1="-116" y2="-122" transform="rotate({a})"/>' for a in range(0, 360, STEP)
    )
    drawing = f'<circle r="122"/>{ticks}<path class="between"/>{hand("k", KEY)}{hand("q", QUERY)}'
    return f"""<div class="rope-turn" data-fresh>{_STYLE}
<svg viewBox="-135 -135 270 270" role="img" aria-label="Two hands on a clock, q and k.">{drawing}</svg>
<div class="side">
{slider("m", "position of q", 0)}
{slider("n", "position of k", 0)}
{slider("t", "shift both by", 0)}
<p aria-live="polite"></p>
<p class="tally"></p>
</div></div>{script}"""


_STYLE = """<style>
.rope-turn{--ground:#fcfcfa;--ink:#222;--faint:#8a8a8a;--q:#0072b2;--k:#b35900;--wedge:#009e7333;
 display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;align-items:center;justify-content:center;margin:.5rem 0;padding:1rem;
 border-radius:6px;background:var(--ground);color:var(--ink);font-size:1rem;line-height:1.5}
html[data-theme=dark] .rope-turn,html[theme=dark] .rope-turn,body[data-jp-theme-light=false] .rope-turn{
 --ground:#1d232a;--ink:#e8e8e8;--faint:#8f979f;--q:#56b4e9;--k:#f0a830;--wedge:#009e7366}
.text_html:has(.rope-turn){background:none!important;padding:0!important;border:0!important}
.rope-turn svg{flex:0 1 17rem;min-width:13rem;width:100%;max-width:19rem;height:auto}
.rope-turn .side{flex:1 1 15rem;min-width:0}
.rope-turn circle{fill:none;stroke:var(--faint)}
.rope-turn .tick{stroke:var(--faint)}
.rope-turn .ghost{stroke:var(--faint);stroke-dasharray:4 4}
.rope-turn .hand line{stroke-width:4}
.rope-turn .q line{stroke:var(--q)}.rope-turn .q path,.rope-turn text.q{fill:var(--q)}
.rope-turn .k line{stroke:var(--k)}.rope-turn .k path,.rope-turn text.k{fill:var(--k)}
.rope-turn .between{fill:var(--wedge)}
.rope-turn text{font:bold 16px sans-serif;text-anchor:middle;dominant-baseline:central}
.rope-turn label{display:block;margin:0 0 .3rem}
.rope-turn label span{display:block}
.rope-turn input{width:100%;min-height:1.8rem;accent-color:var(--q)}
.rope-turn p{margin:.4rem 0 0;min-height:3em;font-variant-numeric:tabular-nums}
.rope-turn .tally{min-height:1.5em}
</style>"""

_SCRIPT = """<script>
document.querySelectorAll(".rope-turn[data-fresh]").forEach(function (root) {
  root.removeAttribute("data-fresh");
  var step = __STEP__ * Math.PI / 180, hands = {q: __Q__, k: __K__};
  var pairs = {}, scores = {};
  var svg = root.querySelector("svg"), notes = root.querySelectorAll("p");
  function input(role) { return root.querySelector("[data-role=" + role + "]"); }
  function place(name, angle) {
    var r = hands[name][0];
    root.querySelector(".hand." + name).setAttribute("transform", "rotate(" + -angle * 180 / Math.PI + ")");
    var label = root.querySelector("text." + name);
    label.setAttribute("x", (r + 16) * Math.cos(angle));
    label.setAttribute("y", -(r + 16) * Math.sin(angle));
  }
  function draw() {
    var t = +input("t").value;
    ["m", "n", "t"].forEach(function (role) {
      var value = +input(role).value, moved = role === "t" || !t ? value : value + " + " + t + " = " + (value + t);
      input(role).parentNode.querySelector("b").textContent = ": " + moved;
    });
    var m = +input("m").value + t, n = +input("n").value + t;
    var a = hands.q[1] + m * step, b = hands.k[1] + n * step;
    place("q", a);
    place("k", b);
    var open = Math.round((a - b) * 180 / Math.PI) % 360;
    open = open > 180 ? open - 360 : open <= -180 ? open + 360 : open;
    var end = b + open * Math.PI / 180;
    root.querySelector(".between").setAttribute("d", "M0 0L" + 40 * Math.cos(b) + " " + -40 * Math.sin(b) +
      "A40 40 0 0 " + (open > 0 ? 0 : 1) + " " + 40 * Math.cos(end) + " " + -40 * Math.sin(end) + "z");
    var score = (hands.q[0] * hands.k[0] * Math.cos(a - b) / 1e4).toFixed(2).replace(/^-0\\.00$/, "0.00");
    var text = "q at " + m + ", k at " + n + ", distance " + (m - n) + ". Angle from k to q: " + open +
      "°. Score: " + score + ".";
    text = text.replace(/-(?=\\d)/g, "−");
    notes[0].textContent = text;
    svg.setAttribute("aria-label", "Two hands on a clock. " + text);
    pairs[m + " " + n] = 1;
    scores[m - n + " " + score] = 1;
    var tried = Object.keys(pairs).length, found = Object.keys(scores);
    var distances = new Set(found.map(function (key) { return key.split(" ")[0]; })).size;
    notes[1].textContent = "Tried: " + tried + (tried > 1 ? " pairs of positions, " : " pair of positions, ") +
      distances + (distances > 1 ? " distances, " : " distance, ") +
      (found.length === distances ? "one score for each." : found.length + " scores.");
  }
  root.addEventListener("input", draw);
  draw();
});
</script>"""
