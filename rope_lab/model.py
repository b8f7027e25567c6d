"""RoFormer: a transformer that takes its position encoding as one word.

The same blocks make two models: a decoder that predicts the next token (the default, with the small modern
choices that train fast) and the encoder of the paper, a BERT whose queries and keys are rotated.

Source: Su et al. 2021, RoFormer (arXiv:2104.09864).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rope_lab.attention import KVCache, MultiHeadAttention
from rope_lab.checks import check_integers
from rope_lab.encodings import (
    ALiBi,
    Layout,
    LearnedEmbedding,
    NoPE,
    PositionEncoding,
    PRoPE,
    RotaryEmbedding,
    RotaryValueEmbedding,
    SinusoidalEmbedding,
    T5Bias,
    XPos,
)

Position = Literal["rope", "xpos", "roper", "sinusoidal", "learned", "t5", "alibi", "none"]
_ROTARY = ("rope", "xpos", "roper")
Norm = Literal["rms", "layer"]
Activation = Literal["relu2", "relu", "gelu", "swiglu"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu2": lambda x: F.relu(x).square(),
    "relu": F.relu,
    "gelu": F.gelu,
}

# A Llama, but for its size. Its feed-forward layer is 2/3 · 4 times as wide as the model, rounded up to a whole
# multiple: there of 256, here of 8, which leaves a small model at 8/3.
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
        position: "rope", "xpos", "roper" (values turn too), "sinusoidal", "learned", "t5", "alibi" or "none".
        rotary_dim: rotated coordinates of each head, by default all (the rotary three only).
        proportion: share of their pairs that turn, the fastest ones, at the speed they have anyway (p-RoPE).
        layout: "interleaved" or "half" (the rotary three only).
        base: of the frequencies (the rotary three and sinusoidal).
        window: sliding window, keys a query sees, itself included; None is unlimited.
        causal: a token sees only itself and earlier ones.
        qk_norm: normalise queries and keys (arXiv:2010.04245).
        norm: "rms" (arXiv:1910.07467) or "layer" (arXiv:1607.06450).
        norm_eps: added under the root of every norm, by default 2⁻²³ ("rms"), 1e-5 ("layer") or BERT's 1e-12
            ("layer" with post_norm).
        post_norm: normalise after the residual sum, as in BERT, instead of before each sublayer.
        activation: "relu2" (arXiv:2109.08668), "relu", "gelu" (arXiv:1606.08415) or "swiglu", with a third
            matrix (arXiv:2002.05202).
        ff_mult: width of the feed-forward layer in units of C.
        ff_multiple: its width is rounded up to a multiple of this.
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
    window: int | None = None
    causal: bool = True
    qk_norm: bool = True
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
        sizes = ("vocab_size", "context", "dim", "depth", "heads", "ff_multiple")
        check_integers(**{name: getattr(self, name) for name in sizes})
        check_integers(optional=True, kv_heads=self.kv_heads, rotary_dim=self.rotary_dim, window=self.window)
        if self.dim % self.heads:
            raise ValueError(f"heads must divide dim={self.dim}, got {self.heads}")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"kv_heads must divide heads={self.heads}, got {self.kv_heads}")
        if not 1 <= self.ff_mult * self.dim < math.inf:
            raise ValueError(
                f"ff_mult must be finite and at least 1/dim = {1 / self.dim:g}, got {self.ff_mult}"
            )
        if not 0 < self.base < math.inf:
            raise ValueError(f"base must be positive and finite, got {self.base}")
        if self.norm_eps is not None and not 0 < self.norm_eps < math.inf:
            raise ValueError(f"norm_eps must be positive and finite, got {self.norm_eps}")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name, kind in (
            ("position", Position),
            ("layout", Layout),
            ("norm", Norm),
            ("activation", Activation),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {getattr(self, name)!r}")
        head_dim = self.dim // self.heads
        rotary_dim = self.rotary_dim or head_dim
        if not 0 <= self.proportion <= 1:
            raise ValueError(f"proportion must lie in [0, 1], got {self.proportion}")
        if self.position in _ROTARY and (rotary_dim % 2 or rotary_dim > head_dim):
            raise ValueError(f"rotary_dim must be even and at most dim/heads = {head_dim}, got {rotary_dim}")
        if self.position == "xpos" and not self.causal:
            raise ValueError("position must be causal, for a future key would grow and not fade, got 'xpos'")
        if self.position == "sinusoidal" and self.dim % 2:
            raise ValueError(f"dim must be even for sinusoidal positions, got {self.dim}")

    @classmethod
    def encoder(cls, vocab_size: int, **fields: Any) -> RoFormerConfig:
        """The encoder of the paper, RoFormer base but for `fields` (Su et al. 2021, section 4.2)."""
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
        """A Llama (Touvron et al. 2023, arXiv:2302.13971, section 2.2): the fields of `LLAMA`, but for `fields`.

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

    def build_attention(self, layer: int, position: PositionEncoding) -> MultiHeadAttention:
        """The attention of block `layer`, counted from 0."""
        return MultiHeadAttention(
            self.dim, self.heads, kv_heads=self.kv_heads, position=position, causal=self.causal,
            window=self.window, qk_norm=self.qk_norm, bias=self.bias, dropout=self.attention_dropout,
        )  # fmt: skip


class Block(nn.Module):
    """Attention, then a feed-forward layer, each inside a residual sum."""

    def __init__(self, config: RoFormerConfig, layer: int, position: PositionEncoding) -> None:
        super().__init__()
        c = config
        self.attention = c.build_attention(layer, position)
        self.gate = nn.Linear(c.dim, c.ff_width, bias=c.bias) if c.activation == "swiglu" else None
        self.up = nn.Linear(c.dim, c.ff_width, bias=c.bias)
        self.down = nn.Linear(c.ff_width, c.dim, bias=c.bias)
        self.attention_norm, self.feed_forward_norm = _norm(c), _norm(c)
        self.activation, self.post_norm, self.dropout = c.activation, c.post_norm, c.dropout

    def feed_forward(self, x: Tensor) -> Tensor:
        if self.gate is not None:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        return self.down(_ACTIVATIONS[self.activation](self.up(x)))

    def forward(self, x: Tensor, **attention: Any) -> Tensor:  # (B, N, C) -> (B, N, C)
        def drop(y: Tensor) -> Tensor:
            return F.dropout(y, self.dropout, self.training)

        if self.post_norm:
            x = self.attention_norm(x + drop(self.attention(x, **attention)))
            return self.feed_forward_norm(x + drop(self.feed_forward(x)))
        x = x + drop(self.attention(self.attention_norm(x), **attention))
        return x + drop(self.feed_forward(self.feed_forward_norm(x)))


class RoFormer(nn.Module):
    """Token ids (B, N) in, logits (B, N, V) out.

    Args:
        config: its shape.
        position: an encoding to use instead of the one `config.position` names.
    """

    config_class: ClassVar[type[RoFormerConfig]] = RoFormerConfig  # which `load` reads from the file

    def __init__(self, config: RoFormerConfig, position: PositionEncoding | None = None) -> None:
        super().__init__()
        self.config = config
        self.position = config.build_position() if position is None else position
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(Block(config, layer, self.position) for layer in range(config.depth))
        self.norm = _norm(config)  # after the last block; with post_norm, on the embeddings
        self.head = None if config.tied else nn.Linear(config.dim, config.vocab_size, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                residual = name.endswith(("attention.out", "down"))  # keeps the sum's variance flat in depth
                nn.init.normal_(module.weight, std=0.02 / (2 * self.config.depth) ** (0.5 if residual else 0))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: list[KVCache] | None = None,
    ) -> Tensor:
        """Final hidden states (B, N, C); arguments as `forward`."""
        if ids.ndim != 2:
            raise ValueError(f"ids must have shape (B, N), got {tuple(ids.shape)}")
        if positions is None:
            past = 0 if cache is None else cache[0].length
            positions = torch.arange(past, past + ids.shape[1], device=ids.device)
        x = self.position.embed(self.embedding(ids), positions)
        if self.config.post_norm:
            x = self.norm(x)
        for layer, block in enumerate(self.blocks):
            x = block(x, positions=positions, segments=segments, cache=cache[layer] if cache else None)
        return x if self.config.post_norm else self.norm(x)

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: list[KVCache] | None = None,
    ) -> Tensor:
        """Logits of the next token (decoder) or of the token itself (encoder).

        Args:
            ids: token ids (B, N).
            positions: (N,) or (B, N); by default they go on from the cache.
            segments: (B, N); a token sees only its own segment, −1 marks padding.
            cache: from `new_cache`; the tokens of `ids` are added to it.

        Returns:
            (B, N, V).
        """
        x = self.hidden(ids, positions=positions, segments=segments, cache=cache)
        return F.linear(x, self.embedding.weight) if self.head is None else self.head(x)

    def new_cache(self, capacity: int) -> list[KVCache]:
        """An empty key/value cache for `capacity` tokens, one a block."""
        return [KVCache(capacity) for _ in self.blocks]

    def save(self, path: str | Path) -> None:
        """Write parameters and config to one safetensors file, complete or not at all.

        Raises:
            FileNotFoundError: if its folder does not exist.
        """
        from safetensors.torch import save_file

        if not Path(path).parent.is_dir():
            raise FileNotFoundError(f"path must lie in an existing folder, got {path}")
        tensors = {name: p.detach().contiguous() for name, p in self.named_parameters()}  # a shared one once
        save_file(tensors, path, metadata={"config": json.dumps(asdict(self.config))})

    @classmethod
    def load(cls, path: str | Path, *, position: PositionEncoding | None = None) -> RoFormer:
        """The model in a file that `save` wrote, on the CPU, in the dtype it had.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no safetensors file of a RoFormer, or its tensors do not fit its config.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"path must be a RoFormer's safetensors file, got {path}: no such file")
        try:
            with safe_open(path, framework="pt") as file:
                config = cls.config_class(**json.loads((file.metadata() or {})["config"]))
                names = file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"path must be a RoFormer's safetensors file, got {path}: {error}") from error
        model = cls(config, position)
        if "embedding.weight" in tensors:
            model.to(tensors["embedding.weight"].dtype)
        model.load_parameters(tensors, str(path))
        return model

    def load_parameters(self, tensors: dict[str, Tensor], source: str = "tensors") -> None:
        """Copy `tensors` into the parameters; names and shapes must be exactly theirs.

        Raises:
            ValueError: naming the first parameter that is missing, left over or of another shape; nothing is
                copied then.
        """
        own = dict(self.named_parameters())
        if odd := sorted(own.keys() ^ tensors.keys()):
            state = "lacks" if odd[0] in own else "has an unknown"
            raise ValueError(f"{source} must hold this model's parameters, but {state} {odd[0]!r}")
        for name, parameter in own.items():
            if parameter.shape != tensors[name].shape:
                shapes = f"{tuple(parameter.shape)}, got {tuple(tensors[name].shape)}"
                raise ValueError(f"{source}: {name} must have shape {shapes}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])


def _norm(config: RoFormerConfig) -> nn.Module:
    if config.norm == "rms":  # 2⁻²³ is what torch takes in float32; it does not grow when the model is cast
        return nn.RMSNorm(config.dim, eps=config.norm_eps or 2**-23)
    eps = config.norm_eps or (1e-12 if config.post_norm else 1e-5)  # as in BERT, and as everywhere else
    return nn.LayerNorm(config.dim, eps=eps, bias=config.bias)


def choose(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> int:
    """Draw one token from logits of shape (V,)."""
    if temperature == 0:
        return int(logits.argmax())
    scaled = (logits - logits.max()).double() / temperature  # 64 bits: no temperature is too small
    probabilities, tokens = scaled.softmax(-1).sort(descending=True, stable=True)
    if top_k is not None:
        probabilities = probabilities[:top_k]
    if top_p is not None:  # up to and including the token that reaches top_p
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities[before < top_p]
    return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])
