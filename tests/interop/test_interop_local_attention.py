"""Against the installed local-attention, on random configurations; where it errs, against dense attention."""

from __future__ import annotations

import random
from typing import Any

import local_attention as theirs
import pytest
import torch
from local_attention.transformer import LocalMHA as TheirMHA
from torch import Tensor

from rope_lab import RotaryEmbedding
from rope_lab.interop import local_attention as ours

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def options(seed: int) -> dict[str, Any]:
    pick = random.Random(seed)
    causal = pick.random() < 0.6
    use_xpos = causal and pick.random() < 0.3
    return {
        "window_size": pick.choice([2, 4, 6]),
        "causal": causal,
        "look_backward": pick.choice([1, 2]),
        "look_forward": 0 if causal else pick.choice([0, 1]),
        "shared_qk": pick.random() < 0.3,
        "dim": pick.choice([None, 8]),
        "exact_windowsize": pick.random() < 0.5,
        "scale": pick.choice([None, 0.3]),
        "use_xpos": use_xpos,
        "xpos_scale_base": 16 if use_xpos else None,
        "autopad": True,
    }


@pytest.mark.parametrize("seed", range(60))
def test_attention_equals_theirs_forwards_and_backwards(seed: int):
    """`reproduce` makes the queries of look_forward and the padding theirs; a causal one needs none of it."""
    torch.manual_seed(seed)
    pick, kwargs = random.Random(seed), options(seed)
    their = theirs.LocalAttention(**kwargs)
    our = ours.LocalAttention(**kwargs, reproduce=not kwargs["causal"])
    our.load_state_dict(their.state_dict(), strict=True)
    length = pick.randint(1, 30)
    q, k, v = torch.randn(3, 2, 3, length, 8)
    mask = None
    if pick.random() < 0.5:  # every query keeps a key: theirs averages over what it must not see
        mask = torch.rand(2, length) < 0.8
        mask[:, :: kwargs["window_size"] if kwargs["shared_qk"] is False else 1] = True
        mask = mask | (kwargs["causal"] or kwargs["exact_windowsize"])
    bias = None
    if pick.random() < 0.3:
        blocks = kwargs["look_backward"] + 1 + kwargs["look_forward"]
        bias = torch.randn(3, kwargs["window_size"], blocks * kwargs["window_size"])
    results = []
    for layer in (their, our):
        inputs = [t.clone().requires_grad_() for t in (q, k, v)]
        out = layer(*inputs, mask=mask, attn_bias=bias)
        results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("form", ["rows alone", "heads by the bias", "heads by the mask"])
def test_flattened_heads_are_understood(form: str):
    q, k, v = torch.randn(3, 6, 8, 8)  # (B·H, N, D) with B = 2, H = 3
    extra: dict[str, Any] = {}
    if form == "heads by the bias":
        extra["attn_bias"] = torch.randn(3, 4, 8)
    if form == "heads by the mask":
        extra["mask"] = torch.tensor([[True] * 8, [True] * 5 + [False] * 3])
    kwargs: dict[str, Any] = {"window_size": 4, "causal": True, "dim": 8}
    their, our = theirs.LocalAttention(**kwargs), ours.LocalAttention(**kwargs)
    torch.testing.assert_close(our(q, k, v, **extra), their(q, k, v, **extra), **CLOSE)


def test_another_window_for_one_call():
    kwargs: dict[str, Any] = {"window_size": 4, "causal": True, "dim": 8, "use_xpos": True}
    their, our = theirs.LocalAttention(**kwargs), ours.LocalAttention(**kwargs)
    q, k, v = torch.randn(3, 1, 2, 16, 8)
    torch.testing.assert_close(our(q, k, v, window_size=8), their(q, k, v, window_size=8), **CLOSE)
    padded = ours.LocalAttention(**kwargs, autopad=True)  # theirs pads to the old window and fails
    assert padded(q[:, :, :13], k[:, :, :13], v[:, :, :13], window_size=8).shape == (1, 2, 13, 8)


def dense(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Block windows with one ahead and one back, at true positions, every pair of tokens at once."""
    q, k = RotaryEmbedding(8, layout="half")(q, k)
    block = torch.arange(q.shape[-2]) // window
    hidden = (block[:, None] - block).abs() > 1
    return (q @ k.mT / 8**0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ v


def test_without_a_causal_mask_positions_are_true_and_padding_unseen():
    q, k, v = torch.randn(3, 1, 2, 14, 8, dtype=torch.float64)
    kwargs: dict[str, Any] = {"window_size": 4, "dim": 8, "autopad": True}
    exact = dense(q, k, v, 4)
    torch.testing.assert_close(ours.LocalAttention(**kwargs)(q, k, v), exact, rtol=0, atol=1e-12)
    wrong = theirs.LocalAttention(**kwargs)(q.float(), k.float(), v.float())
    assert (wrong - exact).abs().max() > 0.1
    same = ours.LocalAttention(**kwargs, reproduce=True)(q.float(), k.float(), v.float())
    torch.testing.assert_close(same, wrong, **CLOSE)


def test_bfloat16_runs():
    q, k, v = torch.randn(3, 1, 2, 16, 8)
    our = ours.LocalAttention(4, causal=True, dim=8)
    with pytest.raises(RuntimeError):
        theirs.LocalAttention(4, causal=True, dim=8)(*(t.bfloat16() for t in (q, k, v)))
    rounded = our.bfloat16()(*(t.bfloat16() for t in (q, k, v)))
    assert rounded.dtype == torch.bfloat16
    assert (rounded - our(q, k, v)).abs().max() < 0.05


def mha(seed: int) -> dict[str, Any]:
    pick = random.Random(seed)
    return {
        "dim": 16,
        "window_size": pick.choice([2, 4, 5]),
        "dim_head": 8,
        "heads": 2,
        "causal": True,
        "prenorm": pick.random() < 0.5,
        "qk_rmsnorm": pick.random() < 0.5,
        "gate_values_per_head": pick.random() < 0.5,
        "exact_windowsize": pick.choice([None, True, False]),
        "use_xpos": pick.random() < 0.3,
        "xpos_scale_base": 16,
    }


@pytest.mark.parametrize("seed", range(20))
def test_heads_equal_theirs_and_decode_exactly(seed: int):
    torch.manual_seed(seed)
    their, our = TheirMHA(**mha(seed)), ours.LocalMHA(**mha(seed))
    our.load_state_dict(their.state_dict(), strict=True)
    their.load_state_dict(our.state_dict(), strict=True)
    x = torch.randn(2, 17, 16)
    torch.testing.assert_close(our(x), their(x), **CLOSE)
    our, x = our.double(), x.double()
    full = our(x)
    for split in range(1, 17):
        out, cache = our(x[:, :split], return_cache=True)
        parts = [out]
        for i in range(split, 17):
            out, cache = our(x[:, i : i + 1], cache=cache, return_cache=True)
            parts.append(out)
        torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=0, atol=1e-12)


@pytest.mark.parametrize("exact", [True, False])
def test_their_second_cached_step_is_wrong_and_ours_is_not(exact: bool):
    """Their cache holds keys that are rotated already, and rotates them again."""
    torch.manual_seed(0)
    kwargs: dict[str, Any] = {"dim": 16, "window_size": 4, "dim_head": 8, "heads": 2, "causal": True}
    their, x = (
        TheirMHA(**kwargs, exact_windowsize=exact).double(),
        torch.randn(1, 11, 16, dtype=torch.float64),
    )
    full = their(x)
    _, cache = their(x[:, :9], return_cache=True)
    first, cache = their(x[:, 9:10], cache=cache, return_cache=True)
    second = their(x[:, 10:], cache=cache)
    assert (first - full[:, 9:10]).abs().max() < 1e-12
    assert (second - full[:, 10:]).abs().max() > 1e-3


def transformers(seed: int) -> tuple[theirs.LocalTransformer, ours.LocalTransformer]:
    torch.manual_seed(seed)
    pick = random.Random(seed)
    bias = pick.random() < 0.3
    kwargs: dict[str, Any] = {
        "num_tokens": 19,
        "max_seq_len": 40,
        "dim": 16,
        "depth": 2,
        "heads": 2,
        "dim_head": 8,
        "local_attn_window_size": pick.choice([2, 4]),
        "use_dynamic_pos_bias": bias,
        "exact_windowsize": pick.choice([None, True, False]),
        "qk_rmsnorm": pick.random() < 0.5,
        "global_attn_layer": torch.nn.Linear(16, 16) if pick.random() < 0.5 else None,
        "layers_insert_global_attn": pick.choice([None, (2,)]),
        "num_residual_streams": 1,
    }
    their, our = theirs.LocalTransformer(**kwargs), ours.LocalTransformer(**kwargs)
    our.load_state_dict(their.state_dict(), strict=True)
    their.load_state_dict(our.state_dict(), strict=True)
    return their.eval(), our.eval()


@pytest.mark.parametrize("seed", range(12))
def test_transformer_equals_theirs_parameter_for_parameter(seed: int):
    their, our = transformers(seed)
    ids = torch.randint(19, (2, 21))
    torch.testing.assert_close(our(ids), their(ids), **CLOSE)
    torch.testing.assert_close(our(ids, return_loss=True), their(ids, return_loss=True), **CLOSE)
    drawn = [m.generate(ids, 6, temperature=0.0, use_kv_cache=False) for m in (their, our)]
    assert drawn[0].equal(drawn[1])


@pytest.mark.parametrize("seed", range(6))
def test_generation_is_the_same_with_and_without_the_cache_also_past_the_table(seed: int):
    _, our = transformers(seed)
    our = our.double()
    prime = torch.randint(19, (2, 5))
    texts = [our.generate(prime, 50, temperature=0.0, use_kv_cache=cached) for cached in (True, False)]
    assert texts[0].shape == (2, 50)
    assert texts[0].equal(texts[1])


def test_generation_works_with_a_vocabulary_of_three():
    our = ours.LocalTransformer(
        num_tokens=3, max_seq_len=16, dim=8, depth=1, heads=1, dim_head=8, local_attn_window_size=4
    )
    drawn = our.generate(torch.zeros(1, 1, dtype=torch.long), 9)
    assert drawn.shape == (1, 9)
    assert our.training


SMALL: dict[str, Any] = {"num_tokens": 5, "max_seq_len": 8, "dim": 8, "depth": 1}
T = torch.randn(1, 1, 6, 8)
F = torch.randn(4, 6, 8)
IDS = torch.zeros(1, 2, dtype=torch.long)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: ours.LocalAttention(4, causal=True, look_forward=1), "look_forward"),
        (lambda: ours.LocalAttention(0), "^window_size must be a positive integer, got 0$"),
        (lambda: ours.LocalAttention(4, dropout=1.5), r"^dropout must .* 1\.5$"),
        (lambda: ours.LocalAttention(4, look_backward=-1), "^look_backward must .* -1$"),
        (lambda: ours.LocalAttention(2)(T[0], T[0], T[0], mask=torch.ones(3, 6) > 0), "^mask must .* got 3$"),
        (
            lambda: ours.LocalAttention(2)(*[F] * 3, attn_bias=torch.zeros(3, 2, 6)),
            "^attn_bias must .* got 3$",
        ),
        (
            lambda: ours.LocalAttention(2)(F[None], F[None, :2], F[None, :2]),
            "^k and v must have the shape of q",
        ),
        (lambda: ours.LocalMHA(dim=8, window_size=4, heads=0), "^heads must .* got 0$"),
        (lambda: ours.LocalTransformer(**{**SMALL, "depth": -1}), "^depth must .* got -1$"),
        (
            lambda: ours.LocalTransformer(**SMALL, local_attn_window_size=0),
            "^local_attn_window_size must .* 0$",
        ),
        (
            lambda: ours.LocalTransformer(**SMALL).generate(IDS, 1, temperature=-1.0),
            r"^temperature must .* -1\.0$",
        ),
        (
            lambda: ours.LocalTransformer(**SMALL).generate(IDS, 1, filter_thres=2.0),
            r"^filter_thres must .* 2\.0$",
        ),
        (lambda: ours.LocalTransformer(**SMALL).generate(IDS[0], 1), "^prime must have shape"),
        (lambda: ours.LocalTransformer(**SMALL).generate(IDS, -1), "^seq_len must .* -1$"),
        (lambda: ours.LocalAttention(4, use_xpos=True, dim=8), "use_xpos"),
        (lambda: ours.LocalAttention(4)(T, T, T), "multiple of window_size=4"),
        (lambda: ours.LocalAttention(3)(T, T, T, window_size=2), "window_size can only"),
        (
            lambda: ours.LocalMHA(dim=8, window_size=4)(T[0], cache=torch.zeros(2, 1, 8, 3, 64)),
            "cache needs causal",
        ),
        (
            lambda: ours.LocalMHA(dim=8, window_size=4)(T[0], cache=T),
            "^cache must hold keys and values of shape",
        ),
        (lambda: ours.LocalMHA(dim=9, window_size=4)(T[0]), "^x must have shape"),
        (lambda: ours.LocalAttention(1, True, dim=8, use_xpos=True), "^xpos_scale_base must be a positive"),
        (lambda: ours.LocalAttention(2.5), "^window_size must be a positive integer, got 2.5$"),
        (lambda: ours.DynamicPositionBias(4, 2)(5, 4), "i must be"),
        (lambda: ours.LocalTransformer(**SMALL, num_residual_streams=4), "num_residual_streams must be 1"),
        (lambda: ours.LocalTransformer(**SMALL, layers_insert_global_attn=(2,)), "layers_insert_global_attn"),
        (
            lambda: ours.LocalTransformer(**SMALL, causal=False, use_dynamic_pos_bias=True),
            "use_dynamic_pos_bias",
        ),
        (lambda: ours.LocalTransformer(**SMALL)(torch.zeros(1, 9, dtype=torch.long)), "max_seq_len=8"),
        (
            lambda: ours.LocalTransformer(**{**SMALL, "num_tokens": None}).generate(torch.zeros(1, 1), 1),
            "num_tokens",
        ),
    ],
)
def test_bad_arguments_are_named(call, names: str):
    with pytest.raises(ValueError, match=names):
        call()


def test_generate_draws_from_the_likeliest_tenth():
    """0.9 of the vocabulary is left out, as in the original, and not 0.1 of it."""
    torch.manual_seed(0)
    model = ours.LocalTransformer(**{**SMALL, "num_tokens": 40})
    prime = torch.zeros(400, 1, dtype=torch.long)
    likeliest = model.eval()(prime[:1])[0, -1].topk(4).indices
    drawn = model.generate(prime, 1, temperature=5.0, filter_thres=0.9)
    assert 1 < len(set(drawn.flatten().tolist())) <= 4
    assert set(drawn.flatten().tolist()) <= set(likeliest.tolist())
