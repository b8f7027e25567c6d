"""The digest of the code behind a record: what it sees, what it does not, and records that came from other code."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_experiments import run

from rope_lab.experiments import store
from rope_lab.experiments.store import Results, modules_behind


class TestCode:
    def test_it_is_found_through_every_import(self):
        found = modules_behind(["rope_lab.experiments.text"])
        assert {
            "rope_lab.encodings.rotary",
            "rope_lab.training.loop",
            "rope_lab.encodings.bias",
            "rope_lab.experiments.store",
        } <= found.keys()
        assert "rope_lab.bench" not in found
        assert "rope_lab" not in found

    def test_a_module_that_moves_makes_no_record_stale(self, tmp_path: Path):
        """On a copy: the scalings go to a file of another name in another room; then one number in them changes."""
        package = Path(store.__file__).parents[1]
        shutil.copytree(
            package, tmp_path / "rope_lab", ignore=shutil.ignore_patterns("results", "__pycache__")
        )
        code = (
            "import json; from rope_lab.experiments.store import modules_behind; "
            "print(json.dumps(modules_behind(['rope_lab.experiments.text'])))"
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
        assert before["rope_lab.encodings.scaling"] == after["rope_lab.stretching"]
        assert store._same(before, after)
        moved.write_text(moved.read_text().replace("0.1 * math.log", "0.2 * math.log"))
        changed = found()
        assert [name for name in after if changed[name] != after[name]] == ["rope_lab.stretching"]

    def test_comments_docstrings_and_layout_do_not_count(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.syspath_prepend(str(tmp_path))

        def digests(code: str) -> dict[str, str]:
            (tmp_path / "some_module.py").write_text(code)
            return modules_behind(["some_module"])

        first = digests('"""Says."""\ndef f(x):\n    """Doubles."""\n    return 2 * x\n')
        assert digests("def f(x):  # twice\n    return (2 *\n        x)\n") == first
        assert digests("def f(x):\n    return 3 * x\n") != first

    def test_messages_of_errors_do_not_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.syspath_prepend(str(tmp_path))

        def digests(code: str) -> dict[str, str]:
            (tmp_path / "another_module.py").write_text(code)
            return modules_behind(["another_module"])

        code = "def f(x):\n    if x < 0:\n        raise ValueError(f'x must be positive, got {x}')\n"
        assert digests(code.replace("must be", "has to be")) == digests(code)
        assert digests(code.replace("x < 0", "x < 1")) != digests(code)
        assert digests(code.replace("ValueError", "TypeError")) != digests(code)

    def test_records_of_other_code_are_stale_until_one_comes_out_again(self, tmp_path: Path):
        results = run(tmp_path)
        assert results.stale() == []
        (hash_,) = results.code
        results.code = {hash_: results.code[hash_] | {"rope_lab.encodings.rotary": "another"}}
        results.write(tmp_path)
        stale = Results.read(tmp_path, "toy", "smoke")
        assert stale.stale() == ["rope_lab.encodings.rotary"]
        assert "STALE, changed since: rope_lab.encodings.rotary" in stale.provenance()
        confirmed = run(tmp_path, check="bb")
        assert confirmed.stale() == []
        assert (
            "1 of 4 records run again with the current code: bb, seed 0, bit-identical"
            in confirmed.provenance()
        )
        assert len(confirmed.records) == 4
        assert Results.read(tmp_path, "toy", "smoke").stale() == []

    def test_numbers_that_rounding_moved_are_confirmed_with_their_difference(self, tmp_path: Path):
        results = run(tmp_path)
        results.records[0]["number"] += 1e-7
        results.write(tmp_path)
        assert (
            "run again with the current code: a, seed 0, within 1e-07" in run(tmp_path, check="").provenance()
        )

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
