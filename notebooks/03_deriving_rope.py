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
# (chapter-deriving-rope)=
# # 03 · Deriving RoPE from complex numbers
#
# You want to stamp each query and each key with its own position, once, before they meet. When they meet, the score must
# know the *distance* of the two and nothing else. But how can a score know a difference when each side was stamped
# alone? **Is there such a stamp?**
#
# Here is a query and a key of two coordinates, drawn as the hands of a clock. The dashed lines are the hands at position
# 0; each position turns a hand by the same step. The score is the inner product: large for hands that point the same way,
# negative for hands that point apart. Move the sliders. What changes the score, and what leaves it alone?

# %% tags=["hide-input"]
from rope_lab.figures.turning import turning

turning()

# %% [markdown]
# Move both hands on by the same amount, and the angle between them stays: so does the score. That is all of rotary
# position embedding (RoPE, {cite:p}`su2021`). The rest of this chapter shows that the stamp *must* be a turn, that it
# must turn at constant speed, and how it looks on 128 coordinates instead of two.
#
# ## What is asked
#
# Let $x$ be a query or a key of one head, a vector of $D$ real coordinates, and let $f(x, m)$ be the same vector stamped
# with the position $m = 0, 1, 2, \dots$ For a query $q$ at $m$ and a key $k$ at $n$, ask for a function $g$ with
#
# $$ \langle f(q, m),\, f(k, n) \rangle = g(q, k, m - n), $$ (eq-3-1)
#
# where $\langle x, y \rangle$ is the inner product. Position 0 may leave everything as it is, $f(x, 0) = x$.
#
# ## Ask an optimiser first
#
# Before you derive anything, hand {eq}`eq-3-1` to gradient descent and see what it comes up with. Take $D = 2$ and let
# each stamp be any matrix, $f(x, m) = T_m x$, with $T_0 = I$ and the entries of $T_1, \dots, T_7$ drawn at random. Then
# {eq}`eq-3-1` says that the pair at $(m, n)$ must score like the pair at $(m - n, 0)$, whatever $q$ and $k$:
#
# $$ T_m^{\top} T_n = T_{m-n}^{\top} \qquad \text{for } m \ge n . $$ (eq-3-2)
#
# Minimise the squared difference of the two sides, from 32 random starts at once. Nothing in the code knows of rotations.

# %%
import torch
from torch import Tensor

from rope_lab.verify import check, check_exact

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
torch.manual_seed(3)

starts, N = 32, 8
identity = torch.eye(2).expand(starts, 1, 2, 2)
free = torch.randn(starts, N - 1, 2, 2, requires_grad=True)  # T_1 … T_7 of each
m, n = torch.tril_indices(N, N)  # all pairs with m ≥ n


def stamps() -> Tensor:
    return torch.cat((identity, free), dim=1)  # (starts, N, 2, 2)


def miss(T: Tensor) -> Tensor:
    """How far each start is from equation 3.2, (starts,)."""
    return (T[:, m].mT @ T[:, n] - T[:, m - n].mT).square().sum((-2, -1)).mean(-1)


before = stamps().detach()
optimiser = torch.optim.Adam([free], lr=0.05)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 1500)
for _ in range(1500):
    optimiser.zero_grad()
    miss(stamps()).sum().backward()
    optimiser.step()
    schedule.step()
after = stamps().detach()

solved = miss(after) < 1e-20
turns = torch.linalg.det(after[:, 1]) > 0  # a mirror would have determinant −1
T = after[solved]
print(f"{solved.sum()} of {starts} starts meet the requirement:")
print(f"  {(solved & turns).sum()} rotations and {(solved & ~turns).sum()} mirrors")
print(f"the others are stuck, the best of them at {miss(after)[~solved].min():.2f}")

near = 1e-8  # a search ends near a solution, not on it
check("eq. 3.2, as found", T[:, m].mT @ T[:, n], T[:, m - n].mT, tolerance=near)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels. Before: the vector (1, 0) under the matrices of positions 0 to 7 points in random directions with random lengths. After: the eight vectors lie on a circle at equal steps. Third panel: the angle turned against the position, a straight line through zero for every successful search, each with a slope of its own."}, "figure": {"caption": "The vector (1, 0) stamped with positions 0 to 7, before and after one search. Asked only for scores that depend on the distance, the optimiser finds a circle and walks it at constant speed (right: every search that ended in a rotation; only the speed differs).", "name": "fig-found"}}
import numpy as np

from rope_lab.figures.deriving import found

arrows = after[solved & turns][..., 0]  # T_m (1, 0), shape (searches, N, 2)
turned = np.unwrap(torch.atan2(arrows[..., 1], arrows[..., 0]).numpy(), axis=-1)
shown = int(np.argmin(np.abs(np.abs(turned[:, 1]) - 0.7)))  # one that is easy to follow
found(before[solved & turns][shown, :, :, 0], arrows[shown], turned)

# %% [markdown]
# Why a circle? Why constant speed? And what are the mirrors? The derivation answers all three, and its steps can be
# checked on the matrices that were just found.
#
# ## Two coordinates are one complex number
#
# Stay with $D = 2$ and write the pair $(x_0, x_1)$ as one complex number, $x_0 + \mathrm{i}\,x_1$, again called $x$. With
# $\bar k$ for the complex conjugate, the inner product of two pairs is a real part:
#
# $$ \langle q, k \rangle = \operatorname{Re}(q\,\bar k) . $$ (eq-3-3)

# %%
import sympy as sp

q0, q1, k0, k1 = sp.symbols("q_0 q_1 k_0 k_1", real=True)
product = (q0 + sp.I * q1) * sp.conjugate(k0 + sp.I * k1)
check_exact("eq. 3.3", sp.re(sp.expand(product)) - (q0 * k0 + q1 * k1))

q, k = torch.randn(2, 1000, 2)
qc, kc = torch.view_as_complex(q), torch.view_as_complex(k)  # the same memory
check("eq. 3.3, on tensors", (q * k).sum(-1), (qc * kc.conj()).real)

# %% [markdown]
# Complex numbers are worth the trouble because of their polar form. A number of length $\lvert x \rvert$ and angle
# $\arg x$ is $\lvert x \rvert\, \mathrm{e}^{\mathrm{i} \arg x}$, and in a product lengths multiply and angles add. The
# conjugate flips the sign of an angle, so in $q\,\bar k$ they are subtracted:
#
# $$ q\,\bar k = \lvert q \rvert\, \lvert k \rvert\, \mathrm{e}^{\mathrm{i}(\arg q - \arg k)} . $$ (eq-3-4)

# %%
polar = torch.polar(qc.abs() * kc.abs(), qc.angle() - kc.angle())
check("eq. 3.4", qc * kc.conj(), polar)

# %% [markdown]
# There is the difference you are after, of angles for now. It is the reason to ask a little more than {eq}`eq-3-1`: that
# not only the real part but the whole complex number depends on the distance alone,
#
# $$ f(q, m)\, \overline{f(k, n)} = g(q, k, m - n) . $$ (eq-3-5)
#
# Now $g$ is complex and its real part is the score. Whether this asks too much is a fair question; it is answered below.
# The rotations that were found obey it, so they are what the derivation has to explain:

# %%
R = after[solved & turns]  # (searches, N, 2, 2)


def stamped(x: Tensor) -> Tensor:
    """Vectors under the rotations found, as numbers, (draws, searches, N)."""
    return torch.view_as_complex(torch.einsum("smij,bj->bsmi", R, x))


f_q, f_k = stamped(q), stamped(k)
g = f_q[..., m - n] * f_k[..., :1].conj()  # the pair at (m − n, 0)
check("eq. 3.5, as found", f_q[..., m] * f_k[..., n].conj(), g, tolerance=near)

# %% [markdown]
# ## The length cannot change
#
# Write the stamped vector in polar form too, with a length $r$ and an angle $\varphi$ that may depend on vector and
# position in any way: $f(x, m) = r(x, m)\, \mathrm{e}^{\mathrm{i} \varphi(x, m)}$. By {eq}`eq-3-4`, equation {eq}`eq-3-5`
# falls into two, one for lengths and one for angles:
#
# $$
# \begin{aligned}
# r(q, m)\, r(k, n) &= \lvert g(q, k, m - n) \rvert, \\
# \varphi(q, m) - \varphi(k, n) &= \arg g(q, k, m - n) .
# \end{aligned}
# $$ (eq-3-6)
#
# Angles are meant up to whole turns of $2\pi$, here and in all that follows.
#
# Take the first line with $k = q$ and $n = m$. The distance is 0, so both sides are what they are at position 0, where
# $f$ does nothing: $r(q, m)^2 = r(q, 0)^2 = \lvert q \rvert^2$. A stamp keeps lengths,
#
# $$ \lvert f(x, m) \rvert = \lvert x \rvert . $$ (eq-3-7)
#
# That is the circle. The optimiser was never told:


# %%
def unit(angle: Tensor) -> Tensor:
    """The angle as a number on the circle, where whole turns do not count."""
    return torch.exp(1j * angle)


lengths = f_q.abs()[..., m] * f_k.abs()[..., n]
between = f_q.angle()[..., m] - f_k.angle()[..., n]
check("eq. 3.6, lengths", lengths, g.abs(), tolerance=near)
check("eq. 3.6, angles", unit(between), unit(g.angle()), tolerance=near)

at_zero = qc.abs()[:, None, None].expand(f_q.shape)
check("eq. 3.7, as found", f_q.abs(), at_zero, tolerance=near)

# %% [markdown]
# ## The angle must grow in equal steps
#
# Take the second line of {eq}`eq-3-6` with $n = m$. The right side is again what it is at position 0, so
#
# $$ \varphi(q, m) - \varphi(k, m) = \arg q - \arg k . $$ (eq-3-8)
#
# Sort by vector: $\varphi(q, m) - \arg q = \varphi(k, m) - \arg k$. The left side knows nothing of $k$ and the right side
# nothing of $q$, and yet they are equal. So this quantity, the angle by which the stamp has turned the vector, is the
# same for all vectors. Call it $\tau(m)$:
#
# $$ \varphi(x, m) = \arg x + \tau(m), \qquad \tau(0) = 0 . $$ (eq-3-9)
#
# Put this back into the second line of {eq}`eq-3-6`: for given $q$ and $k$, $\tau(m) - \tau(n)$ depends on $m - n$ alone.
# The pair $(m, m - 1)$ has the distance of the pair $(1, 0)$, so
#
# $$ \tau(m) - \tau(m - 1) = \tau(1) - \tau(0) = \tau(1) . $$ (eq-3-10)
#
# Every step is as large as the first. The angles are an **arithmetic progression**; with $\theta$ for the step $\tau(1)$,
#
# $$ \tau(m) = m\,\theta . $$ (eq-3-11)
#
# These are the straight lines. On the rotations that were found:

# %%
apart = (qc.angle() - kc.angle())[:, None, None].expand(f_q.shape)
check("eq. 3.8, as found", unit(f_q.angle() - f_k.angle()), unit(apart), tolerance=near)

tau = f_q[0].angle() - qc[0].angle()  # τ from the first vector, (searches, N)
for_all = unit(qc.angle()[:, None, None] + tau)
check("eq. 3.9, as found", for_all, unit(f_q.angle()), tolerance=near)

steps, first = unit(tau[:, 1:] - tau[:, :-1]), unit(tau[:, 1:2])
check("eq. 3.10, as found", steps, first.expand(steps.shape), tolerance=near)
line = torch.arange(N) * tau[:, 1:2]
check("eq. 3.11, as found", unit(tau), unit(line), tolerance=near)

# %% [markdown]
# :::{admonition} What was assumed
# :class: note
#
# Positions are whole numbers and every step of one is allowed. No continuity was needed: induction from $m - 1$ to $m$
# did it. Two remarks keep it honest.
#
# *Whole numbers cannot tell $\theta$ from $\theta + 2\pi$.* Both give the same stamp at every whole $m$. So speeds from
# $-\pi$ to $\pi$ are all there are; RoPE's fastest hand, 1 radian a token, runs at a third of that.
#
# *Positions in between* (time stamps, or positions squeezed together as in chapter 11) need one more assumption. The same
# argument gives $\tau(a + b) = \tau(a) + \tau(b)$ for all real $a$ and $b$. If $\tau$ is continuous, $\tau(m) = m\theta$ is
# the only solution; without continuity there are others, but it takes the axiom of choice to name one.
# :::
#
# ## The stamp
#
# Length kept, angle advanced by $m\theta$: the stamp is a multiplication by one complex number.
#
# $$ f(x, m) = x\, \mathrm{e}^{\mathrm{i} m \theta} $$ (eq-3-12)
#
# Without complex numbers it is the rotation matrix you may know. Multiply out
# $(x_0 + \mathrm{i}\,x_1)(\cos m\theta + \mathrm{i} \sin m\theta)$ and sort real from imaginary:
#
# $$
# f(x, m) = \begin{pmatrix} \cos m\theta & -\sin m\theta \\ \sin m\theta & \cos m\theta \end{pmatrix}
# \begin{pmatrix} x_0 \\ x_1 \end{pmatrix} .
# $$ (eq-3-13)

# %%
from rope_lab import rotate

x0, x1, angle = sp.symbols("x_0 x_1 phi", real=True)
cos, sin = sp.cos(angle), sp.sin(angle)
matrix = sp.Matrix([[cos, -sin], [sin, cos]])
number = sp.expand((x0 + sp.I * x1) * (cos + sp.I * sin))
pair = sp.Matrix([sp.re(number), sp.im(number)])
check_exact("eq. 3.13", matrix * sp.Matrix([x0, x1]) - pair)

turn = torch.rand(1000, 1) * 100  # mθ for each vector
by_package = torch.view_as_complex(rotate(q, turn))
check("eq. 3.12, in the package", by_package, qc * unit(turn[:, 0]))

# %% [markdown]
# Now the score. Conjugating $k\, \mathrm{e}^{\mathrm{i} n\theta}$ flips the sign of its angle, and the two exponentials
# become one:
#
# $$
# \langle f(q, m),\, f(k, n) \rangle
# = \operatorname{Re}\!\big(q\, \mathrm{e}^{\mathrm{i} m\theta}\; \bar k\, \mathrm{e}^{-\mathrm{i} n\theta}\big)
# = \operatorname{Re}\!\big(q\, \bar k\, \mathrm{e}^{\mathrm{i}(m - n)\theta}\big) .
# $$ (eq-3-14)
#
# This is {eq}`eq-3-1`, solved. It is also the step that readers doubt, since cosines and sines of two different angles go
# in and only the difference comes out. Let SymPy multiply the matrices, with $m$, $n$ and $\theta$ as symbols:

# %%
at_m, at_n, theta = sp.symbols("m n theta", real=True)
rotated_q = matrix.subs(angle, at_m * theta) * sp.Matrix([q0, q1])
rotated_k = matrix.subs(angle, at_n * theta) * sp.Matrix([k0, k1])
score = sp.expand(rotated_q.dot(rotated_k))
print(f"multiplied out: {len(score.args)} terms, such as {score.args[0]}")

phase = theta * (at_m - at_n)
formula = sp.re(sp.expand(product * (sp.cos(phase) + sp.I * sp.sin(phase))))
check_exact("eq. 3.14", score - formula)

# %% [markdown]
# The eight terms collapse to two:

# %%
sp.collect(sp.simplify(score), [sp.cos(phase), sp.sin(phase)])

# %% [markdown]
# And on numbers: a thousand queries and keys, each pair with its own two positions and its own $\theta$.

# %%
at_m, at_n = torch.randint(0, 10_000, (2, 1000, 1))
speed = torch.rand(1000, 1)
turned_q, turned_k = rotate(q, at_m * speed), rotate(k, at_n * speed)
by_distance = (qc * kc.conj() * unit(((at_m - at_n) * speed)[:, 0])).real
rounding = 1e-11  # of angles up to 10,000 radians
turned_score = (turned_q * turned_k).sum(-1)
check("eq. 3.14, on tensors", turned_score, by_distance, tolerance=rounding)

# %% [markdown]
# ## Did we ask too much?
#
# Equation {eq}`eq-3-5` wants a complex number to depend on the distance, where {eq}`eq-3-1` wants only its real part.
# For stamps that are matrices, as they are in every transformer, you can do without the extra wish, and for any $D$.
#
# So let $f(x, m) = T_m x$ with $T_0 = I$, and suppose that $T_m^{\top} T_n$ depends on $m - n$ alone. The pair $(m, m)$
# has the distance of $(0, 0)$: $T_m^{\top} T_m = I$, the stamp is an orthogonal matrix. The pair $(m, m-1)$ has the
# distance of $(1, 0)$: $T_m^{\top} T_{m-1} = T_1^{\top}$. Multiply by $T_m$ from the left and by $T_1$ from the right:
# $T_{m-1} T_1 = T_m$. So
#
# $$ T_m^{\top} T_m = I, \qquad T_m = (T_1)^m : $$ (eq-3-15)
#
# every solution is one orthogonal matrix, applied $m$ times.

# %%
from torch.linalg import matrix_power

ones = identity[: len(T)].expand_as(T)
check("eq. 3.15, orthogonal, as found", T.mT @ T, ones, tolerance=near)
powers = torch.stack([matrix_power(T[:, 1], power) for power in range(N)], dim=1)
check("eq. 3.15, powers, as found", T, powers, tolerance=near)

# %% [markdown]
# In two dimensions an orthogonal matrix is a rotation or a mirror. Those are the two kinds that the optimiser found, and
# you now know that there is no third. A mirror applied twice is the identity: it can tell even positions from odd ones
# and nothing more. That leaves the turn.
#
# ## Many dimensions: pairs
#
# A head has more than two coordinates, often 64 or 128. Linear algebra says what an orthogonal $T_1$ can be there. If it
# can be reached from the identity without a jump (no mirrors), then in a suitable orthonormal basis, the columns of a
# matrix $U$, it turns *pairs* of coordinates, each by an angle of its own. With $B(\varphi)$ for the $2 \times 2$ matrix
# that turns by $\varphi$, as in {eq}`eq-3-13`,
#
# $$
# T_m = U R_m U^{\top}, \qquad
# R_m = \begin{pmatrix}
# B(m\theta_0) & & \\
# & \ddots & \\
# & & B(m\theta_{D/2-1})
# \end{pmatrix} .
# $$ (eq-3-16)
#
# The block-diagonal $R_m$ is the rotation to position $m$ that the rest of the book is about.
#
# Here is a random orthogonal matrix of eight dimensions, taken apart. Its eigenvalues are $\mathrm{e}^{\pm\mathrm{i}\theta_i}$,
# and imaginary and real part of an eigenvector span the plane that turns.


# %%
def block_diagonal(m: float, theta: Tensor) -> Tensor:
    """R_m of equation 3.16, (D, D)."""
    cos, sin = (m * theta).cos(), (m * theta).sin()
    blocks = torch.stack((cos, -sin, sin, cos), dim=-1).view(-1, 2, 2)
    return torch.block_diag(*blocks)


D = 8
skew = torch.randn(D, D)
T1 = torch.linalg.matrix_exp((skew - skew.T) / 2)  # no jump: matrix_exp(0) = I
values, vectors = torch.linalg.eig(T1)
upper = values.imag > 0  # one of each conjugate pair
theta, v = values[upper].angle(), vectors[:, upper]
U = 2**0.5 * torch.stack((v.imag, v.real), dim=-1).flatten(1)  # (D, D)

print("angles θ_i:", [round(t, 3) for t in theta.tolist()])
check("eq. 3.16, U is orthogonal", U.T @ U, torch.eye(D))
for power in (1, 2, 50):
    in_pairs = U @ block_diagonal(power, theta) @ U.T
    check(f"eq. 3.16, m = {power}", matrix_power(T1, power), in_pairs)

# %% [markdown]
# The basis costs nothing. Queries and keys come from trained projections, $q = W_q x$ and $k = W_k y$ of two tokens $x$
# and $y$, and $U^{\top}$ can be part of them:
#
# $$ \langle T_m W_q x,\, T_n W_k y \rangle = \langle R_m (U^{\top} W_q) x,\, R_n (U^{\top} W_k) y \rangle . $$ (eq-3-17)
#
# So a model that turns fixed pairs loses nothing: training finds $U^{\top} W_q$ where it would have found $W_q$.

# %%
C = 16
w_q, w_k = torch.randn(2, D, C) / C**0.5
x, y = torch.randn(2, 1000, C)
T5, T2 = matrix_power(T1, 5), matrix_power(T1, 2)
R5, R2 = block_diagonal(5, theta), block_diagonal(2, theta)
general = (x @ (T5 @ w_q).T) * (y @ (T2 @ w_k).T)
in_pairs = (x @ (R5 @ U.T @ w_q).T) * (y @ (R2 @ U.T @ w_k).T)
check("eq. 3.17", general.sum(-1), in_pairs.sum(-1))

# %% [markdown]
# RoPE is this solution in the simplest basis: coordinates 0 and 1 turn together, 2 and 3, and so on. (Chapter 5 takes up
# which pairs.) Write $x_i$ for pair $i$ as a complex number. A score is a sum over pairs, each of them {eq}`eq-3-14`:
#
# $$
# \langle R_m q,\, R_n k \rangle
# = \operatorname{Re} \sum_{i=0}^{D/2-1} q_i\, \bar k_i\, \mathrm{e}^{\mathrm{i}(m-n)\theta_i} .
# $$ (eq-3-18)
#
# Three things follow that you will use all the time. Lengths stay, turns add up, and to turn back is to transpose:
#
# $$
# \lVert R_m x \rVert = \lVert x \rVert, \qquad
# R_m R_n = R_{m+n}, \qquad
# R_m^{\top} = R_{-m} .
# $$ (eq-3-19)

# %%
from rope_lab import angles, frequencies

D = 64
theta = frequencies(D)
q, k = torch.randn(2, 1000, D)
at_m, at_n = torch.randint(0, 10_000, (2, 1000))


def turned_to(x: Tensor, positions: Tensor) -> Tensor:
    return rotate(x, angles(positions, theta, dtype=torch.float64))


def pairs(x: Tensor) -> Tensor:  # (..., D) -> (..., D/2), complex
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


scores = (turned_to(q, at_m) * turned_to(k, at_n)).sum(-1)
terms = pairs(q) * pairs(k).conj() * unit((at_m - at_n)[:, None] * theta)
check("eq. 3.18", scores, terms.sum(-1).real, tolerance=rounding)

twice, once = turned_to(turned_to(q, at_m), at_n), turned_to(q, at_m + at_n)
check("eq. 3.19, length", turned_to(q, at_m).norm(dim=-1), q.norm(dim=-1))
check("eq. 3.19, sum", twice, once, tolerance=rounding)
check("eq. 3.19, inverse", block_diagonal(7, theta).T, block_diagonal(-7, theta))

# %% [markdown]
# ## The speeds
#
# The derivation leaves the speeds $\theta_i$ open; any set would be relative. One speed for all pairs would be a poor
# choice. A fast hand tells neighbours apart but is back after a few tokens; a slow one can count thousands but hardly
# moves between neighbours. So RoPE takes all speeds, from 1 radian a token down, each slower than the last by the same
# factor, as in the sinusoidal encoding {cite:p}`vaswani2017`. With a base $b = 10{,}000$:
#
# $$ \theta_i = b^{-2i/D}, \qquad i = 0, \dots, D/2 - 1 . $$ (eq-3-20)

# %%
one_by_one = torch.tensor([10_000 ** (-2 * i / D) for i in range(D // 2)])
check("eq. 3.20", frequencies(D), one_by_one)
for i in (0, 1, 8, 16, 24, 31):
    back = 2 * torch.pi / theta[i]
    speed = f"{theta[i]:.6f} radians a token"
    print(f"pair {i:2d}: {speed}, back after {back:8,.0f} tokens")

# %% tags=["hide-input"] mystnb={"image": {"alt": "A grid of clocks, four pairs by five positions 0, 1, 10, 100 and 1000. From one row to the next the hand is ten times slower: the first row has turned far already at position 1, the last row first shows a clear turn at position 1000."}, "figure": {"caption": "A head of eight coordinates has four hands, each ten times slower than the one above it. Together they work like the hands of a clock: seconds tell neighbours apart, hours tell chapters apart.", "name": "fig-clocks"}}
from rope_lab.figures.deriving import clocks

clocks(frequencies(8).tolist(), [0, 1, 10, 100, 1000])

# %% [markdown]
# Whether a geometric row is the best is not settled by any derivation. What the slow hands are for is the matter of
# chapter 6, and what to do when texts outgrow them, of chapter 11.
#
# ## In code
#
# Equation {eq}`eq-3-12` on every pair is four lines, with `pairs` from above:


# %%
def naive_rope(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """x (..., N, D), positions (N,) -> x turned to its positions."""
    D = x.shape[-1]
    theta = base ** (-torch.arange(0, D, 2) / D)  # (D/2,)
    turn = torch.exp(1j * positions[:, None] * theta)  # (N, D/2)
    return torch.view_as_real(pairs(x) * turn).flatten(-2)


# %% [markdown]
# The package has it as three functions, a symbol each: $\theta_i$, then $m\theta_i$, then the turn. Each variant of RoPE
# in this book replaces exactly one of them. This is what runs, with the two helpers that do the work, without docstrings and refusals of bad
# input. (`turn`, not shown, picks a form of the turn; for interleaved pairs outside a compiler it is the last one below.)

# %%
from rope_lab.encodings import rotary, turning
from rope_lab.figures.source import source

source(
    rotary.frequencies,
    rotary.angles,
    rotary.reduce_turns,
    rotary.rotate,
    turning.turn_interleaved,
)

# %% [markdown]
# What looks like more than four lines is care: `angles` takes whole turns out in float64 before it rounds (chapter 8),
# `rotate` knows two layouts (chapter 5), turns part of a head (chapter 7), and has a real form for compilers (chapter 20).
# All of it agrees with the naive version and with the matrix of {eq}`eq-3-16`:

# %%
positions = torch.arange(128)
x = torch.randn(50, 128, D)
table = angles(positions, frequencies(D), dtype=torch.float64)
check("package and naive version", rotate(x, table), naive_rope(x, positions))
R = torch.stack([block_diagonal(m, frequencies(D)) for m in range(128)])  # (N, D, D)
check("package and dense matrix", rotate(x, table), torch.einsum("nij,bnj->bni", R, x))

# %% [markdown]
# The dense matrix spends $D^2$ multiplications on a vector where $2D$ are enough, which is why nobody uses it.
#
# ## What goes wrong: turning the wrong thing
#
# Would it be the same to turn the token embeddings, before the projections, and save one of the two rotations? Someone
# asked just that of the Byte Latent Transformer ([blt#71](https://github.com/facebookresearch/blt/issues/71)), and there
# is code that does it (chapter 17). Write down the score of embeddings $x$ and $y$ turned before $W_q$ and $W_k$:
#
# $$ \langle W_q R_m x,\, W_k R_n y \rangle = x^{\top} R_m^{\top}\, W_q^{\top} W_k\, R_n\, y . $$ (eq-3-21)
#
# The two rotations no longer meet. Between them stands $W_q^{\top} W_k$, and unless it happens to commute with every
# $R_m$, the positions do not combine to $m - n$. Measure how much the scores of a text change when the whole text moves
# on by a few tokens:

# %%
N, C = 32, 64
w_q, w_k = torch.randn(2, D, C) / C**0.5
x = torch.randn(1000, N, C)


def scores_right(start: int) -> Tensor:
    at = torch.arange(N) + start
    return turned_to(x @ w_q.T, at) @ turned_to(x @ w_k.T, at).mT


def scores_wrong(start: int) -> Tensor:
    turned_x = turned_to(x, torch.arange(N) + start)
    return (turned_x @ w_q.T) @ (turned_x @ w_k.T).mT


m, n = 7, 3
stuck_between = R[m].T @ w_q.T @ w_k @ R[n]
by_formula = torch.einsum("bi,ij,bj->b", x[:, m], stuck_between, x[:, n])
check("eq. 3.21", scores_wrong(0)[:, m, n], by_formula)
check("eq. 3.1", scores_right(5), scores_right(0))

for name, scores in (("queries, keys", scores_right), ("embeddings", scores_wrong)):
    for shift in (1, 5, 100):
        change = (scores(shift) - scores(0)).norm() / scores(0).norm()
        print(f"{name} turned, moved on by {shift}: scores change by {change:.1e}")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two square maps of scores of one repeated token. Left, queries and keys turned: even stripes along the diagonals. Right, embeddings turned: a pattern that differs from place to place."}, "figure": {"caption": "Scores of one token with itself at 32 positions. Turn queries and keys, and each diagonal has one value: the score knows the distance only. Turn the embeddings, and the stripes are gone; nothing fails, and the encoding is absolute.", "name": "fig-wrong-thing"}}
from rope_lab.figures.why import score_maps

x = torch.randn(1, 1, C).expand(1, N, C)
maps = {"queries, keys turned": scores_right(0), "embeddings turned": scores_wrong(0)}
score_maps({name: scores[0] for name, scores in maps.items()})

# %% [markdown]
# Nothing fails. The model trains, and its positions are absolute. There are more losses: the values $W_v R_m x$ are
# turned as well, and pairs are formed across the heads.
#
# ### The other way round
#
# A reader of nanochat noticed that its code turns clockwise, against the matrix {eq}`eq-3-13`, and proposed a correction
# ([nanochat#489](https://github.com/karpathy/nanochat/pull/489)). The maintainer kept the code: both directions are
# equally good, since a trained projection absorbs the difference, but trained weights belong to one of them. Both halves
# of the answer can be checked. Conjugating every pair, $x \mapsto \bar x$, flips the sign of its second coordinate, and
#
# $$ \langle R_{-m}\, q,\, R_{-n}\, k \rangle = \langle R_m\, \bar q,\, R_n\, \bar k \rangle . $$ (eq-3-22)
#
# Flip the sign of every second row of $W_q$ and $W_k$, and a clockwise model is a counter-clockwise one.

# %%
flip = torch.tensor([1.0, -1.0]).repeat(D // 2)  # x * flip conjugates every pair
q, k = torch.randn(2, 1000, N, D)
at = torch.arange(N)
clockwise = turned_to(q, -at) @ turned_to(k, -at).mT
flipped = turned_to(q * flip, at) @ turned_to(k * flip, at).mT
check("eq. 3.22", clockwise, flipped)

counter = turned_to(q, at) @ turned_to(k, at).mT
change = (clockwise - counter).norm() / counter.norm()
print(f"weights of one direction, code of the other: {change:.0%} of the scores' size")

here = turned_to(q, at) @ turned_to(k, -at).mT
there = turned_to(q, at + 5) @ turned_to(k, -at - 5).mT
change = (there - here).norm() / here.norm()
print(f"queries one way, keys the other, moved on by 5: {change:.0%}")

# %% [markdown]
# The last line is the mistake that matters: turn queries one way and keys the other, and the score depends on $m + n$.
#
# ## Summary
#
# - If scores of stamped vectors are to depend on distances alone, a linear stamp is one orthogonal matrix applied $m$
#   times; without mirrors, that is a turn of pairs of coordinates at constant speeds.
# - As complex numbers: $f(x, m)_i = x_i\, \mathrm{e}^{\mathrm{i} m \theta_i}$, and a score is
#   $\operatorname{Re} \sum_i q_i\, \bar k_i\, \mathrm{e}^{\mathrm{i}(m-n)\theta_i}$.
# - The speeds $\theta_i = b^{-2i/D}$ are a choice. The direction is one too, but queries, keys and weights must share it.
#
# ## Exercises
#
# **3.1** Write `turn(x, m, theta)`: equation {eq}`eq-3-13` for vectors `x` of shape `(N, 2)`, all at position `m`. Use
# complex numbers or the matrix.

# %%
from rope_lab.exercises.ch03 import check_turn


def turn(x: Tensor, m: float, theta: float) -> Tensor:
    return None  # your turn: shape (N, 2)


check_turn(turn)

# %% tags=["hide-cell"]
# Solution of 3.1
import cmath


def turn(x: Tensor, m: float, theta: float) -> Tensor:
    return torch.view_as_real(torch.view_as_complex(x) * cmath.exp(1j * m * theta))


check_turn(turn)

# %% [markdown]
# **3.2** Write `rotation_matrix(m, dim, base)`: the matrix $R_m$ of {eq}`eq-3-16`, with the speeds
# {eq}`eq-3-20`.

# %%
from rope_lab.exercises.ch03 import check_rotation_matrix


def rotation_matrix(m: float, dim: int, base: float) -> Tensor:
    return None  # your turn: shape (dim, dim)


check_rotation_matrix(rotation_matrix)

# %% tags=["hide-cell"]
# Solution of 3.2


def rotation_matrix(m: float, dim: int, base: float) -> Tensor:
    R = torch.zeros(dim, dim)
    for i in range(dim // 2):
        angle = torch.tensor(m * base ** (-2 * i / dim))
        R[2 * i, 2 * i] = R[2 * i + 1, 2 * i + 1] = angle.cos()
        R[2 * i + 1, 2 * i] = angle.sin()
        R[2 * i, 2 * i + 1] = -angle.sin()
    return R


check_rotation_matrix(rotation_matrix)

# %% [markdown]
# **3.3** Write `score(q, k, distance, base)`: the score of unrotated `q` and `k` of shape `(D,)` at distance $m - n$, by
# {eq}`eq-3-18`, without turning anything.

# %%
from rope_lab.exercises.ch03 import check_score


def score(q: Tensor, k: Tensor, distance: float, base: float) -> Tensor:
    return None  # your turn: a tensor without axes


check_score(score)

# %% tags=["hide-cell"]
# Solution of 3.3


def score(q: Tensor, k: Tensor, distance: float, base: float) -> Tensor:
    theta = base ** (-torch.arange(0, len(q), 2) / len(q))
    terms = pairs(q) * pairs(k).conj() * torch.exp(1j * distance * theta)
    return terms.sum().real


check_score(score)

# %% [markdown]
# ## References
#
# - {cite:t}`su2021`, sections 3.2 and 3.4.1: the derivation with radial and angular functions that this chapter follows up
#   to {eq}`eq-3-12`.
# - {cite:t}`biderman2021`: the same idea told for a wider audience, with first measurements in large models.
# - {cite:t}`vaswani2017`, section 3.5: the geometric row of speeds.
#
# Full entries are on the page {doc}`/book/references`.
