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
# (chapter-extending)=
# # 15 · Extending a trained model
#
# A model was trained on 128 characters at a time. Nothing in RoPE stops you from handing it 1,024: there is an angle for
# every position. **Can it read them?**
#
# Here is such a model, small and trained while this page was built. It reads texts eight times as long as any it has
# seen: once as it is, and then by three published methods of extension. No parameter was trained again.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against place in the text from 8 to 900 characters on a logarithmic axis, with a dotted line at 128. The line of the unchanged model falls up to 128 and rises steeply beyond it, and that of NTK-aware scaling rises with it. Position interpolation is nearly level, far above both. YaRN is nearly level too, and low: a little above the unchanged model up to 128, far below it at the end. Bands about the lines are wide at the first places, and all lines dip and rise together there."}, "figure": {"caption": "Loss by place (place 0 is the first character of a segment), with 95% confidence bands over 16 segments. The model as it is (black) loses its way beyond the length it was trained on. With the same weights but changed frequencies, it still does so (NTK-aware), or reads badly everywhere (position interpolation). With YaRN it reads a little worse within that length, but beyond it the loss rises little; {numref}`fig-two-parts` shows which part of YaRN does that. Bumps that all lines share belong to the text.", "name": "fig-eight-times"}}
import os
from itertools import pairwise

import torch
import torch.nn.functional as F

from rope_lab import RoFormer
from rope_lab.experiments.extending import PARTS, Sharpened, extended
from rope_lab.experiments.seeds import t_quantile
from rope_lab.figures.extending import by_place
from rope_lab.training import (
    Corpus,
    TrainConfig,
    preset,
    tiny_shakespeare,
    token_losses,
    train,
)

torch.set_num_threads(1)
smoke = os.environ.get("ROPE_LAB_PRESET") == "smoke"  # takes seconds


class TrainingOnly(Corpus):
    """A corpus with hardly any validation split, on which `train` measures the loss."""

    @property
    def val(self) -> str:
        return self.text[-2:]


corpus = tiny_shakespeare()
unmeasured = TrainingOnly(corpus.name, corpus.text)
val_ids = corpus.encode(corpus.val)
config = preset(
    "cpu", depth=2, qk_gain=False, steps=4 if smoke else 200, seed=15, evaluations=1
)


def update(model: RoFormer, config: TrainConfig) -> RoFormer:
    """The model after the updates of `config`."""
    return train(config, unmeasured, start=model, quiet=True).model.eval()


torch.manual_seed(config.seed)
model = update(RoFormer(config.architecture(len(corpus.vocab))), config)
L, factor = model.config.context, 8
segments = 2 if smoke else 16
ids = val_ids[: factor * L * segments + 1]
edges = [0, 16, 32, 64, 128, 192, 256, 384, 512, 768, 1024]
middles = [(a + b + 1) / 2 for a, b in pairwise(edges)]


def read(model: RoFormer, method) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss of each group of places, and the half-width of its interval."""
    losses = token_losses(extended(model, method, factor), ids, factor * L, batch=4)
    groups = torch.stack([losses[:, a:b].mean(1) for a, b in pairwise(edges)])
    error = groups.std(1) / segments**0.5
    return groups.mean(1), t_quantile(segments) * error


by_method = {
    method: read(model, method)
    for method in ("none", "position interpolation", "NTK-aware", "YaRN")
}
lines = {method: line for method, (line, _) in by_method.items()}
halves = {method: half for method, (_, half) in by_method.items()}
by_place(middles, lines, L, halves)

# %% [markdown]
# The main claims of this caption are checked below:

# %%
from rope_lab.figures.extending import said
from rope_lab.figures.table import table
from rope_lab.verify import check, check_at_most

if not smoke:
    plain, yarn = lines["none"], lines["YaRN"]
    interpolated = lines["position interpolation"]
    check_at_most("fig. 15.1, plain rises", plain[3], plain[-1] - 0.3)
    check_at_most(
        "fig. 15.1, NTK-aware rises too", plain[-1] - 0.2, lines["NTK-aware"][-1]
    )
    check_at_most("fig. 15.1, YaRN at the end", yarn[-1], plain[-1] - 0.2)
    check_at_most("fig. 15.1, interpolation", plain[3], interpolated[3] - 0.3)
table(
    [[said(method), *line[[0, 3, -1]].tolist()] for method, line in lines.items()],
    {
        "loss": "",
        "places 0–15": ".2f",
        f"places 64–{L - 1}": ".2f",
        "the last 256": ".2f",
    },
)

# %% [markdown]
# This chapter shows what is new to a model beyond its length, derives the best-known remedies, each of which chooses
# new frequencies, and measures what they are worth before and after a little more training. YaRN has a second part,
# and controls will show how much of the figure that part explains, and in which models.
#
# ## What is new at a longer length
#
# Two things are new to a head: some of the angles, and the number of keys that share the attention of a query. Begin
# with the angles. Two tokens at distance $s$ meet in pair $i$ at the angle $s\theta_i$, and training has shown the
# model all distances below $L$. A fast pair completed many turns on the way, so it has met angles all around the
# circle. A pair whose wavelength $\lambda_i = 2\pi/\theta_i$ is longer than $L$ has not completed one. Solve $2\pi\,
# b^{2i/D} > L$ for $i$: these are the pairs with
#
# $$
# \begin{aligned}
# &\lambda_i > L \\
# &\iff i > \frac{D}{2} \cdot \frac{\ln(L/2\pi)}{\ln b} .
# \end{aligned}
# $$ (eq-15-1)

# %%
import math

from torch import Tensor

from rope_lab import RotaryEmbedding, angles, frequencies, rotate

torch.set_default_dtype(torch.float64)
torch.manual_seed(15)

dim, base = model.config.dim // model.config.heads, model.config.base
heads = {
    "the model above": (dim, base, L),
    "Llama 2": (128, 10_000.0, 4096),
    "Llama 3": (128, 500_000.0, 8192),
}
rows = []
for name, (D, b, length) in heads.items():
    wavelength = 2 * math.pi / frequencies(D, b)
    bound = D / 2 * math.log(length / (2 * math.pi)) / math.log(b)
    never = wavelength > length
    check(f"eq. 15.1, {name}", never, torch.arange(D // 2) > bound)
    rows.append([name, length, D // 2, int(never.sum())])
table(
    rows,
    {
        "model": "",
        "tokens": ",d",
        "pairs": "d",
        "pairs that never complete a turn": "d",
    },
)

# %% [markdown]
# Read {numref}`fig-unseen` with this in mind: for every pair, the angles that training covered, and those that a text of
# $L' = 8L$ tokens adds.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A bar for each of 20 pairs on an axis of angles from 0 to 360 degrees. The bars of pairs 0 to 6 are blue over the whole circle. From pair 7 on the blue part shrinks quickly, to almost nothing at pair 19, and a hatched red part follows that is up to seven times as long."}, "figure": {"caption": "Fast pairs have seen every angle. Each slow pair has seen an arc, and a longer text takes it out of that arc (hatched). What the model does with those angles was never trained.", "name": "fig-unseen"}}
from rope_lab.figures.extending import covered

freqs = frequencies(dim, base)  # θ_i, (D/2,)
covered(L * freqs, {"nothing scaled": factor * L * freqs})

# %% [markdown]
# So as far as the angles of each pair by itself go, the fast pairs need no help, and for a slow pair there is one
# condition. Write $\theta'_i$ for its new frequency and $\rho = L'/L$ for the **extension factor**. (The papers call it
# $s$, which in this book is a distance.) The arc it knows ends one step before $L\theta_i$. But for that step the pair
# stays within it if $L'\theta'_i \le L\theta_i$, that is, if
#
# $$ \frac{\theta'_i}{\theta_i} \le \frac{1}{\rho} \quad \text{where } \lambda_i > L . $$ (eq-15-2)
#
# The methods below are choices of $\theta'_i$. The condition says which angles are known, not what unknown angles do to
# a loss. In `rope_lab` a choice is a function of the frequencies and the length, passed to `RotaryEmbedding(...,
# scaling=...)`; {mod}`rope_lab.encodings.scaling` lists them.
#
# ## Position interpolation
#
# {cite:t}`chen2023` squeeze the positions: token $m$ gets the position $mL/L' = m/\rho$. Since a rotation knows only
# the product $m\theta_i$, this is the same as dividing every frequency by $\rho$. The score of $q$ at $m$ and $k$ at $n$,
# with $h_i = q_i \bar k_i$, is
#
# $$
# \begin{aligned}
# &\langle R_{m/\rho}\, q,\, R_{n/\rho}\, k \rangle \\
# &\quad = \operatorname{Re} \sum_{i=0}^{D/2-1} h_i\, \mathrm{e}^{\mathrm{i}(m-n)\theta_i/\rho} .
# \end{aligned}
# $$ (eq-15-3)

# %%
from rope_lab.encodings import PositionInterpolation


def pairs(x: Tensor) -> Tensor:
    """(..., D) -> (..., D/2) complex."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())


def scores(q: Tensor, k: Tensor, freqs: Tensor) -> Tensor:
    """The sum above for all q and k (..., N, D): (..., N, N)."""
    m = torch.arange(q.shape[-2])
    s = (m[:, None] - m)[..., None]  # distances
    sides = pairs(q), pairs(k).conj(), torch.exp(1j * s * freqs)
    return torch.einsum("...mi,...ni,mni->...mn", *sides).real


q, k = torch.randn(2, 50, 1, 100, dim)  # 50 draws of one head
interpolated = RotaryEmbedding(dim, scaling=PositionInterpolation(factor))
turned_q, turned_k = interpolated(q, k)
found = turned_q @ turned_k.mT
check("eq. 15.3", found, scores(q, k, freqs / factor))

squeezed = torch.arange(100) / factor
turned_q, turned_k = RotaryEmbedding(dim)(q, k, positions=squeezed)
check("eq. 15.3, by positions", turned_q @ turned_k.mT, found)

ratio = PositionInterpolation(factor)(freqs, factor * L)[0] / freqs
check_at_most("eq. 15.2, position interpolation", ratio, 1 / factor)

# %% [markdown]
# No pair leaves its arc, so {eq}`eq-15-2` holds, for all pairs.
#
# ### What it costs: neighbours move together
#
# Fix the content and call $g(s)$ the score at distance $s$, a smooth function that is defined between whole distances
# too. Interpolation replaces it by $g(s/\rho)$, and by the chain rule every slope shrinks:
#
# $$ \frac{\mathrm{d}}{\mathrm{d}s}\, g(s/\rho) = \frac{1}{\rho}\, g'(s/\rho) . $$ (eq-15-4)
#
# In one layer, with the contents given, the order of two neighbouring tokens reaches a later query only through what
# one step of distance does to their scores. For Gaussian $q$ and $k$, all coordinates independent with mean 0 and
# variance 1, the difference between distances $s$ and $s + 1$ has
#
# $$
# \begin{aligned}
# &\operatorname{Var}\big[g\big(\tfrac{s+1}{\rho}\big) - g\big(\tfrac{s}{\rho}\big)\big] \\
# &\quad = 8 \sum_{i=0}^{D/2-1} \sin^2 \frac{\theta_i}{2\rho} ,
# \end{aligned}
# $$ (eq-15-5)
#
# at every $s$. A small sine is nearly its argument, so the standard deviation falls almost like $1/\rho$.


# %%
def g(s: Tensor, h: Tensor, freqs: Tensor) -> Tensor:
    """Score at real distances s (S,) of contents h (S, D/2)."""
    turns = angles(s, freqs, dtype=torch.float64)
    return (h.real * turns.cos() - h.imag * turns.sin()).sum(-1)


def slope(s: Tensor, h: Tensor, freqs: Tensor) -> Tensor:
    s = s.clone().requires_grad_()
    return torch.autograd.grad(g(s, h, freqs).sum(), s)[0]


q, k = torch.randn(2, 20_000, dim)
h, s = pairs(q) * pairs(k).conj(), 1000 * torch.rand(20_000)
slopes = slope(s, h, freqs / factor)
check("eq. 15.4", slopes, slope(s / factor, h, freqs) / factor)

rows = []
for rho in (1, 2, 4, 8):
    step = g(s + 1, h, freqs / rho) - g(s, h, freqs / rho)
    variance = 8 * (freqs / (2 * rho)).sin().square().sum()
    check(
        f"eq. 15.5, factor {rho}", step.var() / variance, 1.0,
        tolerance=0.05, reason="sampling", draws=len(s),
    )  # fmt: skip
    sd = float(variance.sqrt())
    rows.append([rho, sd, sd / rows[0][1] if rows else 1.0])
table(
    rows,
    {
        "extension factor": "d",
        "SD of the difference": ".3f",
        "fraction of unscaled": ".3f",
    },
    caption="By how much the scores of neighbouring distances differ.",
)

# %% [markdown]
# That fits {numref}`fig-eight-times`, in which the interpolated model reads badly from the first characters on. A
# control is in the table below {numref}`fig-two-parts`: if the fast pairs, which contribute most to {eq}`eq-15-5`, are
# spared, most of that loss goes away.
#
# :::{admonition} The new scores are between trained ones
# :class: note dropdown
#
# The paper argues as follows that a little training after interpolation is enough. The new scores are values of $g$
# between the trained ones. Between two whole distances $s_1$ and $s_2 = s_1 + 1$ a function with $\lvert g'' \rvert
# \le M$ differs from the straight line through its values there by at most $M (s - s_1)(s_2 - s)/2$. Here $M$ is at
# most $\max_i |h_i| \sum_i \theta_i^2$, and $\sum_i b^{-4i/D}$ is a geometric series, so
#
# $$
# \begin{aligned}
# &\big| g(s) - (s_2 - s)\, g(s_1) \\
# &\qquad - (s - s_1)\, g(s_2) \big| \\
# &\quad \le\; \max_i |h_i|\; \frac{(s - s_1)(s_2 - s)}{2\,(1 - b^{-4/D})} .
# \end{aligned}
# $$ (eq-15-6)
#
# Compare that with the size of a score, which can be as large as $\sum_i |h_i|$, that is $D/2$ if all $|h_i| = 1$. The
# paper states the bound with $D / (4 \ln b)$ in place of $1/(1 - b^{-4/D})$. That is smaller, and contents that are
# equal in all pairs exceed it, as the cell below shows; the order of magnitude is the same. But the argument bounds the
# scores, not the number of updates.
# :::

# %% tags=["hide-cell"]
lengths = torch.rand(20_000, 1)
h = h / h.abs().amax(-1, keepdim=True) * lengths  # the largest is `lengths`
s1 = s.floor()
line = (s1 + 1 - s) * g(s1, h, freqs) + (s - s1) * g(s1 + 1, h, freqs)
room = (s - s1) * (s1 + 1 - s) / (2 * (1 - base ** (-4 / dim)))
off = (g(s, h, freqs) - line).abs()
check_at_most("eq. 15.6", off, lengths[:, 0] * room + 1e-12)  # for rounding

rows = []
for D in (dim, 128):
    theta = frequencies(D, base)
    off = float(((theta / 2).cos() - (1 + theta.cos()) / 2).sum())
    ours = 1 / (8 * (1 - base ** (-4 / D)))
    paper = D / (32 * math.log(base))
    rows.append([D, off, ours, paper])
table(
    rows,
    {
        "D": "d",
        "distance from the line": ".3f",
        "equation 15.6": ".3f",
        "the paper's bound": ".3f",
    },
    caption="All h = 1, halfway between the distances 0 and 1.",
)

# %% [markdown]
#
# ## NTK-aware: raise the base
#
# By {eq}`eq-15-2` only the slow pairs had to be slowed down, and by {eq}`eq-15-5` the fast ones do most to tell
# neighbours apart. The proposal that became known as NTK-aware scaling {cite:p}`bloc97` is a smooth compromise (its author
# appealed to the *neural tangent kernel*, a theory that nothing here needs): leave the first frequency, divide the last by
# $\rho$, and let one number do both. Every base gives $\theta_0 = 1$. For the
# last pair, $i = D/2 - 1$, the exponent is $-(D-2)/D$, so ask for $b'^{-(D-2)/D} = b^{-(D-2)/D}/\rho$ and solve:
#
# $$ b' = b\, \rho^{D/(D-2)} , $$ (eq-15-7)
#
# which gives pair $i$ the frequency
#
# $$ \theta'_i = \theta_i\; \rho^{-i/(D/2-1)} . $$ (eq-15-8)

# %%
from rope_lab.encodings import NTKAware

ntk, _ = NTKAware(factor)(freqs, 0)
exponents = torch.arange(dim // 2) / (dim // 2 - 1)
check("eq. 15.7", ntk, frequencies(dim, base * factor ** (dim / (dim - 2))))
check("eq. 15.8", ntk, freqs * factor**-exponents)
ends = freqs[[0, -1]] / torch.tensor([1, factor])
check("eq. 15.8, first and last", ntk[[0, -1]], ends)

slow = 2 * math.pi / freqs > L
leave = int((slow & (ntk / freqs > (1 + 1e-12) / factor)).sum())
print(f"Of {int(slow.sum())} slow pairs, {leave} still leave their arc.")

# %% [markdown]
# Compare {eq}`eq-15-8` with {eq}`eq-15-2`: the ratio is $1/\rho$ for the very last pair and larger for every other. All
# slow pairs but one still leave their arcs, although by less than before. {cite:t}`peng2024` give this as the reason
# why in practice the factor is chosen larger than the text needs.
#
# :::{admonition} A larger base in training
# :class: note dropdown
#
# The base is also raised together with a great deal of further training: {cite:t}`xiong2024` continued to train Llama 2
# with a base of 500,000 and report slightly better results than with interpolation; Llama 3 is trained with that base.
# {cite:t}`xu2024` derive a lower bound on the base that a context needs. Another way to keep a slow pair from new angles
# is not to turn it, as in p-RoPE {cite:p}`barbero2025`.
# :::
#
# The base can also be chosen before training. Our own small models were trained with each base on 128 characters and then
# given longer texts:

# %% tags=["hide-input"]
from rope_lab.experiments.seeds import differences, shown, verdict
from rope_lab.experiments.store import Results

bases = Results.recorded("base")
lengths = bases.records[0]["lengths"]
table(
    [
        [name, *(shown(bases.values(name, "cut", i)) for i in range(len(lengths)))]
        for name in bases.variants()
    ],
    ["base", *(f"{length} characters" for length in lengths)],
    caption="Loss by the base, mean and 95% interval; QK-norm with a gain.",
    provenance=bases.provenance(),
)

# %%
for at in (0, -1):
    raised = verdict(differences(bases, "1,000,000", "10,000", "cut", at))
    print(f"Base 1,000,000 minus 10,000, at {lengths[at]} characters: {raised}.")
slow_pairs = [
    int((2 * math.pi / frequencies(dim, b) > L).sum()) for b in (1e4, 1e5, 1e6)
]
print("Slow pairs with a base of 10,000, 100,000 and 1,000,000:", slow_pairs)

# %% [markdown]
# In these models, all trained with the rates chosen for 10,000, the largest base makes the longer texts *worse*. That does
# not contradict the papers, which train at the long length, while these models met 512 characters for the first time when
# they were evaluated. A larger base shortens the arcs that the slow pairs have seen, which may be the reason;
# {ref}`ex-15-5` makes a control. (The number of slow pairs is not: from 100,000 to 1,000,000 one more is slow.)
#
# ## Dynamic NTK: the factor follows the text
#
# A factor that is chosen beforehand costs something in short texts, which needed none. Dynamic NTK scaling, from the same
# forum, computes it from the number $N$ of tokens there are. {cite:t}`peng2024` describe it with $N/L$; the form
# in transformers, used here, has a factor of its own (with $\rho = 1$ it is theirs):
#
# $$ \rho(N) = \rho\, \frac{N}{L} - (\rho - 1) , $$ (eq-15-9)
#
# and 1 for $N \le L$.
#
# It begins at 1 and ends, at $N = \rho L$, at $\rho^2 - \rho + 1$, far more than the text has grown. So most of the slow
# pairs come back into their arcs. Remember that: it will be compared with a loss.

# %%
from rope_lab.encodings import DynamicNTK

dynamic = DynamicNTK(factor, L)
rows = []
for N in (1, L, L + 1, 2 * L, 4 * L, factor * L):
    stretch = max(1, factor * N / L - (factor - 1))
    now, _ = dynamic(freqs, N)
    check(f"eq. 15.9, N = {N:,}", now, NTKAware(stretch)(freqs, 0)[0])
    inside = (now / freqs * max(N, L) <= L * (1 + 1e-12))[slow].sum()
    rows.append([N, stretch, f"{int(inside)} of {int(slow.sum())}"])
table(rows, {"N": ",d", "factor": ".2f", "slow pairs within their arcs": ""})

# %% [markdown]
# ### A cache remembers the wrong base
#
# Frequencies that depend on $N$ change while a text is written. A model that decodes keeps its keys in a cache, rotated.
# Write $\theta_i(N)$ for the frequencies at length $N$. The key of token $n$ was rotated when there were $n + 1$
# tokens, the query of token $m$ when there were $m + 1$, and their score is
#
# $$
# \begin{aligned}
# &\operatorname{Re} \sum_{i=0}^{D/2-1} h_i\, \mathrm{e}^{\mathrm{i}\varphi_i} , \\
# &\varphi_i = m\,\theta_i(m+1) \\
# &\qquad - n\,\theta_i(n+1) .
# \end{aligned}
# $$ (eq-15-10)
#
# Beyond $L$ tokens the angle $\varphi_i$ is no longer a multiple of $m - n$ (except in the first pair, whose frequency is
# 1 for every base): the very property for which RoPE was invented is gone.

# %%
positions = torch.arange(factor * L)
at_its_time = torch.stack([dynamic(freqs, N + 1)[0] for N in positions])
q, k = torch.randn(2, factor * L, dim)
stale_angles = positions[:, None] * at_its_time  # (N, D/2)
stale = rotate(k, stale_angles)

rows = []
for m in (L - 1, 2 * L - 1, 4 * L - 1, factor * L - 1):
    query = rotate(q[[m]], stale_angles[[m]])[0]
    past = positions[: m + 1, None]
    seen = stale[: m + 1] @ query
    fresh = rotate(k[: m + 1], past * at_its_time[m]) @ query
    rows.append([m + 1, float((seen - fresh).norm() / fresh.norm())])
turns = torch.exp(1j * (stale_angles[m] - stale_angles))
terms = pairs(q)[m] * pairs(k).conj() * turns
check("eq. 15.10", seen, terms.real.sum(-1))
per_step = (stale_angles[m] - stale_angles[:m]) / (m - positions[:m, None])
depends = (per_step.amax(0) - per_step.amin(0)) > 1e-9  # on m and n one by one
check("eq. 15.10, no multiple but in pair 0", depends, torch.arange(dim // 2) > 0)
table(
    rows,
    {
        "decoded to": ",d",
        "relative error of the newest query's scores with the cache": ".1%",
    },
)

# %% [markdown]
# There are two ways out that keep the cache. **Fix the length before the prompt is read**, and $\theta_i(N)$ is a
# constant: then a model that decodes with a cache $C$ of the tokens $c_0, \dots, c_{t-1}$ gives what a pass over the
# whole text gives,
#
# $$
# \begin{aligned}
# &\mathrm{model}(c_t \mid C) \\
# &\quad = \mathrm{model}(c_0, \dots, c_t)_t .
# \end{aligned}
# $$ (eq-15-11)
#
# In `rope_lab` the length is `RotaryEmbedding(..., length=...)`, and without it the capacity of the cache. Or **keep
# unrotated keys and rotate all of them at every step**, as {class}`~rope_lab.encodings.variants.GrowingRotaryEmbedding`
# does. That corrects the scores of one layer, but not those of a stack. When the frequencies change, a full pass would
# also give old tokens a different output from layer 1, and hence different keys in layer 2; the cache still holds the
# old ones.

# %%
from rope_lab import RoFormerConfig
from rope_lab.encodings import GrowingRotaryEmbedding

text = torch.randint(50, (1, 40))
small = {"vocab_size": 50, "context": 8, "dim": 32, "heads": 2}
scaling = DynamicNTK(4, 8)


def decoded(model: RoFormer, prompt: int) -> Tensor:
    """Logits of all tokens: `prompt` of them at once, then one by one."""
    cache = model.new_cache(40)
    parts = [model(text[:, :prompt], cache=cache)]
    parts += [model(text[:, [t]], cache=cache) for t in range(prompt, 40)]
    return torch.cat(parts, dim=1)


with torch.no_grad():
    rope = RotaryEmbedding(16, scaling=scaling, length=40)
    fixed = RoFormer(RoFormerConfig(**small, depth=2), rope).eval()
    whole = fixed(text)
    for prompt in (1, 8, 9, 30):
        label = f"eq. 15.11, length fixed, prompt of {prompt}"
        check(label, decoded(fixed, prompt), whole)

    rope = GrowingRotaryEmbedding(16, scaling=scaling)
    for depth in (1, 2, 4):
        shape = RoFormerConfig(**small, depth=depth)
        growing = RoFormer(shape, rope).eval()
        passes = [growing(text[:, : t + 1])[:, -1:] for t in range(40)]
        cached, newest = decoded(growing, 1), torch.cat(passes, dim=1)
        if depth == 1:
            check("eq. 15.11, rotated again, one layer", cached, newest)
        else:
            off = float((cached - newest).norm() / newest.norm())
            print(
                f"With {depth} layers, rotated again, the logits are off by {off:.1e}."
            )

# %% [markdown]
# In this random model the error is small, but it is there. (The third way is to drop the cache and read everything again.)
# **In a model of several layers you can have frequencies that follow the length, or a cache that is exact, but not both,
# unless the text is read again whenever the frequencies change.**
#
# ## YaRN: leave the fast, interpolate the slow
#
# The condition {eq}`eq-15-2` concerns slow pairs, whereas most of the sum in {eq}`eq-15-5` comes from fast ones. So
# treat them differently, as YaRN {cite:p}`peng2024` does. Its frequencies alone are known as *NTK-by-parts*. Count how
# often pair $i$ turns in training, $L/\lambda_i$. It turns $\beta$ times at
#
# $$ i(\beta) = \frac{D}{2} \cdot \frac{\ln (L/2\pi\beta)}{\ln b} . $$ (eq-15-12)
#
# Pairs that turn more than 32 times stay as they are, those that turn less than once are interpolated, and a ramp
# joins them. In the paper it runs over the turns $L/\lambda_i$; in the authors' code, in transformers and here it runs over
# the pair index: with $i_{32} = \lfloor i(32) \rfloor$, not below 0, $i_1 = \lceil i(1) \rceil$,
# and $\gamma_i$ held between 0 and 1,
#
# $$
# \begin{aligned}
# \theta'_i &= (1 - \gamma_i)\, \theta_i + \gamma_i\, \frac{\theta_i}{\rho} , \\
# \gamma_i &= \frac{i - i_{32}}{i_1 - i_{32}} .
# \end{aligned}
# $$ (eq-15-13)
#
# For example, Llama 2 ($D = 128$, $b = 10{,}000$, $L = 4{,}096$) has its ramp from pair 20 to pair 46: pairs 0 to 20
# are unchanged, the 18 pairs from 46 on are divided by $\rho$, and the 25 in between are blended.
#
# Now look back: $i(1)$ is the bound of {eq}`eq-15-1`. With the ramp's end at one turn, exactly the pairs that never
# complete a turn are *fully* interpolated, and no pair leaves its arc.

# %%
from rope_lab.encodings import YaRN


def pair_of(turns: float, D: int, b: float, length: int) -> float:
    """The index of the pair that turns so often: equation 15.12."""
    return D / 2 * math.log(length / (2 * math.pi * turns)) / math.log(b)


rows = []
for name, (D, b, length) in heads.items():
    theta, pair = frequencies(D, b), torch.arange(D // 2)
    betas = torch.tensor([32.0, 1.0])
    ends = torch.tensor([pair_of(float(beta), D, b, length) for beta in betas])
    turns = length / (2 * math.pi) * b ** (-2 * ends / D)
    check(f"eq. 15.12, {name}", turns, betas)
    low, high = max(0, math.floor(ends[0])), math.ceil(ends[1])
    gamma = ((pair - low) / (high - low)).clamp(0, 1)
    wanted = (1 - gamma) * theta + gamma * theta / factor
    scaled, _ = YaRN(factor, length)(theta, 0)
    check(f"eq. 15.13, {name}", scaled, wanted)
    ratio = (scaled / theta)[2 * math.pi / theta > length]
    check_at_most(f"eq. 15.2, YaRN, {name}", ratio, 1 / factor)
    rows.append([name, low, high, int((gamma == 1).sum()), length / (2 * math.pi)])
table(
    rows,
    {
        "model": "", "ramp from pair": "d", "to pair": "d",
        "pairs divided by ρ": "d", "turns of the fastest pair in training": ",.1f",
    },
)  # fmt: skip

# %% [markdown]
# Our model was trained on so few characters that even its fastest pair turns less than 32 times: its ramp begins at pair
# 0, and only that pair stays exactly as it was.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Ratio of new to old frequency against the pair index, logarithmic, for a factor of 8. Position interpolation is level at 1/8. NTK-aware falls in a straight line from 1 to 1/8 at the last pair. Dynamic NTK falls in a steeper straight line to 1/57. YaRN and Llama 3 start at 1 and reach 1/8 at pair 7, where a grey area begins that is labelled no full turn in training."}, "figure": {"caption": "Five answers to one question, for 1,024 characters after training on 128. In the grey area, a method meets the condition if it is on or below the dotted line. To the left of the grey area, the higher a line, the better neighbouring tokens can be told apart.", "name": "fig-ratios"}}
from rope_lab.encodings import Llama3
from rope_lab.figures.extending import ratios

length = factor * L
choices = {
    "position interpolation": (PositionInterpolation(factor), 0, "below right"),
    "NTK-aware": (NTKAware(factor), 10, "above right"),
    "dynamic NTK": (dynamic, 13, "below left"),
    "YaRN": (YaRN(factor, L), 6, "below left"),
    "Llama 3": (Llama3(factor, original_length=L), 2, "above right"),
}
new = {name: scaling(freqs, length)[0] for name, (scaling, _, _) in choices.items()}
ratios(
    {name: (new[name] / freqs, at, side) for name, (_, at, side) in choices.items()},
    factor,
    int(slow.nonzero()[0]),
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels as in the figure of the angles: position interpolation and YaRN have no hatched part in any pair. NTK-aware has one in all slow pairs but the last. Dynamic NTK has one in the first slow pairs, and leaves part of the trained arcs of the slowest pairs unused."}, "figure": {"caption": "The angles of the slow pairs again, for four of the choices. Position interpolation and YaRN keep every pair within what it knows. NTK-aware does not, and dynamic NTK, with its larger factor, does so for most of them.", "name": "fig-arcs"}}
covered(L * freqs, {name: length * new[name] for name in list(choices)[:4]})

# %% [markdown]
# ### The attention factor
#
# YaRN has a second part. The authors multiply cosine and sine by the **attention factor**
#
# $$ a = 0.1 \ln \rho + 1 , $$ (eq-15-14)
#
# a formula they fitted, not derived. Queries and keys are both multiplied by $a$, so every score is multiplied by its
# *square*, as with a temperature of $1/a^2$:
#
# $$
# \begin{aligned}
# &\langle a R_m q,\, a R_n k \rangle \\
# &\quad = a^2\, \langle R_m q,\, R_n k \rangle .
# \end{aligned}
# $$ (eq-15-15)

# %%
q, k = torch.randn(2, 50, 1, 100, dim)
rows = []
for rho in (2, 8, 128):
    sharp, flat = YaRN(rho, L), YaRN(rho, L, attention_factor=1.0)
    _, a = sharp(freqs, 0)
    check(f"eq. 15.14, factor {rho}", a, 0.1 * math.log(rho) + 1)
    left_q, left_k = RotaryEmbedding(dim, scaling=sharp)(q, k)
    right_q, right_k = RotaryEmbedding(dim, scaling=flat)(q, k)
    right = a**2 * right_q @ right_k.mT
    check(f"eq. 15.15, factor {rho}", left_q @ left_k.mT, right)
    rows.append([rho, a, a**2])
table(
    rows, {"extension factor": "d", "attention factor a": ".4f", "scores times": ".4f"}
)

# %% [markdown]
# Why might that help? The second new thing at a longer length is that eight times as many keys share weights that sum
# to one. How much that hurts depends on how large a score can become, and in the model of this chapter it cannot become
# large. Its queries and keys are normalised to a root mean square of 1 before they are rotated (*QK-norm*, chapter 13;
# here without a gain), so $\lvert q \rvert = \lvert k \rvert = \sqrt D$, and by Cauchy and Schwarz
#
# $$ \lvert \langle R_m q, R_n k \rangle \rvert / \sqrt D \;\le\; \sqrt D , $$ (eq-15-16)
#
# here 6.3, whatever the weights learn. (With the learned gain of {cite:t}`henry2020` training can lift the cap; the section
# *With three seeds, and with a gain* shows what the factor does then.) Take the best case, a key equal to its query, among
# $N - 1$ keys of random directions. Their scores have variance 1, or $a^4$ with the factor, and are nearly Gaussian, so
# that $\mathrm{e}$ to a score is $\mathrm{e}^{a^4/2}$ on average, and the perfect key gets the weight
#
# $$ w(N) \;\approx\; \frac{1}{1 + (N - 1)\, \mathrm{e}^{a^4/2 \,-\, a^2 \sqrt D}} . $$ (eq-15-17)

# %%
a8 = 0.1 * math.log(factor) + 1
unit = F.rms_norm(torch.randn(300, 1, dim), (dim,))
rows = []
for count, a in ((L, 1.0), (factor * L, 1.0), (factor * L, a8)):
    others = F.rms_norm(torch.randn(300, count - 1, dim), (dim,))
    keys = torch.cat((unit, others), dim=1)
    capped = a**2 * (unit @ keys.mT)[:, 0] / dim**0.5  # (300, N) scores
    check_at_most(
        f"eq. 15.16, {count:,} keys, a = {a:.2f}", capped.abs(), a**2 * dim**0.5
    )
    weight = capped.softmax(-1)[:, 0].mean()
    rest = (count - 1) * math.exp(a**4 / 2 - a**2 * dim**0.5)
    check(
        f"eq. 15.17, {count:,} keys, a = {a:.2f}", weight, 1 / (1 + rest),
        tolerance=0.03, reason="approximation", draws=300,
    )  # fmt: skip
    rows.append([count, a, 1 / (1 + rest)])
table(
    rows,
    {"keys": ",d", "attention factor a": ".2f", "weight of a perfect key": ".2f"},
    caption="Equation 15.17 for a head of 40 coordinates.",
)

# %% [markdown]
# Among eight times as many keys even a perfect key keeps only a quarter of the attention, and YaRN's factor gives back
# what was lost. So much for random normalised vectors of this size; now for trained models.
#
# ## Which part of YaRN did it?
#
# So YaRN's success in {numref}`fig-eight-times` has two possible causes: it keeps every pair in its arc, and it
# sharpens the scores. To tell causes apart, take each away. *NTK-by-parts* has YaRN's frequencies and $a = 1$; *the
# attention factor alone* changes no frequency. As a third control the slow pairs are divided by $\rho$ and nothing else
# is touched, which meets {eq}`eq-15-2` exactly. Since QK-norm may matter, a second model, trained like the first but
# without it, gets all of them too.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels of loss against place in the text up to 1,024 characters, with QK-norm on the left and without it on the right, four lines each. On the left, nothing scaled rises steeply beyond 128, and NTK-by-parts is above it at first and below it from about 500 on, while the attention factor alone and YaRN stay low, the factor alone below YaRN at most places. On the right, nothing scaled and the factor alone rise most, NTK-by-parts less, and YaRN stays nearly level and is lowest at the end."}, "figure": {"caption": "YaRN taken apart, in one model with QK-norm without a learned gain (left) and one without QK-norm (right). Left, the frequencies alone help in the far half only and hurt before it; the attention factor alone does better than all of YaRN at most places, but not at the far end. Right, each part helps at the far end, the frequencies more than the factor. One seed each: three seeds of other models follow in {numref}`fig-tuning`.", "name": "fig-two-parts"}}
from rope_lab.figures.extending import by_place_of_two

torch.set_default_dtype(torch.float32)
free_config = config.change(qk_norm=False)
torch.manual_seed(config.seed)
free_start = RoFormer(free_config.architecture(len(corpus.vocab)))
models = {"with QK-norm": model, "without QK-norm": update(free_start, free_config)}


def slow_alone(theta: Tensor, length: int) -> tuple[Tensor, float]:
    """The slow pairs divided by ρ, all others and the scores as they were."""
    return torch.where(2 * math.pi / theta > L, theta / factor, theta), 1.0


controls = {name: name for name in ("none", "dynamic NTK")}
controls |= {"slow pairs divided by ρ": slow_alone}
controls |= {name: name for name in (*PARTS, "YaRN")}


def by_control(one: RoFormer, name: str) -> Tensor:
    """Mean loss of each group of places, from the first figure if it is there."""
    if one is model and name in lines:
        return lines[name]
    return read(one, controls[name])[0]


apart = {  # model → control → mean loss of each group of places
    title: {name: by_control(one, name) for name in controls}
    for title, one in models.items()
}
four = ("none", *PARTS, "YaRN")
by_place_of_two(
    middles,
    {title: {name: found[name] for name in four} for title, found in apart.items()},
    L,
)

# %% tags=["hide-input"]
widths = torch.tensor([float(b - a) for a, b in pairwise(edges)])
inside = edges.index(L)  # groups of places within the trained length


def average(line: Tensor, groups: slice) -> float:
    return float((line * widths)[groups].sum() / widths[groups].sum())


if not smoke:
    overall = {
        title: {name: average(line, slice(None)) for name, line in found.items()}
        for title, found in apart.items()
    }
    capped, _ = overall.values()
    gain = capped["none"] - capped["YaRN"]
    label = "fig. 15.5, with QK-norm"
    for name in ("dynamic NTK", "slow pairs divided by ρ", "NTK-by-parts"):
        check_at_most(f"{label}, {name}", capped["none"] - 0.2 * gain, capped[name])
    check_at_most(
        f"{label}, factor alone",
        capped["attention factor alone"],
        capped["YaRN"] + 0.1 * gain,
    )
    early = [average(apart["with QK-norm"][name], slice(inside)) for name in four]
    check_at_most(f"{label}, first {L}, factor alone does not help", early[0], early[2])
    label = "fig. 15.5, without QK-norm"
    end = {name: float(line[-1]) for name, line in apart["without QK-norm"].items()}
    for name in ("slow pairs divided by ρ", *PARTS, "YaRN"):
        check_at_most(f"{label}, at the end, {name} helps", end[name], end["none"])
    by_parts, factor_alone = (end[name] for name in PARTS)
    check_at_most(f"{label}, at the end, the two parts", by_parts, factor_alone)
    third = end["slow pairs divided by ρ"]
    check_at_most(f"{label}, at the end, the third control", third, factor_alone)
parts = {"all": slice(None), f"first {L}": slice(inside), "last 256": slice(-1, None)}
table(
    [
        [
            said(name),
            *(
                average(found[name], part)
                for found in apart.values()
                for part in parts.values()
            ),
        ]
        for name in controls
    ],
    {"": ""} | {f"{where}, {title}": ".2f" for title in models for where in parts},
    caption=f"Mean loss in segments of {factor * L:,} characters, by places.",
)

# %% [markdown]
# In the model with QK-norm, all or nearly all of YaRN's advantage on the mean comes from its attention factor. Its
# frequencies alone leave the mean about where it was, and so do the two other ways of bringing slow pairs back: what
# they gain at the far end they lose before it. And the factor does not merely suit a model that would like sharper scores
# at any length: in the first 128 characters, where there are no more keys than in training, it gains nothing.
#
# Without QK-norm the frequencies help more than the factor at the far end, and so does the third control, which divides
# the slow pairs and does nothing else. That looks like the argument of this chapter's first half, unseen angles; it is
# put to the test below.
#
# The third control is also one for interpolation: with the fast pairs spared, the first 128 characters cost little more
# than with nothing scaled, and far less than with interpolation in {numref}`fig-eight-times`.
#
# **The same symptom can have two causes**: angles that were never seen, and attention spread over too many keys. If
# the second is behind the left panel, the loss should follow the factor, not the method. Leave every frequency alone and
# vary only $a$:

# %%
capped = apart["with QK-norm"]
by_factor = {1.0: capped["none"], a8: capped["attention factor alone"]}
by_factor |= {a: read(model, Sharpened(a))[0] for a in (0.8, 1.35, 1.5)}
if not smoke:
    lost, *found = (
        average(line, slice(None)) - early[0]  # above the first 128 characters
        for line in (by_factor[1.0], by_factor[a8])
    )
    check_at_most("fig. 15.5, with QK-norm, what the factor leaves", found, [lost / 2])
table(
    [[a, average(by_factor[a], slice(None))] for a in sorted(by_factor)],
    {"attention factor a": ".2f", "loss with QK-norm": ".2f"},
    caption=f"Mean loss at {factor * L:,} characters with no frequency changed.",
)

# %% [markdown]
# It does: most of what the model lost beyond its length is regained by this one number.
#
# ### Angles and keys, one at a time
#
# That is still an argument by elimination, since a longer text brings new angles and more keys together. They can be had
# apart. *Angles without number:* let a query see about as many keys as the last one of a trained segment, 128: the 32
# nearest, and 96 that are *all* at distances of $L$ or more, which training never showed. *Number at a trained angle:* let it
# see every key, but turn those from distance $L$ on as if all were at one trained distance: at a quarter, half or three quarters of
# $L$, or at $L - 1$, which only the last query of a segment has met. The other rows of the table are controls: the 32
# nearest keys by themselves, and the same few far keys, or five times as many, at trained distances.


# %%
class Apart(RotaryEmbedding):
    """RoPE with a choice of keys (distances → those kept), or with far keys as if at one distance."""

    def __init__(self, dim: int, *, kept=None, far_as: int | None = None) -> None:
        super().__init__(dim)
        self.kept, self.far_as = kept, far_as

    def bias(self, q, k, q_positions, k_positions):
        distance = q_positions[:, None] - k_positions
        added = torch.zeros(1, 1, *distance.shape)
        if self.far_as:  # the key turned back to place 0, the query to place far_as
            theta, place = self.frequencies(), torch.full_like(q_positions, self.far_as)
            away = angles(place - q_positions, theta)
            turned = rotate(q, away) @ rotate(k, angles(-k_positions, theta)).mT
            changed = (turned - q @ k.mT) / q.shape[-1] ** 0.5
            added = torch.where(distance >= L, changed, added)
        if self.kept is not None:
            added = added.masked_fill(~self.kept(distance), -math.inf)
        return added


def drawn(count: int, least: int):
    """Keep the 32 nearest keys, and of those at distances from `least` on about `count` by chance."""

    def kept(distance: Tensor) -> Tensor:
        there = (distance >= least).sum(-1, keepdim=True).clamp(min=1)
        chosen = torch.rand(distance.shape, generator=torch.Generator().manual_seed(0))
        return (distance < 32) | ((distance >= least) & (chosen < count / there))

    return kept


choices = {
    "all keys": {},
    "all keys, the far ones as if at L − 1": {"far_as": L - 1},
    "all keys, the far ones as if at L/4": {"far_as": L // 4},
    "all keys, the far ones as if at L/2": {"far_as": L // 2},
    "all keys, the far ones as if at 3L/4": {"far_as": 3 * L // 4},
    "the 128 nearest": {"kept": lambda distance: distance < L},
    "the 32 nearest": {"kept": lambda distance: distance < 32},
    "32 nearest, 96 from distance L on": {"kept": drawn(96, L)},
    "the same, the 96 as if at L/2": {"kept": drawn(96, L), "far_as": L // 2},
    "the same, the 96 as if at L − 1": {"kept": drawn(96, L), "far_as": L - 1},
    "32 nearest, 480 from distance L on": {"kept": drawn(480, L)},
    "the same, the 480 as if at L/2": {"kept": drawn(480, L), "far_as": L // 2},
    "the same, the 480 as if at L/4": {"kept": drawn(480, L), "far_as": L // 4},
}
few_segments = segments // 2
far_ids = ids[: factor * L * few_segments + 1]


def at_the_end(one: RoFormer, **choice) -> float:
    """Mean loss of the last 256 places under a choice of keys or angles."""
    chosen = RoFormer(one.config, Apart(dim, **choice)).eval()
    chosen.load_parameters(dict(one.named_parameters()))
    return float(token_losses(chosen, far_ids, factor * L, batch=4)[:, -256:].mean())


chosen = {
    name: [at_the_end(one, **choice) for one in models.values()]
    for name, choice in choices.items()
}
if not smoke:
    by_choice = map(Tensor, chosen.values())
    (
        whole,
        as_last,
        *as_one,
        near,
        nearest,
        new_angles,
        turned,
        last,
        more,
        turned_more,
        at_quarter,
    ) = by_choice
    rise = whole - near
    back = (whole - torch.stack(as_one)) / rise  # (distances, models): share regained
    check_at_most("the 32 nearest suffice", nearest, near + 0.02)
    check_at_most("few keys at new angles", new_angles - near, rise / 3)
    check_at_most("few keys at a trained angle", turned - nearest, rise / 20)
    check_at_most("new angles, more keys", (new_angles + whole) / 2, more)
    check_at_most("more keys at a trained angle", turned_more - near, (more - near) / 3)
    check_at_most("few keys as if at L − 1", new_angles + rise / 10, last)
    with_norm = slice(0, 1)
    dear = (at_quarter - near)[with_norm]
    check_at_most("480 keys as if at L/4, QK-norm", (more - near)[with_norm] / 2, dear)
    check_at_most("all keys as if at L − 1", whole, as_last)
    check_at_most("all as if at one distance, no QK-norm", [0.5] * 3, back[:, 1])
    check_at_most("all as if at one distance, QK-norm", back[:, 0], [0.2, 0.7, 0.7])
table(
    [[name, *losses] for name, losses in chosen.items()],
    {"keys that a query sees": ""} | dict.fromkeys(models, ".2f"),
    caption=f"Loss of the last 256 of {factor * L:,} places, in {few_segments} segments.",
)

# %% [markdown]
# **Both matter in these two models: how many keys, and at which angles.** The 32 nearest keys by themselves do as well as
# 128. Beside them, 96 keys at distances that nobody trained cost little, and five times as many cost most of the rise. As if
# at $L/2$, the best of the trained distances tried, the 96 cost nothing and the 480 little. But with QK-norm the 480
# cost most of that as if at $L/4$, too, and as if at $L - 1$ the 96 alone cost both models more than at new angles.
#
# With *all* far keys at one trained distance the two models differ. Without QK-norm more than half of the rise comes back
# at $L/4$, $L/2$ and $3L/4$: there the angles are the larger part. With QK-norm it is between a seventh and two thirds. So
# a trained angle is not by itself a harmless one. (And none of these rows is number alone: no segment of the training had
# hundreds of keys at one distance.)
#
# These are two small models and one text. In others the shares may differ.
#
# :::{admonition} Who else saw the second cause
# :class: note dropdown
#
# {cite:t}`wang2024nope` trace the failure of models *without* positions at longer lengths to distracted attention and
# extend them with a temperature, but report that the same does not carry over to RoPE as it is. {cite:t}`zhong2024`
# connect errors in retrieval under extended RoPE with attention that is spread out. Chapter 16
# counts the keys over which our models spread theirs. Log-n scaling is discussed in
# [x-transformers#171](https://github.com/lucidrains/x-transformers/issues/171).
# :::
#
# ## With three seeds, and with a gain
#
# The two models above are one seed each and were trained briefly. The recorded experiment (`rope-lab reproduce
# extension`) puts the question to three seeds of deeper models, trained to the end of their schedule, of three kinds:
# QK-norm with the learned gain of its paper, without a gain, and no QK-norm. Each is extended by the function below, read
# as it is, and then fine-tuned at the new length, at a fifth of the learning rates.

# %% tags=["hide-input"]
from rope_lab.figures.source import source

source(extended)

# %% [markdown]
# One more method, *log-n*, multiplies the scores of the query at position $m \ge L$ by $\ln(m + 1)/\ln L$ and so changes
# nothing within the trained length.

# %% tags=["hide-input"]
from statistics import fmean

from rope_lab.experiments import causes, rates
from rope_lab.experiments.lab import SCALES

recorded = Results.recorded("extension")
full, updates, few = preset("cpu"), rates.STEPS["cpu"][1], causes.UPDATES["cpu"]
sizes = full.architecture(len(corpus.vocab))
characters = updates * full.batch * sizes.context
share = few / updates / 2  # an update of fine-tuning reads half as many characters
table(
    [
        ["parameters", sum(p.numel() for p in RoFormer(sizes).parameters())],
        ["updates of training", updates],
        ["characters of training", characters],
        ["updates of fine-tuning", few],
        ["characters of fine-tuning", round(share * characters)],
        ["characters evaluated", SCALES["cpu"].characters],
    ],
    {"": "", "number": ",d"},
    caption=f"Fine-tuning reads 1/{1 / share:.0f} as many characters as training.",
    provenance=recorded.provenance(),
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels, for QK-norm with a gain, without a gain, and no QK-norm: one row for each of eight methods, with an open dot for the loss at 1,024 characters before fine-tuning and a filled one after it, with bars, and a dotted line near 1.55. With a gain the open dots are between 1.67 and 1.83. Without a gain those of YaRN, the attention factor alone and log-n are near 1.7, the others near 2.3. Without QK-norm those of YaRN and NTK-by-parts are near 1.8, dynamic NTK at 1.9, NTK-aware at 2.2, the others near 2.6. The filled dots are between 1.56 and 1.72, except those of interpolation. Position interpolation is far to the right in all panels."}, "figure": {"caption": "Loss at 1,024 characters, mean and 95% confidence interval over three seeds, before and after fine-tuning; values far above the rest are written as numbers. In models with QK-norm and no gain, sharper scores do what frequencies alone do not; in models without QK-norm it is the other way round. Fine-tuning brings the methods closer together and leaves interpolation behind. The bars contain what differs from seed to seed for all methods alike: compare methods by the paired differences below. Dotted line: the loss at the trained length, before.", "name": "fig-tuning"}}
from rope_lab.figures.extending import tuning

kinds = {  # title → how the variants end
    "QK-norm, gain": " ×8",
    "QK-norm, no gain": " ×8, QK-norm without a gain",
    "no QK-norm": " ×8, no QK-norm",
}
tuning(recorded, kinds)

# %% [markdown]
# All methods of one seed start from the same model, so their differences are paired. The verdict is that of chapter 14:
# *lower* or *higher* where the 95% confidence interval does not contain zero.


# %%
def change(
    method: str, end: str, field: str, stage: int, against: str = "none"
) -> list:
    """Loss of a method minus that of another one, seed by seed."""
    pair = (f"{name}{end}" for name in (method, against))
    return differences(recorded, *pair, field, stage)


def compared(columns: dict[str, tuple], caption: str) -> object:
    """A row for each method: its loss minus that with nothing scaled."""
    rows = []
    for method in causes.METHODS[1:]:
        found = (verdict(change(method, *where)) for where in columns.values())
        rows.append([method, *(f"{one.difference} {one.word}" for one in found)])
    return table(rows, ["", *columns], caption=caption)


compared(
    {title: (ending, "loss", 0) for title, ending in kinds.items()},
    "Loss at 1,024 characters minus that with nothing scaled, before fine-tuning.",
)

# %% tags=["hide-input"]
from rope_lab.experiments.seeds import interval

with_gain, no_gain, free = kinds.values()
part_freqs, part_factor = PARTS


def sign(method: str, end: str, field="loss", stage=0, against="none") -> int:
    """−1 lower, 1 higher, 0 undecided."""
    mean, half = interval(change(method, end, field, stage, against))
    return 0 if abs(mean) <= half else (1 if mean > 0 else -1)


signs = {
    method: [sign(method, ending) for ending in kinds.values()]
    for method in causes.METHODS
}
label = "fig. 15.6"
check(
    f"{label}, the factor alone is lower, undecided without QK-norm",
    signs[part_factor],
    [-1, -1, 0],
)
check(
    f"{label}, the frequencies alone are lower without QK-norm only",
    signs[part_freqs],
    [0, 0, -1],
)
always = [method for method, found in signs.items() if found == [-1, -1, -1]]
check(
    f"{label}, YaRN is the one that is lower in all kinds",
    [m == "YaRN" for m in always],
    [True],
)
against_yarn = [(part_factor, no_gain), (part_freqs, free), (part_factor, with_gain)]
check(
    f"{label}, the parts against all of YaRN",
    [sign(*pair, against="YaRN") for pair in against_yarn],
    [-1, 0, 0],
)
posted = [change("NTK-aware", ending, "loss", 0) for ending in kinds.values()]
check_at_most(
    f"{label}, NTK-aware matters most without QK-norm",
    -fmean(posted[0] + posted[1]),
    -fmean(posted[2]) / 5,
)

# %% [markdown]
# **Which part of YaRN helps depends on the kind of model.** With QK-norm but no gain, the attention factor alone lowers
# the mean more than all of YaRN, and of the frequencies alone the seeds decide nothing. Without QK-norm it is the other
# way round: the frequencies alone do nearly all that YaRN does, and of the factor alone the seeds decide nothing. With a
# gain the loss rises least; there the factor lowers it, and the frequencies alone do not decidedly. YaRN as a whole is the
# only method here whose verdict is *lower* in all three kinds. *Log-n* does nearly what the factor does.
#
# NTK-aware scaling was posted as a remedy that needs no fine-tuning {cite:p}`bloc97`, for LLaMA, which has no QK-norm. In
# our models of that kind it takes back nearly half of the rise and dynamic NTK most of it; with QK-norm both change
# hundredths. Interpolation is worst everywhere. NTK-by-parts, which divides the same slow pairs and spares the fast
# ones, is not.
#
# The mean hides the far end. On the last 128 characters the frequencies alone lower the loss in every seed of every
# kind, and all of YaRN has the lowest mean:

# %% tags=["hide-input"]
far = {title: (ending, "end", 0) for title, ending in kinds.items()}
fell = [[x < 0 for x in change(part_freqs, *at)] for at in far.values()]
check(f"{label}, far end, the frequencies alone", fell, [[True] * 3] * 3)
for title, at in far.items():
    at_end = [fmean(change(m, *at, against="YaRN")) >= 0 for m in causes.METHODS]
    check(f"{label}, far end, {title}, YaRN", at_end, [True] * len(at_end))
compared(far, "The same on the last 128 of 1,024 characters.")

# %% [markdown]
# ### After fine-tuning

# %% tags=["hide-input"]
columns = [("trained_length",), ("loss", 0), ("loss", 1), ("short", 1)]
table(
    [
        [title, *(shown(recorded.values("none" + ending, *where)) for where in columns)]
        for title, ending in kinds.items()
    ],
    ["", f"{L} characters", f"{factor * L:,}", f"{factor * L:,}, tuned", f"{L}, tuned"],
    caption="Loss with nothing scaled, before and after fine-tuning.",
)

# %%
compared(
    {title: (ending, "loss", 1) for title, ending in kinds.items()},
    "Loss at 1,024 characters minus that with nothing scaled, after fine-tuning.",
)

# %% tags=["hide-input"]
label = "after fine-tuning"
close = [fmean(change(m, with_gain, "loss", 1)) for m in causes.METHODS[2:]]
check_at_most(
    f"{label}, with a gain, all but interpolation", torch.tensor(close).abs(), 0.02
)
kept = {no_gain: ("YaRN", part_factor, "log-n"), free: causes.METHODS[2:6]}
check(
    f"{label}, what remains lower",
    [sign(m, ending, stage=1) for ending, found in kept.items() for m in found],
    [-1] * 7,
)
tenth, hundredths = (
    torch.tensor([fmean(change(m, ending, "loss", 1)) for m in found])
    for ending, found in kept.items()
)
check_at_most(f"{label}, without a gain, a tenth is less", [0.1] * 3, -tenth)
check(
    f"{label}, without QK-norm, three to five hundredths",
    hundredths, [-0.04] * 4, tolerance=0.015, reason="approximation",
)  # fmt: skip
worse = [
    [
        r["short"][1] > r["trained_length"]
        for r in recorded.records
        if r["variant"] == "none" + ending
    ]
    for ending in kinds.values()
]
check(f"{label}, nothing scaled, the short text is read worse", worse, [[True] * 3] * 3)
gaps = [
    [fmean(change("position interpolation", ending, "loss", i)) for i in (1, 0)]
    for ending in kinds.values()
]
check(
    f"{label}, what is left of the gap of interpolation",
    [after / before for after, before in gaps],
    [1 / 3, 1 / 2, 1 / 2], tolerance=0.05, reason="approximation",
)  # fmt: skip

# %% [markdown]
# With nothing scaled, a twelfth of the text of training takes back most of what was lost. The models have not become
# better altogether: the same updates raise the loss at 128 characters. With the gain every method but interpolation is then
# within two hundredths of nothing scaled. Without it YaRN, its factor alone and log-n keep more than a tenth of a nat, and
# without QK-norm all frequencies but interpolation's keep three to five hundredths. Interpolation has closed about half of its gap, with
# the gain nearly two thirds. Do not read that as a
# verdict on the method: a character model depends mostly on the nearest characters (chapter 13), and interpolation makes
# neighbours harder to tell apart (see {eq}`eq-15-5`).
#
# :::{admonition} What these records cannot show
# :class: warning
#
# They are of one text and of models more than ten thousand times smaller than LLaMA-7B, with one budget of fine-tuning.
# The models without QK-norm were trained at twice the rates of the others, chosen for them with one seed and at the edge
# of the grid, so they differ in more than the size of their scores: compare methods within a kind, and do not take QK-norm
# for the proven cause. Nothing here is about retrieval from afar, or about perplexities as the papers print them.
# :::
#
# :::{admonition} What the papers report
# :class: note dropdown
#
# {cite:t}`chen2023` found that a model fails beyond its length and that interpolation repairs it within a thousand
# updates, and {cite:t}`peng2024` claim that YaRN needs the fewest. The order without fine-tuning is not settled in the
# literature: for LLaMA-2-7B at 8,192 tokens, {cite:t}`ding2024` report perplexities of 10.65 for interpolation, 10.21 for
# dynamic NTK and 32.64 for YaRN. These numbers were not reproduced here.
# :::
#
# ### Shorter extensions, and shorter texts
#
# An extended model will still be given shorter texts. Here the models with the gain read 128 characters, with the scaling
# of the long length left on:

# %%
compared(
    {f"×{rho}": (f" ×{rho}", "short", 0) for rho in causes.FACTORS}
    | {"×8, fine-tuned": (with_gain, "short", 1)},
    f"Loss at {L} characters minus that with nothing scaled, by the factor.",
)

# %% tags=["hide-cell"]
shorter = [sign(m, f" ×{rho}") for rho in (2, 4) for m in ("YaRN", part_factor)]
check("shorter extensions, YaRN and its factor alone", shorter, [1, 0, 1, -1])
higher = [m for m in causes.METHODS if sign(m, with_gain, "short", 1) > 0]
check(
    "short texts, fine-tuned, only interpolation is higher",
    [m == "position interpolation" for m in higher],
    [True],
)
compared(
    {f"×{rho}": (f" ×{rho}", "loss", 0) for rho in (2, 4)},
    "Loss at the new length minus that with nothing scaled, QK-norm with a gain.",
)

# %% [markdown]
# Before fine-tuning each choice of frequencies costs something, the more the larger the factor; the attention factor alone
# costs little, and log-n nothing, by its definition. After it, at a factor of 8, only interpolation is decidedly higher. Dynamic
# NTK was invented to avoid this cost, and would: at 128 characters its factor is 1. Here its length is fixed at that of the
# longest text, as a cache demands.
#
# The folded table has the long texts of shorter extensions: at two and four times the length YaRN *raises* the mean loss,
# whereas the factor alone does not.
#
# ## The others in one table
#
# Chapter 11 draws what each of them does to the wavelengths of all pairs, and adds LongRoPE2.
#
# | | $\theta'_i/\theta_i$ | depends on $N$ | attention factor |
# |---|---|---|---|
# | {class}`~rope_lab.encodings.scaling.PositionInterpolation` | $1/\rho$ | no | 1 |
# | {class}`~rope_lab.encodings.scaling.NTKAware` | $\rho^{-i/(D/2-1)}$ | no | 1 |
# | {class}`~rope_lab.encodings.scaling.DynamicNTK` | the same with $\rho(N)$ | yes | 1 |
# | {class}`~rope_lab.encodings.scaling.YaRN` | 1 to $1/\rho$, ramp over the pairs (in the paper, the turns) | no | $0.1 \ln \rho + 1$ |
# | {class}`~rope_lab.encodings.scaling.Llama3` {cite:p}`grattafiori2024` | 1 to $1/\rho$, ramp over the turns, from 4 to 1 | no | 1 |
# | {class}`~rope_lab.encodings.scaling.LongRoPE` {cite:p}`ding2024` | one searched number per pair, two lists | yes, which list | $\sqrt{1 + \ln\rho / \ln L}$ |
# | {class}`~rope_lab.encodings.scaling.PRoPE` {cite:p}`barbero2025` | 1 for the fast, 0 for the slow | no | 1 |
#
# The tests compare each of them, except plain NTK-aware scaling, with the corresponding function in transformers. The
# row of LongRoPE describes that code: the paper also leaves the first tokens unscaled, and the square root is from the
# code of Phi-3.
#
# ## In the wild
#
# - **Keys of an older base.** Dynamic NTK in transformers rotated each cached key with the base of its time, as in
#   {eq}`eq-15-10` ([transformers#25104](https://github.com/huggingface/transformers/issues/25104)). Another report: after a long
#   text the base did not come back for a short one
#   ([transformers#27033](https://github.com/huggingface/transformers/pull/27033)). A maintainer replied that fixing either
#   would slow decoding down too much ([transformers#27227](https://github.com/huggingface/transformers/pull/27227)).
#
# :::{admonition} Three more
# :class: note dropdown
#
# - **A switch in the middle of a sentence.** LongRoPE changes its list when a text passes the trained length, and the
#   cache is full of keys of the other list: Phi-3 wrote garbled text from that token on. transformers drops the cache
#   there and reads everything again
#   ([transformers#33129](https://github.com/huggingface/transformers/pull/33129)). vLLM
#   ([vllm#27414](https://github.com/vllm-project/vllm/issues/27414)) now decides by the longest text it is set up for, the
#   fixed length of {eq}`eq-15-11` ([vllm#27431](https://github.com/vllm-project/vllm/pull/27431)). llama.cpp did so too,
#   and got the report of the price: short texts are read with the frequencies of long ones
#   ([llama.cpp#24823](https://github.com/ggml-org/llama.cpp/issues/24823)).
# - **The attention factor, squared by mistake.** A configuration file contained the final factor, but the code that read
#   the file multiplied it by a factor of its own and so squared it. Fixing this gained 20 points on GSM8K
#   ([sglang#33558](https://github.com/sgl-project/sglang/pull/33558)).
# - **Every frequency divided.** keras-hub's `rope_type="dynamic"`, when it was read for this book, divided all frequencies by
#   $\rho^{D/(D-2)}$. That number belongs to the base. On the frequencies it is position interpolation by a little too much.
#
# The cells below compute the last two.
# :::

# %% tags=["hide-cell"]
a = YaRN(128, 4096)(frequencies(128), 0)[1]
print(f"At an extension factor of 128, a is {a:.4f}, by mistake {a**2:.4f}:")
print(f"all scores are then {a**2:.2f} times too large.")

# %% tags=["hide-cell"]
theta, rho = frequencies(128), 4
right = NTKAware(rho)(theta, 0)[0] / theta
wrong = torch.full_like(right, rho ** (-128 / 126))
table(
    [["NTK-aware", right[0], right[-1]], ["all divided", wrong[0], wrong[-1]]],
    {"": "", "first pair": ".4f", "last pair": ".4f"},
    caption=f"New over old frequency at an extension factor of {rho}.",
)

# %% [markdown]
# ## Summary
#
# - Beyond its length a head meets two new things: angles that it has not seen, in the pairs that never completed a
#   turn, and more keys that share its attention. In our two models few keys at new angles cost little, and many cost
#   less at three of the four trained angles tried.
# - Interpolation and YaRN's frequencies bring all angles back, NTK-aware scaling almost none. In our models without
#   QK-norm YaRN's frequencies did nearly all that YaRN did for the mean loss; in those with QK-norm its attention factor
#   did. A short fine-tuning took back most of what was lost, with nothing scaled as well. Ask for the control.
# - Fix the length before the prompt: frequencies that change while a text is written make the keys of a cache wrong.
#
# ## Exercises
#
# Each checker tells you what it found; the open question has none. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-15-1
# ```
#
# Write `shortest_length(dim, base, unseen)`: the smallest number of tokens to train on with which at most `unseen`
# pairs never complete a turn.

# %%
from rope_lab.exercises.ch15 import check_shortest_length


def shortest_length(dim: int, base: float, unseen: int) -> int:
    return None  # your turn


check_shortest_length(shortest_length)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-15-1
# :label: sol-15-1
# ```
#
# The slowest pairs have the longest wavelengths. Leave `unseen` of them out; the next one must complete its turn, so
# take its wavelength, rounded up.


# %%
def shortest_length(dim: int, base: float, unseen: int) -> int:
    wavelengths = 2 * math.pi / frequencies(dim, base)
    return math.ceil(wavelengths[dim // 2 - 1 - unseen])


check_shortest_length(shortest_length)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-15-2
# ```
#
# NTK-aware scaling divides the last pair by the factor and all others by less. Write `ntk_frequencies(dim, base,
# factor, pair)`: raise the base so that pair `pair` ($1 \le$ `pair` $< D/2$) is divided by `factor` exactly, and
# return the frequencies. Which pair would you choose so that no slow pair leaves its arc?

# %%
from rope_lab.exercises.ch15 import check_ntk_frequencies


def ntk_frequencies(dim: int, base: float, factor: float, pair: int) -> Tensor:
    return None  # your turn: shape (dim/2,)


check_ntk_frequencies(ntk_frequencies)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-15-2
# :label: sol-15-2
# ```
#
# Ask for $b'^{-2i/D} = b^{-2i/D}/\rho$ and solve: $b' = b\, \rho^{D/(2i)}$, which is {eq}`eq-15-7` for $i = D/2 - 1$.
# Slower pairs are divided by more, so with the first pair that never completes a turn all slow pairs meet
# {eq}`eq-15-2`.


# %%
def ntk_frequencies(dim: int, base: float, factor: float, pair: int) -> Tensor:
    return frequencies(dim, base * factor ** (dim / (2 * pair)))


check_ntk_frequencies(ntk_frequencies)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-15-3
# ```
#
# The ramp of this chapter runs over the pair index. Write `yarn_frequencies(dim, base, factor, length)` with the ramp
# of the paper, for a model trained on `length` tokens: a pair that turns 32 times or more stays as it is, a pair that
# turns once or less is divided by the factor, and between them the part of the divided frequency depends on the turns
# in a straight line.

# %%
from rope_lab.exercises.ch15 import check_yarn_frequencies


def yarn_frequencies(dim: int, base: float, factor: float, length: int) -> Tensor:
    return None  # your turn: shape (dim/2,)


check_yarn_frequencies(yarn_frequencies)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-15-3
# :label: sol-15-3
# ```
#
# As {eq}`eq-15-13`, with a $\gamma_i$ that is 0 at 32 turns and 1 at one turn. Most pairs of the ramp turn only a few
# times, so nearly all of them are divided by more than with the ramp over the index.


# %%
def yarn_frequencies(dim: int, base: float, factor: float, length: int) -> Tensor:
    theta = frequencies(dim, base)
    turns = length * theta / (2 * math.pi)
    gamma = ((32 - turns) / (32 - 1)).clamp(0, 1)
    return (1 - gamma) * theta + gamma * theta / factor


check_yarn_frequencies(yarn_frequencies)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-15-4
# ```
#
# A cache holds keys of shape `(N, D)`, interleaved, at positions 0, 1, …, rotated with the frequencies `old`.
# Write `restamp(keys, old, new)`, which returns them rotated with the frequencies `new` instead. Could this repair the
# cache of a model of many layers?

# %%
from rope_lab.exercises.ch15 import check_restamp


def restamp(keys: Tensor, old: Tensor, new: Tensor) -> Tensor:
    return None  # your turn: shape (N, D)


check_restamp(restamp)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-15-4
# :label: sol-15-4
# ```
#
# Rotations add up, so turn by what is missing. The first layer then has the keys of a full pass; in later layers even
# the unrotated keys would be others.


# %%
def restamp(keys: Tensor, old: Tensor, new: Tensor) -> Tensor:
    positions = torch.arange(len(keys))
    return rotate(keys, angles(positions, new - old, dtype=keys.dtype))


check_restamp(restamp)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-15-5
#
# Is it the unseen angles that make a large base bad at longer lengths? Train a second model like the first with
# `config.change(base=1_000_000)`, which takes a minute or two, and read 512 characters with both models by
# `extended(…, 4)`: with nothing scaled, with `"NTK-by-parts"` and with `"attention factor alone"`. Which of the two
# takes away a part of the difference between the bases, and which does not?
# ```
#
# ```{solution} ex-15-5
# :label: sol-15-5
#
# When this was written, with the seeds 15, 16 and 17, the model of the larger base was worse at 512 characters by
# 0.22 to 0.25 nats with nothing scaled, by 0.25 to 0.29 with the attention factor alone, and by 0.04 to 0.08 with
# NTK-by-parts. So bringing the slow pairs back into their arcs takes away most of the difference between the bases,
# and sharpening the scores takes away none. At their trained length the two bases differ by 0.01 to 0.03. That fits
# {eq}`eq-15-2`: with the larger base all slow pairs have seen shorter arcs.
#
# It does not contradict the section on the two parts of YaRN. There the question was why *one* model fails at a
# longer length, and keys are many there for both bases; here the question is
# what differs *between* the bases. Three seeds of one small model, with QK-norm
# and no gain, on one text are the evidence, no more.
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-15-6
# ```
#
# In some models only the first `rotary` of the `dim` coordinates of a head are turned, as in the row *RoPE, 25%* of
# chapter 14. `partial_ntk` is to return the NTK-aware frequencies of such a head, one for each of its `dim/2` pairs,
# with 0 for the pairs that do not turn: the first pair stays as it was, and the last pair that turns is divided by
# the factor. It does so if all coordinates are turned. Correct it.

# %%
from rope_lab.exercises.ch15 import check_partial_ntk


def partial_ntk(dim: int, rotary: int, base: float, factor: float) -> Tensor:
    raised = base * factor ** (dim / (dim - 2))
    pairs = torch.arange(rotary // 2, dtype=torch.float64)
    turned = raised ** (-2 * pairs / rotary)
    return F.pad(turned, (0, dim // 2 - rotary // 2))


check_partial_ntk(partial_ntk)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-15-6
# :label: sol-15-6
# ```
#
# The $D$ of {eq}`eq-15-7` comes from the exponent of the last pair, $-(D - 2)/D$, so it is the number of coordinates
# that turn. With the size of the whole head the base is raised by too little.


# %%
def partial_ntk(dim: int, rotary: int, base: float, factor: float) -> Tensor:
    raised = base * factor ** (rotary / (rotary - 2))
    pairs = torch.arange(rotary // 2, dtype=torch.float64)
    turned = raised ** (-2 * pairs / rotary)
    return F.pad(turned, (0, dim // 2 - rotary // 2))


check_partial_ntk(partial_ntk)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-15-7
# ```
#
# “Whatever is lost to more keys, a large enough attention factor gives back.” Take {eq}`eq-15-17` at its word and
# write `sharpened(dim, length, longer)`: a factor $a$ with which a perfect key among `longer` keys has at least the
# weight that it has among `length` keys with $a = 1$; or `None` if no factor does that. Every such factor is correct.

# %%
from rope_lab.exercises.ch15 import check_sharpened


def sharpened(dim: int, length: int, longer: int) -> float | None:
    return None  # your turn: one number, or None


check_sharpened(sharpened)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-15-7
# :label: sol-15-7
# ```
#
# With $x = a^2$ and $r = (N' - 1)/(N - 1)$ the condition is $\tfrac12 x^2 - x\sqrt D + \ln r \le \tfrac12 - \sqrt D$,
# since the scores of the other keys grow as well. A parabola: it holds between the roots $x = \sqrt D \pm
# \sqrt{(\sqrt D - 1)^2 - 2 \ln r}$, and nowhere if $2 \ln r > (\sqrt D - 1)^2$. So the sentence is wrong twice: a
# factor can be too large, and in a small head even the best, $a^2 = \sqrt D$, is not enough. (The equation itself is
# an approximation, which was checked for small $a$ only.)


# %%
def sharpened(dim: int, length: int, longer: int) -> float | None:
    middle = math.sqrt(dim)
    inside = (middle - 1) ** 2 - 2 * math.log((longer - 1) / (length - 1))
    if inside < 0:
        return None
    return math.sqrt(middle - math.sqrt(inside))


check_sharpened(sharpened)

# %% [markdown]
# ```{solution-end}
# ```
#
# ## References
#
# - {cite:t}`chen2023`, section 2.3 and theorem 2.1: position interpolation and its bound.
# - {cite:t}`bloc97`: NTK-aware scaling; {cite:t}`peng2024`, sections 3.1 to 3.4: that, dynamic NTK and YaRN.
# - {cite:t}`ding2024`: LongRoPE; {cite:t}`grattafiori2024`: Llama 3.
# - {cite:t}`xiong2024` and {cite:t}`xu2024`: raising the base; {cite:t}`barbero2025`: p-RoPE.
# - {cite:t}`henry2020`: normalised queries and keys with a learned gain, which the models trained on this page lack.
# - {cite:t}`wang2024nope` and {cite:t}`zhong2024`: attention that is spread out at longer lengths.
#
# This chapter checks the papers' formulas. The tables above show which of their trained results it found again at its own
# small scale. What it says of other libraries is what their threads, linked above, report, and what their code did when it
# was read.
# Full entries are on the page {doc}`/book/references`.
