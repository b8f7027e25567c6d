"""Below a page: what built it and how many checks passed, how to cite it, and ways to say that something is wrong.

Where the repository is known, each heading has a link that opens an issue which names the page, the section and the
commit of the build, and each page a link to edit its source.
"""

from __future__ import annotations

import os
import re
import subprocess
from datetime import UTC, datetime
from functools import cache
from html import escape, unescape
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sphinx.application import Sphinx

from rope_book.address import repository
from rope_book.ledger import chapters, checks

HEADING = re.compile(
    r'(?P<head><h[1-6]>(?P<title>(?:(?!</h[1-6]>).)*?)<a class="headerlink" href="#(?P<label>[^"]+)"[^>]*>[^<]*</a>)'
    r"(?=</h[1-6]>)",
    re.DOTALL,
)


def today() -> datetime:
    """The day of the build, or the one that SOURCE_DATE_EPOCH sets."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)


@cache
def commit(folder: str) -> str:
    """The commit that is built; "" outside of git."""
    if "GITHUB_SHA" in os.environ:
        return os.environ["GITHUB_SHA"]
    try:
        command = ["git", "-C", folder, "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def passed(app: Sphinx) -> int:
    """How many checks of the chapters passed in this build; those that did not stopped it."""
    found: int | None = getattr(app, "rope_book_passed", None)
    if found is None:
        found = sum(len(list(checks(app, name))) for name in chapters(app.env))
        app.rope_book_passed = found  # type: ignore[attr-defined]
    return found


def plain(title: str) -> str:
    """The words of a title that HTML marks up."""
    text = re.sub(r"<(script|style|annotation).*?</\1>|<[^>]+>", "", title, flags=re.DOTALL)
    return " ".join(unescape(text).split())


def wrong(home: str, page: str, label: str, title: str, build: str) -> str:
    """The address of an issue that names what is wrong: page, section and build.

    Args:
        home: address of the repository.
        page: its name, such as notebooks/03_deriving_rope.
        label: of the section, as in the address of the page.
        title: of the section.
        build: the commit.
    """
    place = f"{page}#{label}" if label else page
    about = f"Page: {page}\nSection: {label or 'none'}\nBuild: {build or 'unknown'}"
    body = f"{about}\n\nWhat is wrong, and how do you know?\n\n"
    return f"{home}/issues/new?" + urlencode({"title": f"{place}: {title}"[:120], "body": body})


def questioned(body: str, home: str, page: str, build: str) -> str:
    """The body of a page with a link "Is this wrong?" in each heading, after the link to the heading itself."""

    def ask(found: re.Match[str]) -> str:
        address = escape(wrong(home, page, found["label"], plain(found["title"]), build))
        return f'{found["head"]}<a class="headerlink rope-wrong" href="{address}">Is this wrong?</a>'

    return HEADING.sub(ask, body)


def bibtex(title: str, page: str, author: str, book: str, address: str, build: str, year: int) -> str:
    """An entry that cites one page as a part of the book."""
    title = re.sub(r"^\d+\s*(·\s*)?", "", title)
    fields = {
        "author": f"{{{author}}}",
        "title": title if title == book else f"{title}, in: {book}",
        "year": str(year),
        "url": address,
        "note": f"Commit {build[:12]}" if build else "",
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    key = re.sub(r"\W+", "_", page.rpartition("/")[2])
    return "\n".join([f"@misc{{rope_lab_{key},", *lines, "}"])


def _add(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if app.builder.name != "html":
        return
    config, day, build = app.config, today(), commit(app.srcdir)
    about: dict[str, Any] = {
        "day": f"{day.day} {day:%B %Y}",
        "torch": metadata.version("torch").partition("+")[0],
        "passed": passed(app),
        "ledger": next((name for name in app.env.found_docs if name.endswith("/ledger")), None),
    }
    if doctree is not None:
        home = f"https://github.com/{repository(config)}" if repository(config) else ""
        title = plain(context["title"])
        about["bibtex"] = bibtex(
            title, pagename, config.author, config.html_title, context.get("pageurl") or "", build, day.year
        )
        if home:
            source = Path(app.env.doc2path(pagename, base=False)).as_posix()
            about["edit"] = f"{home}/edit/main/{source}"
            about["wrong"] = wrong(home, pagename, "", title, build)
            context["body"] = questioned(context["body"], home, pagename, build)
    context["rope_about"] = about


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _add, priority=940)
