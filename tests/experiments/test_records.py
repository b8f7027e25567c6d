"""What makes a record worth its name: the digest of the code, numbers that come out again, one text, whole files."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from test_experiments import MEASURED, TOY, run, words

from rope_lab.experiments import EXPERIMENTS, lab, source, store
from rope_lab.experiments.store import Results
from rope_lab.training import checkpoint, data

SOURCE = '''
"""Of the module."""
from __future__ import annotations

import dataclasses as d


@d.dataclass(frozen=True)
class A(B, metaclass=C):
    """Of the class."""

    x: list[int] | None = None

    @property
    async def f(self, a: int, /, *b: str, c=1, e=..., **g) -> str:
        """Of the function."""
        return f"{a!r:>{c}} {{é}} {b=}" "z" if a not in (1, 1.0, True, "1", b"1", 1j, None) else {**g, 2: -3}


def empty():
    pass
'''


def digest_of(text: str) -> str:
    return source.digest(source._dump(source._bare(ast.parse(text))))


def test_every_python_gives_the_same_digest():
    assert digest_of(SOURCE) == "0c3c9edb1c15"  # measured with 3.10.13, 3.11.7, 3.12.1 and 3.13.0
    bare = SOURCE.replace("Of the", "On the").replace("return f", "return (  # a comment\n\n            f")
    assert digest_of(bare.replace("-3}", "-3})")) == digest_of(SOURCE)


@pytest.mark.parametrize(
    "pair",
    [
        ("1", "1.0"),
        ("1", "True"),
        ('"1"', "1"),
        ('b"1"', '"1"'),
        ("1j", "1.0"),
        ("None", "..."),
        ("None", '"None"'),
        ("x", '"x"'),
        ("{**x}", "{None: x}"),
        ('f"{x}"', 'f"{x!r}"'),
    ],
)
def test_constants_of_different_kinds_have_different_digests(pair: tuple[str, str]):
    assert len({digest_of(f"y = {value}") for value in pair}) == 2


@pytest.mark.parametrize(
    ("new", "old", "farthest"),
    [
        ({"a": math.nan}, {"a": 1.0}, ("a", math.inf)),
        ({"a": 1.0}, {"a": math.nan}, ("a", math.inf)),
        ({"a": math.inf}, {"a": -math.inf}, ("a", math.inf)),
        ({"a": [math.nan, -math.inf]}, {"a": [math.nan, -math.inf]}, ("a[0]", 0.0)),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, ("b", math.inf)),
        ({"a": 1.0, "b": None}, {"a": 1.0}, ("b", math.inf)),
        ({"a": {"c": 1}}, {"a": {}}, ("a.c", math.inf)),
        ({"a": 1.0}, {"a": 1.5, "seconds": 2.0, "config": {}}, ("a", 1 / 3)),
    ],
)
def test_the_farthest_number(new: Any, old: Any, farthest: tuple[str, float]):
    assert lab._farthest(new, old) == farthest


@pytest.mark.parametrize("change", [{"number": math.nan}, {"other": 1.0}])
def test_a_number_that_is_none_or_gone_is_not_confirmed(tmp_path: Path, change: dict[str, float]):
    results = run(tmp_path)
    results.records[0] |= change
    results.write(tmp_path)
    with pytest.raises(
        ValueError, match=f"toy was not reproduced: {next(iter(change))} of a differs from the record by inf"
    ):
        run(tmp_path, check="")


def test_an_experiment_says_what_must_come_out_again_and_how_closely(tmp_path: Path, monkeypatch):
    results = run(tmp_path)
    results.records[0]["number"] *= 1.05
    results.write(tmp_path)
    with pytest.raises(ValueError, match="toy was not reproduced"):
        run(tmp_path, check="")
    tolerant = dataclasses.replace(TOY["toy"], tolerance=0.1)
    monkeypatch.setitem(TOY, "toy", tolerant)
    assert "run again with the current code" in run(tmp_path, check="").provenance()
    monkeypatch.setitem(TOY, "toy", dataclasses.replace(TOY["toy"], kept=lambda numbers: {}, tolerance=1e-3))
    assert len(run(tmp_path, check="").confirmed.popitem()[1]) == 2


def test_a_chaotic_task_is_confirmed_by_its_fractions_and_a_rate_by_its_text():
    record = {"trained_to": 2, "exact": [1.0, 0.8, 0.2, 0.0]}
    tasks, cache = EXPERIMENTS["algorithms"], EXPERIMENTS["cache"]
    assert tasks.kept(record) == {"trained": 0.9, "longer": 0.1}
    other = record | {"exact": [0.9, 0.9, 0.1, 0.1]}
    assert lab._farthest(tasks.kept(other), tasks.kept(record))[1] < tasks.tolerance
    worse = record | {"exact": [0.7, 0.7, 0.1, 0.1]}
    assert lab._farthest(tasks.kept(worse), tasks.kept(record))[1] > tasks.tolerance
    numbers = {"lengths": [1], "count": 16, "cached": [2.0], "prompt_seconds": [1.0]}
    assert cache.kept(numbers) == {"lengths": [1], "count": 16}


def test_records_of_two_texts_are_never_mixed(tmp_path: Path):
    run(tmp_path)
    MEASURED.clear()
    other = data.Corpus("words", words().text[::-1])
    for options in ({}, {"check": ""}):
        with pytest.raises(
            ValueError, match=r"out must be a folder without results of another text.*words \("
        ):
            run(tmp_path, corpus=other, **options)
    assert not MEASURED


def test_provenance_lists_every_machine(tmp_path: Path):
    results = run(tmp_path)
    one = results.records[0]
    results.records[1] |= {"device": "zpu", "machine": "Z", "threads": 99, "versions": {"torch": "99"}}
    assert (
        f"{one['device']}/zpu ({one['machine']}/Z, {one['threads']}/99 threads), torch "
        in results.provenance()
    )
    assert f"{one['versions']['torch']}/99, code" in results.provenance()


@pytest.mark.parametrize("argument", ["out", "cache"])
def test_a_file_in_place_of_a_folder_is_named_before_anything_is_measured(tmp_path: Path, argument: str):
    MEASURED.clear()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        ValueError, match=f"{argument} must be a folder that can be made and written to, got .*file"
    ):
        run(tmp_path, **{argument: tmp_path / "file"})
    assert not MEASURED
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_the_old_records_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results = run(tmp_path)
    path = store.file_of(tmp_path, "toy", "smoke")
    before = path.read_bytes()

    def full(place: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_to_disk", full)
    with pytest.raises(OSError, match="No space left"):
        results.add(tmp_path, results.records[0], {})
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_record_says_how_much_it_was_allowed(tmp_path: Path):
    budget = run(tmp_path).records[0]["budget"]
    assert budget == json.loads(json.dumps(dataclasses.asdict(lab.SCALES["smoke"])))


def test_the_check_of_the_validation_split_is_enough_for_training():
    for scale in lab.SCALES.values():
        assert 9 * scale.characters >= 2 * scale.long


def test_an_empty_place_has_no_records(tmp_path: Path):
    assert Results.read(tmp_path, "toy", "smoke").provenance() == "no records of toy at scale smoke"


@pytest.mark.parametrize(
    ("recorded", "confirmed"), [((0.4, 2), True), ((0, 0.92), True), ((0, 0.8), False), ((1.3, 2), False)]
)
def test_a_run_of_two_outcomes_is_one_more_draw(
    tmp_path: Path, monkeypatch, recorded: tuple[float, float], confirmed: bool
):
    results = run(tmp_path)  # the number of a is 1 with seed 0
    for record, found in zip([r for r in results.records if r["variant"] == "a"], recorded, strict=True):
        record["number"] = found
    results.write(tmp_path)
    kept = {"tolerance": 0.1, "kept": lambda numbers: {"number": numbers["number"]}}
    monkeypatch.setitem(TOY, "toy", dataclasses.replace(TOY["toy"], bistable=True, **kept))
    if confirmed:
        assert run(tmp_path, check="a").confirmed
    else:
        with pytest.raises(ValueError, match="toy was not reproduced: number of a"):
            run(tmp_path, check="a")
    assert lab._nearest({"number": math.nan}, [{"number": 0.0}, {"number": 1.0}]) == {"number": 1.0}
