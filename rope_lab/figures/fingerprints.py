"""The moving figure of chapter 18: scores of one repeated token under a bug, and what a shift does to them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rope_lab.figures.moving import choice, moving, slider

if TYPE_CHECKING:
    from IPython.display import HTML

COUNT, LAST, DIM = 12, 1000, 8  # tokens; the furthest first position; coordinates of the head
BUGS = (
    "none",
    "tables of the other layout",
    "queries turn clockwise",
    "positions in bfloat16",
    "base 100 for 10,000",
)
_CELL = 20


def fingerprint() -> HTML:
    """Scores of twelve equal queries and keys; the reader chooses the bug and where the text begins."""
    return moving(
        "rope-fingerprint",
        _drawing(),
        [choice("bug", "bug", BUGS), slider("first", "first position", 0, LAST)],
        said("none", 0),
        _SCRIPT.replace("__N__", str(COUNT)),
        box=f"-34 -8 {COUNT * _CELL + 42} {COUNT * _CELL + 42}",
        label="A square of scores: one row per query, one column per key.",
        style=_STYLE,
    )


def score(bug: str, m: int, n: int) -> float:
    """The score of q = k = (1, …, 1) at positions m and n, interleaved, divided by the number of coordinates."""
    (a, b), (c, d) = _turned(bug, m, query=True), _turned(bug, n, query=False)
    return sum(x * y for x, y in zip([*a, *b], [*c, *d], strict=True)) / DIM


def _turned(bug: str, m: int, *, query: bool) -> tuple[list[float], list[float]]:
    """First and second coordinates of all pairs."""
    thetas = [(100.0 if bug == BUGS[4] else 10_000.0) ** (-2 * i / DIM) for i in range(DIM // 2)]
    place = float(_bfloat16(m) if bug == BUGS[3] else m)
    if bug == BUGS[2] and query:
        place = -place
    table = [place * theta for theta in thetas]
    first, second = table, table
    if bug == BUGS[1]:  # coordinate j takes entry j of the table written twice, one after the other
        twice = [*table, *table]
        first, second = twice[0::2], twice[1::2]
    return [math.cos(a) - math.sin(a) for a in first], [math.cos(a) + math.sin(a) for a in second]


def _bfloat16(m: int) -> int:
    """A whole number with eight significant bits; halfway cases go to the even neighbour, as `round` does."""
    step: int = 2 ** max(0, m.bit_length() - 8)
    return round(m / step) * step


def said(bug: str, first: int) -> list[str]:
    """The sentences below the controls; the script writes the same ones."""
    here, start, right = (
        [[score(name, at + m, at + n) for n in range(COUNT)] for m in range(COUNT)]
        for name, at in ((bug, first), (bug, 0), ("none", first))
    )
    diagonals = [
        [here[m][m + d] for m in range(COUNT) if 0 <= m + d < COUNT] for d in range(1 - COUNT, COUNT)
    ]
    uneven = max(max(entries) - min(entries) for entries in diagonals)
    return [
        f"Along a diagonal the scores differ by up to {uneven:.2f}. The shift has changed them by up to "
        f"{_apart(here, start):.2f}.",
        f"Compared with the correct scores they are off by up to {_apart(here, right):.2f}.",
    ]


def _apart(left: list[list[float]], right: list[list[float]]) -> float:
    return max(abs(left[m][n] - right[m][n]) for m in range(COUNT) for n in range(COUNT))


def _drawing() -> str:
    cells = ""
    for m in range(COUNT):
        for n in range(COUNT):
            value = score("none", m, n)
            cells += (
                f'<rect x="{n * _CELL}" y="{m * _CELL}" width="{_CELL - 2}" height="{_CELL - 2}" '
                f'data-at="{m} {n}" fill="var(--{"q" if value > 0 else "k"})" '
                f'fill-opacity="{min(1, abs(value)):.2f}"/>'
            )
    middle, end = COUNT * _CELL / 2, COUNT * _CELL + 16
    words = f'<text x="{middle}" y="{end}">key</text>'
    words += f'<text transform="translate(-18 {middle}) rotate(-90)">query</text>'
    return cells + words


_STYLE = """.rope-fingerprint text{fill:var(--ink)}
.rope-fingerprint p{min-height:4.5em}
.rope-fingerprint p:last-child{min-height:3em}
"""

_SCRIPT = """  var N = __N__, notes = root.querySelectorAll("p"), svg = root.querySelector("svg");
  function rounded(m) {
    var step = m < 256 ? 1 : Math.pow(2, Math.floor(Math.log2(m)) - 7), k = m / step, r = Math.floor(k), rest = k - r;
    return (r + (rest > 0.5 || (rest === 0.5 && r % 2 === 1) ? 1 : 0)) * step;
  }
  function turned(bug, m, query) {
    var place = bug === 3 ? rounded(m) : bug === 2 && query ? -m : m, table = [], out = [];
    for (var i = 0; i < 4; i++) { table.push(place * Math.pow(bug === 4 ? 100 : 10000, -i / 4)); }
    for (i = 0; i < 4; i++) {
      var a = bug === 1 ? table[2 * i % 4] : table[i], b = bug === 1 ? table[(2 * i + 1) % 4] : table[i];
      out.push(Math.cos(a) - Math.sin(a), Math.cos(b) + Math.sin(b));
    }
    return out;
  }
  function scores(bug, first) {
    var q = [], k = [], map = [];
    for (var m = 0; m < N; m++) { q.push(turned(bug, first + m, true)); k.push(turned(bug, first + m, false)); }
    for (m = 0; m < N; m++) {
      for (var n = 0; n < N; n++) {
        map.push(q[m].reduce(function (sum, x, j) { return sum + x * k[n][j]; }, 0) / 8);
      }
    }
    return map;
  }
  function apart(left, right) {
    return Math.max.apply(null, left.map(function (x, j) { return Math.abs(x - right[j]); }));
  }
  function draw() {
    var first = +input("first").value, bug = input("bug").selectedIndex, here = scores(bug, first), low = {}, high = {};
    input("first").parentNode.querySelector("b").textContent = ": " + first;
    root.querySelectorAll("rect").forEach(function (cell, j) {
      cell.setAttribute("fill", here[j] > 0 ? "var(--q)" : "var(--k)");
      cell.setAttribute("fill-opacity", Math.min(1, Math.abs(here[j])).toFixed(2));
    });
    here.forEach(function (x, j) {
      var d = Math.floor(j / N) - j % N;
      low[d] = d in low ? Math.min(low[d], x) : x;
      high[d] = d in high ? Math.max(high[d], x) : x;
    });
    var uneven = Math.max.apply(null, Object.keys(low).map(function (d) { return high[d] - low[d]; }));
    notes[0].textContent = "Along a diagonal the scores differ by up to " + uneven.toFixed(2) +
      ". The shift has changed them by up to " + apart(here, scores(bug, 0)).toFixed(2) + ".";
    notes[1].textContent = "Compared with the correct scores they are off by up to " +
      apart(here, scores(0, first)).toFixed(2) + ".";
    svg.setAttribute("aria-label", "A square of scores: one row per query, one column per key. " +
      notes[0].textContent + " " + notes[1].textContent);
  }
"""
