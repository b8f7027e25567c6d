"""Figures of chapter 12: which keys a window shows, what is computed for it, and how far a token sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike

from rope_lab.figures.style import COLORS, GREY, direct_label, new_figure

_NEVER, _WASTED, _USED = "#FFFFFF", "#F3CF8E", COLORS["blue"]


def masks(named: Mapping[str, ArrayLike], query: int, *, columns: int = 3) -> Figure:
    """Which keys (across) each query (down) sees, one panel per mask; the row of one query is marked.

    Args:
        named: boolean masks (N, N), True where a query sees a key, under what to write above them.
        query: the row to mark, and to count.
        columns: panels side by side.
    """
    rows = -(-len(named) // columns)
    figure, grid = new_figure(rows, columns, size=(7.5, 2.85 * rows), squeeze=False)
    for panel in grid.flat[len(named) :]:
        panel.axis("off")
    for panel, (name, mask) in zip(grid.flat, named.items(), strict=False):
        seen = np.asarray(mask)
        _tiles(panel, np.where(seen, 2, 0) + (seen & (np.arange(len(seen)) == query)[:, None]))
        panel.set_title(f"{name}\n{int(seen[query].sum())} keys", loc="left", fontsize=12)
    for panel in grid[:, 0]:
        panel.set_ylabel("query")
    for panel in grid[-1]:
        panel.set_xlabel("key")
    return figure


def _tiles(axes: Axes, values: ArrayLike) -> None:
    """One tile per score: 0 never computed, 1 computed and masked, 2 used, 3 used and marked."""
    tiles = np.asarray(values)
    colors = ListedColormap([_NEVER, _WASTED, _USED, COLORS["vermilion"]])
    axes.imshow(tiles, cmap=colors, vmin=-0.5, vmax=3.5)
    lines = np.arange(len(tiles) + 1) - 0.5
    axes.hlines(lines, lines[0], lines[-1], color="#DDDDDD", linewidth=0.6)
    axes.vlines(lines, lines[0], lines[-1], color="#DDDDDD", linewidth=0.6)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def formed(named: Mapping[str, tuple[ArrayLike, ArrayLike]], block: Mapping[str, int]) -> Figure:
    """Which scores are computed and which of them are used, one panel for each way of cutting the queries into blocks.

    Args:
        named: masks (N, N) of the scores that are used and of those that are computed, under what to write above them.
        block: queries of a block under the same names; thick lines part the blocks.
    """
    figure, panels = new_figure(1, len(named), size=(7.5, 3.3), squeeze=False)
    for panel, (name, masks) in zip(panels[0], named.items(), strict=True):
        used, made = (np.asarray(mask) for mask in masks)
        _tiles(panel, np.where(used, 2, np.where(made, 1, 0)))
        for row in range(0, len(used) + 1, block[name]) if block[name] > 1 else ():
            panel.axhline(row - 0.5, color=COLORS["black"], linewidth=1.2)
        share = 1 - used.sum() / made.sum()
        panel.set_title(f"{name}\n{share:.0%} not used", loc="left", fontsize=12)
        panel.set_xlabel("key")
    panels[0, 0].set_ylabel("query")
    return figure


def ring(slots: ArrayLike) -> Figure:
    """The tokens in the slots of a ring, one row per token that was written; the slot written last is marked.

    Args:
        slots: indices of tokens (T, W), row m after token m; negative where a slot is empty.
    """
    tokens = np.asarray(slots)
    figure, axes = new_figure(size=(5.5, 0.38 * len(tokens) + 1.1))
    for m, row in enumerate(tokens):
        for slot, token in enumerate(row):
            new = token == m
            color = COLORS["orange"] if new else COLORS["blue"] if token >= 0 else _NEVER
            axes.add_patch(Rectangle((slot - 0.5, m - 0.5), 1, 1, facecolor=color, edgecolor="#DDDDDD"))
            if token >= 0:
                words = COLORS["black"] if new else "#FFFFFF"
                axes.text(slot, m, f"{token}", ha="center", va="center", color=words, fontsize=12)
    axes.set(xlim=(-0.5, tokens.shape[1] - 0.5), ylim=(len(tokens) - 0.5, -0.5), xlabel="slot")
    axes.set(xticks=range(tokens.shape[1]), yticks=range(len(tokens)), ylabel="after token")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def costs(
    lengths: Sequence[int], seconds: Mapping[str, Sequence[float]], megabytes: Mapping[str, Sequence[float]]
) -> Figure:
    """Time and working memory against the length, both axes logarithmic.

    Args:
        lengths: N.
        seconds: time of a call, by the name of each implementation.
        megabytes: peak memory during a call, including its result; the same names.
    """
    figure, panels = new_figure(1, 2, size=(7.5, 3.7))
    styles = dict(zip(seconds, ("-", "--", ":"), strict=False))
    for axes, taken, label in zip(
        panels, (seconds, megabytes), ("time of a call (ms)", "memory of a call (MB)"), strict=True
    ):
        for (name, values), color in zip(taken.items(), COLORS.values(), strict=False):
            y = np.asarray(values) * (1e3 if taken is seconds else 1)
            axes.plot(lengths, y, marker="o", markersize=5, color=color, linestyle=styles[name], label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(lengths, [f"{n:,}" for n in lengths])
        axes.set(xlabel="tokens, N", ylabel=label)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3, fontsize=12, frameon=False
    )
    return figure


def light_cones(named: Mapping[str, ArrayLike], window: int, far: Mapping[str, float]) -> Figure:
    """How much each earlier state adds to the last one: a row per layer, a column per distance, a panel per network.

    Args:
        named: fractions of each layer's influence, (L + 1, S), from the embeddings up to the last state.
        window: W; the edge of what can be reached is drawn from it.
        far: under the same names, the distance within which most of the embeddings' influence lies, to be marked.
    """
    figure, panels = new_figure(
        len(named), 1, size=(7.5, 1.75 * len(named) + 0.4), sharex=True, squeeze=False
    )
    for axes, (name, shares) in zip(panels[:, 0], named.items(), strict=True):
        share = np.asarray(shares)
        layers, reach = share.shape
        mesh = axes.pcolormesh(
            np.arange(reach + 1) - 0.5,
            np.arange(layers + 1) - 0.5,
            np.ma.masked_equal(share, 0),
            cmap="viridis",
            norm=LogNorm(1e-4, 1),
            rasterized=True,
        )
        edge = [(layers - 1 - layer) * (window - 1) + 0.5 for layer in range(layers)]
        axes.stairs(edge, np.arange(layers + 1) - 0.5, orientation="horizontal", color="black", linewidth=1.5)
        axes.plot(far[name], 0, "v", color=COLORS["vermilion"], markersize=10, markeredgecolor="white")
        axes.set_yticks([0, layers - 1], ["embeddings", f"after layer {layers - 1}"])
        axes.set_title(name, loc="left", fontsize=12)
        axes.set_facecolor(_NEVER)
        axes.invert_xaxis()
    panels[-1, 0].set_xlabel("tokens back from the one whose state is asked for")
    figure.colorbar(mesh, ax=panels[:, 0], label="fraction of the influence").ax.tick_params(labelsize=10)
    return figure


def losses_by_window(windows: Sequence[int], losses: Mapping[int, Sequence[float]]) -> Figure:
    """Validation loss against the window, one line for each number of updates after which it was measured."""
    figure, axes = new_figure(size=(7.5, 3.8))
    shades = (COLORS["sky"], COLORS["blue"], COLORS["black"])
    for (step, values), color, marker in zip(losses.items(), shades[-len(losses) :], "sDo", strict=False):
        axes.plot(windows, values, marker=marker, color=color)
        direct_label(axes, 1.06 * windows[-1], values[-1], f"{step} updates", color, annotation_clip=False)
    axes.set_xscale("log", base=2)
    axes.set_xticks(windows, [str(w) for w in windows])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set(xlabel="window W (characters)", ylabel="validation loss (nats per character)")
    return figure


def decoding_errors(steps: Sequence[int], errors: Mapping[str, Sequence[float]]) -> Figure:
    """Relative error of each token decoded from a cache, one line for each way of keeping the keys."""
    figure, axes = new_figure(size=(7.5, 3.2))
    for (name, values), color, marker in zip(errors.items(), COLORS.values(), "os^", strict=False):
        axes.plot(steps, values, marker=marker, markersize=5, color=color, linewidth=1.2, label=name)
    axes.axhline(0, color=GREY, linewidth=1, zorder=0)
    axes.set(xlabel="token decoded after the prompt", ylabel="error / norm of the output")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=12, frameon=False)
    return figure
