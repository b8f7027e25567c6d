"""The layer and its cache: encodings, shared spaces, decoding at every split, memory."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from windows import close, dense, gradients, qkv, sees

from rope_lab import LocalAttention, LocalCache, NoPE, RotaryEmbedding
from rope_lab.encodings import (
    ALiBi,
    DeBERTa,
    DynamicNTK,
    GrowingRotaryEmbedding,
    LongRoPE,
    RotaryValueEmbedding,
    Shaw,
    T5Bias,
    TransformerXL,
    XPos,
    YaRN,
)
from rope_lab.local import Window, local_attention
from rope_lab.local import bands as local_bands
from rope_lab.local import blocks as local_blocks


@pytest.fixture(params=["one chunk", "a chunk a block"])
def chunks(request, monkeypatch):
    if request.param != "one chunk":
        monkeypatch.setattr(local_blocks, "_CHUNK_BYTES", 1)
        monkeypatch.setattr(local_bands, "_CHUNK_BYTES", (2**12, 2**14))


def test_shared_queries_and_keys():
    q, _, v = qkv(count=12)
    options, mask = {"window": 4, "causal": True, "shared_qk": True}, torch.rand(2, 12) < 0.7
    ours = LocalAttention(**options)(q, q, v, mask=mask)
    theirs = dense(q, F.normalize(q, dim=-1), v, window=4, mask=mask, exclude_self=True)
    close([ours], [theirs], 1e-12)
    everything = LocalAttention(**options)(q, q, v)
    close([everything[:, :, 0]], [v[:, :, 0]], 1e-12)  # the first token is alone
    close([LocalAttention(1, shared_qk=True)(q, q, v)], [v], 1e-12)
    zero = torch.zeros_like(q, requires_grad=True)
    (grad,) = torch.autograd.grad(LocalAttention(**options)(zero, zero, v).sum(), zero)
    assert grad.isfinite().all()


def test_dropout_acts_in_training_only_and_keeps_the_mean():
    q, k, _ = qkv(1, 4, count=512, dtype=torch.float32)
    v, layer = torch.ones_like(q), LocalAttention(16, dropout=0.25)
    out = layer(q, k, v)
    assert out.std() > 0.05
    assert abs(out.mean() - 1) < 0.02
    close([layer.eval()(q, k, v)], [v], 1e-5)


def test_one_head_and_masks_of_every_form():
    q, k, v = (x[:, 0] for x in qkv(2, 1))
    mask = torch.rand(23) < 0.7
    layer = LocalAttention(4, position=RotaryEmbedding(8))
    out = layer(q, k, v, mask=mask)
    assert out.shape == q.shape
    for form in (mask[None], mask.expand(2, -1)):
        close([layer(q[:, None], k[:, None], v[:, None], mask=form)[:, 0]], [out], 1e-12)


def encodings():
    yield from (
        NoPE(),
        RotaryEmbedding(8),
        RotaryEmbedding(4, layout="half"),
        XPos(8, scale_base=5),
        RotaryValueEmbedding(8),
        GrowingRotaryEmbedding(8, scaling=YaRN(2.0, 8)),
        GrowingRotaryEmbedding(8, scaling=DynamicNTK(2.0, 8), length=30),
    )
    yield from (
        ALiBi(4),
        T5Bias(4),
        Shaw(8, max_distance=3),
        TransformerXL(4, 8),
        DeBERTa(4, 8, max_distance=3),
    )


@pytest.mark.parametrize("position", list(encodings()), ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("options", [{}, {"exact": False}, {"look_backward": 2}])
def test_every_encoding_equals_its_dense_form(position, causal, options, chunks):
    """The hooks once over the whole sequence, and attention with a mask; in blocks they must give the same."""
    if position.query_block and not causal:
        with pytest.raises(ValueError, match="causal"):
            LocalAttention(7, causal=causal, position=position)
        return
    q, k, v = qkv(2, 4, 2, count=43)
    position, at = position.double(), torch.arange(43)
    window = dict(window=7, causal=causal, **options)

    def whole(q, k, v):
        q, k, v = position.rotate(q, k, v, at)
        q, k = position.relate(q, k, at, at)
        bias = position.bias(q, k, at, at)
        scores = q @ k.repeat_interleave(2, 1).mT / 8**0.5 + (0 if bias is None else bias)
        allowed = torch.tensor([[sees(i, j, **window) for j in range(43)] for i in range(43)])
        weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
        return position.unrotate(weights @ v.repeat_interleave(2, 1), at)

    parameters = list(position.parameters())

    def run(f):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        out = f(*inputs)
        return [out, *torch.autograd.grad(out.square().sum(), [*inputs, *parameters], allow_unused=True)]

    pairs = zip(run(LocalAttention(**window, position=position)), run(whole), strict=True)
    close(*zip(*(pair for pair in pairs if pair[1] is not None), strict=True), 1e-12)


@pytest.mark.parametrize("causal", [True, False])
def test_only_distances_count(causal):
    q, k, v = qkv(count=50)
    layer = LocalAttention(6, causal=causal, position=RotaryEmbedding(8))
    close([layer(q, k, v, positions=torch.arange(50) + 1_234)], [layer(q, k, v)], 1e-12)
    rows = torch.stack((torch.arange(50), torch.arange(50) * 2))
    both = layer(q, k, v, positions=rows)
    for row in range(2):
        alone = layer(q[row : row + 1], k[row : row + 1], v[row : row + 1], positions=rows[row])
        close([both[row : row + 1]], [alone], 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_xpos_at_a_million(dtype):
    q, k, v = qkv(1, 2, count=300, dtype=dtype)
    layer = LocalAttention(100, position=XPos(8, scale_base=4))  # fp16 reaches 35 tokens
    far, near = (layer(q, k, v, positions=torch.arange(300) + start) for start in (1_000_000, 0))
    exact = layer(*(x.double() for x in (q, k, v)))
    error = (near - exact).abs().max()
    assert far.isfinite().all()
    assert (far - exact).abs().max() <= 2 * error + 1e-5


CACHED = [
    {},
    {"inclusive": True},
    {"exact": False},
    {"exact": False, "look_backward": 2},
    {"look_backward": 2, "scale": 0.2},
    {"look_backward": 0},
    {"shared_qk": True},
    {"position": RotaryEmbedding(8)},
    {"position": XPos(8, scale_base=3)},
    {"position": XPos(8, scale_base=3), "exact": False},
    {"position": ALiBi(4)},
    {"position": RotaryEmbedding(8, scaling=DynamicNTK(2.0, 8))},
    {"position": RotaryEmbedding(8, scaling=LongRoPE([1.0] * 4, [4.0] * 4, 8))},
    {"position": RotaryValueEmbedding(8), "shared_qk": True},
]


@pytest.mark.parametrize("options", CACHED, ids=str)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_cached_decode_equals_the_full_pass_at_every_split(options, masked, biased):
    q, k, v = qkv(2, 4, 2, count=19)
    layer = LocalAttention(4, **options).double()
    mask = torch.rand(2, 19) < 0.7 if masked else None
    bias = torch.randn(4, 4, layer.window.blocks * 4).double() if biased else None
    full = layer(q, k, v, mask=mask, bias=bias)
    splits = [[n] + [1] * (19 - n) for n in range(1, 20)] + [[5, 9, 5], [1, 17, 1], [4, 4, 8, 3]]
    for split in splits:
        cache, out, start = layer.new_cache(19), [], 0
        for count in split:
            part = [x[:, :, start : start + count] for x in (q, k, v)]
            rows = None if mask is None else mask[:, start : start + count]
            out.append(layer(*part, mask=rows, bias=bias, cache=cache))
            start += count
        close([torch.cat(out, dim=2)], [full], 1e-12)
        assert cache.length == 19


@pytest.mark.parametrize(
    "scaling", [DynamicNTK(2.0, 8), LongRoPE([1.0] * 4, [4.0] * 4, 8)], ids=lambda s: type(s).__name__
)
def test_an_unlimited_cache_is_refused_where_the_length_sets_the_frequencies(scaling):
    q, k, v = qkv(count=19)
    layer = LocalAttention(4, position=RotaryEmbedding(8, scaling=scaling))
    message = f"^capacity must be given for {type(scaling).__name__}.* got None$"
    with pytest.raises(ValueError, match=message):
        layer.new_cache()
    with pytest.raises(ValueError, match=message):
        layer(q, k, v, cache=LocalCache(layer.window))
    for open_ended in (
        RotaryEmbedding(8, scaling=scaling, length=19),
        RotaryEmbedding(8, scaling=YaRN(2.0, 8)),
    ):
        layer = LocalAttention(4, position=open_ended)
        cache, full = layer.new_cache(), layer(q, k, v)
        parts = [layer(*(x[:, :, i : i + 1] for x in (q, k, v)), cache=cache) for i in range(19)]
        close([torch.cat(parts, dim=2)], [full], 1e-12)


@pytest.mark.parametrize("scaling", [DynamicNTK(2.0, 8), LongRoPE([1.0] * 4, [4.0] * 4, 8)])
def test_frequencies_that_grow_with_all_the_keys_are_refused_in_a_window(scaling):
    position = GrowingRotaryEmbedding(8, scaling=scaling)
    message = (
        f"^length must be given to a GrowingRotaryEmbedding.* {type(scaling).__name__} counts, got None$"
    )
    with pytest.raises(ValueError, match=message):
        LocalAttention(4, position=position)
    with pytest.raises(ValueError, match=message):
        local_attention(*qkv(count=19), window=4, position=position)


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 11), ({"inclusive": True}, 12), ({"exact": False}, 17)],
    ids=["exact", "inclusive", "block"],
)
def test_a_cache_holds_no_more_than_the_window(options, most):
    layer, held = LocalAttention(6, look_backward=2, **options), []
    cache = layer.new_cache()
    for count in [50] + [1] * 40 + [7, 30]:
        x = torch.randn(1, 1, count, 4)
        layer(x, x, x, cache=cache)
        held.append(cache._held["k"].untyped_storage().nbytes() // 16)
    assert max(held) == most
    assert cache.length == 127


def test_a_refused_append_leaves_the_cache_as_it_was():
    layer, (q, k, v) = LocalAttention(4), qkv(1, 1, count=6)
    cache = layer.new_cache(9)
    first = layer(q, k, v, cache=cache)
    for bad, name in (
        (qkv(1, 1, count=4), "capacity"),
        (qkv(2, 1, count=1), "^k, tokens first, must be"),
        ([x.float() for x in qkv(1, 1, count=1)], "^k, tokens first, must be"),
    ):
        with pytest.raises(ValueError, match=name):
            layer(*bad, cache=cache)
    rest = qkv(1, 1, count=3, seed=1)
    second = layer(*rest, cache=cache)
    full = layer(*(torch.cat(pair, dim=2) for pair in zip((q, k, v), rest, strict=True)))
    close([torch.cat((first, second), dim=2)], [full], 1e-12)


@pytest.mark.slow
def test_compiles_whole():
    torch._dynamo.reset()
    layer = LocalAttention(16, position=RotaryEmbedding(8))
    compiled, inputs = (
        torch.compile(layer, backend="aot_eager", fullgraph=True),
        qkv(count=100, dtype=torch.float32),
    )
    close(gradients(compiled, inputs), gradients(layer, inputs), 1e-5)


LONG = """
import resource, torch
from rope_lab import LocalAttention
q, k, v = (torch.randn(1, 8, 65_536, 64, requires_grad=True) for _ in range(3))
LocalAttention(256)(q, k, v).sum().backward()
assert all(x.grad.isfinite().all() for x in (q, k, v))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if __import__("sys").platform == "darwin" else 1024))
"""


@pytest.mark.slow
def test_65536_tokens_forward_and_backward_in_a_fresh_process_under_4_gb():
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4e9


def test_bad_tensors_are_named():
    q, k, v = qkv()
    layer = LocalAttention(4)
    for bad, message in (
        ((q[0], k, v), "q, k and v must have shape"),
        ((q, k[:1], v[:1]), "k and v must have one shape"),
        ((q, k, v[:, :, 1:]), "k and v must have one shape"),
        ((q, k[..., :4], v), "k and v must have one shape"),
        ((q, k[:, :3], v[:, :3]), "k and v must have a number of heads"),
        ((q[:, :3], k, v), "k and v must have a number of heads"),
        ((q, k[:, :, 1:], v[:, :, 1:]), "q must not be longer"),
        ((q, k.float(), v), "q, k and v must be real"),
        ((q.long(), k.long(), v.long()), "q, k and v must be real"),
        ((q[:, :, 1:], k, v), "q must be as long as k"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(*bad)
    with pytest.raises(ValueError, match="cache must be made for"):
        layer(q, k, v, cache=LocalAttention(5).new_cache())
    with pytest.raises(ValueError, match="causal must be True"):
        LocalAttention(4, causal=False).new_cache()
    with pytest.raises(ValueError, match=r"^capacity must be a positive integer, got 0$"):
        LocalCache(Window(4), 0)
    with pytest.raises(ValueError, match="dim must be at most"):
        LocalAttention(4, position=RotaryEmbedding(16))(q, k, v)
