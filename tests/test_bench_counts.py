"""What is counted is what is there: scores one by one, flops by torch's own counter; and what follows from a record."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rope_lab import RoFormer, RoFormerConfig
from rope_lab.bench import (
    Machine,
    Traffic,
    __main__,
    attention_backend,
    counts,
    measure_machine,
    recorded,
    report,
)
from rope_lab.bench.counts import Work
from rope_lab.local import Window, local_attention

CPU = {"device": "cpu", "versions": {"torch": torch.__version__}}


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 13])
@pytest.mark.parametrize("window", [1, 3, 4, 20])
@pytest.mark.parametrize(("exact", "inclusive"), [(True, False), (True, True), (False, False)])
def test_scores_are_counted_one_by_one(length: int, window: int, exact: bool, inclusive: bool) -> None:
    m, n = torch.arange(length)[:, None], torch.arange(length)
    seen = Window(window, exact=exact, inclusive=inclusive).sees(m, n)
    assert counts.scores(length, window, exact=exact, inclusive=inclusive) == int(seen.sum())
    assert counts.scores(length) == int((n <= m).sum())


@pytest.mark.parametrize("fields", [{}, {"kv_heads": 2}])
@pytest.mark.parametrize("make", [RoFormerConfig, RoFormerConfig.llama])
def test_the_matrices_are_those_of_the_model(make: Any, fields: dict[str, Any]) -> None:
    config = make(65, dim=32, depth=3, heads=4, **fields)
    model = RoFormer(config)
    sizes = [p.numel() for p in model.parameters() if p.ndim == 2]
    once = 0 if config.tied else model.embedding.weight.numel()  # of which a token reads one row
    assert counts.matrices(config) == sum(sizes) - once


def counted(run: Any) -> int:
    """With attention in its unfused form: torch does not count the fused one of a CPU."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def test_the_flops_of_a_token_are_those_that_torch_counts() -> None:
    config = RoFormerConfig.llama(65, dim=32, depth=3, heads=4)
    model, cache = RoFormer(config), RoFormer(config).new_cache(20)
    ids = torch.zeros(2, 9, dtype=torch.long)
    with torch.no_grad():
        model(ids, cache=cache)
        flops = counted(lambda: model(ids[:, :1], cache=cache))
    work = counts.decoding(config, past=9, batch=2)
    assert flops == work.flops
    kept = 2 * 2 * 3 * 32 * 10  # keys and values of two sequences, three layers
    assert work.bytes == 4 * (counts.matrices(config) + kept)


def test_the_flops_of_a_step_are_those_that_torch_counts() -> None:
    """Unfused, attention computes the scores above the diagonal as well, but each of the others only once."""
    config, length = RoFormerConfig.llama(65, dim=32, depth=3, heads=4), 16
    model = RoFormer(config)
    ids = torch.zeros(2, length, dtype=torch.long)
    flops = counted(lambda: model(ids).sum().backward())
    work = counts.training_step(config, 2, length)
    fused, unfused = 14 * counts.scores(length), 12 * length * length
    assert flops == work.flops + (unfused - fused) * 32 * 3 * 2


def test_attention_reads_and_writes_each_tensor_once() -> None:
    forward = counts.attention(8, 128, 64, counts.scores(128), 4)
    assert forward == Work(4 * 8 * 128 * 64 * 4, 4 * 64 * 8 * 128 * 129 // 2)
    both = counts.attention(8, 128, 64, counts.scores(128), 4, backward=True)
    assert (both.bytes, both.flops) == (3 * forward.bytes, 3.5 * forward.flops)
    assert (forward + forward).intensity == forward.intensity


def test_a_rotation_moves_its_tensor_twice() -> None:
    work = counts.rotation((2, 3, 5, 8), 2)
    assert work == Work(2 * 240 * 2 + 5 * 8 * 4, 3 * 240)


def test_the_floor_is_the_longest_of_three_and_the_roof_has_an_edge() -> None:
    machine = Machine(20.0, 10.0, 5.0, 100.0, 3.0)
    assert (machine.bytes_per_second, machine.ridge) == (20, 5)
    assert machine.seconds(Work(40, 100)) == 2  # memory
    assert machine.seconds(Work(40, 400)) == 4  # arithmetic
    assert machine.seconds(Work(40, 400), calls=2) == 6  # starting them
    assert [machine.flops(x) for x in (1, 5, 50)] == [20, 100, 100]
    assert Machine(**machine.as_dict()) == machine


def test_a_machine_is_measured() -> None:
    machine = measure_machine(rounds=1, megabytes=1, width=32)
    assert min(machine.as_dict().values()) > 0


def record(forward: dict[int, float], training: dict[int, float], **where: Any) -> dict[str, Any]:
    """Of FlexAttention's time by length, that of the other form being 1."""

    def row(length: int, windows: str) -> dict[str, Any]:
        part: dict[str, Any] = {"shape": [1, 8, length, 64], "window": 256, "windows": windows}
        for key, taken in (("forward", forward), ("forward_and_backward", training)):
            part[key] = {"rope_lab": 1.0, "rope_lab, FlexAttention": taken[length]}
        return part

    rows = [row(length, "inclusive") for length in forward]
    return {**CPU, **where, "local": [*rows, row(8192, "block")]}


def queries(length: int, *, training: bool = False) -> Tensor:
    return torch.zeros(1, 2, length, 8, requires_grad=training)


def test_flex_attention_is_chosen_where_it_was_measured_faster() -> None:
    found = record({8192: 0.8, 512: 1.3}, {8192: 1.1, 512: 0.7})

    def chosen(length: int, *, training: bool = False, **options: Any) -> str:
        return attention_backend(
            queries(length, training=training), **({"window": 256, "record": found} | options)
        )

    assert [chosen(n) for n in (100, 512, 1500, 3000, 8192, 60_000)] == ["sdpa"] * 3 + ["flex"] * 3
    assert [chosen(n, training=True) for n in (512, 8192)] == ["flex", "sdpa"]
    assert chosen(512, exact=False) == "flex"  # the only record of block windows
    assert chosen(8192, record={**found, "versions": {"torch": "1.0"}}) == "sdpa"
    assert chosen(8192, record={**found, "device": "another GPU"}) == "sdpa"
    without = [{**part, "forward": {"rope_lab": 1.0}} for part in found["local"]]
    assert chosen(8192, record={**found, "local": without}) == "sdpa"


def test_both_backends_that_can_be_chosen_give_the_same() -> None:
    """FlexAttention in its reference form, which runs on a CPU."""
    q, k, v = torch.randn(3, 1, 2, 40, 8)
    found = {speed: record({8192: speed}, {8192: speed}) for speed in (0.5, 2.0)}
    backends = [attention_backend(q, window=8, record=one) for one in found.values()]
    assert backends == ["flex", "sdpa"]
    flex, sdpa = (local_attention(q, k, v, window=8, backend=backend) for backend in backends)
    torch.testing.assert_close(flex, sdpa, rtol=0, atol=1e-5)


def test_without_a_gpu_nothing_is_chosen() -> None:
    assert attention_backend(queries(8192), window=256) == "sdpa"


def test_the_package_comes_with_the_record_of_a_cpu(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = recorded()
    assert found is not None
    assert set(found["machine"]) == set(Machine(1, 1, 1, 1, 1).as_dict())
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert recorded("cuda") is None


def test_the_tables_of_a_page_are_written_between_its_marks(tmp_path: Any) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- bench -->\nold\n<!-- /bench -->\nb\n", encoding="utf-8")
    assert __main__.main([str(page)]) == 0
    results = recorded()
    assert results is not None
    assert page.read_text("utf-8") == f"a\n<!-- bench -->\n{report.summary(results)}\n<!-- /bench -->\nb\n"


def test_traffic_counts_what_is_read_and_written() -> None:
    x, row = torch.randn(4, 8), torch.randn(8)
    with Traffic() as traffic:
        y = (
            x.T.T.view(32).view(4, 8) + row
        )  # views move nothing, and a row is read once however often it is used
        y.mul_(2)
        torch.empty(100)  # nothing is written yet
        torch.cat((x, y)).to(torch.float64)
        row.copy_(x[0])  # without reading what was there
    assert traffic.names == ["add", "mul_", "empty", "cat", "_to_copy", "copy_"]
    assert traffic.calls == 6
    assert traffic.fresh == 4 * (32 + 100 + 64) + 8 * 64  # not what is written in place
    assert traffic.bytes == 4 * (32 + 8 + 32) + 4 * (32 + 32) + 4 * (32 + 32 + 64) + (4 + 8) * 64 + 4 * (
        8 + 8
    )


def test_a_fused_rotation_would_need_two_passes_and_five_operations_need_ten() -> None:
    x, cos, sin = torch.randn(8, 64, 32, 64), *torch.randn(2, 32, 64)
    with Traffic() as traffic:
        first, second = x.chunk(2, dim=-1)
        x * cos + torch.cat((-second, first), dim=-1) * sin
    tables = 2 * cos.nbytes
    assert traffic.bytes == 10 * x.nbytes + tables
    assert traffic.fresh == 4.5 * x.nbytes
    assert counts.rotation(x.shape, 4).bytes == 2 * x.nbytes + 32 * 64 * 4
