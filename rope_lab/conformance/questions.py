"""The properties of the table: what each is called, what it says, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rope_lab.conformance.inquiry import Inquiry, answer
from rope_lab.conformance.subject import Subject
from rope_lab.doctor.battery import Property

Ask = Callable[[str], Property]


@dataclass(frozen=True)
class Question:
    """One row of the table.

    Attributes:
        name: of the row.
        group: the heading above it.
        says: when it is met, in words.
        number: what the number beside a failure is.
        ask: makes the test from an inquiry.
    """

    name: str
    group: str
    says: str
    number: str
    ask: Callable[[Inquiry], Ask]


MATHS, FAR, NUMBERS, CALLS, FORMS, TRAINING = (
    "The rotation",
    "Far and between",
    "Number types",
    "Calls",
    "What it takes",
    "In a model",
)
RELATIVE = "largest error, relative to the largest value"
RADIANS = "largest error of an angle, in radians"

QUESTIONS = (
    Question(
        "distance only",
        MATHS,
        "Queries at 40, 41, 47, 140 and 541 have the same scores with keys 31 positions before them, within 1e-3; "
        "and positions 0 and 1 are turned differently.",
        RELATIVE,
        lambda one: one.relative,
    ),
    Question(
        "norm kept",
        MATHS,
        "At positions 0, 1, 100 and 500 a vector has the same length, within 5e-5.",
        "largest relative error",
        lambda one: one.doctor("norm"),
    ),
    Question(
        "first token unchanged",
        MATHS,
        "The token at position 0 comes back as it was, within 1e-6.",
        RELATIVE,
        lambda one: one.first,
    ),
    Question(
        "angles add",
        MATHS,
        "Turning by 3 and by 8 positions is turning by 11, and by 200 and 300 is by 500, within 0.01 radians.",
        RADIANS,
        lambda one: one.doctor("additive"),
    ),
    Question(
        "exact at 1,000,000",
        FAR,
        "The angles at the 50 positions from 1,000,000 on are m·θ_i, within 1e-5 radians. Asked of rotations whose "
        "frequencies θ_i are those of the base, within 2 %.",
        RADIANS,
        lambda one: one.far(1_000_000),
    ),
    Question(
        "exact at 10,000,000",
        FAR,
        "The same ten times as far.",
        RADIANS,
        lambda one: one.far(10_000_000),
    ),
    Question(
        "real positions",
        FAR,
        "The angles at positions 0.5, 2.25, 17.125 and 99.75 are m·θ_i, within 1e-4 radians.",
        RADIANS,
        lambda one: one.real,
    ),
    Question(
        "bfloat16",
        NUMBERS,
        "A bfloat16 text of up to 5,000 tokens is turned as its positions say: the result differs by less than 2 % of "
        "its norm from one of float32.",
        "difference relative to the norm",
        lambda one: one.number("bfloat16"),
    ),
    Question(
        "float16",
        NUMBERS,
        "The same for a float16 text of up to 6,000 tokens.",
        "difference relative to the norm",
        lambda one: one.number("float16"),
    ),
    Question(
        "dtype kept",
        NUMBERS,
        "What goes in as float32, bfloat16 or float16 comes out as that.",
        "",
        lambda one: one.doctor("dtype"),
    ),
    Question(
        "float64",
        NUMBERS,
        "A float64 tensor comes back as float64, turned by angles that add up within 1e-9 radians at position 1,000.",
        RADIANS,
        lambda one: one.number("double"),
    ),
    Question(
        "cast module",
        NUMBERS,
        "After `.bfloat16()` on the module, before its first call or after it, a bfloat16 text of 1,024 tokens is "
        "still turned as by a module that was not cast, within 2 %.",
        "difference relative to the norm",
        lambda one: one.cast,
    ),
    Question(
        "stateless",
        CALLS,
        "Calls of another length, with another offset, at other positions or in bfloat16 do not change later calls, "
        "within 1e-3.",
        RELATIVE,
        lambda one: one.doctor("stateless"),
    ),
    Question(
        "length independent",
        CALLS,
        "Tokens 1 and 7 are turned in the same way, however many tokens follow or however far away one of them is.",
        RELATIVE,
        lambda one: one.doctor("length"),
    ),
    Question(
        "cached = full",
        CALLS,
        "The last token of 12, turned alone with its position or as the only query, is what the full text gives.",
        RELATIVE,
        lambda one: one.cached,
    ),
    Question(
        "input unchanged",
        CALLS,
        "The tensors that were given still hold what they held.",
        RELATIVE,
        lambda one: one.doctor("unchanged"),
    ),
    Question(
        "any first position",
        FORMS,
        "A text can begin at position 300, by an offset or by positions, and is turned as the end of a longer one.",
        RELATIVE,
        lambda one: one.starts,
    ),
    Question(
        "positions per row",
        FORMS,
        "Each row of a batch can have positions of its own, as in a padded or packed batch.",
        RELATIVE,
        lambda one: one.doctor("rows", one.subject.positions, takes="positions"),
    ),
    Question(
        "partial rotation",
        FORMS,
        "The first 32 of 64 coordinates can be turned as a head of 32, and the others come back bit for bit.",
        RELATIVE,
        lambda one: one.partial,
    ),
    Question(
        "both shapes",
        FORMS,
        "It takes (B, H, N, D) and (B, N, H, D), with the same result.",
        RELATIVE,
        lambda one: one.shapes,
    ),
    Question(
        "odd width refused",
        FORMS,
        "63 coordinates raise an error of some kind, where it is made or where it is called.",
        "",
        lambda one: one.odd,
    ),
    Question(
        "gradient",
        TRAINING,
        "The gradient is the upstream gradient turned back: turned again, it is what came in, within 1e-3.",
        RELATIVE,
        lambda one: one.gradient,
    ),
    Question(
        "compiles",
        TRAINING,
        '`torch.compile(fullgraph=True)` traces it without a graph break (backend "eager", so nothing is fused), '
        "and the result is the same.",
        RELATIVE,
        lambda one: one.compiled,
    ),
    Question(
        "nothing saved",
        TRAINING,
        "The state dict holds nothing but parameters that are trained.",
        "tensors in the state dict",
        lambda one: one.saved,
    ),
)


def answers(subject: Subject, dim: int = 64) -> tuple[Property, ...]:
    """What a rotation answers to each of `QUESTIONS`; `holds` is None where it cannot be asked, and `says` why.

    Raises:
        rope_lab.doctor.box.Refused: if it cannot be called at all, needs a batch, or returns NaN or another shape.
    """
    inquiry = Inquiry(subject, dim)
    inquiry.battery()
    found = []
    for question in QUESTIONS:
        if question.name in subject.why:
            found.append(Property(question.name, None, subject.why[question.name]))
        else:
            found.append(answer(question.name, question.ask(inquiry)))
    return tuple(found)
