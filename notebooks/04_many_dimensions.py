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
# (chapter-many-dimensions)=
# # 04 · Every stamp there is: many dimensions and fast forms
#
# Chapter 3 asked for one stamp and found only turns (and mirrors). Yet xPos shrinks queries, ALiBi adds a number to the
# score, and both see only the distance. **What else is there, and on what map is RoPE one point?**
#
# Below is such a map. A complex number, the *root*, says what one token of distance does to a pair: its real part is a
# growth, its imaginary part a turn. Move the root, and watch what the score does with the distance. The third slider makes
# the root a *double* one:

# %% tags=["hide-input"]
from rope_lab.figures.roots import roots

roots()

# %% [markdown]
# On the vertical axis is RoPE, to the left of it is what fades exponentially, at the origin is no encoding at all, and
# a double root at the origin is the line of ALiBi. This chapter shows why all stamps that see the distance alone are on
# this map, and how newer encodings leave it. Then it returns to RoPE in many dimensions: the forms in which it is
# computed, what each of them costs, and what its geometric row of frequencies is good for.
#
# ## One stamp: all of geometry is in the inner products
#
# If queries and keys get the same stamp $f(x, m)$ and position 0 does nothing, then two vectors at one position have the
# inner product that they had without a stamp (chapter 3). No more is needed to see that $f$ is linear. Expand the square
# below: it consists of inner products of stamped vectors, and each equals the inner product of the vectors themselves.
# With $f(x)$ for $f(x, m)$ and any numbers $a$, $c$,
#
# $$
# \begin{aligned}
# &\lVert f(ax + cy) - a f(x) - c f(y) \rVert^2 \\
# &\quad = \lVert (ax + cy) - ax - cy \rVert^2 = 0 .
# \end{aligned}
# $$ (eq-4-1)
#
# A linear map that keeps inner products is an orthogonal matrix. Adding a vector is not even linear, so it cannot do it.
# Check this without assuming any formula for $f$: make images of 200 vectors from their inner products alone, by
# factoring the table $G$ of all of them. Eight of the images fix a matrix. Does it predict the other 192?

# %%
import torch
from torch import Tensor

from rope_lab import angles, frequencies, rotate
from rope_lab.verify import check

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
torch.manual_seed(4)

points = torch.randn(200, 8)
values, vectors = torch.linalg.eigh(points @ points.T)  # G, from which f is made
images = vectors[:, -8:] * values[-8:].sqrt()  # 200 vectors with these inner products
T = torch.linalg.solve(points[:8], images[:8]).T
check("eq. 4.1, the other 192", points[8:] @ T.T, images[8:], tolerance=1e-9)
check("eq. 4.1, orthogonal", T.T @ T, torch.eye(8), tolerance=1e-9)
moved = (T - torch.eye(8)).norm() / torch.eye(8).norm()
print(f"and it is not the identity: it differs from it by {moved:.0%}")

# %% [markdown]
# ## Two stamps: every invertible matrix
#
# Give up one wish: let queries have one stamp, $T_m$, and keys another, $T'_n$; both do nothing at position 0. Ask
# again for scores that depend on $m - n$ alone. Then at $m = n$ the score is that of position 0. So
# $\langle T_m x,\, T'_m u_j \rangle = x_j$ for each unit vector $u_j$. For $x = u_i$ this shows that the $D$ vectors
# $T'_m u_j$ are a basis, and the inner products of $T_m x$ with a basis fix it: it is linear in $x$. So both stamps are
# matrices again, $T_m^{\top} T'_m = I$, and the key's stamp is the inverse transpose of the query's. The pair $(m, m-1)$ has the distance of $(1, 0)$, which gives $T_m = T_{m-1} T_1$ as in chapter 3. So
#
# $$
# \begin{aligned}
# T_m &= T_1^{\,m}, \qquad T'_n = (T_1^{-\top})^{n}, \\
# \langle T_m q,\, T'_n k \rangle &= \langle T_1^{\,m-n} q,\, k \rangle .
# \end{aligned}
# $$ (eq-4-2)
#
# **Every invertible $T_1$ is a relative encoding**, and there is no other of this kind. For example, let $T_1$ be the shear
# that takes $(a, b)$ to $(a + b, b)$. Then $T'_1$ takes $(a, b)$ to $(a, b - a)$. With $q = (0, 2)$ at 3 and $k = (1, 0)$
# at 1, the stamped vectors are $(6, 2)$ and $(1, -1)$ and the score is 4: twice the distance. At 5 and 3 they are
# $(10, 2)$ and $(1, -3)$, and the score is 4 again.


# %%
def at_positions(T: Tensor, positions: Tensor) -> Tensor:
    """T to the power of each position, (N, D, D)."""
    return torch.stack([torch.linalg.matrix_power(T, int(p)) for p in positions])


def scores_of(T: Tensor, q: Tensor, k: Tensor, at: Tensor, *, one: bool = False):
    """Scores of q and k (N, D) under the two stamps, or, for `one`, under one."""
    key = T if one else torch.linalg.inv(T).T
    to_q, to_k = at_positions(T, at), at_positions(key, at)
    return torch.einsum("mij,mj,nik,nk->mn", to_q, q, to_k, k)


shear = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
hand_q, hand_k = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
for far in (0, 2, 50):
    stamped_q = at_positions(shear, torch.tensor([3 + far]))[0] @ hand_q[0]
    stamped_k = at_positions(shear.inverse().T, torch.tensor([1 + far]))[0] @ hand_k[0]
    check(f"by hand, {3 + far} and {1 + far}", stamped_q @ stamped_k, 4.0)

near = torch.arange(12)
q, k = torch.randn(2, 12, 6)
any_T = torch.eye(6) + 0.1 * torch.randn(6, 6)
by_distance = torch.stack(
    [
        torch.stack(
            [torch.linalg.matrix_power(any_T, int(m - n)) @ q[m] @ k[n] for n in near]
        )
        for m in near
    ]
)
for far in (0, 20):
    found = scores_of(any_T, q, k, near + far)
    check(f"eq. 4.2, from position {far}", found, by_distance, tolerance=1e-8)
same = scores_of(any_T, q, k, near + 20, one=True)
change = (same - scores_of(any_T, q, k, near, one=True)).norm() / same.norm()
print(f"one stamp for both: moved by 20, the scores change by {change:.0%}")

# %% [markdown]
# ### The map
#
# A change of basis costs nothing here either. If $T_1 = P J P^{-1}$, then
#
# $$
# \begin{aligned}
# &\langle T_1^{\,s}\, W_q x,\; W_k y \rangle \\
# &\quad = \langle J^{s}\, (P^{-1} W_q)\, x,\; (P^{\top} W_k)\, y \rangle ,
# \end{aligned}
# $$ (eq-4-3)
#
# and $P^{-1}$ and $P^{\top}$ can be part of the projections (unless a norm follows them). What remains is the Jordan
# normal form $J$, and that is a list of blocks. Read pairs of coordinates as complex numbers, and leave out mirrors
# (negative real eigenvalues, chapter 3): a *single* root $\mu = \xi + \mathrm{i}\theta$ multiplies by
# $\mathrm{e}^{\mu}$ per token, a *double* root couples two coordinates with one root by a shear $\kappa$. (Equal roots
# without a shear are single.) After a distance $s$ they are
#
# $$
# \mathrm{e}^{s\mu} \quad\text{and}\quad
# \exp\!\left( s \begin{pmatrix} \mu & \kappa \\ 0 & \mu \end{pmatrix} \right)
# = \mathrm{e}^{s\mu} \begin{pmatrix} 1 & \kappa s \\ 0 & 1 \end{pmatrix} .
# $$ (eq-4-4)
#
# A root of higher multiplicity adds $s^2$, $s^3$ and so on. **Whatever the matrix, such a score is a sum of terms: a
# power of $s$ times $\mathrm{e}^{s\xi}$ times $\cos s\theta$ or $\sin s\theta$.** Without mirrors, $T_1^{\,s}$ can be
# written as $\mathrm{e}^{sA}$ with a *generator* $A$, whose eigenvalues are the roots. GRAPE {cite:p}`zhang2026grape`
# derives rotations and additive biases from such groups of matrices, and algebraic encodings {cite:p}`kogkalidis2024`
# carry the orthogonal ones over to trees and grids.

# %%
import mpmath


def pair_block(xi: float, theta: float) -> Tensor:
    """The generator of a pair with the root ξ + iθ, (2, 2)."""
    return torch.tensor([[xi, -theta], [theta, xi]])


def exact_power(A: Tensor, s: float) -> Tensor:
    """e^{sA} in 30 digits by mpmath."""
    with mpmath.workdps(30):
        power = mpmath.expm(mpmath.matrix((s * A).tolist()))
        return torch.tensor([[float(x) for x in row] for row in power.tolist()])


xi, theta, kappa = -0.03, 0.4, 0.05
double = torch.block_diag(pair_block(xi, theta), pair_block(xi, theta))
double[0, 2] = double[1, 3] = kappa
for s in (1.0, 7.0, 40.0):
    size, turn = torch.tensor(s * xi).exp(), pair_block(0, s * theta).matrix_exp()
    check(f"eq. 4.4, single, s = {s:.0f}", size * turn, exact_power(double[:2, :2], s))
    written = torch.kron(torch.tensor([[1.0, kappa * s], [0.0, 1.0]]), size * turn)
    check(f"eq. 4.4, double, s = {s:.0f}", written, exact_power(double, s))

P = torch.randn(4, 4)
w_q, w_k = torch.randn(2, 4, 10)
token_x, token_y = torch.randn(2, 1000, 10)
T_9, J_9 = P @ (9 * double).matrix_exp() @ P.inverse(), (9 * double).matrix_exp()
left = (token_x @ (T_9 @ w_q).T * (token_y @ w_k.T)).sum(-1)
right = (token_x @ (J_9 @ P.inverse() @ w_q).T * (token_y @ (P.T @ w_k).T)).sum(-1)
check("eq. 4.3", left, right, tolerance=1e-10, draws=1000)

# %% [markdown]
# ### Five places on it
#
# Now compare the map with the package. Each encoding gets a generator, and $\mathrm{e}^{mA}$ and $\mathrm{e}^{-nA^{\top}}$
# stamp queries and keys as dense matrices. On the other side are the package's own hooks, which know nothing of generators.
#
# | encoding | roots | blocks |
# |---|---|---|
# | NoPE | 0 | single |
# | RoPE | $\pm\mathrm{i}\theta_i$ | single |
# | damped RoPE | $\xi \pm \mathrm{i}\theta_i$ with $\xi < 0$ | single |
# | xPos | $\frac{1}{B}\ln\zeta_i \pm \mathrm{i}\theta_i$ | single |
# | ALiBi | 0 | double, in two coordinates more |
#
# For ALiBi, the two coordinates of the query are $(0, -\lambda \sqrt D)$ with the slope $\lambda$ of the head, those of
# the key $(1, 0)$, and the content keeps the root 0. By {eq}`eq-4-4` with $\kappa = 1$ they add $-\lambda (m - n)$ to
# the score after it is divided by $\sqrt D$: this is ALiBi without a bias.

# %%
from rope_lab.encodings import ALiBi, NoPE, PositionEncoding, RotaryEmbedding, XPos

D, N = 16, 64  # of a head, tokens
freqs = frequencies(D)  # θ_i, (D/2,)
at = torch.arange(N)
heads_q, heads_k = torch.randn(2, 20, 1, N, D)  # twenty draws of one head


def by_package(encoding: PositionEncoding) -> Tensor:
    """Scaled scores through the three hooks of an encoding, (20, 1, N, N)."""
    q, k, _ = encoding.rotate(heads_q, heads_k, heads_k, at)
    q, k = encoding.relate(q, k, at, at)
    bias = encoding.bias(q, k, at, at)
    scores = q @ k.mT / D**0.5
    return scores if bias is None else scores + bias


def by_map(A: Tensor, q: Tensor = heads_q, k: Tensor = heads_k) -> Tensor:
    """Scaled scores under the generator A, (20, 1, N, N)."""
    to_q = torch.linalg.matrix_exp(at[:, None, None] * A)  # (N, D, D)
    to_k = torch.linalg.matrix_exp(-at[:, None, None] * A.mT)
    stamped_q = (to_q @ q[..., None])[..., 0]
    return stamped_q @ (to_k @ k[..., None])[..., 0].mT / D**0.5


def pairs_generator(growth: Tensor) -> Tensor:
    """Roots growth_i ± iθ_i, (D, D)."""
    blocks = [
        pair_block(*root) for root in zip(growth.tolist(), freqs.tolist(), strict=True)
    ]
    return torch.block_diag(*blocks)


check("corner, NoPE", by_map(torch.zeros(D, D)), by_package(NoPE()), draws=20)
rope = by_package(RotaryEmbedding(D))
check("corner, RoPE", by_map(pairs_generator(0 * freqs)), rope, draws=20)
damped = by_map(pairs_generator(0 * freqs - 0.02))
fading = (-0.02 * (at[:, None] - at)).exp()  # one factor for all pairs
check("corner, damped RoPE", damped, rope * fading, draws=20)
zeta = (torch.arange(0, D, 2) / D + 0.4) / 1.4
by_xpos = by_package(XPos(D, scale_base=32))
check("corner, xPos", by_map(pairs_generator(zeta.log() / 32)), by_xpos, draws=20)

alibi = ALiBi(1)
slope = -float(alibi.bias(heads_q, heads_k, at[1:2], at[:1]))  # at distance 1
extra_q = torch.tensor([0.0, -slope * D**0.5]).expand(20, 1, N, 2)
extra_k = torch.tensor([1.0, 0.0]).expand(20, 1, N, 2)
A_alibi = torch.zeros(D + 2, D + 2)
A_alibi[D, D + 1] = 1  # the shear
sheared = by_map(
    A_alibi, torch.cat((heads_q, extra_q), -1), torch.cat((heads_k, extra_k), -1)
)
past = at[:, None] >= at
check("corner, ALiBi", sheared[..., past], by_package(alibi)[..., past], draws=20)

# %% [markdown]
# The last check compares keys in the past only. For later keys the stamps give a score that rises, whereas ALiBi's
# $-\lambda |m - n|$ falls to both sides. In a causal model the mask hides the difference.
#
# :::{admonition} What it costs to leave the axis
# :class: note dropdown
#
# To the left of the vertical axis the keys grow, such as $\mathrm{e}^{-n\xi}$ in xPos (chapter 10). With a double root
# on the axis both stamps grow: in ALiBi, the query has $(-\lambda m \sqrt D, -\lambda \sqrt D)$ and the key $(1, -n)$.
# A bias added to the score has no such trouble. (FlashBias {cite:p}`wu2025` appends two coordinates nevertheless, so
# that a kernel without a bias can be used.) On the axis, with single roots, neither stamp grows, and this is the only
# such place ({ref}`ex-04-4`). Jordan-RoPE {cite:p}`zhang2026` makes a turning root double,
# $s\,\mathrm{e}^{\mathrm{i}s\theta}$. (Its measurements are not repeated here.)
# :::
#
# ### What has no place on it
#
# How do you tell whether a bias $\beta(s)$ is on the map, and how many coordinates it costs? Write its values into the
# matrix with entries $\beta(i + j)$. If $\beta$ needs $r$ coordinates, the matrix is a product of one with $r$ columns
# and one with $r$ rows, so its rank is at most $r$ at any size. (Conversely, if the rank stays bounded, $\beta$ is a
# sum as in {eq}`eq-4-4`, except at finitely many distances: a theorem of Kronecker.)


# %%
from rope_lab.encodings.bias import t5_buckets
from rope_lab.figures.table import table


def coordinates_needed(beta, size: int) -> int:
    """Rank of the matrix with entries β(i + j), i, j < size."""
    row = torch.arange(size)
    values = beta((row[:, None] + row).double())
    return int(torch.linalg.matrix_rank(values, rtol=1e-9))


learned = torch.randn(32)
biases = {
    "constant": lambda s: torch.ones_like(s),
    "−s (ALiBi)": lambda s: -s,
    "cos 0.3 s (a pair of RoPE)": lambda s: (0.3 * s).cos(),
    "e^(−0.1 s) cos 0.3 s": lambda s: (-0.1 * s).exp() * (0.3 * s).cos(),
    "s cos 0.3 s (double)": lambda s: s * (0.3 * s).cos(),
    "−ln(1 + s)": lambda s: -(1 + s).log(),
    "−√s": lambda s: -s.sqrt(),
    "T5 (32 random numbers)": lambda s: learned[t5_buckets(-s.long(), causal=True)],
}
sizes = (8, 16, 32, 64, 128)
exactly = {"ln(1 + s)": lambda s: mpmath.log(1 + s), "√s": mpmath.sqrt}
for name, beta in exactly.items():
    with mpmath.workdps(60):
        square = [[beta(i + j) for j in range(8)] for i in range(8)]
        determinant = mpmath.nstr(mpmath.det(mpmath.matrix(square)), 2)
    print(f"{name}: determinant at size 8, computed in 60 digits: {determinant}")
table(
    [
        (name, *(coordinates_needed(beta, size) for size in sizes))
        for name, beta in biases.items()
    ],
    {"bias": "", **{f"size {size}": "d" for size in sizes}},
    caption="Coordinates that a bias needs: rank of the matrix of β(i + j).",
)

# %% [markdown]
# The first five need as many coordinates as {eq}`eq-4-4` says, at every size. The determinants of the logarithm and the
# root are not zero, so they need at least eight. (The table counts singular values above a billionth of the
# largest, and there are few of those.) Random numbers in T5's buckets need one coordinate per row, until all further
# distances share the last bucket, from 113 on. Added to the score, all of them cost one number per distance.
#
# ## Leaving the map: looking at content
#
# Everything so far treats the tokens between query and key as blank. Several newer encodings do not, and each is a few
# lines in its simplest form. Let $x_l$ be the token at $l$, and let a function of it say how much of a position it counts.
#
# **FoX**, the forgetting transformer {cite:p}`lin2025`, has a gate $0 < \gamma_l < 1$ per token and adds the logarithms of
# the gates between key and query to the score. **Selective RoPE** {cite:p}`movahedi2025` turns by an angle
# that each token chooses. Both replace $m$ by a running sum $c_m$:
#
# $$
# \begin{aligned}
# c_m &= \sum_{l \le m} a(x_l) , \\
# m - n &\;\to\; c_m - c_n = \sum_{l=n+1}^{m} a(x_l) .
# \end{aligned}
# $$ (eq-4-5)
#
# **PaTH** {cite:p}`yang2025path` replaces the power of one matrix by a product of different ones, each a reflection or
# something like it along a vector that the token chooses:
#
# $$
# \begin{aligned}
# \operatorname{score}(m, n) &= k^{\top} H_{n+1} H_{n+2} \cdots H_m\, q , \\
# H_l &= I - \beta_l\, w_l w_l^{\top} .
# \end{aligned}
# $$ (eq-4-6)
#
# **CoPE**, contextual position encoding {cite:p}`golovneva2024`, lets the *query* decide which tokens count, and looks
# up a learned vector $e$ at the number that it has counted, between two whole numbers by interpolation. The inner
# product of $e$ and the query is added to the score:
#
# $$ p_{mn} = \sum_{l=n}^{m} \sigma(\langle q_m, k_l \rangle) , $$ (eq-4-7)
#
# with $\sigma$ for the logistic function. Here are all four, for the causal triangle:


# %%
from torch.nn.functional import logsigmoid, normalize

C = 24  # model width
w_gate, w_turn, w_path = (
    torch.randn(C) / 5,
    torch.randn(C, D // 2) / 4,
    torch.randn(C, D),
)
look_up = torch.randn(N + 2, D)  # the vectors e of CoPE


def fox(x, q, k):
    c = logsigmoid(x @ w_gate + 2).cumsum(0)  # (N,)
    return q @ k.mT / D**0.5 + c[:, None] - c


def selective(x, q, k):
    step = 2 * torch.sigmoid(x @ w_turn)  # 1 in the mean, (N, D/2)
    c = (step * frequencies(D)).cumsum(0)
    return rotate(q, c) @ rotate(k, c).mT / D**0.5


def reflections(x):
    w, beta = normalize(x @ w_path, dim=-1), 2 * torch.sigmoid(x @ w_gate)
    return torch.eye(D) - beta[:, None, None] * w[:, :, None] * w[:, None]  # (N, D, D)


def path(x, q, k):
    H, rows = reflections(x), []
    for m in range(N):
        state, row = q[m], torch.zeros(N)
        for n in range(m, -1, -1):
            row[n] = k[n] @ state
            state = H[n] @ state
        rows.append(row)
    return torch.stack(rows) / D**0.5


def cope(x, q, k):
    gates = torch.sigmoid(q @ k.mT).tril()
    p = gates.flip(-1).cumsum(-1).flip(-1)  # from key n to query m
    low, part = p.floor().long(), p - p.floor()
    by_number = q @ look_up.mT  # (N, number)
    position = (1 - part) * by_number.gather(1, low) + part * by_number.gather(
        1, low + 1
    )
    return (q @ k.mT + position) / D**0.5


schemes = {"FoX": fox, "Selective RoPE": selective, "PaTH": path, "CoPE": cope}
schemes |= {
    "RoPE": lambda x, q, k: rotate(q, turns(x)) @ rotate(k, turns(x)).mT / D**0.5
}


def turns(x: Tensor) -> Tensor:
    return angles(torch.arange(len(x)), frequencies(D), dtype=torch.float64)


# %% [markdown]
# With equal tokens the first three fall back onto the map. FoX with one gate $\gamma$ is ALiBi with the slope
# $-\ln\gamma$, Selective RoPE with equal steps is RoPE, and PaTH with one $w$ and one $\beta$ is a $T_1$ with the
# eigenvalues 1 and $1 - \beta$, which is a mirror for $\beta > 1$. With different tokens these three can still be
# *stamped*: $c_m$ and the product $H_1 \cdots H_m$ depend on a token and those before it, so a key is stamped once.
# (For PaTH the stamp needs the inverse, which exists unless a $\beta_l$ is 1. It is badly conditioned in a long text,
# as the last line below shows, so it is a proof and not a way to compute.)

# %%
tokens, q_c, k_c = torch.randn(N, C), *torch.randn(2, N, D)
triangle = torch.ones(N, N).tril().bool()
repeated = tokens[:1].expand(N, C)
gate_slope = -float(logsigmoid(repeated[0] @ w_gate + 2))
steps = torch.arange(N)[:, None] - torch.arange(N)
content = q_c @ k_c.mT / D**0.5
check(
    "FoX, equal gates, is ALiBi",
    fox(repeated, q_c, k_c)[triangle],
    (content - gate_slope * steps)[triangle],
)
check(
    "eq. 4.5, equal steps are RoPE",
    selective(0 * tokens, q_c, k_c),
    schemes["RoPE"](tokens, q_c, k_c),
)
H = reflections(repeated)[0]
by_powers = torch.stack(
    [
        torch.stack(
            [
                k_c[n] @ torch.linalg.matrix_power(H, max(m - n, 0)) @ q_c[m]
                for n in range(N)
            ]
        )
        for m in range(N)
    ]
)
check(
    "eq. 4.6, equal reflections",
    path(repeated, q_c, k_c)[triangle],
    by_powers[triangle] / D**0.5,
)
product, P_m = torch.eye(D), []
for factor in reflections(tokens):
    product = product @ factor
    P_m.append(product)
stamps = torch.stack(P_m)
first = 16  # tokens
keys = torch.linalg.solve(stamps[:first].mT, k_c[:first, :, None])[..., 0]
queries = (stamps[:first] @ q_c[:first, :, None])[..., 0]
in_order = path(tokens, q_c, k_c)[:first, :first]
check(
    "eq. 4.6, stamped",
    (queries @ keys.mT / D**0.5)[triangle[:first, :first]],
    in_order[triangle[:first, :first]],
    tolerance=1e-6,
)
for m in (first, N):
    print(f"PaTH, condition of stamp {m}: {torch.linalg.cond(stamps[m - 1]):.0e}")

# %% [markdown]
# What stays relative? Change five tokens of the text in one of three places, and look at the scores of the queries at 20 to
# 26 with the keys at 9 to 14, which themselves are left as they are:


# %%
def changed(scheme, where: str) -> float:
    """Largest change of these scores, in standard deviations of all scores."""
    x, q, k = tokens.clone(), q_c.clone(), k_c.clone()
    fresh = torch.randn(5, C), *torch.randn(2, 5, D)
    before, shift = scheme(x, q, k), 0
    if where == "in front":  # the last five fall out at the end
        x, q, k = (torch.cat(both)[:N] for both in zip(fresh, (x, q, k), strict=True))
        shift = 5
    else:
        first = 15 if where == "between" else 4
        for old, new in zip((x, q, k), fresh, strict=True):
            old[first : first + 5] = new
    after = scheme(x, q, k)[20 + shift : 27 + shift, 9 + shift : 15 + shift]
    return float((after - before[20:27, 9:15]).abs().max() / before[triangle].std())


order = ("RoPE", "FoX", "Selective RoPE", "PaTH", "CoPE")
places = ("in front", "before", "between")
table(
    [(name, *(changed(schemes[name], where) for where in places)) for name in order],
    {
        "": "",
        "five inserted in front": ".1e",
        "five before the key replaced": ".1e",
        "five in between replaced": ".1e",
    },
    caption="Largest change of a score, in standard deviations of the scores.",
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three square maps of scores of one repeated query and key at 64 positions. RoPE: even stripes along the diagonals. Selective RoPE: stripes that bend and change their width from place to place. PaTH: a pattern of patches without stripes."}, "figure": {"caption": "The same query and the same key at all 64 positions; the tokens between them differ. RoPE gives each diagonal one value. Under Selective RoPE the stripes bend, because a step is as long as its token says. Under PaTH no stripes are left. (Each map with its own colour scale; PaTH's upper half is not used.)", "name": "fig-content"}}
from rope_lab.figures.why import score_maps

one_q, one_k = torch.randn(2, 1, D).expand(2, N, D)
score_maps(
    {
        name: schemes[name](tokens, one_q, one_k)
        for name in ("RoPE", "Selective RoPE", "PaTH")
    }
)

# %% [markdown]
# So *relative* can mean two things. None of the five changes when tokens are put in front or when those before the key
# change: where the text begins does not matter. (As published, Selective RoPE and PaTH choose through a short
# convolution, so there a few tokens before the key matter, too.) But of the five, RoPE alone also ignores what is
# between. CoPE differs from the other four in one more way. With running sums, the distance between two keys is the
# same for every later query; in CoPE each query has its own, so it is not a difference of two stamps:

# %%
p_gates = torch.sigmoid(q_c @ k_c.mT)
between_keys = p_gates[24:, 8:16].sum(-1)  # for queries 24 to 63
low, high = between_keys.min(), between_keys.max()
print(f"CoPE: from key 8 to key 16 it is {low:.1f} to {high:.1f}, for 40 queries")

# %% [markdown]
# :::{admonition} The same rotation without attention: complex state-space models
# :class: note dropdown
#
# A state-space model keeps a state $S$ and multiplies it at each token. If the multipliers are complex numbers that
# depend on the token, unrolling the recurrence gives a sum over the past in which the turns accumulate: attention
# without a softmax, with queries and keys rotated by running sums {eq}`eq-4-5`. With pairs as complex numbers and
# $\alpha_l = \mathrm{e}^{\xi_l + \mathrm{i}\theta_l}$ per pair,
#
# $$
# \begin{aligned}
# S_m &= \alpha_m \odot S_{m-1} + \bar k_m v_m^{\top}, \qquad o_m = \operatorname{Re}(q_m^{\top} S_m) , \\
# o_m &= \sum_{n \le m} \operatorname{Re} \Big( \sum_i q_{m,i}\, \bar k_{n,i} \prod_{l=n+1}^{m} \alpha_{l,i} \Big)\, v_n .
# \end{aligned}
# $$ (eq-4-8)
#
# Mamba-3 {cite:p}`lahoti2026` states this equivalence as its Proposition 3, with one fading per head: a complex state
# space rotates queries and keys by angles that depend on the data. (It computes a finer recurrence, that of its
# Proposition 4.) With a constant $\alpha$ it is the retention of a note in chapter 10.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show the check: state space and rotation", "code_prompt_hide": "Hide the check"}
turn_l, fade_l = tokens @ w_turn, logsigmoid(tokens @ w_turn + 2)  # θ_l and ξ_l
alpha = torch.polar(fade_l.exp(), turn_l)
complex_q, complex_k = (
    torch.view_as_complex(z.unflatten(-1, (-1, 2))) for z in (q_c, k_c)
)
v = torch.randn(N, 5)
state, outputs = torch.zeros(D // 2, 5, dtype=torch.complex128), []
for m in range(N):
    state = alpha[m][:, None] * state + complex_k[m].conj()[:, None] * v[m]
    outputs.append((complex_q[m][:, None] * state).sum(0).real)
c_turn, c_fade = turn_l.cumsum(0), fade_l.cumsum(0).repeat_interleave(2, dim=-1)
with_sums = (rotate(q_c, c_turn) * c_fade.exp()) @ (
    rotate(k_c, c_turn) * (-c_fade).exp()
).mT
check("eq. 4.8", torch.stack(outputs), with_sums.tril() @ v, tolerance=1e-10)

# %% [markdown]
# ## Back to RoPE: one matrix, four ways to multiply
#
# With four coordinates and two frequencies, the rotation to position $m$ is {eq}`eq-3-19` of chapter 3. Write $c_i$ and
# $s_i$ for $\cos m\theta_i$ and $\sin m\theta_i$ and multiply out:
#
# $$
# R_m x =
# \begin{pmatrix} c_0 x_0 - s_0 x_1 \\ s_0 x_0 + c_0 x_1 \\ c_1 x_2 - s_1 x_3 \\ s_1 x_2 + c_1 x_3 \end{pmatrix}
# = \begin{pmatrix} x_0 \\ x_1 \\ x_2 \\ x_3 \end{pmatrix} \odot
# \begin{pmatrix} c_0 \\ c_0 \\ c_1 \\ c_1 \end{pmatrix}
# + \begin{pmatrix} -x_1 \\ x_0 \\ -x_3 \\ x_2 \end{pmatrix} \odot
# \begin{pmatrix} s_0 \\ s_0 \\ s_1 \\ s_1 \end{pmatrix} .
# $$ (eq-4-9)
#
# The right side is the form of many libraries, in any number of dimensions. It is linear in $x$, as every matrix is,
#
# $$ R_m (ax + cy) = a R_m x + c R_m y , $$ (eq-4-10)
#
# so a part that is added to a query or key before the rotation, such as the bias of a projection or a LoRA update, may be
# rotated separately. There are four ways to apply the same matrix. Each has a table of what depends on the position alone:


# %%
def dense(x: Tensor, R: Tensor) -> Tensor:
    """x (H, N, D), R (N, D, D): every entry of the matrix, most of them 0."""
    return torch.einsum("nij,hnj->hni", R, x)


def blocks(x: Tensor, B: Tensor) -> Tensor:
    """B (N, D/2, 2, 2): the blocks on the diagonal, a sparse matrix."""
    return torch.einsum("npij,hnpj->hnpi", B, x.unflatten(-1, (-1, 2))).flatten(-2)


def elementwise(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """cos and sin (N, D), each value twice: the right side of equation 4.9."""
    quarter = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cos + quarter * sin


def by_complex(x: Tensor, factors: Tensor) -> Tensor:
    """factors (N, D/2) complex: one product per pair."""
    return torch.view_as_real(
        torch.view_as_complex(x.unflatten(-1, (-1, 2))) * factors
    ).flatten(-2)


wide, count = 64, 512
angle = angles(torch.arange(count), frequencies(wide), dtype=torch.float64)
cos, sin = angle.cos(), angle.sin()
B = torch.stack((cos, -sin, sin, cos), dim=-1).unflatten(-1, (2, 2))
R = torch.stack([torch.block_diag(*row) for row in B])
twice = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
forms = {
    "dense matrix": (dense, (R,)),
    "its blocks": (blocks, (B,)),
    "elementwise": (elementwise, twice),
    "complex": (by_complex, (torch.polar(torch.ones_like(angle), angle),)),
}
many_x, many_y = torch.randn(2, 8, count, wide)
for name, (form, tables) in forms.items():
    check(f"eq. 4.9, {name}", form(many_x, *tables), rotate(many_x, angle))
    apart = 2 * form(many_x, *tables) - 3 * form(many_y, *tables)
    check(f"eq. 4.10, {name}", form(2 * many_x - 3 * many_y, *tables), apart)

# %% [markdown]
# What do they cost? Count the multiplications: the matrix has $D^2$ entries, of which $2D$ are in its blocks; each
# coordinate in {eq}`eq-4-9` is multiplied by a cosine and by a sine; and a complex product is four real ones for two
# coordinates. So three of the four need equally many. Then count the bytes that go in and out of each operation, in units
# of the vectors themselves: the least possible is 2, one reading and one writing. The last column is measured on the
# machine that built this page:

# %%
import time

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class Traffic(TorchDispatchMode):
    """Bytes of all tensors that operations read and write; a view moves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = [a for a in tree_flatten(args)[0] if isinstance(a, Tensor)]
        if out.untyped_storage().data_ptr() not in {
            a.untyped_storage().data_ptr() for a in given
        }:
            self.bytes += sum(a.numel() * a.element_size() for a in (*given, out))
        return out


def passes(form, tables) -> float:
    with Traffic() as traffic:
        form(many_x, *tables)
    return traffic.bytes / (many_x.numel() * many_x.element_size())


took = dict.fromkeys(forms, 0.0)  # seconds of this process alone
for _ in range(100):
    for name, (form, tables) in forms.items():
        start = time.process_time()
        form(many_x, *tables)
        took[name] += time.process_time() - start
products = dict.fromkeys(forms, 2 * wide) | {"dense matrix": wide**2}
table(
    [
        (
            name,
            products[name],
            sum(t.numel() * (2 if t.is_complex() else 1) for t in tables) // count,
            passes(form, tables),
            took[name] / took["complex"],
        )
        for name, (form, tables) in forms.items()
    ],
    {
        "form": "",
        "products per vector": ",d",
        "numbers per position": ",d",
        "passes": ".1f",
        "time (complex: 1)": ".1f",
    },
    caption="D = 64, 8 heads, 512 positions, float64, not compiled; 100 calls.",
)

# %% [markdown]
# The dense matrix is for proofs. The elementwise form consists of five operations, each of which reads and writes whole
# vectors, so it moves about five times as many bytes as the complex form. A compiler can fuse it into one loop. The complex
# form needs neighbours as pairs, and a compiler may not take complex numbers; the package has both forms (its code is in
# chapter 3).
#
# ### Meta's lines and Hugging Face's
#
# The two forms that you meet most often differ in three things at once: complex or elementwise, neighbours or halves as
# pairs, and the order of the axes. Both were written for this page, in the manner of each:


# %%
def like_meta(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """x (B, N, H, D); neighbours are a pair; complex numbers turn them."""
    freqs = base ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])
    table = torch.exp(1j * torch.outer(positions, freqs))  # (N, D/2)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table[:, None]).flatten(-2)


def like_hugging_face(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """x (B, H, N, D); the second half of a head is paired with the first."""
    freqs = base ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])
    table = torch.outer(positions, freqs).repeat(1, 2)  # (N, D)
    first, second = x.chunk(2, dim=-1)
    return x * table.cos() + torch.cat((-second, first), dim=-1) * table.sin()


batch = torch.randn(3, 8, count, wide)
positions = torch.arange(count).double()
meta = like_meta(batch.transpose(1, 2), positions).transpose(1, 2)
check("in Meta's manner", meta, rotate(batch, angle), tolerance=1e-11)
face = like_hugging_face(batch, positions)
check("in Hugging Face's", face, rotate(batch, angle, "half"), tolerance=1e-11)
evens_first = torch.cat((torch.arange(0, wide, 2), torch.arange(1, wide, 2)))
from_meta = like_hugging_face(batch[..., evens_first], positions)
check("one from the other", from_meta, meta[..., evens_first], tolerance=1e-11)

# %% [markdown]
# The last check is the whole relation: put even coordinates first, and one is the other. Chapter 5 does this to weights.
#
# ### What goes wrong: the last two entries
#
# The right side of {eq}`eq-4-9` is easy to write down and easy to get wrong. On a slide about Llama, the vector that is
# multiplied by the sines ends in $-x_{D-2},\, x_{D-1}$ where it has to end in $-x_{D-1},\, x_{D-2}$; a reader noticed
# ([pytorch-llama#9](https://github.com/hkproj/pytorch-llama/issues/9)). What would code written from that slide do?


# %%
def from_slide(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    quarter = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    quarter[..., -2], quarter[..., -1] = -x[..., -2], x[..., -1]
    return x * cos + quarter * sin


def errors(where: int, pair: int) -> tuple[float, float]:
    """Error of a score at distance `where`, and of a length, if this pair is wrong."""
    freqs = frequencies(wide)
    freqs = torch.cat((freqs[:pair], freqs[pair + 1 :], freqs[pair : pair + 1]))
    turn = angles(torch.tensor([where, 0]), freqs, dtype=torch.float64)
    turn = turn.repeat_interleave(2, dim=-1)
    q, k = torch.randn(2, 4000, 2, wide)
    wrong = from_slide(q, turn.cos(), turn.sin())[:, 0]
    right = elementwise(q, turn.cos(), turn.sin())[:, 0]
    score = (right * k[:, 1]).sum(-1)
    gap = (wrong * k[:, 1]).sum(-1) - score
    lengths = wrong.norm(dim=-1) / right.norm(dim=-1)
    return float(gap.std() / score.std()), float((lengths - 1).abs().max())


table(
    [
        (where, *errors(where, wide // 2 - 1), *errors(where, 0))
        for where in (1, 10, 100, 1000, 10_000)
    ],
    {
        "query at": ",d",
        "last pair: score off by": ".1%",
        "its length, up to": ".1%",
        "first pair: score off by": ".1%",
        "length, up to": ".1%",
    },
    caption="Errors if one pair is as on the slide; 4,000 draws, key at 0, D = 64.",
)

# %% [markdown]
# The last pair is the slowest, so within a hundred tokens scores are off by a fraction of a percent; the same slip in the
# fastest pair shows at the first token. A test on a short text may pass. A comparison with the dense matrix at a *large*
# position finds it, and so does the question whether lengths are kept there. (Another bug of forms: a course had wrong
# pseudocode beside correct code. A reader traced it to a text whose matrix turns clockwise and whose elementwise form does
# not, [tiny-llm#25](https://github.com/skyzh/tiny-llm/pull/25); chapter 18 has that text.)

# %% [markdown]
# ## Why a geometric row?
#
# The derivation leaves the frequencies open. RoPE takes $\theta_i = b^{-2i/D}$ from the sinusoidal encoding. What would
# another row do? First take four hands and a pencil. In the geometric row 1, 0.1, 0.01, 0.001 the slowest hand needs
# $2\pi/0.001 \approx 6{,}283$ tokens for a turn, so the four are not all back before that. In the row of equal steps 0.25,
# 0.5, 0.75, 1 each frequency is a multiple of the first, so after $2\pi/0.25 \approx 25.1$ tokens *all* are back. In
# general, let $c(s) = \frac{2}{D}\sum_i \cos s\theta_i$ say how much two distances that differ by $s$ look alike (chapter
# 6). A row with one common step $\delta$ repeats:
#
# $$
# \theta_i = (i + 1)\,\delta \quad\Rightarrow\quad c(s + 2\pi/\delta) = c(s) .
# $$ (eq-4-11)


# %%
def alike_at(s: Tensor, freqs: Tensor) -> Tensor:
    """c(s) for distances (S,) -> (S,)."""
    return (s[:, None] * freqs).cos().mean(-1)


four_equal, four_geometric = torch.tensor([0.25, 0.5, 0.75, 1.0]), frequencies(8)
some = torch.rand(1000) * 1000
back = alike_at(some + 2 * torch.pi / 0.25, four_equal)
check("eq. 4.11", back, alike_at(some, four_equal), draws=1000)
for name, four in (("equal steps", four_equal), ("geometric", four_geometric)):
    at_25 = float(alike_at(torch.tensor([25.0]), four)[0])
    print(f"four hands, {name}: c(25) = {at_25:.2f}")

# %% [markdown]
# That speaks against equal steps. Does it speak *for* a geometric row? Take 32 pairs and several rows, among them controls:
# frequencies drawn at random between 0 and 1, which have no common step; frequencies whose *logarithm* is drawn at random,
# which spread like the geometric row but have no order; and a geometric row with base 100, which has no slow pairs. In
# another one, the pairs that do not finish a turn in 512 tokens are stopped, as Fourier position embedding
# {cite:p}`hua2025` does with frequencies that training shows incompletely. (It also mixes frequencies, which is left out
# here.) There are two tasks:
#
# - *Name the distance.* A distance below 4,096 is drawn. The 32 hands show it, with noise of the size of a hand, and the
#   distance that fits best is the answer.
# - *Find the content.* As in chapter 6, a query scores a key equal to it and a random key, both at distance $s$. How often
#   does the equal one win?


# %%
pairs, longest = 32, 4096
place = torch.arange(pairs)
geometric = frequencies(2 * pairs)
unfinished = 2 * torch.pi / geometric > 512
kinds = {
    "geometric, b = 10,000": [geometric],
    "geometric, b = 100": [frequencies(2 * pairs, 100.0)],
    "geometric, slow ones stopped": [geometric.masked_fill(unfinished, 0)],
    "random logarithm": [10_000.0 ** -torch.rand(pairs) for _ in range(10)],
    "equal steps to 1": [(place + 1) / pairs],
    "equal steps, period 8,192": [(place + 1) * 2 * torch.pi / 8192],
    "random from 0 to 1": [torch.rand(pairs) for _ in range(10)],
}


def named(freqs: Tensor, draws: int = 300) -> tuple[float, float]:
    """Shares of distances named exactly, and to within a tenth."""
    true = torch.randint(longest, (draws,))
    hands = torch.polar(torch.ones(draws, pairs), true[:, None] * freqs)
    seen = hands + torch.randn_like(hands)
    angle = torch.arange(longest)[:, None] * freqs
    candidates = torch.polar(torch.ones(longest, pairs), angle)
    off = ((seen @ candidates.conj().T).real.argmax(1) - true).abs()
    exact, near = off == 0, off <= 0.1 * true
    return float(exact.double().mean()), float(near.double().mean())


def wins(s: int, freqs: Tensor, draws: int = 400) -> float:
    """How often a key equal to the query wins, over 20 distances around s."""
    at = s * torch.linspace(0.8, 1.25, 20)
    q, k = torch.randn(2, draws, 1, pairs, dtype=torch.complex128)
    turn = torch.exp(1j * at[:, None] * freqs)  # (20, D/2)
    match, stranger = ((q * key.conj() * turn).sum(-1).real for key in (q, k))
    return float((match > stranger).double().mean())


def mean(numbers) -> float:
    return float(torch.tensor(list(numbers)).mean())


rows = []
for name, several in kinds.items():
    exact, nearly = map(mean, zip(*map(named, several), strict=True))
    found_at = [mean(wins(s, freqs) for freqs in several) for s in (10, 100, 1000)]
    rows.append((name, exact, nearly, *found_at))
columns = {"row": "", "distance exact": ".0%", "to a tenth": ".0%"}
columns |= {"content near 10": ".0%", "near 100": ".0%", "near 1,000": ".0%"}
single = [wins(1000, freqs) for freqs in kinds["random logarithm"]]
print(
    f"random logarithm, near 1,000, row by row: {min(single):.0%} to {max(single):.0%}"
)
table(
    rows,
    columns,
    caption="Two tasks for 32 frequencies; those at random: mean of ten rows.",
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels of c(s) against the distance from 1 to 10,000 on a logarithmic axis. Geometric and random logarithm: both fall from 1 in a slope over the whole axis and reach zero above 1,000. Equal steps to 1: at zero from a few tokens on, with full peaks at 201, 402 and so on. Random from 0 to 1: at zero from a few tokens on, with small wobbles and no peaks."}, "figure": {"caption": "How alike two distances look that differ by s. Equal steps repeat every 201 tokens; drawn at random from the same range, the frequencies lose the peaks but not the gap: beyond a few tokens no two distances look much alike. The two rows that are even in the logarithm fall slowly, with or without order.", "name": "fig-frequency-rows"}}
from rope_lab.figures.rows import alike

whole_turns = (2 * torch.pi * pairs * torch.arange(1, 50)).round()  # of equal steps
spread = torch.cat((torch.logspace(0, 4, 1000), whole_turns)).sort().values
shown = (
    "geometric, b = 10,000",
    "random logarithm",
    "equal steps to 1",
    "random from 0 to 1",
)
alike(spread, {name: alike_at(spread, kinds[name][0]) for name in shown})

# %% [markdown]
# The table does not say what one might expect. The row that names distances best is *not* geometric: frequencies at random
# between 0 and 1 do, although equal steps over the same range fail. So the damage comes from the common step, and fast
# pairs help with this task (base 100 beats base 10,000). The price is in the other columns. With random frequencies from 0
# to 1, a query finds its own content even near ten tokens no more often than a coin would, on average. Content needs pairs
# that have hardly turned: with base 100 none are left at 1,000 tokens, and a query does no better than a coin; with the
# slow pairs stopped for good, content is found at every distance tried, and fewer distances are named to a tenth. A
# geometric row is best at neither task and usable for both. Rows that are random in the logarithm come close on average,
# although single ones differ a lot. What they share with the geometric row is that each *scale* of distance gets some
# pairs.
#
# That is an argument, not a derivation: nothing here says that each scale deserves the same number of pairs. The answer
# depends on which distances matter, in which text, and whether a model uses its pairs at all. Chapters 6, 11, 15 and 16
# come back to it.
#
# ## Summary
#
# - One stamp that keeps scores relative is an orthogonal matrix, linear or not. Two stamps may be $T_1^{\,m}$ and
#   $(T_1^{-\top})^n$ with any invertible $T_1$; its roots are a map on which NoPE, RoPE, damped RoPE, xPos and (with a
#   double root) ALiBi are points. FoX, Selective RoPE, PaTH and CoPE leave it because they look at the tokens between.
# - Dense, blockwise, elementwise and complex forms are one matrix. The last three need equal numbers of products; the complex
#   form moves the fewest bytes.
# - No derivation gives $\theta_i = b^{-2i/D}$. In two tasks, rows spread over the logarithm named distances *and* found content.
#   The rows that named distances better lost the content, and those that kept content better named fewer distances.
#
# ## Exercises
#
# ```{exercise-start}
# :label: ex-04-1
# ```
#
# A query at $m$ is stamped with $T^m$, for an invertible `T` of shape `(D, D)`. Write `key_stamp(T, n)`: the matrix that
# stamps a key at $n = 0, 1, 2, \dots$, so that scores depend on $m - n$ alone and position 0 does nothing.

# %%
from rope_lab.exercises.ch04 import check_key_stamp


def key_stamp(T: Tensor, n: int) -> Tensor:
    return None  # your turn: shape (D, D)


check_key_stamp(key_stamp)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-04-1
# :label: sol-04-1
# ```
#
# It is {eq}`eq-4-2`. At $m = n$ the stamps have to cancel: $T'^{\top}_n\, T^n = I$.


# %%
def key_stamp(T: Tensor, n: int) -> Tensor:
    return torch.linalg.matrix_power(torch.linalg.inv(T).T, n)


check_key_stamp(key_stamp)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-04-2
# ```
#
# Write `coordinates_of(values)`: how many coordinates have to be appended to queries and keys so that their stamps give a
# bias with the values $\beta(0), \beta(1), \dots, \beta(2r)$, a tensor of odd length. (The tensor is long enough.)

# %%
from rope_lab.exercises.ch04 import check_coordinates_of


def coordinates_of(values: Tensor) -> int:
    return None  # your turn


check_coordinates_of(coordinates_of)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-04-2
# :label: sol-04-2
# ```
#
# It is the rank of the matrix of $\beta(i + j)$ with $i, j = 0, \dots, r$.


# %%
def coordinates_of(values: Tensor) -> int:
    row = torch.arange(len(values) // 2 + 1)
    return int(torch.linalg.matrix_rank(values[row[:, None] + row], rtol=1e-9))


check_coordinates_of(coordinates_of)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-04-3
# ```
#
# `forget_bias` should return the bias of FoX for gates $\gamma_l$ of shape `(N,)`: in row $m$ and column $n$ the
# difference $c_m - c_n$ of {eq}`eq-4-5` with $a(x_l) = \ln \gamma_l$, above the diagonal too (the mask comes later).
# With this code, a token with a small gate attends to itself less than it should. Correct it.

# %%
from rope_lab.exercises.ch04 import check_forget_bias


def forget_bias(gates: Tensor) -> Tensor:
    until = gates.log().cumsum(-1)  # with the token's own gate
    before = until - gates.log()
    return until[:, None] - before[None, :]


check_forget_bias(forget_bias)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-04-3
# :label: sol-04-3
# ```
#
# A running sum has to be the same for queries and keys. Here the key's own gate is counted as well, and a token with a
# small gate forgets itself.


# %%
def forget_bias(gates: Tensor) -> Tensor:
    until = gates.log().cumsum(-1)
    return until[:, None] - until[None, :]


check_forget_bias(forget_bias)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-04-4
# ```
#
# "Two stamps of which neither grows without bound are one stamp in another basis." Write `same_stamp(T)`: a real matrix $P$
# for which $P^{-1} T P$ is orthogonal, so that query and key have the same stamp, or `None` where none exists.

# %%
from rope_lab.exercises.ch04 import check_same_stamp


def same_stamp(T: Tensor) -> Tensor | None:
    return None  # your turn: shape (D, D), or None


check_same_stamp(same_stamp)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-04-4
# :label: sol-04-4
# ```
#
# The sentence is true. Queries have the powers $T^m$ and keys those of $T^{-\top}$. If neither grows, no eigenvalue has
# a modulus above 1 or below 1, and no root is double, since $\kappa s$ in {eq}`eq-4-4` grows. (Equal eigenvalues
# without a shear are allowed.) So $T = V \Lambda V^{-1}$ with a diagonal $\Lambda$ of numbers of modulus 1. Then
# $M = V \bar V^{\top}$ satisfies $T M T^{\top} = M$; its real part does, too, and with $M = P P^{\top}$ the matrix
# $P^{-1} T P$ is orthogonal.


# %%
def same_stamp(T: Tensor) -> Tensor | None:
    values, V = torch.linalg.eig(T)
    if (values.abs() - 1).abs().max() > 1e-8 or torch.linalg.cond(V) > 1e6:
        return None  # it grows, or a root is double
    return torch.linalg.cholesky((V @ V.mH).real)


check_same_stamp(same_stamp)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-04-5
#
# You are to choose the 32 frequencies of a head for music written as notes: bars of 16 notes repeat, and so do phrases
# of eight bars. Which row do you choose, and what would show that you were wrong? (This question has no checker.)
# ```
#
# ````{solution} ex-04-5
# :label: sol-04-5
#
# One possible answer.
#
# - *Some pairs with the periods.* A pair with $\theta = 2\pi/16$ is back after each bar, one with $2\pi/128$ after each phrase.
#   For a whole text the common step is a fault {eq}`eq-4-11`; here it is the point, since notes one bar apart *should* look
#   alike.
# - *Some that break the tie.* If all pairs had these periods, the first bar and the ninth would be the same place.
#   A few slow pairs, or some with other periods, tell bars apart.
# - *Some without a turn*, for content at any distance.
# - *The control.* Train with this row, with the geometric one, and with the same number of periods that fit no bar (15 and
#   120, say), each with its own learning rate, over several seeds. If the third does as well as the first, it was not the
#   bars. And shift the bars in the test music: a model that learned positions and not bars will show it.
# - *What speaks against it:* a model can find periods from the geometric row too, from several pairs at once, and music
#   with another metre would need another row.
# ````
#
# ## References
#
# - {cite:t}`zhang2026grape` and {cite:t}`kogkalidis2024`: position encodings as groups of matrices. The five points of the map are
#   checked above; their experiments are not repeated.
# - {cite:t}`zhang2026`: double roots that turn.
# - {cite:t}`wu2025`: biases of few coordinates, appended to queries and keys; its speed is not measured here.
# - {cite:t}`lin2025`, {cite:t}`movahedi2025`, {cite:t}`yang2025path` and {cite:t}`golovneva2024`: FoX, Selective RoPE, PaTH and
#   CoPE. The forms above are the simplest ones; what they gain in language models is not measured here.
# - {cite:t}`lahoti2026`: complex state spaces as rotations that depend on the data; the identity is checked above for the
#   plain recurrence.
# - {cite:t}`hua2025`: frequencies mixed and slow ones stopped; only the stopping is tried above.
#
# Full entries are on the page {doc}`/book/references`.
