"""The weights of a model that runs in the page: a script of their own, which is loaded when the reader asks for it.

A cell leaves them in its output, so that they are cached with it and a notebook has them too. A page would be three
times as heavy with them. They are a script, and not data to fetch, because a page that was opened as a file may load
nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HELD = re.compile(
    r'<script type="application/json" class="rope-weights" data-file="(?P<file>[\w.]+)">(?P<json>.*?)</script>',
    re.DOTALL,
)


def taken_out(body: str, folder: Path, address: str) -> str:
    """The body of a page without its weights, which are now a script in the folder.

    Args:
        body: of the page.
        folder: for the scripts.
        address: of the folder, as seen from the page.
    """

    def take(found: re.Match[str]) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / found["file"]).write_text(f"ropeLabWeights({found['json']});\n", encoding="utf-8")
        return f'<script type="application/json" class="rope-weights" data-src="{address}/{found["file"]}"></script>'

    return HELD.sub(take, body)


def _take(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if doctree is not None and app.builder.name == "html":
        static = "_static"
        address = context["pathto"](static, resource=True)
        context["body"] = taken_out(context["body"], Path(app.outdir) / static, address)


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", _take, priority=100)  # before others look through the page
