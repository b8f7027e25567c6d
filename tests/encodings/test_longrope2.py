"""LongRoPE2: the critical pair against wavelengths counted in 40 digits, and what its factors must be."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rope_lab import RotaryEmbedding, frequencies
from rope_lab.encodings import LongRoPE, LongRoPE2, NTKAware, critical_pair, starting_factors

dims = st.integers(2, 64).map(lambda pairs: 2 * pairs)


@given(dims, st.sampled_from([100.0, 10_000.0, 500_000.0]), st.integers(1, 300_000))
def test_the_critical_pair_is_the_first_whose_wavelength_is_longer(dim: int, base: float, length: int):
    with mpmath.workdps(40):
        waves = [2 * mpmath.pi * mpmath.mpf(base) ** (mpmath.mpf(2 * i) / dim) for i in range(dim // 2)]
    longer = [i for i, wave in enumerate(waves) if wave > length]
    assert critical_pair(frequencies(dim, base), length) == (longer[0] if longer else dim // 2)


@given(dims, st.sampled_from([100.0, 10_000.0, 500_000.0]), st.integers(7, 300_000))
def test_it_is_half_the_theoretical_critical_dimension(dim: int, base: float, length: int):
    dimension = 2 * math.ceil(dim / 2 * math.log(length / (2 * math.pi), base))
    assert critical_pair(frequencies(dim, base), length) == min(dimension, dim) // 2


@pytest.mark.parametrize(
    ("name", "dim", "base", "length", "pair"),
    [("Llama 2", 128, 1e4, 4096, 46), ("Llama 3", 128, 5e5, 8192, 35), ("no turn", 8, 1e4, 6, 0)],
)
def test_known_models(name: str, dim: int, base: float, length: int, pair: int):
    assert critical_pair(frequencies(dim, base), length) == pair


def test_a_pair_that_does_not_turn_is_unfinished():
    assert critical_pair(torch.tensor([1.0, 0.5, 0.0]), 1000) == 2


@pytest.mark.parametrize(
    ("freqs", "length", "words"),
    [
        (torch.tensor([0.5, 1.0]), 10, "each at most the one before"),
        (torch.tensor([1.0, -0.5]), 10, "at least 0"),
        (torch.tensor([1.0, math.nan]), 10, "at least 0"),
        (torch.ones(2, 2), 10, r"\(2, 2\)"),
        (torch.ones(2, dtype=torch.int64), 10, "int64"),
        (torch.ones(2), 0, "length"),
    ],
)
def test_other_spectra_raise_an_error(freqs: torch.Tensor, length: int, words: str):
    with pytest.raises(ValueError, match=words):
        critical_pair(freqs, length)


@given(dims, st.floats(1, 64), st.data())
def test_starting_factors_are_ntk_up_to_the_critical_pair(dim: int, factor: float, data: st.DataObject):
    critical = data.draw(st.integers(1, dim // 2))
    found = torch.tensor(starting_factors(dim // 2, critical, factor), dtype=torch.float64)
    raised = frequencies(dim) / frequencies(dim, 10_000 * factor ** (dim / (2 * critical)))
    torch.testing.assert_close(found[:critical], raised[:critical], rtol=1e-9, atol=0)
    assert found[critical:].eq(factor).all()
    assert found[0] == 1
    assert (found.diff() >= 0).all()
    last = dim // 2 - 1
    ntk, _ = NTKAware(factor)(frequencies(dim), 0)
    by_last = torch.tensor(starting_factors(dim // 2, last, factor), dtype=torch.float64)
    torch.testing.assert_close(frequencies(dim) / by_last, ntk, rtol=1e-9, atol=0)


@given(st.floats(1, 64), st.integers(8, 5000))
def test_no_unfinished_pair_leaves_the_angles_of_training(factor: float, original: int):
    freqs = frequencies(32)
    critical = max(1, critical_pair(freqs, original))
    scaling = LongRoPE2(starting_factors(16, critical, factor), critical, factor, original)
    scaled, attention = scaling(freqs, original + 1)
    slow = original * freqs < 2 * math.pi
    assert (scaled * factor * original <= freqs * original * (1 + 1e-12))[slow].all()
    assert attention == pytest.approx(math.sqrt(1 + math.log(factor) / math.log(original)))


def test_a_text_of_the_trained_length_is_read_as_before():
    freqs = frequencies(16)
    scaling = LongRoPE2([2.0] * 8, 0, 2.0, 100)
    for length in (1, 99, 100):
        scaled, attention = scaling(freqs, length)
        assert scaled.equal(freqs)
        assert attention == 1.0
    scaled, attention = scaling(freqs, 101)
    other, other_attention = LongRoPE([1.0] * 8, [2.0] * 8, 100, factor=2.0)(freqs, 101)
    assert scaled.equal(other)
    assert attention == other_attention
    assert LongRoPE2([2.0] * 8, 0, 2.0, 100, attention_factor=1.5)(freqs, 101)[1] == 1.5


def test_it_is_a_scaling_whose_length_can_be_fixed():
    rope = RotaryEmbedding(16, scaling=LongRoPE2([2.0] * 8, 0, 2.0, 8), length=40)
    q = torch.randn(1, 1, 4, 16, dtype=torch.float64)
    for part in (rope(q, q)[0], RotaryEmbedding(16, scaling=LongRoPE2([2.0] * 8, 0, 2.0, 8))(q, q)[0]):
        assert part.shape == q.shape
    fixed, free = rope(q, q)[0], RotaryEmbedding(16, scaling=LongRoPE2([2.0] * 8, 0, 2.0, 8))(q, q)[0]
    assert not torch.allclose(fixed, free)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1.0, 3.0], 1, 4.0, 100), "at least factor=4.0 from pair 1 on, got 3.0"),
        (([2.0, 1.0], 2, 4.0, 100), "got 1.0 after 2.0 at pair 1"),
        (([0.5, 4.0], 1, 4.0, 100), "factors must be finite and at least 1, got 0.5"),
        (([1.0, math.nan], 2, 4.0, 100), "factors must be finite"),
        (([1.0, 4.0], 3, 4.0, 100), "critical must be at most the number of pairs, 2"),
        (([1.0, 4.0], -1, 4.0, 100), "critical"),
        (([1.0, 4.0], 1, 0.5, 100), "factor must be finite and at least 1"),
        (([1.0, 4.0], 1, 4.0, 1), "original_length"),
        (([1.0, 4.0], 1, 4.0, 100, 0.0), "attention_factor"),
    ],
)
def test_factors_of_another_kind_raise_an_error(arguments: tuple, words: str):
    with pytest.raises(ValueError, match=words):
        LongRoPE2(*arguments)


def test_one_factor_per_pair():
    with pytest.raises(ValueError, match="factors must have 8 numbers, one per pair, got 2"):
        LongRoPE2([1.0, 4.0], 1, 4.0, 100)(frequencies(16), 10)


@pytest.mark.parametrize("arguments", [(0, 1, 2.0), (4, 0, 2.0), (4, 5, 2.0), (4, 2, 0.5)])
def test_a_search_begins_with_an_extension(arguments: tuple):
    with pytest.raises(ValueError, match=r"pairs|critical|factor"):
        starting_factors(*arguments)
