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
# (chapter-xpos)=
# # 10 · xPos
#
# For content that is the same in all pairs, the score of RoPE falls at first and then wobbles, however far you go (chapter
# 6). A model that reads further than it was trained to meets wobbles that are new to it. **Can a score be made to fade for
# good, and still know nothing but the distance?**
#
# xPos {cite:p}`sun2023` lets each pair of coordinates lose its strength with the distance, the fast ones first: every $B$
# tokens, pair $i$ keeps a fraction $\zeta_i$ of it. We say *fade* to keep this apart from the long-range decay of chapter 6.
# Here is what all 64 pairs of a head add to a score, as in chapter 6, but fading:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Above, a map of cos(s theta_i) times the fading factor for 64 pairs over distances 1 to 100,000 on a logarithmic axis. Stripes of red and blue begin at a diagonal and pale to white at a black curve, labelled half faded, that bends from a few hundred tokens for the fast pairs to tens of thousands for the slow ones. Below, the mean over the pairs: RoPE and xPos fall together up to a few hundred tokens; then RoPE jitters around zero to the end while xPos goes smoothly to zero."}, "figure": {"caption": "The black curve is where a pair has lost half of its strength. A pair may turn many times before it gets there: xPos changes short distances little (at 100 tokens the pairs keep 91% on average) and silences the stripes of the long ones. Below, the mean over the pairs, which for RoPE is the curve of chapter 6.", "name": "fig-fading-map"}}
import math

import torch

from rope_lab import angles, frequencies
from rope_lab.figures.xpos import fading_map

dim, B = 128, 512  # D, and the scale base
freqs = frequencies(dim)  # θ_i, (D/2,)
zeta = (torch.arange(0, dim, 2, dtype=torch.float64) / dim + 0.4) / 1.4  # ζ_i, (D/2,)

distances = torch.logspace(0, 5, 700, dtype=torch.float64)
plain = angles(distances, freqs).cos()
faded = plain * zeta ** (distances[:, None] / B)
half_lives = B * math.log(2) / -zeta.log()
print(f"at 100 tokens the pairs keep {(zeta ** (100 / B)).mean():.0%} on average")
fading_map(distances, faded, plain, half_lives)

# %% [markdown]
# The lower curve goes to zero and stays there. This chapter derives the fading from the same requirement as RoPE, asks what it
# changes in a softmax, computes it without overflow at any position, keeps it exact when keys are cached, and tries it in
# trained models. What it buys is less than the picture promises, and depends on the size of the scores.
#
# ## Two stamps instead of one
#
# In chapter 3 one stamp served queries and keys, and for that reason it could not change a length. Allow
# two. In each pair, with complex numbers, a query $q$ at position $m$ becomes $q\,\alpha_m$ and a key $k$ at position
# $n$ becomes $k\,\beta_n$, with complex $\alpha_m$ and $\beta_n$ and $\alpha_0 = \beta_0 = 1$. The requirement is the old
# one, for every key that a causal model sees: what positions do to a score depends on the distance alone,
#
# $$ \alpha_m\, \bar\beta_n = \alpha_{m-n}\, \bar\beta_0 = \alpha_{m-n} \quad (m \ge n) . $$ (eq-10-1)
#
# Take $n = m$, then $n = m - 1$:
#
# $$
# \begin{aligned}
# \bar\beta_m &= 1/\alpha_m , \\
# \alpha_m/\alpha_{m-1} &= \alpha_1 , \quad \text{so } \alpha_m = \alpha_1^{\,m} .
# \end{aligned}
# $$ (eq-10-2)
#
# One complex number is all the freedom there is. Write it as $\alpha_1 = \mathrm{e}^{\xi + \mathrm{i}\theta}$ with real
# $\xi$ and $\theta$:
#
# $$
# \begin{aligned}
# \alpha_m &= \mathrm{e}^{m(\xi + \mathrm{i}\theta)} , \\
# \beta_n &= \mathrm{e}^{n(-\xi + \mathrm{i}\theta)} .
# \end{aligned}
# $$ (eq-10-3)
#
# Both turn by $\theta$ per token. With $\xi = 0$ this is RoPE; with a negative $\xi$ the query shrinks, the key grows, and their
# score fades with the distance. The two lines of {eq}`eq-10-2` leave no other way, as long as a pair is multiplied by *one
# complex number*. The checks below confirm that {eq}`eq-10-3` is a solution, and that the recurrence of the second line has
# no other.

# %%
import sympy as sp

from rope_lab.verify import check, check_at_most, check_exact

m, n = sp.symbols("m n", integer=True, nonnegative=True)
xi, theta = sp.symbols("xi theta", real=True)


def alpha(position):
    return sp.exp(position * (xi + sp.I * theta))


def beta(position):
    return sp.exp(position * (-xi + sp.I * theta))


check_exact("eq. 10.1", alpha(m) * sp.conjugate(beta(n)) - alpha(m - n))
first, sequence = sp.symbols("alpha_1"), sp.Function("alpha")
power = sp.rsolve(sequence(m) - first * sequence(m - 1), sequence(m), {sequence(0): 1})
check_exact("eq. 10.2", power - first**m)
check_exact("eq. 10.3", power.subs(first, alpha(1)) - alpha(m))

# %% [markdown]
# :::{admonition} More than one complex number per pair
# :class: dropdown note
#
# Allow a real $2 \times 2$ matrix per pair, and any invertible $A$ works: turn $q$ into $A^m q$ and $k$ into
# $(A^{-n})^\top k$, and the score is $q^\top (A^{m-n})^\top k$. With complex eigenvalues that is the pair above in other
# coordinates; with two different ones between 0 and 1, two coordinates fade separately; a shear with eigenvalue 1, as in the cell
# below, grows with the distance instead of fading.
#
# The number $\mathrm{e}^{\xi + \mathrm{i}\theta}$ per token is met outside attention too: it is what the state of a RetNet
# {cite:p}`sun2023retnet` is multiplied by at every token (its authors name xPos as the same form), there with one $\xi$ per head
# and without a softmax. That last point will matter below.
# :::

# %% tags=["hide-cell"]
import torch

A = torch.tensor([[1.0, 0.02], [0.0, 1.0]], dtype=torch.float64)  # a shear
q_2, k_2 = torch.randn(2, 2, dtype=torch.float64)
sheared = [
    (A.matrix_power(far + 7) @ q_2) @ (A.inverse().T.matrix_power(far) @ k_2)
    for far in (0, 30, 500)
]
check(
    "any matrix, here a shear",
    torch.stack(sheared),
    (A.matrix_power(7) @ q_2 @ k_2).expand(3),
    tolerance=1e-10,
)

# %% [markdown]
# So a score of $D/2$ pairs has one number $\xi_i$ per pair besides $\theta_i$. Write
# $\mathrm{e}^{\xi_i} = \zeta_i^{1/B}$ with $0 < \zeta_i < 1$ and one **scale base** $B$ for all pairs, in tokens: pair
# $i$ fades by the factor $\zeta_i$ every $B$ tokens. (In this chapter, $B$ does not stand for the batch.) With $x_i$ for pair
# $i = 0, \dots, D/2 - 1$ of $x$ as a complex number,
#
# $$
# \begin{aligned}
# &\mathrm{score}(m, n) \\
# &\; = \operatorname{Re} \sum_i q_i\, \bar k_i\, \zeta_i^{(m-n)/B}\,
# \mathrm{e}^{\mathrm{i}(m-n)\theta_i} .
# \end{aligned}
# $$ (eq-10-4)
#
# This is what `rope_lab.encodings.XPos` computes. The check compares it with the sum itself, one complex product at a time:

# %%
from torch import Tensor

from rope_lab.encodings import XPos

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
torch.manual_seed(10)


def pairs(x: Tensor) -> Tensor:
    """(..., D) -> (..., D/2) complex."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())


def arrows(s: Tensor, zeta: Tensor) -> Tensor:
    """What distances do to a pair, (...,) -> (..., D/2) complex."""
    return torch.polar(zeta ** (s[..., None] / B), s[..., None] * freqs)


def definition(q: Tensor, k: Tensor, m: Tensor, n: Tensor) -> Tensor:
    """Equation 10.4: q (..., N_q, D), k (..., N_k, D) -> (..., N_q, N_k)."""
    terms = arrows(m[:, None] - n, zeta)  # (N_q, N_k, D/2)
    sides = pairs(q), pairs(k).conj()
    return torch.einsum("...mi,...ni,mni->...mn", *sides, terms).real


positions = torch.arange(100)
heads = torch.randn(2, 10, 1, 100, dim)  # ten draws of q and k of one head
wanted = definition(*heads, positions, positions)
xpos = XPos(dim, scale_base=B)
q_scaled, k_scaled = xpos(*heads)
check("eq. 10.4", q_scaled @ k_scaled.mT, wanted, draws=10)

# %% [markdown]
# ## How fast each pair fades
#
# The paper sets $\zeta_i$ by hand (its equation 9, with $\gamma = 0.4$):
#
# $$ \zeta_i = \frac{2i/D + 0.4}{1.4} , $$ (eq-10-5)
#
# from $\zeta_0 = 1/3.5$ for the fastest pair to almost 1 for the slowest. The idea: fast pairs make the wobbles, so
# they go first; slow pairs do not complete a turn within a text and can stay longer. The paper's equations have
# no $B$; its authors' code divides positions by 512. Half of pair $i$ is gone after
#
# $$ s_i = \frac{B \ln 2}{-\ln \zeta_i} \text{ tokens} . $$ (eq-10-6)

# %%
from rope_lab.figures.table import table

tokens = torch.arange(32_000)  # keys, and one query after them all
all_ones = torch.ones(1, 1, len(tokens), dim)
_, faded_keys = xpos.relate(all_ones[..., -1:, :], all_ones, tokens[-1:], tokens)
by_distance = faded_keys[0, 0, :, ::2].flip(0)  # one column per pair
halved = (by_distance <= 0.5).int().argmax(0)  # the first such distance
check("eq. 10.6, whole tokens", halved, half_lives.ceil().long())

wavelengths = 2 * math.pi / freqs
table(
    [
        [
            i,
            float(wavelengths[i]),
            float(half_lives[i]),
            float(half_lives[i] / wavelengths[i]),
        ]
        for i in (0, 8, 16, 32, 48, 63)
    ],
    {
        "pair": "",
        "wavelength": ",.1f",
        "half-life": ",.0f",
        "turns until half is gone": ",.2f",
    },
)

# %% [markdown]
# The fast pairs turn many times before half of them is gone: over the short distances that they can tell apart, they are
# nearly as in RoPE. Slower pairs fare worse than the idea says: pair 48 loses half of its strength within a third of a turn,
# before it can wobble.
#
# For the content $q = k = (1, \dots, 1)$ of chapter 6, the score over $D$ is the blue curve of {numref}`fig-fading-map`,
# the paper's equation 8 over the number of pairs:
#
# $$ c_\zeta(s) = \frac{2}{D} \sum_{i=0}^{D/2-1} \zeta_i^{s/B} \cos s\theta_i . $$ (eq-10-7)

# %%
to_4000 = torch.arange(4001.0)
ones = torch.ones(1, 1, 4001, dim)
q_last, k_all = xpos(ones[..., -1:, :], ones)  # one query, at 4000
of_ones = (q_last @ k_all.mT)[0, 0, 0].flip(0) / dim  # s = 0, 1, …


def mean_cosine(s: Tensor, zeta: Tensor) -> Tensor:  # (S,) -> (S,)
    return arrows(s, zeta).real.mean(-1)


check("eq. 10.7", of_ones, mean_cosine(to_4000, zeta))

no_fading = torch.ones(dim // 2)  # ζ_i = 1 is RoPE
for name, fade in {"RoPE": no_fading, "xPos": zeta}.items():
    climbs = mean_cosine(to_4000, fade).diff().clamp_min(0)[1000:].sum()
    print(f"{name}: from 1,000 to 4,000 tokens it climbs by {climbs:.2f} in all")

# %% [markdown]
# Hardly anything is left of the wobbles. And unlike the decay of chapter 6, this one comes with a bound for every content. In
# equation {eq}`eq-10-4` no cosine is larger than 1, and no $\zeta_i$ larger than the last one:
#
# $$
# \begin{aligned}
# &|\mathrm{score}(m, n)| \\
# &\quad \le \sum_i |q_i|\, |k_i|\, \zeta_i^{(m-n)/B} \\
# &\quad \le \zeta_{D/2-1}^{(m-n)/B}\, \lVert q \rVert\, \lVert k \rVert .
# \end{aligned}
# $$ (eq-10-8)
#
# This bound goes to zero, at the rate of the slowest pair. Chapter 6 built a key that peaks at any distance you like
# ($k = R_r q$); it now peaks lower the further away you put it. How much lower depends on the pairs that $q$ uses:

# %%
from rope_lab import rotate


def turn(x: Tensor, positions: Tensor) -> Tensor:
    """RoPE alone: rows of x (N, D) to their positions (N,)."""
    return rotate(x, angles(positions, freqs, dtype=x.dtype))


r = torch.tensor([0, 100, 1000, 8192, 100_000])


def peaks_of(q: Tensor) -> Tensor:
    """Peak of q (1, D) with R_r q, over that at distance 0, for every r."""
    keys = turn(q.expand(len(r), -1), r)  # R_r q fits best at distance r
    heights = definition(q, keys, torch.tensor([0]), -r)[0]  # q at 0, its keys at −r
    return heights / q.square().sum()


gauss = torch.randn(1, dim)
slow, fast = gauss.clone(), gauss.clone()
slow[:, :-16], fast[:, 16:] = 0, 0  # content in eight pairs only
columns = {"all pairs": gauss, "fastest 8": fast, "slowest 8": slow}
heights = {name: peaks_of(q) for name, q in columns.items()}
bound = zeta[-1] ** (r / B)
for name, q in columns.items():
    each = (pairs(q).abs().square() * zeta ** (r[:, None] / B)).sum(
        -1
    ) / q.square().sum()
    check(f"eq. 10.8, first line reached, {name}", heights[name], each)
    check_at_most(f"eq. 10.8, {name}", heights[name].abs(), bound)
table(
    zip(r.tolist(), *heights.values(), bound, strict=True),
    {"distance": ",d", **dict.fromkeys(heights, ".1%"), "bound": ".1%"},
    caption="Peak of a query with a key built for this distance, by the pairs that hold the content.",
)

# %% [markdown]
# So every score can be made to fade for good: the answer to the question of this chapter is yes. But *when* it fades still
# depends on the content. The half-lives of the slowest and the fastest pair differ by a factor of 112. At 8,192 tokens this
# query keeps two fifths of its peak if its content is in the slow pairs (which are suspected of carrying meaning, chapter 6),
# and 6% if it is in all pairs.
#
# ## A score that fades is not a key that is forgotten
#
# What does a model gain? Attention takes a softmax. **A score that has faded is 0, and $\mathrm{e}^0$ is not 0.** A far
# key is not left out; it gets the weight of a key that fits neither well nor badly. How much that is depends on how far the
# near scores stick out, so give them a size: let all coordinates of $q$ and $k$ be independent and Gaussian, with mean 0 and such
# a variance that score/$\sqrt D$ has standard deviation $\sigma$ at distance 0. In RoPE it then has $\sigma$ at every distance
# (chapter 6). In xPos each pair contributes less:
#
# $$
# \begin{aligned}
# &\operatorname{Var} \big( \mathrm{score}(m, n)/\sqrt D \big) \\
# &\quad = \sigma^2\, \frac{2}{D} \sum_{i=0}^{D/2-1} \zeta_i^{2(m-n)/B} .
# \end{aligned}
# $$ (eq-10-9)
#
# Given $q$, that score is Gaussian, and a Gaussian of variance $v$ has $\mathbb{E}\,\mathrm{e}^x = \mathrm{e}^{v/2}$.
# Here $v = \frac{2\sigma^2}{D}\sum_i E_i\, \zeta_i^{2(m-n)/B}$, where the $E_i$, the squared lengths of the query's pairs
# in units of their mean, are standard exponential variables with $\mathbb E\, \mathrm e^{aE} = 1/(1-a)$. So for
# $\sigma^2 < D$, the mean weight of a key before it is divided by the sum of all is
#
# $$
# \begin{aligned}
# &\mathbb{E}\, \mathrm{e}^{\mathrm{score}(m, n)/\sqrt D} \\
# &\quad = \prod_{i=0}^{D/2-1} \frac{1}{1 - \sigma^2 \zeta_i^{2(m-n)/B}/D} .
# \end{aligned}
# $$ (eq-10-10)
#
# Infinitely far away this is 1. At $m = n$ every $\zeta$ factor is 1, and for large $D$ it is close to $\mathrm{e}^{\sigma^2/2}$:
# 1.65 for $\sigma = 1$, but 7.4 for $\sigma = 2$ and thousands for $\sigma = 4$.

# %%
seven = torch.tensor([0, 10, 100, 300, 1000, 3000, 10_000])
q, k = torch.randn(2, 20_000, dim)
drawn = ((pairs(q) * pairs(k).conj()) @ arrows(seven, zeta).T).real / dim**0.5


def variance(s: Tensor, zeta: Tensor) -> Tensor:  # equation 10.9 with σ = 1
    return (zeta ** (2 * s[:, None] / B)).mean(-1)


def mean_weight(s: Tensor, zeta: Tensor, size: float) -> Tensor:  # equation 10.10
    return 1 / (1 - size**2 * zeta ** (2 * s[:, None] / B) / dim).prod(-1)


sampling = {"reason": "sampling", "draws": 20_000}
check("eq. 10.9", drawn.var(0), variance(seven, zeta), tolerance=0.05, **sampling)
weights_drawn, by_formula = drawn.exp().mean(0), mean_weight(seven, zeta, 1)
check("eq. 10.10, σ = 1", weights_drawn, by_formula, tolerance=0.04, **sampling)
given_q = pairs(q).abs().square() @ (zeta ** (2 * seven[:, None] / B)).T / dim
ratio = (16 * given_q / 2).exp().mean(0) / mean_weight(seven, zeta, 4)
check("eq. 10.10, σ = 4", ratio, torch.ones(7), tolerance=0.08, **sampling)

# %% [markdown]
# What fraction of its attention does a query then spend on keys more than $B$ tokens back? Given $q$, the scores of different keys
# are independent Gaussians, so they can be drawn directly, for 500 queries with up to 8,192 keys each. For RoPE all keys have
# the same chances, so on average the far ones get the fraction that they are of all keys, whatever $\sigma$ is:

# %%
queries = 500
seen = torch.tensor([1024, 2048, 4096, 8192])  # keys that the query sees
back = torch.arange(8192)
exponential = -torch.rand(queries, dim // 2).log()  # the E_i of each query
fades = {"RoPE": no_fading, "xPos": zeta}
shares = {}
for name, fade in fades.items():
    spread = (exponential @ (fade ** (2 * back[:, None] / B)).T * 2 / dim).sqrt()
    unit_scores = spread * torch.randn(queries, len(back))  # σ = 1
    for size in (1, 2, 4):
        so_far = (size * unit_scores).exp().cumsum(-1)
        share = 1 - so_far[:, [B]] / so_far[:, seen - 1]
        half_width = 1.96 * share.std(0) / queries**0.5
        expected = mean_weight(back, fade, size).cumsum(-1)
        line = 1 - expected[B] / expected
        shares[name, size] = (
            share.mean(0),
            half_width,
            line[B:] if size == 1 else None,
        )
        if name == "RoPE" or size == 1:
            label = f"eq. 10.10, attention on far keys, {name}, σ = {size}"
            prediction = line[seen - 1]
            sampled = {"reason": "sampling", "draws": queries}
            check(label, share.mean(0), prediction, tolerance=0.04, **sampled)

rows = [[f"{name}, σ = {size}", *found[0]] for (name, size), found in shares.items()]
table(
    rows,
    {"": "", **{f"{count:,} keys": ".0%" for count in seen.tolist()}},
    caption="Fraction of the attention on keys more than 512 tokens back.",
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: standard deviation of a random score in units of sigma, against distance: RoPE level at 1, xPos falling from 1 to near 0.2 at 10,000 tokens. Right: fraction of the attention weight on keys more than 512 tokens back, against the number of keys. For sigma 1, RoPE and xPos rise together from about 50 to more than 90 percent. For sigma 4, RoPE is about the same, but xPos is far below, rising from about 10 to 25 percent."}, "figure": {"caption": "Left, the size of a random score: level for RoPE, fading for xPos. Right, the fraction of its attention that a query spends on keys more than 512 tokens back (dots: drawn, with 95% confidence intervals; lines: equation 10.10). At σ = 1 fading hardly changes where the attention goes; at σ = 4 it takes most of it away from the far keys.", "name": "fig-far-share"}}
from rope_lab.figures.xpos import fading

dense = torch.logspace(0, 4, 100)
level = torch.ones(len(dense))
fading(
    seven[1:],
    dense,
    {
        "RoPE": (level[: len(seven) - 1], level),
        "xPos": (drawn.std(0)[1:], variance(dense, zeta).sqrt()),
    },
    seen,
    back[B:] + 1,
    {key: found for key, found in shares.items() if key[1] != 2},
)

# %% [markdown]
# (For $\sigma = 4$ the figure has no line of equation {eq}`eq-10-10`: the few best keys then take most of the weight, and a
# ratio of means no longer says what a typical query does.)
#
# ALiBi {cite:p}`press2022` *subtracts* from a score in proportion to the distance, so that a far weight goes to zero.
# xPos, by contrast, *multiplies* a score, so the weight of a far key approaches that of a key with score 0. That is little where
# near scores stick out, and nearly as much as in RoPE where they do not. The experiment at the end asks which of the two holds in
# a trained model.
#
# :::{admonition} The yardstick of the paper
# :class: dropdown note
#
# The paper argues with a number it calls the attention **resolution**. Let $c(s)$ be the expected score at distance
# $s = 0, \dots, N + 1$ and $p_s = \mathrm{e}^{c(s)}/\sum_{r=0}^{N} \mathrm{e}^{c(r)}$. Its equation 3 is the left side of
#
# $$
# \begin{aligned}
# R &= \sum_{s=0}^{N} p_s\, (p_s - p_{s+1}) \\
# &= \tfrac12 \big( p_0^2 - p_{N+1}^2 \big) \\
# &\quad + \tfrac12 \sum_{s=0}^{N} (p_s - p_{s+1})^2 ,
# \end{aligned}
# $$ (eq-10-11)
#
# meant to be large where scores fall with the distance. The right side, which you get by writing
# $2p_s(p_s - p_{s+1})$ as $p_s^2 - p_{s+1}^2 + (p_s - p_{s+1})^2$, says what it rewards: a high start, and steps in
# *either* direction. A curve that wobbles and ends where it began has a higher resolution than a level one. The folded cell shows that which of the two
# encodings resolves better depends on how large scores are, and that is not in the formula. (By the formula
# $R \le \sum_s p_s^2 \le 1$; the measured resolutions in the paper's Table 3 reach 1.08, so they are in another unit.) We
# take resolution as a motive, not as a proof.
# :::


# %% tags=["hide-cell"]
def resolution(c: Tensor) -> Tensor:
    """Left side of equation 10.11 for c(0) … c(N + 1)."""
    p = (c - c[0]).exp()
    p = p / p[:-1].sum()
    return (p[:-1] * (p[:-1] - p[1:])).sum()


N = 2048
to_N = torch.arange(N + 2.0)
rope_curve, xpos_curve = mean_cosine(to_N, no_fading), mean_cosine(to_N, zeta)
p = xpos_curve.softmax(0) / xpos_curve.softmax(0)[:-1].sum()
steps_of_p = (p[0] ** 2 - p[-1] ** 2) / 2 + p.diff().square().sum() / 2
check("eq. 10.11", resolution(xpos_curve), steps_of_p)
table(
    [
        [size, N * resolution(size * rope_curve), N * resolution(size * xpos_curve)]
        for size in (1, 4, 16)
    ],
    {"score at distance 0": "", "RoPE": ".4f", "xPos": ".4f"},
    caption="N·R at N = 2,048, by the size of a score at distance 0.",
)

# %% [markdown]
# ## Why only causal
#
# Equation {eq}`eq-10-1` was asked for $m \ge n$. For a key *ahead* of the query the same formula runs backwards, and
# the factor grows without bound:

# %%
from rope_lab import MultiHeadAttention

for ahead in (1, 512, 2048, 8192):
    print(
        f"a key {ahead:5,d} tokens ahead: fastest pair times {float(zeta[0] ** (-ahead / B)):.4g}"
    )
try:
    MultiHeadAttention(64, 4, position=XPos(16), causal=False)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# A fading in both directions, $\zeta^{|m-n|/B}$, cannot be written as the product of a factor for the query and a factor for
# the key: equation {eq}`eq-10-2` leaves no room for it. So xPos is for decoders, as users who ask about encoders are told
# ([rotary-embedding-torch#3](https://github.com/lucidrains/rotary-embedding-torch/issues/3)).
#
# ## Two factors that do not fit a number
#
# The factor that multiplies a score is at most 1. Its two parts are not: the query is multiplied by $\zeta_i^{m/B}$ and the
# key by $\zeta_i^{-n/B}$. Far into a text the first vanishes and the second overflows. The fastest pair, with
# $\zeta_0 = 1/3.5$, is the first to leave a number type whose largest number is $M$, beyond
#
# $$ n = \frac{B \ln M}{\ln 3.5} \text{ tokens from the origin} . $$ (eq-10-12)
#
# The deliberately naive version, checked where it works and then pushed to where it does not:


# %%
def naive(x: Tensor, distance: Tensor) -> Tensor:
    """x_i · ζ_i^(distance/B) for interleaved x (..., N, D), distance (N,)."""
    scale = zeta ** (distance[:, None] / B)
    return x * scale.repeat_interleave(2, dim=-1)


q_naive = naive(turn(heads[0], positions), positions)
k_naive = naive(turn(heads[1], positions), -positions)
check("eq. 10.4, naive", q_naive @ k_naive.mT, wanted, draws=10)

rows = []
for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
    last = math.floor(B * math.log(torch.finfo(dtype).max) / math.log(3.5))
    power_of = torch.tensor([last, last + 1]) / B
    there, one_on = (math.log(3.5) * power_of).exp().to(dtype).tolist()
    rows.append([f"`{str(dtype)[6:]}`", last, there, one_on])
table(
    rows,
    {
        "type": "",
        "last position that fits": ",d",
        "factor there": ".3g",
        "one further": ".3g",
    },
)

# %% [markdown]
# The paper says that its fading was chosen to fit float16 up to $n = 8192$. Counted from the first token it does not fit.
# It fits with a trick that is in the authors' code. Only $m - n$ matters, so positions may be counted from any
# **centre** $c$ that query and key share:
#
# $$ \zeta_i^{(m-c)/B} \cdot \zeta_i^{(c-n)/B} = \zeta_i^{(m-n)/B} . $$ (eq-10-13)
#
# With the centre in the middle of 8,192 tokens a key is at most 4,096 from it. That doubles the range, and no more:
# local-attention, which took half its window as $B$, gave NaN for audio of 9,000 frames
# ([local-attention#14](https://github.com/lucidrains/local-attention/issues/14)).
#
# ### The first query of the block
#
# Take the queries in blocks of $B$ or fewer, and for each block let $c$ be its **first query**. A causal query at
# $m = c, \dots, c + B - 1$ sees keys at $n \le m$. Its own factor and that of a key of the past are then at most 1,
# and a key inside the block is at most $B - 1$ tokens ahead of the centre:
#
# $$
# \begin{aligned}
# \tfrac{1}{3.5} < \zeta_i^{(m-c)/B} &\le 1 , \\
# \zeta_i^{(c-n)/B} &\le 1 \quad (n \le c) , \\
# \zeta_i^{(c-n)/B} &< 3.5 \quad (n < c + B) .
# \end{aligned}
# $$ (eq-10-14)
#
# With the first query as centre ({numref}`fig-first-query`) nothing overflows at any position and any length, unless a key is
# within a factor of 3.5 of the largest number by itself. What underflows is the factor of a key so far back that, unless
# $q_i \bar k_i$ is very large, its part of the score would underflow by itself.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Factors of the fastest pair along a text of 4,096 tokens, log axis. About position 0, dashed: the factor of the keys rises to thousands and that of the queries falls below a thousandth. About the first query of a grey block of 512 queries, full: the keys rise from far below 1 to 1 at the start of the block and to 3.5 at its end, and the queries fall from 1 to 1 / 3.5 within the block."}, "figure": {"caption": "Factors of the fastest pair along a text, for one block of queries (grey). Counted from position 0 (dashed), the factors of query and key drift apart without limit. Counted from the first query of the block (full), every factor of a key that a query of the block may see is below 3.5.", "name": "fig-first-query"}}
from rope_lab.figures.xpos import first_query

here = torch.arange(4096)
start = 3584
inside = torch.arange(start, start + B)
first_query(
    here,
    (start, start + B),
    {
        "keys": zeta[0] ** ((start - here) / B),
        "queries": zeta[0] ** ((inside - start) / B),
    },
    (zeta[0] ** (-here / B), zeta[0] ** (inside / B)),
)

# %% [markdown]
# `XPos` does this in `relate`, which attention calls with every block
# of `query_block` queries and all keys that they may see. In its source, `_scale(x, distance)` multiplies pair $i$ of `x` by
# $\zeta_i^{\mathrm{distance}/B}$:

# %% tags=["hide-input"]
from rope_lab.figures.source import source

source(XPos.relate)

# %%
block = torch.arange(1_000_000 - B, 1_000_000)  # queries
past = torch.arange(0, 1_000_000 - B, 2000)  # a key now and then
at_million = torch.cat((past, block))
units = torch.ones(1, 1, len(at_million), dim)
q_factor, k_factor = xpos.relate(units[..., -B:, :], units, block, at_million)
k_past, k_block = k_factor.split([len(past), B], dim=-2)
check_at_most("eq. 10.14, queries", q_factor, 1.0)
check_at_most("eq. 10.14, past keys", k_past, 1.0)
check_at_most("eq. 10.14, keys of the block", k_block, 3.5)

# %% [markdown]
# A million tokens into a text the scores are those of equation {eq}`eq-10-4`, up to the rounding of the number type:

# %%
visible = block[:, None] >= at_million
allowed = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2}
for dtype, tolerance in allowed.items():
    q_exact = torch.randn(1, 1, B, dim).to(dtype)
    k_exact = torch.randn(1, 1, len(at_million), dim).to(dtype)
    in_float64 = definition(q_exact.double(), k_exact.double(), block, at_million)[
        ..., visible
    ]
    q_turned, _, _ = xpos.rotate(q_exact, q_exact, q_exact, block)
    k_turned, _, _ = xpos.rotate(k_exact, k_exact, k_exact, at_million)
    q_typed, k_typed = xpos.relate(q_turned, k_turned, block, at_million)
    scores = (q_typed.double() @ k_typed.double().mT)[..., visible]
    label = f"eq. 10.4 at 1,000,000, {str(dtype)[6:]}"
    check(label, scores, in_float64, tolerance=tolerance)

# %% [markdown]
# Compare the lengths that fit, by equation {eq}`eq-10-12` and by trying:


# %%
def longest_text(dtype: torch.dtype, base: int, centre: float) -> int:
    """Tokens whose factors are finite, by bisection; centre: a share of them."""
    fits, fails = 1, 2**21
    while fails - fits > 1:
        length = (fits + fails) // 2
        power = (length - 1 - int(centre * length)) / base
        finite = torch.tensor(power * math.log(3.5)).exp().to(dtype).isfinite()
        fits, fails = (length, fails) if finite else (fits, length)
    return fits


bases = [16, 64, 256, 512, 1024, 4096]
limits, tried = {}, {}
for dtype in (torch.float16, torch.float32):
    for where, centre in {"centre 0": 0.0, "middle": 0.5}.items():
        name = f"{str(dtype)[6:]}, {where}"
        in_bases = math.log(torch.finfo(dtype).max) / math.log(3.5)
        limits[name] = torch.tensor(bases) * in_bases / (1 - centre)
        found = [longest_text(dtype, base, centre) for base in bases]
        tried[name] = torch.tensor(found).double()
        ratio, one = tried[name] / limits[name], torch.ones(len(bases))
        label = f"eq. 10.12, {name}"
        check(label, ratio, one, tolerance=0.01, reason="approximation")
with_one = longest_text(torch.float32, 1, 0.5)
print(f"float32, scale base 1, centre in the middle: {with_one} tokens")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Longest text against scale base from 16 to 4,096 tokens, both logarithmic. Four parallel rising lines with dots on them: float16 with centre 0 lowest, then float16 with the centre in the middle, float32 with centre 0, and float32 with the centre in the middle. A horizontal line above all of them: first query of the block, no limit."}, "figure": {"caption": "The longest text whose factors all fit, by equation 10.12 (lines) and by trying (dots). A small scale base, as for half a window of 128, ends float16 soon after a thousand tokens even with the centre in the middle. With the centre at the first query of each block there is no such line.", "name": "fig-frontier"}}
from rope_lab.figures.xpos import frontier

frontier(bases, limits, tried)

# %% [markdown]
# ## The cache
#
# While a model decodes, keys of past tokens stay in a cache. A RoPE key can be cached rotated: its angle never changes.
# An xPos key that is cached *scaled* carries the centre it was scaled about. If the centre is the middle of the text,
# it moves when the text grows; new queries are scaled about the new centre $c'$ and the old keys still about $c$. Pair $i$
# of every old score is then off by
#
# $$
# \frac{\zeta_i^{(m-c')/B}\; \zeta_i^{(c-n)/B}}{\zeta_i^{(m-n)/B}} = \zeta_i^{-(c'-c)/B} > 1 .
# $$ (eq-10-15)
#
# Old keys become too loud, the fast pairs most. Nothing fails. Here is that cache, for one head that reads 64 tokens and
# then decodes to 2,048:


# %%
class ScaledCache:
    """xPos about the middle of the text so far. Do not use."""

    def __init__(self) -> None:
        self.keys = torch.zeros(0, dim)  # scaled

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """New tokens q, k (N, D): their scores with all keys, (N, N_k)."""
        at = torch.arange(len(self.keys), len(self.keys) + len(k))
        centre = int(at[-1] + 1) // 2
        self.keys = torch.cat((self.keys, naive(turn(k, at), centre - at)))
        return naive(turn(q, at), at - centre) @ self.keys.T


q_long, k_long = torch.randn(2, 2048, dim)
at, cache = torch.arange(2048), ScaledCache()
prompt_scores = cache.scores(q_long[:64], k_long[:64])
right = definition(q_long[:64], k_long[:64], at[:64], at[:64])
check("eq. 10.13, before the centre moves", prompt_scores, right)

rows = []
for t in range(64, 2048):
    new = slice(t, t + 1)
    row = cache.scores(q_long[new], k_long[new])[0]
    if t + 1 in (128, 256, 512, 1024, 2048):
        right = definition(q_long[new], k_long[: t + 1], at[new], at[: t + 1])[0]
        wrong = row - right
        rows.append(
            [t + 1, wrong[:64].norm() / right[:64].norm(), wrong.norm() / right.norm()]
        )
    if t == 127:  # the centre has moved from 32 to 64
        stale = row[:64]

too_loud = zeta ** (-(64 - 32) / B) * arrows(127 - at[:64], zeta)
terms = pairs(q_long[127]) * pairs(k_long[:64]).conj() * too_loud
check("eq. 10.15", stale, terms.sum(-1).real)
table(
    rows,
    {"decoded to": ",d", "first 64 scores, off by": ".1%", "all scores, off by": ".1%"},
    caption="Error of the newest query's scores, relative to their size.",
)

# %% [markdown]
# Two centres can also differ without a stale key. rotary-embedding-torch 0.9.1 caches its keys unscaled, but takes the centre
# for the queries from the *number of queries*, and that for the keys from the number of keys. With a single query the two are
# half the text apart, and the scores come out too quiet rather than too loud (reproduced by our adapter):

# %%
from rope_lab.interop import rotary_embedding_torch

theirs = rotary_embedding_torch.RotaryEmbedding(
    dim, use_xpos=True, xpos_scale_base=B, reproduce=True
).double()
rows = []
for count in (64, 512, 2048):
    new, past_keys = slice(count - 1, count), k_long[None, None, :count]
    newest = q_long[None, None, new]
    right = definition(newest, past_keys, at[new], at[:count])
    q_theirs, k_theirs = theirs.rotate_queries_with_cached_keys(newest, past_keys)
    found = q_theirs @ k_theirs.mT
    rows.append(
        [count, (found - right).norm() / right.norm(), (found / right).median()]
    )
table(
    rows,
    {"keys": ",d", "scores off by": ".1%", "median of found / exact": ".2f"},
    caption="One new query with cached keys, by the rule of rotary-embedding-torch 0.9.1.",
)

# %% [markdown]
# Two things together make a cache exact at any length: one centre for queries and keys, and keys that are cached rotated
# but *unscaled*. ({ref}`ex-10-3` has another way.) In `rope_lab`, `rotate` runs before the cache and `relate` after it, over all
# keys. So attention with a cache of the tokens $0, \dots, t - 1$ gives what attention to the whole text $x$ gives,
#
# $$
# \begin{aligned}
# &\mathrm{attention}(x_t \mid \mathrm{cache}) \\
# &\quad = \mathrm{attention}(x_0, \dots, x_t)_t ,
# \end{aligned}
# $$ (eq-10-16)
#
# wherever the prompt ends and the decoding begins. With $B = 8$ the text below is more than five blocks:

# %%
from rope_lab import KVCache

layer = MultiHeadAttention(64, 4, position=XPos(16, scale_base=8))
hidden = torch.randn(2, 45, 64)
with torch.no_grad():
    whole = layer(hidden)
    split = []
    for prompt in range(1, 45):
        kept = KVCache(45)
        parts = [layer(hidden[:, :prompt], cache=kept)]
        for t in range(prompt, 45):
            parts.append(layer(hidden[:, t : t + 1], cache=kept))
        split.append(torch.cat(parts, dim=1))
same = whole.expand(len(split), -1, -1, -1)
check("eq. 10.16, every split", torch.stack(split), same)

# %% [markdown]
# The price: every step multiplies all cached keys, which it has to read anyway, and in this package also writes a scaled copy
# of them.
#
# ## Does it help beyond the context?
#
# Train small models on 64 characters of Tiny Shakespeare at a time, and let them read 512. The training loop is the
# one of chapter 13; only the encoding changes. (Queries and keys are normalised without a gain, so no score can grow
# beyond a bound; chapter 15 shows what that does beyond the context.) xPos comes twice: with the usual $B = 512$,
# which within 64 tokens hardly fades anything, and with $B = 32$, which keeps the ratio of the paper: there the
# trained context is $2B = 1{,}024$.
#
# Beyond the context the paper adds a second device, a mask by which a token sees only its own block of half a context and
# the block before it, so that no distance is new to the model. We therefore evaluate each model twice: with attention to
# all earlier tokens, and, without more training, with an attention window as long as the trained context.

# %%
import os
from itertools import pairwise

from rope_lab import RoFormer, RotaryEmbedding
from rope_lab.figures.training import in_turn
from rope_lab.training import preset, tiny_shakespeare, token_losses, train

torch.set_default_dtype(torch.float32)
budget = os.environ.get("ROPE_LAB_PRESET", "cpu")  # "smoke" takes seconds
smoke = budget == "smoke"
corpus, context = tiny_shakespeare(), 64
steps, width = (8, 32) if smoke else (200, 64)
shape = {"context": context, "dim": width, "depth": 2, "heads": 2, "qk_gain": False}
config = preset("cpu", steps=steps, seed=10, evaluations=1, **shape)
head_dim = width // 2
val_ids = corpus.encode(corpus.val)


def trained(position: RotaryEmbedding) -> RoFormer:
    torch.manual_seed(config.seed)
    model = RoFormer(config.architecture(len(corpus.vocab)), position)
    return train(config, corpus, start=model, quiet=True).model.eval()


kinds = {
    "RoPE": RotaryEmbedding(head_dim),
    "xPos, B = 512": XPos(head_dim, scale_base=512),
    "xPos, B = 32": XPos(head_dim, scale_base=32),
}
models = {name: trained(kinds[name]) for name in in_turn([*kinds])}
count = sum(p.numel() for p in models["RoPE"].parameters())
print(f"three models of {count:,} parameters, {config.steps} updates each")


# %%
length, sequences = 8 * context, 8 if smoke else 64
held_out = val_ids[: length * sequences + 1]
edges = [0, 16, 32, 64, 96, 128, 192, 256, 384, 512]


def losses(model: RoFormer, window: int | None) -> Tensor:
    """Loss of every character, (sequences, length)."""
    for block in model.blocks:
        block.attention.window = window  # keys seen, the query's own included
    return token_losses(model, held_out, length, batch=8).float()


lines, far, beyond_by_text, rows = {}, {}, {}, []
for name, model in models.items():
    for window in (None, context):
        loss = losses(model, window)
        groups = [loss[:, a:b].mean(1) for a, b in pairwise(edges)]
        label = f"{name}, window" if window else name
        means = torch.stack([group.mean() for group in groups])
        half_widths = torch.stack([2.0 * g.std() / len(g) ** 0.5 for g in groups])
        lines[label] = (means, half_widths, name)
        beyond_by_text[label] = loss[:, 4 * context :].mean(1)
        far[label] = float(beyond_by_text[label].mean())
        inside = float(loss[:, :context].mean())
        just_out = float(loss[:, context : 2 * context].mean())
        rows.append([label, inside, just_out, far[label]])

if not smoke:  # at least a tenth of a nat apart
    check_at_most("beyond the context, fading", far["xPos, B = 32"], far["RoPE"] - 0.1)
    for name in models:
        label = f"{name}, window"
        check_at_most(f"beyond the context, {label}", far[label], far[name] - 0.1)
table(
    rows,
    {"model": "", "places 1–64": ".3f", "65–128": ".3f", "257–512": ".3f"},
    caption="Mean loss in nats per character, by place in the sequence.",
)

# %%
for name in ("xPos, B = 512", "xPos, B = 32"):
    lead = beyond_by_text["RoPE, window"] - beyond_by_text[f"{name}, window"]
    half_width = 2.0 * lead.std() / len(lead) ** 0.5
    print(
        f"places 257–512, window: RoPE − {name}: {lead.mean():+.3f} ± {half_width:.3f}"
    )
    if not smoke:
        check_at_most(f"with a window, RoPE and {name} alike", abs(lead.mean()), 0.03)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against place in the sequence from 8 to 450 characters, log axis, for RoPE, xPos with B = 512 and xPos with B = 32. Within the trained 64 characters the three lie together. Beyond, the full lines rise, RoPE the most and xPos with B = 32 the least. The dashed lines, with a window of 64, stay level and close together."}, "figure": {"caption": "Loss by place, trained on 64 characters, with 95% confidence intervals over the sequences. Beyond the context every encoding gets worse, xPos more slowly (full lines). With a window none does, and the three are close together (dashed).", "name": "fig-beyond"}}
from rope_lab.figures.xpos import beyond

middles = [(a + b + 1) / 2 for a, b in pairwise(edges)]
beyond(middles, lines, context)

# %% [markdown]
# Three findings, at this scale. Within the context fading makes little difference. Beyond it xPos does what it was made
# for: the loss still rises, but less, and less again with the smaller $B$. And the window does more than either:
# without any training it keeps the loss level, and with it RoPE and xPos differ by about a hundredth of a nat or less.
#
# Why does fading not do what the window does? Look at each head: the size $\sigma$ of its scores, and the fraction of its
# attention that goes to keys 64 or more tokens back (a window would leave 0%). The control takes the fading out of the same
# queries and keys:

# %%
import torch.nn.functional as F

sample = held_out[:-1].view(sequences, length)[:8]
at_512 = torch.arange(length)
gap = at_512[:, None] - at_512  # query minus key


def head_sizes(model: RoFormer, position: RotaryEmbedding) -> list[tuple[float, float]]:
    """For each head, σ of its unrotated scores and its attention on far keys."""
    found: list[tuple[float, float]] = []

    def measure(attention: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        q, k = (
            F.rms_norm(f(inputs[0]).unflatten(-1, (2, -1)), (head_dim,)).transpose(1, 2)
            for f in (attention.query, attention.key)
        )
        near = (q[..., :context, :] @ k[..., :context, :].mT) / head_dim**0.5
        sigma = near.transpose(0, 1).flatten(1).std(1)
        q, k, _ = position.rotate(q, k, k, at_512)
        q, k = position.relate(q, k, at_512, at_512)
        weights = (q @ k.mT / head_dim**0.5).masked_fill(gap < 0, -math.inf).softmax(-1)
        on_far = (weights * (gap >= context)).sum(-1)[..., 4 * context :].mean((0, 2))
        found.extend(zip(sigma.tolist(), on_far.tolist(), strict=True))

    for block in model.blocks:
        block.attention.window = None
    hooks = [
        block.attention.register_forward_pre_hook(measure) for block in model.blocks
    ]
    with torch.no_grad():
        model(sample)
    for hook in hooks:
        hook.remove()
    return found


def in_words(numbers: list[float], form: str) -> str:
    return " · ".join(format(number, form) for number in numbers)


encodings = {
    "RoPE": RotaryEmbedding(head_dim),
    "xPos, B = 512": XPos(head_dim, scale_base=512),
    "xPos, B = 32": XPos(head_dim, scale_base=32),
}
rows = []
for name, model in models.items():
    sigmas, with_fading = zip(*head_sizes(model, encodings[name]), strict=True)
    _, without = zip(*head_sizes(model, encodings["RoPE"]), strict=True)
    rows.append(
        [
            name,
            in_words(sigmas, ".1f"),
            in_words(with_fading, ".0%"),
            in_words(without, ".0%"),
        ]
    )
    if name != "RoPE" and not smoke:  # more than half of the far attention survives
        most = torch.tensor(without) / 2
        check_at_most(f"far attention, fading, {name}", most, torch.tensor(with_fading))
table(
    rows,
    ["model", "σ of the four heads", "attention on far keys", "without the fading"],
    caption="Heads of layers 1 and 2: σ at places 1–64, attention of places 257–512.",
)

# %% [markdown]
# The sizes are near 1 in most heads and about 2 in one, and at such sizes faded keys still draw most of the attention that
# they would draw without fading. (Queries and keys of these models are normalised, so that no score/$\sqrt D$ can exceed
# $\sqrt{32} \approx 5.7$. A model without that may have larger scores, and gain more from fading.)
#
# :::{admonition} The same cases in the paper
# :class: dropdown note
#
# The paper's Table 5 has these cases for models trained on 1,024 tokens that read longer arXiv papers (perplexities of
# {cite:t}`sun2023`, not reproduced here):
#
# | | 2,048 tokens | 4,096 tokens |
# |---|---|---|
# | RoPE | 73.6 | 294.45 |
# | xPos | 22.56 | 28.43 |
# | RoPE, with the mask | 25.57 | 25.65 |
# | xPos, with the mask | 21.6 | 20.73 |
#
# There too fading makes the rise much smaller and does not stop it, and the mask stops it without any fading. What our
# experiment does not see is a clear lead of xPos when both have the mask.
# :::
#
# :::{admonition} What this experiment does not show
# :class: note
#
# These are three tiny models, one seed each, trained for seconds on characters, where little is to be gained from afar. The
# intervals are over sequences, not over trainings. Chapter 14 compares the encodings with three seeds.
# :::
#
# ## In the wild
#
# - **A scale base of 1.** flash-attention left the base to its users without advice. With 1, float32 overflows some 70 tokens
#   from the centre, that is, in any text of more than about 140; an author of xPos came to recommend 512
#   ([flash-attention#96](https://github.com/Dao-AILab/flash-attention/issues/96)).
# - **Two layouts in one function.** rotary-embedding-torch 0.6.5 rotated neighbouring coordinates but scaled the two of a pair
#   differently, as if pairs were halves apart. A user showed it with the length of a rotated unit vector, which should not depend
#   on the angle ([rotary-embedding-torch#34](https://github.com/lucidrains/rotary-embedding-torch/pull/34)). In the folded
#   cell below, one query and one key at one distance then have different scores at different positions.
# - **Small in short texts.** At $B = 512$ a wrong centre or a mixed layout changes the scores of a few dozen tokens by a few
#   percent of their size, so a short test does not reveal it. Test at the length that you mean to use.
#
# :::{admonition} Two more, about centres and keys
# :class: dropdown note
#
# *A centre for each text.* Packed texts of different lengths have different middles, and a user asked whether their
# scores still agree ([flash-attention#522](https://github.com/Dao-AILab/flash-attention/issues/522)). They do, by
# equation {eq}`eq-10-13`, as long as query and key of one score have the same centre.
#
# *More keys than queries.* With memories in front of the new tokens the factors were as many as the keys, the queries
# fewer, and the shapes did not fit
# ([x-transformers#233](https://github.com/lucidrains/x-transformers/issues/233)). That error was good luck. Another function,
# for cached keys, ignored xPos altogether and so raised no error
# ([rotary-embedding-torch#27](https://github.com/lucidrains/rotary-embedding-torch/issues/27)), and what replaced it is
# measured above. flash-attention's layers reject xPos in their cached path, with an assertion.
# :::

# %% tags=["hide-cell"]
same_q, same_k = torch.randn(2, dim, dtype=torch.float64)
places = torch.arange(100, 1024)
mistakes = {}
for name, repeated in {
    "pairs": zeta.double().repeat_interleave(2),
    "halves": torch.cat((zeta, zeta)).double(),  # the layout of another rotation
}.items():
    q_at = turn(same_q.expand(len(places), -1), places) * repeated ** (
        (places[:, None] - 512) / B
    )
    k_at = turn(same_k.expand(len(places), -1), places - 100) * repeated ** (
        (612 - places[:, None]) / B
    )
    mistakes[name] = (q_at * k_at).sum(-1)
one_value = mistakes["pairs"][:1].expand(len(places))
check("eq. 10.1, scaled in pairs", mistakes["pairs"], one_value)
spread = mistakes["halves"].max() - mistakes["halves"].min()
print(
    f"scaled in halves: from {mistakes['halves'].min():.2f} to {mistakes['halves'].max():.2f}"
)
check_at_most(
    "scaled in halves, the score depends on the position", 0.01, float(spread)
)

# %% [markdown]
# ## Summary
#
# - A complex exponent instead of an imaginary one is the only way to multiply each pair of queries and keys by one complex
#   number so that scores fade and stay relative; it needs a causal mask.
# - Only the distance matters, so count from the first query of each block, and cache keys unscaled: exact at any
#   position, however the text is split.
# - A faded score is 0, not $-\infty$. How much attention that takes from far keys depends on the size of the near scores: hardly
#   any at $\sigma = 1$, most of it at $\sigma = 4$. Beyond the context xPos lets the loss of our models rise less; with a window it
#   does not rise.
#
# ## Exercises
#
# Each checker tells you what it found; the open question has none. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-10-1
# ```
#
# Write `scale_base(dim, pair, distance, share)`: the scale base $B$ with which pair `pair` of a head of `dim`
# coordinates keeps exactly the fraction `share` of its strength at `distance` tokens.

# %%
from rope_lab.exercises.ch10 import check_scale_base


def scale_base(dim: int, pair: int, distance: int, share: float) -> float:
    return None  # your turn: one number


check_scale_base(scale_base)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-10-1
# :label: sol-10-1
# ```
#
# Solve $\zeta_i^{s/B} = p$ for $B$, as equation {eq}`eq-10-6` solves it for $s$ with $p = 1/2$.


# %%
def scale_base(dim: int, pair: int, distance: int, share: float) -> float:
    zeta = (2 * pair / dim + 0.4) / 1.4
    return distance * math.log(zeta) / math.log(share)


check_scale_base(scale_base)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-10-2
# ```
#
# The coordinates of a key have sizes up to `size`. Write `farthest_key(dtype, base, size)`: the largest whole number of
# tokens past the centre at which all of them, multiplied by their factors, are at most the largest number of `dtype`,
# whichever pair holds the largest one.

# %%
from rope_lab.exercises.ch10 import check_farthest_key


def farthest_key(dtype: torch.dtype, base: int, size: float) -> int:
    return None  # your turn


check_farthest_key(farthest_key)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-10-2
# :label: sol-10-2
# ```
#
# In equation {eq}`eq-10-12` the factor may grow to $M$ over `size` only; round down. The fastest pair has the largest
# factor.


# %%
def farthest_key(dtype: torch.dtype, base: int, size: float) -> int:
    room = torch.finfo(dtype).max / size
    return math.floor(base * math.log(room) / math.log(3.5))


check_farthest_key(farthest_key)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-10-3
# ```
#
# A cache holds keys of shape `(N, D)`, interleaved, rotated and scaled about the centre `old`. Write
# `recentre(keys, old, new, base)`, which returns them scaled about `new`. You are not told their positions.

# %%
from rope_lab.exercises.ch10 import check_recentre


def recentre(keys: Tensor, old: int, new: int, base: int) -> Tensor:
    return None  # your turn: shape (N, D)


check_recentre(recentre)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-10-3
# :label: sol-10-3
# ```
#
# Ζ^((new − n)/B) over ζ^((old − n)/B); the position cancels.


# %%
def recentre(keys: Tensor, old: int, new: int, base: int) -> Tensor:
    dim = keys.shape[-1]
    zeta = (torch.arange(0, dim, 2, dtype=keys.dtype) / dim + 0.4) / 1.4
    return keys * (zeta ** ((new - old) / base)).repeat_interleave(2)


check_recentre(recentre)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-10-4
# ```
#
# `fading_attention` is to compute the causal attention of one head with xPos. `q`, `k` and `v` have shape `(N, D)`,
# the pairs are interleaved, and `q` and `k` are rotated already; the centre is position 0, which is good enough for a
# few tokens. Its scores fade as they should, and its weights are positive and sum to one. Correct it.

# %%
from rope_lab.exercises.ch10 import check_fading_attention


def fading_attention(q: Tensor, k: Tensor, v: Tensor, base: int) -> Tensor:
    N, D = q.shape
    zeta = (torch.arange(0, D, 2, dtype=q.dtype) / D + 0.4) / 1.4
    fade = zeta ** (torch.arange(N)[:, None] / base)  # (N, D/2)
    fade = fade.repeat_interleave(2, dim=-1)  # (N, D)
    scores = (q * fade) @ (k / fade).T / D**0.5
    return scores.tril().softmax(-1) @ v


check_fading_attention(fading_attention)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-10-4
# :label: sol-10-4
# ```
#
# `tril` sets the scores of keys ahead of the query to 0, and $\mathrm{e}^0$ is not 0: each of them gets the weight of
# a key that fits neither well nor badly. Only minus infinity leaves a key out.


# %%
def fading_attention(q: Tensor, k: Tensor, v: Tensor, base: int) -> Tensor:
    N, D = q.shape
    zeta = (torch.arange(0, D, 2, dtype=q.dtype) / D + 0.4) / 1.4
    fade = zeta ** (torch.arange(N)[:, None] / base)  # (N, D/2)
    fade = fade.repeat_interleave(2, dim=-1)  # (N, D)
    scores = (q * fade) @ (k / fade).T / D**0.5
    ahead = torch.ones(N, N, dtype=torch.bool).triu(1)
    return scores.masked_fill(ahead, -torch.inf).softmax(-1) @ v


check_fading_attention(fading_attention)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-10-5
# ```
#
# “With xPos, the score of a query with a copy of itself gets smaller the further back the copy is.” Let the key be
# equal to the query before both are rotated (with the frequencies of base 10,000) and scaled (with the scale base
# `base`). Write `louder(dim, base, near, far)`: a query of shape `(dim,)`, interleaved, whose score with its copy is
# larger `far` tokens back than `near` tokens back, or `None` if no query has this property. Every query that has it
# is correct.

# %%
from rope_lab.exercises.ch10 import check_louder


def louder(dim: int, base: float, near: int, far: int) -> Tensor | None:
    return None  # your turn: shape (dim,), or None


check_louder(louder)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-10-5
# :label: sol-10-5
# ```
#
# With $k = q$, equation {eq}`eq-10-4` is $\sum_i |q_i|^2\, \zeta_i^{s/B} \cos s\theta_i$: a sum over the pairs whose
# weights $|q_i|^2$ are not negative. It is larger at `far` for some query exactly if it is larger there in one pair,
# and then a query with content in that pair alone will do. So the sentence is wrong wherever some pair comes back
# from a turn faster than it fades, and right for `near = 0`, where every cosine is 1.


# %%
def louder(dim: int, base: float, near: int, far: int) -> Tensor | None:
    zeta = (torch.arange(0, dim, 2, dtype=torch.float64) / dim + 0.4) / 1.4
    there, here = (
        zeta ** (s / base) * (s * frequencies(dim)).cos() for s in (far, near)
    )
    best = int((there - here).argmax())
    if there[best] <= here[best]:
        return None
    q = torch.zeros(dim)
    q[2 * best] = 1
    return q


check_louder(louder)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-10-6
#
# A decoder with RoPE and full attention was trained on 4,096 tokens and is to read 32,768. One colleague wants to
# train it further with xPos and $B = 512$, another wants to leave RoPE alone and add a window of 4,096. What would
# you measure in the model you have, before anything is trained, and what would each outcome speak for?
# ```
#
# ```{solution} ex-10-6
# :label: sol-10-6
#
# *The size of its scores.* Compute the standard deviation $\sigma$ of score/$\sqrt D$ for each head. Near 1, a faded
# key keeps almost the share of attention that it has now (see {eq}`eq-10-10` and the table below it), so xPos would
# change little about where the attention goes; near 4, fading would take most of it away from far keys.
#
# *The window as it is.* Attach the window without any training and measure the loss by place. If it stays level, as
# in {numref}`fig-beyond`, the cheap proposal already works, and xPos would have to beat that and not the model
# without a window. In our small models it did not.
#
# *What far keys are good for.* Neither of these says whether anything far back is needed. Test with a question whose
# answer is beyond 4,096 tokens. A window reaches it only through several layers (chapter 12). xPos still sees it, but
# after eight times $B$ tokens the fast pairs are silent, and only content in slow pairs is left (see {eq}`eq-10-6`).
#
# *The cost.* xPos needs keys that are cached unscaled and multiplied at every step, which a fused kernel may not
# offer; a window makes the cache smaller.
# ```
#
# ## References
#
# - {cite:t}`sun2023`, sections 3.1 to 3.3 and equations 3, 8 and 9: resolution, xPos and the blocks.
# - {cite:t}`press2022`: ALiBi, which fades by subtraction.
# - {cite:t}`sun2023retnet`: the same number per token in a recurrence, without a softmax.
#
# This chapter checks the paper's formulas and reproduces none of its trained results. What it says of other libraries is
# what their threads, linked above, report, and what their code did when it was read. Full entries are on the page
# {doc}`/book/references`.
