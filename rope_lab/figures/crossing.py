"""The moving figure of chapter 5: the two layouts are one permutation, and a score that needs it."""

from __future__ import annotations

import json

import torch

from rope_lab import angles, convert_layout, frequencies, rotate
from rope_lab.encodings import Layout
from rope_lab.figures.moving import Moving, moving, slider

DIM, STEPS, FARTHEST = 8, 10, 20  # coordinates; steps from one layout to the other; the largest distance
START = (STEPS, 3)  # of the sliders: how far the coordinates have moved, and the distance
QUERY = (2.0, 1.0, -1.0, 2.0, 1.0, 3.0, 2.0, -1.0)
KEY = (1.0, 2.0, 2.0, 1.0, 3.0, -1.0, 1.0, 2.0)
COLOURS = ("#0072b2", "#b35900", "#00795a", "#9b4d7a")  # of the interleaved pairs, beneath white text
BOX, TOP, BOTTOM = 34, 22, 118  # of the drawing


def numbers(moved: int, distance: int) -> dict[str, float]:
    """What the figure shows: pairs of lines that cross, and scores under each layout, with and without reordering."""
    q, k = (torch.tensor([side], dtype=torch.float64) for side in (QUERY, KEY))
    theta = frequencies(DIM)
    here, there = (
        angles(torch.tensor([place]), theta, dtype=torch.float64) for place in (distance, 0)
    )  # of the query, of the key

    def score(q: torch.Tensor, k: torch.Tensor, *, half: bool) -> float:
        layout: Layout = "half" if half else "interleaved"
        return float((rotate(q, here, layout) * rotate(k, there, layout)).sum())

    p, r = (convert_layout(side, "interleaved", "half") for side in (q, k))
    places = [_place(j, moved) for j in range(DIM)]
    return {
        "crossing": sum(places[a] > places[b] for a in range(DIM) for b in range(a + 1, DIM)),
        "interleaved": score(q, k, half=False),
        "reordered": score(p, r, half=True),
        "as it was": score(q, k, half=True),
    }


def _place(j: int, moved: int) -> int:
    """Where coordinate j is, in tenths of a box, when `moved` of ten steps to the half layout are done."""
    goal = j // 2 if j % 2 == 0 else j // 2 + DIM // 2
    return j * STEPS + (goal - j) * moved


def said(moved: int, distance: int) -> list[str]:
    """The sentences below the sliders; the script writes the same ones."""
    at = numbers(moved, distance)
    interleaved, reordered, before = (f"{at[name]:.3f}" for name in ("interleaved", "reordered", "as it was"))
    lines = "1 pair of lines crosses" if at["crossing"] == 1 else f"{at['crossing']} pairs of lines cross"
    state = {0: "No coordinate has moved", STEPS: "All coordinates have moved"}.get(moved, "On the way")
    first = f"{state}: {lines}. Score at distance {distance}: {interleaved} with the interleaved rotation."
    second = f"Half rotation: {reordered} with reordered coordinates, {before} with those in the interleaved order."
    return [text.replace("-", "−") for text in (first, second)]


def crossing() -> Moving:
    """Eight coordinates that move from one layout to the other. Without JavaScript they have all moved."""
    script = _SCRIPT
    for name, value in {"DIM": DIM, "STEPS": STEPS, "BOX": BOX, "TOP": TOP, "BOTTOM": BOTTOM}.items():
        script = script.replace(f"__{name}__", str(value))
    script = script.replace("__Q__", json.dumps(QUERY)).replace("__K__", json.dumps(KEY))
    return moving(
        "rope-crossing",
        _drawing(),
        [
            slider("moved", "from the interleaved order to the half order, in tenths", START[0], STEPS),
            slider("d", "distance of query and key", START[1], FARTHEST),
        ],
        said(*START),
        script,
        box=f"-4 -10 {DIM * BOX + 8} {BOTTOM + 92}",
        label="Two rows of eight coordinates, joined by lines. Arcs show which two places turn together.",
        style=_STYLE,
    )


def _drawing() -> str:
    def box(j: int, x: float, y: int) -> str:
        return (
            f'<g transform="translate({x:g} {y})"><rect x="2" width="{BOX - 4}" height="26" rx="3" '
            f'fill="{COLOURS[j // 2]}"/><text class="name" x="{BOX / 2:g}" y="14">{j}</text></g>'
        )

    at = [_place(j, START[0]) * BOX / STEPS for j in range(DIM)]
    lines = "".join(
        f'<line class="way" x1="{(j + 0.5) * BOX:g}" y1="{TOP + 26}" x2="{x + BOX / 2:g}" y2="{BOTTOM}" '
        f'stroke="{COLOURS[j // 2]}"/>'
        for j, x in enumerate(at)
    )
    above = "".join(f"M{(2 * i + 0.5) * BOX:g} {TOP}q{BOX / 2:g} -22 {BOX} 0" for i in range(DIM // 2))
    below = "".join(
        f"M{(i + 0.5) * BOX:g} {BOTTOM + 28}q{DIM // 4 * BOX} 60 {DIM // 2 * BOX} 0" for i in range(DIM // 2)
    )
    words = f'<text x="{DIM * BOX / 2:g}" y="0">interleaved</text>'
    words += f'<text x="{DIM * BOX / 2:g}" y="{BOTTOM + 72}">half</text>'
    first = "".join(box(j, j * BOX, TOP) for j in range(DIM))
    last = "".join(box(j, x, BOTTOM) for j, x in enumerate(at))
    return f'<path class="arc" d="{above}{below}"/>{lines}{first}<g class="moved">{last}</g>{words}'


_STYLE = """.rope-crossing .arc{fill:none;stroke:var(--ink);stroke-width:1.5}
.rope-crossing .way{stroke-width:2.5}
.rope-crossing text{fill:var(--ink);font-weight:normal;font-size:14px}
.rope-crossing text.name{fill:#fff;font-weight:bold}
.rope-crossing p{min-height:4.5em}
"""

_SCRIPT = r"""const D = __DIM__, steps = __STEPS__, box = __BOX__, query = __Q__, key = __K__;
const order = Array.from({length: D}, (_, j) => j < D / 2 ? 2 * j : 2 * j - D + 1);  // p of equation 5.2
function place(j, moved) { return j * steps + (order.indexOf(j) - j) * moved; }
function score(q, k, distance, half) {
  let sum = 0;
  for (let i = 0; i < D / 2; i++) {
    const a = half ? i : 2 * i, b = half ? i + D / 2 : 2 * i + 1, angle = distance * Math.pow(10000, -2 * i / D);
    const cos = Math.cos(angle), sin = Math.sin(angle);
    sum += (q[a] * cos - q[b] * sin) * k[a] + (q[b] * cos + q[a] * sin) * k[b];
  }
  return sum;
}
export function numbers({moved, d}) {
  let crossing = 0;
  for (let a = 0; a < D; a++) for (let b = a + 1; b < D; b++) crossing += place(a, moved) > place(b, moved);
  return {crossing: crossing, interleaved: score(query, key, d, false),
    reordered: score(order.map((j) => query[j]), order.map((j) => key[j]), d, true),
    "as it was": score(query, key, d, true)};
}
function figure(root) {
  const notes = root.querySelectorAll("p"), svg = root.querySelector("svg");
  const ways = root.querySelectorAll(".way"), boxes = root.querySelectorAll(".moved > g");
  return function (values) {
    const {moved, d} = values, at = numbers(values);
    boxes.forEach((one, j) => {
      const x = place(j, moved) * box / steps;
      one.setAttribute("transform", "translate(" + x + " __BOTTOM__)");
      ways[j].setAttribute("x2", x + box / 2);
    });
    const lines = at.crossing === 1 ? "1 pair of lines crosses" : at.crossing + " pairs of lines cross";
    const state = moved === 0 ? "No coordinate has moved" : moved === steps ? "All coordinates have moved" :
      "On the way";
    notes[0].textContent = (state + ": " + lines + ". Score at distance " + d + ": " + at.interleaved.toFixed(3) +
      " with the interleaved rotation.").replace(/-/g, "−");
    notes[1].textContent = ("Half rotation: " + at.reordered.toFixed(3) + " with reordered coordinates, " +
      at["as it was"].toFixed(3) + " with those in the interleaved order.").replace(/-/g, "−");
    svg.setAttribute("aria-label", "Two rows of eight coordinates, joined by lines. " + notes[0].textContent + " " +
      notes[1].textContent);
  };
}
"""
