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
# (chapter-long-documents)=
# # 16 · Long documents, and claims tried
#
# Most models of this book were trained on 128 characters at a time. A scene of a play has thousands. **What helps a model
# with a long text, and which of the many claims about it can a laptop confirm?** Begin with the cheapest remedy. If each
# layer saw only a window of the last $W$ characters, how wide would it have to be?

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left, validation loss against a window of 64 to 512 characters for two and four layers, with a diamond for four layers whose last is global; the loss rises with the window. Right, dots for three models trained for the same time: local attention on long segments and full attention on short ones overlap, full attention on long segments is far above both."}, "figure": {"caption": "Left, loss by the width of the window and the number of layers, one dot per seed: after so few updates the narrowest window is best. Right, three models with equal time, each evaluated at its own length. The runs of one row did not all make the same number of updates (below).", "name": "fig-windows-recorded"}}
from statistics import fmean

import torch

from rope_lab.experiments.store import Results
from rope_lab.figures.comparing import windows

torch.set_num_threads(1)
local = Results.recorded("local")
windows(local)

# %% [markdown]
# Most numbers of this chapter come from records: three seeds of every variant, measured before this page was made, by
# `rope-lab reproduce local` and the like. Chapter 14 explains how they are made, and what $\pm$ means.
#
# ## A window, and long contexts
#
# On the left are segments of 512 characters. On the right is what a window is for: segments of 8,192 characters with local
# and with full attention, and short segments with full attention, each with as many updates as fit into about half a
# minute of wall-clock time. All these models have the rates of RoPE's recipe, whatever their window.

# %%
from rope_lab.experiments.seeds import differences, interval, shown, verdict
from rope_lab.figures.table import table

COLUMNS = ["", "difference", "verdict", "seeds that agree"]
pairs = []
for depth in (2, 4):
    narrow = f"window 64, depth {depth}"
    for width in (128, 512):
        pairs.append((f"window {width}, depth {depth}", narrow))
pairs.append((f"{narrow}, 1 global on top", narrow))
table(
    [
        [f"{one}, minus {other}", *verdict(differences(local, one, other, "val_loss"), 4)]
        for one, other in pairs
    ],
    COLUMNS,
    caption="Validation loss, paired by seed.",
    provenance=local.provenance(),
)  # fmt: skip

# %% [markdown]
# The narrowest of these windows, 64 characters, is best at both depths and in every run, although two layers of it reach
# only $2 \cdot 63 = 126$ characters back ({eq}`eq-12-7`) and one of 512 sees everything. Why wider ones are worse, these runs
# do not say; what they add may not have been learned yet. A global layer on top of local ones costs a little here.
#
# On the right, time was measured by a clock on a busy machine, so the seeds made different numbers of updates:

# %%
table(
    [
        [
            name,
            ", ".join(f"{steps}" for steps in local.values(name, "config", "steps")),
            ", ".join(f"{loss:.3f}" for loss in local.values(name, "val_loss")),
            fmean(local.values(name, "update_seconds")),
        ]
        for name in local.variants()
        if name.endswith("characters")
    ],
    {"": "", "updates, by seed": "", "loss, by seed": "", "mean seconds of updates": ".1f"},
)  # fmt: skip

# %%
lead = [
    verdict(differences(local, "local at 8,192 characters", f"full at {name}", "val_loss"))
    for name in ("8,192 characters", "512 characters")
]  # fmt: skip
print(f"Local minus full attention, both at 8,192 characters: {lead[0]}.")
print(f"Local attention at 8,192 minus full attention at 512: {lead[1]}.")

# %% [markdown]
# In the same time, full attention on long segments makes a quarter of the updates that local attention makes, and is far
# behind. Between local attention on long segments and full attention on short ones these runs do not decide. Nor are the
# losses of one kind: the first characters of a segment have little before them, and short segments have more of those
# ({eq}`eq-14-4`).
#
# ## A needle
#
# None of these losses shows which model reads furthest. So ask something that only one far character answers. Plant the
# three rarest characters of the text: behind `$` is a letter, the *needle*; behind `3` is another one, a *decoy*; and `&`
# asks for the letter behind the `$`.

# %%
from rope_lab.experiments import needle
from rope_lab.training import Corpus, preset, tiny_shakespeare, train

corpus = tiny_shakespeare()
train_ids, val_ids = corpus.encode(corpus.train), corpus.encode(corpus.val)
signs = needle.Signs.of(corpus)
draw = torch.Generator().manual_seed(3)
planted = needle.hidden(needle.segments(val_ids, 1, 76, draw), signs, 40, draw)
print(repr(corpus.decode(planted.ids[0])), "→", corpus.decode(planted.letter))

# %% [markdown]
# RoPE models of four layers learn to answer while they learn the text: 300 updates of 2,048 characters, in segments of 64,
# 128, 256 and finally 512. The answer does not follow the question in the text, so it cannot be copied from there. Windows
# are 64 wide, so four such layers reach $4 \cdot 63 = 252$ back; in mixtures only the last layer is global, and in two kinds
# of models it has no positions (NoPE). All have the rates of the recipe, which were chosen for none of them. A test has one
# question, at the end, on held-out text: 32 texts per distance, 16 in longer texts. One guess in 26 is right.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels of the fraction of needles found, five kinds of models. Left, against the distance from 8 to 496 characters: all with a global layer stay near 1, some seeds of the models without positions in the last layer at 0.5 to 0.9; with windows in all layers the line falls from 1 at 96 to 0.3 at 160 and to about 0 from 248 on. Right, against the length of the text, 512 to 2,048: full attention falls from 1 to a third, or to a half without positions in its last layer; windows below a global layer to 0.8, or from 0.9 to 0.9 without positions there; windows alone are level at a third."}, "figure": {"caption": "Needles found, one dot per seed and a line through the means. Left, in texts of the trained length; the dotted line is the window. Right, three of these distances (32, 248 and 496; windows alone find the first) in longer texts: on average full attention loses most of its needles, and windows below a global layer without positions few. The seeds scatter widely.", "name": "fig-needles"}}
from rope_lab.figures.documents import needles

found_needles = Results.recorded("needle")
needles(found_needles)


# %%
def fractions_found(name: str, place: int | None, near: bool) -> list[float]:
    """Fraction found up to the trained length or beyond, by seed, in one of the lengths; None, through windows."""
    far = found_needles.values(name, "distances", -1 if place is None else place)[0]
    path = ["windowed"] if place is None else ["right", place]
    return [
        fmean(r for r, d in zip(run, far, strict=True) if (d < 512) == near)
        for run in found_needles.values(name, *path)
    ]


below_and_beyond = ((2, True), (2, False))
table(
    [
        [
            name,
            *(shown(fractions_found(name, *which), 2) for which in ((0, True), *below_and_beyond)),
            fmean(found_needles.values(name, "val_loss")),
        ]
        for name in found_needles.variants()
    ],
    {"": "", "in 512": "", "in 2,048, below 512 back": "", "further back": "", "loss": ".3f"},
    caption="Fraction of the needles that are found, by the length of the text and the distance; last column: loss of "
    "text without needles, in segments of 512.",
    provenance=found_needles.provenance(),
)  # fmt: skip

# %%
full, full_bare, windows_only, mixed, mixed_bare = needle.VARIANTS
contrasts = {
    "windows below a global layer": (mixed, full, 2),
    "the same, last layer NoPE": (mixed_bare, full_bare, 2),
    "NoPE in the last layer, full below": (full_bare, full, 2),
    "NoPE in the last layer, windows below": (mixed_bare, mixed, 2),
    "full, read through windows of 512": (full, full, None),
    "full, last layer NoPE, read so": (full_bare, full_bare, None),
}
rows, decided = [], 0
for what, (one, other, place) in contrasts.items():
    of_row = []
    for inside in (True, False):
        pair = fractions_found(one, place, inside), fractions_found(other, 2, inside)
        by_seed = [a - b for a, b in zip(*pair, strict=True)]
        signed = [sum(d > 0 for d in by_seed), sum(d < 0 for d in by_seed)]
        found_more = verdict(by_seed, 2)
        of_row += [found_more.difference, "{} : {}".format(*signed)]
        decided += found_more.word != "undecided"
    rows.append([what, *of_row])
print(f"{decided} of {2 * len(contrasts)} differences are decided.")
in_loss = verdict(differences(found_needles, windows_only, full, "val_loss"))
print(f"Loss, windows minus full attention: {in_loss}.")
table(
    rows,
    ["what it adds", "below 512 back", "seeds up : down", "further back", "seeds up : down, further"],
    caption="Needles found in 2,048 characters, minus those found without it; seeds in which that is above and below zero.",
)  # fmt: skip

# %%
for control, what in (("absent", "left out"), ("other", "behind a decoy’s sign")):
    hits = [
        fmean(run)
        for name in found_needles.variants()
        for run in found_needles.values(name, control)
    ]
    print(f"The letter is {what}, and answered all the same in {fmean(hits):.1%}.")

# %% [markdown]
# With windows in all layers a needle is found inside the window and a little beyond. At 160 back one seed still finds most
# and two hardly any, and from 248 on all three guess, although 252 are in reach. With a global layer every distance
# tried works, though less well in one seed of those without positions. And the answers do come from the needle: without
# it, or behind another sign, its letter is as rare as a guess.
#
# In texts four times as long full attention loses needles in every seed. With windows below a global layer without positions,
# which {cite:t}`yang2025` combine, two seeds of three find all needles, 1,984 back too, and the third somewhat fewer than in
# short texts. But three seeds decide none of the differences in the second table. Its last two rows are a control on the
# cause: read trained full attention through windows of 512 in all layers but the last, and every seed finds more of the
# needles less than 512 back. So much of what is lost there is lost by the long view of the lower layers. Further back these
# windows help no more than a little, and in one seed of either kind they cost.
#
# All this is one letter behind one sign, in models that were trained to find it. In the loss of the text windows in
# all layers are not decidedly better or worse than full attention. In the chapter's first table narrow ones are better, but
# there every segment of the training has 512 characters, and there are no needles.
#
# ## Many texts in one row
#
# Documents have all lengths, but a batch is a rectangle. Texts of 3, 5 and 4 characters, each filled up to 5, take 15 places,
# three of them empty; *packed* into one row they take 12. In that row full causal attention has $12 \cdot 13 / 2 = 78$
# scores, and $6 + 15 + 10 = 31$ of them are within a text. A mask for texts of $N_1, \dots, N_K$ characters keeps
#
# $$ \sum_{d=1}^{K} \frac{N_d (N_d + 1)}{2} \quad \text{of} \quad \frac{N (N + 1)}{2}, \qquad N = \sum_{d=1}^{K} N_d . $$ (eq-16-1)
#
# Here are the speeches of the validation split that fit into 512 characters, in rows of 512, each put into the first row
# with room for it:

# %%
from torch.utils._python_dispatch import TorchDispatchMode

from rope_lab import RoFormer, RoFormerConfig
from rope_lab.attention import attention_mask
from rope_lab.verify import check, check_at_most


def documents(lengths: list[int]) -> torch.Tensor:
    """The number of each character's text, (1, N): what models take as `segments`."""
    return torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]


def triangle(length: int) -> int:
    return length * (length + 1) // 2


mixed_lengths = [[3, 5, 4], [1, 1, 7, 2], [30]]
check(
    "eq. 16.1",
    [
        int(attention_mask(sum(ls), sum(ls), segments=documents(ls)).sum())
        for ls in mixed_lengths
    ],
    [sum(map(triangle, ls)) for ls in mixed_lengths],
)

room, packed_rows = 512, []
speeches = [len(speech) + 2 for speech in corpus.val.split("\n\n")]
speeches = [length for length in speeches if length <= room]
for length in speeches:
    row = next((r for r in packed_rows if sum(r) + length <= room), None)
    if row is None:
        packed_rows.append(row := [])
    row.append(length)
within = sum(map(triangle, speeches))
table(
    [
        [how, count, sum(speeches) / (count * room), within / (count * triangle(room))]
        for how, count in (("one per row", len(speeches)), ("packed", len(packed_rows)))
    ],
    {"speeches": "", "rows": ",d", "places filled": ".0%", "scores kept": ".0%"},
)  # fmt: skip

# %% [markdown]
# Packing fills the rows, but the mask hides most scores and saves none of them: the kernel is asked for all of them.
# A window also bounds the work:

# %%
from rope_lab.local import LocalConfig, LocalTransformer


class Spy(TorchDispatchMode):
    """Counts the scores that the fused kernel of PyTorch is asked for (chapter 12)."""

    asked = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "scaled_dot_product" in str(func):
            self.asked += args[0].shape[:-1].numel() * args[1].shape[-2]
        return func(*args, **(kwargs or {}))


def scores_asked(model: RoFormer, **options: torch.Tensor) -> int:
    """Scores per head and layer that the kernel is asked for in a row of 512."""
    with Spy() as spy, torch.no_grad():
        model(torch.zeros(1, room, dtype=torch.long), **options)
    return spy.asked


small_shape = {"vocab_size": 2, "dim": 8, "depth": 1, "heads": 1}
for name, one_layer in (
    ("full", RoFormer(RoFormerConfig(**small_shape))),
    ("window 64", LocalTransformer(LocalConfig(**small_shape, window=64))),
):
    packed_row = documents([128] * 4)
    asked_for = scores_asked(one_layer, segments=packed_row)
    keys_seen = 64 if "window" in name else None
    visible = int(
        attention_mask(room, room, segments=packed_row, window=keys_seen).sum()
    )
    print(f"{name}: {asked_for:,} scores, of which the masks keep {visible:,}")

# %% [markdown]
# What leaks without the mask? In the records two texts of 256 characters, each with a needle of its own, are packed into
# one row, and the question is at the end of the second. In the last column the second text has no needle:

# %%
full_packed = found_needles.values(needle.FULL, "packed")
table(
    [
        [way, *(fmean(run[key][i] for run in full_packed) for key in ("own", "others", "stray"))]
        for i, way in enumerate(full_packed[0]["ways"] if full_packed else [])
    ] or [["no records", None, None, None]],
    {"full attention": "", "own letter": ".0%", "letter of the other text": ".0%", "of the other, alone": ".0%"},
)  # fmt: skip

# %% [markdown]
# Without the mask the other text's letter is often the answer, and in all these rows if there is no other needle. With the
# mask it is as rare as a guess.
#
# With RoPE it makes no difference whether positions start again in each text (chapter 7), but with encodings that are added
# to the embeddings the outputs change. The loss needs care as well: the last character of a text must not predict the first
# of the next. `LocalTransformer` leaves such pairs out if it is given `segments` and `return_loss=True`.
#
# ## What a cache saves, and what it costs
#
# A model that writes without a cache reads everything again for each character. After a prompt of 3 characters it reads
# $3 + 4 + 5 = 12$ to draw three. With a cache it reads the prompt once and then each new character but the last:
# $3 + 1 + 1 = 5$. For a prompt of $N$ characters and $t$ that are drawn,
#
# $$
# \sum_{i=0}^{t-1} (N + i) = tN + \frac{t(t-1)}{2}
# \qquad\text{against}\qquad N + t - 1 .
# $$ (eq-16-2)
#
# The check counts the characters that a small model is given:

# %%
from rope_lab.training import sample

torch.manual_seed(16)
tiny = RoFormer(RoFormerConfig(10, context=40, dim=8, depth=1, heads=1)).eval()
given = []
tiny.embedding.register_forward_hook(
    lambda layer, inputs, out: given.append(out.shape[1])
)
counted = []
for prompt_length, drawn in ((3, 3), (9, 5), (20, 17)):
    for cached in (False, True):
        given.clear()
        list(sample(tiny, [1] * prompt_length, drawn, cached=cached))
        counted.append(sum(given))
check(
    "eq. 16.2",
    torch.tensor(counted),
    torch.tensor([
        tokens_read
        for N, t in ((3, 3), (9, 5), (20, 17))
        for tokens_read in (t * N + t * (t - 1) // 2, N + t - 1)
    ]),
)  # fmt: skip

# %% tags=["hide-input"] mystnb={"image": {"alt": "Characters per second against the length of the prompt, both logarithmic: full and local attention with a cache as full lines, without as dashed lines. Lines with a cache lie above those without, and the distance grows with the prompt."}, "figure": {"caption": "Speed of writing with a cache (full lines) and without (dashed), one dot per seed. The text is the same to the character; an assertion in the experiment says so.", "name": "fig-caches"}}
from rope_lab.figures.comparing import caches

cache = Results.recorded("cache")
caches(cache)

# %%
rows = []
for name in cache.variants():
    fast, slow = cache.values(name, "cached"), cache.values(name, "uncached")
    for at_length, length in enumerate(cache.values(name, "lengths")[0]):
        times = fmean(
            a[at_length] / b[at_length] for a, b in zip(fast, slow, strict=True)
        )
        rows.append([f"{name} attention", length, times])
table(
    rows,
    {"": "", "characters of the prompt": ",d", "times as fast with the cache": ".1f"},
    provenance=cache.provenance(),
)

# %% [markdown]
# A step without the cache reads hundreds of characters where one with it reads one, yet it takes only about four to eight
# times as long: the number of characters does not tell the time.
#
# The price is memory. Chapter 7 counts the bytes per token in one layer, for shared key heads and for latents. But a layer with
# a window keeps at most $W$ tokens, so a model of $L$ layers, $G$ of them global, keeps for a text of $N$ tokens
#
# $$ G N + (L - G) \min(N, W) $$ (eq-16-3)
#
# keys and values per key head: 22 instead of 40, if one of four layers is global, $W = 4$ and $N = 10$.


# %%
def keys_read(W: int, G: int, L: int, N: int) -> int:
    """Keys per head that all layers together read when token N is drawn, counted in the package's own caches."""
    shape = {"dim": 8, "heads": 1, "depth": L, "window": W, "global_layers": G}
    model = LocalTransformer(LocalConfig(10, **shape)).eval()
    caches, counts = model.new_cache(N), []
    model(torch.ones(1, N - 1, dtype=torch.long), cache=caches)
    for one in caches:
        append = one.append
        one.append = lambda *a, append=append, **k: (
            counts.append((out := append(*a, **k))[0].shape[-2]) or out
        )
    model(torch.ones(1, 1, dtype=torch.long), cache=caches)
    return sum(counts)


mixtures = [(4, 1, 4, 10), (4, 0, 3, 30), (6, 2, 6, 5), (8, 3, 3, 20)]
check(
    "eq. 16.3",
    [keys_read(*mixture) for mixture in mixtures],
    [G * N + (L - G) * min(N, W) for W, G, L, N in mixtures],
)
per_token = 2 * 2 * 8 * 128  # bytes of a key and a value, 8 key heads, two bytes each
table(
    [
        [what, *(per_token * (G * N + (32 - G) * min(N, 4096)) / 2**30 for N in (4096, 32768, 131072))]
        for what, G in (("all global", 32), ("every fourth global", 8), ("none global", 0))
    ],
    {"of 32 layers": "", "N = 4,096": ".2f", "32,768": ".2f", "131,072": ".2f"},
    caption="Cache in GiB: 8 key heads of 128 coordinates, two bytes per number, W = 4,096.",
)  # fmt: skip

# %% [markdown]
# In long texts the global layers decide, and with a quarter of them the cache approaches a quarter of the full one.
#
# ## Do trained scores decay?
#
# Chapter 6 proved that the bound on RoPE's scores falls with distance and that scores need not. What do trained heads do? A
# prediction first. Let the queries of a head, and its keys, contain a part that is the same for all tokens. If the part of
# the query is that of the key, turned on by the angles of $\delta$ positions, then with $a_i$ the squared length of the key's
# part in pair $i$, the scores at distance $s$ have the mean
#
# $$
# \langle R_m R_{-\delta}\, k,\, R_n k \rangle = \sum_i a_i \cos\big( (s - \delta)\, \theta_i \big) .
# $$ (eq-16-4)
#
# If content agrees in all pairs alike, that is a multiple of the **kernel** $\frac{2}{D} \sum_i \cos((s - \delta)\theta_i)$:
# a curve that the rotation brings along, whose highest point is at distance $\delta$.

# %%
from rope_lab import frequencies, rotate

shape = preset("cpu").architecture(65)
head_dim = shape.dim // shape.heads
theta = frequencies(head_dim)
key = torch.randn(200, head_dim, dtype=torch.float64)
m, n = torch.randint(0, 500, (2, 200, 1))
shift = torch.randint(-3, 4, (200, 1))
left_side = (
    rotate(rotate(key, -shift * theta), m * theta) * rotate(key, n * theta)
).sum(1)
squared = key.unflatten(1, (-1, 2)).square().sum(2)
right_side = (squared * ((m - n - shift) * theta).cos()).sum(1)
check("eq. 16.4", left_side, right_side, draws=200)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels of the mean score against distance, 0 to 96 characters. Left, with QK-norm: the trained mean climbs from 6 at distance 0 to 7 at distance 1, falls to −1.5 at 24, jumps to 1.5 at 32 and falls again; a dotted curve, the kernel, follows it up to 48 and ends below it; the untrained mean is flat at 0. Right, without QK-norm: the same shape, from 8 down to −5."}, "figure": {"caption": "Mean scores of all heads and seeds on held-out text, with a band of one standard deviation (SD). Dotted: the kernel with δ = 1, its height and offset fitted to the trained mean. With normalised queries and keys (left) and without (right), trained scores fall as the rotation’s own curve does, the bump at 32 included, up to about 48 characters. The recorded distances are too far apart to show the other bumps.", "name": "fig-scores"}}
from rope_lab.figures.documents import trained_scores

decay = Results.recorded("decay")
at = torch.tensor(
    [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96], dtype=torch.float64
)


def kernel(delta: float) -> torch.Tensor:
    """The mean of cos((s − δ) θ_i) over the pairs at the recorded distances s."""
    return ((at - delta)[:, None] * theta).cos().mean(1)


trained_scores(decay, kernel(1).tolist())


# %%
def correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return torch.nn.functional.cosine_similarity(a, b, dim=-1)


def means(kind: str) -> torch.Tensor:
    """Mean scores by distance, (seeds · layers · heads, distances)."""
    return torch.tensor(decay.values(kind, "mean"), dtype=torch.float64).flatten(0, 2)


reaches = torch.arange(1, 40, 0.25, dtype=torch.float64)[:, None]
falls = (-(at - 1).abs() / reaches).exp()  # plain exponentials of the distance
bump = int((at == 32).nonzero())
rows = []
for name in decay.variants():
    heads = means(name)
    plain = max(float(correlation(heads.mean(0), fall)) for fall in falls)
    higher = (heads[:, [bump]] > heads[:, [bump - 1, bump + 1]]).all(1).sum()
    rows.append(
        [
            name,
            heads.mean(0)[1],
            heads.mean(0)[-1],
            correlation(heads.mean(0), kernel(1)),
            correlation(heads.mean(0), kernel(0)),
            plain,
            f"{higher} of {len(heads)}",
        ]
    )
if rows:
    scored = table(
        rows,
        {
            "models": "", "mean score at 1": ".2f", f"at {at[-1]:.0f}": ".2f",
            "r, kernel with δ = 1": ".3f", "with δ = 0": ".3f",
            "r, exponential": ".3f", "heads with a bump at 32": "",
        },
        caption="Mean scores over √D of all heads and seeds, and their correlation r with three curves.",
        provenance=decay.provenance(),
    )  # fmt: skip
scored if rows else print(decay.provenance())

# %%
for name in decay.variants()[1:]:
    nearest = int((means(name).argmax(1) == 1).sum())
    bound, largest = (
        torch.tensor(decay.values(name, part)).flatten(0, 2)
        for part in ("bound", "largest")
    )
    times_over = float((bound.mean(0) / largest.amax(0)).min())
    print(f"{name}: {nearest} of {len(bound)} heads score highest one character back;")
    print(
        f"  the mean bound of chapter 6 is at least {times_over:.0f} times the largest score."
    )

# %% [markdown]
# The mean scores of untrained heads hardly depend on the distance, because their queries and keys agree in nothing on
# average (random content, {eq}`eq-6-10`). Those of trained heads fall, and **the fall has the shape of the rotation**. The
# correlation alone would not show it, as the best of many exponentials comes nearly as close. The bump at 32 does: there the
# fastest pair has completed five turns ($5 \cdot 2\pi \approx 31.4$), the kernel rises again, and so do all heads of both
# kinds but one. Without the normalisation (right) the shape is nearly the same.
#
# But lines of verse have some thirty characters. Could the text be the reason for the bump? Train a small model, take its
# queries and keys from one distance in the text, and rotate them as if they were at another.

# %%
from rope_lab.experiments.spectrum import heard


class TrainingOnly(Corpus):
    """A corpus all but without a validation split: `train` measures the loss on all of it, which takes time."""

    @property
    def val(self) -> str:
        return self.text[-2:]


config = preset("cpu", depth=1, steps=120, seed=16, evaluations=1, qk_gain=True)
model = train(config, TrainingOnly(corpus.name, corpus.text), quiet=True).model.eval()
N = shape.context
((queries, keys_heard),) = heard(model, val_ids[: 8 * N].view(8, N))  # one layer


def mean_score(back: int, distance: int) -> float:
    """Of keys so many characters back in the text, rotated as if they were at a distance."""
    q, k = queries[..., back:, :].double(), keys_heard[..., : N - back, :].double()
    turned = rotate(q, (distance * theta).expand(N - back, -1))
    return float((turned * k).sum(-1).mean() / head_dim**0.5)


apart = (24, 32, 40)
crossed = torch.tensor([[mean_score(back, s) for s in apart] for back in apart])
beside = crossed[:, [0, 2]].amax(1)
check_at_most("the bump follows the rotation", 0.3, (crossed[:, 1] - beside).min())
check_at_most("and not the text", crossed.amax(0) - crossed.amin(0), 0.3)


def tops(line: torch.Tensor) -> torch.Tensor:
    """The distances at which a line is higher than at both neighbours."""
    inner = line[1:-1]
    return ((inner > line[:-2]) & (inner > line[2:])).nonzero()[:, 0] + 1


each = torch.arange(50, dtype=torch.float64)
found_tops = tops(torch.tensor([mean_score(32, int(s)) for s in each]))
kernel_tops = tops(((each[:, None] - 1) * theta).cos().sum(1))
check_at_most("tops, beside those of the kernel", (found_tops - kernel_tops).abs(), 1.5)
print("Keys from 32 back score highest as if at:", *found_tops.tolist())
table(
    [[f"{back} characters back", *row] for back, row in zip(apart, crossed, strict=True)],
    {"keys from": ""} | {f"rotated as if at {s}": ".2f" for s in apart},
    caption="Mean scores over √D of a model of one layer after 120 updates, one seed.",
)  # fmt: skip

# %% [markdown]
# In this model the bump follows the rotation: wherever the keys come from, rotated as if at 32 they score higher than at 24
# or 40. And it is one of many, about one for each turn of the fastest pair. What training supplied is the content: queries
# and keys that agree on average, in nearly all heads of the records most with the key one character back ($\delta = 1$).
# Beyond 48 characters the trained means no longer fall while the kernel does, so by {eq}`eq-16-4` not all pairs agree alike.
#
# Try other curves. Move $\delta$, or let only the fastest pairs turn; without JavaScript the drawing shows the kernel.

# %% tags=["hide-input"]
from rope_lab.figures.shape import curve, score_shape

if decay.records:
    trained_mean = means("trained").mean(0).tolist()
    moving_curve = score_shape(at.tolist(), trained_mean, theta.tolist())
moving_curve if decay.records else print(decay.provenance())

# %%
for name in decay.variants()[1:]:
    found = {
        (delta, count): float(
            correlation(means(name).mean(0), torch.from_numpy(curved))
        )
        for delta in range(7)
        for count in range(1, len(theta) + 1)
        for curved in [curve(at.tolist(), theta.tolist(), delta, count)]
    }
    delta, count = max(found, key=found.get)
    print(
        f"{name}: r is highest, {found[delta, count]:.3f}, with δ = {delta}, {count} pairs."
    )

# %% [markdown]
# The best of these curves has $\delta = 1$ and lets eight or nine of the twenty pairs turn: about those that complete half a
# turn within the context.
#
# ## Positions in some layers, or in none
#
# The rest of the chapter is about claims of the last years. Its models have the learned gain of {cite:t}`henry2020`, 600
# updates, and rates of their own, chosen by the rule of chapter 14.
#
# **Are positions needed in every layer?** What do layers without them cost in loss, if the others have no window?

# %%
layers = Results.recorded("layers")
rows = []
for name in layers.variants()[1:]:
    cells = [
        verdict(differences(layers, name, "RoPE", *path))[:2]
        for path in (("val_loss",), ("cut", -1), ("sliding", -1))
    ]
    rows.append([name, *(cell for pair in cells for cell in pair)])
table(
    rows,
    ["", "whole split", "verdict", "8 times the length, cut", "verdict, cut", "sliding", "verdict, sliding"],
    caption="Loss minus that of RoPE in all layers.",
    provenance=layers.provenance(),
)  # fmt: skip

# %% [markdown]
# Without positions in every second layer the loss is higher, at the trained length and at eight times that. For every
# fourth, here only the last of four layers, three seeds do not decide, although each of them is a little higher. So the
# loss shows no gain beyond the context; the needles above test something else.
#
# **Is the rotation needed after training?** {cite:t}`gelberg2025` drop it, recalibrate at the trained length for a small
# part of the training, and read longer texts with no positions at all. Here it is dropped from the RoPE models of the last
# table. Two controls keep it and one never had it; all are recalibrated in the same way, with half the rates.

# %%
from rope_lab.experiments import claims

drop = Results.recorded("drop")
check_at_most(
    "drop, the model that keeps its rotation",
    drop.values("rotation kept", "end", 1),
    drop.values("rotation dropped", "end", 1),
)
followed = torch.ones(len(corpus.vocab), len(corpus.vocab))
followed.index_put_((train_ids[:-1], train_ids[1:]), torch.tensor(1.0), accumulate=True)
chances = followed / followed.sum(1, keepdim=True)
by_counting = -chances.log()[val_ids[:-1], val_ids[1:]].mean()
print(f"Counting which character follows which gives a loss of {by_counting:.2f}.")
table(
    [
        [name, *(fmean(drop.values(name, part, i)) for part in ("short", "end") for i in (0, 1))]
        for name in drop.variants()
    ],
    {
        "": "", "trained length, before": ".2f", "after": ".2f",
        f"end of {claims.LONGER} times that, before": ".2f", "after, end": ".2f",
    },
    caption=f"Mean losses before and after {claims.UPDATES['cpu']} updates of recalibration, on segments of the trained "
    f"length, {shape.context}, and on the last {shape.context} characters of segments {claims.LONGER} times as long.",
    provenance=drop.provenance(),
)  # fmt: skip

# %% [markdown]
# After a sixth of its training again, the model without its rotation is far above the one that kept it, at both lengths.
# Its loss rises least with the length, but that is no merit: it is about the loss of counting pairs of characters, which
# does not depend on the length at all. The model that kept its rotation rises by more and stays far lower, and YaRN takes
# back nearly half of that rise. The paper, however, tests longer texts by tasks such as retrieval, not by the loss.
#
# ## Which rotations do the heads use?
#
# In trained models, leave out the rotation of a quarter of the pairs at a time. (A pair without rotation still compares
# contents.) The last column is the share of a quarter in the lengths of queries and keys: the root of the mean squared
# length of queries times that of keys in each pair, as a share of all pairs.

# %%
from rope_lab.experiments import rates
from rope_lab.figures.claims import cost, share

spectrum = Results.recorded("spectrum")
quarters = spectrum.values("long", "bands")[0]
for band in (2, 3):
    check_at_most(
        f"spectrum, band {band + 1}, slow pairs", abs(fmean(cost("long", band))), 0.001
    )
table(
    [
        [
            f"{first} to {last - 1}",
            theta[first] * shape.context / (2 * torch.pi),
            *(fmean(cost(age, band)) for age in spectrum.variants()),
            fmean(share("long", first, last)),
        ]
        for band, (first, last) in enumerate(quarters)
    ],
    {"pairs without rotation": "", "turns of the fastest in the context": ".2f"}
    | dict.fromkeys(("untrained", "short training", "long training"), ".3f")
    | {"share of the lengths": ".2f"},
    caption="What leaving out the rotation of some pairs adds to the loss at the trained length, untrained and after "
    f"{rates.STEPS['cpu'][0]} and {rates.STEPS['cpu'][1]} updates; the last column is of the long training.",
    provenance=spectrum.provenance(),
)  # fmt: skip

# %%
strongest = torch.tensor(spectrum.values("long", "power")).argmax(-1).flatten()
for i in sorted({*strongest.tolist()}):
    turns, of = theta[i] * shape.context / (2 * torch.pi), int((strongest == i).sum())
    print(f"pair {i}, {turns:5.2f} turns in {shape.context}: strongest of {of} heads")
slow_half = frequencies(128)[32:] * 4096 / (2 * torch.pi)
print(f"Slower half of 64 pairs, turns in 4,096: up to {slow_half.max():.1f}.")

# %% [markdown]
# Either of the two slower quarters could as well not turn at this length, where none of their pairs completes more than a
# fifth of a turn. (Both at once were not tried.) That agrees with p-RoPE. But what a trained model loses is not what a
# rotation is worth: the second quarter costs 0.4 nats here, whereas p-RoPE, trained with only the fastest quarter turning
# and with rates of its own, is a few hundredths above RoPE (below).
#
# :::{admonition} Large values in slow pairs
# :class: note dropdown
#
# The slow pairs also have little content: together a fifth of the lengths, where untrained heads have half, and no head has
# its strongest pair among them. In large models {cite:t}`jin2025` find the largest values of queries and keys in slow pairs.
# But *slow* depends on the context: in about half of these heads the strongest pair completes about one turn or less in 128
# characters, and one that does so in 4,096 is in the slower half of 64 pairs.
# :::
#
# ## The base and the distance of a dependency
#
# Does a text that depends on itself far back need slow rotations? Make such a text: each of 16 symbols repeats, with
# probability 0.9, the one $w$ places before, and is drawn at random otherwise. So it equals that one with probability
# $p = 0.9 + 0.1/16$, and no model can have a loss below
#
# $$
# H = -p \ln p - (1 - p) \ln \frac{1 - p}{15} .
# $$ (eq-16-5)
#
# The check draws such texts, counts, and takes the surprise of a reader who knows the rule:

# %%
from math import log

from rope_lab.experiments.spectrum import BASES, WIDTHS, repeats

p = 0.9 + 0.1 / 16
floor = -p * log(p) - (1 - p) * log((1 - p) / 15)
generator = torch.Generator().manual_seed(16)
text = repeats(8, 400, 1_000, generator)
repeated = text[:, 8:] == text[:, :-8]
surprise = torch.where(repeated, -log(p), -log((1 - p) / 15)).double().mean()
check("eq. 16.5", surprise, floor, tolerance=0.01, reason="sampling", draws=400)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss against the base from 3 to 100,000, logarithmic. The lines for a dependency 2, 8 and 32 places back lie together on a dashed line at 0.56 for every base. The line for 96 places back begins a little above it, at 0.7, and rises to 2.5 at the largest base, its three dots scattered widely."}, "figure": {"caption": "Models of two layers, trained for 200 updates on texts in which a symbol depends on one a fixed distance back; dashed, the lowest loss there is. Up to 32 places back the base makes hardly any difference. At 96, small bases have nearly learned the rule and large ones mostly have not.", "name": "fig-widths"}}
from rope_lab.figures.documents import by_base

widths = Results.recorded("width")
losses = {
    width: {b: widths.values(f"width {width}, base {b:,}", "loss") for b in BASES}
    for width in WIDTHS
}  # fmt: skip
by_base(losses, floor)

# %%
near = [loss < floor + 0.1 for w in WIDTHS[:-1] for b in BASES for loss in losses[w][b]]
print(f"Up to {WIDTHS[-2]} back, {sum(near)} of {len(near)} runs end within 0.1 of H.")
table(
    [
        [b, *(sum(loss < floor + least for loss in losses[WIDTHS[-1]][b]) for least in (0.3, 1))]
        for b in BASES
    ],
    {"base": ",d", "seeds within 0.3 nats of H": "d", "within 1 nat": "d"},
    caption=f"Of three seeds with a dependency {WIDTHS[-1]} places back.",
    provenance=widths.provenance(),
)  # fmt: skip

# %% [markdown]
# For 96 places back the *smaller* bases do better; the three smallest are decidedly below the largest, and other pairs of
# bases leave the seeds undecided. This is how soon a rule is learned, with the rates of RoPE's recipe, and not the loss at
# which a model ends. Nor does it test what {cite:t}`wu2026` claim, that the frequency that suits dependencies spread over a
# width $W$ falls as $1/W$: here every symbol depends on a single distance.
#
# ## How far attention spreads
#
# Chapter 15 shows, with a model that normalises queries and keys *without* the gain, that YaRN's attention factor lowers the
# loss of long texts. Does the missing gain explain that? Two controls: the same with the gain, and without the
# normalisation, at twice these rates, the factor chosen for it. *Keys* is the number of keys over which the last queries
# spread their attention (e to the entropy).

# %%
sharpness = Results.recorded("sharpness")
spans = sharpness.values("with QK-norm", "lengths")[0]
titles = {"with QK-norm": "QK-norm with a gain"}
rows = []
for name in sharpness.variants():
    keys, before, after = (
        sharpness.values(name, k) for k in ("keys", "loss", "loss_sharpened")
    )
    gained = [a[-1] - b[-1] for a, b in zip(after, before, strict=True)]
    ends = [fmean(run[i] for run in found) for found in (keys, before) for i in (0, -1)]
    rows.append([titles.get(name, name), *ends, *verdict(gained)[:2]])
table(
    rows,
    {"": ""} | {f"keys at {spans[i]:,}": ".0f" for i in (0, -1)} | {f"loss at {spans[i]:,}": ".2f" for i in (0, -1)}
    | {"the factor changes that by": "", "verdict": ""},
    caption=f"The last {spans[0] // 4} characters of segments of {spans[0]} and {spans[-1]:,}.",
    provenance=sharpness.provenance(),
)  # fmt: skip

# %% [markdown]
# Without the gain attention is spread over several times as many keys, but at the trained length the loss is nearly the
# same. In the longer text it rises by half as much with the gain, and the factor takes back half of that rise; without the
# gain the factor takes back two thirds, a whole nat. So about a third of what the factor gains in models like that of
# chapter 15 it gains with the learned gain too. Nor does the spread explain every rise: without the normalisation (and at
# other rates) attention is spread as little as with the gain, and the loss rises more.
#
# ## Claims, reproduced or not
#
# Claims about positions from the years 2021 to 2026, each put as a comparison of two numbers, and what three seeds show:
#
# - A claim that something is lower or higher is **seen here** if the whole 95% confidence interval of the difference is on
#   that side of zero. A claim that two things are equal is seen here if the whole interval is within 0.05 nats of zero.
# - Otherwise it is **not seen here**, and the table says whether the whole interval is on the other side of zero, or more
#   than 0.05 nats away from it (*opposite*), or leaves the claim open (*undecided*).
# - It **cannot be seen at this size** if what is claimed needs more than these models have, and is **not tried** if the
#   records have no test of it; the table says why.
#
# Chapter 14 describes the models and the rules *cut* and *sliding* (see {eq}`eq-14-3`). *Longer* is eight times the trained
# length. Lines on extensions are about models without QK-norm, like those of the papers, at that factor.

# %% tags=["hide-input"]
from rope_lab.figures.claims import claims, judged
from rope_lab.figures.source import source

tried_here = claims()
source(judged)

# %% tags=["hide-input"] mystnb={"image": {"alt": "One row per claim, with a dot per seed and a bar for the confidence interval, beside a dashed line at zero. Filled blue rows are on the side that was claimed, such as RoPE minus sinusoids on the left and RoPE at longer lengths on the right. Open red rows are not: far on the right the dropped rotation, interpolation, NTK-aware scaling beyond the trained length, and models without positions; and across zero T5 minus RoPE and YaRN’s factor."}, "figure": {"caption": "The claims that are differences of losses, one dot per seed, with the 95% confidence interval of the mean. Blue and filled, seen here; red and open, not seen. Each row names what is subtracted from what, or what changes; the table has the claims in full. Within a twentieth of a nat of zero the axis is linear.", "name": "fig-claims"}}
from rope_lab.figures.documents import tried

tried([(c.label, c.values, c.verdict) for c in tried_here if c.label and c.values])

# %%
from collections import Counter

counts = Counter(claim.verdict for claim in tried_here)
for verdict_here, number in counts.most_common():
    print(f"{number:2d} {verdict_here}")
table(
    [
        [
            claim.text,
            f"`{claim.experiment}`" if claim.experiment else "–",
            claim.why or f"{verdict(claim.values).difference} {claim.unit}".strip(),
            claim.verdict,
        ]
        for claim in tried_here
    ],
    ["claim", "experiment", "three seeds show, or why not", "verdict"],
    caption="Claims about positions, 2021 to 2026, and what three seeds of small models show. "
    "Differences are in nats per character where no unit is given.",
)  # fmt: skip

# %% [markdown]
# A claim about models of billions of parameters is not refuted by one of 300,000; *not seen here* says that you cannot show
# it with this one. And each row is one choice of length, budget and kind of model. These are the other choices in the
# records that change a verdict:

# %%
turned_round = []
for claim in tried_here:
    elsewhere = claim.otherwise()
    for word in dict.fromkeys(elsewhere.values()):
        there = [
            f"{choice} ({verdict(claim.others[choice]).difference})"
            for choice in elsewhere
            if elsewhere[choice] == word
        ]
        turned_round.append([claim.text, claim.verdict, "; ".join(there), word])
changing = sum(len(claim.otherwise()) for claim in tried_here)
compared = sum(len(claim.others) for claim in tried_here)
print(f"{changing} of {compared} other choices change a verdict.")
seen = [claim for claim in tried_here if claim.verdict == "seen here"]
hanging = sum(bool(claim.otherwise()) for claim in seen)
print(f"Of {len(seen)} claims that are seen, {hanging} hang on the choice.")
table(
    turned_round,
    [
        "claim",
        "verdict above",
        "other choice, and the difference there",
        "verdict there",
    ],
    caption="Other choices of length, budget or kind of model that change a verdict.",
)

# %% [markdown]
# A verdict can hang on
#
# - *the budget*: after 200 updates T5 is below RoPE in every seed, and after 600 that is undecided;
# - *the kind of model*: a larger base helps models without QK-norm, and with it and a gain no row shows that;
# - *the length*: RoPE on a quarter of the coordinates is level with RoPE at the trained length, and at twice that about two
#   nats worse;
# - *the rule of measurement*: ALiBi's loss falls with the length if the text is cut, and does not if the window slides;
# - *what is measured*: by the loss, layers without positions gain nothing in longer texts; by needles further back than
#   the trained length, above windows, all three seeds gain, but by amounts too different to decide. (The bound on the base
#   and the search of {cite:t}`shang2025` are about needles too, and not tried.)
# - *the rates*: for the sides printed below the best factor of the grid is its largest, and a larger one may be better.
#
# :::{admonition} How far to trust the verdicts
# :class: note dropdown
#
# Among some thirty intervals of 95%, one or two may miss, and the likeliest are those decided by a hair, such as a quarter
# of the coordinates. Nor are the rows independent, since many subtract the same three runs of RoPE. Every row that names an
# experiment can be measured again with `rope-lab reproduce` and that name.
# :::

# %%
hair = next(claim for claim in tried_here if claim.label == "25% turn − all")
mean_hair, half_hair = interval(hair.values)
print(f"A quarter of the coordinates: up to {mean_hair + half_hair:.4f} above RoPE.")
sides = (*rates.ENCODINGS, *rates.LAYERS, *rates.KINDS.values())
edge = [name for name in sides if rates.chosen(name, "cpu") == max(rates.GRID)]
print(f"Best at {max(rates.GRID):g} times the rates of the recipe: {', '.join(edge)}.")

# %% [markdown]
# ## Summary
#
# - Early in training on segments of 512 characters, narrow windows have the lowest loss. Models with windows in all layers
#   find no needle far beyond them; with a global layer they do. In longer texts a global layer without positions above
#   windows kept most of its needles, although three seeds do not decide the differences.
# - Trained scores fall with the distance in the shape of the rotation's own curve, with bumps where the fastest pair completes a turn;
#   the rotation of slow pairs is hardly used at this length.
# - Of the claims that these models could test, more than half are seen; nearly half of those hang on the length, the budget
#   or the kind of model. Most of the others come out the other way, at this size and after this training.
#
# ## Exercises
#
# Each checker tells you what it found; the open question has none. The solutions are folded below.
#
# ```{exercise-start}
# :label: ex-16-1
# ```
#
# Write `positions_read(N, t, cached)`: how many positions a model reads in all to draw `t` tokens after a prompt of `N`,
# with a cache or without.

# %%
from rope_lab.exercises.ch16 import check_positions_read


def positions_read(N: int, t: int, cached: bool) -> int:
    return None  # your turn


check_positions_read(positions_read)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-16-1
# :label: sol-16-1
# ```


# %%
def positions_read(N: int, t: int, cached: bool) -> int:
    return N + t - 1 if cached else sum(N + i for i in range(t))


check_positions_read(positions_read)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start}
# :label: ex-16-2
# ```
#
# “Makes no difference” is a claim too. Write `is_level(differences, tau, margin)`: True for every row of `differences`, shape
# `(rows, K)`, whose whole interval $\mu_d \pm \tau\varepsilon$ is within `margin` of zero.

# %%
from torch import Tensor

from rope_lab.exercises.ch16 import check_is_level


def is_level(differences: Tensor, tau: float, margin: float) -> Tensor:
    return None  # your turn: shape (rows,), bool


check_is_level(is_level)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-16-2
# :label: sol-16-2
# ```


# %%
def is_level(differences: Tensor, tau: float, margin: float) -> Tensor:
    error = differences.std(-1) / differences.shape[-1] ** 0.5
    return differences.mean(-1).abs() + tau * error < margin


check_is_level(is_level)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-16-3
# ```
#
# `without_band` is to rotate all pairs of `x`, shape `(N, D)`, by `angles`, shape `(N, D/2)`, except the pairs `first` to
# `last - 1`, whose *rotation* it leaves out; pairs are neighbours. With the version below, the slow pairs of the experiment
# would have looked useful. Correct it.

# %%
from rope_lab.exercises.ch16 import check_without_band


def without_band(x: Tensor, angles: Tensor, first: int, last: int) -> Tensor:
    turned = rotate(x, angles)
    turned[:, 2 * first : 2 * last] = 0
    return turned


check_without_band(without_band)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-16-3
# :label: sol-16-3
# ```
#
# Zeros take away the content of the pairs as well: what such an ablation measures is the pair, and not its rotation. A
# pair that is not rotated keeps its coordinates.


# %%
def without_band(x: Tensor, angles: Tensor, first: int, last: int) -> Tensor:
    still = angles.clone()
    still[:, first:last] = 0
    return rotate(x, still)


check_without_band(without_band)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Derive or refute
# :label: ex-16-4
# ```
#
# “Where content agrees in all pairs alike, the mean score falls with every step of distance.” Write `rises(freqs, reach)`: a
# distance $s$ with $0 \le s < $ `reach` from which the sum $\sum_i \cos(s\theta_i)$ rises to that of $s + 1$, or `None` if there
# is none. Every such distance is correct.

# %%
from rope_lab.exercises.ch16 import check_rises


def rises(freqs: Tensor, reach: int) -> int | None:
    return None  # your turn


check_rises(rises)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-16-4
# :label: sol-16-4
# ```
#
# Refuted, unless all pairs are slow: a cosine falls from 0 to $\pi$, so if no pair completes half a turn within the reach,
# $\theta_i \cdot$ `reach` $\le \pi$, every term falls at every step. A pair that does turns back up, and the sum may follow.


# %%
def rises(freqs: Tensor, reach: int) -> int | None:
    sums = (torch.arange(reach + 1)[:, None] * freqs).cos().sum(1)
    up = (sums.diff() > 1e-9).nonzero()
    return int(up[0]) if len(up) else None


check_rises(rises)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Find the bug
# :label: ex-16-5
# ```
#
# `packed_mask` is to return the mask of causal attention for texts of the given `lengths`, packed into one row one after the
# other: True where a query (row) may see a key (column). In the version below something leaks, and something is lost. Correct
# it.

# %%
from rope_lab.exercises.ch16 import check_packed_mask


def packed_mask(lengths: list[int]) -> Tensor:
    at = torch.arange(sum(lengths))
    text = torch.searchsorted(torch.tensor(lengths).cumsum(0), at)
    return (text[:, None] == text) & (at[:, None] >= at)


check_packed_mask(packed_mask)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-16-5
# :label: sol-16-5
# ```
#
# The sum of the first lengths is where the *next* text begins, and `searchsorted` counts that place to the text before unless it
# is told `right=True`. So each text but the first lends its first character to its neighbour. The row still has a mask with
# blocks, and nothing fails.


# %%
def packed_mask(lengths: list[int]) -> Tensor:
    at = torch.arange(sum(lengths))
    text = torch.searchsorted(torch.tensor(lengths).cumsum(0), at, right=True)
    return (text[:, None] == text) & (at[:, None] >= at)


check_packed_mask(packed_mask)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open question
# :label: ex-16-6
#
# Choose one row of the table that is *not seen here*, and plan how you would find out whether it is wrong or the models are
# too small: what would you change, what would you keep, which number would decide, and how many runs can you afford? Decide
# before you train.
# ```
#
# ```{solution} ex-16-6
# :label: sol-16-6
#
# For example the dropped rotation. Its claim is about a recalibration that is short beside the training, and here the training
# itself is short. So train longer first, then drop, and vary the length of the recalibration and its rates, on text that
# no result is read on, for the model that keeps its rotation too. What decides is the loss at four times the length minus that of
# YaRN, paired by seed, and the model from the start without positions tells what is lost for good. If the difference
# shrinks with every doubling of the recalibration, the claim is one of budget; if it levels off far above zero, it is not.
# Three seeds suffice while the difference is many of its standard deviations; for the last hundredths they will not.
# ```
#
# ## References
#
# - {cite:t}`su2021`, {cite:t}`press2022`, {cite:t}`haviv2022`, {cite:t}`sun2023`, {cite:t}`kazemnejad2023`,
#   {cite:t}`barbero2025`, {cite:t}`khan2026`: encodings, at their length and beyond.
# - {cite:t}`wang2024nope`, {cite:t}`zhong2024`: models without positions, and attention that is spread out.
# - {cite:t}`chen2023`, {cite:t}`bloc97`, {cite:t}`peng2024`, {cite:t}`xiong2024`, {cite:t}`ding2024`, {cite:t}`shang2025`:
#   extensions. {cite:t}`xu2024`: the base as a bound.
# - {cite:t}`yang2025`, {cite:t}`gelberg2025`: layers without positions, and a rotation dropped after training.
# - {cite:t}`jin2025`: large values in slow pairs. {cite:t}`wu2026`: frequencies that suit a text. {cite:t}`wang2025`: RoPE
#   in bfloat16. {cite:t}`henry2020`: normalised queries and keys with a learned gain.
#
# Full entries are on the page {doc}`/book/references`.
