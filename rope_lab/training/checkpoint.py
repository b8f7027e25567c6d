"""A training run in one safetensors file: all that it needs to resume bit for bit, without pickle.

The file is written under a temporary name, flushed to disk and then renamed. So at any moment, even after a kill or a
power cut, there is a complete checkpoint: the new one or the one before it.

The file contains `model.NAME`, the parameters; `optimizer.NAME.KEY`, what the optimisers remember about a parameter;
`random.DEVICE`, the states of torch's generators; as JSON under `run`, everything else; and under `sha256` a digest
of the tensors, which reveals a byte that was flipped on the disk.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from rope_lab.config import RoFormerConfig
from rope_lab.model import RoFormer, write_tensors
from rope_lab.training.presets import TrainConfig

FILE = "checkpoint.safetensors"
_RUN: dict[str, type] = {
    "config": dict,
    "model": dict,
    "vocab": str,
    "corpus": dict,
    "step": int,
    "seconds": float,
}
_RUN |= {"history": list, "recent": list, "random": dict}


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file: `tensors` by name, `run` with everything else, and the `path` it came from."""

    tensors: dict[str, Tensor]
    run: dict[str, Any]
    path: Path

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name starts with `prefix`, without it."""
        return {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}

    def model(self) -> RoFormer:
        """The model, on the CPU.

        Raises:
            ValueError: if the tensors do not fit the model that the run describes.
        """
        model = RoFormer(RoFormerConfig(**self.run["model"]))
        model.load_parameters(self.part("model."), str(self.path))
        return model


def random_states() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The states of every generator: torch's as tensors by device, Python's and NumPy's as plain lists."""
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        tensors["mps"] = torch.mps.get_rng_state()
    # the old global generator is the one whose state matters
    name, keys, *rest = cast(tuple[Any, ...], np.random.get_state())  # noqa: NPY002
    return tensors, {"python": random.getstate(), "numpy": [name, keys.tolist(), *rest]}


def set_random_states(tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Undo what happened to the generators since `random_states`; a device that this machine lacks is skipped."""
    torch.set_rng_state(tensors["cpu"])
    for i in range(torch.cuda.device_count()):
        if f"cuda:{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda:{i}"], i)
    if "mps" in tensors and torch.backends.mps.is_available():
        torch.mps.set_rng_state(tensors["mps"])
    version, keys, gauss = plain["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(plain["numpy"]))  # noqa: NPY002


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block every generator starts from `seed`; after it they continue as if nothing had happened."""
    before = random_states()
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        yield
    finally:
        set_random_states(*before)


def save(
    path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], run: dict[str, Any]
) -> None:
    """Write a checkpoint to `path`, whole or not at all.

    Args:
        path: where to write it; an earlier checkpoint there is replaced at the last moment.
        model, optimizers: their state.
        run: anything JSON can hold; "model" must be the fields of the model's config.

    Raises:
        OSError: if the file cannot be written; an earlier one is kept.
    """
    require()
    generators, plain = random_states()
    tensors = {f"random.{device}": state for device, state in generators.items()}
    for name, p in model.named_parameters():
        tensors[f"model.{name}"] = p.detach()
        for optimizer in optimizers:
            for key, value in optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
    tensors = {name: t.contiguous() for name, t in tensors.items()}
    texts = {"run": json.dumps(run), "random": json.dumps(plain), "sha256": digest(tensors)}
    with whole(path) as beside:
        write_tensors(tensors, beside, texts)


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of tensors, hexadecimal."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which replaces `path` at the end and is removed if that fails."""
    beside = path.with_name(f".{path.name}.unfinished")
    try:
        yield beside
        _to_disk(beside)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    _to_disk(path.parent)  # the rename itself


def load(place: str | Path) -> Checkpoint:
    """The checkpoint at `place`, a run's folder or the file itself.

    Raises:
        ValueError: in one line, if there is no checkpoint, or it is cut short, or it is not one of this package.
    """
    safetensors = require()
    path = Path(place)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"run must be a folder that holds {FILE}, or such a file, got {str(place)!r}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        run = _run(metadata)
        _require(tensors, {"random.cpu": Tensor})
        if metadata.get("sha256") != digest(tensors):
            raise ValueError("its tensors are not those that were written")
        for name, tensor in tensors.items():
            if name.startswith("model.") and not tensor.isfinite().all():
                raise ValueError(f"{name} is not finite")
    except (safetensors.SafetensorError, OSError, TypeError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"run must be a whole checkpoint of rope_lab, got {str(path)!r}: {error}") from error
    return Checkpoint(tensors, run, path)


def _run(metadata: dict[str, str]) -> dict[str, Any]:
    """What the metadata says about the run; raises TypeError or ValueError if a part needed to resume is missing."""
    run, plain = (json.loads(metadata.get(name, "null")) for name in ("run", "random"))
    if not isinstance(run, dict):
        raise ValueError("it has no run in it")
    run["random"] = plain
    _require(run, _RUN)
    _require(run["corpus"], {"name": str, "sha256": str})
    _require(plain, {"python": list, "numpy": list})
    steps, size = TrainConfig(**run["config"]).steps, RoFormerConfig(**run["model"]).vocab_size
    points = [point["step"] for point in run["history"] if set(point) == {"step", "loss", "seconds", "val"}]
    for sound, what in (
        (0 <= run["step"] <= steps, f"its step is {run['step']} of {steps}"),
        (0 <= run["seconds"] < math.inf, f"its seconds are {run['seconds']}"),
        (run["vocab"] == "".join(sorted(set(run["vocab"]))), "its vocab is not sorted"),
        (len(run["vocab"]) == size, f"its vocab has {len(run['vocab'])} characters for a model of {size}"),
        (len(points) == len(run["history"]), "a point of its history has other fields"),
        (points == sorted(set(points)), f"its history has the steps {points}"),
        (all(math.isfinite(loss) for loss in run["recent"]), "a recent loss is not finite"),
    ):
        if not sound:
            raise ValueError(what)
    return run


def _require(record: dict[str, Any], kinds: dict[str, type]) -> None:
    for name, kind in kinds.items():
        if not isinstance(record.get(name), kind):
            raise ValueError(f"it has no {name} of type {kind.__name__}")


def restore(checkpoint: Checkpoint, model: RoFormer, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Put parameters, optimisers and every random state back as they were.

    Raises:
        ValueError: if the tensors do not fit the model or its optimisers.
    """
    model.load_parameters(checkpoint.part("model."), str(checkpoint.path))
    for name, p in model.named_parameters():
        for optimizer in optimizers:
            if any(p is q for group in optimizer.param_groups for q in group["params"]):
                state = checkpoint.part(f"optimizer.{name}.")
                for key, value in state.items():
                    if value.ndim and value.shape != p.shape:
                        must = f"optimizer.{name}.{key} must have shape {tuple(p.shape)}"
                        raise ValueError(f"{must}, got {tuple(value.shape)} in {str(checkpoint.path)!r}")
                # AdamW counts its steps on the CPU; what has the shape of the parameter is on its device
                optimizer.state[p] = {
                    key: value.to(p.device) if value.shape == p.shape else value
                    for key, value in state.items()
                }
    try:
        set_random_states(checkpoint.part("random."), checkpoint.run["random"])
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        message = f"random states must be those of the generators, got others in {str(checkpoint.path)!r}"
        raise ValueError(message) from error


def _to_disk(path: Path) -> None:
    """Wait until the file, or the names in the folder, are on the disk; a folder only where the system can."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require() -> Any:
    """The library safetensors; raises ModuleNotFoundError, in one line, without it."""
    try:
        import safetensors
        import safetensors.torch
    except ModuleNotFoundError as error:
        message = 'safetensors is not installed: pip install "rope-lab[train]"'
        raise ModuleNotFoundError(message, name="safetensors") from error
    return safetensors
