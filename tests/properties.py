"""What makes an implementation RoPE, as properties that take the implementation.

An implementation is made by `new()` and called as `encode(q, k, positions, dim=, base=, layout=) -> (q, k)`.
`test_rotary.py` holds the package to them, `test_mutants.py` shows that broken variants fail them.

Tolerances follow from float64: θ, m·θ and the reduction round at most eight half-units of m together, so an
angle is off by at most 4·ε·|m| (θ ≤ 1), and a product of a pair by a few ε more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rope_lab import convert_layout
from rope_lab.encodings import Layout

EPS = torch.finfo(torch.float64).eps
Encode = Callable[..., tuple[Tensor, Tensor]]
New = Callable[[], Encode]


@dataclass(frozen=True)
class Case:
    """A few numbers from which queries, keys and positions are drawn: a failure can be read and repeated."""

    layout: Layout = "interleaved"
    batch: int = 2
    heads: int = 3
    length: int = 5
    dim: int = 8
    tail: int = 2
    base: float = 10_000.0
    reach: int = 5_000
    real: bool = False
    rows: bool = False
    shift: float = 1_234
    seed: int = 0

    @property
    def how(self) -> dict[str, object]:
        return {"dim": self.dim, "base": self.base, "layout": self.layout}

    def x(self, salt: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Normal draws, shape (B, H, N, D)."""
        generator = torch.Generator().manual_seed(10 * self.seed + salt)
        shape = (self.batch, self.heads, self.length, self.dim + self.tail)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    def positions(self, salt: int = 0) -> Tensor:
        """Draws from −reach to reach, int64 or float64, shape (N,) or (B, N)."""
        generator = torch.Generator().manual_seed(10 * self.seed + salt)
        shape = (self.batch, self.length) if self.rows else (self.length,)
        m = torch.randint(-self.reach, self.reach + 1, shape, generator=generator)
        return m + torch.rand(shape, generator=generator, dtype=torch.float64) if self.real else m

    def pair(self, i: int) -> tuple[int, int]:
        """The two coordinates of pair i."""
        return (2 * i, 2 * i + 1) if self.layout == "interleaved" else (i, i + self.dim // 2)


def reference(x: Tensor, positions: Tensor, *, dim: int, base: float, layout: Layout) -> Tensor:
    """RoPE in complex128 with numpy, in the polar form of the paper (arXiv:2104.09864, eq. 12 and 16)."""
    out = x.double().numpy().copy()
    first = np.arange(0, dim, 2) if layout == "interleaved" else np.arange(dim // 2)
    second = first + (1 if layout == "interleaved" else dim // 2)
    m = positions.double().numpy()
    m = m[None, None] if m.ndim == 1 else m[:, None]
    turn = np.exp(1j * m[..., None] * float(base) ** (-np.arange(0, dim, 2) / dim))
    z = (out[..., first] + 1j * out[..., second]) * turn
    out[..., first], out[..., second] = z.real, z.imag
    return torch.from_numpy(out)


def slack(*positions: Tensor | float, terms: int = 8) -> float:
    """Relative error that float64 may leave after turning by these positions and adding `terms` products."""
    return EPS * (terms + 4 * sum(float(torch.as_tensor(m).abs().max()) for m in positions))


def assert_close(left: Tensor, right: Tensor, bound: Tensor | float) -> None:
    excess = (left - right).abs() - bound
    assert left.shape == right.shape
    assert bool((excess <= 0).all()), f"beyond its bound by {excess.max():.3g}"  # a NaN is not <= 0 either


def size(x: Tensor) -> Tensor:
    """Norm of each head vector, which bounds each of its pairs."""
    return x.double().norm(dim=-1, keepdim=True)


def shift_keeps_scores(new: New, case: Case) -> None:
    """⟨R_{m+s} q, R_{n+s} k⟩ = ⟨R_m q, R_n k⟩."""
    encode, q, k, m = new(), case.x(1), case.x(2), case.positions().double()
    near, far = ((a @ b.mT) for a, b in (encode(q, k, m + s, **case.how) for s in (0, case.shift)))
    bound = slack(m, m, m + case.shift, m + case.shift, terms=4 * q.shape[-1])
    assert_close(far, near, bound * size(q) * size(k).mT)


def norms_stay(new: New, case: Case) -> None:
    """‖R_m x‖ = ‖x‖, pair by pair."""
    encode, q, k = new(), case.x(1), case.x(2)
    for x, turned in zip((q, k), encode(q, k, case.positions(), **case.how), strict=True):
        for i in range(case.dim // 2):
            before, after = x[..., case.pair(i)].norm(dim=-1), turned[..., case.pair(i)].norm(dim=-1)
            assert_close(after, before, 8 * EPS * before)


def turns_add(new: New, case: Case) -> None:
    """R_a R_b = R_{a+b}."""
    encode, q, k, a, b = new(), case.x(1), case.x(2), case.positions(1), case.positions(2)
    twice = encode(*encode(q, k, b, **case.how), a, **case.how)
    once = encode(q, k, a + b, **case.how)
    for x, left, right in zip((q, k), twice, once, strict=True):
        assert_close(left, right, slack(a, b, a + b) * size(x))


def turning_back_undoes(new: New, case: Case) -> None:
    """R_{−m} R_m = I."""
    encode, q, k, m = new(), case.x(1), case.x(2), case.positions()
    back = encode(*encode(q, k, m, **case.how), -m, **case.how)
    for x, left in zip((q, k), back, strict=True):
        assert_close(left, x, slack(m, m) * size(x))


def position_zero_is_identity(new: New, case: Case) -> None:
    """R_0 = I, to the bit."""
    q, k = case.x(1), case.x(2)
    turned = new()(q, k, torch.zeros_like(case.positions()), **case.how)
    assert torch.equal(turned[0], q)
    assert torch.equal(turned[1], k)


def sign_of_the_turn(new: New, case: Case) -> None:
    """Position 1 takes (1, 0) to (cos θ_i, sin θ_i) and (0, 1) to (−sin θ_i, cos θ_i)."""
    encode, one = new(), torch.ones_like(case.positions())
    for i in range(case.dim // 2):
        (a, b), theta = case.pair(i), float(case.base) ** (-2 * i / case.dim)
        for first, second in (
            (a, (math.cos(theta), math.sin(theta))),
            (b, (-math.sin(theta), math.cos(theta))),
        ):
            x, expected = torch.zeros_like(case.x(1)), torch.zeros_like(case.x(1))
            x[..., first] = 1
            expected[..., a], expected[..., b] = second
            for turned in encode(x, x, one, **case.how):
                assert_close(turned, expected, slack(1.0))


def equals_complex128(new: New, case: Case) -> None:
    """The polar form in numpy's complex128 gives the same."""
    q, k, m = case.x(1), case.x(2), case.positions()
    for x, turned in zip((q, k), new()(q, k, m, **case.how), strict=True):
        assert_close(turned, reference(x, m, **case.how), slack(m) * size(x))


def equals_dense_matrix(new: New, case: Case) -> None:
    """So does the block-diagonal matrix of the paper's eq. 15, written out entry by entry."""
    q, k, m = case.x(1), case.x(2), case.positions()
    rows = m if m.ndim == 2 else m[None]
    matrix = torch.eye(q.shape[-1], dtype=torch.float64).repeat(*rows.shape, 1, 1)
    for index in np.ndindex(*rows.shape):
        for i in range(case.dim // 2):
            (a, b), angle = case.pair(i), float(rows[index]) * float(case.base) ** (-2 * i / case.dim)
            matrix[(*index, a, a)], matrix[(*index, a, b)] = math.cos(angle), -math.sin(angle)
            matrix[(*index, b, a)], matrix[(*index, b, b)] = math.sin(angle), math.cos(angle)
    for x, turned in zip((q, k), new()(q, k, m, **case.how), strict=True):
        expected = (matrix[:, None] @ x[..., None])[..., 0]
        assert_close(turned, expected, slack(m, terms=8 + x.shape[-1]) * size(x))


def layouts_differ_by_a_permutation(new: New, case: Case) -> None:
    """Rotating then converting equals converting then rotating in the other layout."""
    encode, q, k, m = new(), case.x(1), case.x(2), case.positions()
    other: Layout = "half" if case.layout == "interleaved" else "interleaved"

    def convert(x: Tensor) -> Tensor:
        return convert_layout(x, case.layout, other, rotary_dim=case.dim)

    after = [convert(x) for x in encode(q, k, m, **case.how)]
    before = encode(convert(q), convert(k), m, **(case.how | {"layout": other}))
    for x, left, right in zip((q, k), after, before, strict=True):
        assert_close(left, right, 8 * EPS * size(x))


def tail_passes_through(new: New, case: Case) -> None:
    """Coordinates beyond `dim` keep their bits, and the rest turn as if the tail were not there."""
    encode, q, k, m = new(), case.x(1), case.x(2), case.positions()
    heads = encode(q[..., : case.dim], k[..., : case.dim], m, **case.how)
    for x, turned, head in zip((q, k), encode(q, k, m, **case.how), heads, strict=True):
        assert torch.equal(turned[..., case.dim :], x[..., case.dim :])
        assert_close(turned[..., : case.dim], head, 8 * EPS * size(x))


def each_vector_turns_by_its_own_position(new: New, case: Case) -> None:
    """A token turns alone, in any batch, head or place, as it turns among the others."""
    encode, q, k, m = new(), case.x(1), case.x(2), case.positions()
    together = encode(q, k, m, **case.how)
    rows = m if m.ndim == 2 else m.expand(case.batch, -1)
    for b, h, n in np.ndindex(case.batch, case.heads, case.length):
        at = np.s_[b : b + 1, h : h + 1, n : n + 1]
        alone = encode(q[at], k[at], rows[b, n : n + 1], **case.how)
        for x, left, right in zip((q, k), alone, together, strict=True):
            assert_close(left, right[at], 8 * EPS * size(x[at]))


def queries_and_keys_turn_alike(new: New, case: Case) -> None:
    """The same vector at the same position gives the same bits as a query and as a key."""
    x = case.x(1)
    q, k = new()(x, x.clone(), case.positions(), **case.how)
    assert torch.equal(q, k)


def earlier_calls_leave_no_trace(new: New, case: Case) -> None:
    """Calls at other positions and in another dtype change no bit of a later one."""
    used, q, k, m = new(), case.x(1), case.x(2), case.positions(1)
    used(q.bfloat16(), k.bfloat16(), case.positions(2), **case.how)
    used(q[:, :, :1], k[:, :, :1], case.positions(3)[..., :1], **case.how)
    for left, right in zip(used(q, k, m, **case.how), new()(q, k, m, **case.how), strict=True):
        assert torch.equal(left, right)


def exact_at_ten_million(new: New, case: Case) -> None:
    """In float32, position 10,000,000 is off by less than 1e-6 of the vector."""
    q, k = case.x(1, torch.float32), case.x(2, torch.float32)
    m = 10_000_000 - case.positions().abs().long()
    for x, turned in zip((q, k), new()(q, k, m, **case.how), strict=True):
        assert_close(turned.double(), reference(x, m, **case.how), 1e-6 * size(x))


def half_precision_rounds_once(new: New, case: Case) -> None:
    """bfloat16 and float16 come back within half a unit of their last place of the exact value, plus 1e-6."""
    for dtype in (torch.bfloat16, torch.float16):
        q, k, m = case.x(1, dtype), case.x(2, dtype), case.positions()
        info = torch.finfo(dtype)
        for x, turned in zip((q, k), new()(q, k, m, **case.how), strict=True):
            exact = reference(x, m, **case.how)
            assert turned.dtype == dtype
            bound = info.eps / 2 * exact.abs() + info.eps * info.smallest_normal + 1e-6 * size(x)
            assert_close(turned.double(), exact, bound)


PROPERTIES: dict[str, Callable[[New, Case], None]] = {
    check.__name__: check
    for check in (
        shift_keeps_scores,
        norms_stay,
        turns_add,
        turning_back_undoes,
        position_zero_is_identity,
        sign_of_the_turn,
        equals_complex128,
        equals_dense_matrix,
        layouts_differ_by_a_permutation,
        tail_passes_through,
        each_vector_turns_by_its_own_position,
        queries_and_keys_turn_alike,
        earlier_calls_leave_no_trace,
        exact_at_ten_million,
        half_precision_rounds_once,
    )
}
