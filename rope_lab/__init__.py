"""rope_lab: rotary position embeddings and their neighbours, short and exact."""

from rope_lab.absolute import LearnedEmbedding, SinusoidalEmbedding, sinusoidal
from rope_lab.attention import KVCache, MultiHeadAttention
from rope_lab.encoding import NoPE, PositionEncoding
from rope_lab.layouts import convert_layout, convert_projection
from rope_lab.local import LocalAttention, LocalCache
from rope_lab.local_transformer import LocalConfig, LocalTransformer
from rope_lab.model import RoFormer, RoFormerConfig
from rope_lab.rotary import RotaryEmbedding, angles, frequencies, rotate

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
