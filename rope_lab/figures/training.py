"""Figures of chapter 13: what training a model on Tiny Shakespeare shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, apart, direct_label, new_figure
from rope_lab.training import record

_LOSS = "loss (nats per character)"


def in_turn(names: Sequence[Any]) -> Iterator[Any]:
    """The names of trainings, each printed when its turn comes; after the last one the lines are cleared.

    So whoever runs the cell sees how far it is, and the page keeps only the results.
    """
    from IPython.display import clear_output

    for place, name in enumerate(names, 1):
        print(f"training {place} of {len(names)}: {name}", flush=True)
        yield name
    clear_output()


def side_by_side(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Validation loss against updates, one line per encoding, each named at its end.

    Args:
        curves: name → (steps, losses).
    """
    figure, axes = new_figure(size=(7.5, 3.8))
    ends = apart([losses[-1] for _, losses in curves.values()], 0.07)
    for (name, (steps, losses)), end, color, dash in zip(
        curves.items(), ends, COLORS.values(), ("-", "--", "-.", ":"), strict=False
    ):
        axes.plot(steps, losses, dash, color=color, marker="o", markersize=4)
        direct_label(axes, steps[-1], end, f"{name} {losses[-1]:.2f}", color, annotation_clip=False)
    axes.set(xlabel="updates", ylabel=_LOSS)
    axes.margins(x=0.02)
    return figure


def learning_curve(
    steps: Sequence[float],
    losses: Sequence[float],
    measured: tuple[Sequence[float], Sequence[float]],
    levels: Mapping[str, float],
) -> Figure:
    """Training and validation loss against updates, and what simpler predictors reach.

    Args:
        steps, losses: of training.
        measured: steps and losses of the validation split.
        levels: name → loss of a predictor that is not trained by gradients.
    """
    figure, axes = new_figure(size=(7.5, 4.2))
    last = steps[-1]
    for name, level in levels.items():
        axes.axhline(level, color=GREY, linestyle=":", linewidth=1.5)
        axes.annotate(
            f"{name} {level:.2f}",
            (last, level),
            xytext=(0, 3),
            textcoords="offset points",
            color=GREY,
            ha="right",
        )
    axes.plot(steps, losses, color=COLORS["blue"])
    axes.plot(*measured, "o", color=COLORS["vermilion"], markersize=7)
    direct_label(axes, steps[0], losses[0], "training", COLORS["blue"])
    direct_label(axes, last, measured[1][-1], f"validation {measured[1][-1]:.2f}", COLORS["vermilion"])
    axes.set(xlabel="updates", ylabel=_LOSS, ylim=(1.0, None))
    axes.margins(x=0.02)
    return figure


def against_minutes(histories: Sequence[Sequence[Mapping[str, Any]]], name: str, level: float) -> Figure:
    """Validation loss against the minutes of training, one line per run, and the level that another run reached.

    Args:
        histories: for each run, the points of its record, with `seconds` and, if it was measured, `val`.
        name, level: of the other run.
    """
    figure, axes = new_figure(size=(7.5, 3.6))
    for points in histories:
        measured = [(point["seconds"] / 60, point["val"]) for point in points if point["val"] is not None]
        axes.plot(*zip(*measured, strict=True), color=COLORS["blue"], marker="o", markersize=5, alpha=0.7)
    axes.axhline(level, color=GREY, linestyle="--", linewidth=1.5)
    axes.annotate(
        f"{name}: {level}", (0.01, level), xycoords=("axes fraction", "data"), xytext=(0, 4),
        textcoords="offset points", color=GREY,
    )  # fmt: skip
    axes.set(xlabel="minutes", ylabel=f"validation {_LOSS}", xlim=(0, None))
    return figure


def curve_from(folder: str | Path) -> Figure:
    """The learning curve of the run in `folder`, read only from its `run.json`.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    run = json.loads(Path(folder, record.FILE).read_text(encoding="utf-8"))
    points = run["history"]
    figure, axes = new_figure(size=(7.5, 4.2))
    for key, name, color, line in (
        ("loss", "training", COLORS["blue"], "-"),
        ("val", "validation", COLORS["vermilion"], "o"),
    ):
        shown = [(point["step"], point[key]) for point in points if point[key] is not None]
        axes.plot([step for step, _ in shown], [loss for _, loss in shown], line, color=color, label=name)
        if shown:
            direct_label(axes, *shown[-1], f"{name} {shown[-1][1]:.2f}", color)
    axes.set(xlabel="updates", ylabel=_LOSS)
    return figure


def loss_by_place(places: ArrayLike, losses: ArrayLike, halves: ArrayLike, mean: float) -> Figure:
    """Loss of a character against the number of characters of its segment that the model has seen.

    Args:
        places, losses, halves: the middle of each group of places, its mean loss and the half-width of its confidence
            interval.
        mean: over all places.
    """
    figure, axes = new_figure(size=(7.5, 3.4))
    x, y, error = (np.asarray(values) for values in (places, losses, halves))
    axes.errorbar(x, y, error, color=COLORS["blue"], marker="o", markersize=5, capsize=3)
    axes.axhline(mean, color=GREY, linestyle="--", linewidth=1.5)
    axes.annotate(
        f"mean {mean:.2f}", (x[0], mean), xytext=(0, 4), textcoords="offset points", color=GREY, ha="left"
    )
    axes.set(xscale="log", xlabel="characters seen before it in the segment", ylabel=_LOSS)
    ticks = [1, 10, 100]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    return figure
