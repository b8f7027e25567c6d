"""The moving figure of chapter 2: digits of a counter, the sines whose signs they are, and the hands behind them."""

from __future__ import annotations

import math

import torch

from rope_lab import angles, frequencies, sinusoidal
from rope_lab.figures.moving import Moving, moving, slider

DIGITS, LAST = 6, 62  # of the counter; the largest position, which has a next one of six digits
STAGES = ("digits", "waves", "hands")
START, STAGE = 22, 2  # of the sliders
WIDTH, ROW, HEIGHT = 200, 36, 13  # of the drawing: waves, distance of rows, height of a wave
CLOCK = WIDTH + 30  # where the middle of the clocks is


def numbers(m: int, stage: int) -> dict[str, float]:
    """What the figure shows: digits, sines and angles (degrees) at m, and what one position further changes.

    Hand j turns by π/2^j radians per position, π times the frequencies of six pairs with base 64.
    """
    theta = frequencies(2 * DIGITS, base=2.0**DIGITS)
    here, there = (torch.tensor([math.pi * (place + 0.5)], dtype=torch.float64) for place in (m, m + 1))
    first, second = (
        sinusoidal(place, 2 * DIGITS, base=2.0**DIGITS, dtype=torch.float64)[0, ::2]
        for place in (here, there)
    )
    turned = torch.rad2deg(angles(here, theta, dtype=torch.float64))[0] % 360
    return {
        "stage": stage,
        "changed": (m ^ (m + 1)).bit_count(),
        "slow step": float((second - first)[-1].abs()),
        **{f"digit {j}": m >> j & 1 for j in range(DIGITS)},
        **{f"sine {j}": float(first[j]) for j in range(DIGITS)},
        **{f"angle {j}": float(turned[j]) for j in range(DIGITS)},
    }


def said(m: int, stage: int) -> list[str]:
    """The sentences below the sliders; the script writes the same ones."""
    at = numbers(m, stage)
    code = "".join(str(int(at[f"digit {j}"])) for j in reversed(range(DIGITS)))
    start, changed = f"Position {m} is {code} in binary.", int(at["changed"])
    if stage == 0:
        digits = "1 digit changes" if changed == 1 else f"{changed} digits change"
        return [start, f"One position further, {digits}."]
    if stage == 1:
        heights = ", ".join(f"{at[f'sine {j}']:.2f}".replace("-", "−") for j in range(DIGITS))
        slow = f"{at['slow step']:.2f}"
        return [
            f"{start} Sines, fastest first: {heights}.",
            f"One position further, the slowest sine moves by {slow}; no step moves it by more than 0.10.",
        ]
    turned = ", ".join(f"{math.floor(round(at[f'angle {j}'], 6) + 0.5)}°" for j in range(DIGITS))
    return [
        f"{start} Hands, fastest first, are at {turned}.",
        "One position further, they turn by 180°, 90°, 45°, 22.5°, 11.25° and 5.625°, from any position.",
    ]


def digits_to_hands() -> Moving:
    """Digits, waves and hands of a position. Without JavaScript it shows all three at position 22."""
    script = _SCRIPT
    for name, number in {"DIGITS": DIGITS, "WIDTH": WIDTH, "ROW": ROW, "HEIGHT": HEIGHT}.items():
        script = script.replace(f"__{name}__", str(number))
    return moving(
        "rope-counting",
        _drawing(),
        [
            slider("m", "position", START, LAST),
            slider("stage", "show", STAGE, len(STAGES) - 1, shown=STAGES[STAGE]),
        ],
        said(START, STAGE),
        script.replace("__STAGES__", str(list(STAGES))),
        box=f"-24 -4 {WIDTH + 92} {DIGITS * ROW + 4}",
        label="Six rows, fast to slow. Each has the stripes of a digit, a wave, and a clock with a hand.",
        style=_STYLE,
    )


def _drawing() -> str:
    at, rows = numbers(START, STAGE), ""
    x = (START + 0.5) * WIDTH / 64
    for j in range(DIGITS):
        period, middle = 2 ** (j + 1), (j + 0.5) * ROW
        unit = WIDTH / 64
        stripes = "".join(
            f"M{(place + period / 2) * unit:.4g} {middle - 15:g}h{period / 2 * unit:.4g}v30h-{period / 2 * unit:.4g}z"
            for place in range(0, 64, period)
        )
        dots = 8 if j < 2 else 24  # per period
        steps = [k * period / dots for k in range(64 * dots // period + 1)]
        wave = "L".join(
            f"{u * unit:.4g} {middle - HEIGHT * math.sin(math.tau * u / period):.4g}" for u in steps
        )
        up = HEIGHT * at[f"sine {j}"]
        across = HEIGHT * math.cos(math.radians(at[f"angle {j}"]))
        rows += (
            f'<text x="-13" y="{middle:g}">{j}</text><path class="ones" d="{stripes}"/>'
            f'<text class="digit" x="{WIDTH + 58}" y="{middle:g}">{at[f"digit {j}"]:.0f}</text>'
            f'<g class="wave"><path d="M{wave}"/>'
            f'<circle cx="{x:.2f}" cy="{middle - up:.2f}" r="3.5"/></g>'
            f'<g class="clock"><line class="level" x1="{x:.2f}" x2="{CLOCK + across:.2f}" '
            f'y1="{middle - up:.2f}" y2="{middle - up:.2f}"/><circle cx="{CLOCK}" cy="{middle:g}" r="{HEIGHT}"/>'
            f'<line class="hand" x1="{CLOCK}" y1="{middle:g}" x2="{CLOCK + across:.2f}" y2="{middle - up:.2f}"/></g>'
        )
    return f'{rows}<line class="now" x1="{x:.2f}" x2="{x:.2f}" y2="{DIGITS * ROW}"/>'


_STYLE = """.rope-counting svg{flex-basis:21rem;max-width:24rem}
.rope-counting .ones{fill:var(--faint);fill-opacity:.35}
.rope-counting .wave path{fill:none;stroke:var(--q);stroke-width:1.5}
.rope-counting .wave circle{fill:var(--q)}
.rope-counting .clock circle{fill:none;stroke:var(--faint)}
.rope-counting .level{stroke:var(--q);stroke-dasharray:2 3}
.rope-counting .hand{stroke:var(--k);stroke-width:3}
.rope-counting .now{stroke:var(--ink)}
.rope-counting text{fill:var(--ink);font-weight:normal}
.rope-counting .digit{font-weight:bold}
.rope-counting p{min-height:4.5em}
"""

_SCRIPT = r"""const count = __DIGITS__, unit = __WIDTH__ / 64, clock = __WIDTH__ + 30, stages = __STAGES__;
function sine(j, m) { return Math.sin(Math.PI * (m + 0.5) / Math.pow(2, j)); }
export function numbers({m, stage}) {
  const found = {stage: stage, changed: 0, "slow step": 0};
  for (let j = 0; j < count; j++) {
    found["slow step"] = Math.abs(sine(j, m + 1) - sine(j, m));  // of the last one, in the end
    found.changed += (m ^ (m + 1)) >> j & 1;
    found["digit " + j] = m >> j & 1;
    found["sine " + j] = sine(j, m);
    found["angle " + j] = 180 * (m + 0.5) / Math.pow(2, j) % 360;
  }
  return found;
}
function figure(root, input) {
  const notes = root.querySelectorAll("p"), svg = root.querySelector("svg"), now = root.querySelector(".now");
  const waves = root.querySelectorAll(".wave"), clocks = root.querySelectorAll(".clock");
  const digits = root.querySelectorAll(".digit");
  return function (values) {
    const {m, stage} = values, at = numbers(values), x = ((m + 0.5) * unit).toFixed(2);
    const all = Array.from({length: count}, (_, j) => j);
    input("stage").parentNode.querySelector("b").textContent = ": " + stages[stage];
    input("stage").setAttribute("aria-valuetext", stages[stage]);
    now.setAttribute("x1", x);
    now.setAttribute("x2", x);
    for (const j of all) {
      const y = ((j + 0.5) * __ROW__ - __HEIGHT__ * at["sine " + j]).toFixed(2), hand = clocks[j].lastElementChild;
      const tip = (clock + __HEIGHT__ * Math.cos(at["angle " + j] * Math.PI / 180)).toFixed(2);
      const level = clocks[j].firstElementChild, dot = waves[j].lastElementChild;
      digits[j].textContent = at["digit " + j];
      waves[j].style.display = stage > 0 ? "" : "none";
      clocks[j].style.display = stage > 1 ? "" : "none";
      dot.setAttribute("cx", x);
      dot.setAttribute("cy", y);
      for (const [line, name, value] of [[level, "x1", x], [level, "y1", y], [level, "x2", tip], [level, "y2", y],
        [hand, "x2", tip], [hand, "y2", y]]) line.setAttribute(name, value);
    }
    const start = "Position " + m + " is " + all.map((j) => at["digit " + j]).reverse().join("") + " in binary.";
    if (stage === 0) {
      notes[0].textContent = start;
      notes[1].textContent = "One position further, " +
        (at.changed === 1 ? "1 digit changes." : at.changed + " digits change.");
    } else if (stage === 1) {
      notes[0].textContent = start + " Sines, fastest first: " +
        all.map((j) => at["sine " + j].toFixed(2).replace("-", "−")).join(", ") + ".";
      notes[1].textContent = "One position further, the slowest sine moves by " + at["slow step"].toFixed(2) +
        "; no step moves it by more than 0.10.";
    } else {
      notes[0].textContent = start + " Hands, fastest first, are at " +
        all.map((j) => Math.floor(at["angle " + j] + 0.5) + "°").join(", ") + ".";
      notes[1].textContent = "One position further, they turn by 180°, 90°, 45°, 22.5°, 11.25° and 5.625°, " +
        "from any position.";
    }
    svg.setAttribute("aria-label", "Six rows, fast to slow, with " + stages.slice(0, stage + 1).join(", ") + ". " +
      notes[0].textContent);
  };
}
"""
