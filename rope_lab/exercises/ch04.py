"""Checkers of chapter 4: the key's stamp, what a bias costs, a gate's bias, and when two stamps are one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs
from rope_lab.exercises.formulas import matrix

__all__ = [
    "check_coordinates_of",
    "check_forget_bias",
    "check_key_stamp",
    "check_same_stamp",
]

power, inverse = torch.linalg.matrix_power, torch.linalg.inv


def _key_stamp(T: Tensor, n: int) -> Tensor:
    return power(inverse(T).mT, n)


def _invertible(d: Draw, dim: int) -> Tensor:
    """Far from singular, and neither symmetric nor orthogonal."""
    T = torch.eye(dim, dtype=torch.float64) * d.one_of(1.2, 0.9)
    T[0, 1:] += torch.tensor([d.real(0.2, 0.6) for _ in range(dim - 1)], dtype=torch.float64)
    T[-1, 0] -= d.real(0.2, 0.4)
    return T


def _stamp_draws(d: Draw) -> Iterator[Inputs]:
    yield torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64), d.whole(2, 5)
    yield _invertible(d, 2), 0
    yield _invertible(d, 2), d.whole(2, 4)
    yield _invertible(d, 3), d.whole(3, 5)
    yield _invertible(d, 4), 1


check_key_stamp = Exercise(
    "4.1",
    "key_stamp",
    _key_stamp,
    _stamp_draws,
    {
        "keys have the stamp of queries here; with it the score depends on m + n unless T is orthogonal": power,
        "the transpose is missing: ⟨T q, k⟩ is ⟨q, Tᵀ k⟩": lambda T, n: power(inverse(T), n),
        "the inverse is missing: the transpose alone is the inverse of orthogonal matrices only": (
            lambda T, n: power(T.mT, n)
        ),
        "this is the stamp of position 1, whatever n is": lambda T, n: _key_stamp(T, 1),
        "every entry is taken to the power n; multiply matrices": lambda T, n: inverse(T).mT ** n,
        "the matrix is multiplied by n; apply it n times": lambda T, n: inverse(T).mT * n,
        "this is one position too far": lambda T, n: _key_stamp(T, n + 1),
    },
    right="what the key's stamp takes away at n, the query's has given at m.",
    properties={
        "a query at n and a key at n must score as at position 0, so T'ᵀ Tⁿ = I": lambda y, T, n: (
            torch.allclose(y.mT @ power(T, n), torch.eye(len(T), dtype=torch.float64), atol=1e-4)
        )
    },
    tolerance=1e-4,
)
"""Exercise 4.1: `key_stamp(T, n)`: the stamp of a key at n if that of a query at m is T^m, (D, D)."""


def _hankel(values: Tensor) -> Tensor:
    """β(i + j) from β(0), …, β(2n − 2)."""
    place = torch.arange((len(values) + 1) // 2)
    return values[place[:, None] + place]


def _rank(table: Tensor) -> int:
    return int(torch.linalg.matrix_rank(table, rtol=1e-9))


def _coordinates_of(values: Tensor) -> int:
    return _rank(_hankel(values))


def _bias_draws(d: Draw) -> Iterator[Inputs]:
    s = torch.arange(15, dtype=torch.float64)
    yield (-d.real(0.2, 0.9) * s,)
    yield (torch.full((9,), d.real(1, 3), dtype=torch.float64),)
    yield ((-d.real(0.1, 0.4) * s[:11]).exp(),)
    yield ((d.real(0.5, 1.2) * s).cos(),)
    yield (d.real(0.2, 0.9) * s**2 - s,)
    yield ((-0.1 * s).exp() * (d.real(0.5, 1.2) * s).cos() + 1,)
    yield (s * (d.real(0.6, 1.2) * s).cos(),)
    yield ((0.4 * s).cos() + (d.real(0.9, 1.4) * s).cos(),)
    yield (torch.zeros(7, dtype=torch.float64),)


def _toeplitz(values: Tensor) -> Tensor:
    place = torch.arange((len(values) + 1) // 2)
    return values[(place[:, None] - place).abs()]


check_coordinates_of = Exercise(
    "4.2",
    "coordinates_of",
    _coordinates_of,
    _bias_draws,
    {
        "one coordinate is enough for a constant and for a power only": lambda values: 1,
        "these are the values of |i − j|, to both sides; the map has β(i + j)": (
            lambda values: _rank(_toeplitz(values))
        ),
        "every distance has a coordinate of its own; fewer can do": lambda values: (len(values) + 1) // 2,
        "this counts the distances": lambda values: len(values),
        "a pair has two coordinates, but not every bias is a sum of pairs": (
            lambda values: 2 * math.ceil(_coordinates_of(values) / 2)
        ),
        "this counts the values that differ from each other": lambda values: len(
            {round(v, 6) for v in values.tolist()}
        ),
        "this is one too many": lambda values: _coordinates_of(values) + 1,
        "these are single roots counted in pairs; count coordinates": (
            lambda values: _coordinates_of(values) // 2
        ),
        "this is the rank of a row, which is one number": lambda values: _rank(values[None]),
    },
    right="so many coordinates have to be appended to queries and keys.",
    properties={"a number of coordinates is not negative": lambda y, *_: bool(y >= 0)},
)
"""Exercise 4.2: `coordinates_of(values)`: how many coordinates the bias with these values needs, one number."""


def _forget_bias(gates: Tensor) -> Tensor:
    total = gates.log().cumsum(-1)
    return total[..., :, None] - total[..., None, :]


def _gate_draws(d: Draw) -> Iterator[Inputs]:
    for n in (2, 3, d.whole(4, 6), 8):
        yield (d.tensor(n, low=0.15, high=0.95).mul(10).round().div(10).clamp(0.2, 0.9),)


def _with_own(gates: Tensor) -> Tensor:
    total = gates.log().cumsum(-1)
    return total[:, None] - (total - gates.log())[None]


def _without_last(gates: Tensor) -> Tensor:
    before = gates.log().cumsum(-1) - gates.log()
    return before[:, None] - before[None]


check_forget_bias = Exercise(
    "4.3",
    "forget_bias",
    _forget_bias,
    _gate_draws,
    {
        "unmended: the gate of the key's own token is counted, so a token forgets itself": _with_own,
        "the gates from n to m − 1 are counted: the query's gate is missing, and the key's is there": _without_last,
        "rows are queries and columns keys; yours are exchanged": lambda gates: _forget_bias(gates).mT,
        "the logarithm is missing: the bias is a sum of logarithms": lambda gates: (
            gates.cumsum(-1)[:, None] - gates.cumsum(-1)[None]
        ),
        "these are the products of the gates; the score gets their logarithms": lambda gates: _forget_bias(
            gates
        ).exp(),
        "the gates are not added up: only the last one counts": lambda gates: (
            gates.log()[:, None] - gates.log()[None]
        ),
        "keys ahead of the query have c_m − c_n like the others; the mask comes later": lambda gates: (
            _forget_bias(gates).tril()
        ),
        "the logarithm is that of base 2; the softmax has e": lambda gates: _forget_bias(gates) / math.log(2),
    },
    right="the gate of a token acts on what came before it.",
    properties={
        "a token must not forget itself: the diagonal is 0": lambda y, gates: bool(
            y.diagonal().abs().max() < 1e-5
        )
    },
    tolerance=1e-4,
)
"""Exercise 4.3: `forget_bias(gates)`: Σ ln γ_l over l = n + 1, …, m, (N, N)."""


def _same_stamp(T: Tensor) -> Tensor | None:
    values, vectors = torch.linalg.eig(T)
    unit = (values.abs() - 1).abs().max() < 1e-9
    if not unit or torch.linalg.cond(vectors) > 1e6:
        return None
    mean = (vectors @ vectors.mH).real  # T keeps the inner product of its inverse
    return torch.linalg.cholesky(mean)


def _in_basis(J: Tensor, d: Draw) -> Tensor:
    dim = len(J)
    P = torch.eye(dim, dtype=torch.float64)
    for i in range(dim - 1):
        P[i, i + 1], P[i + 1, i] = d.real(0.2, 0.6), -d.real(0.1, 0.3)
    return P @ J @ inverse(P)


def _one_stamp_draws(d: Draw) -> Iterator[Inputs]:
    def turn(*angles: float) -> Tensor:
        return matrix(torch.tensor(angles, dtype=torch.float64))

    yield (_in_basis(turn(d.real(0.4, 2.5)), d),)
    yield (_in_basis(turn(d.real(0.4, 2.5)) * 0.9, d),)
    yield (torch.tensor([[1.0, d.real(0.2, 0.8)], [0.0, 1.0]], dtype=torch.float64),)
    yield (_in_basis(torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64)), d),)
    yield (_in_basis(turn(d.real(0.3, 0.9), d.real(1.2, 2.4)), d),)
    yield (_in_basis(torch.block_diag(turn(d.real(0.4, 2.5)), 1.1 * torch.eye(2, dtype=torch.float64)), d),)
    sheared = torch.block_diag(*[turn(0.7)] * 2)
    sheared[:2, 2:] = turn(0.7)
    yield (_in_basis(sheared, d),)
    yield (_in_basis(torch.diag(torch.tensor([1.5, 1 / 1.5], dtype=torch.float64)), d),)
    yield (_in_basis(turn(*[d.real(0.4, 2.5)] * 2), d),)  # equal eigenvalues, and yet no shear


def _not_one(P: Tensor, T: Tensor) -> str:
    if P.shape != T.shape:
        return f"P has the shape of T, {tuple(T.shape)}, got {tuple(P.shape)}."
    if P.is_complex():
        return "P is real."
    P = P.double()
    sizes = torch.linalg.svdvals(P)
    if sizes[-1] <= 1e-8 * sizes[0]:
        return "P must be invertible."
    J = inverse(P) @ T @ P
    gap = float((J.mT @ J - torch.eye(len(T), dtype=torch.float64)).abs().max())
    if gap > 1e-4:
        return f"P⁻¹ T P is not orthogonal: its product with its transpose is off by {gap:.2g}."
    return ""


def _where_there_is_one(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor | None]:
    return lambda T: None if _same_stamp(T) is None else f(T)


check_same_stamp = Exercise(
    "4.4",
    "same_stamp",
    _same_stamp,
    _one_stamp_draws,
    {
        "T is not orthogonal as it is; a basis has to be found": _where_there_is_one(
            lambda T: torch.eye(len(T), dtype=torch.float64)
        ),
        "the real parts of the eigenvectors are not a basis": _where_there_is_one(
            lambda T: (
                torch.linalg.eig(T)[1].real + 1e-3 * torch.arange(T.numel(), dtype=torch.float64).view_as(T)
            )
        ),
        "this is the inverse of such a P: P⁻¹ T P has to be orthogonal": _where_there_is_one(
            lambda T: inverse(torch.linalg.cholesky((lambda v: (v @ v.mH).real)(torch.linalg.eig(T)[1])))
        ),
        "the singular vectors of T do not make it orthogonal": _where_there_is_one(
            lambda T: torch.linalg.svd(T)[0]
        ),
        "T itself commutes with T, so as a basis it changes nothing": _where_there_is_one(
            lambda T: T.clone()
        ),
    },
    right="two stamps of which neither grows are one stamp in another basis.",
    fault=_not_one,
)
"""Exercise 4.4: `same_stamp(T)`: a real P (D, D) for which P⁻¹ T P is orthogonal, or None."""
