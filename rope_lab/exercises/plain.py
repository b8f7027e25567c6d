"""MyST as Markdown that reads well where Sphinx is not: in Colab, JupyterLab or an editor, from a notebook."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w-]+)\} *(?P<title>.*)\n(?P<body>(?:.*\n)*?)(?P=fence) *$",
    re.MULTILINE,
)
LABEL = re.compile(r"^:label: *(?P<label>\S+) *$", re.MULTILINE)
EXERCISE = re.compile(r"(?P<kind>ex|sol)-(?P<chapter>\d\d)-(?P<place>[1-9]\d*)")
GATED = re.compile(
    r"^(?P<fence>`{3,})\{(?P<kind>exercise|solution)(?P<gate>-start|-end)?\} *(?P<title>.*)\n"
    r"(?P<body>(?:.*\n)*?)(?P=fence) *$",
    re.MULTILINE,
)
OPTIONS = re.compile(r"\A(?:---\n(?:.*\n)*?---\n|(?::[\w-]+:.*\n)+)?\n*")
ROLE = re.compile(r"\{(?P<name>[\w:]+)\}`(?P<text>[^`]+)`")
TAGGED = re.compile(r"\$\$ *\((?P<label>[\w:.-]+)\)")
TARGET = re.compile(r"^\([\w:.-]+\)=\n", re.MULTILINE)
# Code, formulas and links, in which a mention of a chapter is left alone; the groups between are prose.
NO_PROSE = re.compile(r"(```.*?```|`[^`]*`|\$\$.*?\$\$|\[[^\]]*\]\([^)]*\)|^#.*?$)", re.DOTALL | re.MULTILINE)

# "chapter 5", "Chapters 6 and 10", "chapters 1, 2 and 3", "Chapters 13 to 15".
AND = r"(?:,\s+(?:and\s+)?|\s+(?:and|or|to)\s+|[-–])"
MENTION = re.compile(rf"\b(?:[Cc]hapters\s+\d+(?:{AND}\d+\b(?!\.\d))*|[Cc]hapter\s+\d+)(?!\.?\d)")
ONE = re.compile(r"(?:[Cc]hapters?\s+)?(?P<number>\d+)")
SAID = re.compile(r"[\s,(]*(?:(?:is|are)\s+)?planned\b")  # the text says so itself


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


def pieces(text: str, chapters: Mapping[int, str]) -> Iterator[tuple[str, str | None]]:
    """The text in order, each piece with the page it should link to, or None; "(planned)" where there is none."""
    end = 0
    for mention in MENTION.finditer(text):
        for one in ONE.finditer(text, mention.start(), mention.end()):
            if one.start() > end:
                yield text[end : one.start()], None
            end = one.end()
            page = chapters.get(int(one["number"]))
            mark = "" if page is not None or SAID.match(text, mention.end()) else _planned(text, one)
            yield one[0] + mark, page
    if end < len(text):
        yield text[end:], None


def _planned(text: str, mention: re.Match[str]) -> str:
    """In brackets, or after a comma where the mention stands in brackets already."""
    before, after = text[: mention.start()], text[mention.end() :]
    inside = before.rfind("(") > before.rfind(")") or ("(" not in after.partition(")")[0] and ")" in after)
    if inside:
        return ", planned"
    return " (planned)"
