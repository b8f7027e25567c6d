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
# depend on the *distance* between the two, and on no other property of their positions. But how can a score know a
# difference when each side was stamped alone? **Is there such a stamp?**
#
# Here are a query and a key with two coordinates each, drawn as the hands of a clock. The dashed lines are the hands at
# position 0; each position turns a hand by the same angle. The score is the inner product: large for hands that point the
# same way, negative for hands more than a quarter turn apart. Move the sliders. What changes the score, and what leaves it
# alone?

# %% tags=["hide-input"]
from rope_lab.figures.turning import turning

turning()

# %% [markdown]
# Move both hands on by the same amount, and the angle between them stays the same; so does the score. That is all of rotary
# position embedding (RoPE): **absolute in form, relative in effect**. Each vector is stamped with where it is, and the
# score knows how far apart the two are.
#
# Su Jianlin published the idea and its derivation in 2021 in posts in Chinese {cite:p}`su2021blog8130,su2021blog8265`, then
# with coauthors as RoFormer {cite:p}`su2021`. EleutherAI spread it in the same year, in a post {cite:p}`biderman2021` and in
# GPT-J; PaLM and Llama took it up, and most open language models have used it since.
#
# The rest of this chapter shows that the stamp *must* be a turn (or else a mirror, which is of little use), that it must
# turn at constant speed, and what it looks like on many coordinates instead of two.
#
# ## One score by hand
#
# Let each position turn by a quarter. A quarter turn exchanges the two coordinates and flips the sign of the new first
# one, so a pencil is enough. Take $q = (1, 2)$ and $k = (3, 4)$:
#
# | position | 0 | 1 | 2 | 3 |
# |---|---|---|---|---|
# | $q$ stamped | $(1, 2)$ | $(-2, 1)$ | $(-1, -2)$ | $(2, -1)$ |
# | $k$ stamped | $(3, 4)$ | $(-4, 3)$ | $(-3, -4)$ | $(4, -3)$ |
#
# With $q$ at 3 and $k$ at 1 the score is $2 \cdot (-4) + (-1) \cdot 3 = -11$. Move both back by one, to 2 and 0:
# $(-1) \cdot 3 + (-2) \cdot 4 = -11$ again. At distance 1 it is $-2$, whether you take 1 and 0, 2 and 1, or 3 and 2.
# The package agrees:

# %%
import torch
from torch import Tensor

from rope_lab import rotate
from rope_lab.verify import check, check_exact

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
torch.manual_seed(3)

quarters = torch.arange(4.0)[:, None] * torch.pi / 2  # of positions 0 to 3, (N, 1)
pencil_q = rotate(torch.tensor([1.0, 2.0]).expand(4, 2), quarters)
pencil_k = rotate(torch.tensor([3.0, 4.0]).expand(4, 2), quarters)
check("by hand, q stamped", pencil_q, [[1, 2], [-2, 1], [-1, -2], [2.0, -1]])
by_pencil = [[11, 2, -11, -2], [-2, 11, 2, -11], [-11, -2, 11, 2], [2.0, -11, -2, 11]]
check("by hand, scores of q at m and k at n", pencil_q @ pencil_k.T, by_pencil)

# %% [markdown]
# ## What is asked
#
# Let $x$ be a query or a key of one head, a vector of $D$ real coordinates, and let $f(x, m)$ be the same vector stamped
# with the position $m = 0, 1, 2, \dots$ For a query $q$ at $m$ and a key $k$ at $n$, ask for a function $g$ with
#
# $$ \langle f(q, m),\, f(k, n) \rangle = g(q, k, m - n), $$ (eq-3-1)
#
# where $\langle x, y \rangle$ is the inner product. Let position 0 leave everything as it is, $f(x, 0) = x$. The form of
# {eq}`eq-3-1` already contains a second wish: $f(k, n)$ knows nothing of the query, so a key can be stamped once and kept.
# Two more are worth having: a stamped vector should be as large as the vector was, however large $m$ is, and the stamp
# should not depend on how long the text will be.
#
# Try what comes to mind first: add the position to every coordinate, add it as a fraction of the length, add the sines of
# chapter 2.

# %%
from rope_lab import angles, frequencies, sinusoidal
from rope_lab.figures.table import table

D = 64
freqs = frequencies(D)  # θ_i, (D/2,)


def turned_to(x: Tensor, positions: Tensor) -> Tensor:
    return rotate(x, angles(positions, freqs, dtype=torch.float64))


candidates = {
    "add m": lambda x, m, length: x + m[:, None],
    "add m / length": lambda x, m, length: x + m[:, None] / length,
    "add sines": lambda x, m, length: x + sinusoidal(m, D, dtype=torch.float64),
    "turn": lambda x, m, length: turned_to(x, m),
}
q, k = torch.randn(2, 1000, D)
m, n = torch.randint(0, 100, (2, 1000))
rows = []
for name, stamp in candidates.items():
    unmoved = (stamp(q, m, 128) * stamp(k, n, 128)).sum(-1)
    moved = (stamp(q, m + 5, 128) * stamp(k, n + 5, 128)).sum(-1)
    far = stamp(q, torch.full((1000,), 10_000), 20_000)
    longer = stamp(q, m, 256) - stamp(q, m, 128)
    change = (moved - unmoved).norm() / unmoved.norm()
    rows.append((name, change, far.norm() / q.norm(), longer.norm() / q.norm()))
columns = {
    "stamp": "",
    "scores change, both shifted by 5": ".1%",
    "size at position 10,000": ",.2f",
    "stamp changes in a text twice as long": ".0%",
}
table(
    rows,
    columns,
    caption="Four candidates, 1,000 random queries and keys; size 1: as without a stamp.",
)

# %% [markdown]
# Only the turn passes. That it passes is shown below, and so is why no position that is added can.
#
# ## Ask an optimiser first
#
# Before you derive anything, hand {eq}`eq-3-1` to gradient descent and see what it comes up with. Take $D = 2$ and let
# each stamp be any matrix, $f(x, m) = T_m x$, with $T_0 = I$ and the entries of $T_1, \dots, T_7$ drawn at random. Then
# {eq}`eq-3-1` says that the pair at $(m, n)$ must score like the pair at $(m - n, 0)$. Because
# $q^{\top} T_m^{\top} T_n\, k$ has to equal $q^{\top} T_{m-n}^{\top} k$ for *all* $q$ and $k$, the matrices themselves must
# be equal:
#
# $$ T_m^{\top} T_n = T_{m-n}^{\top} \qquad \text{for } m \ge n . $$ (eq-3-2)
#
# Minimise the squared difference of the two sides, from 32 random starts at once. Nothing in the code knows of rotations.
# The pairs of distance 5 and more are left out of the search: they are the test.

# %%
starts, count = 32, 8
identity = torch.eye(2).expand(starts, 1, 2, 2)
# T_1 … T_7 of each start
free = torch.randn(starts, count - 1, 2, 2, requires_grad=True)
late, early = torch.tril_indices(count, count)  # all pairs of positions, late ≥ early
held_out = (late - early >= 5) & (early > 0)


def difference(T: Tensor, pairs: Tensor) -> Tensor:
    """Left minus right side of equation 3.2 for some of the pairs, (starts, pairs, 2, 2)."""
    i, j = late[pairs], early[pairs]
    return T[:, i].mT @ T[:, j] - T[:, i - j].mT


def miss(T: Tensor) -> Tensor:
    """How far each start is from equation 3.2 on the pairs of the search, (starts,)."""
    return difference(T, ~held_out).square().sum((-2, -1)).mean(-1)


optimiser = torch.optim.Adam([free], lr=0.05)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 1500)
before = torch.cat((identity, free), dim=1).detach()
for _ in range(1500):
    optimiser.zero_grad()
    miss(torch.cat((identity, free), dim=1)).sum().backward()
    optimiser.step()
    schedule.step()
after = torch.cat((identity, free), dim=1).detach()

solved = miss(after) < 1e-20
direct = torch.linalg.det(after[:, 1]) > 0  # a mirror would have determinant −1
found = after[solved]
print(f"{solved.sum()} of {starts} starts meet the requirement:")
print(f"  {(solved & direct).sum()} rotations and {(solved & ~direct).sum()} mirrors")
shrunk = torch.linalg.svdvals(after[~solved][:, 1:])[..., -1]
print(
    f"the others are stuck, the best of them with a loss of {miss(after)[~solved].min():.2f}:"
)
print(
    f"  each of their matrices shrinks some vectors, to {shrunk.max():.2f} of their length or less"
)

near = {"tolerance": 1e-8, "reason": "search"}  # it ends near a solution, not on it
unseen = difference(found, held_out)
check("eq. 3.2, as found, pairs held out", unseen, torch.zeros_like(unseen), **near)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels. Before: the vector (1, 0) under the matrices of positions 0 to 7 points in random directions with random lengths. After: the eight vectors lie on a circle at equal steps. Third panel: the angle turned against the position, a straight line through zero for every successful search, each with a slope of its own."}, "figure": {"caption": "The vector (1, 0) stamped with positions 0 to 7, before and after one search. Asked only for scores that depend on the distance, the optimiser finds a circle and walks it at constant speed (right: every search that ended in a rotation; only the speed differs).", "name": "fig-found"}}
import numpy as np

from rope_lab.figures import deriving

arrows = after[solved & direct][..., 0]  # T_m (1, 0), shape (searches, positions, 2)
unrolled = np.unwrap(torch.atan2(arrows[..., 1], arrows[..., 0]).numpy(), axis=-1)
# one that is easy to follow
shown = int(np.argmin(np.abs(np.abs(unrolled[:, 1]) - 0.7)))
deriving.found(before[solved & direct][shown, :, :, 0], arrows[shown], unrolled)

# %% [markdown]
# One solution you knew before: no stamp at all. $f(x, m) = x$ satisfies {eq}`eq-3-1`, with a $g$ that ignores the distance.
# The equation allows every speed, and the speed zero too; one of the lines in the figure almost lies on the axis.
#
# Why a circle? Why constant speed? And what are the mirrors? The derivation answers all three, and its steps can be
# checked on the matrices that were just found.
#
# ## Two coordinates are one complex number
#
# Stay with $D = 2$ and read the two coordinates of $x$ as one complex number, again called $x$: the first coordinate is its
# real part $\operatorname{Re} x$, the second its imaginary part $\operatorname{Im} x$. With $\bar k$ for the complex
# conjugate, the inner product of two such vectors is a real part:
#
# $$
# \langle q, k \rangle = \operatorname{Re} q \operatorname{Re} k + \operatorname{Im} q \operatorname{Im} k
# = \operatorname{Re}(q\,\bar k) .
# $$ (eq-3-3)

# %%
import sympy as sp

a, b, c, d = sp.symbols("a b c d", real=True)  # q = a + ib, k = c + id
product = (a + sp.I * b) * sp.conjugate(c + sp.I * d)
check_exact("eq. 3.3", sp.re(sp.expand(product)) - (a * c + b * d))

q2, k2 = torch.randn(2, 1000, 2)
qc, kc = torch.view_as_complex(q2), torch.view_as_complex(k2)  # the same memory
check("eq. 3.3, on tensors", (q2 * k2).sum(-1), (qc * kc.conj()).real, draws=1000)

# %% [markdown]
# Complex numbers are worth the trouble because of their polar form. A number of length $\lvert x \rvert$ and angle
# $\arg x$ is $\lvert x \rvert\, \mathrm{e}^{\mathrm{i} \arg x}$, and in a product lengths multiply and angles add. The
# conjugate flips the sign of an angle, so in $q\,\bar k$ they are subtracted:
#
# $$ q\,\bar k = \lvert q \rvert\, \lvert k \rvert\, \mathrm{e}^{\mathrm{i}(\arg q - \arg k)} . $$ (eq-3-4)

# %%
polar = torch.polar(qc.abs() * kc.abs(), qc.angle() - kc.angle())
check("eq. 3.4", qc * kc.conj(), polar, draws=1000)

# %% [markdown]
# There is the difference you are after, for now a difference of angles. It suggests asking for slightly more than
# {eq}`eq-3-1`: that the whole complex number, not only its real part, depends on the distance alone,
#
# $$ f(q, m)\, \overline{f(k, n)} = g(q, k, m - n) . $$ (eq-3-5)
#
# Now $g$ is complex and its real part is the score. Whether this asks too much is a fair question; it is answered below.
# The rotations that were found obey it, so they are what the derivation has to explain:

# %%
rotations = after[solved & direct]  # (searches, positions, 2, 2)


def stamped(x: Tensor) -> Tensor:
    """Vectors under each rotation found, (draws, searches, positions)."""
    return torch.view_as_complex((rotations @ x[:, None, None, :, None])[..., 0])


f_q, f_k = stamped(q2), stamped(k2)
g = f_q[..., late - early] * f_k[..., :1].conj()  # the pair at (m − n, 0)
check(
    "eq. 3.5, as found", f_q[..., late] * f_k[..., early].conj(), g, draws=1000, **near
)

# %% [markdown]
# ## The length cannot change
#
# Read the stamped vectors in polar form too. By {eq}`eq-3-4`, equation {eq}`eq-3-5` falls into two, one for lengths and
# one for angles, which may so far depend on vector and position in any way:
#
# $$
# \begin{aligned}
# \lvert f(q, m) \rvert\, \lvert f(k, n) \rvert &= \lvert g(q, k, m - n) \rvert, \\
# \arg f(q, m) - \arg f(k, n) &= \arg g(q, k, m - n) .
# \end{aligned}
# $$ (eq-3-6)
#
# Angles are meant up to whole turns of $2\pi$, here and in all that follows.
#
# Take the first line with $k = q$ and $n = m$. The distance is 0, so both sides are what they are at position 0, where
# $f$ does nothing: $\lvert f(q, m) \rvert^2 = \lvert f(q, 0) \rvert^2 = \lvert q \rvert^2$. A stamp keeps lengths,
#
# $$ \lvert f(x, m) \rvert = \lvert x \rvert . $$ (eq-3-7)
#
# That is the circle. The optimiser was never told:


# %%
def unit(angle: Tensor) -> Tensor:
    """The angle as a number on the circle, where whole turns do not count."""
    return torch.exp(1j * angle)


lengths = f_q.abs()[..., late] * f_k.abs()[..., early]
between = f_q.angle()[..., late] - f_k.angle()[..., early]
check("eq. 3.6, lengths", lengths, g.abs(), draws=1000, **near)
check("eq. 3.6, angles", unit(between), unit(g.angle()), draws=1000, **near)

at_zero = qc.abs()[:, None, None].expand(f_q.shape)
check("eq. 3.7, as found", f_q.abs(), at_zero, draws=1000, **near)

# %% [markdown]
# ## The angle must grow in equal steps
#
# Take the second line of {eq}`eq-3-6` with $n = m$, for vectors other than 0. The right side is again what it is at
# position 0, so
#
# $$ \arg f(q, m) - \arg f(k, m) = \arg q - \arg k . $$ (eq-3-8)
#
# Sort by vector: $\arg f(q, m) - \arg q = \arg f(k, m) - \arg k$. The left side knows nothing of $k$ and the right side
# nothing of $q$, and yet they are equal. So this quantity, the angle by which the stamp has turned the vector, is the
# same for all vectors. Call it $\tau(m)$:
#
# $$ \arg f(x, m) = \arg x + \tau(m), \qquad \tau(0) = 0 . $$ (eq-3-9)
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
check(
    "eq. 3.8, as found",
    unit(f_q.angle() - f_k.angle()),
    unit(apart),
    draws=1000,
    **near,
)

# τ from the first vector alone, (searches, positions)
tau = f_q[0].angle() - qc[0].angle()
for_all = unit(qc.angle()[:, None, None] + tau)
check("eq. 3.9, as found", for_all, unit(f_q.angle()), draws=1000, **near)

steps, first = unit(tau[:, 1:] - tau[:, :-1]), unit(tau[:, 1:2])
check("eq. 3.10, as found", steps, first.expand(steps.shape), **near)
line = torch.arange(count) * tau[:, 1:2]
check("eq. 3.11, as found", unit(tau), unit(line), **near)

# %% [markdown]
# :::{admonition} Whole positions and positions in between
# :class: note dropdown
#
# Positions are whole numbers here, and every step of one is allowed. No continuity was needed: induction from $m - 1$ to
# $m$ was enough.
#
# *Whole numbers cannot tell $\theta$ from $\theta + 2\pi$.* Both give the same stamp at every whole $m$. So frequencies
# from $-\pi$ to $\pi$ are all there are; RoPE's fastest, 1 radian per token, is a third of that.
#
# *Positions in between* (timestamps, or positions squeezed together as in chapter 11) need one more assumption. The same
# argument gives $\tau(m + n) = \tau(m) + \tau(n)$ for all real $m$ and $n$. If $\tau$ is continuous, $\tau(m) = m\theta$ is
# the only solution. Without continuity there are others, but nobody can write one down: that they exist at all follows
# from the axiom of choice.
# :::
#
# ## The stamp
#
# Length kept, angle advanced by $m\theta$: the stamp is a multiplication by one complex number.
#
# $$ f(x, m) = x\, \mathrm{e}^{\mathrm{i} m \theta} $$ (eq-3-12)
#
# Without complex numbers it is the rotation matrix you may know. Multiply out
# $(\operatorname{Re} x + \mathrm{i} \operatorname{Im} x)(\cos m\theta + \mathrm{i} \sin m\theta)$ and sort real from
# imaginary:
#
# $$
# f(x, m) = \begin{pmatrix} \cos m\theta & -\sin m\theta \\ \sin m\theta & \cos m\theta \end{pmatrix}
# \begin{pmatrix} \operatorname{Re} x \\ \operatorname{Im} x \end{pmatrix} .
# $$ (eq-3-13)

# %%
phi = sp.Symbol("phi", real=True)
matrix = sp.Matrix([[sp.cos(phi), -sp.sin(phi)], [sp.sin(phi), sp.cos(phi)]])
number = sp.expand((a + sp.I * b) * (sp.cos(phi) + sp.I * sp.sin(phi)))
check_exact(
    "eq. 3.13", matrix * sp.Matrix([a, b]) - sp.Matrix([sp.re(number), sp.im(number)])
)

some = torch.rand(1000, 1) * 100  # an angle mθ for each vector
by_package = torch.view_as_complex(rotate(q2, some))
check("eq. 3.12, in the package", by_package, qc * unit(some[:, 0]), draws=1000)

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
symbol_m, symbol_n, symbol_theta = sp.symbols("m n theta", real=True)
rotated_q = matrix.subs(phi, symbol_m * symbol_theta) * sp.Matrix([a, b])
rotated_k = matrix.subs(phi, symbol_n * symbol_theta) * sp.Matrix([c, d])
multiplied = sp.expand(rotated_q.dot(rotated_k))
print(f"multiplied out: {len(multiplied.args)} terms, such as {multiplied.args[0]}")

phase = symbol_theta * (symbol_m - symbol_n)
formula = sp.re(sp.expand(product * (sp.cos(phase) + sp.I * sp.sin(phase))))
check_exact("eq. 3.14", multiplied - formula)

# %% [markdown]
# The eight terms collapse to two:

# %%
sp.collect(sp.simplify(multiplied), [sp.cos(phase), sp.sin(phase)])

# %% [markdown]
# And on numbers: a thousand queries and keys, each pair with its own two positions and its own $\theta$.

# %%
far_m, far_n = torch.randint(0, 10_000, (2, 1000, 1))
theta = torch.rand(1000, 1)
turned_score = (rotate(q2, far_m * theta) * rotate(k2, far_n * theta)).sum(-1)
by_distance = (qc * kc.conj() * unit(((far_m - far_n) * theta)[:, 0])).real
rounding = 1e-11  # of angles up to 10,000 radians
check("eq. 3.14, on tensors", turned_score, by_distance, tolerance=rounding, draws=1000)

# %% [markdown]
# ## Did we ask too much?
#
# Equation {eq}`eq-3-5` wants a complex number to depend on the distance, where {eq}`eq-3-1` wants only its real part. You
# can do without the extra wish, and for any $D$. You need not even assume that a stamp is a matrix.
#
# Put both tokens at the same position. The distance is 0, so the score is what it is at position 0:
#
# $$ \langle f(q, m),\, f(k, m) \rangle = \langle q, k \rangle . $$ (eq-3-15)
#
# A stamp keeps all inner products. **A map that keeps inner products is linear**, and the proof is one line of
# multiplying out. Write $f(x)$ for $f(x, m)$, let $z = ax + cy$ with any numbers $a$ and $c$, and let
# $\Delta(x, y) = \langle f(x), f(y) \rangle - \langle x, y \rangle$ be what $f$ changes in an inner product. For every map
# $f$,
#
# $$
# \begin{aligned}
# \lVert f(z) - a f(x) - c f(y) \rVert^2 = {} & \Delta(z, z) + a^2 \Delta(x, x) + c^2 \Delta(y, y) \\
# & {} - 2a\, \Delta(z, x) - 2c\, \Delta(z, y) + 2ac\, \Delta(x, y) ,
# \end{aligned}
# $$ (eq-3-16)
#
# because the same sum without $f$ is $\lVert z - ax - cy \rVert^2 = 0$. If $\Delta$ is 0 everywhere, so is the left side,
# and $f(ax + cy) = a f(x) + c f(y)$. Check {eq}`eq-3-16` on a map that is anything but linear:

# %%
bend = torch.randn(2, D, D) / D**0.5


def crooked(x: Tensor) -> Tensor:
    return torch.tanh(x @ bend[0]) @ bend[1] + 1


x, y = torch.randn(2, 1000, D)
scale_x, scale_y = torch.randn(2, 1000, 1)
z = scale_x * x + scale_y * y


def delta(x: Tensor, y: Tensor) -> Tensor:
    kept = (x * y).sum(-1, keepdim=True)
    return (crooked(x) * crooked(y)).sum(-1, keepdim=True) - kept


off = crooked(z) - scale_x * crooked(x) - scale_y * crooked(y)
left = off.square().sum(-1, keepdim=True)
right = delta(z, z) + scale_x**2 * delta(x, x) + scale_y**2 * delta(y, y)
right = right - 2 * scale_x * delta(z, x) - 2 * scale_y * delta(z, y)
right = right + 2 * scale_x * scale_y * delta(x, y)
check("eq. 3.16", left, right, draws=1000)
print(f"the left side is not small: {left.mean():.0f} in the mean")

# %% [markdown]
# So every stamp is a matrix, $f(x, m) = T_m x$, and by {eq}`eq-3-15` an orthogonal one. The pair $(m, m-1)$ has the
# distance of $(1, 0)$, so $T_m^{\top} T_{m-1} = T_1^{\top}$. Multiply by $T_m$ from the left and by $T_1$ from the right:
# $T_{m-1} T_1 = T_m$. Together,
#
# $$ T_m^{\top} T_m = I, \qquad T_m = (T_1)^m : $$ (eq-3-17)
#
# every solution is one orthogonal matrix, applied $m$ times.

# %%
from torch.linalg import matrix_power

check(
    "eq. 3.17, orthogonal, as found",
    found.mT @ found,
    torch.eye(2).expand_as(found),
    **near,
)
powers = torch.stack(
    [matrix_power(found[:, 1], power) for power in range(count)], dim=1
)
check("eq. 3.17, powers, as found", found, powers, **near)

# %% [markdown]
# This answers one more question: **why not add?** A linear map takes 0 to 0. An added vector does not:
# $f(x, m) = x + p_m$ takes 0 to $p_m$. Behind a projection, $x \mapsto W(x + p_m)$, it fails as well: its score has the
# term $\langle Wq, W p_n \rangle$, the only one with $q$ and without $k$, which would have to depend on $m - n$ but
# knows no $m$. So $W p_n$ is the same for every $n$: a vector you add, learned or computed, satisfies {eq}`eq-3-1` only
# where it says nothing about position. You have to multiply.
#
# In two dimensions an orthogonal matrix is a rotation or a mirror. Those are the two kinds that the optimiser found, and
# you now know that there is no third. A mirror applied twice is the identity: it can tell even distances from odd ones
# and nothing more. That leaves the turn.
#
# :::{admonition} What the theorem takes for granted
# :class: note dropdown
#
# *Position 0 does nothing.* Without $f(x, 0) = x$, the stamp can first send every vector through any map, the same at
# every position and as crooked as you like, and then turn it: {eq}`eq-3-1` is satisfied. (In a model the projections $W_q$
# and $W_k$ are that first step, and the stamp comes after them.)
#
# *One stamp for both.* Query and key get the same $f$. With a matrix $T_m$ for queries and another, $T'_n$, for keys, only
# $T_m^{\top} T'_n$ has to depend on the distance, and the matrices need not be orthogonal: xPos (chapter 10) shrinks the
# one and stretches the other, and chapter 4 maps what else there is.
#
# *All vectors.* Equation {eq}`eq-3-1` is asked for every $q$ and $k$. The queries of a trained model fill a part of the
# space, and there an added vector can come close to being relative, as chapter 2 shows.
#
# *A score made of stamps.* A bias on the score (chapter 1) is relative and, unless it is 0, not a stamp: a stamp takes
# 0 to 0, and so a query of zeros has only scores of 0. With coordinates to spare it is another matter, as long as
# queries and keys may have different stamps: a bias that falls linearly, as that of ALiBi does, comes out if $(-m, 1)$
# is appended to the query and $(1, n)$ to the key, both times the root of its slope.
# :::
#
# ## Many dimensions: pairs
#
# A head has more than two coordinates, often 64 or 128; let $D$ be even. The normal form of orthogonal matrices (a case
# of the real Schur form) says what $T_1$ can be there. Suppose it can be reached from the identity without a jump.
# Along such a path the determinant cannot jump from 1 to −1, so an eigenvalue −1 can occur only in pairs, and mirrors
# are excluded. Then in a suitable orthonormal basis, the columns of a matrix $U$, it turns *pairs* of coordinates, each
# by an angle of its own. With $B(\varphi)$ for the $2 \times 2$ matrix that turns by $\varphi$, as in {eq}`eq-3-13`,
#
# $$
# T_m = U R_m U^{\top}, \qquad
# R_m = \begin{pmatrix}
# B(m\theta_0) & & \\
# & \ddots & \\
# & & B(m\theta_{D/2-1})
# \end{pmatrix} .
# $$ (eq-3-18)
#
# With $D = 4$, written out:
#
# $$
# R_m = \begin{pmatrix}
# \cos m\theta_0 & -\sin m\theta_0 & 0 & 0 \\
# \sin m\theta_0 & \cos m\theta_0 & 0 & 0 \\
# 0 & 0 & \cos m\theta_1 & -\sin m\theta_1 \\
# 0 & 0 & \sin m\theta_1 & \cos m\theta_1
# \end{pmatrix} .
# $$ (eq-3-19)
#
# The block-diagonal $R_m$ is the rotation to position $m$ that the rest of the book is about.
#
# Take random rotations of eight dimensions apart. The eigenvalues are $\mathrm{e}^{\pm\mathrm{i}\theta_i}$, and
# the imaginary and real part of an eigenvector span a plane that turns.


# %%
def block_diagonal(m: float, theta: Tensor) -> Tensor:
    """R_m of equation 3.18, (D, D)."""
    cos, sin = (m * theta).cos(), (m * theta).sin()
    blocks = torch.stack((cos, -sin, sin, cos), dim=-1).view(-1, 2, 2)
    return torch.block_diag(*blocks)


def take_apart(T: Tensor) -> tuple[Tensor, Tensor]:
    """Angles θ_i, (D/2,), and basis U, (D, D), of a rotation (D, D)."""
    values, vectors = torch.linalg.eig(T)
    upper = values.imag > 0  # one of each conjugate pair
    v = vectors[:, upper]
    basis = 2**0.5 * torch.stack((v.imag, v.real), dim=-1).flatten(1)
    return values[upper].angle(), basis


skew = torch.randn(100, 8, 8)
T_1 = torch.linalg.matrix_exp((skew - skew.mT) / 2)  # no jump: matrix_exp(0) = I
thetas, bases = zip(*map(take_apart, T_1), strict=True)
U = torch.stack(bases)
some_close = 1e-10  # an eigenvector is less exact where two angles are close
check(
    "eq. 3.18, U is orthogonal",
    U.mT @ U,
    torch.eye(8).expand_as(U),
    tolerance=some_close,
    draws=100,
)
for power in (1, 2, 50):
    R_m = torch.stack([block_diagonal(power, each) for each in thetas])
    check(
        f"eq. 3.18, m = {power}",
        matrix_power(T_1, power),
        U @ R_m @ U.mT,
        tolerance=some_close,
        draws=100,
    )

two = torch.tensor([0.5, 0.1])
(c0, c1), (s0, s1) = (7 * two).cos().tolist(), (7 * two).sin().tolist()
written = [[c0, -s0, 0, 0], [s0, c0, 0, 0], [0, 0, c1, -s1], [0, 0, s1, c1]]
check("eq. 3.19", block_diagonal(7, two), written)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five panels with the path of one vector at positions 0 to 24. First: two of its eight coordinates as given, a tangled line. Then its part in each of four planes: the dots lie on circles of different radius, each with steps of its own size."}, "figure": {"caption": "One vector of eight coordinates under the powers of one random rotation, starting at the large dot. Two coordinates picked as they are give a tangle (left). In the planes that the eigenvectors span, the same path is four hands, each at its own constant speed.", "name": "fig-planes"}}
slowest = int(torch.stack(thetas).amax(-1).argmin())  # easy to follow
start = torch.randn(8)
path = torch.stack([matrix_power(T_1[slowest], power) @ start for power in range(25)])
in_basis = (path @ U[slowest]).unflatten(-1, (4, 2)).movedim(1, 0)
deriving.planes(path[:, :2], in_basis, thetas[slowest].tolist())

# %% [markdown]
# The basis costs nothing. Queries and keys come from trained projections, $q = W_q x_m$ and $k = W_k x_n$ of two
# tokens $x_m$ and $x_n$, and $U^{\top}$ can be part of them:
#
# $$ \langle T_m W_q x_m,\, T_n W_k x_n \rangle = \langle R_m (U^{\top} W_q) x_m,\, R_n (U^{\top} W_k) x_n \rangle . $$ (eq-3-20)
#
# So a model that turns fixed pairs by the same angles loses nothing: wherever it would have used $W_q$, it can use
# $U^{\top} W_q$.

# %%
C = 16
w_q, w_k = torch.randn(2, 8, C) / C**0.5
token_x, token_y = torch.randn(2, 1000, C)
T_5, T_2 = matrix_power(T_1[0], 5), matrix_power(T_1[0], 2)
R_5, R_2 = block_diagonal(5, thetas[0]), block_diagonal(2, thetas[0])
general = (token_x @ (T_5 @ w_q).T) * (token_y @ (T_2 @ w_k).T)
in_pairs = (token_x @ (R_5 @ U[0].T @ w_q).T) * (token_y @ (R_2 @ U[0].T @ w_k).T)
check("eq. 3.20", general.sum(-1), in_pairs.sum(-1), draws=1000)

# %% [markdown]
# :::{admonition} Does training find the same weights in both bases?
# :class: note dropdown
#
# With gradient descent it does: the path is the same, seen from another basis. Adam treats each coordinate on its own, so
# for Adam the basis matters. After 100 updates its weights are elsewhere, at nearly the same loss.
# :::


# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show the measurement: two bases", "code_prompt_hide": "Hide the measurement"}
def learn(optimiser_class, basis: Tensor) -> tuple[Tensor, float]:
    """W_q and W_k after 100 updates, learned as `basis` times what is updated, and the loss."""
    inner = (basis.T @ torch.stack((w_q, w_k))).requires_grad_()
    update = optimiser_class([inner], lr=0.02)
    target = torch.linspace(-1, 1, 1000)
    for _ in range(100):
        left, right = T_5 @ basis @ inner[0], T_2 @ basis @ inner[1]
        update.zero_grad()
        scores = ((token_x @ left.T) * (token_y @ right.T)).sum(-1)
        loss = (scores - target).square().mean()
        loss.backward()
        update.step()
    return (basis @ inner).detach(), loss.item()


rows = []
for optimiser_class in (torch.optim.SGD, torch.optim.Adam):
    in_own, own_loss = learn(optimiser_class, torch.eye(8))
    in_other, other_loss = learn(optimiser_class, U[0])
    apart_by = (in_other - in_own).norm() / in_own.norm()
    rows.append((optimiser_class.__name__, apart_by, own_loss, other_loss))
columns = {"optimiser": "", "weights differ by": ".1%"}
columns |= {"loss, one basis": ".3f", "loss, the other": ".3f"}
table(rows, columns)

# %% [markdown]
# RoPE is this solution in the simplest basis: coordinates 0 and 1 turn together, 2 and 3, and so on. (Chapter 5 takes up
# which pairs.) Write $x_i$ for pair $i$ as a complex number. A score is a sum over pairs, each of them {eq}`eq-3-14`:
#
# $$
# \langle R_m q,\, R_n k \rangle
# = \operatorname{Re} \sum_{i=0}^{D/2-1} q_i\, \bar k_i\, \mathrm{e}^{\mathrm{i}(m-n)\theta_i} .
# $$ (eq-3-21)
#
# Three things follow that you will use all the time. Lengths are kept, turns add up, and to turn back is to transpose:
#
# $$
# \lVert R_m x \rVert = \lVert x \rVert, \qquad
# R_m R_n = R_{m+n}, \qquad
# R_m^{\top} = R_{-m} .
# $$ (eq-3-22)


# %%
def pairs(x: Tensor) -> Tensor:  # (..., D) -> (..., D/2), complex
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


at_m, at_n = far_m[:, 0], far_n[:, 0]
scores = (turned_to(q, at_m) * turned_to(k, at_n)).sum(-1)
terms = pairs(q) * pairs(k).conj() * unit((at_m - at_n)[:, None] * freqs)
check("eq. 3.21", scores, terms.sum(-1).real, tolerance=rounding, draws=1000)

twice, once = turned_to(turned_to(q, at_m), at_n), turned_to(q, at_m + at_n)
check("eq. 3.22, length", turned_to(q, at_m).norm(dim=-1), q.norm(dim=-1), draws=1000)
check("eq. 3.22, sum", twice, once, tolerance=rounding, draws=1000)
check("eq. 3.22, inverse", block_diagonal(7, freqs).T, block_diagonal(-7, freqs))

# %% [markdown]
# ## The frequencies
#
# The derivation leaves the angles per position $\theta_i$ open; any set would be relative. They are called the
# **frequencies**. With one frequency for all pairs you would have to choose: a fast hand tells neighbouring tokens
# apart but is back after a few tokens; a slow one can count thousands but hardly moves between neighbours. So RoPE
# takes a geometric progression, from 1 radian per token down, each slower than the last by the same factor, as in the
# sinusoidal encoding {cite:p}`vaswani2017`. With a base $b = 10{,}000$:
#
# $$ \theta_i = b^{-2i/D}, \qquad i = 0, \dots, D/2 - 1 . $$ (eq-3-23)

# %%
one_by_one = torch.tensor([10_000 ** (-2 * i / D) for i in range(D // 2)])
check("eq. 3.23", frequencies(D), one_by_one)
rows = [(i, freqs[i], 2 * torch.pi / freqs[i]) for i in (0, 1, 8, 16, 24, 31)]
table(rows, {"pair": "", "radians per token": ".6f", "tokens until it is back": ",.0f"})

# %% tags=["hide-input"] mystnb={"image": {"alt": "A grid of clocks, four pairs by five positions 0, 1, 10, 100 and 1000. From one row to the next the hand is ten times slower: the first row has turned far already at position 1, the last row first shows a clear turn at position 1000."}, "figure": {"caption": "A head of eight coordinates has four hands, each ten times slower than the one above it. Together they work like the hands of a clock: seconds tell neighbours apart, hours tell chapters apart.", "name": "fig-clocks"}}
deriving.clocks(frequencies(8).tolist(), [0, 1, 10, 100, 1000])

# %% [markdown]
# The derivation does not settle whether a geometric progression is the best choice. Chapter 6 is about what the slow
# pairs are for, and chapter 11 about what to do when texts outgrow them.
#
# ## In code
#
# Equation {eq}`eq-3-12` on every pair is four lines, with `pairs` from above:


# %%
def naive_rope(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """x (..., N, D), positions (N,) -> x turned to its positions."""
    D = x.shape[-1]
    theta = base ** (-torch.arange(0, D, 2) / D)  # (D/2,)
    factors = torch.exp(1j * positions[:, None] * theta)  # e^{i m θ}, (N, D/2)
    return torch.view_as_real(pairs(x) * factors).flatten(-2)


# %% [markdown]
# The package splits it into three functions, one for each symbol: $\theta_i$, $m\theta_i$ and the rotation. Most
# variants of RoPE in this book replace exactly one of them. (YaRN and LongRoPE also multiply cosine and sine by a
# factor; xPos and RoPER need a hook of their own.) Here they are without docstrings and input checks, with two helpers.
# (`turn`, not shown, picks a form of the rotation: the last one below for interleaved pairs outside a compiler.)

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
# All of it agrees with the naive version and with the matrix of {eq}`eq-3-18`:

# %%
positions = torch.arange(128)
sequences = torch.randn(50, 128, D)
by_rotate = rotate(sequences, angles(positions, freqs, dtype=torch.float64))
check(
    "package and naive version", by_rotate, naive_rope(sequences, positions), draws=50
)
# R_0 … R_127, (N, D, D)
dense = torch.stack([block_diagonal(m, freqs) for m in range(128)])
by_matrix = (dense @ sequences[..., None])[..., 0]
check("package and dense matrix", by_rotate, by_matrix, draws=50)

# %% [markdown]
# The dense matrix spends $D^2$ multiplications on a vector where $2D$ are enough.
#
# ### The form in most libraries
#
# Much code has no complex numbers in it. It uses $\mathrm{e}^{\mathrm{i}\varphi} x = \cos\varphi \cdot x + \sin\varphi \cdot
# (\mathrm{i} x)$. With $\odot$ for a product coordinate by coordinate, and $\mathrm{i}x$ for $x$ with every pair turned by a
# quarter,
#
# $$
# \begin{aligned}
# R_m x &= x \odot \cos(m\theta) + \mathrm{i}x \odot \sin(m\theta) , \\
# \mathrm{i}x &= (-\operatorname{Im} x_0, \operatorname{Re} x_0, -\operatorname{Im} x_1, \operatorname{Re} x_1, \dots) ,
# \end{aligned}
# $$ (eq-3-24)
#
# where each cosine and sine appears twice, once for each coordinate of its pair. Two families of code differ in which
# coordinates are a pair:
#
# | | Meta's Llama | Llama in Hugging Face's transformers |
# |---|---|---|
# | a pair is | two neighbours, $2i$ and $2i + 1$ | $i$ and $i + D/2$ |
# | the pair turns by | one complex multiplication, as in `naive_rope` | {eq}`eq-3-24`, where $\mathrm{i}x$ is called `rotate_half(x)` |
# | often called | GPT-J style | NeoX style |
# | in `rope_lab` | `layout="interleaved"` | `layout="half"` |
#
# Both in the form of {eq}`eq-3-24`:


# %%
def gpt_j_style(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (..., N, D), cos and sin (N, D/2); neighbours are a pair."""
    cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
    i_x = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
    return x * cos + i_x * sin


def neox_style(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The same shapes; coordinates half a head apart are a pair."""
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)
    real, imaginary = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-imaginary, real), dim=-1) * sin


turns = angles(positions, freqs, dtype=torch.float64)
cos, sin = turns.cos(), turns.sin()
check("eq. 3.24, interleaved", gpt_j_style(sequences, cos, sin), by_rotate, draws=50)
check(
    "eq. 3.24, half",
    neox_style(sequences, cos, sin),
    rotate(sequences, turns, "half"),
    draws=50,
)

# %% [markdown]
# Which of the two does not matter to a model that is trained with it, but weights of one give nonsense in the other:
# chapter 5.
#
# ## Where the turn goes
#
# A vector $p_m$ is added once, to the embeddings. The turn is done in *every* attention layer and *every* head, after
# the projections $W_q$ and $W_k$ and before the scores, because each layer and head computes scores of its own, and the
# output, a sum of unrotated values, carries no stamp to the next layer. (Llama 4 and a few others leave it out in some
# layers. What the turn costs depends on the kernel; with fused kernels EleutherAI measured 1 to 3% of the time of
# training {cite:p}`biderman2021`.) Count the calls:

# %%
from rope_lab import RoFormer, RoFormerConfig, RotaryEmbedding

calls = []


class Counted(RotaryEmbedding):
    def rotate(self, q, k, v, positions, length=None):
        calls.append(q.shape)
        return super().rotate(q, k, v, positions, length)


ids = torch.randint(50, (8, 32))
config = RoFormerConfig(50, dim=32, depth=4, heads=2, position="sinusoidal")
rows = []
for name, position in (("RoPE", Counted(16)), ("sinusoidal", None)):
    model = RoFormer(config, position)
    with torch.no_grad():
        logits, shifted = model(ids), model(ids, positions=torch.arange(32) + 77)
    rows.append((name, (shifted - logits).norm() / logits.norm()))
print(
    f"calls in one pass: {len(calls) // 2}, each with queries (B, H, N, D) of shape {tuple(calls[0])}"
)
table(rows, {"encoding": "", "all positions shifted by 77, logits change by": ".1e"})

# %% [markdown]
# **The values are not turned.** They are what a token hands over, and the weights already know where it is. Were they
# turned as well, a shift of the whole text would turn the outputs, and the next layer would see the difference.
#
# :::{admonition} Values that are turned, and turned back
# :class: note dropdown
#
# With turned values the output is $\sum_n w_{mn} R_n v_n$. When the text is shifted by $t$, it becomes $R_t$ times what it
# was. To use turned values, turn the output back by the position of the query:
#
# $$ R_m^{\top} \sum_n w_{mn}\, R_n v_n = \sum_n w_{mn}\, R_{n-m}\, v_n , $$ (eq-3-25)
#
# which again depends on distances only. That variant is called RoPER (chapter 14).
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show the measurement: values turned", "code_prompt_hide": "Hide the measurement"}
from rope_lab import MultiHeadAttention
from rope_lab.encodings import RotaryValueEmbedding


class ValuesToo(RotaryEmbedding):
    def rotate(self, q, k, v, positions, length=None):
        return *self(q, k, positions=positions), self(v, v, positions=positions)[0]


hidden, rows = torch.randn(8, 32, 32), []
for name, position in (
    ("queries and keys (RoPE)", RotaryEmbedding(16)),
    ("values too", ValuesToo(16)),
    ("values too, output turned back (RoPER)", RotaryValueEmbedding(16)),
):
    layer = MultiHeadAttention(32, heads=2, position=position)
    with torch.no_grad():
        out, out_shifted = layer(hidden), layer(hidden, positions=torch.arange(32) + 5)
    rows.append((name, (out_shifted - out).norm() / out.norm()))

w = torch.rand(50, 128, 128)  # attention weights, and sequences in place of values
turned_back = turned_to(w @ by_rotate, -positions)
summed = []
for reader in (0, 60, 127):
    # R_{n−m} for every n
    by_distances = torch.stack(
        [block_diagonal(read - reader, freqs) for read in range(128)]
    )
    summed.append(torch.einsum("bn,nij,bnj->bi", w[:, reader], by_distances, sequences))
check("eq. 3.25", turned_back[:, [0, 60, 127]], torch.stack(summed, dim=1), draws=50)
table(rows, {"turned": "", "shifted by 5, output changes by": ".1e"})

# %% [markdown]
# ## What goes wrong: turning the wrong thing
#
# Would it be the same to turn the token embeddings, before the projections, and save one of the two rotations? Someone
# asked just that of the Byte Latent Transformer ([blt#71](https://github.com/facebookresearch/blt/issues/71)), and there
# is code that does it (chapter 17). Write down the score of embeddings turned before $W_q$ and $W_k$:
#
# $$ \langle W_q R_m x_m,\, W_k R_n x_n \rangle = x_m^{\top} R_m^{\top}\, W_q^{\top} W_k\, R_n\, x_n . $$ (eq-3-26)
#
# The two rotations no longer meet. Between them is $W_q^{\top} W_k$, and unless it happens to commute with every
# $R_m$, the positions do not combine to $m - n$. Measure how much the scores of a sequence change when all of it is shifted
# by a few tokens:

# %%
v_q, v_k = torch.randn(2, D, 64) / 8  # W_q and W_k for embeddings of 64 coordinates
embeddings = torch.randn(1000, 32, 64)


def scores_right(x: Tensor, start: int) -> Tensor:
    at = torch.arange(32) + start
    return turned_to(x @ v_q.T, at) @ turned_to(x @ v_k.T, at).mT


def scores_wrong(x: Tensor, start: int) -> Tensor:
    turned = turned_to(x, torch.arange(32) + start)
    return (turned @ v_q.T) @ (turned @ v_k.T).mT


stuck_between = dense[7].T @ v_q.T @ v_k @ dense[3]
by_formula = torch.einsum(
    "bi,ij,bj->b", embeddings[:, 7], stuck_between, embeddings[:, 3]
)
check("eq. 3.26", scores_wrong(embeddings, 0)[:, 7, 3], by_formula, draws=1000)
check("eq. 3.1", scores_right(embeddings, 5), scores_right(embeddings, 0), draws=1000)

rows = []
for shift in (1, 5, 100):
    rows.append([shift])
    for compute in (scores_right, scores_wrong):
        straight = compute(embeddings, 0)
        rows[-1].append(
            (compute(embeddings, shift) - straight).norm() / straight.norm()
        )
columns = {
    "all shifted by": "",
    "queries, keys turned": ".1e",
    "embeddings turned": ".1e",
}
table(rows, columns, caption="How much the scores change.")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two square maps of scores of one repeated token. Left, queries and keys turned: even stripes along the diagonals. Right, embeddings turned: a pattern that differs from place to place."}, "figure": {"caption": "Scores of one token with itself at 32 positions, each map with a colour scale of its own. Turn queries and keys, and each diagonal has one value: the score knows the distance only. Turn the embeddings, and the stripes are gone; nothing fails, and the encoding is absolute.", "name": "fig-wrong-thing"}}
from rope_lab.figures.why import score_maps

repeated = torch.randn(1, 1, 64).expand(1, 32, 64)
score_maps(
    {
        "queries, keys turned": scores_right(repeated, 0)[0],
        "embeddings turned": scores_wrong(repeated, 0)[0],
    }
)

# %% [markdown]
# Nothing fails: the shapes fit, a model can be trained, and its positions are absolute. Two more things go wrong: the
# values $W_v R_m x_m$ are rotated as well, and the pairs are those of the whole embedding, with $C$ in place of $D$ in the
# frequencies.
#
# :::{admonition} The other way round: clockwise code
# :class: note dropdown
#
# A reader of nanochat noticed that its code turns clockwise, unlike the matrix {eq}`eq-3-13`, and proposed a correction
# ([nanochat#489](https://github.com/karpathy/nanochat/pull/489)). The maintainer kept the code: both directions are
# equally good, since a trained projection absorbs the difference, but trained weights belong to one of them. Both halves
# of the answer can be checked. Conjugating every pair, $x \mapsto \bar x$, flips the sign of its imaginary part, and
#
# $$ \langle R_{-m}\, q,\, R_{-n}\, k \rangle = \langle R_m\, \bar q,\, R_n\, \bar k \rangle . $$ (eq-3-27)
#
# Flip the sign of those rows of $W_q$ and $W_k$ that give imaginary parts, and a clockwise model is a counter-clockwise one.
# In the interleaved layout these are every second row of a head; in the half layout, which nanochat has, they are the
# second half of its rows.
#
# One mistake no weights absorb: turn queries one way and keys the other, and whatever the query and the key are, the
# score depends on $m + n$. (Both are measured below.)
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show the measurement: the two directions", "code_prompt_hide": "Hide the measurement"}
# x * conjugate conjugates every pair
conjugate = torch.tensor([1.0, -1.0]).repeat(D // 2)
many_q, many_k = torch.randn(2, 1000, 32, D)
at = torch.arange(32)
clockwise = turned_to(many_q, -at) @ turned_to(many_k, -at).mT
flipped = turned_to(many_q * conjugate, at) @ turned_to(many_k * conjugate, at).mT
check("eq. 3.27, interleaved", clockwise, flipped, draws=1000)

second_half = torch.tensor([1.0, -1.0]).repeat_interleave(D // 2)
ahead = angles(at, freqs, dtype=torch.float64)
half_clockwise = rotate(many_q, -ahead, "half") @ rotate(many_k, -ahead, "half").mT
half_flipped = (
    rotate(many_q * second_half, ahead, "half")
    @ rotate(many_k * second_half, ahead, "half").mT
)
check("eq. 3.27, half", half_clockwise, half_flipped, draws=1000)

counter = turned_to(many_q, at) @ turned_to(many_k, at).mT
mixed = (clockwise - counter).norm() / counter.norm()
print(f"weights of one direction, code of the other: scores change by {mixed:.0%}")

here = turned_to(many_q, at) @ turned_to(many_k, -at).mT
there = turned_to(many_q, at + 5) @ turned_to(many_k, -at - 5).mT
opposed = (there - here).norm() / here.norm()
print(f"queries one way, keys the other, shifted by 5: scores change by {opposed:.0%}")

# %% [markdown]
# ## Summary
#
# - If queries and keys are stamped alike, position 0 changes nothing, and scores are to depend on distances alone, the
#   stamp is one orthogonal matrix applied $m$ times, so no position can be added; without mirrors, and in a suitable basis,
#   it turns pairs of coordinates at constant speeds.
# - As complex numbers: $f(x, m)_i = x_i\, \mathrm{e}^{\mathrm{i} m \theta_i}$, and a score is
#   $\operatorname{Re} \sum_i q_i\, \bar k_i\, \mathrm{e}^{\mathrm{i}(m-n)\theta_i}$.
# - It is done to queries and keys, in every layer and head, and not to values. The frequencies $\theta_i = b^{-2i/D}$ are a
#   choice. The direction is one too, but queries, keys and weights must share it.
#
# ## Exercises
#
# ```{exercise-start}
# :label: ex-03-1
# ```
#
# A cache holds keys `x` of shape `(N, 2)`, stamped with positions that you are not told. A text is inserted before
# them, so that all of them move on by `m` positions (any real number, also a negative one). Write
# `turn(x, m, theta)`: the keys with the stamps of their new positions.

# %%
from rope_lab.exercises.ch03 import check_turn


def turn(x: Tensor, m: float, theta: float) -> Tensor:
    return None  # your turn: shape (N, 2)


check_turn(turn)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-03-1
# :label: sol-03-1
# ```
#
# By {eq}`eq-3-12`, moving a stamp from $n$ to $n + m$ multiplies by $\mathrm{e}^{\mathrm{i}(n + m)\theta} /
# \mathrm{e}^{\mathrm{i}n\theta} = \mathrm{e}^{\mathrm{i}m\theta}$, whatever $n$ is.

# %%
import cmath


def turn(x: Tensor, m: float, theta: float) -> Tensor:
    return torch.view_as_real(torch.view_as_complex(x) * cmath.exp(1j * m * theta))


check_turn(turn)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-03-2
# ```
#
# A kernel is to compute scores from vectors that are *not* stamped. Write `rotation_matrix(m, dim, base)`: the matrix
# $M$ with $\langle R_n q,\, R_{n+m} k \rangle = q^{\top} M k$ for every $n$, so for a key that is $m$ positions
# *after* the query, with the frequencies {eq}`eq-3-23` and neighbours as pairs. $m$ is any real number.

# %%
from rope_lab.exercises.ch03 import check_rotation_matrix


def rotation_matrix(m: float, dim: int, base: float) -> Tensor:
    return None  # your turn: shape (dim, dim)


check_rotation_matrix(rotation_matrix)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-03-2
# :label: sol-03-2
# ```
#
# By {eq}`eq-3-22`, $R_n^{\top} R_{n+m} = R_{-n} R_{n+m} = R_m$.


# %%
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
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-03-3
# ```
#
# A query `q` and a key `k` of shape `(D,)` are stamped already, with positions that you are not told. Write
# `score(q, k, distance, base)`: their score after the query alone has moved on by `distance` positions. Turn neither
# vector.

# %%
from rope_lab.exercises.ch03 import check_score


def score(q: Tensor, k: Tensor, distance: float, base: float) -> Tensor:
    return None  # your turn: a tensor without axes


check_score(score)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-03-3
# :label: sol-03-3
# ```
#
# In {eq}`eq-3-21`, $q_i \bar k_i\, \mathrm{e}^{\mathrm{i}(m-n)\theta_i}$ is the product of the stamped pairs. If $m$
# grows by $s$, each term gets the factor $\mathrm{e}^{\mathrm{i}s\theta_i}$.


# %%
def score(q: Tensor, k: Tensor, distance: float, base: float) -> Tensor:
    theta = base ** (-torch.arange(0, len(q), 2) / len(q))
    terms = pairs(q) * pairs(k).conj() * torch.exp(1j * distance * theta)
    return terms.sum().real


check_score(score)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-03-4
# ```
#
# "This stamp is relative." `stamp(x, m)` stamps a vector `x` of shape `(4,)` with a position $m$ from 0 to 19. Write
# `witness(stamp, q, k)`: three integers $m, n, t$ for which the score of `q` at $m$ and `k` at $n$ differs from the
# score of `q` at $m + t$ and `k` at $n + t$, all four positions from 0 to 19. Return `None` if there is no such
# witness. The checker tries nine stamps; four of them are relative.

# %%
from rope_lab.exercises.ch03 import check_witness


def witness(stamp, q: Tensor, k: Tensor) -> tuple[int, int, int] | None:
    return None  # your turn


check_witness(witness)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-03-4
# :label: sol-03-4
# ```
#
# A relative stamp has one score for each distance, so each diagonal of the table of scores is constant. The relative
# ones are the two turns, in which each pair has its own speed and direction, the mirror, and the circular shift of
# the coordinates. By {eq}`eq-3-17` each of them is a power of one orthogonal matrix; the shift turns one plane by a
# quarter, keeps one direction and flips another.


# %%
def witness(stamp, q: Tensor, k: Tensor) -> tuple[int, int, int] | None:
    queries = torch.stack([stamp(q, m) for m in range(20)])
    scores = queries @ torch.stack([stamp(k, n) for n in range(20)]).T
    for ahead in range(-19, 20):  # n − m
        along = scores.diagonal(ahead)
        moved = ((along - along[0]).abs() > 1e-4).nonzero().flatten()
        if len(moved):
            return max(0, -ahead), max(0, ahead), int(moved[0])
    return None


check_witness(witness)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-03-5
# ```
#
# A model writes a text token by token. `cached` of shape `(n, D)` holds the keys of the tokens before, as they were
# stamped when they came. For the next token, `next_scores` should return the scores of its query `q` with all keys,
# its own `k` last; `q` and `k` of shape `(D,)` are not stamped yet. The first token comes out right, and so do the
# first and the last score of every other token. Correct it.

# %%
from rope_lab.exercises.ch03 import check_next_scores


def next_scores(q: Tensor, k: Tensor, cached: Tensor, base: float) -> Tensor:
    keys = torch.cat((cached, k[None]))  # (n + 1, D)
    position = torch.arange(len(keys))
    turns = angles(position, frequencies(len(q), base), dtype=q.dtype)
    return rotate(keys, turns) @ rotate(q[None], turns[-1:])[0]


check_next_scores(next_scores)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-03-5
# :label: sol-03-5
# ```
#
# The cached keys are stamped a second time. The key at position 0 does not show it, because there the stamp does
# nothing. Only the new key and the query have to be turned.


# %%
def next_scores(q: Tensor, k: Tensor, cached: Tensor, base: float) -> Tensor:
    position = torch.tensor([len(cached)])
    turns = angles(position, frequencies(len(q), base), dtype=q.dtype)
    query, key = rotate(q[None], turns)[0], rotate(k[None], turns)
    return torch.cat((cached, key)) @ query


check_next_scores(next_scores)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-03-6
# ```
#
# "Every stamp can be asked for positions in between." Write `half_step(T)`: for an orthogonal matrix $T = T_1$ of
# shape `(D, D)`, with an even $D$, the stamp of position $\frac12$, which is an orthogonal $S$ with $S^2 = T$. Return
# `None` where there is none. ($T$ has no eigenvalue $-1$ unless it is a mirror.)

# %%
from rope_lab.exercises.ch03 import check_half_step


def half_step(T: Tensor) -> Tensor | None:
    return None  # your turn: shape (D, D), or None


check_half_step(half_step)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-03-6
# :label: sol-03-6
# ```
#
# The determinant of $S^2$ is $(\det S)^2$, and so not negative: a mirror has no half step. Every other $T$ is
# $U R_1 U^{\top}$ by {eq}`eq-3-18`, and $S = U R_{1/2} U^{\top}$. It is not the only answer. Each plane can turn by
# half of a whole turn more, and $-S$ is an answer too: whole numbers cannot tell $\theta$ from $\theta + 2\pi$, and
# half positions can.


# %%
def half_step(T: Tensor) -> Tensor | None:
    if torch.linalg.det(T) < 0:
        return None
    theta, U = take_apart(T)
    return U @ block_diagonal(0.5, theta) @ U.T


check_half_step(half_step)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-03-7
#
# You are to encode *times*. Events are milliseconds to years apart, and a model should see how long ago something
# happened. Go through what this chapter asks of a stamp. Which of its wishes do you keep, which do you give up, and
# what do you get? (This question has no checker.)
# ```
#
# ````{solution} ex-03-7
# :label: sol-03-7
#
# One possible answer.
#
# - *Scores from differences alone* {eq}`eq-3-1`: keep it for how long ago something was. It forbids one thing that
#   may matter: the time of day and the day of the week are absolute. Give them to the model as features of the token,
#   not as a stamp.
# - *Whole positions*: given up, so continuity has to be assumed; then $\tau(m) = m\theta$ for real $m$ as well.
# - *The stamp does not depend on the length of the text*: keep.
# - *The frequencies*: the geometric progression has to span the range. From a millisecond to a year there are more
#   than ten powers of ten; with 32 pairs each hand is about half as fast as the one before. Fewer hands than in a
#   text then tell apart what is close together. A map of time such as its logarithm would be cheaper, but a
#   difference of logarithms is a ratio of times, and {eq}`eq-3-1` for the logarithm is not {eq}`eq-3-1` for the time.
# - *One stamp for query and key*: may be given up. Then a score can also shrink with the difference (xPos,
#   chapter 10).
# - *A score made of stamps*: may be given up. A bias on the logarithm of the difference (chapter 1) says "long ago"
#   directly, at the price of a number for each pair of events.
# - And a matter of arithmetic: an angle of a fast hand after years needs more digits than a float32 has (chapter 8).
# ````
#
# ## References
#
# - {cite:t}`su2021blog8130` and {cite:t}`su2021blog8265`, in Chinese: the idea, and the derivation with complex numbers that
#   this chapter follows up to {eq}`eq-3-12`. {cite:t}`su2021blog8231`: how sinusoidal encodings follow from wishes of this
#   kind.
# - {cite:t}`su2021`, sections 3.2 and 3.4.1: the same derivation in the paper. Post and paper assume {eq}`eq-3-5`, the
#   post for simplicity; that {eq}`eq-3-1` alone is enough is shown above.
# - {cite:t}`biderman2021`: the same idea told for a wider audience, with first measurements in large models.
# - {cite:t}`vaswani2017`, section 3.5: the geometric progression of frequencies.
#
# Full entries are on the page {doc}`/book/references`.
