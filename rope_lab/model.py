"""RoFormer: a transformer that takes its position encoding as one word.

The same blocks make two models: a decoder that predicts the next token (the default, with the small modern
choices that train fast) and the encoder of the paper, a BERT whose queries and keys are rotated.

Source: Su et al. 2021, RoFormer (arXiv:2104.09864).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rope_lab.cache import KVCache, check_caches
from rope_lab.checks import can_read
from rope_lab.config import RoFormerConfig
from rope_lab.encodings import PositionEncoding, Positions, as_encoding, one_pass, token_positions
from rope_lab.pointwise import RMSNorm, squared_relu

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu2": squared_relu,
    "relu": F.relu,
    "gelu": F.gelu,
}


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

    __call__: Callable[..., Tensor]

    def forward(self, x: Tensor, **attention: Any) -> Tensor:  # (B, N, C) -> (B, N, C)
        def drop(y: Tensor) -> Tensor:
            return F.dropout(y, self.dropout) if self.training and self.dropout else y

        if self.post_norm:
            x = self.attention_norm(x + drop(self.attention(x, **attention)))
            return self.feed_forward_norm(x + drop(self.feed_forward(x)))
        x = x + drop(self.attention(self.attention_norm(x), **attention))
        return x + drop(self.feed_forward(self.feed_forward_norm(x)))


class RoFormer(nn.Module):
    """Token ids (B, N) in, logits (B, N, V) out.

    Args:
        config: its shape.
        position: an encoding to use instead of the one that `config.position` names.
    """

    config_class: ClassVar[type[RoFormerConfig]] = RoFormerConfig  # which `load` reads from the file

    def __init__(self, config: RoFormerConfig, position: PositionEncoding | None = None) -> None:
        super().__init__()
        self.config = config
        self.position = config.build_position() if position is None else as_encoding(position)
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        inside = self.position.in_attention()
        self.blocks = nn.ModuleList(
            Block(config, layer, config.layer_position(layer, inside)) for layer in range(config.depth)
        )
        self.norm = _norm(config)  # after the last block; with post_norm, on the embeddings
        self.head = None if config.tied else nn.Linear(config.dim, config.vocab_size, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                residual = name.endswith(
                    ("attention.out", "down")
                )  # keeps the variance of the sum from growing
                nn.init.normal_(module.weight, std=0.02 / (2 * self.config.depth) ** (0.5 if residual else 0))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Positions | None = None,
        segments: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """Final hidden states (B, N, C); arguments as `forward`."""
        if ids.ndim != 2:
            raise ValueError(f"ids must have shape (B, N), got {tuple(ids.shape)}")
        if ids.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"ids must be int32 or int64, got {ids.dtype}")
        if can_read(ids) and ids.numel():
            (low, high), last = (int(bound) for bound in ids.aminmax()), self.config.vocab_size - 1
            if low < 0 or high > last:
                raise ValueError(f"ids must lie in 0..{last}, the vocabulary, got {low}..{high}")
        if cache is not None:
            check_caches(cache, len(self.blocks))
        past = 0 if cache is None else cache[0].length
        positions = token_positions(positions, *ids.shape, first=past, device=ids.device)
        x = self.position.embed(self.embedding(ids), positions)
        if self.config.post_norm:
            x = self.norm(x)
        with nullcontext() if torch.compiler.is_compiling() else one_pass():
            for layer, block in enumerate(self.blocks):
                own = None if cache is None else cache[layer]
                x = block(x, positions=positions, segments=segments, mask=mask, cache=own)
        return x if self.config.post_norm else self.norm(x)

    __call__: Callable[..., Tensor]

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Positions | None = None,
        segments: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """Logits of the next token (decoder) or of the token itself (encoder).

        Args:
            ids: token ids (B, N).
            positions: (N,) or (B, N); by default they continue from the cache, and padding counts.
            segments: document ids (B, N): a token sees only its own segment, and −1 marks padding. With a cache, give
                them at every call or at none.
            mask: for padding, in place of segments: True for real tokens, (1 or B, N). The cache remembers it.
            cache: from `new_cache`; the tokens of `ids` are added to it.

        Returns:
            (B, N, V).

        Raises:
            ValueError: if a shape or dtype does not fit, an id is outside the vocabulary (looked at only on the CPU,
                where it costs nothing), or the cache is not one made for this model.
        """
        x = self.hidden(ids, positions=positions, segments=segments, mask=mask, cache=cache)
        return F.linear(x, self.embedding.weight) if self.head is None else self.head(x)

    def new_cache(self, capacity: int) -> list[KVCache]:
        """An empty key/value cache for `capacity` tokens, one for each block."""
        return [cast(Block, block).attention.new_cache(capacity) for block in self.blocks]

    def save(self, path: str | Path) -> None:
        """Write parameters and config to one safetensors file.

        Raises:
            FileNotFoundError: if its folder does not exist.
            OSError: if it cannot be written, as on a full disk.
            ModuleNotFoundError: without the library safetensors.
        """
        if not Path(path).parent.is_dir():
            raise FileNotFoundError(f"path must lie in an existing folder, got {path}")
        tensors = {name: p.detach().contiguous() for name, p in self.named_parameters()}  # a shared one once
        write_tensors(tensors, Path(path), {"config": json.dumps(asdict(self.config))})

    @classmethod
    def load(cls, path: str | Path, *, position: PositionEncoding | None = None) -> RoFormer:
        """The model in a file that `save` wrote, on the CPU, in the dtype it had.

        A model in the folder of a training run is `rope_lab.training.checkpoint.load(folder).model()`.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if it is not a safetensors file of a RoFormer, or its tensors do not fit its config.
            ModuleNotFoundError: without the library safetensors.
        """
        safetensors = _safetensors()
        hint = "for a run, rope_lab.training.checkpoint.load(folder).model() gives its model"
        if not Path(path).is_file():
            what = f"a folder; {hint}" if Path(path).is_dir() else "no such file"
            raise FileNotFoundError(f"path must be a RoFormer's safetensors file, got {path}: {what}")
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if "config" not in metadata:
                    raise ValueError(f"it holds no config; {hint}")
                config = cls.config_class(**json.loads(metadata["config"]))
                names = file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
        except (safetensors.SafetensorError, TypeError, ValueError) as error:
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


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file with the permissions that any new file gets.

    The library by itself makes files that nobody but their owner can read, and mentions the system's error only in the
    text of its own.

    Raises:
        OSError: if it cannot be written; no new file is left then.
        ModuleNotFoundError: without the library safetensors.
    """
    safetensors, fresh = _safetensors(), not path.exists()
    path.touch()
    mode = path.stat().st_mode
    try:
        safetensors.torch.save_file(tensors, path, metadata)
    except BaseException as error:
        if fresh:
            with suppress(OSError):
                path.unlink()
        number = re.search(r"os error (\d+)", str(error))
        if number is None or not isinstance(error, safetensors.SafetensorError):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    with suppress(OSError):  # a file system without permissions
        path.chmod(mode)


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        message = "a RoFormer's file needs safetensors: pip install safetensors"
        raise ModuleNotFoundError(message, name="safetensors") from error
    return safetensors


def _norm(config: RoFormerConfig) -> nn.Module:
    if config.norm == "rms":  # 2⁻²³ is what torch takes in float32; it does not grow when the model is cast
        return RMSNorm(config.dim, eps=config.norm_eps or 2**-23)
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
