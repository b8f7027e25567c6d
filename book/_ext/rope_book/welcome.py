"""What the first page has besides text: a figure to move at once, and buttons that lead to the book's other forms.

    ```{moving-figure} turning
    ```

    ```{offers}
    :read: notebooks/01_why_position
    :colab: notebooks/03_deriving_rope
    :package: book/api
    ```

The PDF, the EPUB and the copy for offline reading are made after the pages, or not at all. Their buttons are in the
page and hidden; `offer` shows those whose file is beside the site. It runs at the end of each build, and when one of
the files has been made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from rope_book.address import repository

LOG = logging.getLogger(__name__)
FILES = {"rope-book.pdf": "PDF", "rope-book.epub": "EPUB", "rope-book.zip": "Offline copy"}
ROOT = "book/index.html"
BUTTON = re.compile(r'<a class="rope-file" data-file="(?P<file>[\w.-]+)" href="(?P<href>[^"]*)"(?: hidden)?>')


class MovingFigure(SphinxDirective):
    """A figure of `rope_lab.figures` on a page that has no code: the drawing alone moves where JavaScript runs."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        figure = getattr(import_module(f"rope_lab.figures.{name}"), name)()
        return [nodes.raw("", f'<div class="rope-first">{figure.data}</div>', format="html")]


class Offered(nodes.General, nodes.Element):
    """Stands in the page until the builder knows the addresses."""


class Offers(SphinxDirective):
    option_spec = dict.fromkeys(("read", "colab", "package"), directives.unchanged_required)

    def run(self) -> list[nodes.Node]:
        for name in self.options.values():
            if name not in self.env.found_docs:
                LOG.warning("there is no page %s to offer", name, location=self.get_location())
        return [Offered(**self.options)]


def _fill(app: Sphinx, doctree: nodes.document, here: str) -> None:
    def to(name: str) -> str:
        return app.builder.get_relative_uri(here, name)

    for place in list(doctree.findall(Offered)):
        row = nodes.paragraph(classes=["rope-buttons"])
        row += nodes.reference("", "Read", refuri=to(place["read"]), internal=True)
        if repository(app.config):
            address = f"https://colab.research.google.com/github/{repository(app.config)}/blob/gh-pages"
            row += nodes.reference("", "Colab", refuri=f"{address}/{place['colab']}.ipynb")
        up = "../" * here.count("/")
        files = [
            f'<a class="rope-file" data-file="{file}" href="{up}{file}" hidden>{text}</a>'
            for file, text in FILES.items()
        ]
        if app.builder.name == "html":
            row += nodes.raw("", files[0], format="html")
        row += nodes.reference("", "Package", refuri=to(place["package"]), internal=True)
        if app.builder.name == "html":
            row += nodes.raw("", "".join(files[1:]), format="html")
        place.replace_self(row)


def offered(page: str, there: Callable[[str], bool]) -> str:
    """The page with the buttons shown whose file, an address seen from the page, is there; the others are hidden."""

    def show(found: re.Match[str]) -> str:
        hidden = "" if there(found["href"]) else " hidden"
        return f'<a class="rope-file" data-file="{found["file"]}" href="{found["href"]}"{hidden}>'

    return BUTTON.sub(show, page)


def offer(site: Path, root: str = ROOT) -> None:
    """Show on the first page of a site what is beside it."""
    page = site / root
    old = page.read_text("utf-8")
    new = offered(old, lambda address: (page.parent / address).is_file())
    if new != old:
        page.write_text(new, encoding="utf-8")


def _offer(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.name == "html":
        offer(Path(app.outdir), app.builder.get_target_uri(app.config.root_doc))


def setup(app: Sphinx) -> None:
    app.add_node(Offered)
    app.add_directive("moving-figure", MovingFigure)
    app.add_directive("offers", Offers)
    app.connect("doctree-resolved", _fill)
    app.connect("build-finished", _offer)
