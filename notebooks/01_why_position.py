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

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of three coloured panels. Each panel has a stripe for the words dog, bites and man. First row, no positions: the stripes in the two sentences are the same and the panel of their difference is empty. Second row, with positions: the stripes differ and so the third panel is coloured."}, "figure": {"caption": "The output of one attention layer for each word, 32 numbers per word. Without positions (top) both sentences give every word the same output. A mean over the tokens, or more such layers, cannot tell the sentences apart. With positions (bottom) the outputs differ.", "name": "fig-two-orders"}}
import torch
from torch import Tensor, nn

from rope_lab import MultiHeadAttention, RotaryEmbedding
from rope_lab.figures.why import two_orders

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # so that checks show rounding in the 16th digit
torch.manual_seed(1)

words, orders = ["dog", "bites", "man"], ("dog bites man", "man bites dog")
vectors = dict(zip(words, 2 * torch.randn(3, 32), strict=True))


@torch.no_grad()
def read(sentence: str, *, position=None, causal=False) -> Tensor:
    """Outputs of one untrained attention layer, the same at every call, (tokens, 32)."""
    torch.manual_seed(2)
    attend_to = MultiHeadAttention(32, heads=2, position=position, causal=causal)
    return attend_to(torch.stack([vectors[word] for word in sentence.split()])[None])[0]


def by_word(sentence: str, **layer) -> Tensor:
    """The outputs for dog, bites and man, in this order whatever the order in the sentence."""
    return read(sentence, **layer)[[sentence.split().index(word) for word in words]]


two_orders(
    words,
    orders,
    {
        "no positions": tuple(by_word(sentence) for sentence in orders),
        "with positions": tuple(
            by_word(sentence, position=RotaryEmbedding(16, base=4))
            for sentence in orders
        ),
    },
)

# %% [markdown]
# This chapter shows why that is so, what a causal mask changes, which three doors a position can enter by, and what is
# gained when an encoding speaks of distances rather than absolute positions.
#
# ## Attention never asks where
#
# A recurrent network reads one token after another, and a convolution weighs each neighbour by its offset: both know the
# order by the way they compute. Attention has nothing of the kind.
#
# A layer gets $N$ tokens as vectors $x_0, \dots, x_{N-1}$. Three matrices turn each token $x_m$ into a query
# $q_m = W_q x_m$, a key $k_m = W_k x_m$ and a value $v_m = W_v x_m$, each with $D$ coordinates. The **score** of a query
# at position $m$ with a key at position $n$ is their inner product,
#
# $$ \operatorname{score}(m, n) = \langle q_m, k_n \rangle, $$ (eq-1-1)
#
# and the output at $m$ is an average of all values, weighted by the softmax of the scores:
#
# $$
# \begin{aligned}
# o_m &= \sum_{n=0}^{N-1} w_{mn}\, v_n, \\
# w_{mn} &= \frac{\exp(\operatorname{score}(m, n)/\sqrt D)}{\sum_{l=0}^{N-1} \exp(\operatorname{score}(m, l)/\sqrt D)} .
# \end{aligned}
# $$ (eq-1-2)
#
# (If the coordinates of queries and keys are independent, with mean 0 and variance 1, an inner product has variance
# $D$; dividing by $\sqrt D$ keeps the softmax from saturating as $D$ grows. No equation of this chapter depends on it.)
#
# Read the two equations again and look for $m$ and $n$. They say *which* token is meant. They never enter as numbers.
#
# In code, compared with the package's own attention:

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
projections = torch.randn(3, D, C) / C**0.5  # W_q, W_k and W_v
# queries, keys and values with one head, (B, H, N, D)
q, k, v = ((x @ projection.T)[:, None] for projection in projections)
check("eq. 1.2", attention(x, *projections), attend(q, k, v)[:, 0], draws=1000)

# %% [markdown]
# Now put the tokens in another order. Call the order $\pi$ and the new sequence $x \circ \pi$: at position $m$ it has the
# token $x_{\pi(m)}$. Write $o_m[x]$ for the output at $m$ of a sequence $x$. In the new sequence the query at $m$ is
# $q_{\pi(m)}$, and the sums in {eq}`eq-1-2` run over the same tokens, only in another order. So
#
# $$ o_m[x \circ \pi] = o_{\pi(m)}[x] . $$ (eq-1-3)
#
# Shuffle the input, and the outputs come shuffled in the same way; not one of them changes. A map with this property is
# called **permutation-equivariant**. A thousand sequences, each in a random order of its own:

# %%
each = torch.arange(1000)[:, None]  # x[each, pi]: each sequence in its own order
pi = torch.rand(1000, N).argsort(dim=-1)  # a random π for each sequence, (B, N)
o = attention(x, *projections)
check("eq. 1.3", attention(x[each, pi], *projections), o[each, pi], draws=1000)

# %% [markdown]
# You do not even need two sentences. In *dog eats dog* one dog eats and the other is eaten. Let $\pi$ exchange the two:
# the sequence is the same as before, so by {eq}`eq-1-3` both dogs get the same output, and who eats whom is lost.

# %%
vectors["eats"] = 2 * torch.randn(32)
first_dog, _, second_dog = read("dog eats dog")
check("eq. 1.3, dog eats dog", first_dog, second_dog)

# %% [markdown]
# More layers do not help. The other parts of a transformer, its feed-forward layers, norms and residual sums, treat each
# token on its own, and one equivariant map after another is equivariant again. Here are four layers as PyTorch ships them:

# %%
block = nn.TransformerEncoderLayer(C, nhead=4, dim_feedforward=64, batch_first=True)
encoder = nn.TransformerEncoder(block, 4, enable_nested_tensor=False).eval()
with torch.no_grad():
    encoded, encoded_shuffled = encoder(x), encoder(x[each, pi])
check("eq. 1.3, four layers", encoded_shuffled, encoded[each, pi], draws=1000)

# %% [markdown]
# If you then average the outputs, as a classifier of sentences does, the order is gone for good:
#
# $$ \frac1N \sum_m o_m[x \circ \pi] = \frac1N \sum_m o_m[x] . $$ (eq-1-4)

# %%
check("eq. 1.4", encoded_shuffled.mean(dim=1), encoded.mean(dim=1), draws=1000)

# %% [markdown]
# To such a transformer, without positions and without a mask, a text is a **bag of tokens**.
#
# ## A causal mask leaks the order
#
# A language model predicts the next token, so its attention is masked: the query at $m$ sees the keys $n \le m$ and no
# later ones, and the softmax runs over these alone:
#
# $$
# \begin{aligned}
# o_m &= \sum_{n \le m} w_{mn}\, v_n , \\
# w_{mn} &= \frac{\exp(\operatorname{score}(m, n)/\sqrt D)}{\sum_{l \le m} \exp(\operatorname{score}(m, l)/\sqrt D)} .
# \end{aligned}
# $$ (eq-1-5)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two squares of five by five cells, one row per query word and one column per key word of: the dog bites the man. Each cell gives an attention weight in percent. Left, without a mask: the two rows of the word the are the same. Right, with a causal mask: the cells above the diagonal are empty, the first the has 100 percent in its one cell, the second the has four cells."}, "figure": {"caption": "Attention weights in percent, untrained, without positions. Without a mask both rows for “the” are the same, because the layer cannot tell the two apart. With a mask every row has a length of its own, and the two rows for “the” differ.", "name": "fig-squares"}}
from rope_lab.attention import attention_mask
from rope_lab.figures.why import attention_squares

sentence = ["the", "dog", "bites", "the", "man"]
vectors["the"] = 2 * torch.randn(32)
embedded = torch.stack([vectors[word] for word in sentence]) / 2
scaled = (embedded @ projections[0].T) @ (embedded @ projections[1].T).T / D**0.5
hidden = ~attention_mask(len(sentence), len(sentence))[0, 0]  # True where n > m
attention_squares(
    sentence,
    {
        "every token sees all": scaled.softmax(dim=-1),
        "causal mask": scaled.masked_fill(hidden, -torch.inf).softmax(dim=-1),
    },
)

# %% [markdown]
# With the mask, each token gets what it would get if the text ended there:

# %%
causal = attention_mask(N, N)  # True where n ≤ m
prefixes = [attention(x[:, : m + 1], *projections)[:, -1] for m in range(N)]
check(
    "eq. 1.5", attend(q, k, v, causal)[:, 0], torch.stack(prefixes, dim=1), draws=1000
)

# %% [markdown]
# Here $m$ does enter as a number, as the upper limit of a sum, and that lets position leak in. The simplest example is a
# head that attends to every visible token equally. Let all its scores be equal, and let its value be 1 on the first token
# and 0 on every other, which a head can learn if texts begin with a special token. Its output is the average of one 1 and
# $m$ zeros,
#
# $$ o_m = \frac{1}{m+1}, $$ (eq-1-6)
#
# and the layers above can read the position from it: $m = 1/o_m - 1$, a smooth function that a feed-forward layer can
# approximate.

# %%
equal = torch.zeros(1, 1, N, D)  # as queries and as keys: every score is 0
one_first = torch.zeros(1, 1, N, 1)
one_first[..., 0, :] = 1
leak = attend(equal, equal, one_first, causal).flatten()
check("eq. 1.6", leak, 1 / torch.arange(1, N + 1))

# %% [markdown]
# So a causal transformer can do without a position encoding, which is called **NoPE**. This construction is the core of
# a proof that it can represent absolute and relative positions {cite:p}`kazemnejad2023`, and language models trained that
# way were found to know their positions {cite:p}`haviv2022`. But the first token has to differ from the others: if a text
# is one token over and over, all averages are the same, at every position and any depth, and nothing leaks.
#
# But see what does not leak. In *one* layer a token sees the tokens before it through a sum, and a sum does not depend on
# the order of its terms. Shuffle the tokens before $m$ in any way, and the output at $m$ stays the same:
#
# $$
# \begin{aligned}
# o_m[x \circ \pi] &= o_m[x] \\
# \text{if } \pi(m) &= m \text{ and } \pi \text{ maps } \{0, \dots, m-1\} \text{ to itself.}
# \end{aligned}
# $$ (eq-1-7)


# %%
def masked(x: Tensor) -> Tensor:
    """Causal attention of one layer, (B, N, C) -> (B, N, D)."""
    q, k, v = ((x @ projection.T)[:, None] for projection in projections)
    return attend(q, k, v, causal)[:, 0]


def shuffle_before(m: int) -> Tensor:
    """A random order of the first m tokens; the others stay where they are. (B, N)."""
    return torch.cat(
        (torch.rand(1000, m).argsort(dim=-1), torch.arange(m, N).expand(1000, -1)),
        dim=-1,
    )


at_m = [masked(x[each, shuffle_before(m)])[:, m] for m in range(N)]
check("eq. 1.7", torch.stack(at_m, dim=1), masked(x), draws=1000)

# %% [markdown]
# So one layer tells each token *which* tokens come before it, but not in which order. It gives their proportions, not
# their numbers, because an average does not change when every token is there twice:

# %%
twice = torch.cat((x, x), dim=1)[:, torch.randperm(2 * N - 1)]  # all but one, shuffled
twice = torch.cat((twice, x[:, -1:]), dim=1)  # the one that asks comes last
q2, k2, v2 = ((twice @ projection.T)[:, None] for projection in projections)
doubled = attend(q2, k2, v2, attention_mask(2 * N, 2 * N))[:, 0]
check("eq. 1.5, each token twice", doubled[:, -1], masked(x)[:, -1], draws=1000)

# %% [markdown]
# The tokens before it are enough here: in *dog bites man* the set before `bites` holds `dog`, in *man bites dog* it holds
# `man`, and so a single causal layer does tell the two sentences apart.

# %%
from rope_lab.figures.table import table

ours, theirs = (by_word(sentence, causal=True) for sentence in orders)
changes = (theirs - ours).norm(dim=1) / ours.norm(dim=1)
table(zip(words, changes, strict=True), {"output for": "", "changes by": ".0%"})

# %% [markdown]
# From the second layer on, the bag is open: what an earlier token passes on depends on which tokens it has itself seen.
# How much does the last output of an untrained model move when the tokens before it are shuffled?

# %%
from rope_lab import RoFormer, RoFormerConfig


def last_output(depth: int, ids: Tensor) -> Tensor:
    torch.manual_seed(0)
    model = RoFormer(RoFormerConfig(50, dim=C, depth=depth, heads=2, position="none"))
    for weight in model.blocks.parameters():
        if weight.ndim == 2:  # larger than at first: attention is not even
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    with torch.no_grad():
        return model.hidden(ids)[:, -1]


ids = torch.randint(50, (1000, N))
shuffled_ids = ids[each, shuffle_before(N - 1)]
rows = []
for depth in (1, 2, 4, 8):
    straight, shuffled = last_output(depth, ids), last_output(depth, shuffled_ids)
    rows.append((depth, (shuffled - straight).norm() / straight.norm()))
table(rows, {"layers": "", "last output moves by": ".1%"})

# %% [markdown]
# What the mask gives away first is a bag for each token. That `bites` comes right after `dog` in a longer text has to be
# inferred by comparing such bags, in later layers. An encoding spares the model that work. (Spared work is not always a
# gain: in small tasks, on texts longer than the trained ones, {cite:t}`kazemnejad2023` found NoPE ahead of four encodings.)
#
# ## Three doors
#
# A position can enter by three doors, and nearly every encoding in this book uses one of them. (NoPE uses none; RoPER, in
# chapter 14, rotates the values too.)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four boxes from left to right: embeddings x, queries and keys q and k, scores s, weights and output. An arrow enters the first from above, marked embed: learned, sinusoidal. One enters the second, marked rotate: RoPE. One enters the third, marked bias: T5, ALiBi."}, "figure": {"caption": "Add a vector to the embeddings, turn the queries and keys, or add a number to the scores. The further right the door, the closer it is to the decision who attends to whom.", "name": "fig-three-doors"}}
from rope_lab.figures.why import three_doors

three_doors()

# %% [markdown]
# | door | what enters | who |
# |---|---|---|
# | `embed` | $x_m + p_m$, a vector for each position | learned {cite:p}`gehring2017`, sinusoidal {cite:p}`vaswani2017` |
# | `rotate` | $R_m q_m$ and $R_n k_n$, where $R_m$ is a rotation for each position (chapter 3) | RoPE {cite:p}`su2021` |
# | `bias` | $\operatorname{score}(m, n)/\sqrt D + b_{m-n}$, a number for each distance | ALiBi {cite:p}`press2022`; T5 {cite:p}`raffel2020`, which leaves out $\sqrt D$ |
#
# In most models the first door is passed once, before the first layer, and the other two in *every* layer and head,
# because each of them computes scores of its own.
#
# In `rope_lab` the doors are methods of one class, also called its *hooks*. An encoding fills the one it needs and inherits
# the others, which do nothing (`length` is there for chapter 11):

# %%
from rope_lab import NoPE, PositionEncoding
from rope_lab.figures.source import source

source(PositionEncoding.embed, PositionEncoding.rotate, PositionEncoding.bias)

# %% [markdown]
# Here is a whole encoding: one learned number for each distance. This is the idea of T5, without the “buckets” in which T5
# groups large distances.


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
# A model takes any of them through one argument, `position=`:

# %%
from rope_lab import LearnedEmbedding, SinusoidalEmbedding


class OneLayer(nn.Module):
    """One causal attention layer. ids (B, N) -> logits (B, N, 16)."""

    def __init__(self, position: PositionEncoding) -> None:
        super().__init__()
        self.position = position
        self.embedding = nn.Embedding(16, 64)
        self.attention = MultiHeadAttention(
            64, heads=1, position=position.in_attention(), bias=True
        )
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
# An encoding is **relative** if a score, with its bias if it has one, does not change when both positions are shifted by
# the same $t$. With $\operatorname{score}(m, n)$ for the score of one query and one key when they are at positions $m$ and
# $n$,
#
# $$ \operatorname{score}(m + t,\, n + t) = \operatorname{score}(m, n) \qquad \text{for every } t . $$ (eq-1-8)
#
# RoPE has the property, and so has a bias on distances. How RoPE gets it is the subject of chapter 3.

# %%
here = torch.arange(N)
there = here + 77


def rope_scores(positions: Tensor) -> Tensor:
    rotated_q, rotated_k = RotaryEmbedding(D)(q, k, positions=positions)
    return rotated_q @ rotated_k.mT


check("eq. 1.8, RoPE", rope_scores(there), rope_scores(here), draws=1000)

random_bias = DistanceBias(32)
nn.init.normal_(random_bias.table)
check(
    "eq. 1.8, distance bias",
    random_bias.bias(q, k, there, there),
    random_bias.bias(q, k, here, here),
)

# %% [markdown]
# A vector added to the embedding does not guarantee it. The score is then an inner product of two sums, so it has four
# terms:
#
# $$
# \begin{aligned}
# \langle W_q (x_m + p_m),\, & W_k (x_n + p_n) \rangle \\
# = {} & \langle W_q x_m, W_k x_n \rangle + \langle W_q x_m, W_k p_n \rangle \\
# & {} + \langle W_q p_m, W_k x_n \rangle + \langle W_q p_m, W_k p_n \rangle .
# \end{aligned}
# $$ (eq-1-9)

# %%
w_q, w_k, _ = projections
p = torch.randn(1000, N, C)


def inner(a: Tensor, b: Tensor) -> Tensor:  # (B, N, C) twice -> (B, N, N)
    return (a @ w_q.T) @ (b @ w_k.T).mT


four_terms = inner(x, x) + inner(x, p) + inner(p, x) + inner(p, p)
check("eq. 1.9", inner(x + p, x + p), four_terms, draws=1000)

# %% [markdown]
# The first term knows no position. The other three know $m$, or $n$, or both, and nothing makes them depend on $m - n$. A
# model can *learn* vectors $p$ whose last term comes close to it, for the positions it was trained on.
#
# You can see the difference. Put the same token at every position, so that only positions can make scores differ, and draw
# the map of scores:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four square maps of scores, query position against key position. None: one flat colour. Learned: noise. Sinusoidal: a woven pattern that changes from place to place. RoPE: stripes along the diagonals."}, "figure": {"caption": "Scores of one token with itself at 32 positions, untrained, with the same projections in all four maps (each map has a colour scale of its own). Relative means striped: along a diagonal the distance is the same, and so is the score. Learned and sinusoidal vectors give no stripes: “three tokens back” looks different from place to place.", "name": "fig-score-maps"}}
from rope_lab.figures.why import score_maps

torch.manual_seed(4)
one_token = torch.randn(1, 1, 64).expand(1, 32, 64)
one_w_q, one_w_k = torch.randn(2, 64, 64) / 8


@torch.no_grad()
def score_map(encoding: PositionEncoding) -> Tensor:
    if isinstance(encoding, LearnedEmbedding):
        nn.init.normal_(encoding.table.weight)  # as large as the token's vector
    at = torch.arange(32)
    embedded = encoding.embed(one_token, at)[None]  # (B, H, N, C) with one head
    q, k, _ = encoding.rotate(embedded @ one_w_q, embedded @ one_w_k, embedded, at)
    return (q @ k.mT)[0, 0]


score_maps(
    {
        name: score_map(encodings[name]())
        for name in ("none", "learned", "sinusoidal", "RoPE")
    }
)

# %% [markdown]
# Why prefer stripes?
#
# - **Where a text begins is an accident.** Training cuts a long text into segments anywhere. The grammar does not care
#   where the cut fell; an absolute position does.
# - **A rule is learned once.** $N$ positions have $N^2$ pairs $(m, n)$, but only $2N - 1$ distances. What a relative
#   encoding learns about *three back* at one position holds at all positions.
# - **Positions run out.** A learned table has no row beyond its last. A distance of three is a distance of three even at
#   position ten million.
#
# ## Experiment: three back
#
# The task is as simple as the point it makes: at every position, name the token three positions earlier. The sequences are
# random, so content gives no hint. Train `OneLayer` with each encoding on positions 0 to 31, and test it on new sequences
# of the same length whose positions are all shifted. Every distance is the same as in training.

# %%
import torch.nn.functional as F

length = 32
at_once = torch.arange(length)


def three_back(ids: Tensor) -> Tensor:
    """For each token the position to be copied from; below 0, there is none. (B, N) -> (B, N)."""
    return (at_once - 3).expand(len(ids), -1)


def draw(generator: torch.Generator, count: int, rule) -> tuple[Tensor, Tensor, Tensor]:
    """Random sequences, the tokens to name, and where there is one to name, (B, N) each."""
    ids = torch.randint(16, (count, length), generator=generator)
    copied_from = rule(ids)
    return ids, ids.gather(1, copied_from.clamp(min=0)), copied_from >= 0


def train(position: PositionEncoding, rule=three_back, updates: int = 200) -> OneLayer:
    model = OneLayer(position).float()
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(updates):
        ids, target, there_is = draw(generator, 32, rule)
        loss = F.cross_entropy(model(ids, at_once)[there_is], target[there_is])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


@torch.no_grad()
def accuracy(model: OneLayer, shift: int = 0, rule=three_back) -> float:
    ids, target, there_is = draw(torch.Generator().manual_seed(1), 200, rule)
    correct = model(ids, at_once + shift).argmax(dim=-1) == target
    return correct[there_is].double().mean().item()


shifts = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256]
accuracies = {}
for name, make in encodings.items():
    torch.manual_seed(0)
    trained = train(make())
    accuracies[name] = [accuracy(trained, shift) for shift in shifts]
for name, values in accuracies.items():
    assert values[0] > 0.98 or name == "none"  # the text below says so
rows = [(name, *values) for name, values in accuracies.items()]
columns = {"encoding": ""} | {f"+{shift}": ".0%" for shift in shifts}
table(rows, columns, caption="Tokens copied correctly, by shift of all positions.")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Fraction of tokens copied correctly against the shift of all positions, for five encodings. RoPE and distance bias stay at the top at every shift. Learned falls from the top to the level of no positions as the shift approaches 32. Sinusoidal falls and partly recovers. None is low throughout."}, "figure": {"caption": "Five models trained on the same rule and tested at shifted positions. The relative encodings (RoPE, distance bias) apply the rule at every shift tested. The learned table fails on tokens at positions for which it was never trained. Without positions, a single layer can only guess from the bag of tokens.", "name": "fig-shifted"}}
from rope_lab.figures.why import shifted

ends = {name: values[-1] for name, values in accuracies.items()}
ends |= {"RoPE": 1.03, "distance bias": 0.96, "learned": 0.15, "none": 0.24}
shifted(shifts, accuracies, trained=length, beside=ends)

# %% [markdown]
# The four encodings that know positions all solve the task where they were trained. As the shift grows, the learned table
# fails on one token after another, because each in turn moves beyond the last row that was trained. The sinusoidal
# encoding recovers in part: its vectors are made of waves, and chapter 2 shows which part of {eq}`eq-1-9` is relative after
# all.
#
# Note what was *not* tested. The shifted sequences have the length of the training sequences, so no new distance occurs. A
# longer text has new distances, and with those a relative encoding has its own troubles (chapter 11).
#
# ## Why a turn and not a bias
#
# In this experiment the bias is as good as RoPE, and it is simpler. Why does this book turn vectors?
#
# A bias of this kind adds the same number whatever the tokens say. An attention weight is a factor for content,
# $\exp(\operatorname{score}/\sqrt D)$, times a factor for distance, $\exp(b_{m-n})$, which is the same for all queries;
# the softmax then only divides by their sum. A turn acts on the query itself, so that each query can bring a preference of
# its own: this token looks three back, that one five. Test it with a second task, where the token at $m$ says how far to
# look back: its number modulo 4, plus 3. As a control, add the bias of {cite:t}`shaw2018`, whose number depends on the
# query too.

# %%
from rope_lab.encodings import Shaw


def as_the_token_says(ids: Tensor) -> Tensor:
    return at_once - (ids % 4 + 3)


solved = {}
for name, encoding in (
    ("RoPE", RotaryEmbedding(64)),
    ("distance bias", DistanceBias(32)),
    ("Shaw", Shaw(64)),
):
    torch.manual_seed(0)
    solved[name] = accuracy(train(encoding, as_the_token_says), rule=as_the_token_says)
assert min(solved["RoPE"], solved["Shaw"]) > 0.98  # the text below says so
assert solved["distance bias"] < 0.5
table(solved.items(), {"encoding": "", "tokens copied correctly": ".0%"})

# %% [markdown]
# One head with one bias for all queries does not manage it, since the bias cannot prefer distance 3 for one query and 5
# for another. Shaw's bias can, but it has to compute a number for each *pair* of tokens. RoPE turns each query and each
# key, before they meet. So a turned key can be cached, and an attention kernel that knows only queries, keys and values
# can be used as it is.
#
# A bias has advantages as well: in chapter 14, ALiBi copies correctly further beyond the trained length than RoPE does.
#
# ## What goes wrong: position of the wrong axis
#
# A tensor of embeddings has shape `(B, N, C)`: batch, tokens, width. Here is how a university course looked up positions
# in its code, until a reader noticed the mistake
# ([anlp-fall2025-code#1](https://github.com/cmu-l3/anlp-fall2025-code/issues/1)):


# %%
class WrongAxis(LearnedEmbedding):
    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        wrong = torch.arange(x.size(0)).unsqueeze(1)  # correct: size(1), unsqueeze(0)
        return x + self.table(wrong)  # (B, N, C) + (B, 1, C)


# %% [markdown]
# Axis 0 is the batch. Every token of a sequence gets the same vector, that of the sequence's index in the batch, and
# broadcasting hides it: no error, a loss that falls, a model that reads bags. Equation {eq}`eq-1-3` is the test that finds
# it. Take the causal mask away and shuffle the tokens; **a model that knows positions must not be equivariant.** With the
# mask the test sees nothing, because the mask alone breaks {eq}`eq-1-3` (second column):


# %%
@torch.no_grad()
def order_sense(position: PositionEncoding, causal: bool = False) -> float:
    """How far outputs change beyond the shuffle itself; 0 where the layer sees a bag."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(
        64, heads=2, position=position.in_attention(), causal=causal
    )
    x, at, order = torch.randn(8, 32, 64), torch.arange(32), torch.randperm(32)
    straight = layer(position.embed(x, at))
    shuffled = layer(position.embed(x[:, order], at))
    return ((shuffled - straight[:, order]).norm() / straight.norm()).item()


tested = {
    "RoPE": RotaryEmbedding(32),
    "learned": LearnedEmbedding(32, 64),
    "learned, wrong axis": WrongAxis(32, 64),
    "none": NoPE(),
}
rows = []
for name, encoding in tested.items():
    rows.append((name, order_sense(encoding), order_sense(encoding, causal=True)))
table(
    rows,
    {"encoding": "", "without a mask": ".1e", "with a causal mask": ".1e"},
    caption="How far the outputs change beyond the shuffle.",
)

# %% [markdown]
# The same mistake happens with RoPE, where it is the head axis that passes for the sequence axis. Then the query and
# the key of head $h$ are both rotated by the angle of position $h$, and by {eq}`eq-1-8` the two rotations cancel: the
# model falls back to the leak of its causal mask.

# %%
heads_third = torch.randn(2, 1000, N, 8, D)  # queries and keys as (B, N, H, D)
# it takes (B, H, N, D), so heads pass for tokens
wrong_q, wrong_k = RotaryEmbedding(D)(*heads_third)
check(
    "rotation over the heads changes no score",
    torch.einsum("bmhd,bnhd->bhmn", wrong_q, wrong_k),
    torch.einsum("bmhd,bnhd->bhmn", *heads_third),
    draws=1000,
)

# %% [markdown]
# It happened to good teams. OpenLM trained and released models with it, through a default of xFormers
# ([open_lm#4](https://github.com/mlfoundations/open_lm/issues/4),
# [xformers#841](https://github.com/facebookresearch/xformers/issues/841)). Since those weights were trained that way, the
# corrected code had to keep the mistake as an option
# ([open_lm#5](https://github.com/mlfoundations/open_lm/pull/5)). In another repository it affected the baseline that a new
# method was compared with, and the experiments had to be run again
# ([TPA#4](https://github.com/tensorgi/TPA/issues/4)).
#
# Does a check of shapes help? Only half. The cell above ran, because a tensor does not say which of its axes is which.
# If you pass your positions, however, their number can be compared with the axis that is taken for the sequence:

# %%
rows = []
for tokens, heads in ((10, 8), (8, 8)):
    for given in (None, torch.arange(tokens)):
        try:
            RotaryEmbedding(D)(*torch.randn(2, 4, tokens, heads, D), positions=given)
            verdict = "accepted"
        except ValueError as error:
            verdict = f"ValueError: {error}"
        rows.append(
            (
                f"{tokens} tokens, {heads} heads",
                "no" if given is None else "yes",
                verdict,
            )
        )
table(rows, ["tensor (B, N, H, D)", "positions passed", "RotaryEmbedding says"])

# %% [markdown]
# With as many heads as tokens nothing is noticed even then. The test that does not depend on such luck is the one above:
# take the mask away, shuffle tokens, and see whether the model notices.
#
# ## Summary
#
# - Attention is permutation-equivariant: without positions and mask a text is a bag of tokens, at any depth. With a causal
#   mask, one layer tells each token which tokens came before it, but not in which order.
# - A position enters at the embeddings, at the queries and keys, or at the scores. A relative encoding gives a query
#   and a key at the same distance the same score wherever they are, so a rule learned at one position holds at all.
# - A number per distance says the same to every query; a turn lets each query choose its distance.
#
# ## Exercises
#
# ```{exercise-start}
# :label: ex-01-1
# ```
#
# Write `is_order_blind(layer, x)`: does `layer`, a map from `(B, N, C)` to `(B, N, C)`, see a bag of tokens? Use
# {eq}`eq-1-3`.

# %%
from rope_lab.exercises.ch01 import check_is_order_blind


def is_order_blind(layer, x: Tensor) -> bool:
    return None  # your turn


check_is_order_blind(is_order_blind)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-01-1
# :label: sol-01-1
# ```


# %%
def is_order_blind(layer, x: Tensor) -> bool:
    tokens = torch.arange(x.shape[1])
    # a swap and a circular shift: every order is made of these two
    orders = torch.cat((tokens[:2].flip(0), tokens[2:])), tokens.roll(1)
    return all(torch.allclose(layer(x[:, pi]), layer(x)[:, pi]) for pi in orders)


check_is_order_blind(is_order_blind)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-01-2
# ```
#
# Write `causal_mean(v)`: the outputs of a causal head that attends equally to every visible token, for values `v`
# of shape `(N, D)`. Use neither a loop nor a mask. Applied to the values of {eq}`eq-1-6`, it should return $1/(m+1)$.

# %%
from rope_lab.exercises.ch01 import check_causal_mean


def causal_mean(v: Tensor) -> Tensor:
    return None  # your turn


check_causal_mean(causal_mean)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-01-2
# :label: sol-01-2
# ```


# %%
def causal_mean(v: Tensor) -> Tensor:
    return v.cumsum(dim=0) / torch.arange(1, len(v) + 1, dtype=v.dtype)[:, None]


check_causal_mean(causal_mean)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-01-3
# ```
#
# Write `distance_bias(table, q_positions, k_positions)`: the term that a causal model with several heads adds to
# its scores. `table` has shape `(H, M)`, one number per head and distance. Entry $(h, a, b)$ of the result is
# `table[h, distance]`, where the distance is `q_positions[a] - k_positions[b]`; take distance 0 where that is below 0, and
# distance $M - 1$ where it is above.

# %%
from rope_lab.exercises.ch01 import check_distance_bias


def distance_bias(table, q_positions, k_positions) -> Tensor:
    return None  # your turn: shape (H, N_q, N_k)


check_distance_bias(distance_bias)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-01-3
# :label: sol-01-3
# ```


# %%
def distance_bias(table, q_positions, k_positions) -> Tensor:
    distance = q_positions[:, None] - k_positions[None, :]
    return table[:, distance.clamp(0, table.shape[1] - 1)]


check_distance_bias(distance_bias)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-01-4
# ```
#
# "A causal layer knows the order of its text, even without an encoding." Refute it for one layer. Write
# `twin(tokens)`: for a text of token ids, shape `(N,)`, another text of the same length for which the output at the
# *last* token is the same, whatever the weights of the layer are. Return `None` where there is no such text.

# %%
from rope_lab.exercises.ch01 import check_twin


def twin(tokens: Tensor) -> Tensor | None:
    return None  # your turn: integers, shape (N,), or None


check_twin(twin)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-01-4
# :label: sol-01-4
# ```
#
# By {eq}`eq-1-7` the tokens before the last may be in any order. Nothing else may change: the last token asks the
# question, and the sums in {eq}`eq-1-5` give each token as often as it is there. So exchange two different tokens
# before the last; if all of them are the same, there is no other text.


# %%
def twin(tokens: Tensor) -> Tensor | None:
    different = (tokens[:-1] != tokens[0]).nonzero().flatten()
    if len(different) == 0:
        return None
    order = torch.arange(len(tokens))
    order[0], order[different[0]] = different[0], 0
    return tokens[order]


check_twin(twin)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-01-5
# ```
#
# While a model writes, it keeps the keys and values of the tokens it has read, and computes queries for the new
# tokens only. `attend_last` below should be causal attention for that case: `q` of shape `(N_q, D)` are the queries
# of the *last* $N_q$ positions, `k` and `v` of shape `(N_k, D)` the keys and values of all $N_k \ge N_q$ positions.
# It passed its tests, which used whole texts. Correct it.

# %%
from rope_lab.exercises.ch01 import check_attend_last


def attend_last(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.T / q.shape[-1] ** 0.5
    visible = torch.ones(len(q), len(k), dtype=torch.bool).tril()
    return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ v


check_attend_last(attend_last)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-01-5
# :label: sol-01-5
# ```
#
# Row $a$ of the mask is the query at position $N_k - N_q + a$, not at position $a$. In a whole text both are the
# same. With a single new token the mask of the page hides every key but the first.


# %%
def attend_last(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.T / q.shape[-1] ** 0.5
    visible = torch.ones(len(q), len(k), dtype=torch.bool).tril(len(k) - len(q))
    return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ v


check_attend_last(attend_last)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-01-6
#
# A colleague trains a causal language model without any position encoding. Its loss is as low as that of the same
# model with RoPE. "So positions are useless", she says. What does her model have in their place? Which three
# measurements would you ask for before you agree? (This question has no checker.)
# ```
#
# ````{solution} ex-01-6
# :label: sol-01-6
#
# It has the causal mask, which by {eq}`eq-1-6` can tell it its position and by {eq}`eq-1-5` tells each token which
# tokens came before it. So her model is not one without positions; it is one that had to find them. Some measurements
# that would tell more:
#
# - *Without the mask.* Train both models on a task in which every token sees every other. By {eq}`eq-1-3` the one
#   without an encoding then reads bags.
# - *Where it comes from.* Shuffle the tokens before the last one, and see by how much the last output moves after one
#   layer, two layers, and so on. By {eq}`eq-1-7` the first layer cannot notice. That costs depth which the other
#   model has for other things.
# - *A text that hides the leak*, such as one token repeated many times, or a rule such as *copy the token 200 back*.
# - *Longer texts.* The average of {eq}`eq-1-6` changes by about $1/m^2$ from one position to the next, so far
#   positions are hard to tell apart. Whether that harms is a question for a measurement; the chapter quotes one in
#   which it did not.
#
# And two questions about the comparison itself: does each of the two models have a learning rate chosen for it, and
# how far apart are two runs of the same model?
# ````
#
# ## References
#
# - {cite:t}`vaswani2017`: the transformer, and why it has to be told positions.
# - {cite:t}`shaw2018`: a relative encoding for it; {cite:t}`dai2019` write out the four terms of {eq}`eq-1-9`.
# - {cite:t}`haviv2022` and {cite:t}`kazemnejad2023`: what causal models know without an encoding.
# - {cite:t}`raffel2020` and {cite:t}`press2022`: a bias for each distance, learned and fixed.
# - {cite:t}`gehring2017`: vectors for positions that are learned.
# - {cite:t}`su2021`: RoPE, which chapter 3 derives.
#
# Full entries are on the page {doc}`/book/references`.
