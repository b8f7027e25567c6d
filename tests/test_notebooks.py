"""Every chapter as a reader runs it: an empty folder, the wheel, and what its `book` and `offline` extras ask for."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py"))


@pytest.fixture(scope="module")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs, and links to what the extras ask for: nothing else exists there."""
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    for name in asked_for("rope-lab", ("book", "offline")) - {"rope-lab"}:
        files = metadata.files(name) or []
        for top in {file.parts[0] for file in files} - {".."}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    return folder


def asked_for(distribution: str, extras: tuple[str, ...]) -> set[str]:
    """Names of the distribution and of everything it needs with these extras, as they are installed here."""
    found: set[str] = set()
    waiting = [(distribution, extras)]
    while waiting:
        name, chosen = waiting.pop()
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another platform
            continue
        found.add(normal(name))
        for need in map(Requirement, needs):
            wanted = need.marker is None or any(
                need.marker.evaluate({"extra": extra}) for extra in (*chosen, "")
            )
            if wanted and normal(need.name) not in found:
                waiting.append((need.name, tuple(need.extras)))
    return found


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
def test_chapter_runs_with_the_wheel_alone(chapter: str, installed: Path, tmp_path: Path):
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
