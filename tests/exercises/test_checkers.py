"""What holds for every checker: it accepts its reference, names each of its mistakes, and cannot be memorised."""

import importlib

import pytest

from rope_lab.exercises.checker import PUBLIC, Exercise
from rope_lab.exercises.values import NOTHING

MODULES = [importlib.import_module(f"rope_lab.exercises.ch{number:02d}") for number in range(1, 21)]
EXERCISES = {x.number: x for module in MODULES for x in vars(module).values() if isinstance(x, Exercise)}
SEEDS = (PUBLIC, 11, 12)
every = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES.keys())


def test_no_two_exercises_ask_for_a_function_of_one_name() -> None:
    """One file can then hold the answers to several chapters."""
    names = [exercise.name for exercise in EXERCISES.values()]
    assert sorted(names) == sorted(set(names))


@every
def test_the_reference_passes_under_every_seed(exercise: Exercise) -> None:
    for seed in SEEDS:
        assert exercise(exercise.reference, seed=seed)


@every
def test_each_mistake_fails_with_its_own_words_and_no_others(exercise: Exercise) -> None:
    assert len(exercise.mistakes) >= 3
    for seed in SEEDS:
        for why, mistake in exercise.mistakes.items():
            verdict = exercise(mistake, seed=seed)
            assert not verdict
            assert verdict.message.split(" Likely: ")[-1] == f"{why}.", (seed, why)


def memorised(exercise: Exercise, seed: int):
    results = [(repr(case.inputs), exercise.reference(*case.inputs)) for case in exercise.cases(seed)]
    return lambda *inputs: dict(results).get(repr(inputs), results[0][1])


@every
def test_a_memorised_constant_fails(exercise: Exercise) -> None:
    for case in exercise.cases():
        constant = exercise.reference(*case.inputs)
        assert not exercise(lambda *inputs, constant=constant: constant)


def takes_functions(exercise: Exercise) -> bool:
    """Whether some inputs are functions: they have another address each time, so nothing is learned of them."""
    return any("function" in repr(case.inputs) for case in exercise.cases())


@pytest.mark.parametrize(
    "exercise", [e for e in EXERCISES.values() if not takes_functions(e)], ids=lambda e: e.number
)
def test_results_of_the_public_seed_do_not_pass_under_another(exercise: Exercise) -> None:
    assert exercise(memorised(exercise, PUBLIC))
    assert not exercise(memorised(exercise, PUBLIC), seed=11)


@every
def test_what_a_function_may_do_besides_is_a_sentence(exercise: Exercise) -> None:
    def leave(*inputs):
        raise SystemExit(3)

    for answer, words in [
        (lambda *inputs: None, "returns nothing yet"),
        (lambda *inputs: "text", "str"),
        (lambda *inputs: iter([1]), "list() on it"),
        (lambda *inputs: 1 / 0, "raises ZeroDivisionError"),
        (leave, "raises SystemExit: 3"),
        (lambda: 0, "raises TypeError"),
        (42, f"hand over the function {exercise.name} itself"),
        (lambda *inputs: float("nan"), "got"),
    ]:
        verdict = exercise(answer)
        assert not verdict
        assert words in verdict.message
        assert "\n" not in verdict.message


@every
def test_where_none_is_an_answer_it_is_not_the_answer_to_every_input(exercise: Exercise) -> None:
    for seed in SEEDS:
        found = [bool(case.expected) for case in exercise.cases(seed)]
        assert all(found) or (exercise.fault and any(found))


def both(exercise: Exercise, *pieces: str):
    """The mistakes whose sentences contain these pieces."""
    return [next(f for why, f in exercise.mistakes.items() if piece in why) for piece in pieces]


def two_at_once() -> dict[str, tuple[Exercise, object]]:
    """Two mistakes in one answer: neither of them alone gives these results."""
    turn, matrix, mask, nats = (EXERCISES[number] for number in ("3.1", "3.2", "12.1", "13.1"))
    clockwise, degrees = both(turn, "turns clockwise", "in degrees")
    (inverse,) = both(mask, "invert it")
    return {
        "clockwise, and in degrees": (
            turn,
            lambda x, m, theta: clockwise(x, m, theta * 3.141592653589793 / 180),
        ),
        "in degrees, and x changed in place": (turn, lambda x, m, theta: x.copy_(degrees(x, m, theta)).neg()),
        "transposed, and with the wrong base": (
            matrix,
            lambda m, dim, base: matrix.reference(-m, dim, base + 1),
        ),
        "inverted, and transposed": (mask, lambda N, W: inverse(N, W).T),
        "in bits, and a sum": (nats, lambda x, t: nats.reference(x, t) * t.numel() / 0.6931471805599453),
    }


@pytest.mark.parametrize("name", two_at_once())
def test_two_mistakes_at_once_are_not_taken_for_one(name: str) -> None:
    exercise, answer = two_at_once()[name]
    verdict = exercise(answer)
    assert not verdict
    assert "Likely" not in verdict.message


@every
def test_a_mistake_on_some_inputs_only_is_not_taken_for_one(exercise: Exercise) -> None:
    for why, mistake in exercise.mistakes.items():
        outcomes = [(case, exercise.ask(mistake, [case.inputs])[0]) for case in exercise.cases()]
        right_none = [not case.expected and outcome.failure == NOTHING for case, outcome in outcomes]
        wrong = [
            case
            for (case, outcome), right in zip(outcomes, right_none, strict=True)
            if not right and exercise._wrong(case, outcome)
        ]
        wrong = [case for case in wrong if case.expected]  # a right None says nothing about the other inputs
        if len(wrong) < 2 or "function" in repr(wrong):  # a function has another address each time
            continue
        last = repr(wrong[-1].inputs)

        def partly(*inputs, mistake=mistake, last=last):
            return exercise.reference(*inputs) if repr(inputs) == last else mistake(*inputs)

        verdict = exercise(partly)
        assert not verdict
        assert why not in verdict.message
