"""The moving figure of chapter 16: trained scores, and the curve that a shift and some turning pairs give."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rope_lab.figures.moving import Moving, moving, slider

SHIFTS = 6  # the largest shift on the slider
WIDTH, HEIGHT = 300, 180  # of the drawing
_Curve = NDArray[np.float64]


def curve(at: Sequence[float], freqs: Sequence[float], shift: int, pairs: int) -> _Curve:
    """The mean of cos((s − shift) θ_i) over the fastest pairs, at each distance s."""
    return np.cos(np.outer(np.asarray(at, dtype=float) - shift, freqs[:pairs])).mean(1)


def numbers(
    at: Sequence[float], mean: Sequence[float], freqs: Sequence[float], shift: int, pairs: int
) -> dict[str, float]:
    """What the figure shows: the correlation r of curve and scores, and the slope and offset that fit the curve."""
    x = curve(at, freqs, shift, pairs)
    slope, offset = np.polyfit(x, mean, 1)
    return {"r": float(np.corrcoef(x, mean)[0, 1]), "slope": float(slope), "offset": float(offset)}


def said(
    at: Sequence[float], mean: Sequence[float], freqs: Sequence[float], shift: int, pairs: int
) -> list[str]:
    """What the figure says of a shift and a number of pairs: r with the scores, and where the curve is highest."""
    r = numbers(at, mean, freqs, shift, pairs)["r"]
    which = f"all {pairs} pairs turn" if pairs == len(freqs) else f"the {pairs} fastest pairs turn"
    which = "only the fastest pair turns" if pairs == 1 < len(freqs) else which
    return [
        f"δ = {shift}, {which}: r = {r:.3f} with the trained scores.".replace("-", "−"),
        "Dots: mean trained scores by distance. Line: the curve, its height and offset fitted.",
    ]


def score_shape(at: Sequence[float], mean: Sequence[float], freqs: Sequence[float]) -> Moving:
    """Mean scores as dots, and a line whose shift and number of turning pairs the reader chooses.

    Args:
        at: distances, from 0 on.
        mean: the mean score at each of them.
        freqs: the frequencies of the pairs, the fastest first.
    """
    count = len(freqs)
    script = _SCRIPT.replace("__AT__", json.dumps(list(at))).replace("__THETA__", json.dumps(list(freqs)))
    script = script.replace("__MEAN__", json.dumps(list(mean)))
    for name, number in {
        "WIDTH": WIDTH,
        "HEIGHT": HEIGHT,
        "LOW": min(mean) - 1,
        "HIGH": max(mean) + 1,
    }.items():
        script = script.replace(f"__{name}__", f"{number:g}")
    return moving(
        "rope-shape",
        _drawing(at, mean, freqs),
        [slider("d", "shift δ", 1, SHIFTS), slider("p", "pairs that turn", count, count, 1)],
        said(at, mean, freqs, 1, count),
        script,
        box=f"-8 -8 {WIDTH + 16} {HEIGHT + 34}",
        label="Mean trained scores by distance and the curve of the rotation.",
        style=_STYLE,
    )


def _drawing(at: Sequence[float], mean: Sequence[float], freqs: Sequence[float]) -> str:
    low, high, last = min(mean) - 1, max(mean) + 1, at[-1]

    def spot(s: float, y: float) -> str:
        return f"{s / last * WIDTH:.1f} {(high - y) / (high - low) * HEIGHT:.1f}"

    fit = numbers(at, mean, freqs, 1, len(freqs))
    steps = np.arange(last + 1)
    line = "L".join(
        spot(s, y)
        for s, y in zip(
            steps, fit["slope"] * curve(steps.tolist(), freqs, 1, len(freqs)) + fit["offset"], strict=True
        )
    )
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="4"/>'
        for x, y in (spot(s, y).split() for s, y in zip(at, mean, strict=True))
    )
    marks = "".join(
        f'<text x="{s / last * WIDTH:.1f}" y="{HEIGHT + 16}">{s:g}</text>' for s in (0, round(last / 2), last)
    )
    return f'<path class="axis" d="M{spot(0, 0)}H{WIDTH}"/><path class="curve" d="M{line}"/>{dots}{marks}'


_STYLE = """.rope-shape .axis{fill:none;stroke:var(--faint);stroke-dasharray:4 4}
.rope-shape .curve{fill:none;stroke:var(--k);stroke-width:2.5}
.rope-shape circle{fill:var(--q)}
.rope-shape text{fill:var(--ink);font-weight:normal}
"""

_SCRIPT = """const at = __AT__, mean = __MEAN__, theta = __THETA__, low = __LOW__, high = __HIGH__;
function value(s, shift, pairs) {
  return theta.slice(0, pairs).reduce((sum, t) => sum + Math.cos((s - shift) * t), 0) / pairs;
}
function average(list) { return list.reduce((a, b) => a + b, 0) / list.length; }
export function numbers({d, p}) {
  const x = at.map((s) => value(s, d, p)), mx = average(x), my = average(mean);
  let xy = 0, xx = 0, yy = 0;
  x.forEach((v, i) => {
    xy += (v - mx) * (mean[i] - my);
    xx += (v - mx) * (v - mx);
    yy += (mean[i] - my) * (mean[i] - my);
  });
  return {r: xy / Math.sqrt(xx * yy), slope: xy / xx, offset: my - xy / xx * mx};
}
function figure(root) {
  const line = root.querySelector(".curve"), notes = root.querySelectorAll("p"), last = at[at.length - 1];
  return function (values) {
    const shift = values.d, pairs = values.p, fit = numbers(values), path = [];
    for (let s = 0; s <= last; s++) {
      const y = fit.offset + fit.slope * value(s, shift, pairs);
      path.push((s / last * __WIDTH__).toFixed(1) + " " + ((high - y) / (high - low) * __HEIGHT__).toFixed(1));
    }
    line.setAttribute("d", "M" + path.join("L"));
    const which = pairs === theta.length ? "all " + pairs + " pairs turn" :
      pairs === 1 ? "only the fastest pair turns" : "the " + pairs + " fastest pairs turn";
    notes[0].textContent = "δ = " + shift + ", " + which + ": r = " + fit.r.toFixed(3).replace("-", "−") +
      " with the trained scores.";
  };
}
"""
