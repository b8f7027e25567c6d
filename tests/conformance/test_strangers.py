"""Rotations as a stranger brings them: correct ones are not blamed, and what is broken is not left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from faulty import plain, tables, thetas, turned
from torch import Tensor, nn

from rope_lab import conformance
from rope_lab.conformance import QUESTIONS, Subject, answers, as_subject
from rope_lab.conformance.inquiry import Inquiry, answer
from rope_lab.conformance.libraries import LIBRARIES
from rope_lab.doctor.box import Refused

ASK = {question.name: question for question in QUESTIONS}


def asked(name: str, turn: Any, base: float = 10_000.0):
    return answer(name, ASK[name].ask(Inquiry(as_subject(turn, base=base))))


def even(x: Tensor) -> None:
    if x.shape[-1] % 2:
        raise ValueError(f"dim must be even, got {x.shape[-1]}")


def rows(positions: Tensor) -> Tensor:
    return positions if positions.ndim == 1 else positions[:, None]


def interleaved(x: Tensor, positions: Tensor) -> Tensor:
    even(x)
    angle = rows(positions)[..., None].double() * thetas(x.shape[-1])
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2).to(x.dtype)


def heads_last(x: Tensor, positions: Tensor) -> Tensor:
    even(x)
    return plain(x.transpose(1, 2), positions).transpose(1, 2)


def part(x: Tensor, positions: Tensor) -> Tensor:
    return torch.cat((interleaved(x[..., :32], positions), x[..., 32:]), dim=-1)


def clockwise(x: Tensor, positions: Tensor) -> Tensor:
    even(x)
    return plain(x, -positions)


def llama_3(x: Tensor, positions: Tensor) -> Tensor:
    even(x)
    theta = 500_000.0 ** (-torch.arange(0, x.shape[-1], 2).double() / x.shape[-1])
    return turned(x, *tables(x, rows(positions)[..., None] * theta))


def dynamic(x: Tensor) -> Tensor:
    """Dynamic NTK: its angles follow the length, and are the same in every number type."""
    even(x)
    dim, count = x.shape[-1], x.shape[-2]
    base = 10_000.0 * (4 * max(count, 2048) / 2048 - 3) ** (dim / (dim - 2))
    theta = base ** (-torch.arange(0, dim, 2).double() / dim)
    return turned(x, *tables(x, torch.arange(count)[:, None] * theta))


def three_axes(x: Tensor) -> Tensor:
    """(B, N, D)."""
    even(x)
    return plain(x, torch.arange(x.shape[-2]))


RIGHT = [interleaved, heads_last, part, clockwise, llama_3, three_axes]


@pytest.mark.parametrize("turn", RIGHT)
def test_a_correct_rotation_fails_nothing(turn):
    found = answers(as_subject(turn))
    assert [one for one in found if one.holds is False] == []
    assert sum(one.holds is True for one in found) >= 14


def test_angles_that_follow_the_length_are_no_fault_of_a_number_type():
    found = {one.name: one for one in answers(as_subject(dynamic))}
    assert [name for name, one in found.items() if one.holds is False] == ["length independent"]


def test_another_base_is_not_taken_for_wrong_angles():
    for name in ("exact at 1,000,000", "exact at 10,000,000", "real positions"):
        assert asked(name, llama_3).says == "its frequencies are not those of base 10,000"
        assert asked(name, llama_3, base=500_000).holds is True
        assert asked(name, plain, base=500_000).holds is None

    def rounded(x: Tensor, positions: Tensor) -> Tensor:  # of the right base, and wrong
        return turned(x, *tables(x, positions[:, None] * thetas(x.shape[-1]).bfloat16().double()))

    assert asked("exact at 1,000,000", rounded).holds is False
    assert conformance.table(llama_3, base=500_000).found[0][4].holds is True


def test_a_partial_rotation_is_not_said_to_turn_whole_heads():
    assert asked("partial rotation", part).says == "as it is called here, it turns 32 of 64 coordinates"
    assert asked("partial rotation", plain).says == "as it is called here, it turns whole heads"
    assert "any width" in asked("odd width refused", part).says


def only_single(x: Tensor, positions: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise TypeError("float32 only")
    return plain(x, positions)


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return plain(x, torch.arange(x.shape[-2]))

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        raise NotImplementedError("no backward")


def no_backward(x: Tensor) -> Tensor:
    return NoBackward.apply(x)


class Lazy(nn.Module):
    """Keeps its table as no buffer, so that a cast after the first call does not reach it."""

    table: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("theta", thetas(64).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None or len(self.table) < x.shape[-2]:
            self.table = torch.arange(x.shape[-2])[:, None].double() * self.theta.double()
        return turned(x, *tables(x, self.table[: x.shape[-2]]))


@pytest.mark.parametrize(
    ("name", "turn", "says"),
    [
        ("bfloat16", only_single, "TypeError: float32 only"),
        ("float16", only_single, "TypeError: float32 only"),
        ("float64", only_single, "TypeError: float32 only"),
        ("gradient", no_backward, "NotImplementedError: no backward"),
        ("cast module", Lazy(), "off by "),
    ],
)
def test_an_error_where_the_property_should_hold_is_a_failure(name, turn, says):
    found = asked(name, turn)
    assert found.holds is False
    assert found.says.startswith(says)


def test_a_module_whose_frequencies_survive_a_cast_passes():
    class Survives(Lazy):
        def _apply(self, fn: Any, recurse: bool = True) -> Any:
            return self

    assert asked("cast module", Survives()).holds is True


def needs_a_batch(x: Tensor, positions: Tensor) -> Tensor:
    if len(x) < 2:
        raise RuntimeError("a batch")
    return plain(x, positions)


def raises(x: Tensor, positions: Tensor) -> Tensor:
    raise RuntimeError("nothing works")


@pytest.mark.parametrize(
    ("turn", "says"),
    [
        (raises, "nothing works"),
        (lambda x, positions: plain(x, positions) * torch.nan, "it returns NaN"),
        (lambda x, positions: plain(x, positions)[..., :32], "it changes the shape"),
        (needs_a_batch, "it needs a batch"),
    ],
    ids=["raises", "NaN", "shape", "batch"],
)
def test_what_is_no_rotation_at_all_is_refused(turn, says):
    """A column of dashes would read as if nothing were wrong."""
    with pytest.raises(Refused, match=says):
        conformance.table(turn)


def test_a_library_of_another_version_does_not_stop_the_table(monkeypatch):
    def broken() -> Subject:
        return Subject("labml_nn", lambda dim: raises, version="9")

    def renamed() -> Subject:
        raise AttributeError("it has another name now")

    monkeypatch.setitem(LIBRARIES, "labml_nn", broken)
    monkeypatch.setitem(LIBRARIES, "local-attention", renamed)
    for name in ("rope_lab", "rotary-embedding-torch", "Llama of transformers"):
        monkeypatch.delitem(LIBRARIES, name)
    found = conformance.table()
    assert found.subjects == ()
    assert sorted(text.split("(")[1].split(":")[0] for text in found.missing) == ["AttributeError", "Refused"]
    assert "not asked: " in str(found)
