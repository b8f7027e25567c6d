"""The notebooks of a course: read without the book's tools as the book reads them, without solutions, and gradable."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from pybtex.database import parse_file

from rope_book import silence_future_typing
from rope_book.chapters import read
from rope_book.citing import Citations
from rope_lab.__main__ import main
from rope_lab.exercises import chapters, exercises, exporting, notebooks, pages, submission

silence_future_typing()
ROOT = Path(__file__).resolve().parents[2]
FOUND = pages.chapters()
BY_NAME = pytest.mark.parametrize("chapter", FOUND, ids=lambda chapter: chapter.name)
MARKUP = re.compile(r"\{[a-z:]+\}`|^ *:{3,}|`{3}\{|^\([\w.-]+\)=|^:label:", re.MULTILINE)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """All notebooks, for students and for teachers."""
    folder = tmp_path_factory.mktemp("course")
    for kind in ("student", "solutions"):
        assert main(["exercises", f"--{kind}", str(folder / kind)]) == 0
    return folder


def cells(path: Path) -> list[Any]:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook.cells


@BY_NAME
def test_a_chapter_is_read_as_jupytext_reads_it(chapter):
    text = (ROOT / "notebooks" / f"{chapter.name}.py").read_text("utf-8")
    theirs = [(cell.cell_type, cell.source, cell.metadata) for cell in read(text).cells]
    for cell in theirs:
        cell[2].pop("lines_to_next_cell", None)
    assert [(cell.kind, cell.source, cell.metadata) for cell in pages.read(text)] == theirs
    for kind in ("code", "markdown"):  # cut, and nothing lost but the lines that end an exercise
        whole = re.sub(
            r"`{3}\{\w+-end\}\n`{3}", "", "\n".join(source for of, source, _ in theirs if of == kind)
        )
        assert " ".join(c.source for c in chapter.cells if c.kind == kind).split() == whole.split()


@BY_NAME
def test_equations_have_the_numbers_of_their_labels(chapter):
    book = pages.book(FOUND)
    text = "\n".join(cell.source for cell in chapter.cells)
    for label in re.findall(r"\{eq\}`([^`]+)`", text):
        assert label == f"eq-{book.number(label).replace('.', '-')}"
    for label in re.findall(r"\{numref\}`([^`]+)`", text):
        assert re.fullmatch(r"\d+\.\d+", book.number(label))


def test_citations_read_as_in_the_published_notebooks():
    file = ROOT / "book" / "references.bib"
    theirs = Citations(dict(parse_file(str(file)).entries))
    ours = pages._works(file.read_text("utf-8"))
    assert ours.keys() == theirs.entries.keys()
    for role in ("cite:t", "cite:p"):
        for keys in [*ours, "su2021, nobody", "su2021,press2022"]:
            assert pages.cite(ours, role, keys) == theirs(role, keys)


@BY_NAME
def test_a_students_notebook_asks_everything_and_answers_nothing(chapter, written):
    found = cells(written / "student" / f"{chapter.name}.ipynb")
    text = "\n".join(cell.source for cell in found if cell.cell_type == "markdown")
    assert not MARKUP.search(text)
    assert "olution" not in "".join(re.findall(r"^#.*$", text, re.MULTILINE))
    assert "solutions are folded" not in text
    headings = re.findall(r"^### Exercise ([\d.]+)", text, re.MULTILINE)
    assert headings == [f"{chapter.number}.{place}" for place in range(1, len(chapter.labels()) + 1)]
    code = "\n\n".join(cell.source for cell in found if cell.cell_type == "code")
    checked = {task.number: task for task in exercises(chapter.number)}
    for number in headings:
        if number in checked:
            name = checked[number].name
            assert len(re.findall(rf"^def {name}\(", code, re.MULTILINE)) == 1
            assert code.count(f"\ncheck_{name}({name})") == 1
        else:
            assert f"*Your answer to exercise {number}:*" in text
    whole = "\n".join(cell.source for cell in cells(written / "solutions" / f"{chapter.name}.ipynb"))
    assert not MARKUP.search(re.sub(r"(?s)`{3}.*?`{3}", "", whole))
    for label in chapter.labels():
        for cell in chapter.cells:
            if cell.of == label.replace("ex-", "sol-") and cell.kind == "code":
                assert cell.source in whole
                assert cell.source not in code


@pytest.mark.parametrize("number", chapters())
def test_a_students_notebook_with_the_solutions_filled_in_is_right(number, written, tmp_path):
    (chapter,) = (chapter for chapter in FOUND if chapter.number == number)
    path = written / "student" / f"{chapter.name}.ipynb"
    answers = {
        q.function: q.answer for q in exporting.questions(chapter, pages.book(FOUND), chapter.labels())
    }
    found = json.loads(path.read_text("utf-8"))
    for cell in found["cells"]:
        if checked := cell["cell_type"] == "code" and exporting.CHECKED.search(cell["source"]):
            place = cell["source"].index(f"def {checked['function']}(")
            cell["source"] = cell["source"][:place] + answers[checked["function"]]
    (tmp_path / path.name).write_text(json.dumps(found), encoding="utf-8")
    handed_in = submission.read(tmp_path / path.name)
    names: dict[str, Any] = {"__name__": "answer"}
    exec(handed_in.code, names)
    for task in exercises(number):
        assert handed_in.lacks(task.name) == ""
        assert task(names[task.name], seed=21)


@BY_NAME
def test_an_assignment_brings_what_its_solutions_use(chapter):
    """The code of the assignment alone: the helpers, then every stub and every solution."""
    asked = [q for q in exporting.questions(chapter, pages.book(FOUND), chapter.labels()) if q.function]
    code = "\n".join(f"{q.stub}\n{q.answer}" for q in asked)
    names: dict[str, Any] = {"__name__": "answer"}
    exec(exporting.helpers(chapter, code) + "\n" + code, names)
    assert {q.function for q in asked} == {task.name for task in exercises(chapter.number)}
    for task in exercises(chapter.number):
        assert task(names[task.name], seed=22)


def test_an_open_question_is_marked_by_hand():
    question = exporting.Question("ex-03-9", "### Exercise 3.9\n\nWhy?", "", "Because.", "")
    kinds = [(cell["cell_type"], cell["source"]) for cell in exporting._otter(question, 5)]
    assert kinds[0][1].endswith("manual: true")
    assert ("markdown", "Because.") in kinds
    text, answer = exporting._nbgrader(question, 5)
    assert text["source"].startswith("### Exercise 3.9")
    assert answer["metadata"]["nbgrader"]["grade"]
    assert "Because." in answer["source"]


def test_one_exercise_of_a_chapter(tmp_path, capsys):
    assert main(["exercises", "--student", str(tmp_path / "a"), "--exercises", "05.2,6"]) == 0
    files = sorted(tmp_path.glob("a/*"))
    assert [file.name[:2] for file in files] == ["05", "06"]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    five, six = (path.read_text("utf-8") for path in files)
    assert re.findall(r"### Exercise ([\d.]+)", five) == ["5.2"]
    assert len(re.findall(r"### Exercise ([\d.]+)", six)) == len(FOUND[4].labels())


def test_the_first_cell_installs_what_it_is_told(tmp_path, monkeypatch):
    line = ["exercises", "--exercises", "5", "--install", "https://example.org/it's.whl"]
    assert main([*line, "--student", str(tmp_path / "a")]) == 0
    setup = cells(tmp_path / "a" / "05_layouts.ipynb")[0].source
    (package,) = re.findall(r"^    package = (.*)$", setup, re.MULTILINE)
    assert package == repr("https://example.org/it's.whl")
    compile(setup, "setup", "exec")
    known = {"url": "https://example.org/book", "vcs_info": {"commit_id": "abc"}}

    class Known:
        def read_text(self, name):
            return json.dumps(known)

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Known())
    assert notebooks.installed_from() == "rope-lab[book] @ git+https://example.org/book@abc"
    needs = notebooks.extras((ROOT / "notebooks" / "17_keras.py").read_text("utf-8"))
    assert notebooks.installed_from(needs) == "rope-lab[book,keras] @ git+https://example.org/book@abc"
    del known["vcs_info"]
    assert notebooks.installed_from() == ""
    assert "rope_lab is not installed in this kernel" in notebooks.setup_cell()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--student file", "the folder for the notebooks must be new or empty, got 'file'"),
        ("--solutions full", "the folder for the notebooks must be new or empty, got 'full'"),
        ("--nbgrader full --seed a", "the folder for the notebooks must be new or empty, got 'full'"),
        ("--student file/new", "Not a directory: file/new"),
        ("--student new --exercises 99.1", "an exercise is named as in 05 or 05.2, of chapters 01, 02"),
        ("--student new --exercises 3.99", "got '3.99'"),
        ("--student new --exercises 03,,5", "got ''"),
        ("--student new --exercises x", "got 'x'"),
        ("--student new --seed a", "--seed is for --otter and --nbgrader"),
        ("--otter new", "--otter needs --seed"),
        ("--nbgrader new", "--nbgrader needs --seed"),
        ("--nbgrader new --seed=", "--seed must not be empty"),
        ("--student new --otter other --seed a", "not allowed with argument"),
        ("--seed a", "one of the arguments --student --solutions --otter --nbgrader is required"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(line, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x", encoding="utf-8")
    Path("full").mkdir()
    Path("full", "mine.txt").write_text("x", encoding="utf-8")
    try:
        code = main(["exercises", *line.split()])
    except SystemExit as stop:
        code = stop.code
    told = capsys.readouterr()
    assert (code, told.out, told.err.count("\n")) == (2, "", 1)
    assert said in told.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "mine.txt"]


def outside(site: Path, *line: str) -> subprocess.CompletedProcess[str]:
    """The command of another installation, where no torch can be imported."""
    code = "import sys; sys.modules['torch'] = None; from rope_lab.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-S", "-c", code, "exercises", *line]
    environment = {"PYTHONPATH": str(site), "PYTHONUTF8": "1"}
    return subprocess.run(
        command, cwd=site.parent, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.slow
def test_the_wheel_writes_them_too_and_needs_no_torch_for_it(wheel: zipfile.ZipFile, written, tmp_path):
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel.filename)], check=True, capture_output=True, timeout=120)
    done = outside(target, "--student", "mine")
    assert done.returncode == 0, done.stderr
    for path in (written / "student").iterdir():
        assert (tmp_path / "mine" / path.name).read_text("utf-8") == path.read_text("utf-8")


def test_a_package_without_the_chapters_says_so(wheel: zipfile.ZipFile, tmp_path):
    wheel.extractall(tmp_path / "site")
    done = outside(tmp_path / "site", "--student", "mine")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "the chapters are not installed: install rope_lab from its wheel" in done.stderr


@pytest.mark.slow
def test_checking_an_answer_loads_no_training(tmp_path):
    (tmp_path / "a.py").write_text("def half_order(dim, rotary_dim):\n    return 1\n", encoding="utf-8")
    code = "import sys; from rope_lab.__main__ import main; code = main(['check', '5.1', 'a.py']); "
    code += "print(code, [name for name in sys.modules if name.startswith('rope_lab.training')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "1 []", done.stderr
