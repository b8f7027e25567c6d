"""The moving figure of chapter 8: one pair at one position, exact and rounded to a number type of choice."""

from __future__ import annotations

import math

from rope_lab.figures.moving import Moving, choice, moving, slider

TYPES = {"bfloat16": 8, "float16": 11, "float32": 24}  # significant binary digits of each
POSITIONS = (0, *(round(10 ** (k / 8)) | 1 for k in range(8, 57)))  # odd, from 11 to 10,000,001
PAIRS = 64  # of a head of 128 coordinates with base 10,000
LARGEST = 65_504  # of float16
START = 17  # the place in POSITIONS that is drawn before anything moves
LENGTH = 88  # of a hand, in units of the drawing


def rounding() -> Moving:
    """A clock with an exact hand and a rounded one. Without JavaScript it shows bfloat16 at position 1,001."""
    start = slider("m", "position", START, len(POSITIONS) - 1, shown=f"{POSITIONS[START]:,}")
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


def numbers(position: int, pair: int, name: str) -> dict[str, float]:
    """What the figure shows: tokens per turn of a pair, the rounded position, and degrees off for each number type."""
    errors = {f"off {each}": off(position, pair, digits) for each, digits in TYPES.items()}
    wave = math.tau * 10_000.0 ** (pair / PAIRS)
    return {"position": position, "wave": wave, "kept": rounded(position, TYPES[name]), **errors}


def said(position: int, pair: int, name: str) -> list[str]:
    """What the figure says of a position, a pair and the number type that was chosen."""
    found = numbers(position, pair, name)
    wave, at = found["wave"], found["kept"]
    kept = (
        "cannot hold it"
        if math.isinf(at)
        else f"makes {at:,.0f} of it"
        if at != position
        else "has it exactly"
    )
    turn = f"{wave:.1f}" if wave < 100 else f"{wave:,.0f}"
    errors = ((each, found[f"off {each}"]) for each in TYPES)
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

_SCRIPT = r"""const positions = __POSITIONS__, pairs = __PAIRS__, types = __TYPES__, largest = __LARGEST__;
const reach = __LENGTH__, turn = 2 * Math.PI;
function comma(n) { return String(n).replace(/\B(?=(\d{3})+$)/g, ","); }
function round(x, digits) {  // to the nearest, and of two to the even one
  if (!x || x === Infinity) return x;
  let e = Math.floor(Math.log2(x));
  if (Math.pow(2, e) > x) e -= 1;
  const unit = Math.pow(2, e - digits + 1), rest = x / unit - Math.floor(x / unit);
  let whole = Math.floor(x / unit);
  if (rest > 0.5 || (rest === 0.5 && whole % 2)) whole += 1;
  return digits === types.float16 && whole * unit > largest ? Infinity : whole * unit;
}
function error(m, theta, digits) {  // radians, without whole turns; NaN where the angle overflows
  const angle = round(round(m, digits) * round(theta, digits), digits), off = (angle - m * theta) % turn;
  return off > Math.PI ? off - turn : off < -Math.PI ? off + turn : off;
}
export function numbers({m, i, type}) {
  const at = positions[m], theta = Math.pow(10000, -i / pairs);
  const found = {position: at, wave: turn / theta, kept: round(at, types[type])};
  for (const each in types) found["off " + each] = error(at, theta, types[each]) * 360 / turn;
  return found;
}
function figure(root, input) {
  const notes = root.querySelectorAll("p");
  return function (values) {
    const name = values.type, i = values.i, at = numbers(values), m = at.position, wave = at.wave;
    const exact = m * Math.pow(10000, -i / pairs) % turn, off = at["off " + name], lost = isNaN(off);
    const hand = root.querySelector(".hand"), r = 0.4 * reach, end = exact + off * turn / 360;
    input("m").parentNode.querySelector("b").textContent = ": " + comma(m);
    input("m").setAttribute("aria-valuetext", comma(m));
    hand.style.display = lost ? "none" : "";
    if (!lost) hand.setAttribute("transform", "rotate(" + -end * 360 / turn + ")");
    root.querySelector(".true").setAttribute("transform", "rotate(" + -exact * 360 / turn + ")");
    root.querySelector(".between").setAttribute("d", lost ? "" : "M0 0L" + r * Math.cos(exact) + " " +
      -r * Math.sin(exact) + "A" + r + " " + r + " 0 0 " + (off > 0 ? 0 : 1) + " " + r * Math.cos(end) + " " +
      -r * Math.sin(end) + "z");
    const kept = at.kept === Infinity ? "cannot hold it" : at.kept !== m ? "makes " + comma(at.kept) + " of it" :
      "has it exactly";
    notes[0].textContent = "Position " + comma(m) + ": " + name + " " + kept + ". Pair " + i +
      " makes a full turn every " + (wave < 100 ? wave.toFixed(1) : comma(Math.round(wave))) + " tokens.";
    notes[1].textContent = "Off by: " + Object.keys(types).map((each) => {
      const wrong = at["off " + each];
      return each + " " + (isNaN(wrong) ? "overflows" : Math.abs(wrong).toFixed(1) + "°");
    }).join(", ") + ".";
    root.querySelector("svg").setAttribute("aria-label", "A clock with an exact hand and the one of " + name + ", " +
      (lost ? "which overflows." : "off by " + Math.abs(off).toFixed(1) + "°."));
  };
}
"""
