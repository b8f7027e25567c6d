"""Figures of chapter 14, drawn from small made-up records with any number of seeds, and the numbers beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from rope_lab.experiments import EXPERIMENTS
from rope_lab.experiments.algorithms import TASKS
from rope_lab.experiments.lab import SCALES
from rope_lab.experiments.store import Results
from rope_lab.figures import comparing

random = np.random.default_rng(14)
ORIGIN = {
    "corpus": {"name": "made up"}, "device": "cpu", "machine": "none", "threads": 1, "versions": {"torch": "0"},
    "code": "0",
}  # fmt: skip


def training() -> dict[str, Any]:
    losses = 3.2 * np.arange(1, 21) ** -0.25 + random.normal(0, 0.02, 20)
    history = [{"step": 15 * (i + 1), "loss": float(loss)} for i, loss in enumerate(losses)]
    return {
        "val_loss": float(losses[-1]) + 0.1, "train_loss": float(losses[-1]), "history": history,
        "processor_seconds": 40 + 10 * random.random(), "train_seconds": 60.0,
    }  # fmt: skip


def beyond(variant: str) -> dict[str, Any]:
    lengths = [128, 192, 256, 512, 1024]
    known = 1 if variant == "learned" else len(lengths)
    rows = [
        [1.9 + random.normal(0, 0.02) for _ in range(known)] + [None] * (5 - known)
        for _ in ("cut", "sliding")
    ]
    places = 1.7 + np.arange(1, 1 + lengths[known - 1] // 16) ** -1.0
    return {"lengths": lengths, "stride": 64, "cut": rows[0], "sliding": rows[1], "bin": 16} | {
        "by_position": places.tolist()
    }


def numbers(experiment: str, variant: str) -> dict[str, Any]:
    if experiment in ("encodings", "ablation", "baseline"):
        return training()
    if experiment == "extrapolation":
        return beyond(variant)
    if experiment == "base":
        return training() | beyond("RoPE")
    if experiment == "algorithms":
        longest = TASKS[variant.split(",")[0]]
        return {"trained_to": longest, "exact": random.random(2 * longest).tolist()}
    if experiment == "local":
        if variant.endswith("characters"):
            return training() | {"kind": "full", "length": 8192}
        window, depth, *more = (int(word.strip(",")) for word in variant.split() if word.strip(",").isdigit())
        return training() | {"window": window, "depth": depth, "global_layers": sum(more)}
    if experiment == "cache":
        return {"lengths": [128, 256, 512], "cached": [400.0, 390.0, 380.0], "uncached": [90.0, 50.0, 20.0]}
    heads = {
        key: (size + random.random((4, 2, 3))).tolist()
        for key, size in (("bound", 40.0), ("largest", 5.0), ("mean", 0.0), ("deviation", 1.0))
    }
    return {"distances": [0, 10, 96]} | heads


def made(experiment: str, seeds: int = 3, variants: slice = slice(None)) -> Results:
    names = EXPERIMENTS[experiment].variants(SCALES["cpu"])[variants]
    records = [
        {"variant": name, "seed": seed} | ORIGIN | numbers(experiment, name)
        for seed in range(seeds)
        for name in names
    ]
    return Results(experiment, "cpu", records, {"0": {}})


FIGURES: dict[str, tuple[str, Callable[[Results], Figure]]] = {
    "dots": ("encodings", lambda r: comparing.dots(r, "val_loss")),
    "paired": ("encodings", lambda r: comparing.paired(r, "RoPE", "val_loss", label="difference")),
    "lengths": ("extrapolation", comparing.lengths),
    "places": ("extrapolation", comparing.places),
    "bases": ("base", comparing.bases),
    "solved": ("algorithms", comparing.solved),
    "recipes": ("baseline", comparing.recipes),
    "ablation": ("ablation", lambda r: comparing.paired(r, "everything", "val_loss", label="cost")),
    "windows": ("local", comparing.windows),
    "caches": ("cache", comparing.caches),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(("seeds", "variants"), [(0, slice(None)), (1, slice(1, 2)), (3, slice(None))])
def test_each_draws_what_is_recorded(name: str, seeds: int, variants: slice) -> None:
    experiment, draw = FIGURES[name]
    figure = draw(made(experiment, seeds, variants))
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()


def test_a_dot_a_seed_and_the_best_on_top() -> None:
    results = made("encodings")
    axes = comparing.dots(results, "val_loss").axes[0]
    best = min(results.variants(), key=lambda name: float(np.mean(results.values(name, "val_loss"))))
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[-1] == best
    drawn = [line.get_xdata() for line in axes.lines if line.get_marker() == "o"]
    assert list(drawn[-1]) == results.values(best, "val_loss")


def test_a_solved_map_has_its_missing_rows_blank() -> None:
    results = made("algorithms", variants=slice(0, 2))  # copy by two encodings
    tables = [panel.images[0].get_array() for panel in comparing.solved(results).axes[:3]]
    assert np.isfinite(np.ma.filled(tables[0], np.nan)).all(axis=1).tolist() == [True, True] + 8 * [False]
    assert not np.isfinite(np.ma.filled(tables[1], np.nan)).any()
