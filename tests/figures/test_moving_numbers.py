"""Every number that a moving figure shows, run by node, is the one that rope_lab computes.

A figure's module exports `numbers(values)`, which its drawing and its sentences are made from. Here each figure is
listed with values of its controls and with the same numbers by Python. A figure that is not listed fails the last test.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from traitlets import HasTraits

import rope_lab.figures
from rope_lab import rotate
from rope_lab.bench.examples import STEPS as ROOF_STEPS
from rope_lab.bench.examples import UNITS, examples
from rope_lab.figures import (
    broadcast,
    counting,
    crossing,
    fingerprints,
    hearing,
    moving,
    pieces,
    plane,
    roofline,
    roots,
    rounding,
    sections,
    shape,
    summing,
    turning,
    wavelengths,
)
from rope_lab.figures.moving import Moving

NODE = shutil.which("node")
SCORES = [0, 1, 2, 4, 8, 16, 32], [5.0, 7.5, 6.0, 2.0, 1.0, -3.0, 0.5], [1.0, 0.3, 0.1, 0.03]
ROOF = 23.4e9, 87.6e9  # bytes and operations per second

RUN = """
let given = "";
process.stdin.on("data", (part) => { given += part; }).on("end", async () => {
  const found = [];
  for (const {module, values} of JSON.parse(given)) {
    const made = await import("data:text/javascript;base64," + Buffer.from(module).toString("base64"));
    if (typeof made.default.render !== "function") throw new Error("no render");
    found.push(values.map(made.numbers));
  }
  console.log(JSON.stringify(found, (_, x) => Object.is(x, NaN) ? "nan" : x === Infinity ? "inf" : x));
});
"""


class Case(NamedTuple):
    """A figure, values for its controls by their roles, and Python's numbers for such values."""

    figure: Moving
    controls: Mapping[str, Any]
    expected: Callable[..., Mapping[str, float]]


def hands(m: int, n: int, t: int) -> Mapping[str, float]:
    """The score of the two hands with the rotation of rope_lab."""
    turns = torch.deg2rad(torch.tensor([float(m + t), n + t], dtype=torch.float64) * turning.STEP)[:, None]
    both = torch.view_as_real(torch.tensor([turning.QUERY, turning.KEY], dtype=torch.complex128))
    q, k = rotate(both, turns)
    assert turning.numbers(m, n, t)["score"] == pytest.approx(float(q @ k) / 1e4, abs=1e-9)
    return turning.numbers(m, n, t)


CASES = {
    "turning": Case(turning.turning(), {"m": (0, 3, 12), "n": (0, 1, 7, 12), "t": (0, 5, 12)}, hands),
    "shape": Case(
        shape.score_shape(*SCORES),
        {"d": range(shape.SHIFTS + 1), "p": (1, 2, 3, 4)},
        lambda d, p: shape.numbers(*SCORES, d, p),
    ),
    "roots": Case(roots.roots(), {"fade": (0, 1, 10), "turn": (0, 3, 20), "shear": (0, 1, 3)}, roots.numbers),
    "pieces": Case(
        pieces.pieces(),
        {"cached": range(pieces.COUNT), "rule": pieces.RULES},
        lambda cached, rule: pieces.numbers(cached, again=rule == pieces.RULES[1]),
    ),
    "plane": Case(
        plane.plane(),
        {"f": plane.NAMES, "p": (2, 8, 16, 32), "d": (1, 4, 12)},
        lambda f, p, d: plane.numbers(f, p, d),
    ),
    "rounding": Case(
        rounding.rounding(),
        {"type": list(rounding.TYPES), "m": range(len(rounding.POSITIONS)), "i": (0, 1, 7, 40, 63)},
        lambda type, m, i: rounding.numbers(rounding.POSITIONS[m], i, type),
    ),
    "wavelengths": Case(
        wavelengths.wavelengths(),
        {"scaling": wavelengths.NAMES, "n": (0, 3, 12, wavelengths.STEPS)},
        lambda scaling, n: wavelengths.numbers(scaling, n),
    ),
    "fingerprints": Case(
        fingerprints.fingerprint(),
        {"bug": fingerprints.BUGS, "first": (0, 255, 300, 1000)},
        fingerprints.numbers,
    ),
    "broadcast": Case(
        broadcast.broadcast(),
        {"batch": range(1, 7), "tokens": range(1, 7), "index": broadcast.INDICES},
        broadcast.numbers,
    ),
    "counting": Case(
        counting.digits_to_hands(),
        {"m": range(counting.LAST + 1), "stage": range(3)},
        counting.numbers,
    ),
    "crossing": Case(
        crossing.crossing(),
        {"moved": range(crossing.STEPS + 1), "d": range(crossing.FARTHEST + 1)},
        lambda moved, d: crossing.numbers(moved, d),
    ),
    "roofline": Case(
        roofline.roofline(*ROOF, examples(), UNITS),
        {"kind": list(UNITS), "n": range(ROOF_STEPS)},
        lambda kind, n: roofline.numbers(*ROOF, examples()[kind][n]),
    ),
    "summing": Case(
        summing.summing(),
        {
            "content": summing.CONTENT,
            "s": range(0, len(summing.DISTANCES), 3),
            "b": range(len(summing.BASES)),
            "d": range(len(summing.DIMS)),
        },
        lambda content, s, b, d: summing.numbers(b, d, content, s),
    ),
    "hearing": Case(
        hearing.hearing(),
        {"rule": hearing.RULES, "w": (1, 2, 5, 8), "depth": (1, 3, 6), "m": (0, 1, 14, 31)},
        lambda rule, w, depth, m: hearing.numbers(rule, w, depth, m),
    ),
    "sections": Case(
        sections.sections(),
        {"kind": sections.KINDS, "t": (0, 4, 31), "h": (0, 31), "w": (0, 7, 31)},
        lambda kind, t, h, w: sections.numbers(kind, t, h, w),
    ),
}


def grid(case: Case) -> list[dict[str, Any]]:
    return [dict(zip(case.controls, row, strict=True)) for row in product(*case.controls.values())]


@pytest.fixture(scope="module")
def by_node() -> dict[str, list[dict[str, float]]]:
    if NODE is None:
        pytest.skip("node is not installed")
    asked = [{"module": case.figure.module, "values": grid(case)} for case in CASES.values()]
    ran = subprocess.run([NODE, "-e", RUN], input=json.dumps(asked), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return dict(zip(CASES, json.loads(ran.stdout), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_of_the_page_are_those_of_the_package(
    name: str, by_node: dict[str, list[dict[str, float]]]
) -> None:
    for values, found in zip(grid(CASES[name]), by_node[name], strict=True):
        expected = CASES[name].expected(**values)
        assert found.keys() == expected.keys()
        for key, number in expected.items():
            assert float(found[key]) == pytest.approx(number, rel=1e-6, abs=1e-6, nan_ok=True), (values, key)


def test_a_digit_is_one_where_its_hand_points_down() -> None:
    for m in range(counting.LAST + 1):
        at = counting.numbers(m, 2)
        assert [at[f"sine {j}"] < 0 for j in range(6)] == [bool(m >> j & 1) for j in range(6)]
        turns = [(counting.numbers(m + 1, 2)[f"angle {j}"] - at[f"angle {j}"]) % 360 for j in range(6)]
        assert turns == pytest.approx([180, 90, 45, 22.5, 11.25, 5.625])
        assert at["slow step"] <= 0.0982
    assert counting.numbers(31, 0)["changed"] == 6


def test_the_half_rotation_needs_reordered_coordinates() -> None:
    for distance in range(crossing.FARTHEST + 1):
        at = crossing.numbers(crossing.STEPS, distance)
        assert at["reordered"] == pytest.approx(at["interleaved"])
        assert (abs(at["as it was"] - at["interleaved"]) > 0.1) == (distance > 0)
        assert at["crossing"] == 6


@pytest.mark.parametrize("name", CASES)
def test_a_figure_is_small_fully_filled_in_and_needs_no_network(name: str) -> None:
    figure = CASES[name].figure
    assert len(figure.data.encode()) <= 30_000
    assert "__" not in figure.data  # every placeholder was filled
    assert "http" not in figure.data
    assert "src=" not in figure.data
    assert set(figure.state) == {*CASES[name].controls, "still"}
    assert figure.still.count("<label>") == len(CASES[name].controls)
    assert 'role="img" aria-label="' in figure.still
    assert 'aria-live="polite"' in figure.still
    assert "<p></p>" not in figure.still  # it speaks without JavaScript
    assert "@media print{.rope-moving label{display:none}}" in figure.still


def test_the_widget_of_the_documentation_is_made_of_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for anywidget, which is not among what the book needs."""
    stand_in = ModuleType("anywidget")
    vars(stand_in)["AnyWidget"] = HasTraits
    monkeypatch.setitem(sys.modules, "anywidget", stand_in)
    code = [line[4:] for line in (moving.__doc__ or "").splitlines() if line.startswith("    ") or not line]
    given: dict[str, Any] = {"turning": turning.turning}
    exec("\n".join(code), given)
    clock = given["clock"]
    assert clock._esm == turning.turning().module
    assert {name: getattr(clock, name) for name in clock.trait_names(sync=True)} == turning.turning().state


def test_every_moving_figure_is_listed_here() -> None:
    files = Path(rope_lab.figures.__file__).parent.glob("*.py")
    found = {file.stem for file in files if "return moving(" in file.read_text(encoding="utf-8")}
    assert found == set(CASES)
