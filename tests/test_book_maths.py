"""Formulas as the build sets them: for the eye and for the ear, and none that KaTeX does not know."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from py_mini_racer import JSEvalException

from rope_book.maths import Setter, shown


@pytest.fixture(scope="module")
def setter() -> Iterator[Setter]:
    setter = Setter()
    yield setter
    setter.close()


def test_a_formula_is_html_and_mathml_and_keeps_its_tex(setter):
    page = setter.html(r"T_m^{\top} \theta_i < 1", False)
    assert '<annotation encoding="application/x-tex">T_m^{\\top} \\theta_i &lt; 1</annotation>' in page
    assert 'aria-hidden="true"' in page
    assert "katex-display" not in page
    assert "katex-display" in setter.html("x", True)


@pytest.mark.parametrize("tex", [r"\nope{x}", "x_", r"\frac{1}", "é = ü"])
def test_what_is_no_formula_is_refused(setter, tex):
    with pytest.raises(JSEvalException):
        setter.html(tex, False)


def test_lines_of_an_equation_stand_in_an_environment():
    assert shown(" a = b ") == "a = b"
    assert shown(r"a &= b \\ c &= d") == r"\begin{split}a &= b \\ c &= d\end{split}"
    assert shown("\n\\begin{aligned} a \\\\ b \\end{aligned}\n").startswith(r"\begin{aligned}")
