"""Printed results as tables: semantic HTML for the page, aligned text for the terminal."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from rope_lab.figures.table import table

ROWS = [["RoPE", 1.7421, -0.351], ["ALiBi & T5", 10.8, None], ["`NoPE`", np.float32(2.5), torch.tensor(0.25)]]
COLUMNS = {"encoding": "", "loss": ".3f", "change": "+.1%"}


class Cells(HTMLParser):
    """The tree of a table as (tag, attributes, text), and a check that every tag is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag in {"th", "td", "caption", "p"}:
            self.cells.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"th", "td", "caption", "p"} & set(self.open):
            tag, attributes, text = self.cells[-1]
            self.cells[-1] = (tag, attributes, text + data)


def test_text_is_aligned():
    assert str(table(ROWS, COLUMNS, caption="Three of them.", provenance="made up")).splitlines() == [
        "Three of them.",
        "",
        "encoding      loss  change",
        "──────────  ──────  ──────",
        "RoPE         1.742  -35.1%",
        "ALiBi & T5  10.800",
        "NoPE         2.500  +25.0%",
        "",
        "made up",
    ]


def test_html_has_headings_with_a_scope_and_numbers_flush_right():
    cells = Cells(table(ROWS, COLUMNS, caption="Three of them.", provenance="made up")._repr_html_()).cells
    assert cells[0][::2] == ("caption", "Three of them.")
    assert cells[-1][::2] == ("p", "made up")
    heads, body = cells[1:4], cells[4:-1]
    assert [(tag, attributes["scope"]) for tag, attributes, _ in heads] == [("th", "col")] * 3
    assert [attributes.get("scope") for _, attributes, _ in body[::3]] == ["row"] * 3
    assert [text for _, _, text in body] == [
        "RoPE", "1.742", "−35.1%", "ALiBi & T5", "10.800", "", "NoPE", "2.500", "+25.0%",
    ]  # fmt: skip
    for column in (1, 2):
        assert all("right" in str(attributes["style"]) for _, attributes, _ in body[column::3])
    assert all("left" in str(attributes["style"]) for _, attributes, _ in body[::3])


def test_a_reader_without_a_mouse_can_scroll_it():
    page = table(ROWS, COLUMNS)._repr_html_()
    assert 'role="region" tabindex="0" aria-label="Table: encoding, loss, change"' in page
    assert "<caption>" not in page
    assert "rope-provenance" not in page


def test_numbers_in_small_and_mixed_forms():
    page = table(
        [["a", 3.1e-6, "1.742 ± 0.003", "×2"], ["b", 0.0, "-0.4 ± 0.1", "×16"]],
        {"name": "", "error": ".1e", "loss": "", "factor": ""},
    )._repr_html_()
    assert "3.1 ×&nbsp;10<sup>−6</sup>" in page
    assert ">0</td>" in page
    assert "−0.4 ± 0.1" in page
    assert page.count("text-align: right") == 9  # three columns, the heading too
    assert str(table([["a", 3.1e-6]], {"name": "", "error": ".1e"})).endswith("3.1e-06")


def test_markup_cannot_enter_by_a_cell():
    page = table([["<b>x</b>", 1]], ["na<me", "n"], caption='"<i>')._repr_html_()
    assert "&lt;b&gt;x" in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert 'aria-label="&quot;&lt;i&gt;"' in page


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        ([["a"]], ["x", "y"], "2 cells"),
        (["ab"], ["x", "y"], "2 cells"),
        ([], ["x"], "one row or more"),
        ([[]], [], "columns"),
        ([[1, 2]], ["x", "x"], "different headings"),
    ],
)
def test_what_is_no_table_is_refused(rows, columns, said):
    with pytest.raises(ValueError, match=said):
        table(rows, columns)
