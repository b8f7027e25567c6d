"""The moving figure of chapter 18: scores of one repeated token under a bug, and what a shift does to them."""

from __future__ import annotations

import json
import math

from rope_lab.figures.moving import Moving, choice, moving, slider

COUNT, LAST, DIM = 12, 1000, 8  # tokens; the furthest first position; coordinates of the head
BUGS = (
    "none",
    "tables of the other layout",
    "queries turn clockwise",
    "positions in bfloat16",
    "base 100 for 10,000",
)
_CELL = 20


def fingerprint() -> Moving:
    """Scores of twelve equal queries and keys; the reader chooses the bug and where the text begins."""
    return moving(
        "rope-fingerprint",
        _drawing(),
        [choice("bug", "bug", BUGS, start=1), slider("first", "first position", 0, LAST)],
        said(BUGS[1], 0),
        _SCRIPT.replace("__N__", str(COUNT)).replace("__BUGS__", json.dumps(BUGS)),
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


def numbers(bug: str, first: int) -> dict[str, float]:
    """What the figure shows: how far the scores differ along a diagonal, after the shift, and from the correct ones."""
    here, start, right = (
        [[score(name, at + m, at + n) for n in range(COUNT)] for m in range(COUNT)]
        for name, at in ((bug, first), (bug, 0), ("none", first))
    )
    diagonals = [
        [here[m][m + d] for m in range(COUNT) if 0 <= m + d < COUNT] for d in range(1 - COUNT, COUNT)
    ]
    uneven = max(max(entries) - min(entries) for entries in diagonals)
    return {"uneven": uneven, "shifted": _apart(here, start), "wrong": _apart(here, right)}


def said(bug: str, first: int) -> list[str]:
    """The sentences below the controls; the script writes the same ones."""
    found = numbers(bug, first)
    return [
        f"Along a diagonal the scores differ by up to {found['uneven']:.2f}. The shift has changed them by up to "
        f"{found['shifted']:.2f}.",
        f"Compared with the correct scores they are off by up to {found['wrong']:.2f}.",
    ]


def _apart(left: list[list[float]], right: list[list[float]]) -> float:
    return max(abs(left[m][n] - right[m][n]) for m in range(COUNT) for n in range(COUNT))


def _drawing() -> str:
    cells = ""
    for m in range(COUNT):
        for n in range(COUNT):
            value = score(BUGS[1], m, n)
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

_SCRIPT = """const N = __N__, bugs = __BUGS__;
function rounded(m) {
  const step = m < 256 ? 1 : Math.pow(2, Math.floor(Math.log2(m)) - 7), k = m / step, r = Math.floor(k), rest = k - r;
  return (r + (rest > 0.5 || (rest === 0.5 && r % 2 === 1) ? 1 : 0)) * step;
}
function turned(bug, m, query) {
  const place = bug === 3 ? rounded(m) : bug === 2 && query ? -m : m, table = [], out = [];
  for (let i = 0; i < 4; i++) table.push(place * Math.pow(bug === 4 ? 100 : 10000, -i / 4));
  for (let i = 0; i < 4; i++) {
    const a = bug === 1 ? table[2 * i % 4] : table[i], b = bug === 1 ? table[(2 * i + 1) % 4] : table[i];
    out.push(Math.cos(a) - Math.sin(a), Math.cos(b) + Math.sin(b));
  }
  return out;
}
function scores(bug, first) {
  const q = [], k = [], map = [];
  for (let m = 0; m < N; m++) { q.push(turned(bug, first + m, true)); k.push(turned(bug, first + m, false)); }
  for (let m = 0; m < N; m++) for (let n = 0; n < N; n++) {
    map.push(q[m].reduce((sum, x, j) => sum + x * k[n][j], 0) / 8);
  }
  return map;
}
function apart(left, right) { return Math.max(...left.map((x, j) => Math.abs(x - right[j]))); }
export function numbers({bug, first}) {
  const kind = bugs.indexOf(bug), here = scores(kind, first), low = {}, high = {};
  here.forEach((x, j) => {
    const d = Math.floor(j / N) - j % N;
    low[d] = d in low ? Math.min(low[d], x) : x;
    high[d] = d in high ? Math.max(high[d], x) : x;
  });
  const uneven = Math.max(...Object.keys(low).map((d) => high[d] - low[d]));
  return {uneven: uneven, shifted: apart(here, scores(kind, 0)), wrong: apart(here, scores(0, first))};
}
function figure(root) {
  const notes = root.querySelectorAll("p"), svg = root.querySelector("svg");
  return function (values) {
    const here = scores(bugs.indexOf(values.bug), values.first), at = numbers(values);
    root.querySelectorAll("rect").forEach((cell, j) => {
      cell.setAttribute("fill", here[j] > 0 ? "var(--q)" : "var(--k)");
      cell.setAttribute("fill-opacity", Math.min(1, Math.abs(here[j])).toFixed(2));
    });
    notes[0].textContent = "Along a diagonal the scores differ by up to " + at.uneven.toFixed(2) +
      ". The shift has changed them by up to " + at.shifted.toFixed(2) + ".";
    notes[1].textContent = "Compared with the correct scores they are off by up to " + at.wrong.toFixed(2) + ".";
    svg.setAttribute("aria-label", "A square of scores: one row per query, one column per key. " +
      notes[0].textContent + " " + notes[1].textContent);
  };
}
"""
