"""The loss on a whole text against the sum over its characters, one at a time."""

import pytest
import torch
from runs import tiny

from rope_lab import RoFormer
from rope_lab.training import evaluate, token_losses


@pytest.fixture(params=["rope", "learned", "none"])
def model(request):
    torch.manual_seed(0)
    model = RoFormer(tiny(position=request.param).architecture(9)).double()
    for p in model.parameters():  # far from uniform, so that every character matters
        torch.nn.init.normal_(p, std=0.5)
    return model


def brute_force(model, ids):
    """Every target by itself, given its segment up to it."""
    model.eval()
    context, total = model.config.context, 0.0
    for target in range(1, len(ids)):
        start = (target - 1) // context * context
        logits = model(ids[None, start:target])[0, -1]
        total -= logits.log_softmax(-1)[ids[target]].item()
    return total / (len(ids) - 1)


@pytest.mark.parametrize("length", [2, 9, 16, 17, 18, 32, 33, 40, 100])
@torch.no_grad()
def test_it_is_the_mean_over_every_character_once(model, length):
    ids = torch.randint(9, (length,))
    assert evaluate(model, ids, batch=2) == pytest.approx(brute_force(model, ids), abs=1e-6)


def test_the_batch_does_not_change_what_is_measured(model):
    ids = torch.randint(9, (200,))
    assert evaluate(model, ids, batch=1) == pytest.approx(evaluate(model, ids, batch=50), abs=1e-6)


def test_a_model_in_bfloat16_is_measured_in_float32():
    """Logits of 8 bits are given; their logarithms need not be rounded to 8 bits as well."""
    torch.manual_seed(0)
    model = RoFormer(tiny().architecture(9)).bfloat16().eval()
    ids = torch.randint(9, (17,))
    with torch.no_grad():
        logits = model(ids[None, :-1]).double()
    exact = -logits[0].log_softmax(-1)[torch.arange(16), ids[1:]]
    torch.testing.assert_close(token_losses(model, ids, 16)[0], exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize("measure", [evaluate, lambda model, ids: token_losses(model, ids, 4)])
def test_a_model_of_another_kind_is_named(measure):
    with pytest.raises(TypeError, match="model must be a RoFormer, got Linear"):
        measure(torch.nn.Linear(2, 2), torch.zeros(9, dtype=torch.long))


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_during_it_and_the_mode_is_back_afterwards(model, training):
    ids = torch.randint(9, (50,))
    model.train(training)
    assert evaluate(model, ids) == evaluate(model, ids)
    assert model.training is training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("ids", "batch", "said"),
    [
        (torch.zeros(1, dtype=torch.long), 1, r"ids must have shape \(N,\) with N at least 2, got \(1,\)"),
        (torch.zeros((2, 5), dtype=torch.long), 1, r"ids must have shape \(N,\)"),
        (torch.zeros(5, dtype=torch.long), 0, "batch must be positive, got 0"),
    ],
)
def test_bad_input_is_named(model, ids, batch, said):
    with pytest.raises(ValueError, match=said):
        evaluate(model, ids, batch=batch)


@pytest.mark.parametrize(("length", "stride"), [(4, 4), (16, 16), (16, 5), (12, 1)])
@torch.no_grad()
def test_token_losses_are_those_of_each_segment_alone(model, length, stride):
    ids = torch.randint(9, (40,))
    model.eval()
    losses = token_losses(model, ids, length, stride=stride, batch=3)
    starts = range(0, len(ids) - length, stride)
    assert losses.shape == (len(starts), length)
    for row, start in zip(losses, starts, strict=True):
        scores = model(ids[None, start : start + length])[0].log_softmax(-1)
        wanted = -scores.gather(1, ids[start + 1 : start + length + 1, None])[:, 0]
        torch.testing.assert_close(row, wanted, rtol=0, atol=1e-6)


def test_one_stride_counts_every_target_of_a_sliding_window_once(model):
    ids = torch.arange(50) % 9
    last = token_losses(model, ids, 12, stride=3)[:, -3:]
    assert last.numel() == len(range(0, 50 - 12, 3)) * 3


@pytest.mark.parametrize(
    ("length", "stride", "said"),
    [
        (0, None, "length must lie between 1 and the 49 targets of the text, got 0"),
        (50, None, "length must lie between 1 and the 49 targets of the text, got 50"),
        (10, 11, "stride must lie between 1 and length=10, got 11"),
        (10, 0, "stride must lie between 1 and length=10, got 0"),
    ],
)
def test_bad_lengths_are_named(model, length, stride, said):
    with pytest.raises(ValueError, match=said):
        token_losses(model, torch.zeros(50, dtype=torch.long), length, stride=stride)


def test_learned_positions_end_with_their_table():
    model = RoFormer(tiny(position="learned").architecture(9))
    rows = model.config.context
    with pytest.raises(ValueError, match=f"length must be at most {rows}, the number of learned positions"):
        token_losses(model, torch.zeros(200, dtype=torch.long), rows + 1)
