"""Blocks, derivatives of the table and batched calls change nothing about a turn."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from rope_lab import angles, frequencies, rotate
from rope_lab.encodings import turning

LAYOUTS = ("interleaved", "half")
NARROW = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("block", [1, 100, 2**18])
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_give_the_whole(
    layout: str, dtype: torch.dtype, rows: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounded once, forwards and backwards; float32 may differ in its last bit, and so a value close to a tie."""
    monkeypatch.setattr(turning, "BLOCK", block)
    positions = torch.randint(-1_000, 1_000, (2, 7) if rows else (7,))
    close = partial(torch.testing.assert_close, rtol=torch.finfo(dtype).eps, atol=1e-6)
    x, y = (torch.randn(2, 3, 7, 10).to(dtype) for _ in range(2))
    table = angles(positions, frequencies(8))
    leaf = x.clone().requires_grad_()
    turned = rotate(leaf, table, layout)
    assert turned.dtype == dtype
    close(turned, rotate(x.float(), table, layout).to(dtype))
    (gradient,) = torch.autograd.grad(turned, leaf, y)
    close(gradient, rotate(y.float(), -table, layout).to(dtype))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_axis_of_tokens_elsewhere_is_turned_in_blocks_too(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turning, "BLOCK", 50)
    x, table = torch.randn(2, 7, 3, 8).bfloat16(), angles(torch.arange(7), frequencies(8))
    turned = rotate(x, table, layout, axis=1)
    whole = rotate(x.transpose(1, 2).float(), table, layout).bfloat16()
    torch.testing.assert_close(turned.transpose(1, 2), whole, rtol=torch.finfo(x.dtype).eps, atol=1e-6)


@pytest.mark.parametrize("batched", [(0, None), (None, 0), (1, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, *NARROW])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_vmap_over_either_argument(
    layout: str, dtype: torch.dtype, batched: tuple[int | None, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turning, "BLOCK", 50)
    x, table = torch.randn(5, 5, 7, 8).to(dtype), torch.randn(5, 7, 4)
    x, table = x if batched[0] is not None else x[0], table if batched[1] is not None else table[0]
    turned = torch.func.vmap(partial(rotate, layout=layout), in_dims=batched)(x, table)
    for i in range(5):
        one = x if batched[0] is None else x.select(batched[0], i)
        by = table if batched[1] is None else table[i]
        torch.testing.assert_close(turned[i], rotate(one, by, layout), rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_functional_derivatives(layout: str, dtype: torch.dtype) -> None:
    """Forward mode, along x and along the angles, and reverse mode agree, alone and under vmap."""
    x, table = torch.randn(2, 1, 3, 4, dtype=dtype), torch.randn(3, 2, dtype=dtype)

    def turn(x: Tensor, table: Tensor) -> Tensor:
        return rotate(x, table, layout)

    for argument in (0, 1):
        forwards = torch.func.jacfwd(turn, argument)(x, table)
        torch.testing.assert_close(forwards, torch.func.jacrev(turn, argument)(x, table))


@pytest.mark.parametrize("dtype", [torch.float32, *NARROW])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiled_under_autocast_to_another_half_type(layout: str, dtype: torch.dtype) -> None:
    table = angles(torch.arange(6), frequencies(8))
    x = torch.randn(1, 2, 6, 8).to(dtype)
    torch._dynamo.reset()
    compiled = torch.compile(
        partial(rotate, angles=table, layout=layout), fullgraph=True, backend="aot_eager"
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        turned = compiled(x)
    torch.testing.assert_close(turned, rotate(x, table, layout), rtol=0, atol=1e-6)
    assert turned.dtype == dtype


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_backward_keeps_the_table_and_not_the_tensor(layout: str) -> None:
    saved: list[tuple[int, ...]] = []

    def pack(t: Tensor) -> Tensor:
        saved.append(tuple(t.shape))
        return t

    x = torch.randn(2, 3, 7, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        rotate(x, angles(torch.arange(7), frequencies(8)), layout)
    assert saved == [(7, 4), (7, 4)]
