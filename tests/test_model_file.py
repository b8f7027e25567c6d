"""A model's file: saved whole, loaded to the bit, and refused in one line."""

import json
import os
import pickle
from dataclasses import asdict

import pytest
import torch
from models import KINDS, SMALL, ids
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rope_lab import RoFormer, RoFormerConfig, RotaryEmbedding
from rope_lab.interop.huggingface import export_llama
from rope_lab.training import checkpoint


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_save_then_load_gives_the_same_model(kind, dtype, tmp_path):
    net, tokens = RoFormer(RoFormerConfig(**KINDS[kind])).to(dtype).eval(), ids()
    net.save(tmp_path / "model.safetensors")
    loaded = RoFormer.load(str(tmp_path / "model.safetensors"))
    assert loaded.config == net.config
    assert torch.equal(loaded(tokens), net(tokens))
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        names = list(file.keys())
    assert len(names) == len(list(net.parameters()))  # what is shared is there once
    assert ("head.weight" in names) == (not net.config.tied)
    assert ("position.table.weight" in names) == (net.config.position == "learned")


def test_a_learned_encoding_of_ones_own_is_saved_too(tmp_path):
    net = RoFormer(RoFormerConfig(**SMALL), position=RotaryEmbedding(8, learned=True)).bfloat16()
    torch.nn.init.uniform_(net.position.learned_freqs)
    net.save(tmp_path / "m")
    loaded = RoFormer.load(tmp_path / "m", position=RotaryEmbedding(8, learned=True))
    assert torch.equal(loaded.position.learned_freqs, net.position.learned_freqs)
    assert loaded.position.learned_freqs.dtype == torch.float32


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path):
    net = RoFormer(RoFormerConfig(**SMALL))
    net.save(tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    tensors = {name: p.detach() for name, p in net.named_parameters()}
    config = asdict(net.config)

    def foreign(name: str, config: object, tensors: dict[str, Tensor] = tensors) -> None:
        save_file(tensors, tmp_path / name, metadata={"config": json.dumps(config)})

    (tmp_path / "empty").write_bytes(b"")
    for kept in (4, 40, len(good) // 2, len(good) - 1):
        (tmp_path / f"cut at {kept}").write_bytes(good[:kept])
    (tmp_path / "text").write_text("to be, or not to be\n" * 99)
    (tmp_path / "pickle").write_bytes(pickle.dumps(tensors))
    torch.save(net.state_dict(), tmp_path / "torch")
    save_file(tensors, tmp_path / "no config")
    foreign("list", [config])
    foreign("unknown field", config | {"colour": "red"})
    foreign("bad field", config | {"heads": 5})
    foreign("text field", config | {"dim": "32"})
    foreign("wider", config | {"dim": 64})
    foreign("deeper", config | {"depth": 3})
    foreign("tied", config | {"tied": True})
    foreign("one more", config, tensors | {"extra": torch.zeros(1)})
    foreign("one less", config, {name: t for name, t in tensors.items() if name != "norm.weight"})
    foreign("another shape", config, tensors | {"norm.weight": torch.ones(31)})
    files = sorted(path for path in tmp_path.iterdir() if path.name != "good")
    assert len(files) == 19
    for path in files:
        with pytest.raises(ValueError, match=str(path.name)) as refusal:
            RoFormer.load(path)
        assert "\n" not in str(refusal.value), path.name
    for path, what in ((tmp_path, r"a folder; .*checkpoint\.load"), (tmp_path / "nowhere", "no such file$")):
        with pytest.raises(FileNotFoundError, match=rf"^path must be .*: {what}"):
            RoFormer.load(path)
    with pytest.raises(FileNotFoundError, match=r"^path must lie in an existing folder"):
        net.save(tmp_path / "nowhere" / "model")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_every_file_of_tensors_gets_the_permissions_of_any_new_file(tmp_path):
    """A colleague can read a model, a checkpoint and an exported Llama if the user's settings let him read a text."""
    model = RoFormer(RoFormerConfig.llama(**SMALL))
    for umask in (0o022, 0o077, 0o002):
        folder = tmp_path / f"{umask:o}"
        folder.mkdir()
        before = os.umask(umask)
        try:
            (folder / "text").write_text("")
            model.save(folder / "model")
            checkpoint.save(folder / "checkpoint", model, [], {"model": {}})
            export_llama(model, folder / "llama")
        finally:
            os.umask(before)
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
        assert set(modes.values()) == {0o666 & ~umask}, modes
    (folder / "model").chmod(0o600)  # one that its owner has closed stays closed
    model.save(folder / "model")
    assert (folder / "model").stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_is_the_error_of_the_system_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: .*model'$"):
        RoFormer(RoFormerConfig(**SMALL)).save(tmp_path / "model")
    assert not any(tmp_path.iterdir())


def test_parameters_that_do_not_fit_change_nothing():
    net = RoFormer(RoFormerConfig(**SMALL))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    misfits = [
        ({"norm.weight": torch.ones(31)}, r"tensors: norm.weight must have shape \(32,\), got \(31,\)"),
        ({"extra": torch.ones(1)}, "tensors must hold this model's parameters, but has an unknown 'extra'"),
    ]
    for misfit, message in misfits:
        with pytest.raises(ValueError, match=f"^{message}$"):
            net.load_parameters({name: p + 1 for name, p in before.items()} | misfit)
        assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
