"""The scores of a trained model against distance, compared with the bound of the RoFormer paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rope_lab.encodings import RotaryEmbedding, frequencies, rotate
from rope_lab.experiments.lab import Experiment, Lab
from rope_lab.experiments.rates import configured
from rope_lab.experiments.seeds import shown
from rope_lab.experiments.store import Results
from rope_lab.model import RoFormer
from rope_lab.training import seeded

_SEGMENTS = 16
KINDS = {"untrained": "RoPE", "trained": "RoPE", "trained, no QK-norm": "no QK-norm"}


class Listening(RotaryEmbedding):
    """RoPE that keeps the queries and keys it was given, before rotation, one pair per layer."""

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor, length: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        self.heard = [*getattr(self, "heard", []), (q, k)]
        return super().rotate(q, k, v, positions, length)


def bound(q: Tensor, k: Tensor, turned: Tensor) -> Tensor:
    """The bound of section 3.4.3: max_i |h_{i+1} − h_i| · Σ_i |S_{i+1}|, with h_i = q_i·k_i* and h_{D/2} = 0.

    Args:
        q, k: coordinates in pairs, (..., D).
        turned: (m − n)·θ_i, (D/2,).

    Returns:
        (...,): an upper bound of |q·R k|.

    Source: Su et al. 2021 (arXiv:2104.09864), section 3.4.3.
    """
    pairs = [torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous()) for x in (q, k)]
    h = pairs[0] * pairs[1].conj()
    h = torch.cat((h, torch.zeros_like(h[..., :1])), dim=-1)
    sums = torch.polar(torch.ones_like(turned), turned).cumsum(-1).abs().sum()
    return (h[..., 1:] - h[..., :-1]).abs().amax(-1) * sums


@torch.inference_mode()
def measure(lab: Lab, variant: str, seed: int) -> dict[str, Any]:
    """Mean score, its standard deviation and the mean bound of every head at each distance, divided by √D."""
    config = configured(lab, KINDS[variant], seed, long_run=True)
    with seeded(seed):
        source = RoFormer(config.architecture(len(lab.corpus.vocab)))
    if variant != "untrained":
        with torch.inference_mode(False):
            source = lab.trained(config)[0].model
    shape = source.config
    dim = shape.dim // shape.heads
    listening = Listening(dim, base=shape.base, layout=shape.layout)
    model = RoFormer(shape, listening)
    model.load_parameters({name: p.detach() for name, p in source.named_parameters()})
    model.eval()
    model(lab.held_out[: _SEGMENTS * shape.context].view(_SEGMENTS, -1))
    distances = [d for d in (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96) if d < shape.context - 16]
    theta = frequencies(dim)
    numbers: dict[str, Any] = {
        "distances": distances,
        "mean": [],
        "deviation": [],
        "bound": [],
        "largest": [],
    }
    for q, k in listening.heard:
        rows: dict[str, list[Tensor]] = {"mean": [], "deviation": [], "bound": [], "largest": []}
        for d in distances:
            later, earlier = q[..., d:, :], k[..., : q.shape[-2] - d, :]
            turn = (torch.tensor([float(d)], dtype=torch.float64) * theta).expand(later.shape[-2], -1)
            scores = (rotate(later.double(), turn) * earlier.double()).sum(-1) / dim**0.5  # (B, H, N − d)
            most = bound(later, earlier, turn[0]) / dim**0.5
            if (scores.abs() > most * (1 + 1e-9)).any():
                raise AssertionError(f"no score may exceed the bound, got one that does at distance {d}")
            scores, most = (x.transpose(0, 1).flatten(1) for x in (scores, most))  # (H, ·)
            rows["mean"].append(scores.mean(1))
            rows["deviation"].append(scores.std(1))
            rows["bound"].append(most.mean(1))
            rows["largest"].append(scores.abs().amax(1))
        for key, columns in rows.items():
            numbers[key].append(torch.stack(columns, dim=1).tolist())  # (H, distances)
    return numbers


def table(results: Results) -> str:
    """Over all heads: mean score and bound at each distance."""
    distances = results.records[0]["distances"]
    lines = [f"{'distance':32s}" + "".join(f"{d:>16d}" for d in distances[::3])]
    for name in results.variants():
        for key in ("mean", "deviation", "bound"):
            columns = []
            for place in range(0, len(distances), 3):
                heads = [
                    [head[place] for layer in r[key] for head in layer]
                    for r in results.records
                    if r["variant"] == name
                ]
                columns.append(shown([sum(values) / len(values) for values in heads], 2))
            lines.append(f"{name + ', ' + key:32s}" + "".join(f"{column:>16s}" for column in columns))
    return "\n".join(lines)


EXPERIMENTS = {
    "decay": Experiment(
        "Do the scores of trained heads fall with the distance, as their bound does?",
        lambda scale: list(KINDS), measure, table,
    ),
}  # fmt: skip
