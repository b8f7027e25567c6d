"""Nothing broadcasts by accident: what fits no documented shape is refused in one line, by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rope_lab import RotaryEmbedding, angles, convert_layout, convert_projection, frequencies, rotate

LAYOUTS = ("interleaved", "half")
SIZES = st.integers(1, 3)  # few sizes, so that unrelated axes often agree


def refused(call: Callable[[], object], error: type[Exception], argument: str, *words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"{argument} ")
    assert "\n" not in message
    for word in words:
        assert re.search(rf"(?<!\w){re.escape(word)}", message), message


@given(x_shape=st.lists(SIZES, min_size=1, max_size=5), table_shape=st.lists(SIZES, max_size=5))
def test_rotate_takes_the_documented_shapes_and_no_other(x_shape: list[int], table_shape: list[int]) -> None:
    x, table = torch.randn(*x_shape[:-1], 2 * x_shape[-1]), torch.zeros(table_shape)
    *rest, pairs = x_shape
    documented = [rest[-1:]]  # (N, R/2)
    if len(rest) == 3:
        batch, heads, length = rest
        documented = [[batch, 1, length], [batch, heads, length], [1, heads, length]]
        documented += [rest[-1:]]
    fits = bool(rest) and table_shape[:-1] in documented and bool(table_shape) and table_shape[-1] <= pairs
    for layout in LAYOUTS:
        if fits:
            assert torch.equal(rotate(x, table, layout), x)
        else:
            refused(lambda layout=layout: rotate(x, table, layout), ValueError, "angles" if rest else "x")


@given(
    sizes=st.tuples(SIZES, SIZES, SIZES, SIZES),
    shape=st.lists(SIZES, max_size=4),
    module=st.sampled_from([RotaryEmbedding(2), RotaryEmbedding(2, layout="half", learned=True)]),
)
def test_positions_belong_to_tokens_or_to_rows_of_tokens(
    sizes: tuple[int, ...], shape: list[int], module: RotaryEmbedding
) -> None:
    batch, heads, kv_heads, length = sizes
    q, k = torch.randn(batch, heads, length, 2), torch.randn(batch, kv_heads, length, 2)
    positions = torch.arange(torch.Size(shape).numel()).view(shape)
    if shape in ([length], [batch, length]):
        turned_q, turned_k = module(q, k, positions=positions)
        assert (turned_q.shape, turned_k.shape) == (q.shape, k.shape)
        rows = positions.expand(batch, length)
        for b in range(batch):
            alone = rotate(q[b], angles(rows[b], module.frequencies()), module.layout)
            torch.testing.assert_close(turned_q[b], alone)
    else:
        refused(lambda: module(q, k, positions=positions), ValueError, "positions")


@given(shape=st.lists(st.integers(0, 3), max_size=4), freqs=st.lists(st.integers(0, 3), max_size=2))
def test_angles_of_the_documented_shapes(shape: list[int], freqs: list[int]) -> None:
    positions, theta = torch.zeros(shape), torch.ones(freqs)
    if len(shape) not in (1, 2):
        refused(lambda: angles(positions, theta), ValueError, "positions")
    elif len(freqs) != 1:
        refused(lambda: angles(positions, theta), ValueError, "freqs")
    else:
        expected = [*shape, *freqs] if len(shape) == 1 else [shape[0], 1, shape[1], *freqs]
        assert list(angles(positions, theta).shape) == expected


@pytest.mark.parametrize(
    ("x", "table"),
    [
        ((4, 4, 6, 8), (4, 6, 4)),  # (B, N, D/2) against B = H: the sample's angles would fall on the heads
        ((6, 4, 5, 8), (6, 4)),  # (B, D/2) is no (N, D/2)
        ((4, 6, 8), (4, 1, 6, 4)),  # no head axis
        ((4, 6, 8), (4, 6, 4)),
        ((4, 2, 6, 8), (1, 1, 6, 4)),  # positions (1, N) against a batch of 4
        ((4, 2, 6, 8), (1, 4)),  # one position for many tokens
        ((4, 2, 6, 8), (4, 1, 1, 4)),
        ((4, 2, 6, 8), (1, 2, 1, 4)),
        ((6, 6, 8), (6, 1, 4)),  # B = N: with these of a known tutorial the batch index would be the angle
        ((4, 2, 6, 8), (6, 1, 1, 4)),
        ((2, 4, 2, 6, 8), (4, 2, 6, 4)),  # an axis too many
        ((6, 8), (1, 1, 6, 4)),
        ((4, 2, 6, 8), (6, 5)),  # more pairs than coordinates
        ((4, 2, 6, 8), (4,)),
        ((4, 2, 6, 8), ()),
    ],
)
def test_shapes_that_would_broadcast_are_refused(x: tuple[int, ...], table: tuple[int, ...]) -> None:
    for layout in LAYOUTS:
        refused(
            lambda layout=layout: rotate(torch.randn(x), torch.zeros(table), layout), ValueError, "angles"
        )


X, TABLE = torch.randn(1, 2, 4, 8), torch.zeros(4, 4)
N = torch.arange(4)
WEIGHT = torch.randn(6, 3)
to_interleaved = partial(convert_layout, source="half", target="interleaved")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: frequencies(7), ValueError, ("dim", "even", "7")),
        (lambda: frequencies(0), ValueError, ("dim", "positive")),
        (lambda: frequencies(-4), ValueError, ("dim", "positive", "-4")),
        (lambda: frequencies(4.0), ValueError, ("dim", "integer", "4.0")),
        (lambda: frequencies(True), ValueError, ("dim", "integer", "True")),
        (lambda: frequencies("8"), ValueError, ("dim", "integer", "'8'")),
        (lambda: frequencies(8, 0), ValueError, ("base", "positive")),
        (lambda: frequencies(8, -1.0), ValueError, ("base", "positive", "-1.0")),
        (lambda: frequencies(8, float("inf")), ValueError, ("base", "finite", "inf")),
        (lambda: frequencies(8, float("nan")), ValueError, ("base", "finite", "nan")),
        (lambda: angles(N.bool(), frequencies(8)), ValueError, ("positions", "integers", "torch.bool")),
        (lambda: angles(N.cfloat(), frequencies(8)), ValueError, ("positions", "real", "torch.complex64")),
        (lambda: angles(N, frequencies(8).cfloat()), ValueError, ("freqs", "real", "torch.complex64")),
        (lambda: angles(N, torch.arange(4)), ValueError, ("freqs", "floating", "torch.int64")),
        (lambda: angles(N, frequencies(8), dtype=torch.bfloat16), ValueError, ("dtype", "torch.float32")),
        (lambda: rotate(X, TABLE, "split"), ValueError, ("layout", "interleaved", "half", "split")),
        (lambda: rotate(X, TABLE, None), ValueError, ("layout", "interleaved", "half", "None")),
        (lambda: rotate(X.long(), TABLE), ValueError, ("x", "floating", "torch.int64")),
        (lambda: rotate(X.cfloat(), TABLE), ValueError, ("x", "real", "torch.complex64")),
        (lambda: rotate(X, TABLE.bfloat16()), ValueError, ("angles", "torch.float32", "torch.bfloat16")),
        (lambda: rotate(X.double(), TABLE), ValueError, ("angles", "torch.float64", "torch.float32")),
        (lambda: RotaryEmbedding(7), ValueError, ("dim", "even", "7")),
        (lambda: RotaryEmbedding(8, base=-1), ValueError, ("base", "positive", "-1")),
        (lambda: RotaryEmbedding(8, layout="neox"), ValueError, ("layout", "interleaved", "half", "neox")),
        (lambda: RotaryEmbedding(10)(X, X), ValueError, ("dim", "8", "10")),
        (lambda: RotaryEmbedding(6, start=4)(X, X), ValueError, ("dim", "8", "start=4", "6")),
        (lambda: RotaryEmbedding(4, start=1.5), ValueError, ("start", "integer", "0", "1.5")),
        (lambda: RotaryEmbedding(4, start=-1), ValueError, ("start", "integer", "0", "-1")),
        (lambda: RotaryEmbedding(4, heads=1.0), ValueError, ("heads", "integer", "1", "1.0")),
        (lambda: RotaryEmbedding(4, length=0), ValueError, ("length", "positive integer", "0")),
        (lambda: RotaryEmbedding(4)(X, X, length=-3), ValueError, ("length", "negative", "-3")),
        (lambda: RotaryEmbedding(8)(X[0], X[0]), ValueError, ("q", "k", "(2, 4, 8)")),
        (lambda: RotaryEmbedding(8)(X, X[:, :, :2]), ValueError, ("q", "k", "4", "2")),
        (lambda: convert_layout(X, "neox", "half"), ValueError, ("source", "interleaved", "half", "neox")),
        (lambda: convert_layout(X, "half", "gptj"), ValueError, ("target", "interleaved", "half", "gptj")),
        (lambda: to_interleaved(X, rotary_dim=3), ValueError, ("rotary_dim", "even", "3")),
        (lambda: to_interleaved(X, rotary_dim=-2), ValueError, ("rotary_dim", "0", "-2")),
        (lambda: to_interleaved(X, rotary_dim=10), ValueError, ("rotary_dim", "8", "10")),
        (lambda: to_interleaved(X, rotary_dim=2.0), ValueError, ("rotary_dim", "integer")),
        (lambda: to_interleaved(X, axis=4), ValueError, ("axis", "4")),
        (lambda: to_interleaved(X[..., :5]), ValueError, ("rotary_dim", "even", "5")),
        (lambda: convert_projection(WEIGHT, 4, "half", "interleaved"), ValueError, ("heads", "6", "4")),
        (lambda: convert_projection(WEIGHT, 0, "half", "interleaved"), ValueError, ("heads", "6", "0")),
        (lambda: convert_projection(WEIGHT, -3, "half", "interleaved"), ValueError, ("heads", "6", "-3")),
        (lambda: convert_projection(WEIGHT, 3.0, "half", "interleaved"), ValueError, ("heads", "6", "3.0")),
        (lambda: convert_projection(X, 1, "half", "interleaved"), ValueError, ("weight", "(1, 2, 4, 8)")),
        (lambda: convert_projection(WEIGHT, 2, "half", "interleaved"), ValueError, ("rotary_dim", "3")),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(
    call: Callable[[], object], error: type[Exception], words: tuple[str]
) -> None:
    refused(call, error, *words)
