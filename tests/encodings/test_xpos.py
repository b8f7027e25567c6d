"""xPos against its definition: one complex sum a score, whatever the centre, the block, the cache and the dtype."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rope_lab import KVCache, MultiHeadAttention, frequencies
from rope_lab.encodings import XPos
from rope_lab.local import local_attention


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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.bfloat16])
def test_positions_of_any_kind_give_the_same(dtype: torch.dtype):
    layer, x = attention(4), torch.randn(1, 12, 64, dtype=torch.float64)
    positions, segments = torch.arange(12).to(dtype), torch.tensor([[0] * 5 + [1] * 7])
    torch.testing.assert_close(layer(x, positions=positions), layer(x), rtol=0, atol=1e-12)
    wanted = layer(x, segments=segments)
    torch.testing.assert_close(layer(x, positions=positions, segments=segments), wanted, rtol=0, atol=1e-12)


ROWS = [(30, 2, 8), (40,)], [(1, 1, 2, 36), (17, 23)]  # lengths of the texts that share a row


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("lengths", ROWS)
@pytest.mark.parametrize("start", [0, 5_000])
def test_packed_texts_have_a_centre_each(lengths: list[tuple[int, ...]], start: int, dtype: torch.dtype):
    """Each text as if it were alone, though in float16 a factor of these lengths would overflow about one centre."""
    layer = attention(2).to(dtype)
    x = torch.randn(len(lengths), 40, 64, dtype=dtype)
    positions = torch.stack([torch.cat([torch.arange(n) + start for n in row]) for row in lengths])
    segments = torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in lengths])
    alone = [
        torch.cat([layer(text[None], positions=torch.arange(len(text)))[0] for text in x[i].split(row)])
        for i, row in enumerate(lengths)
    ]
    tolerance = 1e-12 if dtype == torch.float64 else 2e-3
    out = layer(x, positions=positions, segments=segments)
    torch.testing.assert_close(out, torch.stack(alone), rtol=0, atol=tolerance)
    cache, parts = KVCache(40), []
    for part in (slice(0, 29), slice(29, 33), slice(33, 40)):
        parts.append(layer(x[:, part], positions=positions[:, part], segments=segments[:, part], cache=cache))
    torch.testing.assert_close(torch.cat(parts, 1), out, rtol=0, atol=tolerance)
    nothing = layer(x[:, :0], positions=positions[:, :0], segments=segments[:, :0], cache=cache)
    assert nothing.shape == (len(lengths), 0, 64)
    q, k, v = torch.randn(3, len(lengths), 2, 40, 16, dtype=dtype)
    q, k, _ = layer.position.rotate(q, k, v, positions)
    windows = local_attention(
        q, k, v, window=7, segments=segments, position=layer.position, positions=positions
    )
    for i, row in enumerate(lengths):
        ends = [0, *torch.tensor(row).cumsum(0).tolist()]
        for a, b in itertools.pairwise(ends):
            text = (t[i : i + 1, :, a:b] for t in (q, k, v))
            single = local_attention(*text, window=7, position=layer.position)
            torch.testing.assert_close(windows[i : i + 1, :, a:b], single, rtol=0, atol=tolerance)
