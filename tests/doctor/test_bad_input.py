"""What is not a rotation is named as what it is; what cannot be told is left open."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rope_lab import RotaryEmbedding, frequencies
from rope_lab.doctor import diagnose, recognise
from rope_lab.doctor.exhibits import D, angle, half, interleaved_tables, neighbours
from rope_lab.encodings import DynamicNTK, Llama3, YaRN


def ignores(x: Tensor, positions: Tensor) -> Tensor:
    return x.clone()


def cuts(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions))[..., :-2]


def random(x: Tensor, positions: Tensor) -> Tensor:
    return torch.nn.functional.dropout(half(x, angle(positions)), 0.1)


def nan(x: Tensor, positions: Tensor) -> Tensor:
    return half(x, angle(positions)) * math.nan


def odd(x: Tensor, positions: Tensor) -> Tensor:  # three coordinates in a circle, which has no pairs
    turned = half(x[..., :2], angle(positions, torch.ones(1)))
    third = neighbours(torch.stack((turned[..., 1], x[..., 2]), -1), angle(positions, torch.ones(1)))
    return torch.cat((turned[..., :1], third, x[..., 3:]), dim=-1)


def normalised(x: Tensor, positions: Tensor) -> Tensor:
    return torch.nn.functional.normalize(half(x, angle(positions)), dim=-1)


def batch_only(x: Tensor, positions: Tensor) -> Tensor:
    if x.shape[0] < 2:
        raise IndexError("index 1 is out of bounds")
    return half(x, angle(positions))


def shifts(x: Tensor, positions: Tensor) -> Tensor:
    return x + positions[:, None]


def raises(x: Tensor, positions: Tensor) -> Tensor:
    raise RuntimeError("no kernel")


def nothing(x: Tensor, positions: Tensor) -> None:
    return None


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (ignores, "ignores positions"),
        (cuts, "changes the shape: (2, 3, 5, 32)"),
        (random, "random"),
        (nan, "NaN"),
        (odd, "does not turn pairs"),
        (normalised, "not linear"),
        (batch_only, "needs a batch"),
        (shifts, "adds something"),
        (raises, "RuntimeError: no kernel"),
        (nothing, "returns a NoneType"),
        (lambda: 1, "TypeError"),
    ],
)
def test_bad_input_is_named_as_what_it_is(turn, words):
    found = diagnose(turn, D)
    assert words in found.refused
    assert not found.sound
    assert words.split(":")[0] in " ".join(str(found).split())
    assert found.as_dict()["refused"] == found.refused


def test_a_width_that_is_odd():
    def turn(x: Tensor, positions: Tensor) -> Tensor:
        return torch.cat((half(x[..., :32], angle(positions)), x[..., 32:]), dim=-1)

    found = diagnose(turn, 33)
    assert found.sound
    assert found.q is not None
    assert (found.q.begin, found.q.end) == (0, 32)
    assert "RuntimeError" in diagnose(interleaved_tables, 33).refused


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((3, 4), TypeError), ((ignores, 0), ValueError), ((ignores, "x"), ValueError)],
)
def test_arguments(arguments, error):
    with pytest.raises(error):
        diagnose(*arguments)
    with pytest.raises(ValueError, match="axis must be 0, 1 or 2"):
        diagnose(ignores, D, axis=3)


def test_what_cannot_be_told_is_left_open():
    found = diagnose(lambda x: half(x, torch.arange(x.shape[-2])[:, None].double() * frequencies(D)), D)
    open_ = {one.name for one in found.properties if one.holds is None}
    assert {"positions used", "packed = apart", "cached = full", "position 1,000,000"} <= open_
    assert recognise(torch.rand(8, dtype=torch.float64), 16).kind == "list"
    assert recognise(frequencies(4), 4).says.endswith("if it is geometric")
    assert recognise(torch.tensor([0.3]), 2).base is None


def test_an_axis_without_positions_is_found_and_the_doubt_is_said():
    def turn(x: Tensor) -> Tensor:
        return half(x, torch.arange(len(x))[:, None, None, None].double() * frequencies(D))

    found = diagnose(turn, D)
    assert found.sound
    assert "(N, B, H, D)" in found.takes
    assert any("batch index" in note for note in found.notes)
    assert diagnose(turn, D, axis=2).faults == ("batch index for position",)


def test_another_pairing_is_shown_as_pairs():
    order = torch.randperm(D, generator=torch.Generator().manual_seed(1))

    def turn(x: Tensor, positions: Tensor) -> Tensor:
        out = torch.empty_like(x)
        out[..., order] = neighbours(x[..., order], angle(positions))
        return out

    found = diagnose(turn, D)
    assert found.sound
    assert found.q is not None
    assert found.q.layout == "another pairing"
    want = {tuple(sorted(pair)) for pair in order.view(-1, 2).tolist()}
    assert {tuple(pair) for pair in found.q.pairs.tolist()} == want


def test_positions_may_begin_at_another_number():
    found = diagnose(lambda x, positions: half(x, angle(positions + 1)), D)
    assert found.sound
    assert found.q is not None
    assert found.q.start == pytest.approx(1, abs=1e-4)


def test_a_length_is_noticed():
    found = diagnose(RotaryEmbedding(D, scaling=DynamicNTK(2.0, 1500)), D)
    assert found.limits == ("follows the length",)


def test_products_in_half_precision_are_a_limit():
    found = diagnose(lambda x, positions: half(x.bfloat16(), angle(positions)).to(x.dtype), D)
    assert found.limits == ("rounded tables",), str(found)
    assert found.sound


def test_a_short_table_leaves_what_is_beyond_it_open():
    table = angle(torch.arange(512))
    found = diagnose(lambda x, positions: half(x, table[positions]), D)
    assert found.sound
    assert found["position 1,000,000"].holds is None
    assert "300 only" in found["position 1,000,000"].says


def test_rounded_tables_are_a_limit():
    def turn(x: Tensor, positions: Tensor) -> Tensor:
        a = angle(positions)
        cos, sin = a.cos().bfloat16().to(x.dtype), a.sin().bfloat16().to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    found = diagnose(turn, D)
    assert "rounded tables" in found.limits
    assert found.sound, str(found)


def test_xpos_of_queries_and_keys_is_no_alarm():
    zeta = ((torch.arange(0, D, 2) / D + 0.4) / 1.4).double()

    def turn(q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        scale = zeta.repeat(2) ** (positions[..., None].double() / 512)
        return (half(q, angle(positions)) * scale).to(q.dtype), (half(k, angle(positions)) / scale).to(
            k.dtype
        )

    found = diagnose(turn, D)
    assert found.sound, str(found)
    assert "scales" in found.limits


def test_different_angles_in_no_known_order():
    def turn(x: Tensor, positions: Tensor) -> Tensor:
        a = angle(positions, torch.linspace(0.1, 1.0, D).double())
        partner = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
        return x * a.cos().to(x.dtype) + partner * a.sin().to(x.dtype)

    assert "angles differ" in diagnose(turn, D).faults


@pytest.mark.parametrize("scaling", [Llama3(8.0), YaRN(8, 4096)])
def test_frequencies_that_are_others_than_the_configs(scaling):
    found = diagnose(
        RotaryEmbedding(64, scaling=Llama3(4.0)), 64, expected=RotaryEmbedding(64, scaling=scaling)
    )
    assert "wrong frequencies" in found.faults
