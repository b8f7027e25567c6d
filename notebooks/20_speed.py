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
# (chapter-speed)=
# # 20 · Speed
#
# RoPE turns each pair of coordinates of a query or key by an angle that grows with the position
# ({doc}`/notebooks/03_deriving_rope`). This takes three operations for each number, and yet some libraries need several times
# as long for it as for copying the tensor. In local attention a token sees only the last $W$ tokens, its *window*. A window of 256 tokens in a text of 8,192 leaves a sixteenth of the scores, but the time need not follow. Is the
# code slow, or is it as fast as the machine allows? **How fast can it be, and how do you know?**
#
# Two speeds of a machine answer most of that: how many bytes per second it moves, and how many operations per second it
# computes. The blue line below is what they allow on the machine that built this page. Choose a computation and move the
# slider: where its point is, on the slope or on the flat part, tells you which of the two speeds it waits for.

# %% tags=["hide-input"]
import time

import torch

from rope_lab.bench import measure_machine
from rope_lab.bench.examples import UNITS, examples
from rope_lab.figures.roofline import roofline

torch.set_num_threads(1)
machine = measure_machine(rounds=5, clock=time.process_time)
roofline(machine.bytes_per_second, machine.flops_per_second, examples(), UNITS)

# %% [markdown]
# A rotation is on the slope whatever its length. Attention moves to the right with the length of the text; with a window it
# hardly moves any more once the text is many windows long. This chapter counts both, bytes and operations, for a rotation, for
# attention with and without a window, and for one token of a model, and compares the measured time with the least that the
# counts allow.
#
# ## The floor
#
# Take a machine that moves 10 billion bytes and computes 100 billion operations per second, and a rotation of one million
# numbers in float32. It reads four million bytes and writes as many, which takes 0.8 milliseconds. A pair takes four
# products and two sums, so the arithmetic is three million operations, which takes 0.03 milliseconds. Even if both happen
# at the same time, it cannot take less than 0.8 milliseconds: this is its **floor**. Faster arithmetic would not lower it, and
# even arithmetic that is 26 times as slow would not raise it.
#
# In general, let a computation move $M$ bytes to and from memory and perform $F$ operations, on a machine that at best moves
# $\beta$ bytes and computes $\gamma$ operations per second. Its time $T$ is
#
# $$ T \;\ge\; \max\Big( \frac{M}{\beta},\; \frac{F}{\gamma} \Big) . $$ (eq-20-1)
#
# Divide $F$ by both sides, and write $I = F/M$ for the **arithmetic intensity**, the operations per byte:
#
# $$ \frac{F}{T} \;\le\; \min\big( I\beta,\; \gamma \big) . $$ (eq-20-2)
#
# As a function of $I$ the right side is a slope and a flat part, the **roofline** {cite:p}`williams2009`. They meet at
# $I^* = \gamma/\beta$. Below $I^*$ a computation is bound by memory, above it by arithmetic.

# %%
from torch import Tensor

from rope_lab.bench import Machine, Work
from rope_lab.verify import check, check_at_most

by_hand = Machine(10e9, 10e9, 10e9, 100e9, 0.0)  # reads, copies, clones; operations
million = Work(bytes=8_000_000, flops=3_000_000)
check("eq. 20.1, by hand", [by_hand.seconds(million)], [0.8e-3])
torch.manual_seed(20)
drawn = [Work(*pair) for pair in torch.randint(1, 10**9, (1000, 2)).tolist()]
achieved = torch.tensor([w.flops / by_hand.seconds(w) for w in drawn]).double()
roofs = torch.tensor([by_hand.flops(w.intensity) for w in drawn]).double()
check("eq. 20.2", achieved / 1e9, roofs / 1e9, draws=1000)

# %% [markdown]
# Here are the speeds of this machine, on one thread. (All times that this page measures are CPU times, medians of calls
# that alternate, so that other programs on the machine count less.) A copy into memory that is already there, and a *clone*,
# whose result is new memory, read and write tensors of the same size:

# %%
from rope_lab.figures.table import table

GB, Gflop = 1e9, 1e9
table(
    [
        ["reading a matrix, to multiply a vector", machine.read_bytes_per_second / GB],
        ["copying into memory that is there", machine.copy_bytes_per_second / GB],
        ["copying into new memory: a clone", machine.clone_bytes_per_second / GB],
        ["multiplying matrices, float32 (Gflop/s)", machine.flops_per_second / Gflop],
        ["edge of the roof (operations per byte)", machine.ridge],
        ["starting an operation (µs)", machine.seconds_per_call * 1e6],
    ],
    {"": "", "GB/s, if nothing else is said": ".1f"},
    caption="One thread, tensors of 64 MB, matrices of 4 MB.",
)

# %% [markdown]
# Is it really memory that a large copy waits for? Take memory away: a tensor that fits into a cache near the arithmetic does
# not have to come from far. If memory is the limit, the same copy has to be faster there, and a product of matrices, which does
# many operations with every byte, should lose less.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Speed against the size of a tensor, from 64 kilobytes to 16 megabytes, both logarithmic, as a share of the highest speed of each operation. The lines of a copy and of a clone fall by a factor of several from the middle of the axis on; the line of a product of square matrices stays nearer to 1."}, "figure": {"caption": "The same operations on tensors of different sizes. A copy of 16 MB has lost most of the highest speed, and so has a clone, whose memory PyTorch can use again at these sizes. The control, a product of two square matrices of that size, keeps much more of its speed: it uses each number many times while it is near.", "name": "fig-by-size"}}
from functools import partial

from rope_lab.bench import interleave
from rope_lab.figures.roofline import by_size

timed = partial(interleave, clock=time.process_time)
kilobytes = [4**step for step in range(3, 8)]
speeds: dict = {"copy": [], "clone": [], "product": []}
for size in kilobytes:
    source = torch.randn(size * 256)
    target, square = torch.empty_like(source), source.view(int((size * 256) ** 0.5), -1)
    calls = {"copy": partial(target.copy_, source), "clone": source.clone}
    calls["product"] = partial(torch.mm, square, square)
    taken = timed(calls, 3, 4 if size < 4096 else 1)
    for way, rates in speeds.items():
        done = len(square) ** 3 if way == "product" else source.nbytes
        rates.append(done / taken[way])
by_size(kilobytes, speeds)

# %%
for way, rates in speeds.items():
    print(f"{way}: {rates[-1] / max(rates):.2f} of its highest speed is left at 16 MB")

# %% [markdown]
# So for large tensors it is memory. (*Memory* means whatever is beyond the nearest caches. On a server this may still be a large
# cache that all its users share.) And the table above the figure shows two limits of memory: the bytes themselves, and new
# memory for a result, which the system has to provide page by page. A rotation in eager mode returns a new tensor, and that is why this book's
# unit for it is a clone of the same tensor, not a copy.
#
# ## A rotation
#
# Let $e$ be the bytes of a number, 4 in float32 and 2 in bfloat16. A tensor of $n$ numbers is read and written once, and
# each of its $n/2$ pairs takes six operations:
#
# $$ M = 2\,e\,n , \qquad F = 3\,n , \qquad I = \frac{3}{2\,e} . $$ (eq-20-3)
#
# That is 0.375 operations per byte in float32 and 0.75 in bfloat16. The table with the cosine and sine of each position and
# pair is left out, because all heads share it: for the 8 heads of the figure above, it makes 0.375 into 0.353.
# The backward pass is a rotation by the opposite angles, so its counts are the same. To check the counts, rotate numbers
# that count what is done to them, and watch which bytes PyTorch's operations read and write:


# %%
from rope_lab import angles, frequencies, rotate
from rope_lab.bench import Traffic, counts


class Counted(float):
    """A number that counts the operations on all of its kind."""

    done = 0

    def _count(self, result: float) -> "Counted":
        Counted.done += 1
        return Counted(result)

    def __mul__(self, other: float) -> "Counted":
        return self._count(float(self) * other)

    def __add__(self, other: float) -> "Counted":
        return self._count(float(self) + other)

    def __sub__(self, other: float) -> "Counted":
        return self._count(float(self) - other)


a, b, cos, sin = map(Counted, (1.0, 2.0, 0.6, 0.8))
turned = (a * cos - b * sin, b * cos + a * sin)  # one pair
check("eq. 20.3, operations", [Counted.done / 2], [3.0])

x = torch.randn(4, 16, 2112, 64)
angle = angles(torch.arange(2112), frequencies(64))
with Traffic() as rotating, torch.no_grad():
    rotate(x, angle)
shared = (rotating.bytes - 2 * x.nbytes) / x.nbytes
check_at_most("eq. 20.3, bytes besides, in tensors", shared, 0.2)
bound = counts.rotation(x.shape, 4)
check("eq. 20.3, counted", [bound.flops / x.numel()], [3.0])

# %% [markdown]
# ### What fusing saves
#
# An operation that reads its arguments and writes its result takes one **pass** over memory for each of them, counted in
# tensors of the size of $x$. Results of operations that do not work in place are new memory besides. Let $t$ be the time of
# a copy into memory that is there, which is two passes, and $t'$ that of a clone, which is two passes and one new result.
# If memory is the limit, a form of $p$ passes with $r$ new results takes about
#
# $$ T \approx \tfrac12\, p\, t + r\, (t' - t) . $$ (eq-20-4)
#
# A **fused** kernel does all steps on a number while it has it: $p = 2$ and $r = 1$, the time of a clone. An elementwise
# form that many libraries write, in five operations, is far from that. It is compared with `rotate` in both layouts
# ({doc}`/notebooks/05_layouts`): pairs of adjacent coordinates (interleaved), or of coordinates half a head apart (half).


# %%
def elementwise(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # the half layout
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


twice = angle.repeat(1, 2)
table_cos, table_sin = twice.cos(), twice.sin()
check("the form", elementwise(x, table_cos, table_sin), rotate(x, angle, "half"))
half = partial(rotate, layout="half")
wide = torch.cat((x, x)).bfloat16()  # as many bytes as x
forms = {
    "copy": (torch.empty_like(x).copy_, (x,)),
    "clone": (torch.clone, (x,)),
    "five operations": (elementwise, (x, table_cos, table_sin)),
    "interleaved": (rotate, (x, angle)),
    "half": (half, (x, angle)),
    "interleaved, bfloat16": (rotate, (wide, angle)),
    "half, bfloat16": (half, (wide, angle)),
}
passes, fresh, backwards = {}, {}, {}
for name, (form, inputs) in forms.items():
    with Traffic() as eager, torch.no_grad():
        form(*inputs)
    passes[name], fresh[name] = eager.bytes / x.nbytes, eager.fresh / x.nbytes
    if name.startswith(("interleaved", "half")):
        leaf = inputs[0].detach().requires_grad_()
        out = form(leaf, angle)
        seed = torch.randn_like(out)
        backwards[name] = partial(
            torch.autograd.grad, out, leaf, seed, retain_graph=True
        )
with torch.no_grad():
    once = timed({name: partial(f, *given) for name, (f, given) in forms.items()}, 4)
back = timed(backwards, 3)
t, t_new = once["copy"], once["clone"]
predicted = {name: p * t / 2 + fresh[name] * (t_new - t) for name, p in passes.items()}
table(
    [
        [name, passes[name], fresh[name]]
        + [
            seconds and seconds / t_new
            for seconds in (predicted[name], once[name], back.get(name))
        ]
        for name in forms
    ],
    {"": "", "passes": ".1f", "new": ".1f", "predicted": ".1f"}
    | {"forward": ".1f", "backward": ".1f"},
    caption="Rotating 35 MB: passes and new results, then times, all in clones.",
)

# %%
check("a clone: passes, new", [passes["clone"], fresh["clone"]], [2.0, 1.0])
check("five operations: new", [fresh["five operations"]], [4.5])
ours = [passes["interleaved"], passes["half"]]
check_at_most("passes of ours, of five operations", ours, passes["five operations"])
new_memory = fresh["five operations"] * (t_new - t) / predicted["five operations"]
print(f"new memory is {new_memory:.0%} of what is predicted for five operations")
for name in ("interleaved, bfloat16", "half, bfloat16"):
    reused = passes[name] * t / 2 + (t_new - t)  # r = 1: the result only
    print(f"{name}, if only its result is new: predicted {reused / t_new:.1f}")

# %% [markdown]
# *Predicted* is equation {eq}`eq-20-4`. In float32, compare it with the time. So it is not only the passes that make five
# operations slow, but also the memory that is asked for between them. There is a control: start Python with the variables
# `MALLOC_MMAP_THRESHOLD_` and `MALLOC_TRIM_THRESHOLD_` of Linux's C library set to some billions, and the program keeps the
# memory that it has freed. Where this was tried, a clone then took about as long as a copy, and five operations about as long
# as five copies, as their ten passes say.
#
# In bfloat16 the equation predicts too much. The package computes in float32, as chapter 8 asks, but it widens one block of
# tokens at a time, and the next block gets the memory of the last one. Only the result is new to the system. With $r = 1$ the
# prediction, in the last two lines, is much nearer to the time.
#
# Compiling takes seconds, so this page reads those rows from the recorded benchmark:

# %%
from rope_lab.bench import goals, recorded

results = recorded()
found = goals(results)
provenance = (
    f"`rope-lab bench` on {results['processor']}, {results['threads']} threads "
    f"if nothing else is said, torch {results['versions']['torch']}"
)


def reached(*starts: str, caption: str):
    """The goals whose names start so, with their bounds."""
    rows = [
        [goal.name.replace(", clones", ""), goal.value, goal.cells[2], goal.bound]
        for goal in found
        if goal.name.startswith(starts)
    ]
    columns = {"": "", "ratio": ".2f", "goal": "", "bound": ".2f"}
    return table(rows, columns, caption=caption, provenance=provenance)


full_precision = results["rotation"][0]
table(
    [
        [
            name,
            clones,
            full_precision["backward_in_clones"][name],
        ]
        for name, clones in full_precision["forward_in_clones"].items()
        if name != "clone" and "table" not in name
    ],
    {"float32": "", "forward": ".2f", "backward": ".2f"},
    caption="Recorded: rotating (4, 16, 4096, 64), in clones.",
    provenance=provenance,
)

# %%
reached("rotation", caption="Recorded: the same in bfloat16, with the goal for each.")

# %% [markdown]
# A *goal* is a ratio that this package is meant to reach, whether it does or not. The *bound* is a copy of the same bytes into
# memory that is there, which a rotation that returns a new tensor does not have.
#
# ## Local attention
#
# How many scores are there? A causal head over $N$ tokens has $N(N+1)/2$. With a window of $W \le N$ keys the query at
# position $m$ sees $\min(m + 1, W)$ of them. By hand, for $N = 8$ and $W = 2$: 36 scores without a window, and
# $1 + 7 \cdot 2 = 15$ with it. In general
#
# $$
# \begin{aligned}
# S &= \tfrac12 N(N+1) , \\
# S_W &= N W - \tfrac12 W(W-1) ,
# \end{aligned}
# $$ (eq-20-5)
#
# so that $S/S_W$ approaches $N/2W$ in a long text: 16 for 8,192 tokens and a window of 256. That is what the arithmetic
# allows, and no more.
#
# Which of the two speeds does attention wait for? Each score takes $2D$ operations for its inner product and $2D$ to add
# its value. A fused kernel keeps the scores to itself and moves queries, keys, values and outputs, four tensors of $N D$
# numbers per head. So
#
# $$
# \begin{aligned}
# I &= \frac{4 D S}{4 e N D} = \frac{N+1}{2 e} , \\
# I_W &= \frac{4 D S_W}{4 e N D} \approx \frac{W}{e} .
# \end{aligned}
# $$ (eq-20-6)
#
# Without a window the intensity grows with the text. With one it does not depend on the text at all, and windows below
# $e I^*$ tokens are bound by memory.

# %%
from rope_lab import local
from rope_lab.local import local_attention

check("eq. 20.5, by hand", [counts.scores(8), counts.scores(8, 2)], [36, 15])
for N, W in ((8, 2), (100, 7), (64, 64), (257, 32)):
    m, n = torch.arange(N)[:, None], torch.arange(N)
    one_by_one = [int((n <= m).sum()), int(local.Window(W).sees(m, n).sum())]
    formula = [N * (N + 1) // 2, N * W - W * (W - 1) // 2]
    check(f"eq. 20.5, N = {N}, W = {W}", formula, one_by_one)
heads, dim = 4, 64
long = counts.attention(heads, 8192, dim, counts.scores(8192), 4)
windowed = counts.attention(heads, 8192, dim, counts.scores(8192, 256), 4)
check("eq. 20.6", [long.intensity], [8193 / 8])
check(
    "eq. 20.6, window",
    [windowed.intensity],
    [256 / 4],
    tolerance=0.02,
    reason="approximation",
)
print(f"scores, full over local: {counts.scores(8192) / counts.scores(8192, 256):.1f}")
print(f"windows below {4 * machine.ridge:.0f} tokens are bound by memory here")

# %% [markdown]
# Now the times. The floor is the arithmetic of these scores at the speed of a product of large matrices. It leaves out the
# exponential of every score, and the scores outside the window that a piece of the band computes as well (chapter 12).

# %%
length, window = 2048, 128
q, k, v = torch.randn(3, 1, heads, length, dim)
attend = torch.nn.functional.scaled_dot_product_attention
ways = {
    "full": partial(attend, q, k, v, is_causal=True),
    f"window of {window}": partial(local_attention, q, k, v, window=window),
}
with torch.no_grad():
    spent = timed(ways, 5)
seen = [counts.scores(length), counts.scores(length, window)]
floors = [machine.seconds(counts.attention(heads, length, dim, S, 4)) for S in seen]
table(
    [
        [name, S / seen[1], floor * 1e3, spent[name] * 1e3, spent[name] / floor]
        for name, S, floor in zip(ways, seen, floors, strict=True)
    ],
    {
        "": "",
        "scores": ".1f",
        "floor (ms)": ".1f",
        "time (ms)": ".1f",
        "time/floor": ".1f",
    },
    caption=f"{heads} heads, N = {length:,}, float32, one thread, on this machine.",
)

# %% [markdown]
# The recorded benchmark does this for 8,192 tokens, with gradients, and for the library `local-attention`. An *inclusive* window
# has one more key than $W$; with *block* windows a query sees its own block of $W$ tokens, up to itself, and the block before.
# The column *bound* has the ratio of the scores; for memory it has the results alone, which any way of computing them needs:

# %%
reached(
    "full over", "the library", "peak",
    caption="Recorded: (1, 8, N, 64), windows of 256, float32.",
)  # fmt: skip

# %% [markdown]
# ## Decoding
#
# To write one token, a model multiplies one vector by each of its matrices, and reads the keys and values of all earlier tokens
# from a cache. Let the matrices have $P$ numbers, and let the cache of one text hold $K$ numbers. Each number takes part in a
# product and a sum. With $B$ texts at once, every matrix is read
# once for all of them, but every text has a cache of its own:
#
# $$
# \begin{aligned}
# M &= e\,(P + B K) , \\
# F &= 2 B\,(P + K) .
# \end{aligned}
# $$ (eq-20-7)
#
# For one text $I = 2/e$, half an operation per byte in float32, a third more than a rotation: each number of the model is
# fetched for one product and one sum. Twice as many texts cost hardly more bytes, as long as $B K$ is small beside $P$, and
# do twice the work with them. (All heads have keys of their own here; with fewer key
# heads each cached number is used several times.)

# %%
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rope_lab import RoFormer, RoFormerConfig


def llama(width: int) -> RoFormer:
    return RoFormer(RoFormerConfig.llama(65, dim=width, depth=2, heads=4)).eval()


def next_token(model: RoFormer, batch: int, past: int = 16, rounds: int = 12):
    """A call that reads one more token, after `past` of them."""
    cache = model.new_cache(past + rounds)
    ids = torch.zeros(batch, past, dtype=torch.long)
    model(ids, cache=cache)
    return lambda: model(ids[:, :1], cache=cache)


small = llama(64)
with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # a form that torch can count
    call = next_token(small, 3)
    with FlopCounterMode(display=False) as counter:
        call()
P, K = counts.matrices(small.config), 2 * 2 * 64 * 17
check("eq. 20.7, operations", [2 * 3 * (P + K)], [counter.get_total_flops()])
matrices = [
    p for name, p in small.named_parameters() if p.ndim == 2 and "embed" not in name
]
check("eq. 20.7, P", [P], [sum(p.numel() for p in matrices)])

# %% [markdown]
# The roof has two parts, but a program has a third cost: every operation has to be started. One costs microseconds, but a
# model starts the same number of them for each token, however small its matrices are. That gives a third floor, the number of
# operations times the time of one on a single number. Here are three models of two layers that differ only in their width,
# and the widest with 16 texts at once:

# %%
shapes = [(64, 1), (256, 1), (1024, 1), (1024, 16)]
models = {64: small} | {width: llama(width) for width in (256, 1024)}
rows, measured = [], {}
with torch.no_grad():
    for width, batch in shapes:
        token = next_token(models[width], batch)
        with Traffic() as started:
            token()
        needed = counts.decoding(models[width].config, past=20, batch=batch)
        measured[width, batch] = timed({"token": token}, 9)["token"]
        three = [
            needed.bytes / machine.bytes_per_second,
            needed.flops / machine.flops_per_second,
            started.calls * machine.seconds_per_call,
        ]
        rows.append(
            [width, batch, started.calls]
            + [1e3 * seconds for seconds in (*three, measured[width, batch])]
        )
table(
    rows,
    {"width": ",d", "texts": "d", "started": "d", "bytes": ".2f", "flops": ".2f"}
    | {"starting": ".2f", "measured": ".2f"},
    caption="One token of each text: operations started; floors and time in ms.",
)

# %%
ratio = measured[256, 1] / measured[64, 1]
bytes_ratio = counts.matrices(models[256].config) / counts.matrices(small.config)
print(
    f"width 256 over 64: {bytes_ratio:.0f} times the bytes, {ratio:.1f} times the time"
)
share = measured[1024, 16] / 16 / measured[1024, 1]
print(f"16 texts at once: {share:.2f} of the time per text of one alone")
# seconds = a + b·bytes: this is a, over the seconds of width 64
constant = (bytes_ratio - ratio) / (bytes_ratio - 1)
print(f"not growing with the bytes: {constant:.0%} of the time at width 64,", end=" ")
print(f"{constant / ratio:.0%} at width 256")

# %% [markdown]
# The first line is the control. If the two smaller models waited for bytes, the larger one of them would take as many times
# as long as it has bytes. It does not. The last line takes the time to be a constant plus a part in proportion to the bytes:
# then nearly all the time of the smallest model is the constant, such as starting operations and the Python around them, and a
# good part of the next one's. In the widest model with one text, the floor of the bytes is by far the highest of the three, and
# the time is nearer to it than in the small models. So the time of a small model says little about that of a large one.
#
# In the recorded benchmark, this package and transformers run a Llama with the same weights. It is small enough for the number
# of operations to matter. The *bound* is the floor of bytes and operations, over the time of transformers:

# %%
llamas = results["models"]
apart = llamas["largest_difference_of_logits"]
print(f"largest difference of logits: {apart:.0e}")
for library, started_there in llamas["token_operations"].items():
    milliseconds = 1e3 * llamas["token_seconds"][library]
    print(f"{library:12s} {started_there} operations, {milliseconds:.1f} ms per token")
reached("Llama", caption="Recorded: 6 layers, width 256, 4 heads, one thread.")

# %% [markdown]
# ## On a GPU
#
# A GPU has a roof of its own. Two questions depend on it:
# whether FlexAttention is the faster form of local attention, and whether the compiled rotation reaches 85% of the speed of
# a clone. `make gpu` records both, with the device and the versions. The backend can then be chosen from the record; without
# one it is the form that is tested here:

# %%
from rope_lab.bench import attention_backend

gpu = recorded("cuda")
if gpu is None:
    print("not measured: no GPU has run `make gpu` yet")
else:
    for goal in goals(gpu):
        print(*goal.cells)
backend = attention_backend(q, window=window)
print(f"backend of local attention here: {backend}")
chosen = local_attention(q, k, v, window=window, backend=backend)
check(
    "the backend that was chosen", chosen, ways[f"window of {window}"](), tolerance=1e-5
)

# %% [markdown]
# ## In the wild: ten kernels where one would do
#
# A draft for PyTorch itself adds a rotation of queries and keys, written in plain operations
# ([pytorch#176223](https://github.com/pytorch/pytorch/pull/176223), closed). Its author profiled ten calls on one GPU, for a
# batch of 4, 2,048 tokens and 32 heads of 128 coordinates in bfloat16: 100 kernels (products, negations, concatenations, sums)
# and 8.675 ms in eager mode, 10 kernels and 0.470 ms compiled. Ten kernels per call are as many as five operations for the
# queries and five for the keys. Equation {eq}`eq-20-3` says which bandwidth that is:

# %%
numbers = 2 * 4 * 2048 * 32 * 128  # queries and keys
needed_bytes = 10 * 2 * 2 * numbers  # without the table
speedup = 8.675 / 0.470
by_passes = passes["five operations"] / 2
eager_bytes = by_passes * needed_bytes
print(f"compiled: {needed_bytes / 0.470e-3 / 1e12:.1f} TB/s")
print(f"eager:    {eager_bytes / 8.675e-3 / 1e12:.1f} TB/s, if it made all passes")
print(f"speed-up: {speedup:.1f}, of which the passes explain {by_passes:.1f}")

# %% [markdown]
# So the passes explain a part of the speed-up, but not all of it: even for the bytes that they move, the eager kernels were
# slower than the fused one. The report does not say why.
#
# ## Summary
#
# - Count bytes and operations. The longer of the two times that they take at best is a floor, and only the distance from it
#   can be won by better code.
# - A rotation and a token of a large model wait for memory, full attention over a long text for arithmetic; a window makes it
#   at most about $N/2W$ times as fast. A token of a very small model waits for what does not grow with its bytes.
# - Fusing saves passes over memory and new memory, not operations.
#
# ## Exercises
#
# Each checker tells you what it found. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-20-1
# ```
#
# Write `least_time(n, e, beta, gamma)`: the floor of rotating `n` numbers of `e` bytes each, in seconds, on a machine that
# moves `beta` bytes and computes `gamma` operations per second. Leave the table of angles out.

# %%
from rope_lab.exercises.ch20 import check_least_time


def least_time(n: int, e: int, beta: float, gamma: float) -> float:
    return None  # your turn


check_least_time(least_time)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-20-1
# :label: sol-20-1
# ```
#
# Equation {eq}`eq-20-1` with the counts of {eq}`eq-20-3`.


# %%
def least_time(n: int, e: int, beta: float, gamma: float) -> float:
    return max(2 * e * n / beta, 3 * n / gamma)


check_least_time(least_time)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-20-2
# ```
#
# A computation is a list of steps, each a list of names of tensors: first the result, then what it is computed from, such as
# `[["p", "x", "cos"], ["y", "p", "x"]]`. `sizes` has the bytes of each tensor. Write `passes_saved(steps, sizes)`: the
# bytes that the steps move if each is an operation of its own, divided by those of one fused kernel, whose only result is
# that of the last step. A step that names a tensor twice reads it twice, a fused kernel reads each tensor once.

# %%
from rope_lab.exercises.ch20 import check_passes_saved


def passes_saved(steps: list[list[str]], sizes: dict[str, int]) -> float:
    return None  # your turn


check_passes_saved(passes_saved)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-20-2
# :label: sol-20-2
# ```
#
# A fused kernel reads once what no step has made, and writes the last result.


# %%
def passes_saved(steps: list[list[str]], sizes: dict[str, int]) -> float:
    eager = sum(sizes[name] for step in steps for name in step)
    made = {step[0] for step in steps}
    given = {name for step in steps for name in step[1:]} - made
    return eager / (sum(sizes[name] for name in given) + sizes[steps[-1][0]])


check_passes_saved(passes_saved)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-20-3
# ```
#
# `window_gain` should say how many times as many scores full causal attention has over `N` tokens as local attention with
# an exact window of `W` keys. Somebody used it, was promised 32 for 8,192 tokens and a window of 256, and never saw more
# than half of that. Correct it, for texts that are shorter than the window as well.

# %%
from rope_lab.exercises.ch20 import check_window_gain


def window_gain(N: int, W: int) -> float:
    return N * N / (N * W)


check_window_gain(window_gain)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-20-3
# :label: sol-20-3
# ```
#
# Full attention is causal too, which halves its scores; and the first queries see fewer keys than the window has.


# %%
def window_gain(N: int, W: int) -> float:
    W = min(W, N)
    return N * (N + 1) / (2 * N * W - W * (W - 1))


check_window_gain(window_gain)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-20-4
# ```
#
# "Decode enough texts at once, and arithmetic is the limit." Write `enough_texts(P, K, e, ridge)`: the smallest number of
# texts $B$ for which the intensity of equation {eq}`eq-20-7` is at least `ridge`, or `None` where no number is enough. The
# model has `P` numbers in its matrices, the cache of each text `K` numbers, and each number takes `e` bytes.

# %%
from rope_lab.exercises.ch20 import check_enough_texts


def enough_texts(P: int, K: int, e: int, ridge: float) -> int | None:
    return None  # your turn


check_enough_texts(enough_texts)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-20-4
# :label: sol-20-4
# ```
#
# It is refuted: it depends on the cache. $2B(P + K) \ge I^* e\,(P + BK)$ means $B\,\big(2(P + K) - I^* e K\big) \ge I^* e P$, and if the
# bracket is not positive, no $B$ will do: every further text brings a cache of its own, and the intensity approaches
# $2(P + K)/eK$.


# %%
import math


def enough_texts(P: int, K: int, e: int, ridge: float) -> int | None:
    bracket = 2 * (P + K) - ridge * e * K
    return max(1, math.ceil(ridge * e * P / bracket)) if bracket > 0 else None


check_enough_texts(enough_texts)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-20-5
#
# A colleague has written a faster rotation and reports: "3.1 times as fast as the library, median of 100 calls". Name
# four ways in which this number can be true and the rotation in a model no faster, and for each a measurement that shows
# it. (This question has no checker.)
# ```
#
# ````{solution} ex-20-5
# :label: sol-20-5
#
# - *The tensor fits into a cache, and those of the model do not.* Measure sizes on both sides of the cache, as in
#   {numref}`fig-by-size`, and give bytes per second beside a clone of the same tensor.
# - *One ran after the other.* The machine, or another user of it, changed in between. Let them alternate in one process, and
#   swap them: a function compared with itself should give 1.
# - *Only the forward pass was timed*, or without gradients, or the first call of the library, which compiles or fills a
#   table. Time forward and backward passes after a call to warm up.
# - *The call returned before the work was done.* On a GPU a call only queues its kernels. Synchronise before reading the clock,
#   and check the results, too.
# - *The rotation is a small part of the model.* If it takes a share $p$ of the time, 3.1 times as fast saves at most $0.68\,p$ of
#   it. Time the whole step with and without any rotation.
# - *The compiler had already fused it* with what is before and after it, and a kernel of its own now stands in the way. Time
#   the compiled model.
# ````
#
# ## References
#
# - {cite:t}`williams2009`: the roofline, reproduced above for one machine.
#
# Full entries are on the page {doc}`/book/references`.
