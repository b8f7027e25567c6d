"""Rotation by several coordinates: grids, the three frequency matrices, and one dimension as a special case."""

from __future__ import annotations

import math

import pytest
import rotary_embedding_torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from rope_lab import MultiHeadAttention, RotaryEmbedding, angles, frequencies, rotate
from rope_lab.encodings import (
    RotaryEmbeddingND,
    angles_nd,
    axial_frequencies,
    grid_coordinates,
    mixed_frequencies,
    mrope_frequencies,
    pixel_frequencies,
)

MATRICES = {
    "axial": axial_frequencies(16, 2),
    "pixel": pixel_frequencies(16, 2),
    "mixed": mixed_frequencies(16, 4, generator=torch.Generator().manual_seed(0)),
    "mrope": mrope_frequencies((2, 6)),
}


def test_a_grid_is_read_as_flatten_reads_an_image():
    image = torch.arange(15).view(3, 5)
    y, x = grid_coordinates(3, 5).long().unbind(-1)
    assert image[y, x].equal(image.flatten())
    assert grid_coordinates(2, 3, offsets=(10, 20))[-1].tolist() == [11, 22]
    assert grid_coordinates(3, 5, kind="pixel")[[0, 7, -1]].tolist() == [[-1, -1], [0, 0], [1, 1]]
    assert grid_coordinates(2, 3, 4).shape == (24, 3)


def test_each_axis_turns_its_own_pairs_as_in_one_dimension():
    table = angles_nd(grid_coordinates(3, 5), axial_frequencies(16, 2), dtype=torch.float64).view(3, 5, 8)
    y = angles(torch.arange(3), frequencies(8, 100.0), dtype=torch.float64)
    x = angles(torch.arange(5), frequencies(8, 100.0), dtype=torch.float64)
    torch.testing.assert_close(table[..., :4], y[:, None].expand(3, 5, 4), rtol=0, atol=1e-15)
    torch.testing.assert_close(table[..., 4:], x[None].expand(3, 5, 4), rtol=0, atol=1e-15)


def test_pixel_frequencies_run_from_half_a_turn_to_max_freq_quarter_turns():
    freqs = pixel_frequencies(16, 2, max_freq=10)
    assert freqs[0, 0].item() == pytest.approx(math.pi)
    assert freqs[1, -1].item() == pytest.approx(5 * math.pi)


@pytest.mark.parametrize("name", MATRICES)
@given(st.integers(0, 10**6), st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)))
def test_scores_know_only_differences_of_coordinates(name: str, seed: int, shift: tuple[float, float]):
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 2, 4, 6, 16, dtype=torch.float64, generator=generator)
    q, k = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
    p = 100 * torch.rand(6, 2, dtype=torch.float64, generator=generator)
    rope, moved = RotaryEmbeddingND(MATRICES[name]), p + torch.tensor(shift, dtype=torch.float64)
    scores = [q @ k.mT for q, k in (rope(q, k, coordinates=c) for c in (p, moved))]
    # Coordinate, product, sum and reduction each round by half a unit in the last place, 1.1e-16 of the angle.
    # Four such angles stand between two scores; 6,000 draws differ by at most 1.8e-16 of the largest.
    largest = max(abs(c).matmul(rope.freqs.abs().flatten(1)).max() for c in (p, moved))
    torch.testing.assert_close(*scores, rtol=0, atol=2e-15 * (1 + largest.item()))


@pytest.mark.parametrize("offset", [0, 0.5])
@pytest.mark.parametrize("sizes", [(3, 5), (2, 5, 3)])
@pytest.mark.parametrize("kind", ["index", "pixel"])
def test_grids_equal_those_of_rotary_embedding_torch(kind: str, sizes: tuple[int, ...], offset: float):
    axes, offsets = len(sizes), tuple(offset * a for a in range(1, len(sizes) + 1)) if offset else None
    options = {"index": {"theta": 100}, "pixel": {"freqs_for": "pixel", "max_freq": 7}}[kind]
    theirs = rotary_embedding_torch.RotaryEmbedding(8, cache_if_possible=False, **options)
    table = theirs.get_axial_freqs(*sizes, offsets=offsets)  # (*sizes, 8·axes), each angle twice
    freqs = axial_frequencies(8 * axes, axes) if kind == "index" else pixel_frequencies(8 * axes, axes, 7)
    cells = grid_coordinates(*sizes, kind=kind, offsets=offsets)
    torch.testing.assert_close((cells @ freqs).float(), table.flatten(0, -2)[:, ::2], rtol=1e-6, atol=1e-5)

    q, k = 2 * torch.rand(2, 2, 3, math.prod(sizes), 8 * axes) - 1  # their angles are rounded to float32
    rope = RotaryEmbeddingND(freqs, sizes=sizes, kind=kind)
    ours = [rope(q, k, coordinates=cells)]
    if not offset:
        ours.append(rope.rotate(q, k, k, torch.arange(math.prod(sizes)))[:2])
    for pair in ours:
        for x, turned in zip((q, k), pair, strict=True):
            wanted = rotary_embedding_torch.apply_rotary_emb(table, x.unflatten(2, sizes)).flatten(2, -2)
            torch.testing.assert_close(turned, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", ["interleaved", "half"])
def test_m_rope_with_equal_ids_is_rope(layout: str):
    q, k = torch.randn(2, 2, 4, 9, 128)
    rope = RotaryEmbeddingND(mrope_frequencies((16, 24, 24)), layout=layout)
    ids = torch.arange(9)[:, None].expand(9, 3)
    for ours, wanted in zip(
        rope(q, k, coordinates=ids), RotaryEmbedding(128, layout=layout)(q, k), strict=True
    ):
        assert ours.equal(wanted)
    layer = [MultiHeadAttention(256, 2, position=p) for p in (rope, RotaryEmbedding(128, layout=layout))]
    layer[1].load_state_dict(layer[0].state_dict())
    x = torch.randn(1, 9, 256)
    assert layer[0](x).equal(layer[1](x))


def test_m_rope_sections_own_their_pairs():
    freqs = mrope_frequencies((16, 24, 24), base=1e6)
    assert freqs.shape == (3, 64)
    assert (freqs != 0).sum(0).eq(1).all()
    assert (freqs != 0).sum(1).tolist() == [16, 24, 24]
    torch.testing.assert_close(freqs.sum(0), frequencies(128, 1e6), rtol=0, atol=0)


def test_m_rope_equals_that_of_transformers():
    from transformers.models.qwen2_vl import modeling_qwen2_vl as theirs_module
    from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig

    config = Qwen2VLTextConfig(hidden_size=512, num_attention_heads=4)
    config.rope_parameters["mrope_section"] = [16, 24, 24]
    config.rope_parameters["rope_theta"] = 10_000.0
    their = theirs_module.Qwen2VLRotaryEmbedding(config)
    rope = RotaryEmbeddingND(mrope_frequencies((16, 24, 24)), layout="half")
    for (
        dtype,
        ids,
        tolerance,
    ) in (  # their angles are float32: small ids there, their sections of exact ones here
        (torch.float32, torch.randint(16, (3, 1, 9)), 1e-5),
        (torch.float64, torch.randint(1000, (3, 1, 9)), 1e-12),
    ):
        q, k = torch.randn(2, 1, 4, 9, 128, dtype=dtype)
        cos, sin = their(q, ids)
        if dtype == torch.float64:
            table = ids[..., None] * frequencies(128)
            cos, sin = (their.recomposition_frequencies(x) for x in (table.cos(), table.sin()))
        wanted = theirs_module.apply_rotary_pos_emb(q, k, cos, sin)
        for ours, theirs in zip(rope(q, k, coordinates=ids.movedim(0, -1)), wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def test_mixed_frequencies_start_as_axial_ones_turned_in_each_head():
    freqs = mixed_frequencies(16, 4)  # (2, 4, 8)
    size = frequencies(8, 10.0)
    torch.testing.assert_close(freqs.norm(dim=0), size.repeat(2).expand(4, 8), rtol=1e-14, atol=0)
    inner = (freqs[..., :4] * freqs[..., 4:]).sum(0)  # the two axes stay at right angles
    torch.testing.assert_close(inner, torch.zeros(4, 4, dtype=torch.float64), rtol=0, atol=1e-15)


def test_mixed_frequencies_learn_and_stay_float32():
    rope = RotaryEmbeddingND(MATRICES["mixed"], learned=True).bfloat16()
    assert rope.learned_freqs.dtype == torch.float32
    q, k = torch.randn(2, 2, 4, 6, 16)
    q, k = rope(q, k, coordinates=grid_coordinates(2, 3))
    (q @ k.mT).square().sum().backward()
    assert rope.learned_freqs.grad.abs().min() > 0
    assert RotaryEmbeddingND(MATRICES["axial"]).state_dict() == {}


def test_learned_frequencies_are_born_where_the_module_is():
    def build() -> RotaryEmbeddingND:
        freqs = mixed_frequencies(16, 4, generator=torch.Generator().manual_seed(0))
        return RotaryEmbeddingND(freqs, learned=True)

    with torch.device("meta"):
        rope = build()
    assert rope.learned_freqs.is_meta
    rope.to_empty(device="cpu").reset_parameters()
    assert rope.learned_freqs.equal(build().learned_freqs)
    assert rope.learned_freqs.equal(MATRICES["mixed"].float())


@pytest.mark.parametrize("name", MATRICES)
def test_a_prefix_does_not_turn_and_the_hook_follows_the_grid(name: str):
    rope = RotaryEmbeddingND(
        MATRICES[name], sizes=(2, 3), prefix=2, kind="pixel" if name == "pixel" else "index"
    )
    q, k = torch.randn(2, 2, 4, 8, 16)
    cells = grid_coordinates(2, 3, kind=rope.kind)
    by_coordinates = rope(q, k, coordinates=cells)
    by_token = rope.rotate(q, k, k, torch.arange(8))
    order = torch.tensor([7, 0, 3, 1, 2, 6, 5, 4])
    shuffled = rope.rotate(q[:, :, order], k[:, :, order], k, order)
    for x, a, b, c in zip((q, k), by_coordinates, by_token[:2], shuffled[:2], strict=True):
        assert a[:, :, :2].equal(x[:, :, :2])
        assert a.equal(b)
        torch.testing.assert_close(c, a[:, :, order], rtol=0, atol=1e-6)
        still = rotate(x[:, :, 2:], angles_nd(cells, rope.freqs))
        assert a[:, :, 2:].equal(still)


def test_coordinates_may_differ_from_row_to_row():
    rope, (q, k) = RotaryEmbeddingND(MATRICES["axial"]), torch.randn(2, 3, 4, 6, 16)
    p = torch.rand(3, 6, 2)
    rows = [rope(q[b : b + 1], k[b : b + 1], coordinates=p[b])[0] for b in range(3)]
    torch.testing.assert_close(rope(q, k, coordinates=p)[0], torch.cat(rows), rtol=0, atol=1e-6)


MIXED_3 = RotaryEmbeddingND(mixed_frequencies(8, 3))
F, X = axial_frequencies(8, 2), torch.zeros(1, 2, 7, 8)
IN_GRID = r"positions must be integers in 0\.\.6 \(prefix \+ cells − 1\), got "
FROM_0 = "positions must be finite numbers from 0, got "


@pytest.mark.parametrize(
    ("sizes", "positions", "message"),
    [
        ((2, 3), torch.arange(7) - 1, IN_GRID + r"-1\.\.5"),
        ((2, 3), torch.arange(7) + 1, IN_GRID + r"1\.\.7"),
        ((2, 3), torch.arange(7.0), IN_GRID + r"torch\.float32"),
        ((2, 3), torch.ones(7, dtype=torch.bool), IN_GRID + r"torch\.bool"),
        ((2, 3), torch.tensor(3), r"positions must have shape \(N,\) or \(B, N\), got \(\)"),
        (None, torch.arange(7) - 1, FROM_0 + r"-1\.\.5"),
        (None, torch.arange(7) - 0.5, FROM_0 + r"-0\.5\.\.5\.5"),
        (None, torch.full((7,), torch.nan), FROM_0 + r"nan\.\.nan"),
        (None, torch.full((7,), torch.inf), FROM_0 + r"inf\.\.inf"),
        (None, torch.ones(7, dtype=torch.bool), FROM_0 + r"torch\.bool"),
        (None, torch.ones(7, dtype=torch.complex64), FROM_0 + r"torch\.complex64"),
    ],
)
def test_positions_that_are_not_there_are_named(sizes, positions: torch.Tensor, message: str):
    with pytest.raises(ValueError, match=f"^{message}$"):
        RotaryEmbeddingND(F, sizes=sizes, prefix=1).rotate(X, X, X, positions)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: grid_coordinates(), "sizes"),
        (lambda: grid_coordinates(2.5, 3), r"sizes must be positive integers, got \(2\.5, 3\)"),
        (lambda: grid_coordinates(3, 0), "sizes"),
        (lambda: grid_coordinates(3, kind="hexagon"), "kind"),
        (lambda: grid_coordinates(3, 4, offsets=(1,)), "offsets"),
        (lambda: axial_frequencies(10, 2), "dim"),
        (lambda: axial_frequencies(-8, 2), r"^dim must be a positive multiple of 2·axes = 4, got -8$"),
        (lambda: pixel_frequencies(0, 2), r"^dim .*got 0$"),
        (lambda: pixel_frequencies(-8, 2), r"^dim .*got -8$"),
        (lambda: pixel_frequencies(16, 0), r"^axes must be a positive integer, got 0$"),
        (lambda: pixel_frequencies(8, 2, math.nan), r"^max_freq must be positive and finite, got nan$"),
        (lambda: pixel_frequencies(8, 2, -1.0), r"^max_freq .*got -1\.0$"),
        (lambda: mixed_frequencies(10, 2), r"^dim .*got 10$"),
        (lambda: mixed_frequencies(-8, 2), r"^dim .*got -8$"),
        (lambda: mixed_frequencies(8, 0), r"^heads must be a positive integer, got 0$"),
        (lambda: mixed_frequencies(8, -1), r"^heads .*got -1$"),
        (lambda: mrope_frequencies((5, -1)), r"^sections must be integers from 0 .*got \(5, -1\)$"),
        (lambda: mrope_frequencies(()), r"^sections .*got \(\)$"),
        (lambda: mrope_frequencies((0, 0)), r"^sections .*got \(0, 0\)$"),
        (lambda: angles_nd(torch.ones(3, 2, dtype=torch.bool), F), r"^coordinates .*got torch\.bool$"),
        (lambda: angles_nd(torch.ones(3, 2) * 1j, F), r"^coordinates .*got torch\.complex64$"),
        (lambda: angles_nd(torch.zeros(5, 3), axial_frequencies(8, 2)), "coordinates"),
        (lambda: angles_nd(torch.zeros(5, 2), torch.zeros(2)), "freqs"),
        (lambda: RotaryEmbeddingND(torch.zeros(4)), "freqs"),
        (lambda: RotaryEmbeddingND(torch.zeros(4), learned=True), "freqs"),
        (
            lambda: RotaryEmbeddingND(torch.zeros(2, 0), learned=True),
            r"^freqs .*got torch\.float32 \(2, 0\)$",
        ),
        (lambda: RotaryEmbeddingND(F.long()), r"^freqs must be real, .*got torch\.int64 \(2, 4\)$"),
        (lambda: MIXED_3(X, X, coordinates=torch.ones(7, 2)), r"^freqs .*q of \(1, 2, 7, 8\)$"),
        (lambda: MIXED_3.rotate(X, X, X, torch.arange(7)), r"^freqs .*q of \(1, 2, 7, 8\)$"),
        (lambda: MIXED_3(X[:, [0, 1, 1]], X, coordinates=torch.ones(7, 2)), r"^freqs .*k of \(1, 2, 7, 8\)$"),
        (lambda: RotaryEmbeddingND(F, sizes=(0, 3)), r"^sizes must be positive integers, got \(0, 3\)$"),
        (lambda: RotaryEmbeddingND(F, kind="hexagon"), r"^kind must be one of .*pixel.*got 'hexagon'$"),
        (lambda: RotaryEmbeddingND(F, prefix=1.5), r"^prefix .*got 1\.5$"),
        (lambda: RotaryEmbeddingND(axial_frequencies(8, 2), sizes=(3,)), "sizes"),
        (lambda: RotaryEmbeddingND(axial_frequencies(8, 2), prefix=-1), "prefix"),
        (lambda: RotaryEmbeddingND(axial_frequencies(8, 2), layout="quarter"), "layout"),
    ],
)
def test_bad_arguments_are_named(make, names: str):
    with pytest.raises(ValueError, match=names):
        make()
