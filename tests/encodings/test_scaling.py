"""Scalings: identity where they should be, the limits their papers give, and exact decoding in every split."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rope_lab import KVCache, MultiHeadAttention, RotaryEmbedding, frequencies
from rope_lab.encodings import (
    DynamicNTK,
    GrowingRotaryEmbedding,
    Llama3,
    LongRoPE,
    NTKAware,
    PositionInterpolation,
    PRoPE,
    Scaling,
    YaRN,
)

dims = st.integers(2, 64).map(lambda pairs: 2 * pairs)
factors = st.floats(1, 64)


def longrope(dim: int, original: int = 512, factor: float = 4.0) -> LongRoPE:
    grow = torch.linspace(1, 2, dim // 2).tolist()
    return LongRoPE(grow, [3 * g for g in grow], original, factor)


@pytest.mark.parametrize(
    ("scaling", "length"),
    [
        (PositionInterpolation(1), 10_000),
        (NTKAware(1), 10_000),
        (DynamicNTK(1, 100), 100),
        (DynamicNTK(8, 100), 100),
        (DynamicNTK(8, 100), 1),
        (YaRN(1, 100), 10_000),
        (Llama3(1), 10_000),
        (LongRoPE([1.0] * 32, [2.0] * 32, 100), 100),
        (PRoPE(1), 10_000),
    ],
    ids=str,
)
def test_identity_where_nothing_is_to_be_scaled(scaling: Scaling, length: int):
    freqs = frequencies(64)
    scaled, factor = scaling(freqs, length)
    torch.testing.assert_close(scaled, freqs, rtol=1e-15, atol=0)
    assert factor == 1.0


@pytest.mark.parametrize(
    ("scaling", "length"),
    [(NTKAware(1), 10_000), (DynamicNTK(1, 100), 100), *((DynamicNTK(1.1, n), n) for n in (3, 7, 100))],
)
def test_ntk_leaves_one_pair_where_nothing_is_to_be_scaled(scaling: Scaling, length: int):
    assert scaling(frequencies(2), length)[0].equal(frequencies(2))


@given(dims, factors)
def test_ntk_keeps_the_first_frequency_and_divides_the_last(dim: int, factor: float):
    freqs = frequencies(dim)
    scaled, _ = NTKAware(factor)(freqs, 0)
    assert scaled[0] == 1.0
    assert scaled[-1].item() == pytest.approx(freqs[-1].item() / factor, rel=1e-13)
    rebased = frequencies(dim, 10_000 * factor ** (dim / (dim - 2))) if dim > 2 else scaled
    torch.testing.assert_close(scaled, rebased, rtol=1e-11, atol=0)


@given(dims, factors, st.integers(1, 5000))
def test_dynamic_ntk_is_ntk_by_the_length_it_has_reached(dim: int, factor: float, length: int):
    stretch = max(1.0, factor * length / 1000 - (factor - 1))
    scaled, _ = DynamicNTK(factor, 1000)(frequencies(dim), length)
    torch.testing.assert_close(scaled, NTKAware(stretch)(frequencies(dim), 0)[0], rtol=1e-12, atol=0)


@given(dims, factors, st.sampled_from([512, 4096, 8192]))
def test_yarn_lies_between_keeping_and_interpolating_and_only_falls(dim: int, factor: float, original: int):
    freqs = frequencies(dim)
    scaled, attention = YaRN(factor, original)(freqs, 0)
    assert (scaled <= freqs * (1 + 1e-15)).all()
    assert (scaled >= freqs / factor * (1 - 1e-15)).all()
    assert (scaled.diff() < 0).all()
    assert attention == pytest.approx(0.1 * math.log(factor) + 1)


def test_yarn_ramps_between_the_pairs_its_paper_gives():
    """D = 128, base 10,000, 4,096 tokens: 32 turns at pair 20.9 and one turn at pair 45.0."""
    freqs = frequencies(128)
    scaled, _ = YaRN(16, 4096)(freqs, 0)
    ratio = scaled / freqs
    assert ratio[:21].eq(1).all()
    assert ratio[21] < 1
    torch.testing.assert_close(ratio[46:], torch.full_like(ratio[46:], 1 / 16), rtol=1e-15, atol=0)
    assert ratio[45] > 1 / 16


def test_yarn_attention_factor_by_deepseek_is_a_quotient():
    assert YaRN(40, 4096, mscale=1.0, mscale_all_dim=1.0)(frequencies(64), 0)[1] == 1.0
    one, all_dim = 0.1 * 0.7 * math.log(40) + 1, 0.1 * 1.2 * math.log(40) + 1
    assert YaRN(40, 4096, mscale=0.7, mscale_all_dim=1.2)(frequencies(64), 0)[1] == pytest.approx(
        one / all_dim
    )
    assert YaRN(40, 4096, attention_factor=1.5)(frequencies(64), 0)[1] == 1.5


def test_llama_3_keeps_29_pairs_blends_6_and_divides_29():
    freqs = frequencies(128, 500_000)
    ratio = Llama3()(freqs, 0)[0] / freqs
    kept, divided = ratio == 1, (ratio - 1 / 8).abs() < 1e-15
    assert (kept.sum(), divided.sum(), (~kept & ~divided).sum()) == (29, 29, 6)
    assert kept[:29].all()
    assert divided[-29:].all()


def test_longrope_switches_just_beyond_the_original_length():
    freqs, scaling = frequencies(16), longrope(16)
    short, factor = scaling(freqs, 512)
    long, _ = scaling(freqs, 513)
    torch.testing.assert_close(short, 3 * long, rtol=1e-6, atol=0)
    assert factor == pytest.approx(math.sqrt(1 + math.log(4) / math.log(512)))


@given(st.floats(0, 1), dims)
def test_p_rope_turns_only_the_fastest_share(p: float, dim: int):
    freqs, turning = frequencies(dim), int(p * dim / 2)
    scaled, _ = PRoPE(p)(freqs, 0)
    assert scaled[:turning].equal(freqs[:turning])
    assert scaled[turning:].eq(0).all()


def test_p_rope_of_zero_is_no_position_at_all():
    q, k = torch.randn(2, 1, 2, 9, 16)
    rope = RotaryEmbedding(16, scaling=PRoPE(0))
    assert all(turned.equal(x) for turned, x in zip(rope(q, k), (q, k), strict=True))


@pytest.mark.parametrize("layout", ["interleaved", "half"])
def test_the_attention_factor_multiplies_scores_by_its_square(layout: str):
    q, k = torch.randn(2, 1, 2, 9, 16, dtype=torch.float64)
    sharp, plain = (
        RotaryEmbedding(16, layout=layout, scaling=YaRN(8, 512, attention_factor=f)) for f in (1.5, 1.0)
    )
    scores = [q @ k.mT for q, k in (sharp(q, k), plain(q, k))]
    torch.testing.assert_close(scores[0], 2.25 * scores[1], rtol=1e-12, atol=1e-12)


SCALINGS = [
    PositionInterpolation(4),
    NTKAware(4),
    DynamicNTK(2, 6),
    YaRN(4, 16),
    Llama3(8, 1, 4, 32),
    longrope(16, 6),
    PRoPE(0.5),
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: type(s).__name__)
def test_every_split_of_prefill_and_decode_is_exact(scaling: Scaling):
    """The cache's capacity fixes the length, also where prefill stops short of the original length."""
    torch.manual_seed(0)
    length = 13
    layer = MultiHeadAttention(64, 4, position=RotaryEmbedding(16, scaling=scaling)).double()
    x = torch.randn(2, length, 64, dtype=torch.float64)
    full = layer(x)
    for split in range(1, length):
        cache = KVCache(length)
        parts = [layer(x[:, :split], cache=cache)]
        parts += [layer(x[:, i : i + 1], cache=cache) for i in range(split, length)]
        torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=0, atol=1e-12)


def test_a_length_fixed_beforehand_outranks_capacity_and_call():
    layer = MultiHeadAttention(
        64, 4, position=RotaryEmbedding(16, scaling=DynamicNTK(2, 6), length=40)
    ).double()
    x = torch.randn(1, 13, 64, dtype=torch.float64)
    torch.testing.assert_close(layer(x, cache=KVCache(20)), layer(x), rtol=0, atol=1e-12)
    other = MultiHeadAttention(64, 4, position=RotaryEmbedding(16, scaling=DynamicNTK(2, 6))).double()
    other.load_state_dict(layer.state_dict())
    assert (other(x) - layer(x)).abs().max() > 1e-4


def test_the_growing_form_is_exact_for_the_newest_token_of_one_layer_and_not_of_two():
    torch.manual_seed(0)
    rope = GrowingRotaryEmbedding(16, scaling=DynamicNTK(2, 6))
    first, second = (MultiHeadAttention(64, 4, position=rope).double() for _ in range(2))
    x, caches = torch.randn(1, 20, 64, dtype=torch.float64), (KVCache(20), KVCache(20))
    for i in range(20):
        one = first(x[:, i : i + 1], cache=caches[0])
        two = second(one, cache=caches[1])
        full = first(x[:, : i + 1])
        torch.testing.assert_close(one[:, 0], full[:, -1], rtol=0, atol=1e-12)
    assert (two[:, 0] - second(full)[:, -1]).abs().max() > 1e-6


ONE_PAIR = torch.randn(1, 1, 3, 2)


def test_learned_frequencies_are_scaled_in_float64():
    """A float32 quotient would put position 1,000,000 off by some 0.01 radians."""
    rope = RotaryEmbedding(16, learned=True, scaling=PositionInterpolation(3.0))
    fixed = RotaryEmbedding(16, freqs=rope.learned_freqs.detach().double() / 3)
    q, k = torch.randn(2, 1, 1, 4, 16)
    far = torch.arange(1_000_000, 1_000_004)
    torch.testing.assert_close(rope(q, k, positions=far), fixed(q, k, positions=far), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: PositionInterpolation(0.5), "factor"),
        (lambda: NTKAware(math.inf), "factor"),
        (lambda: DynamicNTK(2, 0), "original_length"),
        (lambda: YaRN(2, 100, beta_fast=1, beta_slow=2), "beta_slow"),
        (lambda: Llama3(low_freq_factor=5), "low_freq_factor"),
        (lambda: LongRoPE([1.0], [1.0], 10)(frequencies(8), 5), "short_factors"),
        (lambda: LongRoPE([1.0] * 4, [1.0], 10)(frequencies(8), 11), "long_factors"),
        (lambda: PRoPE(1.5), "p must"),
        (lambda: YaRN(2, 100)(frequencies(2), 5), "freqs"),
        (lambda: NTKAware(4)(frequencies(2), 5), "dim must be at least 4 for NTK scaling, got 2"),
        (lambda: DynamicNTK(1, 100)(frequencies(2), 101), "dim must be at least 4 for NTK scaling, got 2"),
        (lambda: RotaryEmbedding(2, scaling=NTKAware(4))(ONE_PAIR, ONE_PAIR), "dim must be at least 4"),
        (lambda: PositionInterpolation("4"), "factor must be finite and at least 1, got '4'"),
        (lambda: PRoPE("1"), "p must"),
        (lambda: YaRN(4, 100, beta_fast=math.inf), "beta_fast must be positive and finite, got inf"),
        (lambda: YaRN(4, 100, beta_slow=0), "beta_slow must be positive and finite, got 0"),
        (lambda: YaRN(4, 100, attention_factor=math.nan), "attention_factor must be positive .* got nan"),
        (lambda: YaRN(4, 100, mscale=math.nan, mscale_all_dim=1.0), "mscale must be positive .* got nan"),
        (lambda: YaRN(4, 100, mscale=1.0, mscale_all_dim=-1.0), "mscale_all_dim must be positive"),
        (lambda: Llama3(high_freq_factor=math.inf), "high_freq_factor must be positive and finite, got inf"),
        (lambda: LongRoPE([1.0] * 4, [1.0] * 4, 1, 4.0), "original_length must be at least 2, got 1"),
        (lambda: LongRoPE([1.0, 0.0], [1.0] * 2, 10), "short_factors must be positive and finite, got 0.0"),
        (lambda: LongRoPE([1.0] * 2, [1.0, -2.0], 10), "long_factors must be positive and finite, got -2.0"),
        (lambda: LongRoPE([1.0], [math.inf], 10), "long_factors must be positive and finite, got inf"),
        (lambda: LongRoPE([1.0], [1.0], 10, 2.0, math.nan), "attention_factor must be positive .* got nan"),
    ],
)
def test_bad_arguments_are_named(make, names: str):
    with pytest.raises(ValueError, match=f"^{names}"):
        make()
