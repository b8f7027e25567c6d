"""Markdown that reads well where Sphinx is not: in Colab, JupyterLab or an editor, from a published notebook."""

from __future__ import annotations

import re
from collections.abc import Callable

Number = Callable[[str], str]  # the number of a labelled equation or figure, "" where there is none

FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w-]+)\} *(?P<title>.*)\n(?P<body>(?:.*\n)*?)(?P=fence) *$",
    re.MULTILINE,
)
OPTIONS = re.compile(r"\A(?:---\n(?:.*\n)*?---\n|(?::[\w-]+:.*\n)+)?\n*")
ROLE = re.compile(r"\{(?P<name>[\w:]+)\}`(?P<text>[^`]+)`")
TAGGED = re.compile(r"\$\$ *\((?P<label>[\w:.-]+)\)")
TARGET = re.compile(r"^\([\w:.-]+\)=\n", re.MULTILINE)


def portable(text: str, number: Number) -> str:
    """MyST's directives, roles and labels as plain Markdown, with the numbers they have in the book."""
    for _ in range(3):  # a directive may hold another
        text = FENCE.sub(_block, text + "\n").removesuffix("\n")
    text = TAGGED.sub(lambda found: _tag(number(found["label"])), text)
    return ROLE.sub(lambda found: _role(found["name"], found["text"], number), TARGET.sub("", text))


def _tag(number: str) -> str:
    return rf"\tag{{{number}}} $$" if number else "$$"


def _block(found: re.Match[str]) -> str:
    name, title, body = (
        found["name"],
        found["title"].strip(),
        OPTIONS.sub("", found["body"], count=1).rstrip(),
    )
    if name == "dropdown" or name.startswith("solution"):
        return f"<details><summary>{title or 'Solution'}</summary>\n\n{body}\n\n</details>"
    if name in {"math", "code-block", "eval-rst", "figure", "image"}:
        return found[0]
    heading = title or name.capitalize()
    return "\n".join(f"> {line}".rstrip() for line in [f"**{heading}**", "", *body.splitlines()])


def _role(name: str, text: str, number: Number) -> str:
    shown, _, target = text.rpartition(" <")
    target = target.removesuffix(">")
    if name == "eq":
        return f"({number(target)})"
    if name == "numref":
        return (shown or "Figure %s").replace("%s", number(target)).replace("{number}", number(target))
    if name.startswith("cite"):
        return f"[{target.replace(',', ', ')}]"
    if name in {"doc", "ref"}:
        return shown or target.rpartition("/")[2].replace("_", " ")
    return f"`{(shown or target).removeprefix('~')}`"
