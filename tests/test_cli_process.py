"""The command line in a process of its own: signals, pipes, full disks, and two runs that want one folder."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from runs import TEXT, corpus, tiny
from test_cli import TINY, call

import rope_lab
from rope_lab.training import checkpoint, train


@pytest.fixture(autouse=True, scope="module")
def home(tmp_path_factory):
    """A folder with a text and a run on it, to stand in."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "words").write_text(TEXT, encoding="utf-8")
    train(tiny(), corpus(), folder=folder / "run", quiet=True)
    before = os.getcwd()
    os.chdir(folder)
    yield
    os.chdir(before)


class TestProcess:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    def test_an_error_without_a_file_is_told_without_one(self):
        with open("/dev/full", "w") as full:
            process = self.start("info", stdout=full)
        assert process.communicate()[1] == f"rope-lab info: {os.strerror(errno.ENOSPC)}\n"
        assert process.returncode == 2

    def start(self, *arguments, **options):
        environment = os.environ | {
            "PYTHONPATH": str(Path(rope_lab.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "rope_lab", *arguments], env=environment, text=True,
            **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options),
        )  # fmt: skip

    @pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one child")
    def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(self, tmp_path):
        folder = str(tmp_path / "run")
        process = self.start(*TINY, "--run", folder, "--steps", "1000")
        with process:
            assert process.stdout.readline().startswith("step  250/1000")
            process.send_signal(signal.SIGINT)
            err = process.communicate()[1]
        assert process.returncode == 130
        assert "Traceback" not in err
        assert err.splitlines()[-1] == (
            f"rope-lab: interrupted; resume with: rope-lab train --resume {folder} --text words"
        )
        assert checkpoint.load(folder).run["step"] >= 250

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
    @pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGHUP", None)])
    def test_a_stop_from_outside_leaves_a_checkpoint_too(self, tmp_path, number):
        folder = str(tmp_path / "run")
        process = self.start(*TINY, "--run", folder, "--steps", "4000")
        with process:
            assert process.stdout.readline().startswith("step 1000/4000")
            process.send_signal(number)
            err = process.communicate()[1]
        assert process.returncode == 130
        assert "resume with: rope-lab train --resume" in err
        assert checkpoint.load(folder).run["step"] >= 1000

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no lock on a folder")
    def test_a_folder_in_use_is_refused_until_its_run_has_ended(self, capsys, tmp_path):
        folder = str(tmp_path / "run")
        process = self.start(*TINY, "--run", folder, "--steps", "4000")
        with process:
            while not (tmp_path / "run" / "log.jsonl").exists():
                assert process.poll() is None
            for command in ([*TINY, "--run", folder], [*TINY, "--run", str(tmp_path / "x" / ".." / "run")]):
                code, out, err = call(capsys, *command)
                assert (code, out) == (2, "")
                assert err.startswith("rope-lab train: --run must be in use by no other run"), err
            process.kill()
        assert (
            "--run must hold no run yet" in call(capsys, *TINY, "--run", folder)[2]
        )  # nobody uses it any more

    def test_a_terminal_that_knows_ascii_alone_gets_its_text(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        folder = str(tmp_path / "é")
        out, err = self.start(*TINY, "--run", folder).communicate()
        assert err == ""
        assert out.endswith("rope-lab sample '" + str(tmp_path) + "/\\xe9'\n")

    def test_characters_come_as_they_are_drawn(self):
        process = self.start("sample", "run", "--prompt", "t", "--characters", "100000000")
        with process:
            assert process.stdout.read(300).startswith("t")  # long before the last
            assert process.poll() is None
            process.kill()

    def test_a_reader_that_goes_away_is_no_error(self):
        process = self.start("sample", "run", "--characters", "100000")
        with process:
            process.stdout.read(10)
            process.stdout.close()
            assert process.wait() == 141
            assert process.stderr.read() == ""
