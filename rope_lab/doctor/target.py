"""What `rope-lab doctor` examines: a function of a module or a file, a module class, or a model of transformers."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from rope_lab.doctor.box import parameters
from rope_lab.doctor.diagnosis import diagnose
from rope_lab.doctor.tables import with_tables
from rope_lab.encodings import RotaryEmbedding
from rope_lab.interop import huggingface
from rope_lab.interop.huggingface.fields import field

FORMS = "module:function, path/to/file.py:function, or a model type of transformers such as llama"
DIM = 64  # of a head, where nothing says otherwise


def run(
    target: str,
    dim: int | None = None,
    *,
    axis: int | None = None,
    config: str | None = None,
    as_json: bool = False,
) -> int:
    """What `rope-lab doctor` does: print the diagnosis, and return 0 if nothing is wrong, otherwise 1.

    Raises:
        ValueError: if the target cannot be imported or called, or the config is not one.
        OSError: if the config cannot be read.
    """
    if dim is not None and dim < 1:
        raise ValueError(f"dim must be positive, got {dim}")
    expected = None
    if config is not None:
        expected, dim = expected_of(config, dim)
    turn, dim = load(target, dim)
    diagnosis = diagnose(turn, dim, axis=axis, expected=expected)
    print(json.dumps(diagnosis.as_dict(), ensure_ascii=False, indent=1) if as_json else diagnosis)
    return 0 if diagnosis.sound else 1


def load(target: str, dim: int | None) -> tuple[Callable[..., Any], int]:
    """The function that a target names, and the head dimension to call it with.

    The code of the module is run. A class is built, with the dimension as its argument or with none.

    Raises:
        ValueError: if nothing can be imported by this name, or what is there cannot be called.
    """
    if ":" not in target:
        return of_transformers(target, dim)
    place, _, name = target.rpartition(":")
    try:
        found: Any = _file(Path(place)) if place.endswith(".py") else _module(place)
        for part in name.split("."):
            found = getattr(found, part)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything when it is imported
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"target {target!r} cannot be imported: {text}") from error
    dim = DIM if dim is None else dim
    found = _built(found, dim) if isinstance(found, type) else found
    if not callable(found):
        raise ValueError(f"target must be {FORMS}; {target!r} is a {type(found).__name__}")
    return found, dim


def expected_of(file: str, dim: int | None) -> tuple[RotaryEmbedding, int | None]:
    """The rotation of a config.json, and its head dimension if it says so.

    Raises:
        ValueError: if the file is not such a config.
        OSError: if it cannot be read.
    """
    try:
        config = json.loads(Path(file).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"config must be a file of JSON, got {file!r}: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"config must be a JSON object, got a {type(config).__name__}")
    expected = huggingface.rotary_embedding(config)
    width, heads = field(config, "hidden_size", "n_embd"), field(config, "num_attention_heads", "n_head")
    of_head = field(config, "head_dim") or (width // heads if width and heads else None)
    return expected, dim or of_head


def of_transformers(kind: str, dim: int | None) -> tuple[Callable[..., Any], int]:
    """The rotation of a model type of transformers, from its rotary module and the function that applies it.

    No weights are needed: the rotation has none. Of heads that turn in part, the part that turns is probed where the
    attention itself cuts them.

    Raises:
        ValueError: if the model type is unknown or its rotation is called in another way.
    """
    try:
        transformers = importlib.import_module("transformers")
        config = transformers.AutoConfig.for_model(kind)
    except ModuleNotFoundError as error:
        raise ValueError(f"target {kind!r} cannot be imported: {error}") from error
    except ValueError as error:
        raise ValueError(f"target must be {FORMS}, got {kind!r}") from error
    name = type(config).__module__.replace("configuration_", "modeling_")
    modeling = importlib.import_module(name)
    apply = _function(modeling, "apply_rotary_pos_emb", "apply_rotary_emb")
    if getattr(config, "rope_interleave", False):
        apply = _function(modeling, "apply_rotary_pos_emb_interleave") or apply
    if apply is None or (table := _table(modeling, config)) is None:
        raise ValueError(
            f"target {kind!r} is called in another way: write a function of (x, positions) around its rotation, and "
            "give module:function"
        )
    turn = with_tables(apply, table)
    heads = field(config, "num_attention_heads", "n_head")
    whole = field(config, "head_dim") or (field(config, "hidden_size", "n_embd") or 0) // (heads or 1)
    part = field(config, "qk_rope_head_dim", "rotary_dim") or whole
    try:
        made = table(torch.ones(1), torch.arange(3)[None])
    except Exception as error:
        raise ValueError(
            f"target {kind!r} takes other positions than one number per token: {error}"
        ) from error
    width = made[0].shape[-1] if isinstance(made, tuple) else 2 * made.shape[-1]
    for size in (dim, part, width, 2 * width):
        if size and _works(turn, size):
            return turn, size
    raise ValueError(f"target {kind!r} takes no head of {part} or {width} coordinates: give --dim")


def _function(modeling: ModuleType, *names: str) -> Callable[..., Any] | None:
    return next((getattr(modeling, name) for name in names if hasattr(modeling, name)), None)


def _table(modeling: ModuleType, config: Any) -> Callable[[Tensor, Tensor], Any] | None:
    """What makes cosine and sine from (x, positions)."""
    kinds = [
        value
        for name, value in vars(modeling).items()
        if name.endswith("RotaryEmbedding") and "Vision" not in name and isinstance(value, type)
    ]
    if kinds:
        rotary = min(kinds, key=lambda kind: len(kind.__name__))(config)
        layers = sorted(
            set(getattr(config, "layer_types", None) or ())
        )  # "full_attention" before "sliding_attention"
        if "layer_type" in parameters(rotary) and layers:
            return lambda x, positions: rotary(x, positions, layer_type=layers[0])
        return rotary
    if not hasattr(modeling, "create_sinusoidal_positions"):
        return None
    stored = modeling.create_sinusoidal_positions(4096, config.rotary_dim)

    def table(x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        sin, cos = stored[positions].to(x.dtype).chunk(2, dim=-1)
        return cos, sin

    return table


def _works(turn: Callable[..., Any], dim: int) -> bool:
    for shape in ((1, 2, 5, dim), (1, 5, 2, dim)):
        x = torch.ones(shape)
        for heads in ((x, x), (x,)):
            try:
                found = turn(*heads, torch.arange(5)[None])
            except Exception:  # another shape, then
                continue
            found = found if isinstance(found, Tensor) else found[0]
            if isinstance(found, Tensor) and found.shape == shape:
                return True
    return False


def _built(kind: type, dim: int) -> Any:
    if not issubclass(kind, nn.Module) and "__call__" not in vars(kind):
        raise ValueError(f"target must be something that can be called, got the class {kind.__name__}")
    try:
        return kind(dim)
    except TypeError:
        pass
    try:
        return kind()
    except TypeError as error:
        raise ValueError(
            f"target {kind.__name__} cannot be built from the head dimension alone: {error}"
        ) from error


def _module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(os.getcwd())


def _file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examined_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks for the names in its annotations
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
