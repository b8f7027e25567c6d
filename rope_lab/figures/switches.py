"""What a reader may do to the rotation of a trained model, one switch each: the reference of the model in the page.

Nothing is trained again. The parameters stay the same, and the encodings of this package take the place of the one that
the model was trained with.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from rope_lab.checks import check_integers, check_positive
from rope_lab.config import RoFormerConfig
from rope_lab.encodings import (
    Layout,
    NoPE,
    NTKAware,
    PositionEncoding,
    PositionInterpolation,
    RotaryEmbedding,
    RotaryValueEmbedding,
    Scaling,
    YaRN,
)
from rope_lab.model import Block, RoFormer

Scaled = Literal["none", "linear", "ntk", "yarn", "yarn frequencies", "yarn factor"]
OTHER: dict[Layout, Layout] = {"interleaved": "half", "half": "interleaved"}


@dataclass(frozen=True)
class Switches:
    """The rotation that a trained model is run with; by default the one of chapter 13.

    Args:
        base: of the frequencies.
        other_keys: keys, and only they, are turned in the layout that the model was not trained with.
        forgotten: the cache forgets its offset: each token after the prompt is told that it is at position 0.
        off: nothing turns, whatever the other switches say.
        values: values turn too, and outputs are turned back.
        scaling: of the frequencies, "yarn frequencies" and "yarn factor" being the two parts of "yarn".
        factor: of the scaling.
        window: number of keys that a query sees, itself included; None is unlimited.

    Raises:
        ValueError: if a number is not positive or the scaling is unknown.
    """

    base: float = 10_000.0
    other_keys: bool = False
    forgotten: bool = False
    off: bool = False
    values: bool = False
    scaling: Scaled = "none"
    factor: float = 4.0
    window: int | None = None

    def __post_init__(self) -> None:
        check_positive(base=self.base, factor=self.factor)
        check_integers(optional=True, window=self.window)
        if self.scaling not in get_args(Scaled):
            raise ValueError(f"scaling must be one of {get_args(Scaled)}, got {self.scaling!r}")

    def positions(self, count: int, prompt: int) -> Tensor:
        """Of `count` tokens, the first `prompt` of which were read at once."""
        places = torch.arange(count)
        return places.where(places < prompt, 0) if self.forgotten else places

    def encoding(self, config: RoFormerConfig) -> PositionEncoding:
        """The encoding for a model of this shape."""
        if self.off:
            return NoPE()
        size, scaling = config.dim // config.heads, self._scaling(config.context)
        kind = RotaryValueEmbedding if self.values else RotaryEmbedding
        turned = kind(size, base=self.base, layout=config.layout, scaling=scaling)
        if not self.other_keys:
            return turned
        return _TwoLayouts(
            turned, RotaryEmbedding(size, base=self.base, layout=OTHER[config.layout], scaling=scaling)
        )

    def _scaling(self, context: int) -> Scaling | None:
        if self.scaling == "none":
            return None
        if self.scaling == "linear":
            return PositionInterpolation(self.factor)
        if self.scaling == "ntk":
            return NTKAware(self.factor)
        if self.scaling == "yarn frequencies":
            return YaRN(self.factor, context, attention_factor=1.0)
        yarn = YaRN(self.factor, context)
        return yarn if self.scaling == "yarn" else lambda freqs, length: (freqs, yarn(freqs, length)[1])


class _TwoLayouts(PositionEncoding):
    """Queries (and values, if they turn) by one rotation, keys by another."""

    def __init__(self, queries: RotaryEmbedding, keys: RotaryEmbedding) -> None:
        super().__init__()
        self.queries, self.keys = queries, keys

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        turned_q, _, v = self.queries.rotate(q, k, v, positions, length)
        _, turned_k, _ = self.keys.rotate(q, k, v, positions, length)
        return turned_q, turned_k, v

    def unrotate(self, out: Tensor, positions: Tensor) -> Tensor:
        return self.queries.unrotate(out, positions)


def switched(model: RoFormer, switches: Switches) -> RoFormer:
    """A copy of the model that is run with these switches, in evaluation mode."""
    copied = copy.deepcopy(model).eval()
    copied.position = switches.encoding(model.config)
    for block in copied.blocks:
        assert isinstance(block, Block)
        block.attention.position, block.attention.window = copied.position, switches.window
    return copied


@torch.no_grad()
def logits_of(model: RoFormer, switches: Switches, ids: Tensor, prompt: int) -> Tensor:
    """Logits (N, V) at each of the tokens `ids` (N,), the first `prompt` of which were read at once."""
    return switched(model, switches)(ids[None], positions=switches.positions(len(ids), prompt))[0]


def losses_of(model: RoFormer, switches: Switches, ids: Tensor, prompt: int) -> Tensor:
    """The loss of each token after the first, (N − 1,), in float64."""
    log_p = logits_of(model, switches, ids[:-1], prompt).double().log_softmax(-1)
    return -log_p.gather(-1, ids[1:, None])[:, 0]


@torch.no_grad()
def continued(model: RoFormer, switches: Switches, ids: Tensor, prompt: int, count: int) -> list[int]:
    """The likeliest `count` tokens after `ids` (N,), with the cache.

    Positions are those of `logits_of`.
    """
    broken, places = switched(model, switches), switches.positions(len(ids) + count, prompt)
    cache, new, found = broken.new_cache(len(ids) + count), ids, list[int]()
    for _ in range(count):
        past = cache[0].length
        logits = broken(new[None], positions=places[past : past + len(new)], cache=cache)
        found.append(int(logits[0, -1].argmax()))
        new = torch.tensor(found[-1:])
    return found
