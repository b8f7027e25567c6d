"""Latent attention: two forms, one result; a cache of latent vectors gives what one pass gives; bad input is named."""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rope_lab import (
    KVCache,
    LatentAttention,
    MultiHeadAttention,
    RotaryEmbedding,
    angles,
    frequencies,
    rotate,
)
from rope_lab.encodings import (
    ALiBi,
    GrowingRotaryEmbedding,
    LogN,
    QueryTemperature,
    RotaryValueEmbedding,
    SinusoidalEmbedding,
    XPos,
    YaRN,
)

B, N, C = 2, 7, 24
SHAPES: dict[str, dict[str, Any]] = {
    "all alike": {"latent_dim": 8, "position": RotaryEmbedding(4)},
    "latent queries": {"latent_dim": 6, "query_dim": 10, "position": RotaryEmbedding(6, layout="half")},
    "other values": {"latent_dim": 16, "head_dim": 4, "value_dim": 10, "position": RotaryEmbedding(2)},
    "partly turned": {"latent_dim": 8, "position": RotaryEmbedding(4), "shared_dim": 8, "scale": 0.7},
    "shared, not turned": {"latent_dim": 8, "shared_dim": 4},
    "nothing shared": {"latent_dim": 8},
    "one head": {"latent_dim": 30, "heads": 1, "head_dim": 6, "position": RotaryEmbedding(4)},
}
ROWS: dict[str, dict[str, Tensor]] = {
    "plain": {},
    "positions per row": {"positions": torch.tensor([[0, 1, 2, 3, 4, 5, 6], [50, 51, 52, 60, 61, 62, 63]])},
    "left padding": {"mask": torch.tensor([[False] * 3 + [True] * 4, [True] * 7])},
    "right padding": {"mask": torch.tensor([[True] * 4 + [False] * 3, [True] * 7])},
    "packed": {"segments": torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, -1]])},
}
SPLITS = [[1] * N, [3, *[1] * 4], [2, 2, 3], [1, 0, 6], [6, 1]]
every_shape = pytest.mark.parametrize("shape", SHAPES)


def layer(shape: str = "all alike", dtype: torch.dtype = torch.float64, **changes: Any) -> LatentAttention:
    torch.manual_seed(0)
    net = LatentAttention(C, **{"heads": 4, **SHAPES[shape], **changes})
    with torch.no_grad():
        for weight in net.parameters():  # scores of size 1, and a norm that is not the identity
            if weight.ndim == 2:
                torch.nn.init.normal_(weight, std=1.5 * weight.shape[1] ** -0.5)
            else:
                weight.uniform_(0.5, 1.5)
    return net.to(dtype)


def tokens(dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(B, N, C, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def by_loops(net: LatentAttention, x: Tensor, base: float = 10_000.0) -> Tensor:
    """Equations 37 to 47 of the paper, one row and one head at a time, with the half of them that is rotated apart."""
    out = []
    for row in x:
        mixed = net.down(row)
        latent, shared = net.norm(mixed[:, : net.latent_dim]), mixed[:, net.latent_dim :]
        turning = angles(torch.arange(len(row)), frequencies(net.shared_dim, base), dtype=x.dtype)
        q_all, kv_all = net.query(row), latent @ net.up.weight.T
        heads = []
        for h in range(net.heads):
            wide = net.head_dim + net.shared_dim
            q = q_all[:, h * wide : (h + 1) * wide]
            kv = kv_all[:, h * (net.head_dim + net.value_dim) : (h + 1) * (net.head_dim + net.value_dim)]
            scores = q[:, : net.head_dim] @ kv[:, : net.head_dim].T
            scores = scores + rotate(q[:, net.head_dim :], turning) @ rotate(shared, turning).T
            future = torch.ones(len(row), len(row), dtype=torch.bool).triu(1)
            weights = (scores / math.sqrt(wide)).masked_fill(future, -torch.inf).softmax(-1)
            heads.append(weights @ kv[:, net.head_dim :])
        out.append(torch.cat(heads, dim=-1) @ net.out.weight.T)
    return torch.stack(out)


@pytest.mark.parametrize("absorb", [False, True])
@pytest.mark.parametrize("changes", [{}, {"value_dim": 9, "head_dim": 5}])
def test_it_is_the_sum_written_out(absorb: bool, changes: dict[str, int]) -> None:
    net, x = layer(**changes), tokens()
    torch.testing.assert_close(net(x, absorb=absorb), by_loops(net, x), rtol=0, atol=1e-12)
    assert (by_loops(net, x) - by_loops(net, x, base=100.0)).abs().max() > 1e-3


@every_shape
@pytest.mark.parametrize("rows", ROWS)
def test_absorbed_and_expanded_agree_and_so_do_their_gradients(shape: str, rows: str) -> None:
    results = []
    for absorb in (False, True):
        net, x = layer(shape), tokens().requires_grad_()
        out = net(x, absorb=absorb, **ROWS[rows])
        out.square().sum().backward()
        results.append([out, x.grad, *(p.grad for p in net.parameters())])
    assert all(tensor.abs().max() > 1e-3 for tensor in results[0])
    torch.testing.assert_close(*results, rtol=0, atol=1e-10)


@every_shape
def test_every_split_equals_the_full_pass(shape: str) -> None:
    net, x = layer(shape), tokens()
    for (name, rows), split, absorb in product(ROWS.items(), SPLITS, (False, True, None)):
        with torch.no_grad():
            full = net(x, **rows)
            cache, out = net.new_cache(N + 2), []
            for start, end in pairwise([sum(split[:i]) for i in range(len(split) + 1)]):
                given = {key: t[..., start:end] for key, t in rows.items()}
                out.append(net(x[:, start:end], cache=cache, absorb=absorb, **given))
        assert cache.length == N
        message = f"{name}, {split}, absorb={absorb}"
        torch.testing.assert_close(torch.cat(out, 1), full, rtol=0, atol=1e-12, msg=message)


def test_a_cache_can_go_back_and_choose_rows() -> None:
    net, x = layer(), tokens()
    cache = net.new_cache(N)
    with torch.no_grad():
        full = net(x)
        net(x[:, :6], cache=cache)
        cache.crop(4)
        cache.select([1, 0])
        torch.testing.assert_close(net(x[[1, 0], 4:], cache=cache), full[[1, 0], 4:], rtol=0, atol=1e-12)


def test_padding_changes_nothing_and_a_query_that_sees_nothing_returns_zeros() -> None:
    net, x = layer(), tokens()
    mask, alone = ROWS["left padding"]["mask"], net(x[:1, 3:])
    out = net(x, mask=mask)
    torch.testing.assert_close(
        out[:1, 3:], alone, rtol=0, atol=1e-12
    )  # differences of positions are the same
    assert not out[0, :3].any()
    other = torch.where(mask[..., None], x, 100.0)
    assert torch.equal(net(other, mask=mask)[0, 3:], out[0, 3:])


def test_only_differences_of_positions_count_and_they_do() -> None:
    net, x = layer(), tokens()
    at = net(x)
    torch.testing.assert_close(net(x, positions=range(1000, 1000 + N)), at, rtol=0, atol=1e-11)
    assert (net(x, positions=range(0, 2 * N, 2)) - at).abs().max() > 1e-2
    none = layer("shared, not turned")
    assert torch.equal(none(x, positions=range(0, 2 * N, 2)), none(x))


def test_no_token_sees_a_later_one() -> None:
    net, x = layer(), tokens()
    changed = torch.cat((x[:, :4], tokens(seed=2)[:, 4:]), dim=1)
    assert torch.equal(net(changed, absorb=False)[:, :4], net(x, absorb=False)[:, :4])
    assert (net(changed)[:, 4:] - net(x)[:, 4:]).abs().max() > 1e-2


@every_shape
def test_the_cache_is_given_one_latent_vector_and_the_shared_coordinates(shape: str) -> None:
    sizes: list[tuple[int, ...]] = []

    class Watched(KVCache):
        def append(self, k: Tensor, v: Tensor, *args: Any, **named: Any) -> Any:
            sizes.append((*k.shape, *v.shape))
            return super().append(k, v, *args, **named)

    net = layer(shape)
    net(tokens(), cache=Watched(N))
    assert sizes == [(B, 1, N, net.latent_dim, B, 1, N, net.shared_dim)]


@pytest.mark.parametrize(
    ("queries", "keys"), [(1, 1), (1, 7), (1, 500), (7, 7), (3, 40), (20, 300), (100, 300)]
)
@pytest.mark.parametrize("latent_dim", [4, 12, 64])
def test_the_form_with_fewer_multiplications_is_taken(latent_dim: int, queries: int, keys: int) -> None:
    net = layer(latent_dim=latent_dim)
    x = torch.randn(1, keys, C, dtype=torch.float64)

    def count(absorb: bool | None) -> int:
        cache = net.new_cache(keys)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            if keys > queries:
                net(x[:, : keys - queries], cache=cache)
            with FlopCounterMode(display=False) as counter:
                net(x[:, keys - queries :], cache=cache, absorb=absorb)
        return counter.get_total_flops()

    assert count(True) != count(False)
    assert count(None) == min(count(True), count(False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_precisions_stay_near_and_keep_their_dtype(dtype: torch.dtype) -> None:
    net, exact, x = layer("latent queries", dtype), layer("latent queries"), tokens(dtype)
    for absorb in (False, True):
        out = net(x, absorb=absorb)
        assert out.dtype == dtype
        near = exact.load_state_dict({name: t.double() for name, t in net.state_dict().items()}) and exact(
            x.double()
        )
        torch.testing.assert_close(out.double(), near, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.15)


@pytest.mark.parametrize("absorb", [False, True])
def test_under_autocast_decoding_is_near_the_full_pass_and_weights_get_gradients(absorb: bool) -> None:
    net, x = layer(dtype=torch.float32), tokens(torch.float32)
    exact, cache = net(x), net.new_cache(N)
    with torch.autocast("cpu", torch.bfloat16):
        whole = net(x, absorb=absorb)
        steps = [net(token, cache=cache, absorb=absorb) for token in x.split(1, 1)]
        whole.float().square().sum().backward()
    assert whole.dtype == torch.bfloat16
    for out in (whole, torch.cat(steps, 1)):
        torch.testing.assert_close(out.float(), exact, rtol=0, atol=0.15)
    assert all(weight.grad is not None and weight.grad.any() for weight in net.parameters())


def test_after_right_padding_each_row_goes_on_at_its_own_place() -> None:
    net, x = layer(), tokens()
    mask, cache = torch.tensor([[True] * 4 + [False] * 2, [True] * 6]), net.new_cache(N)
    with torch.no_grad():
        net(x[:, :6], mask=mask, positions=torch.arange(6).expand(B, -1), cache=cache)
        new = net(x[:, 6:], positions=torch.tensor([[4], [6]]), cache=cache)
        alone = net(torch.cat((x[:1, :4], x[:1, 6:]), 1))[:, -1:]
    torch.testing.assert_close(new, torch.cat((alone, net(x[1:])[:, -1:])), rtol=0, atol=1e-12)


def test_a_scaling_with_its_own_factor_of_the_scores() -> None:
    """YaRN in DeepSeek's form: equal mscale leave cosine and sine as they are, and the scores get the factor."""
    yarn = YaRN(40.0, 4096, mscale=1.0, mscale_all_dim=1.0)
    rope = RotaryEmbedding(8, scaling=yarn)
    _, factor = rope.table(torch.arange(2), 2)
    assert factor == 1.0
    plain, sharp = layer(position=rope), layer(position=rope, scale=(0.1 * math.log(40) + 1) ** 2 * 14**-0.5)
    assert sharp.scale == pytest.approx(plain.scale * 1.874, rel=1e-3)
    assert (plain(tokens()) - sharp(tokens())).abs().max() > 1e-2


def test_it_compiles_whole_and_decoding_makes_few_graphs() -> None:
    torch._dynamo.reset()
    graphs: list[fx.GraphModule] = []

    def counting(graph: fx.GraphModule, inputs: list[Tensor]) -> fx.GraphModule:
        graphs.append(graph)
        return graph

    net = layer("latent queries", torch.float32)
    compiled = torch.compile(net, backend=counting, fullgraph=True)
    for absorb in (True, False):
        before = len(graphs)
        for length in (7, 3, 20, 12, 64, 5):
            x = torch.randn(2, length, C)
            torch.testing.assert_close(compiled(x, absorb=absorb), net(x, absorb=absorb), rtol=0, atol=1e-5)
        assert len(graphs) - before <= 3


BAD: list[tuple[dict[str, Any], str]] = [
    ({"heads": 5}, "heads must divide dim=24, got 5"),
    ({"heads": 0}, "heads must be a positive integer, got 0"),
    ({"latent_dim": 0}, "latent_dim must be a positive integer, got 0"),
    ({"latent_dim": 8.0}, "latent_dim must be a positive integer, got 8.0"),
    ({"query_dim": -1}, "query_dim must be a positive integer, got -1"),
    ({"value_dim": True}, "value_dim must be a positive integer, got True"),
    ({"shared_dim": -2}, "shared_dim must be an integer of at least 0, got -2"),
    ({"shared_dim": 2}, "position must turn within the 2 shared coordinates, got 4"),
    ({"scale": 0.0}, "scale must be positive and finite, got 0.0"),
    ({"eps": -1.0}, "eps must be positive and finite, got -1.0"),
    ({"position": "rope"}, "position must be an encoding"),
    ({"position": SinusoidalEmbedding(24)}, "position must act on queries, keys, values or scores"),
    ({"position": XPos(4)}, "got XPos, which fills `relate`"),
    ({"position": ALiBi(4)}, "got ALiBi, which fills `bias`"),
    ({"position": RotaryValueEmbedding(4)}, "got RotaryValueEmbedding, which fills `unrotate`"),
    ({"position": GrowingRotaryEmbedding(4)}, "got GrowingRotaryEmbedding, which fills `relate`"),
    (  # it would multiply the rotated coordinates of a query and not its content
        {"position": QueryTemperature(RotaryEmbedding(4), temperature=LogN(4))},
        "got QueryTemperature, which fills `relate`",
    ),
]


@pytest.mark.parametrize(("fields", "words"), BAD)
def test_bad_settings_are_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=r"^\w+ must") as error:
        LatentAttention(24, **{"heads": 4, "latent_dim": 8, "position": RotaryEmbedding(4), **fields})
    assert words in str(error.value)


def filled() -> KVCache:
    cache = KVCache(N)
    MultiHeadAttention(C, 4).double()(tokens()[:, :2], cache=cache)
    return cache


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"x": torch.ones(2, 7)}, r"x must have shape \(B, N, 24\), got \(2, 7\)"),
        ({"x": torch.ones(2, 7, 23)}, r"x must have shape \(B, N, 24\), got \(2, 7, 23\)"),
        ({"positions": torch.arange(6)}, "positions must"),
        ({"mask": torch.ones(B, N)}, "mask must be boolean"),
        ({"segments": torch.ones(B, N - 1, dtype=torch.long)}, r"segments must have shape \(2, 7\)"),
        (
            {"mask": torch.ones(B, N) > 0, "segments": torch.zeros(B, N, dtype=torch.long)},
            "mask must be None",
        ),
        ({"cache": [KVCache(N)]}, "cache must be a KVCache, as new_cache makes it, got list"),
        ({"cache": KVCache(3)}, "capacity is 3 tokens, got 7"),
    ],
)
def test_bad_calls_are_named(call: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        layer()(**{"x": tokens(), **call})


def test_a_cache_of_another_layer_is_refused_and_left_as_it_was() -> None:
    cache = filled()
    with pytest.raises(ValueError, match="k, tokens first, must be"):
        layer()(tokens()[:, 2:], cache=cache)
    assert cache.length == 2
