"""Small models that the tests share."""

from dataclasses import asdict
from typing import get_args

import torch
from torch import Tensor

from rope_lab import RoFormer, RoFormerConfig
from rope_lab.config import Position

N, V = 8, 11
SMALL = {"vocab_size": V, "context": 16, "dim": 32, "depth": 2, "heads": 4}
POSITIONS = get_args(Position)
KINDS = {
    "decoder": SMALL,
    "tied": SMALL | {"tied": True},
    "learned": SMALL | {"position": "learned"},
    "encoder": asdict(RoFormerConfig.encoder(**SMALL)),
    "llama": asdict(RoFormerConfig.llama(**SMALL)),
    "grouped": SMALL | {"kv_heads": 2, "rotary_dim": 4, "layout": "half", "window": 3, "ff_mult": 2.5},
}


def model(dtype: torch.dtype = torch.float64, **fields) -> RoFormer:
    """Weights large enough that attention looks at something."""
    net = RoFormer(RoFormerConfig(**(SMALL | fields)))
    for weight in net.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return net.to(dtype)


def ids(batch: int = 2, count: int = N) -> Tensor:
    return torch.randint(V, (batch, count))


def close(left: Tensor, right: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=tolerance)
