"""The attention viewer: its numbers against the definition, for every encoding, and what it draws."""

from typing import get_args

import pytest
import torch

from rope_lab import LocalTransformer, RoFormer, RoFormerConfig
from rope_lab.config import Position
from rope_lab.experiments.looking import attention_by_distance, even_by_distance, keys_attended
from rope_lab.figures.heads import heads_by_distance
from rope_lab.local import LocalConfig

V, N = 11, 24
SMALL = {"vocab_size": V, "context": 32, "dim": 32, "depth": 2, "heads": 4}
KINDS = {position: {"position": position} for position in get_args(Position)}
KINDS |= {
    "window": {"window": 5},
    "grouped": {"kv_heads": 2},
    "both ways": {"causal": False},
    "both ways in a window": {"causal": False, "window": 4},
}


def drawn(model: RoFormer) -> RoFormer:
    """Weights large enough that attention looks at something."""
    torch.manual_seed(0)
    for p in model.parameters():
        if p.ndim == 2:
            torch.nn.init.normal_(p, std=p.shape[1] ** -0.5)
    return model


def make(**fields) -> RoFormer:
    return drawn(RoFormer(RoFormerConfig(**(SMALL | fields))))


def tokens(batch: int = 3) -> torch.Tensor:
    return torch.randint(V, (batch, N), generator=torch.Generator().manual_seed(1))


def both(model: RoFormer, **options) -> tuple[torch.Tensor, torch.Tensor]:
    return attention_by_distance(model, tokens(), **options), even_by_distance(model, tokens(), **options)


@pytest.mark.parametrize("first", [None, 0, N - 1])
@pytest.mark.parametrize("kind", KINDS)
def test_each_head_spends_all_it_has_where_it_may_look(kind, first):
    weights, even = both(make(**KINDS[kind]), first=first)
    assert weights.shape == (2, 4, N)
    assert even.shape == (2, N)
    for rows in (weights, even):
        torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]), rtol=0, atol=1e-6)
    assert (weights >= 0).all()
    assert (weights[:, :, :][(even == 0)[:, None].expand_as(weights)] == 0).all()
    assert (weights - even[:, None]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "fields", [{}, {"window": 5}, {"causal": False}, {"causal": False, "window": 4}], ids=str
)
def test_without_queries_attention_is_even(fields):
    model = make(**fields)
    for block in model.blocks:
        torch.nn.init.zeros_(block.attention.query.weight)
    weights, even = both(model, first=3)
    torch.testing.assert_close(weights, even[:, None].expand_as(weights), rtol=0, atol=1e-6)
    seen = [[n for n in range(N) if abs(m - n) < fields.get("window", N)] for m in range(3, N)]
    if fields.get("causal", True):
        seen = [[n for n in row if n <= m] for m, row in enumerate(seen, 3)]
    by_hand = torch.zeros(N, dtype=torch.float64)
    for m, row in enumerate(seen, 3):
        for n in row:
            by_hand[abs(m - n)] += 1 / len(row) / len(seen)
    torch.testing.assert_close(even, by_hand.expand(2, -1))


def test_attention_is_spread_over_as_many_keys_as_it_weighs_equally():
    model = make(window=5)
    assert ((keys_attended(model, tokens()) > 1) & (keys_attended(model, tokens()) < 5)).all()
    for block in model.blocks:
        torch.nn.init.zeros_(block.attention.query.weight)
    torch.testing.assert_close(keys_attended(model, tokens(), first=6), torch.full((2, 4), 5.0).double())
    fewer = (1 + 2 + 3 + 4 + 5 * (N - 4)) / N  # the first queries see fewer
    torch.testing.assert_close(
        keys_attended(model, tokens(), first=0), torch.full((2, 4), fewer).double(), rtol=1e-6, atol=0
    )


def test_rope_weights_equal_the_softmax_of_turned_products():
    model = make(depth=1)
    (found,) = attention_by_distance(model, tokens(), first=0)
    (block,) = model.blocks
    layer, x = block.attention, block.attention_norm(model.embedding(tokens()))
    q, k = (p(x).unflatten(-1, (4, 8)).transpose(1, 2) for p in (layer.query, layer.key))
    q, k = layer.position(*(torch.nn.functional.rms_norm(t, (8,)) for t in (q, k)))
    scores = (q @ k.mT / 8**0.5).masked_fill(torch.ones(N, N).triu(1).bool(), -torch.inf)
    mean = scores.softmax(-1).mean(0)
    by_hand = torch.stack([mean.diagonal(-s, -2, -1).sum(-1) / N for s in range(N)], dim=-1)
    torch.testing.assert_close(found, by_hand.double(), rtol=0, atol=1e-6)


def test_local_layers_and_global_ones_each_show_their_reach():
    model = drawn(LocalTransformer(LocalConfig(**SMALL, window=5, global_layers=1)))
    weights, even = both(model)
    assert not weights[0, :, 5:].any()
    assert not even[0, 5:].any()
    assert (weights[1, :, 5:].sum(-1) > 0.1).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4).double(), rtol=0, atol=1e-6)


def test_it_looks_without_dropout_and_leaves_the_model_as_it_was():
    model = make(dropout=0.5).train()
    weights = attention_by_distance(model, tokens())
    assert torch.equal(weights, attention_by_distance(model, tokens()))
    assert model.training
    assert not weights.requires_grad
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_figure_has_a_panel_a_head_with_its_mean_and_its_weights():
    model = make()
    weights = attention_by_distance(model, tokens())
    figure = heads_by_distance(model, tokens())
    assert len(figure.axes) == 2 * 4
    means = (weights @ torch.arange(N).double()).flatten()
    for panel, mean, row in zip(figure.axes, means, weights.flatten(0, 1), strict=True):
        assert panel.get_title(loc="right") == f"mean {mean:.1f}"
        even, line, upright = panel.lines
        assert line.get_ydata() == pytest.approx(row.numpy(), nan_ok=True)
        assert even.get_linestyle() == "--"
        assert upright.get_xdata()[0] == pytest.approx(mean + 1)
    assert [panel.get_title() or panel.get_title(loc="left") for panel in figure.axes[:4]] == [
        f"head {head}" for head in (1, 2, 3, 4)
    ]
    assert figure.axes[4].get_ylabel() == "layer 2"


@pytest.mark.parametrize(
    ("ids", "first", "message"),
    [
        (torch.zeros(N).long(), None, r"ids must have shape \(B, N\), neither of them 0, got \(24,\)"),
        (torch.zeros(0, N).long(), None, r"ids must have shape \(B, N\), neither of them 0, got \(0, 24\)"),
        (tokens(), N, "first must lie between 0 and 23, the last query, got 24"),
        (tokens(), -1, "first must lie between 0 and 23, the last query, got -1"),
    ],
)
def test_bad_input_is_named(ids, first, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        heads_by_distance(make(), ids, first=first)
