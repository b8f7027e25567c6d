"""Several processes train as one: to the same numbers, through the loss of a worker, with plain words if they cannot.

Processes are real and talk over gloo. Two of them, started once, train every case of the equality tests.
"""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from runs import TEXT, corpus, tiny

from rope_lab.training import Team, TrainConfig, checkpoint, train

HERE = Path(__file__).parents[1]  # where the helpers of the tests are
CPU = torch.device("cpu")

# AdamW divides a gradient by its own size: where that is near zero, its rounding shows at the scale of lr.
CASES = {
    "adamw": tiny(optimizer="adamw", lr=1e-3, dropout=0.0, steps=5, batch=8, clip=0.5),
    "adamw in pieces": tiny(optimizer="adamw", lr=1e-3, dropout=0.0, steps=5, batch=8, accumulate=2),
    "muon": tiny(dropout=0.0, steps=5, batch=8),
    "dropout": tiny(batch=8),
}
if shutil.which("c++") or shutil.which("g++"):  # which Inductor needs
    CASES["compiled"] = CASES["adamw"].change(compile=True)
# Muon brings all directions of a gradient to one size, the least by a factor of up to 3.4445^5 = 485 in its five
# iterations. Sums in another order differ by about 1e-6 of a gradient, so after five updates of 0.015 a parameter may
# differ by 485 · 1e-6 · 5 · 0.015 = 4e-5. Measured were 2e-6.
TOLERANCE = {"adamw": 1e-5, "adamw in pieces": 1e-5, "compiled": 1e-5, "muon": 4e-5}

PAIR = """
import sys, zlib
from pathlib import Path
import safetensors.torch, torch
import torch.nn.functional as F
from test_distributed import CASES, parameters
from runs import corpus
from rope_lab.training import rank
from rope_lab.training import train
torch.set_num_threads(1)
folder = Path(sys.argv[1])
states, cross_entropy = [], F.cross_entropy

def watched(*arguments, **options):  # what the generator was left at by the dropout of a forward pass
    states.append(zlib.crc32(torch.get_rng_state().numpy().tobytes()))
    return cross_entropy(*arguments, **options)

F.cross_entropy = watched
for name, config in CASES.items():
    states.clear()
    run = train(config, corpus(), folder=folder / name)
    safetensors.torch.save_file(parameters(run), folder / f"{name} {rank()}")
    (folder / f"states of {name} {rank()}").write_text(" ".join(map(str, states[:6])))
"""

# The command line, but in update 5 the second worker kills itself, and when torchrun has started all anew, the first.
KILLED = """
import os, signal, sys, torch
torch.set_num_threads(1)
from rope_lab.__main__ import main
from rope_lab.training import rank
module = sys.modules["rope_lab.training.loop"]
original = module.set_learning_rates

def kill(optimizers, config, step):
    original(optimizers, config, step)
    if step == 4 and rank() == 1 - int(os.environ["TORCHELASTIC_RESTART_COUNT"]):
        os.kill(os.getpid(), signal.SIGKILL)

module.set_learning_rates = kill
sys.exit(main(sys.argv[1:]))
"""


def parameters(run):
    return {name: p.detach().clone() for name, p in run.model.named_parameters()}


def difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


def environment(**names):
    path = os.pathsep.join(str(folder) for folder in (HERE / "training", HERE, HERE.parent))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | names


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The folder of what two processes made of every case, one line of which only the first may print."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    place |= {"TORCHELASTIC_RUN_ID": "pair"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PAIR, str(folder)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **place),
        )
        for rank in (0, 1)
    ]  # fmt: skip
    said = [worker.communicate(timeout=280) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert [bool(out) for out, _ in said] == [True, False]  # one of them prints
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same cases in one process."""
    return {name: parameters(train(config, corpus(), quiet=True)) for name, config in CASES.items()}


@pytest.mark.parametrize("case", [case for case in TOLERANCE if case in CASES])
def test_two_processes_are_one_at_equal_global_batch(pair, alone, case):
    workers = [safetensors.torch.load_file(pair / f"{case} {rank}") for rank in (0, 1)]
    assert difference(*workers) == 0
    assert (
        0 < difference(workers[0], alone[case]) <= TOLERANCE[case]
    )  # not 0: a sum of two halves rounds otherwise
    start = parameters(train(CASES[case].change(steps=1, lr=0.0, matrix_lr=0.0), corpus(), quiet=True))
    assert difference(alone[case], start) > 100 * TOLERANCE[case]  # they moved


def test_the_loss_they_report_is_that_of_the_whole_batch(pair):
    one = train(CASES["adamw"], corpus(), quiet=True)
    found = checkpoint.load(pair / "adamw").run
    assert [point["loss"] for point in found["history"]] == pytest.approx(
        [p.loss for p in one.history], abs=1e-5
    )
    assert found["val_loss"] == pytest.approx(one.val, abs=1e-5)
    assert found["workers"] == 2


def test_workers_draw_their_own_dropout_and_agree(pair, alone):
    workers = [safetensors.torch.load_file(pair / f"dropout {rank}") for rank in (0, 1)]
    assert difference(*workers) == 0
    draws = []
    for rank in (0, 1):
        Team(CPU, rank, 2).seed(0, 3)
        draws.append(torch.rand(4))
    assert not torch.equal(*draws)
    states = [(pair / f"states of dropout {rank}").read_text().split() for rank in (0, 1)]
    assert len(states[0]) == len(states[1]) == 6
    assert all(one != other for one, other in zip(*states, strict=True))  # in training too, at each step


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no kill -9")
def test_kill_9_of_either_worker_and_torchrun_goes_on_from_the_last_checkpoint(pair, tmp_path):
    (tmp_path / "words").write_text(TEXT, encoding="utf-8")
    (tmp_path / "killed.py").write_text(KILLED, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [
        "--max-restarts",
        "2",
        "killed.py",
        "train",
        "--preset",
        "smoke",
        "--text",
        "words",
        "--folder",
        "run",
    ]
    settings = {"steps": 6, "batch": 8, "context": 16, "dim": 16, "depth": 1, "heads": 2}
    for name, value in (settings | {"dropout": 0.1, "attention-dropout": 0.1}).items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    steps = [
        int(line.split()[1].split("/")[0]) for line in done.stdout.splitlines() if line.startswith("step")
    ]
    assert steps == [2, 3, 5, 6]  # none twice: it went on after update 3
    assert done.stderr.count("exitcode: -9") == 2
    found = checkpoint.load(tmp_path / "run")
    assert TrainConfig(**found.run["config"]).change(reports=3) == CASES["dropout"]
    whole = safetensors.torch.load_file(pair / "dropout 0")
    assert difference(whole, found.part("model.")) == 0  # to the same bits, dropout and all


@pytest.mark.slow
def test_a_number_of_workers_that_does_not_divide_the_batch_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "words").write_text(TEXT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3", "-m", "rope_lab", "train",
         "--preset", "smoke", "--text", "words"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.startswith("rope-lab")]
    assert said == [
        "rope-lab train: the number of workers must divide batch/accumulate = 8: 1, 2, 4 or 8, got 3"
    ]
    assert "exitcode: 2" in done.stderr or "exitcode  : 2" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["words"]


class TestTeam:
    def test_the_pieces_of_all_workers_are_the_batch(self):
        inputs, targets = torch.arange(24).view(12, 2), torch.arange(24).view(12, 2) + 100
        shares = [Team(CPU, rank, 3).share(inputs, targets, 2) for rank in range(3)]
        assert [len(share) for share in shares] == [2, 2, 2]
        for whole, index in ((inputs, 0), (targets, 1)):
            assert torch.equal(torch.cat([pair[index] for share in shares for pair in share]), whole)

    @pytest.mark.parametrize(
        ("size", "batch", "accumulate", "said"),
        [
            (3, 16, 1, "= 16: 1, 2, 4, 8 or 16, got 3"),
            (2, 3, 3, "= 1: 1, got 2"),
            (4, 12, 2, "1, 2, 3 or 6, got 4"),
        ],
    )
    def test_an_uneven_share_is_refused_with_what_is_allowed(self, size, batch, accumulate, said):
        with pytest.raises(ValueError, match=said):
            Team(CPU, size=size).divide(batch, accumulate)
        Team(CPU, size=1).divide(batch, accumulate)

    def test_without_torchrun_there_is_one(self, monkeypatch):
        monkeypatch.setenv("RANK", "5")  # of some other launcher
        assert Team.here("cpu") == Team(CPU)

    def test_a_launch_has_one_name_for_all_its_restarts_and_no_other(self, monkeypatch):
        def here(run, rank):
            for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank}.items():
                monkeypatch.setenv(name, str(value))
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", run)
            return Team.here("cpu")

        assert here("a", 0).launch == here("a", 1).launch != here("b", 0).launch
        assert here("none", 0).launch == here("none", 1).launch
        assert (here("a", 1).rank, here("a", 1).size, here("a", 1).first) == (1, 2, False)


class TestSameLaunch:
    """A folder goes on unasked where the same call of torchrun wrote it, and only there."""

    @pytest.fixture
    def launched(self, monkeypatch):
        def launch(run):
            for name, value in {
                "RANK": "0",
                "WORLD_SIZE": "1",
                "LOCAL_RANK": "0",
                "TORCHELASTIC_RUN_ID": run,
            }.items():
                monkeypatch.setenv(name, value)

        return launch

    def test_it_does(self, launched, tmp_path, monkeypatch):
        launched("one")
        train(tiny(), corpus(), folder=tmp_path, quiet=True)
        before = (tmp_path / checkpoint.FILE).read_bytes()
        assert train(tiny(), corpus(), folder=tmp_path, quiet=True).step == 6
        for other in ("two", None):
            launched("two") if other else monkeypatch.delenv("TORCHELASTIC_RUN_ID")
            with pytest.raises(ValueError, match="folder must hold no run yet"):
                train(tiny(), corpus(), folder=tmp_path, quiet=True)
        assert (tmp_path / checkpoint.FILE).read_bytes() == before
        launched("two")
        assert train(tiny(), corpus(), folder=tmp_path, resume=True, quiet=True).step == 6
