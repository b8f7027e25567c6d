"""The checkers of chapter 13 pass right answers and name each known mistake."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.exercises.ch13 import check_bigram_loss, check_nats, check_next_positions


def nats(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def test_nats_right() -> None:
    assert check_nats(nats)
    assert check_nats(lambda x, t: nats(x, t).item())


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda x, t: -nats(x, t), "the sign"),
        (lambda x, t: nats(x, t) * t.numel(), "this is the sum"),
        (lambda x, t: nats(x, t) / math.log(2), "bits"),
        (lambda x, t: -x.gather(-1, t[..., None]).mean(), "log_softmax"),
        (lambda x, t: -x.log_softmax(1).gather(-1, t[..., None]).mean(), "last axis"),
        (lambda x, t: -x.softmax(-1).gather(-1, t[..., None]).mean().log(), "average their logarithms"),
        (lambda x, t: x.softmax(-1).gather(-1, t[..., None]).mean(), "log is missing"),
        (lambda x, t: -x.log_softmax(-1).gather(-1, t[..., None])[..., 0], "one loss per character"),
        (lambda x, t: nats(x, t).exp(), "perplexity"),
        (lambda x, t: nats(x[:, :-1], t[:, 1:]), "shifted once more"),
        (lambda x, t: None, "nothing yet"),
    ],
)
def test_nats_mistakes(answer, diagnosis: str) -> None:
    verdict = check_nats(answer)
    assert not verdict
    assert diagnosis in verdict.message


def pairs(text: Tensor, size: int, *, again: bool = True) -> Tensor:
    counts = torch.zeros(size, size, dtype=torch.float64)
    return counts.index_put_(
        (text[:-1], text[1:]), torch.ones(len(text) - 1, dtype=torch.float64), accumulate=again
    )


def score(p: Tensor, text: Tensor) -> Tensor:
    return -p.log()[text[:-1], text[1:]].mean()


def rows(counts: Tensor) -> Tensor:
    return counts / counts.sum(-1, keepdim=True)


def test_bigram_right() -> None:
    assert check_bigram_loss(lambda train, val, v: score(rows(pairs(train, v) + 1), val))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda t, v, n: score(rows(pairs(t, n) + 1), t), "on val"),
        (
            lambda t, v, n: F.cross_entropy(
                (t.bincount(minlength=n) + 1.0).log().expand(len(v) - 1, n), v[1:]
            ),
            "pairs",
        ),
        (lambda t, v, n: score(rows(pairs(t, n).T + 1), v), "are swapped"),
        (lambda t, v, n: score(rows(pairs(t, n)), v), "add 1"),
        (lambda t, v, n: score(rows(pairs(t, n, again=False) + 1), v), "only once"),
        (lambda t, v, n: score((pairs(t, n) + 1) / (pairs(t, n) + 1).sum(), v), "own sum"),
        (lambda t, v, n: score((pairs(t, n) + 1) / (pairs(t, n) + 1).sum(0), v), "columns"),
        (lambda t, v, n: score(rows(pairs(t, 1 + int(torch.cat((t, v)).max())) + 1), v), "V is not used"),
        (lambda t, v, n: None, "nothing yet"),
    ],
)
def test_bigram_mistakes(answer, diagnosis: str) -> None:
    verdict = check_bigram_loss(answer)
    assert not verdict
    assert diagnosis in verdict.message


def lengths(mask: Tensor) -> Tensor:
    return mask.sum(-1, keepdim=True)


def test_next_positions_right() -> None:
    assert check_next_positions(lambda mask, new: lengths(mask) + torch.arange(new))
    assert check_next_positions(lambda mask, new: [[*range(n, n + new)] for n in mask.sum(-1).tolist()])


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda m, new: (m.shape[1] + torch.arange(new)).expand(len(m), new), "width of the batch"),
        (lambda m, new: torch.arange(new).expand(len(m), new), "start at 0 again"),
        (lambda m, new: lengths(m) + torch.arange(new) + 1, "one too large"),
        (lambda m, new: lengths(m) + torch.arange(new) - 1, "one too small"),
        (lambda m, new: lengths(~m) + torch.arange(new), "you count the padding"),
        (lambda m, new: lengths(m).expand(-1, new), "continue by one"),
        (lambda m, new: lengths(m) + torch.arange(len(m)), "expected shape (2, 5), got (2, 2)"),
        (lambda m, new: lengths(m), "expected shape (2, 2), got (2, 1)"),
        (lambda m, new: (lengths(m) + torch.arange(new)).float(), "return integers, got torch.float32"),
        (lambda m, new: (lengths(m).max() + torch.arange(new)).expand(len(m), new), "from the longest"),
        (lambda m, new: m[:, :new], "return integers"),
        (lambda m, new: None, "nothing yet"),
    ],
)
def test_next_positions_mistakes(answer, diagnosis: str) -> None:
    verdict = check_next_positions(answer)
    assert not verdict
    assert diagnosis in verdict.message
