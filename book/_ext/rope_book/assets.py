"""No image without words for those who cannot see it."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from rope_book.chapters import number

LOG = logging.getLogger(__name__)


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
