"""The cases of the golden vectors, and the two files that hold them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from rope_lab.conformance.golden import exact

VERSION = 1
CHANGES = {"1": "the first version"}
YARN = {"type": "yarn", "factor": 8, "original_length": 4096, "beta_fast": 32, "beta_slow": 1}
LLAMA3 = {"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_length": 8192}
XPOS = {"positions": [0, 1, 2, 100], "scale_base": 512}
FAR_AWAY = {"strict": True}
PAIR = (
    "pair i turns by the angle φ_i: a becomes factor · (a cos φ_i − b sin φ_i), b becomes factor · (b cos φ_i + "
    "a sin φ_i), with "
)
FIELDS = {
    "layout": f"{PAIR}a, b = x[2i], x[2i+1] if interleaved, x[i], x[i+R/2] if half; R = rotary_dim, i from 0",
    "dim": "D, coordinates of x; those from rotary_dim on come back unchanged",
    "positions": "(N,), one per token; (B, N), one per row and token, if x is (B, N, D); (N, A), one per axis, if "
    "frequencies are (A, R/2)",
    "frequencies": "θ_i after the scaling, radians per position, (R/2,): φ_i = position · θ_i. Or (A, R/2): φ_i is the "
    "sum over axes of position · frequency, and a pair has 0 on the axes that do not turn it",
    "base": "θ_i = base^(−2i/R) before a scaling; for axial R is the coordinates of one axis",
    "factor": "the attention factor, on queries and keys alike",
    "x": "multiples of 1/8 in [−2, 2), the same in every number type; one head",
    "expected": "rounded to float64 from 50 digits, shape of x",
    "tolerance": "largest absolute difference allowed of an entry, by the number type in which the rotation computes",
    "quantity": "output; or gradient: x is ∂L/∂output, expected ∂L/∂input, the rotation by −φ_i",
    "offset": "positions are offset, offset + 1, …: for libraries that take the first position only",
    "side": "xPos: a and b are also multiplied by ζ_i^(position/scale_base) for a query, ζ_i^(−position/scale_base) "
    "for a key, ζ_i = (2i/R + 0.4)/1.4",
    "scaling linear": "θ_i / factor",
    "scaling ntk": "base becomes base · factor^(R/(R−2))",
    "scaling p-rope": "θ_i = 0 for i ≥ floor(p · R/2)",
    "scaling yarn": "θ_i (1 − r_i) + r_i θ_i / factor, r_i = (i − low)/(high − low) within [0, 1], low = max(floor("
    "d(beta_fast)), 0), high = min(ceil(d(beta_slow)), R − 1), d(β) = R ln(original_length/(2πβ)) / (2 ln base); "
    "attention factor 0.1 ln(factor) + 1",
    "scaling llama3": "θ_i k_i + (1 − k_i) θ_i / factor, k_i = (original_length θ_i/(2π) − low_freq_factor)/("
    "high_freq_factor − low_freq_factor) within [0, 1]",
}
# name, what it asks for, and what differs from 8 coordinates at positions 0, 1, 2, 3, 10 and 100 with base 10,000
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("zero", "position 0 changes nothing", {"positions": [0], **FAR_AWAY}),
    ("plain", "RoPE", {}),
    ("offset", "a text that begins at position 300", {"positions": [300, 301, 302], "offset": 300}),
    ("million", "positions from 1,000,000 on", {"positions": [10**6, 10**6 + 1, 10**6 + 7], **FAR_AWAY}),
    ("ten-million", "positions from 10,000,000 on", {"positions": [10**7, 10**7 + 1, 10**7 + 7], **FAR_AWAY}),
    ("real", "real positions", {"positions": [0.5, 2.25, 17.125, 99.75]}),
    ("negative", "negative positions", {"positions": [-1, -2, -100, -0.5]}),
    (
        "coarse",
        "positions that bfloat16 and float16 cannot hold",
        {"positions": [257, 511, 1001, 2049, 4097]},
    ),
    ("rows", "positions per row of a batch", {"positions": [[0, 1, 2], [0, 0, 7]]}),
    ("gradient", "x is the gradient after the rotation, expected the one before", {"quantity": "gradient"}),
    ("partial", "the first 4 of 8 coordinates turn", {"rotary_dim": 4}),
    ("linear", "position interpolation", {"scaling": {"type": "linear", "factor": 4}}),
    ("ntk", "NTK-aware scaling", {"scaling": {"type": "ntk", "factor": 8}}),
    ("yarn", "YaRN with its attention factor", {"dim": 16, "scaling": YARN}),
    ("llama3", "the scaling of Llama 3.1", {"dim": 16, "base": 500_000, "scaling": LLAMA3}),
    ("p-rope", "only the fastest half of the pairs turns", {"scaling": {"type": "p-rope", "p": 0.5}}),
    ("xpos-query", "xPos, queries, scaled about position 0", {**XPOS, "side": "query"}),
    ("xpos-key", "xPos, keys, scaled about position 0", {**XPOS, "side": "key"}),
    (
        "axial",
        "two axes, (y, x), each with half of the pairs and the frequencies of 4 coordinates",
        {"base": 100, "positions": [[0, 0], [0, 3], [2, 0], [5, 7]], "owners": [0, 0, 1, 1], "own": True},
    ),
    (
        "m-rope",
        "three axes, (t, h, w), with 2, 1 and 1 pairs of one spectrum",
        {"positions": [[0, 0, 0], [4, 4, 4], [4, 5, 6], [9, 9, 9]], "owners": [0, 0, 1, 2]},
    ),
)


def build() -> dict[str, Any]:
    """All cases in both layouts, as they are in the JSON file."""
    made = [
        _case(name, what, layout, **given)
        for name, what, given in CASES
        for layout in ("interleaved", "half")
    ]
    return {
        "format": "golden vectors of rotary position embeddings",
        "version": VERSION,
        "changes": CHANGES,
        "fields": FIELDS,
        "cases": made,
    }


def _case(
    name: str,
    what: str,
    layout: str,
    *,
    dim: int = 8,
    rotary_dim: int | None = None,
    base: int = 10_000,
    positions: list[Any] | None = None,
    scaling: dict[str, Any] | None = None,
    owners: list[int] | None = None,
    own: bool = False,
    side: str | None = None,
    scale_base: int | None = None,
    offset: int | None = None,
    quantity: str = "output",
    strict: bool = False,
) -> dict[str, Any]:
    positions = [0, 1, 2, 3, 10, 100] if positions is None else positions
    turning, axes = rotary_dim or dim, 1 if owners is None else max(owners) + 1
    theta, factor = exact.frequencies(turning // axes if own else turning, base, scaling)
    table = [theta] if owners is None else exact.spread(theta * axes if own else theta, owners, axes)
    rows = positions if owners is None and isinstance(positions[0], list) else [positions]
    numbers = _numbers(sum(map(ord, name)))
    x = [[[next(numbers) for _ in range(dim)] for _ in row] for row in rows]
    expected = [
        [
            exact.turn(
                vector,
                m if isinstance(m, list) else [m],
                table,
                half=layout == "half",
                factor=factor,
                inverse=quantity == "gradient",
                fade=exact.fading(turning // 2, m, scale_base, side) if side and scale_base else None,
            )
            for vector, m in zip(vectors, row, strict=True)
        ]
        for vectors, row in zip(x, rows, strict=True)
    ]
    freqs = [[float(value) for value in row] for row in table]
    single = len(rows) == 1
    optional = {"side": side, "scale_base": scale_base, "offset": offset}
    return {
        "name": f"{name}/{layout}",
        "what": what,
        "quantity": quantity,
        "layout": layout,
        "dim": dim,
        "rotary_dim": turning,
        "base": base,
        "scaling": scaling,
        **{key: value for key, value in optional.items() if value is not None},
        "factor": float(factor),
        "frequencies": freqs if axes > 1 else freqs[0],
        "positions": positions,
        "x": x[0] if single else x,
        "expected": expected[0] if single else expected,
        "tolerance": _tolerance(positions, strict),
    }


def _numbers(seed: int) -> Iterator[float]:
    """Multiples of 1/8 in [−2, 2), which every number type holds, by a congruential generator."""
    state = seed
    while True:
        state = (1_664_525 * state + 1_013_904_223) % 2**32
        yield ((state >> 24) % 32 - 16) / 8


def _tolerance(positions: list[Any], strict: bool) -> dict[str, float]:
    """What rounding explains; that of float32 angles too, except where a case is strict."""
    flat = [value for row in positions for value in (row if isinstance(row, list) else [row])]
    furthest = max(abs(value) for value in flat)
    return {
        "float64": float(f"{1e-12 + 1e-15 * furthest:.1e}"),
        "float32": 2e-6 if strict else float(f"{2e-6 + 4e-7 * furthest:.1e}"),
        "bfloat16": 0.04,
        "float16": 0.005,
    }


def as_json(golden: dict[str, Any]) -> bytes:
    """UTF-8, the head on the first line and then one case per line."""
    head = {key: value for key, value in golden.items() if key != "cases"}
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in golden["cases"])
    return (json.dumps(head, ensure_ascii=False)[:-1] + f', "cases": [\n{lines}\n]}}\n').encode()


def as_safetensors(golden: dict[str, Any]) -> bytes:
    """The arrays as float64 under names such as plain/half/x; all else as JSON in the metadata."""
    tensors: dict[str, Any] = {}
    data, plain = b"", []
    for case in golden["cases"]:
        plain.append({key: value for key, value in case.items() if not isinstance(value, list)})
        for key, value in case.items():
            if isinstance(value, list):
                shape, flat = _flat(value)
                packed = struct.pack(f"<{len(flat)}d", *flat)
                offsets = [len(data), len(data) + len(packed)]
                tensors[f"{case['name']}/{key}"] = {"dtype": "F64", "shape": shape, "data_offsets": offsets}
                data += packed
    about = {key: value for key, value in golden.items() if key != "cases"}
    metadata = {"about": json.dumps(about), "cases": json.dumps(plain)}
    header = json.dumps({"__metadata__": metadata, **tensors}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def _flat(value: list[Any]) -> tuple[list[int], list[float]]:
    shape: list[int] = []
    while isinstance(value[0], list):
        shape.append(len(value))
        value = [one for row in value for one in row]
    return _shape(shape, len(value)), [float(one) for one in value]


def _shape(outer: list[int], total: int) -> list[int]:
    """Sizes of the axes from the number of rows on each level: 2, 6, 48 values are (2, 3, 8)."""
    levels = [*outer, total]
    return [levels[0], *(later // earlier for earlier, later in pairwise(levels))]


def write(folder: str | Path) -> list[Path]:
    """Write rope-1.json and rope-1.safetensors, the same bytes at every call."""
    golden, folder = build(), Path(folder)
    written = [folder / f"rope-{VERSION}.{kind}" for kind in ("json", "safetensors")]
    written[0].write_bytes(as_json(golden))
    written[1].write_bytes(as_safetensors(golden))
    return written
