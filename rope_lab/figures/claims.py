"""The claims of chapter 16: what was claimed, what the records show, one rule for all, and what other choices say.

A claim is put as differences, one per seed, and judged by `judged`. Where the records also have the same differences at
another length, after another budget or for another kind of model, they are among `Claim.others`, so that a verdict that
hangs on such a choice can be told from one that does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import fmean
from typing import Any, Literal

from rope_lab.experiments import causes, needle, rates
from rope_lab.experiments.algorithms import fractions
from rope_lab.experiments.seeds import differences, interval
from rope_lab.experiments.store import Results

Side = Literal["lower", "higher", "level"]
LEVEL = 0.05  # nats within which two losses count as equal
SOLVED = 0.95  # of a task at the trained lengths, below which it says nothing about longer ones
CANNOT, UNTRIED = "cannot be seen at this size", "not tried"
FREE, GAIN, NO_GAIN = ", no QK-norm", "", ", QK-norm without a gain"  # how variants of `extension` end
_KINDS = {GAIN: "QK-norm with a gain", NO_GAIN: "QK-norm without a gain"}

Differences = list[float]
Others = dict[str, Differences]


@dataclass(frozen=True)
class Claim:
    """One row.

    Args:
        text: who claimed what, as a comparison of two numbers.
        side: on which side of zero their difference is if the claim holds.
        experiment: whose records are read, "" if there are none.
        values: the differences, one per seed.
        others: the same by other choices, by the name of the choice.
        label: what is subtracted from what, for a figure of losses; "" if they are not losses.
        unit: of the differences, "" for nats per character.
        why: why there are no differences.
        tried: False if the records have no test for it, though these models could be given one.
    """

    text: str
    side: Side = "level"
    experiment: str = ""
    values: Sequence[float] = ()
    others: Mapping[str, Differences] = field(default_factory=dict)
    label: str = ""
    unit: str = ""
    why: str = ""
    tried: bool = True

    @property
    def verdict(self) -> str:
        """The verdict of the rule, or why there is none."""
        if self.why:
            return CANNOT if self.tried else UNTRIED
        return judged(self.side, self.values)

    def otherwise(self) -> dict[str, str]:
        """The other choices whose verdict is another one, each with that verdict."""
        found = {choice: judged(self.side, values) for choice, values in self.others.items()}
        return {choice: verdict for choice, verdict in found.items() if verdict != self.verdict}


def judged(side: Side, values: Sequence[float]) -> str:
    """The verdict on differences of which it is claimed that they are lower or higher than zero, or level with it.

    Seen if the whole 95% confidence interval of their mean is on the side that is claimed, or within LEVEL of zero;
    opposite if all of it is on the other side, or farther than LEVEL from zero; undecided otherwise.
    """
    if not values:
        return "not recorded"
    mean, half = interval(values)
    low, high = mean - half, mean + half
    seen = {"lower": high < 0, "higher": low > 0, "level": max(-low, high) < LEVEL}
    opposite = {"lower": low > 0, "higher": high < 0, "level": max(low, -high) > LEVEL}
    if seen[side]:
        return "seen here"
    return f"not seen here ({'opposite' if opposite[side] else 'undecided'})"


@cache
def recorded(experiment: str) -> Results:
    """The records of an experiment that come with the package."""
    return Results.recorded(experiment)


def _values(experiment: str, variant: str, *path: str | int) -> list[Any]:
    """What is recorded of a variant, one for each seed: a number, or lists of them."""
    return list(recorded(experiment).values(variant, *path))


def cost(age: str, band: int) -> Differences:
    """Loss with a band of pairs unrotated minus that of the whole model, mean over the places, by seed."""
    whole, left_out = _values("spectrum", age, "whole"), _values("spectrum", age, "without", band)
    return [fmean(a) - fmean(b) for a, b in zip(left_out, whole, strict=True)]


def share(age: str, first: int, last: int) -> Differences:
    """Share of the pairs first, …, last − 1 in the lengths of queries and keys, mean over layers and heads, by seed."""
    models = _values("spectrum", age, "power")  # (seeds, layers, heads, D/2)
    return [fmean(sum(head[first:last]) for layer in model for head in layer) for model in models]


def _minus(one: Sequence[float], other: Sequence[float]) -> Differences:
    return [a - b for a, b in zip(one, other, strict=False)]


def _budgets(one: str, other: str) -> tuple[Differences, Others]:
    """Loss of one encoding minus that of another, after the longer budget and the shorter."""
    short = f"after {rates.STEPS['cpu'][0]} updates"
    pair = recorded("encodings"), one, other
    return differences(*pair, "val_loss"), {short: differences(*pair, "short", "val_loss")}


def _rises(name: str, rule: str, against: str = "") -> tuple[Differences, Others]:
    """Loss at longer lengths minus that at the trained one, or by how much more that is than for another encoding."""
    results = recorded("extrapolation")

    def at(place: int, encoding: str) -> Differences:
        return [run[place] - run[0] for run in _values("extrapolation", encoding, rule)]

    lengths = results.records[0]["lengths"] if results.records else []
    found = {
        f"at {lengths[place]:,}": _minus(at(place, name), at(place, against)) if against else at(place, name)
        for place in range(1, len(lengths))
    }
    return _last(found)


def _longer(experiment: str, one: str, other: str, rule: str) -> Others:
    """Loss of one variant minus that of another at every length."""
    results = recorded(experiment)
    lengths = results.records[0]["lengths"] if results.records else []
    return {
        f"at {length:,}, {rule}": differences(results, one, other, rule, place)
        for place, length in enumerate(lengths)
        if place
    }


def _remedies(one: str, other: str, stage: int = 0) -> tuple[Differences, Others]:
    """Loss of one method of extension minus that of another, or of the trained length where there is no other.

    Without QK-norm at the largest factor; by other choices, for other kinds of models and smaller factors. Before
    fine-tuning is stage 0, after it 1.
    """
    results = recorded("extension")

    def at(kind: str, factor: int) -> Differences:
        names = [f"{method} ×{factor}{kind}" for method in (one, other)]
        if other:
            return differences(results, *names, "loss", stage)
        return _minus(results.values(names[0], "loss", stage), results.values(names[0], "trained_length"))

    choices = [(GAIN, factor) for factor in causes.FACTORS] + [(NO_GAIN, causes.FACTORS[-1])]
    others = {f"{_KINDS[kind]}, ×{factor}": at(kind, factor) for kind, factor in choices}
    return at(FREE, causes.FACTORS[-1]), others


def _last(found: Others) -> tuple[Differences, Others]:
    if not found:
        return [], {}
    *rest, last = found
    return found[last], {choice: found[choice] for choice in rest}


def _scores(first: int, last: int) -> Differences:
    """Mean trained score at one recorded distance minus that at another, over layers and heads, by seed."""
    runs = _values("decay", "trained", "mean")
    distances = recorded("decay").records[0]["distances"] if runs else []
    return [
        fmean(head[distances.index(last)] - head[distances.index(first)] for layer in run for head in layer)
        for run in runs
    ]


def _copied(encoding: str, part: str) -> Differences:
    name = f"copy, {encoding}"
    return [fractions(record)[part] for record in recorded("algorithms").records if record["variant"] == name]


def _needles(one: str, other: str) -> tuple[Differences, Others]:
    """Fraction of the needles found by one model minus that by another, in the longest texts and in shorter ones."""
    results = recorded("needle")
    lengths = results.records[0]["lengths"] if results.records else []

    def at(place: int, name: str) -> Differences:
        return [fmean(run[place]) for run in _values("needle", name, "right")]

    return _last(
        {f"in {length:,} characters": _minus(at(i, one), at(i, other)) for i, length in enumerate(lengths)}
    )


def _copying() -> Claim:
    text = "Kazemnejad 2023: NoPE copies longer inputs than RoPE"
    known = _copied("NoPE", "trained")
    if known and fmean(known) < SOLVED:
        why = f"NoPE copies only {fmean(known):.0%} at the trained lengths"
        return Claim(text, experiment="algorithms", why=why)
    longer = _minus(_copied("NoPE", "longer"), _copied("RoPE", "longer"))
    return Claim(text, "higher", "algorithms", longer, unit="of the copies")


def claims() -> list[Claim]:
    """All claims, in the order of their years, with what the records of scale `cpu` show."""
    drop, layers = recorded("drop"), recorded("layers")
    bands = _values("spectrum", "long", "bands")[:1]
    slow = (bands[0][2][0], bands[0][3][1]) if bands else (0, 0)
    second, fourth = (f"NoPE in every {which} layer" for which in ("second", "fourth"))
    quarter = "RoPE, 25% of the coordinates"
    brief = f"after {rates.STEPS['cpu'][0]} updates"
    few = _budgets(quarter, "RoPE")
    further = _longer("layers", second, "RoPE", "sliding") | _longer("layers", second, "RoPE", "cut")
    *_, farthest = _longer("layers", second, "RoPE", "sliding") or [""]
    return [
        Claim("Su 2021: RoPE below sinusoids", "lower", "encodings", *_budgets("RoPE", "sinusoidal"),
              "RoPE − sinusoids"),
        Claim("Su 2021: RoPE below learned vectors", "lower", "encodings", *_budgets("RoPE", "learned"),
              "RoPE − learned"),
        Claim("Su 2021: scores fall with the distance (here trained ones, at 96 below 1)", "lower", "decay",
              _scores(1, 96), {"at 32 below 24": _scores(24, 32)}, unit="of score/√D"),
        Claim("Press 2022: T5 below RoPE", "lower", "encodings", *_budgets("T5", "RoPE"), "T5 − RoPE"),
        Claim("Press 2022: ALiBi below RoPE", "lower", "encodings", *_budgets("ALiBi", "RoPE"), "ALiBi − RoPE"),
        Claim("Press 2022: sinusoids rise at longer lengths, cut", "higher", "extrapolation",
              *_rises("sinusoidal", "cut"), "sinusoids, longer"),
        Claim("Press 2022: RoPE rises at longer lengths, cut", "higher", "extrapolation", *_rises("RoPE", "cut"),
              "RoPE, longer"),
        Claim("Press 2022: T5 rises less than RoPE, cut", "lower", "extrapolation", *_rises("T5", "cut", "RoPE"),
              "T5 − RoPE, rise"),
        Claim("Press 2022: ALiBi falls at longer lengths, cut", "lower", "extrapolation", *_rises("ALiBi", "cut"),
              "ALiBi, longer, cut"),
        Claim("Press 2022: ALiBi stays level, sliding", "level", "extrapolation", *_rises("ALiBi", "sliding"),
              "ALiBi, longer, sliding"),
        Claim("Haviv 2022: NoPE about level with learned vectors", "level", "encodings",
              *_budgets("NoPE", "learned"), "NoPE − learned"),
        Claim("Sun 2023: xPos rises less than RoPE, sliding (here without blockwise attention)", "lower",
              "extrapolation", *_rises("xPos", "sliding", "RoPE"), "xPos − RoPE, rise"),
        _copying(),
        Claim("Wang 2024: NoPE rises less than RoPE at longer lengths, sliding", "lower", "extrapolation",
              *_rises("NoPE", "sliding", "RoPE"), "NoPE − RoPE, rise"),
        Claim("Chen 2023: interpolated positions, briefly fine-tuned, below unchanged ones", "lower", "extension",
              *_remedies("position interpolation", "none", 1), "interpolation − none"),
        Claim("bloc97 2023: NTK-aware below unchanged, without fine-tuning", "lower", "extension",
              *_remedies("NTK-aware", "none"), "NTK-aware − none"),
        Claim("bloc97 2023: NTK-aware at a longer length level with the trained one", "level", "extension",
              *_remedies("NTK-aware", ""), "NTK-aware, longer"),
        Claim("Xiong 2024: a larger base, fine-tuned, below the old one", "lower", "extension",
              *_remedies("NTK-aware", "none", 1), "base, fine-tuned"),
        Claim("Peng 2024: YaRN below NTK-aware, without fine-tuning", "lower", "extension",
              *_remedies("YaRN", "NTK-aware"), "YaRN − NTK-aware"),
        Claim("Peng 2024: YaRN’s factor lowers the loss", "lower", "extension", *_remedies("YaRN", "NTK-by-parts"),
              "YaRN’s factor"),
        Claim("Ding 2024: two million tokens with a search of factors", why="needs texts of that length"),
        Claim("Xu 2024: a long context needs a base above a bound", tried=False,
              why="is about finding a token, which a mean loss does not test"),
        Claim("Zhong 2024: where attention is spread out, retrieval fails", tried=False,
              why="needs a task of retrieval"),
        Claim("Barbero 2025: the slowest quarter need not turn (here stopped after training)", "level", "spectrum",
              cost("long", 3), {brief: cost("short", 3)}, "slowest quarter still"),
        Claim("Barbero 2025: turning only the fastest quarter is worse", "higher", "encodings",
              *_budgets("p-RoPE, p = 0.25", "RoPE"), "p-RoPE − RoPE"),
        Claim("Jin 2025: the large values are in slow pairs (their share of the lengths above a half)", "higher",
              "spectrum", [part - 0.5 for part in share("long", *slow)],
              {brief: [part - 0.5 for part in share("short", *slow)]}, unit="of the lengths"),
        Claim("Yang 2025: NoPE in every second layer reads further than RoPE (here by the sliding loss)", "lower",
              "layers", further.get(farthest, []), {one: further[one] for one in further if one != farthest},
              "second layers NoPE"),
        Claim("Yang 2025: between windows, global layers read further with NoPE than with RoPE (here needles, four "
              "times the trained length)", "higher", "needle",
              *_needles(needle.MIXED + needle.NO_POSITIONS, needle.MIXED), unit="of the needles"),
        Claim("Released models: NoPE in every fourth layer costs nothing", "level", "layers",
              differences(layers, fourth, "RoPE", "val_loss"), _longer("layers", fourth, "RoPE", "sliding"),
              "fourth layers NoPE"),
        Claim("Shang 2025: slow pairs are under-trained; a search by retrieval mends them", tried=False,
              why="needs a task of retrieval at several lengths"),
        Claim("Wang 2025: bfloat16 spoils RoPE in long contexts", why="needs contexts of many thousand tokens"),
        Claim("Gelberg 2025: dropped and recalibrated, level with the rotation", "level", "drop",
              differences(drop, "rotation dropped", "rotation kept", "short", 1), label="dropped − kept"),
        Claim("Gelberg 2025: then better than YaRN at four times the length (here by the loss)", "lower", "drop",
              differences(drop, "rotation dropped", "rotation kept, YaRN", "end", 1),
              {"mean over the length": differences(drop, "rotation dropped", "rotation kept, YaRN", "long", 1)},
              "dropped − YaRN"),
        Claim("Khan 2026: turning a small part of the coordinates suffices (here a quarter)", "level", "encodings",
              few[0], few[1] | _longer("extrapolation", quarter, "RoPE", "sliding"), "25% turn − all"),
        Claim("Wu 2026: the wider a dependency, the slower the rotation that suits it", tried=False,
              why="needs dependencies spread over a width; those of `width` have one distance each"),
    ]  # fmt: skip
