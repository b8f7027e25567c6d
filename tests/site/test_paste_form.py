"""The form of chapter 19 in a browser: for every kind of config it writes what Python writes, or says what is wrong."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from rope_lab.atlas import FAMILIES, read_config
from rope_lab.figures.paste import LLAMA_31, config_of, examples, paste

DEEPSEEK = {
    "model_type": "deepseek_v3", "rope_theta": 10_000.0, "max_position_embeddings": 163_840, "kv_lora_rank": 512,
    "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "num_hidden_layers": 61, "num_attention_heads": 128,
    "rope_scaling": {
        "type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
    },
}  # fmt: skip
PLAIN = {"model_type": "llama", "head_dim": 64, "max_position_embeddings": 2048, "rope_theta": 10_000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}


def scaled(**scaling: Any) -> dict[str, Any]:
    return PLAIN | {"rope_scaling": scaling}


READ: dict[str, dict[str, Any]] = {
    "llama3": LLAMA_31,
    "no scaling": PLAIN,
    "yarn, decoupled": DEEPSEEK,
    "yarn, a step": DEEPSEEK | {"rope_scaling": DEEPSEEK["rope_scaling"] | {"beta_fast": 1}},
    "yarn, not rounded": scaled(**YARN, truncate=False),
    "yarn, its own attention factor": scaled(**YARN, attention_factor=1.5),
    "yarn, two mscale": scaled(**YARN, mscale=0.8, mscale_all_dim=0.5),
    "yarn without an original length": scaled(rope_type="yarn", factor=2.0),
    "linear": scaled(type="linear", factor=8.0),
    "linear, so slow that float32 is exact": scaled(type="linear", factor=1e6),
    "dynamic": scaled(type="dynamic", factor=2.0),
    "dynamic with alpha": PLAIN | {
        "model_type": "hunyuan_v1_dense", "rope_scaling": {"type": "dynamic", "alpha": 50.0, "factor": 1.0},
    },
    "proportional": scaled(rope_type="proportional", partial_rotary_factor=0.25, factor=2.0),
    "nothing turns": scaled(rope_type="proportional", partial_rotary_factor=0.01),
    "partial": {
        "model_type": "gpt_neox", "hidden_size": 6144, "num_attention_heads": 64, "num_hidden_layers": 44,
        "rotary_pct": 0.25, "rotary_emb_base": 10_000, "max_position_embeddings": 2048,
    },
    "partial by a number": {
        "model_type": "gptj", "n_embd": 4096, "n_head": 16, "rotary_dim": 64, "n_positions": 2048, "n_layer": 28,
    },
    "a step in llama3": LLAMA_31 | {
        "rope_scaling": LLAMA_31["rope_scaling"] | {"high_freq_factor": 1.0, "type": "llama3"},
    },
    "two kinds of layers": PLAIN | {"model_type": "gemma3_text", "rope_local_base_freq": 100.0},
    "heads of two sizes": {
        "model_type": "gemma4_text", "head_dim": 16, "max_position_embeddings": 64,
        "per_layer_config": {"05": {"head_dim": 32}}, "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "a part for text": {"model_type": "mllama", "text_config": LLAMA_31},
    "a part in a part": {"model_type": "omni", "thinker_config": {"model_type": "thinker", "text_config": LLAMA_31}},
    "whole numbers with a point": PLAIN | {"max_position_embeddings": 2048.0, "head_dim": 64.0},
    "a number that JSON does not have": PLAIN | {"time_step_limit": [0.0, math.inf]},
    "a slowest pair of 24 digits": PLAIN | {"rope_theta": 1e25},
    "one key for all heads": PLAIN | {
        "model_type": "falcon", "multi_query": True, "num_attention_heads": 71, "num_hidden_layers": 32,
    },
    "a name with a quote": PLAIN | {"model_type": "it's"},
    "an axis of a grid": {
        "model_type": "dinov3_vit", "hidden_size": 384, "num_attention_heads": 6, "rope_theta": 100.0,
    },
    "an unknown model type": LLAMA_31 | {"model_type": "llama_of_tomorrow"},
    "a name that objects have": PLAIN | {"model_type": "constructor"},
    "a model type that is neither": PLAIN | {"model_type": "gemma4_vision"},
    "no context": {name: value for name, value in PLAIN.items() if name != "max_position_embeddings"},
    "a long context": PLAIN | {"max_position_embeddings": 400_000},
    "one pair": PLAIN | {"head_dim": 2},
    "switched layout": DEEPSEEK | {"rope_interleave": False},
    "base in the code": {name: value for name, value in PLAIN.items() if name != "rope_theta"},
    "a recorded layout": PLAIN | {"rope_lab_layout": "interleaved"},
}  # fmt: skip
REFUSED: dict[str, Any] = {
    "a list": [1],
    "a width in words": PLAIN | {"head_dim": "64"},
    "a width of hidden coordinates in words": {
        "model_type": "llama", "hidden_size": "64", "num_attention_heads": 4, "rope_theta": 1e4,
    },
    "layers in words": PLAIN | {"num_hidden_layers": "4", "num_attention_heads": 8},
    "a share in words": PLAIN | {"model_type": "phi", "partial_rotary_factor": "0.5"},
    "a share of nothing": PLAIN | {"model_type": "phi", "partial_rotary_factor": 0},
    "a base without end": PLAIN | {"rope_theta": math.inf},
    "heads as wide as a book": PLAIN | {"head_dim": 1e9},
    "a negative mscale": scaled(**YARN, mscale=-1, mscale_all_dim=1),
    "an attention factor in words": scaled(**YARN, attention_factor="1.5"),
    "no factor for a pair": scaled(
        rope_type="longrope", factor=2.0, short_factor=[1.0] * 31 + [0], long_factor=[1.0] * 32
    ),
    "a factor instead of a list": scaled(rope_type="longrope", factor=2.0, short_factor=3, long_factor=[1.0] * 32),
    "two model types": PLAIN | {"model_type": ["llama"]},
    "a rope type in a list": scaled(rope_type=["yarn"], factor=2.0),
    "a list of parameters": PLAIN | {"rope_parameters": []},
    "a share above 1 of p-RoPE": scaled(rope_type="proportional", partial_rotary_factor=2.0),
    "a layer that is not there": {
        "model_type": "gemma4_text", "head_dim": 16, "layer_types": ["full_attention"],
        "per_layer_config": {"9": {"head_dim": 32}},
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}},
    },
    "nothing": {},
    "no rotation": {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2},
    "a context in words": PLAIN | {"max_position_embeddings": "long"},
    "an unknown scaling": scaled(rope_type="magic"),
    "a scaling that lacks a number": scaled(rope_type="llama3", factor=8.0),
    "a key of another scaling": scaled(rope_type="linear", factor=2.0, beta_fast=3),
    "two names": scaled(rope_type="linear", type="yarn", factor=2.0),
    "a factor below 1": scaled(rope_type="linear", factor=0.5),
    "no head": {name: value for name, value in PLAIN.items() if name != "head_dim"},
    "odd heads": PLAIN | {"head_dim": 3},
    "heads that do not divide": {
        "model_type": "llama", "hidden_size": 10, "num_attention_heads": 4, "max_position_embeddings": 8,
    },
    "a share that the code does not read": PLAIN | {"partial_rotary_factor": 0.5},
    "a share that is missing": PLAIN | {"model_type": "gpt_neox"},
    "frequencies that the code changes": PLAIN | {"model_type": "pixtral"},
    "another encoding": PLAIN | {"position_embedding_type": "absolute"},
    "alibi": PLAIN | {"alibi": True},
    "two bases": PLAIN | {"rope_parameters": {"rope_theta": 5.0, "rope_type": "default"}},
    "too few factors": scaled(rope_type="longrope", factor=2.0, short_factor=[1.0], long_factor=[1.0]),
    "parameters without a base": {"model_type": "llama", "head_dim": 8, "rope_parameters": {"rope_type": "default"}},
}  # fmt: skip
FAMILIES_READ = {
    row.name: config_of(row) for row in FAMILIES if row.local is None or row.local.head_dim == row.head_dim
}


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.set_content(f"<article>{paste().data}</article>")
    yield page
    page.close()


def said(page: Page, text: str) -> list[str]:
    """What the form writes about a pasted text."""
    page.fill(".rope-paste textarea", text)
    return page.locator(".rope-paste .said p").all_inner_texts()


@pytest.mark.parametrize("config", READ.values(), ids=READ.keys())
def test_it_writes_what_python_writes(page: Page, config: dict[str, Any]) -> None:
    expected = [line.strip() for line in read_config(config).report().splitlines() if line]
    assert said(page, json.dumps(config)) == expected


def test_it_writes_what_python_writes_of_every_family(page: Page) -> None:
    assert len(FAMILIES_READ) > 75
    for name, config in FAMILIES_READ.items():
        reading = read_config(config)
        assert name in reading.like, name
        lines = [line.strip() for line in reading.report().splitlines() if line]
        assert said(page, json.dumps(config)) == lines, name


@pytest.mark.parametrize("config", REFUSED.values(), ids=REFUSED.keys())
def test_it_says_what_is_missing(page: Page, config: Any) -> None:
    with pytest.raises(ValueError, match=r"must|frequencies") as error:
        read_config(config)
    (sentence,) = said(page, json.dumps(config))
    words = str(error.value).replace("in dict", "in config")
    if config == [1]:
        assert sentence.startswith("Config must be a mapping")
    else:
        assert sentence == re.sub(r"(?<=\d)\.0\b", "", f"{words[0].upper()}{words[1:]}.")
    assert page.locator(".rope-paste .strip").count() == 0
    assert page.locator(".rope-paste .scale").is_hidden()


@pytest.mark.parametrize("text", ["", "{", "hello", '{"rope_theta": NaN}', "{'a': 1}"])
def test_what_is_not_json_is_a_sentence(page: Page, text: str) -> None:
    (sentence,) = said(page, text)
    assert sentence.startswith("This is not JSON: ")
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    "text", ['{"model_type": 3}', '{"rope_parameters": 3}', '{"rope_scaling": [1]}', "null", "3"]
)
def test_whatever_is_pasted_is_answered(page: Page, text: str) -> None:
    (sentence,) = said(page, text)
    assert "undefined" not in sentence
    assert "TypeError" not in sentence


def test_each_pair_has_a_mark_and_late_ones_another(page: Page) -> None:
    said(page, json.dumps(LLAMA_31))
    spectrum = read_config(LLAMA_31).spectra[""]
    assert page.locator(".strip i").count() == spectrum.wavelengths.numel()
    assert page.locator(".strip i.late").count() == spectrum.unfinished


def test_an_example_is_filled_in(page: Page) -> None:
    for name, text in examples().items():
        page.select_option(".rope-paste select", label=name)
        assert page.input_value(".rope-paste textarea") == text
        assert page.locator(".rope-paste .said p").count() > 0
    assert "Low_freq_factor must be given" in page.inner_text(".rope-paste .said")


def test_without_javascript_there_is_one_computed_example(browser: Browser, tmp_path: Path) -> None:
    """It shows exactly what the script shows of the same config."""
    shown = []
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><article>{paste().data}</article>", encoding="utf-8")
    for scripts in (True, False):
        context = browser.new_context(java_script_enabled=scripts)
        page = context.new_page()
        page.goto(file.as_uri())
        found = re.search(r'<div class="drawn">(.*)</div>\s*</div>', page.content(), re.S)
        assert found
        shown.append(html.unescape(found[0].split("<script>")[0]).replace('hidden=""', ""))
        assert page.get_by_text("Without JavaScript this is one example").is_visible() == (not scripts)
        assert page.locator("textarea[readonly]").count() == (not scripts)
        context.close()
    assert shown[0] == shown[1]
