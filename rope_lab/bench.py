"""Speed and memory compared with other libraries: all run alternately in one process, and the results are ratios.

Rotating a tensor is limited by memory: it has to read and write the tensor at least once, which is what a `clone()`
does, so that is the unit. Every candidate runs once to warm up; then they alternate, and the median over all rounds
is reported. Peak memory is measured in a fresh process for each. A library that is not installed is left out and
named.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.encodings import RotaryEmbedding, angles, frequencies, rotate
from rope_lab.local import local_attention

Call = Callable[..., Any]


def interleave(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """Median seconds of each call; they alternate for `rounds` rounds after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            _synchronize()
            began = time.perf_counter()
            call()
            _synchronize()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in times.items()}


def rotations(x: Tensor, *, compiled: bool) -> tuple[dict[str, tuple[Call, tuple[Tensor, ...]]], list[str]]:
    """Ways to rotate x (B, H, N, D) by its positions, with their arguments, and the libraries that are missing.

    Those that take queries and keys get half the heads each; labml_nn gets the tokens first.
    """
    dim, length = x.shape[-1], x.shape[-2]
    table = angles(torch.arange(length, device=x.device), frequencies(dim, device=x.device))
    whole, halves = (x,), x.chunk(2, dim=1)
    ways: dict[str, tuple[Call, tuple[Tensor, ...]]] = {"clone": (torch.clone, whole)}
    for layout in ("interleaved", "half"):
        ways[f"rope_lab {layout}"] = partial(rotate, angles=table, layout=layout), whole
        ways[f"rope_lab {layout}, table computed too"] = RotaryEmbedding(dim, layout=layout), halves
    if compiled:
        for name, (way, inputs) in list(ways.items())[1:]:
            ways[f"{name}, compiled"] = torch.compile(way, dynamic=False), inputs
    missing = []
    try:
        from rotary_embedding_torch import RotaryEmbedding as Theirs

        theirs = Theirs(dim).to(x.device)
        ways["rotary-embedding-torch"] = theirs.rotate_queries_or_keys, whole
    except ImportError:
        missing.append("rotary-embedding-torch")
    try:
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        emb = torch.cat((table, table), dim=-1)[None]
        cos, sin = emb.cos().to(x.dtype), emb.sin().to(x.dtype)
        ways["transformers (Llama)"] = partial(apply_rotary_pos_emb, cos=cos, sin=sin), halves
    except ImportError:
        missing.append("transformers")
    try:
        from labml_nn.transformers.rope import RotaryPositionalEmbeddings

        ways["labml_nn"] = RotaryPositionalEmbeddings(dim).to(x.device), (x.permute(2, 0, 1, 3).contiguous(),)
    except ImportError:
        missing.append("labml_nn")
    return ways, missing


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
        forward = interleave({name: partial(way, *inputs) for name, (way, inputs) in ways.items()}, rounds)

    graphs: dict[str, Call] = {"clone": x.clone}
    for name, (way, inputs) in ways.items():
        if name != "clone":
            leaves = [part.detach().requires_grad_() for part in inputs]
            out = way(*leaves)
            outs = out if isinstance(out, tuple) else (out,)
            seeds = tuple(torch.randn_like(o) for o in outs)
            graphs[name] = partial(torch.autograd.grad, outs, leaves, seeds, retain_graph=True)
    backward = interleave(graphs, rounds)
    return {
        "shape": list(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "clone_seconds": forward["clone"],
        "clone_bytes_per_second": 2 * x.nbytes / forward["clone"],
        "forward_in_clones": {name: seconds / forward["clone"] for name, seconds in forward.items()},
        "backward_in_clones": {name: seconds / backward["clone"] for name, seconds in backward.items()},
        "missing": missing,
    }


def local_ways(window: int, *, exact: bool, device: str) -> tuple[dict[str, Call], list[str]]:
    """Ways to compute causal local attention of q, k and v (B, H, N, D), and the libraries that are missing.

    All see the same keys: with `exact` the window and one key more, as local-attention counts, otherwise whole blocks.
    """
    ways: dict[str, Call] = {
        "rope_lab": partial(local_attention, window=window, exact=exact, inclusive=exact)
    }
    missing = []
    try:
        from local_attention import LocalAttention

        theirs = LocalAttention(window, causal=True, use_rotary_pos_emb=False, exact_windowsize=exact)
        ways["local-attention"] = theirs.to(device)
    except ImportError:
        missing.append("local-attention")
    ways["full causal attention"] = partial(F.scaled_dot_product_attention, is_causal=True)
    return ways, missing


def local_inputs(length: int, *, device: str) -> list[Tensor]:
    """q, k and v of shape (1, 8, length, 64), which require gradients."""
    return [torch.randn(1, 8, length, 64, device=device, requires_grad=True) for _ in range(3)]


def forward_and_backward(way: Call, inputs: list[Tensor]) -> None:
    torch.autograd.grad(way(*inputs).sum(), inputs)


def bench_local(
    length: int = 8192, window: int = 256, *, exact: bool = True, device: str = "cpu", rounds: int = 5
) -> dict[str, Any]:
    """Causal local attention of (1, 8, length, 64), in units of the time of rope_lab; see `local_ways`."""
    qkv = local_inputs(length, device=device)
    ways, missing = local_ways(window, exact=exact, device=device)
    with torch.no_grad():
        forward = interleave({name: partial(way, *qkv) for name, way in ways.items()}, rounds)
    training = interleave(
        {name: partial(forward_and_backward, way, qkv) for name, way in ways.items()}, rounds
    )
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

    Medians over fresh processes, minus the peak of one that only imports and makes the inputs. `forward` and
    `forward_and_backward` are None on a system that does not report it.
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
        taken = interleave(
            {str(n): partial(local_attention, *qkv, window=256) for n, qkv in inputs.items()}, rounds
        )
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
    shape, length, rounds = ((1, 2, 64, 32), 512, 2) if quick else ((4, 16, 4096, 64), 8192, 15)
    lengths = (512, 1024) if quick else (8192, 16384, 32768, 65536)
    packages = ("torch", "rotary-embedding-torch", "local-attention", "transformers", "labml-nn")
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
        "memory": bench_memory(length, 256 if not quick else 64, device=device, rounds=1 if quick else 3),
        "length": bench_length(lengths, device=device, rounds=2 if quick else 3),
        "import_seconds": bench_import(1 if quick else 7),
    }


def table(results: dict[str, Any]) -> str:
    """The results as text."""
    lines = [f"{results['device']}, {results['threads']} threads, torch {results['versions']['torch']}"]
    for part in results["rotation"]:
        lines += ["", f"rotating {tuple(part['shape'])} {part['dtype']}, clone() = 1   forward  backward"]
        for name, clones in part["forward_in_clones"].items():
            back = part["backward_in_clones"][name]
            lines.append(f"  {name:46s}{clones:8.2f}" + ("" if name == "clone" else f"{back:10.2f}"))
    for part in results["local"]:
        head = f"local attention {tuple(part['shape'])}, {part['windows']} windows of {part['window']}, rope_lab = 1"
        lines += ["", f"{head}   forward  training"]
        for name, ratio in part["forward"].items():
            lines.append(f"  {name:46s}{ratio:8.2f}{part['forward_and_backward'][name]:10.2f}")
    part = results["memory"]
    head = (
        f"peak memory of local attention {tuple(part['shape'])}, inclusive windows of {part['window']}, in MB"
    )
    lines += ["", f"{head}   forward  training"]
    if part["forward"] is None:
        lines.append("  left out: this system does not report the peak memory of a process")
    for name, used in (part["forward"] or {}).items():
        lines.append(f"  {name:46s}{used / 1e6:8.0f}{part['forward_and_backward'][name] / 1e6:10.0f}")
    part = results["length"]
    lines += ["", "local attention, time per token, the shortest = 1"]
    lines += [
        f"  {n:7,d} tokens {r:38.2f}" for n, r in zip(part["lengths"], part["time_a_token"], strict=True)
    ]
    part = results["import_seconds"]
    extra = part["rope_lab"] - part["torch"]
    lines += ["", f"importing an encoding: {extra:+.2f} s over import torch, {part['torch']:.2f} s"]
    missing = {name for part in (*results["rotation"], *results["local"]) for name in part["missing"]}
    if missing:
        lines += ["", f'not installed: {", ".join(sorted(missing))} (pip install "rope-lab[peers]")']
    return "\n".join(lines)


def summary(results: dict[str, Any]) -> str:
    """The ratios as Markdown tables for the README, and where they were measured."""
    lines = []
    for part in results["rotation"]:
        shape = ", ".join(map(str, part["shape"]))
        lines += [
            f"| time to rotate a ({shape}) {part['dtype']} tensor, `clone()` = 1 | forward | backward |",
            "|---|---|---|",
        ]
        lines += [
            f"| {name} | {part['forward_in_clones'][name]:.2f} | {part['backward_in_clones'][name]:.2f} |"
            for name in part["forward_in_clones"]
            if name != "clone" and "table" not in name
        ]
        lines.append("")
    for part in results["local"]:
        shape = ", ".join(map(str, part["shape"]))
        head = f"local attention ({shape}), {part['windows']} windows of {part['window']}, time, rope_lab = 1"
        lines += [f"| {head} | forward | with backward |", "|---|---|---|"]
        lines += [
            f"| {name} | {part['forward'][name]:.2f} | {part['forward_and_backward'][name]:.2f} |"
            for name in part["forward"]
            if name != "rope_lab"
        ]
        lines.append("")
    if results["memory"]["forward"]:
        ways = [results["memory"][key] for key in ("forward", "forward_and_backward")]
        lines += [
            "| peak memory, inclusive windows, rope_lab = 1 | forward | with backward |",
            "|---|---|---|",
        ]
        for name in ways[0]:
            if name != "rope_lab":
                ratios = (used[name] / used["rope_lab"] for used in ways)
                lines.append(f"| {name} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    ends, most = results["length"]["lengths"], max(results["length"]["time_a_token"])
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines += [
        "",
        f"Between {ends[0]:,} and {ends[-1]:,} tokens, local attention never took more than {most:.2f} times as long "
        "per token as at the shortest length.",
        f"Measured on {results['device']}, {results['threads']} threads, with {versions}.",
    ]
    return "\n".join(lines).strip()


def save(results: dict[str, Any], folder: str | Path) -> list[Path]:
    """Write bench.json and, if matplotlib is installed, bench.svg."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "bench.json"]
    written[0].write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    try:
        from rope_lab.figures.speed import speed
    except ImportError:
        return written
    written.append(folder / "bench.svg")
    speed(results).savefig(written[1])
    return written


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _synchronize() -> None:
    if torch.accelerator.is_available():  # a GPU of any maker
        torch.accelerator.synchronize()
