"""One file that a run can go on from to the same bits, and that is never taken for whole when it is not."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from runs import corpus, tiny

from rope_lab import RoFormer
from rope_lab.training import Corpus, checkpoint, train

HERE = Path(__file__).parents[1]  # where the helpers of the tests are


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, and the run."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, train(tiny(), corpus(), folder=folder, quiet=True)


@pytest.fixture
def file(finished, tmp_path):
    """A copy of its checkpoint, to be spoiled."""
    copy = tmp_path / checkpoint.FILE
    copy.write_bytes((finished[0] / checkpoint.FILE).read_bytes())
    return copy


def same(run, other):
    mine, yours = (dict(r.model.named_parameters()) for r in (run, other))
    return mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)


def test_the_model_in_it_is_the_model(finished):
    folder, run = finished
    for place in (folder, str(folder), folder / checkpoint.FILE):
        model = checkpoint.load(place).model()
        ids = torch.arange(8)[None]
        assert torch.equal(model.eval()(ids), run.model.eval()(ids))


def test_everything_is_inside_and_nothing_is_pickled(finished):
    folder, run = finished
    found = checkpoint.load(folder)
    assert found.run["config"] == asdict(tiny())
    assert found.run["vocab"] == corpus().vocab
    assert found.run["step"] == 6
    names = {name for name, _ in run.model.named_parameters()}
    assert set(found.part("model.")) == names
    assert {name.rpartition(".")[0] for name in found.part("optimizer.")} == names
    assert "cpu" in found.part("random.")
    assert json.loads((folder / "run.json").read_text()) | {"random": found.run["random"]} == found.run


def test_a_finished_run_resumes_to_itself(finished, file):
    assert same(train(tiny(), corpus(), folder=file.parent, resume=True, quiet=True), finished[1])


@pytest.mark.parametrize("step", range(1, 6))
def test_it_goes_on_to_the_same_bits_from_any_step(finished, tmp_path, monkeypatch, step):
    module = sys.modules[train.__module__]
    original = module.set_learning_rates

    def stop(optimizers, config, now):
        original(optimizers, config, now)
        if now == step - 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(module, "set_learning_rates", stop)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), corpus(), folder=tmp_path, quiet=True)
    monkeypatch.undo()
    assert checkpoint.load(tmp_path).run["step"] == step
    random.random(), torch.rand(1)
    assert same(train(tiny(), corpus(), folder=tmp_path, resume=True, quiet=True), finished[1])


def test_every_generator_goes_on_where_it_was():
    def draw():
        return random.gauss(0, 1), np.random.randn(), torch.randn(3).tolist()  # noqa: NPY002

    draw()  # Python and NumPy now hold the second half of a pair of normal draws
    states = checkpoint.random_states()
    tensors, plain = states[0], json.loads(json.dumps(states[1]))
    expected = draw()
    draw()
    checkpoint.set_random_states(tensors, plain)
    assert draw() == expected


@pytest.mark.parametrize("seed", [0, 5, 2**63 - 1])
def test_a_seed_starts_every_generator(seed):
    def draw():
        return random.random(), np.random.rand(), torch.rand(2).tolist()  # noqa: NPY002

    with checkpoint.seeded(seed):
        drawn = draw()
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    assert drawn == draw()


class TestKill:
    """`kill -9` while the second checkpoint is written; what is on the disk then is up to the system."""

    SCRIPT = """
import os, signal, sys
from runs import corpus, tiny
import torch
torch.set_num_threads(1)
from rope_lab.training import checkpoint
from rope_lab.training import train

folder, share = sys.argv[1], float(sys.argv[2])
calls, fsync = [], os.fsync

def kill(handle):
    calls.append(handle)
    if len(calls) == 5:  # the first checkpoint, its record, and their folder after each of them came before
        os.ftruncate(handle, int(share * os.fstat(handle).st_size))
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)

os.fsync = kill
train(tiny(), corpus(), folder=folder, quiet=True)
"""

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    @pytest.mark.skipif(os.name == "nt", reason="Windows has no kill -9")
    def test_the_checkpoint_before_is_still_there_and_goes_on_to_the_same_bits(
        self, finished, tmp_path, share
    ):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
        command = [sys.executable, "-c", self.SCRIPT, str(tmp_path), str(share)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert (tmp_path / f".{checkpoint.FILE}.unfinished").exists()
        assert checkpoint.load(tmp_path).run["step"] == 2
        assert same(train(tiny(), corpus(), folder=tmp_path, resume=True, quiet=True), finished[1])
        assert not (tmp_path / f".{checkpoint.FILE}.unfinished").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_loses_no_earlier_checkpoint(finished, file, monkeypatch, error):
    before = file.read_bytes()

    def fail(tensors, path, metadata):
        Path(path).write_bytes(before[:100])
        raise error

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(type(error)):
        checkpoint.save(file, finished[1].model, [], {})
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [checkpoint.FILE]


class TestSpoiled:
    def refused(self, file, said):
        with pytest.raises(ValueError, match=said) as caught:
            checkpoint.load(file)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
    def test_a_file_cut_short_is_never_loaded(self, file, share):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(share * len(whole))])
        self.refused(file, "run must be a whole checkpoint of rope_lab")

    def test_nor_at_any_step_of_a_walk_through_it(self, file):
        whole = file.read_bytes()
        for length in range(
            0, len(whole), 211
        ):  # a prime: it ends in tensors, between them and inside numbers
            file.write_bytes(whole[:length])
            self.refused(file, "run must be a whole checkpoint of rope_lab")

    def test_nor_at_any_of_the_bytes_that_matter_most(self, file):
        whole = file.read_bytes()
        header = 8 + int.from_bytes(whole[:8], "little")
        for length in (*range(20), header - 1, header, header + 1, *range(len(whole) - 9, len(whole))):
            file.write_bytes(whole[:length])
            self.refused(file, "run must be a whole checkpoint of rope_lab")

    def test_nor_one_that_goes_on_too_long(self, file):
        file.write_bytes(file.read_bytes() + b"\0")
        self.refused(file, "run must be a whole checkpoint")

    def test_other_files_are_named(self, file, tmp_path):
        file.write_text("To be, or not to be")
        self.refused(file, "run must be a whole checkpoint")
        RoFormer(tiny().architecture(5)).save(file)
        self.refused(file, "run must be a whole checkpoint of rope_lab, got .*: it has no run in it")
        self.refused(tmp_path / "nothing", "run must be a folder that holds checkpoint.safetensors")
        (tmp_path / "empty").mkdir()
        self.refused(tmp_path / "empty", "run must be a folder that holds checkpoint.safetensors")

    @pytest.mark.parametrize("spoil", ["shape", "missing", "unknown"])
    def test_a_checkpoint_of_another_shape_is_refused(self, finished, file, spoil):
        found = checkpoint.load(file)
        tensors = dict(found.tensors)
        if spoil == "shape":
            tensors["model.blocks.0.up.weight"] = torch.zeros(3, 3)
        elif spoil == "missing":
            del tensors["model.blocks.0.up.weight"]
        else:
            tensors["model.blocks.9.up.weight"] = torch.zeros(3, 3)
        plain = {"random": json.dumps(found.run["random"]), "run": json.dumps(found.run)}
        safetensors.torch.save_file(tensors, file, plain | {"sha256": checkpoint.digest(tensors)})
        with pytest.raises(ValueError, match=r"blocks\.[09]\.up\.weight"):
            checkpoint.load(file).model()
        with pytest.raises(ValueError, match=r"blocks\.[09]\.up\.weight"):
            train(tiny(), corpus(), folder=file.parent, resume=True, quiet=True)


class TestAnotherRun:
    def test_other_settings_are_named(self, file):
        with pytest.raises(ValueError, match=r"steps must be 6 as in .*, got 7"):
            train(tiny(steps=7), corpus(), folder=file.parent, resume=True, quiet=True)

    def test_another_text_is_named(self, file):
        other = Corpus("other", corpus().text[::-1])
        with pytest.raises(
            ValueError, match=r"corpus must be words \(.*, which the run was trained on, got other"
        ):
            train(tiny(), other, folder=file.parent, resume=True, quiet=True)

    def test_nothing_to_resume(self, tmp_path):
        with pytest.raises(ValueError, match="folder must hold a run to resume"):
            train(tiny(), corpus(), folder=tmp_path / "none", resume=True)
        with pytest.raises(ValueError, match="folder must be that of the run to resume, got None"):
            train(tiny(), corpus(), resume=True)
        assert not (tmp_path / "none").exists()
