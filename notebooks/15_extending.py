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

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against place in the text from 8 to 900 characters on a logarithmic axis, with a dotted line at 128. The line of the unchanged model falls up to 128 and rises steeply beyond it, and that of NTK-aware scaling rises with it. Position interpolation is nearly level, far above both. YaRN is nearly level too, and low: a little above the unchanged model up to 128, far below it at the end. Bands about the lines are wide at the first places, and all lines dip and rise together there."}, "figure": {"caption": "Loss by place (place 0 is the first character of a segment), with 95% confidence bands over 32 segments. The model as it is (black) loses its way beyond the length it was trained on. With the same weights but changed frequencies, it still does so (NTK-aware), or reads badly everywhere (position interpolation). With YaRN it continues almost as if nothing had happened; {numref}`fig-two-parts` shows which part of YaRN does that. Bumps that all lines share belong to the text.", "name": "fig-eight-times"}}
import os
from itertools import pairwise

import torch

from rope_lab import RoFormer
from rope_lab.experiments.extending import FACTORS, METHODS, extended
from rope_lab.experiments.seeds import t_quantile
from rope_lab.figures.extending import by_place
from rope_lab.training import TrainConfig, preset, tiny_shakespeare, token_losses, train

torch.set_num_threads(1)
smoke = os.environ.get("ROPE_LAB_PRESET") == "smoke"  # takes seconds
corpus = tiny_shakespeare()
val_ids = corpus.encode(corpus.val)
config = preset("cpu", depth=2, steps=4 if smoke else 200, seed=15, evaluations=1)


def update(model: RoFormer, config: TrainConfig) -> RoFormer:
    """The model after the updates of `config`."""
    return train(config, corpus, start=model, quiet=True).model.eval()


torch.manual_seed(config.seed)
model = update(RoFormer(config.architecture(len(corpus.vocab))), config)
L, factor = model.config.context, 8
segments = 2 if smoke else 32
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
    check_at_most("fig. 15.1, NTK-aware rises too", plain[-1] - 0.2, lines["NTK-aware"][-1])
    check_at_most("fig. 15.1, YaRN at the end", yarn[-1], plain[-1] - 0.2)
    check_at_most("fig. 15.1, interpolation", plain[3], interpolated[3] - 0.3)
table(
    [[said(method), *line[[0, 3, -1]].tolist()] for method, line in lines.items()],
    {"loss": "", "places 0–15": ".2f", f"places 64–{L - 1}": ".2f", "the last 256": ".2f"},
)

# %% [markdown]
# This chapter shows what is new to a model beyond its length, derives the best-known remedies, each of which is a choice
# of new frequencies, and measures what they are worth before and after a little more training. One of them has a second
# part besides its frequencies, and with a control you will see how much of the figure that part explains.
#
# ## What is new at a longer length
#
# Two things are new: some of the angles, and the number of keys that share the attention of a query. Begin with the
# angles. Two tokens at distance $s$ meet in pair $i$ at the angle
# $s\theta_i$, and training has shown the model all distances below $L$. A fast pair completed many turns on the way, so
# every angle of the circle has occurred. A pair whose wavelength $\lambda_i = 2\pi/\theta_i$ is longer than $L$ has not
# completed one. Solve $2\pi\, b^{2i/D} > L$ for $i$: these are the pairs with
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
table(rows, {"model": "", "tokens": ",d", "pairs": "d", "pairs that never complete a turn": "d"})

# %% [markdown]
# Read {numref}`fig-unseen` with this in mind: for every pair, the angles that training covered, and those that a text of
# $L' = 8L$ tokens adds.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A bar for each of 20 pairs on an axis of angles from 0 to 360 degrees. The bars of pairs 0 to 6 are blue over the whole circle. From pair 7 on the blue part shrinks quickly, to almost nothing at pair 19, and a hatched red part follows that is up to seven times as long."}, "figure": {"caption": "Fast pairs have seen every angle. Each slow pair has seen an arc, and a longer text takes it out of that arc (hatched). What the model does with those angles was never trained.", "name": "fig-unseen"}}
from rope_lab.figures.extending import covered

freqs = frequencies(dim, base)  # θ_i, (D/2,)
covered(L * freqs, {"nothing scaled": factor * L * freqs})

# %% [markdown]
# So as far as the angles go, the fast pairs need no help, and for a slow pair there is one condition. Write $\theta'_i$
# for its new frequency and $\rho = L'/L$ for the **extension factor**. (The papers call it $s$, which in this book is a
# distance.) The pair stays within the arc it knows if $L'\theta'_i \le L\theta_i$, that is, if
#
# $$ \frac{\theta'_i}{\theta_i} \le \frac{1}{\rho} \quad \text{where } \lambda_i > L . $$ (eq-15-2)
#
# The methods below are choices of $\theta'_i$. Whether a model reads better for it is a question of its own: the condition
# says which angles are known, not what unknown angles do to a loss. In `rope_lab` a choice is a function of the
# frequencies and the length, passed to `RotaryEmbedding(..., scaling=...)`; {mod}`rope_lab.encodings.scaling` lists them.
#
# ## Position interpolation
#
# Chen et al. {cite:p}`chen2023` squeeze the positions: token $m$ gets the position $mL/L' = m/\rho$. Since a rotation knows only
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
# A model can tell the order of two neighbouring tokens only from the difference between their scores. For Gaussian $q$ and $k$,
# all coordinates independent with mean 0 and variance 1, the difference between distances $s$ and $s + 1$ has
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
    {"extension factor": "d", "SD of the difference": ".3f", "fraction of unscaled": ".3f"},
    caption="By how much the scores of neighbouring distances differ.",
)

# %% [markdown]
# That fits {numref}`fig-eight-times`, in which the interpolated model reads badly from the first characters on, and it is
# why interpolation is followed by training. The control comes with {numref}`fig-two-parts`: if the fast pairs are spared,
# the first characters are read almost as before.
#
# ### Why a little training suffices
#
# The new scores are values of $g$ between the trained ones. Between two whole distances $s_1$ and
# $s_2 = s_1 + 1$ a smooth function is close to the straight line through its values there: a function with
# $\lvert g'' \rvert \le M$ differs from that line by at most $M (s - s_1)(s_2 - s)/2$. Here $M$ is at most $\max_i |h_i| \sum_i \theta_i^2$, and $\sum_i b^{-4i/D}$ is a geometric
# series, so
#
# $$
# \begin{aligned}
# &\big| g(s) - (s_2 - s)\, g(s_1) \\
# &\qquad - (s - s_1)\, g(s_2) \big| \\
# &\quad \le\; \max_i |h_i|\; \frac{(s - s_1)(s_2 - s)}{2\,(1 - b^{-4/D})} .
# \end{aligned}
# $$ (eq-15-6)

# %%
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
    {"D": "d", "distance from the line": ".3f", "equation 15.6": ".3f", "the paper's bound": ".3f"},
    caption="All h = 1, halfway between the distances 0 and 1.",
)

# %% [markdown]
# Compare that with the size of a score, which can be as large as $\sum_i |h_i|$, that is $D/2$ here. The paper states the
# bound with $D / (4 \ln b)$ in place of $1/(1 - b^{-4/D})$. That is smaller, and as you see, contents that are equal in all
# pairs exceed it. The argument needs only the order of magnitude, so it still holds.
#
# ## NTK-aware: raise the base
#
# By {eq}`eq-15-2` only the slow pairs had to be slowed down, and the fast ones are those that tell neighbours apart. The
# proposal that became known as NTK-aware scaling {cite:p}`bloc97` is a smooth compromise: leave the first frequency, divide the last
# by $\rho$, and let one number do both. Every base gives $\theta_0 = 1$. For the last pair, $i = D/2 - 1$, the
# exponent is $-(D-2)/D$, so ask for $b'^{-(D-2)/D} = b^{-(D-2)/D}/\rho$ and solve:
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
# slow pairs but one still leave their arcs, although by less than before. This is the usual reason for choosing a larger
# factor than the text needs.
#
# The base is also raised *before* training, or together with a great deal of further training. {cite:t}`xiong2024`
# continued to train Llama 2 with a base of 500,000 and report slightly better results than with interpolation; Llama 3 is trained with that base. How long a
# context a base can serve at all is bounded by {cite:t}`xu2024`. Another way to keep a slow pair from new angles is not to
# turn it: p-RoPE {cite:p}`barbero2025` stops the slowest pairs, which then carry content alone.
#
# In our own small models, trained with each base from the start on 128 characters and then given longer texts:

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
    caption="Loss by the base, mean ± half-width of the 95% confidence interval.",
    provenance=bases.provenance(),
)

# %%
raised = verdict(differences(bases, "1,000,000", "10,000", "cut", -1))
print(f"Base 1,000,000 minus base 10,000, at {lengths[-1]} characters: {raised}.")

# %% [markdown]
# In these models a larger base makes the longer texts *worse*. That does not contradict the papers: they train, or continue
# to train, at the long length, while these models met 512 characters for the first time when they were evaluated. A larger
# base leaves more pairs without a full turn in training ({eq}`eq-15-1`), and here nobody taught the model what they mean.
#
# ## Dynamic NTK: the factor follows the text
#
# A factor that is chosen beforehand costs something in short texts, which needed none. Dynamic NTK scaling, from the same
# forum, computes it from the number $N$ of tokens there are. Peng et al. {cite:p}`peng2024` describe it with $N/L$; the form
# in transformers, used here, has a factor of its own (with $\rho = 1$ it is theirs):
#
# $$ \rho(N) = \rho\, \frac{N}{L} - (\rho - 1) , $$ (eq-15-9)
#
# and 1 for $N \le L$.
#
# It begins at 1. Note where it ends: at $N = \rho L$ it is $\rho^2 - \rho + 1$, far more than the text has grown. So most of
# the slow pairs come back into their arcs, as the table shows. Remember that number: it will be compared with a loss.

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
# The angle $\varphi_i$ is no longer a multiple of $m - n$: the very property for which RoPE was invented is gone.

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
table(rows, {"decoded to": ",d", "relative error of the newest query's scores with the cache": ".1%"})

# %% [markdown]
# There are two ways out. **Fix the length before the prompt is read**, and $\theta_i(N)$ is a constant: then a model that
# decodes with a cache $C$ of the tokens $c_0, \dots, c_{t-1}$ gives what a pass over the whole text gives,
#
# $$
# \begin{aligned}
# &\mathrm{model}(c_t \mid C) \\
# &\quad = \mathrm{model}(c_0, \dots, c_t)_t .
# \end{aligned}
# $$ (eq-15-11)
#
# In `rope_lab` the length is `RotaryEmbedding(..., length=...)`, and without it the capacity of the cache. Or **keep
# unrotated keys and rotate all of them at every step**, which is what
# {class}`~rope_lab.encodings.variants.GrowingRotaryEmbedding` does. That corrects the scores of a single layer, but not those of a stack of layers. When
# the frequencies change, a full pass would also give old tokens a different output from layer 1, and hence different keys
# in layer 2; the cache still holds the old ones.

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
            print(f"With {depth} layers, rotated again, the logits are off by {off:.1e}.")

# %% [markdown]
# In a random model the error is small. But it is there, and because of it the answer depends on where the prompt ended.
#
# ## YaRN: leave the fast, interpolate the slow
#
# The condition {eq}`eq-15-2` concerns slow pairs, whereas most of the sum in {eq}`eq-15-5` comes from fast ones. So treat
# them differently, as YaRN {cite:p}`peng2024` does. Its frequencies alone are known as *NTK-by-parts*. Count how often pair
# $i$ turns in training, $L/\lambda_i$. It turns $\beta$ times at
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
# For example, Llama 2 ($D = 128$, $b = 10{,}000$, $L = 4{,}096$) has its ramp from pair 20 to pair 46: pairs 0 to 20 are
# unchanged, the 18 pairs from 46 on are divided by $\rho$, and the 25 in between are blended. The cell below prints that.
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
# YaRN has a second part. Eight times as many keys share weights that sum to one, so a key needs a larger lead in score to
# keep its weight. The authors multiply cosine and sine by
#
# $$ a = 0.1 \ln \rho + 1 , $$ (eq-15-14)
#
# a formula they fitted, not derived. Queries and keys both grow by $a$, so every score grows by its *square*, before
# the softmax, as with a temperature of $1/a^2$:
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
    rows.append(f"factor {rho}: a = {a:.4f}, scores times {a**2:.4f}")
print(*rows, sep="\n")

# %% [markdown]
# ## The others in one table
#
# | | $\theta'_i/\theta_i$ | depends on $N$ | attention factor |
# |---|---|---|---|
# | {class}`~rope_lab.encodings.scaling.PositionInterpolation` | $1/\rho$ | no | 1 |
# | {class}`~rope_lab.encodings.scaling.NTKAware` | $\rho^{-i/(D/2-1)}$ | no | 1 |
# | {class}`~rope_lab.encodings.scaling.DynamicNTK` | the same with $\rho(N)$ | yes | 1 |
# | {class}`~rope_lab.encodings.scaling.YaRN` | 1 to $1/\rho$, ramp over the pairs (in the paper, the turns) | no | $0.1 \ln \rho + 1$ |
# | {class}`~rope_lab.encodings.scaling.Llama3` {cite:p}`grattafiori2024` | 1 to $1/\rho$, ramp over the turns, from 4 to 1 | no | 1 |
# | {class}`~rope_lab.encodings.scaling.LongRoPE` {cite:p}`ding2024` | one searched number a pair, two lists | yes, which list | $\sqrt{1 + \ln\rho / \ln L}$ |
# | {class}`~rope_lab.encodings.scaling.PRoPE` {cite:p}`barbero2025` | 1 for the fast, 0 for the slow | no | 1 |
#
# `tests/interop/test_interop_huggingface.py` holds each of them but the plain NTK-aware one against the function of the same name in transformers,
# for several heads and lengths.
#
# ## What it is worth: a small run
#
# The function of the experiment below is short enough to show. It copies a trained model and gives the copy another
# scaling; the length is fixed, as {eq}`eq-15-11` asks.

# %% tags=["hide-input"]
from rope_lab.figures.source import source

source(extended)

# %% [markdown]
# Take the model of the first figure to twice and four times its length, as it is and after a few updates at a fifth of the
# learning rate. An update here sees half the characters of an update of training.

# %%
torch.set_default_dtype(torch.float32)
few = 1 if smoke else 20

print(f"loss at the new length, before and after {few} updates")
for rho in (2, 4):
    rates = {"lr": 0.2 * config.lr, "matrix_lr": 0.2 * config.matrix_lr}
    batch = config.batch // (2 * rho)
    tuned = config.change(context=rho * L, batch=batch, steps=few, **rates)
    for method in METHODS:
        longer = extended(model, method, rho)
        found = [token_losses(longer, ids, rho * L, batch=8).mean()]
        update(longer, tuned)
        found.append(token_losses(longer, ids, rho * L, batch=8).mean())
        print(f"×{rho}  {method:24s}{found[0]:8.3f}{found[1]:8.3f}")
own = token_losses(model, ids, L).mean()
print(f"at {L} characters, before: {own:.3f}")

# %% [markdown]
# ## The recorded experiment
#
# One short run of a tiny model proves little. The same question was put to three seeds of a model that was trained for longer, at
# three factors, and recorded with the package (`rope-lab reproduce extension` runs it again).

# %%
from rope_lab.experiments.lab import SCALES

scale, full = SCALES["cpu"], preset("cpu")
shape = full.architecture(len(corpus.vocab))
size = sum(p.numel() for p in RoFormer(shape).parameters())
print(f"parameters              {size:,}")
print(f"updates of training     {scale.steps:,}, the preset in full {full.steps:,}")
print("updates of fine-tuning ", *(f"{steps:,}" for steps in scale.tuning))
print(f"characters evaluated    {scale.characters:,}")

# %% [markdown]
# :::{admonition} The budget was cut, and that limits the claims
# :class: warning
#
# These runs had to fit a laptop's processor: a model more than ten thousand times smaller than LLaMA-7B, trained with a
# fraction of the updates of its preset. So the longer fine-tuning also goes on with the training: all methods end below
# the loss that the model began with, and only the differences between them speak of the methods. The text is
# Shakespeare by characters, where little is to be gained from beyond 128 characters (chapter 13).
#
# They *can* show how badly a model fails beyond its length, which choice fails least before any fine-tuning, and how fast
# each recovers. They *cannot* show what a long context is good for. They say nothing on whether a method saves training at
# full scale, on retrieval from afar, or on perplexities as the papers print them.
# :::

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels, for two, four and eight times the trained length: loss at the new length before fine-tuning and after two numbers of updates, a line for each of no scaling, position interpolation, NTK-aware, dynamic NTK and YaRN, with bars over the seeds and a dotted line at the loss of the trained length."}, "figure": {"caption": "Loss at the new length, mean and standard deviation over the seeds. At the left edge of a panel stands what a method does without fine-tuning, at the right what is left of the difference after some; what is far above the rest stands as a number. Dotted: the loss of the model at its own length.", "name": "fig-tuning"}}
from rope_lab.figures.comparing import verdict
from rope_lab.figures.extending import tuning

recorded = Results.recorded("extension")
tuning(recorded)

# %%
print(fill(recorded.provenance(), 76))

# %% [markdown]
# What do the seeds say? All methods of one seed start from the same trained model, so their differences are paired. The
# verdict is that of chapter 14: *higher* or *lower* where the interval of 95% leaves zero out.


# %%
def of(method: str, rho: int, field: str, stage: int) -> dict[int, float]:
    """The recorded numbers by seed."""
    wanted = f"{method} ×{rho}"
    rows = [r for r in recorded.records if r["variant"] == wanted]
    return {r["seed"]: r[field][stage] for r in rows}


def weigh(claim: str, lower: str, higher: str, stage: int) -> None:
    """By how much `higher` lies above `lower`, and how sure that is."""
    print(claim)
    for rho in FACTORS:
        low, high = (of(name, rho, "loss", stage) for name in (lower, higher))
        more = [high[seed] - low[seed] for seed in low if seed in high]
        print(f"  ×{rho}: {verdict(more)}")


interpolation = "position interpolation"
weigh("untuned, unscaled above NTK-aware", "NTK-aware", "none", 0)
weigh("untuned, interpolation above NTK-aware", "NTK-aware", interpolation, 0)
weigh("untuned, NTK-aware above YaRN", "YaRN", "NTK-aware", 0)
weigh("tuned, unscaled above interpolation", interpolation, "none", -1)
weigh("tuned, interpolation above YaRN", "YaRN", interpolation, -1)

# %% tags=["hide-input"]
print("mean loss, the lowest first")
for rho in FACTORS:
    for stage, when in ((0, "untuned"), (-1, "tuned")):
        means = {}
        for method in METHODS:
            if numbers := of(method, rho, "loss", stage).values():
                means[method] = sum(numbers) / len(numbers)
        print(f"×{rho}, {when}")
        for method in sorted(means, key=means.__getitem__):
            print(f"  {method:24s}{means[method]:.3f}")

# %% [markdown]
# Do not take the line of interpolation for a verdict on it. A model of characters lives on its nearest neighbours, and those
# are what interpolation moves together; in our models it starts far behind, as in {numref}`fig-eight-times`, and the
# longer the text is to be, the less of that a thousand updates make good.
#
# The claims come from the papers. That a model fails beyond its length and that interpolation repairs it within a thousand
# updates is the finding of {cite:t}`chen2023`; that NTK-aware scaling works without fine-tuning is the claim it was posted with
# {cite:p}`bloc97`; that YaRN needs the fewest updates is that of {cite:t}`peng2024`. The order without fine-tuning is
# not settled in the literature: for LLaMA-2-7B at 8,192 tokens, {cite:t}`ding2024` report perplexities of 10.65 for
# interpolation, 10.21 for dynamic NTK and 32.64 for YaRN. These numbers were not reproduced here.
#
# ## What it costs at the short length
#
# A model that was taken to 1,024 characters will mostly be given shorter texts. Here it reads 128 again, with the
# scaling of the long length left on, before and after fine-tuning:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels, for factors two, four and eight: loss at the trained length of 128 characters before and after fine-tuning at the longer length, a line a method, with a dotted line at the loss before anything was changed."}, "figure": {"caption": "Loss at 128 characters of the model that was taken further. Without scaling nothing is lost before tuning (on the dotted line); each scaling changes what was learned. How much of that tuning gives back differs by method.", "name": "fig-short"}}
tuning(recorded, "short")

# %%
print(fill(recorded.provenance(), 76))

print(f"loss at {L} above that of the model before: untuned, tuned")
for name in recorded.variants():
    rows = [r for r in recorded.records if r["variant"] == name]
    line = f"{name:28s}"
    for stage in (0, -1):
        cost = [r["short"][stage] - r["trained_length"] for r in rows]
        line += f"{shown(cost):>16s}"
    print(line)

# %% [markdown]
# Tuning changes the unscaled model too, by training it further on few and long segments, which has nothing to
# do with a scaling. So after tuning, compare a method with the black line, not with the dotted one.
#
# Dynamic NTK was invented to avoid this cost, and would: at 128 characters its factor is 1. Here its length is fixed at
# that of the longest text, as a cache demands. **You can have frequencies that suit every length, or a cache that is
# exact, not both.**
#
# ## In the wild
#
# - **Keys of an older base.** Dynamic NTK in transformers rotated each cached key with the base of its time, as in
#   {eq}`eq-15-10` ([transformers#25104](https://github.com/huggingface/transformers/issues/25104)). Another report: after a long
#   text the base did not come back for a short one
#   ([transformers#27033](https://github.com/huggingface/transformers/pull/27033)). A maintainer answered that to mend either
#   slows decoding too much ([transformers#27227](https://github.com/huggingface/transformers/pull/27227)).
# - **A switch in the middle of a sentence.** LongRoPE changes its list when a text passes the trained length, and the cache is full of
#   keys of the other list: Phi-3 wrote garbled text from that token on. transformers drops the cache there and reads
#   everything anew ([transformers#33129](https://github.com/huggingface/transformers/pull/33129)). vLLM had the same symptom
#   ([vllm#27414](https://github.com/vllm-project/vllm/issues/27414)) and now decides by the longest text it is set up for, which is the
#   fixed length of {eq}`eq-15-11` ([vllm#27431](https://github.com/vllm-project/vllm/pull/27431)). llama.cpp decided like
#   that too, and got the report of the price: short texts are read with the frequencies of long ones
#   ([llama.cpp#24823](https://github.com/ggml-org/llama.cpp/issues/24823)).
# - **The attention factor, squared by mistake.** A configuration gave the final factor; the reader took it as something to
#   multiply its own factor with, and so squared it. Mending it was worth 20 points on GSM8K
#   ([sglang#33558](https://github.com/sgl-project/sglang/pull/33558)).
# - **Every frequency divided.** keras-hub's `rope_type="dynamic"`, when it was read for this book, divided all frequencies by
#   $\rho^{D/(D-2)}$. That number belongs to the base. On the frequencies it is position interpolation by a little too much.

# %%
a = YaRN(128, 4096)(frequencies(128), 0)[1]
print(f"factor 128: {a:.4f}, by mistake {a**2:.4f}")
print(f"scores then are {a**2:.2f} times too large")

theta, rho = frequencies(128), 4
right = NTKAware(rho)(theta, 0)[0] / theta
wrong = torch.full_like(right, rho ** (-128 / 126))
print(f"factor {rho}       first pair  last pair")
print(f"right          {right[0]:10.4f}{right[-1]:11.4f}")
print(f"all divided    {wrong[0]:10.4f}{wrong[-1]:11.4f}")

# %% [markdown]
# ## Summary
#
# - Beyond its length a model meets angles it has not seen, and only in the pairs that never came round.
# - Position interpolation and YaRN bring all of them back, NTK-aware scaling all too few; interpolation pays with
#   neighbours that are harder to tell apart, YaRN spares the fast pairs.
# - Fix the length before the prompt: frequencies that change while a text is written do not go with a cache.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# **15.1** Write `unseen_pairs(dim, base, length)`: how many pairs do not complete a turn within `length` tokens?

# %%
from rope_lab.exercises.ch15 import check_unseen_pairs


def unseen_pairs(dim: int, base: float, length: int) -> int:
    return None  # your turn


check_unseen_pairs(unseen_pairs)

# %% tags=["hide-cell"]
# Solution of 15.1: equation 15.1, counted


def unseen_pairs(dim: int, base: float, length: int) -> int:
    return int((2 * math.pi / frequencies(dim, base) > length).sum())


check_unseen_pairs(unseen_pairs)

# %% [markdown]
# **15.2** Write `ntk_frequencies(dim, base, factor)`: the NTK-aware frequencies, without `rope_lab.encodings.scaling`.

# %%
from rope_lab.exercises.ch15 import check_ntk_frequencies


def ntk_frequencies(dim: int, base: float, factor: float) -> Tensor:
    return None  # your turn: shape (dim/2,)


check_ntk_frequencies(ntk_frequencies)

# %% tags=["hide-cell"]
# Solution of 15.2: equation 15.7


def ntk_frequencies(dim: int, base: float, factor: float) -> Tensor:
    return frequencies(dim, base * factor ** (dim / (dim - 2)))


check_ntk_frequencies(ntk_frequencies)

# %% [markdown]
# **15.3** Write `yarn_frequencies(dim, base, factor, length)` for a model trained on `length` tokens, with the ramp between
# 32 turns and one turn. Which end of it stays?

# %%
from rope_lab.exercises.ch15 import check_yarn_frequencies


def yarn_frequencies(dim: int, base: float, factor: float, length: int) -> Tensor:
    return None  # your turn: shape (dim/2,)


check_yarn_frequencies(yarn_frequencies)

# %% tags=["hide-cell"]
# Solution of 15.3: equations 15.12 and 15.13


def yarn_frequencies(dim: int, base: float, factor: float, length: int) -> Tensor:
    theta, pair = frequencies(dim, base), torch.arange(dim // 2)
    low = max(0, math.floor(pair_of(32, dim, base, length)))
    high = math.ceil(pair_of(1, dim, base, length))
    gamma = ((pair - low) / (high - low)).clamp(0, 1)
    return (1 - gamma) * theta + gamma * theta / factor


check_yarn_frequencies(yarn_frequencies)

# %% [markdown]
# **15.4** A cache holds keys of shape `(N, D)`, interleaved, at positions 0, 1, …, rotated with the frequencies `old`.
# Write `restamp(keys, old, new)`, which returns them rotated with the frequencies `new` instead. Could this mend the
# cache of a model of many layers?

# %%
from rope_lab.exercises.ch15 import check_restamp


def restamp(keys: Tensor, old: Tensor, new: Tensor) -> Tensor:
    return None  # your turn: shape (N, D)


check_restamp(restamp)

# %% tags=["hide-cell"]
# Solution of 15.4: rotations add up, so turn by what is missing. The first
# layer then has the keys of a full pass; in later layers even the unrotated
# keys would be others.


def restamp(keys: Tensor, old: Tensor, new: Tensor) -> Tensor:
    positions = torch.arange(len(keys))
    return rotate(keys, angles(positions, new - old, dtype=keys.dtype))


check_restamp(restamp)

# %% [markdown]
# ## References
#
# - {cite:t}`chen2023`, section 2.3 and theorem 2.1: position interpolation and its bound.
# - {cite:t}`bloc97`: NTK-aware scaling; {cite:t}`peng2024`, sections 3.1 to 3.4: that, dynamic NTK and YaRN.
# - {cite:t}`ding2024`: LongRoPE; {cite:t}`grattafiori2024`: Llama 3.
# - {cite:t}`xiong2024` and {cite:t}`xu2024`: raising the base; {cite:t}`barbero2025`: p-RoPE.
#
# This chapter checks the papers' formulas. Which of their trained results it saw again, at its own small scale, is printed
# above. What it says of other libraries is what their threads, linked above, report, and what their code did when it was read.
# Full entries are on the page {doc}`/book/references`.
