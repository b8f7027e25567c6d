"""Figures of chapter 20: the roofline with a point that the reader moves, and speed by the size of a tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import log2, log10

from matplotlib.figure import Figure

from rope_lab.figures.moving import Moving, choice, moving, slider
from rope_lab.figures.style import COLORS, apart, direct_label, new_figure

LOW, HIGH = -3, 13  # of the axis of operations per byte, powers of two
WIDTH, HEIGHT, DEPTH = 300, 190, 9  # of the drawing; powers of two that it shows below the roof

Points = Mapping[str, Sequence[tuple[int, int]]]  # by name and step of the slider: bytes and operations


def numbers(beta: float, gamma: float, point: tuple[int, int]) -> dict[str, float]:
    """What the figure shows: operations per byte, those of the edge, and seconds for the bytes and the operations."""
    moved, computed = point[0] / beta, point[1] / gamma
    return {"intensity": point[1] / point[0], "edge": gamma / beta, "moved": moved, "computed": computed}


def said(beta: float, gamma: float, point: tuple[int, int], step: int, unit: str) -> list[str]:
    """The sentences below the slider; the script writes the same ones.

    Args:
        beta, gamma: bytes and operations per second of the machine.
        point: bytes and operations of the computation.
        step: of the slider: it shows 2^step.
        unit: what is counted by 2^step, in the plural.
    """
    found = numbers(beta, gamma, point)
    moved, computed = found["moved"], found["computed"]
    bound = "memory" if moved > computed else "arithmetic"
    number = f"{2**step:,} {unit[:-1] if step == 0 else unit}"
    return [
        f"{number}: {_short(found['intensity'])} operations per byte; the edge is at {_short(found['edge'])}.",
        f"Bytes take {_seconds(moved)}, operations {_seconds(computed)}: bound by {bound}.",
    ]


def _short(x: float) -> str:
    return f"{x:.3f}" if x < 10 else f"{x:.1f}" if x < 100 else f"{x:,.0f}"


def _seconds(seconds: float) -> str:
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{_short(seconds * factor)} {unit}"
    return f"{_short(seconds)} s"


def roofline(
    beta: float, gamma: float, points: Points, units: Mapping[str, str], *, start: int = 3
) -> Moving:
    """The roof of a machine and the point of a computation on it. Without JavaScript the point does not move.

    Args:
        beta, gamma: bytes and operations per second of the machine.
        points: what each computation moves and computes for 1, 2, 4, 8, … of its unit, by name.
        units: what is counted, in the plural, by the same names.
        start: of the slider.
    """
    first, last = next(iter(points)), len(next(iter(points.values()))) - 1
    given = {"beta": beta, "gamma": gamma, "points": dict(points), "units": dict(units)}
    script = _SCRIPT.replace("__GIVEN__", json.dumps(given, ensure_ascii=False))
    for name, number in {"LOW": LOW, "HIGH": HIGH, "W": WIDTH, "H": HEIGHT, "DEPTH": DEPTH}.items():
        script = script.replace(f"__{name}__", str(number))
    chosen = points[first][start]
    return moving(
        "rope-roof",
        _drawing(beta, gamma, chosen[1] / chosen[0]),
        [
            choice("kind", "what is computed", list(points)),
            slider("n", "tokens or texts at once, a power of two", start, last, shown=f"{2**start:,}"),
        ],
        said(beta, gamma, chosen, start, units[first]),
        script,
        box=f"-26 -14 {WIDTH + 44} {HEIGHT + 56}",
        label="The roof of this machine: operations per second against operations per byte.",
        style=_STYLE,
    )


def _drawing(beta: float, gamma: float, intensity: float) -> str:
    def across(value: float) -> float:
        return (log2(value) - LOW) / (HIGH - LOW) * WIDTH

    edge, first = across(gamma / beta), (log2(gamma / beta) - LOW) / DEPTH * HEIGHT
    roof = f'<path class="roof" d="M0 {first:.1f}L{edge:.1f} 0H{WIDTH}"/>'
    axis = f'<path class="axis" d="M0 {HEIGHT}H{WIDTH}M{edge:.1f} 0V{HEIGHT}"/>'
    marks = "".join(
        f'<text x="{across(2**k):.1f}" y="{HEIGHT + 14}">{text}</text>'
        for k, text in ((-2, "¼"), (0, "1"), (4, "16"), (8, "256"), (12, "4,096"))
    )
    name = f'<text x="{WIDTH / 2}" y="{HEIGHT + 34}">operations per byte</text>'
    x, y = across(intensity), log2(gamma / min(gamma, intensity * beta)) / DEPTH * HEIGHT
    drop = f'<line class="drop" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{HEIGHT}"/>'
    point = f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
    words = '<text x="{:.1f}" y="{}">memory</text><text x="{:.1f}" y="{}">arithmetic</text>'
    sides = words.format(edge / 2, HEIGHT - 12, (edge + WIDTH) / 2, HEIGHT - 12)
    return axis + roof + marks + name + sides + drop + point


_STYLE = """.rope-roof .axis{fill:none;stroke:var(--faint)}
.rope-roof .roof{fill:none;stroke:var(--q);stroke-width:3}
.rope-roof .drop{stroke:var(--k);stroke-dasharray:3 4}
.rope-roof .point{fill:var(--k)}
.rope-roof text{fill:var(--ink);font-weight:normal;font-size:14px}
"""

_SCRIPT = r"""const given = __GIVEN__;
function grouped(text) { return text.replace(/\B(?=(\d{3})+(?!\d))/g, ","); }
function short(x) { return x < 10 ? x.toFixed(3) : x < 100 ? x.toFixed(1) : grouped(x.toFixed(0)); }
function seconds(t) {
  for (const [factor, unit] of [[1e9, "ns"], [1e6, "µs"], [1e3, "ms"]]) {
    if (t * factor < 1000) return short(t * factor) + " " + unit;
  }
  return short(t) + " s";
}
export function numbers({kind, n}) {
  const [bytes, operations] = given.points[kind][n];
  return {intensity: operations / bytes, edge: given.gamma / given.beta, moved: bytes / given.beta,
    computed: operations / given.gamma};
}
function figure(root, input) {
  const notes = root.querySelectorAll("p"), svg = root.querySelector("svg");
  const point = root.querySelector(".point"), drop = root.querySelector(".drop");
  return function (values) {
    const at = numbers(values), count = grouped(String(Math.pow(2, values.n))), unit = given.units[values.kind];
    const roof = Math.min(given.gamma, at.intensity * given.beta);
    const x = (Math.log2(at.intensity) - __LOW__) / (__HIGH__ - __LOW__) * __W__;
    const y = Math.log2(given.gamma / roof) / __DEPTH__ * __H__;
    point.setAttribute("cx", x.toFixed(1));
    point.setAttribute("cy", y.toFixed(1));
    drop.setAttribute("x1", x.toFixed(1));
    drop.setAttribute("x2", x.toFixed(1));
    drop.setAttribute("y1", y.toFixed(1));
    const number = count + " " + (values.n ? unit : unit.slice(0, -1));
    input("n").parentNode.querySelector("b").textContent = ": " + count;
    input("n").setAttribute("aria-valuetext", number);
    notes[0].textContent = number + ": " + short(at.intensity) + " operations per byte; the edge is at " +
      short(at.edge) + ".";
    notes[1].textContent = "Bytes take " + seconds(at.moved) + ", operations " + seconds(at.computed) +
      ": bound by " + (at.moved > at.computed ? "memory" : "arithmetic") + ".";
    svg.setAttribute("aria-label", notes[0].textContent + " " + notes[1].textContent);
  };
}
"""


def by_size(kilobytes: Sequence[int], speeds: Mapping[str, Sequence[float]]) -> Figure:
    """How the speed of several operations changes with the size of a tensor, each as a share of its highest.

    Args:
        kilobytes: sizes of a tensor.
        speeds: of each operation for each size, by its name, in any unit.
    """
    figure, axes = new_figure(size=(7.5, 3.6))
    ends = {name: rates[-1] / max(rates) for name, rates in speeds.items()}
    heights = dict(zip(ends, apart([log10(end) for end in ends.values()], 0.14), strict=True))
    for (name, rates), color in zip(speeds.items(), COLORS.values(), strict=False):
        axes.plot(kilobytes, [rate / max(rates) for rate in rates], "o-", color=color)
        direct_label(axes, kilobytes[-1], 10 ** heights[name], f" {name}", color)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(
        kilobytes, [f"{size:,} kB" if size < 1024 else f"{size // 1024} MB" for size in kilobytes]
    )
    axes.set_yticks([1, 0.3, 0.1, 0.03], ["1", "0.3", "0.1", "0.03"])
    axes.minorticks_off()
    axes.set_ylim(min(0.03, *ends.values()) * 0.8, 1.3)
    axes.set_xlabel("size of the tensor, or of each matrix")
    axes.set_ylabel("speed, highest = 1")
    axes.set_xlim(right=kilobytes[-1] * 6)
    return figure
