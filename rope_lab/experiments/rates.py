"""Learning rates for each variant of a comparison, from one small grid, chosen on text that no result is read on.

The rule, fixed before the runs: every variant is trained with the rates of the recipe times 0.5, 1 and 2, on the first
81% of the text, with the updates of the shorter budget; the factor with the lowest loss on the next 9% is the variant's
own in every experiment that asks `configured`. The last tenth of the text, on which results are reported, takes no part
in that choice; the rates that are multiplied were found on it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.training import Corpus, TrainConfig

GRID = (0.5, 1.0, 2.0)
STEPS = {
    "smoke": (8, 12),
    "cpu": (200, 600),
    "gpu": (1_000, 3_000),
}  # updates of the two budgets at each scale

ENCODINGS: dict[str, dict[str, Any]] = {
    "NoPE": {"position": "none"},
    "learned": {"position": "learned"},
    "sinusoidal": {"position": "sinusoidal"},
    "T5": {"position": "t5"},
    "ALiBi": {"position": "alibi"},
    "RoPE": {"position": "rope"},
    "xPos": {"position": "xpos"},
    "RoPE, 25% of the coordinates": {"position": "rope", "rotary_dim": 0.25},
    "p-RoPE, p = 0.25": {"position": "rope", "proportion": 0.25},
    "RoPER": {"position": "roper"},
}
LAYERS: dict[str, dict[str, Any]] = {
    "NoPE in every second layer": {"position": "rope", "nope_every": 2},
    "NoPE in every fourth layer": {"position": "rope", "nope_every": 4},
}
ABLATIONS: dict[str, dict[str, Any]] = {
    "LayerNorm instead of RMSNorm": {"norm": "layer"},
    "no QK-norm": {"qk_norm": False},
    "QK-norm without a gain": {"qk_gain": False},
    "GELU instead of ReLU²": {"activation": "gelu"},
    "AdamW instead of Muon": {"optimizer": "adamw", "lr": 0.003, "weight_decay": 0.1},
    "cosine to a tenth instead of a line to 0": {"schedule": "cosine", "floor": 0.1},
}
VARIANTS = ENCODINGS | LAYERS | ABLATIONS
KINDS = {  # of RoPE models that differ in the size of their scores
    "with QK-norm": "RoPE",
    "no QK-norm": "no QK-norm",
    "QK-norm without a gain": "QK-norm without a gain",
}


def choosing(lab: Lab) -> Lab:
    """The same place with the first nine tenths of the text only, on which every choice of settings is made.

    Its validation split is the last tenth of those. The last tenth of the whole text is left for the results.
    """
    corpus = Corpus(f"{lab.corpus.name}, first nine tenths", lab.corpus.train)
    return Lab(lab.scale, corpus, lab.folder, lab.device)


def settings(encoding: str, head_dim: int) -> dict[str, Any]:
    """The settings of a model with this encoding; a fraction of the coordinates of a head becomes their number."""
    chosen = dict(ENCODINGS[encoding])
    if "rotary_dim" in chosen:
        chosen["rotary_dim"] = int(chosen["rotary_dim"] * head_dim) // 2 * 2
    return chosen


def configured(
    lab: Lab, variant: str, seed: int, factor: float | None = None, *, long_run: bool = False
) -> TrainConfig:
    """The settings of a variant at this scale, with its own learning rates or `factor` times the recipe's.

    Models have the learned gain, and the shorter of the two budgets unless it is a `long_run`.
    """
    short, long = STEPS[lab.scale.name]
    plain = lab.config(seed, steps=long if long_run else short, qk_gain=True)
    head_dim = plain.model["dim"] // plain.model["heads"]
    config = plain.change(**(settings(variant, head_dim) if variant in ENCODINGS else VARIANTS[variant]))
    factor = chosen(variant, lab.scale.name) if factor is None else factor
    return config.change(lr=factor * config.lr, matrix_lr=factor * config.matrix_lr)


@cache
def _recorded(scale: str) -> Results:
    return Results.recorded("rates", scale)


def chosen(variant: str, scale: str) -> float:
    """The factor of the grid with the lowest mean loss in the records of `rates`; 1 where there are none."""
    losses = {factor: _recorded(scale).values(_name(variant, factor), "val_loss") for factor in GRID}
    return (
        min(GRID, key=lambda factor: (sum(losses[factor]) / len(losses[factor]), factor))
        if all(losses.values())
        else 1.0
    )


def measure(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train a variant with a factor; the seeds are not those of any result."""
    name, factor = variant.rsplit(" ×", 1)
    place = choosing(lab)
    run, _ = place.trained(configured(place, name, 1_000 + seed, float(factor)))
    return {
        "val_loss": run.val,
        "train_loss": run.history[-1].loss,
        "lr": run.config.lr,
        "matrix_lr": run.config.matrix_lr,
    }


def table(results: Results) -> str:
    """Loss of each variant with each factor of the grid, and the factor chosen."""
    lines = [f"{'':44s}" + "".join(f"{f'rates × {factor:g}':>18s}" for factor in GRID) + f"{'chosen':>10s}"]
    for name in VARIANTS:
        losses = [results.values(_name(name, factor), "val_loss") for factor in GRID]
        if all(losses):
            best = min(range(len(GRID)), key=lambda at: sum(losses[at]) / len(losses[at]))
            lines.append(
                f"{name:44s}" + "".join(f"{shown(row):>18s}" for row in losses) + f"{GRID[best]:>10g}"
            )
    return "\n".join(lines)


def _name(variant: str, factor: float) -> str:
    return f"{variant} ×{factor:g}"


def _variants(scale: Scale) -> list[str]:
    return [_name(variant, factor) for variant in VARIANTS for factor in GRID]


EXPERIMENTS = {
    "rates": Experiment("Which learning rates suit each variant?", _variants, measure, table),
}
