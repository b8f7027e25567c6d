"""Timing and memory: candidates alternate in one process, and peak memory is measured in a fresh process for each."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

Call = Callable[..., Any]


Clock = Callable[[], float]


def interleave(
    calls: Mapping[str, Call], rounds: int, repeats: int = 1, *, clock: Clock | None = None
) -> dict[str, float]:
    """Median seconds of each call; arguments as `alternate`."""
    taken = alternate(calls, rounds, repeats, clock=clock)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def alternate(
    calls: Mapping[str, Call], rounds: int, repeats: int = 1, *, clock: Clock | None = None
) -> dict[str, list[float]]:
    """Seconds of each call in each of `rounds` rounds, in which they alternate, after one to warm up.

    Args:
        calls: by name.
        rounds: number of times that each is measured.
        repeats: calls per measurement, one after the other. On a GPU several of them hide the time that Python takes
            to start a kernel, which may be longer than the kernel itself.
        clock: by default wall-clock time. On one thread of a busy CPU, `time.process_time` leaves out the time that
            goes to other programs.
    """
    now = clock or time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            _synchronize()
            began = now()
            for _ in range(repeats):
                call()
            _synchronize()
            times[name].append((now() - began) / repeats)
    return times


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


def _synchronize() -> None:
    if torch.accelerator.is_available():  # a GPU of any maker
        torch.accelerator.synchronize()


def repeats(device: str) -> int:
    """Calls per measurement."""
    return 10 if device == "cuda" else 1
