"""Figures of chapters 14 and 16: recorded experiments, with every seed shown and differences taken seed by seed.

Each figure takes the `Results` of one experiment and draws what is there: any number of seeds and variants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from rope_lab.experiments.algorithms import TASKS
from rope_lab.experiments.rates import ENCODINGS
from rope_lab.experiments.recipes import FIRST
from rope_lab.experiments.seeds import differences, interval
from rope_lab.experiments.store import Results
from rope_lab.figures.style import COLORS, GREY, apart, direct_label, new_figure

_LOSS = "loss (nats per character)"
_COLOR = dict(
    zip(("RoPE", "learned", "T5", "sinusoidal", "xPos", "ALiBi", "NoPE"), COLORS.values(), strict=True)
)
SEVEN = ("NoPE", "learned", "sinusoidal", "T5", "ALiBi", "RoPE", "xPos")  # as many lines as can be told apart
_Ends = dict[str, tuple[float, float, str]]


def dots(results: Results, *path: str | int, label: str = f"validation {_LOSS}") -> Figure:
    """One number for each variant, the best on top: one dot per seed, a line at the mean."""
    names = sorted(results.variants(), key=lambda name: float(np.mean(results.values(name, *path))))
    if not names:
        return _nothing(results)
    figure, axes = new_figure(size=(7.5, 0.36 * len(names) + 1.1))
    for row, name in enumerate(reversed(names)):
        values = results.values(name, *path)
        mean = float(np.mean(values))
        axes.plot(values, [row] * len(values), "o", color=_COLOR.get(name, GREY), markersize=7, alpha=0.8)
        axes.plot([mean, mean], [row - 0.32, row + 0.32], color=COLORS["black"], linewidth=1.5)
        axes.text(1.01, row, f"{mean:.3f}", transform=axes.get_yaxis_transform(), va="center", fontsize=12)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_xlabel(label)
    axes.margins(x=0.04)
    return figure


def paired(results: Results, against: str, *path: str | int, label: str) -> Figure:
    """Differences to one variant, seed by seed (dots), with the 95% confidence interval of their mean (bars)."""
    rows: dict[str, list[float]] = {}
    for name in results.variants():
        if name != against and (found := differences(results, name, against, *path)):
            rows[name] = found
    if not rows:
        return _nothing(results)
    names = sorted(rows, key=lambda name: float(np.mean(rows[name])), reverse=True)
    figure, axes = new_figure(size=(7.5, 0.4 * len(names) + 1.1))
    axes.axvline(0, color=GREY, linestyle="--", linewidth=1.5)
    for row, name in enumerate(names):
        mean, half = interval(rows[name])
        if math.isfinite(half):
            axes.plot([mean - half, mean + half], [row, row], color=COLORS["black"], linewidth=1.5)
        axes.plot(
            rows[name], [row] * len(rows[name]), "o", color=_COLOR.get(name, GREY), markersize=6, alpha=0.8
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(label)
    axes.margins(y=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    return figure


def lengths(results: Results, names: Sequence[str] = SEVEN) -> Figure:
    """Loss at each length of the evaluation by both rules, means over the seeds with their range."""
    names = [name for name in names if name in results.variants()]
    if not names:
        return _nothing(results)
    figure, axes = new_figure(1, 2, size=(7.5, 4.4), sharey=True)
    at = results.records[0]["lengths"]
    for panel, key, title in zip(
        axes, ("cut", "sliding"), ("cut into segments", "sliding window"), strict=True
    ):
        ends: _Ends = {}
        for name in names:
            rows = np.array(results.values(name, key), dtype=float)  # (seeds, lengths); None becomes NaN
            mean = rows.mean(0)
            panel.plot(at, mean, "-o", color=_COLOR[name], markersize=4, linewidth=1.5)
            panel.fill_between(at, rows.min(0), rows.max(0), color=_COLOR[name], alpha=0.2, linewidth=0)
            if np.isfinite(mean[-1]):
                ends[name] = (at[-1], float(mean[-1]), _COLOR[name])
        panel.set(xscale="log", xlabel="characters of a segment")
        panel.set_title(title, loc="left", fontsize=12)
        panel.set_xticks(at, [f"{length:,}" if i != 1 else "" for i, length in enumerate(at)], rotation=45)
        panel.minorticks_off()
    axes[0].set_ylabel(_LOSS)
    _name_ends(axes[1], ends)
    return figure


def places(results: Results, names: Sequence[str] = SEVEN) -> Figure:
    """Loss by place in the longest segment, means over the seeds with their range; dotted, the trained context."""
    names = [name for name in names if name in results.variants()]
    if not names:
        return _nothing(results)
    figure, axes = new_figure(size=(7.5, 4.2))
    context = results.records[0]["lengths"][0]
    ends: _Ends = {}
    for name in names:
        width = int(results.values(name, "bin")[0])
        rows = np.array(results.values(name, "by_position"), dtype=float)  # (seeds, places)
        edges = [0]
        while edges[-1] < rows.shape[1]:  # twice as wide from each doubling of the context on
            edges.append(edges[-1] + 2 ** (edges[-1] * width // context).bit_length())
        rows = np.add.reduceat(rows, edges[:-1], axis=1) / np.diff(edges)
        loss = rows.mean(0)
        middle = width * (np.array(edges[:-1]) + np.array(edges[1:])) / 2
        axes.plot(middle, loss, "-o", color=_COLOR[name], markersize=3, linewidth=1.5)
        axes.fill_between(middle, rows.min(0), rows.max(0), color=_COLOR[name], alpha=0.2, linewidth=0)
        if edges[-1] * width > context:
            ends[name] = (float(middle[-1]), float(loss[-1]), _COLOR[name])
    axes.axvline(context, color=GREY, linestyle=":", linewidth=1.5)
    axes.annotate(
        "end of the trained context ", (context, 1), xycoords=("data", "axes fraction"), color=GREY, va="top",
        ha="right", fontsize=12,
    )  # fmt: skip
    ticks = [context // 8, context, 8 * context]
    axes.set(xscale="log", xlabel="place in the segment (characters)", ylabel=_LOSS)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    _name_ends(axes, ends)
    return figure


def bases(results: Results) -> Figure:
    """Loss of cut segments against the base of the frequencies, one line per length, one dot per seed."""
    if not results.variants():
        return _nothing(results)
    figure, axes = new_figure(size=(7.5, 3.4))
    names = sorted(results.variants(), key=_number)
    x = [_number(name) for name in names]
    ends: _Ends = {}
    for place, color in zip(range(len(results.records[0]["lengths"])), COLORS.values(), strict=False):
        values = [results.values(name, "cut", place) for name in names]
        axes.plot(x, [float(np.mean(value)) for value in values], color=color, linewidth=1.5)
        for base, value in zip(x, values, strict=True):
            axes.plot([base] * len(value), value, "o", color=color, markersize=5, alpha=0.8)
        length = results.records[0]["lengths"][place]
        ends[f"{length:,} characters"] = (x[-1], float(np.mean(values[-1])), color)
    axes.set(xscale="log", xlabel="base b", ylabel=_LOSS)
    axes.set_xticks(x, names)
    axes.minorticks_off()
    _name_ends(axes, ends)
    return figure


def solved(results: Results) -> Figure:
    """Fraction of inputs solved without a mistake, by task, encoding and length; white, the trained lengths."""
    if not results.variants():
        return _nothing(results)
    widths = list(TASKS.values())
    figure, axes = new_figure(1, len(TASKS), size=(7.5, 4.4), sharey=True, width_ratios=widths)
    image: Any = None
    for panel, (task, longest) in zip(axes, TASKS.items(), strict=True):
        table = np.full((len(ENCODINGS), 2 * longest), np.nan)
        for row, word in enumerate(ENCODINGS):
            if exact := results.values(f"{task}, {word}", "exact"):
                table[row] = np.mean(np.array(exact, dtype=float), axis=0)
        extent = (0.5, 2 * longest + 0.5, len(ENCODINGS) - 0.5, -0.5)
        image = panel.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto", extent=extent)
        panel.axvline(longest + 0.5, color="white", linewidth=2)
        panel.set_title(task, loc="left", fontsize=12)
        panel.set_xticks([1, longest, 2 * longest])
    axes[0].set_yticks(range(len(ENCODINGS)), [_short(name) for name in ENCODINGS])
    figure.supxlabel("digits of the input", fontsize=12)
    figure.colorbar(image, ax=axes, ticks=[0, 0.5, 1], pad=0.02).set_label("fraction solved", fontsize=12)
    return figure


def recipes(results: Results) -> Figure:
    """Validation loss of each recipe against the CPU time it took, one dot per seed."""
    if not results.variants():
        return _nothing(results)
    figure, axes = new_figure(size=(7.5, 3.6))
    names = [name for name in results.variants() if not name.endswith(FIRST)]  # another tenth, another loss
    for name, color in zip(names, COLORS.values(), strict=False):
        seconds, losses = (np.array(results.values(name, key)) for key in ("processor_seconds", "val_loss"))
        axes.plot(seconds, losses, "o", color=color, markersize=7, alpha=0.8)
        axes.annotate(
            name, (float(seconds.mean()), float(losses.max())), xytext=(0, 6), textcoords="offset points",
            color=color, ha="center", va="bottom", fontsize=12,
        )  # fmt: skip
    axes.set(xlabel="CPU time of the training (s)", ylabel=f"validation {_LOSS}")
    axes.margins(x=0.3, y=0.2)
    axes.set_xlim(left=0)
    return figure


def windows(results: Results) -> Figure:
    """Left: loss against the window of local attention, one line per depth. Right: long contexts after equal time."""
    if not results.variants():
        return _nothing(results)
    figure, (left, right) = new_figure(1, 2, size=(7.5, 3.8))
    grid = [r for r in results.records if "window" in r and not r["global_layers"]]
    for depth, color in zip(sorted({r["depth"] for r in grid}), COLORS.values(), strict=False):
        rows = [r for r in grid if r["depth"] == depth]
        at, losses = ([r[key] for r in rows] for key in ("window", "val_loss"))
        left.plot(at, losses, "o", color=color, markersize=5, alpha=0.8)
        widths = sorted({r["window"] for r in rows})
        means = [float(np.mean([r["val_loss"] for r in rows if r["window"] == width])) for width in widths]
        left.plot(widths, means, color=color, linewidth=1.5, label=f"{depth} layers")
    for number, r in enumerate(r for r in results.records if r.get("global_layers")):
        name = f"{r['depth']}, last global"
        left.plot(r["window"], r["val_loss"], "D", color=COLORS["vermilion"], label="" if number else name)
    left.set(xscale="log", xlabel="window (characters)", ylabel=f"validation {_LOSS}")
    if grid:
        ticks = sorted({r["window"] for r in grid})
        left.set_xticks(ticks, [str(tick) for tick in ticks])
        left.legend(loc="upper left", fontsize=12, frameon=False)
    left.minorticks_off()
    names = [name for name in results.variants() if name.endswith("characters")]
    for row, name in enumerate(reversed(names)):
        losses = results.values(name, "val_loss")
        right.plot(losses, [row] * len(losses), "o", color=COLORS["blue"], alpha=0.8)
    right.set_yticks(
        range(len(names)),
        [name.replace(" at ", ",\n").replace(" characters", "") for name in reversed(names)],
    )
    right.set(xlabel="validation loss after equal time", ylim=(-0.5, max(len(names), 1) - 0.5))
    return figure


def caches(results: Results) -> Figure:
    """Characters per second against the length of the prompt, with and without a cache, one dot per seed."""
    if not results.variants():
        return _nothing(results)
    figure, axes = new_figure(size=(7.5, 3.6))
    at = results.records[0]["lengths"]
    ends: _Ends = {}
    for name, color in zip(results.variants(), COLORS.values(), strict=False):
        for key, line in (("cached", "-"), ("uncached", "--")):
            rows = np.array(results.values(name, key), dtype=float)
            axes.plot(at, rows.T, "o", color=color, markersize=4, alpha=0.8)
            axes.plot(at, rows.mean(0), line, color=color, linewidth=1.5)
            ends[f"{name}, {key}"] = (at[-1], float(rows.mean(0)[-1]), color)
    axes.set(xscale="log", yscale="log", xlabel="prompt (characters)", ylabel="characters per second")
    axes.set_xticks(at, [f"{length:,}" for length in at])
    axes.minorticks_off()
    _plain(axes)
    _name_ends(axes, ends)
    return figure


def _nothing(results: Results) -> Figure:
    figure, axes = new_figure(size=(7.5, 1.2))
    axes.text(0.5, 0.5, results.provenance(), ha="center", va="center", color=GREY, fontsize=12)
    axes.set_axis_off()
    return figure


def _name_ends(axes: Axes, ends: _Ends) -> None:
    """Write names beside the ends (x, y, color) of lines, moved up where they would not be a line of text apart."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    spots = [float(axes.transData.transform((x, y))[1]) for x, y, _ in ends.values()]
    edge = max((x for x, _, _ in ends.values()), default=0.0)
    for (name, (_, _, color)), y in zip(ends.items(), apart(spots, 17 * figure.dpi / 72), strict=True):
        at = float(axes.transData.inverted().transform((0, y))[1])
        direct_label(axes, edge, at, name, color, annotation_clip=False)


def _plain(axes: Axes) -> None:
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _short(name: str) -> str:
    return name.removesuffix(" of the coordinates")


def _number(name: str) -> float:
    return float(name.replace(",", ""))
