"""How `rotate` multiplies: in few passes over memory, because that is where its time goes.

In eager mode the interleaved layout takes one pass, a complex multiplication, and the half layout three. A tensor
narrower than float32 goes through float32 in blocks that stay in the cache. A compiler gets real arithmetic.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rope_lab.encodings.base import once

BLOCK = 2**18  # elements turned at a time in a wider dtype: 1 MB of float32


def turn(x: Tensor, angles: Tensor, factor: float, *, interleaved: bool) -> Tensor:
    """factor · e^{i·angle} · x for the pairs of one layout.

    Args:
        x: real tensor, shape (..., N, R).
        angles: radians in the dtype of the product, shape (N, R/2) or as many axes as `x`, to broadcast with it.
        factor: multiplies cosine and sine.
        interleaved: pairs are adjacent coordinates; otherwise they are half of R apart.

    Returns:
        The rotated tensor, shape and dtype of `x`.
    """
    cos, sin = once(_table, angles, factor)
    if torch.compiler.is_compiling():
        return _turn_real(x, cos, sin, interleaved)
    if not cos.requires_grad:
        if _plain(x):  # a decoding step spends more time in autograd's bookkeeping than in the product
            return _turn_in_blocks(x, cos, sin, interleaved)
        turned: Tensor = _Turn.apply(x, cos, sin, interleaved)
        return turned
    if interleaved:  # autograd knows complex numbers
        return turn_interleaved(x.to(cos.dtype), cos, sin).to(x.dtype)
    return _turn_real(x, cos, sin, interleaved)


def _table(angles: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    return angles.cos() * factor, angles.sin() * factor


def _plain(x: Tensor) -> bool:
    """Whether nobody differentiates the product or maps over it, by autograd, dual numbers or torch.func."""
    return not ((x.requires_grad and torch.is_grad_enabled()) or transformed())


def transformed() -> bool:
    """Whether something follows the operations that are carried out: a compiler, dual numbers or torch.func."""
    return (
        torch.compiler.is_compiling()
        or forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
    )


def turn_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(cos + i·sin)·x for adjacent coordinates read as one complex number, shapes (..., N, R) and (..., N, R/2)."""
    pairs = x.unflatten(-1, (-1, 2))
    if pairs.stride(-1) != 1 or pairs.storage_offset() % 2 or any(s % 2 for s in pairs.stride()[:-1]):
        pairs = pairs.clone(memory_format=torch.contiguous_format)  # contiguous() would keep an odd offset
    return torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin)).flatten(-2)


def turn_half(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(cos + i·sin)·x for pairs half a head apart, written in place, so not for autograd."""
    half = cos.shape[-1]
    out = x * torch.cat((cos, cos), dim=-1)
    out[..., :half].addcmul_(x[..., half:], sin, value=-1)
    out[..., half:].addcmul_(x[..., :half], sin)
    return out


def _turn_real(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Real arithmetic, which Inductor fuses into one loop over `x`.

    It writes what it concatenates to memory and computes the rest where it is read. So cos and sin are concatenated,
    or every head would compute them again, and a and b are rounded before they are, or a float32 copy of `x` would
    be written.
    """
    cos, sin = torch.cat((cos, sin), dim=-1).chunk(2, dim=-1)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1) if interleaved else x.chunk(2, dim=-1)
    a, b = a.to(cos.dtype), b.to(cos.dtype)
    turned = (a * cos - b * sin).to(x.dtype), (b * cos + a * sin).to(x.dtype)
    with _without_autocast(x.device.type):
        return torch.stack(turned, dim=-1).flatten(-2) if interleaved else torch.cat(turned, dim=-1)


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Autocast would refuse to join tensors of a half type that is not its own."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def _turn_in_blocks(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """The rotation in eager mode, not for autograd; a narrow `x` is widened a block of tokens at a time."""
    form = turn_interleaved if interleaved else turn_half
    if x.dtype == cos.dtype:
        return form(x, cos, sin)
    out, length = torch.empty_like(x), x.shape[-2]
    step = max(1, BLOCK * length // max(1, x.numel()))  # tokens
    for first in range(0, length, step):
        rows = (..., slice(first, first + step), slice(None))
        out[rows] = form(x[rows].to(cos.dtype), cos[rows], sin[rows])
    return out


class _Turn(torch.autograd.Function):
    """The rotation in eager mode; its gradient is the opposite rotation, so nothing is kept but the table."""

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
        return _turn_in_blocks(x, cos, sin, interleaved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool], output: Tensor) -> None:
        *tensors, ctx.interleaved = inputs
        ctx.save_for_backward(*tensors[1:])
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        return _Turn.apply(grad, cos, -sin, ctx.interleaved), None, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, dcos: Tensor, dsin: Tensor, _: None) -> Tensor:
        x, cos, sin = ctx.saved_tensors
        along_x: Tensor = _Turn.apply(dx, cos, sin, ctx.interleaved)
        return along_x + _Turn.apply(x, dcos, dsin, ctx.interleaved)  # linear in both

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool
    ) -> tuple[Tensor, int]:
        """One more leading axis, of which the table knows."""
        x, cos, sin = (
            t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip((x, cos, sin), in_dims[:3], strict=True)
        )
        between = (1,) * (x.ndim - cos.ndim)
        cos, sin = (t.reshape(t.shape[0], *between, *t.shape[1:]) for t in (cos, sin))
        return _Turn.apply(x, cos, sin, interleaved), 0
