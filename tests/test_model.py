"""The whole model: its symmetries, its edges, and the ways PyTorch may move, cast or compile it."""

import pickle
import re
from copy import deepcopy

import pytest
import torch
from models import KINDS, POSITIONS, SMALL, N, V, close, ids, model
from safetensors.torch import save_file

from rope_lab import NoPE, RoFormer, RoFormerConfig, RotaryEmbedding
from rope_lab.model import choose


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind):
    net, tokens = RoFormer(RoFormerConfig(**KINDS[kind])), ids()
    logits = net(tokens)
    assert logits.shape == (2, N, V)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    for name, parameter in net.named_parameters():
        if "key.bias" not in name:  # softmax does not see what is added to every score, but for rounding
            assert (parameter.grad != 0).any(), name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("fields", [{}, {"post_norm": True, "norm": "layer", "qk_norm": False}])
def test_without_positions_order_is_unseen(fields):
    net, tokens, order = model(position="none", causal=False, **fields), ids(), torch.randperm(N)
    close(net(tokens[:, order]), net(tokens)[:, order], 1e-12)
    rope = model(causal=False, **fields)
    assert (rope(tokens[:, order]) - rope(tokens)[:, order]).abs().max() > 1e-3


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("fields", [{}, {"layout": "half"}, {"rotary_dim": 4}, {"kv_heads": 1, "window": 3}])
def test_rope_sees_distances_only(fields, causal):
    net, tokens, positions = model(causal=causal, **fields), ids(), torch.randint(50, (2, N))
    logits = net(tokens, positions=positions)
    for shift in (1, -17, 1000, 1_000_000):
        rounding = 1e-15 * abs(shift)  # of the product m·θ in float64
        close(net(tokens, positions=positions + shift), logits, 1e-10 + rounding)
    assert (net(tokens) - logits).abs().max() > 1e-3
    absolute = model(position="sinusoidal")
    assert (
        absolute(tokens, positions=positions + 1) - absolute(tokens, positions=positions)
    ).abs().max() > 1e-3


@pytest.mark.parametrize("position", POSITIONS)
def test_no_later_token_moves_a_bit(position):
    net, tokens = model(position=position), ids()
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % V
    before, after = net(tokens), net(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(-1).all()
    window = model(position=position, window=2)  # two layers see 1 + 2·1 tokens back, no more
    moved = (window(tokens) != window(changed)).any(-1)
    assert moved.tolist() == [[5 <= n <= 7 for n in range(N)]] * 2


def test_there_is_no_learned_position_past_the_table():
    net = model(position="learned")
    assert net(ids(count=16)).shape == (2, 16, V)
    with pytest.raises(ValueError, match=r"^positions must lie in 0\.\.15, the learned table, got 0\.\.16$"):
        net(ids(count=17))
    assert model()(ids(count=17)).shape == (2, 17, V)  # RoPE has no table


def test_each_word_builds_its_encoding():
    built = {word: type(model(position=word).position).__name__ for word in POSITIONS}
    assert built == {
        "rope": "RotaryEmbedding",
        "xpos": "XPos",
        "roper": "RotaryValueEmbedding",
        "sinusoidal": "SinusoidalEmbedding",
        "learned": "LearnedEmbedding",
        "t5": "T5Bias",
        "alibi": "ALiBi",
        "none": "NoPE",
    }


def test_a_proportion_of_the_pairs_turns_at_the_speed_it_has_anyway():
    whole, part = (model(proportion=p).position.table(torch.arange(9), 9)[0] for p in (1.0, 0.5))
    assert torch.equal(part[:, :2], whole[:, :2])
    assert not part[:, 2:].any()
    still, tokens = model(proportion=0.0), ids()
    without = RoFormer(still.config, NoPE()).double()
    without.load_state_dict(still.state_dict())
    close(still(tokens), without(tokens), 1e-12)


def test_another_encoding_takes_the_place_of_the_configs():
    rope = RotaryEmbedding(8, base=500.0)
    net = RoFormer(RoFormerConfig(**SMALL, position="learned"), position=rope)
    assert all(block.attention.position is rope for block in net.blocks)
    assert not any("table" in name for name, _ in net.named_parameters())
    assert isinstance(RoFormer(RoFormerConfig(**SMALL), position=NoPE()).position, NoPE)


BAD_FIELDS = [
    *(
        {name: bad}
        for name in ("vocab_size", "context", "dim", "depth", "heads")
        for bad in (0, -4, 4.0, "4", None)
    ),
    *({name: bad} for name in ("kv_heads", "rotary_dim", "window") for bad in (0, -2, 2.0, True)),
    {"heads": 5},
    {"kv_heads": 3},
    {"kv_heads": 8},
    {"rotary_dim": 3},
    {"rotary_dim": 10},
    {"ff_mult": 0.0},
    {"ff_mult": 0.01},
    {"ff_mult": float("nan")},
    {"ff_mult": float("inf")},
    *({"ff_multiple": bad} for bad in (0, -8, 8.0, None)),
    *({"norm_eps": bad} for bad in (0.0, -1e-5, float("nan"), float("inf"))),
    {"base": 0.0},
    {"base": -1.0},
    {"base": float("nan")},
    {"dropout": 1.0},
    {"dropout": -0.1},
    {"dropout": float("nan")},
    {"attention_dropout": 1.0},
    {"attention_dropout": float("nan")},
    {"position": "rotary"},
    {"causal": False, "position": "xpos"},
    {"rotary_dim": 3, "position": "roper"},
    {"proportion": 1.5},
    {"layout": "Half"},
    {"norm": "batch"},
    {"activation": "relu3"},
    {"heads": 4, "dim": 12},  # three coordinates a head: one would be left over
    {"dim": 33, "heads": 3, "position": "sinusoidal"},
]


@pytest.mark.parametrize("fields", BAD_FIELDS, ids=str)
def test_a_bad_field_is_named_with_its_value(fields):
    with pytest.raises(ValueError, match=f"^{next(iter(fields))} must ") as refusal:
        RoFormerConfig(**(SMALL | fields))
    assert "\n" not in str(refusal.value)
    assert "got" in str(refusal.value)


@pytest.mark.parametrize("shape", [(N,), (1, N, 1)])
def test_ids_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"^ids must have shape \(B, N\), got "):
        model()(torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("position", POSITIONS)
def test_positions_of_another_shape_are_refused(position):
    for shape in ((N + 1,), (1, N), (N, 2), (1,)):
        with pytest.raises(ValueError, match=r"^positions "):
            model(position=position)(ids(), positions=torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("kind", KINDS)
def test_one_position_module_serves_all_blocks_and_copies(kind):
    net, tokens = RoFormer(RoFormerConfig(**KINDS[kind])).eval(), ids()
    inside = net.position.in_attention()  # an absolute encoding has no part in the blocks
    shared = net.position if inside is net.position else net.blocks[0].attention.position
    assert type(shared) is type(inside)
    assert all(block.attention.position is shared for block in net.blocks)
    other = RoFormer(net.config).eval()
    other.load_state_dict(net.state_dict())
    copies = [other, deepcopy(net), pickle.loads(pickle.dumps(net))]
    for copy in copies:
        assert torch.equal(copy(tokens), net(tokens))
        own = copy.position if inside is net.position else copy.blocks[0].attention.position
        assert all(block.attention.position is own for block in copy.blocks)
        assert not {p.data_ptr() for p in copy.parameters()} & {p.data_ptr() for p in net.parameters()}
        assert len(list(copy.parameters())) == len(list(net.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_meta_construction_then_load(kind):
    net, tokens = RoFormer(RoFormerConfig(**KINDS[kind])).eval(), ids()
    with torch.device("meta"):
        empty = RoFormer(net.config).eval()
    assert all(p.is_meta for p in empty.parameters())
    assert empty(tokens.to("meta")).shape == (2, N, V)
    empty = empty.to_empty(device="cpu")
    empty.load_parameters(dict(net.named_parameters()))
    assert torch.equal(empty(tokens), net(tokens))  # no buffer of angles was lost


def test_casts_leave_the_angles_as_they_were():
    net, q = model(torch.float32, dim=64, heads=1), torch.randn(1, 1, N, 64)
    positions = torch.arange(N) + 9_999_000
    before = net.position(q, q, positions=positions)[0]
    for cast in (torch.bfloat16, torch.float16, torch.float64):
        assert torch.equal(net.to(cast).position(q, q, positions=positions)[0], before)
    # and so bfloat16 sees distances as well at ten million as at zero
    net, tokens = model(torch.bfloat16), ids()
    near = net(tokens)
    far = net(tokens, positions=torch.arange(N) + 9_999_000)
    assert (far - near).abs().max() <= 16 * torch.finfo(torch.bfloat16).eps * near.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_computes_in_bfloat16_near_the_truth(kind):
    net, tokens = RoFormer(RoFormerConfig(**KINDS[kind])).eval(), ids()
    truth = net.double()(tokens)
    net.float()
    cached = kind != "encoder"
    cache = net.new_cache(N) if cached else None
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(tokens)
        parts = [net(part, cache=cache) for part in tokens.split(3, dim=1)] if cached else [logits]
    assert logits.dtype == torch.bfloat16
    for out in (logits, torch.cat(parts, dim=1)):
        assert (out - truth).abs().max() <= 4 * torch.finfo(torch.bfloat16).eps * truth.abs().max()


@pytest.mark.parametrize("kind", ["dropout", "attention_dropout"])
def test_dropout_acts_in_training_only(kind):
    net, tokens = model(**{kind: 0.5}), ids()
    assert not torch.equal(net(tokens), net(tokens))
    net.eval()
    assert torch.equal(net(tokens), net(tokens))


@pytest.mark.parametrize("part", ["attention", "sublayers"])
def test_each_dropout_acts_on_its_own_part(part):
    net = model(**{"dropout" if part == "attention" else "attention_dropout": 0.5})
    x, places = torch.randn(1, N, 32, dtype=torch.float64), torch.arange(N)
    draws = [net.blocks[0].attention(x, positions=places) for _ in range(2)]
    assert torch.equal(*draws) == (part == "attention")


def test_the_feed_forward_layer_squares_what_is_positive():
    block, x = model().blocks[0], torch.randn(2, N, 32, dtype=torch.float64)
    wide = x @ block.up.weight.T
    close(block.feed_forward(x), (wide.clamp(min=0) ** 2) @ block.down.weight.T, 1e-12)


def test_a_swiglu_layer_gates_one_product_by_another():
    block, x = model(activation="swiglu").blocks[0], torch.randn(2, N, 32, dtype=torch.float64)
    gate = x @ block.gate.weight.T
    wide = gate / (1 + (-gate).exp()) * (x @ block.up.weight.T)
    close(block.feed_forward(x), wide @ block.down.weight.T, 1e-12)


@pytest.mark.parametrize(("multiple", "width"), [(1, 85), (5, 85), (8, 88), (86, 86), (256, 256)])
def test_the_feed_forward_width_is_rounded_up(multiple, width):
    net = model(ff_mult=8 / 3, ff_multiple=multiple)
    assert net.blocks[0].up.out_features == net.config.ff_width == width


@pytest.mark.parametrize(
    ("fields", "eps"),
    [
        ({}, 2**-23),
        ({"norm": "layer"}, 1e-5),
        ({"norm": "layer", "post_norm": True}, 1e-12),
        *(({"norm": norm, "norm_eps": 1e-3}, 1e-3) for norm in ("rms", "layer")),
    ],
)
def test_the_eps_of_every_norm_is_the_configs_whatever_the_dtype(fields, eps):
    net = model(**fields)
    norms = [net.norm, *(n for block in net.blocks for n in (block.attention_norm, block.feed_forward_norm))]
    assert {norm.eps for norm in norms} == {eps}
    small = torch.full((32,), eps**0.5, dtype=torch.float64)  # as large as what is added to its square
    if fields.get("norm") != "layer":
        close(net.norm(small), torch.full_like(small, 0.5**0.5), 1e-12)


class Counter:
    """A backend that counts the graphs it is given."""

    graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"layout": "half", "window": 3, "kv_heads": 2}, {"position": "learned"}])
def test_compiles_whole_with_two_graphs_for_any_length_and_two_for_decoding(fields):
    torch._dynamo.reset()
    net, count = model(torch.float32, depth=1, context=32, **fields).requires_grad_(False), Counter()
    compiled = torch.compile(net, backend=count, fullgraph=True)
    for length in (5, 9, 2, 32, 17, 3, 4, 31, 16, 7):
        tokens = ids(count=length)
        close(compiled(tokens), net(tokens), 1e-5)
    assert 1 <= count.graphs <= 2
    tokens, cache = ids(count=12), net.new_cache(12)
    out, count.graphs = [net(tokens[:, :4], cache=cache)], 0
    out.extend(compiled(token, cache=cache) for token in tokens[:, 4:].split(1, dim=1))
    close(torch.cat(out, dim=1), net(tokens), 1e-5)
    assert 1 <= count.graphs <= 2


@pytest.mark.slow
def test_compiles_whole_with_segments_and_gradients():
    torch._dynamo.reset()
    net, count = model(torch.float32, depth=1), Counter()
    compiled = torch.compile(net, backend=count, fullgraph=True)
    for length in (4, 7, 8):
        tokens = ids(count=length)
        segments = torch.arange(length).div(3, rounding_mode="floor").sub(1).expand(2, -1)
        gradients = [
            torch.autograd.grad(run(tokens, segments=segments).square().mean(), list(net.parameters()))
            for run in (net, compiled)
        ]
        for a, b in zip(*gradients, strict=True):
            close(a, b, 1e-5)
    assert 1 <= count.graphs <= 2


def test_weights_start_as_the_comments_say():
    """Standard deviation 0.02; where a residual sum takes the output, less by the root of the number of sublayers."""
    net = RoFormer(RoFormerConfig(500, dim=64, heads=4, depth=8, tied=False, bias=True))
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            assert (p == 0).all(), name
        elif p.ndim == 2:
            residual = name.endswith(("attention.out.weight", "down.weight"))
            assert p.std().item() == pytest.approx(0.02 / 4 if residual else 0.02, rel=0.1), name


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_norm_has_a_bias_where_the_config_says(bias):
    net = RoFormer(RoFormerConfig(**(SMALL | {"norm": "layer", "bias": bias})))
    names = [name for name, _ in net.named_parameters() if name.endswith("norm.bias")]
    assert len(names) == (5 if bias else 0)
    assert (net.blocks[0].attention.query.bias is not None) == bias


def test_a_llama_is_what_its_paper_says():
    config = RoFormerConfig.llama(11)
    assert (config.norm, config.norm_eps, config.activation, config.layout) == ("rms", 1e-5, "swiglu", "half")
    assert not any((config.qk_norm, config.bias, config.tied))
    assert config.ff_width == 344  # 8/3 · 128, rounded up to a multiple of 8
    assert RoFormerConfig.llama(11, norm_eps=1e-6).norm_eps == 1e-6


@pytest.mark.parametrize(
    ("probabilities", "top_p", "kept"),
    [
        ([0.5, 0.25, 0.25], 0.5, {0}),  # 0 alone reaches it
        ([0.5, 0.25, 0.25], 0.51, {0, 1}),
        ([0.25, 0.5, 0.25], 0.75, {1, 0}),
        ([0.25, 0.25, 0.25, 0.25], 0.5, {0, 1}),
        ([0.5, 0.25, 0.25], 1.0, {0, 1, 2}),
    ],
)
def test_top_p_keeps_the_fewest_tokens_that_reach_it(probabilities, top_p, kept):
    logits = torch.tensor(probabilities, dtype=torch.float64).log()
    draws = {choose(logits, 1.0, None, top_p, torch.Generator().manual_seed(seed)) for seed in range(40)}
    assert draws == kept


@pytest.mark.parametrize("bad", [-1, V, 10**6])
def test_an_id_outside_the_vocabulary_is_named(bad):
    tokens = ids()
    tokens[1, 3] = bad
    with pytest.raises(ValueError, match=rf"^ids must lie in 0\.\.10, the vocabulary, got .*{bad}"):
        model()(tokens)
    model()(torch.zeros(0, N, dtype=torch.long))  # nothing is outside


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8])
def test_ids_of_another_dtype_are_named(dtype):
    with pytest.raises(ValueError, match=f"^ids must be int32 or int64, got {dtype}$"):
        model()(torch.zeros(1, N, dtype=dtype))
    net = model()
    tokens = ids()
    assert torch.equal(net(tokens.int()), net(tokens))


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_an_absolute_encoding_is_in_no_block_and_in_the_file_once(position):
    net = model(position=position)
    assert all(type(block.attention.position) is NoPE for block in net.blocks)
    assert sum("table" in name for name in net.state_dict()) == (position == "learned")


def test_the_weights_of_a_run_are_pointed_to(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(
        ValueError, match=r"it holds no config; for a run, .*checkpoint\.load\(folder\)\.model\(\)"
    ):
        RoFormer.load(tmp_path / "checkpoint.safetensors")
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        model().save(tmp_path)
