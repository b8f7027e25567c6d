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
# (chapter-layouts)=
# # 05 · Interleaved or half
#
# You load the weights of a Llama model into code that follows the RoFormer paper to the letter. Every shape
# fits, nothing is missing, and the model writes nonsense. The paper turns coordinate 0 together with
# coordinate 1; the code that the weights were stored for turns it together with coordinate 64.
#
# Below are eight coordinates of one head. An arc joins the two that turn together, and $\theta_i$ is the
# frequency they turn with. **Which of these pairings is right?**

# %% tags=["hide-input"] mystnb={"image": {"alt": "Eight boxes x0 to x7 in three rows. Interleaved: arcs join 0-1, 2-3, 4-5 and 6-7. Half: arcs join 0-4, 1-5, 2-6 and 3-7. At random: arcs join 5-3, 0-2, 7-4 and 1-6. Each arc carries one of the frequencies theta 0 to theta 3."}, "figure": {"caption": "Three pairings of eight coordinates. The colours move, but every row has one pair for each frequency, and that is all that RoPE asks for.", "name": "fig-pairings"}}
from rope_lab.figures.layouts import pairings

interleaved = [(0, 1), (2, 3), (4, 5), (6, 7)]
half = [(0, 4), (1, 5), (2, 6), (3, 7)]
shuffled = [(5, 3), (0, 2), (7, 4), (1, 6)]
pairings({"interleaved": interleaved, "half": half, "at random": shuffled})

# %% [markdown]
# All of them are. What matters is that the weights and the rotation agree on one. This chapter shows the two forms that
# you meet in code, why the choice between them is free, what happens when the two sides disagree, how to convert weights,
# and whether one layout is faster.
#
# ## One rotation, any pairing
#
# Chapter 3 splits the $D$ coordinates of a query or a key into $D/2$ pairs and turns pair $i$, at position $m$,
# by the angle $m\theta_i$, with $\theta_i = b^{-2i/D}$ and base $b$. Say that pair $i$ consists of the coordinates
# $x_{a_i}$ and $x_{b_i}$. Then the rotated vector $x'$ has
#
# $$
# \begin{aligned}
# x'_{a_i} &= x_{a_i}\cos m\theta_i - x_{b_i}\sin m\theta_i, \\
# x'_{b_i} &= x_{b_i}\cos m\theta_i + x_{a_i}\sin m\theta_i .
# \end{aligned}
# $$ (eq-5-1)
#
# A **layout** is a rule for $(a_i, b_i)$.
#
# - The *interleaved* layout of the RoFormer paper {cite:p}`su2021` takes the neighbours $(2i,\, 2i+1)$. In code it is also
#   called **GPT-J style**, *adjacent pairs* or *rotate every two*.
# - The *half* layout takes $(i,\, i + D/2)$, one coordinate from each half. It is also called **GPT-NeoX style**
#   {cite:p}`black2022`, *split half* or *rotate half*.
#
# The equation as a loop, for any list of pairs:

# %%
import torch
from torch import Tensor

from rope_lab import angles, convert_layout, convert_projection, frequencies, rotate
from rope_lab.verify import check

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # checks then show the 16th digit
torch.manual_seed(5)


def angles_at(positions: Tensor, dim: int) -> Tensor:  # (N,) -> (N, D/2)
    return angles(positions, frequencies(dim), dtype=torch.float64)


def rotate_pairs(x: Tensor, angle: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """Equation 5.1, one pair after the other. x (..., N, D), angle (N, D/2)."""
    turned = x.clone()
    for i, (a, b) in enumerate(pairs):
        cos, sin = angle[:, i].cos(), angle[:, i].sin()
        turned[..., a] = x[..., a] * cos - x[..., b] * sin
        turned[..., b] = x[..., b] * cos + x[..., a] * sin
    return turned


# %% [markdown]
# ### The two forms you meet
#
# Code replaces the loop with a few operations on whole tensors. Two forms of it are worth knowing by sight. The first is
# that of Meta's Llama code. Interleaved, the two coordinates of a pair lie in memory just as a complex number does, so
# equation {eq}`eq-5-1` is one complex product:


# %%
def interleaved_form(x: Tensor, angle: Tensor) -> Tensor:
    pairs = torch.view_as_complex(
        x.unflatten(-1, (-1, 2))
    )  # x_2i + i x_2i+1, (..., N, D/2)
    turns = torch.polar(torch.ones_like(angle), angle)  # e^{i m θ_i}, (N, D/2)
    return torch.view_as_real(pairs * turns).flatten(-2)  # (..., N, D)


# %% [markdown]
# The second is that of Llama in Hugging Face's transformers. Read {eq}`eq-5-1` by columns: each coordinate is multiplied
# by its cosine, and its *partner*, with a minus for the first of the pair, by the sine. In the half layout all partners
# together are the vector with its halves exchanged and one of them negated. That is `rotate_half`, and it is why each
# cosine and sine is needed in both halves:


# %%
def rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)  # x_a of all pairs, x_b of all pairs
    return torch.cat((-second, first), dim=-1)  # -x_b for each x_a, x_a for each x_b


def half_form(x: Tensor, angle: Tensor) -> Tensor:
    both = torch.cat((angle, angle), dim=-1)  # (N, D)
    return x * both.cos() + rotate_half(x) * both.sin()


# %% [markdown]
# Both are equation {eq}`eq-5-1`, and both are what the package does under the names of the layouts:

# %%
dim, length = 8, 32
small_angle = angles_at(torch.arange(length), dim)
x = torch.randn(1000, length, dim)
turned, turned_half = interleaved_form(x, small_angle), half_form(x, small_angle)
check("eq. 5.1, interleaved", turned, rotate_pairs(x, small_angle, interleaved))
check("eq. 5.1, half", turned_half, rotate_pairs(x, small_angle, half))
check("eq. 5.1, rotate interleaved", rotate(x, small_angle, "interleaved"), turned)
check("eq. 5.1, rotate half", rotate(x, small_angle, "half"), turned_half)

# %% [markdown]
# To recognise a layout in code, look at how a vector is cut, not at names:
#
# | you read | layout |
# |---|---|
# | `view_as_complex`, `reshape(..., -1, 2)`, `x[..., ::2]` with `x[..., 1::2]`, `repeat_interleave(2)` for the cosines | interleaved |
# | `chunk(2)`, `x[..., : d // 2]` with `x[..., d // 2 :]` | half |
#
# Look at `x`, not at the table of cosines: a table built with `cat((freqs, freqs))` usually goes with the half layout, but the
# GLM-4 and DeepSeek-V3 models of transformers build it this way too, cut it in half again, and then take every second
# coordinate of `x`. Nor is the name `rotate_half` proof: in the Cohere and GLM models, a function of this name does the same.
#
# Why are there two? GPT-NeoX added RoPE in April 2021
# ([gpt-neox#213](https://github.com/EleutherAI/gpt-neox/pull/213)). In the same month a change that was to bring "rotary up
# to almost the same speeds as learned embeddings" and to "remove permutations" built its table for two halves
# ([gpt-neox#241](https://github.com/EleutherAI/gpt-neox/pull/241)). GPT-J kept the neighbours. Transformers
# took over both, each with its model, and later used the half form for Llama, whose weights were trained with the other.
#
# ## The two layouts are one, reordered
#
# Let $p = (0, 2, 4, \dots, 1, 3, 5, \dots)$, all even numbers below $D$ and then all odd ones, and let $P$ be the
# matrix that reorders a vector by it: $(Px)_j = x_{p_j}$. Coordinates $2i$ and $2i+1$, the interleaved pair $i$,
# move to $i$ and $i + D/2$, the half pair $i$. So you may rotate first and then reorder, or the other way round.
# With $R_m$ the interleaved rotation to position $m$ and $\tilde R_m$ the half one,
#
# $$ P\, R_m\, x = \tilde R_m\, P\, x . $$ (eq-5-2)

# %%
p = torch.cat((torch.arange(0, dim, 2), torch.arange(1, dim, 2)))
print("p =", p.tolist())
check("eq. 5.2", turned[..., p], rotate(x[..., p], small_angle, "half"))
check("eq. 5.2, in the package", convert_layout(x, "interleaved", "half"), x[..., p])

# %% [markdown]
# A score is an inner product, and an inner product does not care in which order its terms are added. Reorder query and key
# in the same way, and the score stays the same:
#
# $$
# \begin{aligned}
# &\langle \tilde R_m P q,\, \tilde R_n P k \rangle \\
# &\quad = \langle P R_m q,\, P R_n k \rangle = \langle R_m q,\, R_n k \rangle .
# \end{aligned}
# $$ (eq-5-3)


# %%
def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT  # (..., N, D) -> (..., N, N): query m, key n


few_q, few_k = torch.randn(2, 1000, length, dim)
reordered = scores(
    rotate(few_q[..., p], small_angle, "half"),
    rotate(few_k[..., p], small_angle, "half"),
)
check(
    "eq. 5.3", reordered, scores(rotate(few_q, small_angle), rotate(few_k, small_angle))
)

# %% [markdown]
# Now do it by hand, with the eight coordinates of a query and of a key. Boxes of one colour are an interleaved pair, and an
# arc joins two *places* that turn together. Move the coordinates back to the interleaved order, where the half rotation
# below joins different colours, and then to the half order again:

# %% tags=["hide-input"]
from rope_lab.figures.crossing import crossing

crossing()

# %% [markdown]
# At distance 0 no layout can be wrong, because the query and the key are rotated by the same angles. At each of the
# distances from 1 to 20 the half rotation gives this query and this key a different score if they stay in the interleaved
# order.
#
# Nothing in the argument for {eq}`eq-5-3` used what $p$ is. List the coordinates of *any* pairing as
# $\pi = (a_0, b_0, a_1, b_1, \dots)$ and let $P_\pi$ reorder by it: that brings the two of each pair side by side.
# Rotate them there, put every coordinate back, and you have the rotation $R^{\pi}_m$ of that pairing:
#
# $$ R^{\pi}_m = P_\pi^{\top}\, R_m\, P_\pi . $$ (eq-5-4)
#
# Everything that chapter 3 proves about $R_m$ then holds for $R^\pi_m$, above all that a score depends on the
# distance alone. For every shift $t$ of both positions,
#
# $$
# \langle R^{\pi}_{m+t} q,\, R^{\pi}_{n+t} k \rangle = \langle R^{\pi}_m q,\, R^{\pi}_n k \rangle .
# $$ (eq-5-5)
#
# Here is a random pairing of 64 coordinates:

# %%
head_dim = 64
pi = torch.randperm(head_dim)  # a_0, b_0, a_1, b_1, …
back = pi.argsort()  # undoes it
random_pairs = [(int(a), int(b)) for a, b in pi.view(-1, 2)]
print("pairs with the highest frequencies:", random_pairs[:4])


def rotate_random(x: Tensor, angle: Tensor) -> Tensor:
    return rotate(x[..., pi], angle)[..., back]


q, k = torch.randn(2, 100, length, head_dim)
here = angles_at(torch.arange(length), head_dim)
later = angles_at(torch.arange(length) + 1234, head_dim)
check("eq. 5.4", rotate_random(q, here), rotate_pairs(q, here, random_pairs))
unshifted = scores(rotate_random(q, here), rotate_random(k, here))
check("eq. 5.5", scores(rotate_random(q, later), rotate_random(k, later)), unshifted)

# %% [markdown]
# ## Does a model learn better with one of them?
#
# Now and then someone reports that one layout trains better, or argues that the other is likely to harm long range
# ([nanochat#264](https://github.com/karpathy/nanochat/issues/264)). Equation {eq}`eq-5-4` answers this for training
# too. A query is a projection, $q = W_q x$, so another pairing is the same as another order of the rows of $W_q$
# and $W_k$. The gradients are reordered with the rows, and AdamW updates each number by its own gradient. Start
# two models from weights that differ by the reordering, and in exact arithmetic they differ by nothing else ever after:
# at every update,
#
# $$
# \begin{aligned}
# &\mathrm{loss}(R^{\pi},\, W_q,\, W_k) \\
# &\quad = \mathrm{loss}(R,\, P_\pi W_q,\, P_\pi W_k) .
# \end{aligned}
# $$ (eq-5-6)
#
# And which order the rows start in is chance: they are drawn independently, all from one distribution.
#
# Watch it happen. A small RoFormer learns to repeat: it reads 16 random tokens and then the same 16 again. Another
# pairing takes one hook of the package, `rotate`.

# %%
from rope_lab import PositionEncoding, RoFormer, RoFormerConfig


class RandomPairing(PositionEncoding):
    """RoPE over the pairs of `order` = a_0, b_0, a_1, b_1, …"""

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.order, self.back, self.dim = order, order.argsort(), len(order)

    def rotate(self, q, k, v, positions, *_):
        angle = angles_at(positions, self.dim)
        q, k = (rotate(t[..., self.order], angle)[..., self.back] for t in (q, k))
        return q, k, v


shape = {"vocab_size": 16, "context": 32, "dim": 32, "depth": 2, "heads": 2}
small_head = shape["dim"] // shape["heads"]


def reorder_heads(weights: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """The weights, every query and key head with its rows in the order `rows`."""

    def reorder(w: Tensor) -> Tensor:
        return w.unflatten(0, (-1, small_head))[:, rows].flatten(0, 1)

    rotated = [name for name in weights if ".query." in name or ".key." in name]
    return weights | {name: reorder(weights[name]) for name in rotated}


def train(model: RoFormer, weights: dict[str, Tensor], updates=100, lr=3e-3) -> Tensor:
    """Loss at every update, (updates,), in nats per repeated token."""
    model.load_state_dict(weights)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr)
    generator, losses = torch.Generator().manual_seed(1), []
    for _ in range(updates):
        once = torch.randint(16, (16, 16), generator=generator)
        ids = once.repeat(1, 2)  # (B, 32)
        logits = model(ids[:, :-1])[:, 15:]  # of the second reading
        loss = torch.nn.functional.cross_entropy(logits.mT, once)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return torch.tensor(losses)


start = RoFormer(RoFormerConfig(**shape)).state_dict()
order = torch.randperm(small_head)
to_half = torch.cat((torch.arange(0, small_head, 2), torch.arange(1, small_head, 2)))
models = {
    "interleaved": (RoFormer(RoFormerConfig(**shape)), start),
    "half": (
        RoFormer(RoFormerConfig(**shape, layout="half")),
        reorder_heads(start, to_half),
    ),
    "at random": (  # row r of the interleaved model becomes row order[r]
        RoFormer(RoFormerConfig(**shape), RandomPairing(order)),
        reorder_heads(start, order.argsort()),
    ),
}
losses = {name: train(*model) for name, model in models.items()}
for name in ("half", "at random"):
    check(f"eq. 5.6, {name}", losses[name], losses["interleaved"], tolerance=1e-9)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against training update for the interleaved, half and random pairing: the three lines lie on top of each other."}, "figure": {"caption": "Three trainings, one curve: the pairing decides where a number is stored, not what is learned. Where a difference between layouts is measured, look for something else that changed.", "name": "fig-same-training"}}
from rope_lab.figures.layouts import same_training

same_training(losses)

# %% [markdown]
# That was float64. In float32 the same sums are rounded differently, because they are added in another order, and a
# training can amplify this. Here it does, at a learning rate of 0.01. (The random pairing is the control: its products are
# computed as in the interleaved model, so the order is all that differs.)

# %%
singles = {}
for name, (model, double) in models.items():
    single = {
        key: w.float() if w.is_floating_point() else w for key, w in double.items()
    }
    singles[name] = train(model.float(), single, lr=1e-2)
for seed in (1, 2, 3):  # other starts, same layout
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = RoFormer(RoFormerConfig(**shape)).float()
    singles[f"start {seed}"] = train(fresh, fresh.state_dict(), lr=1e-2)
difference = (singles["half"] - singles["interleaved"]).abs()  # of the losses
for updates in (10, 30, 100):
    print(
        f"float32, first {updates:3d} updates: losses differ by up to {difference[:updates].max():.0e}"
    )
for name in ("half", "at random", "start 1", "start 2", "start 3"):
    apart = (singles[name] - singles["interleaved"])[-20:].abs().max()
    print(f"last 20 updates: {name} differs from interleaved by up to {apart:.2f}")

# %% [markdown]
# So in float32 two runs that differ in the layout alone can end about as far apart as runs from different starts do, and one
# run of each is no evidence for a layout. The most telling report is
# [rotary-embedding-torch#47](https://github.com/lucidrains/rotary-embedding-torch/issues/47): it asks the library for
# interleaved pairs, because they had given better results elsewhere, and the library *is* interleaved.
#
# ## What goes wrong: weights of one layout, rotation of the other
#
# The choice is free only once: trained weights fit the rotation they were trained with. To move them to the other
# layout, reorder the rows of the query and the key projection in every head, which is what $P$ does to their
# outputs:
#
# $$ \tilde R_m\,(P W_q)\,x = P\, R_m\, W_q\, x . $$ (eq-5-7)
#
# `convert_projection` does it. The script with which Hugging Face converted Meta's Llama files does the same reordering
# in one line, in three steps: `view` the rows as (head, pair, first or second), `transpose` the last two of these, and
# `reshape`, so that all the firsts of a head come before all its seconds.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels, each with two columns of sixteen numbered boxes, joined by lines. Left, two heads: rows 0 to 15 become 0 2 4 6 1 3 5 7 and 8 10 12 14 9 11 13 15; the colours of the four pairs come out in the same order in both halves of each head. Right, the same rows counted as four heads: 0 2 1 3, 4 6 5 7, and so on; the two halves of each real head show different colours."}, "figure": {"caption": "The sixteen rows of a projection with two heads of eight coordinates, before and after the conversion; the two rows of a pair have one colour. Left: in each head, row $i$ and row $i + 4$ are now a pair, as the half layout wants it. Right: converted with the wrong number of heads, the rows that the rotation will pair have different colours.", "name": "fig-rows"}}
from rope_lab.figures.layouts import conversion

numbers = torch.arange(16)
conversion(
    {
        "two heads, converted as two": convert_projection(
            numbers, 2, "interleaved", "half"
        ),
        "two heads, converted as four": convert_projection(
            numbers, 4, "interleaved", "half"
        ),
    },
    heads=2,
)

# %%
heads, key_heads, width = 8, 2, 128  # grouped queries: a key head serves four
w_q = torch.randn(heads * head_dim, width) / width**0.5  # (H·D, C)
w_k = torch.randn(key_heads * head_dim, width) / width**0.5  # (H_k·D, C)


def convert(weight: Tensor, heads: int) -> Tensor:
    return convert_projection(weight, heads, "interleaved", "half")


in_one_line = (
    w_q.view(heads, head_dim // 2, 2, width).transpose(1, 2).reshape(w_q.shape)
)
check("eq. 5.7, both conversions", convert(w_q, heads), in_one_line)


def project(x: Tensor, weight: Tensor, heads: int) -> Tensor:  # (N, C) -> (H, N, D)
    return (x @ weight.T).unflatten(-1, (heads, -1)).transpose(0, 1)


far_angle = angles_at(torch.arange(4096), head_dim)
hidden = torch.randn(4096, width)
rotated = rotate(project(hidden, w_q, heads), far_angle)
converted = rotate(project(hidden, convert(w_q, heads), heads), far_angle, "half")
check("eq. 5.7", converted, convert_layout(rotated, "interleaved", "half"))

# %% [markdown]
# Now make the mistakes that people make. The weights were trained interleaved; the code rotates in the half layout. You
# can
#
# - convert neither projection,
# - convert the queries only,
# - convert both, but count as many key heads as query heads.
#
# None of them raises an error here. But each leaves its own trace in the scores: plot the error against the distance of
# query and key.

# %%
from rope_lab.figures.table import table

distances = torch.tensor([0, *2 ** torch.arange(12)])
x_query, x_key = torch.randn(2, 500, width)


def score_by_distance(w_q: Tensor, w_k: Tensor, layout: str, shift: int = 0) -> Tensor:
    """Scores of queries at position s + shift with keys at position shift: (S, H, 500)."""
    q, k = project(x_query, w_q, heads), project(x_key, w_k, key_heads)
    k = rotate(k, far_angle[[shift]].expand(k.shape[1], -1), layout)
    k = k.repeat_interleave(heads // key_heads, dim=0)
    q = q[..., None, :].expand(-1, -1, len(distances), -1)  # one query, all distances
    q = rotate(q, far_angle[distances + shift], layout)
    return torch.einsum("hbsd,hbd->shb", q, k)


right = score_by_distance(w_q, w_k, "interleaved")
p_q, p_k = convert(w_q, heads), convert(w_k, key_heads)
attempts = {
    "queries only": (p_q, w_k),
    "neither": (w_q, w_k),
    "wrong number of heads": (p_q, convert(w_k, heads)),
    "both": (p_q, p_k),
}
found = {
    name: score_by_distance(*weights, "half") for name, weights in attempts.items()
}
check("eq. 5.7, scores", found["both"], right)


def size(t: Tensor) -> Tensor:  # root mean square at each distance, (S,)
    return t.square().mean((1, 2)).sqrt()


errors = {name: size(wrong - right) / size(right) for name, wrong in found.items()}
shown = [0, 1, 2, 4, 8, 1024]
at_shown = [distances.tolist().index(s) for s in shown]
table(
    [(name, *error[at_shown].tolist()) for name, error in errors.items()],
    {"converted": ""} | {str(s): ".2f" for s in shown},
    caption="Error of the scores in units of their size, at distances of 0 to 1,024 tokens.",
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Relative error of the scores against distance, logarithmic. Queries only and wrong number of heads: well above 1 at every distance, 0 included. Neither: zero at distance 0, then rising above 1. Both: zero throughout."}, "figure": {"caption": "The shape of the error reveals the mistake. If the error is zero at distance 0 and grows from there, query and key were treated alike, and here that means that neither was converted. If it is already large at distance 0, where query and key are rotated by the same angles, query and key were reordered differently.", "name": "fig-mismatch"}}
from rope_lab.figures.layouts import mismatch

mismatch(distances, errors)

# %% [markdown]
# At distance 0 query and key are rotated by the same angles, so no layout can be wrong. With the line *neither* a pull request
# explains why the first token or two of its models came out right before the text decayed
# ([shainet#111](https://github.com/NeuraLegion/shainet/pull/111)). That can be part of the explanation at most: already
# at distance 4 the error is three quarters of a score, and the first new token looks back over a whole prompt. Other mistakes
# that treat query and key in the same way start at zero too: a wrong base, or, in the cell below, both converted as if each
# head were two.
#
# By equation {eq}`eq-5-5` all these wrong scores still depend on the distance alone. So a test of the shift property
# passes on every one of them, and the mistake shows when you compare with the right scores:

# %%
split_heads = convert(w_q, 2 * heads), convert(w_k, 2 * key_heads)
alike = score_by_distance(*split_heads, "half")
check("both as if each head were two, distance 0", alike[0], right[0])
alike_error = size(alike - right)[at_shown[3]] / size(right)[at_shown[3]]
print(f"both as if each head were two, distance 4: error {alike_error:.2f}")

for name, weights in attempts.items():
    shifted = score_by_distance(*weights, "half", shift=1234)
    check(
        f"eq. 5.5, {name}: right or wrong, it passes",
        shifted,
        found[name],
        tolerance=1e-11,
    )

# %% [markdown]
# Queries and keys are all you reorder. Values do not turn, and the reordering cancels inside a score, so $W_v$ and
# $W_o$ stay as they are ([lmdeploy#2639](https://github.com/InternLM/lmdeploy/issues/2639)).
#
# ### Partial rotation
#
# Where only the first $R$ of the $D$ coordinates of a head turn (chapter 7), only those rows may move; the rest of
# the head stays in place. With $P$ the reordering of $R$ coordinates and $I$ the identity on the others,
#
# $$
# \begin{aligned}
# &\begin{pmatrix} P & \\ & I \end{pmatrix} \begin{pmatrix} R_m & \\ & I \end{pmatrix} x \\
# &\quad = \begin{pmatrix} \tilde R_m & \\ & I \end{pmatrix} \begin{pmatrix} P & \\ & I \end{pmatrix} x .
# \end{aligned}
# $$ (eq-5-8)

# %%
rotary_dim = 16  # of 64
partial_angle = angles_at(torch.arange(length), rotary_dim)
wide = torch.randn(1000, length, head_dim)
partly = rotate(wide, partial_angle)
ends = ("interleaved", "half")
first_rows = convert_layout(wide, *ends, rotary_dim=rotary_dim)
check(
    "eq. 5.8",
    convert_layout(partly, *ends, rotary_dim=rotary_dim),
    rotate(first_rows, partial_angle, "half"),
)
whole_head = rotate(convert_layout(wide, *ends), partial_angle, "half")
error = (convert_layout(whole_head, *ends[::-1]) - partly).square().mean().sqrt()
print(
    f"reordering the whole head instead: an error of {error / partly.square().mean().sqrt():.0%}"
)

# %% [markdown]
# ### Two layouts inside one function
#
# The half layout needs each cosine in both halves, $(c_0, c_1, \dots, c_0, c_1, \dots)$; the interleaved one needs
# them side by side, $(c_0, c_0, c_1, c_1, \dots)$. If you combine the table of one layout with the pairs of the other,
# the two coordinates of a pair are rotated by *different* angles. That is not a rotation at all, and here the shift
# property does find it:


# %%
def mixed_up(x: Tensor, angle: Tensor) -> Tensor:
    """Interleaved pairs with the table of the half layout. Do not use."""
    both = torch.cat((angle, angle), dim=-1)  # right: angle.repeat_interleave(2, -1)
    partner = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
    return x * both.cos() + partner * both.sin()


for name, form in {"mixed up": mixed_up, "rotate": rotate}.items():
    now = scores(form(q, here), form(k, here))
    change = (scores(form(q, later), form(k, later)) - now).std() / now.std()
    low, high = (form(q, later).norm(dim=-1) / q.norm(dim=-1)).aminmax()
    print(f"{name:9s}scores change with a shift by {change:.0%},")
    print(f"{'':9s}norms become {low:.3f} to {high:.3f} of what they were")

# %% [markdown]
# A refactoring of transformers did this to one of its audio models, and a reader found it with exactly this test
# ([transformers#47328](https://github.com/huggingface/transformers/issues/47328)); it also happened in
# [ark-nlp#47](https://github.com/xiangking/ark-nlp/issues/47). A quieter case: version 0.6.5 of rotary-embedding-torch
# rotated neighbours, but stored the scales of xPos (chapter 10) in halves. Scores then depended a little on the position.
#
# ## Which layout does this code have? Ask it
#
# Names are no guide. The interleaved layout is `traditional` in MLX
# ([mlx-vlm#112](https://github.com/Blaizzy/mlx-vlm/pull/112)), `is_neox_style=False` in vLLM
# ([vllm#49323](https://github.com/vllm-project/vllm/pull/49323)) and NORM in llama.cpp
# ([llama.cpp#7634](https://github.com/ggml-org/llama.cpp/pull/7634)). In models that divide the frequencies among
# time, height and width, *interleaved* is also the name for how they are divided, which has nothing to do
# with pairs ([xllm#2120](https://github.com/xLLM-AI/xllm/pull/2120)).
#
# Ask the code instead. Rotate every unit vector to positions 0 and 1. From one image to the other a vector turns towards
# its partner, and the sign is the direction. (At position 0 nothing turns, but code may reorder what it returns, as that of
# DeepSeek-V3 in transformers does; comparing the images cancels this.) Do not look at coordinate 0 alone: in models that
# rotate the tail of a head it does not turn, and a rotation may be clockwise.


# %%
def ask(turn, dim: int) -> str:
    """The layout of `turn(x, m)`, which rotates vectors x (N, dim) to position m."""
    # row j: what became of unit vector j between the positions, in the coordinates of x
    image = turn(torch.eye(dim), 1) @ turn(torch.eye(dim), 0).mT
    landed = (image - image.diag().diag()).abs() > 1e-9
    turning, partner = landed.any(-1).nonzero().flatten(), landed.double().argmax(-1)
    if not len(turning):
        raise ValueError("turn must rotate something, this one changes nothing")
    norms = image.square().sum(-1)
    if (landed.sum(-1) > 1).any() or (norms - 1).abs().max() > 1e-5:
        raise ValueError("turn must rotate pairs and keep lengths, this one does not")
    first = turning[turning < partner[turning]]
    gaps = (partner[first] - first).unique().tolist()
    begin, end = int(turning[0]), int(turning[-1])
    if (
        len(gaps) > 1
        or gaps[0] not in (1, len(first))
        or end - begin + 1 != len(turning)
    ):
        return "another pairing"
    signs = image[first, partner[first]].sign().unique().tolist()
    way = {1: "counter-clockwise", -1: "clockwise"}.get(sum(signs), "both directions")
    layout = "interleaved" if gaps == [1] else "half"
    return f"{layout}, {way}, coordinates {begin} to {end}"


def tail(x: Tensor, m: int) -> Tensor:  # half layout, only the last 32 coordinates
    rotated = rotate(
        x[:, 32:], angles_at(torch.tensor([m]), 32).expand(len(x), -1), "half"
    )
    return torch.cat((x[:, :32], rotated), dim=-1)


def at(m: float, x: Tensor) -> Tensor:
    return angles_at(torch.tensor([m]), head_dim).expand(len(x), -1)


codes = {
    "interleaved": lambda x, m: rotate(x, at(m, x)),
    "half": lambda x, m: rotate(x, at(m, x), "half"),
    "half, clockwise": lambda x, m: rotate(x, at(-m, x), "half"),
    "half, in a tail of 32": tail,
    "interleaved, reordered": lambda x, m: convert_layout(rotate(x, at(m, x)), *ends),
    "at random": lambda x, m: rotate_random(x, at(m, x)),
    "mixed up": lambda x, m: mixed_up(x, at(m, x)),
}
rows = []
for name, code in codes.items():
    try:
        rows.append((name, ask(code, head_dim)))
    except ValueError as refusal:
        rows.append((name, str(refusal)))
answers = dict(rows)
assert answers["interleaved"] == "interleaved, counter-clockwise, coordinates 0 to 63"
assert answers["half"] == "half, counter-clockwise, coordinates 0 to 63"
assert answers["half, clockwise"] == "half, clockwise, coordinates 0 to 63"
assert (
    answers["half, in a tail of 32"] == "half, counter-clockwise, coordinates 32 to 63"
)
assert answers["interleaved, reordered"] == answers["interleaved"]
assert answers["at random"] == "another pairing"
assert answers["mixed up"].startswith("turn must rotate pairs")
table(rows, ["the code", "what it answers"])

# %% [markdown]
# These lines have a limit: to a half layout whose slowest pairs do not turn at all, as in p-RoPE, they answer *another
# pairing*. Such heads, and much else about a rotation, are read by `diagnose`, the tool of chapter 18:

# %%
from rope_lab.doctor import diagnose

few_turn = torch.cat((frequencies(head_dim)[:8], torch.zeros(head_dim // 2 - 8)))


def p_rope(x: Tensor, positions: Tensor) -> Tensor:
    return rotate(x, angles(positions, few_turn, dtype=x.dtype), "half")


asked = ask(lambda x, m: p_rope(x, torch.tensor([m]).expand(len(x))), head_dim)
examined = diagnose(p_rope, head_dim)
print(f"asked: {asked}; examined: {examined.q.layout}, {examined.q.direction}")
assert asked == "another pairing"
assert examined.sound
assert examined.q.layout == "half"

# %% [markdown]
# | layout | pair $i$ | used by |
# |---|---|---|
# | interleaved | $(2i,\, 2i+1)$ | the RoFormer paper, GPT-J, Meta's own Llama code, torchtune's Llama, rotary-embedding-torch, x-transformers, torchscale; in transformers: Llama 4, DeepSeek-V2 and V3, Cohere, GLM-4, GPT-J |
# | half | $(i,\, i+R/2)$ | GPT-NeoX, torchtune's Phi-3 and Qwen2, local-attention, labml, Liger, KerasHub; in transformers: Llama 1 to 3, Mistral, Qwen, Gemma, Phi, GPT-NeoX |
# | either | by a flag | flash-attention, MLX, vLLM, llama.cpp, this package |
#
# So *Llama* alone is not an answer. Meta's own files of Llama 1 to 3 are interleaved, and the same models on Hugging Face
# are half ([transformers#25199](https://github.com/huggingface/transformers/issues/25199),
# [flash-attention#288](https://github.com/Dao-AILab/flash-attention/issues/288)). Llama 4, however, is interleaved on
# Hugging Face as well, and vLLM reorders its weights on loading
# ([vllm#34243](https://github.com/vllm-project/vllm/pull/34243)). DeepSeek-V3 confused readers in the opposite way: its
# weights are interleaved, and the code on Hugging Face reorders queries and keys on the fly
# ([transformers#39687](https://github.com/huggingface/transformers/issues/39687)). {doc}`/book/coming_from` has the
# table with tensor shapes.
#
# ## Is one layout faster?
#
# Much of the time goes into passes over the tensor: every intermediate result is written to memory and read again. Here
# are the usual forms, in units of one copy of the tensor, eight heads that share a table:

# %%
from functools import partial
from pathlib import Path
from time import thread_time

from torch.utils.benchmark import timer  # waits for a GPU to finish

device = "cuda" if torch.cuda.is_available() else "cpu"
# what others do on a CPU does not count
clock = thread_time if device == "cpu" else timer


def median_ratios(forms: dict, unit: str, repeats: int = 1, rounds: int = 5) -> dict:
    """Time over that of `unit` in the same round, median of the rounds."""
    ratios = []
    for _ in range(rounds):
        times = {}
        for name, form in forms.items():
            start = clock()
            for _ in range(repeats):
                form()
            times[name] = clock() - start
        ratios.append([time / times[unit] for time in times.values()])
    medians = torch.tensor(ratios).median(dim=0).values
    return dict(zip(forms, medians.tolist(), strict=True))


long = 16_384
big = torch.randn(8, long, head_dim, dtype=torch.float32, device=device)  # 32 MB
angle = angles(torch.arange(long, device=device), frequencies(head_dim, device=device))
cos, sin = angle.cos(), angle.sin()
cos_half, sin_half = cos.repeat(1, 2), sin.repeat(1, 2)
cos_pair, sin_pair = (t.repeat_interleave(2, dim=-1) for t in (cos, sin))


def strided_stack() -> Tensor:
    a, b = big[..., 0::2], big[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


def every_two() -> Tensor:
    partner = torch.stack((-big[..., 1::2], big[..., 0::2]), dim=-1).flatten(-2)
    return big * cos_pair + partner * sin_pair


def chunk_and_cat() -> Tensor:
    a, b = big.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


forms = {
    "interleaved, rope_lab": partial(rotate, big, angle),
    "interleaved, strided and stack": strided_stack,
    "interleaved, rotate every two": every_two,
    "half, rope_lab": partial(rotate, big, angle, "half"),
    "half, chunk and cat": chunk_and_cat,
    "half, rotate half": lambda: big * cos_half + rotate_half(big) * sin_half,
}
for name, form in forms.items():
    expected = rotate(big[:1].double(), angle.double(), name.split(",")[0])
    check(f"forms, {name}", form()[0], expected[0], tolerance=1e-5)
copies = median_ratios(forms | {"copy": big.clone}, unit="copy")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Bars: time of six forms of the rotation, three for each layout, in units of one copy of a 32 megabyte tensor."}, "figure": {"caption": "How you write the rotation matters more than the layout. In each layout, the form with the fewest passes (blue: this package, which also computes its cosines in that time) takes the least time. Measured without a compiler, on the machine that built this page.", "name": "fig-speed"}}
from rope_lab.figures.layouts import speed

speed(
    {name: copies[name] for name in forms},
    emphasised=["interleaved, rope_lab", "half, rope_lab"],
)

# %% [markdown]
# Run as it is written, PyTorch has an advantage for the interleaved layout: a complex product is a single operation. The half
# form of this package takes three, and was somewhat slower where we measured. A compiler fuses the real-valued forms into a
# single pass automatically (chapter 20).
#
# :::{admonition} Strides and cache lines: an argument tested
# :class: note dropdown
#
# The usual argument for halves: the interleaved form walks through memory in steps of two, so that every cache line
# is fetched twice and half of it used each time. Cache misses, not arithmetic, would make it slow. Test it as it is
# stated: the same four operations over three walks that differ in nothing but their addresses.
#
# - *Even and odd*: coordinates 0, 2, 4, … of each row, then 1, 3, 5, …
# - *Halves*: the first half of each row, then the second.
# - *Blocks*: two separate blocks of memory, with no stride and no cache line in common.
#
# If shared cache lines are what tells the layouts apart, the even and odd walk costs **no more than blocks while the tensor
# fits into the cache and twice as much once it does not, and the halves always cost as little as blocks**.
#
# On the servers that build this book, the prediction fails. Small tensors, which stay in the level 2 cache, are where even and
# odd are slowest: PyTorch's CPU kernels take several numbers at once only where they are neighbours, so the stride costs even
# without a miss. And halves cost more than blocks, although a half of a row of 64 numbers is exactly two whole cache lines
# and shares none with the other half. The last rows are the control for that: with longer rows the cost of halves goes
# away, and even and odd stay slow. (Two things go with longer rows: fewer turns of a loop over rows, and halves that are
# far apart, so that what the processor fetches *beside* the lines it was asked for is no longer the other half. The control
# does not tell them apart; it does show that shared lines are not the cause.) Another machine may differ, so run the cell.
#
# On a GPU the argument can be right. In a kernel that gathered pairs with stride 2, each gather used half of every cache
# line. A draft that loaded whole rows instead, and changed two other things as well, was up to a quarter faster
# ([sglang#28147](https://github.com/sgl-project/sglang/pull/28147), closed). It did so without leaving the interleaved
# layout.
# :::


# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show the measurement: three walks", "code_prompt_hide": "Hide the measurement"}
def turn_into(a, b, out_a, out_b, cos, sin) -> None:
    torch.mul(a, cos, out=out_a).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=out_b).addcmul_(a, sin)


def walk_ratios(kilobytes: int, dim: int) -> dict:
    """Time of each walk over a tensor of rows of `dim` numbers, blocks = 1."""
    rows = kilobytes * 1024 // 4 // dim
    source = torch.randn(rows, dim, dtype=torch.float32, device=device)
    out = torch.empty_like(source)
    cos, sin = torch.rand(2, rows, dim // 2, dtype=torch.float32, device=device)
    addresses = {
        "even and odd": (source[:, 0::2], source[:, 1::2], out[:, 0::2], out[:, 1::2]),
        "halves": (*source.chunk(2, dim=1), *out.chunk(2, dim=1)),
        "blocks": (*source.view(2, rows, -1), *out.view(2, rows, -1)),
    }
    jobs = {walk: partial(turn_into, *a, cos, sin) for walk, a in addresses.items()}
    return median_ratios(
        jobs, unit="blocks", repeats=max(1, 1024 // kilobytes), rounds=7
    )


kilobytes, penalty, rows = [64, 256, 1024, 4096, 65536], {}, []
settings = [(size, 64) for size in kilobytes] + [(65536, 1024), (65536, 4096)]
for total, row in settings:
    ratios = walk_ratios(total, row)
    rows.append((f"{total:,} KB", f"{row:,}", ratios["even and odd"], ratios["halves"]))
    if row == 64:
        for walk in ("even and odd", "halves"):
            penalty.setdefault(walk, []).append(ratios[walk])
caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))  # on Linux
for cache in caches:
    level, kind, kept = (
        (cache / part).read_text().strip() for part in ("level", "type", "size")
    )
    print(f"cache of this processor: level {level}, {kind.lower()}, {kept}")
table(
    rows,
    {"size": "", "numbers in a row": "", "even and odd": ".2f", "halves": ".2f"},
    caption=f"Time on one thread of the {device}, blocks = 1.",
)

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show the figure: three walks", "code_prompt_hide": "Hide the figure", "image": {"alt": "Time over even and odd coordinates and over halves, in units of the time over two separate blocks, against tensor size from 64 kilobytes to 64 megabytes."}, "figure": {"caption": "Rows of 64 numbers. The memory in use is three times the axis: input, output, cosines and sines (compare the sizes of the caches above). Even and odd are slow at all sizes and slowest where the tensor is small; halves are as fast as blocks or somewhat slower.", "name": "fig-walks"}}
from rope_lab.figures.layouts import walks

walks(kilobytes, penalty)

# %% [markdown]
# ## In the wild
#
# The mix-ups of this chapter, as they happened:
#
# - **Neither converted.** Code in the layout of the paper loads Hugging Face weights, or the reverse. This is found again
#   with one model after the other: [llama3-from-scratch#20](https://github.com/naklecha/llama3-from-scratch/issues/20),
#   [LLMs-from-scratch#747](https://github.com/rasbt/LLMs-from-scratch/pull/747),
#   [tt-metal#26844](https://github.com/tenstorrent/tt-metal/issues/26844). One converter had the option and never
#   passed it on ([nanotron#427](https://github.com/huggingface/nanotron/pull/427)). And readers of correct code ask whether
#   the *other* layout is a bug: [gpt-neox#834](https://github.com/EleutherAI/gpt-neox/issues/834),
#   [stanford_alpaca#227](https://github.com/tatsu-lab/stanford_alpaca/issues/227).
# - **Wrong number of heads.** TinyLlama has grouped queries and came out of llama.cpp as gibberish, because the
#   converter reordered its keys with a wrong number of heads. For Llama 2 70B, with 64 heads and 8 key heads, the
#   wrong expression gave the right number, so nobody had noticed
#   ([TinyLlama#24](https://github.com/jzhang38/TinyLlama/issues/24),
#   [llama.cpp#3364](https://github.com/ggml-org/llama.cpp/pull/3364)).
# - **Two defaults in one library.** `flash_attn_with_kvcache` rotates interleaved unless told otherwise, and the rotary
#   layer of the same library uses halves, as a comment in somebody's code warns
#   ([flash-attention#862](https://github.com/Dao-AILab/flash-attention/issues/862)). Take both at their defaults for
#   prefill and decoding, and one cache holds keys of two layouts.
# - **Biases, norms, packed weights.** Whatever has one number for each coordinate of a query or a key is reordered with
#   it: the bias of the projection, the gain of a query-key norm, the scales of quantised rows. For Llama 4, vLLM moved the
#   rows without their scales, and a model with quantised attention scored 5.38 on GSM8K, where the same model with
#   attention left alone scored 90.90. Before that was found, attention had been thought too sensitive to quantise
#   ([vllm#34243](https://github.com/vllm-project/vllm/pull/34243)).
#
# ## Summary
#
# - Any fixed pairing is RoPE. Two pairings differ by the order of the rows of $W_q$ and $W_k$, and in exact arithmetic they
#   train alike.
# - Trained weights belong to one layout: convert queries and keys, each by its own heads, rotary rows only. A test of the
#   shift property does not notice if you forget.
# - On the CPU measured here, how the rotation is written matters more for its speed than the layout. Without a compiler, the
#   interleaved layout can be written as one complex product.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-05-1
# ```
#
# Write `half_order(dim, rotary_dim)`: the tensor `p` with `half = interleaved[..., p]` for a head of `dim`
# coordinates of which the first `rotary_dim` turn.

# %%
from rope_lab.exercises.ch05 import check_half_order


def half_order(dim: int, rotary_dim: int) -> Tensor:
    return None  # your turn: integers, shape (dim,)


check_half_order(half_order)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-05-1
# :label: sol-05-1
# ```


# %%
def half_order(dim: int, rotary_dim: int) -> Tensor:
    turning = torch.arange(rotary_dim)
    return torch.cat((turning[0::2], turning[1::2], torch.arange(rotary_dim, dim)))


check_half_order(half_order)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-05-2
# ```
#
# A function `turn(x, m)` rotates vectors `x` of shape `(N, dim)`, all to position `m`, in an unknown pairing.
# Write `find_pairs(turn, dim)`: the pairs $(a_i, b_i)$ for which {eq}`eq-5-1` holds, shape `(dim/2, 2)`, the highest
# frequency first. No frequency is above 1.

# %%
from rope_lab.exercises.ch05 import check_find_pairs


def find_pairs(turn, dim: int) -> Tensor:
    return None  # your turn: integers, shape (dim/2, 2)


check_find_pairs(find_pairs)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-05-2
# :label: sol-05-2
# ```
#
# Turn every unit vector to position 1. Row j is what became of unit vector j: cos θ_i in place j, and at its partner
# sin θ_i, negative if j is second.


# %%
def find_pairs(turn, dim: int) -> Tensor:
    turned = turn(torch.eye(dim), 1)
    sines = turned - torch.diag(turned.diagonal())
    first = (sines > 0).any(-1).nonzero().flatten()
    sine, second = sines[first].max(-1)
    return torch.stack((first, second), dim=-1)[sine.argsort(descending=True)]


check_find_pairs(find_pairs)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-05-3
# ```
#
# Write `to_half(weights, heads, key_heads, rotary_dim)`: one attention layer, converted from interleaved to
# half. `weights` holds `query.weight`, `query.bias`, `key.weight`, `key.bias`, `value.weight` and `value.bias`; return
# a new dict with the same names.

# %%
from rope_lab.exercises.ch05 import check_to_half


def to_half(weights: dict, heads: int, key_heads: int, rotary_dim: int) -> dict:
    return None  # your turn


check_to_half(to_half)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-05-3
# :label: sol-05-3
# ```


# %%
def to_half(weights: dict, heads: int, key_heads: int, rotary_dim: int) -> dict:
    converted = dict(weights)
    for kind, count in {"query": heads, "key": key_heads}.items():
        for name in (f"{kind}.weight", f"{kind}.bias"):
            converted[name] = convert_projection(
                weights[name], count, "interleaved", "half", rotary_dim=rotary_dim
            )
    return converted


check_to_half(to_half)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-05-4
# ```
#
# GPT-NeoX packs three projections into one: the rows of `weight`, shape `(3·heads·D, C)`, are ordered head by head,
# and for each head its $D$ query rows come first, then its $D$ key rows, then its $D$ value rows. `packed_to_half`
# should convert such a weight from interleaved to half. It passed its test, which had one head. Correct it.

# %%
from rope_lab.exercises.ch05 import check_packed_to_half


def packed_to_half(weight: Tensor, heads: int) -> Tensor:
    q, k, v = weight.chunk(3)
    q = convert_projection(q, heads, "interleaved", "half")
    k = convert_projection(k, heads, "interleaved", "half")
    return torch.cat((q, k, v))


check_packed_to_half(packed_to_half)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-05-4
# :label: sol-05-4
# ```
#
# The function takes the first third of the rows for the queries, but they are spread over all heads. Bring head and
# kind on axes of their own first.


# %%
def packed_to_half(weight: Tensor, heads: int) -> Tensor:
    q, k, v = weight.unflatten(0, (heads, 3, -1)).unbind(1)  # (heads, D, C) each
    q, k = (
        convert_projection(x.flatten(0, 1), heads, "interleaved", "half").view_as(v)
        for x in (q, k)
    )
    return torch.stack((q, k, v), dim=1).flatten(0, 2)


check_packed_to_half(packed_to_half)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-05-5
# ```
#
# "If I compare the scores of one query and one key at many distances, I notice a wrong layout." Refute it. Write
# `blind_key(q, base)`: for a query of shape `(D,)` without zeros, a key that is not 0 and has the *same* score with
# it at *every* distance, whether both are rotated in the interleaved or in the half layout. (Why is there always one?
# Count conditions and unknowns, and remember distance 0.)

# %%
from rope_lab.exercises.ch05 import check_blind_key


def blind_key(q: Tensor, base: float) -> Tensor:
    return None  # your turn: shape (D,)


check_blind_key(blind_key)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-05-5
# :label: sol-05-5
# ```
#
# The score at distance $s$ is linear in the key, so "no difference" is one linear equation for each $s$. As functions
# of $s$, the differences are sums of $D/2$ cosines and $D/2$ sines, so they vanish at every distance if $D$
# coefficients vanish: $D$ equations for the $D$ numbers of the key. But at distance 0 both layouts always agree, so
# one of these equations follows from the others, and a key is left. It is the direction that the differences at many
# distances do not reach. So a test of a conversion needs many random queries and keys.


# %%
def blind_key(q: Tensor, base: float) -> Tensor:
    distances = torch.arange(4 * len(q))
    turned = angles(distances, frequencies(len(q), base), dtype=torch.float64)
    many = q.double().expand(len(distances), -1)
    difference = rotate(many, turned) - rotate(many, turned, "half")  # (distances, D)
    return torch.linalg.svd(difference).Vh[-1]


check_blind_key(blind_key)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-05-6
#
# You publish the weights of a model. What do you store beside them, so that nobody who loads or converts them with
# the wrong layout fails to notice? Say of each piece which mistake of this chapter it catches, and which it does not.
# (This question has no checker.)
# ```
#
# ````{solution} ex-05-6
# :label: sol-05-6
#
# One possible answer.
#
# - *The layout in words that cannot be mistaken*: not a name, of which there are a dozen, but the list of pairs
#   $(a_i, b_i)$ with their frequencies, the rotary dimension, and the number of heads and of key heads. It catches
#   nothing by itself, because it has to be read. A program can read it, and a converter has to rewrite it, so that
#   nobody converts twice.
# - *A fingerprint of scores*: queries and keys of a fixed input, and the scores of a layer at distances 0, 1, 10
#   and 100. Distance 0 finds queries and keys that were reordered differently (one of the two, or the wrong number
#   of heads). Only the other distances find that neither was converted. Many random queries and keys are needed,
#   since some are blind ({ref}`ex-05-5`).
# - *Logits for one prompt of a few hundred tokens*, with a tolerance: they also catch a forgotten bias, norm or
#   scale, but do not say what is wrong.
# - *Not enough*: shapes, which always fit; a test of the shift property, which wrong layouts pass {eq}`eq-5-5`; a
#   look at the first tokens of a sample, which can be right.
# ````
#
# ## References
#
# - {cite:t}`su2021`, equations 15 and 34: the interleaved rotation.
# - {cite:t}`black2022`: GPT-NeoX, whose layout is the half one.
#
# This chapter reproduces none of their results. What it says of other libraries is what their threads, linked above,
# report. Full entries are on the page {doc}`/book/references`.
