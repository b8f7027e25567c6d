"""The table: what it says of the installed libraries, how it is shown, and what it says where a library is missing."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from faulty import BROKEN, CORRECT, plain

from rope_lab import conformance
from rope_lab.conformance.libraries import LIBRARIES
from rope_lab.conformance.report import cell, number
from rope_lab.doctor import Property


@pytest.fixture(scope="module")
def whole():
    return conformance.table()


@pytest.mark.slow
def test_this_package_meets_every_property(whole):
    assert {one.name: one.holds for one in whole["rope_lab"].values()} == dict.fromkeys(
        (question.name for question in conformance.QUESTIONS), True
    )


def test_what_the_page_says_of_the_others_is_what_they_do(whole):
    """The tables of differences on the page, and what the adapters' docstrings say."""
    theirs = whole["rotary-embedding-torch"]
    assert not theirs["bfloat16"].holds
    assert theirs["stateless"].says == "a call in bfloat16 changes the next"
    assert not theirs["float64"].holds
    assert theirs["nothing saved"].says == "freqs"
    assert whole["labml_nn"]["dtype kept"].says.startswith("bfloat16 becomes float32")
    assert whole["local-attention"]["partial rotation"].holds is None
    llama = whole["Llama of transformers"]
    assert not llama["exact at 1,000,000"].holds
    assert (llama["exact at 1,000,000"].error or 0) > 0.01
    for name in ("positions per row", "both shapes", "cached = full", "compiles", "gradient"):
        assert llama[name].holds


def test_llama_loses_its_frequencies_by_a_cast_and_not_by_loading(whole, tmp_path):
    """The table asks about `.bfloat16()`; what the library recommends is said beside it."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=8, hidden_size=32, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert model.bfloat16().model.rotary_emb.inv_freq.dtype == torch.bfloat16
    assert not whole["Llama of transformers"]["cast module"].holds


def test_every_library_is_a_rotation_of_the_plain_kind(whole):
    """A mistake in how a library is called here would show in what each of them must meet."""
    for subject in whole.subjects:
        found = whole[subject.name]
        for name in ("distance only", "norm kept", "first token unchanged", "angles add", "gradient"):
            assert found[name].holds, (subject.name, found[name])
        assert subject.version
        assert subject.how


def test_it_fits_a_page_and_a_phone(whole):
    text = str(whole)
    assert max(map(len, text.splitlines())) <= 88
    assert text.count("✓") > 50
    page = whole._repr_html_()
    assert page.count('<th scope="row"') == len(conformance.QUESTIONS)
    for subject in whole.subjects:
        assert len(subject.head) <= 9
    assert max(len(cell(one)) for column in whole.found for one in column) <= 7
    plain_values = json.loads(json.dumps(whole.as_dict()))
    assert plain_values["libraries"]["rope_lab"]["properties"][0]["name"] == "distance only"


def test_a_library_that_is_missing_is_named(monkeypatch):
    for name in ("local_attention.rotary", "labml_nn.transformers.rope"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("rope_lab.conformance.report.answers", lambda subject, dim: ())
    monkeypatch.setattr("rope_lab.conformance.report.QUESTIONS", (conformance.QUESTIONS[0],) * 0)
    found, missing = conformance.libraries.installed()
    names = {text.split(" (")[0] for text in missing}
    assert {"labml_nn", "local-attention"} <= names
    assert all("(ModuleNotFoundError: " in text for text in missing)
    assert {subject.name for subject in found} | names == set(LIBRARIES)
    assert "rope_lab" not in names


def test_rotations_of_ones_own_have_a_column_each():
    found = conformance.table(plain, CORRECT, BROKEN["norm kept"], dim=32)
    assert [subject.name for subject in found.subjects] == ["plain", "correct", "broken"]
    assert not found["broken"]["norm kept"].holds
    assert "not asked" not in str(found)


@pytest.mark.parametrize(
    ("one", "shown"),
    [
        (Property("x", True, "", 1e-9), "✓"),
        (Property("x", None, "it takes none"), "–"),
        (Property("x", False), "✗"),
        (Property("x", False, "", 0.0218), "✗ 0.022"),
        (Property("x", False, "", 3.05e-5), "✗ 3e−5"),
        (Property("x", False, "", 1.0), "✗ 1"),
    ],
)
def test_a_cell_shows_the_failing_number(one, shown):
    assert cell(one) == shown


def test_large_numbers_stay_short():
    assert number(123456.0) == "1.2e+05"


def test_below_the_table_each_library_and_each_property_is_explained(whole):
    """What the extension writes on the page: every column with how it was called, every row in words."""
    from rope_book.conformance import text

    said = text(whole)
    for subject in whole.subjects:
        assert f"- **{subject.head}**: {subject.name} {subject.version}, called as {subject.how}." in said
        for note in whole.notes(subject):
            assert f"  - {note}" in said
    for question in conformance.QUESTIONS:
        assert f"\n{question.name}\n: " in said
    assert whole.missing == ()  # the page lists the libraries that requirements.txt installs
    named = {name for subject in whole.subjects for name in subject.why}
    assert named <= {question.name for question in conformance.QUESTIONS}
