"""Every wrong rotation of the museum is named by the doctor, with its correction, and nothing else is called wrong."""

from __future__ import annotations

import copy

import pytest
import torch

from rope_lab.doctor import KNOWN, diagnose
from rope_lab.doctor.exhibits import (
    EXHIBITS,
    D,
    Exhibit,
    half_slopes,
    keys_left,
    norms_after,
    norms_left_behind,
    two_bases,
    whole,
)
from rope_lab.encodings import RotaryEmbedding, alibi_slopes, frequencies


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


def test_a_gain_is_told_from_the_rotation_behind_it():
    """The doctor once said of a gain that the two coordinates of a pair turn by different angles."""
    found = diagnose(norms_left_behind, D)
    assert found.sound
    assert found.limits == ("gain",)
    assert found.q is not None
    assert found.spectrum is not None
    assert (found.q.layout, found.q.direction) == ("half", "counter-clockwise")
    assert found.spectrum.base == pytest.approx(10_000)
    torch.testing.assert_close(found.q.frequencies, frequencies(D), rtol=1e-6, atol=0)
    other = diagnose(norms_left_behind, D, expected=RotaryEmbedding(D, base=5e5, layout="half"))
    assert (other.faults, other.limits) == (("wrong base",), ("gain",))

    def gain_of_queries(q, k, positions):
        return norms_left_behind(q, positions), two_bases(q, k, positions)[1]

    assert diagnose(gain_of_queries, D).faults == ("frequencies differ",)


def test_a_gain_of_pairs_commutes_with_the_rotation():
    """Equal numbers for both coordinates of a pair are no fault, before or behind; once it was "half positions"."""
    gain = torch.linspace(0.5, 1.5, D // 2).repeat(2)
    for turn in (
        lambda x, positions: whole(x * gain.to(x.dtype), positions),
        lambda x, positions: whole(x, positions) * gain.to(x.dtype),
    ):
        found = diagnose(turn, D)
        assert (found.faults, found.limits) == ((), ("gain",))


def test_a_whole_norm_is_not_linear_and_the_doctor_says_so():
    def normed(x, positions):
        return norms_left_behind(x / x.square().mean(-1, keepdim=True).sqrt(), positions)

    found = diagnose(normed, D)
    assert (found.bugs, found.sound) == ((), False)
    assert found.refused.startswith("it is not linear in x")


def test_what_is_added_to_scores_is_not_diagnosed():
    found = diagnose(half_slopes, D)
    assert (found.bugs, found.sound) == ((), False)
    assert "size of tensor" in found.refused


@pytest.mark.parametrize(("heads", "bound"), [(8, 0.0), (12, 2**-11)])
def test_slopes_in_float16_are_harmless_and_their_product_is_not(heads: int, bound: float):
    """From one key to the next the bias changes by one slope."""
    slopes, places = alibi_slopes(heads), torch.arange(3000, 3200)
    rounded = slopes.half().double()[:, None] * places
    assert ((rounded.diff() / slopes[:, None] - 1).abs() <= bound + 1e-9).all()
    product = half_slopes(slopes, places).double()
    assert (product.diff() == 0).double().mean() > 0.4


def test_a_gain_behind_the_rotation_is_not_called_coarse():
    assert diagnose(norms_after, D).faults == ("gain after",)
