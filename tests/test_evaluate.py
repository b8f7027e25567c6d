"""The loss on a whole text against the sum over its characters, one at a time."""

import pytest
import torch
from training import tiny

from rope_lab import RoFormer
from rope_lab.evaluate import evaluate


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
