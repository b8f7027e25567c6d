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
# (chapter-longer-contexts)=
# # 11 · Longer contexts
#
# A model was trained on texts of $L$ tokens, and you want to give it longer ones. There are at least seven published ways
# to change its rotation for that, with names that say little. **What does each of them do to which pairs?**
#
# Here are the 64 pairs of a head of Llama 2 ($b = 10{,}000$, $L = 4{,}096$), each at its wavelength, the number of
# tokens in which it makes a full turn. Small grey dots are wavelengths in training. Those above the dashed line, which
# is $L$, belong to {term}`unfinished pairs <unfinished pair>`, which did not complete a turn. Choose a scaling and move
# the length $L'$ of the text, the solid line; each method is given the factor $L'/L$. The large dots are the new
# wavelengths. A dot is open and orange if the longer text takes its pair to angles that it never met, and at the upper
# edge if the pair no longer turns:

# %% tags=["hide-input"]
from rope_lab.figures.wavelengths import wavelengths

wavelengths()

# %% [markdown]
# This chapter is the mathematics of that picture. Whether a trained model reads better for it is another question:
# chapter 15 tries it, with controls, and its answer is not always the one that the picture suggests.
#
# ## One pair by hand
#
# Pair 50 of Llama 2 turns by $\theta_{50} = 10{,}000^{-50/64} = 0.00075$ radians per token, so its wavelength is
# $\lambda_{50} = 2\pi/\theta_{50} \approx 8{,}379$ tokens. In a text of 4,096 tokens it met the angles from 0° to
# 176°. That is its **trained arc**. A text of 8,192 tokens takes it to 352°. If its frequency is halved, it is back at
# 176°. (The last token is at 4,095; here an arc is counted to $L$.) Pair 0 has a wavelength of 6.3 tokens and turned 652
# times. Its angles lie all round the circle, less than half a degree apart, and a longer text only fills the gaps.

# %%
import math

import mpmath
import torch
from torch import Tensor

from rope_lab import RotaryEmbedding, angles, frequencies, rotate
from rope_lab.encodings import critical_pair
from rope_lab.figures.table import table
from rope_lab.verify import check, check_at_most

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
torch.manual_seed(11)

D, base, L = 128, 10_000.0, 4096  # Llama 2
theta = frequencies(D, base)  # θ_i, (D/2,)
with mpmath.workdps(30):
    wave = 2 * mpmath.pi * mpmath.mpf(10_000) ** (mpmath.mpf(50) / 64)
    arcs = [float(360 * n / wave) for n in (4096, 8192)]
check("pair 50, arcs", torch.tensor([4096, 8192]) * theta[50] * 180 / math.pi, arcs)
met = (torch.arange(L) * theta[0]).remainder(2 * math.pi).sort().values
gap = float(torch.cat((met, met[:1] + 2 * math.pi)).diff().max()) * 180 / math.pi
check_at_most("pair 0, largest gap between its angles in degrees", gap, 0.5)
print(f"{float(wave):,.0f} tokens in a turn, arcs {arcs[0]:.0f}° and {arcs[1]:.0f}°")
print(f"pair 0: {L / (2 * math.pi):.0f} turns, gaps up to {gap:.2f}°")

# %% [markdown]
# ## Two functions
#
# A scaling can change what is multiplied: the position of a token, or the frequency of a pair. Call the changes $g$ and
# $h$. At position $m$, pair $i$ then turns by
#
# $$ \varphi_i(m) = g(m)\, h(\theta_i) . $$ (eq-11-1)
#
# Not every $g$ will do. A score knows only $\varphi_i(m) - \varphi_i(n)$, and RoPE is relative because that depends on
# the distance alone. For which $g$ does it stay so? The step $g(m + 1) - g(m)$ must be the same at every $m$, since
# these are two tokens at distance 1; and if it is, $g$ is a straight line. (A step could also differ by whole turns of all
# pairs at once. In Llama 2 the second frequency is $10^{-1/16}$, which is irrational, so no such step exists.) So
#
# $$
# \begin{aligned}
# &g(m) - g(n) = g(m + t) - g(n + t) \\
# &\quad \text{for all whole } m, n, t \\
# &\iff g(m) = \alpha m + \beta .
# \end{aligned}
# $$ (eq-11-2)
#
# The constant $\beta$ cancels, and $\alpha$ can be moved into $h$. **Among scalings of this form, those that keep
# scores relative are choices of $h$ alone.** The first version of LongRoPE {cite:p}`ding2024` gives up some of that: it
# does not scale the first few tokens, only the rest. The third row below does so with one factor for all pairs.


# %%
def score(places: Tensor, m: int, n: int) -> Tensor:
    """Scores of a thousand pairs of contents at tokens m and n, mapped."""
    at = (angles(places[[i]], theta, dtype=torch.float64) for i in (m, n))
    turned_q, turned_k = (rotate(x, a) for x, a in zip(contents, at, strict=True))
    return (turned_q * turned_k).sum((-1, -2))


contents = torch.randn(2, 1000, 1, D)
tokens = torch.arange(200.0)
maps = {
    "m / 4": tokens / 4,
    "m / 4 + 7": tokens / 4 + 7,
    "m below 4 tokens, then m / 4": torch.where(tokens < 4, tokens, tokens / 4),
    "held at the trained length": tokens.clamp(max=100),
    "ln(1 + m)": tokens.log1p(),
}
rows = []
for name, places in maps.items():
    before, after = score(places, 9, 2), score(places, 109, 102)
    if name.startswith("m / 4"):
        check(f"eq. 11.2, g = {name}", after, before, draws=1000)
    rows.append([name, (after - before).std() / before.std()])
table(
    rows,
    {"g(m)": "", "change / size": ".2f"},
    caption="Change of a score at distance 7 when both tokens move by 100.",
)

# %% [markdown]
# So from here on only $h$ matters, and on logarithmic axes it is a picture: wavelengths before, wavelengths after.
# Position interpolation *shifts* all of them by the same amount. NTK-aware scaling *tilts* the line. YaRN and Llama 3 *bend*
# it. LongRoPE searches for it pair by pair, and p-RoPE *cuts* it off.
#
# ## The shift: position interpolation
#
# {cite:t}`chen2023` divide all positions by the extension factor $\rho = L'/L$. Then $h(\theta) = \theta/\rho$, and every
# arc is what it was. The scores of whole distances become scores between the trained ones. How far can such a score
# be from the straight line through its two neighbours? Take contents $h_i = q_i \bar k_i$ of size at most 1, halfway
# between distances $s$ and $s + 1$. Pair $i$ adds $h_i\, \mathrm{e}^{\mathrm{i}(s + 1/2)\theta_i}$ times $1 - \cos
# \frac{\theta_i}{2}$. The worst content gives all pairs the same sign, so the largest distance from the line is exactly
#
# $$
# \begin{aligned}
# E &= \max_{|h_i| \le 1} \Big| \operatorname{score}\big(s + \tfrac12\big) \\
# &\qquad - \tfrac12 \operatorname{score}(s) - \tfrac12 \operatorname{score}(s + 1) \Big| \\
# &= \sum_{i=0}^{D/2-1} 2 \sin^2 \frac{\theta_i}{4} ,
# \end{aligned}
# $$ (eq-11-3)
#
# at every $s$. With $\sin x \le x$ and the geometric series this is bounded by
#
# $$ E \;\le\; \frac18 \sum_{i=0}^{D/2-1} \theta_i^2 \;\le\; \frac{1}{8\,(1 - b^{-4/D})} , $$ (eq-11-4)
#
# the value of {eq}`eq-15-6` halfway. The theorem of the paper has $D/(32 \ln b)$ on the right-hand side. That is smaller
# than $E$ in the heads below, so as it stands it does not hold for every content; its order of magnitude does.


# %%
def off_the_line(h: Tensor, s: Tensor, freqs: Tensor) -> Tensor:
    """Left side of equation 11.3 for contents h (S, D/2) at distances s (S,)."""
    at = (angles(s + x, freqs, dtype=torch.float64) for x in (0.0, 0.5, 1.0))
    first, middle, second = (torch.polar(torch.ones_like(t), t) for t in at)
    return (h * (middle - (first + second) / 2)).real.sum(-1).abs()


rows = []
for head in (32, 64, 128):
    row_freqs, s = frequencies(head, base), torch.randint(4096, (1000,)).double()
    largest = (2 * (row_freqs / 4).sin().square()).sum()
    phase = angles(s + 0.5, row_freqs, dtype=torch.float64)
    worst = torch.polar(torch.ones_like(phase), -phase)
    label = f"eq. 11.3, D = {head}"
    check(label, off_the_line(worst, s, row_freqs), largest.expand(1000), draws=1000)
    other = worst * torch.polar(torch.rand_like(phase), torch.randn_like(phase))
    check_at_most(
        f"{label}, others",
        off_the_line(other, s, row_freqs),
        largest.expand(1000),
        draws=1000,
    )
    squares = row_freqs.square().sum() / 8
    bound = 1 / (8 * (1 - base ** (-4 / head)))
    check_at_most(f"eq. 11.4, D = {head}", [largest, squares], [squares, bound])
    paper = head / (32 * math.log(base))
    check_at_most(f"the paper's bound is smaller, D = {head}", paper, largest)
    rows.append([head, largest, bound, paper, largest / (head / 2)])
table(
    rows,
    {
        "D": "d", "E": ".3f", "eq. 11.4": ".3f", "paper": ".3f",
        "E / largest score": ".1%",
    },
)  # fmt: skip

# %%
parts = (
    (2 * (theta / 4).sin().square()).cumsum(0) / (theta / 4).sin().square().sum() / 2
)
fastest = int((parts < 0.9).sum()) + 1
print(f"D = {D}: the {fastest} fastest pairs add 90% of E")
print(f"content in pair 0 alone: {2 * math.sin(0.25) ** 2:.0%} of the largest score")

# %% [markdown]
# So interpolated scores are near the line: off by at most about one percent of $D/2$, the largest score. What does that
# assume? That all pairs have content: if only pair 0 does, it is 12 percent of the largest score. That the content does
# not change, whereas from layer 2 on it does. That a straight line between trained scores is a good guess of what the
# model would like. And the bound is about sizes: it does not see that neighbouring distances become hard to tell apart,
# which {eq}`eq-15-5` measures.
#
# ## The tilt: NTK-aware
#
# Raise the base to $b\,\rho^{D/(D-2)}$ {cite:p}`bloc97`, and $\theta_i$ becomes $\theta_i\, \rho^{-i/(D/2-1)}$
# ({eq}`eq-15-8`). Since $i = -\frac{D}{2} \ln\theta_i/\ln b$, this is a power of the frequency:
#
# $$
# \begin{aligned}
# h(\theta) &= \theta^{\,1 + \alpha} , \\
# \alpha &= \frac{D}{D - 2} \cdot \frac{\ln\rho}{\ln b} .
# \end{aligned}
# $$ (eq-11-5)
#
# A pair that completes no turn stays in its arc if its frequency is divided by $\rho$ or more. Only the last one is.
# Let $c$ be the first such pair. To divide it by $\rho$ as well, and so all slower ones by more, NTK-aware scaling must
# be given a larger factor,
#
# $$ \rho_c = \rho^{(D/2-1)/c} . $$ (eq-11-6)

# %%
from rope_lab.encodings import DynamicNTK, NTKAware

c = critical_pair(theta, L)
for rho in (2, 8, 32):
    power = D / (D - 2) * mpmath.log(rho) / mpmath.log(10_000)
    tilted = [float(mpmath.mpf(float(t)) ** (1 + power)) for t in theta]
    check(f"eq. 11.5, factor {rho}", NTKAware(rho)(theta, 0)[0], tilted)
    enough = NTKAware(rho ** ((D / 2 - 1) / c))(theta, 0)[0]
    check(f"eq. 11.6, factor {rho}", theta[c] / enough[c], float(rho))
    by = (theta / enough)[c:]
    check_at_most(
        f"eq. 11.6, slower pairs, {rho}", by.new_full(by.shape, rho - 1e-9), by
    )
even = mpmath.findroot(lambda r: r**2 - r + 1 - r ** ((D / 2 - 1) / c), 1.5)
print(f"ρ² − ρ + 1 equals the factor of equation 11.6 at ρ = {float(even):.2f}")
rows = [[rho, rho ** ((D / 2 - 1) / c), rho**2 - rho + 1] for rho in (2, 4, 8, 16)]
table(
    rows,
    {"ρ": "d", "needed, eq. 11.6": ".1f", "dynamic NTK at ρL": "d"},
    caption=f"Factors for Llama 2, whose first unfinished pair is {c}.",
)

# %% [markdown]
# **Dynamic NTK** tilts by $\rho N/L - (\rho - 1)$, a factor that grows with the number $N$ of tokens and is 1 for $N
# \le L$ ({eq}`eq-15-9`). At $N = \rho L$ it has reached $\rho^2 - \rho + 1$, in this table more than is needed. For
# $\rho$ below 1.48 it is less: in the first figure some pairs leave their arcs at 4,871 and at 5,793 tokens. And if the
# exponent in {eq}`eq-11-6` is 2 or more, it is less for every $\rho > 1$, because $\rho^2 - \rho + 1 < \rho^2$. That is
# so in our own models (the table below {eq}`eq-11-8`), and {numref}`fig-arcs` shows the pairs that leave.
#
# ## The bend: YaRN and Llama 3
#
# Both keep fast pairs, divide slow ones by $\rho$, and blend between:
#
# $$ h(\theta) = (1 - \gamma)\, \theta + \gamma\, \frac{\theta}{\rho} , \qquad 0 \le \gamma \le 1 . $$ (eq-11-7)
#
# They differ in $\gamma$. Let $T_i = L/\lambda_i$ be the turns of a pair in training. Llama 3 {cite:p}`grattafiori2024`
# takes $\gamma = (4 - T)/3$, held between 0 and 1. The paper on YaRN {cite:p}`peng2024` has $(32 - T)/31$, whereas its
# code uses the *index* of the pair. For Llama 2 by hand: pairs turn 32 times and once at the indices 20.94 and 45.03,
# rounded outward to 20 and 46. Pair 33 is halfway, so $\gamma_{33} = (33 - 20)/26 = 0.5$, and with $\rho = 8$ it keeps
# $0.5 + 0.5/8 = 0.5625$ of its frequency. It turns 5.65 times. The ramp of the paper gives $\gamma = 26.35/31 = 0.85$,
# and the pair keeps 0.256 of it. Llama 3's would leave it alone.

# %%
from rope_lab.encodings import Llama3, YaRN

T = L * theta / (2 * math.pi)
low, high = (
    D / 2 * math.log(L / (2 * math.pi * beta)) / math.log(base) for beta in (32, 1)
)
index = torch.arange(D // 2)
ramps = {
    "YaRN, code": (index - math.floor(low)) / (math.ceil(high) - math.floor(low)),
    "YaRN, paper": (32 - T) / 31,
    "Llama 3": (4 - T) / 3,
}
ramps = {name: ramp.clamp(0, 1) for name, ramp in ramps.items()}
kept = {name: 1 - ramp + ramp / 8 for name, ramp in ramps.items()}
check("eq. 11.7, YaRN", YaRN(8, L)(theta, 0)[0], kept["YaRN, code"] * theta)
llama3 = Llama3(8, original_length=L)
check("eq. 11.7, Llama 3", llama3(theta, 0)[0], kept["Llama 3"] * theta)
check("pair 33, by hand", kept["YaRN, code"][33], 0.5625)
print(f"32 turns at index {low:.2f}, one turn at {high:.2f}")
table(
    [[i, T[i], *(p[i] for p in kept.values())] for i in (20, 26, 33, 40, 45, 46)],
    {"pair": "d", "turns": ".2f", **dict.fromkeys(kept, ".3f")},
    caption="What is left of the frequency at a factor of 8.",
)

# %% [markdown]
# YaRN also multiplies cosine and sine by an attention factor, which changes no angle; chapter 15 shows what it is worth.
#
# ## The search: LongRoPE and LongRoPE2
#
# LongRoPE has one number per pair, $h(\theta_i) = \theta_i/\lambda_i$ (only here $\lambda_i$ is a factor, as in the
# paper), found by an evolutionary search (change lists at random, keep those with a low loss on long texts); no formula
# gives it. A checkpoint brings two lists, one for texts up to $L$ and one beyond.
# {class}`~rope_lab.encodings.scaling.LongRoPE` loads them.
#
# {cite:t}`shang2025` suspect that the slow pairs were trained too little, and restrict the search. Pairs from a
# critical one on must be divided by at least $\rho$. In theory that is the first pair without a full turn,
#
# $$ c = \Big\lceil \frac{D}{2} \cdot \frac{\ln (L/2\pi)}{\ln b} \Big\rceil ; $$ (eq-11-8)
#
# they call $2c$ the theoretical critical dimension, and let the search choose a smaller one. Texts up to $L$ keep the
# original RoPE, with which short texts are also trained further.

# %%
models = {
    "Llama 2": (128, 10_000, 4096),
    "Llama 3": (128, 500_000, 8192),
    "Phi-3 mini": (96, 10_000, 4096),
    "preset cpu": (40, 10_000, 128),
    "preset laptop": (64, 10_000, 256),
}
rows = []
for name, (dim, b, length) in models.items():
    with mpmath.workdps(30):
        exponents = (mpmath.mpf(2 * i) / dim for i in range(dim // 2))
        long = [2 * mpmath.pi * mpmath.mpf(b) ** e > length for e in exponents]
    by_formula = math.ceil(dim / 2 * math.log(length / (2 * math.pi)) / math.log(b))
    check(f"eq. 11.8, {name}", by_formula, long.index(True))
    found = critical_pair(frequencies(dim, b), length)
    check(f"critical_pair, {name}", found, long.index(True))
    rows.append([name, dim // 2, found, 2 * found, (dim / 2 - 1) / found])
columns = {"pairs": "d", "c": "d", "critical dimension": "d", "(D/2 − 1)/c": ".2f"}
table(rows, {"": ""} | columns)

# %% [markdown]
# Why could an earlier pair be the right one? Completing a turn is not the same as having seen all angles equally often. A
# training text has $L - s$ pairs of tokens at distance $s$, so the end of a turn that is completed only once is rare. Divide
# the circle into twelve parts, and count in how many pairs of tokens each occurs:

# %% tags=["hide-input"] mystnb={"image": {"alt": "A curve over 64 pairs. It is within a tenth of 1 for the first 30 pairs, falls slowly to 0.84 at 5.6 turns and 0.57 at two turns, then steeply to 0.09 at the last pair that completes a turn, and is 0 for the 18 pairs beyond a dotted line."}, "figure": {"caption": "How often the rarest twelfth of the circle occurs among all pairs of tokens of one training text, divided by an equal share (Llama 2, 4,096 tokens). At one full turn it occurs a tenth as often, at two turns a little more than half as often. The change at the critical pair is not a jump.", "name": "fig-rarest"}}
from rope_lab.figures.longer import seen

distances = torch.arange(1, L)
weight = (L - distances).double()  # pairs of tokens at each distance


def rarest(turn: Tensor) -> float:
    """The share of the rarest twelfth of the circle, 1 if all are equal."""
    part = (torch.remainder(distances * turn / (2 * math.pi), 1) * 12).long()
    counts = torch.bincount(part.clamp(max=11), weights=weight, minlength=12)
    return float(counts.min() / weight.sum() * 12)


shares = [rarest(t) for t in theta]
seen(T, shares, c)

# %% [markdown]
# For a pair that turns exactly once, the last twelfth is a triangle of the counts, $(1/12)^2$ of all, a twelfth of an equal
# share. That fits their hypothesis; {cite:t}`an2025` start from the same skew. It does not show that rare angles are why a
# model fails.
#
# In `rope_lab`, {class}`~rope_lab.encodings.longrope2.LongRoPE2` takes the factors and holds them to these rules.
# {func}`~rope_lab.encodings.longrope2.starting_factors` gives the list from which such a search may begin, which is
# {eq}`eq-11-6` up to pair $c$ and $\rho$ from there on. A second rule, that factors do not fall from pair to pair, and the
# form of the start are from the [search code](https://github.com/microsoft/LongRoPE). Unless told otherwise, that code
# begins one pair earlier, at the last that completes a turn; a script for Llama 3 sets 33. The search itself is not
# reproduced.

# %%
from rope_lab.encodings import LongRoPE2, starting_factors

start = starting_factors(D // 2, c, 8)
check("start, pair c", theta[c] / start[c], theta[c] / 8)
ntk_to_c = NTKAware(8 ** ((D / 2 - 1) / c))(theta, 0)[0]
check("start, below c", (theta / torch.tensor(start))[:c], ntk_to_c[:c])

# %% [markdown]
# ## The cut: p-RoPE
#
# p-RoPE {cite:p}`barbero2025` stops the slow pairs: $h(\theta) = \theta$ for the fastest share $p$ of them and 0 for
# the others. It is a choice before training, not a repair. Gemma 4 ships it in its global layers:

# %%
from rope_lab import atlas

gemma = atlas.find("gemma-4")
turning = gemma.scaling(frequencies(gemma.head_dim, gemma.base), 0)[0]
slowest = 2 * math.pi / float(turning[turning > 0].min())
print(f"{gemma.name}: {int((turning > 0).sum())} of {len(turning)} pairs turn,")
print(f"the slowest in {slowest:.0f} tokens, in a context of {gemma.context:,}")

# %% [markdown]
# All its turning pairs turn hundreds of times in its context, so no unfinished pair is left.
#
# ## What each keeps, and what it breaks
#
# Now all of them on Llama 2, each with a factor of 8, on texts of 2 to 16 times the trained length. There are two
# controls: nothing scaled, and only the unfinished pairs divided.

# %%
from rope_lab.encodings import PositionInterpolation, PRoPE


def slow_alone(freqs: Tensor, length: int) -> tuple[Tensor, float]:
    """The control: unfinished pairs divided by 8, nothing else."""
    return torch.where(index >= c, freqs / 8, freqs), 1.0


methods = {
    "nothing scaled": lambda freqs, length: (freqs, 1.0),
    "interpolation": PositionInterpolation(8),
    "NTK-aware": NTKAware(8),
    "dynamic NTK": DynamicNTK(8, L),
    "YaRN": YaRN(8, L),
    "Llama 3": llama3,
    "LongRoPE2, start": LongRoPE2(start, c, 8, L),
    "p-RoPE, p = 0.25": PRoPE(0.25),
    "unfinished pairs / 8": slow_alone,
}


def count_leaving(method, times: int) -> int:
    """How many unfinished pairs leave their arc in a text of times · L."""
    angles_now = times * method(theta, times * L)[0]
    return int((angles_now > theta * (1 + 1e-9))[c:].sum())


def neighbours(freqs: Tensor) -> float:
    """SD of the step between neighbouring distances, equation 15.5."""
    return float((freqs / 2).sin().square().sum().sqrt())


spans = (2, 4, 8, 16)
left = {name: [count_leaving(m, n) for n in spans] for name, m in methods.items()}
at_8 = {name: method(theta, 8 * L)[0] for name, method in methods.items()}
table(
    [
        [
            name,
            int((at_8[name] == theta).sum()),
            neighbours(at_8[name]) / neighbours(theta),
            *counts,
        ]
        for name, counts in left.items()
    ],
    {"": "", "kept": "d", "neighbours": ".0%"} | {f"{n} L": "d" for n in spans},
    caption=f"At 8 L: pairs with their old frequency; SD of the step of a score to "
    f"the next distance, old = 100%. Then how many of {D // 2 - c} unfinished pairs "
    f"leave their arc.",
)

# %% tags=["hide-input"]
reach = 8 ** (c / (D / 2 - 1))
check("NTK-aware, reach", float((theta / NTKAware(8)(theta, 0)[0])[c]), reach)
check("table, NTK-aware", left["NTK-aware"], [0, 0, 17, 18])
for name in ("interpolation", "YaRN", "Llama 3", "unfinished pairs / 8"):
    check(f"table, {name}", left[name], [0, 0, 0, 18])
check_at_most(
    "table, the control tells neighbours apart as well as YaRN",
    neighbours(at_8["YaRN"]),
    neighbours(at_8["unfinished pairs / 8"]),
)
print(f"NTK-aware with a factor of 8 keeps all arcs up to {reach:.2f} L")

# %% [markdown]
# Read three things from it. NTK-aware scaling with a factor of 8 is good for texts of $8^{c/(D/2-1)} = 4.6$ times the
# length, not for 8; that is {eq}`eq-11-6` from the other side. Beyond the length that a factor was made for, all
# unfinished pairs that were divided by exactly the factor leave together. And the control does as well as YaRN in every
# column, and keeps more pairs: these columns ask for nothing that it does not do.
#
# Two properties are not in the columns:

# %%
table(
    [
        [
            name,
            "yes" if method(theta, L)[0].equal(theta) else "no",
            "yes" if getattr(method, "depends_on_length", False) else "no",
            method(theta, 8 * L)[1] ** 2,
        ]
        for name, method in methods.items()
    ],
    {"": "", "short text as trained": "", "depends on N": "", "scores times": ".2f"},
)

# %% [markdown]
# The two that leave a short text alone, apart from nothing at all, are the two that depend on the length of the text.
# That has a price.
#
# ## Frequencies that change, and a cache
#
# A model that decodes keeps its keys, already rotated. Write $\theta_i(N)$ for the frequencies and $a(N)$ for the
# attention factor at $N$ tokens. If tokens come one by one, the key of token $n$ was rotated when $N$ was $n + 1$. For
# a query that is rotated when $N = m + 1$, a full pass would rotate that key with the new frequencies. For Gaussian $q$
# and $k$, the error of the newest scores divided by their size is
#
# $$
# \begin{aligned}
# e(m)^2 &= \operatorname*{mean}_{n,\, i} \big| r_n\, \mathrm{e}^{\mathrm{i} n \delta_{n,i}} - 1 \big|^2 , \\
# \delta_{n,i} &= \theta_i(m+1) - \theta_i(n+1) , \\
# r_n &= a(n+1) / a(m+1) ,
# \end{aligned}
# $$ (eq-11-9)
#
# the mean taken over the keys $n \le m$ and the pairs.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Error over size of the scores against tokens read, from 4,096 to 16,384. Dynamic NTK rises from 0 to 1 almost at once, to about 1.2 within a thousand tokens, and stays there. LongRoPE2 jumps to 1.2 at once and falls to 0.6. With the list of YaRN it jumps lower and falls. YaRN is at 0 throughout."}, "figure": {"caption": "Scores of the newest query with a cache of rotated keys, compared with a full pass (Llama 2, factor 4, every 16th key). With dynamic NTK the error reaches most of its size within a hundred tokens. With LongRoPE2 it is there at once, at the switch, and falls as keys of the new list join the cache; with a list that leaves the fast pairs alone it is smaller. The control, YaRN, has one set of frequencies and no error.", "name": "fig-stale"}}
from rope_lab.figures.longer import cache_errors

by_four, keys = 4, torch.arange(0, 4 * L, 16)
yarn_list = (theta / YaRN(by_four, L)(theta, 0)[0]).tolist()
by_length = {
    "dynamic NTK": DynamicNTK(by_four, L),
    "LongRoPE2": LongRoPE2(starting_factors(D // 2, c, by_four), c, by_four, L),
    "LongRoPE2,\nYaRN's list": LongRoPE2(yarn_list, c, by_four, L),
    "YaRN": YaRN(by_four, L),
}


def stale(scaling) -> tuple[Tensor, Tensor]:
    """Frequencies (K, D/2) and factors (K,) with which each key was rotated."""
    if not getattr(scaling, "depends_on_length", False):
        freqs, a = scaling(theta, 1)
        return freqs.expand(len(keys), -1), torch.tensor(a).expand(len(keys))
    rotated_with = [scaling(theta, int(n) + 1) for n in keys]
    a = torch.tensor([a for _, a in rotated_with])
    return torch.stack([freqs for freqs, _ in rotated_with]), a


def error(scaling, old: tuple[Tensor, Tensor], N: int) -> float:
    """Equation 11.9 with N = m + 1."""
    freqs, a = scaling(theta, N)
    n = keys[keys < N]
    ratio = (old[1][: len(n)] / a)[:, None]
    turn = n[:, None] * (freqs - old[0][: len(n)])
    return float((ratio**2 + 1 - 2 * ratio * turn.cos()).mean().sqrt())


olds = {name: stale(scaling) for name, scaling in by_length.items()}
lengths = [L, L + 1, *(L + round(3 * L * (x / 24) ** 2) for x in range(2, 25))]
errors = {
    name: [error(scaling, olds[name], N) for N in lengths]
    for name, scaling in by_length.items()
}
cache_errors(lengths, errors, L)

# %%
rows = []
for name, scaling in by_length.items():
    now, a = scaling(theta, 2 * L)
    n = keys[keys < 2 * L]
    q, k = torch.randn(50, 1, D), torch.randn(50, len(n), D)
    query = a * rotate(q, angles(torch.tensor([2 * L - 1]), now, dtype=q.dtype))
    fresh = a * rotate(k, angles(n, now, dtype=k.dtype))
    old, factors = (part[: len(n)] for part in olds[name])
    cached = factors[:, None] * rotate(k, n[:, None] * old)
    full = (query * fresh).sum(-1)
    drawn = ((query * cached).sum(-1) - full).norm() / full.norm()
    predicted, one = error(scaling, olds[name], 2 * L), name.replace("\n", " ")
    check(
        f"eq. 11.9, {one}", drawn, predicted,
        tolerance=0.03, reason="sampling", draws=50,
    )  # fmt: skip
    late = (1, 100, L, 3 * L)
    rows.append([one, *(error(scaling, olds[name], L + x) for x in late)])
table(
    rows,
    {"tokens beyond L": ""} | {f"{x:,}": ".2f" for x in (1, 100, L, 3 * L)},
    caption="Error over size of the newest scores; independent scores give 1.41.",
)  # fmt: skip

# %% [markdown]
# There are two cures that are exact in a model of any depth. *Fix the length* before the first token; then nothing
# changes while the text grows, and short texts are read with the frequencies of long ones. Or *read the text again*
# whenever the frequencies change. For LongRoPE2 that is once (for Phi-3, `generate` in transformers drops the cache
# there). For dynamic NTK it is at every token beyond $L$. A cache of unrotated keys is exact for one layer only
# ({eq}`eq-15-11` and the cells below it). In a model of three layers:

# %%
from rope_lab import RoFormer, RoFormerConfig
from rope_lab.encodings import GrowingRotaryEmbedding

short, total = 8, 40  # trained length, tokens in all
searched = LongRoPE2(starting_factors(8, 1, 4), 1, 4, short)
shape = RoFormerConfig(vocab_size=50, context=short, dim=32, heads=2, depth=3)
ids = torch.randint(50, (1, total))


def decode(model: RoFormer, first: int, last: int) -> Tensor:
    """Logits of tokens first − 1 to last − 1: a prompt, then one by one."""
    cache = model.new_cache(total)
    steps = [model(ids[:, :first], cache=cache)[:, -1:]]
    steps += [model(ids[:, [t]], cache=cache) for t in range(first, last)]
    return torch.cat(steps, dim=1)


with torch.no_grad():
    fixed_rope = RotaryEmbedding(16, scaling=searched, length=total)
    fixed = RoFormer(shape, fixed_rope).eval()
    check("length fixed", decode(fixed, 1, total), fixed(ids))

    growing = RoFormer(shape, GrowingRotaryEmbedding(16, scaling=searched)).eval()
    passes = [growing(ids[:, : t + 1])[:, -1:] for t in range(total)]
    newest = torch.cat(passes, dim=1)
    unrotated = decode(growing, 1, total)
    again = [decode(growing, 1, short), decode(growing, short + 1, total)]
    check("read again at the switch", torch.cat(again, dim=1), newest)
far = (unrotated - newest).norm(dim=-1)[0] / newest.norm(dim=-1)[0]
table(
    [["unrotated keys, 3 layers", *(float(far[t - 1]) for t in (8, 9, 20, 40))]],
    {"logits, relative error": "", "8": ".1e", "9": ".1e", "20": ".1e", "40": ".1e"},
    caption="By the number of tokens; the list changes at 9.",
)

# %% [markdown]
# :::{admonition} Names that collide
# :class: note dropdown
#
# | name | is |
# |---|---|
# | p-RoPE | the fastest share $p$ of the pairs turns (2410.06205) |
# | PRoPE | projective, for cameras (2507.10496) |
# | Periodic RoPE | another paper (2605.27980) |
# | HoPE | high-frequency (2410.21216), hybrid for video (2505.20444), or hyperbolic (2509.05218) |
# | STRING | separable translationally invariant, for images (2502.02562), or shifted positions (2410.18745) |
# | CoPE | contextual (2405.18719), complex (2508.18308), or clipped RoPE (2602.05258) |
#
# This chapter has p-RoPE, and the observation from which the second STRING starts. Clipped RoPE is close to p-RoPE: it
# stops slow pairs too, with a soft edge. In `rope_lab`, `PRoPE` is p-RoPE. Numbers are those of arXiv.
# :::
#
# ## In the wild: dynamic in name
#
# vLLM's class for dynamic NTK filled its table once, for the full length $\rho L$
# ([vllm#5093](https://github.com/vllm-project/vllm/issues/5093)). Insert $N = \rho L$ into $\rho N/L - (\rho - 1)$ and
# $N$ is gone: $\rho^2 - \rho + 1$ for every text ([vllm#41236](https://github.com/vllm-project/vllm/issues/41236),
# since [changed](https://github.com/vllm-project/vllm/pull/41277)). That is the first cure from above, so its decoding
# was consistent. But a short text was rotated with another base, under the name of a method whose point is that it is
# not. Its scores, for Gaussian content:


# %%
def apart(one: Tensor, other: Tensor, s: int) -> float:
    """Error over size of scores at distance s, content in all pairs."""
    return float((2 - 2 * (s * (one - other)).cos()).mean().sqrt())


static = NTKAware(4 * 4 - 4 + 1)(theta, 0)[0]
check("substituted", static, DynamicNTK(4, L)(theta, 4 * L)[0])
check("dynamic leaves a short text", DynamicNTK(4, L)(theta, 1000)[0], theta)
at = (1, 10, 100, 1000)
table(
    [["static, N ≤ L", *(apart(static, theta, s) for s in at)]],
    {"distance": "", **{f"{s:,}": ".2f" for s in at}},
    caption="Factor 4: error over size of the scores, compared with dynamic NTK.",
)

# %% [markdown]
# The formula also needs its other half, "and 1 for $N \le L$". A later request for a change (open when we read it)
# reports what happens without it when the text is given *less* room than in training: the number in brackets is
# negative, its power complex, and the table ends up with values near $10^{38}$
# ([vllm#52675](https://github.com/vllm-project/vllm/pull/52675)). One line of Python does the same:

# %%
inside = 2 * 512 / 2048 - (2 - 1)
print(f"2 · 512/2048 − (2 − 1) = {inside}")
print(f"({inside}) ** (64/62) = {inside ** (64 / 62):.3f}")

# %% [markdown]
# ## Summary
#
# - A scaling that keeps scores relative is one function $h$ of the frequency: a shift (interpolation), a tilt (NTK), a bend (YaRN,
#   Llama 3), a searched list (LongRoPE), or a cut (p-RoPE).
# - Arcs are kept by dividing unfinished pairs by $\rho$ or more; NTK-aware scaling needs a larger factor for that. Fast
#   pairs tell neighbours apart. None of this says how well a model reads; chapter 15 measures that.
# - If frequencies depend on the length, fix the length or read again at every change: otherwise a cache holds keys of
#   another rotation.
#
# ## Exercises
#
# Each checker tells you what it found; the open question has none. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-11-1
# ```
#
# Write `ntk_factor(dim, pair, factor)`: the number that `NTKAware` must be given so that it divides pair `pair`
# ($1 \le$ `pair` $< D/2$) by `factor`.

# %%
from rope_lab.exercises.ch11 import check_ntk_factor


def ntk_factor(dim: int, pair: int, factor: float) -> float:
    return None  # your turn


check_ntk_factor(ntk_factor)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-11-1
# :label: sol-11-1
# ```
#
# Pair $i$ is divided by the factor to the power $i/(D/2 - 1)$; take the root. This is {eq}`eq-11-6`.


# %%
def ntk_factor(dim: int, pair: int, factor: float) -> float:
    return factor ** ((dim / 2 - 1) / pair)


check_ntk_factor(ntk_factor)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-11-2
# ```
#
# Write `leaving(freqs, scaled, length, longer)`: how many pairs meet angles that they did not meet in training, if a model
# trained on `length` tokens with `freqs` of shape `(D/2,)` reads `longer` tokens with `scaled`. As above, the arc of $n$
# tokens ends at $n\theta$.

# %%
from rope_lab.exercises.ch11 import check_leaving


def leaving(freqs: Tensor, scaled: Tensor, length: int, longer: int) -> int:
    return None  # your turn


check_leaving(leaving)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-11-2
# :label: sol-11-2
# ```
#
# A pair that completed a turn has met every angle. Of the others, those leave whose largest angle has grown. (The
# small number is there for rounding: half a frequency in twice the length is the old angle.)


# %%
def leaving(freqs: Tensor, scaled: Tensor, length: int, longer: int) -> int:
    unfinished = length * freqs < 2 * math.pi
    farther = longer * scaled > length * freqs * (1 + 1e-9)
    return int((unfinished & farther).sum())


check_leaving(leaving)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-11-3
# ```
#
# “Scores stay relative as long as positions are only moved, never put in another order.” `places` of shape `(N,)` holds
# where tokens $0, \dots, N - 1$ are put. Write `unequal(places)`: three whole numbers `m, n, t` such that the tokens $m +
# t$ and $n + t$ are not as far apart as $m$ and $n$ (all four between 0 and $N - 1$), or `None` if there are none. Every
# such triple is correct.

# %%
from rope_lab.exercises.ch11 import check_unequal


def unequal(places: Tensor) -> tuple[int, int, int] | None:
    return None  # your turn


check_unequal(unequal)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-11-3
# :label: sol-11-3
# ```
#
# By {eq}`eq-11-2`, look for a step that differs from the one before it. The sentence is wrong for every map with a bend, in
# order or not; a map that reverses the order is relative if it is straight.


# %%
def unequal(places: Tensor) -> tuple[int, int, int] | None:
    steps = places.diff()
    bends = (steps.diff().abs() > 1e-9).nonzero()
    return (int(bends[0]) + 1, int(bends[0]), 1) if len(bends) else None


check_unequal(unequal)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-11-4
# ```
#
# `dynamic_base` should return the base of dynamic NTK scaling for a text of `length` tokens and a model trained on
# `trained`. It does so for long texts. Correct it.

# %%
from rope_lab.exercises.ch11 import check_dynamic_base


def dynamic_base(
    dim: int, base: float, factor: float, length: int, trained: int
) -> float:
    stretch = factor * length / trained - (factor - 1)
    return base * stretch ** (dim / (dim - 2))


check_dynamic_base(dynamic_base)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-11-4
# :label: sol-11-4
# ```
#
# Up to the trained length the stretch is 1. Without that it falls below 1, so that short texts get a smaller base, and
# for very short ones it is negative.


# %%
def dynamic_base(
    dim: int, base: float, factor: float, length: int, trained: int
) -> float:
    stretch = factor * max(length, trained) / trained - (factor - 1)
    return base * stretch ** (dim / (dim - 2))


check_dynamic_base(dynamic_base)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-11-5
#
# A model card says: “Context 128k: trained on 4k, YaRN with a factor of 32, no fine-tuning.” Which of these does the
# formula settle, and which have to be measured: that no pair meets a new angle at 128k; that short prompts are read as
# before; that a cache is exact; that the model uses what is 100k tokens back? (This question has no checker.)
# ```
#
# ```{solution} ex-11-5
# :label: sol-11-5
#
# - *No new angle.* The formula settles it, for each pair by itself: with the ramp's end at one turn every unfinished pair
#   is divided by 32. It says nothing of combinations of angles, nor of pairs that turned once or twice and met part
#   of the circle rarely ({numref}`fig-rarest`).
# - *Short prompts.* The formula settles that they are *not* read as before, if the scaling stays on: the ramp has changed
#   frequencies, and scores are multiplied by 1.81. How much worse they are read has to be measured.
# - *The cache.* The formula settles it: the frequencies do not depend on the length, so it is exact.
# - *What is far back.* Nothing here says anything about it. A loss does not either, since most of it is decided by near
#   tokens. A needle test such as that of chapter 16 does.
# ```
#
# ## References
#
# - {cite:t}`chen2023`, theorem 2.1: interpolation and its bound, compared with the exact value above.
# - {cite:t}`bloc97`: NTK-aware; {cite:t}`peng2024`: that, dynamic NTK and YaRN; {cite:t}`grattafiori2024`: Llama 3.
# - {cite:t}`ding2024` and {cite:t}`shang2025`: LongRoPE and LongRoPE2. Of the second we read the abstract and the search code; its
#   results were not reproduced.
# - {cite:t}`an2025`: distances are met unequally often in training.
# - {cite:t}`barbero2025`: p-RoPE.
#
# Full entries are on the page {doc}`/book/references`.
