"""The benchmark measures what it says and writes what it prints; speed itself is counted in kernels, not seconds."""

from __future__ import annotations

import json
import shutil
import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rope_lab import angles, bench, frequencies, rotate
from rope_lab.__main__ import main
from rope_lab.bench import candidates, measure, models

IN_NO_TIME = {"torch": 1.0, "rope_lab": 0.001, "RotaryEmbedding": 0.1, "spread": 0.01}


@pytest.fixture(scope="module")
def results() -> Iterator[dict]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "bench_import", lambda rounds: IN_NO_TIME)
        yield bench.run(quick=True)


def test_every_candidate_has_a_ratio_both_ways(results: dict):
    for part in results["rotation"]:
        names = {
            "clone",
            "rope_lab interleaved",
            "rope_lab half",
            "rope_lab interleaved, table computed too",
            "rope_lab half, table computed too",
            "rotary-embedding-torch",
            "transformers (Llama)",
            "labml_nn",
        }
        assert set(part["forward_in_clones"]) == set(part["backward_in_clones"]) == names
        assert part["forward_in_clones"]["clone"] == 1
        assert not part["missing"]
    assert [part["dtype"] for part in results["rotation"]] == ["float32", "bfloat16"]
    shown = [(part["windows"], part["shape"][2]) for part in results["local"]]
    assert shown == [("inclusive", 512), ("block", 512), ("inclusive", 128)]
    for part in results["local"]:
        assert part["forward"]["rope_lab"] == part["forward_and_backward"]["rope_lab"] == 1
        assert set(part["forward"]) == {"rope_lab", "local-attention", "full causal attention"}
    for kind in ("forward", "forward_and_backward"):
        assert set(results["memory"][kind]) == {"rope_lab", "local-attention", "full causal attention"}
    assert set(results["models"]["token_seconds"]) == set(results["models"]["step_seconds"])
    assert set(results["models"]["token_seconds"]) == {"rope_lab", "transformers"}
    assert results["import_seconds"]["torch"] > 0
    assert results["length"]["time_a_token"][0] == 1


def test_the_table_holds_every_number(results: dict):
    text = bench.table(results)
    for part in results["rotation"]:
        for name, ratio in part["forward_in_clones"].items():
            assert any(line.strip().startswith(name) and f"{ratio:.2f}" in line for line in text.splitlines())
    memory = results["memory"]
    for name, used in memory["forward"].items():
        shown = [*name.split(), *(f"{n / 1e6:.0f}" for n in (used, memory["forward_and_backward"][name]))]
        assert shown in [line.split() for line in text.splitlines()]


def test_a_missing_neighbour_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "rotary_embedding_torch", None)
    monkeypatch.setitem(sys.modules, "local_attention", None)
    monkeypatch.setattr(measure, "peak_memory", lambda code, device: 0)
    monkeypatch.setattr(measure, "bench_import", lambda rounds: IN_NO_TIME)
    results = bench.run(quick=True)
    assert "rotary-embedding-torch" not in results["rotation"][0]["forward_in_clones"]
    assert (
        'not installed: local-attention, rotary-embedding-torch (pip install "rope-lab[peers]")'
        in bench.table(results)
    )


def test_where_peak_memory_is_unknown_it_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch, results: dict):
    monkeypatch.setattr(measure, "peak_memory", lambda code, device: 0)
    memory = bench.bench_memory(512, 64, rounds=1)
    assert memory["forward"] is memory["forward_and_backward"] is None
    assert "left out: this system does not report" in bench.table({**results, "memory": memory})


def test_every_goal_is_printed_with_its_limit_and_its_bound(results: dict):
    found = bench.goals(results)
    text, page = bench.table(results), bench.summary(results)
    for goal in found:
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{goal.name} "))
        numbers = " ".join(goal.cells[1:]).split()
        assert line.split()[-len(numbers) :] == numbers
        assert f"| {' | '.join(goal.cells)} |" in page
    kinds = ["rotation", "full over", "the library", "Llama", "import"]
    assert [sum(goal.name.startswith(kind) for goal in found) for kind in kinds] == [4, 4, 4, 2, 1]


def test_a_goal_is_reached_on_the_right_side_of_its_limit():
    for value, least, met in ((1.0, True, True), (0.9, True, False), (1.0, False, True), (1.1, False, False)):
        assert bench.Goal("a", value, 1.0, least).met is met


def test_without_transformers_its_models_are_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, results: dict
):
    monkeypatch.setitem(sys.modules, "transformers", None)
    models_alone = bench.bench_models(quick=True)
    without = {**results, "models": models_alone}
    assert "left out, it needs transformers" in bench.table(without)
    assert not any(goal.name.startswith("Llama") for goal in bench.goals(without))
    assert "not installed: transformers (pip" in bench.table(without)


def test_both_llamas_compute_the_same_and_the_record_says_how_nearly(monkeypatch: pytest.MonkeyPatch):
    ours, theirs = models.pair(depth=2, width=32)
    calls = models.token_calls(ours, theirs, torch.randint(models.VOCAB, (1, 9)), 3)
    for _ in range(3):
        torch.testing.assert_close(calls["rope_lab"](), calls["transformers"](), rtol=0, atol=1e-5)
    text = torch.randint(models.VOCAB, (2, 9))
    losses = [[float(step()) for _ in range(3)] for step in models.step_calls(ours, theirs, text).values()]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)  # the gradients agree, too: the text is the same
    assert losses[0][2] < losses[0][0]
    wrong = models.pair
    monkeypatch.setattr(models, "pair", lambda **sizes: (wrong(**sizes)[0], wrong(**sizes)[1].apply(halved)))
    with pytest.raises(RuntimeError, match="same weights, but their logits differ"):
        bench.bench_models(quick=True)


def halved(module: torch.nn.Module) -> None:
    if isinstance(module, torch.nn.Embedding):
        module.weight.data *= 30


@pytest.mark.parametrize("name", measure.IMPORTS)
def test_what_is_imported_can_be(name: str):
    exec(measure.IMPORTS[name], {})


def test_importing_the_package_is_compared_round_by_round(monkeypatch: pytest.MonkeyPatch):
    """A machine that becomes slower and slower does not make a difference of its own."""
    taken = {
        "nothing": [1.0, 2, 3],
        "torch": [10.0, 20, 30],
        "rope_lab": [11.0, 21, 31],
        "RotaryEmbedding": [13.0, 23, 33],
    }
    monkeypatch.setattr(measure, "alternate", lambda calls, rounds: taken)
    assert bench.bench_import(3) == {"torch": 18, "rope_lab": 1, "RotaryEmbedding": 3, "spread": 0}


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell")
def test_peak_memory_is_that_of_the_process_alone():
    """Not of what it gave back, nor of the process that started it."""
    here = torch.ones(100_000_000 // 4)
    nothing, some = (bench.peak_memory(code) for code in ("", "x = bytearray(50_000_000); x = None"))
    assert nothing < 50_000_000
    assert some - nothing == pytest.approx(50_000_000, rel=0.1)
    del here


def test_what_all_candidates_compute_is_the_same_rotation():
    x = torch.randn(1, 2, 16, 8)
    ways, _ = bench.rotations(x, compiled=False)
    table = angles(torch.arange(16), frequencies(8))
    for name, (way, inputs) in ways.items():
        out = way(*inputs)
        out = torch.cat(out, dim=1) if isinstance(out, tuple) else out
        out = out.permute(1, 2, 0, 3) if name == "labml_nn" else out
        layout = "interleaved" if "interleaved" in name or name.startswith("rotary") else "half"
        wanted = x if name == "clone" else rotate(x, table, layout)
        torch.testing.assert_close(out, wanted, rtol=0, atol=1e-6)


def test_medians_are_of_interleaved_rounds(monkeypatch: pytest.MonkeyPatch):
    order, now = [], [0.0]
    takes = {"a": iter([90, 1, 2, 9]), "b": iter([90, 30, 10, 20])}

    def call(name: str) -> None:
        order.append(name)
        now[0] += next(takes[name])

    monkeypatch.setattr("rope_lab.bench.timing.time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    taken = bench.interleave({name: partial(call, name) for name in takes}, rounds=3)
    assert order == ["a", "b"] * 4  # once to warm up, which does not count
    assert taken == {"a": 2, "b": 20}


@pytest.mark.parametrize(("layout", "times"), [("interleaved", 1), ("half", 2)])
def test_an_eager_rotation_writes_its_result_once_or_twice_and_its_gradient_too(layout: str, times: int):
    """In the half layout one operation writes all of x, and two a half each."""

    class Writes(TorchDispatchMode):
        written = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if (
                isinstance(out, Tensor)
                and not func.is_view
                and out.numel() * out.element_size() >= x.nbytes // 2
            ):
                self.written += out.numel() * out.element_size()
            return out

    x, table = torch.randn(4, 8, 32, 16), angles(torch.arange(32), frequencies(16))
    x.requires_grad_()
    with Writes() as forward:
        out = rotate(x, table, layout)
    seed = torch.randn_like(out)
    with Writes() as backward:
        torch.autograd.grad(out, x, seed)
    assert forward.written == backward.written == times * x.nbytes


def test_the_command_writes_json_and_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(measure, "peak_memory", lambda code, device: 1_000_000)  # in no time
    monkeypatch.setattr(measure, "bench_import", lambda rounds: IN_NO_TIME)
    assert main(["bench", "--quick", "--device", "cpu", "--out", str(tmp_path / "new")]) == 0
    assert "clone() = 1" in capsys.readouterr().out
    assert json.loads((tmp_path / "new" / "bench.json").read_text())["versions"]["torch"] == torch.__version__
    assert (tmp_path / "new" / "bench.svg").read_text().startswith("<?xml")


def test_repeated_calls_count_one_by_one(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]

    def call() -> None:
        now[0] += 3

    monkeypatch.setattr("rope_lab.bench.timing.time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    assert bench.interleave({"a": call}, rounds=2, repeats=10) == {"a": 3}
    assert now == [63]


class InPlace(torch.autograd.Function):
    """Writes into inputs whose heads of a token are adjacent, as the kernel of Liger does, and copies others."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor):
        assert cos.shape == sin.shape == (1, q.shape[-2], q.shape[-1])
        ctx.save_for_backward(cos, sin)
        return tuple(InPlace.turn(x, cos, sin) for x in (q, k))

    @staticmethod
    def backward(ctx, *seeds: Tensor):
        cos, sin = ctx.saved_tensors
        return *(InPlace.turn(seed, cos, -sin) for seed in seeds), None, None

    @staticmethod
    def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
        first, second = x.chunk(2, dim=-1)
        return x.copy_(x * cos + torch.cat((-second, first), dim=-1) * sin)


def test_liger_gets_copies_as_its_kernel_wants_them(monkeypatch: pytest.MonkeyPatch):
    """With a stand-in for its kernel, which needs a GPU: the half layout, and no input of another candidate changes."""
    name = "liger_kernel.transformers.rope"
    stand_in = types.SimpleNamespace(
        liger_rotary_pos_emb=lambda q, k, cos, sin: InPlace.apply(q, k, cos, sin)
    )
    for part in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    monkeypatch.setitem(sys.modules, name, stand_in)
    x = torch.randn(2, 4, 16, 8)
    before, halves, table = x.clone(), x.chunk(2, dim=1), angles(torch.arange(16), frequencies(8))
    way, inputs = candidates.liger(halves, table)
    assert all(part.transpose(1, 2).is_contiguous() for part in inputs)
    given = [part.data_ptr() for part in inputs]
    out = way(*inputs)
    torch.testing.assert_close(torch.cat(out, dim=1), rotate(before, table, "half"), rtol=0, atol=1e-6)
    assert [part.data_ptr() for part in out] == given  # it did not have to copy them
    assert torch.equal(x, before)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError):
        candidates.liger(halves, table)


@pytest.mark.parametrize("exact", [True, False])
def test_flex_attention_sees_the_same_keys(exact: bool):
    """In its reference form, which runs on a CPU."""
    ways, _ = bench.local_ways(16, exact=exact, device="cpu")
    flex = candidates.flex_ways(16, exact=exact)
    assert set(flex) == {"rope_lab, FlexAttention", "FlexAttention, mask kept"}
    for length in (64, 50, 64):
        qkv = [x.detach() for x in bench.local_inputs(length, device="cpu")]
        wanted = ways["rope_lab"](*qkv)
        for way in flex.values():
            torch.testing.assert_close(way(*qkv), wanted, rtol=0, atol=1e-5)


@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="Inductor needs a C++ compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["interleaved", "half"])
def test_a_compiled_rotation_is_one_pass_over_x(layout: str, dtype: torch.dtype):
    """Two loops: a small one for cos and sin, or each head would compute them again, and one that turns x."""
    from torch._inductor import metrics

    table = angles(torch.arange(32), frequencies(16))

    def turn(x: Tensor) -> Tensor:
        return rotate(x, table, layout)

    torch.manual_seed(0)
    x = torch.randn(1, 2, 32, 16).to(dtype)
    torch._dynamo.reset()
    metrics.reset()
    compiled = torch.compile(turn, fullgraph=True)(x)
    assert metrics.generated_kernel_count == 2
    # Sums in float32 that differ in their last bit may round to neighbouring numbers of bfloat16.
    step = torch.finfo(dtype).eps if dtype == torch.bfloat16 else 0
    torch.testing.assert_close(compiled, turn(x), rtol=step, atol=1e-6)
