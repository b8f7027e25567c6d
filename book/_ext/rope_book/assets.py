"""MathJax served from the book itself, and no image without words for those who cannot see it."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from rope_book.chapters import number

LOG = logging.getLogger(__name__)
# The parts of MathJax that tex-chtml.js may ask for when a page is read: its fonts and rarer TeX commands.
PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions", "a11y", "sre", "ui")


def _mathjax() -> Path:
    """The folder of MathJax in the installed package sphinx-mathjax-offline (its name is no module name)."""
    files = metadata.files("sphinx-mathjax-offline") or []
    script = next(file for file in files if file.name == "tex-chtml.js")
    return Path(str(script.locate())).parent


def _serve_mathjax(app: Sphinx, exception: Exception | None) -> None:
    target = Path(app.outdir) / "_static" / "mathjax"
    if exception is not None or app.builder.format != "html":
        return
    for part in PARTS:
        source = _mathjax() / part
        if source.is_dir():
            shutil.copytree(source, target / part, dirs_exist_ok=True)
        elif source.is_file():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / part)


def _need_alt(app: Sphinx, doctree: nodes.document) -> None:
    docname = app.env.docname
    if number(docname) is None and not docname.startswith("book/"):
        return
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            LOG.warning(
                "an image has no alt text; give its cell the metadata "
                'mystnb={"image": {"alt": "what the figure shows"}}',
                location=image if image.line else docname,
            )


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", _need_alt)
    app.connect("build-finished", _serve_mathjax)
