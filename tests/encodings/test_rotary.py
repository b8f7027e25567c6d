"""RoPE's algebra, gradients and conversions on drawn cases."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from properties import EPS, PROPERTIES, Case, assert_close, reference, size, slack
from torch import Tensor

from rope_lab import RotaryEmbedding, angles, convert_layout, convert_projection, frequencies, rotate

LAYOUTS = ("interleaved", "half")
CASES = st.builds(
    Case,
    layout=st.sampled_from(LAYOUTS),
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    length=st.integers(1, 6),
    dim=st.integers(1, 8).map(lambda pairs: 2 * pairs),
    tail=st.integers(0, 3),
    base=st.sampled_from([1.0, 2.0, 100.0, 10_000, 500_000.0]),
    reach=st.sampled_from([0, 1, 100, 100_000]),
    real=st.booleans(),
    rows=st.booleans(),
    shift=st.integers(-10_000_000, 10_000_000) | st.floats(-1e6, 1e6),
    seed=st.integers(0, 2**20),
)


def rope(q: Tensor, k: Tensor, positions: Tensor, **how: object) -> tuple[Tensor, Tensor]:
    return RotaryEmbedding(**how)(q, k, positions=positions)


@pytest.mark.parametrize("name", PROPERTIES)
@given(case=CASES)
def test_property(name: str, case: Case) -> None:
    PROPERTIES[name](lambda: rope, case)


@given(case=CASES, offset=st.integers(-(10**6), 10**6))
def test_offset_is_added_to_every_position(case: Case, offset: int) -> None:
    module, q, k = RotaryEmbedding(**case.how), case.x(1), case.x(2)
    m = case.positions()
    for given_positions, all_positions in ((None, torch.arange(case.length)), (m, m)):
        left = module(q, k, positions=given_positions, offset=offset)
        right = module(q, k, positions=all_positions.double() + offset)
        assert all(map(torch.equal, left, right))


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.uint32, torch.bfloat16, torch.half]
)
def test_offset_neither_wraps_nor_rounds_narrow_positions(dtype: torch.dtype) -> None:
    module, x = RotaryEmbedding(8), torch.randn(1, 1, 5, 8)
    left = module(x, x, positions=torch.arange(5).to(dtype), offset=100_001)
    assert all(map(torch.equal, left, module(x, x, offset=100_001)))


@given(case=CASES, data=st.data())
def test_fewer_queries_than_keys_are_the_last_tokens(case: Case, data: st.DataObject) -> None:
    last = data.draw(st.integers(1, case.length))
    module, q, k, m = RotaryEmbedding(**case.how), case.x(1), case.x(2), case.positions()
    full_q, full_k = module(q, k, positions=m, offset=3)
    some_q, some_k = module(q[:, :, -last:], k, positions=m, offset=3)
    assert torch.equal(some_k, full_k)
    assert_close(some_q, full_q[:, :, -last:], 8 * EPS * size(some_q))


@given(case=CASES)
def test_the_hook_turns_queries_and_keys_and_leaves_values(case: Case) -> None:
    module, q, k, v, m = RotaryEmbedding(**case.how), case.x(1), case.x(2), case.x(3), case.positions()
    left = module.rotate(q, k, v, m)
    assert all(map(torch.equal, left[:2], module(q, k, positions=m)))
    assert left[2] is v
    assert module.unrotate(v, m) is v
    assert module.embed(v, m) is v
    assert module.bias(q, k, m, m) is None


@given(case=CASES, factor=st.floats(-2, 2))
def test_factor_multiplies_the_turned_coordinates_only(case: Case, factor: float) -> None:
    x, table = case.x(1), angles(case.positions(), frequencies(case.dim, case.base), dtype=torch.float64)
    plain, scaled = rotate(x, table, case.layout), rotate(x, table, case.layout, factor=factor)
    assert_close(scaled[..., : case.dim], factor * plain[..., : case.dim], 8 * EPS * size(x))
    assert torch.equal(scaled[..., case.dim :], x[..., case.dim :])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("heads", [1, 3])
def test_angles_may_differ_by_head(layout: str, heads: int) -> None:
    x = torch.randn(2, heads, 5, 8, dtype=torch.float64)
    for batch in (1, 2):
        table = torch.randn(batch, heads, 5, 3, dtype=torch.float64)
        turned = rotate(x, table, layout)
        for h in range(heads):
            left, right = turned[:, h : h + 1], rotate(x[:, h : h + 1], table[:, h : h + 1], layout)
            assert_close(left, right, 8 * EPS * size(left))


@given(case=CASES, axes=st.permutations(range(4)), start=st.integers(0, 3), step=st.integers(1, 2))
def test_any_strides_and_storage_offset_turn_alike(
    case: Case, axes: list[int], start: int, step: int
) -> None:
    """The eager path views memory as complex: odd offsets, odd strides and transposes must not break it."""
    x, m = case.x(1), case.positions()
    table = angles(m, frequencies(case.dim, case.base), dtype=torch.float64)
    laid = x.permute(axes)
    memory = torch.zeros(start + step * x.numel() + 1, dtype=x.dtype)
    view = memory[start : start + step * x.numel() : step].view(laid.shape).copy_(laid)
    view = view.permute([axes.index(i) for i in range(4)])
    assert torch.equal(view, x)
    assert_close(rotate(view, table, case.layout), rotate(x, table, case.layout), 8 * EPS * size(x))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_input_is_left_as_it_was(layout: str) -> None:
    x = torch.randn(1, 2, 5, 8)
    before = x.clone()
    turned = rotate(x, angles(torch.arange(5), frequencies(8)), layout)
    turned.zero_()
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(0, 2, 3, 8), (2, 0, 3, 8), (2, 2, 0, 8)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_input_stays_empty(layout: str, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    q, k = RotaryEmbedding(6, layout=layout)(x, x)
    assert q.shape == k.shape == shape
    table = torch.zeros(shape[2], 0)  # no pair turns
    assert rotate(x, table, layout).shape == shape


# Gradients


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "positions", [torch.tensor([0, 3, 1_000]), torch.tensor([[0.5, -2.25, 40.0], [7, 8, 9]])]
)
def test_gradients(layout: str, positions: Tensor) -> None:
    """First and second derivatives by x, by the frequencies and by real positions, against differences."""
    torch.manual_seed(0)
    x = torch.randn(2, 1, 3, 6, dtype=torch.float64, requires_grad=True)
    freqs = frequencies(4).requires_grad_()
    m = positions.double().requires_grad_()

    def turn(x: Tensor, freqs: Tensor, m: Tensor) -> Tensor:
        return rotate(x, angles(m, freqs, dtype=torch.float64), layout, factor=1.25)

    inputs = (x, freqs, m)
    assert torch.autograd.gradcheck(turn, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(turn, inputs)
    assert torch.autograd.gradcheck(lambda x: turn(x, freqs.detach(), m.detach()), x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: turn(x, freqs.detach(), m.detach()).square(), x)


@given(case=CASES)
def test_gradient_of_a_rotation_turns_back(case: Case) -> None:
    """Rᵀ = R⁻¹: the gradient of ⟨y, R x⟩ by x is R⁻¹ y."""
    x, y, m = case.x(1).requires_grad_(), case.x(2), case.positions()
    turned, _ = rope(x, x, m, **case.how)
    (gradient,) = torch.autograd.grad(turned, x, y)
    assert_close(gradient, reference(y, -m, **case.how), slack(m, m) * size(y))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_learned_frequencies_learn(layout: str) -> None:
    """Gradient descent on the frequencies alone finds the ones that turned the target."""
    torch.manual_seed(0)
    module, x = RotaryEmbedding(2, layout=layout, learned=True), torch.randn(1, 1, 8, 2)
    target = rotate(x, angles(torch.arange(8), torch.tensor([1.1])), layout)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        (module(x, x)[0] - target).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(module.learned_freqs.detach(), torch.tensor([1.1]), atol=1e-4, rtol=0)


def test_learned_frequencies_start_as_the_fixed_ones() -> None:
    x = torch.randn(1, 2, 4, 8)
    fixed, learned = RotaryEmbedding(8), RotaryEmbedding(8, learned=True)
    torch.testing.assert_close(learned(x, x), fixed(x, x), atol=1e-6, rtol=0)
    assert learned.frequencies() is learned.learned_freqs
    assert fixed.frequencies().dtype == torch.float64


# Layout conversion


def test_the_permutation_is_written_out() -> None:
    x = torch.arange(8)
    assert convert_layout(x, "interleaved", "half").tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert convert_layout(x, "half", "interleaved").tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert convert_layout(x, "interleaved", "half", rotary_dim=4).tolist() == [0, 2, 1, 3, 4, 5, 6, 7]
    assert convert_layout(x, "half", "interleaved", rotary_dim=0).tolist() == x.tolist()


@given(case=CASES, axis=st.integers(-4, 3), layouts=st.permutations(LAYOUTS))
def test_conversion_there_and_back_is_the_identity(case: Case, axis: int, layouts: list[str]) -> None:
    there, back = layouts
    x = case.x(1).movedim(-1, axis)
    converted = convert_layout(x, there, back, rotary_dim=case.dim, axis=axis)
    assert torch.equal(convert_layout(converted, back, there, rotary_dim=case.dim, axis=axis), x)
    assert torch.equal(convert_layout(x, there, there, rotary_dim=case.dim, axis=axis), x)
    if case.dim > 2:
        assert not torch.equal(converted, x)


@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize(("heads", "kv_heads", "tail"), [(4, 4, 0), (6, 2, 0), (4, 1, 3)])
def test_converted_projections_keep_scores_if_both_are_converted(
    source: str, heads: int, kv_heads: int, tail: int
) -> None:
    """Grouped queries, biases, a partly rotated head: equal scores, and others if only one is converted."""
    torch.manual_seed(0)
    dim, width, length = 8, 16, 6
    target = "half" if source == "interleaved" else "interleaved"
    x = torch.randn(2, length, width, dtype=torch.float64)
    wq, bq, wk, bk = (
        torch.randn(n * (dim + tail), *rest, dtype=torch.float64)
        for n in (heads, kv_heads)
        for rest in ((width,), ())
    )

    def scores(wq: Tensor, bq: Tensor, wk: Tensor, bk: Tensor, layout: str) -> Tensor:
        q = (x @ wq.T + bq).unflatten(-1, (heads, -1)).transpose(1, 2)
        k = (x @ wk.T + bk).unflatten(-1, (kv_heads, -1)).transpose(1, 2)
        q, k = RotaryEmbedding(dim, layout=layout)(q, k)
        return q @ k.repeat_interleave(heads // kv_heads, dim=1).mT

    def convert(weight: Tensor, n: int) -> Tensor:
        return convert_projection(weight, n, source, target, rotary_dim=dim)

    before = scores(wq, bq, wk, bk, source)
    cq, cbq, ck, cbk = convert(wq, heads), convert(bq, heads), convert(wk, kv_heads), convert(bk, kv_heads)
    torch.testing.assert_close(scores(cq, cbq, ck, cbk, target), before, atol=1e-11, rtol=0)
    for wrong in ((cq, cbq, wk, bk), (wq, bq, ck, cbk), (wq, bq, wk, bk), (cq, bq, ck, bk)):
        assert (scores(*wrong, target) - before).abs().max() > 0.1
    undone = convert_projection(cq, heads, target, source, rotary_dim=dim)
    assert torch.equal(undone, wq)
