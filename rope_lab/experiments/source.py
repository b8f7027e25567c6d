"""What a recorded number hangs on: functions, classes and constants of this package behind it, with their digests."""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_LOOSE = "<statements>"  # of a module, those that give nothing a name
_BOOKS = (
    "rope_lab.experiments.store",
    "rope_lab.experiments.source",
)  # which keep records and make no number


@dataclass(frozen=True)
class _Module:
    """The definitions of a module by name, the names it takes from this package, and those it takes from others."""

    own: dict[str, list[ast.stmt]]
    ours: dict[str, tuple[str, str]]  # name here -> module, name there
    others: dict[str, str]


def behind(roots: Iterable[str]) -> dict[str, str]:
    """Digests of definitions of this package and of all that they name, by full name.

    A definition is a function, a class or an assignment at the top of a module. Not covered are comments, docstrings,
    messages of errors, what a training says, the layout of the lines, the Python that reads them, the module that
    something is in (what moves keeps its digest), and the two modules that keep the records. What is reached in another
    way than by its name is not seen; a test runs every experiment and compares.

    Args:
        roots: full names, such as "rope_lab.experiments.text.measure_encoding" or that of a module, which means all
            that it defines; one that no longer exists is left out.
    """
    found: dict[str, str] = {}
    waiting = [definition for root in roots for definition in _named(root)]
    while waiting:
        module, name = waiting.pop()
        full = f"{module}.{name}"
        if full not in found and module not in _BOOKS:
            found[full] = _digest_of(*_version(module), name)
            waiting += [*_uses(module, name), *([(module, _LOOSE)] if _LOOSE in _read(module).own else [])]
    return dict(sorted(found.items()))


def function(measure: Callable[..., Any]) -> str:
    """The full name of a function."""
    return f"{measure.__module__}.{measure.__qualname__}"


def digest(thing: Any) -> str:
    """Twelve hexadecimal digits of the hash of its JSON."""
    return hashlib.sha256(json.dumps(thing, sort_keys=True).encode()).hexdigest()[:12]


def _named(full: str) -> list[tuple[str, str]]:
    module, _, name = full.rpartition(".")
    if _path(module) and name in _read(module).own:
        return [(module, name)]
    return [(full, name) for name in _read(full).own] if _path(full) else []


def _uses(module: str, name: str) -> Iterator[tuple[str, str]]:
    """The definitions of this package that a definition names; of a module that is passed on whole, all of them."""
    nodes = [node for definition in _read(module).own[name] for node in ast.walk(definition)]
    parts: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            place, inner = _home(module, node.value.id)
            if place and not inner:  # a module
                parts.add(id(node.value))
                yield from _targets(*_home(place, node.attr))
    for node in nodes:
        if isinstance(node, ast.Name) and id(node) not in parts:
            yield from _targets(*_home(module, node.id))


def _targets(module: str, name: str) -> Iterable[tuple[str, str]]:
    return (
        [(module, name)]
        if module and name
        else ((module, one) for one in (_read(module).own if module else ()))
    )


def _home(module: str, name: str) -> tuple[str, str]:
    """The module that defines what `name` means in another, and its name there, which is "" for a module itself."""
    here = _read(module)
    if name in here.own:
        return module, name
    if name in here.ours:
        place, there = here.ours[name]
        if place != module and (found := _home(place, there))[0]:
            return found
        if _path(f"{place}.{there}"):
            return f"{place}.{there}", ""
    return "", ""


def _version(module: str) -> tuple[str, int]:
    """The file of a module, and when it was last written."""
    path = _path(module)
    return path, Path(path).stat().st_mtime_ns


def _path(module: str) -> str:
    try:
        spec = importlib.util.find_spec(module) if module else None
    except (ModuleNotFoundError, ValueError):
        return ""
    return (spec.origin or "") if spec and spec.has_location else ""


def _read(module: str) -> _Module:
    return _parsed(*_version(module))


@cache
def _parsed(path: str, version: int) -> _Module:
    tree = ast.parse(Path(path).read_text("utf-8"))
    own: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _names(statement):
            own.setdefault(name, []).append(statement)
    ours: dict[str, tuple[str, str]] = {}
    others: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            place = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                here = alias.asname or alias.name.split(".")[0]
                if place.split(".")[0] == "rope_lab":
                    ours[here] = (place, alias.name)
                elif here != "rope_lab":
                    others[here] = f"{place}.{alias.name}"
    return _Module(own, ours, others)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return []
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # a docstring
        return []
    if isinstance(node, ast.If) and all(
        isinstance(inner, (ast.Import, ast.ImportFrom)) for inner in node.body
    ):
        return []
    return [_LOOSE]


@cache
def _digest_of(path: str, version: int, name: str) -> str:
    """The digest of a definition, and of what the names in it that come from other packages are."""
    here = _parsed(path, version)
    nodes = [_bare(copy.deepcopy(node)) for node in here.own[name]]
    names = {node.id for one in nodes for node in ast.walk(one) if isinstance(node, ast.Name)}
    return digest(
        [sorted(f"{one} is {here.others[one]}" for one in names & here.others.keys()), _dump(nodes)]
    )


def _bare(definition: ast.AST) -> ast.AST:
    """A definition without docstrings, messages of errors and what it says."""
    for node in ast.walk(definition):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc.args = []
        for part in ("body", "orelse", "finalbody"):
            if isinstance(body := getattr(node, part, None), list):
                kept = [inner for inner in body if not _only_said(inner) and not _is_ours(inner)]
                setattr(node, part, kept or ([ast.Pass()] if body else []))
    return definition


def _only_said(node: ast.stmt) -> bool:
    """A docstring or another text by itself, or a call of `say`."""
    if not isinstance(node, ast.Expr):
        return False
    call = node.value
    return (isinstance(call, ast.Constant) and isinstance(call.value, str)) or (
        isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "say"
    )


def _is_ours(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rope_lab"


def _dump(node: Any) -> Any:
    """A syntax tree in types that JSON has, the same from Python 3.10 to 3.13, where `ast.dump` differs."""
    if isinstance(node, ast.JoinedStr):  # 3.12.1 ends some with an empty text
        return ["JoinedStr", [_dump(v) for v in node.values if getattr(v, "value", None) != ""]]
    if isinstance(node, ast.AST):
        fields = {k: _dump(v) for k, v in ast.iter_fields(node) if v is not None and v != []}
        return [type(node).__name__, fields]
    return [_dump(each) for each in node] if isinstance(node, list) else ascii(node)
