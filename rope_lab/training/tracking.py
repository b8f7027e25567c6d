"""A run's numbers, on the screen and in its folder: the only module that uses labml.

labml writes the file `log.jsonl`, next to the run's checkpoint. Only its tracker is used: no server, no account, no
settings file, nothing in the home directory. The screen output of labml needs a terminal, or IPython older than 9;
the lines printed here are plain text, the same in a terminal, a notebook and a pipe.
"""

from __future__ import annotations

import importlib.util
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

LOG = "log.jsonl"


class Tracker:
    """Prints lines and lets labml write the numbers.

    Args:
        folder: for `log.jsonl`, into which a resumed run logs its history again; with None no file is written and
            labml is not needed.
        quiet: print nothing.
    """

    def __init__(self, folder: Path | None = None, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._folder = folder
        self._labml: Any = None
        self._writer: Any = None

    def say(self, line: str) -> None:
        """Print `line` unless quiet."""
        if not self.quiet:
            print(line, flush=True)

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Record `numbers` under `step`; the first call empties the file."""
        if self._folder is not None:
            folder, self._folder = self._folder, None
            try:
                (folder / LOG).write_bytes(b"")
                self._labml, self._writer = _labml(folder)
            except OSError as error:
                self.say(f"{LOG} cannot be written; continuing without it: {error.strerror}")
        if self._labml is not None:
            self._labml.set_global_step(step)
            for name, number in numbers.items():
                self._labml.store(name, number)
            self._labml.write()
            if self._writer.indicators:  # if the last report was long ago, labml has written them already
                self._writer.flush()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None and self._writer.is_thread_started:
            self._writer.thread.push("done")
            self._writer.thread.join()


def require() -> None:
    """Raise a ModuleNotFoundError, in one line, if labml is not installed."""
    if importlib.util.find_spec("labml") is None:
        raise ModuleNotFoundError('labml is not installed: pip install "rope-lab[train]"', name="labml")


def _labml(folder: Path) -> tuple[Any, Any]:
    from labml.internal import lab
    from labml.internal.tracker import Tracker as LabmlTracker
    from labml.internal.tracker.writers.file import Writer

    # A tracker asks labml's one Lab for the kinds of numbers, and takes them away from it. A Lab looks for a settings
    # file above its caller, and complains if there is none. So each tracker gets a Lab of its own, with an empty one.
    before = lab._internal
    with tempfile.TemporaryDirectory() as settings:
        Path(settings, ".labml.yaml").touch()
        lab._internal = lab.Lab(Path(settings))
        try:
            tracker = LabmlTracker()
        finally:
            lab._internal = before
    writer = Writer(folder / LOG)
    send = writer.thread._send

    def send_if_there_is_room(data: Any) -> None:
        with suppress(OSError):  # on a full disk the checkpoint that comes next ends the run, in one line
            send(data)

    writer.thread._send = send_if_there_is_room
    tracker.reset_writers()
    tracker.add_writer(writer)
    return tracker, writer
