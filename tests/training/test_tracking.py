"""labml's file, plain lines on the screen, and nothing anywhere else: in a terminal and in a notebook."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from runs import corpus, tiny

from rope_lab.figures.training import curve_from
from rope_lab.training import train

HERE = Path(__file__).parents[1]  # where the helpers of the tests are
LINE = re.compile(r"step +\d+/6  train \d\.\d{4}  (val \d\.\d{4}| {10})  [\d,]+ characters/s  \d+ s left")
CODE = """
from runs import corpus, tiny
from rope_lab.training import train
run = train(tiny(), corpus(), folder="a")
run = train(tiny(seed=1), corpus(), folder="b")
"""


def packets(folder):
    return [json.loads(line)["track"] for line in (folder / "log.jsonl").read_text().splitlines()]


def logged(folder, name):
    return [(step, value) for track in packets(folder) for step, [value] in track.get(name, [])]


def test_labml_writes_the_history(tmp_path):
    run = train(tiny(), corpus(), folder=tmp_path, quiet=True)
    assert logged(tmp_path, "train.loss") == [(point.step, point.loss) for point in run.history]
    assert logged(tmp_path, "val.loss") == [
        (point.step, point.val) for point in run.history if point.val is not None
    ]
    assert all(rate > 0 for _, rate in logged(tmp_path, "rate"))
    assert len(packets(tmp_path)) == len(run.history)  # each on the disk as soon as it is known


@pytest.mark.parametrize("at", [2, 6])
def test_the_curve_is_drawn_from_the_folder_alone(tmp_path, monkeypatch, at):
    """Also from that of a run which ended before anything was measured."""
    module = sys.modules[train.__module__]
    original = module.set_learning_rates

    def stop(optimizers, config, step):
        original(optimizers, config, step)
        if step == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "set_learning_rates", stop)
    config = tiny(evaluations=1)
    with contextlib.suppress(KeyboardInterrupt):
        train(config, corpus(), folder=tmp_path / "run", quiet=True)
    monkeypatch.undo()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "run.json").write_bytes((tmp_path / "run" / "run.json").read_bytes())
    whole = train(config, corpus(), quiet=True)
    training, validation = curve_from(tmp_path / "elsewhere").axes[0].lines
    points = [point for point in whole.history if point.step <= at]
    assert training.get_xydata().tolist() == [[point.step, point.loss] for point in points]
    assert validation.get_xydata().tolist() == [[6, whole.val]] * (at == 6)


def test_no_line_is_empty_however_long_a_report_takes(tmp_path, monkeypatch):
    now = iter(range(0, 10**6, 100))  # a report every 100 seconds: then labml writes before it is asked to
    monkeypatch.setattr("labml.internal.tracker.writers.file.time.time", lambda: next(now))
    run = train(tiny(), corpus(), folder=tmp_path, quiet=True)
    assert len(packets(tmp_path)) == len(run.history)
    assert all("train.loss" in track for track in packets(tmp_path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_ends_no_thread_with_a_traceback(tmp_path, capfd):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    assert train(tiny(), corpus(), folder=tmp_path, quiet=True).step == 6
    assert capfd.readouterr() == ("", "")


def test_no_thread_is_left(tmp_path):
    before = set(threading.enumerate())
    train(tiny(), corpus(), folder=tmp_path, quiet=True)
    assert set(threading.enumerate()) == before


def test_the_log_of_a_run_that_went_on_is_its_history(tmp_path, monkeypatch):
    """Killed after a report was logged, or between a save and its line: each step is there once."""
    module = sys.modules[train.__module__]
    original = module.set_learning_rates

    def stop(optimizers, config, step):
        original(optimizers, config, step)
        if step == 4:
            raise KeyboardInterrupt

    (tmp_path / "log.jsonl").write_text("of another run\n")
    monkeypatch.setattr(module, "set_learning_rates", stop)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), corpus(), folder=tmp_path, quiet=True)
    monkeypatch.undo()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, lines[-1], lines[-1]]) + "\n")
    run = train(tiny(), corpus(), folder=tmp_path, resume=True, quiet=True)
    assert logged(tmp_path, "train.loss") == [(point.step, point.loss) for point in run.history]


def test_a_log_that_cannot_be_written_is_said_once_and_training_goes_on(tmp_path, capsys):
    (tmp_path / "log.jsonl").mkdir()
    assert train(tiny(), corpus(), folder=tmp_path).step == 6
    lines = [line for line in capsys.readouterr().out.splitlines() if "log.jsonl" in line]
    assert lines == ["log.jsonl cannot be written; continuing without it: Is a directory"]


def test_runs_do_not_mix(tmp_path):
    runs = [train(tiny(seed=seed), corpus(), folder=tmp_path / str(seed), quiet=True) for seed in (0, 1, 2)]
    for seed, run in enumerate(runs):
        assert logged(tmp_path / str(seed), "train.loss") == [(p.step, p.loss) for p in run.history]


def test_the_screen_shows_a_line_a_report(capsys):
    run = train(tiny(), corpus())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(run.history)
    assert all(LINE.fullmatch(line) for line in lines), lines
    train(tiny(), corpus(), quiet=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["labml", "safetensors"])
def test_without_the_extra_a_folder_is_refused_in_one_line_and_no_folder_works(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf'{name} is not installed: pip install "rope-lab\[train\]"'
    ):
        train(tiny(), corpus(), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert train(tiny(), corpus(), quiet=True).step == 6


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty home and an empty working directory, for child processes."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent)]))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def test_a_terminal_sees_the_lines_and_the_disk_only_the_folder(elsewhere):
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=elsewhere / "work", capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert done.stderr == ""
    assert list((elsewhere / "home").iterdir()) == []
    assert sorted(path.name for path in (elsewhere / "work").iterdir()) == ["a", "b"]


def test_a_notebook_sees_the_same_lines(elsewhere, monkeypatch):
    import nbclient
    import nbformat

    monkeypatch.setenv("IPYTHONDIR", str(elsewhere / "ipython"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(elsewhere / "work")}},
    ).execute()
    outputs = notebook.cells[0].outputs
    assert {(output.output_type, output.get("name")) for output in outputs} == {("stream", "stdout")}
    lines = "".join(output.text for output in outputs).splitlines()
    assert len(lines) == 8
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert len(logged(elsewhere / "work" / "b", "train.loss")) == 4
