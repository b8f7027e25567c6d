"""rope_lab: rotary position embeddings and related encodings, in short and exact code."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # where each name comes from; `__getattr__` below fetches it when it is first used
    from rope_lab.attention import MultiHeadAttention
    from rope_lab.cache import KVCache
    from rope_lab.config import RoFormerConfig
    from rope_lab.encodings import (
        LearnedEmbedding,
        NoPE,
        PositionEncoding,
        RotaryEmbedding,
        SinusoidalEmbedding,
        angles,
        convert_layout,
        convert_projection,
        frequencies,
        rotate,
        sinusoidal,
    )
    from rope_lab.latent import LatentAttention
    from rope_lab.local import LocalAttention, LocalCache, LocalConfig, LocalTransformer
    from rope_lab.model import RoFormer

__version__ = "0.1.0"
__all__ = [
    "KVCache",
    "LatentAttention",
    "LearnedEmbedding",
    "LocalAttention",
    "LocalCache",
    "LocalConfig",
    "LocalTransformer",
    "MultiHeadAttention",
    "NoPE",
    "PositionEncoding",
    "RoFormer",
    "RoFormerConfig",
    "RotaryEmbedding",
    "SinusoidalEmbedding",
    "angles",
    "convert_layout",
    "convert_projection",
    "frequencies",
    "rotate",
    "sinusoidal",
]

_ROOMS = ("encodings", "cache", "attention", "latent", "config", "model", "local")  # searched in this order

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a name with its room when it is first used: `rope-lab --help` need not wait for torch."""
        from importlib import import_module

        if name in _ROOMS:
            return import_module(f"rope_lab.{name}")
        if name in __all__:
            rooms = (import_module(f"rope_lab.{room}") for room in _ROOMS)
            return next(getattr(room, name) for room in rooms if hasattr(room, name))
        raise AttributeError(f"module 'rope_lab' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_ROOMS})
