"""An unknown rotation behind one interface: `Box.at(vectors, positions)`, however the original is called.

How it is called is found by trying, and by the names of its parameters. Its code is not looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

Turn = Callable[..., Any]
Side = Literal["q", "k", "v"]
POSITIONS = ("positions", "position_ids", "input_pos", "pos", "position", "m", "t", "ids")
OFFSETS = ("offset", "start_pos", "seqlen_offset", "start_index", "past_length")
KEYS = ("k", "key", "keys", "xk")
SHAPES = {2: "(B, H, N, D)", 1: "(B, N, H, D)", 0: "(N, B, H, D)"}
AXES = ("batch", "head", "row")  # of a tensor (B, H, N, D)
TOKENS = 5  # of the first calls; no other axis has this size
MANY = 4096  # so many tokens are made to reach a position that cannot be given
MOVED = 1e-4  # a smaller difference is rounding


class Refused(Exception):
    """The function has no rotation to describe; the message says what it is, and `bug` which known bug."""

    def __init__(self, message: str, bug: str = "") -> None:
        super().__init__(message)
        self.bug = bug


class Unavailable(Exception):
    """The function cannot be asked this, for example for a position that it does not take."""


class Box:
    """The function, and how it is called.

    Args:
        turn: the unknown function.
        dim: coordinates of a head.
        axis: the token axis of its tensors with four axes, if it is known: 2, 1 or 0.

    Attributes:
        style: "x" for one tensor, "qk" for queries and keys, "qkv" if it takes values as well.
        ndim: how many axes its tensors have: 4, 3 or 2.
        axis: the token axis of a tensor of four axes.
        given: what it takes beside the tensors: "positions", "offset" or "nothing".
        strays: the axis of (B, H, N) along which equal vectors at equal positions come back different, if any.
        drops: whether it takes positions and does not use them.
        copies: whether it gets a copy of each tensor.

    Raises:
        Refused: if no call succeeds, or none returns the shape that it was given.
    """

    def __init__(self, turn: Turn, dim: int, axis: int | None = None) -> None:
        self.turn, self.dim, self.wanted = turn, dim, axis
        self.style, self.given, self.ndim, self.axis = "x", "nothing", 4, 2
        self.names = parameters(turn)
        self.position = next((name for name in self.names if name in POSITIONS), "")
        self.offset = next((name for name in self.names if name in OFFSETS), "")
        self.by_row, self.drops, self.copies = False, False, True
        self.strays: int | None = None
        self._open()

    @property
    def shape(self) -> str:
        """The shape of its tensors, in words."""
        return {4: SHAPES[self.axis], 3: "(B, N, D)", 2: "(N, D)"}[self.ndim]

    def call(
        self,
        x: Tensor,
        positions: Tensor | None = None,
        *,
        offset: int = 0,
        side: Side = "q",
        keys: Tensor | None = None,
    ) -> Tensor:
        """Turn `x` (B, H, N, D) to `positions`, (N,) or (B, N); `keys` take the place of x as keys."""
        if self.ndim == 2:
            rows = x.flatten(0, 1)
            of_keys = rows if keys is None else keys.flatten(0, 1)
            each = [
                self._one(row, positions, offset, side, None if keys is None else k)
                for row, k in zip(rows, of_keys, strict=True)
            ]
            return torch.stack(each).view(*x.shape[:2], *each[0].shape)
        if self.ndim == 3:
            flat = None if keys is None else keys.flatten(0, 1)
            if positions is not None and positions.ndim == 2:
                positions = positions.repeat_interleave(x.shape[1], 0)
            out = self._one(x.flatten(0, 1), positions, offset, side, flat)
            return out.view(*x.shape[:2], *out.shape[1:])
        moved = None if keys is None else keys.movedim(2, self.axis)
        return self._one(x.movedim(2, self.axis), positions, offset, side, moved).movedim(self.axis, 2)

    def at(self, vectors: Tensor, positions: Sequence[int], side: Side = "q") -> Tensor:
        """Every vector (V, D) turned to every position: (V, M, D)."""
        count, m, furthest = len(vectors), torch.tensor(list(positions)), max(positions)
        if self.given == "positions" and not self.drops:
            x = vectors[:, None].expand(-1, len(m), -1).reshape(1, 1, count * len(m), -1)
            return self.call(x, m.repeat(count), side=side).view(count, len(m), -1)
        if furthest < MANY:
            x = vectors[:, None, None].expand(-1, 1, furthest + 1, -1)
            return self.call(x, side=side)[:, 0, m]
        if self.given != "offset":
            raise Unavailable("it takes neither positions nor an offset")
        each = [self.call(vectors[:, None, None], offset=int(i), side=side)[:, 0, 0] for i in m]
        return torch.stack(each, dim=1)

    def _one(
        self, x: Tensor, positions: Tensor | None, offset: int, side: Side, keys: Tensor | None
    ) -> Tensor:
        """One call of the function itself."""
        x = x.clone(memory_format=torch.contiguous_format) if self.copies else x  # it may write into it
        longest = x if keys is None else keys
        count = longest.shape[self.axis if x.ndim == 4 else -2]
        heads = [x] if self.style == "x" else [x, (x if keys is None else keys).clone()]
        heads += [heads[1].clone()] if self.style == "qkv" else []
        given: dict[str, Any] = {}
        if self.given == "positions":
            m = torch.arange(count) + offset if positions is None else positions
            if self.by_row and m.ndim == 1:
                m = m.expand(x.shape[1 if x.ndim == 4 and self.axis == 0 else 0] if x.ndim > 2 else 1, -1)
            given[self.position] = m
        elif positions is not None or (offset and self.given == "nothing"):
            raise Unavailable(
                "it takes no positions" if self.given == "nothing" else "it takes an offset only"
            )
        elif offset:
            given[self.offset] = offset
        found = self.turn(*heads, *given.values()) if "" in given else self.turn(*heads, **given)
        if isinstance(found, tuple | list) and len(found) >= len(heads) and self.style != "x":
            found = found["qkv".index(side)]
        if not isinstance(found, Tensor):
            inside = f" of {len(found)}" if isinstance(found, tuple | list) else ""
            raise TypeError(f"it returns a {type(found).__name__}{inside}, not the turned tensors")
        return found

    def _open(self) -> None:
        """Find how it is called, and which axis it takes for that of the tokens."""
        pairs = len(self.names) > 1 and self.names[1] in KEYS
        both = "qkv" if {"v", "value", "values"} & set(self.names) else "qk"
        reasons: list[str] = []
        for style in [both] if pairs else ["x"] if self.position or self.offset else ["x", "qk"]:
            for given in self._ways(style):
                for by_row in (False, True) if given == "positions" else (False,):
                    self.style, self.given, self.by_row = style, given, by_row
                    if self._find_shape(reasons):
                        return
        raise Refused(next((r for r in reasons if "shape" in r or "NaN" in r), reasons[0]))

    def _ways(self, style: str) -> tuple[str, ...]:
        if self.position or self.offset:
            return ("positions",) if self.position else ("offset",)
        return ("positions", "nothing") if style == "x" and len(self.names) != 1 else ("nothing",)

    def _find_shape(self, reasons: list[str]) -> bool:
        """Set `ndim` and `axis` to the first that give back what they were given."""
        vector = torch.randn(self.dim, generator=torch.Generator().manual_seed(1))
        axes = (2, 1, 0) if self.wanted is None else (self.wanted,)
        for self.ndim, self.axis in [*((4, axis) for axis in axes), (3, 2), (2, 2)]:
            x = vector.expand(2, 3, TOKENS, -1)
            out = self._try(x, reasons)
            if out is None:
                continue
            if not torch.isfinite(out).all():
                raise Refused("it returns NaN or infinity for finite numbers")
            if self.ndim > 2 and self._try(x[:1, :1], reasons) is None:
                raise Refused(
                    f"it needs a batch: with two rows it works, with one it does not: {reasons[-1]}"
                )
            self._find_axis(vector, out)
            return True
        self.ndim, self.axis = 3, 2  # a square batch is all that a wrong broadcast takes
        for self.ndim, sizes in ((3, (1, TOKENS)), (4, (TOKENS, TOKENS))):
            if (out := self._try(vector.expand(*sizes, TOKENS, -1), reasons)) is not None:
                index = "batch" if moving(out)[-1:] != [2] else ""
                raise Refused(
                    f"it needs a batch of {TOKENS} rows for {TOKENS} tokens: other sizes fail",
                    bug=f"{index} index for position" if index else "",
                )
        return False

    def _try(self, x: Tensor, reasons: list[str]) -> Tensor | None:
        """The result of a call if it has the shape of x; otherwise the reason is added."""
        try:
            out = self.call(x)
        except Exception as error:  # a stranger's function may raise anything
            text = " ".join(str(error).split())[:120]
            reasons.append(text if text.startswith("it returns") else f"{type(error).__name__}: {text}")
            return None
        if out.shape != x.shape:
            sizes = f"{tuple(x.shape)} (B, H, N, D) becomes {tuple(out.shape)}"
            reasons.append(f"it changes the shape: {sizes}")
            return None
        return out

    def _find_axis(self, vector: Tensor, out: Tensor) -> None:
        """Which axis holds the positions: equal vectors come back different along it, and along no other."""
        if self.given == "positions":
            x = vector.expand(2, 3, TOKENS, -1)
            same = moving(self.call(x, torch.full((TOKENS,), 3)))
            if same:
                self.strays, self.drops = same[-1], same == [2]
            return
        axes = moving(out)
        if axes in ([], [2]):
            return
        if self.ndim == 4 and self.wanted is None and len(axes) == 1:
            self.axis = axes[0]
            return
        self.strays = axes[0]


def moving(out: Tensor) -> list[int]:
    """The axes but the last along which a tensor is not constant."""
    return [i for i in range(out.ndim - 1) if (out - out.narrow(i, 0, 1)).abs().max() > MOVED]


def parameters(turn: Turn) -> list[str]:
    """Names of the parameters without a leading star; none if they cannot be read."""
    try:
        signature = inspect.signature(turn.forward if isinstance(turn, nn.Module) else turn)
    except (TypeError, ValueError):
        return []
    stars = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [name for name, one in signature.parameters.items() if one.kind not in stars]
