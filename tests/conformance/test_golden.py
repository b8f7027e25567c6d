"""The golden vectors: written again byte for byte, met by this package, and read by both readers."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

import rope_lab
from rope_lab import encodings
from rope_lab.conformance import golden
from rope_lab.conformance.golden import reader, vectors

FOLDER = Path(golden.__file__).parent
PAGE = (Path(__file__).parents[2] / "book" / "coming_from.md").read_text("utf-8")
CASES = {case["name"]: case for case in golden.cases()}
SCALINGS = {
    "linear": lambda s: encodings.PositionInterpolation(s["factor"]),
    "ntk": lambda s: encodings.NTKAware(s["factor"]),
    "yarn": lambda s: encodings.YaRN(s["factor"], s["original_length"], s["beta_fast"], s["beta_slow"]),
    "llama3": lambda s: encodings.Llama3(
        s["factor"], s["low_freq_factor"], s["high_freq_factor"], s["original_length"]
    ),
    "p-rope": lambda s: encodings.PRoPE(s["p"]),
}


def ours(case: dict[str, Any], dtype: torch.dtype) -> np.ndarray:
    """This package's answer, from the base and the scaling and not from the frequencies of the case."""
    x = torch.tensor(case["x"], dtype=dtype)
    heads = (x if x.ndim == 3 else x[None])[:, None].requires_grad_()
    m = torch.tensor(case["positions"])
    layout, kind = case["layout"], case["name"].split("/")[0]
    if kind in ("axial", "m-rope"):
        spectrum = {
            "axial": lambda: encodings.axial_frequencies(8, 2, case["base"]),
            "m-rope": lambda: encodings.mrope_frequencies((2, 1, 1), case["base"]),
        }[kind]()
        out = encodings.RotaryEmbeddingND(spectrum, layout=layout)(heads, heads, coordinates=m)[0]
    elif "side" in case:
        rope = encodings.XPos(8, base=case["base"], layout=layout, scale_base=case["scale_base"])
        out = rope(heads, heads, positions=m)[case["side"] == "key"]
    else:
        scaling = case["scaling"]
        made = SCALINGS[scaling["type"]](scaling) if scaling else None
        rope = encodings.RotaryEmbedding(case["rotary_dim"], base=case["base"], layout=layout, scaling=made)
        where: dict[str, Any] = {"offset": case["offset"]} if "offset" in case else {"positions": m}
        out = rope(heads, heads, **where)[0]
    if case["quantity"] == "gradient":
        (out,) = torch.autograd.grad(out, heads, heads.detach())
    assert out.dtype == dtype
    return out[:, 0].reshape(x.shape).detach().double().numpy()


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_this_package_meets_every_case(dtype, capsys):
    assert golden.check(lambda case: ours(case, getattr(torch, dtype)), dtype) == []
    assert capsys.readouterr().out == ""


def from_frequencies(case: dict[str, Any]) -> np.ndarray:
    """A rotation in numpy alone, by the frequencies of the case: what a reader would write first."""
    m, freqs, pairs = case["positions"], case["frequencies"], case["rotary_dim"] // 2
    angle = m @ freqs if freqs.ndim == 2 else m[..., None] * freqs
    angle = -angle if case["quantity"] == "gradient" else angle
    size = case["factor"] * np.ones_like(angle)
    if "side" in case:
        power = m[:, None] / case["scale_base"] * (1 if case["side"] == "query" else -1)
        size = ((np.arange(pairs) / pairs + 0.4) / 1.4) ** power
    x, out = case["x"], case["x"].copy()
    half = case["layout"] == "half"
    a = slice(0, pairs) if half else slice(0, 2 * pairs, 2)
    b = slice(pairs, 2 * pairs) if half else slice(1, 2 * pairs, 2)
    out[..., a] = size * (x[..., a] * np.cos(angle) - x[..., b] * np.sin(angle))
    out[..., b] = size * (x[..., b] * np.cos(angle) + x[..., a] * np.sin(angle))
    return out


def test_the_frequencies_of_a_case_give_what_is_expected():
    assert golden.check(from_frequencies) == []


def test_both_files_are_written_again_byte_for_byte(tmp_path):
    """From mpmath, by the same command as the page gives."""
    command = [sys.executable, "-m", "rope_lab.conformance.golden", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=Path(rope_lab.__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (FOLDER / path.name).read_bytes(), path.name
    assert {path.name for path in tmp_path.iterdir()} == {"rope-1.json", "rope-1.safetensors"}


def test_the_two_files_hold_the_same_numbers():
    tensors = safetensors.numpy.load_file(FOLDER / "rope-1.safetensors")
    arrays = {
        f"{name}/{key}": one
        for name, case in CASES.items()
        for key, one in case.items()
        if isinstance(one, np.ndarray)
    }
    assert tensors.keys() == arrays.keys()
    for name, one in arrays.items():
        assert np.array_equal(tensors[name], one), name
    with safetensors.safe_open(FOLDER / "rope-1.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata["about"])["version"] == vectors.VERSION
    for plain in json.loads(metadata["cases"]):
        case = CASES[plain["name"]]
        assert plain == {key: one for key, one in case.items() if not isinstance(one, np.ndarray)}


def test_the_files_are_small_versioned_and_complete():
    assert all((FOLDER / f"rope-1.{kind}").stat().st_size < 100_000 for kind in ("json", "safetensors"))
    head = json.loads((FOLDER / "rope-1.json").read_text("utf-8"))
    assert str(head["version"]) in head["changes"]
    assert {name.split("/")[1] for name in CASES} == {"interleaved", "half"}
    kinds = {case["scaling"]["type"] for case in CASES.values() if case["scaling"]}
    assert kinds == SCALINGS.keys()
    reached = {value for case in CASES.values() for value in case["positions"].flatten()}
    assert {0, 1, 10**6, 10**7, -1, 0.5} <= reached


def test_the_scalings_of_the_cases_blend_some_pairs():
    """A case whose pairs are all fast or all slow would not see a wrong ramp."""
    for name in ("yarn/half", "llama3/half"):
        case = CASES[name]
        theta = case["base"] ** (-np.arange(8) / 8)
        ratio = theta / case["frequencies"]
        assert sum(np.isclose(ratio, 1)) >= 2
        assert sum(np.isclose(ratio, 8)) >= 1
        assert sum((ratio > 1.01) & (ratio < 7.9)) >= 1


def from_fields(case: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Frequencies and factor from base and scaling, by what the file says of its fields and nothing else."""
    size, scaling = case["rotary_dim"], case["scaling"] or {"type": None}
    theta, kind = case["base"] ** (-2 * np.arange(size // 2) / size), scaling["type"]
    factor, length = scaling.get("factor"), scaling.get("original_length")
    if kind == "linear":
        return theta / factor, 1.0
    if kind == "ntk":
        return (case["base"] * factor ** (size / (size - 2))) ** (-2 * np.arange(size // 2) / size), 1.0
    if kind == "p-rope":
        return np.where(np.arange(size // 2) < np.floor(scaling["p"] * size / 2), theta, 0), 1.0
    if kind == "yarn":
        d = [
            size * np.log(length / (2 * np.pi * scaling[beta])) / (2 * np.log(case["base"]))
            for beta in ("beta_fast", "beta_slow")
        ]
        low, high = max(np.floor(d[0]), 0), min(np.ceil(d[1]), size - 1)
        r = np.clip((np.arange(size // 2) - low) / (high - low), 0, 1)
        return theta * (1 - r) + r * theta / factor, 0.1 * np.log(factor) + 1
    if kind == "llama3":
        k = (length * theta / (2 * np.pi) - scaling["low_freq_factor"]) / (
            scaling["high_freq_factor"] - scaling["low_freq_factor"]
        )
        return theta * np.clip(k, 0, 1) + (1 - np.clip(k, 0, 1)) * theta / factor, 1.0
    return theta, 1.0


def test_the_json_alone_says_what_a_case_means():
    """Every key of a case that needs words has them, and by these words the numbers come out."""
    fields = json.loads((FOLDER / "rope-1.json").read_text("utf-8"))["fields"]
    plain_keys = {"name", "what", "rotary_dim", "scaling", "scale_base"}
    assert {key for case in CASES.values() for key in case} <= fields.keys() | plain_keys
    assert {f"scaling {kind}" for kind in SCALINGS} <= fields.keys()
    for case in CASES.values():
        for key in {*(case["scaling"] or {})} - {"type"}:
            assert key in fields[f"scaling {case['scaling']['type']}"]
        if case["frequencies"].ndim == 1:
            theta, factor = from_fields(case)
            np.testing.assert_allclose(case["frequencies"], theta, rtol=1e-14)
            assert case["factor"] == pytest.approx(factor, rel=1e-15)


def single(case: dict[str, Any]) -> np.ndarray:
    return from_frequencies({**case, "frequencies": case["frequencies"].astype(np.float32).astype(float)})


def coarse(case: dict[str, Any]) -> np.ndarray:
    m = torch.tensor(case["positions"]).bfloat16().double().numpy()
    return from_frequencies({**case, "positions": m})


def named(change: dict[str, Any]):
    return lambda case: from_frequencies({**case, **change})


@pytest.mark.parametrize(
    ("rotate", "dtype", "must"),
    [
        (single, "float32", {"million", "ten-million"}),
        (coarse, "bfloat16", {"coarse", "million", "ten-million", "offset", "real"}),
        (named({"quantity": "output"}), "float64", {"gradient"}),
        (named({"factor": 1.0}), "bfloat16", {"yarn"}),
        (named({"scale_base": 600}), "float64", {"xpos-query", "xpos-key"}),
    ],
    ids=["float32 frequencies", "bfloat16 positions", "gradient", "factor", "xpos"],
)
def test_a_wrong_rotation_is_named(rotate, dtype, must, capsys):
    failed = golden.check(rotate, dtype)
    assert {name.split("/")[0] for name in failed} == must
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(failed) == 2 * len(must)
    assert printed[0].startswith("FAILED: ")
    assert " is off by " in printed[0]


def test_the_other_layout_fails_everywhere_but_where_nothing_turns():
    other = {"half": "interleaved", "interleaved": "half"}
    failed = golden.check(lambda case: from_frequencies({**case, "layout": other[case["layout"]]}))
    assert {name for name in CASES if name not in failed} == {"zero/interleaved", "zero/half"}


def test_what_is_not_offered_is_no_failure_and_a_wrong_shape_or_nan_is_one(capsys):
    assert golden.check(lambda case: None) == []
    assert capsys.readouterr().out.count("not offered: ") == len(CASES)
    assert golden.check(lambda case: from_frequencies(case)[:1]) == [
        n for n in CASES if not n.startswith("zero")
    ]
    assert golden.check(lambda case: from_frequencies(case) * np.nan) == list(CASES)


def test_the_readers_are_short_and_need_no_more_than_they_say():
    for name in ("reader.py", "reader.mjs"):
        assert len((FOLDER / name).read_text("utf-8").splitlines()) <= 30
    tree = ast.parse(Path(reader.__file__).read_text("utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"json", "numpy", "collections.abc", "pathlib", "typing"}


def test_the_reader_runs_from_any_folder_without_the_package(tmp_path):
    for name in ("reader.py", "rope-1.json"):
        shutil.copy(FOLDER / name, tmp_path)
    code = "import sys; from reader import check; assert check(lambda case: None) == []; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "False", done.stderr


NODE = shutil.which("node")
ROTATE = """
import { check, cases } from "./reader.mjs";
const rotate = (one, sign = 1) => {
  if (one.side || one.factor !== 1) return null;
  const pairs = one.rotary_dim / 2, half = one.layout === "half";
  const axes = Array.isArray(one.frequencies[0]) ? one.frequencies : [one.frequencies];
  const back = one.quantity === "gradient" ? -1 : 1;
  const turn = (x, m) => {
    const out = [...x];
    for (let i = 0; i < pairs; i++) {
      const [a, b] = half ? [i, i + pairs] : [2 * i, 2 * i + 1];
      const angle = sign * back * axes.reduce((sum, row, axis) => sum + [m].flat()[axis] * row[i], 0);
      out[a] = x[a] * Math.cos(angle) - x[b] * Math.sin(angle);
      out[b] = x[b] * Math.cos(angle) + x[a] * Math.sin(angle);
    }
    return out;
  };
  const text = (x, m) => x.map((v, n) => turn(v, m[n]));
  return Array.isArray(one.x[0][0]) ? one.x.map((x, r) => text(x, one.positions[r])) : text(one.x, one.positions);
};
"""


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_reader_of_javascript(tmp_path):
    for name in ("reader.mjs", "rope-1.json"):
        shutil.copy(FOLDER / name, tmp_path)
    script = tmp_path / "run.mjs"
    script.write_text(
        ROTATE
        + "const log = console.log; const said = []; console.log = (line) => said.push(line);\n"
        + "const right = check((one) => rotate(one)); const first = said.length;\n"
        + "const wrong = check((one) => rotate(one, -1), 'float32');\n"
        + "const shape = check((one) => rotate(one)?.slice(1) ?? null);\n"
        + "const nan = check((one) => one.x.map(() => [NaN]));\n"
        + "const deep = (x) => Array.isArray(x[0]) ? x.map(deep) : Float64Array.from(x);\n"
        + "const typed = check((one) => { const found = rotate(one); return found && deep(found); });\n"
        + "const short = check((one) => { const found = rotate(one);"
        + " found?.at(-1).pop(); return found ?? undefined; });\n"
        + "log(JSON.stringify({ right, first, wrong, shape, nan, typed, short, said, count: cases().length }));\n",
        encoding="utf-8",
    )
    assert NODE is not None
    done = subprocess.run([NODE, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    offered = [n for n, case in CASES.items() if "side" not in case and case["factor"] == 1]
    assert found["right"] == []
    assert found["first"] == len(CASES) - len(offered)
    assert found["count"] == len(CASES)
    assert found["wrong"] == [name for name in offered if not name.startswith("zero")]
    assert found["shape"] == offered
    assert found["nan"] == list(CASES)
    assert found["typed"] == []  # rows of Float64Array
    assert found["short"] == offered  # the last row lacks a number
    assert any(line.startswith("FAILED: plain/half is off by ") for line in found["said"])


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_javascript_of_the_page_runs(tmp_path):
    (code,) = re.findall(r"^```javascript\n(.*?)^```", PAGE, re.M | re.S)
    for name in ("reader.mjs", "rope-1.json"):
        shutil.copy(FOLDER / name, tmp_path)
    (tmp_path / "run.mjs").write_text(code, encoding="utf-8")
    assert NODE is not None
    done = subprocess.run([NODE, str(tmp_path / "run.mjs")], capture_output=True, text=True, timeout=60)
    *said, last = done.stdout.splitlines()
    assert last == "[]", done.stdout + done.stderr
    assert len(said) == len(CASES) - 1


def test_the_page_says_how_many_cases_there_are_and_where():
    count = len(vectors.CASES)
    assert f"{count} cases in both layouts" in PAGE
    assert len(CASES) == 2 * count
    linked = re.findall(r"<\.\./(rope_lab/conformance/golden/[\w.-]+)>", PAGE)
    assert sorted(Path(path).name for path in linked) == [
        "reader.mjs",
        "reader.py",
        "rope-1.json",
        "rope-1.safetensors",
    ]
    assert all((Path(__file__).parents[2] / path).exists() for path in linked)
