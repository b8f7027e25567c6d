"""Frequency scalings: how a model trained on short sequences is made to read longer ones.

Each is a function scaling(freqs, length) → (freqs, attention factor). It takes the frequencies θ_i of RoPE, float64,
shape (D/2,), and the number of tokens that the whole sequence will have. The attention factor multiplies cosine and
sine, so scores grow by its square. Dynamic NTK and LongRoPE depend on the length, whereas the others do not; a scaling
of your own that depends on it says so by an attribute `depends_on_length = True`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rope_lab.checks import check_positive, check_probability, is_real

Scaling = Callable[[Tensor, int], tuple[Tensor, float]]


@dataclass(frozen=True)
class PositionInterpolation:
    """θ_i / factor: position m is read as m / factor.

    Source: Chen et al. 2023 (arXiv:2306.15595).
    """

    factor: float

    def __post_init__(self) -> None:
        _check_at_least_1(factor=self.factor)

    def __call__(self, freqs: Tensor, length: int) -> tuple[Tensor, float]:
        return freqs / self.factor, 1.0


@dataclass(frozen=True)
class NTKAware:
    """base · factor^(D/(D−2)): the first frequency stays the same, and the last is divided by `factor`.

    Source: bloc97 2023, cited in Peng et al. 2023, YaRN (arXiv:2309.00071), section 3.1.
    """

    factor: float

    def __post_init__(self) -> None:
        _check_at_least_1(factor=self.factor)

    def __call__(self, freqs: Tensor, length: int) -> tuple[Tensor, float]:
        if freqs.numel() < 2 and self.factor != 1:
            raise ValueError(_one_pair(freqs))
        return _raise_base(freqs, self.factor), 1.0


@dataclass(frozen=True)
class DynamicNTK:
    """NTK-aware scaling by factor · length / original_length − (factor − 1), from `original_length` on.

    Source: emozilla 2023, cited in Peng et al. 2023, YaRN (arXiv:2309.00071), section 3.3.
    """

    factor: float
    original_length: int
    depends_on_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_at_least_1(factor=self.factor, original_length=self.original_length)

    def __call__(self, freqs: Tensor, length: int) -> tuple[Tensor, float]:
        if freqs.numel() < 2 and length > self.original_length:
            raise ValueError(_one_pair(freqs))
        stretch = self.factor * max(length, self.original_length) / self.original_length - (self.factor - 1)
        return _raise_base(freqs, stretch), 1.0


@dataclass(frozen=True)
class YaRN:
    """Fast pairs stay the same, slow pairs are interpolated, and a ramp over the pair index joins them; scores become
    sharper.

    A pair that completes more than `beta_fast` full turns in `original_length` tokens is fast, and one that completes
    fewer than `beta_slow` is slow.

    Args:
        factor: by how much the length grows, at least 1.
        original_length: number of tokens that the model was trained on.
        beta_fast, beta_slow: numbers of full turns at which the ramp begins and ends.
        mscale, mscale_all_dim: if both are given, the attention factor is the quotient of
            0.1·mscale·ln(factor) + 1 and 0.1·mscale_all_dim·ln(factor) + 1 (DeepSeek-V2, arXiv:2405.04434).
        attention_factor: used in place of 0.1·ln(factor) + 1.
        truncate: round the ends of the ramp outward to whole pairs.

    Source: Peng et al. 2023 (arXiv:2309.00071), sections 3.2 and 3.4.
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        _check_at_least_1(factor=self.factor, original_length=self.original_length)
        check_positive(beta_fast=self.beta_fast, beta_slow=self.beta_slow)
        check_positive(
            optional=True,
            mscale=self.mscale or None,
            mscale_all_dim=self.mscale_all_dim or None,
            attention_factor=self.attention_factor,
        )
        if self.beta_slow >= self.beta_fast:
            raise ValueError(f"beta_slow must be below beta_fast={self.beta_fast}, got {self.beta_slow}")

    def __call__(self, freqs: Tensor, length: int) -> tuple[Tensor, float]:
        if freqs.numel() < 2:
            raise ValueError(f"freqs must have at least 2 pairs for a ramp over them, got {freqs.numel()}")
        log_ratio = (freqs[0] / freqs[1]).log().detach()  # θ_i = θ_0 · e^(−i·log_ratio)
        low, high = (  # the pair index that turns so many times
            math.log(self.original_length / (turns * 2 * math.pi)) / log_ratio
            for turns in (self.beta_fast, self.beta_slow)
        )
        if self.truncate:
            low, high = low.floor(), high.ceil()
        low, high = (end.clamp(0, 2 * freqs.numel() - 1) for end in (low, high))
        high = high + 0.001 * (low == high)
        ramp = (
            (torch.arange(freqs.numel(), device=freqs.device, dtype=freqs.dtype) - low) / (high - low)
        ).clamp(0, 1)
        return freqs * (1 - ramp) + freqs / self.factor * ramp, self._attention_factor()

    def _attention_factor(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        log = 0.1 * math.log(self.factor)
        if self.mscale and self.mscale_all_dim:
            return (self.mscale * log + 1) / (self.mscale_all_dim * log + 1)
        return log + 1


@dataclass(frozen=True)
class Llama3:
    """Frequencies of wavelengths under original_length / high_freq_factor stay the same, those of wavelengths over
    original_length / low_freq_factor are divided by `factor`, and those between are blended by their number of turns.

    Source: Grattafiori et al. 2024, the Llama 3 herd (arXiv:2407.21783); formula as released with Llama 3.1.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_length: int = 8192

    def __post_init__(self) -> None:
        _check_at_least_1(factor=self.factor, original_length=self.original_length)
        check_positive(low_freq_factor=self.low_freq_factor, high_freq_factor=self.high_freq_factor)
        if self.low_freq_factor > self.high_freq_factor:
            allowed = f"at most high_freq_factor={self.high_freq_factor}"
            raise ValueError(f"low_freq_factor must be {allowed}, got {self.low_freq_factor}")

    def __call__(self, freqs: Tensor, length: int) -> tuple[Tensor, float]:
        turns = self.original_length * freqs / (2 * math.pi)
        width = self.high_freq_factor - self.low_freq_factor
        keep = (
            (turns - self.low_freq_factor) / width
            if width
            else (turns >= self.low_freq_factor).to(freqs.dtype)
        )
        keep = keep.clamp(0, 1)
        return freqs * keep + freqs / self.factor * (1 - keep), 1.0


@dataclass(frozen=True)
class LongRoPE:
    """θ_i / λ_i with searched factors λ_i: one list up to `original_length`, another beyond it.

    Args:
        short_factors, long_factors: λ_i for every pair, D/2 positive numbers each.
        original_length: number of tokens that the model was trained on, at least 2.
        factor: by how much the length grows, at least 1; sets the attention factor √(1 + ln factor / ln original).
        attention_factor: used in place of that formula.

    Source: Ding et al. 2024 (arXiv:2402.13753).
    """

    short_factors: Sequence[float]
    long_factors: Sequence[float]
    original_length: int
    factor: float = 1.0
    attention_factor: float | None = None
    depends_on_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_at_least_1(factor=self.factor, original_length=self.original_length)
        if self.original_length < 2:
            raise ValueError(f"original_length must be at least 2, got {self.original_length}")
        check_positive(optional=True, attention_factor=self.attention_factor)
        for name in ("short_factors", "long_factors"):
            for number in getattr(self, name):
                check_positive(**{name: number})

    def __call__(self, freqs: Tensor, length: int) -> tuple[Tensor, float]:
        name = "long_factors" if length > self.original_length else "short_factors"
        factors = torch.tensor(getattr(self, name), dtype=freqs.dtype, device=freqs.device)
        if factors.shape != freqs.shape:
            raise ValueError(f"{name} must have {freqs.numel()} numbers, one per pair, got {factors.numel()}")
        attention = self.attention_factor
        if attention is None:
            attention = (
                math.sqrt(1 + math.log(self.factor) / math.log(self.original_length))
                if self.factor > 1
                else 1.0
            )
        return freqs / factors, attention


@dataclass(frozen=True)
class PRoPE:
    """Only the fastest fraction p of the pairs turns; the others carry only content. p = 1 is RoPE, p = 0 is NoPE.

    Unlike partial rotation, the pairs that turn keep the frequencies they have in the full spectrum.

    Source: Barbero et al. 2024 (arXiv:2410.06205), section 6.
    """

    p: float

    def __post_init__(self) -> None:
        check_probability(closed=True, p=self.p)

    def __call__(self, freqs: Tensor, length: int) -> tuple[Tensor, float]:
        turning = torch.arange(freqs.numel(), device=freqs.device) < int(self.p * freqs.numel())
        return freqs * turning, 1.0


def _raise_base(freqs: Tensor, factor: float) -> Tensor:
    """The frequencies of base·factor^(D/(D−2)): θ_i · factor^(−i/(D/2−1))."""
    if freqs.numel() < 2:
        return freqs
    share = torch.arange(freqs.numel(), device=freqs.device, dtype=freqs.dtype) / (freqs.numel() - 1)
    return freqs * factor**-share


def _check_at_least_1(**values: float) -> None:
    for name, value in values.items():
        if not is_real(value) or not 1 <= value < math.inf:
            raise ValueError(f"{name} must be finite and at least 1, got {value!r}")


def _one_pair(freqs: Tensor) -> str:
    return f"dim must be at least 4 for NTK scaling, got {2 * freqs.numel()}"
