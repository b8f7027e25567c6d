"""Golden vectors: inputs and exact outputs of rotations, for libraries in any language to test themselves.

    from rope_lab.conformance.golden import check

    check(my_rotate, "float32")     # my_rotate maps a case to the rotated numbers, or to None

`rope-1.json` and `rope-1.safetensors` hold the same cases. `reader.py` and `reader.mjs` read the first one and need
nothing of this package. `python -m rope_lab.conformance.golden` writes both files again, byte for byte.
"""

from rope_lab.conformance.golden.reader import cases, check

__all__ = ["cases", "check"]
