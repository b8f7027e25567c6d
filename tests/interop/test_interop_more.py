"""Neighbours again, where the other files do not look: their float64 forms, every option of the heads, real modules."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import local_attention as theirs
import numpy as np
import pytest
import torch
import transformers
from local_attention.rotary import SinusoidalEmbeddings
from local_attention.transformer import LocalMHA as TheirMHA
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from windows import sees

from rope_lab import RotaryEmbedding, frequencies, rotate
from rope_lab.encodings import Llama3
from rope_lab.interop import huggingface
from rope_lab.interop import local_attention as ours

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def exact(layer: torch.nn.Module) -> torch.nn.Module:
    """Their layer in float64, its tables too: a cast alone leaves them at the precision of float32."""
    for module in layer.double().modules():
        if isinstance(module, SinusoidalEmbeddings):
            dim = 2 * len(module.inv_freq)
            module.inv_freq = frequencies(dim)
            module.scale = (torch.arange(0, dim, 2).double() + 0.4 * dim) / (1.4 * dim)
    return layer


def window(pick: random.Random, causal: bool) -> dict[str, Any]:
    use_xpos = causal and pick.random() < 0.4
    return {
        "window_size": pick.choice([2, 3, 4, 6]),
        "causal": causal,
        "look_backward": pick.choice([0, 1, 2]),
        "look_forward": 0 if causal else pick.choice([0, 1, 2]),
        "shared_qk": pick.random() < 0.3,
        "exact_windowsize": pick.random() < 0.5,
        "use_rotary_pos_emb": pick.random() < 0.8,
        "use_xpos": use_xpos,
        "xpos_scale_base": 16 if use_xpos else None,
    }


def sighted(kwargs: dict[str, Any], length: int, mask: Tensor | None) -> Tensor:
    """(B, N), True for queries that see a key; the others are zeros here and a mean there."""
    form = {
        "window": kwargs["window_size"],
        "exact": kwargs["exact_windowsize"],
        "inclusive": kwargs["exact_windowsize"],
        **{name: kwargs[name] for name in ("causal", "look_backward", "look_forward")},
    }
    allowed = torch.tensor([[sees(i, j, **form) for j in range(length)] for i in range(length)])[None]
    return (allowed if mask is None else allowed & mask[:, None]).any(-1).expand(2, -1)


def compare(their: Any, our: Any, x: tuple[Tensor, ...], rows: Tensor, dtype: torch.dtype, **given: Any):
    """Outputs of the `rows` (B, N), and gradients of a sum of them in inputs and parameters."""
    given = {name: t.to(dtype) if name == "attn_bias" and t is not None else t for name, t in given.items()}
    results = []
    for layer in (exact(their) if dtype == torch.float64 else their, our.to(dtype)):
        inputs = [t.to(dtype).requires_grad_() for t in x]
        out = layer(*inputs, **given) * (rows[:, None, :, None] if x[0].ndim == 4 else rows[..., None])
        parameters = [p for _, p in sorted(layer.named_parameters())]
        probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(7)).to(dtype)
        results.append((out, *torch.autograd.grad(out, [*inputs, *parameters], probe)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("seed", range(30))
def test_attention_equals_theirs_for_every_window_mask_and_bias(seed: int, dtype: torch.dtype):
    torch.manual_seed(seed)
    pick = random.Random(seed)
    causal = pick.random() < 0.5
    kwargs = {**window(pick, causal), "autopad": True, "scale": pick.choice([None, 0.3])}
    kwargs |= pick.choice([{}, {"dim": 8}, {"rel_pos_emb_config": (8, 2)}])
    their, our = theirs.LocalAttention(**kwargs), ours.LocalAttention(**kwargs, reproduce=not causal)
    our.load_state_dict(their.state_dict(), strict=True)
    length, bias = pick.randint(1, 25), None
    mask = torch.rand(pick.choice([1, 2]), length) < 0.7 if pick.random() < 0.5 else None
    if pick.random() < 0.4:
        blocks = kwargs["look_backward"] + 1 + kwargs["look_forward"]
        bias = torch.randn(3, kwargs["window_size"], blocks * kwargs["window_size"])
    x = tuple(torch.randn(3, 2, 3, length, 8))
    rows, name = sighted(kwargs, length, mask), pick.choice(["mask", "input_mask"])
    compare(their, our, x, rows, dtype, attn_bias=bias, **{name: mask})


def heads(seed: int, causal: bool) -> tuple[TheirMHA, ours.LocalMHA, dict[str, Any]]:
    torch.manual_seed(seed)
    pick = random.Random(seed)
    kwargs = {
        "dim": 16,
        "dim_head": 8,
        "heads": pick.choice([1, 2, 3]),
        "prenorm": pick.random() < 0.5,
        "qk_rmsnorm": pick.random() < 0.5,
        "qk_scale": pick.choice([8, 3]),
        "gate_values_per_head": pick.random() < 0.5,
        **window(pick, causal),
    }
    their, our = TheirMHA(**kwargs), ours.LocalMHA(**kwargs, reproduce=not causal)
    with torch.no_grad():  # gains start at 1 and biases near 0: make them tell
        for parameter in their.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) * (parameter.ndim == 1))
    our.load_state_dict(their.state_dict(), strict=True)
    their.load_state_dict(our.state_dict(), strict=True)
    return their, our, kwargs


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_heads_equal_theirs_forwards_and_backwards(seed: int, causal: bool, dtype: torch.dtype):
    their, our, kwargs = heads(seed, causal)
    pick, w = random.Random(seed), kwargs["window_size"]
    length, bias = pick.randint(1, 25), None
    mask = torch.rand(2, length) < 0.7 if pick.random() < 0.5 else None
    if pick.random() < 0.5:
        blocks = kwargs["look_backward"] + 1 + kwargs["look_forward"]
        bias = torch.randn(kwargs["heads"], w, blocks * w)
    x, rows = (torch.randn(2, length, 16),), sighted(kwargs, length, mask)
    compare(their, our, x, rows, dtype, mask=mask, attn_bias=bias)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_cached_heads_equal_the_full_pass_of_theirs_at_every_split(seed: int, biased: bool):
    their, our, kwargs = heads(seed, causal=True)
    w, bias = kwargs["window_size"], None
    if biased:
        bias = torch.randn(kwargs["heads"], w, (kwargs["look_backward"] + 1) * w).double()
    x = torch.randn(2, 17, 16).double()
    full, our = exact(their)(x, attn_bias=bias), our.double()
    for split in [[n] + [1] * (17 - n) for n in (1, 4, 6, 9, 16)] + [[5, 9, 3], [1, 12, 4]]:
        cache, out = None, []
        for part in x.split(split, dim=1):
            y, cache = our(part, attn_bias=bias, cache=cache, return_cache=True)
            out.append(y)
        torch.testing.assert_close(torch.cat(out, dim=1), full, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ({}, True),
        ({"use_xpos": True, "xpos_scale_base": 16}, True),
        ({"gate_values_per_head": True}, True),
        ({"qk_rmsnorm": True}, False),
        ({"shared_qk": True}, False),
    ],
    ids=str,
)
def test_their_first_cached_step_is_wrong_with_normalised_keys(options: dict[str, Any], right: bool):
    """There it scales by 1/√D instead of `qk_scale`, and neither normalises the keys nor leaves out the query."""
    torch.manual_seed(0)
    layer = TheirMHA(dim=16, window_size=4, dim_head=8, heads=2, causal=True, **options).double()
    x = torch.randn(1, 10, 16).double()
    full = layer(x)[:, 9:]
    _, cache = layer(x[:, :9], return_cache=True)
    error = (layer(x[:, 9:], cache=cache) - full).abs().max()
    assert error < 1e-12 if right else error > 1e-2


@pytest.mark.parametrize("seed", range(12))
def test_a_whole_transformer_equals_theirs_in_both_dtypes(seed: int):
    torch.manual_seed(seed)
    pick = random.Random(seed)
    causal, words = pick.random() < 0.7, pick.random() < 0.7
    bias = causal and pick.random() < 0.3
    kwargs = {"num_tokens": 19 if words else None, "max_seq_len": 40, "dim": 16, "depth": 2, "heads": 2}
    kwargs |= window(pick, causal)
    w = kwargs.pop("window_size")
    del kwargs["use_rotary_pos_emb"]
    if bias:  # their table is of two windows
        kwargs |= {"use_dynamic_pos_bias": True, "look_backward": 1}
    kwargs |= {"dim_head": 8, "local_attn_window_size": w, "num_residual_streams": 1}
    kwargs |= {"ff_mult": pick.choice([4, 2.5]), "ignore_index": pick.choice([-1, 3])}
    kwargs |= {"qk_rmsnorm": pick.random() < 0.5, "gate_values_per_head": pick.random() < 0.5}
    their, our = theirs.LocalTransformer(**kwargs), ours.LocalTransformer(**kwargs, reproduce=not causal)
    our.load_state_dict(their.state_dict(), strict=True)
    x = torch.randint(19, (2, 21)) if words else torch.randn(2, 21, 16)
    for dtype, tolerance in TOLERANCE.items():
        if dtype == torch.float64 and bias:
            break  # the distances of their bias are float32, whatever its network is
        their, our = (exact(their) if dtype == torch.float64 else their).eval(), our.to(dtype).eval()
        given = x if words else x.to(dtype)
        results = []
        for model in (their, our):
            out = model(given, return_loss=True) if words else model(given).square().mean()
            gradients = torch.autograd.grad(out, [p for _, p in sorted(model.named_parameters())])
            results.append((model(given), out, *gradients))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance)


def test_heads_drop_weights_in_training_as_asked_where_theirs_never_do():
    """Their `LocalMHA` does not hand `dropout` on, so `attn_dropout` of their transformer does nothing."""
    torch.manual_seed(0)
    kwargs: dict[str, Any] = {
        "dim": 16,
        "window_size": 4,
        "dim_head": 8,
        "heads": 2,
        "dropout": 0.5,
        "causal": True,
    }
    their, our, x = TheirMHA(**kwargs), ours.LocalMHA(**kwargs), torch.randn(1, 12, 16)
    assert their(x).equal(their(x))
    assert (our(x) - our(x)).abs().max() > 0.1
    our.load_state_dict(their.state_dict())
    torch.testing.assert_close(our.eval()(x), their(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window_size", [2, 8])
def test_another_window_for_one_call_sets_an_exact_window_too_where_theirs_keeps_the_old_bound(
    window_size: int,
):
    """Keys that the last query sees: theirs takes blocks of the new size and the exact bound of the old one."""
    kwargs: dict[str, Any] = {"window_size": 4, "causal": True, "dim": 8, "use_xpos": True}
    q, k, v = *torch.randn(2, 1, 1, 16, 8), torch.eye(16)[None, None]
    seen = [
        int(
            (package.LocalAttention(**kwargs, exact_windowsize=True)(q, k, v, window_size=window_size) > 0)[
                0, 0, -1
            ].sum()
        )
        for package in (theirs, ours)
    ]
    assert seen == [{2: 4, 8: 5}[window_size], window_size + 1]


PARTIAL = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "dynamic, by the longest": {"factor": 2.0, "original_max_position_embeddings": 64},
    "yarn": {"factor": 8.0, "original_max_position_embeddings": 64},
    "longrope": {"factor": 4.0, "original_max_position_embeddings": 64},
    "longrope, by the lengths": {"original_max_position_embeddings": 64},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "proportional": {"factor": 2.0},
}


def partial_llama(kind: str, share: float, head_dim: int) -> Any:
    parameters = {"rope_type": kind.split(",")[0], "rope_theta": 10_000.0, **PARTIAL[kind]}
    parameters["partial_rotary_factor"] = share
    if parameters["rope_type"] == "longrope":
        grow = torch.linspace(1, 3, int(head_dim * share) // 2)
        parameters |= {"short_factor": grow.tolist(), "long_factor": (2 * grow).tolist()}
    return transformers.LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        max_position_embeddings=128,
        rope_parameters=copy.deepcopy(parameters),
    )


@pytest.mark.parametrize("head_dim", [32, 80, 128])
@pytest.mark.parametrize("share", [0.25, 0.4, 0.5, 0.75])
@pytest.mark.parametrize("kind", PARTIAL)
def test_every_scaling_of_a_part_of_the_head_equals_that_of_transformers(
    kind: str, share: float, head_dim: int
):
    """At lengths below, at and above the one trained on, 64 or 128 tokens."""
    if int(head_dim * share) % 2:
        share = 0.5
    config, rope_type = partial_llama(kind, share, head_dim), kind.split(",")[0]
    dim = head_dim if rope_type == "proportional" else int(head_dim * share)
    for length in (None, 1, 63, 64, 65, 128, 129, 5000):
        wanted, factor = ROPE_INIT_FUNCTIONS[rope_type](config, seq_len=length)
        freqs, our_factor = huggingface.frequencies(config, length=length)
        assert freqs.shape == (dim // 2,)
        torch.testing.assert_close(freqs.float(), wanted, rtol=3e-6, atol=0)
        assert our_factor == pytest.approx(factor, rel=1e-12)
        rope = huggingface.rotary_embedding(config, length=length)
        table, table_factor = rope.table(torch.tensor([1]), length or 1, dtype=torch.float64)
        torch.testing.assert_close(table[0], freqs, rtol=1e-12, atol=1e-15)
        assert table_factor == our_factor


@pytest.mark.parametrize("length", [40, 64, 65, 129])
@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("kind", PARTIAL)
def test_a_whole_rotation_equals_that_of_a_fresh_llama(kind: str, share: float, length: int):
    """Their module follows the length of the call, so ours is given it; the attention factor is in the tables."""
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = partial_llama(kind, share, 32)
    q, k = 2 * torch.rand(2, 1, 2, length, 32) - 1  # their angles are rounded to float32
    positions = torch.arange(length)
    cos, sin = LlamaRotaryEmbedding(config)(q, positions[None])
    turned = cos.shape[-1]
    wanted = apply_rotary_pos_emb(q[..., :turned], k[..., :turned], cos, sin)
    for given in (length, None):
        both = huggingface.rotary_embedding(config, length=given)(q, k)
        for x, ours_x, theirs_x in zip((q, k), both, wanted, strict=True):
            torch.testing.assert_close(ours_x[..., :turned], theirs_x, rtol=0, atol=1e-5)
            assert ours_x[..., turned:].equal(x[..., turned:])


def test_llama_4_has_no_ramp_between_what_stays_and_what_is_divided():
    """torchtune's `Llama4ScaledRoPE` and the released config: both factors are 1, and nothing divides by 0."""
    parameters = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 16.0, "low_freq_factor": 1.0}
    parameters |= {"high_freq_factor": 1.0, "original_max_position_embeddings": 8192}
    plain = frequencies(128, 500_000.0)
    wanted = [f if 2 * math.pi / f < 8192 else f / 16 for f in plain.tolist()]
    assert 0 < sum(f in plain.tolist() for f in wanted) < 64
    scaled, factor = Llama3(16.0, 1.0, 1.0, 8192)(plain, 1)
    torch.testing.assert_close(scaled, torch.tensor(wanted, dtype=torch.float64), rtol=1e-15, atol=0)
    assert factor == 1.0
    config = transformers.Llama4TextConfig(hidden_size=512, num_attention_heads=4, rope_parameters=parameters)
    assert huggingface.frequencies(config)[0].equal(scaled)

    from transformers.models.llama4 import modeling_llama4

    positions, (q, k) = torch.arange(60), 2 * torch.rand(2, 1, 4, 60, 128) - 1
    turns = modeling_llama4.Llama4TextRotaryEmbedding(config)(q, positions[None])
    wanted_q, wanted_k = modeling_llama4.apply_rotary_emb(q.transpose(1, 2), k.transpose(1, 2), turns)
    rope = RotaryEmbedding(128, base=500_000.0, scaling=Llama3(16.0, 1.0, 1.0, 8192))
    for ours_x, theirs_x in zip(rope(q, k), (wanted_q, wanted_k), strict=True):
        torch.testing.assert_close(ours_x, theirs_x.transpose(1, 2), rtol=0, atol=1e-5)
    both = huggingface.rotary_embedding(config, layout="interleaved")(q, k)
    assert all(a.equal(b) for a, b in zip(both, rope(q, k), strict=True))
    table, _ = rope.table(positions, 60)
    assert rotate(q, table).equal(both[0])


def test_integers_of_numpy_and_a_cache_in_two_parts_are_taken_as_theirs_takes_them():
    size = dict(
        zip(("num_tokens", "max_seq_len", "dim", "depth", "heads"), np.array([19, 8, 8, 1, 2]), strict=True)
    )
    options = {"dim_head": np.int64(4), "local_attn_window_size": np.int64(4), "num_residual_streams": 1}
    torch.manual_seed(0)
    a, b = ours.LocalTransformer(**size, **options), theirs.LocalTransformer(**size, **options)
    b.load_state_dict(a.state_dict())
    prime = torch.tensor([[1, 2, 3]], dtype=torch.int32)
    drawn = [net.generate(prime, np.int64(3), temperature=0.0) for net in (a, b.eval())]
    assert drawn[0].dtype == drawn[1].dtype == torch.int64
    assert torch.equal(*drawn)
    heads = ours.LocalMHA(dim=8, window_size=np.int64(4), causal=True)
    x = torch.randn(1, 6, 8)
    _, cache = heads(x[:, :5], return_cache=True)
    torch.testing.assert_close(heads(x[:, 5:], cache=tuple(cache)), heads(x)[:, 5:], rtol=0, atol=1e-5)
