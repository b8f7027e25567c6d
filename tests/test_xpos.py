"""xPos against its definition: one complex sum a score, whatever the centre, the block, the cache and the dtype."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rope_lab import KVCache, MultiHeadAttention, frequencies
from rope_lab.xpos import XPos


def definition(
    q: Tensor, k: Tensor, m: Tensor, n: Tensor, base: int, *, layout: str = "interleaved"
) -> Tensor:
    """Re Σ_i q_i k_i* e^{i(m−n)θ_i} ζ_i^((m−n)/B) for (..., N, D) in complex128, (..., N_q, N_k)."""
    dim = q.shape[-1]
    if layout == "half":
        q, k = (x.unflatten(-1, (2, -1)).mT.flatten(-2) for x in (q, k))
    q, k = (torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous()) for x in (q, k))
    zeta = (torch.arange(0, dim, 2).double() / dim + 0.4) / 1.4
    distance = (m[:, None] - n).double()[..., None]
    return torch.einsum(
        "...mi,...ni,mni->...mn",
        q,
        k.conj(),
        torch.polar(zeta ** (distance / base), distance * frequencies(dim)),
    ).real


@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 1000), st.sampled_from(["interleaved", "half"]))
def test_a_score_is_the_definition(pairs: int, base: int, shift: int, layout: str):
    torch.manual_seed(pairs)
    positions = torch.arange(12) + shift
    q, k = torch.randn(2, 2, 3, 12, 2 * pairs, dtype=torch.float64)
    wanted = definition(q, k, positions, positions, base, layout=layout)
    q, k = XPos(2 * pairs, scale_base=base, layout=layout)(q, k, positions=positions)
    size = max(1.0, wanted.abs().max().item())
    torch.testing.assert_close(q @ k.mT, wanted, rtol=0, atol=1e-12 * size)


def attention(scale_base: int, **options) -> MultiHeadAttention:
    torch.manual_seed(1)
    return MultiHeadAttention(64, 4, position=XPos(16, scale_base=scale_base), **options).double().eval()


@pytest.mark.parametrize("scale_base", [1, 2, 5, 23, 512])
def test_attention_in_blocks_of_queries_equals_dense_attention(scale_base: int):
    layer, x = attention(scale_base), torch.randn(2, 23, 64, dtype=torch.float64)
    q, k, v = (p(x).unflatten(-1, (4, 16)).transpose(1, 2) for p in (layer.query, layer.key, layer.value))
    positions = torch.arange(23)
    future = positions[:, None] < positions
    scores = definition(q, k, positions, positions, scale_base).masked_fill(future, -torch.inf) / 4
    dense = layer.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(layer(x), dense, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"kv_heads": 2}, {"window": 7}])
@pytest.mark.parametrize("scale_base", [1, 4, 512])
def test_every_split_of_prefill_and_decode_is_exact(scale_base: int, options: dict[str, int]):
    layer, x = attention(scale_base, **options), torch.randn(2, 14, 64, dtype=torch.float64)
    full = layer(x)
    for split in range(1, 14):
        cache = KVCache(14)
        parts = [layer(x[:, :split], cache=cache)]
        parts += [layer(x[:, i : i + 1], cache=cache) for i in range(split, 14)]
        torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale_base", [16, 512])
def test_nothing_overflows_a_million_positions_on(dtype: torch.dtype, scale_base: int):
    """The newest block of queries over keys spread across a million positions, forwards and backwards."""
    rope = XPos(16, scale_base=scale_base)
    k_positions = torch.cat((torch.arange(0, 999_000, 1000), torch.arange(1_000_000 - scale_base, 1_000_000)))
    q_positions = k_positions[-scale_base:]
    q = torch.randn(1, 2, scale_base, 16, dtype=dtype, requires_grad=True)
    k = torch.randn(1, 2, len(k_positions), 16, dtype=dtype, requires_grad=True)
    q_turned, _, _ = rope.rotate(q, q, q, q_positions)
    k_turned, _, _ = rope.rotate(k, k, k, k_positions)
    q_scaled, k_scaled = rope.relate(q_turned, k_turned, q_positions, k_positions)
    past = k_positions <= q_positions[0]
    assert (k_scaled.abs() <= k_turned.abs())[:, :, past].all()  # the factor of a past key is at most 1
    scores = q_scaled.float() @ k_scaled.float().mT
    scores.sum().backward()
    assert all(x.isfinite().all() for x in (q_scaled, k_scaled, scores, q.grad, k.grad))
    tail = k[..., -scale_base:, :].detach()
    wanted = definition(q.detach(), tail, q_positions, q_positions, scale_base)
    step = torch.finfo(dtype).eps
    assert (scores[..., -scale_base:] - wanted).abs().max() < 30 * step * wanted.abs().max().clamp(min=1)


@pytest.mark.parametrize(
    ("dtype", "reach"), [(torch.float16, 141), (torch.bfloat16, 1133), (torch.float32, 1133)]
)
def test_a_lone_rotation_past_the_range_of_the_dtype_is_refused(dtype: torch.dtype, reach: int):
    rope = XPos(8, scale_base=16)
    q, k = (torch.full((1, 1, reach + 1, 8), 0.5, dtype=dtype) for _ in range(2))
    assert rope(q, k)[1].isfinite().all()
    longer = torch.full((1, 1, reach + 2, 8), 0.5, dtype=dtype)
    with pytest.raises(ValueError, match=f"within {reach} tokens"):
        rope(longer, longer)
    with pytest.raises(ValueError, match="fewer tokens"):  # the scale fits, but not what it multiplies
        rope(50 * q, 50 * k)


def test_what_cannot_be_is_refused():
    for scale_base in (0, 2.5, float("nan"), "a"):
        with pytest.raises(ValueError, match=f"^scale_base must be .* got {scale_base!r}$"):
            XPos(8, scale_base=scale_base)
    with pytest.raises(ValueError, match="heads and start"):
        XPos(8, heads=2)
    with pytest.raises(ValueError, match="causal must be True for XPos"):
        MultiHeadAttention(64, 4, position=XPos(16), causal=False)
