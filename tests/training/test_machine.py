"""What a run may lack: memory, a compiler, bfloat16, room on the disk, a loss that is a number. A line says so."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import TEXT, corpus, tiny

from rope_lab.__main__ import main
from rope_lab.model import RoFormer
from rope_lab.training import Stopped, checkpoint, machine, train

LOWER = (
    "lower --batch (now 4) or raise --accumulate (now 1), lower --context (16), --dim (16) or --depth (1), or"
)
COMMAND = ["train", "--preset", "smoke", "--text", "words", "--run", "run", "--context", "16", "--dim", "16"]
COMMAND += ["--depth", "1", "--heads", "2", "--batch", "4"]
ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: ..."),
    RuntimeError("MPS backend out of memory"),
]


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("words").write_text(TEXT, encoding="utf-8")


def parameters(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


class TestMemory:
    @pytest.mark.parametrize("size", ["--dim", "--context", "--batch", "--depth"])
    def test_a_run_far_beyond_the_memory_is_refused_before_it_begins(self, capsys, size):
        value = {"--depth": "9", "--dim": "1000000"}.get(size, "100000000")
        more = ["--dim", "500000"] if size == "--depth" else []
        assert main([*COMMAND, *more, size, value]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "the run needs at least" in err
        assert f"{size} (" in err
        assert "or take a smaller --preset" in err
        assert not Path("run").exists()

    def test_sizes_that_no_computer_can_count_likewise(self, capsys):
        assert main([*COMMAND, "--dim", str(10**10)]) == 2
        assert "the run needs at least" in capsys.readouterr().err

    @pytest.mark.parametrize("activation", ["relu2", "swiglu"])
    @pytest.mark.parametrize("position", ["rope", "learned"])
    def test_what_is_counted_is_needed(self, activation, position):
        config, cpu = (
            tiny(activation=activation, position=position, dim=64, dropout=0.0, attention_dropout=0.0),
            torch.device("cpu"),
        )
        machine.require_memory(config, 30, 1, cpu)
        net, kept = RoFormer(config.architecture(30)), {}
        weights = {p.data_ptr() for p in net.parameters()}

        def keep(x):
            if x.untyped_storage().data_ptr() not in weights:
                kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            logits = net(torch.zeros(config.batch, config.architecture(30).context, dtype=torch.long))
            loss = logits.logsumexp(-1).sum()
        needed = 12 * sum(p.numel() for p in net.parameters()) + sum(kept.values())
        assert needed / 4 < machine.least_memory(config, 30, 1, cpu) <= needed
        del loss

    @pytest.mark.parametrize("error", ERRORS)
    def test_running_out_of_it_later_says_what_to_lower(self, monkeypatch, capsys, error):
        def fail(self, *args, **kwargs):
            raise error

        monkeypatch.setattr(torch.Tensor, "backward", fail)
        with pytest.raises(Stopped, match=re.escape(f"out of memory: {LOWER} take a smaller --preset")):
            train(tiny(), corpus(), quiet=True)
        assert main(COMMAND) == 1
        assert capsys.readouterr().err.startswith("rope-lab train: out of memory: lower --batch (now 4)")

    @pytest.mark.parametrize("error", ERRORS)
    def test_so_does_a_trained_model_that_measures_or_writes(self, monkeypatch, capsys, error):
        def fail(self, *args, **kwargs):
            raise error

        train(tiny(), corpus(), folder="run", quiet=True)
        monkeypatch.setattr(RoFormer, "forward", fail)
        for command, said in (
            ("evaluate run --text words", "lower --lengths (now 16) or take another --device (now cpu)"),
            ("evaluate run --text words --lengths 40 8", "lower --lengths (now 40) or take another --device"),
            ("sample run", "take another --device (now cpu) or a run with a smaller --preset"),
        ):
            assert main([*command.split(), "--device", "cpu"]) == 1
            err = capsys.readouterr().err
            assert err.startswith(f"rope-lab {command.split()[0]}: out of memory: {said}")
            assert err.count("\n") == 1

    def test_the_allocator_of_the_cpu_says_what_is_known(self):
        with pytest.raises(Stopped, match="out of memory"), machine.enough_memory("lower"):
            torch.empty(2**58)

    def test_other_errors_stay_as_they_are(self):
        with pytest.raises(RuntimeError, match="shapes") as caught, machine.enough_memory("lower"):
            raise RuntimeError("shapes do not fit")
        assert not isinstance(caught.value, Stopped)


class TestDivergence:
    def test_it_stops_with_the_step_the_last_good_checkpoint_and_what_to_try(self, capsys):
        assert main([*COMMAND, "--lr=1e15", "--steps=40"]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "the loss is " in err
        assert " at step " in err
        assert "there is no checkpoint yet" in err
        assert "start a run with a lower --lr (now 1e+15) and --matrix-lr (0.015)" in err
        assert "bfloat16" not in err

    def test_a_bad_loss_never_replaces_a_good_checkpoint(self, monkeypatch, tmp_path):
        module = sys.modules[train.__module__]
        original = module.set_learning_rates

        def spoil(optimizers, config, step):
            original(optimizers, config, step)
            if step == 4:  # in the update after the checkpoint of step 3, before the one of step 6
                with torch.no_grad():
                    optimizers[1].param_groups[0]["params"][0].fill_(float("nan"))

        monkeypatch.setattr(module, "set_learning_rates", spoil)
        with pytest.raises(Stopped) as caught:
            train(tiny(reports=1), corpus(), folder=tmp_path / "run", quiet=True)
        file = tmp_path / "run" / checkpoint.FILE
        assert str(caught.value).startswith(
            f"the loss is nan at step 5; the last good checkpoint is {file}, step 3;"
        )
        assert checkpoint.load(file).run["step"] == 3

    def test_nor_does_a_bad_parameter_after_a_good_loss(self, monkeypatch, tmp_path):
        original = torch.optim.AdamW.step
        updates = iter(range(1, 100))

        def step(self, *args, **kwargs):
            original(self, *args, **kwargs)
            if next(updates) == 6:
                with torch.no_grad():
                    self.param_groups[0]["params"][0].fill_(float("inf"))

        monkeypatch.setattr(torch.optim.AdamW, "step", step)
        with pytest.raises(
            Stopped, match=r"a parameter is not finite after step 6; the last good .*, step 3;"
        ):
            train(tiny(reports=1, bfloat16=True), corpus(), folder=tmp_path / "run", quiet=True)
        assert checkpoint.load(tmp_path / "run").run["step"] == 3

    def test_float32_is_advised_where_it_was_not(self, monkeypatch):
        monkeypatch.setattr("rope_lab.training.loop.F.cross_entropy", lambda x, y: x.sum() * float("nan"))
        with pytest.raises(Stopped, match=r"at step 1; there is no checkpoint yet; .* or with --no-bfloat16"):
            train(tiny(bfloat16=True), corpus(), quiet=True)


FULL = """
import resource, sys
from rope_lab.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on the size of a file")
def test_a_file_that_the_system_refuses_to_write_loses_no_earlier_checkpoint(tmp_path):
    """The real way of writing meets a real refusal, as on a full disk: a file may not grow beyond a limit."""
    whole = train(tiny(), corpus(), quiet=True)
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        module = sys.modules[train.__module__]
        original = module.set_learning_rates

        def stop(optimizers, config, step):
            original(optimizers, config, step)
            if step == 3:
                raise KeyboardInterrupt

        patch.setattr(module, "set_learning_rates", stop)
        with pytest.raises(KeyboardInterrupt):
            train(tiny(), corpus(), folder=folder, quiet=True)
    before = (folder / checkpoint.FILE).read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(len(before) // 2), "train", "--resume", "run", "--text", "words"],
        env=os.environ | {"PYTHONPATH": str(Path(machine.__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"rope-lab train: {os.strerror(errno.EFBIG)}: run; the last good checkpoint is run/{checkpoint.FILE}, step 3; "
        "make the folder one that can be written to, then: rope-lab train --resume run\n"
    )
    assert (folder / checkpoint.FILE).read_bytes() == before
    assert not [path for path in folder.iterdir() if path.name.endswith(".unfinished")]
    assert torch.equal(
        parameters(train(tiny(), corpus(), folder=folder, resume=True, quiet=True)), parameters(whole)
    )


def test_a_full_disk_is_told_as_what_it_is(tmp_path):
    """On a disk of 64 KiB, where this process may mount one."""
    if shutil.which("mount") is None:
        pytest.skip("no mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("only root may mount")
    try:
        model = train(tiny(), corpus(), quiet=True).model
        checkpoint.save(disk / checkpoint.FILE, model, [], {"model": {}})
        before = (disk / checkpoint.FILE).read_bytes()
        (disk / "filler").write_bytes(bytes(65536 - len(before) - 8192))
        with pytest.raises(OSError, match=r"No space left on device") as caught:
            checkpoint.save(disk / checkpoint.FILE, model, [], {"model": {}})
        assert caught.value.errno == errno.ENOSPC
        assert (disk / checkpoint.FILE).read_bytes() == before
        with pytest.raises(Stopped, match=r"No space left on device: .*; there is no checkpoint yet"):
            train(tiny(dim=64, dropout=0.0), corpus(), folder=disk / "run", quiet=True)
    finally:
        subprocess.run(["umount", disk], check=True)


class TestCompile:
    def test_without_a_compiler_a_line_says_so_and_training_goes_on_to_the_same_bits(
        self, monkeypatch, capsys, tmp_path
    ):
        def broken(graph, example_inputs):
            raise RuntimeError("No working C++ compiler found\nand much more")

        whole = torch.compile
        monkeypatch.setattr(torch, "compile", lambda model, **_: whole(model, backend=broken))
        run = train(tiny(compile=True), corpus(), folder=tmp_path / "run")
        first, *rest = capsys.readouterr().out.splitlines()
        assert first.startswith("torch.compile failed; continuing without it: ")
        assert "No working C++ compiler found" in first
        assert all(line.startswith("step") for line in rest)
        assert torch.equal(parameters(run), parameters(train(tiny(), corpus(), quiet=True)))

    @pytest.mark.skipif(
        not (shutil.which("c++") or shutil.which("g++")), reason="Inductor needs a C++ compiler"
    )
    def test_what_is_compiled_trains_to_the_same_numbers_dropout_and_all(self, monkeypatch, capsys):
        made = []
        whole = torch.compile
        monkeypatch.setattr(
            torch, "compile", lambda *args, **more: made.append(whole(*args, **more)) or made[-1]
        )
        torch._dynamo.reset()
        run = train(tiny(compile=True), corpus())
        assert made
        assert "torch.compile failed" not in capsys.readouterr().out
        plain, other = (train(tiny(seed=seed), corpus(), quiet=True) for seed in (0, 1))
        torch.testing.assert_close(parameters(run), parameters(plain), rtol=0, atol=1e-5)
        assert (parameters(other) - parameters(plain)).abs().max() > 1e-2


def test_bfloat16_is_for_gpus_that_have_it():
    assert not machine.bfloat16_is_native(torch.device("cpu"))
    assert not machine.bfloat16_is_native(torch.device("mps"))
    low, plain = (train(tiny(bfloat16=on), corpus(), quiet=True) for on in (True, False))
    assert torch.equal(parameters(low), parameters(plain))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_batch_in_pieces_is_the_batch(optimizer):
    config = tiny(optimizer=optimizer, lr=1e-3, dropout=0.0, batch=8)
    whole = train(config, corpus(), quiet=True)
    for accumulate in (2, 8):
        pieces = train(config.change(accumulate=accumulate), corpus(), quiet=True)
        torch.testing.assert_close(parameters(pieces), parameters(whole), rtol=0, atol=1e-5)
        assert [p.loss for p in pieces.history] == pytest.approx([p.loss for p in whole.history], abs=1e-5)
    with pytest.raises(ValueError, match="accumulate must divide batch=8, got 3"):
        config.change(accumulate=3)
