"""Figures of chapter 15: angles that training covers, what scalings do to frequencies, what fine-tuning recovers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from rope_lab.experiments.seeds import interval
from rope_lab.experiments.store import Record, Results
from rope_lab.figures.style import COLORS, GREY, GROUND, apart, direct_label, new_figure

_LOSS = "loss (nats per character)"
_STYLES = {  # of the methods of the experiment, the same in every figure
    "none": (COLORS["black"], "o", "-"),
    "position interpolation": (COLORS["orange"], "s", "--"),
    "NTK-aware": (COLORS["green"], "^", "-"),
    "dynamic NTK": (COLORS["vermilion"], "v", "-."),
    "YaRN": (COLORS["blue"], "D", "-"),
    "Llama 3": (COLORS["purple"], "P", ":"),
    "NTK-by-parts": (COLORS["sky"], "X", "--"),
    "attention factor alone": (COLORS["vermilion"], "*", "-."),
    "log-n": (COLORS["purple"], "P", ":"),
}


def by_place(
    places: Sequence[float],
    lines: Mapping[str, ArrayLike],
    context: int,
    halves: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """Loss by place in the text, one line per method, each named at its end.

    Args:
        places: the middle of each group of places, shape (P,).
        lines: method → mean losses, shape (P,).
        context: tokens that the model was trained on at once.
        halves: method → half-widths of the confidence intervals of those means, drawn as bands.
    """
    figure, axes = new_figure(size=(7.5, 4.2))
    _draw_by_place(axes, places, lines, context, halves or {})
    return figure


def by_place_of_two(
    places: Sequence[float], panels: Mapping[str, Mapping[str, ArrayLike]], context: int
) -> Figure:
    """Loss by place in the text, one line per method and one panel per model, with one legend for all.

    Args:
        places, context: as `by_place`.
        panels: title → method → mean losses, shape (P,).
    """
    figure, axes = new_figure(1, len(panels), size=(7.5, 4.4), sharey=True, squeeze=False)
    for panel, (title, lines) in zip(axes[0], panels.items(), strict=True):
        _draw_by_place(panel, places, lines, context, {}, named=False)
        panel.set_title(title, loc="left", fontsize=12)
        panel.set(xlabel="", ylabel="")
        ticks = [context // 8, context, 8 * context]
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes[0, 0].set_ylabel(_LOSS)
    figure.supxlabel("place in the text (characters)", fontsize=12)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=12, frameon=False)
    return figure


def _draw_by_place(
    axes: Axes, places: Sequence[float], lines: Mapping[str, ArrayLike], context: int,
    halves: Mapping[str, ArrayLike], named: bool = True,
) -> None:  # fmt: skip
    curves = {name: np.asarray(losses, dtype=float) for name, losses in lines.items()}
    everything = np.concatenate(list(curves.values()))
    ends = apart([float(curve[-1]) for curve in curves.values()], 0.065 * float(np.ptp(everything)))
    for (name, curve), end in zip(curves.items(), ends, strict=True):
        color, marker, dash = _STYLES[name]
        axes.plot(
            places, curve, dash, color=color, marker=marker, markersize=4, linewidth=1.5, label=said(name)
        )
        if name in halves:
            half = np.asarray(halves[name], dtype=float)
            axes.fill_between(places, curve - half, curve + half, color=color, alpha=0.15, linewidth=0)
        if named:
            direct_label(axes, places[-1], end, said(name), color, annotation_clip=False)
    _end_of_context(axes, context)
    axes.set(xscale="log", xlabel="place in the text (characters)", ylabel=_LOSS)
    ticks = [context * 2**power // 8 for power in range(7)]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()


def covered(trained: ArrayLike, used: Mapping[str, ArrayLike]) -> Figure:
    """The angles that each pair was trained on, and those beyond them in a longer text; one panel per scheme.

    Args:
        trained: largest angle L·θ_i of each pair in training, radians, shape (D/2,).
        used: scheme → largest angle L'·θ'_i in the longer text, radians, shape (D/2,).
    """
    wide = len(used) == 1
    figure, axes = new_figure(
        1, len(used), size=(7.5, 4.4 if wide else 4.0), sharex=True, sharey=True, squeeze=False
    )
    seen = np.minimum(np.degrees(np.asarray(trained, dtype=float)), 360)
    pairs, kinds = np.arange(len(seen)), dict[str, Patch]()
    panel: Axes
    for panel, (name, largest) in zip(axes[0], used.items(), strict=True):
        asked = np.minimum(np.degrees(np.asarray(largest, dtype=float)), 360)
        new = np.maximum(asked - seen, 0)
        new[new < 1e-9 * seen] = 0
        idle = seen - np.minimum(asked, seen)
        for start, width, label, style in (
            (0, seen - idle, "trained, and used", {"color": COLORS["blue"]}),
            (seen - idle, idle, "trained, not used", {"color": COLORS["sky"], "alpha": 0.45}),
            (seen, new, "never seen in training", {"color": COLORS["vermilion"], "hatch": "///"}),
        ):
            if not width.any():
                continue
            bars = panel.barh(
                pairs, width, 0.85, left=start, label=label, edgecolor="white", linewidth=0, **style
            )
            kinds.setdefault(label, bars.patches[0])
        panel.set_title(name if wide else name.replace(" ", "\n"), loc="left", fontsize=12)
        count = f"{(new > 0).sum()} of {len(pairs)}" + (" meet new angles" if wide else "\nmeet\nnew ones")
        panel.text(0.97, 0.03, count, transform=panel.transAxes, ha="right", va="bottom", fontsize=12)
        panel.set_xticks([0, 180, 360], ["0°", "180°", "360°"])
        panel.set_xlim(0, 365)
    axes[0, 0].set_ylabel("pair i (fast above, slow below)")
    axes[0, 0].set_yticks(pairs[::3] if len(pairs) > 6 else pairs)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("angle between a query and its keys", fontsize=12)
    figure.legend(
        list(kinds.values()), list(kinds), loc="outside upper center", ncols=3, fontsize=12, frameon=False
    )
    return figure


def ratios(lines: Mapping[str, tuple[ArrayLike, int, str]], factor: float, first_unseen: int) -> Figure:
    """The factor by which each scheme multiplies the frequency of each pair, θ'_i/θ_i, named next to its line.

    Args:
        lines: scheme → ratios, shape (D/2,), the pair next to which its name is written, and on which side: "above
            right", "below left" or the like.
        factor: L'/L; a slow pair stays within its trained angles up to 1/factor.
        first_unseen: the first pair that does not complete a turn in training.
    """
    figure, axes = new_figure(size=(7.5, 4.6))
    curves = {name: np.asarray(values, dtype=float) for name, (values, _, _) in lines.items()}
    pairs = np.arange(len(next(iter(curves.values()))))
    axes.axvspan(first_unseen - 0.5, pairs[-1] + 0.5, color=GREY, alpha=0.12, linewidth=0)
    axes.axhline(1 / factor, color=GREY, linestyle=":", linewidth=1.5)
    for name, (_, at, side) in lines.items():
        color, marker, dash = _STYLES[name]
        axes.plot(pairs, curves[name], dash, color=color, marker=marker, markersize=5, linewidth=1.5)
        above, right = "above" in side, "right" in side
        axes.annotate(
            name, (at, curves[name][at]), xytext=(6 if right else -6, 4 if above else -4),
            textcoords="offset points", color=color, ha="left" if right else "right",
            va="bottom" if above else "top", fontsize=12,
        )  # fmt: skip
    axes.annotate(
        "no full turn in training", (pairs[-1] + 0.4, 1), xycoords=("data", "axes fraction"), xytext=(0, -4),
        textcoords="offset points", color=GREY, ha="right", va="top", fontsize=12,
    )  # fmt: skip
    axes.set(
        yscale="log",
        xlabel="pair i (fast left, slow right)",
        ylabel=r"new over old frequency, $\theta'_i/\theta_i$",
    )
    least = min(float(curve.min()) for curve in curves.values())
    ticks = [2**power for power in range(int(np.ceil(-np.log2(least))) + 1)]
    axes.set_yticks([1 / tick for tick in ticks], [f"1/{tick}" if tick > 1 else "1" for tick in ticks])
    axes.set_xticks(pairs[::3])
    axes.minorticks_off()
    axes.set(xlim=(-0.5, pairs[-1] + 0.5), ylim=(0.8 * least, 1.5))
    return figure


def tuning(results: Results, panels: Mapping[str, str], field: str = "loss") -> Figure:
    """Recorded losses before (open) and after fine-tuning (filled): one row per method, one panel per kind of model.

    Args:
        results: of the experiment `extension`, any number of records: means over the seeds with their 95% confidence
            intervals. Means of one method that are far above all others are written as numbers at the right edge.
        panels: title → how the names of its variants end, after the method: " ×8", " ×8, no QK-norm".
        field: "loss" at the new length, "end" at its end, or "short" at the trained length.
    """
    figure, axes = new_figure(
        1, max(1, len(panels)), size=(7.5, 4.4), sharex=True, sharey=True, squeeze=False
    )
    found = {title: _rows(results, ending) for title, ending in panels.items()}
    methods = list(dict.fromkeys(method for rows in found.values() for method in rows))
    if not methods:
        axes[0, 0].text(0.5, 0.5, results.provenance(), ha="center", fontsize=12)
        for empty in axes[0]:
            empty.set_axis_off()
        return figure
    left, right = _range(list(found.values()), field)
    panel: Axes
    for panel, (title, rows) in zip(axes[0], found.items(), strict=True):
        before = {record["seed"]: record["trained_length"] for records in rows.values() for record in records}
        panel.axvline(float(np.mean(list(before.values()))), color=GREY, linestyle=":", linewidth=1.5)
        for method, records in rows.items():
            color, place = _STYLES[method][0], methods.index(method)
            stages = [interval([record[field][stage] for record in records]) for stage in (0, -1)]
            ends = [min(mean, right) for mean, _ in stages]
            panel.plot(ends, (place - 0.22, place + 0.22), color=color, linewidth=1, alpha=0.6)
            for (mean, half), height, fill in zip(stages, (-0.22, 0.22), (GROUND, color), strict=True):
                if mean > right:
                    panel.annotate(
                        f"{mean:.2f} →", (1, place + height), xycoords=("axes fraction", "data"), color=color,
                        ha="right", va="center", fontsize=12, bbox={"color": GROUND, "pad": 1},
                    )  # fmt: skip
                    continue
                panel.errorbar(
                    mean, place + height, xerr=half if np.isfinite(half) else 0, color=color, marker="o",
                    markersize=6, markerfacecolor=fill, linewidth=1.5, capsize=2, linestyle="",
                )  # fmt: skip
        panel.set_title(title, loc="left", fontsize=12)
        panel.set(xlim=(left, right))
    axes[0, 0].set_yticks(range(len(methods)), [said(method) for method in methods])
    axes[0, 0].invert_yaxis()
    figure.supxlabel(_LOSS, fontsize=12)
    signs = [
        Line2D(
            [], [], color=GREY, marker="o", markerfacecolor=GROUND, linestyle="", label="before fine-tuning"
        ),
        Line2D([], [], color=GREY, marker="o", linestyle="", label="after it"),
        Line2D([], [], color=GREY, linestyle=":", label="before extension, at the trained length"),
    ]
    figure.legend(handles=signs, loc="outside upper center", ncols=3, fontsize=12, frameon=False)
    return figure


def _rows(results: Results, ending: str) -> dict[str, list[Record]]:
    """The records of each method whose variants end like this."""
    rows: dict[str, list[Record]] = {}
    for record in results.records:
        if record["variant"] == record["method"] + ending:
            rows.setdefault(record["method"], []).append(record)
    return rows


def _range(panels: Sequence[Mapping[str, Sequence[Record]]], field: str) -> tuple[float, float]:
    """Limits that show every mean, except those of one method that would press all others together."""
    highest, lowest = dict[str, float](), np.inf
    for rows in panels:
        for method, records in rows.items():
            means = np.mean([record[field] for record in records], axis=0)
            highest[method] = max(highest.get(method, -np.inf), float(means.max()))
            lowest = min(lowest, float(means.min()), *(record["trained_length"] for record in records))
    last, *rest = sorted(highest.values(), reverse=True)
    top = max([*rest[:1], lowest + 0.01]) if rest else last
    room = max(top - lowest, 0.01)
    return lowest - 0.15 * room, (top + 0.45 * room if last > top + room else last + 0.15 * (last - lowest))


def said(method: str) -> str:
    """The name of a method as a figure or a table of the chapter says it."""
    return "nothing scaled" if method == "none" else method


def _end_of_context(axes: Axes, context: int) -> None:
    axes.axvline(context, color=GREY, linestyle=":", linewidth=1.5)
    axes.annotate(
        "trained up to here", (context, 0), xycoords=("data", "axes fraction"), xytext=(5, 2),
        textcoords="offset points", color=GREY, va="bottom", ha="left", fontsize=12,
    )  # fmt: skip
