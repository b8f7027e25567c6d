"""The commands of the command line, their arguments and the help for each. Nothing here needs torch."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, NoReturn

import rope_lab


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):  # int() would take "1_000" and digits of every script
        raise ValueError
    return int(text)


def _real(text: str) -> float:
    if not text.isascii() or "_" in text:
        raise ValueError
    return float(text)


_whole.__name__, _real.__name__ = "int", "float"  # argparse names them where they fail
CHANGES: dict[str, Callable[[str], Any]] = {
    "steps": _whole,
    "seed": _whole,
    "batch": _whole,
    "accumulate": _whole,
    "architecture": str,
    "position": str,
    "context": _whole,
    "dim": _whole,
    "depth": _whole,
}
CHANGES |= {"heads": _whole, "dropout": _real, "attention_dropout": _real, "lr": _real, "matrix_lr": _real}
CHANGES |= {"bfloat16": bool, "compile": bool}


PRESETS = ("smoke", "cpu", "laptop", "gpu")


class _Parser(argparse.ArgumentParser):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False} | settings)

    def error(self, message: str) -> NoReturn:  # one line, without the usage above it
        self.exit(2, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The commands and what each takes."""
    root = _Parser(
        "rope-lab", description="Train a RoFormer on a text, measure its loss and generate text with it."
    )
    root.add_argument("--version", action="version", version=rope_lab.__version__)
    commands = root.add_subparsers(
        dest="command",
        required=True,
        metavar="train | sample | evaluate | export | reproduce | bench | check | grade | exercises | atlas | doctor | "
        "info",
    )

    command = commands.add_parser("train", help="train a model", description="Train a model.")
    command.add_argument("--preset", metavar="NAME", help=f"one of {', '.join(PRESETS)}; default cpu")
    command.add_argument(  # torchrun takes --run for an option of its own
        "--run",
        "--folder",
        metavar="FOLDER",
        help="folder for checkpoint, record and log; default runs/PRESET",
    )
    command.add_argument("--resume", metavar="FOLDER", help="resume the run in FOLDER with its own settings")
    _add_text(command)
    _add_device(command)
    group = command.add_argument_group("settings that override the preset's")
    for name, kind in CHANGES.items():
        flag = f"--{name.replace('_', '-')}"
        if kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction)
        else:
            group.add_argument(flag, type=kind, metavar=str(kind.__name__).upper())

    command = commands.add_parser(
        "sample", help="generate text", description="Generate text, printing each character as it is drawn."
    )
    _add_run(command)
    command.add_argument("--prompt", help="beginning of the text; default a new line")
    command.add_argument(
        "--characters", type=_whole, default=500, help="number of characters to generate; default 500"
    )
    command.add_argument(
        "--temperature",
        type=_real,
        default=0.8,
        help="divides the logits; 0 takes the likeliest character; default 0.8",
    )
    command.add_argument("--top-k", type=_whole, metavar="K", help="sample from the K likeliest characters")
    command.add_argument(
        "--top-p",
        type=_real,
        metavar="P",
        help="sample from the likeliest characters that together have probability P (nucleus sampling)",
    )
    command.add_argument("--seed", type=_whole, default=0, help="seed of the random draws; default 0")
    _add_device(command)

    command = commands.add_parser(
        "evaluate", help="measure a model", description="Measure the loss on the whole validation split."
    )
    _add_run(command)
    command.add_argument(
        "--lengths",
        type=_whole,
        nargs="+",
        metavar="N",
        help="evaluate on segments of N characters, which may be shorter or longer than in training",
    )
    _add_text(command)
    _add_device(command)

    command = commands.add_parser(
        "export",
        help="export a Llama for transformers",
        description="Write the Llama of a run as a checkpoint of Hugging Face transformers.",
    )
    _add_run(command)
    command.add_argument("folder", help="where to write it: a new or empty folder")

    command = commands.add_parser(
        "reproduce",
        help="run a recorded experiment",
        description="Run those parts of an experiment that are not recorded yet, and print its table.",
    )
    command.add_argument(
        "experiment", nargs="?", metavar="NAME", help="name of the experiment; without it, all are listed"
    )
    command.add_argument(
        "--seeds", type=_whole, default=3, metavar="N", help="number of seeds per variant; default 3"
    )
    command.add_argument(
        "--scale",
        default="cpu",
        metavar="NAME",
        help="size of the experiment: smoke, cpu or gpu; default cpu",
    )
    command.add_argument(
        "--out", default="results", metavar="FOLDER", help="folder for the records; default results"
    )
    command.add_argument(
        "--cache",
        default="runs/experiments",
        metavar="FOLDER",
        help="folder for the trained models; default runs/experiments",
    )
    command.add_argument(
        "--check",
        nargs="?",
        const="",
        metavar="VARIANT",
        help="check that the current code reproduces a record",
    )
    _add_text(command)
    _add_device(command)

    command = commands.add_parser(
        "bench",
        help="compare the speed with other libraries",
        description="Compare speed and memory with other libraries, as ratios.",
    )
    command.add_argument(
        "--out", metavar="FOLDER", help="folder to which bench.json and bench.svg are also written"
    )
    command.add_argument(
        "--quick", action="store_true", help="use small tensors, to check that everything works"
    )
    _add_device(command)

    command = commands.add_parser(
        "check",
        help="check an exercise",
        description="Check the answer to an exercise; exit code 0 if it is correct, 1 if it is not.",
    )
    command.add_argument("exercise", metavar="EXERCISE", help="the number of the exercise, such as 05.2")
    command.add_argument("file", help="a .py file or a notebook that defines the function; its code is run")
    command.add_argument("--seed", metavar="TEXT", help="draw other inputs than the pages do")

    command = commands.add_parser(
        "grade",
        help="grade a folder of answers",
        description="Grade every .py file, notebook and subfolder with one of them. The code in them is run, under "
        "limits that stop accidents but not an attack.",
    )
    command.add_argument("folder", help="the folder of the submissions")
    command.add_argument(
        "--exercises", required=True, metavar="LIST", help="chapters and exercises, such as 03,05.2"
    )
    command.add_argument("--seed", metavar="TEXT", help="what the inputs are drawn from; keep it secret")
    command.add_argument("--points", metavar="FILE", help="lines such as 5.2 3; default 1 point each")
    command.add_argument("--csv", metavar="FILE", help="write a table with one row per submission")
    command.add_argument("--json", metavar="FILE", help="write every mark with its message")
    command.add_argument("--reports", metavar="FOLDER", help="write one report per submission for its author")
    command.add_argument("--seconds", type=_real, default=20, help="time for each answer; default 20")
    command.add_argument(
        "--memory", type=_whole, default=2_000, metavar="MEGABYTES", help="for each answer; default 2000"
    )

    command = commands.add_parser(
        "exercises",
        help="write notebooks for a course",
        description="Write the chapters as notebooks, or their exercises as assignments of a grading tool, into a new "
        "or empty folder.",
    )
    kinds = command.add_mutually_exclusive_group(required=True)
    kinds.add_argument(
        "--student", metavar="FOLDER", help="chapters without solutions, with cells for answers"
    )
    kinds.add_argument("--solutions", metavar="FOLDER", help="chapters with their solutions")
    kinds.add_argument("--otter", metavar="FOLDER", help="assignments for `otter assign`")
    kinds.add_argument("--nbgrader", metavar="FOLDER", help="a course for nbgrader")
    command.add_argument(
        "--exercises", metavar="LIST", help="chapters and exercises, such as 03,05.2; default all"
    )
    command.add_argument(
        "--seed", metavar="TEXT", help="what the inputs of hidden tests are drawn from; keep it secret"
    )
    command.add_argument(
        "--install",
        metavar="PACKAGE",
        help="what pip installs where rope_lab is missing; default the repository that this one came from, if any",
    )

    command = commands.add_parser(
        "atlas",
        help="rotary settings of released models",
        description="Show the rotary settings of released model families, of one of them, or of a config.json, with "
        "wavelengths, unfinished turns and precision computed from them.",
    )
    command.add_argument(
        "name", nargs="?", metavar="NAME", help="a family, such as llama-3.1; default all of them"
    )
    command.add_argument("--config", metavar="FILE", help="read this config.json of a model instead")
    command.add_argument("--json", action="store_true", help="print JSON")

    command = commands.add_parser(
        "doctor",
        help="examine an unknown rotation",
        description="Find out by calling it what a rotation of queries and keys does, and which known bug it has. Exit "
        "code 0 if no fault is found, 1 if there is one or the function is not a rotation.",
    )
    command.add_argument(
        "target",
        metavar="TARGET",
        help="module:function, path/to/file.py:function, a module class in place of the function, or a model type of "
        "transformers such as llama; its code is run",
    )
    command.add_argument(
        "--dim", type=_whole, metavar="D", help="coordinates of a head; default that of the config, or 64"
    )
    command.add_argument(
        "--axis",
        type=_whole,
        choices=(0, 1, 2),
        help="the token axis of tensors with four axes, such as 2 of (B, H, N, D); default: it is found",
    )
    command.add_argument(
        "--config", metavar="FILE", help="a config.json of transformers that the rotation is compared with"
    )
    command.add_argument("--json", action="store_true", help="print the diagnosis as JSON")

    command = commands.add_parser(
        "info",
        help="describe a run, or this machine",
        description="Show the record of a run, or this machine and the presets.",
    )
    command.add_argument(
        "run", nargs="?", help="folder of a run; without it, this machine and the presets are shown"
    )
    return root


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", help="folder of a run, or the checkpoint in it")


def _add_text(command: argparse.ArgumentParser) -> None:
    command.add_argument("--text", metavar="FILE", help="text file in UTF-8; default Tiny Shakespeare")


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device", metavar="NAME", help="cuda, mps or cpu; default: the first that is available"
    )
