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

# Runs before the chapter: nothing that the extras do not ask for can be found, and rope_lab comes from the wheel.
ONLY_EXTRAS = """
import importlib.abc, runpy, sys
folder, chapter, *hidden = sys.argv[1:]
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"{name} is in no extra that a chapter needs", name=name)
sys.meta_path.insert(0, Hide())
sys.path.insert(0, folder)
import rope_lab
assert rope_lab.__file__.startswith(folder), rope_lab.__file__
runpy.run_path(chapter, run_name="__main__")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs."""
    built = tmp_path_factory.mktemp("built")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(built),
    ]
    subprocess.run([*command, str(ROOT)], check=True, timeout=240)
    folder = tmp_path_factory.mktemp("site")
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
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


def others() -> list[str]:
    """Top-level modules of every installed distribution that the extras do not ask for."""
    kept = asked_for("rope-lab", ("book", "offline"))
    modules = metadata.packages_distributions()
    return [top for top, names in modules.items() if not kept & {normal(name) for name in names}]


def test_the_neighbours_and_the_tools_are_hidden():
    assert {"transformers", "keras", "local_attention", "hypothesis", "pytest", "sphinx"} <= set(others())
    assert not {"torch", "numpy", "matplotlib", "sympy", "labml", "pooch", "IPython"} & set(others())


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs_with_the_wheel_alone(chapter: str, installed: Path, tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"ROPE_LAB_PRESET": "smoke", "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONUTF8": "1"}
    source = ROOT / "notebooks" / f"{chapter}.py"
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ONLY_EXTRAS, str(installed), str(source), *others()],
        cwd=empty, env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "✓" in done.stdout
    assert not list(empty.iterdir())  # it leaves nothing behind
