"""Copying, reversing and adding, trained up to a length and tested up to twice that length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.config import RoFormerConfig
from rope_lab.encodings import PositionEncoding
from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.rates import ENCODINGS, settings
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.model import RoFormer
from rope_lab.training import Stopped, TrainConfig, choose_device, make_optimizers, seeded, set_learning_rates

SYMBOLS, EQUALS, PLUS, PAD = 10, 10, 11, 12  # the ten digits are their own ids
TASKS = {"copy": 10, "reverse": 10, "addition": 6}  # and the longest length of training
TIMES = {"copy": 1, "reverse": 1, "addition": 3}  # the updates of the scale: addition is learned later
_BATCH, _TESTS = 64, 256
_DIM, _HEADS = 64, 4


@dataclass(frozen=True)
class Examples:
    """Sequences, and where in them the answers are.

    Args:
        ids: (B, N), padded at the end.
        answer: True at the tokens to be predicted, (B, N).
    """

    ids: Tensor
    answer: Tensor


def examples(task: str, lengths: Tensor, generator: torch.Generator) -> Examples:
    """Random examples of a task, one per length.

    copy: 3 1 4 = 3 1 4; reverse: 3 1 4 = 4 1 3; addition, the least digit first: 3 1 + 9 2 = 2 4 0.

    Args:
        task: "copy", "reverse" or "addition".
        lengths: digits of each example (of each summand), (B,).
        generator: draws the digits.
    """
    rows, marks = [], []
    for length in lengths.tolist():
        digits = torch.randint(SYMBOLS, (length,), generator=generator).tolist()
        if task == "addition":
            other = torch.randint(SYMBOLS, (length,), generator=generator).tolist()
            total = sum((a + b) * 10**i for i, (a, b) in enumerate(zip(digits, other, strict=True)))
            question = [*digits, PLUS, *other, EQUALS]
            answer = [total // 10**i % 10 for i in range(length + 1)]
        else:
            question, answer = [*digits, EQUALS], digits if task == "copy" else digits[::-1]
        rows.append(torch.tensor(question + answer))
        marks.append(torch.tensor([False] * len(question) + [True] * len(answer)))
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
    return Examples(ids, torch.nn.utils.rnn.pad_sequence(marks, batch_first=True))


def model_for(encoding: str, task: str) -> RoFormerConfig:
    """A model of two layers. A learned table is long enough for the test; training does not touch its last rows."""
    longest = 2 * TASKS[task]
    context = 3 * longest + 3 if task == "addition" else 2 * longest + 1
    position = settings(encoding, _DIM // _HEADS)
    return RoFormerConfig(PAD + 1, context=context, dim=_DIM, depth=2, heads=_HEADS, qk_gain=True, **position)


def solve(
    config: RoFormerConfig,
    task: str,
    seed: int,
    steps: int,
    device: torch.device,
    position: PositionEncoding | None = None,
) -> dict[str, Any]:
    """Train on random lengths up to a longest one; the fraction of correct answers at each length up to twice that.

    `position` takes the place of the encoding of the config.

    Raises:
        Stopped: if a loss is not finite.
    """
    longest = TASKS[task]
    rates = TrainConfig(steps=steps, seed=seed, cooldown=0.5)
    with seeded(seed):
        generator = torch.Generator().manual_seed(seed)
        model = RoFormer(config, position).to(device)
        optimizers = make_optimizers(model, rates)
        loss = torch.tensor(torch.nan)
        for step in range(steps):
            set_learning_rates(optimizers, rates, step)
            batch = examples(task, torch.randint(1, longest + 1, (_BATCH,), generator=generator), generator)
            ids, answer = batch.ids.to(device), batch.answer.to(device)
            logits = model(ids[:, :-1])  # (B, N, V)
            loss = F.cross_entropy(logits[answer[:, 1:]], ids[:, 1:][answer[:, 1:]])
            if not loss.isfinite():
                raise Stopped(f"the loss is {loss.item()} at step {step + 1} of {task}, seed {seed}")
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        lengths = list(range(1, 2 * longest + 1))
        return {
            "train_loss": loss.item(),
            "trained_to": longest,
            "lengths": lengths,
            "exact": [exact(model, task, length, generator) for length in lengths],
        }


@torch.inference_mode()
def exact(model: RoFormer, task: str, length: int, generator: torch.Generator) -> float:
    """Fraction of examples of one length in which every answer token is the likeliest given those before it.

    This is the fraction that greedy decoding would get right.
    """
    model.eval()
    batch = examples(task, torch.full((_TESTS,), length), generator)
    ids = batch.ids.to(model.embedding.weight.device)
    guess = model(ids[:, :-1]).argmax(-1).cpu()
    right = (guess == batch.ids[:, 1:]) | ~batch.answer[:, 1:]
    return right.all(1).double().mean().item()


def measure(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train and test an encoding on a task."""
    task, encoding = variant.split(", ", 1)
    steps = TIMES[task] * lab.scale.task_steps
    return solve(model_for(encoding, task), task, seed, steps, choose_device(lab.device))


def table(results: Results) -> str:
    """Fraction of correct answers up to the longest length of training, and beyond."""
    lines = [f"{'fraction of correct answers':32s}{'as trained':>17s}{'longer':>17s}"]
    for name in results.variants():
        solved = [fractions(record) for record in results.records if record["variant"] == name]
        cells = [shown([row[key] for row in solved], 2) for key in ("trained", "longer")]
        said = name.removesuffix(" of the coordinates")
        lines.append(f"{said:32s}" + "".join(f"{cell:>17s}" for cell in cells))
    return "\n".join(lines)


def fractions(record: dict[str, Any]) -> dict[str, float]:
    """Mean fraction of correct answers at the trained lengths and at longer ones, of one record."""
    to = record["trained_to"]
    known, new = record["exact"][:to], record["exact"][to:]
    return {"trained": sum(known) / len(known), "longer": sum(new) / len(new)}


def _variants(scale: Scale) -> list[str]:
    return [f"{task}, {word}" for task in TASKS for word in ENCODINGS]


EXPERIMENTS = {
    "algorithms": Experiment(
        "Copy, reverse, add: which encodings find a rule that holds for longer inputs?",
        _variants,
        measure,
        table,
        kept=fractions,  # another processor rounds otherwise, and single lengths then differ by more
        tolerance=0.1,
        bistable=True,
    ),
}
