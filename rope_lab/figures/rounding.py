"""The moving figure of chapter 8: one pair at one position, exact and rounded to a number type of choice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rope_lab.figures.moving import choice, moving, slider

if TYPE_CHECKING:
    from IPython.display import HTML

TYPES = {"bfloat16": 8, "float16": 11, "float32": 24}  # significant binary digits of each
POSITIONS = (0, *(round(10 ** (k / 8)) | 1 for k in range(8, 57)))  # odd, from 11 to 10,000,001
PAIRS = 64  # of a head of 128 coordinates with base 10,000
LARGEST = 65_504  # of float16
START = 17  # the place in POSITIONS that is drawn before anything moves
LENGTH = 88  # of a hand, in units of the drawing


def rounding() -> HTML:
    """A clock with an exact hand and a rounded one. Without JavaScript it shows bfloat16 at position 1,001."""
    start = slider("m", "position", START, len(POSITIONS) - 1)
    shown = f"{POSITIONS[START]:,}"
    start = start.replace(f": {START}<", f": {shown}<").replace(
        " data-role", f' aria-valuetext="{shown}" data-role'
    )
    script = _SCRIPT.replace("__POSITIONS__", str(list(POSITIONS))).replace("__PAIRS__", str(PAIRS))
    script = script.replace("__TYPES__", str(TYPES)).replace("__LARGEST__", str(LARGEST))
    return moving(
        "rope-round",
        _clock(POSITIONS[START], "bfloat16"),
        [choice("type", "number type", list(TYPES)), start, slider("i", "pair", 0, PAIRS - 1)],
        said(POSITIONS[START], 0, "bfloat16"),
        script.replace("__LENGTH__", str(LENGTH)),
        box="-110 -110 220 220",
        label="A clock with an exact hand, dashed, and a rounded one.",
        style=_STYLE,
        dark="--wedge:#d55e0066;",
    )


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


def said(position: int, pair: int, name: str) -> list[str]:
    """What the figure says of a position, a pair and the number type that was chosen."""
    wave, at = math.tau * 10_000.0 ** (pair / PAIRS), rounded(position, TYPES[name])
    kept = (
        "cannot hold it"
        if math.isinf(at)
        else f"makes {at:,.0f} of it"
        if at != position
        else "has it exactly"
    )
    turn = f"{wave:.1f}" if wave < 100 else f"{wave:,.0f}"
    errors = ((each, off(position, pair, digits)) for each, digits in TYPES.items())
    texts = (f"{each} {'overflows' if math.isnan(error) else f'{abs(error):.1f}°'}" for each, error in errors)
    return [
        f"Position {position:,}: {name} {kept}. Pair {pair} makes a full turn every {turn} tokens.",
        f"Off by: {', '.join(texts)}.",
    ]


def _clock(position: int, name: str) -> str:
    exact = math.degrees(position)  # of pair 0, whose frequency is 1
    at, error = -exact % 360, off(position, 0, TYPES[name])
    ticks = "".join(
        f'<line class="tick" y1="-96" y2="-102" transform="rotate({a})"/>' for a in range(0, 360, 30)
    )
    hand = f'<g class="hand" transform="rotate({at - error:.2f})"><line x2="{LENGTH - 9}"/>'
    hand += f'<path d="M{LENGTH} 0l-13 -6v12z"/></g>'
    true = f'<line class="true" x2="{LENGTH}" transform="rotate({at:.2f})"/>'
    ends = [
        (0.4 * LENGTH * math.cos(a), -0.4 * LENGTH * math.sin(a))
        for a in map(math.radians, (-at, error - at))
    ]
    (x, y), (u, v) = ends
    arc = f"M0 0L{x:.1f} {y:.1f}A{0.4 * LENGTH:.1f} {0.4 * LENGTH:.1f} 0 0 {int(error <= 0)} {u:.1f} {v:.1f}z"
    return f'<circle r="102"/>{ticks}<path class="between" d="{arc}"/>{hand}{true}'


_STYLE = """.rope-round{--wedge:#d55e0033}
.rope-round circle{fill:none;stroke:var(--faint)}
.rope-round .tick{stroke:var(--faint)}
.rope-round .true{stroke:var(--ink);stroke-width:3;stroke-dasharray:6 5}
.rope-round .hand line{stroke:var(--k);stroke-width:5}.rope-round .hand path{fill:var(--k)}
.rope-round .between{fill:var(--wedge)}
"""

_SCRIPT = """  var positions = __POSITIONS__, pairs = __PAIRS__, types = __TYPES__, largest = __LARGEST__;
  var reach = __LENGTH__, turn = 2 * Math.PI, notes = root.querySelectorAll("p");
  function comma(n) { return String(n).replace(/\\B(?=(\\d{3})+$)/g, ","); }
  function round(x, digits) {  // to the nearest, and of two to the even one
    if (!x || x === Infinity) return x;
    var e = Math.floor(Math.log2(x));
    if (Math.pow(2, e) > x) e -= 1;
    var unit = Math.pow(2, e - digits + 1), whole = Math.floor(x / unit), rest = x / unit - whole;
    if (rest > 0.5 || (rest === 0.5 && whole % 2)) whole += 1;
    return digits === types.float16 && whole * unit > largest ? Infinity : whole * unit;
  }
  function error(m, theta, digits) {  // radians, without whole turns; Infinity where the angle overflows
    var angle = round(round(m, digits) * round(theta, digits), digits), off = (angle - m * theta) % turn;
    return angle === Infinity ? angle : off > Math.PI ? off - turn : off < -Math.PI ? off + turn : off;
  }
  function draw() {
    var m = positions[+input("m").value], i = +input("i").value, name = input("type").value;
    var theta = Math.pow(10000, -i / pairs), wave = turn / theta, exact = m * theta % turn;
    [["m", comma(m)], ["i", String(i)]].forEach(function (pair) {
      input(pair[0]).parentNode.querySelector("b").textContent = ": " + pair[1];
      input(pair[0]).setAttribute("aria-valuetext", pair[1]);
    });
    var off = error(m, theta, types[name]), lost = off === Infinity, at = round(m, types[name]);
    var hand = root.querySelector(".hand"), r = 0.4 * reach, end = exact + off;
    hand.style.display = lost ? "none" : "";
    if (!lost) hand.setAttribute("transform", "rotate(" + -end * 360 / turn + ")");
    root.querySelector(".true").setAttribute("transform", "rotate(" + -exact * 360 / turn + ")");
    root.querySelector(".between").setAttribute("d", lost ? "" : "M0 0L" + r * Math.cos(exact) + " " +
      -r * Math.sin(exact) + "A" + r + " " + r + " 0 0 " + (off > 0 ? 0 : 1) + " " + r * Math.cos(end) + " " +
      -r * Math.sin(end) + "z");
    var kept = at === Infinity ? "cannot hold it" : at !== m ? "makes " + comma(at) + " of it" : "has it exactly";
    notes[0].textContent = "Position " + comma(m) + ": " + name + " " + kept + ". Pair " + i +
      " makes a full turn every " + (wave < 100 ? wave.toFixed(1) : comma(Math.round(wave))) + " tokens.";
    notes[1].textContent = "Off by: " + Object.keys(types).map(function (each) {
      var off = error(m, theta, types[each]);
      return each + " " + (off === Infinity ? "overflows" : Math.abs(off * 360 / turn).toFixed(1) + "°");
    }).join(", ") + ".";
    root.querySelector("svg").setAttribute("aria-label", "A clock with an exact hand and the one of " + name + ", " +
      (lost ? "which overflows." : "off by " + Math.abs(off * 360 / turn).toFixed(1) + "°."));
  }
"""
