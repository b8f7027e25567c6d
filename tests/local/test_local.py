"""Local attention against dense attention whose mask is written out key by key, forwards and backwards."""

import itertools
import math
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from windows import KINDS, TOLERANCE, close, dense, gradients, qkv

import rope_lab.local.attention as local_attention_module
from rope_lab import LocalAttention
from rope_lab.attention import attention_mask
from rope_lab.encodings import XPos
from rope_lab.local import bands as local_bands
from rope_lab.local import blocks as local_blocks
from rope_lab.local import local_attention


@pytest.fixture(params=["one chunk", "a chunk a block"])
def chunks(request, monkeypatch):
    if request.param != "one chunk":
        monkeypatch.setattr(local_blocks, "_CHUNK_BYTES", 1)
        monkeypatch.setattr(local_bands, "_CHUNK_BYTES", (2**12, 2**14))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [True, False])
def test_every_window_and_every_length_modulo_it(kind, causal, chunks):
    sides = [(b, 0) for b in range(3)] if causal else itertools.product(range(3), range(3))
    for back, ahead in sides:
        for window in (1, 2, 3, 5):
            options = dict(
                window=window, causal=causal, look_backward=back, look_forward=ahead, **KINDS[kind]
            )
            for count in range(1, 3 * window + 3):
                inputs = qkv(1, 1, count=count, dim=2, seed=count)
                close([local_attention(*inputs, **options)], [dense(*inputs, **options)], 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("window", "count"), [(16, 200), (64, 321), (70, 256), (300, 700)])
def test_many_blocks_with_gradients(kind, causal, window, count, chunks):
    inputs, options = qkv(2, 2, count=count), dict(window=window, causal=causal, **KINDS[kind])
    ours, theirs = (gradients(lambda *x, f=f: f(*x, **options), inputs) for f in (local_attention, dense))
    close(ours, theirs, 1e-12)


@settings(max_examples=150)
@given(data=st.data())
def test_anything_at_once(data):
    def draw(*values):
        return data.draw(st.sampled_from(values))

    causal, back, kind = draw(True, False), draw(1, 0, 2), draw(*KINDS)
    ahead, window, count = 0 if causal else draw(1, 0, 2), draw(1, 2, 3, 7, 64, 70), draw(1, 5, 17, 64, 150)
    batch, kv_heads, queries = draw(1, 2), draw(1, 2, 4), min(count, draw(count, 1, 4, 66))
    dtype, heads = draw(torch.float64, torch.float32), 4
    inputs = qkv(batch, heads, kv_heads, count, dtype=dtype, seed=draw(1, 2, 3), queries=queries)
    if draw(True, False):
        inputs.append(torch.randn(draw(1, heads), window, (back + 1 + ahead) * window, dtype=dtype))
    options = dict(window=window, causal=causal, look_backward=back, look_forward=ahead, **KINDS[kind])
    options |= {"exclude_self": draw(False, True), "first": draw(0, 3), "scale": draw(None, 0.3)}
    if draw(True, False):
        options["mask"] = torch.rand(draw(1, batch), count) < 0.6
    if draw(True, False):
        options["segments"] = torch.randint(-1, 3, (batch, count)).sort(dim=1).values

    def run(f):
        return gradients(lambda q, k, v, bias=None: f(q, k, v, bias=bias, **options), inputs)

    size = draw(2**24, 1, 2**16)
    in_bands = patch.multiple(local_bands, _CHUNK_BYTES=(size, size), _CALL=draw(2**13, -(2**40)))
    with patch.object(local_blocks, "_CHUNK_BYTES", size), in_bands:
        ours = run(local_attention)
    close(ours, run(dense), TOLERANCE[dtype])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_within_twice_the_error_of_the_dense_form(kind, dtype):
    inputs, options = qkv(2, 4, 2, count=300, dim=32, dtype=dtype), dict(window=48, **KINDS[kind])
    exact = gradients(lambda *x: dense(*x, **options), [x.double() for x in inputs])
    ours, theirs = (gradients(lambda *x, f=f: f(*x, **options), inputs) for f in (local_attention, dense))
    for truth, a, b in zip(exact, ours, theirs, strict=True):
        assert a.dtype == dtype
        assert (a - truth).abs().max() <= 2 * (b - truth).abs().max()
        assert (a - truth).abs().mean() <= 2 * (b - truth).abs().mean()


@pytest.mark.parametrize("causal", [True, False])
def test_counts_as_the_rest_of_the_package(causal):
    q, k, _ = qkv(1, 1, count=40)
    v = torch.eye(40, dtype=torch.float64)[None, None]  # the output is the row of weights
    seen = local_attention(q, k, v, window=7, causal=causal) > 0
    assert seen.equal(attention_mask(40, 40, causal=causal, window=7))
    assert seen.sum(-1).amax() == (7 if causal else 13)


@pytest.mark.parametrize(("kind", "least", "most"), [("exact", 7, 7), ("inclusive", 8, 8), ("block", 8, 14)])
def test_a_query_far_from_the_start_sees_as_many_keys_as_the_table_says(kind, least, most):
    q, k, _ = qkv(1, 1, count=70)
    v = torch.eye(70, dtype=torch.float64)[None, None]
    seen = (local_attention(q, k, v, window=7, **KINDS[kind])[0, 0, 14:] > 0).sum(-1)
    assert (seen.amin(), seen.amax()) == (least, most)


@pytest.mark.parametrize("options", [{}, {"bias": torch.zeros(1, 4, 8)}, {"exclude_self": True}])
def test_a_query_without_keys_returns_zeros_and_finite_gradients(options):
    inputs = qkv(count=13, dtype=torch.float32)
    mask = torch.ones(2, 13, dtype=torch.bool)
    mask[0], mask[1, 5:10] = False, False
    out, *grads = gradients(lambda *x: local_attention(*x, window=4, mask=mask, **options), inputs)
    assert (out[0] == 0).all()
    assert (out[1, :, 8:10] == 0).all()
    assert (out[1, :, :8] != 0).all()
    for grad in grads:
        assert grad.isfinite().all()
        assert (grad[0] == 0).all()
        assert grad[1].any()


def test_padding_is_never_seen():
    inputs = qkv(count=14, dtype=torch.float32)
    for causal, window in itertools.product((True, False), (4, 5, 64)):
        out = local_attention(*inputs, window=window, causal=causal, exact=False)
        mask = torch.arange(20) < 14
        longer = [F.pad(x, (0, 0, 0, 6), value=1e4) for x in inputs]
        padded = local_attention(*longer, window=window, causal=causal, exact=False, mask=mask)
        close([padded[..., :14, :]], [out], 1e-6)


def test_layout_in_memory_changes_nothing():
    inputs = qkv(3, 4, 2, count=200)
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs]
    mask = torch.rand(3, 200) < 0.7
    for rows in (None, mask):

        def run(x, rows=rows):
            return gradients(lambda *x: local_attention(*x, window=9, mask=rows), x)

        close(run(turned), run(inputs), 1e-12)


def test_values_may_be_wider_than_keys_and_nothing_may_come_in():
    q, k, _ = qkv(2, 2, count=40)
    v = torch.randn(2, 2, 40, 5, dtype=torch.float64)
    close([local_attention(q, k, v, window=6)], [dense(q, k, v, window=6)], 1e-12)
    assert local_attention(q[:, :, :0], k, v, window=6).shape == (2, 2, 0, 5)
    assert local_attention(q[:0], k[:0], v[:0], window=6).shape == (0, 2, 40, 5)
    assert LocalAttention(6)(q[:, :, :0], k[:, :, :0], v[:, :, :0]).shape == (2, 2, 0, 5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": False},
        {"exact": False},
        {"inclusive": True, "look_backward": 2},
        {"mask": 1},
        {"segments": 1},
        {"queries": 7},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # its form for a CPU
def test_flex_attention_gives_the_same(options):
    inputs = qkv(2, 4, 2, count=150, dim=16, dtype=torch.float32, queries=options.pop("queries", None))
    rows = {"mask": torch.rand(2, 150) < 0.5, "segments": torch.randint(-1, 3, (2, 150)).sort(dim=1).values}
    options = {name: rows.get(name, value) for name, value in options.items()}
    ours, theirs = (local_attention(*inputs, window=20, backend=name, **options) for name in ("flex", "sdpa"))
    close([ours], [theirs], 1e-5)


def test_ranges_are_views_and_their_gradient_is_exact():
    x = torch.randn(2, 2, 12, 3, dtype=torch.float64, requires_grad=True)
    assert local_blocks._Ranges.apply(x, 6, 2).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    for keys, block in ((6, 2), (4, 4), (12, 3)):
        assert torch.autograd.gradcheck(lambda x, k=keys, b=block: local_blocks._Ranges.apply(x, k, b), x)
        assert torch.autograd.gradgradcheck(lambda x, k=keys, b=block: local_blocks._Ranges.apply(x, k, b), x)


@pytest.mark.parametrize("path", ["in blocks", "in a band"])
def test_scores_grow_with_the_length_not_its_square(path, monkeypatch):
    formed = []

    def spied(kernel):
        def spy(q, k, v, **options):
            formed.append(q.shape[:-1].numel() * k.shape[-2])
            return kernel(q, k, v, **options)

        return spy

    if path == "in blocks":
        monkeypatch.setattr(local_attention_module, "takes", lambda *tensors: False)
    monkeypatch.setattr(F, "scaled_dot_product_attention", spied(F.scaled_dot_product_attention))
    monkeypatch.setattr(local_bands, "_KERNEL", spied(local_bands._KERNEL))
    counts = {}
    for kind, length in itertools.product(KINDS, (4096, 8192, 16384)):
        formed.clear()
        local_attention(*qkv(1, 1, count=length, dim=4, dtype=torch.float32), window=256, **KINDS[kind])
        counts[kind, length] = sum(formed)
    for kind, most in (("exact", 1.3), ("inclusive", 1.3), ("block", 2)):  # scores, in windows a query
        # the ends of a text are no part of the pattern
        assert counts[kind, 16384] - counts[kind, 8192] == 2 * (counts[kind, 8192] - counts[kind, 4096]) > 0
        assert counts[kind, 8192] <= most * 256 * 8192


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"window": 0}, "window"),
        ({"window": 2.5}, "window"),
        ({"window": True}, "window"),
        ({"look_backward": -1}, "look_backward"),
        ({"look_forward": -1}, "look_forward"),
        ({"look_forward": 1}, "look_forward"),
        ({"exact": False, "inclusive": True}, "inclusive"),
        ({"causal": False, "position": XPos(8)}, "causal"),
        ({"dropout": 1.0}, "dropout"),
        ({"backend": "cuda"}, "backend"),
    ],
    ids=str,
)
def test_bad_options_are_named(options, name):
    with pytest.raises(ValueError, match=rf"^{name} must"):
        LocalAttention(**({"window": 4} | options))
    with pytest.raises(ValueError, match=rf"^{name} must"):
        local_attention(*qkv(), **({"window": 4} | options))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"mask": torch.ones(2, 23)}, "mask must be boolean, .*float32$"),
        ({"mask": torch.ones(2, 22, dtype=torch.bool)}, "mask"),
        ({"mask": torch.ones(3, 23, dtype=torch.bool)}, "mask"),
        ({"segments": torch.ones(2, 23)}, "segments must be integers .*float32$"),
        ({"segments": torch.ones(2, 23) > 0}, "segments must be integers .*bool$"),
        ({"segments": torch.ones(23, dtype=torch.long)}, "segments"),
        ({"bias": torch.zeros(4, 4, 9)}, "bias"),
        ({"bias": torch.zeros(3, 4, 8)}, "bias"),
        ({"positions": torch.arange(22)}, "positions"),
        ({"first": -1}, "first"),
        ({"backend": "flex", "exclude_self": True}, "backend"),
        ({"backend": "flex", "dropout": 0.5}, "backend"),
        ({"scale": math.nan}, "scale"),
    ],
    ids=str,
)
def test_bad_rows_are_named(options, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        local_attention(*qkv(), window=4, **options)
