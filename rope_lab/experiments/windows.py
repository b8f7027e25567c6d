"""Local and full attention: how wide a window, how deep a model, and what decoding with a cache saves."""

from __future__ import annotations

import re
import time
from typing import Any

from rope_lab.experiments.lab import Experiment, Lab, Scale
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.experiments.text import of_training
from rope_lab.local import LocalConfig, LocalTransformer
from rope_lab.model import RoFormer
from rope_lab.training import TrainConfig, sample, seeded, train

WINDOWS = (64, 128, 256, 512)
DEPTHS = (2, 4)
_LONG = "{} at {:,d} characters"


def measure_windows(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Train with a window and a depth at four times the preset's context, or with a long context for a set time.

    Only the long contexts are trained for equal time, and have `update_seconds`: wall-clock time without the
    evaluation.
    """
    if variant.endswith("characters"):
        return _measure_long(lab, variant, seed)
    window, depth, *more = map(int, re.findall(r"\d+", variant))
    base = lab.config(seed)
    context, batch = 4 * base.architecture(1).context, max(1, base.batch // 4)
    config = base.change(context=context, batch=batch, depth=depth, steps=lab.scale.steps // 2)
    with seeded(seed):
        model = LocalTransformer(
            _local(config, lab, min(window, context), global_layers=more[0] if more else 0)
        )
    return _train(lab, config, model) | {"window": window, "depth": depth, "global_layers": sum(more)}


def _local(config: TrainConfig, lab: Lab, window: int, global_layers: int = 0) -> LocalConfig:
    return LocalConfig(
        len(lab.corpus.vocab), **(config.model | {"window": window, "global_layers": global_layers})
    )


def _train(lab: Lab, config: TrainConfig, model: RoFormer) -> dict[str, Any]:
    before = time.process_time()
    run = train(config, lab.corpus, start=model, device=lab.device, quiet=True)
    return of_training(run, time.process_time() - before)


def _measure_long(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """As many updates of long segments as fit in the scale's seconds, which are the same for all."""
    kind = variant.split()[0]
    length = int(variant.split()[-2].replace(",", ""))
    base = lab.config(seed)
    batch = max(1, lab.scale.long // length)
    config = base.change(context=length, batch=batch, evaluations=1, reports=4)
    window = base.architecture(1).context

    def fresh() -> RoFormer:
        with seeded(seed):
            if kind == "local":
                return LocalTransformer(_local(config, lab, window))
            return RoFormer(config.architecture(len(lab.corpus.vocab)))

    update = lab.seconds_per_update(config, fresh())
    config = config.change(steps=max(4, int(lab.scale.long_seconds / update)))
    numbers = _train(lab, config, fresh())
    before = numbers["history"][-2]  # the last report waits for the evaluation
    return numbers | {
        "kind": kind,
        "length": length,
        "steps": config.steps,
        "characters": config.steps * batch * length,
        "update_seconds": before["seconds"] / before["step"] * config.steps,
    }


def kept(numbers: dict[str, Any]) -> dict[str, Any]:
    """What a second run gives again: of a long context, whose number of updates the clock decides, only its shape."""
    return {key: numbers[key] for key in ("kind", "length", "parameters")} if "kind" in numbers else numbers


def _variants(scale: Scale) -> list[str]:
    grid = [f"window {w}, depth {d}" for d in DEPTHS for w in WINDOWS]
    mixed = [f"window {WINDOWS[0]}, depth {DEPTHS[-1]}, 1 global on top"]
    short = scale.long // 16
    return [
        *grid,
        *mixed,
        *(_LONG.format(*pair) for pair in (("local", scale.long), ("full", scale.long), ("full", short))),
    ]


def table_of_windows(results: Results) -> str:
    """Loss and CPU time of each variant."""
    lines = [f"{'':40s}{'validation loss':>18s}{'updates':>10s}{'CPU seconds':>20s}"]
    for name in results.variants():
        loss, cost = (results.values(name, key) for key in ("val_loss", "processor_seconds"))
        steps = results.values(name, "config", "steps")
        lines.append(f"{name:40s}{shown(loss):>18s}{sum(steps) / len(steps):>10,.0f}{shown(cost, 0):>20s}")
    return "\n".join(lines)


def measure_cache(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Tokens per second of decoding after prompts of several lengths, both ways in alternation, which must agree."""
    config = lab.config(seed)
    longest = 8 * config.architecture(1).context
    with seeded(seed):
        if variant == "local":
            model: RoFormer = LocalTransformer(_local(config.change(context=longest), lab, longest // 32))
        else:
            model = RoFormer(config.change(context=longest).architecture(len(lab.corpus.vocab)))
    lengths, count = [longest // 8, longest // 4, longest // 2], 16
    numbers: dict[str, Any] = {"lengths": lengths, "count": count, "cached": [], "uncached": []}
    for length in lengths:
        prompt = lab.held_out[seed : seed + length].tolist()
        drawn = {}
        for cached in (True, False):
            began = time.perf_counter()
            tokens = sample(model, prompt, count + 1, temperature=0.0, context=longest, cached=cached)
            first = next(tokens)  # with the prompt
            started = time.perf_counter()
            drawn[cached] = [first, *tokens]
            rate = count / (time.perf_counter() - started)
            numbers["cached" if cached else "uncached"].append(rate)
            numbers.setdefault("prompt_seconds", []).append(started - began)
        if drawn[True] != drawn[False]:
            raise AssertionError(f"with a cache the model must draw the same text, got {drawn}")
    return numbers


def table_of_caches(results: Results) -> str:
    """Tokens per second, and the ratio with and without a cache."""
    lengths = results.records[0]["lengths"]
    lines = [f"{'tokens per second after':32s}" + "".join(f"{length:>17,d}" for length in lengths)]
    for name in results.variants():
        rates = {
            key: [results.values(name, key, i) for i in range(len(lengths))] for key in ("cached", "uncached")
        }
        for key, columns in rates.items():
            lines.append(
                f"{name + ', ' + key:32s}" + "".join(f"{shown(column, 0):>17s}" for column in columns)
            )
        times = [[a / b for a, b in zip(*pair, strict=True)] for pair in zip(*rates.values(), strict=True)]
        lines.append(
            f"{name + ', times as many':32s}" + "".join(f"{shown(column, 1):>17s}" for column in times)
        )
    return "\n".join(lines)


EXPERIMENTS = {
    "local": Experiment(
        "Local attention: how wide a window is good enough?", _variants, measure_windows, table_of_windows,
        kept=kept,
    ),
    "cache": Experiment(
        "How much faster does a model write with a key/value cache?",
        lambda scale: ["full", "local"], measure_cache, table_of_caches,
        kept=lambda numbers: {key: numbers[key] for key in ("lengths", "count")},  # rates are times
    ),
}  # fmt: skip
