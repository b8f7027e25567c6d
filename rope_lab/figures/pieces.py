"""The moving figure of chapter 7: a text read in two pieces, and the distances that the second piece finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rope_lab.figures.moving import choice, moving, slider

if TYPE_CHECKING:
    from IPython.display import HTML

COUNT, CACHED, KEY = 12, 8, 3  # tokens; tokens in the cache at first; the key that the words speak of
RULES = ("continue from the cache", "start again at 0")
_CELL = 20


def pieces() -> HTML:
    """Scores of a text read in two calls; the reader moves the cut and chooses how the second call counts."""
    return moving(
        "rope-pieces",
        _drawing(),
        [
            slider("cached", "tokens in the cache", CACHED, COUNT - 1),
            choice("rule", "positions of the new tokens", RULES),
        ],
        said(CACHED, again=False),
        _SCRIPT.replace("__N__", str(COUNT)).replace("__KEY__", str(KEY)),
        box=f"-34 -8 {COUNT * _CELL + 42} {COUNT * _CELL + 42}",
        label="A triangle of scores: one row per query, one column per key.",
        style=_STYLE,
    )


def distance(m: int, n: int, cached: int, *, again: bool) -> int:
    """The distance that the score of query m and key n sees, if m belongs to the second call."""
    return m - n - (cached if again and n < cached <= m else 0)


def said(cached: int, *, again: bool) -> list[str]:
    """The sentences below the controls; the script writes the same ones."""
    last, first = COUNT - 1, 0 if again else cached
    rows = range(cached, COUNT)
    seen, true = distance(last, KEY, cached, again=again), last - KEY
    span = f"token {last}, at position" if cached == last else f"tokens {cached} to {last}, at positions"
    places = f"{first}" if cached == last else f"{first} to {first + last - cached}"
    words = f"New: {span} {places}. Query {last} finds key {KEY} at distance {seen}"
    words += "." if seen == true else f"; it should be {true}."
    wrong = sum(distance(m, n, cached, again=again) != m - n for m in rows for n in range(m + 1))
    return [
        words.replace("-", "−"),
        f"Wrong distances in the new rows: {wrong} of {sum(m + 1 for m in rows)}.",
    ]


def _drawing() -> str:
    cells = "".join(
        f'<rect x="{n * _CELL}" y="{m * _CELL}" width="{_CELL - 2}" height="{_CELL - 2}" data-at="{m} {n}" '
        f'class="{"new" if m >= CACHED else "old"}" fill="var(--q)" fill-opacity="{1 - (m - n) / 14:.2f}"/>'
        for m in range(COUNT)
        for n in range(m + 1)
    )
    middle, end = COUNT * _CELL / 2, COUNT * _CELL + 16
    words = f'<text x="{middle}" y="{end}">key</text>'
    words += f'<text transform="translate(-18 {middle}) rotate(-90)">query</text>'
    return cells + words


_STYLE = """.rope-pieces .old{opacity:.3}
.rope-pieces .wrong{stroke:var(--k);stroke-width:2}
.rope-pieces text{fill:var(--ink)}
.rope-pieces p:last-child{min-height:1.5em}
"""

_SCRIPT = """  var N = __N__, key = __KEY__, notes = root.querySelectorAll("p"), svg = root.querySelector("svg");
  function draw() {
    var c = +input("cached").value, again = input("rule").selectedIndex === 1, wrong = 0, all = 0, last = N - 1;
    input("cached").parentNode.querySelector("b").textContent = ": " + c;
    function distance(m, n) { return m - n - (again && n < c && c <= m ? c : 0); }
    root.querySelectorAll("rect").forEach(function (cell) {
      var at = cell.getAttribute("data-at").split(" "), m = +at[0], n = +at[1], d = distance(m, n);
      var off = d !== m - n;
      cell.setAttribute("class", (m >= c ? "new" : "old") + (off ? " wrong" : ""));
      cell.setAttribute("fill", d < 0 ? "var(--k)" : "var(--q)");
      cell.setAttribute("fill-opacity", (1 - Math.abs(d) / 14).toFixed(2));
      if (m >= c) { all += 1; wrong += off; }
    });
    var first = again ? 0 : c, seen = distance(last, key);
    var text = "New: " + (c === last ? "token " + last + ", at position " + first :
      "tokens " + c + " to " + last + ", at positions " + first + " to " + (first + last - c)) +
      ". Query " + last + " finds key " + key + " at distance " + seen +
      (seen === last - key ? "." : "; it should be " + (last - key) + ".");
    notes[0].textContent = text.replace(/-/g, "−");
    notes[1].textContent = "Wrong distances in the new rows: " + wrong + " of " + all + ".";
    svg.setAttribute("aria-label", "A triangle of scores: one row per query, one column per key. " +
      notes[0].textContent + " " + notes[1].textContent);
  }
"""
