"""Queries that grow with their position: the two published rules, and what must stay as it was."""

import math

import pytest
import torch

from rope_lab import KVCache, MultiHeadAttention, RoFormer, RoFormerConfig, RotaryEmbedding
from rope_lab.encodings import LogN, NoPE, QueryTemperature, SinusoidalEmbedding, StepTemperature, XPos


def test_log_n_is_one_up_to_the_trained_length_and_then_the_ratio_of_logarithms() -> None:
    factors = LogN(16)(torch.tensor([0, 7, 15, 16, 255]))
    expected = [1.0, 1.0, 1.0, math.log(17) / math.log(16), 2.0]
    torch.testing.assert_close(factors, torch.tensor(expected, dtype=torch.float64))


def test_the_steps_are_those_of_llama_4() -> None:
    transformers = pytest.importorskip("transformers.models.llama4.modeling_llama4")
    config = transformers.Llama4TextConfig(
        hidden_size=8, num_attention_heads=1, num_key_value_heads=1, head_dim=8, floor_scale=8, attn_scale=0.3
    )
    layer = transformers.Llama4TextAttention(config, layer_idx=0)
    positions = torch.arange(40)
    theirs = torch.log1p(torch.floor((positions + 1) / layer.floor_scale)) * layer.attn_scale + 1
    torch.testing.assert_close(StepTemperature(8, 0.3)(positions), theirs.double(), atol=1e-6, rtol=0)
    assert StepTemperature(8, 0.3)(torch.tensor([6, 7])).tolist() == [1.0, 1 + 0.3 * math.log(2)]


@pytest.mark.parametrize("temperature", [LogN(4), StepTemperature(1), StepTemperature(3)])
def test_before_the_first_position_nothing_changes(temperature) -> None:
    assert torch.equal(
        temperature(torch.tensor([-1_000, -4, -3, -2, -1])), torch.ones(5, dtype=torch.float64)
    )


def test_scores_are_multiplied_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    rope = RotaryEmbedding(8)
    q, k, v = torch.randn(3, 2, 2, 9, 8, dtype=torch.float64)
    positions = torch.arange(9) + torch.tensor([[0], [20]])
    plain = rope.rotate(q, k, v, positions)
    warm = QueryTemperature(rope, temperature=LogN(4)).rotate(q, k, v, positions)
    torch.testing.assert_close(warm[0], plain[0] * LogN(4)(positions)[:, None, :, None])
    assert torch.equal(warm[1], plain[1])
    assert torch.equal(warm[2], plain[2])


@pytest.mark.parametrize("inner", [NoPE(), RotaryEmbedding(8), XPos(8, scale_base=8)])
def test_decoding_equals_the_full_pass(inner) -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(
        16, 2, position=QueryTemperature(inner, temperature=StepTemperature(3))
    ).double()
    x = torch.randn(1, 12, 16, dtype=torch.float64)
    cache = KVCache(12)
    pieces = [layer(piece, cache=cache) for piece in x.split([5, 1, 1, 5], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), layer(x))


def test_an_encoding_that_is_added_is_not_lost() -> None:
    with pytest.raises(ValueError, match="position must act on queries"):
        MultiHeadAttention(8, 1, position=QueryTemperature(SinusoidalEmbedding(8), temperature=LogN(4)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LogN(1), "length must be an integer of at least 2, got 1"),
        (lambda: LogN(2.5), "length must be an integer of at least 2, got 2.5"),
        (lambda: StepTemperature(0), "floor must be a positive integer, got 0"),
        (lambda: StepTemperature(scale=-1.0), "scale must be positive and finite, got -1.0"),
        (lambda: QueryTemperature(temperature=0.1), "temperature must be a function of positions"),
        (lambda: QueryTemperature(RotaryEmbedding, temperature=LogN(4)), "position must be an encoding"),
    ],
)
def test_bad_input_is_named(make, said) -> None:
    with pytest.raises(ValueError, match=said):
        make()


class TestLayers:
    def test_every_second_layer_has_no_positions(self) -> None:
        model = RoFormer(RoFormerConfig(5, dim=16, depth=5, heads=2, nope_every=2))
        kinds = [type(block.attention.position).__name__ for block in model.blocks]
        assert kinds == ["RotaryEmbedding", "NoPE", "RotaryEmbedding", "NoPE", "RotaryEmbedding"]

    def test_their_queries_may_grow(self) -> None:
        model = RoFormer(RoFormerConfig(5, dim=16, depth=4, heads=2, nope_every=4, nope_temperature=8))
        own = model.blocks[3].attention.position
        assert isinstance(own, QueryTemperature)
        assert isinstance(own.inner, NoPE)
        assert own.temperature == StepTemperature(8)

    def test_all_layers_without_positions_are_nope(self) -> None:
        torch.manual_seed(0)
        mixed = RoFormer(RoFormerConfig(5, dim=16, depth=2, heads=2, nope_every=1))
        none = RoFormer(RoFormerConfig(5, dim=16, depth=2, heads=2, position="none"))
        none.load_parameters(dict(mixed.named_parameters()))
        ids = torch.randint(5, (2, 9))
        assert torch.equal(mixed(ids), none(ids))

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"nope_every": 0}, "nope_every must be a positive integer, got 0"),
            (
                {"nope_every": 2, "position": "learned"},
                "nope_every must be None for position='learned', got 2",
            ),
            ({"nope_temperature": 8}, "nope_temperature must be None without nope_every, got 8"),
        ],
    )
    def test_bad_input_is_named(self, fields, said) -> None:
        with pytest.raises(ValueError, match=said):
            RoFormerConfig(5, dim=16, depth=2, heads=2, **fields)


class TestGain:
    def test_a_score_is_gain_times_root_d_times_the_cosine(self) -> None:
        torch.manual_seed(0)
        layer = MultiHeadAttention(12, 2, qk_norm=True, qk_gain=True, causal=False).double()
        x = torch.randn(1, 5, 12, dtype=torch.float64)
        with torch.no_grad():
            layer.gain.copy_(torch.tensor([0.5, 3.0]))
        q, k = (
            part(x).unflatten(-1, (2, 6)).transpose(1, 2) for part in (layer.query, layer.key)
        )  # (B, H, N, D)
        cosine = torch.nn.functional.cosine_similarity(q[..., :, None, :], k[..., None, :, :], dim=-1)
        scores = torch.tensor([0.5, 3.0], dtype=torch.float64)[:, None, None] * 6**0.5 * cosine
        torch.testing.assert_close(layer.weights(x), scores.softmax(-1), atol=1e-6, rtol=0)

    def test_it_starts_where_no_gain_would_be_and_is_learned(self) -> None:
        torch.manual_seed(0)
        gained = MultiHeadAttention(12, 2, qk_norm=True, qk_gain=True)
        plain = MultiHeadAttention(12, 2, qk_norm=True)
        plain.load_state_dict({name: p for name, p in gained.state_dict().items() if name != "gain"})
        x = torch.randn(1, 5, 12)
        assert torch.equal(gained(x), plain(x))
        gained(x).square().sum().backward()
        assert gained.gain.grad.abs().min() > 0

    def test_without_a_norm_it_is_refused(self) -> None:
        with pytest.raises(ValueError, match="qk_gain must be False without qk_norm"):
            MultiHeadAttention(12, 2, qk_gain=True)
