"""Settings for every test: one thread, the same hypothesis examples on every run; and the wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("same every run", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=2_000)  # pytest --hypothesis-profile=search
settings.load_profile("same every run")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy of what git would hold, so that no build folder of an earlier one leaks in."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in [
        *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")),
        *(p for p in (ROOT / "rope_lab").rglob("*") if p.is_file() and "__pycache__" not in p.parts),
        *(ROOT / "notebooks").glob("[0-9]*.py"),
        ROOT / "book" / "references.bib",
        ROOT / "tests" / "conftest.py",  # must not get in
    ]:
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(target),
    ]
    subprocess.run([*build, str(source)], check=True, capture_output=True, timeout=240)
    (built,) = target.glob("*.whl")
    return zipfile.ZipFile(built)
