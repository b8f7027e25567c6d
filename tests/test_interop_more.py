"""Neighbours again, where the other files do not look: their float64 forms, every option of the heads, real modules."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import local_attention as theirs
import pytest
import torch
import transformers
from local_attention.rotary import SinusoidalEmbeddings
from local_attention.transformer import LocalMHA as TheirMHA
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from windows import sees

from rope_lab import RotaryEmbedding, frequencies, rotate
from rope_lab.interop import huggingface
from rope_lab.interop import local_attention as ours
from rope_lab.scaling import Llama3

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
    """Outputs of the `rows` (B, N), and gradients of their squares in inputs and parameters."""
    given = {name: t.to(dtype) if name == "attn_bias" and t is not None else t for name, t in given.items()}
    results = []
    for layer in (exact(their) if dtype == torch.float64 else their, our.to(dtype)):
        inputs = [t.to(dtype).requires_grad_() for t in x]
        out = layer(*inputs, **given) * (rows[:, None, :, None] if x[0].ndim == 4 else rows[..., None])
        parameters = [p for _, p in sorted(layer.named_parameters())]
        results.append((out, *torch.autograd.grad(out.square().sum(), [*inputs, *parameters])))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("seed", range(60))
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
@pytest.mark.parametrize("seed", range(40))
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
@pytest.mark.parametrize("seed", range(12))
def test_cached_heads_equal_the_full_pass_of_theirs_at_every_split(seed: int, biased: bool):
    their, our, kwargs = heads(seed, causal=True)
    w, bias = kwargs["window_size"], None
    if biased:
        bias = torch.randn(kwargs["heads"], w, (kwargs["look_backward"] + 1) * w).double()
    x = torch.randn(2, 17, 16).double()
    full, our = exact(their)(x, attn_bias=bias), our.double()
    for split in [[n] + [1] * (17 - n) for n in range(1, 17)] + [[5, 9, 3], [1, 12, 4]]:
        cache, out = None, []
        for part in x.split(split, dim=1):
            y, cache = our(part, attn_bias=bias, cache=cache, return_cache=True)
            out.append(y)
        torch.testing.assert_close(torch.cat(out, dim=1), full, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "right"),
    [({}, True), ({"use_xpos": True, "xpos_scale_base": 16}, True), ({"gate_values_per_head": True}, True)]
    + [({"qk_rmsnorm": True}, False), ({"shared_qk": True}, False)],
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


@pytest.mark.parametrize("seed", range(20))
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
            named = {name: p for name, p in sorted(model.named_parameters()) if "norm" not in name}
            gradients = torch.autograd.grad(out, list(named.values()))
            results.append((model(given), out, *gradients))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance)
