"""The checkers of chapter 4 pass right answers and name each known mistake."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab.exercises.ch04 import (
    check_coordinates_of,
    check_forget_bias,
    check_key_stamp,
    check_same_stamp,
)

power, inv = torch.linalg.matrix_power, torch.linalg.inv


def step_by_step(T: Tensor, n: int) -> Tensor:
    stamp = torch.eye(len(T), dtype=T.dtype)
    for _ in range(n):
        stamp = torch.linalg.solve(T.T, stamp)
    return stamp


@pytest.mark.parametrize(
    "answer",
    [
        step_by_step,
        lambda T, n: inv(power(T, n)).T,
        lambda T, n: np.linalg.matrix_power(np.linalg.inv(T.numpy()).T, n).tolist(),
        lambda T, n: power(T, -n).T.float(),
    ],
)
def test_key_stamp_right(answer) -> None:
    for seed in (0, 41, 42):
        assert check_key_stamp(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda T, n: power(T, n), "the stamp of queries"),
        (lambda T, n: inv(power(T, n)), "transpose is missing"),
        (lambda T, n: power(T, n).T, "inverse is missing"),
        (lambda T, n: inv(T).T, "position 1, whatever"),
        (lambda T, n: inv(T).T ** n, "every entry"),
        (lambda T, n: n * inv(T).T, "multiplied by n"),
        (lambda T, n: power(inv(T).T, n + 1), "one position too far"),
        (lambda T, n: torch.eye(len(T)), "score as at position 0"),
        (lambda T, n: torch.ones(2), "shape"),
        (lambda T, n: None, "nothing yet"),
    ],
)
def test_key_stamp_mistakes(answer, diagnosis: str) -> None:
    verdict = check_key_stamp(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def hankel(values: Tensor) -> Tensor:
    n = len(values) // 2 + 1
    return torch.stack([values[i : i + n] for i in range(n)])


def by_singular_values(values: Tensor) -> int:
    sizes = torch.linalg.svdvals(hankel(values))
    return int((sizes > 1e-9 * sizes[0]).sum()) if sizes[0] else 0


@pytest.mark.parametrize(
    "answer",
    [
        by_singular_values,
        lambda values: np.linalg.matrix_rank(hankel(values).numpy(), tol=1e-9),
        lambda values: torch.linalg.matrix_rank(hankel(values), rtol=1e-10),
    ],
)
def test_coordinates_of_right(answer) -> None:
    for seed in (0, 41, 42):
        assert check_coordinates_of(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda v: 1, "constant and for a power only"),
        (lambda v: len(v) // 2 + 1, "fewer can do"),
        (lambda v: len(v), "counts the distances"),
        (lambda v: by_singular_values(v) + 1, "one too many"),
        (lambda v: by_singular_values(v) // 2, "count coordinates"),
        (lambda v: len(set(v.mul(1e6).round().tolist())), "differ from each other"),
        (lambda v: 2 * ((by_singular_values(v) + 1) // 2), "not every bias is a sum of pairs"),
        (lambda v: -3, "not negative"),
        (lambda v: 2.5, "integer"),
        (lambda v: None, "nothing yet"),
    ],
)
def test_coordinates_of_mistakes(answer, diagnosis: str) -> None:
    verdict = check_coordinates_of(answer)
    assert not verdict
    assert diagnosis in verdict.message


def one_by_one(gates: Tensor) -> list[list[float]]:
    def between(m: int, n: int) -> float:
        return sum(math.log(float(g)) for g in gates[n + 1 : m + 1])

    size = range(len(gates))
    return [[between(m, n) if m >= n else -between(n, m) for n in size] for m in size]


@pytest.mark.parametrize(
    "answer",
    [
        one_by_one,
        lambda g: g.cumprod(0).log()[:, None] - g.cumprod(0).log(),
        lambda g: torch.log(g.cumprod(0)[:, None] / g.cumprod(0)).float().numpy(),
    ],
)
def test_forget_bias_right(answer) -> None:
    for seed in (0, 41, 42):
        assert check_forget_bias(answer, seed=seed)


def sums(g: Tensor) -> Tensor:
    return g.log().cumsum(0)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda g: sums(g)[:, None] - (sums(g) - g.log()), "unmended"),
        (lambda g: (sums(g) - g.log())[:, None] - (sums(g) - g.log()), "from n to m − 1"),
        (lambda g: sums(g) - sums(g)[:, None], "exchanged"),
        (lambda g: g.cumsum(0)[:, None] - g.cumsum(0), "logarithm is missing"),
        (lambda g: (sums(g)[:, None] - sums(g)).exp(), "gets their logarithms"),
        (lambda g: g.log()[:, None] - g.log(), "only the last one counts"),
        (lambda g: (sums(g)[:, None] - sums(g)).tril(), "the mask comes later"),
        (lambda g: torch.log2(g).cumsum(0)[:, None] - torch.log2(g).cumsum(0), "base 2"),
        (lambda g: sums(g)[:, None] - sums(g) + 1, "must not forget itself"),
        (lambda g: sums(g), "expected shape"),
        (lambda g: None, "nothing yet"),
    ],
)
def test_forget_bias_mistakes(answer, diagnosis: str) -> None:
    verdict = check_forget_bias(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def by_averaging(T: Tensor) -> Tensor | None:
    """The mean of Tⁿᵀ Tⁿ over many n is an inner product that T keeps, unless it grows."""
    forward, back = power(T, 4000), power(T, -4000)
    if max(forward.abs().max(), back.abs().max()) > 100:
        return None
    total, stamp = torch.zeros_like(T), torch.eye(len(T), dtype=T.dtype)
    for _ in range(40_000):
        total, stamp = total + stamp.T @ stamp, stamp @ T
    values, vectors = torch.linalg.eigh(total / 40_000)
    return vectors / values.sqrt()


def pairs_of_vectors(T: Tensor) -> Tensor | None:
    """Real and imaginary parts of the eigenvectors side by side."""
    values, vectors = torch.linalg.eig(T)
    if (values.abs() - 1).abs().max() > 1e-7 or torch.linalg.cond(vectors) > 1e5:
        return None
    columns = []
    for value, vector in zip(values, vectors.T, strict=True):
        if abs(value.imag) < 1e-9:
            columns.append(vector.real)
        elif value.imag > 0:
            columns += [vector.real, vector.imag]
    return torch.stack(columns, dim=1)


def test_same_stamp_right() -> None:
    for seed in (0, 41, 42):
        assert check_same_stamp(pairs_of_vectors, seed=seed)
        assert check_same_stamp(
            lambda T: (lambda P: P if P is None else 3 * P)(pairs_of_vectors(T)), seed=seed
        )


def test_there_is_no_other_where_the_reference_finds_none() -> None:
    for (T,) in (case.inputs for case in check_same_stamp.cases()):
        assert (by_averaging(T) is None) == (check_same_stamp.reference(T) is None)


def test_equal_eigenvalues_are_not_a_double_root() -> None:
    def without_equal_ones(T: Tensor) -> Tensor | None:
        values = torch.linalg.eigvals(T)
        gaps = (values[:, None] - values).abs() + torch.eye(len(T))
        return None if gaps.min() < 1e-6 else pairs_of_vectors(T)

    for seed in (0, 41, 42):
        verdict = check_same_stamp(without_equal_ones, seed=seed)
        assert not verdict
        assert "there is an answer" in verdict.message


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda T: torch.eye(len(T)), "is not orthogonal"),
        (lambda T: None if pairs_of_vectors(T) is None else torch.eye(len(T)), "a basis has to be found"),
        (lambda T: None if pairs_of_vectors(T) is None else T, "changes nothing"),
        (lambda T: None if pairs_of_vectors(T) is None else torch.linalg.svd(T)[0], "singular vectors"),
        (lambda T: torch.zeros_like(T), "invertible"),
        (lambda T: torch.linalg.eig(T)[1], "real"),
        (lambda T: torch.eye(3), "the shape of T"),
        (lambda T: None, "nothing yet"),
    ],
)
def test_same_stamp_mistakes(answer, diagnosis: str) -> None:
    verdict = check_same_stamp(answer)
    assert not verdict
    assert diagnosis in verdict.message


def test_two_mistakes_at_once_have_no_name() -> None:
    for verdict in (
        check_key_stamp(lambda T, n: power(T, n + 1).T),
        check_coordinates_of(lambda v: len(v) + 1),
        check_forget_bias(lambda g: (sums(g) - sums(g)[:, None]).exp()),
    ):
        assert not verdict
        assert "Likely" not in verdict.message
