"""Whatever runs of this package while an experiment is measured is among the definitions that its digest covers."""

from __future__ import annotations

import ast
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from runs import corpus

import rope_lab
from rope_lab.experiments import EXPERIMENTS, causes, claims, rates, source
from rope_lab.experiments.lab import SCALES, Lab, Scale
from rope_lab.experiments.source import behind, function
from rope_lab.training import Corpus

PACKAGE = Path(rope_lab.__file__).parent
TINY = Scale("smoke", 5, 2, 520, 64, 0.05)
# That which runs when a module is imported or a class is made is no part of a measurement.
AT_IMPORT = {"<module>", "__getattr__", "_fetch"}


@cache
def definitions(path: Path) -> list[tuple[int, int, str]]:
    tree = ast.parse(path.read_text("utf-8"))
    return [
        (min([node.lineno, *(d.lineno for d in node.decorator_list)]), node.end_lineno or 0, node.name)
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    ]


def full_name(code: types.CodeType) -> str:
    """The definition at the top of its module in which code is; "" for other packages and for imports."""
    path = Path(code.co_filename)
    if PACKAGE not in path.parents or code.co_name in AT_IMPORT:
        return ""
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    names = [name for first, last, name in definitions(path) if first <= code.co_firstlineno <= last]
    return f"{module}.{names[0]}" if names else ""


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_nothing_runs_that_the_digest_does_not_cover(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(rates.STEPS, "smoke", (2, 3))
    monkeypatch.setitem(claims.UPDATES, "smoke", 1)
    monkeypatch.setitem(causes.UPDATES, "smoke", 1)
    experiment = EXPERIMENTS[name]
    place = Lab(TINY, Corpus("words", corpus().text * 4), tmp_path, "cpu")
    names = experiment.variants(SCALES["smoke"])
    ran: set[types.CodeType] = set()

    def note(frame: types.FrameType, event: str, argument: Any) -> None:
        if event == "call":
            ran.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for variant in {names[0], names[-1]}:
            experiment.measure(place, variant, 0)
    finally:
        sys.setprofile(before)
    reached = {full_name(code) for code in ran} - {""}
    reached = {name for name in reached if not name.startswith(source._BOOKS)}
    assert len(reached) > 10
    assert reached <= behind([function(experiment.measure)]).keys()
