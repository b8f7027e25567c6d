"""Language models of Tiny Shakespeare that differ only in the position encoding or its base."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor

from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.rates import ENCODINGS, STEPS, configured
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.model import RoFormer
from rope_lab.training import Run, token_losses

FACTORS = (1, 1.5, 2, 4, 8)
BASES = (100, 1_000, 10_000, 100_000, 1_000_000)


def trained(lab: Lab, encoding: str, seed: int, *, long_run: bool = True) -> tuple[Run, float]:
    """The model of the scale with this encoding and its own rates, and the CPU seconds it took."""
    return lab.trained(configured(lab, encoding, seed, long_run=long_run))


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
    """Train with an encoding on two budgets, each with a schedule of its own; the record of the shorter is "short"."""
    short = of_training(*trained(lab, encoding, seed, long_run=False))
    return of_training(*trained(lab, encoding, seed)) | {"short": short}


def table_of_encodings(results: Results) -> str:
    """Loss of each encoding after the shorter and the longer training, and the CPU time of the longer."""
    short, long = STEPS[results.scale]
    heads = (f"{short:,d} updates", f"{long:,d} updates", "CPU seconds")
    lines = [f"{'loss on the test text after':32s}" + "".join(f"{head:>18s}" for head in heads)]
    for name in results.variants():
        numbers = [results.values(name, "short", "val_loss"), results.values(name, "val_loss")]
        cost = shown(results.values(name, "processor_seconds"), 0)
        lines.append(f"{name:32s}" + "".join(f"{shown(row):>18s}" for row in numbers) + f"{cost:>18s}")
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
    config = configured(lab, "RoPE", seed, long_run=True).change(base=float(base.replace(",", "")))
    run, seconds = lab.trained(config)
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
        tolerance=0.03,  # rounding grows with the length: 1.4e-2 was seen at eight times the trained one
    ),
    "base": Experiment(
        "How much does the base of the frequencies matter?",
        lambda scale: [f"{base:,}" for base in BASES], measure_base, table_of_lengths,
    ),
}  # fmt: skip
