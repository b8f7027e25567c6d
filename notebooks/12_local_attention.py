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
# (chapter-local)=
# # 12 · Local attention
#
# Every token looks at every token before it. Double the text, and attention has four times the work. But most of what a
# small model of characters uses comes right before the character that it predicts (chapter 13 measures that). **What if
# each token looked only at the last $W$?**
#
# Each square below is a score of one query (row) with one key (column), for a text of 16 tokens and $W = 4$. White
# scores are never needed. One query is marked, and the title of each panel says how many keys it sees:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six square maps of 16 queries by 16 keys. Full causal: the lower triangle, 12 keys for the marked query. Exact window: a band of four below the diagonal, 4 keys. Inclusive window: a band of five, 5 keys. Block window: staircase blocks of four with the block before, 8 keys. Exact window on both sides: a band of seven, 7 keys. Block window on both sides: three blocks, 12 keys."}, "figure": {"caption": "Full attention fills a triangle, a window a band along the diagonal. Three rules go by the name of a window of 4; the marked query sees 4, 5 or 8 keys by them. The last two panels let it look ahead as well.", "name": "fig-windows"}}
import torch
from torch import Tensor

from rope_lab.figures.local import masks
from rope_lab.figures.table import table
from rope_lab.local import Window


def mask_of(window: Window, length: int) -> Tensor:
    """True where query m (row) sees key n (column), (N, N)."""
    at = torch.arange(length)
    return window.sees(at[:, None], at)


W, N = 4, 16
kinds = {
    "full, causal": Window(N),
    "exact": Window(W),
    "inclusive": Window(W, inclusive=True),
    "block": Window(W, exact=False),
    "exact, both sides": Window(W, causal=False),
    "block, both sides": Window(W, causal=False, exact=False),
}
masks({name: mask_of(window, N) for name, window in kinds.items()}, query=11)

# %% [markdown]
# The band has $N$ rows of $W$ scores: work that grows with the length and no longer with its square. This chapter
# defines the window, computes it without the white squares, measures what that saves and what it costs, and asks what is
# lost: how far can a stack of such layers see, and how far does it look?
#
# ## The window is a mask
#
# Let $q_m$, $k_n$ and $v_n$ be the query, key and value of the tokens at positions $m$ and $n$. (If the model encodes
# positions by RoPE, queries and keys have been rotated already; until the section *RoPE inside a window* you need not
# know how.) A causal **window** of $W$ tokens restricts attention to the last $W$ keys, the query's own among them:
#
# $$
# \begin{aligned}
# \mathcal{W}(m) &= \{\, n \ge 0 : 0 \le m - n < W \,\} , \\
# o_m &= \sum_{n \in \mathcal{W}(m)} \frac{\mathrm{e}^{a_{mn}}}{\sum_{n' \in \mathcal{W}(m)} \mathrm{e}^{a_{mn'}}}\; v_n , \\
# a_{mn} &= \langle q_m, k_n \rangle / \sqrt{D} .
# \end{aligned}
# $$ (eq-12-1)
#
# {cite:t}`child2019` used such bands as one half of their sparse attention, Longformer {cite:p}`beltagy2020` named it
# sliding window attention, and Mistral 7B {cite:p}`jiang2023` is a large language model that has it in every layer. As
# code it is full attention with minus infinity outside the band. This version computes all $N^2$ scores, so it saves
# nothing, but it is easy to trust:

# %%
from rope_lab.local import local_attention
from rope_lab.verify import check, check_at_most

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # checks then show the 16th digit
torch.manual_seed(12)


def naive_local(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Equation 12.1, every score computed. q, k, v (B, H, N, D), seen (N, N)."""
    scores = q @ k.mT / q.shape[-1] ** 0.5  # (B, H, N, N)
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v


for W, N in ((1, 10), (4, 16), (7, 45), (64, 300), (50, 20)):
    q, k, v = torch.randn(3, 4, 2, N, 8)
    dense = naive_local(q, k, v, mask_of(Window(W), N))
    local = local_attention(q, k, v, window=W)
    check(f"eq. 12.1, W = {W}, N = {N}", local, dense)

# %% [markdown]
# The rest of the chapter takes apart the package's `local_attention`.
#
# ### How many keys is a window of W?
#
# Query $m$ sees $\min(m + 1, W)$ keys: fewer at the start, where there are no $W$. Over a text of $N \ge W$ tokens that
# makes
#
# $$ \sum_{m=0}^{N-1} \lvert \mathcal{W}(m) \rvert = N W - \frac{W (W - 1)}{2} $$ (eq-12-2)
#
# scores, where full causal attention has $N(N+1)/2$.

# %%
sizes = [(N, W) for N in (64, 100, 301) for W in (1, 2, 16, 64)]
counted = [mask_of(Window(W), N).sum() for N, W in sizes]
formula = [N * W - W * (W - 1) // 2 for N, W in sizes]
check("eq. 12.2", torch.stack(counted), torch.tensor(formula))

# %% [markdown]
# But not everybody counts like that. Two more rules: An *inclusive* window contains the $W$ tokens before the query
# and, in addition, the query itself, $m - n \le W$. A *block* window cuts the text into blocks of $W$ and lets a query
# see its own block and a number of blocks before it, `look_backward`, so its view does not move with each token but
# jumps with each block. With `look_backward` $b$ the other two go back $b$ times as far, $m - n < bW$ and $m - n \le
# bW$. Keys that a query far from the start sees:

# %%
rows = []
for name in ("exact", "inclusive", "block"):
    rule = {"exact": name != "block", "inclusive": name == "inclusive"}
    cells = []
    for back in (1, 2):
        window = Window(16, look_backward=back, **rule)
        keys = mask_of(window, 128)[64:].sum(-1)
        cells.append(
            f"{keys.min()}"
            if keys.min() == keys.max()
            else f"{keys.min()} to {keys.max()}"
        )
    rows.append([name, *cells])
table(
    rows,
    ["window of 16", "keys, `look_backward=1`", "keys, `look_backward=2`"],
)

# %% [markdown]
# You have to look up what each library means by $W$:
#
# | library | its $W$ | keys seen |
# |---|---|---|
# | this book; transformers `sliding_window`, causal | exact | $W$ |
# | flash-attention `window_size=(W, 0)`; attention-gym; ONNX `left_window_size` ([onnx#8108](https://github.com/onnx/onnx/pull/8108)) | inclusive | $W + 1$ |
# | `LocalAttention` of local-attention, `exact_windowsize=True`; its `LocalMHA` by default | inclusive | $W + 1$ |
# | `LocalAttention` of local-attention by default ([local-attention#11](https://github.com/lucidrains/local-attention/issues/11)) | block | $W + 1$ to $2W$ |
#
# (The last two rows are for `causal=True` and `look_backward=1`.) The tests of this book compare the rows for local-attention with the
# library itself; the other rows were taken from the code and documentation of the libraries. One library can even count
# in two ways: so does local-attention, and transformers is inclusive without a causal mask. And the report on Mistral
# 7B has two readings: its text lets position $i$ attend to the positions from $i - W$ to $i$, which are $W + 1$, and
# the caption beside it says at most $W$ {cite:p}`jiang2023`.
#
# One key more or less raises no error, so the difference is easy to overlook. It does change the outputs:

# %%
q, k, v = torch.randn(3, 8, 2, 512, 32)
rows = []
for W in (4, 16, 64, 256):
    one_more = local_attention(q, k, v, window=W, inclusive=True)[..., W:, :]
    exact = local_attention(q, k, v, window=W)[..., W:, :]
    rows.append([W, (one_more - exact).norm() / exact.norm()])
table(rows, {"W": "d", "change of the output by one key more": ".1%"})

# %% [markdown]
# The change is relative to the norm of the output, for random queries and keys whose scores have standard deviation 1.
#
# ## Blocks instead of a mask
#
# The naive version computes the white squares and throws them away. To leave them out, number the blocks of $W$ tokens by
# $g$, and split a position into its block and its place in it: query $m = gW + r$ with $0 \le r < W$. Its window ends in
# block $g$ and cannot begin before block $g - 1$. So count the keys of these two blocks through, from the start of
# block $g - 1$: key $n = (g - 1)W + c$ with $0 \le c < 2W$. Then $m - n = W + r - c$, and the window is
#
# $$ n \in \mathcal{W}(m) \iff r < c \le r + W . $$ (eq-12-3)
#
# With $W = 4$, for example, query 6 has $g = 1$, $r = 2$ and sees keys 3 to 6, which are $c = 3, \dots, 6$: indeed
# $2 < c \le 6$. The block number has dropped out: one small mask of $W \times 2W$ serves every block. Write $Q_g$, $K_g$, $V_g$ for the
# rows of block $g$. All of local attention is then one batch of small dense attentions,
#
# $$
# O_g = \operatorname{softmax}_{\,r < c \le r + W}
# \left( Q_g \begin{bmatrix} K_{g-1} \\ K_g \end{bmatrix}^{\!\top} \!\Big/ \sqrt{D} \right)
# \begin{bmatrix} V_{g-1} \\ V_g \end{bmatrix} ,
# $$ (eq-12-4)
#
# with nothing to see in block $-1$. For block windows only the right half of the condition is needed, $c \le r + W$,
# which is the causal mask. In code, for $N$ a multiple of $W$:


# %%
def with_block_before(x: Tensor, W: int) -> Tensor:
    """Each block behind the one before: (B, H, N, D) -> (B, H, N/W, 2W, D)."""
    blocks = x.unflatten(-2, (-1, W))
    nothing = torch.zeros_like(blocks[:, :, :1])
    before = torch.cat((nothing, blocks[:, :, :-1]), dim=2)
    return torch.cat((before, blocks), dim=3)


def folded_local(q: Tensor, k: Tensor, v: Tensor, W: int) -> Tensor:
    """Equation 12.4, all blocks at once."""
    blocks = q.unflatten(-2, (-1, W))  # (B, H, N/W, W, D)
    r, c = torch.arange(W)[:, None], torch.arange(2 * W)
    seen = ((r < c) & (c <= r + W)).repeat(blocks.shape[2], 1, 1)
    seen[0, :, :W] = False  # there is no block −1
    scores = blocks @ with_block_before(k, W).mT / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return (weights @ with_block_before(v, W)).flatten(2, 3)


W, N = 16, 160
q, k, v = torch.randn(3, 4, 2, N, 8)
mask = mask_of(Window(W), N)
m, n = torch.meshgrid(torch.arange(N), torch.arange(N), indexing="ij")
g, r = m // W, m % W
c = n - (g - 1) * W
check("eq. 12.3", mask, (r < c) & (c <= r + W))
folded = folded_local(q, k, v, W)
check("eq. 12.4", folded, naive_local(q, k, v, mask))
check("eq. 12.4, in the package", folded, local_attention(q, k, v, window=W))

# %% [markdown]
# ### The work that is still wasted
#
# A query needs $W$ of the $2W$ scores that its block computes, so half of the work is wasted. Cut the queries into blocks of
# $u$ instead, whatever $W$ is. The windows of $u$ consecutive queries span $u + W - 1$ keys; $u\,(u + W - 1)$ scores are
# computed, $uW$ are used, and the fraction
#
# $$ \frac{u\,(u + W - 1) - uW}{u\,(u + W - 1)} = \frac{u - 1}{W + u - 1} $$ (eq-12-5)
#
# is computed but not used. One query at a time wastes nothing, but then no two queries share the keys that were loaded
# for them.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three maps of 24 by 24 scores with W = 8. Left, blocks of 8 queries with two whole blocks of keys: about half of the computed squares are pale, not used. Middle, blocks of 4 queries with the keys they span: fewer pale squares. Right, single queries: none."}, "figure": {"caption": "Scores used (blue) and computed but not used (pale) for a window of 8. White ones are never computed. Small blocks follow the band more closely.", "name": "fig-formed"}}
from rope_lab.figures.local import formed


def spanned(length: int, block: int, back: int) -> Tensor:
    """Scores computed where a block of queries shares its keys and `back` before, (N, N)."""
    m, n = torch.arange(length)[:, None], torch.arange(length)
    start = m // block * block
    return (n >= start - back) & (n < start + block)


W, N = 8, 24
band = mask_of(Window(W), N)
ways = {
    "two whole blocks": (W, W),
    "blocks of 4": (4, W - 1),
    "single queries": (1, W - 1),
}
formed(
    {name: (band, spanned(N, block, back)) for name, (block, back) in ways.items()},
    {name: block for name, (block, _) in ways.items()},
)

# %%
W, N = 32, 512
inside = slice(64, None)  # blocks whose keys all exist
band = mask_of(Window(W), N)[inside]
wasted, formula = [], []
for block in (1, 2, 8, 32, 64):
    made = spanned(N, block, W - 1)[inside]
    wasted.append(1 - band.sum() / made.sum())
    formula.append((block - 1) / (W + block - 1))
check("eq. 12.5", torch.stack(wasted), torch.tensor(formula), tolerance=1e-12)

# %% [markdown]
# Where nothing but an exact window hides keys (no padding, no other texts in the row), the package computes the output on
# a CPU in blocks of $W/8$ queries, but not under 32 nor over 256. The first queries, and a remainder at the end, are apart.
# The rule for what a query sees is short:

# %% tags=["hide-input"]
from rope_lab.figures.source import source

source(Window.sees, Window._reach)

# %% [markdown]
# ## What it costs
#
# Each score costs $2D$ floating-point operations for the inner product and $2D$ for adding its value. So, with $u$
# queries per block, $W$ and $N$ multiples of $u$, keys in whole blocks of $u$, and the first $W$ queries, which see no
# more keys than that, as a block of their own,
#
# $$
# \begin{aligned}
# \text{full, causal:} \quad & 4D \cdot N(N + 1)/2 , \\
# \text{local:} \quad & 4D \cdot \bigl( W^2 + (N - W)(W + u) \bigr) .
# \end{aligned}
# $$ (eq-12-6)
#
# The first grows with the square of the length and the second with the length. (The first counts only the scores that
# are needed, the second all that are computed, so the comparison favours full attention.) To check that, let a spy
# watch every operation that PyTorch is asked for, and count the scores of those that are the fused kernel.

# %%
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode


class Spy(TorchDispatchMode):
    """Counts the scores that the fused kernel is asked for under it."""

    asked = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "scaled_dot_product" in str(func):
            q, k = args[:2]
            self.asked += q.shape[:-1].numel() * k.shape[-2]
        return func(*args, **(kwargs or {}))


def scores_formed(window: int, length: int) -> int:
    """Scores that one head of `local_attention` asks the kernel for."""
    x = torch.zeros(1, 1, length, 4)
    with Spy() as spy:
        local_attention(x, x, x, window=window)
    return spy.asked


windows, lengths = (128, 256, 512), (2048, 4096, 8192)
asked = torch.tensor([[scores_formed(W, N) for W in windows] for N in lengths])
blocks = {W: max(32, W // 8) for W in windows}
local = [[W * W + (N - W) * (W + blocks[W]) for W in windows] for N in lengths]
check("eq. 12.6, local", asked, torch.tensor(local))
triangles = [mask_of(Window(N), N).sum() for N in (1, 50, 512)]
full = [N * (N + 1) // 2 for N in (1, 50, 512)]
check("eq. 12.6, full", torch.stack(triangles), torch.tensor(full))

table(
    [
        [N, *((N * (N + 1) / 2 / made) for made in row)]
        for N, row in zip(lengths, asked.tolist(), strict=True)
    ],
    {"N": ",d"} | {f"W = {W}": ".1f" for W in windows},
    caption="Scores of full causal attention, scores of local attention = 1.",
)

# %% [markdown]
# Counting is not timing, so time it. Three implementations are timed in alternation, and the median over all rounds is
# reported: the naive version, which writes every score to memory; full causal attention by the fused kernel of PyTorch,
# `scaled_dot_product_attention`, which goes from scores to output piece by piece and does not {cite:p}`dao2022`; and
# local attention. Memory is the most that was alive at once among the
# tensors that operations of PyTorch returned during the call, or during the call and the computation of its gradients.
# What a kernel allocates for itself is not in it.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two log-log panels against the number of tokens. Left, time of a call: the naive version and full causal attention rise steeply, local attention gently, crossing below the others. Right, memory: the naive version rises with the square, the fused full kernel and local attention rise with the length, local attention above the fused kernel throughout."}, "figure": {"caption": "Time and memory of one call. The time of both full versions rises with the square of the length, the time of local attention with the length itself. In memory local attention comes close to the fused kernel as the text grows, but is above it at every length shown: what a window saves over such a kernel is time, in long texts.", "name": "fig-costs"}}
import os
import weakref
from functools import partial

from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from rope_lab.bench import interleave
from rope_lab.figures.local import costs


class Alive(TorchDispatchMode):
    """Bytes of the tensors that were made under it: alive now, at most, and of the largest one."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.most, self.largest = 0, 0, 0
        self.known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for memory in self.memories((args, kwargs)):
            self.known.setdefault(memory, 0)  # was there before
        for memory in self.memories(out):
            if memory not in self.known:
                self.known[memory] = size = memory.nbytes()
                self.now += size
                self.most = max(self.most, self.now)
                self.largest = max(self.largest, size)
                weakref.finalize(memory, self.free, size)
        return out

    def memories(self, tree) -> list[torch.UntypedStorage]:
        return [x.untyped_storage() for x in tree_leaves(tree) if isinstance(x, Tensor)]

    def free(self, size: int) -> None:
        self.now -= size


budget = os.environ.get("ROPE_LAB_PRESET", "cpu")  # "smoke" takes seconds
lengths = (256, 512) if budget == "smoke" else (512, 1024, 2048, 4096, 8192)
W, most_naive = 128, 2048  # tokens; beyond them the naive version takes seconds
naive, full, local = "every score written", "full causal, fused", f"local, W = {W}"
seconds, megabytes = ({name: [] for name in (naive, full, local)} for _ in range(2))
trained = {full: [], local: []}  # megabytes with gradients
fused = partial(F.scaled_dot_product_attention, is_causal=True)
for N in lengths:
    q, k, v = torch.randn(3, 1, 2, N, 32, dtype=torch.float32)
    calls = {
        full: partial(fused, q, k, v),
        local: partial(local_attention, q, k, v, window=W),
    }
    if most_naive >= N:
        calls[naive] = partial(naive_local, q, k, v, mask_of(Window(N), N))
    with torch.no_grad():
        taken = interleave(calls, rounds=max(3, 16384 // N))
    for name in seconds:
        seconds[name].append(taken.get(name, float("nan")))
        with Alive() as alive:
            if name in calls:
                calls[name]()
        megabytes[name].append(alive.most / 1e6 or float("nan"))
    for name, most in trained.items():
        with Alive() as alive:
            inputs = [x.requires_grad_() for x in (q, k, v)]
            torch.autograd.grad(calls[name]().sum(), inputs)
        most.append(alive.most / 1e6)
costs(lengths, seconds, megabytes)

# %%
table(
    [
        [
            N,
            N * (N + 1) / 2 / (W * W + (N - W) * (W + 32)),  # equation 12.6
            seconds[full][i] / seconds[local][i],
            megabytes[full][i] / megabytes[local][i],
            trained[full][i] / trained[local][i],
        ]
        for i, N in enumerate(lengths)
    ],
    {"N": ",d", "scores": ".1f", "time": ".1f", "memory": ".2f"}
    | {"memory with gradients": ".2f"},
    caption="Full causal attention, local attention = 1.",
)

# %%
used = [megabytes[full], trained[full]], [megabytes[local], trained[local]]
check_at_most(
    "fig. 12.3, memory of full attention and of local", *map(torch.tensor, used)
)

# %% [markdown]
# The times were measured on one machine while this page was built; yours will differ. In long texts local attention is
# many times as fast. In every line of the table it gains less than the scores promise, and in the first it may lose. With
# more heads, and everything else the same, the factor is another one:

# %%
N = lengths[0]
for heads in (2, 32):
    q, k, v = torch.randn(3, 1, heads, N, 32, dtype=torch.float32)
    calls = {
        full: partial(fused, q, k, v),
        local: partial(local_attention, q, k, v, window=W),
    }
    with torch.no_grad():
        taken = interleave(calls, rounds=9)
    times = taken[full] / taken[local]
    print(f"{heads} heads, N = {N}: local attention is {times:.1f} times as fast.")

# %% [markdown]
# The number of scores does not tell that: both factors are for the same scores per head. Making masks and calling the kernel
# several times takes a while however little there is to compute, but these two lines do not tell how much of the
# difference that is.
#
# Local attention saves no memory over **fused** full attention, which keeps no scores either: both make the output, and
# with gradients those of queries, keys and values. Besides, local attention holds the pieces that are in the kernel at
# the moment, and a mask. There is a limit to what is in the kernel at once, whatever the length, so in a text that is
# long enough the rest counts little:

# %%
rows = []
for W_long, N in ((128, 8192), (128, 65536), (1024, 8192)):
    x = torch.zeros(1, 2, N, 32, dtype=torch.float32)
    with torch.no_grad(), Alive() as alive:
        local_attention(x, x, x, window=W_long)
    inputs = [x.clone().requires_grad_() for _ in range(3)]
    with Alive() as with_gradients:
        out = local_attention(*inputs, window=W_long)
        torch.autograd.grad(out.sum(), inputs)
    del out
    made = (alive.most, alive.largest, with_gradients.most)
    rows.append([W_long, N, *(size / x.nbytes for size in made)])
largest = [row[3] for row in rows]
check_at_most("fig. 12.3, largest tensor", largest, [1.0, 1.0, 1.0])
shorter, longer = (torch.tensor(row)[[2, 4]] for row in rows[:2])
check_at_most("fig. 12.3, memory of the longer text", longer, shorter)
check_at_most("fig. 12.3, near the results alone", longer, torch.tensor([1.1, 4.4]))
table(
    rows,
    {"W": ",d", "N": ",d", "memory of local attention, output = 1": ".1f"}
    | {"its largest tensor": ".1f", "memory with gradients": ".1f"},
    caption="The fused kernel for full attention makes the output and little else, with gradients four tensors of its size.",
)

# %% [markdown]
# A wider window has a larger mask, $u$ rows of $W + u$ columns, and it is computed from as many integers of 64 bits.
# `rope-lab bench` also times training, and another library.
#
# ## How far a token can see
#
# One layer shows a token the $W - 1$ before it. But these carry what *they* saw one layer below, and so on. By
# induction, the state of a token after $\ell$ layers can depend on tokens up to
#
# $$
# \begin{aligned}
# \text{exact window:} \quad & \ell\,(W - 1) , \\
# \text{block window:} \quad & \ell\, W + r
# \end{aligned}
# $$ (eq-12-7)
#
# before it (with `look_backward=1`) and no further, where $r$ is the token's place in its block. That is the
# **receptive field**. Mistral's report counts it as $\ell \times W$, about 131,000 tokens for 32 layers of 4,096: exact
# for the $W + 1$ keys of its text, the leading term for the $W$ of its caption. Longformer's $\ell \times w$ is the
# width of both sides.
#
# In this picture every row is a layer, row 0 the embeddings. Filled squares are what the state of one token can depend
# on, and the line is the path that goes furthest back. Move the token, and change the window, its rule and the depth:

# %% tags=["hide-input"]
from rope_lab.figures.hearing import hearing

hearing()

# %% [markdown]
# With a block window all tokens of a block reach back to the same one, because $r$ grows as fast as $m$.
#
# A gradient can check that. Take a real transformer with random weights, and differentiate the state of one token after
# every layer by the embeddings of all tokens. Where there is no path, the gradient is exactly zero. (The converse needs
# the random weights: a path through a ReLU that is off has the gradient zero as well.)

# %%
from rope_lab.local import LocalConfig, LocalTransformer


def states(model: torch.nn.Module, ids: Tensor) -> list[Tensor]:
    """The token embeddings and the states after each layer, (B, N, C) each."""
    found: list[Tensor] = []
    hooks = [
        part.register_forward_hook(lambda *call: found.append(call[-1]))
        for part in (model.embedding, *model.blocks)
    ]
    model(ids)
    for hook in hooks:
        hook.remove()
    return found


def reached(model: torch.nn.Module, at: int, length: int) -> Tensor:
    """How far back the state of token `at` reaches, after each layer, (L,)."""
    ids = torch.randint(model.config.vocab_size, (1, length))
    embeddings, *above = states(model, ids)
    distances = []
    for state in above:
        total = state[0, at].sum()
        (gradient,) = torch.autograd.grad(total, embeddings, retain_graph=True)
        distances.append(at - gradient[0].any(-1).nonzero().min())
    return torch.stack(distances)


W, depth, N = 6, 5, 60
small = {"vocab_size": 20, "dim": 32, "depth": depth, "heads": 2, "window": W}
layers, places = torch.arange(1, depth + 1), torch.arange(48, 60)
for name, formula in (
    ("exact", (layers * (W - 1)).expand(len(places), depth)),
    ("block", layers * W + places[:, None] % W),
):
    model = LocalTransformer(LocalConfig(**small, exact=name == "exact"))
    found = [reached(model, at, N) for at in places.tolist()]
    check(f"eq. 12.7, {name}", torch.stack(found), formula)

# %% [markdown]
# So depth buys reach. `LocalTransformer` can also make its last layers global (`global_layers`), and then all earlier
# tokens are in reach again.
#
# ## Which window is good enough?
#
# Train the same small model with windows from 4 characters to 128, the whole context, and change nothing else. It has
# four layers, so even a window of 4 reaches 12 characters back. The loss is the mean of $-\ln p$, in **nats**, where $p$
# is the probability that the model gives to the next character of a text that it was not trained on.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Validation loss against the window from 4 to 128 characters on a logarithmic axis, measured halfway and at the end of training. Both lines rise with the window; the later line lies lower and is flatter."}, "figure": {"caption": "Validation loss of equal short runs against the window, one seed each. This early in training a short window wins, and its lead is smaller at the second measurement.", "name": "fig-loss-by-window"}}
from rope_lab.figures.local import losses_by_window
from rope_lab.figures.training import in_turn
from rope_lab.training import preset, tiny_shakespeare, train

torch.set_default_dtype(torch.float32)  # as one trains
corpus = tiny_shakespeare()
if budget == "smoke":
    short = preset("smoke", reports=2, evaluations=2, depth=4)
else:
    short = preset(budget, steps=120, batch=8, reports=2, evaluations=2)
    short = short.change(dim=48, depth=4, heads=2)
windows = [4, 8, 16, 32] if budget == "smoke" else [4, 8, 16, 32, 128]
runs = {w: train(short.change(window=w), corpus, quiet=True) for w in in_turn(windows)}
losses = {
    point.step: [run.history[i].val for run in runs.values()]
    for i, point in enumerate(runs[windows[0]].history)
}
losses_by_window(windows, losses)

# %%
shortest, whole = windows[0], windows[-1]
leads = [at_step[-1] - at_step[0] for at_step in losses.values()]
for step, lead in zip(losses, leads, strict=True):
    print(
        f"After {step} updates W = {shortest} is {lead:.3f} nats ahead of W = {whole}."
    )
if budget != "smoke":
    first, *_, last = losses[short.steps]
    check_at_most("fig. 12.4, W = 4 and W = 128", first, last)
    check_at_most("fig. 12.4, the lead shrinks", leads[-1], leads[0])

# %% [markdown]
# You may have expected the opposite. A model with a window of 128 *can* come close to what one with a window of 4 does,
# by giving little weight to what is far; why it lags here, these runs do not tell.
# The figure shows an order, on one text, with one seed and a budget of seconds. It does not
# show that far tokens do not help: the lead shrinks, and these runs are too short to show which window wins in the end.
# To find out, give the cell above `steps=1_000` and some minutes.
#
# ## How far a token does look
#
# What *can* reach a token and what *does* are two things. Take the simplest stack first: every layer averages its
# window uniformly, with no residual sum and nothing else. Follow one path from the top of $L$ layers down to the inputs
# $x_n$: in layer
# $\ell$ it goes $U_\ell$ tokens back, and each of $0, \dots, W - 1$ is as likely as the others. So the influence of the
# token $s$ back on the output is the probability that $L$ such steps add up to $s$,
#
# $$
# \begin{aligned}
# \frac{\partial o_m}{\partial x_{m-s}} &= \Pr(U_1 + \dots + U_L = s) ; \\
# \text{mean} &= L\, \frac{W - 1}{2} , \\
# \text{variance} &= L\, \frac{W^2 - 1}{12} .
# \end{aligned}
# $$ (eq-12-8)
#
# (A uniform choice among $0, \dots, W-1$ has mean $(W-1)/2$ and variance $(W^2-1)/12$.) The reach grows with $L$, but
# the width of this bell only with $\sqrt{L}$. So in a deep stack of averages much of what is in reach hardly matters,
# as {cite:t}`luo2016` found for convolutions; they call the part that does matter the *effective* receptive field.

# %%
torch.set_default_dtype(torch.float64)


def average(x: Tensor, W: int) -> Tensor:
    """One layer of uniform averages over the window: equal scores. x (N, C)."""
    nothing = torch.zeros(1, 1, len(x), 1)
    return local_attention(nothing, nothing, x[None, None], window=W)[0, 0]


W, depth, N = 16, 4, 100
x = torch.eye(N)  # o_m is then the row of its derivatives
for _ in range(depth):
    x = average(x, W)
influence = x[-1].flip(0)  # by distance from the last token

sums, step = torch.ones(1, 1, 1), torch.ones(1, 1, W) / W
for _ in range(depth):  # the distribution of a sum is a convolution
    sums = F.conv1d(sums, step, padding=W - 1)
sums = sums.flatten()
check("eq. 12.8", influence, F.pad(sums, (0, N - len(sums))))
s = torch.arange(N)
mean = (influence * s).sum()
variance = (influence * (s - mean) ** 2).sum()
check("eq. 12.8, mean", mean, torch.tensor(depth * (W - 1) / 2))
check("eq. 12.8, variance", variance, torch.tensor(depth * (W**2 - 1) / 12))

# %% [markdown]
# A transformer has more, among other things residual sums, which carry a state up without moving it, and attention that
# is not uniform. So differentiate the last state of one token by the states of *all* layers below it, for uniform
# averages without and with a residual sum, for an untrained model, and for the trained one of the last figure. The
# result is the token's **light cone**: what is outside cannot have reached it, and the colour says how much of what is
# inside did.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four light cones, each with one row per layer from the embeddings below to the last layer above, and the distance back from 60 on the left to 0 on the right. A black staircase bounds them. In the first, uniform averages, the influence is spread over the middle of the cone. With a residual sum it is strongest at distance 0, and so it is in the untrained model, which is level over the first fifteen tokens and weaker by steps beyond. In the trained model it is strongest in the last few tokens and falls off towards the edge by orders of magnitude."}, "figure": {"caption": "How much each state adds to the last state of one token (right), with W = 16 and four layers. The staircase is equation 12.7: white beyond it is exactly zero. The triangle marks the distance within which 90% of the embeddings' influence lies. Uniform averages spread over most of the cone, less far with a residual sum; in both models of this one small shape most of the influence stays near the token, trained or not.", "name": "fig-light-cones"}}
from rope_lab.figures.local import light_cones


def light_cone(model: torch.nn.Module, ids: Tensor) -> Tensor:
    """Fraction of each distance in what moves the last token's last state, (L + 1, N)."""
    *below, last = states(model, ids)  # embeddings first
    direction = torch.randn_like(last[:, -1])
    gradients = torch.autograd.grad((last[:, -1] * direction).sum(), below)
    sizes = torch.stack([g.norm(dim=-1).mean(0).flip(0) for g in gradients])
    apex = torch.eye(1, ids.shape[1])  # the state is all of itself
    return torch.cat((sizes / sizes.sum(-1, keepdim=True), apex))


trained = runs[16].model.double()
shape = trained.config
N = min(shape.context, 72)
fresh = type(trained)(shape).double()
starts = torch.linspace(0, len(corpus.val) - N - 1, 64).long()
ids = corpus.encode(corpus.val)[starts[:, None] + torch.arange(N)]


def cone_of_averages(share: float) -> Tensor:
    """The cone of a stack of uniform averages, a share of a sum with the state below."""
    rows, x = [torch.eye(N)[0]], torch.eye(N)
    for _ in range(shape.depth):
        x = (1 - share) * x + share * average(x, 16)
        rows.insert(0, x[-1].flip(0))
    return torch.stack(rows)


cones = {
    "uniform averages, no residual sum": cone_of_averages(1.0),
    "uniform averages, residual sum": cone_of_averages(0.5),
    "untrained": light_cone(fresh, ids),
    "trained": light_cone(trained, ids),
}


def within(cone: Tensor, fraction: float) -> int:
    """The distance within which this fraction of the embeddings' influence lies."""
    return int((cone[0].cumsum(0) < fraction).sum())


reach = shape.depth * 15
light_cones(
    {name: cone[:, : reach + 8] for name, cone in cones.items()},
    16,
    {name: within(cone, 0.9) for name, cone in cones.items()},
)

# %%
inside = torch.arange(N) <= reach
for name, cone in cones.items():
    check(f"eq. 12.7, {name}", cone[0] > 0, inside)
cones["residual sum, a fifth of it uniform averages"] = cone_of_averages(0.2)
found = {
    name: [within(cone, part) for part in (0.5, 0.9)] for name, cone in cones.items()
}
if budget != "smoke":
    *_, untrained, after, weak = (torch.tensor(both) for both in found.values())
    for name, other in (("trained", after), ("a fifth", weak)):
        moved = (untrained - other).abs()
        check_at_most(f"fig. 12.5, untrained and {name}", moved, torch.tensor([2, 3]))
table(
    [[name, *both, cones[name][0, 0]] for name, both in found.items()],
    {"": "", "half": "d", "90%": "d", "of the token itself": ".0%"},
    caption=f"Reach: {reach} tokens back. Distances within which half and 90% of the influence lie, and the token's own.",
)

# %% [markdown]
# Most of this is not learned. With uniform averages, which cannot prefer anything, adding the state below pulls half of
# the influence to less than half of the distance. As a fifth of the sum, a share chosen to fit, they have half and 90%
# about where the untrained model has them. Training hardly moves these two distances; what it changes is the picture
# within the first window, where the last few tokens now stand out. All of this is one model of four layers after a
# short training, not a law.
#
# ## RoPE inside a window
#
# RoPE makes a score depend only on the distance (chapter 3), and within the two blocks of equation {eq}`eq-12-3` every
# distance is that of two places in them. So it does not matter where in the text the blocks are. Number their places
# from 0 to $2W - 1$, and turn by those:
#
# $$
# \begin{aligned}
# \langle R_m\, q,\, R_n\, k \rangle &= \langle R_{W + r}\, q,\, R_c\, k \rangle , \\
# m &= gW + r, \quad n = (g - 1)W + c .
# \end{aligned}
# $$ (eq-12-9)
#
# A table of $2W$ angles serves a text of any length. And more follows: in an exact window no query meets a distance of
# $W$ or more, nor more than $W$ keys, in training or after it. So after training on texts of $W$ tokens or more, a
# longer text confronts a local layer with no new distance and no new number of keys, the two things that chapter 15 is
# about. (The states that it attends to may still be new, because in a stack they carry more of the text.)

# %%
from rope_lab import RotaryEmbedding, angles, frequencies, rotate

D, W, N = 32, 16, 160


def turn(x: Tensor, positions: Tensor) -> Tensor:
    return rotate(x, angles(positions, frequencies(D), dtype=torch.float64))


q, k, v = torch.randn(3, 2, 2, N, D)
at = torch.arange(N)
q_here = turn(q, at % W + W).unflatten(-2, (-1, W))  # places W … 2W − 1
k_here = turn(with_block_before(k, W), torch.arange(2 * W))  # 0 … 2W − 1
by_place = q_here @ k_here.mT  # (B, H, N/W, W, 2W)
q_there = turn(q, at).unflatten(-2, (-1, W))
k_there = with_block_before(turn(k, at), W)
check("eq. 12.9", by_place, q_there @ k_there.mT)

far_away = turn(q, at + 10**6), turn(k, at + 10**6)
absolute = local_attention(turn(q, at), turn(k, at), v, window=W)
moved = local_attention(*far_away, v, window=W)
check("eq. 12.9, a million tokens on", moved, absolute, tolerance=1e-8)

# %% [markdown]
# The package rotates by the positions in the text, which costs no more and needs no bookkeeping. Its angles are formed
# in 64-bit precision, so that large positions do no harm (chapter 8).
#
# ## Decoding with W keys
#
# To write a text, full attention must keep the key and value of every token so far. A window of $W$ needs $W$ of
# them, whatever the length. Keep them in a **ring**: $W$ slots, and token $n$ goes to slot $n \bmod W$. What it
# overwrites there is token $n - W$, which has just left the window:
#
# $$
# \{\, \text{tokens in the slots after token } m \,\} = \mathcal{W}(m) .
# $$ (eq-12-10)
#

# %% tags=["hide-input"] mystnb={"image": {"alt": "A grid with one row per token 0 to 9 and one column per slot 0 to 3. The first four rows fill the slots from left to right. From row 4 on a marked cell goes round: token 4 takes the place of token 0 in slot 0, token 5 that of token 1, and so on; row 9 reads 8, 9, 6, 7."}, "figure": {"caption": "A ring of W = 4 slots. Each token (orange) takes the place of the one four before it.", "name": "fig-ring"}}
from rope_lab.figures.local import ring as ring_figure

W, N = 4, 10
slots, after = torch.full((W,), -1), []
for t in range(N):
    slots[t % W] = t
    after.append(slots.clone())
after = torch.stack(after)
ring_figure(after)

# %%
held = (after[:, :, None] == torch.arange(N)).any(1)  # (m, n): token n is in a slot
check("eq. 12.10, slots", held, mask_of(Window(W), N))

# %% [markdown]
# The slots are out of order, which does not matter. Attention is a sum over keys, and each key was turned by its own
# position *before* it was stored.

# %%
from rope_lab import LocalAttention


def decode_with_ring(q: Tensor, k: Tensor, v: Tensor, W: int) -> Tensor:
    """Equation 12.1 from W slots. q, k, v (B, H, N, D), turned already."""
    slots = torch.zeros(2, *k.shape[:2], W, k.shape[-1])  # of keys and values
    outputs = []
    for t in range(q.shape[-2]):
        slots[..., t % W, :] = torch.stack((k[..., t, :], v[..., t, :]))
        keys, values = slots[..., : t + 1, :]  # the others are still empty
        scores = q[..., t : t + 1, :] @ keys.mT / q.shape[-1] ** 0.5
        outputs.append(scores.softmax(-1) @ values)
    return torch.cat(outputs, dim=-2)


W, N = 5, 24
q, k, v = torch.randn(3, 2, 2, N, D)
at = torch.arange(N)
layer = LocalAttention(W, position=RotaryEmbedding(D))
full = layer(q, k, v)  # turns q and k itself
ringed = decode_with_ring(turn(q, at), turn(k, at), v, W)
check("eq. 12.10, ring", ringed, full)

written = []
for prompt in range(1, 3 * W + 1):  # every length modulo W, three times
    cache, parts = layer.new_cache(), []
    for tokens in (range(prompt), *([t] for t in range(prompt, N))):
        new = (x[..., tokens, :] for x in (q, k, v))
        parts.append(layer(*new, cache=cache))
    written.append(torch.cat(parts, dim=-2))
full = full.expand(len(written), *full.shape)
check("eq. 12.10, LocalCache", torch.stack(written), full)

# %% [markdown]
# `LocalCache` of the package keeps its tokens in order: it appends, and cuts off what no later query will see. For
# inclusive and block windows only the place of the cut differs:

# %% tags=["hide-input"]
source(Window.first_seen)

# %%
cache = LocalAttention(256).new_cache()
rows = []
for t in range(2000):
    x = torch.zeros(1, 8, 1, 64, dtype=torch.bfloat16)
    keys, _, _, _ = cache.append(x, x, torch.tensor([t]))
    if t + 1 in (100, 1000, 2000):
        count = keys.shape[-2]
        rows.append([t + 1, count, *(2 * x.nbytes * n / 1024 for n in (count, t + 1))])
table(
    rows,
    {"token": ",d", "keys kept": ",d", "KiB": ",.0f", "KiB of a full cache": ",.0f"},
    caption="A cache of W = 256 keys and values, 8 heads of 64 coordinates in bfloat16.",
)

# %% [markdown]
# ## What goes wrong in practice
#
# ### Two parts that count differently
#
# The off-by-one of the table above becomes a bug where two parts of one program disagree. In transformers attention in
# plain PyTorch (“eager”) and the flash kernel gave Mistral windows of different size from one configuration
# ([transformers#29623](https://github.com/huggingface/transformers/issues/29623)), and the flash kernel was one off
# again in 2025 ([transformers#39408](https://github.com/huggingface/transformers/issues/39408)). For vLLM one key too
# few was reported ([vllm#3385](https://github.com/vllm-project/vllm/issues/3385), closed as stale). In mlx-lm the mask
# showed one key more than the rotating cache keeps ([mlx-lm#390](https://github.com/ml-explore/mlx-lm/pull/390)). So
# count, both for the prompt and for the cached step.
#
# ### Queries rotated a window too far
#
# The local-attention library (version 1.11.2) rotates keys by their places in the gathered blocks, as equation
# {eq}`eq-12-9` allows, and queries by the *last* $W$ of those places. With a causal mask the last block is the query's
# own. Without it the last block is the one ahead, and every query is rotated $W$ positions too far. Its score with the
# key at $n$ belongs to another distance,
#
# $$ \langle R_{m + W}\, q,\, R_n\, k \rangle = \langle R_{(m - n) + W}\, q,\, k \rangle . $$ (eq-12-11)
#
# Every query in every block is off by the same amount, so nothing fails, and a model trained this way sees consistent
# distances, but not the true ones. The adapter of this package gives the correct output, and on request the output of
# the library:

# %%
from rope_lab.interop.local_attention import LocalAttention as Adapter

W, N = 8, 32
q, k, v = torch.randn(3, 1, 2, N, D)
half = RotaryEmbedding(D, layout="half")  # as the library pairs coordinates
at = torch.arange(N)
seen = mask_of(Window(W, causal=False, exact=False), N)


def dense_at(q_positions: Tensor) -> Tensor:
    turned_q, _ = half(q, k, positions=q_positions)
    _, turned_k = half(q, k, positions=at)
    return naive_local(turned_q, turned_k, v, seen)


right = Adapter(W, dim=D)(q, k, v)
theirs = Adapter(W, dim=D, reproduce=True)(q, k, v)
check("eq. 12.11, true positions", right, dense_at(at))
check("eq. 12.11, queries at m + W", theirs, dense_at(at + W))
change = (theirs - right).norm() / right.norm()
print(f"The two outputs differ by {change:.0%} of their norm.")

# %% [markdown]
# :::{admonition} Padding that is seen
# :class: note dropdown
#
# Blocks need a multiple of $W$ tokens. If the text has another length, the last block is filled with zeros. But a key
# of zeros is not an absent key: its score is 0, and $\mathrm{e}^0 = 1$ still takes part in the softmax. A causal mask
# hides what comes after the text; without one it must be masked by hand. The same library does not, unless you pass a
# mask (`autopad=True`, version 1.11.2). The cell below counts the queries that see it.
# :::

# %% tags=["hide-cell"]
N, W = 14, 4
q, k, v = torch.randn(3, 1, 2, N, D)
seen = mask_of(Window(W, causal=False, exact=False), N)
dense = naive_local(q, k, v, seen)
tight = Adapter(W, autopad=True)(q, k, v)  # without dim there is no RoPE
leaky = Adapter(W, autopad=True, reproduce=True)(q, k, v)
check("padding is not seen", tight, dense)
touched = ((leaky - dense).abs() > 1e-9).any(-1)[0, 0]
which = touched.nonzero().flatten().tolist()
print(f"Of {N} queries, {len(which)} see the padding, namely {which}.")

# %% [markdown]
# ### Keys rotated twice
#
# Equation {eq}`eq-12-9` has a price when you decode. A key that was rotated by its *place in the window* has another
# place as soon as the window moves. Either the cache holds it unrotated, and each step rotates it by its new place, or
# the cache holds it rotated, and each step rotates it back by one place. In the same library a cached step returns the
# keys it has just rotated, and the next step rotates them by their whole new place again. The first token after the
# prompt is correct and the second is not. Here are the errors of a cache that does the same, and of one that keeps the
# keys unrotated; the check below the figure takes the other way, back by one place:


# %% tags=["hide-input"] mystnb={"image": {"alt": "Relative error of each of the first twelve tokens decoded after a prompt. Keys kept unrotated: zero throughout. Keys kept rotated and rotated again: zero for the first token, and a large part of the output's size from the second on."}, "figure": {"caption": "Decoding with a window of 8 after a prompt of 20. A test of one step passes for both, so test two.", "name": "fig-turned-twice"}}
from rope_lab.figures.local import decoding_errors

W, prompt, N = 8, 20, 32
q, k, v = torch.randn(3, 1, 4, N, D)
full = LocalAttention(W, position=RotaryEmbedding(D))(q, k, v)


def decode_by_place(keep_turned: bool) -> list[float]:
    """Relative error of each token after the prompt, keys turned by their places."""
    held = k[..., prompt - W + 1 : prompt, :]
    errors = []
    for t in range(prompt, N):
        held = torch.cat((held, k[..., t : t + 1, :]), dim=-2)[..., -W:, :]
        turned = turn(held, torch.arange(W))
        query = turn(q[..., t : t + 1, :], torch.tensor([W - 1]))
        weights = (query @ turned.mT / D**0.5).softmax(-1)
        out = weights @ v[..., t - W + 1 : t + 1, :]
        right = full[..., t : t + 1, :]
        errors.append(float((out - right).norm() / right.norm()))
        held = turned if keep_turned else held
    return errors


ways = {
    "rotated again at each step": decode_by_place(True),
    "kept unrotated": decode_by_place(False),
}
decoding_errors(range(1, N - prompt + 1), ways)

# %%
check("kept unrotated, every step", ways["kept unrotated"], [0.0] * (N - prompt))

held, at_end = turn(k[..., prompt - W : prompt, :], at[:W]), at[W - 1 : W]
outputs = []
for t in range(prompt, N):
    back_by_one = turn(held[..., 1:, :], torch.full((W - 1,), -1))
    held = torch.cat((back_by_one, turn(k[..., t : t + 1, :], at_end)), dim=-2)
    weights = turn(q[..., t : t + 1, :], at_end) @ held.mT / D**0.5
    outputs.append(weights.softmax(-1) @ v[..., t - W + 1 : t + 1, :])
stepwise = torch.cat(outputs, dim=-2)
check("kept rotated, back by one per step", stepwise, full[..., prompt:, :])

# %% [markdown]
# If the library is installed where this page is built, it speaks for itself:

# %%
from importlib.util import find_spec

from IPython.display import display

if find_spec("local_attention"):
    from local_attention.transformer import LocalMHA

    rows = []
    heads = LocalMHA(dim=D, window_size=W, dim_head=D, heads=1, causal=True)
    x = torch.randn(1, prompt + 3, D)
    with torch.no_grad():
        expected = heads(x)
        _, cache = heads(x[:, :prompt], return_cache=True)
        for t in range(prompt, prompt + 3):
            out, cache = heads(x[:, t : t + 1], cache=cache, return_cache=True)
            right = expected[:, t : t + 1]
            error = (out - right).norm() / right.norm()
            rows.append([t - prompt + 1, error])
    display(
        table(
            rows,
            {"token after the prompt": "d", "relative error": ".1e"},
            caption="The cached decoding of local-attention itself.",
        )
    )
else:
    print("local-attention is not installed here.")

# %% [markdown]
# ### A query that sees nothing
#
# Two texts of different lengths share a batch; the shorter one is padded at its end, and the padding is masked. In an
# encoder with full attention every query finds the real tokens, even one that is padding itself. In a window it does
# not: from $W$ tokens past the last real one a query sees *no* key at all, and the softmax of equation {eq}`eq-12-1` is
# $0/0$. Three ways to treat the hidden scores give three results. This book's is the sum over nothing,
#
# $$ o_m = 0 \qquad \text{where query } m \text{ sees no key} . $$ (eq-12-12)

# %%
W, N, text = 4, 12, 5
real = torch.arange(N) < text
seen = mask_of(Window(W, causal=False), N) & real
blind = ~seen.any(-1)
q, k, v = (x.requires_grad_() for x in torch.randn(3, 1, 1, N, 8))
scores = q @ k.mT / 8**0.5

by_infinity = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v
lowest = torch.finfo(scores.dtype).min
by_lowest = scores.masked_fill(~seen, lowest).softmax(-1) @ v
ours = local_attention(q, k, v, window=W, causal=False, mask=real)

print(f"Of {N} queries, {blind.sum()} see no key.")
print(f"With minus infinity {by_infinity.isnan().any(-1).sum()} outputs are NaN,")
second = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ by_infinity
print(f"after a second layer {second.isnan().any(-1).sum()} of them,")
loss = by_infinity[0, 0, real].square().sum()
(gradient,) = torch.autograd.grad(loss, v)
print(f"and {gradient.isnan().any(-1).sum()} gradients of a loss on real tokens.")

check("the lowest number averages all", by_lowest[0, 0, -1], v[0, 0].mean(0))
check("eq. 12.12", ours[0, 0, blind], torch.zeros(int(blind.sum()), 8))
check("eq. 12.12, the others", ours[0, 0, ~blind], by_infinity[0, 0, ~blind])
by_kernel = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
check("eq. 12.12, as PyTorch's kernel", ours, by_kernel)
gradients = torch.stack(torch.autograd.grad(ours.square().sum(), (q, k, v)))
of_blind = gradients[..., blind, :]
check("eq. 12.12, gradients", of_blind, torch.zeros_like(of_blind))
finite = torch.ones_like(gradients, dtype=torch.bool)
check("eq. 12.12, finite gradients", gradients.isfinite(), finite)

# %% [markdown]
# With minus infinity the real tokens come out correctly in the first layer and are lost in the second, and so are the
# gradients: the padding has the weight 0, and $0 \cdot \mathrm{NaN}$ is NaN. This was reported for Gemma 3 and a window
# of 512, on batches that mix short and long texts
# ([transformers#45491](https://github.com/huggingface/transformers/issues/45491)). The lowest number instead of
# infinity gives no NaN but an average over all values, hidden ones among them, which is harmless as long as nothing
# reads it. Zeros are what `scaled_dot_product_attention` returns on a CPU, and what the ONNX standard asks for
# ([onnx#8068](https://github.com/onnx/onnx/pull/8068)). In a decoder with padding on the left the same happens to every
# padding query, with a window or without.
#
# ## Summary
#
# - A window is a mask that leaves $W$ keys per query; in blocks of $u$ queries it costs about $N(W + u)$ scores instead of $N^2/2$,
#   and a cache of $W$ keys. It saves time in long texts, may lose some in short ones, and saves no memory compared
#   with a fused kernel.
# - $L$ layers see $L(W - 1)$ tokens back, but in the models here most of what moves a token is much nearer, trained
#   or not.
# - RoPE needs only the places in the window; what goes wrong is counting, padding, and rotating keys twice.
#
# ## Exercises
#
# Each checker tells you what it found; the open question has none. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-12-1
# ```
#
# A cache holds the keys of a text of $N$ tokens, and the queries of the last `new` of these tokens are to be
# answered; with `new` equal to $N$ the whole text is read at once. Write `window_mask(new, N, W)`: the causal, exact
# window as a boolean tensor of shape `(new, N)`, True where a query (row) sees a key (column).

# %%
from rope_lab.exercises.ch12 import check_window_mask


def window_mask(new: int, N: int, W: int) -> Tensor:
    return None  # your turn: shape (new, N), boolean


check_window_mask(window_mask)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-12-1
# :label: sol-12-1
# ```
#
# Equation {eq}`eq-12-1` for the queries $m = N - \mathtt{new}, \dots, N - 1$.


# %%
def window_mask(new: int, N: int, W: int) -> Tensor:
    back = torch.arange(N - new, N)[:, None] - torch.arange(N)  # m − n
    return (back >= 0) & (back < W)


check_window_mask(window_mask)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-12-2
# ```
#
# Write `layers_needed(W, s)`: how many layers of exact windows of $W \ge 2$ it takes until a token can see
# the one
# $s \ge 1$ before it.

# %%
from rope_lab.exercises.ch12 import check_layers_needed


def layers_needed(W: int, s: int) -> int:
    return None  # your turn


check_layers_needed(layers_needed)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-12-2
# :label: sol-12-2
# ```
#
# By equation {eq}`eq-12-7`, the smallest ℓ with ℓ (W − 1) ≥ s.


# %%
def layers_needed(W: int, s: int) -> int:
    return -(-s // (W - 1))


check_layers_needed(layers_needed)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-12-3
# ```
#
# Write `with_previous(k, W, back)` for any `look_backward`: each block of $W$ keys behind the `back` blocks before
# it, in the order of the text, from `(B, H, N, D)` to `(B, H, N/W, (back + 1) W, D)`, with zeros where there is no
# block.

# %%
from rope_lab.exercises.ch12 import check_with_previous


def with_previous(k: Tensor, W: int, back: int) -> Tensor:
    return None  # your turn: shape (B, H, N/W, (back + 1) W, D)


check_with_previous(with_previous)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-12-3
# :label: sol-12-3
# ```
#
# These are overlapping ranges of `(back + 1) W` keys, one every `W` keys, of a text with `back` blocks of zeros
# before it.


# %%
def with_previous(k: Tensor, W: int, back: int) -> Tensor:
    padded = F.pad(k, (0, 0, back * W, 0))
    return padded.unfold(-2, (back + 1) * W, W).mT


check_with_previous(with_previous)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-12-4
# ```
#
# Tokens $0, \dots, t - 1$ have been written to a ring of $W$ slots, token $n$ to slot $n \bmod W$. Write
# `ring(t, W)`: the token that is in each slot, shape `(W,)`, and $-1$ where none does. With it you can give a
# ring the positions of its keys.

# %%
from rope_lab.exercises.ch12 import check_ring


def ring(t: int, W: int) -> Tensor:
    return None  # your turn: shape (W,), integers


check_ring(ring)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-12-4
# :label: sol-12-4
# ```
#
# From token t − 1 back to the last one of this slot.


# %%
def ring(t: int, W: int) -> Tensor:
    back = (t - 1 - torch.arange(W)) % W
    return (t - 1 - back).clamp_min(-1)


check_ring(ring)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-12-5
# ```
#
# A long prompt is read in chunks, so that not all of its scores are in memory at once. `chunked_attention` does so
# for an exact, causal window of $W$ and keeps no more keys than it must; `q`, `k` and `v` have shape `(N, D)` and are
# rotated already. With chunks of one token, which is decoding, its output is that of the whole text. For longer
# chunks it is not. Correct it. (The checker sees the outputs, not the cache: that you keep no key too many is for you
# to check.)

# %%
from rope_lab.exercises.ch12 import check_chunked_attention


def chunked_attention(q: Tensor, k: Tensor, v: Tensor, W: int, chunk: int) -> Tensor:
    keys, values, outputs = k[:0], v[:0], []
    for start in range(0, len(q), chunk):
        end = min(start + chunk, len(q))
        keys = torch.cat((keys, k[start:end]))[-W:]
        values = torch.cat((values, v[start:end]))[-W:]
        m = torch.arange(start, end)[:, None]
        n = torch.arange(end - len(keys), end)
        scores = q[start:end] @ keys.T / q.shape[-1] ** 0.5
        scores = scores.masked_fill((n > m) | (m - n >= W), -torch.inf)
        outputs.append(scores.softmax(-1) @ values)
    return torch.cat(outputs)


check_chunked_attention(chunked_attention)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-12-5
# :label: sol-12-5
# ```
#
# The cache is cut to $W$ keys when the chunk has been added to it. The last query of the chunk needs just these, but
# the first one needs the $W - 1$ keys before the chunk, of which $\mathtt{chunk} - 1$ are gone by then (or all of
# them, if the chunk is longer than the window). So cut the cache before the chunk comes in. A test of decoding cannot
# find this, because with one token at a time the two are the same.


# %%
def chunked_attention(q: Tensor, k: Tensor, v: Tensor, W: int, chunk: int) -> Tensor:
    keys, values, outputs = k[:0], v[:0], []
    for start in range(0, len(q), chunk):
        end = min(start + chunk, len(q))
        first = max(0, len(keys) - (W - 1))  # of the keys that are still needed
        keys = torch.cat((keys[first:], k[start:end]))
        values = torch.cat((values[first:], v[start:end]))
        m = torch.arange(start, end)[:, None]
        n = torch.arange(end - len(keys), end)
        scores = q[start:end] @ keys.T / q.shape[-1] ** 0.5
        scores = scores.masked_fill((n > m) | (m - n >= W), -torch.inf)
        outputs.append(scores.softmax(-1) @ values)
    return torch.cat(outputs)


check_chunked_attention(chunked_attention)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-12-6
# ```
#
# “Many layers with narrow windows reach as far as one layer with a wide one, and their caches are smaller.” Write
# `plan(s, most, keys)`: a number of layers $L$ and a window $W \ge 2$, as two integers `(L, W)`, such that the stack
# of exact windows can reach $s$ tokens back, no window is wider than `most` keys, and all caches together hold at
# most `keys` keys per head, $LW$; or `None` if no such stack exists. Every stack that meets the three conditions is
# correct.

# %%
from rope_lab.exercises.ch12 import check_plan


def plan(s: int, most: int, keys: int) -> tuple[int, int] | None:
    return None  # your turn: (L, W), or None


check_plan(plan)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-12-6
# :label: sol-12-6
# ```
#
# By equation {eq}`eq-12-7` the stack must have $L(W - 1) \ge s$, so its caches hold $LW \ge s + L$ keys: the sentence
# is refuted, since every further layer costs a key and the cheapest stack is a single layer. Depth helps only if
# `most` forbids that layer. Even then the fewest layers are not always the cheapest, because $s/L$ is rounded up. So
# try each $L$ with its narrowest window.


# %%
def plan(s: int, most: int, keys: int) -> tuple[int, int] | None:
    for L in range(1, s + 1):
        W = -(-s // L) + 1  # the narrowest window that reaches s
        if most >= W and keys >= L * W:
            return L, W
    return None


check_plan(plan)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-12-7
#
# In a model of 24 layers each fourth layer has full attention and the others have windows of 1,024. A colleague
# proposes windows in all layers, because 24 windows reach more than 24,000 tokens back. Which parts of this chapter
# speak against the argument, what would be saved, and which measurement would you ask for before you agree?
# ```
#
# ```{solution} ex-12-7
# :label: sol-12-7
#
# *Reach is not use.* {eq}`eq-12-7` says what can reach a token. For uniform averages the influence is a bell whose
# width grows only with the root of the depth (see {eq}`eq-12-8`), and in the models of {numref}`fig-light-cones` most of
# it is much nearer still. One full layer sees a far token directly.
#
# *What would be saved.* For long texts most of the scores and of the cache belong to the six full layers, because
# their scores grow with the square of the length and their cache with the length, whereas the scores of a window grow
# with the length and its cache does not grow (see {eq}`eq-12-6`, {eq}`eq-12-10`). So the gain is large, and the proposal
# deserves a test.
#
# *The measurement.* Train both and compare them on a task that cannot be solved without a token further back than one
# window, by the distance of that token. The mean loss of a text cannot decide it: {numref}`fig-loss-by-window` shows
# that a narrow window may even be ahead early in training. And the light cone of the trained model would show how
# much of the far tokens arrives.
# ```
#
# ## References
#
# - {cite:t}`child2019`: bands as part of sparse attention.
# - {cite:t}`beltagy2020`, section 3.1: the sliding window and its receptive field; their windows look both ways.
# - {cite:t}`jiang2023`, section 2: the window of Mistral 7B and its rolling cache. Their speed is not reproduced here.
# - {cite:t}`luo2016`: the effective receptive field of convolutions; the argument is carried over to windows above.
# - {cite:t}`dao2022`: the fused kernel that full attention is timed with.
#
# Full entries are on the page {doc}`/book/references`.
