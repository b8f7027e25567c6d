"""Formulas, set while the book is built: a page brings them as HTML for the eye and MathML for those who listen.

KaTeX is in the folder katex, with its licence: its script sets the formulas here, in a JavaScript engine that needs no
browser; its style sheet and fonts go with the pages that have formulas. A formula that it does not understand is a
warning, and so stops the build.
"""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

LOG = logging.getLogger(__name__)
HERE = Path(__file__).parent / "katex"
SERVED = "_static/katex"
# Those of the first formulas; others are fetched where a page has their letters.
FIRST = ("KaTeX_Main-Regular", "KaTeX_Math-Italic")
USED = 'class="katex'
# Not for a page that was opened as a file: Chromium refuses to fetch a font ahead there.
EARLY = """if (location.protocol !== "file:") for (const href of %s)
      document.head.append(Object.assign(document.createElement("link"),
        {rel: "preload", as: "font", type: "font/woff2", crossOrigin: "", href}));"""


class Setter:
    """KaTeX in an engine that starts with the first formula and is closed after the last."""

    def __init__(self) -> None:
        self.engine: MiniRacer | None = None
        self.html = cache(self._html)

    def _html(self, tex: str, display: bool) -> str:
        if self.engine is None:
            self.engine = MiniRacer()
            self.engine.eval((HERE / "katex.min.js").read_text(encoding="utf-8"))
        options = {"displayMode": display, "throwOnError": True, "strict": "error", "output": "htmlAndMathml"}
        return str(self.engine.call("katex.renderToString", tex, options))

    def close(self, *_: Any) -> None:
        if self.engine is not None:
            self.engine.close()
            self.engine = None


SETTER = Setter()


def shown(tex: str) -> str:
    """TeX of a displayed equation as its writer meant it: a line break needs an environment around it."""
    tex = tex.strip()
    return rf"\begin{{split}}{tex}\end{{split}}" if r"\\" in tex and not tex.startswith(r"\begin{") else tex


def _set(tex: str, display: bool, node: nodes.Node) -> str:
    try:
        return SETTER.html(tex, display)
    except JSEvalException as error:
        reason = re.sub(r"\s+", " ", str(error)).partition(" at ")[0]
        LOG.warning("a formula cannot be set: %s: %s", tex, reason, location=node)
        return ""


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(f"{_set(node.astext().strip(), False, node)}</span>")
    raise nodes.SkipNode


def _display(self: Any, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(f"{_set(shown(node.astext()), True, node)}</div>\n")
    raise nodes.SkipNode


def _head(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if USED in (context.get("body") or ""):
        path = context["pathto"]
        fonts = [path(f"{SERVED}/fonts/{name}.woff2", 1) for name in FIRST]
        lines = [f"<script>{EARLY % json.dumps(fonts)}</script>"]
        lines.append(f'<link rel="stylesheet" href="{path(f"{SERVED}/katex.min.css", 1)}" />')
        context["metatags"] = "\n    ".join([context.get("metatags") or "", *lines])


def _serve(app: Sphinx, exception: Exception | None) -> None:
    SETTER.close()
    if exception is None and app.builder.format == "html":
        kept = shutil.ignore_patterns("*.js")
        shutil.copytree(HERE, Path(app.outdir) / SERVED, dirs_exist_ok=True, ignore=kept)


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("katex", (_inline, None), (_display, None))
    app.connect("html-page-context", _head, priority=955)  # after `pages` has written the head
    app.connect("build-finished", _serve)
