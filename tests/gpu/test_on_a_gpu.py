"""On a GPU everything gives what it gives on the CPU, up to rounding; what has no counterpart there works.

Float32 products are exact to the last bits in both places (torch uses TF32 only if it is told to), and sums are taken
in another order.
"""

from __future__ import annotations

import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from devices import OTHERS, POSITIONS, QUESTIONS
from runs import TEXT, corpus, tiny
from torch import Tensor

import rope_lab.training.loop
from rope_lab import RotaryEmbedding, angles, bench, frequencies, rotate
from rope_lab.bench import candidates
from rope_lab.experiments import reproduce
from rope_lab.local import local_attention
from rope_lab.training import Corpus, Run, checkpoint, evaluate, train


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("start", [0, 10_000_000])
@pytest.mark.parametrize("layout", ["interleaved", "half"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rotation_and_its_gradient(device: str, dtype: torch.dtype, layout: str, start: int) -> None:
    def turned(where: str) -> tuple[Tensor, Tensor]:
        x = drawn(2, 3, 50, 16).to(where, dtype).requires_grad_()
        out = rotate(
            x, angles(torch.arange(start, start + 50, device=where), frequencies(16, device=where)), layout
        )
        (grad,) = torch.autograd.grad(out, x, drawn(*x.shape).to(where, dtype))
        assert out.dtype == grad.dtype == dtype
        assert out.device.type == where
        return out.cpu(), grad.cpu()

    rounding = 2**-7 if dtype == torch.bfloat16 else 2e-6
    for here, away in zip(turned("cpu"), turned(device), strict=True):
        torch.testing.assert_close(away, here, rtol=rounding, atol=rounding)


def test_angles_stay_exact_under_autocast_and_in_bfloat16(device: str) -> None:
    rope, x = RotaryEmbedding(16), drawn(1, 2, 40, 16)
    wanted, _ = rope(x, x, offset=1_000_000)
    there = rope.to(device).bfloat16()
    with torch.autocast(device, torch.bfloat16):
        found, _ = there(x.to(device), x.to(device), offset=1_000_000)
    torch.testing.assert_close(found.float().cpu(), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("what", OTHERS)
def test_layers_and_adapters(device: str, what: str) -> None:
    torch.manual_seed(0)
    here = OTHERS[what](lambda it: it)
    torch.manual_seed(0)
    away = OTHERS[what](lambda it: it.to(device))
    assert away.device.type == device
    torch.testing.assert_close(away.cpu(), here, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("length", [130, 1_000])
def test_flex_attention_and_its_gradient(device: str, length: int, exact: bool) -> None:
    def result(where: str, backend: Any) -> list[Tensor]:
        q, k, v = (drawn(1, 2, length, 32).mul(i).to(where) for i in (1, 2, 3))
        tensors = [x.requires_grad_(where != "cpu" or backend == "sdpa") for x in (q, k, v)]
        out = local_attention(*tensors, window=64, exact=exact, backend=backend)
        grads = torch.autograd.grad(out.square().sum(), tensors) if out.requires_grad else ()
        return [x.detach().cpu() for x in (out, *grads)]

    here, away = result("cpu", "sdpa"), result(device, "flex")
    assert len(away) == (1 if device == "cpu" else 4)  # on a CPU FlexAttention has no gradient
    for one, other in zip(here, away, strict=False):
        assert (other - one).norm() < 1e-3 * one.norm()


def test_what_the_benchmark_compares_is_the_same_rotation(device: str) -> None:
    x = drawn(1, 4, 64, 32).to(device)
    table = angles(torch.arange(64, device=device), frequencies(32, device=device))
    ways, _ = candidates.rotations(x, compiled=device == "cuda")
    for name, (way, inputs) in ways.items():
        out = way(*inputs)
        out = torch.cat(out, dim=1) if isinstance(out, tuple) else out
        out = out.permute(1, 2, 0, 3) if name == "labml_nn" else out
        layout = "interleaved" if "interleaved" in name or name.startswith("rotary") else "half"
        wanted = x if name == "clone" else rotate(x, table, layout)
        torch.testing.assert_close(
            out, wanted, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_the_benchmark_runs_and_counts_the_memory_of_the_device(device: str) -> None:
    x = bench.bench_rotation((1, 2, 64, 32), device=device, rounds=1, compiled=False)
    assert min(x["forward_in_clones"].values()) > 0
    local = bench.bench_local(512, 64, device=device, rounds=1)
    assert ("FlexAttention, mask kept" in local["forward_and_backward"]) == (device == "cuda")
    one, two = (bench.peak_memory(f"import torch; x = torch.ones({n}, device={device!r})", device=device)
                for n in (10_000_000, 30_000_000))  # fmt: skip
    assert two - one == pytest.approx(4 * 20_000_000, rel=0.05)


@pytest.fixture(scope="module")
def trained() -> Run:
    return train(tiny(), corpus(), device="cpu", quiet=True)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_model_answers_as_on_the_cpu(device: str, trained: Run, question: str) -> None:
    model = trained.model.cpu()
    here = QUESTIONS[question](model, lambda it: it)
    away = QUESTIONS[question](model.to(device), lambda it: it.to(device))
    torch.testing.assert_close(torch.as_tensor(away).cpu(), torch.as_tensor(here).cpu(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("position", POSITIONS)
def test_it_trains_as_on_the_cpu(device: str, position: str, optimizer: str) -> None:
    config = tiny(position=position, optimizer=optimizer, clip=1.0, dropout=0.0)
    here, away = (train(config, corpus(), device=where, quiet=True) for where in ("cpu", device))
    assert next(away.model.parameters()).device.type == device
    assert away.val == pytest.approx(here.val, abs=2e-3)
    assert [p.loss for p in away.history] == pytest.approx([p.loss for p in here.history], abs=2e-3)


@pytest.mark.parametrize(
    "settings", [{"bfloat16": True}, {"compile": True}, {"bfloat16": True, "compile": True}]
)
def test_bfloat16_and_the_compiler_train_almost_the_same(
    device: str, settings: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = train(tiny(dropout=0.0), corpus(), device=device, quiet=True)
    fast = train(tiny(dropout=0.0, **settings), corpus(), device=device, quiet=True)
    assert "failed" not in "".join(capsys.readouterr())
    assert fast.val == pytest.approx(plain.val, abs=0.05)


def test_a_run_that_was_stopped_goes_on(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, which draws on the device. Some sums there are taken in no fixed order, so not bit for bit."""
    config, calls = tiny(), []

    def fail_at_last(*args: Any, **options: Any) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*args, **options)

    whole = train(config, corpus(), folder=tmp_path / "whole", device=device, quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(rope_lab.training.loop, "evaluate", fail_at_last)
        with pytest.raises(KeyboardInterrupt):
            train(config, corpus(), folder=tmp_path / "cut", device=device, quiet=True)
    state = checkpoint.load(tmp_path / "cut").tensors
    assert any("cuda" in name for name in state) == (device == "cuda")
    torch.manual_seed(1)
    again = train(config, corpus(), folder=tmp_path / "cut", device=device, quiet=True, resume=True)
    assert [p.loss for p in again.history] == pytest.approx([p.loss for p in whole.history], abs=2e-3)


def test_the_command_line_and_one_worker(device: str, tmp_path: Path) -> None:
    """One worker of torchrun talks over nccl on a GPU."""
    (tmp_path / "words").write_text(TEXT, encoding="utf-8")
    train_it = [
        "rope_lab",
        "train",
        "--preset",
        "smoke",
        "--text",
        "words",
        "--steps",
        "3",
        "--context",
        "16",
    ]
    workers = ["torch.distributed.run", "--nproc-per-node", "1", "-m"]
    for folder, prefix in (("alone", []), ("team", workers)):
        command = [sys.executable, "-m", *prefix, *train_it, "--device", device, "--folder", folder]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        assert checkpoint.load(tmp_path / folder).run["device"] == device
    losses = [checkpoint.load(tmp_path / folder).run["history"][-1]["val"] for folder in ("alone", "team")]
    assert losses[1] == pytest.approx(losses[0], abs=2e-3)


def test_a_record_names_the_device(device: str, tmp_path: Path) -> None:
    text = Corpus("letters", " ".join(string.ascii_letters) * 200)
    results = reproduce(
        "presets", corpus=text, scale="smoke", seeds=1, out=tmp_path / "out", cache=tmp_path / "cache", device=device,
        say=lambda line: None,
    )  # fmt: skip
    (record,) = results.records
    assert record["device"] == device
    if device == "cuda":
        assert torch.cuda.get_device_name() in record["machine"]
