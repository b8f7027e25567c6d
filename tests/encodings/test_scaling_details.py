"""Details of the scalings that a user would miss: behaviour that small changes once broke unnoticed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rope_lab import (
    frequencies,
)
from rope_lab.encodings import (
    Llama3,
    LongRoPE,
    PRoPE,
    YaRN,
)

LAYOUTS = ("interleaved", "half")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def yarn_by_hand(dim: int, factor: float, original: int, truncate: bool) -> Tensor:
    """The ramp as Peng et al. release it: its ends are cut at 0 and at dim − 1, not at the number of pairs."""
    theta = [10_000 ** (-2 * i / dim) for i in range(dim // 2)]

    def pair(turns: float) -> float:
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(10_000))

    low, high = pair(32.0), pair(1.0)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    ramp = [min(max((i - low) / (high - low), 0), 1) for i in range(dim // 2)]
    return torch.tensor([t * (1 - r) + t / factor * r for t, r in zip(theta, ramp, strict=True)]).double()


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize("original", [2, 100, 4096, 100_000, 10_000_000])
@pytest.mark.parametrize("dim", [8, 64])
def test_yarn_at_both_ends_of_the_spectrum(dim: int, original: int, truncate: bool) -> None:
    """So short that all pairs are slow, so long that the ramp ends beyond the last pair, and between."""
    freqs, _ = YaRN(4.0, original, truncate=truncate)(frequencies(dim), 9)
    if original == 2:  # both ends are cut to 0
        wanted = frequencies(dim) / 4
        wanted[0] = 1.0
    else:
        wanted = yarn_by_hand(dim, 4.0, original, truncate)
    torch.testing.assert_close(freqs, wanted, rtol=1e-6, atol=0)
    assert freqs.dtype == torch.float64


def test_llama_3_with_one_limit_keeps_what_turns_exactly_as_often() -> None:
    scaling = Llama3(8.0, 1.0, 1.0, 1)
    freqs = torch.tensor([4 * math.pi, 2 * math.pi, math.pi], dtype=torch.float64)  # 2, 1 and half a turn
    torch.testing.assert_close(
        scaling(freqs, 9)[0] / freqs, torch.tensor([1.0, 1.0, 1 / 8]).double(), rtol=0, atol=0
    )


def test_longrope_divides_in_float64() -> None:
    freqs = frequencies(4)
    scaled, factor = LongRoPE([1.1, 1.3], [2.1, 2.3], 64)(freqs, 65)
    assert scaled.tolist() == [freqs[0].item() / 2.1, freqs[1].item() / 2.3]
    assert factor == 1.0
    assert LongRoPE([1.0], [1.0], 64, 4.0, attention_factor=1.5)(torch.ones(1).double(), 1)[1] == 1.5


def test_p_rope_counts_whole_pairs_downwards() -> None:
    assert (PRoPE(0.7)(frequencies(8), 9)[0] > 0).tolist() == [True, True, False, False]  # 2.8 pairs
