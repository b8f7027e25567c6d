"""What a rotation does to unit vectors: pairs, layout, direction, frequencies, and where it is not a rotation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rope_lab.doctor.box import Box, Refused, Side

Fault = Literal["", "angles", "sign", "scales", "gain", "gain after"]
NOTHING = 1e-7  # what is smaller in the image of a unit vector is not there
LOOSE = 0.02  # up to this, a table in bfloat16 is a rotation
STEPS = [0, 1, *(2**k for k in range(1, 11))]  # positions 0 to 1,024, each twice the last


@dataclass(frozen=True)
class Reading:
    """What the function does to queries or keys.

    Attributes:
        pairs: coordinates (a, b), a < b, that turn together, shape (P, 2), in the order of a.
        frequencies: radians per position, counter-clockwise if positive, float64, shape (P,).
        layout: "interleaved", "half" or "another pairing".
        begin, width: the first coordinate that turns, and the number of coordinates from there that the layout spans.
        factor: by which the turned coordinates are multiplied at position 0 (the attention factor).
        start: the position as which the first token is turned.
        order: where each coordinate is found in the result, shape (D,).
        fault: "angles" if the two coordinates of a pair turn by different angles, "sign" if by opposite ones,
            "scales" if they grow by different scales, "gain" or "gain after" if they turn together and each is
            multiplied by a number of its own before or after.
        angles: of both coordinates of each pair at position 1, shape (P, 2).
        growth: logarithm of the scale of each coordinate per position, shape (P, 2).
        furthest: the largest position probed.
    """

    pairs: Tensor
    frequencies: Tensor
    layout: str
    begin: int
    width: int
    factor: float
    start: float
    order: Tensor
    fault: Fault
    angles: Tensor
    growth: Tensor
    furthest: int

    @property
    def end(self) -> int:
        """One more than the last coordinate that the layout spans."""
        return self.begin + self.width

    @property
    def direction(self) -> str:
        """Counter-clockwise turns the first coordinate of a pair towards the second."""
        signs = set(self.frequencies.sign().tolist())
        return {(1.0,): "counter-clockwise", (-1.0,): "clockwise"}.get(tuple(signs), "both directions")

    @property
    def reordered(self) -> str:
        """The order in which the coordinates come back, where it is not that of the input."""
        plain = torch.arange(len(self.order))
        if torch.equal(self.order, plain):
            return ""
        inside = plain[self.begin : self.end]
        to_half = torch.cat((inside[0::2], inside[1::2]))  # the coordinate found in each place
        back = self.order.argsort()
        return "half" if torch.equal(back[self.begin : self.end], to_half) else "another order"


def read(box: Box, side: Side = "q") -> Reading:
    """Probe one side of the function.

    Raises:
        Refused: if it changes nothing, turns an odd number of coordinates, or mixes more than two.
    """
    images, steps = _images(box, side)
    order, start_known = _order(images[0])
    turned = images[..., order] if start_known else images  # columns back in the order of the input
    off = (turned - torch.diag_embed(turned.diagonal(dim1=1, dim2=2))).abs().amax(0) > NOTHING
    linked = off | off.T
    if not linked.any():
        if (images - images[0]).abs().max() > LOOSE:
            raise Refused("it scales coordinates by the position and turns none")
        raise Refused(
            "it ignores positions: every position gives the same, so nothing turns", bug="no rotation"
        )
    pairs = _pairs(linked)
    a, b = pairs.T
    blocks = turned[:, pairs[:, :, None], pairs[:, None, :]].double()  # (M, P, 2, 2), rows are inputs
    gain = blocks[0].diagonal(dim1=-2, dim2=-1)  # (P, 2)
    first, fault, angle, scale, growth = _measured(blocks, start_known, steps[-1])
    if start_known and _uneven(gain):
        freed = _measured(blocks / gain[..., None], start_known, steps[-1])
        if not freed[1] and freed[-1].abs().max() < 1e-5:
            first, fault, angle, scale, growth = freed[0], "gain", *freed[2:]
        elif (
            not fault and growth.abs().max() < 1e-5
        ):  # an angle is read from one coordinate of the results, in which a later gain cancels
            fault = "gain after"
    thetas = _frequencies(wrap(angle - first), steps)
    start = 0.0
    if not start_known:
        start = float((angle[0] / wrap(angle[1] - angle[0])).median())
    layout, begin, width = _layout(a, b)
    return Reading(
        pairs=pairs,
        frequencies=_unfolded(thetas.mean(-1)),
        layout=layout,
        begin=begin,
        width=width,
        factor=float(scale[0].mean()),
        start=start,
        order=order,
        fault=fault,
        angles=angle[1],
        growth=growth,
        furthest=steps[-1],
    )


def _uneven(gain: Tensor) -> bool:
    """Whether coordinates come back at position 0 multiplied by different numbers."""
    return bool(gain.abs().min() > LOOSE) and bool((gain / gain.mean() - 1).abs().max() > LOOSE)


def _measured(
    blocks: Tensor, start_known: bool, last: int
) -> tuple[Tensor | float, Fault, Tensor, Tensor, Tensor]:
    """What the angles count from, the fault, and angles, scales and growth of both coordinates of each pair."""
    angle = torch.stack(
        (
            torch.atan2(-blocks[..., 1, 0], blocks[..., 0, 0]),
            torch.atan2(blocks[..., 0, 1], blocks[..., 1, 1]),
        ),
        dim=-1,
    )
    scale = blocks.square().sum(-2).sqrt()  # of each output coordinate
    first = 0.0 if start_known else angle[0]
    growth = (scale[-1] / scale[0]).clamp(min=1e-30).log() / last
    return first, _fault(wrap(angle - first), scale, growth), angle, scale, growth


def wrap(angle: Tensor) -> Tensor:
    """The same angle in [−π, π]."""
    return angle - 2 * math.pi * torch.round(angle / (2 * math.pi))


def _images(box: Box, side: Side) -> tuple[Tensor, list[int]]:
    """What becomes of unit vectors at each position, (M, D, D); fewer positions if the function knows no more."""
    eye = torch.eye(box.dim)
    for count in range(len(STEPS), 1, -3):
        try:
            return box.at(eye, STEPS[:count], side).movedim(1, 0), STEPS[:count]
        except Exception as error:
            failure = error
    raise Refused(f"it fails beyond position 1: {type(failure).__name__}: {failure}")


def _order(image: Tensor) -> tuple[Tensor, bool]:
    """The place of each coordinate at position 0, and whether it is known: whether nothing turns there."""
    found = image.abs() > LOOSE
    if not found.any(1).all():
        gone = (~found.any(1)).nonzero().flatten().tolist()
        raise Refused(
            f"it loses coordinates {spans(gone)}: at position 0 nothing of them is left", bug="lost"
        )
    if (found.sum(0) == 1).all() and (found.sum(1) == 1).all():
        return found.long().argmax(1), True
    return torch.arange(len(image)), False


def spans(numbers: Sequence[int]) -> str:
    """Integers in words: 0 to 15, 48 to 63."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def _pairs(linked: Tensor) -> Tensor:
    partners = linked.sum(1)
    if (partners > 1).any():
        worst = int(partners.argmax())
        some = linked[worst].nonzero().flatten().tolist()[:4]
        raise Refused(
            f"it does not turn pairs: coordinate {worst} mixes with {int(partners[worst])} others, {spans(some)}"
        )
    first, second = linked.triu().nonzero().T
    return torch.stack((first, second), dim=-1)


def _layout(a: Tensor, b: Tensor) -> tuple[str, int, int]:
    """The layout's name, the first coordinate it spans, and how many."""
    count, begin, gap = len(a), int(a[0]), int(b[0] - a[0])
    even = bool((b - a == gap).all())
    steps = a.diff().unique().tolist()
    if even and gap == 1 and steps in ([], [2]):
        return "interleaved", begin, 2 * count
    if even and gap >= count and steps in ([], [1]):
        return "half", begin, 2 * gap
    return "another pairing", begin, int(b.max()) + 1 - begin


def _frequencies(angle: Tensor, steps: Sequence[int]) -> Tensor:
    """Radians per position, (P, 2): each doubling of the position halves the error."""
    theta = angle[1]
    for m, seen in zip(steps[2:], angle[2:], strict=True):
        correction = wrap(seen - m * theta)
        if correction.abs().max() > 0.5:  # no longer a multiple
            break
        theta = theta + correction / m
    return theta


def _unfolded(theta: Tensor) -> Tensor:
    """Frequencies above π as what they are, where the slow ones are powers of a base that say so.

    At whole positions 4 radians cannot be told from 4 − 2π, except by the row in which they stand.
    """
    count, slow = len(theta), int((theta.abs() < 1).sum())
    if slow < 3 or slow == count or (theta[-slow:].abs() >= 1).any() or (theta[-slow:] == 0).any():
        return theta
    tail = theta[-slow:].abs()
    ratios = (tail[:-1] / tail[1:]).log()
    if (ratios - ratios.mean()).abs().max() > 1e-3:
        return theta
    steps = torch.arange(count - 1, -1, -1, dtype=theta.dtype)
    powers = theta[-1] * (ratios.mean() * steps).exp()
    near = theta + 2 * math.pi * torch.round((powers - theta) / (2 * math.pi))
    return near if ((near / powers - 1).abs() < 1e-3).all() else theta


def _fault(angle: Tensor, scale: Tensor, growth: Tensor) -> Fault:
    difference = wrap(angle[1, :, 0] - angle[1, :, 1]).abs()
    if difference.max() > LOOSE:
        opposite = wrap(angle[1, :, 0] + angle[1, :, 1]).abs().max()
        return "sign" if opposite < LOOSE else "angles"
    uneven = (growth[:, 0] - growth[:, 1]).abs().max()
    return "scales" if uneven > 1e-5 and uneven > 1e-2 * growth.abs().max() else ""
