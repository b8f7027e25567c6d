"""Figures on a page: each is a link to itself in full size, which a phone needs, and none is heavy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from rope_book.chapters import number

LOG = logging.getLogger(__name__)
LARGEST = 200_000  # bytes of one picture
PICTURE = re.compile(r'<img (?P<rest>[^>]*?)src="(?P<file>[^":]*_images/[^"]+)"(?P<more>[^>]*)/?>')


def enlargeable(body: str) -> str:
    """Each picture of a page as a link to its file; its words are the words of the link."""
    return PICTURE.sub(
        lambda found: (
            f'<a class="rope-enlarge" href="{found["file"]}" title="Open in full size">'
            f'<img {found["rest"]}src="{found["file"]}"{found["more"]}/></a>'
        ),
        body,
    )


def _link(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if number(pagename) is not None and "body" in context:
        context["body"] = enlargeable(context["body"])
        app.add_js_file("enlarge.js", loading_method="defer")  # on this page alone


def _weigh(app: Sphinx, doctree: nodes.document) -> None:
    if number(app.env.docname) is None:
        return
    for image in doctree.findall(nodes.image):
        file = Path(app.srcdir) / image["uri"].lstrip("/")
        if file.is_file() and (size := file.stat().st_size) > LARGEST:
            LOG.warning("a picture of %d bytes is too heavy for a page", size, location=image)


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", _weigh)
    app.connect("html-page-context", _link)
