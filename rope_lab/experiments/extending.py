"""RoPE models for longer texts than they were trained on: a copy with scaled frequencies or sharper scores."""

from __future__ import annotations

import dataclasses
import math

from torch import Tensor

from rope_lab.encodings import DynamicNTK, NTKAware, PositionInterpolation, RotaryEmbedding, Scaling, YaRN
from rope_lab.model import RoFormer

METHODS = ("none", "position interpolation", "NTK-aware", "dynamic NTK", "YaRN")
PARTS = ("NTK-by-parts", "attention factor alone")  # the two parts of YaRN, each without the other


@dataclasses.dataclass(frozen=True)
class Sharpened:
    """Leaves every frequency unchanged and multiplies cosine and sine by a number, and so scores by its square."""

    attention_factor: float

    def __call__(self, freqs: Tensor, length: int) -> tuple[Tensor, float]:
        return freqs, self.attention_factor


def scaling(method: str, factor: int, context: int) -> Scaling | None:
    """The scaling called `method` from `context` tokens to `factor` times as many."""
    kinds: dict[str, Scaling | None] = {
        "none": None,
        "position interpolation": PositionInterpolation(factor),
        "NTK-aware": NTKAware(factor),
        "dynamic NTK": DynamicNTK(factor, context),
        "YaRN": YaRN(factor, context),
        "NTK-by-parts": YaRN(factor, context, attention_factor=1.0),
        "attention factor alone": Sharpened(0.1 * math.log(factor) + 1),
    }
    return kinds[method]


def extended(model: RoFormer, method: str | Scaling, factor: int) -> RoFormer:
    """A copy of a RoPE model for `factor` times its context, by a method's name or any other scaling."""
    old, context = model.config, model.config.context
    config = dataclasses.replace(old, context=context * factor)
    rope = RotaryEmbedding(
        old.rotary_dim or old.dim // old.heads, base=old.base, layout=old.layout,
        scaling=scaling(method, factor, context) if isinstance(method, str) else method, length=config.context,
    )  # fmt: skip
    copy = RoFormer(config, rope)
    copy.load_parameters({name: p.detach() for name, p in model.named_parameters()})
    return copy.to(model.embedding.weight.device)
