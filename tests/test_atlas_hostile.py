"""What hostile readers found in the atlas: values of the wrong kind in a config, near names, what a report says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rope_lab import atlas
from rope_lab.__main__ import main
from rope_lab.atlas import FAMILIES, Spectrum, read_config
from rope_lab.encodings import YaRN

PLAIN = {"model_type": "llama", "head_dim": 64, "max_position_embeddings": 2048, "rope_theta": 10_000.0}


@pytest.mark.parametrize(
    "value", ["64", "", [], [64], {}, True, 0, -1, 0.5, 1e30, float("inf"), float("nan")]
)
@pytest.mark.parametrize(
    "name", ["head_dim", "max_position_embeddings", "num_hidden_layers", "rope_theta", "factor"]
)
def test_a_value_of_another_kind_is_a_sentence(name: str, value: object, tmp_path: Path, capsys) -> None:
    """A size written as "64" ended in a TypeError before, and the form read it as a number."""
    config = PLAIN | {"num_attention_heads": 8, name: value}
    if name == "factor":
        config |= {"rope_scaling": {"rope_type": "linear", "factor": value}}
    if name in ("rope_theta", "factor") and value in (0.5, 1e30):
        return  # numbers that a base may be, or that the scaling itself judges
    with pytest.raises(ValueError, match=f"{name} must be a positive"):
        read_config(config)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    assert main(["atlas", "--config", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_null_is_the_same_as_absent() -> None:
    nothing = dict.fromkeys(("rope_scaling", "rope_parameters", "partial_rotary_factor", "num_hidden_layers"))
    assert read_config(PLAIN | nothing).report() == read_config(PLAIN).report()


def test_the_part_for_text_is_found_inside_another_part() -> None:
    reading = read_config({"thinker_config": {"model_type": "x", "text_config": PLAIN}})
    assert (reading.part, reading.context) == ("thinker_config.text_config", 2048)


@pytest.mark.parametrize(
    ("more", "heads"),
    [
        ({}, 71),
        ({"multi_query": True}, 1),
        ({"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 8}, 8),
        ({"n_kv_heads": 4}, 4),
        ({"num_key_value_heads": 2}, 2),
    ],
)
def test_the_cache_is_that_of_the_heads_it_names(more: dict, heads: int) -> None:
    """Falcon 7B has one key for all heads; it was charged for 71 before."""
    reading = read_config(PLAIN | {"num_hidden_layers": 3, "num_attention_heads": 71} | more)
    assert reading.cache_bytes == 2 * 2 * 3 * heads * 64
    assert f"3 layers, {heads} heads of 64" in reading.report()


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ("meta-llama/Llama-3.1-8B", "Llama 3.1"), ("mistralai/Mistral-7B-v0.1", "Mistral 7B v0.1"),
        ("gemma-3-27b-it", "Gemma 3 27B"), ("Kimi-K2-Instruct", "Kimi K2 0905"), ("qwen-3", "Qwen3 8B"),
    ],
)  # fmt: skip
def test_the_nearest_name_is_the_first(given: str, first: str) -> None:
    """The name of a repository listed the oldest family whose name is in it first."""
    assert atlas.near(given)[0] == first


def test_what_is_said_of_yarn_is_what_yarn_does() -> None:
    """Llama 3.1 was said to have 25 pairs halved; YaRN finds its pairs by the base, and would halve 15."""
    judged = 0
    for row in FAMILIES:
        if row.context is None:
            continue
        cost = row.spectrum.doubling()
        assert (cost.kept is None) == (cost.base_factor is None) == (cost.divided is None)
        assert (cost.base_factor is None) == (row.scaling is not None), row.name
        if cost.kept is None:
            continue
        freqs = row.spectrum.freqs
        after, factor = YaRN(2.0, row.context)(freqs, 1)
        same, halved = (torch.isclose(after, freqs / by, rtol=1e-12, atol=0).sum() for by in (1, 2))
        assert (int(same), int(halved), factor) == (cost.kept, cost.divided, cost.attention_factor), row.name
        judged += 1
    assert judged > 50


def test_an_error_has_a_first_position_and_not_a_last_good_one() -> None:
    """Most positions after the first wrong one in float32 are within the bound again."""
    spectrum = atlas.find("llama-2").spectrum
    first = spectrum.first_error()
    m = torch.arange(first, first + 1000, dtype=torch.float64)
    formed = (m.float()[:, None] * spectrum.freqs.float()).double()
    good = ((formed - m[:, None] * spectrum.freqs).abs() <= atlas.BOUND).all(-1)
    assert good.float().mean() > 0.5
    longer = Spectrum(spectrum.freqs, 200_000)
    assert f"float32 (first at position {first:,})" in longer.warnings()[0]


@pytest.mark.parametrize("row", [row for row in FAMILIES if row.limited], ids=lambda row: row.name)
def test_a_family_whose_layers_see_a_window_is_not_warned_of_new_angles(row: atlas.Family) -> None:
    assert row.sees in (row.window, row.chunk)
    if row.context is not None:
        late = int((row.spectrum.wavelengths > row.sees).sum())
        assert row.warnings[-1].startswith(f"context: {late} of")
        assert "no distance in the context has" not in " ".join(row.warnings)
