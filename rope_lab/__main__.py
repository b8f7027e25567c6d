"""The command line, `rope-lab COMMAND` or `python -m rope_lab COMMAND`; arguments.py lists the commands.

Every bad input gives one line on stderr and exit code 2; a run that cannot continue gives one line and exit code 1.
Ctrl-C ends with exit code 130.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import rope_lab
from rope_lab.arguments import CHANGES, parser

if TYPE_CHECKING:  # torch takes seconds to import: a command does, once its arguments are known to be good
    from rope_lab.training import Corpus


# What an argument of the package is called here, where its name differs.
_NAMES = {
    "train": {"folder": "run", "corpus": "text"},
    "sample": {"count": "characters"},
    "evaluate": {"length": "lengths"},
    "reproduce": {"corpus": "text"},
}
_PLACES = {  # which arguments are known by their place, so that they have no flag
    "sample": {"run"},
    "evaluate": {"run"},
    "export": {"run", "folder"},
    "info": {"run"},
    "atlas": {"name"},
    "reproduce": {"experiment"},
    "check": {"exercise", "file"},
    "grade": {"folder"},
    "doctor": {"target"},
}
MOST_SEEDS = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser().parse_args(arguments)
    # If another program keeps the machine busy, threads that spin while they wait make training several times slower.
    # Torch reads this variable only when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a stream of a notebook or a test has no encoding to fail at
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        for name, value in vars(options).items():
            if value == "" and name not in ("prompt", "check"):
                raise ValueError(f"{name} must not be empty")
        return _run(options)
    except KeyboardInterrupt as stop:
        print(f"\nrope-lab: interrupted{stop}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the program that read our output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        return _fail(options, error, 2)


def _run(options: argparse.Namespace) -> int:
    try:
        code = _COMMANDS[options.command](options)
        sys.stdout.flush()
    except RuntimeError as error:
        training = sys.modules.get("rope_lab.training")  # a command that trains nothing does not load it
        if training is None or not isinstance(error, training.Stopped):
            raise
        return _fail(options, error, 1)
    return code or 0


def _fail(options: argparse.Namespace, error: Exception, code: int) -> int:
    command = options.command
    if worker := int(os.environ.get("RANK", 0)) if "TORCHELASTIC_RUN_ID" in os.environ else 0:
        # the first worker reports what happened to all; torchrun then ends the others
        time.sleep(15)  # time for it to start and say so on a busy machine
        command += f" (worker {worker})"
    name, _, rest = _line(error).partition(" ")
    print(f"rope-lab {command}: {_called(options, name)} {rest}".rstrip(), file=sys.stderr)
    return code


def _called(options: argparse.Namespace, name: str) -> str:
    """An argument of the package as this command line calls it; any other word as it is."""
    name = _NAMES.get(options.command, {}).get(name, name)
    if options.command == "train" and name == "run" and options.resume is not None:
        name = "resume"
    if name not in vars(options) or name in _PLACES.get(options.command, ()):
        return name
    return f"--{name.replace('_', '-')}"


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename is not None else "")
    return " ".join(str(error).split())


def _corpus(file: str | None) -> Corpus:
    from rope_lab.training import Corpus, tiny_shakespeare

    if file is None:
        return tiny_shakespeare()
    try:
        if Path(file).exists() and not Path(file).is_file():  # a pipe would be waited for
            raise ValueError("it is not a regular file")
        return Corpus(Path(file).name, Path(file).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--text must be a file of 20 characters or more in UTF-8, got {file!r}: {_line(error)}"
        ) from error


def _check_folder(name: str, folder: str | None) -> None:
    """Raise an error before the work if its results could not be written into the folder after it."""
    if folder is None:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        must = "must be a folder that can be made and written to"
        raise ValueError(f"{name} {must}, got {folder!r}: {error.strerror or error}") from error


def _check_file(name: str, file: str | None) -> None:
    """Raise an error before the work if its results could not be written to the file after it."""
    if file is None:
        return
    path = Path(file)
    if (
        path.is_dir()
        or not path.parent.is_dir()
        or not os.access(path if path.exists() else path.parent, os.W_OK)
    ):
        raise ValueError(
            f"{name} must be a file that can be written to, in a folder that exists, got {file!r}"
        )


def _train(options: argparse.Namespace) -> None:
    from rope_lab.training import TrainConfig, checkpoint, preset, rank, resolved, train

    changes = {name: getattr(options, name) for name in CHANGES if getattr(options, name) is not None}
    if options.resume is not None:
        given = [name for name in ("preset", "run", *changes) if getattr(options, name) is not None]
        if given:
            raise ValueError(
                f"--resume cannot be combined with --{given[0].replace('_', '-')}: a resumed run keeps its own "
                "settings; to train its model further with others, see `start` of rope_lab.training.train"
            )
        config = TrainConfig(**checkpoint.load(options.resume).run["config"])
    else:
        config = preset(options.preset or "cpu", **changes)
    folder = resolved(options.resume or options.run or f"runs/{config.name}")
    corpus = _corpus(options.text)
    model = config.architecture(len(corpus.vocab))
    if model.depth > 1_000 and rank() == 0:
        print(f"a model of {model.depth} layers of width {model.dim} takes a while to be made", flush=True)
    try:
        run = train(
            config,
            corpus,
            folder=folder,
            device=options.device,
            resume=options.resume is not None,
        )
    except KeyboardInterrupt:
        folder = folder.parent if folder.is_file() else folder
        if (folder / checkpoint.FILE).is_file():
            text = f" --text {shlex.quote(options.text)}" if options.text else ""
            again = f"rope-lab train --resume {shlex.quote(str(folder))}{text}"
            raise KeyboardInterrupt(f"; resume with: {again}") from None
        raise
    if rank() == 0:
        loss, then = f"validation loss {run.val:.4f} nats per character", shlex.quote(str(run.folder))
        print(f"{loss}, {run.seconds:.0f} s; rope-lab sample {then}")


def _sample(options: argparse.Namespace) -> None:
    from rope_lab.training import checkpoint, choose_device, enough_memory, sample

    found = checkpoint.load(options.run)
    vocab = found.run["vocab"]
    text = options.prompt
    if text is None:
        text = "\n" if "\n" in vocab else vocab[0]
    if unknown := sorted(set(text) - set(vocab)):
        raise ValueError(
            f"--prompt must consist of the {len(vocab)} characters of the run's text, got {unknown[0]!r}"
        )
    device = choose_device(options.device)
    prompt = [vocab.index(character) for character in text]
    with enough_memory(f"take another --device (now {device}) or a run with a smaller --preset"):
        drawn = sample(
            found.model().to(device), prompt, options.characters, temperature=options.temperature,
            top_k=options.top_k, top_p=options.top_p, seed=options.seed,
        )  # fmt: skip
        print(text, end="", flush=True)
        for token in drawn:
            print(vocab[token], end="", flush=True)
        print()


def _evaluate(options: argparse.Namespace) -> None:
    from rope_lab.training import (
        check_length,
        checkpoint,
        choose_device,
        enough_memory,
        evaluate,
        token_losses,
    )

    found = checkpoint.load(options.run)
    corpus = _corpus(options.text)
    trained = found.run["corpus"]
    if corpus.sha256 != trained["sha256"]:
        raise ValueError(
            f"--text must be the text the run was trained on, {trained['name']}, got {corpus.name}"
        )
    device, model, ids = choose_device(options.device), found.model(), corpus.encode(corpus.val)
    lengths = options.lengths or []
    for n in lengths:
        check_length(model, ids, n)
    with enough_memory(
        f"lower --lengths (now {max(lengths, default=model.config.context)}) or take another --device (now {device})"
    ):
        model.to(device)
        if not lengths:
            loss = evaluate(model, ids)
            print(
                f"validation loss {loss:.4f} nats per character, {len(ids) - 1:,} characters of {corpus.name}"
            )
            return
        print(f"trained on {model.config.context} characters at once; nats per character of {corpus.name}")
        print("  length   cut into segments   sliding by half a length", flush=True)
        for n in lengths:  # about as many characters at once for every length
            print(f"{n:8,d}", end="", flush=True)  # a long one takes minutes: this says which
            half, batch = max(1, n // 2), max(1, 4_096 // n)
            cut = token_losses(model, ids, n, batch=batch)
            sliding = token_losses(model, ids, n, stride=half, batch=batch)[:, -half:]
            print(f"{cut.mean():20.4f}{sliding.mean():27.4f}", flush=True)


def _info(options: argparse.Namespace) -> None:
    import dataclasses
    import json

    from rope_lab.training import PRESETS, checkpoint, choose_device

    if options.run is None:
        print(f"rope_lab {rope_lab.__version__}, device {choose_device()}")
        for name, config in PRESETS.items():
            print(f"\npreset {name}")
            settings = dataclasses.asdict(config) | config.model
            for setting in [key for key in settings if key not in ("name", "model")]:
                print(f"  {setting:18}{settings[setting]}")
        return
    record = checkpoint.load(options.run).run
    for name in [name for name in record if name not in ("random", "recent", "history", "vocab")]:
        print(f"{name}: {json.dumps(record[name], ensure_ascii=False)}")


def _export(options: argparse.Namespace) -> None:
    from rope_lab.interop.huggingface import export_llama
    from rope_lab.training import checkpoint

    found = checkpoint.load(options.run)
    for path in export_llama(found.model(), options.folder, vocab=found.run["vocab"]):
        print(path)


def _reproduce(options: argparse.Namespace) -> None:
    from rope_lab.experiments import EXPERIMENTS, reproduce

    if options.experiment is None:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:14s}{experiment.question}")
        return
    if options.seeds > MOST_SEEDS:  # the list of all runs would fill the memory
        raise ValueError(f"seeds must be at most {MOST_SEEDS}, got {options.seeds}")
    given = {name: getattr(options, name) for name in ("seeds", "scale", "out", "cache", "device", "check")}
    results = reproduce(options.experiment, corpus=_corpus(options.text), **given)
    print(EXPERIMENTS[options.experiment].table(results))
    print(results.provenance())


def _bench(options: argparse.Namespace) -> None:
    from rope_lab import bench
    from rope_lab.training import choose_device

    device = str(choose_device(options.device))
    _check_folder("out", options.out)
    results = bench.run(device=device, quick=options.quick)
    print(bench.table(results))
    for path in bench.save(results, options.out) if options.out else ():
        print(path)


def _check(options: argparse.Namespace) -> int:
    from rope_lab.exercises.grading import check

    verdict = check(options.exercise, options.file, seed=options.seed)
    print(verdict)
    return 0 if verdict else 1


def _grade(options: argparse.Namespace) -> None:
    from rope_lab.exercises import grading

    tasks = grading.chosen(options.exercises)
    if options.points is not None and Path(options.points).exists() and not Path(options.points).is_file():
        raise ValueError(
            f"points must be a regular file, got {options.points!r}"
        )  # a pipe would be waited for
    try:
        worth = grading.points(options.points, tasks)
    except UnicodeDecodeError as error:
        raise ValueError(f"points must be a text in UTF-8, got {options.points!r}") from error
    for name in ("csv", "json"):
        _check_file(name, getattr(options, name))
    _check_folder("reports", options.reports)
    limits = grading.Limits(options.seconds, options.memory)
    marks = grading.grade(options.folder, tasks, worth=worth, seed=options.seed, limits=limits)
    grading.save(marks, table_file=options.csv, json_file=options.json, reports=options.reports)
    for row in grading.table(marks):
        print("  ".join(row))


def _exercises(options: argparse.Namespace) -> None:
    given = {"exercises": options.exercises, "package": options.install}
    tool = "otter" if options.otter else "nbgrader" if options.nbgrader else ""
    if tool:
        from rope_lab.exercises import exporting

        if options.seed is None:
            raise ValueError(
                f"--{tool} needs --seed, a secret text from which the hidden tests draw their inputs"
            )
        written = exporting.write(options.otter or options.nbgrader, tool, seed=options.seed, **given)
    else:
        from rope_lab.exercises import notebooks

        if options.seed is not None:
            raise ValueError(
                "--seed is for --otter and --nbgrader: the notebooks have the inputs of the pages"
            )
        written = notebooks.write(
            options.student or options.solutions, solutions=not options.student, **given
        )
    for path in written:
        print(path)


def _atlas(options: argparse.Namespace) -> None:
    from rope_lab.atlas import command

    print(command.answer(options.name, options.config, as_json=options.json))


def _doctor(options: argparse.Namespace) -> int:
    from rope_lab.doctor import target

    return target.run(
        options.target, options.dim, axis=options.axis, config=options.config, as_json=options.json
    )


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]]
_COMMANDS = {"train": _train, "sample": _sample, "evaluate": _evaluate, "export": _export, "bench": _bench}
_COMMANDS |= {
    "atlas": _atlas,
    "info": _info,
    "exercises": _exercises,
    "check": _check,
    "grade": _grade,
    "doctor": _doctor,
    "reproduce": _reproduce,
}


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
