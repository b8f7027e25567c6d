"""The needle: what is planted where, that the answer is nowhere else, and one small measurement."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import corpus
from test_experiments import TINY

from rope_lab.experiments import needle
from rope_lab.experiments.lab import Lab
from rope_lab.experiments.store import Results
from rope_lab.training import Corpus


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(needle, "ROWS", {1: 4, 2: 2, 4: 1})
    return Lab(TINY, Corpus("words", "$&&333" + corpus().text.lower() * 4), tmp_path, "cpu")


@pytest.fixture
def signs(lab: Lab) -> needle.Signs:
    return needle.Signs.of(lab.corpus)


def test_the_signs_are_the_rarest_characters(lab: Lab, signs: needle.Signs) -> None:
    text, vocab = lab.corpus.text, lab.corpus.vocab
    rare = [vocab[i] for i in (signs.needle, signs.ask, signs.decoy)]
    counts = [text.count(c) for c in rare]
    assert counts == sorted(counts)
    assert counts[-1] <= min(text.count(c) for c in vocab if c not in rare)
    assert {vocab[i] for i in signs.letters.tolist()} <= set("abcdefghijklmnopqrstuvwxyz") - set(rare)


def test_a_text_without_letters_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^corpus must have two of the letters a to z"):
        needle.Signs.of(Corpus("digits", "0123456789" * 10))


def test_every_question_of_training_is_after_the_needle_and_asks_for_its_letter(
    lab: Lab, signs: needle.Signs
) -> None:
    draw = torch.Generator().manual_seed(1)
    ids = lab.corpus.encode(lab.corpus.train)[6:]
    rows = needle.practice(needle.segments(ids, 40, 64, draw), signs, draw)
    assert rows.asked.any(1).sum() > 35
    for row, targets, asked, letter in zip(*(x.tolist() for x in rows), strict=True):
        places = [m for m, one in enumerate(asked) if one]
        assert all(row[m] == signs.ask and targets[m] == letter for m in places)
        planted = row.index(signs.needle)
        assert row[planted + 1] == letter
        assert all(m > planted + 1 for m in places)


@pytest.mark.parametrize("distance", [1, 5, 40, 61])
def test_a_test_has_one_question_at_the_end_and_its_needle_at_the_distance(
    lab: Lab, signs: needle.Signs, distance: int
) -> None:
    draw = torch.Generator().manual_seed(distance)
    text = needle.segments(lab.held_out, 30, 64, draw)
    state = draw.get_state()
    rows = needle.hidden(text, signs, distance, draw)
    assert (rows.ids[:, -1] == signs.ask).all()
    assert rows.asked.sum(1).tolist() == [1] * 30
    assert torch.equal(rows.ids[:, 63 - distance], rows.letter)
    assert (rows.ids[:, 62 - distance] == signs.needle).all()
    assert torch.equal(rows.targets[rows.asked], rows.letter)
    for sign in (None, signs.decoy):  # the controls are the same texts with the same letters in question
        draw.set_state(state)
        control = needle.hidden(text, signs, distance, draw, sign)
        assert torch.equal(control.letter, rows.letter)
        changed = (control.ids != rows.ids).sum(1)
        assert 1 <= changed.max() <= 2
        assert not (control.ids[:, 62 - distance] == signs.needle).any()


def test_a_window_does_not_see_beyond_its_layers(lab: Lab, signs: needle.Signs) -> None:
    """The reach of the last question is depth · (W − 1): a needle further away changes no answer, one inside does."""
    model = needle.model_for(lab, needle.WINDOW, 0).eval()
    reach = model.config.depth * (model.config.window - 1)
    row = lab.held_out[None, :128].clone()
    for distance, changes in ((reach + 1, False), (reach, True)):
        other = row.clone()
        other[0, 127 - distance] = (row[0, 127 - distance] + 1) % model.config.vocab_size
        _, before = needle.answers(model, row)
        _, after = needle.answers(model, other)
        assert bool((before != after).any()) == changes


def test_the_shapes_of_the_variants(lab: Lab) -> None:
    shapes = {}
    for name in needle.VARIANTS:
        config = needle.model_for(lab, name, 0).config
        positions = [
            type(config.layer_position(i, config.build_position())).__name__ for i in range(config.depth)
        ]
        shapes[name] = config.global_layers, positions[-1]
        assert positions[:-1] == ["RotaryEmbedding"] * (config.depth - 1)
    depth = needle.model_for(lab, needle.FULL, 0).config.depth
    assert list(shapes.values()) == [
        (depth, "RotaryEmbedding"), (depth, "NoPE"), (0, "RotaryEmbedding"), (1, "RotaryEmbedding"), (1, "NoPE"),
    ]  # fmt: skip


def test_it_is_measured_and_shown(lab: Lab) -> None:
    name = needle.VARIANTS[1]
    numbers = needle.measure(lab, name, 0)
    assert len(numbers["windowed"]) == len(numbers["distances"][-1])
    assert len(numbers["absent"]) == len(numbers["other"]) == len(needle.DISTANCES)
    assert [len(row) for row in numbers["right"]] == [len(far) for far in numbers["distances"]]
    assert all(0 <= found <= 1 for row in numbers["right"] for found in row)
    assert numbers["packed"]["own"][1] == numbers["packed"]["own"][2]  # relative: positions may run on
    results = Results("needle", "smoke", [{"variant": name, "seed": 0} | numbers])
    assert name in needle.table(results)
    assert set(needle.kept(numbers)) == {"128", "256", "512", "val_loss"}


def test_reading_through_windows_changes_only_what_is_further_away(lab: Lab) -> None:
    model = needle.model_for(lab, needle.FULL, 0).eval()
    narrow = needle.with_windows(model, 40)
    row = lab.held_out[None, :64]
    torch.testing.assert_close(narrow(row)[:, :40], model(row)[:, :40])
    assert not torch.allclose(narrow(row)[:, 40:], model(row)[:, 40:])
