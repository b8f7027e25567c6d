"""What is compared: ways to rotate a tensor and to compute local attention, in this package and in other libraries.

FlexAttention and Liger run on GPUs only. A library that is not installed is left out and named.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rope_lab.bench.timing import Call
from rope_lab.encodings import RotaryEmbedding, angles, frequencies, rotate
from rope_lab.local import Window, local_attention

Ways = dict[str, tuple[Call, tuple[Tensor, ...]]]


def rotations(x: Tensor, *, compiled: bool) -> tuple[Ways, list[str]]:
    """Ways to rotate x (B, H, N, D) by its positions, with their arguments, and the libraries that are missing.

    Those that take queries and keys get half the heads each; labml_nn gets the tokens first. Liger, whose kernel is for
    GPUs, is among them if x is on one.
    """
    dim, length = x.shape[-1], x.shape[-2]
    table = angles(torch.arange(length, device=x.device), frequencies(dim, device=x.device))
    whole, halves = (x,), x.chunk(2, dim=1)
    ways: Ways = {"clone": (torch.clone, whole)}
    for layout in ("interleaved", "half"):
        ways[f"rope_lab {layout}"] = partial(rotate, angles=table, layout=layout), whole
        ways[f"rope_lab {layout}, table computed too"] = RotaryEmbedding(dim, layout=layout), halves
    if compiled:
        for name, (way, inputs) in list(ways.items())[1:]:
            ways[f"{name}, compiled"] = torch.compile(way, dynamic=False), inputs
    missing = []
    try:
        from rotary_embedding_torch import RotaryEmbedding as Theirs

        theirs = Theirs(dim).to(x.device)
        ways["rotary-embedding-torch"] = theirs.rotate_queries_or_keys, whole
    except ImportError:
        missing.append("rotary-embedding-torch")
    try:
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        emb = torch.cat((table, table), dim=-1)[None]
        cos, sin = emb.cos().to(x.dtype), emb.sin().to(x.dtype)
        ways["transformers (Llama)"] = partial(apply_rotary_pos_emb, cos=cos, sin=sin), halves
    except ImportError:
        missing.append("transformers")
    try:
        from labml_nn.transformers.rope import RotaryPositionalEmbeddings

        ways["labml_nn"] = RotaryPositionalEmbeddings(dim).to(x.device), (x.permute(2, 0, 1, 3).contiguous(),)
    except ImportError:
        missing.append("labml_nn")
    if x.is_cuda:
        try:
            ways["Liger"] = liger(halves, table)
        except ImportError:
            missing.append("liger-kernel")
    return ways, missing


def liger(halves: tuple[Tensor, ...], table: Tensor) -> tuple[Call, tuple[Tensor, ...]]:
    """The rotation of Liger (arXiv:2410.10989), half layout, with copies of the queries and keys (B, H, N, D).

    Its kernel writes into its inputs if all heads of a token are adjacent in memory, as a projection leaves them, and
    copies them first otherwise. The copies here are as a projection leaves them, the case that it is written for.

    Args:
        halves: queries and keys.
        table: the angles, (N, D/2).

    Raises:
        ImportError: if liger-kernel is not installed.
    """
    from liger_kernel.transformers.rope import liger_rotary_pos_emb

    emb = torch.cat((table, table), dim=-1)[None]
    cos, sin = emb.cos().to(halves[0].dtype), emb.sin().to(halves[0].dtype)
    inputs = tuple(half.transpose(1, 2).clone(memory_format=torch.contiguous_format) for half in halves)
    return partial(liger_rotary_pos_emb, cos=cos, sin=sin), tuple(x.transpose(1, 2) for x in inputs)


def local_ways(window: int, *, exact: bool, device: str) -> tuple[dict[str, Call], list[str]]:
    """Ways to compute causal local attention of q, k and v (B, H, N, D), and the libraries that are missing.

    All but full attention see the same keys: with `exact` the window and one key more, as local-attention counts,
    otherwise whole blocks. FlexAttention is among them on a GPU, where it is compiled.
    """
    ways: dict[str, Call] = {
        "rope_lab": partial(local_attention, window=window, exact=exact, inclusive=exact)
    }
    missing = []
    try:
        from local_attention import LocalAttention

        theirs = LocalAttention(window, causal=True, use_rotary_pos_emb=False, exact_windowsize=exact)
        ways["local-attention"] = theirs.to(device)
    except ImportError:
        missing.append("local-attention")
    if device == "cuda":
        ways |= flex_ways(window, exact=exact)
    ways["full causal attention"] = partial(F.scaled_dot_product_attention, is_causal=True)
    return ways, missing


def flex_ways(window: int, *, exact: bool) -> dict[str, Call]:
    """FlexAttention (arXiv:2412.05496): as a backend of this package, with a mask per call, and with one kept."""
    from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

    rule = Window(window, exact=exact, inclusive=exact)
    kernel: Any = torch.compile(flex_attention) if torch.cuda.is_available() else flex_attention
    kept: dict[int, BlockMask] = {}

    def by_itself(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n = q.shape[-2]
        if n not in kept:
            kept[n] = create_block_mask(
                lambda b, h, m, at: rule.sees(m, at), None, None, n, n, device=q.device
            )
        return kernel(q, k, v, block_mask=kept[n])

    ours = partial(local_attention, window=window, exact=exact, inclusive=exact, backend="flex")
    return {"rope_lab, FlexAttention": ours, "FlexAttention, mask kept": by_itself}


def local_inputs(length: int, *, device: str) -> list[Tensor]:
    """q, k and v of shape (1, 8, length, 64), which require gradients."""
    return [torch.randn(1, 8, length, 64, device=device, requires_grad=True) for _ in range(3)]


def forward_and_backward(way: Call, inputs: list[Tensor]) -> None:
    torch.autograd.grad(way(*inputs).sum(), inputs)
