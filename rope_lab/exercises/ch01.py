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
    "each token plus both its neighbours, in a circle": lambda x: x + x.roll(1, 1) + x.roll(-1, 1),
    "a small number added at each position": lambda x: x + _rows(x) / 500,
    "a causal mean of all but the first token, which is kept": lambda x: torch.cat(
        (x[:, :1], x[:, 1:].cumsum(1) / _rows(x)[:-1]), 1
    ),
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


def _others_shuffled(layer: Layer, x: Tensor) -> bool:
    order = torch.cat((torch.tensor([0]), torch.arange(1, x.shape[1]).roll(1)))
    return torch.allclose(layer(x[:, order])[:, 0], layer(x)[:, 0])


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
        "only the reversed order is tried, and a layer that reads both neighbours alike passes it": lambda f, x: (
            torch.allclose(f(x.flip(1)), f(x).flip(1))
        ),
        "the outputs are put in the inverse order; x[:, order] goes with layer(x)[:, order]": lambda f, x: (
            torch.allclose(f(x.roll(1, 1)), f(x).roll(-1, 1))
        ),
        "the others are shuffled and only the output of the first token is compared; compare all": _others_shuffled,
        "your tolerance hides a small number (0.002 per position) that is added at each position": lambda f, x: (
            _blind(f, x, equal=lambda a, b: bool((a - b).abs().mean() < 0.1))
        ),
        "the comparison is reversed, and its order is a circular shift, which is not enough either": lambda f, x: (
            not _by_circle(f, x)
        ),
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


def _running(v: Tensor) -> Tensor:
    out = [v[0]]
    for value in v[1:]:
        out.append((out[-1] + value) / 2)
    return torch.stack(out)


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
        "the counts 1, 2, … are along the coordinates; [:, None] puts them along the tokens": lambda v: (
            v.cumsum(0) / torch.arange(1, len(v) + 1)
        ),
        "// is a whole number; divide with /": lambda v: v.cumsum(0) // _count(v),
        "each step takes the mean of the last mean and the new value; every value before has the same weight": _running,
        "the values are not used: these are the weights 1/(m + 1)": lambda v: (1 / _count(v)).expand_as(v),
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
    return table[:, _distance(q, k).clamp_max(table.shape[1] - 1)]


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
        "the last entry of the table is at M − 1: clamp there, not at M": lambda t, q, k: t[
            :, _distance(q, k).clamp(0, t.shape[1])
        ],
        "nothing is clamped above: distances beyond the table share its last entry": lambda t, q, k: t[
            :, _distance(q, k).clamp_min(0)
        ],
        "you clamp at the number of heads; the table has M = table.shape[1] distances": lambda t, q, k: t[
            :, _distance(q, k).clamp(0, len(t) - 1)
        ],
        "distances beyond the table wrap around, by %; they share its last entry": lambda t, q, k: t[
            :, _distance(q, k).clamp_min(0) % t.shape[1]
        ],
        "keys ahead have −inf and distances beyond the table 0; both have the nearest entry": lambda t, q, k: (
            torch.where(
                _distance(q, k) < 0,
                -torch.inf,
                torch.where(_distance(q, k) < t.shape[1], _distance_bias(t, q, k), 0.0),
            )
        ),
        "keys ahead are hidden with −inf; a bias gives them the entry of distance 0": lambda t, q, k: (
            torch.where(_distance(q, k) < 0, -torch.inf, _distance_bias(t, q, k))
        ),
        "every query has the distances of the last one": lambda t, q, k: _distance_bias(
            t, q[-1:].expand_as(q), k
        ),
    },
    right="that is T5's bias without its buckets.",
)
"""Exercise 1.3: `distance_bias(table, q_positions, k_positions)`, shape (H, N_q, N_k)."""


def _twin(tokens: Tensor) -> Tensor | None:
    other = (tokens[:-1] != tokens[0]).nonzero().flatten()
    if not len(other):
        return None
    twin = tokens.clone()
    twin[0], twin[other[0]] = tokens[other[0]], tokens[0]
    return twin


def _twin_draws(d: Draw) -> Iterator[Inputs]:
    a, b, c = (d.order(9)[:3] + 1).tolist()
    for text in ([a, b], [a, a, a, b], [a, a, b, c], [a, b, a, c], [*sorted((a, b)), c]):
        yield (torch.tensor(text),)
    yield (torch.cat((torch.tensor([a, a]), d.order(9)[: d.whole(5, 7)])),)


def _not_twin(y: Tensor, tokens: Tensor) -> str:
    if y.shape != tokens.shape:
        return f"a text of the same length has {len(tokens)} tokens, got shape {tuple(y.shape)}."
    if y[-1] != tokens[-1]:
        return f"the last token asks the question; it is {tokens[-1]}, and yours is {y[-1]:g}."
    if y.equal(tokens.double()):
        return "this is the same text."
    for token in (*tokens.tolist(), *y.tolist()):
        there, here = int((tokens == token).sum()), int((y == token).sum())
        if there != here:
            return (
                f"the layer sees in which proportion a token is there: {token:g} is in the text {there} times, "
                f"and in yours {here} times."
            )
    return ""


def _swapped(x: Tensor) -> Tensor:
    return torch.cat((x[:2].flip(0), x[2:]))


check_twin = Exercise(
    "1.4",
    "twin",
    _twin,
    _twin_draws,
    {
        "the first two tokens are exchanged, and they may be the same, or one of them the last": _swapped,
        "the whole text is turned round; the last token has to stay": lambda x: x.flip(0),
        "the tokens before the last are turned round, which may change nothing": lambda x: torch.cat(
            (x[:-1].flip(0), x[-1:])
        ),
        "the tokens before the last are sorted, which leaves a sorted text as it is": lambda x: torch.cat(
            (x[:-1].sort().values, x[-1:])
        ),
        "all tokens move in a circle, and with them the last": lambda x: x.roll(1),
        "the tokens before the last move in a circle, which changes nothing where they are the same": (
            lambda x: torch.cat((x[:-1].roll(1), x[-1:]))
        ),
        "one token is replaced by another": lambda x: torch.cat((x[:1] + 1, x[1:])),
        "you give up as soon as a token occurs twice; two different tokens are enough": lambda x: (
            None if len(set(x[:-1].tolist())) < len(x) - 1 else _swapped(x)
        ),
    },
    right="one causal layer hears a bag for each token, and its order is yours to choose.",
    fault=_not_twin,
)
"""Exercise 1.4: `twin(tokens)` is another text (N,) with the same last output of any causal layer, or None."""


def _weights(q: Tensor, k: Tensor, ahead: int, *, hidden: float = -torch.inf) -> Tensor:
    """Attention in which query a sees the keys up to a + ahead."""
    visible = torch.ones(len(q), len(k), dtype=torch.bool).tril(ahead)
    return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~visible, hidden).softmax(-1)


def _earlier(q: Tensor, k: Tensor) -> int:
    return len(k) - len(q)


def _attend_last(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _weights(q, k, _earlier(q, k)) @ v


def _last_draws(d: Draw) -> Iterator[Inputs]:
    for queries, keys in ((1, 1), (2, 2), (1, 3), (2, d.whole(4, 5)), (3, 4), (3, d.whole(6, 8))):
        dim = d.whole(2, 3)
        yield d.tensor(queries, dim), d.tensor(keys, dim), d.tensor(keys, dim)


def _after(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (_weights(q, k, len(k)) * torch.ones(len(q), len(k), dtype=q.dtype).tril(_earlier(q, k))) @ v


check_attend_last = Exercise(
    "1.5",
    "attend_last",
    _attend_last,
    _last_draws,
    {
        "this is the function of the page, unmended": lambda q, k, v: _weights(q, k, 0) @ v,
        "nothing is hidden: a query sees the tokens after it": lambda q, k, v: _weights(q, k, len(k)) @ v,
        "each query sees one key too many, the one after it": lambda q, k, v: (
            _weights(q, k, _earlier(q, k) + 1) @ v
        ),
        "each query misses a key, its own": lambda q, k, v: _weights(q, k, _earlier(q, k) - 1) @ v,
        "hidden keys need a score of −inf; with a score of 0 they still have a weight": lambda q, k, v: (
            _weights(q, k, _earlier(q, k), hidden=0.0) @ v
        ),
        "the weights of hidden keys are set to 0 after the softmax, so the others no longer sum to 1": _after,
        "the scores are no longer divided by √D": lambda q, k, v: (
            _weights(q * q.shape[-1] ** 0.5, k, _earlier(q, k)) @ v
        ),
        "all queries see the same keys, those before the first of them": lambda q, k, v: (
            (q @ k[: _earlier(q, k) + 1].mT / q.shape[-1] ** 0.5).softmax(-1) @ v[: _earlier(q, k) + 1]
        ),
        "the earlier tokens are thrown away: the new ones see only each other": lambda q, k, v: _attend_last(
            q, k[-len(q) :], v[-len(q) :]
        ),
        "the scores are divided by the root of the number of keys; divide by √D": lambda q, k, v: (
            _weights(q * (q.shape[-1] / len(k)) ** 0.5, k, _earlier(q, k)) @ v
        ),
        "the scores are divided by D; divide by √D": lambda q, k, v: (
            _weights(q / q.shape[-1] ** 0.5, k, _earlier(q, k)) @ v
        ),
    },
    right="the mask knows now that the queries are the last ones.",
    properties={
        "an output is a mean of values with weights that sum to 1, and one of yours is outside their range": (
            lambda y, q, k, v: bool(
                (y <= v.max(0).values + 1e-4).all() and (y >= v.min(0).values - 1e-4).all()
            )
        )
    },
)
"""Exercise 1.5: `attend_last(q, k, v)` is causal attention of the last N_q of N_k tokens, shape (N_q, D)."""
