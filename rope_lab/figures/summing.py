"""The moving figure of chapter 6: the arrows of a score laid head to tail, and the score by distance."""

from __future__ import annotations

import json
import math

import numpy as np
from numpy.typing import NDArray

from rope_lab.encodings import frequencies
from rope_lab.figures.moving import Moving, choice, moving, slider

BASES = (100, 1_000, 10_000, 100_000, 500_000, 1_000_000, 10_000_000)
DIMS = (8, 16, 32, 64, 128, 256)
CONTENT = ("all pairs", "the faster half of the pairs", "the slower half of the pairs")
DISTANCES = tuple(sorted({0, *(round(10 ** (k / 8)) for k in range(41))}))  # to 100,000
DRAWN = tuple(sorted({round(10 ** (k / 40)) for k in range(201)}))  # where the curve has a point
START = BASES.index(10_000), DIMS.index(32), CONTENT[0], DISTANCES.index(100)
RADIUS, LEFT, WIDTH = 80, 110, 205  # of the circle; where the curve begins, and how wide it is


def lengths(dim: int, content: str) -> NDArray[np.float64]:
    """|h_i|, the same for all pairs that hold content, with sum 1; (D/2,)."""
    pairs = dim // 2
    size = np.ones(pairs)
    if content == CONTENT[1]:
        size[pairs // 2 :] = 0
    elif content == CONTENT[2]:
        size[: pairs // 2] = 0
    return size / size.sum()


def tips(base: float, dim: int, content: str, distances: NDArray[np.float64]) -> NDArray[np.complex128]:
    """The points reached after 0, 1, …, D/2 arrows at each distance, (S,) -> (S, D/2 + 1)."""
    turned = np.outer(distances, frequencies(dim, base).numpy())
    return np.cumsum(np.pad(lengths(dim, content) * np.exp(1j * turned), ((0, 0), (1, 0))), -1)


def numbers(base: int, dim: int, content: str, place: int) -> dict[str, float]:
    """What the figure shows: score and length of the sum of arrows, and how many have turned by more than 90°."""
    distance = DISTANCES[place]
    last = tips(BASES[base], DIMS[dim], content, np.array([float(distance)]))[0, -1]
    theta, held = frequencies(DIMS[dim], BASES[base]).numpy(), lengths(DIMS[dim], content) > 0
    return {
        "distance": distance,
        "score": float(last.real),
        "length": float(abs(last)),
        "turned": int((distance * theta[held] > math.pi / 2).sum()),
        "arrows": int(held.sum()),
    }


def said(base: int, dim: int, content: str, place: int) -> list[str]:
    """The sentences below the controls; the script writes the same ones."""
    at = numbers(base, dim, content, place)
    score = f"{at['score']:.2f}".replace("-", "−").replace("−0.00", "0.00")
    have = "has" if at["turned"] == 1 else "have"
    return [
        f"Distance {at['distance']:,}, content in {content}: the score is {score} of what it is at distance 0.",
        f"{at['turned']} of {at['arrows']} arrows {have} turned by more than 90°. The sum of all, the thick arrow, is "
        f"{at['length']:.2f} long.",
    ]


def summing() -> Moving:
    """Arrows and curve. Without JavaScript: content in all 16 pairs of a small head, base 10,000, distance 100."""
    base, dim, _, place = START
    script = _SCRIPT
    for name, value in {
        "BASES": BASES, "DIMS": DIMS, "CONTENT": CONTENT, "DISTANCES": DISTANCES, "RADIUS": RADIUS, "LEFT": LEFT,
        "WIDTH": WIDTH,
    }.items():  # fmt: skip
        script = script.replace(f"__{name}__", json.dumps(value))
    return moving(
        "rope-sum",
        _drawing(),
        [
            choice("content", "content in", CONTENT),
            slider("s", "distance", place, len(DISTANCES) - 1, shown=f"{DISTANCES[place]:,}"),
            slider("b", "base", base, len(BASES) - 1, shown=f"{BASES[base]:,}"),
            slider("d", "coordinates per head, D", dim, len(DIMS) - 1, shown=f"{DIMS[dim]}"),
        ],
        said(*START),
        script,
        box=f"{-RADIUS - 5} {-RADIUS - 8} {LEFT + WIDTH + RADIUS + 20} {2 * RADIUS + 60}",
        label=f"Arrows head to tail and the curve of the score by distance. {said(*START)[0]}",
        style=_STYLE,
    )


def _across(distance: float) -> float:
    """Where a distance is drawn: on a logarithmic axis from 1 on, and 0 to the left of it."""
    return LEFT + 20 + (WIDTH - 20) * math.log10(distance) / 5 if distance else LEFT


def _drawing() -> str:
    base, dim, content, place = START
    path = tips(BASES[base], DIMS[dim], content, np.array([float(DISTANCES[place])]))[0] * RADIUS
    scores = tips(BASES[base], DIMS[dim], content, np.array(DRAWN, dtype=float))[:, -1].real
    curve = "L".join(
        f"{_across(s):.1f} {-y * RADIUS:.1f}" for s, y in zip(DRAWN, scores.tolist(), strict=True)
    )
    points = [f"{-z.imag:.1f} {-z.real:.1f}" for z in path.tolist()]
    tip, x = points[-1].split(), f"{_across(DISTANCES[place]):.1f}"
    turn = -math.degrees(math.atan2(path[-1].imag, path[-1].real)) - 90
    grid = "".join(f"M{LEFT} {y}h{WIDTH}" for y in (-RADIUS, 0, RADIUS))
    marks = "".join(
        f'<text class="mark" x="{LEFT - 17}" y="{y}">{text}</text>'
        for text, y in (("1", -RADIUS), ("0", 0), ("−1", RADIUS))
    )
    marks += "".join(
        f'<text class="mark" x="{_across(s):.1f}" y="{RADIUS + 19}">{text}</text>'
        for s, text in (
            (0, "0"),
            (1, "1"),
            (10, "10"),
            (100, "10²"),
            (1e3, "10³"),
            (1e4, "10⁴"),
            (1e5, "10⁵"),
        )
    )
    marks += f'<text class="mark" x="{LEFT + WIDTH / 2}" y="{RADIUS + 40}">distance s</text>'
    marks += f'<text class="mark" y="{RADIUS + 19}">arrows</text>'
    return (
        f'<circle class="rim" r="{RADIUS}"/><path class="grid" d="M0 {-RADIUS}v{2 * RADIUS}M{-RADIUS} 0h{2 * RADIUS}'
        f'{grid}"/>{marks}<path class="curve" d="M{curve}"/><path class="level" d="M{tip[0]} {tip[1]}H{x}"/>'
        f'<path class="arrows" d="M{"L".join(points)}"/><path class="joints" d="M{"h0M".join(points)}h0"/>'
        f'<line class="sum" x2="{tip[0]}" y2="{tip[1]}"/><path class="head" d="M0 0l-11 -5v10z" '
        f'transform="translate({tip[0]} {tip[1]}) rotate({turn:.1f})"/>'
        f'<circle class="now" cx="{x}" cy="{tip[1]}" r="5"/>'
    )


_STYLE = """.rope-moving.rope-sum svg{flex:1 1 100%;max-width:36rem}
.rope-sum .rim,.rope-sum .grid{fill:none;stroke:var(--faint);stroke-width:.7}
.rope-sum .mark{font-weight:normal;fill:var(--ink)}
.rope-sum path{fill:none;stroke-linejoin:round}
.rope-sum .curve,.rope-sum .arrows{stroke:var(--q);stroke-width:1.7}
.rope-sum .joints{stroke:var(--q);stroke-width:3;stroke-linecap:round}
.rope-sum .level{stroke:var(--k);stroke-width:1.2;stroke-dasharray:4 3}
.rope-sum .sum{stroke:var(--k);stroke-width:3}
.rope-sum .head,.rope-sum .now{fill:var(--k)}
"""

_SCRIPT = r"""const bases = __BASES__, dims = __DIMS__, contents = __CONTENT__, distances = __DISTANCES__;
const radius = __RADIUS__, left = __LEFT__, width = __WIDTH__;
function arrows({content, b, d}) {  // those that hold content, as [θ_i, length]
  const pairs = dims[d] / 2, which = contents.indexOf(content), list = [];
  for (let i = which === 2 ? pairs / 2 : 0; i < (which === 1 ? pairs / 2 : pairs); i++) {
    list.push([Math.pow(bases[b], -i / pairs), (which ? 2 : 1) / pairs]);
  }
  return list;
}
function tips(list, s) {  // the points that the arrows reach, [real, imaginary]
  let x = 0, y = 0;
  return [[0, 0]].concat(list.map(([theta, length]) => {
    x += length * Math.cos(s * theta);
    y += length * Math.sin(s * theta);
    return [x, y];
  }));
}
export function numbers(values) {
  const list = arrows(values), distance = distances[values.s], [x, y] = tips(list, distance).pop();
  const turned = list.filter(([theta]) => distance * theta > Math.PI / 2).length;
  return {distance, score: x, length: Math.hypot(x, y), turned, arrows: list.length};
}
function across(s) { return s ? left + 20 + (width - 20) * Math.log10(s) / 5 : left; }
function figure(root, input) {
  const notes = root.querySelectorAll("p"), at = (name) => root.querySelector("." + name), drawn = [];
  for (let k = 0; k <= 200; k++) {
    const s = Math.round(Math.pow(10, k / 40));
    if (s !== drawn[drawn.length - 1]) drawn.push(s);
  }
  function say(role, text) {
    input(role).parentNode.querySelector("b").textContent = ": " + text;
    input(role).setAttribute("aria-valuetext", text);
  }
  return function (values) {
    const list = arrows(values), found = numbers(values), s = found.distance, last = tips(list, s).pop();
    const points = tips(list, s).map(([x, y]) => (-y * radius).toFixed(1) + " " + (-x * radius).toFixed(1));
    const tip = points[points.length - 1], x = across(s).toFixed(1), y = tip.split(" ")[1];
    const turn = -Math.atan2(last[1], last[0]) * 180 / Math.PI - 90;
    at("curve").setAttribute("d", "M" + drawn.map((s) => across(s).toFixed(1) + " " +
      (-tips(list, s).pop()[0] * radius).toFixed(1)).join("L"));
    at("arrows").setAttribute("d", "M" + points.join("L"));
    at("joints").setAttribute("d", "M" + points.join("h0M") + "h0");
    at("level").setAttribute("d", "M" + tip + "H" + x);
    at("sum").setAttribute("x2", tip.split(" ")[0]);
    at("sum").setAttribute("y2", y);
    at("head").setAttribute("transform", "translate(" + tip + ") rotate(" + turn.toFixed(1) + ")");
    at("now").setAttribute("cx", x);
    at("now").setAttribute("cy", y);
    say("s", s.toLocaleString("en"));
    say("b", bases[values.b].toLocaleString("en"));
    say("d", String(dims[values.d]));
    const score = found.score.toFixed(2).replace("-", "−").replace("−0.00", "0.00");
    notes[0].textContent = "Distance " + s.toLocaleString("en") + ", content in " + values.content +
      ": the score is " + score + " of what it is at distance 0.";
    notes[1].textContent = found.turned + " of " + found.arrows + " arrows " + (found.turned === 1 ? "has" : "have") +
      " turned by more than 90°. The sum of all, the thick arrow, is " + found.length.toFixed(2) + " long.";
    root.querySelector("svg").setAttribute("aria-label",
      "Arrows head to tail and the curve of the score by distance. " + notes[0].textContent);
  };
}
"""
