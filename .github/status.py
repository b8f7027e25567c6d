"""Write which jobs of a workflow failed into the script that shows it on every page, and print the sentence.

    NEEDS='{"newest": {"result": "failure"}}' python .github/status.py _static/status.js ADDRESS

NEEDS is what the workflow knows as `toJSON(needs)`. If no job failed, the sentence is empty and pages show nothing.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path


def sentence(needs: dict[str, dict[str, str]]) -> str:
    """What failed; "" if nothing did."""
    failed = [job for job, its in needs.items() if its["result"] == "failure"]
    if not failed:
        return ""
    return f"The weekly run with the newest versions of everything that this book needs failed in: {', '.join(failed)}."


def write(script: Path, said: str, link: str) -> None:
    """The script with this sentence and this address in it."""
    line = f"const ropeStatus = {json.dumps({'said': said, 'link': link})};"
    text, found = re.subn(
        r"^const ropeStatus = .*$", lambda _: line, script.read_text("utf-8"), flags=re.MULTILINE
    )
    if found != 1:
        raise SystemExit(
            f"{script} should have one line that begins with `const ropeStatus`, but has {found}"
        )
    script.write_text(text, "utf-8")


if __name__ == "__main__":
    said = sentence(json.loads(os.environ["NEEDS"]))
    write(Path(sys.argv[1]), said, sys.argv[2] if said else "")
    print(said)
