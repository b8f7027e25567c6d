"""What all experiments share: their budgets, models that are trained only once, and the loop over runs."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rope_lab.experiments.source import behind, digest, function
from rope_lab.experiments.store import Record, Results, file_of
from rope_lab.model import RoFormer
from rope_lab.training import Corpus, Run, TrainConfig, checkpoint, choose_device, preset, provenance, train

ROUNDING = 1e-3  # by how much a reordered sum may change a measured number, relative to it or to 1


@dataclass(frozen=True)
class Scale:
    """The budget of an experiment. The model is that of the preset with the same name.

    Args:
        name: "smoke", "cpu" or "gpu".
        steps: updates of a model in `local`, of the smoke run of `baseline`, and where nothing else is said. The
            comparisons have two budgets of their own, in `rates`.
        task_steps: updates of a model in `algorithms`, three times as many for addition.
        characters: number of characters of the validation split on which evaluations beyond the context run. The
            split leaves nine times as many for training, which is enough for every experiment.
        long: length in characters of a long context in `local`.
        long_seconds: wall-clock time for the updates of each model there.
    """

    name: str
    steps: int
    task_steps: int
    characters: int
    long: int
    long_seconds: float


SCALES = {
    "smoke": Scale("smoke", 8, 8, 1_024, 256, 1.0),
    "cpu": Scale("cpu", 300, 800, 16_384, 8_192, 30.0),
    "gpu": Scale("gpu", 3_000, 5_000, 65_536, 8_192, 300.0),
}


@dataclass
class Lab:
    """The place where an experiment runs.

    Args:
        scale: its budget.
        corpus: the text.
        folder: for models, which are trained once and shared by the experiments; an interrupted training resumes there.
        device: "cuda", "mps" or "cpu"; by default the first that is available.

    Raises:
        ValueError: if the text is too short for the scale.
    """

    scale: Scale
    corpus: Corpus
    folder: Path
    device: str | None = None
    held_out: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        least, got = self.scale.characters + 1, len(self.corpus.val)
        if got < least:
            raise ValueError(
                f"corpus must have {least} characters in its last tenth, the validation split, "
                f"at scale {self.scale.name}, got {got}"
            )
        self.held_out = self.corpus.encode(self.corpus.val)

    def config(self, seed: int, **changes: Any) -> TrainConfig:
        """The settings of this scale: those of the preset, with the scale's number of updates."""
        return preset(
            self.scale.name, **({"steps": self.scale.steps, "evaluations": 2, "seed": seed} | changes)
        )

    def trained(self, config: TrainConfig) -> tuple[Run, float]:
        """The run with these settings, and the CPU seconds it took; it is trained only once."""
        model = asdict(config.architecture(len(self.corpus.vocab)))
        del model["vocab_size"]
        config = config.change(**model)  # a setting that equals the default makes the same run
        code = behind(["rope_lab.training.loop"])
        where = [
            self.corpus.sha256,
            code,
            torch.__version__,
            torch.get_num_threads(),
            str(choose_device(self.device)),
        ]
        place = self.folder / digest([asdict(config), *where])
        cost = place / "processor_seconds.json"
        begun = (place / checkpoint.FILE).is_file()
        before = time.process_time()
        run = train(config, self.corpus, folder=place, device=self.device, resume=begun, quiet=True)
        if (
            not cost.exists()
        ):  # of a run that was interrupted: of its last part, as if all steps had taken as long
            spent = time.process_time() - before
            cost.write_text(json.dumps(spent))
        return run, float(json.loads(cost.read_text()))

    def seconds_per_update(self, config: TrainConfig, start: RoFormer | None = None) -> float:
        """Wall-clock time of an update with these settings: the median of a few, after one to warm up.

        Args:
            config: its `steps` are ignored.
            start: the model, which is trained a little here; by default a new RoFormer.
        """
        few = config.change(steps=6, reports=6, evaluations=1)
        points = train(few, self.corpus, start=start, device=self.device, quiet=True).history
        return statistics.median(
            b.seconds - a.seconds for a, b in pairwise(points[:-1])
        )  # the last evaluates


Measure = Callable[[Lab, str, int], dict[str, Any]]


@dataclass(frozen=True)
class Experiment:
    """A question, the variants that answer it, and how one of them is measured.

    Args:
        question: in one line.
        variants: their names at a scale.
        measure: (lab, variant, seed) → numbers, as JSON can hold them.
        table: the answer as text.
        kept: the numbers of a record that a second run has to give again; by default all but times.
        tolerance: by how much they may differ, relative to them or to 1.
        bistable: whether rounding decides which of two outcomes a run has (a rule is found or not). A second run is
            then one more draw: each of its numbers has to lie within the tolerance of what the recorded seeds span.
    """

    question: str
    variants: Callable[[Scale], list[str]]
    measure: Measure
    table: Callable[[Results], str]
    kept: Callable[[dict[str, Any]], dict[str, Any]] = dict
    tolerance: float = ROUNDING
    bistable: bool = False


def walk(
    experiments: Mapping[str, Experiment], name: str, *, corpus: Corpus, scale: str = "cpu", seeds: int = 3,
    out: str | Path = "results", cache: str | Path = "runs/experiments", device: str | None = None,
    check: str | None = None, say: Callable[[str], None] = print,
) -> Results:  # fmt: skip
    """Measure those parts of an experiment that are not recorded yet, seed by seed, recording each result at once.

    Args:
        experiments: by name.
        name, scale: which experiment, and its budget.
        corpus: the text.
        seeds: 0, 1, …, seeds − 1 of every variant.
        out: folder of the results.
        cache: folder of the models in training.
        device: as in `Lab`.
        check: a variant whose first record is measured again instead; "" takes the first record of all. If its
            numbers except the times agree within the experiment's tolerance, by default 1e-3, the effect that
            rounding may have in training (see also `Experiment.bistable`), the records of this variant are confirmed.
        say: is called with one line per measurement.

    Returns:
        All records, old and new.

    Raises:
        ValueError: naming an unknown experiment or scale, a text too short for it, a folder that cannot be written
            to, a results file that is none or of another text, or, with `check`, the number that has changed most.
    """
    if name not in experiments:
        raise ValueError(f"experiment must be one of {', '.join(experiments)}, got {name!r}")
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    experiment, results = experiments[name], Results.read(out, name, scale)
    lab = Lab(SCALES[scale], corpus, Path(cache), device)
    code = behind([function(experiment.measure)])
    for text in (record["corpus"] for record in results.records):
        if text["sha256"] != corpus.sha256:
            raise ValueError(
                f"out must be a folder without results of another text, got {str(out)!r}: "
                f"{file_of(out, name, scale)} holds records of {text['name']} ({text['sha256'][:8]}…)"
            )
    origin = {
        key: value for key, value in provenance(corpus, choose_device(device)).items() if key != "vocab"
    } | {"budget": asdict(lab.scale)}
    found: list[Record] = []
    if check is not None:
        found = [record for record in results.records if check in ("", record["variant"])]
        if not found:
            held = ", ".join(results.variants()) or "nothing"
            raise ValueError(
                f"check must be a variant recorded in {str(out)!r}, which holds {held}, got {check!r}"
            )
    _writable("out", out, scale)
    _writable("cache", cache)
    if check is not None:
        variant, seed = found[0]["variant"], found[0]["seed"]
        about = origin.keys() | {"variant", "seed", "code"}
        made = [
            experiment.kept({key: record[key] for key in record.keys() - about})
            for record in results.records
            if record["variant"] == variant
        ]
        repeated = experiment.kept(experiment.measure(lab, variant, seed))
        expected = _nearest(repeated, made) if experiment.bistable else made[0]
        name_of, difference = _farthest(repeated, expected)
        if not difference <= experiment.tolerance:
            raise ValueError(
                f"{name} was not reproduced: {name_of} of {variant} differs from the record by {difference:.1e}"
            )
        results.code[digest(code)] = code
        again = {"variant": variant, "seed": seed, "difference": difference}
        results.confirmed.setdefault(digest(code), []).append(again)
        results.write(out)
        return results
    runs = [(seed, variant) for seed in range(seeds) for variant in experiment.variants(lab.scale)]
    runs = [(seed, variant) for seed, variant in runs if not results.has(variant, seed)]
    start = time.perf_counter()
    for done, (seed, variant) in enumerate(runs, 1):
        began = time.perf_counter()
        numbers = experiment.measure(lab, variant, seed)
        now = time.perf_counter()
        record: Record = {"variant": variant, "seed": seed, "seconds": now - began, **origin, **numbers}
        results.add(out, record, code)
        left = (now - start) / done * (len(runs) - done) / 60
        place = f"{done} of {len(runs)}, about {left:.0f} min left"
        say(f"{name}  {variant}  seed {seed}  {now - began:.0f} s  {place}")
    return results


def _writable(argument: str, folder: str | Path, inside: str = "") -> None:
    """Make the folder if necessary, and one inside it.

    Raises:
        ValueError: if that fails, or the folder is not writable.
    """
    try:
        (Path(folder) / inside).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=Path(folder) / inside):
            pass
    except OSError as error:
        raise ValueError(
            f"{argument} must be a folder that can be made and written to, got {str(folder)!r}: {error.strerror}"
        ) from error


def _nearest(new: Mapping[str, float], made: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """For each number the one nearest to it between the least and the greatest that were recorded."""
    span = {key: (min(row[key] for row in made), max(row[key] for row in made)) for key in made[0]}
    return {key: max(low, min(high, new[key])) for key, (low, high) in span.items()}  # of NaN the greatest


def _farthest(new: Any, old: Any, name: str = "") -> tuple[str, float]:
    """Where two measurements differ most, times and settings apart, and by how much.

    The difference is infinite if types or lengths differ, if a number is missing, or if one is not finite and the
    other differs.
    """
    if name.endswith(("seconds", "config")):
        return name, 0.0
    pairs: list[tuple[str, Any, Any]] = []
    if isinstance(new, dict) and isinstance(old, dict):
        missing = object()
        pairs = [
            (f"{name}.{key}".lstrip("."), new.get(key, missing), old.get(key, missing)) for key in old | new
        ]
    elif isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        pairs = [(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(new, old, strict=True))]
    elif isinstance(new, (int, float)) and isinstance(old, (int, float)):
        if math.isfinite(new) and math.isfinite(old):
            return name, abs(new - old) / max(1.0, abs(new), abs(old))
        return name, 0.0 if new == old or (math.isnan(new) and math.isnan(old)) else math.inf
    elif new != old:
        return name, math.inf
    return max(
        (_farthest(a, b, where) for where, a, b in pairs), key=lambda found: found[1], default=(name, 0.0)
    )
