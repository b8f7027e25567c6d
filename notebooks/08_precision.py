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
# (chapter-precision)=
# # 08 · Precision
#
# Large models store most of their numbers in 16 bits. **Can their positions have 16 bits, too?**
#
# RoPE turns pair $i$ of the token at position $m$ by the angle $m\theta_i$, position times frequency. Below is one of the 64
# pairs of a head as the hand of a clock, at first pair 0, the fastest, which turns by one radian per token. The dashed hand
# is exact. For the other one the position, the frequency and their product are rounded to the number type. Move the position:

# %% tags=["hide-input"]
from rope_lab.figures.rounding import rounding

rounding()

# %% [markdown]
# The hand of pair 0 has made 159 full turns at position 1,001, which do not matter, and a remainder, which is all that matters.
# A number
# type keeps the leading digits, and these describe the turns. This chapter works out at which position each type has lost
# the remainder, which other roundings are harmless, and what each of them costs a trained model.
#
# ## How many positions are left
#
# bfloat16 keeps eight binary digits. Every whole number up to 256 fits. From 256 to 512 numbers have nine digits, so only
# every second one fits, and from 512 to 1,024 every fourth. Of the 1,024 positions from 0 to 1,023, that leaves
# $257 + 128 + 128 = 513$. In general, a type with $p$ significant digits replaces $x$ by the nearest number that it has,
# $\operatorname{fl}(x)$. Within the normal range of the type
#
# $$ |\operatorname{fl}(x) - x| \;\le\; 2^{-p}\, |x| , $$ (eq-8-1)
#
# and of the first $2^{p+a}$ positions, $a \ge 1$, it leaves (as long as they are in its range)
#
# $$ \underbrace{2^p + 1}_{0, \dots, 2^p} \;+\; a\, 2^{p-1} . $$ (eq-8-2)
#
# The normal range of float16 is narrow, from $2^{-14} \approx 6.1 \cdot 10^{-5}$ to 65,504. Smaller numbers have fewer
# digits in it. The frequencies are $\theta_i = b^{-2i/D}$ with a base $b$, from 1 down to almost $1/b$: with $b = 10{,}000$,
# as here, all are in that range, whereas with 500,000 the slowest are below it.
#
# The exact values in this chapter come from mpmath, which rounds to any number of digits and uses nothing of
# the package:

# %%
import mpmath
import torch
from torch import Tensor

from rope_lab.figures.table import table
from rope_lab.verify import check, check_at_most

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # checks then show the 16th digit
torch.manual_seed(8)
bf16, f16, f32, f64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
digits = {bf16: 8, f16: 11, f32: 24}  # significant binary digits p


def called(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


x = 2000 * torch.rand(1000)
for dtype, p in digits.items():
    with mpmath.workprec(p):
        nearest = [float(+mpmath.mpf(number)) for number in x.tolist()]
    cast = x.to(dtype).double()
    check(f"eq. 8.1, a cast to {called(dtype)}", cast, nearest, draws=1000)
    check_at_most(f"eq. 8.1, {called(dtype)}", (cast - x).abs(), x / 2**p, draws=1000)


def kept(N: int, dtype: torch.dtype) -> int:
    """How many different positions are left of 0, …, N − 1."""
    return torch.arange(N).to(dtype).unique().numel()


for dtype, p in ((bf16, 8), (f16, 11)):
    counted = torch.tensor([kept(2 ** (p + a), dtype) for a in range(1, 16 - p)])
    formula = torch.tensor([2**p + 1 + a * 2 ** (p - 1) for a in range(1, 16 - p)])
    check(f"eq. 8.2, {called(dtype)}", counted, formula)

table(
    [
        [called(dtype), p, *(kept(N, dtype) for N in (1024, 8192, 32_768))]
        for dtype, p in digits.items()
    ],
    {"type": "", "p": "d", "of 1,024": ",d", "of 8,192": ",d", "of 32,768": ",d"},
    caption="Different positions that are left after a cast.",
)

# %% [markdown]
# A counter is worse off than a list. If a program adds 1 for every token in such a type, the counter stops at $2^p$. The type
# does not have the next whole number, and the sum is rounded back:

# %%
for dtype in (bf16, f16):
    counter = torch.zeros((), dtype=dtype)
    for _ in range(5000):
        counter += 1
    print(f"{called(dtype)}: the counter is at {counter:,.0f} after 5,000 tokens")
print(f"float32: 2²⁴ + 1 = {torch.tensor(2.0**24, dtype=f32) + 1:,.0f}")

# %% [markdown]
# ## What an angle loses
#
# The angle of pair $i$ at position $m$ is the product $m\theta_i$. If position, frequency and product are all rounded,
# three factors between $1 - 2^{-p}$ and $1 + 2^{-p}$ come together. The resulting angle $\hat\varphi$ and its error are
#
# $$
# \begin{aligned}
# \hat\varphi &= \operatorname{fl}\!\big(\operatorname{fl}(m) \operatorname{fl}(\theta_i)\big) , \\
# |\hat\varphi - m\theta_i| &\le \big((1 + 2^{-p})^3 - 1\big)\, m\theta_i \\
# &\approx 3 \cdot 2^{-p}\, m\theta_i .
# \end{aligned}
# $$ (eq-8-3)
#
# The bound grows with the position, and it is largest for the fast pairs. By hand: bfloat16 has $2^{-p} = 1/256$, so for
# a frequency near 1 the bound reaches one radian at about $256/3 \approx 85$ tokens.

# %%
from rope_lab import frequencies

D = 128
theta = frequencies(D)  # θ_i, (D/2,)
mpmath.mp.dps = 50
theta_mp = [mpmath.mpf(10_000) ** (-mpmath.mpf(2 * i) / D) for i in range(D // 2)]


def exact_products(m: Tensor) -> Tensor:
    """m θ_i with 50 digits: (N,) -> (N, D/2)."""
    return torch.tensor([[float(a * w) for w in theta_mp] for a in m.tolist()])


def formed(m: Tensor, dtype: torch.dtype) -> Tensor:
    """Position, frequency and product in one number type: (N,) -> (N, D/2)."""
    return (m.to(dtype)[:, None] * theta.to(dtype)).double()


ends_at = {bf16: 10_000_000, f16: 65_000, f32: 10_000_000}  # float16: at 65,504
for dtype, p in digits.items():
    drawn = torch.randint(1, ends_at[dtype], (200,))
    exact = exact_products(drawn)
    bound = ((1 + 2.0**-p) ** 3 - 1) * exact
    off_by = (formed(drawn, dtype) - exact).abs()
    check_at_most(f"eq. 8.3, {called(dtype)}", off_by, bound, draws=200)

for dtype, p in digits.items():
    one = 1 / ((1 + 2.0**-p) ** 3 - 1)
    print(f"{called(dtype)}: the bound for θ = 1 is one radian at {one:,.0f} tokens")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Largest error of an angle over the 64 pairs against position from 1 to ten million, both axes logarithmic. Three bands of dots rise in parallel with the position, bfloat16 highest, float16 an order of magnitude below it, float32 four more below; each stays under its dashed line. Dots of bfloat16 are above the line at half a turn from a little beyond position 1,000 on, dots of float16 from about 6,000 on, and none of float32. The dots of float16 end at 65,504."}, "figure": {"caption": "The largest error over the 64 pairs of a head (dots, at odd positions) and the bound of equation 8.3 (dashed). Most errors are between a tenth and a half of the bound, so they grow about in proportion to the position. In float32 they stay below a radian up to ten million.", "name": "fig-angle-errors"}}
from rope_lab.figures.precision import angle_errors

at = (torch.logspace(0, 7, 180).long() | 1).unique()  # odd positions
products = exact_products(at)
largest = {}
for dtype in digits:
    at_most = (formed(at, dtype) - products).abs().amax(-1)
    largest[called(dtype)] = torch.where(at_most.isfinite(), at_most, torch.nan)
bounds = {called(t): ((1 + 2.0**-p) ** 3 - 1) * at for t, p in digits.items()}
bounds["float16"] = torch.where(at < 65_520, bounds["float16"], torch.nan)
angle_errors(at, largest, bounds)

# %% [markdown]
# Where do angles begin to be off? {class}`~rope_lab.atlas.spectrum.Spectrum` looks at every position and every pair:

# %%
import math

from rope_lab.atlas import Spectrum

spectrum = Spectrum(theta)
limits = {"0.01 rad": 0.01, "0.1 rad": 0.1, "half a turn": math.pi}
table(
    [
        [
            called(dtype),
            *(spectrum.first_error(dtype, most) for most in limits.values()),
        ]
        for dtype in digits
    ],
    {"angles in": ""} | {f"off by {name}": ",d" for name in limits},
    caption="The first position at which some pair is off by more; empty where none is "
    "up to ten million.",
)

# %% [markdown]
# In float32 the *fastest* pair is not the worst one. Its frequency is exactly 1, and every position below $2^{24}$ is
# exact, so it has no error at all.

# %%
million = torch.arange(9_999_900, 10_000_000)
pair_0 = formed(million, f32)[:, 0]
check("float32 at ten million, pair 0", pair_0, million.double())
worst_pair = (formed(million, f32) - exact_products(million)).abs().amax(0).argmax()
print(f"the largest error there is in pair {worst_pair}")

# %% [markdown]
# ## Why float64, and why reduced
#
# `rope_lab.angles` takes the product in float64, removes whole turns, and only then rounds to float32:

# %% tags=["hide-input"]
from rope_lab import angles
from rope_lab.figures.source import source

source(angles)

# %% [markdown]
# At ten million tokens the bound {eq}`eq-8-3` with $p = 53$ is $3.3 \cdot 10^{-9}$ radians, and taking out the turns adds
# at most half as much again. A reduced angle is at most $\pi$, so rounding it to float32 costs at most
# $2^{-24}\pi \approx 1.9 \cdot 10^{-7}$. Are both steps needed? Take away one at a time:


# %%
def exact_cosines(m: Tensor) -> Tensor:
    """cos m θ_i with 50 digits: (N,) -> (N, D/2)."""
    return torch.tensor(
        [[float(mpmath.cos(a * w)) for w in theta_mp] for a in m.tolist()]
    )


def reduced(angle: Tensor) -> Tensor:
    return angle - 2 * math.pi * torch.round(angle / (2 * math.pi))


ways = {
    "float64, reduced, then float32 (`rope_lab`)": lambda m: angles(m, theta).cos(),
    "float64, then float32": lambda m: (m[:, None] * theta).float().cos(),
    "float32, then reduced": lambda m: reduced(formed(m, f32).float()).cos(),
    "float64 until after the cosine": lambda m: (m[:, None] * theta).cos().float(),
}
ends = (1000, 100_000, 10_000_000, 10**9)
ranges = {end: torch.arange(end - 16, end) for end in ends}
cosines = {end: exact_cosines(m) for end, m in ranges.items()}
off = {
    way: [(form(ranges[end]) - cosines[end]).abs().max() for end in ends]
    for way, form in ways.items()
}
found = angles(ranges[10_000_000], theta, dtype=f64).cos()
check("angles at ten million, float64", found, cosines[10_000_000], tolerance=1e-8)
check_at_most(
    "angles at ten million, rounded to float32",
    off["float64, reduced, then float32 (`rope_lab`)"][2],
    2.0**-24 * math.pi + 1e-8,
)
table(
    [[way, *row] for way, row in off.items()],
    {"angles in": ""} | {f"{end:,}": ".0e" for end in ends},
    caption="Largest error of a cosine over the 16 positions before each of these.",
)

# %% [markdown]
# Both are needed. Without the reduction, rounding a product of ten million radians to float32 loses the same digits that
# float64 had saved (second row). A reduction that comes after a float32 product comes too late (third row). If the cosine is
# taken in float64 as well, nothing has to be reduced, because a good cosine does that itself (last row); the package reduces
# because it hands over angles, in float32. At a billion tokens float64 begins to run out as well.
#
# A device without float64 gets its table from the CPU. A kernel that has float32 only can do without: split the position,
# $m = 4096\, m_1 + m_0$. The rotation by both angles is one after the other, and as complex numbers their product,
# $\mathrm{e}^{\mathrm{i}m\theta} = \mathrm{e}^{\mathrm{i} 4096 m_1 \theta}\, \mathrm{e}^{\mathrm{i} m_0 \theta}$. Each factor
# is looked up in a short table that was formed in float64. Both have length 1, so each of these steps costs only the
# rounding of float32.

# %%
low = angles(torch.arange(4096), theta)
high = angles(torch.arange(0, 10_000_001, 4096), theta)
high, low = (torch.polar(torch.ones_like(z), z) for z in (high, low))  # complex64
parts = ranges[10_000_000] // 4096, ranges[10_000_000] % 4096
check(
    "two short tables, at ten million",
    (high[parts[0]] * low[parts[1]]).real,
    cosines[10_000_000],
    tolerance=1e-6,
)
print(f"rows of the tables: {len(high):,} + {len(low):,}")

# %% [markdown]
# ## Three kinds of rounding
#
# Not every rounding grows with the position. It depends on where in the rotation it happens. Here is the whole
# rotation with a number type for each step:


# %%
from rope_lab import rotate


def rounded(
    x: Tensor,
    m: Tensor,
    *,
    position=f64,
    frequency=f64,
    angle=f64,
    remainder=f64,
    cos_sin=f64,
    product=f32,
    stored=None,
) -> Tensor:
    """RoPE of x (…, N, D) at positions m (N,), each step rounded to its type."""
    rates = frequencies(x.shape[-1]).to(frequency).double()
    phi = (m.to(position).double()[:, None] * rates).to(angle).double()
    phi = reduced(phi).to(remainder).double()
    cos, sin = (wave.to(cos_sin).to(product) for wave in (phi.cos(), phi.sin()))
    a, b = x.to(product).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
    return turned.to(stored or product).to(x.dtype)


N, draws = 64, 60
q, k = torch.randn(2, draws, N, D)
first_64 = torch.arange(N)
package = rotate(q, angles(first_64, theta, dtype=f64))
check("rounded, with nothing rounded", rounded(q, first_64, product=f64), package)


def pairs(x: Tensor) -> Tensor:
    """(…, D) -> (…, D/2) complex."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


unit = torch.tensor([[complex(mpmath.expj(a * w)) for w in theta_mp] for a in range(N)])
by_mpmath = (pairs(q) * unit) @ (pairs(k) * unit).conj().mT
exact_scores = by_mpmath.real / D**0.5  # (draws, N, N), of standard deviation 1
causal = torch.ones(N, N, dtype=torch.bool).tril()

# %% [markdown]
# **1. Inside an angle.** With pairs as complex numbers and $h_i = q_i \bar k_i$, a score is
# $\operatorname{Re} \sum_i h_i\, \mathrm{e}^{\mathrm{i}(m\theta_i - n\theta_i)}$ (chapter 6). If the angles of query and
# key are off by $\delta_m$ and $\delta_n$, it changes by at most
#
# $$ \sum_i |h_i|\, \big|\delta_{m,i} - \delta_{n,i}\big| , $$ (eq-8-4)
#
# and {eq}`eq-8-3` allows every $\delta$ to grow with the position, however near the two tokens are.
#
# **2. In the frequency alone.** A rounded frequency is another frequency. The result is exact RoPE with
# $\theta_i' = \operatorname{fl}(\theta_i)$: scores depend on the distance alone, at every position. Compared with the intended
# one, the score at distance $s$ is off by at most
#
# $$ \sum_i |h_i|\, |s|\, |\theta_i' - \theta_i| \;\le\; 2^{-p} |s| \sum_i |h_i|\, \theta_i . $$ (eq-8-5)
#
# **3. After the turns are gone.** A reduced angle is at most $\pi$ wherever the token is, so rounding it costs at most
# $2^{-p}\pi$ radians. Cosine and sine lie between $-1$ and $1$. Rounding them moves a pair $x_i$ by at most
# $2^{-p} |x_i|$, and so the score by at most
#
# $$ \big(2 \cdot 2^{-p} + 2^{-2p}\big)\, \lVert q \rVert\, \lVert k \rVert . $$ (eq-8-6)

# %%
# |h_i|, (draws, N, N, D/2)
sizes = pairs(q).abs()[:, :, None] * pairs(k).abs()[:, None]


def scores(first: int, q: Tensor = q, k: Tensor = k, **types: torch.dtype) -> Tensor:
    """Scaled scores of tokens that begin at a position, (draws, N, N)."""
    m = torch.arange(first, first + N)
    q, k = rounded(q, m, **types), rounded(k, m, **types)
    return q @ k.mT / D**0.5


plain = {"product": f64}
here = torch.arange(1000, 1000 + N)
delta = here.to(bf16).double()[:, None] * theta - here[:, None] * theta
apart = (delta[:, None] - delta).abs()  # |δ_m − δ_n|, (N, N, D/2)
wrong = scores(1000, position=bf16, **plain) - exact_scores
slack = (sizes * apart).sum(-1) / D**0.5 + 1e-9
check_at_most("eq. 8.4, positions in bfloat16", wrong.abs(), slack, draws=draws)

at_start, far = (scores(first, frequency=bf16, **plain) for first in (0, 10**7))
check("eq. 8.5, the same at ten million", far, at_start, tolerance=1e-6, draws=draws)
distance = (first_64[:, None] - first_64).abs()
slack = 2.0**-8 * distance * (sizes @ theta) / D**0.5 + 1e-9
wrong = (at_start - exact_scores).abs()
check_at_most("eq. 8.5, frequencies in bfloat16", wrong, slack, draws=draws)

norms = q.norm(dim=-1)[:, :, None] * k.norm(dim=-1)[:, None] / D**0.5
for dtype in (bf16, f16):
    u = 2.0 ** -digits[dtype]
    wrong = scores(10**7, cos_sin=dtype, **plain) - exact_scores
    slack = (2 * u + u**2) * norms + 1e-7
    check_at_most(f"eq. 8.6, {called(dtype)}", wrong.abs(), slack, draws=draws)

# %% [markdown]
# The bounds say what cannot happen. Here is what does happen, for Gaussian queries and keys at distances up to 63.
# (Chapter 2 has a table of cosines; this one is about scores.) Scores are scaled to standard deviation 1, and each entry
# is the root mean square of the error against mpmath. The number before a name is the kind of rounding. *Angles* in a type
# means that position, frequency and product are rounded to it, with all their turns; *reduced angles* are exact until the
# turns are gone, and rounded then:

# %%
recipes = {
    "1 · positions bfloat16": {"position": bf16},
    "1 · positions float16": {"position": f16},
    "1 · angles bfloat16": {"position": bf16, "frequency": bf16, "angle": bf16},
    "1 · angles float16": {"position": f16, "frequency": f16, "angle": f16},
    "1 · angles float32": {"position": f32, "frequency": f32, "angle": f32},
    "2 · frequencies bfloat16": {"frequency": bf16},
    "3 · reduced angles bfloat16": {"remainder": bf16},
    "3 · cosine, sine bfloat16": {"cos_sin": bf16},
    "3 · cosine, sine float16": {"cos_sin": f16},
    "3 · all products bfloat16": {"cos_sin": bf16, "product": bf16},
    "3 · products float32": {},
    "control: result stored in bfloat16": {"stored": bf16},
}
starts = (0, 1000, 8000, 100_000, 10**7)


def score_error(first: int, **types: torch.dtype) -> float | None:
    wrong = (scores(first, q.float(), k.float(), **types) - exact_scores)[:, causal]
    size = wrong.square().mean().sqrt().item()
    return None if math.isnan(size) else size  # None where angles overflow


score_errors = {
    name: [score_error(first, **types) for first in starts]
    for name, types in recipes.items()
}
stored_16 = score_errors["control: result stored in bfloat16"]
within = {"reduced angles": 2, "cosine, sine": 1, "all products": 2}
for case, times in within.items():
    costs = score_errors[f"3 · {case} bfloat16"]
    most = [times * size for size in stored_16]
    check_at_most(f"{case} in bfloat16, within {times} × storing", costs, most)
table(
    [[name, *row] for name, row in score_errors.items()],
    {"rounded": ""} | {f"from {first:,}": ".0e" for first in starts},
    caption="Error of scores, by the position of the first of 64 tokens; empty where "
    "angles overflow.",
)

# %% [markdown]
# - *Positions, or angles with their turns,* in 16 bits ruin scores that are far enough from the start. From 8,000 tokens
#   on, the errors of bfloat16 are almost as large as the scores themselves. float16 has three digits more and lasts eight
#   times longer, but its numbers end at 65,504.
# - *Angles in float32* are good to a thousandth of a score at 100,000 tokens, and no longer at ten million.
# - *Frequencies* in bfloat16 cost less than a hundredth of a score here, the same at every position. But the cost grows with
#   the distance (below). A model that was trained with the same rounded frequencies is read as it was trained.
# - *Cosine and sine* in bfloat16 cost no more than the last row, which is only that the result is stored in bfloat16. Products
#   or reduced angles in bfloat16 cost up to twice as much as that, products in float32 nothing that matters.

# %%
theirs = theta.to(bf16).double()
for s in (63, 1000, 10_000, 100_000):
    # for Gaussian content, the standard deviation of the error over that of a score
    error = (2 * (s * (theirs - theta) / 2).sin()).square().mean().sqrt()
    print(f"frequencies in bfloat16 at distance {s:7,d}: {error:.3f} of a score")

# %% [markdown]
# ## What a trained model notices
#
# A score is not a loss. So take a small model of two layers, train it on Tiny Shakespeare with exact angles from position 0,
# and then let its text begin elsewhere. With exact angles that must not change the loss, which is the control. Then round.

# %%
from rope_lab import NoPE, RoFormer
from rope_lab.encodings import PositionEncoding
from rope_lab.training import Corpus, evaluate, preset, tiny_shakespeare, train

torch.set_default_dtype(f32)


class Rounded(PositionEncoding):
    """RoPE by `rounded`, for a text that begins at position `first`."""

    def __init__(self, first: int = 0, **types: torch.dtype) -> None:
        super().__init__()
        self.first, self.types = first, types

    def rotate(self, q, k, v, positions, length=None):
        m = positions + self.first
        return rounded(q, m, **self.types), rounded(k, m, **self.types), v


class TrainingOnly(Corpus):
    """A corpus all but without a validation split, on which `train` spends time."""

    @property
    def val(self) -> str:
        return self.text[-2:]


corpus = tiny_shakespeare()
unmeasured = TrainingOnly(corpus.name, corpus.text)
L = 64  # characters of context
config = preset(
    "cpu", context=L, dim=64, depth=2, heads=1, steps=60, reports=1, evaluations=1
)
held_out = corpus.encode(corpus.val)[: 32 * L + 1]


def trained(position: PositionEncoding) -> RoFormer:
    torch.manual_seed(8)
    model = RoFormer(config.architecture(len(corpus.vocab)), position)
    return train(config, unmeasured, start=model, quiet=True).model.eval()


def loss_at(model: RoFormer, first: int, **types: torch.dtype) -> float:
    model.position.first, model.position.types = first, types
    return evaluate(model, held_out)


exact_model = trained(Rounded())
control = [loss_at(exact_model, first) for first in starts]
check("exact angles, the same loss", control, [control[0]] * 5, tolerance=1e-5)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss in nats per character against the position of the first character, from 1 to ten million on a logarithmic axis. Exact angles, and cosine, sine and products in bfloat16, coincide on a level line at the bottom. Positions in bfloat16 leave it at 257 and rise to a dashed line at the top, labelled without rotation, which they reach at 16,385 and then follow. Positions in float16 rise along the same curve, moved right by a factor of eight, and end before 65,504."}, "figure": {"caption": "One model, trained with exact angles from position 0, reads the same 2,048 characters from different positions. Bfloat16 positions cost nothing up to 256. From there the loss rises until all 64 characters of a segment share a position, and then it is the loss of the same model without any rotation (dashed). Float16 follows the same curve eight times later, and its range ends before that of the curve. Bfloat16 cosines and products cost nothing that can be seen here, at any position.", "name": "fig-loss-by-position"}}
from rope_lab.figures.precision import losses_by_position

still = RoFormer(exact_model.config, NoPE()).eval()
still.load_parameters(dict(exact_model.named_parameters()))
begins = [1, 65, 129, 257, 513, 1025, 2049, 4097, 8193, 16_385, 32_769, 57_345]
begins += [131_073, 1_000_001, 9_999_901]
shown = {
    "exact angles": {},
    "cosine, sine, products bfloat16": recipes["3 · all products bfloat16"],
    "positions float16": recipes["1 · positions float16"],
    "positions bfloat16": recipes["1 · positions bfloat16"],
}
curves = {
    name: [loss_at(exact_model, first, **types) for first in begins]
    for name, types in shown.items()
}
losses_by_position(begins, curves, {"without rotation": evaluate(still, held_out)})

# %% [markdown]
# In numbers, for every recipe of the table above:

# %%
losses = {
    name: [loss_at(exact_model, first, **types) for first in starts]
    for name, types in recipes.items()
}
unrotated = evaluate(still, held_out)
same_place = losses["1 · positions bfloat16"][-1]
check("one position for all, as unrotated", same_place, unrotated, tolerance=1e-5)
table(
    [
        [
            name,
            *(
                None if math.isnan(loss) else round(loss - control[0], 4) + 0.0
                for loss in row
            ),
        ]
        for name, row in losses.items()
    ],
    {"rounded": ""} | {f"from {first:,}": "+.4f" for first in starts},
    caption=f"Change of the loss, which is {control[0]:.3f} with exact angles; empty where "
    "angles overflow.",
)

# %% [markdown]
# Would a model get used to it? Train it again from position 8,000 with bfloat16 positions, and compare it with a model that
# is trained without positions:

# %%
at_8000 = {"position": bf16}
used_to_it, without = trained(Rounded(8000, **at_8000)), trained(NoPE())
best, worst = loss_at(exact_model, 8000), loss_at(exact_model, 8000, **at_8000)
adapted, mended = loss_at(used_to_it, 8000, **at_8000), loss_at(used_to_it, 8000)
nothing = evaluate(without, held_out)
check_at_most(
    "trained in bfloat16, wins back under half", worst - adapted, adapted - best
)
check_at_most(
    "trained in bfloat16, nearer to no positions", nothing - adapted, adapted - best
)
check_at_most("trained in bfloat16, better with exact ones", mended, adapted)
won = f"{(worst - adapted) / (worst - best):.0%}"
cases = [
    ("exact angles", "exact", best),
    ("exact angles", "bfloat16", worst),
    ("bfloat16 positions", "bfloat16", adapted),
    ("bfloat16 positions", "exact", mended),
    ("no positions", "none", nothing),
]
left = (8000 + torch.arange(L)).to(bf16).unique().numel()
print(f"Of {L} positions from 8,000 on, bfloat16 leaves {left}.")
print(f"Training with them wins back {won} of what they cost.")
table(cases, {"trained with": "", "read with positions": "", "loss": ".3f"})

# %% [markdown]
# Partly. Training with the rounded positions wins back less than half of what they cost the model that did not know them,
# and ends nearer to the loss without positions than to the one with exact ones. Characters that share a position are
# rotated alike, so the rotation says nothing about their order. Give the same model exact positions, which it never saw,
# and its loss falls a little: some of what it lacks is in the positions and not in the weights.
#
# Caution: this is one seed, two layers, 64 characters and 60 updates. It shows the large effects. What it cannot show is
# a change of a thousandth of a nat, what rounded frequencies do at distances of thousands of tokens, or whether rounded
# products add up over a hundred layers and a hundred thousand keys. {cite:t}`wang2025` report from large models that with
# bfloat16 RoPE deviates from relative scores, more so in longer contexts, and that the first token contributes much to
# it. Their experiments are not repeated here. For random content, the part about longer contexts holds for rounded
# angles, and not for rounded cosines or products, and the first key is not off by more than the others:

# %%
stored = {"cos_sin": bf16, "product": bf16}
moved = scores(1000, **stored) - scores(0, **stored)
by_key = [moved[:, n:, n].square().mean().sqrt().item() for n in range(48)]
print(f"moved by 1,000, the scores of key 0 change by {by_key[0]:.4f}")
print(f"those of keys 1 to 47 by {min(by_key[1:]):.4f} to {max(by_key[1:]):.4f}")

# %% [markdown]
# ## A cache that lives long
#
# A chat that never ends fills its cache. Scores depend on differences only, so the program may drop the oldest keys and count
# on: at position ten million exact angles are as good as at ten. Some programs move the keys that they keep instead, by
# turning each stored key back by the number of dropped tokens. Every such shift rounds the stored key once more.


# %%
def shift(keys: Tensor, by: int, dtype: torch.dtype) -> Tensor:
    """Stored keys (draws, 1, D) moved back by some tokens, and stored again."""
    back = torch.tensor([-by])
    return rounded(keys, back, product=f64, stored=dtype)


def deviations(
    by: int, dtype: torch.dtype, first: int = D
) -> tuple[list[float], Tensor]:
    """Relative errors: after 1, …, 64 shifts, and at the end of each pair.

    The former count only the `first` coordinates.
    """
    original = torch.randn(500, 1, D, dtype=f64).to(dtype).double()
    keys, errors = original, []
    for count in range(1, 65):
        keys = shift(keys, by, dtype)
        exact = rounded(original, torch.tensor([-by * count]), product=f64)
        wrong = keys - exact
        errors.append(wrong[..., :first].norm() / exact[..., :first].norm())
    wrong, size = (pairs(z).abs().square().mean((0, 1)) for z in (wrong, exact))
    return [error.item() for error in errors], (wrong / size).sqrt()


tries = {
    "bfloat16, by 1": (1, bf16),
    "bfloat16, by 256": (256, bf16),
    "float16, by 1": (1, f16),
}
drift = {name: deviations(*case) for name, case in tries.items()}
at_once = deviations(64, bf16)[0][0]
fast_half = deviations(1, bf16, first=D // 2)[0]
for name, (errors, _) in drift.items():
    print(
        f"{name}: {errors[0]:.4f} after one shift, {errors[-1]:.4f} after 64, "
        f"{errors[-1] / errors[0]:.0f} times as much"
    )
grown = fast_half[-1] / fast_half[0]
print(f"bfloat16, by 1, fast half of the pairs: {grown:.0f} times as much after 64")
print(f"bfloat16, by 64 in one shift: {at_once:.4f}")

# %% [markdown]
# Roundings that are independent of one another would make the error grow with the square root of their number, to eight
# times its size after 64 shifts, and shifts by 256 tokens come close to that. Shifts by one token make it about thirty
# times as large, but not in the fast half of the pairs, so the reason is in the slow half. One token turns a pair by
# $\theta_i$, and where that moves a coordinate by less than half the distance to the next number of the type, rounding
# puts it back where it was. If that happens to both coordinates of a pair, the next shift finds the same pair, and so it
# never turns. After $c$ shifts by $t$ tokens it is off by all that it should have turned:
#
# $$ \big|\mathrm{e}^{-\mathrm{i} c t \theta_i} - 1\big| = 2 \left|\sin \tfrac{c t \theta_i}{2}\right| . $$ (eq-8-7)

# %%
once_shifted = torch.randn(500, 1, D, dtype=f64).to(bf16).double()
put_back = (shift(once_shifted, 1, bf16) == once_shifted).double().mean((0, 1))
put_back = put_back.unflatten(-1, (-1, 2)).mean(-1)  # of each pair
for i in (0, 30, 40, 50, 63):
    print(
        f"pair {i:2d}: {put_back[i]:.0%} of its coordinates are put back by one shift"
    )

_, of_pairs = drift["bfloat16, by 1"]
slowest = range(60, 64)
lost = torch.tensor([2 * float(abs(mpmath.sin(32 * theta_mp[i]))) for i in slowest])
check(
    "eq. 8.7",
    of_pairs[60:] / lost,
    torch.ones(4, dtype=f64),
    tolerance=0.1,
    reason="approximation",
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left, relative error of a stored key against the number of shifts from 1 to 64, both axes logarithmic: bfloat16 shifted by 1 rises steepest, to 0.04; bfloat16 shifted by 256 rises to 0.01; float16 shifted by 1 runs parallel to the first, six times lower. Right, error of each of the 64 pairs after the last shift: for shifts by 256 nearly level; for shifts by 1 a hump at the slow pairs, about pair 40 for bfloat16 and further right for float16, and beyond the hump the dots lie on a dashed falling curve."}, "figure": {"caption": "Keys that are stored again after every shift. Shifts by 256 tokens keep the error of nearly all pairs alike. Shifts by one token lose the slow pairs: right of the hump they lie close to the dashed curve, equation 8.7, of pairs that never turned.", "name": "fig-shifts"}}
from rope_lab.figures.precision import shifts

stuck = 2 * (32 * theta).sin().abs()
shifts(
    range(1, 65),
    {name: errors for name, (errors, _) in drift.items()},
    {name: per_pair for name, (_, per_pair) in drift.items()},
    stuck,
)

# %% [markdown]
# Each remedy rounds less often. Move keys rarely and by many tokens: one shift by 64 costs little more than one by a
# single token (last line above). Or store each key as it was, with the sum of all its shifts, and turn it when it is
# read. Or do not move keys at all, and let the positions grow.
#
# ## In the wild: the model's own number type
#
# A module that holds its frequencies in a buffer and makes positions in the type of that buffer works until someone casts the
# model. GPT-NeoX computed its tables of cosines and sines in the type of the model. A reader compared a float16 table for
# 2,048 positions with a float32 one and found cosines that differ by up to 0.7819
# ([gpt-neox#1003](https://github.com/EleutherAI/gpt-neox/issues/1003)). The numbers of that report, reproduced:

# %%
rates = frequencies(32)
short = torch.arange(2048)
full = (short[:, None] * rates).float()
half = short.half()[:, None] * rates.half()
print(f"position 1857, pair 1, float32: {full[1857, 1]:.4f}")
print(f"position 1857, pair 1, float16: {half[1857, 1]:.0f}")
difference = (half.cos().float() - full.cos()).abs().max()
print(f"largest difference of a cosine: {difference:.4f}")

# %% [markdown]
# A cast model was reported for Llama as well
# ([transformers#25681](https://github.com/huggingface/transformers/issues/25681)), and half a year later the same effect
# through autocast ([transformers#29285](https://github.com/huggingface/transformers/pull/29285)). A cast of the
# frequencies alone is the second kind of rounding, and a quiet one: a trainer agreed with itself, where both sides were
# rounded alike, and only a reload in another library showed the difference
# ([Automodel#2549](https://github.com/NVIDIA-NeMo/Automodel/pull/2549)). The third kind, cosine and sine in bfloat16, was
# reported to a project that trains for speed. Its author asked whether it changes the loss; the reporter saw no
# improvement at first, and then a very small one
# ([modded-nanogpt#39](https://github.com/KellerJordan/modded-nanogpt/issues/39)). That fits the tables above. But there
# is a report against it: a gap in the loss of a Llama 3.1 in training, which its author traced to a fused rotation whose
# queries and keys were bfloat16 ([TransformerEngine#1245](https://github.com/NVIDIA/TransformerEngine/issues/1245)). Its
# base of 500,000 and its size are not tested here.
#
# Casting back does not help, because the digits are gone. `RotaryEmbedding` has no buffer that a cast could round. (For an
# unknown rotation, `rope-lab doctor module:function` measures what its angles are worth.)

# %%
from rope_lab import RotaryEmbedding

back = theta.to(bf16).double()
share = ((back - theta) / theta).abs().max()
print(f"after .bfloat16().double() frequencies are off by up to {share:.1%}")
module = RotaryEmbedding(D)
q4, k4 = torch.randn(2, 1, 1, 100, D)
before = torch.stack(module(q4, k4, offset=10**7))
after = torch.stack(module.bfloat16()(q4, k4, offset=10**7))
check("RotaryEmbedding, after .bfloat16()", after, before, tolerance=0)

# %% [markdown]
# ## Summary
#
# - An error in an angle that still has its turns grows with the position, so 16-bit floating-point numbers are too coarse
#   for positions and their products. Form the product in float64, remove whole turns, and round last (or take cosine and
#   sine in float64, too).
# - What is rounded after that costs about the same at every position. Reduced angles, cosine, sine and products in
#   bfloat16 cost scores no more than twice what it costs to store the result in bfloat16, and the small model here did
#   not notice.
# - A rounded frequency is another frequency: scores remain relative, but differ from those of the intended frequency by more
#   the farther apart the tokens are.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-08-1
# ```
#
# Equation {eq}`eq-8-2` counts for powers of two. Write `distinct(N, p)` for any $N$: how many different numbers are left
# when each of the positions $0, \dots, N - 1$ is rounded to $p$ significant binary digits, to the nearest and from the middle
# to the even one.

# %%
from rope_lab.exercises.ch08 import check_distinct


def distinct(N: int, p: int) -> int:
    return None  # your turn


check_distinct(distinct)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-08-1
# :label: sol-08-1
# ```
#
# A number with $d > p$ binary digits is rounded to a multiple of $2^{d-p}$. Python's `round` breaks ties as asked.


# %%
def distinct(N: int, p: int) -> int:
    units = (2 ** max(0, m.bit_length() - p) for m in range(N))
    return len({round(m / unit) * unit for m, unit in enumerate(units)})


check_distinct(distinct)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-08-2
# ```
#
# You design a number type for angles. Write `digits_needed(N, error)`: the smallest number $p$ of significant binary digits
# for which the bound {eq}`eq-8-3` promises that at position $N$ no angle of a pair with $\theta_i \le 1$ is off by more than
# `error` radians.

# %%
from rope_lab.exercises.ch08 import check_digits_needed


def digits_needed(N: int, error: float) -> int:
    return None  # your turn


check_digits_needed(digits_needed)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-08-2
# :label: sol-08-2
# ```
#
# The bound is largest for $\theta_0 = 1$. It is about $3 \cdot 2^{-p} N$, so $p$ is near $\log_2 (3N/\varepsilon)$: each
# doubling of the text costs one digit.


# %%
def digits_needed(N: int, error: float) -> int:
    p = 1
    while ((1 + 2**-p) ** 3 - 1) * N > error:
        p += 1
    return p


check_digits_needed(digits_needed)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-08-3
# ```
#
# "Rounding breaks the relative property: move both tokens by $t$, and their score changes." Write `moves(of, p, freqs)` for
# `of` equal to `"position"`, `"frequency"` or `"angle"` (the product $m\theta_i$), where only that is rounded to $p$ digits, as in
# {ref}`ex-08-1`. Query and key are all ones, so that the score of $m$ and $n$ is
# $\sum_i \cos (\hat\varphi_{m,i} - \hat\varphi_{n,i})$. Return whole numbers `(m, n, t)` for which the score changes by more than
# 0.001, with all positions between 0 and 100,000, or `None` where there are none.

# %%
from rope_lab.exercises.ch08 import check_moves


def moves(of: str, p: int, freqs: Tensor) -> tuple[int, int, int] | None:
    return None  # your turn: (m, n, t), or None


check_moves(moves)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-08-3
# :label: sol-08-3
# ```
#
# Refuted for the frequency: $m\theta_i' - n\theta_i'$ is a multiple of $m - n$ for every $\theta_i'$. True for the other two.
# With $t = 2^{p+2}$ the neighbours $t$ and $t + 1$ share a position, and in the fastest pair they share an angle.


# %%
def moves(of: str, p: int, freqs: Tensor) -> tuple[int, int, int] | None:
    return None if of == "frequency" else (1, 0, 2 ** (p + 2))


check_moves(moves)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-08-4
# ```
#
# `far_tables` should return the cosines and the sines of $m\theta_i$, shape `(2, N, D/2)`, to the precision of float32,
# for whole positions `m` up to two hundred million. Its author knew that whole turns have to go. Correct it.

# %%
from rope_lab.exercises.ch08 import check_far_tables


def far_tables(m: Tensor, freqs: Tensor) -> Tensor:
    angle = m.float()[:, None] * freqs.float()
    angle = angle - 2 * math.pi * torch.round(angle / (2 * math.pi))
    return torch.stack((angle.cos(), angle.sin()))


check_far_tables(far_tables)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-08-4
# :label: sol-08-4
# ```
#
# The turns are taken out of a product that has already lost what is left over. The product has to be float64; then the
# result may be rounded.


# %%
def far_tables(m: Tensor, freqs: Tensor) -> Tensor:
    angle = m.double()[:, None] * freqs.double()
    angle = angle - 2 * math.pi * torch.round(angle / (2 * math.pi))
    return torch.stack((angle.cos(), angle.sin())).float()


check_far_tables(far_tables)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-08-5
#
# A colleague casts a whole model to bfloat16, RoPE included, measures its perplexity on texts of 256 tokens, finds no
# change, and concludes that precision does not matter for RoPE. What is wrong with the experiment? Design a better one.
# (This question has no checker.)
# ```
#
# ````{solution} ex-08-5
# :label: sol-08-5
#
# - *The positions were too small.* Up to 256 bfloat16 has every position, so the largest of the errors could not occur.
#   Let the same texts begin at position 8,000 or more; with exact angles the loss must not change, which is the control.
# - *The distances were too small.* Rounded frequencies are off by an angle that grows with the distance. Use long texts, and
#   a task that needs a far token.
# - *Several roundings at once.* The cast rounds frequencies, angles, cosines, products and all other activations. Take
#   one at a time, and compare with a model that is cast except for RoPE.
# - *A mean hides a few.* Look at the loss by position and by what a token needs, not only at its mean.
# - *One model that was trained exactly.* Whether training gets used to a rounding is another question, with another control:
#   a model that was trained with it.
# ````
#
# ## References
#
# - {cite:t}`wang2025`: RoPE in bfloat16 in long contexts. Their observation is compared with tables above; their models and
#   their remedy are not reproduced.
#
# Full entries are on the page {doc}`/book/references`.
