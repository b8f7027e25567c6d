"""RMS normalisation and the squared ReLU with gradients written out, because a training step spends its time there.

Autograd makes a pass over memory for every operation it has seen, and keeps what each of them read. Written out, the
gradient of either takes about half the passes and keeps its input alone. A compiler, a GPU, a narrow number type and
`torch.func` get torch's own operations.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rope_lab.encodings import transformed


def rms_norm(x: Tensor, eps: float | None = None, gain: Tensor | None = None) -> Tensor:
    """x / √(mean of x² over the last axis + eps), times the gain.

    Args:
        x: shape (..., C).
        eps: added under the root, by default the distance from 1 to the next number of the dtype of `x`.
        gain: shape (C,), or (H, 1) for the heads of an x (B, N, H, C).

    Returns:
        The shape and dtype of `x`.

    Source: Zhang and Sennrich 2019 (arXiv:1910.07467).
    """
    if _written_out(x):
        eps = torch.finfo(x.dtype).eps if eps is None else eps
        normed: Tensor = _RMSNorm.apply(x, eps, gain)
        return normed
    normed = F.rms_norm(x, x.shape[-1:], gain if gain is None or gain.ndim == 1 else None, eps)
    return normed if gain is None or gain.ndim == 1 else normed * gain


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)² (So et al. 2021, arXiv:2109.08668)."""
    if _written_out(x):
        squared: Tensor = _SquaredReLU.apply(x)
        return squared
    return F.relu(x).square()


class RMSNorm(nn.RMSNorm):
    """torch's module with the gradient of `rms_norm`."""

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.eps, self.weight)


def _written_out(x: Tensor) -> bool:
    wide = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return wide and x.requires_grad and torch.is_grad_enabled() and not transformed()


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    return (x * x).mean(-1, keepdim=True).add_(eps).rsqrt_()


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, gain: Tensor | None) -> Tensor:
        inverse = _inverse_rms(x, eps)
        ctx.save_for_backward(x, gain, inverse)
        ctx.eps = eps
        if gain is None:
            return x * inverse
        return (x * inverse).mul_(gain) if gain.ndim == 1 else x * (inverse * gain)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor | None]:
        x, gain, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative: `inverse` depends on x
            inverse = (x.square().mean(-1, keepdim=True) + ctx.eps).rsqrt()
        along, scaled, of_gain = x * grad, inverse, None  # in the order of x in memory
        if gain is not None and gain.ndim == 1:
            of_gain = (along * inverse).flatten(0, -2).sum(0)
            along, grad = along * gain, grad * gain
        slope = along.sum(-1, keepdim=True)
        if gain is not None and gain.ndim > 1:
            of_gain = (slope * inverse).sum_to_size(gain.shape)
            slope, scaled = slope * gain, inverse * gain
        shrunk = slope * inverse**3 / -x.shape[-1]
        return (x * shrunk).addcmul_(grad, scaled), None, of_gain


class _SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.relu(x).square_()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x.clamp(min=0).mul_(grad).mul_(2)
