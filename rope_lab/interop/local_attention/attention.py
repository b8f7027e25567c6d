"""`LocalAttention` with its neighbour's arguments, over `rope_lab.local.local_attention`."""

from __future__ import annotations

from operator import index

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rope_lab.checks import check_integers
from rope_lab.encodings import RotaryEmbedding, XPos
from rope_lab.local import Window
from rope_lab.local import attention as local


class LocalAttention(nn.Module):
    """Windowed attention of tensors (B, H, N, D) or (B·H, N, D); rotary positions are on only if `dim` is given.

    Args:
        window_size: W.
        causal: a query sees no later key.
        look_backward, look_forward: windows seen on each side; `look_forward` is by default 0 if causal, else 1.
        dropout: of the attention weights.
        shared_qk: keys are normalised, and a query sees itself only where it sees nothing else.
        rel_pos_emb_config: deprecated there; its first entry is `dim`.
        dim: head dimension D.
        autopad: take any length; without it, only multiples of W.
        exact_windowsize: windows move on with each query, W·look_backward keys back and itself; else whole blocks.
        scale: of the scores, by default 1/√D.
        use_rotary_pos_emb: rotate queries and keys (half layout).
        use_xpos, xpos_scale_base: xPos, causal only; its base is by default W // 2.
        reproduce: rotate queries too far without `causal`, and let padding be seen, as the real package does.

    Raises:
        ValueError: naming the argument that does not fit.
    """

    def __init__(
        self,
        window_size: int,
        causal: bool = False,
        look_backward: int = 1,
        look_forward: int | None = None,
        dropout: float = 0.0,
        shared_qk: bool = False,
        rel_pos_emb_config: tuple[int, int] | None = None,
        dim: int | None = None,
        autopad: bool = False,
        exact_windowsize: bool = False,
        scale: float | None = None,
        use_rotary_pos_emb: bool = True,
        use_xpos: bool = False,
        xpos_scale_base: int | None = None,
        *,
        reproduce: bool = False,
    ) -> None:
        super().__init__()
        look_forward = int(not causal) if look_forward is None else look_forward
        check_integers(window_size=window_size)
        check_integers(0, look_backward=look_backward, look_forward=look_forward)
        window_size, look_backward, look_forward = map(index, (window_size, look_backward, look_forward))
        Window(window_size, causal, look_backward, look_forward)
        local.check_numbers(dropout, scale)
        if use_xpos and not causal:
            raise ValueError("use_xpos needs causal=True: its factor grows without bound for keys ahead")
        self.window_size, self.causal, self.autopad = window_size, causal, autopad
        self.look_backward, self.look_forward = look_backward, look_forward
        self.shared_qk, self.exact_windowsize, self.scale = shared_qk, exact_windowsize, scale
        self.dropout, self.use_xpos, self.reproduce = dropout, use_xpos, reproduce
        dim = rel_pos_emb_config[0] if rel_pos_emb_config else dim
        self.position: RotaryEmbedding | None = None
        if use_rotary_pos_emb and dim is not None:
            dim, base = index(dim), window_size // 2 if xpos_scale_base is None else xpos_scale_base
            if use_xpos:
                check_integers(xpos_scale_base=base)
                base = index(base)
            self.position = (
                XPos(dim, scale_base=base, layout="half") if use_xpos else RotaryEmbedding(dim, layout="half")
            )
            self.rel_pos = (
                nn.Module()
            )  # a name in their checkpoints; the angles are formed exactly without it
            self.rel_pos.register_buffer("inv_freq", self.position.frequencies("cpu").float())

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        input_mask: Tensor | None = None,
        attn_bias: Tensor | None = None,
        window_size: int | None = None,
    ) -> Tensor:
        """Attend within windows.

        Args:
            q, k, v: (B, H, N, D) or (B·H, N, D).
            mask, input_mask: True for keys that may be seen, (B, N).
            attn_bias: (H, W, (look_backward + 1 + look_forward)·W), added to the scores of every window.
            window_size: another window for this call; only with `use_xpos`.

        Returns:
            The shape of `q`.

        Raises:
            ValueError: naming the argument whose shape or value does not fit.
        """
        window = self.window_size if window_size is None else window_size
        if window_size is not None and not self.use_xpos:
            raise ValueError("window_size can only be changed with use_xpos=True")
        check_integers(window_size=window)
        window = index(window)
        sizes = [(t.shape[:-2].numel(), *t.shape[-2:]) for t in (q, k, v)]  # (B·H, N, D)
        if sizes[0] != sizes[1] or sizes[1][:2] != sizes[2][:2]:
            shapes = f"{tuple(k.shape)} and {tuple(v.shape)}"
            raise ValueError(f"k and v must have the shape of q, {tuple(q.shape)}, got {shapes}")
        length = q.shape[-2]
        if not self.autopad and length % window:
            raise ValueError(
                f"q must have a multiple of window_size={window} tokens without autopad, got {length}"
            )
        mask = input_mask if mask is None else mask
        shape, rows = q.shape, sizes[0][0]
        heads = q.shape[-3] if q.ndim >= 4 else 1  # of flattened (B·H, N, D), bias or mask tell the heads
        if q.ndim == 3 and attn_bias is not None:
            heads = _divisor("attn_bias", len(attn_bias), rows)
        elif q.ndim == 3 and mask is not None and mask.ndim == 2:
            heads = rows // _divisor("mask", len(mask), rows)
        q, k, v = (t.reshape(rows // heads, heads, *t.shape[-2:]) for t in (q, k, v))
        if self.reproduce and self.autopad and -length % window:
            extra = -length % window
            q, k, v = (F.pad(t, (0, 0, 0, extra)) for t in (q, k, v))
            mask = None if mask is None else F.pad(mask, (0, extra), value=False)
        out = self.attend(q, k, v, window, mask, attn_bias)[..., :length, :]
        return out.reshape(*shape[:-1], v.shape[-1])

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, window: int, mask: Tensor | None, attn_bias: Tensor | None
    ) -> Tensor:
        """Attention of q (B, H, N_q, D), the last of the tokens of k and v, which start a sequence, unrotated."""
        if self.shared_qk:
            k = F.normalize(k, dim=-1)
        positions = torch.arange(k.shape[-2], device=k.device)
        if self.position is not None:
            ahead = window * self.look_forward if self.reproduce else 0
            start = k.shape[-2] - q.shape[-2]
            q = self.position.rotate(q, q, q, positions[start:] + ahead)[0]
            k = self.position.rotate(k, k, k, positions)[1]
        return local.local_attention(
            q, k, v,
            window=window, causal=self.causal, look_backward=self.look_backward, look_forward=self.look_forward,
            exact=self.exact_windowsize, inclusive=self.exact_windowsize, mask=mask, bias=attn_bias,
            exclude_self=self.shared_qk, dropout=self.dropout if self.training else 0.0, scale=self.scale,
            position=self.position if self.use_xpos else None,
        )  # fmt: skip


def _divisor(name: str, count: int, rows: int) -> int:
    """The `count` of a tensor's first axis; refused where it does not divide the rows of q."""
    if not count or rows % count:
        raise ValueError(f"{name} must have a first axis that divides the {rows} rows of q, got {count}")
    return count
