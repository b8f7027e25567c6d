"""The loop: its bits, its batches, its learning rates and what it leaves behind."""

import json
import random
import signal
import sys
import threading
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from runs import TEXT, corpus, tiny

from rope_lab import RoFormer
from rope_lab.training import (
    PRESETS,
    Batches,
    Corpus,
    TrainConfig,
    due,
    evaluate,
    preset,
    record,
    train,
)


def parameters(run):
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


@pytest.mark.parametrize("position", ["rope", "learned"])
def test_the_same_seed_gives_the_same_bits(position):
    config = tiny(position=position)
    first = train(config, corpus(), quiet=True)
    torch.randn(3), random.random()  # what happened before must not matter
    second = train(config, corpus(), quiet=True)
    assert torch.equal(parameters(first), parameters(second))
    assert [(p.step, p.loss, p.val) for p in first.history] == [
        (p.step, p.loss, p.val) for p in second.history
    ]
    assert not torch.equal(parameters(first), parameters(train(config.change(seed=1), corpus(), quiet=True)))


def test_the_number_of_reports_and_evaluations_does_not_change_the_bits():
    config = tiny()
    assert torch.equal(
        parameters(train(config, corpus(), quiet=True)),
        parameters(train(config.change(reports=6, evaluations=6), corpus(), quiet=True)),
    )


def test_a_run_leaves_the_generators_of_its_caller_alone():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    train(tiny(), corpus(), quiet=True)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_a_report_is_the_mean_since_the_one_before():
    every = [point.loss for point in train(tiny(reports=6), corpus(), quiet=True).history]
    two = [point.loss for point in train(tiny(reports=2, evaluations=1), corpus(), quiet=True).history]
    assert two == pytest.approx([sum(every[:3]) / 3, sum(every[3:]) / 3], abs=1e-6)


def test_start_must_be_a_model_of_the_same_characters():
    with pytest.raises(TypeError, match="start must be a RoFormer, got Linear"):
        train(tiny(), corpus(), start=torch.nn.Linear(2, 2), quiet=True)
    with pytest.raises(ValueError, match=r"start must have vocab_size=\d+ as the text has, got 5"):
        train(tiny(), corpus(), start=RoFormer(tiny().architecture(5)), quiet=True)


def test_it_learns():
    run = train(tiny(steps=120, lr=0.01), corpus(), quiet=True)
    assert run.val < 0.6 * evaluate(RoFormer(run.model.config), corpus().encode(corpus().val))
    assert run.history[-1].val == run.val == evaluate(run.model, corpus().encode(corpus().val))


def test_the_history_has_the_steps_asked_for():
    run = train(tiny(), corpus(), quiet=True)
    assert [point.step for point in run.history] == [2, 3, 4, 6]
    assert [point.val is not None for point in run.history] == [False, True, False, True]
    assert all(a.seconds < b.seconds for a, b in zip(run.history, run.history[1:], strict=False))


@pytest.mark.parametrize(("times", "steps"), [(1, 1), (3, 10), (10, 10), (20, 7), (4, 800)])
def test_due_is_spread_evenly_and_ends_with_the_last_step(times, steps):
    at = [step for step in range(1, steps + 1) if due(step, times, steps)]
    assert len(at) == min(times, steps)
    assert at[-1] == steps
    assert max(np.diff([0, *at])) - min(np.diff([0, *at])) <= 1


class TestBatches:
    def test_targets_are_the_next_characters(self):
        ids = torch.arange(1000)
        inputs, targets = Batches(ids, tiny())(3)
        assert inputs.shape == targets.shape == (4, 16)
        assert torch.equal(inputs + 1, targets)

    def test_an_epoch_visits_every_segment_once(self):
        batches = Batches(torch.arange(16 * 9 + 5), tiny())
        assert batches.segments == 8
        for epoch in (0, 1, 2):
            seen = torch.cat([batches(step)[0] for step in (2 * epoch, 2 * epoch + 1)]).flatten()
            assert len(seen.unique()) == 8 * 16
        orders = [torch.cat([batches(2 * e)[0], batches(2 * e + 1)[0]])[:, 0] for e in range(3)]
        assert not torch.equal(orders[0], orders[1])

    def test_the_last_character_can_be_a_target_and_none_lies_beyond(self):
        ids = torch.arange(16 * 3)
        seen = torch.cat([Batches(ids, tiny(seed=seed))(0)[1].flatten() for seed in range(60)])
        assert seen.max() == len(ids) - 1

    def test_a_batch_depends_on_its_step_alone(self):
        ids = torch.arange(500)
        one, other = Batches(ids, tiny()), Batches(ids, tiny())
        for step in (0, 30, 7, 2):
            one(step)
        for step in (2, 30):
            assert torch.equal(one(step)[0], other(step)[0])

    def test_a_batch_larger_than_the_text_goes_on_with_the_next_epoch(self):
        inputs, _ = Batches(torch.arange(40), tiny(batch=5))(0)
        assert inputs.shape == (5, 16)


class TestPresets:
    def test_sizes(self):
        size = {
            name: sum(p.numel() for p in RoFormer(config.architecture(65)).parameters())
            for name, config in PRESETS.items()
        }
        assert size["cpu"] <= 1_000_000
        assert 1_500_000 < size["laptop"] < 2_500_000
        assert 9_500_000 < size["gpu"] < 11_500_000

    def test_settings_of_run_and_model_change_together(self):
        config = preset("cpu", steps=7, position="none")
        assert (config.steps, config.model["position"], config.architecture(5).position) == (
            7,
            "none",
            "none",
        )
        assert config.model["dim"] == PRESETS["cpu"].model["dim"]
        assert "position" not in PRESETS["cpu"].model
        with pytest.raises(FrozenInstanceError):
            config.steps = 8

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"steps": 0}, "steps must be a positive integer, got 0"),
            ({"steps": True}, "steps must be a positive integer, got True"),
            ({"batch": 2.0}, "batch must be a positive integer, got 2.0"),
            ({"seed": -1}, "seed must be an integer of at least 0"),
            ({"lr": float("nan")}, "lr must be finite and not negative"),
            ({"matrix_lr": -1}, "matrix_lr must be finite"),
            ({"weight_decay": 1e300}, r"weight_decay must be at most 1e15, got 1e\+300"),
            ({"warmup": 1.5}, r"warmup must lie in \[0, 1\]"),
            ({"position": "spiral"}, "position must be one of"),
            ({"heads": 3}, "heads must divide"),
            (
                {"heads": 32},
                "heads must leave a head an even number of the dim=32 .*, got 32, which leaves 1$",
            ),
            ({"colour": 1}, "setting must be one of .*steps.*, got 'colour'"),
        ],
    )
    def test_bad_settings_are_named(self, change, said):
        with pytest.raises(ValueError, match=said):
            preset("smoke", **change)

    def test_unknown_preset(self):
        with pytest.raises(ValueError, match="preset must be one of smoke, cpu, laptop, gpu, got 'huge'"):
            preset("huge")

    def test_a_config_survives_json(self):
        config = tiny(window=3)
        from dataclasses import asdict

        assert TrainConfig(**json.loads(json.dumps(asdict(config)))) == config


class TestFolder:
    def test_it_holds_the_record(self, tmp_path):
        folder = tmp_path / "missing" / ".." / "new" / "run"
        run = train(tiny(), corpus(), folder=folder, quiet=True)
        assert not (tmp_path / "missing").exists()
        files = sorted(path.name for path in (tmp_path / "new" / "run").iterdir())
        assert files == ["checkpoint.safetensors", "log.jsonl", "run.json"]
        found = json.loads((tmp_path / "new" / "run" / "run.json").read_text())
        assert found["corpus"] == {"name": "words", "sha256": corpus().sha256}
        assert found["val_loss"] == run.val
        assert found["train_loss"] == run.history[-1].loss
        assert found["step"] == found["config"]["steps"] == 6
        assert found["config"]["seed"] == 0
        assert found["versions"]["torch"] == torch.__version__
        assert found["threads"] == torch.get_num_threads()
        assert found["device"] in ("cpu", "cuda", "mps")
        assert found["seconds"] > 0
        assert found["parameters"] == sum(p.numel() for p in run.model.parameters())
        assert [point["step"] for point in found["history"]] == [2, 3, 4, 6]

    def test_a_long_pause_between_reports_is_cut_short_by_a_save(self, tmp_path, monkeypatch, capsys):
        """With one report asked for, a run of many steps is still saved and heard of; its history stays the same."""
        monkeypatch.setattr(sys.modules[train.__module__], "PAUSE", 0.0)
        saved = []
        save = record.Run.save
        monkeypatch.setattr(record.Run, "save", lambda run, *rest: (saved.append(run.step), save(run, *rest)))
        run = train(tiny(reports=1, evaluations=1), corpus(), folder=tmp_path / "run")
        assert saved == [1, 2, 3, 4, 5, 6]
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[1] for line in lines] == [f"{step}/6" for step in saved]
        assert ["train" in line for line in lines] == [False] * 5 + [True]
        assert [point.step for point in run.history] == [6]

    def test_a_second_run_does_not_overwrite_the_first(self, tmp_path):
        train(tiny(), corpus(), folder=tmp_path, quiet=True)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(ValueError, match="folder must hold no run yet"):
            train(tiny(seed=1), corpus(), folder=tmp_path, quiet=True)
        assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def test_a_bad_input_leaves_no_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"corpus must have 32 characters to train on .*, got 18"):
            train(tiny(), Corpus("short", TEXT[:20]), folder=tmp_path / "run")
        with pytest.raises(ValueError, match=r"device must be one of .*cpu.*, got 'tpu'"):
            train(tiny(), corpus(), folder=tmp_path / "run", device="tpu")
        assert not (tmp_path / "run").exists()

    def test_the_shortest_text_that_will_do(self):
        text = TEXT[:36]  # 32 characters to train on, two contexts, and 4 to validate on
        assert train(tiny(), Corpus("short", text), quiet=True).step == 6


class TestInterrupt:
    @pytest.fixture
    def press(self, monkeypatch):
        """Ctrl-C while step number `at` is computed."""

        def install(at):
            steps = iter(range(1, 1000))
            original = torch.optim.AdamW.step

            def step(self, *args, **kwargs):
                if next(steps) == at:
                    signal.raise_signal(signal.SIGINT)  # between Muon's update and AdamW's
                return original(self, *args, **kwargs)

            monkeypatch.setattr(torch.optim.AdamW, "step", step)

        return install

    @pytest.mark.parametrize("at", [1, 4, 6])
    def test_ctrl_c_ends_the_step_and_leaves_a_checkpoint_that_goes_on_to_the_same_bits(
        self, press, tmp_path, at
    ):
        whole = train(tiny(), corpus(), quiet=True)
        press(at)
        with pytest.raises(KeyboardInterrupt):
            train(tiny(), corpus(), folder=tmp_path, quiet=True)
        assert json.loads((tmp_path / record.FILE).read_text())["step"] == at
        resumed = train(tiny(), corpus(), folder=tmp_path, resume=True, quiet=True)
        assert torch.equal(parameters(whole), parameters(resumed))
        strip = [replace(point, seconds=0) for point in resumed.history]
        assert strip == [replace(point, seconds=0) for point in whole.history]
        assert resumed.history[-1].seconds >= resumed.history[0].seconds

    def test_the_handler_of_the_caller_is_back_afterwards(self, press, tmp_path):
        before = signal.getsignal(signal.SIGINT)
        press(2)
        with pytest.raises(KeyboardInterrupt):
            train(tiny(), corpus(), quiet=True)
        assert signal.getsignal(signal.SIGINT) is before

    def test_the_second_ctrl_c_stops_at_once(self):
        with record.interruptible() as asked:
            signal.raise_signal(signal.SIGINT)
            assert asked
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    def test_training_works_outside_the_main_thread(self):
        runs = []
        thread = threading.Thread(target=lambda: runs.append(train(tiny(), corpus(), quiet=True)))
        thread.start()
        thread.join()
        assert runs[0].step == 6
