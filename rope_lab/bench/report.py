"""The results of the benchmark as text, as tables for the README, and as files.

`python -m rope_lab.bench README.md` writes the tables of the recorded benchmark into that file, between its
marks `<!-- bench -->` and `<!-- /bench -->`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rope_lab.bench.goals import goals

RESULTS = Path(__file__).parent / "results"


def recorded(device: str = "cpu") -> dict[str, Any] | None:
    """The benchmark that came with the package; None if none was recorded on such a device.

    Args:
        device: "cpu", or "cuda" for what `make gpu` wrote.
    """
    file = RESULTS / ("gpu" if device == "cuda" else "") / "bench.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else None


def table(results: dict[str, Any]) -> str:
    """The results as text."""
    lines = [f"{results['device']}, {results['threads']} threads, torch {results['versions']['torch']}"]
    for part in results["rotation"]:
        lines += ["", f"rotating {tuple(part['shape'])} {part['dtype']}, clone() = 1   forward  backward"]
        for name, clones in part["forward_in_clones"].items():
            back = part["backward_in_clones"][name]
            lines.append(f"  {name:46s}{clones:8.2f}" + ("" if name == "clone" else f"{back:10.2f}"))
    for part in results["local"]:
        head = f"local attention {tuple(part['shape'])}, {part['windows']} windows of {part['window']}, rope_lab = 1"
        lines += ["", f"{head}   forward  training"]
        for name, ratio in part["forward"].items():
            lines.append(f"  {name:46s}{ratio:8.2f}{part['forward_and_backward'][name]:10.2f}")
    part = results["memory"]
    head = (
        f"peak memory of local attention {tuple(part['shape'])}, inclusive windows of {part['window']}, in MB"
    )
    lines += ["", f"{head}   forward  training"]
    if part["forward"] is None:
        lines.append("  left out: this system does not report the peak memory of a process")
    for name, used in (part["forward"] or {}).items():
        lines.append(f"  {name:46s}{used / 1e6:8.0f}{part['forward_and_backward'][name] / 1e6:10.0f}")
    lines += ["", *_models(results)]
    part = results["length"]
    lines += ["", "local attention, time per token, the shortest = 1"]
    lines += [
        f"  {n:7,d} tokens {r:38.2f}" for n, r in zip(part["lengths"], part["time_a_token"], strict=True)
    ]
    part = results["import_seconds"]
    lines += ["", f"import torch: {part['torch']:.2f} s; after it"]
    lines += [f"  import {name:39s}{part[name] * 1000:+8.0f} ms" for name in ("rope_lab", "RotaryEmbedding")]
    lines += [f"  half the distance between the quartiles {part['spread'] * 1000:13.0f} ms"]
    lines += ["", f"{'goals':88s}   ratio     goal   bound  met"]
    for goal in goals(results):
        name, value, limit, bound, met = goal.cells
        lines.append(f"  {name:86s}{value:>8s}{limit:>9s}{bound:>8s}  {met}")
    parts = (*results["rotation"], *results["local"], results["models"])
    missing = {name for part in parts for name in part["missing"]}
    if "liger-kernel" in missing:
        lines += ["", "not installed: liger-kernel (pip install --no-deps liger-kernel)"]
        missing.remove("liger-kernel")
    if missing:
        lines += ["", f'not installed: {", ".join(sorted(missing))} (pip install "rope-lab[peers]")']
    return "\n".join(lines)


def _models(results: dict[str, Any]) -> list[str]:
    part = results["models"]
    c = part["shape"]
    head = f"a Llama of {c['depth']} layers, width {c['width']}, {c['heads']} heads, {part['threads']} thread, in ms"
    if part["missing"]:
        return [f"{head}: left out, it needs transformers"]
    lines = [f"{head:60s}   token    step  operations of a token"]
    for name in part["token_seconds"]:
        taken = (1000 * part[f"{key}_seconds"][name] for key in ("token", "step"))
        lines.append(
            f"  {name:46s}" + "".join(f"{ms:10.2f}" for ms in taken) + f"{part['token_operations'][name]:12d}"
        )
    return [*lines, f"  {'floor':46s}{1000 * part['token_floor']:10.2f}{1000 * part['step_floor']:10.2f}"]


def summary(results: dict[str, Any]) -> str:
    """The ratios as Markdown tables for the README, and where they were measured."""
    lines = ["| what is compared | ratio | goal | bound by counting | reached |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(goal.cells)} |" for goal in goals(results)]
    lines.append("")
    for part in results["rotation"]:
        shape = ", ".join(map(str, part["shape"]))
        lines += [
            f"| time to rotate a ({shape}) {part['dtype']} tensor, `clone()` = 1 | forward | backward |",
            "|---|---|---|",
        ]
        lines += [
            f"| {name} | {part['forward_in_clones'][name]:.2f} | {part['backward_in_clones'][name]:.2f} |"
            for name in part["forward_in_clones"]
            if name != "clone" and "table" not in name
        ]
        lines.append("")
    for part in results["local"]:
        shape = ", ".join(map(str, part["shape"]))
        head = f"local attention ({shape}), {part['windows']} windows of {part['window']}, time, rope_lab = 1"
        lines += [f"| {head} | forward | with backward |", "|---|---|---|"]
        lines += [
            f"| {name} | {part['forward'][name]:.2f} | {part['forward_and_backward'][name]:.2f} |"
            for name in part["forward"]
            if name != "rope_lab"
        ]
        lines.append("")
    if results["memory"]["forward"]:
        ways = [results["memory"][key] for key in ("forward", "forward_and_backward")]
        lines += [
            "| peak memory, inclusive windows, rope_lab = 1 | forward | with backward |",
            "|---|---|---|",
        ]
        for name in ways[0]:
            if name != "rope_lab":
                ratios = (used[name] / used["rope_lab"] for used in ways)
                lines.append(f"| {name} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    ends, most = results["length"]["lengths"], max(results["length"]["time_a_token"])
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines += [
        "",
        f"Between {ends[0]:,} and {ends[-1]:,} tokens, local attention never took more than {most:.2f} times as long "
        "per token as at the shortest length.",
        f"Measured on {results['processor'] or results['device']}, {results['threads']} threads, the Llamas on "
        f"{results['models']['threads']}, with {versions}.",
    ]
    return "\n".join(lines).strip()


def save(results: dict[str, Any], folder: str | Path) -> list[Path]:
    """Write bench.json and, if matplotlib is installed, bench.svg."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "bench.json"]
    written[0].write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    try:
        from rope_lab.figures.speed import speed
    except ImportError:
        return written
    written.append(folder / "bench.svg")
    speed(results).savefig(written[1])
    return written


def into_page(page: str, results: dict[str, Any]) -> str:
    """The text of a page with the tables of these results between its marks."""
    before, rest = page.split("<!-- bench -->")
    after = rest.split("<!-- /bench -->")[1]
    return f"{before}<!-- bench -->\n{summary(results)}\n<!-- /bench -->{after}"
