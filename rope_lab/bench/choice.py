"""The backend of local attention, chosen from the recorded benchmark: FlexAttention where it was measured faster.

    local_attention(q, k, v, window=W, backend=attention_backend(q, window=W))

The package never chooses FlexAttention by itself, because which of the two is faster depends on the GPU. `make gpu`
records both in `rope_lab/bench/results/gpu/bench.json`, and this function reads it. Without a record of the same GPU
and torch it returns "sdpa", the form that is tested everywhere.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from rope_lab.bench.report import recorded

OURS, FLEX = "rope_lab", "rope_lab, FlexAttention"


def attention_backend(
    q: Tensor, *, window: int, exact: bool = True, record: dict[str, Any] | None = None
) -> Literal["sdpa", "flex"]:
    """The faster backend for queries like these, as far as it was measured.

    Args:
        q: the queries, (B, H, N, D); where they require gradients, the times with the backward pass decide.
        window: W. The recorded length and window that are nearest to N and W, as ratios, are used.
        exact: False for block windows.
        record: results of `rope_lab.bench.run`; by default those that `make gpu` has recorded.

    Returns:
        "flex", or "sdpa" where that is faster or nothing was recorded for this device and torch.
    """
    results = recorded("cuda") if record is None else record
    if results is None or results["versions"]["torch"] != torch.__version__ or results["device"] != _name(q):
        return "sdpa"
    kind = "inclusive" if exact else "block"
    rows = [part for part in results["local"] if part["windows"] == kind and FLEX in part["forward"]]
    if not rows:
        return "sdpa"

    def apart(part: dict[str, Any]) -> float:
        there, here = (part["shape"][2], part["window"]), (q.shape[-2], window)
        return sum(abs(math.log(a / b)) for a, b in zip(there, here, strict=True))

    taken = min(rows, key=apart)["forward_and_backward" if q.requires_grad else "forward"]
    return "flex" if taken[FLEX] < taken[OURS] else "sdpa"


def _name(x: Tensor) -> str:
    return torch.cuda.get_device_name(x.device) if x.is_cuda else "cpu"
