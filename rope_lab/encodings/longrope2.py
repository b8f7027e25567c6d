"""LongRoPE2: factors that a search found, bounded below by the extension factor from a critical pair on.

The search itself needs a language model and is not here. Here are the pair from which training does not show a full
turn, the factors that a search may begin with, and the scaling with what it found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from rope_lab.checks import check_integers, check_positive, is_real


def critical_pair(freqs: Tensor, length: float) -> int:
    """The first pair that does not complete a turn in `length` tokens, and D/2 if every pair does.

    For θ_i = base^(−2i/D) and a length of at least 2π this is (D/2)·ln(length/2π)/ln(base), rounded up. Twice that
    number is what the paper calls the theoretical critical dimension. The paper's search may choose an earlier pair.

    Args:
        freqs: θ_i in radians per token, none below 0 and none larger than the one before it, shape (D/2,).
        length: number of tokens that the model was trained on, positive.

    Raises:
        ValueError: if `freqs` or `length` is not of that kind.

    Source: Shang et al. 2025 (arXiv:2502.20082).
    """
    check_positive(length=length)
    if freqs.ndim != 1 or not freqs.is_floating_point():
        raise ValueError(
            f"freqs must be floating-point of shape (D/2,), got {freqs.dtype} {tuple(freqs.shape)}"
        )
    if not bool((freqs >= 0).all() and (freqs.diff() <= 0).all()):
        raise ValueError("freqs must be at least 0, each at most the one before it")
    return int((length * freqs >= 2 * math.pi).sum())


def starting_factors(pairs: int, critical: int, factor: float) -> list[float]:
    """Factors λ_i that a search may begin with: factor^(i/critical) before the critical pair, `factor` from it on.

    Up to the critical pair this is NTK-aware scaling with a base that divides that pair by `factor`.

    Args:
        pairs: D/2, their number.
        critical: the critical pair, from 1 to `pairs`.
        factor: by how much the length grows, at least 1.

    Raises:
        ValueError: if an argument is not of that kind.

    Source: the form of the initial population in the search code of LongRoPE2 (github.com/microsoft/LongRoPE), without
    the small differences there between the factors from the critical pair on.
    """
    (pairs,) = check_integers(pairs=pairs)
    _check_critical(critical, pairs, least=1)
    _check_factor(factor)
    return [float(factor) ** min(1.0, i / critical) for i in range(pairs)]


@dataclass(frozen=True)
class LongRoPE2:
    """θ_i / λ_i beyond `original_length`; up to it RoPE as it was trained, without an attention factor.

    Args:
        factors: λ_i for every pair, at least 1, none smaller than the one before it, shape (D/2,).
        critical: the pair from which every λ_i is at least `factor`. The pair of `critical_pair` or an earlier one
            keeps the angles of all unfinished pairs within those of training.
        factor: by how much the length grows, at least 1; sets the attention factor √(1 + ln factor / ln original).
        original_length: number of tokens that the model was trained on, at least 2.
        attention_factor: used in place of that formula, beyond `original_length`.

    Raises:
        ValueError: if an argument is not of that kind, or, when called, if there is not one factor per pair.

    A checkpoint whose config has `short_factor` and `long_factor` is loaded through `LongRoPE`, which applies its
    attention factor at every length, as transformers does.

    Source: Shang et al. 2025 (arXiv:2502.20082); that factors do not fall from pair to pair, and the attention factor,
    from the search code (github.com/microsoft/LongRoPE).
    """

    factors: Sequence[float]
    critical: int
    factor: float
    original_length: int
    attention_factor: float | None = None
    depends_on_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_integers(least=2, original_length=self.original_length)
        check_positive(optional=True, attention_factor=self.attention_factor)
        _check_factor(self.factor)
        _check_critical(self.critical, len(self.factors))
        for number in self.factors:
            _check_factor(number, "factors")
        for i, (before, after) in enumerate(pairwise(self.factors), 1):
            if after < before:
                raise ValueError(
                    f"factors must not fall from pair to pair, got {after} after {before} at pair {i}"
                )
        if self.critical < len(self.factors) and self.factors[self.critical] < self.factor:
            least = f"at least factor={self.factor} from pair {self.critical} on"
            raise ValueError(f"factors must be {least}, got {self.factors[self.critical]}")

    def __call__(self, freqs: Tensor, length: int) -> tuple[Tensor, float]:
        if freqs.shape != (len(self.factors),):
            raise ValueError(
                f"factors must have {freqs.numel()} numbers, one per pair, got {len(self.factors)}"
            )
        if length <= self.original_length:
            return freqs, 1.0
        attention = self.attention_factor
        if attention is None:
            attention = math.sqrt(1 + math.log(self.factor) / math.log(self.original_length))
        return freqs / torch.tensor(self.factors, dtype=freqs.dtype, device=freqs.device), attention


def _check_critical(critical: int, pairs: int, *, least: int = 0) -> None:
    check_integers(least=least, critical=critical)
    if critical > pairs:
        raise ValueError(f"critical must be at most the number of pairs, {pairs}, got {critical}")


def _check_factor(value: float, name: str = "factor") -> None:
    if not is_real(value) or not 1 <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least 1, got {value!r}")
