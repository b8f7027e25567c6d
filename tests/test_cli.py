"""The command line: what it prints; every bad input is one line on stderr, exit code 2 and nothing on the disk."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from runs import TEXT, corpus, tiny

import rope_lab
from rope_lab import arguments
from rope_lab.__main__ import main
from rope_lab.training import PRESETS, checkpoint, train

TINY = ["train", "--preset", "smoke", "--text", "words", "--steps", "6", "--batch", "4", "--context", "16"]
TINY += ["--dim", "16", "--depth", "1", "--heads", "2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a text, a run on it, and files that are no run."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "words").write_text(TEXT, encoding="utf-8")
    (folder / "short").write_text(TEXT[:30], encoding="utf-8")
    (folder / "shorter").write_text("once", encoding="utf-8")
    (folder / "latin").write_bytes(b"caf\xe9 " * 100)
    (folder / "other").write_text(TEXT[::-1], encoding="utf-8")
    (folder / "monotone").write_text("a" * 1_000, encoding="utf-8")
    os.mkfifo(folder / "pipe") if hasattr(os, "mkfifo") else (folder / "pipe").mkdir()
    (folder / "empty").mkdir()
    train(tiny(), corpus(), folder=folder / "run", quiet=True)
    (folder / "cut").mkdir()
    (folder / "cut" / checkpoint.FILE).write_bytes((folder / "run" / checkpoint.FILE).read_bytes()[:-1])
    train(tiny(position="learned"), corpus(), folder=folder / "learned", quiet=True)
    found = checkpoint.load(folder / "run")
    run = found.run
    spoiled = {name: {key: run[key] for key in run if key != name} for name in ("vocab", "corpus", "step")}
    spoiled |= {"nothing": {}, "list": [], "history": run | {"history": None}}
    spoiled |= {name: run | {name: run[name] | {"colour": 1}} for name in ("config", "model")}
    spoiled |= {
        "backwards": run | {"step": -3},
        "beyond": run | {"step": 7},
        "timeless": run | {"seconds": float("nan")},
        "letters": run | {"vocab": run["vocab"][:-1]},
        "doubled": run | {"vocab": run["vocab"][0] + run["vocab"]},
        "point": run | {"history": [{"step": 1}]},
        "again": run | {"history": run["history"] * 2},
        "loss": run | {"recent": [float("inf")]},
    }
    for name, record in spoiled.items():
        forge(folder / name, found, run=json.dumps(record))
    forge(folder / "misfit", found, {"model.head.weight": torch.zeros(2, 2)})
    forge(folder / "nan", found, {"model.head.weight": found.tensors["model.head.weight"] * float("nan")})
    forge(folder / "deep", found, run="[" * 100_000 + "]" * 100_000)
    forge(
        folder / "flipped", found, {"model.head.weight": -found.tensors["model.head.weight"]}, sha256="0" * 64
    )
    remembered = next(name for name in found.tensors if name.endswith(".momentum"))
    forge(folder / "forgetful", found, {remembered: found.tensors[remembered][:1].clone()})
    forge(folder / "seedless", found, {"random.cpu": torch.zeros(3, dtype=torch.uint8)})
    return folder


def forge(place, found, tensors=None, **metadata):
    """A checkpoint that nothing wrote: with other tensors or another record, and the digest that fits them."""
    tensors = found.tensors | (tensors or {})
    plain = {"run": json.dumps(found.run), "random": json.dumps(found.run["random"])}
    plain["sha256"] = checkpoint.digest(tensors)
    place.mkdir(exist_ok=True)
    safetensors.torch.save_file(tensors, place / checkpoint.FILE, plain | metadata)


@pytest.fixture(autouse=True)
def _inside(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("ROPE_LAB_DATA", str(home / "no such folder"))


def call(capsys, *arguments):
    """Exit code, stdout and stderr."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


def tree(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    "line", ["train --resume", "train --preset", "train --run", "train --text", "sample"]
)
def test_an_empty_argument_is_no_default(capsys, home, line):
    """An unset variable of the shell: `--resume "$RUN"` must not start a run of its own."""
    before = tree(home)
    command, *flag = line.split()
    code, out, err = call(capsys, command, *flag, "")
    assert (code, out) == (2, "")
    assert err == f"rope-lab {command}: {flag[0] if flag else 'run'} must not be empty\n"
    assert tree(home) == before


BAD = [
    ("", "arguments are required: train | sample | evaluate"),
    ("dance", "invalid choice: 'dance'"),
    ("train --preset huge", "preset must be one of smoke, cpu, laptop, gpu, got 'huge'"),
    ("train --steps none", "--steps: invalid int value: 'none'"),
    ("train --steps 0", "train: --steps must be a positive integer, got 0"),
    ("train --seed -1", "seed must be an integer of at least 0, got -1"),
    ("train --seed 9223372036854775808", "seed must be below 2**63"),
    ("train --architecture gpt", "architecture must be one of roformer, llama, got 'gpt'"),
    ("train --position spiral", "position must be one of"),
    ("train --heads 7", "heads must divide dim=80, got 7"),
    ("train --dropout 1", "dropout must lie in [0, 1), got 1.0"),
    ("train --accumulate 3", "accumulate must divide batch=16, got 3"),
    ("train --accumulate 0", "accumulate must be a positive integer, got 0"),
    (
        "train --dim 1000000 --text words",
        "lower --batch (now 16) or raise --accumulate (now 1), lower --context",
    ),
    ("train --lr nan", "lr must be finite and not negative, got nan"),
    ("train --lr 1e300", "lr must be at most 1e15, got 1e+300"),
    ("train --device tpu --text words", "device must be one of"),
    ("train --text short --run new", "--text must have 256 characters to train on (two contexts), got 27"),
    ("train --text shorter", "--text must be a file of 20 characters or more in UTF-8, got 'shorter'"),
    ("train --text latin", "--text must be a file of 20 characters or more in UTF-8, got 'latin'"),
    ("train --text missing", "--text must be a file of 20 characters or more in UTF-8, got 'missing'"),
    ("train --text empty", "--text must be a file of 20 characters or more in UTF-8, got 'empty'"),
    ("train --run new", "ROPE_LAB_DATA"),
    ("train --text words --run run", "--run must hold no run yet: resume it or choose another, got 'run'"),
    ("train --text words --run words", "--run must be one that can be made, got 'words': File exists"),
    ("train --text words --run missing/../run", "--run must hold no run yet: resume it or choose another"),
    ("train --resume empty", "train: --resume must be a folder that holds checkpoint.safetensors"),
    ("train --resume cut --text words", "--resume must be a whole checkpoint of rope_lab"),
    ("train --resume misfit --text words", "head.weight must have shape"),
    ("train --resume run --steps 9", "--resume cannot be combined with --steps"),
    ("train --resume run --run new", "--resume cannot be combined with --run"),
    ("train --resume run --text other", "--text must be words"),
    ("train --resume forgetful --text words", ".momentum must have shape"),
    ("train --resume seedless --text words", "random states must be those of the generators"),
    ("train --st 6 --text words", "unrecognized arguments: --st 6"),
    ("train --steps ٣ --text words", "--steps: invalid int value: '٣'"),
    ("train --steps 1_0 --text words", "--steps: invalid int value: '1_0'"),
    ("train --lr 1_0.5 --text words", "--lr: invalid float value: '1_0.5'"),
    ("train --text monotone", "--text must have two distinct characters or more, got only 'a'"),
    (
        "train --text pipe",
        "--text must be a file of 20 characters or more in UTF-8, got 'pipe': it is not a regular",
    ),
    ("bench --out words", "--out must be a folder that can be made and written to, got 'words': File exists"),
    ("bench --out words/new", "--out must be a folder that can be made and written to, got 'words/new': "),
    ("reproduce presets --seeds 10001", "--seeds must be at most 10000, got 10001"),
    ("sample", "arguments are required: run"),
    (
        "sample nowhere",
        "run must be a folder that holds checkpoint.safetensors, or such a file, got 'nowhere'",
    ),
    ("sample empty", "sample: run must be a folder that holds checkpoint.safetensors"),
    ("sample words", "run must be a whole checkpoint of rope_lab"),
    ("sample cut", "run must be a whole checkpoint of rope_lab"),
    ("sample misfit", "head.weight must have shape"),
    ("sample run --temperature -1", "temperature must be finite and not negative, got -1.0"),
    ("sample run --temperature hot", "--temperature: invalid float value: 'hot'"),
    ("sample run --top-k 0", "sample: --top-k must be at least 1, got 0"),
    ("sample run --top-p 2", "--top-p must lie in (0, 1], got 2.0"),
    ("sample run --seed -1", "seed must lie in [0, 2**63), got -1"),
    ("sample run --characters -1", "--characters must not be negative, got -1"),
    ("sample run --prompt é", "--prompt must consist of the"),
    ("sample run --device tpu", "device must be one of"),
    ("evaluate nowhere", "run must be a folder that holds checkpoint.safetensors"),
    ("evaluate misfit --text words", "head.weight must have shape"),
    ("evaluate run --text other", "--text must be the text the run was trained on, words, got other"),
    ("evaluate run", "ROPE_LAB_DATA"),
    (
        "evaluate learned --text words --lengths 16 17",
        "--lengths must be at most 16, the number of learned positions, got 17",
    ),
    ("export run", "arguments are required: folder"),
    ("export nowhere new", "run must be a folder that holds checkpoint.safetensors"),
    ("export cut new", "run must be a whole checkpoint of rope_lab"),
    ("export run new", "qk_norm must be False in a Llama, got True"),
    ("info empty", "run must be a folder that holds checkpoint.safetensors"),
    ("info words", "run must be a whole checkpoint of rope_lab"),
]
SPOILED = {
    "nothing": "it has no config of type dict",
    "list": "it has no run in it",
    "vocab": "it has no vocab of type str",
    "corpus": "it has no corpus of type dict",
    "step": "it has no step of type int",
    "history": "it has no history of type list",
    "config": "unexpected keyword argument 'colour'",
    "model": "unexpected keyword argument 'colour'",
    "backwards": "its step is -3 of 6",
    "beyond": "its step is 7 of 6",
    "timeless": "its seconds are nan",
    "letters": "its vocab has",
    "doubled": "its vocab is not sorted",
    "point": "a point of its history has other fields",
    "again": "its history has the steps",
    "loss": "a recent loss is not finite",
    "nan": "model.head.weight is not finite",
    "deep": "recursion",
    "flipped": "its tensors are not those that were written",
}
BAD += [
    (line, f"{called} must be a whole checkpoint of rope_lab, got {str(Path(name, checkpoint.FILE))!r}: ")
    for name in SPOILED
    for line, called in (
        (f"sample {name}", "run"),
        (f"evaluate {name} --text words", "run"),
        (f"train --resume {name} --text words", "--resume"),
    )
]
BAD += [(f"info {name}", said) for name, said in SPOILED.items()]


@pytest.mark.parametrize(("line", "said"), BAD, ids=[line or "nothing" for line, _ in BAD])
def test_bad_input_is_one_line_exit_code_2_and_nothing_on_the_disk(capsys, home, line, said):
    before = tree(home)
    code, out, err = call(capsys, *line.split())
    assert code == 2
    assert out == ""
    assert said in err
    assert err.startswith("rope-lab")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert tree(home) == before


def test_an_empty_prompt_is_named(capsys):
    assert call(capsys, "sample", "run", "--prompt", "")[::2] == (
        2,
        "rope-lab sample: --prompt must hold at least one token, got none\n",
    )


def test_train_evaluate_sample_info(capsys, tmp_path):
    run = str(tmp_path / "run")
    code, out, err = call(capsys, *TINY, "--run", run)
    assert (code, err) == (0, "")
    *lines, last = out.splitlines()
    assert [line.split()[1] for line in lines] == ["2/6", "3/6", "5/6", "6/6"]
    loss = re.fullmatch(
        rf"validation loss (\d\.\d{{4}}) nats per character, \d+ s; rope-lab sample {re.escape(run)}", last
    )[1]
    count = len(corpus().val) - 1
    assert call(capsys, "evaluate", run, "--text", "words") == (
        0,
        f"validation loss {loss} nats per character, {count} characters of words\n",
        "",
    )
    code, out, err = call(capsys, "evaluate", run, "--text", "words", "--lengths", "16", "40")
    assert (code, err) == (0, "")
    title, _, *rows = out.splitlines()
    assert title == "trained on 16 characters at once; nats per character of words"
    assert [row.split()[0] for row in rows] == ["16", "40"]
    assert float(rows[0].split()[1]) == pytest.approx(float(loss), abs=0.05)  # without the short last segment
    code, out, err = call(capsys, "evaluate", run, "--text", "words", "--lengths", "0")
    assert (code, out) == (2, "")
    assert err.startswith("rope-lab evaluate: --lengths must lie between 1 and")
    code, out, err = call(capsys, "info", run)
    assert (code, err) == (0, "")
    shown = dict(line.split(": ", 1) for line in out.splitlines())
    assert json.loads(shown["val_loss"]) == pytest.approx(float(loss), abs=1e-4)
    assert json.loads(shown["corpus"]) == {"name": "words", "sha256": corpus().sha256}
    assert json.loads(shown["config"])["steps"] == 6
    assert json.loads(shown["versions"])["torch"] == torch.__version__


def test_the_default_folder_is_named_after_the_preset(capsys, tmp_path, monkeypatch, home):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").write_bytes((home / "words").read_bytes())
    assert call(capsys, *TINY)[0] == 0
    assert (tmp_path / "runs" / "smoke" / checkpoint.FILE).is_file()


def test_run_has_a_name_that_torchrun_leaves_alone_and_switches_have_two_sides(capsys, tmp_path):
    assert (
        call(capsys, *TINY, "--folder", str(tmp_path / "run"), "--accumulate", "2", "--no-bfloat16")[0] == 0
    )
    shown = call(capsys, "info", str(tmp_path / "run"))[1]
    config = json.loads(re.search(r"^config: (.*)$", shown, re.M)[1])
    assert (config["accumulate"], config["bfloat16"], config["compile"]) == (2, False, False)
    names = {line.split(":")[0] for line in shown.splitlines()}
    assert {"step", "seconds", "train_loss", "val_loss", "parameters"} <= names  # the result
    assert {"corpus", "device", "machine", "threads", "workers", "versions"} <= names  # the provenance


def test_sample_needs_the_checkpoint_alone_and_the_seed_fixes_it(capsys, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(Path("run", checkpoint.FILE).read_bytes())
    command = [
        "sample",
        str(tmp_path / "x.safetensors"),
        "--prompt",
        "the ",
        "--characters",
        "40",
        "--top-k",
        "5",
    ]
    code, out, err = call(capsys, *command)
    assert (code, err) == (0, "")
    assert out.startswith("the ")
    assert len(out) == 4 + 40 + 1
    assert call(capsys, *command)[1] == out
    assert call(capsys, *command, "--seed", "1")[1] != out
    assert call(capsys, *command, "--temperature", "0")[0] == 0


def test_the_likeliest_character_is_drawn_however_it_is_asked_for(capsys):
    def text(*options):
        code, out, err = call(capsys, "sample", "run", "--characters", "60", *options)
        assert (code, err) == (0, "")
        return out

    likeliest = text("--temperature", "0")
    assert likeliest == text("--top-k", "1") == text("--top-p", "1e-9") == text("--temperature", "1e-9")
    assert text("--temperature", "0", "--seed", "5") == likeliest
    warm = text("--temperature", "1.5")
    assert warm == text("--temperature", "1.5", "--top-k", "1000", "--top-p", "1", "--seed", "0")
    assert len({likeliest, warm, text("--temperature", "1.5", "--top-p", "0.5"), text("--top-k", "3")}) == 4


def test_a_llama_trains_goes_on_measures_writes_and_leaves(capsys, tmp_path):
    run, folder = str(tmp_path / "run"), tmp_path / "llama"
    assert call(capsys, *TINY, "--architecture", "llama", "--run", run)[0] == 0
    assert checkpoint.load(run).run["model"]["activation"] == "swiglu"
    code, out, err = call(capsys, "evaluate", run, "--text", "words")
    assert (code, err) == (0, "")
    assert out.startswith("validation loss ")
    assert call(capsys, "sample", run, "--characters", "20")[::2] == (0, "")
    assert call(capsys, "train", "--resume", run, "--text", "words")[0] == 0
    code, out, err = call(capsys, "export", run, str(folder))
    assert (code, err) == (0, "")
    names = ("model.safetensors", "config.json", "characters.json")
    assert out.splitlines() == [str(folder / name) for name in names]
    assert json.loads((folder / "characters.json").read_text("utf-8")) == [*corpus().vocab]
    before = tree(tmp_path)
    for target in (folder, folder / "config.json"):
        code, out, err = call(capsys, "export", run, str(target))
        assert (code, out) == (2, "")
        assert err == f"rope-lab export: folder must be new or empty, got {str(target)!r}\n"
    assert tree(tmp_path) == before


def test_info_without_a_run_shows_the_presets(capsys):
    code, out, _ = call(capsys, "info")
    assert code == 0
    assert re.findall(r"^preset (\w+)$", out, re.M) == [*PRESETS] == [*arguments.PRESETS]
    assert re.findall(r"^  steps +(\d+)$", out, re.M) == [str(config.steps) for config in PRESETS.values()]


def test_a_text_without_a_new_line_is_sampled_from_its_first_character(capsys, tmp_path):
    (tmp_path / "line").write_text(
        TEXT.replace("\n", " "), encoding="utf-8-sig"
    )  # and the mark is no character
    run = str(tmp_path / "run")
    assert call(capsys, *TINY, "--text", str(tmp_path / "line"), "--run", run)[0] == 0
    assert checkpoint.load(run).run["vocab"] == "".join(sorted(set(TEXT) - {"\n"}))
    code, out, err = call(capsys, "sample", run, "--characters", "5")
    assert (code, err, out[0], len(out)) == (0, "", " ", 7)


def test_the_checkpoint_itself_can_be_resumed(capsys, tmp_path):
    shutil.copytree("run", tmp_path / "a run")
    file = str(tmp_path / "a run" / checkpoint.FILE)
    code, out, err = call(capsys, "train", "--resume", file, "--text", "words")
    assert (code, err) == (0, "")
    assert out.endswith(f"rope-lab sample '{tmp_path / 'a run'}'\n")
    assert sorted(path.name for path in (tmp_path / "a run").iterdir()) == [
        checkpoint.FILE,
        "log.jsonl",
        "run.json",
    ]


def test_help_needs_no_torch(tmp_path):
    code = "import sys; from rope_lab.__main__ import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_help_and_version(capsys):
    for command in ([], ["train"], ["sample"], ["evaluate"], ["export"], ["info"]):
        code, out, err = call(capsys, *command, "--help")
        assert (code, err) == (0, "")
        assert "usage: rope-lab" in out
    assert call(capsys, "--version")[:2] == (0, f"{rope_lab.__version__}\n")
