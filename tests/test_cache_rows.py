"""Padding and segments beside a cache, its rows and its end: nothing is silently another text than was meant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import close, ids, model
from torch import Tensor

from rope_lab import (
    KVCache,
    LocalConfig,
    LocalTransformer,
    MultiHeadAttention,
    RoFormer,
    RotaryEmbedding,
)

N = 8  # tokens of `ids`
WINDOWS = [None, 3]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def local(**fields) -> LocalTransformer:
    torch.manual_seed(0)
    config = {"vocab_size": 11, "context": 16, "dim": 32, "depth": 2, "heads": 4, "window": 3} | fields
    return LocalTransformer(LocalConfig(**config)).double()


MODELS = {
    "all": lambda: model(),
    "window": lambda: model(window=3),
    "local": lambda: local(),
    "learned": lambda: model(position="learned"),
    "T5": lambda: model(position="t5", window=3),
    "xPos": lambda: local(position="xpos"),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("split", [[5, 1, 1, 1], [2, 4, 2], [8]])
@pytest.mark.parametrize("as_segments", [False, True])
def test_padding_anywhere_is_as_if_it_were_not_there(kind, split, as_segments):
    """Prompts padded on the left, on the right, and in between, then decoded on: as each row without its padding."""
    net, tokens = MODELS[kind](), ids()
    mask = torch.tensor([[0, 1, 1, 0, 0, 1, 1, 1], [1, 1, 1, 1, 0, 1, 0, 1]]).bool()
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    given = {"positions": positions} | ({"segments": mask.long() - 1} if as_segments else {"mask": mask})
    for cached in (True, False):
        if cached:
            cache, parts = net.new_cache(N), []
            for part in torch.arange(N).split(split):
                now = {name: t[:, part] for name, t in given.items()}
                parts.append(net(tokens[:, part], cache=cache, **now))
            out = torch.cat(parts, dim=1)
        else:
            out = net(tokens, **given)
        for row in range(2):
            alone = net(tokens[row : row + 1, mask[row]])
            close(out[row : row + 1, mask[row]], alone, 1e-12)


@pytest.mark.parametrize("kind", MODELS)
def test_a_right_padded_prompt_is_decoded_on_without_another_mask(kind):
    net, tokens = MODELS[kind](), ids()
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]).bool()
    cache, lengths = net.new_cache(N), mask.sum(-1)
    net(tokens[:, :6], mask=mask, positions=torch.arange(6).expand(2, 6), cache=cache)
    out = [net(tokens[:, 6 + i : 7 + i], positions=(lengths + i)[:, None], cache=cache) for i in range(2)]
    for row in range(2):
        real = torch.cat((tokens[row, :6][mask[row]], tokens[row, 6:]))
        close(torch.cat(out, dim=1)[row], net(real[None])[0, -2:], 1e-12)


def test_a_mask_of_one_row_is_for_all_of_them_and_segments_say_the_same():
    for net in (model(window=3), local()):
        tokens, mask = ids(), torch.tensor([[1, 1, 0, 1, 1, 1, 1, 0]]).bool()
        out = net(tokens, mask=mask)
        assert torch.equal(out, net(tokens, mask=mask.expand(2, -1)))
        assert torch.equal(out, net(tokens, segments=mask.expand(2, -1).long() - 1))
        layer, x = net.blocks[0].attention, torch.randn(2, N, 32, dtype=torch.float64)
        assert torch.equal(
            layer.weights(x, mask=mask), layer.weights(x, segments=mask.expand(2, -1).long() - 1)
        )


@pytest.mark.parametrize("new", [model, local])
@pytest.mark.parametrize(
    "segments", [[[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], [[0, 0, 1, 1, 1]] * 2, [[1] * 5] * 2, [[0] * 5] * 2]
)
def test_a_prompt_in_segments_is_not_decoded_on_without_them(new, segments):
    """A 0/1 mask that is given as segments is right in the prompt; a later token without segments would join 0."""
    net, tokens, cache = new(), ids(), new().new_cache(N)
    segments = torch.tensor(segments)
    net(tokens[:, :5], segments=segments, cache=cache)
    with pytest.raises(
        ValueError, match=r"^segments must be given in every call with this cache.* got None$"
    ):
        net(tokens[:, 5:6], cache=cache)
    with pytest.raises(ValueError, match=r"^segments must be given in every call"):
        net(tokens[:, 5:6], mask=torch.ones(2, 1).bool(), cache=cache)
    whole = torch.cat((segments, segments[:, -1:].expand(2, 3)), dim=1)
    out = net(tokens[:, 5:], segments=whole[:, 5:], cache=cache)
    close(out, net(tokens, segments=whole)[:, 5:], 1e-12)


@pytest.mark.parametrize("new", [model, local])
def test_segments_do_not_begin_in_the_middle_of_a_cache(new):
    net, tokens, cache = new(), ids(), new().new_cache(N)
    net(tokens[:, :5], cache=cache)
    with pytest.raises(
        ValueError, match=r"^segments must be None, as in earlier calls.*mask.* got a tensor$"
    ):
        net(tokens[:, 5:6], segments=torch.ones(2, 1).long(), cache=cache)
    close(net(tokens[:, 5:], mask=torch.ones(2, 3).bool(), cache=cache), net(tokens)[:, 5:], 1e-12)


@pytest.mark.parametrize("new", [model, local])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": torch.ones(2, N).long()}, r"mask must be boolean, .*0/1 mask.*, got torch\.int64"),
        ({"mask": torch.ones(2, N)}, r"mask must be boolean, .*, got torch\.float32"),
        ({"mask": [[True] * N] * 2}, r"mask must be boolean, .*"),
        (
            {"mask": torch.ones(2, N + 2).bool()},
            r"mask must have shape \(1, 8\) or \(2, 8\), .* got \(2, 10\)",
        ),
        ({"mask": torch.ones(N).bool()}, r"mask must have shape .* got \(8,\)"),
        (
            {"mask": torch.ones(2, N).bool(), "segments": torch.zeros(2, N).long()},
            "mask must be None where segments are given: .*",
        ),
        ({"segments": [[0] * N] * 2}, r"segments must be integers .*"),
        ({"segments": torch.zeros(2, N) * 1j}, r"segments must be integers .* got torch\.complex64"),
    ],
)
def test_bad_masks_and_segments_are_named(new, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        new()(ids(), **options)


def bad_caches(net: RoFormer) -> list[tuple[object, str]]:
    one, uneven = KVCache(N), net.new_cache(N)
    uneven[0].append(*[torch.zeros(2, 4, 1, 8).double()] * 2, torch.arange(1))
    return [
        (KVCache(N), "cache must be a list of caches, as new_cache makes it, got KVCache"),
        ([torch.zeros(1)] * 2, "cache must be a list of caches, as new_cache makes it, got list"),
        ([], "cache must hold one cache per block, 2, got 0"),
        (net.new_cache(N)[:1], "cache must hold one cache per block, 2, got 1"),
        (net.new_cache(N) * 2, "cache must hold one cache per block, 2, got 4"),
        ([one, one], "cache must hold a cache of its own for every block, got one of them twice"),
        (uneven, r"cache must hold as many tokens in every block, got \[0, 1\]"),
    ]


@pytest.mark.parametrize("case", range(7))
def test_a_cache_of_another_model_is_named(case):
    net = model()
    cache, message = bad_caches(net)[case]
    with pytest.raises(ValueError, match=f"^{message}$"):
        net(ids(), cache=cache)


def test_a_layer_takes_its_own_kind_of_cache():
    layer, x = MultiHeadAttention(32, 4).double(), torch.randn(2, 3, 32).double()
    within = local().blocks[0].attention
    for attention, cache, message in (
        (layer, within.new_cache(5), "cache must hold every token for this layer, got a LocalCache"),
        (layer, [KVCache(5)], "cache must be a KVCache, as new_cache makes it, got list"),
        (within, KVCache(5), "cache must be a LocalCache, as new_cache makes it, got KVCache"),
        (
            within,
            local(window=4).blocks[0].attention.new_cache(5),
            "cache must be made by new_cache, for Window.*",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            attention(x, cache=cache)
    cache = layer.new_cache(3)
    assert isinstance(cache, KVCache)
    close(torch.cat([layer(x[:, i : i + 1], cache=cache) for i in range(3)], dim=1), layer(x), 1e-12)


@pytest.mark.parametrize("rows", [[1, 0], [0, 0, 1], [1], torch.tensor([1, 1]), np.array([0, 1, 0])])
@pytest.mark.parametrize("kind", MODELS)
def test_rows_can_be_chosen_as_a_beam_search_does(kind, rows):
    net, tokens, mask = MODELS[kind](), ids(), torch.ones(2, 5).bool()
    mask[1, :2] = False
    cache = net.new_cache(N)
    net(tokens[:, :5], mask=mask, cache=cache)
    for layer in cache:
        layer.select(rows)
    chosen = tokens[torch.as_tensor(rows)]
    full = torch.cat((mask, torch.ones(2, 3).bool()), dim=1)[torch.as_tensor(rows)]
    out = [net(token, cache=cache) for token in chosen[:, 5:].split(1, dim=1)]
    close(torch.cat(out, dim=1), net(chosen, mask=full)[:, 5:], 1e-12)


@pytest.mark.parametrize("rows", [[2], [-1], [0.0], [True, False], [[0, 1]], 1])
def test_rows_that_are_not_there_are_named(rows):
    for net in (model(), local()):
        cache = net.new_cache(N)
        cache[0].select([7])  # nothing is held yet
        net(ids(), cache=cache)
        with pytest.raises(ValueError, match=r"^rows must "):
            cache[0].select(rows)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("pad", ["none", "left", "right", "late"])
@pytest.mark.parametrize("back", [1, 3])
def test_a_draft_can_be_taken_back(kind, pad, back):
    """As speculative decoding does: the tokens after the cut leave no trace, also where padding is among them."""
    net, tokens, mask = MODELS[kind](), ids(), torch.ones(2, N).bool()
    if pad != "none":
        mask[0, {"left": slice(0, 2), "right": slice(3, 5), "late": slice(5, 7)}[pad]] = False
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    is_local = isinstance(net, LocalTransformer)
    cache = net.new_cache(N, spare=back) if is_local else net.new_cache(N)

    def read(start: int, stop: int, tokens: Tensor) -> Tensor:
        part = slice(start, stop)
        return net(tokens[:, part], mask=mask[:, part], positions=positions[:, part], cache=cache)

    read(0, 5, tokens)
    read(5, 5 + back, (tokens + 1) % 11)
    for layer in cache:
        layer.crop(5)
        assert layer.length == 5
    out, full = read(5, N, tokens), net(tokens, mask=mask, positions=positions)[:, 5:]
    close(out[mask[:, 5:]], full[mask[:, 5:]], 1e-12)


def test_a_cut_is_within_what_is_held():
    net = local()
    for spare in (0, 2):
        (cache, *_) = net.new_cache(N, spare=spare)
        layer, x = net.blocks[0].attention, torch.randn(2, N, 32).double()
        layer(x, cache=cache)
        with pytest.raises(ValueError, match=f"^length must be a later one, since only {spare} spare tokens"):
            cache.crop(N - spare - 1)
        cache.crop(N - spare)
        assert cache.length == N - spare
        early = layer.new_cache(N)
        layer(x[:, :2], cache=early)  # all of them are still there
        early.crop(1)
        close(layer(x[:, 1:], cache=early), layer(x)[:, 1:], 1e-12)
    for length in (-1, N + 1, 2.5, "3", True):
        with pytest.raises(ValueError, match=r"^length must be an integer in 0\.\."):
            model().new_cache(N)[0].crop(length)


@pytest.mark.parametrize("new", [model, local])
@pytest.mark.parametrize("forget", [lambda layer: layer.reset(), lambda layer: layer.crop(0)])
def test_a_cache_that_was_reset_is_a_new_one(new, forget):
    net, tokens = new(), ids()
    cache = net.new_cache(N)
    net(tokens, segments=torch.ones(2, N).long(), cache=cache)
    for layer in cache:
        forget(layer)
        assert layer.length == 0
    close(net(tokens[:1], cache=cache), net(tokens[:1]), 1e-12)  # of another batch, and without segments


def test_a_window_costs_what_its_docstring_says_and_gives_what_local_attention_gives():
    x = torch.randn(2, 12, 32).double()
    dense = MultiHeadAttention(32, 4, window=3, position=RotaryEmbedding(8), qk_norm=True).double()
    within = local().blocks[0].attention
    within.load_state_dict(dense.state_dict())
    mask = torch.rand(2, 12) < 0.6
    close(within(x, mask=mask), dense(x, mask=mask), 1e-12)
    assert "LocalSelfAttention" in MultiHeadAttention.__doc__


@pytest.mark.parametrize("split", [[5, 3], [1] * 8])
def test_block_windows_count_padding_with_and_without_a_cache(split):
    """They are counted from the first token, so the padding between tokens takes room, and is only hidden."""
    net, tokens, mask = local(exact=False), ids(), torch.tensor([[1, 1, 0, 0, 1, 0, 1, 1], [1] * 8]).bool()
    cache, parts = net.new_cache(N), []
    for part in torch.arange(N).split(split):
        parts.append(net(tokens[:, part], mask=mask[:, part], cache=cache))
    close(torch.cat(parts, dim=1), net(tokens, mask=mask), 1e-12)
