"""python -m rope_forms pdf | epub | stick: another form of the book that `make book` has built."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from rope_book.welcome import offer

ROOT = Path(__file__).resolve().parents[3]
SITE = ROOT / "_build" / "html"
FORMS = ("pdf", "epub", "stick")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in FORMS:
        print(f"python -m rope_forms {' | '.join(FORMS)}", file=sys.stderr)
        return 2
    if not (SITE / "claims.json").is_file():
        print(f"there is no site in {SITE}: run `make book` first", file=sys.stderr)
        return 2
    made = importlib.import_module(f"rope_forms.{arguments[0]}").build(ROOT, SITE)
    offer(SITE)
    print(f"{made.relative_to(ROOT)}  {made.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
