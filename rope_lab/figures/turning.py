"""The moving figure of chapter 3: two hands on a clock, three sliders, no library and no network."""

from __future__ import annotations

import cmath
from math import degrees
from typing import TYPE_CHECKING

from rope_lab.figures.moving import moving, slider

if TYPE_CHECKING:
    from IPython.display import HTML

CONTROLS = {"m": "position of q", "n": "position of k", "t": "shift both by"}
STEP, LAST = 20, 12  # degrees per position; the largest position on a slider
QUERY, KEY = cmath.rect(88, 1.9), cmath.rect(70, 0.7)  # the hands at position 0, in units of the drawing


def turning() -> HTML:
    """Hands q and k that the reader turns by their positions. Without JavaScript the drawing does not move."""
    return moving(
        "rope-turn",
        _drawing(),
        [slider(role, text, 0, LAST) for role, text in CONTROLS.items()],
        ["", ""],
        _script(),
        box="-135 -135 270 270",
        label="Two hands on a clock, q and k.",
        style=_STYLE,
        dark="--wedge:#009e7366;",
    )


def _drawing() -> str:
    def hand(name: str, z: complex) -> str:
        tip, label = z.conjugate(), z.conjugate() * (1 + 16 / abs(z))  # y points down on a screen
        still = f'<line class="ghost" x2="{tip.real:.1f}" y2="{tip.imag:.1f}"/>'
        angle = -degrees(cmath.phase(z))
        arrow = f'<g class="hand {name}" transform="rotate({angle:.2f})"><line x2="{abs(z) - 9:.1f}"/>'
        arrow += f'<path d="M{abs(z):.1f} 0l-13 -6v12z"/></g>'
        return f'{still}{arrow}<text class="{name}" x="{label.real:.1f}" y="{label.imag:.1f}">{name}</text>'

    ticks = "".join(
        f'<line class="tick" y1="-116" y2="-122" transform="rotate({a})"/>' for a in range(0, 360, STEP)
    )
    return f'<circle r="122"/>{ticks}<path class="between"/>{hand("k", KEY)}{hand("q", QUERY)}'


def _script() -> str:
    script = _SCRIPT.replace("__STEP__", str(STEP))
    for name, z in (("__Q__", QUERY), ("__K__", KEY)):
        script = script.replace(name, f"[{abs(z):.4f},{cmath.phase(z):.6f}]")
    return script


_STYLE = """.rope-turn{--wedge:#009e7333}
.rope-turn circle{fill:none;stroke:var(--faint)}
.rope-turn .tick{stroke:var(--faint)}
.rope-turn .ghost{stroke:var(--faint);stroke-dasharray:4 4}
.rope-turn .hand line{stroke-width:4}
.rope-turn .q line{stroke:var(--q)}.rope-turn .q path,.rope-turn text.q{fill:var(--q)}
.rope-turn .k line{stroke:var(--k)}.rope-turn .k path,.rope-turn text.k{fill:var(--k)}
.rope-turn .between{fill:var(--wedge)}
.rope-turn p:last-child{min-height:1.5em}
"""

_SCRIPT = """  var step = __STEP__ * Math.PI / 180, hands = {q: __Q__, k: __K__};
  var pairs = {}, scores = {};
  var svg = root.querySelector("svg"), notes = root.querySelectorAll("p");
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
  }"""
