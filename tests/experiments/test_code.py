"""The digest of the code behind a record: what it sees, what it does not, and records that came from other code."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_experiments import run

from rope_lab.experiments import store, text
from rope_lab.experiments.source import behind, function
from rope_lab.experiments.store import Results


def digests(path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of the function f in a module, and of all that it names."""
    monkeypatch.syspath_prepend(str(path.parent))
    path.write_text(code)
    return behind([f"{path.stem}.f"])


def of_other_code(results: Results) -> None:
    """As if another rotation had made the records."""
    (code,) = results.code.values()
    results.code = {"other": code | {"rope_lab.encodings.rotary.RotaryEmbedding": "another"}}
    results.records = [record | {"code": "other"} for record in results.records]


class TestCode:
    def test_it_is_found_through_every_name(self):
        found = behind([function(text.measure_encoding)])
        assert {
            "rope_lab.encodings.rotary.RotaryEmbedding",
            "rope_lab.training.loop.train",
            "rope_lab.encodings.bias.ALiBi",
            "rope_lab.experiments.rates.ENCODINGS",
        } <= found.keys()
        assert "rope_lab.experiments.text.measure_base" not in found
        assert not any(name.startswith("rope_lab.bench") for name in found)

    def test_what_moves_makes_no_record_stale(self, tmp_path: Path):
        """On a copy: the scalings go to a file of another name in another room; then one number in them changes."""
        package = Path(store.__file__).parents[1]
        shutil.copytree(
            package, tmp_path / "rope_lab", ignore=shutil.ignore_patterns("results", "__pycache__")
        )
        code = (
            "import json; from rope_lab.experiments.source import behind; "
            "print(json.dumps(behind(['rope_lab.experiments.causes.measure'])))"
        )

        def found() -> dict[str, str]:
            done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
            return json.loads(done.stdout)

        before = found()
        moved = tmp_path / "rope_lab" / "stretching.py"
        (tmp_path / "rope_lab" / "encodings" / "scaling.py").rename(moved)
        for path in (tmp_path / "rope_lab").rglob("*.py"):
            path.write_text(path.read_text().replace("rope_lab.encodings.scaling", "rope_lab.stretching"))
        after = found()
        assert before["rope_lab.encodings.scaling.YaRN"] == after["rope_lab.stretching.YaRN"]
        assert store._same(before, after)
        moved.write_text(moved.read_text().replace("0.1 * math.log", "0.2 * math.log"))
        changed = found()
        assert [name for name in after if changed[name] != after[name]] == ["rope_lab.stretching.YaRN"]

    @pytest.mark.parametrize(
        ("other", "same"),
        [
            ("def f(x):  # twice\n    return (2 *\n        x)\n", True),
            ("def g(x):\n    return x\n\n\ndef f(x):\n    return 2 * x\n", True),
            ("def f(x):\n    log.say(x)\n    return 2 * x\n", True),
            ("def f(x):\n    return 3 * x\n", False),
            ("def f(x):\n    log.write(x)\n    return 2 * x\n", False),
            ("def f(x):\n    return two * x\n\n\ntwo = 2\n", False),
            ("def f(x):\n    return 2 * x\n\n\nprint(f(1))\n", False),  # which may change what f does
        ],
    )
    def test_comments_docstrings_layout_and_neighbours_do_not_count(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str, same: bool
    ):
        first = 'a = 1\n\n\ndef f(x):\n    """Doubles."""\n    return 2 * x\n'
        found = [
            digests(tmp_path / f"{name}.py", code, monkeypatch) for name, code in (("a", first), ("b", other))
        ]
        assert (sorted(found[0].values()) == sorted(found[1].values())) is same

    def test_what_a_constant_or_a_foreign_name_is_counts(self, tmp_path: Path, monkeypatch):
        code = "from math import sin as f0\n\nK = 2\n\n\ndef f(x):\n    return K * f0(x)\n"
        first = digests(tmp_path / "first.py", code, monkeypatch)
        for old, new in (("K = 2", "K = 3"), ("import sin", "import cos")):
            other = digests(tmp_path / f"k{new[-1]}.py", code.replace(old, new), monkeypatch)
            assert sorted(other.values()) != sorted(first.values())

    def test_messages_of_errors_do_not_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        code = "def f(x):\n    if x < 0:\n        raise ValueError(f'x must be positive, got {x}')\n"
        first = digests(tmp_path / "positive.py", code, monkeypatch)
        for at, (old, new, same) in enumerate(
            [("must be", "has to be", True), ("x < 0", "x < 1", False), ("ValueError", "TypeError", False)]
        ):
            other = digests(tmp_path / f"other{at}.py", code.replace(old, new), monkeypatch)
            assert (list(other.values()) == list(first.values())) is same

    def test_a_variant_of_other_code_is_stale_until_one_of_its_records_comes_out_again(self, tmp_path: Path):
        results = run(tmp_path)
        assert results.stale() == {}
        of_other_code(results)
        results.write(tmp_path)
        stale = Results.read(tmp_path, "toy", "smoke")
        name = "rope_lab.encodings.rotary.RotaryEmbedding"
        assert stale.stale() == {"a": [name], "bb": [name]}
        assert f"STALE for 2 of 2 variants, changed since: {name}" in stale.provenance()
        half = run(tmp_path, check="bb")
        assert half.stale().keys() == {"a"}
        assert "STALE for 1 of 2 variants" in half.provenance()
        assert "1 of 4 records run again with the current code: bit-identical" in half.provenance()
        confirmed = run(tmp_path, check="a")
        assert confirmed.stale() == {}
        assert "2 of 4 records run again with the current code: bit-identical" in confirmed.provenance()
        assert len(confirmed.records) == 4
        assert Results.read(tmp_path, "toy", "smoke").stale() == {}

    def test_a_new_record_of_one_variant_does_not_stand_for_the_others(self, tmp_path: Path):
        results = run(tmp_path)
        of_other_code(results)
        results.records = [record for record in results.records if record["variant"] != "bb"]
        results.write(tmp_path)
        assert run(tmp_path).stale().keys() == {"a"}  # bb was measured anew

    def test_numbers_that_rounding_moved_are_confirmed_with_their_difference(self, tmp_path: Path):
        results = run(tmp_path)
        results.records[0]["number"] += 1e-7
        of_other_code(results)
        results.write(tmp_path)
        run(tmp_path, check="bb")
        assert "run again with the current code: within 1e-07" in run(tmp_path, check="a").provenance()

    @pytest.mark.parametrize("other", [1.01, None, "one", [1.0], {"one": 1.0}])
    def test_numbers_that_changed_are_not_confirmed(self, tmp_path: Path, other: Any):
        results = run(tmp_path)
        results.records[0]["number"] = other
        results.write(tmp_path)
        with pytest.raises(
            ValueError, match="toy was not reproduced: number of a differs from the record by"
        ):
            run(tmp_path, check="")
        assert not Results.read(tmp_path, "toy", "smoke").confirmed
