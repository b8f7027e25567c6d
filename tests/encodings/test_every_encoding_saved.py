"""Every encoding saved, built on another device and copied: the same bits afterwards."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from test_every_encoding import ENCODINGS, Layer, build, draw, every_encoding

from rope_lab.encodings import RotaryEmbedding, RotaryEmbeddingND


def by_state_dict(name: str, layer: Layer) -> Layer:
    """Through a file that may hold tensors only."""
    file, loaded = io.BytesIO(), build(name, seed=1)
    torch.save(layer.state_dict(), file)
    loaded.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True), strict=True)
    return loaded


def by_meta(name: str, layer: Layer) -> Layer:
    with torch.device("meta"):
        built = Layer(ENCODINGS[name]())
    assert all(parameter.is_meta for parameter in built.parameters())
    built.to_empty(device="cpu").load_state_dict(layer.state_dict(), strict=True)
    return built


@pytest.mark.parametrize("by", [by_state_dict, by_meta, lambda name, layer: copy.deepcopy(layer)])
@every_encoding
def test_same_bits_after(name, by) -> None:
    layer, x = build(name), draw(0, 7, torch.float32)
    before, after = layer(x), by(name, layer)
    for parameter in layer.parameters():  # of which a copy must know nothing
        parameter.detach().zero_()
    assert torch.equal(after(x), before)
    encoding = after.position
    assert set(encoding.state_dict()) == set(dict(encoding.named_parameters()))
    assert not list(encoding.buffers())  # a table in a buffer would be cast


@every_encoding
def test_an_encoding_born_on_meta_starts_as_any_other(name) -> None:
    """Frequencies by `reset_parameters`; an encoding without parameters needs nothing."""
    with torch.device("meta"):
        encoding = ENCODINGS[name]()
    encoding.to_empty(device="cpu")
    if isinstance(encoding, RotaryEmbedding | RotaryEmbeddingND):
        encoding.reset_parameters()
    elif list(encoding.parameters()):
        return  # a table starts at random
    layer, x = build(name), draw(0, 7, torch.float32)
    layer.take(ENCODINGS[name]())
    before = layer(x)
    layer.take(encoding)
    assert torch.equal(layer(x), before)
