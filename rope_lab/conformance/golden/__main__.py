"""`python -m rope_lab.conformance.golden [folder]` writes the golden vectors, by default where the package has them."""

import sys
from pathlib import Path

from rope_lab.conformance.golden.vectors import write

if __name__ == "__main__":
    for path in write(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent):
        print(f"{path}: {path.stat().st_size:,} bytes")
