"""The claims of chapter 16: one rule for every row, a unit and a source for each, and what the page says of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rope_lab.experiments.seeds import interval
from rope_lab.figures.claims import CANNOT, LEVEL, UNTRIED, Claim, claims, cost, judged, share

ROOT = Path(__file__).parents[2]
CLAIMS = claims()
SEEN = [claim for claim in CLAIMS if claim.verdict == "seen here"]
OPPOSITE, UNDECIDED = "not seen here (opposite)", "not seen here (undecided)"


@pytest.mark.parametrize(
    ("side", "values", "verdict"),
    [
        ("lower", [-0.3, -0.31, -0.29], "seen here"),
        ("lower", [0.3, 0.31, 0.29], OPPOSITE),
        ("lower", [-0.3, 0.31, -0.29], UNDECIDED),
        ("lower", [-0.001, -0.0011, -0.0009], "seen here"),
        ("higher", [-0.3, -0.31, -0.29], OPPOSITE),
        ("higher", [0.3, 0.31, 0.29], "seen here"),
        ("level", [0.02, 0.021, 0.019], "seen here"),
        ("level", [-0.02, -0.021, -0.019], "seen here"),
        ("level", [0.02, -0.05, 0.06], UNDECIDED),
        ("level", [0.06, 0.061, 0.059], OPPOSITE),
        ("level", [-0.06, -0.061, -0.059], OPPOSITE),
        ("level", [LEVEL, LEVEL + 0.001, LEVEL - 0.001], UNDECIDED),
        ("level", [0.3], UNDECIDED),
        ("higher", [], "not recorded"),
    ],
)
def test_the_rule(side, values: list[float], verdict: str) -> None:
    assert judged(side, values) == verdict


def test_a_claim_without_differences_says_why() -> None:
    assert Claim("c", why="it is long").verdict == CANNOT
    assert Claim("c", why="no task", tried=False).verdict == UNTRIED
    assert Claim("c").verdict == "not recorded"


def test_other_choices_are_named_where_their_verdict_is_another() -> None:
    others = {"far": [1.0, 1.01, 0.99], "near": [-0.3, -0.31, -0.29]}
    assert Claim("c", "lower", values=[-1.0, -1.1, -1.05], others=others).otherwise() == {"far": OPPOSITE}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.text)
def test_each_has_three_seeds_and_a_unit_or_says_why_not(claim: Claim) -> None:
    if claim.why:
        assert not claim.values
        assert not claim.others
        return
    assert len(claim.values) == 3
    assert all(len(values) == 3 for values in claim.others.values())
    assert bool(claim.label) != bool(claim.unit), "a figure shows losses, and what is not a loss has a unit"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.text)
def test_each_has_a_source_that_the_chapter_cites(claim: Claim) -> None:
    if claim.text.startswith("Released models"):
        return
    author, year = claim.text.partition(":")[0].split()
    page = (ROOT / "notebooks" / "16_long_documents.py").read_text("utf-8")
    cited = re.findall(r"\{cite:t\}`(\w+)`", page)
    assert [key for key in cited if re.fullmatch(rf"{author.lower()}({year}\w*)?", key)]


def other(start: str, choice: str) -> tuple[str, float]:
    (claim,) = (claim for claim in CLAIMS if claim.text.startswith(start))
    return judged(claim.side, claim.others[choice]), interval(claim.others[choice])[0]


def test_what_the_page_says_of_other_choices() -> None:
    gain = "QK-norm with a gain, ×"
    assert other("Press 2022: T5 below", "after 200 updates")[0] == "seen here"
    assert {other("bloc97 2023: NTK-aware below", f"{gain}{factor}")[0] for factor in (4, 8)} == {UNDECIDED}
    assert other("bloc97 2023: NTK-aware below", f"{gain}2")[0] == OPPOSITE
    assert {other("Xiong", f"{gain}{factor}")[0] for factor in (2, 4, 8)} == {UNDECIDED}
    factor = [other("Peng 2024: YaRN’s factor", f"{gain}{times}")[0] for times in (2, 4, 8)]
    assert factor == [UNDECIDED, UNDECIDED, "seen here"]
    verdict, loss = other("Khan", "at 256, sliding")
    assert verdict == OPPOSITE
    assert 1.8 < loss < 2.3


def test_what_the_summary_says_of_all() -> None:
    judged_here = [claim for claim in CLAIMS if claim.values]
    assert 0.5 < len(SEEN) / len(judged_here) < 0.7, "more than half are seen"
    assert 0.35 < sum(bool(claim.otherwise()) for claim in SEEN) / len(SEEN) < 0.5, (
        "nearly half of those hang"
    )
    others = [claim.verdict for claim in judged_here if claim not in SEEN]
    assert others.count(OPPOSITE) > len(others) / 2, "most of the others come out the other way"


def test_costs_and_shares_of_the_spectrum() -> None:
    assert cost("untrained", 0) == pytest.approx([0, 0, 0], abs=0.01)
    assert min(cost("long", 0)) > 1
    for age in ("untrained", "short", "long"):
        assert share(age, 0, 20) == pytest.approx([1, 1, 1])
    assert share("untrained", 10, 20) == pytest.approx([0.5, 0.5, 0.5], abs=0.02)
