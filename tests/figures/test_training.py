"""The progress of several trainings in one cell of a notebook."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from rope_lab.figures.training import in_turn


def test_each_name_is_announced_before_its_turn(capsys: pytest.CaptureFixture[str]) -> None:
    seen = {}
    for name in in_turn(["RoPE", "none"]):
        seen[name] = capsys.readouterr().out
    assert seen == {"RoPE": "training 1 of 2: RoPE\n", "none": "training 2 of 2: none\n"}


def test_the_notebook_keeps_the_result_alone() -> None:
    code = "from rope_lab.figures.training import in_turn\n"
    code += "found = {n: n**2 for n in in_turn([2, 3])}\nprint(found)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert [output.get("text") for output in notebook.cells[0].outputs] == ["{2: 4, 3: 9}\n"]
