"""The command line: `rope-lab train | sample | evaluate | export | reproduce | bench | info`, or `python -m rope_lab`.

Every bad input is one line on stderr and exit code 2; a run that cannot go on is one line and exit code 1. Ctrl-C ends
with exit code 130.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import rope_lab
from rope_lab.training import (
    PRESETS,
    Corpus,
    Stopped,
    TrainConfig,
    checkpoint,
    choose_device,
    enough_memory,
    evaluate,
    preset,
    rank,
    resolved,
    sample,
    tiny_shakespeare,
    token_losses,
    train,
)

_CHANGES = {
    "steps": int,
    "seed": int,
    "batch": int,
    "accumulate": int,
    "architecture": str,
    "position": str,
    "context": int,
    "dim": int,
    "depth": int,
}
_CHANGES |= {"heads": int, "dropout": float, "attention_dropout": float, "lr": float, "matrix_lr": float}
_CHANGES |= {"bfloat16": bool, "compile": bool}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:  # one line, without the usage above it
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("rope-lab", description="Train a RoFormer on a text, measure it and let it write.")
    parser.add_argument("--version", action="version", version=rope_lab.__version__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="train | sample | evaluate | export | reproduce | bench | info"
    )

    command = commands.add_parser("train", help="train a model", description="Train a model.")
    command.add_argument("--preset", metavar="NAME", help=f"one of {', '.join(PRESETS)}; default cpu")
    command.add_argument(  # torchrun takes --run for an option of its own
        "--run", "--folder", metavar="FOLDER", help="what it leaves; default runs/PRESET"
    )
    command.add_argument("--resume", metavar="FOLDER", help="go on with the run in FOLDER, with its settings")
    _add_text(command)
    _add_device(command)
    group = command.add_argument_group("settings that differ from the preset's")
    for name, kind in _CHANGES.items():
        flag = f"--{name.replace('_', '-')}"
        if kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction)
        else:
            group.add_argument(flag, type=kind, metavar=kind.__name__.upper())

    command = commands.add_parser("sample", help="write text", description="Write text, as it is drawn.")
    _add_run(command)
    command.add_argument("--prompt", default="\n", help="what the text starts with; default a new line")
    command.add_argument("--characters", type=int, default=500, help="to write; default 500")
    command.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest; default 0.8")
    command.add_argument("--top-k", type=int, help="draw among the K likeliest")
    command.add_argument(
        "--top-p", type=float, help="draw among the likeliest that hold P of the probability"
    )
    command.add_argument("--seed", type=int, default=0, help="fixes the draw; default 0")
    _add_device(command)

    command = commands.add_parser(
        "evaluate", help="measure a model", description="The loss on the whole validation split."
    )
    _add_run(command)
    command.add_argument(
        "--lengths",
        type=int,
        nargs="+",
        metavar="N",
        help="in segments of N characters, shorter or longer than trained",
    )
    _add_text(command)
    _add_device(command)

    command = commands.add_parser(
        "export",
        help="write a Llama for transformers",
        description="Write the Llama of a run as a checkpoint of Hugging Face transformers.",
    )
    _add_run(command)
    command.add_argument("folder", help="where it goes: a new or empty folder")

    command = commands.add_parser(
        "reproduce",
        help="run a recorded experiment",
        description="Run what is not recorded yet of an experiment, and print its table.",
    )
    command.add_argument("experiment", nargs="?", metavar="NAME", help="without it, a list of them all")
    command.add_argument("--seeds", type=int, default=3, metavar="N", help="of every variant; default 3")
    command.add_argument("--scale", default="cpu", metavar="NAME", help="smoke, cpu or gpu; default cpu")
    command.add_argument("--out", default="results", metavar="FOLDER", help="of the records; default results")
    command.add_argument(
        "--cache",
        default="runs/experiments",
        metavar="FOLDER",
        help="of the models; default runs/experiments",
    )
    command.add_argument(
        "--check",
        nargs="?",
        const="",
        metavar="VARIANT",
        help="see that the code at hand gives a record again",
    )
    _add_text(command)
    _add_device(command)

    command = commands.add_parser(
        "bench", help="speed beside the neighbours", description="Speed beside the neighbours, as ratios."
    )
    command.add_argument("--out", metavar="FOLDER", help="write bench.json and bench.svg there too")
    command.add_argument("--quick", action="store_true", help="small tensors, to see that everything works")
    _add_device(command)

    command = commands.add_parser(
        "info", help="what a run is, or this machine", description="Show a run's record."
    )
    command.add_argument(
        "run", nargs="?", help="the folder of a run; without it, this machine and the presets"
    )
    return parser


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", help="the folder of a run, or the checkpoint in it")


def _add_text(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--text", metavar="FILE", help="a text of your own in UTF-8; default Tiny Shakespeare"
    )


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", metavar="NAME", help="cuda, mps or cpu; default the first there is")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        _COMMANDS[options.command](options)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        print(f"\nrope-lab: interrupted{stop}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone: nothing to tell it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Stopped as error:
        return _fail(options.command, error, 1)
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        return _fail(options.command, error, 2)
    return 0


def _fail(command: str, error: Exception, code: int) -> int:
    if worker := rank():  # what befell all, the first worker says, upon which torchrun ends the others
        time.sleep(15)  # time for it to start and say so on a busy machine
        command += f" (worker {worker})"
    print(f"rope-lab {command}: {_line(error)}", file=sys.stderr)
    return code


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename is not None else "")
    return " ".join(str(error).split())


def _corpus(file: str | None) -> Corpus:
    if file is None:
        return tiny_shakespeare()
    try:
        return Corpus(Path(file).name, Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--text must be a file of 20 characters or more in UTF-8, got {file!r}: {_line(error)}"
        ) from error


def _train(options: argparse.Namespace) -> None:
    changes = {name: getattr(options, name) for name in _CHANGES if getattr(options, name) is not None}
    if options.resume:
        given = [name for name in ("preset", "run", *changes) if getattr(options, name) is not None]
        if given:
            raise ValueError(
                f"--resume must stand without --{given[0].replace('_', '-')}: the settings are the run's"
            )
        config = TrainConfig(**checkpoint.load(options.resume).run["config"])
    else:
        config = preset(options.preset or "cpu", **changes)
    folder = resolved(options.resume or options.run or f"runs/{config.name}")
    try:
        run = train(
            config, _corpus(options.text), folder=folder, device=options.device, resume=bool(options.resume)
        )
    except KeyboardInterrupt:
        if (folder / checkpoint.FILE).is_file():
            text = f" --text {options.text}" if options.text else ""
            raise KeyboardInterrupt(f"; go on with: rope-lab train --resume {folder}{text}") from None
        raise
    if rank() == 0:
        print(
            f"validation loss {run.val:.4f} nats per character, {run.seconds:.0f} s; rope-lab sample {folder}"
        )


def _sample(options: argparse.Namespace) -> None:
    found = checkpoint.load(options.run)
    vocab = found.run["vocab"]
    if unknown := sorted(set(options.prompt) - set(vocab)):
        raise ValueError(
            f"--prompt must be made of the {len(vocab)} characters of the run's text, got {unknown[0]!r}"
        )
    device = choose_device(options.device)
    prompt = [vocab.index(character) for character in options.prompt]
    with enough_memory(f"take another --device (now {device}) or a run with a smaller --preset"):
        drawn = sample(
            found.model().to(device), prompt, options.characters, temperature=options.temperature,
            top_k=options.top_k, top_p=options.top_p, seed=options.seed,
        )  # fmt: skip
        print(options.prompt, end="", flush=True)
        for token in drawn:
            print(vocab[token], end="", flush=True)
        print()


def _evaluate(options: argparse.Namespace) -> None:
    found = checkpoint.load(options.run)
    corpus = _corpus(options.text)
    trained = found.run["corpus"]
    if corpus.sha256 != trained["sha256"]:
        raise ValueError(
            f"--text must be the text the run was trained on, {trained['name']}, got {corpus.name}"
        )
    device, model, ids = choose_device(options.device), found.model(), corpus.encode(corpus.val)
    longest = max(options.lengths or [model.config.context])
    with enough_memory(f"lower --lengths (now {longest}) or take another --device (now {device})"):
        model.to(device)
        if options.lengths:
            rows = [
                (n, *(token_losses(model, ids, n, stride=stride) for stride in (n, max(1, n // 2))))
                for n in options.lengths
            ]
        else:
            loss = evaluate(model, ids)
    if options.lengths:
        print(f"trained on {model.config.context} characters at once; nats per character of {corpus.name}")
        print("  length   cut into segments   sliding by half a length")
        for n, cut, sliding in rows:
            print(f"{n:8,d}{cut.mean():20.4f}{sliding[:, -max(1, n // 2) :].mean():27.4f}")
        return
    print(
        f"validation loss {loss:.4f} nats per character, {len(corpus.val) - 1:,} characters of {corpus.name}"
    )


def _info(options: argparse.Namespace) -> None:
    if options.run is None:
        print(f"rope_lab {rope_lab.__version__}, device {choose_device()}")
        for name, config in PRESETS.items():
            print(f"preset {name}: {json.dumps(dataclasses.asdict(config))}")
        return
    record = checkpoint.load(options.run).run
    for name in [name for name in record if name not in ("random", "recent", "history", "vocab")]:
        print(f"{name}: {json.dumps(record[name], ensure_ascii=False)}")


def _export(options: argparse.Namespace) -> None:
    from rope_lab.interop.huggingface import export_llama

    found = checkpoint.load(options.run)
    for path in export_llama(found.model(), options.folder, vocab=found.run["vocab"]):
        print(path)


def _reproduce(options: argparse.Namespace) -> None:
    from rope_lab.experiments import EXPERIMENTS, reproduce

    if options.experiment is None:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:14s}{experiment.question}")
        return
    given = {name: getattr(options, name) for name in ("seeds", "scale", "out", "cache", "device", "check")}
    results = reproduce(options.experiment, corpus=_corpus(options.text), **given)
    print(EXPERIMENTS[options.experiment].table(results))
    print(results.provenance())


def _bench(options: argparse.Namespace) -> None:
    from rope_lab import bench

    results = bench.run(device=str(choose_device(options.device)), quick=options.quick)
    print(bench.table(results))
    for path in bench.save(results, options.out) if options.out else ():
        print(path)


_COMMANDS = {"train": _train, "sample": _sample, "evaluate": _evaluate, "export": _export, "bench": _bench}
_COMMANDS |= {"info": _info, "reproduce": _reproduce}


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
