"""Between this package and `transformers`: rotations from configs, weights in another layout, Llamas out and in.

    from rope_lab.interop.huggingface import rotary_embedding, convert_layout, export_llama, import_llama

Nothing here imports transformers: a config or a model is taken as it is, of version 4 or 5. Two differences are
deliberate: frequencies are float64, so that cos and sin stay exact at any position, and scalings that depend on the
length take the length as an argument instead of keeping the longest one seen.
"""

from rope_lab.interop.huggingface.configs import ROPE_TYPES, frequencies, rotary_embedding, scaling
from rope_lab.interop.huggingface.convert import convert_layout
from rope_lab.interop.huggingface.layouts import model_layout
from rope_lab.interop.huggingface.llama import export_llama, import_llama

__all__ = [
    "ROPE_TYPES",
    "convert_layout",
    "export_llama",
    "frequencies",
    "import_llama",
    "model_layout",
    "rotary_embedding",
    "scaling",
]
