"""Recorded numbers: one small JSON file per experiment and scale, with code, machine and seed for every number.

    {"experiment": "encodings", "scale": "cpu", "code": {HASH: {NAME: DIGEST, …}}, "records": [RECORD, …],
     "confirmed": {HASH: [{"variant": …, "seed": …, "difference": …}, …]}}

A record contains its variant, its seed, the hash of the code that made it, what `provenance` says, the seconds it
took and its numbers. It is written as soon as it is measured, and a rerun skips what is already there. If the code
behind a variant has changed since, its records are stale until one of them is measured again and agrees up to
rounding; then they are confirmed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from rope_lab.experiments.source import behind, digest

Record = dict[str, Any]
_KEYS = {"experiment", "scale", "code", "records", "confirmed"}
_RECORD = {  # what every record must hold, numbers apart
    "variant": str, "seed": int, "code": str, "corpus": {"name": str, "sha256": str}, "device": str, "machine": str,
    "threads": int, "versions": {"torch": str},
}  # fmt: skip
_AGAIN = {"variant": str, "seed": int, "difference": (int, float)}


@dataclass
class Results:
    """The records of one experiment at one scale.

    Args:
        experiment, scale: their names.
        records: all records.
        code: for each hash, the digest of every definition behind it.
        confirmed: the records that other code has reproduced, by the hash of that code.
    """

    experiment: str
    scale: str
    records: list[Record] = field(default_factory=list)
    code: dict[str, dict[str, str]] = field(default_factory=dict)
    confirmed: dict[str, list[Record]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path, experiment: str, scale: str) -> Results:
        """The results in the folder; empty if there is no file.

        Raises:
            ValueError: if the file does not contain such records. It is left unchanged.
        """
        path = file_of(folder, experiment, scale)
        if not path.exists():
            return cls(experiment, scale)
        try:
            found = json.loads(path.read_text("utf-8"))
            if found.keys() != _KEYS or (found["experiment"], found["scale"]) != (experiment, scale):
                raise ValueError("it is of another experiment or scale")
            if not _sound(found):
                raise ValueError("a part of it is missing or of the wrong type")
            return cls(**found)
        except (ValueError, AttributeError, TypeError, OSError) as error:
            must = f"hold records of {experiment} at scale {scale}, or be moved away"
            raise ValueError(f"results file must {must}, got {str(path)!r}: {error}") from error

    @classmethod
    def recorded(cls, experiment: str, scale: str = "cpu") -> Results:
        """The records that come with the package, which the book reads."""
        with resources.as_file(resources.files("rope_lab.experiments") / "results") as folder:
            return cls.read(folder, experiment, scale)

    def has(self, variant: str, seed: int) -> bool:
        """Whether this variant and seed are recorded."""
        return any((r["variant"], r["seed"]) == (variant, seed) for r in self.records)

    def add(self, folder: str | Path, record: Record, code: dict[str, str]) -> None:
        """Add one record to the file, which is complete at any moment, with it or without it."""
        self.code[digest(code)] = code
        self.records.append(record | {"code": digest(code)})
        self.write(folder)

    def write(self, folder: str | Path) -> None:
        """Replace the whole file, or leave it unchanged."""
        from rope_lab.training import whole  # needs torch, which reading does not

        path = file_of(folder, self.experiment, self.scale)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as beside:
            beside.write_text(json.dumps(vars(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def variants(self) -> list[str]:
        """Names of the variants in the order in which they were first recorded."""
        return list(dict.fromkeys(record["variant"] for record in self.records))

    def values(self, variant: str, *path: str | int) -> list[float]:
        """One number for each seed of a variant: `values("rope", "val_loss")`, `values("rope", "lengths", 2)`."""
        found = []
        for record in self.records:
            if record["variant"] == variant:
                value: Any = record
                for step in path:
                    value = value[step]
                found.append(value)
        return found

    def stale(self) -> dict[str, list[str]]:
        """For each variant with records of other code that today's has not reproduced, the definitions that changed."""
        now = {hash_: behind(code) for hash_, code in self.code.items()}
        current = {hash_ for hash_, code in self.code.items() if _same(now[hash_], code)}
        again = {one["variant"] for hash_ in current for one in self.confirmed.get(hash_, [])}
        changed: dict[str, set[str]] = {}
        for record in self.records:
            if record["code"] in current or record["variant"] in again:
                continue
            then, today = self.code[record["code"]], now[record["code"]]
            changed.setdefault(record["variant"], set()).update(
                {name for name, one in today.items() if one not in then.values()},
                {name for name, one in then.items() if one not in today.values()},
            )
        return {variant: sorted(names) for variant, names in changed.items()}

    def reproduced(self) -> list[Record]:
        """The records that today's code has reproduced."""
        current = [hash_ for hash_, code in self.code.items() if _same(behind(code), code)]
        return [one for hash_ in current for one in self.confirmed.get(hash_, [])]

    def _all(self, of: Callable[[Record], Any], between: str = "/") -> str:
        return between.join(map(str, sorted({of(record) for record in self.records})))

    def provenance(self) -> str:
        """The line below a table: seeds, machine, versions, and what has changed since or was reproduced."""
        if not self.records:
            return f"no records of {self.experiment} at scale {self.scale}"
        seeds = {record["seed"] for record in self.records}
        said = (
            f"{self.experiment}, scale {self.scale}, {_count(len(seeds), 'seed')}, "
            f"{self._all(lambda r: r['corpus']['name'])}, "
            f"{self._all(lambda r: r['device'])} ({self._all(lambda r: r['machine'])}, "
            f"{_count(self._all(lambda r: r['threads']), 'thread')}), "
            f"torch {self._all(lambda r: r['versions']['torch'])}, "
            f"code {self._all(lambda r: r['code'], '+')}"
        )
        if stale := self.stale():
            names = sorted({name for changed in stale.values() for name in changed})
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            said += f"; STALE for {len(stale)} of {len(self.variants())} variants, changed since: "
            said += ", ".join(names[:3]) + more
        if again := self.reproduced():
            farthest = max(one["difference"] for one in again)
            exact = "bit-identical" if not farthest else f"within {farthest:.0e}"
            said += f"; {len(again)} of {len(self.records)} records run again with the current code: {exact}"
        return said


def _count(count: int | str, thing: str) -> str:
    return f"{count} {thing}" + ("" if count in (1, "1") else "s")


def file_of(folder: str | Path, experiment: str, scale: str) -> Path:
    """The path in a folder of the records of an experiment at a scale."""
    return Path(folder) / scale / f"{experiment}.json"


def _same(one: dict[str, str], other: dict[str, str]) -> bool:
    """Whether both consist of the same definitions, whatever their names."""
    return sorted(one.values()) == sorted(other.values())


def _sound(found: dict[str, Any]) -> bool:
    code, confirmed = found["code"], found["confirmed"]
    return (
        isinstance(found["records"], list)
        and all(_fits(record, _RECORD) for record in found["records"])
        and isinstance(code, dict)
        and all(_fits(names, dict.fromkeys(names, str)) for names in code.values())
        and isinstance(confirmed, dict)
        and all(isinstance(again, list) for again in confirmed.values())
        and all(_fits(record, _AGAIN) for again in confirmed.values() for record in again)
    )


def _fits(thing: Any, shape: Any) -> bool:
    if isinstance(shape, dict):
        return isinstance(thing, dict) and all(k in thing and _fits(thing[k], shape[k]) for k in shape)
    return isinstance(thing, shape)
