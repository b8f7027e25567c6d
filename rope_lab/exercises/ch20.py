"""Checkers of chapter 20: a floor, passes that fusing saves, the gain of a window, and a batch that is large enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from rope_lab.exercises.checker import Draw, Exercise, Inputs

__all__ = ["check_enough_texts", "check_least_time", "check_passes_saved", "check_window_gain"]


def _least_time(n: int, e: int, beta: float, gamma: float) -> float:
    return max(2 * e * n / beta, 3 * n / gamma)


def _time_draws(d: Draw) -> Iterator[Inputs]:
    yield 10, 4, 20.0, 3.0
    yield 10, 2, 4.0, 90.0
    for e, slow in ((4, 1), (2, 1), (8, 0), (4, 0), (2, 0)):  # memory is the limit, or arithmetic
        beta = float(d.whole(3, 9))
        ridge = 3 / (2 * e)
        yield (
            2 * d.whole(40, 400),
            e,
            beta,
            beta * ridge * d.one_of(3, 4, 5) if slow else beta * ridge / d.one_of(3, 4, 5),
        )


def _timed(memory: Callable[[int, int], float], arithmetic: Callable[[int], float]) -> Callable[..., float]:
    return lambda n, e, beta, gamma: max(memory(n, e) / beta, arithmetic(n) / gamma)


def _moved(n: int, e: int) -> float:
    return 2 * e * n


def _done(n: int) -> float:
    return 3 * n


check_least_time = Exercise(
    "20.1",
    "least_time",
    _least_time,
    _time_draws,
    {
        "bytes and operations happen at the same time: take the longer, not the sum": lambda n, e, beta, gamma: (
            _moved(n, e) / beta + _done(n) / gamma
        ),
        "the floor is the longer of the two times, not the shorter": lambda n, e, beta, gamma: min(
            _moved(n, e) / beta, _done(n) / gamma
        ),
        "the numbers are read and written": _timed(lambda n, e: e * n, _done),
        "six operations are for a pair, that is, for two numbers": _timed(_moved, lambda n: 6 * n),
        "a pair takes four products and two sums; the sums are missing": _timed(_moved, lambda n: 2 * n),
        "a pair takes four products and two sums; the products are missing": _timed(_moved, lambda n: n),
        "a number takes e bytes": _timed(lambda n, e: 2 * n, _done),
        "these are bits; e counts bytes": _timed(lambda n, e: 16 * e * n, _done),
        "this is the time of memory only": lambda n, e, beta, gamma: _moved(n, e) / beta,
        "this is the time of arithmetic only": lambda n, e, beta, gamma: _done(n) / gamma,
        "the two speeds are swapped": lambda n, e, beta, gamma: _least_time(n, e, gamma, beta),
        "this is a speed; divide the work by it": lambda n, e, beta, gamma: min(
            beta / _moved(n, e), gamma / _done(n)
        ),
    },
    right="whichever takes longer hides the other.",
)
"""Exercise 20.1: `least_time(n, e, beta, gamma)`: the floor of a rotation of n numbers of e bytes, in seconds."""

Step = list[str]  # names of tensors, the result first


def _eager(steps: list[Step], sizes: dict[str, int]) -> int:
    return sum(sizes[name] for step in steps for name in step)


def _given(steps: list[Step]) -> list[str]:
    """What no step has made, each name once."""
    made = {step[0] for step in steps}
    return list(dict.fromkeys(name for step in steps for name in step[1:] if name not in made))


def _fused(steps: list[Step], sizes: dict[str, int]) -> int:
    return sum(sizes[name] for name in (*_given(steps), steps[-1][0]))


def _passes_saved(steps: list[Step], sizes: dict[str, int]) -> float:
    return _eager(steps, sizes) / _fused(steps, sizes)


def _step_draws(d: Draw) -> Iterator[Inputs]:
    yield [["y", "x", "c"]], {"x": 6, "c": 2, "y": 6}
    yield [["a", "x"], ["y", "a", "c"]], {"x": 6, "c": 2, "a": 6, "y": 3}
    for count in (3, 4, 5, 5):
        known: list[str] = ["x", "c"]
        steps: list[Step] = []
        sizes = {"x": d.whole(11, 40), "c": d.whole(1, 9)}
        for i in range(count):
            result = "y" if i == count - 1 else f"t{i}"
            last = known[-1] if i else "x"
            steps.append([result, last, d.one_of(*known)])
            known.append(result)
            sizes[result] = d.whole(11, 40)
        steps[1].append("c")
        yield steps, sizes


def _saved(
    top: Callable[[list[Step], dict[str, int]], float], bottom: Callable[[list[Step], dict[str, int]], float]
) -> Callable[..., float]:
    return lambda steps, sizes: top(steps, sizes) / bottom(steps, sizes)


def _all_inputs(steps: list[Step], sizes: dict[str, int]) -> float:
    """Given tensors as often as they are read, and the result."""
    first = _given(steps)
    read = [name for step in steps for name in step[1:] if name in first]
    return sum(sizes[name] for name in (*read, steps[-1][0]))


def _every_result(steps: list[Step], sizes: dict[str, int]) -> float:
    return sum(sizes[name] for name in (*_given(steps), *(step[0] for step in steps)))


check_passes_saved = Exercise(
    "20.2",
    "passes_saved",
    _passes_saved,
    _step_draws,
    {
        "this is the inverse: eager over fused": lambda steps, sizes: 1 / _passes_saved(steps, sizes),
        "an eager step reads its arguments too; these are the results only": _saved(
            lambda steps, sizes: sum(sizes[step[0]] for step in steps), _fused
        ),
        "an eager step writes its result too; these are the arguments only": _saved(
            lambda steps, sizes: sum(sizes[name] for step in steps for name in step[1:]), _fused
        ),
        "a fused kernel reads what it is given once, however often it needs it": _saved(_eager, _all_inputs),
        "a fused kernel does not write what is needed only on the way": _saved(_eager, _every_result),
        "a fused kernel writes the last result too": _saved(
            _eager, lambda steps, sizes: sum(sizes[name] for name in _given(steps))
        ),
        "a fused kernel reads what it is given too": _saved(_eager, lambda steps, sizes: sizes[steps[-1][0]]),
        "this is the number of steps; they move different numbers of bytes": lambda steps, sizes: len(steps),
        "these are tensors; weigh each by its bytes": lambda steps, sizes: _passes_saved(
            steps, dict.fromkeys(sizes, 1)
        ),
        "this is the number of bytes in all eager steps; divide it by those of the fused kernel": _eager,
        "in eager mode every step reads and writes memory: a tensor counts each time": _saved(
            lambda steps, sizes: sum(sizes.values()), _fused
        ),
    },
    right="what is made on the way does not go to memory, and what is given is read once.",
)
"""Exercise 20.2: `passes_saved(steps, sizes)`: bytes that the steps move one by one, over those of a fused kernel."""


def _window_gain(N: int, W: int) -> float:
    W = min(W, N)
    return N * (N + 1) / 2 / (N * W - W * (W - 1) / 2)


def _window_draws(d: Draw) -> Iterator[Inputs]:
    yield 4, 2
    yield 5, 1
    yield 3, 7
    yield 6, 6
    for _ in range(3):
        W = d.whole(3, 9)
        yield W * d.whole(2, 5) + d.whole(1, 2), W
    yield d.whole(500, 900), d.whole(20, 60)


check_window_gain = Exercise(
    "20.3",
    "window_gain",
    _window_gain,
    _window_draws,
    {
        "this is the code of the page, uncorrected": lambda N, W: N * N / (N * W),
        "full attention is causal too: a query sees N keys only at the end": lambda N, W: (
            N * N / (N * min(W, N) - min(W, N) * (min(W, N) - 1) / 2)
        ),
        "a causal head over N tokens has N(N + 1)/2 scores, not N(N − 1)/2: a query sees itself": lambda N, W: (
            _window_gain(N, W) * (N - 1) / (N + 1)
        ),
        "the first queries see fewer than W keys": lambda N, W: (N + 1) / 2 / min(W, N),
        "this is the limit for long texts; at the beginning a query sees fewer keys": lambda N, W: (
            N / (2 * W)
        ),
        "no query sees more than N keys: a window longer than the text is full attention": lambda N, W: (
            N * (N + 1) / 2 / (N * W - W * (W - 1) / 2)
        ),
        "this is the inverse: full over local": lambda N, W: 1 / _window_gain(N, W),
        "the window holds the query itself: W keys, not W + 1": lambda N, W: (
            N * (N + 1) / 2 / (N * min(W + 1, N) - min(W + 1, N) * (min(W + 1, N) - 1) / 2)
        ),
        "the window holds the query itself: W keys, not W − 1": lambda N, W: (
            N * (N + 1) / 2 / max(1, N * min(W - 1, N) - min(W - 1, N) * (min(W - 1, N) - 1) / 2)
        ),
    },
    right="the arithmetic allows that much and no more.",
)
"""Exercise 20.3: `window_gain(N, W)`: scores of full causal attention over those of an exact window of W keys."""


def _intensity(P: int, K: int, e: int, B: int) -> float:
    return 2 * B * (P + K) / (e * (P + B * K))


def _enough_texts(P: int, K: int, e: int, ridge: float) -> int | None:
    """2B(P + K) ≥ I*·e·(P + BK), which is B·(2(P + K) − I*·e·K) ≥ I*·e·P."""
    gained = 2 * (P + K) - ridge * e * K
    return max(1, math.ceil(ridge * e * P / gained - 1e-9)) if gained > 0 else None


def _texts_draws(d: Draw) -> Iterator[Inputs]:
    yield 100, 7, 4, 0.3  # one text is enough
    yield 100, 0, 4, 3.1  # nothing is cached
    yield 100, 80, 4, 6.3  # no number is enough
    for share in (0.05, 0.1, 0.2):
        P = d.whole(300, 900)
        K = round(P * share)
        e = d.one_of(2, 4)
        limit = 2 * (P + K) / (e * K)
        yield P, K, e, round(limit * d.one_of(0.31, 0.43, 0.57), 2)
        yield P, K, e, round(limit * d.one_of(1.1, 1.3), 2)


def _too_many_or_few(count: Tensor, P: int, K: int, e: int, ridge: float) -> str:
    B = float(count)
    if round(B) != B or B < 1:
        return f"the number of texts is a positive integer, got {B:g}."
    if _intensity(P, K, e, int(B)) < ridge * (1 - 1e-9):
        return f"with {B:g} texts there are {_intensity(P, K, e, int(B)):.4g} operations per byte, too few."
    if B > 1 and _intensity(P, K, e, int(B) - 1) >= ridge * (1 + 1e-9):
        return f"fewer than {B:g} texts are enough."
    return ""


def _texts(found: Callable[[int, int, int, float], float | None]) -> Callable[..., int | None]:
    def answer(P: int, K: int, e: int, ridge: float) -> int | None:
        count = found(P, K, e, ridge)
        return None if count is None or count <= 0 else max(1, math.ceil(count - 1e-9))

    return answer


check_enough_texts = Exercise(
    "20.4",
    "enough_texts",
    _enough_texts,
    _texts_draws,
    {
        "the caches do not count: every text has to read its own": _texts(
            lambda P, K, e, ridge: ridge * e / 2
        ),
        "the cache is read once for each text, not once for all": _texts(
            lambda P, K, e, ridge: (
                ridge * e / 2
                if not K
                else ridge * e * (P + K) / (2 * (P + K)) + (P > 0) * (ridge * e * K / (2 * (P + K)))
            )
        ),
        "a number of the cache takes part in a product and a sum as well": _texts(
            lambda P, K, e, ridge: ridge * e * P / d if (d := 2 * P - ridge * e * K) > 0 else None
        ),
        "a product and a sum are two operations": _texts(
            lambda P, K, e, ridge: ridge * e * P / d if (d := P + K - ridge * e * K) > 0 else None
        ),
        "each number takes e bytes": lambda P, K, e, ridge: _enough_texts(P, K, 1, ridge),
        "round up: with the number below, memory still takes longer": lambda P, K, e, ridge: (
            None if (count := _enough_texts(P, K, e, ridge)) is None else max(count - 1, 1)
        ),
        "this is one more than it has to be": lambda P, K, e, ridge: (
            None if (count := _enough_texts(P, K, e, ridge)) is None else count + 1
        ),
        "with long caches there is no such number: the intensity has a limit": lambda P, K, e, ridge: (
            _enough_texts(P, K, e, ridge) or 1
        ),
        "at least one text is decoded": lambda P, K, e, ridge: (
            None if (count := _enough_texts(P, K, e, ridge)) is None else (0 if count == 1 else count)
        ),
    },
    fault=_too_many_or_few,
    right="the claim is refuted where 2(P + K) ≤ I*·e·K: every further text brings its own cache to read.",
)
"""Exercise 20.4: `enough_texts(P, K, e, ridge)`: the fewest texts for which arithmetic takes longer, or None."""
