"""Prefill, then decode: whatever the split, the cache gives what one pass over all tokens gives."""

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from rope_lab import KVCache, MultiHeadAttention, PositionEncoding, RoFormer, RoFormerConfig, RotaryEmbedding

N, V = 7, 11
ENCODINGS = {
    "interleaved": {"position": "rope"},
    "half": {"position": "rope", "layout": "half"},
    "partial": {"position": "rope", "rotary_dim": 4, "layout": "half"},
    "sinusoidal": {"position": "sinusoidal"},
    "learned": {"position": "learned"},
    "none": {"position": "none"},
}
SEGMENTS = {
    "one": None,
    "left padding": torch.tensor([[-1, -1, -1, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0, 0]]),
    "packed": torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, -1]]),
}
# Every prompt length with every token after it by itself; every cut in two; several chunks of several tokens.
SPLITS = [
    *([prompt] * bool(prompt) + [1] * (N - prompt) for prompt in range(N + 1)),
    *([first, N - first] for first in range(1, N - 1)),
    [2, 2, 3],
    [3, 1, 2, 1],
    [1, 0, 6],
]


def model(dtype: torch.dtype, **fields) -> RoFormer:
    torch.manual_seed(0)
    config = {"context": N, "dim": 32, "depth": 2, "heads": 4, **fields}
    net = RoFormer(RoFormerConfig(V, **config))
    for weight in net.parameters():
        if weight.ndim == 2:  # as after training: attention that looks, logits of size 1
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return net.to(dtype)


def ids(batch: int = 2) -> Tensor:
    return torch.randint(V, (batch, N), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def in_chunks(
    model: RoFormer, tokens: Tensor, split: list[int], capacity: int = N, **along: Tensor | None
) -> Tensor:
    """Logits from one cache fed chunk by chunk; `along` holds what has one entry a token."""
    cache, out = model.new_cache(capacity), []
    for start, end in pairwise([sum(split[:i]) for i in range(len(split) + 1)]):
        given = {name: t if t is None else t[..., start:end] for name, t in along.items()}
        out.append(model(tokens[:, start:end], cache=cache, **given))
        assert [layer.length for layer in cache] == [end] * len(cache)
    return torch.cat(out, dim=1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_split_equals_the_full_pass(encoding, kv_heads, dtype, tolerance):
    tokens = ids()
    for window, (name, segments) in product((None, 1, 3), SEGMENTS.items()):
        net = model(dtype, kv_heads=kv_heads, window=window, **ENCODINGS[encoding])
        with torch.no_grad():
            full = net(tokens, segments=segments)
        assert full.std() > 0.5  # far above the tolerance
        for split in SPLITS if window == 3 else SPLITS[:3]:
            out = in_chunks(net, tokens, split, segments=segments)
            message = f"window={window}, {name}, {split}: {(out - full).abs().max()}"
            torch.testing.assert_close(out, full, rtol=0, atol=tolerance, msg=message)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_positions_of_each_row_and_spare_capacity(encoding):
    net, tokens = model(torch.float64, **ENCODINGS[encoding]), ids()
    segments = SEGMENTS["left padding"]
    positions = segments.add(1).cumsum(-1).sub(1).clamp(min=0)  # 0 at the first real token of each row
    full = net(tokens, positions=positions, segments=segments)
    for split in SPLITS:
        out = in_chunks(net, tokens, split, capacity=3 * N, positions=positions, segments=segments)
        torch.testing.assert_close(out, full, rtol=0, atol=1e-12)
    for row, padding in enumerate((3, 1)):  # and each row is what it gives without padding
        alone = net(tokens[row : row + 1, padding:])
        torch.testing.assert_close(full[row : row + 1, padding:], alone, rtol=0, atol=1e-12)


def test_a_prompt_with_padding_goes_on_without_a_mask():
    net, tokens = model(torch.float64), ids()
    segments = SEGMENTS["left padding"]
    full, cache = net(tokens, segments=segments), net.new_cache(N)
    net(tokens[:, :4], mask=segments[:, :4] >= 0, cache=cache)
    torch.testing.assert_close(net(tokens[:, 4:], cache=cache), full[:, 4:], rtol=0, atol=1e-12)


class ValuesAndBias(PositionEncoding):
    """Turns values there and back, and biases scores by distance."""

    def __init__(self) -> None:
        super().__init__()
        self.rope = RotaryEmbedding(8)

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        self.lengths = {*getattr(self, "lengths", ()), length}
        return q, k, self.rope(v, v, positions=positions)[0]

    def relate(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.rope(q, q, positions=q_positions)[0], self.rope(k, k, positions=k_positions)[0]

    def unrotate(self, out: Tensor, positions: Tensor) -> Tensor:
        return self.rope(out, out, positions=-positions)[0]

    def bias(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        return -0.3 * (q_positions[:, None] - k_positions).to(q.dtype).abs()[None, None]


@pytest.mark.parametrize("query_block", [None, 1, 2, 5])
def test_hooks_see_the_positions_of_the_cache(query_block):
    torch.manual_seed(0)
    encoding = ValuesAndBias()
    layer = MultiHeadAttention(32, 4, kv_heads=2, position=encoding, window=4).double()
    x = torch.randn(2, N, 32, dtype=torch.float64)
    full = layer(x)
    encoding.query_block, encoding.lengths = query_block, set()
    for split in SPLITS:
        cache = KVCache(9)
        out = torch.cat([layer(part, cache=cache) for part in x.split(split, dim=1)], dim=1)
        torch.testing.assert_close(out, full, rtol=0, atol=1e-12)
    assert encoding.lengths == {9}  # a scaling by length sees the same length at every step


def held(cache: list[KVCache]) -> list[tuple]:
    return [
        (c.length, c._numbered or c._padded, {name: t.clone() for name, t in c._held.items()}) for c in cache
    ]


def test_a_refused_call_leaves_the_cache_as_it_was():
    net, tokens = model(torch.float64, position="learned", context=20), ids()
    cache = net.new_cache(N)
    net(tokens[:, :4], cache=cache)
    before = held(cache)
    row_positions = torch.arange(4, 6).expand(2, 2)
    refused = [
        (net, {"ids": tokens}, r"capacity is 7 tokens, got 11: .*"),
        (net, {"ids": ids(3)[:, 4:6]}, r"k, tokens first, must be \(2, 2, 4, 8\) torch.float64 as held.*"),
        (net, {"ids": ids(1)[:, 4:6]}, r"k, tokens first, .* got \(2, 1, 4, 8\) torch.float64"),
        (
            net,
            {"ids": tokens[:, 4:6], "positions": row_positions},
            r"positions, tokens first, must be \(2,\).*",
        ),
        (net, {"ids": tokens[:, 4:6], "positions": torch.arange(3)}, "positions .*"),
        (net, {"ids": tokens[:, 4:6], "positions": torch.arange(19, 21)}, "positions must lie in 0..19.*"),
        (net, {"ids": tokens[:, 4:6], "segments": torch.zeros(2, 3).long()}, "segments must have shape .*"),
        (
            model(torch.float32, position="learned", context=20),
            {"ids": tokens[:, 4:6]},
            r"k, tokens first, .* torch.float32",
        ),
    ]
    for other, arguments, message in refused:
        with pytest.raises(ValueError, match=f"^{message}$"):
            other(cache=cache, **arguments)
        for (length, segmented, tensors), (_, _, old) in zip(held(cache), before, strict=True):
            assert (length, segmented) == (4, False)
            assert all(torch.equal(tensors[name], old[name]) for name in old), message
    out = net(tokens[:, 4:], cache=cache)
    torch.testing.assert_close(out, net(tokens)[:, 4:], rtol=0, atol=1e-12)


def test_a_refused_append_of_segments_leaves_no_trace():
    cache, k = KVCache(4), torch.randn(2, 3, 2, 8)
    cache.append(k, k, torch.arange(2))
    for new, segments in (
        (torch.randn(2, 3, 3, 8), torch.ones(2, 3)),
        (torch.randn(1, 3, 2, 8), torch.ones(1, 2)),
    ):
        with pytest.raises(ValueError, match=r"capacity|k, tokens first"):
            cache.append(new, new, torch.arange(new.shape[2]), segments.long())
    with pytest.raises(ValueError, match=r"^v, tokens first"):
        cache.append(k, k[:, :, :1], torch.arange(2, 4))
    keys, values, positions, segments = cache.append(k[..., :1, :], k[..., 1:, :], torch.tensor([2]))
    assert segments is None
    assert positions.tolist() == [0, 1, 2]
    assert torch.equal(keys, torch.cat((k, k[..., :1, :]), dim=-2))
    assert torch.equal(values, torch.cat((k, k[..., 1:, :]), dim=-2))


def test_a_first_append_that_is_refused_takes_no_shape():
    cache = KVCache(4)
    with pytest.raises(ValueError, match="capacity is 4 tokens, got 5"):
        cache.append(*[torch.randn(3, 2, 5, 8)] * 2, torch.arange(5))
    k = torch.randn(1, 2, 3, 8)
    assert torch.equal(cache.append(k, k, torch.arange(3))[0], k)


@pytest.mark.parametrize("capacity", [0, -1, 2.5])
def test_a_cache_needs_room(capacity):
    with pytest.raises(ValueError, match=f"^capacity must be a positive integer, got {capacity}$"):
        KVCache(capacity)


def test_a_layer_that_looks_ahead_takes_no_cache():
    with pytest.raises(ValueError, match=r"^cache must be None where causal=False"):
        MultiHeadAttention(16, 2, causal=False)(torch.randn(1, 2, 16), cache=KVCache(4))


def test_two_caches_do_not_meet():
    net, tokens = model(torch.float64), ids()
    one, other = net.new_cache(N), net.new_cache(N)
    full = net(tokens)
    out = []
    for n in range(N):  # interleaved calls, of different rows
        out.append(net(tokens[:1, n : n + 1], cache=one))
        net(tokens[1:, n : n + 1], cache=other)
    torch.testing.assert_close(torch.cat(out, dim=1), full[:1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_decodes_and_stays_half(dtype):
    net, tokens = model(dtype), ids()
    full, out = net(tokens), in_chunks(net, tokens, [3, 1, 1, 2])
    assert out.dtype == full.dtype == dtype
    torch.testing.assert_close(out, full, rtol=0, atol=8 * torch.finfo(dtype).eps * full.abs().max().item())
