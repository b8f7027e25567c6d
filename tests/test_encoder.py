"""The paper's encoder against the RoFormer of transformers, with random weights, nothing downloaded."""

import pytest
import torch
import transformers
from torch import Tensor

from rope_lab import RoFormer, RoFormerConfig

V, C, H, DEPTH, N = 23, 24, 3, 3, 9
EXACT = {torch.float32: 1e-5, torch.float64: 1e-10}


def neighbour(dtype: torch.dtype, **options) -> transformers.RoFormerModel:
    """Their model in its own default configuration but for its size, every weight drawn anew."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": C,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": H,
        "intermediate_size": 4 * C,
    }
    config = transformers.RoFormerConfig(vocab_size=V, max_position_embeddings=32, **sizes, **options)
    theirs = transformers.RoFormerModel(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=C**-0.5) if parameter.ndim == 2 else parameter.normal_().mul_(0.2).add_(0.5)
        # Their table is rounded to float32 when it is made; here in the dtype of the model: sines, then cosines.
        pairs = torch.arange(0, C // H, 2, dtype=torch.float64)
        angles = torch.arange(32, dtype=torch.float64)[:, None] / 10_000 ** (pairs / (C // H))
        theirs.encoder.embed_positions.weight.copy_(torch.cat((angles.sin(), angles.cos()), dim=-1))
    return theirs


def translated(theirs: transformers.RoFormerModel, **fields) -> RoFormer:
    """Our encoder with their weights; the embedding of segment type 0 is folded into the words'."""
    own = theirs.state_dict()
    tensors = {"embedding.weight": own["embeddings.word_embeddings.weight"]}
    tensors["embedding.weight"] = (
        tensors["embedding.weight"] + own["embeddings.token_type_embeddings.weight"][0]
    )
    names = {"norm": "embeddings.LayerNorm"}
    for layer in range(DEPTH):
        block, there = f"blocks.{layer}.", f"encoder.layer.{layer}."
        for name in ("query", "key", "value"):
            names[f"{block}attention.{name}"] = f"{there}attention.self.{name}"
        names[f"{block}attention.out"] = f"{there}attention.output.dense"
        names[f"{block}attention_norm"] = f"{there}attention.output.LayerNorm"
        names[f"{block}up"] = f"{there}intermediate.dense"
        names[f"{block}down"] = f"{there}output.dense"
        names[f"{block}feed_forward_norm"] = f"{there}output.LayerNorm"
    for ours, other in names.items():
        tensors |= {f"{ours}.{kind}": own[f"{other}.{kind}"] for kind in ("weight", "bias")}
    model = RoFormer(RoFormerConfig.encoder(V, context=32, dim=C, depth=DEPTH, heads=H, **fields))
    model = model.to(theirs.dtype).eval()
    model.load_parameters(tensors)
    return model


def tokens() -> Tensor:
    return torch.randint(1, V, (4, N), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", EXACT)
def test_hidden_states_equal_theirs(dtype):
    theirs = neighbour(dtype)
    ours, ids = translated(theirs), tokens()
    expected = theirs(ids).last_hidden_state
    assert expected.std() > 0.1
    torch.testing.assert_close(ours.hidden(ids), expected, rtol=0, atol=EXACT[dtype])


@pytest.mark.parametrize("dtype", EXACT)
def test_hidden_states_of_real_tokens_equal_theirs_beside_padding(dtype):
    theirs = neighbour(dtype)
    ours, ids, real = translated(theirs), tokens(), torch.ones(4, N, dtype=torch.bool)
    real[1, 6:] = real[2, :3] = real[3, 1:8] = False  # right, left and in the middle
    expected = theirs(ids, attention_mask=real.long()).last_hidden_state
    hidden = ours.hidden(ids, segments=real.long() - 1)
    torch.testing.assert_close(hidden[real], expected[real], rtol=0, atol=EXACT[dtype])
    assert (ours.hidden(ids)[1:][real[1:]] - expected[1:][real[1:]]).abs().max() > 1e-3  # the mask matters


def test_gradients_equal_theirs():
    theirs = neighbour(torch.float64)
    ours, ids = translated(theirs), tokens()
    probe = torch.randn(4, N, C, dtype=torch.float64)
    (theirs(ids).last_hidden_state * probe).sum().backward()
    (ours.hidden(ids) * probe).sum().backward()
    pairs = [
        (ours.embedding, theirs.embeddings.word_embeddings),
        (ours.norm, theirs.embeddings.LayerNorm),
        (ours.blocks[0].attention.query, theirs.encoder.layer[0].attention.self.query),
        (ours.blocks[1].up, theirs.encoder.layer[1].intermediate.dense),
    ]
    for mine, other in pairs:
        assert mine.weight.grad.abs().max() > 1e-3
        torch.testing.assert_close(mine.weight.grad, other.weight.grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", EXACT)
def test_as_a_decoder_with_a_cache_it_equals_theirs(dtype):
    theirs = neighbour(dtype, is_decoder=True)
    ours, ids = translated(theirs, causal=True), tokens()
    expected = theirs(ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(ours.hidden(ids), expected, rtol=0, atol=EXACT[dtype])
    cache = ours.new_cache(N)
    decoded = torch.cat([ours.hidden(part, cache=cache) for part in ids.split(1, dim=1)], dim=1)
    torch.testing.assert_close(decoded, expected, rtol=0, atol=EXACT[dtype])


@pytest.mark.parametrize(
    "fields",
    [{"layout": "half"}, {"base": 1_000.0}, {"qk_norm": True}, {"activation": "relu2"}],
    ids=str,
)
def test_another_choice_does_not_equal_theirs(fields):
    theirs = neighbour(torch.float64)
    model, ids = translated(theirs), tokens()
    other = translated(theirs, **fields)
    assert (other.hidden(ids) - model.hidden(ids)).abs().max() > 1e-4


def test_the_published_size_is_the_default():
    config = RoFormerConfig.encoder(50_000)
    published = transformers.RoFormerConfig()
    assert (config.vocab_size, config.dim) == (published.vocab_size, published.hidden_size)
    assert (config.depth, config.heads) == (published.num_hidden_layers, published.num_attention_heads)
    assert config.dim * config.ff_mult == published.intermediate_size


def test_with_t5_an_encoder_tells_before_from_behind():
    """Its buckets are for both directions; those of a decoder would call all that is ahead one distance."""
    torch.manual_seed(0)
    at, q = torch.arange(9), torch.zeros(1, H, 9, C // H)
    for causal, distinct in ((False, 9), (True, 5)):
        bias = RoFormerConfig.encoder(V, dim=C, heads=H, position="t5", causal=causal).build_position()
        torch.nn.init.normal_(bias.table.weight)
        assert (
            bias.bias(q, q, at, at)[0, 0, 4].unique().numel() == distinct
        )  # 4 tokens on either side, and itself
