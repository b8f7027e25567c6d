"""Checkers of chapter 1: a test for bags of tokens, a head that counts, a bias on distances."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs

Layer = Callable[[Tensor], Tensor]


def _bag(x: Tensor) -> Tensor:
    return (x @ x.mT).softmax(dim=-1) @ x


def _rows(x: Tensor) -> Tensor:
    return torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]


def _sorted(x: Tensor) -> Tensor:
    return x.gather(1, x[..., :1].argsort(dim=1).expand_as(x))


LAYERS: dict[str, Layer] = {
    "attention without positions": _bag,
    "attention with a number added at each position": lambda x: _bag(x + _rows(x)),
    "a number added at each position": lambda x: x + _rows(x),
    "a causal mean": lambda x: x.cumsum(dim=1) / _rows(x),
    "a mean over all tokens, copied to each": lambda x: x.mean(dim=1, keepdim=True).expand_as(x),
    "a layer that sorts the tokens by their first coordinate": _sorted,
    "each token plus its left neighbour, in a circle": lambda x: x + x.roll(1, 1),
    "a factor for each coordinate": lambda x: x * torch.arange(1, x.shape[2] + 1, dtype=x.dtype),
    "a number added to each sequence": lambda x: (
        x + torch.arange(1, len(x) + 1, dtype=x.dtype)[:, None, None]
    ),
}
for _name, _layer in LAYERS.items():
    _layer.__name__ = _name


def _blind(layer: Layer, x: Tensor, axis: int = 1, equal: Callable[..., bool] = torch.allclose) -> bool:
    places = torch.arange(x.shape[axis])
    swap = torch.cat((places[:2].flip(0), places[2:]))
    orders = swap, places.roll(1)  # every order is made of these two
    return all(equal(layer(x.index_select(axis, o)), layer(x).index_select(axis, o)) for o in orders)


def _by_circle(layer: Layer, x: Tensor) -> bool:
    return torch.allclose(layer(x.roll(1, 1)), layer(x).roll(1, 1))


def _is_order_blind(layer: Layer, x: Tensor) -> bool:
    return _blind(layer, x)


def _blind_draws(d: Draw) -> Iterator[Inputs]:
    for layer in LAYERS.values():
        yield layer, d.tensor(2, d.whole(6, 8), d.whole(3, 4))


def _as_a_set(layer: Layer, x: Tensor) -> bool:
    return torch.allclose(layer(x.roll(1, 1)).sort(dim=1).values, layer(x).sort(dim=1).values)


check_is_order_blind = Exercise(
    "1.1",
    "is_order_blind",
    _is_order_blind,
    _blind_draws,
    {
        "compare with the shuffled output, layer(x)[:, order]": lambda f, x: torch.allclose(
            f(x.roll(1, 1)), f(x)
        ),
        "is your order the identity? It has to be a real shuffle": lambda f, x: True,
        "is the comparison reversed? True means blind": lambda f, x: not _blind(f, x),
        "a circular shift is not enough: a layer that reads a neighbour in a circle passes it": _by_circle,
        "you compare the mean over the tokens; compare the outputs token by token, with layer(x)[:, order]": (
            lambda f, x: torch.allclose(f(x.roll(1, 1)).mean(1), f(x).mean(1))
        ),
        "you compare the outputs as a set; the output of each token has to move with it, layer(x)[:, order]": _as_a_set,
        "you shuffle the sequences of the batch; tokens are on axis 1": lambda f, x: _blind(f, x, 0),
        "you shuffle the coordinates; tokens are on axis 1": lambda f, x: _blind(f, x, 2),
        "you ask for the same bits; a sum in another order is rounded differently, so use torch.allclose": (
            lambda f, x: _blind(f, x, equal=torch.equal)
        ),
        "you return False for every layer": lambda f, x: False,
    },
    right="you can ask any layer whether it reads a bag.",
)
"""Exercise 1.1: `is_order_blind(layer, x)` is True where `layer` is permutation-equivariant over axis 1."""


def _count(v: Tensor) -> Tensor:
    return torch.arange(1, len(v) + 1, dtype=v.dtype)[:, None]


def _causal_mean(v: Tensor) -> Tensor:
    return v.cumsum(dim=0) / _count(v)


def _mean_draws(d: Draw) -> Iterator[Inputs]:
    for shape in ((1, 2), (2, 1), (3, 2), (d.whole(4, 6), 3), (d.whole(7, 9), d.whole(2, 4))):
        yield (d.tensor(*shape),)


check_causal_mean = Exercise(
    "1.2",
    "causal_mean",
    _causal_mean,
    _mean_draws,
    {
        "every query divides by N; the one at m sees only m + 1 keys": lambda v: v.cumsum(0) / len(v),
        "the sum is not divided by the number of keys": lambda v: v.cumsum(0),
        "this is the mean over all tokens; the query at m sees the keys up to m": lambda v: v.mean(
            0
        ).expand_as(v),
        "position m sees m + 1 keys, itself included, not m": lambda v: v.cumsum(0) / (_count(v) - 1),
        "you divide by m + 2; position m sees m + 1 keys": lambda v: v.cumsum(0) / (_count(v) + 1),
        "a token also sees itself": lambda v: torch.cat((v[:1] * 0, _causal_mean(v)[:-1])),
        "you average over the coordinates; tokens are on axis 0": lambda v: _causal_mean(v.T).T,
        "the sum runs from the end: a causal query sees what is before it": (
            lambda v: _causal_mean(v.flip(0)).flip(0)
        ),
        "each column of the weights sums to 1; each row has to, so divide by m + 1 along the keys": (
            lambda v: torch.ones(len(v), len(v), dtype=v.dtype).tril() / _count(v).flip(0).T @ v
        ),
        "you take the softmax of a mask of zeros and ones; hidden keys need −inf, not 0": (
            lambda v: torch.ones(len(v), len(v), dtype=v.dtype).tril().softmax(-1) @ v
        ),
    },
    right="a head that attends uniformly, in one line.",
    properties={
        "the first token sees only itself, so row 0 is v[0]": lambda y, v: torch.allclose(
            y[0], v[0], atol=1e-5
        )
    },
)
"""Exercise 1.2: `causal_mean(v)` averages the values 0 to m for every m, shape (N, D)."""


def _distance(q: Tensor, k: Tensor) -> Tensor:
    return q[:, None] - k[None, :]


def _looked_up(table: Tensor, distance: Tensor) -> Tensor:
    return table[:, distance.clamp(0, table.shape[1] - 1)]


def _distance_bias(table: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
    return _looked_up(table, _distance(q_positions, k_positions))


def _bias_draws(d: Draw) -> Iterator[Inputs]:
    yield d.tensor(2, 1), torch.tensor([4]), torch.tensor([3, 6])
    yield d.tensor(2, 3), torch.tensor([d.whole(5, 6)]), torch.tensor([3, 5, 8])
    for _ in range(3):
        q = 5 + d.wholes(d.whole(3, 4), low=1, high=3).cumsum(0)
        k = 2 + d.wholes(5, low=1, high=3).cumsum(0)
        yield d.tensor(d.whole(2, 3), 4), q, k
    yield d.tensor(2, 4), torch.tensor([20, 21]), torch.tensor([1, 19, 40])


def _wrapping(table: Tensor, q: Tensor, k: Tensor) -> Tensor:
    rows = table.shape[1]
    back = _distance(q, k)
    return table[:, torch.where(back < 0, back % rows, back.clamp(max=rows - 1))]


check_distance_bias = Exercise(
    "1.3",
    "distance_bias",
    _distance_bias,
    _bias_draws,
    {
        "the distance is m − n, query minus key": lambda t, q, k: _looked_up(t, -_distance(q, k)),
        "keys ahead of the query have distance 0 here, not |m − n|": lambda t, q, k: _looked_up(
            t, _distance(q, k).abs()
        ),
        "distances beyond the table share its last entry; you let them wrap around": lambda t, q, k: t[
            :, _distance(q, k) % t.shape[1]
        ],
        "a negative distance counts from the end of the table; clamp at 0 as well": _wrapping,
        "keys ahead of the query have the entry of distance 0, not the number 0": lambda t, q, k: torch.where(
            _distance(q, k) >= 0, _distance_bias(t, q, k), 0.0
        ),
        "distances beyond the table share its last entry; you set them to 0": lambda t, q, k: torch.where(
            _distance(q, k) < t.shape[1], _distance_bias(t, q, k), 0.0
        ),
        "you use the row numbers of queries and keys; use the positions": lambda t, q, k: _looked_up(
            t, _distance(torch.arange(len(q)), torch.arange(len(k)))
        ),
        "queries and keys are swapped: rows are queries": lambda t, q, k: _distance_bias(t, q, k).mT,
        "the heads come first": lambda t, q, k: _distance_bias(t, q, k).permute(1, 2, 0),
        "only one head's numbers are used": lambda t, q, k: _distance_bias(t[:1].expand_as(t), q, k),
        "only one head is returned; there is one table row for each": lambda t, q, k: _distance_bias(t, q, k)[
            0
        ],
    },
    right="that is T5's bias without its buckets.",
)
"""Exercise 1.3: `distance_bias(table, q_positions, k_positions)`, shape (H, N_q, N_k)."""
