"""The checkers of chapter 3 pass right answers and name each known mistake."""

import math

import pytest
import torch
from torch import Tensor

from rope_lab import angles, frequencies, rotate
from rope_lab.exercises.ch03 import (
    check_half_step,
    check_next_scores,
    check_rotation_matrix,
    check_score,
    check_turn,
    check_witness,
)


def turn(x: Tensor, m: float, theta: float, *, power: int = 1) -> Tensor:
    return torch.view_as_real(
        torch.view_as_complex(x) * complex(math.cos(m * theta), power * math.sin(m * theta))
    )


def rows(x: Tensor, m: float, theta: float, first: float, second: float) -> Tensor:
    (a, b), cos, sin = x.unbind(-1), math.cos(m * theta), math.sin(m * theta)
    return torch.stack((a * cos + first * b * sin, b * cos + second * a * sin), dim=-1)


def overwritten(x: Tensor, m: float, theta: float) -> Tensor:
    cos, sin = math.cos(m * theta), math.sin(m * theta)
    x[:, 0] = x[:, 0] * cos - x[:, 1] * sin
    x[:, 1] = x[:, 1] * cos + x[:, 0] * sin
    return x


def test_turn_right() -> None:
    assert check_turn(turn)
    assert check_turn(
        lambda x, m, theta: x @ torch.tensor(blocks([m * theta]).tolist()).T
    )  # only in single precision
    assert check_turn(lambda x, m, theta: rows(x, m, theta, -1, 1))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda x, m, theta: turn(x, m, theta, power=-1), "turns clockwise"),
        (lambda x, m, theta: rows(x, m, theta, 1, -1), "turns clockwise"),
        (lambda x, m, theta: rows(x, m, theta, 1, 1), "minus of −sin mθ is missing"),
        (lambda x, m, theta: turn(x, 1, theta), "the angle is m·theta"),
        (lambda x, m, theta: turn(x, m, math.radians(theta)), "not in degrees"),
        (lambda x, m, theta: turn(x, 1, theta**m), "not theta^m"),
        (
            lambda x, m, theta: torch.cat([turn(row[None], n, theta) for n, row in enumerate(x)]),
            "row n turns",
        ),
        (overwritten, "both rows take the old coordinates"),
        (lambda x, m, theta: torch.view_as_complex(turn(x, m, theta)), "return a real tensor"),
        (lambda x, m, theta: turn(x, m, theta).T, "expected shape (1, 2), got (2, 1)"),
        (lambda x, m, theta: x, "first difference at [0, 0]"),
        (lambda x, m, theta: None, "nothing yet"),
    ],
)
def test_turn_mistakes(answer, diagnosis: str) -> None:
    verdict = check_turn(answer)
    assert not verdict
    assert diagnosis in verdict.message


def blocks(angles: list[float], partner: int | None = None) -> Tensor:
    dim = 2 * len(angles)
    matrix = torch.zeros(dim, dim, dtype=torch.float64)
    for i, angle in enumerate(angles):
        a, b = (2 * i, 2 * i + 1) if partner is None else (i, i + partner)
        matrix[a, a] = matrix[b, b] = math.cos(angle)
        matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return matrix


def speeds(dim: int, base: float, exponent) -> list[float]:
    return [base ** exponent(i, dim) for i in range(dim // 2)]


def right(m: float, dim: int, base: float) -> Tensor:
    return blocks([m * theta for theta in speeds(dim, base, lambda i, d: -2 * i / d)])


def with_exponent(exponent):
    return lambda m, dim, base: blocks([m * theta for theta in speeds(dim, base, exponent)])


def test_rotation_matrix_right() -> None:
    assert check_rotation_matrix(right)
    assert check_rotation_matrix(lambda m, dim, base: right(m, dim, base).tolist())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda m, dim, base: right(m, dim, base).T, "turns clockwise"),
        (with_exponent(lambda i, d: 2 * i / d), "minus in the exponent is missing"),
        (with_exponent(lambda i, d: -i / d), "not −i/dim"),
        (with_exponent(lambda i, d: -2 * (i + 1) / d), "counted from 0"),
        (with_exponent(lambda i, d: -2 * i / (d / 2)), "divide by the number of pairs"),
        (with_exponent(lambda i, d: 0), "one frequency"),
        (with_exponent(lambda i, d: -2 * (2 * i) / d), "i counts coordinates"),
        (lambda m, dim, base: right(m, dim, 10_000.0), "base is not used"),
        (lambda m, dim, base: torch.matrix_power(right(1, dim, base), int(m)), "cut to a whole number"),
        (lambda m, dim, base: right(1, dim, base), "m is missing"),
        (
            lambda m, dim, base: blocks(
                [m * t for t in speeds(dim, base, lambda i, d: -2 * i / d)], dim // 2
            ),
            "i + dim/2",
        ),
        (lambda m, dim, base: right(m, dim - 2, base), "expected shape (2, 2), got (0, 0)"),
        (lambda m, dim, base: None, "nothing yet"),
    ],
)
def test_rotation_matrix_mistakes(answer, diagnosis: str) -> None:
    verdict = check_rotation_matrix(answer)
    assert not verdict
    assert diagnosis in verdict.message


def pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.view(-1, 2))


def terms(q: Tensor, k: Tensor, distance: float, base: float) -> Tensor:
    theta = base ** (-torch.arange(0, len(q), 2, dtype=torch.float64) / len(q))
    return pairs(q) * pairs(k).conj() * torch.exp(1j * distance * theta)


def conj(x: Tensor) -> Tensor:
    return torch.view_as_real(pairs(x).conj().resolve_conj()).flatten()


def halves(x: Tensor) -> Tensor:
    return x.view(2, -1).T.flatten()


def test_score_right() -> None:
    assert check_score(lambda q, k, distance, base: terms(q, k, distance, base).sum().real)
    assert check_score(lambda q, k, distance, base: terms(q, k, distance, base).sum().real.item())
    assert check_score(
        lambda q, k, distance, base: q.float() @ right(-distance, len(q), base).float() @ k.float()
    )
    assert check_score(lambda q, k, distance, base: q @ right(-distance, len(q), base) @ k)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda q, k, distance, base: terms(q, k, -distance, base).sum().real, "turned round"),
        (
            lambda q, k, distance, base: terms(q, conj(k), distance, base).sum().real,
            "conjugate of k is missing",
        ),
        (
            lambda q, k, distance, base: terms(conj(q), conj(k), distance, base).sum().real,
            "conjugated instead of k",
        ),
        (lambda q, k, distance, base: terms(q, k, distance, 10_000.0).sum().real, "base is not used"),
        (lambda q, k, distance, base: terms(q, k, distance, base**2).sum().real, "i counts coordinates"),
        (lambda q, k, distance, base: q @ k, "before the query moves"),
        (lambda q, k, distance, base: terms(q, k, distance, base).sum().abs(), "length of the sum"),
        (lambda q, k, distance, base: terms(q, k, distance, base).sum().imag, "imaginary part"),
        (lambda q, k, distance, base: terms(q, k, distance, base).mean().real, "mean over pairs"),
        (lambda q, k, distance, base: terms(q, k, distance, base).real, "sum over the pairs"),
        (
            lambda q, k, distance, base: terms(halves(q), halves(k), distance, base).sum().real,
            "neighbours here",
        ),
        (lambda q, k, distance, base: terms(q, k, distance, base).sum(), "return a real tensor"),
        (lambda q, k, distance, base: 1.0, "got 1."),
        (lambda q, k, distance, base: None, "nothing yet"),
    ],
)
def test_score_mistakes(answer, diagnosis: str) -> None:
    verdict = check_score(answer)
    assert not verdict
    assert diagnosis in verdict.message


def test_the_first_three_ask_for_what_their_pages_say() -> None:
    """Vectors that are stamped already, a matrix between two that are not, a query that moves on."""
    freqs = frequencies(6, 50.0)
    torch.manual_seed(0)
    q, k = torch.randn(2, 6, dtype=torch.float64)

    def at(x: Tensor, m: float, freqs: Tensor = freqs) -> Tensor:
        return rotate(x[None], angles(torch.tensor([m]), freqs, dtype=torch.float64))[0]

    for n in (0, 3.5, 11):
        moved = check_turn.reference(at(q[:2], n, freqs[1:2])[None], 2.5, float(freqs[1]))[0]
        torch.testing.assert_close(moved, at(q[:2], n + 2.5, freqs[1:2]))
        M = check_rotation_matrix.reference(2.5, 6, 50.0)
        torch.testing.assert_close(q @ M @ k, at(q, n) @ at(k, n + 2.5))
        after = check_score.reference(at(q, n), at(k, 4), 2.5, 50.0)
        torch.testing.assert_close(after, at(q, n + 2.5) @ at(k, 4))


def search(stamp, q: Tensor, k: Tensor, *, most: int = 10, tolerance: float = 1e-4):
    """All m, n below `most` and all shifts up to it, in plain loops; another witness than that of the reference."""
    for t in range(most - 1, 0, -1):
        for m in range(most):
            for n in range(most):
                change = stamp(q, m + t) @ stamp(k, n + t) - stamp(q, m) @ stamp(k, n)
                if abs(change) > tolerance:
                    return m, n, t
    return None


def test_witness_right() -> None:
    assert check_witness(search)
    assert check_witness(lambda stamp, q, k: at if (at := search(stamp, q, k)) is None else torch.tensor(at))


def no_length(stamp, q: Tensor, k: Tensor):
    longer = [m for m in range(20) if abs(stamp(q, m).norm() - q.norm()) > 1e-4]
    return search(stamp, q, k) if longer else None


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (no_length, "None, but there is an answer"),
        (lambda f, q, k: search(f, q, k, most=4), "None, but there is an answer"),
        (
            lambda f, q, k: (1, 0, 1) if abs(f(q, 2) @ f(k, 1) - f(q, 1) @ f(k, 0)) > 1e-4 else None,
            "only by 1",
        ),
        (lambda f, q, k: (3, 1, 2), "name a witness against every stamp"),
        (lambda f, q, k: search(f, q, k, tolerance=-1), "and the same up to rounding at ("),
        (lambda f, q, k: (29, 0, 1), "have to be from 0 to 19, got m = 29, n = 0, t = 1"),
        (lambda f, q, k: (2, 1), "a witness is three integers"),
        (lambda f, q, k: None, "nothing yet"),
    ],
)
def test_witness_mistakes(answer, diagnosis: str) -> None:
    verdict = check_witness(answer)
    assert not verdict
    assert diagnosis in verdict.message


def at_distances(q: Tensor, k: Tensor, cached: Tensor, base: float) -> Tensor:
    """Without turning the new key: it is at distance 0."""
    n, freqs = len(cached), frequencies(len(q), base)
    turned = torch.view_as_real(pairs(q) * torch.exp(1j * n * freqs)).flatten()
    return torch.cat((cached @ turned, (q @ k)[None]))


def by_blocks(
    q: Tensor, k: Tensor, cached: Tensor, base: float, *, again: bool = False, own=None, query=None
) -> Tensor:
    """As the page does it, with the dense matrix."""
    n, dim = len(cached), len(q)
    keys = [right(m, dim, base) @ x if again else x for m, x in enumerate(cached)]
    keys.append(right(n if own is None else own, dim, base) @ k)
    return torch.stack(keys) @ right(n if query is None else query, dim, base) @ q


def test_next_scores_right() -> None:
    assert check_next_scores(by_blocks)
    assert check_next_scores(at_distances)
    assert check_next_scores(lambda *a: at_distances(*a).float().numpy())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda *a: by_blocks(*a, again=True), "unmended"),
        (lambda *a: by_blocks(*a, own=0), "the new key is not stamped"),
        (lambda *a: by_blocks(*a, query=0), "the query is not stamped"),
        (lambda *a: by_blocks(*a, own=0, query=0), "neither the query nor"),
        (lambda *a: by_blocks(*a, query=len(a[2]) - 1), "too early"),
        (lambda *a: by_blocks(*a, query=len(a[2]) + 1), "the query is one position too late"),
        (lambda *a: by_blocks(*a, own=len(a[2]) + 1, query=len(a[2]) + 1), "query and new key are one"),
        (lambda *a: by_blocks(*a)[:-1], "expected shape (1,), got (0,)"),
        (lambda *a: by_blocks(*a, own=2.5), "the last score is ⟨q, k⟩"),
        (lambda *a: None, "nothing yet"),
    ],
)
def test_next_scores_mistakes(answer, diagnosis: str) -> None:
    verdict = check_next_scores(answer)
    assert not verdict
    assert diagnosis.lower() in verdict.message.lower()


def by_angle(T: Tensor, *, part: float = 0.5, turns: int = 0) -> Tensor | None:
    """Real planes from the symmetric part of T, as far as its angles differ; `turns` whole turns more."""
    if torch.linalg.det(T) < 0:
        return None
    cosines, basis = torch.linalg.eigh((T + T.T) / 2)
    S = torch.zeros_like(T)
    for i in range(0, len(T), 2):
        plane = basis[:, i : i + 2]
        sine = (plane.T @ T @ plane)[1, 0]
        angle = torch.atan2(sine, cosines[i]) + 2 * math.pi * turns
        S += plane @ torch.tensor(blocks([float(angle) * part]).tolist(), dtype=T.dtype) @ plane.T
    return S


@pytest.mark.parametrize(
    "answer",
    [
        by_angle,
        lambda T: by_angle(T, turns=1),
        lambda T: -by_angle(T) if by_angle(T) is not None else None,
        lambda T: by_angle(T).float().tolist() if len(T) == 6 or torch.linalg.det(T) > 0 else None,
        lambda T: (
            torch.linalg.svd(T + torch.eye(len(T)))[0] @ torch.linalg.svd(T + torch.eye(len(T)))[2]
            if torch.linalg.det(T) > 0
            else None
        ),
    ],
)
def test_half_step_right(answer) -> None:
    for seed in (0, 41, 42):
        assert check_half_step(answer, seed=seed)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda T: T / 2, "makes vectors 0.5 to 0.5 times as long. Likely: half of each entry"),
        (lambda T: (T + torch.eye(len(T))) / 2, "too short"),
        (lambda T: T, "this is the whole step"),
        (lambda T: T.T, "one step back"),
        (lambda T: T @ T, "two steps"),
        (lambda T: by_angle(T, part=1 / 3), "S is orthogonal, but entry ["),
        (lambda T: by_angle(T) if len(T) != 4 else None, "but there is an answer"),
        (
            lambda T: by_angle(T) if torch.linalg.det(T) > 0 else torch.eye(len(T)),
            "S is orthogonal, but entry [",
        ),
        (
            lambda T: None if torch.linalg.det(T) < 0 else torch.linalg.eig(T)[0].diag(),
            "return a real tensor",
        ),
        (lambda T: T[0], "S has the shape of T, (2, 2), got (2,)"),
        (lambda T: None, "nothing yet"),
    ],
)
def test_half_step_mistakes(answer, diagnosis: str) -> None:
    verdict = check_half_step(answer)
    assert not verdict
    assert diagnosis in verdict.message


def test_two_mistakes_at_once_have_no_name() -> None:
    for verdict in (
        check_next_scores(lambda *a: by_blocks(*a, again=True, query=len(a[2]) + 1)),
        check_half_step(lambda T: (T.T + torch.eye(len(T))) / 2),
        check_witness(lambda f, q, k: (3, 3, 1) if no_length(f, q, k) else (2, 1, 2)),
    ):
        assert not verdict
        assert "Likely" not in verdict.message
