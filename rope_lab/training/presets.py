"""The settings of a training run as one frozen record, and four such records with names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rope_lab.checks import check_integers
from rope_lab.config import LLAMA, RoFormerConfig

Optimizer = Literal["muon", "adamw"]
Schedule = Literal["linear", "cosine", "rsqrt"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a training run, apart from the text.

    Args:
        name: of the preset it came from.
        model: fields of `RoFormerConfig` other than `vocab_size`, which is the text's.
        steps: updates of the parameters (optimiser steps), however long they take.
        batch: segments of `context` characters per update, all workers and pieces together.
        accumulate: number of pieces in which a batch is computed, one after the other, if it does not fit in memory
            at once.
        optimizer: "muon" for the matrices of the blocks and AdamW for the rest, or "adamw" for all.
        matrix_lr: peak learning rate of Muon.
        lr: peak learning rate of AdamW.
        beta2: AdamW's memory of squared gradients.
        weight_decay: of both, decoupled; with "adamw" only of the matrices.
        clip: the largest norm of all gradients together; with None they are not clipped.
        iterations: Newton–Schulz iterations of Muon.
        schedule: how the learning rate falls from its peak: "linear", "cosine", or "rsqrt", 1/√step (arXiv:1706.03762).
        warmup: fraction of the run in which it rises from 0; above 1 ("rsqrt" only) it does not reach its peak.
        cooldown: fraction of the run in which it falls, if the schedule is "linear".
        floor: fraction of the peak at which "linear" and "cosine" end.
        bfloat16: compute products in bfloat16 on GPUs that support it; elsewhere in float32.
        compile: run the model through `torch.compile`, or unchanged if that fails.
        reports: lines of progress per run, spread evenly.
        evaluations: how many of them measure the loss on the whole validation split.
        seed: of the parameters, the order of the text and dropout.

    Raises:
        ValueError: naming the first field that is out of range.
    """

    name: str = "custom"
    model: dict[str, Any] = field(default_factory=dict)
    steps: int = 1100
    batch: int = 16
    accumulate: int = 1
    optimizer: Optimizer = "muon"
    matrix_lr: float = 0.015
    lr: float = 0.02
    beta2: float = 0.95
    weight_decay: float = 0.0
    clip: float | None = None
    iterations: int = 5
    schedule: Schedule = "linear"
    warmup: float = 0.05
    cooldown: float = 0.9
    floor: float = 0.0
    bfloat16: bool = False
    compile: bool = False
    reports: int = 20
    evaluations: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("steps", "batch", "accumulate", "iterations", "reports", "evaluations")
        check_integers(**{name: getattr(self, name) for name in counts})
        check_integers(0, seed=self.seed)
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate must divide batch={self.batch}, got {self.accumulate}")
        if self.seed >= 2**63:
            raise ValueError(f"seed must be below 2**63, got {self.seed}")
        for name in ("matrix_lr", "lr", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
            if getattr(self, name) > 1e15:  # a product of two is still a float32
                raise ValueError(f"{name} must be at most 1e15, got {getattr(self, name)}")
        for name, kind in (("optimizer", Optimizer), ("schedule", Schedule)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip}")
        if not 0 <= self.beta2 < 1:
            raise ValueError(f"beta2 must lie in [0, 1), got {self.beta2}")
        for name in ("warmup", "cooldown", "floor"):
            most = float("inf") if (name, self.schedule) == ("warmup", "rsqrt") else 1
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie in [0, {most}], got {getattr(self, name)}")
        self.architecture(1)  # refuses a bad model here, not when training starts

    def architecture(self, vocab_size: int) -> RoFormerConfig:
        """The shape of the model for a text of `vocab_size` distinct characters."""
        return RoFormerConfig(vocab_size, **self.model)

    def change(self, **settings: Any) -> TrainConfig:
        """A copy with other settings, those of the model among them: `change(steps=100, position="none")`.

        `architecture="llama"` stands for all fields of `rope_lab.model.LLAMA`, "roformer" for their usual values;
        a field that is given in addition overrides it.

        Raises:
            ValueError: naming a setting that does not exist or is out of range.
        """
        kind = settings.pop("architecture", None)
        if kind not in (None, *ARCHITECTURES):
            raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, got {kind!r}")
        own = {f.name for f in dataclasses.fields(TrainConfig)} - {"model"}
        model = {f.name for f in dataclasses.fields(RoFormerConfig)} - {"vocab_size"}
        if unknown := sorted(settings.keys() - own - model):
            allowed = ", ".join(sorted(own | model | {"architecture"}))
            raise ValueError(f"setting must be one of {allowed}, got {unknown[0]!r}")
        changed = {name: settings[name] for name in own & settings.keys()}
        changed["model"] = self.model | ARCHITECTURES.get(kind, {})
        changed["model"] |= {name: settings[name] for name in model & settings.keys()}
        return dataclasses.replace(self, **changed)


ARCHITECTURES = {
    "roformer": {name: getattr(RoFormerConfig, name) for name in LLAMA},  # so that each undoes the other
    "llama": LLAMA,
}

_SMOKE = {"context": 32, "dim": 32, "depth": 2, "heads": 2, "qk_gain": True}
_CPU = {"context": 128, "dim": 80, "depth": 4, "heads": 2, "qk_gain": True}
_LAPTOP = {"context": 256, "dim": 192, "depth": 4, "heads": 3, "dropout": 0.1}  # recorded before the gain
_LAPTOP |= {name: LLAMA[name] for name in ("activation", "ff_mult", "ff_multiple")}
_GPU: dict[str, Any] = {"context": 256, "dim": 384, "depth": 6, "heads": 6, "qk_gain": True}
_GPU |= {"dropout": 0.2, "attention_dropout": 0.2}

PRESETS = {
    # seconds: to see that everything works
    "smoke": TrainConfig("smoke", _SMOKE, steps=40, batch=8, reports=4, evaluations=2),
    # about 90 s on two cores, 0.3 million parameters: in that time a larger model sees too little text
    "cpu": TrainConfig("cpu", _CPU),
    # under 20 minutes on two cores, 1.8 million parameters; it reads the text seven times, hence dropout and decay
    "laptop": TrainConfig(
        "laptop",
        _LAPTOP,
        steps=2200,
        batch=12,
        lr=0.01,
        weight_decay=0.1,
        compile=True,
        reports=50,
        evaluations=10,
    ),
    # 10 million parameters
    "gpu": TrainConfig(
        "gpu",
        _GPU,
        steps=3000,
        batch=64,
        lr=0.005,
        weight_decay=0.1,
        bfloat16=True,
        reports=30,
        evaluations=10,
    ),
}


def preset(name: str, **settings: Any) -> TrainConfig:
    """The preset called `name` ("smoke", "cpu", "laptop" or "gpu"), with some of its settings changed.

    Raises:
        ValueError: if there is no such preset, or as `TrainConfig.change`.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name].change(**settings)
