"""Muon for the matrices of the blocks, AdamW for the rest, and the learning rate as a function of progress.

Sources: Jordan et al. 2024, the repository KellerJordan/Muon; Loshchilov and Hutter 2017 (arXiv:1711.05101).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rope_lab.training.presets import TrainConfig


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Bring all singular values of each matrix near 1 by Newton–Schulz iterations, keeping the singular vectors.

    Args:
        matrices: shape (..., R, C).
        iterations: after five, singular values of at least 1% of the matrix norm are between 0.6 and 1.3.

    Returns:
        The same shape and dtype.
    """
    if matrices.shape[-2] > matrices.shape[-1]:  # the products below are R×R: make R the short side
        return orthogonalise(matrices.mT, iterations).mT
    x = matrices.reshape(-1, *matrices.shape[-2:])
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):  # each singular value σ ↦ 3.4445σ − 4.7750σ³ + 2.0315σ⁵
        square = torch.bmm(x, x.mT)
        even = torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, even, x, beta=3.4445)
    return x.view(matrices.shape)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, so that every direction of a matrix learns at the same rate.

    Args:
        params: matrices.
        lr: singular values of an update are near lr·√max(1, rows/columns).
        momentum: fraction of the old direction in the new one.
        weight_decay: each update first shrinks the matrix by the fraction lr·weight_decay.
        iterations: of `orthogonalise`.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        iterations: int = 5,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "iterations": iterations}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update. A `closure` is not used."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                momentum = self.state[p]["momentum"]
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"])  # Nesterov's look ahead
                alike.setdefault(p.shape, []).append((p, update))
            for members in alike.values():  # one batched product for all matrices of a shape
                updates = orthogonalise(torch.stack([update for _, update in members]), group["iterations"])
                for (p, _), update in zip(members, updates, strict=True):
                    if group["weight_decay"]:
                        p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, norms, biases and the output layer.

    With `config.optimizer` "adamw", AdamW updates all of them, and only tensors of two axes decay.
    """
    betas = (0.9, config.beta2)
    if config.optimizer == "adamw":
        tables = [p for p in model.parameters() if p.ndim >= 2]
        vectors = [p for p in model.parameters() if p.ndim < 2]
        groups: list[dict[str, Any]] = [{"params": tables}, {"params": vectors, "weight_decay": 0.0}]
        return [torch.optim.AdamW(groups, config.lr, betas=betas, weight_decay=config.weight_decay)]
    matrices = {p for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}
    rest = [p for p in model.parameters() if p not in matrices]
    ordered = [p for p in model.parameters() if p in matrices]
    decay = config.weight_decay
    return [
        Muon(ordered, config.matrix_lr, weight_decay=decay, iterations=config.iterations),
        torch.optim.AdamW(rest, config.lr, betas=betas, weight_decay=decay),
    ]


def schedule(progress: float, config: TrainConfig) -> float:
    """Fraction of the peak learning rate at `progress` in (0, 1): linear warm-up, then decay as `config` says."""
    warmup, floor = config.warmup, config.floor
    rise = progress / warmup if warmup else 1.0
    if config.schedule == "rsqrt":
        return min(rise, math.sqrt(warmup / progress)) if warmup else 1.0
    if config.schedule == "cosine":
        way = min(1.0, max(0.0, progress - warmup) / (1 - warmup)) if warmup < 1 else 0.0
        return min(rise, floor + (1 - floor) * (1 + math.cos(math.pi * way)) / 2)
    fall = floor + (1 - floor) * ((1 - progress) / config.cooldown if config.cooldown else 1.0)
    return min(1.0, rise, fall)


def set_learning_rates(optimizers: Sequence[torch.optim.Optimizer], config: TrainConfig, step: int) -> None:
    """Give the optimisers the learning rate of update number `step`, counted from 0."""
    share = schedule((step + 0.5) / config.steps, config)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * optimizer.defaults["lr"]
