"""Chapters that the text names: "chapter 5" becomes a link, and one that does not exist is called planned.

`pieces` of `rope_lab.exercises.plain` is the one reading of such a mention; pages link it here, notebooks there.
"""

from __future__ import annotations

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform

from rope_book.chapters import number
from rope_lab.exercises.plain import MENTION, pieces

# What is not prose, or a link already.
OTHER = (
    nodes.literal,
    nodes.literal_block,
    nodes.reference,
    nodes.title,
    nodes.raw,
    nodes.math,
    nodes.math_block,
)


def written(env: BuildEnvironment) -> dict[int, str]:
    """The chapters that exist: {3: "notebooks/03_deriving_rope"}."""
    return {found: name for name in env.found_docs if (found := number(name)) is not None}


class LinkChapters(SphinxPostTransform):
    """Before the resolver of links, in every format; a chapter's own page has no link to itself."""

    default_priority = 5

    def run(self, **kwargs: object) -> None:
        here = self.env.docname
        chapters = written(self.env)
        _join_lines(self.document)
        for text in list(self.document.findall(nodes.Text)):
            if _is_prose(text) and MENTION.search(text):
                found = [
                    self._link(piece, page) if page not in {None, here} else nodes.Text(piece)
                    for piece, page in pieces(str(text), chapters)
                ]
                text.parent.replace(text, found)

    def _link(self, text: str, page: str | None) -> nodes.Node:
        inner = nodes.inline("", text, classes=["std", "std-doc"])
        target = {"refdomain": "std", "reftype": "doc", "refexplicit": True, "reftarget": f"/{page}"}
        return addnodes.pending_xref("", inner, refdoc=self.env.docname, refwarn=True, **target)


def _join_lines(document: nodes.document) -> None:
    """MyST makes a text of each line, and a mention may be broken between two."""
    for text in list(document.findall(nodes.Text)):
        siblings = text.parent.children
        index = next(i for i, node in enumerate(siblings) if node is text)
        if index and isinstance(before := siblings[index - 1], nodes.Text):
            joined = nodes.Text(str(before) + str(text))
            joined.parent = text.parent
            siblings[index - 1 : index + 1] = [joined]


def _is_prose(text: nodes.Text) -> bool:
    node = text.parent
    while node is not None:
        if isinstance(node, (*OTHER, addnodes.pending_xref, addnodes.desc_signature)):
            return False
        node = node.parent
    return True


def setup(app: Sphinx) -> None:
    app.add_post_transform(LinkChapters)
