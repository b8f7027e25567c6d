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
# (chapter-attention)=
# # 07 · RoPE in attention
#
# A chat model has read a prompt of eight tokens. Their keys and values are in a cache, and four more tokens arrive in a
# tensor of their own. **At which positions are the four, and what has to be rotated again?**
#
# Each square below is the score of one query (row) and one key (column); the darker the square, the nearer the key seems to
# be. Faint rows were computed by the first call. An outline marks a wrong distance, and orange a key that seems to be
# *ahead* of its query. Here the new tokens count from 0, as a tensor by itself suggests. Move the cut between the two
# calls. Then let the new tokens continue to count where the cache ends:

# %% tags=["hide-input"]
from rope_lab.figures.pieces import pieces

pieces()

# %% [markdown]
# If the new tokens continue to count where the cache ends, the cut changes nothing. If they start again at 0, every distance
# to a cached key is too small by the length of the cache. The distances among the new tokens are correct in both cases, so
# a test with an empty cache cannot see the mistake.
#
# ## Two scores by hand
#
# RoPE takes the coordinates of a query or key in pairs and turns pair $i$ of the token at position $m$ by the angle
# $m\theta_i$; all these turns together are the rotation $R_m$. Let a head have a single pair that makes a quarter turn per
# token. The keys $(3, 4)$ at position 0 and $(1, 1)$ at position 1 are
# in the cache as $(3, 4)$ and, after a quarter turn, $(-1, 1)$. The query $(1, 2)$ arrives at position 2; half a turn makes
# it $(-1, -2)$, and the scores are $-3 - 8 = -11$ and $1 - 2 = -1$. At position 0 it would stay $(1, 2)$, with the scores
# 11 and 1: the signs are wrong, and no error is raised.

# %%
import math

import torch
from torch import Tensor

from rope_lab import angles, frequencies, rotate
from rope_lab.verify import check, check_at_most

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # checks then show the 16th digit
torch.manual_seed(7)


def turn(x: Tensor, positions: Tensor, freqs: Tensor) -> Tensor:
    """Token after token of x (..., N, D) to its position (N,)."""
    return rotate(x, angles(positions, freqs, dtype=torch.float64))


quarter = torch.tensor([math.pi / 2])
hand_keys = turn(torch.tensor([[3.0, 4], [1, 1]]), torch.arange(2), quarter)
hand_query = turn(torch.tensor([[1.0, 2]]), torch.tensor([2]), quarter)
check("two scores by hand", hand_query @ hand_keys.mT, [[-11.0, -1.0]])

# %% [markdown]
# ## What a cache keeps
#
# In a layer with RoPE, the output of a head at position $m$ is
#
# $$
# \begin{aligned}
# o_m &= \sum_{n \le m} w_{mn}\, v_n , \\
# w_{mn} &\propto \exp \frac{\langle R_m q_m,\, R_n k_n \rangle}{\sqrt D} .
# \end{aligned}
# $$ (eq-7-1)
#
# A causal mask hides later tokens, so $v_n$ and the rotated key $R_n k_n$ are final as soon as token $n$ has been read. They
# are computed once and kept. (Without the mask only those of the first layer are final: the others come from outputs that
# change with every new token.) A later call projects and rotates its own tokens only, at positions that start from the
# number of tokens in the cache; nothing in the cache is rotated again. For any cut at $a$, a layer, and therefore a stack of
# layers, gives the new tokens what a single pass gives them:
#
# $$ f(x_{a}, \dots, x_{b} \mid \text{cache}) = f(x_0, \dots, x_b)_{a, \dots, b} . $$ (eq-7-2)
#
# One layer against the first equation, and a model with random weights, 24 tokens and 50 random sequences of cuts against the
# second:

# %%
from rope_lab import MultiHeadAttention, RoFormer, RoFormerConfig, RotaryEmbedding

one_head = MultiHeadAttention(32, 1, position=RotaryEmbedding(32))
seen, its_freqs = torch.randn(24, 32), frequencies(32)
hand_q, hand_k = (
    turn(project(seen), torch.arange(24), its_freqs)
    for project in (one_head.query, one_head.key)
)
exponentials = (hand_q @ hand_k.mT / 32**0.5).exp().tril()
check(
    "eq. 7.1",
    one_head.weights(seen[None])[0, 0],
    exponentials / exponentials.sum(-1, keepdim=True),
)


def model_with(position: str, **fields) -> RoFormer:
    """Two layers with random weights, larger than those a training starts from."""
    torch.manual_seed(1)
    config = RoFormerConfig(32, dim=64, depth=2, heads=4, position=position, **fields)
    model = RoFormer(config)
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=1.5 * weight.shape[1] ** -0.5)
    return model.eval().requires_grad_(False)


def in_pieces(model: RoFormer, ids: Tensor, cuts: list[int]) -> Tensor:
    """Logits of ids (B, N) read piece by piece with one cache."""
    cache = model.new_cache(ids.shape[1])
    return torch.cat(
        [model(part, cache=cache) for part in ids.tensor_split(cuts, 1)], 1
    )


roped, text = model_with("rope"), torch.randint(32, (2, 24))
cuts = [torch.randperm(23)[:4].sort().values + 1 for _ in range(50)]
check(
    "eq. 7.2",
    torch.stack([in_pieces(roped, text, cut.tolist()) for cut in cuts]),
    roped(text).expand(50, -1, -1, -1),
    draws=50,
)

# %% [markdown]
# The argument used that $R_n$ never changes. A scaling whose frequencies follow the length of the text breaks it (chapter 15),
# and so does the fading factor of xPos, if its centre moves (chapter 10).
#
# ### Rows of unequal length
#
# A batch is a rectangle and texts are not. The gap can be filled on the left or on the right, or with another text. In each
# case a mask has to hide what does not belong to the text. Is the mask enough, or do the positions matter as well? The same
# ten tokens, alone and in seven arrangements, with RoPE and, as a control, with sinusoidal positions added to the embeddings:

# %%
from rope_lab.figures.table import table

ten, five = text[:1, :10], text[1:, :5]  # a text, and five tokens that are not its own
later = text[:1, 10:11]  # the token after the ten
real = torch.tensor([[False] * 5 + [True] * 10])
own = real.long().cumsum(-1) - 1  # 0, 1, 2, … from the first real token
both = torch.tensor([[0] * 5 + [1] * 10])  # two documents in one row
restart = torch.cat((torch.arange(5), torch.arange(10)))


def largest_error(model: RoFormer) -> list[float]:
    alone, next_alone = model(ten), model(torch.cat((ten, later), 1))[:, -1:]
    left, right = torch.cat((five, ten), 1), torch.cat((ten, five), 1)

    def then_one(position: int) -> Tensor:
        cache = model.new_cache(16)
        model(right, mask=real.flip(-1), cache=cache)
        return model(later, positions=[position], cache=cache) - next_alone

    errors = [
        model(left, mask=real)[:, 5:] - alone,
        model(left, mask=real, positions=own.clamp(min=0))[:, 5:] - alone,
        then_one(15),
        then_one(10),
        model(left, segments=both)[:, 5:] - alone,
        model(left, segments=both, positions=restart)[:, 5:] - alone,
        model(left)[:, 5:] - alone,
    ]
    return [float(error.abs().max()) for error in errors]


arrangements = [
    "padded left, padding counts",
    "padded left, each text from 0",
    "padded right, next token at 15",
    "padded right, next token at 10",
    "packed, positions run on",
    "packed, each text from 0",
    "packed, positions run on, no mask",
]
rope_errors = largest_error(roped)
summed_errors = largest_error(model_with("sinusoidal"))
for row in (0, 1, 3, 4, 5):
    check(f"same as alone, {arrangements[row]}", rope_errors[row], 0.0)
table(
    zip(arrangements, rope_errors, summed_errors, strict=True),
    {"ten tokens": "", "RoPE": ".0e", "sinusoidal": ".0e"},
    caption="Largest change of a logit, compared with the ten tokens alone.",
)

# %% [markdown]
# With RoPE the number at which a text *starts* does not matter, since its scores know differences only; the control needs
# positions from 0. But a gap *within* a text changes the output with RoPE too. After padding on the right, the next token is in
# column 15, yet at position 10 of its text; with its column as its position it is five tokens too far from all others. So give
# such rows positions of their own: `positions` of shape `(B, N)`, or one `offset` per row in `RotaryEmbedding`.
#
# ## Where the rotation belongs
#
# ### Not on the embeddings
#
# Chapter 3 rotates embeddings instead of queries and keys and finds that scores change when all positions shift. With $A =
# W_q^\top W_k$, such a score is $x_m^\top R_m^\top A R_n x_n$ (see {eq}`eq-3-26`), and the blame was put on $A$, which has to
# commute with the rotations and does not. Here is the control. Replace each $2 \times 2$ block of $A$ on the diagonal by the
# nearest multiple of a rotation and all other blocks by zero. What is left, $\bar A$, commutes with every $R_t$ (chapter 2), and
#
# $$ R_{m+t}^\top\, \bar A\, R_{n+t} = R_m^\top\, \bar A\, R_n . $$ (eq-7-3)

# %%
C, D, H, N = 64, 16, 4, 24  # width, head dimension, heads, tokens
x = torch.randn(2, N, C)
at, wide = torch.arange(N), frequencies(C)


def relative_part(A: Tensor) -> Tensor:
    """The part of A (C, C) that commutes with every rotation of its pairs."""
    kept = torch.zeros_like(A)
    for j in range(0, len(A), 2):
        (a, b), (c, d) = A[j : j + 2, j : j + 2].tolist()
        kept[j : j + 2, j : j + 2] = torch.tensor([[a + d, b - c], [c - b, a + d]]) / 2
    return kept


def embedding_scores(A: Tensor, shift: int) -> Tensor:
    turned = turn(x, at + shift, wide)
    return turned @ A @ turned.mT


def change(after: Tensor, before: Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((after - before).norm() / before.norm())


A = torch.randn(C, C) / C  # of one head as wide as the model
A_bar = relative_part(A)
check("eq. 7.3", embedding_scores(A_bar, 1000), embedding_scores(A_bar, 0))
table(
    [
        [name, free, change(embedding_scores(M, 1000), embedding_scores(M, 0))]
        for name, free, M in (("A", C * C, A), ("its relative part", C, A_bar))
    ],
    {"matrix": "", "free numbers": ",d", "change": ".0e"},
    caption="Change of the scores of rotated embeddings, shifted by 1,000, over their norm.",
)

# %% [markdown]
# This confirms the cause: with a commuting matrix, the scores of rotated embeddings are as relative as those of rotated
# queries and keys. But a layer would have to give up most of $A$ for it. If the rotation comes *after* the projections,
# nothing is in between, and both projections are free.
#
# ### Not on the values, or back again
#
# A rotation is cheap, so why not rotate the values too? The output would be
#
# $$ \sum_n w_{mn}\, R_n v_n = R_m \sum_n w_{mn}\, R_{n-m}\, v_n , $$ (eq-7-4)
#
# a relative sum, turned by the absolute position of the reader. The factor $R_m$ does not cancel: $W_o$ and the layers above
# would get a vector that depends on where the text starts. *RoPER* turns the output back by $R_m^\top$ and keeps the
# sum {cite:p}`labml2020`. With RoPE only the weights depend on the distance; with RoPER the values that arrive do, too.

# %%
w = torch.randn(N, N).softmax(-1)
v, freqs = torch.randn(N, D), frequencies(D)
differences = (at - at[:, None]).flatten()  # n − m for every m and n
by_difference = turn(v.repeat(N, 1), differences, freqs).view(N, N, D)
relative_sum = torch.einsum("mn,mnd->md", w, by_difference)
values_turned = w @ turn(v, at, freqs)
check("eq. 7.4", values_turned, turn(relative_sum, at, freqs))
check("eq. 7.4, turned back", turn(values_turned, -at, freqs), relative_sum)

# %% [markdown]
# ### In every head
#
# Rotating all $C$ coordinates of a query *before* they are cut into heads also keeps scores relative. But then each head has a
# slice of one spectrum, as the row of all frequencies is called: the first head the fastest pairs and the last one the
# slowest. With the rotation after the cut, every head has fast and slow pairs. Here are all these places in one table, for a
# layer with random weights that reads the same vectors at other positions: all moved by 1,000, or all doubled, which doubles
# the distances too.

# %%
from rope_lab import PositionEncoding
from rope_lab.encodings import RotaryValueEmbedding


class ValuesTurned(RotaryEmbedding):
    """Queries, keys and values are rotated; the output is not turned back."""

    def rotate(self, q, k, v, positions, length=None):
        q, k = self(q, k, positions=positions)
        return q, k, self(v, v, positions=positions)[0]


class BeforeTheCut(PositionEncoding):
    """All heads together are rotated as one vector."""

    def rotate(self, q, k, v, positions, length=None):
        def whole(t: Tensor) -> Tensor:  # (B, H, N, D)
            joined = t.transpose(1, 2).flatten(-2)  # (B, N, C)
            turned = turn(joined, positions, frequencies(joined.shape[-1]))
            return turned.unflatten(-1, (t.shape[1], -1)).transpose(1, 2)

        return whole(q), whole(k), v


def layer_with(position: PositionEncoding | None) -> MultiHeadAttention:
    torch.manual_seed(2)
    layer = MultiHeadAttention(C, H, position=position)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=1.5 * C**-0.5)
    return layer.requires_grad_(False)


places = {
    "queries and keys": RotaryEmbedding(D),
    "all heads as one": BeforeTheCut(),
    "values too": ValuesTurned(D),
    "values too, turned back": RotaryValueEmbedding(D),
    "nothing": None,
}


def reading(position: PositionEncoding | None):
    layer = layer_with(position)
    return lambda positions: layer(x, positions=positions)


outputs = {name: reading(position) for name, position in places.items()}
blind = layer_with(None)
outputs["embeddings"] = lambda positions: blind(turn(x, positions, wide))
rows = [
    [name, *(change(out(to), out(at)) for to in (at + 1000, at * 2))]
    for name, out in outputs.items()
]
for name, moved, _ in rows:
    if name not in ("values too", "embeddings"):
        check_at_most(f"relative, {name}", moved, 1e-11)
for h in (0, H - 1):
    cut = 2 * math.pi / wide[h * D // 2 : (h + 1) * D // 2]
    print(f"cut afterwards, head {h}: {cut[0]:,.0f} to {cut[-1]:,.0f} tokens per turn")
table(
    rows,
    {"rotated": "", "moved by 1,000": ".0e", "doubled": ".0e"},
    caption="Change of a layer's output over its norm, random weights.",
)

# %% [markdown]
# An encoding that is relative, and sees distances, has a small number in the first column and a large one in the second. Which of
# the three is best, random weights cannot say.
#
# ### An experiment: shift what has been learned
#
# Does the absolute trace in the values do harm, or does a model learn to live with it? Models of one layer with the rotation in
# four places learn to repeat eight random tokens. They are trained at positions 0 to 14 and then read texts at other positions.
# All have the same learning rate and 100 updates, and three seeds each. We compare each model with itself at shift 0; which
# place learns fastest is another question, for which each would need a learning rate of its own.

# %%
from torch.nn.functional import cross_entropy


class EmbeddingTurned(PositionEncoding):
    def embed(self, x, positions):
        table = angles(positions, frequencies(x.shape[-1]))
        return rotate(x, table[0] if table.ndim == 4 else table)


def repeat_loss(model: RoFormer, once: Tensor, shift: int = 0) -> Tensor:
    """Loss of the second reading of once (B, 8)."""
    ids = once.repeat(1, 2)[:, :-1]
    logits = model(ids, positions=torch.arange(15) + shift)
    return cross_entropy(logits[:, 7:].mT, once)


def trained(position: PositionEncoding, seed: int, furthest: int = 0) -> RoFormer:
    """Each batch begins at 0, or at a random position up to the furthest."""
    torch.manual_seed(seed)
    config = RoFormerConfig(16, context=16, dim=32, depth=1, heads=2)
    model = RoFormer(config, position).float()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        start = int(torch.randint(furthest + 1, ())) if furthest else 0
        loss = repeat_loss(model, torch.randint(16, (16, 8)), start)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


makers = {
    "queries and keys": lambda: RotaryEmbedding(16),
    "values, turned back": lambda: RotaryValueEmbedding(16),
    "values too": lambda: ValuesTurned(16),
    "embeddings": EmbeddingTurned,
}
shifts = (0, 1, 4, 16, 100, 1000)
probe = torch.randint(16, (64, 8), generator=torch.Generator().manual_seed(0))
losses = {}
for name, make in makers.items():
    models = [trained(make(), seed) for seed in range(3)]
    with torch.no_grad():
        runs = [[repeat_loss(m, probe, shift) for shift in shifts] for m in models]
    losses[name] = torch.tensor(runs)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against the shift of all positions, from 0 to 1,000, three lines for each of four places of the rotation. Queries and keys, and values turned back: six flat lines at about 1 or below. Values without turning back: near 0 at shift 0 and above a guess from 100 on. Embeddings: between 0.2 and 2.3 at shift 0, near a guess at 1,000."}, "figure": {"caption": "Models of one layer after 100 updates at positions 0 to 14, read at shifted positions (three seeds each). With the rotation on queries and keys, and with RoPER, the lines are flat: the shift is invisible. With values that are not turned back the models learn the task too, but are worse than a guess at a shift of 100 or more. Turning the output back is the only difference between the two. What the models with rotated embeddings have learned, which is more or less by seed, is lost with the shift as well.", "name": "fig-shifted-learned"}}
from rope_lab.figures.attention import shifted

shifted(shifts, losses, math.log(16))

# %%
for name in ("queries and keys", "values, turned back"):
    kept = losses[name][:, :1].expand(-1, len(shifts))
    check(
        f"no shift is seen, {name}",
        losses[name],
        kept,
        tolerance=1e-3,
        reason="rounding",
    )

# %% [markdown]
# Is the harm in the trace, or in the few positions of the training? Train the models whose values are not turned back again,
# now with every batch at another start between 0 and 1,000:

# %%
wide_shifts = (0, 100, 1000, 3000)
anywhere = [trained(ValuesTurned(16), seed, furthest=1000) for seed in range(3)]
with torch.no_grad():
    rows = [[repeat_loss(m, probe, shift) for shift in wide_shifts] for m in anywhere]
at_shifts = torch.tensor(rows)
within = (at_shifts[:, 1:3] - at_shifts[:, :1]).abs()
check_at_most("values too, shifted within the training", within, 0.25)
check_at_most(
    "values too, worse than a guess at 3,000", math.log(16), at_shifts[:, 3].min()
)
table(
    [[f"seed {seed}", *row] for seed, row in enumerate(rows)],
    {"values too": ""} | {f"shifted by {shift:,}": ".2f" for shift in wide_shifts},
    caption="Loss of models that were trained at random positions up to 1,014.",
)

# %% [markdown]
# Within these positions a shift changes the loss by less than a quarter of a nat now, so a model can learn to live with the
# trace. But at 3,000 all three are worse than a guess again. With RoPE and RoPER, the positions 0 to 14 were enough.
#
# ### In every layer?
#
# No equation demands it. A layer without positions sees a bag of vectors (chapter 1), but these vectors may come from layers that
# did see positions. In the records of chapter 16, small models without RoPE in every second layer end with a higher loss; for every
# fourth layer, three seeds do not decide. Such layers have a section of their own below.
#
# ## Part of a head
#
# Many models rotate only $R$ of the $D$ coordinates. *Partial rotation* treats the first $R$ coordinates as a small head, with
# frequencies $b^{-2i/R}$ (the field `rotary_dim` of `RoFormerConfig`). *p-RoPE* keeps the frequencies of the whole head and
# turns only the share $p$ of pairs with the highest {cite:p}`barbero2025` (`proportion`). On one spectrum the difference is
# plain, since
#
# $$ b^{-2i/R} = b^{-2 (i D/R) / D} = \theta_{i D/R} . $$ (eq-7-5)
#
# If $R$ divides $D$, partial rotation keeps every $(D/R)$-th pair of the whole head, and p-RoPE the first $R/2$ pairs:

# %%
from rope_lab.encodings import PRoPE

full, partial = frequencies(128), frequencies(32)
check("eq. 7.5", partial, full[::4])
fastest, _ = PRoPE(0.25)(full, 0)  # the others get frequency 0
check("p-RoPE", fastest, torch.cat((full[:16], torch.zeros(48))))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three rows of dots over wavelengths from 6 to 54,000 tokens. Full: 64 filled dots. Partial, R = 32: 16 filled dots, every fourth one, over nearly the whole range. p-RoPE, p = 1/4: the 16 fastest filled, up to about 54 tokens. The other dots are hollow."}, "figure": {"caption": "A head of 128 coordinates, b = 10,000. Both schemes turn 16 of 64 pairs (filled) and leave 48 to content alone (hollow). Partial rotation keeps nearly the whole range of wavelengths, more coarsely; p-RoPE ends at some 54 tokens. The dashed line is the length for which turns are counted below.", "name": "fig-kept-pairs"}}
from rope_lab.figures.attention import kept_pairs

waves = 2 * math.pi / full
every_fourth = torch.arange(64) % 4 == 0
kept_pairs(
    {
        "all pairs": (waves, []),
        "partial": (waves[every_fourth], waves[~every_fourth]),
        "p-RoPE": (waves[:16], waves[16:]),
    },
    4096,
)

# %% [markdown]
# Both leave 96 coordinates whose part of a score does not depend on the distance. Partial rotation takes them from fast and slow
# pairs in equal shares. p-RoPE takes the slowest, which turn least anyway, and has no slow pair left:

# %%
for name, spectrum in {"partial": partial, "p-RoPE": full[:16]}.items():
    turns = 2 * math.pi / spectrum  # tokens per turn
    done = int((turns <= 4096).sum())
    print(f"{name}: slowest pair {turns[-1]:,.0f} tokens per turn;", end=" ")
    print(f"{done} of {len(turns)} complete a turn in 4,096 tokens")

# %% [markdown]
# Which one is better is a matter of training. For a Gemma of 2 billion parameters the authors report a slightly lower
# perplexity for p-RoPE than for partial rotation at $p = 0.75$ {cite:p}`barbero2025`; this book has not repeated that. With
# $p = 0.25$, as drawn here, they report a higher perplexity than with all pairs, and small models in chapter 16 have a higher
# loss, too.
#
# ## Layers without positions
#
# RNoPE leaves the rotation out of some layers {cite:p}`yang2025`. SmolLM3 does so in every fourth layer, and so does Llama 4, which
# calls it iRoPE and lets its other layers see no further than their chunk of 8,192 tokens. In `RoFormerConfig` it is the
# field `nope_every`. To a layer without positions a key at distance 100,000 looks like a key next door. But like every softmax
# over all keys, its softmax is shared by more of them as the text grows. If one key has the scaled score $a$ (after the
# division by $\sqrt D$) and $l - 1$ others have 0, its weight is
#
# $$ w = \frac{\mathrm{e}^{a}}{\mathrm{e}^{a} + l - 1} , $$ (eq-7-6)
#
# which falls with $l$, because $a$ does not depend on it. Llama 4 multiplies the queries of these layers by a factor, called a
# temperature, that is 1 at first and then grows in steps:
#
# $$ \kappa_m = 1 + 0.1 \ln \big( 1 + \lfloor (m + 1) / 8192 \rfloor \big) . $$ (eq-7-7)

# %%
from rope_lab.encodings import StepTemperature

steps = StepTemperature(8192)
places_of_steps = torch.tensor([0, 8190, 8191, 100_000, 10_000_000])
by_formula = [1 + 0.1 * math.log(1 + (int(m) + 1) // 8192) for m in places_of_steps]
check("eq. 7.7", steps(places_of_steps), torch.tensor(by_formula))


def weight_of_match(count: int, factor: float, a: float = 12.0) -> float:
    scores = torch.zeros(count)
    scores[0] = a * factor
    return float(scores.softmax(-1)[0])


lengths = (1000, 10_000, 100_000, 1_000_000)
plain = [weight_of_match(n, 1.0) for n in lengths]
check("eq. 7.6", plain, [math.exp(12) / (math.exp(12) + n - 1) for n in lengths])
factors = [float(steps(torch.tensor([n - 1]))) for n in lengths]
table(
    [
        [n, kappa, *(weight_of_match(n, x, a) for a in (12, 8) for x in (1.0, kappa))]
        for n, kappa in zip(lengths, factors, strict=True)
    ],
    {"keys": ",d", "κ": ".2f"}
    | {f"a = {a}{how}": ".3f" for a in (12, 8) for how in ("", ", with κ")},
    caption="Weight of one key with scaled score a among keys with score 0.",
)

# %% [markdown]
# With $a = 12$ the temperature keeps the weight above 0.97; with $a = 8$ it falls all the same, only later. For
# $\mathrm{e}^{a\kappa}$ contains the factor $(1 + \lfloor (m + 1) / 8192 \rfloor)^{0.1 a}$, which grows as fast as the number of
# keys if $a = 10$, and more slowly below that. The temperature acts on the query alone, so the cache is not affected. But
# with it, a layer's output depends on the position at which the text starts. The field `nope_temperature` gives it to the
# layers that `nope_every` picks. Without it, such a model is as relative as one with RoPE in every layer:

# %%
mixed = model_with("rope", nope_every=2)
kinds = [type(block.attention.position).__name__ for block in mixed.blocks]
print("positions by layer:", ", ".join(kinds))
afar = torch.arange(24) + 1000
unmoved = mixed(text)
check("nope_every", mixed(text, positions=afar), unmoved, tolerance=1e-10)
warm = model_with("rope", nope_every=2, nope_temperature=8)
warmer = change(warm(text, positions=afar), warm(text))
print(
    f"with a temperature in steps of 8, a shift by 1,000 changes logits by {warmer:.0%}"
)

# %% [markdown]
# ## A smaller cache: latent attention
#
# A cache of keys and values grows by $2 H_k D$ numbers per token and layer, with $H_k$ heads of keys. Multi-head latent
# attention (MLA), introduced with DeepSeek-V2 {cite:p}`deepseek2024v2` and used in V3 {cite:p}`deepseek2024v3`, stores a
# single short vector instead, the *latent* $c_n$ with $L$ coordinates. From it every head makes its keys and values:
#
# $$
# \begin{aligned}
# c_n &= \operatorname{norm}(W_c\, x_n) , \\
# k_n &= W_k\, c_n , \qquad v_n = W_v\, c_n .
# \end{aligned}
# $$ (eq-7-8)
#
# Does decoding then have to form all keys again at each step? No, because in a score the matrix can change sides:
#
# $$ \langle q_m,\, W_k\, c_n \rangle = \langle W_k^\top q_m,\, c_n \rangle . $$ (eq-7-9)
#
# Per step and head, $W_k^\top$ is applied to one query, and the latents themselves are the keys of all heads. The key projection
# has been *absorbed* into the query. In the same way, $\sum_n w_{mn} W_v c_n = W_v \sum_n w_{mn} c_n$.
#
# Now rotate the keys. The score is
#
# $$
# \langle R_m q_m,\, R_n W_k\, c_n \rangle
# = \langle W_k^\top R_{m-n}\, q_m,\, c_n \rangle ,
# $$ (eq-7-10)
#
# and $R_{m-n}$ is stuck between $W_k^\top$ and $q_m$: every distance needs an absorbed query of its own, which is as much work as
# forming every key. If you ignore this and absorb $W_k$ into the rotated query, the scores are wrong:

# %%
L = 32
W_k = torch.randn(H, D, L) / L**0.5
q, c = torch.randn(H, N, D), torch.randn(N, L)
keys = c @ W_k.mT  # (H, N, D)
absorbed = (q @ W_k) @ c.mT  # no key is formed
check("eq. 7.9", absorbed, q @ keys.mT)

rotated = turn(q, at, freqs) @ turn(keys, at, freqs).mT
m, n = 20, 3
one_query = W_k.mT @ turn(q[:, m], torch.tensor(m - n).expand(H), freqs)[..., None]
check("eq. 7.10", (one_query[..., 0] @ c[n]), rotated[:, m, n])

latent_freqs = frequencies(L)
guesses = {
    "without RoPE": (absorbed, q @ keys.mT),
    "RoPE, W_k absorbed anyway": ((turn(q, at, freqs) @ W_k) @ c.mT, rotated),
    "RoPE, latents rotated instead": (
        turn(q @ W_k, at, latent_freqs) @ turn(c, at, latent_freqs).mT,
        rotated,
    ),
}
table(
    [[name, change(*pair)] for name, pair in guesses.items()],
    {"scores": "", "relative error": ".1e"},
    caption="Absorbed scores compared with scores of keys that were formed.",
)

# %% [markdown]
# Is the order of $R_n$ and $W_k$ really the cause? The control is a $W_k$ for which the order does not matter. Give the latent a
# rotation $R'_n$ of its own. Where $W_k$ takes each pair of the key only from latent pairs of the *same* frequency, and by a
# turn and a stretch, that is, by a complex number,
#
# $$
# \begin{aligned}
# R_n W_k &= W_k R'_n , \\
# \langle R_m q_m,\, R_n W_k\, c_n \rangle &= \langle W_k^\top R_m q_m,\, R'_n c_n \rangle .
# \end{aligned}
# $$ (eq-7-11)

# %%
pairs = D // 2
same_frequency = torch.arange(pairs)[:, None] == torch.arange(L // 2) % pairs
z = torch.randn(H, pairs, L // 2, dtype=torch.complex128) * same_frequency
W_same = torch.stack((z.real, -z.imag, z.imag, z.real), -1).unflatten(-1, (2, 2))
W_same = W_same.transpose(2, 3).reshape(H, D, L)  # rows and columns in pairs
twice = freqs.repeat(L // D)  # θ' of the latent pairs
straight = turn(q, at, freqs) @ turn(c @ W_same.mT, at, freqs).mT
check("eq. 7.11", (turn(q, at, freqs) @ W_same) @ turn(c, at, twice).mT, straight)

# %% [markdown]
# With such a matrix, absorption works together with RoPE, so the order was the cause. But it has few free numbers, as $\bar A$ had:

# %%
free = 2 * int(same_frequency.sum())
print(f"free numbers per head: {free} of {D * L}")

# %% [markdown]
# DeepSeek's answer is to keep the rotation away from the latent. A head gets $D$ coordinates of content without any
# rotation, and $R$ further ones that are rotated and whose key $k^{\mathrm r}_n$ is projected from $x_n$ directly, one key for
# all heads (*decoupled RoPE*). The score is a sum,
#
# $$
# \langle W_k^\top q_m,\, c_n \rangle + \langle R_m q^{\mathrm r}_m,\, R_n k^{\mathrm r}_n \rangle ,
# $$ (eq-7-12)
#
# divided by $\sqrt{D + R}$. The first term is absorbed and the second is ordinary RoPE. The cache holds $c_n$ and
# $R_n k^{\mathrm r}_n$, which is $L + R$ numbers. `LatentAttention` is this layer. Here it is written out, in the absorbed form:

# %%
from rope_lab import LatentAttention

R = 8
mla = LatentAttention(C, H, latent_dim=L, position=RotaryEmbedding(R))
mla.requires_grad_(False)
q_both = mla.query(x).unflatten(-1, (H, D + R)).transpose(1, 2)  # (B, H, N, D + R)
latents, k_shared = mla.down(x)[:, None].split([L, R], dim=-1)  # (B, 1, N, L), (…, R)
latents = mla.norm(latents)
up_k, up_v = mla.up.weight.unflatten(0, (H, 2 * D)).split(D, dim=1)  # (H, D, L) each
of_content = (q_both[..., :D] @ up_k) @ latents.mT
few = frequencies(R)
of_shared = turn(q_both[..., D:], at, few) @ turn(k_shared, at, few).mT
future = torch.ones(N, N, dtype=torch.bool).triu(1)
masked = ((of_content + of_shared) / (D + R) ** 0.5).masked_fill(future, -torch.inf)
by_head = (masked.softmax(-1) @ latents) @ up_v.mT  # (B, H, N, D)
written_out = mla.out(by_head.transpose(1, 2).flatten(-2))

whole = mla(x, absorb=False)  # forms every key and value
check("eq. 7.12, keys formed", whole, written_out)
check("eq. 7.12, absorbed", mla(x, absorb=True), written_out)
cache = mla.new_cache(N)
one_by_one = [mla(token, cache=cache) for token in x.split(1, dim=1)]
check("eq. 7.12, token by token", torch.cat(one_by_one, 1), whole)
later_on = mla(x, positions=at + 1000)
check("eq. 7.12, shifted by 1,000", later_on, whole, tolerance=1e-11)

# %% [markdown]
# :::{admonition} When absorbing pays
# :class: note dropdown
#
# To form a key and a value costs $L (D + D_v)$ multiplications per key and head, where $D_v$ is the width of a value. Absorbing
# costs the same per *query*, but its scores and sums have $2L + R$ multiplications for each query and key instead of
# $D + R + D_v$. Where $2L$ is larger than $D + D_v$, absorbing is therefore the cheaper form for few new tokens and many keys,
# and forming keys for many new tokens. `absorb=None` chooses by this count.
# :::

# %% tags=["hide-input"]
latent_dim, head, shared = 512, 128, 64  # DeepSeek-V3
extra = 2 * latent_dim + shared - (2 * head + shared)
limit = latent_dim * 2 * head / extra
print(f"sizes of DeepSeek-V3, very many keys: up to {int(limit)} new tokens")

# %% [markdown]
# ### What a token costs
#
# Heads can also share keys and values: several query heads one head of keys (grouped-query attention, GQA), or all of them
# the only one (multi-query attention, MQA), instead of one each (multi-head attention, MHA). To count without a formula, hand
# each layer a cache that notes what it is given. The sizes are those of DeepSeek-V3 ($C = 7168$, $H = D = 128$, $L = 512$,
# $R = 64$), with two bytes per number. The device `meta` has shapes but no memory:

# %%
from rope_lab import KVCache


class Noting(KVCache):
    numbers = 0  # per token

    def append(self, k, v, *args, **named):
        self.numbers = (k.numel() + v.numel()) // (k.shape[0] * k.shape[-2])
        return super().append(k, v, *args, **named)


def numbers_per_token(make) -> int:
    with torch.device("meta"):
        noting = Noting(4)
        make()(torch.empty(1, 4, 7168), cache=noting)
    return noting.numbers


def grouped(kv_heads: int):
    rope = RotaryEmbedding(128)
    return lambda: MultiHeadAttention(
        7168, 128, head_dim=128, kv_heads=kv_heads, position=rope
    )


def latent() -> LatentAttention:
    rope = RotaryEmbedding(64)
    return LatentAttention(7168, 128, latent_dim=512, head_dim=128, position=rope)


kinds_of_cache = {
    "all heads (MHA)": grouped(128),
    "8 key heads (GQA)": grouped(8),
    "1 key head (MQA)": grouped(1),
    "latent (MLA)": latent,
}
numbers = {name: numbers_per_token(make) for name, make in kinds_of_cache.items()}
check(
    "2 · H_k · D and L + R",
    list(numbers.values()),
    [2 * 128 * 128, 2 * 8 * 128, 2 * 128, 512 + 64],
)
table(
    [[name, 2 * count, count / 256] for name, count in numbers.items()],
    {"cache": "", "bytes per token": ",d", "in key heads": ".2f"},
    caption="One layer, two bytes per number; last column: in units of a key head "
    "with its values.",
)

# %% [markdown]
# The 2.25 for latents is the number in the paper {cite:p}`deepseek2024v2`. (Not counted are a position and a document id per
# token, which `KVCache` keeps too, 8 bytes each.)

# %%
smaller = 4096 * numbers["8 key heads (GQA)"] / numbers["latent (MLA)"]
print(
    f"8 key heads with a window of 4,096: smaller than latents from {smaller:,.0f} tokens on"
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Size of one layer's cache against the length of a text, both on logarithmic scales from 1,000 to a million tokens. Four lines: all heads highest, then 8 key heads, then latent, all rising in proportion; a window of 4,096 with 8 key heads rises with them at first and is flat from 4,096 tokens on."}, "figure": {"caption": "The cache of one layer of this size, in bfloat16. Fewer key heads, or latents, only lower the line: the cache still grows in proportion to the text. A window of 4,096 tokens makes it flat, and from about 15,000 tokens on it is the smallest of the four; but the layer no longer sees what is further away (chapter 12).", "name": "fig-cache-sizes"}}
from rope_lab.figures.attention import caches

tokens = torch.logspace(3, 6, 100)
per_token = {name: 2 * count for name, count in numbers.items() if "MQA" not in name}
sizes = {name: tokens * count for name, count in per_token.items()}
sizes["8 key heads, window"] = tokens.clamp(max=4096) * per_token["8 key heads (GQA)"]
caches(tokens, sizes)

# %% [markdown]
# ## In the wild: half of the decoupled coordinates
#
# Ling-2.6-flash mixes layers of linear attention (without a softmax), whose heads of 128 coordinates rotate half of them, with MLA layers, whose 64
# decoupled coordinates all rotate. One field of its config, `partial_rotary_factor=0.5`, was read for both kinds, so that only 32 of
# the 64 rotated in the MLA layers ([vllm#41185](https://github.com/vllm-project/vllm/pull/41185)). No shape is wrong, and the
# scores are still relative, so a test of shifts passes:

# %%
q_r, k_r = torch.randn(2, 1, 1, 200, 64)
right, half_turned = RotaryEmbedding(64), RotaryEmbedding(32)


def shared_scores(rope: RotaryEmbedding, offset: int = 0) -> Tensor:
    turned_q, turned_k = rope(q_r, k_r, offset=offset)
    return turned_q @ turned_k.mT


check(
    "the bug is relative",
    shared_scores(half_turned, 1000),
    shared_scores(half_turned),
    tolerance=1e-10,
)
wrong = change(shared_scores(half_turned), shared_scores(right))
still = (half_turned(q_r, k_r, offset=500)[0] == q_r).all(dim=(0, 1, 2)).sum()
print(f"scores differ by {wrong:.0%} of their norm; {still} coordinates never move")

# %% [markdown]
# To find this bug, ask which coordinates move. (In `LatentAttention`, `shared_dim` has to ask for shared coordinates that do not
# rotate.)
#
# ## Summary
#
# - A key is rotated once and cached rotated. A later call has to know where its tokens are in their own text. Behind a mask,
#   packing, padding on the left and the position of a text's first token do not matter.
# - Queries and keys are rotated after the projections, so that no matrix is between the two rotations. Values that are rotated
#   have to be turned back.
# - A cache of latents puts a matrix between the two again. Decoupled RoPE rotates other coordinates, and the matrix is absorbed.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-07-1
# ```
#
# Each layer of a model stores `widths[l]` numbers per token, and keeps `windows[l]` tokens at most, or all of them where that
# is `None`. There is room for `memory` numbers. Write `tokens_that_fit(memory, widths, windows)`: the number of tokens of the
# longest text whose cache fits. At least one layer has no window.

# %%
from rope_lab.exercises.ch07 import check_tokens_that_fit


def tokens_that_fit(memory: int, widths: list, windows: list) -> int:
    return None  # your turn


check_tokens_that_fit(tokens_that_fit)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-07-1
# :label: sol-07-1
# ```
#
# The cache of a text of $N$ tokens has $\sum_l \mathrm{widths}_l \cdot \min(N, \mathrm{windows}_l)$ numbers, which grows with $N$.


# %%
def tokens_that_fit(memory: int, widths: list, windows: list) -> int:
    def held(tokens: int) -> int:
        layers = zip(widths, windows, strict=True)
        return sum(w * min(tokens, most or tokens) for w, most in layers)

    tokens = 0
    while held(tokens + 1) <= memory:
        tokens += 1
    return tokens


check_tokens_that_fit(tokens_that_fit)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-07-2
# ```
#
# Write `relative_values(w, v, freqs)`, the right side of {eq}`eq-7-4` without its factor $R_m$: row $m$ of the result is
# $\sum_n w_{mn} R_{n-m} v_n$. The weights `w` have shape `(N, N)`, the values `v` shape `(N, D)`; pairs are interleaved, and
# positions count from 0.

# %%
from rope_lab.exercises.ch07 import check_relative_values


def relative_values(w: Tensor, v: Tensor, freqs: Tensor) -> Tensor:
    return None  # your turn: shape (N, D)


check_relative_values(relative_values)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-07-2
# :label: sol-07-2
# ```
#
# Turn each value by its own position, sum, and turn the sum back by the position of the query. That takes $2N$ rotations, where
# the formula as it is written has $N^2$.


# %%
def relative_values(w: Tensor, v: Tensor, freqs: Tensor) -> Tensor:
    where = torch.arange(len(v))
    return turn(w @ turn(v, where, freqs), -where, freqs)


check_relative_values(relative_values)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-07-3
# ```
#
# `absorbed_scores` should return the scaled scores of {eq}`eq-7-12`, shape `(H, N, N)`, without forming a key. The inputs are
# `q` of shape `(H, N, D)`, the rotated `q_r` of shape `(H, N, R)`, the latents `c` of shape `(N, L)`, the rotated shared keys
# `k_r` of shape `(N, R)`, and `W` of shape `(H, D, L)`. No shape is wrong and no error is raised. Correct the code.

# %%
from rope_lab.exercises.ch07 import check_absorbed_scores


def absorbed_scores(
    q: Tensor, q_r: Tensor, c: Tensor, k_r: Tensor, W: Tensor
) -> Tensor:
    query = torch.cat((q @ W, q_r), dim=-1)  # (H, N, L + R)
    key = torch.cat((c, k_r), dim=-1)  # (N, L + R)
    return query @ key.mT / math.sqrt(query.shape[-1])


check_absorbed_scores(absorbed_scores)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-07-3
# :label: sol-07-3
# ```
#
# Absorption changes how a score is computed and not what it is. The divisor is that of the layer, $\sqrt{D + R}$, although the
# vectors now have $L + R$ coordinates. A fused kernel that divides by the root of the width that it is given does the same.


# %%
def absorbed_scores(
    q: Tensor, q_r: Tensor, c: Tensor, k_r: Tensor, W: Tensor
) -> Tensor:
    query = torch.cat((q @ W, q_r), dim=-1)  # (H, N, L + R)
    key = torch.cat((c, k_r), dim=-1)  # (N, L + R)
    return query @ key.mT / math.sqrt(q.shape[-1] + q_r.shape[-1])


check_absorbed_scores(absorbed_scores)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-07-4
# ```
#
# "A key projection can never be absorbed if the keys are rotated." Equation {eq}`eq-7-11` says otherwise. When is there such a
# matrix? Write `carrier(freqs, latent_freqs)`: a real `W` of shape `(D, L)`, not zero, with $R_n W = W R'_n$ for all $n$, where
# $R_n$ turns interleaved pairs with `freqs`, shape `(D/2,)`, and $R'_n$ with `latent_freqs`, shape `(L/2,)`. All frequencies are
# above 0 and at most 1. Return `None` where there is none.

# %%
from rope_lab.exercises.ch07 import check_carrier


def carrier(freqs: Tensor, latent_freqs: Tensor) -> Tensor | None:
    return None  # your turn: shape (D, L), or None


check_carrier(carrier)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-07-4
# :label: sol-07-4
# ```
#
# Look at the block of $W$ from latent pair $j$ to key pair $i$. Every $2 \times 2$ block is a sum of two parts: $z \mapsto a z$
# with a complex number $a$, and $z \mapsto b \bar z$, which contains a mirror. The condition reads $\mathrm{e}^{\mathrm{i} n
# \theta_i} a = a\, \mathrm{e}^{\mathrm{i} n \theta'_j}$ for the first and $\mathrm{e}^{\mathrm{i} n \theta_i} b = b\,
# \mathrm{e}^{-\mathrm{i} n \theta'_j}$ for the second. With $n = 1$ and frequencies above 0 and at most 1, the first holds with $a \ne
# 0$ only if $\theta_i = \theta'_j$, and the second only with $b = 0$. So there is a $W$ exactly if a frequency occurs in both.


# %%
def carrier(freqs: Tensor, latent_freqs: Tensor) -> Tensor | None:
    W = torch.zeros(2 * len(freqs), 2 * len(latent_freqs))
    for i, theta in enumerate(freqs.tolist()):
        for j, other in enumerate(latent_freqs.tolist()):
            if math.isclose(theta, other):
                W[2 * i, 2 * j] = W[2 * i + 1, 2 * j + 1] = 1.0
    return W if W.any() else None


check_carrier(carrier)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-07-5
#
# A service keeps the cache of a system prompt of 2,000 tokens, read at positions 0 to 1,999. For some users a preamble of 500
# tokens is to come *before* that prompt. A colleague proposes to reuse the cache: "RoPE is relative, so turn the cached keys by
# $R_{500}$ and append them to the cache of the preamble." What is correct about this, what is not, and what changes with a
# layer without positions, with MLA, and with a window? (This question has no checker.)
# ```
#
# ````{solution} ex-07-5
# :label: sol-07-5
#
# - *Correct:* rotations add, so $R_{500} R_n k_n = R_{n + 500} k_n$, and the turned keys are exactly the rotated keys of the same
#   vectors at the new positions. Without the turn, a preamble at positions 0 to 499 would be *among* the tokens of the prompt.
#   (Reading the preamble at positions −500 to −1 gives the same distances, and no key has to be turned.)
# - *Not correct:* the vectors are not the same. In a full pass the tokens of the prompt attend to the preamble. In the first
#   layer keys and values come from the embeddings alone, and the proposal is exact there. From the second layer on they come
#   from outputs of attention that have never seen the preamble. The result is a model whose prompt cannot read what comes
#   before it; it may be good enough, which is to be measured, but it is not {eq}`eq-7-2`.
# - *Without positions:* there is nothing to turn in such a layer; the same error remains. A temperature acts on queries, which
#   are not cached, so later queries need their new positions. But the prompt's own queries had the temperature of their old
#   positions. Where that differs, so do the outputs of the layer, and the keys of the next one are wrong in another way.
#   (Negative positions are no way out here: from −2 on, the formula of Llama 4 takes the logarithm of 0.)
# - *MLA:* the latents are used as they are, and only the $R$ shared coordinates are turned.
# - *A window* of $W$ tokens hides the preamble from all but the first $W - 1$ tokens of the prompt in the first layer, and a stack
#   carries it one window further per layer (chapter 12). So with narrow windows the later part of the cache is exact.
#
# An experiment: compare the logits after the prompt with those of a full pass, once with the preamble and once with noise in its
# place. If both differences are equally small, the prompt did not need the preamble.
# ````
#
# ## References
#
# - {cite:t}`su2021`: RoPE in every layer and head.
# - {cite:t}`labml2020`: RoPER, whose sum is checked above; its measurements are not repeated.
# - {cite:t}`barbero2025`: p-RoPE; the frequencies are reproduced, the language models are not.
# - {cite:t}`yang2025`: layers without positions. Chapter 16 trains small ones.
# - {cite:t}`deepseek2024v2`, section 2.1, and {cite:t}`deepseek2024v3`, section 2.1.1: latent attention and decoupled RoPE. The
#   layer is reproduced and agrees with that of transformers; the models are not.
#
# Full entries are on the page {doc}`/book/references`.
