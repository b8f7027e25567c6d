"""Checkers of chapter 6: the curve of the bound, a key that peaks where you say, the reach of a base."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rope_lab.encodings import angles, convert_layout, frequencies, rotate
from rope_lab.exercises.feedback import Feedback, compare


def check_paper_curve(paper_curve: Callable[[Tensor, Tensor], object]) -> Feedback:
    """Exercise 6.1: `paper_curve(s, freqs)` is the mean of |S_1|, …, |S_{D/2}| at each distance, shape (S,)."""
    s, freqs = torch.arange(12, dtype=torch.float64) * 7, frequencies(16)
    arrows = torch.polar(torch.ones(12, 8, dtype=torch.float64), s[:, None] * freqs)
    sums = arrows.cumsum(-1)
    right = sums.abs().mean(-1)
    mistakes = {
        "this is |S_{D/2}| alone; take the mean over all D/2 partial sums": sums[:, -1].abs(),
        "these are the sums over j; the mean divides by D/2": sums.abs().sum(-1),
        "the absolute value comes before the mean: mean of |S_j|, not |mean of S_j|": sums.mean(-1).abs(),
        "you kept the real parts only; |S_j| is the length of a complex number": sums.real.abs().mean(-1),
        "S_0 = 0 is not among the D/2 sums": sums.abs().sum(-1) / 9,
        "this is one curve a sum, |S_j|; take their mean": sums.abs(),
        "these are the cosines alone; an arrow has a sine too": arrows.real.mean(-1),
    }
    return compare("6.1", paper_curve(s, freqs), right, mistakes, right="that is the curve of the paper.")


def check_key_for(key_for: Callable[[Tensor, int, Tensor], object]) -> Feedback:
    """Exercise 6.2: `key_for(q, r, freqs)` is the key that fits q best r tokens behind it, shape (D,)."""
    r, freqs = 7, frequencies(12)
    q = torch.randn(12, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def turned(by: float) -> Tensor:
        return rotate(q[None], angles(torch.tensor([by]), freqs, dtype=torch.float64))[0]

    in_half = rotate(q[None], angles(torch.tensor([r]), freqs, dtype=torch.float64), "half")[0]
    mistakes = {
        "this key peaks r tokens ahead of the query, at s = −r; turn the other way": turned(-r),
        "this is q, which peaks at distance 0": q,
        "this is q with its sign changed, which has its lowest score at distance 0": -q,
        "these are interleaved angles on a half layout": in_half,
        "the values are right, in the order of the half layout": convert_layout(
            turned(r), "interleaved", "half"
        ),
        "turned twice as far: the query is turned by its own position already": turned(2 * r),
        "the key has length 1; give it the length of q": turned(r) / q.norm(),
    }
    right = f"at distance {r} nothing of that length scores higher."
    return compare("6.2", key_for(q, r, freqs), turned(r), mistakes, right=right)


def check_reach(reach: Callable[[int, float], object]) -> Feedback:
    """Exercise 6.3: `reach(dim, base)` is the first distance with a negative sum of cosines."""
    dim, base = 64, 1000.0

    def first(curve: Callable[[Tensor], Tensor]) -> int:
        return int((curve(torch.arange(5000, dtype=torch.float64)[:, None]) < 0).int().argmax())

    def cosines(freqs: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda s: (s * freqs).cos().sum(-1)

    freqs = frequencies(dim, base)
    right = first(cosines(freqs))
    answer = reach(dim, base)
    if isinstance(answer, bool) or not isinstance(answer, (int, Tensor, type(None))):
        return Feedback("6.3", False, f"return an integer, got {type(answer).__name__}.")
    mistakes = {
        "this is the last distance before the loss": right - 1,
        "this is one too far; distances count from 0": right + 1,
        "the exponent runs too slowly: θ_i = base^(−2i/D), not base^(−i/D)": first(cosines(freqs.sqrt())),
        "these are sines; the arrows start at cos 0 = 1": first(lambda s: (s * freqs).sin().sum(-1)),
        "this is the limit of wide heads; the head has dim/2 pairs": round(0.6165 * base),
        "this is the sum's first low below 1; the loss begins below 0": first(
            lambda s: cosines(freqs)(s) - 1
        ),
    }
    given = None if answer is None else torch.as_tensor(answer)
    as_tensors = {why: torch.tensor(wrong) for why, wrong in mistakes.items() if wrong != right}
    done = "there the rotation turns a match against itself."
    return compare("6.3", given, torch.tensor(right), as_tensors, right=done)
