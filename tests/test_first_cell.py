"""The first cell of a published notebook, run by a real pip beside a torch of another version: that torch stays."""

from __future__ import annotations

import os
import subprocess
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from rope_lab.exercises.notebooks import setup_cell


def write_wheel(folder: Path, name: str, version: str, *needs: str) -> Path:
    """A package that is one empty module."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    said = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    said += "".join(f"Requires-Dist: {need}\n" for need in needs)
    file = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{module}/__init__.py", f"__version__ = {version!r}\n")
        archive.writestr(f"{info}/METADATA", said)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """The Python of an environment that has pip and nothing else."""
    folder = tmp_path / "kernel"
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # Not by importing pip: that changes which distutils the tests after this one see.
    (packages_of(python) / "pip").symlink_to(Path(str(metadata.distribution("pip").locate_file("pip"))))
    return python


def packages_of(kernel: Path) -> Path:
    return next(kernel.parents[1].rglob("site-packages"))


def run(kernel: Path, shelf: Path) -> subprocess.CompletedProcess[str]:
    """The first cell, where pip finds only what lies on the shelf."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    kept |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf), "PIP_CONFIG_FILE": os.devnull}
    cell = f"{setup_cell('rope-lab')}\nimport rope_lab, torch; print(torch.__version__)"
    return subprocess.run(
        [str(kernel), "-c", cell], env=kept, capture_output=True, text=True, timeout=120, cwd=shelf
    )


def files_of(kernel: Path) -> dict[str, int]:
    """Every file of torch and when it was written."""
    found = (file for file in packages_of(kernel).glob("torch*/*") if file.is_file())
    return {str(file): file.stat().st_mtime_ns for file in found}


@pytest.mark.parametrize(
    ("torch", "needs", "said"),
    [
        ("2.99.0+cu999", "torch>=2.9", ""),
        ("2.8.0+cu999", "torch>=2.9", "torch==2.8.0+cu999"),  # too old for the package
        ("2.99.0+cu999", "torch>=3", "torch==2.99.0+cu999"),  # too old for what the package asks for
    ],
)
def test_the_first_cell_leaves_torch_alone(kernel: Path, tmp_path: Path, torch: str, needs: str, said: str):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with zipfile.ZipFile(write_wheel(tmp_path, "torch", torch)) as installed:
        installed.extractall(packages_of(kernel))
    write_wheel(shelf, "torch", "3.0.0")  # a newer one, for a pip that is free to take it
    write_wheel(shelf, "other", "1.0", needs)
    write_wheel(shelf, "rope-lab", "1.0", "torch>=2.9", "other")
    before = files_of(kernel)
    assert len(before) == 4

    first = run(kernel, shelf)
    assert files_of(kernel) == before
    if said:
        assert first.returncode
        assert f"RuntimeError: pip could not install rope-lab and keep {said}:" in first.stderr
        return
    assert (first.returncode, first.stdout) == (0, f"{torch}\n"), first.stderr
    (packages_of(kernel) / "pip").unlink()  # the second time, pip is not asked
    again = run(kernel, shelf)
    assert (again.returncode, again.stdout) == (0, f"{torch}\n"), again.stderr
    assert files_of(kernel) == before
