"""The moving figure of chapter 9: the mean cosine of a head at every offset on a plane, for three ways to place it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rope_lab.encodings import axial_frequencies, golden_frequencies
from rope_lab.figures.moving import Moving, choice, moving, slider

NAMES = ("axial", "one head of mixed", "golden ratio")
PAIRS, DISTANCE = 16, 8  # at first: half the number of pairs, and the radius of the ring in patches
MOST, FARTHEST, BASE = 32, 12, 100.0
TURN = 0.5  # radians by which the head of RoPE-Mixed has turned the two axes
LEVELS = 6  # shades on either side of zero
CELL = 10  # of the drawing
_Array = NDArray[np.float64]


def matrix(name: str, half: int) -> _Array:
    """The frequencies of `2·half` pairs, (2, 2·half): rows, then columns."""
    if name == NAMES[2]:
        return golden_frequencies(4 * half, base=BASE).numpy()
    axial = axial_frequencies(4 * half, 2, BASE).numpy()
    if name == NAMES[0]:
        return axial
    cos, sin = math.cos(TURN), math.sin(TURN)
    return np.array([[cos, -sin], [sin, cos]]) @ axial


def mean_cosine(offsets: _Array, freqs: _Array) -> _Array:
    """c(δ), the mean over the pairs of cos(δ·f_i): (..., 2) -> (...)."""
    return np.cos(offsets @ freqs).mean(-1)


def numbers(name: str, half: int, distance: int) -> dict[str, float]:
    """What the figure shows at a distance: c(δ) along a row and along the diagonal, and its standard deviation."""
    freqs, angle = matrix(name, half), np.arange(180) * math.pi / 180
    ring = mean_cosine(distance * np.stack((np.sin(angle), np.cos(angle)), -1), freqs)
    return {"row": float(ring[0]), "diagonal": float(ring[45]), "deviation": float(ring.std())}


def said(name: str, half: int, distance: int) -> list[str]:
    """What the figure says: c(δ) along a row and along the diagonal, and its standard deviation on the ring."""
    texts = (f"{x:.3f}".replace("-", "−") for x in numbers(name, half, distance).values())
    row, diagonal, deviation = (text.replace("−0.000", "0.000") for text in texts)
    where = "1 patch away" if distance == 1 else f"{distance} patches away"
    return [
        f"{name}, {2 * half} pairs: {where}, c is {row} along a row and {diagonal} along the diagonal.",
        f"Standard deviation over all directions at that distance: {deviation}.",
    ]


def plane() -> Moving:
    """The map of c(δ), whose scheme, number of pairs and ring the reader chooses."""
    script = _SCRIPT
    for name, number in {
        "LEVELS": LEVELS,
        "FARTHEST": FARTHEST,
        "CELL": CELL,
        "TURN": TURN,
        "BASE": BASE,
    }.items():
        script = script.replace(f"__{name}__", f"{number:g}")
    return moving(
        "rope-plane",
        _drawing(),
        [
            choice("f", "frequencies", NAMES),
            slider("p", "half the number of pairs", PAIRS, MOST, 2),
            slider("d", "distance of the ring (patches)", DISTANCE, FARTHEST, 1),
        ],
        said(NAMES[0], PAIRS, DISTANCE),
        script,
        box=f"-6 -6 {(2 * FARTHEST + 1) * CELL + 12} {(2 * FARTHEST + 1) * CELL + 12}",
        label="Mean cosine of a head by the offset of query and key in rows and columns.",
        style=_STYLE,
    )


def _levels(name: str, half: int) -> NDArray[np.int64]:
    steps = np.arange(-FARTHEST, FARTHEST + 1, dtype=float)
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1)
    return np.floor(mean_cosine(offsets, matrix(name, half)) * LEVELS + 0.5).astype(int)


def _drawing() -> str:
    levels = _levels(NAMES[0], PAIRS)
    shades = []
    for level in range(-LEVELS, LEVELS + 1):
        cells = "".join(
            f"M{column * CELL} {row * CELL}h{CELL}v{CELL}h-{CELL}z"
            for row, column in np.argwhere(levels == level)
        )
        shades.append(f'<path class="shade" fill="{_shade(level)}" d="{cells}"/>')
    middle = (2 * FARTHEST + 1) * CELL / 2
    return (
        "".join(shades)
        + f'<circle class="ring" cx="{middle:g}" cy="{middle:g}" r="{DISTANCE * CELL}"/>'
        + f'<path class="cross" d="M{middle - 4:g} {middle:g}h8M{middle:g} {middle - 4:g}v8"/>'
    )


def _shade(level: int) -> str:
    """From blue (−1) over nearly white to red (1)."""
    end, part = ((178, 24, 43) if level > 0 else (33, 102, 172)), abs(level) / LEVELS
    return "#" + "".join(f"{round(247 + (x - 247) * part):02x}" for x in end)


_STYLE = """.rope-plane .ring{fill:none;stroke:#222;stroke-width:1.5;stroke-dasharray:4 3}
.rope-plane .cross{fill:none;stroke:#fff;stroke-width:2}
"""

_SCRIPT = r"""const far = __FARTHEST__, cell = __CELL__, levels = __LEVELS__;
function matrix(name, half) {
  const list = [];
  for (let i = 0; i < 2 * half; i++) {
    let size = Math.pow(__BASE__, -(i % half) / half);
    let a = (name === "axial" ? 0 : __TURN__) + (i < half ? 0 : Math.PI / 2);
    if (name === "golden ratio") {
      size = Math.pow(__BASE__, -i / (2 * half));
      a = i * Math.PI * (Math.sqrt(5) - 1) / 2;
    }
    list.push([size * Math.cos(a), size * Math.sin(a)]);
  }
  return list;
}
function c(y, x, list) {
  return list.reduce((sum, f) => sum + Math.cos(y * f[0] + x * f[1]), 0) / list.length;
}
export function numbers({f, p, d}) {
  const list = matrix(f, p), all = [];
  for (let degree = 0; degree < 180; degree++) {
    all.push(c(d * Math.sin(degree * Math.PI / 180), d * Math.cos(degree * Math.PI / 180), list));
  }
  const mean = all.reduce((a, b) => a + b, 0) / 180;
  const deviation = Math.sqrt(all.reduce((a, b) => a + (b - mean) * (b - mean), 0) / 180);
  return {row: all[0], diagonal: all[45], deviation: deviation};
}
function text(value) { return value.toFixed(3).replace(/^-0\.000$/, "0.000").replace("-", "−"); }
function figure(root) {
  const notes = root.querySelectorAll("p"), shades = root.querySelectorAll(".shade");
  const ring = root.querySelector(".ring"), svg = root.querySelector("svg");
  return function (values) {
    const {f, p, d} = values, list = matrix(f, p), at = numbers(values), paths = Array.from(shades, () => "");
    for (let row = -far; row <= far; row++) for (let column = -far; column <= far; column++) {
      paths[Math.floor(c(row, column, list) * levels + 0.5) + levels] +=
        "M" + (column + far) * cell + " " + (row + far) * cell + "h" + cell + "v" + cell + "h-" + cell + "z";
    }
    shades.forEach((path, i) => { path.setAttribute("d", paths[i]); });
    ring.setAttribute("r", d * cell);
    notes[0].textContent = f + ", " + 2 * p + " pairs: " + (d === 1 ? "1 patch" : d + " patches") +
      " away, c is " + text(at.row) + " along a row and " + text(at.diagonal) + " along the diagonal.";
    notes[1].textContent = "Standard deviation over all directions at that distance: " + text(at.deviation) + ".";
    svg.setAttribute("aria-label", "Mean cosine of a head by the offset of query and key in rows and columns. " +
      notes[0].textContent + " " + notes[1].textContent);
  };
}
"""
