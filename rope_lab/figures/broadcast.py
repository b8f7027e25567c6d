"""The moving figure of chapter 17: which token of which row gets which angle when a table meets a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rope_lab.figures.moving import choice, moving, slider

if TYPE_CHECKING:
    from IPython.display import HTML

MOST, START = 6, 5  # the largest batch and the longest row; where both sliders start
STEP = 30  # degrees by which one position turns the pair that is drawn
INDICES = ("table[:, None]", "table[None, :]")
_CELL = 40


def broadcast() -> HTML:
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
        _SCRIPT.replace("__STEP__", str(STEP)),
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


def said(batch: int, tokens: int, index: str) -> list[str]:
    """The sentences below the controls; the script writes the same ones."""
    found = turns(batch, tokens, index)
    table = f"({tokens}, 1)" if index == INDICES[0] else f"(1, {tokens})"
    met = f"Table {table} meets tokens ({batch}, {tokens}): "
    if found is None:
        return [f"{met}an error.", f"{tokens} is neither 1 nor {batch}, so the shapes do not fit."]
    wrong = sum(turn != place for row in found for place, turn in enumerate(row))
    out = f"({len(found)}, {tokens}) comes out."
    return [f"{met}{out}", f"{wrong} of {len(found) * tokens} tokens have the wrong angle."]


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

_SCRIPT = """  var notes = root.querySelectorAll("p"), svg = root.querySelector("svg");
  function draw() {
    var batch = +input("batch").value, tokens = +input("tokens").value, right = input("index").selectedIndex === 1;
    ["batch", "tokens"].forEach(function (role) {
      input(role).parentNode.querySelector("b").textContent = ": " + input(role).value;
    });
    var fits = right || batch === 1 || tokens === 1 || batch === tokens;
    var rows = right ? batch : Math.max(batch, fits ? tokens : batch), wrong = 0;
    root.querySelectorAll(".cell").forEach(function (cell) {
      var at = cell.getAttribute("data-at").split(" "), row = +at[0], place = +at[1];
      var there = row < rows && place < tokens, turn = right ? place : tokens > 1 ? row : 0;
      var off = there && fits && turn !== place;
      wrong += off ? 1 : 0;
      cell.setAttribute("visibility", there ? "visible" : "hidden");
      cell.setAttribute("class", off ? "cell wrong" : "cell");
      var hand = cell.querySelector(".hand");
      hand.setAttribute("visibility", there && fits ? "inherit" : "hidden");
      hand.setAttribute("transform", "rotate(" + -turn * __STEP__ + ")");
    });
    var met = "Table " + (right ? "(1, " + tokens + ")" : "(" + tokens + ", 1)") + " meets tokens (" + batch + ", " +
      tokens + "): ";
    notes[0].textContent = met + (fits ? "(" + rows + ", " + tokens + ") comes out." : "an error.");
    notes[1].textContent = fits ? wrong + " of " + rows * tokens + " tokens have the wrong angle." :
      tokens + " is neither 1 nor " + batch + ", so the shapes do not fit.";
    svg.setAttribute("aria-label", "A grid of hands: one row per sequence, one column per token. " +
      notes[0].textContent + " " + notes[1].textContent);
  }
"""
