"""Everything that needs a GPU, in one command: `make gpu`, or `python -m rope_lab.bench.gpu` with another Python.

It has three parts, each a process of its own: the tests of `tests/gpu`, the `gpu` preset with three seeds, and the
benchmark. Before they start it says how long each will take and what it writes. What is recorded already is skipped, so
after a stop the same command continues; a training that was stopped begins again. Without a GPU, with a CPU build of
torch, or without the text it prints one line and returns 2.

`--rehearse` runs the same parts, small and on the CPU, into a folder that is thrown away.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from rope_lab.bench.report import RESULTS
from rope_lab.experiments.lab import SCALES, Lab
from rope_lab.experiments.store import Results, file_of
from rope_lab.training import Corpus, preset, tiny_shakespeare

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "gpu"
PACKAGES = ("labml", "safetensors", "pytest", "pytest_timeout", "hypothesis")
SECTION = 'see "On a machine with a GPU" in README.md'
# Guesses, in seconds: most of it is compilation, which depends on the processor more than on the GPU.
GUESSED = {"tests": 180.0, "bench": 420.0}


@dataclass(frozen=True)
class Part:
    """One of the parts.

    Args:
        name: in one word.
        command: what is run.
        seconds: an estimate of its time; 0 if there is nothing to do.
        basis: what the estimate rests on, or why there is nothing to do.
        writes: the files, as text.
    """

    name: str
    command: list[str]
    seconds: float
    basis: str
    writes: str


@dataclass(frozen=True)
class Plan:
    """Where the parts run and how large they are.

    Args:
        device, scale: "cuda" and "gpu", or "cpu" and "smoke" for a rehearsal.
        seeds: number of trainings.
        records: folder of the records of experiments.
        benchmarks: folder of the benchmark.
    """

    device: str
    scale: str
    seeds: int
    records: Path
    benchmarks: Path

    @property
    def rehearsal(self) -> bool:
        """Whether the parts run small and on the CPU."""
        return self.device == "cpu"

    def parts(self, corpus: Corpus) -> list[Part]:
        """The parts in the order in which they run: what is quick and tells most comes first."""
        return [self._tests(), self._presets(corpus), self._bench()]

    def _tests(self) -> Part:
        command = _python("pytest", "-p", "no:xdist", "-q", str(TESTS), "--device", self.device)
        return Part("tests", command, GUESSED["tests"], "a guess", "nothing")

    def _presets(self, corpus: Corpus) -> Part:
        command = _python(
            "rope_lab", "reproduce", "presets", "--scale", self.scale, "--seeds", str(self.seeds),
            "--device", self.device, "--out", str(self.records),
        )  # fmt: skip
        file = str(file_of(self.records, "presets", self.scale))
        results = Results.read(self.records, "presets", self.scale)
        left = sum(not results.has(self.scale, seed) for seed in range(self.seeds))
        if not left:
            return Part("presets", command, 0, "recorded already", file)
        basis = f"{left} of {self.seeds} seeds; from six updates timed just now"
        return Part("presets", command, left * seconds_per_seed(corpus, self), basis, file)

    def _bench(self) -> Part:
        command = _python(
            "rope_lab", "bench", "--device", self.device, "--out", str(self.benchmarks),
            *(["--quick"] if self.rehearsal else []),
        )  # fmt: skip
        writes = f"{self.benchmarks / 'bench.json'} and, with matplotlib, bench.svg"
        if _measured(self.benchmarks / "bench.json"):
            return Part("bench", command, 0, "recorded already for this GPU and torch", writes)
        missing = ", ".join(
            name
            for name in ("liger_kernel", "rotary_embedding_torch", "local_attention")
            if not find_spec(name)
        )
        basis = "a guess" + (f"; left out, not installed: {missing}" if missing else "")
        return Part("bench", command, GUESSED["bench"], basis, writes)


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _measured(file: Path) -> bool:
    """Whether the file holds a benchmark of this GPU with this torch."""
    try:
        found = json.loads(file.read_text("utf-8"))
        return bool(
            torch.cuda.is_available()
            and found["device"] == torch.cuda.get_device_name()
            and found["versions"]["torch"] == torch.__version__
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def seconds_per_seed(corpus: Corpus, plan: Plan) -> float:
    """Estimated time of one training of the preset: six updates are timed, and evaluations are counted in updates."""
    config = preset(plan.scale)
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(SCALES[plan.scale], corpus, Path(folder), plan.device)
        each = lab.seconds_per_update(config)
    per_update = config.batch * config.architecture(len(corpus.vocab)).context
    # a forward pass alone takes about a third of an update
    evaluations = config.evaluations * len(corpus.val) / per_update / 3
    return each * (config.steps + evaluations)


def refusal() -> str | None:
    """Why the parts cannot run here, in one line; None if they can, apart from the text."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is a CPU build; {SECTION}"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no GPU; nvidia-smi and CUDA_VISIBLE_DEVICES may say why; {SECTION}"
    return None


def missing() -> str | None:
    """What else the parts need and is not here, in one line; None if nothing is missing."""
    if not TESTS.is_dir():
        return "it needs a clone of the repository, which holds the tests"
    absent = [name for name in PACKAGES if not find_spec(name)]
    return f"not installed: {', '.join(absent)}; {SECTION}" if absent else None


def text() -> Corpus:
    """The canonical text.

    Raises:
        ValueError: in one line, if it is not there; the offline edition is another text, so its losses cannot be
            compared.
    """
    with redirect_stderr(io.StringIO()):  # the line of the offline edition
        corpus = tiny_shakespeare()
    if corpus.name != "tiny-shakespeare":
        raise ValueError(
            f"there is only {corpus.name}, which is another text; set ROPE_LAB_DATA to a folder that holds "
            "Tiny Shakespeare as tiny_shakespeare.txt or input.txt"
        )
    return corpus


def minutes(seconds: float) -> str:
    """A time as it is said aloud: "under 1 min", "about 7 min", "about 1 h 40 min"."""
    whole = round(seconds / 60)
    if whole < 1:
        return "under 1 min"
    return f"about {whole} min" if whole < 90 else f"about {whole // 60} h {whole % 60} min"


def announce(parts: Sequence[Part], where: str) -> str:
    """How long each part will take and what it writes, before they start."""
    lines = [f"{where}. These times are estimates:"]
    for number, part in enumerate(parts, 1):
        time_ = minutes(part.seconds) if part.seconds else "skipped"
        lines.append(f"{number}  {part.name:9s}{time_:16s}({part.basis})")
        lines.append(f"   writes {part.writes}")
    lines.append(f"all        {minutes(sum(part.seconds for part in parts))}")
    lines.append("Stop with Ctrl-C; the same command then skips what is recorded.")
    return "\n".join(lines)


def perform(parts: Sequence[Part]) -> int:
    """Run the parts one after the other, also if one fails; return 0, or 1 if one has failed."""
    failed = []
    for part in parts:
        if not part.seconds:
            continue
        print(f"\n{part.name}: {' '.join(part.command)}", flush=True)
        began = time.perf_counter()
        code = subprocess.run(part.command, check=False).returncode
        took = time.perf_counter() - began
        said = "finished" if code == 0 else f"FAILED with exit code {code}"
        print(f"{part.name}: {said} after {took:.0f} s, estimated {part.seconds:.0f} s", flush=True)
        if code == 130:  # Ctrl-C reached the part first
            raise KeyboardInterrupt
        if code:
            failed.append(part.name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        "make gpu", description="Run everything that needs a GPU.", allow_abbrev=False
    )
    options.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="trainings of the preset; default 3"
    )
    options.add_argument(
        "--records", type=Path, default=ROOT / "rope_lab" / "experiments" / "results", metavar="FOLDER",
        help="folder for the records of the trainings; default that of the package",
    )  # fmt: skip
    options.add_argument(
        "--benchmarks", type=Path, default=RESULTS / "gpu", metavar="FOLDER",
        help="folder for the benchmark; default that of the package",
    )  # fmt: skip
    kinds = options.add_mutually_exclusive_group()
    kinds.add_argument("--ready", action="store_true", help="only say whether it can run here")
    kinds.add_argument("--plan", action="store_true", help="only say what it would do")
    kinds.add_argument(
        "--rehearse", action="store_true", help="run all parts small and on the CPU, for nothing"
    )
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 if a part has failed, 2 if it cannot run here, or 130 if it was interrupted."""
    options = parser().parse_args(arguments)
    try:
        if not options.rehearse and (reason := refusal()):
            raise ValueError(reason)
        if options.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {options.seeds}")
        if reason := missing():
            raise ValueError(reason)
        corpus = text()
        if options.ready:
            return 0
        if options.rehearse:
            with tempfile.TemporaryDirectory() as folder:
                rehearsal = Plan("cpu", "smoke", 1, Path(folder) / "records", Path(folder) / "benchmarks")
                return perform(rehearsal.parts(corpus))
        plan = Plan("cuda", "gpu", options.seeds, options.records, options.benchmarks)
        parts = plan.parts(corpus)
        print(announce(parts, f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {corpus.name}"))
        return 0 if options.plan else perform(parts)
    except (ValueError, OSError) as error:
        print(f"make gpu: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmake gpu: interrupted; the same command continues", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
