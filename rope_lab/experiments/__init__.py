"""Recorded experiments: a question, its variants with three seeds each, and the numbers with their provenance."""

from __future__ import annotations

from typing import Any

from rope_lab.experiments import (
    algorithms,
    causes,
    claims,
    heads,
    images,
    lab,
    needle,
    rates,
    recipes,
    spectrum,
    text,
    windows,
)
from rope_lab.experiments.store import Results

EXPERIMENTS = {
    **recipes.EXPERIMENTS,
    **text.EXPERIMENTS,
    **causes.EXPERIMENTS,
    **heads.EXPERIMENTS,
    **algorithms.EXPERIMENTS,
    **windows.EXPERIMENTS,
    **rates.EXPERIMENTS,
    **claims.EXPERIMENTS,
    **spectrum.EXPERIMENTS,
    **needle.EXPERIMENTS,
    **images.EXPERIMENTS,
}


def reproduce(name: str, **options: Any) -> Results:
    """Run the missing parts of the experiment `name`; options as for `rope_lab.experiments.lab.walk`.

    Returns:
        All its records, old and new.

    Raises:
        ValueError: in one line, for an unknown name or scale, or a results file that does not parse.
    """
    return lab.walk(EXPERIMENTS, name, **options)
