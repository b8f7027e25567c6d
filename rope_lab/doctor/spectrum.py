"""What a list of frequencies is: a base, and the scaling that was applied to it, as far as it can be recognised."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

EXACT = 1e-4  # relative; measured frequencies are good to about 1e-6
ABOUT = 0.02  # what tables of half precision make of a geometric row
FACTORS = [1.5, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 128, 256]
BASES = [1e4, 5e5, 1e6]  # what a base was before it was raised by a factor


@dataclass(frozen=True)
class Spectrum:
    """A reading of the frequencies.

    Attributes:
        kind: "geometric", "linear", "ntk", "llama3", "yarn", "scaled" (another ramp) or "list".
        base: of the unscaled frequencies, if they are geometric.
        factor: of the scaling; None if there is none or it cannot be told.
        says: one line.
    """

    kind: str
    base: float | None
    factor: float | None
    says: str


def recognise(thetas: Tensor, width: int, attention: float = 1.0) -> Spectrum:
    """Name the frequencies |θ_i| of a rotation that spans `width` coordinates.

    Args:
        thetas: radians per position, in the order of the pairs.
        width: R of θ_i = base^(−2i/R).
        attention: the factor on cosine and sine, which tells YaRN from others where the ramp is short.
    """
    theta = thetas.abs().double()
    count = len(theta)
    shown = ", ".join(f"{t:.4g}" for t in theta[:4].tolist()) + (", …" if count > 4 else "")
    if count < 3:
        if count == 2 and abs(theta[0] - 1) < EXACT:
            base = float((theta[0] / theta[1]) ** (width / 2))
            return Spectrum("geometric", base, None, f"{shown}: base {_number(base)} if it is geometric")
        return Spectrum("list", None, None, f"{shown}: too few to tell")
    steps = (theta[:-1] / theta[1:]).log()
    if (steps - steps.mean()).abs().max() < EXACT:
        return _geometric(theta, width, float(steps.mean()), shown)
    found = _ramp(theta, width, attention, shown)
    if found.kind == "list" and steps.mean() > 0 and (steps - steps.mean()).abs().max() < ABOUT:
        base = math.exp(float(steps.mean()) * width / 2)
        return Spectrum(
            "list",
            None,
            None,
            f"{shown}: about geometric, base about {_number(float(f'{base:.2g}'))}; too coarse to tell",
        )
    return found


def _geometric(theta: Tensor, width: int, step: float, shown: str) -> Spectrum:
    base, first = math.exp(step * width / 2), float(theta[0])
    if abs(step) < EXACT:
        return Spectrum("list", None, None, f"{shown}: all the same")
    if abs(first - 1) > EXACT:
        factor = 1 / first
        if factor > 1:
            return Spectrum(
                "linear",
                base,
                factor,
                f"linear: base {_number(base)}, positions divided by {_number(factor)}",
            )
        return Spectrum(
            "linear",
            base,
            factor,
            f"base {_number(base)}, positions multiplied by {_number(first)}",
        )
    if raised := _raised(base, width / (width - 2)):
        before, factor = raised
        says = f"base {_number(base)}, which is {_number(before)} raised NTK-aware by {_number(factor)}"
        return Spectrum("ntk", before, factor, says)
    return Spectrum("geometric", base, None, f"geometric, base {_number(base)}")


def _raised(base: float, exponent: float) -> tuple[float, float] | None:
    """The usual base and factor with base = before · factor^exponent, if the base is not a usual one itself."""
    if round_number(base):
        return None
    for before in BASES:
        for factor in FACTORS:
            if abs(before * factor**exponent / base - 1) < EXACT:
                return before, factor
    return None


def round_number(value: float) -> bool:
    """Whether a value has at most two significant digits, up to the error of the measurement."""
    rounded = float(f"{value:.1e}")
    return abs(rounded / value - 1) < EXACT


def _ramp(theta: Tensor, width: int, attention: float, shown: str) -> Spectrum:
    """Frequencies that begin as powers of a base, and end as such powers divided by a factor."""
    count = len(theta)
    index = torch.arange(count, dtype=torch.float64)
    step = float((theta[0] / theta[1]).log())
    scale = theta * (step * index).exp() / theta[0]  # 1 where unscaled, 1 / factor at the end
    listed = Spectrum("list", None, None, f"{shown}: neither geometric nor a known ramp")
    if abs(theta[0] - 1) > EXACT or step <= 0 or (scale[2] - 1).abs() > 10 * EXACT:
        return listed
    if (scale.diff() > EXACT).any() or (scale[-1] - scale[-2]).abs() > 10 * EXACT:
        return listed
    base, factor = math.exp(step * width / 2), float(1 / scale[-1])
    keep = (scale - scale[-1]) / (1 - scale[-1])
    between = (keep > 1e-3) & (keep < 1 - 1e-3)
    says = f"base {_number(base)}, slow pairs divided by {_number(factor)}"
    yarn = abs(attention - (0.1 * math.log(factor) + 1)) < 1e-3
    if int(between.sum()) >= 3:
        turns = (-step * index).exp()
        if _straight(turns[between], keep[between]):
            return Spectrum("llama3", base, factor, f"Llama 3: {says}")
        if _straight(index[between], keep[between]):
            return Spectrum("yarn", base, factor, f"YaRN: {says}")
        return Spectrum("scaled", base, factor, f"{says}, by a ramp that is not known")
    if yarn:
        return Spectrum("yarn", base, factor, f"YaRN: {says}")
    return Spectrum("scaled", base, factor, f"{says}; the ramp is too short to tell which scaling it is")


def _straight(x: Tensor, y: Tensor) -> bool:
    """Whether y is a straight line over x."""
    design = torch.stack((torch.ones_like(x), x / x.abs().max()), dim=-1)
    line = design @ torch.linalg.lstsq(design, y[:, None]).solution
    return bool((line[:, 0] - y).abs().max() < 5e-3)


def _number(value: float) -> str:
    """A number as one reads it: 10,000, not 9999.998."""
    rounded = float(f"{value:.4g}")
    return f"{rounded:,.0f}" if rounded >= 1000 else f"{rounded:g}"
