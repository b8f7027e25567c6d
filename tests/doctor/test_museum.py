"""Every wrong rotation of the museum is named by the doctor, with its correction, and nothing else is called wrong."""

from __future__ import annotations

import copy

import pytest
import torch

from rope_lab.doctor import KNOWN, diagnose
from rope_lab.doctor.exhibits import EXHIBITS, D, Exhibit, keys_left


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
    assert max(map(len, str(found).splitlines())) <= 88  # a page of the book shows no more of a line


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


def test_one_side_that_stands_still_is_not_taken_for_no_rotation():
    """As in kvcache-ai/sglang#31: the doctor once said of turned queries and still keys that nothing turns."""
    for turn, word in (
        (keys_left, "queries"),
        (lambda q, k, positions: keys_left(k, q, positions)[::-1], "keys"),
    ):
        found = diagnose(turn, D)
        assert found.faults == ("one side only",)
        assert found.refused.startswith(f"it turns {word} ")
        assert found["relative"].holds is False
        assert [one.name for one in found.properties] == ["relative"]
    assert diagnose(lambda q, k, positions: (q, k), D).faults == ("no rotation",)

    def with_a_short_table(q, k, positions):
        return keys_left(q, k, torch.arange(300)[positions])

    assert diagnose(with_a_short_table, D).faults == ("one side only",)
