"""What a checker returns: a verdict in one line. And the comparison that finds the likely mistake."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Feedback:
    """The verdict on one answer. It is true in an `if` if the answer is correct, and prints as one line."""

    exercise: str
    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"{'✓' if self.passed else '✗'} exercise {self.exercise}: {self.message}"


def compare(
    exercise: str,
    actual: object,
    expected: Tensor,
    mistakes: Mapping[str, Tensor],
    *,
    right: str,
    tolerance: float = 1e-6,
) -> Feedback:
    """Compare an answer with the correct tensor and with the results of known mistakes.

    Args:
        exercise: number of the exercise, such as "3.1".
        actual: what the student's function returned.
        expected: the correct tensor.
        mistakes: diagnosis → the wrong tensor that this mistake gives, the likeliest first.
        right: what to say if the answer is correct.
        tolerance: largest |difference| that still counts as equal.
    """

    def wrong(message: str) -> Feedback:
        return Feedback(exercise, False, message)

    if actual is None:
        return wrong("your function returns nothing yet.")
    if not isinstance(actual, Tensor):
        return wrong(f"return a tensor, got {type(actual).__name__}.")
    if actual.is_complex() and not expected.is_complex():
        return wrong(f"return a real tensor, got {actual.dtype}; torch.view_as_real or .real brings it back.")
    if _close(actual, expected, tolerance):
        return Feedback(exercise, True, right)
    likely = next((why for why, tensor in mistakes.items() if _close(actual, tensor, tolerance)), None)
    if actual.shape != expected.shape:
        shapes = f"expected shape {tuple(expected.shape)}, got {tuple(actual.shape)}."
        return wrong(f"{shapes} Likely: {likely}." if likely else shapes)
    difference = (actual - expected).abs().nan_to_num(nan=torch.inf)
    index = tuple(int(i) for i in torch.argwhere(difference > tolerance)[0])
    where = f"first difference at {list(index)}: expected {expected[index]:.4g}, got {actual[index]:.4g}."
    return wrong(f"{where} Likely: {likely}." if likely else where)


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return a.shape == b.shape and bool(torch.allclose(a.to(b.dtype), b, rtol=0, atol=tolerance))
