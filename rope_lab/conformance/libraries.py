"""The libraries of the table, each as its own documentation calls it, and this package."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

import rope_lab
from rope_lab.conformance.inquiry import said
from rope_lab.conformance.subject import Subject
from rope_lab.encodings import RotaryEmbedding, angles, rotate


def ours() -> Subject:
    """`rope_lab.RotaryEmbedding`."""

    def heads_last(dim: int) -> Callable[..., Any]:
        def turn(x: Tensor, positions: Tensor) -> Tensor:
            freqs = rope_lab.frequencies(dim)
            return rotate(x, angles(positions, freqs, dtype=_product(x)), axis=1)

        return turn

    return Subject(
        "rope_lab",
        RotaryEmbedding,
        partial=lambda part, dim: RotaryEmbedding(part),
        heads_last=heads_last,
        version=rope_lab.__version__,
        how="`RotaryEmbedding(64)(q, k)`; for (B, N, H, D) `rotate(x, angles, axis=1)`",
    )


def rotary_embedding_torch() -> Subject:
    """The class of rotary-embedding-torch; positions of one's own go through its frequencies, as for its grids."""
    theirs: Any = importlib.import_module("rotary_embedding_torch")

    class Held(nn.Module):
        def __init__(self, dim: int, **options: Any) -> None:
            super().__init__()
            self.rotary = theirs.RotaryEmbedding(dim=dim, **options)

    class Plain(Held):
        def forward(self, x: Tensor) -> Tensor:
            return self.rotary.rotate_queries_or_keys(x)

    class Offset(Held):
        def forward(self, x: Tensor, offset: int = 0) -> Tensor:
            return self.rotary.rotate_queries_or_keys(x, offset=offset)

    class Cached(Held):
        def forward(self, q: Tensor, k: Tensor) -> Any:
            return self.rotary.rotate_queries_with_cached_keys(q, k)

    class Given(Held):
        def forward(self, x: Tensor, positions: Tensor) -> Tensor:
            freqs = self.rotary(positions)
            return theirs.apply_rotary_emb(freqs if positions.ndim == 1 else freqs[:, None], x)

    return Subject(
        "rotary-embedding-torch",
        Plain,
        positions=Given,
        offset=Offset,
        cached=Cached,
        partial=lambda part, dim: Plain(part),
        heads_last=lambda dim: Plain(dim, seq_before_head_dim=True),
        short="r-e-t",
        version=metadata.version("rotary-embedding-torch"),
        how="`RotaryEmbedding(dim=64).rotate_queries_or_keys(x)`, with `offset=` for a first position; "
        "`apply_rotary_emb(rotary(positions), x)` for other positions; `rotate_queries_with_cached_keys`",
    )


def labml_nn() -> Subject:
    """The module of labml_nn, on (N, B, H, D)."""
    theirs: Any = importlib.import_module("labml_nn.transformers.rope")
    return Subject(
        "labml_nn",
        theirs.RotaryPositionalEmbeddings,
        partial=lambda part, dim: theirs.RotaryPositionalEmbeddings(part),
        short="labml",
        version=metadata.version("labml-nn"),
        how="`RotaryPositionalEmbeddings(64)(x)` with `x` of shape (N, B, H, D)",
    )


def local_attention() -> Subject:
    """The rotary functions of local-attention, called as its own attention calls them."""
    theirs: Any = importlib.import_module("local_attention.rotary")

    class Turn(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.rel_pos = theirs.SinusoidalEmbeddings(dim)

        def forward(self, q: Tensor, k: Tensor) -> Any:
            freqs, scale = self.rel_pos(k)
            return theirs.apply_rotary_pos_emb(q, k, freqs, scale=scale)

    return Subject(
        "local-attention",
        Turn,
        short="local",
        version=metadata.version("local-attention"),
        how="`apply_rotary_pos_emb(q, k, *SinusoidalEmbeddings(64)(k))`, as inside its attention, whose positions "
        "are counted within a window and so stay small",
    )


def llama() -> Subject:
    """The rotary module of Llama in transformers with the function that applies it."""
    config: Any = importlib.import_module("transformers.models.llama.configuration_llama").LlamaConfig
    theirs: Any = importlib.import_module("transformers.models.llama.modeling_llama")

    class Turn(nn.Module):
        axis = 1

        def __init__(self, dim: int) -> None:
            super().__init__()
            self.rotary = theirs.LlamaRotaryEmbedding(
                config(hidden_size=dim, head_dim=dim, num_attention_heads=1, num_key_value_heads=1)
            )

        def forward(self, q: Tensor, k: Tensor, position_ids: Tensor) -> Any:
            rows = (
                position_ids if position_ids.ndim == 2 else position_ids[None]
            )  # as its docstring has it: (B, N)
            cos, sin = self.rotary(q, rows)
            return theirs.apply_rotary_pos_emb(q, k, cos, sin, unsqueeze_dim=self.axis)

    class HeadsLast(Turn):
        axis = 2

    return Subject(
        "Llama of transformers",
        Turn,
        heads_last=HeadsLast,
        short="Llama",
        version=metadata.version("transformers"),
        how="`apply_rotary_pos_emb(q, k, *LlamaRotaryEmbedding(config)(q, position_ids))`; a model loaded with "
        "`dtype=torch.bfloat16` keeps its frequencies in float32, unlike one that is cast afterwards",
        why={"partial rotation": "Llama turns whole heads; GPT-NeoX and Phi of the same library turn a part"},
    )


def _product(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


LIBRARIES: dict[str, Callable[[], Subject]] = {
    "rope_lab": ours,
    "rotary-embedding-torch": rotary_embedding_torch,
    "labml_nn": labml_nn,
    "local-attention": local_attention,
    "Llama of transformers": llama,
}


def installed() -> tuple[list[Subject], list[str]]:
    """The libraries that can be imported, and the names of the others with the error, which may be any."""
    found, missing = [], []
    for name, make in LIBRARIES.items():
        try:
            found.append(make())
        except Exception as error:  # not installed, or another version, whose names are others
            missing.append(f"{name} ({said(error)})")
    return found, missing
