"""Our recipe beside those of its peers, at their own time, and what each part of it is worth."""

from __future__ import annotations

import time
from typing import Any

from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.store import Results, shown
from rope_lab.experiments.text import of_training
from rope_lab.training import TrainConfig, preset, train

PEER, OURS = "nanoGPT's CPU recipe", "ours"
SHORT, LABML = "ours, a fifth of the time", "labml's RoPE recipe, same time"

# What makes a model of this package a GPT-2: learned positions, LayerNorm, GELU, the embedding as output layer.
_GPT: dict[str, Any] = {
    "position": "learned", "norm": "layer", "activation": "gelu", "qk_norm": False, "tied": True,
}  # fmt: skip
# 16 heads of 8 coordinates, every coordinate rotated, ReLU, biases; Noam is Adam with a rate of 1/√step.
_LABML: dict[str, Any] = {
    "context": 512, "dim": 128, "depth": 6, "heads": 16, "layout": "half", "norm": "layer", "activation": "relu",
    "qk_norm": False, "bias": True,
}  # fmt: skip
_NOAM_WARMUP = 2_000

# What nanoGPT reports for 10.7 million parameters after 5,000 updates on an A100 (its README, Karpathy 2022).
PUBLISHED = 1.4697

ABLATIONS: dict[str, dict[str, Any]] = {
    "everything": {},
    "learned positions instead of RoPE": {"position": "learned"},
    "LayerNorm instead of RMSNorm": {"norm": "layer"},
    "no QK-norm": {"qk_norm": False},
    "GELU instead of ReLU²": {"activation": "gelu"},
    "AdamW instead of Muon": {"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.1},
    "cosine to a tenth instead of a line to 0": {"schedule": "cosine", "floor": 0.1},
}


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


def noam(lab: Lab, seed: int) -> TrainConfig:
    """labml's published recipe for its RoPE experiment, for as many updates as fit in the time of the peer's."""
    size = _LABML | ({"context": 64, "depth": 2} if lab.scale.name == "smoke" else {})
    peak = (_LABML["dim"] * _NOAM_WARMUP) ** -0.5

    def of(steps: int) -> TrainConfig:
        return TrainConfig(
            "labml", size, steps=steps, batch=4, optimizer="adamw", lr=peak, beta2=0.999, schedule="rsqrt",
            warmup=_NOAM_WARMUP / steps, seed=seed,
        )  # fmt: skip

    theirs = peer(lab.scale, seed)
    seconds = lab.seconds_per_update(theirs) * theirs.steps
    return of(max(1, int(seconds / lab.seconds_per_update(of(1)))))


def measure_recipe(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train by one recipe; no other run's model is used, so that the time is its own."""
    ours = lab.config(seed)
    ours = ours.change(steps=(1_100 if lab.scale.name == "cpu" else ours.steps))
    if variant == PEER:
        config = peer(lab.scale, seed)
    elif variant == LABML:
        config = noam(lab, seed)
    else:
        config = ours if variant == OURS else ours.change(steps=ours.steps // 5)
    before = time.process_time()
    run = train(config.change(evaluations=1), lab.corpus, device=lab.device, quiet=True)
    return of_training(run, time.process_time() - before)


def table_of_recipes(results: Results) -> str:
    """Loss and time of each, and the ratios to the peer's."""
    losses, seconds = (
        {name: results.values(name, key) for name in results.variants()}
        for key in ("val_loss", "train_seconds")
    )
    lines = [f"{'':34s}{'validation loss':>18s}{'less than peer':>16s}{'seconds':>14s}{'of its time':>13s}"]
    for name in results.variants():
        less = [b - a for a, b in zip(losses[name], losses[PEER], strict=False)]
        share = [a / b for a, b in zip(seconds[name], seconds[PEER], strict=False)]
        lines.append(
            f"{name:34s}{shown(losses[name]):>18s}{shown(less):>16s}"
            f"{shown(seconds[name], 0):>14s}{shown(share, 2):>13s}"
        )
    return "\n".join(lines)


def measure_ablation(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train with one thing taken away."""
    return of_training(*lab.trained(lab.config(seed, **ABLATIONS[variant])))


def table_of_ablations(results: Results) -> str:
    """Loss of each, and what taking the thing away costs."""
    whole = results.values(results.variants()[0], "val_loss")
    lines = [f"{'':44s}{'validation loss':>18s}{'cost':>18s}"]
    for name in results.variants():
        losses = results.values(name, "val_loss")
        cost = [a - b for a, b in zip(losses, whole, strict=False)]
        lines.append(f"{name:44s}{shown(losses):>18s}{shown(cost):>18s}")
    return "\n".join(lines)


def measure_preset(lab: Lab, name: str, seed: int) -> dict[str, Any]:
    """Train by a preset as it is."""
    before = time.process_time()
    run = train(preset(name, seed=seed), lab.corpus, device=lab.device, quiet=True)
    return of_training(run, time.process_time() - before)


def table_of_presets(results: Results) -> str:
    """What each preset reaches, in all the seconds it takes, compiling and measuring included."""
    heads = ("validation loss", "training loss", "seconds", "parameters", "characters")
    widths = (17, 16, 11, 12, 12)
    lines = [" " * 8 + "".join(f"{head:>{width}s}" for head, width in zip(heads, widths, strict=True))]
    for name in results.variants():
        updates, batch = (results.values(name, "config", key)[0] for key in ("steps", "batch"))
        seen = updates * batch * results.values(name, "config", "model", "context")[0]
        cells = [
            shown(results.values(name, "val_loss"), 4),
            shown(results.values(name, "train_loss")),
            shown(results.values(name, "seconds"), 0),
            f"{results.values(name, 'parameters')[0]:,}",
            f"{seen:,}",
        ]
        row = "".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{name:8s}{row}")
    return "\n".join(lines)


EXPERIMENTS = {
    "presets": Experiment(
        "What does each preset reach, and how long does it take?",
        lambda scale: ["cpu", "laptop"] if scale.name == "cpu" else [scale.name], measure_preset, table_of_presets,
    ),
    "baseline": Experiment(
        "Our recipe beside its peers', in their own time",
        lambda scale: [PEER, OURS, SHORT, LABML], measure_recipe, table_of_recipes,
    ),
    "ablation": Experiment(
        "What is each part of the recipe worth?", lambda scale: list(ABLATIONS), measure_ablation, table_of_ablations
    ),
}  # fmt: skip
