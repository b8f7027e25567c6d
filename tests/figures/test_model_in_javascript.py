"""The model in the page: its JavaScript computes what rope_lab computes, for every switch and for many together."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from rope_book.weights import taken_out
from rope_lab import RoFormer, RoFormerConfig
from rope_lab.encodings import NoPE, RotaryEmbedding, YaRN
from rope_lab.figures.in_the_page import SWITCHES, export, in_the_page, loaded, twin
from rope_lab.figures.switches import Scaled, Switches, continued, logits_of, losses_of, switched

NODE = shutil.which("node")
VOCAB = "\n !'abcdeé"
CONFIG = RoFormerConfig(len(VOCAB), context=24, dim=24, depth=2, heads=2, qk_gain=True)


def model(config: RoFormerConfig = CONFIG) -> RoFormer:
    """Random, with weights so large that every switch matters, each of them a float16."""
    torch.manual_seed(0)
    made = RoFormer(config)
    for name, p in made.named_parameters():
        made.load_parameters({**dict(made.named_parameters()), name: (p + 0.3 * torch.randn_like(p)).half()})
    return made.eval()


def together(count: int) -> list[Switches]:
    """Some of all switches at once, drawn from a seed."""
    draw = random.Random(0)
    flag = lambda: draw.random() < 0.4  # noqa: E731
    return [
        Switches(
            base=draw.choice([10.0, 1e4, 1e6]), other_keys=flag(), forgotten=flag(), values=flag(),
            scaling=draw.choice(get_args(Scaled)), factor=draw.choice([1.0, 2.0, 8.0]),
            window=draw.choice([None, 1, 5, 64]), off=draw.random() < 0.1,
        )
        for _ in range(count)
    ]  # fmt: skip


def by_node(
    file: dict[str, Any], ids: list[int], prompt: int, rows: list[Switches]
) -> list[list[list[float]]]:
    """Logits of the JavaScript, one token at a time."""
    program = files("rope_lab.figures").joinpath("roformer.js").read_text("utf-8")
    program += """
      const {file, ids, prompt, rows} = JSON.parse(require("fs").readFileSync(0, "utf8"));
      const model = ropeLab.read(file);
      console.log(JSON.stringify(rows.map((row) => {
        const cache = ropeLab.newCache(model, prompt);
        return ids.map((id) => Array.from(ropeLab.step(model, cache, id, row).logits));
      })));"""
    given = {"file": file, "ids": ids, "prompt": prompt, "rows": [asdict(row) for row in rows]}
    done = subprocess.run(
        [str(NODE), "-e", program], input=json.dumps(given), capture_output=True, encoding="utf-8", check=True
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("layout", ["interleaved", "half"])
def test_javascript_computes_what_rope_lab_computes(layout: Any) -> None:
    made, ids = model(replace(CONFIG, layout=layout)), torch.randint(len(VOCAB), (40,)).tolist()
    rows = [*SWITCHES.values(), *together(40)]
    found = torch.tensor(by_node(export(made, VOCAB), ids, 17, rows), dtype=torch.float64)
    double = model(replace(CONFIG, layout=layout)).double()
    trained = logits_of(made, Switches(), torch.tensor(ids), 17)
    for row, logits in zip(rows, found, strict=True):
        expected = logits_of(made, row, torch.tensor(ids), 17)
        assert (logits - expected).abs().max() < 1e-4, row
        assert (logits - logits_of(double, row, torch.tensor(ids), 17)).abs().max() < 1e-5, row
        if row in SWITCHES.values() and row != Switches():
            assert (expected - trained).abs().max() > 1e-2, row  # a switch that did nothing would pass


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_javascript_reads_every_float16() -> None:
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    program = files("rope_lab.figures").joinpath("roformer.js").read_text("utf-8")
    program += "console.log(JSON.stringify(Array.from({length: 65536}, (_, bits) => ropeLab.half(bits))));"
    done = subprocess.run([str(NODE), "-e", program], capture_output=True, encoding="utf-8", check=True)
    found, real = torch.tensor(json.loads(done.stdout), dtype=torch.float64), every.isfinite()
    assert torch.equal(found[real], every[real].double())


@pytest.mark.parametrize("row", [*SWITCHES.values(), *together(12)], ids=str)
def test_a_cache_gives_the_same_as_one_pass(row: Switches) -> None:
    """The prompt at once, then one by one, as a program decodes."""
    made, ids = switched(model(), row), torch.randint(len(VOCAB), (30,))
    cache, places, found = made.new_cache(30), row.positions(30, 11), []
    with torch.no_grad():
        for part in (slice(0, 11), *(slice(t, t + 1) for t in range(11, 30))):
            found.append(made(ids[None, part], positions=places[part], cache=cache)[0])
    assert torch.allclose(torch.cat(found), logits_of(model(), row, ids, 11), atol=1e-4)
    text = continued(model(), row, ids[:11], 11, 4)
    assert text[0] == int(found[0][-1].argmax())


def test_each_switch_is_one_of_the_encodings_of_the_package() -> None:
    assert isinstance(Switches(off=True, values=True).encoding(CONFIG), NoPE)
    whole = YaRN(4.0, CONFIG.context)
    freqs = RotaryEmbedding(12).frequencies()
    parts = [Switches(scaling=part).encoding(CONFIG) for part in ("yarn frequencies", "yarn factor")]
    (slow, one), (plain, factor) = (part.scaling(freqs, 0) for part in parts)
    assert torch.equal(slow, whole(freqs, 0)[0])
    assert torch.equal(plain, freqs)
    assert (one, factor) == (1.0, whole(freqs, 0)[1])
    q = torch.randn(1, 2, 7, 12)
    turned, keys, _ = Switches(other_keys=True).encoding(CONFIG).rotate(q, q, q, torch.arange(7))
    assert torch.equal(turned, RotaryEmbedding(12)(q, q)[0])
    assert torch.equal(keys, RotaryEmbedding(12, layout="half")(q, q)[1])
    assert Switches(forgotten=True).positions(5, 3).tolist() == [0, 1, 2, 0, 0]
    assert Switches().positions(5, 3).tolist() == [0, 1, 2, 3, 4]
    before = model()
    assert switched(before, Switches(window=3)).blocks[0].attention.window == 3
    assert before.blocks[0].attention.window is None  # the model itself is as it was


def test_losses_are_those_of_the_text() -> None:
    ids = torch.randint(len(VOCAB), (20,))
    with torch.no_grad():
        logits = model()(ids[None, :-1])[0]
    expected = torch.nn.functional.cross_entropy(logits.double(), ids[1:], reduction="none")
    assert torch.allclose(losses_of(model(), Switches(), ids, 10), expected)


def test_a_model_comes_back_from_its_file() -> None:
    made = model()
    file = json.loads(json.dumps(export(made, VOCAB)))
    again = loaded(file)
    assert again.config == made.config
    assert all(
        torch.equal(a, b.half().float()) for a, b in zip(again.parameters(), made.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    "change",
    [{"norm": "layer"}, {"qk_gain": False}, {"tied": True}, {"kv_heads": 1}, {"window": 4}, {"base": 5.0}],
)
def test_another_model_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=f"model must have {'as many' if 'kv_heads' in change else next(iter(change))}"
    ):
        export(RoFormer(replace(CONFIG, **change)), VOCAB)
    with pytest.raises(ValueError, match="vocab must hold 10"):
        export(model(), "abc")


@pytest.mark.parametrize("switch", [{"base": 0}, {"factor": -1.0}, {"window": 0}, {"scaling": "magic"}])
def test_a_bad_switch_is_refused(switch: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(switch))} must"):
        Switches(**switch)


def test_the_page_holds_the_table_without_javascript() -> None:
    verse = "a bad é\n" * 6
    page = in_the_page(model(), VOCAB, verse).data
    held = re.search(r'class="rope-weights" data-file="roformer_weights.js">(.*?)</script>', page, re.S)
    assert held
    file = json.loads(held[1])
    assert [row["name"] for row in file["rows"]] == list(SWITCHES)
    ids, shown = torch.tensor([VOCAB.index(c) for c in verse]), page.split("<tbody>")[1].split("</tbody>")[0]
    for row in file["rows"]:
        losses = losses_of(loaded(file), SWITCHES[row["name"]], ids, len(verse) // 2)
        parts = losses.mean(), losses[: CONFIG.context - 1].mean(), losses[CONFIG.context - 1 :].mean()
        assert row["losses"] == pytest.approx([float(part) for part in parts], abs=1e-6)
        assert all(f"{part:.3f}" in shown for part in row["losses"][1:])
    for wrong in ("a b", "a bad z\n" * 6, "a" * 600):
        with pytest.raises(ValueError, match="verse must have 26 to 512 characters"):
            in_the_page(model(), VOCAB, wrong)


def test_the_book_puts_the_weights_into_a_file_of_their_own(tmp_path: Path) -> None:
    page = in_the_page(model(), VOCAB, "a bad é\n" * 6).data
    body = taken_out(f"<p>before</p>{page}<p>after</p>", tmp_path / "_static", "../_static")
    written = (tmp_path / "_static" / "roformer_weights.js").read_text("utf-8")
    assert 'data-src="../_static/roformer_weights.js"></script>' in body
    held = json.loads(written.removeprefix("ropeLabWeights(").removesuffix(");\n"))
    assert held["weights"] == export(model(), VOCAB)["weights"]
    assert held["weights"] not in body
    assert len(body) < 40_000
    assert taken_out(body, tmp_path, "../_static") == body


def test_the_page_shows_the_code_that_runs() -> None:
    code = twin().data
    assert code.startswith("```javascript\n")
    assert "function step(" in code
    assert max(len(line) for line in code.splitlines()) <= 88
