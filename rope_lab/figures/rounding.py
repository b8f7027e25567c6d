"""The moving figure of chapter 8: one pair in three number types, two sliders, no library and no network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import HTML

TYPES = {"bfloat16": 8, "float16": 11, "float32": 24}  # significant binary digits of each
POSITIONS = (0, *(round(10 ** (k / 8)) | 1 for k in range(8, 57)))  # odd, from 11 to 10,000,001
PAIRS = 64  # of a head of 128 coordinates with base 10,000
LARGEST = 65_504  # of float16
START = 17  # the place in POSITIONS that is drawn before anything moves
LENGTH = 88  # of a hand, in units of the drawing


def rounding() -> HTML:
    """Three clocks with an exact hand and a rounded one. Without JavaScript they show one position and do not move."""
    from IPython.display import HTML

    return HTML(_page())


def rounded(x: float, digits: int) -> float:
    """x with so many significant binary digits, to nearest, ties to even; inf above the range of float16."""
    if math.isinf(x):
        return x
    fraction, exponent = math.frexp(x)
    value = math.ldexp(round(math.ldexp(fraction, digits)), exponent - digits)
    return math.inf if digits == TYPES["float16"] and value > LARGEST else value


def off(position: int, pair: int, digits: int) -> float:
    """Degrees from the exact hand to the one whose position, frequency and product are rounded; nan if it overflows."""
    theta = 10_000.0 ** (-pair / PAIRS)
    angle = rounded(rounded(position, digits) * rounded(theta, digits), digits)
    if math.isinf(angle):
        return math.nan
    return math.degrees(math.remainder(angle - position * theta, math.tau))


def _clock(name: str, digits: int) -> str:
    exact = math.degrees(POSITIONS[START])  # of pair 0, whose frequency is 1
    at, error = -exact % 360, off(POSITIONS[START], 0, digits)
    ticks = "".join(
        f'<line class="tick" y1="-96" y2="-102" transform="rotate({a})"/>' for a in range(0, 360, 30)
    )
    true = f'<line class="true" x2="{LENGTH}" transform="rotate({at:.2f})"/>'
    hand = f'<g class="hand" transform="rotate({at - error:.2f})"><line x2="{LENGTH - 9}"/>'
    hand += f'<path d="M{LENGTH} 0l-13 -6v12z"/></g>'
    label = f"Clock of {name}: an exact hand, dashed, and a rounded one."
    drawing = f'<circle r="102"/>{ticks}<path class="between"/>{hand}{true}'
    return f"""<figure data-digits="{digits}">
<svg viewBox="-108 -108 216 216" role="img" aria-label="{label}">{drawing}</svg>
<figcaption><b>{name}</b><br><span>off by {abs(error):.1f}°</span></figcaption></figure>"""


def _page() -> str:
    def slider(name: str, text: str, most: int, value: int, shown: str) -> str:
        attributes = f'type="range" min="0" max="{most}" value="{value}" data-role="{name}"'
        said = f'<span>{text}<b aria-hidden="true">: {shown}</b></span>'  # the slider itself says its value
        return f'<label>{said}<input {attributes} aria-valuetext="{shown}"></label>'

    clocks = "".join(_clock(name, digits) for name, digits in TYPES.items())
    script = _SCRIPT.replace("__POSITIONS__", str(list(POSITIONS))).replace("__PAIRS__", str(PAIRS))
    script = script.replace("__LARGEST__", str(LARGEST)).replace("__LENGTH__", str(LENGTH))
    return f"""<div class="rope-round" data-fresh>{_STYLE}
<div class="clocks">{clocks}</div>
{slider("m", "position", len(POSITIONS) - 1, START, f"{POSITIONS[START]:,}")}
{slider("i", "pair", PAIRS - 1, 0, "0")}
<p aria-live="polite"></p>
</div>{script}"""


_STYLE = """<style>
.rope-round{--ground:#fcfcfa;--ink:#222;--faint:#8a8a8a;--hand:#b35900;--wedge:#d55e0033;
 margin:.5rem 0;padding:1rem;border-radius:6px;background:var(--ground);color:var(--ink);font-size:1rem;line-height:1.5}
html[data-theme=dark] .rope-round,html[theme=dark] .rope-round,body[data-jp-theme-light=false] .rope-round{
 --ground:#1d232a;--ink:#e8e8e8;--faint:#8f979f;--hand:#f0a830;--wedge:#d55e0066}
.text_html:has(.rope-round){background:none!important;padding:0!important;border:0!important}
.rope-round .clocks{display:flex;gap:.5rem;justify-content:center;margin-bottom:.6rem}
.rope-round figure{flex:1 1 0;min-width:0;max-width:13rem;margin:0;text-align:center}
.rope-round svg{width:100%;height:auto}
.rope-round figcaption{color:var(--ink);font-variant-numeric:tabular-nums;min-height:3em;font-size:1rem;line-height:1.4}
.rope-round circle{fill:none;stroke:var(--faint)}
.rope-round .tick{stroke:var(--faint)}
.rope-round .true{stroke:var(--ink);stroke-width:3;stroke-dasharray:6 5}
.rope-round .hand line{stroke:var(--hand);stroke-width:5}.rope-round .hand path{fill:var(--hand)}
.rope-round .between{fill:var(--wedge)}
.rope-round label{display:block;margin:0 0 .3rem}
.rope-round label span{display:block}
.rope-round input{width:100%;min-height:1.8rem;accent-color:var(--hand)}
.rope-round p{margin:.4rem 0 0;min-height:3em;font-variant-numeric:tabular-nums}
</style>"""

_SCRIPT = """<script>
document.querySelectorAll(".rope-round[data-fresh]").forEach(function (root) {
  root.removeAttribute("data-fresh");
  var positions = __POSITIONS__, pairs = __PAIRS__, largest = __LARGEST__, long = __LENGTH__, turn = 2 * Math.PI;
  function input(role) { return root.querySelector("[data-role=" + role + "]"); }
  function comma(n) { return String(n).replace(/\\B(?=(\\d{3})+$)/g, ","); }
  function round(x, digits) {  // to the nearest, and of two to the even one
    if (!x) return 0;
    var e = Math.floor(Math.log2(x));
    if (Math.pow(2, e) > x) e -= 1;
    var unit = Math.pow(2, e - digits + 1), whole = Math.floor(x / unit), rest = x / unit - whole;
    if (rest > 0.5 || (rest === 0.5 && whole % 2)) whole += 1;
    return digits === 11 && whole * unit > largest ? Infinity : whole * unit;
  }
  function draw() {
    var m = positions[+input("m").value], i = +input("i").value, theta = Math.pow(10000, -i / pairs);
    [["m", comma(m)], ["i", String(i)]].forEach(function (pair) {
      input(pair[0]).parentNode.querySelector("b").textContent = ": " + pair[1];
      input(pair[0]).setAttribute("aria-valuetext", pair[1]);
    });
    var exact = m * theta % turn, wave = turn / theta, said = [];
    root.querySelectorAll("figure").forEach(function (clock) {
      var digits = +clock.dataset.digits, name = clock.querySelector("b").textContent, at = round(m, digits);
      var angle = round(at * round(theta, digits), digits), hand = clock.querySelector(".hand");
      var lost = angle === Infinity, error = lost ? 0 : (angle - m * theta) % turn;
      error = error > Math.PI ? error - turn : error < -Math.PI ? error + turn : error;
      var text = lost ? "overflows" : "off by " + Math.abs(error * 360 / turn).toFixed(1) + "°";
      hand.style.display = lost ? "none" : "";
      hand.setAttribute("transform", "rotate(" + -(exact + error) * 360 / turn + ")");
      clock.querySelector(".true").setAttribute("transform", "rotate(" + -exact * 360 / turn + ")");
      var r = 0.4 * long, end = exact + error;
      clock.querySelector(".between").setAttribute("d", lost ? "" : "M0 0L" + r * Math.cos(exact) + " " +
        -r * Math.sin(exact) + "A" + r + " " + r + " 0 0 " + (error > 0 ? 0 : 1) + " " + r * Math.cos(end) + " " +
        -r * Math.sin(end) + "z");
      clock.querySelector("span").textContent = text;
      clock.querySelector("svg").setAttribute("aria-label", "Clock of " + name + ": " + text + ".");
      if (at !== m) said.push(name + (lost ? " cannot hold it" : " makes " + comma(at) + " of it"));
    });
    root.querySelector("p").textContent = "Pair " + i + " makes a full turn every " +
      comma(wave < 100 ? wave.toFixed(1) : Math.round(wave)) + " tokens. Position " + comma(m) +
      (said.length ? ": " + said.join(", ") + "." : " is exact in all three types.");
  }
  root.addEventListener("input", draw);
  draw();
});
</script>"""
