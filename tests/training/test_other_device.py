"""What a GPU shares with any device that is not the CPU: every tensor has to be brought there, and back.

Models are trained, resumed, measured and asked on a stand-in that computes on the CPU, refuses float64 as mps does, and
raises where a tensor of it meets one of the CPU.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import rotary_embedding_torch as theirs
import torch
from devices import OTHERS, POSITIONS, QUESTIONS, X
from runs import corpus, tiny
from torch import Tensor, nn
from without_float64 import WithoutFloat64

import rope_lab.training.loop
from rope_lab import RoFormer
from rope_lab.encodings import base
from rope_lab.interop import rotary_embedding_torch as ret
from rope_lab.training import Run, TrainConfig, distributed, evaluate, train


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "meta" is a device to train on; torch has no autocast for it."""
    autocast = torch.autocast
    monkeypatch.setattr(base, "_WITHOUT_FLOAT64", {"meta"})
    monkeypatch.setattr(distributed, "choose_device", lambda name: torch.device(name or "cpu"))
    monkeypatch.setattr(
        torch, "autocast", lambda kind, *a, **k: nullcontext() if kind == "meta" else autocast(kind, *a, **k)
    )


def run(device: str, config: TrainConfig, **options: Any) -> Run:
    with WithoutFloat64() if device == "meta" else nullcontext():
        return train(config, corpus(), device=device, quiet=True, **options)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("position", POSITIONS)
def test_it_trains_as_on_the_cpu(position: str, optimizer: str) -> None:
    config = tiny(position=position, optimizer=optimizer, clip=1.0)
    here, away = (run(device, config) for device in ("cpu", "meta"))
    assert next(away.model.parameters()).device.type == "meta"
    assert away.val == pytest.approx(here.val, abs=1e-5)
    assert [p.loss for p in away.history] == pytest.approx([p.loss for p in here.history], abs=1e-5)


def test_it_goes_on_from_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(dropout=0.0)
    whole = run("meta", config, folder=tmp_path / "whole")
    calls = []

    def fail_at_last(*args: Any, **options: Any) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(rope_lab.training.loop, "evaluate", fail_at_last)
        with pytest.raises(KeyboardInterrupt):
            run("meta", config, folder=tmp_path / "cut")
    again = run("meta", config, folder=tmp_path / "cut", resume=True)
    assert (again.val, [p.loss for p in again.history]) == (whole.val, [p.loss for p in whole.history])


@pytest.fixture(scope="module")
def model() -> RoFormer:
    return run("cpu", tiny()).model


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_model_answers_as_on_the_cpu(model: RoFormer, question: str) -> None:
    here = QUESTIONS[question](model, lambda t: t)
    with WithoutFloat64():
        copy = RoFormer(model.config)
        copy.load_parameters({name: p.detach() for name, p in model.named_parameters()})
        answer = QUESTIONS[question](copy.to("meta"), lambda t: t.to("meta"))
        away = answer.to("cpu") if isinstance(answer, Tensor) else answer
    torch.testing.assert_close(torch.as_tensor(away), torch.as_tensor(here), rtol=0, atol=1e-5)


@pytest.mark.parametrize("what", OTHERS)
def test_layers_and_adapters_work_there(what: str) -> None:
    torch.manual_seed(0)
    here = OTHERS[what](lambda it: it)
    torch.manual_seed(0)
    with WithoutFloat64():
        away = OTHERS[what](lambda it: it.to("meta"))
        assert away.device.type == "meta"
        away = away.to("cpu")
    torch.testing.assert_close(away, here, rtol=0, atol=1e-6)


def test_the_neighbour_works_there_too() -> None:
    """Code written for it runs on a Mac, so what replaces it has to."""
    layer = theirs.RotaryEmbedding(8, cache_if_possible=False)
    with WithoutFloat64():
        moved: nn.Module = layer.to("meta")
        away = moved.rotate_queries_or_keys(X.to("meta")).to("cpu")
    torch.testing.assert_close(away, ret.RotaryEmbedding(8).rotate_queries_or_keys(X), rtol=0, atol=1e-5)
