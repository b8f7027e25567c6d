"""`make gpu` without a GPU: what it refuses, what it says before it starts, in which order it runs, what it skips."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rope_lab import arguments
from rope_lab.bench import gpu
from rope_lab.experiments.store import Results
from rope_lab.training import Corpus, offline, preset, tiny_shakespeare

ROOT = Path(__file__).resolve().parents[1]
NAME = "GPU of a test"


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return (
        tiny_shakespeare()
        if tiny_shakespeare().name == "tiny-shakespeare"
        else Corpus("text", "a b " * 30_000)
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, corpus: Corpus) -> None:
    """A torch that is built for CUDA and sees a GPU, and the text."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: NAME)
    monkeypatch.setattr(gpu, "text", lambda: corpus)
    monkeypatch.setattr(gpu, "seconds_per_seed", lambda corpus, plan: 100.0)


class Runs:
    """In place of `subprocess`: notes every command and what had been printed before it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], codes: dict[str, int]) -> None:
        self.commands: list[list[str]] = []
        self.printed: list[str] = []
        self.capsys, self.codes = capsys, codes

    def run(self, command: list[str], *, check: bool) -> types.SimpleNamespace:
        assert not check
        self.printed.append(self.capsys.readouterr().out)
        self.commands.append(command)
        name = {"pytest": "tests", "bench": "bench", "reproduce": "presets"}
        part = next(name[word] for word in command if word in name)
        return types.SimpleNamespace(returncode=self.codes.get(part, 0))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Runs]:
    def make(**codes: int) -> Runs:
        found = Runs(capsys, codes)
        monkeypatch.setattr(gpu, "subprocess", found)
        return found

    return make


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which it refuses."""
    assert gpu.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def folders(tmp_path: Path) -> list[str]:
    return ["--records", str(tmp_path / "records"), "--benchmarks", str(tmp_path / "benchmarks")]


@pytest.mark.parametrize("option", [[], ["--ready"], ["--plan"]])
def test_a_cpu_build_is_refused(
    option: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None, raising=False)
    line = refused(capsys, *option)
    assert line == f"make gpu: torch {torch.__version__} is a CPU build; {gpu.SECTION}"
    section = re.search('"(.*)"', gpu.SECTION)
    assert section is not None
    assert f"## {section[1]}\n" in (ROOT / "README.md").read_text("utf-8")


def test_no_visible_gpu_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert f"torch {torch.__version__} sees no GPU; nvidia-smi and CUDA_VISIBLE_DEVICES" in refused(capsys)


def test_a_missing_text_is_refused_and_the_offline_edition_too(
    seen: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    for name, value in (("is_available", lambda: True), ("get_device_name", lambda *_: NAME)):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("ROPE_LAB_DATA", str(tmp_path))
    assert "has no such file; it must be a folder that holds Tiny Shakespeare" in refused(capsys)

    def rebuilt() -> Corpus:
        print("rope_lab: this is the offline edition", file=sys.stderr)
        return Corpus(offline.NAME, offline.rebuild())

    monkeypatch.setattr(gpu, "tiny_shakespeare", rebuilt)
    assert "there is only tiny-shakespeare-offline, which is another text; set ROPE_LAB_DATA" in refused(
        capsys
    )


def test_missing_packages_and_a_missing_clone_are_refused(
    seen: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name in ("labml", "hypothesis") else name)
    assert f"not installed: labml, hypothesis; {gpu.SECTION}" in refused(capsys)
    monkeypatch.setattr(gpu, "TESTS", tmp_path / "none")
    assert "it needs a clone of the repository" in refused(capsys)
    assert "--seeds must be at least 1, got 0" in refused(capsys, "--seeds", "0")


def test_it_says_how_long_and_where_before_it_starts_and_keeps_the_order(
    seen: None, runs: Callable[..., Runs], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = runs()
    assert gpu.main(folders(tmp_path)) == 0
    said = done.printed[0]
    assert said.startswith(f"{NAME}, torch {torch.__version__}, ")
    assert "These times are estimates" in said
    assert re.search(r"^1  tests    about 3 min +\(a guess\)\n   writes nothing$", said, re.M)
    found = re.search(
        r"^2  presets  about 5 min +\(3 of 3 seeds; .*timed just now\)\n   writes (.*)$", said, re.M
    )
    assert found is not None
    assert found[1] == str(tmp_path / "records" / "gpu" / "presets.json")
    found = re.search(r"^3  bench    about 7 min +\(a guess.*\)\n   writes (.*) and, with.*$", said, re.M)
    assert found is not None
    assert found[1] == str(tmp_path / "benchmarks" / "bench.json")
    total = gpu.GUESSED["tests"] + 300 + gpu.GUESSED["bench"]
    assert f"all        about {round(total / 60)} min" in said
    assert [command[2:3] for command in done.commands] == [["pytest"], ["rope_lab"], ["rope_lab"]]
    assert done.commands[0][-3:] == [str(ROOT / "tests" / "gpu"), "--device", "cuda"]
    reproduce, bench = (arguments.parser().parse_args(command[3:]) for command in done.commands[1:])
    assert (reproduce.experiment, reproduce.scale, reproduce.seeds) == ("presets", "gpu", 3)
    assert (reproduce.device, bench.device, bench.quick) == ("cuda", "cuda", False)
    assert (reproduce.out, bench.out) == (str(tmp_path / "records"), str(tmp_path / "benchmarks"))
    assert "bench: finished after 0 s, estimated 420 s" in capsys.readouterr().out


def test_the_plan_alone_runs_nothing(
    seen: None, runs: Callable[..., Runs], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = runs()
    assert gpu.main([*folders(tmp_path), "--plan"]) == 0
    assert "1  tests" in capsys.readouterr().out
    assert gpu.main([*folders(tmp_path), "--ready"]) == 0
    assert capsys.readouterr().out == ""
    assert done.commands == []
    assert list(tmp_path.iterdir()) == []


def record(seed: int, corpus: Corpus) -> dict[str, object]:
    return {
        "variant": "gpu", "seed": seed, "corpus": {"name": corpus.name, "sha256": corpus.sha256}, "device": "cuda",
        "machine": NAME, "threads": 1, "versions": {"torch": torch.__version__},
    }  # fmt: skip


def test_what_is_recorded_is_skipped(
    seen: None, runs: Callable[..., Runs], tmp_path: Path, corpus: Corpus
) -> None:
    out = folders(tmp_path)
    Results("presets", "gpu").add(tmp_path / "records", record(0, corpus), {})
    done = runs()
    assert gpu.main(out) == 0
    assert re.search(r"presets  about 3 min +\(2 of 3 seeds;", done.printed[0])
    assert len(done.commands) == 3

    results = Results.read(tmp_path / "records", "presets", "gpu")
    for seed in (1, 2):
        results.add(tmp_path / "records", record(seed, corpus), {})
    (tmp_path / "benchmarks").mkdir()
    bench = tmp_path / "benchmarks" / "bench.json"
    bench.write_text(json.dumps({"device": NAME, "versions": {"torch": torch.__version__}}))
    done = runs()
    assert gpu.main(out) == 0
    assert [command[2] for command in done.commands] == ["pytest"]
    assert re.search(r"presets  skipped +\(recorded already\)", done.printed[0])
    assert re.search(r"bench    skipped +\(recorded already for this GPU and torch\)", done.printed[0])

    pairs = [("another", torch.__version__), (NAME, "1")]
    others = [json.dumps({"device": device, "versions": {"torch": version}}) for device, version in pairs]
    for other in (*others, "{", "[]", json.dumps({"device": NAME})):
        bench.write_text(other)
        done = runs()
        assert gpu.main(out) == 0
        assert [command[3] for command in done.commands[1:]] == ["bench"]
    assert gpu.main([*out, "--seeds", "4"]) == 0
    assert done.commands[-2][3] == "reproduce"


def test_a_record_that_cannot_be_read_is_refused(
    seen: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "records" / "gpu").mkdir(parents=True)
    (tmp_path / "records" / "gpu" / "presets.json").write_text("{")
    assert "results file must hold records of presets at scale gpu" in refused(capsys, *folders(tmp_path))


def test_a_part_that_fails_does_not_stop_the_others(
    seen: None, runs: Callable[..., Runs], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = runs(tests=1)
    assert gpu.main(folders(tmp_path)) == 1
    assert len(done.commands) == 3
    captured = capsys.readouterr()
    assert "tests: FAILED with exit code 1" in "".join(done.printed)
    assert captured.err == "failed: tests\n"


def test_an_interrupt_stops_all(
    seen: None, runs: Callable[..., Runs], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = runs(presets=130)
    assert gpu.main(folders(tmp_path)) == 130
    assert len(done.commands) == 2
    assert "interrupted; the same command continues" in capsys.readouterr().err


def test_the_time_of_a_training_counts_updates_and_evaluations(
    monkeypatch: pytest.MonkeyPatch, corpus: Corpus, tmp_path: Path
) -> None:
    asked = []

    def each(lab: object, config: object) -> float:
        asked.append((lab.device, config))
        return 0.02

    monkeypatch.setattr(gpu.Lab, "seconds_per_update", each)
    plan = gpu.Plan("cuda", "gpu", 3, tmp_path, tmp_path)
    config = preset("gpu")
    seconds = gpu.seconds_per_seed(corpus, plan)
    assert asked == [("cuda", config)]
    characters = config.steps * config.batch * 256 + config.evaluations * len(corpus.val) / 3
    assert seconds == pytest.approx(0.02 * characters / (config.batch * 256))
    assert config.steps * 0.02 < seconds < 1.1 * config.steps * 0.02


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(10, "under 1 min"), (90, "about 2 min"), (5_300, "about 88 min"), (6_000, "about 1 h 40 min")],
)
def test_times_are_said_in_minutes(seconds: float, said: str) -> None:
    assert gpu.minutes(seconds) == said


@pytest.mark.slow
def test_the_tests_for_a_gpu_run_in_their_rehearsal() -> None:
    """The quickest of them, so that one that can no longer be imported is seen where there is no GPU."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "--device",
        "cpu",
    ]
    quick = "rotation_and_its or autocast or layers_and or answers"
    done = subprocess.run(
        [*command, str(ROOT / "tests" / "gpu"), "-k", quick], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) passed, (\d+) deselected", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1]) >= 25


@pytest.mark.skipif(sys.platform == "win32", reason="make is not part of Windows")
def test_make_asks_first_and_installs_nothing_into_another_python(tmp_path: Path) -> None:
    """With stand-ins for Python that note how they are called; one of them refuses."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    log = tmp_path / "log"

    def stand_in(name: str, code: int) -> str:
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexit {code}\n')
        path.chmod(0o755)
        return str(path)

    def make(*variables: str) -> tuple[int, list[str]]:
        log.unlink(missing_ok=True)
        command = ["make", "--no-print-directory", "gpu", *variables]
        code = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60).returncode
        return code, log.read_text().splitlines()

    asks, starts = "-m rope_lab.bench.gpu --ready", "-m rope_lab.bench.gpu"
    assert make(f"GPU_PYTHON={stand_in('theirs', 0)}") == (0, [asks, starts])
    assert make(f"GPU_PYTHON={stand_in('refuses', 2)}") == (2, [asks])
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    stand_in(".venv/bin/python", 0)
    (tmp_path / ".venv" / ".ready").touch()
    code, lines = make()
    assert code == 0
    assert [lines[0], lines[2]] == [asks, starts]
    assert re.fullmatch(r"-m pip .*install --no-deps liger-kernel==[\d.]+", lines[1])
