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
# If query and key point the same way, each pair $i$ of coordinates multiplies its part of the score by the cosine of an
# angle that grows with the distance $s$ between the two, at its own frequency $\theta_i$. Here are the cosines of all 64
# pairs of a head, and below them their mean:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Above, a map of cos(s theta_i) for 64 pairs over distances 1 to a million on a logarithmic axis: red (plus one) at the lower left, a diagonal boundary, and beyond it stripes of red and blue. Below, the mean over the pairs: it falls from 1 along a nearly straight line, reaches zero between 1,000 and 10,000, and wobbles around zero afterwards."}, "figure": {"caption": "Left of the diagonal a pair has hardly turned and adds its full part (red); right of it the sign flips every half wavelength, which on this axis is ever more often. The pairs drop out one after the other, the fast ones first, and the mean falls in a straight line on the logarithmic axis. What happens on the right is not decay any more.", "name": "fig-frequency-map"}}
import torch

from rope_lab import angles, frequencies
from rope_lab.figures.decay import frequency_map

dim = 128
freqs = frequencies(dim)  # θ_i, (D/2,)
columns = torch.logspace(0, 6, 700, dtype=torch.float64)
frequency_map(columns, angles(columns, freqs).cos())

# %% [markdown]
# So there is something to the claim, and something wrong with it. This chapter derives the falling line, proves the
# paper's bound, and then shows what neither of them says: a head that needs to look far away can do so.
#
# ## A score is a sum of turning arrows
#
# Write each pair of coordinates as one complex number (chapter 3): $q_i$ and $k_i$ for the pairs $i = 0, \dots, D/2 - 1$
# of a query at position $m$ and a key at position $n$. The score depends on the positions only through the distance
# $s = m - n$. Put what belongs to the content into $h_i = q_i \bar k_i$. The hands of chapter 3 now also have different
# lengths, so we draw them as arrows: each pair is an arrow $h_i$ that turns with the distance,
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


draws = 1000
q, k = torch.randn(2, draws, dim)  # a thousand queries, a thousand keys
m, n = torch.randint(4096, (2, draws))
h = pairs(q) * pairs(k).conj()
dot_products = (turn(q, m, freqs) * turn(k, n, freqs)).sum(-1)
sums = (h * arrows(m - n, freqs)).sum(-1)
check("eq. 6.1", dot_products, sums.real, draws=draws)

# %% [markdown]
# The simplest content is $q = k = (1, \dots, 1)$. Every arrow then starts in the same direction with length
# $\sqrt{2}\cdot\sqrt{2} = 2$, and the score divided by $D$ is the mean cosine that the picture shows. Call it $c(s)$:
#
# $$
# \begin{aligned}
# \frac{1}{D} \langle R_m q,\, R_n k \rangle &= c(s) , \\
# c(s) &= \frac{2}{D} \sum_{i=0}^{D/2-1} \cos s\theta_i .
# \end{aligned}
# $$ (eq-6-2)
#
# For example, a head of four coordinates has two pairs, with $\theta_0 = 1$ and $\theta_1 = 0.01$. At distance 10 the fast
# pair has turned by 10 radians and the slow one by 0.1: $c(10) = (\cos 10 + \cos 0.1)/2 \approx (-0.84 + 1.00)/2 = 0.08$.


# %%
import math


def mean_cosine(s: Tensor, freqs: Tensor) -> Tensor:  # (S,) -> (S,)
    return angles(s, freqs, dtype=torch.float64).cos().mean(-1)


ones, up_to_5000 = torch.ones(5000, dim), torch.arange(5000)
rotated = (turn(ones, up_to_5000, freqs) * ones).sum(-1) / dim
check("eq. 6.2", rotated, mean_cosine(up_to_5000, freqs))
by_hand = torch.tensor([(math.cos(10) + math.cos(0.1)) / 2])
check("eq. 6.2, D = 4", mean_cosine(torch.tensor([10]), frequencies(4)), by_hand)

# %% [markdown]
# The next figure draws both sides of equation {eq}`eq-6-1` for arrows of equal length. On the left they are laid head to
# tail, in units of their total length, and point straight up at distance 0. The height of the last tip is the score,
# drawn on the right by distance. The head is small at first, so that you can see its 16 arrows. Move the distance, change
# the base and the size of the head, and put the content into the faster or the slower half of the pairs:

# %% tags=["hide-input"]
from rope_lab.figures.summing import summing

summing()

# %% [markdown]
# In the faster half the score drops to one half within a few tokens; in the slower half it does so much later, and the
# larger the base, the later. The two curves are even the same, apart from their place on the axis: from the first half
# to the second each frequency shrinks by the same factor, $\theta_{i+D/4} = \theta_i / \sqrt{b}$, so the slower half does
# at distance $\sqrt{b}\, s$ what the faster half does at $s$.

# %%
tokens = torch.arange(20_000)
for b in (10_000.0, 1_000_000.0):
    faster, slower = frequencies(dim, b).chunk(2)
    check(
        f"two halves, b = {b:,.0f}",
        mean_cosine(tokens * math.sqrt(b), slower),
        mean_cosine(tokens, faster),
    )
    for name, part in (("faster", faster), ("slower", slower)):
        below = int((mean_cosine(tokens, part) < 0.5).nonzero().min())
        print(f"b = {b:,.0f}, {name} half: first below one half at distance {below:,}")

# %% [markdown]
# ### Why the line is straight
#
# From each pair to the next the frequency shrinks by the same factor, $\theta_{i+1} = \theta_i\, b^{-2/D}$. So the
# angles $u = s\theta_i$ are evenly spaced in $\ln u$, by $\frac{2}{D}\ln b$, from $s/b$ up to $s$. With more and more
# pairs, the mean over evenly spaced points tends to the integral over $\ln u$ divided by the length $\ln b$ of the
# interval, and $\mathrm{d}(\ln u) = \mathrm{d}u/u$:
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
import mpmath


def limit(s: Tensor, base: float) -> Tensor:
    """Right side of equation 6.3."""
    values = [mpmath.ci(float(a)) - mpmath.ci(float(a) / base) for a in s]
    return torch.tensor([float(v) for v in values]) / math.log(base)


wide = frequencies(2**16)  # a head of 65,536 coordinates
fifty = torch.logspace(0, 3.5, 50).round()
from_ci = limit(fifty, 10_000.0)
check(
    "eq. 6.3", mean_cosine(fifty, wide), from_ci, tolerance=1e-3, reason="approximation"
)

middle = torch.logspace(1.5, 2.5, 50).round()  # well between 1 and 10,000
line = 1 - (middle.log() + float(mpmath.euler)) / math.log(10_000.0)
check(
    "eq. 6.4", mean_cosine(middle, wide), line, tolerance=5e-3, reason="approximation"
)

# %% [markdown]
# So identical arrows decay, and they decay **logarithmically**: every tenfold increase of the distance costs the same
# amount, $1/\log_{10} b$ of the score at distance 0, which is a quarter for $b = 10{,}000$. But here all arrows
# start out the same. What if they do not?
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
# You can see these sums. Lay the arrows head to tail, and $S_j$ is the point that you reach after $j$ of them:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels on one scale, each with 64 unit steps laid head to tail from the origin and a red arrow from the origin to the last point. At distance 0 the steps form a straight line of length 64. At distance 10 the first steps curl into a knot at the origin and the rest leave it in an arc that straightens out. At distance 1,000 the knot holds most of the steps and the arc is short. At distance 100,000 all steps form one small tangle next to the origin."}, "figure": {"caption": "The 64 unit arrows of a head, head to tail, fast pairs first. With the distance the path curls up from its fast end, until it looks like a random walk. The red arrow is the sum of all 64, and its horizontal part, divided by 64, is the mean cosine of the first picture. The bound of the paper averages the distances of all 64 points from the origin.", "name": "fig-head-to-tail"}}
from rope_lab.figures.decay import head_to_tail


def partial_sums(s: Tensor, freqs: Tensor) -> Tensor:
    """S_0, …, S_{D/2} of every distance: (S,) -> (S, D/2 + 1) complex."""
    steps = arrows(s, freqs)
    return torch.cat((torch.zeros_like(steps[:, :1]), steps.cumsum(-1)), dim=-1)


four = torch.tensor([0, 10, 1000, 100_000])
head_to_tail(four.tolist(), partial_sums(four, freqs))

# %% [markdown]
# Insert {eq}`eq-6-5` into equation {eq}`eq-6-1`, collect what belongs to each $S$, and set $h_{D/2} = 0$. Since $S_0 = 0$,
#
# $$
# \begin{aligned}
# &\sum_{i=0}^{D/2-1} h_i\, (S_{i+1} - S_i) \\
# &\quad = - \sum_{i=0}^{D/2-1} S_{i+1}\, (h_{i+1} - h_i) .
# \end{aligned}
# $$ (eq-6-6)
#
# Content and distance are now separate factors. Take absolute values, and bound every step from one $h$ to the next by the
# largest:
#
# $$
# \begin{aligned}
# &\Big| \sum_{i=0}^{D/2-1} h_i\, \mathrm{e}^{\mathrm{i}s\theta_i} \Big| \\
# &\quad \le\; \max_i \big| h_{i+1} - h_i \big| \; \sum_{j=1}^{D/2} \big| S_j \big| .
# \end{aligned}
# $$ (eq-6-7)
#
# The sums are checked against a sum in 30 digits that uses nothing of the package:


# %%
def exact_sum(s: int, j: int) -> complex:
    """S_j, the first line of equation 6.5, in 30 digits."""
    with mpmath.workdps(30):
        powers = (mpmath.mpf(10_000) ** (mpmath.mpf(-2 * i) / dim) for i in range(j))
        return complex(mpmath.fsum(mpmath.expj(s * power) for power in powers))


def largest_step(h: Tensor) -> Tensor:
    """max_i |h_{i+1} − h_i| with h_{D/2} = 0: (draws, D/2) -> (draws,)."""
    return torch.cat((h, torch.zeros_like(h[:, :1])), dim=-1).diff().abs().amax(-1)


S = partial_sums(m - n, freqs)  # one distance for each of the thousand draws
some = [
    (int(s), j) for s, j in zip((m - n)[:20], torch.randint(1, 65, (20,)), strict=True)
]
exact = torch.tensor([exact_sum(s, int(j)) for s, j in some])
check(
    "eq. 6.5",
    torch.stack([S[row, j] for row, (_, j) in enumerate(some)]),
    exact,
    draws=20,
)
h_steps = torch.cat((h, torch.zeros_like(h[:, :1])), dim=-1).diff()
check("eq. 6.6", sums, -(S[:, 1:] * h_steps).sum(-1), draws=draws)
paper_bound = largest_step(h) * S[:, 1:].abs().sum(-1)
check_at_most("eq. 6.7", sums.abs(), paper_bound, draws=draws)

# %% [markdown]
# Read the last line: none of these scores reaches even 3% of its bound. The bound is true, but is it of any use?
#
# ### What holds without RoPE
#
# Turning an arrow does not change its length. So there is a bound that knows nothing of frequencies, or even of rotations,
# the triangle inequality:
#
# $$
# \Big| \sum_{i=0}^{D/2-1} h_i\, \mathrm{e}^{\mathrm{i}s\theta_i} \Big|
# \;\le\; \sum_{i=0}^{D/2-1} |h_i| \;\le\; \lVert q \rVert\, \lVert k \rVert .
# $$
#
# A bound that is larger than this one says nothing about RoPE. If all $h_i$ are the same, then the only step is the last one,
# from $h$ to 0, and the paper's bound divided by $\sum_i |h_i|$ is the mean of $|S_1|, \dots, |S_{D/2}|$: the very curve that
# the paper plots. It starts at 32.5. The table shows that ratio for three kinds of content:


# %%
from rope_lab.figures.table import table


def mean_sum(s: Tensor, freqs: Tensor) -> Tensor:
    """Mean of |S_1|, …, |S_{D/2}| at every distance: (S,) -> (S,)."""
    return arrows(s, freqs).cumsum(-1).abs().mean(-1)


def gaussian(draws: int) -> Tensor:
    """h of Gaussian queries and keys, (draws, D/2) complex."""
    q, k = torch.randn(2, draws, dim)
    return pairs(q) * pairs(k).conj()


lengths = h.abs().sum(-1)
check_at_most("triangle inequality", sums.abs(), lengths, draws=draws)
check_at_most("Cauchy–Schwarz", lengths, q.norm(dim=-1) * k.norm(dim=-1), draws=draws)

tries = {
    "the same in all pairs": torch.ones(1, dim // 2),
    "Gaussian, median of 20,000": gaussian(20_000),
    "tapering to zero, 1 − 2i/D": 1 - torch.arange(dim // 2)[None] / (dim / 2),
}
per_step = {name: largest_step(c) / c.abs().sum(-1) for name, c in tries.items()}
six = torch.tensor([0, 1, 10, 100, 1000, 10_000])
table(
    [
        [name, *(ratio.median() * mean_sum(six, freqs) * dim / 2)]
        for name, ratio in per_step.items()
    ],
    {"content": "", **{f"s = {s:,}": ".2f" for s in six.tolist()}},
    caption="The bound of the paper divided by the bound that holds without RoPE.",
)

# %% [markdown]
# In the first two rows the paper's bound lies above the one that holds without RoPE, at every distance that we try and in
# every one of 20,000 draws. It *falls*, from far too much to too much. It does tell us something about content that tapers
# off to zero over the pairs, as in the last row:

# %%
nearby = mean_sum(torch.arange(20_001), freqs)
far_sample = torch.logspace(4.5, 8, 2000).round()
lowest_found = torch.tensor([940_249.0])  # among all whole distances to a million
far_away = mean_sum(torch.cat((far_sample, lowest_found)), freqs)
everywhere = torch.cat((nearby, far_away))
least = everywhere.min()  # the best the bound can do
print(f"smallest mean of |S_j| at {len(everywhere):,} distances: {float(least):.2f}")
check_at_most("below the paper's bound, the same in all pairs", 1.0, float(least))
no_rope = tries["Gaussian, median of 20,000"].abs().sum(-1)
best = largest_step(tries["Gaussian, median of 20,000"]) * least * dim / 2
check_at_most("below the paper's bound, Gaussian content", no_rope, best, draws=20_000)


# %% [markdown]
# The paper plots the mean of the $D/2$ sums up to distance 250 and finds that it falls. {numref}`fig-bound` shows that curve
# on the left, for our head of 128 coordinates; on the right the axis continues.


# %%
first_250 = torch.arange(251)
all_distances = torch.logspace(0, 8, 1500).round().unique()
paper_curve = nearby[first_250]
rises = int((paper_curve.diff() > 0).sum())
print(f"distance 0: {paper_curve[0]:.1f}, distance 250: {paper_curve[-1]:.1f}")
print(f"it rises at {rises} of these 250 steps")
for start, stop in ((500, 1000), (1000, 2000), (2000, 5000), (5000, 20_000)):
    print(f"mean from {start:5,d} to {stop:6,d}: {nearby[start:stop].mean():.2f}")

# %% [markdown]
# As the numbers show, the decay is not monotone, and it does not go to zero either. At distances beyond every wavelength
# the arrows point in all directions, and $S_j$ is a random walk of $j$ steps of length 1, whose mean distance from its
# start is close to $\sqrt{\pi j}/2$. So on average over distances $s \gg b$ the curve ends on a floor:
#
# $$
# \frac{2}{D} \sum_{j=1}^{D/2} |S_j| \;\approx\; \frac{2}{D} \sum_{j=1}^{D/2} \frac{\sqrt{\pi j}}{2} .
# $$ (eq-6-8)

# %%
walk = torch.arange(1, dim // 2 + 1)
floor = (math.pi * walk).sqrt().mean() / 2
very_far = torch.logspace(6, 8, 5000).round()
plateau = mean_sum(very_far, freqs).mean()
check("eq. 6.8", plateau, floor, tolerance=0.02, reason="approximation")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Mean of |S_j| against distance, with a horizontal line at 1 labelled: what holds without RoPE. Left, distances 0 to 250: a fall from 32 to below 7 with bumps. Right, distances 1 to 100 million on a logarithmic axis: the fall ends near 2,000, and the curve then jitters around a dashed line at about 5. Both stay above the line at 1."}, "figure": {"caption": "Left, the curve of the paper's figure, for 128 coordinates; right, the rest of it. Beyond about two thousand tokens the curve no longer falls, but jitters about the level of a random walk, a seventh of its start. For content that is the same in all pairs, the black line is what the triangle inequality gives without RoPE. The bound is above it at every distance shown.", "name": "fig-bound"}}
from rope_lab.figures.decay import bound

bound(
    (first_250, paper_curve),
    (all_distances, mean_sum(all_distances, freqs)),
    float(floor),
)

# %% [markdown]
# ## What the bound does not say
#
# A bound that falls does not make the score fall. Equation {eq}`eq-6-7` limits scores from above, and the other factor,
# the content, is free.
#
# ### A key can peak at any distance
#
# Choose a distance $r$ and give the key the arrows of the query, each turned ahead by the angle that it will lose on the way:
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
# No score is larger than $\lVert q \rVert \lVert k \rVert = \lVert q \rVert^2$, so this key gets the largest score that
# its length allows, and it gets it at distance $r$. That is Proposition 3.1 of {cite:t}`barbero2025`.

# %%
query, up_to_6000 = torch.randn(dim), torch.arange(6001)
r = torch.tensor([0, 1500, 3000, 5000])
keys = turn(query.expand(len(r), -1), r, freqs)  # R_r q
queries = turn(query.expand(len(up_to_6000), -1), up_to_6000, freqs)  # R_s q
peak_scores = keys @ queries.T  # (r, S)
square = pairs(query).abs().square()
by_cosines = [arrows(up_to_6000 - peak, freqs).real @ square for peak in r.tolist()]
check("eq. 6.9", peak_scores, torch.stack(by_cosines))
check_at_most("eq. 6.9, bound", peak_scores, float(query.square().sum()))
check("eq. 6.9, distance of the largest", peak_scores.argmax(-1), r)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four curves of score against distance up to 6,000. Each has one sharp peak of height 1, at distance 0, 1,500, 3,000 and 5,000, and stays below 0.6 or so elsewhere."}, "figure": {"caption": "One query and four keys, each built to fit best at a different distance. RoPE can produce a peak far away as easily as nearby: the score falls with the distance from the peak, not with the distance from the query.", "name": "fig-peaks"}}
from rope_lab.figures.decay import peaks

shares = peak_scores / query.square().sum()
peaks(up_to_6000, dict(zip(r.tolist(), shares, strict=True)))

# %% [markdown]
# ### Random content does not decay at all
#
# Let $q$ and $k$ be Gaussian, all coordinates independent with mean 0 and variance 1. $R_n k$ is then Gaussian again, and
# equally likely to point in every direction, wherever the key is. So at *every* distance
#
# $$
# \begin{aligned}
# \mathbb{E}\, \langle R_m q,\, R_n k \rangle &= 0, \\
# \operatorname{Var} \langle R_m q,\, R_n k \rangle &= D .
# \end{aligned}
# $$ (eq-6-10)
#
# The first line is Proposition 3.2 of {cite:t}`barbero2025`.

# %%
sixty = torch.logspace(0, 5, 60).round().unique()
random = (gaussian(20_000) @ arrows(sixty, freqs).T).real / dim**0.5  # (draws, S)
sampling = {"reason": "sampling", "draws": 20_000}
zeros, one = torch.zeros(len(sixty)), torch.ones(len(sixty))
check("eq. 6.10, mean", random.mean(0), zeros, tolerance=0.04, **sampling)
check("eq. 6.10, variance", random.var(0), one, tolerance=0.06, **sampling)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: the score of two all-ones vectors falls from 1 and wobbles around zero beyond a few thousand tokens. Right: twelve random score curves; their mean is zero and the dashed lines at plus and minus one standard deviation are level."}, "figure": {"caption": "The curve that decays (left) belongs to content that is the same in all pairs. For random content (right) mean and standard deviation are level: distance changes which scores are large, not how large they are.", "name": "fig-random"}}
from rope_lab.figures.decay import random_scores

random_scores(sixty, mean_cosine(sixty, freqs), random)

# %% [markdown]
# ### How alike must the arrows be?
#
# The score of identical arrows decays; that of arbitrary arrows need not. What matters is how much neighbouring arrows
# differ: $\max_i |h_{i+1} - h_i|$ as in the bound, but without its last step to $h_{D/2} = 0$. Call it the roughness of the
# content. With arrows of length at most 1 and roughness at most $\delta$, **how large can a score be at distance $s$?**
# Abel's summation gives an upper limit,
#
# $$
# \begin{aligned}
# &\Big| \sum_{i=0}^{D/2-1} h_i\, \mathrm{e}^{\mathrm{i}s\theta_i} \Big| \\
# &\quad \le\; \delta \sum_{j=1}^{D/2-1} |S_j| \;+\; |S_{D/2}| ,
# \end{aligned}
# $$ (eq-6-11)
#
# but the question can be answered exactly, because it is a convex problem in $h$. The folded solver returns a score that
# some content of that roughness *reaches*, and an upper limit that it *proves* by duality: multipliers put a price on
# violating a constraint, so any choice of them gives an upper limit. If that limit and a value that is reached
# agree, both are exact.


# %% tags=["hide-cell"]
def worst_case(e: Tensor, delta: float, steps: int = 1000) -> tuple[Tensor, Tensor]:
    """Largest Re Σ h_i e_i with |h_i| ≤ 1 and |h_{i+1} − h_i| ≤ δ, for e (S, D/2).

    The primal-dual iteration of Chambolle and Pock (2011): the prices y of the steps go up where a step is too
    long, the arrows h follow the prices. Returns the value reached and the value proved, both (S,).
    """
    h = ahead = torch.ones_like(e)
    y = torch.zeros_like(e[:, 1:])  # the price of each step

    def transposed(y: Tensor) -> Tensor:  # of diff
        return torch.cat((-y[:, :1], -y.diff(dim=-1), y[:, -1:]), dim=-1)

    for _ in range(steps):
        y = y + ahead.diff(dim=-1) / 2
        y = y * (1 - delta / 2 / y.abs().clamp_min(1e-300)).clamp_min(0)  # no 0/0
        new = h - (transposed(y) - e.conj()) / 2
        new = new / new.abs().clamp_min(1)  # back to length 1
        h, ahead = new, 2 * new - h  # a step past the new h
    rough = h.diff(dim=-1).abs().amax(-1, keepdim=True)
    h = h * (delta / rough.clamp_min(delta))  # exactly within the constraints
    proved = (e.conj() - transposed(y)).abs().sum(-1) + delta * y.abs().sum(-1)
    return (h * e).sum(-1).real, proved


# %%
solved_at = torch.cat((sixty, torch.tensor([71_980.0]))).sort().values
unit_arrows = arrows(solved_at, freqs)
S_lengths = unit_arrows.cumsum(-1).abs()  # |S_1| … |S_{D/2}|
deltas = (0.1, 0.25, 0.5, 1.0)
solved = [torch.stack(worst_case(unit_arrows, delta)) for delta in deltas]
reached, proved = torch.stack(solved, dim=1)  # (δ, S) each
check(
    "worst case, reached and proved", reached, proved, tolerance=1e-3, reason="search"
)
limits = [delta * S_lengths[:, :-1].sum(-1) + S_lengths[:, -1] for delta in deltas]
check_at_most("eq. 6.11", reached, torch.stack(limits))

worst = {0.0: S_lengths[:, -1]} | dict(
    zip(deltas, reached, strict=True)
)  # δ = 0: identical
for delta, value in worst.items():
    place = int(value.argmin())
    print(
        f"δ = {delta:4}: lowest {value.min() / 64:6.1%}, at s = {int(solved_at[place]):,}"
    )
some_h = gaussian(20_000)
rough = some_h.diff(dim=-1).abs().amax(-1) / some_h.abs().amax(-1)
print(
    f"Gaussian content, in units of its longest arrow: median δ = {rough.median():.2f},"
)
print(f"and δ > 1 in {(rough > 1).double().mean():.0%} of the draws")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Largest possible score against distance from 1 to 100,000 for roughness 0, 0.1, 0.25, 0.5 and 1. With roughness 0 it falls to near zero, with 0.1 to about a fifth, with 0.5 to about a half, and with 1 to about three quarters."}, "figure": {"caption": "The largest score that any content of roughness δ reaches, found exactly at each of these distances. All lines fall, but only content whose neighbouring pairs are almost equal must come near zero. At δ = 1, still smoother than most Gaussian content, about three quarters of the largest score are left up to 100,000 tokens.", "name": "fig-worst"}}
from rope_lab.figures.decay import worst_cases

worst_cases(solved_at, {delta: value / (dim / 2) for delta, value in worst.items()})

# %% [markdown]
# Read the line of equation {eq}`eq-6-11` too: even where Abel's limit is closest among these cases, the exact answer is 11%
# below it.
#
# So the decay of RoPE is a property of special content, and a projection is free to produce that content or not. What do
# trained heads do? {cite:t}`barbero2025` looked into a Gemma 7B. They found that the highest frequencies serve
# heads that attend by position, to tokens nearby, and that the model prefers the lowest frequencies, which, they suspect, carry
# meaning; they also argue that such slow pairs are not robust over long contexts. (This book has not repeated their study.)
# In the small models of this book you can see for yourself: chapter 13 plots the attention of each head against distance
# ({numref}`fig-heads`), and chapter 16 the scores of trained heads ({numref}`fig-scores`).
#
# ## How far a match can be told from a stranger
#
# One thing does depend on the decay. Say a query looks for a key like itself,
# $k^* = \rho q + \sqrt{1 - \rho^2}\, z$ with Gaussian $q$ and $z$ and correlation $\rho$, and meets an unrelated Gaussian
# key $k$ at the same distance. This content is spread evenly over all pairs. By equation {eq}`eq-6-10` the stranger scores 0 on
# average. The match scores, with the trace $\operatorname{tr} R_s$, the sum of the diagonal,
#
# $$
# \begin{aligned}
# \mathbb{E}\, \langle R_m q,\, R_n k^* \rangle &= \rho \operatorname{tr} R_s \\
# &= \rho\, D\, c(s) .
# \end{aligned}
# $$ (eq-6-12)
#
# The curve of the all-ones vectors is also the advantage of a match. Where $c(s)$ is negative, the stranger scores higher on
# average. This is the argument by which {cite:t}`xu2024` conclude that the base bounds the context. The match wins
# with a probability $p$ of
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
# distribution function of a Gaussian. The stranger contributes $D$ to the variance. The match contributes
# $(1 - \rho^2) D$ from $z$, and $4\rho^2 \sum_i \cos^2 s\theta_i$ from $q$, since each $|q_i|^2$ has variance 4. The sign is
# $\approx$ because the difference is a sum over pairs, which is not quite Gaussian when there are few of them.
#
# What if the content is *not* spread evenly? A head whose queries and keys are zero outside its slowest pairs is a head that
# has only those pairs: $D$ becomes twice their number, and the sums run over them. The figure shows both.

# %%
powers_of_ten = torch.tensor([1, 10, 100, 1000, 10_000])
traces = [turn(torch.eye(dim), at.expand(dim), freqs).trace() for at in powers_of_ten]
check("eq. 6.12", torch.stack(traces) / dim, mean_cosine(powers_of_ten, freqs))

rho = 0.5


def wins(s: Tensor, freqs: Tensor, draws: int = 4000) -> Tensor:
    """Fraction of draws in which the match outscores the stranger, (S,)."""
    q, z, k = torch.randn(3, draws, 2 * len(freqs))
    match = rho * q + (1 - rho**2) ** 0.5 * z
    difference = (pairs(q) * pairs(match - k).conj()) @ arrows(s, freqs).T
    return (difference.real > 0).double().mean(0)


def predicted_wins(s: Tensor, freqs: Tensor) -> Tensor:
    """Equation 6.13, (S,)."""
    cosines, width = arrows(s, freqs).real, 2 * len(freqs)
    variance = (2 - rho**2) * width + 4 * rho**2 * cosines.square().sum(-1)
    return torch.special.ndtr(rho * width * cosines.mean(-1) / variance.sqrt())


spectra = {
    "b = 1,000": frequencies(dim, 1e3),
    "b = 10,000": freqs,
    "b = 1,000,000": frequencies(dim, 1e6),
    "slowest 16 pairs, b = 10,000": freqs[-16:],
    "slowest 8 pairs, b = 10,000": freqs[-8:],
}
at_25 = torch.logspace(0, 6, 25).round()
won = {label: wins(at_25, spectrum) for label, spectrum in spectra.items()}
for label, spectrum in spectra.items():
    expected = predicted_wins(at_25, spectrum)
    name = f"eq. 6.13, {label}"
    about = {"reason": "approximation", "draws": 4000}  # with 8 pairs p is 2% too low
    check(name, won[label], expected, tolerance=0.04, **about)
lowest = torch.tensor([math.pi / 2 * 10_000])  # where equation 6.3 is lowest
check_at_most(
    "a stranger beats the match", wins(lowest, freqs, 20_000), 0.5, draws=20_000
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Fraction of draws in which the match beats a random key, against distance from 1 to a million. With all pairs, for bases 1,000, 10,000 and 1,000,000, it starts near 100 percent and falls to about 50 percent or below, later for a larger base. With the slowest 16 or 8 pairs of base 10,000 (open dots) it starts at 98 or 92 percent, stays level to about a thousand and falls to 50 percent several times later than with all pairs of that base."}, "figure": {"caption": "How often a match beats a stranger: drawn (dots) and by equation 6.13 (lines). With content spread evenly over all pairs (full dots), each base carries a head to a certain distance; beyond it, the rotation turns the comparison into a coin toss, and sometimes into something worse. With content in the slowest pairs only (open dots), the comparison is noisier from the start but carries further at the same base.", "name": "fig-retrieval"}}
from rope_lab.figures.decay import retrieval

dense = torch.logspace(0, 6, 1500)
curves = {label: predicted_wins(dense, spectrum) for label, spectrum in spectra.items()}
retrieval(at_25, won, dense, curves)

# %% [markdown]
# In numbers, for base 10,000, with the first distance at which $c(s)$ is negative:


# %%
def first_loss(freqs: Tensor, block: int = 20_000) -> int:
    """The first distance at which c(s) < 0."""
    s = torch.arange(block)
    while not (lost := mean_cosine(s, freqs) < 0).any():
        s = s + block
    return int(s[lost][0])


five = torch.tensor([1, 1000, 1707, 3000, 5000])
table(
    [
        [
            f"{len(part)} slowest" if len(part) < 64 else "all 64",
            *wins(five, part),
            first_loss(part),
        ]
        for part in (freqs, freqs[-16:], freqs[-8:])
    ],
    {
        "pairs with content": "",
        **{f"s = {s:,}": ".0%" for s in five.tolist()},
        "first c(s) < 0": ",d",
    },
    caption="How often a match beats a stranger, b = 10,000, D = 128, 4,000 draws.",
)

# %% [markdown]
# So the base bounds the distance through the wavelengths of the pairs that a head uses. In the limit of wide heads with
# content in all pairs, the advantage vanishes within a few tokens of where $\operatorname{Ci}(s/b)$ does, at $0.62\, b$ (last
# column below), because $\operatorname{Ci}(s)$ is small there. Real heads have few pairs; the fast ones add noise, and the noise
# brings the first loss earlier, the more so the larger the base, unless the content avoids them:

# %%
zero = float(mpmath.findroot(mpmath.ci, 0.6))
tried_bases = (1e2, 1e3, 1e4, 1e5, 5e5, 1e6)
for base in tried_bases:
    root = mpmath.findroot(
        lambda s, b=base: mpmath.ci(s) - mpmath.ci(s / b), zero * base
    )
    check_at_most(
        f"zero of eq. 6.3, b = {base:,.0f}, tokens off",
        abs(float(root) - zero * base),
        3.0,
    )

heads = {f"D = {width}": (width, width // 2) for width in (64, 128, 256)}
heads["D = 128, slowest 16"] = (128, 16)
table(
    [
        [
            base,
            *(first_loss(frequencies(d, base)[-slow:]) for d, slow in heads.values()),
            zero * base,
        ]
        for base in tried_bases
    ],
    {"base": ",.0f", **dict.fromkeys(heads, ",d"), "wide limit": ",.0f"},
    caption="First distance with c(s) < 0.",
)

# %% [markdown]
# A larger base is not always a help: with $D = 64$, a base of one million fails at a shorter distance than a base of half a
# million. The first loss is where a wobbling curve first dips below zero, and another dip can be the first when the base
# changes a little. This is not special to narrow heads:

# %%
grid = torch.logspace(2, 5, 61).tolist()  # bases in steps of 12%
for width in (64, 128, 256):
    reaches = torch.tensor(
        [first_loss(frequencies(width, base), 2000) for base in grid]
    )
    shorter = int((reaches.diff() < 0).sum())
    print(f"D = {width:3d}: the next larger base fails sooner in {shorter} of 60 cases")

# %% [markdown]
# But wherever the loss comes, a larger base moves the curves themselves to the right, including the bound of the paper:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: mean of |S_j| against distance for bases 100, 10,000 and 1,000,000; each falls from 32 to a floor near 5, later for a larger base. Right: mean cosine for the same bases, thin lines, on broad pale lines that are their limits for wide heads."}, "figure": {"caption": "The bound (left) and the advantage of a match with content in all pairs (right; broad pale lines: equation 6.3) for three bases. A larger base buys reach and pays with slope: nearby distances are told apart by fewer of the pairs.", "name": "fig-bases"}}
from rope_lab.figures.decay import bases

at_400 = torch.logspace(0, 6, 400)
three = {base: frequencies(dim, base) for base in (1e2, 1e4, 1e6)}
bases(
    at_400,
    {base: mean_sum(at_400, spectrum) for base, spectrum in three.items()},
    {base: mean_cosine(at_400, spectrum) for base, spectrum in three.items()},
    {base: limit(at_400, base) for base in three},
)

# %% [markdown]
# Models for long contexts are in fact trained with larger bases. The authors of one of them, who went from 10,000 to 500,000,
# give the decay as their reason {cite:p}`xiong2024`. Chapter 11 compares the ways to give a trained model longer texts.
#
# ## In the wild: the base of another model
#
# A model is trained with one base, and the code that runs it has another built in. Nothing fails, and short prompts
# can look right. As the prompt grows, the text falls apart. This happened with Llama 3 ($b = 500{,}000$) in code that assumed
# 10,000 ([gpt-fast#179](https://github.com/meta-pytorch/gpt-fast/issues/179)); one report saw it become incoherent between 800
# and 1,000 tokens ([airllm#368](https://github.com/lyogavin/airllm/issues/368)). The error of the scores, in units of their size:

# %%
ten = torch.tensor([0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000])
content = gaussian(2000)


def base_error(slow: int) -> Tensor:
    """SD of the error over SD of the score, content in the slowest pairs only, (S,)."""
    spectra = (frequencies(dim, base)[-slow:] for base in (500_000, 10_000))
    right, wrong = ((content[:, -slow:] @ arrows(ten, f).T).real for f in spectra)
    return (wrong - right).std(0) / right.std(0)


errors = {
    "content in all 64 pairs": base_error(64),
    "in the slowest 16": base_error(16),
}
table(
    zip(ten.tolist(), *errors.values(), strict=True),
    {"distance": ",d", **dict.fromkeys(errors, ".2f")},
    caption="Scores with base 10,000 in place of 500,000: error in units of the score.",
)

# %% [markdown]
# A head that uses all pairs would be lost after some thirty tokens. In the slowest pairs the error reaches half the size of the
# scores at about a thousand, where the reports saw the text break. That fits models whose meaning is in the slow pairs; it does
# not prove it.
#
# A wrong base can also hide. Code Llama ($b = 1{,}000{,}000$) run with 10,000 closed too many parentheses
# ([llama2.c#356](https://github.com/karpathy/llama2.c/issues/356)). And one user, who measured its perplexity with bases of
# 10,000, 100,000 and a million, found a spread of only about 0.2 at a context of 512 and, against the pattern above, of 0.02 near
# 12,288, with the lowest value at 100,000 ([koboldcpp#426](https://github.com/LostRuins/koboldcpp/issues/426)).
#
# ## Summary
#
# - For content that is the same in all pairs the score falls with the logarithm of the distance. It reaches zero at $0.62\, b$
#   in the limit of wide heads, and for bases of 10,000 and more much earlier in heads of 64 to 256 coordinates.
# - RoFormer's bound is true, falls unevenly and stops at a floor. For such content, and for random content, it is weaker than
#   the triangle inequality at every distance tried, and it does not keep a head from looking far.
# - The base limits how far a match can be told from a stranger: soon for content in all pairs, several times later for
#   content in the slow pairs.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-06-1
# ```
#
# {numref}`fig-bound` compares two bounds for content that is the same in all pairs. Write `looseness(h, s, freqs)`
# for any content: how many times as large as the bound that holds without RoPE, $\sum_i |h_i|$, the bound
# {eq}`eq-6-7` is at each of the distances `s` of shape `(S,)`. `h` of shape `(D/2,)` is complex.

# %%
from rope_lab.exercises.ch06 import check_looseness


def looseness(h: Tensor, s: Tensor, freqs: Tensor) -> Tensor:
    return None  # your turn: shape (S,)


check_looseness(looseness)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-06-1
# :label: sol-06-1
# ```
#
# The steps of {eq}`eq-6-7` include the last one, from $h_{D/2-1}$ to $h_{D/2} = 0$.


# %%
def looseness(h: Tensor, s: Tensor, freqs: Tensor) -> Tensor:
    angle = s[:, None] * freqs
    S = torch.polar(torch.ones_like(angle), angle).cumsum(-1)  # (S, D/2)
    steps = torch.cat((h, torch.zeros_like(h[:1]))).diff().abs()
    return steps.max() * S.abs().sum(-1) / h.abs().sum()


check_looseness(looseness)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-06-2
# ```
#
# A query is to find the same key at several distances, such as a word that comes back in a refrain. Write
# `key_for(q, r, freqs)`: of all keys as long as `q` (shape `(D,)`, interleaved), the one whose *mean* score with `q`
# is highest when the key is `r[0]`, `r[1]`, … tokens *behind* the query. `r` holds one or more whole numbers.

# %%
from rope_lab.exercises.ch06 import check_key_for


def key_for(q: Tensor, r: Tensor, freqs: Tensor) -> Tensor:
    return None  # your turn: shape (D,)


check_key_for(key_for)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-06-2
# :label: sol-06-2
# ```
#
# The score at distance $r$ is $\langle R_r q, k \rangle$, so the mean score is the inner product of $k$ with the mean
# of the $R_r q$. Of all keys of one length, the one in that direction has the largest. For a single distance it is
# the key of {eq}`eq-6-9`.


# %%
def key_for(q: Tensor, r: Tensor, freqs: Tensor) -> Tensor:
    ahead = turn(q.expand(len(r), -1), r, freqs).sum(0)
    return ahead * q.norm() / ahead.norm()


check_key_for(key_for)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-06-3
# ```
#
# Write `reach(dim, base)`: the smallest distance at which a stranger outscores a match on average.

# %%
from rope_lab.exercises.ch06 import check_reach


def reach(dim: int, base: float) -> int:
    return None  # your turn


check_reach(reach)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-06-3
# :label: sol-06-3
# ```
#
# By equation {eq}`eq-6-12`, the first distance with c(s) < 0.


# %%
def reach(dim: int, base: float) -> int:
    freqs, s = frequencies(dim, base), 0
    while (s * freqs).cos().sum() >= 0:
        s += 1
    return s


check_reach(reach)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-06-4
# ```
#
# Row $m$ and column $n$ of `scores`, shape `(N, N)`, belong to the query at $m$ and the key at $n$. `by_distance`
# should return the mean score of a causal layer at each distance $s = m - n$ from 0 to $N - 1$. Somebody used it on a
# model without any position encoding, and found "long-range decay". Correct it.

# %%
from rope_lab.exercises.ch06 import check_by_distance


def by_distance(scores: Tensor) -> Tensor:
    N = len(scores)
    position = torch.arange(N)
    s = position[:, None] - position
    return torch.stack([scores[s == distance].sum() / N for distance in range(N)])


check_by_distance(by_distance)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-06-4
# :label: sol-06-4
# ```
#
# There are $N - s$ pairs at distance $s$, not $N$. Divided by $N$, the mean of scores that are all 1 falls in a
# straight line to $1/N$, whatever the model does.


# %%
def by_distance(scores: Tensor) -> Tensor:
    return torch.stack([scores.diagonal(-s).mean() for s in range(len(scores))])


check_by_distance(by_distance)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-06-5
# ```
#
# "The bound of the paper never says anything that does not hold without RoPE." Write `telling(s, freqs)`: content $h$
# of shape `(D/2,)`, real or complex, for which the bound {eq}`eq-6-7` at distance $s \ge 0$ is *smaller* than
# $\sum_i |h_i|$. Return `None` where no content has that. (Try small distances too.)

# %%
from rope_lab.exercises.ch06 import check_telling


def telling(s: float, freqs: Tensor) -> Tensor | None:
    return None  # your turn: shape (D/2,), or None


check_telling(telling)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-06-5
# :label: sol-06-5
# ```
#
# Write $M$ for the largest step and $n = D/2$. From pair $i$ to the end there are $n - i$ steps, so
# $|h_i| \le (n - i) M$, and the sum of all $|h_i|$ is at most $\frac12 n (n + 1) M$. Content that tapers off in a
# straight line, $h_i = n - i$, reaches that; no other content makes the paper's bound smaller in comparison. For it
# the ratio of the two bounds is $\sum_j |S_j|$ divided by $1 + 2 + \dots + n$. Since $|S_j| \le j$, the ratio is at
# most 1. It *is* 1 where all arrows point the same way, and so at distance 0, where there is no such content. At all
# other distances that are tried here, the straight taper is an answer.


# %%
def telling(s: float, freqs: Tensor) -> Tensor | None:
    return torch.arange(len(freqs), 0, -1) if s > 0 else None


check_telling(telling)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-06-6
#
# A paper plots the mean attention *weight* of a trained language model against the distance, finds that it falls, and
# calls this "the long-range decay of RoPE". Name three other causes, and for each an experiment that takes it away.
# (This question has no checker.)
# ```
#
# ````{solution} ex-06-6
# :label: sol-06-6
#
# - *The softmax.* The weights of a row sum to 1, and only long rows have far keys. Even if all scores are the same,
#   the mean weight at distance $s$ is the mean of $1/(m + 1)$ over the rows $m \ge s$, which falls with $s$. Plot
#   scores, or compare with the weights of constant scores.
# - *The text.* In language, tokens that are near each other have more to do with each other. Keep the tokens and
#   change their positions only: leave a gap of 1,000 positions before the last token, or shuffle the text. If a head
#   looks at the same *tokens* as before, it was content.
# - *Training.* The model may have learned to look near, because that is useful. RoPE then allows the decay and does
#   not cause it. Measure before training (for random content the level is the same everywhere, {eq}`eq-6-10`), and
#   train a model without an encoding or with ALiBi on the same text.
# - *The measurement.* A wrong denominator ({ref}`ex-06-4`), or a mean over heads in which a few local heads have all
#   the weight. Plot heads one by one.
#
# An experiment *for* the claim would take the trained queries and keys, and change nothing but the distance in the
# rotation.
# ````
#
# ## References
#
# - {cite:t}`su2021`, section 3.4.3: the bound; their figure is reproduced above.
# - {cite:t}`barbero2025`: Propositions 3.1 and 3.2, reproduced above; their study of Gemma 7B is not.
# - {cite:t}`xu2024`: the base as a bound on the context. The argument is reproduced, their language models are not.
# - {cite:t}`xiong2024`: a larger base for longer texts, with the decay as the reason.
#
# Full entries are on the page {doc}`/book/references`.
