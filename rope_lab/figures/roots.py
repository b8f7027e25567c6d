"""The moving figure of chapter 4: a root in the plane, and the score by distance that it gives."""

from __future__ import annotations

from math import cos, exp

from rope_lab.figures.moving import Moving, moving, slider

FADE, TURN, SHEAR = 10, 20, 3  # the last value of each slider
START = (3, 8, 0)  # of the sliders at first
LAST = 60  # the largest distance
WIDTH, HEIGHT, PLANE = 300, 120, 110  # of the curve, and the height of the plane above it
CORNERS = {  # by whether the score fades, turns and is sheared
    (False, False, False): "NoPE: the distance changes nothing",
    (False, True, False): "RoPE: it turns and keeps its size",
    (True, False, False): "it fades and does not turn",
    (True, True, False): "it turns and fades, as each pair of xPos does",
    (False, False, True): "the straight line of ALiBi",
    (False, True, True): "it turns, and its size changes with the distance",
    (True, False, True): "a line that fades",
    (True, True, True): "it turns and fades, and the distance multiplies it",
}


def score(s: float, fade: int, turn: int, shear: int) -> float:
    """The score at distance s for the values of the three sliders; 1 at distance 0."""
    return exp(-fade / 100 * s) * cos(turn / 20 * s) * (1 - shear / 100 * s)


def numbers(fade: int, turn: int, shear: int) -> dict[str, float]:
    """What the figure shows: the root, and the score at three distances."""
    places = {f"score {s}": score(s, fade, turn, shear) for s in (1, 10, LAST)}
    return {"real": -fade / 100, "imaginary": turn / 20, **places}


def said(fade: int, turn: int, shear: int) -> list[str]:
    """The sentences below the sliders; the script writes the same ones."""
    root = "0" if not fade else f"−{fade / 100:.2f}"
    if turn:
        root = f"±{turn / 20:.2f}i" if not fade else f"{root} ± {turn / 20:.2f}i"
    kind = "double" if shear else "single"
    corner = CORNERS[bool(fade), bool(turn), bool(shear)]
    found = numbers(fade, turn, shear)
    values = [f"{found[f'score {s}']:.2f}" for s in (1, 10, LAST)]
    near, middle, far = ("0.00" if value == "-0.00" else value.replace("-", "−") for value in values)
    return [
        f"Root {root}, {kind}: {corner}.",
        f"Score at distance 1: {near}, at 10: {middle}, at {LAST}: {far}.",
    ]


def roots() -> Moving:
    """A block whose root the reader moves: to the left it fades, up it turns, and a double root has a shear."""
    script = _SCRIPT
    for name, number in {"W": WIDTH, "H": HEIGHT, "P": PLANE, "LAST": LAST}.items():
        script = script.replace(f"__{name}__", str(number))
    names = ",".join(f'"{text}"' for text in _in_order())
    return moving(
        "rope-roots",
        _drawing(),
        [
            slider("fade", "fading, in hundredths per token", START[0], FADE),
            slider("turn", "turning, in twentieths of a radian per token", START[1], TURN),
            slider("shear", "shear, in hundredths per token", START[2], SHEAR),
        ],
        said(*START),
        script.replace("__NAMES__", names),
        box=f"-14 -8 {WIDTH + 28} {PLANE + HEIGHT + 50}",
        label="A root in the plane and the score by distance that it gives.",
        style=_STYLE,
    )


def _in_order() -> list[str]:
    """The corners as the script numbers them: 1 for fading, 2 for turning, 4 for a shear."""
    return [CORNERS[bool(i & 1), bool(i & 2), bool(i & 4)] for i in range(8)]


def _place(fade: int, turn: float) -> tuple[float, float]:
    """Where a root is drawn: the imaginary axis is near the right edge, and 0 in the middle of it."""
    return WIDTH - 60 - fade / FADE * (WIDTH - 100), PLANE / 2 - turn / TURN * (PLANE / 2 - 8)


def _drawing() -> str:
    x, middle = _place(0, 0)
    plane = f'<path class="axis" d="M0 {middle}H{WIDTH}M{x} 0V{PLANE}"/>'
    words = f'<text x="16" y="{middle + 14}">fades</text><text x="{x + 26}" y="10">turns</text>'
    dots = "".join(
        '<g class="root" transform="translate({:.1f} {:.1f})"><circle class="ring" r="9"/><circle r="5"/></g>'.format(
            *_place(START[0], sign * START[1])
        )
        for sign in (1, -1)
    )
    zero = PLANE + 20 + HEIGHT / 2
    line = "L".join(
        f"{s / LAST * WIDTH:.1f} {zero - score(s, *START) * HEIGHT / 2:.1f}" for s in range(LAST + 1)
    )
    marks = "".join(
        f'<text x="{s / LAST * WIDTH:.1f}" y="{PLANE + HEIGHT + 32}">{s}</text>' for s in (0, LAST // 2, LAST)
    )
    below = f'<path class="axis" d="M0 {zero}H{WIDTH}"/><path class="curve" d="M{line}"/>{marks}'
    return plane + words + dots + below


_STYLE = """.rope-roots .axis{fill:none;stroke:var(--faint)}
.rope-roots .curve{fill:none;stroke:var(--q);stroke-width:2.5}
.rope-roots .root circle{fill:var(--k)}
.rope-roots .root .ring{fill:none;stroke:var(--k);stroke-width:2;display:none}
.rope-roots .root.double .ring{display:inline}
.rope-roots text{fill:var(--ink);font-weight:normal;font-size:14px}
.rope-roots p:last-child{min-height:3em}
"""

_SCRIPT = r"""const W = __W__, H = __H__, P = __P__, LAST = __LAST__, names = [__NAMES__];
function score(s, {fade, turn, shear}) {
  return Math.exp(-fade / 100 * s) * Math.cos(turn / 20 * s) * (1 - shear / 100 * s);
}
export function numbers(values) {
  const found = {real: -values.fade / 100, imaginary: values.turn / 20};
  for (const s of [1, 10, LAST]) found["score " + s] = score(s, values);
  return found;
}
function figure(root) {
  const notes = root.querySelectorAll("p"), line = root.querySelector(".curve"), svg = root.querySelector("svg");
  const dots = root.querySelectorAll(".root");
  return function (values) {
    const {fade, turn, shear} = values, found = numbers(values);
    function shown(s) { return found["score " + s].toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−"); }
    dots.forEach((dot, i) => {
      const x = W - 60 - fade / 10 * (W - 100), y = P / 2 - (i ? -1 : 1) * turn / 20 * (P / 2 - 8);
      dot.setAttribute("transform", "translate(" + x.toFixed(1) + " " + y.toFixed(1) + ")");
      dot.setAttribute("class", shear ? "root double" : "root");
    });
    const path = [];
    for (let s = 0; s <= LAST; s++) {
      path.push((s / LAST * W).toFixed(1) + " " + (P + 20 + H / 2 - score(s, values) * H / 2).toFixed(1));
    }
    line.setAttribute("d", "M" + path.join("L"));
    const real = fade ? "−" + (-found.real).toFixed(2) : "0", i = found.imaginary.toFixed(2) + "i";
    const at = turn ? (fade ? real + " ± " + i : "±" + i) : real;
    notes[0].textContent = "Root " + at + ", " + (shear ? "double" : "single") + ": " +
      names[(fade > 0) + 2 * (turn > 0) + 4 * (shear > 0)] + ".";
    notes[1].textContent = "Score at distance 1: " + shown(1) + ", at 10: " + shown(10) + ", at " + LAST + ": " +
      shown(LAST) + ".";
    svg.setAttribute("aria-label", notes[0].textContent + " " + notes[1].textContent);
  };
}
"""
