"""The checkers of chapter 13 pass right answers and name each known mistake."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.exercises.ch13 import (
    check_accumulated_loss,
    check_nats,
    check_next_positions,
    check_ngram_loss,
    check_one_before,
)


def entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def nats(logits: Tensor, ids: Tensor) -> Tensor:
    return entropy(logits[:, :-1], ids[:, 1:])


def picked(x: Tensor, ids: Tensor) -> Tensor:
    return x[:, :-1].gather(-1, ids[:, 1:, None])


def test_nats_right() -> None:
    assert check_nats(nats)
    assert check_nats(lambda x, ids: nats(x, ids).item())
    assert check_nats(
        lambda x, ids: (
            sum(
                -math.log(float(x[b, t].softmax(0)[ids[b, t + 1]]))
                for b in range(len(ids))
                for t in range(ids.shape[1] - 1)
            )
            / ids[:, 1:].numel()
        )
    )


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (entropy, "compared with its own character"),
        (lambda x, ids: entropy(x[:, 1:], ids[:, :-1]), "shifted the wrong way"),
        (lambda x, ids: entropy(x, ids.roll(-1, 1)), "what comes after it is not in the text"),
        (lambda x, ids: nats(x, ids) * (ids.shape[1] - 1) / ids.shape[1], "one prediction fewer"),
        (lambda x, ids: -nats(x, ids), "the sign"),
        (lambda x, ids: nats(x, ids) * ids[:, 1:].numel(), "this is the sum"),
        (lambda x, ids: nats(x, ids) / math.log(2), "bits"),
        (lambda x, ids: -picked(x, ids).mean(), "log_softmax"),
        (lambda x, ids: -picked(x[:, :-1].log_softmax(1), ids[:, :-1]).mean(), "expected"),
        (lambda x, ids: -x[:, :-1].log_softmax(1).gather(-1, ids[:, 1:, None]).mean(), "last axis"),
        (lambda x, ids: -picked(x.softmax(-1), ids).mean().log(), "average their logarithms"),
        (lambda x, ids: picked(x.softmax(-1), ids).mean(), "log is missing"),
        (lambda x, ids: -picked(x.log_softmax(-1), ids)[..., 0], "one loss per character"),
        (lambda x, ids: nats(x, ids).exp(), "perplexity"),
        (lambda x, ids: None, "nothing yet"),
    ],
)
def test_nats_mistakes(answer, diagnosis: str) -> None:
    verdict = check_nats(answer)
    assert not verdict
    assert diagnosis in verdict.message


def predicted(train: Tensor, val: Tensor, size: int, n: int, add: float = 1.0) -> float:
    """One character of val after the other, with a search through train for each."""
    train, val, total = train.tolist(), val.tolist(), 0.0
    for t in range(n, len(val)):
        follow = [train[i + n] for i in range(len(train) - n) if train[i : i + n] == val[t - n : t]]
        total -= math.log((follow.count(val[t]) + add) / (len(follow) + add * size))
    return total / (len(val) - n)


def pairs(text: Tensor, size: int, *, again: bool = True) -> Tensor:
    counts = torch.zeros(size, size, dtype=torch.float64)
    return counts.index_put_(
        (text[:-1], text[1:]), torch.ones(len(text) - 1, dtype=torch.float64), accumulate=again
    )


def rows(counts: Tensor) -> Tensor:
    return counts / counts.sum(-1, keepdim=True)


def counted(text: Tensor, size: int, n: int) -> Tensor:
    counts = torch.zeros([size] * (n + 1), dtype=torch.float64)
    for run in text.unfold(0, n + 1, 1).tolist():
        counts[tuple(run)] += 1
    return counts


def score(p: Tensor, text: Tensor) -> Tensor:
    return -p.log()[tuple(text.unfold(0, p.dim(), 1).T)].mean()


def test_ngram_right() -> None:
    assert check_ngram_loss(predicted)
    assert check_ngram_loss(lambda t, v, V, n: score(rows(counted(t, V, n) + 1), v))


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda t, v, V, n: predicted(t, t, V, n), "on val"),
        (lambda t, v, V, n: predicted(v, v, V, n), "count those of train"),
        (lambda t, v, V, n: predicted(t, v, V, 1), "n is not used"),
        (lambda t, v, V, n: predicted(t, v, V, n + 1), "one character too many"),
        (lambda t, v, V, n: predicted(t.flip(0), v.flip(0), V, n), "read backwards"),
        (lambda t, v, V, n: score(rows(counted(t, V, n)), v), "add 1"),
        (lambda t, v, V, n: score(rows((counted(t, V, n) > 0) + 1.0), v), "only once"),
        (lambda t, v, V, n: score((counted(t, V, n) + 1) / (counted(t, V, n) + 1).sum(), v), "own sum"),
        (lambda t, v, V, n: predicted(t, v, 1 + int(torch.cat((t, v)).max()), n), "V is not used"),
        (lambda t, v, V, n: predicted(t, v, V, n) * (len(v) - n), "this is the sum"),
        (lambda t, v, V, n: predicted(t, v, V, n) * (len(v) - n) / len(v), "divide by the number of all"),
        (lambda t, v, V, n: predicted(t, v, V, n, 0.5), "expected"),
        (lambda t, v, V, n: None, "nothing yet"),
    ],
)
def test_ngram_mistakes(answer, diagnosis: str) -> None:
    verdict = check_ngram_loss(answer)
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


def each(x: Tensor, t: Tensor) -> Tensor:
    """The losses of the characters that there are, one after the other."""
    return torch.cat(
        [F.cross_entropy(a[b >= 0], b[b >= 0], reduction="none") for a, b in zip(x, t, strict=True)]
    )


def parts(x: Tensor, t: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), t.split(size), strict=True))


def test_accumulated_loss_right() -> None:
    assert check_accumulated_loss(lambda x, t, size: each(x, t).mean())
    assert check_accumulated_loss(
        lambda x, t, size: F.cross_entropy(x.flatten(0, 1), t.flatten(), ignore_index=-1)
    )
    assert check_accumulated_loss(
        lambda x, t, size: (
            sum(
                each(*part).mean() * (part[1] >= 0).sum()
                for part in parts(x, t, size)
                if (part[1] >= 0).any()
            )
            / (t >= 0).sum()
        )
    )


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (
            lambda x, t, size: torch.stack([each(*part).mean() for part in parts(x, t, size)]).mean(),
            "the function of the page",
        ),
        (
            lambda x, t, size: torch.stack(
                [each(*part).mean() for part in parts(x, t, size) if (part[1] >= 0).any()]
            ).mean(),
            "a part without characters is left out",
        ),
        (
            lambda x, t, size: sum(each(*part).mean() * len(part[1]) for part in parts(x, t, size)) / len(t),
            "weighted by their rows",
        ),
        (lambda x, t, size: each(x, t).sum() / t.numel(), "divides by all places"),
        (lambda x, t, size: entropy(x, t.clamp_min(0)), "as the character 0"),
        (lambda x, t, size: entropy(x, t % x.shape[-1]), "last character of the vocabulary"),
        (lambda x, t, size: each(x, t).sum(), "this is the sum"),
        (lambda x, t, size: each(x, t).sum() / len(parts(x, t, size)), "number of parts"),
        (lambda x, t, size: each(x[:size], t[:size]).mean(), "the first part only"),
        (lambda x, t, size: each(x, t), "return one number"),
        (lambda x, t, size: None, "nothing yet"),
    ],
)
def test_accumulated_loss_mistakes(answer, diagnosis: str) -> None:
    verdict = check_accumulated_loss(answer)
    assert not verdict
    assert diagnosis in verdict.message


def mixed(train: Tensor, val: Tensor, V: int, share: float = 0.9) -> Tensor | None:
    """Nine parts of val's frequencies and one of train's, if that is better than train's alone."""
    counting, own = rows(pairs(train, V) + 1), pairs(val, V)
    p = torch.where(own.sum(-1, keepdim=True) > 0, share * rows(own) + (1 - share) * counting, counting)
    return p if score(p, val) < score(counting, val) - 1e-6 else None


def test_one_before_right() -> None:
    assert check_one_before(mixed)
    assert check_one_before(
        lambda *case: None if mixed(*case) is None else mixed(*case, 0.5).float().tolist()
    )


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda t, v, V: rows(pairs(t, V) + 1), "the one to beat"),
        (lambda t, v, V: rows(pairs(v, V).T + 1e-9), "are swapped"),
        (lambda t, v, V: torch.full((V, V), 1.0 / V), "the same probability"),
        (lambda t, v, V: rows(pairs(v, V) + 1e-12), "the answer is None"),
        (lambda t, v, V: pairs(v, V) + 1, "their sum is 1"),
        (lambda t, v, V: rows(pairs(v, V) + 0.9) - torch.eye(V), "none is negative"),
        (lambda t, v, V: torch.eye(V), "so its loss is infinite"),
        (lambda t, v, V: torch.ones(V) / V, "shape"),
        (lambda t, v, V: rows(pairs(t, V) + 2), "not below the"),
        (lambda t, v, V: mixed(t, v, V) if V == 2 else None, "but there is an answer"),
        (lambda t, v, V: None, "nothing yet"),
    ],
)
def test_one_before_mistakes(answer, diagnosis: str) -> None:
    verdict = check_one_before(answer)
    assert not verdict
    assert diagnosis in verdict.message


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (check_nats, lambda x, ids: entropy(x, ids) / math.log(2)),
        (check_ngram_loss, lambda t, v, V, n: -predicted(t, t, V, n)),
        (check_accumulated_loss, lambda x, t, size: -each(x, t).sum()),
        (check_one_before, lambda t, v, V: rows(pairs(t, V).T + 1)),
    ],
)
def test_two_mistakes_at_once_are_not_taken_for_one(check, answer) -> None:
    verdict = check(answer)
    assert not verdict
    assert "Likely" not in verdict.message
