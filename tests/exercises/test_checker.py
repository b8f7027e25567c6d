"""The mechanism of the checkers on an exercise of its own: what it says, what it accepts, what it survives."""

import json
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from rope_lab.exercises.calling import Outcome
from rope_lab.exercises.checker import Draw, Exercise


def draws(d: Draw):
    yield d.tensor(2), 2
    yield d.tensor(5), d.whole(3, 9)
    yield d.tensor(30), 4


times = Exercise(
    "9.1",
    "times",
    lambda x, n: x * n,
    draws,
    {
        "you add": lambda x, n: x + n,
        "you take the power": lambda x, n: x**n,
        "you multiply by n + 2 − 2": lambda x, n: x + n + 0,
    },
    right="well multiplied.",
    properties={"the sign stays the same": lambda y, x, n: bool((y.sign() == x.sign()).all())},
)
total = Exercise("9.2", "total", lambda x, n: int(n), draws, {}, right="counted.")
blind = Exercise("9.3", "blind", lambda x, n: n > 2, draws, {}, right="seen.")


def between(low: int, high: int) -> int | None:
    return low + 1 if low + 1 < high else None


def not_between(y: Tensor, low: int, high: int) -> str:
    return "" if low < y < high else f"{y:g} is not between {low} and {high}."


inside = Exercise(
    "9.5",
    "inside",
    between,
    lambda d: [(4, 5), (0, 9), (d.whole(20, 30), d.whole(40, 50))],
    {
        "this is the lower end": lambda low, high: low,
        "you take the middle without a look at the ends": lambda low, high: (low + high) // 2,
        "there is none for every input": lambda low, high: None if low == 4 else high,
    },
    right="one of many.",
    fault=not_between,
)


@pytest.mark.parametrize(
    "answer",
    [
        between,
        lambda low, high: high - 1 if high - 1 > low else None,
        lambda low, high: next((torch.tensor([x]) for x in range(low + 1, high)), None),
    ],
)
def test_any_answer_without_a_fault_passes(answer) -> None:
    assert inside(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda low, high: low,
            "for low = 4, high = 5: 4 is not between 4 and 5. Likely: this is the lower end.",
        ),
        (lambda low, high: (low + high) // 2, "Likely: you take the middle without"),
        (lambda low, high: None if low == 4 else high, "9 is not between 0 and 9. Likely: there is none for"),
        (lambda low, high: None, "your function returns nothing yet."),
        (lambda low, high: None if low < 20 else low + 1, "None, but there is an answer. (2 of 3 inputs"),
        (lambda low, high: low + 1, "for low = 4, high = 5: 5 is not between 4 and 5. (2 of 3 inputs"),
        (lambda low, high: float("nan"), "return finite numbers, got float of shape ()."),
        (lambda low, high: [low, high], "there is nothing to judge in what your function returns, got list"),
        (lambda low, high: None if low == 4 else 5.5, "return an integer, got 5.5 (float)."),
        (lambda low, high: None if low == 4 else [1, 2], "return one integer (shape ()), got shape (2,)."),
        (lambda low, high: {"a": 1} if low else None, "there is nothing to judge"),
        (lambda low, high: None if low == 4 else {"a": 1}, "return a tensor or numbers, got a dict."),
    ],
)
def test_an_answer_with_a_fault_does_not(answer, words: str) -> None:
    verdict = inside(answer)
    assert not verdict
    assert words in verdict.message


def test_a_property_is_not_asked_about_an_input_that_the_function_changes() -> None:
    longer = Exercise(
        "9.6", "longer", lambda x: x + 1, lambda d: [(d.tensor(2),)], {}, right="", fault=lambda y, x: ""
    )
    assert longer(lambda x: x * 5)
    assert "changes x in place" in longer(lambda x: x.mul_(2)).message


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, n: x * n,
        lambda x, n: (x * n).tolist(),
        lambda x, n: tuple(x * n),
        lambda x, n: [Fraction(v) * n for v in x.tolist()],
        lambda x, n: x.numpy() * np.float32(n),
        lambda x, n: x.float() * n,
    ],
)
def test_every_form_of_a_correct_answer_passes(answer) -> None:
    assert times(answer)


def test_a_function_in_single_precision_is_asked_in_single_precision() -> None:
    assert times(lambda x, n: torch.eye(len(x)) @ x * n)  # float32 @ float64 raises an error


@pytest.mark.parametrize(
    "answer", [int, float, np.int64, np.float64, torch.tensor, lambda n: torch.tensor([n])]
)
def test_one_number_may_be_of_any_kind(answer) -> None:
    assert total(lambda x, n: answer(n))


@pytest.mark.parametrize(
    ("exercise", "answer", "words"),
    [
        (times, lambda x, n: x + n, "Likely: you add; or: you multiply by n + 2 − 2."),
        (times, lambda x, n: -x * n, "The sign stays the same."),
        (times, lambda x, n: x * 2, "(1 of 3 inputs are right.)"),
        (times, lambda x, n: x * n + 1e-3, "first difference at [0]: expected "),
        (times, lambda x, n: (x * n).half(), "few digits of torch.float16"),
        (times, lambda x, n: (x * n).to(torch.complex64), "return a real tensor"),
        (times, lambda x, n: x > 0, "return numbers, got torch.bool"),
        (times, lambda x, n: {"": x}, "first difference"),
        (times, lambda x, n: {"a": x}, "got a dict"),
        (times, lambda x, n: [[1], [1, 2]], "different shapes"),
        (times, lambda x, n: x.to("meta"), "meta device"),
        (times, lambda x, n: x * float("nan"), "got nan"),
        (times, lambda x, n: x.mul_(n), "changes x in place"),
        (times, lambda x, n: x[:1] * n, "expected shape (2,), got (1,)"),
        (times, lambda x, n: [0] * 10_000_000, "got 10,000,000 of them"),
        (times, lambda x, n: sys.exit("bye"), "raises SystemExit: bye"),
        (times, lambda x, n: n.missing, "raises AttributeError"),
        (total, lambda x, n: n + 0.5, "return an integer, got 2.5 (float)"),
        (total, lambda x, n: True, "return an integer, got True (bool)"),
        (total, lambda x, n: x, "return an integer, got torch.float64 of shape (2,)"),
        (total, lambda x, n: x.long(), "return one integer (shape ()), got shape (2,)"),
        (total, lambda x, n: 10**400, "expected 2, got 1000"),
        (blind, lambda x, n: 1.0, "return one truth value, got 1.0 (float)"),
    ],
)
def test_what_is_wrong_is_said(exercise: Exercise, answer, words: str) -> None:
    verdict = exercise(answer)
    assert not verdict
    assert words in verdict.message


def test_as_many_digits_as_tell_two_numbers_apart() -> None:
    exercise = Exercise("9.4", "f", lambda x: 1.0, lambda d: [(0,)], {}, right="", tolerance=1e-9)
    assert "expected 1, got 1.0000002." in exercise(lambda x: 1.0000002).message


def test_the_smallest_failing_input_is_shown() -> None:
    def answer(x: Tensor, n: int) -> Tensor:
        return x * n if len(x) == 2 else x * 0

    assert "for x = [" in times(answer).message
    assert len(times.cases()[1].inputs[0]) == 5


def forever(x: Tensor, n: int) -> Tensor:
    while True:
        pass


def test_an_endless_loop_ends() -> None:
    assert "runs for more than 0.2 seconds" in times(forever, seconds=0.2).message


def test_an_endless_loop_ends_in_another_thread_too() -> None:
    messages: list[str] = []
    thread = threading.Thread(target=lambda: messages.append(times(forever, seconds=0.2).message))
    thread.start()
    thread.join(20)
    assert "runs for more than 0.2 seconds" in messages[0]


def test_little_is_printed(capsys) -> None:
    def loud(x: Tensor, n: int) -> Tensor:
        print("a" * 3_000_000)
        return x * n

    assert times(loud)
    assert len(capsys.readouterr().out) < 10_000


def test_patching_torch_does_not_help(monkeypatch) -> None:
    def patching(x: Tensor, n: int) -> Tensor:
        monkeypatch.setattr(torch, "allclose", lambda *_, **__: True)
        monkeypatch.setattr(torch, "equal", lambda *_: True)
        monkeypatch.setattr(Tensor, "__eq__", lambda *_: True)
        monkeypatch.setattr(Tensor, "__mul__", lambda a, _: a)
        return x

    assert not times(patching)
    assert not times(lambda x, n: x * n)  # multiplication is still replaced, the expected values are not


def test_random_numbers_go_on_as_before() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    times(lambda x, n: x * torch.rand(1))
    assert torch.equal(torch.rand(3), expected)


def test_an_outcome_survives_json() -> None:
    inputs = [case.inputs for case in times.cases()]
    answers = [lambda x, n: x * n, lambda x, n: x * 1j, lambda x, n: 1 / 0]
    for outcome in (one for answer in answers for one in times.ask(answer, inputs)):
        assert Outcome.of(json.loads(json.dumps(outcome.plain()))) == outcome


def test_a_wrong_shape_is_drawn_beside_the_right_one() -> None:
    verdict = times(lambda x, n: torch.stack((x * n, x)))
    picture = verdict._repr_html_()
    assert "yours: shape (2, 2)" in picture
    assert "expected: shape (2,)" in picture
    assert picture.count("<td") == 6
    assert "color:" not in picture.replace("currentColor", "")  # the page's own colours, light or dark
    assert repr(verdict).startswith("✗ exercise 9.1: for x = [")
    assert "<" not in repr(verdict)


def test_a_large_tensor_is_drawn_in_part() -> None:
    picture = times(lambda x, n: torch.ones(3, 50, 50) if len(x) == 2 else x * n)._repr_html_()
    assert picture.count("<td") < 60
    assert "50 rows" in picture
    assert "the first of them" in picture


@pytest.mark.parametrize(
    "answer", [lambda x, n: x * n, lambda x, n: x + n, lambda x, n: None, lambda x, n: 1 / 0]
)
def test_nothing_is_drawn_where_no_shape_is_wrong(answer) -> None:
    assert times(answer)._repr_html_() is None


def test_the_default_dtype_goes_on_as_before() -> None:
    def change(x: Tensor, n: int) -> Tensor:
        torch.set_default_dtype(torch.float64)
        return x * n

    assert times(change)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, n: (x * n)[None], "in the correct order; only the shape is not"),
        (lambda x, n: (x + n)[None], "expected shape (2,), got (1, 2)."),
    ],
)
def test_right_numbers_in_a_wrong_shape_are_called_so(answer, words: str) -> None:
    assert words in times(answer).message


def test_the_same_error_as_that_of_a_mistake_names_it() -> None:
    look = Exercise(
        "9.7",
        "look",
        lambda x, n: x[n - 1],
        lambda d: [(d.tensor(n), n) for n in (2, 3, 4)],
        {"places are counted from 0": lambda x, n: x[n], "from the end": lambda x, n: x[-n]},
        right="seen.",
    )
    named, unnamed = look(lambda a, b: a[b]), look(lambda a, b: a[b + 1])
    assert "raises IndexError: index 2 is out of bounds" in named.message
    assert named.message.endswith("Likely: places are counted from 0.")
    assert "raises IndexError: index 3 is out of bounds" in unnamed.message
    assert "Likely" not in unnamed.message


def test_whoever_means_none_is_told_an_input_that_has_another_answer() -> None:
    sometimes = Exercise("9.8", "free", between, lambda d: [(4, 5), (0, 9)], {}, right="", fault=not_between)
    assert sometimes(lambda low, high: None).message == (
        "your function returns nothing yet. If None is your answer: there is another for low = 0, high = 9."
    )
