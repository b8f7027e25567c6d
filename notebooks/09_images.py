# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (chapter-images)=
# # 09 · Images and video
#
# A text is a line, but the patches of an image lie on a grid, and those of a video in a block of frames, rows and
# columns. In a text one number, the position, fixes every angle. **By what does a patch in row 3 and column 5 turn?**
#
# RoPE turns the $D$ numbers of a query or key in pairs, and each pair may weigh rows and columns as it likes. (On this
# page *coordinates* are those of a token: row, column, frame.) The figure shows what comes of three choices for a query
# and a key that are equal. In the middle the two are in the same patch; the colour of a cell says how well they
# match when the key is so many rows and columns away: red is 1, white 0, blue −1. Change the choice and the number of
# pairs, and look along the ring:

# %% tags=["hide-input"]
from rope_lab.figures.plane import plane

plane()

# %% [markdown]
# The axial choice leaves a cross: far along a row, half of the pairs have not turned at all. The golden ratio leaves
# rings. This chapter derives these maps, asks which rotations in several dimensions depend on the offset only, and
# tries them on handwritten digits.
#
# ## Two coordinates, one angle
#
# Start with a head of $D = 4$ numbers, two pairs. Let the first pair turn by one radian per row and the second by one
# radian per column. For $q = k = (1, 0, 1, 0)$ and a key two rows and three columns away, the pairs contribute $\cos 2$
# and $\cos 3$, so the score is $-0.42 - 0.99 = -1.41$.
#
# In general a token has coordinates $p = (p_1, \dots, p_A)$, here row and column, and pair $i$ has a frequency for each
# of them, $f_i = (f_{1i}, \dots, f_{Ai})$. It turns by the angle $p \cdot f_i = \sum_a p_a f_{ai}$. Write pairs as
# complex numbers. With the arrows $h_i = q_i \bar k_i$ of chapter 6 and the offset $\delta = p - p'$ of a query at $p$
# and a key at $p'$, the score is
#
# $$
# \langle R_p q,\, R_{p'} k \rangle
# = \operatorname{Re} \sum_{i=0}^{D/2-1} h_i\, \mathrm{e}^{\mathrm{i}\, \delta \cdot f_i} .
# $$ (eq-9-1)
#
# The whole encoding is the matrix $f$ of frequencies, $A$ rows and $D/2$ columns. The three of the figure are:
#
# - **Axial RoPE** gives each coordinate a share of the pairs, and each share a spectrum of its own {cite:p}`heo2024`.
# - **RoPE-Mixed** learns every entry of $f$, in each layer and head {cite:p}`heo2024`. It starts from the axial matrix,
#   whose two directions each head turns by a random angle.
# - **Golden directions** {cite:p}`xiong2025` take one spectrum $\theta_i$ and let pair $i$ look along a direction $u_i$
#   of its own, $f_i = \theta_i u_i$. From pair to pair the direction moves on by the golden section of half a turn.

# %%
import math

import torch
from torch import Tensor

from rope_lab.encodings import (
    RotaryEmbeddingND,
    axial_frequencies,
    golden_frequencies,
    grid_coordinates,
    mixed_frequencies,
)
from rope_lab.verify import check, check_at_most

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # checks then show the 16th digit
torch.manual_seed(9)
draws = 1000


def pairs(x: Tensor) -> Tensor:
    """(..., D) -> (..., D/2) complex."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def by_package(q: Tensor, k: Tensor, p: Tensor, p_key: Tensor, freqs: Tensor) -> Tensor:
    """Scores of row after row: q, k (N, D), coordinates p, p_key (N, A)."""
    rope = RotaryEmbeddingND(freqs)
    turned_q, _ = rope(q[None, None], k[None, None], coordinates=p)
    _, turned_k = rope(q[None, None], k[None, None], coordinates=p_key)
    return (turned_q * turned_k).sum(-1)[0, 0]


def by_arrows(h: Tensor, offset: Tensor, freqs: Tensor) -> Tensor:
    """Right side of equation 9.1: h (N, D/2), offset (N, A)."""
    turns = offset @ freqs
    return (h * torch.polar(torch.ones_like(turns), turns)).sum(-1).real


generator = torch.Generator().manual_seed(5)
matrices = {
    "axial": axial_frequencies(64, 2),
    "mixed": mixed_frequencies(64, 1, base=100.0, generator=generator)[:, 0],
    "golden ratio": golden_frequencies(64),
}
q, k = torch.randn(2, draws, 64)
p, p_key = 20 * torch.rand(2, draws, 2)
h = pairs(q) * pairs(k).conj()
for name, freqs in matrices.items():
    scores = by_package(q, k, p, p_key, freqs)
    check(f"eq. 9.1, {name}", scores, by_arrows(h, p - p_key, freqs), draws=draws)
one_each = by_arrows(torch.ones(1, 2), torch.tensor([[2.0, 3.0]]), torch.eye(2))
check("eq. 9.1, by hand", one_each, torch.tensor([math.cos(2) + math.cos(3)]))

# %% [markdown]
# ### What an axial head cannot say
#
# In axial RoPE every pair looks at one coordinate, so the score is a sum $S(a, b) = S_1(a) + S_2(b)$ of a part that
# knows the row offset and a part that knows the column offset. For any two offsets $(a, b)$ and $(c, d)$ this means
#
# $$ S(a, b) + S(c, d) = S(a, d) + S(c, b) . $$ (eq-9-2)
#
# Here $S$ belongs to one query and one key: all patches look alike, and the place alone decides. Then a head may prefer
# a single patch, say three rows up and two columns left. But it cannot prefer *two* patches in different rows and
# columns to both of the crossed ones, whatever the query and the key are: if the left side is large, so is the right.
# For example, its two neighbours along one diagonal never both beat those along the other. (Patches with different
# content have different keys, and the equation says nothing of them.) With golden directions the same two places can
# win:


# %%
def corners(h: Tensor, a: float, b: float, c: float, d: float, freqs: Tensor) -> Tensor:
    """S at (a, b), (c, d), (a, d), (c, b): h (N, D/2) -> (N, 4)."""
    at = torch.tensor([[a, b], [c, d], [a, d], [c, b]])
    return torch.stack(
        [by_arrows(h, offset.expand(len(h), 2), freqs) for offset in at], dim=-1
    )


for name, freqs in matrices.items():
    S = corners(h, -3.0, -2.0, 1.0, 4.0, freqs)
    one_way, other_way = S[:, 0] + S[:, 1], S[:, 2] + S[:, 3]
    if name == "axial":
        check("eq. 9.2", one_way, other_way, draws=draws)
    else:
        print(f"{name}: the sides differ by {(one_way - other_way).std():.1f} (SD)")
    print(f"{name}: a sum of two scores has an SD of {one_way.std():.1f}")

golden = matrices["golden ratio"]
four = torch.tensor([[-3.0, -2.0], [1.0, 4.0], [-3.0, 4.0], [1.0, -2.0]]) @ golden
fits = torch.polar(torch.ones_like(four), -four)
pointed = (fits[0] + fits[1] - fits[2] - fits[3])[None]  # to two places, from two
weights = (corners(pointed, -3.0, -2.0, 1.0, 4.0, golden)[0] / 8).softmax(-1)
print(
    f"golden ratio, pointed: weights {weights[0]:.2f} and {weights[1]:.2f} at the two"
)
print(f"places, {weights[2]:.2f} and {weights[3]:.2f} at the crossed ones")
check_at_most("golden: two places beat the crossed ones", weights[2:], weights[:2])

# %% [markdown]
# ### Is it the same in every direction?
#
# The map of the figure is the score of equal vectors, divided by $D/2$ for vectors whose pairs have length 1: the mean
# $c(\delta)$ of $\cos \delta \cdot f_i$ over the pairs. Close to the middle a cosine is a parabola,
#
# $$
# \begin{aligned}
# c(\delta) &\approx 1 - \tfrac12\, \delta^{\top} K \delta , \\
# K &= \frac{2}{D} \sum_{i=0}^{D/2-1} f_i f_i^{\top} .
# \end{aligned}
# $$ (eq-9-3)
#
# For axial RoPE in the plane the two shares have equal spectra, so $K$ is a multiple of the identity: up to the
# parabola the score is the same in all directions. A head of RoPE-Mixed at initialisation has the axial map, turned.
# Farther away the terms beyond the parabola decide:


# %%
def mean_cosine(offset: Tensor, freqs: Tensor) -> Tensor:  # (..., 2) -> (...)
    return (offset @ freqs).cos().mean(-1)


near = 0.1 * torch.randn(draws, 2)
for name, freqs in matrices.items():
    K = freqs @ freqs.T / freqs.shape[1]
    parabola = 1 - (near @ K * near).sum(-1) / 2
    check(
        f"eq. 9.3, {name}", mean_cosine(near, freqs), parabola, tolerance=1e-4,
        reason="approximation", draws=draws,
    )  # fmt: skip
axial = matrices["axial"]
squares = axial @ axial.T
check("K of axial RoPE", squares, squares[0, 0] * torch.eye(2))
mixed = matrices["mixed"]
turn = torch.atan2(mixed[1, 0], mixed[0, 0])
back = torch.tensor([[turn.cos(), turn.sin()], [-turn.sin(), turn.cos()]])
far = 8 * torch.randn(draws, 2)
as_axial = mean_cosine(far @ back.T, axial)
check("mixed is axial, turned", mean_cosine(far, mixed), as_axial, draws=draws)

# %%
from rope_lab.figures.table import table

bearing = torch.arange(180) * math.pi / 180
circle = torch.stack((bearing.sin(), bearing.cos()), dim=-1)
radii = (1, 4, 8, 16)
table(
    [
        [f"{name}, {dim // 2} pairs"]
        + [mean_cosine(radius * circle, freqs).std() for radius in radii]
        for dim in (128, 32)
        for name, freqs in (
            ("axial", axial_frequencies(dim, 2)),
            ("golden", golden_frequencies(dim)),
        )
    ],
    {"frequencies": "", **{f"{radius} away": ".4f" for radius in radii}},
    caption="SD of c over 180 directions at four distances in patches, base 100.",
)

# %% [markdown]
# One patch away axial RoPE is the more even of the two. In a head with 64 pairs golden directions are at 4, 8 and 16
# patches, by factors of about 6, 8 and 3. With 16 pairs that is a factor of two at 4 patches, and nothing at 8 and 16.
#
# ## Which rotations are relative?
#
# Must each pair be turned as a pair? Let a token be turned by any rotation that grows linearly with its coordinates,
# $R_p = \exp(p_1 G_1 + \dots + p_A G_A)$ with skew-symmetric $D \times D$ matrices $G_a$, the **generators**. In RoPE
# they are block-diagonal. Several papers learn them instead. One theorem sorts these papers:
#
# $$
# \begin{gathered}
# R_p^{\top} R_{p'} = R_{p' - p} \;\text{ for all } p, p' \\
# \iff\; G_a G_b = G_b G_a \;\text{ for all } a, b .
# \end{gathered}
# $$ (eq-9-4)
#
# The left side says that every score depends on the offset only.
#
# *From right to left:* for matrices that commute, $\mathrm{e}^X \mathrm{e}^Y = \mathrm{e}^{X + Y}$, and $R_p^{\top} =
# R_{-p}$, since the generators are skew-symmetric.
#
# *From left to right:* take $p = -s$ along axis $a$ and $p' = t$ along axis $b$. Then $\mathrm{e}^{sG_a}\,
# \mathrm{e}^{tG_b} = \mathrm{e}^{sG_a + tG_b}$, and with the roles exchanged the same matrix is $\mathrm{e}^{tG_b}\,
# \mathrm{e}^{sG_a}$. The derivative by $s$ and $t$ at 0 is $G_a G_b = G_b G_a$. You can watch it fail: if they do not
# commute, then already the first term in which the two sides can differ does,
#
# $$
# \mathrm{e}^{sG_a}\, \mathrm{e}^{tG_b} - \mathrm{e}^{sG_a + tG_b}
# \approx \frac{st}{2}\, (G_a G_b - G_b G_a) .
# $$ (eq-9-5)
#
# So we draw generators at random, as dense as in LieRE {cite:p}`ostmeier2024`, and look:


# %%
def skew(*shape: int) -> Tensor:
    """A random skew-symmetric matrix, (..., D, D)."""
    x = torch.randn(shape)
    return (x - x.mT) / (2 * shape[-1]) ** 0.5


def rotation(p: Tensor, G: Tensor) -> Tensor:
    """exp(Σ p_a G_a): p (N, A), G (A, D, D) -> (N, D, D)."""
    return torch.matrix_exp(torch.einsum("na,aij->nij", p, G))


def moved(G: Tensor, draws: int = 200) -> tuple[Tensor, Tensor]:
    """R_p^T R_p' before and after a shift of both tokens, (draws, D, D) each."""
    p, p_key, shift = 3 * torch.randn(3, draws, 2)
    before = rotation(p, G).mT @ rotation(p_key, G)
    return before, rotation(p + shift, G).mT @ rotation(p_key + shift, G)


def commutator(G: Tensor) -> Tensor:
    return G[0] @ G[1] - G[1] @ G[0]


dense = skew(2, 8, 8)
step = 1e-4
along = torch.tensor([[step, 0.0], [0.0, step]])
first, second = rotation(along, dense)
gap = (first @ second - rotation(along.sum(0)[None], dense)[0]) / step**2
check("eq. 9.5", gap, commutator(dense) / 2, tolerance=1e-3, reason="approximation")
before, after = moved(dense)
shift_error = (before - after).abs().amax((1, 2))
print(f"dense generators: a shift changes R by up to {shift_error.max():.2f}")
print(f"and by {shift_error.min():.2f} at least, in 200 draws")
check_at_most(
    "not relative: dense generators",
    torch.full_like(shift_error, 0.01), shift_error, draws=200,
)  # fmt: skip

# %% [markdown]
# A common shift of both tokens changes these rotations in every one of 200 draws. What do commuting generators look
# like? Skew-symmetric matrices that commute share an orthonormal basis $Q$ in which each of them turns the same planes:
#
# $$
# G_a = Q \begin{bmatrix} f_{a0} J & & \\ & f_{a1} J & \\ & & \ddots \end{bmatrix} Q^{\top} ,
# \qquad J = \begin{bmatrix} 0 & -1 \\ 1 & 0 \end{bmatrix} .
# $$ (eq-9-6)
#
# This is the matrix $f$ again. *Every relative rotation of this form is a matrix of frequencies and a basis.* And the
# basis can be moved into the projections: $\langle Q R Q^{\top} W_q x, Q R' Q^{\top} W_k y \rangle$ is the score of a
# head with the projections $Q^{\top} W_q$ and $Q^{\top} W_k$ and no basis. (That says what a head can compute, not how
# easily it learns it, and it needs projections with nothing but the rotation behind them.) So here are the published
# families as special cases:


# %%
from rope_lab.encodings import mrope_frequencies

J = torch.tensor([[0.0, -1.0], [1.0, 0.0]])


def generators(freqs: Tensor, Q: Tensor | None = None) -> Tensor:
    """Equation 9.6: freqs (A, D/2) -> (A, D, D)."""
    plain = torch.stack([torch.kron(torch.diag(row), J) for row in freqs])
    return plain if Q is None else Q @ plain @ Q.T


def circulant(row: Tensor) -> Tensor:
    """C − C^T of the circulant matrix C with this first row."""
    C = torch.stack([row.roll(j) for j in range(len(row))])
    return C - C.T


def blocks(*parts: Tensor) -> Tensor:
    return torch.block_diag(*parts)


zero, rotated_basis = torch.zeros(4, 4), torch.matrix_exp(skew(8, 8))
base_1, base_2, block_1, block_2 = skew(4, 4, 4)
relative = {
    "axial": generators(axial_frequencies(8, 2)),
    "mixed": generators(mixed_frequencies(8, 1, generator=generator)[:, 0]),
    "golden ratio": generators(golden_frequencies(8)),
    "M-RoPE": generators(mrope_frequencies((1, 3))),
    "STRING, any basis": generators(torch.randn(2, 4), rotated_basis),
    "STRING, circulant": torch.stack([circulant(row) for row in torch.randn(2, 8)]),
    "ComRoPE, an axis per block": torch.stack(
        (blocks(block_1, zero), blocks(zero, block_2))
    ),
    "ComRoPE, multiples": torch.stack(
        (blocks(base_1, base_2), blocks(2 * base_1, -base_2))
    ),
    "LieRE, blocks of 2": generators(torch.randn(2, 4)),
}
for name, G in relative.items():
    check(f"eq. 9.4, {name}", *moved(G), draws=200)
table(
    [
        [name, commutator(G).abs().max(), (torch.sub(*moved(G))).abs().max()]
        for name, G in (relative | {"LieRE, dense": dense}).items()
    ],
    {"generators": "", "commutator": ".1e", "change by a shift": ".1e"},
    caption="Largest entries, D = 8, 200 draws.",
)


# %%
def by_matrices(q: Tensor, k: Tensor, p: Tensor, p_key: Tensor, G: Tensor) -> Tensor:
    """Scores by the matrix exponential: q, k (N, D), p, p_key (N, A)."""
    turned_q, turned_k = (
        torch.einsum("nij,nj->ni", rotation(at, G), x) for x, at in ((q, p), (k, p_key))
    )
    return (turned_q * turned_k).sum(-1)


eight = torch.randn(2, 200, 8)  # queries and keys
spots = 5 * torch.randn(2, 200, 2)
for name in ("axial", "mixed", "golden ratio", "M-RoPE"):
    by_exp = by_matrices(*eight, *spots, relative[name])
    own = relative[name][:, 1::2, ::2].diagonal(dim1=1, dim2=2)  # f again, (A, D/2)
    check(
        f"matrix exponential, {name}", by_exp, by_package(*eight, *spots, own),
        draws=200,
    )  # fmt: skip

# %% [markdown]
# How they relate: STRING {cite:p}`schenck2025` is equation {eq}`eq-9-6` with a learned basis, or with circulant
# generators (each row is the row above, moved on by one place), which all share the Fourier basis. ComRoPE
# {cite:p}`yu2025` gives each block to one axis, or makes the generators of a block multiples of each other. In the last
# case a block sees one number per token, the weighted sum of its coordinates. LieRE with blocks of $2 \times 2$ is
# RoPE-Mixed. To see {eq}`eq-9-6` at work, find frequencies and basis of the circulant pair and compute a score from
# them alone:

# %%
wheel = relative["STRING, circulant"]
mixture = 0.3 * wheel[0] + 0.7 * wheel[1]
_, V = torch.linalg.eigh(1j * mixture)  # eigenvectors of both generators
found = torch.stack([-(V.conj().T @ (1j * G) @ V).diagonal().real for G in wheel])
hats = (eight + 0j) @ V.conj()
phases = (spots[1] - spots[0]) @ found
from_frequencies = (hats[0].conj() * hats[1] * torch.exp(1j * phases)).sum(-1).real
check("eq. 9.6", by_matrices(*eight, *spots, wheel), from_frequencies, draws=200)

# %% [markdown]
# Does a vision model need this? The papers disagree. {cite:t}`yu2025`, who prove {eq}`eq-9-4`, report higher accuracy
# than earlier methods, LieRE among them; {cite:t}`geijn2025` report that a RoPE whose generators do not commute learns
# as well as the relative ones or better. (This book has repeated neither.) The theorem decides what a score *can*
# depend on.
#
# ## Units: indices, edges, centres
#
# In text positions are whole numbers. For an image the same patch can be counted from 0, or measured as a place in the
# picture. Then the picture covers $[-1, 1]$, and there are two ways to lay $n$ patches over it: the centres of the
# first and the last patch are put on the two edges, or every patch keeps the place of its own centre,
#
# $$
# e_i = \frac{2i}{n - 1} - 1 , \qquad
# c_i = \frac{2i + 1}{n} - 1 , \qquad
# e_i = \frac{n}{n - 1}\, c_i .
# $$ (eq-9-7)
#
# For $n = 4$, the first patch is at $-1$ or at $-0.75$. With centres, one place in the picture has one coordinate
# whatever the resolution. Edge to edge, all coordinates are stretched by $n/(n-1)$, which is $1.33$ for 4 patches and
# $1.2$ for 6: a model that reads the same picture at 1.5 times the resolution sees it shrunk by a tenth.
# `grid_coordinates` has all three kinds; DINOv3 {cite:p}`simeoni2025` uses centres.

# %%
for size in (4, 6, 14):
    edges = grid_coordinates(size, kind="pixel")[:, 0]
    centres = grid_coordinates(size, kind="centre")[:, 0]
    check(f"eq. 9.7, {size} patches", edges, centres * size / (size - 1))
    middles = (torch.arange(size) + 0.5) * (2 / size)
    check(f"centres, {size} patches", centres, middles - 1)

# %% [markdown]
# ### In the wild: height for width
#
# The second convention is which coordinate comes first. This package counts rows first, as an image is stored. RoPE-ViT
# and the vision tower of Llama 4 give the first pairs to the columns: `axial_frequencies(dim, 2, base).flip(0)` is
# their matrix, with the base of the model. Mistakes hide here, because a square image forgives them. A pull request to
# the library timm corrects the order of height and width in grids with the columns first, and names images that are not
# square as affected ([timm#2541](https://github.com/huggingface/pytorch-image-models/pull/2541)). The kind of mistake,
# on this page's own grid: height and width are exchanged when the grid is made, and the tokens are still read row by
# row.


# %%
def exchanged(height: int, width: int) -> Tensor:
    """(row, column) from a grid that was made with width and height exchanged."""
    return grid_coordinates(width, height).flip(-1)


def torn(height: int, width: int) -> float:
    """Fraction of the pairs of neighbours in the image that are not one step apart."""
    grid = exchanged(height, width).unflatten(0, (height, width))
    across = (grid[:, 1:] - grid[:, :-1]).abs().sum(-1).flatten()
    down = (grid[1:] - grid[:-1]).abs().sum(-1).flatten()
    return (torch.cat((across, down)) != 1).double().mean().item()


for height, width in ((4, 4), (14, 14), (4, 6), (10, 14), (7, 28)):
    print(
        f"{height:2d} rows, {width:2d} columns: {torn(height, width):4.0%} torn apart"
    )
proper = grid_coordinates(5, 5)
check("square: rows and columns exchanged", exchanged(5, 5), proper.flip(-1))

first_x = axial_frequencies(64, 2).flip(0)
x_scores = by_package(q, k, p.flip(-1), p_key.flip(-1), first_x)
check("columns first, columns given first", x_scores, by_package(q, k, p, p_key, axial))

# %% [markdown]
# On a square image the mistake exchanges rows and columns, and nothing is torn: a model trained like this reads
# transposed pictures. On the other shapes above more than half of all neighbours are torn apart. (An image of a single
# row or column is read correctly.)
#
# ## Video, and text in between
#
# A video adds a third coordinate, time. A model that also reads text has one more wish: for a text token all
# coordinates are equal to its position, and RoPE for text should be what it was. **M-RoPE** (Qwen2-VL
# {cite:p}`wang2024`) does that: it takes *one* spectrum $\theta_0, \dots, \theta_{D/2-1}$ and gives each pair to one
# axis,
#
# $$ f_{ai} = \theta_i \text{ if axis } a \text{ owns pair } i , \text{ else } 0 . $$ (eq-9-8)
#
# With $p_1 = p_2 = p_3 = m$ every pair turns by $m\theta_i$, whoever owns it. But who owns which? In Qwen2-VL the 16
# fastest pairs belong to time, the next 24 to the rows, the 24 slowest to the columns. Qwen3-VL {cite:p}`bai2025` lets
# the axes take turns:

# %%
from rope_lab import RotaryEmbedding, frequencies
from rope_lab.encodings import YaRN, interleaved_mrope_frequencies

sections, base = (24, 20, 20), 5e6  # those of Qwen3-VL, for both arrangements
kinds = {
    "contiguous": mrope_frequencies(sections, base),
    "interleaved": interleaved_mrope_frequencies(sections, base),
}
ids = torch.randint(1000, (draws, 3)).double()
q128 = torch.randn(1, 1, draws, 128)
theta = frequencies(128, base)
for name, freqs in kinds.items():
    if name == "contiguous":
        owner = [a for a, count in enumerate(sections) for _ in range(count)]
    else:
        owner = [i % 3 if i % 3 and i < 3 * sections[i % 3] else 0 for i in range(64)]
    powers = torch.exp(1j * ids[:, owner] * theta)  # pair i turns by its owner's id
    turned = RotaryEmbeddingND(freqs)(q128, q128, coordinates=ids)[0]
    check(
        f"eq. 9.8, {name}", pairs(turned[0, 0]), pairs(q128[0, 0]) * powers, draws=draws
    )

    spectrum, factor = YaRN(4.0, 32_768)(theta, 1)
    build = mrope_frequencies if name == "contiguous" else interleaved_mrope_frequencies
    scaled = RotaryEmbeddingND(build(sections, spectrum=spectrum), factor=factor)
    line, text_ids = q128[:, :, :50], torch.arange(50)[:, None].expand(50, 3)
    as_video = scaled(line, line, coordinates=text_ids)[0]
    as_text = RotaryEmbedding(128, base=base, scaling=YaRN(4.0, 32_768))(line, line)[0]
    check(f"text is RoPE, with YaRN, {name}", as_video, as_text)

owned = {name: (freqs != 0).long().argmax(0) for name, freqs in kinds.items()}
waves = 2 * math.pi / theta
rows = [
    [f"{name}, {axis}", waves[owned[name] == a].min(), waves[owned[name] == a].max()]
    for name in kinds
    for a, axis in enumerate(("time", "rows", "columns"))
]
table(
    rows,
    {"owner": "", "shortest": ",.0f", "longest": ",.0f"},
    caption="Wavelengths of each axis, sections 24, 20, 20, base 5,000,000.",
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two lines of dots over wavelength, logarithmic. Contiguous: all dots of time on the left, those of rows in the middle, those of columns on the right, without overlap. Interleaved: time, rows and columns take turns over nearly the whole range, and the last four dots on the right belong to time."}, "figure": {"caption": "Who owns the pair of each wavelength, for the sections and base of Qwen3-VL. In contiguous sections the axes share no part of the spectrum: time has the fast pairs only, the columns have none that completes a turn in a picture. Interleaved, each axis has fast and slow pairs.", "name": "fig-owners"}}
from rope_lab.figures.images import owners

owners(waves, owned)

# %% [markdown]
# Here are the 64 pairs as hands, the fast ones first; the shape around a hand says which axis owns it. Move the three
# coordinates in either arrangement, and then make them equal:

# %% tags=["hide-input"]
from rope_lab.figures.sections import sections as mrope_sections

mrope_sections()

# %% [markdown]
# In contiguous sections no pair of time is slow and no pair of the columns is fast, so in this respect the three axes
# are not treated alike. The authors of the interleaved form give that as its reason {cite:p}`huang2025`. A scaling such
# as YaRN acts on the spectrum: compute it first, then deal it out (`spectrum=`), and pass its attention factor on.
#
# Some diffusion transformers make another choice: each axis has a whole spectrum of its own. In the published code of
# FLUX.1 three axes own 16, 56 and 56 numbers of a head. The first coordinate of an image's tokens is 0, and text tokens
# are all at $(0, 0, 0)$, so these 16 do not turn. (In FLUX.1 Kontext, which also reads a picture, the tokens of that
# picture have the first coordinate 1.) In that of Wan 2.1, for video, the axes own 44, 42 and 42.
# `axes_frequencies((44, 42, 42))` is such a matrix. (Read in the code, not run here.)
#
# ## Experiment: digits with more pixels
#
# scikit-learn {cite:p}`pedregosa2011` ships 1,797 handwritten digits of $8 \times 8$ pixels. We cut them into patches
# of $2 \times 2$, so a digit is 16 tokens, and train a transformer of two blocks without a causal mask on random
# sections of 1,000 of them, enlarged to $8 \times 8$. Then it reads other digits with more pixels, which means more
# patches:

# %% tags=["hide-input"] mystnb={"image": {"alt": "One handwritten digit drawn three times at the same size: with 6 by 6, 8 by 8 and 12 by 12 pixels, cut by orange lines into 3 by 3, 4 by 4 and 6 by 6 patches."}, "figure": {"caption": "One digit at three resolutions. A patch always has two by two pixels, so that at a higher resolution there are more patches and each covers a smaller part of the digit.", "name": "fig-digits"}}
from rope_lab.experiments import images
from rope_lab.figures.images import same_digit

torch.set_default_dtype(torch.float32)
digits = images.digits()
one_digit = digits.images[-3:-2]
same_digit([images.resized(one_digit, n)[0] for n in (6, 8, 12)], images.PATCH)

# %% [markdown]
# At 12 pixels the patches can be *counted*, from 0 to 5 where the model knows 0 to 3, or *scaled*: measured in patches
# of the trained size, from centre to centre. Position interpolation, by which texts are scaled, multiplies the same way
# but leaves position 0 where it is; rotations do not see that difference, added vectors do. One model, trained here in
# a few seconds:

# %%
from rope_lab.experiments.images import tested, trained

test = digits.part(images.TRAIN + images.CHOOSE, None)
model, loss = trained("axial", 1.0, seed=0, steps=150)
for size, by_place in ((8, False), (12, False), (12, True)):
    how = "scaled " if by_place else "counted"
    correct, _ = tested(model, test, size, scaled=by_place)
    print(f"{size:2d} pixels, {how}: {correct:.0%} of {len(test.labels)} digits")

# %% [markdown]
# The recorded experiment trains seven encodings for longer, with three seeds each. Each gets its own learning rates,
# chosen on 300 digits that take no other part. The other 497 digits are the test:

# %%
from rope_lab.experiments.seeds import interval, verdict
from rope_lab.experiments.store import Results

recorded = Results.recorded("images")


def read_correctly(encoding: str, size: int, how: str) -> list[float]:
    """Percent of the test digits, one number per seed."""
    shares = images.accuracies(recorded, encoding, size, scaled=how == "scaled")
    return [100 * share for share in shares]


def mean_of(encoding: str, size: int, how: str) -> str:
    mean, half = interval(read_correctly(encoding, size, how))
    return f"{mean:.1f} ± {half:.1f}"


table(
    [
        [
            name,
            mean_of(name, 8, "counted"),
            mean_of(name, 12, "counted"),
            mean_of(name, 12, "scaled"),
        ]
        for name in images.ENCODINGS
    ],
    {"encoding": "", "8 pixels": "", "12, counted": "", "12, scaled": ""},
    caption="Percent of 497 digits read correctly, mean of three seeds.",
    provenance=recorded.provenance().replace("tiny-shakespeare", "scikit-learn digits"),
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels of the fraction read correctly against the side of the image, 6 to 16 pixels. All lines with positions are between 0.92 and 0.96 at 8 pixels. Left, sinusoidal falls to 0.3 and learned to 0.5 at 12 pixels, the rotary ones stay above 0.8; at 16 pixels all are below 0.6, and mixed is lowest of the rotary ones. Right, all with positions are near 0.7 at 6 pixels, above 0.85 from 8 to 12 with a dip at 10, and above 0.75 at 16; the line without positions is far below, near 0.64 at its best."}, "figure": {"caption": "Digits read correctly at five resolutions, mean of three seeds; the dotted line is the trained one. With counted patches (left) the encodings that are added to the patches fall steeply on both sides of it, the rotary ones less and later. Scaled (right), all encodings with positions stay within six points of each other up to 12 pixels.", "name": "fig-resolutions"}}
from rope_lab.figures.images import resolutions

resolutions(recorded)

# %% [markdown]
# Which of these gaps do three seeds establish, and what is behind them? Each row takes one number from another, seed by
# seed:


# %%
def compared(
    label: str, first: tuple[str, int, str], second: tuple[str, int, str]
) -> list[str]:
    """The first minus the second, in points by seed, and the verdict."""
    both_sides = zip(read_correctly(*first), read_correctly(*second), strict=True)
    return [label, *verdict([a - b for a, b in both_sides], 1)]


plain, other = ("axial", 12, "counted"), ("axial, base 10", 12, "counted")
measured = ("axial", 12, "scaled")
table(
    [
        compared("axial: scaled − counted", measured, plain),
        compared("counted: axial − sine", plain, ("sinusoidal", 12, "counted")),
        compared("counted: axial − learned", plain, ("learned", 12, "counted")),
        compared("scaled: axial − sine", measured, ("sinusoidal", 12, "scaled")),
        compared("scaled: axial − learned", measured, ("learned", 12, "scaled")),
        compared("counted: mixed − axial", ("mixed", 12, "counted"), plain),
        compared("counted: base 10 − base 100", other, plain),
        compared("counted: mixed − axial, base 10", ("mixed", 12, "counted"), other),
        compared("counted: golden − axial", ("golden ratio", 12, "counted"), plain),
        compared(
            "8 pixels: golden − axial",
            ("golden ratio", 8, "counted"),
            ("axial", 8, "counted"),
        ),
        compared(
            "counted: mixed − axial, 16 pixels",
            ("mixed", 16, "counted"),
            ("axial", 16, "counted"),
        ),
        compared(
            "golden: scaled − counted",
            ("golden ratio", 12, "scaled"),
            ("golden ratio", 12, "counted"),
        ),
        compared("axial, scaled: 12 − 8 pixels", measured, ("axial", 8, "scaled")),
        compared("axial, scaled: 12 − 10 pixels", measured, ("axial", 10, "scaled")),
        compared(
            "no position: 12 − 8 pixels",
            ("no position", 12, "counted"),
            ("no position", 8, "counted"),
        ),
    ],
    {"difference": "", "points": "", "verdict": "", "seeds": ""},
    caption="Differences in points of percent, at 12 pixels unless it says otherwise.",
)

# %% [markdown]
# - **Scaling mends what counting breaks.** With scaled patches every encoding with positions reads 1.5 times the
#   resolution almost as well as the trained one, even sinusoids and the learned table, which is read between its rows.
#   Axial RoPE is not established to be ahead of either of them there. Where counting breaks little, as for the other
#   three rotary encodings at 12 pixels, no gain is established either.
# - **Counted, what is added fails first.** Sinusoids and the learned table, which is read at its edge beyond its rows,
#   lose about half of the digits or more. Axial RoPE loses much less.
# - **Is mixed ahead of axial?** With counted patches it is in each seed at 12 pixels, and behind in each seed at 16;
#   three seeds establish neither. And mixed frequencies start from base 10, axial ones from 100. Axial RoPE with base
#   10 *is* ahead of base 100, and mixed is not established to be ahead of that. A comparison without this control could
#   credit the mixing with what the spectrum does.
# - **Golden directions show no established advantage here.** At the trained resolution they read slightly less. A head
#   of this model has 8 pairs, and a trained image is 4 patches wide.
# - **The patches change too.** With nothing but patches to go by, a model reads fewer digits at 12 pixels as well.
#   There each patch shows a smaller part of a stroke. And scaled axial RoPE reads less at 10 pixels than at 12, which
#   is farther from the trained size; so the distance from it does not explain all losses. Not all that is lost at a new
#   resolution is lost to positions.
#
# ## Summary
#
# - In several dimensions RoPE is a matrix of frequencies: pair $i$ turns by $p \cdot f_i$. An axial score is a sum over
#   axes {eq}`eq-9-2`, and only frequencies that look along several axes escape that.
# - Rotations $\exp(\sum_a p_a G_a)$ are relative exactly when the generators commute, and then they are such a matrix
#   in another basis.
# - What a coordinate means (counted or scaled, edges or centres, rows or columns first) is part of the encoding.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-09-1
# ```
#
# A model was trained on `trained` patches along an axis and reads an image with `n`. Write `scaled_places(n, trained)`:
# the coordinates of the `n` patches, of shape `(n,)`, so that a place in the picture keeps its coordinate. In training,
# the patches had the coordinates 0, 1, …, and patches fill the picture.

# %%
from rope_lab.exercises.ch09 import check_scaled_places


def scaled_places(n: int, trained: int) -> Tensor:
    return None  # your turn: shape (n,)


check_scaled_places(scaled_places)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-09-1
# :label: sol-09-1
# ```
#
# The centre of patch $i$ is at the fraction $(i + \tfrac12)/n$ of the picture. In training the fraction $u$ had the
# coordinate $u \cdot \text{trained} - \tfrac12$.


# %%
def scaled_places(n: int, trained: int) -> Tensor:
    return (torch.arange(n) + 0.5) / n * trained - 0.5


check_scaled_places(scaled_places)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-09-2
# ```
#
# Write `whose_pair(sections)` for interleaved M-RoPE: the axis (0 for time, 1 for rows, 2 for columns) of each pair, in
# order. `sections` holds how many pairs each axis owns. The axes take turns, time first. When rows or columns have all
# their pairs, their turns go to time.

# %%
from rope_lab.exercises.ch09 import check_whose_pair


def whose_pair(sections: list[int]) -> Tensor:
    return None  # your turn: shape (D/2,)


check_whose_pair(whose_pair)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-09-2
# :label: sol-09-2
# ```
#
# Pair $i$ is offered to axis $i \bmod 3$, and it is that axis's pair number $\lfloor i/3 \rfloor$.


# %%
def whose_pair(sections: list[int]) -> Tensor:
    pairs = range(sum(sections))
    return torch.tensor([i % 3 if i // 3 < sections[i % 3] else 0 for i in pairs])


check_whose_pair(whose_pair)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-09-3
# ```
#
# "A head can prefer the keys at any two offsets to those at the two crossed offsets." Write
# `two_places(freqs, first, second)` for frequencies of shape `(2, D/2)` and two offsets of shape `(2,)`: content $h$ of
# shape `(D/2,)`, real or complex, for which both scores {eq}`eq-9-1` are larger than both at `(first[0], second[1])`
# and `(second[0], first[1])`. Return `None` where no content has that.

# %%
from rope_lab.exercises.ch09 import check_two_places


def two_places(freqs: Tensor, first: Tensor, second: Tensor) -> Tensor | None:
    return None  # your turn: shape (D/2,), or None


check_two_places(two_places)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-09-3
# :label: sol-09-3
# ```
#
# A score is linear in real and imaginary parts of $h$. So ask for the scores 1, 1, 0, 0, which are four linear
# equations with $D$ unknowns. For axial frequencies the two sums of {eq}`eq-9-2` are equal, so the equations contradict
# each other, and no other choice of scores helps. If the two places share a row or a column, the crossed places are
# these two. In all other cases drawn here the four equations have a solution.


# %%
def two_places(freqs: Tensor, first: Tensor, second: Tensor) -> Tensor | None:
    places = torch.stack((first, second, first, second)).double()
    places[2:, 1] = places[:2, 1].flip(0)  # the crossed ones
    angle = places @ freqs
    rows = torch.cat((angle.cos(), -angle.sin()), dim=-1)  # of (Re h, Im h)
    goal = torch.tensor([1.0, 1.0, 0.0, 0.0]).double()
    content = torch.linalg.pinv(rows, rtol=1e-9) @ goal
    solved = torch.allclose(rows @ content, goal)
    return torch.complex(*content.chunk(2)) if solved else None


check_two_places(two_places)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-09-4
# ```
#
# `patch_grid` should return (row, column) of every patch of an image, of shape `(height · width, 2)`, in the order in
# which `flatten` reads an image. A model that was trained on square images with it works well on them, but an image of
# 3 × 5 patches gets wrong places. Correct it.

# %%
from rope_lab.exercises.ch09 import check_patch_grid


def patch_grid(height: int, width: int) -> Tensor:
    x, y = torch.arange(width), torch.arange(height)
    columns, rows = torch.meshgrid(x, y, indexing="ij")
    return torch.stack((rows, columns), dim=-1).flatten(0, 1)


check_patch_grid(patch_grid)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-09-4
# :label: sol-09-4
# ```
#
# With `indexing="ij"` the first argument becomes the first axis, so this grid is `width` × `height` and is flattened
# column by column. On square images that is the transposed picture. Give the rows first.


# %%
def patch_grid(height: int, width: int) -> Tensor:
    y, x = torch.arange(height), torch.arange(width)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flatten(0, 1)


check_patch_grid(patch_grid)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-09-5
#
# A paper learns dense generators that do not commute, and its vision transformer beats one with RoPE. The authors
# conclude that relative positions do not matter for images. Which experiments would you want to see first? (This question
# has no checker.)
# ```
#
# ````{solution} ex-09-5
# :label: sol-09-5
#
# - *The same freedom without the cause.* Dense generators have many more parameters than frequencies. Learn commuting
#   ones of about the same number: a learned basis, or ComRoPE's blocks. If they do as well, it was the freedom.
# - *How far from relative?* Train, and measure the commutators and the change of the scores by a shift, as on this page,
#   at the coordinates that occur. Generators that start small and stay small nearly commute: by {eq}`eq-9-5` the error is
#   of second order.
# - *Is the absolute place useful?* In photographs the sky is above. Shift the test images, or give the RoPE model a
#   learned table as well. If that closes the gap, the gain was absolute position.
# - *Chance and rates.* Seeds, and a learning rate of its own for each side.
# ````
#
# ## References
#
# - {cite:t}`heo2024`: axial and mixed frequencies for vision transformers. Their models are not reproduced.
# - {cite:t}`xiong2025`: directions by the golden ratio. The evenness is measured above, their trainings are not
#   repeated.
# - {cite:t}`ostmeier2024`, {cite:t}`schenck2025`, {cite:t}`yu2025`: LieRE, STRING and ComRoPE. Whether their generators
#   commute is checked above; {cite:t}`liu2025rethinking` derive the common basis. Their trainings are not repeated.
# - {cite:t}`geijn2025`: the case against relative positions in vision.
# - {cite:t}`wang2024`, {cite:t}`bai2025`, {cite:t}`huang2025`: M-RoPE, contiguous and interleaved.
# - {cite:t}`simeoni2025`: DINOv3, which counts from centre to centre.
# - {cite:t}`pedregosa2011`: scikit-learn, which ships the digits.
#
# Full entries are on the page {doc}`/book/references`.
