"""Figures of chapter 15, on small results of their own."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.experiments.causes import METHODS
from rope_lab.experiments.extending import PARTS
from rope_lab.experiments.store import Results
from rope_lab.figures.extending import by_place, by_place_of_two, covered, ratios, tuning

pairs = np.arange(5)
trained = 12.0 * 4.0**-pairs  # the first pair comes round, the others do not


KINDS = {"a": " ×8", "b": " ×8, no QK-norm"}


def results(seeds: int, methods: tuple[str, ...] = METHODS) -> Results:
    records = [
        {
            "variant": method + ending, "method": method, "factor": 8, "seed": seed, "context": 16, "steps": [0, 50],
            "trained_length": 2.0 + seed, "loss": [3.0 + seed, 2.5], "end": [3, 3], "short": [2.0, 2.2 + 2 * seed],
        }
        for seed in range(seeds)
        for ending in KINDS.values()
        for method in methods
    ]  # fmt: skip
    return Results("extension", "cpu", records)


@pytest.mark.parametrize(
    ("figure", "axes"),
    [
        (by_place([8, 24, 60], {"none": [2.0, 2.1, 3.0], "YaRN": [2.0, 2.0, 2.0]}, 16), 1),
        (covered(trained, {"nothing scaled": 8 * trained}), 1),
        (covered(trained, {"nothing scaled": 8 * trained, "YaRN": trained}), 2),
        (
            ratios(
                {
                    "position interpolation": (np.full(5, 0.25), 0, "below right"),
                    "NTK-aware": (0.25 ** (pairs / 4), 3, "above right"),
                },
                4,
                2,
            ),
            1,
        ),
        (ratios({"YaRN": (np.ones(5), 2, "below left")}, 1, 5), 1),
        (tuning(results(3), KINDS), 2),
        (tuning(results(1), KINDS, "short"), 2),
        (tuning(results(2, ("YaRN",)), {"a": " ×8"}, "end"), 1),
        (tuning(results(0), KINDS), 2),
    ],
)
def test_each_is_a_figure_that_can_be_drawn(figure: Figure, axes: int) -> None:
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes
    figure.canvas.draw()


def test_a_pair_leaves_its_trained_angles_unless_they_are_the_whole_circle() -> None:
    panels = covered(trained, {"plain": 8 * trained, "interpolated": trained}).axes
    assert [panel.texts[0].get_text()[:6] for panel in panels] == ["4 of 5", "0 of 5"]
    widths = {kind.get_label(): [bar.get_width() for bar in kind] for kind in panels[0].containers}
    trained_degrees = np.minimum(np.degrees(trained), 360)
    np.testing.assert_allclose(widths["trained, and used"], trained_degrees)
    new = np.minimum(np.degrees(8 * trained), 360) - trained_degrees
    np.testing.assert_allclose(widths["never seen in training"], new)
    assert "trained, not used" not in widths


def test_an_arc_that_is_trained_and_not_used_is_shown() -> None:
    figure = covered(trained, {"half": trained / 2})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "trained, and used",
        "trained, not used",
    ]


def test_tuning_draws_means_and_confidence_intervals_over_the_seeds() -> None:
    figure = tuning(results(2), KINDS, "short")
    panel = figure.axes[1]
    assert panel.get_title(loc="left") == "b"
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == ["nothing scaled", *METHODS[1:]]
    assert len(panel.containers) == 2 * len(METHODS)  # before and after
    line, _, (bars,) = panel.containers[1].lines
    np.testing.assert_allclose(line.get_xdata(orig=False), [3.2])
    left, right = np.array(bars.get_segments()[0])[:, 0]
    assert right - left == pytest.approx(
        2 * 12.706 / 2**0.5 * np.std([2.2, 4.2], ddof=1), rel=1e-3
    )  # t, 1 d.o.f.
    (reference,) = [line for line in panel.lines if line.get_linestyle() == ":"]
    assert reference.get_xdata(orig=False)[0] == 2.5


def test_before_is_an_open_dot_and_after_a_filled_one_in_the_row_of_its_method() -> None:
    panel = tuning(results(1), KINDS).axes[0]
    before, after = (panel.containers[at].lines[0] for at in (2, 3))  # of the second method
    assert before.get_xdata(orig=False)[0] == 3.0
    assert after.get_xdata(orig=False)[0] == 2.5
    assert before.get_markerfacecolor() != after.get_markerfacecolor() == after.get_color()
    assert before.get_ydata(orig=False)[0] < 1 < after.get_ydata(orig=False)[0]


def test_variants_of_another_factor_or_kind_are_left_out_of_a_panel() -> None:
    found = results(2)
    for record in found.records:
        if record["variant"].endswith("no QK-norm"):
            record["loss"] = [30.0, 30.0]
    (panel,) = tuning(found, {"a": " ×8"}).axes
    assert [line.lines[0].get_xdata(orig=False)[0] for line in panel.containers] == [3.5, 2.5] * len(METHODS)


def test_a_method_of_which_some_seeds_are_missing_is_drawn_from_the_others() -> None:
    partial = results(2)
    partial.records.pop()  # the last method of the second kind, second seed
    line, _, (bars,) = tuning(partial, KINDS).axes[1].containers[-2].lines
    assert line.get_xdata(orig=False)[0] == 3.0
    assert np.ptp(np.array(bars.get_segments()[0])[:, 0]) == 0


def test_one_method_far_above_all_others_does_not_press_them_together() -> None:
    far = results(2)
    for record in far.records:
        if record["variant"] == "position interpolation ×8":
            record["loss"] = [30.0 + record["seed"], 2.5]
    panel, near = tuning(far, KINDS).axes
    assert [text.get_text() for text in panel.texts] == ["30.50 →"]
    assert not near.texts
    assert 3.5 < panel.get_xlim()[1] < 5


def test_parts_are_drawn_in_a_panel_for_each_model() -> None:
    lines = {name: [2.0, 2.5, 3.0] for name in ("none", *PARTS, "YaRN")}
    figure = by_place_of_two([8.0, 100.0, 900.0], {"one": lines, "other": lines}, 128)
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["one", "other"]
    assert len(figure.legends[0].get_texts()) == 4


def test_bands_are_as_wide_as_the_intervals() -> None:
    figure = by_place([8.0, 100.0], {"YaRN": [2.0, 3.0]}, 128, {"YaRN": [0.1, 0.5]})
    corners = figure.axes[0].collections[0].get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (1.9, 3.5)
