"""Speed and memory compared with other libraries: all run alternately in one process, and the results are ratios.

Rotating a tensor is limited by memory: it has to read and write the tensor at least once, which is what a `clone()`
does, so that is the unit. Every candidate runs once to warm up; then they alternate, and the median over all rounds
is reported. Peak memory is measured in a fresh process for each. A library that is not installed is left out and
named.
"""

from rope_lab.bench.candidates import forward_and_backward, local_inputs, local_ways, rotations
from rope_lab.bench.choice import attention_backend
from rope_lab.bench.counts import Work
from rope_lab.bench.goals import Goal, goals
from rope_lab.bench.measure import (
    bench_import,
    bench_length,
    bench_local,
    bench_memory,
    bench_rotation,
    run,
)
from rope_lab.bench.models import bench_models
from rope_lab.bench.report import recorded, save, summary, table
from rope_lab.bench.roofline import Machine, measure_machine
from rope_lab.bench.timing import alternate, interleave, peak_memory
from rope_lab.bench.traffic import Traffic

__all__ = [
    "Goal",
    "Machine",
    "Traffic",
    "Work",
    "alternate",
    "attention_backend",
    "bench_import",
    "bench_length",
    "bench_local",
    "bench_memory",
    "bench_models",
    "bench_rotation",
    "forward_and_backward",
    "goals",
    "interleave",
    "local_inputs",
    "local_ways",
    "measure_machine",
    "peak_memory",
    "recorded",
    "rotations",
    "run",
    "save",
    "summary",
    "table",
]
