"""`diagnose`: from a black box to what it does, which properties it has, and which known bug it matches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from rope_lab.checks import check_integers
from rope_lab.doctor import rules
from rope_lab.doctor.battery import Battery, Property
from rope_lab.doctor.box import AXES, Box, Refused, Side
from rope_lab.doctor.museum import KNOWN, Bug
from rope_lab.doctor.probe import Reading, read
from rope_lab.doctor.spectrum import Spectrum, recognise
from rope_lab.doctor.tables import FORMS, own_table, wants_tables, with_tables
from rope_lab.encodings import RotaryEmbedding


@dataclass(frozen=True)
class Diagnosis:
    """What a rotation does.

    Attributes:
        dim: coordinates of a head.
        refused: what the function is, if it is not a rotation that can be described; otherwise empty.
        takes: how it is called, in words.
        q, k: what becomes of queries and keys; k is None if there is one function for both.
        spectrum: what the frequencies are.
        properties: the answers of the battery.
        bugs: the known bugs that it matches, faults first.
        notes: what cannot be told apart.
    """

    dim: int
    refused: str = ""
    takes: str = ""
    q: Reading | None = None
    k: Reading | None = None
    spectrum: Spectrum | None = None
    properties: tuple[Property, ...] = ()
    bugs: tuple[Bug, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def faults(self) -> tuple[str, ...]:
        """Names of what is wrong: known bugs that are faults, and properties that fail without a known bug."""
        known = [bug.name for bug in self.bugs if bug.level == "fault"]
        explained = bool(known)
        loose = [one.name for one in self.properties if one.holds is False and not one.bug and not explained]
        return (*known, *loose)

    @property
    def limits(self) -> tuple[str, ...]:
        """Names of what is harmless within bounds."""
        return tuple(bug.name for bug in self.bugs if bug.level == "limit")

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong; limits are allowed."""
        return not self.refused and not self.faults

    def __getitem__(self, name: str) -> Property:
        """The property of this name."""
        return next(one for one in self.properties if one.name == name)

    def __str__(self) -> str:
        from rope_lab.doctor.report import text

        return text(self)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain numbers and texts, for JSON."""
        from rope_lab.doctor.report import plain

        return plain(self)


def diagnose(
    turn: Callable[..., Any],
    dim: int,
    *,
    axis: int | None = None,
    expected: RotaryEmbedding | None = None,
) -> Diagnosis:
    """Find out by probing what an unknown rotation does, and which known bug it has.

    The function is only called, on unit vectors and random numbers; its code is not read. What cannot be told is left
    open.

    Args:
        turn: maps `(x, positions)` to the turned `x`, or `(q, k)` to `(q, k)`, with tensors (B, H, N, D), (B, N, H, D),
            (N, B, H, D), (B, N, D) or (N, D); arguments such as `positions`, `position_ids` or `offset` are found by
            their names. A function of `(q, k, cos, sin)` gets tables of the doctor; see `with_tables` for others.
        dim: coordinates of a head, D.
        axis: the token axis of its tensors with four axes: 2, 1 or 0. By default it is found; then a function that
            takes the batch index for the position looks like one for (N, B, H, D).
        expected: what the rotation should be, for example `rope_lab.interop.huggingface.rotary_embedding(config)`. It
            is needed to see bugs such as a wrong base, each of which is a correct rotation by itself.

    Raises:
        ValueError: if `dim` is not a positive integer or `axis` is another one.
        TypeError: if `turn` is not callable.

    Source: the 25 lines of chapter 5, and chapter 18.
    """
    if not callable(turn):
        raise TypeError(f"turn must be callable, got {type(turn).__name__}")
    check_integers(1, dim=dim)
    if axis not in (None, 0, 1, 2):
        raise ValueError(f"axis must be 0, 1 or 2, got {axis!r}")
    state = torch.random.get_rng_state()
    try:
        with torch.no_grad():
            return _with_own_tables(turn, dim, axis, expected)
    finally:
        torch.random.set_rng_state(state)


def _with_own_tables(
    turn: Callable[..., Any], dim: int, axis: int | None, expected: RotaryEmbedding | None
) -> Diagnosis:
    if not wants_tables(turn):
        return _diagnose(turn, dim, axis, expected, own=False)
    found: list[Diagnosis] = []
    for form in FORMS:
        found.append(_diagnose(with_tables(turn, own_table(dim, form)), dim, axis, expected, own=True))
        if found[-1].sound:
            break
    best = min(found, key=lambda one: (bool(one.refused), len(one.faults)))
    note = f"cosine and sine are the doctor's own, base 10,000, in the form {FORMS[found.index(best)]!r}"
    return Diagnosis(**{**vars(best), "notes": (note, *best.notes)})


def _diagnose(
    turn: Callable[..., Any], dim: int, axis: int | None, expected: RotaryEmbedding | None, *, own: bool
) -> Diagnosis:
    try:
        box = Box(turn, dim, axis)
        _check_plain(box)
    except Refused as refusal:
        bugs = tuple(KNOWN[name] for name in (refusal.bug,) if name)
        return Diagnosis(dim, str(refusal), bugs=bugs)
    takes = _takes(box)
    if box.strays is not None and not box.drops:
        name = f"{AXES[box.strays]} index for position"
        return Diagnosis(dim, takes=takes, bugs=(KNOWN[name],), notes=("the rest cannot be told",))
    try:
        q, k = _sides(box)
    except Refused as refusal:
        bugs = tuple(KNOWN[name] for name in (refusal.bug,) if name)
        one_side = refusal.bug == "one side only"
        tried = Battery(box, None, None).run() if one_side or not refusal.bug else []
        # with one side at rest, the other properties would speak of queries alone
        properties = tuple(one for one in tried if one.name == "relative" or not one_side)
        return Diagnosis(dim, str(refusal), takes, properties=properties, bugs=bugs)
    spectrum = recognise(q.frequencies, q.width, q.factor)
    properties = tuple(Battery(box, q, k).run())
    names = rules.bugs_of_sides(q, k)
    left_out = rules.CONSEQUENCES if {side.fault for side in (q, k) if side} - {"", "gain"} else set()
    if set(names) <= {"gain"} and not own:
        names += rules.bugs_of_spectrum(spectrum, q.width)
    if set(names) <= {"gain"} and expected is not None:
        names += rules.bugs_against(q, spectrum, expected)
    names += [one.bug for one in properties if one.holds is False and one.bug and one.bug not in left_out]
    found = sorted((KNOWN[name] for name in dict.fromkeys(names)), key=lambda bug: bug.level)
    return Diagnosis(
        dim, "", takes, q, k, spectrum, properties, tuple(found), tuple(_notes(box, q, spectrum))
    )


def _sides(box: Box) -> tuple[Reading, Reading | None]:
    """What becomes of queries, and of keys if they are not one and the same function."""
    if box.style == "x":
        return read(box), None
    found: dict[Side, Reading] = {}
    still: dict[Side, Refused] = {}
    sides: tuple[Side, Side] = ("q", "k")
    for side in sides:
        try:
            found[side] = read(box, side)
        except Refused as refusal:
            if refusal.bug != "no rotation":
                raise
            still[side] = refusal
    if len(still) == 2:
        raise still["q"]
    if still:
        turns, stays = ("queries", "keys") if "k" in still else ("keys", "queries")
        raise Refused(f"it turns {turns} and leaves {stays} as they are", "one side only")
    return found["q"], found["k"]


def _check_plain(box: Box) -> None:
    """Refuse what is random, not finite or not linear, before it is read as a matrix."""
    x, y = torch.randn(2, 1, 2, 4, box.dim, generator=torch.Generator().manual_seed(2))
    first, again = box.call(x), box.call(x)
    if not torch.isfinite(first).all():
        raise Refused("it returns NaN or infinity for finite numbers")
    if not torch.allclose(first, again, rtol=0, atol=1e-5):
        raise Refused("it is random: two calls with the same tensor differ")
    if float(box.call(torch.zeros_like(x)).abs().max()) > 1e-5:
        raise Refused("it adds something: a vector of zeros does not stay zeros, so it is not linear in x")
    both = box.call(2 * x - 3 * y)
    error = float((both - (2 * first - 3 * box.call(y))).abs().max() / both.abs().max().clamp(min=1e-12))
    if error > 0.02:
        raise Refused(f"it is not linear in x: f(2x − 3y) and 2f(x) − 3f(y) differ by {error:.0%}")


def _takes(box: Box) -> str:
    tensors = {"x": "x", "qk": "(q, k)", "qkv": "(q, k, v)"}[box.style] + f" of shape {box.shape}"
    if box.given == "positions":
        return f"{tensors}, with positions {'(B, N)' if box.by_row else '(N,)'}"
    return f"{tensors}, with an offset" if box.given == "offset" else f"{tensors}, without positions"


def _notes(box: Box, q: Reading, spectrum: Spectrum) -> list[str]:
    notes = []
    if box.given != "positions" and box.axis == 0 and box.ndim == 4 and box.wanted is None:
        notes.append(
            "if your tensors are (B, H, N, D) and not (N, B, H, D), the batch index is taken for the position"
        )
    if box.given != "positions" and box.axis == 1 and box.ndim == 4 and box.wanted is None:
        notes.append(
            "if your tensors are (B, H, N, D) and not (B, N, H, D), the head index is taken for the position"
        )
    if spectrum.kind == "ntk":
        notes.append("NTK-aware scaling and a base that was this large from the start cannot be told apart")
    if q.layout == "interleaved" and q.width < box.dim and q.begin == 0:
        notes.append("partial rotation and p-RoPE with another base cannot be told apart in this layout")
    if abs(q.start) > 1e-3:
        notes.append(f"the first token is turned as position {q.start:.3g}, which changes no score by itself")
    if q.layout == "another pairing":
        notes.append("pairs: " + ", ".join(f"{a}–{b}" for a, b in q.pairs[:6].tolist()) + ", …")
    return notes
