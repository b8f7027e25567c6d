"""What the package is to reach, as ratios of a recorded benchmark, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CLONES = 2.5  # of a narrow rotation in any form, forward or backward
SHARE = 0.85  # of the bandwidth of a clone for the compiled rotation on a GPU
FASTER, THEIRS = 11.0, 4.0  # local attention beside full attention and beside the library local-attention
TOKEN, STEP = 2 / 3, 1.0  # of the time of transformers
IMPORT = 0.02  # of the time of `import torch`


@dataclass(frozen=True)
class Goal:
    """One of them.

    Args:
        name: what is compared.
        value: the ratio, as measured.
        limit: what it is to reach.
        least: whether the value is to be at least the limit, or else at most.
        bound: the best ratio that the counted work allows; None if it is not known.
    """

    name: str
    value: float
    limit: float
    least: bool = False
    bound: float | None = None

    @property
    def met(self) -> bool:
        """Whether the value is on the right side of the limit."""
        return self.value >= self.limit if self.least else self.value <= self.limit

    @property
    def cells(self) -> list[str]:
        """Name, value, limit, bound, and whether it is met, as text."""
        sign = "≥" if self.least else "≤"
        bound = "" if self.bound is None else f"{self.bound:.2f}"
        return [
            self.name,
            f"{self.value:.2f}",
            f"{sign} {self.limit:.2f}",
            bound,
            "yes" if self.met else "no",
        ]


def goals(results: dict[str, Any]) -> list[Goal]:
    """The goals for which these results hold a measurement, those of the device they come from.

    The library local-attention is a goal in long texts only: in short ones the goal is full attention.
    """
    found = [*_rotations(results), *_local(results), *_memory(results)]
    if models := [*_models(results)]:
        found += models
    taken = results["import_seconds"]
    found.append(
        Goal("import rope_lab after torch, share of import torch", taken["rope_lab"] / taken["torch"], IMPORT)
    )
    return found


def _on_gpu(results: dict[str, Any]) -> bool:
    return "FlexAttention, mask kept" in results["local"][0]["forward"]


def _rotations(results: dict[str, Any]) -> list[Goal]:
    found = []
    for part in results["rotation"]:
        for layout in ("interleaved", "half"):
            for form in ("", ", compiled"):
                name = f"rope_lab {layout}{form}"
                if name not in part["forward_in_clones"]:
                    continue
                for way in ("forward", "backward"):
                    clones = part[f"{way}_in_clones"][name]
                    said = f"rotation {layout}{form}, {part['dtype']} {way}, clones"
                    if _on_gpu(results) and form and way == "forward":
                        found.append(Goal(said, clones, 1 / SHARE, bound=part["floor_in_clones"]))
                    elif part["dtype"] == "bfloat16":
                        found.append(Goal(said, clones, CLONES, bound=part["floor_in_clones"]))
    return found


def _local(results: dict[str, Any]) -> list[Goal]:
    found = []
    for part in results["local"]:
        length, long = part["shape"][2], part["shape"][2] > 2 * part["window"]
        for key, way in (("forward", "forward"), ("forward_and_backward", "with backward")):
            said = f"{part['windows']} windows, {length:,} tokens, {way}"
            full, theirs = (part[key].get(name) for name in ("full causal attention", "local-attention"))
            if part["windows"] == "inclusive":
                limit = FASTER if long else 1.0
                found.append(
                    Goal(f"full over local attention, {said}", full, limit, True, part["arithmetic"])
                )
            if theirs is not None and long:
                found.append(Goal(f"the library local-attention over ours, {said}", theirs, THEIRS, True))
    return found


def _memory(results: dict[str, Any]) -> list[Goal]:
    part, found = results["memory"], []
    for key, way in (("forward", "forward"), ("forward_and_backward", "with backward")):
        used = part[key] or {}
        if used.get("full causal attention", 0) > 0:  # a difference of two measurements
            full = used["full causal attention"]
            floor = part["floor"][key] / full
            found.append(
                Goal(f"peak memory, local over full, {way}", used["rope_lab"] / full, 1.0, bound=floor)
            )
    return found


def _models(results: dict[str, Any]) -> list[Goal]:
    part = results["models"]
    if part["missing"]:
        return []
    found = []
    for key, said, limit in (("token", "a token with a cache", TOKEN), ("step", "a training step", STEP)):
        taken = part[f"{key}_seconds"]
        floor = part[f"{key}_floor"] / taken["transformers"]
        found.append(
            Goal(
                f"Llama, {said}, ours over transformers",
                taken["rope_lab"] / taken["transformers"],
                limit,
                bound=floor,
            )
        )
    return found
