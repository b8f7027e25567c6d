"""Why a model fails beyond its length: each remedy alone, in models that differ only in the size of their scores.

A longer text brings new angles and more keys. Frequencies can mend the first, sharper scores the second. So every
scaling, YaRN's two parts and a temperature are tried on models with normalised queries and keys and a learned gain,
without the gain, and without the normalisation. Models are trained to the end of their schedule and fine-tuned for far
less.
"""

from __future__ import annotations

from typing import Any

from rope_lab.encodings import LogN, QueryTemperature
from rope_lab.experiments.extending import METHODS as SCALINGS
from rope_lab.experiments.extending import PARTS, extended
from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.rates import KINDS, configured
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.model import RoFormer
from rope_lab.training import token_losses, train

METHODS = (*SCALINGS, *PARTS, "log-n")
FACTORS = (2, 4, 8)
UPDATES = {
    "smoke": 4,
    "cpu": 100,
    "gpu": 300,
}  # of a fine-tuning, half the characters each of an update of training
PEAK = 0.2  # of the learning rates of training


def longer(model: RoFormer, method: str, factor: int) -> RoFormer:
    """A copy of a RoPE model for `factor` times its context, by one of METHODS."""
    if method != "log-n":
        return extended(model, method, factor)
    copy = extended(model, "none", factor)
    temperature = QueryTemperature(copy.position, temperature=LogN(model.config.context))
    warm = RoFormer(copy.config, temperature)
    warm.load_parameters({name: p.detach() for name, p in copy.named_parameters()})
    return warm.to(model.embedding.weight.device)


def measure(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Extend by a method and a factor; losses before and after fine-tuning, by part of the text."""
    method, rest = variant.split(" ×", 1)
    times, _, kind = rest.partition(", ")
    factor = int(times)
    config = configured(lab, KINDS[kind or "with QK-norm"], seed, long_run=True)
    run, _ = lab.trained(config)
    context = run.model.config.context
    ids = lab.held_out[: lab.scale.characters + 1]
    numbers: dict[str, Any] = {
        "context": context,
        "factor": factor,
        "method": method,
        "steps": [0, UPDATES[lab.scale.name]],
        "trained_length": token_losses(run.model, ids, context).mean().item(),
        "loss": [],
        "beyond": [],
        "end": [],
        "short": [],
    }
    for steps in numbers["steps"]:
        model = longer(run.model, method, factor)
        if steps:
            tuning = config.change(
                context=context * factor, batch=max(1, config.batch // (2 * factor)), steps=steps, evaluations=1,
                reports=1, lr=PEAK * config.lr, matrix_lr=PEAK * config.matrix_lr,
            )  # fmt: skip
            model = train(tuning, lab.corpus, start=model, device=lab.device, quiet=True).model
        losses = token_losses(model, ids, context * factor, batch=max(1, 4096 // (context * factor)))
        numbers["loss"].append(losses.mean().item())
        numbers["beyond"].append(losses[:, context:].mean().item())  # of positions it was not trained on
        numbers["end"].append(losses[:, -context:].mean().item())
        numbers["short"].append(token_losses(model, ids, context).mean().item())
    return numbers


def table(results: Results) -> str:
    """Loss at the new length before and after fine-tuning."""
    steps = results.records[0]["steps"]
    lines = [f"{'loss at the new length after':52s}" + "".join(f"{f'{n:,d} updates':>17s}" for n in steps)]
    for name in results.variants():
        columns = [results.values(name, "loss", i) for i in range(len(steps))]
        lines.append(f"{name:52s}" + "".join(f"{shown(column):>17s}" for column in columns))
    return "\n".join(lines)


def _variants(scale: Scale) -> list[str]:
    usual = [f"{method} ×{factor}" for factor in FACTORS for method in METHODS]
    others = [kind for kind in KINDS if kind != "with QK-norm"]
    return usual + [f"{method} ×{FACTORS[-1]}, {kind}" for kind in others for method in METHODS]


EXPERIMENTS = {
    "extension": Experiment(
        "New angles or too many keys: which of them makes a model fail beyond its length?",
        _variants, measure, table,
        tolerance=0.05,  # without QK-norm, 1e-7 in the first parameters becomes 1e-2; 0.033 was seen
    ),
}  # fmt: skip
