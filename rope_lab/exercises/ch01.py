"""Checkers of chapter 1: a test for bags of tokens, a head that counts, a bias on distances."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rope_lab.exercises.feedback import Feedback, compare

Layer = Callable[[Tensor], Tensor]


def check_is_order_blind(is_order_blind: Callable[[Layer, Tensor], bool]) -> Feedback:
    """Exercise 1.1: `is_order_blind(layer, x)` is True where `layer` is permutation-equivariant over axis 1."""
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = torch.arange(1, 7, dtype=torch.float64)[:, None]

    def bag(x: Tensor) -> Tensor:
        return (x @ x.mT).softmax(dim=-1) @ x

    layers: dict[str, Layer] = {
        "attention without positions": bag,
        "attention with a number added at each position": lambda x: bag(x + rows),
        "a causal mean": lambda x: x.cumsum(dim=1) / rows,
        "a mean over all tokens, copied to each": lambda x: x.mean(dim=1, keepdim=True).expand_as(x),
        "a factor for each coordinate": lambda x: x * x.new_tensor([1, 2, 3, 4]),
        "a number added to each text": lambda x: x + x.new_tensor([1, 2])[:, None, None],
    }

    def blind(layer: Layer, axis: int) -> bool:
        order = torch.arange(x.shape[axis]).roll(1)
        return torch.allclose(layer(x.index_select(axis, order)), layer(x).index_select(axis, order))

    mistakes: dict[str, Callable[[Layer], bool]] = {
        "compare with the shuffled output, layer(x)[:, order]": lambda f: torch.allclose(
            f(x.roll(1, 1)), f(x)
        ),
        "is your order the identity? It has to be a real shuffle": lambda f: True,
        "is the comparison turned round? True means blind": lambda f: not blind(f, 1),
        "you shuffle the texts of the batch; tokens are on axis 1": lambda f: blind(f, 0),
        "you shuffle the coordinates; tokens are on axis 1": lambda f: blind(f, 2),
    }
    answers: dict[str, bool] = {}
    for name, layer in layers.items():
        answer: object = is_order_blind(layer, x.clone())
        if answer is None:
            return Feedback("1.1", False, "your function returns nothing yet.")
        if isinstance(answer, Tensor) and answer.numel() != 1:
            return Feedback(
                "1.1", False, f"return one truth value, got a tensor of shape {tuple(answer.shape)}."
            )
        answers[name] = bool(answer)
    for name, layer in layers.items():
        if answers[name] != blind(layer, 1):
            wrong = f"{name}: expected {blind(layer, 1)}, got {answers[name]}."
            alike = (why for why, f in mistakes.items() if [*map(f, layers.values())] == [*answers.values()])
            likely = next(alike, None)
            return Feedback("1.1", False, f"{wrong} Likely: {likely}." if likely else wrong)
    return Feedback("1.1", True, "you can ask any layer whether it reads a bag.")


def check_causal_mean(causal_mean: Callable[[Tensor], Tensor]) -> Feedback:
    """Exercise 1.2: `causal_mean(v)` averages the values 0 to m for every m, shape (N, D)."""
    v = torch.randn(5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    count = torch.arange(1, 6, dtype=torch.float64)[:, None]
    total = v.cumsum(dim=0)
    mistakes = {
        "every query divides by N; the one at m sees only m + 1 keys": total / len(v),
        "the sum is not divided by the number of keys": total,
        "this is the mean over all tokens; the query at m sees the keys up to m": v.mean(0).expand_as(v),
        "position m sees m + 1 keys, itself included, not m": total / (count - 1),
        "a token also sees itself": torch.cat((v[:1] * 0, total[:-1] / count[:-1])),
        "you average over the coordinates; tokens are on axis 0": v.cumsum(dim=1) / torch.arange(1, 4),
        "the sum runs from the end: a causal query sees what is before it": (
            v.flip(0).cumsum(0) / count
        ).flip(0),
    }
    right = "a head that attends evenly, in one line."
    return compare("1.2", causal_mean(v.clone()), total / count, mistakes, right=right)


def check_distance_bias(distance_bias: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Feedback:
    """Exercise 1.3: `distance_bias(table, q_positions, k_positions)`, shape (H, N_q, N_k)."""
    heads, rows = 2, 4
    table = torch.randn(heads, rows, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    q_positions, k_positions = torch.tensor([5, 6, 9]), torch.tensor([3, 4, 5, 6, 9])
    back = q_positions[:, None] - k_positions[None, :]
    expected = table[:, back.clamp(0, rows - 1)]
    mistakes = {
        "the distance is m − n, query minus key": table[:, (-back).clamp(0, rows - 1)],
        "keys ahead of the query have distance 0 here, not |m − n|": table[:, back.abs().clamp(max=rows - 1)],
        "distances beyond the table share its last entry; you let them wrap around": table[:, back % rows],
        "you use the row numbers of queries and keys; use the positions": table[
            :, (torch.arange(3)[:, None] - torch.arange(5)).clamp(0, rows - 1)
        ],
        "queries and keys have changed places: rows are queries": expected.mT,
        "the heads come first": expected.permute(1, 2, 0),
        "only one head's numbers are used": expected[:1].expand_as(expected),
    }
    right = "that is T5's bias without its buckets."
    return compare(
        "1.3", distance_bias(table.clone(), q_positions, k_positions), expected, mistakes, right=right
    )
