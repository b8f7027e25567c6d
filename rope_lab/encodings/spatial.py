"""More matrices of frequencies for tokens with coordinates: unequal shares, and directions that cover the plane evenly.

    axes      each axis owns pairs of its own, as many as you say, with a whole spectrum (FLUX, Wan)
    golden    pair i turns with the distance along a direction of its own, the golden ratio apart from the last one

`axial.RotaryEmbeddingND` takes any of them. Sources: Black Forest Labs 2025, FLUX.1 Kontext (arXiv:2506.15742); Wan
2025 (arXiv:2503.20314); Xiong 2025, On N-dimensional rotary positional embeddings (jerryxio.ng/posts/nd-rope).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rope_lab.checks import check_integers, is_integer
from rope_lab.encodings.rotary import frequencies


def axes_frequencies(dims: Sequence[int], base: float = 10_000.0) -> Tensor:
    """Axis a owns dims[a]/2 adjacent pairs, with the frequencies of RoPE of dimension dims[a]; shape (A, D/2), float64.

    `axial_frequencies` is the case of equal shares. The published code of FLUX.1 has (16, 56, 56), that of Wan 2.1
    (44, 42, 42).

    Args:
        dims: coordinates of each axis, positive and even; D is their sum.
        base: of the frequencies of every axis.

    Raises:
        ValueError: if `dims` is empty or one of them is not positive and even.
    """
    if not len(dims) or any(not is_integer(dim) or dim <= 0 or dim % 2 for dim in dims):
        raise ValueError(f"dims must be positive even numbers, one per axis, got {dims}")
    return torch.block_diag(*[frequencies(int(dim), base, device="cpu")[None] for dim in dims])


def golden_directions(count: int, axes: int = 2) -> Tensor:
    """Unit vectors that cover all directions evenly, however many are taken from the first one on; (A, count), float64.

    A direction and its opposite count as one, since they belong to the same rotations in opposite senses. In the plane
    the directions follow each other at the golden section of half a turn, 111.2°. In more dimensions they are the
    points of an additive sequence with the generalised golden ratio, seen through the quantile function of a Gaussian.

    Args:
        count: number of vectors.
        axes: number A of coordinates, at least 2.

    Raises:
        ValueError: if `count` is not positive or `axes` is less than 2.
    """
    (count,) = check_integers(count=count)
    (axes,) = check_integers(2, axes=axes)
    index = torch.arange(count, dtype=torch.float64, device="cpu")
    if axes == 2:
        angle = index * (math.pi * (math.sqrt(5) - 1) / 2)
        return torch.stack((angle.cos(), angle.sin()))
    ratio = 1.5  # the root of x^(A + 1) = x + 1
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (axes + 1))
    steps = ratio ** -torch.arange(1, axes + 1, dtype=torch.float64, device="cpu")
    points = torch.special.ndtri((0.5 + steps[:, None] * (index + 1)) % 1)  # Gaussian vectors, as if drawn
    return points / points.norm(dim=0)


def golden_frequencies(
    dim: int,
    axes: int = 2,
    base: float = 100.0,
    *,
    heads: int | None = None,
    spectrum: Tensor | None = None,
) -> Tensor:
    """Pair i turns by θ_i times the distance along its own direction, one of `golden_directions`.

    Args:
        dim: coordinates D of a head, positive and even.
        axes: number A of coordinates of a token.
        base: of the spectrum θ_i = base^(−2i/D).
        heads: if given, each head goes on with the directions where the last one stopped.
        spectrum: θ_i in place of those of `base`, shape (D/2,), such as the first result of a scaling.

    Returns:
        Float64, shape (A, D/2), or (A, H, D/2) with `heads`.

    Raises:
        ValueError: if a number is not as above or the spectrum has another shape.
    """
    freqs = frequencies(dim, base, device="cpu") if spectrum is None else spectrum.double()
    if freqs.shape != (dim // 2,):
        raise ValueError(
            f"spectrum must have {dim // 2} numbers, one per pair, got shape {tuple(freqs.shape)}"
        )
    if heads is None:
        return freqs * golden_directions(len(freqs), axes)
    (heads,) = check_integers(heads=heads)
    return freqs * golden_directions(heads * len(freqs), axes).unflatten(1, (heads, len(freqs)))
