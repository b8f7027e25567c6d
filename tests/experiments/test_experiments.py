"""The lab: what is recorded, skipped, refused and marked stale; and each experiment measured small."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import corpus

from rope_lab.__main__ import main
from rope_lab.encodings import frequencies, rotate
from rope_lab.experiments import (
    EXPERIMENTS,
    algorithms,
    extending,
    lab,
    rates,
    recipes,
    store,
    text,
    windows,
)
from rope_lab.experiments.heads import bound
from rope_lab.experiments.lab import Experiment, Lab, Scale, walk
from rope_lab.experiments.store import Results
from rope_lab.model import RoFormer
from rope_lab.training import Stopped, data

TINY = Scale("smoke", 2, 2, 520, 64, 0.05)


def measure(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    MEASURED.append((variant, seed))
    return {"number": len(variant) + seed * 0.5, "train_seconds": float(len(MEASURED))}


MEASURED: list[tuple[str, int]] = []
TOY = {"toy": Experiment("?", lambda scale: ["a", "bb"], measure, lambda results: str(len(results.records)))}


@pytest.fixture(autouse=True)
def _forget() -> None:
    MEASURED.clear()


def words() -> data.Corpus:
    return data.Corpus("words", corpus().text * 6)  # long enough for the scale smoke


def run(out: Path, /, **options: Any) -> Results:
    given = {"scale": "smoke", "seeds": 2, "out": out, "device": "cpu", "say": lambda line: None}
    return walk(TOY, "toy", **(given | {"corpus": words(), "cache": out / "cache"} | options))


class TestRecords:
    def test_seeds_go_one_after_the_other_and_a_rerun_skips_what_is_there(self, tmp_path: Path):
        results = run(tmp_path, seeds=1)
        assert MEASURED == [("a", 0), ("bb", 0)]
        results = run(tmp_path, seeds=3)
        assert MEASURED[2:] == [("a", 1), ("bb", 1), ("a", 2), ("bb", 2)]
        assert results.values("bb", "number") == [2.0, 2.5, 3.0]
        assert Results.read(tmp_path, "toy", "smoke") == results

    def test_a_run_cut_short_keeps_what_was_done(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        def fails(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
            if variant == "bb":
                raise KeyboardInterrupt
            return measure(lab, variant, seed)

        monkeypatch.setitem(TOY, "toy", Experiment("?", TOY["toy"].variants, fails, str))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
        assert [r["variant"] for r in Results.read(tmp_path, "toy", "smoke").records] == ["a"]

    def test_a_record_says_where_it_came_from(self, tmp_path: Path):
        record = run(tmp_path).records[0]
        assert record["corpus"] == {"name": "words", "sha256": words().sha256}
        assert record["versions"]["torch"] == torch.__version__
        assert {"device", "machine", "threads", "seconds", "seed", "variant", "code"} <= record.keys()

    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", '{"records": []}', "null", "\xff"]
        + [
            json.dumps(
                {"experiment": "toy", "scale": "smoke", "code": {}, "records": [], "confirmed": {}} | other
            )
            for other in (
                {"records": [{}]},
                {"records": [1]},
                {"records": {}},
                {"code": []},
                {"code": {"a": 1}},
                {"code": {"a": {"b": 1}}},
                {"confirmed": {"a": [{}]}},
                {"confirmed": {"a": {}}},
                {"confirmed": []},
            )
        ],
    )
    def test_a_file_that_does_not_parse_is_never_overwritten(self, tmp_path: Path, content: str):
        path = store.file_of(tmp_path, "toy", "smoke")
        path.parent.mkdir()
        path.write_bytes(content.encode("latin-1"))
        with pytest.raises(ValueError, match="results file must hold records of toy at scale smoke"):
            run(tmp_path)
        assert path.read_bytes() == content.encode("latin-1")
        assert not MEASURED

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"scale": "huge"}, "scale must be one of smoke, cpu, gpu, got 'huge'"),
            ({"seeds": 0}, "seeds must be at least 1, got 0"),
            ({"check": "a"}, "check must be a variant recorded in .*, which holds nothing, got 'a'"),
            ({"device": "tpu"}, "device must be one of"),
            (
                {"corpus": corpus()},
                "corpus must have 1025 characters in its last tenth.* at scale smoke, got 186",
            ),
        ],
    )
    def test_bad_input_is_named(self, tmp_path: Path, options: dict[str, Any], said: str):
        with pytest.raises(ValueError, match=said):
            run(tmp_path, **options)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_the_book_reads_parses_and_has_three_seeds(name: str):
    results = Results.recorded(name)
    assert results.variants() == EXPERIMENTS[name].variants(lab.SCALES["cpu"])
    for variant in results.variants():
        seeds = [0] if name == "rates" else [0, 1, 2]  # rates are chosen, not compared
        assert sorted(r["seed"] for r in results.records if r["variant"] == variant) == seeds
    assert EXPERIMENTS[name].table(results)
    assert {record["corpus"]["sha256"] for record in results.records} == {data.SHA256}


@pytest.fixture
def tiny_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setitem(rates.STEPS, "smoke", (2, 3))
    return Lab(TINY, data.Corpus("words", corpus().text * 3), tmp_path, "cpu")


class TestExperiments:
    """Each measured once or twice at next to no cost; that the numbers mean something is the book's business."""

    @pytest.mark.parametrize(
        "encoding", ["learned", "T5", "RoPE, 25% of the coordinates", "p-RoPE, p = 0.25"]
    )
    def test_encodings_and_extrapolation(self, tiny_lab: Lab, encoding: str):
        numbers = text.measure_encoding(tiny_lab, encoding, 0)
        assert 1 < numbers["val_loss"] < 6
        longer = text.measure_extrapolation(tiny_lab, encoding, 0)
        assert longer["lengths"] == [32, 48, 64, 128, 256][: len(longer["lengths"])]
        assert (longer["cut"][1] is None) == (encoding == "learned")
        assert all(1 < loss < 6 for loss in longer["cut"] + longer["sliding"] if loss is not None)

    def test_a_model_is_trained_once_for_all_experiments(
        self, tiny_lab: Lab, monkeypatch: pytest.MonkeyPatch
    ):
        run, seconds = tiny_lab.trained(tiny_lab.config(0))
        again, same = tiny_lab.trained(tiny_lab.config(0, position="rope"))  # the default
        assert (again.val, same) == (run.val, seconds)
        assert len(list(tiny_lab.folder.iterdir())) == 1
        tiny_lab.trained(tiny_lab.config(1))
        assert len(list(tiny_lab.folder.iterdir())) == 2

    def test_an_extended_model_is_the_old_one_at_the_old_length(self, tiny_lab: Lab):
        run, _ = tiny_lab.trained(tiny_lab.config(0))
        ids = tiny_lab.held_out[None, :20]
        old = run.model.eval()(ids)
        torch.testing.assert_close(extending.extended(run.model, "none", 2).eval()(ids), old)
        for method in extending.METHODS[1:]:
            assert not torch.equal(extending.extended(run.model, method, 2).eval()(ids), old)

    def test_the_two_parts_of_yarn_make_yarn(self):
        theta = frequencies(16)
        together, factor = extending.scaling("YaRN", 8, 128)(theta, 0)
        by_parts, one = extending.scaling("NTK-by-parts", 8, 128)(theta, 0)
        same, alone = extending.scaling("attention factor alone", 8, 128)(theta, 0)
        torch.testing.assert_close(by_parts, together, rtol=0, atol=0)
        torch.testing.assert_close(same, theta, rtol=0, atol=0)
        assert (one, alone) == (1.0, pytest.approx(factor))

    def test_ablations_and_recipes(self, tiny_lab: Lab):
        losses = [
            recipes.measure_ablation(tiny_lab, name, 0)["val_loss"]
            for name in EXPERIMENTS["ablation"].variants(TINY)
        ]
        assert len(set(losses)) == len(losses)
        peer = recipes.measure_recipe(tiny_lab, recipes.PEER, 0)
        assert peer["config"]["optimizer"] == "adamw"

    def test_a_recipe_is_tested_on_another_tenth_of_the_text(self, tiny_lab: Lab):
        text = tiny_lab.corpus.text
        turned = recipes.turned(tiny_lab.corpus)
        assert turned.val == text[: len(turned.val)]
        assert sorted(turned.text) == sorted(text)
        assert set(tiny_lab.corpus.val) <= set(turned.train)
        one, other = (
            recipes.measure_recipe(tiny_lab, recipes.OURS + tenth, 0) for tenth in ("", recipes.FIRST)
        )
        assert one["config"] == other["config"]
        assert one["val_loss"] != other["val_loss"]
        assert recipes.peer_of(recipes.OURS + recipes.FIRST) == recipes.PEER + recipes.FIRST

    def test_the_peers_recipes_are_as_published(self):
        config = recipes.peer(lab.SCALES["cpu"], 0)
        shape = config.architecture(65)
        assert (shape.dim, shape.depth, shape.heads, shape.context) == (128, 4, 4, 64)
        assert (config.batch, config.steps, config.lr, config.floor * config.lr) == (12, 2000, 1e-3, 1e-4)
        assert config.warmup * config.steps == 100

    def test_local(self, tiny_lab: Lab):
        names = EXPERIMENTS["local"].variants(TINY)
        mixed = windows.measure_windows(tiny_lab, "window 64, depth 2, 1 global on top", 0)
        assert (mixed["window"], mixed["depth"], mixed["global_layers"]) == (64, 2, 1)
        assert names[-1] == "full at 4 characters"

    def test_long_contexts_share_the_time(self, tiny_lab: Lab, monkeypatch):
        monkeypatch.setattr(Lab, "seconds_per_update", lambda self, config, start: TINY.long_seconds / 7.5)
        for variant in ("local at 64 characters", "full at 32 characters"):
            numbers = windows.measure_windows(tiny_lab, variant, 0)
            assert numbers["steps"] == 7
            before = numbers["history"][-2]  # the last report waits for the evaluation
            assert numbers["update_seconds"] == before["seconds"] / before["step"] * 7 > 0

    def test_neither_the_first_update_nor_the_evaluation_counts_as_its_time(self, tiny_lab: Lab, monkeypatch):
        clock = iter([0, 100, 102, 104, 106, 108, 200])  # the start, and after each of six updates
        monkeypatch.setattr(
            "rope_lab.training.loop.time", types.SimpleNamespace(perf_counter=lambda: next(clock))
        )
        assert tiny_lab.seconds_per_update(tiny_lab.config(0)) == 2

    def test_a_seed_fixes_the_first_weights_too(self, tiny_lab: Lab):
        first, again, other = (
            windows.measure_windows(tiny_lab, "window 64, depth 2", seed)["val_loss"] for seed in (0, 0, 1)
        )
        assert first == again != other

    def test_decoding_with_a_cache_says_the_same(self, tiny_lab: Lab):
        for variant in ("full", "local"):
            numbers = windows.measure_cache(tiny_lab, variant, 0)
            assert len(numbers["cached"]) == len(numbers["uncached"]) == 3


class TestAlgorithms:
    def test_examples_are_right(self):
        generator = torch.Generator().manual_seed(0)
        for task in algorithms.TASKS:
            batch = algorithms.examples(task, torch.tensor([1, 4, 7]), generator)
            for ids, answer, length in zip(batch.ids, batch.answer, (1, 4, 7), strict=True):
                digits, said = ids[:length].tolist(), ids[answer].tolist()
                if task == "addition":
                    other = ids[length + 1 : 2 * length + 1].tolist()
                    numbers = [int("".join(map(str, reversed(row)))) for row in (digits, other, said)]
                    assert numbers[0] + numbers[1] == numbers[2]
                else:
                    assert said == (digits if task == "copy" else digits[::-1])
                assert set(ids[answer.nonzero().max() + 1 :].tolist()) <= {algorithms.PAD}

    def test_a_model_that_knows_the_answers_is_counted_right(self):
        class Oracle(torch.nn.Module):
            embedding = torch.nn.Embedding(1, 1)

            def forward(
                self, ids: torch.Tensor
            ) -> torch.Tensor:  # the token after the one 5 + 1 places back: a copy
                source = torch.arange(ids.shape[1]) - 5
                return torch.nn.functional.one_hot(ids[:, source.clamp(min=0)], 13).float()

        generator = torch.Generator().manual_seed(0)
        assert algorithms.exact(Oracle(), "copy", 5, generator) == 1
        assert algorithms.exact(Oracle(), "copy", 6, generator) < 0.1

    def test_every_encoding_fits_the_longest_test(self):
        for task, longest in algorithms.TASKS.items():
            batch = algorithms.examples(task, torch.tensor([2 * longest]), torch.Generator())
            for encoding in rates.ENCODINGS:
                assert RoFormer(algorithms.model_for(encoding, task))(batch.ids).isfinite().all()

    def test_it_trains_on_the_lengths_it_says(self):
        config = algorithms.model_for("RoPE", "addition")
        numbers = algorithms.solve(config, "addition", 0, 2, torch.device("cpu"))
        assert (numbers["trained_to"], len(numbers["exact"])) == (6, 12)

    def test_a_loss_that_is_not_finite_ends_it(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(algorithms.F, "cross_entropy", lambda *_: torch.tensor(torch.nan))
        with pytest.raises(Stopped, match="the loss is nan at step 1 of copy, seed 3"):
            algorithms.solve(algorithms.model_for("RoPE", "copy"), "copy", 3, 2, torch.device("cpu"))


def test_the_bound_of_the_paper_holds_and_is_met():
    torch.manual_seed(0)
    q, k = torch.randn(2, 500, 16, dtype=torch.float64)
    for distance in (0, 1, 7, 100):
        turn = distance * frequencies(16)
        score = (rotate(q[None], turn.expand(500, -1))[0] * k).sum(-1)
        assert (score.abs() <= bound(q, k, turn) + 1e-9).all()
    one = torch.tensor([[1.0, 0.0]], dtype=torch.float64)  # a single pair reaches it
    assert bound(one, one, torch.zeros(1, dtype=torch.float64)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "experiment must be one of presets, baseline, ablation, encodings"),
        (["encodings", "--scale", "big"], "scale must be one of smoke, cpu, gpu, got 'big'"),
        (["encodings", "--seeds", "0"], "seeds must be at least 1, got 0"),
        (["encodings", "--seeds", "many"], "invalid int value"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "words").write_text(words().text)
    try:
        code = main(["reproduce", *arguments, "--text", str(tmp_path / "words"), "--out", str(tmp_path)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (2, 1)
    assert said in err


def test_the_command_lists_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert main(["reproduce"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(EXPERIMENTS)
    (tmp_path / "words").write_text(words().text)
    monkeypatch.setitem(EXPERIMENTS, "cache", TOY["toy"])
    places = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    command = [
        "reproduce",
        "cache",
        "--scale",
        "smoke",
        "--seeds",
        "1",
        "--text",
        str(tmp_path / "words"),
        *places,
    ]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("cache  a  seed 0")
    assert len(json.loads((tmp_path / "out" / "smoke" / "cache.json").read_text())["records"]) == 2
    assert out.splitlines()[-1].startswith("cache, scale smoke, 1 seed, words, ")
