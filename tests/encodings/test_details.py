"""Details of the encodings that a user would miss: behaviour that small changes once broke unnoticed."""

from __future__ import annotations

import math

import pytest
import torch
from test_bias import exact_bucket
from torch.autograd import forward_ad

from rope_lab import (
    MultiHeadAttention,
    RotaryEmbedding,
    SinusoidalEmbedding,
    angles,
    frequencies,
    rotate,
)
from rope_lab.encodings import (
    ALiBi,
    DeBERTa,
    GrowingRotaryEmbedding,
    Llama3,
    RotaryEmbeddingND,
    RotaryValueEmbedding,
    Shaw,
    T5Bias,
    TransformerXL,
    XPos,
    YaRN,
    alibi_slopes,
    angles_nd,
    axial_frequencies,
    grid_coordinates,
    mixed_frequencies,
    pixel_frequencies,
    t5_buckets,
    turning,
)

LAYOUTS = ("interleaved", "half")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# Turning


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(0, 2, 3, 8), (2, 2, 0, 8), (2, 0, 3, 8)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_can_be_rotated(
    layout: str, shape: tuple[int, ...], dtype: torch.dtype, wanted: bool
) -> None:
    x = torch.zeros(shape, dtype=dtype, requires_grad=wanted)
    turned = rotate(x, angles(torch.arange(shape[2]), frequencies(8)), layout)
    assert (turned.shape, turned.dtype) == (shape, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_dtype_stays_the_same_with_and_without_gradients(layout: str, dtype: torch.dtype) -> None:
    """On each of the ways through `turn`: the bits too, where the table is not learned."""
    x = torch.randn(2, 3, 5, 8).to(dtype)
    table = angles(
        torch.arange(5), frequencies(8), dtype=torch.float64 if dtype == torch.float64 else torch.float32
    )
    leaf, learned = x.clone().requires_grad_(), table.clone().requires_grad_()
    with torch.no_grad():
        wanted = rotate(leaf, table, layout)
    with torch.inference_mode():
        assert torch.equal(rotate(x, table, layout), wanted)
    for turned in (rotate(x, table, layout), rotate(leaf, table, layout)):
        assert turned.dtype == dtype
        assert torch.equal(turned, wanted)
    for turned in (rotate(x, learned, layout), rotate(leaf, learned, layout)):
        assert turned.dtype == dtype
        torch.testing.assert_close(turned, wanted, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


def test_a_function_of_autograd_is_used_only_if_someone_differentiates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A decoding step does without its bookkeeping; gradients, dual numbers and torch.func's transforms need it."""
    calls, apply = [], turning._Turn.apply
    monkeypatch.setattr(turning._Turn, "apply", lambda *given: calls.append(1) or apply(*given))
    x, table = torch.randn(2, 1, 3, 4, requires_grad=True), angles(torch.arange(3), frequencies(4))

    def count(call) -> int:
        calls.clear()
        call()
        return len(calls)

    with torch.no_grad():
        assert count(lambda: rotate(x, table)) == 0
    assert count(lambda: rotate(x.detach(), table)) == 0
    assert count(lambda: rotate(x, table)) == 1
    assert count(lambda: torch.func.vmap(lambda y: rotate(y, table))(x.detach())) > 0
    assert count(lambda: torch.func.jvp(lambda y: rotate(y, table), (x.detach(),), (x.detach(),))) > 0
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.detach(), torch.ones_like(x))
        out = []
        assert count(lambda: out.append(forward_ad.unpack_dual(rotate(dual, table)).tangent)) > 0
    torch.testing.assert_close(out[0], rotate(torch.ones_like(x), table))


def test_an_empty_offset_of_storage_is_read_right() -> None:
    """A slice that starts at an odd element, or has odd strides, cannot be read as complex numbers where it is."""
    table = angles(torch.arange(3), frequencies(4))
    wide, long = torch.randn(3, 7), torch.randn(13)
    for x in (wide[:, 1:5], wide[:, 2:6], long[1:].view(3, 4), wide.T[:4].T):
        torch.testing.assert_close(rotate(x, table), rotate(x.clone(), table), rtol=0, atol=0)


# Rotary


@pytest.mark.parametrize("make", [
    lambda freqs: RotaryEmbedding(8, freqs=freqs),
    lambda freqs: RotaryEmbeddingND(freqs[None]),
], ids=["RoPE", "n-d"])  # fmt: skip
def test_frequencies_that_are_given_are_copied(make) -> None:
    """Neither a later change to the tensor nor its graph reaches the module."""
    freqs = frequencies(8).requires_grad_()
    rope, q = make(freqs * 1.0), torch.randn(1, 2, 5, 8)
    assert not rope.rotate(q, q, q, torch.arange(5))[0].requires_grad
    given = frequencies(8)
    rope = make(given)
    before = rope.rotate(q, q, q, torch.arange(5))[0]
    given.zero_()
    assert torch.equal(rope.rotate(q, q, q, torch.arange(5))[0], before)


def test_learned_frequencies_are_scaled_in_float64() -> None:
    """In float32 a million tokens out the angle would be off by more than a hundredth."""
    scaling = YaRN(3.0, 4096)
    rope = RotaryEmbedding(16, scaling=scaling, learned=True)
    positions = torch.arange(1_000_000, 1_000_010)
    wanted = angles(positions, scaling(rope.learned_freqs.double(), 9)[0])
    difference = rope.table(positions, 9)[0] - wanted
    assert (difference.cos() - 1).abs().max() < 1e-12


def test_the_growing_form_has_the_attention_factor_too() -> None:
    scaling = YaRN(8.0, 16)
    q, k = torch.randn(2, 1, 2, 9, 16).double()
    at = torch.arange(9)
    growing, plain = GrowingRotaryEmbedding(16, scaling=scaling), RotaryEmbedding(16, scaling=scaling)
    for ours, wanted in zip(growing.relate(q, k, at, at), plain(q, k), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-12)
    assert plain.table(at, 9)[1] > 1.2


def test_roper_turns_values_by_the_base_and_layout_of_its_keys() -> None:
    v, at = torch.randn(1, 2, 5, 8), torch.arange(5)
    for layout in LAYOUTS:
        rope = RotaryValueEmbedding(8, base=50.0, layout=layout)
        assert torch.equal(rope.rotate(v, v, v, at)[2], rotate(v, angles(at, frequencies(8, 50.0)), layout))
        torch.testing.assert_close(rope.unrotate(rope.rotate(v, v, v, at)[2], at), v, rtol=0, atol=1e-6)


@pytest.mark.parametrize("heads", [None, 2])
def test_frequencies_of_each_head_on_a_line(heads: int | None) -> None:
    """One dimension with a spectrum per head, as `RotaryEmbeddingND` takes it: (1, H, D/2)."""
    freqs = torch.rand(1, 3, 4, dtype=torch.float64)
    rope, (q, k) = RotaryEmbeddingND(freqs), torch.randn(2, 2, 3, 6, 8)
    at = torch.randint(99, (2, 6)) if heads else torch.arange(6)
    turned, _, _ = rope.rotate(q, k, k, at)
    for h in range(3):
        alone = RotaryEmbedding(8, freqs=freqs[0, h])(q[:, h : h + 1], k[:, h : h + 1], positions=at)[0]
        torch.testing.assert_close(turned[:, h : h + 1], alone, rtol=0, atol=1e-6)


# n-d


def test_the_first_pairs_can_belong_to_x() -> None:
    """As in RoPE-ViT, SAM 2 and the vision tower of Llama 4: rows and columns of the matrix, not of the grid, swap."""
    table = angles_nd(grid_coordinates(3, 5), axial_frequencies(16, 2).flip(0), dtype=torch.float64).view(
        3, 5, 8
    )
    theta = frequencies(8, 100.0)
    for y in range(3):
        for x in range(5):
            torch.testing.assert_close(table[y, x, :4].cos(), (x * theta).cos(), rtol=0, atol=1e-14)
            torch.testing.assert_close(table[y, x, 4:].sin(), (y * theta).sin(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("sizes", [(1,), (4,), (3, 5)])
def test_centres_of_cells_cover_the_interval_evenly(sizes: tuple[int, ...]) -> None:
    cells = grid_coordinates(*sizes, kind="centre")
    assert cells.dtype == torch.float64
    for axis, size in enumerate(sizes):
        along = cells[:, axis].unique()
        wanted = torch.tensor([-1 + 2 * (i + 0.5) / size for i in range(size)], dtype=torch.float64)
        torch.testing.assert_close(along, wanted, rtol=0, atol=1e-15)


def test_centres_are_those_of_dinov3() -> None:
    from transformers.models.dinov3_vit import modeling_dinov3_vit as theirs
    from transformers.models.dinov3_vit.configuration_dinov3_vit import DINOv3ViTConfig

    config = DINOv3ViTConfig(hidden_size=64, num_attention_heads=2, patch_size=16, image_size=64)
    cos, sin = theirs.DINOv3ViTRopePositionEmbedding(config).eval()(torch.zeros(1, 3, 48, 80))
    freqs = 2 * math.pi * axial_frequencies(32, 2, config.rope_theta)
    rope = RotaryEmbeddingND(freqs, sizes=(3, 5), kind="centre", layout="half")
    q = torch.randn(1, 2, 15, 32)
    wanted = theirs.apply_rotary_pos_emb(q, q, cos, sin)[0]
    torch.testing.assert_close(rope.rotate(q, q, q, torch.arange(15))[0], wanted, rtol=0, atol=1e-5)


def test_defaults_are_those_of_the_papers() -> None:
    assert XPos(8).scale_base == 512
    assert torch.equal(axial_frequencies(8, 2), axial_frequencies(8, 2, 100.0))
    assert torch.equal(pixel_frequencies(8, 2), pixel_frequencies(8, 2, 10.0))
    by = [
        mixed_frequencies(8, 1, *base, generator=torch.Generator().manual_seed(0)) for base in ((), (10.0,))
    ]
    assert torch.equal(*by)
    assert RotaryEmbedding(8).base == SinusoidalEmbedding(8).base == 10_000
    assert (RotaryEmbedding(8).layout, RotaryEmbeddingND(axial_frequencies(8, 2)).layout) == (
        "interleaved",
    ) * 2
    three = Llama3()
    assert (three.factor, three.low_freq_factor, three.high_freq_factor, three.original_length) == (
        8,
        1,
        4,
        8192,
    )
    yarn = YaRN(2.0, 64)
    assert (yarn.beta_fast, yarn.beta_slow, yarn.truncate) == (32, 1, True)
    t5 = T5Bias(2)
    assert (t5.table.num_embeddings, t5.max_distance, t5.causal) == (32, 128, True)
    assert Shaw(4).max_distance == DeBERTa(2, 4).max_distance == 16
    assert torch.equal(t5_buckets(torch.tensor([3, -3])), torch.tensor([19, 3]))  # both directions


# xPos


def test_fewer_queries_than_keys_are_the_last() -> None:
    rope, (q, k) = XPos(8, scale_base=4), torch.randn(2, 1, 2, 9, 8).double()
    for positions in (None, torch.arange(9) * 2 + 5, torch.randint(20, (1, 9))):
        q_full, k_full = rope(q, k, positions=positions)
        full = (q_full @ k_full.mT)[:, :, 6:]
        few, keys = rope(q[:, :, 6:], k, positions=positions)
        torch.testing.assert_close(few @ keys.mT, full, rtol=0, atol=1e-11)


def test_a_row_of_positions_for_each_text_scales_each_by_its_own() -> None:
    rope, q = XPos(6, scale_base=4, layout="half"), torch.randn(2, 2, 5, 8).double()
    at = torch.stack((torch.arange(5), torch.arange(5) * 3))
    both = rope.relate(q, q, at, at)
    for b in range(2):
        for x, y in zip(both, rope.relate(q[b : b + 1], q[b : b + 1], at[b], at[b]), strict=True):
            torch.testing.assert_close(x[b : b + 1], y, rtol=0, atol=1e-13)
    assert torch.equal(both[0][..., 6:], q[..., 6:])


# Biases

Q, K = torch.randn(2, 2, 4, 6, 8, generator=torch.Generator().manual_seed(3)).double().unbind()
AT = torch.arange(6)


@pytest.mark.parametrize(
    "position", [TransformerXL(4, 8), DeBERTa(4, 8, max_distance=3)], ids=lambda p: type(p).__name__
)
def test_grouped_keys_serve_adjacent_query_heads(position) -> None:
    """Heads 0 and 1 share key head 0, heads 2 and 3 share key head 1, as in `scaled_dot_product_attention`."""
    position = position.double()
    for p in position.parameters():
        torch.nn.init.normal_(p)
    shared = K[:, :2]
    torch.testing.assert_close(
        position.bias(Q, shared, AT, AT), position.bias(Q, shared.repeat_interleave(2, dim=1), AT, AT)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_alibi_knows_every_distance_in_every_dtype(dtype: torch.dtype) -> None:
    """In bfloat16 1,001 tokens would be 1,000, and in float16 70,000 would be infinite."""
    n = torch.tensor([0, 1, 1001, 2049, 70_001])
    q, k = torch.zeros(1, 2, 1, 8, dtype=dtype), torch.zeros(1, 2, 5, 8, dtype=dtype)
    bias = ALiBi(2).bias(q, k, torch.tensor([70_001]), n)
    wanted = -alibi_slopes(2)[:, None] * (70_001 - n).double()
    torch.testing.assert_close(bias[0, :, 0].double(), wanted, rtol=1e-6, atol=0)
    assert bias.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    rows = ALiBi(2).bias(
        q.expand(2, -1, -1, -1), k.expand(2, -1, -1, -1), torch.tensor([[9], [7]]), n.expand(2, -1)
    )
    assert rows.shape == (2, 2, 1, 5)
    assert (rows <= 0).all()


def test_shaw_clips_on_both_sides() -> None:
    shaw = Shaw(8, max_distance=2).double()
    bias = shaw.bias(Q, K, AT, AT)
    for m in range(6):
        for n in range(6):
            row = shaw.table.weight[min(max(n - m, -2), 2) + 2]
            torch.testing.assert_close(bias[:, :, m, n], Q[:, :, m] @ row / 8**0.5, rtol=0, atol=1e-12)


def test_deberta_clips_on_both_sides() -> None:
    """δ runs from −K to K − 1, for keys ahead of the query too, which a causal mask hides."""
    deberta = DeBERTa(4, 8, max_distance=2).double()
    bias = deberta.bias(Q, K, AT, AT)
    for m in range(6):
        for n in range(6):
            key, query = (min(max(d, -2), 1) + 2 for d in (m - n, n - m))
            to_position = (Q[:, :, m] * deberta.key[:, key]).sum(-1)
            from_position = (K[:, :, n] * deberta.query[:, query]).sum(-1) / 3**0.5
            torch.testing.assert_close(
                bias[:, :, m, n], (to_position + from_position) / 8**0.5, rtol=0, atol=1e-12
            )
    q, k, v = deberta.rotate(Q, K, K, AT)
    torch.testing.assert_close(q * 3**0.5, Q)
    assert k is v is K


@pytest.mark.parametrize("buckets", [8, 10, 12, 16, 20, 32, 40])
@pytest.mark.parametrize("times", [2, 3, 5, 7])
def test_a_bucket_that_begins_at_a_whole_distance_begins_there(buckets: int, times: int) -> None:
    """Where exact·(max/exact)^(b/…) is whole, rounding must not move it to the next distance."""
    exact = buckets // 2
    far = exact * times ** (buckets - exact) if times ** (buckets - exact) < 10**6 else exact * times**2
    starts = [exact * times**b for b in range(1, buckets - exact) if exact * times**b < 10**7]
    distances = torch.tensor([d + e for d in starts for e in (-1, 0, 1)])
    ours = t5_buckets(-distances, buckets=buckets, max_distance=far, causal=True).tolist()
    assert ours == [exact_bucket(d, buckets, far) for d in distances.tolist()]


def test_a_model_of_both_directions_tells_them_apart() -> None:
    from rope_lab import RoFormer, RoFormerConfig

    net = RoFormer(RoFormerConfig(11, dim=16, heads=2, depth=1, position="t5", causal=False))
    assert net.position.causal is False
    assert RoFormer(RoFormerConfig(11, dim=16, heads=2, depth=1, position="t5")).position.causal is True
    q, at = torch.zeros(1, 2, 3, 8), torch.arange(3)
    bias = net.position.bias(q, q, at, at)
    assert (bias[0, :, 0, 2] != bias[0, :, 2, 0]).all()


def test_embeddings_keep_their_dtype_and_layers_their_query_blocks() -> None:
    class Blocks(XPos):
        def relate(self, q, k, q_positions, k_positions):
            seen.append(q.shape[2])
            return super().relate(q, k, q_positions, k_positions)

    for count, wanted in ((3, [3]), (4, [4]), (5, [4, 1]), (8, [4, 4]), (9, [4, 4, 1])):
        seen: list[int] = []
        MultiHeadAttention(32, 4, position=Blocks(8, scale_base=4))(torch.randn(1, count, 32))
        assert seen == wanted
    x = torch.zeros(1, 3, 8, dtype=torch.bfloat16)
    assert SinusoidalEmbedding(8).embed(x, torch.arange(3)).dtype == torch.bfloat16
