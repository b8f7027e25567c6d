"""Our recipe compared with a published one, in equal time, and what each part of ours is worth."""

from __future__ import annotations

import time
from typing import Any

from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.rates import ABLATIONS, configured
from rope_lab.experiments.seeds import differences, shown
from rope_lab.experiments.store import Results
from rope_lab.experiments.text import of_training
from rope_lab.training import Corpus, TrainConfig, preset, train

PEER, OURS = "nanoGPT's CPU recipe", "ours"
SHORT = "ours, a fifth of the time"
FIRST = ", first tenth"  # of a recipe tested on the first tenth of the text and trained on the rest

# What makes a model of this package a GPT-2: learned positions, LayerNorm, GELU, the embedding as output layer.
_GPT: dict[str, Any] = {
    "position": "learned", "norm": "layer", "activation": "gelu", "qk_norm": False, "tied": True,
}  # fmt: skip

# What nanoGPT reports for 10.7 million parameters after 5,000 updates on an A100 (its README, Karpathy 2022).
PUBLISHED = 1.4697
PUBLISHED_CPU = 1.88  # and for its recipe for a CPU (the same page)

WHOLE = "everything"
LEARNED = "learned positions instead of RoPE"


def peer(scale: Scale, seed: int) -> TrainConfig:
    """The recipe of nanoGPT for a CPU: 2,000 updates of 12 segments of 64 characters, width 128, 4 layers, 4 heads."""
    small = scale.name == "smoke"
    size = (
        {"context": 32, "dim": 32, "depth": 2, "heads": 2}
        if small
        else {"context": 64, "dim": 128, "depth": 4, "heads": 4}
    )
    return TrainConfig(
        "nanogpt", size | _GPT, steps=20 if small else 2_000, batch=12, optimizer="adamw", lr=1e-3, beta2=0.99,
        weight_decay=0.1, clip=1.0, schedule="cosine", warmup=0.05, floor=0.1, seed=seed,
    )  # fmt: skip


def measure_recipe(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train with one recipe; models of other runs are not reused, so that the time is its own."""
    name, corpus = variant.removesuffix(FIRST), lab.corpus
    if name != variant:
        corpus = turned(corpus)
    ours = lab.config(seed)
    ours = ours.change(steps=(1_100 if lab.scale.name == "cpu" else ours.steps))
    steps = ours.steps // 5 if name == SHORT else ours.steps
    config = peer(lab.scale, seed) if name == PEER else ours.change(steps=steps)
    before = time.process_time()
    run = train(config.change(evaluations=1), corpus, device=lab.device, quiet=True)
    return of_training(run, time.process_time() - before)


def turned(corpus: Corpus) -> Corpus:
    """The text with its first tenth at the end, where it is the validation split.

    No choice was made with a loss on that tenth: it is training text everywhere else.
    """
    cut = len(corpus.val)
    return Corpus(f"{corpus.name}, the first tenth last", corpus.text[cut:] + corpus.text[:cut])


def peer_of(name: str) -> str:
    """The variant with the published recipe that was tested on the same tenth of the text."""
    return PEER + FIRST if name.endswith(FIRST) else PEER


def table_of_recipes(results: Results) -> str:
    """Loss and time of each, and how they compare with the published recipe's; ± is the 95% confidence interval.

    Runs on the first tenth of the text are about the loss: no time is shown, since they are not taken in turn.
    """
    heads = ("validation loss", "lower by", "seconds", "time ratio", "parameters", "characters")
    widths = (18, 16, 11, 15, 12, 12)
    lines = [" " * 34 + "".join(f"{head:>{width}s}" for head, width in zip(heads, widths, strict=True))]
    for name in results.variants():
        other, timed = peer_of(name), not name.endswith(FIRST)
        lower = differences(results, other, name, "val_loss")
        times = [results.values(which, "train_seconds") for which in (name, other)]
        ratios = [a / b for a, b in zip(*times, strict=False)]
        cells = [
            shown(results.values(name, "val_loss")),
            shown(lower) if name != other else "",
            shown(times[0], 0) if timed else "",
            shown(ratios, 2) if timed and name != other else "",
            f"{results.values(name, 'parameters')[0]:,}",
            f"{characters_read(results, name):,}",
        ]
        row = "".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{name:34s}{row}")
    return "\n".join(lines)


def characters_read(results: Results, name: str) -> int:
    """Characters in all updates of a recorded variant, those of the first seed."""
    config: dict[str, Any] = results.values(name, "config")[0]  # type: ignore[assignment]
    return int(config["steps"] * config["batch"] * config["model"]["context"])


def measure_ablation(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train with one part of the recipe changed, with the learning rates that `rates` found for it."""
    names = {WHOLE: "RoPE", LEARNED: "learned"}
    return of_training(*lab.trained(configured(lab, names.get(variant, variant), seed, long_run=True)))


def table_of_ablations(results: Results) -> str:
    """Loss of each variant, and how much higher it is than with the whole recipe."""
    whole = results.values(results.variants()[0], "val_loss")
    lines = [f"{'':44s}{'validation loss':>18s}{'cost':>18s}"]
    for name in results.variants():
        losses = results.values(name, "val_loss")
        cost = [a - b for a, b in zip(losses, whole, strict=False)]
        lines.append(f"{name:44s}{shown(losses):>18s}{shown(cost):>18s}")
    return "\n".join(lines)


def measure_preset(lab: Lab, name: str, seed: int) -> dict[str, Any]:
    """Train with an unchanged preset."""
    before = time.process_time()
    run = train(preset(name, seed=seed), lab.corpus, device=lab.device, quiet=True)
    return of_training(run, time.process_time() - before)


def table_of_presets(results: Results) -> str:
    """What each preset reaches, with the total time in seconds, compilation and evaluation included."""
    heads = ("validation loss", "training loss", "seconds", "parameters", "characters")
    widths = (17, 16, 12, 12, 12)
    lines = [" " * 8 + "".join(f"{head:>{width}s}" for head, width in zip(heads, widths, strict=True))]
    for name in results.variants():
        cells = [
            shown(results.values(name, "val_loss"), 4),
            shown(results.values(name, "train_loss")),
            shown(results.values(name, "seconds"), 0),
            f"{results.values(name, 'parameters')[0]:,}",
            f"{characters_read(results, name):,}",
        ]
        row = "".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{name:8s}{row}")
    return "\n".join(lines)


EXPERIMENTS = {
    "presets": Experiment(
        "What does each preset reach, and how long does it take?",
        lambda scale: ["cpu", "laptop"] if scale.name == "cpu" else [scale.name], measure_preset, table_of_presets,
        tolerance=0.01,  # 2,200 updates amplify another processor's rounding; 5e-3 was seen
    ),
    "baseline": Experiment(
        "Our recipe and a published one: which reaches the lower loss in the same time?",
        lambda scale: [PEER, OURS, SHORT, PEER + FIRST, OURS + FIRST], measure_recipe, table_of_recipes,
    ),
    "ablation": Experiment(
        "What is each part of the recipe worth?",
        lambda scale: [WHOLE, LEARNED, *ABLATIONS], measure_ablation, table_of_ablations,
        tolerance=0.01,  # without QK-norm, as in the experiment `extension`
    ),
}  # fmt: skip
