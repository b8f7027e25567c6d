"""Broken variants of RoPE, most of them met in the wild: each fails exactly the properties named beside it.

What a mutant passes is as telling as what it fails: a rotation the other way keeps every norm and every relative
shift, so only the sign and the references see it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch
from properties import PROPERTIES, Case, Encode, New
from torch import Tensor

from rope_lab import angles, frequencies, rotate

CASES = [
    Case(layout, rows=rows, real=real, seed=seed)
    for seed, (layout, rows, real) in enumerate(
        [
            ("interleaved", False, False),
            ("half", False, True),
            ("interleaved", True, True),
            ("half", True, False),
        ]
    )
]

Turn = Callable[[Tensor, Tensor, str], Tensor]


def chain(
    freqs: Callable[[int, float], Tensor] = frequencies,
    table: Callable[..., Tensor] = angles,
    turn: Turn = rotate,
) -> Encode:
    """RoPE as its three steps, any of which can be replaced."""

    def encode(
        q: Tensor, k: Tensor, positions: Tensor, *, dim: int, base: float, layout: str
    ) -> tuple[Tensor, ...]:
        dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        a = table(positions, freqs(dim, base), dtype=dtype)
        return turn(q, a, layout), turn(k, a, layout)

    return encode


def exponent(change: Callable[[Tensor, int], Tensor]) -> Encode:
    """θ_i = base^(−e_i) with the exponents e_i = 2i/dim changed."""

    def freqs(dim: int, base: float) -> Tensor:
        return float(base) ** -change(torch.arange(0, dim, 2, dtype=torch.float64) / dim, dim)

    return chain(freqs=freqs)


def at(move: Callable[[Tensor], Tensor]) -> Encode:
    """Positions changed before the angles are formed."""
    return chain(table=lambda m, freqs, **how: angles(move(m), freqs, **how))


def through(x: Tensor, a: Tensor, layout: str, formula: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
    """A rotation by another formula for the pair, (a, b, cos, sin) -> (a, b)."""
    size = 2 * a.shape[-1]
    first, second = (slice(0, size, 2), slice(1, size, 2))
    if layout == "half":
        first, second = slice(0, size // 2), slice(size // 2, size)
    out = x.to(a.dtype).clone()
    out[..., first], out[..., second] = formula(
        out[..., first].clone(), out[..., second].clone(), a.cos(), a.sin()
    )
    return out.to(x.dtype)


def pair(formula: Callable[..., tuple[Tensor, Tensor]]) -> Encode:
    return chain(turn=partial(through, formula=formula))


def other_layout(x: Tensor, a: Tensor, layout: str) -> Tensor:
    return rotate(x, a, "half" if layout == "interleaved" else "interleaved")


def mixed_layout(x: Tensor, a: Tensor, layout: str) -> Tensor:
    """Pairs of one layout with the table of the other: cos and sin repeated where they should be interleaved."""
    half = a.shape[-1] // 2
    order = torch.arange(a.shape[-1])
    order = order.view(2, half).T if layout == "interleaved" else order.view(half, 2).T
    return rotate(x, a[..., order.flatten()], layout)


def heads_as_tokens(x: Tensor, a: Tensor, layout: str) -> Tensor:
    """(B, H, N, D) read as (B, N, H, D): a head's number is its position (mlfoundations/open_lm#4)."""
    a = a[:, 0] if a.ndim == 4 else a.expand(x.shape[0], -1, -1)
    a = a.repeat(1, x.shape[1], 1)[:, : x.shape[1]]
    return torch.stack(
        [rotate(row.transpose(0, 1), b, layout).transpose(0, 1) for row, b in zip(x, a, strict=True)]
    )


def batch_as_tokens(x: Tensor, a: Tensor, layout: str) -> Tensor:
    """(S, 1, D/2) against (B, S, D), as in a Keras tutorial: a sample's number is its position."""
    a = a[0, 0] if a.ndim == 4 else a
    return torch.stack([rotate(row, a[b % len(a)].expand(x.shape[2], -1), layout) for b, row in enumerate(x)])


def whole_head(
    q: Tensor, k: Tensor, positions: Tensor, *, dim: int, base: float, layout: str
) -> tuple[Tensor, Tensor]:
    return chain()(q, k, positions, dim=q.shape[-1], base=base, layout=layout)


def only_queries(q: Tensor, k: Tensor, positions: Tensor, **how: object) -> tuple[Tensor, Tensor]:
    return chain()(q, k, positions, **how)[0], k


def keys_backwards(q: Tensor, k: Tensor, positions: Tensor, **how: object) -> tuple[Tensor, Tensor]:
    return chain()(q, k, positions, **how)[0], chain()(q, k, -positions, **how)[1]


def keys_counted_from_their_own_start(
    q: Tensor, k: Tensor, positions: Tensor, **how: object
) -> tuple[Tensor, Tensor]:
    return chain()(q, k, positions, **how)[0], chain()(q, k, positions - positions[..., :1], **how)[1]


def cached() -> Encode:
    """The table of the first call, kept while it is long enough (lucidrains/rotary-embedding-torch, 0.8.9)."""
    kept: list[Tensor] = []

    def table(m: Tensor, freqs: Tensor, *, dtype: torch.dtype) -> Tensor:
        fresh = angles(m, freqs, dtype=dtype)
        if not kept or kept[0].shape[-2] < m.shape[-1] or kept[0].ndim != fresh.ndim:
            kept[:] = [fresh]
        return kept[0][..., : m.shape[-1], :].to(dtype)

    return chain(table=table)


def float32_product(m: Tensor, freqs: Tensor, *, dtype: torch.dtype) -> Tensor:
    a = m.float()[..., None] * freqs.float()
    return (a if m.ndim == 1 else a[:, None]).to(dtype)


def bfloat16_table(x: Tensor, a: Tensor, layout: str) -> Tensor:
    def rounded(first: Tensor, second: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = cos.bfloat16().to(cos), sin.bfloat16().to(sin)
        return first * cos - second * sin, second * cos + first * sin

    return through(x, a, layout, rounded)


def in_the_dtype_of_x(x: Tensor, a: Tensor, layout: str) -> Tensor:
    """The product taken in bfloat16 where x is bfloat16: every step rounds."""

    def rounded(first: Tensor, second: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        first, second, cos, sin = (t.to(x.dtype) for t in (first, second, cos, sin))
        return first * cos - second * sin, second * cos + first * sin

    return through(x, a, layout, rounded)


class Mutant(NamedTuple):
    name: str
    new: New
    fails: set[str]


WRONG = {  # what every wrong angle fails
    "sign_of_the_turn", "equals_complex128", "equals_dense_matrix", "exact_at_ten_million",
    "half_precision_rounds_once",
}  # fmt: skip

MUTANTS = [
    Mutant(
        "heads as tokens",
        lambda: chain(turn=heads_as_tokens),
        WRONG - {"sign_of_the_turn"} | {"each_vector_turns_by_its_own_position"},
    ),
    Mutant(
        "batch as tokens",
        lambda: chain(turn=batch_as_tokens),
        WRONG - {"sign_of_the_turn"} | {"each_vector_turns_by_its_own_position"},
    ),
    Mutant(
        "wrong layout",
        lambda: chain(turn=other_layout),
        WRONG | {"norms_stay", "layouts_differ_by_a_permutation"},
    ),
    Mutant("pairs of one layout, table of the other", lambda: chain(turn=mixed_layout), WRONG),
    Mutant("exponent one too large", lambda: exponent(lambda e, dim: e + 2 / dim), WRONG),
    Mutant("exponent one too small", lambda: exponent(lambda e, dim: e - 2 / dim), WRONG),
    Mutant("exponent i/d for 2i/d", lambda: exponent(lambda e, dim: e / 2), WRONG),
    Mutant("frequencies in reverse", lambda: exponent(lambda e, dim: e.flip(0)), WRONG),
    Mutant(
        "base 500,000 for 10,000", lambda: chain(freqs=lambda dim, base: frequencies(dim, 50 * base)), WRONG
    ),
    Mutant(
        "missing minus",
        lambda: pair(lambda a, b, cos, sin: (a * cos + b * sin, b * cos + a * sin)),
        WRONG | {"shift_keeps_scores", "norms_stay", "turns_add", "turning_back_undoes"},
    ),
    Mutant(
        "pair overwritten",
        lambda: pair(lambda a, b, cos, sin: (a * cos - b * sin, b * cos + (a * cos - b * sin) * sin)),
        WRONG | {"shift_keeps_scores", "norms_stay", "turns_add", "turning_back_undoes"},
    ),
    Mutant(
        "cos and sin exchanged",
        lambda: pair(lambda a, b, cos, sin: (a * sin - b * cos, b * sin + a * cos)),
        WRONG | {"turns_add", "turning_back_undoes", "position_zero_is_identity"},
    ),
    Mutant("opposite rotation", lambda: at(torch.neg), WRONG),
    Mutant(
        "positions from 1",
        lambda: at(lambda m: m + 1),
        WRONG | {"turns_add", "turning_back_undoes", "position_zero_is_identity"},
    ),
    Mutant("positions doubled", lambda: at(lambda m: 2 * m), WRONG),
    Mutant(
        "whole positions only",
        lambda: at(lambda m: m.long()),
        WRONG - {"sign_of_the_turn", "exact_at_ten_million"} | {"shift_keeps_scores", "turns_add"},
    ),
    Mutant(
        "positions without their sign",
        lambda: at(torch.abs),
        WRONG - {"sign_of_the_turn", "exact_at_ten_million"}
        | {"shift_keeps_scores", "turns_add", "turning_back_undoes"},
    ),
    Mutant(
        "positions in bfloat16",
        lambda: at(lambda m: m.bfloat16()),
        WRONG - {"sign_of_the_turn"} | {"shift_keeps_scores", "turns_add"},
    ),
    Mutant(
        "positions of the first row for all",
        lambda: at(lambda m: m if m.ndim == 1 else m[:1].expand_as(m)),
        WRONG - {"sign_of_the_turn"} | {"each_vector_turns_by_its_own_position"},
    ),
    Mutant(
        "table of the first call",
        cached,
        {
            "turns_add",
            "turning_back_undoes",
            "each_vector_turns_by_its_own_position",
            "earlier_calls_leave_no_trace",
        },
    ),
    Mutant(
        "angles in float32", lambda: chain(table=float32_product), WRONG | {"shift_keeps_scores", "turns_add"}
    ),
    Mutant(
        "table in bfloat16",
        lambda: chain(turn=bfloat16_table),
        WRONG | {"shift_keeps_scores", "norms_stay", "turns_add", "turning_back_undoes"},
    ),
    Mutant(
        "product in the dtype of x", lambda: chain(turn=in_the_dtype_of_x), {"half_precision_rounds_once"}
    ),
    Mutant(
        "whole head for a part",
        lambda: whole_head,
        WRONG | {"norms_stay", "layouts_differ_by_a_permutation", "tail_passes_through"},
    ),
    Mutant(
        "keys not rotated",
        lambda: only_queries,
        WRONG | {"shift_keeps_scores", "queries_and_keys_turn_alike"},
    ),
    Mutant(
        "keys rotated backwards",
        lambda: keys_backwards,
        WRONG | {"shift_keeps_scores", "queries_and_keys_turn_alike"},
    ),
    Mutant(
        "keys counted from their own start",
        lambda: keys_counted_from_their_own_start,
        WRONG
        | {"shift_keeps_scores", "each_vector_turns_by_its_own_position", "queries_and_keys_turn_alike"},
    ),
]


def failed(new: New) -> set[str]:
    """Names of the properties that fail on some case."""
    names = set()
    for name, check in PROPERTIES.items():
        try:
            for case in CASES:
                check(new, case)
        except AssertionError:
            names.add(name)
    return names


def test_the_package_passes_the_cases_that_catch_the_mutants() -> None:
    assert failed(chain) == set()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant(mutant: Mutant) -> None:
    assert failed(mutant.new) == mutant.fails != set()


def test_every_property_is_needed() -> None:
    """None is failed by nothing."""
    assert set().union(*(mutant.fails for mutant in MUTANTS)) == set(PROPERTIES)
