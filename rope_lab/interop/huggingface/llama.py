"""Llamas between this package and transformers: written as a checkpoint it loads, read from one or from a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rope_lab import encodings
from rope_lab.config import RoFormerConfig
from rope_lab.encodings import Layout, RotaryEmbedding
from rope_lab.interop.huggingface.configs import rotary_embedding
from rope_lab.interop.huggingface.fields import describe, field, whole_number
from rope_lab.model import RoFormer, write_tensors
from rope_lab.training import checkpoint


def export_llama(model: RoFormer, folder: str | Path, *, vocab: Sequence[str] | None = None) -> list[Path]:
    """Write a model as a checkpoint that `transformers.LlamaForCausalLM.from_pretrained(folder)` loads.

    The weights keep their dtype. Weights of the interleaved layout are reordered to Llama's half layout. The logits of
    the loaded model equal those of `model` up to rounding, most of which comes from angles that transformers forms in
    float32. No tokenizer is written: `characters.json` lists the characters, beginning with that of token 0.

    Args:
        model: with the fields of `RoFormerConfig.llama`; sizes, base, layout, kv_heads, norm_eps and tied are free.
        folder: a new or empty one.
        vocab: the character of each token.

    Returns:
        The files.

    Raises:
        TypeError: if `model` is not a RoFormer.
        ValueError: naming the field in which the model is not a Llama, or if the folder is not empty or `vocab` does
            not fit.
        ModuleNotFoundError: if safetensors is not installed.
        OSError: if a file cannot be written; then no file is left, nor a folder that was not there before.
    """
    checkpoint.require()
    if not isinstance(model, RoFormer):
        raise TypeError(f"model must be a RoFormer, got {type(model).__name__}")
    c, position, folder = model.config, _llama_rotation(model), Path(folder)
    if vocab is not None and len(vocab) != c.vocab_size:
        raise ValueError(f"vocab must hold {c.vocab_size} characters, got {len(vocab)}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"folder must be new or empty, got {str(folder)!r}")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": str(model.embedding.weight.dtype).removeprefix("torch."),
        "vocab_size": c.vocab_size,
        "hidden_size": c.dim,
        "intermediate_size": c.ff_width,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads or c.heads,
        "head_dim": position.dim,
        "hidden_act": "silu",
        "max_position_embeddings": c.context,
        "rms_norm_eps": model.norm.eps,
        "rope_theta": position.base,  # where transformers 4 looks
        "rope_parameters": {"rope_type": "default", "rope_theta": position.base},
        "tie_word_embeddings": c.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,  # by default 1 and 2, which are characters here
        "eos_token_id": None,
    }
    texts = {"config.json": config} | ({} if vocab is None else {"characters.json": list(vocab)})
    files = [folder / "model.safetensors", *(folder / name for name in texts)]
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(_llama_tensors(model, position.layout), files[0], {"format": "pt"})
        for name, content in texts.items():
            text = json.dumps(content, indent=1, ensure_ascii=False)
            (folder / name).write_text(text + "\n", encoding="utf-8")
    except BaseException:
        with suppress(OSError):  # what failed is of more interest than what could not be removed
            for file in files:
                file.unlink(missing_ok=True)
            for place in made:
                place.rmdir()
        raise
    return files


def import_llama(source: str | Path | nn.Module) -> RoFormer:
    """A RoFormer with the weights of a Llama: the way back from `export_llama`, and into this package for others.

    A scaling that the config names (linear, dynamic, yarn, longrope, llama3) comes along as the model's `position`.

    Args:
        source: a `LlamaForCausalLM`, or a folder with its `config.json` and files `*.safetensors`.

    Returns:
        A model on the CPU, in evaluation mode and the dtype of the weights; for weights that `convert_layout` made
        interleaved, of that layout.

    Raises:
        ValueError: if it is not a Llama, or naming the field or tensor that this package has no place for.
        FileNotFoundError: if the folder holds no config or no weights.
        ModuleNotFoundError: if safetensors is not installed and `source` is a folder.
    """
    config, tensors = (
        (source.config, source.state_dict()) if isinstance(source, nn.Module) else _read(Path(source))
    )
    if field(config, "model_type") != "llama":
        raise ValueError(f"source must be a Llama, got {describe(config)}")
    for name, wanted in (("hidden_act", "silu"), ("attention_bias", False), ("mlp_bias", False)):
        if (got := field(config, name)) not in (None, wanted):
            raise ValueError(f"{name} must be {wanted!r} in a Llama that becomes a RoFormer, got {got!r}")
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    vocab_size, dim, depth, heads, width = (whole_number(config, name) for name in names)
    kv_heads = field(config, "num_key_value_heads") or heads
    position = rotary_embedding(config)
    if position.dim * heads != dim:
        raise ValueError(f"head_dim must be hidden_size / heads = {dim / heads:g}, got {position.dim}")
    shape = RoFormerConfig.llama(
        vocab_size,
        context=whole_number(config, "max_position_embeddings"),
        dim=dim,
        depth=depth,
        heads=heads,
        kv_heads=None if kv_heads == heads else kv_heads,
        layout=position.layout,
        base=float(position.base),
        norm_eps=field(config, "rms_norm_eps") or 1e-6,
        ff_mult=width / dim if int(width / dim * dim) == width else (width + 0.5) / dim,
        ff_multiple=1,
        tied=bool(field(config, "tie_word_embeddings")),
        attention_dropout=field(config, "attention_dropout") or 0.0,
    )
    model = RoFormer(shape, position if position.scaling is not None else None)
    ours = {theirs: name for name, theirs in _names(depth).items()}
    found = {}
    for name, tensor in tensors.items():
        if name.endswith("rotary_emb.inv_freq") or (shape.tied and name == "lm_head.weight"):
            continue
        plain = name.removesuffix(".weight")
        if plain == name or plain not in ours:
            raise ValueError(f"source must hold the tensors of a Llama, but has {name!r}")
        found[f"{ours[plain]}.weight"] = tensor
    if "embedding.weight" in found:
        model.to(found["embedding.weight"].dtype)
    model.load_parameters(found, "source")
    return model.eval()


def _read(folder: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Config and tensors of a folder."""
    load_file = checkpoint.require().torch.load_file
    place, files = folder / "config.json", sorted(folder.glob("*.safetensors"))
    if not place.is_file() or not files:
        raise FileNotFoundError(f"source must hold config.json and *.safetensors, got {str(folder)!r}")
    config = json.loads(place.read_text(encoding="utf-8"))
    return config, {name: tensor for file in files for name, tensor in load_file(file).items()}


def _llama_rotation(model: RoFormer) -> RotaryEmbedding:
    """The rotation of a model that is a Llama; for any other, an error."""
    config, position = model.config, model.position
    if type(position) is not RotaryEmbedding:
        raise ValueError(f"position must be 'rope' in a Llama, got a model with {type(position).__name__}")
    for name, wanted in _LLAMA.items():
        if (got := getattr(config, name)) != wanted:
            way = "RoFormerConfig.llama and `rope-lab train --architecture llama` make such a model"
            raise ValueError(f"{name} must be {wanted!r} in a Llama, got {got!r}; {way}")
    if position.dim != (head_dim := config.dim // config.heads):
        raise ValueError(f"rotary_dim must be {head_dim}, a whole head, in a Llama, got {position.dim}")
    for name in ("scaling", "custom_freqs", "learned_freqs", "heads"):  # of an encoding given to the model
        if getattr(position, name) is not None:
            raise ValueError(f"position must turn as RotaryEmbedding({head_dim}) does, got one with {name}")
    return position


def _names(depth: int) -> dict[str, str]:
    """Names of the parameters here and there, without their ending."""
    names = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
    for layer in range(depth):
        names |= {
            f"blocks.{layer}.{ours}": f"model.layers.{layer}.{its}" for ours, its in _LLAMA_NAMES.items()
        }
    return names


def _llama_tensors(model: RoFormer, layout: Layout) -> dict[str, Tensor]:
    names, tensors = _names(model.config.depth), {}
    for name, parameter in model.named_parameters():
        ours, weight = name.removesuffix(".weight"), parameter.detach()
        if ours.endswith(("query", "key")):
            heads = len(weight) * model.config.heads // model.config.dim
            weight = encodings.convert_projection(weight, heads, layout, "half")
        tensors[f"{names[ours]}.weight"] = weight.contiguous()
    return tensors


_LLAMA = {
    "proportion": 1.0,
    "nope_every": None,
    "window": None,
    "causal": True,
    "qk_norm": False,
    "norm": "rms",
    "post_norm": False,
}
_LLAMA |= {"activation": "swiglu", "bias": False}
_LLAMA_NAMES = {
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "attention_norm": "input_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "feed_forward_norm": "post_attention_layernorm",
}
