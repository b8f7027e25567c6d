"""No false alarm on rotations that are right, and everything read from them is so."""

from __future__ import annotations

import pytest
import torch
from sound import RET, SOUND, D, Sound

from rope_lab.doctor import diagnose


@pytest.mark.parametrize("one", SOUND, ids=[one.name for one in SOUND])
def test_no_false_alarm(one: Sound):
    found = diagnose(one.turn, one.dim, **one.options)
    assert found.sound, str(found)
    assert set(found.limits) == one.limits, str(found)
    q, spectrum = found.q, found.spectrum
    assert q is not None
    assert spectrum is not None
    got = (q.layout, q.direction, q.begin, q.end, q.reordered)
    assert got == (one.layout, one.direction, one.begin, one.end, one.reordered)
    assert spectrum.kind == one.kind, spectrum
    for name, value in (("base", one.base), ("factor", one.factor)):
        if value is None:
            assert getattr(spectrum, name) is None
        else:
            assert getattr(spectrum, name) == pytest.approx(value, rel=1e-4)
    assert q.factor == pytest.approx(one.attention, rel=1e-5)
    assert "No fault found" in str(found)


def test_there_are_thirty():
    assert len({one.name for one in SOUND}) >= 30


def test_of_rotary_embedding_torch_it_names_what_is_known_of_it_and_no_more():
    found = diagnose(lambda x, offset=0: RET.rotate_queries_or_keys(x, offset=offset), D)
    assert set(found.faults) == {"half positions", "poisoned"}, str(found)
    assert found.q is not None
    assert (found.q.layout, found.q.begin, found.q.end) == ("interleaved", 0, D)


def test_a_random_generator_is_left_as_it_was():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    diagnose(SOUND[0].turn, D)
    assert torch.equal(torch.rand(2), wanted)
