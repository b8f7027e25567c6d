"""The roofline of a machine: how fast it moves bytes, how fast it multiplies, and what an operation costs to start.

Source: Williams, Waterman and Patterson 2009, Roofline (doi:10.1145/1498765.1498785).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from rope_lab.bench.counts import Work
from rope_lab.bench.timing import Clock, interleave, repeats


@dataclass(frozen=True)
class Machine:
    """What a machine was seen to do at best.

    Args:
        read_bytes_per_second: reading a matrix once, to multiply it by a vector.
        copy_bytes_per_second: read plus written, copying from one tensor into another.
        clone_bytes_per_second: the same, into memory that is new at each call, as results are in eager mode.
        flops_per_second: of a product of two float32 matrices.
        seconds_per_call: of an operation on one number, which is the time it takes to start one.
    """

    read_bytes_per_second: float
    copy_bytes_per_second: float
    clone_bytes_per_second: float
    flops_per_second: float
    seconds_per_call: float

    @property
    def bytes_per_second(self) -> float:
        """The fastest of the three, since a floor has to be below every time."""
        return max(self.read_bytes_per_second, self.copy_bytes_per_second, self.clone_bytes_per_second)

    @property
    def ridge(self) -> float:
        """The intensity, in operations per byte, from which on arithmetic takes longer than memory."""
        return self.flops_per_second / self.bytes_per_second

    def seconds(self, work: Work, calls: int = 0) -> float:
        """The floor: the longer of what the bytes and the operations take, or of what it takes to start the calls."""
        return max(
            work.bytes / self.bytes_per_second,
            work.flops / self.flops_per_second,
            calls * self.seconds_per_call,
        )

    def flops(self, intensity: float) -> float:
        """The roof: operations per second at an intensity."""
        return min(self.flops_per_second, intensity * self.bytes_per_second)

    def as_dict(self) -> dict[str, float]:
        """The numbers by name, for a record."""
        return asdict(self)


def measure_machine(
    *,
    device: str = "cpu",
    rounds: int = 9,
    megabytes: int = 64,
    width: int = 1024,
    clock: Clock | None = None,
) -> Machine:
    """The roofline of this machine with its current number of threads; medians, measured alternately.

    Args:
        device: where.
        rounds: number of times that each is measured.
        megabytes: of the tensor that is read and copied; the default is larger than most caches.
        width: of the square matrices.
        clock: as for `alternate`.
    """
    x = torch.randn(megabytes * 2**8, 1024, device=device)
    y, a, one = torch.empty_like(x), torch.randn(width, width, device=device), torch.ones(1, device=device)
    product, vector, sums, calls = torch.empty_like(a), x[0].clone(), x[:, 0].clone(), 200

    def start() -> None:
        for _ in range(calls):
            torch.neg(one)

    with torch.no_grad():
        timed: dict[str, Any] = {"copy": partial(y.copy_, x), "clone": x.clone, "start": start}
        timed |= {
            "multiply": partial(torch.mm, a, a, out=product),
            "read": partial(torch.mv, x, vector, out=sums),
        }
        taken = interleave(timed, rounds, repeats(device), clock=clock)
    return Machine(
        read_bytes_per_second=x.nbytes / taken["read"],
        copy_bytes_per_second=2 * x.nbytes / taken["copy"],
        clone_bytes_per_second=2 * x.nbytes / taken["clone"],
        flops_per_second=2 * width**3 / taken["multiply"],
        seconds_per_call=taken["start"] / calls,
    )
