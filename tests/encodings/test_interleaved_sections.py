"""M-RoPE whose axes take turns, against the modules of Qwen3-VL and Qwen3.5 in the installed transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from rope_lab import RotaryEmbedding, frequencies
from rope_lab.encodings import RotaryEmbeddingND, YaRN, interleaved_mrope_frequencies, mrope_frequencies
from rope_lab.interop import huggingface

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def qwen3_vl(**parameters: Any) -> tuple[Any, Any, Any]:
    from transformers.models.qwen3_vl import modeling_qwen3_vl as module
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig

    given = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    config = Qwen3VLTextConfig(
        hidden_size=64,
        num_attention_heads=2,
        head_dim=32,
        max_position_embeddings=256,
        rope_parameters=given | parameters,
    )
    return module, module.Qwen3VLTextRotaryEmbedding(config), config


def qwen3_5(**parameters: Any) -> tuple[Any, Any, Any]:
    from transformers.models.qwen3_5 import modeling_qwen3_5 as module
    from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig

    given = {"rope_type": "default", "rope_theta": 1e7, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    config = Qwen3_5TextConfig(
        hidden_size=128,
        num_attention_heads=2,
        head_dim=64,
        max_position_embeddings=256,
        rope_parameters=given | parameters | {"partial_rotary_factor": 0.5},
    )
    return module, module.Qwen3_5TextRotaryEmbedding(config), config


@pytest.mark.parametrize(
    "parameters", [{}, {"mrope_section": [8, 4, 4]}, YARN], ids=["plain", "other", "YaRN"]
)
@pytest.mark.parametrize("make", [qwen3_vl, qwen3_5])
def test_rotations_equal_those_of_the_models(make: Any, parameters: dict[str, Any]):
    torch.manual_seed(0)
    module, rotary, config = make(**parameters)
    positions = torch.randint(0, 60, (3, 2, 11))
    q, k = torch.randn(2, 2, 2, 11, config.head_dim)
    wanted = module.apply_rotary_pos_emb(q, k, *rotary(q, positions.clone()))
    spectrum, factor = huggingface.frequencies(config)
    freqs = interleaved_mrope_frequencies(config.rope_parameters["mrope_section"], spectrum=spectrum)
    rope = RotaryEmbeddingND(freqs, layout="half")
    turned = rope.freqs.shape[-1] * 2
    for ours, x, theirs in zip(
        rope(q, k, coordinates=positions.permute(1, 2, 0)), (q, k), wanted, strict=True
    ):
        ours = torch.cat((ours[..., :turned] * factor, x[..., turned:]), dim=-1)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    assert (factor > 1.1) == ("factor" in parameters)


@pytest.mark.parametrize("frequencies_of", [mrope_frequencies, interleaved_mrope_frequencies])
def test_text_under_sections_and_a_scaling_is_rope_with_that_scaling(frequencies_of: Any):
    """In both arrangements, with the attention factor, given coordinates or positions."""
    torch.manual_seed(0)
    yarn = YaRN(4.0, 64)
    spectrum, factor = yarn(frequencies(32, 5e6), 1)
    assert factor > 1.1
    rope = RotaryEmbeddingND(frequencies_of((6, 5, 5), spectrum=spectrum), factor=factor)
    q, k = torch.randn(2, 2, 3, 11, 40)
    wanted = RotaryEmbedding(32, base=5e6, scaling=yarn)(q, k)
    places = torch.arange(11)
    for ours in (rope(q, k, coordinates=places[:, None].expand(11, 3)), rope.rotate(q, k, k, places)):
        torch.testing.assert_close(ours[:2], wanted, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"^factor must be positive and finite, got 0$"):
        RotaryEmbeddingND(torch.ones(1, 2), factor=0)


def test_every_pair_has_one_owner_and_text_is_rope():
    freqs = interleaved_mrope_frequencies((24, 20, 20), 5e6)
    assert freqs.shape == (3, 64)
    assert ((freqs != 0).sum(0) == 1).all()
    assert (freqs != 0).sum(1).tolist() == [24, 20, 20]
    torch.testing.assert_close(freqs.sum(0), frequencies(128, 5e6))
    assert (freqs != 0).long().argmax(0)[:7].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert not freqs.equal(mrope_frequencies((24, 20, 20), 5e6))
    scaled, _ = YaRN(4.0, 4096)(frequencies(128, 5e6), 1)
    torch.testing.assert_close(interleaved_mrope_frequencies((24, 20, 20), spectrum=scaled).sum(0), scaled)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interleaved_mrope_frequencies((4, -1, 2)), "^sections must be integers from 0"),
        (lambda: interleaved_mrope_frequencies((0, 0, 0)), "^sections must be integers from 0"),
        (
            lambda: interleaved_mrope_frequencies((0, 4, 4)),
            "^sections must leave room for the turns of 3 axes in 8",
        ),
        *(
            (
                lambda make=make: make((2, 1, 1), spectrum=torch.ones(3)),
                r"^spectrum must have 4 numbers, one per pair, got shape \(3,\)$",
            )
            for make in (mrope_frequencies, interleaved_mrope_frequencies)
        ),
    ],
)
def test_sections_that_do_not_fit_are_named(call: Any, message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_installed_transformers_has_these_models():
    assert {"qwen3_vl", "qwen3_5"} <= set(transformers.CONFIG_MAPPING)
