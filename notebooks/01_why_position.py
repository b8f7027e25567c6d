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
# (chapter-why-position)=
# # 01 · Why position
#
# *Dog bites man* is no news. *Man bites dog* is. Both are made of the same three words.
#
# Feed each to an attention layer and look at what comes out for `dog`, for `bites` and for `man`. **Does the layer see
# which sentence it has read?**

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of three coloured panels. Each panel has a stripe for the words dog, bites and man. First row, no positions: the stripes in the two sentences are the same and the panel of their difference is empty. Second row, with positions: the stripes differ and so the third panel is coloured."}, "figure": {"caption": "The output of one attention layer for each word, 32 numbers a word. Without positions (top) both sentences give every word exactly the same output, so nothing that follows can tell them apart. Add positions (bottom) and they differ.", "name": "fig-two-orders"}}
import torch
from torch import Tensor, nn

from rope_lab import MultiHeadAttention, RotaryEmbedding
from rope_lab.figures.why import two_orders

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that checks show rounding in the 16th digit
torch.manual_seed(1)

words, orders = ["dog", "bites", "man"], ("dog bites man", "man bites dog")
vectors = dict(zip(words, 2 * torch.randn(3, 32), strict=True))
positions = {"no positions": None, "with positions": RotaryEmbedding(16, base=4)}
outputs = {}
for name, position in positions.items():
    torch.manual_seed(2)
    layer = MultiHeadAttention(32, heads=2, position=position, causal=False)
    pair = []
    for sentence in orders:
        order = sentence.split()
        x = torch.stack([vectors[word] for word in order])[None]  # (1, 3, 32)
        out = layer(x)[0].detach()
        pair.append(out[[order.index(word) for word in words]])
    outputs[name] = tuple(pair)
two_orders(words, orders, outputs)

# %% [markdown]
# This chapter shows why that is so, what a causal mask changes, through which three doors a position can enter, and why
# the good encodings speak of distances instead of places.
#
# ## Attention never asks where
#
# A layer gets $N$ tokens as vectors $x_0, \dots, x_{N-1}$. Three matrices make of each token $x_m$ a query
# $q_m = W_q x_m$, a key $k_m = W_k x_m$ and a value $v_m = W_v x_m$, each with $D$ coordinates. The **score** of a query
# at position $m$ with a key at position $n$ is their inner product,
#
# $$ s_{mn} = \langle q_m, k_n \rangle, $$ (eq-1-1)
#
# and the output at $m$ is an average of all values, weighted by the softmax of the scores:
#
# $$
# \begin{aligned}
# o_m &= \sum_{n=0}^{N-1} w_{mn}\, v_n, \\
# w_{mn} &= \frac{\exp(s_{mn}/\sqrt D)}{\sum_{l=0}^{N-1} \exp(s_{ml}/\sqrt D)} .
# \end{aligned}
# $$ (eq-1-2)
#
# Read the two equations again and look for $m$ and $n$. They say *which* token is meant. They never enter as numbers.
#
# In code, and next to the package's own attention:

# %%
from rope_lab.attention import attend
from rope_lab.verify import check


def attention(x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor) -> Tensor:
    """Equations 1.1 and 1.2. x (..., N, C) and weights (D, C) -> (..., N, D)."""
    q, k, v = x @ w_q.T, x @ w_k.T, x @ w_v.T
    scores = q @ k.transpose(-1, -2)  # (..., N, N)
    return (scores / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


N, C, D = 10, 32, 16
x = torch.randn(1000, N, C)
weights = torch.randn(3, D, C) / C**0.5
q, k, v = ((x @ w.T)[:, None] for w in weights)  # (B, H, N, D) with one head
check("eq. 1.2", attention(x, *weights), attend(q, k, v)[:, 0])

# %% [markdown]
# Now deal the tokens out in another order. Call the order $\pi$ and the new sequence $x \circ \pi$: at position $m$ it has
# the token $x_{\pi(m)}$. Write $o_m[x]$ for the output at $m$ of a sequence $x$. In the new sequence the query at $m$ is
# $q_{\pi(m)}$, and the sums in {eq}`eq-1-2` run over the same tokens, only in another order. So
#
# $$ o_m[x \circ \pi] = o_{\pi(m)}[x] . $$ (eq-1-3)
#
# Shuffle the input, and the outputs come shuffled in the same way; not one of them changes. A map with this property is
# called **permutation-equivariant**. A thousand sequences, each in a random order of its own:

# %%
order = torch.rand(1000, N).argsort(dim=-1)  # a random π for each sequence, (B, N)


def shuffle(x: Tensor) -> Tensor:
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))


check("eq. 1.3", attention(shuffle(x), *weights), shuffle(attention(x, *weights)))

# %% [markdown]
# Depth is no help. The other parts of a transformer, its feed-forward layers, norms and residual sums, treat each token
# by itself, and one equivariant map after another is equivariant again. Here are four layers as PyTorch ships them:

# %%
layer = nn.TransformerEncoderLayer(C, nhead=4, dim_feedforward=64, batch_first=True)
encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False).eval()
with torch.no_grad():
    check("eq. 1.3, four layers", encoder(shuffle(x)), shuffle(encoder(x)))

# %% [markdown]
# If you then average the outputs, as a classifier of sentences does, the order is gone for good:
#
# $$ \frac1N \sum_m o_m[x \circ \pi] = \frac1N \sum_m o_m[x] . $$ (eq-1-4)

# %%
with torch.no_grad():
    check("eq. 1.4", encoder(shuffle(x)).mean(dim=1), encoder(x).mean(dim=1))

# %% [markdown]
# To a transformer without positions a text is a bag of tokens.
#
# ## A causal mask leaks the order
#
# A language model predicts the next token, so its attention is masked: the query at $m$ sees the keys $n \le m$ and no
# later ones, and the softmax runs over these alone:
#
# $$
# \begin{aligned}
# o_m &= \sum_{n \le m} w_{mn}\, v_n , \\
# w_{mn} &= \frac{\exp(s_{mn}/\sqrt D)}{\sum_{l \le m} \exp(s_{ml}/\sqrt D)} .
# \end{aligned}
# $$ (eq-1-5)
#
# That is what a token would get if the text ended with it:

# %%
from rope_lab.attention import attention_mask

allowed = attention_mask(N, N)  # True where n ≤ m
prefixes = [attention(x[:, : m + 1], *weights)[:, -1] for m in range(N)]
check("eq. 1.5", attend(q, k, v, allowed)[:, 0], torch.stack(prefixes, dim=1))

# %% [markdown]
# Here $m$ does enter as a number, as the end of a sum, and position leaks in through it. The neatest leak is a head that
# attends evenly. Let all its scores be equal, and let its value be 1 on the first token and 0 on every other: something a
# head can learn if texts begin with a special token. Its output is the average of one 1 and $m$ zeros,
#
# $$ o_m = \frac{1}{m+1}, $$ (eq-1-6)
#
# and the layers above can read the position from it.

# %%
even = torch.zeros(1, 1, N, D)  # as queries and as keys: every score is 0
first = torch.zeros(1, 1, N, 1)
first[..., 0, :] = 1
leak = attend(even, even, first, allowed).flatten()
check("eq. 1.6", leak, 1 / torch.arange(1, N + 1))

# %% [markdown]
# So a causal transformer can do without a position encoding, which is called **NoPE**. This construction is the core of
# a proof that it can represent absolute and relative positions {cite:p}`kazemnejad2023`, and language models trained that
# way were found to know their positions {cite:p}`haviv2022`.
#
# But see how little leaks. In *one* layer the last token sees every token before it through a sum, and a sum does not
# care for order. Shuffle all but the last token, and its output stays:
#
# $$
# \begin{aligned}
# o_{N-1}[x \circ \pi] &= o_{N-1}[x] \\
# \text{if } \pi(N-1) &= N-1 .
# \end{aligned}
# $$ (eq-1-7)

# %%
before = torch.rand(1000, N - 1).argsort(dim=-1)  # shuffles all tokens but the last
order = torch.cat((before, torch.full((1000, 1), N - 1)), dim=-1)


def masked(x: Tensor) -> Tensor:
    q, k, v = ((x @ w.T)[:, None] for w in weights)
    return attend(q, k, v, allowed)[:, 0]


check("eq. 1.7", masked(shuffle(x))[:, -1], masked(x)[:, -1])

# %% [markdown]
# From the second layer on the bag is open, because what the earlier tokens hand up depends on how many tokens each of
# them has seen. How much does the last output of an untrained model move when the tokens before it are shuffled?

# %%
from rope_lab import RoFormer, RoFormerConfig


def last_output(depth: int, ids: Tensor) -> Tensor:
    torch.manual_seed(0)
    model = RoFormer(RoFormerConfig(50, dim=C, depth=depth, heads=2, position="none"))
    for weight in model.blocks.parameters():
        if weight.ndim == 2:  # small at birth; make them as large as trained ones
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    with torch.no_grad():
        return model.hidden(ids)[:, -1]


ids = torch.randint(50, (1000, N))
for depth in (1, 2, 4, 8):
    straight = last_output(depth, ids)
    shuffled = last_output(depth, ids.gather(1, order))
    moved = (shuffled - straight).norm() / straight.norm()
    print(f"depth {depth}: moved by {moved:.1%}")

# %% [markdown]
# What the mask gives away first is a *count*: how many tokens came before. That `bites` comes right after `dog` has to be
# inferred from such counts, layers later. It is better to say it.
#
# ## Three doors
#
# A position can enter in three places, and nearly every encoding in this book uses one of them. (NoPE uses none; RoPER, in
# chapter 14, turns the values too.)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four boxes from left to right: embeddings x, queries and keys q and k, scores s, weights and output. An arrow enters the first from above, marked embed: learned, sinusoidal. One enters the second, marked rotate: RoPE. One enters the third, marked bias: T5, ALiBi."}, "figure": {"caption": "Add a vector to the embeddings, turn the queries and keys, or add a number to the scores. The further right the door, the closer it is to the decision who attends to whom.", "name": "fig-three-doors"}}
from rope_lab.figures.why import three_doors

three_doors()

# %% [markdown]
# | door | what enters | who |
# |---|---|---|
# | `embed` | $x_m + p_m$, a vector for each position | learned {cite:p}`gehring2017`, sinusoidal {cite:p}`vaswani2017` |
# | `rotate` | $R_m q_m$ and $R_n k_n$, a rotation for each position | RoPE {cite:p}`su2021` |
# | `bias` | $s_{mn}/\sqrt D + b_{m-n}$, a number for each distance | T5 {cite:p}`raffel2020`, ALiBi {cite:p}`press2022` |
#
# In `rope_lab` the doors are methods of one class. An encoding fills the one it needs and inherits the others, which do
# nothing (`length` is there for chapter 11):

# %%
from rope_lab import NoPE, PositionEncoding
from rope_lab.figures.source import source

source(PositionEncoding.embed, PositionEncoding.rotate, PositionEncoding.bias)

# %% [markdown]
# Here is a whole encoding: a learned number for each distance back, the idea of T5 without its buckets.


# %%
class DistanceBias(PositionEncoding):
    """A learned number for each distance m − n; far distances share the last."""

    def __init__(self, distances: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(distances))

    def bias(self, q, k, q_positions, k_positions):
        distance = q_positions[:, None] - k_positions[None, :]  # (N_q, N_k)
        distance = distance.clamp(0, len(self.table) - 1)
        return self.table[distance][None, None]  # (1, 1, N_q, N_k)


# %% [markdown]
# A model takes any of them by one word, `position=`:

# %%
from rope_lab import LearnedEmbedding, SinusoidalEmbedding


class OneLayer(nn.Module):
    """One causal attention layer. ids (B, N) -> logits (B, N, 16)."""

    def __init__(self, position: PositionEncoding) -> None:
        super().__init__()
        self.position = position
        self.embedding = nn.Embedding(16, 64)
        self.attention = MultiHeadAttention(64, heads=1, position=position, bias=True)
        self.head = nn.Linear(64, 16)

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        x = self.position.embed(self.embedding(ids), positions)
        return self.head(self.attention(x, positions=positions))


encodings = {
    "RoPE": lambda: RotaryEmbedding(64),
    "distance bias": lambda: DistanceBias(32),
    "sinusoidal": lambda: SinusoidalEmbedding(64),
    "learned": lambda: LearnedEmbedding(32 + 256, 64),
    "none": NoPE,
}

# %% [markdown]
# ## Absolute or relative
#
# An encoding is **relative** if a score does not change when both tokens move on by the same $t$. With $s(m, n)$ for the
# score of a given query at position $m$ and a given key at position $n$,
#
# $$ s(m + t,\, n + t) = s(m, n) \qquad \text{for every } t . $$ (eq-1-8)
#
# RoPE has the property and so has a bias on distances. How RoPE comes by it is the subject of chapter 3.

# %%
positions, t = torch.arange(N), 77
q, k = torch.randn(2, 1000, 1, N, D)


def rope_scores(positions: Tensor) -> Tensor:
    turned_q, turned_k = RotaryEmbedding(D)(q, k, positions=positions)
    return turned_q @ turned_k.transpose(-1, -2)


check("eq. 1.8, RoPE", rope_scores(positions + t), rope_scores(positions))

far = DistanceBias(32)
nn.init.normal_(far.table)
check(
    "eq. 1.8, distance bias",
    far.bias(q, k, positions + t, positions + t),
    far.bias(q, k, positions, positions),
)

# %% [markdown]
# A vector added to the embedding does not give it. The score is then an inner product of two sums, so it has four terms:
#
# $$
# \begin{aligned}
# \langle W_q (x_m + p_m),\, & W_k (x_n + p_n) \rangle \\
# = {} & \langle W_q x_m, W_k x_n \rangle + \langle W_q x_m, W_k p_n \rangle \\
# & {} + \langle W_q p_m, W_k x_n \rangle + \langle W_q p_m, W_k p_n \rangle .
# \end{aligned}
# $$ (eq-1-9)

# %%
w_q, w_k, _ = weights
x, p = torch.randn(2, 1000, N, C)


def inner(a: Tensor, b: Tensor) -> Tensor:  # (B, N, C) twice -> (B, N, N)
    return (a @ w_q.T) @ (b @ w_k.T).transpose(-1, -2)


four_terms = inner(x, x) + inner(x, p) + inner(p, x) + inner(p, p)
check("eq. 1.9", inner(x + p, x + p), four_terms)

# %% [markdown]
# The first term knows no position. The other three know $m$, or $n$, or both, and nothing makes them depend on $m - n$. A
# model can *learn* vectors $p$ whose last term comes close to it, for the positions it was trained on.
#
# You can see the difference. Put the same token at every place, so that all scores would be equal but for positions, and
# draw the map of scores:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four square maps of scores, query position against key position. None: one flat colour. Learned: noise. Sinusoidal: a woven pattern that changes from place to place. RoPE: stripes along the diagonals."}, "figure": {"caption": "Scores of one token with itself at 32 positions, untrained. Relative means striped: along a diagonal the distance is the same, and so is the score. Where there are no stripes, “three tokens back” is a different pattern at every place and has to be learned at each of them.", "name": "fig-score-maps"}}
from rope_lab.figures.why import score_maps

torch.manual_seed(4)
maps = {}
for name in ("none", "learned", "sinusoidal", "RoPE"):
    position = encodings[name]()
    if name == "learned":
        nn.init.normal_(position.table.weight)  # as large as the token's vector
    places = torch.arange(32)
    token = position.embed(torch.randn(1, 1, 64).expand(1, 32, 64), places)
    project_q, project_k = torch.randn(2, 64, 64) / 8
    q, k, v = (token @ project_q)[None], (token @ project_k)[None], token[None]
    q, k, v = position.rotate(q, k, v, places)
    maps[name] = (q @ k.mT)[0, 0].detach()
score_maps(maps)

# %% [markdown]
# Why prefer stripes?
#
# - **Where a text begins is an accident.** Training cuts a long text into segments anywhere. The grammar does not care
#   where the cut fell; an absolute position does.
# - **A rule is learned once.** $N$ positions have $N^2$ pairs $(m, n)$, but only $2N - 1$ distances. What a relative
#   encoding learns about *three back* at one place holds at all places.
# - **Places run out.** A learned table has no row beyond its last. A distance of three is a distance of three at position
#   ten million.
#
# ## Experiment: three back
#
# The task is as small as the point: at every position, name the token that stood three positions earlier. The text is
# random, so content gives no hint. Train `OneLayer` with each encoding on positions 0 to 31, and test it on new texts of
# the same length whose positions are all moved on by a shift. Every distance stays as it was in training.

# %%
import torch.nn.functional as F

length, back = 32, 3


def random_text(generator: torch.Generator, count: int) -> Tensor:
    return torch.randint(16, (count, length), generator=generator)


def train(position: PositionEncoding, steps: int = 200) -> OneLayer:
    model = OneLayer(position).float()
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        ids = random_text(generator, 32)
        logits = model(ids, torch.arange(length))[:, back:]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, :-back].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


@torch.no_grad()
def accuracy(model: OneLayer, shift: int) -> float:
    ids = random_text(torch.Generator().manual_seed(1), 200)
    logits = model(ids, torch.arange(length) + shift)
    guess = logits[:, back:].argmax(dim=-1)
    return (guess == ids[:, :-back]).double().mean().item()


shifts = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]
accuracies = {}
for name, make in encodings.items():
    torch.manual_seed(0)
    model = train(make())
    accuracies[name] = [accuracy(model, shift) for shift in shifts]
print(f"{'moved by':>13s}" + "".join(f"{shift:>6d}" for shift in shifts))
for name, values in accuracies.items():
    print(f"{name:>13s}" + "".join(f"{value:>6.0%}" for value in values))
    assert values[0] > 0.98 or name == "none"  # the text below says so

# %% tags=["hide-input"] mystnb={"image": {"alt": "Share of tokens copied right against the shift of all positions, for five encodings. RoPE and distance bias stay at the top at every shift. Learned falls from the top to the level of no positions as the shift approaches 32. Sinusoidal falls and partly recovers. None is low throughout."}, "figure": {"caption": "Five models that learned the same rule, tested elsewhere. The relative ones (RoPE, distance bias) apply it at any place. The learned table loses the tokens that stand where it was never trained. Without positions one layer can only guess from the bag.", "name": "fig-shifted"}}
from rope_lab.figures.why import shifted

ends = {name: values[-1] for name, values in accuracies.items()}
ends |= {"RoPE": 1.03, "distance bias": 0.96, "learned": 0.15, "none": 0.24}
shifted(shifts, accuracies, trained=length, beside=ends)

# %% [markdown]
# The four that know positions all solve the task where they were trained. Then the learned table fails one token after
# another, as each steps over the edge of the rows it has seen. The sinusoidal one recovers in part: its vectors are made
# of waves, and chapter 2 shows which part of {eq}`eq-1-9` is relative after all.
#
# Note what was *not* tested. The shifted texts are no longer than the training texts, so no new distance occurs. A longer
# text has new distances, and with those a relative encoding has its own troubles (chapter 11).
#
# ## What goes wrong: position of the wrong axis
#
# A tensor of embeddings has shape `(B, N, C)`: batch, tokens, width. Here is the lookup of a position as the code of a
# university course had it, until a reader looked closely
# ([anlp-fall2025-code#1](https://github.com/cmu-l3/anlp-fall2025-code/issues/1)):


# %%
class WrongAxis(LearnedEmbedding):
    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        place = torch.arange(x.size(0)).unsqueeze(1)  # right: size(1), unsqueeze(0)
        return x + self.table(place)  # (B, N, C) + (B, 1, C)


# %% [markdown]
# Axis 0 is the batch. Every token of a text gets the same vector, the number of its text, and broadcasting hides it: no
# error, a loss that falls, a model that reads bags. Equation {eq}`eq-1-3` is the test that finds it. Shuffle the tokens;
# **a model that knows positions must not be equivariant.**


# %%
@torch.no_grad()
def order_blindness(position: PositionEncoding) -> float:
    """How far outputs move beyond the shuffle itself; 0 where the model sees a bag."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(64, heads=2, position=position, causal=False)
    x, places, order = torch.randn(8, 32, 64), torch.arange(32), torch.randperm(32)
    straight = layer(position.embed(x, places))
    shuffled = layer(position.embed(x[:, order], places))
    return ((shuffled - straight[:, order]).norm() / straight.norm()).item()


for name, position in {
    "RoPE": RotaryEmbedding(32),
    "learned": LearnedEmbedding(32, 64),
    "learned, wrong axis": WrongAxis(32, 64),
    "none": NoPE(),
}.items():
    print(f"{name:20s} {order_blindness(position):.1e}")

# %% [markdown]
# The same slip is common with RoPE, where the axis that gets mistaken for the sequence is often that of the heads. Then
# query and key of head $h$ are both rotated by the angle of position $h$, and by {eq}`eq-1-8` that is no rotation at all:
# the model falls back to the leak of its causal mask.

# %%
q, k = torch.randn(2, 1000, N, 8, D)  # (B, N, H, D)
wrong_q, wrong_k = RotaryEmbedding(D)(q, k)  # takes (B, H, N, D): heads pass for tokens
check(
    "rotation over the heads changes no score",
    torch.einsum("bmhd,bnhd->bhmn", wrong_q, wrong_k),
    torch.einsum("bmhd,bnhd->bhmn", q, k),
)

# %% [markdown]
# It happened to good teams. OpenLM trained and released models with it, through a default of xFormers
# ([open_lm#4](https://github.com/mlfoundations/open_lm/issues/4),
# [xformers#841](https://github.com/facebookresearch/xformers/issues/841)); since the weights were trained that way, the
# repaired code had to keep the mistake as an option for them
# ([open_lm#39](https://github.com/mlfoundations/open_lm/pull/39)). In another repository it hit the baseline that a new
# method was compared with, and the experiments had to be run again
# ([TPA#4](https://github.com/tensorgi/TPA/issues/4)).
#
# Shapes are the defence. `rope_lab` takes positions in two shapes, `(N,)` and `(B, N)`, and refuses all others, also
# those that would broadcast:

# %%
q = k = torch.randn(4, 8, N, D)  # (B, H, N, D)
try:
    RotaryEmbedding(D)(q, k, positions=torch.arange(8))  # counts the heads
except ValueError as error:
    print(error)

# %% [markdown]
# ## Summary
#
# - Attention is permutation-equivariant: without positions a text is a bag of tokens, at any depth.
# - A causal mask leaks a count and nothing more in the first layer; an encoding enters at the embeddings, the queries and
#   keys, or the scores.
# - A relative encoding gives a pair of tokens the same score wherever the pair stands, so a rule learned at one place
#   holds at all.
#
# ## Exercises
#
# **1.1** Write `is_order_blind(layer, x)`: does `layer`, a map from `(B, N, C)` to `(B, N, C)`, see a bag of tokens? Use
# {eq}`eq-1-3`.

# %%
from rope_lab.exercises.ch01 import check_is_order_blind


def is_order_blind(layer, x: Tensor) -> bool:
    return None  # your turn


check_is_order_blind(is_order_blind)

# %% tags=["hide-cell"]
# Solution of 1.1


def is_order_blind(layer, x: Tensor) -> bool:
    order = torch.arange(x.shape[1]).roll(1)  # randperm may draw the identity
    return torch.allclose(layer(x[:, order]), layer(x)[:, order])


check_is_order_blind(is_order_blind)

# %% [markdown]
# **1.2** Write `causal_mean(v)`: what a causal head that attends evenly makes of the values `v`, of shape `(N, D)`,
# without a loop and without a mask. With it you can read {eq}`eq-1-6`.

# %%
from rope_lab.exercises.ch01 import check_causal_mean


def causal_mean(v: Tensor) -> Tensor:
    return None  # your turn


check_causal_mean(causal_mean)

# %% tags=["hide-cell"]
# Solution of 1.2


def causal_mean(v: Tensor) -> Tensor:
    return v.cumsum(dim=0) / torch.arange(1, len(v) + 1, dtype=v.dtype)[:, None]


check_causal_mean(causal_mean)

# %% [markdown]
# **1.3** Write `distance_bias(table, q_positions, k_positions)`: the term that a causal model with several heads adds to
# its scores. `table` has shape `(H, M)`, one number a head and distance. Entry $(h, a, b)$ of the result is
# `table[h, distance]`, where the distance is `q_positions[a] - k_positions[b]`; take 0 where that is below 0, and $M - 1$
# where it is above.

# %%
from rope_lab.exercises.ch01 import check_distance_bias


def distance_bias(table, q_positions, k_positions) -> Tensor:
    return None  # your turn: shape (H, N_q, N_k)


check_distance_bias(distance_bias)

# %% tags=["hide-cell"]
# Solution of 1.3


def distance_bias(table, q_positions, k_positions) -> Tensor:
    distance = q_positions[:, None] - k_positions[None, :]
    return table[:, distance.clamp(0, table.shape[1] - 1)]


check_distance_bias(distance_bias)

# %% [markdown]
# ## References
#
# - {cite:t}`vaswani2017`: the transformer, and why it has to be told positions.
# - {cite:t}`shaw2018`: a relative encoding for it; {cite:t}`dai2019` write out the four terms of {eq}`eq-1-9`.
# - {cite:t}`haviv2022` and {cite:t}`kazemnejad2023`: what causal models know without an encoding.
# - {cite:t}`raffel2020` and {cite:t}`press2022`: a bias for each distance, learned and fixed.
# - {cite:t}`su2021`: RoPE, which chapter 3 derives.
#
# Full entries are on the page {doc}`/book/references`.
