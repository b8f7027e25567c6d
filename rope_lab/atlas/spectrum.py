"""A spectrum of rotation frequencies beside the length it is used at: wavelengths, unfinished turns, precision, cost.

Everything here is computed from the frequencies; nothing is looked up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from rope_lab.checks import check_integers, check_positive
from rope_lab.encodings import YaRN

BOUND = (
    0.01  # radians: so much in one angle changes what its pair adds to a score by 1 % of the most it can add
)
FAR = 10_000_000  # positions that a search for an error looks at, unless told otherwise
_UNIT = {
    torch.float32: 2.0**-24,
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
}  # relative error of rounding


@dataclass(frozen=True)
class Doubling:
    """What it would take to read twice the context, by the three ways that need no new parameters.

    Args:
        length: twice the context.
        new_angles: number of pairs that would reach angles that no distance in the context has, if nothing is changed.
        fastest_step: radians between neighbouring tokens in the fastest pair after position interpolation.
        base_factor: what NTK-aware scaling multiplies the base by; None for a single pair, and where the frequencies
            are not the powers of one base from 1 on.
        kept, blended, divided: number of pairs that make more than 32 turns in the context, 1 to 32, and less than
            one: YaRN leaves the first alone and divides the last by 2. None where `base_factor` is, because YaRN counts
            turns by the base.
        attention_factor: of YaRN, by which it multiplies cosine and sine.
    """

    length: int
    new_angles: int
    fastest_step: float
    base_factor: float | None
    kept: int | None
    blended: int | None
    divided: int | None
    attention_factor: float


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Frequencies and the context they are used at.

    Args:
        freqs: θ_i in radians per position, float64, shape (R/2,), after any scaling; 0 for a pair that does not turn.
        context: tokens that the model is made for; None if unknown.
        factor: the attention factor, which multiplies cosine and sine.

    Raises:
        ValueError: if `freqs` are not one row of real numbers, or `context` is not a positive integer.
    """

    freqs: Tensor
    context: int | None = None
    factor: float = 1.0

    def __post_init__(self) -> None:
        check_integers(optional=True, context=self.context)
        if self.freqs.ndim != 1 or not self.freqs.numel() or not self.freqs.is_floating_point():
            raise ValueError(
                f"freqs must be real, of shape (R/2,), got {self.freqs.dtype} {tuple(self.freqs.shape)}"
            )
        object.__setattr__(self, "freqs", self.freqs.detach().cpu().double())

    @cached_property
    def wavelengths(self) -> Tensor:
        """Tokens of one full turn, 2π/θ_i, float64, of the pairs that turn; their number may be below R/2."""
        return 2 * math.pi / self.freqs[self.freqs != 0].abs()

    @property
    def geometric(self) -> bool:
        """Whether the frequencies are the powers of one base: 1, then each less than the one before by one factor."""
        logs = self.freqs.abs().log()
        steps = logs.diff()
        even = steps.numel() > 0 and bool(torch.isfinite(logs).all())
        even = even and abs(float(logs[0])) <= 1e-9
        return even and torch.allclose(steps, steps.mean().expand_as(steps), rtol=1e-9, atol=0)

    @property
    def still(self) -> int:
        """Number of pairs that do not turn."""
        return int((self.freqs == 0).sum())

    @property
    def fastest(self) -> float:
        """Shortest wavelength, in tokens."""
        return float(self.wavelengths.min()) if self.wavelengths.numel() else math.inf

    @property
    def slowest(self) -> float:
        """Longest wavelength of the pairs that turn, in tokens."""
        return float(self.wavelengths.max()) if self.wavelengths.numel() else math.inf

    @property
    def unfinished(self) -> int | None:
        """Number of turning pairs whose wavelength exceeds the context; None without a context."""
        return None if self.context is None else int((self.wavelengths > self.context).sum())

    def first_error(
        self, dtype: torch.dtype = torch.float32, bound: float = BOUND, *, before: int = FAR
    ) -> int | None:
        """The first position whose angle, formed in `dtype`, errs by more than `bound` radians in some pair.

        Formed in `dtype` means that the position, the frequency and their product are each rounded to it, as in a
        module that was cast. The search compares every position with float64, pair by pair.

        Args:
            dtype: float32, float16 or bfloat16.
            bound: in radians.
            before: where the search ends.

        Returns:
            The position, or None if no pair turns or none errs so much before the end.

        Raises:
            ValueError: if `dtype` is another one, `bound` is not positive and finite, or `before` not a positive
                integer.
        """
        check_positive(bound=bound)
        check_integers(before=before)
        if dtype not in _UNIT:
            raise ValueError(f"dtype must be torch.float32, torch.float16 or torch.bfloat16, got {dtype}")
        turning = tuple(self.freqs[self.freqs != 0].abs().tolist())
        return _first_error(turning, dtype, float(bound), before) if turning else None

    def doubling(self) -> Doubling:
        """What twice the context would take.

        Raises:
            ValueError: if the context is unknown.
        """
        if self.context is None:
            raise ValueError("context must be known to say what twice of it takes, got None")
        turning, turns = self.freqs[self.freqs != 0].abs(), self.context / self.wavelengths
        pairs, kept, divided = turns.numel(), int((turns > 32).sum()), int((turns < 1).sum())
        geometric = self.geometric
        return Doubling(
            length=2 * self.context,
            new_angles=divided,
            fastest_step=float(turning.max()) / 2 if pairs else 0.0,
            base_factor=2.0 ** (pairs / (pairs - 1)) if geometric else None,
            kept=kept if geometric else None,
            blended=pairs - kept - divided if geometric else None,
            divided=divided if geometric else None,
            attention_factor=YaRN(2.0, self.context)(turning, 1)[1] if pairs > 1 else 1.0,
        )

    def warnings(self, bound: float = BOUND, *, sees: int | None = None) -> tuple[str, ...]:
        """Sentences on precision and on turns that the context does not finish; empty where there is nothing to say.

        Args:
            bound: in radians.
            sees: tokens that every layer that turns is limited to, by a window or a chunk; None without a limit.
        """
        if self.context is None:
            return ()
        found, early = [], []
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            first = self.first_error(dtype, bound, before=self.context)
            if first is not None:
                early.append(f"{str(dtype).removeprefix('torch.')} (first at position {first:,})")
        if early:
            found.append(
                f"precision: before the context of {self.context:,} tokens ends, angles err by more than {bound:g} "
                f"radians if they are formed in {', '.join(early)}"
            )
        if sees is not None and sees <= self.context:
            late = int((self.wavelengths > sees).sum())
            if late:
                found.append(
                    f"context: {late} of {self.wavelengths.numel()} pairs never finish a turn in the {sees:,} tokens "
                    "that the layers that turn see; a longer text brings no new distance"
                )
        elif self.unfinished:
            found.append(
                f"context: {self.unfinished} of {self.wavelengths.numel()} pairs never finish a turn in "
                f"{self.context:,} tokens; the slowest needs {self.slowest:,.0f}, so a longer text brings angles "
                "that no distance in the context has"
            )
        return tuple(found)


@lru_cache(maxsize=1024)
def _first_error(turning: tuple[float, ...], dtype: torch.dtype, bound: float, before: int) -> int | None:
    freqs = torch.tensor(turning, dtype=torch.float64)
    slack = 3.01 * _UNIT[dtype] + 2.0**-25  # three roundings; and what the least float16 is coarser by
    start, step = int(bound / (slack * float(freqs.max()))), 4096
    while start < before:
        some = freqs[freqs * (slack * (start + step)) > bound]  # no other pair can err so much yet
        positions = torch.arange(start, min(start + step, before), dtype=torch.float64)
        formed = positions.to(dtype)[:, None] * some.to(dtype)
        off = ~((formed.double() - positions[:, None] * some).abs() <= bound)  # an overflow is an error too
        if off.any():
            return start + int(off.any(-1).nonzero()[0])
        start += step
    return None
