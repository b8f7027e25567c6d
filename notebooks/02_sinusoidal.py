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
# You already know one way to give every number a short code of its own: writing it in binary. The figure shows a binary
# counter above and the transformer's formula below.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two striped maps over positions 0 to 63. Above, six bits of a counter: bit 0 alternates at every position, each following bit half as often. Below, six pairs of rows, sine over cosine: the first pair goes up and down within six positions, each following pair half as fast, the last through less than a third of a turn."}, "figure": {"caption": "Read a column from top to bottom and you have one position. Every row of the counter flips half as often as the row above it; every pair of waves swings half as fast. Fast rows tell neighbours apart, slow rows tell regions apart. (Twelve coordinates with base 64, so that the frequency halves from pair to pair.)", "name": "fig-counter"}}
import torch
from torch import Tensor, nn

from rope_lab import frequencies, sinusoidal
from rope_lab.figures.sinusoidal import counter

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that checks show rounding in the 16th digit
torch.manual_seed(2)

first_64 = torch.arange(64)
bits = first_64[:, None] >> torch.arange(6) & 1
counter(bits, sinusoidal(first_64, 12, base=64, dtype=torch.float64))

# %% [markdown]
# This chapter builds the formula from the counter and shows the property for which it was chosen: to move on is to turn.
# Then it follows the vectors into attention, where most of that property is lost, and asks a trained model for the part
# that is left. That part leads to rotary embeddings, in chapter 3.
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
# Ten digits give 1,024 positions a code of their own. Digit 0 runs 0, 1, 0, 1, … with period 2, digit 1 runs
# 0, 0, 1, 1, … with period 4. Each digit is a square wave, so it is the sign of a sine with a period of $2^{j+1}$
# positions (the half keeps it off the zeros of the sine):
#
# $$ \beta_j(m) = \frac12 - \frac12 \operatorname{sign} \sin \frac{2\pi\,(m + \frac12)}{2^{j+1}} . $$ (eq-2-2)

# %%
from rope_lab.verify import check, check_exact

numbers, j = torch.arange(1024), torch.arange(10)
digits = (numbers[:, None] // 2**j) % 2  # β_j(m), (positions, digits)
check("eq. 2.1", (digits * 2**j).sum(-1), numbers)
waves = (2 * torch.pi * (numbers[:, None] + 0.5) / 2.0 ** (j + 1)).sin()
check("eq. 2.2", digits.double(), 0.5 - 0.5 * waves.sign())

# %% [markdown]
# Why not add these digits to the embeddings? They have two faults. First, neighbouring positions need not have similar
# codes: how many digits change from one position to the next depends on where you are. Second, no linear layer can
# compute the code of *one position further*, because digits carry.

# %%
from rope_lab.figures.table import table

rows = [
    (a, b, (digits[a] != digits[b]).sum())
    for a, b in ((6, 7), (7, 8), (0, 8), (511, 512))
]
table(rows, ["from", "to", "digits that change"])

# %% [markdown]
# Take the sign away and keep the wave. That cures the first fault: the slower a sine, the less it can move in one step,
# wherever you are. But a sine reaches each value between its extremes twice in a period, once going up and once coming
# down, so it does not say where in the period you are. A sine and a cosine together do. They are the two coordinates of
# a point on a circle, the tip of the hand of a clock. A hand also cures the second fault, because it turns by the same
# angle at every step.
#
# The next figure shows a position as digits, as the waves of {eq}`eq-2-2` and as hands. A digit is 1 in the stripes. There
# its wave is below the middle, and the hand, which has the height of the wave, points down. Move the position from 31 to
# 32: all six digits change, whereas every hand turns by its usual angle. Then choose what to show:

# %% tags=["hide-input"]
from rope_lab.figures.counting import digits_to_hands

digits_to_hands()

# %% [markdown]
# These hands turn $\pi$ times as fast as the pairs of {numref}`fig-counter`, so that each completes a turn when its digit
# completes a period.
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
# for the pairs $i = 0, \dots, C/2 - 1$. The frequency $\theta_i$ is the angle by which hand $i$ turns from one position
# to the next, in radians. The first hand turns by 1 radian, and each following hand is slower by the same factor
# $b^{2/C}$, down to $b^{2/C}/b$ radians. The paper's base is $b = 10{,}000$ {cite:p}`vaswani2017`.
#
# With a pencil: four coordinates and base 100 have the frequencies 1 and $\frac{1}{10}$, so position 3 gets the vector
# $(\sin 3, \cos 3, \sin 0.3, \cos 0.3)$. In code the formula is three lines, and the vector is added to the embedding of
# the token at $m$, before the first layer. That is all.


# %%
import math


def naive_sinusoidal(positions: Tensor, dim: int, base: float = 10_000.0) -> Tensor:
    """Equation 2.3. positions (N,) -> (N, C)."""
    theta = base ** (-torch.arange(0, dim, 2) / dim)  # (C/2,)
    angle = positions[:, None] * theta  # (N, C/2)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


def p(positions: Tensor, dim: int = 64, base: float = 10_000.0) -> Tensor:
    """The package's table in float64."""
    return sinusoidal(positions, dim, base, dtype=torch.float64)


C = 64
pencil = [math.sin(3), math.cos(3), math.sin(0.3), math.cos(0.3)]
print("position 3:", [round(number, 2) for number in pencil])
check("eq. 2.3, with a pencil", p(torch.tensor([3]), 4, base=100)[0], pencil)
check("eq. 2.3", p(torch.arange(1024)), naive_sinusoidal(torch.arange(1024), C))

# %% [markdown]
# The same in the package, without docstrings: the table, and the method of `SinusoidalEmbedding` that adds it.
# `frequencies` and `angles` are the functions that RoPE uses, too; there are no parameters and no stored table.

# %%
from rope_lab import SinusoidalEmbedding
from rope_lab.figures.source import source

source(sinusoidal, SinusoidalEmbedding.embed)

# %% [markdown]
# At the size of a small model, the table looks like this:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Above, a map of 64 coordinates against 512 positions, from minus 1 to 1: the top rows flicker too fast to be seen, the rows below swing ever more slowly, and in the lowest eighth sine rows stay near 0 and cosine rows near 1. Below, the sines of pairs 8, 12, 16 and 24: about eight, two and a half and four fifths of a period within 512 positions, and a nearly straight rise."}, "figure": {"caption": "The real table: 64 coordinates, base 10,000, 512 positions. In the upper rows a hand completes many turns; in the lowest eighth (four pairs) it moves by less than a sixth of a radian, and only in texts much longer than 512 tokens would it turn. (Below, four of the sine rows as curves.)", "name": "fig-table"}}
from rope_lab.figures.sinusoidal import table_map

table_map(p(torch.arange(512)), pairs=(8, 12, 16, 24))

# %% [markdown]
# Since $\sin^2 + \cos^2 = 1$ in each of the $C/2$ pairs, the vectors of all positions have the same norm:
#
# $$ \lVert p_m \rVert = \sqrt{C/2} . $$ (eq-2-4)

# %%
anywhere = torch.randint(10_000_000, (1000,))
check("eq. 2.4", p(anywhere).norm(dim=-1), torch.full((1000,), (C / 2) ** 0.5))

# %% [markdown]
# ### Two orders of the columns
#
# The paper's formula alternates sine and cosine. The code of its authors puts all sines first and then all cosines, and
# so does much code since. With the semicolon for concatenation,
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
check("eq. 2.5", convert_layout(p(torch.arange(1000)), "interleaved", "half"), halves)

# %% [markdown]
# Neither order is better, but trained weights belong to one of them (see the note on the other order, at the end). RoPE
# has the same two orders, and chapter 5 is about them.
#
# ## To move on is to turn
#
# Now the reason for sines. The addition theorems are $\sin(\alpha + \beta) = \sin\alpha \cos\beta + \cos\alpha \sin\beta$
# and $\cos(\alpha + \beta) = \cos\alpha \cos\beta - \sin\alpha \sin\beta$. With $\alpha = m\theta$ and
# $\beta = t\theta$ they are one matrix, for each pair:
#
# $$
# \begin{pmatrix} \sin (m + t)\theta \\ \cos (m + t)\theta \end{pmatrix}
# = \begin{pmatrix} \cos t\theta & \sin t\theta \\ -\sin t\theta & \cos t\theta \end{pmatrix}
# \begin{pmatrix} \sin m\theta \\ \cos m\theta \end{pmatrix} .
# $$ (eq-2-6)
#
# There is no $m$ in the matrix. It turns the pair clockwise by $t\theta$, as a clock does. Let $B(\varphi)$ be the
# $2 \times 2$ matrix of a *counter-clockwise* rotation by $\varphi$, and $R_t$ the $C \times C$ matrix with one such block
# for each pair, the rotation that the rest of the book is about. The matrix above is the transpose of $B(t\theta)$, so
#
# $$
# \begin{aligned}
# p_{m+t} &= R_t^{\top}\, p_m , \\
# R_t &= \begin{pmatrix}
# B(t\theta_0) & & \\
# & \ddots & \\
# & & B(t\theta_{C/2-1})
# \end{pmatrix} .
# \end{aligned}
# $$ (eq-2-7)
#
# Moving $t$ positions further is multiplication by one fixed matrix, wherever you start, and $t$ need not be an
# integer. This was the authors' first reason for sinusoids: they expected that it would let a model attend by relative
# positions. Their second reason was the hope that such a model would work beyond the length it was trained on
# {cite:p}`vaswani2017`. The rest of the chapter tests the first, and of the second only whether it works at positions
# that were not trained.

# %%
import sympy as sp

sm, st, stheta = sp.symbols("m t theta", real=True)


def hand(m: sp.Expr) -> sp.Matrix:
    return sp.Matrix([sp.sin(m * stheta), sp.cos(m * stheta)])


turn = sp.Matrix(
    [
        [sp.cos(st * stheta), sp.sin(st * stheta)],
        [-sp.sin(st * stheta), sp.cos(st * stheta)],
    ]
)
in_one = hand(sm + st).applyfunc(lambda x: sp.expand_trig(x.expand()))
check_exact("eq. 2.6", in_one - turn * hand(sm))


def R(t: float, dim: int = C, base: float = 10_000.0) -> Tensor:
    """R_t of equation 2.7, (C, C)."""
    angle = t * frequencies(dim, base)
    cos, sin = angle.cos(), angle.sin()
    blocks = torch.stack((cos, -sin, sin, cos), dim=-1).view(-1, 2, 2)
    return torch.block_diag(*blocks)


rounding = 1e-11  # of angles up to 10,000 radians
m, n = torch.randint(10_000, (2, 1000))  # positions of 1,000 queries and keys
for t in (1, 77, -500, 0.5):
    # a table has rows: (R^T p)^T = p^T R
    check(f"eq. 2.7, t = {t}", p(m + t), p(m) @ R(t), tolerance=rounding)

# %% [markdown]
# ### Let least squares find the matrix
#
# Pretend not to know {eq}`eq-2-7`. Give a linear regression pairs of position vectors, $p_m$ and $p_{m+3}$, and let it
# fit a matrix that takes one to the other. It finds the rotation:

# %%
far = torch.randint(100_000, (4000,))  # far enough for the slow hands to move
fitted = torch.linalg.lstsq(p(far), p(far + 3)).solution
check("eq. 2.7, found by least squares", fitted, R(3), tolerance=1e-9, reason="search")

# %% [markdown]
# Now compare it with other ways to give positions a vector. Fit on positions 0 to 511, test on 512 to 1,023: does the
# rule that was learned here hold there? (The base is 100, so that the slowest hand completes a turn in the first part.)

# %%
codes = {
    "sine and cosine": p(torch.arange(1024), 32, base=100),
    "sines alone": p(torch.arange(1024), 32, base=100)[:, ::2],
    "binary digits": torch.cat((digits.double(), torch.ones(1024, 1)), dim=-1),
    "random table": torch.randn(1024, 32),
}
rows = []
for name, code in codes.items():
    here, there = code[:512], code[512:]
    fit = torch.linalg.lstsq(here[:-3], here[3:], driver="gelsd").solution
    errors = [(x[:-3] @ fit - x[3:]).norm() / x[3:].norm() for x in (here, there)]
    rows.append((name, *errors))
columns = {"code": "", "error where fitted": ".1e", "error elsewhere": ".1e"}
table(rows, columns, caption="Three positions further, by one matrix: relative error.")

# %% [markdown]
# The random table stands for one that was learned: each row is free, so nothing ties the step from 3 to 6 to the step
# from 600 to 603. Binary digits fail because of the carry. Sines without their cosines fail too: without the other
# coordinate of the hand you do not know which way it moves.
#
# If one matrix is to move every position on, and the vectors are to stay bounded in both directions, then sines and
# cosines are the only choice (proof in the note).
#
# :::{admonition} Why nothing but sines and cosines
# :class: note dropdown
#
# Suppose that one matrix $T_1$ takes each position to the next, $p_{m+1} = T_1 p_m$ for all integers $m$, negative ones as
# well, and that all these vectors are shorter than some bound. Write $p_0$ in the eigenvectors of $T_1$. An eigenvalue with
# a modulus above 1 would make the vectors grow as $m \to \infty$, one with a modulus below 1 as $m \to -\infty$. So only
# eigenvalues $\mathrm{e}^{\pm\mathrm{i}\theta}$ can take part, and every coordinate of $p_m = (T_1)^m p_0$ is a sum of sines
# and cosines of $m\theta$. (If $T_1$ has too few eigenvectors, the remaining parts grow like powers of $m$ and are excluded,
# too.) Chapter 3 makes a similar argument for queries and keys.
# :::
#
# ## Inner products see the distance
#
# Multiply two position vectors. Each pair contributes
# $\sin m\theta_i \sin n\theta_i + \cos m\theta_i \cos n\theta_i$, which is the cosine of the difference:
#
# $$ \langle p_m,\, p_n \rangle = \sum_{i=0}^{C/2-1} \cos\, (m - n)\theta_i . $$ (eq-2-8)
#
# The two positions are gone and their distance is left. But a cosine is even, so the product is the same for a key three
# tokens before the query and for one three tokens after it:
#
# $$ \langle p_m,\, p_{m-s} \rangle = \langle p_m,\, p_{m+s} \rangle . $$ (eq-2-9)
#
# On its own, the inner product depends only on how far away a token is; it cannot tell before from after. A model that
# reads in both directions misses that; {cite:t}`yan2019` point it out for taggers of names. (Nor does the product name
# the distance: several distances can share a value, as the next figure shows.) However, a matrix between the two vectors
# gives the direction back. Put $R_r^{\top}$ there, which by {eq}`eq-2-7` moves the key on by $r$, and the peak moves to
# the key $r$ positions before the query:
#
# $$ \langle p_m,\, R_r^{\top} p_n \rangle = \sum_{i=0}^{C/2-1} \cos\, (m - n - r)\theta_i . $$ (eq-2-10)

# %%
cosines = ((m - n)[:, None] * frequencies(C)).cos().sum(-1)
check("eq. 2.8", (p(m) * p(n)).sum(-1), cosines, tolerance=rounding)
s = torch.randint(10_000, (1000,))
before, after = (p(m) * p(m - s)).sum(-1), (p(m) * p(m + s)).sum(-1)
check("eq. 2.9", before, after, tolerance=rounding)
r = 16
behind = ((m - n - r)[:, None] * frequencies(C)).cos().sum(-1)
check("eq. 2.10", (p(m) * (p(n) @ R(r))).sum(-1), behind, tolerance=rounding)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two curves of an inner product against the position of the key, from 64 before to 64 after the query. The first is symmetric with its peak of 32 at zero. The second is the same curve moved to the left, with its peak at minus 16."}, "figure": {"caption": "The inner product of two position vectors is symmetric (solid): a key before the query and one after it look the same. A rotation between the two moves the peak to a chosen position before the query (dashed). A head that looks back by positions alone needs a matrix with that effect between the two, and has to learn it.", "name": "fig-products"}}
from rope_lab.figures.sinusoidal import products

offsets = torch.arange(-64, 65)
at_1000, around = p(torch.tensor([1000]))[0], p(1000 + offsets)
curves = {
    "nothing between": (around @ at_1000, 0),
    f"$R_{{{r}}}^{{\\top}}$ between": (around @ R(r) @ at_1000, -r),
}
products(offsets, curves)

# %% [markdown]
# ## What attention makes of it
#
# In a transformer there is a matrix between the two vectors: the projections. The token at $m$ has the embedding
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
# The first contains no position. The two in the middle contain one position each, and one position is not a distance:
# they say things like "this word looks at position 7". Only the last contains two. Transformer-XL starts from these four
# terms and rewrites them one by one {cite:p}`dai2019`; TUPE drops the middle two {cite:p}`ke2021`.

# %%
w_q, w_k = torch.randn(2, C, C) / C**0.5  # one head as wide as the model
A = w_q.T @ w_k
x, y = torch.randn(2, 1000, C)


def between(a: Tensor, b: Tensor) -> Tensor:  # (N, C) twice -> a^T A b, (N,)
    return ((a @ A) * b).sum(-1)


score = (((x + p(m)) @ w_q.T) * ((y + p(n)) @ w_k.T)).sum(-1)
four = between(x, y) + between(x, p(n)) + between(p(m), y) + between(p(m), p(n))
check("eq. 2.11", score, four)

# %% [markdown]
# Is the last term a function of the distance? By {eq}`eq-2-7`, with $p_m = R_m^{\top} p_0$, it is
#
# $$ p_m^{\top} A\, p_n = p_0^{\top}\, R_m\, A\, R_n^{\top}\, p_0 , $$ (eq-2-12)
#
# so $A$ separates the two rotations that should meet. Shift both positions by the same $t$, and see how much the term
# changes:

# %%
start = p(torch.tensor([0]))[0]
places = zip(m[:100].tolist(), n[:100].tolist(), strict=True)
by_rotations = torch.stack([start @ R(a) @ A @ R(b).T @ start for a, b in places])
check("eq. 2.12", between(p(m[:100]), p(n[:100])), by_rotations, tolerance=rounding)

unmoved, rows = between(p(m), p(n)), []
for t in (1, 5, 100):
    change = (between(p(m + t), p(n + t)) - unmoved).norm() / unmoved.norm()
    rows.append((t, change))
table(rows, {"both shifted by": "", "the last term changes by": ".0%"})

# %% [markdown]
# ### The part that is relative
#
# Not all is lost. Cut $A$ into $2 \times 2$ blocks, one for every two pairs of coordinates.
#
# - A block *off* the diagonal couples two hands of different frequencies. As both positions move on, these hands drift
#   apart, so no relative position comes of it.
# - A block *on* the diagonal couples a hand with itself. Every such block is the sum of a rotation and a mirror, each
#   stretched:
#   $\left(\begin{smallmatrix} a_{00} & a_{01} \\ a_{10} & a_{11} \end{smallmatrix}\right) = \left(\begin{smallmatrix} u & -v \\ v & u \end{smallmatrix}\right) + \left(\begin{smallmatrix} u' & v' \\ v' & -u' \end{smallmatrix}\right)$
#   with $u = \frac12 (a_{00} + a_{11})$ and $v = \frac12 (a_{10} - a_{01})$. A mirrored hand turns backwards, so the mirror
#   gives a function of $m + n$. The rotation is multiplication by the complex number $u + \mathrm{i} v$; it commutes with
#   other rotations, and gives a function of $m - n$.
#
# Keep the rotations on the diagonal and nothing else, and call that part of $A$ the **relative part** $\bar A$:
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
# Then $\bar A$ and $R_t$ commute, the rotations of {eq}`eq-2-12` meet, and the distance is all that is left:
# for every $t$,
#
# $$ p_{m+t}^{\top} \bar A\, p_{n+t} = p_m^{\top} \bar A\, p_n . $$ (eq-2-14)
#
# And nothing relative was thrown away: $\bar A$ is what you get when you average the term over all shifts,
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
for t in (1, 5, 0.3):
    check(f"eq. 2.13, it commutes with R_t, t = {t}", bar @ R(t), R(t) @ bar)
shift = torch.randint(10_000, (1000,))
kept = ((p(m) @ bar) * p(n)).sum(-1)
moved_kept = ((p(m + shift) @ bar) * p(n + shift)).sum(-1)
check("eq. 2.14", moved_kept, kept, tolerance=rounding)

# 100,000 shifts at random in place of all of them
shifts = torch.randint(100_000_000, (100_000,))
three = ((7, 3), (3, 7), (40, 0))  # m, n
averages = [between(p(a + shifts), p(b + shifts)).mean() for a, b in three]
exact = [((p(torch.tensor([a])) @ bar) * p(torch.tensor([b]))).sum() for a, b in three]
left, right = torch.stack(averages), torch.stack(exact)
check("eq. 2.15", left, right, tolerance=0.05, reason="sampling", draws=100_000)

# %% [markdown]
# How much is that? Measure a matrix by its sum of squares, $\lVert A \rVert^2$. Where the entries of $W_q$ and $W_k$ are
# independent Gaussians, as in many initialisations, $A$ has the same distribution after a rotation from the left or from the
# right. So each direction in the $C^2$-dimensional space of matrices carries the same expected part of
# $\lVert A \rVert^2$, and $\bar A$ is the projection of $A$ onto a subspace of $C$ dimensions, the $u_i$ and $v_i$:
#
# $$ \mathbb{E}\, \frac{\lVert \bar A \rVert^2}{\lVert A \rVert^2} = \frac{C}{C^2} = \frac1C . $$ (eq-2-16)

# %%
many_q, many_k = torch.randn(2, 400, C, C)


def share(A: Tensor) -> Tensor:
    return relative_part(A).square().sum() / A.square().sum()


at_start = torch.stack([share(matrix) for matrix in many_q.mT @ many_k]).mean()
check("eq. 2.16", at_start, 1 / C, tolerance=5e-4, reason="sampling", draws=400)
# nn.Linear draws its entries evenly from an interval, which changes nothing here
even_q, even_k = 2 * torch.rand(2, 400, C, C) - 1
evenly = torch.stack([share(matrix) for matrix in even_q.mT @ even_k]).mean()
check(
    "eq. 2.16, as nn.Linear",
    evenly,
    1 / C,
    tolerance=5e-4,
    reason="sampling",
    draws=400,
)
print(f"relative at initialisation, with C = {C}: {at_start:.1%}")

# %% [markdown]
# For a width of 512, the relative part is only two parts in a thousand. So a sinusoidal encoding does not *give* a model
# relative positions. It gives it vectors from which $\bar A$ could be learned. Is it?
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

full = 20 if os.environ.get("ROPE_LAB_PRESET") == "smoke" else 250
length, back, tokens = 32, 3, 16


class OneLayer(nn.Module):
    """One causal attention layer. ids (B, N) -> logits (B, N, tokens)."""

    def __init__(
        self, position: PositionEncoding, spread=1.0, factor=1.0, norm=False
    ) -> None:
        super().__init__()
        self.position, self.factor = position, factor
        self.embedding = nn.Embedding(tokens, C)
        nn.init.normal_(self.embedding.weight, std=spread)
        self.norm = nn.LayerNorm(C) if norm else nn.Identity()
        self.attention = MultiHeadAttention(C, heads=1)
        self.head = nn.Linear(C, tokens)

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        embedded = self.position.embed(self.factor * self.embedding(ids), positions)
        return self.head(self.attention(self.norm(embedded), positions=positions))


@functools.cache  # what was trained once is not trained again
def train(reach: int, position: PositionEncoding | None, updates: int, **options):
    """Texts begin at a random position below `reach`. Returns model and losses."""
    torch.manual_seed(0)
    model = OneLayer(position or SinusoidalEmbedding(C), **options).float()
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(updates):
        ids = torch.randint(tokens, (32, length), generator=generator)
        starts = torch.randint(reach, (32, 1), generator=generator)
        logits = model(ids, starts + torch.arange(length))[:, back:]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, :-back].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model, losses


test_ids = torch.randint(
    tokens, (200, length), generator=torch.Generator().manual_seed(1)
)


def correct(logits: Tensor) -> float:  # fraction of tokens copied correctly
    return (
        (logits[:, back:].argmax(dim=-1) == test_ids[:, :-back]).double().mean().item()
    )


@torch.no_grad()
def accuracy(model: OneLayer, shift: int) -> float:
    return correct(model(test_ids, torch.arange(length) + shift))


reaches = {"from 0": 1, "below 1,024": 1024, "below 65,536": 65_536}
trained = {name: train(reach, None, full)[0] for name, reach in reaches.items()}
moves = [0, 1, 3, *(10 * 10**k * i for k in range(6) for i in (1, 3)), 10_000_000]
accuracies = {
    name: [accuracy(model, move) for move in moves] for name, model in trained.items()
}
shown = [0, 10, 1000, 100_000, 10_000_000]
rows = []
for name, values in accuracies.items():
    assert values[0] > 0.95 or full < 250  # the text below says so
    rows.append((name, *(values[moves.index(move)] for move in shown)))
columns = {"texts of the training begin": ""} | {f"{move:,}": ".0%" for move in shown}
table(
    rows,
    columns,
    caption="Tokens copied correctly, against the shift of all positions.",
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Fraction of tokens copied correctly against the shift of all positions, from 0 to ten million on a logarithmic axis, for three models. Trained from 0: 100 percent without a shift, falling within the first tens of positions, then mostly between one half and nine tenths. Trained below 1,024: 100 percent up to about a thousand, then lower. Trained below 65,536: close to 100 percent throughout."}, "figure": {"caption": "All three models solve the task where they were trained. The first loses part of it within ten tokens, the second when it moves past the positions that were seen (dotted lines). The third copies correctly even at ten million, far outside its training.", "name": "fig-moved"}}
from rope_lab.figures.sinusoidal import moved

moved(moves, accuracies, {name: reach - 1 + length for name, reach in reaches.items()})

# %% [markdown]
# Is position ten million perhaps not new at all, because the slow hands completed their turns during training and every
# vector has come back to a known one? No: the nearest of the trained position vectors is as far away as those of tokens
# dozens of positions apart.

# %%
seen = p(torch.arange(65_536 - 1 + length))
nearest = (seen - p(torch.tensor([10_000_000]))).norm(dim=-1).min()
rows = [("position ten million and the nearest trained position", nearest)]
for gap in (1, 3, 50):
    distance = (seen[gap:] - seen[:-gap]).norm(dim=-1).mean()
    rows.append((f"positions {gap} apart, on average", distance))
table(rows, {"vectors of": "", "distance": ".1f"})

# %% [markdown]
# So look inside. Each model has a $W_q$ and a $W_k$; split its position-position term by {eq}`eq-2-13`:

# %%
torch.manual_seed(0)
models = {"untrained": OneLayer(SinusoidalEmbedding(C)), **trained}
window, learned_A, maps, rows = p(torch.arange(32)), {}, {}, []
for name, model in models.items():
    query, key = model.attention.query.weight, model.attention.key.weight
    learned_A[name] = (query.T @ key).detach().double()
    whole, relative = (
        window @ M @ window.T for M in (learned_A[name], relative_part(learned_A[name]))
    )
    size = whole.square().mean().sqrt()
    rows.append((name, share(learned_A[name]), size))
    maps[name] = (whole / size, relative / size)
del maps["below 1,024"]  # it looks like a mixture of the other two
columns = {
    "trained": "",
    "fraction relative": ".1%",
    "size of the term (root mean square)": ".1f",
}
table(rows, columns)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Nine square maps of scores of 32 positions with 32 positions, on one colour scale. Rows: untrained, trained from 0, trained below 65,536. Columns: the whole term, its relative part, the rest. Untrained: the whole is a weave, the relative part almost blank. Trained: the relative part has clear diagonal stripes with a bright one just below the diagonal; the rest is weaker, weakest for the model trained below 65,536."}, "figure": {"caption": "The position-position term of three models, taken apart; each row is divided by the size of its whole term, so that one colour scale fits all. At initialisation the stripes are almost nothing and the weave is everything. Training grows the stripes, with a bright one three positions below the diagonal, and more so when texts begin anywhere (below 65,536). A sinusoidal encoding makes relative position possible; the weights have to learn it.", "name": "fig-split"}}
from rope_lab.figures.sinusoidal import split_maps

split_maps(maps)

# %% [markdown]
# Is the relative part what makes the models work? Take the other parts away and see. Below, the scores of each trained
# model are replaced by the position-position term alone, then by its relative part, then by the rest. One control keeps
# all four terms of {eq}`eq-2-11` and takes only the rest away; a second (last row) keeps everything and doubles the
# relative part:


# %%
@torch.no_grad()
def accuracy_with(
    matrix: Tensor, model: OneLayer, shift: int, terms: Tensor | None = None
) -> float:
    """With p_m^T · matrix · p_n as the scores, and the three terms with content where their A is given."""
    vectors = p(torch.arange(length) + shift)
    embedded = model.embedding(test_ids) + vectors
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    scores = vectors @ matrix @ vectors.T
    if terms is not None:
        scores = scores + embedded @ terms @ embedded.mT - vectors @ terms @ vectors.T
    mixed = (scores / C**0.5).masked_fill(future, -torch.inf).softmax(-1) @ embedded
    layer = model.attention
    values = mixed @ layer.value.weight.double().T @ layer.out.weight.double().T
    return correct(values @ model.head.weight.double().T + model.head.bias.double())


rows, sizes = [], {}
for name, model in trained.items():
    M, M_bar = learned_A[name], relative_part(learned_A[name])
    parts = {
        "position, position": M,
        "relative part": M_bar,
        "the rest": M - M_bar,
    }
    for part, matrix in parts.items():
        at = [accuracy_with(matrix, model, move) for move in shown]
        rows.append((name, part, *at))
    at = [accuracy_with(M_bar, model, move, terms=M) for move in shown]
    rows.append((name, "all but the rest", *at))
    sizes[name] = [piece.norm() for piece in (M_bar, M - M_bar)]
M, M_bar = learned_A["from 0"], relative_part(learned_A["from 0"])
at = [accuracy_with(M + M_bar, trained["from 0"], move, terms=M) for move in shown]
rows.append(("from 0", "all, relative part doubled", *at))
columns = {"trained": "", "scores": ""} | {f"{move:,}": ".0%" for move in shown}
table(
    rows,
    columns,
    caption="Tokens copied correctly, against the shift of all positions.",
)

# %% [markdown]
# The relative part alone solves the task at every shift, even in the model that was only ever shown texts from position
# 0. The rest alone does not solve it anywhere, and where the text has moved, most of the loss is its doing: without it the
# full scores are nearly as good as at the start. Do random starts teach a model to keep the rest small, then? Measure both:

# %%
table(
    [(name, *norms) for name, norms in sizes.items()],
    {"trained": "", "norm of the relative part": ".0f", "norm of the rest": ".0f"},
)

# %% [markdown]
# They do not: the rest is about as large in all three. Random starts make the relative part larger, until the rest no
# longer matters. The second control confirms it: doubling the relative part by hand, in the model trained from 0, has
# the same effect.
#
# This also says what RoPE changes. RoPE rotates queries and keys *after* the projections, so that no matrix separates
# the rotations, and the relative part is all of it, at initialisation and at every width.
#
# Two cautions. The task needs one distance and nothing else, and each model was trained once, so the fractions are not
# those of a language model. And a text that was moved is not a longer text, which was the authors' second hope:
# {cite:t}`press2022` report that sinusoidal language models soon get worse beyond the length they were trained with
# (this book has not repeated it). A learned table cannot even be asked:

# %%
from rope_lab import LearnedEmbedding

nothing = torch.zeros(1, 1, C)
for position in (LearnedEmbedding(512, C), SinusoidalEmbedding(C)):
    try:
        vector = position.embed(nothing, torch.tensor([10_000_000]))
        print(f"{type(position).__name__}: first numbers {vector[0, 0, :3].detach()}")
    except ValueError as error:
        print(f"{type(position).__name__}: {error}")

# %% [markdown]
# Within the length they were trained with, learned and sinusoidal positions did almost equally well in the paper's
# translation models (its table 3; not repeated here).
#
# ## What goes wrong: a frequency for each column
#
# Equation {eq}`eq-2-3` counts pairs: columns $2i$ and $2i + 1$ share $\theta_i$. But code counts columns. If you use
# the column's number for $i$, the two columns of a pair turn at different speeds, and together they no longer form the
# hand of a clock. The slip went through a popular implementation
# ([Kyubyong/transformer#38](https://github.com/Kyubyong/transformer/issues/38)), others
# ([attention-is-all-you-need-pytorch#32](https://github.com/jadore801120/attention-is-all-you-need-pytorch/issues/32),
# [DeepCTR#379](https://github.com/shenweichen/DeepCTR/issues/379)) and a textbook
# ([pytorch_advanced#79](https://github.com/YutaroOgawa/pytorch_advanced/issues/79)). One reader noticed because a plot
# of $\langle p_m, p_n \rangle$ did not look as it should
# ([PapersReimplementations#9](https://github.com/BrianPulfer/PapersReimplementations/issues/9)).
#
# Does it matter? The same reader retrained the model, which classifies images of digits, and reported that the final
# loss was the same with either encoding; the maintainer's guess was that the model is powerful enough to adapt, and
# that other data would show a difference
# ([PapersReimplementations#10](https://github.com/BrianPulfer/PapersReimplementations/pull/10)). The experiment above
# can tell when that happens:


# %%
def by_column(positions: Tensor, dim: int = C) -> Tensor:
    """The slip: the exponent takes the number of the column, not of the pair."""
    column = torch.arange(dim)
    angle = positions[..., None] * 10_000.0 ** (-2 * column / dim)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())


def steep_pairs(positions: Tensor, dim: int = C) -> Tensor:
    """The control: as slow as the slip, but with one frequency for both columns of a pair."""
    column = torch.arange(dim)
    angle = positions[..., None] * 10_000.0 ** (-2 * (column - column % 2) / dim)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())


class Adds(PositionEncoding):
    def __init__(self, vectors) -> None:
        super().__init__()
        self.vectors = vectors

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + self.vectors(positions).to(x.dtype)


for name, vectors in {"pairs": p, "columns": by_column}.items():
    ten_back = (vectors(torch.arange(10, 1010)) * vectors(torch.arange(1000))).sum(-1)
    low, high = ten_back.aminmax()  # eq. 2.8 says: one number
    print(f"counting {name:8s} inner product at distance 10: {low:.1f} to {high:.1f}")

slip, steep = Adds(by_column), Adds(steep_pairs)
rows = []
for reach in ("from 0", "below 65,536"):
    for counting, position, updates in (
        ("pairs", None, full),
        ("columns", slip, 2 * full),
        ("pairs, as slow as columns", steep, 2 * full),
    ):
        slipped, _ = train(reaches[reach], position, updates)
        rows.append(
            (reach, counting, updates, accuracy(slipped, 0), accuracy(slipped, 500))
        )
columns = {"texts begin": "", "counting": "", "updates": ""}
columns |= {"as trained": ".0%", "shifted by 500": ".0%"}
table(rows, columns, caption="Tokens copied correctly.")

# %% [markdown]
# Both are right. Where every text begins at position 0, as every image begins at patch 0, a model can learn its few
# positions one by one: with twice the updates, the slip nearly makes up for the loss. A rule for *all* positions is
# another matter. Moved by 500, the same model fails, and when texts begin anywhere, the slip leaves about half of the
# tokens wrong even after twice the updates. Is it the pairs? The slip also makes the last columns far slower. The control
# (third rows) has frequencies just as low, one for each pair, and it solves the task: it is the pairs.
#
# So there is no error, the loss falls, and a test at the positions of the training may look almost perfect. Equation
# {eq}`eq-2-8` is the test that finds the slip in a second: the inner product at a given distance must be the same
# everywhere.
#
# ## Notes
#
# Four matters off the main line, folded: open what you need.
#
# :::{admonition} How loud is a position? (multiply embeddings by √C, or not)
# :class: note dropdown
#
# The sum $x_m + p_m$ has two voices, and here *loud* means: large in norm. By {eq}`eq-2-4` the position has the norm
# $\sqrt{C/2}$. The token has the norm that its initialisation gave it: about $\sigma \sqrt C$, with a standard deviation
# of $\sigma$ in each coordinate. In the paper, embeddings are multiplied by $\sqrt C$ before the sum: one sentence at the
# end of section 3.4, without a reason. The authors' code,
# [tensor2tensor](https://github.com/tensorflow/tensor2tensor), initialises with $\sigma = C^{-1/2}$, so the factor makes
# the coordinates of a token about as large as a sine. With `nn.Embedding`, whose $\sigma$ is 1, they are that large
# already. What the factor is for is a question that people keep asking
# ([OpenNMT-py#1328](https://github.com/OpenNMT/OpenNMT-py/issues/1328),
# [pytorch/tutorials#2849](https://github.com/pytorch/tutorials/issues/2849),
# [espnet#2797](https://github.com/espnet/espnet/issues/2797)).
#
# The measurement below varies both norms, without and with a LayerNorm between the sum and attention. Without it, the
# models with large sums (last two) do not learn, whatever the ratio: their scores are so large that the softmax
# saturates. With it, as in pre-norm transformers (the paper's own model has no LayerNorm before its first attention),
# only the ratio is left, and it matters: where the token is eleven times as loud as the position (third row), the model
# is still near guessing; where both are multiplied (fourth row), it learns as before. A token that is too quiet does no
# harm here, in a task that is all about positions. So do not look for a rule about $\sqrt C$; print both norms.
# :::


# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show the measurement: how loud?", "code_prompt_hide": "Hide the measurement"}
class Louder(PositionEncoding):
    """Sinusoidal positions, times √C."""

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + C**0.5 * sinusoidal(positions, C).to(x.dtype)


small, times = {"spread": C**-0.5}, {"factor": C**0.5}
plain, louder = SinusoidalEmbedding(C), Louder()
setups = {
    "σ = C^-½, times √C (the paper)": (plain, small | times),
    "σ = C^-½, as it is": (plain, small),
    "σ = 1 (nn.Embedding), times √C": (plain, times),
    "the same, positions times √C too": (louder, times),
}
few, rows = full // 5, []
for name, (position, scale) in setups.items():
    token = OneLayer(position, **scale)
    loud = (token.factor * token.embedding.weight).norm(dim=-1).mean().item()
    place = position.embed(torch.zeros(1, 1, C), torch.tensor([7])).norm().item()
    runs = [
        train(65_536, position, few, norm=norm, **scale)[1] for norm in (False, True)
    ]
    rows.append((name, loud, place, *(sum(losses[-10:]) / 10 for losses in runs)))
rows.append(("guessing", None, None, math.log(tokens), math.log(tokens)))
columns = {
    "": "",
    "token": ".1f",
    "position": ".1f",
    "loss": ".2f",
    "loss with LayerNorm": ".2f",
}
table(
    rows, columns, caption=f"Norms of the two voices, and the loss after {few} updates."
)

# %% [markdown]
# :::{admonition} Precision: at which position does a number type run out?
# :class: note dropdown
#
# At position ten million the fast hand has turned by ten million radians, and only the remainder after whole turns
# matters. A number type with few digits has lost it. The table below computes the encoding in six ways, and prints the
# largest error over the last 64 positions before $N$. The reference does not come from the package: its angles are
# reduced with 50 digits by mpmath.
#
# An error of 2 is a sine with the wrong sign. Each recipe that *computes* in 16 bits gets there by eight thousand
# positions. A table computed in float64 and then *stored* in bfloat16 is fine (second line), because only a number between
# $-1$ and $1$ is rounded. The commonest code computes in float32 throughout: it is good to three digits at eight thousand
# positions and to two at 131,072, but at ten million it is off by up to 0.3.
#
# The last lines are not made up. A speech model served in float16 computed frequencies and product in that type, and its
# table was off by up to 0.42 ([vllm#54620](https://github.com/vllm-project/vllm/pull/54620)). Before computing its
# sinusoids, a video model cast the time step 998.39 to bfloat16, which rounds it to 1000
# ([DiffSynth-Studio#1025](https://github.com/modelscope/DiffSynth-Studio/pull/1025)). Both threads fix it in the same
# way: compute the table in full precision, and round last. Chapter 8 treats precision in full.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show the measurement: precision", "code_prompt_hide": "Hide the measurement"}
import mpmath

mpmath.mp.dps = 50
theta_mp = [mpmath.mpf(10_000) ** (-mpmath.mpf(2 * i) / C) for i in range(C // 2)]


def exact_table(positions: range) -> Tensor:
    """Equation 2.3 with angles reduced in 50 digits; nothing of it comes from the package."""
    rows = []
    for position in positions:
        angles = [float(position * theta % (2 * mpmath.pi)) for theta in theta_mp]
        rows.append([wave(a) for a in angles for wave in (math.sin, math.cos)])
    return torch.tensor(rows)


def computed(positions: Tensor, theta: Tensor) -> Tensor:
    """Sine and cosine of the product, in the wider type of the two."""
    angle = (positions[:, None] * theta).float()
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


theta = frequencies(C)
recipes = {
    "float64 (rope_lab)": lambda m: sinusoidal(m, C),
    "that, stored bfloat16": lambda m: sinusoidal(m, C).bfloat16(),
    "float32 throughout": lambda m: computed(m.float(), theta.float()),
    "positions in bfloat16": lambda m: computed(m.bfloat16(), theta.float()),
    "frequencies in bfloat16": lambda m: computed(m.float(), theta.bfloat16()),
    "product in float16": lambda m: computed(m.half(), theta.half()),
}
lengths = (256, 2048, 8192, 131_072, 10_000_000)
references = {N: exact_table(range(N - 64, N)) for N in lengths}
last = torch.arange(10_000_000 - 64, 10_000_000)
check(
    "eq. 2.3, before ten million, by mpmath",
    p(last),
    references[10_000_000],
    tolerance=1e-8,
)

rows = []
for name, recipe in recipes.items():
    found = [recipe(torch.arange(N - 64, N)).double() for N in lengths]
    largest = [
        (found[i] - references[N]).abs().max().item() for i, N in enumerate(lengths)
    ]
    rows.append(
        (name, *("overflow" if math.isnan(error) else error for error in largest))
    )
columns = {"computed in": ""} | {f"{N:,}": ".0e" for N in lengths}
table(rows, columns, caption="Largest error over the last 64 positions below N.")

# %% [markdown]
# :::{admonition} The other order of the columns, and weights that are already trained
# :class: note dropdown
#
# Weeks after the paper, a reader sent a change to the paper's order. It was merged with thanks from an author of the
# paper, who wrote a day later that it broke all trained models
# ([tensor2tensor#177](https://github.com/tensorflow/tensor2tensor/pull/177)). In a model that you train yourself, however,
# the order of {eq}`eq-2-5` does not matter, as the same author answered elsewhere
# ([tensor2tensor#391](https://github.com/tensorflow/tensor2tensor/issues/391)): the next layer can permute the
# coordinates. With $P$ for the permutation and $W$ for any projection, since $P^{\top} P = I$,
#
# $$ W (x + p_m) = (W P^{\top})\, (P x + P p_m) , $$ (eq-2-17)
#
# so a model on the other table is the same model with the columns of its embeddings and weights reordered, and training
# is as likely to find the one as the other. But weights that are *already trained* belong to one order. A port of a
# video model swapped the halves of its time step, and from the same weights and inputs the output was off by 37% and
# the pictures lost their composition ([flashinfer#3819](https://github.com/flashinfer-ai/flashinfer/pull/3819)).
#
# The code of tensor2tensor differs from the paper in another way, too: its exponent is $-i/(C/2 - 1)$ instead of
# $-i/(C/2)$, so that the last frequency is $1/b$ exactly
# ([tensor2tensor#1423](https://github.com/tensorflow/tensor2tensor/issues/1423)). Trained weights belong to one of these
# two as well.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show the measurement: the other order", "code_prompt_hide": "Hide the measurement"}
W, content = torch.randn(C, C) / C**0.5, torch.randn(1000, C)


def P(t: Tensor) -> Tensor:  # permutes the last axis; of a weight, W P^T
    return convert_layout(t, "interleaved", "half")


check("eq. 2.17", (content + p(m)) @ W.T, (P(content) + P(p(m))) @ P(W).T)


class Halves(PositionEncoding):
    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + P(sinusoidal(positions, C))


ported = trained["below 65,536"]
as_trained, ported.position = accuracy(ported, 0), Halves()
print(f"the trained model above: {as_trained:.0%} of tokens copied correctly")
print(f"the same weights with the other order: {accuracy(ported, 0):.0%}")
ported.position = SinusoidalEmbedding(C)

# %% [markdown]
# :::{admonition} The wrong axis
# :class: note dropdown
#
# The table of a well-known tutorial has the shape `(N, 1, C)`, for tensors with the tokens on the first axis. Give it
# tensors `(B, N, C)`, and every token gets the number of its sequence in the batch as its position
# ([C.Origami#42](https://github.com/tanjimin/C.Origami/issues/42)). Chapter 1 has the test that finds it.
# :::
#
# ## Summary
#
# - Pairs of sine and cosine are hands of clocks, from fast to slow; to move on by $t$ is to turn every hand by a fixed
#   angle, with one matrix for all positions.
# - Inner products of positions depend on the distance but not on the direction, and behind $W_q^{\top} W_k$ a fraction of
#   $1/C$ is relative at initialisation; more of it has to be learned, and that part alone solved the task here.
# - Keep the two columns of a pair at one frequency; what is true at the positions of the training need not be true
#   elsewhere.
#
# ## Exercises
#
# ```{exercise-start}
# :label: ex-02-1
# ```
#
# You know how far your texts reach, not which base you want. Write `position_table(length, dim, period)`: the vectors
# of positions $0$ to `length` $- 1$, in the order {eq}`eq-2-5`, all sines first, with the base for which the slowest
# hand is back after `period` positions. (`dim` is 4 or more.)

# %%
from rope_lab.exercises.ch02 import check_position_table


def position_table(length: int, dim: int, period: float) -> Tensor:
    return None  # your turn: shape (length, dim)


check_position_table(position_table)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-02-1
# :label: sol-02-1
# ```
#
# The slowest hand turns by $\theta_{C/2-1} = b^{-(C-2)/C}$ radians per position, and that has to be $2\pi$ divided by
# the period.


# %%
def position_table(length: int, dim: int, period: float) -> Tensor:
    base = (period / (2 * math.pi)) ** (dim / (dim - 2))
    theta = base ** (-torch.arange(0, dim, 2) / dim)
    angle = torch.arange(length)[:, None] * theta
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


check_position_table(position_table)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-02-2
# ```
#
# Write `move_on(p, t, base)`: from vectors `p` of shape `(N, C)`, in the order {eq}`eq-2-3`, of positions that you
# are not told, the vectors of the positions $t$ further.

# %%
from rope_lab.exercises.ch02 import check_move_on


def move_on(p: Tensor, t: float, base: float) -> Tensor:
    return None  # your turn: shape (N, C)


check_move_on(move_on)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-02-2
# :label: sol-02-2
# ```
#
# By equation {eq}`eq-2-6`, pair by pair.


# %%
def move_on(p: Tensor, t: float, base: float) -> Tensor:
    angle = t * base ** (-torch.arange(0, p.shape[-1], 2) / p.shape[-1])
    sin, cos = p[:, ::2], p[:, 1::2]
    new_sin = sin * angle.cos() + cos * angle.sin()
    new_cos = cos * angle.cos() - sin * angle.sin()
    return torch.stack((new_sin, new_cos), dim=-1).flatten(-2)


check_move_on(move_on)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-02-3
# ```
#
# In the order {eq}`eq-2-5` of the authors' code, all sines first, a head would have to learn another matrix than that
# of {eq}`eq-2-10` to look $r$ tokens back. Write `look_back(r, dim, base)`: the $A = W_q^{\top} W_k$ with
# $(p_m^{\text{half}})^{\top} A\, p_n^{\text{half}} = \sum_i \cos\,(m - n - r)\theta_i$ for all $m$ and $n$.

# %%
from rope_lab.exercises.ch02 import check_look_back


def look_back(r: float, dim: int, base: float) -> Tensor:
    return None  # your turn: shape (dim, dim)


check_look_back(look_back)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-02-3
# :label: sol-02-3
# ```
#
# Between interleaved vectors it is $R_r^{\top}$, by {eq}`eq-2-10`. The order {eq}`eq-2-5` is
# $p_m^{\text{half}} = P p_m$ with a permutation $P$, and so $A = P R_r^{\top} P^{\top}$: rows and columns are
# reordered alike.


# %%
def look_back(r: float, dim: int, base: float) -> Tensor:
    order = torch.cat((torch.arange(0, dim, 2), torch.arange(1, dim, 2)))
    return R(r, dim, base).T[order][:, order]


check_look_back(look_back)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-02-4
# ```
#
# Write `position_of(p, base)`: the positions, whole numbers below 1,000, of vectors `p` of shape `(N, C)` in the
# order {eq}`eq-2-3`. They are given to two decimals. Why is the slowest hand alone not enough?

# %%
from rope_lab.exercises.ch02 import check_position_of


def position_of(p: Tensor, base: float) -> Tensor:
    return None  # your turn: integers, shape (N,)


check_position_of(position_of)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-02-4
# :label: sol-02-4
# ```
#
# By equation {eq}`eq-2-8` the right position has the largest inner product. The slowest hand moves less from one
# position to the next than the rounding hides.


# %%
def position_of(p: Tensor, base: float) -> Tensor:
    table = naive_sinusoidal(torch.arange(1000), p.shape[-1], base)
    return (p @ table.T).argmax(dim=-1)


check_position_of(position_of)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-02-5
# ```
#
# "What is relative in $p_m^{\top} A\, p_n$ is the relative part of $A$, and nothing else." The text says why a block
# off the diagonal gives no relative position. Does the argument hold for every choice of frequencies? Write
# `also_relative(freqs)`: for frequencies of shape `(C/2,)`, each between 0 and $\pi$, a matrix $A \ne 0$ of shape
# `(C, C)` whose relative part {eq}`eq-2-13` is 0, and for which $p_m^{\top} A\, p_n$ still depends on $m - n$ alone,
# for all integers $m$ and $n$. Return `None` where there is none. The order of the coordinates is that of
# {eq}`eq-2-3`.

# %%
from rope_lab.exercises.ch02 import check_also_relative


def also_relative(freqs: Tensor) -> Tensor | None:
    return None  # your turn: shape (C, C), or None


check_also_relative(also_relative)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-02-5
# :label: sol-02-5
# ```
#
# The argument needs *different* frequencies. Two hands of the same frequency never drift apart, so a rotation between
# them is as relative as one on the diagonal. (It happens in practice: with base 1, or where several axes of an image
# use the same frequencies.) Between hands of different frequencies $\theta_i$ and $\theta_j$ a block gives functions
# of $m\theta_i - n\theta_j$ and of $m\theta_i + n\theta_j$, and as both positions move on by $t$, these angles grow
# by $t(\theta_i - \theta_j)$ and $t(\theta_i + \theta_j)$. For $t = 1$ and frequencies between 0 and $\pi$ neither is
# a whole turn.


# %%
def also_relative(freqs: Tensor) -> Tensor | None:
    for i in range(len(freqs)):
        for j in range(i):
            if freqs[i] == freqs[j]:
                A = torch.zeros(2 * len(freqs), 2 * len(freqs))
                A[2 * i, 2 * j] = A[2 * i + 1, 2 * j + 1] = 1
                return A
    return None


check_also_relative(also_relative)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-02-6
# ```
#
# Texts of different lengths share a batch: `mask` of shape `(B, N)` is 1 where there is a token and 0 where there is
# padding, which can be on the left or on the right of a text. `text_positions` should count the tokens of each text
# from 0; the positions that it gives to padding do not matter. Its author tested it with RoPE, and the scores were
# right wherever the padding was. With the encoding of this chapter, some texts get other outputs than they get alone.
# Correct it. Why did RoPE not notice?

# %%
from rope_lab.exercises.ch02 import check_text_positions


def text_positions(mask: Tensor) -> Tensor:
    padding = (mask == 0).sum(dim=-1, keepdim=True)
    return torch.arange(mask.shape[1]) - padding


check_text_positions(text_positions)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-02-6
# :label: sol-02-6
# ```
#
# Padding on the right is subtracted too, so that such a text begins at a negative position. All its tokens are moved
# by the same number, and a relative encoding does not notice that. The vectors $p_m$ do, and sines of negative
# positions raise no error.


# %%
def text_positions(mask: Tensor) -> Tensor:
    return mask.cumsum(dim=-1) - 1


check_text_positions(text_positions)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-02-7
#
# By {eq}`eq-2-16`, $1/C$ of $\lVert A \rVert^2$ is relative at initialisation. A reviewer concludes: "The wider a
# model is, the worse sinusoidal positions are at relative tasks." Where does the conclusion go further than the
# equation? How could it be right after all, and which experiment would decide? (This question has no checker.)
# ```
#
# ````{solution} ex-02-7
# :label: sol-02-7
#
# The equation speaks of weights that are drawn, the conclusion of weights that are learned. The experiment of this
# chapter shows that training moves the relative part a long way from where it began, and that moved texts are copied
# correctly where it outweighs the rest. The equation says nothing about how fast that goes.
#
# The conclusion could be right: a wider model starts with a smaller share, and the rest, which disturbs the scores
# once a text is moved, is not made smaller by training (also seen in this chapter). It could also be wrong: what the
# relative part needs is $C$ numbers that all get a gradient from the same task, and a wider model has more of them.
#
# To decide, train the model of this chapter at widths 32, 64, 128 and 256, each with a learning rate chosen for that
# width on other data than it is judged by, and with several seeds. Report the fraction copied at a shift far outside
# the training, and the share of $\bar A$, against the number of updates. Two controls belong to it: a model that
# starts with $A$ replaced by $\bar A$ (a share of 1 at every width), and RoPE. If the widths differ with the first
# control as well, the share at initialisation is not the reason.
# ````
#
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
