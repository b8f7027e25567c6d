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
# (chapter-decay)=
# # 06 · Long-range decay
#
# The RoFormer paper names a property of RoPE that has been repeated ever since: tokens far apart get smaller scores.
# No learning, no mask, just the rotation. **Does RoPE really make a model forget what is far away?**
#
# Where query and key point the same way, each pair $i$ of coordinates multiplies its part of the score by the cosine of an
# angle that grows with the distance $s$ between the two, at its own speed $\theta_i$. Here are the cosines of all 64 pairs
# of a head, and below them their mean:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Above, a map of cos(s theta_i) for 64 pairs over distances 1 to a million on a logarithmic axis: red (plus one) at the lower left, a diagonal boundary, and beyond it stripes of red and blue. Below, the mean over the pairs: it falls from 1 along a nearly straight line, reaches zero between 1,000 and 10,000, and wobbles around zero afterwards."}, "figure": {"caption": "Left of the diagonal a pair has hardly turned and adds its full part (red); right of it the sign flips ever faster. The pairs drop out one after the other, the fast ones first, and the mean falls in a straight line on the logarithmic axis. What happens on the right is not decay any more.", "name": "fig-frequency-map"}}
import torch

from rope_lab import angles, frequencies
from rope_lab.figures.decay import frequency_map

dim = 128
freqs = frequencies(dim)  # θ_i, (D/2,)
distances = torch.logspace(0, 6, 700, dtype=torch.float64)
frequency_map(distances, angles(distances, freqs).cos())

# %% [markdown]
# So there is something to the claim, and something wrong with it. This chapter derives the falling line, proves the
# paper's bound, and then shows what neither of them says: a head that wants to look far away can.
#
# ## A score is a sum of turning arrows
#
# Write each pair of coordinates as one complex number (chapter 3): $q_i$ and $k_i$ for the pairs $i = 0, \dots, D/2 - 1$
# of a query at position $m$ and a key at position $n$. The score depends on the distance $s = m - n$ alone. Put what
# belongs to the content into $h_i = q_i \bar k_i$, and each pair is an arrow $h_i$ that turns with the distance:
#
# $$
# \langle R_m q,\, R_n k \rangle
# = \operatorname{Re} \sum_{i=0}^{D/2-1} h_i\, \mathrm{e}^{\mathrm{i} s \theta_i} .
# $$ (eq-6-1)

# %%
from torch import Tensor

from rope_lab import rotate
from rope_lab.verify import check, check_at_most

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # checks then show the 16th digit
torch.manual_seed(6)


def turn(x: Tensor, positions: Tensor, freqs: Tensor) -> Tensor:
    """Row after row of x (N, D) to its position (N,)."""
    return rotate(x, angles(positions, freqs, dtype=torch.float64))


def arrows(s: Tensor, freqs: Tensor) -> Tensor:
    """The unit arrows of every distance: (S,) -> (S, D/2) complex."""
    table = angles(s, freqs, dtype=torch.float64)
    return torch.polar(torch.ones_like(table), table)


def pairs(x: Tensor) -> Tensor:
    """(..., D) -> (..., D/2) complex."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


q, k = torch.randn(2, 1000, dim)  # a thousand queries, a thousand keys
m, n = torch.randint(4096, (2, 1000))
left = (turn(q, m, freqs) * turn(k, n, freqs)).sum(-1)
h = pairs(q) * pairs(k).conj()
check("eq. 6.1", left, (h * arrows(m - n, freqs)).sum(-1).real)

# %% [markdown]
# The simplest content is $q = k = (1, \dots, 1)$. Every arrow then starts in the same direction with length
# $\sqrt{2}\cdot\sqrt{2} = 2$, and the score divided by $D$ is the mean cosine that the picture shows. Call that $c(s)$:
#
# $$
# \begin{aligned}
# \frac{1}{D} \langle R_m q,\, R_n k \rangle &= c(s) , \\
# c(s) &= \frac{2}{D} \sum_{i=0}^{D/2-1} \cos s\theta_i .
# \end{aligned}
# $$ (eq-6-2)


# %%
def mean_cosine(s: Tensor, freqs: Tensor) -> Tensor:  # (S,) -> (S,)
    return arrows(s, freqs).real.mean(-1)


ones, s = torch.ones(5000, dim), torch.arange(5000)
check("eq. 6.2", (turn(ones, s, freqs) * ones).sum(-1) / dim, mean_cosine(s, freqs))

# %% [markdown]
# ### Why the line is straight
#
# From each pair to the next the frequency shrinks by the same factor, $\theta_{i+1} = \theta_i\, b^{-2/D}$. So the
# angles $u = s\theta_i$ are evenly spaced in $\ln u$, by $\frac{2}{D}\ln b$, from $s/b$ up to $s$. With more and more
# pairs the mean becomes an integral over $\ln u$, and $\mathrm{d}(\ln u) = \mathrm{d}u/u$:
#
# $$
# \begin{aligned}
# \lim_{D \to \infty} c(s) &= \frac{1}{\ln b} \int_{s/b}^{s} \frac{\cos u}{u}\, \mathrm{d}u \\
# &= \frac{\operatorname{Ci}(s) - \operatorname{Ci}(s/b)}{\ln b} ,
# \end{aligned}
# $$ (eq-6-3)
#
# where $\operatorname{Ci}$ is the cosine integral, a tabulated function. It vanishes for large arguments and behaves
# like $\gamma + \ln u$ for small ones, with Euler's constant $\gamma \approx 0.577$. For distances well between 1 and
# the base $b$ that leaves
#
# $$ c(s) \approx 1 - \frac{\ln s + \gamma}{\ln b} . $$ (eq-6-4)

# %%
import math

import mpmath

base = 10_000.0


def limit(s: Tensor, base: float) -> Tensor:
    """Right side of equation 6.3."""
    values = [mpmath.ci(float(a)) - mpmath.ci(float(a) / base) for a in s]
    return torch.tensor([float(v) for v in values]) / math.log(base)


s = torch.logspace(0, 3.5, 50).round()
wide = frequencies(2**16)  # a head of 65,536 coordinates
check("eq. 6.3", mean_cosine(s, wide), limit(s, base), tolerance=1e-3)

s = torch.logspace(1.5, 2.5, 50).round()  # well between 1 and 10,000
line = 1 - (s.log() + float(mpmath.euler)) / math.log(base)
check("eq. 6.4", mean_cosine(s, wide), line, tolerance=5e-3)

# %% [markdown]
# This is the whole decay of RoPE: **logarithmic**. Every tenfold of the distance costs the same share,
# $1/\log_{10} b$, a quarter for $b = 10{,}000$. And it holds for arrows that all start alike. What if they do not?
#
# ## The bound of the paper
#
# RoFormer's section 3.4.3 {cite:p}`su2021` answers for any content, with Abel's summation by parts. Let $S_j$ be the
# sum of the first $j$ unit arrows, so that each arrow is the difference of two sums:
#
# $$
# \begin{aligned}
# S_j &= \sum_{i=0}^{j-1} \mathrm{e}^{\mathrm{i}s\theta_i}, \\
# \mathrm{e}^{\mathrm{i}s\theta_i} &= S_{i+1} - S_i .
# \end{aligned}
# $$ (eq-6-5)
#
# Insert this into equation {eq}`eq-6-1`, collect what belongs to each $S$, and set $h_{D/2} = 0$. Since $S_0 = 0$,
#
# $$
# \begin{aligned}
# &\sum_{i=0}^{D/2-1} h_i\, (S_{i+1} - S_i) \\
# &\quad = - \sum_{i=0}^{D/2-1} S_{i+1}\, (h_{i+1} - h_i) .
# \end{aligned}
# $$ (eq-6-6)
#
# Content and distance now stand apart. Take absolute values, and bound every step from one $h$ to the next by the
# largest:
#
# $$
# \begin{aligned}
# &\Big| \sum_{i=0}^{D/2-1} h_i\, \mathrm{e}^{\mathrm{i}s\theta_i} \Big| \\
# &\quad \le\; \max_i \big| h_{i+1} - h_i \big| \; \sum_{j=1}^{D/2} \big| S_j \big| .
# \end{aligned}
# $$ (eq-6-7)

# %%
e = arrows(m - n, freqs)  # a distance for each of the thousand draws
S = torch.cat((torch.zeros_like(e[:, :1]), e.cumsum(-1)), dim=-1)  # S_0 … S_{D/2}
steps = torch.cat((h, torch.zeros_like(h[:, :1])), dim=-1).diff()  # h_{i+1} − h_i
check("eq. 6.5", e, S.diff(dim=-1))
check("eq. 6.6", (h * e).sum(-1), -(S[:, 1:] * steps).sum(-1))
check_at_most(
    "eq. 6.7",
    (h * e).sum(-1).abs(),
    steps.abs().amax(-1) * S[:, 1:].abs().sum(-1),
)


# %% [markdown]
# The last factor is all that depends on the distance. The paper plots its mean over the $D/2$ sums up to distance 250
# and finds that it falls. On the left is that figure again; on the right the axis goes on.


# %%
def mean_sum(s: Tensor, freqs: Tensor) -> Tensor:
    """Mean of |S_1|, …, |S_{D/2}| at every distance: (S,) -> (S,)."""
    return arrows(s, freqs).cumsum(-1).abs().mean(-1)


near = torch.arange(251)
far = torch.logspace(0, 8, 1500).round().unique()
curve = mean_sum(near, freqs)
rises = int((curve.diff() > 0).sum())
print(f"distance 0: {curve[0]:.1f}, distance 250: {curve[-1]:.1f}")
print(f"it rises at {rises} of these 250 steps")
at = mean_sum(torch.tensor([1000, 5000]), freqs)
print(f"distance 1000: {at[0]:.1f}, distance 5000: {at[1]:.1f}")

# %% [markdown]
# It is no monotone decay, as the numbers show, and it does not go to zero either. At distances beyond every wavelength
# the arrows point in all directions, and $S_j$ is a random walk of $j$ steps of length 1, whose mean distance from its
# start is close to $\sqrt{\pi j}/2$. So on average over distances $s \gg b$ the curve
# ends on a floor:
#
# $$
# \frac{2}{D} \sum_{j=1}^{D/2} |S_j| \;\approx\; \frac{2}{D} \sum_{j=1}^{D/2} \frac{\sqrt{\pi j}}{2} .
# $$ (eq-6-8)

# %%
j = torch.arange(1, dim // 2 + 1)
floor = (math.pi * j).sqrt().mean() / 2
very_far = torch.logspace(6, 8, 5000).round()
check("eq. 6.8", mean_sum(very_far, freqs).mean(), floor, tolerance=0.02)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Mean of |S_j| against distance. Left, distances 0 to 250: a fall from 32 to below 7 with bumps. Right, distances 1 to 100 million on a logarithmic axis: the fall ends near 1,000, and the curve then jitters around a dashed line at about 5."}, "figure": {"caption": "Left, the paper's figure, reproduced. Right, the rest of it: beyond a thousand tokens it no longer falls, but jitters about the level of a random walk, a seventh of its start.", "name": "fig-bound"}}
from rope_lab.figures.decay import bound

bound((near, curve), (far, mean_sum(far, freqs)), float(floor))

# %% [markdown]
# ## What the bound does not say
#
# A bound that falls does not make the score fall. Equation {eq}`eq-6-7` limits scores from above, and the other factor,
# the content, is free.
#
# ### A key can peak at any distance
#
# Choose a distance $r$ and give the key the arrows of the query, each turned ahead by what it will lose on the way:
# $k = R_r q$. Then
#
# $$
# \begin{aligned}
# &\langle R_m q,\, R_n k \rangle \\
# &\quad = \sum_{i=0}^{D/2-1} |q_i|^2 \cos (s - r)\theta_i \\
# &\quad \le\; \lVert q \rVert^2 , \text{ equal at } s = r .
# \end{aligned}
# $$ (eq-6-9)
#
# Nothing is larger than $\lVert q \rVert \lVert k \rVert = \lVert q \rVert^2$, so this key gets the largest score that
# its length allows, and it gets it at distance $r$. That is Proposition 3.1 of Barbero et al. {cite:p}`barbero2025`.

# %%
query, s = torch.randn(dim), torch.arange(6001)
r = torch.tensor([0, 1500, 3000, 5000])
keys = turn(query.expand(len(r), -1), r, freqs)  # R_r q
queries = turn(query.expand(len(s), -1), s, freqs)  # R_s q
scores = keys @ queries.T  # (r, S)
square = pairs(query).abs().square()
by_cosines = [arrows(s - peak, freqs).real @ square for peak in r.tolist()]
check("eq. 6.9", scores, torch.stack(by_cosines))
check_at_most("eq. 6.9, bound", scores, float(query.square().sum()))
check("eq. 6.9, place of the largest", scores.argmax(-1), r)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four curves of score against distance up to 6,000. Each has one sharp peak of height 1, at distance 0, 1,500, 3,000 and 5,000, and stays below 0.6 or so elsewhere."}, "figure": {"caption": "One query, four keys, each built to fit best at a distance of its own. RoPE serves far and near peaks alike: what falls with the distance is measured from the peak, not from the query.", "name": "fig-peaks"}}
from rope_lab.figures.decay import peaks

peaks(s, dict(zip(r.tolist(), scores / query.square().sum(), strict=True)))

# %% [markdown]
# ### Random content does not decay at all
#
# Let $q$ and $k$ be Gaussian, all coordinates independent with mean 0 and variance 1. $R_n k$ is then Gaussian again, in
# every direction alike, wherever the key stands. So at *every* distance
#
# $$
# \begin{aligned}
# \mathbb{E}\, \langle R_m q,\, R_n k \rangle &= 0, \\
# \operatorname{Var} \langle R_m q,\, R_n k \rangle &= D .
# \end{aligned}
# $$ (eq-6-10)
#
# The first half is Proposition 3.2 of Barbero et al. {cite:p}`barbero2025`. The tolerances below are those of 20,000
# draws.

# %%
s = torch.logspace(0, 5, 60).round().unique()
q, k = torch.randn(2, 20_000, dim)
h = pairs(q) * pairs(k).conj()
scores = (h @ arrows(s, freqs).T).real / dim**0.5  # (draws, S)
check("eq. 6.10, mean", scores.mean(0), torch.zeros(len(s)), tolerance=0.04)
check("eq. 6.10, variance", scores.var(0), torch.ones(len(s)), tolerance=0.06)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: the score of two all-ones vectors falls from 1 and wobbles around zero beyond a few thousand tokens. Right: twelve random score curves; their mean is zero and the dashed lines at plus and minus one deviation are level."}, "figure": {"caption": "The curve that decays (left) belongs to content that is alike in all pairs. For random content (right) mean and deviation are level: distance changes which scores are large, not how large they are.", "name": "fig-random"}}
from rope_lab.figures.decay import random_scores

random_scores(s, mean_cosine(s, freqs), scores)

# %% [markdown]
# ### How alike must the arrows be?
#
# Between "all alike", which decays, and "anything", which does not, stands how much neighbouring arrows differ:
# $\max_i |h_{i+1} - h_i|$ as in the bound, but without its last step to $h_{D/2} = 0$. Call it the roughness of the content,
# and ask directly: with arrows of length at most 1 and roughness at most
# $\delta$, **how large can a score be at distance $s$?** Abel's summation gives an upper limit,
#
# $$
# \begin{aligned}
# &\Big| \sum_{i=0}^{D/2-1} h_i\, \mathrm{e}^{\mathrm{i}s\theta_i} \Big| \\
# &\quad \le\; \delta \sum_{j=1}^{D/2-1} |S_j| \;+\; |S_{D/2}| ,
# \end{aligned}
# $$ (eq-6-11)
#
# but the question can be answered exactly: it is a convex problem in $h$, and any multipliers $y_i$ of the constraints
# $|h_{i+1} - h_i| \le \delta$ prove an upper limit. The solver below returns content that reaches a value, and
# multipliers that prove that none reaches more.


# %%
def worst_case(e: Tensor, delta: float, steps: int = 1500) -> tuple[Tensor, Tensor]:
    """Largest Re Σ h_i e_i with |h_i| ≤ 1 and |h_{i+1} − h_i| ≤ δ, for e (S, D/2).

    Returns the value reached and the value proved, both (S,).
    """
    h = ahead = torch.ones_like(e)
    y = torch.zeros_like(e[:, 1:])

    def back(y: Tensor) -> Tensor:  # the transpose of diff
        return torch.cat((-y[:, :1], -y.diff(dim=-1), y[:, -1:]), dim=-1)

    for _ in range(steps):
        y = y + ahead.diff(dim=-1) / 2
        y = y * (1 - delta / 2 / y.abs().clamp_min(1e-300)).clamp_min(0)
        new = h - (back(y) - e.conj()) / 2
        new = new / new.abs().clamp_min(1)
        h, ahead = new, 2 * new - h
    rough = h.diff(dim=-1).abs().amax(-1, keepdim=True)
    h = h * (delta / rough.clamp_min(delta))  # exactly within the constraints
    proved = (e.conj() - back(y)).abs().sum(-1) + delta * y.abs().sum(-1)
    return (h * e).sum(-1).real, proved


e = arrows(s, freqs)
S = e.cumsum(-1).abs()  # |S_1| … |S_{D/2}|
deltas = (0.1, 0.25, 0.5, 1.0)
solved = [torch.stack(worst_case(e, d)) for d in deltas]
reached, proved = torch.stack(solved, dim=1)  # (δ, S) each
check("worst case, reached and proved", reached, proved, tolerance=1e-3)
limits = [d * S[:, :-1].sum(-1) + S[:, -1] for d in deltas]
check_at_most("eq. 6.11", reached, torch.stack(limits))

worst = {0.0: S[:, -1]} | dict(zip(deltas, reached, strict=True))  # δ = 0: all alike
rough = h.diff(dim=-1).abs().amax(-1) / h.abs().amax(-1)
print(f"Gaussian content, in units of its longest arrow: δ = {rough.median():.2f}")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Largest possible score against distance from 1 to 100,000 for roughness 0, 0.1, 0.25, 0.5 and 1. With roughness 0 it falls to near zero, with 0.1 to about a quarter, with 1 it stays above three quarters."}, "figure": {"caption": "The largest score that any content of roughness δ reaches, found exactly. Only content whose neighbouring pairs are almost equal must decay. At δ = 1, still smoother than Gaussian content, three quarters of the largest score are left at any distance.", "name": "fig-worst"}}
from rope_lab.figures.decay import worst_cases

worst_cases(s, {delta: value / (dim / 2) for delta, value in worst.items()})

# %% [markdown]
# Nothing in a projection makes neighbouring pairs alike. So the decay of RoPE is a property of special content, not a
# fate: heads that want it can have it, heads that want to look far can do that too. Barbero et al.
# {cite:p}`barbero2025` looked into a trained Gemma 7B and found both: the highest frequencies serve heads that attend by
# position, the lowest carry meaning. (This book has not repeated that.)
#
# ## The base decides how far
#
# One thing does depend on the decay: telling a match from a stranger. Say a query looks for a key like itself,
# $k^* = \rho q + \sqrt{1 - \rho^2}\, z$ with Gaussian $q$ and $z$ and correlation $\rho$, and meets an unrelated Gaussian
# key $k$ at the same distance. By equation {eq}`eq-6-10` the stranger scores 0 on average. The match
# scores
#
# $$
# \begin{aligned}
# \mathbb{E}\, \langle R_m q,\, R_n k^* \rangle &= \rho \operatorname{tr} R_s \\
# &= \rho\, D\, c(s) .
# \end{aligned}
# $$ (eq-6-12)
#
# The curve of the all-ones vectors is also the advantage of a match. Where $c(s)$ is negative, a stranger beats the
# match more often than not. This is the argument by which Xu et al. {cite:p}`xu2024` conclude that the base bounds
# the context. The match wins with a probability $p$ of
#
# $$
# \begin{aligned}
# p &\approx \Phi\big( \rho\, D\, c(s) / \sigma \big) , \\
# \sigma^2 &= (2 - \rho^2)\, D \\
# &\quad + 4\rho^2 \sum_i \cos^2 s\theta_i ,
# \end{aligned}
# $$ (eq-6-13)
#
# where $\rho D c(s)$ and $\sigma$ are mean and standard deviation of the difference of the two scores, and $\Phi$ is the
# distribution function of a Gaussian.

# %%
s = torch.tensor([1, 10, 100, 1000, 10_000])
traces = [turn(torch.eye(dim), at.expand(dim), freqs).trace() for at in s]
check("eq. 6.12", torch.stack(traces) / dim, mean_cosine(s, freqs))

rho, draws = 0.5, 4000
s = torch.logspace(0, 6, 25).round()
wins, predicted = {}, {}
for base in (1e3, 1e4, 1e6):
    e = arrows(s, frequencies(dim, base))
    q, z, k = torch.randn(3, draws, dim)
    match = rho * q + (1 - rho**2) ** 0.5 * z
    ahead = ((pairs(q) * pairs(match - k).conj()) @ e.T).real  # (draws, S)
    wins[base] = (ahead > 0).double().mean(0)
    mean = rho * dim * e.real.mean(-1)
    variance = (2 - rho**2) * dim + 4 * rho**2 * e.real.square().sum(-1)
    predicted[base] = torch.special.ndtr(mean / variance.sqrt())
    label = f"eq. 6.13, b = {base:,.0f}"
    check(label, wins[base], predicted[base], tolerance=0.04)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Share of draws in which the match beats a random key, against distance from 1 to a million, for bases 1,000, 10,000 and 1,000,000: each starts near 100 percent and falls to about 50 percent or below, later for a larger base."}, "figure": {"caption": "How often a match beats a stranger: drawn (dots) and by equation 6.13 (lines). Each base carries a head to a certain distance and no further; beyond it the rotation makes a coin toss of similarity, and at times less than that.", "name": "fig-retrieval"}}
from rope_lab.figures.decay import retrieval

retrieval(s, wins, predicted)

# %% [markdown]
# In the limit of wide heads the advantage vanishes within a few tokens of where $\operatorname{Ci}(s/b)$ does (the last
# column), since $\operatorname{Ci}(s)$ is small there. Real heads have few pairs; the
# fast ones add noise, and the noise brings the first loss much earlier:

# %%
zero = float(mpmath.findroot(mpmath.ci, 0.6))


def first_loss(dim: int, base: float, block: int = 20_000) -> int:
    """The first distance at which c(s) < 0."""
    s, freqs = torch.arange(block), frequencies(dim, base)
    while not (lost := mean_cosine(s, freqs) < 0).any():
        s = s + block
    return int(s[lost][0])


print("first distance with c(s) < 0\n")
heads = ("base", "D = 64", "D = 128", "D = 256", "limit")
print("".join(f"{head:>12s}" for head in heads))
for base in (1e2, 1e3, 1e4, 1e5, 5e5, 1e6):
    found = "".join(f"{first_loss(d, base):12,d}" for d in (64, 128, 256))
    print(f"{base:12,.0f}{found}{zero * base:12,.0f}")

# %% [markdown]
# A larger base is not always a help: with $D = 64$ a million loses before half a million does, because 32 pairs are spread
# too thin.
#
# Wherever the loss comes, a larger base moves the curves themselves to the right, the bound of the paper as well:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: mean of |S_j| against distance for bases 100, 10,000 and 1,000,000; each falls from 32 to a floor near 5, later for a larger base. Right: mean cosine for the same bases with their limits as dotted lines."}, "figure": {"caption": "The bound (left) and the advantage of a match (right; dotted: equation 6.3) for three bases. A larger base buys reach and pays with slope: nearby distances are told apart by fewer of the pairs.", "name": "fig-bases"}}
from rope_lab.figures.decay import bases

s = torch.logspace(0, 6, 400)
chosen = (1e2, 1e4, 1e6)
spectra = {base: frequencies(dim, base) for base in chosen}
bases(
    s,
    {base: mean_sum(s, f) for base, f in spectra.items()},
    {base: mean_cosine(s, f) for base, f in spectra.items()},
    {base: limit(s, base) for base in chosen},
)

# %% [markdown]
# That is why long-context models raise the base; chapter 11 compares the ways to do it.
#
# ## In the wild: the base of another model
#
# A model is trained with one base, and the code that runs it has another built in. Nothing fails, and short prompts
# can look right: the fastest pair turns alike with any base, and at small distances the slow ones have hardly turned. As the
# prompt grows, the text falls apart. So it went with Llama 3 ($b = 500{,}000$) in code that assumed 10,000
# ([gpt-fast#179](https://github.com/meta-pytorch/gpt-fast/issues/179),
# [airllm#369](https://github.com/lyogavin/airllm/pull/369)). It can also hide: Code Llama ($b = 1{,}000{,}000$) run with
# 10,000 closed too many parentheses ([llama2.c#356](https://github.com/karpathy/llama2.c/issues/356)), and between the two
# bases its perplexity moved by no more than about 0.2
# ([koboldcpp#426](https://github.com/LostRuins/koboldcpp/issues/426)). The error of the scores, in units of their size:

# %%
s = torch.tensor([0, 1, 3, 10, 30, 100, 1000, 10_000])
q, k = torch.randn(2, 2000, dim)
h = pairs(q) * pairs(k).conj()
right, wrong = ((h @ arrows(s, frequencies(dim, b)).T).real for b in (500_000, 10_000))
errors = (wrong - right).std(0) / right.std(0)
for distance, error in zip(s.tolist(), errors.tolist(), strict=True):
    print(f"distance {distance:6,d}: {error:.2f}")

# %% [markdown]
# ## Summary
#
# - For content that is alike in all pairs the score falls with the logarithm of the distance, to zero near the base.
# - RoFormer's bound is true, falls unevenly and stops at a floor; it does not keep a head from looking far.
# - The base sets the distance up to which a match can be told from a stranger.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# **6.1** Write `paper_curve(s, freqs)`: the curve of {numref}`fig-bound` at distances `s` of shape `(S,)`. No
# scrolling up.

# %%
from rope_lab.exercises.ch06 import check_paper_curve


def paper_curve(s: Tensor, freqs: Tensor) -> Tensor:
    return None  # your turn: shape (S,)


check_paper_curve(paper_curve)

# %% tags=["hide-cell"]
# Solution of 6.1


def paper_curve(s: Tensor, freqs: Tensor) -> Tensor:
    angle = s[:, None] * freqs
    return torch.polar(torch.ones_like(angle), angle).cumsum(-1).abs().mean(-1)


check_paper_curve(paper_curve)

# %% [markdown]
# **6.2** Write `key_for(q, r, freqs)`: of all keys as long as `q` (shape `(D,)`, interleaved), the one that scores highest
# with `q` when it lies `r` tokens *behind* the query.

# %%
from rope_lab.exercises.ch06 import check_key_for


def key_for(q: Tensor, r: int, freqs: Tensor) -> Tensor:
    return None  # your turn: shape (D,)


check_key_for(key_for)

# %% tags=["hide-cell"]
# Solution of 6.2: by equation 6.9, the query turned ahead by r


def key_for(q: Tensor, r: int, freqs: Tensor) -> Tensor:
    return turn(q[None], torch.tensor([r]), freqs)[0]


check_key_for(key_for)

# %% [markdown]
# **6.3** Write `reach(dim, base)`: the smallest distance at which a stranger outscores a match on average.

# %%
from rope_lab.exercises.ch06 import check_reach


def reach(dim: int, base: float) -> int:
    return None  # your turn


check_reach(reach)

# %% tags=["hide-cell"]
# Solution of 6.3: by equation 6.12, the first distance with c(s) < 0


def reach(dim: int, base: float) -> int:
    freqs, s = frequencies(dim, base), 0
    while (s * freqs).cos().sum() >= 0:
        s += 1
    return s


check_reach(reach)

# %% [markdown]
# ## References
#
# - {cite:t}`su2021`, section 3.4.3: the bound; their figure is reproduced above.
# - {cite:t}`barbero2025`: Propositions 3.1 and 3.2, reproduced above; their study of Gemma 7B is not.
# - {cite:t}`xu2024`: the base as a bound on the context. The argument is reproduced, their language models are not.
#
# Full entries are on the page {doc}`/book/references`.
