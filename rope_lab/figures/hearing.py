"""The moving figure of chapter 12: which tokens the state of one token can depend on, layer by layer."""

from __future__ import annotations

import json

import torch

from rope_lab.figures.moving import Moving, choice, moving, slider
from rope_lab.local import Window

RULES = ("exact", "inclusive", "block")
TOKENS, LAYERS, WINDOWS = 32, 6, 8  # drawn, and the largest of each slider
START = RULES[0], 4, 4, 27  # rule, window, layers, token
CELL, ROW = 10, 22  # of the drawing


def window(rule: str, size: int) -> Window:
    """The causal window of this rule."""
    return Window(size, exact=rule != "block", inclusive=rule == "inclusive")


def heard(rule: str, size: int, layers: int, token: int) -> list[list[int]]:
    """What the state of a token depends on: states of the layer it is in, of the one below, …, the embeddings."""
    at = torch.arange(TOKENS)
    sees = window(rule, size).sees(at[:, None], at)  # (N, N)
    rows = [at == token]
    for _ in range(layers):
        rows.append(sees[rows[-1]].any(0))
    return [at[row].tolist() for row in rows]


def formula(rule: str, size: int, layers: int, token: int) -> tuple[str, int]:
    """The reach by the rule of chapter 12, as text and as a number, in a text that has no beginning."""
    if rule == "exact":
        return f"{layers}·({size} − 1)", layers * (size - 1)
    if rule == "inclusive":
        return f"{layers}·{size}", layers * size
    return f"{layers}·{size} + {token % size}", layers * size + token % size


def numbers(rule: str, size: int, layers: int, token: int) -> dict[str, float]:
    """What the figure shows: the keys of one layer, the formula, and how far back each layer from the top reaches."""
    rows = heard(rule, size, layers, token)
    reach = {f"back {i}": token - row[0] for i, row in enumerate(rows[1:], 1)}
    return {"keys": len(rows[1]), "formula": formula(rule, size, layers, token)[1], **reach}


def said(rule: str, size: int, layers: int, token: int) -> list[str]:
    """The sentences below the controls; the script writes the same ones."""
    at = numbers(rule, size, layers, token)
    back, (text, limit) = int(at[f"back {layers}"]), formula(rule, size, layers, token)
    tokens = f"tokens {token - back} to {token}" if back else f"token {token} only"
    after = "1 layer" if layers == 1 else f"{layers} layers"
    end = f", of which the text has {token}." if limit > token else "."
    keys = "1 key" if at["keys"] == 1 else f"{at['keys']} keys"
    return [
        f"After {after} the state of token {token} can depend on {tokens}.",
        f"In one layer token {token} sees {keys}. The reach of {after} is {text} = {limit} tokens{end}",
    ]


def hearing() -> Moving:
    """The cone of one token. Without JavaScript: token 27 under four layers with exact windows of 4."""
    _, size, layers, token = START
    script = _SCRIPT
    for name, value in {
        "RULES": RULES, "TOKENS": TOKENS, "LAYERS": LAYERS, "CELL": CELL, "ROW": ROW,
    }.items():  # fmt: skip
        script = script.replace(f"__{name}__", json.dumps(value))
    return moving(
        "rope-hear",
        _drawing(),
        [
            choice("rule", "window", RULES),
            slider("w", "window W", size, WINDOWS, 1),
            slider("depth", "layers", layers, LAYERS, 1),
            slider("m", "token", token, TOKENS - 1),
        ],
        said(*START),
        script,
        box=f"-38 -4 {TOKENS * CELL + 44} {LAYERS * ROW + 52}",
        label=f"Layers above each other, one square per token. {said(*START)[0]}",
        style=_STYLE,
    )


def _cells(row: list[int], layer: int) -> str:
    y = (LAYERS - layer) * ROW
    return "".join(f"M{n * CELL + 1} {y}h8v14h-8z" for n in row)


def _drawing() -> str:
    _, _, layers, token = START
    rows = heard(*START)
    everywhere = "".join(_cells(list(range(TOKENS)), layer) for layer in range(LAYERS + 1))
    inside = "".join(_cells(row, layers - i) for i, row in enumerate(rows))
    way = "L".join(
        f"{(token if i == 0 else row[0]) * CELL + 5} {(LAYERS - layers + i) * ROW + 7}"
        for i, row in enumerate(rows)
    )
    marks = "".join(
        f'<text class="mark" x="-12" y="{(LAYERS - layer) * ROW + 7}">{layer}</text>'
        for layer in range(LAYERS + 1)
    )
    marks += "".join(
        f'<text class="mark" x="{n * CELL + 5}" y="{LAYERS * ROW + 25}">{n}</text>'
        for n in (0, 8, 16, 24, TOKENS - 1)
    )
    marks += f'<text class="mark" transform="translate(-29 {LAYERS * ROW / 2 + 7}) rotate(-90)">layer</text>'
    marks += f'<text class="mark" x="{TOKENS * CELL / 2}" y="{LAYERS * ROW + 42}">token</text>'
    squares = f'<path class="all" d="{everywhere}"/><path class="heard" d="{inside}"/>'
    return f'{squares}<path class="way" d="M{way}"/>{marks}'


_STYLE = """.rope-moving.rope-hear svg{flex:1 1 22rem;max-width:30rem}
.rope-hear .all{fill:none;stroke:var(--faint);stroke-width:.6}
.rope-hear .heard{fill:var(--q)}
.rope-hear .way{fill:none;stroke:var(--k);stroke-width:2.5;stroke-linejoin:round}
.rope-hear .mark{fill:var(--ink);font-weight:normal;font-size:14px}
"""

_SCRIPT = r"""const rules = __RULES__, tokens = __TOKENS__, highest = __LAYERS__, cell = __CELL__, row = __ROW__;
function first(rule, size, m) {  // the earliest key that query m sees
  const start = rule === "block" ? (Math.floor(m / size) - 1) * size : m - size + (rule === "exact");
  return Math.max(0, start);
}
function formula({rule, w, depth, m}) {
  if (rule === "exact") return [depth + "·(" + w + " − 1)", depth * (w - 1)];
  if (rule === "inclusive") return [depth + "·" + w, depth * w];
  return [depth + "·" + w + " + " + m % w, depth * w + m % w];
}
export function numbers(values) {
  const {rule, w, depth, m} = values, found = {keys: m - first(rule, w, m) + 1, formula: formula(values)[1]};
  for (let i = 1, n = m; i <= depth; i++) found["back " + i] = m - (n = first(rule, w, n));
  return found;
}
function figure(root) {
  const notes = root.querySelectorAll("p");
  return function (values) {
    const {depth, m} = values, found = numbers(values), back = found["back " + depth], [text, limit] = formula(values);
    const after = depth === 1 ? "1 layer" : depth + " layers";
    let cells = "", way = [];
    for (let i = 0; i <= depth; i++) {
      const start = m - (i && found["back " + i]), y = (highest - depth + i) * row;
      way.push(start * cell + 5 + " " + (y + 7));
      for (let n = start; n <= m; n++) cells += "M" + (n * cell + 1) + " " + y + "h8v14h-8z";
    }
    root.querySelector(".heard").setAttribute("d", cells);
    root.querySelector(".way").setAttribute("d", "M" + way.join("L"));
    notes[0].textContent = "After " + after + " the state of token " + m +
      " can depend on " + (back ? "tokens " + (m - back) + " to " + m : "token " + m + " only") + ".";
    notes[1].textContent = "In one layer token " + m + " sees " + (found.keys === 1 ? "1 key" : found.keys + " keys") +
      ". The reach of " + after + " is " + text + " = " + limit + " tokens" +
      (limit > m ? ", of which the text has " + m + "." : ".");
    root.querySelector("svg").setAttribute("aria-label",
      "Layers above each other, one square per token. " + notes[0].textContent);
  };
}
"""
