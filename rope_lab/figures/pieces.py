"""The moving figure of chapter 7: a text read in two pieces, and the distances that the second piece finds."""

from __future__ import annotations

from rope_lab.figures.moving import Moving, choice, moving, slider

COUNT, CACHED, KEY = 12, 8, 3  # tokens; tokens in the cache at first; the key that the words speak of
RULES = ("continue from the cache", "start again at 0")
_CELL = 20


def pieces() -> Moving:
    """Scores of a text read in two calls; the reader moves the cut and chooses how the second call counts."""
    return moving(
        "rope-pieces",
        _drawing(),
        [
            slider("cached", "tokens in the cache", CACHED, COUNT - 1),
            choice("rule", "positions of the new tokens", RULES, start=1),
        ],
        said(CACHED, again=True),
        _SCRIPT.replace("__N__", str(COUNT)).replace("__KEY__", str(KEY)).replace("__AGAIN__", RULES[1]),
        box=f"-34 -8 {COUNT * _CELL + 42} {COUNT * _CELL + 42}",
        label="A triangle of scores: one row per query, one column per key.",
        style=_STYLE,
    )


def distance(m: int, n: int, cached: int, *, again: bool) -> int:
    """The distance that the score of query m and key n sees, if m belongs to the second call."""
    return m - n - (cached if again and n < cached <= m else 0)


def numbers(cached: int, *, again: bool) -> dict[str, int]:
    """What the figure shows: the positions of the new tokens, two distances of the last query to a key, and counts."""
    rows, first, last = range(cached, COUNT), 0 if again else cached, COUNT - 1
    return {
        "first": first,
        "last": first + last - cached,
        "seen": distance(last, KEY, cached, again=again),
        "true": last - KEY,
        "wrong": sum(distance(m, n, cached, again=again) != m - n for m in rows for n in range(m + 1)),
        "all": sum(m + 1 for m in rows),
    }


def said(cached: int, *, again: bool) -> list[str]:
    """The sentences below the controls; the script writes the same ones."""
    found, last = numbers(cached, again=again), COUNT - 1
    first, seen, true = found["first"], found["seen"], found["true"]
    span = f"token {last}, at position" if cached == last else f"tokens {cached} to {last}, at positions"
    places = f"{first}" if cached == last else f"{first} to {found['last']}"
    words = f"New: {span} {places}. Query {last} finds key {KEY} at distance {seen}"
    words += "." if seen == true else f"; it should be {true}."
    return [
        words.replace("-", "−"),
        f"Wrong distances in the new rows: {found['wrong']} of {found['all']}.",
    ]


def _drawing() -> str:
    cells = "".join(
        _cell(m, n, distance(m, n, CACHED, again=True)) for m in range(COUNT) for n in range(m + 1)
    )
    middle, end = COUNT * _CELL / 2, COUNT * _CELL + 16
    words = f'<text x="{middle}" y="{end}">key</text>'
    words += f'<text transform="translate(-18 {middle}) rotate(-90)">query</text>'
    return cells + words


def _cell(m: int, n: int, seen: int) -> str:
    kind = ("new" if m >= CACHED else "old") + (" wrong" if seen != m - n else "")
    return (
        f'<rect x="{n * _CELL}" y="{m * _CELL}" width="{_CELL - 2}" height="{_CELL - 2}" data-at="{m} {n}" '
        f'class="{kind}" fill="var(--{"k" if seen < 0 else "q"})" fill-opacity="{1 - abs(seen) / 14:.2f}"/>'
    )


_STYLE = """.rope-pieces .old{opacity:.3}
.rope-pieces .wrong{stroke:var(--k);stroke-width:2}
.rope-pieces text{fill:var(--ink)}
.rope-pieces p:last-child{min-height:1.5em}
"""

_SCRIPT = """const N = __N__, key = __KEY__, last = N - 1;
function startsAgain(values) { return values.rule === "__AGAIN__"; }
function distance(m, n, values) {
  const c = values.cached;
  return m - n - (startsAgain(values) && n < c && c <= m ? c : 0);
}
export function numbers(values) {
  const c = values.cached, first = startsAgain(values) ? 0 : c;
  let wrong = 0, all = 0;
  for (let m = c; m < N; m++) for (let n = 0; n <= m; n++) {
    all += 1;
    wrong += distance(m, n, values) !== m - n;
  }
  return {first: first, last: first + last - c, seen: distance(last, key, values), true: last - key, wrong: wrong,
    all: all};
}
function figure(root) {
  const notes = root.querySelectorAll("p"), svg = root.querySelector("svg");
  return function (values) {
    const c = values.cached, at = numbers(values);
    root.querySelectorAll("rect").forEach((cell) => {
      const [m, n] = cell.dataset.at.split(" ").map(Number), d = distance(m, n, values);
      cell.setAttribute("class", (m >= c ? "new" : "old") + (d !== m - n ? " wrong" : ""));
      cell.setAttribute("fill", d < 0 ? "var(--k)" : "var(--q)");
      cell.setAttribute("fill-opacity", (1 - Math.abs(d) / 14).toFixed(2));
    });
    const text = "New: " + (c === last ? "token " + last + ", at position " + at.first :
      "tokens " + c + " to " + last + ", at positions " + at.first + " to " + at.last) +
      ". Query " + last + " finds key " + key + " at distance " + at.seen +
      (at.seen === at.true ? "." : "; it should be " + at.true + ".");
    notes[0].textContent = text.replace(/-/g, "−");
    notes[1].textContent = "Wrong distances in the new rows: " + at.wrong + " of " + at.all + ".";
    svg.setAttribute("aria-label", "A triangle of scores: one row per query, one column per key. " +
      notes[0].textContent + " " + notes[1].textContent);
  };
}
"""
