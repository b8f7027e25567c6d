"""One attention of a model read: which rows of which tensors hold the coordinates that the rotation pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rope_lab.interop.huggingface.configs import head_dim
from rope_lab.interop.huggingface.fields import describe, field, whole_number

PAIRS = (("q_proj", "k_proj"), ("query", "key"), ("q", "k"), ("to_q", "to_k"))
FUSED = ("query_key_value", "qkv_proj", "Wqkv", "qkv")
LATENT = ("q_b_proj", "kv_a_proj_with_mqa")
STRANGE = ("linear_q", "linear_k", "query_proj", "key_proj", "wq", "wk", "kv_proj", "q_gate_proj")
_PROJECTIONS = {name for pair in (*PAIRS, LATENT) for name in pair} | {*FUSED, *STRANGE}


@dataclass(frozen=True)
class Rows:
    """`heads` times `size` rows of a tensor from `offset` on; of each head, `width` rows from `start` on are turned."""

    name: str
    parameter: Tensor
    heads: int
    size: int
    width: int
    start: int = 0
    offset: int = 0
    axis: int = 0


def is_attention(module: nn.Module) -> bool:
    """Whether a module has a projection of queries or keys among its children."""
    return any(name in _PROJECTIONS for name, _ in module.named_children())


class Reader:
    """Reads the attentions of one model.

    Args:
        config: of the model.
        width: coordinates of a head that turn.

    Raises:
        ValueError: if attentions of this model type cannot be converted at all.
    """

    def __init__(self, config: Any, width: int) -> None:
        self.kind, self.config, self.width, self.size = (
            field(config, "model_type"),
            config,
            width,
            head_dim(config),
        )
        if self.kind in _REFUSED:
            raise ValueError(
                f"weights of model type {self.kind!r} cannot be converted: {_REFUSED[self.kind]}"
            )
        if width % 2 or not 0 < width <= self.size:
            raise ValueError(
                f"config must turn an even number of the {self.size} coordinates of a head, got {width}"
            )
        if field(config, "rotary_value"):
            raise ValueError("rotary_value must be False, for values would have to move too, got True")
        self.heads = whole_number(config, "num_attention_heads", "n_head", "n_heads", "num_heads")
        keys = field(config, "num_key_value_heads", "num_kv_heads", "n_kv_heads") or self.heads
        attn: Any = field(config, "attn_config")
        self.key_heads = field(attn, "kv_n_heads") or keys if attn is not None else keys

    def read(self, name: str, module: nn.Module) -> list[Rows]:
        """The rows of one attention.

        Raises:
            ValueError: naming the part of it that is not understood.
        """
        children = dict(module.named_children())
        present = [child for child in children if child in _PROJECTIONS]
        if set(present) in ({"q_proj", LATENT[1]}, set(LATENT)):
            rows = list(self._latent(name, children))
        elif len(present) == 1 and present[0] in FUSED:
            rows = list(self._fused(f"{name}.{present[0]}", present[0], children[present[0]]))
        elif len(present) == 2 and any(set(present) == set(pair) for pair in PAIRS):
            query, key = next(pair for pair in PAIRS if set(present) == set(pair))
            gates = 2 if self.kind in _GATED else 1
            rows = [
                *self._projection(f"{name}.{query}", children[query], self.heads, gates),
                *self._projection(f"{name}.{key}", children[key], self.key_heads),
            ]
        else:
            raise ValueError(f"model must have a query and a key projection in {name}, got {present}")
        for child, part in children.items():
            if child in present or self._is_passive(child, part):
                continue
            if child not in _NORMS:
                raise ValueError(f"model must not have {name}.{child}, {type(part).__name__}: not understood")
            rows += self._norm(f"{name}.{child}", part)
        for parameter, _ in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if parameter not in _PASSIVE_TENSORS and (self.kind, parameter) not in _MOVED_TENSORS:
                raise ValueError(f"model must not have {name}.{parameter}: not understood")
            if (self.kind, parameter) in _MOVED_TENSORS:
                rows.append(self._vector(f"{name}.{parameter}", getattr(module, parameter)))
        return rows

    def _projection(self, name: str, module: nn.Module, heads: int, parts: int = 1) -> Iterator[Rows]:
        """A projection to `heads` heads, of which other `parts` may follow each."""
        for tensor, parameter in self._rows_of(name, module, heads * parts * self.size):
            yield Rows(tensor, parameter, heads, parts * self.size, self.width)

    def _latent(self, name: str, children: dict[str, nn.Module]) -> Iterator[Rows]:
        """Multi-head latent attention: the last coordinates of each query turn, and those of the one shared key."""
        turned, rest = (whole_number(self.config, f"qk_{part}_head_dim") for part in ("rope", "nope"))
        rank = whole_number(self.config, "kv_lora_rank")
        query, size = "q_b_proj" if "q_b_proj" in children else "q_proj", turned + rest
        for tensor, parameter in self._rows_of(f"{name}.{query}", children[query], self.heads * size):
            yield Rows(tensor, parameter, self.heads, size, turned, start=rest)
        for tensor, parameter in self._rows_of(f"{name}.{LATENT[1]}", children[LATENT[1]], rank + turned):
            yield Rows(tensor, parameter, 1, turned, turned, offset=rank)

    def _fused(self, name: str, kind: str, module: nn.Module) -> Iterator[Rows]:
        """Queries, keys and values in one projection, in the arrangement of the model type."""
        h, g, d = self.heads, self.key_heads, self.size
        arrangement = _ARRANGEMENTS.get((self.kind, kind)) or (
            "blocks" if (kind, self.kind) in _IMAGES else None
        )
        if self.kind == "falcon":
            new, one = field(self.config, "new_decoder_architecture"), field(self.config, "multi_query")
            arrangement, g = ("groups", g) if new else ("groups", 1) if one else ("heads", h)
        if arrangement is None:
            raise ValueError(
                f"model must have an arrangement of {name} that is known, got model type {self.kind!r}"
            )
        if arrangement == "heads":  # (H, 3, D)
            g = h
        for tensor, parameter in self._rows_of(name, module, (h + 2 * g) * d):
            if arrangement == "groups":  # (G, H/G queries, key, value, D)
                per = h // g
                for j in range(per + 1):
                    yield Rows(tensor, parameter, g, (per + 2) * d, self.width, start=j * d)
            elif arrangement == "heads":
                for j in range(2):
                    yield Rows(tensor, parameter, h, 3 * d, self.width, start=j * d)
            elif arrangement == "blocks":  # (H·D of queries, G·D of keys, G·D of values)
                yield Rows(tensor, parameter, h, d, self.width)
                yield Rows(tensor, parameter, g, d, self.width, offset=h * d)
            else:  # CodeGen: (4, queries, values, keys)
                for block in range(4):
                    for part in (0, 2):
                        offset = (3 * block + part) * h // 4 * d
                        yield Rows(tensor, parameter, h // 4, d, self.width, offset=offset)

    def _rows_of(self, name: str, module: nn.Module, rows: int) -> Iterator[tuple[str, Tensor]]:
        """Weight and bias of a linear layer, and of its LoRA adapters those that have its rows."""
        base = getattr(module, "base_layer", None)
        if base is not None:
            yield from self._rows_of(f"{name}.base_layer", base, rows)
            for part, child in module.named_children():
                if part == "lora_B" and isinstance(child, nn.ModuleDict):
                    for adapter, linear in child.items():
                        yield from self._rows_of(f"{name}.lora_B.{adapter}", linear, rows)
                elif part not in ("base_layer", "lora_A") and any(True for _ in child.parameters()):
                    raise ValueError(
                        f"model must not have {name}.{part}, {type(child).__name__}: not understood"
                    )
            if any(True for _ in module.parameters(recurse=False)):
                raise ValueError(f"model must not have tensors of its own in {name}, {type(module).__name__}")
            return
        tensors = dict(module.named_parameters())
        plain = isinstance(module, nn.Linear) and not any(True for _ in module.named_buffers())
        if not plain or not {"weight"} <= set(tensors) <= {"weight", "bias"}:
            raise ValueError(f"model must have a plain linear layer as {name}, got {type(module).__name__}")
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError(
                f"model must not have hooks on {name}: what they do to its output is not understood"
            )
        for tensor, parameter in tensors.items():
            if type(parameter) is not nn.Parameter or not parameter.is_floating_point():
                what = f"{type(parameter).__name__} of {parameter.dtype}"
                raise ValueError(f"model must have real numbers as {name}.{tensor}, got {what}")
            if parameter.is_meta:
                raise ValueError(f"model must have its weights loaded; {name}.{tensor} is on meta")
            if parameter.shape[0] != rows:
                counts = f"{self.heads} query and {self.key_heads} key heads of {self.size}"
                given = f"{parameter.shape[0]} rows for the {counts} of {describe(self.config)}"
                raise ValueError(f"model must have {rows} rows in {name}.{tensor}, got {given}")
            yield f"{name}.{tensor}", parameter

    def _norm(self, name: str, module: nn.Module) -> Iterator[Rows]:
        """A norm over each head, with one gain for all heads, one for each, or one for all coordinates of all heads."""
        if "GroupNorm" in type(module).__name__ or any(True for _ in module.buffers()):
            raise ValueError(
                f"model must have a norm over coordinates as {name}, got {type(module).__name__}"
            )
        for tensor, parameter in module.named_parameters():
            whole, shape = f"{name}.{tensor}", tuple(parameter.shape)
            if shape == (self.size,):
                yield self._vector(whole, parameter)
            elif len(shape) == 2 and shape[1] == self.size and shape[0] in (self.heads, self.key_heads):
                yield Rows(whole, parameter, 1, self.size, self.width, axis=1)
            elif shape in ((self.heads * self.size,), (self.key_heads * self.size,)):
                yield Rows(whole, parameter, shape[0] // self.size, self.size, self.width)
            else:
                raise ValueError(
                    f"model must have a norm over heads of {self.size} as {whole}, got shape {shape}"
                )

    def _vector(self, name: str, parameter: Tensor) -> Rows:
        if tuple(parameter.shape) != (self.size,):
            raise ValueError(f"model must have {self.size} numbers in {name}, got {tuple(parameter.shape)}")
        return Rows(name, parameter, 1, self.size, self.width)

    def _is_passive(self, name: str, module: nn.Module) -> bool:
        """Whether the order of a head's coordinates cannot matter to a child: it does not see queries and keys."""
        empty = not any(True for _ in module.parameters()) and not any(True for _ in module.buffers())
        if name in _LATENT_PASSIVE and field(self.config, "kv_lora_rank") is not None:
            return True
        return name in _PASSIVE or isinstance(module, nn.Dropout | nn.Identity) or ("drop" in name and empty)


_NORMS = {
    *("q_norm", "k_norm", "qk_norm", "q_layernorm", "k_layernorm", "query_layernorm", "key_layernorm"),
    *("query_norm", "key_norm"),
}
_PASSIVE = {
    *(
        "v_proj",
        "o_proj",
        "out_proj",
        "dense",
        "value",
        "v",
        "to_v",
        "to_out",
        "proj",
        "Wo",
        "wo",
        "v_norm",
        "o_norm",
    ),
    *(
        "gate_proj",
        "g_proj",
        "dt_proj",
        "attn_sub_norm",
        "groupnorm",
        "rotary_emb",
        "exclusive_self_attention",
    ),
    *("output_projection",),
}
_LATENT_PASSIVE = {"q_a_proj", "q_a_layernorm", "kv_a_layernorm", "kv_b_proj"}
_PASSIVE_TENSORS = {
    *(
        "sinks",
        "A",
        "gate_bias",
        "lambda_q1",
        "lambda_k1",
        "lambda_q2",
        "lambda_k2",
        "embed_positions",
        "bias",
    ),
    *("masked_bias", "norm_factor"),
}
_MOVED_TENSORS = {("timesfm2_5", "scaling")}
_GATED = {
    "qwen3_next",
    "qwen3_5_text",
    "qwen3_5_moe_text",
}  # each query head is followed by a gate for its output
_ARRANGEMENTS = {
    ("gpt_neox", "query_key_value"): "heads",
    ("gpt_neox_japanese", "query_key_value"): "heads",
    ("persimmon", "query_key_value"): "heads",
    ("codegen", "qkv_proj"): "codegen",
    ("phi3", "qkv_proj"): "blocks",
    ("phi4_multimodal", "qkv_proj"): "blocks",
    ("dbrx", "Wqkv"): "blocks",
    ("modernbert", "Wqkv"): "blocks",
}
_IMAGES = {
    ("qkv", f"{kind}_vision")
    for kind in (
        *(
            "cohere_compass",
            "ernie4_5_vl_moe",
            "exaone4_5",
            "glm4v",
            "glm4v_moe",
            "glm5_next",
            "glm_ocr",
            "qwen2_5_vl",
        ),
        *("qwen2_vl", "qwen3_5", "qwen3_5_moe", "qwen3_vl", "qwen3_vl_moe", "qwen4_exp"),
    )
} | {("qkv", "qwen3_omni_moe_vision_encoder"), ("qkv", "dots3_note_vision_encoder")}
_REFUSED = {
    "clvp_decoder": "its values turn too",
    "clvp_encoder": "its values turn too",
    "efficientloftr": "it turns all heads as one",
    "minimax_m3_vl_vision": "it divides a head into three axes and a rest",
    "seamless_m4t": "it turns hidden states before they are projected",
    "wav2vec2-bert": "it turns hidden states before they are projected",
    "wav2vec2-conformer": "it turns hidden states before they are projected",
}
