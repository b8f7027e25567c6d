"""The properties of a rotation, each asked of one that has just been made; most of them the doctor's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rope_lab.conformance.subject import Make, Subject
from rope_lab.doctor.battery import Battery, Property, judged
from rope_lab.doctor.box import Box, Refused, Unavailable
from rope_lab.doctor.probe import Reading, read, wrap

EXACT = 1e-5  # radians, and relative: what float32 makes of an exact angle is below it, a float32 angle far away is not
NEAR = 1e-4  # radians: the error of a float32 angle at position 100 is below it
FIRST = 300  # a position at which a text may begin
OTHER = 0.02  # relative: frequencies rounded to bfloat16 differ by less, those of another base or a scaling by more


class Inquiry:
    """One subject, and a fresh rotation for every question.

    Args:
        subject: what is asked.
        dim: coordinates of a head.
    """

    def __init__(self, subject: Subject, dim: int = 64) -> None:
        self.subject, self.dim = subject, dim
        self._opened: dict[Make, tuple[Box, Reading | None, Reading | None]] = {}

    def battery(self, *ways: Make | None, takes: str = "") -> Battery:
        """The doctor's tests of a fresh rotation, called in the first of these ways that there is.

        Raises:
            Unavailable: if there is none, or none that takes what is asked for, "positions" or "any" of these or an
                offset.
        """
        for way in (*ways, self.subject.make):
            if way is None:
                continue
            if way not in self._opened:
                self._opened[way] = self._open(way)
            box, q, k = self._opened[way]
            if takes == "positions" and (box.given != "positions" or box.drops):
                continue
            if takes == "any" and (box.given == "nothing" or box.drops):
                continue
            box.turn = self.fresh(way)
            return Battery(box, q, k)
        raise Unavailable(
            "it takes no positions" if takes == "positions" else "it takes neither positions nor an offset"
        )

    def fresh(self, way: Make) -> Callable[..., Any]:
        """A rotation that has not been called, with the state that it was made with."""
        made = way(self.dim)
        return copy.deepcopy(made) if isinstance(made, nn.Module) else made

    def _open(self, way: Make) -> tuple[Box, Reading | None, Reading | None]:
        box = Box(self.fresh(way), self.dim)
        try:
            q = read(box)
            return box, q, read(box, "k") if box.style != "x" else None
        except Refused:  # no rotation of pairs; the properties that need none are asked all the same
            return box, None, None

    def doctor(self, test: str, *ways: Make | None, takes: str = "") -> Callable[[str], Property]:
        """One of the doctor's tests, by its name."""
        return lambda name: getattr(self.battery(*ways, takes=takes), test)(name)

    def number(self, test: str) -> Callable[[str], Property]:
        """The doctor's test of a number type; an error that the rotation raises is a failure here."""

        def ask(name: str) -> Property:
            battery = self.battery()
            if (
                test != "double"
            ):  # where angles follow the length, frequencies alone do not say what comes out
                battery.simple = answer(name, self.battery().length).holds is not False
            return must(name, lambda: getattr(battery, test)(name))

        return ask

    def relative(self, name: str) -> Property:
        battery = self.battery()
        found = battery.relative(name)
        images = battery.box.at(battery.draw(4), [0, 1])
        if found.holds and judged(name, images[:, 1], images[:, 0]).holds:
            return Property(name, False, "positions change nothing")
        return found

    def first(self, name: str) -> Property:
        battery = self.battery()
        x = battery.draw(1, 2, 3)
        return judged(name, battery.box.call(x)[..., :1, :], x[..., :1, :], allowed=1e-6)

    def far(self, position: int) -> Callable[[str], Property]:
        """Whether the angles at a far position are those of whole numbers times θ_i, in radians."""

        def ask(name: str) -> Property:
            battery = self.battery(self.subject.positions, self.subject.offset, takes="any")
            return self._angles(name, battery, [float(position + i) for i in range(50)], EXACT)

        return ask

    def real(self, name: str) -> Property:
        battery = self.battery(self.subject.positions, takes="positions")
        return self._angles(name, battery, [0.5, 2.25, 17.125, 99.75], NEAR)

    def _angles(self, name: str, battery: Battery, positions: list[float], allowed: float) -> Property:
        """The angles of all pairs compared with m·θ_i, which float64 holds within 1e-8."""
        box, q = battery.box, battery.q
        if q is None:
            raise Unavailable("its pairs are not known")
        a, b = q.pairs.T
        theta = self.subject.base ** (-torch.arange(len(a), dtype=torch.float64) / len(a))
        if float((q.frequencies.abs() / theta - 1).abs().max()) > OTHER:
            raise Unavailable(f"its frequencies are not those of base {self.subject.base:,.0f}")
        vectors, m = torch.eye(self.dim)[a], torch.tensor(positions)
        if (m == m.round()).all():
            images = box.at(vectors, [int(one) for one in positions])
        else:
            x = vectors[:, None].expand(-1, len(m), -1).reshape(1, 1, len(a) * len(m), -1)
            images = box.call(x, m.repeat(len(a))).view(len(a), len(m), -1)
        rows = torch.arange(len(a))
        images = images[..., q.order].double()
        found = torch.atan2(images[rows, :, b], images[rows, :, a])  # (P, M)
        wanted = theta.mul(q.frequencies.sign())[:, None] * torch.tensor(positions, dtype=torch.float64)
        error = float(wrap(found - wanted).abs().max())
        return Property(name, error < allowed, "" if error < allowed else "radians", error)

    def starts(self, name: str) -> Property:
        battery = self.battery(self.subject.offset, self.subject.positions, takes="any")
        x = battery.draw(1, 2, FIRST + 9)
        whole = self.battery().box.call(x)[..., FIRST:, :]
        return judged(name, battery.box.call(x[..., FIRST:, :], offset=FIRST), whole)

    def cached(self, name: str) -> Property:
        ways = (self.subject.cached, self.subject.make, self.subject.offset, self.subject.positions)
        reason = Unavailable("it takes neither positions, an offset, nor fewer queries than keys")
        for way in [one for one in ways if one is not None]:
            try:
                return self.battery(way).cached(name)
            except Unavailable as error:
                reason = error
        raise reason

    def partial(self, name: str) -> Property:
        if self.subject.partial is None:
            part = self.turning
            whole = (
                "it turns whole heads" if part == self.dim else f"it turns {part} of {self.dim} coordinates"
            )
            raise Unavailable(f"as it is called here, {whole}")
        part = self.dim // 2
        turn = self.subject.partial(part, self.dim)
        x = self.battery().draw(1, 2, 9)
        found = Box(turn, self.dim).call(x)
        if not torch.equal(found[..., part:], x[..., part:]):
            return Property(name, False, "the other coordinates change")
        return judged(name, found[..., :part], Box(self.subject.make(part), part).call(x[..., :part]))

    def shapes(self, name: str) -> Property:
        box, wanted = self.battery().box, self.subject.heads_last
        if box.ndim < 4 or box.axis == 0 or wanted is None:
            raise Unavailable(f"as it is called here, it takes {box.shape}")
        x = self.battery().draw(2, 3, 7)
        return judged(name, Box(wanted(self.dim), self.dim, axis=1).call(x), box.call(x))

    def odd(self, name: str) -> Property:
        if self.turning < self.dim - 1:
            raise Unavailable("it turns a part of the head, which may have any width")
        make, odd = self.subject.odd or self.subject.make, self.dim - 1
        try:
            Box(make(odd), odd)
        except Refused as refusal:
            silent = str(refusal).startswith(("it changes", "it returns"))
            return Property(name, not silent, str(refusal) if silent else "")
        except Exception:  # refused where it is made
            return Property(name, True)
        return Property(name, False, f"it takes {odd}")

    def gradient(self, name: str) -> Property:
        """The gradient is the upstream gradient turned back, so that turning it again gives what came in."""
        box = self.battery().box
        draw = self.battery().draw
        x, upstream = draw(1, 2, 40).requires_grad_(), draw(1, 2, 40)
        with torch.enable_grad():
            out = box.call(x)
            if not out.requires_grad:
                return Property(name, False, "no gradient flows")
            try:
                (back,) = torch.autograd.grad(out, x, upstream)
            except Exception as error:  # a stranger's backward may raise anything
                return Property(name, False, said(error))
        return judged(name, box.call(back), upstream)

    def compiled(self, name: str) -> Property:
        battery = self.battery()
        box, x = battery.box, battery.draw(1, 2, 40)
        wanted, plain = box.call(x), box.turn
        torch.compiler.reset()
        try:
            box.turn = torch.compile(plain, fullgraph=True, backend="eager")
            found = box.call(x)
        except Exception as error:
            text = str(error).strip().splitlines()
            return Property(name, False, text[0][:70] if text else type(error).__name__)
        finally:
            box.turn = plain
            torch.compiler.reset()
        return judged(name, found, wanted)

    def cast(self, name: str) -> Property:
        """One module is cast before its first call and one after it, which may have filled a cache."""
        battery = self.battery()
        box, module = battery.box, battery.box.turn
        if not isinstance(module, nn.Module):
            raise Unavailable("it is a function")
        x, early = battery.draw(1, 1, 1024).bfloat16(), copy.deepcopy(module).bfloat16()
        wanted = box.call(x.float())
        errors = []
        for box.turn in (early, module.bfloat16()):
            try:
                found = box.call(x).float()
            except Exception as error:  # a stranger's module may raise anything
                return Property(name, False, said(error))
            errors.append(float((found - wanted).norm() / wanted.norm()))
        worst = max(errors, key=lambda one: (one != one, one))
        return Property(name, worst < 0.02, "" if worst < 0.02 else f"off by {worst:.1%}", worst)

    @property
    def turning(self) -> int:
        """How many coordinates turn."""
        q = self.battery().q
        return self.dim if q is None else 2 * len(q.pairs)

    def saved(self, name: str) -> Property:
        turn = self.fresh(self.subject.make)
        if not isinstance(turn, nn.Module):
            raise Unavailable("it is a function")
        self.battery().box.call(self.battery().draw(1, 2, 5))
        learned = {key for key, one in turn.named_parameters() if one.requires_grad}
        fixed = [key.rpartition(".")[2] for key in turn.state_dict() if key not in learned]
        return Property(name, not fixed, ", ".join(fixed), float(len(fixed)) if fixed else None)


def answer(name: str, ask: Callable[[str], Property]) -> Property:
    """What a question finds; whatever the rotation raises makes the answer "cannot be asked", with the reason."""
    try:
        with torch.no_grad():
            return ask(name)
    except Unavailable as error:
        return Property(name, None, str(error))
    except Exception as error:  # a stranger's function may raise anything
        return Property(name, None, said(error))


def must(name: str, ask: Callable[[], Property]) -> Property:
    """What a test finds, where an error that the rotation raises is a failure."""
    try:
        return ask()
    except (Refused, Unavailable):
        raise
    except Exception as error:  # a stranger's function may raise anything
        return Property(name, False, said(error))


def said(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:70]}"
