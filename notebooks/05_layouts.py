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
at_random = [(5, 3), (0, 2), (7, 4), (1, 6)]
pairings({"interleaved": interleaved, "half": half, "at random": at_random})

# %% [markdown]
# All of them are. What matters is that the weights and the rotation agree on one. This chapter shows why the
# choice is free, what happens when the two sides disagree, how to convert weights, and whether one layout is
# faster.
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
# A **layout** is a rule for $(a_i, b_i)$. The *interleaved* layout of the RoFormer paper {cite:p}`su2021` takes
# the neighbours $(2i,\, 2i+1)$. The *half* layout of GPT-NeoX {cite:p}`black2022` takes $(i,\, i + D/2)$, one
# coordinate from each half. The equation as a loop, for any list of pairs:

# %%
import torch
from torch import Tensor

from rope_lab import angles, convert_layout, convert_projection, frequencies, rotate
from rope_lab.verify import check

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # checks then show the 16th digit
torch.manual_seed(5)


def angle_table(positions: Tensor, dim: int) -> Tensor:  # (N,) -> (N, D/2)
    return angles(positions, frequencies(dim), dtype=torch.float64)


def rotate_pairs(x: Tensor, table: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """Equation 5.1, one pair after the other. x (..., N, D), table (N, D/2)."""
    turned = x.clone()
    for i, (a, b) in enumerate(pairs):
        cos, sin = table[:, i].cos(), table[:, i].sin()
        turned[..., a] = x[..., a] * cos - x[..., b] * sin
        turned[..., b] = x[..., b] * cos + x[..., a] * sin
    return turned


# %% [markdown]
# Code has no loop but one expression over whole tensors, and almost every codebase has one of these two.
# Interleaved neighbours lie in memory as one complex number does; halves are split, turned and joined:


# %%
def turn_interleaved(x: Tensor, table: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))  # (..., N, D/2)
    turns = torch.polar(torch.ones_like(table), table)  # e^{i m θ_i}
    return torch.view_as_real(pairs * turns).flatten(-2)


def turn_half(x: Tensor, table: Tensor) -> Tensor:
    cos, sin = table.cos(), table.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


# %% [markdown]
# Both are equation {eq}`eq-5-1`, and both are what the package does under the names of the layouts:

# %%
dim, length = 8, 32
table = angle_table(torch.arange(length), dim)
x = torch.randn(1000, length, dim)
turned, turned_half = turn_interleaved(x, table), turn_half(x, table)
check("eq. 5.1, interleaved", turned, rotate_pairs(x, table, interleaved))
check("eq. 5.1, half", turned_half, rotate_pairs(x, table, half))
check("eq. 5.1, rotate interleaved", rotate(x, table, "interleaved"), turned)
check("eq. 5.1, rotate half", rotate(x, table, "half"), turned_half)

# %% [markdown]
# ## The two layouts are one, reordered
#
# Let $p = (0, 2, 4, \dots, 1, 3, 5, \dots)$, all even numbers below $D$ and then all odd ones, and let $P$ be the
# matrix that reorders a vector by it: $(Px)_j = x_{p_j}$. Coordinates $2i$ and $2i+1$, the interleaved pair $i$,
# move to $i$ and $i + D/2$, the half pair $i$. So you may turn first and reorder then, or the other way round.
# With $R_m$ the interleaved rotation to position $m$ and $\tilde R_m$ the half one,
#
# $$ P\, R_m\, x = \tilde R_m\, P\, x . $$ (eq-5-2)

# %%
p = torch.cat((torch.arange(0, dim, 2), torch.arange(1, dim, 2)))
print("p =", p.tolist())
check("eq. 5.2", turned[..., p], rotate(x[..., p], table, "half"))
check("eq. 5.2, in the package", convert_layout(x, "interleaved", "half"), x[..., p])

# %% [markdown]
# A score is an inner product, and that does not care in which order its terms are added. Reorder query and key
# alike, and the score stays:
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


q, k = torch.randn(2, 1000, length, dim)
reordered = scores(rotate(q[..., p], table, "half"), rotate(k[..., p], table, "half"))
check("eq. 5.3", reordered, scores(rotate(q, table), rotate(k, table)))

# %% [markdown]
# Nothing in this argument used what $p$ is. List the coordinates of *any* pairing as
# $\pi = (a_0, b_0, a_1, b_1, \dots)$ and let $P_\pi$ reorder by it: that brings the two of each pair side by side.
# Turn them there, put every coordinate back, and you have the rotation $R^{\pi}_m$ of that pairing:
#
# $$ R^{\pi}_m = P_\pi^{\top}\, R_m\, P_\pi . $$ (eq-5-4)
#
# Everything that chapter 3 proves of $R_m$ then holds of $R^\pi_m$, above all that a score depends on the
# distance alone. For every shift $t$ of both positions,
#
# $$
# \langle R^{\pi}_{m+t} q,\, R^{\pi}_{n+t} k \rangle = \langle R^{\pi}_m q,\, R^{\pi}_n k \rangle .
# $$ (eq-5-5)
#
# Here is a random pairing of 64 coordinates:

# %%
dim = 64
pi = torch.randperm(dim)  # a_0, b_0, a_1, b_1, …
back = pi.argsort()  # undoes it
random_pairs = [(int(a), int(b)) for a, b in pi.view(-1, 2)]
print("pairs with the highest frequencies:", random_pairs[:4])


def rotate_random(x: Tensor, table: Tensor) -> Tensor:
    return rotate(x[..., pi], table)[..., back]


q, k = torch.randn(2, 100, length, dim)
here = angle_table(torch.arange(length), dim)
later = angle_table(torch.arange(length) + 1234, dim)
check("eq. 5.4", rotate_random(q, here), rotate_pairs(q, here, random_pairs))
at_random = scores(rotate_random(q, here), rotate_random(k, here))
check("eq. 5.5", scores(rotate_random(q, later), rotate_random(k, later)), at_random)

# %% [markdown]
# For queries and keys drawn at random the scores are also alike as a crowd, because a Gaussian vector is as likely
# as its reordering. Quantiles of the same draws under the three pairings, in units of $\sqrt D$:

# %%
levels = torch.tensor([0.01, 0.25, 0.5, 0.75, 0.99])
crowds = {
    "interleaved": scores(rotate(q, here), rotate(k, here)),
    "half": scores(rotate(q, here, "half"), rotate(k, here, "half")),
    "at random": at_random,
}
print("quantile     " + "".join(f"{level:8.0%}" for level in levels.tolist()))
for name, crowd in crowds.items():
    values = torch.quantile(crowd.flatten(), levels) / dim**0.5
    print(f"{name:13s}" + "".join(f"{value:8.2f}" for value in values.tolist()))

# %% [markdown]
# ## Does a model learn better with one of them?
#
# Now and then someone reports that one layout trains better, or argues that the other must harm long range
# ([rotary-embedding-torch#47](https://github.com/lucidrains/rotary-embedding-torch/issues/47),
# [nanochat#264](https://github.com/karpathy/nanochat/issues/264)). Equation {eq}`eq-5-4` answers this for training
# too. A query is a projection, $q = W_q x$, so another pairing is the same as another order of the rows of $W_q$
# and $W_k$. The gradients are reordered with the rows, and AdamW updates each number by its own gradient. Start
# two models from weights that differ by the reordering, and they differ by nothing else ever after: at every
# step,
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
from rope_lab.encodings import PositionEncoding
from rope_lab.model import RoFormer, RoFormerConfig


class RandomPairing(PositionEncoding):
    """RoPE over the pairs of `order` = a_0, b_0, a_1, b_1, …"""

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.order, self.back, self.dim = order, order.argsort(), len(order)

    def rotate(self, q, k, v, positions, *_):
        table = angle_table(positions, self.dim)
        q, k = (rotate(t[..., self.order], table)[..., self.back] for t in (q, k))
        return q, k, v


shape = {"vocab_size": 16, "context": 32, "dim": 32, "depth": 2, "heads": 2}
head_dim = shape["dim"] // shape["heads"]


def reorder_heads(weights: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """The weights, every query and key head with its rows in the order `rows`."""

    def reorder(w: Tensor) -> Tensor:
        return w.unflatten(0, (-1, head_dim))[:, rows].flatten(0, 1)

    rotated = [name for name in weights if ".query." in name or ".key." in name]
    return weights | {name: reorder(weights[name]) for name in rotated}


def train(model: RoFormer, weights: dict[str, Tensor], steps: int = 150) -> Tensor:
    """Loss at every step, (steps,), in nats per repeated token."""
    model.load_state_dict(weights)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator, losses = torch.Generator().manual_seed(1), []
    for _ in range(steps):
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
order = torch.randperm(head_dim)
to_half = torch.cat((torch.arange(0, head_dim, 2), torch.arange(1, head_dim, 2)))
models = {
    "interleaved": (RoFormer(RoFormerConfig(**shape)), start),
    "half": (
        RoFormer(RoFormerConfig(**shape, layout="half")),
        reorder_heads(start, to_half),
    ),
    "at random": (
        RoFormer(RoFormerConfig(**shape), RandomPairing(order)),
        reorder_heads(start, order.argsort()),
    ),
}
losses = {name: train(*model) for name, model in models.items()}
for name in ("half", "at random"):
    check(f"eq. 5.6, {name}", losses[name], losses["interleaved"], tolerance=1e-9)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against training step for the interleaved, half and random pairing: the three lines lie on top of each other."}, "figure": {"caption": "Three trainings, one curve: the pairing decides where a number is stored, not what is learned. Where a difference between layouts is measured, look for something else that changed.", "name": "fig-same-training"}}
from rope_lab.figures.layouts import same_training

same_training(losses)

# %% [markdown]
# ## What goes wrong: weights of one layout, rotation of the other
#
# The choice is free only once: trained weights fit the rotation they were trained with. To move them to the other
# layout, reorder the rows of the query and the key projection in every head, which is what $P$ does to their
# outputs:
#
# $$ \tilde R_m\,(P W_q)\,x = P\, R_m\, W_q\, x . $$ (eq-5-7)
#
# `convert_projection` does it. The conversion that Hugging Face runs on Meta's Llama files is the same
# reordering in one line: view the rows of a head as $(D/2, 2)$, swap the two axes, flatten.

# %%
heads, key_heads, width = 8, 2, 128  # grouped queries: a key head serves four
w_q = torch.randn(heads * dim, width) / width**0.5  # (H·D, C)
w_k = torch.randn(key_heads * dim, width) / width**0.5  # (H_k·D, C)


def convert(weight: Tensor, heads: int) -> Tensor:
    return convert_projection(weight, heads, "interleaved", "half")


in_one_line = w_q.view(heads, dim // 2, 2, width).transpose(1, 2).reshape(w_q.shape)
check("eq. 5.7, both conversions", convert(w_q, heads), in_one_line)


def project(x: Tensor, weight: Tensor, heads: int) -> Tensor:  # (N, C) -> (H, N, D)
    return (x @ weight.T).unflatten(-1, (heads, -1)).transpose(0, 1)


table = angle_table(torch.arange(4096), dim)
hidden = torch.randn(4096, width)
rotated = rotate(project(hidden, w_q, heads), table)
converted = rotate(project(hidden, convert(w_q, heads), heads), table, "half")
check("eq. 5.7", converted, convert_layout(rotated, "interleaved", "half"))

# %% [markdown]
# Now make the mistakes that people make. The weights were trained interleaved; the code rotates in halves. You can
#
# - convert neither projection,
# - convert the queries only,
# - convert both, but count as many key heads as query heads.
#
# None of them raises an error. Each leaves its own trace in the scores: plot the error against the distance of
# query and key.

# %%
distances = torch.tensor([0, *2 ** torch.arange(12)])
x_query, x_key = torch.randn(2, 500, width)


def score_by_distance(w_q: Tensor, w_k: Tensor, layout: str) -> Tensor:
    """Scores of queries at position s with keys at position 0: (S, H, 500)."""
    q, k = project(x_query, w_q, heads), project(x_key, w_k, key_heads)
    k = k.repeat_interleave(heads // key_heads, dim=0)
    q = q[..., None, :].expand(-1, -1, len(distances), -1)  # one query, all distances
    return torch.einsum("hbsd,hbd->shb", rotate(q, table[distances], layout), k)


right = score_by_distance(w_q, w_k, "interleaved")
p_q, p_k = convert(w_q, heads), convert(w_k, key_heads)
attempts = {
    "queries only": score_by_distance(p_q, w_k, "half"),
    "neither": score_by_distance(w_q, w_k, "half"),
    "wrong number of heads": score_by_distance(p_q, convert(w_k, heads), "half"),
    "both": score_by_distance(p_q, p_k, "half"),
}
check("eq. 5.7, scores", attempts["both"], right)


def size(t: Tensor) -> Tensor:  # root mean square at each distance, (S,)
    return t.square().mean((1, 2)).sqrt()


errors = {name: size(wrong - right) / size(right) for name, wrong in attempts.items()}
print("error at distance          0     1  1024")
for name, error in errors.items():
    print(f"{name:22s}" + "".join(f"{error[i]:6.2f}" for i in (0, 1, 11)))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Relative error of the scores against distance, logarithmic. Queries only and wrong number of heads: well above 1 at every distance, 0 included. Neither: zero at distance 0, then rising above 1. Both: zero throughout."}, "figure": {"caption": "The trace tells the mistake. An error that is zero at distance 0 and grows from there: nothing was converted. An error that is large already at distance 0, where nothing turns: query and key were reordered differently.", "name": "fig-mismatch"}}
from rope_lab.figures.layouts import mismatch

mismatch(distances, errors)

# %% [markdown]
# The line *neither* explains a symptom that is often told: the first words come out right, then the text decays
# ([shainet#111](https://github.com/NeuraLegion/shainet/pull/111)). At distance 0 nothing turns, so no layout can be
# wrong, and a short prompt has only short distances.
#
# By equation {eq}`eq-5-5` all these wrong scores still depend on the distance alone. A test of the shift property
# passes on every one of them; only a comparison with the right scores finds the mistake.
#
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
partial_table = angle_table(torch.arange(length), rotary_dim)
x = torch.randn(1000, length, dim)
turned = rotate(x, partial_table)
ends = ("interleaved", "half")
first_rows = convert_layout(x, *ends, rotary_dim=rotary_dim)
check(
    "eq. 5.8",
    convert_layout(turned, *ends, rotary_dim=rotary_dim),
    rotate(first_rows, partial_table, "half"),
)
whole_head = rotate(convert_layout(x, *ends), partial_table, "half")
error = (convert_layout(whole_head, *ends[::-1]) - turned).abs().max()
print(f"reordering the whole head instead is off by up to {error:.1f}")

# %% [markdown]
# ### Two layouts inside one function
#
# The half layout needs each cosine in both halves, $(c_0, c_1, \dots, c_0, c_1, \dots)$; the interleaved one needs
# them side by side, $(c_0, c_0, c_1, c_1, \dots)$. Take the table of the one with the pairs of the other
# ([ark-nlp#47](https://github.com/xiangking/ark-nlp/issues/47)), and the two of a pair turn by *different* angles.
# That is no rotation at all, and here the shift property does find it:


# %%
def mixed_up(x: Tensor, table: Tensor) -> Tensor:
    """Interleaved pairs with the table of the half layout. Do not use."""
    double = torch.cat((table, table), dim=-1)  # right: table.repeat_interleave(2, -1)
    partner = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
    return x * double.cos() + partner * double.sin()


for name, turn in {"mixed up": mixed_up, "rotate": rotate}.items():
    now = scores(turn(q, here), turn(k, here))
    change = (scores(turn(q, later), turn(k, later)) - now).std() / now.std()
    low, high = (turn(q, later).norm(dim=-1) / q.norm(dim=-1)).aminmax()
    print(f"{name:9s}scores change with a shift by {change:.1e} of their size,")
    print(f"{'':9s}lengths become {low:.3f} to {high:.3f} of what they were")

# %% [markdown]
# ### Which layout does this code have? Ask it
#
# Names are no guide. What is called interleaved here is `traditional` in MLX
# ([mlx-vlm#112](https://github.com/Blaizzy/mlx-vlm/pull/112)), `is_neox_style=False` in vLLM
# ([vllm#49323](https://github.com/vllm-project/vllm/pull/49323)) and NORM in llama.cpp
# ([llama.cpp#7481](https://github.com/ggml-org/llama.cpp/pull/7481)). In models that share the frequencies out
# among time, height and width, *interleaved* is also the name for how they are shared out, which has nothing to do
# with pairs ([xllm#2120](https://github.com/xLLM-AI/xllm/pull/2120)).
#
# Ask the code instead. Rotate the vector $(1, 0, 0, \dots)$ to position 1: its sine lands on the partner of
# coordinate 0.

# %%
unit = torch.eye(dim)[:1]  # (1, D)
one = angle_table(torch.tensor([1]), dim)
for layout in ("interleaved", "half"):
    partner = rotate(unit, one, layout)[0, 1:].argmax().item() + 1
    print(f"{layout:12s} coordinate 0 turns with coordinate {partner} of {dim}")

# %% [markdown]
# | layout | pair $i$ | used by |
# |---|---|---|
# | interleaved | $(2i,\, 2i+1)$ | the RoFormer paper, GPT-J, Llama as Meta publishes it, torchtune's Llama, rotary-embedding-torch, x-transformers, torchscale |
# | half | $(i,\, i+R/2)$ | GPT-NeoX, Llama on Hugging Face, torchtune's Phi-3 and Qwen2, local-attention, labml, Liger, Keras Hub |
# | either | by a flag | flash-attention, this package |
#
# So *Llama* alone is no answer: Meta's files are interleaved, the same model on Hugging Face is half
# ([transformers#25199](https://github.com/huggingface/transformers/issues/25199),
# [flash-attention#288](https://github.com/Dao-AILab/flash-attention/issues/288)).
#
# ## Is one layout faster?
#
# The usual argument for halves: the interleaved form walks through memory in steps of two, so that every cache line
# is fetched twice and half used each time. Cache misses, not arithmetic, would make it slow. Test it as it is stated:
# the same four operations over three walks that differ in nothing but their addresses.
#
# - *Even and odd*: coordinates 0, 2, 4, … of each row, then 1, 3, 5, …
# - *Halves*: the first half of each row, then the second.
# - *Blocks*: two separate blocks of memory, with no stride and no cache line in common.
#
# If cache lines tell the layouts apart, the even and odd walk costs **no more than blocks while the tensor fits into
# the cache, twice as much once it does not, and the halves always cost as little as blocks**.

# %%
from functools import partial
from time import thread_time

from torch.utils.benchmark import timer  # waits for a GPU to finish

device = "cuda" if torch.cuda.is_available() else "cpu"
# what others do on a CPU does not count
clock = thread_time if device == "cpu" else timer


def median_ratios(forms: dict, unit: str, repeats: int = 1, rounds: int = 15) -> dict:
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


def turn_into(a, b, out_a, out_b, cos, sin) -> None:
    torch.mul(a, cos, out=out_a).addcmul_(b, sin, value=-1)
    torch.mul(b, cos, out=out_b).addcmul_(a, sin)


kilobytes = [64, 256, 1024, 4096, 16384, 65536]
penalty = {"even and odd": [], "halves": []}
for size in kilobytes:
    rows = size * 1024 // 4 // dim
    x = torch.randn(rows, dim, dtype=torch.float32, device=device)
    out = torch.empty_like(x)
    table = angles(torch.arange(rows, device=device), frequencies(dim, device=device))
    addresses = {
        "even and odd": (x[:, 0::2], x[:, 1::2], out[:, 0::2], out[:, 1::2]),
        "halves": (*x.chunk(2, dim=1), *out.chunk(2, dim=1)),
        "blocks": (*x.view(2, rows, -1), *out.view(2, rows, -1)),
    }
    turns = (table.cos(), table.sin())
    forms = {walk: partial(turn_into, *at, *turns) for walk, at in addresses.items()}
    ratios = median_ratios(forms, unit="blocks", repeats=max(1, 1024 // size))
    for walk in penalty:
        penalty[walk].append(ratios[walk])

print(f"time on one thread of the {device}, blocks = 1")
print(" " * 12 + "".join(f"{size:6d} KB" for size in kilobytes))
for walk, ratios in penalty.items():
    print(f"{walk:12s}" + "".join(f"{ratio:9.2f}" for ratio in ratios))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Time over even and odd coordinates and over halves, in units of the time over two separate blocks, against tensor size from 64 kilobytes to 64 megabytes."}, "figure": {"caption": "Two costs, and neither is the one in the argument. Inside the cache (left) even and odd are slow where no line can be missing. Outside (right) both layouts pay for their cache lines, and they pay alike.", "name": "fig-walks"}}
from rope_lab.figures.layouts import walks

walks(kilobytes, penalty)

# %% [markdown]
# This is what the servers that build the book show; a machine of yours may differ, so run the cell. Inside the cache no
# line is missing, yet even and odd are slow: PyTorch's CPU kernels take several numbers at once only where they are
# neighbours. Far outside the cache the lines do cost, but in *both* layouts, because the two halves of a row lie
# so close together that one is fetched with the other. So strides cost, and so do cache lines,
# but cache lines are no reason to prefer halves.
#
# On a GPU the reason can be right. A kernel that gathered pairs with stride 2 used half of every cache line; loading
# whole rows gained up to a quarter
# ([sglang#28147](https://github.com/sgl-project/sglang/pull/28147)). It did so without leaving the interleaved
# layout.
#
# In practice you wait less for strides than for passes over the tensor: every intermediate result is written and read
# again. Here are the usual forms, in units of one copy of the tensor, eight heads that share a table:

# %%
length = 32_768
x = torch.randn(8, length, dim, dtype=torch.float32, device=device)  # 64 MB
table = angles(torch.arange(length, device=device), frequencies(dim, device=device))
cos, sin = table.cos(), table.sin()
cos_half, sin_half = cos.repeat(1, 2), sin.repeat(1, 2)
cos_pair, sin_pair = (t.repeat_interleave(2, dim=-1) for t in (cos, sin))


def strided_stack() -> Tensor:
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


def rotate_every_two() -> Tensor:
    partner = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
    return x * cos_pair + partner * sin_pair


def chunk_and_cat() -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def rotate_half() -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return x * cos_half + torch.cat((-b, a), dim=-1) * sin_half


forms = {
    "interleaved, rope_lab": partial(rotate, x, table),
    "interleaved, strided and stack": strided_stack,
    "interleaved, rotate every two": rotate_every_two,
    "half, rope_lab": partial(rotate, x, table, "half"),
    "half, chunk and cat": chunk_and_cat,
    "half, rotate half": rotate_half,
}
for name, form in forms.items():
    head, angle = x[:1].double(), table.double()
    right = rotate(head, angle, name.split(",")[0])
    check(name, form()[0], right[0], tolerance=1e-5)
copies = median_ratios(forms | {"copy": x.clone}, unit="copy", rounds=5)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Bars: time of six forms of the rotation, three for each layout, in units of one copy of a 64 megabyte tensor."}, "figure": {"caption": "How you write the rotation matters more than the layout. Written in few passes (blue: this package, which also forms its cosines in that time) either layout takes little more than a copy; written in many, it takes a multiple of that.", "name": "fig-speed"}}
from rope_lab.figures.layouts import speed

speed(
    {name: copies[name] for name in forms},
    emphasised=["interleaved, rope_lab", "half, rope_lab"],
)

# %% [markdown]
# A compiler makes one pass of the real forms by itself; chapter 20 measures that.
#
# ## In the wild
#
# The mix-ups of this chapter, as they happened:
#
# - **Neither converted.** Code in the layout of the paper loads Hugging Face weights, or the reverse. The question is
#   asked anew for each model: [llama3-from-scratch#20](https://github.com/naklecha/llama3-from-scratch/issues/20),
#   [LLMs-from-scratch#747](https://github.com/rasbt/LLMs-from-scratch/pull/747),
#   [gpt-neox#834](https://github.com/EleutherAI/gpt-neox/issues/834),
#   [stanford_alpaca#227](https://github.com/tatsu-lab/stanford_alpaca/issues/227),
#   [tt-metal#26844](https://github.com/tenstorrent/tt-metal/issues/26844). One converter had the option and never
#   passed it on ([nanotron#427](https://github.com/huggingface/nanotron/pull/427)).
# - **Wrong number of heads.** TinyLlama has grouped queries and came out of llama.cpp as gibberish, because the
#   converter reordered its keys with a wrong number of heads. For Llama 2 70B, with 64 heads and 8 key heads, the
#   wrong expression gave the right number, so nobody had noticed
#   ([TinyLlama#24](https://github.com/jzhang38/TinyLlama/issues/24),
#   [llama.cpp#3364](https://github.com/ggml-org/llama.cpp/pull/3364)).
# - **Two defaults in one library.** `flash_attn_with_kvcache` rotates interleaved unless told otherwise, the rotary
#   layer of the same library in halves
#   ([flash-attention#862](https://github.com/Dao-AILab/flash-attention/issues/862)). Take both at their defaults for
#   prefill and decoding, and one cache holds keys of two layouts.
# - **Biases, norms, packed weights.** Whatever has one number for each coordinate of a query or a key is reordered with
#   it: the bias of the projection, the gain of a query-key norm. Rows of quantised weights cannot simply be moved
#   ([vllm#55335](https://github.com/vllm-project/vllm/pull/55335)).
#
# ## Summary
#
# - Any fixed pairing is RoPE. Two pairings differ by the order of the rows of $W_q$ and $W_k$, and they train alike.
# - Trained weights belong to one layout: convert queries and keys, each by its own heads, rotary rows only.
# - Neither layout is the faster one; the form with the fewest passes over memory is.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# **5.1** Write `half_order(dim, rotary_dim)`: the tensor `p` with `half = interleaved[..., p]` for a head of `dim`
# coordinates of which the first `rotary_dim` turn.

# %%
from rope_lab.exercises.ch05 import check_half_order


def half_order(dim: int, rotary_dim: int) -> Tensor:
    return None  # your turn: integers, shape (dim,)


check_half_order(half_order)

# %% tags=["hide-cell"]
# Solution of 5.1


def half_order(dim: int, rotary_dim: int) -> Tensor:
    turning = torch.arange(rotary_dim)
    return torch.cat((turning[0::2], turning[1::2], torch.arange(rotary_dim, dim)))


check_half_order(half_order)

# %% [markdown]
# **5.2** A function `turn(x, m)` rotates vectors `x` of shape `(N, dim)`, all to position `m`, in an unknown pairing.
# Write `find_pairs(turn, dim)`: the pairs $(a_i, b_i)$ for which {eq}`eq-5-1` holds, shape `(dim/2, 2)`, the highest
# frequency first. No frequency is above 1.

# %%
from rope_lab.exercises.ch05 import check_find_pairs


def find_pairs(turn, dim: int) -> Tensor:
    return None  # your turn: integers, shape (dim/2, 2)


check_find_pairs(find_pairs)

# %% tags=["hide-cell"]
# Solution of 5.2: turn every unit vector to position 1. Row j is what became of unit
# vector j: cos θ_i in place j, and at its partner sin θ_i, negative if j is second.


def find_pairs(turn, dim: int) -> Tensor:
    turned = turn(torch.eye(dim), 1)
    sines = turned - torch.diag(turned.diagonal())
    first = (sines > 0).any(-1).nonzero().flatten()
    sine, second = sines[first].max(-1)
    return torch.stack((first, second), dim=-1)[sine.argsort(descending=True)]


check_find_pairs(find_pairs)

# %% [markdown]
# **5.3** Write `to_half(weights, heads, key_heads, rotary_dim)`: one attention layer, converted from interleaved to
# half. `weights` holds `query.weight`, `query.bias`, `key.weight`, `key.bias`, `value.weight` and `value.bias`; return
# a new dict with the same names.

# %%
from rope_lab.exercises.ch05 import check_to_half


def to_half(weights: dict, heads: int, key_heads: int, rotary_dim: int) -> dict:
    return None  # your turn


check_to_half(to_half)

# %% tags=["hide-cell"]
# Solution of 5.3


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
# ## References
#
# - {cite:t}`su2021`, equations 15 and 34: the interleaved rotation.
# - {cite:t}`black2022`: GPT-NeoX, whose layout is the half one.
#
# This chapter reproduces none of their results. What it says of other libraries is what their threads, linked above,
# report. Full entries are on the page {doc}`/book/references`.
