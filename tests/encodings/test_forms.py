"""What an engineer hands in: integers of numpy, lists and ranges, an offset per row, words where objects belong."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab import (
    KVCache,
    LearnedEmbedding,
    LocalAttention,
    LocalConfig,
    MultiHeadAttention,
    NoPE,
    PositionEncoding,
    RoFormer,
    RoFormerConfig,
    RotaryEmbedding,
    SinusoidalEmbedding,
    angles,
    convert_layout,
    convert_projection,
    frequencies,
    sinusoidal,
)
from rope_lab.encodings import (
    ALiBi,
    DeBERTa,
    DynamicNTK,
    GrowingRotaryEmbedding,
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
    base,
    grid_coordinates,
    mixed_frequencies,
    mrope_frequencies,
    pixel_frequencies,
)
from rope_lab.local import LocalSelfAttention, Window, local_attention

Q, K = torch.randn(2, 3, 4, 5, 8, generator=torch.Generator().manual_seed(0)).unbind()


@pytest.mark.parametrize("index", [np.int64, np.int32, np.uint8, int], ids=lambda i: i.__name__)
def test_integers_of_numpy_are_integers(index):
    eight, two, one, zero = (index(n) for n in (8, 2, 1, 0))
    assert torch.equal(frequencies(eight), frequencies(8))
    made = [
        (RotaryEmbedding(eight, start=zero, heads=two, length=eight), RotaryEmbedding(8, heads=2)),
        (RotaryEmbedding(eight, learned=True), RotaryEmbedding(8, learned=True)),
        (XPos(eight, scale_base=two), XPos(8, scale_base=2)),
        (RotaryValueEmbedding(eight, value_dim=two), RotaryValueEmbedding(8, value_dim=2)),
    ]
    for ours, plain in made:
        for a, b in zip(
            ours.rotate(Q, K, K, torch.arange(5)), plain.rotate(Q, K, K, torch.arange(5)), strict=True
        ):
            assert torch.equal(a, b)
    shapes = {
        tuple(p.shape)
        for module in (T5Bias(two, buckets=eight), Shaw(eight, max_distance=two), TransformerXL(two, eight))
        for p in module.parameters()
    }
    assert shapes == {(8, 2), (5, 8), (2, 8, 8), (2, 1, 8)}
    assert DeBERTa(two, eight, max_distance=two).key.shape == (2, 4, 8)
    assert torch.equal(alibi_slopes(two), alibi_slopes(2))
    assert ALiBi(two).bias(Q[:, :2], K[:, :2], torch.arange(5), torch.arange(5)).shape == (1, 2, 5, 5)
    assert LearnedEmbedding(eight, two).table.weight.shape == (8, 2)
    assert SinusoidalEmbedding(eight).embed(torch.zeros(1, 2, 8), torch.arange(2)).shape == (1, 2, 8)
    assert torch.equal(axial_frequencies(eight, two), axial_frequencies(8, 2))
    assert torch.equal(pixel_frequencies(eight, two), pixel_frequencies(8, 2))
    assert torch.equal(mrope_frequencies((two, one)), mrope_frequencies((2, 1)))
    assert mixed_frequencies(eight, two).shape == (2, 2, 4)
    assert torch.equal(grid_coordinates(two, one), grid_coordinates(2, 1))
    rope = RotaryEmbeddingND(axial_frequencies(8, 2), sizes=(two, two), prefix=one)
    assert rope.max_positions == 5
    assert torch.equal(
        convert_layout(K, "half", "interleaved", rotary_dim=eight), convert_layout(K, "half", "interleaved")
    )
    weight = torch.randn(8, 3)
    assert torch.equal(
        convert_projection(weight, two, "half", "interleaved"),
        convert_projection(weight, 2, "half", "interleaved"),
    )
    layer = MultiHeadAttention(eight, two, kv_heads=one, window=two, position=RotaryEmbedding(4))
    assert layer(torch.randn(1, 3, 8), cache=KVCache(eight)).shape == (1, 3, 8)
    assert LocalAttention(two, look_backward=one)(K, K, K).shape == K.shape
    config = LocalConfig(
        eight, context=eight, dim=eight, depth=one, heads=two, window=two, global_layers=zero
    )
    assert config == LocalConfig(8, context=8, dim=8, depth=1, heads=2, window=2)
    assert all(type(value) in (int, float, str, bool, type(None)) for value in vars(config).values())


@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64, int])
def test_numbers_of_every_kind_are_numbers(number):
    assert torch.equal(frequencies(8, number(500)), frequencies(8, 500.0))
    assert RotaryEmbedding(8, base=number(500)).base == 500.0
    assert YaRN(number(4), 64)(frequencies(8), 9)[1] == YaRN(4.0, 64)(frequencies(8), 9)[1]


M = torch.tensor([3, 0, 7, 8, 100_000_007])
FORMS = {
    "list": M.tolist(),
    "tuple": tuple(M.tolist()),
    "numpy": M.numpy(),
    "int32": M.int(),
    "numpy int32": M.numpy().astype(np.int32),
}


@pytest.mark.parametrize("form", FORMS)
def test_positions_come_in_every_ordinary_form(form):
    given, wanted = FORMS[form], RotaryEmbedding(8)(Q, K, positions=M)
    for a, b in zip(RotaryEmbedding(8)(Q, K, positions=given), wanted, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(angles(given, frequencies(8)), angles(M, frequencies(8)))
    assert torch.equal(sinusoidal(given, 8), sinusoidal(M, 8))
    layer, x = MultiHeadAttention(32, 4, position=RotaryEmbedding(8)), torch.randn(2, 5, 32)
    assert torch.equal(layer(x, positions=given), layer(x, positions=M))
    local = LocalAttention(3, position=RotaryEmbedding(8))
    assert torch.equal(local(Q, K, K, positions=given), local(Q, K, K, positions=M))
    biased = {"window": 3, "position": ALiBi(4)}
    wanted = local_attention(Q, K, K, **biased, positions=M)
    assert torch.equal(local_attention(Q, K, K, **biased, positions=given), wanted)
    net = RoFormer(RoFormerConfig(11, dim=32, depth=1))
    ids = torch.randint(11, (2, 5))
    assert torch.equal(net(ids, positions=given), net(ids, positions=M))
    cells = np.array([[0, 1], [2, 3]]) if form == "numpy" else [[0, 1], [2, 3]]
    assert torch.equal(
        angles_nd(cells, axial_frequencies(8, 2)), angles_nd(torch.tensor(cells), axial_frequencies(8, 2))
    )


def test_a_range_and_rows_of_positions_and_real_ones():
    rope = RotaryEmbedding(8)
    assert torch.equal(rope(Q, K, positions=range(2, 7))[1], rope(Q, K, positions=torch.arange(2, 7))[1])
    rows = [[0, 1, 2, 3, 4], [9, 8, 7, 6, 5]]
    x = torch.randn(2, 4, 5, 8)
    assert torch.equal(rope(x, x, positions=rows)[0], rope(x, x, positions=torch.tensor(rows))[0])
    far = [10_000_000.1, 10_000_000.2]  # float32 would make one number of them
    table = angles(far, frequencies(4), dtype=torch.float64)
    assert torch.equal(
        table, angles(torch.tensor(far, dtype=torch.float64), frequencies(4), dtype=torch.float64)
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, r"positions must have shape \(5,\) or \(3, 5\), got \(\)"),
        ([0, 1], r"positions must have shape .* got \(2,\)"),
        ("abcde", r"positions must be a tensor or a list of numbers, got 'abcde'"),
        ([[0, 1], [2]], r"positions must be a tensor or a list of numbers, got \[\[0, 1\], \[2\]\]"),
        ([None] * 5, "positions must be a tensor or a list of numbers, got .*"),
        ([True] * 5, r"positions must be integers or real numbers, got torch\.bool"),
        (torch.ones(5) * 1j, r"positions must be integers or real numbers, got torch\.complex64"),
    ],
)
def test_what_cannot_be_positions_is_named(given, said):
    x = torch.randn(3, 5, 32)
    q = torch.randn(3, 4, 5, 8)
    for call in (
        lambda: RotaryEmbedding(8)(q, q, positions=given),
        lambda: MultiHeadAttention(32, 4)(x, positions=given),
        lambda: LocalAttention(4)(q, q, q, positions=given),
        lambda: local_attention(q, q, q, window=4, positions=given),
        lambda: RoFormer(RoFormerConfig(11, dim=32, depth=1))(torch.zeros(3, 5).long(), positions=given),
    ):
        with pytest.raises(ValueError, match=f"^{said}$"):
            call()


@pytest.mark.parametrize("batch", [2, 5])  # 5: as many rows as tokens, where (B,) would fit (N,)
@pytest.mark.parametrize("form", [torch.tensor, np.array, list])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize(
    "rope",
    [
        RotaryEmbedding(8),
        RotaryEmbedding(8, layout="half", learned=True),
        RotaryEmbedding(8, scaling=DynamicNTK(2.0, 4), length=30),
        XPos(8, scale_base=4),
        RotaryValueEmbedding(8),
        GrowingRotaryEmbedding(8, scaling=YaRN(2.0, 8)),
    ],
    ids=lambda r: type(r).__name__,
)
def test_an_offset_of_each_row_is_its_own(rope, rows, form, batch):
    """As the `seqlen_offsets` of flash-attention: (B,), and never one per token."""
    q, k = torch.randn(2, batch, 4, 5, 8)
    q = q[:, :, 2:]
    offsets = [7 * b + 3 for b in range(batch)]
    positions = torch.randint(50, (batch, 5)) if rows else None
    turned = rope(q, k, positions=positions, offset=form(offsets))
    for b in range(batch):
        own = None if positions is None else positions[b]
        alone = rope(q[b : b + 1], k[b : b + 1], positions=own, offset=offsets[b])
        for x, y in zip(turned, alone, strict=True):
            torch.testing.assert_close(x[b : b + 1], y, rtol=0, atol=1e-6)
    same = (
        rope(q, k, positions=positions, offset=torch.tensor(9)),
        rope(q, k, positions=positions, offset=np.int64(9)),
    )
    for a, b, c in zip(*same, rope(q, k, positions=positions, offset=9), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(b, c)


def test_an_offset_counts_towards_the_length():
    """A scaling that depends on the length sees the tokens before the offset too, whatever form it has."""
    rope = RotaryEmbedding(8, scaling=DynamicNTK(2.0, 4))
    q = torch.randn(2, 4, 1, 8)
    wanted = rope(q, q, positions=torch.tensor([20]), length=21)[0]
    assert not torch.equal(wanted, rope(q, q, positions=torch.tensor([20]))[0])
    for offset in (20, np.int64(20), torch.tensor(20), torch.tensor([20, 20])):
        assert torch.equal(rope(q, q, offset=offset)[0], wanted)
    uneven = rope(q, q, offset=[3, 20])[0]
    assert torch.equal(uneven[1:], wanted[1:])  # the largest
    assert torch.equal(rope(q, q, offset=[3, 20], length=40)[0][1:], rope(q, q, offset=20, length=40)[0][1:])


@pytest.mark.parametrize("positions", [torch.arange(5, dtype=torch.uint8), torch.arange(5.0).bfloat16()])
def test_an_offset_neither_wraps_nor_rounds(positions: Tensor):
    q = torch.randn(2, 4, 5, 8)
    wanted = RotaryEmbedding(8)(q, q, positions=torch.arange(5) + 100_001)[0]
    for offset in (100_001, [100_001] * 2):
        assert torch.equal(RotaryEmbedding(8)(q, q, positions=positions, offset=offset)[0], wanted)


@pytest.mark.parametrize(
    "offset", [2.5, 2.0, "3", None, torch.tensor(2.5), [1.0, 2.0, 3.0], [True, False, True]]
)
def test_an_offset_is_an_integer(offset):
    q = torch.randn(3, 4, 5, 8)
    for rope in (RotaryEmbedding(8), XPos(8)):
        with pytest.raises(ValueError, match=r"^offset must be an integer or integers \(3,\), got "):
            rope(q, q, offset=offset)


@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (3, 1), (3, 5)])
def test_an_offset_of_another_shape_is_named(shape):
    q = torch.randn(3, 4, 5, 8)
    said = rf"^offset must be an integer or integers \(3,\), got shape {re.escape(str(shape))}$"
    with pytest.raises(ValueError, match=said):
        RotaryEmbedding(8)(q, q, offset=torch.zeros(shape, dtype=torch.long))
    with pytest.raises(ValueError, match=r"^offset must be one number, got "):
        angles(torch.arange(5), frequencies(8), offset=torch.zeros(shape))


WRONG = [
    ("rope", r"position must be an encoding, such as RotaryEmbedding\(head_dim\), got 'rope'"),
    (RotaryEmbedding, "position must be an encoding, such as .*, got the class RotaryEmbedding"),
    (torch.nn.Linear(2, 2), "position must be an encoding, .*"),
]
ABSOLUTE = [(SinusoidalEmbedding(32), "Sinusoidal"), (LearnedEmbedding(9, 32), "Learned")]


@pytest.mark.parametrize(("position", "said"), WRONG)
def test_what_is_no_encoding_is_named(position, said):
    for call in (
        lambda: MultiHeadAttention(32, 4, position=position),
        lambda: LocalAttention(4, position=position),
        lambda: local_attention(K, K, K, window=4, position=position),
        lambda: LocalSelfAttention(32, 4, window=Window(4), position=position),
        lambda: RoFormer(RoFormerConfig(11, dim=32, depth=1), position),
    ):
        with pytest.raises(ValueError, match=f"^{said}$"):
            call()


@pytest.mark.parametrize(("position", "name"), ABSOLUTE)
def test_an_encoding_of_embeddings_is_not_left_unused_in_attention(position: PositionEncoding, name: str):
    for call in (
        lambda: MultiHeadAttention(32, 4, position=position),
        lambda: LocalAttention(4, position=position),
        lambda: local_attention(K, K, K, window=4, position=position),
    ):
        with pytest.raises(
            ValueError, match=rf"^position must act on .* embed\(x, positions\) .*, got {name}Embedding$"
        ):
            call()
    assert type(position.in_attention()) is NoPE
    net = RoFormer(RoFormerConfig(11, dim=32, depth=1), position)  # which adds it to the embeddings
    ids = torch.zeros(1, 9, dtype=torch.long)
    assert (net(ids)[:, 1:] != net(ids)[:, :1]).any()


def test_every_other_encoding_is_its_own_form_in_attention():
    class Both(RotaryEmbedding):
        def embed(self, x: Tensor, positions: Tensor) -> Tensor:
            return x + 1

    for position in (NoPE(), RotaryEmbedding(8), XPos(8), ALiBi(4), GrowingRotaryEmbedding(8), Both(8)):
        assert position.in_attention() is position
        assert MultiHeadAttention(32, 4, position=position).position is position


@pytest.mark.parametrize("scaling", ["yarn", {"rope_type": "yarn", "factor": 4.0}, YaRN, 4.0])
def test_a_scaling_is_one_of_the_scalings(scaling):
    with pytest.raises(
        ValueError, match=r"^scaling must be one such as YaRN\(factor, original_length\), got "
    ):
        RotaryEmbedding(8, scaling=scaling)


@pytest.mark.parametrize("base", ["10000", None, float("nan"), 0, 1j, [1.0]])
def test_a_base_is_a_positive_number(base):
    for call in (
        lambda: frequencies(8, base),
        lambda: RotaryEmbedding(8, base=base),
        lambda: XPos(8, base=base),
        lambda: SinusoidalEmbedding(8, base=base),
        lambda: RoFormerConfig(11, base=base),
        lambda: axial_frequencies(8, 2, base),
    ):
        with pytest.raises(
            ValueError, match=f"^base must be positive and finite, got {re.escape(repr(base))}$"
        ):
            call()


@pytest.mark.parametrize("field", ["dropout", "attention_dropout", "proportion", "norm_eps", "ff_mult"])
def test_a_number_in_quotes_is_named(field):
    with pytest.raises(ValueError, match=f"^{field} must .*, got '0.5'$"):
        RoFormerConfig(11, **{field: "0.5"})
    for make in (lambda: MultiHeadAttention(8, 2, dropout="0.5"), lambda: LocalAttention(4, dropout="0.5")):
        with pytest.raises(ValueError, match=r"^dropout must lie in \[0, 1\), got '0.5'$"):
            make()


def test_hooks_say_what_layers_ask():
    """So that no layer has to know the class of an encoding."""
    nd = RotaryEmbeddingND(axial_frequencies(8, 2), sizes=(2, 3), prefix=1)
    assert [
        p.reach for p in (NoPE(), RotaryEmbedding(6, start=1), nd, RotaryValueEmbedding(4, value_dim=6))
    ] == [0, 7, 8, 6]
    assert [p.max_positions for p in (NoPE(), LearnedEmbedding(9, 4), nd)] == [None, 9, 7]
    assert RotaryEmbeddingND(axial_frequencies(8, 2)).max_positions is None
    own = lambda freqs, length: (freqs / length, 1.0)  # noqa: E731
    grows = [None, YaRN(2.0, 8), DynamicNTK(2.0, 8)]
    assert [RotaryEmbedding(8, scaling=s).depends_on_length for s in grows] == [False, False, True]
    assert [GrowingRotaryEmbedding(8, scaling=s).needs_all_keys for s in grows] == [False, False, True]
    assert not RotaryEmbedding(8, scaling=DynamicNTK(2.0, 8), length=9).depends_on_length
    assert not RotaryEmbedding(8, scaling=DynamicNTK(2.0, 8)).needs_all_keys
    own.depends_on_length = True
    with pytest.raises(ValueError, match=r"^capacity must be given for function"):
        LocalAttention(4, position=RotaryEmbedding(8, scaling=own)).new_cache()


def test_nothing_is_read_back_from_a_device_that_is_not_the_cpu(monkeypatch: pytest.MonkeyPatch):
    """What is looked at on the CPU for nothing comes out as NaN elsewhere, and is never silently another position."""
    from rope_lab.encodings import axial, xpos

    for module in (axial, xpos):
        monkeypatch.setattr(module, "can_read", lambda x: False)
    grid = RotaryEmbeddingND(axial_frequencies(8, 2), sizes=(2, 2), prefix=1)
    line = RotaryEmbeddingND(axial_frequencies(8, 2))
    x = torch.randn(1, 2, 3, 8)
    assert grid.rotate(x, x, x, torch.tensor([-1, 5, 4]))[0].isnan().any(-1)[0, 0].tolist() == [
        True,
        True,
        False,
    ]
    assert grid.rotate(x, x, x, torch.tensor([0, 1, 4]))[0].isfinite().all()
    assert line.rotate(x, x, x, torch.tensor([-1, 0, 9]))[1].isnan().any(-1)[0, 1].tolist() == [
        True,
        False,
        False,
    ]
    rope = XPos(8, scale_base=1)
    _, k = rope.relate(x, x, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 9_999]))
    assert k[..., :2, :].isfinite().all()
    assert not k[..., 2, :].isfinite().any()


def test_the_list_of_devices_without_float64_names_the_macs():
    assert {"mps"} == base._WITHOUT_FLOAT64
    assert base.table_device("mps") == torch.device("cpu")
    assert base.table_device("cuda") == torch.device("cuda")
