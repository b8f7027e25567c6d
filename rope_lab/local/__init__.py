"""Local attention: a query sees the keys of a window."""

from rope_lab.local.attention import LocalAttention, local_attention
from rope_lab.local.blocks import Window
from rope_lab.local.cache import LocalCache
from rope_lab.local.transformer import LocalConfig, LocalSelfAttention, LocalTransformer

__all__ = [
    "LocalAttention",
    "LocalCache",
    "LocalConfig",
    "LocalSelfAttention",
    "LocalTransformer",
    "Window",
    "local_attention",
]
