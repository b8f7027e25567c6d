"""Which known bug a rotation has, from what was read of it; the battery names those that show in a property."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rope_lab.doctor.probe import Reading
from rope_lab.doctor.spectrum import FACTORS, Spectrum, recognise, round_number
from rope_lab.encodings import RotaryEmbedding

# What the other properties show is a consequence, where the two coordinates of a pair do not turn together.
CONSEQUENCES = {"coarse", "float32 angles", "scales", "rounded tables", "clamped", "double"}
NEAR = 1e-3  # relative: measured numbers that count as equal


def bugs_of_sides(q: Reading, k: Reading | None) -> list[str]:
    """Names of the bugs that show in what queries and keys become."""
    found = [name for side in (q, k) if side is not None for name in _bugs_of(side)]
    if k is not None and len(k.pairs) == len(q.pairs):
        if q.layout != k.layout or not torch.equal(q.pairs, k.pairs) or not torch.equal(q.order, k.order):
            found.append("layouts differ")
        elif close(q.frequencies, -k.frequencies):
            found.append("clockwise queries")
        elif not close(q.frequencies, k.frequencies):
            found.append("frequencies differ")
    elif k is not None:
        found.append("layouts differ")
    return list(dict.fromkeys(found))


def _bugs_of(side: Reading) -> list[str]:
    if side.fault == "sign":
        return ["sign"]
    if side.fault == "scales":
        return ["xpos layout"]
    if side.fault in {"gain", "gain after"}:
        return [side.fault]
    if side.fault == "angles":
        by_coordinate = torch.zeros(int(side.pairs.max()) + 1, dtype=torch.float64)
        by_coordinate[side.pairs] = side.angles
        own = by_coordinate[side.pairs.flatten().sort().values]
        halves, each = own.chunk(2), own.view(-1, 2).T
        if side.layout == "interleaved" and close(halves[0], halves[1]):
            return ["half tables"]
        if side.layout == "half" and close(each[0], each[1]):
            return ["interleaved tables"]
        return ["angles differ"]
    return []


def bugs_of_spectrum(spectrum: Spectrum, width: int) -> list[str]:
    """Names of the bugs that show in the frequencies alone."""
    base, factor = spectrum.base, spectrum.factor
    if spectrum.kind == "linear" and factor is not None:
        if factor < 1:
            return ["inverted"]
        if width > 2 and not _usual(factor):
            root = factor ** ((width - 2) / width)
            if _usual(root):
                return ["ntk everywhere"]
        return []
    if spectrum.kind == "geometric" and base is not None:
        if abs(base / 100 - 1) < NEAR:
            return ["exponent"]
        if width > 2 and not round_number(base):
            for before in (1e4, 5e5, 1e6):
                if any(abs(before * f ** (width / (width - 1)) / base - 1) < 1e-4 for f in FACTORS):
                    return ["ntk exponent"]
    return []


def bugs_against(q: Reading, spectrum: Spectrum, expected: RotaryEmbedding) -> list[str]:
    """Names of the bugs that show beside what was expected."""
    freqs, factor = expected.frequencies(), 1.0
    if expected.scaling is not None:
        freqs, factor = expected.scaling(freqs.double(), expected.length or 1)
    freqs, found = freqs.detach().double(), []
    turning = 2 * int((freqs != 0).sum())
    if 2 * len(q.pairs) != turning:
        all_turn = 2 * len(q.pairs) == len(q.order)
        found.append("partial dropped" if all_turn else "wrong share")
    elif q.begin != expected.start:
        found.append("wrong place")
    one_pair = expected.dim == 2
    if q.layout != expected.layout and not one_pair:
        found.append("wrong layout")
    if "partial dropped" not in found and "wrong share" not in found:
        found += _against_frequencies(q, spectrum, freqs[freqs != 0], expected)
    if abs(q.factor / factor - 1) > NEAR:
        found.append("attention factor")
    return found


def _against_frequencies(
    q: Reading, spectrum: Spectrum, freqs: Tensor, expected: RotaryEmbedding
) -> list[str]:
    if close(q.frequencies, freqs):
        return []
    if close(q.frequencies, -freqs):
        return ["wrong direction"]
    plain = expected.frequencies().detach().double()
    if expected.scaling is not None and len(plain) == len(q.frequencies) and close(q.frequencies, plain):
        return ["scaling dropped"]
    wanted = recognise(freqs, expected.dim)
    bases = wanted.base, spectrum.base
    if None not in bases and wanted.kind == spectrum.kind == "geometric":
        return ["wrong base"]
    return ["wrong frequencies"]


def close(left: Tensor, right: Tensor) -> bool:
    """Whether two lists of measured numbers are equal."""
    return left.shape == right.shape and bool(((left - right).abs() <= NEAR * right.abs() + 1e-7).all())


def _usual(factor: float) -> bool:
    return any(abs(factor / usual - 1) < 1e-4 for usual in FACTORS) or math.isclose(factor, 1, rel_tol=1e-4)
