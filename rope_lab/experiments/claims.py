"""Claims of recent papers that a laptop can test: layers without positions, and a rotation dropped after training."""

from __future__ import annotations

import dataclasses
from typing import Any

from rope_lab.encodings import NoPE
from rope_lab.experiments.extending import extended
from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.rates import LAYERS, configured
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.experiments.text import beyond, of_training, table_of_lengths
from rope_lab.model import RoFormer
from rope_lab.training import token_losses, train

MIXTURES = ("RoPE", *LAYERS, "NoPE")
UPDATES = {"smoke": 4, "cpu": 100, "gpu": 500}  # of the recalibration
LONGER = 4  # times the trained length, where a dropped rotation is measured

DROPPED = ("rotation kept", "rotation dropped", "rotation kept, YaRN", "NoPE from the start")


def measure_layers(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train with positions in all layers, in some or in none; evaluate there and beyond.

    Source: Yang et al. 2025, RoPE to NoPE and back (arXiv:2501.18795).
    """
    run, seconds = lab.trained(configured(lab, variant, seed, long_run=True))
    return of_training(run, seconds) | beyond(
        run.model, lab.held_out[: lab.scale.characters + 1], (1, 2, 4, 8)
    )


def without_rotation(model: RoFormer) -> RoFormer:
    """A copy of a RoPE model whose queries and keys are not rotated."""
    config = dataclasses.replace(model.config, position="none", nope_every=None)
    copy = RoFormer(config, NoPE())
    copy.load_parameters({name: p.detach() for name, p in model.named_parameters()})
    return copy.to(model.embedding.weight.device)


def measure_dropped(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train a model, change its rotation, recalibrate at the trained length; the losses there and at LONGER times it.

    Recalibration has a sixth of the updates of training, with half the rates, and is the same for all variants.

    Source: DroPE (arXiv:2512.12167).
    """
    own = "NoPE" if variant == "NoPE from the start" else "RoPE"
    config = configured(lab, own, seed, long_run=True)
    run, _ = lab.trained(config)
    ids, context = lab.held_out[: lab.scale.characters + 1], run.model.config.context
    model = without_rotation(run.model) if variant == "rotation dropped" else run.model
    numbers: dict[str, Any] = {"steps": [0, UPDATES[lab.scale.name]], "short": [], "long": [], "end": []}
    for steps in numbers["steps"]:
        if steps:
            again = config.change(
                steps=steps, evaluations=1, reports=1, lr=config.lr / 2, matrix_lr=config.matrix_lr / 2,
                position=model.config.position,
            )  # fmt: skip
            model = train(again, lab.corpus, start=model, device=lab.device, quiet=True).model
        longer = extended(model, "YaRN", LONGER) if variant.endswith("YaRN") else model
        losses = token_losses(longer, ids, LONGER * context, batch=max(1, 4096 // (LONGER * context)))
        numbers["short"].append(token_losses(model, ids, context).mean().item())
        numbers["long"].append(losses.mean().item())
        numbers["end"].append(losses[:, -context:].mean().item())
    return numbers


def table_of_dropped(results: Results) -> str:
    """Loss at the trained length and at the longer one, before and after recalibration."""
    lines = [
        f"{'':24s}"
        + "".join(f"{head:>18s}" for head in ("trained, before", "after", "longer, before", "after"))
    ]
    for name in results.variants():
        cells = [results.values(name, key, i) for key in ("short", "long") for i in (0, 1)]
        lines.append(f"{name:24s}" + "".join(f"{shown(cell):>18s}" for cell in cells))
    return "\n".join(lines)


def _mixtures(scale: Scale) -> list[str]:
    return list(MIXTURES)


EXPERIMENTS = {
    "layers": Experiment(
        "Positions in every layer, in some, or in none: what is lost, and what does it gain beyond the context?",
        _mixtures, measure_layers, table_of_lengths,
    ),
    "drop": Experiment(
        "What happens when the rotation is dropped after training, and the model recalibrated for a while?",
        lambda scale: list(DROPPED), measure_dropped, table_of_dropped,
    ),
}  # fmt: skip
