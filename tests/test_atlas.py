"""The atlas: what is found by a name, what is computed from a row, what a pasted config says, and the command line."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from rope_lab import atlas, frequencies
from rope_lab.__main__ import main
from rope_lab.atlas import FAMILIES, Family, Rotation, Source, Spectrum
from rope_lab.encodings import DynamicNTK

LLAMA_31 = {
    "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
    "num_hidden_layers": 32, "max_position_embeddings": 131072, "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}  # fmt: skip


def test_there_are_forty_families_and_every_number_has_a_source():
    assert len(FAMILIES) >= 40
    assert len({row.name for row in FAMILIES}) == len(FAMILIES)
    for row in FAMILIES:
        for field in ("base", "head_dim", "rotated", "scaling", "local", "window", "chunk", "context"):
            source = row.source_of(field)
            assert (source is None) == (getattr(row, field) is None)
            assert source is None or (
                source.kind in ("class", "code", "file", "text", "paper") and source.where
            )
        assert row.context is not None or row.note  # what is unknown has a reason
        assert 2021 <= row.year <= 2026
    kinds = {row.source.kind for row in FAMILIES}
    assert kinds == {"class", "file", "text"}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("llama-3.1", "Llama 3.1"), ("Llama 3.1", "Llama 3.1"), ("LLAMA31", "Llama 3.1"), ("llama-3.3", "Llama 3.1"),
        ("gpt-oss-120b", "gpt-oss 20B"), ("DeepSeek-R1", "DeepSeek-V3"), ("phi-3", "Phi-3 mini 4K"),
    ],
)  # fmt: skip
def test_a_family_is_found_however_its_name_is_spelled(given: str, name: str):
    assert atlas.find(given).name == name


def test_every_name_finds_its_own_row():
    for row in FAMILIES:
        for name in (row.name, *row.aliases):
            assert atlas.find(name) is row


@pytest.mark.parametrize(
    ("given", "near"), [("llama-3.4", "Llama 3.1"), ("qwen", "Qwen3 8B"), ("gema 3", "Gemma 3 4B")]
)
def test_an_unknown_family_is_an_error_that_lists_near_names(given: str, near: str):
    with pytest.raises(ValueError, match=f"near names: .*{near}"):
        atlas.find(given)


@pytest.mark.parametrize("given", ["", "   ", None, 3])
def test_what_is_no_name_is_refused(given: object):
    with pytest.raises(ValueError, match="name must be"):
        atlas.find(given)


def test_a_row_builds_its_rotation_with_its_scaling():
    rope = atlas.find("llama-3.1").rotary_embedding()
    assert (rope.dim, rope.layout, rope.scaling.factor) == (128, "half", 8.0)
    latent = atlas.find("deepseek-v3").rotary_embedding()
    assert (latent.dim, latent.start, latent.reach) == (64, 128, 192)
    back = atlas.find("nanochat").rotary_embedding()
    torch.testing.assert_close(back.frequencies(), -frequencies(128))
    gemma = atlas.find("gemma-3")
    assert gemma.rotary_embedding(local=True).base == 10_000
    with pytest.raises(ValueError, match="local must be False"):
        atlas.find("llama-3.1").rotary_embedding(local=True)


def test_wavelengths_and_unfinished_turns_are_those_of_the_formula():
    spectrum = atlas.find("llama-2").spectrum
    waves = [2 * math.pi * 10_000 ** (2 * i / 128) for i in range(64)]
    assert spectrum.fastest == pytest.approx(waves[0])
    assert spectrum.slowest == pytest.approx(waves[-1])
    assert spectrum.unfinished == sum(wave > 4096 for wave in waves)
    gemma = atlas.find("gemma-4").spectrum
    assert (gemma.wavelengths.numel(), gemma.still) == (64, 192)
    assert gemma.unfinished == 0
    assert atlas.find("recurrentgemma").spectrum.unfinished is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama-2", "qwen2.5-1m", "gpt-oss"])
def test_the_first_wrong_angle_is_found_by_looking_at_every_position(name: str, dtype: torch.dtype):
    spectrum = atlas.find(name).spectrum
    first = spectrum.first_error(dtype)
    theirs = spectrum.freqs.to(dtype)
    wrong = None
    for start in range(0, first + 1, 8192):
        m = torch.arange(start, min(start + 8192, first + 1), dtype=torch.float64)
        error = ((m.to(dtype)[:, None] * theirs).double() - m[:, None] * spectrum.freqs).abs().max(-1).values
        if (over := (error > atlas.BOUND).nonzero()).numel():
            wrong = start + int(over[0])
            break
    assert wrong == first
    assert spectrum.first_error(dtype, 0.1) >= first


def test_precision_is_asked_for_a_number_type_and_a_bound():
    spectrum = Spectrum(frequencies(8), 16)
    with pytest.raises(ValueError, match="dtype must be"):
        spectrum.first_error(torch.float64)
    with pytest.raises(ValueError, match="bound must be"):
        spectrum.first_error(bound=0)
    assert Spectrum(torch.zeros(2)).first_error() is None
    with pytest.raises(ValueError, match="freqs must be real"):
        Spectrum(torch.zeros(2, 2))


def test_warnings_name_what_was_computed():
    row = atlas.find("qwen2.5-1m")
    precision, context = row.warnings
    first = row.spectrum.first_error(torch.float32)
    assert first < row.context
    assert f"float32 (first at position {first:,})" in precision
    assert f"{row.spectrum.unfinished} of 64 pairs" in context
    assert Spectrum(frequencies(4, 2.0), 3).warnings() == (
        "context: 2 of 2 pairs never finish a turn in 3 tokens; the slowest needs 9, so a longer text brings angles "
        "that no distance in the context has",
    )
    short = Spectrum(torch.ones(1, dtype=torch.float64), 1)
    assert "1 of 1 pairs" in short.warnings()[-1]
    assert Spectrum(frequencies(4)).warnings() == ()


def test_twice_the_context():
    spectrum = atlas.find("llama-2").spectrum
    cost = spectrum.doubling()
    assert (cost.length, cost.new_angles) == (8192, spectrum.unfinished)
    assert cost.fastest_step == 0.5
    longer = frequencies(128, 10_000 * cost.base_factor)
    assert float(longer[-1]) == pytest.approx(float(spectrum.freqs[-1]) / 2)  # the slowest is halved
    assert cost.kept + cost.blended + cost.divided == 64
    assert cost.attention_factor == pytest.approx(1 + 0.1 * math.log(2))
    assert atlas.find("llama-3.1").spectrum.doubling().base_factor is None  # no powers of one base
    with pytest.raises(ValueError, match="context must be known"):
        Spectrum(frequencies(4)).doubling()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotated": 3}, "rotated must be even"), ({"rotated": 256}, "rotated must be even and at most head_dim=128"),
        ({"base": -1.0}, "base must be"),
        ({"context": 0}, "context must be"), ({"layout": "quarter"}, "layout must be"),
        ({"elsewhere": (("colour", Source("text", "a card")),)}, "elsewhere must name fields"),
        ({"elsewhere": (("window", Source("text", "a card")),)}, "elsewhere must name fields"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_is_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(atlas.find("llama-2"), **change)
    with pytest.raises(ValueError, match="kind must be"):
        Source("rumour", "somewhere")


def test_settings_are_written_as_transformers_writes_them():
    assert Rotation(10_000, 128).rope_parameters() == {"rope_theta": 10_000.0, "rope_type": "default"}
    dynamic = Rotation(10_000, 128, 64, DynamicNTK(2.0, 2048)).rope_parameters()
    assert dynamic == {
        "rope_theta": 10_000.0,
        "rope_type": "dynamic",
        "factor": 2.0,
        "partial_rotary_factor": 0.5,
    }
    assert Rotation(10_000, 8, scaling=DynamicNTK(2.0, 4)).frequencies(8)[0][-1] < frequencies(8)[-1]
    with pytest.raises(ValueError, match="scaling must be one of"):
        Rotation(10_000, 8, scaling=lambda freqs, length: (freqs, 1.0)).rope_parameters()


def test_the_table_has_a_line_per_family_in_every_form():
    text, markdown = atlas.table().splitlines(), atlas.table("markdown").splitlines()
    assert len(text) == len(FAMILIES) + 1
    assert len(markdown) == len(FAMILIES) + 2
    assert len({line.count("|") for line in markdown}) == 1
    (line,) = [line for line in text if line.startswith("Llama 3.1 ")]
    assert "Llama3 ×8" in line
    assert "25 of 64" in line
    (row,) = atlas.rows([atlas.find("mistral-4")])
    assert (row["decoupled"], row["unfinished"]) == (True, 7)
    with pytest.raises(ValueError, match="form must be"):
        atlas.table("html")


def test_a_pasted_config_is_read_and_recognised():
    reading = atlas.read_config(LLAMA_31)
    assert reading.like == ("Llama 3.1",)
    assert (reading.layout, reading.context, reading.missing) == ("half", 131_072, ())
    assert reading.cache_bytes == 2 * 2 * 32 * 8 * 128
    report = reading.report()
    assert "25 of 64 pairs never finish a turn" in report
    assert "16.00 GiB for the context and 32.00 GiB for twice the context" in report


def test_a_config_of_text_and_images_is_read_by_its_text():
    reading = atlas.read_config({"model_type": "mllama", "text_config": LLAMA_31})
    assert (reading.part, reading.model_type) == ("text_config", "llama")


def test_a_config_with_two_kinds_of_layers_has_two_spectra():
    config = LLAMA_31 | {"model_type": "gemma3_text", "rope_local_base_freq": 10_000, "rope_scaling": None}
    reading = atlas.read_config(config | {"rope_theta": 1_000_000})
    assert sorted(reading.spectra) == ["full_attention", "sliding_attention"]
    assert "sliding_attention: 64 pairs turn" in reading.report()


def test_a_step_instead_of_a_ramp_is_read():
    """Kimi K2 has beta_fast = beta_slow = 1; an error before."""
    row = atlas.find("kimi-k2")
    yarn = {
        "type": "yarn",
        "factor": 64.0,
        "beta_fast": 1.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    }
    config = {"model_type": "deepseek_v3", "rope_theta": 50_000.0, "max_position_embeddings": 262_144}
    config |= {"qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "kv_lora_rank": 512, "num_hidden_layers": 61}
    reading = atlas.read_config(config | {"rope_scaling": yarn | {"original_max_position_embeddings": 4096}})
    assert reading.like == (row.name,)
    assert reading.cache_bytes == 2 * 61 * 576


def test_an_unknown_type_says_what_is_missing():
    reading = atlas.read_config(LLAMA_31 | {"model_type": "llama_of_tomorrow"})
    assert reading.layout is None
    assert "missing: layout must be given for model type 'llama_of_tomorrow'" in reading.report()
    reading = atlas.read_config(
        {key: value for key, value in LLAMA_31.items() if key != "max_position_embeddings"}
    )
    assert "max_position_embeddings or n_positions or max_seq_len must be given" in reading.report()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "config must be a mapping"),
        ({}, "rope_theta must be given"),
        ({"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2}, "rope_theta must be given"),
        (
            LLAMA_31 | {"max_position_embeddings": "long"},
            "max_position_embeddings must be a positive integer",
        ),
        (LLAMA_31 | {"rope_scaling": {"rope_type": "magic"}}, "rope_type must be one of"),
        (
            LLAMA_31 | {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "low_freq_factor must be given",
        ),
    ],
)
def test_a_config_that_cannot_be_read_says_what_is_missing(config: object, message: str):
    with pytest.raises(ValueError, match=message):
        atlas.read_config(config)


def test_the_command_line_shows_all_one_and_a_config(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["atlas"]) == 0
    assert f"{len(FAMILIES)} families" in capsys.readouterr().out
    assert main(["atlas", "kimi-k2"]) == 0
    out = capsys.readouterr().out
    assert "decoupled coordinates" in out
    assert "hf-model-inspector" in out
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA_31))
    assert main(["atlas", "--config", str(file)]) == 0
    assert "frequencies as in Llama 3.1" in capsys.readouterr().out


def test_the_command_line_gives_json(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["atlas", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(FAMILIES)
    assert main(["atlas", "gemma-4", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["local_rope_parameters"]["rope_theta"] == 10_000
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA_31))
    assert main(["atlas", "--config", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spectra"][""]["unfinished"] == 25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["llama-99"], "near names"), (["llama-2", "--config", "x"], "--config cannot be combined with a name"),
        (["--config", "absent.json"], "No such file"), (["--config", "broken.json"], "--config must be a file of JSON"),
        (["--config", "bytes.json"], "--config must be a file of JSON"), ([""], "must not be empty"),
        (["--config", "."], "directory"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text("{")
    Path("bytes.json").write_bytes(b"\xff\xfe\x00")
    assert main(["atlas", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_family_of_ones_own_is_computed_like_the_others():
    own = Family(
        name="Mine", year=2026, model_type=None, base=100, head_dim=8, layout="half", context=64,
        source=Source("text", "this test"),
    )  # fmt: skip
    (row,) = atlas.rows([own])
    assert row["slowest"] == pytest.approx(2 * math.pi * 100**0.75)
    assert "Mine" in atlas.table(families=[own])


@pytest.mark.parametrize(
    "sizes",
    [
        {"head_dim": 256, "global_head_dim": 512},
        {
            "head_dim": 256,
            "per_layer_config": {"05": {"head_dim": 512}, "11": {"head_dim": 512}},
            "layer_types": ["sliding_attention", "full_attention"] * 6,
        },
    ],
)
def test_heads_of_two_sizes_are_read_from_a_file_too(sizes: dict):
    """Gemma 4 as a `config.json`: its wide heads are those of full attention, which were read as narrow ones before."""
    row = atlas.find("gemma-4")
    parameters = {"full_attention": row.rotation().rope_parameters()}
    parameters["sliding_attention"] = row.local.rope_parameters()
    config = {
        "model_type": "gemma4_text",
        "max_position_embeddings": row.context,
        "rope_parameters": parameters,
    }
    reading = atlas.read_config(config | sizes)
    assert reading.like == (row.name,)
    assert reading.spectra["sliding_attention"].freqs.numel() == 128


def test_layers_apart_need_their_types():
    parameters = {"full_attention": {"rope_theta": 10_000.0, "rope_type": "default"}}
    config = {"model_type": "gemma4_text", "head_dim": 8, "rope_parameters": parameters}
    with pytest.raises(ValueError, match="layer_types must be given where per_layer_config is"):
        atlas.read_config(config | {"per_layer_config": {"1": {"head_dim": 16}}})


def test_a_search_for_an_error_ends():
    """Divided by a million, float32 is exact further than any text; the search went on for hours before."""
    slow = Spectrum(frequencies(64) / 1e6, 2048)
    assert slow.first_error() is None
    assert "float32" not in " ".join(slow.warnings())
    spectrum = atlas.find("llama-2").spectrum
    first = spectrum.first_error()
    assert spectrum.first_error(before=first) is None
    assert spectrum.first_error(before=first + 1) == first
    with pytest.raises(ValueError, match="before must be"):
        spectrum.first_error(before=0)
