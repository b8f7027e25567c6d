"""Rotated values, rotation from a start index, along any axis, of some heads, of custom and of learned frequencies."""

from __future__ import annotations

import pytest
import torch

from rope_lab import MultiHeadAttention, RotaryEmbedding, angles, frequencies, rotate
from rope_lab.encodings import RotaryValueEmbedding


@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize("value_dim", [4, 16])
def test_rotated_values_are_read_relative_to_the_reader(layout: str, value_dim: int):
    """out_m = Σ_n a_mn R_{n−m} v_n, from one rotation for every pair of tokens."""
    torch.manual_seed(0)
    rope = RotaryValueEmbedding(16, value_dim=value_dim, layout=layout)
    layer = MultiHeadAttention(64, 4, position=rope).double()
    x, n = torch.randn(2, 9, 64, dtype=torch.float64), torch.arange(9)
    q, k, v = (p(x).unflatten(-1, (4, 16)).transpose(1, 2) for p in (layer.query, layer.key, layer.value))
    q, k = RotaryEmbedding(16, layout=layout)(q, k)
    weights = (q @ k.mT / 4).masked_fill(n[:, None] < n, -torch.inf).softmax(-1)
    freqs = frequencies(value_dim)
    relative = [rotate(v, angles(n - m, freqs, dtype=torch.float64), layout) for m in range(9)]
    out = torch.stack([(weights[:, :, m, :, None] * relative[m]).sum(-2) for m in range(9)], dim=-2)
    torch.testing.assert_close(layer(x), layer.out(out.transpose(1, 2).flatten(-2)), rtol=0, atol=1e-12)


def test_rotated_values_know_only_distances():
    layer = MultiHeadAttention(64, 4, position=RotaryValueEmbedding(16)).double()
    x = torch.randn(1, 9, 64, dtype=torch.float64)
    torch.testing.assert_close(layer(x, positions=torch.arange(9) + 77), layer(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", ["interleaved", "half"])
def test_a_rotation_may_start_anywhere(layout: str):
    x, table = torch.randn(2, 3, 5, 12), angles(torch.arange(5), frequencies(6))
    turned = rotate(x, table, layout, start=4)
    assert turned[..., :4].equal(x[..., :4])
    assert turned[..., 10:].equal(x[..., 10:])
    torch.testing.assert_close(turned[..., 4:10], rotate(x[..., 4:10], table, layout), rtol=0, atol=1e-6)
    for start in (-1, 7):
        with pytest.raises(ValueError, match=f"start={start}"):
            rotate(x, table, layout, start=start)


@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize(
    ("axis", "order"), [(1, (0, 2, 1, 3)), (-3, (0, 2, 1, 3)), (0, (2, 0, 1, 3)), (2, (0, 1, 2, 3))]
)
def test_tokens_may_lie_along_any_axis(axis: int, order: tuple[int, ...], layout: str):
    x = torch.randn(2, 3, 5, 8)  # (B, H, N, D)
    table = angles(torch.arange(5).expand(2, 5) + torch.tensor([[0], [9]]), frequencies(8))
    turned = rotate(x.permute(order), table, layout, axis=axis)
    torch.testing.assert_close(turned, rotate(x, table, layout).permute(order), rtol=0, atol=1e-6)


@pytest.mark.parametrize("axis", [-1, 3, 4, -5])
def test_the_coordinates_are_no_token_axis(axis: int):
    with pytest.raises(ValueError, match="axis"):
        rotate(torch.randn(2, 3, 5, 8), angles(torch.arange(5), frequencies(8)), axis=axis)


@pytest.mark.parametrize(("heads", "k_turned"), [(2, 1), (4, 2), (8, 4)])
def test_only_some_heads_turn_and_their_keys_with_them(heads: int, k_turned: int):
    q, k = torch.randn(2, 8, 5, 16), torch.randn(2, 4, 5, 16)
    some, every = RotaryEmbedding(16, heads=heads)(q, k), RotaryEmbedding(16)(q, k)
    for part, full, x, turned in zip(some, every, (q, k), (heads, k_turned), strict=True):
        assert part[:, :turned].equal(full[:, :turned])
        assert part[:, turned:].equal(x[:, turned:])


def test_all_heads_turn_where_values_do():
    with pytest.raises(ValueError, match=r"^heads must be None .* got 2$"):
        RotaryValueEmbedding(16, heads=2)
    assert RotaryValueEmbedding(16, heads=None).heads is None


@pytest.mark.parametrize("heads", [1, 3, 10])
def test_a_group_of_heads_turns_whole(heads: int):
    with pytest.raises(ValueError, match="heads"):
        RotaryEmbedding(16, heads=heads)(torch.randn(2, 8, 5, 16), torch.randn(2, 4, 5, 16))


def test_custom_frequencies_outlive_every_cast():
    freqs = torch.rand(4, dtype=torch.float64)
    rope, (q, k) = RotaryEmbedding(8, freqs=freqs), torch.randn(2, 1, 1, 99, 8)
    wanted = rotate(q, angles(torch.arange(99), freqs))
    assert rope(q, k)[0].equal(wanted)
    assert rope.bfloat16().half()(q, k)[0].equal(wanted)
    with pytest.raises(ValueError, match="freqs"):
        RotaryEmbedding(8, freqs=torch.rand(8))


def test_learned_frequencies_start_from_the_custom_ones_and_train():
    rope = RotaryEmbedding(8, freqs=torch.full((4,), 0.5), learned=True)
    q, k = torch.randn(2, 1, 1, 9, 8)
    assert rope.learned_freqs.eq(0.5).all()
    q, k = rope(q, k)
    (q @ k.mT).sum().backward()
    assert rope.learned_freqs.grad.abs().min() > 0


def test_queries_are_the_newest_of_the_cached_keys():
    q, k = torch.randn(2, 4, 3, 16), torch.randn(2, 4, 10, 16)
    turned, _ = RotaryEmbedding(16)(q, k, offset=5)
    assert turned.equal(rotate(q, angles(torch.arange(12, 15), frequencies(16))))
