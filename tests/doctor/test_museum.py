"""Every wrong rotation of the museum is named by the doctor, with its correction, and nothing else is called wrong."""

from __future__ import annotations

import copy

import pytest
from museum import MUSEUM, D, Exhibit

from rope_lab.doctor import KNOWN, diagnose


@pytest.mark.parametrize("exhibit", MUSEUM, ids=[f"{one.bug}: {one.seen}" for one in MUSEUM])
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
    assert {one.bug for one in MUSEUM} == KNOWN.keys() - elsewhere
