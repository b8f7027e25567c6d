"""The properties that a rotation of queries and keys should have, each tried on random numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rope_lab.doctor.box import Box, Side, Unavailable
from rope_lab.doctor.probe import Reading, wrap

TOLERANCE = 1e-3  # relative; angles in float32 are off by 1e-4 at position 1,000
ROUNDING = 5e-5  # relative: more than float32 makes of a length, less than tables of half precision
FAR = 1_000_000
LONG = 200_000  # longer than what models are trained on, so that a scaling by length shows


@dataclass(frozen=True)
class Property:
    """One answer: `holds` is None where it cannot be told. `bug` names what was seen to go wrong."""

    name: str
    holds: bool | None
    says: str = ""
    error: float | None = None
    bug: str = ""


class Battery:
    """All properties of one function, `run()` in the order in which they are shown."""

    def __init__(self, box: Box, q: Reading | None, k: Reading | None, seed: int = 0) -> None:
        self.box, self.q, self.k = box, q, k or q
        self.rounded = False  # whether the tables are of half precision
        self.simple = True  # whether positions and frequencies alone say what comes out
        self.random = torch.Generator().manual_seed(seed)

    def run(self) -> list[Property]:
        """Every property; whatever the function raises makes its answer "cannot tell"."""
        tests: dict[str, Callable[[str], Property]] = {
            "linear in x": self.linear,
            "norm kept": self.norm,
            "relative": self.relative,
            "additive": self.additive,
            f"position {FAR:,}": self.far,
            "positions used": self.used,
            "rows of positions": self.rows,
            "packed = apart": self.packed,
            "cached = full": self.cached,
            "values left alone": self.values,
            "input unchanged": self.unchanged,
            "dtype kept": self.dtype,
            "float64": self.double,
            "length independent": self.length,
            "module.bfloat16()": self.cast,
            "bfloat16": self.bfloat16,  # from here on with more tokens each than before: a cache may be wrong after it
            "float16": self.float16,
            "stateless": self.stateless,
        }
        found = []
        for name, test in tests.items():
            try:
                found.append(test(name))
            except Unavailable as error:
                found.append(Property(name, None, str(error)))
            except Exception as error:  # a stranger's function may raise anything
                text = " ".join(str(error).split())[:90]
                found.append(Property(name, None, f"{type(error).__name__}: {text}"))
        return [one for one in found if one.holds is not None or one.says]

    def draw(self, *shape: int) -> Tensor:
        """Normal numbers (…, dim), float32."""
        return torch.randn(*shape, self.box.dim, generator=self.random)

    def linear(self, name: str) -> Property:
        x, y = self.draw(1, 1, 6), self.draw(1, 1, 6)
        both = self.box.call(2 * x - 3 * y)
        answer = judged(name, both, 2 * self.box.call(x) - 3 * self.box.call(y))
        if answer.holds or (answer.error or 1) > 20 * TOLERANCE:
            return answer
        self.rounded = True
        return Property(name, False, "products are rounded", answer.error, "rounded tables")

    def norm(self, name: str) -> Property:
        x = self.draw(3)
        norms = self.box.at(x, [0, 1, 100, 500]).norm(dim=-1)
        error = float(((norms - norms[:, :1]) / norms[:, :1]).abs().max())
        if error >= TOLERANCE and self.q is not None and self.grows:
            return Property(name, False, "they grow or shrink with the position", error, "scales")
        if (ROUNDING if not self.rounded else 0) < error < 10 * TOLERANCE:
            self.rounded = True
            return Property(name, False, "cosine and sine are rounded", error, "rounded tables")
        return Property(name, error < TOLERANCE, "", error)

    @property
    def grows(self) -> bool:
        """Whether lengths change with the position, by the same scale in both coordinates of a pair."""
        return self.q is not None and not self.q.fault and bool(self.q.growth.abs().max() > 1e-5)

    def relative(self, name: str) -> Property:
        q, k = self.draw(8), self.draw(8)
        (m, n), shifts = (40, 9), (0, 1, 7, 100, 501)
        if self.grows and self.box.style == "x":
            raise Unavailable("lengths grow with the position: the keys must shrink, and are not seen")
        sides: tuple[Side, Side] = ("q", "q" if self.box.style == "x" else "k")
        left = self.box.at(q, [m + s for s in shifts], sides[0])
        right = self.box.at(k, [n + s for s in shifts], sides[1])
        scores = (left * right).sum(-1)
        allowed = 20 * TOLERANCE if self.rounded else TOLERANCE
        return judged(name, scores, scores[:, :1].expand_as(scores), allowed=allowed)

    def additive(self, name: str) -> Property:
        if self.q is None:
            raise Unavailable("its pairs are not known")
        phi = self.phases([0, 3, 8, 11, 200, 300, 500])
        phi = phi - phi[:1]  # the first position may be another than 0
        error = float(
            torch.maximum(wrap(phi[1] + phi[2] - phi[3]), wrap(phi[4] + phi[5] - phi[6])).abs().max()
        )
        return Property(name, error < 10 * TOLERANCE, "", error)

    def phases(self, positions: list[int]) -> Tensor:
        """The angle of each pair at each position, (M, P), read from unit vectors of first coordinates."""
        assert self.q is not None
        a, b = self.q.pairs.T
        images = self.box.at(torch.eye(self.box.dim)[a], positions)[..., self.q.order].double()
        rows = torch.arange(len(a))
        return torch.atan2(images[rows, :, b], images[rows, :, a]).T

    def far(self, name: str) -> Property:
        if self.q is None:
            raise Unavailable("its pairs are not known")
        if self.grows:
            raise Unavailable("lengths change with the position, and are out of range there")
        last = 0
        for size in (FAR, 100_000, 20_000, 4_000, 1_000, 300):
            a, b, c = size * 3 // 7 + 1, size // 5 + 3, size // 3 + 2
            try:
                phi = self.phases([a, b, a + c, b + c])
            except Exception:  # it has no such position
                continue
            last = size
            break
        if not last:
            raise Unavailable("it reaches no position of 300")
        error = float(wrap(phi[2] - phi[0] - phi[3] + phi[1]).abs().max())
        three = self.phases([last, last + 1, last - last // 7])
        if float(wrap(three - three[:1]).abs().max()) < 1e-6:
            self.simple = False
            return Property(name, False, "later positions share one rotation", error, "clamped")
        if last < FAR:
            text = f"it reaches {last:,} only; angles there are off by {error:.1g} rad"
            return Property(
                name, None if error < 0.05 else False, text, error, "" if error < 0.05 else "coarse"
            )
        if error < (20 * TOLERANCE if self.rounded else TOLERANCE):
            return Property(name, True, "angles exact", error)
        text = f"angles off by {error:.2g} rad"
        return Property(name, False, text, error, "float32 angles" if error < 0.3 else "coarse")

    def used(self, name: str) -> Property:
        if self.box.given == "nothing":
            raise Unavailable("it takes none")
        if self.box.drops:
            return Property(name, False, "the row is taken instead", bug="row index for position")
        return Property(name, True)

    def rows(self, name: str) -> Property:
        if self.box.given != "positions" or self.box.drops or self.box.ndim == 2:
            raise Unavailable("it takes no positions of rows" if self.box.ndim > 2 else "it has no rows")
        x = self.draw(2, 1, 5)
        m = torch.tensor([[0, 1, 2, 3, 4], [0, 0, 1, 2, 9]])
        each = [self.box.call(row[None], p)[0] for row, p in zip(x, m, strict=True)]
        both = self.box.call(x, m)
        if both.shape != x.shape:
            raise Unavailable("it takes positions (N,); those of rows would be broadcast over heads")
        if judged(name, both[1], self.box.call(x[1:], m[0])[0]).holds:
            return Property(
                name, False, "the first row's are taken for all", bug="first row's positions for all rows"
            )
        return judged(name, both, torch.stack(each))

    def packed(self, name: str) -> Property:
        if self.box.given != "positions" or self.box.drops:
            raise Unavailable("it takes no positions")
        x, m = self.draw(1, 1, 9), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 4])
        apart = [self.box.call(x[..., :4, :], m[:4]), self.box.call(x[..., 4:, :], m[4:])]
        return judged(name, self.box.call(x, m), torch.cat(apart, dim=-2))

    def cached(self, name: str) -> Property:
        x, n = self.draw(1, 1, 12), 12
        full = self.box.call(x)
        steps: list[Tensor] = []
        if self.box.given == "positions" and not self.box.drops:
            steps.append(self.box.call(x[..., -1:, :], torch.tensor([n - 1])))
        elif self.box.given == "offset":
            steps.append(self.box.call(x[..., -1:, :], offset=n - 1))
            steps.append(self.box.call(x[..., -4:, :], offset=n - 4)[..., -1:, :])
        if self.box.style == "qk":
            try:
                step = self.box.call(x[..., -1:, :], keys=x)
            except Exception:  # queries and keys of one length only
                step = None
            if step is not None and step.shape == x[..., -1:, :].shape:
                steps.append(step)
        if not steps:
            raise Unavailable("it takes neither positions, an offset, nor fewer queries than keys")
        same = self.box.at(x[0, 0, -1:], list(range(2 * n)))[0]
        for step in steps:
            if not (answer := judged(name, step, full[..., -1:, :])).holds:
                nearest = int((same - step.flatten()).norm(dim=-1).argmin())
                exact = judged(name, step.flatten(), same[nearest]).holds
                if exact and nearest == 0:
                    return Property(name, False, "the new token is turned as the first", bug="restarts")
                if exact:
                    text = f"the new token is turned as position {nearest} instead of {n - 1}"
                    return Property(name, False, text, bug="off by one" if abs(nearest - n + 1) == 1 else "")
                return answer
        return Property(name, True)

    def values(self, name: str) -> Property:
        if self.box.style != "qkv":
            return Property(name, None)
        x = self.draw(1, 1, 6)
        answer = judged(name, self.box.call(x, side="v"), x)
        return (
            answer if answer.holds else Property(name, False, "they turn too", answer.error, "values turned")
        )

    def stateless(self, name: str) -> Property:
        for count in (7_000, 1_400, 400):  # more tokens than a cache has seen, if it takes so many
            try:
                x = self.draw(1, 1, count + 100)
                self.box.call(x[..., :count, :])
                break
            except Exception:  # it has no such position
                continue
        some, few = x[..., :count, :], x[..., :40, :]
        between: dict[str, Callable[[], Any]] = {
            "in bfloat16": lambda: self.box.call(x.bfloat16()),
            "at other positions": lambda: self.box.call(few, torch.arange(40) + 13),
            "with an offset": lambda: self.box.call(few, offset=13),
            "of more tokens": lambda: self.box.call(x),
            "of fewer tokens": lambda: self.box.call(few),
        }
        before = [self.box.call(some), self.box.call(few)][::-1]
        for text, other in between.items():
            try:
                other()
            except Exception:  # it does not take such a call
                continue
            after = [self.box.call(few), self.box.call(some)]
            if not (answer := judged(name, torch.cat(after, 2), torch.cat(before, 2))).holds:
                return Property(name, False, f"a call {text} changes the next", answer.error, "poisoned")
        return Property(name, True)

    def unchanged(self, name: str) -> Property:
        stored = self.draw(1, 1, 5)
        kept = stored.clone()
        self.box.copies = False
        try:
            self.box.call(stored)
        finally:
            self.box.copies = True
        return judged(name, stored, kept, bug="in place")

    def dtype(self, name: str) -> Property:
        kinds, other = (torch.float32, torch.bfloat16, torch.float16), []
        for kind in kinds:
            try:
                found = self.box.call(self.draw(1, 1, 4).to(kind)).dtype
            except Exception as error:
                other.append(f"{_short(kind)}: {type(error).__name__}")
                continue
            if found != kind:
                other.append(f"{_short(kind)} becomes {_short(found)}")
        return Property(name, not other, ", ".join(other), bug="dtype" if other else "")

    def double(self, name: str) -> Property:
        if self.q is None:
            raise Unavailable("its pairs are not known")
        x = self.draw(1, 1, 1001).double()
        found = self.box.call(x)
        if found.dtype != torch.float64:
            return Property(name, False, f"becomes {_short(found.dtype)}", bug="dtype")
        # turned as one vector at all positions, its pairs have phases that add up
        a, b = self.q.pairs.T
        turned = self.box.call(torch.ones(1, 1, 1001, self.box.dim).double())[0, 0][:, self.q.order]
        phase = torch.atan2(turned[:, b], turned[:, a])
        phase = phase - phase[:1]
        error = float(wrap(phase[407] + phase[593] - phase[1000]).abs().max())
        if self.rounded:
            return Property(name, False, "its tables are rounded", error, "rounded tables")
        says = "" if error < 1e-9 else f"turned by angles of float32, off by {error:.1g} rad at 1,000"
        return Property(name, error < 1e-9, says, error, "" if error < 1e-9 else "double")

    def bfloat16(self, name: str) -> Property:
        return self.half(name, torch.bfloat16, (5000, 2000, 1000))

    def float16(self, name: str) -> Property:
        return self.half(name, torch.float16, (6000, 2040, 1000))

    def half(self, name: str, kind: torch.dtype, sizes: tuple[int, ...]) -> Property:
        """Whether a tensor of half precision is turned by the same positions as one of float32.

        It is compared with what the frequencies say and not with a call in float32, which may have filled a cache.
        """
        for tokens in sizes:
            x = self.draw(1, 1, tokens).to(kind)
            try:
                found = self.box.call(x).float()
                break
            except Exception:  # it has no such position, or not this dtype
                if tokens == sizes[-1]:
                    raise
        plain = self.q is None or self.q.fault or self.grows or not self.simple
        wanted = self.box.call(x.float()) if plain else self.predicted(x.float())
        error = float((found - wanted).norm() / wanted.norm())
        says, bug = f"off by {error:.1%} at {tokens:,} tokens", "" if error < 0.02 else "half positions"
        return Property(name, error < 0.02, says, error, bug)

    def predicted(self, x: Tensor) -> Tensor:
        """`x` (1, 1, N, D) turned to 0, 1, … by the frequencies that were read."""
        assert self.q is not None
        m = torch.arange(x.shape[-2])[:, None] + self.q.start
        a, b = self.q.pairs.T
        angle, turned = m * self.q.frequencies, x.double()
        first, second = self.q.factor * turned[..., a], self.q.factor * turned[..., b]
        turned = turned.clone()
        turned[..., a] = first * angle.cos() - second * angle.sin()
        turned[..., b] = second * angle.cos() + first * angle.sin()
        out = torch.empty_like(turned)
        out[..., self.q.order] = turned
        return out.float()

    def cast(self, name: str) -> Property:
        if not isinstance(self.box.turn, nn.Module):
            return Property(name, None)
        x = self.draw(1, 1, 1024)
        wanted, module = self.box.call(x), self.box.turn
        try:
            self.box.turn = copy.deepcopy(module).bfloat16()
            found = self.box.call(x.bfloat16()).float()
        finally:
            self.box.turn = module
        error = float((found - wanted).norm() / wanted.norm())
        return Property(
            name, error < 0.02, f"off by {error:.1%}", error, "" if error < 0.02 else "rounded buffers"
        )

    def length(self, name: str) -> Property:
        x, (m, n) = self.draw(1), (1, 7)
        wanted, seen = self.box.at(x, [m, n])[0], 0
        for far in (LONG, 4_000):
            try:
                if far == LONG:  # few tokens, one of which is far
                    if self.box.given != "positions" or self.box.drops:
                        continue
                    found = self.box.at(x, [m, n, far])[0, :2]
                else:
                    found = self.box.call(x.expand(1, 1, far, -1))[0, 0, [m, n]]
            except Exception:  # it has no such position
                continue
            # and again after it, so that what a cache remembers is not taken for it
            if not (answer := judged(name, found, wanted)).holds:
                if not judged(name, self.box.at(x, [m, n])[0], wanted).holds:
                    raise Unavailable("an earlier call changes it")
                self.simple = False
                return Property(
                    name, False, f"they are others for {far:,} tokens", answer.error, "follows the length"
                )
            seen = max(seen, far)
        if seen:
            return Property(name, True, f"seen up to {seen:,} tokens")
        raise Unavailable("it reaches no position of 4,000")


def judged(name: str, found: Tensor, wanted: Tensor, bug: str = "", allowed: float = TOLERANCE) -> Property:
    """Whether two tensors are equal, relative to the size of the second."""
    if found.shape != wanted.shape:
        return Property(name, False, f"shape {tuple(found.shape)} instead of {tuple(wanted.shape)}", bug=bug)
    error = float(
        (found.double() - wanted.double()).abs().max() / wanted.double().abs().max().clamp(min=1e-12)
    )
    holds = error < allowed
    return Property(name, holds, "", error, "" if holds else bug)


def _short(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
