"""Whether code has replaced something in torch or in this package, seen by comparing before and after."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import torch

OURS = "rope_lab"
_MOVES = ("torch.Storage",)  # torch.set_default_dtype replaces it, and that is allowed
_TORCH = ("torch", "torch.nn.functional", "torch.linalg", "torch.fft", "torch.special", "torch.random")


def parts() -> dict[str, object]:
    """Functions, classes and methods of torch and of this package by name, as they are now."""
    return dict(_found())


def _found() -> Iterator[tuple[str, object]]:
    for holder in [name for name in sys.modules if name in _TORCH or name.split(".")[0] == OURS]:
        for name, thing in list(vars(sys.modules[holder]).items()):
            if callable(thing) and not name.startswith("__"):
                yield f"{holder}.{name}", thing
            if inspect.isclass(thing) and thing.__module__ == holder and holder.split(".")[0] == OURS:
                yield from _methods(f"{holder}.{name}", thing)
    yield from _methods("torch.Tensor", torch.Tensor)


def _methods(name: str, kind: type) -> Iterator[tuple[str, object]]:
    for method in dir(kind):
        thing = inspect.getattr_static(kind, method, None)
        if callable(thing) or isinstance(thing, (classmethod, staticmethod, property)):
            yield f"{name}.{method}", thing


def replaced(before: dict[str, object]) -> str:
    """A sentence if something is another object than before, or gone. What was added does not matter."""
    now = parts()
    for name, thing in before.items():
        if now.get(name) is not thing and name not in _MOVES:
            return f"your code replaces {name}; an answer may use torch and {OURS}, but not change them."
    return ""
