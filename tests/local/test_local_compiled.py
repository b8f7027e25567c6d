"""Local attention under a compiler, at one length after another."""

from __future__ import annotations

import pytest
import torch
from windows import close, qkv

from rope_lab import LocalAttention, LocalConfig, LocalTransformer, RotaryEmbedding
from rope_lab.encodings import ALiBi


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "options", [{}, {"exact": False}, {"position": RotaryEmbedding(8)}, {"position": ALiBi(4)}]
)
def test_a_second_length_compiles_too(options):
    layer = LocalAttention(8, **options)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    for length in (32, 61, 100, 29):
        inputs = qkv(count=length, dtype=torch.float32)
        close([compiled(*inputs)], [layer(*inputs)], 1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_a_model_compiles_at_every_length_with_and_without_padding(masked):
    torch.manual_seed(0)
    net = LocalTransformer(LocalConfig(11, context=32, dim=32, depth=2, heads=4, window=4, global_layers=1))
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    for length in (9, 14, 5):
        ids = torch.randint(11, (2, length))
        mask = torch.rand(2, length) < 0.7 if masked else None
        close([compiled(ids, mask=mask)], [net(ids, mask=mask)], 1e-5)
