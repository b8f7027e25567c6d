"""Matrices of frequencies with unequal shares and with golden directions: shares, evenness, isotropy, sections."""

from __future__ import annotations

import math

import pytest
import torch

from rope_lab.encodings import (
    RotaryEmbeddingND,
    axes_frequencies,
    axial_frequencies,
    frequencies,
    golden_directions,
    golden_frequencies,
    grid_coordinates,
    rotate,
)


def test_each_axis_of_a_diffusion_transformer_has_a_spectrum_of_its_own():
    flux = axes_frequencies((16, 56, 56))
    assert flux.shape == (3, 64)
    assert (flux != 0).sum(1).tolist() == [8, 28, 28]
    assert ((flux != 0).sum(0) == 1).all()
    for axis, (first, dim) in enumerate(((0, 16), (8, 56), (36, 56))):
        own = [10_000 ** (-2 * i / dim) for i in range(dim // 2)]
        assert flux[axis, first : first + dim // 2].tolist() == pytest.approx(own, rel=1e-14)
    assert axes_frequencies((8, 8), 100.0).equal(axial_frequencies(16, 2))


def test_a_video_turned_by_the_axes_is_each_axis_turned_by_itself():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 2, 24, 32, dtype=torch.float64)
    cells = grid_coordinates(2, 3, 4)
    turned = RotaryEmbeddingND(axes_frequencies((8, 12, 12)))(q, k, coordinates=cells)
    for ours, x in zip(turned, (q, k), strict=True):
        parts = x.split((8, 12, 12), dim=-1)
        by_axis = [
            rotate(part, cells[:, axis, None] * frequencies(part.shape[-1]))
            for axis, part in enumerate(parts)
        ]
        torch.testing.assert_close(ours, torch.cat(by_axis, dim=-1), rtol=0, atol=1e-14)


@pytest.mark.parametrize("count", [2, 3, 5, 8, 13, 21, 34, 55, 100])
def test_golden_directions_leave_no_large_gap(count: int):
    """Of `count` points the golden angle leaves gaps of at most φ² / count of half a turn; drawn ones log(count)."""
    directions = golden_directions(count)
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(count, dtype=torch.float64))
    at = torch.atan2(directions[1], directions[0]).remainder(math.pi).sort().values
    gaps = torch.cat((at, at[:1] + math.pi)).diff() * count / math.pi
    assert gaps.max() < (3 + math.sqrt(5)) / 2
    assert gaps.min() > 0.38


@pytest.mark.parametrize(("axes", "part"), [(2, 0.3), (3, 0.5), (4, 0.7)])
def test_directions_are_even_in_the_mean_of_their_squares(axes: int, part: float):
    """Σ u uᵀ / n is I/A where all directions have the same share; drawn directions are farther from it."""
    count = 64
    u = golden_directions(count, axes)
    torch.testing.assert_close(u.norm(dim=0), torch.ones(count, dtype=torch.float64))
    even = torch.eye(axes, dtype=torch.float64) / axes
    drawn = torch.randn(200, axes, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = drawn / drawn.norm(dim=1, keepdim=True)
    typical = (drawn @ drawn.mT / count - even).norm(dim=(1, 2)).median()
    assert (u @ u.T / count - even).norm() < part * typical


def test_a_score_depends_less_on_the_direction_than_with_an_axis_for_each_pair():
    """Mean cosine at 24 offsets of one length: its standard deviation over the directions.

    Next to the query it is the other way round: the squares of axial frequencies are the same along every direction.
    """
    angle = torch.arange(24, dtype=torch.float64) * math.pi / 24
    circle = torch.stack((angle.sin(), angle.cos()), dim=-1)
    golden, axial = golden_frequencies(128), axial_frequencies(128, 2)
    for length, low, high in (
        (4.0, golden, axial),
        (8.0, golden, axial),
        (12.0, golden, axial),
        (1.0, axial, golden),
    ):
        spread = [(length * circle @ freqs).cos().mean(-1).std() for freqs in (low, high)]
        assert spread[0] < spread[1] / 4


def test_the_length_of_a_golden_frequency_is_that_of_rope():
    freqs = golden_frequencies(32, base=50.0)
    torch.testing.assert_close(freqs.norm(dim=0), frequencies(32, 50.0))
    of_heads = golden_frequencies(32, 3, 50.0, heads=5)
    assert of_heads.shape == (3, 5, 16)
    torch.testing.assert_close(of_heads.norm(dim=0), frequencies(32, 50.0).expand(5, 16))
    flat = golden_frequencies(160, 3, spectrum=torch.ones(80))
    torch.testing.assert_close((of_heads / frequencies(32, 50.0)).flatten(1), flat)
    assert golden_frequencies(32, heads=1)[:, 0].equal(golden_frequencies(32))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: axes_frequencies(()), r"^dims must be positive even numbers, one per axis, got \(\)$"),
        (lambda: axes_frequencies((16, 55)), r"^dims .*got \(16, 55\)$"),
        (lambda: axes_frequencies((16, 0)), r"^dims .*got \(16, 0\)$"),
        (lambda: axes_frequencies((16, 8.0)), r"^dims .*got \(16, 8\.0\)$"),
        (lambda: golden_directions(0), r"^count must be a positive integer, got 0$"),
        (lambda: golden_directions(4, 1), r"^axes must be an integer of at least 2, got 1$"),
        (lambda: golden_frequencies(7), r"^dim "),
        (lambda: golden_frequencies(8, heads=0), r"^heads must be a positive integer, got 0$"),
        (
            lambda: golden_frequencies(8, spectrum=torch.ones(3)),
            r"^spectrum must have 4 numbers, one per pair, got shape \(3,\)$",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
