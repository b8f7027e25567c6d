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
# (chapter-keras)=
# # 17 · Keras
#
# You needed RoPE in Keras, found a layer with a fitting name, and put it behind the embedding. The model trains, and its
# accuracy is good. **Does it know where each token is?**
#
# The layer has a table with one row of angles per position, and embeddings of shape $(B, N, D)$. Before the two are
# multiplied, the table gets an axis of length 1, and everything depends on where. Each hand below is one token, and each
# position should turn it by another 30 degrees, from left to right. Change the number of rows, and then the index:

# %% tags=["hide-input"]
from rope_lab.figures.broadcast import broadcast

broadcast()

# %% [markdown]
# With the first index most batch sizes raise an error, which somebody would see. But a batch of as many rows as there are
# tokens runs, and then all tokens of a row point the same way. This chapter reduces that layer to a few lines and measures what
# it does to a model. Then it builds RoPE in Keras so that it survives training, saving, 16-bit numbers, padding and another
# backend.
#
# The other chapters do not need Keras: `pip install "rope-lab[book,keras]"` installs it. Keras runs on torch, JAX or
# TensorFlow, and its default is TensorFlow. The variable `KERAS_BACKEND` names another one, but only before the first import of
# Keras. So the next cell comes first, in Colab as well. If you have already set the variable, your choice is kept; this page
# also runs on the other two:

# %%
import os

backend = os.environ.setdefault("KERAS_BACKEND", "torch")  # or "jax", "tensorflow"

# %%
import warnings

import keras
import numpy as np
import torch
from keras import ops
from torch import Tensor

import rope_lab
from rope_lab import angles, frequencies, rotate
from rope_lab.figures.table import table
from rope_lab.interop.keras import (
    RotaryEmbedding,
    RotaryEmbeddingLayer,
    get_rotary_embedding,
)
from rope_lab.verify import check

torch.set_num_threads(1)
rng = np.random.default_rng(17)


def to_torch(x) -> Tensor:
    """What a layer returns, on whichever backend, as a tensor that can be checked."""
    return torch.from_numpy(np.array(ops.convert_to_numpy(x)))


print("Keras", keras.__version__, "on", keras.backend.backend())

# %% [markdown]
# ## A batch index in place of a position
#
# Recall that the rotation $R_m$ turns pair $i$ of a vector at position $m$ by the angle $m \theta_i$ (chapter 3). Take two rows of
# two tokens, $D = 2$ and $\theta_0 = 1$, with $(1, 0)$ as the embedding of every token. The second token should become
# $(\cos 1, \sin 1) = (0.54, 0.84)$ in both rows, and the first one should stay $(1, 0)$. Here is the layer, in the half layout,
# which pairs coordinate $i$ with $i + D/2$ (chapter 5). The index `[:, None]` is the one that matters:


# %%
class Copied(keras.layers.Layer):
    """A layer of a tutorial, widely copied and here in a few lines."""

    def call(self, x):  # (B, N, D)
        half = x.shape[-1] // 2
        both = get_rotary_embedding(x.shape[1], 2 * half)[:, None]  # (N, 1, D)
        sin, cos = both[..., :half], both[..., half:]
        a, b = x[..., :half], x[..., half:]
        return ops.concatenate((a * cos - b * sin, a * sin + b * cos), axis=-1)


two_rows = np.tile(np.array([1.0, 0.0], "float32"), (2, 2, 1))
print(to_torch(Copied()(two_rows)))

# %% [markdown]
# Two equal rows have become different, and the two tokens of a row are still the same. Broadcasting aligns axes from the
# right. So the $N$ of the table $(N, 1, D/2)$ lands on the axis of rows, and where $B = N$,
#
# $$
# y_{rn} = R_r\, x_{rn} \quad\text{instead of}\quad y_{rn} = R_n\, x_{rn} ,
# $$ (eq-17-1)
#
# for row $r$ and token $n$. With `[None, :]` the table is $(1, N, D/2)$, and the second form results for every batch:

# %%
many = rng.normal(size=(6, 6, 8)).astype("float32")
expected = {"rows": torch.empty(6, 6, 8), "tokens": torch.empty(6, 6, 8)}
for r in range(6):
    for n in range(6):
        for which, place in (("rows", r), ("tokens", n)):
            turn = angles(torch.tensor([place]), frequencies(8))
            one = rotate(torch.from_numpy(many[r, n])[None], turn, "half")
            expected[which][r, n] = one[0]
check("eq. 17.1, as copied", to_torch(Copied()(many)), expected["rows"])
check("eq. 17.1, corrected", to_torch(RotaryEmbeddingLayer()(many)), expected["tokens"])

# %% [markdown]
# Each combination of a batch size and a length, run once:

# %% tags=["hide-input"] mystnb={"image": {"alt": "An eight by eight grid of batch sizes against tokens per row. The first column, one token per row, is green with the error 0. The first row, a batch of one, is blue, and 2 to 8 rows come out. The rest of the diagonal is orange with numbers between a third and 0.8. All other squares hold a cross."}, "figure": {"caption": "What the copied layer does with B rows of N tokens (Gaussian embeddings, D = 8). Cross: an exception. Blue: the batch grows to N rows. Orange: it runs, and the number is the size of the error compared with the size of the output. It is correct where a row has one token, which is not turned at all.", "name": "fig-batch-outcomes"}}
from rope_lab.figures.batches import outcomes


def outcome(batch: int, tokens: int) -> int | float | None:
    """None for an exception, the rows that come out if they are more, else the error."""
    x = rng.normal(size=(batch, tokens, 8)).astype("float32")
    try:
        got = to_torch(Copied()(x))
    except Exception:  # each backend has its own kind
        return None
    if len(got) != batch:
        return len(got)
    correct = to_torch(RotaryEmbeddingLayer()(x))
    return float((got - correct).norm() / correct.norm())


sizes = range(1, 9)
tried = {(B, N): outcome(B, N) for B in sizes for N in sizes}
outcomes(tried, sizes)

# %%
kinds = [type(value).__name__ for value in tried.values()]
print("exceptions", kinds.count("NoneType"), "· grown batches", kinds.count("int"))
wrong = [value for value in tried.values() if isinstance(value, float) and value > 0]
ends = f"errors from {min(wrong):.2f} to {max(wrong):.2f}"
print(f"right shape, wrong values {len(wrong)}, {ends}")

# %% [markdown]
# ### When Keras notices, and when it does not
#
# A Keras model is described before it sees data: `keras.Input((16, 8))` stands for a batch of any size with 16 tokens of width 8.
# On torch, Keras finds the output shape of a layer by calling it with a trial batch, and the copied layer fails there. But a layer
# that *states* its output shape is not tried, and if the length is open too, the trial takes the same number for both:


# %%
class Stated(Copied):
    def compute_output_shape(self, shape):
        return shape


for kind, length in ((Copied, 16), (Stated, 16), (Copied, None)):
    print(f"{kind.__name__}, length {length}", end=" ")
    try:
        print("accepted:", kind()(keras.Input((length, 8))).shape)
    except Exception as error:
        reason = str(error).split("Error encountered:")[-1].strip()
        print("rejected:\n ", reason.splitlines()[0][:62], "…")

# %% [markdown]
# The 83 is the trial batch of Keras. On JAX, where the trial has a symbolic batch size, Keras rejects the first layer too.
# TensorFlow is not installed where this book is built. We ran the first two lines on TensorFlow 2.21 separately: there Keras
# accepted both, because an unknown batch size may turn out to fit. The only sign was the output shape of the first,
# `(16, 16, 8)` in place of `(None, 16, 8)`. So look at the first number of an output shape. If you have not fixed a batch size and
# it is not `None`, something has landed on the batch axis. A `None` proves nothing, as the last line shows.
#
# ## Why it can go unnoticed
#
# A rotation by the batch index leaves no order in a row. All its tokens are multiplied by the same matrix $R_r$, and
# attention without a causal mask, a feed-forward layer and a mean over tokens do not see in which order their inputs come
# (chapter 1). So for
# every permutation $\pi$ of the tokens, a model $f$ made of these, applied to row $r$, gives
#
# $$
# f(R_r x_{\pi(1)}, \dots, R_r x_{\pi(N)}) = f(R_r x_1, \dots, R_r x_N) .
# $$ (eq-17-2)
#
# To see what that costs, we ask two questions about random sequences of 16 tokens. *Which word is there?* One of two
# marked words occurs. *Which of two words comes first?* Two other words both occur, in either order. Four small models learn
# both answers together from the same sequences: one with the copied layer (as `Stated`, so that every backend accepts it), one
# without positions, one with the corrected layer on embeddings, and one with RoPE on queries and keys. The batch size is 16, with
# which the copied layer runs.

# %%
N, C, H, WORDS = 16, 32, 2, 12  # tokens, width, heads, vocabulary


def attention(x, keep, rope=None):
    """Self-attention over the tokens that are kept: (B, N, C) -> (B, N, C)."""
    qkv = keras.layers.Dense(3 * C, use_bias=False, name="qkv")(x)
    qkv = keras.layers.Reshape((-1, 3, H, C // H))(qkv)
    q, k, v = ops.unstack(qkv, 3, axis=2)  # (B, N, H, D)
    if rope is not None:
        q, k = rope(q, k)
    y = ops.dot_product_attention(q, k, v, mask=ops.expand_dims(keep, (1, 2)))
    return keras.layers.Dense(C, use_bias=False, name="out")(
        keras.layers.Reshape((-1, C))(y)
    )


def classifier(on_embeddings=None, rope=None) -> keras.Model:
    ids = keras.Input((None,), dtype="int32")
    keep = ops.not_equal(ids, 0)  # 0 is padding
    normal = keras.initializers.RandomNormal(stddev=1)
    x = keras.layers.Embedding(WORDS, C, embeddings_initializer=normal)(ids)
    if on_embeddings is not None:
        x = on_embeddings(x)
    x = x + attention(x, keep, rope)
    x = keras.layers.Dense(2 * C, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling1D()(x, mask=keep)
    return keras.Model(ids, keras.layers.Dense(2)(x))


def questions(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (count, N) and both answers (count, 2): which word, which order."""
    ids, rows = rng.integers(5, WORDS, (count, N)), np.arange(count)
    spots = np.stack([rng.permutation(N)[:3] for _ in rows])
    answers = rng.integers(0, 2, (count, 2))
    first, second = np.sort(spots[:, :2]).T
    ids[rows, first], ids[rows, second] = 1 + answers[:, 1], 2 - answers[:, 1]
    ids[rows, spots[:, 2]] = 3 + answers[:, 0]
    return ids.astype("int32"), answers


lessons, exam = questions(120 * N), questions(16 * N)
models = {}
for name, parts in {
    "copied layer": (Stated, None),
    "no positions": (None, None),
    "corrected layer": (RotaryEmbeddingLayer, None),
    "RoPE on q and k": (None, RotaryEmbedding),
}.items():
    keras.utils.set_random_seed(17)
    models[name] = classifier(*(part and part() for part in parts))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    models[name].compile(keras.optimizers.Adam(0.01), loss)
    models[name].fit(*lessons, batch_size=N, verbose=0)


def logits(model: keras.Model, ids: np.ndarray) -> np.ndarray:
    return model.predict(ids, batch_size=N, verbose=0)


# %% tags=["hide-input"] mystnb={"image": {"alt": "Four rows, one per model, each with a blue square for the question which word is there and a red dot for which of two words comes first. All squares are at or next to 1. The dots of the copied layer and of no positions are at about one half, marked as guessing; those of the corrected layer and of RoPE on q and k are far to the right of it."}, "figure": {"caption": "The four models on 256 new sequences (one seed each). For the question that the words alone answer, the copied layer is as good as the others. For the question of order it guesses, as does the model without positions.", "name": "fig-two-questions"}}
from rope_lab.figures.batches import two_questions

exam_logits = {name: logits(model, exam[0]) for name, model in models.items()}
solved = {name: ((got > 0) == exam[1]).mean(0) for name, got in exam_logits.items()}
two_questions(solved)

# %%
shuffled = rng.permuted(exam[0], axis=1)
for name, model in models.items():
    after, before = logits(model, shuffled), exam_logits[name]
    if name in ("copied layer", "no positions"):
        check(f"eq. 17.2, {name}", after, before, tolerance=1e-4)
    most = np.abs(after - before).max()
    print(f"{name:15}: shuffled tokens change the logits by up to {most:.2g}")

# %% [markdown]
# So accuracy shows the fault in the question of order and not in the other one, and a task such as sorting texts by topic may be
# closer to the other one ({numref}`fig-two-questions`). Three other signs are easy to test. The logits of the copied layer depend
# on the row that a sequence happens to be in. A single sequence gets 16 answers, and so does a seventeenth, which is alone in its
# batch. And if two sequences are left for the last batch, there is an error:

# %%
kept = models["copied layer"].get_weights()  # a failed prediction loses them on JAX
next_row = np.roll(exam[0].reshape(-1, N, N), 1, axis=1).reshape(-1, N)
for name in ("copied layer", "corrected layer"):
    lower = logits(models[name], next_row).reshape(-1, N, 2)
    lower = np.roll(lower, -1, axis=1).reshape(-1, 2)
    apart = np.abs(lower - exam_logits[name]).max()
    print(f"{name}: one row further down, logits differ by up to {apart:.2g}")
    for count in (1, N + 1, N + 2):
        try:
            answered = len(logits(models[name], exam[0][:count]))
            print(f"  sequences {count}, answers {answered}")
        except Exception as error:
            print(f"  sequences {count}:", type(error).__name__)

# %% [markdown]
# Would it help to correct the layer later and keep the weights? The next cell does that with the model above:

# %%
corrected_later = classifier(RotaryEmbeddingLayer())
corrected_later.set_weights(kept)
right = ((logits(corrected_later, exam[0]) > 0) == exam[1]).mean(0)
print("correct answers: which word {:.0%}, which order {:.0%}".format(*right))

# %% [markdown]
# The first answer survives, and the second one is still a guess. The correction alone does not help; it takes more training.
#
# ## Where RoPE belongs
#
# The corrected layer answers both questions, but it is not RoPE. It rotates embeddings, in the place where sinusoids would be
# added, and the score of tokens $m$ and $n$ is then $x_m^\top R_m^\top W_q^\top W_k R_n x_n$. The two rotations are not next to
# each other, so in general they do not combine into one of $n - m$. RoPE rotates after the projections, on the axis of tokens:
#
# $$
# (R_m W_q x_m)^\top (R_n W_k x_n) = (W_q x_m)^\top R_{n-m}\, (W_k x_n) .
# $$ (eq-17-3)
#
# The check compares the layer with the right side, whose rotation comes from the torch package. Then all positions are shifted
# by 5, which must not change a score of RoPE:

# %%
tokens = rng.normal(size=(1, 12, 64)).astype("float32")
W_q, W_k = rng.normal(size=(2, 64, 64)).astype("float32") / 8
rope = RotaryEmbedding()


def scores(shift: int, *, embeddings: bool) -> Tensor:
    """All scores of the 12 tokens at positions shift, shift + 1, …: (12, 12)."""
    if embeddings:
        turned = ops.convert_to_numpy(rope(tokens, offset=shift))
        q, k = turned @ W_q, turned @ W_k
    else:
        q, k = rope(tokens @ W_q, tokens @ W_k, offset=shift)
    return (to_torch(q) @ to_torch(k).mT)[0] / 8


q_all, k_all = (torch.from_numpy((tokens @ W)[0]) for W in (W_q, W_k))
right_side = torch.stack(
    [
        rotate(k_all, angles(torch.arange(12) - m, frequencies(64))) @ q_all[m] / 8
        for m in range(12)
    ]
)
check("eq. 17.3", scores(0, embeddings=False), right_side)
for name, on in (("embeddings", True), ("queries and keys", False)):
    old, new = (scores(shift, embeddings=on) for shift in (0, 5))
    relative = (new - old).norm() / old.norm()
    print(f"{name}: a shift changes the scores by {relative:.1%} of their size")

# %% [markdown]
# `rope_lab.interop.keras.RotaryEmbedding` touches tensors only through `keras.ops`, so the same code runs on torch, JAX and TensorFlow.
# Its results equal those of the torch package, for both layouts and if each row has positions of its own:

# %%
queries = rng.normal(size=(3, 9, 2, 16)).astype("float32")  # (B, N, H, D)
places = rng.integers(0, 10**6, size=(3, 9))
for layout in ("interleaved", "half"):
    ours = RotaryEmbedding(layout=layout)(queries, positions=places)
    theirs = torch.from_numpy(queries).transpose(1, 2)  # (B, H, N, D) in the package
    package = rope_lab.RotaryEmbedding(16, layout=layout)
    theirs, _ = package(theirs, theirs, positions=torch.from_numpy(places))
    check(f"keras.ops and torch, {layout}", to_torch(ours), theirs.transpose(1, 2))

# %% [markdown]
# The columns of a head must be in the order that the layer expects (chapter 5), and the axes too:
#
# | layer | takes | layout |
# |---|---|---|
# | this package's `RotaryEmbedding` | one tensor, or queries and keys, `(B, N, H, D)` or `(B, N, D)` | interleaved or half |
# | KerasHub's `RotaryEmbedding` | one tensor, `(B, N, H, D)` or `(B, N, D)` | half |
# | the tutorial's layer | embeddings `(B, N, D)` | half; its table has the sines before the cosines |
#
# KerasHub is not installed here; its row comes from its code as it was read for this book. There, the base is called
# `max_wavelength`, the "maximum angular wavelength" in its documentation. The slowest pair needs $b^{1 - 2/D}$ tokens for one
# radian, which approaches the base in wide heads. For a full turn, which this book calls the wavelength, it needs $2\pi$ times
# as many:

# %%
slowest = frequencies(64)[-1]
print(
    f"b = 10,000, D = 64: {1 / slowest:,.0f} per radian, {2 * np.pi / slowest:,.0f} per turn"
)

# %% [markdown]
# ## Weights, from torch and back
#
# The kernel of a Keras `Dense` is the transpose of the weight of a torch `Linear`. Our model has queries, keys and values in
# one kernel $(C, 3 \cdot H \cdot D)$. The attention of the package gets its three projections from it, and computes the same.
# In the other direction, weights of torch give a Keras model:


# %%
def kernels(layer: rope_lab.MultiHeadAttention) -> dict[str, Tensor]:
    """The kernels of Keras for the weights of a torch layer."""
    parts = (layer.query, layer.key, layer.value)
    qkv = torch.cat([part.weight.T for part in parts], dim=1)
    return {"qkv": qkv.detach(), "out": layer.out.weight.T.detach()}


def torch_layer(qkv: Tensor, out: Tensor) -> rope_lab.MultiHeadAttention:
    """A torch layer with the kernels of Keras."""
    position = rope_lab.RotaryEmbedding(C // H)
    layer = rope_lab.MultiHeadAttention(C, H, position=position, causal=False)
    parts = (layer.query, layer.key, layer.value, layer.out)
    with torch.no_grad():
        for part, kernel in zip(parts, (*qkv.chunk(3, dim=1), out), strict=True):
            part.weight.copy_(kernel.T)
    return layer


inputs = keras.Input((None, C))
everything = ops.ones_like(inputs[..., 0], dtype="bool")
alone = keras.Model(inputs, attention(inputs, everything, RotaryEmbedding()))
embedded = rng.normal(size=(2, N, C)).astype("float32")
learned = {
    name: to_torch(models["RoPE on q and k"].get_layer(name).kernel)
    for name in ("qkv", "out")
}
for name, kernel in learned.items():
    alone.get_layer(name).kernel.assign(kernel.numpy())
with torch.no_grad():
    carried = torch_layer(**learned)(torch.from_numpy(embedded))
check("Keras to torch, trained", carried, to_torch(alone(embedded)))

fresh = torch_layer(torch.randn(C, 3 * C) / 6, torch.randn(C, C) / 6)
for name, kernel in kernels(fresh).items():
    alone.get_layer(name).kernel.assign(kernel.numpy())
with torch.no_grad():
    check(
        "torch to Keras", to_torch(alone(embedded)), fresh(torch.from_numpy(embedded))
    )

# %% [markdown]
# Here each of the four weights is square. So nothing fails if somebody forgets to transpose them:

# %%
swapped = torch.cat([part.T for part in learned["qkv"].chunk(3, dim=1)], dim=1)
with torch.no_grad():
    forgotten = torch_layer(swapped, learned["out"].T)(torch.from_numpy(embedded))
share = (forgotten - carried).norm() / carried.norm()
print(f"without the transpose: an error of {share:.0%} of the output")

# %% [markdown]
# A test of shapes does not see this; a test of one output does ({ref}`ex-17-3`).
#
# ## Save and load
#
# A `.keras` file holds the weights and, for every layer, what its `get_config` returns. Loading creates the layer from that. So
# an argument that `get_config` leaves out comes back as its default:

# %%
import pathlib
import tempfile


class Forgetful(RotaryEmbedding):
    def get_config(self):
        config = super().get_config()
        del config["base"]
        return config


folder = tempfile.TemporaryDirectory()
saved = pathlib.Path(folder.name) / "model.keras"
models["RoPE on q and k"].save(saved)
loaded = keras.saving.load_model(saved)
same = to_torch(logits(loaded, exam[0]))
check("saved and loaded", same, to_torch(exam_logits["RoPE on q and k"]))
for kind in (RotaryEmbedding, Forgetful):
    asked = kind(base=500_000.0)
    again = kind.from_config(asked.get_config())
    gap = to_torch(again(queries) - asked(queries)).norm() / np.linalg.norm(queries)
    print(f"{kind.__name__}: base {again.base:,.0f}, error {gap:.0%} of the output")

# %% [markdown]
# Nothing fails here, but the second layer came back with another base. The test is the one above: compare the outputs of both
# layers, with every argument set to something other than its default. (A layer that does not define `get_config` at all is safe
# if its arguments are plain values: Keras then records them itself.)
#
# ## Mixed precision
#
# The counterpart of torch's autocast is a *dtype policy*: one number type for weights and one for computing. Under the policy
# `mixed_bfloat16`, weights are float32 and layers compute in bfloat16. Keras therefore casts two things
# automatically: floating-point *inputs*, and floating-point *weights* when `call` reads them. The second cast is a trap for
# frequencies that are stored as a weight. The variable is float32, but `call` sees bfloat16:


# %%
class Stored(keras.layers.Layer):
    """Frequencies as a weight; positions as they are, or cast to the compute dtype."""

    def __init__(self, autocast=True, cast_positions=False, **kwargs):
        super().__init__(**kwargs)
        self.options = autocast, cast_positions

    def build(self, shape):
        exact = frequencies(shape[-1]).numpy()
        self.freqs = self.add_weight(
            shape=exact.shape, trainable=False, autocast=self.options[0]
        )
        self.freqs.assign(exact)

    def call(self, x):
        m = ops.arange(x.shape[1], dtype="float32")
        if self.options[1]:
            m = ops.cast(m, self.compute_dtype)
        angle = ops.expand_dims(m, 1) * self.freqs
        cos, sin = (ops.cast(f(angle), x.dtype) for f in (ops.cos, ops.sin))
        a, b = ops.split(x, 2, axis=-1)
        return ops.concatenate((a * cos - b * sin, b * cos + a * sin), axis=-1)


long = rng.normal(size=(1, 8192, 64)).astype("float32")
ways = {
    "weight": lambda dtype: Stored(dtype=dtype),
    "weight, no autocast": lambda dtype: Stored(autocast=False, dtype=dtype),
    "positions cast": lambda dtype: Stored(False, True, dtype=dtype),
    "RotaryEmbedding": lambda dtype: RotaryEmbedding(layout="half", dtype=dtype),
}
errors = {}
for dtype in ("float32", "mixed_float16", "mixed_bfloat16"):
    low = ops.cast(long, keras.DTypePolicy(dtype).compute_dtype)
    given = to_torch(ops.cast(low, "float32"))
    turn_all = angles(torch.arange(8192), frequencies(64))
    truth = rotate(given, turn_all, "half")
    for name, make in ways.items():
        off = to_torch(ops.cast(make(dtype)(low), "float32")) - truth
        for part in (slice(0, 256), slice(7936, 8192)):
            size = off[:, part].norm() / truth[:, part].norm()
            errors.setdefault(name, []).append(float(size))
table(
    [[name, *values[2:]] for name, values in errors.items()],
    {
        "frequencies": "",
        "fp16, first": ".2g",
        "fp16, last": ".2g",
        "bf16, first": ".2g",
        "bf16, last": ".2g",
    },
    caption="Error divided by the size of the output, first and last 256 of 8,192.",
)

# %%
print(
    "8190 and 8191 in bfloat16:",
    *to_torch(ops.cast(ops.cast([8190, 8191], "bfloat16"), "int32")).tolist(),
)
rounding = (truth.bfloat16().float() - truth)[:, 7936:].norm() / truth[:, 7936:].norm()
check(
    "one rounding in mixed_bfloat16",
    errors["RotaryEmbedding"][-1],
    float(rounding),
    tolerance=1e-5,
)

# %% [markdown]
# The first two rows differ in one argument, `autocast=False`; in the third, positions are cast instead. In the last 256 of
# 8,192 positions, rounded frequencies are about as bad as rounded positions. In the first 256, where bfloat16 and float16 have
# every whole number exactly, positions may be cast, but rounded frequencies already show.
#
# As in the third row, KerasHub's Gemma cast its positions to the compute dtype, so that 8190 and 8191 both became 8192
# ([keras-hub#1494](https://github.com/keras-team/keras-hub/issues/1494)). Its layer was then changed to compute in float32
# under every policy ([keras-hub#1508](https://github.com/keras-team/keras-hub/pull/1508)). The layer of this package multiplies
# in float32 too, with angles from float64 (chapter 8). What is left in the last row is the rounding of the result.
#
# ## Padding
#
# A mask says which tokens are padding. With RoPE on queries and keys, left padding then changes nothing: it shifts all
# positions of a row by the same number. A rotation of embeddings notices that shift, but not padding on the right:

# %%
unpadded = exam[0][:8, 4:]
for name in ("RoPE on q and k", "corrected layer"):
    plain = logits(models[name], unpadded)
    for side, zeros in (("left", (4, 0)), ("right", (0, 4))):
        filled = logits(models[name], np.pad(unpadded, ((0, 0), zeros)))
        if name == "RoPE on q and k":
            check(f"padding on the {side}", filled, plain, tolerance=1e-4)
        largest = np.abs(filled - plain).max()
        print(f"{name}: four zeros on the {side} change the logits by {largest:.2g}")

# %% [markdown]
# Our model passes its mask by hand. Keras can also do it: an `Embedding` with `mask_zero=True` attaches the mask to its output,
# layers pass it on, and `MultiHeadAttention` uses it. But a layer that does not set `supports_masking = True` drops the
# mask, with a warning, and padding takes part in attention. The next cell changes the embedding of the padding, which should
# change nothing for the other tokens:

# %%
padded = np.array([[1, 2, 3, 0, 0, 0]])
embed = keras.layers.Embedding(WORDS, C, mask_zero=True)
attend = keras.layers.MultiHeadAttention(H, C // H)
for layer in (RotaryEmbedding(), Stored()):
    seen = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for shift in (0, 1):
            rows = ops.convert_to_numpy(embed(np.arange(WORDS))).copy()
            rows[0] += shift  # the embedding of the padding
            embed.set_weights([rows])
            vectors = layer(embed(padded))
            seen.append(to_torch(attend(vectors, vectors))[0, :3])
    lost = sum("destroy the mask" in str(one.message) for one in caught)
    by = (seen[1] - seen[0]).abs().max()
    print(f"{type(layer).__name__}: {lost} warnings, other tokens change by {by:.2g}")

# %% [markdown]
# ## A second backend
#
# A file that was saved on one backend loads on another. The cell starts a second Python with JAX, which loads the model of
# above and predicts:

# %%
import importlib.util
import subprocess
import sys

ELSEWHERE = """
import sys
import numpy as np
import keras
from rope_lab.interop.keras import RotaryEmbedding

folder = sys.argv[1]
model = keras.saving.load_model(f"{folder}/model.keras", compile=False)
given = np.load(f"{folder}/given.npz")
turned = RotaryEmbedding()(given["queries"], positions=given["places"])
np.savez(
    f"{folder}/found.npz",
    backend=keras.backend.backend(),
    logits=model.predict(given["ids"], verbose=0),
    turned=keras.ops.convert_to_numpy(turned),
)
"""
other = "torch" if keras.backend.backend() == "jax" else "jax"
if importlib.util.find_spec(other) is None:
    print(f"{other} is not installed, so this check is left out: pip install {other}")
else:
    np.savez(
        f"{folder.name}/given.npz", ids=exam[0][:64], queries=queries, places=places
    )
    paths = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, folder.name],
        env={**os.environ, "KERAS_BACKEND": other, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(f"{folder.name}/found.npz") as found:
        print("loaded on", found["backend"])
        check(
            "second backend, a whole model",
            torch.from_numpy(found["logits"]),
            same[:64],
            tolerance=1e-4,
        )
        turned_here = RotaryEmbedding()(queries, positions=places)
        check(
            "second backend, RoPE",
            torch.from_numpy(found["turned"]),
            to_torch(turned_here),
        )
folder.cleanup()

# %% [markdown]
# ## Summary
#
# - A table of angles needs its axis of tokens where the tensor has it. On the axis of rows it is an error for most batches,
#   for $B = 1$ a batch that grows, and for $B = N$ a model without order, which here was as accurate as the other three where
#   order does not matter.
# - RoPE in Keras goes between the projections of queries and keys and their product. There it equals the torch package,
#   on two backends, and weights move by a transpose.
# - `get_config` has to return every argument, frequencies must not be weights that Keras casts, and a mask has to be passed on.
#   None of the three faults raises an error.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below. None of them needs Keras.
#
# ```{exercise-start}
# :label: ex-17-1
# ```
#
# Work out the broadcast of `Copied`. For sizes that fit, write `turned_by(batch, tokens)`: the position by which each token
# that comes *out* is turned, one row per sequence that comes out.

# %%
from rope_lab.exercises.ch17 import check_turned_by


def turned_by(batch: int, tokens: int) -> Tensor:
    return None  # your turn: shape (rows, tokens)


check_turned_by(turned_by)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-17-1
# :label: sol-17-1
# ```
#
# The table has the shape $(N, 1)$ per pair, so its entry is the number of the row. The two shapes broadcast, and the result
# has the larger length on each axis.


# %%
def turned_by(batch: int, tokens: int) -> Tensor:
    table, x = torch.arange(tokens)[:, None], torch.zeros(batch, tokens, dtype=int)
    return table + x


check_turned_by(turned_by)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-17-2
# ```
#
# Write `rotate_keras(x, positions, base)`: RoPE in the half layout for `x` of shape `(B, N, H, D)`, the order of axes in
# Keras, and positions `(B, N)`.

# %%
from rope_lab.exercises.ch17 import check_rotate_keras


def rotate_keras(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return None  # your turn: shape (B, N, H, D)


check_rotate_keras(rotate_keras)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-17-2
# :label: sol-17-2
# ```
#
# The angles depend on row, token and pair, so they have an axis of length 1 for the heads: $(B, N, 1, D/2)$.


# %%
def rotate_keras(x: Tensor, positions: Tensor, base: float) -> Tensor:
    half = x.shape[-1] // 2
    theta = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = positions[:, :, None, None] * theta
    cos, sin, a, b = angle.cos(), angle.sin(), x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


check_rotate_keras(rotate_keras)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-17-3
# ```
#
# In `keras.layers.MultiHeadAttention` the kernel of the queries has the shape $(C, H, D)$. The weight of a torch projection
# is `(H·D, C)`. `to_kernel` passes every test of shapes, and the model that it fills talks nonsense. Correct it.

# %%
from rope_lab.exercises.ch17 import check_to_kernel


def to_kernel(weight: Tensor, heads: int) -> Tensor:
    rows, width = weight.shape
    return weight.reshape(width, heads, rows // heads)


check_to_kernel(to_kernel)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-17-3
# :label: sol-17-3
# ```
#
# Reshaping keeps the numbers in their order in memory, in which the inputs of one row follow each other. The rows have to
# become columns first.


# %%
def to_kernel(weight: Tensor, heads: int) -> Tensor:
    return weight.T.unflatten(1, (heads, -1))


check_to_kernel(to_kernel)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-17-4
# ```
#
# "All tokens of row $r$ are turned by the same $R_r$, so their scores $x_m^\top R_r^\top A R_r x_n$, with
# $A = W_q^\top W_k$, are those without any rotation." Write `telltale(row, freqs)`: a matrix $A$ of shape `(D, D)` for which some
# score is *not*, with $R_r$ in the half layout. Return `None` where no matrix has that.

# %%
from rope_lab.exercises.ch17 import check_telltale


def telltale(row: int, freqs: Tensor) -> Tensor | None:
    return None  # your turn: shape (D, D), or None


check_telltale(telltale)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-17-4
# :label: sol-17-4
# ```
#
# The scores are the same for all $x_m$ and $x_n$ exactly if $R_r^\top A R_r = A$, that is, if $A$ commutes with $R_r$. Only
# multiples of the identity commute with every $A$, and the rotations among them are $1$ and $-1$. So there is an $A$ unless all
# pairs have turned by an even number of half turns, or all by an odd number. One with a single entry is then
# enough, but it depends on $R_r$ which. Any matrix of random numbers will do almost surely. So the claim is false: the row is
# visible in the scores. (It is visible elsewhere too: values and the residual stream carry $R_r x$.)


# %%
def telltale(row: int, freqs: Tensor) -> Tensor | None:
    half_turns = row * freqs / torch.pi
    whole = (half_turns - half_turns.round()).abs().max() < 1e-6
    if whole and len((half_turns.round() % 2).unique()) == 1:
        return None
    random = torch.Generator().manual_seed(0)
    return torch.randn(2 * len(freqs), 2 * len(freqs), generator=random)


check_telltale(telltale)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-17-5
#
# You are given a Keras model with a position layer that you do not know, as a `.keras` file, and may run it but not read it.
# Which tests do you run before you fine-tune it on longer sequences with mixed precision, and which fault does each find that the
# others miss? (This question has no checker.)
# ```
#
# ````{solution} ex-17-5
# :label: sol-17-5
#
# - *One sequence, alone and in the middle of a batch.* The answers must agree. This finds a position taken from the batch, and
#   statistics over the batch. It needs a batch size that runs; try more than one.
# - *Shuffled tokens.* If no answer changes, the model knows no order. A change does not show that positions are correct.
# - *A shift by left padding, with the mask.* A model with RoPE on queries and keys alone gives the same answers. One with
#   absolute positions that count the padding does not, and then longer sequences have positions that were never trained
#   (chapter 11).
# - *Padding on the right, with other ids under the mask.* If the answers change, a layer has lost the mask.
# - *float32 against the mixed policy, on short and on long input.* The difference should not grow with the position. If it does,
#   positions or frequencies are probably rounded to 16 bits.
# - *Save, load, and save again*, on another backend if possible: equal outputs, and equal configs. An argument that was lost
#   *before* you got the file leaves no trace in this test; compare the config with what the authors say.
#
# Every one of these compares two runs of the same model, so none needs to know what is correct.
# ````
#
# ## References
#
# - {cite:t}`su2021`: RoPE, on queries and keys.
# - [keras-hub#1494](https://github.com/keras-team/keras-hub/issues/1494) and
#   [keras-hub#1508](https://github.com/keras-team/keras-hub/pull/1508): positions in bfloat16, and the change.
#
# Full entries are on the page {doc}`/book/references`.
