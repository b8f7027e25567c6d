"""rope_lab: rotary position embeddings and their neighbours, short and exact."""

from rope_lab.attention import KVCache, MultiHeadAttention
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
from rope_lab.local import LocalAttention, LocalCache, LocalConfig, LocalTransformer
from rope_lab.model import RoFormer, RoFormerConfig

__version__ = "0.1.0"
__all__ = [
    "KVCache",
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
