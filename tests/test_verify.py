"""A check passes what holds, fails what does not, and says where; nothing passes by default."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import sympy
import torch

from rope_lab.verify import STORED, CheckFailed, check, check_at_most, check_exact


def test_prints_one_line_with_error_draws_and_dtype(capsys):
    left = torch.zeros(1000, 3, dtype=torch.float64)
    right = left.clone()
    right[7, 1] = 2.0**-51
    check("eq. 3.4", left, right)
    assert capsys.readouterr().out == "✓ eq. 3.4: max |difference| 4.4e-16 over 3,000 values, float64\n"


def test_a_number_is_one_draw(capsys):
    check("eq. 1.1", 0.1 + 0.2, 0.3)
    assert capsys.readouterr().out == "✓ eq. 1.1: max |difference| 5.6e-17 over 1 value, float64\n"


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.complex128, 1e-12), (torch.float32, 1e-5), (torch.complex64, 1e-5)],
)
@pytest.mark.parametrize("scale", [0.001, 1.0, 1000.0])
def test_default_tolerance_scales_with_the_right_side_above_one(dtype, tolerance, scale):
    right = torch.full((4,), scale, dtype=dtype)
    step = tolerance * max(1.0, scale)
    check("inside", right + 0.9 * step, right)
    with pytest.raises(CheckFailed, match="outside"):
        check("outside", right + 1.2 * step, right)


def test_the_left_side_does_not_widen_the_tolerance():
    with pytest.raises(CheckFailed):
        check("scale", torch.tensor([1e9]), torch.tensor([0.0]))


def test_the_coarser_type_sets_the_tolerance():
    exact = torch.full((3,), 1 / 3, dtype=torch.float64)
    check("mixed", exact.float(), exact)
    with pytest.raises(CheckFailed):
        check("mixed", exact + 1e-8, exact)


def test_failure_names_label_size_index_and_both_values():
    left, right = np.zeros((2, 3)), np.zeros((2, 3))
    left[1, 2], right[1, 2] = 0.5, -0.25
    with pytest.raises(CheckFailed) as failure:
        check("eq. 5.2", left, right)
    assert str(failure.value) == (
        "eq. 5.2: max |difference| 7.5e-01 exceeds 1.0e-12 at (1, 2): left 0.5, right -0.25 (float64)"
    )


def test_failure_of_single_numbers_and_complex_numbers():
    with pytest.raises(CheckFailed, match=r"at \(\): left 1, right 2"):
        check("scalar", 1.0, 2.0)
    with pytest.raises(CheckFailed, match=r"left 0\+1j, right 0-1j"):
        check("sign", torch.tensor([1j]), torch.tensor([complex(0, -1)]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sides", ["left", "right", "both"])
def test_nan_and_infinity_fail_even_where_the_sides_agree(bad, sides):
    good, spoilt = torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [bad, 0.0]])
    left, right = (good if sides == "right" else spoilt), (good if sides == "left" else spoilt)
    with pytest.raises(CheckFailed, match=r"at \(1, 0\)"):
        check("finite", left, right)
    with pytest.raises(CheckFailed, match=r"at \(1, 0\)"):
        check_at_most("finite", left + 1, right + 1)


@pytest.mark.parametrize(("left", "right"), [((3, 4), (4,)), ((3, 1), (3, 4)), ((1,), ()), ((2, 3), (3, 2))])
def test_nothing_broadcasts(left, right):
    with pytest.raises(CheckFailed, match="shape"):
        check("shapes", torch.zeros(left), torch.zeros(right))
    with pytest.raises(CheckFailed, match="shape"):
        check_at_most("shapes", torch.zeros(left), torch.ones(right))


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_nothing_to_compare_fails(shape):
    with pytest.raises(CheckFailed, match="nothing to compare"):
        check("empty", torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(CheckFailed, match="nothing to compare"):
        check_at_most("empty", torch.zeros(shape), 1.0)


def test_whole_numbers_and_truth_values_are_exact(capsys):
    check("ids", torch.tensor([1, 2, 3]), [1, 2, 3])
    with pytest.raises(CheckFailed):
        check("beyond float64", torch.tensor([2**53]), torch.tensor([2**53 + 1]))
    check("mask", torch.tensor([True, False]), np.array([True, False]))
    assert "int64" in capsys.readouterr().out
    with pytest.raises(CheckFailed):
        check("ids", torch.tensor([1, 2, 3]), torch.tensor([1, 2, 4]))
    with pytest.raises(CheckFailed):
        check("mask", torch.tensor([True]), torch.tensor([False]))


def test_half_precision_needs_a_tolerance_and_takes_one():
    value = torch.ones(3, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"tolerance .* bfloat16"):
        check("half", value, value)
    check("half", value, value.double() + 0.003, tolerance=0.004)
    with pytest.raises(CheckFailed):
        check("half", value, value.double() + 0.005, tolerance=0.004)


def test_an_imaginary_part_counts_beside_a_coarser_real_type():
    with pytest.raises(CheckFailed):
        check("complex", torch.tensor([1 + 2j]), torch.tensor([1.0], dtype=torch.bfloat16), tolerance=0.1)


def test_tensors_that_need_gradients_are_compared_by_value():
    weight = torch.nn.Parameter(torch.ones(2))
    check("parameters", weight * 2, torch.tensor([2.0, 2.0]))


@pytest.mark.parametrize("tolerance", [-1e-9, math.nan, math.inf, "tight"])
def test_a_senseless_tolerance_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        check("tolerance", 1.0, 1.0, tolerance=tolerance)


@pytest.mark.parametrize("label", ["", "  ", None, 3])
def test_a_check_has_a_name(label):
    with pytest.raises(ValueError, match="label"):
        check(label, 1.0, 1.0)


@pytest.mark.parametrize("value", ["text", None, [[1.0], [1.0, 2.0]]])
def test_what_is_no_array_of_numbers_is_refused(value):
    with pytest.raises(TypeError, match="left"):
        check("type", value, 1.0)


def test_at_most_reports_the_largest_ratio(capsys):
    check_at_most("eq. 6.2", torch.tensor([0.5, -3.0, 0.93], dtype=torch.float64), torch.ones(3))
    assert capsys.readouterr().out == "✓ eq. 6.2: at most 0.93 of the bound over 3 values, float32\n"


def test_at_most_allows_rounding_and_no_more():
    bound = torch.ones(2, dtype=torch.float64)
    check_at_most("bound", bound + 1e-13, bound)
    with pytest.raises(CheckFailed, match=r"is 1\.001 of its bound at \(1,\): left 2\.002, bound 2"):
        check_at_most("bound", torch.tensor([1.0, 2.002]).double(), torch.tensor([1.0, 2.0]).double())


def test_at_most_takes_one_number_for_all():
    check_at_most("bound", torch.rand(5, 2), 1.0)
    with pytest.raises(CheckFailed):
        check_at_most("bound", torch.full((5, 2), 1.5), 1)


@pytest.mark.parametrize("bound", [0.0, -1.0])
def test_at_most_needs_a_bound_above_zero(bound):
    with pytest.raises(ValueError, match="bound must be above zero"):
        check_at_most("bound", torch.zeros(2), bound)


def test_at_most_has_no_order_for_complex_numbers():
    with pytest.raises(TypeError, match="real"):
        check_at_most("complex", torch.tensor([1j]), torch.tensor([2.0]))


def test_exact_proves_and_refutes(capsys):
    m, n = sympy.symbols("m n", real=True)
    check_exact("eq. 3.1", sympy.exp(sympy.I * m) * sympy.exp(-sympy.I * n) - sympy.exp(sympy.I * (m - n)))
    check_exact("eq. 3.2", sympy.Eq(sympy.cos(m) ** 2 + sympy.sin(m) ** 2, 1))
    rotation = sympy.Matrix([[sympy.cos(m), -sympy.sin(m)], [sympy.sin(m), sympy.cos(m)]])
    check_exact("eq. 3.3", rotation * rotation.T - sympy.eye(2))
    assert capsys.readouterr().out.splitlines()[0] == "✓ eq. 3.1: difference simplifies to 0"
    with pytest.raises(CheckFailed, match=r"eq\. 3\.4: the difference simplifies to"):
        check_exact("eq. 3.4", sympy.cos(m) - sympy.sin(m))
    with pytest.raises(CheckFailed, match="at entry 1"):
        check_exact("eq. 3.5", rotation - sympy.diag(sympy.cos(m), sympy.cos(m)))
    with pytest.raises(CheckFailed, match="nothing to compare"):
        check_exact("eq. 3.6", sympy.zeros(0, 0))


@pytest.mark.parametrize("value", [True, 0.0, "m - m"])
def test_exact_takes_only_sympy(value):
    with pytest.raises(TypeError, match="SymPy"):
        check_exact("type", value)


def outputs_of(source):
    """The outputs of one cell in a kernel of its own."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return notebook.cells[0].outputs


def test_a_notebook_stores_the_numbers_with_the_line():
    (output,) = outputs_of(
        "from rope_lab.verify import check\ncheck('eq. 9.9', [1.0, 2.0], [1.0, 2.0], draws=2)"
    )
    assert output.output_type == "display_data"
    assert output.data == {"text/plain": "✓ eq. 9.9: max |difference| 0 over 2 draws, float64"}
    assert output.metadata[STORED] == [
        {
            "label": "eq. 9.9",
            "kind": "equal",
            "error": 0.0,
            "tolerance": 2e-12,
            "reason": "rounding",
            "values": 2,
            "draws": 2,
            "dtype": "float64",
        }
    ]


def test_many_checks_of_one_equation_become_one_line_that_unfolds():
    first, second, third = outputs_of(
        "from rope_lab.verify import check, check_at_most\n"
        "for n in (1, 10, 1_000):\n"
        "    check(f'eq. 9.1, N < {n:,}', [1.0, 2.0], [1.0, 2.0 + n / 2**50], tolerance=1e-9)\n"
        "for n in (1, 2):\n"
        "    check(f'eq. 9.2, N = {n}', n, n)\n"
        "for n in (1, 2, 3, 4):\n"
        "    check_at_most(f'the bound, {n}', n, 4.0)"
    )
    assert [len(output.metadata[STORED]) for output in (first, second, third)] == [3, 2, 4]
    assert [entry["label"] for entry in first.metadata[STORED]] == [
        "eq. 9.1, N < 1",
        "eq. 9.1, N < 10",
        "eq. 9.1, N < 1,000",
    ]
    summary = "✓ eq. 9.1: 3 checks, max |difference| 8.9e-13"
    assert first.data["text/plain"].splitlines()[0] == summary
    assert len(first.data["text/plain"].splitlines()) == 4
    assert f"<summary>{summary}</summary>" in first.data["text/html"]
    assert "✓ eq. 9.1, N &lt; 10: max |difference| 8.9e-15" in first.data["text/html"]
    assert second.data["text/plain"].count("✓") == 2
    assert "text/html" not in second.data
    assert "<summary>✓ the bound: 4 checks, at most 1 of the bound</summary>" in third.data["text/html"]


def test_draws_are_said_only_where_something_was_drawn(capsys):
    matrix = torch.zeros(3, 4)
    check("one matrix", matrix, matrix)
    check("seven draws", matrix, matrix, draws=7)
    check("one draw", matrix, matrix, draws=1)
    check_at_most("bound", matrix, 1.0, draws=1_000)
    said = [line.partition(" over ")[2] for line in capsys.readouterr().out.splitlines()]
    assert said == ["12 values, float32", "7 draws, float32", "1 draw, float32", "1,000 draws, float32"]


@pytest.mark.parametrize("draws", [0, -1, 2.0, True, "many"])
def test_draws_are_counted(draws):
    with pytest.raises(ValueError, match="draws"):
        check("draws", 1.0, 1.0, draws=draws)


def test_a_tolerance_that_is_not_for_rounding_says_so(capsys):
    check("eq. 2.15", 1.0, 1.0 + 2**-10, tolerance=0.05, reason="sampling", draws=400)
    said = "✓ eq. 2.15: max |difference| 9.8e-04 (5e-02 allowed for sampling) over 400 draws, float64\n"
    assert capsys.readouterr().out == said
    with pytest.raises(ValueError, match=r"reason must be one of rounding, sampling, .*, got 'luck'"):
        check("eq. 2.15", 1.0, 1.0, tolerance=0.05, reason="luck")


def test_works_where_ipython_is_not_loaded():
    code = (
        "import sys; from rope_lab.verify import check; check('a', 1.0, 1.0); print('IPython' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", code], capture_output=True, check=True)
    assert done.stdout.decode() == "✓ a: max |difference| 0 over 1 value, float64\nFalse\n"
