"""The moving figure of chapter 11: wavelengths of all pairs in a text of any length, by a scaling of choice."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from rope_lab.encodings import (
    Llama3,
    LongRoPE2,
    NTKAware,
    PositionInterpolation,
    PRoPE,
    Scaling,
    YaRN,
    critical_pair,
    frequencies,
    starting_factors,
)
from rope_lab.figures.moving import Moving, choice, moving, slider

PAIRS, BASE, TRAINED = 64, 10_000.0, 4096  # of Llama 2
STEPS, START = (
    20,
    12,
)  # quarters of a doubling: the last is 32 times the trained length, the first shown 8 times
NAMES = (
    "nothing scaled",
    "position interpolation",
    "NTK-aware",
    "dynamic NTK",
    "YaRN",
    "Llama 3",
    "LongRoPE2, start of the search",
    "p-RoPE, p = 0.25",
)
WIDTH, HEIGHT, LOW, HIGH = 300, 210, 0.6, 8.0  # of the drawing, and the powers of ten at its ends
_THETA = frequencies(2 * PAIRS, BASE)
_CRITICAL = critical_pair(_THETA, TRAINED)


def scaled(name: str, factor: float) -> Tensor:
    """The frequencies of a scaling by its name in the menu, for a text of factor · TRAINED tokens, (PAIRS,)."""
    start = starting_factors(PAIRS, _CRITICAL, factor)
    scalings: Mapping[str, Scaling] = {
        "position interpolation": PositionInterpolation(factor),
        "NTK-aware": NTKAware(factor),
        "YaRN": YaRN(factor, TRAINED),
        "Llama 3": Llama3(factor, original_length=TRAINED),
        "LongRoPE2, start of the search": LongRoPE2(start, _CRITICAL, factor, TRAINED),
        "p-RoPE, p = 0.25": PRoPE(0.25),
    }
    if name == "dynamic NTK":  # at a length that need not be a whole number
        return NTKAware(factor * factor - factor + 1)(_THETA, 0)[0]
    if name == "nothing scaled":
        return _THETA
    return scalings[name](_THETA, TRAINED + 1)[0]


def leaving(freqs: Tensor, factor: float) -> Tensor:
    """Which pairs meet angles that they did not meet in training, as truth values, (PAIRS,)."""
    return (torch.arange(PAIRS) >= _CRITICAL) & (factor * freqs > _THETA * (1 + 1e-9))


def numbers(name: str, step: int) -> dict[str, float]:
    """What the figure shows: tokens, pairs with new angles, unchanged pairs, and how far neighbours still differ."""
    factor = 2 ** (step / 4)
    freqs = scaled(name, factor)
    near, before = (float((theta / 2).sin().square().sum()) for theta in (freqs, _THETA))
    return {
        "tokens": TRAINED * factor,
        "out": int(leaving(freqs, factor).sum()),
        "kept": int(((freqs - _THETA).abs() < 1e-9 * _THETA).sum()),
        "near": math.sqrt(near / before),
        **{f"theta {i}": float(freqs[i]) for i in range(PAIRS)},
    }


def said(name: str, step: int) -> list[str]:
    """The sentences below the controls; the script writes the same ones."""
    found = numbers(name, step)
    out, kept = found["out"], found["kept"]
    return [
        f"{round(found['tokens']):,} tokens, {name}: {out} of {PAIRS - _CRITICAL} unfinished pairs meet new angles.",
        f"{kept} of {PAIRS} pairs keep their wavelength. Scores of neighbouring distances differ by "
        f"{100 * found['near']:.0f}% of what they did.",
    ]


def wavelengths() -> Moving:
    """Wavelengths by pair, before and after a scaling. Without JavaScript: nothing scaled, 8 times the length."""
    length = f"{round(TRAINED * 2 ** (START / 4)):,}"
    low, high = (f(x) for f, x in ((math.floor, _turning(32)), (math.ceil, _turning(1))))
    script = _SCRIPT
    numbers = {
        "PAIRS": PAIRS, "BASE": BASE, "TRAINED": TRAINED, "WIDTH": WIDTH, "HEIGHT": HEIGHT, "LOWEST": LOW,
        "HIGHEST": HIGH, "CRITICAL": _CRITICAL, "FIRST": low, "LAST": high,
    }  # fmt: skip
    for key, number in numbers.items():
        script = script.replace(f"__{key}__", f"{number:.17g}")
    script = script.replace("__NAMES__", json.dumps(NAMES))
    return moving(
        "rope-waves",
        _drawing(NAMES[0], START),
        [
            choice("scaling", "scaling", NAMES),
            slider("n", "tokens in the text", START, STEPS, shown=length),
        ],
        said(NAMES[0], START),
        script,
        box=f"-30 -12 {WIDTH + 48} {HEIGHT + 46}",
        label="Wavelength by pair on a logarithmic axis, before and after a scaling.",
        style=_STYLE,
    )


def _turning(turns: float) -> float:
    """The index of the pair that turns so often in the trained length."""
    return PAIRS * math.log(TRAINED / (2 * math.pi * turns)) / math.log(BASE)


def _height(wave: float) -> float:
    """Where a wavelength is drawn; pairs that do not turn are at the upper edge."""
    return (HIGH - min(math.log10(wave), HIGH)) / (HIGH - LOW) * HEIGHT if wave < math.inf else 0.0


def _drawing(name: str, step: int) -> str:
    factor = 2 ** (step / 4)
    freqs = scaled(name, factor)
    out = leaving(freqs, factor).tolist()
    before = "".join(
        f'<circle class="before" cx="{_across(i)}" cy="{_height(math.tau / t):.1f}" r="1.5"/>'
        for i, t in enumerate(_THETA.tolist())
    )
    after = "".join(
        f'<circle class="after{" out" if out[i] else ""}" cx="{_across(i)}" '
        f'cy="{_height(math.tau / t if t else math.inf):.1f}" r="3"/>'
        for i, t in enumerate(freqs.tolist())
    )
    lines = "".join(
        f'<line class="{kind}" x2="{WIDTH}" y1="{_height(n):.1f}" y2="{_height(n):.1f}"/>'
        for kind, n in (("trained", TRAINED), ("now", TRAINED * factor))
    )
    marks = "".join(
        f'<text class="mark" x="-17" y="{_height(10**p):.1f}">10{_POWERS[p]}</text>' for p in _POWERS
    )
    words = f'<text class="mark" x="{WIDTH / 2}" y="{HEIGHT + 22}">pair, fast to slow</text>'
    names = f'<text x="6" y="{_height(TRAINED) + 10:.1f}">L</text>'
    names += f'<text class="new" x="6" y="{_height(TRAINED * factor) - 10:.1f}">L′</text>'
    return lines + before + after + marks + words + names


_POWERS = {1: "", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷"}


def _across(pair: int) -> str:
    return f"{(pair + 0.5) / PAIRS * WIDTH:.1f}"


_STYLE = """.rope-waves .before{fill:var(--faint)}
.rope-waves .after{fill:var(--q)}
.rope-waves .out{fill:var(--ground);stroke:var(--k);stroke-width:2}
.rope-waves .trained{stroke:var(--ink);stroke-dasharray:5 4}
.rope-waves .now{stroke:var(--ink)}
.rope-waves text{fill:var(--ink);font-size:15px}
.rope-waves .mark{font-weight:normal}
"""

_SCRIPT = r"""const pairs = __PAIRS__, base = __BASE__, trained = __TRAINED__, critical = __CRITICAL__;
const names = __NAMES__;
const turn = 2 * Math.PI, first = __FIRST__, last = __LAST__, high = __HIGHEST__, low = __LOWEST__, tall = __HEIGHT__;
const theta = Array.from({length: pairs}, (_, j) => Math.pow(base, -j / pairs));
function comma(n) { return String(n).replace(/\B(?=(\d{3})+$)/g, ","); }
function held(x) { return Math.max(0, Math.min(1, x)); }
function share(choice, i, rho) {
  let keep = 1;
  if (choice === 1) return 1 / rho;
  if (choice === 2) return Math.pow(rho, -i / (pairs - 1));
  if (choice === 3) return Math.pow(rho * rho - rho + 1, -i / (pairs - 1));
  if (choice === 4) keep = 1 - held((i - first) / (last - first));
  if (choice === 5) keep = held((trained * theta[i] / turn - 1) / 3);
  if (choice === 6) return Math.pow(rho, -Math.min(1, i / critical));
  if (choice === 7) return i < pairs / 4 ? 1 : 0;
  return keep + (1 - keep) / rho;
}
function leaves(i, part, rho) { return i >= critical && rho * part > 1 + 1e-9; }
export function numbers({scaling, n}) {
  const rho = Math.pow(2, n / 4), found = {tokens: trained * rho, out: 0, kept: 0};
  let before = 0, after = 0;
  theta.forEach((t, i) => {
    const part = share(names.indexOf(scaling), i, rho);
    found["theta " + i] = t * part;
    found.out += leaves(i, part, rho);
    found.kept += Math.abs(part - 1) < 1e-9;
    before += Math.pow(Math.sin(t / 2), 2);
    after += Math.pow(Math.sin(t * part / 2), 2);
  });
  found.near = Math.sqrt(after / before);
  return found;
}
function height(wave) { return (high - Math.min(Math.log10(wave), high)) / (high - low) * tall; }
function figure(root, input) {
  const notes = root.querySelectorAll("p"), dots = root.querySelectorAll(".after");
  return function (values) {
    const rho = Math.pow(2, values.n / 4), at = numbers(values), shown = comma(Math.round(at.tokens));
    input("n").parentNode.querySelector("b").textContent = ": " + shown;
    input("n").setAttribute("aria-valuetext", shown);
    theta.forEach((t, i) => {
      const now = at["theta " + i];
      dots[i].setAttribute("class", "after" + (leaves(i, now / t, rho) ? " out" : ""));
      dots[i].setAttribute("cy", height(now ? turn / now : Infinity).toFixed(1));
    });
    const now = root.querySelector(".now"), y = height(trained * rho).toFixed(1);
    now.setAttribute("y1", y);
    now.setAttribute("y2", y);
    root.querySelector(".new").setAttribute("y", (height(trained * rho) - 10).toFixed(1));
    notes[0].textContent = shown + " tokens, " + values.scaling + ": " + at.out + " of " + (pairs - critical) +
      " unfinished pairs meet new angles.";
    notes[1].textContent = at.kept + " of " + pairs + " pairs keep their wavelength. Scores of neighbouring " +
      "distances differ by " + (100 * at.near).toFixed(0) + "% of what they did.";
    root.querySelector("svg").setAttribute("aria-label", "Wavelength by pair. " + notes[0].textContent);
  };
}
"""
