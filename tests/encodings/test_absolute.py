"""Sinusoidal tables against their formula, and both absolute encodings at their edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from properties import EPS, assert_close, slack
from torch import Tensor
from torch.nn import functional as F

from rope_lab import LearnedEmbedding, NoPE, SinusoidalEmbedding, frequencies, sinusoidal

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
M = st.lists(st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6), min_size=1, max_size=6).map(
    lambda m: torch.tensor(m, dtype=torch.float64)
)
DIMS = st.integers(1, 8).map(lambda pairs: 2 * pairs)
BASES = st.sampled_from([1.0, 100.0, 10_000, 500_000.0])


@given(m=M, dim=DIMS, base=BASES)
def test_sinusoidal_is_its_formula(m: Tensor, dim: int, base: float) -> None:
    """PE(m, 2i) = sin(m / base^(2i/d)), PE(m, 2i + 1) = cos of the same."""
    expected = [
        [f(float(n) / float(base) ** (2 * i / dim)) for i in range(dim // 2) for f in (math.sin, math.cos)]
        for n in m
    ]
    table = sinusoidal(m, dim, base, dtype=torch.float64)
    assert_close(table, torch.tensor(expected, dtype=torch.float64), slack(m))
    assert_close(sinusoidal(m, dim, base).double(), table, 1e-6)
    assert torch.equal(sinusoidal(m.expand(3, -1), dim, base), sinusoidal(m, dim, base).expand(3, -1, -1))


def test_sinusoidal_starts_as_the_paper_says() -> None:
    table = sinusoidal(torch.arange(2), 4)
    assert table.dtype == torch.float32
    assert table[0].tolist() == [0, 1, 0, 1]
    expected = torch.tensor([math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)])
    torch.testing.assert_close(table[1], expected)


@given(m=M, shift=st.floats(-1e6, 1e6), dim=DIMS, base=BASES)
def test_a_shift_is_one_linear_map_of_every_position(m: Tensor, shift: float, dim: int, base: float) -> None:
    """PE(m + s) = M_s PE(m), where M_s does not know m (Vaswani et al. 2017, section 3.5)."""
    step = torch.tensor(shift, dtype=torch.float64) * frequencies(dim, base)
    rows = [[[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]] for a in step.tolist()]
    matrix = torch.block_diag(*torch.tensor(rows, dtype=torch.float64))
    table, moved = (sinusoidal(n, dim, base, dtype=torch.float64) for n in (m, m + shift))
    assert_close(table @ matrix.T, moved, slack(m, shift, m + shift))


@given(m=M, n=st.floats(-1e6, 1e6), dim=DIMS, base=BASES)
def test_the_product_of_two_tables_knows_only_their_distance(
    m: Tensor, n: float, dim: int, base: float
) -> None:
    """⟨PE(m), PE(n)⟩ = Σ cos((m − n) θ_i): the reason that RoPE's scores look as they do."""
    other = torch.full_like(m, n)
    left = (
        sinusoidal(m, dim, base, dtype=torch.float64) * sinusoidal(other, dim, base, dtype=torch.float64)
    ).sum(-1)
    right = ((m - other)[:, None] * frequencies(dim, base)).cos().sum(-1)
    assert_close(left, right, dim * slack(m, other, m - other))


@pytest.mark.parametrize("dtype", FLOATS)
def test_sinusoidal_is_added_in_full_and_rounded_once(dtype: torch.dtype) -> None:
    x, module = torch.randn(3, 6, 8).to(dtype), SinusoidalEmbedding(8, base=500.0)
    for m in (torch.arange(6) * 1_000_000, torch.rand(3, 6)):
        out = module.bfloat16().embed(x, m)
        exact = x.double() + sinusoidal(m, 8, 500.0, dtype=torch.float64)
        assert out.dtype == dtype
        assert_close(
            out.double(),
            exact,
            torch.finfo(dtype).eps / 2 * exact.abs() + (2e-7 if dtype != FLOATS[0] else EPS),
        )
    assert module.state_dict() == {}


@given(
    shape=st.lists(st.integers(1, 2), max_size=3),
    x=st.lists(st.integers(1, 2), max_size=3),
    width=st.sampled_from([1, 2, 4]),
    module=st.sampled_from([SinusoidalEmbedding(4), LearnedEmbedding(32, 4)]),
)
def test_nothing_broadcasts(
    shape: list[int], x: list[int], width: int, module: SinusoidalEmbedding | LearnedEmbedding
) -> None:
    positions, tokens = torch.arange(torch.Size(shape).numel()).view(shape), torch.zeros(*x, width)
    if width == 4 and len(shape) in (1, 2) and shape in (x, x[-1:]):
        out = module.embed(tokens, positions)
        assert out.shape == tokens.shape
        if isinstance(module, SinusoidalEmbedding):
            assert torch.equal(out, sinusoidal(positions, 4).expand_as(out))
    else:
        with pytest.raises(ValueError, match=r"^positions"):
            module.embed(tokens, positions)


# Learned


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_learned_adds_its_rows(dtype: torch.dtype, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    module, x = LearnedEmbedding(10, 4), torch.randn(2, 3, 4).to(dtype)
    for m in (torch.tensor([9, 0, 3]), torch.tensor([[9, 0, 3], [1, 1, 2]])):
        out = module.embed(x, m.to(kind))
        assert out.dtype == dtype
        assert torch.equal(out, (x + F.embedding(m, module.table.weight)).to(dtype))
    assert module.table.weight.std() < 0.05  # small beside the token embeddings
    module.embed(x, torch.tensor([9, 0, 3])).sum().backward()
    assert module.table.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [0, 3, 9]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e, x: e.embed(x, torch.tensor([0, 1, 10])), ValueError, r"^positions must lie in 0\.\.9.*0\.\.10$"),
        (lambda e, x: e.embed(x, torch.tensor([0, 1, -1])), ValueError, r"^positions must lie in 0\.\.9.*-1\.\.1$"),
        (lambda e, x: e.embed(x, torch.tensor([0.0, 1.0, 2.0])), ValueError, "^positions must be integers.*float32$"),
        (lambda e, x: e.embed(x, torch.tensor([True, False, True])), ValueError, "^positions must be integers.*bool$"),
        (lambda e, x: e.embed(x, torch.tensor([0j, 0j, 0j])), ValueError, "^positions must be integers.*complex64$"),
        (lambda e, x: LearnedEmbedding(0, 4), ValueError, "^max_positions must be a positive integer, got 0$"),
        (lambda e, x: LearnedEmbedding(-2, 4), ValueError, "^max_positions must be a positive integer, got -2$"),
        (lambda e, x: LearnedEmbedding(2.0, 4), ValueError, r"^max_positions must be a positive integer, got 2\.0$"),
        (lambda e, x: LearnedEmbedding(4, 0), ValueError, "^dim must be a positive integer, got 0$"),
        (lambda e, x: SinusoidalEmbedding(5), ValueError, "^dim must be a positive even integer, got 5$"),
        (lambda e, x: SinusoidalEmbedding(-4), ValueError, "^dim must be a positive even integer, got -4$"),
        (lambda e, x: SinusoidalEmbedding(4, base=0), ValueError, "^base must be positive"),
        (lambda e, x: sinusoidal(torch.tensor([True]), 4), ValueError, "^positions must be integers or real"),
        (lambda e, x: sinusoidal(torch.tensor(1), 4), ValueError, "^positions must have shape"),
        (lambda e, x: sinusoidal(torch.arange(3), 4, dtype=torch.half), ValueError, "^dtype must be"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call: Callable, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call(LearnedEmbedding(10, 4), torch.zeros(1, 3, 4))
    assert "\n" not in str(caught.value)


def test_no_position_at_all() -> None:
    """NoPE, and the hooks that the others leave empty, give back the very tensors they are given."""
    x, m = torch.randn(2, 3, 4), torch.arange(3)
    assert NoPE().embed(x, m) is x
    for module in (NoPE(), SinusoidalEmbedding(4), LearnedEmbedding(3, 4)):
        assert all(a is x for a in module.rotate(x, x, x, m))
        assert module.unrotate(x, m) is x
        assert module.bias(x, x, m, m) is None
