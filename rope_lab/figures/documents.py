"""Figures of chapter 16: needles found, trained scores and the rotation's own curve, losses by base, claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rope_lab.experiments.seeds import interval
from rope_lab.experiments.store import Results
from rope_lab.figures.comparing import _nothing
from rope_lab.figures.style import COLORS, GREY, direct_label, new_figure

VERDICTS = {"seen here": COLORS["blue"], "not seen here": COLORS["vermilion"]}


def needles(results: Results) -> Figure:
    """Fraction of needles found: left by distance at the trained length, right by length, at distances that all share.

    One dot per seed, and a line through the means; models with a global last layer are dashed if it has no positions.
    """
    if not results.variants():
        return _nothing(results)
    figure, (left, right) = new_figure(1, 2, size=(7.5, 4.6), sharey=True)
    first = results.records[0]
    lengths, distances = first["lengths"], first["distances"]
    shared = sorted(set(distances[0]) & set(distances[-1]))
    color: dict[str, str] = {}
    for name in results.variants():
        bare = name.endswith("without positions")
        kind = name.removesuffix(", last layer without positions").removesuffix(
            ", that one without positions"
        )
        own = color.setdefault(kind, list(COLORS.values())[len(color)])
        inside = "none" if bare else own
        runs: Any = results.values(name, "right")  # (seeds, lengths, distances)
        by_length = [
            [float(np.mean([run[i][far.index(d)] for d in shared])) for i, far in enumerate(distances)]
            for run in runs
        ]
        for panel, at, rows in ((left, distances[0], [run[0] for run in runs]), (right, lengths, by_length)):
            panel.plot(at, np.mean(rows, axis=0), "--" if bare else "-", color=own, label=name)
            for row in rows:
                panel.plot(at, row, "o", color=own, markersize=4, alpha=0.7, markerfacecolor=inside)
    left.axvline(first["window"], color=GREY, linestyle=":", linewidth=1.5)
    left.set(xscale="log", xlabel="distance of the needle (characters)", ylabel="needles found")
    left.set_xticks(distances[0][::2], [f"{d:,}" for d in distances[0][::2]])
    right.set(xscale="log", xlabel="length of the text (characters)")
    right.set_xticks(lengths, [f"{length:,}" for length in lengths])
    for panel in (left, right):
        panel.minorticks_off()
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=1, fontsize=12, frameon=False)
    return figure


def trained_scores(results: Results, kernel: Sequence[float]) -> Figure:
    """Mean scores of all heads against distance: of trained and untrained models, and the rotation's own curve.

    Left, the models with normalised queries and keys; right, without. The band is one standard deviation of the
    scores, averaged over the heads.

    Args:
        results: of the experiment `decay`.
        kernel: what the rotation alone makes of equal content at the recorded distances; drawn with its height and
            offset fitted to the mean of each kind of trained model.
    """
    if not results.variants():
        return _nothing(results)
    names = [name for name in results.variants() if name != "untrained"]
    figure, axes = new_figure(1, len(names), size=(7.5, 3.8), squeeze=False)
    at = np.array(results.records[0]["distances"], dtype=float) + 1
    for panel, name in zip(axes[0], names, strict=True):
        shown = {name: COLORS["blue"]}
        if panel is axes[0, 0]:
            shown["untrained"] = COLORS["orange"]
        for kind, color in shown.items():
            mean, deviation = (
                np.array(results.values(kind, key), dtype=float).reshape(-1, len(at)).mean(0)
                for key in ("mean", "deviation")
            )
            panel.plot(at, mean, color=color, label=kind.partition(",")[0])
            panel.fill_between(at, mean - deviation, mean + deviation, color=color, alpha=0.2, linewidth=0)
            if kind == name:
                slope, offset = np.polyfit(kernel, mean, 1)
                fitted = slope * np.asarray(kernel) + offset
                panel.plot(at, fitted, ":", color=COLORS["black"], linewidth=1.8, label="kernel")
        panel.set_title(name.partition(", ")[2] or "with QK-norm", loc="left", fontsize=12)
        panel.set(xscale="log", xlabel="distance (characters)")
        panel.set_xticks([1, 11, 101], ["0", "10", "100"])
        panel.minorticks_off()
    axes[0, 0].set_ylabel("score / √D")
    axes[0, 0].legend(fontsize=12, frameon=False)
    return figure


def by_base(losses: Mapping[int, Mapping[float, Sequence[float]]], floor: float) -> Figure:
    """Loss against the base, one line per width of dependency and one dot per seed.

    Args:
        losses: width → base → loss of each seed.
        floor: the lowest loss there is, a dashed line.
    """
    figure, axes = new_figure(size=(7.5, 3.6))
    axes.axhline(floor, color=GREY, linestyle="--", linewidth=1.5)
    for (width, rows), color in zip(losses.items(), COLORS.values(), strict=False):
        bases = sorted(rows)
        axes.plot(bases, [float(np.mean(rows[base])) for base in bases], color=color, linewidth=1.5)
        for base in bases:
            axes.plot([base] * len(rows[base]), rows[base], "o", color=color, markersize=5, alpha=0.8)
        if width == max(losses):
            direct_label(
                axes,
                bases[-1],
                float(np.mean(rows[bases[-1]])),
                f"{width} back",
                color,
                annotation_clip=False,
            )
    rest = [str(width) for width in losses if width != max(losses)]
    axes.text(
        1.02, floor, f"{', '.join(rest)} back", transform=axes.get_yaxis_transform(), va="center", fontsize=12
    )
    axes.set(xscale="log", xlabel="base b", ylabel="loss (nats per symbol)")
    axes.minorticks_off()
    return figure


def tried(rows: Sequence[tuple[str, Sequence[float], str]]) -> Figure:
    """Claims beside what their seeds show: dots, the 95% confidence interval of their mean, and colour by verdict.

    Args:
        rows: name of the claim, differences by seed in nats, and the verdict, which begins with one of VERDICTS.
    """
    figure, axes = new_figure(size=(7.5, 0.34 * max(len(rows), 1) + 1.1))
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1.5)
    for row, (_, values, verdict) in enumerate(reversed(rows)):
        color = next((c for start, c in VERDICTS.items() if verdict.startswith(start)), GREY)
        mean, half = interval(values)
        if math.isfinite(half):
            axes.plot([mean - half, mean + half], [row, row], color=color, linewidth=1.8)
        filled = color if verdict.startswith("seen") else "none"
        axes.plot(
            values, [row] * len(values), "o", color=color, markerfacecolor=filled, markersize=5, alpha=0.9
        )
    axes.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)])
    axes.set_xscale("symlog", linthresh=0.05, linscale=1.0)
    ticks = [-1, -0.1, 0, 0.1, 1]
    axes.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("difference (nats; logarithmic beyond 0.05)")
    axes.margins(y=0.03)
    return figure
