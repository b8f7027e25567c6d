"""Every wrong rotation of the museum is named by the doctor, with its correction, and nothing else is called wrong."""

from __future__ import annotations

import copy

import pytest

from rope_lab.doctor import KNOWN, diagnose
from rope_lab.doctor.exhibits import EXHIBITS, D, Exhibit


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=[f"{one.bug}: {one.seen}" for one in EXHIBITS])
def test_the_doctor_names_the_bug(exhibit: Exhibit):
    found = diagnose(copy.deepcopy(exhibit.turn), D, **exhibit.options)
    names = [bug.name for bug in found.bugs]
    assert exhibit.bug in names, str(found)
    bug = KNOWN[exhibit.bug]
    assert found.sound == (bug.level == "limit")
    if exhibit.alone:
        assert set(found.faults) <= {exhibit.bug}, str(found)
    shown = " ".join(str(found).split())
    assert exhibit.bug in shown
    assert " ".join(bug.fix.split()) in shown


def test_the_museum_has_every_known_bug_but_those_that_are_tested_elsewhere():
    elsewhere = {"angles differ", "follows the length", "scales", "rounded tables", "wrong frequencies"}
    assert {one.bug for one in EXHIBITS} == KNOWN.keys() - elsewhere


def test_what_is_real_was_seen_somewhere():
    """A thread as repository#number, or a library by its name."""
    names = ("#", "rotary-embedding-torch", "labml", "keras-hub", "Keras", "Liger-Kernel")
    made_up = ("positions given",)
    for one in EXHIBITS:
        named = any(name in one.seen for name in names) and not one.seen.endswith(made_up)
        assert one.real == named, one.seen
    assert sum(one.real for one in EXHIBITS) >= 12
