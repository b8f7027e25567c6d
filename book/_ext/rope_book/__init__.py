"""The book's own Sphinx extension, in four parts.

chapters   reads py:percent files, keys the execution cache on the package, publishes the executed notebooks
numbering  numbers equations and figures by chapter: (3.4), Figure 3.2
ledger     lists every check of the build, and fails the build where a chapter has none
assets     MathJax served from the book itself, and no image without words for those who cannot see it
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from rope_book import assets, chapters, ledger, numbering


def setup(app: Sphinx) -> dict[str, Any]:
    for part in (chapters, numbering, ledger, assets):
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
