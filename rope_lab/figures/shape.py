"""The moving figure of chapter 16: trained scores, and the curve that a shift and some turning pairs give."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rope_lab.figures.moving import moving, slider

if TYPE_CHECKING:
    from IPython.display import HTML

SHIFTS = 6  # the largest shift on the slider
WIDTH, HEIGHT = 300, 180  # of the drawing
_Curve = NDArray[np.float64]


def curve(at: Sequence[float], freqs: Sequence[float], shift: int, pairs: int) -> _Curve:
    """The mean of cos((s − shift) θ_i) over the fastest pairs, at each distance s."""
    return np.cos(np.outer(np.asarray(at, dtype=float) - shift, freqs[:pairs])).mean(1)


def said(
    at: Sequence[float], mean: Sequence[float], freqs: Sequence[float], shift: int, pairs: int
) -> list[str]:
    """What the figure says of a shift and a number of pairs: r with the scores, and where the curve is highest."""
    r = float(np.corrcoef(curve(at, freqs, shift, pairs), mean)[0, 1])
    which = f"all {pairs} pairs turn" if pairs == len(freqs) else f"the {pairs} fastest pairs turn"
    which = "only the fastest pair turns" if pairs == 1 < len(freqs) else which
    return [
        f"δ = {shift}, {which}: r = {r:.3f} with the trained scores.".replace("-", "−"),
        "Dots: mean trained scores by distance. Line: the curve, its height and offset fitted.",
    ]


def score_shape(at: Sequence[float], mean: Sequence[float], freqs: Sequence[float]) -> HTML:
    """Mean scores as dots, and a line whose shift and number of turning pairs the reader chooses.

    Args:
        at: distances, from 0 on.
        mean: the mean score at each of them.
        freqs: the frequencies of the pairs, the fastest first.
    """
    count = len(freqs)
    script = _SCRIPT.replace("__AT__", json.dumps(list(at))).replace("__THETA__", json.dumps(list(freqs)))
    script = script.replace("__MEAN__", json.dumps([round(y, 4) for y in mean]))
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

    slope, offset = np.polyfit(curve(at, freqs, 1, len(freqs)), mean, 1)
    steps = np.arange(last + 1)
    line = "L".join(
        spot(s, y)
        for s, y in zip(steps, slope * curve(steps.tolist(), freqs, 1, len(freqs)) + offset, strict=True)
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

_SCRIPT = """  var at = __AT__, mean = __MEAN__, theta = __THETA__, low = __LOW__, high = __HIGH__;
  var line = root.querySelector(".curve"), notes = root.querySelectorAll("p"), last = at[at.length - 1];
  function value(s, shift, pairs) {
    return theta.slice(0, pairs).reduce(function (sum, t) { return sum + Math.cos((s - shift) * t); }, 0) / pairs;
  }
  function average(list) { return list.reduce(function (a, b) { return a + b; }, 0) / list.length; }
  function draw() {
    var shift = +input("d").value, pairs = +input("p").value;
    ["d", "p"].forEach(function (role) {
      input(role).parentNode.querySelector("b").textContent = ": " + input(role).value;
    });
    var x = at.map(function (s) { return value(s, shift, pairs); }), mx = average(x), my = average(mean);
    var xy = 0, xx = 0, yy = 0;
    x.forEach(function (v, i) {
      xy += (v - mx) * (mean[i] - my);
      xx += (v - mx) * (v - mx);
      yy += (mean[i] - my) * (mean[i] - my);
    });
    var slope = xy / xx, path = [];
    for (var s = 0; s <= last; s++) {
      var y = my + slope * (value(s, shift, pairs) - mx);
      path.push((s / last * __WIDTH__).toFixed(1) + " " + ((high - y) / (high - low) * __HEIGHT__).toFixed(1));
    }
    line.setAttribute("d", "M" + path.join("L"));
    var which = pairs === theta.length ? "all " + pairs + " pairs turn" :
      pairs === 1 ? "only the fastest pair turns" : "the " + pairs + " fastest pairs turn";
    notes[0].textContent = "δ = " + shift + ", " + which + ": r = " +
      (xy / Math.sqrt(xx * yy)).toFixed(3).replace("-", "−") + " with the trained scores.";
  }"""
