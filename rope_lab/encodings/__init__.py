"""Every position encoding, one per file, on one of three hooks."""

from rope_lab.encodings.absolute import LearnedEmbedding, SinusoidalEmbedding, sinusoidal
from rope_lab.encodings.axial import (
    RotaryEmbeddingND,
    angles_nd,
    axial_frequencies,
    grid_coordinates,
    mixed_frequencies,
    mrope_frequencies,
    pixel_frequencies,
)
from rope_lab.encodings.base import NoPE, PositionEncoding
from rope_lab.encodings.bias import (
    ALiBi,
    DeBERTa,
    Shaw,
    T5Bias,
    TransformerXL,
    alibi_slopes,
    relative_positions,
    t5_buckets,
)
from rope_lab.encodings.layouts import convert_layout, convert_projection
from rope_lab.encodings.rotary import (
    Layout,
    RotaryEmbedding,
    angles,
    frequencies,
    keep_float32,
    reduce_turns,
    rotate,
    table_device,
)
from rope_lab.encodings.scaling import (
    DynamicNTK,
    Llama3,
    LongRoPE,
    NTKAware,
    PositionInterpolation,
    PRoPE,
    Scaling,
    YaRN,
)
from rope_lab.encodings.variants import GrowingRotaryEmbedding, RotaryValueEmbedding
from rope_lab.encodings.xpos import XPos

__all__ = [
    "ALiBi",
    "DeBERTa",
    "DynamicNTK",
    "GrowingRotaryEmbedding",
    "Layout",
    "LearnedEmbedding",
    "Llama3",
    "LongRoPE",
    "NTKAware",
    "NoPE",
    "PRoPE",
    "PositionEncoding",
    "PositionInterpolation",
    "RotaryEmbedding",
    "RotaryEmbeddingND",
    "RotaryValueEmbedding",
    "Scaling",
    "Shaw",
    "SinusoidalEmbedding",
    "T5Bias",
    "TransformerXL",
    "XPos",
    "YaRN",
    "alibi_slopes",
    "angles",
    "angles_nd",
    "axial_frequencies",
    "convert_layout",
    "convert_projection",
    "frequencies",
    "grid_coordinates",
    "keep_float32",
    "mixed_frequencies",
    "mrope_frequencies",
    "pixel_frequencies",
    "reduce_turns",
    "relative_positions",
    "rotate",
    "sinusoidal",
    "t5_buckets",
    "table_device",
]
