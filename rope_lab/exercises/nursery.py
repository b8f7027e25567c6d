"""A process that has torch and the checkers loaded and forks a child for every answer.

`python -m rope_lab.exercises.nursery` reads jobs from its input and writes outcomes to its output, one JSON per line. A
child draws the inputs, runs the student's code under limits, and sends back what the function returned. The comparison
happens in the process that asked, which never runs a student's code. The limits guard against accidents. They are not
a prison for code that wants to break out.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import linecache
import os
import select
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from rope_lab.exercises import exercise
from rope_lab.exercises.calling import Outcome, TooLong, raised, within
from rope_lab.exercises.guard import parts, replaced

ANSWER = 50_000_000  # bytes that a child may send back
GRACE = 5.0  # seconds that a child has beyond its limit, to say what happened
FORKS = hasattr(os, "fork")

_DENIED = {
    "open a connection": ("socket.",),
    "start processes": (
        "subprocess.", "os.fork", "os.posix_spawn", "os.system", "os.exec", "os.spawn", "os.startfile", "pty.",
    ),
    "send signals": ("os.kill", "signal.pthread_kill"),
}  # fmt: skip
_WRITES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.ch",
    "shutil.",
)


def main() -> None:
    """Answer jobs until the input ends."""
    sys.dont_write_bytecode = True
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        answer = _in_child(job) if FORKS else _plainly(job)
        print(json.dumps(answer), flush=True)


def _failure(sentence: str) -> list[dict[str, Any]]:
    return [Outcome(None, sentence, ended=True).plain()]


def _plainly(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Where processes cannot fork, this process is the child, and whoever asked starts another one afterwards."""
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        return _answer(job)
    finally:
        sys.stdout = out


def _in_child(job: dict[str, Any]) -> list[dict[str, Any]]:
    receive, send = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        child = os.fork()
        if child == 0:
            _be_child(job, folder, receive, send)
        os.close(send)
        text, late = _receive(receive, time.monotonic() + job["seconds"] + GRACE)
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    if late:
        return _failure(f"your code runs for more than {job['seconds']:g} seconds.")
    try:
        answer = json.loads(text)
        return answer if isinstance(answer, list) else _failure("your code sent back no result.")
    except (ValueError, RecursionError):
        how = (
            f" (signal {os.WTERMSIG(status)})" if os.WIFSIGNALED(status) and os.WTERMSIG(status) != 9 else ""
        )
        return _failure(f"your code ended its process{how} before there was a result.")


def _receive(pipe: int, deadline: float) -> tuple[bytes, bool]:
    """What a child sends, and whether it took too long."""
    parts: list[bytes] = []
    size = 0
    try:
        while size <= ANSWER:
            ready = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                return b"", True
            part = os.read(pipe, 65_536)
            if not part or part.endswith(b"\n"):
                return b"".join([*parts, part]), False
            parts.append(part)
            size += len(part)
        return b"", False
    finally:
        os.close(pipe)


def _be_child(job: dict[str, Any], folder: str, receive: int, send: int) -> None:
    me = os.getpid()
    try:
        os.setsid()
        os.close(receive)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing if job["quiet"] else 2, 1)
        if job["quiet"]:
            os.dup2(nothing, 2)
        sys.stdout = sys.stderr
        os.chdir(folder)
        os.environ |= {"HOME": folder, "TMPDIR": folder, "MPLCONFIGDIR": folder}
        tempfile.tempdir = folder
        answer = _answer(job, folder)
        text = json.dumps(answer).encode() + b"\n"
    except BaseException as error:
        text = json.dumps(_failure(f"your code ended with {type(error).__name__}.")).encode() + b"\n"
    if os.getpid() == me:  # a copy of this process has nothing to say
        view = memoryview(text)
        with contextlib.suppress(OSError):
            while view:
                view = view[os.write(send, view) :]
    os._exit(0)


def _answer(job: dict[str, Any], folder: str | None = None) -> list[dict[str, Any]]:
    """Run a student's code on the inputs of an exercise."""
    task = exercise(job["exercise"])
    inputs = [
        case.inputs for case in task.cases(job["seed"])
    ]  # drawn before the student's code can change how
    names: dict[str, Any] = {"__name__": "answer", "__file__": job["name"]}
    linecache.cache[job["name"]] = (
        len(job["code"]),
        None,
        job["code"].splitlines(keepends=True),
        job["name"],
    )
    if folder is not None:
        _limit(job["seconds"], job["memory"])
        _guard(folder, job["closed"])

    before = parts()

    def load() -> dict[str, Any]:
        exec(compile(job["code"], job["name"], "exec"), names)
        return names

    try:
        within(job["seconds"], load)
    except TooLong:
        return _failure(f"{job['name']} runs for more than {job['seconds']:g} seconds.")
    except BaseException as error:
        return _failure(raised(error, job["name"]))
    if task.name not in names:
        return _failure(f"{job['name']} does not define {task.name}.")
    outcomes = task.ask(names[task.name], inputs, seconds=job["seconds"])
    if problem := replaced(before):
        return _failure(problem)
    return [outcome.plain() for outcome in outcomes]


def _limit(seconds: float, memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds + GRACE) + 1,) * 2)
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        most = pages * resource.getpagesize() + memory * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _guard(folder: str, closed: str | None) -> None:
    """No network where the system allows it, and a refusal of what an answer has no need of."""
    if sys.platform == "linux":
        new_user, new_net = 0x1000_0000, 0x4000_0000
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).unshare(new_user | new_net)

    def inside(path: Any, room: str) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        return (os.path.realpath(os.fsdecode(path)) + os.sep).startswith(os.path.realpath(room) + os.sep)

    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        for what, names in _DENIED.items():
            if event.startswith(names) and event != "socket.__new__":
                raise PermissionError(f"an answer may not {what}")
        if event in ("open", "os.listdir", "os.scandir") and closed and inside(arguments[0], closed):
            raise PermissionError("an answer may not read the folder of the submissions")
        written = event.startswith(_WRITES) or (event == "open" and (arguments[2] or 0) & writing)
        if written and not inside(arguments[0], folder) and arguments[0] != os.devnull:
            raise PermissionError("an answer may not write files")

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
