"""What the workflows and the development container name exists here: they run elsewhere, where nobody looks at once."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NAMED = re.findall(r"^([\w./ -]+):", (ROOT / "Makefile").read_text(), re.M)  # a rule may have several targets
TARGETS = {name for names in NAMED for name in names.split()} | {".venv/.ready"}


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for file in WORKFLOWS:
        for name, job in yaml.safe_load(file.read_text("utf-8"))["jobs"].items():
            yield file.stem, name, job


def commands() -> Iterator[str]:
    for _, _, job in jobs():
        yield from (step["run"] for step in job["steps"] if "run" in step)
    yield json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())["postCreateCommand"]


def missing(command: str) -> list[str]:
    """Targets, files and extras that a command names and that are not here."""
    extras = optional_extras()
    said = re.sub(r"\\\n\s*", " ", command)
    found = [f"make {name}" for name in re.findall(r"\bmake ([\w./-]+)", said) if name not in TARGETS]
    for listed in re.findall(r"(?:\.|rope-lab)\[([\w,]+)\]", said):
        found += [f"extra {name}" for name in listed.split(",") if name not in extras]
    for word in re.findall(
        r"""(?<![\w$}/])(?:--ignore=)?((?:\.github|tests|book|rope_lab)/[\w./-]+)""", said
    ):
        found += [] if (ROOT / word).exists() else [word]
    return found


def optional_extras() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    part = text[text.index("[project.optional-dependencies]") : text.index("[project.scripts]")]
    return set(re.findall(r"^(\w+) = \[", part, re.M))


def test_what_a_command_names_is_here():
    found = list(commands())
    assert len(found) > 20
    assert [what for command in found for what in missing(command)] == []


def test_what_is_not_here_is_found():
    assert missing("make sute") == ["make sute"]
    assert missing('pip install ".[book,kers]"') == ["extra kers"]
    assert missing("pytest --ignore=tests/test_hous.py \\\n  tests/test_house.py") == ["tests/test_hous.py"]
    assert missing(".github/run_chapter.sh x") == [".github/run_chapter.sh"]


@pytest.mark.parametrize("command", list(commands()))
def test_bash_can_read_it(command: str):
    if not (bash := shutil.which("bash")):
        pytest.skip("there is no bash")
    plain = re.sub(r"\$\{\{.*?\}\}", "X", command)
    done = subprocess.run([bash, "-n"], input=plain, capture_output=True, text=True, timeout=20)
    assert not done.returncode, done.stderr


def test_jobs_wait_for_jobs_and_use_what_their_matrix_has():
    for file, name, job in jobs():
        needs = job.get("needs", [])
        others = {other for where, other, _ in jobs() if where == file}
        assert set([needs] if isinstance(needs, str) else needs) <= others, (file, name)
        matrix = job.get("strategy", {}).get("matrix", {})
        rows = set(matrix) | {key for row in matrix.get("include", []) for key in row}
        assert set(re.findall(r"matrix\.(\w+)", json.dumps(job))) <= rows, (file, name)
        assert 0 < job.get("timeout-minutes", 30) <= 120, (file, name)


def test_every_python_and_system_is_tried_and_what_rots_once_a_week():
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    matrix = ci["jobs"]["package"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.10", "3.11", "3.12", "3.13"]
    systems = {*matrix["os"], *(row["os"] for row in matrix["include"])}
    assert {name.partition("-")[0] for name in systems} == {"ubuntu", "windows", "macos"}
    weekly = yaml.safe_load((ROOT / ".github/workflows/weekly.yml").read_text("utf-8"))
    assert weekly[True]["schedule"]  # YAML reads the key `on` as true
    (report,) = [job for job in weekly["jobs"].values() if "needs" in job]
    assert set(report["needs"]) == {name for name, job in weekly["jobs"].items() if job is not report}


def test_names_of_packages_are_requirements():
    for command in commands():
        for rest in re.findall(r"\bpip install (.*)", command):
            for word in re.findall(r"[^\s\"']+", rest):
                if re.match(r"[a-z]", word) and "/" not in word:
                    Requirement(word)


@pytest.fixture
def status() -> Any:
    spec = importlib.util.spec_from_file_location("weekly_status", ROOT / ".github" / "status.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_told_what_failed_and_no_more_when_nothing_does(status: Any, tmp_path: Path):
    shipped = ROOT / "book" / "_static" / "status.js"
    script = tmp_path / "status.js"
    script.write_text(shipped.read_text("utf-8"), "utf-8")
    needs = {"newest": {"result": "success"}, "book": {"result": "failure"}, "colab": {"result": "skipped"}}
    said = status.sentence(needs)
    assert said.endswith("needs failed in: book.")
    status.write(script, f'{said} "\\1"', "https://example.org/1")
    (line,) = [line for line in script.read_text("utf-8").splitlines() if line.startswith("const ropeStatus")]
    assert json.loads(line.removeprefix("const ropeStatus = ").removesuffix(";")) == {
        "said": f'{said} "\\1"',
        "link": "https://example.org/1",
    }
    assert status.sentence({"newest": {"result": "success"}}) == ""
    status.write(script, "", "")
    assert script.read_text("utf-8") == shipped.read_text("utf-8")
    script.write_text("", "utf-8")
    with pytest.raises(SystemExit, match="one line that begins with"):
        status.write(script, "", "")


def test_a_script_of_the_workflows_is_run_by_one():
    said = "".join(file.read_text("utf-8") for file in WORKFLOWS)
    for script in (ROOT / ".github").glob("*.*"):
        assert f"/{script.name}" in said, script.name
