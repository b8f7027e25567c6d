"""Recorded numbers: one small JSON file per experiment and scale, with code, machine and seed for every number.

    {"experiment": "encodings", "scale": "cpu", "code": {HASH: {MODULE: DIGEST, …}}, "records": [RECORD, …],
     "confirmed": {HASH: [{"variant": …, "seed": …, "difference": …}, …]}}

A record contains its variant, its seed, the hash of the code that made it, what `provenance` says, the seconds it
took and its numbers. It is written as soon as it is measured, and a rerun skips what is already there. If the code
has changed since, the records are stale until one is measured again and agrees up to rounding; then they are
confirmed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeGuard

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
        code: for each hash, the digest of every module behind it.
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

    def add(self, folder: str | Path, record: Record, modules: dict[str, str]) -> None:
        """Add one record to the file, which is complete at any moment, with it or without it."""
        self.code[digest(modules)] = modules
        self.records.append(record | {"code": digest(modules)})
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

    def stale(self) -> list[str]:
        """Modules that have changed since a record was made or the records were confirmed; empty if none has."""
        changed: set[str] = set()
        for hash_, modules in self.code.items():
            now = modules_behind(modules)
            if _same(now, modules) and hash_ in self.confirmed:
                return []
            changed |= {name for name, one in now.items() if one not in modules.values()}
            changed |= {name for name, one in modules.items() if one not in now.values()}
        return sorted(changed)

    def _current(self) -> str:
        return next(
            (hash_ for hash_, modules in self.code.items() if _same(modules_behind(modules), modules)), ""
        )

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
            return f"{said}; STALE, changed since: {', '.join(stale)}"
        if again := self.confirmed.get(self._current(), []):
            said += (
                f"; {len(again)} of {len(self.records)} records run again with the current code: "
                + "; ".join(
                    f"{one['variant']}, seed {one['seed']}, "
                    + (f"within {one['difference']:.0e}" if one["difference"] else "bit-identical")
                    for one in again
                )
            )
        return said


def _count(count: int | str, thing: str) -> str:
    return f"{count} {thing}" + ("" if count in (1, "1") else "s")


def file_of(folder: str | Path, experiment: str, scale: str) -> Path:
    """The path in a folder of the records of an experiment at a scale."""
    return Path(folder) / scale / f"{experiment}.json"


def _same(one: dict[str, str], other: dict[str, str]) -> bool:
    """Whether both consist of the same modules, whatever their names."""
    return sorted(one.values()) == sorted(other.values())


def _sound(found: dict[str, Any]) -> bool:
    code, confirmed = found["code"], found["confirmed"]
    return (
        isinstance(found["records"], list)
        and all(_fits(record, _RECORD) for record in found["records"])
        and isinstance(code, dict)
        and all(_fits(modules, dict.fromkeys(modules, str)) for modules in code.values())
        and isinstance(confirmed, dict)
        and all(isinstance(again, list) for again in confirmed.values())
        and all(_fits(record, _AGAIN) for again in confirmed.values() for record in again)
    )


def _fits(thing: Any, shape: Any) -> bool:
    if isinstance(shape, dict):
        return isinstance(thing, dict) and all(k in thing and _fits(thing[k], shape[k]) for k in shape)
    return isinstance(thing, shape)


def modules_behind(roots: Iterable[str]) -> dict[str, str]:
    """Digests of modules of this package and of all they import from it, by name.

    Comments, docstrings, messages of errors and the layout of the lines do not count, nor does the Python that reads
    them, nor where in the package a name is imported from: a module that moves keeps its digest, and so do those that
    use it.

    Args:
        roots: full names, such as "rope_lab.experiments.text"; one that no longer exists is left out.
    """
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        tree = None if name in found else _tree(name)
        if tree is None:
            continue
        for node in ast.walk(tree):
            if _is_ours(node):
                waiting += [_home(str(node.module), alias.name) for alias in node.names]
        found[name] = digest(_essence(tree))
    return dict(sorted(found.items()))


def _tree(name: str) -> ast.Module | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return ast.parse(Path(spec.origin).read_text("utf-8")) if spec and spec.origin else None


def _is_ours(node: ast.AST) -> TypeGuard[ast.ImportFrom]:
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rope_lab"


def _home(place: str, name: str) -> str:
    """The module that `from place import name` reads, behind the `__init__` of a room that passes the name on."""
    if name in _handed_on(place):
        return _home(*_handed_on(place)[name])
    return f"{place}.{name}" if _tree(f"{place}.{name}") else place


@cache
def _handed_on(place: str) -> dict[str, tuple[str, str]]:
    tree = _tree(place)
    ours = [node for node in (ast.walk(tree) if tree else []) if _is_ours(node) and node.module != place]
    return {a.asname or a.name: (str(node.module), a.name) for node in ours for a in node.names}


def _essence(tree: ast.Module) -> Any:
    """A module without docstrings, and with only the names of its imports from this package."""
    tree = _without_docstrings(_without_messages(tree))
    names = sorted(f"{a.name} as {a.asname}" for node in ast.walk(tree) if _is_ours(node) for a in node.names)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [inner for inner in body if not _is_ours(inner)]  # type: ignore[attr-defined]
    return [names, _dump(tree)]


def _without_messages(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc.args = []
    return tree


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _dump(node: Any) -> Any:
    """A syntax tree in types that JSON has, the same from Python 3.10 to 3.13, where `ast.dump` differs."""
    if isinstance(node, ast.JoinedStr):  # 3.12.1 ends some with an empty text
        return ["JoinedStr", [_dump(v) for v in node.values if getattr(v, "value", None) != ""]]
    if isinstance(node, ast.AST):
        fields = {k: _dump(v) for k, v in ast.iter_fields(node) if v is not None and v != []}
        return [type(node).__name__, fields]
    return [_dump(each) for each in node] if isinstance(node, list) else ascii(node)


def digest(thing: Any) -> str:
    """Twelve hexadecimal digits of the hash of its JSON."""
    return hashlib.sha256(json.dumps(thing, sort_keys=True).encode()).hexdigest()[:12]
