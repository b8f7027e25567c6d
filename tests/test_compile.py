"""torch.compile takes RoPE whole, in real arithmetic, with few graphs."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor, fx, nn

from rope_lab import LearnedEmbedding, RotaryEmbedding, SinusoidalEmbedding
from rope_lab.encodings import DynamicNTK, Scaling, YaRN

LAYOUTS = ("interleaved", "half")


class Counting:
    """A backend that keeps every graph it is given and runs it as it is."""

    def __init__(self) -> None:
        self.graphs: list[fx.GraphModule] = []

    def __call__(self, graph: fx.GraphModule, example_inputs: list[Tensor]) -> fx.GraphModule:
        self.graphs.append(graph)
        return graph


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()


def tokens(length: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return torch.randn(2, 4, length, 16, dtype=dtype), torch.randn(2, 2, length, 16, dtype=dtype)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("dim", [16, 12])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ten_lengths_compile_two_graphs_and_decoding_two_more(layout: str, dim: int, learned: bool) -> None:
    module, backend = RotaryEmbedding(dim, layout=layout, learned=learned), Counting()
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    for length in (7, 2, 64, 33, 128, 5, 100, 12, 3, 50):
        q, k = tokens(length)
        torch.testing.assert_close(compiled(q, k), module(q, k), atol=2e-6, rtol=0)
    assert len(backend.graphs) <= 2
    q, k = tokens(1)
    for offset in range(50, 70):
        torch.testing.assert_close(
            compiled(q, k, offset=offset), module(q, k, offset=offset), atol=2e-6, rtol=0
        )
    assert len(backend.graphs) <= 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_positions_of_their_own_compile_two_graphs_and_decoding_two_more(layout: str) -> None:
    """The way a model calls it: the hook, with positions per row, at growing lengths and then one by one."""
    module, backend = RotaryEmbedding(12, layout=layout), Counting()
    compiled = torch.compile(module.rotate, backend=backend, fullgraph=True)
    for length in (7, 2, 64, 33, 128, 5, 100, 12, 3, 50):
        q, k = tokens(length)
        m = torch.randint(0, 1_000, (2, length))
        torch.testing.assert_close(compiled(q, k, k, m), module.rotate(q, k, k, m), atol=2e-6, rtol=0)
    assert len(backend.graphs) <= 2
    q, k = tokens(1)
    for position in range(50, 60):
        m = torch.tensor([[position], [position + 3]])
        torch.testing.assert_close(compiled(q, k, k, m), module.rotate(q, k, k, m), atol=2e-6, rtol=0)
    assert len(backend.graphs) <= 4


@pytest.mark.parametrize("scaling", [DynamicNTK(2.0, 40), YaRN(2.0, 40)], ids=["dynamic NTK", "YaRN"])
def test_scaled_frequencies_compile_as_few(scaling: Scaling) -> None:
    module, backend = RotaryEmbedding(16, scaling=scaling), Counting()
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    for length in (7, 2, 64, 33, 128, 5, 100, 12, 3, 50):
        q, k = tokens(length)
        torch.testing.assert_close(compiled(q, k), module(q, k), atol=2e-6, rtol=0)
    assert len(backend.graphs) <= 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_graphs_hold_no_complex_number(layout: str, learned: bool, dtype: torch.dtype) -> None:
    """Which Inductor would not fuse. The graph traced down to single operations, forwards and backwards."""
    seen: set[torch.dtype] = set()
    operations: set[str] = set()

    def inspect(graph: fx.GraphModule, example_inputs: list[Tensor]) -> Callable[..., object]:
        for node in graph.graph.nodes:
            operations.add(str(node.target))
            if isinstance(node.meta.get("val"), Tensor):
                seen.add(node.meta["val"].dtype)
        return make_boxed_func(graph)

    backend = torch._dynamo.backends.common.aot_autograd(fw_compiler=inspect, bw_compiler=inspect)
    module = RotaryEmbedding(12, layout=layout, learned=learned)
    q, k = (x.requires_grad_() for x in tokens(6, dtype))
    turned = torch.compile(module, backend=backend, fullgraph=True)(q, k, offset=3)
    sum(x.sum() for x in turned).backward()
    assert dtype in seen
    assert not any(d.is_complex for d in seen)
    assert any("cos" in name for name in operations)
    assert not any("complex" in name or "polar" in name for name in operations)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_the_compiled_module(layout: str) -> None:
    gradients = []
    for compiled in (False, True):
        torch.manual_seed(0)
        module = RotaryEmbedding(12, layout=layout, learned=True)
        call = torch.compile(module, backend="aot_eager", fullgraph=True) if compiled else module
        q, k = (x.requires_grad_() for x in tokens(6))
        sum(x.square().sum() + x.sum() for x in call(q, k, offset=3)).backward()
        gradients.append((q.grad, k.grad, module.learned_freqs.grad))
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    "module", [SinusoidalEmbedding(16), LearnedEmbedding(200, 16)], ids=["sinusoidal", "learned"]
)
def test_absolute_encodings_compile(module: nn.Module) -> None:
    backend = Counting()
    compiled = torch.compile(module.embed, backend=backend, fullgraph=True)
    for length in (7, 2, 64, 33, 128, 5, 100, 12, 3, 50):
        x = torch.randn(2, length, 16)
        torch.testing.assert_close(compiled(x, torch.arange(length)), module.embed(x, torch.arange(length)))
    assert len(backend.graphs) <= 2


needs_compiler = pytest.mark.skipif(
    not (shutil.which("c++") or shutil.which("g++")), reason="Inductor needs a C++ compiler"
)


@needs_compiler
@pytest.mark.slow
def test_inductor_equals_eager() -> None:
    """Both layouts in float32, near and far out, partly rotated, forwards and backwards."""
    modules = nn.ModuleList(RotaryEmbedding(12, layout=layout) for layout in LAYOUTS)

    def turn(q: Tensor, k: Tensor, m: Tensor) -> list[Tensor]:
        return [turned for module in modules for turned in module(q, k, positions=m)]

    m = torch.stack((torch.arange(6), 10_000_000 - torch.arange(6)))
    q, k = (x.requires_grad_() for x in tokens(6))
    left, right = torch.compile(turn, fullgraph=True)(q, k, m), turn(q, k, m)
    torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-6)
    cotangents = [torch.randn_like(x) for x in right]
    gradients = (torch.autograd.grad(turned, (q, k), cotangents) for turned in (left, right))
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-6)
