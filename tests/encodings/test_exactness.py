"""Angles are exact at any position, and nothing that happens to a module or before a call changes a bit of them."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from properties import EPS, assert_close, reference, size
from torch import Tensor, nn
from without_float64 import WithoutFloat64

import rope_lab.encodings.base
from rope_lab import RotaryEmbedding, SinusoidalEmbedding, angles, frequencies, rotate
from rope_lab.encodings import (
    ALiBi,
    DynamicNTK,
    PositionInterpolation,
    RotaryEmbeddingND,
    RotaryValueEmbedding,
    XPos,
    YaRN,
    axial_frequencies,
    t5_buckets,
)

LAYOUTS = ("interleaved", "half")
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
Q, K = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0)).split([5, 4], dim=2)
K = torch.cat((Q, K), dim=2)
N = torch.arange(5)

FAR = [1, 2, 3, 1_000, 65_537, 999_999, 8_388_609, 9_999_999, 10_000_000]
POSITIONS = {
    "whole": FAR,
    "negative": [-m for m in FAR],
    "real": [m + fraction for m in FAR for fraction in (-0.7, 0.25, 1e-3)],
    "near zero": [0, 1e-3, -1e-3, 1e-9, 0.5, math.pi],
}


def fifty_digits(positions: list[float], dim: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of m·base^(−2i/dim), each rounded once from 50 digits."""
    with mpmath.workdps(50):
        theta = [mpmath.mpf(base) ** (-mpmath.mpf(2 * i) / dim) for i in range(dim // 2)]
        rows = [[mpmath.mpf(m) * t for t in theta] for m in positions]
        cos, sin = ([[float(f(angle)) for angle in row] for row in rows] for f in (mpmath.cos, mpmath.sin))
    return torch.tensor(cos, dtype=torch.float64), torch.tensor(sin, dtype=torch.float64)


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize(("dim", "base"), [(128, 10_000.0), (128, 500_000.0), (96, 10_000.0), (2, 10_000.0)])
def test_tables_against_fifty_digits(kind: str, dim: int, base: float) -> None:
    """Less than 1e-6 off in float32; in float64 within the rounding of m·θ."""
    listed = POSITIONS[kind]
    cos, sin = fifty_digits(listed, dim, base)
    m = torch.tensor(listed, dtype=torch.float64)
    m = m.long() if kind in ("whole", "negative") else m
    for dtype, bound in ((torch.float32, 1e-6), (torch.float64, EPS * (2 + 4 * m.abs()[:, None]))):
        table = angles(m, frequencies(dim, base), dtype=dtype)
        assert table.dtype == dtype
        assert_close(table.cos().double(), cos, bound)
        assert_close(table.sin().double(), sin, bound)
        for layout in LAYOUTS:  # what comes out at the end: e^{imθ} · (1, 0)
            first = slice(0, None, 2) if layout == "interleaved" else slice(0, dim // 2)
            second = slice(1, None, 2) if layout == "interleaved" else slice(dim // 2, None)
            x = torch.zeros(len(m), dim, dtype=dtype)
            x[:, first] = 1
            turned = rotate(x, table, layout)
            assert_close(turned[:, first].double(), cos, bound)
            assert_close(turned[:, second].double(), sin, bound)


@pytest.mark.parametrize("dim", [2, 6, 64, 96, 128, 256])
@pytest.mark.parametrize("base", [2, 100.0, 10_000, 500_000.0, 1e9])
def test_frequencies_against_fifty_digits(dim: int, base: float) -> None:
    with mpmath.workdps(50):
        exact = [float(mpmath.mpf(base) ** (-mpmath.mpf(2 * i) / dim)) for i in range(dim // 2)]
    expected = torch.tensor(exact, dtype=torch.float64)
    assert_close(frequencies(dim, base), expected, EPS * (2 + math.log(base)) * expected)


@given(m=st.lists(st.floats(-1e7, 1e7) | st.integers(-(10**7), 10**7), min_size=1), base=st.floats(1.5, 1e6))
def test_angles_are_odd_reduced_and_keep_small_angles(m: list[float], base: float) -> None:
    positions, freqs = torch.tensor(m, dtype=torch.float64), frequencies(8, base)
    table = angles(positions, freqs, dtype=torch.float64)
    assert torch.equal(angles(-positions, freqs, dtype=torch.float64), -table)
    assert bool((table.abs() <= math.pi + EPS * positions.abs()[:, None]).all())
    product = positions[:, None] * freqs
    small = product.abs() < math.pi
    assert torch.equal(table[small], product[small])


# The module keeps no table, so nothing can round it


def cast(dtype: torch.dtype) -> Callable[[nn.Module], nn.Module]:
    return lambda module: module.to(dtype)


def through_meta(module: RotaryEmbedding) -> RotaryEmbedding:
    with torch.device("meta"):
        built = RotaryEmbedding(module.dim, base=module.base, layout=module.layout)
    return built.to_empty(device="cpu")


TREATMENTS: dict[str, Callable[[RotaryEmbedding], nn.Module]] = {
    "bfloat16": lambda module: module.bfloat16(),
    "half": lambda module: module.half(),
    "half and back": lambda module: module.half().float(),
    "double": lambda module: module.double(),
    "to(bfloat16)": cast(torch.bfloat16),
    "to(cpu)": lambda module: module.to("cpu"),
    "to(meta) and to_empty": lambda module: module.to("meta").to_empty(device="cpu"),
    "built on meta": through_meta,
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "eval": lambda module: module.eval(),
    "in a model": lambda module: nn.ModuleList([module, nn.Linear(2, 2)]).bfloat16()[0],
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("treatment", TREATMENTS)
def test_same_bits_after(treatment: str, layout: str, dtype: torch.dtype) -> None:
    def turn(module: nn.Module) -> tuple[Tensor, Tensor]:
        return module(Q.to(dtype), K.to(dtype), offset=123_456)

    module = RotaryEmbedding(6, layout=layout)
    before = turn(module)
    treated = TREATMENTS[treatment](module)
    after = turn(treated)
    assert after[0].dtype == dtype
    assert all(map(torch.equal, after, before))
    assert treated.state_dict() == {}
    assert list(treated.parameters()) == list(treated.buffers()) == []
    treated.load_state_dict({}, strict=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_same_bits_inside_contexts(dtype: torch.dtype, layout: str) -> None:
    """Autocast, inference mode, and another default dtype or device."""
    module, q, k = RotaryEmbedding(6, layout=layout), Q.to(dtype), K.to(dtype)
    before = module(q, k, offset=77)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(map(torch.equal, module(q, k, offset=77), before))
    with torch.inference_mode():
        assert all(map(torch.equal, module(q, k, offset=77), before))
    with torch.device("meta"):
        assert all(map(torch.equal, module(q, k, offset=77), before))
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert all(map(torch.equal, module(q, k, offset=77), before))
        assert all(map(torch.equal, RotaryEmbedding(6, layout=layout)(q, k, offset=77), before))
        assert RotaryEmbedding(6, learned=True).learned_freqs.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


CALLS = st.tuples(
    st.sampled_from(FLOATS),
    st.integers(1, 5),  # queries
    st.integers(0, 4),  # more keys than queries
    st.sampled_from([0, 1, 7, 4_096, 10_000_000, -3]),  # offset
    st.sampled_from([None, "rows", "real"]),  # positions
    st.sampled_from(
        ["", "autocast", "inference", "bfloat16", "half", "double"]
    ),  # what happens to the module
)


@given(calls=st.lists(CALLS, min_size=1, max_size=8), layout=st.sampled_from(LAYOUTS), learned=st.booleans())
def test_any_order_of_calls_gives_what_each_gives_alone(
    calls: list[tuple], layout: str, learned: bool
) -> None:
    """Against a reference without state: the three functions on fresh frequencies."""
    module = RotaryEmbedding(6, layout=layout, learned=learned)
    freqs = frequencies(6).float().requires_grad_() if learned else frequencies(6)
    for dtype, n_q, more, offset, kind, treatment in calls:
        q, k = Q[:, :, :n_q].to(dtype), K[:, :, : n_q + more].to(dtype)
        m = {
            None: torch.arange(n_q + more),
            "rows": torch.arange(2 * (n_q + more)).view(2, -1),
            "real": torch.linspace(-3, 3, n_q + more),
        }[kind]
        if treatment in ("bfloat16", "half", "double"):
            getattr(module, treatment)()
        with (
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=treatment == "autocast"),
            torch.inference_mode(treatment == "inference"),
        ):
            left = module(q, k, positions=None if kind is None else m, offset=offset)
            table = angles(m.double() + offset, freqs, dtype=torch.promote_types(dtype, torch.float32))
            right = rotate(q, table[..., more:, :], layout), rotate(k, table, layout)
        assert all(map(torch.equal, left, right))


@given(calls=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 40)), min_size=2, max_size=6))
def test_a_scaling_that_depends_on_length_leaves_no_trace(calls: list[tuple[int, int]]) -> None:
    module = RotaryEmbedding(6, scaling=DynamicNTK(factor=4.0, original_length=8))
    for length, offset in calls:
        fresh = RotaryEmbedding(6, scaling=DynamicNTK(factor=4.0, original_length=8))
        x = K[:, :, :length]
        assert all(map(torch.equal, module(x, x, offset=offset), fresh(x, x, offset=offset)))


# Learned frequencies


@pytest.mark.parametrize("treatment", [name for name in TREATMENTS if "meta" not in name])
def test_learned_frequencies_stay_float32(treatment: str) -> None:
    module = RotaryEmbedding(6, learned=True)
    with torch.no_grad():
        module.learned_freqs.mul_(math.pi)  # digits that bfloat16 does not have
    module(Q, K)[0].sum().backward()
    freqs, gradient = module.learned_freqs.detach().clone(), module.learned_freqs.grad.clone()
    treated = TREATMENTS[treatment](module)
    assert isinstance(treated.learned_freqs, nn.Parameter)
    assert treated.learned_freqs.dtype == torch.float32
    assert torch.equal(treated.learned_freqs, freqs)
    if treatment not in ("deepcopy", "pickle"):  # which leave gradients behind
        assert treated.learned_freqs.grad.dtype == torch.float32
        assert torch.equal(treated.learned_freqs.grad, gradient)


@pytest.mark.parametrize(
    "by", [lambda module: module, lambda module: module.to("meta").to_empty(device="cpu")]
)
def test_learned_frequencies_survive_a_state_dict(by: Callable[[RotaryEmbedding], RotaryEmbedding]) -> None:
    trained = RotaryEmbedding(6, learned=True)
    with torch.no_grad():
        trained.learned_freqs.add_(torch.rand(3))
    state = trained.bfloat16().state_dict()
    assert list(state) == ["learned_freqs"]
    loaded = by(RotaryEmbedding(6, learned=True))
    loaded.load_state_dict(state, strict=True)
    assert torch.equal(loaded.learned_freqs, trained.learned_freqs)
    assert all(map(torch.equal, loaded(Q, K), trained(Q, K)))
    with pytest.raises(RuntimeError, match="size mismatch"):
        RotaryEmbedding(8, learned=True).load_state_dict(state)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        RotaryEmbedding(6).load_state_dict(state)


def test_learned_frequencies_are_born_where_the_module_is() -> None:
    """Built on meta, then given memory and its first values, as large models are."""
    with torch.device("meta"):
        module = RotaryEmbedding(6, learned=True)
    assert module.learned_freqs.is_meta
    module.to_empty(device="cpu").reset_parameters()
    assert torch.equal(module.learned_freqs, RotaryEmbedding(6, learned=True).learned_freqs)


# A device without float64


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(rope_lab.encodings.base, "_WITHOUT_FLOAT64", {"meta"})
    return "meta"


def test_the_stand_in_refuses_float64() -> None:
    """Without the entry in the list the package would fail there, so the tests below can fail."""
    with WithoutFloat64():
        assert torch.ones(2, device="meta").add(1).to("cpu").tolist() == [2, 2]
        with pytest.raises(TypeError, match=r"no torch\.float64"):
            torch.ones(2, device="meta").double()
        with pytest.raises(RuntimeError, match="two devices"):
            torch.ones(2, device="meta") + torch.ones(2)
        with pytest.raises(TypeError, match=r"no torch\.float64"):
            RotaryEmbedding(6)(Q.to("meta"), K.to("meta"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS[1:])
@pytest.mark.parametrize("positions", [None, torch.arange(9) + 10_000_000, torch.rand(2, 9) * 1_000])
def test_tables_are_formed_on_the_cpu_for_a_device_without_float64(
    stand_in: str, positions: Tensor | None, dtype: torch.dtype, layout: str
) -> None:
    module, q, k = RotaryEmbedding(6, layout=layout), Q.to(dtype), K.to(dtype)
    here = module(q, k, positions=positions, offset=3)
    with WithoutFloat64():
        m = None if positions is None else positions.to(stand_in)
        there = module.to(stand_in)(q.to(stand_in), k.to(stand_in), positions=m, offset=3)
        assert {t.device.type for t in there} == {stand_in}
        assert all(map(torch.equal, (t.to("cpu") for t in there), here))


@pytest.mark.parametrize("scaling", [None, PositionInterpolation(2.0)])
def test_learned_frequencies_learn_on_a_device_without_float64(
    stand_in: str, scaling: PositionInterpolation | None
) -> None:
    here = RotaryEmbedding(6, learned=True, scaling=scaling)
    here(Q, K)[0].sum().backward()
    with WithoutFloat64():
        there = RotaryEmbedding(6, learned=True, scaling=scaling).to(stand_in)
        there(Q.to(stand_in), K.to(stand_in))[0].sum().backward()
        assert torch.equal(there.learned_freqs.grad.to("cpu"), here.learned_freqs.grad)


HOOKS: dict[str, Callable[[str], Tensor]] = {  # what each other encoding does to tokens on a device
    "sinusoidal": lambda at: SinusoidalEmbedding(8).embed(Q.to(at), N.to(at)),
    "scaled": lambda at: RotaryEmbedding(8, scaling=YaRN(4.0, 8))(Q.to(at), Q.to(at))[0],
    "custom": lambda at: RotaryEmbedding(8, freqs=torch.full((4,), 0.3).to(at))(Q.to(at), Q.to(at))[0],
    "xpos": lambda at: XPos(8, scale_base=64)(Q.to(at), Q.to(at))[1],
    "values": lambda at: RotaryValueEmbedding(8).rotate(*3 * [Q.to(at)], N.to(at))[2],
    "axial": lambda at: RotaryEmbeddingND(axial_frequencies(8, 2), sizes=(2, 2), prefix=1).rotate(
        *3 * [Q.to(at)], N.to(at)
    )[0],
    "ALiBi": lambda at: ALiBi(3).bias(Q.to(at), Q.to(at), N.to(at), N.to(at)),
    "T5 buckets": lambda at: t5_buckets(N.to(at) - 100, buckets=32, max_distance=128, causal=True),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_every_encoding_reaches_a_device_without_float64(stand_in: str, hook: str) -> None:
    here = HOOKS[hook]("cpu")
    with WithoutFloat64():
        there = HOOKS[hook](stand_in)
        assert there.device.type == stand_in
        assert torch.equal(there.to("cpu"), here)


# Bounds by dtype


@given(
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
    scale=st.sampled_from([2.0**-20, 2.0**-12, 1.0, 2.0**12]),
    layout=st.sampled_from(LAYOUTS),
    offset=st.integers(0, 10_000_000),
    seed=st.integers(0, 2**20),
)
def test_each_dtype_rounds_its_result_once(
    dtype: torch.dtype, scale: float, layout: str, offset: int, seed: int
) -> None:
    """Off by half a unit in the last place (below the normal numbers: of the smallest), and by float32's own error.

    An angle rounds to 2⁻²⁴·π at most, cos and sin to 2⁻²⁴ each, and so do two products and their sum: together
    less than 8 half-units of the float32 vector.
    """
    x = (scale * torch.randn(1, 2, 7, 8, generator=torch.Generator().manual_seed(seed))).to(dtype)
    turned, _ = RotaryEmbedding(8, layout=layout)(x, x, offset=offset)
    exact = reference(x, torch.arange(7) + offset, dim=8, base=10_000, layout=layout)
    info = torch.finfo(dtype)
    once = info.eps / 2 * exact.abs() + info.eps / 2 * info.smallest_normal
    assert_close(turned.double(), exact, once + 8 * 2.0**-24 * size(x))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_queries_and_keys_may_differ_in_dtype(layout: str) -> None:
    """Each is rotated as if it were alone."""
    module = RotaryEmbedding(6, layout=layout)
    for a in FLOATS:
        for b in FLOATS:
            q, k = module(Q.to(a), Q.to(b), offset=1_000)
            assert (q.dtype, k.dtype) == (a, b)
            for x, alone in (
                (q, module(Q.to(a), Q.to(a), offset=1_000)[0]),
                (k, module(Q.to(b), Q.to(b), offset=1_000)[1]),
            ):
                torch.testing.assert_close(x, alone, atol=2e-6, rtol=torch.finfo(x.dtype).eps)
