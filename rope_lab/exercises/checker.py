"""An exercise as data: its reference, how its inputs are drawn, its properties and its known mistakes.

From these a checker finds the smallest input on which an answer is wrong, and the mistake that gives the same results
as the answer on every input. One input could fit several mistakes; the inputs together tell them apart.

Where a question has many right answers (a counterexample, an input on which two functions differ), the reference is one
of them, and `Exercise.fault` judges what was returned by a property of it.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from rope_lab.exercises.calling import Outcome, call, raised
from rope_lab.exercises.drawing import side_by_side
from rope_lab.exercises.feedback import Feedback
from rope_lab.exercises.values import (
    NOTHING,
    Value,
    Values,
    finite,
    first_difference,
    fit,
    number,
    read,
    same,
)

PUBLIC = 0  # the seed of the pages; whoever grades takes another one
SECONDS = 10.0  # for one call
NAMES = {"truth": "truth value", "whole": "integer", "real": "number", "complex": "complex number"}
ROUND = {"torch.float16", "torch.bfloat16", "numpy.float16"}


class Draw:
    """Random inputs from one seed. Real numbers have one decimal, so that a message can show them as they are."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return self._random.randint(low, high)

    def real(self, low: float, high: float) -> float:
        """A number from low to high with one decimal that is not 0 and not whole."""
        return next(
            x / 10 for x in iter(lambda: self.whole(round(10 * low), round(10 * high)), None) if x % 10
        )

    def one_of(self, *choices: Any) -> Any:
        """One of the choices."""
        return self._random.choice(choices)

    def tensor(self, *shape: int, low: float = -3, high: float = 3) -> Tensor:
        """Real numbers in float64, none of them 0."""
        count = torch.Size(shape).numel()
        return torch.tensor([self.real(low, high) for _ in range(count)], dtype=torch.float64).reshape(shape)

    def wholes(self, *shape: int, low: int, high: int) -> Tensor:
        """Whole numbers from low to high, both included, in int64."""
        count = torch.Size(shape).numel()
        return torch.tensor([self.whole(low, high) for _ in range(count)], dtype=torch.int64).reshape(shape)

    def order(self, n: int) -> Tensor:
        """The numbers 0 to n - 1 in random order."""
        return torch.tensor(self._random.sample(range(n), n), dtype=torch.int64)


Inputs = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """One input with its right result; without any value where the right result is None."""

    inputs: Inputs
    expected: Values


@dataclass(frozen=True)
class Exercise:
    """A checker. Call it with a function, and it returns a verdict that says what is wrong.

    Attributes:
        number: of the exercise, such as "3.1".
        name: of the function that the student writes.
        reference: the correct function, which also has the names of the arguments.
        draws: the inputs for a source of random numbers; a few small ones, each edge case, and some that are larger.
        mistakes: diagnosis → the function that this mistake gives, the likeliest first.
        right: what to say when the answer is correct.
        properties: sentence → whether the property it names holds for (result as a tensor, *inputs). The sentence of
            the first property that fails is said where no mistake fits.
        tolerance: the largest difference that counts as equal, in parts of the larger of 1 and the expected number.
        fault: where many answers are right, what is wrong with (result as a tensor, *inputs), as a sentence, or "".
            The reference is then one right answer: the others have its form and shape. It returns None for inputs
            without a right answer; None is wrong wherever the reference finds one.
    """

    number: str
    name: str
    reference: Callable[..., Any]
    draws: Callable[[Draw], Iterable[Inputs]]
    mistakes: Mapping[str, Callable[..., Any]]
    right: str
    properties: Mapping[str, Callable[..., bool]] = field(default_factory=dict)
    tolerance: float = 1e-5
    fault: Callable[..., str] | None = None
    _public: tuple[Case, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # computed with the module, before a student's code can have replaced anything that it uses
        object.__setattr__(self, "_public", self._cases(PUBLIC))

    def __call__(
        self, function: Callable[..., Any], *, seed: int = PUBLIC, seconds: float = SECONDS
    ) -> Feedback:
        """The verdict on a function.

        Args:
            function: the student's.
            seed: of the inputs.
            seconds: for one call, after which the function is stopped.
        """
        cases = self.cases(seed)
        outcomes = self.ask(function, [case.inputs for case in cases], seconds=seconds)
        return self.judge(outcomes, cases)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of the arguments."""
        return tuple(inspect.signature(self.reference).parameters)

    def cases(self, seed: int = PUBLIC) -> tuple[Case, ...]:
        """The inputs of a seed with their right results, the smallest first."""
        return self._public if seed == PUBLIC else self._cases(seed)

    def _cases(self, seed: int) -> tuple[Case, ...]:
        cases = [Case(inputs, self._read(self.reference(*inputs))) for inputs in self.draws(Draw(seed))]
        return tuple(sorted(cases, key=_size))

    def ask(self, function: object, inputs: Sequence[Inputs], *, seconds: float = SECONDS) -> list[Outcome]:
        """Call a function with every input. Only this runs what the student wrote."""
        if not callable(function):
            return [
                Outcome(None, f"hand over the function {self.name} itself, got {type(function).__name__}.")
            ]
        outcomes: list[Outcome] = []
        for given in inputs:
            outcomes.append(call(function, self.arguments, given, seconds=seconds))
            if outcomes[-1].ended:
                break
        return outcomes

    def judge(self, outcomes: Sequence[Outcome], cases: Sequence[Case]) -> Feedback:
        """The verdict on the outcomes of `ask` for these cases, which may come from another process."""
        if not all(case.expected for case in cases) and any(o.failure != NOTHING for o in outcomes):
            # None is an answer here, unless it is the only one, as it is of a function that is not written yet
            outcomes = [Outcome({}) if o.failure == NOTHING else o for o in outcomes]
        wrongs = [self._wrong(case, outcome) for case, outcome in zip(cases, outcomes, strict=False)]
        if len(outcomes) < len(cases) and not any(wrongs):
            wrongs.append("there is no result for some inputs.")
        place = next((i for i, wrong in enumerate(wrongs) if wrong), None)
        if place is None:
            return Feedback(self.number, True, self.right)
        if wrongs[place] == NOTHING and (hint := self._not_none(cases)):
            return Feedback(self.number, False, f"{NOTHING} {hint}")
        message = self._told(cases[place].inputs, wrongs[place])
        return Feedback(
            self.number,
            False,
            message + self._why(cases, outcomes, place),
            self._drawn(cases[place], outcomes[place]),
        )

    def _drawn(self, case: Case, outcome: Outcome) -> str:
        """A picture where one shape is wrong."""
        values = outcome.values or {}
        wrong = [(values[x], case.expected[x]) for x in values.keys() & case.expected.keys()]
        wrong = [(a, e) for a, e in wrong if a.shape != e.shape and fit(a, e, self.tolerance)[1] is None]
        return side_by_side(*wrong[0]) if wrong else ""

    def _not_none(self, cases: Sequence[Case]) -> str:
        """A sentence for whoever means None, where None is right for other inputs."""
        if all(case.expected for case in cases):
            return ""
        inputs = next(case.inputs for case in cases if case.expected)
        return f"If None is your answer: there is another for {self._shown(inputs)}."

    def _told(self, inputs: Inputs, wrong: str) -> str:
        if wrong == NOTHING or wrong.startswith(("hand over", "your code replaces")):
            return wrong
        return f"for {self._shown(inputs)}: {wrong}"

    def _shown(self, inputs: Inputs) -> str:
        return ", ".join(f"{name} {shown(x)}" for name, x in zip(self.arguments, inputs, strict=True))

    def _wrong(self, case: Case, outcome: Outcome) -> str:
        """What is wrong with one outcome, or nothing."""
        if outcome.values is None:
            return outcome.failure
        if self.fault and not outcome.values:
            return "your function returns None, but there is an answer." if case.expected else ""
        if self.fault and not case.expected:
            return self._at_fault(case, outcome.values)
        if odd := sorted(case.expected.keys() ^ outcome.values.keys()):
            if "" in case.expected:
                return "return a tensor or numbers, got a dict."
            names = f"return a dict with the names {', '.join(sorted(case.expected))}"
            plain = outcome.values.get("")
            return f"{names}, got {plain.form}." if plain else f"{names}; look at {odd[0]!r}."
        for name, expected in case.expected.items():
            actual, form = fit(outcome.values[name], expected, self.tolerance)
            whose = f"{name}: " if name else ""
            if form:
                return whose + form
            if actual.shape != expected.shape and expected.shape == ():
                return f"{whose}return one {NAMES[expected.kind]} (shape ()), got shape {actual.shape}."
            if actual.shape != expected.shape:
                return f"{whose}expected shape {expected.shape}, got {actual.shape}."
            if not self.fault and not same({"": actual}, {"": expected}, self.tolerance):
                if actual.form in ROUND and same({"": actual}, {"": expected}, 0.02):
                    return f"{whose}correct only to the few digits of {actual.form}; compute in float32 or float64."
                return whose + first_difference(actual, expected, self.tolerance)
        if self.fault and (wrong := self._at_fault(case, outcome.values)):
            return wrong
        if outcome.changed:
            return f"the result is correct, but your function changes {outcome.changed[0]} in place; work on a copy."
        return ""

    def _at_fault(self, case: Case, values: Values) -> str:
        """What is wrong with a result that is judged by itself and not by its difference from the reference."""
        assert self.fault is not None
        forms = ", ".join(f"{value.form} of shape {value.shape}" for value in values.values())
        if not all(map(finite, values.values())):
            return f"return finite numbers, got {forms}."
        try:
            results = {name: value.tensor() for name, value in values.items()}
            return self.fault(results.get("", results), *case.inputs)
        except Exception:  # the form is not known where there is no right answer
            return f"there is nothing to judge in what your function returns, got {forms}."

    def _why(self, cases: Sequence[Case], outcomes: Sequence[Outcome], place: int) -> str:
        """The mistakes that give the same results on every input, or else the first property that fails."""
        values = outcomes[place].values
        if values and same(self._fitted(cases[place], values), cases[place].expected, self.tolerance):
            return ""
        pairs = list(zip(cases, outcomes, strict=False))
        fits = {why: self._fits(mistake, pairs) for why, mistake in self.mistakes.items()}
        if best := max(fits.values(), default=0):
            likely = [why for why, fit in fits.items() if fit == best]
            return f" Likely: {'; or: '.join(likely)}."
        case = cases[place]
        if (
            values is not None
            and values.keys() == {""}
            and values[""].shape == case.expected.get("", values[""]).shape
        ):
            for sentence, holds in self.properties.items():
                with suppress(Exception):  # a property may be impossible to compute for such a result
                    if not holds(values[""].tensor(), *case.inputs):
                        return f" {sentence[0].upper()}{sentence[1:]}."
        if hint := self._rearranged(case, values):
            return hint
        count = sum(not self._wrong(*pair) for pair in pairs)
        return f" ({count} of {len(cases)} inputs are right.)" if count else ""

    def _rearranged(self, case: Case, values: Values | None) -> str:
        """A sentence if the numbers are the correct ones and only their axes are not."""
        if not values or values.keys() != {""} or case.expected.keys() != {""}:
            return ""
        actual, expected = values[""], case.expected[""]
        if self.fault or actual.shape == expected.shape or not len(actual.flat) == len(expected.flat) > 1:
            return ""
        if len(actual.shape) == len(expected.shape) < 6:
            for order in permutations(range(len(actual.shape))):
                moved = actual.tensor().permute(order)
                if same(read(moved), case.expected, self.tolerance):
                    return f" The numbers are correct, but the axes are in another order: .permute{order} mends it."
        plain = Value(expected.kind, expected.shape, actual.flat, actual.form)
        if same({"": plain}, case.expected, self.tolerance):
            return " The numbers are correct and in the correct order; only the shape is not."
        return ""

    def _fitted(self, case: Case, values: Values) -> Values:
        expected = case.expected
        return {
            name: fit(v, expected[name], self.tolerance)[0] if name in expected else v
            for name, v in values.items()
        }

    def _read(self, answer: object) -> Values:
        """The values of a result that is meant: None is an answer where answers are judged by themselves."""
        return {} if answer is None and self.fault else read(answer)

    def _fits(self, mistake: Callable[..., Any], pairs: Sequence[tuple[Case, Outcome]]) -> int:
        """How many outcomes a mistake gives, errors too; 0 if it contradicts one, or if none of them is wrong."""
        explained, telling = 0, False
        for case, outcome in pairs:
            if not case.expected and outcome.values == {}:
                continue  # None where it is right: the mistake is about the other inputs
            try:
                wrong = self._read(mistake(*case.inputs))
            except Exception as error:  # a mistake may be impossible for some inputs, as the answer may
                if outcome.values is not None:
                    return 0
                alike = _without_line(outcome.failure) == _without_line(raised(error))
                explained, telling = explained + alike, telling or alike
                continue
            if outcome.values is None:
                continue
            if not same(self._fitted(case, outcome.values), wrong, self.tolerance):
                if self.fault and not (self._wrong(case, outcome) or self._wrong(case, Outcome(wrong))):
                    continue  # two right answers of many
                return 0
            explained += 1
            telling |= not same(case.expected, wrong, self.tolerance)
        return explained if telling else 0


def _without_line(failure: str) -> str:
    """A sentence about an exception without the line that raised it."""
    return failure.partition(" (line ")[0].rstrip(".")


def shown(x: object) -> str:
    """An input in words."""
    if isinstance(x, Tensor):
        if x.numel() <= 8:
            return f"= {_digits(x.tolist())}"
        return f"of shape {tuple(x.shape)}"
    if isinstance(x, Mapping):
        return f"with {len(x)} entries"
    if callable(x):
        return f"= {getattr(x, '__name__', 'a function')}"
    return f"= {x}"


def _digits(x: Any) -> str:
    return f"[{', '.join(map(_digits, x))}]" if isinstance(x, list) else number(x, 6)


def _size(case: Case) -> tuple[int, int, float]:
    """How large a case is: by its result, then by its tensors, then by its numbers."""
    tensors = [x for x in case.inputs if isinstance(x, Tensor)]
    numbers = [abs(x) for x in case.inputs if isinstance(x, (int, float))]
    return sum(len(v.flat) for v in case.expected.values()), sum(x.numel() for x in tensors), sum(numbers)
