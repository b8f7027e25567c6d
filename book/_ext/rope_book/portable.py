"""Markdown that reads well where Sphinx is not: in Colab, JupyterLab or an editor, from a published notebook."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rope_book.mentions import pieces

FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w-]+)\} *(?P<title>.*)\n(?P<body>(?:.*\n)*?)(?P=fence) *$",
    re.MULTILINE,
)
LABEL = re.compile(r"^:label: *(?P<label>\S+) *$", re.MULTILINE)
EXERCISE = re.compile(r"(?P<kind>ex|sol)-(?P<chapter>\d\d)-(?P<place>[1-9]\d*)")
GATE = re.compile(
    r"^`{3,}\{(?:solution-start\} .*\n:label: *(?P<label>\S+)|[a-z]+-(?:start|end)\})", re.MULTILINE
)
OPTIONS = re.compile(r"\A(?:---\n(?:.*\n)*?---\n|(?::[\w-]+:.*\n)+)?\n*")
ROLE = re.compile(r"\{(?P<name>[\w:]+)\}`(?P<text>[^`]+)`")
TAGGED = re.compile(r"\$\$ *\((?P<label>[\w:.-]+)\)")
TARGET = re.compile(r"^\([\w:.-]+\)=\n", re.MULTILINE)
# Code, formulas and links, in which a mention of a chapter is left alone; the groups between are prose.
NO_PROSE = re.compile(r"(```.*?```|`[^`]*`|\$\$.*?\$\$|\[[^\]]*\]\([^)]*\)|^#.*?$)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Book:
    """What a notebook may ask of the book that it comes from.

    Attributes:
        number: the number of a labelled equation or figure, "" where there is none.
        cite: what a role and its keys read as.
        page: title and published address of a document by the target of `{doc}` or `{ref}`; "" for what is not known.
        chapters: the published addresses of the chapters that exist, "" where one has none or is this one.
    """

    number: Callable[[str], str]
    cite: Callable[[str, str], str]
    page: Callable[[str], tuple[str, str]]
    chapters: Mapping[int, str]


def portable(text: str, book: Book) -> str:
    """MyST's directives, roles and labels as plain Markdown, with the numbers they have in the book."""
    for _ in range(3):  # a directive may hold another
        text = FENCE.sub(_block, text + "\n").removesuffix("\n")
    text = TAGGED.sub(lambda found: _tag(book.number(found["label"])), text)
    text = ROLE.sub(lambda found: _role(found["name"], found["text"], book), TARGET.sub("", text))
    parts = NO_PROSE.split(text)  # prose at the even places
    parts[::2] = [_link_chapters(part, book) for part in parts[::2]]
    return "".join(parts)


def _tag(number: str) -> str:
    return rf"\tag{{{number}}} $$" if number else "$$"


def _link_chapters(text: str, book: Book) -> str:
    found = pieces(text, book.chapters)
    return "".join(f"[{piece}]({address})" if address else piece for piece, address in found)


def _block(found: re.Match[str]) -> str:
    name, title, body = (
        found["name"],
        found["title"].strip(),
        OPTIONS.sub("", found["body"], count=1).rstrip(),
    )
    if name.startswith(("exercise", "solution")):
        label = LABEL.search(found["body"])
        return _exercise(name, title, titled(label["label"]) if label else "", body)
    if name == "dropdown":
        return f"<details><summary>{title or 'Solution'}</summary>\n\n{body}\n\n</details>"
    if name in {"math", "code-block", "eval-rst", "figure", "image"}:
        return found[0]
    heading = title or name.capitalize()
    return "\n".join(f"> {line}".rstrip() for line in [f"**{heading}**", "", *body.splitlines()])


def titled(label: str) -> str:
    """Exercise 3.1 for ex-03-1, Solution 3.1 for sol-03-1, "" for another label."""
    found = EXERCISE.fullmatch(label)
    if found is None:
        return ""
    kind = "Exercise" if found["kind"] == "ex" else "Solution"
    return f"{kind} {int(found['chapter'])}.{found['place']}"


def _exercise(name: str, kind: str, heading: str, body: str) -> str:
    """An exercise under a heading; a solution too, or folded where it is text alone."""
    if name.endswith("-end"):
        return ""
    if name == "solution":
        return f"<details><summary>{heading}</summary>\n\n{body}\n\n</details>"
    if name.startswith("exercise") and kind:
        heading += f" ({kind})"
    return f"### {heading}\n\n{body}".rstrip()


def solution_at_end(text: str, before: str = "") -> str:
    """The solution that the cell after this text belongs to, such as "Solution 3.1"; "" where it belongs to none."""
    for gate in GATE.finditer(text):
        before = titled(gate["label"]) if gate["label"] else ""
    return before


def _role(name: str, text: str, book: Book) -> str:
    shown, _, target = text.rpartition(" <")
    target = target.removesuffix(">")
    if name == "eq":
        return f"({book.number(target)})"
    if name == "numref":
        number = book.number(target)
        return (shown or "Figure %s").replace("%s", number).replace("{number}", number)
    if name.startswith("cite"):
        return book.cite(name, target)
    if name in {"doc", "ref"}:
        title, address = book.page(target)
        title = titled(target) or title
        words = shown or title or target.rpartition("/")[2].replace("_", " ")
        return f"[{words}]({address})" if address else words
    if name == "term":
        return shown or target
    return f"`{(shown or target).removeprefix('~')}`"
