"""Write the tables of the recorded benchmark into pages: `python -m rope_lab.bench README.md`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rope_lab.bench.report import into_page, recorded


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the recorded tables into the files that are named."""
    results = recorded()
    assert results is not None, "the package comes with a record"
    for name in sys.argv[1:] if arguments is None else arguments:
        file = Path(name)
        file.write_text(into_page(file.read_text("utf-8"), results), encoding="utf-8")
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
