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
# The score of RoPE falls at first and then wobbles, at every distance there is (chapter 6). A model that reads further
# than it was trained to meets wobbles it has never seen. **Can a score be made to fade for good, and still know nothing
# but the distance?**
#
# xPos {cite:p}`sun2023` lets each pair of coordinates lose its strength with the distance, the fast ones first. Here is
# what all 64 pairs of a head add to a score, as in chapter 6, but fading:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Above, a map of cos(s theta_i) times the fading factor for 64 pairs over distances 1 to 100,000 on a logarithmic axis. Stripes of red and blue begin at a diagonal and pale to white at a black curve, labelled half faded, that bends from a few hundred tokens for the fast pairs to tens of thousands for the slow ones. Below, the mean over the pairs: RoPE and xPos fall together up to a few hundred tokens; then RoPE jitters around zero to the end while xPos goes smoothly to zero."}, "figure": {"caption": "The black curve is where a pair has lost half of its strength. A pair may turn many times before it gets there: xPos leaves short distances as they are and silences the stripes of the long ones. Below, the mean over the pairs, which for RoPE is the curve of chapter 6.", "name": "fig-fading-map"}}
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
fading_map(distances, faded, plain, half_lives)

# %% [markdown]
# The curve below goes to zero and stays there. This chapter derives the fading from the same wish as RoPE, computes it
# without an overflow at any position, keeps it exact under a cache, and asks what it buys. The answer to that is
# less than the picture promises.
#
# ## Two stamps instead of one
#
# In chapter 3 one stamp served queries and keys, and for that reason it could not change a length. Allow
# two. In each pair, with complex numbers, a query $q$ at position $m$ becomes $q\,\alpha_m$ and a key $k$ at position
# $n$ becomes $k\,\beta_n$, with complex $\alpha_m$ and $\beta_n$ and $\alpha_0 = \beta_0 = 1$. The wish is the old one,
# for every key that a causal model sees: what positions do to a score depends on the distance alone,
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
# Both turn by $\theta$ a token. The query is also multiplied by $\mathrm{e}^{\xi}$ a token, and the key divided by it. With
# $\xi = 0$ this is RoPE; with a negative $\xi$ the query shrinks, the key grows, and their score fades with the distance.
# No other pair of factors does that.

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
check_exact("eq. 10.2", sp.conjugate(beta(m)) - 1 / alpha(m))
check_exact("eq. 10.2, second line", alpha(m) / alpha(m - 1) - alpha(1))

# %% [markdown]
# So a score of $D/2$ pairs has one number $\xi_i$ a pair beside $\theta_i$. Write
# $\mathrm{e}^{\xi_i} = \zeta_i^{1/B}$ with $0 < \zeta_i < 1$ and one **scale base** $B$ for all pairs, in tokens: pair
# $i$ fades by the factor $\zeta_i$ every $B$ tokens. (In this chapter $B$ is no batch.) With $x_i$ for pair
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
# This is what `rope_lab.encodings.xpos.XPos` computes, checked here against the sum as it stands, one complex product at a time:

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
q, k = torch.randn(2, 10, 1, 100, dim)  # ten draws of one head
wanted = definition(q, k, positions, positions)
xpos = XPos(dim, scale_base=B)
q_scaled, k_scaled = xpos(q, k)
check("eq. 10.4", q_scaled @ k_scaled.mT, wanted)

# %% [markdown]
# ## How fast each pair fades
#
# The paper sets $\zeta_i$ by hand (its equation 9, with $\gamma = 0.4$):
#
# $$ \zeta_i = \frac{2i/D + 0.4}{1.4} , $$ (eq-10-5)
#
# from $\zeta_0 = 1/3.5$ for the fastest pair to almost 1 for the slowest. The idea: fast pairs make the wobbles, so
# they must go first; slow pairs do not come round within a text and can stay. The paper's equations have
# no $B$; its authors' code divides positions by 512, and one of them recommends that number
# ([flash-attention#96](https://github.com/Dao-AILab/flash-attention/issues/96)). Half of pair $i$ is gone after
#
# $$ s_i = \frac{B \ln 2}{-\ln \zeta_i} \text{ tokens} . $$ (eq-10-6)

# %%
check("eq. 10.6", zeta ** (half_lives / B), torch.full((dim // 2,), 0.5))

print("pair  wavelength  half-life  turns until half is gone")
for i in (0, 8, 16, 32, 48, 63):
    wavelength = 2 * math.pi / float(freqs[i])
    life = float(half_lives[i])
    print(f"{i:4d}{wavelength:12,.1f}{life:11,.0f}{life / wavelength:12.2f}")

# %% [markdown]
# The fast pairs turn many times before half of them is gone: over the short distances that they can tell apart, they are
# as in RoPE.
#
# For the content $q = k = (1, \dots, 1)$ of chapter 6, the score over $D$ is the blue curve of {numref}`fig-fading-map`,
# the paper's equation 8 over the number of pairs:
#
# $$ c_\zeta(s) = \frac{2}{D} \sum_{i=0}^{D/2-1} \zeta_i^{s/B} \cos s\theta_i . $$ (eq-10-7)

# %%
ones, s = torch.ones(1, 1, 4001, dim), torch.arange(4001.0)
q_scaled, k_scaled = xpos(ones[..., -1:, :], ones)  # one query, at 4000
scores = (q_scaled @ k_scaled.mT)[0, 0, 0].flip(0) / dim  # s = 0, 1, …


def mean_cosine(s: Tensor, zeta: Tensor) -> Tensor:  # (S,) -> (S,)
    return arrows(s, zeta).real.mean(-1)


check("eq. 10.7", scores, mean_cosine(s, zeta))

no_fading = torch.ones(dim // 2)  # ζ_i = 1 is RoPE
for name, fade in {"RoPE": no_fading, "xPos": zeta}.items():
    climbs = mean_cosine(s, fade).diff().clamp_min(0)[1000:].sum()
    print(f"{name}: from 1,000 to 4,000 tokens it climbs by {climbs:.2f} in all")

# %% [markdown]
# Hardly anything is left of the wobbles. And unlike RoPE's decay, this one does not depend on the content. In equation {eq}`eq-10-4` no
# cosine is larger than 1, and no $\zeta_i$ larger than the last one:
#
# $$
# \begin{aligned}
# &|\mathrm{score}(m, n)| \\
# &\quad \le \sum_i |q_i|\, |k_i|\, \zeta_i^{(m-n)/B} \\
# &\quad \le \zeta_{D/2-1}^{(m-n)/B}\, \lVert q \rVert\, \lVert k \rVert .
# \end{aligned}
# $$ (eq-10-8)
#
# This bound goes to zero. Chapter 6 built a key that peaks at any distance you like ($k = R_r q$); it now peaks
# lower the further away you put it.

# %%
from rope_lab import rotate


def turn(x: Tensor, positions: Tensor) -> Tensor:
    """RoPE alone: rows of x (N, D) to their positions (N,)."""
    return rotate(x, angles(positions, freqs, dtype=x.dtype))


q, r = torch.randn(1, dim), torch.tensor([0, 100, 1000, 10_000, 100_000])
keys = turn(q.expand(5, -1), r)  # R_r q fits best at distance r
peak = definition(q, keys, torch.tensor([0]), -r)[0]  # q at 0, its keys at −r
each = (pairs(q).abs().square() * zeta ** (r[:, None] / B)).sum(-1)
square = q.square().sum()
check("eq. 10.8, first line, reached", peak, each)
check_at_most("eq. 10.8", peak.abs(), zeta[-1] ** (r / B) * square)
for distance, height in zip(r.tolist(), (peak / square).tolist(), strict=True):
    print(f"peak at distance {distance:7,d}: {height:6.1%} of that at 0")

# %% [markdown]
# So a score can be made to fade for good. The question of this chapter is answered with yes.
#
# ## A score that fades is not a key that is forgotten
#
# What does a model gain? Attention takes a softmax. **A score that has faded is 0, and $\mathrm{e}^0$ is not 0.** A far
# key is not left out; it gets the weight of a key that fits neither well nor badly. Let $q$ and $k$ be Gaussian, all
# coordinates independent with mean 0 and variance 1. In RoPE the score over $\sqrt D$ then has standard deviation 1 at
# every distance (chapter 6). In xPos each pair contributes less:
#
# $$
# \begin{aligned}
# &\operatorname{Var} \big( \mathrm{score}(m, n)/\sqrt D \big) \\
# &\quad = \frac{2}{D} \sum_{i=0}^{D/2-1} \zeta_i^{2(m-n)/B} .
# \end{aligned}
# $$ (eq-10-9)
#
# Given $q$, that score is Gaussian with variance $\frac{1}{D}\sum_i |q_i|^2 \zeta_i^{2(m-n)/B}$, and a Gaussian of
# variance $v$ has $\mathbb{E}\,\mathrm{e}^x = \mathrm{e}^{v/2}$. Averaging over $q$, where each $|q_i|^2/2$ is
# exponentially distributed, gives the mean weight of a key before it is divided by the sum of all:
#
# $$
# \begin{aligned}
# &\mathbb{E}\, \mathrm{e}^{\mathrm{score}(m, n)/\sqrt D} \\
# &\quad = \prod_{i=0}^{D/2-1} \frac{1}{1 - \zeta_i^{2(m-n)/B}/D} .
# \end{aligned}
# $$ (eq-10-10)
#
# At $m = n$ this is close to $\sqrt{\mathrm{e}}$, and infinitely far away it is 1. The difference between the nearest
# and the farthest key is a factor of 1.65, and the far ones are many.

# %%
s = torch.tensor([0, 10, 100, 300, 1000, 3000, 10_000])
q, k = torch.randn(2, 20_000, dim)
h = pairs(q) * pairs(k).conj()
drawn = (h @ arrows(s, zeta).T).real / dim**0.5


def variance(s: Tensor, zeta: Tensor) -> Tensor:  # equation 10.9
    return (zeta ** (2 * s[:, None] / B)).mean(-1)


def mean_weight(s: Tensor, zeta: Tensor) -> Tensor:  # equation 10.10
    return 1 / (1 - zeta ** (2 * s[:, None] / B) / dim).prod(-1)


check("eq. 10.9", drawn.var(0), variance(s, zeta), tolerance=0.05)
check("eq. 10.10", drawn.exp().mean(0), mean_weight(s, zeta), tolerance=0.04)

# %% [markdown]
# How much of its attention does a query then spend on keys more than $B$ tokens back? Draw a text of Gaussian keys and
# take the softmax:

# %%
length = 8192
lengths = torch.tensor([1024, 2048, 4096, 8192])  # keys that the query sees
q, k = torch.randn(16, 1, dim), torch.randn(16, length, dim)
h = pairs(q) * pairs(k).conj()
near = torch.arange(length)
shares = {}
for name, fade in {"RoPE": no_fading, "xPos": zeta}.items():
    weights = ((h * arrows(near, fade)).sum(-1).real / dim**0.5).exp()
    so_far = weights.cumsum(-1)
    share = (1 - so_far[:, [B]] / so_far[:, lengths - 1]).mean(0)
    expected = mean_weight(near, fade).cumsum(-1)
    predicted = 1 - expected[B] / expected[lengths - 1]
    label = f"eq. 10.10, share of far keys, {name}"
    check(label, share, predicted, tolerance=0.03)
    shares[name] = (share, expected)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: standard deviation of a random score against distance: RoPE level at 1, xPos falling from 1 to near 0.2 at 10,000 tokens. Right: share of the attention weight on keys more than 512 tokens back, against the number of keys: both rise towards 100 percent, xPos slightly below RoPE."}, "figure": {"caption": "Left, the size of a random score: level for RoPE, fading for xPos. Right, the share of its attention that a query spends on keys more than 512 tokens back (dots: drawn; lines: equation 10.10). Fading the scores hardly changes where the attention goes.", "name": "fig-far-share"}}
from rope_lab.figures.xpos import fading

dense = torch.logspace(0, 4, 100)
at = torch.arange(B, length)
fading(
    s[1:],
    dense,
    {
        "RoPE": (no_fading.new_ones(len(s) - 1), no_fading.new_ones(100)),
        "xPos": (drawn.std(0)[1:], variance(dense, zeta).sqrt()),
    },
    lengths,
    at + 1,
    {
        name: (share, 1 - expected[B] / expected[at])
        for name, (share, expected) in shares.items()
    },
)

# %% [markdown]
# ALiBi {cite:p}`press2022` *subtracts* from a score in proportion to the distance, so that a far weight goes to zero.
# xPos *multiplies* a score, and a far weight goes to that of an average key. A trained model can still make something of the
# difference, since its near scores need not be random. Whether it does is the experiment below.
#
# ### The paper's yardstick
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
# *either* direction. A curve that wobbles has a higher resolution than a level one.

# %%


def resolution(c: Tensor) -> Tensor:
    """Left side of equation 10.11 for c(0) … c(N + 1)."""
    p = (c - c[0]).exp()
    p = p / p[:-1].sum()
    return (p[:-1] * (p[:-1] - p[1:])).sum()


N = 2048
s = torch.arange(N + 2.0)
rope_curve, xpos_curve = mean_cosine(s, no_fading), mean_cosine(s, zeta)
p = xpos_curve.softmax(0) / xpos_curve.softmax(0)[:-1].sum()
right = (p[0] ** 2 - p[-1] ** 2) / 2 + p.diff().square().sum() / 2
check("eq. 10.11", resolution(xpos_curve), right)

print(f"N·R at N = {N:,}, by the size of a score at distance 0")
for size in (1, 4, 16):
    without = N * resolution(size * rope_curve)
    faded = N * resolution(size * xpos_curve)
    print(f"size {size:2d}: RoPE {without:9.4f}, xPos {faded:9.4f}")

# %% [markdown]
# Which of the two resolves better depends on how large scores are, and that is not in the formula. (By the formula
# $R \le \sum_s p_s^2 \le 1$; the measured resolutions in the paper's Table 3 reach 1.08, so they are in another
# unit.) We take resolution as a motive, not as a proof.
#
# ## Why only causal
#
# Equation {eq}`eq-10-1` was asked for $m \ge n$. For a key *ahead* of the query the same formula runs backwards, and
# the factor grows without bound:

# %%
from rope_lab import MultiHeadAttention

print("factor of the fastest pair")
for ahead in (1, 512, 2048, 8192):
    print(f"a key {ahead:5,d} tokens ahead: {float(zeta[0] ** (-ahead / B)):.4g}")
try:
    MultiHeadAttention(64, 4, position=XPos(16), causal=False)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# A fading in both directions, $\zeta^{|m-n|/B}$, is no product of a query's factor and a key's: equation {eq}`eq-10-2`
# leaves no room for it. So xPos is for decoders, and the question comes up wherever it is offered
# ([rotary-embedding-torch#3](https://github.com/lucidrains/rotary-embedding-torch/issues/3)).
#
# ## Two factors that do not fit a number
#
# The factor of a score is at most 1. Its two halves are not: by equation {eq}`eq-10-3` the query is multiplied by
# $\zeta_i^{m/B}$ and the key by $\zeta_i^{-n/B}$. Far into a text the first vanishes and the second overflows. The
# fastest pair, with $\zeta_0 = 1/3.5$, is the first to leave a number type whose largest number is $M$, beyond
#
# $$ n = \frac{B \ln M}{\ln 3.5} \text{ tokens from the origin} . $$ (eq-10-12)
#
# The deliberately naive version, checked where it works and then pushed to where it does not:


# %%
def naive(x: Tensor, distance: Tensor) -> Tensor:
    """x_i · ζ_i^(distance/B) for interleaved x (..., N, D), distance (N,)."""
    scale = zeta ** (distance[:, None] / B)
    return x * scale.repeat_interleave(2, dim=-1)


q, k = torch.randn(2, 10, 1, 100, dim)
q_scaled = naive(turn(q, positions), positions)
k_scaled = naive(turn(k, positions), -positions)
wanted = definition(q, k, positions, positions)
check("eq. 10.4, naive", q_scaled @ k_scaled.mT, wanted)

print("last position that fits, the factors there and one further")
for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
    last = math.floor(B * math.log(torch.finfo(dtype).max) / math.log(3.5))
    power = torch.tensor([last, last + 1]) / B
    there, one_on = (math.log(3.5) * power).exp().to(dtype).tolist()
    print(f"{str(dtype)[6:]:9s}{last:10,d}{there:12.3g}{one_on:6}")

# %% [markdown]
# The paper says that its fading was chosen to fit float16 up to $n = 8192$. Counted from the first token it does not fit,
# as you see. It fits with a trick that is in the authors' code. Only $m - n$ matters, so positions may be counted from any
# **centre** $c$ that query and key share:
#
# $$ \zeta_i^{(m-c)/B} \cdot \zeta_i^{(c-n)/B} = \zeta_i^{(m-n)/B} . $$ (eq-10-13)
#
# With the centre in the middle of 8,192 tokens a key is at most 4,096 from it. That doubles the reach, and no more:
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
# No number type overflows at any position and any length. What underflows is the factor of a key so far back that
# its part of the score would underflow by itself. `XPos` does this in `relate`, which attention calls with every block
# of `query_block` queries and all keys that they may see (`_scale` multiplies pair $i$ by $\zeta_i$ to the power of its second
# argument over $B$):

# %% tags=["hide-input"]
from rope_lab.figures.source import source

source(XPos.relate)

# %%
block = torch.arange(1_000_000 - B, 1_000_000)  # queries
past = torch.arange(0, 1_000_000 - B, 2000)  # a key now and then
at = torch.cat((past, block))
ones = torch.ones(1, 1, len(at), dim)
q_factor, k_factor = xpos.relate(ones[..., -B:, :], ones, block, at)
k_past, k_block = k_factor.split([len(past), B], dim=-2)
check_at_most("eq. 10.14, queries", q_factor, 1.0)
check_at_most("eq. 10.14, past keys", k_past, 1.0)
check_at_most("eq. 10.14, keys of the block", k_block, 3.5)

# %% [markdown]
# And the scores a million tokens into a text are the ones of equation {eq}`eq-10-4`, up to the rounding of the number type
# that queries and keys have:

# %%
seen = block[:, None] >= at
allowed = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2}
for dtype, tolerance in allowed.items():
    q = torch.randn(1, 1, B, dim).to(dtype)
    k = torch.randn(1, 1, len(at), dim).to(dtype)
    wanted = definition(q.double(), k.double(), block, at)[..., seen]
    q, _, _ = xpos.rotate(q, q, q, block)
    k, _, _ = xpos.rotate(k, k, k, at)
    q, k = xpos.relate(q, k, block, at)
    scores = (q.double() @ k.double().mT)[..., seen]
    label = f"eq. 10.4 at 1,000,000, {str(dtype)[6:]}"
    check(label, scores, wanted, tolerance=tolerance)

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
        check(f"eq. 10.12, {name}", ratio, one, tolerance=0.01)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Longest text against scale base from 16 to 4,096 tokens, both logarithmic. Four parallel rising lines with dots on them: float16 with centre 0 lowest, then float16 with the centre in the middle, float32 with centre 0, and float32 with the centre in the middle. A horizontal line above all of them: first query of the block, no limit."}, "figure": {"caption": "The longest text whose factors all fit, by equation 10.12 (lines) and by trying (dots). A small scale base, as for half a window of 128, ends float16 soon after a thousand tokens. With the centre at the first query of each block there is no such line.", "name": "fig-frontier"}}
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


q, k = torch.randn(2, 2048, dim)
at, cache = torch.arange(2048), ScaledCache()
first = cache.scores(q[:64], k[:64])
right = definition(q[:64], k[:64], at[:64], at[:64])
check("eq. 10.13, before the centre moves", first, right)

print("decoded to   the first 64 scores   all scores")
for t in range(64, 2048):
    new = slice(t, t + 1)
    row = cache.scores(q[new], k[new])[0]
    if t + 1 in (128, 256, 512, 1024, 2048):
        right = definition(q[new], k[: t + 1], at[new], at[: t + 1])[0]
        wrong = row - right
        oldest = wrong[:64].norm() / right[:64].norm()
        every = wrong.norm() / right.norm()
        print(f"{t + 1:10,d}{float(oldest):14.1%} off{float(every):13.1%} off")
    if t == 127:  # the centre has moved from 32 to 64
        stale = row[:64]

too_loud = zeta ** (-(64 - 32) / B) * arrows(127 - at[:64], zeta)
terms = pairs(q[127]) * pairs(k[:64]).conj() * too_loud
check("eq. 10.15", stale, terms.sum(-1).real)

# %% [markdown]
# The same error by another road: rotary-embedding-torch 0.9.1 keeps its keys unscaled and scales them anew at every
# step, but it takes the centre of the queries from the *number of queries*, and that of the keys from the number of keys.
# With one query the two differ by half the text. The adapter in `rope_lab.interop` brings that back on request:

# %%
from rope_lab.interop import rotary_embedding_torch

theirs = rotary_embedding_torch.RotaryEmbedding(
    dim, use_xpos=True, xpos_scale_base=B, reproduce=True
).double()
for length in (64, 512, 2048):
    new, past = slice(length - 1, length), k[None, None, :length]
    newest = q[None, None, new]
    right = definition(newest, past, at[new], at[:length])
    q_scaled, k_scaled = theirs.rotate_queries_with_cached_keys(newest, past)
    off = float((q_scaled @ k_scaled.mT - right).norm() / right.norm())
    print(f"one query, {length:5,d} keys: scores off by {off:.1%}")

# %% [markdown]
# It takes two things to be exact: one centre for queries and keys, and keys that are cached rotated but *unscaled*.
# In `rope_lab` `rotate` runs before the cache and `relate` after it, over all keys. So attention with a cache $C$ of the
# tokens $0, \dots, t - 1$ gives what attention to the whole text $x$ gives,
#
# $$
# \begin{aligned}
# &\mathrm{attention}(x_t \mid C) \\
# &\quad = \mathrm{attention}(x_0, \dots, x_t)_t ,
# \end{aligned}
# $$ (eq-10-16)
#
# wherever the prompt ends and the decoding begins. With $B = 8$ the text below is more than five blocks:

# %%
from rope_lab import KVCache

layer = MultiHeadAttention(64, 4, position=XPos(16, scale_base=8))
x = torch.randn(2, 45, 64)
with torch.no_grad():
    whole = layer(x)
    split = []
    for prompt in range(1, 45):
        cache = KVCache(45)
        parts = [layer(x[:, :prompt], cache=cache)]
        for t in range(prompt, 45):
            parts.append(layer(x[:, t : t + 1], cache=cache))
        split.append(torch.cat(parts, dim=1))
same = whole.expand(len(split), -1, -1, -1)
check("eq. 10.16, every split", torch.stack(split), same)

# %% [markdown]
# The price is a multiplication of all cached keys at every step. A step reads all of them anyway.
#
# ## Does it help beyond the context?
#
# Train small models on 64 characters of Tiny Shakespeare at a time, and let them read 512. The loop is that of
# chapter 13; only the encoding changes. xPos comes twice: with the usual $B = 512$, which within 64 tokens hardly fades
# anything, and with $B = 32$, which keeps the ratio of the paper: there the trained context is $2B = 1{,}024$.
#
# Beyond the context the paper adds a second device, a mask by which a token sees only its own block of half a context and
# the block before it. With it no distance is new to the model. So each model is measured twice: seeing
# everything before, and, without more training, through a sliding window as long as the trained context.

# %%
import os
from itertools import pairwise

from rope_lab import RoFormer, RotaryEmbedding
from rope_lab.training import preset, tiny_shakespeare, token_losses, train

torch.set_default_dtype(torch.float32)
budget = os.environ.get("ROPE_LAB_PRESET", "cpu")  # "smoke" takes seconds
smoke = budget == "smoke"
corpus, context = tiny_shakespeare(), 64
steps, width = (8, 32) if smoke else (200, 64)
shape = {"context": context, "dim": width, "depth": 2, "heads": 2}
config = preset("cpu", steps=steps, seed=10, evaluations=1, **shape)
head_dim = width // 2
val_ids = corpus.encode(corpus.val)


def trained(position: RotaryEmbedding) -> RoFormer:
    torch.manual_seed(config.seed)
    model = RoFormer(config.architecture(len(corpus.vocab)), position)
    return train(config, corpus, start=model, quiet=True).model.eval()


models = {
    "RoPE": trained(RotaryEmbedding(head_dim)),
    "xPos, B = 512": trained(XPos(head_dim, scale_base=512)),
    "xPos, B = 32": trained(XPos(head_dim, scale_base=32)),
}
size = sum(p.numel() for p in models["RoPE"].parameters())
print(f"three models of {size:,} parameters, {config.steps} updates each")

# %%
length, texts = 8 * context, 8 if smoke else 64
text = val_ids[: length * texts + 1]
edges = [0, 16, 32, 64, 96, 128, 192, 256, 384, 512]


def losses(model: RoFormer, window: int | None) -> Tensor:
    """Loss of every character, (texts, length)."""
    for block in model.blocks:
        block.attention.window = window  # keys seen, the query's own included
    return token_losses(model, text, length, batch=8).float()


lines, far = {}, {}
print("mean loss at places      1–64   65–128  257–512")
for name, model in models.items():
    for window in (None, context):
        loss = losses(model, window)
        groups = [loss[:, a:b].mean(1) for a, b in pairwise(edges)]
        label = f"{name}, window" if window else name
        means = torch.stack([group.mean() for group in groups])
        errors = torch.stack([group.std() / len(group) ** 0.5 for group in groups])
        lines[label] = (means, errors, name)
        far[label] = float(loss[:, 4 * context :].mean())
        inside = float(loss[:, :context].mean())
        just_out = float(loss[:, context : 2 * context].mean())
        print(f"{label:22s}{inside:7.3f}{just_out:9.3f}{far[label]:9.3f}")

if not smoke:  # at least a tenth of a nat apart
    check_at_most("fig. 10.4, fading", far["xPos, B = 32"], far["RoPE"] - 0.1)
    for name in models:
        label = f"{name}, window"
        check_at_most(f"fig. 10.4, {label}", far[label], far[name] - 0.1)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against place in the text from 8 to 450 characters, log axis, for RoPE, xPos with B = 512 and xPos with B = 32. Within the trained 64 characters the three lie together. Beyond, the full lines rise, RoPE the most and xPos with B = 32 the least. The dashed lines, with a window of 64, stay level, and the three lie together again."}, "figure": {"caption": "Loss by place, trained on 64 characters, with standard errors over the texts. Beyond the context every encoding gets worse, xPos more slowly (full lines). With a window none does, and the three lie together (dashed).", "name": "fig-beyond"}}
from rope_lab.figures.xpos import beyond

middles = [(a + b + 1) / 2 for a, b in pairwise(edges)]
beyond(middles, lines, context)

# %% [markdown]
# Three findings, at this scale. Within the context fading makes little difference. Beyond it xPos does what it was made
# for: the loss still rises, but less, and less again with the smaller $B$. And the window does more than either:
# without any training it keeps the loss level, and with it RoPE and xPos come out alike. That fits equation
# {eq}`eq-10-10`: a faded key still draws attention, a masked one does not.
#
# The paper's Table 5 has the same cases, for models trained on 1,024 tokens that read longer arXiv papers (perplexities
# of {cite:t}`sun2023`, not reproduced here):
#
# | | 2,048 tokens | 4,096 tokens |
# |---|---|---|
# | RoPE | 73.6 | 294.45 |
# | xPos | 22.56 | 28.43 |
# | RoPE, with the mask | 25.57 | 25.65 |
# | xPos, with the mask | 21.6 | 20.73 |
#
# There too fading makes the rise much smaller and does not stop it, and the mask stops it without any fading. What our
# experiment does not see is the lead of xPos when both have the mask.
#
# :::{admonition} What this experiment does not show
# :class: note
#
# These are three tiny models, one seed each, trained for seconds on characters, where little is to be gained from afar.
# The paper's models have 24 layers and read texts in which a long view pays. Chapter 14 compares the encodings
# with three seeds.
# :::
#
# ## In the wild
#
# - **A scale base of 1.** flash-attention left the base to its users without advice. With 1, float32 overflows within a
#   hundred tokens; an author of xPos came to say so
#   ([flash-attention#96](https://github.com/Dao-AILab/flash-attention/issues/96)).
# - **A centre for each text.** Packed texts of different lengths have different middles, and a user asked whether their
#   scores still agree ([flash-attention#522](https://github.com/Dao-AILab/flash-attention/issues/522)). They do, by
#   equation {eq}`eq-10-13`, as long as query and key of one score have the same centre.
# - **More keys than queries.** With memories in front of the new tokens the factors were as many as the keys, the queries
#   fewer, and the shapes did not fit
#   ([x-transformers#233](https://github.com/lucidrains/x-transformers/issues/233)). That error was a lucky one: a function
#   for cached keys that knew nothing of xPos had none to raise
#   ([rotary-embedding-torch#27](https://github.com/lucidrains/rotary-embedding-torch/issues/27)), and what replaced it is
#   measured above. flash-attention's layers refuse xPos in their cached path, with an assertion.
# - **Not seen in short texts.** Each of these is small or absent within a few dozen tokens, where no pair has faded yet.
#   Test at the length you mean to use.
#
# ## Summary
#
# - A complex exponent instead of an imaginary one is the only way to scale queries and keys so that pairs fade and scores
#   stay relative; it needs a causal mask.
# - Only the distance matters, so count from the first query of each block, and cache keys unscaled: exact at any
#   position, in any split.
# - A faded score is 0, not $-\infty$: beyond the context xPos lets the loss rise less, a window does not let it rise.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# **10.1** Write `half_life(dim, base)`: the distance in tokens at which each pair has lost half of its strength.

# %%
from rope_lab.exercises.ch10 import check_half_life


def half_life(dim: int, base: int) -> Tensor:
    return None  # your turn: shape (dim/2,)


check_half_life(half_life)

# %% tags=["hide-cell"]
# Solution of 10.1: equation 10.6


def half_life(dim: int, base: int) -> Tensor:
    zeta = (torch.arange(0, dim, 2) / dim + 0.4) / 1.4
    return -base * math.log(2) / zeta.log()


check_half_life(half_life)

# %% [markdown]
# **10.2** Write `reach(dtype, base)`: the largest whole number of tokens past the centre at which the factor of a key is
# at most the largest number of `dtype`.

# %%
from rope_lab.exercises.ch10 import check_reach


def reach(dtype: torch.dtype, base: int) -> int:
    return None  # your turn


check_reach(reach)

# %% tags=["hide-cell"]
# Solution of 10.2: equation 10.12, rounded down


def reach(dtype: torch.dtype, base: int) -> int:
    return math.floor(base * math.log(torch.finfo(dtype).max) / math.log(3.5))


check_reach(reach)

# %% [markdown]
# **10.3** A cache holds keys of shape `(N, D)`, interleaved, rotated and scaled about the centre `old`. Write
# `recentre(keys, old, new, base)`, which returns them scaled about `new`. You are not told their positions.

# %%
from rope_lab.exercises.ch10 import check_recentre


def recentre(keys: Tensor, old: int, new: int, base: int) -> Tensor:
    return None  # your turn: shape (N, D)


check_recentre(recentre)

# %% tags=["hide-cell"]
# Solution of 10.3: ζ^((new − n)/B) over ζ^((old − n)/B); the position cancels


def recentre(keys: Tensor, old: int, new: int, base: int) -> Tensor:
    dim = keys.shape[-1]
    zeta = (torch.arange(0, dim, 2, dtype=keys.dtype) / dim + 0.4) / 1.4
    return keys * (zeta ** ((new - old) / base)).repeat_interleave(2)


check_recentre(recentre)

# %% [markdown]
# ## References
#
# - {cite:t}`sun2023`, sections 3.1 to 3.3 and equations 3, 8 and 9: resolution, xPos and the blocks.
# - {cite:t}`press2022`: ALiBi, which fades by subtraction.
#
# This chapter checks the paper's formulas and reproduces none of its trained results. What it says of other libraries is
# what their threads, linked above, report, and what their code did when it was read. Full entries are on the page
# {doc}`/book/references`.
