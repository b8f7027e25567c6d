"""Language models of Tiny Shakespeare that differ only in the position encoding or its base."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor

from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.model import RoFormer
from rope_lab.training import Run, preset, token_losses

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
FACTORS = (1, 1.5, 2, 4, 8)
BASES = (100, 1_000, 10_000, 100_000, 1_000_000)


def settings(encoding: str, head_dim: int) -> dict[str, Any]:
    """The settings of a model with this encoding; a fraction of the coordinates of a head becomes their number."""
    chosen = dict(ENCODINGS[encoding])
    if "rotary_dim" in chosen:
        chosen["rotary_dim"] = int(chosen["rotary_dim"] * head_dim) // 2 * 2
    return chosen


def trained(lab: Lab, encoding: str, seed: int) -> tuple[Run, float]:
    """The model of the scale with this encoding, and the CPU seconds it took."""
    model = preset(lab.scale.name).model
    return lab.trained(lab.config(seed, **settings(encoding, model["dim"] // model["heads"])))


def of_training(run: Run, processor_seconds: float) -> dict[str, Any]:
    """What a record says about a training run."""
    return {
        "val_loss": run.val,
        "train_loss": run.history[-1].loss,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "config": asdict(run.config),
        "history": [asdict(point) for point in run.history],
        "train_seconds": run.seconds,
        "processor_seconds": processor_seconds,
    }


def measure_encoding(lab: Lab, encoding: str, seed: int) -> dict[str, Any]:
    """Train with an encoding, measure on the whole validation split."""
    return of_training(*trained(lab, encoding, seed))


def table_of_encodings(results: Results) -> str:
    """Loss of each encoding, and the CPU time of its training."""
    lines = [f"{'':32s}{'validation loss':>18s}{'training loss':>18s}{'CPU seconds':>20s}"]
    for name in results.variants():
        numbers = [results.values(name, key) for key in ("val_loss", "train_loss", "processor_seconds")]
        lines.append(f"{name:32s}{shown(numbers[0]):>18s}{shown(numbers[1]):>18s}{shown(numbers[2], 0):>20s}")
    return "\n".join(lines)


def measure_extrapolation(lab: Lab, encoding: str, seed: int) -> dict[str, Any]:
    """Train at one length; evaluate there and beyond."""
    run, _ = trained(lab, encoding, seed)
    return beyond(run.model, lab.held_out[: lab.scale.characters + 1], FACTORS)


def beyond(model: RoFormer, ids: Tensor, factors: tuple[float, ...]) -> dict[str, Any]:
    """Losses of the same text at multiples of the trained length, cut into segments and with a sliding window.

    A sliding window counts only its last half context; it starts so that all lengths have the same targets. The value
    is None where a model cannot go.
    """
    context = model.config.context
    lengths = [int(context * factor) for factor in factors]
    stride, longest = context // 2, max(lengths)
    numbers: dict[str, Any] = {
        "lengths": lengths,
        "stride": stride,
        "cut": [],
        "sliding": [],
        "by_position": None,
    }
    for length in lengths:
        batch = max(1, 4096 // length)
        try:
            cut = token_losses(model, ids, length, batch=batch)
        except ValueError:  # learned positions end with their table
            numbers["cut"].append(None)
            numbers["sliding"].append(None)
            continue
        sliding = token_losses(model, ids[longest - length :], length, stride=stride, batch=batch)
        numbers["cut"].append(cut.mean().item())
        numbers["sliding"].append(sliding[:, -stride:].mean().item())
        width = max(1, context // 8)  # of the bins of positions
        numbers["by_position"] = cut.mean(0)[: length // width * width].view(-1, width).mean(1).tolist()
        numbers["bin"] = width
    return numbers


def table_of_lengths(results: Results) -> str:
    """Loss at each multiple of the trained length, both ways."""
    lines = []
    for key, title in (("cut", "cut into segments"), ("sliding", "sliding window")):
        lengths = results.records[0]["lengths"]
        lines.append(f"{title:32s}" + "".join(f"{length:>17,d}" for length in lengths))
        for name in results.variants():
            columns = [results.values(name, key, i) for i in range(len(lengths))]
            lines.append(f"{name:32s}" + "".join(f"{_or_dash(column):>17s}" for column in columns))
    return "\n".join(lines)


def _or_dash(values: list[float]) -> str:
    return "–" if None in values else shown(values)


def measure_base(lab: Lab, base: str, seed: int) -> dict[str, Any]:
    """Train RoPE with a base, evaluate at the trained length and beyond."""
    run, seconds = lab.trained(lab.config(seed, base=float(base.replace(",", ""))))
    return of_training(run, seconds) | beyond(run.model, lab.held_out[: lab.scale.characters + 1], (1, 2, 4))


def _encodings(scale: Scale) -> list[str]:
    return list(ENCODINGS)


EXPERIMENTS = {
    "encodings": Experiment(
        "Same model, same budget: which position encoding learns best?",
        _encodings, measure_encoding, table_of_encodings,
    ),
    "extrapolation": Experiment(
        "Trained on short segments: what happens at longer ones?",
        _encodings, measure_extrapolation, table_of_lengths,
    ),
    "base": Experiment(
        "How much does the base of the frequencies matter?",
        lambda scale: [f"{base:,}" for base in BASES], measure_base, table_of_lengths,
    ),
}  # fmt: skip
