"""Against the installed labml_nn: rotations and attention, weight by weight."""

from __future__ import annotations

import random

import labml.tracker
import pytest
import torch

from rope_lab.interop import labml_nn as ours


@pytest.fixture(autouse=True)
def old_tracker(monkeypatch: pytest.MonkeyPatch):
    """labml_nn 0.5.1 reports attention weights through a call that the labml beside it no longer has."""
    monkeypatch.setattr(labml.tracker, "debug", lambda *_: None, raising=False)


@pytest.mark.parametrize("seed", range(10))
def test_rotations_equal_theirs(seed: int):
    from labml_nn.transformers import rope as theirs
    from labml_nn.transformers.rope import value_pe

    pick = random.Random(seed)
    d, base = 2 * pick.randint(1, 8), pick.choice([100, 10_000])
    x = torch.randn(pick.randint(1, 40), 2, 3, d + pick.randint(0, 4))
    torch.testing.assert_close(
        ours.RotaryPositionalEmbeddings(d, base)(x),
        theirs.RotaryPositionalEmbeddings(d, base)(x),
        rtol=0,
        atol=1e-5,
    )
    back = ours.ReverseRotaryPositionalEmbeddings(d, base)
    torch.testing.assert_close(
        back(x), value_pe.ReverseRotaryPositionalEmbeddings(d, base)(x), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", ["RotaryPEMultiHeadAttention", "RotaryValuePEMultiHeadAttention"])
def test_attention_equals_theirs_weight_by_weight(name: str, seed: int):
    from labml_nn.transformers import rope as theirs
    from labml_nn.transformers.rope import value_pe

    torch.manual_seed(seed)
    pick = random.Random(seed)
    kwargs = {"rope_percentage": pick.choice([0.25, 0.5, 1.0])}
    if "Value" in name:
        kwargs["rope_value_percentage"] = pick.choice([0.25, 0.5, 1.0])
    their = getattr(theirs, name, None) or getattr(value_pe, name)
    their, our = their(4, 32, **kwargs), getattr(ours, name)(4, 32, **kwargs)
    our.load_state_dict(their.state_dict(), strict=True)
    n_q, n_k = pick.choice([(7, 7), (5, 7)])
    q, k = torch.randn(n_q, 3, 32, requires_grad=True), torch.randn(n_k, 3, 32)
    mask = pick.choice([None, torch.ones(n_q, n_k, 1).tril(), torch.rand(1, n_k, 3) < 0.7])
    if mask is not None:
        mask[:, 0] = 1  # theirs gives NaN to a query without a key
    results = []
    for layer in (their, our):
        out = layer(query=q, key=k, value=k, mask=mask)
        (gradient,) = torch.autograd.grad(out.square().sum(), q)
        results.append((out, layer.attn, gradient))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_query_without_keys_gets_zeros_and_finite_gradients():
    layer, x = ours.RotaryValuePEMultiHeadAttention(2, 16), torch.randn(4, 1, 16, requires_grad=True)
    mask = torch.ones(4, 4, 1).tril()
    mask[0] = 0
    out = layer(query=x, key=x, value=x, mask=mask)
    torch.testing.assert_close(out[0], layer.output.bias.expand(1, -1))
    out.sum().backward()
    assert x.grad.isfinite().all()
    with torch.autograd.detect_anomaly(check_nan=True):  # nor is there a NaN on the way back
        layer(query=x, key=x, value=x, mask=mask).sum().backward()


@pytest.mark.parametrize("name", ["RotaryPEMultiHeadAttention", "RotaryValuePEMultiHeadAttention"])
def test_defaults_dropout_and_what_is_kept_of_the_weights_are_theirs(name: str):
    from labml_nn.transformers import rope as theirs
    from labml_nn.transformers.rope import value_pe

    their = (getattr(theirs, name, None) or getattr(value_pe, name))(4, 32)
    layer = getattr(ours, name)(4, 32)
    assert layer.query_rotary_pe.d == their.query_rotary_pe.d == 4
    x = torch.randn(9, 2, 32)
    layer = getattr(ours, name)(4, 32, dropout_prob=0.5)
    assert (layer(query=x, key=x, value=x) - layer(query=x, key=x, value=x)).abs().max() > 1e-2
    assert not layer.attn.requires_grad
    layer.eval()
    assert layer(query=x, key=x, value=x).equal(layer(query=x, key=x, value=x))


def test_dtype_is_kept_and_float64_is_exact():
    x = torch.randn(300, 1, 2, 8, dtype=torch.float64)
    rope = ours.RotaryPositionalEmbeddings(8)
    assert rope(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(ours.ReverseRotaryPositionalEmbeddings(8)(rope(x)), x, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: ours.RotaryPositionalEmbeddings(3), "dim"),
        (lambda: ours.RotaryPEMultiHeadAttention(3, 32), "heads"),
        (lambda: ours.RotaryPEMultiHeadAttention(4, 40, rope_percentage=0.5), "dim"),
        (
            lambda: ours.RotaryPEMultiHeadAttention(4, 32, rope_percentage=1.5),
            r"^rope_percentage must .* 1\.5$",
        ),
        (lambda: ours.RotaryPEMultiHeadAttention(4, 32, rope_percentage=-0.5), "^rope_percentage must"),
        (lambda: ours.RotaryValuePEMultiHeadAttention(4, 32, 0.5, 1.5), "^rope_value_percentage must"),
        (
            lambda: ours.RotaryPEMultiHeadAttention(2, 16)(
                query=torch.randn(4, 1, 16),
                key=torch.randn(4, 1, 16),
                value=torch.randn(4, 1, 16),
                mask=torch.ones(4, 1, 4),
            ),
            "mask",
        ),
        (
            lambda: ours.RotaryPEMultiHeadAttention(2, 16)(
                query=torch.randn(4, 1, 16),
                key=torch.randn(4, 1, 16),
                value=torch.randn(4, 1, 16),
                mask=torch.ones(4, 1, 1),  # hides or shows all keys of a query at once: an axis forgotten
            ),
            r"^mask must have shape \(1 or 4, 4, 1 or 1\), got \(4, 1, 1\)$",
        ),
    ],
)
def test_bad_arguments_are_named(call, names: str):
    with pytest.raises(ValueError, match=names):
        call()
