"""Timing and memory: candidates alternate in one process, and peak memory is measured in a fresh process for each."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from typing import Any

import torch

from rope_lab.bench.candidates import Call, forward_and_backward, local_inputs, local_ways, rotations
from rope_lab.local import local_attention


def interleave(calls: Mapping[str, Call], rounds: int, repeats: int = 1) -> dict[str, float]:
    """Median seconds of each call; they alternate for `rounds` rounds after one to warm up.

    Args:
        calls: by name.
        rounds: number of times that each is measured.
        repeats: calls per measurement, one after the other. On a GPU several of them hide the time that Python takes
            to start a kernel, which may be longer than the kernel itself.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            _synchronize()
            began = time.perf_counter()
            for _ in range(repeats):
                call()
            _synchronize()
            times[name].append((time.perf_counter() - began) / repeats)
    return {name: statistics.median(taken) for name, taken in times.items()}


def bench_rotation(
    shape: tuple[int, ...] = (4, 16, 4096, 64),
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    rounds: int = 15,
    compiled: bool = True,
) -> dict[str, Any]:
    """Time of the forward and backward pass of rotating one tensor, `clone()` = 1."""
    x = torch.randn(shape, dtype=dtype, device=device)
    ways, missing = rotations(x, compiled=compiled)
    with torch.no_grad():
        calls = {name: partial(way, *inputs) for name, (way, inputs) in ways.items()}
        forward = interleave(calls, rounds, _repeats(device))

    graphs: dict[str, Call] = {"clone": x.clone}
    for name, (way, inputs) in ways.items():
        if name != "clone":
            leaves = [part.detach().requires_grad_() for part in inputs]
            out = way(*leaves)
            outs = out if isinstance(out, tuple) else (out,)
            seeds = tuple(torch.randn_like(o) for o in outs)
            graphs[name] = partial(torch.autograd.grad, outs, leaves, seeds, retain_graph=True)
    backward = interleave(graphs, rounds, _repeats(device))
    return {
        "shape": list(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "clone_seconds": forward["clone"],
        "clone_bytes_per_second": 2 * x.nbytes / forward["clone"],
        "forward_in_clones": {name: seconds / forward["clone"] for name, seconds in forward.items()},
        "backward_in_clones": {name: seconds / backward["clone"] for name, seconds in backward.items()},
        "missing": missing,
    }


def bench_local(
    length: int = 8192, window: int = 256, *, exact: bool = True, device: str = "cpu", rounds: int = 5
) -> dict[str, Any]:
    """Causal local attention of (1, 8, length, 64), in units of the time of rope_lab; see `local_ways`."""
    qkv = local_inputs(length, device=device)
    ways, missing = local_ways(window, exact=exact, device=device)
    with torch.no_grad():
        calls = {name: partial(way, *qkv) for name, way in ways.items()}
        forward = interleave(calls, rounds, _repeats(device))
    calls = {name: partial(forward_and_backward, way, qkv) for name, way in ways.items()}
    training = interleave(calls, rounds, _repeats(device))
    return {
        "shape": [1, 8, length, 64],
        "window": window,
        "windows": "inclusive" if exact else "block",
        "seconds": forward["rope_lab"],
        "training_seconds": training["rope_lab"],
        "forward": {name: seconds / forward["rope_lab"] for name, seconds in forward.items()},
        "forward_and_backward": {name: seconds / training["rope_lab"] for name, seconds in training.items()},
        "missing": missing,
    }


def bench_memory(
    length: int = 8192, window: int = 256, *, device: str = "cpu", rounds: int = 3
) -> dict[str, Any]:
    """Peak memory of causal local attention of (1, 8, length, 64) with inclusive windows, in bytes.

    Medians over fresh processes, minus the peak of one that only imports and makes the inputs. On a GPU a first call,
    which may compile, does not count. `forward` and `forward_and_backward` are None if the system does not report it.
    """
    ways, missing = local_ways(window, exact=True, device=device)
    setup = (
        "import torch; from rope_lab import bench\n"
        f"inputs = bench.local_inputs({length}, device={device!r})\n"
        f"ways, _ = bench.local_ways({window}, exact=True, device={device!r})\n"
    )
    kinds = {
        "forward": "with torch.no_grad(): ways[{!r}](*inputs)",
        "forward_and_backward": "bench.forward_and_backward(ways[{!r}], inputs)",
    }

    def measured(code: str) -> float:
        if device == "cuda":
            code = f"{code}\ntorch.cuda.reset_peak_memory_stats()\n{code}"
        return statistics.median(peak_memory(setup + code, device=device) for _ in range(rounds))

    result: dict[str, Any] = {"shape": [1, 8, length, 64], "window": window, "missing": missing}
    idle = measured("")
    for kind, code in kinds.items():
        result[kind] = {name: measured(code.format(name)) - idle for name in ways} if idle else None
    return result


_PEAK = """
def peak():
    try:  # not ru_maxrss on Linux, where a process starts with the peak of its parent
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource, sys
    except ImportError:
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
"""


def peak_memory(code: str, *, device: str = "cpu") -> int:
    """Peak memory in bytes of a fresh process that runs `code`, on a GPU that of its tensors; 0 if unknown."""
    on_gpu = "import torch; print(torch.cuda.max_memory_allocated())"
    peak = on_gpu if device == "cuda" else _PEAK + "print(peak())"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\n{peak}"], check=True, capture_output=True, text=True
    )
    return int(run.stdout.split()[-1])


def bench_length(
    lengths: tuple[int, ...] = (8192, 16384, 32768, 65536), *, device: str = "cpu", rounds: int = 3
) -> dict[str, Any]:
    """Time per token of local attention as the sequence grows, in units of the shortest."""
    inputs = {n: [torch.randn(1, 8, n, 64, device=device) for _ in range(3)] for n in lengths}
    with torch.no_grad():
        calls = {str(n): partial(local_attention, *qkv, window=256) for n, qkv in inputs.items()}
        taken = interleave(calls, rounds, _repeats(device))
    unit = taken[str(lengths[0])] / lengths[0]
    return {"lengths": list(lengths), "time_a_token": [taken[str(n)] / n / unit for n in lengths]}


def bench_import(rounds: int = 5) -> dict[str, float]:
    """Seconds that `import torch` and importing an encoding take in fresh processes, minus those of an empty one."""

    def start(code: str) -> Call:
        return partial(subprocess.run, [sys.executable, "-c", code], check=True)

    codes = {"nothing": "", "torch": "import torch", "rope_lab": "from rope_lab import RotaryEmbedding"}
    taken = interleave({name: start(code) for name, code in codes.items()}, rounds)
    return {name: taken[name] - taken["nothing"] for name in ("torch", "rope_lab")}


def run(*, device: str = "cpu", quick: bool = False) -> dict[str, Any]:
    """All benchmarks, and where they ran; `quick` uses small tensors, to check that everything works."""
    batch = 16 if device == "cuda" else 4  # so that the tensor is larger than the caches
    shape, length, rounds = ((1, 2, 64, 32), 512, 2) if quick else ((batch, 16, 4096, 64), 8192, 15)
    lengths = (512, 1024) if quick else (8192, 16384, 32768, 65536)
    packages = (
        "torch",
        "rotary-embedding-torch",
        "local-attention",
        "transformers",
        "labml-nn",
        "liger-kernel",
    )
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
        "rotation": [
            bench_rotation(shape, dtype=dtype, device=device, rounds=rounds, compiled=not quick)
            for dtype in (torch.float32, torch.bfloat16)
        ],
        "local": [
            bench_local(
                length, 256 if not quick else 64, exact=exact, device=device, rounds=2 if quick else 7
            )
            for exact in (True, False)
        ],
        "memory": bench_memory(
            length, 256 if not quick else 64, device=device, rounds=1 if quick or device == "cuda" else 3
        ),
        "length": bench_length(lengths, device=device, rounds=2 if quick else 3),
        "import_seconds": bench_import(1 if quick else 7),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _synchronize() -> None:
    if torch.accelerator.is_available():  # a GPU of any maker
        torch.accelerator.synchronize()


def _repeats(device: str) -> int:
    return 10 if device == "cuda" else 1
