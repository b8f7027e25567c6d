"""What a run leaves behind: the model, its history, and where every number came from."""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy
import torch
from torch import Tensor

import rope_lab
from rope_lab.model import RoFormer
from rope_lab.training import checkpoint, tracking
from rope_lab.training.data import Corpus
from rope_lab.training.presets import TrainConfig
from rope_lab.training.tracking import Tracker

FILE = "run.json"


class Stopped(RuntimeError):
    """A run that began well and cannot go on; the message is one line and says what to do."""


@dataclass(frozen=True)
class Point:
    """One report.

    Args:
        step: updates made so far.
        loss: mean training loss since the report before, nats per character.
        seconds: since the start, evaluations included, interruptions not.
        val: loss on the whole validation split, where it was measured.
    """

    step: int
    loss: float
    seconds: float
    val: float | None = None


@dataclass
class Run:
    """A run, finished or on its way.

    Args:
        model: trained so far.
        config: its settings.
        provenance: the corpus, the device, the threads and the versions it ran with.
        history: one point a report.
        step: updates made so far.
        seconds: spent on them.
        recent: training losses since the last report, scalars on the device.
        folder: where it is saved, if it is.
    """

    model: RoFormer
    config: TrainConfig
    provenance: dict[str, Any]
    history: list[Point] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0
    recent: list[Tensor] = field(default_factory=list)
    folder: Path | None = None

    @property
    def val(self) -> float | None:
        """The last loss measured on the validation split."""
        return next((point.val for point in reversed(self.history) if point.val is not None), None)

    def record(self) -> dict[str, Any]:
        """The run without its parameters, as JSON can hold it: what is in `run.json` and in a checkpoint."""
        return {
            "config": asdict(self.config),
            "model": asdict(self.model.config),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            **self.provenance,
            "step": self.step,
            "seconds": self.seconds,
            "train_loss": self.history[-1].loss if self.history else None,
            "val_loss": self.val,
            "history": [asdict(point) for point in self.history],
            "recent": [loss.item() for loss in self.recent],
        }

    def watch(self, last: int) -> None:
        """Look at the `last` losses. On a GPU this waits for the steps to be done.

        Raises:
            Stopped: if one of them is not finite.
        """
        losses = [loss.item() for loss in self.recent[-last:]]
        for step, loss in enumerate(losses, self.step - len(losses) + 1):
            if not math.isfinite(loss):
                raise Stopped(f"the loss is {loss} at step {step}; {self._kept()}; {self._cure()}")

    def report(self, val: float | None, tracker: Tracker) -> None:
        """Add a point to the history, show it and log it."""
        self.watch(len(self.recent))
        loss = torch.stack([loss.cpu() for loss in self.recent]).mean().item()
        self.recent = []
        self.history.append(Point(self.step, loss, self.seconds, val))
        rate = self.step * self.config.batch * self.model.config.context / self.seconds
        left = self.seconds * (self.config.steps - self.step) / self.step
        shown = f"val {val:.4f}" if val is not None else ""
        numbers = {"train.loss": loss, "rate": rate} | ({} if val is None else {"val.loss": val})
        tracker.report(
            self.step,
            numbers,
            f"step {self.step:>{len(str(self.config.steps))}}/{self.config.steps}  train {loss:.4f}  {shown:10}  "
            f"{rate:,.0f} characters/s  {left:.0f} s left",
        )

    def save(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Write the checkpoint and `run.json` into the folder, if there is one.

        Raises:
            Stopped: if a parameter is not finite or the disk is full; the checkpoint before is still there.
        """
        if self.folder is None:
            return
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise Stopped(f"a parameter is not finite after step {self.step}; {self._kept()}; {self._cure()}")
        record = self.record()
        try:
            checkpoint.save(self.folder / checkpoint.FILE, self.model, optimizers, record)
            with checkpoint.whole(self.folder / FILE) as beside:
                beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            again = f"make room, then: rope-lab train --resume {self.folder}"
            raise Stopped(f"{error.strerror}: {self.folder}; {self._kept()}; {again}") from error

    def _kept(self) -> str:
        if self.folder is None or not (self.folder / checkpoint.FILE).is_file():
            return "there is no checkpoint yet"
        found = checkpoint.load(self.folder)
        return f"the last good checkpoint is {found.path}, step {found.run['step']}"

    def _cure(self) -> str:
        c = self.config
        rates = f"--lr (now {c.lr:g})" + (
            f" and --matrix-lr ({c.matrix_lr:g})" if c.optimizer == "muon" else ""
        )
        return f"start a run with a lower {rates}" + (" or with --no-bfloat16" if c.bfloat16 else "")

    def resume(self, saved: Path, optimizers: list[torch.optim.Optimizer]) -> None:
        """Go back to where the checkpoint `saved`, a file or its folder, was written.

        Raises:
            ValueError: if there is none, or it is of another text or of other settings.
        """
        found = checkpoint.load(saved)
        then = found.run
        if then["corpus"] != self.provenance["corpus"]:
            trained, got = (
                f"{c['name']} ({c['sha256'][:8]}…)" for c in (then["corpus"], self.provenance["corpus"])
            )
            raise ValueError(f"corpus must be {trained}, which the run was trained on, got {got}")
        before = asdict(TrainConfig(**then["config"]))  # an older one has not every setting
        for name, value in asdict(self.config).items():
            if before[name] != value:
                raise ValueError(f"{name} must be {before[name]!r} as in {str(saved)!r}, got {value!r}")
        checkpoint.restore(found, self.model, optimizers)
        self.history = [Point(**point) for point in then["history"]]
        self.recent = [torch.tensor(loss) for loss in then["recent"]]
        self.step, self.seconds = then["step"], then["seconds"]


def resolved(folder: str | Path) -> Path:
    """The folder without "..": past one that is not there yet the system would find nothing."""
    return Path(os.path.realpath(folder) if ".." in Path(folder).parts else folder)


def prepare(
    folder: str | Path | None, resume: bool, launch: str | None = None
) -> tuple[Path | None, Path | None]:
    """The folder of a run, made if need be, and the checkpoint in it to go on from.

    Args:
        folder, resume: as `train` takes them.
        launch: of `torchrun`; a run that was saved under the same one goes on unasked, for it was started again.

    Raises:
        ValueError: if a new run would overwrite another, there is none to resume, or it cannot be made.
        ModuleNotFoundError: if safetensors or labml is not installed.
    """
    if folder is None:
        if resume:
            raise ValueError("folder must be that of the run to resume, got None")
        return None, None
    folder = resolved(folder)
    there = (folder / checkpoint.FILE).is_file()
    if there and launch is not None:
        resume = resume or checkpoint.load(folder).run.get("launch") == launch
    if there != resume:
        must = "hold a run to resume" if resume else "hold no run yet: resume it or choose another"
        raise ValueError(f"folder must {must}, got {str(folder)!r}")
    checkpoint.require()
    tracking.require()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"folder must be one that can be made, got {str(folder)!r}: {error.strerror}"
        ) from error
    return folder, folder / checkpoint.FILE if resume else None


def provenance(corpus: Corpus, device: torch.device) -> dict[str, Any]:
    """Where a run's numbers come from, apart from its settings."""
    versions = {"rope_lab": rope_lab.__version__, "torch": torch.__version__, "numpy": numpy.__version__}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "corpus": {"name": corpus.name, "sha256": corpus.sha256},
        "vocab": corpus.vocab,
        "device": device.type,
        "machine": f"{platform.system()} {platform.machine()} {name}".strip(),
        "threads": torch.get_num_threads(),
        "versions": versions | {"python": platform.python_version()},
    }


def choose_device(name: str | None = None) -> torch.device:
    """The device called `name`; by default the first there is of cuda, mps and cpu.

    Raises:
        ValueError: if it is not one of these or not on this machine.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [device for device, there in present.items() if there]
    if name is not None and name not in here:
        raise ValueError(f"device must be one of {', '.join(here)} on this machine, got {name!r}")
    return torch.device(name or here[0])


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Inside, the first Ctrl-C only fills the list, so that a step is never left half done; the second stops at once.

    Outside the main thread, where Python delivers no signals, it does nothing.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
