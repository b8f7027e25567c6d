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
# (chapter-bugs)=
# # 18 · Bugs in the wild
#
# You replaced the rotation of a model with a faster one. Every shape fits, and nothing raises an error. In 2026 alone, this
# was true of rotations in vLLM, MaxText and transformers that were silently wrong. **How do you find out whether yours
# is?**
#
# Below, one token is repeated twelve times: all queries are the same vector, and so are all keys. Under a correct RoPE
# each diagonal then has one colour, because the score depends on the distance alone, and nothing changes when the text
# moves. The map shows one of four bugs. Choose another one, or none, and then move the text:

# %% tags=["hide-input"]
from rope_lab.figures.fingerprints import fingerprint

fingerprint()

# %% [markdown]
# Three things happen. Two of the bugs spoil the diagonals immediately. One is invisible until the text begins at about
# 250. And with another *base*, the number that sets how fast each pair of coordinates turns, no diagonal is ever uneven and
# no shift changes anything: that map belongs to a correct RoPE, only to that of another model.
#
# This chapter is a museum of real bugs, each reduced to a few lines and sorted by its cause: a pair, two sides,
# positions, memory, number types, settings. For each cause it shows a test that finds it. The exhibits are in
# `rope_lab.doctor.exhibits`, and `rope_lab.doctor.diagnose`, which only *calls* a rotation and never reads its code,
# names each of them.

# %%
import copy
import textwrap

import torch
from torch import Tensor

from rope_lab import RotaryEmbedding, angles, frequencies, rotate
from rope_lab.doctor import KNOWN, Diagnosis, diagnose, exhibits
from rope_lab.doctor.exhibits import EXHIBITS, D, Exhibit
from rope_lab.figures.source import source
from rope_lab.figures.table import table
from rope_lab.verify import check, check_at_most

torch.set_num_threads(1)
torch.manual_seed(18)

museum = [  # what was seen in the code of a project, each with its diagnosis
    (one, diagnose(copy.deepcopy(one.turn), D, **one.options))
    for one in EXHIBITS
    if one.real
]
named = [one.bug in {bug.name for bug in d.bugs} for one, d in museum]
assert all(named)
print(f"{len(museum)} exhibits from real code, of which the doctor names {sum(named)}")


def opinion(diagnosis: Diagnosis) -> None:
    """What the doctor calls wrong, and how to correct it."""
    for bug in diagnosis.bugs:
        for line in (f"{bug.level.upper()}: {bug.says}", f"Fix: {bug.fix}"):
            print(textwrap.fill(line, 88, subsequent_indent="  "))


# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show how the tables are made", "code_prompt_hide": "Hide how the tables are made"}
TESTS = {  # a column of the last figure, and the properties of a diagnosis behind it
    "length": ["norm kept"],
    "shift": ["relative"],
    "own position": ["positions used", "rows of positions", "cached = full"],
    "call order": ["stateless", "input unchanged"],
    "precision": [
        "bfloat16",
        "float16",
        "module.bfloat16()",
        "dtype kept",
        "position 1,000,000",
    ],
}


def failing(diagnosis: Diagnosis) -> list:
    """The properties that fail by a fault, not by what is harmless within bounds."""
    return [
        each
        for each in diagnosis.properties
        if each.holds is False and (not each.bug or KNOWN[each.bug].level == "fault")
    ]


def caught_by(one: Exhibit, diagnosis: Diagnosis) -> tuple[str, float | None]:
    """The test that shows it, with its error."""
    if one.options.get("expected"):
        return "config", None
    if one.bug.endswith("index for position"):
        return "own position", None
    own = [each for each in diagnosis.properties if each.bug == one.bug]
    shifted = [each for each in failing(diagnosis) if each.name == "relative"]
    for each in own or shifted or failing(diagnosis):
        return each.name, each.error or None
    return "its frequencies", None


def relatives(*causes: str, shown: tuple[str, ...] = ()):
    """The exhibits of a cause, without those that are shown above the table."""
    rows = []
    for one, d in museum:
        name = getattr(one.turn, "__name__", type(one.turn).__name__)
        if one.cause in causes and (name not in shown or one.options):
            rows.append((one.bug, one.seen, *caught_by(one, d)))
    return table(rows, {"bug": "", "seen in": "", "caught by": "", "error": ".1g"})


# %% [markdown]
# ## A pair: two coordinates, two angles
#
# Take a head of $D = 4$ coordinates at position 1. The pairs are neighbours and turn by $\theta_0 = 1$ and
# $\theta_1 = 0.01$. In the other common layout (chapter 5) the partner of a coordinate is half a head further on, and code
# that was written for it repeats the row of angles as a whole, $(1, 0.01, 1, 0.01)$. So the first coordinate of pair 0 gets the angle 1 and its partner gets 0.01, and the vector
# $(1, 0)$ becomes $(\cos 1, \sin 0.01) = (0.54, 0.01)$. Almost half of its length is gone.
#
# In general let the two coordinates of a pair turn by $a$ and $b$:
#
# $$
# M = \begin{pmatrix} \cos a & -\sin a \\ \sin b & \cos b \end{pmatrix}, \qquad
# \det M = \cos(a - b) .
# $$ (eq-18-1)
#
# The trace of $M^\top M$ is 2 and its determinant is $\cos^2 (a - b)$, so its eigenvalues are
# $1 \pm |\sin(a - b)|$. A vector is therefore stretched or shrunk between the limits
#
# $$
# 1 - |\sin(a - b)| \;\le\; \frac{\lVert M x \rVert^2}{\lVert x \rVert^2} \;\le\; 1 + |\sin(a - b)| ,
# $$ (eq-18-2)
#
# and both are reached. It is a rotation only if the two angles differ by whole turns; half a turn apart, it is a
# reflection. Here is the exhibit, and its singular values at 200 positions next to the formula:

# %%
source(exhibits.half_tables)

# %%
eye = torch.eye(D, dtype=torch.float64)
freqs = frequencies(D)
some_positions = torch.randint(5000, (200,))
images = torch.stack(
    [exhibits.half_tables(eye, m.expand(D)) for m in some_positions]
)  # row j: what became of unit vector j
twice = (
    torch.cat((freqs, freqs)) * some_positions[:, None]
)  # the table as it is written
a, b = twice[:, 0::2], twice[:, 1::2]
blocks = torch.stack(
    [images[:, 2 * i : 2 * i + 2, 2 * i : 2 * i + 2] for i in range(D // 2)], dim=1
)
check("eq. 18.1", torch.linalg.det(blocks), torch.cos(a - b), draws=200)
sines = torch.sin(a - b).abs()
limits = torch.stack((1 + sines, 1 - sines), dim=-1).sqrt()
check("eq. 18.2", torch.linalg.svdvals(blocks), limits, tolerance=1e-7, draws=200)

print(diagnose(exhibits.half_tables, D))

# %% [markdown]
# A refactoring of transformers did this to the part of Qwen2.5-Omni that turns its codes of speech into sound, in one
# head of every layer ([transformers#47328](https://github.com/huggingface/transformers/issues/47328)). The marks show
# which tests would have found it: lengths change, and scores change with a shift. (*Additive*: the angles at $m$ and $n$
# add up to the angle at $m + n$. *Packed = apart*: two documents in one row are turned as each of them alone. *Cached =
# full*: a token that comes alone is turned as in the whole text.) The relatives of this bug, each with a test that fails
# and its error, relative or, for angles, in radians:

# %%
relatives("pairs", shown=("half_tables",))

# %% [markdown]
# ## Two sides: queries one way, keys the other
#
# Each side may be a perfect rotation and the two may still not fit. If queries turn clockwise and keys
# counter-clockwise, then with $h_i = q_i \bar k_i$ as in chapter 6
#
# $$
# \langle R_{-m}\, q,\, R_n\, k \rangle
# = \operatorname{Re} \sum_i h_i\, \mathrm{e}^{-\mathrm{i}(m + n)\theta_i} .
# $$ (eq-18-3)
#
# The score depends on the *sum* of the positions, and the diagonals of the first figure turn into anti-diagonals. (This
# exhibit is made up; the table has what was seen.)


# %%
def pairs(x: Tensor) -> Tensor:  # half layout: (..., D) -> (..., D/2) complex
    first, second = x.chunk(2, dim=-1)
    return torch.complex(first, second)


q, k = torch.randn(2, 1000, D, dtype=torch.float64)
m, n = torch.randint(4096, (2, 1000))
at_m, at_minus_n = exhibits.clockwise_queries(q, k, m)[0], exhibits.whole(k, n)
by_sum = torch.polar(torch.ones(1000, D // 2).double(), -(m + n)[:, None] * freqs)
h = pairs(q) * pairs(k).conj()
check("eq. 18.3", (at_m * at_minus_n).sum(-1), (h * by_sum).real.sum(-1), draws=1000)
opinion(diagnose(exhibits.clockwise_queries, D))

both_ways = diagnose(lambda x, positions: exhibits.whole(x, -positions), D)
print(f"both clockwise: {both_ways.q.direction}, faults: {len(both_ways.faults)}")
assert both_ways.sound

# %% [markdown]
# If *both* turn clockwise, all scores are those of the distance $n - m$, and nothing is wrong. Somebody proposed to
# correct such a rotation in nanochat; it stayed, because the change would have broken every checkpoint trained with it
# ([nanochat#489](https://github.com/karpathy/nanochat/pull/489)). A direction is a convention of the weights, like a
# layout.
#
# A fused kernel in a fork of SGLang stored the rotated keys in the cache and returned those of the current pass as they
# were. Queries turned, keys did not, and Qwen3-30B-A3B wrote nonsense
# ([kvcache-ai/sglang#31](https://github.com/kvcache-ai/sglang/pull/31)). And two functions of flash-attention have
# opposite layouts by default: whoever takes one for the prompt and the other for the answer, both as they are, compares
# queries of one layout with keys of the other.

# %%
relatives("sides")

# %% [markdown]
# ## Positions: whose number is it?
#
# A token's vector may depend on the token and on *its own* position, and on nothing else (scalings that depend on the
# length break this rule on purpose, chapter 15). For a batch $X$ with positions $m$ and for each of its tokens $l$:
#
# $$ f(X, m)_l = R_{m_l}\, x_l . $$ (eq-18-4)
#
# Megatron-LM took the row of the tensor for the position
# ([Megatron-LM#453](https://github.com/NVIDIA/Megatron-LM/issues/453)). Packed documents, several in one row, count
# from 0 each, and the option for this had no effect on RoPE:

# %%
source(exhibits.row_index)

# %%
packed = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2, 3])  # two documents in one row
queries, keys = torch.randn(2, 1000, len(packed), D, dtype=torch.float64)
second = slice(6, None)


def scores_of(turn, positions: Tensor) -> Tensor:
    return turn(queries, positions) @ turn(keys, positions).mT


wanted = scores_of(exhibits.whole, packed)
got = scores_of(exhibits.row_index, packed)
token_by_token = torch.stack(
    [
        rotate(x[None], angles(at[None], freqs, dtype=x.dtype), "half")[0]
        for x, at in zip(queries[0], packed, strict=True)
    ]
)
check("eq. 18.4", exhibits.whole(queries, packed)[0], token_by_token)
check(
    "eq. 18.4, row index, inside a document",
    got[:, second, second],
    wanted[:, second, second],
    draws=1000,
)
between = (got - wanted)[:, second, :6].std() / wanted[:, second, :6].std()
print(f"between the documents: an error of {between:.0%}")
opinion(diagnose(exhibits.row_index, D))

# %% [markdown]
# So what does it cost? Inside a document, nothing: all its positions are shifted by the same amount, and RoPE forgives
# a shift. If a mask keeps the documents apart, the bug is harmless there. It becomes a bug where *some* tokens are
# counted one way and others another way, and a cache does exactly that: its keys were rotated earlier. An
# implementation of Llama in KerasHub ignored the start index while generating
# ([keras-hub#1544](https://github.com/keras-team/keras-hub/pull/1544)); in unsloth, rows with left padding shared the
# positions of the batch ([unsloth#3795](https://github.com/unslothai/unsloth/pull/3795)).

# %%
text = torch.randn(1000, 12, D, dtype=torch.float64)
ask = torch.randn(1000, 1, D, dtype=torch.float64)  # the query of a thirteenth token
cached = exhibits.whole(text, torch.arange(12))
at_12 = (exhibits.whole(ask, torch.tensor([12])) @ cached.mT).squeeze(1)
rows = []
for place, label in ((13, "one too late"), (0, "restarts at 0")):
    wrong = (exhibits.whole(ask, torch.tensor([place])) @ cached.mT).squeeze(1)
    rows.append((label, ((wrong - at_12).std() / at_12.std()).item()))
everything = exhibits.whole(text, torch.arange(12) + 1)
shifted = (exhibits.whole(ask, torch.tensor([13])) @ everything.mT).squeeze(1)
check("one too late, keys as well", shifted, at_12, draws=1000)
table(
    [*rows, ("one too late, keys as well", (shifted - at_12).std().item())],
    {"the new query is turned": "", "error of its scores": ".0%"},
)

# %%
relatives("positions", shown=("row_index",))

# %% [markdown]
# ## Memory: what an earlier call leaves behind
#
# Cosines and sines can be kept for the next call, and the key under which they are kept can leave something out.
# rotary-embedding-torch once stored them by length and not by offset
# ([rotary-embedding-torch#11](https://github.com/lucidrains/rotary-embedding-torch/issues/11)), so a second call could
# return the angles of the first. The exhibit has the same gap:

# %%
source(exhibits.Forgets.__call__)

# %%
x = torch.randn(1, 1, 4, D, dtype=torch.float64)
fresh = exhibits.Forgets()(x, offset=13)
check("a fresh object is correct", fresh, exhibits.whole(x, torch.arange(13, 17)))
forgets = exhibits.Forgets()
before = forgets(x)
forgets(x, offset=13)  # somebody else's call
print(f"the same call again: changed by up to {(forgets(x) - before).abs().max():.1f}")
opinion(diagnose(exhibits.Forgets(), D))

# %% [markdown]
# The fresh object is correct. What finds this bug is a test that makes *another* call in between. (The last row of the table
# is not a mistake of its authors: Liger-Kernel overwrites its input on purpose, which a caller has to know.)

# %%
relatives("state", shown=("Forgets",))

# %% [markdown]
# ## Number types: too few digits for a position
#
# Chapter 8 counts what bfloat16 leaves of the positions: of 1,024 only 513 are told apart. The line that does it is
# `positions.to(x.dtype)`, or an autocast that nobody sees:

# %%
print("told apart:", len(torch.arange(1024).bfloat16().unique()))
source(exhibits.half_positions)

# %% [markdown]
# For Gemma, a report shows the loss of a training with bfloat16 angles. From the start it is above that of another
# program with float32 angles ([transformers#29285](https://github.com/huggingface/transformers/pull/29285)). KerasHub
# moved its layer to float32 because of such losses of precision ([keras-hub#1508](https://github.com/keras-team/keras-hub/pull/1508)).
# {numref}`fig-bug-costs` has the cost in a small model. A test on float32 tensors sees nothing of it. Neither does one
# on texts of up to 256 tokens, unless the frequencies are rounded as well, which is what autocast did in transformers
# (the last row):

# %%
brief, first_200 = torch.randn(200, D).bfloat16(), torch.arange(200)
for one in (exhibits.whole, exhibits.half_positions, exhibits.half_angles):
    off = one(brief, first_200).float() - exhibits.whole(brief.float(), first_200)
    print(f"{one.__name__:15s}off by up to {off.abs().max():.2f} in 200 tokens")
opinion(diagnose(exhibits.half_positions, D))
relatives("precision", shown=("half_positions",))

# %% [markdown]
# ALiBi, which rotates nothing and lowers each score by a slope times the distance, meets the same rounding. flash-attention
# cast its slopes to float16 together with the module; its kernel, which expects float32, raised an error
# ([flash-attention#845](https://github.com/Dao-AILab/flash-attention/issues/845)). Of the rounding itself the author of the
# correction says that its effect looked negligible. That can be tested without a model: from one key to the next, the bias
# has to change by one slope.

# %%
from rope_lab.encodings import alibi_slopes

source(exhibits.half_slopes)
slopes, spots = alibi_slopes(12), torch.arange(3000, 3200)
biases = {
    "slopes": slopes.half().double()[:, None] * spots,
    "product": exhibits.half_slopes(slopes, spots).double(),
}
for name, bias in biases.items():
    steps = bias.diff() / slopes[:, None]
    same, worst = (steps == 0).double().mean(), (steps - 1).abs().max()
    print(
        f"{name} in float16: {same:.0%} of the steps are 0, they err by up to {worst:.1g}"
    )

# %% [markdown]
# At these positions, rounded slopes are indeed harmless; a product in float16 makes neighbouring keys equal. The doctor
# cannot help here, since it probes rotations.

# %% [markdown]
# ## Settings: the right rotation of another model
#
# All tests so far ask whether something is a RoPE. But any base, any number of rotated coordinates, either layout and either
# direction gives one. Two models of Qwen3.5 rotate a quarter of each head; MaxText dropped that setting on one path
# and rotated all of it ([maxtext#4616](https://github.com/AI-Hypercomputer/maxtext/issues/4616)). No property fails.
# You have to say what you expect, and the doctor compares:

# %%
alone = diagnose(exhibits.whole, D)
part = RotaryEmbedding(D // 4, layout="half")
compared = diagnose(exhibits.whole, D, expected=part)
print("by itself:", alone.faults or "no fault")
assert alone.sound
opinion(compared)

# %% [markdown]
# On the command line the expectation is a config: `rope-lab doctor my_code.py:rotate --config config.json`.
#
# YaRN, which fits a model to longer texts (chapter 15), multiplies cosine and sine by a factor $c$, and so, where whole heads
# rotate, every score by $c^2$. One config gave
# this factor ready-made, and the code took it as something to multiply its own factor with
# ([sglang#33558](https://github.com/sgl-project/sglang/pull/33558)). For an extension by $\rho = 128$,
#
# $$
# c = 0.1 \ln 128 + 1 = 1.485, \qquad c^2 = 2.206 ,
# $$ (eq-18-5)
#
# so whatever rotated coordinates add to a score was 2.2 times too large in the layers with YaRN. (They are half of a
# head there, according to [mlxcel#1347](https://github.com/lablup/mlxcel/issues/1347); the rest of the score was
# correct.) The author reports that the correction brought about 20 points on GSM8K, a set of school problems.

# %%
c = 0.1 * torch.tensor(128.0, dtype=torch.float64).log() + 1
once = rotate(q, angles(m, freqs, dtype=q.dtype), "half", factor=float(c))
key_once = rotate(k, angles(n, freqs, dtype=q.dtype), "half", factor=float(c))
too_large = ((c * once) * (c * key_once)).sum(-1) / (once * key_once).sum(-1)
check("eq. 18.5", too_large, torch.full((1000,), 2.2058).double(), tolerance=1e-4)
relatives("settings")

# %% [markdown]
# ## Conversion: what the doctor cannot see
#
# Suppose the rotation is right and the weights were reordered for it (chapter 5). Whatever has one number for each
# coordinate of a query must move along: biases, the gains of a norm, and the scales of quantised rows. Such a projection is
# stored as whole numbers $Z$ and one scale per row, $W = \operatorname{diag}(z)\, Z$, and with the permutation $P$ of the rows
#
# $$ P W = P\, (\operatorname{diag}(z)\, Z) = \operatorname{diag}(P z)\; P Z . $$ (eq-18-6)
#
# vLLM moved the integers $Z$ of Llama 4 and left the scales $z$ where they were
# ([vllm#34243](https://github.com/vllm-project/vllm/pull/34243)). A model with quantised attention then scored 5.38 on
# GSM8K; with attention left unquantised, it scored 90.90. Until this was found, attention had passed for too sensitive to
# be quantised.

# %%
w = torch.randn(D, 64, dtype=torch.float64) * torch.rand(D, 1).double().add(0.5)
scale = w.abs().amax(-1, keepdim=True) / 127  # (D, 1)
codes = (w / scale).round()  # what is stored as int8
to_half = torch.cat((torch.arange(0, D, 2), torch.arange(1, D, 2)))
moved = scale[to_half] * codes[to_half]
permutation = torch.eye(D, dtype=torch.float64)[to_half]
dense = permutation @ torch.diag(scale.flatten()) @ codes
check("eq. 18.6", moved, dense)
left_behind = scale * codes[to_half]


def loss_of_digits(weight: Tensor) -> float:
    return ((weight - w[to_half]).norm() / w.norm()).item()


table(
    [("moved", loss_of_digits(moved)), ("left behind", loss_of_digits(left_behind))],
    {"scales": "", "error of the projection": ".1%"},
    caption="Rows of random size, quantised to eight bits and reordered.",
)

# %% [markdown]
# A norm over the coordinates of a head divides by their root mean square, which has no order, and multiplies by gains $g$,
# which have one: $P (g \odot x) = Pg \odot Px$.

# %%
gain = torch.rand(D, dtype=torch.float64) + 0.5
sides, m_200 = torch.randn(2, 200, D, dtype=torch.float64), torch.arange(200)


def normed(x: Tensor, gain: Tensor) -> Tensor:
    return gain * x / x.square().mean(-1, keepdim=True).sqrt()


def converted(gain: Tensor) -> Tensor:
    q_half, k_half = exhibits.whole(normed(sides[..., to_half], gain), m_200)
    return q_half @ k_half.mT


q_before, k_before = exhibits.neighbours(normed(sides, gain), exhibits.angle(m_200))
scores_before = q_before @ k_before.mT
check("gains moved along", converted(gain[to_half]), scores_before)
error = (converted(gain) - scores_before).std() / scores_before.std()
print(f"gains left behind: an error of {error:.0%}")
opinion(diagnose(exhibits.norms_left_behind, D))

# %% [markdown]
# The doctor sees gains where the function that it probes contains them, and does not know the order of the weights. In such
# conversions `diagnose` finds no fault, because the rotation is right. What finds it is the comparison of one layer's queries, or
# of the logits for one prompt, before and after. Do not stop at the first few tokens: a wrong layout of both sides, a
# wrong base or a wrong share costs nothing at distance 0 (chapter 5).
#
# ## What a bug costs
#
# A small RoFormer learns to repeat, as in chapter 5: it reads 16 random tokens and then the same 16 again. Give the trained
# model one bug after the other and read 512 new texts. Then train it *with* the bug. With
# *two bases* keys turn with another base than queries; with *new tokens one late* the whole second reading is one position
# too far, as if the tokens in a cache had been miscounted.

# %%
import math

from rope_lab import PositionEncoding, RoFormer, RoFormerConfig


class Turning(PositionEncoding):
    """Queries and keys turned by turn(q, k, positions)."""

    def __init__(self, turn) -> None:
        super().__init__()
        self.turn = turn

    def rotate(self, q, k, v, positions, *_):
        return *self.turn(q, k, positions), v


def alike(turn):
    return lambda q, k, m: (turn(q, m), turn(k, m))


def in_bfloat16(x: Tensor, m: Tensor) -> Tensor:
    return exhibits.whole(x, m.bfloat16())


def new_late(q: Tensor, k: Tensor, m: Tensor) -> tuple[Tensor, ...]:
    m = m + (m > m[15])  # as if the second reading came token by token
    return exhibits.whole(q, m), exhibits.whole(k, m)


shape = {"vocab_size": 16, "context": 32, "dim": D, "depth": 2, "heads": 1}
correct = alike(exhibits.whole)
bugs = {
    "none": correct,
    "half tables": alike(exhibits.half_tables),
    "queries clockwise": exhibits.clockwise_queries,
    "two bases": exhibits.two_bases,
    "layout of other weights": alike(
        lambda x, m: exhibits.neighbours(x, exhibits.angle(m))
    ),
    "half of the head": alike(exhibits.first_part),
    "new tokens one late": new_late,
    "bfloat16 positions": alike(in_bfloat16),
    "bfloat16 positions, from 3,000": alike(lambda x, m: in_bfloat16(x, m + 3000)),
    "YaRN's factor once more": alike(lambda x, m: float(c) * exhibits.whole(x, m)),
}


def texts(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    first = torch.randint(16, (count, 16), generator=generator)
    return first.repeat(1, 2)[:, :-1], first  # (B, 31) and what follows from place 15


def loss_on(model: RoFormer, ids: Tensor, targets: Tensor, start: int = 0) -> Tensor:
    logits = model(ids, positions=torch.arange(31) + start)[:, 15:]
    return torch.nn.functional.cross_entropy(logits.mT, targets)


def with_turn(turn) -> RoFormer:
    torch.manual_seed(0)
    return RoFormer(RoFormerConfig(**shape), Turning(turn))


def train(turn, updates: int = 150) -> RoFormer:
    model, generator = with_turn(turn), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(updates):
        optimiser.zero_grad()
        loss_on(model, *texts(16, generator)).backward()
        optimiser.step()
    return model


@torch.no_grad()
def nats(model: RoFormer, start: int = 0) -> float:
    return loss_on(model, *texts(512, torch.Generator().manual_seed(1)), start).item()


trained = train(correct)
swapped = {}
for name, turn in bugs.items():
    patient = with_turn(turn)
    patient.load_state_dict(trained.state_dict())
    swapped[name] = nats(patient)
from_start = {}
for name in list(bugs)[:5]:
    model = trained if name == "none" else train(bugs[name])
    from_start[name] = nats(model), nats(model, 3000)
guess = math.log(16)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss in nats per token for ten bugs. Squares, for a bug that enters after training: near 0 for none, for bfloat16 positions in a text that begins at 0 and for YaRN's factor once more; close to the dashed line of a guess for two bases; far to the right of it for the others. Dots, for models trained with the bug: near 0 for half tables, two bases and the other layout, between 0 and the guess for clockwise queries. Open dots, the same models read from position 3,000: unchanged for none and the other layout, slightly higher for half tables and clockwise queries, and far to the right for two bases."}, "figure": {"caption": "One model each, 150 updates, 512 new texts. With a bug that enters after training, the loss is mostly above that of a guess (dashed). Trained with a bug, the model can be as good as with none, and then a wrong rotation stays unnoticed until the text is somewhere else (open dots).", "name": "fig-bug-costs"}}
from rope_lab.figures.bugs import costs

costs(swapped, from_start, guess)

# %% [markdown]
# In numbers, with a guess at 2.77 nats:

# %%
rows = [
    (name, loss, *from_start.get(name, (None, None))) for name, loss in swapped.items()
]
columns = {
    "bug": "",
    "after training": ".2f",
    "from the start": ".2f",
    "at 3,000": ".2f",
}
table(rows, columns, caption="Loss in nats per token.")

# %% [markdown]
# Two lessons. A bug that enters with *loading* is mostly loud: look at the loss of a known checkpoint. A bug in
# *training* can be quiet, because the model arranges itself around it. With two bases this one still learns to repeat,
# and it fails when the text begins elsewhere, since its scores depend on the position. (With queries clockwise
# it learns less in as many updates.) With two other seeds the correct model ended above the one with half tables, so
# small differences between the models mean nothing here; what the shift did was the same. So a good loss is not a test
# of the rotation, whereas a shift is one. YaRN's factor costs little here and cost a large model 20 points: one small
# model does not measure what a bug will cost you.
#
# ## Which test sees which bug
#
# Collect the marks of all exhibits that are faults:

# %% tags=["hide-input"] mystnb={"image": {"alt": "A grid of bugs against six tests: length, shift, own position, call order, number types and config. Most rows have one filled cell. Length is filled for the two bugs of tables, shift for these, for the scales of xPos, for keys that do not turn, for two layouts and for coarse angles. Three rows have no filled cell, and the last five are filled in the column of the config alone."}, "figure": {"caption": "Bugs of this museum that were seen in real code, and the tests of the doctor that fail on each. No single test sees more than a part of them. The last column needs to be told what is expected, and for several bugs it is the only one.", "name": "fig-bug-tests"}}
from rope_lab.figures.bugs import seen_by

grid = {}
for one, d in museum:
    if KNOWN[one.bug].level == "limit":
        continue
    fails = {each.name for each in failing(d)}
    row = [bool(fails & set(properties)) for properties in TESTS.values()]
    row[0] &= one.bug != "xpos layout"  # lengths change under a correct xPos as well
    row[2] |= one.bug.endswith("index for position")
    grid[one.bug] = [*row, bool(one.options.get("expected"))]
seen_by(grid, [*TESTS, "config"])

# %%
for place, name in enumerate([*TESTS, "config"]):
    print(
        f"{name:13s}sees {sum(row[place] for row in grid.values()):2d} of {len(grid)}"
    )
unseen = [bug for bug, row in grid.items() if not any(row)]
print("without a mark:", ", ".join(unseen))

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show what is wrong in each exhibit, and its correction", "code_prompt_hide": "Hide the exhibits and their corrections"}
for one, _ in museum:
    bug = KNOWN[one.bug]
    print(f"{bug.name} ({one.seen})")
    for line in (bug.says, f"Fix: {bug.fix}"):
        print(textwrap.fill(line, 88, initial_indent="  ", subsequent_indent="    "))

# %% [markdown]
# The bugs in the last line change the frequencies, and any frequencies make a RoPE. A config would show them too; without
# one, the doctor recognises them by their numbers, such as frequencies that are all zero or a first one above 1.
#
# The five tests that need no config fit into any test suite. Here they are for a function of `(x, positions)`:


# %%
def suite(turn) -> dict[str, float]:
    """The error of each test, on D coordinates and 500 tokens."""
    x, y, m = *torch.randn(2, 500, D), torch.arange(500)
    first = turn(x, m)

    def scores_at(shift: int) -> Tensor:
        return (turn(x, m + shift) * turn(y, m.flip(0) + shift)).sum(-1)

    again = torch.cat((m[:250], m[:250]))  # two documents
    apart = torch.cat((turn(x[:250], m[:250]), turn(x[250:], m[:250])))
    short = x.bfloat16()
    exact = turn(short.float(), m + 3000)
    errors = {
        "length": first.norm(dim=-1) / x.norm(dim=-1) - 1,
        "shift": (scores_at(1234) - scores_at(0)) / scores_at(0).std(),
        "own position": turn(x, again) - apart,
        "bfloat16": (turn(short, m + 3000).float() - exact) / exact.std(),
        "call order": turn(x, m) - first,
    }
    return {test: float(error.abs().max()) for test, error in errors.items()}


patients = {
    "correct": exhibits.whole,
    "half tables": exhibits.half_tables,
    "row index": exhibits.row_index,
    "bfloat16 positions": exhibits.half_positions,
    "base 500,000": lambda x, m: exhibits.half(
        x, exhibits.angle(m, frequencies(D, 5e5))
    ),
}
results = {name: suite(turn) for name, turn in patients.items()}
assert max(results["correct"].values()) < 0.05
for name, test in (("half tables", "shift"), ("row index", "own position")):
    assert results[name][test] > 1
assert results["bfloat16 positions"]["bfloat16"] > 1
columns = {"": "", **dict.fromkeys(results["correct"], ".0e")}
table([(name, *errors.values()) for name, errors in results.items()], columns)

# %% [markdown]
# A wrong base, in the last row, passes them all: add the comparison with a config.
#
# ## Errata of much-read texts
#
# Texts have bugs too. Four examples; what can be computed is computed below them.
#
# - **A missing minus.** labml's annotated RoPE prints $\theta_i = 10000^{2(i-1)/d}$
#   ([#313](https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/313)). Its code has
#   the minus.
# - **An $m$ too many.** The same text ends its proof with $\cos (m-n)m\theta$. A correction, with a note that the code pairs
#   other coordinates than the paper, has been open since 2024
#   ([#265](https://github.com/labmlai/annotated_deep_learning_paper_implementations/pull/265)).
# - **Clockwise beside counter-clockwise.** [You could have designed state of the art positional
#   encoding](https://huggingface.co/blog/designing-positional-encoding) multiplies by a matrix that turns clockwise and ends
#   on the elementwise form of the other direction. Each is a RoPE; mixed, they are equation {eq}`eq-18-3`.
# - **"63,000 unique positions".** A footnote of the same text gives base 10,000 as many positions as
#   $2\pi \cdot 10{,}000 \approx 62{,}832$, and takes this for an upper bound on the context. Not so: the *fastest* pair
#   alone tells all whole positions apart. $\theta_0 = 1$ brings two positions to the same angle only if they differ by
#   a multiple of $2\pi$, and no integer but 0 is one. (So it is in exact arithmetic; chapter 8 has the rounding.) Nor
#   is that the wavelength of the slowest pair, which is $2\pi\, b^{1 - 2/D}$.

# %%
printed = 10_000 ** (torch.arange(0, D, 2).double() / D)  # without the minus
typo = diagnose(
    lambda x, positions: exhibits.half(x, exhibits.angle(positions, printed)), D
)
print(f"printed: up to {printed.max():,.0f} radians per token;", typo.spectrum.says)

theta, x1, x2, y1, y2 = torch.rand(5, 1000).double()
gap = m - n
once_more = (x1 * y1 + x2 * y2) * (gap * theta).cos()
once_more = once_more + (x1 * y2 - x2 * y1) * (gap * theta).sin()
turned_x = torch.polar(torch.ones_like(theta), m * theta) * torch.complex(x1, x2)
turned_y = torch.polar(torch.ones_like(theta), n * theta) * torch.complex(y1, y2)
check("the inner product, corrected", once_more, (turned_x * turned_y.conj()).real)
as_printed = once_more + x2 * y2 * ((gap * m * theta).cos() - (gap * theta).cos())
print(f"with an m too many: off by up to {(as_printed - once_more).abs().max():.1f}")

wide = frequencies(128)
period = 2 * math.pi * 10_000
slowest = 2 * math.pi / wide[-1]
stamp = angles(torch.tensor([round(period)]), wide, dtype=torch.float64)
print(f"slowest wavelength, D = 128: {slowest:,.0f} tokens, not {period:,.0f}")
print(f"after {round(period):,} tokens, off by up to {stamp.abs().max():.2f} rad")
first_pair = angles(torch.arange(1, 1_000_000), wide[:1], dtype=torch.float64).abs()
print(f"closest return of the first pair in a million: {first_pair.min():.1e} rad")
check_at_most(
    "the first pair never returns in a million tokens", 1e-7, float(first_pair.min())
)

# %% [markdown]
# ## Summary
#
# - A rotation can break its pairs, the agreement of queries and keys, the position of a token, the independence of calls, or
#   the precision of angles. For each there is a test of a few lines that needs no reference.
# - A wrong base, share, layout or direction breaks no property. Only a comparison with a config or with known logits finds
#   it.
# - In the small model here, training hid some bugs almost completely; a shift of the text, or other weights, brought them
#   out.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-18-1
# ```
#
# Write the test of the first figure: `unevenness(scores)` takes scores of equal queries with equal keys, shape `(M, N)`,
# and returns the largest range (highest minus lowest entry) that any diagonal $m - n = \text{const}$ has.

# %%
from rope_lab.exercises.ch18 import check_unevenness


def unevenness(scores: Tensor) -> Tensor:
    return None  # your turn: shape ()


check_unevenness(unevenness)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-18-1
# :label: sol-18-1
# ```


# %%
def unevenness(scores: Tensor) -> Tensor:
    queries, keys = scores.shape
    diagonals = [scores.diagonal(s) for s in range(1 - queries, keys)]
    return torch.stack([entries.max() - entries.min() for entries in diagonals]).max()


check_unevenness(unevenness)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-18-2
# ```
#
# A projection of `heads` heads is stored as integers `codes`, shape `(H·D, C)`, and one scale per row, `scales` of shape
# `(H·D,)`. Write `quantised_to_half(codes, scales, heads)`, which returns both for the half layout, in a dict with the names
# `codes` and `scales`.

# %%
from rope_lab.exercises.ch18 import check_quantised_to_half


def quantised_to_half(codes: Tensor, scales: Tensor, heads: int) -> dict:
    return None  # your turn


check_quantised_to_half(quantised_to_half)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-18-2
# :label: sol-18-2
# ```
#
# By equation {eq}`eq-18-6`, rows and scales are reordered in the same way, head by head.


# %%
def quantised_to_half(codes: Tensor, scales: Tensor, heads: int) -> dict:
    rows = torch.arange(len(codes)).view(heads, -1, 2)  # head, pair, first or second
    order = rows.transpose(1, 2).flatten()
    return {"codes": codes[order], "scales": scales[order]}


check_quantised_to_half(quantised_to_half)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-18-3
# ```
#
# `mask` of shape `(B, N)` is true for the real tokens of a padded prompt, whose positions are 0, 1, … in each row.
# `answer_positions` should give the positions of the `new` tokens that follow, shape `(B, new)`. It passed its test, which
# had one prompt. Correct it.

# %%
from rope_lab.exercises.ch18 import check_answer_positions


def answer_positions(mask: Tensor, new: int) -> Tensor:
    start = mask.shape[1]
    return (start + torch.arange(new)).expand(len(mask), -1)


check_answer_positions(answer_positions)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-18-3
# :label: sol-18-3
# ```
#
# The prompt did not count its padding, so the answer must not either. One prompt needs no padding, and that is why the
# test passed.


# %%
def answer_positions(mask: Tensor, new: int) -> Tensor:
    return mask.sum(-1, keepdim=True) + torch.arange(new)


check_answer_positions(answer_positions)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-18-4
# ```
#
# "Two rotations that agree at every position that you try are the same rotation." Write `alias_of(freqs, step)`:
# frequencies of shape `(D/2,)`, each different from that in `freqs`, with the same rotation at all multiples of `step`.
# A `step` of 0 means all real positions. Return `None` where no such frequencies exist.

# %%
from rope_lab.exercises.ch18 import check_alias_of


def alias_of(freqs: Tensor, step: float) -> Tensor | None:
    return None  # your turn: shape (D/2,), or None


check_alias_of(alias_of)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-18-4
# :label: sol-18-4
# ```
#
# Equal rotations at all multiples of `step` need $\mathrm{e}^{\mathrm{i}\theta' s} = \mathrm{e}^{\mathrm{i}\theta s}$ for
# one step $s$, which then holds for all its multiples: $\theta' = \theta + 2\pi j / s$ with an integer $j \ne 0$. If all
# real positions count, the derivative at 0 gives $\theta' = \theta$. So the sentence is wrong for whole positions, and a
# doctor cannot tell 4 radians per token from $4 - 2\pi$.


# %%
def alias_of(freqs: Tensor, step: float) -> Tensor | None:
    return freqs + 2 * math.pi / step if step else None


check_alias_of(alias_of)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-18-5
#
# You maintain a library with twenty model families, and no weights fit on the machine of its tests. Which five tests of
# rotations would you run at every commit? Say for each which cause of this chapter it covers, and what remains uncovered.
# (This question has no checker.)
# ```
#
# ````{solution} ex-18-5
# :label: sol-18-5
#
# One possible answer, all on random tensors:
#
# - *A shift by a random number of positions, for one score per family, and lengths before and after:* pairs and sides. Do it
#   also far from 0 and for bfloat16 tensors: number types.
# - *A text in two pieces equals the whole,* with left padding in one row: positions and memory, if the same object is used
#   for several texts of different length and type before.
# - *Frequencies, rotated coordinates and attention factor as stored numbers,* for each family and for each path through the
#   code, taken once from the reference implementation: settings. This is what `diagnose(…, expected=…)` compares.
# - *A conversion and back, then one layer before and after with biases, norms and quantised rows that are all different:*
#   conversion.
# - *The same after `.bfloat16()`, after loading from an empty device, and after a compiler:* number types and lost buffers.
#
# Uncovered are reference numbers that are themselves wrong, kernels that run on another device only, and everything that
# training has already adapted to. For these, keep the logits of one small released model per family and compare them at each
# release.
# ````
#
# ## References
#
# - {cite:t}`su2021`: the rotation that all exhibits spoil.
# - {cite:t}`peng2024`: YaRN's attention factor.
# - {cite:t}`wang2025`: bfloat16 and RoPE.
# - The threads are linked where they are told; further ones are in the tables, as repository and number.
#
# Full entries are on the page {doc}`/book/references`.
