"""What is measured: rotations, local attention in time and memory, and imports, each beside its floor."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from rope_lab.bench import counts
from rope_lab.bench.candidates import forward_and_backward, local_inputs, local_ways, rotations
from rope_lab.bench.models import bench_models
from rope_lab.bench.roofline import measure_machine
from rope_lab.bench.timing import Call, alternate, interleave, peak_memory, repeats
from rope_lab.local import local_attention


def bench_rotation(
    shape: tuple[int, ...] = (4, 16, 4096, 64),
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    rounds: int = 15,
    compiled: bool = True,
) -> dict[str, Any]:
    """Time of the forward and backward pass of rotating one tensor, `clone()` = 1.

    The floor is the time in which memory that is there already takes the same bytes; a clone takes longer, because the
    system has to provide its result with memory first, as it does for any other result.
    """
    x = torch.randn(shape, dtype=dtype, device=device)
    ways, missing = rotations(x, compiled=compiled)
    with torch.no_grad():
        calls = {name: partial(way, *inputs) for name, (way, inputs) in ways.items()}
        calls["copy"] = partial(torch.empty_like(x).copy_, x)
        forward = interleave(calls, rounds, repeats(device))
    floor = forward.pop("copy")

    graphs: dict[str, Call] = {"clone": x.clone}
    for name, (way, inputs) in ways.items():
        if name != "clone":
            leaves = [part.detach().requires_grad_() for part in inputs]
            out = way(*leaves)
            outs = out if isinstance(out, tuple) else (out,)
            seeds = tuple(torch.randn_like(o) for o in outs)
            graphs[name] = partial(torch.autograd.grad, outs, leaves, seeds, retain_graph=True)
    backward = interleave(graphs, rounds, repeats(device))
    return {
        "shape": list(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "clone_seconds": forward["clone"],
        "clone_bytes_per_second": 2 * x.nbytes / forward["clone"],
        "floor_in_clones": floor / forward["clone"],
        "forward_in_clones": {name: seconds / forward["clone"] for name, seconds in forward.items()},
        "backward_in_clones": {name: seconds / backward["clone"] for name, seconds in backward.items()},
        "missing": missing,
    }


def bench_local(
    length: int = 8192, window: int = 256, *, exact: bool = True, device: str = "cpu", rounds: int = 5
) -> dict[str, Any]:
    """Causal local attention of (1, 8, length, 64), in units of the time of rope_lab; see `local_ways`.

    `arithmetic` is how many times as many scores full attention has, which is as many times as much arithmetic.
    """
    qkv = local_inputs(length, device=device)
    ways, missing = local_ways(window, exact=exact, device=device)
    with torch.no_grad():
        calls = {name: partial(way, *qkv) for name, way in ways.items()}
        forward = interleave(calls, rounds, repeats(device))
    calls = {name: partial(forward_and_backward, way, qkv) for name, way in ways.items()}
    training = interleave(calls, rounds, repeats(device))
    seen = counts.scores(length, window, exact=exact, inclusive=exact)
    return {
        "shape": [1, 8, length, 64],
        "window": window,
        "windows": "inclusive" if exact else "block",
        "seconds": forward["rope_lab"],
        "training_seconds": training["rope_lab"],
        "arithmetic": counts.scores(length) / seen,
        "flops": counts.attention(8, length, 64, seen, 4).flops,
        "training_flops": counts.attention(8, length, 64, seen, 4, backward=True).flops,
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
    `floor` is what the results alone take: the output, and the three gradients.
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
    tensor = 8 * length * 64 * 4
    result["floor"] = {"forward": tensor, "forward_and_backward": 4 * tensor}
    idle = measured("")
    for kind, code in kinds.items():
        result[kind] = {name: measured(code.format(name)) - idle for name in ways} if idle else None
    return result


def bench_length(
    lengths: tuple[int, ...] = (8192, 16384, 32768, 65536), *, device: str = "cpu", rounds: int = 3
) -> dict[str, Any]:
    """Time per token of local attention as the sequence grows, in units of the shortest."""
    inputs = {n: [torch.randn(1, 8, n, 64, device=device) for _ in range(3)] for n in lengths}
    with torch.no_grad():
        calls = {str(n): partial(local_attention, *qkv, window=256) for n, qkv in inputs.items()}
        taken = interleave(calls, rounds, repeats(device))
    unit = taken[str(lengths[0])] / lengths[0]
    return {"lengths": list(lengths), "time_a_token": [taken[str(n)] / n / unit for n in lengths]}


IMPORTS = {
    "nothing": "",
    "torch": "import torch",
    "rope_lab": "import torch, rope_lab",
    "RotaryEmbedding": "import torch; from rope_lab import RotaryEmbedding",
}


def bench_import(rounds: int = 9, codes: Mapping[str, str] = IMPORTS) -> dict[str, float]:
    """Seconds that an import takes in fresh processes.

    Returns:
        `torch`, the median over an empty process; `rope_lab` and `RotaryEmbedding`, the median of what each round took
        over `import torch` in the same round; and `spread`, half the distance between the quartiles of those
        differences for `rope_lab`, below which nothing can be told apart.
    """

    def start(code: str) -> Call:
        return partial(subprocess.run, [sys.executable, "-c", code], check=True)

    taken = alternate({name: start(code) for name, code in codes.items()}, rounds)
    over = {
        name: [a - b for a, b in zip(taken[name], taken["torch"], strict=True)]
        for name in ("rope_lab", "RotaryEmbedding")
    }
    low, _, high = statistics.quantiles(over["rope_lab"], n=4) if rounds > 1 else (0.0, 0.0, 0.0)
    return {
        "torch": statistics.median(taken["torch"]) - statistics.median(taken["nothing"]),
        **{name: statistics.median(seconds) for name, seconds in over.items()},
        "spread": (high - low) / 2,
    }


def run(*, device: str = "cpu", quick: bool = False) -> dict[str, Any]:
    """All benchmarks, and where they ran; `quick` uses small tensors, to check that everything works."""
    batch = 16 if device == "cuda" else 4  # so that the tensor is larger than the caches
    shape, length, rounds = ((1, 2, 64, 32), 512, 2) if quick else ((batch, 16, 4096, 64), 8192, 15)
    lengths = (512, 1024) if quick else (8192, 16384, 32768, 65536)
    window, rounds_of_local = (64, 2) if quick else (256, 7)
    small: dict[str, Any] = {"rounds": 2, "megabytes": 1, "width": 64} if quick else {}
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
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
        "machine": measure_machine(device=device, **small).as_dict(),
        "rotation": [
            bench_rotation(shape, dtype=dtype, device=device, rounds=rounds, compiled=not quick)
            for dtype in (torch.float32, torch.bfloat16)
        ],
        "local": [
            bench_local(n, window, exact=exact, device=device, rounds=rounds_of_local if n > 512 else rounds)
            for n, exact in ((length, True), (length, False), (2 * window, True))
        ],
        "memory": bench_memory(length, window, device=device, rounds=1 if quick or device == "cuda" else 3),
        "length": bench_length(lengths, device=device, rounds=2 if quick else 3),
        "models": bench_models(device=device, quick=quick),
        "import_seconds": bench_import(1 if quick else 9),
    }


def _processor() -> str:
    """The name of the processor, or "" where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
