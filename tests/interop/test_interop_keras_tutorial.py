"""The well-known tutorial's rotation of token embeddings: what went wrong there, and what ours can and cannot mend."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"  # before the first import of keras

import pytest
import torch

import rope_lab
from rope_lab.interop import keras as ours


def tutorial(x: torch.Tensor, index: tuple) -> torch.Tensor:
    """The tutorial's rotation of x (B, S, D), with its index into the (S, D) table."""
    table, half = ours.get_rotary_embedding(x.shape[1], x.shape[2]), x.shape[2] // 2
    sin, cos = table[:, :half][index], table[:, half:][index]
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


THEIRS, RIGHT = (slice(None), None), (None,)  # [:, None, :half] and [None, :, :half]


@pytest.mark.parametrize("batch", [1, 2, 6, 9])
def test_the_tutorial_rotates_by_the_batch_index(batch: int):
    """Its broadcast: wrong without an error for B = S = 6, S times too large for B = 1, an error otherwise."""
    x = torch.randn(batch, 6, 8)
    expected = rope_lab.rotate(x, rope_lab.angles(torch.arange(6), rope_lab.frequencies(8)), "half")
    layer = ours.RotaryEmbeddingLayer()
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(layer(x), tutorial(x, RIGHT), rtol=0, atol=1e-6)
    if batch == 1:
        wrong = tutorial(x, THEIRS)
        assert wrong.shape == (6, 6, 8)
        torch.testing.assert_close(wrong[torch.arange(6), torch.arange(6)], expected[0], rtol=0, atol=1e-6)
    elif batch == 6:
        by_row = rope_lab.angles(torch.arange(6), rope_lab.frequencies(8))[:, None].expand(6, 6, 4)
        rows = [rope_lab.rotate(x[b], by_row[b], "half") for b in range(6)]
        wrong = tutorial(x, THEIRS)
        torch.testing.assert_close(wrong, torch.stack(rows), rtol=0, atol=1e-6)
        plain, theirs, here = (y @ y.mT for y in (x, wrong, layer(x)))
        torch.testing.assert_close(theirs, plain, rtol=1e-5, atol=1e-5)  # as if there were no positions
        assert (here - plain).abs().max() > 0.5
    else:
        with pytest.raises(RuntimeError, match="must match"):
            tutorial(x, THEIRS)


def test_a_sequence_of_one_token_is_left_as_it_is():
    x = torch.randn(4, 1, 8)
    assert torch.equal(ours.RotaryEmbeddingLayer()(x), x)
    assert torch.equal(tutorial(x, THEIRS), x)


def test_rotating_embeddings_is_not_relative_and_rotating_queries_and_keys_is():
    torch.manual_seed(0)
    x, shift = torch.randn(1, 12, 64, dtype=torch.float64), 5
    w_q, w_k = (torch.randn(64, 64, dtype=torch.float64) / 8 for _ in range(2))
    rope = ours.RotaryEmbedding(layout="half", dtype="float64")

    def scores(embeddings_turn: bool, offset: int) -> torch.Tensor:
        if embeddings_turn:
            turned = rope(x, offset=offset)
            return (turned @ w_q) @ (turned @ w_k).mT / 8
        q, k = rope(x @ w_q, x @ w_k, offset=offset)
        return q @ k.mT / 8

    at_zero = scores(True, 0)
    layer = ours.RotaryEmbeddingLayer(dtype="float64")(x)
    torch.testing.assert_close(at_zero, (layer @ w_q) @ (layer @ w_k).mT / 8)
    moved = [
        (scores(kind, shift) - scores(kind, 0)).norm() / scores(kind, 0).norm() for kind in (True, False)
    ]
    assert moved[0] > 0.5
    assert moved[1] < 1e-12
    # ... and it is, once W_qᵀ W_k is a rotation and scaling of every pair, which commutes with R
    a, b = torch.randn(2, 32, dtype=torch.float64)
    w_q = torch.cat((torch.cat((a.diag(), b.diag()), 1), torch.cat((-b.diag(), a.diag()), 1)))
    w_k = torch.eye(64, dtype=torch.float64)
    torch.testing.assert_close(scores(True, shift), scores(True, 0), rtol=0, atol=1e-12)


def test_table_of_the_tutorial():
    angle = torch.arange(7).double()[:, None] * rope_lab.frequencies(10, 50.0)
    table = ours.get_rotary_embedding(7, 10, base=50.0)
    torch.testing.assert_close(table, torch.cat((angle.sin(), angle.cos()), -1).float(), rtol=0, atol=1e-7)
