"""RoPE for Keras 3, on whichever backend Keras runs; and the two names of a well-known tutorial, made right.

    from rope_lab.interop.keras import RotaryEmbedding                             # for queries and keys
    from rope_lab.interop.keras import get_rotary_embedding, RotaryEmbeddingLayer  # the tutorial's names

Tensors are as in Keras attention, (B, N, H, D): tokens before heads, unlike the (B, H, N, D) of the rest of this
package, which `sequence_axis=2` takes. Only `keras.ops` touches a tensor. Keras asks for TensorFlow unless the
environment says KERAS_BACKEND=torch before its first import.

Cosine and sine are formed in float64 and rounded once, so that position 10,000,000 is as exact as position 10.
Positions that only a tensor knows (a cache index inside a compiled step, rows of their own) are taken digit by digit
in base 256, m = Σ_k m_k·256^k: e^{imθ} is the product of one entry a digit out of small exact tables, within 4e-7 in
float32 for every int32 and on every backend, those without float64 included.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args

import numpy as np

from rope_lab.encodings import Layout, frequencies

try:
    import keras
    from keras import ops
except ImportError as error:
    if error.name and error.name.partition(".")[0] == "keras":
        raise ImportError('keras 3 is not installed: pip install "rope-lab[keras]"') from error
    chosen = "set KERAS_BACKEND to one that is installed, such as torch, before the first import of keras"
    raise ImportError(f"keras found no backend ({error}): {chosen}") from error

Shape = tuple[Any, ...]  # None where Keras does not know a length yet


@keras.saving.register_keras_serializable(package="rope_lab")
class RotaryEmbedding(keras.layers.Layer):
    """RoPE for queries and keys: call it on both, after their projections and before their product.

        q, k = RotaryEmbedding()(q, k)

    As any Keras layer it casts its input to the compute dtype of its policy and returns that. Under "mixed_bfloat16"
    or "mixed_float16" the angles and the product stay float32; under "float64" both are float64. It has no weights.

    Args:
        dim: the first so many coordinates turn, positive and even; by default all of them.
        base: of the frequencies θ_i = base^(−2i/dim), by default 10,000.
        layout: "interleaved", the default, pairs coordinates (0, 1), (2, 3), …; "half" pairs i with i + dim/2, as
            KerasHub does.
        sequence_axis: the token axis: 1, the default, for (B, N, H, D) and (B, N, D), 2 for (B, H, N, D).

    Raises:
        ValueError: if an argument is not as above.

    Source: Su et al. 2021 (arXiv:2104.09864), eq. 34.
    """

    def __init__(
        self,
        dim: int | None = None,
        *,
        base: float = 10_000.0,
        layout: Layout = "interleaved",
        sequence_axis: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        frequencies(2 if dim is None else dim, base, device="cpu")  # refuses a bad dim or base here
        if layout not in get_args(Layout):
            raise ValueError(f"layout must be one of {get_args(Layout)}, got {layout!r}")
        if sequence_axis not in (1, 2):
            raise ValueError(f"sequence_axis must be 1 or 2, got {sequence_axis!r}")
        self.dim, self.base, self.layout, self.sequence_axis = dim, float(base), layout, sequence_axis
        self.supports_masking = True

    def call(self, q: Any, k: Any = None, positions: Any = None, offset: Any = 0) -> Any:
        """Rotate queries, and keys where given, by their positions.

        Args:
            q: queries, shape (B, N_q, H, D) or (B, N_q, D).
            k: keys, with as many axes and their own number of heads. Where N_q < N_k, the queries are the last
                N_q of its tokens.
            positions: of the keys (of the queries where there are none), integers, shape (N_k,) or (B, N_k), between
                −2^31 and 2^31; by default 0, 1, …, N_k − 1.
            offset: added to every position, an integer or an integer tensor without axes.

        Returns:
            Rotated q, or q and k, with their shapes.

        Raises:
            ValueError: if shapes do not fit, `dim` exceeds D, there are more queries than keys, or `positions` or
                `offset` are not integers.
        """
        keys = q if k is None else k
        positions = None if positions is None else ops.convert_to_tensor(positions)
        self.compute_output_shape(q.shape, keys.shape, None if positions is None else positions.shape)
        n_q, n_k = (ops.shape(x)[self.sequence_axis] for x in (q, keys))
        dim, dtype = q.shape[-1] if self.dim is None else self.dim, _angle_dtype(self.compute_dtype)
        if positions is None and isinstance(n_k, int) and isinstance(offset, int):
            table = _static_table(n_k, offset, dim, self.base, dtype)
        else:
            positions = ops.arange(n_k) if positions is None else positions
            offset = ops.convert_to_tensor(offset)
            for name, value in (("positions", positions), ("offset", offset)):
                if not keras.backend.is_int_dtype(value.dtype):
                    dtype = keras.backend.standardize_dtype(value.dtype)
                    raise ValueError(f"{name} must be integers, got {dtype}")
            if len(offset.shape):
                raise ValueError(f"offset must have no axes, got shape {tuple(offset.shape)}")
            m = ops.cast(positions, "int32") + ops.cast(offset, "int32")
            table = _table_by_digits(m, dim, self.base, dtype)

        def turn(x: Any, start: Any) -> Any:
            cos, sin = (self._fit(part[..., start:, :], len(x.shape)) for part in table)
            return _rotate(x, cos, sin, self.layout)

        return turn(q, n_k - n_q) if k is None else (turn(q, n_k - n_q), turn(k, 0))

    def _fit(self, table: Any, ndim: int) -> Any:
        """(N, R/2) or (B, N, R/2) -> axes of length 1 for what the angles do not depend on."""
        table = table[None] if len(table.shape) == 2 else table
        return table if ndim == 3 else ops.expand_dims(table, 3 - self.sequence_axis)

    def compute_output_shape(
        self, q_shape: Shape, k_shape: Shape | None = None, positions_shape: Shape | None = None
    ) -> Shape | tuple[Shape, Shape]:
        keys = q_shape if k_shape is None else k_shape
        axis = self.sequence_axis
        allowed = "(B, N, H, D) or (B, N, D)" if axis == 1 else "(B, H, N, D)"
        for name, shape in (("q", q_shape), ("k", keys)):
            if len(shape) not in ((3, 4) if axis == 1 else (4,)) or len(shape) != len(q_shape):
                raise ValueError(f"{name} must have shape {allowed}, q and k alike, got {tuple(shape)}")
            if self.dim is not None and self.dim > shape[-1]:
                head = f"the head dimension, {shape[-1]} of {name}"
                raise ValueError(f"dim must be at most {head}, got {self.dim}")
        if self.dim is None and (q_shape[-1] % 2 or keys[-1] != q_shape[-1]):
            widths = f"{q_shape[-1]} of q and {keys[-1]} of k"
            raise ValueError(f"without dim, the head dimensions must be even and equal, got {widths}")
        n_q, n_k, batch = q_shape[axis], keys[axis], keys[0]
        if None not in (q_shape[0], batch) and q_shape[0] != batch:
            raise ValueError(f"q and k must have the same batch, got {q_shape[0]} and {batch}")
        if n_q is not None and n_k is not None and n_q > n_k:
            raise ValueError(f"q must not be longer than k, got {n_q} queries and {n_k} keys")
        if positions_shape is not None and not any(
            len(shape) == len(positions_shape)
            and all(None in pair or len(set(pair)) == 1 for pair in zip(shape, positions_shape, strict=True))
            for shape in ((n_k,), (batch, n_k))
        ):
            shapes = f"({n_k},) or ({batch}, {n_k})"
            raise ValueError(f"positions must have shape {shapes}, got {tuple(positions_shape)}")
        return tuple(q_shape) if k_shape is None else (tuple(q_shape), tuple(k_shape))

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("dim", "base", "layout", "sequence_axis")}
        return {**super().get_config(), **own}


def get_rotary_embedding(seq_len: int, dim: int, base: float = 10_000.0) -> Any:
    """Sine and cosine of m·θ_i for positions m = 0, …, seq_len − 1, float32, shape (seq_len, dim).

    Columns [:dim // 2] are the sines, [dim // 2:] the cosines. A batch x of shape (B, seq_len, dim) takes them as
    table[None, :, :dim // 2]; see `RotaryEmbeddingLayer` for what [:, None, :dim // 2] does.

    Raises:
        ValueError: if `seq_len` is negative or `dim` not positive and even.
    """
    if seq_len < 0:
        raise ValueError(f"seq_len must not be negative, got {seq_len}")
    cos, sin = _static_table(seq_len, 0, dim, base, "float32")
    return ops.concatenate((sin, cos), axis=-1)


@keras.saving.register_keras_serializable(package="rope_lab")
class RotaryEmbeddingLayer(keras.layers.Layer):
    """Rotates token embeddings x (B, N, D) by their positions, in the half layout over the whole width D.

    Two things went wrong in the tutorial that this name comes from, and one of them is mended here.

    Mended: it indexed the (S, D) table by [:, None, :D // 2], shape (S, 1, D/2), so that broadcasting laid the
    positions along the batch. With B = S, sample b is turned by angle b, all its tokens alike: no order is left. With
    B = 1 the batch grows to S; with any other B > 1 it is an error. Here every token turns by its own position,
    whatever the batch.

    Not to be mended: a rotation of embeddings, before W_q and W_k, is not relative. The score is

        (W_q R_m x_m)ᵀ (W_k R_n x_n) = x_mᵀ R_mᵀ (W_qᵀ W_k) R_n x_n,

    and R_mᵀ moves past W_qᵀ W_k, to give R_{n−m}, only if W_qᵀ W_k commutes with every rotation: it would have to keep
    pairs apart and be a rotation and scaling of each, which nothing in training makes it. Shift a sentence by five
    tokens and its scores change by as much as their own size. Values are turned too, and pairs reach across heads.
    It is an absolute encoding, like the sinusoidal one, and a model can learn from it; for one that sees distances
    alone use `RotaryEmbedding`, which turns W_q x_m and W_k x_n: there R_mᵀ R_n = R_{n−m} at once.

    Args:
        seq_len: the most tokens a sequence may have; by default any number.
        dim: of the embeddings, checked where given.
        base: of the frequencies θ_i = base^(−2i/D), by default 10,000.

    Raises:
        ValueError: if `dim` or D is not positive and even, or they differ, or N exceeds `seq_len`.
    """

    def __init__(
        self, seq_len: int | None = None, dim: int | None = None, *, base: float = 10_000.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        frequencies(2 if dim is None else dim, base, device="cpu")
        if seq_len is not None and seq_len < 1:
            raise ValueError(f"seq_len must be at least 1, got {seq_len}")
        self.seq_len, self.dim, self.base = seq_len, dim, float(base)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        self.compute_output_shape(inputs.shape)
        length, dim, dtype = ops.shape(inputs)[1], inputs.shape[-1], _angle_dtype(self.compute_dtype)
        if isinstance(length, int):
            cos, sin = _static_table(length, 0, dim, self.base, dtype)
        else:
            cos, sin = _table_by_digits(ops.arange(length), dim, self.base, dtype)
        return _rotate(inputs, cos[None], sin[None], "half")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3:
            raise ValueError(f"inputs must have shape (B, N, D), got {tuple(input_shape)}")
        _, length, width = input_shape
        if width % 2 or (self.dim is not None and width != self.dim):
            raise ValueError(f"dim must be that of the inputs, even, got {self.dim} and {width}")
        if None not in (length, self.seq_len) and length > self.seq_len:
            raise ValueError(
                f"seq_len must be at least the {length} tokens of the inputs, got {self.seq_len}"
            )
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seq_len": self.seq_len, "dim": self.dim, "base": self.base}


def _angle_dtype(compute_dtype: str) -> str:
    return "float64" if compute_dtype == "float64" else "float32"


def _rotate(x: Any, cos: Any, sin: Any, layout: Layout) -> Any:
    """e^{i·angle}·x on the first 2·cos.shape[-1] coordinates of x; cos and sin broadcast against its pairs."""
    half = cos.shape[-1]
    turning, rest = ops.cast(x[..., : 2 * half], cos.dtype), x[..., 2 * half :]
    if layout == "interleaved":
        a, b = turning[..., ::2], turning[..., 1::2]
    else:
        a, b = turning[..., :half], turning[..., half:]
    turned = ops.stack((a * cos - b * sin, b * cos + a * sin), axis=-1 if layout == "interleaved" else -2)
    turned = ops.cast(ops.reshape(turned, ops.shape(turning)), x.dtype)
    return ops.concatenate((turned, rest), axis=-1) if rest.shape[-1] else turned


@lru_cache(maxsize=16)
def _exact(length: int, offset: int, dim: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine at positions offset, …, offset + length − 1, float64 (length, dim/2)."""
    freqs = frequencies(dim, base, device="cpu").numpy()
    angle = np.multiply.outer(np.arange(offset, offset + length), freqs)
    return np.cos(angle), np.sin(angle)


def _static_table(length: int, offset: int, dim: int, base: float, dtype: str) -> tuple[Any, Any]:
    cos, sin = _exact(length, offset, dim, base)
    return ops.convert_to_tensor(cos, dtype), ops.convert_to_tensor(sin, dtype)


@lru_cache(maxsize=16)
def _digit_table(dim: int, base: float) -> np.ndarray:
    """Cosines, then sines, of d·256^k·θ_i for digit d at place k, float64 (1024, dim), row 256·k + d."""
    place, digit = np.divmod(np.arange(1024), 256)
    digit -= 256 * ((place == 3) & (digit > 127))  # the sign of an int32
    angle = np.multiply.outer(digit * 256.0**place, frequencies(dim, base, device="cpu").numpy())
    return np.concatenate((np.cos(angle), np.sin(angle)), axis=-1)


def _table_by_digits(positions: Any, dim: int, base: float, dtype: str) -> tuple[Any, Any]:
    """Cosine and sine at int32 positions (...), shape (..., dim/2): the product of one table row a digit."""
    table = ops.convert_to_tensor(_digit_table(dim, base), dtype)
    cos: Any = 1.0
    sin: Any = 0.0
    for place in range(4):
        digit = ops.mod(ops.floor_divide(positions, 256**place), 256)
        row = ops.take(table, 256 * place + digit, axis=0)
        c, s = row[..., : dim // 2], row[..., dim // 2 :]
        cos, sin = cos * c - sin * s, sin * c + cos * s
    return cos, sin
