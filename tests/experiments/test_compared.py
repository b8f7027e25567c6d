"""What chapter 14 says in words about its records, computed from them."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import pytest
import torch

from rope_lab import frequencies
from rope_lab.encodings import alibi_slopes
from rope_lab.experiments import rates
from rope_lab.experiments.seeds import differences, verdict
from rope_lab.experiments.store import Results
from rope_lab.experiments.text import BASES
from rope_lab.training import preset

LEVEL = ("T5", "RoPE", "xPos", "RoPER")
ABOVE = ("NoPE", "learned", "sinusoidal", "ALiBi")
SHAPE = preset("cpu").architecture(65)


@pytest.fixture(scope="module")
def encodings() -> Results:
    return Results.recorded("encodings")


def said(results: Results, name: str, against: str, *path: str | int) -> str:
    return verdict(differences(results, name, against, *path)).word


def test_four_are_undecided_among_themselves_and_four_above_them(encodings: Results):
    assert {said(encodings, a, b, "val_loss") for a, b in combinations(LEVEL, 2)} == {"undecided"}
    assert {said(encodings, a, b, "val_loss") for a in ABOVE for b in LEVEL} == {"higher"}


def test_which_others_differ_from_rope(encodings: Results):
    assert said(encodings, "RoPE, 25% of the coordinates", "RoPE", "val_loss") == "undecided"
    little = differences(encodings, "p-RoPE, p = 0.25", "RoPE", "val_loss")
    assert verdict(little).word == "higher"
    assert min(little) > 0
    assert fmean(little) < 0.05


def test_those_above_come_closer_and_learned_vectors_by_the_largest_share(encodings: Results):
    left = {}
    for name in ABOVE:
        early = differences(encodings, name, "RoPE", "short", "val_loss")
        late = differences(encodings, name, "RoPE", "val_loss")
        assert verdict([b - a for a, b in zip(early, late, strict=True)]).word == "lower"
        left[name] = fmean(late) / fmean(early)
    assert min(left, key=lambda name: left[name]) == "learned"


def test_what_the_rates_are_worth():
    tried = Results.recorded("rates")

    def loss(name: str, factor: float) -> float:
        return fmean(tried.values(f"{name} ×{factor:g}", "val_loss"))

    own = {name: loss(name, rates.chosen(name, "cpu")) for name in rates.ENCODINGS}
    farther = (loss("sinusoidal", 1) - own["RoPE"]) / (own["sinusoidal"] - own["RoPE"])
    assert farther == pytest.approx(5 / 3, abs=0.05)
    assert loss("T5", 1) > own["RoPE"] > own["T5"]


def test_a_base_is_decided_only_if_it_is_the_largest_and_not_by_the_turns_of_its_pairs():
    base = Results.recorded("base")
    names = [f"{b:,}" for b in BASES]
    others = [name for name in names if name != "10,000"]
    assert {said(base, name, "10,000", "cut", 0) for name in others} == {"undecided"}
    assert [said(base, name, "10,000", "cut", 2) for name in others] == [*3 * ["undecided"], "higher"]
    assert said(base, names[-1], names[-2], "cut", 2) == "higher"
    head_dim = SHAPE.dim // SHAPE.heads
    turns = [frequencies(head_dim, base=b) * SHAPE.context / (2 * torch.pi) for b in BASES]
    complete = [int((each >= 1).sum()) for each in turns]
    assert complete[-2] - complete[-1] == 1


def test_what_the_parts_of_the_recipe_cost():
    ablation = Results.recorded("ablation")
    whole, learned, muon = "everything", "learned positions instead of RoPE", "AdamW instead of Muon"
    assert said(ablation, muon, learned, "val_loss") == "higher"
    for name in set(ablation.variants()) - {whole, learned, muon}:
        assert said(ablation, learned, name, "val_loss") == "higher"
    costs = {name: differences(ablation, name, whole, "val_loss") for name in ablation.variants()}
    assert {name for name, cost in costs.items() if verdict(cost).word == "higher"} == {
        learned,
        muon,
        "no QK-norm",
        "cosine to a tenth instead of a line to 0",
    }
    assert 0.01 < fmean(costs["no QK-norm"]) < 0.05
    assert 0.001 < fmean(costs["cosine to a tenth instead of a line to 0"]) < 0.01


def test_three_stay_nearly_level_further_out():
    longer = Results.recorded("extrapolation")
    rise = {
        name: fmean(row[-1] - row[0] for row in longer.values(name, "sliding"))
        for name in longer.variants()
        if name != "learned"
    }
    assert {name for name, by in rise.items() if by < 0.1} == {"T5", "ALiBi", "xPos"}


def test_alibi_has_two_slopes():
    assert len(alibi_slopes(SHAPE.heads)) == 2
