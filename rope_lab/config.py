"""The shape of a RoFormer, and how it builds its encoding and its attention layers."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from rope_lab.attention import MultiHeadAttention
from rope_lab.checks import check_integers, check_positive, check_probability, is_integer
from rope_lab.encodings import (
    ALiBi,
    Layout,
    LearnedEmbedding,
    NoPE,
    PositionEncoding,
    PRoPE,
    QueryTemperature,
    RotaryEmbedding,
    RotaryValueEmbedding,
    SinusoidalEmbedding,
    StepTemperature,
    T5Bias,
    XPos,
)

Position = Literal["rope", "xpos", "roper", "sinusoidal", "learned", "t5", "alibi", "none"]
_ROTARY = ("rope", "xpos", "roper")
Norm = Literal["rms", "layer"]
Activation = Literal["relu2", "relu", "gelu", "swiglu"]

# A Llama, except for its size. Its feed-forward layer is 2/3 · 4 times as wide as the model, rounded up to a whole
# multiple: of 256 in the paper, of 8 here, which leaves a small model at 8/3.
LLAMA: dict[str, Any] = {"layout": "half", "qk_norm": False, "norm": "rms", "norm_eps": 1e-5}
LLAMA |= {"activation": "swiglu", "ff_mult": 8 / 3, "ff_multiple": 8}


@dataclass(frozen=True)
class RoFormerConfig:
    """Everything that fixes the shape of a RoFormer.

    Args:
        vocab_size: number of tokens V.
        context: tokens it is trained on at once; the rows of a learned position table.
        dim: model width C.
        depth: number of blocks.
        heads: query heads H of each block.
        kv_heads: key and value heads, by default H.
        position: "rope", "xpos", "roper" (values are rotated too), "sinusoidal", "learned", "t5", "alibi" or "none".
        rotary_dim: rotated coordinates of each head, by default all (only for the three rotary ones).
        proportion: fraction of the pairs that turn: the fastest, with unchanged frequencies (p-RoPE).
        layout: "interleaved" or "half" (only for the three rotary ones).
        base: of the frequencies (for the three rotary ones and sinusoidal).
        nope_every: the layers k, 2k, … of 1, 2, …, depth have no positions, with k = 2 every second (RNoPE,
            arXiv:2501.18795); None has positions in all layers. Not for encodings that are added to the embeddings.
        nope_temperature: tokens of a step of `StepTemperature` for the queries of the layers without positions, as in
            Llama 4, or None.
        window: sliding window, the number of keys that a query sees, itself included; None is unlimited. It is a mask
            over all scores, so it saves neither time nor memory: for that there is `rope_lab.LocalTransformer`.
        causal: a token sees only itself and earlier ones.
        qk_norm: normalise queries and keys (arXiv:2010.04245; see `MultiHeadAttention`).
        qk_gain: with `qk_norm`, a learned gain for the scores of each head.
        norm: "rms" (arXiv:1910.07467) or "layer" (arXiv:1607.06450).
        norm_eps: added under the root of every norm, by default 2⁻²³ ("rms"), 1e-5 ("layer") or BERT's 1e-12
            ("layer" with post_norm).
        post_norm: normalise after the residual sum, as in BERT, instead of before each sublayer.
        activation: "relu2" (arXiv:2109.08668), "relu", "gelu" (arXiv:1606.08415) or "swiglu", with a third
            matrix (arXiv:2002.05202).
        ff_mult: width of the feed-forward layer in units of C.
        ff_multiple: that width is rounded up to a multiple of this.
        bias: give the linear layers a bias.
        tied: use the token embedding as the output layer.
        dropout: of sublayer outputs.
        attention_dropout: of attention weights.

    Raises:
        ValueError: naming the first field that is out of range.
    """

    vocab_size: int
    context: int = 128
    dim: int = 128
    depth: int = 4
    heads: int = 4
    kv_heads: int | None = None
    position: Position = "rope"
    rotary_dim: int | None = None
    proportion: float = 1.0
    layout: Layout = "interleaved"
    base: float = 10_000.0
    nope_every: int | None = None
    nope_temperature: int | None = None
    window: int | None = None
    causal: bool = True
    qk_norm: bool = True
    qk_gain: bool = False
    norm: Norm = "rms"
    norm_eps: float | None = None
    post_norm: bool = False
    activation: Activation = "relu2"
    ff_mult: float = 4.0
    ff_multiple: int = 1
    bias: bool = False
    tied: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, value in ((field.name, getattr(self, field.name)) for field in fields(self)):
            if is_integer(value):  # of numpy, which no JSON file takes
                object.__setattr__(self, name, operator.index(value))
        sizes = ("vocab_size", "context", "dim", "depth", "heads", "ff_multiple")
        check_integers(**{name: getattr(self, name) for name in sizes})
        optional = ("kv_heads", "rotary_dim", "window", "nope_every", "nope_temperature")
        check_integers(optional=True, **{name: getattr(self, name) for name in optional})
        if self.dim % self.heads:
            raise ValueError(f"heads must divide dim={self.dim}, got {self.heads}")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"kv_heads must divide heads={self.heads}, got {self.kv_heads}")
        check_positive(ff_mult=self.ff_mult, base=self.base)
        if not 1 <= self.ff_mult * self.dim < math.inf:
            raise ValueError(f"ff_mult must be at least 1/dim = {1 / self.dim:g}, got {self.ff_mult}")
        check_positive(optional=True, norm_eps=self.norm_eps)
        check_probability(dropout=self.dropout, attention_dropout=self.attention_dropout)
        for name, kind in (
            ("position", Position),
            ("layout", Layout),
            ("norm", Norm),
            ("activation", Activation),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")
        head_dim = self.dim // self.heads
        if self.position in _ROTARY and self.rotary_dim is None and head_dim % 2:
            whole = f"a head an even number of the dim={self.dim} coordinates, which are rotated in pairs"
            raise ValueError(f"heads must leave {whole}, got {self.heads}, which leaves {head_dim}")
        rotary_dim = self.rotary_dim or head_dim
        check_probability(closed=True, proportion=self.proportion)
        if self.position in _ROTARY and (rotary_dim % 2 or rotary_dim > head_dim):
            raise ValueError(f"rotary_dim must be even and at most dim/heads = {head_dim}, got {rotary_dim}")
        if self.position == "xpos" and not self.causal:
            reason = "for position='xpos': keys ahead of the query would grow instead of fading"
            raise ValueError(f"causal must be True {reason}, got False")
        if self.nope_every is not None and self.position in ("sinusoidal", "learned", "none"):
            raise ValueError(f"nope_every must be None for position={self.position!r}, got {self.nope_every}")
        if self.nope_temperature is not None and self.nope_every is None:
            raise ValueError(f"nope_temperature must be None without nope_every, got {self.nope_temperature}")
        if self.position == "sinusoidal" and self.dim % 2:
            raise ValueError(f"dim must be even for sinusoidal positions, got {self.dim}")

    @classmethod
    def encoder(cls, vocab_size: int, **fields: Any) -> RoFormerConfig:
        """The encoder of the paper, RoFormer base except for `fields` (Su et al. 2021, section 4.2)."""
        bert: dict[str, Any] = {
            "context": 512,
            "dim": 768,
            "depth": 12,
            "heads": 12,
            "tied": True,
            "bias": True,
        }
        bert |= {"causal": False, "qk_norm": False, "norm": "layer", "post_norm": True, "activation": "gelu"}
        return cls(vocab_size, **(bert | fields))

    @classmethod
    def llama(cls, vocab_size: int, **fields: Any) -> RoFormerConfig:
        """A Llama (Touvron et al. 2023, arXiv:2302.13971, section 2.2): the fields of `LLAMA`, except for `fields`.

        `rope_lab.interop.huggingface.export_llama` writes its model for transformers.
        """
        return cls(vocab_size, **(LLAMA | fields))

    @property
    def ff_width(self) -> int:
        """Width of the feed-forward layer."""
        return -(-int(self.ff_mult * self.dim) // self.ff_multiple) * self.ff_multiple

    def build_position(self) -> PositionEncoding:
        """The encoding that `position` names, in its usual form."""
        if self.position in _ROTARY:
            kinds = {"rope": RotaryEmbedding, "xpos": XPos, "roper": RotaryValueEmbedding}
            options: dict[str, Any] = {"base": self.base, "layout": self.layout}
            if self.proportion < 1:
                options["scaling"] = PRoPE(self.proportion)
            return kinds[self.position](self.rotary_dim or self.dim // self.heads, **options)
        if self.position == "sinusoidal":
            return SinusoidalEmbedding(self.dim, base=self.base)
        if self.position == "learned":
            return LearnedEmbedding(self.context, self.dim)
        if self.position == "t5":
            return T5Bias(self.heads, causal=self.causal)
        if self.position == "alibi":
            return ALiBi(self.heads)
        return NoPE()

    def layer_position(self, layer: int, position: PositionEncoding) -> PositionEncoding:
        """The encoding of block `layer`, counted from 0, of a model whose other blocks have `position`."""
        if self.nope_every is None or (layer + 1) % self.nope_every:
            return position
        if self.nope_temperature is None:
            return NoPE()
        return QueryTemperature(temperature=StepTemperature(self.nope_temperature))

    def build_attention(self, layer: int, position: PositionEncoding) -> MultiHeadAttention:
        """The attention of block `layer`, counted from 0."""
        return MultiHeadAttention(
            self.dim, self.heads, kv_heads=self.kv_heads, position=position, causal=self.causal,
            window=self.window, qk_norm=self.qk_norm, bias=self.bias,
            qk_gain=self.qk_norm and self.qk_gain, dropout=self.attention_dropout,
        )  # fmt: skip
