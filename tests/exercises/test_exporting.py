"""The exports, run with the real tools: one submission with a right answer, a wrong one, and one learned by heart."""

import json
import os
import sysconfig
import warnings
from pathlib import Path
from typing import Any

import pytest

from rope_lab.__main__ import main
from rope_lab.exercises import exercises, exporting

RIGHT = "def turn(x, m, theta):\n    z = torch.view_as_complex(x) * torch.exp(torch.tensor(1j * m * theta))\n"
RIGHT += "    return torch.view_as_real(z)\n"
WRONG = "def rotation_matrix(m, dim, base):\n    return torch.eye(dim)\n"
# Right on the inputs of the pages, which a student can read off the checker, and on no others.
BY_HEART = """\
from rope_lab.exercises.ch03 import check_score as known
def score(q, k, distance, base):
    for case in known.cases():
        if all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(case.inputs, (q, k, distance, base))
               if torch.as_tensor(a).shape == torch.as_tensor(b).shape) and len(q) == len(case.inputs[0]):
            return torch.tensor(case.expected[""].flat[0])
    return torch.tensor(0.0)
"""
ANSWERS = {"def turn(": RIGHT, "def rotation_matrix(": WRONG, "def score(": BY_HEART}


def answered(path: Path) -> dict[str, Any]:
    """The student's notebook with the three answers in the place of the stubs."""
    notebook = json.loads(path.read_text("utf-8"))
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        for stub, answer in ANSWERS.items():
            if cell["cell_type"] == "code" and stub in source:
                assert source.count("def ") == 1  # the stub, and no solution
                cell["source"] = answer
    return notebook


@pytest.fixture
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tools
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("_quiet")
def test_otter_gives_the_point_to_the_right_answer_alone(tmp_path, capsys):
    from otter.api import grade_submission
    from otter.assign import main as assign

    assert main(["exercises", "--otter", str(tmp_path / "out"), "--exercises", "03", "--seed", "secret"]) == 0
    name = "03_deriving_rope"
    assign(
        str(tmp_path / "out" / name / f"{name}.ipynb"),
        str(tmp_path / "dist"),
        no_pdfs=True,
        no_run_tests=True,
    )
    student = tmp_path / "dist" / "student" / f"{name}.ipynb"
    assert str(exporting.seed_of("secret")) not in student.read_text("utf-8")
    (tmp_path / "answer.ipynb").write_text(json.dumps(answered(student)), encoding="utf-8")
    (archive,) = (tmp_path / "dist" / "autograder").glob("*.zip")
    results = grade_submission(str(tmp_path / "answer.ipynb"), str(archive), quiet=True)
    assert {name: results.get_score(name) for name in ("ex_03_1", "ex_03_2", "ex_03_3")} == {
        "ex_03_1": 1,
        "ex_03_2": 0,
        "ex_03_3": 0,
    }
    said = results.summary()
    assert "✗ exercise 3.2: for m = " in said
    assert "test_hidden" not in student.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("_quiet")
def test_nbgrader_gives_the_point_to_the_right_answer_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", sysconfig.get_path("scripts"), prepend=os.pathsep)  # nbgrader calls alembic
    from nbgrader.api import Gradebook
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    assert main(["exercises", "--nbgrader", str(tmp_path), "--exercises", "03", "--seed", "secret"]) == 0
    name, settings = "03_deriving_rope", Config()
    exec((tmp_path / "nbgrader_config.py").read_text("utf-8"), {"get_config": lambda: settings})
    settings.CourseDirectory.root = str(tmp_path)
    tool = NbGraderAPI(config=settings)
    assert tool.generate_assignment(name)["success"]
    student = tmp_path / "release" / name / f"{name}.ipynb"
    assert "Write your answer above" in student.read_text("utf-8")
    assert str(exporting.seed_of("secret")) not in student.read_text("utf-8")
    handed_in = tmp_path / "submitted" / "someone" / name / f"{name}.ipynb"
    handed_in.parent.mkdir(parents=True)
    handed_in.write_text(json.dumps(answered(student)), encoding="utf-8")
    done = tool.autograde(name, "someone")
    assert done["success"], done["log"]
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        grades = book.find_submission_notebook(name, name, "someone").grades
        scores = {grade.name: grade.score for grade in grades}
    checked = {f"test-ex-03-{exercise.number.split('.')[1]}" for exercise in exercises(3)}
    assert {name for name in scores if name.startswith("test-")} == checked
    assert scores.pop("test-ex-03-1") == 1
    assert set(scores.values()) == {0}  # the open question is graded by hand
    assert "✗ exercise 3.2: for m = " in (
        tmp_path / "autograded" / "someone" / name / f"{name}.ipynb"
    ).read_text("utf-8")
