"""Checkers of chapter 3 on stamps: a witness against one, a stamped cache, half a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import matrix, rotated, theta

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
    "a turn that stops at position 5": lambda x, m: rotated(x, min(m, 5) * FREQS),
    "coordinates that are sorted at every odd position": lambda x, m: x.sort().values if m % 2 else x,
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
    same = "the same" if there == here else "the same up to rounding"
    return f"the score is {here:.4g} at ({m}, {n}), and {same} at ({m + t}, {n + t})."


def _first_of(tries: list[tuple[int, int, int]]) -> Callable[..., tuple[int, int, int] | None]:
    def first(stamp: Stamp, q: Tensor, k: Tensor) -> tuple[int, int, int] | None:
        scores = _between(stamp, q, k).tolist()
        return next(((m, n, t) for m, n, t in tries if abs(scores[m + t][n + t] - scores[m][n]) > 1e-6), None)

    return first


def _by_length(stamp: Stamp, q: Tensor, k: Tensor) -> tuple[int, int, int] | None:
    lengths = torch.stack([stamp(q, m).norm() for m in range(REACH)])
    t = int((lengths - lengths[0]).abs().argmax())
    return (0, 0, t) if (lengths[t] - lengths[0]).abs() > 1e-4 else None


def _one_moved(stamp: Stamp, q: Tensor, k: Tensor) -> tuple[int, int, int] | None:
    """Only the key moves on, or else only the query."""
    along = _between(stamp, q, k)[0]
    t = next((t for t in range(1, REACH) if (along[t] - along[0]).abs() > 1e-4), None)
    return (0, 0, t) if t else None


def _witness_from_one(stamp: Stamp, q: Tensor, k: Tensor) -> tuple[int, int, int] | None:
    along = _between(stamp, q, k).diagonal(-1)
    t = next((t for t in range(1, len(along)) if (along[t] - along[0]).abs() > 1e-4), None)
    return (1, 0, t) if t else None


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
        "you move one of query and key; the distance stays the same where both move on by t": _one_moved,
        "your third number is the new position m + t; the exercise asks for t": (
            lambda stamp, q, k: (1, 0, found[2] + 1) if (found := _witness_from_one(stamp, q, k)) else None
        ),
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


def _next_in_halves(q: Tensor, k: Tensor, cached: Tensor, base: float) -> Tensor:
    angle = len(cached) * theta(len(q), base)
    return torch.cat((cached, rotated(k[None], angle, "half"))) @ rotated(q, angle, "half")


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
        "query and new key are one position too early: n cached keys are at 0 to n − 1": lambda *a: (
            _with_cache(*a, own=-1, query=-1)
        ),
        "query and new key are one position too late": lambda *a: _with_cache(*a, own=1, query=1),
        "query and new key turn clockwise, and the cached keys did not": lambda *a: _with_cache(*a, sign=-1),
        "the new token sees its own key too": lambda *a: _with_cache(*a)[:-1],
        "the score with the new key comes first; that key is the last one": (
            lambda *a: _with_cache(*a).roll(1)
        ),
        "the scores are not divided by √D here": lambda *a: _with_cache(*a) / len(a[0]) ** 0.5,
        "query and new key turn in the half layout; the cache is interleaved": _next_in_halves,
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
    return _root(T).real


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


def _root(T: Tensor) -> Tensor:
    values, vectors = torch.linalg.eig(T)
    return vectors * values.sqrt() @ torch.linalg.inv(vectors)


def _nearest(T: Tensor) -> Tensor:
    """The orthogonal matrix between no step and one step."""
    U, _, Vh = torch.linalg.svd(T + torch.eye(len(T), dtype=T.dtype))
    return U @ Vh


def _half_of_pairs(T: Tensor) -> Tensor | None:
    if torch.linalg.det(T) < 0:
        return None
    return matrix(torch.stack([torch.atan2(T[i + 1, i], T[i, i]) / 2 for i in range(0, len(T), 2)]))


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
        "this is half a step back": lambda T: torch.linalg.inv(_root(T)).real,
        "the real part of a complex root is not a root: where there is a mirror there is no half step": (
            lambda T: _root(T).real
        ),
        "the planes of T need not be pairs of neighbouring coordinates": _half_of_pairs,
        "a mirror is where the determinant is negative; you ask for the trace, which a rotation can have below 0": (
            lambda T: None if T.trace() < 0 else _nearest(T)
        ),
        "negative entries are cut off; and the roots of the entries are not the root of the matrix": (
            lambda T: T.clamp_min(0).sqrt()
        ),
    },
    right="a rotation has positions in between, and a mirror has none.",
    fault=_no_half_step,
)
"""Exercise 3.6: `half_step(T)` is an orthogonal S with S² = T for the stamp T of one position, or None."""
