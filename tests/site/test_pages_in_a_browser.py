"""Every page, on a desktop and a phone, light and dark: nothing cut, nothing missing, nothing asked of other hosts."""

from __future__ import annotations

import faults
import pytest
from pages import PAGES, SCREENS, TEXTS

CHECKS = {
    "desktop": (
        faults.bars,
        faults.sideways,
        faults.bare,
        faults.unnamed_folds,
        faults.labels,
        faults.broken_words,
        faults.inaccessible,
        faults.cut_equations,
    ),
    "dark": (faults.inaccessible, faults.out_of_reach),
    "phone": (
        faults.bars,
        faults.sideways,
        faults.labels,
        faults.broken_words,
        faults.inaccessible,
        faults.cut_equations,
    ),
    "small": (faults.bars, faults.sideways, faults.labels),
}


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", PAGES)
def test_the_page_has_no_faults(visit, name, screen):
    visited = visit(name, screen)
    checks = CHECKS[screen] if name in TEXTS else (faults.sideways, faults.inaccessible)
    if (
        name == "book/api.html" and screen != "desktop"
    ):  # axe takes minutes over its 36,000 elements: once is enough
        checks = tuple(check for check in checks if check is not faults.inaccessible)
    found = [fault for check in checks for fault in check(visited.page)]
    if visited.errors or found:
        pytest.fail("\n".join([*visited.errors, *found]), pytrace=False)
