"""Checkers for the exercises, one module per chapter: each says what is wrong with an answer, and why."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rope_lab.exercises.checker import Exercise


def exercises(chapter: int) -> list[Exercise]:
    """The checkers of a chapter, in order.

    Raises:
        ValueError: if the chapter has no checkers.
    """
    from rope_lab.exercises.checker import Exercise

    if chapter not in (known := chapters()):
        numbers = ", ".join(f"{number:02d}" for number in known)
        raise ValueError(f"exercises are in chapters {numbers}, got chapter {chapter:02d}")
    module = importlib.import_module(f"rope_lab.exercises.ch{chapter:02d}")
    found = [entry for entry in vars(module).values() if isinstance(entry, Exercise)]
    return sorted(found, key=lambda exercise: int(exercise.number.split(".")[1]))


def exercise(number: str) -> Exercise:
    """The checker of an exercise, named as in "5.2" or "05.2".

    Raises:
        ValueError: if there is none of this number.
    """
    if not re.fullmatch(r"[0-9]{1,2}\.[0-9]{1,2}", number):
        raise ValueError(f"an exercise is named as in 05.2, got {number!r}")
    chapter, place = map(int, number.split("."))
    found = exercises(chapter)
    for entry in found:
        if entry.number == f"{chapter}.{place}":
            return entry
    raise ValueError(
        f"chapter {chapter:02d} has exercises {', '.join(x.number for x in found)}, got {number!r}"
    )


def chapters() -> list[int]:
    """The chapters that have checkers."""
    names = (info.name for info in pkgutil.iter_modules(__path__))
    return sorted(int(name[2:]) for name in names if re.fullmatch(r"ch[0-9]{2}", name))
