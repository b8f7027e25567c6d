"""What holds for every encoding, from the embedding to the output of an attention layer, where all hooks meet.

Splits under the cache, orders of calls, rounding in bfloat16, shifts, gradients, graphs, and ways to save and build.
`properties.py` holds the rotation itself to more; what an encoding should compute is tested beside its module.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.func import functional_call

from rope_lab import (
    KVCache,
    LearnedEmbedding,
    MultiHeadAttention,
    NoPE,
    PositionEncoding,
    RotaryEmbedding,
    SinusoidalEmbedding,
)
from rope_lab.encodings import (
    ALiBi,
    DeBERTa,
    DynamicNTK,
    GrowingRotaryEmbedding,
    Llama3,
    LongRoPE,
    NTKAware,
    PositionInterpolation,
    PRoPE,
    RotaryEmbeddingND,
    RotaryValueEmbedding,
    Shaw,
    T5Bias,
    TransformerXL,
    XPos,
    YaRN,
    axial_frequencies,
    mixed_frequencies,
    mrope_frequencies,
    pixel_frequencies,
)

B, C, H, D = 2, 32, 4, 8
ROWS, WIDTH = 21, 3  # of the grids: row-major, so a shift by WIDTH positions is a shift by one row
GRID = (ROWS, WIDTH)


def scaled(scaling: Callable[..., Any], **rotary: Any) -> Callable[[], RotaryEmbedding]:
    return lambda: RotaryEmbedding(D, scaling=scaling, **rotary)


def mixed() -> RotaryEmbeddingND:
    freqs = mixed_frequencies(D, H, generator=torch.Generator().manual_seed(0))
    return RotaryEmbeddingND(freqs, sizes=GRID, learned=True)


LONG = LongRoPE([1.0, 1.5, 2.0, 2.5], [2.0, 3.0, 4.0, 5.0], original_length=4, factor=4.0)
ENCODINGS: dict[str, Callable[[], PositionEncoding]] = {
    "NoPE": NoPE,
    "learned table": lambda: LearnedEmbedding(64, C),
    "sinusoidal": lambda: SinusoidalEmbedding(C),
    "RoPE interleaved": lambda: RotaryEmbedding(D),
    "RoPE half": lambda: RotaryEmbedding(D, layout="half"),
    "RoPE partial": lambda: RotaryEmbedding(4, start=2, heads=1),
    "RoPE learned": lambda: RotaryEmbedding(D, learned=True),
    "RoPE learned, scaled": scaled(YaRN(4.0, 64), learned=True, layout="half"),
    "position interpolation": scaled(PositionInterpolation(2.0)),
    "NTK-aware": scaled(NTKAware(2.0)),
    "dynamic NTK": scaled(DynamicNTK(2.0, 4)),
    "dynamic NTK, fixed length": scaled(DynamicNTK(2.0, 4), length=16),
    "YaRN": scaled(YaRN(4.0, 64)),
    "Llama 3": scaled(Llama3(original_length=64)),
    "LongRoPE short": scaled(LONG, length=4),
    "LongRoPE long": scaled(LONG, length=16),
    "p-RoPE": scaled(PRoPE(0.5)),
    "xPos": lambda: XPos(D, scale_base=4),
    "xPos half": lambda: XPos(4, scale_base=64, layout="half"),
    "RoPER": lambda: RotaryValueEmbedding(4, value_dim=6),
    "RoPER half": lambda: RotaryValueEmbedding(D, layout="half", learned=True),
    "growing": lambda: GrowingRotaryEmbedding(D, scaling=DynamicNTK(2.0, 4)),
    "axial": lambda: RotaryEmbeddingND(axial_frequencies(D, 2), sizes=GRID, prefix=1),
    "pixel": lambda: RotaryEmbeddingND(pixel_frequencies(D, 2, 7.0), sizes=GRID, kind="pixel", layout="half"),
    "mixed": mixed,
    "M-RoPE": lambda: RotaryEmbeddingND(mrope_frequencies((2, 1, 1))),
    "T5": lambda: T5Bias(H, buckets=8, max_distance=16),
    "ALiBi": lambda: ALiBi(H),
    "Shaw": lambda: Shaw(D, max_distance=3),
    "Transformer-XL": lambda: TransformerXL(H, D),
    "DeBERTa": lambda: DeBERTa(H, D, max_distance=3),
}
ABSOLUTE = {"learned table", "sinusoidal"}
ON_A_GRID = {"axial", "pixel", "mixed"}
BOUNDED = {"learned table", *ON_A_GRID}  # positions 0..62 only
OF_EACH_HEAD = {"RoPE partial", "mixed"}  # one head alone turns, or each has its own frequencies: no groups
every_encoding = pytest.mark.parametrize("name", ENCODINGS)


class Layer(nn.Module):
    """An encoding's way through a model: added to embeddings, then in attention. Every parameter has an effect."""

    def __init__(self, position: PositionEncoding, **options: Any) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(C, H, **options)
        self.take(position)

    def take(self, position: PositionEncoding) -> None:
        self.attention.position = position.in_attention()
        self.position = position

    def forward(self, x: Tensor, positions: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        past = 0 if cache is None else cache.length
        m = torch.arange(past, past + x.shape[1], device=x.device) if positions is None else positions
        x = self.position.embed(x, m)
        return self.attention(x, positions=positions, cache=cache)


def build(name: str, seed: int = 0, **options: Any) -> Layer:
    layer, generator = Layer(ENCODINGS[name](), **options), torch.Generator().manual_seed(seed)
    for key, parameter in layer.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        near = key.endswith("learned_freqs")
        with torch.no_grad():  # frequencies stay near their own, all else makes scores of size 1
            parameter.copy_(parameter * (1 + noise / 8) if near else noise * parameter.shape[-1] ** -0.5)
    return layer


def draw(seed: int, length: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, length, C, generator=generator, dtype=torch.float64).to(dtype)


def positions_with_gaps(seed: int, length: int, start: int, *, rows: bool) -> Tensor:
    """Increasing by 1 or 2 from `start` on; for each row of the batch its own."""
    shape = (B, length) if rows else (length,)
    return start + torch.randint(1, 3, shape, generator=torch.Generator().manual_seed(seed)).cumsum(-1)


FEW = settings(max_examples=max(10, settings.default.max_examples // 12))
SEEDS = st.integers(0, 2**20)


# Prefill and decode


@every_encoding
@FEW
@given(
    split=st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(sum),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    window=st.sampled_from([None, 2, 5]),
    kv_heads=st.sampled_from([H, 2, 1]),
    start=st.sampled_from([None, 11]),  # None: positions go on from the cache
    rows=st.booleans(),
    spare=st.integers(0, 3),
    seed=SEEDS,
)
def test_every_split_equals_the_full_pass(
    name, split, dtype, window, kv_heads, start, rows, spare, seed
) -> None:
    kv_heads = H if name in OF_EACH_HEAD else kv_heads
    layer = build(name, seed, window=window, kv_heads=kv_heads).to(dtype)
    length, tolerance = sum(split), 1e-12 if dtype == torch.float64 else 1e-5
    x, positions = draw(seed, length, dtype), None
    if start is not None:
        far = 0 if name in BOUNDED else 100_000 * (start > 0)
        positions = positions_with_gaps(seed, length, start + far, rows=rows)
    cache = KVCache(length if name == "dynamic NTK" else length + spare)  # whose capacity is its length
    for first, end in pairwise(accumulate(split, initial=0)):
        now, so_far = (None if positions is None else positions[..., i:end] for i in (first, 0))
        out, expected = layer(x[:, first:end], now, cache), layer(x, positions)[:, first:end]
        if name == "growing":  # promises the newest token of a step, as a pass over the tokens so far has it
            out, expected = out[:, -1:], layer(x[:, :end], so_far)[:, -1:][:, : end - first]
        torch.testing.assert_close(out, expected, rtol=0, atol=tolerance)


# Orders of calls

CALLS = st.tuples(
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    st.integers(1, 7),  # tokens
    st.sampled_from([None, 0, 5, 40, 10_000_000]),  # where positions start; None: no positions given
    st.booleans(),  # for each row its own
    st.integers(0, 6),  # tokens in a first call, held in a cache
    st.sampled_from(["", "no_grad", "inference"]),
)


def called(layer: Layer, name: str, call: tuple) -> list[Tensor]:
    """The output, and the gradients too where nothing is cached: a cache is written in place."""
    dtype, length, start, rows, cut, mode = call
    x = draw(length, length, dtype).requires_grad_(not mode and not cut)
    positions = None
    if start is not None:
        start = start % 41 if name in BOUNDED else start
        positions = positions_with_gaps(length, length, start, rows=rows)
    contexts = {"no_grad": torch.no_grad, "inference": torch.inference_mode}
    with contexts.get(mode, nullcontext)():
        if not cut:
            out = layer(x, positions)
        else:
            cache, cut = KVCache(length), min(cut, length)
            parts = (None, None) if positions is None else positions.tensor_split([cut], dim=-1)
            out = torch.cat(
                [layer(a, m, cache) for a, m in zip(x.tensor_split([cut], dim=1), parts, strict=True)], dim=1
            )
    return [out] if mode or cut else [out, *torch.autograd.grad(out.sum(), [x, *layer.parameters()])]


@every_encoding
@FEW
@given(calls=st.lists(CALLS, min_size=2, max_size=6), seed=SEEDS)
def test_any_order_of_calls_gives_what_each_gives_alone(name, calls, seed) -> None:
    """To the bit, on one encoding that is cast to and fro. A cast rounds weights, so they are loaded again."""
    layer = build(name, seed).double()
    weights = copy.deepcopy(layer.state_dict())
    for call in calls:
        layer.to(call[0]).load_state_dict(weights)
        fresh = build(name).double()
        fresh.load_state_dict(weights)
        used, alone = called(layer, name, call), called(fresh.to(call[0]), name, call)
        assert all(map(torch.equal, used, alone)), call


# Rounding


class ExactHooks(PositionEncoding):
    """The hooks of an encoding in float64, each rounded once to bfloat16: its best form between bfloat16 layers."""

    def __init__(self, double: PositionEncoding) -> None:
        super().__init__()
        self.query_block = double.query_block
        for hook in ("embed", "rotate", "relate", "unrotate", "bias"):
            setattr(self, hook, partial(self.rounded, getattr(double, hook)))

    @staticmethod
    def rounded(hook: Callable[..., Any], *given: Any) -> Any:
        result = hook(*(t.double() if isinstance(t, Tensor) and t.is_floating_point() else t for t in given))
        if isinstance(result, tuple):
            return tuple(t.bfloat16() for t in result)
        return None if result is None else result.bfloat16()


@every_encoding
@FEW
@given(
    start=st.sampled_from([3, 100_003, 10_000_003]),
    length=st.integers(1, 12),
    window=st.sampled_from([None, 3]),
    kv_heads=st.sampled_from([H, 2]),
    seed=SEEDS,
)
def test_bfloat16_errs_at_most_twice_as_much_as_exact_hooks(
    name, start, length, window, kv_heads, seed
) -> None:
    """Forwards and gradients against float64 on the same bfloat16 weights, near zero and far out alike."""
    options = {"window": window, "kv_heads": H if name in OF_EACH_HEAD else kv_heads}
    layer = build(name, seed, **options).bfloat16()
    double, reference = copy.deepcopy(layer).double(), copy.deepcopy(layer)
    reference.take(ExactHooks(double.position))
    start = min(start, 3) if name in BOUNDED else start
    x, positions = draw(seed, length), torch.arange(start, start + length)

    def results(layer: Layer, dtype: torch.dtype) -> list[Tensor]:
        leaf = x.bfloat16().to(dtype).requires_grad_()
        out = layer(leaf, positions)
        assert out.dtype == dtype
        return [out.double(), torch.autograd.grad(out.sum(), leaf)[0].double()]

    exact, *rounded = results(double, torch.float64), results(layer, torch.bfloat16)
    best = results(reference, torch.bfloat16)
    for truth, ours, theirs in zip(exact, *rounded, best, strict=True):
        assert (ours - truth).norm() <= 2 * (theirs - truth).norm()


# Shifts


@every_encoding
@FEW
@given(
    near=st.tuples(st.integers(0, 14), st.integers(0, 14)),
    far=st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)),
    length=st.integers(3, 9),
    seed=SEEDS,
)
def test_only_absolute_encodings_see_a_shift(name, near, far, length, seed) -> None:
    """Each row of a batch is shifted by its own number; a grid by whole rows of it.

    float64 leaves 4·ε·|m| = 9e-12 in an angle at |m| = 10,000, and scores and outputs are sums of a few such terms.
    """
    layer, x = build(name, seed).double(), draw(seed, length)
    positions = positions_with_gaps(seed, length, 0, rows=True)  # from 1 on: 0 is the prefix of "axial"
    shift = torch.tensor(near if name in BOUNDED else far)[:, None] * (WIDTH if name in ON_A_GRID else 1)
    before, after = layer(x, positions), layer(x, positions + shift)
    if name in ABSOLUTE:
        moved = (after - before).abs().amax((1, 2))
        assert torch.equal(moved > 1e-3, shift[:, 0] > 0)
    else:
        torch.testing.assert_close(after, before, rtol=0, atol=1e-10)
    stretched = layer(x, positions * 2)
    assert ((stretched - before).abs().max() > 1e-3) == (name != "NoPE")  # so the above says something


# Gradients


@every_encoding
@pytest.mark.parametrize("rows", [False, True])
def test_gradients_of_inputs_and_parameters(name, rows) -> None:
    layer = build(name)
    own = dict(layer.position.named_parameters(prefix="position"))
    others = {k: p.detach().double() for k, p in layer.attention.named_parameters(prefix="attention")}
    others = {k: p for k, p in others.items() if ".position." not in k}
    positions = positions_with_gaps(0, 6, 0, rows=rows)

    def call(x: Tensor, *parameters: Tensor) -> Tensor:  # float32 frequencies too are float64 here
        return functional_call(layer, others | dict(zip(own, parameters, strict=True)), (x, positions))

    leaves = [t.detach().double().requires_grad_() for t in (draw(0, 6), *own.values())]
    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)


# Graphs


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


IN_TEST_COMPILE = {"RoPE interleaved", "RoPE half", "RoPE learned", "dynamic NTK", "YaRN"}
ALIKE = {"dynamic NTK, fixed length", "position interpolation", "NTK-aware", "LongRoPE short", "RoPER half"}
UNROLLED = {"xPos"}  # past its `scale_base`: blocks of queries, a graph for each length


@pytest.mark.parametrize("name", [n for n in ENCODINGS if n not in IN_TEST_COMPILE | ALIKE | UNROLLED])
@pytest.mark.usefixtures("_fresh_compiler")
def test_five_lengths_share_one_whole_graph(name) -> None:
    layer, graphs = build(name), []

    def backend(graph: fx.GraphModule, example_inputs: list[Tensor]) -> fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = torch.compile(layer, backend=backend, fullgraph=True, dynamic=True)
    for length in range(5, 10):
        x = draw(length, length, torch.float32)
        torch.testing.assert_close(compiled(x), layer(x), rtol=0, atol=1e-5)
    assert len(graphs) == 1
