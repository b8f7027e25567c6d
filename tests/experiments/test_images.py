"""The digits experiment: what is trained and tested, that positions mean what they say, and how rates are chosen."""

from __future__ import annotations

import types

import pytest
import torch

from rope_lab.experiments import images
from rope_lab.experiments.images import (
    CHOOSE,
    ENCODINGS,
    SIDE,
    TRAIN,
    Digits,
    VisionTransformer,
    digits,
    places,
    resized,
    sections,
    trained,
)
from rope_lab.experiments.seeds import verdict
from rope_lab.experiments.store import Results


def test_no_image_is_in_two_parts() -> None:
    data = digits()
    assert data.images.shape == (1797, 8, 8)
    assert (data.images.min(), data.images.max()) == (0, 1)
    parts = data.part(0, TRAIN), data.part(TRAIN, TRAIN + CHOOSE), data.part(TRAIN + CHOOSE, None)
    assert [len(part.labels) for part in parts] == [1000, 300, 497]
    assert all(part.labels.unique().numel() == 10 for part in parts)
    order = torch.cat([part.images for part in parts])
    assert order.equal(data.images)


@pytest.mark.parametrize("size", [6, 8, 10, 12, 16])
def test_a_scaled_place_is_where_the_patch_is_in_the_picture(size: int) -> None:
    """A picture whose pixels hold their own place, resized: the mean of a patch is the coordinate of its centre."""
    rows = ((torch.arange(SIDE) + 0.5) / 2 - 0.5).expand(SIDE, SIDE).T.contiguous()
    bigger = resized(rows[None], size)[0]
    patches = bigger.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).mean((1, 3))
    inner = slice(1, -1)  # at the border a resized picture repeats its last pixels
    where = places(size, scaled=True).unflatten(0, (size // 2, size // 2))
    torch.testing.assert_close(patches[inner, inner], where[inner, inner, 0].float(), rtol=0, atol=0.06)
    counted = places(size, scaled=False)
    assert counted.amax(0).tolist() == [size // 2 - 1] * 2
    assert counted.equal(where.flatten(0, 1)) == (size == SIDE)


def test_a_section_is_a_part_of_its_image() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 8).expand(1, 8, 8)
    cut = sections(ramp.repeat(200, 1, 1))
    assert cut.min() >= -1e-6
    assert cut.max() <= 1 + 1e-6
    width = cut[:, 0, -1] - cut[:, 0, 0]
    assert width.min() > 0.4
    assert width.max() <= 1 + 1e-6
    assert (cut[:, 0] - cut[:, -1]).abs().max() < 1e-6  # it does not turn the image


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_a_position_changes(encoding: str) -> None:
    """A rotation does not notice a shift of all coordinates; what is added to the patches does; nothing: neither."""
    torch.manual_seed(0)
    model = VisionTransformer(encoding).double().eval()
    if model.table is not None:
        torch.nn.init.normal_(model.table)
    for block in model.blocks:  # scores that depend on something
        torch.nn.init.normal_(block.attention.query.weight)
        torch.nn.init.normal_(block.attention.key.weight)
    image, where = torch.rand(3, 8, 8, dtype=torch.float64), places(8, scaled=False)
    shuffled = where[torch.randperm(16)]
    with torch.inference_mode():
        plain, moved, mixed = (model(image, at) for at in (where, where + 1, shuffled))
    assert plain.shape == (3, 10)
    rotary = encoding in images.ROTARY
    assert (plain - moved).abs().max() < 1e-9 if rotary or encoding == "no position" else True
    if encoding in ("learned", "sinusoidal"):
        assert (plain - moved).abs().max() > 1e-3
    assert ((plain - mixed).abs().max() > 1e-6) == (encoding != "no position")


def test_a_learned_table_is_read_at_its_rows_between_them_and_at_its_edge() -> None:
    torch.manual_seed(0)
    model = VisionTransformer("learned").eval()
    torch.nn.init.normal_(model.table)
    seen: list[torch.Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    at = torch.tensor([[1.0, 2.0], [0.5, 3.0], [7.0, -2.0], [3.0, 0.0]])
    with torch.inference_mode():
        model(torch.zeros(1, 4, 4), at)
    added = seen[0][0] - model.patch.bias
    table = model.table.detach()[0].permute(1, 2, 0)  # rows, columns, C
    wanted = torch.stack((table[1, 2], (table[0, 3] + table[1, 3]) / 2, table[3, 0], table[3, 0]))
    torch.testing.assert_close(added, wanted, rtol=0, atol=1e-5)


def test_frequencies_are_learned_in_each_layer_of_mixed_only() -> None:
    names = {
        encoding: [n for n, _ in VisionTransformer(encoding).named_parameters() if "freqs" in n]
        for encoding in images.ROTARY
    }
    assert [len(found) for found in names.values()] == [0, 0, 2, 0]


def test_training_teaches_and_a_seed_fixes_it() -> None:
    first, loss = trained("axial", 1.0, 3, 25)
    again, same = trained("axial", 1.0, 3, 25)
    assert loss == same < 2.3  # guessing costs ln 10 = 2.303
    data = Digits(digits().images[:40], digits().labels[:40])
    assert images.tested(first, data, 8, scaled=False) == images.tested(again, data, 8, scaled=False)
    assert not first.training


def test_rates_are_chosen_by_the_loss_on_other_images() -> None:
    results = Results("images", "cpu")
    for factor, losses, accuracy in ((0.5, (0.3, 0.4), 0.9), (1.0, (0.1, 0.5), 0.5), (2.0, (0.4, 0.4), 0.99)):
        for seed, loss in enumerate(losses):
            numbers = {"val_loss": loss, "counted": [accuracy] * 5, "scaled": [accuracy] * 5}
            results.records.append({"variant": f"axial ×{factor:g}", "seed": seed} | numbers)
    assert images.chosen(results, "axial") == "axial ×1"
    assert images.accuracies(results, "axial", 12, scaled=True) == [0.5, 0.5]
    assert "axial" in images.table(results)
    assert "mixed" not in images.table(results)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    digits.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        digits()
    digits.cache_clear()


def test_a_measurement_has_every_resolution_both_ways() -> None:
    lab = types.SimpleNamespace(scale=types.SimpleNamespace(name="smoke"))
    numbers = images.measure(lab, "golden ratio ×0.5", 0)  # type: ignore[arg-type]
    assert numbers["sizes"] == [6, 8, 10, 12, 16]
    assert len(numbers["counted"]) == len(numbers["scaled"]) == 5
    assert numbers["counted"][1] == numbers["scaled"][1]
    assert images.EXPERIMENTS["images"].kept(numbers)["scaled"] == numbers["scaled"][1:4]


def test_the_chapter_says_what_the_record_shows() -> None:
    results = Results.recorded("images")

    def mean(encoding: str, size: int, *, scaled: bool = False) -> float:
        values = images.accuracies(results, encoding, size, scaled=scaled)
        assert len(values) == 3
        return sum(values) / 3

    def word(first: tuple[str, int, bool], second: tuple[str, int, bool]) -> str:
        both = [
            images.accuracies(results, name, size, scaled=scaled) for name, size, scaled in (first, second)
        ]
        return verdict([a - b for a, b in zip(*both, strict=True)]).word

    positions = ENCODINGS[1:]
    assert all(mean(name, 12, scaled=True) > mean(name, 8) - 0.04 for name in positions)
    assert all(mean(name, 12) < 0.52 * mean(name, 8) for name in ("learned", "sinusoidal"))
    assert all(mean(name, 12) > 0.8 for name in images.ROTARY)
    assert all(mean(name, 16) < 0.6 for name in ENCODINGS)
    for size, ahead in ((12, True), (16, False)):  # mixed and axial, seed by seed
        both = (images.accuracies(results, name, size, scaled=False) for name in ("mixed", "axial"))
        assert all((mixed > axial) == ahead for mixed, axial in zip(*both, strict=True))
    for size in (6, 8, 10, 12):
        shares = [mean(name, size, scaled=True) for name in positions]
        assert max(shares) - min(shares) < 0.06
    assert all(0.92 < mean(name, 8) < 0.96 for name in positions)
    plain, other = ("axial", 12, False), ("axial, base 10", 12, False)
    for first, second, said in (
        (("axial", 12, True), plain, "higher"),
        (plain, ("sinusoidal", 12, False), "higher"),
        (plain, ("learned", 12, False), "higher"),
        (("axial", 12, True), ("sinusoidal", 12, True), "undecided"),
        (("axial", 12, True), ("learned", 12, True), "undecided"),
        (("mixed", 12, False), plain, "undecided"),
        (other, plain, "higher"),
        (("mixed", 12, False), other, "undecided"),
        (("golden ratio", 12, False), plain, "undecided"),
        (("mixed", 16, False), ("axial", 16, False), "undecided"),
        *(((n, 12, True), (n, 12, False), "undecided") for n in images.ROTARY if n != "axial"),
        (("axial", 12, True), ("axial", 10, True), "higher"),
        (("golden ratio", 8, False), ("axial", 8, False), "lower"),
        (("no position", 12, False), ("no position", 8, False), "lower"),
    ):
        assert word(first, second) == said, (first, second)
