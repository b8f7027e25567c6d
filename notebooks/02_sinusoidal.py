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
# (chapter-sinusoidal)=
# # 02 · Sinusoidal positions
#
# A table of learned position vectors has a last row, and nothing after it. The first transformer did not need one
# {cite:p}`vaswani2017`: it had two lines of trigonometry that give a vector to *every* position, the ten-millionth
# included, without training one of them. **How can a formula give each position a vector of its own, and why sines?**
#
# You already know a formula that writes each number differently, in few digits: counting. Put a binary counter above, and
# what the transformer does below it.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two striped maps over positions 0 to 63. Above, six bits of a counter: bit 0 alternates at every position, each following bit half as often. Below, six pairs of rows, sine over cosine: the first pair goes up and down within six positions, each following pair half as fast, the last through less than a third of a turn."}, "figure": {"caption": "Read a column from top to bottom and you have one position. Every row of the counter flips half as often as the row above it; every pair of waves swings half as fast. Fast rows tell neighbours apart, slow rows tell regions apart. (Twelve coordinates with base 64, so that the speed halves from pair to pair.)", "name": "fig-counter"}}
import torch
from torch import Tensor, nn

from rope_lab import frequencies, sinusoidal
from rope_lab.figures.sinusoidal import counter

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that checks show rounding in the 16th digit
torch.manual_seed(2)

positions = torch.arange(64)
bits = positions[:, None] >> torch.arange(6) & 1
counter(bits, sinusoidal(positions, 12, base=64, dtype=torch.float64))

# %% [markdown]
# This chapter builds the formula from the counter, shows the one property for which it was chosen (to move on is to
# turn), and then follows the vectors into attention, where most of that property is lost. What is left
# of it leads to rotary embeddings, in chapter 3.
#
# ## From a counter to waves
#
# Write the position $m$ in binary. Digit $j$ counts for $2^j$:
#
# $$
# \begin{aligned}
# m &= \sum_j \beta_j(m)\, 2^j , \\
# \beta_j(m) &= \lfloor m / 2^j \rfloor \bmod 2 .
# \end{aligned}
# $$ (eq-2-1)
#
# Ten digits give 1,024 positions a code of their own. Each digit is a square wave, 0 for a while and 1 as long. So it is
# the sign of a sine with a period of $2^{j+1}$ positions (the half keeps it off the zeros of the sine):
#
# $$ \beta_j(m) = \frac12 - \frac12 \operatorname{sign} \sin \frac{2\pi\,(m + \frac12)}{2^{j+1}} . $$ (eq-2-2)

# %%
from rope_lab.verify import check, check_exact

m, j = torch.arange(1024), torch.arange(10)
digits = (m[:, None] // 2**j) % 2  # β_j(m), (positions, digits)
check("eq. 2.1", (digits * 2**j).sum(-1), m)
waves = (2 * torch.pi * (m[:, None] + 0.5) / 2.0 ** (j + 1)).sin()
check("eq. 2.2", digits.double(), 0.5 - 0.5 * waves.sign())

# %% [markdown]
# Why not add these digits to the embeddings? They have two faults. Near is not near: how many digits change from one
# position to the next depends on where you are. And *one further* has no rule that a linear layer could apply, because
# digits carry.

# %%
for a, b in ((6, 7), (7, 8), (0, 8), (511, 512)):
    changed = (digits[a] != digits[b]).sum()
    print(f"from {a:3d} to {b:3d}: {changed:2d} of 10 digits change")

# %% [markdown]
# Take the sign away and keep the wave. That cures the first fault: a sine moves a little when $m$ moves a little. But a
# sine reaches each value twice in a period, once going up and once coming down, so it does not say where in the period
# you are. A sine and a cosine together do. They are the two coordinates of a point on a circle, the tip of a hand of a
# clock. What cures the second fault is that a hand moves by the same turn at every step.
#
# ## The formula
#
# Let $C$ be the width of the embeddings, an even number. The **sinusoidal encoding** gives position $m$ the vector $p_m$
# with the $C$ coordinates
#
# $$
# \begin{aligned}
# p_{m,\,2i} &= \sin m\theta_i , \\
# p_{m,\,2i+1} &= \cos m\theta_i , \\
# \theta_i &= b^{-2i/C}
# \end{aligned}
# $$ (eq-2-3)
#
# for the pairs $i = 0, \dots, C/2 - 1$. The frequency $\theta_i$ is how far hand $i$ turns at each position, in radians. The
# first hand turns by 1 radian, and each is slower than the one before it by the same factor, down to almost $1/b$. The
# paper's base is $b = 10{,}000$ {cite:p}`vaswani2017`; the counter of the figure has the factor 2.
#
# The vector is added to the embedding of the token at $m$, and the sum goes into the first layer. That is all. A naive
# version is four lines:


# %%
def naive_sinusoidal(positions: Tensor, dim: int, base: float = 10_000.0) -> Tensor:
    """Equation 2.3. positions (N,) -> (N, C)."""
    theta = base ** (-torch.arange(0, dim, 2) / dim)  # (C/2,)
    angle = positions[:, None] * theta  # (N, C/2)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


def p(positions: Tensor, dim: int = 64, base: float = 10_000.0) -> Tensor:
    """The package's table in float64."""
    return sinusoidal(positions, dim, base, dtype=torch.float64)


C = 64
check("eq. 2.3", p(torch.arange(1024)), naive_sinusoidal(torch.arange(1024), C))

# %% [markdown]
# This is the package's, without docstrings: the table, and the module that adds it. `frequencies` and `angles` are the
# functions that RoPE uses; there are no parameters and no stored table.

# %%
from rope_lab import SinusoidalEmbedding
from rope_lab.encodings import absolute
from rope_lab.figures.source import source

source(absolute.sinusoidal, SinusoidalEmbedding.embed)

# %% [markdown]
# Since $\sin^2 + \cos^2 = 1$ in each of the $C/2$ pairs, all positions have vectors of one length,
#
# $$ \lVert p_m \rVert = \sqrt{C/2} , $$ (eq-2-4)
#
# and no position is louder than another.

# %%
anywhere = torch.randint(10_000_000, (1000,))
check("eq. 2.4", p(anywhere).norm(dim=-1), torch.full((1000,), (C / 2) ** 0.5))

# %% [markdown]
# ### Two orders of the columns
#
# The paper's formula alternates sine and cosine. The code of its authors puts all sines first and then all cosines, and
# so does much code since: the same columns in another order. It is the difference between the *interleaved* and the
# *half* layout that RoPE has as well (chapter 5), and the same function converts one into the other. With the semicolon
# for concatenation,
#
# $$
# \begin{aligned}
# p_m^{\text{half}} = \big( & \sin m\theta_0, \sin m\theta_1, \dots ; \\
# & \cos m\theta_0, \cos m\theta_1, \dots \big) .
# \end{aligned}
# $$ (eq-2-5)

# %%
from rope_lab import convert_layout

angle = torch.arange(1000)[:, None] * frequencies(C)
halves = torch.cat((angle.sin(), angle.cos()), dim=-1)
table = p(torch.arange(1000))
check("eq. 2.5", convert_layout(table, "interleaved", "half"), halves)

# %% [markdown]
# Readers of that code took it for a bug at once ([tensor2tensor#391](https://github.com/tensorflow/tensor2tensor/issues/391)).
# When it matters, and when not, is answered below.
#
# ## To move on is to turn
#
# Now the reason for sines. You know from school that $\sin(\alpha + \beta) = \sin\alpha \cos\beta + \cos\alpha \sin\beta$
# and $\cos(\alpha + \beta) = \cos\alpha \cos\beta - \sin\alpha \sin\beta$. With $\alpha = m\theta$ and
# $\beta = k\theta$ that is a matrix, for each pair:
#
# $$
# \begin{pmatrix} \sin (m + k)\theta \\ \cos (m + k)\theta \end{pmatrix}
# = \begin{pmatrix} \cos k\theta & \sin k\theta \\ -\sin k\theta & \cos k\theta \end{pmatrix}
# \begin{pmatrix} \sin m\theta \\ \cos m\theta \end{pmatrix} .
# $$ (eq-2-6)
#
# There is no $m$ in the matrix. It turns the pair clockwise by $k\theta$, as a clock does. Let $B(\varphi)$ be the
# $2 \times 2$ matrix of a *counter-clockwise* turn by $\varphi$, and $R_k$ the $C \times C$ matrix with one such block for
# each pair, the rotation that the rest of the book is about. The matrix above is its transpose, so
#
# $$
# \begin{aligned}
# p_{m+k} &= R_k^{\top}\, p_m , \\
# R_k &= \begin{pmatrix}
# B(k\theta_0) & & \\
# & \ddots & \\
# & & B(k\theta_{C/2-1})
# \end{pmatrix} .
# \end{aligned}
# $$ (eq-2-7)
#
# To go $k$ positions further is one fixed matrix, whatever the position you start from, and $k$ need not be whole. The
# authors gave this as their reason for sinusoids: they expected that it would let a model attend by relative positions
# {cite:p}`vaswani2017`.

# %%
import sympy as sp

sm, sk, st = sp.symbols("m k theta", real=True)


def hand(m: sp.Expr) -> sp.Matrix:
    return sp.Matrix([sp.sin(m * st), sp.cos(m * st)])


cos, sin = sp.cos(sk * st), sp.sin(sk * st)
moved_on = sp.Matrix([[cos, sin], [-sin, cos]]) * hand(sm)
in_one = hand(sm + sk).applyfunc(lambda x: sp.expand_trig(x.expand()))
check_exact("eq. 2.6", in_one - moved_on)


def R(k: float, dim: int = C, base: float = 10_000.0) -> Tensor:
    """R_k of equation 2.7, (C, C)."""
    angle = k * frequencies(dim, base)
    cos, sin = angle.cos(), angle.sin()
    blocks = torch.stack((cos, -sin, sin, cos), dim=-1).view(-1, 2, 2)
    return torch.block_diag(*blocks)


rounding = 1e-11  # of angles up to 10,000 radians
m = torch.randint(10_000, (1000,))
for k in (1, 77, -500, 0.5):
    # a table has rows: (R^T p)^T = p^T R
    check(f"eq. 2.7, k = {k}", p(m + k), p(m) @ R(k), tolerance=rounding)

# %% [markdown]
# ### Let least squares find the matrix
#
# Pretend not to know {eq}`eq-2-7`. Show a linear regression pairs of position vectors, $p_m$ and $p_{m+3}$, and let it
# fit a matrix that takes one to the other. It finds the turn:

# %%
m = torch.randint(100_000, (4000,))  # far enough for the slow hands to move
fitted = torch.linalg.lstsq(p(m), p(m + 3)).solution
check("eq. 2.7, found by least squares", fitted, R(3), tolerance=1e-9)

# %% [markdown]
# Compare it with other ways to give positions a vector. Fit on positions 0 to 511, test on 512 to 1,023: does the rule
# that was learned here hold there? (With base 100, so that the slowest hand goes round once in the first part.)

# %%
codes = {
    "sine and cosine": p(torch.arange(1024), 32, base=100),
    "sines alone": p(torch.arange(1024), 2 * 32, base=100)[:, ::2],
    "binary digits": torch.cat((digits.double(), torch.ones(1024, 1)), dim=-1),
    "random table": torch.randn(1024, 32),
}
print("three further, by one matrix:    error where fitted   elsewhere")
for name, code in codes.items():
    here, there = code[:512], code[512:]
    fit = torch.linalg.lstsq(here[:-3], here[3:], driver="gelsd").solution
    errors = [(x[:-3] @ fit - x[3:]).norm() / x[3:].norm() for x in (here, there)]
    print(f"{name:33s}{errors[0]:>18.1e}{errors[1]:>12.1e}")

# %% [markdown]
# The random table stands for one that was learned: each row is free, so nothing ties the step from 3 to 6 to the step
# from 600 to 603. The digits carry. Sines without their cosines fail too: without the other coordinate of the hand you
# do not know which way it moves.
#
# Sines and cosines are not one choice among many here. Suppose one matrix $T$ is to take each position to the next,
# $p_{m+1} = T p_m$ for all whole $m$, negative ones as well, and no vector may grow without bound. Then only the
# eigenvalues of $T$ of modulus 1 can take part, $\mathrm{e}^{\pm\mathrm{i}\theta}$, and every coordinate of
# $p_m = T^m p_0$ is a sum of sines and cosines of $m\theta$. Chapter 3 makes the same argument for queries and keys.
#
# ## Inner products see the distance
#
# Multiply two position vectors. In each pair stands
# $\sin m\theta_i \sin n\theta_i + \cos m\theta_i \cos n\theta_i$, which is a cosine of the difference:
#
# $$ \langle p_m,\, p_n \rangle = \sum_{i=0}^{C/2-1} \cos\, (m - n)\theta_i . $$ (eq-2-8)
#
# The two positions are gone and their distance is left. But a cosine is even. The product is the same for a key three
# tokens before the query and for one three tokens after it:
#
# $$ \langle p_m,\, p_{m-s} \rangle = \langle p_m,\, p_{m+s} \rangle . $$ (eq-2-9)
#
# By itself the inner product knows how far, but not before from after. A model that reads in both directions misses that;
# {cite:t}`yan2019` point it out for taggers of names. A matrix between the two vectors gives the direction back. Put
# $R_r^{\top}$ there, which by {eq}`eq-2-7` moves the key on by $r$, and the peak moves to the key that stands $r$ positions
# before the query:
#
# $$ \langle p_m,\, R_r^{\top} p_n \rangle = \sum_{i=0}^{C/2-1} \cos\, (m - n - r)\theta_i . $$ (eq-2-10)

# %%
m, n = torch.randint(10_000, (2, 1000))
cosines = ((m - n)[:, None] * frequencies(C)).cos().sum(-1)
check("eq. 2.8", (p(m) * p(n)).sum(-1), cosines, tolerance=rounding)
s = torch.randint(10_000, (1000,))
before, after = (p(m) * p(m - s)).sum(-1), (p(m) * p(m + s)).sum(-1)
check("eq. 2.9", before, after, tolerance=rounding)
r = 16
behind = ((m - n - r)[:, None] * frequencies(C)).cos().sum(-1)
check("eq. 2.10", (p(m) * (p(n) @ R(r))).sum(-1), behind, tolerance=rounding)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two curves of an inner product against the place of the key, from 64 before to 64 after the query. The first is symmetric with its peak of 32 at zero. The second is the same curve moved to the left, with its peak at minus 16."}, "figure": {"caption": "The inner product of two position vectors is symmetric (solid): a key before the query and one after it look alike. A turn between the two moves the peak to a chosen place before the query (dashed). A head that wants to look back has to learn such a turn.", "name": "fig-products"}}
from rope_lab.figures.sinusoidal import products

offsets = torch.arange(-64, 65)
query, keys = p(torch.tensor([1000])), p(1000 + offsets)
curves = {
    "nothing between": ((keys @ query[0]), 0),
    f"$R_{{{r}}}^{{\\top}}$ between": ((keys @ R(r) @ query[0]), -r),
}
products(offsets, curves)

# %% [markdown]
# ## What attention makes of it
#
# In a transformer something does stand between the two vectors: the projections. The token at $m$ has the embedding
# $x_m$, and the layer sees $x_m + p_m$. With $A = W_q^{\top} W_k$, the score of chapter 1 multiplies out to four terms,
#
# $$
# \begin{aligned}
# (x_m + p_m)^{\top} A\, & (x_n + p_n) \\
# = {} & \underbrace{x_m^{\top} A\, x_n}_{\text{content, content}}
# + \underbrace{x_m^{\top} A\, p_n}_{\text{content, position}} \\
# & {} + \underbrace{p_m^{\top} A\, x_n}_{\text{position, content}}
# + \underbrace{p_m^{\top} A\, p_n}_{\text{position, position}} .
# \end{aligned}
# $$ (eq-2-11)
#
# The first knows no position. The two in the middle know one position each, and one position is not a distance: they say
# things like "this word looks at place 7". Only the last knows two. Transformer-XL starts from these four terms and
# rewrites them one by one {cite:p}`dai2019`; TUPE drops the middle two {cite:p}`ke2021`.

# %%
w_q, w_k = torch.randn(2, C, C) / C**0.5  # one head as wide as the model
A = w_q.T @ w_k
x, y = torch.randn(2, 1000, C)
m, n = torch.randint(10_000, (2, 1000))


def between(a: Tensor, b: Tensor) -> Tensor:  # (N, C) twice -> a^T A b, (N,)
    return ((a @ A) * b).sum(-1)


score = (((x + p(m)) @ w_q.T) * ((y + p(n)) @ w_k.T)).sum(-1)
terms = between(x, y) + between(x, p(n)) + between(p(m), y) + between(p(m), p(n))
check("eq. 2.11", score, terms)

# %% [markdown]
# Is the last term a function of the distance? By {eq}`eq-2-7`, with $p_m = R_m^{\top} p_0$, it is
#
# $$ p_m^{\top} A\, p_n = p_0^{\top}\, R_m\, A\, R_n^{\top}\, p_0 , $$ (eq-2-12)
#
# and $A$ stands between the two rotations that should meet. Move both positions on by the same $t$, and see how much the
# term changes:

# %%
first, some_m, some_n = p(torch.tensor([0]))[0], m[:100], n[:100]
two_places = zip(some_m.tolist(), some_n.tolist(), strict=True)
turned = torch.stack([first @ R(a) @ A @ R(b).T @ first for a, b in two_places])
check("eq. 2.12", between(p(some_m), p(some_n)), turned, tolerance=rounding)

before = between(p(m), p(n))
for t in (1, 5, 100):
    change = (between(p(m + t), p(n + t)) - before).norm() / before.norm()
    print(f"both moved on by {t:3d}: the last term changes by {change:.0%}")

# %% [markdown]
# ### The part that is relative
#
# Not all is lost. Cut $A$ into $2 \times 2$ blocks, one for each two pairs of coordinates. A block off the diagonal
# couples two hands of different speeds, and these come apart as both positions move on. A block on the diagonal couples a
# hand with itself; it commutes with every turn if it has the form of a turn, stretched. Keep this of $A$ and nothing
# else, and call it $\bar A$:
#
# $$
# \begin{aligned}
# \bar A &= \begin{pmatrix}
# \bar A_0 & & \\
# & \ddots & \\
# & & \bar A_{C/2-1}
# \end{pmatrix} , \\
# \bar A_i &= \begin{pmatrix} u_i & -v_i \\ v_i & u_i \end{pmatrix} , \\
# u_i &= \tfrac12 (A_{2i,2i} + A_{2i+1,2i+1}) , \\
# v_i &= \tfrac12 (A_{2i+1,2i} - A_{2i,2i+1}) .
# \end{aligned}
# $$ (eq-2-13)
#
# Then $\bar A$ and $R_t$ commute, the rotations of {eq}`eq-2-12` meet, and the distance is all that is left.
# For every $t$
#
# $$ p_{m+t}^{\top} \bar A\, p_{n+t} = p_m^{\top} \bar A\, p_n . $$ (eq-2-14)
#
# And nothing relative was thrown away: $\bar A$ is what you get when you average the term over all places where the two
# tokens could stand,
#
# $$ p_m^{\top} \bar A\, p_n = \lim_{T \to \infty} \frac1T \sum_{t=0}^{T-1} p_{m+t}^{\top} A\, p_{n+t} . $$ (eq-2-15)


# %%
def relative_part(A: Tensor) -> Tensor:
    """The bar A of equation 2.13, (C, C)."""
    pairs = A.unflatten(0, (-1, 2)).unflatten(-1, (-1, 2))  # (C/2, 2, C/2, 2)
    own = pairs.diagonal(dim1=0, dim2=2)  # blocks on the diagonal, (2, 2, C/2)
    u, v = (own[0, 0] + own[1, 1]) / 2, (own[1, 0] - own[0, 1]) / 2
    return torch.block_diag(*torch.stack((u, -v, v, u), dim=-1).view(-1, 2, 2))


bar = relative_part(A)
check("eq. 2.13, it commutes with turns", bar @ R(5), R(5) @ bar)
t = torch.randint(10_000, (1000,))
kept = ((p(m) @ bar) * p(n)).sum(-1)
check("eq. 2.14", ((p(m + t) @ bar) * p(n + t)).sum(-1), kept, tolerance=rounding)

places = torch.randint(100_000_000, (100_000,))  # a sample of all t
at_m, at_n = torch.tensor([7, 3, 40]), torch.tensor([3, 7, 0])
two_places = zip(at_m, at_n, strict=True)
terms = [between(p(m + places), p(n + places)) for m, n in two_places]
by_bar = ((p(at_m) @ bar) * p(at_n)).sum(-1)
check("eq. 2.15", torch.stack(terms).mean(-1), by_bar, tolerance=0.05)

# %% [markdown]
# How much is that? Measure a matrix by its sum of squares, $\lVert A \rVert^2 = \sum A_{jl}^2$. Where $W_q$ and $W_k$ are
# Gaussian, as at birth, no direction among the $C^2$ of $A$ is preferred, and $\bar A$ has $C$ of them, $u_i$ and $v_i$:
#
# $$ \mathbb{E}\, \frac{\lVert \bar A \rVert^2}{\lVert A \rVert^2} = \frac{C}{C^2} = \frac1C . $$ (eq-2-16)

# %%
w = torch.randn(2, 1000, C, C)


def share(A: Tensor) -> Tensor:
    return relative_part(A).square().sum() / A.square().sum()


at_birth = torch.stack([share(A) for A in w[0].mT @ w[1]]).mean()
check("eq. 2.16", at_birth, torch.tensor(1 / C), tolerance=5e-4)
print(f"relative at birth, with C = {C}: {at_birth:.1%}")

# %% [markdown]
# A width of 512 has two in a thousand. So a sinusoidal encoding does not *give* a model relative positions. It gives it
# vectors from which $\bar A$ could be learned. Is it?
#
# ## Experiment: does training find the relative part?
#
# The task is that of chapter 1: random text, and at each position you have to name the token three positions earlier. One
# layer, one head, sinusoidal positions. Train it in three ways: on texts that begin at position 0, on texts that begin
# anywhere below position 1,024, and on texts that begin anywhere below 65,536. Random starts are a published remedy
# called SHAPE {cite:p}`kiyono2021`.

# %%
import functools
import os

import torch.nn.functional as F

from rope_lab import MultiHeadAttention, PositionEncoding

steps = 20 if os.environ.get("ROPE_LAB_PRESET") == "smoke" else 250
length, back, tokens = 32, 3, 16


class OneLayer(nn.Module):
    """One causal attention layer. ids (B, N) -> logits (B, N, tokens)."""

    def __init__(self, position: PositionEncoding, spread=1.0, factor=1.0) -> None:
        super().__init__()
        self.position, self.factor = position, factor
        self.embedding = nn.Embedding(tokens, C)
        nn.init.normal_(self.embedding.weight, std=spread)
        self.attention = MultiHeadAttention(C, heads=1)
        self.head = nn.Linear(C, tokens)

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        x = self.position.embed(self.factor * self.embedding(ids), positions)
        return self.head(self.attention(x, positions=positions))


@functools.cache  # what was trained once is not trained again
def train(reach: int, position: PositionEncoding | None = None, **scale: float):
    """Texts begin at a random position below `reach`. Returns model and losses."""
    torch.manual_seed(0)
    model = OneLayer(position or SinusoidalEmbedding(C), **scale).float()
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        ids = torch.randint(tokens, (32, length), generator=generator)
        starts = torch.randint(reach, (32, 1), generator=generator)
        logits = model(ids, starts + torch.arange(length))[:, back:]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, :-back].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model, losses


@torch.no_grad()
def accuracy(model: OneLayer, shift: int) -> float:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(tokens, (200, length), generator=generator)
    logits = model(ids, torch.arange(length) + shift)[:, back:]
    return (logits.argmax(dim=-1) == ids[:, :-back]).double().mean().item()


reaches = {"from 0": 1, "below 1,024": 1024, "below 65,536": 65_536}
trained = {name: train(reach)[0] for name, reach in reaches.items()}
shifts = [0, 1, 3, *(10 * 10**k * i for k in range(6) for i in (1, 3)), 10_000_000]
accuracies = {
    name: [accuracy(model, shift) for shift in shifts]
    for name, model in trained.items()
}
shown = [0, 10, 1000, 100_000, 10_000_000]
print(f"{'moved by':>13s}" + "".join(f"{shift:>12,d}" for shift in shown))
for name, values in accuracies.items():
    at = dict(zip(shifts, values, strict=True))
    print(f"{name:>13s}" + "".join(f"{at[shift]:>12.0%}" for shift in shown))
    assert values[0] > 0.95 or steps < 250  # the text below says so
period = 2 * torch.pi / frequencies(C)[-1]
print(f"\nthe slowest hand is back after {period:,.0f} positions")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Share of tokens copied right against the shift of all positions, from 0 to ten million on a logarithmic axis, for three models. Trained from 0: 100 percent at no shift, then between 50 and 90. Trained below 1,024: 100 percent up to about a thousand, then lower. Trained below 65,536: close to 100 percent throughout."}, "figure": {"caption": "All three solve the task where they were trained. The first loses part of it as soon as the text moves on, the second when it moves past what was seen (dotted lines). The third has seen its slowest hand go all the way round: after that no position is new, and it copies right at ten million.", "name": "fig-moved"}}
from rope_lab.figures.sinusoidal import moved

moved(shifts, accuracies, {name: reach - 1 + length for name, reach in reaches.items()})

# %% [markdown]
# Now look inside. Each model has a $W_q$ and a $W_k$; split its position-position term by {eq}`eq-2-13`:

# %%
torch.manual_seed(0)
models = {"untrained": OneLayer(SinusoidalEmbedding(C)), **trained}
window, maps = p(torch.arange(32)), {}
print("share of the relative part, by eq. 2.16")
for name, model in models.items():
    w_q, w_k = model.attention.query.weight, model.attention.key.weight
    A = (w_q.T @ w_k).detach().double()
    print(f"  {name:14s}{share(A):6.1%}")
    maps[name] = (window @ A @ window.T, window @ relative_part(A) @ window.T)
del maps["below 1,024"]  # it looks like a mixture of its neighbours

# %% tags=["hide-input"] mystnb={"image": {"alt": "Nine square maps of scores of 32 positions with 32 positions. Rows: untrained, trained from 0, trained below 65,536. Columns: the whole term, its relative part, the rest. Untrained: the whole is a weave, the relative part almost blank. Trained: the relative part has clear diagonal stripes with a bright one just below the diagonal; the rest is weaker, weakest for the model trained below 65,536."}, "figure": {"caption": "The position-position term of three models, taken apart. At birth the stripes are almost nothing and the weave is everything. Training grows the stripes out of the weave, with a bright one three places below the diagonal, and more so when texts begin anywhere (below 65,536). Relative position is not in a sinusoidal encoding; it is in what the weights learn to do with it.", "name": "fig-split"}}
from rope_lab.figures.sinusoidal import split_maps

split_maps(maps)

# %% [markdown]
# That is the part of the four terms that chapter 1 promised to show. It also says what RoPE changes. It turns queries and
# keys *after* the projections, so that no matrix stands between the rotations, and the relative part is all of it, at
# birth and at every width.
#
# Two cautions. The task needs one distance and nothing else, so the shares are not those of a language model. And a text
# that was moved is not a longer text: {cite:t}`press2022` report that sinusoidal language models get worse soon beyond the
# length they were trained with (this book has not repeated it).
#
# ## How loud a position speaks
#
# The sum $x_m + p_m$ has two voices. By {eq}`eq-2-4` the position has length $\sqrt{C/2}$. The token has what its
# initialisation gave it: about $\sigma \sqrt C$, with a standard deviation of $\sigma$ in each coordinate. In the paper,
# embeddings are multiplied by $\sqrt C$ before the sum: one sentence in section 3.4, without a reason. The reason is in
# the initialisation of the authors' code, [tensor2tensor](https://github.com/tensorflow/tensor2tensor): $\sigma = C^{-1/2}$,
# small because the same matrix also makes the logits. So what you need depends on what you have:

# %%
setups = {
    "σ = C^-½, times √C (the paper)": {"spread": C**-0.5, "factor": C**0.5},
    "σ = C^-½, as it is": {"spread": C**-0.5, "factor": 1.0},
    "σ = 1 (nn.Embedding), as it is": {},
    "σ = 1 (nn.Embedding), times √C": {"factor": C**0.5},
}
print(f"{'':34s}token : position   loss at {steps // 5:2d}   at {steps}")
for name, scale in setups.items():
    token = OneLayer(SinusoidalEmbedding(C), **scale)
    loud = (token.factor * token.embedding.weight).norm(dim=-1).mean().item()
    losses = torch.tensor(train(65_536, **scale)[1])
    early, late = losses[: steps // 5][-10:].mean(), losses[-10:].mean()
    print(f"{name:34s}{loud:5.1f} : {(C / 2) ** 0.5:.1f}{early:18.2f}{late:9.2f}")
wide = 512  # the width of the paper's base model
print(f"{'the last one, with C = 512':34s}{wide:5d} : {(wide / 2) ** 0.5:.0f}")
print(f"{'guessing':34s}{torch.tensor(tokens).log():29.2f}")

# %% [markdown]
# Multiply where $\sigma$ is 1, and the tokens drown the positions: this model does not get beyond guessing in the time in
# which the others finish. Whether to multiply, divide or leave it is a question people keep asking
# ([pytorch/tutorials#2849](https://github.com/pytorch/tutorials/issues/2849),
# [OpenNMT-py#1722](https://github.com/OpenNMT/OpenNMT-py/issues/1722),
# [espnet#2797](https://github.com/espnet/espnet/issues/2797)), and the answer is the first column: look at both lengths.
# A token that is too quiet does no harm here, in a task that is all about positions.
#
# ## Positions nobody has seen
#
# A learned table ends. The formula does not, and takes positions between the whole ones as well:

# %%
from rope_lab import LearnedEmbedding

x = torch.zeros(1, 1, C)
for position in (LearnedEmbedding(512, C), SinusoidalEmbedding(C)):
    try:
        vector = position.embed(x, torch.tensor([10_000_000]))
        print(f"{type(position).__name__}: first numbers {vector[0, 0, :3].detach()}")
    except ValueError as error:
        print(f"{type(position).__name__}: {error}")

# %% [markdown]
# That there is a vector does not mean that the model knows what to do with it, as the experiment shows. Within the length
# they were trained with, learned and sinusoidal positions did equally well in the paper's translation models (its
# table 3; not repeated here).
#
# ### Precision
#
# At position ten million the fast hand has turned by ten million radians, and only what is left after whole turns
# matters. A number format with few digits has lost that. The table below forms the encoding in six ways and prints the
# largest error over the last 256 positions before $N$, for values that lie between $-1$ and $1$:

# %%
lengths = (256, 2048, 8192, 131_072, 10_000_000)
theta = frequencies(C)


def hands(positions: Tensor, theta: Tensor) -> Tensor:
    """Sine and cosine of the product, in the wider type of the two."""
    angle = (positions[:, None] * theta).float()
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def by_halves(table: Tensor) -> Tensor:
    return convert_layout(table, "interleaved", "half")


recipes = {
    "float64 (rope_lab)": lambda m: by_halves(sinusoidal(m, C)),
    "that, stored bfloat16": lambda m: by_halves(sinusoidal(m, C).bfloat16()),
    "float32 throughout": lambda m: hands(m.float(), theta.float()),
    "positions in bfloat16": lambda m: hands(m.bfloat16(), theta.float()),
    "frequencies in bfloat16": lambda m: hands(m.float(), theta.bfloat16()),
    "product in float16": lambda m: hands(m.half(), theta.half()),
}
print(f"{'N':>23s}" + "".join(f"{N:>11,d}" for N in lengths))
for name, recipe in recipes.items():
    cells = ""
    for N in lengths:
        m = torch.arange(N - 256, N)
        error = (recipe(m).double() - by_halves(p(m))).abs().max()
        cells += f"{error:11.0e}" if error.isfinite() else f"{'overflow':>11s}"
    print(f"{name:23s}{cells}")

m = torch.tensor([10_000_000])
check("eq. 2.3, at position ten million", sinusoidal(m, C), p(m).float())

# %% [markdown]
# An error of 2 is a sine with the wrong sign. Each recipe that computes in half precision gets there by eight thousand
# positions. A table *formed* in float64 and then *stored* in half precision is fine (second line): what is rounded then
# is a number between $-1$ and $1$. Chapter 8 treats precision in full.
#
# ## What goes wrong
#
# ### Each column its own speed
#
# Equation {eq}`eq-2-3` counts pairs: columns $2i$ and $2i + 1$ share $\theta_i$. Code counts columns. Take the column's
# number for $i$, and the two columns of a pair turn at different speeds, and none of them is a hand any more. The slip
# went through a popular implementation ([Kyubyong/transformer#38](https://github.com/Kyubyong/transformer/issues/38)),
# others ([attention-is-all-you-need-pytorch#32](https://github.com/jadore801120/attention-is-all-you-need-pytorch/issues/32),
# [DeepCTR#379](https://github.com/shenweichen/DeepCTR/issues/379)) and a textbook
# ([pytorch_advanced#79](https://github.com/YutaroOgawa/pytorch_advanced/issues/79)). One reader noticed because his plot of
# $\langle p_m, p_n \rangle$ did not look as it should
# ([PapersReimplementations#9](https://github.com/BrianPulfer/PapersReimplementations/issues/9)). Does it matter, or would
# any waves do? The experiment above can tell:


# %%
def by_column(positions: Tensor, dim: int = C) -> Tensor:
    """The slip: the exponent takes the number of the column, not of the pair."""
    column = torch.arange(dim)
    angle = positions[..., None] * 10_000.0 ** (-2 * column / dim)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())


class ByColumn(PositionEncoding):
    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + by_column(positions).to(x.dtype)


class SinesAlone(PositionEncoding):
    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + sinusoidal(positions, 2 * C)[..., ::2].to(x.dtype)


m = torch.arange(1000)
for name, table in {"pairs": p, "columns": by_column}.items():
    ten_back = (table(m + 10) * table(m)).sum(-1)  # eq. 2.8 says: one number
    low, high = ten_back.aminmax()
    print(f"counting {name:8s} inner product at distance 10: {low:.1f} to {high:.1f}")

kinds = {
    "sine and cosine": (),
    "each column its speed": (ByColumn(),),
    "sines alone": (SinesAlone(),),
}
print(f"\n{'trained below 65,536':30s}      loss   tokens copied right")
for name, position in kinds.items():
    model, losses = train(65_536, *position)
    print(f"{name:30s}{sum(losses[-10:]) / 10:10.3f}{accuracy(model, 500):22.0%}")

# %% [markdown]
# It matters. No error, a loss that falls, and a rule that cannot be learned for all places. Equation {eq}`eq-2-8` is the
# test that finds it in a second: the inner product at a given distance must be the same everywhere.
#
# ### The other order of the columns
#
# Is the order of {eq}`eq-2-5` a bug, then? In a model that you train yourself it is not, as an author of the paper
# answered ([tensor2tensor#391](https://github.com/tensorflow/tensor2tensor/issues/391)): the next layer can permute the
# coordinates. With $P$ for the permutation and $W$ for any projection, since $P^{\top} P = I$,
#
# $$ W (x + p_m) = (W P^{\top})\, (P x + P p_m) , $$ (eq-2-17)
#
# so a model on the other table is the same model with the columns of its embeddings and weights dealt out anew, and
# training is as likely to find the one as the other. Weights that are *already trained* belong to one order. A port of a
# video model swapped the halves of its time step, and from the same weights and inputs the output was off by 37% and the
# pictures lost their composition ([flashinfer#3819](https://github.com/flashinfer-ai/flashinfer/pull/3819)).

# %%
W, x, m = torch.randn(C, C) / C**0.5, torch.randn(1000, C), torch.arange(1000)


def P(t: Tensor) -> Tensor:  # permutes the last axis; of a weight, W P^T
    return convert_layout(t, "interleaved", "half")


check("eq. 2.17", (x + p(m)) @ W.T, (P(x) + P(p(m))) @ P(W).T)


class Halves(PositionEncoding):
    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + P(sinusoidal(positions, C))


model = trained["below 65,536"]
right, model.position = accuracy(model, 0), Halves()
print(f"the trained model above: {right:.0%} of tokens copied right")
print(f"the same weights with the other order: {accuracy(model, 0):.0%}")

# %% [markdown]
# That code differs from the paper in another way, too: its exponent is $-i/(C/2 - 1)$ instead of $-i/(C/2)$, so that the
# last frequency is $1/b$ exactly ([tensor2tensor#1423](https://github.com/tensorflow/tensor2tensor/issues/1423)). Weights
# belong to one of the two.
#
# ### Half precision
#
# The last lines of the precision table are not made up. A speech model served in float16 formed frequencies and product in
# that type, and its table was off by up to 0.42 ([vllm#54620](https://github.com/vllm-project/vllm/pull/54620)). A video model cast the
# time step 998.39 to bfloat16 before its sinusoids, where it is 1000
# ([DiffSynth-Studio#1025](https://github.com/modelscope/DiffSynth-Studio/pull/1025)). Both threads mend it in the same way:
# form the table in full precision, and round last.
#
# ### The wrong axis
#
# The table of a well-known tutorial has the shape `(N, 1, C)`, for tensors with the tokens on the first axis. Give it
# tensors `(B, N, C)`, and every token of a text gets the position of its text in the batch
# ([C.Origami#42](https://github.com/tanjimin/C.Origami/issues/42)). Chapter 1 has the test that finds it.
#
# ## Summary
#
# - Pairs of sine and cosine are hands of clocks, from fast to slow; to move on by $k$ is to turn every hand by a fixed
#   angle, one matrix for all places.
# - Inner products of positions know the distance but not the direction, and behind $W_q^{\top} W_k$ a share of $1/C$ is
#   relative at birth; more of it has to be learned.
# - Keep the two columns of a pair at one speed, the two voices of the sum equally loud, and form the table before you
#   round.
#
# ## Exercises
#
# **2.1** Write `position_table(length, dim, base)`: the vectors of positions $0$ to `length` $- 1$ in the order
# {eq}`eq-2-5`, all sines first.

# %%
from rope_lab.exercises.ch02 import check_position_table


def position_table(length: int, dim: int, base: float) -> Tensor:
    return None  # your turn: shape (length, dim)


check_position_table(position_table)

# %% tags=["hide-cell"]
# Solution of 2.1


def position_table(length: int, dim: int, base: float) -> Tensor:
    theta = base ** (-torch.arange(0, dim, 2) / dim)
    angle = torch.arange(length)[:, None] * theta
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


check_position_table(position_table)

# %% [markdown]
# **2.2** Write `move_on(p, k, base)`: from vectors `p` of shape `(N, C)`, in the order {eq}`eq-2-3`, of positions that you
# are not told, the vectors of the positions $k$ further.

# %%
from rope_lab.exercises.ch02 import check_move_on


def move_on(p: Tensor, k: float, base: float) -> Tensor:
    return None  # your turn: shape (N, C)


check_move_on(move_on)

# %% tags=["hide-cell"]
# Solution of 2.2: by equation 2.6, pair by pair


def move_on(p: Tensor, k: float, base: float) -> Tensor:
    angle = k * base ** (-torch.arange(0, p.shape[-1], 2) / p.shape[-1])
    sin, cos = p[:, ::2], p[:, 1::2]
    new_sin = sin * angle.cos() + cos * angle.sin()
    new_cos = cos * angle.cos() - sin * angle.sin()
    return torch.stack((new_sin, new_cos), dim=-1).flatten(-2)


check_move_on(move_on)

# %% [markdown]
# **2.3** Write `look_back(r, dim, base)`: the matrix $A$ with $p_m^{\top} A\, p_n = \sum_i \cos\,(m - n - r)\theta_i$, which
# a head would have to learn as $W_q^{\top} W_k$ to look $r$ tokens back.

# %%
from rope_lab.exercises.ch02 import check_look_back


def look_back(r: float, dim: int, base: float) -> Tensor:
    return None  # your turn: shape (dim, dim)


check_look_back(look_back)

# %% tags=["hide-cell"]
# Solution of 2.3: by equation 2.10, the transpose of R_r


def look_back(r: float, dim: int, base: float) -> Tensor:
    return R(r, dim, base).T


check_look_back(look_back)

# %% [markdown]
# **2.4** Write `position_of(p, base)`: the positions, whole numbers below 1,000, of vectors `p` of shape `(N, C)` in the
# order {eq}`eq-2-3`. They are given to two decimals. Why is the slowest hand alone not enough?

# %%
from rope_lab.exercises.ch02 import check_position_of


def position_of(p: Tensor, base: float) -> Tensor:
    return None  # your turn: integers, shape (N,)


check_position_of(position_of)

# %% tags=["hide-cell"]
# Solution of 2.4: by equation 2.8 the right position has the largest inner product. The slowest hand moves less from one
# position to the next than the rounding hides.


def position_of(p: Tensor, base: float) -> Tensor:
    table = naive_sinusoidal(torch.arange(1000), p.shape[-1], base)
    return (p @ table.T).argmax(dim=-1)


check_position_of(position_of)

# %% [markdown]
# ## References
#
# - {cite:t}`vaswani2017`, sections 3.4 and 3.5: the formula, its reason, and the factor $\sqrt C$. The linear shift is
#   reproduced above, the translation models are not.
# - {cite:t}`yan2019`: the missing direction, and that a matrix between the vectors breaks what they know of distances.
# - {cite:t}`dai2019` and {cite:t}`ke2021`: the four terms of a score, and what to replace.
# - {cite:t}`kiyono2021`: random starts. The idea is reproduced in small, the translation models are not.
# - {cite:t}`press2022`: longer texts with sinusoidal positions, not reproduced.
#
# Full entries are on the page {doc}`/book/references`.
