"""The moving figure of chapter 17: which token of which row gets which angle when a table meets a batch."""

from __future__ import annotations

from rope_lab.figures.moving import Moving, choice, moving, slider

MOST, START = 6, 5  # the largest batch and the longest row; where both sliders start
STEP = 30  # degrees by which one position turns the pair that is drawn
INDICES = ("table[:, None]", "table[None, :]")
_CELL = 40


def broadcast() -> Moving:
    """Rows and tokens with the angle that each gets; the reader chooses the batch, the length and the index."""
    return moving(
        "rope-broadcast",
        _drawing(),
        [
            slider("batch", "rows of the batch", START, MOST, 1),
            slider("tokens", "tokens per row", START, MOST, 1),
            choice("index", "index into the table", INDICES),
        ],
        said(START, START, INDICES[0]),
        _SCRIPT.replace("__STEP__", str(STEP)).replace("__RIGHT__", INDICES[1]),
        box=f"-26 -6 {MOST * _CELL + 36} {MOST * _CELL + 36}",
        label="A grid of hands: one row per sequence, one column per token.",
        style=_STYLE,
    )


def turns(batch: int, tokens: int, index: str) -> list[list[int]] | None:
    """By how many positions each token that comes out is turned, row by row; None where the shapes do not fit."""
    if index == INDICES[1]:
        return [list(range(tokens)) for _ in range(batch)]
    if 1 not in (batch, tokens) and batch != tokens:
        return None
    return [[row if tokens > 1 else 0] * tokens for row in range(max(batch, tokens))]


def numbers(batch: int, tokens: int, index: str) -> dict[str, int]:
    """What the figure shows: rows that come out (0 where the shapes do not fit), tokens, and those turned wrongly."""
    found = turns(batch, tokens, index) or []
    wrong = sum(turn != place for row in found for place, turn in enumerate(row))
    return {"rows": len(found), "all": len(found) * tokens, "wrong": wrong}


def said(batch: int, tokens: int, index: str) -> list[str]:
    """The sentences below the controls; the script writes the same ones."""
    found = numbers(batch, tokens, index)
    table = f"({tokens}, 1)" if index == INDICES[0] else f"(1, {tokens})"
    met = f"Table {table} meets tokens ({batch}, {tokens}): "
    if not found["rows"]:
        return [f"{met}an error.", f"{tokens} is neither 1 nor {batch}, so the shapes do not fit."]
    out = f"({found['rows']}, {tokens}) comes out."
    return [f"{met}{out}", f"{found['wrong']} of {found['all']} tokens have the wrong angle."]


def _drawing() -> str:
    start = turns(START, START, INDICES[0]) or []
    cells = ""
    for row in range(MOST):
        for place in range(MOST):
            there = row < START and place < START
            turn = start[row][place] if there else 0
            x, y = (place + 0.5) * _CELL, (row + 0.5) * _CELL
            cells += (
                f'<g class="cell{" wrong" if turn != place else ""}" data-at="{row} {place}" '
                f'transform="translate({x:.0f} {y:.0f})"{"" if there else _HIDDEN}>'
                f'<circle r="17"/><g class="hand" transform="rotate({-turn * STEP})">'
                '<line x2="10"/><path d="M17 0l-8 -4v8z"/></g></g>'
            )
    middle, end = MOST * _CELL / 2, MOST * _CELL + 14
    words = f'<text x="{middle:.0f}" y="{end}">token</text>'
    words += f'<text transform="translate(-14 {middle:.0f}) rotate(-90)">row</text>'
    return cells + words


_HIDDEN = ' visibility="hidden"'

_STYLE = """.rope-broadcast text{fill:var(--ink)}
.rope-broadcast circle{fill:none;stroke:var(--faint)}
.rope-broadcast .hand line{stroke:var(--q);stroke-width:3}
.rope-broadcast .hand path{fill:var(--q)}
.rope-broadcast .wrong .hand line{stroke:var(--k)}
.rope-broadcast .wrong .hand path{fill:var(--k)}
.rope-broadcast .wrong circle{stroke:var(--k);stroke-width:2}
"""

_SCRIPT = """function turns({batch, tokens, index}) {  // rows that come out, or 0, and the turn of each token
  const right = index === "__RIGHT__", fits = right || batch === 1 || tokens === 1 || batch === tokens;
  return {rows: right ? batch : fits ? Math.max(batch, tokens) : 0,
    of(row, place) { return right ? place : tokens > 1 ? row : 0; }};
}
export function numbers(values) {
  const {rows, of} = turns(values), tokens = values.tokens;
  let wrong = 0;
  for (let row = 0; row < rows; row++) for (let place = 0; place < tokens; place++) wrong += of(row, place) !== place;
  return {rows: rows, all: rows * tokens, wrong: wrong};
}
function figure(root) {
  const notes = root.querySelectorAll("p"), svg = root.querySelector("svg");
  return function (values) {
    const {batch, tokens, index} = values, {rows, of} = turns(values), at = numbers(values);
    root.querySelectorAll(".cell").forEach((cell) => {
      const [row, place] = cell.dataset.at.split(" ").map(Number), hand = cell.querySelector(".hand");
      const there = row < (rows || batch) && place < tokens, turn = of(row, place);
      cell.setAttribute("visibility", there ? "visible" : "hidden");
      cell.setAttribute("class", there && rows && turn !== place ? "cell wrong" : "cell");
      hand.setAttribute("visibility", there && rows ? "inherit" : "hidden");
      hand.setAttribute("transform", "rotate(" + -turn * __STEP__ + ")");
    });
    const met = "Table " + (index === "__RIGHT__" ? "(1, " + tokens + ")" : "(" + tokens + ", 1)") +
      " meets tokens (" + batch + ", " + tokens + "): ";
    notes[0].textContent = met + (rows ? "(" + rows + ", " + tokens + ") comes out." : "an error.");
    notes[1].textContent = rows ? at.wrong + " of " + at.all + " tokens have the wrong angle." :
      tokens + " is neither 1 nor " + batch + ", so the shapes do not fit.";
    svg.setAttribute("aria-label", "A grid of hands: one row per sequence, one column per token. " +
      notes[0].textContent + " " + notes[1].textContent);
  };
}
"""
