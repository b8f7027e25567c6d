"""Calling a student's function: whatever it raises, prints, changes or returns becomes an outcome."""

from __future__ import annotations

import ctypes
import io
import math
import random
import signal
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from rope_lab.exercises.values import LARGEST, Unreadable, Value, Values, read

T = TypeVar("T")
PRINTED = 2_000  # characters that reach the page; what a function prints beyond them is dropped


@dataclass(frozen=True)
class Outcome:
    """What one call led to: values, or a sentence about why there are none.

    Attributes:
        values: what was returned; None if there is nothing to compare.
        failure: a sentence if there are no values.
        changed: the names of the arguments that the function changed in place.
        ended: True if the call was stopped, after which no further one is made.
    """

    values: Values | None
    failure: str = ""
    changed: tuple[str, ...] = ()
    ended: bool = False

    def plain(self) -> dict[str, Any]:
        """The outcome as lists and strings, which JSON can hold."""
        values: dict[str, Any] | None = None
        if self.values is not None:
            values = {}
            for name, v in self.values.items():
                flat = [[x.real, x.imag] for x in v.flat] if v.kind == "complex" else list(v.flat)
                values[name] = [v.kind, list(v.shape), flat, v.form]
        return {"values": values, "failure": self.failure, "changed": list(self.changed), "ended": self.ended}

    @classmethod
    def of(cls, plain: Any) -> Outcome:
        """The outcome of its plain form. What was read is not trusted: every entry is converted."""
        values = None
        if plain["values"] is not None:
            values = {}
            for name, (kind, shape, flat, form) in plain["values"].items():
                number: Any = {"truth": bool, "whole": int, "real": float, "complex": lambda x: complex(*x)}[
                    kind
                ]
                if len(flat) != math.prod(shape) <= LARGEST:
                    raise ValueError(f"{len(flat)} numbers do not have the shape {shape}")
                values[str(name)] = Value(kind, tuple(map(int, shape)), tuple(map(number, flat)), str(form))
        return cls(values, str(plain["failure"]), tuple(map(str, plain["changed"])), bool(plain["ended"]))


class TooLong(BaseException):
    """Raised inside a function whose time is over. Not an Exception, so that `except Exception` lets it pass."""


def call(
    function: Callable[..., object], names: Sequence[str], inputs: Sequence[object], *, seconds: float
) -> Outcome:
    """Call a student's function with copies of the inputs."""
    outcome = _call(function, names, _copy(inputs), seconds)
    if "dtype" in outcome.failure and any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in inputs):
        # a function that works in single precision is a correct form, so it is asked in single precision
        single = [
            x.float() if isinstance(x, Tensor) and x.dtype == torch.float64 else x for x in _copy(inputs)
        ]
        again = _call(function, names, single, seconds)
        return again if again.values is not None else outcome
    return outcome


def _call(function: Callable[..., object], names: Sequence[str], given: list[Any], seconds: float) -> Outcome:
    before = _copy(given)

    def answer() -> Values:
        return read(function(*given))

    try:
        with _isolated():
            values = within(seconds, answer)
    except TooLong:
        return Outcome(None, f"your function runs for more than {seconds:g} seconds.", ended=True)
    except Unreadable as error:
        return Outcome(None, str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() and every other way out are the function's, not ours
        return Outcome(None, raised(error))
    changed = tuple(
        name for name, old, new in zip(names, before, given, strict=False) if not _unchanged(old, new)
    )
    return Outcome(values, changed=changed)


def raised(error: BaseException, whose: str = "your function") -> str:
    """A sentence about an exception that the student's code raised, with its line."""
    text = " ".join(str(error).split())
    text = f": {text[:200]}" if text else ""
    lines = _lines(error)
    where = ""
    if lines:
        where = f" (line {lines[-1].lineno}" + (f": {lines[-1].line.strip()}" if lines[-1].line else "") + ")"
    return f"{whose} raises {type(error).__name__}{text.rstrip('.')}{where}."


def _lines(error: BaseException) -> list[traceback.FrameSummary]:
    """The student's own lines of a traceback: those of neither this package nor an installed one."""
    frames = list(traceback.extract_tb(error.__traceback__))
    calls = [i for i, frame in enumerate(frames) if frame.filename == __file__]
    own = frames[calls[-1] + 1 :] if calls else frames
    others = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), "<frozen")
    return [f for f in own if not f.filename.startswith(others) and "site-packages" not in f.filename]


def within(seconds: float, function: Callable[[], T]) -> T:
    """What the function returns, if it does so in time.

    Raises:
        TooLong: after `seconds`.
    """
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        return _with_alarm(seconds, function)
    return _in_thread(seconds, function)


def _with_alarm(seconds: float, function: Callable[[], T]) -> T:
    active, start = [True], time.monotonic()

    def ring(*_: object) -> None:
        if active:
            raise TooLong

    previous = signal.signal(signal.SIGALRM, ring)
    # again and again: a function that catches everything is interrupted at its next step
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)
    try:
        return function()
    finally:
        active.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        if left:  # the alarm of whoever set one before
            signal.setitimer(signal.ITIMER_REAL, max(0.01, left - (time.monotonic() - start)), interval)


def _in_thread(seconds: float, function: Callable[[], T]) -> T:
    done: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            done.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    for _ in range(5):
        if not thread.is_alive():
            break
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TooLong)
        )
        thread.join(0.1)
    else:
        raise TooLong
    if errors:
        raise errors[0]
    return done[0]


@contextmanager
def _isolated() -> Iterator[None]:
    """Little of what is printed, and the state of random numbers as before."""
    state, dtype, out = random.getstate(), torch.get_default_dtype(), _Little(sys.stdout)
    try:
        with (
            torch.random.fork_rng(devices=[]),
            redirect_stdout(out),
            redirect_stderr(out),
            torch.enable_grad(),
        ):
            yield
    finally:
        random.setstate(state)
        torch.set_default_dtype(dtype)


class _Little(io.TextIOBase):
    def __init__(self, stream: Any) -> None:
        self._stream, self._left = stream, PRINTED

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._left > 0:
            self._stream.write(text[: self._left])
            self._left -= len(text)
            if self._left <= 0:
                self._stream.write(" … (the rest of what the function prints is not shown)\n")
        return len(text)


def _copy(inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.clone()
    if isinstance(inputs, Mapping):
        return {name: _copy(value) for name, value in inputs.items()}
    return [_copy(x) for x in inputs] if isinstance(inputs, (list, tuple)) else inputs


def _unchanged(old: Any, new: Any) -> bool:
    if isinstance(old, Tensor):
        return old.shape == new.shape and old.dtype == new.dtype and torch.equal(old, new)
    if isinstance(old, Mapping):
        return old.keys() == new.keys() and all(_unchanged(old[name], new[name]) for name in old)
    return True
