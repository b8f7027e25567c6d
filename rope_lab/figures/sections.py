"""The moving figure of chapter 9: the 64 pairs of a head with M-RoPE, and which coordinate turns each of them."""

from __future__ import annotations

import json
import math

import torch
from torch import Tensor

from rope_lab.encodings import interleaved_mrope_frequencies, mrope_frequencies
from rope_lab.figures.moving import Moving, choice, moving, slider

KINDS = ("contiguous", "interleaved")
AXES = ("time", "rows", "columns")
SECTIONS, BASE = (24, 20, 20), 5e6  # of Qwen3-VL
MOST = 31  # the largest coordinate on a slider
START = KINDS[0], 4, 12, 20  # kind, frame, row, column
FACES = ("M-13 -13h26v26h-26z", "M-14 0a14 14 0 1 0 28 0a14 14 0 1 0 -28 0z", "M0 -17L17 0L0 17L-17 0z")
STEP = 38  # from one pair to the next in the drawing


def matrix(kind: str) -> Tensor:
    """The frequencies of the arrangement, (3, 64)."""
    build = mrope_frequencies if kind == KINDS[0] else interleaved_mrope_frequencies
    return build(SECTIONS, BASE)


def numbers(kind: str, frame: int, row: int, column: int) -> dict[str, float]:
    """What the figure shows: every angle in radians; of each axis the fastest pair, in degrees, and pairs past 1°."""
    freqs = matrix(kind)
    found = torch.tensor([frame, row, column], dtype=torch.float64) @ freqs
    angles = {f"angle {i}": float(angle) for i, angle in enumerate(found)}
    fastest = {f"fastest, {axis}": math.degrees(float(freqs[a].max())) for a, axis in enumerate(AXES)}
    past = (found > math.pi / 180) & (freqs > 0)
    return angles | fastest | {f"past 1°, {axis}": int(past[a].sum()) for a, axis in enumerate(AXES)}


def said(kind: str, frame: int, row: int, column: int) -> list[str]:
    """The sentences below the controls; the script writes the same ones."""
    at = numbers(kind, frame, row, column)
    fastest = [f"{at[f'fastest, {axis}']:#.3g}°" for axis in AXES]
    past = [f"{at[f'past 1°, {axis}']:.0f} of {count}" for axis, count in zip(AXES, SECTIONS, strict=True)]
    text = (
        f" All are {frame}: each pair turns as in a text at position {frame}."
        if frame == row == column
        else ""
    )
    return [
        f"Frame {frame}, row {row}, column {column}: {past[0]} pairs of time, {past[1]} of the rows and "
        f"{past[2]} of the columns have turned by more than 1°.{text}",
        f"{kind.capitalize()}: one frame turns the fastest pair of time by {fastest[0]}, one row the fastest of the "
        f"rows by {fastest[1]}, and one column the fastest of the columns by {fastest[2]}.",
    ]


def sections() -> Moving:
    """64 hands in frames of three shapes. Without JavaScript: contiguous sections at frame 4, row 12, column 20."""
    _, frame, row, column = START
    owners = {name: (matrix(name) != 0).long().argmax(0).tolist() for name in KINDS}
    script = _SCRIPT
    for name, value in {
        "OWNERS": owners, "BASE": BASE, "AXES": AXES, "SECTIONS": SECTIONS, "FACES": FACES,
    }.items():  # fmt: skip
        script = script.replace(f"__{name}__", json.dumps(value, separators=(",", ":")))
    return moving(
        "rope-sections",
        _drawing(),
        [
            choice("kind", "sections", KINDS),
            slider("t", "frame", frame, MOST),
            slider("h", "row", row, MOST),
            slider("w", "column", column, MOST),
        ],
        said(*START),
        script,
        box=f"-20 -20 {8 * STEP + 2} {8 * STEP + 24}",
        label=f"The 64 pairs of a head as hands, the fast ones first. {said(*START)[0]}",
        style=_STYLE,
        dark="--third:#2fc796;",
    )


def _drawing() -> str:
    kind, *_ = START
    owner, found = (matrix(kind) != 0).long().argmax(0).tolist(), numbers(*START)
    pairs = "".join(
        f'<g transform="translate({i % 8 * STEP} {i // 8 * STEP})"><path class="face a{owner[i]}" '
        f'd="{FACES[owner[i]]}"/><path class="hand" d="M0 0h12" '
        f'transform="rotate({-math.degrees(math.fmod(found[f"angle {i}"], math.tau)):.1f})"/></g>'
        for i in range(sum(SECTIONS))
    )
    legend = "".join(
        f'<g transform="translate({x} {8 * STEP - 8})"><path class="face a{a}" d="{FACES[a]}" transform="scale(.5)"/>'
        f'<text class="mark" x="{14}">{axis}</text></g>'
        for a, (axis, x) in enumerate(zip(AXES, (10, 95, 185), strict=True))
    )
    return pairs + legend


_STYLE = """.rope-sections{--third:#00795a}
.rope-moving.rope-sections svg{flex:1 1 19rem;max-width:23rem}
.rope-sections .face{fill:none;stroke:var(--k);stroke-width:2}
.rope-sections .a1{stroke:var(--q)}
.rope-sections .a2{stroke:var(--third)}
.rope-sections .hand{stroke:var(--ink);stroke-width:2.5;stroke-linecap:round}
.rope-sections .mark{fill:var(--ink);font-weight:normal;text-anchor:start}
"""

_SCRIPT = r"""const owners = __OWNERS__, base = __BASE__, axes = __AXES__, counts = __SECTIONS__, faces = __FACES__;
export function numbers({kind, t, h, w}) {
  const at = [t, h, w], found = {}, fastest = [0, 0, 0], past = [0, 0, 0];
  owners[kind].forEach((axis, i) => {
    const theta = Math.pow(base, -i / 64), angle = at[axis] * theta;
    found["angle " + i] = angle;
    fastest[axis] = Math.max(fastest[axis], theta * 180 / Math.PI);
    past[axis] += angle > Math.PI / 180;
  });
  axes.forEach((axis, a) => {
    found["fastest, " + axis] = fastest[a];
    found["past 1°, " + axis] = past[a];
  });
  return found;
}
function figure(root) {
  const notes = root.querySelectorAll("p"), hands = root.querySelectorAll(".hand");
  const drawn = root.querySelectorAll(".face");
  return function (values) {
    const {kind, t, h, w} = values, found = numbers(values);
    owners[kind].forEach((axis, i) => {
      drawn[i].setAttribute("class", "face a" + axis);
      drawn[i].setAttribute("d", faces[axis]);
      const turned = found["angle " + i] % (2 * Math.PI) * 180 / Math.PI;
      hands[i].setAttribute("transform", "rotate(" + (-turned).toFixed(1) + ")");
    });
    const past = axes.map((axis, a) => found["past 1°, " + axis] + " of " + counts[a]);
    const fastest = axes.map((axis) => found["fastest, " + axis].toPrecision(3) + "°");
    const name = kind[0].toUpperCase() + kind.slice(1);
    notes[0].textContent = "Frame " + t + ", row " + h + ", column " + w + ": " + past[0] + " pairs of time, " +
      past[1] + " of the rows and " + past[2] + " of the columns have turned by more than 1°." +
      (t === h && h === w ? " All are " + t + ": each pair turns as in a text at position " + t + "." : "");
    notes[1].textContent = name + ": one frame turns the fastest pair of time by " + fastest[0] +
      ", one row the fastest of the rows by " + fastest[1] + ", and one column the fastest of the columns by " +
      fastest[2] + ".";
    root.querySelector("svg").setAttribute("aria-label",
      "The 64 pairs of a head as hands, the fast ones first. " + notes[0].textContent);
  };
}
"""
