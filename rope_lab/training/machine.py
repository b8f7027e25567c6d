"""What a run needs from the machine (memory, a compiler, bfloat16), and what it reports if something is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from rope_lab.training.checkpoint import seeded
from rope_lab.training.presets import TrainConfig
from rope_lab.training.record import Stopped


def bfloat16_is_native(device: torch.device) -> bool:
    """Whether the hardware computes products in bfloat16: on GPUs that support it.

    On a CPU products are computed in float32 even if bfloat16 is supported, so that a run is the same on similar
    machines.
    """
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def compiled(model: nn.Module, inputs: Tensor, say: Callable[[str], None]) -> nn.Module:
    """The model through `torch.compile`, or unchanged if that fails, for example for lack of a C++ compiler.

    On a CPU dropout draws as in uncompiled code, because the compiler's own generator costs more there than fusing
    saves.

    Args:
        model: its parameters and gradients are left unchanged, and so are the generators.
        inputs: of the shape it will be called with; forward and backward are compiled for it here.
        say: is called with one line if it fails.
    """
    try:
        fast: nn.Module = torch.compile(  # type: ignore[assignment]
            model, options={"fallback_random": inputs.device.type == "cpu"}
        )
        with seeded(0):
            fast(inputs).float().sum().backward()
    except Exception as error:  # whatever the compiler or its tools raise
        reason = " ".join(str(error).split("\n")[:2])  # of the backend, and of what it uses
        say(f"torch.compile failed; continuing without it: {type(error).__name__}: {reason}")
        fast = model
    model.zero_grad()
    return fast


def memory(device: torch.device) -> int | None:
    """Bytes of memory on the device, free or not; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
    try:
        return min(there, int(Path("/sys/fs/cgroup/memory.max").read_text()))  # a container's share
    except (OSError, ValueError):  # no container, or no limit: "max"
        return there


def least_memory(config: TrainConfig, vocab_size: int, workers: int, device: torch.device) -> int:
    """A lower bound on the bytes that a worker needs.

    It counts matrices and tables, their gradients, what the optimisers remember, and the widest tensors that a block
    keeps for its backward pass.
    """
    model = config.architecture(vocab_size)
    wide = (
        2 if model.activation == "swiglu" else 1
    )  # what is as wide as the feed-forward layer: up, and the gate
    rows = vocab_size + (model.context if model.position == "learned" else 0)
    parameters = rows + model.depth * (2 * model.dim + (wide + 1) * model.ff_width)  # query and out; down
    kept = model.depth * wide * model.ff_width + vocab_size
    tokens = config.batch // config.accumulate // workers * model.context
    number = 2 if config.bfloat16 and bfloat16_is_native(device) else 4
    return 12 * model.dim * parameters + number * tokens * kept


def require_memory(config: TrainConfig, vocab_size: int, workers: int, device: torch.device) -> None:
    """Raise an error if the least memory that a run needs is more than there is.

    A system that promises memory it does not have would kill the run later, without a message.

    Raises:
        ValueError: saying how much is needed and what to lower.
    """
    there = memory(device)
    least = least_memory(config, vocab_size, workers, device)
    if there is not None and least > there:
        raise ValueError(
            f"the run needs at least {least / 2**30:,.0f} GiB of memory, but the device has {there / 2**30:,.0f} GiB: "
            f"{lower(config)}"
        )


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """If memory runs out inside the block, raise an error with `advice` on what to lower.

    Raises:
        Stopped: instead of the error that torch raises, which depends on the device.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        known = ("out of memory", "can't allocate memory", "not enough memory", "Invalid buffer size")
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in known):
            raise Stopped(f"out of memory: {advice}") from error
        raise


def lower(config: TrainConfig) -> str:
    """Which settings to change so that a run needs less memory."""
    shape = config.architecture(1)
    return (
        f"lower --batch (now {config.batch}) or raise --accumulate (now {config.accumulate}), lower --context "
        f"({shape.context}), --dim ({shape.dim}) or --depth ({shape.depth}), or take a smaller --preset"
    )
