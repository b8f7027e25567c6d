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
# (chapter-real-models)=
# # 19 · RoPE in real models
#
# The `config.json` of a released model has a few numbers about its rotation: the base $b$ of the frequencies, the share
# of each head that turns, perhaps a scaling that slows some pairs for longer texts, and a context length. **What do
# real models set, and what do these numbers say about the texts they can read?**
#
# `rope_lab.atlas` holds these settings for released families, each number with its source. The wavelength of a pair is
# the number of tokens in which it makes one full turn. Here is that of the slowest pair of every family that states a
# context:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Wavelength of the slowest pair against context, both logarithmic, a point per family. Almost all points are above the dashed diagonal, most by a factor of ten to several hundred, and scaled ones among the highest; two green triangles, LFM3 1.7B and Gemma 4 E2B, are far below it."}, "figure": {"caption": "Each point is a family; a name that would cover something is left out. Above the dashed line, the slowest pair that turns does not finish a single turn in the context. All but two families are above it, at contexts from 1,536 tokens to a million. The two exceptions turn only their fastest pairs (p-RoPE).", "name": "fig-slowest"}}
import math

import mpmath
import torch
from torch import Tensor

from rope_lab import angles, atlas, frequencies, rotate
from rope_lab.figures.atlas import share, slowest
from rope_lab.figures.table import table
from rope_lab.verify import check, check_at_most

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
torch.manual_seed(19)
slowest()

# %%
rows = [row for row in atlas.FAMILIES if row.context is not None]
above = [row for row in rows if row.spectrum.slowest > row.context]
print(f"{len(atlas.FAMILIES)} families, {len(rows)} of them state a context")
print(f"slowest pair slower than the context: {len(above)}")

# %% [markdown]
# So in nearly every family some pairs never complete a turn in its context. This chapter counts them, asks what the
# bases are chosen for, and then lets you paste a config of your own.
#
# A row is only as good as its source. `row.source_of("base")` names it: a config class of `transformers`, a constant in
# code, the settings that another repository keeps, a model card, a paper. The tests of the package compare the rotation
# of every row with the rotation of `transformers`. What the numbers of a checkpoint are is another matter: its own
# `config.json` decides, and you can paste it below.
#
# ## One family by hand
#
# Llama 2 turns whole heads of $R = 128$ coordinates with base $b = 10{,}000$, in a context of $L = 4{,}096$ tokens.
# Pair $i$ turns by $\theta_i = b^{-2i/R}$ per token, so its wavelength is
#
# $$ \lambda_i = \frac{2\pi}{\theta_i} = 2\pi\, b^{2i/R} . $$ (eq-19-1)
#
# It exceeds the context where $i > \frac{R}{2} \ln\frac{L}{2\pi} \big/ \ln b$. Here that is
# $64 \cdot 6.48 / 9.21 = 45.03$. Pairs 46 to 63 do not finish a turn: 18 of 64. In general, the number $U$ of
# unfinished pairs is
#
# $$
# \begin{aligned}
# U &= \frac{R}{2} - 1 - \Big\lfloor \frac{R}{2}\, \eta \Big\rfloor , \\
# \eta &= \frac{\ln (L/2\pi)}{\ln b} ,
# \end{aligned}
# $$ (eq-19-2)
#
# where $0 \le \eta < 1$. The check compares it with wavelengths in 30 digits, counted one by one:

# %%
plain = [row for row in rows if row.scaling is None]  # θ_i = b^(−2i/R)


def eta_of(row: atlas.Family) -> float:
    return math.log(row.context / (2 * math.pi)) / math.log(row.base)


def counted(row: atlas.Family) -> int:
    """U from wavelengths in 30 digits, equation 19.1."""
    with mpmath.workdps(30):
        R = row.rotation().dim
        exponents = (mpmath.mpf(2 * i) / R for i in range(R // 2))
        waves = [2 * mpmath.pi * mpmath.mpf(row.base) ** e for e in exponents]
        return sum(wave > row.context for wave in waves)


pairs = torch.tensor([row.rotation().dim // 2 for row in plain])
eta = torch.tensor([eta_of(row) for row in plain])
by_formula = pairs - 1 - (pairs * eta).floor()
by_counting = torch.tensor([counted(row) for row in plain]).double()
check("eq. 19.2", by_formula, by_counting)
llama_2 = atlas.find("llama-2")
print(f"Llama 2: η·R/2 = {64 * eta_of(llama_2):.2f}, U = {llama_2.spectrum.unfinished}")

# %% [markdown]
# Divided by the number of pairs, $U$ is nearly a function of the context and the base alone. The floor costs at most
# one pair:
#
# $$ 1 - \eta - \frac{2}{R} \;\le\; \frac{U}{R/2} \;\le\; 1 - \eta . $$ (eq-19-3)
#
# A model keeps its share when its base grows as a power of its context, $b = (L/2\pi)^{1/\eta}$. The lines in
# {numref}`fig-unfinished` show $1 - \eta$ for four bases.

# %%
shares = by_counting / pairs
check_at_most("eq. 19.3, left", 1 - eta - 1 / pairs, shares)
check_at_most("eq. 19.3, right", shares, 1 - eta)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Share of pairs that never finish a turn, 0 to 55 percent, against the context, with falling grey lines for bases 10,000, 500,000, one million and ten million. From a context of 2,000 to a million most points are between 20 and 50 percent; scaled families are among the highest, and two families that turn only their fastest pairs are at zero."}, "figure": {"caption": "Along a line the base is the same and the share falls with the context. The unscaled families with contexts above 40,000 tokens have bases of 500,000 and more, and the share did not vanish: in the two families near a million tokens it is still a fifth to a quarter. Scaled families (squares) have more unfinished pairs than their bases alone would give.", "name": "fig-unfinished"}}
from rope_lab.figures.atlas import unfinished

unfinished((1e4, 5e5, 1e6, 1e7))

# %%
periods = {"2021–2023": (2021, 2023), "2024": (2024, 2024), "2025–26": (2025, 2026)}


def median(values: list[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).quantile(0.5))


def summary(first: int, last: int) -> list[float]:
    some = [row for row in rows if first <= row.year <= last]
    values = [share(row) for row in some]
    medians = (median([getattr(r, f) for r in some]) for f in ("base", "context"))
    return [len(some), *medians, min(values), median(values), max(values)]


table(
    [[name, *summary(*years)] for name, years in periods.items()],
    {
        "released": "", "families": "d", "base": ",.0f", "context": ",.0f",
        "least": ".0%", "median": ".0%", "largest": ".0%",
    },
    caption="Median base and context; share of pairs that never finish a turn.",
)  # fmt: skip

# %% [markdown]
# From the first period to the last, the median context grew by a factor of 64 and the median base by a hundred, whereas
# the median share moved little. With the old base, at least half of the unscaled families of the last period would have
# no pair unfinished:

# %%
recent = [row for row in rows if row.year >= 2025 and row.scaling is None]
with_10_000 = [
    max(0.0, 1 - math.log(r.context / (2 * math.pi)) / math.log(1e4)) for r in recent
]
print(f"unscaled, 2025–26: median share {median([share(r) for r in recent]):.0%}")
print(f"the same contexts with base 10,000: {median(with_10_000):.0%}")

# %% [markdown]
# The rows are not independent (several are successive releases of one developer), and nothing here shows that anybody
# aimed at a share.
#
# ## What are the bases chosen for?
#
# One idea would be that every pair should be able to complete a turn. Then the slowest wavelength equals the context,
# and {eq}`eq-19-1` with $i = R/2 - 1$ gives the base
#
# $$ b_L = \Big(\frac{L}{2\pi}\Big)^{R/(R-2)} . $$ (eq-19-4)
#
# For Llama 2 it is 723. Every unscaled family has a larger base than that:

# %%
R = 2 * pairs
L = torch.tensor([row.context for row in plain])
b_L = (L / (2 * math.pi)) ** (R / (R - 2))
last_wave = torch.stack(
    [
        2 * math.pi / frequencies(int(r), float(b))[-1]
        for r, b in zip(R, b_L, strict=True)
    ]
)
check("eq. 19.4", last_wave / L, torch.ones(len(plain)))
times = torch.tensor([row.base for row in plain]) / b_L
check_at_most("every base exceeds b_L", torch.ones(len(plain)), times)
print(f"b_L of Llama 2: {float(b_L[plain.index(llama_2)]):.0f}")
print(f"base over b_L: {times.min():.1f} to {times.max():.0f}")
print(f"median: {times.median():.0f}")

# %% [markdown]
# Another idea is the one that chapter 6 tests: for content that is spread evenly over all pairs, a key that matches the
# query scores higher on average than one that does not as long as the mean cosine
# $c(s) = \frac{2}{R}\sum_i \cos s\theta_i$ is positive, and this bounds the context from above {cite:p}`xu2024`. The cell
# below asks every family whether that holds at all distances that its layers see, and asks the same for content in the
# slowest or the fastest quarter of the pairs that turn:


# %%
def holds(freqs: Tensor, context: int) -> bool:
    """Whether c(s) > 0 at every distance below `context`."""
    start, step = 0, 1024
    while start < context:
        s = torch.arange(start, min(start + step, context)).double()
        if not ((s[:, None] * freqs).cos().mean(-1) > 0).all():
            return False
        start, step = start + step, 16_384
    return True


def quarters(freqs: Tensor) -> tuple[Tensor, Tensor]:
    """The fastest and the slowest quarter of the pairs that turn."""
    turning = freqs[freqs != 0]
    return turning[: len(turning) // 4], turning[-(len(turning) // 4) :]


def seen(row: atlas.Family) -> int:
    """The context, or the window or chunk where every layer that turns has one."""
    return min(row.context, row.sees or row.context)


cases = {(tuple(row.spectrum.freqs.tolist()), seen(row)) for row in rows}
verdict = {(f, n): holds(torch.tensor(f), n) for f, n in cases}
in_all = [verdict[tuple(row.spectrum.freqs.tolist()), seen(row)] for row in rows]
in_fast, in_slow = (
    [holds(quarters(row.spectrum.freqs)[end], seen(row)) for row in rows]
    for end in (0, 1)
)
print(
    f"content in all pairs: c(s) > 0 at all distances in {sum(in_all)} of {len(rows)}"
)
print(f"in the slowest quarter that turns: in {sum(in_slow)} of {len(rows)}")
print(f"in the fastest quarter: in {sum(in_fast)} of {len(rows)}")
llama_2_holds = in_all[rows.index(llama_2)]
print(f"Llama 2, content in all pairs: {llama_2_holds}")

# %% [markdown]
# Most of these families, Llama 2 among them, break the bound for content in all pairs at the contexts they state. With
# content in the slowest quarter most meet it, and with content in the fastest quarter none does. That fits heads that
# keep in slow pairs what they need from far away. It does not show that they do so; chapter 16 looks at a small model.
# (The two families that stop their slow pairs meet the bound in all pairs, because in a pair that does not turn a match
# agrees at every distance.)
#
# ## What a scaling does to the count
#
# Apart from p-RoPE, the scalings in the atlas make slow pairs slower still, so *more* pairs stay unfinished than
# without them. What they are meant to keep is the range of angles. Let $L_0$ be the length that the scaling starts
# from. A pair that has not finished a turn at $L_0$ has met the angles $0$ to $L_0\theta_i$. Scaled to $\theta_i'$, in
# a context $L$, it reaches $L\theta_i'$, and the ratio of the two is
#
# $$ \kappa_i = \frac{L\,\theta_i'}{L_0\,\theta_i} = \frac{L/L_0}{\theta_i/\theta_i'} . $$ (eq-19-5)
#
# At $\kappa_i = 1$ the pair sees the old range of angles and no more.


# %%
def without(row: atlas.Family) -> int:
    """Pairs that would not finish a turn in the context without the scaling."""
    waves = 2 * math.pi / frequencies(row.rotation().dim, row.base)
    return int((waves > row.context).sum())


scaled = [row for row in rows if row.scaling and not row.spectrum.still]  # no p-RoPE
more = sum(row.spectrum.unfinished > without(row) for row in scaled)
print(f"more unfinished pairs than without the scaling: {more} of {len(scaled)}")

extended = [row for row in rows if hasattr(row.scaling, "original_length")]
found = []
for row in extended:
    L_0 = row.scaling.original_length
    base_only = frequencies(row.rotation().dim, row.base)
    kappa = row.context * row.spectrum.freqs[-1] / (L_0 * base_only[-1])
    counts = f"{without(row)} → {row.spectrum.unfinished}"
    found.append(
        [row.name, row.context / L_0, row.scaling.factor, float(kappa), counts]
    )
factors = torch.tensor([line[1] / line[2] for line in found])
searched = torch.tensor([row.scaling_name.startswith("LongRoPE") for row in extended])
kappas = torch.tensor([line[3] for line in found])
check(
    "eq. 19.5, slowest pair, no searched factors", kappas[~searched], factors[~searched]
)
table(
    found,
    {
        "family": "",
        "L/L₀": ".0f",
        "factor": ".0f",
        "κ, slowest": ".2f",
        "unfinished": "",
    },
    caption="Scalings with a first length L₀; unfinished pairs without and with them.",
)

# %% [markdown]
# In most rows the factor is the ratio of the lengths, and the slowest pair ends where it ended before. Llama 3.1
# divides by 8 for a text 16 times as long, and its slow pairs reach twice their first angles; Llama 3.2 divides by 32
# for the same ratio. So the factor need not be the ratio of the lengths, and code that computes one from the other is
# wrong for these families. (The layers of Llama 4 Scout that turn see blocks of 8,192 tokens only, so its pairs reach a
# sixteenth of what $L$ = 131,072 gives.) LongRoPE has one factor for each pair, and that of the slowest is larger than the factor in
# the config: $\kappa < 1$.
#
# ## What else differs
#
# A base is not the only number that a reader of configs has to get right. Pairs are neighbouring coordinates in the
# interleaved layout and half a head apart in the other (chapter 5); latent attention keeps the coordinates that turn
# apart from the rest (chapter 7); layers with a window may have a base of their own:


# %%
def numbers(first: int, last: int) -> list[int]:
    some = [row for row in atlas.FAMILIES if first <= row.year <= last]
    partly = [row for row in some if row.rotated not in (None, row.head_dim)]
    return [
        len(some),
        sum(row.layout == "interleaved" for row in some),
        sum(not row.decoupled for row in partly),
        sum(row.decoupled for row in partly),
        sum(row.scaling is not None for row in some),
        sum(row.local is not None for row in some),
        sum(bool(row.without_rope) for row in some),
    ]


traits = (
    "any settings", "the interleaved layout", "part of a head turning",
    "turned coordinates apart", "a scaling", "a base for windows",
    "layers without RoPE",
)  # fmt: skip
columns = [numbers(*years) for years in periods.values()]
table(
    [[trait, *line] for trait, *line in zip(traits, *columns, strict=True)],
    ["families with …", *periods],
    caption="Settings by year of release, counted in the atlas.",
)

# %% [markdown]
# So no single set of defaults reads them all. `rope-lab atlas` lists the families, `rope-lab atlas llama-3.1` shows one
# with its sources and warnings, and `atlas.rows()` returns all of it in Python.
#
# ## Precision
#
# Let $m$ be a position, $u = 2^{-24}$ the relative error of rounding to float32, and form the angle $m\theta_i$ there.
# Up to $m = 2^{24}$ the position is exact, so two roundings remain, and the angle errs by at most
# $(2u + u^2)\, m\theta_i$. An error of $\varepsilon$ radians therefore cannot occur before
#
# $$ m^* = \frac{\varepsilon}{(2u + u^2)\,\theta_{\max}} , $$ (eq-19-6)
#
# whatever the base is. For $\theta_{\max} = 1$ and $\varepsilon = 0.01$ that is 83,886.
# The atlas looks at every position for the first that errs by more:

# %%
u = 2.0**-24
first_32 = torch.tensor([row.spectrum.first_error() for row in atlas.FAMILIES]).double()
fastest = torch.tensor([float(row.spectrum.freqs.max()) for row in atlas.FAMILIES])
m_star = atlas.BOUND / ((2 * u + u * u) * fastest)
check_at_most("eq. 19.6", m_star, first_32)


def errs_first(row: atlas.Family) -> int:
    m = torch.tensor(row.spectrum.first_error(), dtype=torch.float32)
    exact = m.double() * row.spectrum.freqs
    return int(((m * row.spectrum.freqs.float()).double() - exact).abs().argmax())


pairs_first = sorted({errs_first(row) for row in plain})
print("unscaled: the pair that errs first is one of", *pairs_first)


def first_errors(dtype: torch.dtype) -> list[float]:
    found = [row.spectrum.first_error(dtype) for row in rows]
    return [
        min(found),
        max(found),
        sum(f < r.context for f, r in zip(found, rows, strict=True)),
    ]


kinds = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
table(
    [[name, *first_errors(dtype)] for name, dtype in kinds.items()],
    {
        "angles formed in": "",
        "earliest": ",d",
        "latest": ",d",
        "before the context": "d",
    },
    caption=f"First position whose angle errs by over {atlas.BOUND} radians.",
)

# %%
long = [row for row in rows if row.spectrum.first_error() < row.context]
print("float32 errs before the context ends:")
print(*(f"- {row.name}, {row.context:,}" for row in long), sep="\n")

# %% [markdown]
# In 16 bits every family errs within its first two hundred tokens, and in seven the context goes past the first error of
# float32. Pair 0 of an unscaled family never errs there: its frequency is 1, so its angles are whole numbers. A first
# error is not a border: after it most positions of Llama 2 are within the bound again, for a while. Chapter 8 shows
# what to do. (An error of 0.01 radians in the angle of a query changes what a pair adds to a score by at most one per
# cent of the most that this pair can add, and so does one in the angle of a key. What this costs a trained model is
# another question.) The folded table has both numbers for each family:


# %% tags=["hide-cell"]
def turning(row: atlas.Family) -> int:
    return row.spectrum.wavelengths.numel()


table(
    [
        [row.name, row.context, f"{row.spectrum.unfinished} of {turning(row)}",
         row.spectrum.first_error()]
        for row in rows
    ],
    {"family": "", "context": ",d", "unfinished": "", "float32 to": ",d"},
    caption="Both warnings for each family.",
)  # fmt: skip

# %% [markdown]
# ## Paste a config
#
# Here is the same for a config of your own. Nothing is sent anywhere: the page computes it. "Twice the context"
# compares the ways of chapter 15. A model type that is not known has its frequencies read and its layout left open. A
# field that is missing, or has the wrong kind of value, is named; but where the code of `transformers` has a value of
# its own, such as the base 10,000 of a Llama or as many heads of keys as of queries, the form takes that.

# %% tags=["hide-input"]
from rope_lab.figures.paste import LLAMA_31, paste

paste()

# %% [markdown]
# In Python, `atlas.read_config("config.json").report()` gives the same lines, and so does
# `rope-lab atlas --config config.json`. The form compares all layers with the whole context. In layers with a window no
# distance exceeds the window, so for them fewer pairs finish a turn, and a longer text brings no new angle. The same
# holds for a point of {numref}`fig-slowest` if every layer of that family that turns has a window or sees a block, as in
# Mistral 7B v0.1 and Llama 4 Scout.
#
# What it would cost to double the context of Llama 3.1 8B, for which the form opens:

# %%
reading = atlas.read_config(LLAMA_31)
cost = reading.spectra[""].doubling()
per_token, gib = reading.cache_bytes, reading.cache_bytes * reading.context / 2**30
by_hand = 2 * 2 * 32 * 8 * 128  # keys and values, two bytes, layers, heads, coordinates
check("bytes per token", float(per_token), float(by_hand))
print(f"{cost.new_angles} of 64 pairs would reach new angles if nothing is changed")
print(f"cache: {gib:.0f} GiB for {reading.context:,} tokens, then {2 * gib:.0f} GiB")

# %% [markdown]
# ## What a misread number costs
#
# Suppose that code reads one field of this config wrongly, and turns pair $i$ by $\theta_i'$ per token instead of
# $\theta_i$. For queries and keys of independent Gaussian coordinates each pair contributes equally to the score on
# average, and at distance $s$ its part is turned by $s\theta_i'$ instead of $s\theta_i$. The mean square of the difference of the scores
# at distance $s$, divided by that of the scores, is
#
# $$ e(s)^2 = \frac{2}{R} \sum_{i} \big( 2 - 2 \cos s(\theta_i' - \theta_i) \big) . $$ (eq-19-7)

# %%
right = reading.spectra[""].freqs


def spectrum_of(**changes: object) -> Tensor:
    """θ' of the config with some fields changed; None removes one."""
    return atlas.read_config({**LLAMA_31, **changes}).spectra[""].freqs


other_factor = LLAMA_31["rope_scaling"] | {"factor": 32.0}
misreadings = {
    "base 10,000": spectrum_of(rope_theta=10_000.0),
    "scaling dropped": spectrum_of(rope_scaling=None),
    "factor 32 for 8": spectrum_of(rope_scaling=other_factor),
}
# the same config as transformers 5 writes it
both = LLAMA_31["rope_scaling"] | {"rope_theta": 500_000.0}
control = spectrum_of(rope_theta=None, rope_scaling=None, rope_parameters=both)


def error(wrong: Tensor, s: Tensor, pairs: slice = slice(None)) -> Tensor:
    """Equation 19.7, for content in some of the pairs, (S,)."""
    gap = (wrong - right)[pairs]
    return (2 - 2 * (s[:, None] * gap).cos()).mean(-1).sqrt()


def measured(wrong: Tensor, s: int, draws: int = 10_000) -> Tensor:
    """The same from rotated queries and keys."""
    q, k = torch.randn(2, draws, 128)
    turned = [
        rotate(q, angles(torch.full((draws,), s), f, dtype=q.dtype), "half")
        for f in (wrong, right)
    ]
    read, true = ((x * k).sum(-1) for x in turned)
    return ((read - true).square().mean() / true.square().mean()).sqrt()


four = torch.tensor([3.0, 100.0, 2000.0, 50_000.0])
drawn = torch.stack([measured(f, int(s)) for f in misreadings.values() for s in four])
expected = torch.cat([error(f, four) for f in misreadings.values()])
check(
    "eq. 19.7", drawn, expected, draws=10_000, tolerance=0.04, reason="sampling",
)  # fmt: skip
check("the control, the config as transformers 5 writes it", control, right)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Error of the scores against distance, both logarithmic. Base 10,000 starts near 0.05 and reaches 1 within thirty tokens. Scaling dropped starts at 0.0003 and rises in a straight line, to 0.7 at three thousand. Factor 32 for 8 is nine times lower and reaches 0.7 at thirty thousand."}, "figure": {"caption": "Error of untrained scores, content in all pairs, when one field of Llama 3.1's config is misread; 1 means as large as the scores. A wrong base shows within tens of tokens. A dropped scaling leaves an error below 1% for the first tens of tokens and below 10% for the first hundreds: a short prompt need not show it.", "name": "fig-misread"}}
from rope_lab.figures.atlas import misread

at_300 = torch.logspace(0, math.log10(131_072), 300).round().unique()
lines = {name: error(f, at_300) for name, f in misreadings.items()}
lines["the control"] = error(control, at_300)  # 0 everywhere, so it is not drawn
misread(at_300.tolist(), lines, {"length before scaling": 8192.0})


# %%
def reached(wrong: Tensor, level: float, pairs: slice) -> str:
    """The first distance with a larger error, of all up to the context."""
    for start in range(1, reading.context, 8192):
        s = torch.arange(start, min(start + 8192, reading.context)).double()
        over = (error(wrong, s, pairs) > level).nonzero()
        if len(over):
            return f"{int(s[over[0]]):,}"
    return "–"


groups = {
    "all pairs": slice(None),
    "fastest 16": slice(16),
    "slowest 16": slice(-16, None),
}
table(
    [
        [name, *(reached(f, 0.1, group) for group in groups.values())]
        for name, f in {**misreadings, "the control": control}.items()
    ],
    ["misread", *groups],
    caption="First distance with an error over 10%, by where the content is.",
)

# %% [markdown]
# Where the content is decides what can be seen. Llama 3's scaling leaves the fastest pairs as they are, so content
# there has no error at any distance when the scaling is dropped. In the slowest pairs even a wrong base needs more than
# a thousand tokens. So test a reader of configs at long distances, or compare frequencies instead of outputs.
#
# ## In the wild: two numbers, read three ways
#
# Configs of DeepSeek, Kimi and Ministral, among others, have `mscale` and `mscale_all_dim` next to YaRN's factor.
# `transformers` multiplies cosine and sine by the quotient of $0.1 \cdot \text{mscale} \cdot \ln(\text{factor}) + 1$
# and the same with `mscale_all_dim`. Where the two are equal that is 1:

# %%
names = ("DeepSeek-V3", "Kimi K2 0905", "Mistral Small 4", "Ministral 3")
lost = []
for name in names:
    scaling = atlas.find(name).scaling
    formula = 0.1 * math.log(scaling.factor) + 1  # YaRN's own, without the two numbers
    lost.append(
        [name, scaling.factor, atlas.find(name).spectrum.factor, formula, formula**2]
    )
table(
    lost,
    {
        "family": "",
        "factor": ".0f",
        "quotient": ".4f",
        "YaRN": ".4f",
        "in scores": ".2f",
    },
    caption="Factor of cosine and sine by both formulas; square of the second.",
)

# %% [markdown]
# An engine that ignored the two numbers multiplied cosine and sine of a Ministral by 1.277 instead of 1, and the model
# repeated itself ([sglang#22711](https://github.com/sgl-project/sglang/pull/22711); corrected in
# [#31232](https://github.com/sgl-project/sglang/pull/31232)). Another engine began to compute
# the quotient, and models with both numbers at 1 lost their scaling: fluent text that did not follow the prompt
# ([exllamav3#259](https://github.com/turboderp-org/exllamav3/issues/259)).
#
# The two reports need not contradict each other, because a config does not say everything. In `transformers` 5.23 the
# attention of DeepSeek-V3 also multiplies all scores by the square of the formula with `mscale_all_dim`, which is the
# last column; the attention of Ministral 3 does not. The fields are the same, and the code differs. A config cannot
# replace the model's code.
#
# ## Summary
#
# - All but two of the families leave some pairs that never finish a turn in their context; without a scaling, their
#   share is $1 - \ln(L/2\pi)/\ln b$, to within one pair.
# - No unscaled base lets all pairs finish, and most families break the bound for content in all pairs; most meet it for
#   content in the slowest quarter.
# - In untrained scores with Llama 3.1's config, a misread base shows within tens of tokens, a dropped scaling after
#   hundreds. What a field does is decided by the model's code.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-19-1
# ```
#
# Write `unfinished_pairs(base, rotated, context)`: how many pairs of a head with `rotated` turning coordinates never
# finish a turn in `context` tokens. No scaling; the context may be short.

# %%
from rope_lab.exercises.ch19 import check_unfinished_pairs


def unfinished_pairs(base: float, rotated: int, context: int) -> int:
    return None  # your turn


check_unfinished_pairs(unfinished_pairs)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-19-1
# :label: sol-19-1
# ```
#
# Count the wavelengths of {eq}`eq-19-1`. The formula {eq}`eq-19-2` holds for $0 \le \eta < 1$ only.


# %%
def unfinished_pairs(base: float, rotated: int, context: int) -> int:
    waves = 2 * math.pi / frequencies(rotated, base)
    return int((waves > context).sum())


check_unfinished_pairs(unfinished_pairs)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-19-2
# ```
#
# "For every number of pairs there is a base that leaves exactly this number unfinished." Write
# `base_leaving(count, rotated, context)`: such a base, positive and finite, or `None` where there is none.

# %%
from rope_lab.exercises.ch19 import check_base_leaving


def base_leaving(count: int, rotated: int, context: float) -> float | None:
    return None  # your turn


check_base_leaving(base_leaving)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-19-2
# :label: sol-19-2
# ```
#
# Put the context between two neighbouring wavelengths, half a step from each. The first wavelength is $2\pi$ for every
# base. In a context of more than $2\pi$ tokens that pair always finishes, so not all can be left. In a shorter one it
# never does, so at least one is left; with a base below 1 the later pairs are the faster ones.


# %%
def base_leaving(count: int, rotated: int, context: float) -> float | None:
    n, turns = rotated // 2, context / (2 * math.pi)
    if count == (n if turns > 1 else 0):
        return None
    return turns ** (n / (n - count - 0.5 if turns > 1 else count - 0.5))


check_base_leaving(base_leaving)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-19-3
# ```
#
# Before softmax, DeepSeek's attention multiplies all scores by the square of
# $0.1 \cdot \text{mscale\_all\_dim} \cdot \ln(\text{factor}) + 1$, and its rotation multiplies cosine and sine by the
# quotient above. `score_factors` should return by what this changes the part of a score that comes from coordinates
# that turn, and the part from the others, shape `(2,)`. Correct it.

# %%
from rope_lab.exercises.ch19 import check_score_factors


def score_factors(factor: float, mscale: float, mscale_all_dim: float) -> Tensor:
    a = 0.1 * mscale * math.log(factor) + 1
    b = 0.1 * mscale_all_dim * math.log(factor) + 1
    return torch.tensor([a / b, 1.0])


check_score_factors(score_factors)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-19-3
# :label: sol-19-3
# ```
#
# Cosine and sine are on the query and on the key, so their factor counts twice, and the attention's own square comes on
# top: $(a/b)^2\, b^2 = a^2$. The coordinates that do not turn have only the latter.


# %%
def score_factors(factor: float, mscale: float, mscale_all_dim: float) -> Tensor:
    a = 0.1 * mscale * math.log(factor) + 1
    b = 0.1 * mscale_all_dim * math.log(factor) + 1
    return torch.tensor([a * a, b * b])


check_score_factors(score_factors)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-19-4
# ```
#
# Write `misread_error(right, wrong, s)`: equation {eq}`eq-19-7` for two lists of frequencies of shape `(R/2,)` and
# distances `s` of shape `(S,)`, as a fraction of the scores.

# %%
from rope_lab.exercises.ch19 import check_misread_error


def misread_error(right: Tensor, wrong: Tensor, s: Tensor) -> Tensor:
    return None  # your turn: shape (S,)


check_misread_error(misread_error)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-19-4
# :label: sol-19-4
# ```
#
# The root of {eq}`eq-19-7`.


# %%
def misread_error(right: Tensor, wrong: Tensor, s: Tensor) -> Tensor:
    gap = s[:, None] * (wrong - right)
    return (2 - 2 * gap.cos()).mean(-1).sqrt()


check_misread_error(misread_error)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-19-5
#
# A config has `max_position_embeddings: 131072`, heads of 128 coordinates, a base of 500,000 and no scaling. What does
# this tell you about texts of 131,072 tokens, what does it not tell you, and how would you find out? (This question has
# no checker.)
# ```
#
# ```{solution} ex-19-5
# :label: sol-19-5
#
# - *What it tells.* The code will accept such texts. By {eq}`eq-19-2`, 15 of 64 pairs do not finish a turn in them, and
#   by {eq}`eq-19-6` float32 angles err by less than 0.01 radians up to 83,886 at least, if each frequency is rounded
#   once.
# - *What it does not.* At which length the model was trained: a class default or a later edit can state any number. If
#   training used shorter texts, slow pairs meet new angles, and attention meets longer rows. It does not tell whether
#   heads use far tokens.
# - *How to find out.* Measure the loss by position on long texts of the model's own language, as chapter 15 does, with
#   texts that are cut shorter as a control; ask for a fact at various distances, with a stranger as control; look for
#   the length in the model card, and say which of these you have.
# ```
#
# ## References
#
# - {cite:t}`xu2024`: the base as a bound on the context. Its bound is computed for every family above; their
#   experiments are not reproduced.
# - {cite:t}`peng2024`: YaRN, whose factor for cosine and sine the last section compares.
#
# Full entries are on the page {doc}`/book/references`. The sources of the rows are in the atlas itself:
# `row.source_of("base")`.
