"""What a run leaves behind: the model, its history, and where its numbers came from."""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import re
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

FILE = "run.json"
PAUSE = (
    60.0  # seconds of training after which a run is saved and reported, however few reports were requested
)


class Stopped(RuntimeError):
    """A run has to stop after it has started; the one-line message says what to do."""


@dataclass(frozen=True)
class Point:
    """One report.

    Args:
        step: updates made so far.
        loss: mean training loss since the previous report, nats per character.
        seconds: since the start, including evaluations but not interruptions.
        val: loss on the whole validation split, if it was measured.
    """

    step: int
    loss: float
    seconds: float
    val: float | None = None


@dataclass
class Run:
    """A run, finished or in progress.

    Args:
        model: as trained so far.
        config: its settings.
        provenance: the corpus, the device, the threads and the versions it ran with.
        history: one point per report.
        step: updates made so far.
        seconds: spent on them.
        recent: training losses since the last report, scalars on the device.
        folder: where it is saved, or None.
        saved: the seconds at which it was saved last.
    """

    model: RoFormer
    config: TrainConfig
    provenance: dict[str, Any]
    history: list[Point] = field(default_factory=list)
    step: int = 0
    seconds: float = 0.0
    recent: list[Tensor] = field(default_factory=list)
    folder: Path | None = None
    saved: float = 0.0

    @property
    def val(self) -> float | None:
        """The last loss measured on the validation split."""
        return next((point.val for point in reversed(self.history) if point.val is not None), None)

    def record(self) -> dict[str, Any]:
        """The run without its parameters, in types that JSON has: the content of `run.json` and of a checkpoint."""
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
        """Check the `last` losses. On a GPU this waits until they are computed.

        Raises:
            Stopped: if one of them is not finite.
        """
        losses = [loss.item() for loss in self.recent[-last:]]
        for step, loss in enumerate(losses, self.step - len(losses) + 1):
            if not math.isfinite(loss):
                raise Stopped(f"the loss is {loss} at step {step}; {self._kept()}; {self._cure()}")

    def report(self, val: float | None) -> None:
        """Add a point to the history."""
        self.watch(len(self.recent))
        loss = torch.stack([loss.cpu() for loss in self.recent]).mean().item()
        self.recent = []
        self.history.append(Point(self.step, loss, self.seconds, val))

    def numbers(self, point: Point) -> dict[str, float]:
        """The numbers of a point in the log: losses, and characters per second since the start."""
        read = point.step * self.config.batch * self.model.config.context
        numbers = {"train.loss": point.loss, "rate": read / point.seconds}
        return numbers if point.val is None else numbers | {"val.loss": point.val}

    def line(self) -> str:
        """A line that says how far the run is, with the losses if they were just reported."""
        point = next((p for p in self.history[-1:] if p.step == self.step), None)
        train = "" if point is None else f"train {point.loss:.4f}"
        val = "" if point is None or point.val is None else f"val {point.val:.4f}"
        rate = self.step * self.config.batch * self.model.config.context / self.seconds
        left = self.seconds * (self.config.steps - self.step) / self.step
        place = f"step {self.step:>{len(str(self.config.steps))}}/{self.config.steps}"
        return f"{place}  {train:12}  {val:10}  {rate:,.0f} characters/s  {left:.0f} s left"

    def save(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Write the checkpoint and `run.json` into the folder, if there is one.

        Raises:
            Stopped: if a parameter is not finite or the disk is full; the previous checkpoint is kept.
        """
        self.saved = self.seconds
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
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            cure = "make room" if full else "make the folder one that can be written to"
            again = "the same command again"
            if (self.folder / checkpoint.FILE).is_file():
                again = f"rope-lab train --resume {shlex.quote(str(self.folder))}"
            raise Stopped(
                f"{error.strerror}: {self.folder}; {self._kept()}; {cure}, then: {again}"
            ) from error

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
        """Restore the state of the checkpoint `saved`, a file or its folder.

        Raises:
            ValueError: if there is no checkpoint, or its text or settings are different.
        """
        found = checkpoint.load(saved)
        then = found.run
        if then["corpus"] != self.provenance["corpus"]:
            trained, got = (
                f"{c['name']} ({c['sha256'][:8]}…)" for c in (then["corpus"], self.provenance["corpus"])
            )
            raise ValueError(f"corpus must be {trained}, which the run was trained on, got {got}")
        before = asdict(TrainConfig(**then["config"]))  # an older one lacks some settings
        for name, value in asdict(self.config).items():
            if before[name] != value:
                raise ValueError(f"{name} must be {before[name]!r} as in {str(saved)!r}, got {value!r}")
        checkpoint.restore(found, self.model, optimizers)
        self.history = [Point(**point) for point in then["history"]]
        self.recent = [torch.tensor(loss) for loss in then["recent"]]
        self.step, self.seconds, self.saved = then["step"], then["seconds"], then["seconds"]


def resolved(folder: str | Path) -> Path:
    """The folder without "..", which the system cannot follow through a folder that does not exist yet."""
    return Path(os.path.realpath(folder) if ".." in Path(folder).parts else folder)


@contextmanager
def prepare(
    folder: str | Path | None, resume: bool, launch: str | None = None
) -> Iterator[tuple[Path | None, Path | None]]:
    """The folder of a run, created if necessary and locked for this run, and the checkpoint from which to resume.

    Args:
        folder, resume: as for `train`; to resume, `folder` may also be the checkpoint itself.
        launch: of `torchrun`; a run that was saved under the same launch resumes automatically, since it was restarted.

    Raises:
        ValueError: if a new run would overwrite another, another run is using the folder, there is no run to resume,
            or the folder cannot be created.
        ModuleNotFoundError: if safetensors or labml is not installed.
    """
    if folder is None:
        if resume:
            raise ValueError("folder must be that of the run to resume, got None")
        yield None, None
        return
    folder = resolved(folder)
    folder = folder.parent if resume and folder.is_file() else folder
    if resume and not (folder / checkpoint.FILE).is_file():
        raise ValueError(f"folder must hold a run to resume, got {str(folder)!r}")
    checkpoint.require()
    tracking.require()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"folder must be one that can be made, got {str(folder)!r}: {error.strerror}"
        ) from error
    with _held(folder):
        there = (folder / checkpoint.FILE).is_file()
        if there and launch is not None:
            resume = resume or checkpoint.load(folder).run.get("launch") == launch
        if there and not resume:
            raise ValueError(f"folder must hold no run yet: resume it or choose another, got {str(folder)!r}")
        yield folder, folder / checkpoint.FILE if resume else None


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock the folder against other runs, here or in another process; the system releases the lock after a kill.

    Windows and some network file systems have no such lock. There nothing is locked.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"folder must be in use by no other run: wait for that or choose another, got {str(folder)!r}"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def provenance(corpus: Corpus, device: torch.device) -> dict[str, Any]:
    """Where a run's numbers come from, apart from its settings."""
    versions = {"rope_lab": rope_lab.__version__, "torch": torch.__version__, "numpy": numpy.__version__}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "corpus": {"name": corpus.name, "sha256": corpus.sha256},
        "vocab": corpus.vocab,
        "device": device.type,
        "machine": f"{platform.system()} {platform.machine()} {name}".strip(),
        "threads": torch.get_num_threads(),
        "versions": versions | {"python": platform.python_version()},
    }


def processor() -> str:
    """The model of the processor and how many cores of it there are, as far as the system says it."""
    with suppress(OSError):  # Linux; elsewhere there is no such file
        found = re.search(r"(?m)^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8", "replace"))
        if found:
            return f"{' '.join(found[1].split())}, {os.cpu_count()} cores"
    return platform.processor()


def choose_device(name: str | None = None) -> torch.device:
    """The device called `name`; by default the first that is available of cuda, mps and cpu.

    Raises:
        ValueError: if it is not one of these, or this machine lacks it.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [device for device, there in present.items() if there]
    if name is not None and name not in here:
        raise ValueError(f"device must be one of {', '.join(here)} on this machine, got {name!r}")
    return torch.device(name or here[0])


@contextmanager
def interruptible(terminated: bool = True) -> Iterator[list[int]]:
    """Inside the block the first Ctrl-C only fills the list, so that an update is completed; the second stops at once.

    Outside the main thread, where Python does not deliver signals, it does nothing.

    Args:
        terminated: treat SIGTERM (`docker stop`, a batch system) and SIGHUP (a closed terminal) in the same way,
            unless they are already handled or ignored.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    ends = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")] if terminated else []
    ours = [end for end in ends if end is not None and signal.getsignal(end) == signal.SIG_DFL]
    before = {number: signal.signal(number, ask) for number in [signal.SIGINT, *ours]}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
