"""Notation and glossary are complete: the symbols of every equation, the terms in bold, the names that collide."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
NOTATION = (ROOT / "book" / "notation.md").read_text("utf-8")
GLOSSARY = (ROOT / "book" / "glossary.md").read_text("utf-8")
ENTRIES = GLOSSARY.split("```{glossary}\n")[1].rsplit("\n```", 1)[0].split("\n\n")
TERMS = [entry.split("\n")[0] for entry in ENTRIES]
# Commands that set a formula, and the functions and signs of everyone's mathematics.
SET = (
    "aligned approx arccos arg array bar begin big Big bigg Bigg bigl Bigl bigr Bigr bmatrix bmod "
    "boxed cases cdot cdots circ cos cosh ddots dfrac displaystyle dots end equiv exists exp forall "
    "frac ge geq gg hat hspace iff implies in inf infty int langle lceil ldots le left leq lfloor lim "
    "limits ll ln log lVert lvert mapsto mathbb mathbf mathrm mathsf max mid min ne neg neq nmid not "
    "odot operatorname otimes over overbrace overline partial perp phantom pm pmatrix pmod prime prod "
    "propto qquad quad rangle rceil rfloor right Rightarrow rVert rvert setminus sim sin sinh "
    "smallmatrix sqrt stackrel subset sum sup tan text textstyle tfrac tilde times to top underbrace "
    "underline vdots vee vphantom wedge widehat widetilde "
)
EMPHASIS = {
    "first query",
    "arithmetic progression",
    "five times the memory",
    "logarithmically",
    "absolute in form, relative in effect",
    "not tried",
}


def symbols(formulas: str) -> set[str]:
    """Letters, and commands that make one: {"m", "theta", "mathcal W"} for \\mathcal{W}(m) = \\theta."""
    text = re.sub(r"\\(?:text|mathrm|operatorname|begin|end|tag|label)\*?\s*\{[^{}]*\}", " ", formulas)
    scripts = {f"mathcal {letter}" for letter in re.findall(r"\\mathcal\{(\w)\}", text)}
    text = re.sub(r"\\mathcal\{\w\}", " ", text)
    commands = set(re.findall(r"\\([A-Za-z]+)", text)) - set(SET.split())
    return scripts | commands | set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", text)))


def inline(text: str) -> str:
    return " ".join(re.findall(r"\$([^$]+)\$", text))


def prose(path: Path) -> str:
    """The text of a chapter before its exercises."""
    cells = re.split(r"^# %%", path.read_text("utf-8"), flags=re.M)
    text = "\n".join(cell for cell in cells if cell.startswith(" [markdown]"))
    return re.sub(r"^# ?", "", text, flags=re.M).split("\n## Exercises")[0]


def rows_of(chapter: int) -> str:
    """The rows that the page of symbols has for one chapter."""
    table = NOTATION.split("## Letters of one chapter")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([\d, ]+) \| (.*?) \| ", table, re.M)
    return " ".join(symbol for numbers, symbol in rows if str(chapter) in numbers.split(", "))


def general() -> set[str]:
    before, after = NOTATION.split("## Letters of one chapter")
    return symbols(inline(re.sub(r"(?s)\$\$.*?\$\$", "", before) + after.split("\n## ", 1)[1]))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_symbol_of_an_equation_is_on_the_page_of_symbols(path: Path) -> None:
    known = general() | symbols(inline(rows_of(int(path.stem[:2]))))
    equations = re.findall(r"\$\$(.*?)\$\$", prose(path), re.S)
    assert equations
    assert {"".join(one.split()): missing for one in equations if (missing := symbols(one) - known)} == {}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_letter_of_one_chapter_is_used_in_it(path: Path) -> None:
    used = symbols(" ".join(re.findall(r"\$([^$]+)\$", path.read_text("utf-8").replace("$$", "$"))))
    assert symbols(inline(rows_of(int(path.stem[:2])))) - used == set()


def test_what_a_symbol_is() -> None:
    found = symbols(
        r"\mathcal{W}(m) = \{\, \theta_i \,\} \text{ where } \operatorname{Re} z \le \mathrm{e}^{2}"
    )
    assert found == {"mathcal W", "m", "theta", "i", "z"}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_term_in_bold_is_in_the_glossary(path: Path) -> None:
    """A term of up to three words without a full stop; what is longer is a question or the start of an item."""
    words = " ".join(GLOSSARY.lower().split())
    bold = re.findall(r"(?<![*\w])\*\*([A-Za-z][\w\s/–-]*\w)\*\*", prose(path))
    terms = {" ".join(term.lower().split()) for term in bold} - EMPHASIS
    short = {term for term in terms if len(term.split()) <= 3}
    assert {term for term in short if term not in words and term.removesuffix("s") not in words} == set()


def test_the_glossary_is_in_order_and_names_a_term_once() -> None:
    keys = [re.sub(r"[^a-z0-9]", "", term.lower()) for term in TERMS]
    assert keys == sorted(set(keys))


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("p-RoPE", ["PRoPE", "camera", "Periodic RoPE"]),
        ("HoPE", ["high-frequency", "hybrid", "hyperbolic"]),
        ("STRING", ["separable", "shifted"]),
        ("CoPE", ["contextual", "complex", "clipped"]),
        ("interleaved layout", ["Not to be confused with the interleaved", "sections"]),
    ],
)
def test_a_name_that_collides_has_one_row_with_all_its_meanings(name: str, others: list[str]) -> None:
    (entry,) = [entry for entry in ENTRIES if entry.split("\n")[0] == name]
    assert all(other in " ".join(entry.split()) for other in others)
