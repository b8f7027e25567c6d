"""What the moving roofline of chapter 20 shows: five computations, counted for 1, 2, 4, … tokens or texts."""

from __future__ import annotations

from collections.abc import Callable

from rope_lab.bench.counts import Work, attention, rotation, scores

HEADS, DIM, WINDOW, NUMBER = 8, 64, 256, 4  # of the attention, and bytes of a float32
WEIGHTS, LAYERS, WIDTH = 6_600_000_000, 32, 4096  # of a model as large as Llama 2 7B
STEPS = 14  # 1 to 8,192


def _attention(length: int, window: int | None = None) -> Work:
    return attention(HEADS, length, DIM, scores(length, window), NUMBER)


def _decoding(past: int, batch: int) -> Work:
    cached = 2 * LAYERS * WIDTH * past
    return Work(NUMBER * (WEIGHTS + batch * cached), 2 * batch * (WEIGHTS + cached))


_KINDS: dict[str, tuple[str, Callable[[int], Work]]] = {
    "full attention": ("tokens", _attention),
    "a window of 256": ("tokens", lambda n: _attention(n, WINDOW)),
    "a rotation": ("tokens", lambda n: rotation((HEADS, n, DIM), NUMBER)),
    "decoding, 16 tokens in the cache": ("texts", lambda n: _decoding(16, n)),
    "decoding, 4,096 tokens in the cache": ("texts", lambda n: _decoding(4096, n)),
}
UNITS = {name: unit for name, (unit, _) in _KINDS.items()}


def examples() -> dict[str, list[tuple[int, int]]]:
    """Bytes and operations of each computation, for 2^0, 2^1, … of its unit."""
    return {
        name: [(work.bytes, work.flops) for work in (count(2**step) for step in range(STEPS))]
        for name, (_, count) in _KINDS.items()
    }
