"""Checkers of chapter 3: a turn in the plane, the block-diagonal matrix, a score from the distance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import EXPONENTS, half_order, matrix, rotated, theta


def _turn(x: Tensor, m: float, theta: float) -> Tensor:
    return rotated(x, torch.full((len(x), 1), float(m * theta), dtype=torch.float64))


def _turn_draws(d: Draw) -> Iterator[Inputs]:
    yield d.tensor(1, 2), 1.0, d.real(0.2, 0.8)
    yield d.tensor(1, 2), d.real(2.1, 3.9), d.real(0.2, 0.8)
    yield d.tensor(2, 2), -d.real(1.1, 2.9), d.real(1.1, 1.9)
    yield d.tensor(d.whole(3, 5), 2), 0.0, d.real(0.2, 0.8)
    for _ in range(2):
        yield d.tensor(d.whole(3, 5), 2), d.real(3.1, 9.9), d.real(0.2, 0.8)


def _in_rows(x: Tensor, m: float, theta: float, first: int, second: int, *, reused: bool = False) -> Tensor:
    (a, b), cos, sin = x.unbind(-1), math.cos(m * theta), math.sin(m * theta)
    top = a * cos + first * b * sin
    return torch.stack((top, b * cos + second * (top if reused else a) * sin), dim=-1)


def _rows_as_positions(x: Tensor, m: float, theta: float) -> Tensor:
    return rotated(x, torch.arange(len(x), dtype=torch.float64)[:, None] * theta)


check_turn = Exercise(
    "3.1",
    "turn",
    _turn,
    _turn_draws,
    {
        "this turns clockwise; look at the signs of the two sines": lambda x, m, theta: _turn(x, -m, theta),
        "the minus of −sin mθ is missing": lambda x, m, theta: _in_rows(x, m, theta, 1, 1),
        "both sines have a minus; only the first row's has": lambda x, m, theta: _in_rows(
            x, m, theta, -1, -1
        ),
        "the second row is a·sin mθ + b·cos mθ; yours subtracts": lambda x, m, theta: (
            _turn(x, m, theta) - 2 * x[:, 1:] * math.cos(m * theta) * torch.tensor([0.0, 1.0])
        ),
        "the two coordinates are the last axis: stack them with dim=-1": lambda x, m, theta: (
            _turn(x, m, theta).T
        ),
        "you turn by theta; the angle is m·theta": lambda x, m, theta: _turn(x, 1, theta),
        "you turn by m; the angle is m·theta": lambda x, m, theta: _turn(x, m, 1),
        "you turn by m + theta; the angle is m·theta": lambda x, m, theta: _turn(x, 1, m + theta),
        "theta is in radians, not in degrees": lambda x, m, theta: _turn(x, m, math.radians(theta)),
        "the step is multiplied m times: the angle is m·theta, not theta^m": lambda x, m, theta: _turn(
            x, 1, theta**m
        ),
        "the second row uses the first result; both rows take the old coordinates": lambda x, m, theta: (
            _in_rows(x, m, theta, -1, 1, reused=True)
        ),
        "row n turns by n·theta; all vectors move on by m": _rows_as_positions,
        "row n turns by (m + n)·theta; all vectors move on by m": lambda x, m, theta: rotated(
            x, (m + torch.arange(len(x), dtype=torch.float64))[:, None] * theta
        ),
        "m is cut to a whole number; positions can be real": lambda x, m, theta: _turn(x, int(m), theta),
        "the two coordinates have changed places": lambda x, m, theta: _turn(x, m, theta).flip(-1),
        "nothing is turned": lambda x, m, theta: x,
    },
    right="one complex multiplication.",
    properties={
        "a turn keeps the length of every vector, and this does not": lambda y, x, m, theta: torch.allclose(
            y.norm(dim=-1), x.norm(dim=-1), atol=1e-4
        )
    },
)
"""Exercise 3.1: `turn(x, m, theta)` moves stamped vectors x (N, 2) on by m: counter-clockwise by m·theta radians."""


def _rotation_matrix(m: float, dim: int, base: float) -> Tensor:
    return matrix(m * theta(dim, base))


def _matrix_draws(d: Draw) -> Iterator[Inputs]:
    yield d.real(1.1, 2.9), 2, d.one_of(20.0, 50.0)
    yield 1.0, 4, d.one_of(20.0, 50.0)
    yield d.real(2.1, 3.9), 4, d.one_of(30.0, 70.0, 500.0)
    yield 0.0, 6, 50.0
    yield -d.real(2.1, 5.9), 6, d.one_of(30.0, 70.0, 500.0)
    yield d.real(4.1, 9.9), 8, 10_000.0


def _half(m: float, dim: int, base: float) -> Tensor:
    order = half_order(dim)
    return _rotation_matrix(m, dim, base)[order][:, order]


check_rotation_matrix = Exercise(
    "3.2",
    "rotation_matrix",
    _rotation_matrix,
    _matrix_draws,
    {
        "this is the transpose, which turns clockwise: M for a key m before the query": lambda m, dim, base: (
            _rotation_matrix(-m, dim, base)
        ),
        "m is missing: the angles are m·θ_i": lambda m, dim, base: _rotation_matrix(1, dim, base),
        "m is cut to a whole number; positions can be real": lambda m, dim, base: _rotation_matrix(
            int(m), dim, base
        ),
        "only the cosines are there; the sines are beside the diagonal": lambda m, dim, base: (
            _rotation_matrix(m, dim, base).diag().diag()
        ),
        "this pairs i with i + dim/2; here neighbours turn together": _half,
        "this pairs i with i + dim/2, and turns clockwise": lambda m, dim, base: _half(-m, dim, base),
    }
    | {why: lambda m, dim, base, f=f: matrix(m * f(dim, base)) for why, f in EXPONENTS.items()},
    right="between query and key there is one rotation, by their distance.",
    properties={
        "a rotation is orthogonal, RᵀR = 1, and this matrix is not": lambda y, m, dim, base: torch.allclose(
            y.mT @ y, torch.eye(dim, dtype=torch.float64), atol=1e-4
        )
    },
)
"""Exercise 3.2: `rotation_matrix(m, dim, base)` is M with ⟨R_n q, R_{n+m} k⟩ = qᵀ M k: R_m, (dim, dim)."""


def _pairs(x: Tensor) -> Tensor:
    return torch.complex(x[::2], x[1::2])


def _terms(q: Tensor, k: Tensor, distance: float, freqs: Tensor) -> Tensor:
    return _pairs(q) * _pairs(k).conj() * torch.polar(torch.ones_like(freqs), distance * freqs)


def _score(q: Tensor, k: Tensor, distance: float, base: float) -> Tensor:
    return _terms(q, k, distance, theta(len(q), base)).sum().real


def _score_draws(d: Draw) -> Iterator[Inputs]:
    for dim, base in ((2, 50.0), (4, d.one_of(20.0, 70.0)), (6, d.one_of(30.0, 500.0)), (8, 10_000.0)):
        yield d.tensor(dim), d.tensor(dim), d.real(1.1, 8.9), base
    yield d.tensor(4), d.tensor(4), 0.0, 50.0
    yield d.tensor(6), d.tensor(6), -d.real(2.1, 8.9), 70.0


def _of_terms(result: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda q, k, s, base: result(_terms(q, k, s, theta(len(q), base)))


def _unconjugated(q: Tensor, k: Tensor, s: float, base: float) -> Tensor:
    turn = torch.polar(torch.ones(len(q) // 2, dtype=torch.float64), s * theta(len(q), base))
    return (_pairs(q) * _pairs(k) * turn).sum().real


check_score = Exercise(
    "3.3",
    "score",
    _score,
    _score_draws,
    {
        "the sign of the distance is turned round, or q is conjugated instead of k, which is the same: "
        "a query that moves on makes m − n larger, and k has the conjugate": lambda q, k, s, base: _score(
            q, k, -s, base
        ),
        "the conjugate of k is missing": _unconjugated,
        "the distance does not enter: this is the score before the query moves": lambda q, k, s, base: q @ k,
        "this is the length of the sum; the score is its real part": _of_terms(
            lambda terms: terms.sum().abs()
        ),
        "this is the imaginary part; the score is the real part": _of_terms(lambda terms: terms.sum().imag),
        "this is the mean over pairs; the score is the sum": _of_terms(lambda terms: terms.mean().real),
        "sum over the pairs": _of_terms(lambda terms: terms.real),
        "only the cosines are there: the imaginary part of q·k* meets the sines": lambda q, k, s, base: (
            _terms(q, k, 0, theta(len(q), base)).real * (s * theta(len(q), base)).cos()
        ).sum(),
        "this is the sum of |q||k| cos(sθ); each pair of q and k has an angle of its own": lambda q, k, s, base: (
            (_terms(q, k, 0, theta(len(q), base)).abs() * (s * theta(len(q), base)).cos()).sum()
        ),
        "pairs are neighbours here, (0, 1), (2, 3), …": lambda q, k, s, base: _score(
            q[half_order(len(q)).argsort()], k[half_order(len(q)).argsort()], s, base
        ),
        "the score is not divided by √D here": lambda q, k, s, base: _score(q, k, s, base) / len(q) ** 0.5,
        "the distance is cut to a whole number; it can be real": lambda q, k, s, base: _score(
            q, k, int(s), base
        ),
    }
    | {
        why: lambda q, k, s, base, f=f: _terms(q, k, s, f(len(q), base)).sum().real
        for why, f in EXPONENTS.items()
    },
    right="no vector was turned to know the score after a turn.",
)
"""Exercise 3.3: `score(q, k, distance, base)` of stamped q and k (D,) when the query moves on by `distance`."""


Stamp = Callable[[Tensor, int], Tensor]
REACH = 20  # positions below this one tell which stamp is relative
FREQS = torch.tensor([0.9, 0.2], dtype=torch.float64)
STAMPS: dict[str, Stamp] = {
    "a turn of every pair at its own speed": lambda x, m: rotated(x, m * FREQS),
    "a turn clockwise in one pair and counter-clockwise in the other": lambda x, m: rotated(
        x, m * FREQS * torch.tensor([1.0, -1.0])
    ),
    "a mirror at every odd position": lambda x, m: x * torch.tensor([1.0, 1.0, 1.0, (-1.0) ** m]),
    "a circular shift of the coordinates": lambda x, m: x.roll(m, -1),
    "an added vector of sines and cosines": lambda x, m: (
        x + torch.stack(((m * FREQS).sin(), (m * FREQS).cos()), -1).flatten()
    ),
    "a turn and a factor for the position": lambda x, m: rotated(x, m * FREQS) * 1.1**m,
    "a turn that speeds up": lambda x, m: rotated(x, m * m * FREQS / 8),
    "a turn that stops at position 9": lambda x, m: rotated(x, min(m, 9) * FREQS),
    "a turn that begins again every 12 positions": lambda x, m: rotated(x, m % 12 * FREQS),
}
for _name, _stamp in STAMPS.items():
    _stamp.__name__ = _name


def _between(stamp: Stamp, q: Tensor, k: Tensor) -> Tensor:
    """The scores of q at row m with k at column n, (REACH, REACH)."""
    return (
        torch.stack([stamp(q, m) for m in range(REACH)]) @ torch.stack([stamp(k, n) for n in range(REACH)]).T
    )


def _witness(stamp: Stamp, q: Tensor, k: Tensor) -> tuple[int, int, int] | None:
    scores = _between(stamp, q, k)
    for s in range(1 - REACH, REACH):
        along = scores.diagonal(s)
        if (t := int((along - along[0]).abs().argmax())) and (along[t] - along[0]).abs() > 1e-3:
            return max(0, -s), max(0, s), t
    return None


def _witness_draws(d: Draw) -> Iterator[Inputs]:
    for stamp in STAMPS.values():
        yield stamp, d.tensor(4), d.tensor(4)


def _no_witness(y: Tensor, stamp: Stamp, q: Tensor, k: Tensor) -> str:
    if y.shape != (3,):
        return f"a witness is three integers m, n, t, got shape {tuple(y.shape)}."
    m, n, t = map(int, y.tolist())
    if min(m, n, m + t, n + t) < 0 or max(m, n, m + t, n + t) >= REACH:
        return f"the positions m, n, m + t, n + t have to be from 0 to {REACH - 1}, got m = {m}, n = {n}, t = {t}."
    here, there = float(stamp(q, m) @ stamp(k, n)), float(stamp(q, m + t) @ stamp(k, n + t))
    if abs(there - here) > 1e-6 * max(1.0, abs(here)):
        return ""
    return f"the score is {here:.4g} at ({m}, {n}), and the same at ({m + t}, {n + t})."


def _first_of(tries: list[tuple[int, int, int]]) -> Callable[..., tuple[int, int, int] | None]:
    def first(stamp: Stamp, q: Tensor, k: Tensor) -> tuple[int, int, int] | None:
        scores = _between(stamp, q, k).tolist()
        return next(((m, n, t) for m, n, t in tries if abs(scores[m + t][n + t] - scores[m][n]) > 1e-6), None)

    return first


def _by_length(stamp: Stamp, q: Tensor, k: Tensor) -> tuple[int, int, int] | None:
    return None if torch.allclose(stamp(q, 5).norm(), q.norm()) else _witness(stamp, q, k)


check_witness = Exercise(
    "3.4",
    "witness",
    _witness,
    _witness_draws,
    {
        "a stamp that keeps lengths need not be relative": _by_length,
        "you try pairs at distance 0 only": _first_of([(m, m, t) for m in range(10) for t in range(1, 10)]),
        "you shift one pair, and only by 1": _first_of([(1, 0, 1)]),
        "you look at the first positions only; a stamp can change its habits later": _first_of(
            [(m, n, t) for m in range(4) for n in range(4) for t in range(1, 4)]
        ),
        "you name a witness against every stamp": lambda stamp, q, k: (3, 1, 2),
    },
    right="you can ask any stamp whether it is relative.",
    fault=_no_witness,
)
"""Exercise 3.4: `witness(stamp, q, k)` is an (m, n, t) that shows that a stamp is not relative, or None."""


def _next_scores(q: Tensor, k: Tensor, cached: Tensor, base: float) -> Tensor:
    return _with_cache(q, k, cached, base)


def _with_cache(
    q: Tensor,
    k: Tensor,
    cached: Tensor,
    base: float,
    *,
    again: int = 0,
    own: int = 0,
    query: int = 0,
    sign: int = 1,
) -> Tensor:
    """Scores when the cached keys are turned `again`, and key and query are off by some positions."""
    freqs, n = theta(len(q), base), len(cached)
    at = torch.arange(n, dtype=torch.float64)[:, None]
    keys = torch.cat((rotated(cached, again * at * freqs), rotated(k[None], sign * (n + own) * freqs)))
    return keys @ rotated(q, sign * (n + query) * freqs)


def _cache_draws(d: Draw) -> Iterator[Inputs]:
    for n, dim in ((0, 2), (1, 2), (2, 4), (d.whole(3, 4), 4), (d.whole(5, 7), 6)):
        yield d.tensor(dim), d.tensor(dim), d.tensor(n, dim), d.one_of(20.0, 50.0, 500.0)


check_next_scores = Exercise(
    "3.5",
    "next_scores",
    _next_scores,
    _cache_draws,
    {
        "this is the function of the page, unmended": lambda *a: _with_cache(*a, again=1),
        "the cached keys are turned back; they have to stay at their positions": lambda *a: _with_cache(
            *a, again=-1
        ),
        "the new key is not stamped": lambda *a: _with_cache(*a, own=-len(a[2])),
        "the query is not stamped": lambda *a: _with_cache(*a, query=-len(a[2])),
        "neither the query nor the new key is stamped": lambda *a: _with_cache(
            *a, own=-len(a[2]), query=-len(a[2])
        ),
        "the query is one position too late": lambda *a: _with_cache(*a, query=1),
        "the query is one position too early": lambda *a: _with_cache(*a, query=-1),
        "query and new key are one position too late": lambda *a: _with_cache(*a, own=1, query=1),
        "query and new key turn clockwise, and the cached keys did not": lambda *a: _with_cache(*a, sign=-1),
        "the new token sees its own key too": lambda *a: _with_cache(*a)[:-1],
    },
    right="each key is stamped once, when it comes.",
    properties={
        "query and key of one token are at distance 0, so the last score is ⟨q, k⟩": lambda y, q, k, c, b: (
            torch.allclose(y[-1], q @ k, atol=1e-4)
        )
    },
)
"""Exercise 3.5: `next_scores(q, k, cached, base)` are the scores of a new token with all keys, (n + 1,)."""


def _half_step(T: Tensor) -> Tensor | None:
    if torch.linalg.det(T) < 0:
        return None
    values, vectors = torch.linalg.eig(T)
    return (vectors * values.sqrt() @ torch.linalg.inv(vectors)).real


def _orthogonal(d: Draw, dim: int, mirror: int = 1) -> Tensor:
    """A stamp T_1 in a basis of its own: a rotation, or with mirror = −1 one that turns one axis round."""
    basis = torch.linalg.qr(d.tensor(dim, dim))[0]
    angle = torch.tensor(
        [d.real(0.3, 0.9), d.real(1.1, 1.9), d.real(2.1, 2.8)][: dim // 2], dtype=torch.float64
    )
    T = matrix(angle)
    T[:, -1] *= mirror
    return basis @ T @ basis.T


def _step_draws(d: Draw) -> Iterator[Inputs]:
    for dim, mirror in ((2, 1), (2, -1), (4, 1), (4, -1), (6, 1)):
        yield (_orthogonal(d, dim, mirror),)


def _no_half_step(S: Tensor, T: Tensor) -> str:
    if S.shape != T.shape:
        return f"S has the shape of T, {tuple(T.shape)}, got {tuple(S.shape)}."
    stretched = torch.linalg.svdvals(S)
    if (stretched - 1).abs().max() > 1e-4:
        return f"a stamp keeps lengths, and S makes vectors {stretched[-1]:.3g} to {stretched[0]:.3g} times as long."
    wrong = (S @ S - T).abs()
    if wrong.max() > 1e-4:
        i, j = divmod(int(wrong.argmax()), len(T))
        return f"S is orthogonal, but entry [{i}, {j}] of S² is {(S @ S)[i, j]:.4g}, and of T {T[i, j]:.4g}."
    return ""


check_half_step = Exercise(
    "3.6",
    "half_step",
    _half_step,
    _step_draws,
    {
        "half of each entry is half of the length, not half of the turn": lambda T: T / 2,
        "the mean of no step and one step is on the right way, but too short": lambda T: (
            (T + torch.eye(len(T))) / 2
        ),
        "this is the whole step": lambda T: T,
        "these are two steps": lambda T: T @ T,
        "this is one step back": lambda T: T.T,
        "the roots of the entries are not the root of the matrix": lambda T: T.abs().sqrt() * T.sign(),
        "this is no step": lambda T: torch.eye(len(T)),
    },
    right="a rotation has positions in between, and a mirror has none.",
    fault=_no_half_step,
)
"""Exercise 3.6: `half_step(T)` is an orthogonal S with S² = T for the stamp T of one position, or None."""
