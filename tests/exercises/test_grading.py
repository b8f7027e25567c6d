"""Grading: whatever a submission does costs that exercise and nothing else, and the same seed gives the same marks."""

import csv
import json
import os
import socket
from pathlib import Path

import pytest

from rope_lab.__main__ import main
from rope_lab.exercises import chapters, exercise, exercises, grading
from rope_lab.exercises.submission import read

RIGHT = """
import torch
def causal_mean(v):
    return v.cumsum(0) / torch.arange(1, len(v) + 1)[:, None]
"""
TURN = """
import math
def turn(x, m, theta):
    a, b = x.unbind(-1)
    c, s = math.cos(m * theta), math.sin(m * theta)
    return torch.stack((a * c - b * s, a * s + b * c), -1)
"""
BODY = RIGHT + "\ndef turn(x, m, theta):\n    {}\n" + "    return x\n"
BAD = {  # what is wrong with `turn` → words of its message; causal_mean is correct in all of them
    "wrong": ("pass", "nothing is turned"),
    "loops": ("while True: pass", "runs for more than 3 seconds"),
    "stubborn": (
        "while True:\n        try:\n            len(x)\n        except BaseException: pass",
        "runs for more than",
    ),
    "prints": ("print('a' * 5_000_000)", "nothing is turned"),
    "exits": ("import sys; sys.exit(0)", "raises SystemExit: 0"),
    "dies": ("import os; os._exit(0)", "ended its process"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "ended its process (signal"),
    "forks": ("import os; os.fork()", "may not start processes"),
    "starts": ("import subprocess; subprocess.run(['true'])", "may not start processes"),
    "connects": (
        "import socket; socket.create_connection(('127.0.0.1', PORT))",
        "may not open a connection (line ",
    ),
    "writes": ("open(FOLDER + '/wrong.py', 'w')", "submissions"),
    "peeks": ("open(FOLDER + '/right.py').read()", "may not read the folder of the submissions"),
    "deletes": ("import os; os.remove(FOLDER + '/right.py')", "may not write files"),
    "kills": ("import os; os.kill(os.getppid(), 9)", "may not send signals"),
    "eats": ("torch.ones(10**10)", "memory"),
    "generates": ("yield x", "got generator"),
    "nan": ("return x * float('nan')", "got nan"),
    "mutates": ("x.zero_()", "expected"),
    "patches": (
        "torch.allclose = torch.equal = lambda *a, **k: True; torch.Tensor.tolist = lambda s: []",
        "your code replaces torch.",
    ),
    "patches_us": (
        "import rope_lab.exercises.checker as c; c.Exercise.judge = c.Exercise._wrong = lambda *a, **k: ''",
        "your code replaces rope_lab.exercises.checker.Exercise.",
    ),
    "pickles": ("return type('X', (), {'__reduce__': lambda s: (print, ('x',))})()", "got X"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Submissions of every kind."""
    folder = tmp_path_factory.mktemp("submissions")
    start = f"FOLDER, PORT = {str(folder)!r}, 9\n"
    for name, (code, _) in BAD.items():
        (folder / f"{name}.py").write_text(start + BODY.format(code), encoding="utf-8")
    (folder / "right.py").write_text(RIGHT + TURN, encoding="utf-8")
    (folder / "twice.py").write_text(RIGHT + TURN + TURN, encoding="utf-8")
    (folder / "lacking.py").write_text(RIGHT, encoding="utf-8")
    (folder / "broken.py").write_text(RIGHT + TURN + "def oops(:\n", encoding="utf-8")
    (folder / "raises.py").write_text(RIGHT + TURN + "missing\n", encoding="utf-8")
    (folder / "latin.py").write_bytes(b"# caf\xe9\n")
    (folder / "two").mkdir()
    (folder / "two" / "a.py").write_text(RIGHT + TURN, encoding="utf-8")
    (folder / "two" / "b.py").write_text(RIGHT, encoding="utf-8")
    (folder / "own").mkdir()
    (folder / "own" / "answers.ipynb").write_text(
        notebook(RIGHT, "%matplotlib inline\n1 / 0", TURN), encoding="utf-8"
    )
    (folder / "notes.txt").write_text("nothing", encoding="utf-8")
    return folder


def notebook(*cells: str) -> str:
    return json.dumps(
        {"cells": [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]}
    )


@pytest.fixture(scope="module")
def marks(folder: Path) -> dict[tuple[str, str], grading.Mark]:
    tasks = grading.chosen("01.2,3.1")
    limits = grading.Limits(seconds=3)
    found = grading.grade(str(folder), tasks, worth={"1.2": 1, "3.1": 2}, seed="secret", limits=limits)
    return {(mark.submission, mark.exercise): mark for mark in found}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the limits need processes that fork")
@pytest.mark.parametrize("name", BAD)
def test_it_costs_that_exercise_and_nothing_else(marks, name: str) -> None:
    mark = marks[name, "3.1"]
    assert not mark.passed
    assert mark.points == 0
    assert BAD[name][1] in mark.message
    assert "\n" not in mark.message
    assert marks[name, "1.2"].passed


def test_correct_answers_get_their_points(marks, folder: Path) -> None:
    for name in ("right", "own"):
        assert marks[name, "1.2"].points == 1
        assert marks[name, "3.1"].points == 2
    assert (folder / "right.py").read_text("utf-8") == RIGHT + TURN


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("twice", "defines turn more than once, in lines "),
        ("lacking", "does not define turn"),
        ("broken", "broken.py is not valid Python"),
        ("raises", "raises.py raises NameError: name 'missing' is not defined (line "),
        ("latin", "cannot be read"),
        ("two", "must hold one .py or .ipynb file, and holds 2"),
    ],
)
def test_files_that_cannot_be_graded(marks, name: str, words: str) -> None:
    assert words in marks[name, "3.1"].message
    assert marks[name, "3.1"].points == 0


def test_the_table_and_the_reports(marks, tmp_path: Path) -> None:
    found = list(marks.values())
    grading.save(
        found,
        table_file=str(tmp_path / "a.csv"),
        json_file=str(tmp_path / "a.json"),
        reports=str(tmp_path / "r"),
    )
    with (tmp_path / "a.csv").open(encoding="utf-8") as file:
        rows = {row["submission"]: row for row in csv.DictReader(file)}
    assert rows["right"] == {"submission": "right", "1.2": "1", "3.1": "2", "total": "3", "of": "3"}
    assert rows["wrong"]["total"] == "1"
    assert len(json.loads((tmp_path / "a.json").read_text("utf-8"))) == len(found)
    report = (tmp_path / "r" / "wrong.txt").read_text("utf-8")
    assert "0 of 2 points. ✗ exercise 3.1: for x = " in report
    assert "Together 1 of 3 points." in report


def test_the_same_seed_gives_the_same_marks_and_another_seed_other_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(RIGHT.replace("v.cumsum(0) /", "v.cumsum(0) + 0 *"), encoding="utf-8")
    tasks = grading.chosen("1.2")
    one, again, other = (
        grading.grade(str(tmp_path), tasks, worth={"1.2": 1}, seed=seed) for seed in ("a", "a", "b")
    )
    assert one == again
    assert one != other
    assert "for v = " in one[0].message


def test_the_numbers_of_exercises() -> None:
    assert exercise("05.2") is exercise("5.2")
    assert [x.number for x in grading.chosen("03,05.2, 3.1")] == [*(x.number for x in exercises(3)), "5.2"]
    assert sum(len(exercises(chapter)) for chapter in chapters()) >= 33


def test_points_come_from_a_file(tmp_path: Path) -> None:
    tasks = grading.chosen("03")
    worth = {task.number: 1 for task in tasks}
    (tmp_path / "points").write_text("# points\n03.1 2\n\n3.3 0.5 # half\n", encoding="utf-8")
    assert grading.points(str(tmp_path / "points"), tasks) == worth | {"3.1": 2, "3.3": 0.5}
    for line in ("3.1", "3.1 x", "3.1 -1", "5.1 1", "3.1 1 2", "3.1 nan"):
        (tmp_path / "points").write_text(line, encoding="utf-8")
        with pytest.raises(ValueError, match=r"line 1 of .* must be a graded exercise and its points"):
            grading.points(str(tmp_path / "points"), tasks)


def test_a_notebook_that_uses_keras_is_read_without_it(tmp_path: Path) -> None:
    cells = [
        "import keras, os\nfrom rope_lab.interop.keras import RotaryEmbedding\nimport torch",
        "class Mine(keras.layers.Layer): pass\nclass Ours(RotaryEmbedding): pass",
        "def answer(x): return torch.sin(x)",
    ]
    (tmp_path / "a.ipynb").write_text(notebook(*cells), encoding="utf-8")
    assert list(read(tmp_path / "a.ipynb").names) == ["torch", "answer"]


def test_of_a_notebook_only_definitions_are_kept(tmp_path: Path) -> None:
    cells = [
        "%%time\nx = 1",
        "import torch\n!ls\nN = 3\nf = lambda x: len(x)",
        "train()\ny = train()\nz = y + 1",
    ]
    cells += [
        "def g(:",
        "def h(a=y): pass",
        "@y\nclass C: pass",
        "def g(a: torch.Tensor = N): pass",
        "y[0] = N",
    ]
    (tmp_path / "a.ipynb").write_text(notebook(*cells), encoding="utf-8")
    assert list(read(tmp_path / "a.ipynb").names) == ["torch", "N", "f", "g"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "99.1", "right.py"], "rope-lab check: exercises are in chapters 01, 02"),
        (["check", "05.9", "right.py"], "chapter 05 has exercises 5.1, 5.2, 5.3"),
        (["check", "x", "right.py"], "an exercise is named as in 05.2, got 'x'"),
        (["check", "05.1", "none.py"], "No such file or directory: "),
        (["check", "05.1", "notes.txt"], "an answer is a .py or .ipynb file"),
        (["check", "05.1", "."], "an answer is a .py or .ipynb file"),
        (["check", "05.1", "latin.py"], "an answer is a text in UTF-8"),
        (["grade", "two/a.py", "--exercises", "05"], "a folder of submissions is needed"),
        (["grade", "empty", "--exercises", "05"], "holds no .py or .ipynb file"),
        (["grade", ".", "--exercises", "99,x"], "exercises are in chapters"),
        (["grade", ".", "--exercises", "5", "--seconds", "0"], "--seconds must be a positive number"),
        (["grade", ".", "--exercises", "5", "--memory", "0"], "--memory must be 1 megabyte or more"),
        (["grade", ".", "--exercises", "5", "--points", "none"], "grade: No such file or directory: none"),
        (
            ["grade", ".", "--exercises", "5", "--points", os.devnull],
            "grade: --points must be a regular file",
        ),
        (
            ["grade", ".", "--exercises", "5", "--points", "latin.py"],
            "grade: --points must be a text in UTF-8",
        ),
        (["grade", ".", "--exercises", "5", "--csv", "empty"], "grade: --csv must be a file that can be"),
        (
            ["grade", ".", "--exercises", "5", "--json", "none/new"],
            "grade: --json must be a file that can be",
        ),
        (
            ["grade", ".", "--exercises", "5", "--reports", "latin.py"],
            "grade: --reports must be a folder that",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, words: str, folder: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir(exist_ok=True)
    # input must be known to be good before anything is graded
    monkeypatch.setattr(grading, "grade", lambda folder, *_, **__: grading.submissions(folder) and 1 / 0)
    try:
        assert main(arguments) == 2
    finally:
        (folder / "empty").rmdir()
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1


def test_check_says_what_the_notebook_says(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("answer.py").write_text(RIGHT + "def turn(x, m, theta):\n    return -x\n", encoding="utf-8")
    assert main(["check", "01.2", "answer.py"]) == 0
    assert capsys.readouterr().out == f"{exercise('1.2')(exercise('1.2').reference)}\n"
    assert main(["check", "3.1", "answer.py"]) == 1
    assert capsys.readouterr().out == f"{exercise('3.1')(lambda x, m, theta: -x)}\n"


def test_grade_prints_a_table(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/ann.py").write_text(RIGHT, encoding="utf-8")
    assert main(["grade", "in", "--exercises", "1.2,1.3", "--seed", "s", "--csv", "marks.csv"]) == 0
    assert "ann  1  0  1  2" in capsys.readouterr().out
    assert Path("marks.csv").read_text("utf-8").splitlines() == ["submission,1.2,1.3,total,of", "ann,1,0,1,2"]


def test_the_network_of_the_tests_works() -> None:
    """So that the refusal above is the guard's, not this machine's."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(server.getsockname()).close()


def test_an_answer_that_is_judged_by_its_properties_is_graded_too(tmp_path: Path) -> None:
    """None among other results is an answer, also from another process; a stub that returns nothing else is not."""
    twin = "def twin(tokens):\n    for i in range(len(tokens) - 1):\n        if tokens[i] != tokens[0]:\n"
    twin += "            out = tokens.tolist()\n            out[0], out[i] = out[i], out[0]\n            return out\n"
    for name, code in {
        "right": twin,
        "stub": "def twin(tokens):\n    return None\n",
        "lazy": "def twin(tokens):\n    return None if len(tokens) < 5 else tokens.flip(0)\n",
        "patches": "import torch\ntorch.Tensor.equal = lambda *a: False\ndef twin(tokens):\n    return tokens\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    found = grading.grade(str(tmp_path), grading.chosen("1.4"), worth={"1.4": 1}, seed="secret")
    said = {mark.submission: mark.message for mark in found}
    assert {mark.submission for mark in found if mark.passed} == {"right"}
    assert "nothing yet" in said["stub"]
    assert "but there is an answer" in said["lazy"]
    assert said["patches"].startswith("your code replaces torch.Tensor.equal; an answer may use torch")


def test_what_is_set_and_not_replaced_is_allowed_and_reaches_no_other_answer(tmp_path: Path) -> None:
    settings = (
        "import torch\ntorch.manual_seed(1)\ntorch.set_default_dtype(torch.float64)\ntorch.Tensor.mine = 1\n"
    )
    (tmp_path / "sets.py").write_text(settings + RIGHT + TURN, encoding="utf-8")
    (tmp_path / "turns.py").write_text(RIGHT + TURN, encoding="utf-8")
    found = grading.grade(str(tmp_path), grading.chosen("1.2,3.1"), worth={"1.2": 1, "3.1": 1}, seed="secret")
    assert [mark.passed for mark in found] == [True] * 4
