"""Every property is met by a correct rotation, and not by one that is broken in it."""

from __future__ import annotations

import pytest
import torch
from faulty import BROKEN, CORRECT, plain

from rope_lab.conformance import QUESTIONS, Subject, answers, as_subject, table
from rope_lab.conformance.inquiry import Inquiry, answer

NAMES = [question.name for question in QUESTIONS]


@pytest.fixture(scope="module")
def correct():
    return {one.name: one for one in answers(CORRECT)}


def test_there_is_a_broken_rotation_for_each_property():
    assert list(BROKEN) == NAMES
    assert len(set(NAMES)) == len(NAMES) >= 20


@pytest.mark.parametrize("question", QUESTIONS, ids=NAMES)
def test_a_correct_rotation_meets_it_and_a_broken_one_does_not(question, correct):
    assert correct[question.name].holds is True, correct[question.name]
    found = answer(question.name, question.ask(Inquiry(BROKEN[question.name])))
    assert found.holds is False, found
    assert found.error is not None or found.says or not question.number


def test_a_broken_rotation_is_not_blamed_for_what_it_does_right():
    """Positions that begin at 1 change nothing but the first token, and what is asked against 0."""
    found = answers(BROKEN["first token unchanged"])
    failed = {one.name for one in found if one.holds is False}
    assert failed == {
        "first token unchanged",
        "exact at 1,000,000",
        "exact at 10,000,000",
        "real positions",
    }


def test_a_function_that_ignores_positions_does_not_depend_on_the_distance_only():
    found = {one.name: one for one in answers(as_subject(lambda x, positions: x))}
    assert found["distance only"].holds is False
    assert found["distance only"].says == "positions change nothing"
    assert found["exact at 1,000,000"].says == "its pairs are not known"


def test_what_cannot_be_asked_says_why():
    def restricted(x):
        return plain(x, torch.arange(x.shape[-2]))

    found = {one.name: one for one in answers(as_subject(restricted))}
    for name in ("exact at 1,000,000", "real positions", "positions per row", "any first position"):
        assert found[name].holds is None
        assert found[name].says.startswith("it takes n")
    assert found["partial rotation"].says == "as it is called here, it turns whole heads"
    assert found["nothing saved"].says == "it is a function"
    assert all(one.says for one in found.values() if one.holds is None)
    explained = Subject("x", lambda dim: restricted, why={"norm kept": "for a reason"})
    assert {one.name: one for one in answers(explained)}["norm kept"].says == "for a reason"


def test_each_property_gets_a_fresh_rotation():
    made = []

    def make(dim):
        made.append(dim)
        return BROKEN["stateless"].make(dim)

    found = {one.name: one.holds for one in answers(Subject("x", make))}
    assert found["stateless"] is False
    assert found["bfloat16"] is False
    assert found["gradient"] is found["angles add"] is True  # asked after it, and before
    assert len(made) > 15


@pytest.mark.parametrize("dim", [0, 2, 62, -4])
def test_a_width_must_be_a_multiple_of_four(dim):
    with pytest.raises(ValueError, match="dim must be a positive multiple of 4"):
        table(plain, dim=dim)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="turn must be callable or a Subject, got int"):
        table(3)  # type: ignore[arg-type]
