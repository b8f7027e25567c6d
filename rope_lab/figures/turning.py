"""The moving figure of chapter 3: two hands on a clock, three sliders, no library and no network."""

from __future__ import annotations

import cmath
from math import degrees, radians

from rope_lab.figures.moving import Moving, moving, slider

START = {"m": 4, "n": 1, "t": 0}  # of the sliders
CONTROLS = {"m": "position of q", "n": "position of k", "t": "shift both by"}
STEP, LAST = 20, 12  # degrees per position; the largest position on a slider
QUERY, KEY = cmath.rect(88, 1.9), cmath.rect(70, 0.7)  # the hands at position 0, in units of the drawing


def numbers(m: int, n: int, t: int) -> dict[str, float]:
    """What the figure shows: both positions, their distance, the angle from k to q in degrees, and the score."""
    turned = _turned(QUERY, m + t) * _turned(KEY, n + t).conjugate()
    score = turned.real / 1e4
    return {"q": m + t, "k": n + t, "distance": m - n, "angle": degrees(cmath.phase(turned)), "score": score}


def said(m: int, n: int, t: int) -> list[str]:
    """The sentences below the sliders before anything moves; the script writes the same ones."""
    at = numbers(m, n, t)
    first = (
        f"q at {at['q']}, k at {at['k']}, distance {at['distance']}. Angle from k to q: {at['angle']:.0f}°. "
    )
    first = (first + f"Score: {at['score']:.2f}.").replace("-", "−")
    return [first, "Tried: 1 pair of positions, 1 distance, one score for each."]


def _turned(z: complex, position: int) -> complex:
    return z * cmath.exp(1j * radians(STEP) * position)


def turning() -> Moving:
    """Hands q and k that the reader turns by their positions. Without JavaScript they are where they start."""
    return moving(
        "rope-turn",
        _drawing(),
        [slider(role, text, START[role], LAST) for role, text in CONTROLS.items()],
        said(**START),
        _script(),
        box="-135 -135 270 270",
        label="Two hands on a clock, q and k.",
        style=_STYLE,
        dark="--wedge:#009e7366;",
    )


def _drawing() -> str:
    def hand(name: str, z: complex) -> str:
        turned = _turned(z, START["m" if name == "q" else "n"])
        tip, label = z.conjugate(), turned.conjugate() * (1 + 16 / abs(z))  # y points down on a screen
        still = f'<line class="ghost" x2="{tip.real:.1f}" y2="{tip.imag:.1f}"/>'
        angle = -degrees(cmath.phase(turned))
        arrow = f'<g class="hand {name}" transform="rotate({angle:.2f})"><line x2="{abs(z) - 9:.1f}"/>'
        arrow += f'<path d="M{abs(z):.1f} 0l-13 -6v12z"/></g>'
        return f'{still}{arrow}<text class="{name}" x="{label.real:.1f}" y="{label.imag:.1f}">{name}</text>'

    ticks = "".join(
        f'<line class="tick" y1="-116" y2="-122" transform="rotate({a})"/>' for a in range(0, 360, STEP)
    )
    return f'<circle r="122"/>{ticks}<path class="between" d="{_wedge()}"/>{hand("k", KEY)}{hand("q", QUERY)}'


def _wedge() -> str:
    """Between the hands where they start; k is less than half a turn behind q there."""
    ends = [_turned(z, START[role]) / abs(z) * 40 for z, role in ((KEY, "n"), (QUERY, "m"))]
    (x, y), (u, v) = ((end.real, -end.imag) for end in ends)
    return f"M0 0L{x:.1f} {y:.1f}A40 40 0 0 0 {u:.1f} {v:.1f}z"


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

_SCRIPT = r"""const step = __STEP__ * Math.PI / 180, hands = {q: __Q__, k: __K__};
export function numbers({m, n, t}) {
  const open = hands.q[1] - hands.k[1] + (m - n) * step, turn = 2 * Math.PI;
  const angle = (open - turn * Math.ceil(open / turn - 0.5)) * 180 / Math.PI;  // above −180, at most 180
  return {q: m + t, k: n + t, distance: m - n, angle: angle, score: hands.q[0] * hands.k[0] * Math.cos(open) / 1e4};
}
function figure(root, input) {
  const svg = root.querySelector("svg"), notes = root.querySelectorAll("p"), pairs = {}, scores = {};
  function place(name, angle) {
    const r = hands[name][0], label = root.querySelector("text." + name);
    root.querySelector(".hand." + name).setAttribute("transform", "rotate(" + -angle * 180 / Math.PI + ")");
    label.setAttribute("x", (r + 16) * Math.cos(angle));
    label.setAttribute("y", -(r + 16) * Math.sin(angle));
  }
  return function (values) {
    const at = numbers(values), t = values.t;
    if (t) ["m", "n"].forEach((role) => {
      input(role).parentNode.querySelector("b").textContent =
        ": " + values[role] + " + " + t + " = " + (values[role] + t);
    });
    const b = hands.k[1] + at.k * step, open = Math.round(at.angle), end = b + at.angle * Math.PI / 180;
    place("q", hands.q[1] + at.q * step);
    place("k", b);
    root.querySelector(".between").setAttribute("d", "M0 0L" + 40 * Math.cos(b) + " " + -40 * Math.sin(b) +
      "A40 40 0 0 " + (open > 0 ? 0 : 1) + " " + 40 * Math.cos(end) + " " + -40 * Math.sin(end) + "z");
    const score = at.score.toFixed(2).replace(/^-0\.00$/, "0.00");
    let text = "q at " + at.q + ", k at " + at.k + ", distance " + at.distance + ". Angle from k to q: " + open +
      "°. Score: " + score + ".";
    text = text.replace(/-(?=\d)/g, "−");
    notes[0].textContent = text;
    svg.setAttribute("aria-label", "Two hands on a clock. " + text);
    pairs[at.q + " " + at.k] = 1;
    scores[at.distance + " " + score] = 1;
    const tried = Object.keys(pairs).length, found = Object.keys(scores);
    const distances = new Set(found.map((key) => key.split(" ")[0])).size;
    notes[1].textContent = "Tried: " + tried + (tried > 1 ? " pairs of positions, " : " pair of positions, ") +
      distances + (distances > 1 ? " distances, " : " distance, ") +
      (found.length === distances ? "one score for each." : found.length + " scores.");
  };
}
"""
