"""Details of local attention that a user would miss."""

from __future__ import annotations

import pytest
import torch
from windows import KINDS, close, dense, gradients, qkv

from rope_lab import LocalAttention, LocalConfig, LocalTransformer
from rope_lab.encodings import ALiBi
from rope_lab.local import bands, local_attention


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("options", [{}, {"exact": False}, {"exact": False, "look_backward": 2}], ids=str)
@pytest.mark.parametrize("hidden", ["nothing", "segments", "mask"])
@pytest.mark.parametrize("count", [230, 270], ids=["some windows cut short", "every window whole"])
def test_the_last_queries_of_a_long_text_wherever_it_begins(options, first, hidden, count):
    """Fewer queries than keys, in many blocks, whose pattern begins anywhere; texts that change between the blocks."""
    inputs, at = qkv(1, 2, count=count, queries=192), torch.arange(count)
    rest = {"segments": {"segments": at[None] // 50}, "mask": {"mask": at[None] % 7 != 3}}.get(hidden, {})
    window = dict(window=4, first=first, **options)
    close([local_attention(*inputs, **rest, **window)], [dense(*inputs, **rest, **window)], 1e-12)


def test_the_blocks_of_a_chunk_begin_where_windows_begin():
    """Past and window are such that the first whole window begins inside a block, and no block holds spare keys."""
    inputs = qkv(1, 2, count=230, queries=192)
    window = {"window": 64, "exact": False, "first": 26}
    close([local_attention(*inputs, **window)], [dense(*inputs, **window)], 1e-12)


def test_the_bias_of_the_window_and_that_of_the_encoding_are_both_added():
    q, k, v = qkv(1, 2, count=40)
    bias, at = torch.randn(2, 4, 8).double(), torch.arange(40)
    both = local_attention(q, k, v, window=4, bias=bias, position=ALiBi(2))
    scores = q @ k.mT * 8**-0.5 + ALiBi(2).bias(q, k, at, at)
    column = at - (at[:, None] // 4 - 1) * 4
    scores = scores + bias[:, (at % 4)[:, None], column.clamp(0, 7)]
    back = at[:, None] - at
    wanted = scores.masked_fill((back < 0) | (back >= 4), -torch.inf).softmax(-1) @ v
    close([both], [wanted], 1e-12)
    assert (both - local_attention(q, k, v, window=4, bias=bias)).abs().max() > 1e-3


@pytest.mark.parametrize("exact", [True, False])
def test_dropout_of_attention_acts_in_training_only(exact):
    torch.manual_seed(0)
    fields = {"dim": 32, "depth": 1, "heads": 4, "window": 4, "exact": exact}
    net, ids = LocalTransformer(LocalConfig(11, attention_dropout=0.5, **fields)), torch.randint(11, (2, 30))
    plain = LocalTransformer(LocalConfig(11, **fields))
    plain.load_state_dict(net.state_dict())
    assert not torch.equal(net(ids), net(ids))
    assert torch.equal(net.eval()(ids), plain(ids))


@pytest.mark.parametrize("shape", ["(B, N)", "one head"])
def test_packed_texts_in_the_layer_and_its_cache(shape):
    q, k, v = qkv(2, 1, count=19)
    if shape == "one head":
        q, k, v = (x[:, 0] for x in (q, k, v))
    segments = torch.tensor([[0] * 8 + [1] * 8 + [-1] * 3, [5] * 3 + [2] * 16])
    layer = LocalAttention(4, position=ALiBi(1))
    out = layer(q, k, v, segments=segments)
    for row in range(2):
        for text in segments[row].unique():
            mine = segments[row] == text
            alone = layer(*(x[row : row + 1, ..., mine, :] for x in (q, k, v)))
            close([out[row : row + 1, ..., mine, :]], [alone * (text >= 0)], 1e-12)
    cache, parts = layer.new_cache(), []
    for part in torch.arange(19).split([6, 1, 1, 11]):
        parts.append(layer(*(x[..., part, :] for x in (q, k, v)), segments=segments[:, part], cache=cache))
    close([torch.cat(parts, dim=-2)], [out], 1e-12)
    with pytest.raises(ValueError, match=r"^segments must be given in every call"):
        layer(*(x[..., :1, :] for x in (q, k, v)), cache=cache)


def test_a_cache_that_counts_tokens_is_not_one_that_counts_padding():
    q, k, v = qkv(2, 4, count=3)
    layer, mask = LocalAttention(4), torch.ones(3).bool()
    from rope_lab import KVCache, LocalCache

    cache = LocalCache(layer.window)
    layer(q, k, v, cache=cache)  # there is no padding to count
    with pytest.raises(ValueError, match=r"^cache must count padding"):
        layer(q, k, v, mask=mask, cache=cache)
    with pytest.raises(ValueError, match=r"^cache must be a LocalCache, as new_cache makes it, got KVCache$"):
        layer(q, k, v, cache=KVCache(9))
    with pytest.raises(ValueError, match=r"^mask must be None where segments are given"):
        layer(q, k, v, mask=mask, segments=torch.zeros(2, 3).long())
    with pytest.raises(ValueError, match=r"^spare must be an integer of at least 0, got -1$"):
        layer.new_cache(spare=-1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("window", "count", "queries", "first"), [(64, 900, 900, 0), (40, 333, 250, 5)])
def test_the_band_is_cut_into_pieces_that_repeat(kind, causal, window, count, queries, first, monkeypatch):
    """Groups of heads, ends of the text, and a chunk that ends inside; counted as less work than one piece."""
    monkeypatch.setattr(bands, "_CALL", -(2**40))
    monkeypatch.setattr(bands, "_CHUNK_BYTES", (2**13, 2**15))
    inputs = qkv(2, 4, 2, count, queries=queries)
    options = dict(window=window, causal=causal, first=first, **KINDS[kind])
    ours, theirs = (gradients(lambda *x, f=f: f(*x, **options), inputs) for f in (local_attention, dense))
    close(ours, theirs, 1e-12)


def test_under_autocast_the_result_is_of_half_precision():
    inputs = qkv(count=200, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = local_attention(*inputs, window=16)
    assert out.dtype == torch.bfloat16
    close([out.float()], [local_attention(*inputs, window=16)], 0.05)


def test_memory_is_that_of_the_result():
    """A text through the kernel: what is alive at once, beyond what is returned, does not grow with the length."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made = out[0] if isinstance(out, tuple) else out
            if isinstance(made, torch.Tensor) and func is not torch.ops.aten.empty_like.default:
                sizes.append(made.untyped_storage().nbytes())
            return out

    most = []
    for count in (2048, 4096):
        sizes, inputs = [], [torch.randn(1, 2, count, 32) for _ in range(3)]
        own = {x.untyped_storage().nbytes() for x in inputs}
        with Largest():
            local_attention(*inputs, window=64)
        most.append(max(size for size in sizes if size not in own))
    assert most[0] == most[1] <= 2 * bands._CHUNK_BYTES[0] * torch.get_num_threads()
