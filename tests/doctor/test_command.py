"""`rope-lab doctor`: what it takes, its exit codes, and one line for what cannot be imported."""

from __future__ import annotations

import json

import pytest

from rope_lab.__main__ import main

FILE = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn
from rope_lab import RotaryEmbedding, angles, frequencies, rotate

number = 3

def good(x, positions):
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    return rotate(x, angles(positions, frequencies(x.shape[-1]), dtype=kind), "half")

def wrong(x, positions):
    return good(x, torch.arange(x.shape[-2]))

@dataclass  # which looks for its module when annotations are texts
class Turns:
    base: float = 10_000.0

    def __call__(self, x, positions):
        return good(x, positions)

class Rotary(RotaryEmbedding):
    pass

class Wants(nn.Module):
    def __init__(self, a, b):
        super().__init__()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "my_rope.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("import nowhere_at_all")
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)")
    config = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 2, "rope_theta": 500_000.0}
    (tmp_path / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "text.json").write_text("rope")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    try:
        code = main(["doctor", *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("my_rope:good --dim 32", 0, "half, counter-clockwise, coordinates 0 to 31 of 32"),
        ("my_rope.py:good", 0, "coordinates 0 to 63 of 64"),
        ("my_rope.py:Turns --dim 32", 0, "half, counter-clockwise"),
        ("./my_rope.py:Rotary --dim 32", 0, "interleaved"),
        ("my_rope:wrong --dim 32", 1, "FAULT: row index for position"),
        ("my_rope:good --config config.json", 1, "FAULT: wrong base"),
    ],
)
def test_it_prints_a_diagnosis(here, capsys, arguments, code, words):
    got, out, err = call(capsys, *arguments.split())
    assert (got, err) == (code, "")
    assert words in out
    assert len(out.splitlines()) <= 50
    assert max(len(line) for line in out.splitlines()) <= 110


def test_json(here, capsys):
    code, out, _ = call(capsys, "my_rope:wrong", "--dim", "32", "--json")
    found = json.loads(out)
    assert code == 1
    assert found["faults"] == ["row index for position"]
    assert not found["sound"]
    assert found["bugs"][0]["fix"]
    assert found["q"]["layout"] == "half"


def test_a_model_type_of_transformers(here, capsys):
    code, out, _ = call(capsys, "gpt_neox")
    assert code == 0
    assert "half, counter-clockwise" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere:turn", "target 'nowhere:turn' cannot be imported: ModuleNotFoundError"),
        ("my_rope:absent", "cannot be imported: AttributeError"),
        ("broken:turn", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("leaves:turn", "SystemExit"),
        ("absent.py:turn", "FileNotFoundError"),
        ("my_rope:number", "is a int"),
        ("my_rope:Wants", "Wants cannot be built"),
        ("lama", "a model type of transformers such as llama, got 'lama'"),
        ("roformer", "called in another way"),
        ("my_rope:good --dim 0", "--dim must be positive"),
        ("my_rope:good --axis 4", "--axis"),
        ("my_rope:good --config absent.json", "absent.json"),
        ("my_rope:good --config list.json", "--config must be a JSON object"),
        ("my_rope:good --config text.json", "--config must be a file of JSON"),
        ("", "required: TARGET"),
    ],
)
def test_bad_input_is_one_line(here, capsys, arguments, words):
    code, out, err = call(capsys, *arguments.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
