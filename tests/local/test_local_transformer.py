"""LocalTransformer: equal to a dense model, to itself when cached, and blind to what its windows leave out."""

import pytest
import torch
import torch.nn.functional as F

from rope_lab import (
    KVCache,
    LocalCache,
    LocalConfig,
    LocalTransformer,
    PositionEncoding,
    RoFormer,
    RoFormerConfig,
    RotaryEmbedding,
)
from rope_lab.encodings import ALiBi, DynamicNTK, LongRoPE, XPos
from rope_lab.local import LocalSelfAttention, Window

SMALL = {"vocab_size": 11, "context": 24, "dim": 32, "depth": 3, "heads": 4, "window": 4}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def model(dtype=torch.float64, **fields):
    torch.manual_seed(0)
    position = fields.pop("position") if isinstance(fields.get("position"), PositionEncoding) else None
    net = LocalTransformer(LocalConfig(**(SMALL | fields)), position).to(dtype).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # larger than at the start, so that attention picks and chooses
            parameter.mul_(4)
    return net


def ids(batch=2, count=19, seed=1):
    return torch.randint(0, 11, (batch, count), generator=torch.Generator().manual_seed(seed))


def close(a, b, tolerance):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "fields", [{}, {"causal": False}, {"kv_heads": 2, "window": 7}, {"position": "learned"}], ids=str
)
def test_equals_a_roformer_with_the_same_window(fields):
    net, tokens = model(**fields), ids()
    dense = RoFormer(RoFormerConfig(**(SMALL | fields))).double().eval()
    dense.load_state_dict(net.state_dict())
    close(net(tokens), dense(tokens), 1e-12)
    ours, theirs = (
        torch.autograd.grad(run(tokens).square().mean(), list(run.parameters())) for run in (net, dense)
    )
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, 1e-12)


def test_all_layers_global_is_a_roformer():
    net, tokens = model(global_layers=3), ids()
    dense = RoFormer(RoFormerConfig(**(SMALL | {"window": None}))).double().eval()
    dense.load_state_dict(net.state_dict())
    close(net(tokens), dense(tokens), 1e-12)


@pytest.mark.parametrize(
    ("fields", "back", "ahead"),
    [
        ({}, 9, 0),
        ({"look_backward": 2, "depth": 2}, 14, 0),
        ({"exact": False, "depth": 1}, 7, 0),
        ({"causal": False, "depth": 2}, 6, 6),
        ({"global_layers": 1}, 31, 0),
        ({"global_layers": 1, "causal": False}, 31, 9),
    ],
    ids=str,
)
def test_a_token_is_reached_by_what_its_layers_see_and_by_nothing_else(fields, back, ahead):
    """l layers of window W reach l·(W − 1) tokens back; the query at 31 ends its block of 4."""
    net, at = model(**({"context": 64} | fields)), 31
    embedded = net.embedding(ids(1, 41)).detach().requires_grad_()
    net.embedding.register_forward_hook(lambda *_: embedded)
    (grad,) = torch.autograd.grad(net(ids(1, 41))[0, at].square().sum(), embedded)
    reached = grad[0].abs().sum(-1).nonzero().flatten()
    assert reached.amin() == at - back
    assert reached.amax() == at + ahead


CACHED = [
    {},
    {"exact": False, "look_backward": 2},
    {"global_layers": 1, "kv_heads": 2},
    {"position": "learned", "global_layers": 3},
    {"position": XPos(8, scale_base=3), "global_layers": 1},
    {"position": ALiBi(4), "window": 1},
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("fields", CACHED, ids=str)
def test_cached_decode_equals_the_full_pass_at_every_split(fields, dtype):
    net, tokens = model(dtype, **fields), ids()
    full = net(tokens)
    for split in range(1, 20):
        cache = net.new_cache(19)
        parts = [net(tokens[:, :split], cache=cache)]
        parts += [net(token, cache=cache) for token in tokens[:, split:].split(1, dim=1)]
        close(torch.cat(parts, dim=1), full, TOLERANCE[dtype])
    cache = net.new_cache(19)
    parts = [net(part, cache=cache) for part in tokens.split(5, dim=1)]
    close(torch.cat(parts, dim=1), full, TOLERANCE[dtype])


@pytest.mark.parametrize(
    "scaling", [DynamicNTK(2.0, 8), LongRoPE([1.0] * 4, [4.0] * 4, 8)], ids=lambda s: type(s).__name__
)
def test_scalings_that_depend_on_the_length_need_it_fixed(scaling):
    """By the capacity of the cache or by the encoding itself; then every split is exact."""
    torch.manual_seed(0)
    x = torch.randn(2, 19, 32).double()
    for fixed, capacity in ((None, 19), (19, None)):
        position = RotaryEmbedding(8, scaling=scaling, length=fixed)
        layer = LocalSelfAttention(32, 4, window=Window(8), position=position).double()
        full = layer(x)
        for split in range(1, 20):
            cache = LocalCache(Window(8), capacity)
            parts = [layer(part, cache=cache) for part in x.split([split] + [1] * (19 - split), dim=1)]
            close(torch.cat(parts, dim=1), full, 1e-12)
    layer.position.length = None
    cache = LocalCache(Window(8))
    with pytest.raises(ValueError, match=f"^capacity must be given for {type(scaling).__name__}.* got None$"):
        layer(x, cache=cache)
    assert cache.length == 0


def test_the_cache_is_bounded_by_the_window_where_the_layer_is():
    net, tokens = model(global_layers=1), ids(1, 60)
    cache = net.new_cache(60)
    assert [type(layer) for layer in cache] == [LocalCache, LocalCache, KVCache]
    with torch.no_grad():
        for token in tokens.split(1, dim=1):
            net(token, cache=cache)
    row = 4 * 8 * 8  # bytes of one token's keys
    assert [layer._held["k"].untyped_storage().nbytes() // row for layer in cache] == [3, 3, 60]
    with pytest.raises(ValueError, match="capacity"):
        net(tokens[:, :1], cache=cache)


def test_loss_is_that_of_the_next_token():
    net, tokens = model(), ids()
    logits = net(tokens)
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    close(net(tokens, return_loss=True).double(), expected, 1e-5)


@pytest.mark.parametrize("fields", [{}, {"exact": False, "global_layers": 1}], ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_neither_loss_nor_gradient(fields, side):
    net, tokens = model(**fields), ids(1, 12)
    padded, mask = F.pad(tokens, (0, 4)), torch.arange(16)[None] < 12
    if side == "left":
        if not fields.get("exact", True):  # blocks are counted from the first token, padding too
            padded, mask = F.pad(tokens, (4, 0)), torch.arange(16)[None] >= 4
        else:
            padded, mask = (
                F.pad(tokens, (3, 1)),
                (torch.arange(16)[None] >= 3) & (torch.arange(16)[None] < 15),
            )

    def run(*args, **options):
        net.zero_grad()
        loss = net(*args, return_loss=True, **options)
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in net.parameters())]

    for a, b in zip(run(padded, mask=mask), run(tokens), strict=True):
        assert a.isfinite().all()
        close(a, b, 1e-5)
    close(net(padded, mask=mask)[mask], net(tokens)[0], 1e-12)


def test_packed_documents_stay_apart_and_do_not_predict_each_other():
    net, a, b = model(), ids(1, 9), ids(1, 7, seed=2)
    packed, segments = torch.cat((a, b), dim=1), torch.tensor([[0] * 9 + [1] * 7])
    close(net(packed, segments=segments), torch.cat((net(a), net(b)), dim=1), 1e-12)
    expected = (8 * net(a, return_loss=True) + 6 * net(b, return_loss=True)) / 14
    close(net(packed, segments=segments, return_loss=True), expected, 1e-5)


@pytest.mark.parametrize("fields", [{}, {"exact": False}, {"global_layers": 2}], ids=str)
def test_generation_is_the_same_with_and_without_a_cache(fields):
    net, prime = model(**fields), ids(3, 5)
    for options in ({}, {"temperature": 0}, {"top_k": 3, "temperature": 0.7}, {"top_p": 0.8}):
        drawn = net.generate(prime, 30, seed=4, **options)  # past the context it was made for
        assert drawn.shape == (3, 30)
        assert drawn.equal(net.generate(prime, 30, seed=4, cached=False, **options))
    assert not net.generate(prime, 30, seed=4).equal(net.generate(prime, 30, seed=5))


def test_the_likeliest_token_is_drawn_at_temperature_0_and_at_top_k_1():
    net, tokens = model().train(), ids(2, 5)
    drawn = net.generate(tokens, 12, temperature=0)
    assert net.training
    assert drawn.equal(net.generate(tokens, 12, top_k=1))
    net.eval()
    for step in range(12):
        likeliest = net(torch.cat((tokens, drawn[:, :step]), dim=1))[:, -1].argmax(-1)
        assert drawn[:, step].equal(likeliest)
    assert net.generate(tokens, 0).shape == (2, 0)
    net(torch.cat((tokens, drawn), dim=1)).sum().backward()  # what was drawn can be trained on


def test_learns_to_copy_within_its_window():
    torch.manual_seed(0)
    net = LocalTransformer(LocalConfig(**(SMALL | {"depth": 1, "window": 8})))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    tokens = ids(16, 4).repeat(1, 6)  # each token repeats the one 4 before it
    for _ in range(60):
        optimizer.zero_grad()
        loss = net(tokens, return_loss=True)
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * torch.tensor(11.0).log() * 4 / 23 + 0.6  # the first 4 are chance


def test_save_and_load(tmp_path):
    net, tokens = model(torch.float32, global_layers=1, exact=False, look_backward=2), ids()
    net.save(tmp_path / "model.safetensors")
    loaded = LocalTransformer.load(tmp_path / "model.safetensors")
    assert loaded.config == net.config
    assert loaded.eval()(tokens).equal(net(tokens))
    with pytest.raises(ValueError, match=r"^path must"):
        RoFormer.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"window": None}, "window"),
        ({"window": 0}, "window"),
        ({"global_layers": 4}, "global_layers"),
        ({"global_layers": -1}, "global_layers"),
        ({"look_backward": -1}, "look_backward"),
        ({"look_forward": 1}, "look_forward"),
        ({"heads": 5}, "heads"),
    ],
    ids=str,
)
def test_bad_fields_are_named(fields, name):
    with pytest.raises(ValueError, match=f"^{name} must"):
        LocalConfig(**(SMALL | fields))


def test_bad_input_is_named():
    net, tokens = model(), ids()
    real = torch.ones(2, 19, dtype=torch.bool)
    for options, name in (
        ({"mask": real.long()}, "mask must be boolean"),
        ({"mask": real[:, 1:]}, "mask"),
        ({"mask": real, "segments": real.long()}, "mask"),
        ({"mask": ~real, "return_loss": True}, "mask"),
        ({"cache": net.new_cache(19), "return_loss": True}, "return_loss"),
    ):
        with pytest.raises(ValueError, match=f"^{name}"):
            net(tokens, **options)
    with pytest.raises(ValueError, match=r"^ids must"):
        net(tokens[:, :1], return_loss=True)
    with pytest.raises(ValueError, match=r"^return_loss needs causal"):
        model(causal=False)(tokens, return_loss=True)
    with pytest.raises(ValueError, match=r"^generate needs causal"):
        model(causal=False).generate(tokens, 1)
    for options, name in (
        ({"prime": tokens[0]}, "prime"),
        ({"prime": tokens[:, :0]}, "prime"),
        ({"prime": tokens + 1}, "prime"),
        ({"prime": tokens - 1}, "prime"),
        ({"length": -1}, "length"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ValueError, match=f"^{name} must"):
            net.generate(**({"prime": tokens, "length": 3} | options))
    with pytest.raises(ValueError, match=r"^length must"):
        model(position="learned").generate(tokens, 10)
