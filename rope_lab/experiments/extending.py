"""A RoPE model is trained at one length and extended by scaling its frequencies, by fine-tuning, or both."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from torch import Tensor

from rope_lab.encodings import DynamicNTK, NTKAware, PositionInterpolation, RotaryEmbedding, Scaling, YaRN
from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.model import RoFormer
from rope_lab.training import token_losses, train

METHODS = ("none", "position interpolation", "NTK-aware", "dynamic NTK", "YaRN")
PARTS = ("NTK-by-parts", "attention factor alone")  # the two parts of YaRN, each without the other
FACTORS = (2, 4, 8)
_PEAK = 0.2  # of the learning rates of training


@dataclasses.dataclass(frozen=True)
class Sharpened:
    """Leaves every frequency unchanged and multiplies cosine and sine by a number, and so scores by its square."""

    attention_factor: float

    def __call__(self, freqs: Tensor, length: int) -> tuple[Tensor, float]:
        return freqs, self.attention_factor


def scaling(method: str, factor: int, context: int) -> Scaling | None:
    """The scaling called `method` from `context` tokens to `factor` times as many."""
    kinds: dict[str, Scaling | None] = {
        "none": None,
        "position interpolation": PositionInterpolation(factor),
        "NTK-aware": NTKAware(factor),
        "dynamic NTK": DynamicNTK(factor, context),
        "YaRN": YaRN(factor, context),
        "NTK-by-parts": YaRN(factor, context, attention_factor=1.0),
        "attention factor alone": Sharpened(0.1 * math.log(factor) + 1),
    }
    return kinds[method]


def extended(model: RoFormer, method: str | Scaling, factor: int) -> RoFormer:
    """A copy of a RoPE model for `factor` times its context, by a method's name or any other scaling."""
    old, context = model.config, model.config.context
    config = dataclasses.replace(old, context=context * factor)
    rope = RotaryEmbedding(
        old.rotary_dim or old.dim // old.heads, base=old.base, layout=old.layout,
        scaling=scaling(method, factor, context) if isinstance(method, str) else method, length=config.context,
    )  # fmt: skip
    copy = RoFormer(config, rope)
    copy.load_parameters({name: p.detach() for name, p in model.named_parameters()})
    return copy.to(model.embedding.weight.device)


def measure(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Extend by a method and a factor; the losses before fine-tuning and after each number of updates."""
    method, times = variant.rsplit(" ×", 1)
    factor = int(times)
    config = lab.config(seed)
    run, _ = lab.trained(config)
    context = run.model.config.context
    ids = lab.held_out[: lab.scale.characters + 1]
    numbers: dict[str, Any] = {
        "context": context,
        "factor": factor,
        "method": method,
        "steps": [0, *lab.scale.tuning],
        "trained_length": token_losses(run.model, ids, context).mean().item(),
        "loss": [],
        "beyond": [],
        "short": [],
    }
    for steps in numbers["steps"]:
        model = extended(run.model, method, factor)
        if steps:  # half the characters of an update of training
            tuning = config.change(
                context=context * factor, batch=max(1, config.batch // (2 * factor)), steps=steps, evaluations=1,
                reports=1, lr=_PEAK * config.lr, matrix_lr=_PEAK * config.matrix_lr,
            )  # fmt: skip
            model = train(tuning, lab.corpus, start=model, device=lab.device, quiet=True).model
        losses = token_losses(model, ids, context * factor, batch=max(1, 4096 // (context * factor)))
        numbers["loss"].append(losses.mean().item())
        numbers["beyond"].append(losses[:, context:].mean().item())  # of positions it was not trained on
        numbers["short"].append(token_losses(model, ids, context).mean().item())
    return numbers


def table(results: Results) -> str:
    """Loss at the new length before and after fine-tuning."""
    steps = results.records[0]["steps"]
    lines = [f"{'loss at the new length after':32s}" + "".join(f"{f'{n:,d} updates':>17s}" for n in steps)]
    for name in results.variants():
        lines.append(
            f"{name:32s}"
            + "".join(f"{shown(results.values(name, 'loss', i)):>17s}" for i in range(len(steps)))
        )
    lengths = [
        record["trained_length"] for record in results.records if record["variant"] == results.variants()[0]
    ]
    return "\n".join([*lines, f"{'at the trained length, before':32s}{shown(lengths):>17s}"])


def _variants(scale: Scale) -> list[str]:
    return [f"{method} ×{factor}" for factor in FACTORS for method in METHODS]


EXPERIMENTS = {
    "extension": Experiment(
        "A model trained on short segments: how is it best extended to longer ones?",
        _variants,
        measure,
        table,
    ),
}
