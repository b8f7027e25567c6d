"""Wrong rotations, most of them reduced from a real thread to a few lines. Do not use them.

    from rope_lab.doctor import diagnose
    from rope_lab.doctor.exhibits import D, EXHIBITS

    for one in EXHIBITS:
        print(one.bug, diagnose(one.turn, D, **one.options).faults)

What each bug is, and its correction, is in `rope_lab.doctor.KNOWN` under the name `bug`; chapter 18 goes through them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rope_lab.encodings import Llama3, RotaryEmbedding, YaRN, frequencies

Cause = Literal["pairs", "sides", "positions", "state", "precision", "settings"]

D = 32  # coordinates of a head, in all of them


@dataclass(frozen=True)
class Exhibit:
    """A wrong rotation, and the name of its bug.

    Attributes:
        turn: the rotation, a function of `(x, positions)` or of `(q, k)`, or a module.
        bug: its name in `rope_lab.doctor.KNOWN`.
        cause: what it is about: the two coordinates of a pair; queries and keys; which position a token has; what an
            earlier call leaves behind; number types; or the settings of a model.
        seen: the project in which it was seen; for one that is made up, what it is.
        options: what `diagnose` needs to see it, such as the rotation that is expected.
        alone: whether it is the only fault.
        real: whether it was seen in the code of a project.
    """

    turn: Callable[..., Any]
    bug: str
    cause: Cause
    seen: str
    options: dict[str, Any] = field(default_factory=dict)
    alone: bool = True
    real: bool = True


def angle(positions: Tensor, theta: Tensor | None = None) -> Tensor:
    return positions[..., None].double() * (frequencies(D) if theta is None else theta)


def half(x: Tensor, a: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    cos, sin = a.cos().to(x.dtype), a.sin().to(x.dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def neighbours(x: Tensor, a: Tensor) -> Tensor:
    first, second = x[..., 0::2], x[..., 1::2]
    cos, sin = a.cos().to(x.dtype), a.sin().to(x.dtype)
    return torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1).flatten(-2)


def half_tables(x: Tensor, positions: Tensor) -> Tensor:
    a = torch.cat((angle(positions),) * 2, dim=-1)
    partner = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
    return x * a.cos().to(x.dtype) + partner * a.sin().to(x.dtype)


def interleaved_tables(x: Tensor, positions: Tensor) -> Tensor:
    a = angle(positions).repeat_interleave(2, dim=-1)
    first, second = x.chunk(2, dim=-1)
    return x * a.cos().to(x.dtype) + torch.cat((-second, first), dim=-1) * a.sin().to(x.dtype)


def no_minus(x: Tensor, positions: Tensor) -> Tensor:
    a = torch.cat((angle(positions),) * 2, dim=-1)
    first, second = x.chunk(2, dim=-1)
    return x * a.cos().to(x.dtype) + torch.cat((second, first), dim=-1) * a.sin().to(x.dtype)


def norms_left_behind(x: Tensor, positions: Tensor) -> Tensor:  # a conversion reordered the projection alone
    gain = torch.linspace(0.5, 1.5, D)  # in the order of the interleaved layout
    return half(x * gain.to(x.dtype), angle(positions))


def norms_after(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions)) * torch.linspace(0.5, 1.5, D).to(x.dtype)


def xpos_of_the_other_layout(q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    zeta = ((torch.arange(0, D, 2) / D + 0.4) / 1.4).double()
    scale = torch.cat((zeta, zeta)) ** (positions[..., None].double() / 512)
    return (neighbours(q, angle(positions)) * scale).to(q.dtype), (
        neighbours(k, angle(positions)) / scale
    ).to(k.dtype)


def clockwise_queries(q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    return half(q, -angle(positions)), half(k, angle(positions))


def keys_left(q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    return half(q, angle(positions)), k  # the turned keys go to the cache alone


def two_layouts(q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    return neighbours(q, angle(positions)), half(k, angle(positions))


def reordered_queries(q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    q = neighbours(q, angle(positions))
    return torch.cat((q[..., 0::2], q[..., 1::2]), dim=-1), neighbours(k, angle(positions))


def two_bases(q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    return half(q, angle(positions)), half(k, angle(positions, frequencies(D, 500_000)))


def row_index(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(torch.arange(x.shape[-2])))


def batch_index(x: Tensor) -> Tensor:  # (B, N, D): angles (N, 1, D/2), as in the Keras tutorial
    _, count, _ = x.shape
    return half(x, angle(torch.arange(count))[:, None])


def batch_index_given(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(torch.arange(x.shape[0]))[:, None, None])


def head_index(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:  # meant for (B, H, N, D)
    a = angle(torch.arange(q.shape[1]))[:, None]
    return half(q, a), half(k, a)


def first_row(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions[0] if positions.ndim == 2 else positions))


def off_by_one(x: Tensor, offset: int = 0) -> Tensor:
    start = offset + 1 if offset else 0
    return half(x, angle(torch.arange(x.shape[-2]) + start))


def restarts(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return half(q, angle(torch.arange(q.shape[-2]))), half(k, angle(torch.arange(k.shape[-2])))


def off_by_one_queries(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    count, start = k.shape[-2], max(0, k.shape[-2] - q.shape[-2] - 1)
    return half(q, angle(torch.arange(q.shape[-2]) + start)), half(k, angle(torch.arange(count)))


def half_positions(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions.to(x.dtype)))


def half_angles(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, positions[..., None].to(x.dtype) * frequencies(D).to(x.dtype))


class Rounded(nn.Module):
    """Frequencies in a buffer, which `.bfloat16()` rounds."""

    theta: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("theta", frequencies(D).float(), persistent=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        return half(x, positions[..., None].float() * self.theta.float())


class Poisoned:
    """A cache of cosine and sine that a call in bfloat16 fills for all."""

    def __init__(self) -> None:
        self.table = torch.empty(0, D // 2)

    def __call__(self, x: Tensor) -> Tensor:
        count = x.shape[-2]
        if count > len(self.table):
            self.table = torch.arange(count, dtype=x.dtype)[:, None].float() * frequencies(D).float()
        return half(x, self.table[:count])


class Forgets:
    """A cache that does not know of the offset it was filled with."""

    def __init__(self) -> None:
        self.table: Tensor | None = None

    def __call__(self, x: Tensor, offset: int = 0) -> Tensor:
        count = x.shape[-2]
        if self.table is None or len(self.table) < count or offset:
            self.table = angle(torch.arange(count + 2048) + offset)
        return half(x, self.table[:count])


def in_place(x: Tensor, positions: Tensor) -> Tensor:
    x.copy_(half(x, angle(positions)))
    return x.clone()


def values_turned(q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
    return tuple(half(x, angle(positions)) for x in (q, k, v))


def clamped(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions.clamp(max=4095)))


def float32_products(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, positions[..., None].float() * frequencies(D).float())


def bfloat16_products(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, (positions[..., None].bfloat16() * frequencies(D).bfloat16()).float())


def inverted(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions * 4))


def twice(x: Tensor, positions: Tensor) -> Tensor:
    return half(half(x, angle(positions)), angle(positions))


def ntk_exponent(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions, frequencies(D, 10_000 * 8 ** (D / (D - 1)))))


def ntk_everywhere(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions / 4 ** (D / (D - 2))))


def exponent(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions, 10_000 ** (-torch.arange(D // 2).double() / D)))


def tail_of_the_wrong_place(x: Tensor, positions: Tensor) -> Tensor:
    turned = half(x[..., :16], angle(positions, frequencies(16)))
    return torch.cat((turned, x[..., : D - 16]), dim=-1)


def zeros(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions, torch.zeros(D // 2)))


def half_slopes(slopes: Tensor, positions: Tensor) -> Tensor:
    """ALiBi, which rotates nothing: what is added to the scores of the keys at these positions, (heads, keys)."""
    return slopes.half()[:, None] * positions.half()


def widens(x: Tensor, positions: Tensor) -> Tensor:
    return half(x.float(), angle(positions))


def single_precision(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions).float())


def whole(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions))


def first_part(x: Tensor, positions: Tensor) -> Tensor:
    return torch.cat((half(x[..., :16], angle(positions, frequencies(16))), x[..., 16:]), dim=-1)


def part(start: int = 0) -> RotaryEmbedding:
    return RotaryEmbedding(16, layout="half", start=start)


def squared(x: Tensor, positions: Tensor) -> Tensor:
    scaling = YaRN(4, 4096)
    freqs, factor = scaling(frequencies(D), 1)
    return half(x, angle(positions, freqs)) * factor**2


EXHIBITS = [
    Exhibit(half_tables, "half tables", "pairs", "transformers#47328, ark-nlp#47"),
    Exhibit(interleaved_tables, "interleaved tables", "pairs", "how-to-train-your-gpt#6"),
    Exhibit(norms_left_behind, "gain", "settings", "the gain of a norm left behind", real=False),
    Exhibit(norms_after, "gain after", "pairs", "the gain of a norm behind the rotation", real=False),
    Exhibit(no_minus, "sign", "pairs", "a rotate_half without its minus", real=False),
    Exhibit(xpos_of_the_other_layout, "xpos layout", "pairs", "rotary-embedding-torch 0.6.5"),
    Exhibit(clockwise_queries, "clockwise queries", "sides", "a sine with two signs", real=False),
    Exhibit(keys_left, "one side only", "sides", "kvcache-ai/sglang#31"),
    Exhibit(two_layouts, "layouts differ", "sides", "two defaults, flash-attention#862"),
    Exhibit(reordered_queries, "layouts differ", "sides", "one projection converted", real=False),
    Exhibit(two_bases, "frequencies differ", "sides", "two tables", real=False),
    Exhibit(row_index, "row index for position", "positions", "Megatron-LM#453"),
    Exhibit(batch_index, "batch index for position", "positions", "the Keras tutorial"),
    Exhibit(
        batch_index_given,
        "batch index for position",
        "positions",
        "the Keras tutorial, positions given",
        real=False,
    ),
    Exhibit(head_index, "head index for position", "positions", "open_lm#4", {"axis": 2}),
    Exhibit(first_row, "first row's positions for all rows", "positions", "unsloth#3795"),
    Exhibit(off_by_one, "off by one", "positions", "the number of cached tokens, plus one", real=False),
    Exhibit(off_by_one_queries, "off by one", "positions", "the same, queries and keys", real=False),
    Exhibit(restarts, "restarts", "positions", "keras-hub#1544"),
    Exhibit(half_positions, "half positions", "precision", "rotary-embedding-torch 0.9.1"),
    Exhibit(half_angles, "half positions", "precision", "transformers#29285"),
    Exhibit(Rounded().eval(), "rounded buffers", "precision", "NeMo Automodel#2549"),
    Exhibit(Poisoned(), "poisoned", "state", "rotary-embedding-torch 0.9.1", alone=False),
    Exhibit(Forgets(), "poisoned", "state", "rotary-embedding-torch#11", alone=False),
    Exhibit(in_place, "in place", "state", "Liger-Kernel"),
    Exhibit(values_turned, "values turned", "sides", "queries, keys and values alike", real=False),
    Exhibit(clamped, "clamped", "positions", "keras-hub, YaRN"),
    Exhibit(float32_products, "float32 angles", "precision", "arXiv:2411.13476", real=False),
    Exhibit(bfloat16_products, "coarse", "precision", "transformers#25681", alone=False),
    Exhibit(inverted, "inverted", "settings", "a linear factor inverted", real=False),
    Exhibit(twice, "inverted", "settings", "labml, values turned twice"),
    Exhibit(ntk_exponent, "ntk exponent", "settings", "D/(D − 1) for D/(D − 2)", real=False),
    Exhibit(ntk_everywhere, "ntk everywhere", "settings", "keras-hub, dynamic"),
    Exhibit(exponent, "exponent", "settings", "−i/D for −2i/D", real=False),
    Exhibit(tail_of_the_wrong_place, "lost", "pairs", "a tail cut from the wrong place", real=False),
    Exhibit(zeros, "no rotation", "settings", "executorch#19627"),
    Exhibit(widens, "dtype", "precision", "labml with bfloat16"),
    Exhibit(single_precision, "double", "precision", "rotary-embedding-torch"),
    Exhibit(whole, "partial dropped", "settings", "maxtext#4616", {"expected": part()}),
    Exhibit(
        first_part,
        "wrong place",
        "settings",
        "the head of latent attention, its first part",
        {"expected": part(start=16)},
        real=False,
    ),
    Exhibit(
        first_part, "wrong share", "settings", "vllm#41185", {"expected": RotaryEmbedding(D, layout="half")}
    ),
    Exhibit(whole, "wrong layout", "settings", "llama3-from-scratch#20", {"expected": RotaryEmbedding(D)}),
    Exhibit(
        whole,
        "wrong direction",
        "settings",
        "one of two conventions",
        {"expected": RotaryEmbedding(D, layout="half", freqs=-frequencies(D))},
        real=False,
    ),
    Exhibit(
        whole,
        "wrong base",
        "settings",
        "airllm#368",
        {"expected": RotaryEmbedding(D, base=5e5, layout="half")},
    ),
    Exhibit(
        whole,
        "scaling dropped",
        "settings",
        "a scaling that is not read",
        {"expected": RotaryEmbedding(D, layout="half", scaling=Llama3(8.0))},
        real=False,
    ),
    Exhibit(
        squared,
        "attention factor",
        "settings",
        "sglang#33558",
        {"expected": RotaryEmbedding(D, layout="half", scaling=YaRN(4, 4096))},
    ),
]
