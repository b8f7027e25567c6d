"""Rotations in 50 digits, by mpmath and from the papers' formulas: nothing here uses the rest of the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

try:
    from mpmath import mp, mpf
except ImportError as error:
    raise ImportError("mpmath is not installed: pip install mpmath") from error

DIGITS = 50
Numbers = Sequence[Any]


def frequencies(dim: int, base: float, scaling: dict[str, Any] | None) -> tuple[list[Any], Any]:
    """θ_i of `dim` coordinates after a scaling, radians per position, and the attention factor.

    Raises:
        ValueError: if the scaling is unknown.
    """
    mp.dps = DIGITS
    pairs, kind = dim // 2, None if scaling is None else scaling["type"]
    theta = [mpf(base) ** (mpf(-2 * i) / dim) for i in range(pairs)]
    if scaling is None or kind is None:
        return theta, mpf(1)
    factor = mpf(scaling.get("factor", 1))
    if kind == "linear":
        return [t / factor for t in theta], mpf(1)
    if kind == "ntk":
        raised = mpf(base) * factor ** (mpf(dim) / (dim - 2))
        return [raised ** (mpf(-2 * i) / dim) for i in range(pairs)], mpf(1)
    if kind == "p-rope":
        return [t if i < int(scaling["p"] * pairs) else mpf(0) for i, t in enumerate(theta)], mpf(1)
    length = mpf(scaling["original_length"]) if "original_length" in scaling else None
    if kind == "yarn":
        low, high = (
            dim * mp.log(length / (2 * mp.pi * scaling[name])) / (2 * mp.log(base))
            for name in ("beta_fast", "beta_slow")
        )
        low, high = max(mp.floor(low), 0), min(mp.ceil(high), dim - 1)
        ramp = [min(max((i - low) / (high - low), mpf(0)), mpf(1)) for i in range(pairs)]
        blended = [t * (1 - r) + t / factor * r for t, r in zip(theta, ramp, strict=True)]
        return blended, mpf("0.1") * mp.log(factor) + 1
    if kind == "llama3":
        slow, fast = mpf(scaling["low_freq_factor"]), mpf(scaling["high_freq_factor"])
        keep = [min(max((length * t / (2 * mp.pi) - slow) / (fast - slow), mpf(0)), mpf(1)) for t in theta]
        return [t * k + t / factor * (1 - k) for t, k in zip(theta, keep, strict=True)], mpf(1)
    raise ValueError(f"scaling must be linear, ntk, yarn, llama3 or p-rope, got {kind!r}")


def spread(theta: Numbers, owners: Sequence[int], axes: int) -> list[list[Any]]:
    """(A, R/2): each frequency in the row of the axis that owns its pair, zero in the others."""
    return [
        [t if owner == axis else mpf(0) for t, owner in zip(theta, owners, strict=True)]
        for axis in range(axes)
    ]


def turn(
    x: Numbers,
    position: Numbers,
    freqs: Sequence[Numbers],
    *,
    half: bool,
    factor: Any = 1,
    inverse: bool = False,
    fade: Numbers | None = None,
) -> list[float]:
    """One vector turned, rounded to float64: pair i by Σ_a position_a · freqs_ai, times factor and fade_i."""
    mp.dps = DIGITS
    pairs = len(freqs[0])
    out = [mpf(value) for value in x]
    for i in range(pairs):
        a, b = (i, i + pairs) if half else (2 * i, 2 * i + 1)
        angle = sum((mpf(p) * row[i] for p, row in zip(position, freqs, strict=True)), mpf(0))
        angle = -angle if inverse else angle
        size = factor * (1 if fade is None else fade[i])
        first, second = mpf(x[a]), mpf(x[b])
        out[a] = size * (first * mp.cos(angle) - second * mp.sin(angle))
        out[b] = size * (second * mp.cos(angle) + first * mp.sin(angle))
    return [float(value) for value in out]


def fading(pairs: int, position: float, scale_base: int, side: str) -> list[Any]:
    """xPos: ζ_i^(m/B) for queries and ζ_i^(−m/B) for keys, ζ_i = (2i/D + 0.4)/1.4, counted from position 0."""
    mp.dps = DIGITS
    power = mpf(position) / scale_base * (1 if side == "query" else -1)
    return [((mpf(i) / pairs + mpf("0.4")) / mpf("1.4")) ** power for i in range(pairs)]
