"""Rates chosen apart from the results, claims of recent papers, and what heads use: each measured small."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import corpus
from test_experiments import TINY

from rope_lab.experiments import causes, claims, extending, rates, spectrum
from rope_lab.experiments.lab import Lab
from rope_lab.experiments.store import Results
from rope_lab.training import Corpus


@pytest.fixture
def tiny_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setitem(rates.STEPS, "smoke", (2, 3))
    monkeypatch.setitem(claims.UPDATES, "smoke", 1)
    monkeypatch.setitem(causes.UPDATES, "smoke", 1)
    return Lab(TINY, Corpus("words", corpus().text * 4), tmp_path, "cpu")


class TestRates:
    def test_the_text_of_results_takes_no_part(self, tiny_lab: Lab):
        place, whole = rates.choosing(tiny_lab), tiny_lab.corpus.text
        assert place.corpus.text == tiny_lab.corpus.train
        assert place.corpus.val == whole[int(0.9 * int(0.9 * len(whole))) : int(0.9 * len(whole))]

    def test_the_factor_with_the_lowest_mean_loss_is_chosen(self, monkeypatch: pytest.MonkeyPatch):
        losses = {"RoPE ×0.5": [2.0, 1.0], "RoPE ×1": [1.4, 1.4], "RoPE ×2": [1.9, 1.9], "NoPE ×1": [1.0]}
        records = [
            {"variant": name, "seed": seed, "val_loss": loss}
            for name, row in losses.items()
            for seed, loss in enumerate(row)
        ]
        monkeypatch.setattr(rates, "_recorded", lambda scale: Results("rates", scale, records))
        assert rates.chosen("RoPE", "cpu") == 1
        assert rates.chosen("NoPE", "cpu") == 1  # a grid that is not complete chooses nothing

    def test_a_variant_has_its_own_rates(self, tiny_lab: Lab, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(rates, "chosen", lambda variant, scale: {"RoPE": 2.0}.get(variant, 1.0))
        rope, muon = rates.configured(tiny_lab, "RoPE", 0), rates.configured(tiny_lab, "NoPE", 0)
        assert (rope.lr, rope.matrix_lr) == (2 * muon.lr, 2 * muon.matrix_lr)
        assert rates.configured(tiny_lab, "AdamW instead of Muon", 0, 0.5).lr == 0.0015

    def test_it_is_measured_on_seeds_of_its_own(self, tiny_lab: Lab):
        numbers = rates.measure(tiny_lab, "RoPE ×0.5", 0)
        assert 1 < numbers["val_loss"] < 6
        assert numbers["lr"] == tiny_lab.config(0).lr / 2


class TestClaims:
    def test_mixtures_of_layers(self, tiny_lab: Lab):
        loss = {name: claims.measure_layers(tiny_lab, name, 0)["val_loss"] for name in claims.MIXTURES}
        assert len(set(loss.values())) == 3
        assert loss["NoPE in every fourth layer"] == loss["RoPE"]  # the tiny model has two

    def test_a_model_without_its_rotation_is_nope_with_its_weights(self, tiny_lab: Lab):
        model = tiny_lab.trained(tiny_lab.config(0))[0].model.eval()
        ids = tiny_lab.held_out[None, :20]
        bare = claims.without_rotation(model).eval()
        still = extending.extended(model, spectrum.Still(0, model.config.dim), 1).eval()
        torch.testing.assert_close(bare(ids), still(ids))
        assert not torch.equal(bare(ids), model(ids))

    def test_dropping_and_recalibrating(self, tiny_lab: Lab):
        found = {name: claims.measure_dropped(tiny_lab, name, 0) for name in claims.DROPPED}
        kept, dropped = found["rotation kept"], found["rotation dropped"]
        assert kept["short"][0] != dropped["short"][0]
        assert all(numbers["short"][0] != numbers["short"][1] for numbers in found.values())


class TestSpectrum:
    def test_attention_spreads_over_more_keys_in_a_longer_text(self, tiny_lab: Lab):
        numbers = spectrum.measure_sharpness(tiny_lab, "no QK-norm", 0)
        assert numbers["keys"] == sorted(numbers["keys"])
        assert numbers["keys"][0] == pytest.approx(numbers["keys_sharpened"][0])

    def test_bands_cover_every_pair_once(self):
        assert spectrum.bands(20) == [(0, 5), (5, 10), (10, 15), (15, 20)]
        assert [pair for first, last in spectrum.bands(6) for pair in range(first, last)] == list(range(6))

    def test_bands_are_left_out_one_at_a_time(self, tiny_lab: Lab):
        numbers = spectrum.measure_spectrum(tiny_lab, "long", 0)
        assert all(row != numbers["whole"] for row in numbers["without"])
        shares = torch.tensor(numbers["power"])
        torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:2]))

    def test_a_symbol_repeats_the_one_a_width_before(self):
        text = spectrum.repeats(5, 200, 100, torch.Generator().manual_seed(0))
        same = (text[:, 5:] == text[:, :-5]).double().mean()
        assert same == pytest.approx(0.9 + 0.1 / 16, abs=0.01)
        other = (text[:, 4:] == text[:, :-4]).double().mean()
        assert other == pytest.approx(1 / 16, abs=0.02)

    def test_a_width_is_measured(self, tiny_lab: Lab):
        assert 1 < spectrum.measure_width(tiny_lab, "width 8, base 1,000", 0)["loss"] < 4


class TestCauses:
    def test_log_n_changes_only_what_is_beyond_the_context(self, tiny_lab: Lab):
        model = tiny_lab.trained(tiny_lab.config(0))[0].model
        context = model.config.context
        ids = tiny_lab.held_out[None, : 2 * context]
        plain, warm = (causes.longer(model, name, 2).eval()(ids) for name in ("none", "log-n"))
        torch.testing.assert_close(plain[:, :context], warm[:, :context], rtol=0, atol=0)
        assert not torch.equal(plain[:, context:], warm[:, context:])

    def test_kinds_of_models_are_extended_and_fine_tuned(self, tiny_lab: Lab):
        found = [causes.measure(tiny_lab, f"YaRN ×2{kind}", 0) for kind in ("", ", no QK-norm")]
        assert found[0]["trained_length"] != found[1]["trained_length"]
        assert all(len(set(numbers["loss"])) == 2 for numbers in found)
