"""The commands `rope-lab check` and `rope-lab grade`: verdicts on files, each answer in a process of its own."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rope_lab.exercises import exercise, exercises
from rope_lab.exercises.calling import Outcome
from rope_lab.exercises.checker import PUBLIC, Exercise
from rope_lab.exercises.feedback import Feedback
from rope_lab.exercises.submission import SUFFIXES, Submission, read, seed_of


@dataclass(frozen=True)
class Limits:
    """What one answer may use: seconds of time, and megabytes of memory beyond what torch itself takes."""

    seconds: float = 20.0
    memory: int = 2_000

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"--seconds must be a positive number, got {self.seconds}")
        if self.memory < 1:
            raise ValueError(f"--memory must be 1 megabyte or more, got {self.memory}")


@dataclass(frozen=True)
class Mark:
    """What one submission got for one exercise."""

    submission: str
    exercise: str
    passed: bool
    points: float
    of: float
    message: str


class Judge:
    """Asks submissions in other processes, and compares here. Use it in a `with`.

    Args:
        seed: of the inputs, a text; None for the inputs of the pages.
        limits: for each answer.
        closed: a folder that an answer must not read.
        quiet: whether to drop what an answer prints.
    """

    def __init__(
        self,
        seed: str | None = None,
        limits: Limits | None = None,
        *,
        closed: Path | None = None,
        quiet: bool = True,
    ) -> None:
        self._seed = PUBLIC if seed is None else seed_of(seed)
        self._limits = limits or Limits()
        self._closed, self._quiet = closed, quiet
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Judge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def verdict(self, task: Exercise, submission: Submission) -> Feedback:
        """The verdict on one exercise of a submission."""
        if problem := submission.lacks(task.name):
            return Feedback(task.number, False, problem)
        job = {"exercise": task.number, "seed": self._seed, "name": submission.name, "code": submission.code}
        job |= {"seconds": self._limits.seconds, "memory": self._limits.memory, "quiet": self._quiet}
        job |= {"closed": str(self._closed.resolve()) if self._closed else None}
        try:
            outcomes = [Outcome.of(plain) for plain in self._ask(job)]
            return task.judge(outcomes, task.cases(self._seed))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError):
            self._end()
            return Feedback(task.number, False, "the code ended its process before there was a result.")

    def _ask(self, job: dict[str, Any]) -> Any:
        if self._process is None:
            command = [sys.executable, "-m", "rope_lab.exercises.nursery"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def _end(self) -> None:
        if self._process is not None:
            with suppress(OSError):
                self._process.stdin.close()  # type: ignore[union-attr]
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()  # type: ignore[union-attr]
            self._process = None


def check(number: str, file: str, *, seed: str | None = None) -> Feedback:
    """The verdict on one exercise in a file, in the words of the notebook.

    Raises:
        ValueError: if there is no such exercise, or the file is neither Python nor a notebook.
        OSError: if the file cannot be read.
    """
    task, submission = exercise(number), read(Path(file))
    with Judge(seed, quiet=False) as judge:
        return judge.verdict(task, submission)


def chosen(text: str) -> list[Exercise]:
    """The exercises of a list such as "03,05.2": whole chapters and single exercises."""
    found: dict[str, Exercise] = {}
    for part in text.split(","):
        part = part.strip()
        several = exercises(int(part)) if part.isascii() and part.isdigit() else [exercise(part)]
        found |= {entry.number: entry for entry in several}
    return list(found.values())


def points(file: str | None, tasks: Sequence[Exercise]) -> dict[str, float]:
    """The points of each exercise: 1, or what a file says in lines such as "5.2 3". A # begins a comment.

    Raises:
        ValueError: if a line says something else, or names an exercise that is not graded.
    """
    table = {task.number: 1.0 for task in tasks}
    if file is None:
        return table
    for count, line in enumerate(Path(file).read_text(encoding="utf-8-sig").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            number, value = exercise(words[0]).number, float(words[1])
            good = len(words) == 2 and 0 <= value < math.inf
        except (ValueError, IndexError):
            good = False
        if not good or number not in table:
            raise ValueError(
                f"line {count} of {file} must be a graded exercise and its points, got {line.strip()!r}"
            )
        table[number] = value
    return table


def grade(
    folder: str,
    tasks: Sequence[Exercise],
    *,
    worth: dict[str, float],
    seed: str | None,
    limits: Limits | None = None,
) -> list[Mark]:
    """The marks of every submission in a folder: of each file, or of the only .py or .ipynb file of each subfolder.

    Raises:
        ValueError: if the folder holds no submission.
    """
    marks = []
    with Judge(seed, limits, closed=Path(folder)) as judge:
        for name, submission in submissions(folder):
            for task in tasks:
                verdict = judge.verdict(task, submission)
                of = worth[task.number]
                marks.append(
                    Mark(name, task.number, verdict.passed, of * verdict.passed, of, verdict.message)
                )
    return marks


def submissions(folder: str) -> list[tuple[str, Submission]]:
    """The submissions of a folder by name, in order; one that cannot be read carries the reason."""
    if not Path(folder).is_dir():
        raise ValueError(f"a folder of submissions is needed, got {folder!r}")
    found = []
    for entry in sorted(Path(folder).iterdir()):
        if entry.name.startswith((".", "__")):
            continue
        files = [entry] if entry.suffix in SUFFIXES or not entry.is_dir() else _files(entry)
        if entry.is_dir() and len(files) != 1:
            problem = f"{entry.name} must hold one .py or .ipynb file, and holds {len(files)}."
            found.append((entry.name, Submission(entry.name, "", {}, problem)))
        elif files[0].suffix in SUFFIXES:
            found.append((entry.name if entry.is_dir() else entry.stem, _read(files[0])))
    if not found:
        raise ValueError(f"the folder {folder!r} holds no .py or .ipynb file")
    names = [name for name, _ in found]
    twice = {name for name in names if names.count(name) > 1}
    return [(submission.name if name in twice else name, submission) for name, submission in found]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)


def _read(path: Path) -> Submission:
    try:
        return read(path)
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Submission(path.name, "", {}, f"{path.name} cannot be read: {reason}.")


def table(marks: Sequence[Mark]) -> list[list[str]]:
    """One row per submission: its name, the points of each exercise, their sum, and the sum that can be reached."""
    numbers = list(dict.fromkeys(mark.exercise for mark in marks))
    rows = [["submission", *numbers, "total", "of"]]
    for name in dict.fromkeys(mark.submission for mark in marks):
        own = [mark for mark in marks if mark.submission == name]
        rows.append(
            [name, *(f"{m.points:g}" for m in own), _sum(m.points for m in own), _sum(m.of for m in own)]
        )
    return rows


def _sum(numbers: Any) -> str:
    return f"{math.fsum(numbers):g}"


def report(marks: Sequence[Mark]) -> str:
    """What a student reads: one line per exercise, and the sum."""
    lines = [f"Marks of {marks[0].submission}", ""]
    for mark in marks:
        lines.append(
            f"{mark.points:g} of {mark.of:g} points. {Feedback(mark.exercise, mark.passed, mark.message)!r}"
        )
    lines += ["", f"Together {_sum(m.points for m in marks)} of {_sum(m.of for m in marks)} points."]
    return "\n".join(lines) + "\n"


def save(
    marks: Sequence[Mark],
    *,
    table_file: str | None = None,
    json_file: str | None = None,
    reports: str | None = None,
) -> None:
    """Write the table as CSV, all marks as JSON, and a report for each submission into a folder."""
    if table_file is not None:
        with Path(table_file).open("w", encoding="utf-8", newline="") as file:
            # a name that begins like a formula would be run by a spreadsheet
            csv.writer(file).writerows(
                [["'" + x if x[:1] in "=+-@" else x for x in row] for row in table(marks)]
            )
    if json_file is not None:
        text = json.dumps([asdict(mark) for mark in marks], ensure_ascii=False, indent=1)
        Path(json_file).write_text(text + "\n", encoding="utf-8")
    if reports is not None:
        Path(reports).mkdir(parents=True, exist_ok=True)
        for name in dict.fromkeys(mark.submission for mark in marks):
            own = [mark for mark in marks if mark.submission == name]
            (Path(reports) / f"{name}.txt").write_text(report(own), encoding="utf-8")
