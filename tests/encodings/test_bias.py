"""Terms added to the scores: T5, ALiBi, Shaw, Transformer-XL, DeBERTa against papers, whole numbers and neighbours."""

from __future__ import annotations

import copy
import math
import re
from fractions import Fraction
from functools import partial

import pytest
import torch
from torch import Tensor

from rope_lab import KVCache, MultiHeadAttention, PositionEncoding, sinusoidal
from rope_lab.encodings import ALiBi, DeBERTa, Shaw, T5Bias, TransformerXL, alibi_slopes, t5_buckets

SETTINGS = [(32, 128), (16, 64), (32, 512), (8, 20), (64, 1000), (32, 100)]


def exact_bucket(distance: int, side: int, max_distance: int) -> int:
    """The bucket by whole numbers: the largest b with exact·(max/exact)^((b−exact)/(side−exact)) ≤ distance."""
    exact = side // 2
    if distance < exact:
        return distance
    bucket = exact
    while bucket < side - 1:
        step = bucket + 1 - exact  # raise both sides to the power side − exact to stay rational
        bound = Fraction(max_distance, exact) ** step * Fraction(exact) ** (side - exact)
        if Fraction(distance) ** (side - exact) < bound:
            break
        bucket += 1
    return bucket


@pytest.mark.parametrize(("buckets", "max_distance"), SETTINGS)
@pytest.mark.parametrize("causal", [True, False])
def test_t5_buckets_equal_rational_arithmetic(buckets: int, max_distance: int, causal: bool):
    relative = torch.arange(-600, 601)
    ours = t5_buckets(relative, buckets=buckets, max_distance=max_distance, causal=causal).tolist()
    side = buckets if causal else buckets // 2
    for r, bucket in zip(relative.tolist(), ours, strict=True):
        distance, ahead = (max(-r, 0), 0) if causal else (abs(r), side if r > 0 else 0)
        assert bucket == ahead + exact_bucket(distance, side, max_distance), r


@pytest.mark.parametrize(("buckets", "max_distance"), SETTINGS)
@pytest.mark.parametrize("causal", [True, False])
def test_t5_buckets_equal_those_of_transformers(buckets: int, max_distance: int, causal: bool):
    from transformers.models.t5.modeling_t5 import T5Attention

    relative = torch.arange(-3000, 3001)
    theirs = T5Attention._relative_position_bucket(
        relative, bidirectional=not causal, num_buckets=buckets, max_distance=max_distance
    )
    assert t5_buckets(relative, buckets=buckets, max_distance=max_distance, causal=causal).equal(theirs)


@pytest.mark.parametrize("heads", range(1, 65))
def test_alibi_slopes_are_those_of_the_paper(heads: int):
    power = 2 ** math.floor(math.log2(heads))
    wanted = [2 ** (-8 * h / power) for h in range(1, power + 1)]
    wanted += [2 ** (-8 * h / (2 * power)) for h in range(1, 2 * power + 1)][0::2][: heads - power]
    torch.testing.assert_close(
        alibi_slopes(heads), torch.tensor(wanted, dtype=torch.float64), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize("heads", [1, 3, 8, 12, 20])
def test_alibi_slopes_equal_those_of_bloom(heads: int):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32).view(heads, 2)[:, 1]
    torch.testing.assert_close(alibi_slopes(heads).float(), theirs, rtol=1e-6, atol=0)


def random_layer(position: PositionEncoding, **options) -> MultiHeadAttention:
    torch.manual_seed(0)
    layer = MultiHeadAttention(64, 4, position=position, **options).double()
    for parameter in layer.position.parameters():
        torch.nn.init.normal_(parameter)
    return layer


def dense(layer: MultiHeadAttention, x: Tensor, bias: Tensor, scale: float = 0.25) -> Tensor:
    q, k, v = (p(x).unflatten(-1, (4, 16)).transpose(1, 2) for p in (layer.query, layer.key, layer.value))
    n = torch.arange(x.shape[1])
    scores = (q @ k.mT * scale + bias).masked_fill(n[:, None] < n, -torch.inf)
    return layer.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2))


def heads_of(layer: MultiHeadAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    q, k = (p(x).unflatten(-1, (4, 16)).transpose(1, 2) for p in (layer.query, layer.key))
    return q, k


X = torch.randn(2, 9, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
M, N = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")


def test_t5_adds_one_number_a_head_and_bucket():
    layer = random_layer(T5Bias(4, buckets=8, max_distance=6))
    table = layer.position.table.weight
    bias = torch.stack([table[exact_bucket(max(m - n, 0), 8, 6)] for m in range(9) for n in range(9)])
    torch.testing.assert_close(
        layer(X), dense(layer, X, bias.view(9, 9, 4).movedim(-1, 0)), rtol=0, atol=1e-12
    )


def test_alibi_falls_with_the_distance():
    layer = random_layer(ALiBi(4))
    bias = -alibi_slopes(4)[:, None, None] * (M - N).abs()
    torch.testing.assert_close(layer(X), dense(layer, X, bias), rtol=0, atol=1e-12)


def test_shaw_adds_a_vector_of_the_clipped_distance_to_the_key():
    layer = random_layer(Shaw(16, max_distance=3))
    q, _ = heads_of(layer, X)
    vectors = layer.position.table.weight[(N - M).clamp(-3, 3) + 3]  # (9, 9, D)
    bias = torch.einsum("bhmd,mnd->bhmn", q, vectors) / 4
    torch.testing.assert_close(layer(X), dense(layer, X, bias), rtol=0, atol=1e-12)


def test_transformer_xl_adds_its_three_terms():
    layer = random_layer(TransformerXL(4, 16))
    (q, k), p = heads_of(layer, X), layer.position
    r = sinusoidal((M - N).flatten(), 16, dtype=torch.float64).view(9, 9, 16)
    turned = torch.einsum("mne,hde->hmnd", r, p.project)
    bias = torch.einsum("bhmd,hmnd->bhmn", q + p.v, turned) + torch.einsum("hxd,bhnd->bhxn", p.u, k)
    torch.testing.assert_close(layer(X), dense(layer, X, bias / 4), rtol=0, atol=1e-12)


def test_deberta_adds_content_to_position_and_position_to_content():
    layer = random_layer(DeBERTa(4, 16, max_distance=3))
    (q, k), p = heads_of(layer, X), layer.position
    c2p = torch.einsum("bhmd,hmnd->bhmn", q, p.key[:, (M - N).clamp(-3, 2) + 3])
    p2c = torch.einsum("bhnd,hmnd->bhmn", k, p.query[:, (N - M).clamp(-3, 2) + 3])
    scale = (3 * 16) ** -0.5
    torch.testing.assert_close(layer(X), dense(layer, X, (c2p + p2c) * scale, scale), rtol=0, atol=1e-12)


def test_deberta_equals_the_released_form_but_for_the_order_of_one_table():
    """The paper reads the queries' table at δ(n, m), the released code at δ(m, n): the rows run the other way."""
    from transformers.models.deberta.configuration_deberta import DebertaConfig
    from transformers.models.deberta.modeling_deberta import DisentangledSelfAttention

    torch.manual_seed(0)
    config = DebertaConfig(
        hidden_size=64, num_attention_heads=4, relative_attention=True, max_relative_positions=9,
        pos_att_type=["c2p", "p2c"], attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0,
    )  # fmt: skip
    theirs = DisentangledSelfAttention(config).double().eval()
    layer = MultiHeadAttention(64, 4, position=DeBERTa(4, 16, max_distance=9), causal=False).double()
    table = torch.randn(18, 64, dtype=torch.float64)
    with torch.no_grad():
        layer.out.weight.copy_(torch.eye(64))
        for i, projection in enumerate((layer.query, layer.key, layer.value)):
            projection.weight.copy_(theirs.in_proj.weight.view(4, 3, 16, 64)[:, i].flatten(0, 1))
        for ours, projection in (
            (layer.position.key, theirs.pos_proj),
            (layer.position.query, theirs.pos_q_proj),
        ):
            ours.copy_(projection(table).unflatten(-1, (4, 16)).movedim(-2, 0))
        layer.position.query.copy_(layer.position.query.flip(1).roll(1, dims=1))  # row j is row 2K − j
    wanted = theirs(X, torch.ones(2, 1, 9, 9), relative_pos=(M - N)[None], rel_embeddings=table)[0]
    torch.testing.assert_close(layer(X), wanted, rtol=0, atol=1e-6)  # its square roots are float32


POSITIONS = [T5Bias(4), ALiBi(4), Shaw(16), TransformerXL(4, 16), DeBERTa(4, 16)]


@pytest.mark.parametrize("position", POSITIONS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("options", [{}, {"kv_heads": 2}, {"window": 4}])
def test_every_split_of_prefill_and_decode_is_exact(position: PositionEncoding, options: dict[str, int]):
    layer = random_layer(position, **options)
    full = layer(X)
    for split in range(1, 9):
        cache = KVCache(9)
        parts = [layer(X[:, :split], cache=cache)]
        parts += [layer(X[:, i : i + 1], cache=cache) for i in range(split, 9)]
        torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=0, atol=1e-12)


@pytest.mark.parametrize("position", POSITIONS, ids=lambda p: type(p).__name__)
def test_only_distances_count_and_rows_may_differ(position: PositionEncoding):
    layer, n = random_layer(position, causal=False), torch.arange(9)
    torch.testing.assert_close(layer(X, positions=n + 1000), layer(X), rtol=0, atol=1e-12)
    rows = torch.stack((n, 2 * n))
    apart = torch.cat([layer(X[b : b + 1], positions=rows[b]) for b in range(2)])
    torch.testing.assert_close(layer(X, positions=rows), apart, rtol=0, atol=1e-12)


@pytest.mark.parametrize("position", POSITIONS, ids=lambda p: type(p).__name__)
def test_all_parameters_get_a_gradient_in_bfloat16_too(position: PositionEncoding):
    layer = random_layer(position).bfloat16()
    layer(X.bfloat16()).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.position.parameters())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: T5Bias(4, buckets=7, causal=False), "buckets must be even and at least 4, got 7"),
        (lambda: T5Bias(4, buckets=2, causal=False), "buckets must be even and at least 4, got 2"),
        (lambda: T5Bias(4, buckets=1), "buckets must be at least 2, got 1"),
        (
            lambda: T5Bias(4, buckets=32, max_distance=16),
            "max_distance must exceed the 16 exact distances, got 16",
        ),
        (lambda: TransformerXL(4, 7), "head_dim must be a positive even integer, got 7"),
    ],
)
def test_bad_arguments_are_named(make, said: str):
    with pytest.raises(ValueError, match=f"^{said}$"):
        make()


SIZES = {
    T5Bias: {"heads": 4, "buckets": 32, "max_distance": 128},
    ALiBi: {"heads": 4},
    alibi_slopes: {"heads": 4},
    Shaw: {"head_dim": 16, "max_distance": 16},
    TransformerXL: {"heads": 4, "head_dim": 16},
    DeBERTa: {"heads": 4, "head_dim": 16, "max_distance": 16},
    partial(t5_buckets, N - M): {"buckets": 32, "max_distance": 128},
}


@pytest.mark.parametrize("bad", [0, -3, 2.5, 32.0, math.nan, True, None])
@pytest.mark.parametrize(("make", "name"), [(make, name) for make, sizes in SIZES.items() for name in sizes])
def test_every_size_is_a_positive_integer(make, name: str, bad):
    make(**SIZES[make])
    with pytest.raises(ValueError, match=f"^{name} must be a positive integer, got {bad!r}$"):
        make(**SIZES[make] | {name: bad})


@pytest.mark.parametrize(
    ("position", "wanted"),
    [
        (T5Bias(8), "B, 8, N, D"),
        (T5Bias(1), "B, 1, N, D"),
        (ALiBi(8), "B, 8, N, D"),
        (ALiBi(1), "B, 1, N, D"),
        (Shaw(8), "B, H, N, 8"),
        (Shaw(1), "B, H, N, 1"),
        (TransformerXL(8, 16), "B, 8, N, 16"),
        (TransformerXL(1, 16), "B, 1, N, 16"),
        (TransformerXL(4, 8), "B, 4, N, 8"),
        (DeBERTa(1, 16), "B, 1, N, 16"),
        (DeBERTa(4, 8), "B, 4, N, 8"),
    ],
)
def test_queries_have_the_heads_the_bias_was_made_for(position: PositionEncoding, wanted: str):
    said = re.escape(f"q must have shape ({wanted}), got (2, 4, 9, 16)")
    with pytest.raises(ValueError, match=f"^{said}$"):
        random_layer(position)(X)


@pytest.mark.parametrize("position", POSITIONS, ids=lambda p: type(p).__name__)
def test_what_the_hook_is_given_is_looked_at(position: PositionEncoding):
    q, n, position = torch.randn(2, 4, 9, 16), torch.arange(9), copy.deepcopy(position).float()
    kinds = "int32, int64 or real" if isinstance(position, (ALiBi, TransformerXL)) else "int32 or int64"
    wrong = [
        ((q[0], q, n, n), "q must have shape"),
        *(((q, k, n, n), "k must have shape") for k in (q[0], q[:, :3], q[:, :0], q[..., :8])),
        (
            (q, q[:, [0, 1, 2, 3] * 2], n, n),
            "k must have shape (B, H_k, N, 16), H_k a divisor of 4, got (2, 8, 9, 16)",
        ),
        ((q, q, n > 3, n), f"q_positions must be {kinds}, got torch.bool"),
        ((q, q, n, n.byte()), f"k_positions must be {kinds}, got torch.uint8"),
        ((q, q, n, n + 0j), f"k_positions must be {kinds}, got torch.complex64"),
    ]
    for given, said in wrong:
        with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
            position.bias(*given)
    if "real" in kinds:
        assert position.bias(q, q, n.double(), n.double()).equal(position.bias(q, q, n, n))
    else:
        with pytest.raises(ValueError, match="q_positions must be int32 or int64, got"):
            position.bias(q, q, n.float(), n)
    assert position.bias(q, q, n.int(), n.int()).equal(position.bias(q, q, n, n))
