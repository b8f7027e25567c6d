"""Speed and memory compared with other libraries: all run alternately in one process, and the results are ratios.

Rotating a tensor is limited by memory: it has to read and write the tensor at least once, which is what a `clone()`
does, so that is the unit. Every candidate runs once to warm up; then they alternate, and the median over all rounds
is reported. Peak memory is measured in a fresh process for each. A library that is not installed is left out and
named.
"""

from rope_lab.bench.candidates import forward_and_backward, local_inputs, local_ways, rotations
from rope_lab.bench.measure import (
    bench_import,
    bench_length,
    bench_local,
    bench_memory,
    bench_rotation,
    interleave,
    peak_memory,
    run,
)
from rope_lab.bench.report import save, summary, table

__all__ = [
    "bench_import",
    "bench_length",
    "bench_local",
    "bench_memory",
    "bench_rotation",
    "forward_and_backward",
    "interleave",
    "local_inputs",
    "local_ways",
    "peak_memory",
    "rotations",
    "run",
    "save",
    "summary",
    "table",
]
